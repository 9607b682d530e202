//! Connecting to one endpoint: how long an attempt may stay undecided, and what follows then (decision 0010); and over which of
//! its addresses, where it has several (decision 0024).

use super::pool::{AcquireError, Upstream};
use super::ways::ATTEMPT_DELAY;
use super::window::{PATIENCE_MIN, Stall};
use super::wish::Wish;
use hp_core::rt::Instant;
use hp_core::rt::net::{Address, Conn};
use hp_core::rt::race::{First, race};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

/// How a dial ended that did not fail.
pub(super) enum Dialled {
    /// With a connection, so long after its last attempt began.
    Connected(Conn, Duration),
    /// Undecided: the backlog is full, and a connection that is in it will make room.
    Stalled,
}

/// A way that is being dialled.
type Attempt<'a> = (
    SocketAddr,
    Pin<Box<dyn Future<Output = io::Result<Dialled>> + 'a>>,
);

impl Upstream {
    /// Attempts to connect until one is decided, the time is up, or others will tell when there is room.
    pub(super) async fn dial(&self, endpoint: usize, wish: &mut Wish) -> io::Result<Dialled> {
        let now = self.rt.now();
        let deadline = now + self.settings().connect_timeout;
        let (addr, ways) = self
            .books
            .with(|ledger| (ledger.addr(endpoint), ledger.ways(endpoint).order(now)));
        if ways.is_empty() {
            return self.dial_one(endpoint, &addr, deadline, wish).await;
        }
        Box::pin(self.dial_ways(endpoint, &ways, deadline, wish)).await
    }

    /// Dials one way after the other, each beside those that are undecided, until one connects. RFC 8305 §5.
    async fn dial_ways(
        &self,
        endpoint: usize,
        ways: &[SocketAddr],
        deadline: Instant,
        wish: &mut Wish,
    ) -> io::Result<Dialled> {
        let mut left = ways.iter().copied();
        let first = left.next().map(Address::Tcp);
        let mut attempts: Vec<Attempt<'_>> = Vec::new();
        if let Some(addr @ Address::Tcp(way)) = &first {
            // What is known of the endpoint's backlog holds for its first way.
            let dial = self.dial_one(endpoint, addr, deadline, wish);
            attempts.push((*way, Box::pin(dial)));
        }
        let (mut failed, mut has_stalled) = (None, false);
        loop {
            let next_at = (left.len() > 0).then(|| self.rt.now() + ATTEMPT_DELAY);
            match self.first_decided(&mut attempts, next_at).await {
                None => (), // Too long undecided: it goes on, and the next one begins.
                Some((way, Ok(Dialled::Connected(conn, took)))) => {
                    let now = self.rt.now();
                    self.books
                        .with(|ledger| ledger.ways(endpoint).win(way, now));
                    return Ok(Dialled::Connected(conn, took));
                }
                Some((_, Ok(Dialled::Stalled))) => has_stalled = true,
                Some((_, Err(error))) if is_ours(&error) => return Err(error),
                Some((way, Err(error))) => {
                    self.books.with(|ledger| ledger.ways(endpoint).lose(way));
                    failed = Some(error);
                }
            }
            if let Some(way) = left.next() {
                attempts.push((way, Box::pin(self.dial_beside(way, deadline))));
            } else if attempts.is_empty() {
                return match failed {
                    Some(error) if !has_stalled => Err(error),
                    _ => Ok(Dialled::Stalled),
                };
            }
        }
    }

    async fn dial_beside(&self, way: SocketAddr, deadline: Instant) -> io::Result<Dialled> {
        let begun = self.rt.now();
        let conn = self.rt.connect(way, deadline).await?;
        Ok(Dialled::Connected(conn, self.rt.now() - begun))
    }

    /// The first attempt that is decided; `None` when none is at `until`. There is one, or `until` is given.
    async fn first_decided(
        &self,
        attempts: &mut Vec<Attempt<'_>>,
        until: Option<Instant>,
    ) -> Option<(SocketAddr, io::Result<Dialled>)> {
        let decided = poll_fn(|cx| {
            let mut polled = attempts.iter_mut().map(|(_, dial)| dial.as_mut().poll(cx));
            let decided = polled.by_ref().zip(0..).find_map(|(poll, at)| match poll {
                Poll::Ready(outcome) => Some((at, outcome)),
                Poll::Pending => None,
            });
            drop(polled);
            match decided {
                Some((at, outcome)) => Poll::Ready((attempts.remove(at).0, outcome)),
                None => Poll::Pending,
            }
        });
        match until {
            None => Some(decided.await),
            Some(until) => self.rt.timeout_at(until, decided).await.ok(),
        }
    }

    /// Dials one address until an attempt is decided, the time is up, or others will tell when there is room.
    async fn dial_one(
        &self,
        endpoint: usize,
        addr: &Address,
        deadline: Instant,
        wish: &mut Wish,
    ) -> io::Result<Dialled> {
        loop {
            let begun = self.rt.now();
            let error = match self.attempt(endpoint, addr, deadline, wish.stalls).await {
                Ok(conn) => return Ok(Dialled::Connected(conn, self.rt.now() - begun)),
                Err(error) => error,
            };
            let now = self.rt.now();
            if error.kind() != io::ErrorKind::TimedOut || now >= deadline {
                return Err(error);
            }
            wish.stalls = wish.stalls.saturating_add(1);
            self.rows.of(self.row).upstream_redials.add(1);
            match self.books.with(|ledger| ledger.stall(endpoint)) {
                Stall::Wait => return Ok(Dialled::Stalled),
                Stall::Redial => (),
            }
        }
    }

    /// Attempts to connect; `TimedOut` after the endpoint's patience, or at the deadline.
    async fn attempt(
        &self,
        endpoint: usize,
        addr: &Address,
        deadline: Instant,
        stalls: u32,
    ) -> io::Result<Conn> {
        let patience = || self.books.with(|ledger| ledger.patience(endpoint, stalls));
        if let Some(patience) = patience() {
            let until = deadline.min(self.rt.now() + patience);
            return self.rt.connect_to(addr, until).await;
        }
        match addr {
            Address::Tcp(addr) => self.attempt_unknown(*addr, deadline, patience).await,
            // A Unix socket is near, and tried again by itself while its queue is full.
            unix @ Address::Unix(_) => self.rt.connect_to(unix, deadline).await,
        }
    }

    /// Attempts to connect where nobody knows how far the endpoint is. The first attempt goes on, for a far endpoint; others
    /// go beside it, one at a time, for a near one whose backlog was full. Whichever is
    /// decided first ends the other, which a far server knows at most as a SYN: it is reset before it is accepted.
    async fn attempt_unknown(
        &self,
        addr: SocketAddr,
        deadline: Instant,
        patience: impl Fn() -> Option<Duration>,
    ) -> io::Result<Conn> {
        let begun = self.rt.now();
        let mut first = pin!(self.rt.connect(addr, deadline));
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
            let other = self.rt.connect(addr, deadline.min(now + pause));
            match race(first.as_mut(), other).await {
                First::One(outcome) => return outcome,
                First::Other(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
                    self.rows.of(self.row).upstream_redials.add(1);
                }
                First::Other(outcome) => return outcome,
            }
            pause = pause.saturating_mul(2);
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

pub(super) fn classify(error: &io::Error) -> AcquireError {
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

#[cfg(test)]
#[cfg(feature = "sim")]
mod tests;
