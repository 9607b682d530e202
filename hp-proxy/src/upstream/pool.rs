//! One runtime's connections to one upstream: kept ones last in, first out; the oldest idle one goes when there are too many.
//!
//! Who may have what is the ledger's business; here it is done: connections are made, looked at, kept and closed.

use super::balance::{Ask, Balancing};
use super::dial::{Dialled, classify, is_ours};
use super::ledger::{Books, Idle, Ledger, SharedLedger, Taken};
use super::window::HELD_BACK_MAX;
use crate::counters::Rows;
use hp_core::rt::lifecycle::{Table, enter};
use hp_core::rt::net::{Address, Conn, Unparked};
use hp_core::rt::{Instant, Rt};
use hp_core::wire::http1::head::Version;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// One runtime's side of the backends.
#[derive(Debug)]
pub struct Upstream {
    pub(super) rt: Rt,
    pub(super) row: u32,
    pub(super) rows: Rows,
    pub(super) addrs: Vec<Address>,
    pub(super) books: Books,
    pub(super) settings: Settings,
    /// By endpoint: what this runtime last heard of it was HTTP/1.0.
    speaks_http10: Vec<Cell<bool>>,
    /// Whether balancing wants to know how long endpoints take.
    times_answers: bool,
}

/// What may be done with the backends.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The upstream's number, below 2^31; it comes back with parked connections.
    pub index: u32,
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
    /// The backends as one worker sees them; nothing is connected yet. `addrs` has at least one address, and `balancing` a member
    /// for each; `conns_max` connections to each, at least 1, `None`: no limit. `row` is the number of the worker and of its row.
    #[must_use]
    pub fn own(
        rt: &Rt,
        addrs: Vec<Address>,
        (balancing, conns_max): (&Balancing, Option<u32>),
        settings: Settings,
        (rows, row): (Rows, u32),
    ) -> Rc<Self> {
        let ledger = Ledger::new(balancing, conns_max, row as usize);
        let books = Books::Own(Box::new(RefCell::new(ledger)));
        Self::with(rt, addrs, books, settings, (rows, row))
    }

    /// The backends as one of the threads sees them that share a ledger.
    #[must_use]
    pub fn sharing(
        rt: &Rt,
        addrs: Vec<Address>,
        ledger: SharedLedger,
        settings: Settings,
        (rows, row): (Rows, u32),
    ) -> Rc<Self> {
        Self::with(rt, addrs, Books::Shared(ledger), settings, (rows, row))
    }

    fn with(
        rt: &Rt,
        addrs: Vec<Address>,
        books: Books,
        settings: Settings,
        (rows, row): (Rows, u32),
    ) -> Rc<Self> {
        let speaks_http10 = addrs.iter().map(|_| Cell::new(false)).collect();
        Rc::new(Self {
            rt: rt.clone(),
            row,
            rows,
            addrs,
            speaks_http10,
            times_answers: books.with(|ledger| ledger.times_answers()),
            books,
            settings,
        })
    }

    /// A kept connection of the endpoint whose turn it is, without waiting: the common case. `None` when it has none, or when
    /// others wait already.
    #[must_use]
    pub fn take_kept(self: &Rc<Self>, aim: Aim) -> Option<Lease> {
        let ask = self.ask(aim);
        let (endpoint, mut idle) = self.books.with(|ledger| ledger.take_kept(ask))?;
        loop {
            if let Some(conn) = self.revive(endpoint, idle) {
                // Only a turn that was used is over.
                self.books.with(|ledger| ledger.commit(endpoint, ask.now));
                return Some(self.reuse(endpoint, conn));
            }
            idle = self.books.with(|ledger| ledger.take_idle(endpoint))?;
        }
    }

    /// A kept connection where there is one, else a new one, else a place in the queue.
    ///
    /// # Errors
    /// [`AcquireError`].
    pub async fn acquire(self: &Rc<Self>, aim: Aim) -> Result<Lease, AcquireError> {
        let (number, waiting) = self
            .books
            .with(|ledger| (ledger.number(), ledger.waiting()));
        let mut wish = Wish::new(number, aim);
        if waiting == 0
            && let Some(lease) = self.take_turn(&mut wish).await?
        {
            return Ok(lease);
        }
        if self.books.with(|ledger| ledger.waiting()) >= self.settings.queue_len_max as usize {
            return Err(AcquireError::QueueFull);
        }
        enter(Table::Exchange, "Choosing", "backend leaves or fails");
        self.rows.of(self.row).queued.add(1);
        let deadline = self.rt.now() + self.settings.queue_timeout;
        loop {
            let place = Place::enter(&self.books, wish.number);
            self.wait(&place, deadline).await?;
            place.spend();
            if let Some(lease) = self.take_turn(&mut wish).await? {
                return Ok(lease);
            }
        }
    }

    /// A new connection to the same endpoint, for a request whose kept one has died; it takes that one's place.
    ///
    /// # Errors
    /// [`AcquireError`].
    pub async fn acquire_fresh(self: &Rc<Self>, dead: Lease) -> Result<Lease, AcquireError> {
        let mut wish = Wish::new(self.books.with(Ledger::number), Aim::default());
        let mut opening = Opening::instead_of(dead);
        loop {
            // It has waited in the queue once; so it dials on, until its doubled patience is the timeout itself.
            match self.connect_from(opening, &mut wish).await {
                Ok(lease) => return Ok(lease),
                Err(Missed::Stalled(stalled)) => opening = stalled,
                Err(Missed::Failed(error)) => return Err(error),
            }
        }
    }

    /// A parked backend connection came back: it is of no use, whether it has news or is too old.
    pub fn retire(&self, conn: Conn, endpoint: usize, _why: Unparked) {
        if endpoint < self.addrs.len() {
            self.books.with(|ledger| ledger.forget(endpoint, &conn));
            drop(conn);
            self.books.with(|ledger| ledger.close(endpoint));
        }
    }

    /// Connections to all backends, in use or idle.
    #[must_use]
    pub fn open_conns(&self) -> u32 {
        self.books.with(|ledger| ledger.open())
    }

    /// Waits for the grant. Whoever waits for long also looks after windows in which nothing moves.
    async fn wait(&self, place: &Place<'_>, deadline: Instant) -> Result<(), AcquireError> {
        loop {
            let until = if self.books.with(|ledger| ledger.is_limited()) {
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
            self.books.with(|ledger| ledger.widen(now));
        }
    }

    /// A connection of any endpoint that has one or has room for one; `None` when the request has to wait.
    async fn take_turn(self: &Rc<Self>, wish: &mut Wish) -> Result<Option<Lease>, AcquireError> {
        // Ends: an idle connection that proved dead is gone, and where a dial stalled there is no room.
        while let Some(endpoint) = self.choose(wish.aim) {
            let opening = match self.take(endpoint) {
                Found::Kept(conn) => {
                    self.books.with(Ledger::pass_on);
                    return Ok(Some(self.reuse(endpoint, conn)));
                }
                Found::Room(opening) => opening,
                Found::Nothing => continue, // An idle connection came back by itself, and counts until it is retired.
            };
            self.books.with(Ledger::pass_on);
            match self.connect_from(opening, wish).await {
                Ok(lease) => return Ok(Some(lease)),
                Err(Missed::Stalled(_given_up)) => (),
                Err(Missed::Failed(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    fn choose(&self, aim: Aim) -> Option<usize> {
        let ask = self.ask(aim);
        self.books.with(|ledger| ledger.choose(ask))
    }

    fn ask(&self, aim: Aim) -> Ask {
        let Aim { key, stuck_to } = aim;
        Ask {
            now: self.rt.now(),
            key,
            stuck_to,
        }
    }

    /// What an endpoint has.
    fn take(self: &Rc<Self>, endpoint: usize) -> Found {
        loop {
            match self.books.with(|ledger| ledger.take(endpoint)) {
                Taken::Idle(idle) => {
                    if let Some(conn) = self.revive(endpoint, idle) {
                        return Found::Kept(conn);
                    }
                }
                Taken::Room => return Found::Room(Opening::of(self, endpoint)),
                Taken::Nothing => return Found::Nothing,
            }
        }
    }

    /// An idle connection as one of this runtime, if it is still alive.
    fn revive(&self, endpoint: usize, idle: Idle) -> Option<Conn> {
        let released = match idle {
            // One that came back by itself is retired by whoever waits for those; its place is counted there.
            Idle::Parked(key) => return self.rt.unpark(key),
            Idle::Loose(released, _until) => released,
        };
        let adopted = if released.has_news() {
            None
        } else {
            self.rt.adopt_released(released).ok()
        };
        if adopted.is_none() {
            self.books.with(|ledger| ledger.close(endpoint));
        }
        adopted
    }

    fn reuse(self: &Rc<Self>, endpoint: usize, conn: Conn) -> Lease {
        self.rows.of(self.row).upstream_reuses.add(1);
        Lease {
            upstream: Rc::clone(self),
            endpoint,
            conn: Some(conn),
            reused: true,
            since: self.rt.now(),
        }
    }

    /// Connects to an endpoint; where that fails, to the others in their order, for nothing was sent yet.
    async fn connect_from(
        self: &Rc<Self>,
        first: Opening,
        wish: &mut Wish,
    ) -> Result<Lease, Missed> {
        let row = self.rows.of(self.row);
        let mut opening = first;
        let mut tried = Vec::new();
        loop {
            let error = match self.dial(opening.endpoint, wish).await {
                Ok(Dialled::Connected(conn, took)) => {
                    row.upstream_connects.add(1);
                    return Ok(opening.into_lease(conn, took));
                }
                Ok(Dialled::Stalled) => return Err(Missed::Stalled(opening)),
                Err(error) => error,
            };
            enter(Table::Exchange, "Connecting", "backend leaves or fails");
            row.upstream_connect_errors.add(1);
            if is_ours(&error) {
                return Err(Missed::Failed(classify(&error)));
            }
            tried.push(opening.endpoint);
            let next = self.books.with(|ledger| ledger.begin_instead_of(&tried));
            let Some(endpoint) = next else {
                return Err(Missed::Failed(classify(&error)));
            };
            opening = Opening::of(self, endpoint);
        }
    }

    /// The first exchange of a connection is over.
    fn finish_first(&self, endpoint: usize) {
        let now = self.rt.now();
        self.books.with(|ledger| ledger.finish_first(endpoint, now));
    }

    fn put_back(&self, conn: Conn, endpoint: usize) {
        let deadline = self.rt.now() + self.settings.idle_timeout;
        let idle = match &self.books {
            Books::Own(_) => Idle::Parked(conn.park(tag(self.settings.index, endpoint), deadline)),
            Books::Shared(_) => match conn.release() {
                Ok(released) => Idle::Loose(released, deadline),
                Err(conn) => {
                    drop(conn); // It has something to say that nobody asked for.
                    return self.books.with(|ledger| ledger.close(endpoint));
                }
            },
        };
        let max = self.settings.idle_conns_max;
        match self
            .books
            .with(|ledger| ledger.put_back(endpoint, idle, max))
        {
            None => (),
            Some(Idle::Parked(key)) => match self.rt.unpark(key) {
                Some(conn) => self.retire(conn, endpoint, Unparked::Expired),
                None => self.books.with(Ledger::grant_next), // It came back by itself.
            },
            Some(Idle::Loose(released, _until)) => {
                drop(released);
                self.books.with(|ledger| ledger.close(endpoint));
            }
        }
    }
}

/// The tag of a parked connection that belongs to an endpoint of an upstream.
fn tag(upstream: u32, endpoint: usize) -> u64 {
    UPSTREAM_TAG | u64::from(upstream) << u32::BITS | endpoint as u64
}

/// The upstream and the endpoint that a parked connection belongs to; `None` for a client's.
pub(crate) fn of_tag(tag: u64) -> Option<(u32, usize)> {
    let place = tag.checked_sub(UPSTREAM_TAG)?;
    let endpoint = usize::try_from(place & u64::from(u32::MAX)).ok()?;
    Some((u32::try_from(place >> u32::BITS).ok()?, endpoint))
}

/// Marks the tags of connections to upstreams; those of clients are smaller.
const UPSTREAM_TAG: u64 = 1 << 63;

/// Where a request should go, if it matters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Aim {
    /// What it is hashed by, where the upstream's method wants it.
    pub key: Option<u64>,
    /// The endpoint that its client is bound to.
    pub stuck_to: Option<usize>,
}

/// One request's wish for a connection.
#[derive(Debug)]
pub(super) struct Wish {
    aim: Aim,
    /// Its place among all, by the order of coming.
    number: u64,
    /// Attempts that stalled: its patience doubles with each, also when it waited meanwhile.
    pub(super) stalls: u32,
}

impl Wish {
    fn new(number: u64, aim: Aim) -> Self {
        Self {
            aim,
            number,
            stalls: 0,
        }
    }
}

/// A request's place in the queue. Dropped after it was granted and before it was used, it passes the grant on.
#[derive(Debug)]
struct Place<'a> {
    books: &'a Books,
    number: u64,
}

impl<'a> Place<'a> {
    fn enter(books: &'a Books, number: u64) -> Self {
        books.with(|ledger| ledger.enter(number));
        Self { books, number }
    }

    /// Waits for the grant.
    fn granted(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|cx| {
            let is_granted =
                |ledger: &mut Ledger| ledger.is_granted_or_waits(self.number, cx.waker());
            if self.books.with(is_granted) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
    }

    /// The grant is used: dropping the place passes nothing on.
    fn spend(self) {
        self.books.with(|ledger| ledger.spend(self.number));
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.books.with(|ledger| ledger.leave(self.number));
    }
}

/// What an endpoint has for a request.
enum Found {
    Kept(Conn),
    Room(Opening),
    Nothing,
}

/// Why there is no lease.
enum Missed {
    /// The connection still counts as one that is being made.
    Stalled(Opening),
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
    /// One that the ledger has counted.
    fn of(upstream: &Rc<Upstream>, endpoint: usize) -> Self {
        Self {
            upstream: Rc::clone(upstream),
            endpoint,
            is_done: false,
        }
    }

    /// One that counts in the place of a lease, whose connection is closed.
    fn instead_of(mut lease: Lease) -> Self {
        debug_assert!(lease.reused, "a first exchange is finished, not replaced");
        drop(lease.conn.take());
        let upstream = &lease.upstream;
        upstream
            .books
            .with(|ledger| ledger.begin_instead(lease.endpoint));
        Self::of(upstream, lease.endpoint)
    }

    fn into_lease(mut self, conn: Conn, took: Duration) -> Lease {
        self.is_done = true;
        let books = &self.upstream.books;
        books.with(|ledger| ledger.connect(self.endpoint, took));
        Lease {
            upstream: Rc::clone(&self.upstream),
            endpoint: self.endpoint,
            conn: Some(conn),
            reused: false,
            since: self.upstream.rt.now(),
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if !self.is_done {
            let books = &self.upstream.books;
            books.with(|ledger| ledger.give_up(self.endpoint));
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
    since: Instant,
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

    /// The endpoint's place in its upstream.
    #[must_use]
    pub fn endpoint(&self) -> usize {
        self.endpoint
    }

    /// Whether an earlier exchange used it: it may have died since, unnoticed.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// The head of the endpoint's answer has come: that is how long it takes to answer.
    #[inline]
    pub fn note_head(&self) {
        if self.upstream.times_answers {
            let now = self.upstream.rt.now();
            let books = &self.upstream.books;
            books.with(|ledger| ledger.observe(self.endpoint, now, now - self.since));
        }
    }

    /// Remembers in which version the endpoint answered.
    pub fn note_version(&self, version: Version) {
        self.upstream.speaks_http10[self.endpoint].set(version == Version::Http10);
    }

    /// Whether the endpoint last answered in HTTP/1.0, so that it must not be sent chunks. Before it has answered, naming it as a
    /// backend says that it speaks HTTP/1.1. RFC 9112 §6.1.
    #[must_use]
    pub fn speaks_http10(&self) -> bool {
        self.upstream.speaks_http10[self.endpoint].get()
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
        let books = &self.upstream.books;
        books.with(|ledger| ledger.close(self.endpoint));
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
