//! A plan as threads share it, with what they share under it. What stays the same from one plan to the next is handed on: an
//! upstream by its name, an endpoint by name and address, a listener by address.

use crate::config::plan::{self, Action, Listener, ListenerId, Plan, Route};
use crate::control::Control;
use crate::live::Live;
use crate::route::RouteId;
use crate::route::table::Table;
use crate::upstream::balance::Balancing;
use crate::upstream::sticky::Cookies;
use crate::upstream::{Borrow, Bounds, Identity, OpenTotal, Settings, SharedLedger, Term};
#[expect(
    clippy::disallowed_types,
    reason = "a plan is shared when workers start and when a plan follows another; no request counts references"
)]
use hp_core::base::sync::{Arc, Mutex};
use hp_core::base::sync::{AtomicU32, Ordering};
use hp_core::rt::{Engine, Instant};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::PoisonError;
use std::time::Duration;

/// The plan as threads share it, with what they share under it.
#[derive(Clone, Debug)]
#[expect(
    clippy::disallowed_types,
    reason = "a plan is shared when workers start and when a plan follows another"
)]
pub struct SharedPlan(Arc<Shared>);

#[derive(Debug)]
#[expect(
    clippy::disallowed_types,
    reason = "what did not change is shared by a plan and the next one"
)]
struct Shared {
    plan: Plan,
    /// Its place among the plans of this process, from 0.
    number: u32,
    /// By place in the plan.
    upstreams: Box<[Arc<SharedUpstream>]>,
    /// Connections of all upstreams, where threads share them.
    open_total: OpenTotal,
    /// Places in the plan.
    by_name: BTreeMap<String, u32>,
    /// In the order of their numbers: those of the plan, and the last of those that it has no more.
    listeners: Box<[KnownListener]>,
    /// Where the plan's listeners are among the known ones.
    places: Box<[ListenerId]>,
    next_listener: u32,
    next_upstream: u32,
    /// The way to the main thread, where there is one.
    control: Option<Control>,
    /// Whether any upstream has cookies.
    is_sticky: bool,
    /// By place in the plan.
    passages: Box<[Passage]>,
    /// Copies of the table that single threads use: they end with the plan, which the main thread lets go of last.
    own_tables: Mutex<Vec<Table>>,
}

/// What nearly every request needs of its route, apart from what few do: of many routes, none is near when its request comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passage {
    /// From the request sent to the head of its answer.
    pub(crate) response_timeout: Duration,
    /// By place in the plan; `None` where more has to be looked at.
    pub(crate) upstream: Option<u32>,
}

impl Passage {
    /// That of a route under which requests and answers pass as they are to one upstream, which takes them in turn.
    fn of(route: &Route, plan: &Plan) -> Self {
        let is_plain = route.is_plain() && route.response.is_empty() && route.mirror.is_none();
        let upstream = match &route.action {
            Action::Forward(split) if is_plain => split.only(),
            _ => None,
        };
        let looks_at_requests = |upstream: &u32| {
            let upstream = plan.upstreams.get(*upstream as usize);
            upstream.is_none_or(plan::Upstream::looks_at_requests)
        };
        Self {
            response_timeout: route.response_timeout,
            upstream: upstream.filter(|upstream| !looks_at_requests(upstream)),
        }
    }
}

/// What threads share of one upstream. The same object in two plans: nothing of the upstream has changed.
#[derive(Debug)]
pub(crate) struct SharedUpstream {
    /// As the plan has it.
    plan: plan::Upstream,
    /// The same as long as plans have an upstream of this name; never given again.
    pub(crate) number: u32,
    /// The plan that last changed it.
    pub(crate) version: u32,
    /// How requests are spread.
    pub(crate) balancing: Balancing,
    /// Who its endpoints are, in the plan's order.
    pub(crate) endpoints: Box<[Identity]>,
    /// What may be done with it.
    pub(crate) settings: Settings,
    /// What keeps clients with its endpoints; `None` where nothing does.
    cookies: Option<Cookies>,
    /// The connections, where threads share them.
    pub(crate) ledger: Option<SharedLedger>,
}

/// A listener that connections may have come by.
#[derive(Clone, Debug)]
pub(crate) struct KnownListener {
    id: ListenerId,
    /// As the last plan that had it says.
    pub(crate) listener: Listener,
    /// The plan has it; otherwise its connections end with their next answer.
    pub(crate) is_open: bool,
}

impl SharedPlan {
    /// Makes what the workers share of the first plan.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self::with(plan, None, None)
    }

    /// The same, with a way to the main thread, which plans that follow have as well.
    #[must_use]
    pub fn controlled_by(&self, control: Control) -> Self {
        Self::with(self.0.plan.clone(), None, Some(control))
    }

    /// Makes what the workers share of a plan that follows this one. Nothing changes yet but that it is made.
    #[must_use]
    pub fn followed_by(&self, plan: Plan) -> Self {
        Self::with(plan, Some(&self.0), self.0.control.clone())
    }

    #[expect(
        clippy::disallowed_types,
        reason = "what did not change is shared by a plan and the next one"
    )]
    fn with(plan: Plan, before: Option<&Shared>, control: Option<Control>) -> Self {
        let total = before.map_or_else(OpenTotal::default, |before| before.open_total.clone());
        let number = before.map_or(0, |before| before.number.wrapping_add(1));
        let mut next_upstream = before.map_or(0, |before| before.next_upstream);
        let upstreams = plan.upstreams.iter().map(|upstream| {
            let known = before.and_then(|before| before.upstream(&upstream.name));
            let settings = settings_of(upstream, &plan);
            match known {
                Some(known) if known.plan == *upstream && known.settings == settings => {
                    Arc::clone(known)
                }
                known => {
                    let new = SharedUpstream::new(
                        (upstream, number),
                        &plan,
                        settings,
                        (known, &total),
                        &mut next_upstream,
                    );
                    Arc::new(new)
                }
            }
        });
        let upstreams: Box<[Arc<SharedUpstream>]> = upstreams.collect();
        let is_sticky = upstreams.iter().any(|upstream| upstream.cookies.is_some());
        let names = plan.upstreams.iter().map(|upstream| upstream.name.clone());
        let by_name = names.zip(0..).collect();
        let (listeners, places, next_listener) = known_listeners(&plan, before);
        let routes = plan.routes.iter();
        let passages = routes.map(|route| Passage::of(route, &plan)).collect();
        Self(Arc::new(Shared {
            number,
            plan,
            upstreams,
            open_total: total,
            by_name,
            listeners,
            places,
            next_listener,
            next_upstream,
            control,
            is_sticky,
            passages,
            own_tables: Mutex::default(),
        }))
    }

    /// A copy of the table for one thread, as it should have where the table has patterns.
    pub(crate) fn own_table(&self) -> Table {
        let own = self.0.plan.table.copy();
        let kept = &self.0.own_tables;
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(own.clone());
        own
    }

    /// Whether nobody else has it any more.
    #[expect(
        clippy::disallowed_types,
        reason = "looked at when a plan was followed by another"
    )]
    pub(crate) fn is_left(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// What nearly every request needs of its route.
    #[inline]
    pub(crate) fn passage(&self, route: RouteId) -> Option<&Passage> {
        self.0.passages.get(route.0 as usize)
    }

    /// Its place among the plans of this process.
    pub(crate) fn number(&self) -> u32 {
        self.0.number
    }

    /// The way to the main thread; `None` where there is none.
    pub(crate) fn control(&self) -> Option<&Control> {
        self.0.control.as_ref()
    }

    /// What threads share of the upstreams, by place in the plan.
    #[expect(
        clippy::disallowed_types,
        reason = "what did not change is shared by a plan and the next one"
    )]
    pub(crate) fn shared_upstreams(&self) -> &[Arc<SharedUpstream>] {
        &self.0.upstreams
    }

    /// Whether any upstream has cookies.
    #[inline]
    pub(crate) fn is_sticky(&self) -> bool {
        self.0.is_sticky
    }

    /// What keeps clients with the endpoints of an upstream, by its place in the plan; `None` where nothing does.
    #[inline]
    pub(crate) fn cookies(&self, upstream: u32) -> Option<&Cookies> {
        self.0.upstreams.get(upstream as usize)?.cookies.as_ref()
    }

    /// An upstream's place in the plan.
    pub(crate) fn place_of(&self, upstream: &str) -> Option<u32> {
        self.0.by_name.get(upstream).copied()
    }

    /// A listener that connections may have come by.
    #[inline]
    pub(crate) fn known_listener(&self, id: ListenerId) -> Option<&KnownListener> {
        match &*self.0.listeners {
            [only] if only.id == id => Some(only),
            known => {
                let found = known.binary_search_by_key(&id, |known| known.id).ok()?;
                known.get(found)
            }
        }
    }

    /// The numbers of the plan's listeners, by place in the plan.
    #[must_use]
    pub fn listener_ids(&self) -> &[ListenerId] {
        &self.0.places
    }

    /// The connections that threads share, by place in the plan; nothing where workers have their own.
    pub(crate) fn ledgers(&self) -> impl Iterator<Item = &SharedLedger> {
        let upstreams = self.0.upstreams.iter();
        upstreams.filter_map(|upstream| upstream.ledger.as_ref())
    }

    /// Takes up the connections that threads share.
    pub(crate) fn count_shared(&self, live: &mut Live) {
        for upstream in &*self.0.upstreams {
            if let Some(ledger) = &upstream.ledger {
                live.add_upstream(&upstream.plan.name, ledger.conns());
            }
        }
    }

    /// The same of upstreams that the plan before did not have.
    pub(crate) fn new_ledgers<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = &'a SharedLedger> {
        let upstreams = self.0.upstreams.iter();
        let new = upstreams.filter(|upstream| before.place_of(&upstream.plan.name).is_none());
        new.filter_map(|upstream| upstream.ledger.as_ref())
    }

    /// Makes the connections that threads share follow this plan, which comes after that one.
    pub(crate) fn renew_ledgers(&self, before: &Self, now: Instant) {
        for upstream in &*self.0.upstreams {
            let known = before.0.upstream(&upstream.plan.name);
            let is_same = known.is_some_and(|known| std::ptr::eq(&**known, &**upstream));
            if !is_same && let Some(ledger) = &upstream.ledger {
                let conns_max = upstream.plan.conns_of_all();
                let next = (&upstream.balancing, &*upstream.endpoints, conns_max);
                ledger.renew(next, now);
            }
        }
        for upstream in &*before.0.upstreams {
            if self.place_of(&upstream.plan.name).is_none()
                && let Some(ledger) = &upstream.ledger
            {
                ledger.close_idle();
            }
        }
    }
}

impl Deref for SharedPlan {
    type Target = Plan;

    fn deref(&self) -> &Plan {
        &self.0.plan
    }
}

impl Shared {
    #[expect(
        clippy::disallowed_types,
        reason = "what did not change is shared by a plan and the next one"
    )]
    fn upstream(&self, name: &str) -> Option<&Arc<SharedUpstream>> {
        let place = self.by_name.get(name)?;
        self.upstreams.get(*place as usize)
    }
}

impl SharedUpstream {
    /// `in_plan`: the number of the plan.
    fn new(
        (upstream, in_plan): (&plan::Upstream, u32),
        plan: &Plan,
        settings: Settings,
        (known, total): (Option<&impl Deref<Target = Self>>, &OpenTotal),
        next_number: &mut u32,
    ) -> Self {
        let ledgers = match plan.engine {
            Engine::Threads => 1,
            _ => plan.workers as usize,
        };
        let balancing = upstream.balancing(ledgers);
        let goes_on = |known: &Self, identity: &Identity| known.term_of(identity, upstream);
        let endpoints = (0..).zip(&upstream.endpoints).map(|(place, endpoint)| {
            let identity = identity_of(endpoint);
            let term = known.and_then(|known| goes_on(known, &identity));
            identity.in_term(term.unwrap_or_else(|| Term::beginning_with(in_plan, place)))
        });
        let endpoints: Box<[Identity]> = endpoints.collect();
        let ledger = (plan.engine == Engine::Threads).then(|| {
            let kept = known.and_then(|known| known.ledger.clone());
            kept.unwrap_or_else(|| {
                SharedLedger::new(&balancing, &endpoints, upstream.conns_of_all()).counted_in(total)
            })
        });
        let number = known.map_or(*next_number, |known| known.number);
        *next_number += u32::from(known.is_none());
        Self {
            plan: upstream.clone(),
            number,
            version: in_plan,
            balancing,
            cookies: upstream.cookies(&plan.process_key, &endpoints),
            endpoints,
            settings,
            ledger,
        }
    }

    /// The term in which an endpoint stays under the next plan; `None`: it is new, its limit shrinks, begins or ends, or borrowing ends, so that
    /// nothing of what was lent and borrowed is left.
    fn term_of(&self, identity: &Identity, next: &plan::Upstream) -> Option<Term> {
        let goes_on = match (self.plan.conns_of_all(), next.conns_of_all()) {
            // Where nobody borrows any more, nobody would get back what it has lent.
            (Some(was), Some(is)) => {
                was <= is && (next.borrow != Borrow::Never || self.plan.borrow == Borrow::Never)
            }
            (None, None) => true,
            _ => false,
        };
        let known = self.endpoints.iter().find(|known| *known == identity)?;
        goes_on.then(|| known.term())
    }

    /// How many connections per endpoint one of `workers` workers may have; `None`: no limit.
    pub(crate) fn conns_of(&self, worker: u32, workers: u32) -> Option<u32> {
        self.plan.conns_of(worker, workers)
    }
}

fn identity_of(endpoint: &plan::Endpoint) -> Identity {
    Identity::new(&endpoint.name, endpoint.addr.clone()).with_others(&endpoint.others)
}

fn settings_of(upstream: &plan::Upstream, plan: &Plan) -> Settings {
    Settings {
        idle_conns_max: upstream.idle_conns_max,
        queue_len_max: plan.limits.queue_len_max,
        connect_timeout: upstream.connect_timeout,
        idle_timeout: upstream.idle_timeout,
        queue_timeout: plan.timeouts.queue,
        bounds: Bounds {
            age_max: upstream.conn_age_max,
            uses_max: upstream.conn_uses_max,
        },
        shared_conns_total: match plan.limits.idle_conns_total {
            0 => u32::MAX,
            total => total,
        },
        prewarm: upstream.prewarm,
        borrow: upstream.borrow,
        multiplex: upstream.multiplex,
    }
}

/// The listeners of a plan, and the last of those that were closed: numbers that stay the same as long as an address is listened
/// on, and are never given again.
fn known_listeners(
    plan: &Plan,
    before: Option<&Shared>,
) -> (Box<[KnownListener]>, Box<[ListenerId]>, u32) {
    let mut next = before.map_or(0, |before| before.next_listener);
    let mut left: Vec<KnownListener> =
        before.map_or_else(Vec::new, |before| before.listeners.to_vec());
    let mut known = Vec::new();
    let mut places = Vec::new();
    for listener in &plan.listeners {
        let is_same =
            |known: &KnownListener| known.is_open && known.listener.address == listener.address;
        // Port 0 may be listened on more than once: each counts for one.
        let id = match left.iter().position(is_same) {
            Some(found) => left.remove(found).id,
            None => {
                let id = ListenerId(next);
                next = next.wrapping_add(1);
                id
            }
        };
        places.push(id);
        known.push(KnownListener {
            id,
            listener: listener.clone(),
            is_open: true,
        });
    }
    let surplus = left.len().saturating_sub(CLOSED_LISTENERS_MAX);
    known.extend(left.into_iter().skip(surplus).map(|mut closed| {
        closed.is_open = false;
        closed
    }));
    known.sort_by_key(|known| known.id);
    (known.into(), places.into(), next)
}

/// The plan that the threads of a crew take up with their next request.
#[derive(Clone, Debug)]
#[expect(
    clippy::disallowed_types,
    reason = "threads that come and go take the plan from here, not with each request"
)]
pub(crate) struct Latest(Arc<(AtomicU32, Mutex<SharedPlan>)>);

impl Latest {
    #[expect(
        clippy::disallowed_types,
        reason = "made once, when the threads are hired"
    )]
    pub(crate) fn new(plan: SharedPlan) -> Self {
        Self(Arc::new((AtomicU32::new(plan.number()), Mutex::new(plan))))
    }

    /// From now on threads that look find this plan.
    pub(crate) fn publish(&self, plan: SharedPlan) {
        let number = plan.number();
        let before = std::mem::replace(
            &mut *self.0.1.lock().unwrap_or_else(PoisonError::into_inner),
            plan,
        );
        drop(before); // Large: without the lock.
        self.0.0.store(number, Ordering::Relaxed);
    }

    /// The number of the latest plan. Relaxed: whoever reads it a moment late serves one request more as before.
    #[inline]
    pub(crate) fn number(&self) -> u32 {
        self.0.0.load(Ordering::Relaxed)
    }

    pub(crate) fn plan(&self) -> SharedPlan {
        self.0
            .1
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Listeners that are closed, and whose connections are still served; those of older ones are closed when they ask again.
const CLOSED_LISTENERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_text;

    /// Whether requests of the route pass by without a further look, and where to.
    fn check(route: &str, expected: Option<u32>) {
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\npath = \"/\"\ntimeout = \"7s\"\n{route}\n\
             [[route]]\nsplit = [{{ upstream = \"api\", weight = 1 }}, {{ upstream = \"web\", weight = 2 }}]\n\
             [[route]]\nhost = \"a\"\nsplit = [{{ upstream = \"hashed\" }}, {{ upstream = \"bound\" }}]\n\
             [upstream.api]\nendpoints = [\"127.0.0.1:1\"]\n\
             [upstream.web]\nendpoints = [\"127.0.0.1:2\"]\n\
             [upstream.hashed]\nendpoints = [\"127.0.0.1:3\"]\nbalance = {{ hash = \"client_ip\" }}\n\
             [upstream.bound]\nendpoints = [\"127.0.0.1:4\"]\nsticky = {{ cookie = \"c\" }}\n"
        );
        let (plan, report) = load_text("a.toml", &text, &|_| None);
        let plan = plan.unwrap_or_else(|| panic!("{route}: {:?}", report.errors()));
        let place = |name: &str| {
            let mut upstreams = plan.upstreams.iter();
            upstreams.position(|upstream| upstream.name == name)
        };
        let expected = expected.map(|index| ["api", "web"][index as usize]);
        let expected = expected.and_then(place);
        let shared = SharedPlan::new(plan.clone());
        let passage = shared.passage(RouteId(0)).unwrap();
        assert_eq!(
            passage.upstream.map(|place| place as usize),
            expected,
            "{route}"
        );
        assert_eq!(passage.response_timeout, Duration::from_secs(7));
        assert_eq!(
            shared.passage(RouteId(1)).unwrap().upstream,
            None,
            "of a split"
        );
        assert!(shared.passage(RouteId(3)).is_none());
    }

    #[test]
    fn only_requests_that_nothing_more_is_to_be_done_for_pass_by() {
        check("upstream = \"api\"", Some(0));
        check("split = [{ upstream = \"web\", weight = 5 }]", Some(1));
        check(
            "split = [{ upstream = \"web\", weight = 5 }, { upstream = \"api\", weight = 0 }]",
            Some(1),
        );
        for more in [
            "upstream = \"hashed\"",
            "upstream = \"bound\"",
            "maintenance = true",
            "answer = { status = 204 }",
            "redirect = { to = \"/x\" }",
            "upstream = \"api\"\nrewrite = \"/x\"",
            "upstream = \"api\"\nmirror = { upstream = \"web\" }",
            "upstream = \"api\"\nrequest_headers = { set = { X-A = \"1\" } }",
            "upstream = \"api\"\nresponse_headers = { remove = [\"X-A\"] }",
        ] {
            check(more, None);
        }
    }
}
