//! Which endpoint takes a request. Pure: time, chance, loads and who has room are arguments; no clock, no socket, no await.
//!
//! ```text
//! request ─→ stuck to one? ─yes→ that one, also while it drains
//!                  └─no→ the first group with somebody in service ─→ the algorithm, among those of it that have room
//! ```
//!
//! A pick has two steps, since who is picked may turn out to have no connection to give: [`Balancer::peek`] names the
//! endpoint and changes nothing that anybody could see, [`Balancer::commit`] says that it was used.
#![expect(
    clippy::disallowed_types,
    reason = "tables of keys are built once and shared by all workers; no request counts references"
)]

mod bounded;
pub mod first;
pub mod in_flight;
pub mod least_conn;
pub mod least_time;
pub mod maglev;
pub mod member;
pub mod p2c;
pub mod random;
pub mod rendezvous;
pub mod round_robin;
#[cfg(test)]
mod suite;

use first::First;
use hp_core::base::sync::Arc;
use hp_core::rt::Instant;
use hp_core::rt::plant::{Plant, is_planted};
use in_flight::InFlight;
use least_conn::LeastConn;
use least_time::LeastTime;
use maglev::Maglev;
use member::{Member, Standing};
use p2c::P2c;
use rand::Rng;
use random::Random;
use rendezvous::Rendezvous;
use round_robin::RoundRobin;
use std::time::Duration;

/// How endpoints are picked, as a plan names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// In turn, as often as their weights say, spread evenly (smooth weighted round robin).
    #[default]
    RoundRobin,
    /// The fewest requests in flight for its weight.
    LeastConn,
    /// The least to be expected: peak EWMA of answer times, times requests in flight.
    LeastTime,
    /// By lot, by weight.
    Random,
    /// Two by lot, then the one with fewer requests in flight: the power of two choices.
    P2c,
    /// The first in the plan's order that has room.
    First,
    /// By a key: Maglev's table, with bounded load.
    Maglev,
    /// By a key: the highest random weight, with bounded load.
    Rendezvous,
}

/// What is known of a request.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// The turn's clock.
    pub now: Instant,
    /// What the request is to be hashed by; one without goes by lot where the method wants a key.
    pub key: Option<u64>,
    /// The endpoint that an earlier answer bound this client to.
    pub stuck_to: Option<usize>,
}

/// How an upstream's requests are spread: all that its balancers are made from, and what they share. Made once for all workers.
#[derive(Clone, Debug)]
pub struct Balancing {
    method: Method,
    members: Vec<Member>,
    seed: u64,
    /// For methods that go by a key: what takes long to make, and never changes.
    by_key: Option<Algorithm>,
    in_flight: Option<InFlight>,
}

impl Balancing {
    /// For members in the plan's order. `ledgers`: how many count requests each for itself, a worker or all threads together;
    /// `seed`: of the lots, of which each ledger draws others.
    #[must_use]
    pub fn new(method: Method, members: Vec<Member>, ledgers: usize, seed: u64) -> Self {
        let by_key = match method {
            Method::Maglev => Some(Algorithm::Maglev(Arc::new(Maglev::of(&members)))),
            Method::Rendezvous => Some(Algorithm::Rendezvous(Arc::new(Rendezvous::of(&members)))),
            _ => None,
        };
        let looks_at_load = !matches!(method, Method::RoundRobin | Method::Random | Method::First);
        let in_flight = looks_at_load && ledgers > 1 && members.len() > 1;
        Self {
            in_flight: in_flight.then(|| InFlight::new(ledgers, members.len())),
            method,
            members,
            seed,
            by_key,
        }
    }

    /// In turn, all alike.
    #[must_use]
    pub fn even(endpoints: usize) -> Self {
        let member = |number: u64| Member::new(mix(number), 1, 0, None);
        let members = (1..).map(member).take(endpoints).collect();
        Self::new(Method::RoundRobin, members, 1, 0)
    }

    /// The lots of one ledger.
    pub(super) fn seed_of(&self, ledger: usize) -> u64 {
        self.seed.wrapping_add(ledger as u64)
    }

    /// Where ledgers count together; `None` where one has all, or where load does not matter.
    pub(super) fn in_flight(&self) -> Option<&InFlight> {
        self.in_flight.as_ref()
    }
}

/// The picks of one upstream, by one worker (or by all threads, behind their lock).
#[derive(Clone, Debug)]
pub struct Balancer {
    members: Vec<Member>,
    algorithm: Algorithm,
}

#[derive(Clone, Debug)]
enum Algorithm {
    RoundRobin(RoundRobin),
    LeastConn(LeastConn),
    LeastTime(LeastTime),
    Random(Random),
    P2c(P2c),
    First(First),
    Maglev(Arc<Maglev>),
    Rendezvous(Arc<Rendezvous>),
}

/// The members that an algorithm may choose from, and what they bear.
pub(crate) struct Choice<'a, L, U> {
    members: &'a [Member],
    group: u32,
    /// The turn's clock.
    pub(crate) now: Instant,
    /// Requests in flight at a member, of all workers.
    pub(crate) load: L,
    has_room: U,
}

impl Balancer {
    /// `first`: where turns begin; workers begin at different ones, so that few requests spread over all.
    #[must_use]
    pub fn of(balancing: &Balancing, first: usize) -> Self {
        let members = balancing.members.clone();
        let count = members.len();
        let algorithm = match (&balancing.by_key, balancing.method) {
            (Some(by_key), _) => by_key.clone(),
            (None, Method::LeastConn) => Algorithm::LeastConn(LeastConn::new(count, first)),
            (None, Method::LeastTime) => Algorithm::LeastTime(LeastTime::new(count, first)),
            (None, Method::Random) => Algorithm::Random(Random::default()),
            (None, Method::P2c) => Algorithm::P2c(P2c::default()),
            (None, Method::First) => Algorithm::First(First),
            (None, _) => Algorithm::RoundRobin(RoundRobin::new(count, first)),
        };
        Self { members, algorithm }
    }

    /// One that comes after another. Members that stay go on where they were and, where the method stays, so does what is known of
    /// them; those that are new start slowly where they are to;
    /// `was` says where each was before.
    #[must_use]
    pub fn after(
        (before, was): (&Self, &[Option<usize>]),
        balancing: &Balancing,
        first: usize,
        now: Instant,
    ) -> Self {
        let mut next = Self::of(balancing, first);
        for (member, was) in next.members.iter_mut().zip(was) {
            match was.and_then(|was| before.members.get(was)) {
                Some(known) => member.follow(known, now),
                None => member.come(now),
            }
        }
        match (&mut next.algorithm, &before.algorithm) {
            (Algorithm::RoundRobin(next), Algorithm::RoundRobin(before)) => {
                next.follow(before, was)
            }
            (Algorithm::LeastConn(next), Algorithm::LeastConn(before)) => next.follow(before, was),
            (Algorithm::LeastTime(next), Algorithm::LeastTime(before)) => next.follow(before, was),
            _ => (), // Lots and tables know nothing of the past.
        }
        next
    }

    /// Who should take a request: somebody in service with room for it. `None`: nobody has room, or nobody is in service.
    ///
    /// `load(member)`: its requests in flight, of all workers; `has_room(member)`: whether it can take one more now.
    pub fn peek(
        &mut self,
        ask: Ask,
        load: impl Fn(usize) -> u32,
        has_room: impl Fn(usize) -> bool,
        rng: &mut impl Rng,
    ) -> Option<usize> {
        if let Some(bound) = ask.stuck_to
            && let Some(member) = self.members.get(bound)
            && (member.standing() != Standing::Out || is_planted(Plant::OutAsked))
            && has_room(bound)
        {
            return Some(bound);
        }
        if let [only] = self.members.as_slice() {
            return (only.serves() && has_room(0)).then_some(0);
        }
        let choice = Choice {
            members: &self.members,
            group: self.group()?,
            now: ask.now,
            load,
            has_room,
        };
        match &mut self.algorithm {
            Algorithm::RoundRobin(turns) => turns.peek(&choice),
            Algorithm::LeastConn(least) => least.peek(&choice),
            Algorithm::LeastTime(least) => least.peek(&choice),
            Algorithm::Random(lots) => lots.peek(&choice, rng),
            Algorithm::P2c(lots) => lots.peek(&choice, rng),
            Algorithm::First(first) => first.peek(&choice),
            Algorithm::Maglev(table) => table.peek(&choice, key_of(ask, rng)),
            Algorithm::Rendezvous(scores) => scores.peek(&choice, key_of(ask, rng)),
        }
    }

    /// The member takes the request that it was picked for.
    #[inline]
    pub fn commit(&mut self, member: usize, now: Instant) {
        if self.members.len() > 1 {
            self.commit_among_many(member, now);
        }
    }

    fn commit_among_many(&mut self, member: usize, now: Instant) {
        let Some(group) = self.group() else { return };
        match &mut self.algorithm {
            Algorithm::RoundRobin(turns) => turns.commit(&self.members, group, member, now),
            Algorithm::LeastConn(least) => least.commit(&self.members, group, member, now),
            Algorithm::LeastTime(least) => least.commit(member),
            Algorithm::Random(lots) => lots.commit(),
            Algorithm::P2c(lots) => lots.commit(),
            Algorithm::First(_) | Algorithm::Maglev(_) | Algorithm::Rendezvous(_) => (),
        }
    }

    /// A request took so long from its last byte sent to the head of its answer.
    pub fn observe(&mut self, member: usize, now: Instant, took: Duration) {
        if let Algorithm::LeastTime(least) = &mut self.algorithm {
            least.observe(member, now, took);
        }
    }

    /// Whether answers are to be timed.
    #[must_use]
    pub fn wants_times(&self) -> bool {
        matches!(self.algorithm, Algorithm::LeastTime(_))
    }

    /// Whether a member is in service in the group that takes requests, with or without room.
    #[must_use]
    pub fn is_eligible(&self, member: usize) -> bool {
        let group = self.group();
        let member = self.members.get(member);
        member.is_some_and(|member| member.serves() && Some(member.group()) == group)
    }

    /// Who comes next when dials failed, `tried` being those: the others of the group in their order after the last one tried, then
    /// the groups behind it.
    pub fn instead(&self, tried: &[usize], has_room: impl Fn(usize) -> bool) -> Option<usize> {
        let last = tried.last().map_or(0, |last| last + 1);
        let count = self.members.len();
        let round = (last..count).chain(0..last.min(count));
        let left = round.filter(|member| !tried.contains(member) && has_room(*member));
        let serving = left.filter_map(|member| Some((self.members.get(member)?, member)));
        let serving = serving.filter(|(member, _)| member.serves());
        let next = serving.min_by_key(|(member, _)| member.group()); // The first of equals.
        next.map(|(_, member)| member)
    }

    /// Whether no member is in service, with or without room.
    #[must_use]
    pub fn has_nobody(&self) -> bool {
        self.group().is_none()
    }

    /// The members, in the plan's order.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// A member, to change its standing or its weight. Tables of keys stay as they were built: a member that goes out is
    /// passed over, so that only its own keys move.
    pub fn member_mut(&mut self, member: usize) -> Option<&mut Member> {
        self.members.get_mut(member)
    }

    /// The group that takes requests: the lowest with somebody in service. A group whose members have no room still
    /// takes them, for whom the requests wait.
    fn group(&self) -> Option<u32> {
        let serving = self.members.iter().filter(|member| member.serves());
        serving.map(Member::group).min()
    }
}

impl<L: Fn(usize) -> u32, U: Fn(usize) -> bool> Choice<'_, L, U> {
    /// How many members there are, in all groups.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether a member is in service in the group that takes requests, with or without room.
    pub(crate) fn is_eligible(&self, member: usize) -> bool {
        let member = self.members.get(member);
        member.is_some_and(|member| member.serves() && member.group() == self.group)
    }

    /// Whether a member may be picked.
    pub(crate) fn may_take(&self, member: usize) -> bool {
        self.is_eligible(member) && (self.has_room)(member)
    }

    /// All who may be picked, beginning at a member and going round.
    pub(crate) fn takers_from(&self, first: usize) -> impl Iterator<Item = usize> + '_ {
        let count = self.len();
        let first = if first < count { first } else { 0 };
        let round = (first..count).chain(0..first);
        round.filter(|member| self.may_take(*member))
    }

    /// A member's weight now; see [`Member::weight_at`].
    pub(crate) fn weight(&self, member: usize) -> u64 {
        let member = self.members.get(member);
        member.map_or(0, |member| member.weight_at(self.now))
    }
}

/// A key, or a lot for a request that has none: it must not all go to one endpoint.
fn key_of(ask: Ask, rng: &mut impl Rng) -> u64 {
    ask.key.unwrap_or_else(|| rng.next_u64())
}

/// Hashes what a request is to be bound by, e.g. a client's address or a cookie. The same everywhere and for ever, so that
/// several proxies, and one after a restart, agree. Not secret: whoever chooses keys can aim at an endpoint, whose load is
/// bounded all the same.
#[must_use]
pub fn hash(key: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
    mix(key.iter().fold(FNV_START, fnv))
}

/// Spreads a number over all 64 bits, one to one (the finaliser of SplitMix64).
#[must_use]
pub(crate) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

const FNV_START: u64 = 0xCBF2_9CE4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01B3;
