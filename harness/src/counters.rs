//! What one request costs a server in things that can be counted: they are the same on a busy machine and on a quiet one,
//! so a loss shows in one run.
//!
//! Each number is a slope: the server is run twice under the tool that counts, with few requests and with many on one kept
//! connection, and what the second run had more is divided by the requests that it had more. What starting and ending cost
//! is in both.

mod child;
mod tools;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::machine;
pub(crate) use child::is_installed;
use child::{Child, Tool};

/// A server to count, with the programs around it.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The program, such as `target/release/hp-proxy`.
    pub program: PathBuf,
    /// Its flags but for `--listen` and `--backend`.
    pub args: Vec<String>,
    /// What its environment has more than ours.
    pub env: Vec<(String, String)>,
    /// The folder of hp-echo and hp-bench.
    pub bin_dir: PathBuf,
    /// Bytes of the backend's answers.
    pub body_bytes: u32,
}

/// One thing that is counted.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Counter {
    /// System calls per request, by strace.
    Syscalls,
    /// Instructions in user mode per request, by Callgrind.
    Instructions,
    /// Allocations per request, by Memcheck.
    Allocations,
    /// Context switches per request, with server, load and backend on one CPU: else it is chance whether a wait finds
    /// something at once.
    Switches,
    /// Page faults without input or output, per request.
    MinorFaults,
    /// Private memory per idle connection that made one request, in bytes.
    IdleBytes,
}

/// What was counted, or why it was not.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Reading {
    /// A number per request, or per connection.
    Value(f64),
    /// Nothing, for this reason.
    Missing(String),
}

/// All readings of a subject.
pub type Counters = BTreeMap<Counter, Reading>;

impl Reading {
    /// The lesser of two readings of one thing; a number rather than none.
    #[must_use]
    pub fn or_less(self, other: Option<Self>) -> Self {
        match (self, other) {
            (Self::Value(one), Some(Self::Value(other))) => Self::Value(one.min(other)),
            (Self::Missing(_), Some(other)) => other,
            (one, _) => one,
        }
    }
}

impl Counter {
    /// All of them, cheapest first.
    pub const ALL: [Self; 6] = [
        Self::Switches,
        Self::MinorFaults,
        Self::Syscalls,
        Self::Allocations,
        Self::Instructions,
        Self::IdleBytes,
    ];

    /// Its name on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Syscalls => "syscalls",
            Self::Instructions => "instructions",
            Self::Allocations => "allocations",
            Self::Switches => "switches",
            Self::MinorFaults => "faults",
            Self::IdleBytes => "idle",
        }
    }

    /// About how many seconds a count of one subject takes.
    pub fn seconds(self) -> f64 {
        match self {
            Self::Switches | Self::MinorFaults => 1.5,
            Self::Syscalls => 4.0,
            Self::Allocations => 8.0,
            Self::Instructions => 10.0,
            Self::IdleBytes => 12.0,
        }
    }

    /// Counts one thing; a failure is a reading, too.
    pub fn read(self, subject: &Subject) -> Reading {
        let value = match self {
            Self::Syscalls => slope(subject, Tool::Strace, REQUESTS_STRACE),
            Self::Instructions => slope(subject, Tool::Callgrind, REQUESTS_VALGRIND),
            Self::Allocations => slope(subject, Tool::Memcheck, REQUESTS_VALGRIND),
            Self::Switches => watched(subject).map(|(switches, _)| switches),
            Self::MinorFaults => watched(subject).map(|(_, faults)| faults),
            Self::IdleBytes => idle_bytes(subject),
        };
        match value {
            Ok(value) => Reading::Value(value),
            Err(reason) => Reading::Missing(reason),
        }
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Syscalls => "system calls / request",
            Self::Instructions => "user instructions / request",
            Self::Allocations => "allocations / request",
            Self::Switches => "context switches / request",
            Self::MinorFaults => "minor faults / request",
            Self::IdleBytes => "bytes / idle connection",
        })
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => out.pad(&format!("{value:.3}")),
            Self::Missing(reason) => write!(out, "not counted: {reason}"),
        }
    }
}

/// Counts all that is named.
pub fn read(subject: &Subject, counters: &[Counter], mut say: impl FnMut(&str)) -> Counters {
    let mut readings = Counters::new();
    for counter in counters {
        let reading = counter.read(subject);
        say(&format!("{counter:28} {reading}"));
        readings.insert(*counter, reading);
    }
    readings
}

/// What many requests cost more than few, per request.
fn slope(subject: &Subject, tool: Tool, (few, many): (u64, u64)) -> Result<f64, String> {
    if !is_installed(tool.program()) {
        return Err(format!("{} is not installed", tool.program()));
    }
    let first = total(subject, tool, few)?;
    let second = total(subject, tool, many)?;
    Ok((second - first) / (many - few) as f64)
}

/// The tool's count of a whole life of the server with so many requests.
fn total(subject: &Subject, tool: Tool, requests: u64) -> Result<f64, String> {
    let log = tempfile::NamedTempFile::new().map_err(|error| format!("no file: {error}"))?;
    let words = tool.words(log.path());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut lab = Lab::start(subject, Seats::default(), &words)?;
    lab.load_one_by_one(requests)?;
    lab.server.end()?;
    let report = fs::read_to_string(log.path()).map_err(|error| error.to_string())?;
    tool.parse(&report)
        .ok_or_else(|| format!("{} gave no count", tool.program()))
}

/// Switches and faults per request, as the kernel counts them of a process that no tool watches.
fn watched(subject: &Subject) -> Result<(f64, f64), String> {
    let mut lab = Lab::start(subject, one_cpu(), &[])?;
    lab.load_one_by_one(REQUESTS_WATCHED / 10)?;
    let before = tools::cost_of(lab.server.pid())?;
    lab.load_one_by_one(REQUESTS_WATCHED)?;
    let after = tools::cost_of(lab.server.pid())?;
    lab.server.end()?;
    let per_request =
        |before: u64, after: u64| after.saturating_sub(before) as f64 / REQUESTS_WATCHED as f64;
    Ok((
        per_request(before.switches, after.switches),
        per_request(before.minor_faults, after.minor_faults),
    ))
}

/// Everybody on the last CPU, which the kernel's own work prefers least, where somebody can be kept to one.
fn one_cpu() -> Seats {
    let cpu = machine::cpus_allowed().last().copied();
    let cpu = cpu.filter(|_| is_installed("taskset"));
    Seats {
        server: cpu,
        others: cpu,
    }
}

/// Private memory that idle connections cost, per connection; each level in processes of its own, of which the one with the
/// least memory counts: a server that was held up while they came had more to do at once, and keeps what that took.
///
/// All crowds come one after the other and are looked at together, so that what makes them settle is waited for once.
fn idle_bytes(subject: &Subject) -> Result<f64, String> {
    let (few, many) = IDLE_CONNECTIONS;
    let gather = |idle| (0..IDLE_LOOKS).map(move |_| Crowd::gather(subject, idle));
    let first: Vec<Crowd> = gather(few).collect::<Result<_, _>>()?;
    let second: Vec<Crowd> = gather(many).collect::<Result<_, _>>()?;
    // They have made their request, and whatever a server keeps for the next one at once goes after a while.
    clock::pause(IDLE_SETTLE);
    let least = |crowds: Vec<Crowd>| {
        let looks = crowds.into_iter().map(Crowd::private_kib);
        let looks: Result<Vec<u64>, String> = looks.collect();
        looks.map(|looks| looks.into_iter().min().unwrap_or(0))
    };
    let (first, second) = (least(first)?, least(second)?);
    Ok((second as f64 - first as f64) * 1024.0 / f64::from(many - few))
}

/// A server with idle connections.
struct Crowd {
    idle: u32,
    load: Child,
    lab: Lab,
}

impl Crowd {
    /// Starts a server, and waits until it has so many idle connections.
    fn gather(subject: &Subject, idle: u32) -> Result<Self, String> {
        let lab = Lab::start(subject, Seats::default(), &[])?;
        let idle_flag = idle.to_string();
        let flags = ["-c", "1", "-R", "10", "-d", "600s", "--idle", &idle_flag];
        let load = lab.start_load(&flags)?;
        let mut crowd = Self { idle, load, lab };
        let deadline = clock::now() + PATIENCE;
        while !crowd.is_there()? {
            if clock::now() > deadline || crowd.load.has_ended() {
                return Err(format!("{idle} idle connections did not come to be"));
            }
            clock::pause(LOOK_INTERVAL);
        }
        Ok(crowd)
    }

    fn is_there(&self) -> Result<bool, String> {
        Ok(tools::open_files(self.lab.server.pid())? >= self.idle as usize)
    }

    /// What the server has in memory of its own, in KiB; ends it.
    fn private_kib(mut self) -> Result<u64, String> {
        let kib = tools::private_kib(self.lab.server.pid());
        if self.load.has_ended() || !self.is_there()? {
            return Err(String::from("the idle connections ended before the look"));
        }
        self.load.end()?;
        self.lab.server.end()?;
        kib
    }
}

/// Which CPU is whose; none: the scheduler decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seats {
    /// The server's.
    pub(crate) server: Option<u32>,
    /// That of load and backend.
    pub(crate) others: Option<u32>,
}

/// A backend, and the server before it. All of it ends when this is dropped.
pub(crate) struct Lab {
    bench: PathBuf,
    seats: Seats,
    server: Child,
    addr: String,
    _echo: Child,
}

impl Lab {
    /// Starts both; `before` are the words of a tool that watches the server.
    pub(crate) fn start(subject: &Subject, seats: Seats, before: &[&str]) -> Result<Self, String> {
        let echo = subject.bin_dir.join("hp-echo");
        let body = subject.body_bytes.to_string();
        let words = [
            "--listen",
            "127.0.0.1:0",
            "--workers",
            "1",
            "--engine",
            "epoll",
            "--body",
            &body,
        ];
        let mut echo = Child::start(&pinned(seats.others).words(), &echo, words.into_iter(), &[])?;
        let backend = echo.wait_listening()?;
        let rest = ["--listen", "127.0.0.1:0", "--backend", &backend];
        let words = rest
            .into_iter()
            .chain(subject.args.iter().map(String::as_str));
        let pin = pinned(seats.server);
        let before: Vec<&str> = pin
            .words()
            .into_iter()
            .chain(before.iter().copied())
            .collect();
        let mut server = Child::start(&before, &subject.program, words, &subject.env)?;
        let addr = server.wait_listening()?;
        Ok(Self {
            bench: subject.bin_dir.join("hp-bench"),
            seats,
            server,
            addr,
            _echo: echo,
        })
    }

    /// Runs hp-bench with these flags to its end, which has to be without an error.
    pub(crate) fn load(&self, flags: &[&str]) -> Result<(), String> {
        self.start_load(flags)?.wait_success()
    }

    /// Sends so many requests over one connection; each has to be answered.
    fn load_one_by_one(&self, requests: u64) -> Result<(), String> {
        let requests = requests.to_string();
        self.load(&["-c", "1", "-n", &requests, "-d", "300s"])
    }

    fn start_load(&self, flags: &[&str]) -> Result<Child, String> {
        let rest = ["-t", "1", "--engine", "epoll", "--quiet", "--warmup", "0"];
        let words = [self.addr.as_str()].into_iter();
        let words = words.chain(flags.iter().copied()).chain(rest);
        Child::start(&pinned(self.seats.others).words(), &self.bench, words, &[])
    }
}

/// Words that keep a program to one CPU.
struct Pin(Option<String>);

impl Pin {
    fn words(&self) -> Vec<&str> {
        match &self.0 {
            Some(cpu) => vec!["taskset", "-c", cpu],
            None => Vec::new(),
        }
    }
}

fn pinned(cpu: Option<u32>) -> Pin {
    Pin(cpu.map(|cpu| cpu.to_string()))
}

/// Reads counters from a file.
///
/// # Errors
/// One line that says what is wrong.
pub fn parse(text: &str) -> Result<BTreeMap<String, Counters>, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Whether a folder has the programs around a subject.
pub(crate) fn has_programs(bin_dir: &Path) -> Result<(), String> {
    for program in ["hp-echo", "hp-bench"] {
        let path = bin_dir.join(program);
        if !path.is_file() {
            return Err(format!(
                "{}: no such program; run `cargo build --release` or name its folder with --bin-dir",
                path.display()
            ));
        }
    }
    Ok(())
}

const REQUESTS_STRACE: (u64, u64) = (500, 4_500);
const REQUESTS_VALGRIND: (u64, u64) = (500, 2_500);
const REQUESTS_WATCHED: u64 = 10_000;
/// Both more than those that hp-proxy keeps a task for, and fewer than a process may have open where that cannot be raised.
const IDLE_CONNECTIONS: (u32, u32) = (2_000, 16_000);
const IDLE_LOOKS: u32 = 3;
/// Longer than hp-proxy keeps tasks for connections that idle, and the room that they took.
const IDLE_SETTLE: Duration = Duration::from_secs(5);
/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_numbers_or_reasons_in_a_file() {
        let counters = Counters::from([
            (Counter::Syscalls, Reading::Value(6.0)),
            (
                Counter::Instructions,
                Reading::Missing("valgrind is not installed".into()),
            ),
        ]);
        let all = BTreeMap::from([("hp-epoll".to_owned(), counters)]);
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(
            text,
            r#"{"hp-epoll":{"syscalls":6.0,"instructions":"valgrind is not installed"}}"#
        );
        assert_eq!(parse(&text).unwrap(), all);
        assert!(parse(r#"{"hp-epoll":{"syscalls":{}}}"#).is_err());
    }

    #[test]
    fn the_lesser_reading_holds_and_a_number_before_none() {
        let missing = || Reading::Missing("no".into());
        for (one, other, expected) in [
            (
                Reading::Value(2.0),
                Some(Reading::Value(1.0)),
                Reading::Value(1.0),
            ),
            (missing(), Some(Reading::Value(1.0)), Reading::Value(1.0)),
            (Reading::Value(2.0), Some(missing()), Reading::Value(2.0)),
            (Reading::Value(2.0), None, Reading::Value(2.0)),
            (missing(), None, missing()),
        ] {
            assert_eq!(one.or_less(other), expected);
        }
    }

    #[test]
    fn a_missing_program_is_a_reading_that_says_so() {
        let subject = Subject {
            program: "/nonexistent/proxy".into(),
            args: Vec::new(),
            env: Vec::new(),
            bin_dir: "/nonexistent".into(),
            body_bytes: 13,
        };
        match Counter::Switches.read(&subject) {
            Reading::Missing(reason) => {
                assert!(reason.contains("/nonexistent/hp-echo"), "{reason}")
            }
            Reading::Value(value) => panic!("{value} of nothing"),
        }
    }
}
