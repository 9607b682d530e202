//! An upstream's side of the connections that requests share: who is picked, and what they count for.

use super::lease::Lease;
use super::mux::{Bounds, LaneEnd, LaneLimit};
use super::pool::Upstream;
use super::wish::Aim;
use hp_core::base::slab::Key;
use hp_core::rt::Instant;

/// A lane's place among those of its upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LanePlace {
    /// The endpoint's slot.
    pub(crate) endpoint: usize,
    /// The lane's own key.
    pub(crate) key: Key,
}

impl Upstream {
    /// What sharing is bounded by; `None`: requests share no connections.
    #[inline]
    pub(crate) fn multiplex(&self) -> Option<Bounds> {
        self.settings().multiplex
    }

    /// A place on a lane of the endpoint whose turn it is; `None` where that one has no lane that takes more. Whoever gets a place
    /// is counted until it is answered or leaves.
    pub(crate) fn enter_lane(&self, aim: Aim) -> Option<LanePlace> {
        self.multiplex()?;
        let now = self.rt.now();
        let mut lanes = self.lanes.borrow_mut();
        let endpoint = self.books.with(|ledger| {
            let takes = |endpoint: usize| lanes.takes(endpoint, now);
            ledger.enter_lane(aim, now, takes)
        })?;
        let key = lanes.enter(endpoint, now)?;
        Some(LanePlace { endpoint, key })
    }

    /// The first request of a lane was answered; it was sent at `since`.
    pub(crate) fn answer_on_lane(&self, place: LanePlace, since: Instant) {
        let now = self.rt.now();
        let took = now - since;
        if let Some(bounds) = self.multiplex() {
            let lane = (place.endpoint, place.key);
            self.lanes.borrow_mut().answer(lane, (took, now), &bounds);
        } else {
            self.lanes.borrow_mut().leave(place.endpoint, place.key);
        }
        let is_timed = self.times_answers.get();
        self.books.with(|ledger| {
            if is_timed {
                ledger.observe(place.endpoint, now, took);
            }
            ledger.leave_lane(place.endpoint);
        });
    }

    /// The answer to the first request of a lane, which was sent at `since`, has begun, and an exchange passes the rest on.
    pub(crate) fn begin_answer_on_lane(&self, place: LanePlace, since: Instant) {
        if let Some(bounds) = self.multiplex() {
            let now = self.rt.now();
            let lane = (place.endpoint, place.key);
            let mut lanes = self.lanes.borrow_mut();
            lanes.begin_answer(lane, (now - since, now), &bounds);
        }
    }

    /// A request that might have gone on a lane was answered by an endpoint on a connection of its own, to which it was given at `since`.
    pub(super) fn answer_alone(&self, endpoint: usize, since: Instant) {
        let Some(bounds) = self.multiplex() else {
            return;
        };
        let now = self.rt.now();
        let mut lanes = self.lanes.borrow_mut();
        lanes.answer_alone(endpoint, (now - since, now), &bounds);
    }

    /// A request leaves its lane, without an answer from it or with the end of one that an exchange passed on.
    pub(crate) fn leave_lane(&self, place: LanePlace) {
        self.lanes.borrow_mut().leave(place.endpoint, place.key);
        self.books.with(|ledger| ledger.leave_lane(place.endpoint));
    }

    /// A request leaves its lane without an answer, and is sent again, elsewhere.
    pub(crate) fn repeat_from_lane(&self, place: LanePlace) {
        self.lanes.borrow_mut().repeat(place.endpoint, place.key);
        self.books.with(|ledger| ledger.leave_lane(place.endpoint));
    }

    /// Whether a connection to an endpoint should become a lane that has had so many exchanges.
    fn wants_lane(&self, endpoint: usize, uses: u32) -> bool {
        let Some(bounds) = self.multiplex() else {
            return false;
        };
        let conns_max = self.books.with(|ledger| ledger.conns_for_lanes(endpoint));
        conns_max.is_some_and(|conns_max| {
            let lanes = self.lanes.borrow();
            lanes.wants(endpoint, (&bounds, conns_max), (uses, self.rt.now()))
        })
    }

    /// A connection becomes a lane.
    pub(crate) fn begin_lane(&self, place: LanePlace, limit: LaneLimit) {
        let Some(bounds) = self.multiplex() else {
            return;
        };
        let lane = (place.key, limit);
        let begins = (&bounds, self.rt.now());
        self.lanes.borrow_mut().begin(place.endpoint, lane, begins);
        self.books.with(|ledger| ledger.begin_lane(place.endpoint));
    }

    /// A lane on which nobody waits, where no other connection idles: a request that shares none can have it.
    pub(crate) fn spare_lane(&self) -> Option<LanePlace> {
        let (endpoint, key) = self.lanes.borrow().idle()?;
        (self.idle_conns() == 0).then_some(LanePlace { endpoint, key })
    }

    /// Whether a lane's connection may carry no more requests, so that it ends when those that wait are answered.
    pub(crate) fn is_lane_spent(&self, place: LanePlace) -> bool {
        let now = self.rt.now();
        self.lanes.borrow().is_spent(place.endpoint, place.key, now)
    }

    /// A lane takes no more requests, for good or until it is opened again.
    pub(crate) fn close_lane(&self, place: LanePlace) {
        self.lanes.borrow_mut().close(place.endpoint, place.key);
    }

    /// A lane takes requests again.
    pub(crate) fn reopen_lane(&self, place: LanePlace) {
        self.lanes.borrow_mut().reopen(place.endpoint, place.key);
    }

    /// A lane has ended.
    pub(crate) fn end_lane(&self, place: LanePlace, end: LaneEnd) {
        let now = self.rt.now();
        let lane = (place.endpoint, place.key);
        self.lanes.borrow_mut().end(lane, end, now);
        self.books.with(|ledger| ledger.end_lane(place.endpoint));
    }

    /// Whether a lane is to end, for no connection is left to requests that share none.
    pub(crate) fn wants_lane_back(&self, place: LanePlace) -> bool {
        self.books
            .with(|ledger| ledger.wants_lanes_back(place.endpoint))
    }

    /// Whether requests wait for a connection.
    pub(crate) fn has_queue(&self) -> bool {
        self.books.with(|ledger| ledger.waiting() > 0)
    }
}

impl Lease {
    /// Whether the connection should be shared, now that its exchange is over.
    pub(crate) fn wants_lane(&self) -> bool {
        self.upstream()
            .wants_lane(self.endpoint(), self.limit().uses)
    }

    /// The exchange is over, and the connection is about to be shared: gives what it may still carry.
    pub(crate) fn become_lane(&mut self) -> LaneLimit {
        self.end_first();
        self.limit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Rows;
    use crate::upstream::balance::Balancing;
    use crate::upstream::{Identity, Settings};
    use hp_core::rt::{Engine, Rt, RtOptions};
    use std::net::SocketAddr;
    use std::time::Duration;

    const SETTINGS: Settings = Settings {
        multiplex: Some(Bounds {
            depth_max: 32,
            lanes_max: 2,
            stall: Duration::from_millis(50),
        }),
        ..Settings::OF_TESTS
    };

    fn identity(port: u16) -> [Identity; 1] {
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        [Identity::new(&addr.to_string(), addr.into())]
    }

    /// The endpoint that got the slot of another one after a reload had no lanes for as long as that one would have had none.
    #[test]
    fn an_endpoint_is_not_barred_for_the_one_that_had_its_slot_before() {
        let options = RtOptions {
            engine: Engine::Epoll,
            ..RtOptions::default()
        };
        let rt = Rt::new(&options).unwrap();
        let even = Balancing::even(1);
        let upstream = Upstream::own(
            &rt,
            (&even, &identity(1), None),
            (SETTINGS, 0),
            (Rows::new(1, 0), 0),
        );
        let key = Key {
            index: 0,
            generation: 0,
        };
        let place = LanePlace { endpoint: 0, key };
        let limit = LaneLimit {
            uses: 1,
            uses_left: 100,
            ends_at: Instant::NEVER,
        };
        assert!(upstream.wants_lane(0, 1));
        upstream.begin_lane(place, limit);
        upstream.end_lane(place, LaneEnd::Stalled);
        assert!(!upstream.wants_lane(0, 1));
        upstream.renew(&even, &identity(1), None, SETTINGS);
        assert!(!upstream.wants_lane(0, 1), "it is the same endpoint");
        upstream.renew(&even, &identity(2), None, SETTINGS);
        assert_eq!(upstream.conns().len(), 1, "it has the slot of the other");
        assert!(upstream.wants_lane(0, 1));
        drop(upstream);
        rt.shut_down();
    }
}
