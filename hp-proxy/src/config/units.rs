//! Values with units, as users write them: `250ms`, `10s`, `32KiB`.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Why a value with a unit cannot be read; says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitError(String);

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UnitError {}

/// Reads a length of time: a whole number with `ms`, `s`, `m` or `h`; 1 ms to 24 h.
///
/// # Errors
/// [`UnitError`].
pub fn duration(text: &str) -> Result<Duration, UnitError> {
    LONG.read(text)
}

/// The same, or 0 alone.
///
/// # Errors
/// [`UnitError`].
pub fn duration_or_zero(text: &str) -> Result<Duration, UnitError> {
    match text {
        "0" => Ok(Duration::ZERO),
        text => duration(text),
    }
}

/// Reads a length of time far below those that people notice: a whole number with `us` or `ms`, 1 µs to 1 s, or 0 alone.
///
/// # Errors
/// [`UnitError`].
pub fn short_or_zero(text: &str) -> Result<Duration, UnitError> {
    match text {
        "0" => Ok(Duration::ZERO),
        text => SHORT.read(text),
    }
}

/// Reads a size in bytes: a whole number, alone or with `B`, `KiB`, `MiB` or `GiB`.
///
/// # Errors
/// [`UnitError`].
pub fn bytes(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text, SIZES)?;
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => {
            let message = format!("{text:?} has no unit of size; write {SIZES}");
            return Err(UnitError(message));
        }
    };
    number
        .checked_mul(factor)
        .filter(|total| *total <= i64::MAX.cast_unsigned())
        .ok_or_else(|| {
            UnitError(format!(
                "{text:?} is out of range; write less than 8589934592GiB"
            ))
        })
}

/// Reads a share in percent, 0 to 100, with up to four digits after its point; gives millionths.
///
/// # Errors
/// [`UnitError`].
pub fn percent(text: &str) -> Result<u32, UnitError> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{}{fraction:0<4}", whole.trim_start_matches('+'));
    let is_number = !whole.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let millionths = digits.parse().ok();
    millionths
        .filter(|millionths| is_number && fraction.len() <= 4 && *millionths <= 1_000_000)
        .ok_or_else(|| {
            UnitError(format!(
                "{text} is no share in percent; write 0 to 100, with up to four digits after the point"
            ))
        })
}

/// Units of time, and how much of it may be written in them.
struct Scale {
    /// Each with its length in microseconds, the least first.
    units: &'static [(&'static str, u64)],
    micros: RangeInclusive<u64>,
    /// For messages: the units, what was expected, what to write where there is no unit, and the range.
    names: &'static str,
    kind: &'static str,
    without_unit: fn(&str) -> String,
    range: &'static str,
}

impl Scale {
    fn read(&self, text: &str) -> Result<Duration, UnitError> {
        let (number, unit) = split(text, self.names)?;
        let known = self.units.iter().find(|(name, _)| *name == unit);
        let out_of_range = || UnitError(format!("{text:?} is out of range; write {}", self.range));
        let Some((_, micros)) = known else {
            if (number, unit) == (0, "") {
                return Err(out_of_range()); // No unit makes it more.
            }
            let remedy = if unit.is_empty() {
                format!("has no unit; write {}", (self.without_unit)(text))
            } else {
                format!(
                    "has no unit of {}; write a number with {}",
                    self.kind, self.names
                )
            };
            return Err(UnitError(format!("{text:?} {remedy}")));
        };
        number
            .checked_mul(*micros)
            .filter(|total| self.micros.contains(total))
            .map(Duration::from_micros)
            .ok_or_else(out_of_range)
    }
}

const LONG: Scale = Scale {
    units: &[
        ("ms", 1_000),
        ("s", SECOND_MICROS),
        ("m", 60 * SECOND_MICROS),
        ("h", 3_600 * SECOND_MICROS),
    ],
    micros: 1_000..=86_400 * SECOND_MICROS,
    names: "ms, s, m or h",
    kind: "time",
    without_unit: |text| format!("{text}s or {text}ms"),
    range: "1ms to 24h",
};

const SHORT: Scale = Scale {
    units: &[("us", 1), ("ms", 1_000)],
    micros: 1..=SECOND_MICROS,
    names: "us or ms",
    kind: "a short time",
    without_unit: |text| format!("{text}us"),
    range: "1us to 1000ms, or 0",
};

/// A number and what stands behind it; `units` is what may. A number beyond all ranges is the largest one.
fn split<'t>(text: &'t str, units: &str) -> Result<(u64, &'t str), UnitError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(UnitError(format!(
            "{text:?} does not begin with a whole number; write one with {units}"
        )));
    }
    Ok((number.parse().unwrap_or(u64::MAX), unit))
}

/// Units of size.
const SIZES: &str = "B, KiB, MiB or GiB";
const SECOND_MICROS: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_stay_within_a_day() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        for wrong in [
            "",
            "10",
            "s",
            "10 s",
            "-1s",
            "1.5s",
            "10S",
            "0s",
            "25h",
            "99999999999999999999s",
        ] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
        assert!(
            duration("250")
                .unwrap_err()
                .to_string()
                .contains("write 250s or 250ms")
        );
    }

    /// Only that something is wrong with them was told, or what was not so.
    #[test]
    fn what_is_no_number_or_too_large_is_told_with_what_to_write() {
        for text in ["", "-1s", "s"] {
            let told = duration(text).unwrap_err().to_string();
            assert!(
                told.ends_with("whole number; write one with ms, s, m or h"),
                "{told}"
            );
        }
        for text in ["", "-1", "KiB"] {
            let told = bytes(text).unwrap_err().to_string();
            assert!(
                told.ends_with("whole number; write one with B, KiB, MiB or GiB"),
                "{told}"
            );
        }
        for told in [
            duration("99999999999999999999s").unwrap_err(),
            short_or_zero("99999999999999999999us").unwrap_err(),
            bytes("99999999999999999999").unwrap_err(),
        ] {
            assert!(
                told.to_string().contains("is out of range; write "),
                "{told}"
            );
        }
    }

    #[test]
    fn zero_needs_no_unit_where_it_may_be_written() {
        assert_eq!(duration_or_zero("0"), Ok(Duration::ZERO));
        assert_eq!(duration_or_zero("1s"), Ok(Duration::from_secs(1)));
        for wrong in ["00", "0s", "1", ""] {
            assert!(duration_or_zero(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn short_times_are_written_in_micros_or_millis() {
        assert_eq!(short_or_zero("0"), Ok(Duration::ZERO));
        assert_eq!(short_or_zero("50us"), Ok(Duration::from_micros(50)));
        assert_eq!(short_or_zero("1000ms"), Ok(Duration::from_secs(1)));
        for wrong in [
            "",
            "50",
            "0us",
            "1s",
            "1001ms",
            "us",
            "99999999999999999999us",
        ] {
            assert!(short_or_zero(wrong).is_err(), "{wrong:?}");
        }
        let told = short_or_zero("50").unwrap_err().to_string();
        assert!(told.contains("write 50us"), "{told}");
    }

    #[test]
    fn sizes_are_bytes_unless_a_unit_says_otherwise() {
        assert_eq!(bytes("0"), Ok(0));
        assert_eq!(bytes("32KiB"), Ok(32 * 1024));
        assert_eq!(bytes("1GiB"), Ok(1 << 30));
        for wrong in ["", "KiB", "1kb", "1K", "1 MiB", "-1", "9999999999999GiB"] {
            assert!(bytes(wrong).is_err(), "{wrong:?}");
        }
    }
}
