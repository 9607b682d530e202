//! One runtime's connections to one upstream: kept ones last in, first out; the oldest idle one goes when there are too many.
//!
//! Who may have what is the ledger's business; here it is done: connections are made, looked at, kept and closed.

use super::balance::Balancing;
use super::books::{Books, SharedLedger};
use super::dial::{Dialled, classify};
use super::endpoint::{Identity, Idle};
use super::lease::{Lease, Opening};
use super::ledger::{Keep, Ledger, Taken};
use super::lending::{Borrow, Lending};
use super::life::{Bounds, Life};
use super::mux::{self, Lanes};
use super::total::OpenTotal;
use super::window::HELD_BACK_MAX;
use super::wish::{Aim, Instead, Place, Wish};
use crate::counters::Rows;
use crate::live::Conns;
use hp_core::rt::lifecycle::{Table, enter};
use hp_core::rt::net::{Conn, Unparked};
use hp_core::rt::{Instant, Rt};
use hp_core::wire::http1::head::Version;
use std::cell::{Cell, OnceCell, RefCell};
use std::mem;
use std::rc::Rc;
use std::time::Duration;

/// One runtime's side of the backends.
#[derive(Debug)]
pub struct Upstream {
    pub(super) rt: Rt,
    pub(super) row: u32,
    pub(super) rows: Rows,
    pub(super) books: Books,
    /// Its number among the runtime's, below 2^31; it comes back with parked connections.
    id: u32,
    settings: Cell<Settings>,
    /// Whether balancing wants to know how long endpoints take.
    pub(super) times_answers: Cell<bool>,
    /// Where workers have ledgers of their own, and there are several.
    pub(super) lending: OnceCell<Lending>,
    /// Connections that requests share.
    pub(super) lanes: RefCell<Lanes>,
}

/// What may be done with the backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
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
    /// What each connection may have of time and uses.
    pub bounds: Bounds,
    /// Connections of all threads together, beyond which they keep none for later. Workers look at what idles.
    pub shared_conns_total: u32,
    /// Connections to each backend that are open before anybody asks.
    pub prewarm: u32,
    /// When siblings are asked for connections.
    pub borrow: Borrow,
    /// Whether, and how far, requests share connections.
    pub multiplex: Option<mux::Bounds>,
}

#[cfg(test)]
impl Settings {
    /// One idle connection, one that waits, and nothing special.
    pub(super) const OF_TESTS: Self = Self {
        idle_conns_max: 1,
        queue_len_max: 1,
        connect_timeout: Duration::from_secs(3),
        idle_timeout: Duration::from_secs(60),
        queue_timeout: Duration::from_secs(1),
        bounds: Bounds {
            age_max: None,
            uses_max: 0,
        },
        shared_conns_total: u32::MAX,
        prewarm: 0,
        borrow: Borrow::Never,
        multiplex: None,
    };
}

/// Why a request gets no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcquireError {
    /// Every backend has as many connections as it may have, and none became free in time.
    QueueTimeout,
    /// As many requests wait already as may wait.
    QueueFull,
    /// There is no backend: none is in service, or none of their names has an address.
    NoEndpoint,
    /// No backend could be connected to; the last one refused.
    Refused,
    /// No backend could be connected to; the last one did not answer in time.
    ConnectTimeout,
    /// Every backend that could be connected to said something before it was asked.
    SpokeFirst,
    /// This process is out of descriptors, ports or memory.
    OutOfResources,
}

impl Upstream {
    /// The backends as one worker sees them; nothing is connected yet. There is at least one endpoint, and `balancing` has a member
    /// for each; `conns_max` connections to each, at least 1, `None`: no limit. `id` is the upstream's number among the runtime's,
    /// below 2^31; `row` is the number of the worker and of its row.
    #[must_use]
    pub fn own(
        rt: &Rt,
        (balancing, endpoints, conns_max): (&Balancing, &[Identity], Option<u32>),
        (settings, id): (Settings, u32),
        (rows, row): (Rows, u32),
    ) -> Rc<Self> {
        let ledger = Ledger::new(balancing, endpoints, conns_max, row as usize);
        let books = Books::Own(Box::new(RefCell::new(ledger)));
        Self::with(rt, books, (settings, id), (rows, row))
    }

    /// The backends as one of the threads sees them that share a ledger.
    #[must_use]
    pub fn sharing(
        rt: &Rt,
        ledger: SharedLedger,
        settings: Settings,
        (rows, row): (Rows, u32),
    ) -> Rc<Self> {
        Self::with(rt, Books::Shared(ledger), (settings, 0), (rows, row)) // It parks nothing.
    }

    fn with(
        rt: &Rt,
        books: Books,
        (settings, id): (Settings, u32),
        (rows, row): (Rows, u32),
    ) -> Rc<Self> {
        Rc::new(Self {
            rt: rt.clone(),
            row,
            rows,
            id,
            times_answers: Cell::new(books.with(|ledger| ledger.times_answers())),
            books,
            settings: Cell::new(settings),
            lending: OnceCell::new(),
            lanes: RefCell::default(),
        })
    }

    /// Makes a worker's own upstream what another plan says. Endpoints that stay keep their connections and what is known of them; of
    /// those that go, what idles is closed, and what is in use is closed after its exchange.
    pub fn renew(
        &self,
        balancing: &Balancing,
        endpoints: &[Identity],
        conns_max: Option<u32>,
        settings: Settings,
    ) {
        self.settings.set(settings);
        let (was, is, closed) = self.books.with(|ledger| {
            let next = (balancing, endpoints, conns_max);
            let was = ledger.hashes();
            let closed = ledger.renew(next, self.row as usize, self.rt.now());
            self.times_answers.set(ledger.times_answers());
            (was, ledger.hashes(), closed)
        });
        let slots = was.iter().zip(&is).enumerate();
        let others = slots.filter(|(_, (was, is))| was != is);
        others.for_each(|(slot, _)| self.lanes.borrow_mut().forget_past(slot));
        self.close_all(closed);
    }

    /// Closes what idles, and lets nothing idle any more; requests that have begun are still served. For an upstream that is gone.
    pub fn close_idle(&self) {
        let closed = self.books.with(Ledger::close_idle);
        self.close_all(closed);
    }

    fn close_all(&self, closed: Vec<(usize, Idle)>) {
        for (endpoint, idle) in closed {
            // One that came back by itself is retired by whoever waits for those.
            if let Idle::Parked(key, _) = idle
                && let Some(conn) = self.rt.unpark(key)
            {
                drop(conn);
                self.books.with(|ledger| ledger.close(endpoint));
            }
        }
    }

    /// What may be done with the backends now.
    #[inline]
    pub(super) fn settings(&self) -> Settings {
        self.settings.get()
    }

    /// Which endpoint it is, by its slot; see [`Identity::hash`].
    #[must_use]
    pub fn endpoint_hash(&self, endpoint: usize) -> Option<u64> {
        self.books.with(|ledger| ledger.hash(endpoint))
    }

    /// Connections by endpoint, those included of endpoints that are gone and finish what they carry.
    #[must_use]
    pub fn conns(&self) -> Vec<(String, Conns)> {
        self.books.with(|ledger| ledger.conns())
    }

    /// Does something with who an endpoint is, by its slot.
    pub fn with_identity_of(&self, endpoint: usize, act: impl FnOnce(&Identity)) {
        self.books.with(|ledger| ledger.identity(endpoint).map(act));
    }

    /// Does something with what an endpoint is called, by its slot.
    pub fn with_name_of(&self, endpoint: usize, act: impl FnOnce(&str)) {
        self.books.with(|ledger| act(ledger.name(endpoint)));
    }

    /// A kept connection of the endpoint whose turn it is, without waiting: the common case. `None` when it has none, or when
    /// others wait already.
    #[must_use]
    pub fn take_kept(self: &Rc<Self>, aim: Aim) -> Option<Lease> {
        let now = self.rt.now();
        let (endpoint, mut idle) = self.books.with(|ledger| ledger.take_kept(aim, now))?;
        loop {
            if let Some(kept) = self.revive(endpoint, idle) {
                // Only a turn that was used is over.
                self.books.with(|ledger| ledger.commit(endpoint, now));
                return Some(self.reuse(endpoint, kept));
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
        if self.books.with(|ledger| ledger.has_nobody()) {
            return Err(AcquireError::NoEndpoint);
        }
        if self.books.with(|ledger| ledger.waiting()) >= self.settings().queue_len_max as usize {
            return Err(AcquireError::QueueFull);
        }
        enter(Table::Exchange, "Choosing", "backend leaves or fails");
        self.rows.of(self.row).queued.add(1);
        let deadline = self.rt.now() + self.settings().queue_timeout;
        loop {
            let place = Place::enter(&self.books, wish.number);
            self.ask_siblings();
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
        wish.instead = Instead::Fresh; // A kept one may be as dead, and the request is sent twice at most.
        let mut opening = Opening::instead_of(dead);
        loop {
            // It has waited in the queue once; so it dials on, until its doubled patience is the timeout itself.
            match self.connect_from(opening, &mut wish).await {
                Ok(lease) => return Ok(lease),
                Err(Missed::Stalled(stalled)) => opening = stalled,
                Err(Missed::Busy(error) | Missed::Failed(error)) => return Err(error),
            }
        }
    }

    /// A parked backend connection came back: it is of no use, whether it has news or is too old.
    pub fn retire(&self, conn: Conn, endpoint: usize, _why: Unparked) {
        if self.books.with(|ledger| ledger.forget(endpoint, &conn)) {
            drop(conn);
            self.books.with(|ledger| ledger.close(endpoint));
        }
    }

    /// Connections to all backends, in use or idle.
    #[must_use]
    pub fn open_conns(&self) -> u32 {
        self.books.with(|ledger| ledger.open())
    }

    /// Waits for the grant. Whoever waits for long also looks after windows, which may hold it back for nothing.
    pub(super) async fn wait(
        &self,
        place: &Place<'_>,
        deadline: Instant,
    ) -> Result<(), AcquireError> {
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
        let mut may_ask = self.settings().borrow == Borrow::BeforeDial;
        // Ends: an idle connection that proved dead is gone, and where a dial stalled, or failed in vain, there is no room.
        while let Some(endpoint) = self.choose(wish.aim) {
            if mem::take(&mut may_ask) && !Box::pin(self.ask_before_dial(endpoint)).await {
                continue; // A plan has followed meanwhile.
            }
            let opening = match self.take(endpoint) {
                Found::Kept(lease) => {
                    self.books.with(Ledger::pass_on);
                    return Ok(Some(lease));
                }
                Found::Room(opening) => opening,
                Found::Nothing => continue, // An idle connection came back by itself, and counts until it is retired.
            };
            self.books.with(Ledger::pass_on);
            match self.connect_from(opening, wish).await {
                Ok(lease) => return Ok(Some(lease)),
                Err(Missed::Stalled(_) | Missed::Busy(_)) => (),
                Err(Missed::Failed(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    fn choose(&self, aim: Aim) -> Option<usize> {
        let now = self.rt.now();
        self.books.with(|ledger| ledger.choose(aim, now))
    }

    /// What an endpoint has.
    fn take(self: &Rc<Self>, endpoint: usize) -> Found {
        self.take_by(endpoint, Ledger::take)
    }

    fn take_by(self: &Rc<Self>, endpoint: usize, take: fn(&mut Ledger, usize) -> Taken) -> Found {
        loop {
            match self.books.with(|ledger| take(ledger, endpoint)) {
                Taken::Idle(idle) => {
                    if let Some(kept) = self.revive(endpoint, idle) {
                        return Found::Kept(self.reuse(endpoint, kept));
                    }
                }
                Taken::Room => return Found::Room(Opening::of(self, endpoint)),
                Taken::Nothing => return Found::Nothing,
            }
        }
    }

    /// An idle connection as one of this runtime, if it is still alive.
    pub(super) fn revive(&self, endpoint: usize, idle: Idle) -> Option<(Conn, Life)> {
        let (released, life) = match idle {
            // One that came back by itself is retired by whoever waits for those; its place is counted there.
            Idle::Parked(key, life) => return self.rt.unpark(key).map(|conn| (conn, life)),
            Idle::Loose(released, _until, life) => (released, life),
        };
        let adopted = if released.has_news() {
            None
        } else {
            self.rt.adopt_released(released).ok()
        };
        if adopted.is_none() {
            self.books.with(|ledger| ledger.close(endpoint));
        }
        adopted.map(|conn| (conn, life))
    }

    fn reuse(self: &Rc<Self>, endpoint: usize, kept: (Conn, Life)) -> Lease {
        self.rows.of(self.row).upstream_reuses.add(1);
        Lease::of_kept(self, endpoint, kept)
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
            let failed = match self.dial(opening.endpoint, wish).await {
                // What is there already is no answer, though it would be taken for one. RFC 9112 §9.2.
                Ok(Dialled::Connected(conn, _)) if conn.arrived() > 0 => AcquireError::SpokeFirst,
                Ok(Dialled::Connected(conn, took)) => {
                    row.upstream_connects.add(1);
                    return Ok(opening.into_lease(conn, took));
                }
                Ok(Dialled::Stalled) => return Err(Missed::Stalled(opening)),
                Err(error) => classify(&error),
            };
            enter(Table::Exchange, "Connecting", "backend leaves or fails");
            row.upstream_connect_errors.add(1);
            if failed == AcquireError::OutOfResources {
                return Err(Missed::Failed(failed)); // No other endpoint would do better.
            }
            tried.push(opening.endpoint);
            match self.take_instead(&mut tried, wish.instead) {
                Found::Kept(lease) => return Ok(lease),
                Found::Room(next) => opening = next,
                Found::Nothing => {
                    let now = self.rt.now();
                    let waits = self
                        .books
                        .with(|ledger| ledger.wait_instead_of(&tried, now));
                    return Err(if waits {
                        Missed::Busy(failed)
                    } else {
                        Missed::Failed(failed)
                    });
                }
            }
        }
    }

    /// What an endpoint has that was not tried yet. An endpoint with as many connections as it may have is no worse for that: one of them may idle.
    #[cold]
    fn take_instead(self: &Rc<Self>, tried: &mut Vec<usize>, instead: Instead) -> Found {
        let next = |tried: &[usize]| self.books.with(|ledger| ledger.instead_of(tried, instead));
        while let Some(endpoint) = next(tried) {
            let take = match instead {
                Instead::Any => Ledger::take,
                Instead::Fresh => Ledger::take_room,
            };
            match self.take_by(endpoint, take) {
                Found::Nothing => tried.push(endpoint), // What it had is another's by now.
                found => return found,
            }
        }
        Found::Nothing
    }

    /// Counts its connections together with those of others. Before the first one.
    pub fn count_in(&self, total: &OpenTotal) {
        self.books.with(|ledger| ledger.count_in(total));
    }

    /// Since when the connection idles that has idled for the longest time.
    pub(crate) fn oldest_idle(&self) -> Option<Instant> {
        let oldest = self.books.with(|ledger| ledger.oldest_idle());
        oldest.map(|(since, _)| since)
    }

    /// Connections that idle.
    pub(crate) fn idle_conns(&self) -> usize {
        self.books.with(|ledger| ledger.idle_conns())
    }

    /// Ends the connection that has idled for the longest time.
    pub(crate) fn evict_oldest(&self) {
        if let Some((endpoint, idle)) = self.books.with(Ledger::take_oldest) {
            self.rows.of(self.row).upstream_evicted.add(1);
            self.let_go(endpoint, idle);
        }
    }

    /// A connection has had all its uses or all its time.
    #[cold]
    pub(super) fn count_retired(&self) {
        self.rows.of(self.row).upstream_retired.add(1);
    }

    /// The first exchange of a connection is over.
    pub(super) fn finish_first(&self, endpoint: usize) {
        self.books.with(|ledger| ledger.finish_first(endpoint));
    }

    /// Keeps a connection whose exchange is over; `version` is what the endpoint answered in.
    pub(super) fn put_back(
        &self,
        (conn, life): (Conn, Life),
        endpoint: usize,
        version: Option<Version>,
    ) {
        let settings = self.settings();
        let mut bound = Keep {
            idle_max: settings.idle_conns_max,
            open_total: u32::MAX, // A worker counts what idles, and looks at all its upstreams.
        };
        // One that came from a sibling has idled there.
        let deadline = life.ends_at.min(life.idle_since + settings.idle_timeout);
        let idle = match &self.books {
            Books::Own(_) => Idle::Parked(conn.park(tag(self.id, endpoint), deadline), life),
            Books::Shared(_) => match conn.release() {
                Ok(released) => {
                    bound.open_total = settings.shared_conns_total;
                    Idle::Loose(released, deadline, life)
                }
                Err(conn) => {
                    drop(conn); // It has something to say that nobody asked for.
                    return self.books.with(|ledger| {
                        ledger.note_version(endpoint, version);
                        ledger.close(endpoint);
                    });
                }
            },
        };
        let surplus = self
            .books
            .with(|ledger| ledger.put_back((endpoint, version), idle, bound));
        if let Some(surplus) = surplus {
            self.rows.of(self.row).upstream_evicted.add(1);
            self.let_go(endpoint, surplus);
        }
    }

    /// Ends a connection that was taken out of those that idle; it is still counted.
    fn let_go(&self, endpoint: usize, idle: Idle) {
        match idle {
            Idle::Parked(key, _) => match self.rt.unpark(key) {
                Some(conn) => self.retire(conn, endpoint, Unparked::Expired),
                None => self.books.with(Ledger::grant_next), // It came back by itself.
            },
            Idle::Loose(released, ..) => {
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

/// What an endpoint has for a request.
enum Found {
    Kept(Lease),
    Room(Opening),
    Nothing,
}

/// Why there is no lease.
enum Missed {
    /// The connection still counts as one that is being made.
    Stalled(Opening),
    /// Whoever was asked failed, and will not be asked for a while. The others are worth waiting for.
    Busy(AcquireError),
    Failed(AcquireError),
}
