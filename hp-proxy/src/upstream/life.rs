//! How long one connection to an endpoint goes on: to an age, and for a number of exchanges. Pure: time and chance are arguments.

use hp_core::rt::Instant;
use rand::{Rng, RngExt as _};
use std::time::Duration;

/// What a connection may have of time and exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// From the connection's beginning; `None`: no limit.
    pub age_max: Option<Duration>,
    /// Exchanges; 0: no limit.
    pub uses_max: u32,
}

/// What one connection has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    /// [`Instant::NEVER`] where age does not count.
    pub(super) ends_at: Instant,
    /// More than 4 billion exchanges end any connection.
    uses_left: u32,
    /// Exchanges that it had.
    uses: u32,
    /// Of an idle connection.
    pub(super) idle_since: Instant,
}

impl Life {
    /// Of a connection that begins. Connections that begin together do not end together: each gets up to a tenth less than the
    /// whole age.
    pub(super) fn begin(bounds: &Bounds, now: Instant, rng: &mut impl Rng) -> Self {
        let ends_at = bounds.age_max.map_or(Instant::NEVER, |age_max| {
            let jitter = (age_max / JITTER_DIVISOR).mul_f64(rng.random::<f64>());
            now + age_max.saturating_sub(jitter)
        });
        Self {
            ends_at,
            uses_left: match bounds.uses_max {
                0 => u32::MAX,
                uses_max => uses_max,
            },
            uses: 0,
            idle_since: now,
        }
    }

    /// Exchanges that are left.
    pub(super) fn uses_left(self) -> u32 {
        self.uses_left
    }

    /// Exchanges that it had.
    pub(super) fn uses(self) -> u32 {
        self.uses
    }

    /// What is left after so many exchanges; `None` when nothing is.
    pub(super) fn after_uses(self, uses: u32, now: Instant) -> Option<Self> {
        let before = uses.checked_sub(1);
        before.map_or(Some(self), |before| {
            let uses_left = self.uses_left.saturating_sub(before);
            let life = Self {
                uses_left,
                uses: self.uses.saturating_add(before),
                ..self
            };
            life.after_use(now)
        })
    }

    /// What is left after an exchange; `None` when that was the last one.
    #[inline]
    pub(super) fn after_use(self, now: Instant) -> Option<Self> {
        let uses_left = self.uses_left.saturating_sub(1);
        (uses_left > 0 && now < self.ends_at).then_some(Self {
            uses_left,
            uses: self.uses.saturating_add(1),
            idle_since: now,
            ..self
        })
    }
}

/// A tenth of an hour is time enough to make all connections of one worker anew, one after the other.
const JITTER_DIVISOR: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    fn begin(age_max: Option<Duration>, uses_max: u32, seed: u64) -> Life {
        let bounds = Bounds { age_max, uses_max };
        Life::begin(&bounds, Instant::START, &mut StdRng::seed_from_u64(seed))
    }

    #[test]
    fn connections_that_begin_together_end_apart_and_none_is_too_old() {
        let age_max = Duration::from_secs(3600);
        let mut ends: Vec<Instant> = (0..100)
            .map(|seed| begin(Some(age_max), 0, seed).ends_at)
            .collect();
        ends.sort_unstable();
        let (first, last) = (ends[0], ends[99]);
        assert!(last <= Instant::START + age_max);
        assert!(first >= Instant::START + age_max * 9 / 10);
        assert!(last - first > age_max / 20, "they end together");
        ends.dedup();
        assert_eq!(ends.len(), 100);
    }

    #[test]
    fn the_last_use_is_the_last() {
        let uses = |uses_max| {
            let mut life = Some(begin(None, uses_max, 0));
            let mut uses = 0;
            while let Some(left) = life {
                life = left.after_use(Instant::START);
                uses += 1;
                if uses == 10_000 {
                    break;
                }
            }
            uses
        };
        assert_eq!([uses(1), uses(2), uses(100), uses(0)], [1, 2, 100, 10_000]);
    }

    #[test]
    fn an_exchange_that_ends_too_late_is_the_last() {
        let life = begin(Some(Duration::from_secs(10)), 0, 7);
        let before = Instant::from_nanos(life.ends_at.as_nanos() - 1);
        assert!(life.after_use(before).is_some());
        assert_eq!(life.after_use(life.ends_at), None);
    }
}
