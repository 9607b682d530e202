//! The harness's only reader of clocks, and the only place where it sleeps.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point on the civil calendar, in UTC, to the second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Utc {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub unix_seconds: u64,
}

impl Utc {
    /// The day, as `2026-11-20`.
    pub fn date(self) -> String {
        let (year, month, day) = civil(self.unix_seconds / DAY_SECONDS);
        format!("{year:04}-{month:02}-{day:02}")
    }

    /// The minute of the day, as `2310`.
    pub fn minute(self) -> String {
        let second = self.unix_seconds % DAY_SECONDS;
        format!("{:02}{:02}", second / 3600, second / 60 % 60)
    }

    /// The second, as `2026-11-20T23:10:00Z`.
    pub fn stamp(self) -> String {
        let second = self.unix_seconds % DAY_SECONDS;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        format!("{}T{hour:02}:{minute:02}:{second:02}Z", self.date())
    }
}

/// The monotonic clock, for deadlines.
#[expect(
    clippy::disallowed_methods,
    reason = "the harness has no runtime; this is its one clock"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// The same clock, in ns.
pub fn monotonic_ns() -> u64 {
    hp_core::sys::clock::monotonic_ns()
}

/// The wall clock, for the name of a run.
#[expect(
    clippy::disallowed_methods,
    reason = "the harness has no runtime; this is its one clock"
)]
pub fn wall() -> Utc {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Utc {
        unix_seconds: since.map_or(0, |since| since.as_secs()),
    } // a clock before 1970 is not set
}

/// Sleeps between two looks at a child.
#[expect(
    clippy::disallowed_methods,
    reason = "the harness has one thread and nothing else to do"
)]
pub fn pause(length: Duration) {
    thread::sleep(length);
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
///
/// Counts in eras of 400 years that begin on the first of March, so that the leap day is a year's last.
fn civil(unix_days: u64) -> (u64, u64, u64) {
    let days = unix_days + 719_468; // from 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

const DAY_SECONDS: u64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_calendar_days() {
        for (unix_seconds, stamp) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_216_200, "2026-11-20T23:10:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Utc { unix_seconds }.stamp(), stamp);
        }
    }
}
