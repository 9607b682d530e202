//! Parking: an idle connection keeps its slot and nothing else, no task and no buffer.

use super::recv::{remember, wake};
use crate::base::slab::Key;
use crate::rt::driver::slot::{ConnSlot, Idleness, Phase};
use crate::rt::driver::{Driver, Io};
use crate::rt::time::Instant;
use std::task::{Context, Poll};
use std::time::Duration;

/// Why a parked connection came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unparked {
    /// Bytes, the peer's end or an error are there.
    News,
    /// Its deadline has come.
    Expired,
}

/// A parked connection that came back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ParkEvent {
    pub(crate) key: Key,
    pub(crate) tag: u64,
    pub(crate) why: Unparked,
}

impl Io {
    /// Parks a connection whose queue is empty.
    pub(crate) fn park(&mut self, key: Key, tag: u64, deadline: Instant) {
        self.send_letter(key);
        self.set_deadline(key, Some(deadline));
        let Some(slot) = self.conns.get_mut(key) else {
            return;
        };
        let slot = if slot.waits_for_an_edge() && matches!(self.driver, Driver::Poll(_)) {
            slot
        } else {
            self.arm_recv(key);
            let Some(slot) = self.conns.get_mut(key) else {
                return;
            };
            slot
        };
        debug_assert_eq!(slot.phase, Phase::Open);
        slot.phase = Phase::Parked {
            tag,
            idleness: Idleness::Fresh,
        };
        (slot.rx_waker, slot.tx_waker) = (None, None);
        if slot.has_news() {
            self.unpark_with_news(key);
        } else {
            self.look_at_idleness_later(key);
        }
    }

    /// Takes a parked connection back; `false` when it came back by itself or is gone.
    #[inline]
    pub(crate) fn unpark(&mut self, key: Key) -> bool {
        if self.conns.get(key).is_some_and(ConnSlot::is_looked_into) {
            self.look_into_ring(key);
        }
        let Some(slot) = self.conns.get_mut(key) else {
            return false;
        };
        let Phase::Parked { .. } = slot.phase else {
            return false;
        };
        slot.phase = Phase::Open;
        slot.clear_deadline();
        true
    }

    /// Brings every parked connection back as expired.
    pub(crate) fn unpark_all(&mut self) {
        for key in self.conns.keys() {
            self.unpark_expired(key); // Does nothing to those that are not parked.
        }
    }

    /// Gives parked connections an earlier deadline, as `until` says by place and tag.
    pub(crate) fn hasten_parked(&mut self, mut until: impl FnMut(u32, u64) -> Option<Instant>) {
        for key in self.conns.keys() {
            let Some(slot) = self.conns.get(key) else {
                continue;
            };
            let Phase::Parked { tag, .. } = slot.phase else {
                continue;
            };
            let deadline = slot.deadline;
            let earlier = until(key.index, tag).filter(|until| *until < deadline);
            if earlier.is_some() {
                self.set_deadline(key, earlier);
            }
        }
    }

    /// The next parked connection that came back.
    pub(crate) fn poll_unparked(&mut self, cx: &Context<'_>) -> Poll<ParkEvent> {
        while let Some(event) = self.park_events.pop_front() {
            if self
                .conns
                .get(event.key)
                .is_some_and(|slot| slot.phase == Phase::Open)
            {
                return Poll::Ready(event);
            }
        }
        remember(&mut self.park_waker, cx.waker());
        Poll::Pending
    }

    /// A ring keeps six hundred bytes for each armed receive, and fewer than three hundred for a poll. What idles for long has its receive called back, and
    /// waits in a poll; what is parked for a moment is spared that: it would be two operations for each request.
    fn look_at_idleness_later(&mut self, key: Key) {
        if matches!(self.driver, Driver::Uring(_)) {
            self.arm_timer_until(key, self.now + NEXT_LOOK_AT_IDLENESS);
        }
    }

    /// Looks at a connection whose timer fired before its deadline. Gives when to look again, which is never where there is nothing to be seen.
    pub(in crate::rt::driver) fn look_at_idleness(&mut self, key: Key) -> Instant {
        let Driver::Uring(uring) = &mut self.driver else {
            return Instant::NEVER;
        };
        let Some(slot) = self.conns.get_mut(key) else {
            return Instant::NEVER;
        };
        let Phase::Parked { idleness, .. } = &mut slot.phase else {
            return Instant::NEVER;
        };
        match *idleness {
            Idleness::Long => Instant::NEVER,
            Idleness::Seen if !slot.kernel.starved => {
                *idleness = Idleness::Long;
                if slot.kernel.takes_bytes() {
                    uring.call_receive_back(key); // Its last answer brings the poll. Who fills large buffers has one already.
                }
                uring.cancel_failure(key, slot); // That poll tells of a failure, and of the end, too.
                Instant::NEVER
            }
            // Who waits for a buffer has been spoken to, and keeps its place in the line.
            Idleness::Fresh | Idleness::Seen => {
                *idleness = Idleness::Seen;
                self.now + NEXT_LOOK_AT_IDLENESS
            }
        }
    }

    pub(in crate::rt::driver) fn unpark_with_news(&mut self, key: Key) {
        self.set_deadline(key, None);
        self.come_back(key, Unparked::News);
    }

    pub(in crate::rt::driver) fn unpark_expired(&mut self, key: Key) {
        self.come_back(key, Unparked::Expired);
    }

    fn come_back(&mut self, key: Key, why: Unparked) {
        let Some(slot) = self.conns.get_mut(key) else {
            return;
        };
        let Phase::Parked { tag, .. } = slot.phase else {
            return;
        };
        slot.phase = Phase::Open;
        slot.timed_out = false;
        slot.deadline = Instant::NEVER;
        self.park_events.push_back(ParkEvent { key, tag, why });
        wake(&mut self.park_waker);
    }
}

/// A connection idles for long when two looks in a row have found it parked.
const NEXT_LOOK_AT_IDLENESS: Duration = Duration::from_secs(1);
