//! Makes the rounds of two revisions, by the means of a session: each visit has processes of its own, so that what one process was
//! lucky with is not its revision's, and both sides of a pair are equally new.

use std::collections::BTreeMap;

use crate::clock;
use crate::counters;
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::load;
use crate::plan::Plan;
use crate::process::Launcher;
use crate::raw::Record;
use crate::round::{self, Allowance, Past, Watcher};
use crate::subject::{Catalogue, Name, Subject};
use crate::topology::{Starter, Topology};
use crate::workload::{Row, Visiting, Workload};

use super::rounds::{BASE, HEAD, Round, line_of};

/// What the rounds of all loads share.
#[derive(Clone, Copy, Debug)]
pub struct Session<'a> {
    /// Starts processes.
    pub launcher: &'a Launcher,
    /// What stands for base and head.
    pub catalogue: &'a Catalogue,
    /// Ends waits early.
    pub interrupt: &'a Interrupt,
    /// Rounds of each load.
    pub rounds: u32,
}

/// The gate's loads; a visit's window lasts so many seconds, which two that take turns share.
pub fn loads(seconds: u32) -> Vec<Workload> {
    let plan =
        Plan::parse(LOADS).expect("the gate's loads are part of the program, and tests read them");
    let mut loads = plan.workloads;
    for row in loads.iter_mut().flat_map(|load| &mut load.rows) {
        row.load.seconds = match row.load.visit {
            Visiting::Alone => f64::from(seconds),
            Visiting::Turns => f64::from(seconds) / 2.0,
        };
    }
    loads
}

/// What stands for base and head, and the backend: as sessions start them, with programs and environments of their own.
///
/// # Errors
/// One line: a program's path cannot be made absolute.
pub fn catalogue(
    base: &counters::Subject,
    head: &counters::Subject,
    engine: &str,
) -> Result<Catalogue, String> {
    let name = |text: &str| -> Name { text.parse().expect("it is small letters") };
    let mut catalogue = Catalogue::parse(SUBJECTS)?;
    let usual = catalogue.find(&name(USUAL)).cloned();
    let usual = usual.ok_or_else(|| format!("the catalogue has no {USUAL}"))?;
    for (text, side) in [(BASE, base), (HEAD, head)] {
        let program = std::path::absolute(&side.program)
            .map_err(|error| format!("{}: {error}", side.program.display()))?;
        // A catalogue's values are templates, these are words as they were given.
        let plain = |value: &str| value.replace('{', "{{").replace('}', "}}");
        let env = side.env.iter();
        let subject = Subject {
            program: program.display().to_string(),
            engine: engine.to_owned(),
            env: env
                .map(|(key, value)| (key.clone(), plain(value)))
                .collect(),
            ..usual.clone()
        };
        catalogue.insert(&name(text), subject);
    }
    Ok(catalogue)
}

/// Makes the rounds of a load. A disturbed visit is made again while a tenth of the computed time lasts; a round with a visit that may
/// not be used is made again, thrice at most.
///
/// # Errors
/// One line of the last attempt's failure.
pub fn run(
    session: &Session<'_>,
    workload: &Workload,
    mut say: impl FnMut(&str),
) -> Result<Vec<Round>, String> {
    let mut allowance = Allowance {
        left_s: length_seconds(workload, session.rounds) * REPEATS_SHARE,
        repeats: 0,
    };
    let mut rounds = Vec::new();
    for number in 1..=session.rounds {
        let mut said = |line: &str| say(&format!("{:8} round {number:2}: {line}", workload.name));
        let mut attempts = 0;
        let round = loop {
            attempts += 1;
            match session.round(workload, number, &mut allowance, &mut said) {
                Ok(round) => break round,
                Err(reason) if attempts == ATTEMPTS_MAX || session.interrupt.came() => {
                    return Err(reason);
                }
                Err(reason) => said(&format!("again: {reason}")),
            }
        };
        said(&line_of(&round));
        rounds.push(round);
    }
    Ok(rounds)
}

/// Seconds that the rounds of a load should take, when none is made again.
pub fn length_seconds(workload: &Workload, rounds: u32) -> f64 {
    let mut sum = 0.0;
    for visited in visits(workload) {
        // Each has a server; those that take turns have a backend each, the others one.
        let servers = visited.measured().len();
        let backends = if visited.takes_turns() { servers } else { 1 };
        sum += (servers + backends) as f64 * PROCESS_SECONDS;
        for Row { load, .. } in &visited.rows {
            let made = match load.visit {
                Visiting::Alone => servers,
                Visiting::Turns => visited.beside_reference().len(),
            };
            let warmup = f64::from(load.warmup_ms) / 1_000.0;
            sum += made as f64 * (load.window_seconds() + warmup + VISIT_OVERHEAD_SECONDS);
        }
    }
    sum * f64::from(rounds)
}

/// What a round visits with the same processes: of a load in turns the head beside the base, and the base beside itself; else all three.
fn visits(workload: &Workload) -> Vec<Workload> {
    if !workload.takes_turns() {
        return vec![workload.clone()];
    }
    let beside_base = Workload {
        control: None,
        ..workload.clone()
    };
    let beside_itself = Workload {
        subjects: vec![workload.reference.clone()],
        ..workload.clone()
    };
    vec![beside_base, beside_itself]
}

impl Session<'_> {
    fn round(
        &self,
        workload: &Workload,
        number: u32,
        allowance: &mut Allowance,
        say: &mut dyn FnMut(&str),
    ) -> Result<Round, String> {
        let mut visits = visits(workload);
        if number.is_multiple_of(2) {
            visits.reverse(); // What drifts within a round drifts to either side alike.
        }
        let mut records = Vec::new();
        for visited in &visits {
            records.extend(self.visit(visited, number, allowance, say)?);
        }
        Round::of(&records)
    }

    /// Starts servers, visits each once, and ends them; the records of the attempt that stands.
    fn visit(
        &self,
        workload: &Workload,
        number: u32,
        allowance: &mut Allowance,
        say: &mut dyn FnMut(&str),
    ) -> Result<Vec<Record>, String> {
        let scratch =
            tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        let starter = Starter {
            launcher: self.launcher,
            catalogue: self.catalogue,
            scratch: scratch.path(),
            interrupt: self.interrupt,
        };
        let failed = |error: Error| error.to_string().replace("\n  | ", "; ");
        let mut topology = Topology::start(workload, starter, BTreeMap::new()).map_err(failed)?;
        if let Some((name, reason)) = topology.missing().iter().next() {
            return Err(format!("{name}: {reason}"));
        }
        let rounds = round::Rounds {
            workload,
            visit: load::visit,
            starter,
            attempts: ATTEMPTS_MAX,
            began_ns: clock::monotonic_ns(),
        };
        let mut last = Last {
            records: Vec::new(),
            say,
        };
        let mut past = Past::new(number.into());
        let visited = rounds.next(&mut past, &mut topology, allowance, &mut last);
        visited.map_err(failed)?;
        Ok(last.records)
    }
}

/// Keeps the records of the last attempt, which is the one that counts.
struct Last<'a> {
    records: Vec<Record>,
    say: &'a mut dyn FnMut(&str),
}

impl Watcher for Last<'_> {
    fn begin(&mut self, _workload: &Workload, _row: &Row, _subject: &str, _round: u32) {}

    fn end(&mut self, _record: &Record) {}

    fn say(&mut self, line: &str) {
        (self.say)(line);
    }

    fn keep(&mut self, records: &[Record]) -> Result<(), Error> {
        self.records = records.to_vec();
        Ok(())
    }
}

const LOADS: &str = include_str!("loads.toml");
const SUBJECTS: &str = include_str!("../../plans/subjects.toml");
/// The subject that base and head are started like.
const USUAL: &str = "hp-epoll";
const ATTEMPTS_MAX: u32 = 3;
/// What repeated visits may take, as a part of the computed time.
const REPEATS_SHARE: f64 = 0.1;
/// Until a server listens, and its end.
const PROCESS_SECONDS: f64 = 0.05;
/// hp-bench's start and end, and the looks at /proc.
const VISIT_OVERHEAD_SECONDS: f64 = 0.15;

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(env: &[(&str, &str)]) -> counters::Subject {
        let env = env.iter();
        counters::Subject {
            program: "bin/hp-proxy".into(),
            args: Vec::new(),
            env: env
                .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            bin_dir: "bin".into(),
            body_bytes: 13,
        }
    }

    fn load(name: &str) -> Workload {
        let mut loads = loads(1).into_iter();
        loads.find(|load| load.name == name).unwrap()
    }

    #[test]
    fn a_window_is_shared_by_those_that_take_turns() {
        for (name, each, window) in [("small", 1.0, 2.0), ("latency", 2.0, 2.0)] {
            let mut loads = loads(2).into_iter();
            let load = loads.find(|load| load.name == name).unwrap();
            let load = &load.rows[0].load;
            assert_eq!((load.seconds, load.window_seconds()), (each, window));
        }
    }

    #[test]
    fn closed_loops_take_turns_and_a_rate_does_not() {
        for workload in loads(1) {
            let [Row { load, .. }] = workload.rows.as_slice() else {
                panic!("{} has one row", workload.name);
            };
            assert_eq!(
                workload.takes_turns(),
                load.rate.is_none(),
                "{}",
                workload.name
            );
        }
    }

    /// Both pairs of a round have the base, and no process is in two of them.
    #[test]
    fn a_round_has_the_head_beside_the_base_and_the_base_beside_itself() {
        let beside = |workload: &Workload| {
            let names = workload.beside_reference();
            names.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let [head, control] = &visits(&load("small"))[..] else {
            panic!("two visits");
        };
        assert_eq!(
            (head.reference.to_string(), beside(head)),
            (BASE.into(), vec![HEAD.into()])
        );
        assert_eq!(beside(control), ["base/aa"]);
        let [alone] = &visits(&load("latency"))[..] else {
            panic!("one visit");
        };
        assert_eq!(alone.measured().len(), 3);
    }

    #[test]
    fn base_and_head_are_started_alike_but_for_program_and_environment() {
        let slow = subject(&[("HP_SLOW_DOWN", "a{b}")]);
        let catalogue = catalogue(&subject(&[]), &slow, "uring").unwrap();
        let of = |name: &str| catalogue.find(&name.parse().unwrap()).unwrap();
        let (base, head) = (of(BASE), of("head"));
        assert_eq!(
            (base.engine.as_str(), head.engine.as_str()),
            ("uring", "uring")
        );
        assert_eq!((&base.args, base.own), (&head.args, true));
        assert!(head.program.starts_with('/') && head.program.ends_with("bin/hp-proxy"));
        assert!(base.env.is_empty());
        let values = crate::subject::Values::new();
        let filled = crate::subject::fill(&head.env["HP_SLOW_DOWN"], &values);
        assert_eq!(filled, Ok("a{b}".into()), "words, and no template");
        assert_eq!(of("direct").program, "hp-echo");
    }

    #[test]
    fn the_length_has_every_visit_and_every_process() {
        // Two visits of a second, a warm-up and an overhead, each with two servers and two backends.
        let expected = 11.0 * 2.0 * (1.0 + 0.2 + VISIT_OVERHEAD_SECONDS + 4.0 * PROCESS_SECONDS);
        assert!((length_seconds(&load("small"), 11) - expected).abs() < 1e-6);
        let expected = 3.0 * (1.0 + 0.3 + VISIT_OVERHEAD_SECONDS) + 4.0 * PROCESS_SECONDS;
        assert!((length_seconds(&load("latency"), 1) - expected).abs() < 1e-6);
    }

    #[test]
    fn the_attempt_that_stands_is_the_last() {
        let mut lines = Vec::new();
        let mut say = |line: &str| lines.push(line.to_owned());
        let mut last = Last {
            records: Vec::new(),
            say: &mut say,
        };
        for attempt in [1, 2] {
            let record = Record {
                attempt,
                ..Record::default()
            };
            last.keep(&[record]).unwrap();
        }
        last.say("repeated");
        assert_eq!(last.records.len(), 1);
        assert_eq!(last.records[0].attempt, 2);
        assert_eq!(lines, ["repeated"]);
    }

    #[test]
    fn a_program_that_is_not_there_is_told_in_a_line() {
        let folder = tempfile::tempdir().unwrap();
        for program in ["hp-echo", "hp-bench"] {
            std::fs::write(folder.path().join(program), "#!/bin/sh\n").unwrap();
        }
        let launcher = Launcher::probe(folder.path(), &[]).unwrap();
        let catalogue = catalogue(&subject(&[]), &subject(&[]), "epoll").unwrap();
        let session = Session {
            launcher: &launcher,
            catalogue: &catalogue,
            interrupt: &Interrupt::never(),
            rounds: 1,
        };
        let mut lines = Vec::new();
        let reason = run(&session, &load("small"), |line| lines.push(line.to_owned()));
        let reason = reason.unwrap_err();
        assert_eq!(reason.lines().count(), 1, "{reason}");
        assert_eq!(lines.len(), 2, "it is tried thrice: {lines:?}");
    }
}
