//! Connecting to one endpoint: how long an attempt may stay undecided, and what follows then (decision 0010).

use super::pool::{AcquireError, Upstream, Wish};
use super::window::{PATIENCE_MIN, Stall};
use hp_core::rt::Instant;
use hp_core::rt::net::{Address, Conn};
use hp_core::rt::race::{First, race};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

/// How a dial ended that did not fail.
pub(super) enum Dialled {
    /// With a connection, so long after its last attempt began.
    Connected(Conn, Duration),
    /// Undecided: the backlog is full, and a connection that is in it will make room.
    Stalled,
}

impl Upstream {
    /// Attempts to connect until one is decided, the time is up, or others will tell when there is room.
    pub(super) async fn dial(&self, endpoint: usize, wish: &mut Wish) -> io::Result<Dialled> {
        let deadline = self.rt.now() + self.settings().connect_timeout;
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
            self.rows.of(self.row).upstream_redials.add(1);
            match self.books.with(|ledger| ledger.stall(endpoint, now)) {
                Stall::Wait => return Ok(Dialled::Stalled),
                Stall::Redial => (),
            }
        }
    }

    /// Attempts to connect; `TimedOut` after the endpoint's patience, or at the deadline.
    async fn attempt(&self, endpoint: usize, deadline: Instant, stalls: u32) -> io::Result<Conn> {
        let patience = || self.books.with(|ledger| ledger.patience(endpoint, stalls));
        let addr = self.books.with(|ledger| ledger.addr(endpoint));
        if let Some(patience) = patience() {
            let until = deadline.min(self.rt.now() + patience);
            return self.rt.connect_to(&addr, until).await;
        }
        match addr {
            Address::Tcp(addr) => self.attempt_unknown(addr, deadline, patience).await,
            // A Unix socket is near, and tried again by itself while its queue is full.
            unix @ Address::Unix(_) => self.rt.connect_to(&unix, deadline).await,
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
pub(super) fn is_ours(error: &io::Error) -> bool {
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
