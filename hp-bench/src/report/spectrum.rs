//! The percentile spectrum in the columns of wrk2 and of the HdrHistogram plotters.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use super::float;

/// Values in ms, from the smallest to the largest, five steps per halving of the rest.
pub fn spectrum(latency: &Histogram<u64>) -> String {
    let mut text = String::from("  Detailed Percentile spectrum:\n");
    let columns = ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"];
    let [value, percentile, count, inverse] = columns;
    line(
        &mut text,
        format_args!("{value:>12} {percentile:>12} {count:>12} {inverse:>12}\n"),
    );
    let mut below = 0;
    for step in latency.iter_quantiles(TICKS_PER_HALVING) {
        below += step.count_since_last_iteration();
        let quantile = step.quantile_iterated_to();
        let value = millis(float(step.value_iterated_to()));
        // Rust and C both print an infinite inverse as "inf".
        let inverse = 1.0 / (1.0 - quantile);
        line(
            &mut text,
            format_args!("{value:>12.3} {quantile:>12.6} {below:>12} {inverse:>12.2}"),
        );
    }
    let (mean, stdev) = (millis(latency.mean()), millis(latency.stdev()));
    line(
        &mut text,
        format_args!("#[Mean    = {mean:>12.3}, StdDeviation   = {stdev:>12.3}]"),
    );
    let (max, total) = (millis(float(latency.max())), latency.len());
    line(
        &mut text,
        format_args!("#[Max     = {max:>12.3}, Total count    = {total:>12}]"),
    );
    let (buckets, sub_buckets) = (latency.buckets(), sub_buckets(latency));
    line(
        &mut text,
        format_args!("#[Buckets = {buckets:>12}, SubBuckets     = {sub_buckets:>12}]"),
    );
    if let Some(thin) = thin_from(latency.len()) {
        line(
            &mut text,
            format_args!("# above {thin:.6} fewer than {SAMPLES_MIN} samples remain"),
        );
    }
    text
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    let _infallible = writeln!(text, "{content}");
}

/// The quantile from which on fewer than [`SAMPLES_MIN`] samples lie behind a value.
fn thin_from(total: u64) -> Option<f64> {
    (total > SAMPLES_MIN).then(|| 1.0 - float(SAMPLES_MIN) / float(total))
}

fn millis(nanos: f64) -> f64 {
    nanos / 1e6
}

/// The crate does not tell, so the formula of its documentation: the first power of two that
/// resolves twice the asked digits.
fn sub_buckets(latency: &Histogram<u64>) -> u64 {
    (2 * 10_u64.pow(latency.sigfig().into())).next_power_of_two()
}

const TICKS_PER_HALVING: u32 = 5;
const SAMPLES_MIN: u64 = 10;
