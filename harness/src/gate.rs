//! The gate between two revisions, and the look that every check takes: what is counted first, what is measured second.
//!
//! ```text
//! compare:  revisions ──► counters ──► visits ──► rounds ──► rule ──► table, exit 3 on a loss
//! smoke:                  counters ──► baseline ──► exit 1 on a loss
//! ```

mod cli;
pub mod revisions;
pub mod rounds;
pub mod rule;
pub mod smoke;
pub mod visits;

use hp_core::obs::notice::say;
use std::ffi::OsString;
use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::counters::{self, Counter, Counters, Subject};
use crate::interrupt::Interrupt;
use crate::machine;
use crate::output::show;
use crate::process::Launcher;
use cli::{Compare, Word};
use revisions::Revisions;
use rule::{Finding, Verdict};

/// Whether a command line is one of the gate's own.
pub fn is_asked_for(words: &[OsString]) -> bool {
    words
        .get(1)
        .and_then(|word| word.to_str())
        .is_some_and(|word| matches!(word, "compare" | "counters" | "smoke"))
}

/// Runs a command line of the gate: 0 no loss, 1 could not judge, or a smoke that failed, 2 misuse, 3 a loss.
pub fn main(words: Vec<OsString>) -> ExitCode {
    let word = match cli::parse(words) {
        Ok(word) => word,
        Err(refusal) => return refusal,
    };
    let done = match word {
        Word::Compare(compare) => run_compare(&compare),
        Word::Counters(asked) => {
            let subject = asked.subject();
            counters::has_programs(&asked.bin_dir).and_then(|()| {
                let mut shown = Ok(());
                counters::read(&subject, &asked.counters(), |line| {
                    show_line(line, &mut shown);
                });
                shown.map(|()| 0)
            })
        }
        Word::Smoke(asked) => run_smoke(&asked.places(), asked.write),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(reason) => {
            say(format_args!("harness: {reason}"));
            ExitCode::FAILURE
        }
    }
}

fn run_smoke(places: &smoke::Places, write: bool) -> Result<u8, String> {
    let mut shown = Ok(());
    if write {
        smoke::write_baseline(places, |line| show_line(line, &mut shown))?;
        return shown.map(|()| 0);
    }
    let failures = smoke::check(places, |line| show_line(line, &mut shown))?;
    shown?;
    if failures > 0 {
        return Err(format!("{failures} of the lines above are failures"));
    }
    Ok(0)
}

fn shown(text: impl Display) -> Result<(), String> {
    show(text).map_err(|error| error.to_string())
}

/// Shows a line, unless one could not be shown.
fn show_line(line: &str, so_far: &mut Result<(), String>) {
    if so_far.is_ok() {
        *so_far = shown(format_args!("{line}\n"));
    }
}

fn run_compare(compare: &Compare) -> Result<u8, String> {
    if compare.how_long {
        return shown(format_args!("{:.0}\n", length_seconds(compare))).map(|()| 0);
    }
    say(format_args!(
        "about {:.1} minutes, and more where a count is in doubt",
        length_seconds(compare) / 60.0
    ));
    counters::has_programs(&compare.bin_dir)?;
    let mut revisions = Revisions::new()?;
    let mut program_of = |name: &str, revision: &str, folder: &Option<PathBuf>| match folder {
        Some(folder) => Ok(folder.join("hp-proxy")),
        None => revisions.build(name, revision, &compare.target_dir()),
    };
    let base = program_of("base", &compare.base, &compare.base_bin)?;
    let head = program_of("head", &compare.head, &compare.head_bin)?;
    let are_built = compare.base_bin.is_none() && compare.head_bin.is_none();
    let reasons = if are_built {
        rule::accepted_reasons(&revisions::messages_between(&compare.base, &compare.head)?)
    } else {
        Vec::new() // Programs from folders have no commits between them.
    };

    let subject = |program: &PathBuf, env: &[(String, String)], engine: &str| Subject {
        program: program.clone(),
        args: ["--workers", "1", "--engine", engine]
            .map(str::to_owned)
            .to_vec(),
        env: env.to_vec(),
        bin_dir: compare.bin_dir.clone(),
        body_bytes: 13,
    };
    let of = |engine: &str| {
        (
            subject(&base, &compare.base_env, engine),
            subject(&head, &compare.head_env, engine),
        )
    };
    let mut findings = Vec::new();
    if !compare.skip_counters {
        for (engine, counters) in counted(compare) {
            findings.extend(count_both(&of(engine), engine, &counters));
        }
        rule::accept(&mut findings, &reasons);
    }
    let interrupt = Interrupt::watch();
    let measured = measure(compare, &of(&compare.engine), &interrupt);
    if let Some(code) = interrupt.exit_code() {
        say("harness: interrupted; nothing is judged");
        return Ok(code);
    }
    findings.extend(measured?);
    for reason in reasons {
        shown(format_args!("bench-accept: {reason}\n"))?;
    }
    shown(rule::table(&findings))?;
    let losses = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Fail);
    shown(format_args!("{} losses\n", losses.count()))?;
    Ok(rule::exit_code(&findings))
}

/// What is counted, by engine.
fn counted(compare: &Compare) -> Vec<(&'static str, Vec<Counter>)> {
    let engines = COUNTED
        .iter()
        .filter(|(engine, _counters)| compare.counts_on(engine));
    engines
        .map(|(engine, counters)| {
            let counters = counters.iter().copied();
            (
                *engine,
                counters
                    .filter(|counter| compare.counts(*counter))
                    .collect(),
            )
        })
        .collect()
}

/// Seconds that a comparison takes when no count is in doubt and no round is made again, building left out.
fn length_seconds(compare: &Compare) -> f64 {
    let counted = if compare.skip_counters {
        Vec::new()
    } else {
        counted(compare)
    };
    let counters = counted.iter().flat_map(|(_engine, counters)| counters);
    let counts: f64 = counters.map(|counter| 2.0 * counter.seconds()).sum();
    let workloads = compare.workloads();
    let visits = workloads
        .iter()
        .map(|workload| visits::length_seconds(workload, compare.rounds));
    counts + visits.sum::<f64>()
}

/// Counts both. What would be a loss is counted once more, and the lesser count of each holds: a busy machine adds, and never
/// takes away.
fn count_both((base, head): &(Subject, Subject), engine: &str, wanted: &[Counter]) -> Vec<Finding> {
    let read = |name: &str, subject: &Subject, wanted: &[Counter]| -> Counters {
        counters::read(subject, wanted, |line| {
            say(format_args!("{name} {engine:6} {line}"));
        })
    };
    let place = format!("hp-{engine}");
    let mut found = [read("base", base, wanted), read("head", head, wanted)];
    let [base_counts, head_counts] = &found;
    let in_doubt = rule::losses(base_counts, head_counts);
    for ((name, subject), counts) in [("base", base), ("head", head)].into_iter().zip(&mut found) {
        for (counter, again) in read(name, subject, &in_doubt) {
            let first = counts.remove(&counter);
            counts.insert(counter, again.or_less(first));
        }
    }
    let [base, head] = found;
    rule::judge_counters(&place, &base, &head)
}

/// Visits both in rounds, and the base beside itself.
fn measure(
    compare: &Compare,
    (base, head): &(Subject, Subject),
    interrupt: &Interrupt,
) -> Result<Vec<Finding>, String> {
    let workloads = compare.workloads();
    if workloads.is_empty() {
        return Ok(Vec::new());
    }
    let launcher = Launcher::probe(&compare.bin_dir, &machine::cpus_allowed());
    let launcher = launcher.map_err(|error| error.to_string())?;
    let catalogue = visits::catalogue(base, head, &compare.engine)?;
    let session = visits::Session {
        launcher: &launcher,
        catalogue: &catalogue,
        interrupt,
        rounds: compare.rounds,
    };
    let mut findings = Vec::new();
    for workload in &workloads {
        let rounds = visits::run(&session, workload, |line| say(line));
        let rounds = rounds.map_err(|reason| format!("{}: {reason}", workload.name))?;
        let has_rate = workload.rows.iter().any(|row| row.load.rate.is_some());
        findings.extend(rounds::judge(&workload.name, has_rate, &rounds));
    }
    Ok(findings)
}

const COUNTED: [(&str, &[Counter]); 2] = [
    ("epoll", &Counter::ALL),
    ("uring", &[Counter::Syscalls, Counter::IdleBytes]),
];
