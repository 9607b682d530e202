//! What a session's raw records say: the content of `summary.json`, from which tables and plots are made.
//!
//! The unit is one cell in one round: a subject under a row's load. Ratios are taken between cells of the same round and
//! attempt; intervals come from draws of whole rounds. Equal records give an equal summary, on every machine.
//!
//! Must not know: files, and how a visit is made.

pub(crate) mod cell;
pub(crate) mod drift;
pub(crate) mod grid;
pub mod memory;
pub mod ratio;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::raw::{Limit, Params, Record};
use hp_bench::statistics::{Interval, Resampler};

use grid::{Grid, RowGrid};

/// A session, derived.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Summary {
    /// [`SCHEMA`].
    pub schema: String,
    /// The plan's name.
    pub plan: String,
    /// Seed of the intervals.
    pub seed: u64,
    /// What the calibrators say of the session; none where there were fewer than three.
    pub calibrator: Option<Calibrator>,
    /// The questions, in the plan's order.
    pub workloads: Vec<Workload>,
}

/// The relay that was measured at both ends of each round.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Calibrator {
    /// Visits that count.
    pub visits: u32,
    /// Change of its CPU time per request from the session's first visit to its last, in percent.
    pub change_pct: f64,
    /// Lower end of the 95 % interval.
    pub change_low_pct: f64,
    /// Upper end of the 95 % interval.
    pub change_high_pct: f64,
    /// Whether the change is sure and larger than 3 %: ratios stay usable, absolute numbers do not.
    pub drift: bool,
}

/// One question.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Workload {
    /// The plan's name for it.
    pub name: String,
    /// In a line.
    pub title: String,
    /// What the plan says beside the table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What its ratios are to; the first is the plan's.
    pub references: Vec<String>,
    /// Subjects that the plan asks for and no record has.
    pub missing: Vec<String>,
    /// One for each load, in order of the load.
    pub rows: Vec<Row>,
    /// Memory over idle connections, where that was the question.
    pub memory: Vec<memory::Memory>,
}

/// All subjects under one load.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Row {
    /// The plan's name for it.
    pub name: String,
    /// The load.
    pub params: Params,
    /// What nobody did to the numbers: controls against what they are a second process of.
    pub noise: Vec<ratio::Ratio>,
    /// Whether a request without a proxy is so little faster than with one that load or backend limits both.
    pub near_direct: bool,
    /// The subjects; a control stands behind its own.
    pub cells: Vec<Cell>,
}

/// One subject under one load.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Cell {
    /// Its name.
    pub subject: String,
    /// Whether it is the A/A control.
    pub control: bool,
    /// Rounds whose figures count.
    pub rounds: u32,
    /// Why the other rounds do not count, with their numbers.
    pub void: Vec<String>,
    /// Two rounds or more were void, or none counts: there are no figures.
    pub failed: bool,
    /// Flags of rounds that count, with the number of rounds that have each rule's.
    pub flags: BTreeMap<String, u32>,
    /// The side that was the limit in most rounds.
    pub limit: Option<Limit>,
    /// Medians over the rounds.
    pub figures: Option<Figures>,
    /// Against each reference.
    pub ratios: Vec<ratio::Ratio>,
}

/// Medians over the rounds. What could not be measured is null.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Figures {
    /// CPU time of the measured server per complete answer, in µs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_us: Option<Spread>,
    /// CPU time of all programs and the kernel per complete answer, in µs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_us: Option<f64>,
    /// CPU time of the measured server per KiB that the client got, in ns; for bodies from 64 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ns_per_kib: Option<f64>,
    /// Complete answers per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rps: Option<Spread>,
    /// Context switches of the measured server per complete answer, voluntary and not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switches: Option<f64>,
    /// Bytes that the client got per complete answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_bytes: Option<f64>,
    /// Memory of the measured server at the end, in KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pss_kib: Option<f64>,
    /// Requests under way by Little's law, mean latency times answers per second, by connections; 1 where all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub little: Option<f64>,
    /// All rounds' samples together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// Medians of the numbers that only special workloads have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, f64>,
    /// Their texts, each the most frequent one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub words: BTreeMap<String, String>,
}

/// Latency over all rounds, in µs. A percentile with fewer than ten samples behind it is null.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Latency {
    /// `service` in a closed loop, `response` at a rate.
    pub clock: String,
    /// Samples.
    pub samples: u64,
    /// Median; its interval is over the rounds' medians.
    pub p50_us: Spread,
    /// 90th percentile.
    pub p90_us: Option<f64>,
    /// 99th percentile; its interval is over the rounds' own.
    pub p99_us: Option<Spread>,
    /// 99.9th percentile.
    pub p999_us: Option<f64>,
    /// Largest.
    pub max_us: f64,
    /// Samples that ended by giving up: the true value is higher.
    pub censored: u64,
}

/// A value with its 95 % interval over the rounds, which need not hold a value that was taken from all rounds together.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Spread {
    /// The value.
    pub mid: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Summary {
    /// Derives a session.
    pub fn of(plan: &Plan, records: &[Record]) -> Self {
        let grid = Grid::of(plan, records);
        Self::from_grid(plan, &grid)
    }

    /// Derives a session whose records are sorted already.
    pub(crate) fn from_grid(plan: &Plan, grid: &Grid<'_>) -> Self {
        let resampler = Resampler::new(plan.seed);
        let workloads = grid.workloads.iter().map(|workload| {
            let rows = workload.rows.iter();
            Workload {
                name: workload.name.to_owned(),
                title: workload.title.to_owned(),
                notes: workload.notes.to_vec(),
                references: workload.references.clone(),
                missing: workload.missing.clone(),
                rows: rows
                    .map(|row| derive_row(row, &workload.references, &resampler))
                    .collect(),
                memory: memory::fits(workload, plan.seed),
            }
        });
        Self {
            schema: SCHEMA.into(),
            plan: plan.name.clone(),
            seed: plan.seed,
            calibrator: drift::calibrator(&grid.calibrators, plan.seed),
            workloads: workloads.collect(),
        }
    }

    /// Whether absolute numbers may be compared over the session.
    pub fn drifts(&self) -> bool {
        self.calibrator.is_some_and(|calibrator| calibrator.drift)
    }
}

impl Row {
    /// Whether requests were sent at a rate, whatever came back.
    pub fn is_paced(&self) -> bool {
        self.params.rate.is_some()
    }

    /// Whether subjects and reference took turns.
    pub fn is_in_turns(&self) -> bool {
        self.params.other.contains_key("turn_ms")
    }

    /// The cell of a subject.
    pub fn cell(&self, subject: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.subject == subject)
    }
}

impl Cell {
    /// The ratio to a reference, of what it costs or how long it takes.
    pub fn ratio(&self, of: ratio::Quantity, against: &str) -> Option<&ratio::Ratio> {
        let mut ratios = self.ratios.iter();
        ratios.find(|ratio| ratio.of == of && ratio.against == against)
    }

    /// Latency, unless the load generator was the limit of a schedule: then its times are the generator's own.
    pub fn published_latency(&self, is_paced: bool) -> Option<&Latency> {
        let is_client = is_paced && matches!(self.limit, Some(Limit::Client | Limit::Void));
        self.figures
            .as_ref()?
            .latency
            .as_ref()
            .filter(|_latency| !is_client)
    }
}

impl From<Interval> for Spread {
    fn from(interval: Interval) -> Self {
        let Interval { mid, low, high } = interval.map(rounded);
        Self { mid, low, high }
    }
}

fn derive_row(row: &RowGrid<'_>, references: &[String], resampler: &Resampler) -> Row {
    let noise = ratio::noise(row, resampler);
    let cells: Vec<Cell> = row
        .cells
        .iter()
        .map(|cell| {
            cell::derive(
                cell,
                ratio::all(row, cell, references, &noise, resampler),
                resampler,
            )
        })
        .collect();
    Row {
        name: row.name.to_owned(),
        params: row.params.clone(),
        near_direct: row.params.rate.is_none() && near_direct(&cells),
        noise,
        cells,
    }
}

/// A direct load of less than one and a half times the best proxied one.
fn near_direct(cells: &[Cell]) -> bool {
    let rps = |cell: &Cell| cell.figures.as_ref()?.rps.map(|rps| rps.mid);
    let direct = cells
        .iter()
        .find(|cell| cell.subject == DIRECT)
        .and_then(rps);
    let is_proxied = |cell: &&Cell| !grid::is_direct(&cell.subject);
    let proxied = cells
        .iter()
        .filter(is_proxied)
        .filter_map(rps)
        .fold(0.0, f64::max);
    direct.is_some_and(|direct| direct < proxied * DIRECT_FACTOR_MIN)
}

/// Three decimals: finer than any of it repeats.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// Names the layout of `summary.json`.
pub const SCHEMA: &str = "hp-harness-summary/1";
/// The subject without a proxy.
pub const DIRECT: &str = "direct";

const DIRECT_FACTOR_MIN: f64 = 1.5;
