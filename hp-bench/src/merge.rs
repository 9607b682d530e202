//! The sum of results that were measured at the same time, by several threads' worth of machines.
//!
//! Histograms add exactly, so the percentiles of the sum are those of all requests; percentiles themselves are
//! never averaged. What cannot be added, such as a target's cost seen by two observers, is left out.
//!
//! Must not know: files and flags.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;

use crate::format::float;
use crate::report::unix_seconds;
use crate::result::{
    Cost, Counted, DecodeError, Document, Encoded, Histograms, Latency, Planned, SAMPLES_MAX,
    Second, Tool, Verdict,
};

/// Why results cannot be added.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MergeError {
    /// There is no result.
    Nothing,
    /// The runs did different things.
    Differ {
        /// The key that differs.
        key: String,
        /// Its value in the first result.
        first: String,
        /// Its value in the one that cannot be added.
        other: String,
    },
    /// A histogram that one result has and the other lacks.
    Lacks {
        /// Its key.
        name: &'static str,
    },
    /// A histogram that is none.
    Histogram(DecodeError),
    /// More samples than a histogram may have.
    TooMany,
}

/// Adds results of the same plan.
///
/// # Errors
/// [`MergeError`] for results whose sum would mean nothing.
pub fn merge(documents: &[Document]) -> Result<Document, MergeError> {
    let Some((first, others)) = documents.split_first() else {
        return Err(MergeError::Nothing);
    };
    for other in others {
        compare(first, other)?;
    }
    let histograms = histograms(documents)?;
    let run = run(documents);
    let mut merged = Document {
        schema: first.schema.clone(),
        tool: Tool {
            engine: joined(
                documents
                    .iter()
                    .map(|document| document.tool.engine.as_str()),
            ),
            version: joined(
                documents
                    .iter()
                    .map(|document| document.tool.version.as_str()),
            ),
            ..first.tool.clone()
        },
        // Of texts of one form the least is the earliest.
        started: documents
            .iter()
            .map(|document| document.started.clone())
            .min()
            .unwrap_or_default(),
        interrupted: documents.iter().any(|document| document.interrupted),
        target: first.target.clone(),
        plan: plan(documents),
        status: sum_of(documents, |document| &document.status),
        errors: sum_of(documents, |document| &document.errors),
        latency_ns: Latency::default(),
        histograms,
        series: series(documents)?,
        client: cost(documents, run.responses),
        target_cost: None,
        machine: None,
        verdict: verdict(documents),
        run,
    };
    merged.run.rate_ratio = match (
        merged.plan.rate,
        merged.plan.rate_to,
        merged.plan.rate_steps.as_slice(),
    ) {
        (Some(rate), None, []) if rate > 0.0 => Some(merged.run.rps / rate),
        _ => None,
    };
    merged.latency_ns = latency(documents, &merged)?;
    Ok(merged)
}

/// Holds `other` to what `first` did; how many did it may differ.
///
/// # Errors
/// [`MergeError::Differ`] with the first key that does.
pub fn compare(first: &Document, other: &Document) -> Result<(), MergeError> {
    let differ = |key: &str, first: &dyn fmt::Display, other: &dyn fmt::Display| {
        Err(MergeError::Differ {
            key: key.to_owned(),
            first: first.to_string(),
            other: other.to_string(),
        })
    };
    if first.target.url != other.target.url {
        return differ("target.url", &first.target.url, &other.target.url);
    }
    let clocks = [&first.latency_ns.clock, &other.latency_ns.clock];
    if let [one, two] = clocks
        && one != two
    {
        return differ("latency_ns.clock", one, two);
    }
    let [first, other] = [first, other].map(|document| {
        let shared = Planned {
            connections: 0,
            threads: 0,
            idle: 0,
            requests: document.plan.requests.map(|_some| 0),
            src: Vec::new(),
            pin: Vec::new(),
            start_at: None,
            ..document.plan.clone()
        };
        serde_json::to_value(shared).expect("a plan is numbers and texts")
    });
    for (key, value) in first.as_object().into_iter().flatten() {
        let theirs = &other[key];
        if value != theirs {
            return differ(&format!("plan.{key}"), value, theirs);
        }
    }
    Ok(())
}

fn plan(documents: &[Document]) -> Planned {
    let plans = || documents.iter().map(|document| &document.plan);
    let times = float(documents.len() as u64);
    let first = plans().next().cloned().unwrap_or_default();
    let many = |part: fn(&Planned) -> u32| plans().map(part).fold(0, u32::saturating_add);
    Planned {
        connections: many(|plan| plan.connections),
        threads: many(|plan| plan.threads),
        idle: many(|plan| plan.idle),
        requests: total(plans().map(|plan| plan.requests)),
        rate: first.rate.map(|rate| rate * times),
        rate_to: first.rate_to.map(|rate| rate * times),
        rate_steps: first.rate_steps.iter().map(|rate| rate * times).collect(),
        src: plans().flat_map(|plan| plan.src.clone()).collect(),
        pin: plans().flat_map(|plan| plan.pin.clone()).collect(),
        ..first
    }
}

fn run(documents: &[Document]) -> Counted {
    let runs = || documents.iter().map(|document| &document.run);
    let sum = |part: fn(&Counted) -> u64| runs().map(part).fold(0, u64::saturating_add);
    let elapsed_s = runs().map(|run| run.elapsed_s).fold(0.0, f64::max);
    let in_turn_s = runs()
        .map(|run| run.in_turn_s)
        .reduce(|most, time| Some(most?.max(time?)))
        .flatten();
    let responses = sum(|run| run.responses);
    let active_s = in_turn_s.unwrap_or(elapsed_s);
    let rps = if active_s > 0.0 {
        (float(responses) / active_s * 10.0).round() / 10.0
    } else {
        0.0
    };
    Counted {
        elapsed_s,
        in_turn_s,
        requests: sum(|run| run.requests),
        responses,
        bytes_in: sum(|run| run.bytes_in),
        bytes_out: sum(|run| run.bytes_out),
        rps,
        rate_ratio: None,
        connections_min: total(runs().map(|run| run.connections_min)),
        connections_opened: sum(|run| run.connections_opened),
    }
}

/// The sum, where every part is known.
fn total(parts: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    parts
        .reduce(|sum, part| Some(sum?.saturating_add(part?)))
        .flatten()
}

fn sum_of(
    documents: &[Document],
    counts: fn(&Document) -> &BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (name, count) in documents.iter().flat_map(counts) {
        let sum: &mut u64 = sums.entry(name.clone()).or_default();
        *sum = sum.saturating_add(*count);
    }
    sums
}

fn histograms(documents: &[Document]) -> Result<Histograms, MergeError> {
    let sum = |name, part: fn(&Histograms) -> &Option<Encoded>| {
        let parts: Vec<_> = documents
            .iter()
            .map(|document| part(&document.histograms).as_ref())
            .collect();
        match (
            parts.iter().any(Option::is_some),
            parts.iter().any(Option::is_none),
        ) {
            (true, true) => Err(MergeError::Lacks { name }),
            (true, false) => Ok(Some(Encoded::encode(&added(parts.into_iter().flatten())?))),
            (false, _) => Ok(None),
        }
    };
    Ok(Histograms {
        service: sum("service", |all| &all.service)?,
        response: sum("response", |all| &all.response)?,
        lag: sum("lag", |all| &all.lag)?,
        connect: sum("connect", |all| &all.connect)?,
        tls: sum("tls", |all| &all.tls)?,
        ttfb: sum("ttfb", |all| &all.ttfb)?,
    })
}

fn added<'a>(parts: impl Iterator<Item = &'a Encoded>) -> Result<Histogram<u64>, MergeError> {
    let mut sum = crate::record::histogram();
    for part in parts {
        let part = part.decode().map_err(MergeError::Histogram)?;
        sum.add(part).expect("decoding holds the bounds");
        if sum.len() > SAMPLES_MAX {
            return Err(MergeError::TooMany);
        }
    }
    Ok(sum)
}

fn latency(documents: &[Document], merged: &Document) -> Result<Latency, MergeError> {
    let clock = documents
        .first()
        .map_or_else(String::new, |first| first.latency_ns.clock.clone());
    let with_clock = Document {
        latency_ns: Latency {
            clock: clock.clone(),
            ..Latency::default()
        },
        histograms: merged.histograms.clone(),
        ..Document::default()
    };
    let Some(headline) = with_clock.headline() else {
        return Err(MergeError::Lacks { name: "service" });
    };
    let times = headline.decode().map_err(MergeError::Histogram)?;
    let censored = documents
        .iter()
        .map(|document| document.latency_ns.censored);
    Ok(Latency::of(
        &times,
        clock,
        censored.fold(0, u64::saturating_add),
    ))
}

fn series(documents: &[Document]) -> Result<Vec<Second>, MergeError> {
    let mut by_second: BTreeMap<u64, Vec<&Second>> = BTreeMap::new();
    for second in documents.iter().flat_map(|document| &document.series) {
        by_second.entry(second.t).or_default().push(second);
    }
    by_second
        .into_iter()
        .map(|(t, parts)| one_second(t, &parts))
        .collect()
}

fn one_second(t: u64, parts: &[&Second]) -> Result<Second, MergeError> {
    let sum = |part: fn(&Second) -> u64| {
        parts
            .iter()
            .map(|second| part(second))
            .fold(0, u64::saturating_add)
    };
    let most =
        |part: fn(&Second) -> u64| parts.iter().map(|second| part(second)).max().unwrap_or(0);
    let texts: Option<Vec<&Encoded>> = parts.iter().map(|second| second.hist.as_ref()).collect();
    let times = texts.map(|texts| added(texts.into_iter())).transpose()?;
    // Without all histograms the larger of the parts' percentiles is what the sum's cannot exceed.
    let quantile = |q, part| {
        times
            .as_ref()
            .map_or_else(|| most(part), |times| times.value_at_quantile(q))
    };
    Ok(Second {
        t,
        n: sum(|second| second.n),
        err: sum(|second| second.err),
        bytes: sum(|second| second.bytes),
        p50: quantile(0.5, |second| second.p50),
        p99: quantile(0.99, |second| second.p99),
        max: most(|second| second.max),
        lag_p99: most(|second| second.lag_p99),
        hist: times.as_ref().map(Encoded::encode),
    })
}

fn cost(documents: &[Document], responses: u64) -> Cost {
    let sum = |part: fn(&Cost) -> Option<u64>| {
        total(documents.iter().map(|document| part(&document.client)))
    };
    let cpu_ns = sum(|cost| cost.cpu_ns);
    Cost {
        cpu_ns,
        cpu_ns_per_req: cpu_ns.and_then(|cpu_ns| cpu_ns.checked_div(responses)),
        ctx_switches: sum(|cost| cost.ctx_switches),
        rss_kib: sum(|cost| cost.rss_kib),
    }
}

fn verdict(documents: &[Document]) -> Verdict {
    let mut notes = vec![format!("sum of {} results", documents.len())];
    for note in documents
        .iter()
        .flat_map(|document| &document.verdict.notes)
    {
        if !notes.contains(note) && notes.len() < NOTES_MAX {
            notes.push(note.clone());
        }
    }
    if documents
        .iter()
        .any(|document| !document.verdict.slo.is_empty())
    {
        notes.push("the gates of the parts say nothing about the sum and are left out".to_owned());
    }
    let starts: Vec<_> = documents
        .iter()
        .filter_map(|document| unix_seconds(&document.started))
        .collect();
    let apart = starts.iter().max().unwrap_or(&0) - starts.iter().min().unwrap_or(&0);
    if apart > 1 {
        notes.push(format!(
            "started {apart} s apart: the rate is that of runs at the same time"
        ));
    }
    let first = documents
        .first()
        .and_then(|document| document.verdict.limited_by.clone());
    let is_shared = documents
        .iter()
        .all(|document| document.verdict.limited_by == first);
    Verdict {
        limited_by: first.filter(|_limit| is_shared),
        slo: Vec::new(),
        valid: documents.iter().all(|document| document.verdict.valid),
        notes,
    }
}

/// The different texts in their order, with a plus between.
fn joined<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut different: Vec<&str> = texts.collect();
    different.sort_unstable();
    different.dedup();
    different.join("+")
}

impl fmt::Display for MergeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => write!(f, "there is no result to add"),
            Self::Differ { key, first, other } => write!(
                f,
                "{key} is {other} here and {first} in the first file; results of one plan can be added"
            ),
            Self::Lacks { name } => write!(
                f,
                "histogram {name} is not in all files, so they cannot be added exactly"
            ),
            Self::Histogram(cause) => write!(f, "a histogram is damaged: {cause}"),
            Self::TooMany => write!(f, "together they have more samples than a histogram holds"),
        }
    }
}

impl std::error::Error for MergeError {}

/// Different sentences of the parts that are kept.
const NOTES_MAX: usize = 20;

#[cfg(test)]
mod tests;
