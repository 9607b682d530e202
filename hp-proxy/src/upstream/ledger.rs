//! What is known of the connections to all backends: how many there are, which of them idle, who waits. Pure but for looking
//! whether an idle socket has news; never connects, waits or wakes.
//!
//! Per endpoint: `idle <= open <= conns_max`, where `open` counts connecting, leased and idle connections. How many of them
//! may be new at once is for the endpoint's window.
//!
//! A worker has a ledger of its own, where idle connections are parked in the worker's runtime. Threads that serve one
//! connection each share one behind a lock, where idle connections belong to no runtime.

mod lanes;
mod share;
mod spare;

use super::balance::in_flight::InFlight;
use super::balance::{Ask, Balancer, Balancing};
use super::endpoint::{Endpoint, Identity, Idle, place};
use super::life::{Bounds, Life};
use super::queue::Queue;
use super::total::OpenTotal;
use super::ways::Ways;
use super::window::Stall;
use super::wish::{Aim, Instead};
use crate::live::Conns;
use hp_core::rt::Instant;
use hp_core::rt::net::{Address, Conn, Released};
use hp_core::wire::http1::head::Version;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
pub(super) use share::{Loanable, Part};
use std::collections::BTreeMap;
use std::mem;
use std::task::Waker;
use std::time::Duration;

/// The books of all endpoints.
#[derive(Debug)]
pub(super) struct Ledger {
    /// By slot. Those of the plan, those that are gone and have connections, and free ones.
    pub(super) endpoints: Vec<Endpoint>,
    /// The slot of each of the balancer's members.
    slots: Vec<usize>,
    balancer: Balancer,
    rng: StdRng,
    /// Where several ledgers count the same endpoints: what is in flight at them, and this one's row.
    in_flight: Option<(InFlight, usize)>,
    queue: Queue,
    conns_max: Option<u32>,
    /// To be woken when the ledger is nobody's any more.
    pub(super) woken: Option<Waker>,
    /// Told when something begins to idle and nothing did.
    pub(super) keeper: Option<Waker>,
    /// Nothing idles from now on.
    pub(super) is_closing: bool,
    total: OpenTotal,
    /// Connections that each endpoint shall have before anybody asks.
    prewarm: u32,
    /// Told when an endpoint may have too few.
    warmer: Option<Waker>,
    has_warmer: bool,
    /// An endpoint may be in the pause that a refusal is followed by.
    has_pauses: bool,
}

/// When a connection is not kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    /// When its endpoint has more idle ones than this.
    pub(super) idle_max: u32,
    /// When all ledgers that count together have more connections than this.
    pub(super) open_total: u32,
}

/// What an endpoint has for a request.
#[derive(Debug)]
pub(super) enum Taken {
    /// A connection, which may have died.
    Idle(Idle),
    /// Room for one that is to be made; it is counted already.
    Room,
    /// Nothing any more.
    Nothing,
}

impl Ledger {
    /// Nothing is connected yet. `number`: the ledger's among those that count the same endpoints.
    pub(super) fn new(
        balancing: &Balancing,
        endpoints: &[Identity],
        conns_max: Option<u32>,
        number: usize,
    ) -> Self {
        let new = |(member, identity): (usize, &Identity)| Endpoint::new(identity.clone(), member);
        Self {
            endpoints: endpoints.iter().enumerate().map(new).collect(),
            slots: (0..endpoints.len()).collect(),
            balancer: Balancer::of(balancing, number),
            rng: StdRng::seed_from_u64(balancing.seed_of(number)),
            in_flight: balancing.in_flight().map(|rows| (rows.clone(), number)),
            queue: Queue::default(),
            conns_max,
            woken: None,
            keeper: None,
            is_closing: false,
            total: OpenTotal::default(),
            prewarm: 0,
            warmer: None,
            has_warmer: false,
            has_pauses: false,
        }
    }

    /// Follows another plan. Endpoints that stay keep their slots and all that is known of them; gives what idles of those that go,
    /// with its slots, to be closed; it is still counted.
    pub(super) fn renew(
        &mut self,
        (balancing, endpoints, conns_max): (&Balancing, &[Identity], Option<u32>),
        number: usize,
        now: Instant,
    ) -> Vec<(usize, Idle)> {
        let mut known: BTreeMap<u64, usize> = BTreeMap::new();
        for (slot, endpoint) in self.endpoints.iter().enumerate() {
            if !endpoint.is_free_slot() {
                known.insert(endpoint.identity.hash(), slot);
            }
        }
        let is_at = |slot: &usize, identity: &Identity| self.endpoints[*slot].identity == *identity;
        let kept: Vec<Option<usize>> = endpoints
            .iter()
            .map(|identity| known.get(&identity.hash()).copied())
            .zip(endpoints)
            .map(|(slot, identity)| slot.filter(|slot| is_at(slot, identity)))
            .collect();
        let was: Vec<Option<usize>> = kept
            .iter()
            .map(|slot| slot.and_then(|slot| self.endpoints[slot].member))
            .collect();
        self.balancer = Balancer::after((&self.balancer, &was), balancing, number, now);
        self.in_flight = balancing.in_flight().map(|rows| (rows.clone(), number));
        self.conns_max = conns_max;
        for endpoint in &mut self.endpoints {
            endpoint.member = None;
        }
        let mut gone = Vec::new();
        for (member, (slot, identity)) in kept.iter().zip(endpoints).enumerate() {
            let Some(slot) = *slot else { continue };
            let endpoint = &mut self.endpoints[slot];
            if endpoint.follow(identity, member) {
                gone.push(slot); // Nobody knows which of its connections lead over the way that is gone.
            }
        }
        let slots = kept.iter().zip(endpoints).enumerate();
        self.slots = slots
            .map(|(member, (slot, identity))| match slot {
                Some(slot) => *slot,
                None => place(&mut self.endpoints, Endpoint::new(identity.clone(), member)),
            })
            .collect();
        (0..self.endpoints.len()).for_each(|slot| self.publish(slot));
        self.pass_on();
        let all = self.endpoints.iter_mut().enumerate();
        all.filter(|(slot, endpoint)| endpoint.member.is_none() || gone.contains(slot))
            .flat_map(|(slot, endpoint)| endpoint.idle.drain(..).map(move |idle| (slot, idle)))
            .collect()
    }

    /// Lets nothing idle any more; gives what idles, with its slots, to be closed; it is still counted. Requests of an older plan may wait
    /// here, or come: see [`Ledger::void_loans`].
    pub(super) fn close_idle(&mut self) -> Vec<(usize, Idle)> {
        self.is_closing = true;
        self.void_loans();
        self.pass_on();
        self.wake_warmer();
        if let Some(keeper) = self.keeper.take() {
            keeper.wake(); // It has nothing to do any more.
        }
        let all = self.endpoints.iter_mut().enumerate();
        all.flat_map(|(slot, endpoint)| endpoint.idle.drain(..).map(move |idle| (slot, idle)))
            .collect()
    }

    /// Connections by endpoint.
    pub(super) fn conns(&self) -> Vec<(String, Conns)> {
        let used = self.endpoints.iter().filter(|one| !one.is_free_slot());
        used.map(|one| (one.name().to_owned(), one.conns(self.conns_max)))
            .collect()
    }

    /// A connection to an endpoint is a tunnel now.
    pub(super) fn begin_tunnel(&mut self, endpoint: usize) {
        self.endpoints[endpoint].tunnels += 1;
    }

    /// A tunnel has ended; its connection is closed apart from that.
    pub(super) fn end_tunnel(&mut self, endpoint: usize) {
        self.endpoints[endpoint].tunnels -= 1;
    }

    /// What an endpoint is called.
    pub(super) fn name(&self, endpoint: usize) -> &str {
        self.endpoints.get(endpoint).map_or("", Endpoint::name)
    }

    /// Where an endpoint is.
    pub(super) fn addr(&self, endpoint: usize) -> Address {
        self.endpoints[endpoint].addr()
    }

    /// The ways to an endpoint.
    pub(super) fn ways(&mut self, endpoint: usize) -> &mut Ways {
        &mut self.endpoints[endpoint].ways
    }

    /// Whether an endpoint last answered in HTTP/1.0.
    pub(super) fn speaks_http10(&self, endpoint: usize) -> bool {
        self.endpoints[endpoint].speaks_http10
    }

    /// Remembers in which version an endpoint has answered, if it has.
    #[inline]
    pub(super) fn note_version(&mut self, endpoint: usize, version: Option<Version>) {
        if let Some(version) = version {
            self.endpoints[endpoint].speaks_http10 = version == Version::Http10;
        }
    }

    /// Whether answers are to be observed.
    pub(super) fn times_answers(&self) -> bool {
        self.balancer.wants_times()
    }

    /// An endpoint has answered, so long after it was chosen.
    pub(super) fn observe(&mut self, endpoint: usize, now: Instant, took: Duration) {
        if let Some(member) = self.endpoints[endpoint].member {
            self.balancer.observe(member, now, took);
        }
    }

    /// A number for a new request.
    pub(super) fn number(&mut self) -> u64 {
        self.queue.number()
    }

    /// Whether there is no endpoint that anybody could wait for: none at all, or none in service.
    pub(super) fn has_nobody(&self) -> bool {
        self.balancer.has_nobody()
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// An idle connection of the endpoint that is picked, unless others wait; nothing is used up until [`Ledger::commit`].
    #[inline]
    pub(super) fn take_kept(&mut self, aim: Aim, now: Instant) -> Option<(usize, Idle)> {
        if self.queue.len() > 0 {
            return None;
        }
        let endpoint = self.peek(aim, now, |_| false)?;
        Some((endpoint, self.take_idle(endpoint)?))
    }

    /// The connection that was put back last.
    #[inline]
    pub(super) fn take_idle(&mut self, endpoint: usize) -> Option<Idle> {
        let idle = self.endpoints[endpoint].idle.pop_back()?;
        self.publish(endpoint);
        Some(idle)
    }

    /// The pick was used.
    #[inline]
    pub(super) fn commit(&mut self, endpoint: usize, now: Instant) {
        if let Some(member) = self.endpoints[endpoint].member {
            self.balancer.commit(member, now);
        }
    }

    /// The endpoint that takes a request now.
    pub(super) fn choose(&mut self, aim: Aim, now: Instant) -> Option<usize> {
        let endpoint = self.peek(aim, now, |_| false)?;
        self.commit(endpoint, now);
        Some(endpoint)
    }

    /// The slot of who should take a request: whoever has a connection or room for one, or of whom `takes` says so by its slot.
    fn peek(&mut self, aim: Aim, now: Instant, takes: impl Fn(usize) -> bool) -> Option<usize> {
        if self.has_pauses {
            self.end_pauses(now);
        }
        let ask = Ask {
            now,
            key: aim.key,
            stuck_to: aim.bound_to.and_then(|hash| self.member_of(hash)),
        };
        let (endpoints, slots) = (&self.endpoints, &self.slots);
        let load = |member: usize| match &self.in_flight {
            None => endpoints[slots[member]].in_flight(),
            Some((rows, _)) => rows.total(member),
        };
        let is_free = |member: usize| {
            endpoints[slots[member]].is_free(self.conns_max) || takes(slots[member])
        };
        let member = self.balancer.peek(ask, load, is_free, &mut self.rng)?;
        self.slots.get(member).copied()
    }

    /// The member that an endpoint is, by the hash of its identity; `None` where the plan has it no more.
    #[cold]
    fn member_of(&self, hash: u64) -> Option<usize> {
        let is_it = |slot: &usize| self.hash(*slot) == Some(hash);
        self.slots.iter().position(is_it)
    }

    /// Who an endpoint is.
    pub(super) fn identity(&self, endpoint: usize) -> Option<&Identity> {
        let endpoint = self.endpoints.get(endpoint)?;
        Some(&endpoint.identity)
    }

    /// The same of all endpoints, by their slots.
    pub(super) fn hashes(&self) -> Vec<u64> {
        let identities = self.endpoints.iter().map(|one| &one.identity);
        identities.map(Identity::hash).collect()
    }

    /// See [`Identity::hash`].
    pub(super) fn hash(&self, endpoint: usize) -> Option<u64> {
        self.identity(endpoint).map(Identity::hash)
    }

    /// What an endpoint has: the connection that was put back last, else room for a new one.
    pub(super) fn take(&mut self, endpoint: usize) -> Taken {
        match self.take_idle(endpoint) {
            Some(idle) => Taken::Idle(idle),
            None => self.take_room(endpoint),
        }
    }

    /// Room for a new connection, where the endpoint has some: another thread may have had the last of it since it was chosen.
    pub(super) fn take_room(&mut self, endpoint: usize) -> Taken {
        if !self.endpoints[endpoint].has_room(self.conns_max) {
            return Taken::Nothing;
        }
        self.begin(endpoint);
        Taken::Room
    }

    /// Another endpoint than those that were tried, which has what will do.
    pub(super) fn instead_of(&self, tried: &[usize], instead: Instead) -> Option<usize> {
        let is_free = |endpoint: &Endpoint| match instead {
            Instead::Any => endpoint.is_free(self.conns_max),
            Instead::Fresh => endpoint.has_room(self.conns_max),
        };
        let has_room = |member: usize| {
            let slot = self.slots.get(member);
            slot.is_some_and(|slot| is_free(&self.endpoints[*slot]))
        };
        // One that is gone meanwhile is not tried again in any case.
        let tried = tried.iter().filter_map(|slot| self.endpoints[*slot].member);
        let tried: Vec<usize> = tried.collect();
        let member = self.balancer.instead(&tried, has_room)?;
        self.slots.get(member).copied()
    }

    /// Those that were tried refused, and no other one is free. Where one of the others is worth waiting for, those are not dialled for a while: they have room
    /// all the time, and would take every request that waits. Whether it is so.
    #[cold]
    pub(super) fn wait_instead_of(&mut self, tried: &[usize], now: Instant) -> bool {
        let mut others = self.slots.iter().enumerate();
        let is_worth_it = others.any(|(member, slot)| {
            let is_busy = self.endpoints[*slot].is_busy(self.conns_max);
            is_busy && !tried.contains(slot) && self.balancer.is_eligible(member)
        });
        if is_worth_it {
            self.has_pauses = true;
            for slot in tried {
                self.endpoints[*slot].window.refuse(now);
            }
        }
        is_worth_it
    }

    #[cold]
    fn end_pauses(&mut self, now: Instant) {
        self.has_pauses = false;
        for endpoint in &mut self.endpoints {
            endpoint.window.end_pause(now);
            self.has_pauses |= endpoint.window.is_refusing();
        }
    }

    /// A new connection is dialled in the place of one that had died.
    pub(super) fn begin_instead(&mut self, endpoint: usize) {
        self.endpoints[endpoint].window.begin();
    }

    /// A dial ends without a connection.
    pub(super) fn give_up(&mut self, endpoint: usize) {
        self.endpoints[endpoint].window.give_up();
        self.close(endpoint);
    }

    /// A dial ends with a connection, so long after its last attempt began; gives what that may have of time and uses.
    pub(super) fn connect(
        &mut self,
        endpoint: usize,
        took: Duration,
        (bounds, now): (&Bounds, Instant),
    ) -> Life {
        self.endpoints[endpoint].window.connect(took);
        self.pass_on(); // The window may have grown.
        Life::begin(bounds, now, &mut self.rng)
    }

    /// See [`Window::stall`].
    pub(super) fn stall(&mut self, endpoint: usize) -> Stall {
        self.endpoints[endpoint].window.stall()
    }

    /// The first exchange of a connection is over.
    pub(super) fn finish_first(&mut self, endpoint: usize) {
        self.endpoints[endpoint].window.finish();
    }

    /// A connection has ended.
    pub(super) fn close(&mut self, endpoint: usize) {
        self.endpoints[endpoint].open -= 1;
        self.total.end();
        self.publish(endpoint);
        self.wake_warmer();
        self.grant_next();
    }

    /// Keeps an idle connection; gives one that has to go for it, which is still counted.
    #[inline]
    pub(super) fn put_back(
        &mut self,
        (endpoint, version): (usize, Option<Version>),
        idle: Idle,
        bound: Keep,
    ) -> Option<Idle> {
        self.note_version(endpoint, version);
        let kept = &mut self.endpoints[endpoint];
        if self.is_closing || kept.member.is_none() || self.total.count() > bound.open_total {
            return Some(idle);
        }
        kept.idle.push_back(idle);
        let surplus = if kept.idle.len() > bound.idle_max as usize {
            kept.idle.pop_front()
        } else {
            None
        };
        self.publish(endpoint);
        if surplus.is_some() {
            return surplus;
        }
        if let Some(keeper) = self.keeper.take() {
            keeper.wake();
        }
        self.grant_next();
        None
    }

    /// A parked connection came back by itself: it is in nobody's list any more. Whether there is such an endpoint.
    pub(super) fn forget(&mut self, endpoint: usize, conn: &Conn) -> bool {
        if endpoint >= self.endpoints.len() {
            return false;
        }
        let is_other = |idle: &Idle| match idle {
            Idle::Parked(key, _) => !conn.was_parked_as(*key),
            Idle::Loose(..) => true,
        };
        self.endpoints[endpoint].idle.retain(is_other);
        self.publish(endpoint);
        true
    }

    /// Takes a place in the queue. What became free since the request found nothing is granted at once.
    pub(super) fn enter(&mut self, number: u64) {
        self.queue.enter(number);
        self.pass_on();
    }

    /// See [`Queue::is_granted_or_waits`].
    pub(super) fn is_granted_or_waits(&mut self, number: u64, waker: &Waker) -> bool {
        self.queue.is_granted_or_waits(number, waker)
    }

    /// See [`Queue::spend`].
    pub(super) fn spend(&mut self, number: u64) {
        self.queue.spend(number);
    }

    /// See [`Queue::leave`].
    pub(super) fn leave(&mut self, number: u64) {
        let waker = self.queue.leave(number);
        self.wake(waker);
    }

    /// Grants the next one: a connection or the room for one has become free.
    #[inline]
    pub(super) fn grant_next(&mut self) {
        if self.queue.len() > 0 {
            let waker = self.queue.grant_next();
            self.wake(waker);
        }
    }

    /// Grants the next one where there is more than one took: a window grows by many at once.
    pub(super) fn pass_on(&mut self) {
        if self.queue.len() == 0 {
            return;
        }
        let may_take = |(member, slot): (usize, &usize)| {
            self.endpoints[*slot].is_free(self.conns_max) && self.balancer.is_eligible(member)
        };
        if self.slots.iter().enumerate().any(may_take) {
            self.grant_next();
        }
    }

    /// Looks after windows that hold somebody back for long.
    pub(super) fn widen(&mut self, now: Instant) {
        let widen = |endpoint: &mut Endpoint| endpoint.window.widen(now);
        // Each of them, so no short cut at the first.
        if self
            .endpoints
            .iter_mut()
            .map(widen)
            .filter(|is| *is)
            .count()
            > 0
        {
            self.grant_next();
        }
    }

    /// Whether a window holds dials back.
    pub(super) fn is_limited(&self) -> bool {
        let mut endpoints = self.endpoints.iter();
        endpoints.any(|endpoint| endpoint.window.is_limited())
    }

    /// See [`Window::patience`].
    pub(super) fn patience(&self, endpoint: usize, stalls: u32) -> Option<Duration> {
        self.endpoints[endpoint].window.patience(stalls)
    }

    /// Connections to all backends, in use or idle.
    pub(super) fn open(&self) -> u32 {
        self.endpoints.iter().map(|endpoint| endpoint.open).sum()
    }

    fn begin(&mut self, endpoint: usize) {
        self.endpoints[endpoint].open += 1;
        self.total.begin();
        self.endpoints[endpoint].window.begin();
        self.publish(endpoint);
    }

    #[inline]
    fn publish(&self, endpoint: usize) {
        if let Some((rows, row)) = &self.in_flight {
            let endpoint = &self.endpoints[endpoint];
            if let Some(member) = endpoint.member {
                rows.publish(*row, member, endpoint.in_flight());
            }
        }
    }

    fn wake(&mut self, waker: Option<Waker>) {
        if let Some(earlier) = waker.and_then(|waker| self.woken.replace(waker)) {
            earlier.wake(); // Two at once are rare.
        }
    }

    /// Takes out what idles in no runtime and is of no use: it has news, or it is too old, or all of it.
    pub(super) fn sweep(&mut self, is_useless: impl Fn(&Released, Instant) -> bool) -> Vec<Idle> {
        let mut useless = Vec::new();
        for endpoint in 0..self.endpoints.len() {
            for idle in mem::take(&mut self.endpoints[endpoint].idle) {
                match &idle {
                    Idle::Loose(released, until, _) if is_useless(released, *until) => {
                        useless.push(idle);
                        self.close(endpoint);
                    }
                    _ => self.endpoints[endpoint].idle.push_back(idle),
                }
            }
        }
        useless
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_types, reason = "a waker that counts is shared")]
mod tests {
    use super::super::books::SharedLedger;
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    const BOUNDS: Bounds = Bounds {
        age_max: None,
        uses_max: 0,
    };

    fn identities(count: u16) -> Vec<Identity> {
        let addr = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let identity = |port| Identity::new(&addr(port).to_string(), addr(port).into());
        (1..=count).map(identity).collect()
    }

    fn ledger(endpoints: u16, conns_max: Option<u32>, number: usize) -> Ledger {
        let balancing = Balancing::even(usize::from(endpoints));
        Ledger::new(&balancing, &identities(endpoints), conns_max, number)
    }

    fn take(ledger: &mut Ledger) -> Option<usize> {
        let endpoint = ledger.choose(Aim::default(), Instant::START)?;
        assert!(matches!(ledger.take(endpoint), Taken::Room));
        Some(endpoint)
    }

    #[test]
    fn endpoints_take_turns_and_the_limit_holds() {
        let mut ledger = ledger(2, Some(2), 1);
        let taken: Vec<_> = (0..5).map(|_| take(&mut ledger)).collect();
        assert_eq!(taken, [Some(1), Some(0), Some(1), Some(0), None]);
        ledger.give_up(1);
        assert_eq!(take(&mut ledger), Some(1));
        assert_eq!(ledger.open(), 4);
    }

    #[test]
    fn what_became_free_before_a_place_was_taken_is_not_lost() {
        let mut ledger = ledger(1, Some(1), 0);
        assert_eq!(take(&mut ledger), Some(0));
        let number = ledger.number();
        assert_eq!(take(&mut ledger), None);
        ledger.connect(0, Duration::ZERO, (&BOUNDS, Instant::START));
        ledger.close(0); // Nobody waits as yet.
        ledger.enter(number);
        assert!(ledger.is_granted_or_waits(number, Waker::noop()));
    }

    #[test]
    fn who_stays_keeps_its_slot_and_who_goes_frees_it_with_its_last_connection() {
        let all = identities(4);
        let mut ledger = ledger(2, None, 0);
        assert_eq!([take(&mut ledger), take(&mut ledger)], [Some(0), Some(1)]);
        let follow = |ledger: &mut Ledger, members: &[usize]| {
            let now: Vec<Identity> = members.iter().map(|one| all[*one].clone()).collect();
            let idle = ledger.renew((&Balancing::even(now.len()), &now, None), 0, Instant::START);
            assert!(idle.is_empty());
            ledger.slots.clone()
        };
        assert_eq!(follow(&mut ledger, &[1, 2]), [1, 2], "0 has a connection");
        assert_eq!(ledger.open(), 2);
        ledger.connect(0, Duration::ZERO, (&BOUNDS, Instant::START));
        ledger.close(0);
        assert_eq!(follow(&mut ledger, &[3, 1, 2]), [0, 1, 2]);
        ledger.give_up(1);
        assert_eq!(follow(&mut ledger, &[2]), [2]);
        assert_eq!(follow(&mut ledger, &[0, 2]), [0, 2]);
        assert_eq!(ledger.open(), 0);
    }

    /// A lane's connection may end before the lane: two reloads in between gave its slot to another endpoint, whose lanes it was taken
    /// from then.
    #[test]
    fn a_slot_is_its_endpoints_until_its_last_lane_has_ended() {
        let all = identities(4);
        let mut ledger = ledger(1, None, 0);
        let follow = |ledger: &mut Ledger, members: &[usize]| {
            let now: Vec<Identity> = members.iter().map(|one| all[*one].clone()).collect();
            let _idle = ledger.renew((&Balancing::even(now.len()), &now, None), 0, Instant::START);
            ledger.slots.clone()
        };
        assert_eq!(take(&mut ledger), Some(0));
        ledger.connect(0, Duration::ZERO, (&BOUNDS, Instant::START));
        ledger.begin_lane(0);
        assert_eq!(follow(&mut ledger, &[1]), [1]);
        ledger.close(0);
        assert_eq!(follow(&mut ledger, &[2, 1]), [2, 1]);
        ledger.end_lane(0);
        assert_eq!(follow(&mut ledger, &[2, 1, 3]), [2, 1, 0]);
    }

    /// Threads share a ledger, and between two calls another one may have it.
    #[test]
    fn room_that_another_thread_took_meanwhile_is_not_taken_twice() {
        let mut ledger = ledger(2, Some(1), 0);
        assert_eq!(take(&mut ledger), Some(0));
        assert_eq!(ledger.instead_of(&[0], Instead::Fresh), Some(1));
        assert_eq!(take(&mut ledger), Some(1));
        assert!(matches!(ledger.take_room(1), Taken::Nothing));
        assert_eq!(ledger.open(), 2);
    }

    #[test]
    fn a_connection_of_an_endpoint_that_is_gone_is_not_shared_any_more() {
        let mut ledger = ledger(1, Some(8), 0);
        assert_eq!(take(&mut ledger), Some(0));
        assert_eq!(ledger.conns_for_lanes(0), Some(Some(8)));
        let next = (&Balancing::even(1), &identities(2)[1..], Some(8));
        assert!(ledger.renew(next, 0, Instant::START).is_empty());
        assert_eq!(ledger.conns_for_lanes(0), None);
        assert_eq!(ledger.conns_for_lanes(1), Some(Some(8)));
    }

    #[test]
    fn whoever_is_granted_is_woken_once_the_ledger_is_free() {
        let shared = SharedLedger::new(&Balancing::even(1), &identities(1), Some(1));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        shared.with(|ledger| {
            assert_eq!(take(ledger), Some(0));
            let number = ledger.number();
            ledger.enter(number);
            assert!(!ledger.is_granted_or_waits(number, &waker));
        });
        shared.with(|ledger| {
            ledger.give_up(0);
            assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        });
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }
}
