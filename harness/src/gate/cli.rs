//! The gate's words.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, value_parser};

use super::revisions::WORKING_TREE;
use super::rounds::ROUNDS_USUAL;
use super::{smoke, visits};
use crate::counters::{Counter, Subject};
use crate::workload::Workload;

/// What is asked for.
#[derive(Debug, Subcommand)]
pub(super) enum Word {
    /// Hold a revision against an older one: counts first, CPU time and latency in rounds second; exit 3 on a loss
    Compare(Compare),
    /// Count what a request costs a server
    Counters(Counted),
    /// Try every engine, and hold its counts against the committed baseline; no times
    Smoke(Smoke),
}

#[derive(Debug, Parser)]
#[command(
    name = "harness",
    version,
    disable_help_subcommand = true,
    args_override_self = true
)]
struct Line {
    #[command(subcommand)]
    word: Word,
}

#[derive(Args, Debug)]
pub(super) struct Compare {
    /// The older revision: a branch, a tag, a commit
    #[arg(default_value = "HEAD")]
    pub(super) base: String,
    /// The newer revision, or . for the working tree
    #[arg(default_value = WORKING_TREE)]
    pub(super) head: String,
    /// Folder of an hp-proxy that takes the place of BASE
    #[arg(long, value_name = "DIR")]
    pub(super) base_bin: Option<PathBuf>,
    /// Folder of an hp-proxy that takes the place of HEAD
    #[arg(long, value_name = "DIR")]
    pub(super) head_bin: Option<PathBuf>,
    /// A variable of the base's environment; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_variable)]
    pub(super) base_env: Vec<(String, String)>,
    /// A variable of the head's environment; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_variable)]
    pub(super) head_env: Vec<(String, String)>,
    /// Engine of both in the rounds; counts are of epoll and io_uring
    #[arg(long, default_value = "auto", value_parser = ["auto", "uring", "epoll"])]
    pub(super) engine: String,
    /// Rounds of each workload; 0 measures nothing and only counts
    #[arg(long, default_value_t = ROUNDS_USUAL, value_parser = value_parser!(u32).range(0..=101))]
    pub(super) rounds: u32,
    /// Seconds that a visit measures; two that take turns share them
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..=60))]
    pub(super) seconds: u32,
    /// Loads to measure: small, 64k, churn, latency [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = LOADS)]
    workloads: Vec<String>,
    /// Count nothing, only measure
    #[arg(long)]
    pub(super) skip_counters: bool,
    /// Measure nothing, only count
    #[arg(long, conflicts_with = "skip_counters")]
    skip_rounds: bool,
    /// What to count, of syscalls, instructions, allocations, switches, faults, idle [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_counter)]
    counters: Vec<Counter>,
    /// The engines to count on, of epoll and uring [default: both]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = ["epoll", "uring"])]
    count_on: Vec<String>,
    /// Print the seconds that it will take, and do nothing
    #[arg(long)]
    pub(super) how_long: bool,
    /// Folder of hp-echo and hp-bench; what is built goes to gate/ beside it
    #[arg(long, value_name = "DIR", default_value = "target/release")]
    pub(super) bin_dir: PathBuf,
}

impl Compare {
    /// The loads to measure.
    pub(super) fn workloads(&self) -> Vec<Workload> {
        let is_asked = |workload: &Workload| {
            self.workloads.is_empty() || self.workloads.contains(&workload.name)
        };
        match self.rounds {
            _ if self.skip_rounds => Vec::new(),
            0 => Vec::new(),
            _ => {
                let loads = visits::loads(self.seconds).into_iter();
                loads.filter(is_asked).collect()
            }
        }
    }

    /// Whether this is asked for.
    pub(super) fn counts(&self, counter: Counter) -> bool {
        self.counters.is_empty() || self.counters.contains(&counter)
    }

    /// Whether this engine's counts are asked for.
    pub(super) fn counts_on(&self, engine: &str) -> bool {
        self.count_on.is_empty() || self.count_on.iter().any(|asked| asked == engine)
    }

    /// Where revisions are built.
    pub(super) fn target_dir(&self) -> PathBuf {
        self.bin_dir.parent().unwrap_or(&self.bin_dir).join("gate")
    }
}

#[derive(Args, Debug)]
pub(super) struct Counted {
    /// The server, which takes --listen and --backend [default: hp-proxy of --bin-dir]
    program: Option<PathBuf>,
    /// Its other words
    #[arg(
        long,
        value_name = "WORD",
        value_delimiter = ',',
        default_value = "--workers,1,--engine,epoll"
    )]
    #[arg(allow_hyphen_values = true)]
    args: Vec<String>,
    /// A variable of its environment; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_variable)]
    env: Vec<(String, String)>,
    /// Leave out what is counted with idle connections
    #[arg(long)]
    quick: bool,
    /// Folder of hp-echo and hp-bench
    #[arg(long, value_name = "DIR", default_value = "target/release")]
    pub(super) bin_dir: PathBuf,
}

impl Counted {
    pub(super) fn subject(&self) -> Subject {
        let own = || self.bin_dir.join("hp-proxy");
        Subject {
            program: self.program.clone().unwrap_or_else(own),
            args: self.args.clone(),
            env: self.env.clone(),
            bin_dir: self.bin_dir.clone(),
            body_bytes: 13,
        }
    }

    pub(super) fn counters(&self) -> Vec<Counter> {
        let all = Counter::ALL.into_iter();
        all.filter(|&counter| !self.quick || counter != Counter::IdleBytes)
            .collect()
    }
}

#[derive(Args, Debug)]
pub(super) struct Smoke {
    /// Folder of our programs
    #[arg(long, value_name = "DIR", default_value = "target/release")]
    bin_dir: PathBuf,
    /// The committed counts
    #[arg(long, value_name = "FILE", default_value = "harness/baseline.json")]
    baseline: PathBuf,
    /// Count anew and write the file
    #[arg(long)]
    pub(super) write: bool,
}

impl Smoke {
    pub(super) fn places(&self) -> smoke::Places {
        smoke::Places {
            bin_dir: self.bin_dir.clone(),
            baseline: self.baseline.clone(),
        }
    }
}

/// Reads the words; the first is the program's name. What is refused was printed already.
pub(super) fn parse(words: Vec<OsString>) -> Result<Word, ExitCode> {
    match Line::try_parse_from(words) {
        Ok(line) => Ok(line.word),
        Err(refusal) => {
            match refusal.print() {
                Ok(()) | Err(_) => (), // Without a terminal or a pipe nobody is left to be told.
            }
            Err(ExitCode::from(
                u8::try_from(refusal.exit_code()).unwrap_or(2),
            ))
        }
    }
}

/// The names of the gate's loads.
const LOADS: [&str; 4] = ["small", "64k", "churn", "latency"];

fn parse_counter(text: &str) -> Result<Counter, String> {
    let names = Counter::ALL.map(Counter::name);
    let found = Counter::ALL
        .into_iter()
        .find(|counter| counter.name() == text);
    found.ok_or_else(|| format!("write one of {}", names.join(", ")))
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(line: &str) -> Result<Compare, String> {
        let words = line.split(' ').map(OsString::from);
        match Line::try_parse_from(words)
            .map_err(|error| error.to_string())?
            .word
        {
            Word::Compare(compare) => Ok(compare),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_bare_compare_holds_the_working_tree_against_its_commit() {
        let asked = compare("harness compare").unwrap();
        assert_eq!((asked.base.as_str(), asked.head.as_str()), ("HEAD", "."));
        assert_eq!((asked.rounds, asked.workloads().len()), (ROUNDS_USUAL, 4));
        assert_eq!(asked.target_dir(), PathBuf::from("target/gate"));
    }

    #[test]
    fn workloads_are_chosen_by_name_and_none_without_rounds() {
        let asked = compare("harness compare main . --workloads churn,small").unwrap();
        let names = |asked: &Compare| -> Vec<String> {
            let loads = asked.workloads().into_iter();
            loads.map(|load| load.name).collect()
        };
        assert_eq!(names(&asked), ["small", "churn"]);
        assert_eq!(names(&compare("harness compare").unwrap()), LOADS);
        assert!(
            compare("harness compare --rounds 0")
                .unwrap()
                .workloads()
                .is_empty()
        );
        assert!(compare("harness compare --workloads big").is_err());
    }

    #[test]
    fn counters_and_engines_are_chosen_by_name() {
        let all = compare("harness compare").unwrap();
        assert!(Counter::ALL.iter().all(|counter| all.counts(*counter)));
        assert!(all.counts_on("epoll") && all.counts_on("uring"));
        let asked = compare("harness compare --counters idle,syscalls --count-on uring").unwrap();
        assert!(asked.counts(Counter::IdleBytes) && asked.counts(Counter::Syscalls));
        assert!(!asked.counts(Counter::Instructions));
        assert!(asked.counts_on("uring") && !asked.counts_on("epoll"));
        assert!(
            compare("harness compare --counters time")
                .unwrap_err()
                .contains("write one of switches")
        );
    }

    #[test]
    fn variables_need_a_name_and_a_value() {
        let asked = compare("harness compare --head-env HP_SLOW_DOWN=spin").unwrap();
        assert_eq!(asked.head_env, [("HP_SLOW_DOWN".into(), "spin".into())]);
        assert!(compare("harness compare --head-env =spin").is_err());
        assert!(compare("harness compare --head-env spin").is_err());
    }
}
