//! Deadlines: moving one later is a store; the timer finds out when it fires.

use super::recv::wake;
use crate::base::slab::Key;
use crate::rt::driver::slot::Phase;
use crate::rt::driver::{Driver, Io, TimerOwner};
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
        if slot
            .timer
            .is_some_and(|(_, fires_at)| fires_at <= slot.deadline)
        {
            return;
        }
        self.arm_timer(key);
    }

    /// Has a timer fire at the deadline, in the place of one that would fire later.
    #[inline(never)]
    fn arm_timer(&mut self, key: Key) {
        let Some(slot) = self.conns.get_mut(key) else {
            return;
        };
        if let Some((timer, _)) = slot.timer {
            drop(self.timers.remove(timer));
        }
        let timer = self.timers.insert(slot.deadline, TimerOwner::Conn(key));
        slot.timer = Some((timer, slot.deadline));
    }

    /// A connection's timer fired; its deadline may have moved later since.
    pub(in crate::rt::driver) fn fire_deadline(&mut self, key: Key) {
        let Some(slot) = self.conns.get_mut(key) else {
            return;
        };
        slot.timer = None;
        if slot.deadline == Instant::NEVER {
            return;
        }
        if slot.deadline > self.now {
            let timer = self.timers.insert(slot.deadline, TimerOwner::Conn(key));
            slot.timer = Some((timer, slot.deadline));
            return;
        }
        if self.is_late_for_data(key) {
            return;
        }
        let Some(slot) = self.conns.get_mut(key) else {
            return;
        };
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
        // Who splices looks by itself.
        if slot.phase != Phase::Open || slot.has_news() || slot.is_spliced() {
            return false;
        }
        match self.driver {
            Driver::Poll(_) => {
                self.arm_recv(key); // Reads at once if there is something to read.
                false
            }
            Driver::Uring(_) if slot.kernel.is_receiving() || !self.kernel.is_readable(slot.fd) => {
                false
            }
            Driver::Uring(_) => {
                let next_look = self.now + NEXT_LOOK; // Not now: a worker that was held up fires many ticks at once.
                let timer = self.timers.insert(next_look, TimerOwner::Conn(key));
                slot.timer = Some((timer, next_look));
                self.arm_recv(key);
                true
            }
        }
    }
}

/// Time enough for the kernel to hand over what it has.
const NEXT_LOOK: Duration = Duration::from_millis(1);
