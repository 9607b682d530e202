//! From visits to rows: medians over the rounds, and ratios of pairs from the same round with their intervals.
//!
//! A cell with a void visit has no figures at all: what is left of it would be a choice made after the run.

use serde::{Deserialize, Serialize};

use crate::round::{Record, Visit};
use crate::stats::{self, Interval};
use crate::sweep::{Cell, Engine, Part, Plan, Target};

/// One cell, analysed.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// The cell.
    pub cell: Cell,
    /// How server and load were kept apart.
    pub pinning: String,
    /// All visits as they were.
    pub visits: Vec<Visit>,
    /// Medians over the rounds; none when the cell is VOID.
    pub summary: Option<Summary>,
    /// The server's CPU time per request against the reference; none for the reference itself.
    pub versus: Option<Versus>,
}

/// Figures of a cell over all rounds. Rounded, so that the file and the tables say the same.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// Median of the server's CPU time per completed request, in µs.
    pub server_cpu_us: Option<f64>,
    /// Median of the completed requests per second.
    pub rps: f64,
    /// Median of the rounds' median latencies, in µs.
    pub p50_us: f64,
    /// Median of the rounds' 99th percentiles, in µs.
    pub p99_us: f64,
    /// The largest latency of any round, in µs.
    pub max_us: f64,
}

/// A ratio of costs: below 1 this cell is cheaper than the reference.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Versus {
    /// Engine of the reference.
    pub against: Engine,
    /// The median of the paired ratios.
    pub ratio: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
    /// Rounds in which both have a figure.
    pub pairs: u32,
    /// What may be said of it; an A/A control gets none.
    pub verdict: Option<Verdict>,
}

/// What a ratio allows us to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Fewer costs, beyond doubt and beyond noise.
    Cheaper,
    /// More costs, beyond doubt and beyond noise.
    Dearer,
    /// Neither.
    Tie,
    /// Fewer than [`VERDICT_PAIRS_MIN`] pairs, or no A/A control to tell noise from effect.
    Unknown,
}

impl Row {
    /// Whether any visit of the cell failed.
    pub fn is_void(&self) -> bool {
        self.summary.is_none()
    }

    /// Failures over all rounds, of every class.
    pub fn errors(&self) -> u64 {
        self.visits
            .iter()
            .flat_map(|visit| &visit.load)
            .flat_map(|load| load.errors.values())
            .sum()
    }
}

/// One row per record, in the same order.
pub fn rows(plan: &Plan, records: &[Record]) -> Vec<Row> {
    let find = |target: Target, connections: u32| {
        let cell = Cell {
            target,
            connections,
        };
        records.iter().find(|record| record.cell == cell)
    };
    let mut rows = Vec::new();
    for record in records {
        let Cell {
            target,
            connections,
        } = record.cell;
        let reference = Target {
            engine: plan.reference(),
            part: Part::Subject,
            ..target
        };
        let control = Target {
            part: Part::Control,
            ..reference
        };
        let versus = match find(reference, connections) {
            Some(against) if against.cell != record.cell => {
                log_ratio(plan, record, against).map(|(ratio, pairs)| {
                    let noise = find(control, connections)
                        .and_then(|control| log_ratio(plan, control, against))
                        .map(|(noise, _pairs)| noise);
                    let verdict =
                        (target.part == Part::Subject).then(|| verdict(ratio, noise, pairs));
                    let Interval { mid, low, high } = ratio.map(|log| rounded(log.exp()));
                    Versus {
                        against: plan.reference(),
                        ratio: mid,
                        low,
                        high,
                        pairs,
                        verdict,
                    }
                })
            }
            Some(_) | None => None,
        };
        let summary = summary(&record.visits);
        rows.push(Row {
            cell: record.cell,
            pinning: record.pinning.clone(),
            visits: record.visits.clone(),
            summary,
            versus,
        });
    }
    rows
}

/// Medians over the rounds; none when there is no round or any is void.
pub fn summary(visits: &[Visit]) -> Option<Summary> {
    if !visits.iter().all(Visit::counts) {
        return None;
    }
    let loads: Vec<_> = visits.iter().flat_map(|visit| &visit.load).collect();
    let us = |ns: Option<u64>| ns.map(|ns| ns as f64 / 1_000.0);
    let p50: Vec<f64> = loads.iter().filter_map(|load| us(load.p50_ns)).collect();
    let p99: Vec<f64> = loads.iter().filter_map(|load| us(load.p99_ns)).collect();
    let rps: Vec<f64> = loads.iter().map(|load| load.rps).collect();
    let cpu: Vec<f64> = visits.iter().filter_map(Visit::server_cpu_us).collect();
    let all_have_cost = cpu.len() == visits.len();
    Some(Summary {
        server_cpu_us: stats::median(&cpu).filter(|_| all_have_cost).map(rounded),
        rps: rounded(stats::median(&rps)?),
        p50_us: rounded(stats::median(&p50)?),
        p99_us: rounded(stats::median(&p99)?),
        max_us: rounded(
            loads
                .iter()
                .filter_map(|load| us(load.max_ns))
                .fold(0.0, f64::max),
        ),
    })
}

/// The interval of the paired log ratios `record / against`, and the number of pairs; none when either is VOID.
fn log_ratio(plan: &Plan, record: &Record, against: &Record) -> Option<(Interval, u32)> {
    let both = [record, against];
    if !both
        .iter()
        .all(|record| record.visits.iter().all(Visit::counts))
    {
        return None;
    }
    let mut logs = Vec::new();
    for (mine, other) in record.visits.iter().zip(&against.visits) {
        assert_eq!(
            mine.round, other.round,
            "every round visits every cell once"
        );
        if let (Some(mine), Some(other)) = (mine.server_cpu_us(), other.server_cpu_us()) {
            logs.push((mine / other).ln());
        }
    }
    let pairs = u32::try_from(logs.len()).expect("rounds are counted in u32");
    Some((stats::bootstrap_median(&logs, plan.seed)?, pairs))
}

/// Says "cheaper" or "dearer" only where the interval excludes 1 and the effect is larger than the noise, which is
/// the largest of 2 %, twice the half width of the A/A interval, and the end of that interval farthest from 1.
fn verdict(log: Interval, noise: Option<Interval>, pairs: u32) -> Verdict {
    let Some(noise) = noise.filter(|_| pairs >= VERDICT_PAIRS_MIN) else {
        return Verdict::Unknown;
    };
    let floor = EFFECT_MIN
        .ln()
        .max(noise.high - noise.low)
        .max(noise.high.abs())
        .max(noise.low.abs());
    if log.mid.abs() <= floor {
        return Verdict::Tie;
    }
    if log.high < 0.0 {
        Verdict::Cheaper
    } else if log.low > 0.0 {
        Verdict::Dearer
    } else {
        Verdict::Tie
    }
}

/// Three decimals.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// Below five pairs a bootstrap interval is narrower than what it stands for.
pub const VERDICT_PAIRS_MIN: u32 = 5;

const EFFECT_MIN: f64 = 1.02;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::round::tests::{proxied, visit};
    use crate::sweep::tests::small;

    pub(crate) fn record(cell: Cell, server_cpu_us: [u64; 5]) -> Record {
        let visits = (1..)
            .zip(server_cpu_us)
            .map(|(round, us)| visit(round, us))
            .collect();
        Record {
            cell,
            pinning: "CPU 0 / 1".into(),
            visits,
        }
    }

    fn control(connections: u32) -> Cell {
        let cell = proxied(Engine::Epoll, connections);
        Cell {
            target: Target {
                part: Part::Control,
                ..cell.target
            },
            ..cell
        }
    }

    /// The verdict on `uring`, beside a reference of 100, 110, ... and its control.
    fn check_verdict(uring: [u64; 5], aa: [u64; 5], expected: Verdict) {
        let records = [
            record(proxied(Engine::Uring, 1), uring),
            record(proxied(Engine::Epoll, 1), [100, 110, 120, 130, 140]),
            record(control(1), aa),
        ];
        let rows = rows(&small(), &records);
        assert_eq!(rows[0].versus.unwrap().verdict, Some(expected));
        assert_eq!(rows[1].versus, None);
        assert_eq!(rows[2].versus.unwrap().verdict, None);
    }

    #[test]
    fn pairs_are_of_the_same_round() {
        let records = [
            record(proxied(Engine::Uring, 1), [50, 55, 60, 65, 70]),
            record(proxied(Engine::Epoll, 1), [100, 110, 120, 130, 140]),
        ];
        let versus = rows(&small(), &records)[0].versus.unwrap();
        assert_eq!(
            (versus.ratio, versus.low, versus.high, versus.pairs),
            (0.5, 0.5, 0.5, 5)
        );
        assert_eq!(
            versus.verdict,
            Some(Verdict::Unknown),
            "there is no control"
        );
    }

    #[test]
    fn an_effect_counts_beyond_doubt_and_beyond_noise() {
        let quiet = [100, 110, 120, 130, 140];
        let loud = [110, 100, 120, 145, 130];
        check_verdict([90, 99, 108, 117, 126], quiet, Verdict::Cheaper);
        check_verdict([110, 121, 132, 143, 154], quiet, Verdict::Dearer);
        check_verdict([90, 99, 108, 117, 126], loud, Verdict::Tie);
        check_verdict([101, 111, 121, 131, 141], quiet, Verdict::Tie);
        check_verdict([80, 120, 100, 110, 120], quiet, Verdict::Tie);
    }

    #[test]
    fn one_void_round_voids_the_cell() {
        let mut records = [
            record(proxied(Engine::Uring, 1), [50; 5]),
            record(proxied(Engine::Epoll, 1), [100; 5]),
        ];
        records[0].visits[3].void.push("errors: reset 1".into());
        let rows = rows(&small(), &records);
        assert!(rows[0].is_void());
        assert_eq!(rows[0].versus, None);
        assert!(!rows[1].is_void());
    }

    #[test]
    fn a_summary_is_of_medians_and_the_largest_maximum() {
        let mut visits = record(proxied(Engine::Uring, 1), [20, 30, 10, 50, 40]).visits;
        visits[2].load.as_mut().unwrap().max_ns = Some(9_000_000);
        let summary = summary(&visits).unwrap();
        assert_eq!(summary.server_cpu_us, Some(30.0));
        assert_eq!(
            (summary.p50_us, summary.p99_us, summary.max_us),
            (2040.0, 3120.0, 9000.0)
        );
        assert_eq!(super::summary(&[]), None);
    }
}
