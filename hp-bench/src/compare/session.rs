//! The rounds of a comparison, and what they add up to.
//!
//! Must not know: how a run is made, how a comparison is shown.

use std::collections::BTreeMap;

use super::contest::{Arm, Contest};
use super::document::{Compared, Comparison, Done, Planned, Ratio, Round, SCHEMA};
use super::statistics::{Better, Interval, PAIRS_MIN, shuffled};
use crate::dice::Dice;
use crate::format::{counted, float};
use crate::plan::Pace;
use crate::report::VERSION;
use crate::result::{Document, Tool};
use crate::statistics::{RESAMPLES, median};
use crate::verdict::{CLIENT, ERRORS};

/// What is compared.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Metric {
    /// The target's CPU time per request, ns.
    TargetCpu,
    /// Answers per second; of closed loops only, since at a rate it is given.
    Throughput,
    /// Median latency, ns; at a rate only, as all of the percentiles, since in a closed loop they follow the throughput.
    P50,
    /// Latency, ns.
    P90,
    /// Latency, ns.
    P99,
    /// Latency, ns.
    P999,
    /// This program's own CPU time per request, ns.
    ClientCpu,
}

impl Metric {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 7] = [
        Self::TargetCpu,
        Self::Throughput,
        Self::P50,
        Self::P90,
        Self::P99,
        Self::P999,
        Self::ClientCpu,
    ];

    /// Its key.
    pub fn name(self) -> &'static str {
        match self {
            Self::TargetCpu => "target_cpu_ns_per_req",
            Self::Throughput => "rps",
            Self::P50 => "p50_ns",
            Self::P90 => "p90_ns",
            Self::P99 => "p99_ns",
            Self::P999 => "p99.9_ns",
            Self::ClientCpu => "client_cpu_ns_per_req",
        }
    }

    /// Which of two values is the better one.
    pub fn better(self) -> Better {
        match self {
            Self::Throughput => Better::More,
            _ => Better::Less,
        }
    }

    /// Its value in a run; `None` where the run does not tell.
    pub fn of(self, document: &Document) -> Option<f64> {
        let is_closed = document.plan.mode == "closed";
        let percentile = |name: &str| match is_closed {
            true => None,
            false => document.latency_ns.p.get(name).copied().map(float),
        };
        let value = match self {
            Self::TargetCpu => document.target_cost.as_ref()?.cpu_ns_per_req.map(float),
            Self::Throughput => is_closed.then_some(document.run.rps),
            Self::P50 => percentile("50"),
            Self::P90 => percentile("90"),
            Self::P99 => percentile("99"),
            Self::P999 => percentile("99.9"),
            Self::ClientCpu => document.client.cpu_ns_per_req.map(float),
        };
        value.filter(|value| *value > 0.0)
    }
}

/// What one run says of its target.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// When its clock started.
    pub started: String,
    /// The address in use.
    pub addr: String,
    /// The engine in use.
    pub engine: String,
    /// CPU time that the hypervisor gave to others, percent.
    pub steal_pct: Option<f64>,
    /// As the run itself says.
    pub limited_by: Option<String>,
    /// Why it counts for nothing, if so.
    pub void: Option<String>,
    /// What was measured.
    pub values: BTreeMap<Metric, f64>,
}

/// All runs of a comparison.
#[derive(Clone, Debug, Default)]
pub struct Session {
    rounds: Vec<Vec<Attempt>>,
    is_interrupted: bool,
}

#[derive(Clone, Debug)]
struct Attempt {
    /// Index of the arm.
    arm: usize,
    /// From 1 on.
    number: u32,
    measured: Measured,
}

impl Session {
    /// Makes all runs, each round in an order of its own. `measure` gives `None` when a signal came.
    ///
    /// A void run is made again at once, at most three times, so that it stays beside those of its round.
    ///
    /// # Errors
    /// Those of `measure`.
    pub fn run<E>(
        contest: &Contest,
        mut measure: impl FnMut(&Arm, u32) -> Result<Option<Measured>, E>,
    ) -> Result<Self, E> {
        let mut session = Self::default();
        let mut dice = Dice::new(contest.seed);
        for round in 1..=contest.rounds {
            session.rounds.push(Vec::new());
            for idx in shuffled(contest.arms.len(), &mut dice) {
                let Some(arm) = contest.arms.get(idx) else {
                    continue;
                };
                for number in 1..=1 + REPEATS_MAX {
                    let Some(measured) = measure(arm, round)? else {
                        session.is_interrupted = true;
                        return Ok(session);
                    };
                    let is_void = measured.void.is_some();
                    session.rounds.last_mut().into_iter().for_each(|runs| {
                        runs.push(Attempt {
                            arm: idx,
                            number,
                            measured: measured.clone(),
                        });
                    });
                    if !is_void {
                        break;
                    }
                }
            }
        }
        Ok(session)
    }

    /// 0; 4 where a target has a round without a run that counts; 5 where `--strict` asks, and this program was the limit.
    pub fn exit_status(&self, contest: &Contest) -> u8 {
        let by_client =
            |attempt: &Attempt| attempt.measured.limited_by.as_deref() == Some("client");
        let is_strict = contest.arms.iter().any(|arm| arm.plan.strict);
        let runs = || self.rounds.iter().flatten();
        if (0..contest.arms.len()).any(|arm| self.rounds_without(arm) > 0) {
            ERRORS
        } else if is_strict && runs().any(by_client) {
            CLIENT
        } else {
            0
        }
    }

    /// What the runs add up to.
    pub fn comparison(&self, contest: &Contest) -> Comparison {
        let first_run = self.rounds.iter().flatten().next();
        let first_run = first_run.map(|attempt| attempt.measured.clone());
        let first_run = first_run.unwrap_or_default();
        Comparison {
            schema: SCHEMA.to_owned(),
            tool: Tool {
                name: "hp-bench".to_owned(),
                version: VERSION.to_owned(),
                commit: None,
                engine: first_run.engine,
            },
            started: first_run.started,
            interrupted: self.is_interrupted,
            plan: planned(contest),
            targets: (contest.arms.iter().enumerate())
                .map(|(idx, arm)| Compared {
                    name: arm.name.clone(),
                    url: arm.plan.target.to_string(),
                    addr: self.address(idx),
                })
                .collect(),
            ratios: self.ratios(contest),
            rounds: self.told_rounds(contest),
            notes: self.notes(contest),
        }
    }

    fn ratios(&self, contest: &Contest) -> Vec<Ratio> {
        let mut ratios = Vec::new();
        for metric in Metric::ALL {
            let control = Interval::of(&self.pairs(CONTROL, metric), contest.seed);
            for (idx, arm) in contest.arms.iter().enumerate().skip(CONTROL) {
                let pairs = self.pairs(idx, metric);
                if pairs.is_empty() {
                    continue; // Not asked for, or not measured.
                }
                let interval = Interval::of(&pairs, contest.seed);
                let (first, other): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
                let word = interval.filter(|_| idx != CONTROL);
                let word = word.map(|interval| interval.word(control.as_ref(), metric.better()));
                ratios.push(Ratio {
                    target: arm.name.clone(),
                    metric: metric.name().to_owned(),
                    better: match metric.better() {
                        Better::Less => "less",
                        Better::More => "more",
                    }
                    .to_owned(),
                    first: median(&first),
                    other: median(&other),
                    ratio: interval.map(|interval| interval.ratio),
                    low: interval.map(|interval| interval.low),
                    high: interval.map(|interval| interval.high),
                    pairs: u32::try_from(pairs.len()).unwrap_or(u32::MAX),
                    margin: control.map(|control| control.margin()),
                    word: word.map(|word| word.to_string()),
                });
            }
        }
        ratios
    }

    /// The first target's value and another's, of each round in which both have a run that counts.
    fn pairs(&self, arm: usize, metric: Metric) -> Vec<(f64, f64)> {
        let value = |runs: &[Attempt], arm: usize| -> Option<f64> {
            let counted = runs
                .iter()
                .find(|run| run.arm == arm && run.measured.void.is_none())?;
            counted.measured.values.get(&metric).copied()
        };
        self.rounds
            .iter()
            .filter_map(|runs| Some((value(runs, FIRST)?, value(runs, arm)?)))
            .collect()
    }

    /// Whole rounds in which every attempt of a target was void.
    fn rounds_without(&self, arm: usize) -> usize {
        let is_without = |runs: &&Vec<Attempt>| {
            let mut own = runs.iter().filter(|run| run.arm == arm).peekable();
            own.peek().is_some() && own.all(|run| run.measured.void.is_some())
        };
        self.rounds.iter().filter(is_without).count()
    }

    fn address(&self, arm: usize) -> String {
        let mut runs = self.rounds.iter().flatten();
        let run = runs.find(|run| run.arm == arm);
        run.map_or_else(String::new, |run| run.measured.addr.clone())
    }

    fn told_rounds(&self, contest: &Contest) -> Vec<Round> {
        let done = |attempt: &Attempt| Done {
            target: name(contest, attempt.arm),
            attempt: attempt.number,
            void: attempt.measured.void.clone(),
            limited_by: attempt.measured.limited_by.clone(),
            steal_pct: attempt.measured.steal_pct,
            values: (attempt.measured.values.iter())
                .map(|(metric, value)| (metric.name().to_owned(), *value))
                .collect(),
        };
        (1..)
            .zip(&self.rounds)
            .map(|(round, runs)| Round {
                round,
                runs: runs.iter().map(done).collect(),
            })
            .collect()
    }

    fn notes(&self, contest: &Contest) -> Vec<String> {
        let mut notes = Vec::new();
        let count = |attempts: usize| counted(u64::try_from(attempts).unwrap_or(u64::MAX), "run");
        for (idx, arm) in contest.arms.iter().enumerate() {
            let own = || self.rounds.iter().flatten().filter(|run| run.arm == idx);
            let void = own().filter(|run| run.measured.void.is_some()).count();
            if let Some(cause) = own().find_map(|run| run.measured.void.as_ref()) {
                notes.push(format!(
                    "{} of {} void, counted for nothing (first: {cause}); {} without a run that counts",
                    count(void),
                    arm.name,
                    counted(whole_count(self.rounds_without(idx)), "round")
                ));
            }
            let limited = own()
                .filter(|run| run.measured.limited_by.as_deref() == Some("client"))
                .count();
            if limited > 0 {
                notes.push(format!(
                    "{} of {} were limited by hp-bench itself: a ratio nearer to 1 than the truth",
                    count(limited),
                    arm.name
                ));
            }
        }
        if self.is_interrupted {
            notes.push("interrupted: the rounds so far".to_owned());
        }
        if self.rounds.len() < PAIRS_MIN {
            notes.push(format!("fewer than {PAIRS_MIN} rounds have no interval"));
        }
        notes
    }
}

fn planned(contest: &Contest) -> Planned {
    let plan = contest.arms.first().map(|arm| &arm.plan);
    let mut planned = Planned {
        rounds: contest.rounds,
        repeats_max: REPEATS_MAX,
        resamples: whole_count(RESAMPLES),
        seed: contest.seed,
        ..Planned::default()
    };
    if let Some(plan) = plan {
        let is_closed = plan.pace == Pace::Closed;
        planned.mode = if is_closed { "closed" } else { "rate" }.to_owned();
        planned.rate = plan.rate_asked();
        planned.connections = plan.connections;
        planned.threads = plan.threads;
        planned.duration_s = plan.duration.as_secs_f64();
        planned.warmup_s = plan.warmup.as_secs_f64();
    }
    planned
}

fn name(contest: &Contest, arm: usize) -> String {
    let arm = contest.arms.get(arm);
    arm.map_or_else(String::new, |arm| arm.name.clone())
}

fn whole_count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Times that a void run is made again.
pub(super) const REPEATS_MAX: u32 = 3;
/// Index of the first target among the arms.
const FIRST: usize = 0;
/// Index of the same target once more.
const CONTROL: usize = 1;

#[cfg(test)]
mod tests;
