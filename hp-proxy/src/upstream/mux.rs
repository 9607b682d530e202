//! Which lane takes a request, and how deep lanes may be: a lane is a connection that several requests share, one behind the other
//! (RFC 9112 §9.3.2). Pure: time is an argument; knows neither what is sent nor who waits.
//!
//! A request behind another one waits for that one's answer. How long is kept small from three sides: a lane takes as many requests as
//! its answers come in time for (its depth), the next lane takes the rest, and an endpoint whose lanes stall gets none for a while.

mod depth;
mod past;

use depth::{Alone, Depth, Growth};
use hp_core::base::slab::Key;
use hp_core::rt::Instant;
use past::{Ended, Past};
use std::time::Duration;

/// What sharing connections is bounded by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Requests that wait on one lane, 1 or more.
    pub depth_max: u32,
    /// Lanes to one endpoint, of one worker, 1 or more.
    pub lanes_max: u32,
    /// How long the first of a lane may wait for its answer before those behind it are sent elsewhere.
    pub stall: Duration,
}

/// The lanes of one upstream, of one worker.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// By the endpoint's slot.
    endpoints: Vec<OfEndpoint>,
}

#[derive(Debug, Default)]
struct OfEndpoint {
    lanes: Vec<Lane>,
    past: Past,
    alone: Alone,
}

#[derive(Debug)]
struct Lane {
    key: Key,
    depth: Depth,
    /// Answers that have begun on it.
    answers: u32,
    /// Requests that have left it to be sent again.
    repeated: u32,
    limit: LaneLimit,
    /// It takes no more.
    is_closed: bool,
}

/// How long a connection may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LaneLimit {
    /// Requests that it has carried before it was a lane.
    pub(crate) uses: u32,
    /// Requests that it may still carry.
    pub(crate) uses_left: u32,
    /// When it is too old.
    pub(crate) ends_at: Instant,
}

/// How a lane ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LaneEnd {
    /// Nothing waited on it.
    Idle,
    /// With a client that left within its answer, behind which nobody waited: that is not the endpoint's doing.
    Left,
    /// The endpoint closed its connection, or said that it takes no more on it.
    Closed,
    /// Its connection must not be used any more, for a fault, or for a client that left while others waited.
    Broken,
    /// An answer kept others waiting.
    Stalled,
}

impl Lanes {
    /// Whether an endpoint has a lane that takes a request.
    #[inline]
    pub(super) fn takes(&self, endpoint: usize, now: Instant) -> bool {
        let of = self.endpoints.get(endpoint);
        of.is_some_and(|of| of.lanes.iter().any(|lane| lane.takes(now)))
    }

    /// Puts a request on the first lane that takes it: the fewer lanes are in use, the more requests leave together.
    #[inline]
    pub(super) fn enter(&mut self, endpoint: usize, now: Instant) -> Option<Key> {
        let lanes = &mut self.endpoints.get_mut(endpoint)?.lanes;
        let lane = lanes.iter_mut().find(|lane| lane.takes(now))?;
        lane.depth.enter();
        lane.limit.uses_left -= 1; // It took one, so one is left.
        Some(lane.key)
    }

    /// Whether one more connection, which has carried so many requests, should become a lane. One connection is left to requests that share none.
    pub(super) fn wants(
        &self,
        endpoint: usize,
        (bounds, conns_max): (&Bounds, Option<u32>),
        (uses, now): (u32, Instant),
    ) -> bool {
        let Some(of) = self.endpoints.get(endpoint) else {
            return conns_max.is_none_or(|max| max > 1);
        };
        let lanes = u32::try_from(of.lanes.len()).unwrap_or(u32::MAX);
        lanes < bounds.lanes_max
            && conns_max.is_none_or(|max| lanes + 1 < max)
            && of.past.allows(uses, now)
            && !of.lanes.iter().any(|lane| lane.takes(now))
    }

    /// A connection becomes a lane.
    pub(super) fn begin(
        &mut self,
        endpoint: usize,
        (key, mut limit): (Key, LaneLimit),
        (bounds, now): (&Bounds, Instant),
    ) {
        if self.endpoints.len() <= endpoint {
            self.endpoints
                .resize_with(endpoint + 1, OfEndpoint::default);
        }
        if let Some(of) = self.endpoints.get_mut(endpoint) {
            of.past.begin(limit.uses);
            limit.uses_left = limit.uses_left.min(of.past.carries(limit.uses, now));
            let depth = Depth::new(of.growth_at_first(bounds, now), bounds);
            of.lanes.push(Lane {
                key,
                depth,
                answers: 0,
                repeated: 0,
                limit,
                is_closed: false,
            });
        }
    }

    /// The first request of a lane was answered, so long after it was sent.
    #[inline]
    pub(super) fn answer(
        &mut self,
        lane: (usize, Key),
        answer: (Duration, Instant),
        bounds: &Bounds,
    ) {
        if let Some((lane, alone)) = self.answered(lane) {
            lane.depth.answer(answer, alone, bounds);
        }
    }

    /// The answer to the first request of a lane has begun, so long after that was sent, and an exchange passes it on: it is on the lane until
    /// it leaves.
    pub(super) fn begin_answer(
        &mut self,
        lane: (usize, Key),
        answer: (Duration, Instant),
        bounds: &Bounds,
    ) {
        if let Some((lane, alone)) = self.answered(lane) {
            lane.depth.begin_answer(answer, alone, bounds);
        }
    }

    /// A request that lanes were for was answered on a connection of its own, so long after it was sent.
    pub(super) fn answer_alone(
        &mut self,
        endpoint: usize,
        (took, now): (Duration, Instant),
        bounds: &Bounds,
    ) {
        if let Some(of) = self.endpoints.get_mut(endpoint) {
            of.alone.note(took, now, bounds);
            for lane in &mut of.lanes {
                lane.depth.judge_again(&of.alone, now, bounds);
            }
        }
    }

    /// A request leaves its lane, without an answer or with the end of one that had begun.
    pub(super) fn leave(&mut self, endpoint: usize, key: Key) {
        if let Some(lane) = self.lane(endpoint, key) {
            lane.depth.leave();
        }
    }

    /// A request leaves its lane without an answer, and is sent again, elsewhere.
    pub(super) fn repeat(&mut self, endpoint: usize, key: Key) {
        if let Some(lane) = self.lane(endpoint, key) {
            lane.depth.leave();
            lane.repeated = lane.repeated.saturating_add(1);
        }
    }

    /// An open lane on which nobody waits.
    pub(super) fn idle(&self) -> Option<(usize, Key)> {
        let all = self.endpoints.iter().enumerate();
        let mut lanes =
            all.flat_map(|(endpoint, of)| of.lanes.iter().map(move |lane| (endpoint, lane)));
        let idle = lanes.find(|(_, lane)| lane.depth.is_empty() && !lane.is_closed);
        idle.map(|(endpoint, lane)| (endpoint, lane.key))
    }

    /// Whether a lane's connection may carry no more requests, for their number or its age.
    pub(super) fn is_spent(&self, endpoint: usize, key: Key, now: Instant) -> bool {
        let of = self.endpoints.get(endpoint);
        let mut lanes = of.into_iter().flat_map(|of| &of.lanes);
        let lane = lanes.find(|lane| lane.key == key);
        lane.is_some_and(|lane| lane.limit.uses_left == 0 || lane.limit.ends_at <= now)
    }

    /// A lane takes no more.
    pub(super) fn close(&mut self, endpoint: usize, key: Key) {
        if let Some(lane) = self.lane(endpoint, key) {
            lane.is_closed = true;
        }
    }

    /// A closed lane takes requests again.
    pub(super) fn reopen(&mut self, endpoint: usize, key: Key) {
        if let Some(lane) = self.lane(endpoint, key) {
            lane.is_closed = false;
        }
    }

    /// A lane is gone.
    pub(super) fn end(&mut self, (endpoint, key): (usize, Key), end: LaneEnd, now: Instant) {
        let Some(of) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        let Some(place) = of.lanes.iter().position(|lane| lane.key == key) else {
            return;
        };
        let lane = of.lanes.remove(place);
        let ended = Ended {
            end,
            uses: lane.limit.uses,
            answers: lane.answers,
            repeated: lane.repeated,
            growth: lane.depth.growth(),
        };
        of.past.end(ended, now);
    }

    /// A slot is another endpoint's by now: how lanes ended there, and what was slow, says nothing of it.
    pub(super) fn forget_past(&mut self, endpoint: usize) {
        if let Some(of) = self.endpoints.get_mut(endpoint) {
            (of.past, of.alone) = (Past::default(), Alone::default());
        }
    }

    /// A lane with one more answer, and what is known of requests alone.
    #[inline]
    fn answered(&mut self, (endpoint, key): (usize, Key)) -> Option<(&mut Lane, &Alone)> {
        let of = self.endpoints.get_mut(endpoint)?;
        let lane = of.lanes.iter_mut().find(|lane| lane.key == key)?;
        lane.answers = lane.answers.saturating_add(1);
        Some((lane, &of.alone))
    }

    #[inline]
    fn lane(&mut self, endpoint: usize, key: Key) -> Option<&mut Lane> {
        let lanes = &mut self.endpoints.get_mut(endpoint)?.lanes;
        lanes.iter_mut().find(|lane| lane.key == key)
    }
}

impl OfEndpoint {
    /// What its next lane begins with, if some of its requests are slow: they would be on that lane as well. The shallowest counts, or the last
    /// where there is no lane; none beside one on which so many came in time that it is over.
    fn growth_at_first(&self, bounds: &Bounds, now: Instant) -> Option<Growth> {
        if self.lanes.is_empty() {
            return self.past.growth(now);
        }
        let lanes = self.lanes.iter().map(|lane| lane.depth.growth());
        if lanes.clone().any(|growth| growth.has_recovered(bounds)) {
            return None;
        }
        lanes
            .filter(|growth| growth.is_patient(now))
            .min_by_key(|growth| growth.most())
    }
}

impl Lane {
    #[inline]
    fn takes(&self, now: Instant) -> bool {
        !self.is_closed
            && self.depth.has_room()
            && self.limit.uses_left > 0
            && now < self.limit.ends_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const BOUNDS: Bounds = Bounds {
        depth_max: 32,
        lanes_max: 2,
        stall: Duration::from_millis(50),
    };
    const UNLIMITED: LaneLimit = LaneLimit {
        uses: 1,
        uses_left: u32::MAX,
        ends_at: Instant::NEVER,
    };
    pub(super) const FAST: Duration = Duration::from_millis(1);
    pub(super) const LATE: Duration = Duration::from_millis(20);

    fn key(index: u32) -> Key {
        Key {
            index,
            generation: 0,
        }
    }

    fn now() -> Instant {
        Instant::START
    }

    fn with_lane(limit: LaneLimit) -> Lanes {
        let mut lanes = Lanes::default();
        lanes.begin(1, (key(0), limit), (&BOUNDS, now()));
        lanes
    }

    /// Puts requests on lanes until none takes one; tells how many there were.
    fn fill(lanes: &mut Lanes) -> u32 {
        let mut count = 0;
        while lanes.enter(1, now()).is_some() {
            count += 1;
            assert!(count <= 1000, "a lane takes requests without end");
        }
        count
    }

    fn answer_all(lanes: &mut Lanes, count: u32, took: Duration) {
        for _ in 0..count {
            lanes.answer((1, key(0)), (took, now()), &BOUNDS);
        }
    }

    #[test]
    fn the_first_lane_is_filled_before_the_next() {
        let mut lanes = with_lane(UNLIMITED);
        assert!(
            !lanes.wants(1, (&BOUNDS, None), (1, now())),
            "the first has room"
        );
        for _ in 0..lanes.endpoints[1].lanes[0].depth.growth().most() {
            assert_eq!(lanes.enter(1, now()), Some(key(0)));
        }
        assert!(lanes.wants(1, (&BOUNDS, None), (1, now())));
        lanes.begin(1, (key(1), UNLIMITED), (&BOUNDS, now()));
        assert_eq!(lanes.enter(1, now()), Some(key(1)));
        lanes.answer((1, key(0)), (FAST, now()), &BOUNDS);
        assert_eq!(lanes.enter(1, now()), Some(key(0)));
        fill(&mut lanes);
        assert!(
            !lanes.wants(1, (&BOUNDS, None), (1, now())),
            "there are two"
        );
    }

    #[test]
    fn one_connection_is_left_to_requests_that_share_none() {
        let lanes = Lanes::default();
        assert!(!lanes.wants(1, (&BOUNDS, Some(1)), (1, now())));
        assert!(lanes.wants(1, (&BOUNDS, Some(2)), (1, now())));
        let mut lanes = with_lane(UNLIMITED);
        fill(&mut lanes);
        assert!(!lanes.wants(1, (&BOUNDS, Some(2)), (1, now())));
        assert!(lanes.wants(1, (&BOUNDS, Some(3)), (1, now())));
    }

    #[test]
    fn a_lane_carries_no_more_than_its_connection_may() {
        let limit = LaneLimit {
            uses: 1,
            uses_left: 3,
            ends_at: Instant::NEVER,
        };
        let mut lanes = with_lane(limit);
        assert!(!lanes.is_spent(1, key(0), now()));
        assert_eq!(fill(&mut lanes), 3);
        assert!(lanes.is_spent(1, key(0), now()));
        answer_all(&mut lanes, 3, FAST);
        assert_eq!(fill(&mut lanes), 0);
        let limit = LaneLimit {
            uses: 1,
            uses_left: 3,
            ends_at: now(),
        };
        assert_eq!(fill(&mut with_lane(limit)), 0, "it is too old");
    }

    #[test]
    fn lanes_end_before_their_endpoint_closes_the_connection_whatever_it_carried_before() {
        const USES_MAX: u32 = 1000;
        let mut lanes = Lanes::default();
        let carries = |lanes: &mut Lanes, uses: u32, now: Instant| {
            if !lanes.wants(1, (&BOUNDS, None), (uses, now)) {
                return None;
            }
            let limit = LaneLimit { uses, ..UNLIMITED };
            lanes.begin(1, (key(0), limit), (&BOUNDS, now));
            let mut carried = 0;
            while uses + carried < USES_MAX && lanes.enter(1, now).is_some() {
                lanes.answer((1, key(0)), (FAST, now), &BOUNDS);
                carried += 1;
            }
            let is_closed = uses + carried == USES_MAX;
            let end = [LaneEnd::Idle, LaneEnd::Closed][usize::from(is_closed)];
            lanes.end((1, key(0)), end, now);
            Some((carried, end))
        };
        assert_eq!(carries(&mut lanes, 1, now()), Some((999, LaneEnd::Closed)));
        for uses in [1, 10, 500, 999 - 32] {
            let carried = carries(&mut lanes, uses, now());
            assert_eq!(carried, Some((999 - uses, LaneEnd::Idle)));
        }
        for uses in [999 - 31, 999, 1000] {
            assert_eq!(carries(&mut lanes, uses, now()), None, "it is worn");
        }
        let later = now() + Duration::from_secs(60);
        assert_eq!(carries(&mut lanes, 1, later), Some((999, LaneEnd::Closed)));
        lanes.forget_past(1);
        assert_eq!(carries(&mut lanes, 1, now()), Some((999, LaneEnd::Closed)));
    }

    #[test]
    fn an_endpoint_whose_lanes_end_badly_is_left_alone_for_longer_each_time() {
        let mut lanes = Lanes::default();
        let mut now = now();
        for seconds in [1, 2, 4, 8, 16, 32, 64, 64] {
            assert!(lanes.wants(1, (&BOUNDS, None), (1, now)));
            lanes.begin(1, (key(0), UNLIMITED), (&BOUNDS, now));
            lanes.enter(1, now);
            lanes.repeat(1, key(0));
            lanes.end((1, key(0)), LaneEnd::Closed, now);
            let bar = Duration::from_secs(seconds);
            let before = Instant::from_nanos((now + bar).as_nanos() - 1);
            assert!(!lanes.wants(1, (&BOUNDS, None), (1, before)));
            assert!(
                lanes.wants(0, (&BOUNDS, None), (1, before)),
                "another endpoint"
            );
            now = now + bar;
        }
    }

    #[test]
    fn a_lane_is_idle_when_it_is_open_and_nobody_waits_on_it() {
        let mut lanes = with_lane(UNLIMITED);
        assert_eq!(lanes.idle(), Some((1, key(0))));
        lanes.enter(1, now());
        assert_eq!(lanes.idle(), None);
        lanes.answer((1, key(0)), (FAST, now()), &BOUNDS);
        assert_eq!(lanes.idle(), Some((1, key(0))));
        lanes.close(1, key(0));
        assert_eq!(lanes.idle(), None);
    }

    #[test]
    fn a_closed_lane_takes_nothing_until_it_is_opened_again() {
        let mut lanes = with_lane(UNLIMITED);
        lanes.close(1, key(0));
        assert!(!lanes.takes(1, now()));
        lanes.reopen(1, key(0));
        assert!(lanes.takes(1, now()) && !lanes.takes(0, now()));
        fill(&mut lanes);
        lanes.leave(1, key(0));
        assert_eq!(fill(&mut lanes), 1);
    }

    /// Each new lane grew with each answer until its first late one, and kept up to 512 requests waiting behind that: a backend that closes its
    /// connections after 1,000 had one such lane after the other.
    #[test]
    fn a_lane_begins_with_what_the_last_one_or_the_shallowest_had_come_to() {
        let mut lanes = with_lane(UNLIMITED);
        let depth = |lanes: &Lanes, place: usize| lanes.endpoints[1].lanes[place].depth.growth();
        let first = depth(&lanes, 0).most();
        lanes.begin(1, (key(1), UNLIMITED), (&BOUNDS, now()));
        assert_eq!(depth(&lanes, 1).most(), first);
        answer(&mut lanes, (1, FAST));
        lanes.answer_alone(1, (FAST, now()), &BOUNDS);
        answer(&mut lanes, (100, LATE));
        assert_eq!(depth(&lanes, 0).most(), 1);
        lanes.end((1, key(1)), LaneEnd::Idle, now());
        lanes.begin(1, (key(1), UNLIMITED), (&BOUNDS, now()));
        assert_eq!(depth(&lanes, 1).most(), first, "all may be slow");
        lanes.answer_alone(1, (FAST, now()), &BOUNDS);
        lanes.end((1, key(1)), LaneEnd::Idle, now());
        lanes.begin(1, (key(1), UNLIMITED), (&BOUNDS, now()));
        assert_eq!(depth(&lanes, 1), depth(&lanes, 0));
        // A lane of no answers tells nothing anew.
        let mut later = now();
        for (after, most) in [(59, 1), (1, first)] {
            lanes.end((1, key(1)), LaneEnd::Idle, later);
            lanes.end((1, key(0)), LaneEnd::Idle, later);
            later = later + Duration::from_secs(after);
            lanes.begin(1, (key(0), UNLIMITED), (&BOUNDS, later));
            assert_eq!(depth(&lanes, 0).most(), most);
        }
    }

    /// One that hardly works any more tells nothing beside one on which so many came in time.
    #[test]
    fn a_lane_begins_as_if_nothing_were_known_beside_one_that_has_recovered() {
        let mut lanes = with_lane(UNLIMITED);
        answer(&mut lanes, (1, FAST));
        lanes.answer_alone(1, (FAST, now()), &BOUNDS);
        answer(&mut lanes, (100, LATE));
        lanes.answer_alone(1, (FAST, now()), &BOUNDS);
        lanes.begin(1, (key(1), UNLIMITED), (&BOUNDS, now()));
        let is_patient = |lanes: &Lanes, place: usize| {
            lanes.endpoints[1].lanes[place]
                .depth
                .growth()
                .is_patient(now())
        };
        assert!(is_patient(&lanes, 1));
        for _ in 0..4 * BOUNDS.depth_max {
            (0..6).for_each(|_| lanes.answer_alone(1, (FAST, now()), &BOUNDS));
            lanes.enter(1, now());
            lanes.answer((1, key(1)), (FAST, now()), &BOUNDS);
        }
        lanes.begin(1, (key(2), UNLIMITED), (&BOUNDS, now()));
        let found = [0, 1, 2].map(|place| is_patient(&lanes, place));
        assert_eq!(found, [true, false, false]);
    }

    #[test]
    fn lanes_of_few_answers_grow_again_by_what_came_in_time_on_all_of_them() {
        let mut lanes = with_lane(UNLIMITED);
        answer(&mut lanes, (1, FAST));
        lanes.answer_alone(1, (FAST, now()), &BOUNDS);
        answer(&mut lanes, (100, LATE));
        lanes.answer_alone(1, (FAST, now()), &BOUNDS);
        let is_patient =
            |lanes: &Lanes| lanes.endpoints[1].lanes[0].depth.growth().is_patient(now());
        assert!(is_patient(&lanes));
        for _ in 0..3 * BOUNDS.depth_max {
            lanes.end((1, key(0)), LaneEnd::Idle, now());
            lanes.begin(1, (key(0), UNLIMITED), (&BOUNDS, now()));
            (0..10).for_each(|_| lanes.answer_alone(1, (FAST, now()), &BOUNDS));
            answer(&mut lanes, (10, FAST));
        }
        assert!(!is_patient(&lanes));
    }

    fn answer(lanes: &mut Lanes, (count, took): (u32, Duration)) {
        for _ in 0..count {
            lanes.enter(1, now());
            lanes.answer((1, key(0)), (took, now()), &BOUNDS);
        }
    }
}
