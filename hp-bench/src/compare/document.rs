//! A comparison as other programs see it: JSON of schema `hp-bench-compare/1`.
//!
//! Every run is in it, void ones included, so that each ratio can be computed again.
//!
//! Must not know: how the numbers came about, or how they are shown.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::result::Tool;

/// A whole comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// [`SCHEMA`].
    pub schema: String,
    /// What measured.
    pub tool: Tool,
    /// When the first run's clock started, UTC.
    pub started: String,
    /// Whether a signal ended it before its last round.
    pub interrupted: bool,
    /// What was asked for.
    pub plan: Planned,
    /// The targets, the first of them twice.
    pub targets: Vec<Compared>,
    /// Each target beside the first, metric by metric.
    pub ratios: Vec<Ratio>,
    /// Every run.
    pub rounds: Vec<Round>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// What was asked for of each run, and of all together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Planned {
    /// `closed` or `rate`.
    pub mode: String,
    /// Requests per second on average; null in a closed loop.
    pub rate: Option<f64>,
    /// Open connections.
    pub connections: u32,
    /// Threads.
    pub threads: u32,
    /// Counted seconds of a run.
    pub duration_s: f64,
    /// Seconds before them.
    pub warmup_s: f64,
    /// Rounds.
    pub rounds: u32,
    /// Times that a void run is made again, at most.
    pub repeats_max: u32,
    /// Resamples of the bootstrap.
    pub resamples: u64,
    /// What the orders and the resamples are drawn from.
    pub seed: u64,
}

/// One of what is compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Compared {
    /// `A`, `A'`, `B` and so on.
    pub name: String,
    /// As given.
    pub url: String,
    /// The address in use; empty where no run was made.
    pub addr: String,
}

/// A target beside the first, in one metric.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Ratio {
    /// The target; `A'` is the control.
    pub target: String,
    /// The metric.
    pub metric: String,
    /// `less` or `more`.
    pub better: String,
    /// The first target's median.
    pub first: Option<f64>,
    /// This target's median.
    pub other: Option<f64>,
    /// The median of the rounds' ratios, `other / first`; null with too few of them.
    pub ratio: Option<f64>,
    /// Where the 95 % interval begins.
    pub low: Option<f64>,
    /// Where it ends.
    pub high: Option<f64>,
    /// Rounds behind it.
    pub pairs: u32,
    /// What an effect must exceed, by the control; a ratio above 1.
    pub margin: Option<f64>,
    /// `faster`, `slower`, `tie`; null for the control, and where there is no interval.
    pub word: Option<String>,
}

/// What one round brought.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Round {
    /// From 1 on.
    pub round: u32,
    /// In the order in which they were made.
    pub runs: Vec<Done>,
}

/// One run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Done {
    /// Of which target.
    pub target: String,
    /// 1, or more where those before were void.
    pub attempt: u32,
    /// Why it counts for nothing; null for one that counts.
    pub void: Option<String>,
    /// As the run itself says.
    pub limited_by: Option<String>,
    /// CPU time that the hypervisor gave to others, percent.
    pub steal_pct: Option<f64>,
    /// By metric.
    pub values: BTreeMap<String, f64>,
}

/// The text of a comparison, with a line's end.
pub fn to_json(comparison: &Comparison) -> String {
    let text = serde_json::to_string(comparison).expect("numbers and texts are always written");
    text + "\n"
}

/// The name of the schema.
pub const SCHEMA: &str = "hp-bench-compare/1";
