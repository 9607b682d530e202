//! Ratios of paired rounds, with their intervals, and what they allow to be said.

use serde::{Deserialize, Serialize};

use super::cell::{SAMPLES_MIN, cost_us, percentile_ns};
use super::grid::{CellGrid, RowGrid};
use super::rounded;
use crate::raw::Record;
use hp_bench::statistics::{Interval, Resampler};

/// A subject's quantity by a reference's: below 1 the subject has less of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Ratio {
    /// What is compared.
    pub of: Quantity,
    /// The reference.
    pub against: String,
    /// The trimmed mean of the paired ratios.
    pub ratio: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
    /// Rounds in which both count.
    pub pairs: u32,
    /// What may be said; none for a control.
    pub verdict: Option<Verdict>,
    /// The pairs' logarithms, in order of rounds; not in files.
    #[serde(skip)]
    pub logs: Vec<f64>,
}

/// What is compared.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantity {
    /// CPU time of the measured server per complete answer.
    Cost,
    /// Median of the latency, of loads at a rate.
    P50,
    /// 99th percentile of the same.
    P99,
    /// 99.9th percentile of the same.
    P999,
}

/// What a ratio allows to be said.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Less, beyond doubt and beyond noise.
    Less,
    /// More, beyond doubt and beyond noise.
    More,
    /// Neither.
    Tie,
    /// Fewer than [`PAIRS_MIN`] pairs, or no A/A control to tell noise from effect.
    Unknown,
}

impl Ratio {
    /// Whether it is known so well that another session will hardly bring another number: a cost's interval is at most as wide as
    /// [`PUBLISHED_WIDTH`]. Nobody knows a tail so well; its interval stands beside it.
    pub fn is_sure(&self) -> bool {
        self.of != Quantity::Cost || self.high <= self.low * PUBLISHED_WIDTH
    }

    /// Whether it is judged and sure: a number to rely on. Else the verdict, where it is less or more, is all that is said.
    pub fn is_published(&self) -> bool {
        let verdict = self.verdict.unwrap_or(Verdict::Unknown);
        verdict != Verdict::Unknown && self.is_sure()
    }
}

impl Verdict {
    /// In a word, or two.
    pub fn words(self, of: Quantity) -> &'static str {
        match (self, of) {
            (Self::Less, Quantity::Cost) => "cheaper",
            (Self::More, Quantity::Cost) => "dearer",
            (Self::Less, _) => "lower",
            (Self::More, _) => "higher",
            (Self::Tie, _) => "tie",
            (Self::Unknown, _) => "no verdict",
        }
    }
}

impl Quantity {
    /// All of them, in the order of a page.
    pub const ALL: [Self; 4] = [Self::Cost, Self::P50, Self::P99, Self::P999];

    /// The words for it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Cost => "CPU per request",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
        }
    }

    fn of(self, record: &Record) -> Option<f64> {
        match self {
            Self::Cost => cost_us(record),
            Self::P50 => latency_ns(record, 50.0, "50"),
            Self::P99 => latency_ns(record, 99.0, "99"),
            Self::P999 => latency_ns(record, 99.9, "99.9"),
        }
    }
}

/// A percentile of a load at a rate; none where too few answers of the visit lie behind it.
fn latency_ns(record: &Record, percent: f64, name: &str) -> Option<f64> {
    record.params.rate?;
    let responses = record.load.as_ref()?.run.responses as f64;
    let behind = responses * (100.0 - percent) / 100.0;
    percentile_ns(record, name).filter(|_nanos| behind >= SAMPLES_MIN)
}

/// Each control of the row against what it is a second process of.
pub(super) fn noise(row: &RowGrid<'_>, resampler: &Resampler) -> Vec<Ratio> {
    let mut noise = Vec::new();
    for control in row.cells.iter().filter(|cell| cell.control) {
        let own = control.subject.strip_suffix(CONTROL).unwrap_or_default();
        let Some(own) = row.cell(own).filter(|own| !own.control) else {
            continue;
        };
        for of in Quantity::ALL {
            noise.extend(
                paired(of, row, [control, own], resampler)
                    .map(|(interval, logs)| ratio(of, own.subject, interval, logs, None)),
            );
        }
    }
    noise
}

/// A cell against each of the references; a control is judged nowhere.
pub(super) fn all(
    row: &RowGrid<'_>,
    cell: &CellGrid<'_>,
    references: &[String],
    noise: &[Ratio],
    resampler: &Resampler,
) -> Vec<Ratio> {
    let mut ratios = Vec::new();
    for reference in references.iter().filter(|name| *name != cell.subject) {
        let Some(against) = row.cell(reference) else {
            continue;
        };
        for of in Quantity::ALL {
            let Some((interval, logs)) = paired(of, row, [cell, against], resampler) else {
                continue;
            };
            let verdict = judge(interval, floor(of, noise), logs.len());
            let verdict = (!cell.control).then_some(verdict);
            ratios.push(ratio(of, reference, interval, logs, verdict));
        }
    }
    ratios
}

fn ratio(
    of: Quantity,
    against: &str,
    interval: Interval,
    logs: Vec<f64>,
    verdict: Option<Verdict>,
) -> Ratio {
    let Interval { mid, low, high } = interval.map(|log| rounded(log.exp()));
    Ratio {
        of,
        against: against.to_owned(),
        ratio: mid,
        low,
        high,
        pairs: u32::try_from(logs.len()).unwrap_or(u32::MAX),
        verdict,
        logs,
    }
}

/// The interval of the log ratios of rounds in which both count; none when either failed, or there is no such round.
///
/// Two visits are a pair when they are of one attempt, too: a repeated round that broke off has left some cells with the
/// attempt before. Two that took turns are a pair of one visit.
fn paired(
    of: Quantity,
    row: &RowGrid<'_>,
    [cell, against]: [&CellGrid<'_>; 2],
    resampler: &Resampler,
) -> Option<(Interval, Vec<f64>)> {
    if cell.has_failed() || against.has_failed() {
        return None;
    }
    let logs = cell.counted().filter_map(|mine| match &mine.pair {
        None => of_one_round(of, mine, against),
        Some(pair) if pair.beside == against.subject => of_one_visit(of, row, mine),
        Some(_) => of_two_pairs(of, row, mine, against),
    });
    let logs: Vec<f64> = logs.collect();
    let interval = resampler.trimmed_mean(&logs)?;
    Some((interval, logs))
}

fn of_one_round(of: Quantity, mine: &Record, against: &CellGrid<'_>) -> Option<f64> {
    let key = (mine.round, mine.attempt);
    let other = against
        .counted()
        .find(|other| (other.round, other.attempt) == key)?;
    Some((of.of(mine)? / of.of(other)?).ln())
}

/// Of a visit in turns, by whom it took turns with.
fn of_one_visit(of: Quantity, row: &RowGrid<'_>, mine: &Record) -> Option<f64> {
    let beside = row.cell(&mine.pair.as_ref()?.beside)?;
    let other = beside.counted().find(|other| mine.is_paired_with(other))?;
    Some((of.of(mine)? / of.of(other)?).ln())
}

/// Of two subjects that took turns with the same reference, one after the other: what the machine did to each visit has gone from
/// its ratio to the reference, and so from the ratio of the ratios.
fn of_two_pairs(
    of: Quantity,
    row: &RowGrid<'_>,
    mine: &Record,
    against: &CellGrid<'_>,
) -> Option<f64> {
    let pair = mine.pair.as_ref().filter(|pair| !pair.of_reference)?;
    let other = against.counted().find(|other| {
        let their = other.pair.as_ref();
        let is_alike = their.is_some_and(|their| their.beside == pair.beside);
        is_alike && (other.round, other.attempt) == (mine.round, mine.attempt)
    })?;
    Some(of_one_visit(of, row, mine)? - of_one_visit(of, row, other)?)
}

/// The smallest log ratio that is an effect: 2 %, or twice the half width of an A/A interval, or the end of that
/// interval that is farther from 1, whichever is largest; none without a control.
fn floor(of: Quantity, noise: &[Ratio]) -> Option<f64> {
    let of_quantity = noise.iter().filter(|ratio| ratio.of == of);
    of_quantity
        .filter(|ratio| ratio.low > 0.0)
        .map(|ratio| {
            let (low, high) = (ratio.low.ln(), ratio.high.ln());
            (high - low).max(high.abs()).max(low.abs())
        })
        .reduce(f64::max)
        .map(|noise| noise.max(EFFECT_MIN.ln()))
}

/// Less or more is said only where the interval excludes 1 and the effect is larger than the noise.
fn judge(log: Interval, floor: Option<f64>, pairs: usize) -> Verdict {
    let Some(floor) = floor.filter(|_floor| pairs >= PAIRS_MIN) else {
        return Verdict::Unknown;
    };
    if log.mid.abs() <= floor {
        Verdict::Tie
    } else if log.high < 0.0 {
        Verdict::Less
    } else if log.low > 0.0 {
        Verdict::More
    } else {
        Verdict::Tie
    }
}

/// Below five pairs a bootstrap interval is narrower than what it stands for.
pub const PAIRS_MIN: usize = 5;

/// The far end of an interval by the near one, at most, for a number that is published: 4 % to either side. Two sessions then differ by
/// more than 10 % in one ratio of a thousand, where nothing but chance is between them.
pub const PUBLISHED_WIDTH: f64 = 1.083;

const EFFECT_MIN: f64 = 1.02;
const CONTROL: &str = "/aa";
