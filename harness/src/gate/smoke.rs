//! `make bench-smoke`: every engine answers what it was asked, and costs what the committed baseline says, in counts. No
//! times, so that a busy machine says the same as a quiet one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::rule::Tolerance;
use crate::counters::{self, Counter, Counters, Lab, Reading, Seats, Subject};

/// What is tried, how it is called, and what of it is counted.
const SUBJECTS: [(&str, &str, &[&str], &[Counter]); 7] = [
    (
        "hp-epoll",
        "hp-proxy",
        &["--workers", "1", "--engine", "epoll"],
        &VALGRIND_TOO,
    ),
    (
        "hp-uring",
        "hp-proxy",
        &["--workers", "1", "--engine", "uring"],
        &SYSCALLS,
    ),
    (
        "hp-threads",
        "hp-proxy",
        &["--workers", "1", "--engine", "threads"],
        &SYSCALLS,
    ),
    ("relay-epoll", "hp-relay", &["--engine", "epoll"], &SYSCALLS),
    ("relay-uring", "hp-relay", &["--engine", "uring"], &SYSCALLS),
    (
        "relay-splice",
        "hp-relay",
        &["--engine", "epoll", "--splice"],
        &SYSCALLS,
    ),
    (
        "relay-uring-splice",
        "hp-relay",
        &["--engine", "uring", "--splice"],
        &[],
    ),
];
const SYSCALLS: [Counter; 1] = [Counter::Syscalls];
const VALGRIND_TOO: [Counter; 3] = [
    Counter::Syscalls,
    Counter::Allocations,
    Counter::Instructions,
];

/// A load whose answers are looked at.
struct Proof {
    name: &'static str,
    body_bytes: u32,
    flags: &'static [&'static str],
}

const PROOFS: [Proof; 4] = [
    Proof {
        name: "small answers",
        body_bytes: 13,
        flags: &["-c", "8", "-n", "2000", "--expect-size", "13"],
    },
    Proof {
        name: "large answers",
        body_bytes: 1_000_000,
        flags: &["-c", "4", "-n", "40", "--expect-size", "1000000"],
    },
    Proof {
        name: "bodies that come back",
        body_bytes: 13,
        flags: &[
            "-c",
            "4",
            "-n",
            "200",
            "-b",
            "20k",
            "--expect-size",
            "20480",
        ],
    },
    Proof {
        name: "a connection for each request",
        body_bytes: 13,
        flags: &[
            "-c",
            "4",
            "-n",
            "200",
            "--reuse",
            "1",
            "--expect-size",
            "13",
        ],
    },
];

/// Where programs and baseline are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The folder of our programs.
    pub bin_dir: PathBuf,
    /// The committed counts.
    pub baseline: PathBuf,
}

/// Tries every subject and compares its counts; says a line for each. How many lines were failures.
///
/// # Errors
/// One line where nothing could be tried.
pub fn check(places: &Places, mut say: impl FnMut(&str)) -> Result<u32, String> {
    counters::has_programs(&places.bin_dir)?;
    let baseline = fs::read_to_string(&places.baseline)
        .map_err(|error| error.to_string())
        .and_then(|text| counters::parse(&text))
        .map_err(|reason| {
            let path = places.baseline.display();
            format!("{path}: {reason}; `make bench-baseline` writes it")
        })?;
    let mut failures = 0;
    let mut tell = |outcome: &Outcome, line: String| {
        failures += u32::from(*outcome == Outcome::Failed);
        say(&format!("{:7} {line}", outcome.word()));
    };
    for (name, program, args, counted) in SUBJECTS {
        let subject = subject_of(&places.bin_dir, program, args);
        if let Err(reason) = Lab::start(&subject, Seats::default(), &[]) {
            let outcome = if is_missing_uring(args, &reason) {
                Outcome::Skipped
            } else {
                Outcome::Failed
            };
            tell(&outcome, format!("{name}: {reason}"));
            continue;
        }
        for proof in &PROOFS {
            let (outcome, line) = prove(&subject, proof);
            tell(&outcome, format!("{name}: {line}"));
        }
        let nothing = Counters::new();
        let known = baseline.get(name).unwrap_or(&nothing);
        for counter in counted {
            let reading = counter.read(&subject);
            let (outcome, line) = compare(*counter, known.get(counter), &reading);
            tell(&outcome, format!("{name}: {line}"));
        }
    }
    Ok(failures)
}

/// Counts every subject anew and writes the baseline.
///
/// # Errors
/// One line: something cannot be counted here, or the file cannot be written.
pub fn write_baseline(places: &Places, mut say: impl FnMut(&str)) -> Result<(), String> {
    counters::has_programs(&places.bin_dir)?;
    let mut baseline = BTreeMap::new();
    for (name, program, args, counted) in SUBJECTS {
        if counted.is_empty() {
            continue;
        }
        let subject = subject_of(&places.bin_dir, program, args);
        let readings = counters::read(&subject, counted, |line| say(&format!("{name:12} {line}")));
        if let Some(Reading::Missing(reason)) = readings
            .values()
            .find(|reading| matches!(reading, Reading::Missing(_)))
        {
            return Err(format!("{name}: {reason}; a baseline has all counts"));
        }
        let rounded = readings
            .into_iter()
            .map(|(counter, reading)| match reading {
                Reading::Value(value) => {
                    (counter, Reading::Value((value * 1_000.0).round() / 1_000.0))
                }
                missing @ Reading::Missing(_) => (counter, missing),
            });
        baseline.insert(name.to_owned(), rounded.collect::<Counters>());
    }
    let text = serde_json::to_string_pretty(&baseline).map_err(|error| error.to_string())? + "\n";
    fs::write(&places.baseline, text)
        .map_err(|error| format!("{}: {error}", places.baseline.display()))
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    Fine,
    Skipped,
    Failed,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Skipped => "skipped",
            Self::Failed => "FAILED",
        }
    }
}

fn prove(subject: &Subject, proof: &Proof) -> (Outcome, String) {
    let subject = Subject {
        body_bytes: proof.body_bytes,
        ..subject.clone()
    };
    let rest = ["-d", "120s", "--expect", "200", "--verify", "1/1"];
    let flags: Vec<&str> = proof.flags.iter().copied().chain(rest).collect();
    let proven = Lab::start(&subject, Seats::default(), &[]).and_then(|lab| lab.load(&flags));
    match proven {
        Ok(()) => (Outcome::Fine, proof.name.to_owned()),
        Err(reason) => (Outcome::Failed, format!("{}: {reason}", proof.name)),
    }
}

/// A count beside what is known of it. Only a rise is a failure; a fall is told, so that the baseline follows.
fn compare(counter: Counter, known: Option<&Reading>, reading: &Reading) -> (Outcome, String) {
    let tolerance = Tolerance::of_baseline(counter);
    match (known, reading) {
        (_, Reading::Missing(reason)) if reason.ends_with("is not installed") => {
            (Outcome::Skipped, format!("{counter}: {reason}"))
        }
        (_, Reading::Missing(reason)) => (Outcome::Failed, format!("{counter}: {reason}")),
        (Some(Reading::Value(known)), Reading::Value(value)) => {
            let line = format!("{value:.3} {counter}, the baseline has {known:.3}");
            if tolerance.is_exceeded(*known, *value) {
                let remedy = "find out why, or `make bench-baseline` and say why";
                (Outcome::Failed, format!("{line}: {remedy}"))
            } else if tolerance.is_exceeded(*value, *known) {
                (
                    Outcome::Fine,
                    format!("{line}: better, `make bench-baseline` keeps that"),
                )
            } else {
                (Outcome::Fine, line)
            }
        }
        (Some(Reading::Missing(_)) | None, Reading::Value(value)) => {
            let remedy = "the baseline has none: `make bench-baseline`";
            (Outcome::Failed, format!("{value:.3} {counter}, {remedy}"))
        }
    }
}

/// A machine may forbid io_uring, which its own message says.
fn is_missing_uring(args: &[&str], reason: &str) -> bool {
    args.contains(&"uring") && reason.contains("use --engine epoll")
}

fn subject_of(bin_dir: &Path, program: &str, args: &[&str]) -> Subject {
    Subject {
        program: bin_dir.join(program),
        args: args.iter().map(|&word| word.to_owned()).collect(),
        env: Vec::new(),
        bin_dir: bin_dir.to_owned(),
        body_bytes: 13,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_fails_and_a_fall_is_told() {
        let known = Reading::Value(6.0);
        for (value, outcome, part) in [
            (6.0, Outcome::Fine, "the baseline has 6.000"),
            (6.1, Outcome::Fine, "6.100"),
            (7.0, Outcome::Failed, "find out why"),
            (5.0, Outcome::Fine, "better"),
        ] {
            let said = compare(Counter::Syscalls, Some(&known), &Reading::Value(value));
            assert!(said.0 == outcome && said.1.contains(part), "{said:?}");
        }
    }

    #[test]
    fn what_is_not_installed_is_skipped_and_what_fails_is_not() {
        let known = Reading::Value(6.0);
        let missing = |reason: &str| Reading::Missing(reason.to_owned());
        for (reading, outcome) in [
            (missing("strace is not installed"), Outcome::Skipped),
            (missing("strace gave no count"), Outcome::Failed),
        ] {
            assert_eq!(
                compare(Counter::Syscalls, Some(&known), &reading).0,
                outcome
            );
        }
        let unknown = compare(Counter::Syscalls, None, &known);
        assert_eq!(unknown.0, Outcome::Failed, "{unknown:?}");
    }

    #[test]
    fn only_a_forbidden_ring_is_a_reason_to_skip() {
        let reason = "hp-proxy: engine uring cannot start: EPERM: allow it, or use --engine epoll";
        assert!(is_missing_uring(&["--engine", "uring"], reason));
        assert!(!is_missing_uring(&["--engine", "epoll"], reason));
        assert!(!is_missing_uring(&["--engine", "uring"], "no such program"));
    }

    #[test]
    fn the_committed_baseline_has_every_count() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.json");
        let baseline = counters::parse(&fs::read_to_string(path).unwrap()).unwrap();
        for (name, _, _, counted) in SUBJECTS {
            for counter in counted {
                let reading = baseline
                    .get(name)
                    .and_then(|counters| counters.get(counter));
                assert!(
                    matches!(reading, Some(Reading::Value(_))),
                    "{name}: {counter}"
                );
            }
        }
    }
}
