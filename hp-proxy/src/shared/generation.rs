//! A worker under one plan. A request keeps the generation that it began with to its end; the next one on its connection takes the
//! newest. A generation lives as long as a request does.

use super::plan::{KnownListener, SharedUpstream};
use super::{Home, Local, SharedPlan, Worker};
use crate::config::plan::{ListenerId, Plan};
use crate::live::Live;
use crate::route::table;
use crate::upstream::{SharedLedger, Upstream};
use hp_core::rt::net::Conn;
use std::cell::OnceCell;
use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

/// What one plan makes of a worker.
#[derive(Debug)]
pub(crate) struct Generation {
    local: Rc<Local>,
    /// The plan's place among those of this process.
    number: u32,
    plan: SharedPlan,
    /// By place in the plan; made when the first request goes there.
    upstreams: Box<[OnceCell<Rc<Upstream>>]>,
    /// The plan's table, where threads should not share it.
    own_table: Option<table::Table>,
    /// See [`Plan::has_plain_route_only`].
    has_plain_route: bool,
    /// Whether exchanges of any upstream share connections.
    multiplexes: bool,
    /// That of the first route.
    first_response_timeout: Duration,
}

impl Generation {
    /// The first of a worker.
    pub(super) fn first(local: &Rc<Local>, plan: SharedPlan) -> Rc<Self> {
        let upstreams = plan.upstreams.iter().map(|_| OnceCell::new()).collect();
        Rc::new(Self::with(local, plan, upstreams, None))
    }

    /// One that comes after another. Upstreams that were begun go on in it, changed as the plan says; those that it does not
    /// know keep nothing idle from now on.
    pub(super) fn after(
        before: &Self,
        plan: SharedPlan,
        own_table: Option<table::Table>,
    ) -> Rc<Self> {
        let upstreams: Box<[OnceCell<Rc<Upstream>>]> =
            plan.upstreams.iter().map(|_| OnceCell::new()).collect();
        let next = Self::with(&before.local, plan, upstreams, own_table);
        if let Home::Worker(_) = next.home() {
            next.take_over(before);
        }
        Rc::new(next)
    }

    fn with(
        local: &Rc<Local>,
        plan: SharedPlan,
        upstreams: Box<[OnceCell<Rc<Upstream>>]>,
        own_table: Option<table::Table>,
    ) -> Self {
        // Many threads come and go; a few workers stay.
        let is_worker = matches!(local.home(), Home::Worker(_));
        let has_own_table = is_worker && plan.table.has_patterns();
        let first_route = plan.routes.first();
        Self {
            local: Rc::clone(local),
            number: plan.number(),
            upstreams,
            own_table: own_table.or_else(|| has_own_table.then(|| plan.own_table())),
            has_plain_route: plan.has_plain_route_only(),
            multiplexes: is_worker && plan.multiplexes(),
            first_response_timeout: first_route
                .map_or(plan.timeouts.response, |route| route.response_timeout),
            plan,
        }
    }

    /// Takes over the upstreams of the generation before.
    fn take_over(&self, before: &Self) {
        let begun = before.upstreams.iter().zip(before.plan.shared_upstreams());
        let names = before.plan.upstreams.iter().map(|upstream| &upstream.name);
        for ((cell, was), name) in begun.zip(names) {
            let Some(upstream) = cell.get() else {
                continue; // Nobody asked for it.
            };
            let Some(place) = self.plan.place_of(name) else {
                upstream.close_idle();
                continue;
            };
            let is = self.plan.shared_upstreams().get(place as usize);
            if let Some(is) = is
                && !std::ptr::eq(&**is, &**was)
            {
                let conns_max = is.conns_of(self.id().0, self.plan.workers);
                upstream.renew(&is.balancing, &is.endpoints, conns_max, is.settings);
                upstream.note_version(is.version);
            }
            if let Some(cell) = self.upstreams.get(place as usize) {
                cell.get_or_init(|| Rc::clone(upstream));
            }
        }
    }

    /// Whether a later plan is there to be taken up.
    #[inline]
    pub(crate) fn is_outdated(&self) -> bool {
        self.local.newest() != self.number
    }

    #[inline]
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The same, as threads share it.
    pub(crate) fn shared_plan(&self) -> &SharedPlan {
        &self.plan
    }

    /// The connections to an upstream of the plan; `None` where there is no such upstream.
    #[inline]
    pub(crate) fn upstream(&self, index: u32) -> Option<&Rc<Upstream>> {
        let place = self.upstreams.get(index as usize)?;
        match place.get() {
            Some(upstream) => Some(upstream),
            None => self.begin_upstream(index, place),
        }
    }

    #[cold]
    fn begin_upstream<'a>(
        &'a self,
        index: u32,
        place: &'a OnceCell<Rc<Upstream>>,
    ) -> Option<&'a Rc<Upstream>> {
        let shared = self.plan.shared_upstreams().get(index as usize)?;
        let upstream = match self.home() {
            Home::Worker(_) => self.begin_own(shared),
            Home::Listener(_) | Home::Thread(..) => {
                let ledger = shared.ledger.clone()?;
                Upstream::sharing(
                    self.rt(),
                    ledger,
                    shared.settings,
                    self.local.row_of_upstreams(),
                )
            }
        };
        Some(place.get_or_init(|| upstream))
    }

    fn begin_own(&self, shared: &SharedUpstream) -> Rc<Upstream> {
        let conns_max = shared.conns_of(self.id().0, self.plan.workers);
        self.local.keep_upstream(|id| {
            let upstream = Upstream::own(
                self.rt(),
                (&shared.balancing, &shared.endpoints, conns_max),
                (shared.settings, id),
                self.local.row_of_upstreams(),
            );
            upstream.count_in(&self.local.open_total);
            if let Some(siblings) = &self.local.siblings {
                upstream.join_siblings(siblings, (shared.number, shared.version));
            }
            upstream
        })
    }

    /// Upstreams that are to have connections before anybody asks, and that nobody looks after yet. `is_keeper`: this worker looks
    /// after what threads share.
    pub(crate) fn to_be_warmed(&self, is_keeper: bool) -> Vec<Rc<Upstream>> {
        let is_shared = match self.home() {
            Home::Worker(_) => false,
            Home::Listener(_) if is_keeper => true,
            Home::Listener(_) | Home::Thread(..) => return Vec::new(),
        };
        let plans = (0..).zip(&self.plan.upstreams).zip(&self.upstreams);
        // One that was begun may have to be told that nothing more is wanted.
        let wanted = plans
            .filter(|((_, plan), begun)| plan.prewarm > 0 || is_shared || begun.get().is_some());
        wanted
            .filter_map(|((index, _), _)| self.upstream(index))
            .filter(|upstream| upstream.begin_warming())
            .map(Rc::clone)
            .collect()
    }

    /// Takes up the connections of a worker's own upstreams.
    pub(super) fn count_upstreams(&self, live: &mut Live) {
        for (cell, upstream) in self.upstreams.iter().zip(&self.plan.upstreams) {
            if let (Home::Worker(_), Some(conns)) = (self.home(), cell.get()) {
                live.add_upstream(&upstream.name, conns.conns());
            }
        }
    }

    /// The routes.
    #[inline]
    pub(crate) fn table(&self) -> &table::Table {
        self.own_table.as_ref().unwrap_or(&self.plan.table)
    }

    /// A listener of the plan, or one that was closed not long ago.
    #[inline]
    pub(crate) fn listener(&self, listener: ListenerId) -> Option<&KnownListener> {
        self.plan.known_listener(listener)
    }

    /// Whether nobody has to look at routes.
    #[inline]
    pub(crate) fn has_plain_route(&self) -> bool {
        self.has_plain_route
    }

    /// Whether exchanges of any upstream share connections. A thread with one client has nobody to share with.
    #[inline]
    pub(crate) fn multiplexes(&self) -> bool {
        self.multiplexes
    }

    /// How long the head of an answer may take by the first route.
    #[inline]
    pub(crate) fn first_response_timeout(&self) -> Duration {
        self.first_response_timeout
    }

    /// Keeps an idle connection without a task.
    pub(crate) fn park(&self, conn: Conn, listener: ListenerId) {
        let idled = self.idle_grace();
        let kept_for = self.plan.timeouts.keepalive.saturating_sub(idled);
        #[cfg(feature = "slow-down")]
        crate::slow_down::per_idle_conn();
        let until = self.parked_until((conn.name(), idled), self.rt().now() + kept_for);
        conn.park(u64::from(listener.0), until);
    }

    /// How long an idle connection keeps its task. Not at all when there are many: each costs more than a kilobyte. To its
    /// end where it has a thread of its own.
    pub(crate) fn idle_grace(&self) -> Duration {
        let keepalive = self.plan.timeouts.keepalive;
        let grace = match self.home() {
            Home::Thread(..) => keepalive,
            Home::Worker(_) | Home::Listener(_) if self.rt().tasks() > TASKS_WITH_GRACE_MAX => {
                Duration::ZERO
            }
            Home::Worker(_) | Home::Listener(_) => keepalive.min(IDLE_GRACE),
        };
        if self.is_draining() {
            return grace.min(self.kept_in_drain());
        }
        grace
    }

    /// Closes what idles of the connections that threads share.
    pub(super) fn close_shared_idle(&self) {
        if let Home::Listener(_) = self.home() {
            self.plan.ledgers().for_each(SharedLedger::close_idle);
        }
    }
}

impl Deref for Generation {
    type Target = Local;

    #[inline]
    fn deref(&self) -> &Local {
        &self.local
    }
}

impl Worker {
    /// Takes up the newest plan, for a request that begins; stays with the one it has where the connection's listener is
    /// not known any more.
    #[cold]
    pub(crate) fn refresh(&self, generation: &mut Rc<Generation>, listener: ListenerId) {
        let newest = self.current();
        if newest.listener(listener).is_some() {
            *generation = newest;
        }
    }
}

/// Long enough that a busy client never pays for a new task, short enough that memory follows the load.
const IDLE_GRACE: Duration = Duration::from_secs(1);
const TASKS_WITH_GRACE_MAX: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::super::Next;
    use super::*;
    use crate::config::load_text;
    use crate::counters::Rows;
    use hp_core::rt::mesh::{Mesh, WorkerId};
    use hp_core::rt::{Engine, Rt, RtOptions};
    use std::sync::mpsc::{self, TryRecvError};

    fn plan(upstream: &str, endpoints: &str) -> Plan {
        let text = format!(
            "workers = 1\n[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\nupstream = \"{upstream}\"\n\
             [upstream.{upstream}]\nendpoints = [{endpoints}]"
        );
        load_text("a.toml", &text, &|_| None).0.unwrap()
    }

    fn with_worker(check: impl FnOnce(&Worker, SharedPlan)) {
        let options = RtOptions {
            engine: Engine::Epoll,
            ..RtOptions::default()
        };
        let rt = Rt::new(&options).unwrap();
        let first = SharedPlan::new(plan("web", "\"127.0.0.1:1\""));
        let home = Home::Worker(Mesh::new(1));
        let worker = Worker::new(&rt, WorkerId(0), home, first.clone(), Rows::new(1, 0));
        check(&worker, first);
        drop(worker);
        rt.shut_down();
    }

    fn follow(worker: &Worker, plan: &SharedPlan) {
        let (followed, waits) = mpsc::channel();
        worker.follow(Next {
            plan: plan.clone(),
            own_table: None,
            followed,
        });
        assert_eq!(waits.try_recv(), Err(TryRecvError::Disconnected));
    }

    #[test]
    fn a_generation_is_freed_with_its_last_request() {
        with_worker(|worker, first| {
            let request = worker.current();
            let kept = Rc::downgrade(&request);
            let next = first.followed_by(plan("web", "\"127.0.0.1:2\""));
            assert!(!request.is_outdated());
            follow(worker, &next);
            assert!(request.is_outdated() && !worker.current().is_outdated());
            drop(request);
            assert!(kept.upgrade().is_none());
        });
    }

    #[test]
    fn a_plan_is_left_by_its_last_request() {
        with_worker(|worker, first| {
            let request = worker.current();
            let next = first.followed_by(plan("web", "\"127.0.0.1:2\""));
            follow(worker, &next);
            assert!(!first.is_left());
            drop(request);
            assert!(first.is_left() && !next.is_left());
        });
    }

    #[test]
    fn an_upstream_stays_by_its_name_and_goes_with_its_generation() {
        with_worker(|worker, first| {
            let upstream = Rc::clone(worker.current().upstream(0).unwrap());
            let changed = first.followed_by(plan("web", "\"127.0.0.1:2\""));
            follow(worker, &changed);
            assert!(Rc::ptr_eq(&upstream, worker.current().upstream(0).unwrap()));
            assert_eq!(upstream.conns()[0].0, "127.0.0.1:2");
            let gone = Rc::downgrade(&upstream);
            drop(upstream);
            let other = changed.followed_by(plan("api", "\"127.0.0.1:2\""));
            follow(worker, &other);
            assert!(gone.upgrade().is_none());
        });
    }

    #[test]
    fn what_did_not_change_is_the_same_object() {
        let first = SharedPlan::new(plan("web", "\"127.0.0.1:1\""));
        let same = first.followed_by(plan("web", "\"127.0.0.1:1\""));
        let other = same.followed_by(plan("web", "\"127.0.0.1:2\""));
        let is = |plan: &SharedPlan| std::ptr::from_ref(&*plan.shared_upstreams()[0]);
        assert_eq!(is(&first), is(&same));
        assert_ne!(is(&same), is(&other));
        assert_eq!(first.listener_ids(), other.listener_ids());
    }
}
