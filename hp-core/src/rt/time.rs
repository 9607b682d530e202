//! Points in time as the runtime sees them.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Nanoseconds since an arbitrary start that one process (or one simulation) shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// Before every other instant.
    pub const START: Self = Self(0);
    /// After every other instant: a deadline that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// From nanoseconds since the start.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        // In 64 bits, for it is asked several times a request: what is beyond them is beyond 500 years.
        let nanos = length
            .as_secs()
            .saturating_mul(NANOS_PER_SEC)
            .saturating_add(u64::from(length.subsec_nanos()));
        Self(self.0.saturating_add(nanos))
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// Zero when `earlier` is in fact later.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

const NANOS_PER_SEC: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_added_to_the_nanosecond_and_ends_at_never() {
        let now = Instant::from_nanos(7);
        let later = |secs, nanos| (now + Duration::new(secs, nanos)).as_nanos();
        assert_eq!(later(3, 5), 3_000_000_012);
        assert_eq!(later(0, 999_999_999), 1_000_000_006);
        assert_eq!(now + Duration::MAX, Instant::NEVER);
        assert_eq!(
            now + Duration::from_secs(u64::MAX / 1_000_000_000),
            Instant::from_nanos(u64::MAX / 1_000_000_000 * 1_000_000_000 + 7)
        );
    }
}
