//! Deadlines: moving one later is a store; the timer finds out when it fires.

use super::recv::wake;
use crate::base::slab::Key;
use crate::rt::driver::slot::{Armed, ConnSlot, Phase};
use crate::rt::driver::{Driver, Io, TimerOwner, uring};
use crate::rt::lifecycle::{Table, enter};
use crate::rt::time::Instant;
use std::time::Duration;

impl Io {
    /// Sets or clears the point after which waiting for this connection ends in `TimedOut`.
    #[inline]
    pub(crate) fn set_deadline(&mut self, key: Key, deadline: Option<Instant>) {
        let Some(slot) = self.conns.get_mut(key) else {
            return;
        };
        slot.deadline = deadline.unwrap_or(Instant::NEVER);
        slot.timed_out = false;
        if slot.deadline == Instant::NEVER {
            return; // An armed timer finds nothing to do.
        }
        let deadline = slot.deadline;
        self.arm_timer_until(key, deadline);
    }

    /// Has a timer fire then, unless one fires earlier.
    #[inline]
    pub(in crate::rt::driver) fn arm_timer_until(&mut self, key: Key, latest: Instant) {
        let fires_early = |slot: &ConnSlot| {
            let timer = slot.timer;
            timer.is_some_and(|(_, fires_at)| fires_at <= latest)
        };
        if !self.conns.get(key).is_some_and(fires_early) {
            self.arm_timer(key, latest);
        }
    }

    /// Has a timer fire then, in the place of any other one.
    #[inline(never)]
    fn arm_timer(&mut self, key: Key, fires_at: Instant) {
        let Some(slot) = self.conns.get_mut(key) else {
            return;
        };
        if let Some((timer, _)) = slot.timer {
            drop(self.timers.remove(timer));
        }
        let timer = self.timers.insert(fires_at, TimerOwner::Conn(key));
        slot.timer = Some((timer, fires_at));
    }

    /// A connection's timer fired; its deadline may have moved later since.
    pub(in crate::rt::driver) fn fire_deadline(&mut self, key: Key) {
        let Some(slot) = self.conns.get_mut(key) else {
            return;
        };
        slot.timer = None;
        let deadline = slot.deadline;
        if deadline > self.now {
            let fires_at = deadline.min(self.look_at_idleness(key));
            if fires_at != Instant::NEVER {
                self.arm_timer(key, fires_at);
            }
            return;
        }
        if self.is_late_for_data(key) {
            return;
        }
        let Some(slot) = self.conns.get_mut(key) else {
            return;
        };
        if slot.deadline == Instant::NEVER {
            return; // It was parked, and has come back with what was found.
        }
        slot.timed_out = true;
        enter(Table::Connection, slot.phase.row(), "the deadline passes");
        match slot.phase {
            Phase::Parked { .. } => self.unpark_expired(key),
            Phase::Open | Phase::Connecting => {
                wake(&mut slot.rx_waker);
                wake(&mut slot.tx_waker);
            }
            Phase::Closing => (),
        }
    }

    /// What came before the deadline is taken off the socket before the deadline counts, once. Says whether that takes a
    /// turn: the timer is armed again then.
    fn is_late_for_data(&mut self, key: Key) -> bool {
        let Some(slot) = self.conns.get_mut(key) else {
            return false;
        };
        if slot.phase == Phase::Connecting {
            return self.is_late_for_outcome(key);
        }
        let is_looked_for = matches!(slot.phase, Phase::Open | Phase::Parked { .. });
        // Who splices looks by itself.
        if !is_looked_for || slot.has_news() || slot.is_spliced() {
            return false;
        }
        let takes_a_turn = self.look_for_data(key) || self.lacks_a_buffer(key);
        if let Some(slot) = self.conns.get(key)
            && matches!(slot.phase, Phase::Parked { .. })
            && slot.has_news()
        {
            self.unpark_with_news(key);
        }
        takes_a_turn
    }

    /// An attempt to connect that was decided before its deadline is over as it was decided: the report may wait behind those of others.
    fn is_late_for_outcome(&mut self, key: Key) -> bool {
        let Some(slot) = self.conns.get_mut(key) else {
            return false;
        };
        let is_decided = self.kernel.is_writable(slot.fd);
        if is_decided {
            slot.readiness.failed = true; // Perhaps it is: the socket is asked.
            self.finish_connect(key);
        }
        is_decided
    }

    fn look_for_data(&mut self, key: Key) -> bool {
        let Some(slot) = self.conns.get_mut(key) else {
            return false;
        };
        match self.driver {
            Driver::Poll(_) => {
                slot.readiness.readable = true; // Perhaps it is, and its report waits behind those of others.
                self.arm_recv(key);
                false
            }
            Driver::Uring(_) if slot.kernel.starved => false,
            Driver::Uring(_) => match self.look_into_ring(key) {
                Look::Over => false,
                Look::NotOver => {
                    self.arm_recv(key); // Large buffers are filled at once.
                    self.looks_again(key, NEXT_LOOK)
                }
            },
        }
    }

    /// Whether a parked connection has something that was not received for want of a buffer of ours. Its next deadline is the moment at which there is one,
    /// which the line for buffers brings about; who is open has a task, which may wait no longer.
    fn lacks_a_buffer(&mut self, key: Key) -> bool {
        let lacks = |slot: &ConnSlot| {
            let is_parked = matches!(slot.phase, Phase::Parked { .. });
            is_parked && slot.kernel.starved && self.kernel.is_readable(slot.fd)
        };
        self.conns.get(key).is_some_and(lacks) && self.looks_again(key, NEXT_LOOK_WITHOUT_BUFFER)
    }

    /// Has what was armed just now come to its end before the deadline counts; says whether that takes a turn.
    fn looks_again(&mut self, key: Key, after: Duration) -> bool {
        let Some(slot) = self.conns.get_mut(key) else {
            return false;
        };
        if slot.has_news() {
            return false;
        }
        self.arm_timer(key, self.now + after); // Not now: a worker that was held up fires many ticks at once.
        true
    }

    /// Tells a connection what the ring has brought or can bring for it at once, which may wait behind the completions of others: a turn spreads only so
    /// many, and the kernel, too, hands over only so many at a time.
    #[cold]
    pub(in crate::rt::driver) fn look_into_ring(&mut self, key: Key) -> Look {
        uring::spread_to(self, key);
        for _ in 0..ENTERS_MAX {
            let Some(slot) = self.conns.get(key) else {
                return Look::Over;
            };
            if slot.has_news() || !self.kernel.is_readable(slot.fd) {
                return Look::Over;
            }
            if slot.kernel.armed == Armed::Nothing {
                return Look::NotOver;
            }
            if !uring::brings_more(self) {
                return Look::Over;
            }
            uring::spread_to(self, key);
        }
        Look::NotOver
    }
}

/// What came of a look into a ring.
pub(in crate::rt::driver) enum Look {
    /// What came for the connection is with it, or nothing did.
    Over,
    /// There is something in its socket.
    NotOver,
}

/// Time enough for the kernel to hand over what it has.
const NEXT_LOOK: Duration = Duration::from_millis(1);
/// Whoever waits for a buffer is told without it. Each look is a call, and thousands may wait for what a few hold.
const NEXT_LOOK_WITHOUT_BUFFER: Duration = Duration::from_secs(1);
/// How often one look asks the kernel for more.
const ENTERS_MAX: usize = 64;
