//! What is known of the connections to all backends: how many there are, which of them idle, who waits. Pure but for looking
//! whether an idle socket has news; never connects, waits or wakes.
//!
//! Per endpoint: `idle <= open <= conns_max`, where `open` counts connecting, leased and idle connections. How many of them
//! may be new at once is for the endpoint's window.
//!
//! A worker has a ledger of its own, where idle connections are parked in the worker's runtime. Threads that serve one
//! connection each share one behind a lock, where idle connections belong to no runtime.
#![expect(
    clippy::disallowed_types,
    reason = "threads that serve one connection each share their backends; workers do not"
)]

use super::balance::in_flight::InFlight;
use super::balance::{Ask, Balancer, Balancing};
use super::queue::Queue;
use super::window::{Stall, Window};
use hp_core::rt::net::{Conn, ParkKey, Released};
use hp_core::rt::{Instant, Rt};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

/// The books of all endpoints.
#[derive(Debug)]
pub(super) struct Ledger {
    endpoints: Vec<Endpoint>,
    balancer: Balancer,
    rng: StdRng,
    /// Where several ledgers count the same endpoints: what is in flight at them, and this one's row.
    in_flight: Option<(InFlight, usize)>,
    queue: Queue,
    conns_max: Option<u32>,
    /// To be woken when the ledger is nobody's any more.
    woken: Option<Waker>,
    /// Told when something begins to idle and nothing did.
    keeper: Option<Waker>,
    /// Nothing idles from now on.
    is_closing: bool,
}

#[derive(Debug, Default)]
struct Endpoint {
    open: u32,
    window: Window,
    /// Front: idle for the longest time.
    idle: VecDeque<Idle>,
}

/// An idle connection.
#[derive(Debug)]
pub(super) enum Idle {
    /// In the worker's runtime, which watches it.
    Parked(ParkKey),
    /// In no runtime, up to a point in time.
    Loose(Released, Instant),
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
    pub(super) fn new(balancing: &Balancing, conns_max: Option<u32>, number: usize) -> Self {
        Self {
            endpoints: (0..balancing.len()).map(|_| Endpoint::default()).collect(),
            balancer: Balancer::of(balancing, number),
            rng: StdRng::seed_from_u64(balancing.seed_of(number)),
            in_flight: balancing.in_flight().map(|rows| (rows.clone(), number)),
            queue: Queue::default(),
            conns_max,
            woken: None,
            keeper: None,
            is_closing: false,
        }
    }

    /// Whether answers are to be observed.
    pub(super) fn times_answers(&self) -> bool {
        self.balancer.wants_times()
    }

    /// An endpoint has answered, so long after it was chosen.
    pub(super) fn observe(&mut self, endpoint: usize, now: Instant, took: Duration) {
        self.balancer.observe(endpoint, now, took);
    }

    /// A number for a new request.
    pub(super) fn number(&mut self) -> u64 {
        self.queue.number()
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// An idle connection of the endpoint that is picked, unless others wait; nothing is used up until [`Ledger::commit`].
    pub(super) fn take_kept(&mut self, ask: Ask) -> Option<(usize, Idle)> {
        if self.queue.len() > 0 {
            return None;
        }
        let endpoint = self.peek(ask)?;
        Some((endpoint, self.take_idle(endpoint)?))
    }

    /// The connection that was put back last.
    pub(super) fn take_idle(&mut self, endpoint: usize) -> Option<Idle> {
        let idle = self.endpoints[endpoint].idle.pop_back()?;
        self.publish(endpoint);
        Some(idle)
    }

    /// The pick was used.
    pub(super) fn commit(&mut self, endpoint: usize, now: Instant) {
        self.balancer.commit(endpoint, now);
    }

    /// The endpoint that takes a request now.
    pub(super) fn choose(&mut self, ask: Ask) -> Option<usize> {
        let endpoint = self.peek(ask)?;
        self.balancer.commit(endpoint, ask.now);
        Some(endpoint)
    }

    fn peek(&mut self, ask: Ask) -> Option<usize> {
        let endpoints = &self.endpoints;
        let load = |endpoint: usize| match &self.in_flight {
            None => endpoints[endpoint].in_flight(),
            Some((rows, _)) => rows.total(endpoint),
        };
        let is_free = |endpoint: usize| endpoints[endpoint].is_free(self.conns_max);
        self.balancer.peek(ask, load, is_free, &mut self.rng)
    }

    /// What an endpoint has: the connection that was put back last, else room for a new one.
    pub(super) fn take(&mut self, endpoint: usize) -> Taken {
        if let Some(idle) = self.take_idle(endpoint) {
            return Taken::Idle(idle);
        }
        if !self.endpoints[endpoint].has_room(self.conns_max) {
            return Taken::Nothing;
        }
        self.begin(endpoint);
        Taken::Room
    }

    /// Begins a connection to another endpoint than those that were tried, where one has room for it.
    pub(super) fn begin_instead_of(&mut self, tried: &[usize]) -> Option<usize> {
        let has_room = |endpoint: usize| self.endpoints[endpoint].has_room(self.conns_max);
        let next = self.balancer.instead(tried, has_room)?;
        self.begin(next);
        Some(next)
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

    /// A dial ends with a connection, so long after its last attempt began.
    pub(super) fn connect(&mut self, endpoint: usize, took: Duration) {
        self.endpoints[endpoint].window.connect(took);
    }

    /// See [`Window::stall`].
    pub(super) fn stall(&mut self, endpoint: usize, now: Instant) -> Stall {
        self.endpoints[endpoint].window.stall(now)
    }

    /// The first exchange of a connection is over.
    pub(super) fn finish_first(&mut self, endpoint: usize, now: Instant) {
        self.endpoints[endpoint].window.finish(now);
    }

    /// A connection has ended.
    pub(super) fn close(&mut self, endpoint: usize) {
        self.endpoints[endpoint].open -= 1;
        self.publish(endpoint);
        self.grant_next();
    }

    /// Keeps an idle connection; gives one that has to go for it, which is still counted.
    pub(super) fn put_back(&mut self, endpoint: usize, idle: Idle, max: u32) -> Option<Idle> {
        if self.is_closing {
            return Some(idle);
        }
        let kept = &mut self.endpoints[endpoint].idle;
        kept.push_back(idle);
        let surplus = if kept.len() > max as usize {
            kept.pop_front()
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

    /// A parked connection came back by itself: it is in nobody's list any more.
    pub(super) fn forget(&mut self, endpoint: usize, conn: &Conn) {
        let is_other = |idle: &Idle| match idle {
            Idle::Parked(key) => !conn.was_parked_as(*key),
            Idle::Loose(..) => true,
        };
        self.endpoints[endpoint].idle.retain(is_other);
        self.publish(endpoint);
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
    pub(super) fn grant_next(&mut self) {
        let waker = self.queue.grant_next();
        self.wake(waker);
    }

    /// Grants the next one where there is more than one took: a window grows by many at once.
    pub(super) fn pass_on(&mut self) {
        if self.queue.len() == 0 {
            return;
        }
        let may_take = |endpoint: usize| {
            self.endpoints[endpoint].is_free(self.conns_max) && self.balancer.is_eligible(endpoint)
        };
        if (0..self.endpoints.len()).any(may_take) {
            self.grant_next();
        }
    }

    /// Looks after windows in which nothing moves.
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
        self.endpoints[endpoint].window.begin();
        self.publish(endpoint);
    }

    fn publish(&self, endpoint: usize) {
        if let Some((rows, row)) = &self.in_flight {
            rows.publish(*row, endpoint, self.endpoints[endpoint].in_flight());
        }
    }

    fn wake(&mut self, waker: Option<Waker>) {
        if let Some(earlier) = waker.and_then(|waker| self.woken.replace(waker)) {
            earlier.wake(); // Two at once are rare.
        }
    }

    /// Takes out what idles in no runtime and is of no use: it has news, or it is too old, or all of it.
    fn sweep(&mut self, is_useless: impl Fn(&Released, Instant) -> bool) -> Vec<Idle> {
        let mut useless = Vec::new();
        for endpoint in 0..self.endpoints.len() {
            for idle in mem::take(&mut self.endpoints[endpoint].idle) {
                match &idle {
                    Idle::Loose(released, until) if is_useless(released, *until) => {
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

impl Endpoint {
    /// Connections that carry a request, or are made for one.
    fn in_flight(&self) -> u32 {
        let idle = u32::try_from(self.idle.len()).unwrap_or(u32::MAX);
        self.open.saturating_sub(idle)
    }

    fn is_free(&self, conns_max: Option<u32>) -> bool {
        !self.idle.is_empty() || self.has_room(conns_max)
    }

    /// Whether one more connection may be opened.
    fn has_room(&self, conns_max: Option<u32>) -> bool {
        conns_max.is_none_or(|max| self.open < max) && self.window.has_room()
    }
}

/// Whose a ledger is.
#[derive(Debug)]
pub(super) enum Books {
    Own(Box<RefCell<Ledger>>),
    Shared(SharedLedger),
}

impl Books {
    /// Does something with the ledger; then, when it is nobody's any more, wakes whoever was granted a place.
    #[inline]
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Ledger) -> T) -> T {
        match self {
            Self::Own(ledger) => {
                let mut ledger = ledger.borrow_mut();
                let output = act(&mut ledger);
                if ledger.woken.is_some() {
                    wake(ledger.woken.take()); // Its task runs later: it finds the ledger free.
                }
                output
            }
            Self::Shared(shared) => shared.with(act),
        }
    }
}

/// A ledger that threads share.
#[derive(Clone, Debug)]
pub struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    /// A ledger in which nothing is connected yet. `conns_max` connections to each endpoint, all threads together; `None`:
    /// no limit.
    #[must_use]
    pub fn new(balancing: &Balancing, conns_max: Option<u32>) -> Self {
        Self(Arc::new(Mutex::new(Ledger::new(balancing, conns_max, 0))))
    }

    /// Closes what idles, and lets nothing idle any more. For a drain.
    pub fn close_idle(&self) {
        let closed = self.with(|ledger| {
            ledger.is_closing = true;
            ledger.sweep(|_, _| true)
        });
        drop(closed); // Closing takes its time: without the lock.
    }

    /// Closes idle connections that the backend has ended, or that are too old, within a tenth of a second. For one task
    /// of the process; it never ends.
    pub async fn keep(&self, rt: &Rt) {
        loop {
            poll_fn(|cx| {
                self.with(|ledger| {
                    if ledger.endpoints.iter().any(|one| !one.idle.is_empty()) {
                        return Poll::Ready(());
                    }
                    ledger.keeper = Some(cx.waker().clone());
                    Poll::Pending
                })
            })
            .await;
            rt.sleep(SWEEP_PAUSE).await;
            let now = rt.now();
            drop(self.with(|ledger| {
                ledger.sweep(|released, until| until <= now || released.has_news())
            }));
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Ledger) -> T) -> T {
        let (output, woken) = {
            let mut ledger = self.lock();
            (act(&mut ledger), ledger.woken.take())
        };
        wake(woken);
        output
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // Counts are whole between any two statements.
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// How long an idle connection of nobody's runtime may be dead unnoticed. Whoever takes one looks for himself.
const SWEEP_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    const ASK: Ask = Ask {
        now: Instant::START,
        key: None,
        stuck_to: None,
    };

    fn take(ledger: &mut Ledger) -> Option<usize> {
        let endpoint = ledger.choose(ASK)?;
        assert!(matches!(ledger.take(endpoint), Taken::Room));
        Some(endpoint)
    }

    #[test]
    fn endpoints_take_turns_and_the_limit_holds() {
        let mut ledger = Ledger::new(&Balancing::even(2), Some(2), 1);
        let taken: Vec<_> = (0..5).map(|_| take(&mut ledger)).collect();
        assert_eq!(taken, [Some(1), Some(0), Some(1), Some(0), None]);
        ledger.give_up(1);
        assert_eq!(take(&mut ledger), Some(1));
        assert_eq!(ledger.open(), 4);
    }

    #[test]
    fn what_became_free_before_a_place_was_taken_is_not_lost() {
        let mut ledger = Ledger::new(&Balancing::even(1), Some(1), 0);
        assert_eq!(take(&mut ledger), Some(0));
        let number = ledger.number();
        assert_eq!(take(&mut ledger), None);
        ledger.connect(0, Duration::ZERO);
        ledger.close(0); // Nobody waits as yet.
        ledger.enter(number);
        assert!(ledger.is_granted_or_waits(number, Waker::noop()));
    }

    #[test]
    fn whoever_is_granted_is_woken_once_the_ledger_is_free() {
        let shared = SharedLedger::new(&Balancing::even(1), Some(1));
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
