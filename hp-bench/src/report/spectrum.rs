//! The percentile spectrum as wrk2 prints it, which parsers and HdrHistogram's plotters read.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use crate::format::float;

/// A short list of percentiles, as wrk2 prints it above its spectrum.
pub fn distribution(times: &Histogram<u64>, clock: &str) -> String {
    let mut text = format!("  Latency Distribution (HdrHistogram - {clock})\n");
    for percent in [50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 99.999, 100.0] {
        let value = short_time(float(times.value_at_percentile(percent)) / 1e3);
        let _infallible = writeln!(text, "{percent:7.3}%{value}");
    }
    text.push('\n');
    text
}

/// One line of the spectrum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Largest value of the slot that reaches the step, in ns.
    pub value: u64,
    /// The step, 0 to 100.
    pub percent: f64,
    /// Samples up to that value.
    pub below: u64,
}

/// From the smallest value to the largest, five steps per halving of what is left above.
///
/// The steps are those of `hdr_histogram.c`: a value is told once for each step that it is the first to reach,
/// and the last one ends the list.
pub fn steps(times: &Histogram<u64>) -> Vec<Step> {
    let mut steps = Vec::new();
    let total = times.len();
    let (mut below, mut percent, mut value) = (0_u64, 0.0, 0);
    for slot in times.iter_recorded() {
        below = below.saturating_add(slot.count_at_value());
        value = times.highest_equivalent(slot.value_iterated_to());
        let reached = 100.0 * float(below) / float(total);
        while percent <= reached {
            steps.push(Step {
                value,
                percent,
                below,
            });
            percent += 100.0 / ticks_at(percent);
            if below >= total {
                break; // The line below says the rest.
            }
        }
    }
    steps.push(Step {
        value,
        percent: 100.0,
        below,
    });
    steps
}

/// The steps in ms, in the columns of wrk2.
pub fn spectrum(times: &Histogram<u64>) -> String {
    let mut text = String::new();
    let columns = ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"];
    let [value, percentile, count, inverse] = columns;
    let _infallible = writeln!(
        text,
        "{value:>12} {percentile:>12} {count:>12} {inverse:>12}\n"
    );
    for step in steps(times) {
        let (value, quantile) = (millis(float(step.value)), step.percent / 100.0);
        // Rust and C both print an infinite inverse as "inf".
        let inverse = 1.0 / (1.0 - quantile);
        let below = step.below;
        let _infallible = writeln!(
            text,
            "{value:>12.3} {quantile:>12.6} {below:>12} {inverse:>12.2}"
        );
    }
    // The mean of nothing is told as 0 rather than as no number.
    let (mean, stdev) = (millis(times.mean()), millis(times.stdev()));
    let max = millis(float(times.lowest_equivalent(times.max())));
    let (total, buckets, sub_buckets) = (times.len(), times.buckets(), sub_buckets(times));
    let _infallible = write!(
        text,
        "#[Mean    = {mean:>12.3}, StdDeviation   = {stdev:>12.3}]\n\
         #[Max     = {max:>12.3}, Total count    = {total:>12}]\n\
         #[Buckets = {buckets:>12}, SubBuckets     = {sub_buckets:>12}]\n"
    );
    text
}

/// Says from which percentile on fewer than ten samples lie behind a value. A comment to the plotters.
pub fn thin_line(times: &Histogram<u64>) -> String {
    let total = times.len();
    if total <= SAMPLES_MIN {
        return format!("# only {total} samples: no percentile has {SAMPLES_MIN} behind it\n");
    }
    let percent = 100.0 * (1.0 - float(SAMPLES_MIN) / float(total));
    format!(
        "# from the {percent:.4} percentile on fewer than {SAMPLES_MIN} samples lie behind a value\n"
    )
}

/// Steps that 100 percent would have at the density around `percent`: it doubles with each halving.
fn ticks_at(percent: f64) -> f64 {
    let halvings = ((100.0 / (100.0 - percent)).ln() / 2.0_f64.ln()).trunc() + 1.0;
    TICKS_PER_HALVING * halvings.exp2()
}

/// In wrk2's units, two decimals, ten characters wide. wrk2 goes to the next unit at 85 % of it, and to
/// seconds at one.
fn short_time(micros: f64) -> String {
    let (value, unit) = match micros {
        n if n >= 51e6 => (n / 60e6, "m "),
        n if n >= 1e6 => (n / 1e6, "s "),
        n if n >= 850.0 => (n / 1e3, "ms"),
        n => (n, "us"),
    };
    format!("{value:>8.2}{unit}")
}

fn millis(nanos: f64) -> f64 {
    nanos / 1e6
}

/// The crate does not tell, so the formula of its documentation: the first power of two that
/// resolves twice the asked digits.
fn sub_buckets(latency: &Histogram<u64>) -> u64 {
    (2 * 10_u64.pow(latency.sigfig().into())).next_power_of_two()
}

const TICKS_PER_HALVING: f64 = 5.0;
const SAMPLES_MIN: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::histogram;

    /// wrk2's own text for these values in ns: its `hdr_histogram.c` with the bounds of our histograms, printed in the
    /// classic format with five ticks and a scale of 1,000,000.
    const WRK2_SPREAD: &str = include_str!("golden/spread.hgrm");
    const WRK2_ONE: &str = include_str!("golden/one.hgrm");
    const WRK2_HEAVY: &str = include_str!("golden/heavy.hgrm");

    #[test]
    fn spectrum_is_the_text_of_wrk2() {
        let mut spread = histogram();
        for i in 1..=20_000_u64 {
            spread.record(1_000 + i * i * 137 % 900_000_007).unwrap();
        }
        assert_eq!(spectrum(&spread), WRK2_SPREAD);
        let mut one = histogram();
        one.record(2_500_000).unwrap();
        assert_eq!(spectrum(&one), WRK2_ONE);
        let mut heavy = histogram();
        heavy.record_n(1_000_000, 3).unwrap();
        heavy.record_n(2_000_000, 90_000_000).unwrap();
        heavy.record_n(59_000_000_000, 2).unwrap();
        assert_eq!(spectrum(&heavy), WRK2_HEAVY);
    }

    #[test]
    fn spectrum_of_nothing_ends() {
        let text = spectrum(&histogram());
        let line = text.lines().nth(2).unwrap();
        assert_eq!(line, "       0.000     1.000000            0          inf");
    }

    #[test]
    fn distribution_has_the_units_of_wrk2() {
        let mut times = histogram();
        for nanos in [600_000, 2_000_000, 1_300_000_000] {
            times.record(nanos).unwrap();
        }
        times.record(2_000_000).unwrap();
        let text = distribution(&times, "Recorded Latency");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..2],
            [
                "  Latency Distribution (HdrHistogram - Recorded Latency)",
                " 50.000%    2.00ms",
            ]
        );
        assert_eq!(lines[8], "100.000%    1.30s ");
    }

    #[test]
    fn thin_end_is_told() {
        let mut times = histogram();
        times.record_n(2_000_000, 10).unwrap();
        assert!(thin_line(&times).contains("only 10 samples"));
        times.record_n(2_000_000, 990).unwrap();
        assert_eq!(
            thin_line(&times),
            "# from the 99.0000 percentile on fewer than 10 samples lie behind a value\n"
        );
    }
}
