//! What the lanes that an endpoint has had say of its next ones: after how many requests it closes a connection, and how long it gets no
//! lane. Pure: time is an argument.

use super::LaneEnd;
use super::depth::Growth;
use hp_core::rt::Instant;
use std::time::Duration;

/// How an endpoint's lanes have ended.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// No lane begins before.
    barred_until: Option<Instant>,
    /// Lanes in a row that ended badly.
    bad_ends: u32,
    wear: Option<Wear>,
    /// What the last lane had come to, by its own answers or by those of the lane that it went on from.
    growth: Option<Growth>,
}

/// How many requests an endpoint takes on one connection before it closes that, as its last lane has shown: nginx takes 1,000. A lane ends
/// before, since what is behind the last answer is sent again.
#[derive(Clone, Copy, Debug)]
struct Wear {
    uses: u32,
    /// It may have been for another reason, so it is found out anew then.
    holds_until: Instant,
}

/// A lane that is gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) end: LaneEnd,
    /// Requests that its connection had carried before it was a lane.
    pub(super) uses: u32,
    /// Answers that began on the lane.
    pub(super) answers: u32,
    /// Requests that were sent again, elsewhere, since it ended.
    pub(super) repeated: u32,
    pub(super) growth: Growth,
}

impl Past {
    /// Whether a connection that has carried so many requests is worth a lane.
    pub(super) fn allows(&self, uses: u32, now: Instant) -> bool {
        self.barred_until.is_none_or(|until| until <= now)
            && self.carries(uses, now) >= ANSWERS_OF_A_GOOD_LANE / 2
    }

    /// How many more requests a connection that has carried so many carries before it is worn.
    pub(super) fn carries(&self, uses: u32, now: Instant) -> u32 {
        match self.wear {
            Some(wear) if now < wear.holds_until && uses <= wear.uses => {
                wear.uses.saturating_sub(uses.saturating_add(1))
            }
            _ => u32::MAX,
        }
    }

    /// A connection that has carried so many requests becomes a lane.
    pub(super) fn begin(&mut self, uses: u32) {
        if self.wear.is_some_and(|wear| uses > wear.uses) {
            self.wear = None; // It is none, for this one outlived it.
        }
    }

    /// What the last lane had come to, if that was of late, and some requests were slow.
    pub(super) fn growth(&self, now: Instant) -> Option<Growth> {
        self.growth.filter(|growth| growth.is_patient(now))
    }

    /// A lane is gone. An endpoint whose lanes stall, or end before they were of use, or cost too many repetitions, gets the next one after a while:
    /// that bounds how often requests are sent twice for it.
    pub(super) fn end(&mut self, lane: Ended, now: Instant) {
        self.growth = Some(lane.growth);
        let is_bad = match lane.end {
            LaneEnd::Idle | LaneEnd::Left => false,
            LaneEnd::Closed => {
                let is_worn = lane.answers >= ANSWERS_OF_A_GOOD_LANE && self.wear_out(lane, now);
                lane.has_cost_much() && !is_worn
            }
            LaneEnd::Broken => lane.uses_in_all() < ANSWERS_OF_A_GOOD_LANE,
            LaneEnd::Stalled => true,
        };
        let is_barred = self.barred_until.is_some_and(|until| now < until);
        if is_bad && !is_barred {
            if lane.answers
                >= lane
                    .growth
                    .most()
                    .saturating_mul(ANSWERS_WORTH_A_REPETITION)
            {
                self.bad_ends = 0;
            }
            let bar = BAR_MIN.saturating_mul(1 << self.bad_ends.min(BAR_DOUBLINGS_MAX));
            self.barred_until = Some(now + bar);
            self.bad_ends = self.bad_ends.saturating_add(1);
        } else if !is_bad && lane.answers >= ANSWERS_OF_A_GOOD_LANE {
            (self.barred_until, self.bad_ends) = (None, 0);
        }
    }

    /// The endpoint closed the connection of a lane that was of use. Gives whether that may be its wear: none is known to have carried more of late
    /// than this one may have. A lane that began with a wear known ends before it, and so is never such a one.
    fn wear_out(&mut self, lane: Ended, now: Instant) -> bool {
        let uses = lane.uses_in_all();
        // How many of those that are sent again it had taken is not known, so the most is nearest to it.
        let known = self.wear.filter(|wear| now < wear.holds_until);
        let most = known.map_or(uses, |wear| wear.uses.max(uses));
        self.wear = Some(Wear {
            uses: most,
            holds_until: now + WEAR_HOLDS,
        });
        uses.saturating_add(lane.repeated) >= most
    }
}

impl Ended {
    /// Requests that its connection has carried.
    fn uses_in_all(self) -> u32 {
        self.uses.saturating_add(self.answers)
    }

    /// Whether it has answered too few for those that were sent again for it.
    fn has_cost_much(self) -> bool {
        self.answers < self.repeated.saturating_mul(ANSWERS_WORTH_A_REPETITION)
    }
}

/// A lane that carried so many was of use, and so was a connection.
const ANSWERS_OF_A_GOOD_LANE: u32 = 64;
/// A lane that is closed ends badly where it has answered fewer for each that is sent again for it: up to one in so many is. And however one ends, it is no
/// worse than the first that ends badly where it has answered as many for each that may have been.
const ANSWERS_WORTH_A_REPETITION: u32 = 32;
const WEAR_HOLDS: Duration = Duration::from_secs(60);
const BAR_MIN: Duration = Duration::from_secs(1);
/// Up to 64 s.
const BAR_DOUBLINGS_MAX: u32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    /// The past of an endpoint whose first lane ended so, behind so many answers on a connection that had carried one request before.
    fn after(answers: u32, end: LaneEnd) -> Past {
        let mut past = Past::default();
        past.end(lane((answers, 0), end), Instant::START);
        past
    }

    fn lane((answers, repeated): (u32, u32), end: LaneEnd) -> Ended {
        Ended {
            end,
            uses: 1,
            answers,
            repeated,
            growth: Growth::default(),
        }
    }

    /// An endpoint that was started anew has closed its connections before their time.
    #[test]
    fn a_wear_is_none_that_a_connection_outlives_and_none_that_a_client_causes() {
        let allows = |past: &Past, uses: u32| past.allows(uses, Instant::START);
        for end in [LaneEnd::Broken, LaneEnd::Left, LaneEnd::Idle] {
            assert!(allows(&after(100, end), 70));
        }
        let mut past = after(100, LaneEnd::Closed);
        assert!(!allows(&past, 70) && !allows(&past, 101));
        assert!(allows(&past, 102));
        past.begin(102);
        assert!(allows(&past, 70));
    }

    #[test]
    fn a_lane_that_was_of_use_may_end_in_order_and_a_stall_is_never_good() {
        let may_end = |answers: u32, end: LaneEnd| after(answers, end).allows(1, Instant::START);
        assert!(
            may_end(ANSWERS_OF_A_GOOD_LANE - 1, LaneEnd::Broken),
            "with the one before"
        );
        assert!(!may_end(ANSWERS_OF_A_GOOD_LANE - 2, LaneEnd::Broken));
        assert!(may_end(0, LaneEnd::Idle) && may_end(0, LaneEnd::Left));
        assert!(!may_end(1000, LaneEnd::Stalled));
    }

    /// Whoever closes behind an answer that nobody follows was kept from sharing for it.
    #[test]
    fn a_close_is_bad_when_more_than_one_in_so_many_is_sent_again_for_it() {
        let may_end = |answers: u32, repeated: u32| {
            let mut past = Past::default();
            past.end(lane((answers, repeated), LaneEnd::Closed), Instant::START);
            past.allows(1, Instant::START)
        };
        assert!(may_end(0, 0) && may_end(ANSWERS_WORTH_A_REPETITION, 1));
        assert!(!may_end(0, 1) && !may_end(ANSWERS_WORTH_A_REPETITION - 1, 1));
        assert!(
            may_end(ANSWERS_OF_A_GOOD_LANE, ANSWERS_OF_A_GOOD_LANE),
            "it tells how many the next ones carry"
        );
    }

    /// They never were, however many were sent again, once they had carried 64: up to one request in five of such a backend was.
    #[test]
    fn closes_are_bad_that_come_before_the_wear_and_those_of_one_moment_count_once() {
        let mut past = Past::default();
        let mut close = |answers: u32, now: Instant| {
            past.end(lane((answers, 50), LaneEnd::Closed), now);
            past.barred_until.map(|until| until - now)
        };
        let start = Instant::START;
        assert_eq!(
            [200, 200, 201].map(|answers| close(answers, start)),
            [None; 3]
        );
        for seconds in [1, 1, 2, 2].map(Duration::from_secs) {
            let now = start + seconds.saturating_sub(BAR_MIN);
            assert_eq!(close(150, now), Some(seconds));
        }
    }

    /// The second of two lanes that began together had lost more answers than the first, and barred the endpoint.
    #[test]
    fn lanes_that_were_closed_at_the_same_wear_may_have_lost_more_or_less_with_it() {
        const WEAR: u32 = 400;
        let mut past = Past::default();
        for lost in [10, 60, 30, 0] {
            let answers = WEAR - 1 - lost;
            past.end(lane((answers, 64), LaneEnd::Closed), Instant::START);
            assert!(past.allows(1, Instant::START), "{lost} were lost");
        }
    }

    /// A backend that stands still for a moment every ten seconds shared nothing for a minute after the seventh time.
    #[test]
    fn a_stall_of_a_lane_that_carried_far_more_than_it_keeps_waiting_bars_its_endpoint_for_no_longer_than_the_first()
     {
        let bars = |answers: u32| {
            let mut past = Past::default();
            let mut start = Instant::START;
            let mut bar = Duration::ZERO;
            for _ in 0..7 {
                past.end(lane((answers, 0), LaneEnd::Stalled), start);
                let until = past.barred_until.expect("it stalled");
                bar = until - start;
                start = until;
            }
            bar
        };
        let depth = Growth::default().most();
        assert_eq!(bars(32 * depth), BAR_MIN);
        assert_eq!(bars(depth), BAR_MIN * 64);
    }
}
