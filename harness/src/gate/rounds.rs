//! What two revisions cost in CPU time and in latency, from the records of rounds. Pure: no process, no clock.
//!
//! ```text
//! a closed loop, in turns:   head beside base │ base beside itself      the next round begins with the other one
//! at a rate, alone:          base, head and the base again, in an order that is drawn
//! ```
//!
//! Two that take turns meet the same machine, so the ratio of their costs is what differs between them, and that of the base beside
//! itself is what this machine calls equal. A load at a rate takes no turns: what is due in the turn of another would wait, and that
//! wait would be the latency. In a closed loop with turns the slowest hundredth is the end of the burst with which each turn begins,
//! so no latency is judged there.

use crate::raw::Record;
use crate::scatter;
use hp_bench::statistics::{Interval, Resampler, median};

use super::rule::{Finding, Ratio, Verdict, judge_ratio};

/// Rounds of each load: enough for a loss of 8 % to be seen, and for equals to stay equals (docs/gate.md).
pub const ROUNDS_USUAL: u32 = 11;

/// The subject that is the older revision.
pub const BASE: &str = "base";
/// The subject that is the newer one.
pub const HEAD: &str = "head";
/// The older one again.
const CONTROL: &str = "base/aa";

/// What one visit of a revision brought.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// CPU time of the server by complete answers, in ns; above 0.
    pub cpu_ns: f64,
    /// The 99th percentile of the latency, in ns; above 0.
    pub p99_ns: f64,
}

/// The base, and what stands against it in the same round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// The base.
    pub base: Figures,
    /// The other.
    pub other: Figures,
}

/// What one round brought.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Round {
    /// The head against the base.
    pub head: Pair,
    /// The base against itself.
    pub control: Pair,
}

impl Round {
    /// Of the records of a round's visits.
    ///
    /// # Errors
    /// Why one of them may not be used, in a line.
    pub fn of(records: &[Record]) -> Result<Self, String> {
        let head = Pair::of(records, HEAD)?;
        let control = Pair::of(records, CONTROL)?;
        if records.iter().any(|record| record.pair.is_some()) {
            return Ok(Self { head, control });
        }
        // Alone, the base was there twice for one head: their middle is a better reference than one of them.
        let middle = Figures {
            cpu_ns: (control.base.cpu_ns * control.other.cpu_ns).sqrt(),
            p99_ns: (control.base.p99_ns * control.other.p99_ns).sqrt(),
        };
        let head = Pair {
            base: middle,
            other: head.other,
        };
        Ok(Self { head, control })
    }
}

impl Pair {
    /// A subject with the base that took turns with it, or that was visited in the same round.
    fn of(records: &[Record], subject: &str) -> Result<Self, String> {
        let other = records.iter().find(|record| record.subject == subject);
        let other = other.ok_or_else(|| format!("{subject} was not visited"))?;
        let base = records.iter().find(|record| match &other.pair {
            Some(_) => other.is_paired_with(record),
            None => record.subject == BASE,
        });
        let base = base.ok_or_else(|| format!("nothing was visited beside {subject}"))?;
        Ok(Self {
            base: Figures::of(base)?,
            other: Figures::of(other)?,
        })
    }
}

impl Figures {
    fn of(record: &Record) -> Result<Self, String> {
        let failed = |what: &str| format!("{}: {what}", record.subject);
        if let Some(reason) = record.void.first() {
            return Err(failed(reason));
        }
        let cpu_ns = record.server_cpu_ns_per_request();
        let p99_ns = record
            .load
            .as_ref()
            .and_then(|load| load.latency_ns.p.get("99").copied())
            .filter(|&nanos| nanos > 0);
        Ok(Self {
            cpu_ns: cpu_ns.ok_or_else(|| failed("the server's CPU time is not known"))?,
            p99_ns: p99_ns.ok_or_else(|| failed("the load told no p99"))? as f64,
        })
    }
}

/// Judges a load's rounds: CPU time, and where it has a rate the latency.
pub fn judge(name: &str, has_rate: bool, rounds: &[Round]) -> Vec<Finding> {
    let quantities = if has_rate { vec![CPU, P99] } else { vec![CPU] };
    let (resampler, judged) = (Resampler::new(SEED), quantities.into_iter());
    judged
        .map(|quantity| judge_quantity(name, rounds, quantity, &resampler))
        .collect()
}

/// Its name, the limit of its ratio, and what of a visit it is.
type Quantity = (&'static str, f64, fn(&Figures) -> f64);

fn judge_quantity(
    name: &str,
    rounds: &[Round],
    (what, limit, of): Quantity,
    resampler: &Resampler,
) -> Finding {
    let micros = |side: fn(&Round) -> &Figures| {
        let values: Vec<f64> = rounds.iter().map(|round| of(side(round))).collect();
        let middle = median(&values).unwrap_or(f64::NAN);
        format!("{:.2}", middle / 1_000.0)
    };
    let logs = |pair: fn(&Round) -> &Pair| -> Vec<f64> {
        let pairs = rounds.iter().map(pair);
        pairs
            .map(|pair| (of(&pair.other) / of(&pair.base)).ln())
            .collect()
    };
    let [head, control] = [logs(|round| &round.head), logs(|round| &round.control)];
    let ratio = |logs: &[f64]| Some(resampler.trimmed_mean(logs)?.map(f64::exp));
    let (verdict, change) = match (ratio(&head), ratio(&control)) {
        (Some(measured), Some(noise)) => {
            let verdict = judge_ratio(&Ratio {
                limit,
                head: measured,
                control: noise,
            });
            let change = format!(
                "{}, limit {limit}, A/A {}, {} rounds",
                shown(measured, &head),
                shown(noise, &control),
                rounds.len()
            );
            (verdict, change)
        }
        _ => (Verdict::Unknown, String::from("no round")),
    };
    Finding {
        place: name.to_owned(),
        what: what.to_owned(),
        base: micros(|round| &round.head.base),
        head: micros(|round| &round.head.other),
        change,
        verdict,
    }
}

/// A ratio, its interval, and how far its rounds lie apart.
fn shown(ratio: Interval, logs: &[f64]) -> String {
    let Interval { mid, low, high } = ratio;
    let deviation = scatter::deviation(logs).unwrap_or(f64::NAN);
    format!("{mid:.3} [{low:.3}, {high:.3}] (sd {deviation:.3})")
}

/// What a round says of itself.
pub fn line_of(round: &Round) -> String {
    let part = |name: &str, pair: &Pair| {
        let [base, other] = [&pair.base, &pair.other].map(|figures| figures.cpu_ns / 1_000.0);
        format!("{name} {other:.2} us by {base:.2} = {:.3}", other / base)
    };
    let [head, control] = [part(HEAD, &round.head), part(BASE, &round.control)];
    format!("{head}   {control}")
}

const CPU: Quantity = ("CPU us / request", CPU_RATIO_MAX, |figures| figures.cpu_ns);
const P99: Quantity = ("p99 us", P99_RATIO_MAX, |figures| figures.p99_ns);
/// Of the repeatable resampling.
const SEED: u64 = 1;
/// How much more CPU time a request may cost.
const CPU_RATIO_MAX: f64 = 1.02;
/// How much later the slowest hundredth may be answered: latency on two shared CPUs is too noisy for less.
const P99_RATIO_MAX: f64 = 1.15;

#[cfg(test)]
#[path = "rounds/tests.rs"]
mod tests;
