//! How many of the connections are in order, and for how long fewer were than asked for.
//!
//! A connection is in order unless opening it failed or it broke. One that was closed as agreed, or is opened for the
//! next request only, is in order; so is one whose turn to be opened has not come.
//!
//! Must not know: sockets, why a connection broke.

use std::cell::Cell;
use std::time::Duration;

use hp_core::rt::Instant;

use super::Window;

/// One thread's connections.
#[derive(Debug)]
pub(crate) struct Health {
    is_down: Vec<Cell<bool>>,
    down: Cell<u32>,
    since: Cell<Instant>,
    short: Cell<Duration>,
    /// Most that were down at one time in the window.
    down_max: Cell<u32>,
}

impl Health {
    /// All in order.
    pub(crate) fn new(conns: u32) -> Self {
        Self {
            is_down: (0..conns).map(|_| Cell::new(false)).collect(),
            down: Cell::new(0),
            since: Cell::new(Instant::START),
            short: Cell::new(Duration::ZERO),
            down_max: Cell::new(0),
        }
    }

    /// The load begins; what was down stays down, unless connections are opened in turn.
    pub(crate) fn begin(&self, now: Instant, ramp: Option<Duration>) {
        if ramp.is_some() {
            self.is_down.iter().for_each(|is_down| is_down.set(false));
            self.down.set(0);
        }
        self.since.set(now);
    }

    /// A connection is open.
    pub(crate) fn up(&self, idx: usize, now: Instant, window: &Window) {
        if self
            .is_down
            .get(idx)
            .is_some_and(|is_down| is_down.replace(false))
        {
            self.settle(now, window);
            self.down.set(self.down.get() - 1);
        }
    }

    /// A connection broke or could not be opened.
    pub(crate) fn down(&self, idx: usize, now: Instant, window: &Window) {
        if self
            .is_down
            .get(idx)
            .is_some_and(|is_down| !is_down.replace(true))
        {
            self.settle(now, window);
            self.down.set(self.down.get() + 1);
        }
    }

    /// The time in the window during which one was down, up to now.
    pub(crate) fn short(&self, now: Instant, window: &Window) -> Duration {
        self.settle(now, window);
        self.short.get()
    }

    /// The least number that was in order at one time in the window.
    pub(crate) fn least(&self) -> u64 {
        self.is_down.len() as u64 - u64::from(self.down_max.get())
    }

    /// Adds the time since the last change.
    fn settle(&self, now: Instant, window: &Window) {
        let since = self.since.replace(now).max(window.from.get());
        let until = now.min(window.end.get());
        if self.down.get() > 0 && until > since {
            self.short.set(self.short.get() + (until - since));
            self.down_max.set(self.down_max.get().max(self.down.get()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn window() -> Window {
        Window {
            begin: Cell::new(at(0)),
            from: Cell::new(at(10)),
            end: Cell::new(at(20)),
            stop: Cell::new(at(20)),
        }
    }

    #[test]
    fn only_the_window_counts() {
        let (health, window) = (Health::new(3), window());
        health.begin(at(0), None);
        health.down(0, at(5), &window);
        health.down(1, at(6), &window);
        health.up(1, at(8), &window);
        health.up(0, at(12), &window);
        health.down(2, at(19), &window);
        assert_eq!(health.short(at(25), &window), Duration::from_secs(3));
        assert_eq!(health.least(), 2);
    }

    #[test]
    fn a_connection_is_down_once() {
        let (health, window) = (Health::new(2), window());
        health.begin(at(0), None);
        health.down(0, at(11), &window);
        health.down(0, at(12), &window);
        health.up(0, at(13), &window);
        health.up(0, at(14), &window);
        assert_eq!(health.short(at(20), &window), Duration::from_secs(2));
        assert_eq!(health.least(), 1);
    }
}
