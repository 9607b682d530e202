//! Which exchanges stop in their middle, on purpose.

use std::cell::Cell;

use super::Fleet;

/// What a connection stops doing, on purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stop {
    /// After half of the request.
    Sending,
    /// Before the answer: the kernel takes what fits its buffers, and the server learns that nobody reads.
    Reading,
}

impl Fleet {
    /// Whether this connection is to stop in the middle of the exchange that begins now, and where.
    pub(crate) fn draw_stop(&self, idx: usize) -> Option<Stop> {
        let stall = self.plan.stall?;
        let drawn = self.dice.borrow_mut().draw();
        let is_struck = drawn >> 32 < stall.of_2_to_32;
        self.stops.get(idx)?.set(is_struck);
        let is_sending = drawn & 1 == 1;
        is_struck.then_some(if is_sending {
            Stop::Sending
        } else {
            Stop::Reading
        })
    }

    /// Whether the exchange under way is to stop; once.
    pub(crate) fn take_stop(&self, idx: usize) -> bool {
        self.stops.get(idx).is_some_and(Cell::take)
    }
}
