//! A connection on its way to an exchange, and in its hands: counted against its endpoint until it is dropped.

use super::life::Life;
use super::mux::LaneLimit;
use super::pool::Upstream;
use hp_core::rt::Instant;
use hp_core::rt::net::Conn;
use hp_core::wire::http1::head::Version;
use std::rc::Rc;
use std::time::Duration;

/// A connection counted against its endpoint, not made yet.
#[derive(Debug)]
pub(super) struct Opening {
    upstream: Rc<Upstream>,
    pub(super) endpoint: usize,
    is_done: bool,
}

impl Opening {
    /// One that the ledger has counted.
    pub(super) fn of(upstream: &Rc<Upstream>, endpoint: usize) -> Self {
        Self {
            upstream: Rc::clone(upstream),
            endpoint,
            is_done: false,
        }
    }

    /// One that counts in the place of a lease, whose connection is closed.
    pub(super) fn instead_of(mut lease: Lease) -> Self {
        debug_assert!(lease.reused, "a first exchange is finished, not replaced");
        drop(lease.conn.take());
        let upstream = &lease.upstream;
        upstream
            .books
            .with(|ledger| ledger.begin_instead(lease.endpoint));
        Self::of(upstream, lease.endpoint)
    }

    pub(super) fn into_lease(mut self, conn: Conn, took: Duration) -> Lease {
        self.is_done = true;
        let now = self.upstream.rt.now();
        let bounds = self.upstream.settings().bounds;
        let books = &self.upstream.books;
        let life = books.with(|ledger| ledger.connect(self.endpoint, took, (&bounds, now)));
        Lease {
            upstream: Rc::clone(&self.upstream),
            endpoint: self.endpoint,
            conn: Some(conn),
            reused: false,
            version: None,
            since: now,
            life,
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
    /// In which the endpoint has answered over this connection.
    version: Option<Version>,
    since: Instant,
    life: Life,
}

impl Lease {
    /// One of a connection that earlier exchanges used.
    pub(super) fn of_kept(
        upstream: &Rc<Upstream>,
        endpoint: usize,
        (conn, life): (Conn, Life),
    ) -> Self {
        Self {
            upstream: Rc::clone(upstream),
            endpoint,
            conn: Some(conn),
            reused: true,
            version: None,
            since: upstream.rt.now(),
            life,
        }
    }

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

    /// The endpoint's slot in its upstream: its own as long as it has a connection, whatever plans come and go.
    #[must_use]
    pub fn endpoint(&self) -> usize {
        self.endpoint
    }

    /// Whether an earlier exchange used it: it may have died since, unnoticed.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Counts it as a tunnel until the guard is dropped.
    #[must_use]
    pub fn tunnel(&self) -> Tunnel<'_> {
        self.upstream
            .books
            .with(|ledger| ledger.begin_tunnel(self.endpoint));
        Tunnel(self)
    }

    /// The head of the endpoint's answer has come: that is how long it takes to answer.
    #[inline]
    pub fn note_head(&self) {
        if self.upstream.times_answers.get() {
            self.observe();
        }
    }

    /// The same of a request that might have shared a connection: lanes are judged by it.
    pub(crate) fn note_head_alone(&self) {
        self.upstream.answer_alone(self.endpoint, self.since);
    }

    #[inline(never)]
    fn observe(&self) {
        let now = self.upstream.rt.now();
        let books = &self.upstream.books;
        books.with(|ledger| ledger.observe(self.endpoint, now, now - self.since));
    }

    /// Its next exchange has begun at a time, on a connection that others had meanwhile.
    pub(crate) fn begin_exchange(&mut self, since: Instant) {
        self.since = since;
    }

    /// Remembers in which version the endpoint answered.
    pub fn note_version(&mut self, version: Version) {
        self.version = Some(version);
    }

    /// Whether the endpoint last answered in HTTP/1.0, so that it must not be sent chunks. Before it has answered, naming it as a
    /// backend says that it speaks HTTP/1.1. RFC 9112 §6.1.
    #[must_use]
    pub fn speaks_http10(&self) -> bool {
        let books = &self.upstream.books;
        books.with(|ledger| ledger.speaks_http10(self.endpoint))
    }

    /// Keeps the connection for a later exchange, unless that was its last. Only for one that may be reused.
    #[inline]
    pub fn put_back(mut self) {
        match self.life.after_use(self.upstream.rt.now()) {
            Some(life) => self.life = life,
            None => return self.upstream.count_retired(),
        }
        self.keep();
    }

    /// Whose connection it is.
    pub(crate) fn upstream(&self) -> &Rc<Upstream> {
        &self.upstream
    }

    /// What the connection may still carry after the exchange that is over.
    pub(super) fn limit(&self) -> LaneLimit {
        LaneLimit {
            uses: self.life.uses().saturating_add(1),
            uses_left: self.life.uses_left().saturating_sub(1),
            ends_at: self.life.ends_at,
        }
    }

    /// The first exchange is over, though the connection stays where it is.
    pub(super) fn end_first(&mut self) {
        if !self.reused {
            self.reused = true;
            self.upstream.finish_first(self.endpoint);
        }
    }

    /// Keeps the connection after so many exchanges, unless it may have no more. Only for one that may be reused.
    pub(crate) fn put_back_after(mut self, uses: u32) {
        match self.life.after_uses(uses, self.upstream.rt.now()) {
            Some(life) => self.life = life,
            None => return self.upstream.count_retired(),
        }
        self.put_back_unused();
    }

    /// Keeps a connection that had no exchange.
    pub(super) fn put_back_unused(mut self) {
        self.keep();
    }

    /// By reference, for it is too large to be moved for nothing.
    fn keep(&mut self) {
        if let Some(conn) = self.conn.take() {
            if !self.reused {
                self.upstream.finish_first(self.endpoint);
            }
            let kept = (conn, self.life);
            self.upstream.put_back(kept, self.endpoint, self.version);
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
        books.with(|ledger| {
            ledger.note_version(self.endpoint, self.version);
            ledger.close(self.endpoint);
        });
    }
}

/// A lease whose connection is a tunnel.
#[derive(Debug)]
pub struct Tunnel<'a>(&'a Lease);

impl Drop for Tunnel<'_> {
    fn drop(&mut self) {
        let Lease {
            upstream, endpoint, ..
        } = self.0;
        upstream.books.with(|ledger| ledger.end_tunnel(*endpoint));
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
