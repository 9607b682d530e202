//! Clients that stop in the middle.

use std::time::Duration;

use super::{PlanError, flag};
use crate::units::parse_time;

/// How often a connection stops in the middle of an exchange, and for how long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stall {
    /// Of 2^32 exchanges; above 0.
    pub of_2_to_32: u64,
    /// Below the timeout, which would end the exchange otherwise.
    pub time: Duration,
}

/// Reads `0.01:500ms` or `1%:500ms`.
pub(super) fn stall(text: Option<&str>, timeout: Duration) -> Result<Option<Stall>, PlanError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let bad = || {
        let cause = format!("{text:?} is no stall; write a share above 0 and a time: 0.01:500ms");
        flag("--stall", cause)
    };
    let (share, time) = text.split_once(':').ok_or_else(bad)?;
    let (number, whole) = match share.strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (share, 1.0),
    };
    let is_plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let share = number.parse::<f64>().ok().filter(|_| is_plain);
    let share = share.map(|number| number / whole).ok_or_else(bad)?;
    let time = parse_time(time).map_err(|cause| flag("--stall", cause))?;
    if !(share > 0.0 && share <= 1.0) || time.is_zero() {
        return Err(bad());
    }
    if time >= timeout {
        let cause = "the time must be below --timeout, which would end the exchange first";
        return Err(flag("--stall", cause));
    }
    Ok(Some(Stall {
        of_2_to_32: crate::format::whole(share * TWO_TO_32).max(1),
        time,
    }))
}

const TWO_TO_32: f64 = 4_294_967_296.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Stall>, PlanError> {
        stall(Some(text), Duration::from_secs(10))
    }

    #[test]
    fn a_share_is_a_number_or_a_percentage() {
        for (text, of_2_to_32, millis) in [
            ("1:5ms", 1 << 32, 5),
            ("0.25:1s", 1 << 30, 1_000),
            ("25%:1s", 1 << 30, 1_000),
            ("0.0000000000001:2", 1, 2_000),
        ] {
            let time = Duration::from_millis(millis);
            assert_eq!(read(text), Ok(Some(Stall { of_2_to_32, time })), "{text}");
        }
        assert_eq!(stall(None, Duration::ZERO), Ok(None));
    }

    #[test]
    fn what_is_no_stall_is_refused() {
        for text in [
            "", "1", "1:", ":5ms", "0:5ms", "1.1:5ms", "101%:5ms", "-1:5ms", "NaN:5ms", "inf:5ms",
            "1:0", "1e-3:5ms", "1:10s",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
