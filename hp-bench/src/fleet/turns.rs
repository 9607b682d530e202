//! Closed loops that take turns with those of other processes.

use std::time::Duration;

use hp_core::rt::Instant;

use super::Fleet;
use crate::pacer::Due;
use crate::plan::Turns;

impl Fleet {
    /// The next request, where one may begin now. Whether it may is asked of the clock, not of the last answer's stamp: that
    /// may be of the turn before.
    pub(super) fn due_if_in_turn(&self, turns: Turns) -> Option<Due> {
        let now = self.rt.precise_now();
        turns.has(now).then(|| self.due_at(now))?
    }

    /// Waits for a turn in which the next request may begin; `None` at the end. It counts from then: nobody was kept waiting.
    pub(super) async fn due_in_turn(&self, turns: Turns) -> Option<Due> {
        let now = self.reach_turn(turns).await;
        self.due_at(now)
    }

    fn due_at(&self, now: Instant) -> Option<Due> {
        let may_begin = now < self.window.stop.get() && self.spend(now);
        may_begin.then(|| self.new_due(now, now))
    }

    /// Waits for a turn, or until the end; when that was. Who wakes so late that its turn is over waits for the next.
    pub(crate) async fn reach_turn(&self, turns: Turns) -> Instant {
        loop {
            let (now, stop) = (self.rt.precise_now(), self.window.stop.get());
            let next = turns.next(now);
            // By this clock, not by the runtime's turn's, which may be behind: every wait is for a later moment.
            if next == now || now >= stop {
                return now;
            }
            self.precisely_until(next.min(stop)).await;
        }
    }

    /// How much of the counted time until then was in turn; none where there are no turns.
    pub(crate) fn in_turn(&self, until: Instant) -> Option<Duration> {
        let turns = self.plan.turns?;
        Some(turns.between(self.window.from.get(), until))
    }
}
