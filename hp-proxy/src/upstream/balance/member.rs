//! One endpoint as balancing sees it: its weight, its group, and whether it is in service.

use hp_core::rt::Instant;
use std::time::Duration;

/// An endpoint's place in its upstream.
#[derive(Clone, Debug)]
pub struct Member {
    /// What keys are bound to: the endpoint's address as text, so that it survives a change of order.
    name_hash: u64,
    weight: u32,
    group: u32,
    standing: Standing,
    slow_start: Option<SlowStart>,
}

/// Whether an endpoint is given requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// In service.
    #[default]
    Serving,
    /// Given only what is bound to it.
    Draining,
    /// Given nothing: ejected, failed its checks, or in maintenance.
    Out,
}

/// How an endpoint comes back: at a tenth of its weight, growing evenly.
#[derive(Clone, Copy, Debug)]
struct SlowStart {
    over: Duration,
    /// `None`: it is warm.
    since: Option<Instant>,
}

impl Member {
    /// In service and warm. `weight`: its share beside the others', 0 to [`WEIGHT_MAX`], 0: none; `group`: used when no
    /// group with a lower number has anybody in service; `slow_start`: how long its weight grows when it comes back.
    #[must_use]
    pub fn new(name_hash: u64, weight: u32, group: u32, slow_start: Option<Duration>) -> Self {
        Self {
            name_hash,
            weight: weight.min(WEIGHT_MAX),
            group,
            standing: Standing::Serving,
            slow_start: slow_start.map(|over| SlowStart { over, since: None }),
        }
    }

    /// See [`Standing`].
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Its group's number; lower ones go first.
    #[must_use]
    pub fn group(&self) -> u32 {
        self.group
    }

    /// Its weight as it was given.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// Its weight now, in units of 1/256: what was given, or less while it starts slowly. 0 only where 0 was given.
    #[must_use]
    pub fn weight_at(&self, now: Instant) -> u64 {
        let full = u64::from(self.weight) * WEIGHT_UNIT;
        let Some(SlowStart {
            over,
            since: Some(since),
        }) = self.slow_start
        else {
            return full;
        };
        let elapsed = now - since;
        if elapsed >= over || full == 0 {
            return full;
        }
        let grown = u128::from(full) * elapsed.as_nanos() / over.as_nanos();
        let grown = u64::try_from(grown).unwrap_or(full);
        grown.max(full / SLOW_START_PART).max(1)
    }

    /// Takes the place of the same endpoint under the plan before: what that did not say anew goes on.
    pub(super) fn follow(&mut self, before: &Self, now: Instant) {
        let standing = std::mem::replace(&mut self.standing, before.standing);
        if let (Some(next), Some(before)) = (&mut self.slow_start, before.slow_start) {
            next.since = before.since;
        }
        self.stand(standing, now);
    }

    /// Comes to others that run already: it starts slowly where it is to.
    pub(super) fn come(&mut self, now: Instant) {
        let standing = std::mem::replace(&mut self.standing, Standing::Out);
        self.stand(standing, now);
    }

    /// Takes it into service, drains it or takes it out. What comes back from outside starts slowly where it is to.
    pub fn stand(&mut self, standing: Standing, now: Instant) {
        if self.standing == Standing::Out
            && standing == Standing::Serving
            && let Some(slow_start) = &mut self.slow_start
        {
            slow_start.since = Some(now);
        }
        self.standing = standing;
    }

    /// Gives it another weight, 0 to [`WEIGHT_MAX`].
    pub fn weigh(&mut self, weight: u32) {
        self.weight = weight.min(WEIGHT_MAX);
    }

    /// Whether it is given requests that are bound to nobody.
    pub(super) fn serves(&self) -> bool {
        self.standing == Standing::Serving && self.weight > 0
    }

    pub(super) fn name_hash(&self) -> u64 {
        self.name_hash
    }
}

/// The largest weight.
pub const WEIGHT_MAX: u32 = 1000;

/// What a weight of one counts as, so that a slow start has steps.
pub(super) const WEIGHT_UNIT: u64 = 256;

/// A slow start begins at one part in so many.
const SLOW_START_PART: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::START + Duration::from_millis(millis)
    }

    #[test]
    fn what_comes_back_grows_from_a_tenth_to_all_of_its_weight() {
        let mut member = Member::new(1, 4, 0, Some(Duration::from_secs(30)));
        assert_eq!(member.weight_at(at(0)), 4 * WEIGHT_UNIT);
        member.stand(Standing::Out, at(0));
        member.stand(Standing::Serving, at(1000));
        let weights =
            [1000, 4000, 16_000, 30_999, 31_000].map(|millis| member.weight_at(at(millis)));
        assert_eq!(weights, [102, 102, 512, 1023, 1024]);
    }

    #[test]
    fn what_is_new_starts_slowly_and_what_stays_goes_on() {
        let member = |standing| {
            let mut member = Member::new(1, 4, 0, Some(Duration::from_secs(30)));
            member.standing = standing;
            member
        };
        let mut new = member(Standing::Serving);
        new.come(at(1000));
        assert_eq!(new.weight_at(at(16_000)), 512);
        let mut next = member(Standing::Serving);
        next.follow(&new, at(9000));
        assert_eq!(
            next.weight_at(at(16_000)),
            512,
            "not from its beginning again"
        );
        let mut out = member(Standing::Out);
        out.follow(&next, at(10_000));
        assert_eq!(out.standing(), Standing::Out);
        let mut back = member(Standing::Serving);
        back.follow(&out, at(20_000));
        assert_eq!(back.weight_at(at(35_000)), 512);
        let mut warm = member(Standing::Serving);
        warm.follow(&member(Standing::Serving), at(20_000));
        assert_eq!(warm.weight_at(at(20_000)), 4 * WEIGHT_UNIT);
    }

    #[test]
    fn the_end_of_a_drain_is_no_slow_start() {
        let mut member = Member::new(1, 1, 0, Some(Duration::from_secs(30)));
        member.stand(Standing::Draining, at(0));
        member.stand(Standing::Serving, at(1));
        assert_eq!(member.weight_at(at(1)), WEIGHT_UNIT);
    }
}
