//! A comparison as people read it.
//!
//! Must not know: how the numbers came about.

use std::fmt::Write as _;

use super::document::{Comparison, Ratio};
use super::session::Metric;
use crate::format::{counted, one_time, thousands, whole};

/// The table, with what was compared above it and the notes below.
pub(super) fn table(comparison: &Comparison) -> String {
    let plan = &comparison.plan;
    let mut text = format!(
        "{} {} compare  {} of {:.1} s",
        comparison.tool.name,
        comparison.tool.version,
        counted(plan.rounds.into(), "round"),
        plan.duration_s,
    );
    if plan.warmup_s > 0.0 {
        let _infallible = write!(text, " (+{:.1} s warm-up)", plan.warmup_s);
    }
    match plan.rate {
        None => text.push_str(", closed loop"),
        Some(rate) => {
            let _infallible = write!(text, ", {}/s", thousands(whole(rate)));
        }
    }
    let _infallible = writeln!(
        text,
        ", {}, {}, {}",
        counted(plan.connections.into(), "connection"),
        counted(plan.threads.into(), "thread"),
        comparison.tool.engine,
    );
    for target in &comparison.targets {
        let _infallible = match target.name.ends_with('\'') {
            true => writeln!(text, "  {:<3} the same once more: the control", target.name),
            false => writeln!(text, "  {:<3} {}", target.name, target.url),
        };
    }
    let _infallible = writeln!(
        text,
        "  {:<20} {:<3} {:>12} {:>12} {:>7}  {:<16} {:>6}  word",
        "", "", "A", "target", "ratio", "95 % interval", "rounds"
    );
    for metric in Metric::ALL {
        let mut title = heading(metric);
        for ratio in &comparison.ratios {
            if ratio.metric == metric.name() {
                row(&mut text, title, metric, ratio);
                title = "";
            }
        }
    }
    for note in &comparison.notes {
        let _infallible = writeln!(text, "  note       {note}");
    }
    text
}

fn row(text: &mut String, title: &str, metric: Metric, ratio: &Ratio) {
    let value = |value: Option<f64>| match (value, metric) {
        (None, _) => "-".to_owned(),
        (Some(rate), Metric::Throughput) => thousands(whole(rate)),
        (Some(nanos), _) => one_time(nanos),
    };
    let interval = match (ratio.low, ratio.high) {
        (Some(low), Some(high)) => format!("{low:.3} to {high:.3}"),
        _ => "too few rounds".to_owned(),
    };
    let middle = ratio
        .ratio
        .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
    let word = match (&ratio.word, ratio.margin) {
        (Some(word), _) => word.clone(),
        (None, Some(margin)) if ratio.ratio.is_some() => format!("(noise: {margin:.3})"),
        (None, _) => "-".to_owned(),
    };
    let _infallible = writeln!(
        text,
        "  {title:<20} {:<3} {:>12} {:>12} {middle:>7}  {interval:<16} {:>6}  {word}",
        ratio.target,
        value(ratio.first),
        value(ratio.other),
        ratio.pairs,
    );
}

fn heading(metric: Metric) -> &'static str {
    match metric {
        Metric::TargetCpu => "target CPU/request",
        Metric::Throughput => "requests/s",
        Metric::P50 => "p50",
        Metric::P90 => "p90",
        Metric::P99 => "p99",
        Metric::P999 => "p99.9",
        Metric::ClientCpu => "client CPU/request",
    }
}
