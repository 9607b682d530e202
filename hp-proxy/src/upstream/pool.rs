//! One worker's connections to all backends: kept ones last in, first out; the oldest idle one goes when there are too many.
//!
//! Per endpoint: `idle <= open <= conns_max`, where `open` counts connecting, leased and idle connections. How many of them
//! may be new at once is for the endpoint's window.

use super::balance::round_robin::RoundRobin;
use super::queue::{Place, Queue};
use super::window::{HELD_BACK_MAX, PATIENCE_MIN, Stall, Window};
use crate::counters::Rows;
use hp_core::rt::net::{Conn, ParkKey, Unparked};
use hp_core::rt::race::{First, race};
use hp_core::rt::{Instant, Rt};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// One worker's side of the backends.
#[derive(Debug)]
pub struct Upstream {
    rt: Rt,
    worker: u32,
    rows: Rows,
    endpoints: Vec<Endpoint>,
    turn: RefCell<RoundRobin>,
    queue: Queue,
    settings: Settings,
}

/// What one worker may do with its backends.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Connections to one backend, at least 1; `None`: no limit.
    pub conns_max: Option<u32>,
    /// Idle connections kept to one backend.
    pub idle_conns_max: u32,
    /// Requests that may wait.
    pub queue_len_max: u32,
    /// For a connection to one backend, all attempts at it together.
    pub connect_timeout: Duration,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// How long a request waits, from its first place in the queue on.
    pub queue_timeout: Duration,
}

#[derive(Debug)]
struct Endpoint {
    addr: SocketAddr,
    open: Cell<u32>,
    window: RefCell<Window>,
    /// Front: idle for the longest time.
    idle: RefCell<VecDeque<ParkKey>>,
}

/// Why a request gets no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcquireError {
    /// Every backend has as many connections as it may have, and none became free in time.
    QueueTimeout,
    /// As many requests wait already as may wait.
    QueueFull,
    /// No backend could be connected to; the last one refused.
    Refused,
    /// No backend could be connected to; the last one did not answer in time.
    ConnectTimeout,
    /// This process is out of descriptors, ports or memory.
    OutOfResources,
}

impl Upstream {
    /// The backends as one worker sees them; nothing is connected yet. `backends` has at least one address.
    #[must_use]
    pub fn new(
        rt: &Rt,
        backends: impl Iterator<Item = SocketAddr>,
        settings: Settings,
        rows: Rows,
        worker: u32,
    ) -> Rc<Self> {
        let endpoint = |addr| Endpoint {
            addr,
            open: Cell::new(0),
            window: RefCell::default(),
            idle: RefCell::default(),
        };
        Rc::new(Self {
            rt: rt.clone(),
            worker,
            rows,
            endpoints: backends.map(endpoint).collect(),
            turn: RefCell::new(RoundRobin::starting_at(worker as usize)),
            queue: Queue::default(),
            settings,
        })
    }

    /// A kept connection of the endpoint whose turn it is, without waiting: the common case. `None` when it has none, or when
    /// others wait already.
    #[must_use]
    pub fn take_kept(self: &Rc<Self>) -> Option<Lease> {
        if self.queue.len() > 0 {
            return None;
        }
        let endpoint = self.turn.borrow().next(self.endpoints.len());
        let conn = self.take_idle(endpoint)?;
        self.turn.borrow_mut().pick(self.endpoints.len()); // Only a turn that was used is over.
        self.rows.of(self.worker).upstream_reuses.add(1);
        Some(Lease {
            upstream: Rc::clone(self),
            endpoint,
            conn: Some(conn),
            reused: true,
        })
    }

    /// A kept connection where there is one, else a new one, else a place in the queue.
    ///
    /// # Errors
    /// [`AcquireError`].
    pub async fn acquire(self: &Rc<Self>) -> Result<Lease, AcquireError> {
        let mut wish = Wish::new(self.queue.number());
        if self.queue.len() == 0
            && let Some(lease) = self.take_turn(&mut wish).await?
        {
            return Ok(lease);
        }
        if self.queue.len() >= self.settings.queue_len_max as usize {
            return Err(AcquireError::QueueFull);
        }
        self.rows.of(self.worker).queued.add(1);
        let deadline = self.rt.now() + self.settings.queue_timeout;
        loop {
            let place = self.queue.enter(wish.number);
            self.wait(&place, deadline).await?;
            place.spend();
            if let Some(lease) = self.take_turn(&mut wish).await? {
                return Ok(lease);
            }
        }
    }

    /// A new connection to the same endpoint, for a request whose kept one had died.
    ///
    /// # Errors
    /// [`AcquireError`].
    pub async fn acquire_fresh(self: &Rc<Self>, endpoint: usize) -> Result<Lease, AcquireError> {
        let mut wish = Wish::new(self.queue.number());
        loop {
            // It has waited in the queue once; so it dials on, until its doubled patience is the timeout itself.
            match self
                .connect_from(Opening::begin(self, endpoint), &mut wish)
                .await
            {
                Ok(lease) => return Ok(lease),
                Err(Missed::Stalled) => (),
                Err(Missed::Failed(error)) => return Err(error),
            }
        }
    }

    /// A parked backend connection came back: it is of no use, whether it has news or is too old.
    pub fn retire(&self, conn: Conn, endpoint: usize, _why: Unparked) {
        if let Some(endpoint) = self.endpoints.get(endpoint) {
            endpoint
                .idle
                .borrow_mut()
                .retain(|key| !conn.was_parked_as(*key));
            drop(conn);
            endpoint.open.set(endpoint.open.get() - 1);
            self.queue.grant_next();
        }
    }

    /// Connections to all backends, in use or idle.
    #[must_use]
    pub fn open_conns(&self) -> u32 {
        self.endpoints
            .iter()
            .map(|endpoint| endpoint.open.get())
            .sum()
    }

    /// Waits for the grant. Whoever waits for long also looks after windows in which nothing moves.
    async fn wait(&self, place: &Place<'_>, deadline: Instant) -> Result<(), AcquireError> {
        loop {
            let limited = |endpoint: &Endpoint| endpoint.window.borrow().is_limited();
            let until = if self.endpoints.iter().any(limited) {
                deadline.min(self.rt.now() + HELD_BACK_MAX)
            } else {
                deadline
            };
            if self.rt.timeout_at(until, place.granted()).await.is_ok() {
                return Ok(());
            }
            let now = self.rt.now();
            if now >= deadline {
                return Err(AcquireError::QueueTimeout);
            }
            let widen = |endpoint: &&Endpoint| endpoint.window.borrow_mut().widen(now);
            if self.endpoints.iter().filter(widen).count() > 0 {
                self.queue.grant_next();
            }
        }
    }

    /// A connection of any endpoint that has one or has room for one; `None` when the request has to wait.
    async fn take_turn(self: &Rc<Self>, wish: &mut Wish) -> Result<Option<Lease>, AcquireError> {
        // Ends: an idle connection that proved dead is gone, and where a dial stalled there is no room.
        while let Some(endpoint) = self.choose() {
            if let Some(conn) = self.take_idle(endpoint) {
                self.rows.of(self.worker).upstream_reuses.add(1);
                self.pass_on();
                return Ok(Some(Lease {
                    upstream: Rc::clone(self),
                    endpoint,
                    conn: Some(conn),
                    reused: true,
                }));
            }
            if !self.has_room(endpoint) {
                continue; // The idle connection came back by itself, and counts until it is retired.
            }
            let opening = Opening::begin(self, endpoint);
            self.pass_on();
            match self.connect_from(opening, wish).await {
                Ok(lease) => return Ok(Some(lease)),
                Err(Missed::Stalled) => (),
                Err(Missed::Failed(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Grants the next one where there is more than one took: a window grows by many at once.
    fn pass_on(&self) {
        if self.queue.len() > 0 && (0..self.endpoints.len()).any(|endpoint| self.is_free(endpoint))
        {
            self.queue.grant_next();
        }
    }

    /// The endpoint whose turn it is, or the next one that can take a request now.
    fn choose(&self) -> Option<usize> {
        let count = self.endpoints.len();
        let first = self.turn.borrow_mut().pick(count);
        (first..first + count)
            .map(|position| position % count)
            .find(|endpoint| self.is_free(*endpoint))
    }

    fn is_free(&self, endpoint: usize) -> bool {
        !self.endpoints[endpoint].idle.borrow().is_empty() || self.has_room(endpoint)
    }

    /// The connection that was put back last and is still alive.
    fn take_idle(&self, endpoint: usize) -> Option<Conn> {
        let mut idle = self.endpoints[endpoint].idle.borrow_mut();
        while let Some(key) = idle.pop_back() {
            // One that came back by itself is retired by whoever waits for those; its place is counted there.
            if let Some(conn) = self.rt.unpark(key) {
                return Some(conn);
            }
        }
        None
    }

    /// Connects to an endpoint; where that fails, to the others in their order, for nothing was sent yet.
    async fn connect_from(
        self: &Rc<Self>,
        first: Opening,
        wish: &mut Wish,
    ) -> Result<Lease, Missed> {
        let row = self.rows.of(self.worker);
        let count = self.endpoints.len();
        let mut opening = first;
        let mut tried = 1;
        loop {
            let error = match self.dial(opening.endpoint, wish).await {
                Ok(Dialled::Connected(conn, took)) => {
                    row.upstream_connects.add(1);
                    return Ok(opening.into_lease(conn, took));
                }
                Ok(Dialled::Stalled) => return Err(Missed::Stalled),
                Err(error) => error,
            };
            row.upstream_connect_errors.add(1);
            let next = (opening.endpoint + 1..opening.endpoint + count)
                .map(|position| position % count)
                .find(|endpoint| tried < count && self.has_room(*endpoint));
            match next {
                Some(endpoint) if !is_ours(&error) => {
                    drop(opening);
                    opening = Opening::begin(self, endpoint);
                    tried += 1;
                }
                _ => return Err(Missed::Failed(classify(&error))),
            }
        }
    }

    /// Attempts to connect until one is decided, the time is up, or others will tell when there is room.
    async fn dial(&self, endpoint: usize, wish: &mut Wish) -> io::Result<Dialled> {
        let endpoint = &self.endpoints[endpoint];
        let deadline = self.rt.now() + self.settings.connect_timeout;
        loop {
            let begun = self.rt.now();
            let error = match self.attempt(endpoint, deadline, wish.stalls).await {
                Ok(conn) => return Ok(Dialled::Connected(conn, self.rt.now() - begun)),
                Err(error) => error,
            };
            let now = self.rt.now();
            if error.kind() != io::ErrorKind::TimedOut || now >= deadline {
                return Err(error);
            }
            wish.stalls = wish.stalls.saturating_add(1);
            self.rows.of(self.worker).upstream_redials.add(1);
            match endpoint.window.borrow_mut().stall(now) {
                Stall::Wait => return Ok(Dialled::Stalled),
                Stall::Redial => (),
            }
        }
    }

    /// Attempts to connect; `TimedOut` after the endpoint's patience, or at the deadline.
    async fn attempt(
        &self,
        endpoint: &Endpoint,
        deadline: Instant,
        stalls: u32,
    ) -> io::Result<Conn> {
        let patience = || endpoint.window.borrow().patience(stalls);
        if let Some(patience) = patience() {
            let until = deadline.min(self.rt.now() + patience);
            return self.rt.connect(endpoint.addr, until).await;
        }
        self.attempt_unknown(endpoint, deadline, patience).await
    }

    /// Attempts to connect where nobody knows how far the endpoint is. The first attempt goes on, for a far endpoint; others
    /// go beside it, one at a time, for a near one whose backlog was full. Whichever is
    /// decided first ends the other, which a far server knows at most as a SYN: it is reset before it is accepted.
    async fn attempt_unknown(
        &self,
        endpoint: &Endpoint,
        deadline: Instant,
        patience: impl Fn() -> Option<Duration>,
    ) -> io::Result<Conn> {
        let begun = self.rt.now();
        let mut first = pin!(self.rt.connect(endpoint.addr, deadline));
        let mut pause = PATIENCE_MIN;
        let until = begun + pause;
        if let Ok(outcome) = self.rt.timeout_at(until, first.as_mut()).await {
            return outcome;
        }
        loop {
            let now = self.rt.now();
            // The first connection may have come to somebody else meanwhile.
            if now >= deadline || patience().is_some_and(|patience| now - begun >= patience) {
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            }
            let other = self.rt.connect(endpoint.addr, deadline.min(now + pause));
            match race(first.as_mut(), other).await {
                First::One(outcome) => return outcome,
                First::Other(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
                    self.rows.of(self.worker).upstream_redials.add(1);
                }
                First::Other(outcome) => return outcome,
            }
            pause = pause.saturating_mul(2);
        }
    }

    /// Whether one more connection may be opened.
    fn has_room(&self, endpoint: usize) -> bool {
        let endpoint = &self.endpoints[endpoint];
        let open = endpoint.open.get();
        self.settings.conns_max.is_none_or(|max| open < max) && endpoint.window.borrow().has_room()
    }

    /// The first exchange of a connection is over.
    fn finish_first(&self, endpoint: usize) {
        let now = self.rt.now();
        self.endpoints[endpoint].window.borrow_mut().finish(now);
    }

    fn put_back(&self, conn: Conn, endpoint: usize) {
        let deadline = self.rt.now() + self.settings.idle_timeout;
        let key = conn.park(UPSTREAM_TAG | endpoint as u64, deadline);
        let evicted = {
            let mut idle = self.endpoints[endpoint].idle.borrow_mut();
            idle.push_back(key);
            let is_over = idle.len() > self.settings.idle_conns_max as usize;
            if is_over { idle.pop_front() } else { None }
        };
        if let Some(conn) = evicted.and_then(|key| self.rt.unpark(key)) {
            self.retire(conn, endpoint, Unparked::Expired);
        } else {
            self.queue.grant_next();
        }
    }
}

/// The tag of a parked connection that belongs to an endpoint.
pub(crate) const UPSTREAM_TAG: u64 = 1 << 63;

/// One request's wish for a connection.
#[derive(Debug)]
struct Wish {
    /// Its place among all, by the order of coming.
    number: u64,
    /// Attempts that stalled: its patience doubles with each, also when it waited meanwhile.
    stalls: u32,
}

impl Wish {
    fn new(number: u64) -> Self {
        Self { number, stalls: 0 }
    }
}

/// How a dial ended that did not fail.
enum Dialled {
    /// With a connection, so long after its last attempt began.
    Connected(Conn, Duration),
    /// Undecided: the backlog is full, and a connection that is in it will make room.
    Stalled,
}

/// Why there is no lease.
enum Missed {
    Stalled,
    Failed(AcquireError),
}

/// A connection counted against its endpoint, not made yet.
#[derive(Debug)]
struct Opening {
    upstream: Rc<Upstream>,
    endpoint: usize,
    is_done: bool,
}

impl Opening {
    fn begin(upstream: &Rc<Upstream>, endpoint: usize) -> Self {
        let counts = &upstream.endpoints[endpoint];
        counts.open.set(counts.open.get() + 1);
        counts.window.borrow_mut().begin();
        Self {
            upstream: Rc::clone(upstream),
            endpoint,
            is_done: false,
        }
    }

    fn into_lease(mut self, conn: Conn, took: Duration) -> Lease {
        self.is_done = true;
        let window = &self.upstream.endpoints[self.endpoint].window;
        window.borrow_mut().connect(took);
        let upstream = Rc::clone(&self.upstream);
        Lease {
            upstream,
            endpoint: self.endpoint,
            conn: Some(conn),
            reused: false,
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if !self.is_done {
            let endpoint = &self.upstream.endpoints[self.endpoint];
            endpoint.open.set(endpoint.open.get() - 1);
            endpoint.window.borrow_mut().give_up();
            self.upstream.queue.grant_next();
        }
    }
}

/// A connection to a backend, ours for one exchange. Dropping it closes the connection; [`Lease::put_back`] keeps it.
#[derive(Debug)]
pub struct Lease {
    upstream: Rc<Upstream>,
    endpoint: usize,
    conn: Option<Conn>,
    reused: bool,
}

impl Lease {
    /// The connection.
    ///
    /// # Panics
    /// Never: it leaves only with the lease.
    #[must_use]
    pub fn conn(&self) -> &Conn {
        self.conn
            .as_ref()
            .expect("the connection leaves only with the lease")
    }

    /// Which endpoint it leads to.
    #[must_use]
    pub fn endpoint(&self) -> usize {
        self.endpoint
    }

    /// Whether an earlier exchange used it: it may have died since, unnoticed.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Keeps the connection for a later exchange. Only for one that may be reused.
    pub fn put_back(mut self) {
        if let Some(conn) = self.conn.take() {
            if !self.reused {
                self.upstream.finish_first(self.endpoint);
            }
            self.upstream.put_back(conn, self.endpoint);
        }
    }

    /// Ends the connection with a reset: what the backend got is not whole.
    pub fn reset(mut self) {
        if let Some(conn) = self.conn.take() {
            conn.reset();
            self.make_room();
        }
    }

    /// The connection has ended: somebody else may open one.
    fn make_room(&self) {
        if !self.reused {
            self.upstream.finish_first(self.endpoint);
        }
        let open = &self.upstream.endpoints[self.endpoint].open;
        open.set(open.get() - 1);
        self.upstream.queue.grant_next();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            drop(conn);
            self.make_room();
        }
    }
}

/// Whether a connection attempt failed for want of something on our side, so that no other endpoint would do better.
fn is_ours(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    matches!(
        errno,
        Some(EMFILE | ENFILE | ENOBUFS | ENOMEM | EADDRNOTAVAIL)
    )
}

fn classify(error: &io::Error) -> AcquireError {
    if is_ours(error) {
        AcquireError::OutOfResources
    } else if error.kind() == io::ErrorKind::TimedOut {
        AcquireError::ConnectTimeout
    } else {
        AcquireError::Refused
    }
}

// errno(3), the same on every Linux but for the last two on MIPS and SPARC, where io_uring is not tried.
const ENOMEM: i32 = 12;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const EADDRNOTAVAIL: i32 = 99;
const ENOBUFS: i32 = 105;
