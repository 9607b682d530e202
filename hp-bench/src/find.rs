//! The highest rate that reaches the goals: trials that double the rate until one fails, then halve the distance.
//!
//! The answer is two bounds, not a point: a rate that passed a long trial, and one that failed. The idea is that of
//! MLRsearch (an IETF draft of the BMWG), with goals in the place of a loss ratio: short trials first.

use std::fmt::Write as _;
use std::io;

use hp_core::sys::signal::Signal;

use crate::output::ProgressForm;
use crate::plan::{Pace, Plan, RatePlan};
use crate::present::{FAILED, GATE, INTERRUPTED, MISUSE, TERMINATED, write};
use crate::units::RateWords;
use crate::verdict::{exit_status, judge, rate_ratio};

/// Where the search stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// The highest rate that passed, and whether in a long trial.
    passed: Option<(f64, bool)>,
    /// The lowest that failed.
    failed: Option<f64>,
    /// Short trials have misled.
    only_long: bool,
    from: f64,
    to: f64,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// A short trial at this rate.
    Short(f64),
    /// A long one: if it passes, this is a bound.
    Long(f64),
    /// The bounds are known: what passed, and what failed.
    Done(Option<f64>, Option<f64>),
}

impl Search {
    /// Between two rates, `from` at most `to`.
    pub fn new(from: f64, to: f64) -> Self {
        Self {
            passed: None,
            failed: None,
            only_long: false,
            from,
            to,
        }
    }

    /// What to try now.
    pub fn next(&self) -> Step {
        let trial = |rate| {
            if self.only_long {
                Step::Long(rate)
            } else {
                Step::Short(rate)
            }
        };
        match (self.passed, self.failed) {
            (None, Some(failed)) if failed <= self.from => Step::Done(None, self.failed),
            (None, _) => trial(self.from),
            (Some((passed, _)), None) if passed < self.to => trial((passed * 2.0).min(self.to)),
            (Some((passed, _)), Some(failed)) if failed - passed > passed * DISTANCE_MAX => {
                trial(f64::midpoint(passed, failed))
            }
            (Some((passed, true)), failed) => Step::Done(Some(passed), failed),
            (Some((passed, false)), _) => Step::Long(passed),
        }
    }

    /// Takes the outcome of what [`Search::next`] asked for.
    pub fn note(&mut self, step: Step, has_passed: bool) {
        match (step, has_passed) {
            (Step::Short(rate), true) => self.passed = Some((rate, false)),
            (Step::Long(rate), true) => self.passed = Some((rate, true)),
            (Step::Short(rate), false) => self.failed = Some(rate),
            (Step::Long(rate), false) => {
                self.failed = Some(rate);
                if !self.only_long {
                    // What passed in short was luck, and so may the rates below have been: begin again with long ones.
                    self.only_long = true;
                    self.passed = None;
                }
            }
            (Step::Done(..), _) => (),
        }
    }
}

/// Runs the search and prints its bounds; gives the exit status: 3 where not even the lowest rate passes.
///
/// # Errors
/// Exit status and a line for the user.
pub fn find(plan: &Plan) -> Result<u8, (u8, String)> {
    let (from, to) = match &plan.pace {
        Pace::Closed => (FROM_DEFAULT, TO_DEFAULT),
        Pace::Rate(RatePlan {
            words: RateWords::Ramp(from, to, None),
            ..
        }) if from <= to => (*from, *to),
        Pace::Rate(_) | Pace::Recorded => {
            let line = "find: the rates to search between are -R FROM:TO; give them like -R 100:1M";
            return Err((MISUSE, line.to_owned()));
        }
    };
    if plan.turns.is_some() {
        let line = "find: a schedule does not wait for turns; leave --turns and --turn out";
        return Err((MISUSE, line.to_owned()));
    }
    if plan.goals.is_empty() {
        let line = "find: no goal to search for; give --slo 'p99<5ms'";
        return Err((MISUSE, line.to_owned()));
    }
    let output = &plan.output;
    let files = [
        &output.series,
        &output.hgrm,
        &output.hlog,
        &output.csv,
        &output.html,
        &output.svg,
    ];
    if output.json.is_some() || output.latency || files.into_iter().any(Option::is_some) {
        let line = "find: only the bounds are told; leave out the flags of a run's result";
        return Err((MISUSE, line.to_owned()));
    }
    let mut search = Search::new(from, to);
    for _ in 0..TRIALS_MAX {
        let step = search.next();
        let (rate, duration) = match step {
            Step::Short(rate) => (rate, plan.duration / LONG_BY_SHORT),
            Step::Long(rate) => (rate, plan.duration),
            Step::Done(passed, failed) => return tell(passed, failed),
        };
        let mut trial = plan.at_rate(rate, duration);
        trial.output.progress = Some(ProgressForm::None);
        let run = crate::run(&trial).map_err(|error| (FAILED, error.to_string()))?;
        match run.interrupted {
            Some(Signal::Interrupt) => return Ok(INTERRUPTED),
            Some(_terminated) => return Ok(TERMINATED),
            None => (),
        }
        let verdict = judge(&trial, &run.record, &run.costs);
        let is_sent = rate_ratio(&trial, &run.record).is_some_and(|ratio| ratio >= SENT_MIN);
        let has_passed =
            is_sent && verdict.valid && exit_status(&trial, &run.record, &verdict) == 0;
        if !plan.output.quiet {
            let mut line = format!(
                "{rate:>12.1}/s  {}",
                if has_passed { "passes" } else { "fails" }
            );
            for gate in verdict.slo.iter().filter(|gate| !gate.ok) {
                let _infallible = write!(line, "  {}", gate.expr);
            }
            if let Some(limit) = &verdict.limited_by {
                let _infallible = write!(line, "  limited by {limit}");
            }
            line.push('\n');
            write(io::stderr(), &line).map_err(|line| (FAILED, line))?;
        }
        search.note(step, has_passed);
    }
    let line = format!("find: no bounds after {TRIALS_MAX} trials; give longer ones with -d");
    Err((FAILED, line))
}

fn tell(passed: Option<f64>, failed: Option<f64>) -> Result<u8, (u8, String)> {
    let line = match (passed, failed) {
        (Some(passed), Some(failed)) => format!("{passed:.1}/s passes, {failed:.1}/s fails\n"),
        (Some(passed), None) => format!("{passed:.1}/s passes, nothing higher was asked for\n"),
        (None, _) => "no rate passes\n".to_owned(),
    };
    write(io::stdout(), &line).map_err(|line| (FAILED, line))?;
    Ok(if passed.is_some() { 0 } else { GATE })
}

const FROM_DEFAULT: f64 = 100.0;
const TO_DEFAULT: f64 = 1e6;
const TRIALS_MAX: u32 = 64;
/// The bounds are this near at the end, as a share of the lower one.
const DISTANCE_MAX: f64 = 0.02;
/// A long trial takes as long as so many short ones.
const LONG_BY_SHORT: u32 = 3;
const SENT_MIN: f64 = 0.995;

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches where short trials pass up to one rate, and long ones up to another.
    fn search(from: f64, to: f64, short: f64, long: f64) -> (Option<f64>, Option<f64>) {
        let mut search = Search::new(from, to);
        for _ in 0..TRIALS_MAX {
            let step = search.next();
            let has_passed = match step {
                Step::Short(rate) => rate <= short,
                Step::Long(rate) => rate <= long,
                Step::Done(passed, failed) => return (passed, failed),
            };
            search.note(step, has_passed);
        }
        panic!("the search ends within {TRIALS_MAX} trials")
    }

    #[test]
    fn bounds_are_near_and_enclose_the_limit() {
        for limit in [100.0, 137.0, 5000.0, 999_000.0] {
            let (passed, failed) = search(100.0, 1e6, limit, limit);
            let (passed, failed) = (passed.unwrap(), failed.unwrap());
            assert!(
                passed <= limit && limit < failed,
                "{passed} {limit} {failed}"
            );
            assert!(
                failed - passed <= passed * DISTANCE_MAX,
                "{passed} {failed}"
            );
        }
    }

    #[test]
    fn the_ends_of_the_range_are_answers() {
        assert_eq!(search(100.0, 1000.0, 1e9, 1e9), (Some(1000.0), None));
        assert_eq!(search(100.0, 1000.0, 1.0, 1.0), (None, Some(100.0)));
    }

    #[test]
    fn what_only_short_trials_pass_is_no_bound() {
        let (passed, failed) = search(100.0, 1e6, 5000.0, 4000.0);
        assert!(
            passed.unwrap() <= 4000.0 && failed.is_some(),
            "{passed:?} {failed:?}"
        );
        assert_eq!(search(100.0, 1e6, 5000.0, 1.0).0, None);
    }
}
