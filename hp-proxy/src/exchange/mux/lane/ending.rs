//! How a lane ends: who is sent again, what its connection becomes, and what is said of it to its upstream.

use super::{Flow, Hold, Lane};
use crate::exchange::error::Failure;
use crate::exchange::mux::waiting::{Lanes, Outcome};
use crate::upstream::mux::LaneEnd;
use hp_core::base::slab::Key;
use std::collections::VecDeque;

impl Lane {
    /// The deadline has passed: nobody waits, or whoever is first waits for too long.
    pub(super) fn be_late(&self, lanes: &Lanes) -> Flow {
        let (Some(key), Some(until)) = (self.first(), self.deadline_of_first(lanes)) else {
            return self.put_back(lanes);
        };
        let has_begun = !self.inbox.borrow().bytes.is_empty();
        if lanes.local().rt().now() >= until && !has_begun {
            self.pop_first();
            self.leave(lanes);
            let late = Outcome::Failed(Failure::ResponseTimeout);
            lanes.settle(key, late);
            return Flow::End;
        }
        self.stop(lanes, LaneEnd::Stalled);
        if self.is_nobodys(lanes, key) {
            return Flow::End;
        }
        if has_begun {
            return self.lend(lanes);
        }
        self.watch_first(lanes);
        Flow::On
    }

    /// The connection has ended. What has come of an answer is its exchange's, and so is the judgement on it.
    pub(super) fn be_ended(&self, lanes: &Lanes) -> Flow {
        let has_begun = !self.inbox.borrow().bytes.is_empty();
        let is_followed = self.queue.borrow().len() > 1;
        if self.first().is_some() {
            self.note_close();
        } else {
            self.note_end(LaneEnd::Idle); // Nobody has lost anything by it.
        }
        if has_begun && !is_followed && self.first().is_some() {
            return self.lend(lanes);
        }
        Flow::End // Who is followed may have lost the rest by it, and nothing of it has gone to its client.
    }

    fn is_nobodys(&self, lanes: &Lanes, key: Key) -> bool {
        let waiting = lanes.waiting().borrow();
        waiting.get(key).is_none_or(|one| one.is_abandoned())
    }

    /// The backend takes no more on the connection.
    pub(in crate::exchange::mux) fn note_close(&self) {
        self.note_end(LaneEnd::Closed);
    }

    /// The first reason is the one that it ends for.
    pub(super) fn note_end(&self, end: LaneEnd) {
        self.ending.set(self.ending.get().or(Some(end)));
    }

    /// How the lane ends with its first: where others are sent again for it, the endpoint gets the next one after a while, whoever is to blame.
    pub(super) fn judged(&self, end: LaneEnd) -> LaneEnd {
        let has_others = !self.queue.borrow().is_empty();
        match end {
            LaneEnd::Left if has_others => LaneEnd::Broken,
            end => end,
        }
    }

    /// Takes no more; whoever waits behind the first is sent again, elsewhere.
    pub(super) fn stop(&self, lanes: &Lanes, end: LaneEnd) {
        self.note_end(end);
        self.upstream.close_lane(self.place());
        let kept = usize::from(!self.is_lent()).min(self.queue.borrow().len());
        let behind = self.queue.borrow_mut().split_off(kept);
        self.has_followers.set(!behind.is_empty());
        self.send_again(lanes, behind, end);
    }

    pub(super) fn send_again(&self, lanes: &Lanes, keys: VecDeque<Key>, end: LaneEnd) {
        for key in keys {
            self.upstream.repeat_from_lane(self.place());
            let row = lanes.local().row();
            row.multiplexed_waiting.subtract(1);
            match end {
                LaneEnd::Stalled => row.multiplexed_moved.add(1),
                LaneEnd::Idle | LaneEnd::Left | LaneEnd::Closed | LaneEnd::Broken => {
                    row.retries.add(1);
                }
            }
            lanes.settle(key, Outcome::Again);
        }
    }

    /// Nobody waits: the connection goes back to those that exchanges have for themselves.
    pub(super) fn put_back(&self, lanes: &Lanes) -> Flow {
        self.ending.set(Some(LaneEnd::Idle));
        self.upstream.close_lane(self.place());
        if let Hold::Here(lease) = self.hold.replace(Hold::Gone) {
            if lease.conn().has_news() || lease.conn().unsent() > 0 {
                drop(lease); // Nobody has asked for anything.
            } else {
                // The exchange that it had before it was shared counts, too.
                lanes
                    .local()
                    .keep_after(lease, self.answers.get().saturating_add(1));
            }
        }
        Flow::End
    }
}
