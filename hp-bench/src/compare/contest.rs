//! What is compared with what: the words of the command line as one plan for each arm.
//!
//! Must not know: how a run is made, what came of it.

use std::time::Duration;

use super::statistics::PAIRS_MIN;
use crate::cli::load::Named;
use crate::cli::{Cli, Flags};
use crate::command::{Compare, ROUNDS_MIN};
use crate::output::{Output, ProgressForm};
use crate::plan::{Plan, PlanError};

/// A complete plan of a comparison.
#[derive(Clone, Debug)]
pub struct Contest {
    /// The first target, the control, and the others; at least three.
    pub arms: Vec<Arm>,
    /// [`ROUNDS_MIN`] to [`ROUNDS_MAX`](crate::command::ROUNDS_MAX).
    pub rounds: u32,
    /// What the order of the runs and the bootstrap are drawn from.
    pub seed: u64,
    output: Output,
}

/// One of what is compared.
#[derive(Clone, Debug)]
pub struct Arm {
    /// `A` for the first target, `A'` for the same once more, `B` and so on for the others.
    pub name: String,
    /// Its run.
    pub plan: Plan,
}

impl Contest {
    /// Makes the plan; reads the files that the words name. `cpus` is the number of CPUs this process may use.
    ///
    /// # Errors
    /// The first [`PlanError`].
    pub fn resolve(words: &Compare, cpus: u32) -> Result<Self, PlanError> {
        let flags = &words.flags;
        check_flags(flags)?;
        let count = words.targets.len();
        let pids = of_each("--pid", &flags.load.pid, count)?;
        let groups = of_each("--cgroup", &flags.load.cgroup, count)?;
        let mut arms = Vec::with_capacity(count + 1);
        for (idx, ((target, pid), cgroup)) in words.targets.iter().zip(pids).zip(groups).enumerate()
        {
            let mut flags = flags.clone();
            (flags.load.pid, flags.load.cgroup) = (pid, cgroup);
            flags.output = Output {
                progress: Some(ProgressForm::None),
                ..Output::default()
            };
            if flags.load.replay.is_none() {
                flags.duration = flags.duration.or(Some(DURATION_DEFAULT));
            }
            let cli = Cli {
                target: target.clone(),
                connections_word: None,
                duration_word: None,
                flags,
            };
            let plan = Plan::resolve(&cli, cpus)?;
            let name = letter(idx).to_string();
            if idx == 0 {
                let control = Arm {
                    name: format!("{name}'"),
                    plan: plan.clone(),
                };
                arms.extend([Arm { name, plan }, control]);
            } else {
                arms.push(Arm { name, plan });
            }
        }
        Ok(Self {
            arms,
            rounds: words.rounds,
            seed: flags.load.seed,
            output: flags.output.clone(),
        })
    }

    /// Where the result goes.
    pub fn output(&self) -> &Output {
        &self.output
    }
}

/// Refuses what belongs to a single run.
fn check_flags(flags: &Flags) -> Result<(), PlanError> {
    let output = &flags.output;
    let files = [
        &output.series,
        &output.hgrm,
        &output.hlog,
        &output.csv,
        &output.html,
        &output.svg,
    ];
    if output.latency || output.service || files.into_iter().any(Option::is_some) {
        let cause = "only ratios are told; of a run's result flags --json and -q alone are for it";
        return Err(refusal("compare", cause));
    }
    if !flags.load.slo.is_empty() {
        let cause = "goals are for one target; leave it out, or give it to a run";
        return Err(refusal("--slo", cause));
    }
    if flags.load.turns.is_some() || flags.load.turn.is_some() {
        let cause = "runs of a comparison follow each other; leave --turn out as well";
        return Err(refusal("--turns", cause));
    }
    if flags.load.start_at.is_some() {
        let cause = "runs of a comparison follow each other; leave it out";
        return Err(refusal("--start-at", cause));
    }
    Ok(())
}

/// What each target was given: by its letter, or in the order of the targets.
fn of_each<T: Clone>(
    name: &'static str,
    given: &[Named<T>],
    targets: usize,
) -> Result<Vec<Vec<Named<T>>>, PlanError> {
    let mut each: Vec<Vec<Named<T>>> = vec![Vec::new(); targets];
    if given.is_empty() {
        return Ok(each);
    }
    let is_in_order = given.iter().all(|one| one.of.is_none());
    if is_in_order && given.len() != targets {
        let cause = "give one for each target in their order, or name the target: B=123";
        return Err(refusal(name, cause));
    }
    for (place, one) in given.iter().enumerate() {
        let idx = match one.of {
            None if is_in_order => place,
            None => return Err(refusal(name, "name the target of each: A=123 B=456")),
            Some(wanted) => (0..targets)
                .find(|idx| letter(*idx) == wanted)
                .ok_or_else(|| {
                    refusal(
                        name,
                        format!(
                            "there is no target {wanted}; the last one is {}",
                            letter(targets - 1)
                        ),
                    )
                })?,
        };
        if let Some(theirs) = each.get_mut(idx) {
            theirs.push(Named {
                of: None,
                value: one.value.clone(),
            });
        }
    }
    match each.iter().position(Vec::is_empty) {
        None => Ok(each),
        Some(without) => {
            let cause = format!("target {} has none; give one for each", letter(without));
            Err(refusal(name, cause))
        }
    }
}

fn letter(idx: usize) -> char {
    ('A'..='Z').nth(idx).unwrap_or('Z')
}

fn refusal(flag: &'static str, cause: impl Into<String>) -> PlanError {
    PlanError::Flag {
        flag,
        cause: cause.into(),
    }
}

/// Or there would be no interval.
const _: () = assert!(ROUNDS_MIN as usize >= PAIRS_MIN);
/// Counted time of each run.
const DURATION_DEFAULT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::command::{Command, ROUNDS_DEFAULT, parse};
    use crate::plan::Observed;

    fn contest(line: &str) -> Result<Contest, PlanError> {
        let words = ["hp-bench", "compare"].into_iter().chain(line.split(' '));
        match parse(words.map(OsString::from)) {
            Ok(Command::Compare(words)) => Contest::resolve(&words, 2),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn check_refused(line: &str, part: &str) {
        let error = contest(line).unwrap_err();
        assert!(error.is_misuse());
        assert!(error.to_string().contains(part), "{error}");
    }

    #[test]
    fn the_first_target_is_its_own_control() {
        let contest = contest("a:1 b:2 c:3 -c 7 --seconds 3").unwrap();
        let arms: Vec<(&str, String)> = contest
            .arms
            .iter()
            .map(|arm| (arm.name.as_str(), arm.plan.target.to_string()))
            .collect();
        let want = [("A", "a:1"), ("A'", "a:1"), ("B", "b:2"), ("C", "c:3")];
        assert_eq!(
            arms,
            want.map(|(name, addr)| (name, format!("http://{addr}/")))
        );
        assert!(contest.arms.iter().all(|arm| arm.plan.connections == 7));
        assert_eq!(contest.arms[0].plan.duration, Duration::from_secs(3));
        assert_eq!(contest.rounds, ROUNDS_DEFAULT);
    }

    #[test]
    fn processes_go_to_their_targets() {
        let observed = |line| -> Vec<Observed> {
            let arms = contest(line).unwrap().arms;
            arms.into_iter().map(|arm| arm.plan.observed).collect()
        };
        let of = |pids: &[u32]| Observed::Processes(pids.to_vec());
        assert_eq!(
            observed("a:1 b:2 --pid 5 --pid 6"),
            [of(&[5]), of(&[5]), of(&[6])]
        );
        assert_eq!(
            observed("a:1 b:2 --pid B=6 --pid A=5 --pid B=7"),
            [of(&[5]), of(&[5]), of(&[6, 7])]
        );
        let groups = observed("a:1 b:2 --cgroup A=x --cgroup B=/y=z");
        assert_eq!(groups[0], Observed::Group("x".into()));
        assert_eq!(groups[2], Observed::Group("/y=z".into()));
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        check_refused("a:1 b:2 --pid 5", "one for each target");
        check_refused("a:1 b:2 --pid A=5 --pid 6", "name the target of each");
        check_refused(
            "a:1 b:2 --pid A=5 --pid C=6",
            "there is no target C; the last one is B",
        );
        check_refused("a:1 b:2 --pid B=6", "target A has none");
        check_refused(
            "a:1 b:2 --cgroup A=x --cgroup A=y --cgroup B=z",
            "given twice",
        );
        check_refused("a:1 b:2 --slo p99<1ms", "--slo: ");
        check_refused("a:1 b:2 --csv x", "only ratios");
        check_refused("a:1 b:2 --start-at 5", "--start-at: ");
        check_refused("a:1 b:2 --turns 50ms --turn 1/2", "--turns: ");
        check_refused("a:1 b:2 -c 2 -t 3", "-t 3 is more than 2");
    }
}
