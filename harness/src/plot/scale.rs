//! Axes that fit their values: where they begin and end, and where the ticks stand.

use super::canvas::Axis;

/// From 0 to a little above the largest value, with round ticks.
pub(super) fn linear(name: &str, values: impl Iterator<Item = f64>, unit: &str) -> Axis {
    let most = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
    let high = if most > 0.0 { most * 1.05 } else { 1.0 };
    Axis {
        name: name.into(),
        low: 0.0,
        high,
        ticks: round_ticks(0.0, high, unit),
    }
}

/// Around the values, 0 or not, with round ticks.
pub(super) fn around(name: &str, values: impl Iterator<Item = f64>, unit: &str) -> Axis {
    let (low, high) = ends(values).unwrap_or((0.0, 1.0));
    let room = (high - low).max(high.abs() * 0.02).max(1e-9) * 0.08;
    let (low, high) = (low - room, high + room);
    Axis {
        name: name.into(),
        low,
        high,
        ticks: round_ticks(low, high, unit),
    }
}

/// A logarithmic axis to the base 2 with a tick at each of the values, such as numbers of connections.
pub(super) fn doublings(name: &str, values: &[f64]) -> Axis {
    let logs = values.iter().filter(|value| **value > 0.0);
    let (low, high) = ends(logs.map(|value| value.log2())).unwrap_or((0.0, 1.0));
    let room = ((high - low) * 0.05).max(0.25);
    let mut ticks: Vec<(f64, String)> = Vec::new();
    for value in values.iter().filter(|value| **value > 0.0) {
        let at = value.log2();
        let is_far = ticks
            .iter()
            .all(|(other, _label)| (other - at).abs() > (high - low) * 0.06);
        if is_far {
            ticks.push((at, format!("{value:.0}")));
        }
    }
    Axis {
        name: name.into(),
        low: low - room,
        high: high + room,
        ticks,
    }
}

/// How latencies are placed: straight, or by their logarithm where they span more than a factor of [`LOG_FROM`].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Times {
    /// The axis, in placed values.
    pub(super) axis: Axis,
    is_log: bool,
}

impl Times {
    /// Of times in ns; those of 0 are not there.
    pub(super) fn of(name: &str, nanos: impl Iterator<Item = f64>) -> Self {
        let (low, high) = ends(nanos.filter(|nanos| *nanos > 0.0)).unwrap_or((1e3, 1e6));
        if high / low <= LOG_FROM {
            let axis = linear_times(name, high);
            return Self {
                axis,
                is_log: false,
            };
        }
        Self {
            axis: log_times(name, low, high),
            is_log: true,
        }
    }

    /// By their logarithm, whatever they span.
    pub(super) fn of_log(name: &str, nanos: impl Iterator<Item = f64>) -> Self {
        let (low, high) = ends(nanos.filter(|nanos| *nanos > 0.0)).unwrap_or((1e3, 1e6));
        Self {
            axis: log_times(name, low, high),
            is_log: true,
        }
    }

    /// Where a time in ns stands on the axis.
    pub(super) fn place(&self, nanos: f64) -> f64 {
        if self.is_log {
            nanos.max(1.0).log10()
        } else {
            nanos
        }
    }
}

/// A time with a unit that keeps it short: `850 µs`, `1.5 ms`.
pub(super) fn time(nanos: f64) -> String {
    let (value, unit) = match nanos {
        n if n >= 1e9 => (n / 1e9, "s"),
        n if n >= 1e6 => (n / 1e6, "ms"),
        n => (n / 1e3, "µs"),
    };
    format!("{} {unit}", short(value))
}

/// At most three digits that matter.
pub(super) fn short(value: f64) -> String {
    let decimals = match value.abs() {
        n if n >= 100.0 => 0,
        n if n >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    match text.split_once('.') {
        Some((_whole, _part)) => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        None => text,
    }
}

/// The smallest and the largest of the finite values.
fn ends(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values
        .filter(|value| value.is_finite())
        .fold(None, |ends, value| {
            let (low, high) = ends.unwrap_or((value, value));
            Some((f64::min(low, value), f64::max(high, value)))
        })
}

fn linear_times(name: &str, high: f64) -> Axis {
    let high = high * 1.05;
    let ticks = steps(0.0, high).into_iter();
    Axis {
        name: name.into(),
        low: 0.0,
        high,
        ticks: ticks.map(|at| (at, time(at))).collect(),
    }
}

/// Ticks at 1, 2 and 5 of each power of ten that is inside; over more than three powers at 1 alone.
fn log_times(name: &str, low: f64, high: f64) -> Axis {
    let (low, high) = ((low * 0.8).log10(), (high * 1.25).log10());
    let marks: &[f64] = if high - low > 3.0 {
        &[1.0]
    } else {
        &[1.0, 2.0, 5.0]
    };
    let mut ticks = Vec::new();
    for power in 0..=11 {
        for mark in marks {
            let nanos = mark * 10_f64.powi(power);
            let at = nanos.log10();
            if (low..=high).contains(&at) {
                ticks.push((at, time(nanos)));
            }
        }
    }
    Axis {
        name: name.into(),
        low,
        high,
        ticks,
    }
}

fn round_ticks(low: f64, high: f64, unit: &str) -> Vec<(f64, String)> {
    let ticks = steps(low, high).into_iter();
    ticks
        .map(|at| (at, format!("{}{unit}", compact(at))))
        .collect()
}

/// With k and M where that is shorter.
fn compact(value: f64) -> String {
    match value.abs() {
        n if n >= 1e6 => format!("{}M", short(value / 1e6)),
        n if n >= 1e4 => format!("{}k", short(value / 1e3)),
        _ => short(value),
    }
}

/// Four to ten round values from `low` to `high`.
fn steps(low: f64, high: f64) -> Vec<f64> {
    let span = high - low;
    if !span.is_finite() || span <= 0.0 {
        return Vec::new();
    }
    let power = 10_f64.powf((span / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|mark| mark * power)
        .into_iter()
        .find(|step| span / step <= 8.0)
        .unwrap_or(span);
    let first = (low / step).ceil();
    (0..12)
        .map(|number| (first + f64::from(number)) * step)
        .filter(|at| *at <= high)
        .collect()
}

/// Above this factor a straight axis hides what is small.
const LOG_FROM: f64 = 30.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks
            .iter()
            .map(|(_at, label)| label.as_str())
            .collect()
    }

    #[test]
    fn ticks_are_round() {
        let axis = linear("requests/s", [48_000.0, 12_000.0].into_iter(), "");
        assert_eq!(labels(&axis), ["0", "10k", "20k", "30k", "40k", "50k"]);
        let axis = around("ratio", [0.97, 1.21].into_iter(), "");
        assert!(labels(&axis).contains(&"1"), "{axis:?}");
        assert!(axis.low < 0.97 && axis.high > 1.21);
    }

    #[test]
    fn connections_double_and_crowded_labels_are_left_out() {
        let axis = doublings("connections", &[1.0, 16.0, 100.0, 105.0, 512.0]);
        assert_eq!(labels(&axis), ["1", "16", "100", "512"]);
    }

    #[test]
    fn wide_spans_of_time_are_logarithmic() {
        let narrow = Times::of("latency", [1e6, 2e6].into_iter());
        assert_eq!(narrow.place(1.5e6), 1.5e6);
        let wide = Times::of("latency", [0.0, 1e5, 1e8].into_iter());
        assert_eq!(wide.place(1e6), 6.0);
        assert_eq!(labels(&wide.axis), ["100 µs", "1 ms", "10 ms", "100 ms"]);
    }

    #[test]
    fn nothing_still_has_axes() {
        for axis in [
            linear("x", std::iter::empty(), ""),
            around("x", std::iter::empty(), ""),
            doublings("x", &[]),
            Times::of("x", std::iter::empty()).axis,
            linear("x", [f64::NAN, f64::INFINITY].into_iter(), ""),
            around("x", [1e300, -1e300].into_iter(), ""),
        ] {
            assert!(axis.low < axis.high && axis.high.is_finite(), "{axis:?}");
        }
    }

    #[test]
    fn times_keep_three_digits() {
        for (nanos, text) in [
            (850.0, "0.85 µs"),
            (1_500_000.0, "1.5 ms"),
            (2e9, "2 s"),
            (123_456.0, "123 µs"),
        ] {
            assert_eq!(time(nanos), text);
        }
    }
}
