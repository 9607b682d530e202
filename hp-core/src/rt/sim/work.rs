//! What a runtime has done, and how much room its tables take: counted exactly, so that what grows with the number of connections or of
//! workers is seen without a clock.

use crate::base::slab::Places;
use crate::base::sync::lines::Actor;
use crate::rt::Rt;

/// What a runtime has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Rounds of its loop.
    pub turns: u64,
    /// Times that a task was given its turn: after a wake-up, or for the first time.
    pub polls: u64,
    /// Entries of the timer wheel that were linked or unlinked, and searches for the next one.
    pub timer_steps: u64,
}

/// The tables of a runtime that grow with its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// A place for each connection, parked ones included.
    pub conns: Places,
    /// A place for each timer that is armed.
    pub timers: Places,
    /// A place for each task; what a task itself holds is not in it.
    pub tasks: Places,
}

impl Work {
    /// What was done since an earlier look.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            turns: self.turns - earlier.turns,
            polls: self.polls - earlier.polls,
            timer_steps: self.timer_steps - earlier.timer_steps,
        }
    }
}

impl Rt {
    /// What it has done so far.
    #[must_use]
    pub fn work(&self) -> Work {
        let io = self.0.io.borrow();
        Work {
            turns: io.stats().turns,
            polls: self.0.executor.polls(),
            timer_steps: io.timer_steps(),
        }
    }

    /// What its tables take now.
    #[must_use]
    pub fn footprint(&self) -> Footprint {
        let io = self.0.io.borrow();
        Footprint {
            conns: io.conn_places(),
            timers: io.timer_places(),
            tasks: self.0.executor.places(),
        }
    }

    /// Under which number it writes and reads where other runtimes do, too.
    #[must_use]
    pub fn actor(&self) -> Actor {
        self.0.slot.actor()
    }
}
