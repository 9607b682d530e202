//! One worker's connections to all backends: kept ones last in, first out; the oldest idle one goes when there are too many.
//!
//! Per endpoint: `idle <= open <= conns_max`, where `open` counts connecting, leased and idle connections.

use super::balance::round_robin::RoundRobin;
use super::queue::{Place, Queue};
use crate::counters::Rows;
use hp_core::rt::Rt;
use hp_core::rt::net::{Conn, ParkKey, Unparked};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
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
    /// For one connection attempt.
    pub connect_timeout: Duration,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// How long a request waits.
    pub queue_timeout: Duration,
}

#[derive(Debug)]
struct Endpoint {
    addr: SocketAddr,
    open: Cell<u32>,
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

    /// A kept connection where there is one, else a new one, else a place in the queue.
    ///
    /// # Errors
    /// [`AcquireError`].
    pub async fn acquire(self: &Rc<Self>) -> Result<Lease, AcquireError> {
        if self.queue.len() == 0
            && let Some(chosen) = self.choose()
        {
            return self.take_or_connect(chosen, None).await;
        }
        if self.queue.len() >= self.settings.queue_len_max as usize {
            return Err(AcquireError::QueueFull);
        }
        let row = self.rows.of(self.worker);
        row.queued.add(1);
        let deadline = self.rt.now() + self.settings.queue_timeout;
        loop {
            let place = self.queue.enter();
            let granted = self.rt.timeout_at(deadline, place.granted()).await;
            if granted.is_err() {
                return Err(AcquireError::QueueTimeout);
            }
            if let Some(chosen) = self.choose() {
                return self.take_or_connect(chosen, Some(place)).await;
            }
            place.spend(); // What was free went with its connection; the next one will do.
        }
    }

    /// A new connection to the same endpoint, for a request whose kept one had died.
    ///
    /// # Errors
    /// [`AcquireError`].
    pub async fn acquire_fresh(self: &Rc<Self>, endpoint: usize) -> Result<Lease, AcquireError> {
        let opening = Opening::begin(self, endpoint);
        self.connect_from(opening).await
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

    /// The endpoint whose turn it is, or the next one that can take a request now.
    fn choose(&self) -> Option<usize> {
        let count = self.endpoints.len();
        let first = self.turn.borrow_mut().pick(count);
        (first..first + count)
            .map(|position| position % count)
            .find(|endpoint| {
                let endpoint = &self.endpoints[*endpoint];
                let has_room = self
                    .settings
                    .conns_max
                    .is_none_or(|max| endpoint.open.get() < max);
                has_room || !endpoint.idle.borrow().is_empty()
            })
    }

    async fn take_or_connect(
        self: &Rc<Self>,
        endpoint: usize,
        place: Option<Place<'_>>,
    ) -> Result<Lease, AcquireError> {
        if let Some(place) = place {
            place.spend();
        }
        if let Some(conn) = self.take_idle(endpoint) {
            self.rows.of(self.worker).upstream_reuses.add(1);
            return Ok(Lease {
                upstream: Rc::clone(self),
                endpoint,
                conn: Some(conn),
                reused: true,
            });
        }
        self.connect_from(Opening::begin(self, endpoint)).await
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
    async fn connect_from(self: &Rc<Self>, first: Opening) -> Result<Lease, AcquireError> {
        let row = self.rows.of(self.worker);
        let count = self.endpoints.len();
        let mut opening = first;
        let mut tried = 1;
        loop {
            let deadline = self.rt.now() + self.settings.connect_timeout;
            let addr = self.endpoints[opening.endpoint].addr;
            let error = match self.rt.connect(addr, deadline).await {
                Ok(conn) => {
                    row.upstream_connects.add(1);
                    return Ok(opening.into_lease(conn));
                }
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
                _ => return Err(classify(&error)),
            }
        }
    }

    fn has_room(&self, endpoint: usize) -> bool {
        let open = self.endpoints[endpoint].open.get();
        self.settings.conns_max.is_none_or(|max| open < max)
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

/// A connection counted against its endpoint, not made yet.
#[derive(Debug)]
struct Opening {
    upstream: Rc<Upstream>,
    endpoint: usize,
    is_done: bool,
}

impl Opening {
    fn begin(upstream: &Rc<Upstream>, endpoint: usize) -> Self {
        let open = &upstream.endpoints[endpoint].open;
        open.set(open.get() + 1);
        Self {
            upstream: Rc::clone(upstream),
            endpoint,
            is_done: false,
        }
    }

    fn into_lease(mut self, conn: Conn) -> Lease {
        self.is_done = true;
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
            let open = &self.upstream.endpoints[self.endpoint].open;
            open.set(open.get() - 1);
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
            self.upstream.put_back(conn, self.endpoint);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            drop(conn);
            let open = &self.upstream.endpoints[self.endpoint].open;
            open.set(open.get() - 1);
            self.upstream.queue.grant_next();
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
