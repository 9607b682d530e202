//! Which lane takes a request, and how deep lanes may be: a lane is a connection that several requests share, one behind the other
//! (RFC 9112 §9.3.2). Pure: time is an argument; knows neither what is sent nor who waits.
//!
//! A request behind another one waits for that one's answer. How long is kept small from three sides: a lane takes as many requests as
//! its answers come in time for (its depth), the next lane takes the rest, and an endpoint whose lanes stall gets none for a while.
//!
//! ```text
//! depth    growing ─late answer→ halved ─answers to what was sent before→ judged again ─as many in a row in time→ + 1 … up to the bound
//!             └──────────────────────────────────── which took no longer than alone ─────────────────────────────────┘
//! ```

use hp_core::base::slab::Key;
use hp_core::rt::Instant;
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
    /// No lane begins before.
    barred_until: Option<Instant>,
    /// Lanes in a row that ended badly.
    bad_ends: u32,
    alone: Alone,
    wear: Option<Wear>,
}

/// How many requests an endpoint takes on one connection before it closes that, as its last lane has shown: nginx takes 1,000. A lane ends
/// before, since what is behind the last answer is sent again.
#[derive(Clone, Copy, Debug)]
struct Wear {
    uses: u32,
    /// It may have been for another reason, so it is found out anew then.
    holds_until: Instant,
}

/// How long requests like those on lanes take that have a connection of their own: what is no longer than that on a lane, nobody waits
/// for because of the lane.
#[derive(Clone, Copy, Debug)]
struct Alone {
    /// The last ones, in turns.
    recent: [Duration; ALONE_RECENT],
    next: usize,
    /// The shortest of them: where all are long at once, the endpoint is slow; where some are, those behind them wait for the lane.
    took: Duration,
    /// It says nothing any more then.
    holds_until: Instant,
}

/// `waiting <= depth <= depth_max`, but right after the depth was halved.
#[derive(Debug)]
struct Lane {
    key: Key,
    waiting: u32,
    depth: u32,
    /// By one with each answer, until one is late.
    is_growing: bool,
    /// Answers since it was halved, late or not.
    since_halved: u32,
    /// Answers in a row that came in time.
    in_time: u32,
    /// As many of them were there when it grew last.
    grown_at: u32,
    halved: Option<Halved>,
    /// Requests that were sent before it was halved: how late their answers are says nothing of the depth that it has now.
    unjudged: u32,
    answers: u64,
    /// The shortest time of late from a request to its answer, which is nobody's waiting.
    base: Duration,
    limit: LaneLimit,
    /// It takes no more.
    is_closed: bool,
}

/// What it takes to take a halving back: requests alone, whose answers come after the one that was late on the lane, may have been as late.
#[derive(Clone, Copy, Debug)]
struct Halved {
    took: Duration,
    depth: u32,
    is_growing: bool,
    in_time: u32,
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
        lane.waiting += 1;
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
            && of.barred_until.is_none_or(|until| until <= now)
            && !of.lanes.iter().any(|lane| lane.takes(now))
            && u64::from(of.carries(uses, now)) >= ANSWERS_OF_A_GOOD_LANE / 2
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
            if of.wear.is_some_and(|wear| limit.uses > wear.uses) {
                of.wear = None; // It is none, for this one outlived it.
            }
            limit.uses_left = limit.uses_left.min(of.carries(limit.uses, now));
            of.lanes.push(Lane {
                key,
                waiting: 0,
                depth: DEPTH_AT_FIRST.min(bounds.depth_max),
                is_growing: true,
                since_halved: 0,
                in_time: 0,
                grown_at: 0,
                halved: None,
                unjudged: 0,
                answers: 0,
                base: Duration::MAX,
                limit,
                is_closed: false,
            });
        }
    }

    /// The first request of a lane was answered, so long after it was sent.
    #[inline]
    pub(super) fn answer(
        &mut self,
        (endpoint, key): (usize, Key),
        (took, now): (Duration, Instant),
        bounds: &Bounds,
    ) {
        let Some(of) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        let alone = (now < of.alone.holds_until).then_some(of.alone.took);
        if let Some(lane) = of.lanes.iter_mut().find(|lane| lane.key == key) {
            lane.answer((took, alone), bounds);
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
            of.alone.note(took, now);
            for lane in &mut of.lanes {
                lane.judge_again(of.alone.took, bounds.stall / STALL_SHARE);
            }
        }
    }

    /// A request leaves its lane without an answer.
    pub(super) fn leave(&mut self, endpoint: usize, key: Key) {
        if let Some(lane) = self.lane(endpoint, key) {
            lane.waiting = lane.waiting.saturating_sub(1);
            lane.unjudged = lane.unjudged.min(lane.waiting);
        }
    }

    /// An open lane on which nobody waits.
    pub(super) fn idle(&self) -> Option<(usize, Key)> {
        let all = self.endpoints.iter().enumerate();
        let mut lanes =
            all.flat_map(|(endpoint, of)| of.lanes.iter().map(move |lane| (endpoint, lane)));
        let idle = lanes.find(|(_, lane)| lane.waiting == 0 && !lane.is_closed);
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

    /// A lane is gone. An endpoint whose lanes stall, or end before they were of use, gets the next one after a while: that bounds
    /// how often requests are sent twice for it.
    pub(super) fn end(&mut self, (endpoint, key): (usize, Key), end: LaneEnd, now: Instant) {
        let Some(of) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        let Some(place) = of.lanes.iter().position(|lane| lane.key == key) else {
            return;
        };
        let lane = of.lanes.remove(place);
        let answers = u32::try_from(lane.answers).unwrap_or(u32::MAX);
        let uses = lane.limit.uses.saturating_add(answers);
        if end == LaneEnd::Closed && lane.answers >= ANSWERS_OF_A_GOOD_LANE {
            // What was lost with the connection is not counted, so the most is nearest to it.
            let known = of.wear.filter(|wear| now < wear.holds_until);
            of.wear = Some(Wear {
                uses: known.map_or(uses, |wear| wear.uses.max(uses)),
                holds_until: now + WEAR_HOLDS,
            });
        }
        let is_bad = match end {
            LaneEnd::Idle | LaneEnd::Left => false,
            LaneEnd::Closed | LaneEnd::Broken => u64::from(uses) < ANSWERS_OF_A_GOOD_LANE,
            LaneEnd::Stalled => true,
        };
        if is_bad {
            if lane.answers >= STALL_WORTH * u64::from(lane.depth) {
                of.bad_ends = 0;
            }
            let bar = BAR_MIN.saturating_mul(1 << of.bad_ends.min(BAR_DOUBLINGS_MAX));
            of.barred_until = Some(now + bar);
            of.bad_ends = of.bad_ends.saturating_add(1);
        } else if lane.answers >= ANSWERS_OF_A_GOOD_LANE {
            (of.barred_until, of.bad_ends) = (None, 0);
        }
    }

    /// A slot is another endpoint's by now: how lanes ended there, and what was slow, says nothing of it.
    pub(super) fn forget_past(&mut self, endpoint: usize) {
        if let Some(of) = self.endpoints.get_mut(endpoint) {
            (of.barred_until, of.bad_ends) = (None, 0);
            (of.alone, of.wear) = (Alone::default(), None);
        }
    }

    #[inline]
    fn lane(&mut self, endpoint: usize, key: Key) -> Option<&mut Lane> {
        let lanes = &mut self.endpoints.get_mut(endpoint)?.lanes;
        lanes.iter_mut().find(|lane| lane.key == key)
    }
}

impl OfEndpoint {
    /// How many requests a connection carries before it is worn that has carried so many.
    fn carries(&self, uses: u32, now: Instant) -> u32 {
        match self.wear {
            Some(wear) if now < wear.holds_until && uses <= wear.uses => {
                wear.uses.saturating_sub(uses.saturating_add(1))
            }
            _ => u32::MAX,
        }
    }
}

impl Lane {
    #[inline]
    fn takes(&self, now: Instant) -> bool {
        !self.is_closed
            && self.waiting < self.depth
            && self.limit.uses_left > 0
            && now < self.limit.ends_at
    }

    /// Judges the depth by how long an answer took, and what takes that long alone, if that is known.
    fn answer(&mut self, (took, alone): (Duration, Option<Duration>), bounds: &Bounds) {
        self.waiting = self.waiting.saturating_sub(1);
        self.answers += 1;
        let waited = took.saturating_sub(self.base);
        // A path that has become longer is learned slowly, so that waiting is not taken for it.
        self.base = if took < self.base {
            took
        } else {
            self.base + waited / BASE_WEIGHT
        };
        let late = bounds.stall / STALL_SHARE;
        if self.unjudged > 0 {
            self.unjudged -= 1;
            return;
        }
        self.since_halved = self.since_halved.saturating_add(1);
        if waited > late && alone.is_none_or(|alone| took > alone + late) {
            if self.since_halved >= self.depth {
                self.halved = Some(Halved {
                    took,
                    depth: self.depth,
                    is_growing: self.is_growing,
                    in_time: self.in_time,
                });
                self.depth = (self.depth / 2).max(1);
                self.since_halved = 0;
                self.unjudged = self.waiting;
            }
            (self.is_growing, self.in_time, self.grown_at) = (false, 0, 0);
            return;
        }
        self.in_time = self.in_time.saturating_add(1);
        if self.in_time >= self.depth {
            self.halved = None; // What takes long alone now is another pause.
        }
        // What it was halved for is over when so many have come in time, and sharing costs nothing.
        self.is_growing |= self.in_time >= bounds.depth_max.saturating_mul(LANES_IN_TIME)
            && alone.is_some_and(|alone| took <= alone + late / STALL_SHARE);
        if self.is_growing || self.in_time - self.grown_at >= self.depth {
            self.depth = (self.depth + 1).min(bounds.depth_max);
            self.grown_at = self.in_time;
        }
    }

    /// A request alone took so long: what halved the lane may have been no more than that.
    fn judge_again(&mut self, alone: Duration, late: Duration) {
        if let Some(halved) = self.halved
            && halved.took <= alone + late
        {
            self.depth = self.depth.max(halved.depth);
            self.is_growing |= halved.is_growing;
            self.in_time = self.in_time.saturating_add(halved.in_time);
            self.grown_at = self.in_time;
            self.halved = None;
        }
    }
}

impl Alone {
    fn note(&mut self, took: Duration, now: Instant) {
        if now >= self.holds_until {
            self.recent = [Duration::ZERO; ALONE_RECENT]; // One says nothing of the next.
        }
        self.recent[self.next % ALONE_RECENT] = took;
        self.next = self.next.wrapping_add(1);
        self.took = self.recent.into_iter().min().unwrap_or_default();
        self.holds_until = now + ALONE_HOLDS;
    }
}

impl Default for Alone {
    fn default() -> Self {
        Self {
            recent: [Duration::ZERO; ALONE_RECENT],
            next: 0,
            took: Duration::ZERO,
            holds_until: Instant::START,
        }
    }
}

/// Before anything is known of how long answers take.
const DEPTH_AT_FIRST: u32 = 8;
/// An answer is late when it waited for more than this part of a stall, and sharing costs nothing where it waited for less than this part
/// of that.
const STALL_SHARE: u32 = 4;
/// So many times the bound of its depth has to come in time before a lane that was halved grows as fast as a new one: where one in fifty is
/// slow, it would be deep again before the next one.
const LANES_IN_TIME: u32 = 4;
/// Where half of all requests are slow, all of so many are one time in 64.
const ALONE_RECENT: usize = 6;
/// Load changes within a second.
const ALONE_HOLDS: Duration = Duration::from_secs(1);
const BASE_WEIGHT: u32 = 1024;
/// A lane that carried so many was of use, and so was a connection.
const ANSWERS_OF_A_GOOD_LANE: u64 = 64;
/// A lane that carried so many times its depth repeats next to nothing by its stall.
const STALL_WORTH: u64 = 32;
const WEAR_HOLDS: Duration = Duration::from_secs(60);
const BAR_MIN: Duration = Duration::from_secs(1);
/// Up to 64 s.
const BAR_DOUBLINGS_MAX: u32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        depth_max: 32,
        lanes_max: 2,
        stall: Duration::from_millis(50),
    };
    const UNLIMITED: LaneLimit = LaneLimit {
        uses: 1,
        uses_left: u32::MAX,
        ends_at: Instant::NEVER,
    };
    const FAST: Duration = Duration::from_millis(1);
    const LATE: Duration = Duration::from_millis(20);

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

    /// As many as it takes to know how long requests alone wait.
    fn alone(lanes: &mut Lanes, took: Duration) {
        for _ in 0..ALONE_RECENT {
            lanes.answer_alone(1, (took, now()), &BOUNDS);
        }
    }

    #[test]
    fn a_lane_grows_while_its_answers_come_in_time_and_no_further_than_its_bound() {
        let mut lanes = with_lane(UNLIMITED);
        assert_eq!(fill(&mut lanes), DEPTH_AT_FIRST);
        answer_all(&mut lanes, DEPTH_AT_FIRST, FAST);
        assert_eq!(fill(&mut lanes), 2 * DEPTH_AT_FIRST);
        for _ in 0..10 {
            let waiting = lanes.endpoints[1].lanes[0].waiting;
            answer_all(&mut lanes, waiting, FAST);
            fill(&mut lanes);
        }
        assert_eq!(lanes.endpoints[1].lanes[0].waiting, BOUNDS.depth_max);
    }

    #[test]
    fn late_answers_halve_a_lane_down_to_one_request_at_a_time() {
        let mut lanes = with_lane(UNLIMITED);
        fill(&mut lanes);
        answer_all(&mut lanes, 1, FAST);
        for _ in 0..100 {
            lanes.enter(1, now());
            answer_all(&mut lanes, 1, LATE);
        }
        let waiting = lanes.endpoints[1].lanes[0].waiting;
        answer_all(&mut lanes, waiting, LATE);
        assert_eq!(fill(&mut lanes), 1);
    }

    /// One pause of a machine made all that a lane carried late. The first such answer halved it, and those behind, sent long before that,
    /// halved it again and again, until nearly all requests had connections of their own.
    #[test]
    fn what_was_sent_before_a_lane_was_halved_does_not_halve_it_again() {
        let mut lanes = with_lane(UNLIMITED);
        let mut waiting = fill(&mut lanes);
        answer_all(&mut lanes, waiting, FAST);
        waiting = fill(&mut lanes);
        answer_all(&mut lanes, waiting, LATE);
        while lanes.endpoints[1].lanes[0].depth < BOUNDS.depth_max {
            fill(&mut lanes);
            answer_all(&mut lanes, 1, FAST);
        }
        fill(&mut lanes);
        let full = lanes.endpoints[1].lanes[0].waiting;
        assert_eq!(full, BOUNDS.depth_max);
        answer_all(&mut lanes, full, LATE);
        assert_eq!(fill(&mut lanes), full / 2);
        answer_all(&mut lanes, full / 2, LATE);
        assert_eq!(fill(&mut lanes), full / 4, "these were sent after that");
    }

    /// A server with too much to do keeps all waiting alike. Lanes were halved for it, and requests that went alone made it more.
    #[test]
    fn a_lane_whose_answers_take_as_long_alone_is_not_late() {
        let mut lanes = with_lane(UNLIMITED);
        let count = fill(&mut lanes);
        answer_all(&mut lanes, count, FAST);
        for _ in 0..100 {
            alone(&mut lanes, LATE);
            let count = fill(&mut lanes);
            answer_all(&mut lanes, count, LATE + LATE / 2);
        }
        assert_eq!(fill(&mut lanes), BOUNDS.depth_max);
    }

    /// Which of them is answered first after an endpoint stood still is chance.
    #[test]
    fn a_lane_is_not_halved_for_what_took_as_long_alone_at_the_same_time() {
        let depth_after = |in_time: u32| {
            let mut lanes = with_lane(UNLIMITED);
            let count = fill(&mut lanes);
            answer_all(&mut lanes, count, FAST);
            let count = fill(&mut lanes);
            answer_all(&mut lanes, 1, LATE);
            answer_all(&mut lanes, count - 1, LATE);
            for _ in 0..in_time {
                lanes.enter(1, now());
                answer_all(&mut lanes, 1, FAST);
            }
            alone(&mut lanes, LATE);
            lanes.endpoints[1].lanes[0].depth
        };
        assert_eq!(depth_after(0), 2 * DEPTH_AT_FIRST);
        assert!(depth_after(DEPTH_AT_FIRST) < 2 * DEPTH_AT_FIRST);
    }

    #[test]
    fn a_lane_that_was_halved_grows_with_each_answer_once_many_in_a_row_came_as_soon_as_alone() {
        let grown = |took_alone: Duration, lanes_full: u32| {
            let mut lanes = with_lane(UNLIMITED);
            let count = fill(&mut lanes);
            answer_all(&mut lanes, count, FAST);
            fill(&mut lanes);
            answer_all(&mut lanes, 2 * DEPTH_AT_FIRST, LATE);
            alone(&mut lanes, took_alone);
            for _ in 0..lanes_full {
                let count = fill(&mut lanes);
                answer_all(&mut lanes, count, FAST * 5);
            }
            fill(&mut lanes) - DEPTH_AT_FIRST
        };
        assert_eq!([grown(FAST, 3), grown(FAST * 5, 3)], [3, 3]);
        assert_eq!(grown(FAST, 11), 11);
        assert_eq!(grown(FAST * 5, 11), BOUNDS.depth_max - DEPTH_AT_FIRST);
    }

    #[test]
    fn few_long_answers_alone_excuse_no_lane() {
        let mut lanes = with_lane(UNLIMITED);
        alone(&mut lanes, FAST);
        for _ in 0..ALONE_RECENT - 1 {
            lanes.answer_alone(1, (10 * LATE, now()), &BOUNDS);
        }
        let count = fill(&mut lanes);
        answer_all(&mut lanes, count, FAST);
        let count = fill(&mut lanes);
        answer_all(&mut lanes, count, LATE);
        assert_eq!(fill(&mut lanes), count / 2);
    }

    /// Each answer that was as fast as alone made a lane deeper and was the end of the count after which late ones halve it, so one in
    /// ten requests of 40 ms kept all others waiting behind it.
    #[test]
    fn fast_answers_now_and_then_do_not_keep_a_lane_deep_whose_others_are_late() {
        for late_in_ten in 1..=9 {
            let mut lanes = with_lane(UNLIMITED);
            let count = fill(&mut lanes);
            answer_all(&mut lanes, count, FAST);
            let mut depths = 0;
            for _ in 0..1000 {
                lanes.answer_alone(1, (FAST, now()), &BOUNDS);
                for step in 0..10 {
                    fill(&mut lanes);
                    let took = if step < late_in_ten { LATE } else { FAST };
                    answer_all(&mut lanes, 1, took);
                    depths += lanes.endpoints[1].lanes[0].depth;
                }
            }
            let depth = f64::from(depths) / 10_000.0;
            assert!(depth < 10.0, "{late_in_ten} late in ten: {depth}");
        }
    }

    /// More than half of what is asked takes long: that is no reason for the others to wait behind it.
    #[test]
    fn long_answers_alone_excuse_no_lane_while_some_are_short() {
        let mut lanes = with_lane(UNLIMITED);
        for took in [FAST, LATE, LATE, LATE].repeat(2) {
            lanes.answer_alone(1, (took, now()), &BOUNDS);
        }
        let count = fill(&mut lanes);
        answer_all(&mut lanes, count, FAST);
        let count = fill(&mut lanes);
        answer_all(&mut lanes, count, LATE + LATE / 2);
        assert_eq!(fill(&mut lanes), count / 2);
    }

    #[test]
    fn what_answers_alone_took_is_forgotten() {
        let judged_after = |pause: Duration| {
            let mut lanes = with_lane(UNLIMITED);
            alone(&mut lanes, LATE);
            let count = fill(&mut lanes);
            answer_all(&mut lanes, count, FAST);
            let count = fill(&mut lanes);
            for _ in 0..count {
                lanes.answer((1, key(0)), (LATE, now() + pause), &BOUNDS);
            }
            fill(&mut lanes) < count
        };
        assert!(!judged_after(ALONE_HOLDS / 2));
        assert!(judged_after(ALONE_HOLDS));
    }

    #[test]
    fn a_server_that_is_far_away_is_not_late() {
        let mut lanes = with_lane(UNLIMITED);
        for _ in 0..100 {
            let count = fill(&mut lanes);
            answer_all(&mut lanes, count, Duration::from_millis(200));
        }
        assert_eq!(fill(&mut lanes), BOUNDS.depth_max);
    }

    #[test]
    fn the_first_lane_is_filled_before_the_next() {
        let mut lanes = with_lane(UNLIMITED);
        assert!(
            !lanes.wants(1, (&BOUNDS, None), (1, now())),
            "the first has room"
        );
        for _ in 0..DEPTH_AT_FIRST {
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
        let later = now() + WEAR_HOLDS;
        assert_eq!(carries(&mut lanes, 1, later), Some((999, LaneEnd::Closed)));
        lanes.forget_past(1);
        assert_eq!(carries(&mut lanes, 1, now()), Some((999, LaneEnd::Closed)));
    }

    /// An endpoint that was started anew has closed its connections before their time.
    #[test]
    fn a_wear_is_none_that_a_connection_outlives_and_none_that_a_client_causes() {
        let after = |end: LaneEnd| {
            let mut lanes = with_lane(UNLIMITED);
            for _ in 0..100 {
                lanes.enter(1, now());
                lanes.answer((1, key(0)), (FAST, now()), &BOUNDS);
            }
            lanes.end((1, key(0)), end, now());
            lanes
        };
        let wants = |lanes: &Lanes, uses: u32| lanes.wants(1, (&BOUNDS, None), (uses, now()));
        for end in [LaneEnd::Broken, LaneEnd::Left, LaneEnd::Idle] {
            assert!(wants(&after(end), 70));
        }
        let mut lanes = after(LaneEnd::Closed);
        assert!(!wants(&lanes, 70) && !wants(&lanes, 101));
        assert!(wants(&lanes, 102));
        let outlived = LaneLimit {
            uses: 102,
            ..UNLIMITED
        };
        lanes.begin(1, (key(0), outlived), (&BOUNDS, now()));
        lanes.end((1, key(0)), LaneEnd::Idle, now());
        assert!(wants(&lanes, 70));
    }

    #[test]
    fn an_endpoint_whose_lanes_end_badly_is_left_alone_for_longer_each_time() {
        let mut lanes = Lanes::default();
        let mut now = now();
        for seconds in [1, 2, 4, 8, 16, 32, 64, 64] {
            assert!(lanes.wants(1, (&BOUNDS, None), (1, now)));
            lanes.begin(1, (key(0), UNLIMITED), (&BOUNDS, now));
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
    fn a_lane_that_was_of_use_may_end_in_order_and_a_stall_is_never_good() {
        let ends = |answers: u64, end: LaneEnd| {
            let mut lanes = with_lane(UNLIMITED);
            for _ in 0..answers {
                lanes.enter(1, now());
                lanes.answer((1, key(0)), (FAST, now()), &BOUNDS);
            }
            lanes.end((1, key(0)), end, now());
            lanes.wants(1, (&BOUNDS, None), (1, now()))
        };
        assert!(
            ends(ANSWERS_OF_A_GOOD_LANE - 1, LaneEnd::Closed),
            "with the one before"
        );
        assert!(!ends(ANSWERS_OF_A_GOOD_LANE - 2, LaneEnd::Closed));
        assert!(ends(0, LaneEnd::Idle) && ends(0, LaneEnd::Left));
        assert!(!ends(1000, LaneEnd::Stalled));
    }

    /// A backend that stands still for a moment every ten seconds shared nothing for a minute after the seventh time.
    #[test]
    fn a_stall_of_a_lane_that_carried_far_more_than_it_keeps_waiting_bars_its_endpoint_for_no_longer_than_the_first()
     {
        let bars = |answers: u32| {
            let mut lanes = Lanes::default();
            let mut start = now();
            let mut bar = Duration::ZERO;
            for _ in 0..7 {
                lanes.begin(1, (key(0), UNLIMITED), (&BOUNDS, start));
                for _ in 0..answers {
                    lanes.enter(1, start);
                    lanes.answer((1, key(0)), (FAST, start), &BOUNDS);
                }
                lanes.end((1, key(0)), LaneEnd::Stalled, start);
                let until = lanes.endpoints[1].barred_until.expect("it stalled");
                bar = Duration::from_nanos(until.as_nanos() - start.as_nanos());
                start = until;
            }
            bar
        };
        assert_eq!(bars(32 * BOUNDS.depth_max), BAR_MIN);
        assert_eq!(bars(BOUNDS.depth_max), BAR_MIN * 64);
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
}
