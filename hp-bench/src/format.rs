//! Numbers as people read them.

use std::time::Duration;

/// `1 thread`, `2 threads`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {what}{plural}", thousands(count))
}

/// `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in binary units.
pub(crate) fn bytes(number: u64) -> String {
    let value = float(number);
    match number {
        0..1_024 => format!("{number} B"),
        1_024..1_048_576 => format!("{:.1} KiB", value / 1_024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", value / 1_048_576.0),
        _ => format!("{:.1} GiB", value / 1_073_741_824.0),
    }
}

/// The unit in which one line shows all its times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit {
    /// Its symbol.
    pub(crate) name: &'static str,
    nanos: f64,
    decimals: usize,
}

impl Unit {
    /// Fit for times around `nanos`.
    pub(crate) fn of(nanos: f64) -> Self {
        match nanos {
            n if n < 1e6 => Self {
                name: "us",
                nanos: 1e3,
                decimals: 1,
            },
            n if n < 1e10 => Self {
                name: "ms",
                nanos: 1e6,
                decimals: 2,
            },
            _ => Self {
                name: "s",
                nanos: 1e9,
                decimals: 2,
            },
        }
    }

    /// The number without the unit.
    pub(crate) fn show(&self, nanos: f64) -> String {
        format!("{:.*}", self.decimals, nanos / self.nanos)
    }
}

/// A time of its own, `61.4 us`.
pub(crate) fn one_time(nanos: f64) -> String {
    let unit = Unit::of(nanos);
    format!("{} {}", unit.show(nanos), unit.name)
}

/// `count` in a second; 0 where no time has passed.
pub(crate) fn per_second(count: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() {
        0.0
    } else {
        float(count) / elapsed.as_secs_f64()
    }
}

/// For showing and for ratios.
#[expect(
    clippy::cast_precision_loss,
    reason = "shown with a few digits; exact up to 2^53"
)]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

/// The nearest whole number; 0 for what is below.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a float saturates when cast"
)]
#[expect(clippy::cast_sign_loss, reason = "a float saturates when cast")]
pub(crate) fn whole(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        for (number, want) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(thousands(number), want);
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        for (number, want) in [(1_023, "1023 B"), (1_536, "1.5 KiB"), (5 << 30, "5.0 GiB")] {
            assert_eq!(bytes(number), want);
        }
    }
}
