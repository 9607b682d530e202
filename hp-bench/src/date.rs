//! Points in time as text: of logs, and of `--start-at`.
//!
//! Must not know: clocks.

use std::time::Duration;

/// Reads `2026-11-20T23:10:00Z`, with a fraction and an offset where they are given (RFC 3339 §5.6), as time since
/// 1970-01-01 UTC. `None` for anything else, or for what lies before.
pub(crate) fn rfc3339(text: &str) -> Option<Duration> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut parts = date.splitn(3, '-').map(number);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone_at);
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let fraction = fraction_nanos(fraction)?;
    let seconds = seconds(year, month, day, clock_seconds(whole)?)?;
    let offset = match zone {
        "Z" | "z" => 0,
        _ => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            offset(zone.starts_with('-'), number(hours)?, number(minutes)?)?
        }
    };
    since_epoch(seconds, offset, fraction)
}

/// Reads `10/Oct/2000:13:55:36 -0700`, the date of access logs.
pub(crate) fn access_log(text: &str) -> Option<Duration> {
    let (stamp, zone) = text.split_once(' ')?;
    let mut parts = stamp.splitn(4, ['/', ':']);
    let day = number(parts.next()?)?;
    let name = parts.next()?;
    let month = MONTHS.iter().position(|month| *month == name)?;
    let year = number(parts.next()?)?;
    let clock = clock_seconds(parts.next()?)?;
    let hours = number(zone.get(1..3)?)?;
    let minutes = number(zone.get(3..5)?)?;
    let is_west = match zone.get(..1)? {
        "-" => true,
        "+" => false,
        _ => return None,
    };
    if zone.len() != 5 {
        return None;
    }
    let month = i64::try_from(month).ok()? + 1;
    let seconds = seconds(year, month, day, clock)?;
    since_epoch(seconds, offset(is_west, hours, minutes)?, 0)
}

fn since_epoch(seconds: i64, offset: i64, nanos: u32) -> Option<Duration> {
    let seconds = u64::try_from(seconds - offset).ok()?;
    Some(Duration::new(seconds, nanos))
}

fn offset(is_west: bool, hours: i64, minutes: i64) -> Option<i64> {
    let seconds = hours * 3600 + minutes * 60;
    (hours < 24 && minutes < 60).then_some(if is_west { -seconds } else { seconds })
}

fn clock_seconds(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, ':').map(number);
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let is_clock = hour < 24 && minute < 60 && second <= 60; // A leap second is the next one's first.
    is_clock.then_some(hour * 3600 + minute * 60 + second)
}

/// Seconds since 1970 of a Gregorian date; counts in eras of 400 years that begin on the first of March.
fn seconds(year: i64, month: i64, day: i64, clock: i64) -> Option<i64> {
    let is_date =
        (1..=12).contains(&month) && (1..=31).contains(&day) && (1970..=9999).contains(&year);
    if !is_date {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some((era * 146_097 + day_of_era - 719_468) * 86_400 + clock)
}

fn fraction_nanos(digits: &str) -> Option<u32> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nine: String = digits.chars().chain("000000000".chars()).take(9).collect();
    nine.parse().ok()
}

/// Up to four digits and nothing else.
fn number(text: &str) -> Option<i64> {
    let is_number = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_both_forms_are_seconds_since_1970() {
        for (text, want) in [
            ("1970-01-01T00:00:00Z", (0, 0)),
            ("2000-02-29T00:00:00Z", (951_782_400, 0)),
            ("2026-11-20T23:10:00.25Z", (1_795_216_200, 250_000_000)),
            ("2026-11-21T00:10:00+01:00", (1_795_216_200, 0)),
            ("2026-11-20T18:10:00.000000001-05:00", (1_795_216_200, 1)),
        ] {
            assert_eq!(rfc3339(text), Some(Duration::new(want.0, want.1)), "{text}");
        }
        let log = |text| access_log(text).map(|time| time.as_secs());
        assert_eq!(log("20/Nov/2026:23:10:00 +0000"), Some(1_795_216_200));
        assert_eq!(log("20/Nov/2026:18:10:00 -0500"), Some(1_795_216_200));
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "now",
            "2026-13-01T00:00:00Z",
            "2026-11-20T25:00:00Z",
            "2026-11-20T23:10:00",
            "2026-11-20T23:10:00.Z",
            "2026-11-20T23:10:00+1:0:0",
            "1969-01-01T00:00:00Z",
            "é-é-éTé:é:éZ",
        ] {
            assert_eq!(rfc3339(text), None, "{text}");
        }
        for text in [
            "",
            "20/Foo/2026:23:10:00 +0000",
            "20/Nov/2026:23:10:00",
            "20/Nov/2026:23:10:00 +00é",
        ] {
            assert_eq!(access_log(text), None, "{text}");
        }
    }
}
