//! Figures of one subject under one load.

use std::collections::{BTreeMap, BTreeSet};

use hdrhistogram::Histogram;
use hp_bench::result::Document;
use serde_json::Value;

use super::grid::CellGrid;
use super::ratio::Ratio;
use super::{Cell, Figures, Latency, Spread, rounded};
use crate::label;
use crate::raw::{Limit, Record};
use hp_bench::statistics::{self, Resampler};

pub(super) fn derive(grid: &CellGrid<'_>, ratios: Vec<Ratio>, resampler: &Resampler) -> Cell {
    let counted: Vec<&Record> = grid.counted().collect();
    let failed = grid.has_failed();
    let void = grid.visits.iter().filter(|visit| !visit.void.is_empty());
    Cell {
        subject: grid.subject.to_owned(),
        control: grid.control,
        rounds: u32::try_from(grid.rounds_counted().len()).unwrap_or(u32::MAX),
        void: void
            .map(|visit| format!("round {}: {}", visit.record.round, visit.void.join("; ")))
            .collect(),
        failed,
        flags: flags(&counted),
        limit: limit(&counted),
        figures: (!failed).then(|| figures(&counted, resampler)),
        ratios: if failed { Vec::new() } else { ratios },
    }
}

/// Why Little's law voids a visit that was made before the rule was.
pub(super) fn broken_law(record: &Record) -> Option<String> {
    label::littles_law(record.load.as_ref()?)
}

/// Requests under way on average, by those that connections have places for; none where the load is no closed loop. Fewer
/// than places is shown, and not judged.
fn little(record: &Record) -> Option<f64> {
    Some(label::under_way(record.load.as_ref()?)?.share)
}

/// All histograms of the headline latency, added; none where no visit has one that can be read.
pub(crate) fn merged<'a>(records: impl Iterator<Item = &'a Record>) -> Option<Histogram<u64>> {
    let mut sum: Option<Histogram<u64>> = None;
    for times in records.filter_map(times) {
        match &mut sum {
            None => sum = Some(times),
            Some(sum) => sum
                .add(&times)
                .expect("decoded histograms have equal bounds"),
        }
    }
    sum.filter(|sum| !sum.is_empty())
}

/// The headline latency of a visit.
pub(crate) fn times(record: &Record) -> Option<Histogram<u64>> {
    record.load.as_ref()?.headline()?.decode().ok()
}

/// CPU time of the measured server per complete answer, in µs.
pub(crate) fn cost_us(record: &Record) -> Option<f64> {
    record.server_cpu_ns_per_request().map(|nanos| nanos / 1e3)
}

/// Complete answers per second.
pub(crate) fn rps(record: &Record) -> Option<f64> {
    Some(record.load.as_ref()?.run.rps).filter(|rps| rps.is_finite() && *rps > 0.0)
}

/// A percentile of the headline latency in ns, as the document has it.
pub(crate) fn percentile_ns(record: &Record, name: &str) -> Option<f64> {
    let nanos = *record.load.as_ref()?.latency_ns.p.get(name)?;
    Some(nanos as f64).filter(|nanos| *nanos > 0.0)
}

/// How many rounds have a flag of each rule, the first word of a flag. A reference in turns is visited more than once in a round.
fn flags(counted: &[&Record]) -> BTreeMap<String, u32> {
    let mut rounds: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    for record in counted {
        for rule in record
            .flags
            .iter()
            .filter_map(|flag| flag.split_whitespace().next())
        {
            rounds.entry(rule).or_default().insert(record.round);
        }
    }
    rounds
        .into_iter()
        .map(|(rule, rounds)| {
            (
                rule.to_owned(),
                u32::try_from(rounds.len()).unwrap_or(u32::MAX),
            )
        })
        .collect()
}

/// The most frequent; of equally frequent ones the last in the order of [`Limit`], which claims less.
fn limit(counted: &[&Record]) -> Option<Limit> {
    let mut counts = BTreeMap::new();
    for limit in counted.iter().filter_map(|record| record.verdict) {
        *counts.entry(limit).or_insert(0_u32) += 1;
    }
    counts
        .into_iter()
        .max_by_key(|(limit, count)| (*count, *limit))
        .map(|(limit, _count)| limit)
}

fn figures(counted: &[&Record], resampler: &Resampler) -> Figures {
    let spread = |of: &dyn Fn(&Record) -> Option<f64>| {
        let values: Vec<f64> = counted.iter().filter_map(|record| of(record)).collect();
        resampler.median(&values).map(Spread::from)
    };
    let median = |of: &dyn Fn(&Record) -> Option<f64>| {
        let values: Vec<f64> = counted.iter().filter_map(|record| of(record)).collect();
        statistics::median(&values).map(rounded)
    };
    Figures {
        cost_us: spread(&cost_us),
        machine_us: median(&machine_us),
        ns_per_kib: median(&ns_per_kib),
        rps: spread(&rps),
        switches: median(&switches),
        answer_bytes: median(&answer_bytes),
        pss_kib: median(&|record| record.server.pss_kib.map(|kib| kib as f64)),
        little: median(&little),
        latency: latency(counted, resampler),
        extra: extra(counted),
        words: words(counted),
    }
}

/// From the histograms of all rounds together; where a round has none, as in closed loops, from the rounds' percentiles.
fn latency(counted: &[&Record], resampler: &Resampler) -> Option<Latency> {
    let has_times = |record: &&Record| {
        record
            .load
            .as_ref()
            .is_some_and(|load| load.headline().is_some())
    };
    let all = if counted.iter().all(has_times) {
        merged(counted.iter().copied())
    } else {
        None
    };
    let over_rounds = |name: &str| {
        let values = counted
            .iter()
            .filter_map(|record| percentile_ns(record, name));
        let values: Vec<f64> = values.map(|nanos| nanos / 1e3).collect();
        resampler.median(&values).map(Spread::from)
    };
    let documents = || counted.iter().filter_map(|record| record.load.as_ref());
    let samples = match &all {
        Some(all) => all.len(),
        None => documents()
            .map(|document| document.run.responses)
            .fold(0, u64::saturating_add),
    };
    // Where fewer than ten samples lie behind a percentile, it tells of those few.
    let value_us = |percent: f64, name: &str| {
        let behind = samples as f64 * (100.0 - percent) / 100.0;
        if behind < SAMPLES_MIN {
            return None;
        }
        match &all {
            Some(all) => Some(us(all.value_at_percentile(percent))),
            None => Some(over_rounds(name)?.mid),
        }
    };
    let spread = |value: f64, name: &str| {
        let (low, high) =
            over_rounds(name).map_or((value, value), |spread| (spread.low, spread.high));
        Spread {
            mid: value,
            low,
            high,
        }
    };
    let clock = documents().map(|document| document.latency_ns.clock.clone());
    let max_ns = documents().map(|document| document.latency_ns.max).max();
    Some(Latency {
        clock: clock.into_iter().next().unwrap_or_default(),
        samples,
        p50_us: spread(value_us(50.0, "50")?, "50"),
        p90_us: value_us(90.0, "90"),
        p99_us: value_us(99.0, "99").map(|value| spread(value, "99")),
        p999_us: value_us(99.9, "99.9"),
        max_us: us(max_ns.unwrap_or(0)),
        censored: documents()
            .map(|document| document.latency_ns.censored)
            .fold(0, u64::saturating_add),
    })
}

fn us(nanos: u64) -> f64 {
    rounded(nanos as f64 / 1e3)
}

/// The special numbers; one level of nesting is written with a dot.
fn extra(counted: &[&Record]) -> BTreeMap<String, f64> {
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut add = |key: String, value: &Value| {
        if let Some(number) = value.as_f64().filter(|number| number.is_finite()) {
            values.entry(key).or_default().push(number);
        }
    };
    for (key, value) in counted.iter().flat_map(|record| &record.extra) {
        add(key.clone(), value);
        for (inner, value) in value.as_object().into_iter().flatten() {
            add(format!("{key}.{inner}"), value);
        }
    }
    let medians = values
        .into_iter()
        .filter_map(|(key, values)| Some((key, rounded(statistics::median(&values)?))));
    medians.collect()
}

/// The special texts. Of equally frequent ones the first by letter.
fn words(counted: &[&Record]) -> BTreeMap<String, String> {
    let mut counts: BTreeMap<&str, BTreeMap<&str, u32>> = BTreeMap::new();
    for (key, value) in counted.iter().flat_map(|record| &record.extra) {
        if let Some(text) = value.as_str() {
            *counts.entry(key).or_default().entry(text).or_insert(0) += 1;
        }
    }
    let most = counts.into_iter().filter_map(|(key, texts)| {
        let (text, _count) = texts
            .into_iter()
            .rev()
            .max_by_key(|(_text, count)| *count)?;
        Some((key.to_owned(), text.chars().take(WORDS_CHARS_MAX).collect()))
    });
    most.collect()
}

/// All CPUs' busy time between the looks by the answers between them; with a warm-up the looks hold more than was counted.
fn machine_us(record: &Record) -> Option<f64> {
    let document = record.load.as_ref()?;
    // Of two that take turns nobody knows who kept the machine busy.
    if document.plan.warmup_s > 0.0 || record.pair.is_some() || record.machine.busy_pct.is_empty() {
        return None;
    }
    let busy_pct: f64 = record.machine.busy_pct.iter().sum();
    let busy_ns = busy_pct / 100.0 * record.machine.elapsed_ns as f64;
    per_response(document, busy_ns / 1e3)
}

fn ns_per_kib(record: &Record) -> Option<f64> {
    let request_bytes = record.params.other.get("request_bytes");
    let uploaded = request_bytes.and_then(Value::as_u64).unwrap_or(0);
    let body_bytes = record.params.body_bytes.max(uploaded);
    let kib = record.load.as_ref()?.run.responses as f64 * body_bytes as f64 / 1_024.0;
    let cpu_ns = record.server.cpu_ns.filter(|&cpu_ns| cpu_ns > 0)? as f64;
    (body_bytes >= BULK_BYTES_MIN && kib > 0.0).then(|| cpu_ns / kib)
}

fn switches(record: &Record) -> Option<f64> {
    let server = &record.server;
    let sum = server
        .switches_voluntary?
        .checked_add(server.switches_involuntary?)?;
    per_response(record.load.as_ref()?, sum as f64)
}

fn answer_bytes(record: &Record) -> Option<f64> {
    let document = record.load.as_ref()?;
    per_response(document, document.run.bytes_in as f64)
}

fn per_response(document: &Document, sum: f64) -> Option<f64> {
    let responses = document.run.responses;
    (responses > 0).then(|| sum / responses as f64)
}

const WORDS_CHARS_MAX: usize = 120;
pub(super) const SAMPLES_MIN: f64 = 10.0;
const BULK_BYTES_MIN: u64 = 64 * 1024;
