//! How many requests may wait on one lane, judged by when its answers came. Pure: knows no lane's connection, and no clock.
//!
//! ```text
//! depth    growing ─late answer→ halved ─answers to what was sent before→ judged again ─as many in a row in time→ + 1 … up to the bound
//!             └──────────────────────────────────── which took no longer than alone ─────────────────────────────────┘
//! ```

use super::Bounds;
use hp_core::rt::Instant;
use std::time::Duration;

/// `waiting <= growth.most <= depth_max`, but right after the depth was halved.
#[derive(Debug)]
pub(super) struct Depth {
    /// Requests on the lane.
    waiting: u32,
    growth: Growth,
    /// Answers since it was halved, late or not.
    since_halved: u32,
    /// So many had come in time in a row when it grew last; `grown_at <= growth.in_time`.
    grown_at: u32,
    halved: Option<Halved>,
    /// What the last request alone took before it was halved, and until when one behind it says the same or not.
    before_halved: Option<(Beside, Instant)>,
    /// Requests that were sent before it was halved: how late their answers are says nothing of the depth that it has now.
    unjudged: u32,
    /// The shortest time of late from a request to its answer, which is nobody's waiting.
    base: Duration,
}

/// How deep a lane is, and how it becomes deeper; what one has come to, the next one of its endpoint begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Growth {
    /// Requests that may be on the lane.
    most: u32,
    /// By one with each answer, until one is late.
    is_growing: bool,
    /// Otherwise by one when so many times `most` have come in time in a row: 1, or [`PATIENCE`] where some requests are slow.
    patience: u32,
    /// Answers in a row that came in time, those included of the lane that it goes on from.
    in_time: u32,
    /// When the last one did not: what some requests are like holds for a while.
    late_at: Instant,
}

/// What it takes to take a halving back: requests alone, whose answers come after the one that was late on the lane, may have been as late.
#[derive(Clone, Copy, Debug)]
struct Halved {
    took: Duration,
    growth: Growth,
}

/// How long requests like those on lanes take that have a connection of their own: what is no longer than that on a lane, nobody waits
/// for because of the lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alone {
    /// The last ones, in turns; `None`: not known yet.
    recent: [Option<Duration>; ALONE_RECENT],
    next: usize,
    /// The shortest of them: where all are long at once, the endpoint is slow; where some are, those behind them wait for the lane. One that is not
    /// known may have taken no time.
    took: Duration,
    /// `None` where those that are not known could make it the one or the other.
    last: Option<Beside>,
    /// It says nothing any more then.
    holds_until: Instant,
}

/// What a request alone took, beside the shortest of late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    Short,
    Long,
}

impl Depth {
    /// Of a lane of whose answers nothing is known but what another one had come to.
    pub(super) fn new(other: Option<Growth>, bounds: &Bounds) -> Self {
        let growth = other.unwrap_or_default();
        let most = growth.most.min(DEPTH_AT_FIRST).min(bounds.depth_max);
        Self {
            waiting: 0,
            growth: Growth { most, ..growth },
            since_halved: 0,
            grown_at: growth.in_time,
            halved: None,
            before_halved: None,
            unjudged: 0,
            base: Duration::MAX,
        }
    }

    /// A request comes to those that wait.
    #[inline]
    pub(super) fn enter(&mut self) {
        self.waiting += 1;
    }

    /// A request is not on the lane any more.
    pub(super) fn leave(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
        self.unjudged = self.unjudged.min(self.waiting);
    }

    /// The first request was answered after so long. Judges the depth by that, and by what takes that long alone, if that is known.
    pub(super) fn answer(&mut self, answer: (Duration, Instant), alone: &Alone, bounds: &Bounds) {
        self.judge(answer, alone, (bounds.depth_max, bounds));
        self.leave();
    }

    /// The answer to the first request has begun after so long, and an exchange passes it on. Sharing gains little then, for each such answer is
    /// waited for by two tasks, so it makes no lane deeper than a new one.
    pub(super) fn begin_answer(
        &mut self,
        answer: (Duration, Instant),
        alone: &Alone,
        bounds: &Bounds,
    ) {
        let most_at_first = DEPTH_AT_FIRST.min(bounds.depth_max);
        self.judge(answer, alone, (most_at_first.max(self.growth.most), bounds));
        if self.growth.most > most_at_first {
            self.growth.most -= 1; // Among others that make it deeper.
        }
    }

    fn judge(
        &mut self,
        (took, now): (Duration, Instant),
        requests_alone: &Alone,
        (most_max, bounds): (u32, &Bounds),
    ) {
        let alone = requests_alone.took(now);
        self.growth.most = self.growth.most.min(bounds.depth_max); // Of a plan that came meanwhile.
        let waited = took.saturating_sub(self.base);
        // A path that has become longer is learned slowly, so that waiting is not taken for it.
        self.base = if took < self.base {
            took
        } else {
            self.base + waited / BASE_WEIGHT
        };
        let late = late(bounds);
        if self.unjudged > 0 {
            self.unjudged -= 1;
            return;
        }
        self.since_halved = self.since_halved.saturating_add(1);
        if waited > late && alone.is_none_or(|alone| took > alone + late) {
            if self.since_halved >= self.growth.most {
                self.halved = Some(Halved {
                    took,
                    growth: self.growth,
                });
                self.growth.most = (self.growth.most / 2).max(1);
                let last = requests_alone.last(now);
                self.before_halved = last.map(|last| (last, now + ALONE_HOLDS));
                self.since_halved = 0;
                self.unjudged = self.waiting.saturating_sub(1);
            }
            self.growth.is_growing = false;
            (self.growth.in_time, self.grown_at) = (0, 0);
            self.growth.late_at = now;
            return;
        }
        self.growth.in_time = self.growth.in_time.saturating_add(1);
        if self.growth.in_time >= self.growth.most {
            self.halved = None; // What takes long alone now is another pause.
        }
        // What it was halved for is over when so many have come in time, and sharing costs nothing.
        if self.growth.has_recovered(bounds)
            && alone.is_some_and(|alone| took <= alone + late / STALL_SHARE)
        {
            (self.growth.is_growing, self.growth.patience) = (true, 1);
        }
        let in_a_row = self.growth.in_time - self.grown_at;
        if self.growth.is_growing
            || in_a_row >= self.growth.most.saturating_mul(self.growth.patience)
        {
            self.growth.most = (self.growth.most + 1).min(most_max);
            self.grown_at = self.growth.in_time;
        }
    }

    /// One more request was answered alone. What halved the lane may have been no more than took as long there; where those before and
    /// behind it were short, some requests are slow, and not their endpoint.
    pub(super) fn judge_again(&mut self, alone: &Alone, now: Instant, bounds: &Bounds) {
        if let (Some((before, until)), Some(behind)) = (self.before_halved, alone.last) {
            self.before_halved = None;
            match (before, behind) {
                _ if now >= until => (),
                (Beside::Short, Beside::Short) => self.growth.patience = PATIENCE,
                (Beside::Long, Beside::Long) => self.growth.patience = 1,
                (Beside::Short, Beside::Long) | (Beside::Long, Beside::Short) => (),
            }
        }
        if let Some(halved) = self.halved
            && halved.took <= alone.took + late(bounds)
        {
            self.growth = Growth {
                most: self.growth.most.max(halved.growth.most),
                is_growing: self.growth.is_growing | halved.growth.is_growing,
                patience: halved.growth.patience,
                in_time: self.growth.in_time.saturating_add(halved.growth.in_time),
                late_at: halved.growth.late_at,
            };
            self.grown_at = self.growth.in_time;
            self.halved = None;
        }
    }

    /// Whether one more may wait.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.waiting < self.growth.most
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// What it has come to.
    pub(super) fn growth(&self) -> Growth {
        self.growth
    }
}

impl Growth {
    /// Whether some requests were slow of late that others on the lane waited for.
    pub(super) fn is_patient(self, now: Instant) -> bool {
        self.patience > 1 && now < self.late_at + LATE_HOLDS
    }

    /// Whether so many have come in time that what was late before is over.
    pub(super) fn has_recovered(self, bounds: &Bounds) -> bool {
        self.in_time >= bounds.depth_max.saturating_mul(BOUNDS_IN_TIME)
    }

    pub(super) fn most(self) -> u32 {
        self.most
    }
}

impl Default for Growth {
    fn default() -> Self {
        Self {
            most: DEPTH_AT_FIRST,
            is_growing: true,
            patience: 1,
            in_time: 0,
            late_at: Instant::START,
        }
    }
}

impl Alone {
    /// A request was answered on a connection of its own after so long.
    pub(super) fn note(&mut self, took: Duration, now: Instant, bounds: &Bounds) {
        if now >= self.holds_until {
            self.recent = [None; ALONE_RECENT]; // One says nothing of the next.
        }
        self.recent[self.next % ALONE_RECENT] = Some(took);
        self.next = self.next.wrapping_add(1);
        let all = self.recent.into_iter();
        self.took = all.clone().min().flatten().unwrap_or_default();
        let is_long = all.flatten().any(|one| took > one + late(bounds));
        let is_short = took <= self.took + late(bounds);
        self.last = match (is_long, is_short) {
            (true, _) => Some(Beside::Long),
            (false, true) => Some(Beside::Short),
            (false, false) => None,
        };
        self.holds_until = now + ALONE_HOLDS;
    }

    /// What the last one took beside the others, if that is known.
    fn last(&self, now: Instant) -> Option<Beside> {
        self.last.filter(|_| now < self.holds_until)
    }

    /// How long they take, if that is known.
    #[inline]
    pub(super) fn took(&self, now: Instant) -> Option<Duration> {
        (now < self.holds_until).then_some(self.took)
    }
}

impl Default for Alone {
    fn default() -> Self {
        Self {
            recent: [None; ALONE_RECENT],
            next: 0,
            took: Duration::ZERO,
            last: None,
            holds_until: Instant::START,
        }
    }
}

/// How long an answer may have waited for others before it is late.
fn late(bounds: &Bounds) -> Duration {
    bounds.stall / STALL_SHARE
}

/// Before anything is known of how long answers take.
const DEPTH_AT_FIRST: u32 = 8;
/// An answer is late when it waited for more than this part of a stall, and sharing costs nothing where it waited for less than this part
/// of that.
const STALL_SHARE: u32 = 4;
/// So many times the bound of its depth has to come in time before a lane that was halved grows as fast as a new one: where one in fifty is
/// slow, it would be deep again before the next one.
const BOUNDS_IN_TIME: u32 = 4;
/// Where some requests are slow, what comes in time between two of them says little: with as many in a row as the lane was deep, one in fifty
/// kept three times as many waiting. With more patience a backend that stands still most of the time shares less, for what goes alone is not always
/// there to tell of it.
const PATIENCE: u32 = 12;
/// Where half of all requests are slow, all of so many are one time in 64.
const ALONE_RECENT: usize = 6;
/// Load changes within a second.
const ALONE_HOLDS: Duration = Duration::from_secs(1);
/// What was slow may be over, and a lane that begins deep learns it anew.
const LATE_HOLDS: Duration = Duration::from_secs(60);
const BASE_WEIGHT: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::super::tests::{BOUNDS, FAST, LATE};
    use super::*;

    /// A lane, and the requests beside it that have connections of their own.
    struct Lane {
        depth: Depth,
        alone: Alone,
    }

    impl Lane {
        fn new() -> Self {
            Self {
                depth: Depth::new(None, &BOUNDS),
                alone: Alone::default(),
            }
        }

        /// Puts as many requests on the lane as it takes; tells how many there were.
        fn fill(&mut self) -> u32 {
            let mut count = 0;
            while self.depth.has_room() {
                self.depth.enter();
                count += 1;
            }
            count
        }

        fn answer(&mut self, count: u32, took: Duration) {
            for _ in 0..count {
                self.answer_at(took, Instant::START);
            }
        }

        fn answer_at(&mut self, took: Duration, now: Instant) {
            self.depth.answer((took, now), &self.alone, &BOUNDS);
        }

        /// As many as it takes to know how long requests alone wait.
        fn alone(&mut self, took: Duration) {
            for _ in 0..ALONE_RECENT {
                self.one_alone(took);
            }
        }

        fn one_alone(&mut self, took: Duration) {
            self.alone.note(took, Instant::START, &BOUNDS);
            self.depth.judge_again(&self.alone, Instant::START, &BOUNDS);
        }
    }

    #[test]
    fn a_lane_grows_while_its_answers_come_in_time_and_no_further_than_its_bound() {
        let mut lane = Lane::new();
        assert_eq!(lane.fill(), DEPTH_AT_FIRST);
        lane.answer(DEPTH_AT_FIRST, FAST);
        assert_eq!(lane.fill(), 2 * DEPTH_AT_FIRST);
        for _ in 0..10 {
            let waiting = lane.depth.waiting;
            lane.answer(waiting, FAST);
            lane.fill();
        }
        assert_eq!(lane.depth.waiting, BOUNDS.depth_max);
    }

    #[test]
    fn late_answers_halve_a_lane_down_to_one_request_at_a_time() {
        let mut lane = Lane::new();
        lane.fill();
        lane.answer(1, FAST);
        for _ in 0..100 {
            lane.depth.enter();
            lane.answer(1, LATE);
        }
        let waiting = lane.depth.waiting;
        lane.answer(waiting, LATE);
        assert_eq!(lane.fill(), 1);
    }

    /// One pause of a machine made all that a lane carried late. The first such answer halved it, and those behind, sent long before that,
    /// halved it again and again, until nearly all requests had connections of their own.
    #[test]
    fn what_was_sent_before_a_lane_was_halved_does_not_halve_it_again() {
        let mut lane = Lane::new();
        let mut waiting = lane.fill();
        lane.answer(waiting, FAST);
        waiting = lane.fill();
        lane.answer(waiting, LATE);
        while lane.depth.growth.most < BOUNDS.depth_max {
            lane.fill();
            lane.answer(1, FAST);
        }
        lane.fill();
        let full = lane.depth.waiting;
        assert_eq!(full, BOUNDS.depth_max);
        lane.answer(full, LATE);
        assert_eq!(lane.fill(), full / 2);
        lane.answer(full / 2, LATE);
        assert_eq!(lane.fill(), full / 4, "these were sent after that");
    }

    /// A server with too much to do keeps all waiting alike. Lanes were halved for it, and requests that went alone made it more.
    #[test]
    fn a_lane_whose_answers_take_as_long_alone_is_not_late() {
        let mut lane = Lane::new();
        let count = lane.fill();
        lane.answer(count, FAST);
        for _ in 0..100 {
            lane.alone(LATE);
            let count = lane.fill();
            lane.answer(count, LATE + LATE / 2);
        }
        assert_eq!(lane.fill(), BOUNDS.depth_max);
    }

    /// Which of them is answered first after an endpoint stood still is chance.
    #[test]
    fn a_lane_is_not_halved_for_what_took_as_long_alone_at_the_same_time() {
        let depth_after = |in_time: u32| {
            let mut lane = Lane::new();
            let count = lane.fill();
            lane.answer(count, FAST);
            let count = lane.fill();
            lane.answer(1, LATE);
            lane.answer(count - 1, LATE);
            for _ in 0..in_time {
                lane.depth.enter();
                lane.answer(1, FAST);
            }
            lane.alone(LATE);
            lane.depth.growth.most
        };
        assert_eq!(depth_after(0), 2 * DEPTH_AT_FIRST);
        assert!(depth_after(DEPTH_AT_FIRST) < 2 * DEPTH_AT_FIRST);
    }

    #[test]
    fn a_lane_that_was_halved_grows_with_each_answer_once_many_in_a_row_came_as_soon_as_alone() {
        let grown = |took_alone: Duration, lanes_full: u32| {
            let mut lane = Lane::new();
            let count = lane.fill();
            lane.answer(count, FAST);
            lane.fill();
            lane.answer(2 * DEPTH_AT_FIRST, LATE);
            lane.alone(took_alone);
            for _ in 0..lanes_full {
                let count = lane.fill();
                lane.answer(count, FAST * 5);
            }
            lane.fill() - DEPTH_AT_FIRST
        };
        assert_eq!([grown(FAST, 3), grown(FAST * 5, 3)], [3, 3]);
        assert_eq!(grown(FAST, 11), 11);
        assert_eq!(grown(FAST * 5, 11), BOUNDS.depth_max - DEPTH_AT_FIRST);
    }

    #[test]
    fn few_long_answers_alone_excuse_no_lane() {
        let mut lane = Lane::new();
        lane.alone(FAST);
        for _ in 0..ALONE_RECENT - 1 {
            lane.one_alone(10 * LATE);
        }
        let count = lane.fill();
        lane.answer(count, FAST);
        let count = lane.fill();
        lane.answer(count, LATE);
        assert_eq!(lane.fill(), count / 2);
    }

    /// Each answer that was as fast as alone made a lane deeper and was the end of the count after which late ones halve it, so one in
    /// ten requests of 40 ms kept all others waiting behind it.
    #[test]
    fn fast_answers_now_and_then_do_not_keep_a_lane_deep_whose_others_are_late() {
        for late_in_ten in 1..=9 {
            let mut lane = Lane::new();
            let count = lane.fill();
            lane.answer(count, FAST);
            let mut depths = 0;
            for _ in 0..1000 {
                lane.one_alone(FAST);
                for step in 0..10 {
                    lane.fill();
                    let took = if step < late_in_ten { LATE } else { FAST };
                    lane.answer(1, took);
                    depths += lane.depth.growth.most;
                }
            }
            let depth = f64::from(depths) / 10_000.0;
            assert!(depth < 10.0, "{late_in_ten} late in ten: {depth}");
        }
    }

    /// More than half of what is asked takes long: that is no reason for the others to wait behind it.
    #[test]
    fn long_answers_alone_excuse_no_lane_while_some_are_short() {
        let mut lane = Lane::new();
        for took in [FAST, LATE, LATE, LATE].repeat(2) {
            lane.one_alone(took);
        }
        let count = lane.fill();
        lane.answer(count, FAST);
        let count = lane.fill();
        lane.answer(count, LATE + LATE / 2);
        assert_eq!(lane.fill(), count / 2);
    }

    #[test]
    fn what_answers_alone_took_is_forgotten() {
        let judged_after = |pause: Duration| {
            let mut lane = Lane::new();
            lane.alone(LATE);
            let count = lane.fill();
            lane.answer(count, FAST);
            let count = lane.fill();
            for _ in 0..count {
                lane.answer_at(LATE, Instant::START + pause);
            }
            lane.fill() < count
        };
        assert!(!judged_after(ALONE_HOLDS / 2));
        assert!(judged_after(ALONE_HOLDS));
    }

    #[test]
    fn a_server_that_is_far_away_is_not_late() {
        let mut lane = Lane::new();
        for _ in 0..100 {
            let count = lane.fill();
            lane.answer(count, Duration::from_millis(200));
        }
        assert_eq!(lane.fill(), BOUNDS.depth_max);
    }

    /// With as deep lanes as other answers make, 512 clients of chunked ones had a p99 of 33 to 46 ms, which is 7 to 8 with these.
    #[test]
    fn answers_that_exchanges_pass_on_make_no_lane_deeper_than_a_new_one_and_halve_it() {
        let mut lane = Lane::new();
        let passed_on = |lane: &mut Lane, took: Duration| {
            for _ in 0..100 {
                lane.fill();
                lane.depth
                    .begin_answer((took, Instant::START), &lane.alone, &BOUNDS);
                lane.depth.leave();
            }
            lane.depth.growth.most
        };
        assert_eq!(passed_on(&mut lane, FAST), DEPTH_AT_FIRST);
        assert_eq!(passed_on(&mut lane, LATE), 1);
        assert_eq!(passed_on(&mut lane, FAST), DEPTH_AT_FIRST);
        // Among others that make it deep, one in a hundred, too.
        let mut lane = Lane::new();
        lane.answer(100, FAST);
        assert_eq!(lane.depth.growth.most, BOUNDS.depth_max);
        assert_eq!(passed_on(&mut lane, FAST), DEPTH_AT_FIRST);
    }

    /// One in fifty is slow. What came in time between two of them made a lane so deep that one in five waited for them.
    #[test]
    fn a_lane_is_patient_where_requests_alone_are_short_and_one_in_fifty_is_late() {
        let mut lane = Lane::new();
        let mut depths = 0;
        for count in 0..10_000 {
            lane.fill();
            lane.one_alone(FAST);
            let waits = lane.depth.waiting;
            lane.answer(1, if count % 50 == 49 { LATE } else { FAST });
            if count % 50 == 49 {
                depths += waits;
            }
        }
        let kept_waiting = f64::from(depths) / 10_000.0;
        assert!(kept_waiting < 0.08, "{kept_waiting}");
    }

    /// One pause of the whole backend while all requests share, and one that is fast alone behind it, say nothing of some requests.
    #[test]
    fn no_lane_is_patient_for_what_is_not_known_of_requests_before() {
        let second = Duration::from_secs(1);
        for (alone_before, behind_after, patience) in [
            (None, Duration::ZERO, 1),
            (Some(second), Duration::ZERO, 1),
            (Some(second / 2), second, 1),
            (Some(second / 2), second / 2, PATIENCE),
        ] {
            let mut lane = Lane::new();
            let mut now = Instant::START + second;
            if let Some(before) = alone_before {
                lane.alone.note(FAST, now, &BOUNDS);
                now = now + before;
            }
            for took in [FAST, LATE] {
                for _ in 0..lane.fill() {
                    lane.answer_at(took, now);
                }
            }
            now = now + behind_after;
            lane.alone.note(FAST, now, &BOUNDS);
            lane.depth.judge_again(&lane.alone, now, &BOUNDS);
            assert_eq!(
                lane.depth.growth.patience, patience,
                "{alone_before:?} {behind_after:?}"
            );
        }
    }

    /// The first five of an endpoint that is far away counted as long, so patience ended with each pause in what goes alone.
    #[test]
    fn what_is_not_known_of_requests_alone_speaks_neither_for_patience_nor_against_it() {
        let far = 3 * FAST + late(&BOUNDS);
        let patience_after = |(before, behind): (&[Duration], &[Duration])| {
            let mut lane = Lane::new();
            lane.depth.growth.patience = PATIENCE / 2;
            before.iter().for_each(|took| lane.one_alone(*took));
            for took in [far, far + LATE] {
                let count = lane.fill();
                lane.answer(count, took);
            }
            behind.iter().for_each(|took| lane.one_alone(*took));
            lane.depth.growth.patience
        };
        for known in 1..ALONE_RECENT - 1 {
            let before = vec![far; known];
            assert_eq!(patience_after((&before, &[far])), PATIENCE / 2, "{known}");
        }
        let all = [far; ALONE_RECENT];
        assert_eq!(patience_after((&all[1..], &[far])), PATIENCE / 2);
        assert_eq!(patience_after((&all, &[far])), PATIENCE);
        let long = [far, far + LATE];
        assert_eq!(patience_after((&long, &[far + LATE])), 1, "one is shorter");
        // What comes first behind a pause leaves the word to the first that is known.
        let mut lane = Lane::new();
        lane.depth.before_halved = Some((Beside::Short, Instant::NEVER));
        let patience = all.map(|took| {
            lane.one_alone(took);
            lane.depth.growth.patience
        });
        assert_eq!(patience, [1, 1, 1, 1, 1, PATIENCE]);
    }

    #[test]
    fn patience_ends_where_requests_alone_are_as_late() {
        let patience_after = |before: Duration, behind: Duration| {
            let mut lane = Lane::new();
            lane.depth.growth.patience = PATIENCE / 2;
            lane.alone(FAST);
            lane.one_alone(before);
            let count = lane.fill();
            lane.answer(count, FAST);
            let count = lane.fill();
            lane.answer(count, LATE);
            lane.one_alone(behind);
            lane.depth.growth.patience
        };
        assert_eq!(patience_after(FAST, FAST), PATIENCE);
        assert_eq!(patience_after(LATE, LATE), 1);
        assert_eq!(patience_after(FAST, LATE), PATIENCE / 2);
        assert_eq!(patience_after(LATE, FAST), PATIENCE / 2);
    }
}
