//! The words of the command line, and what they mean before the network is asked.
//!
//! Must not know: names' addresses, sockets, the runtime.

pub mod load;

use std::ffi::OsString;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser};
use hp_core::rt::Engine;

use crate::cli::load::LoadArgs;
use crate::output::Output;
use crate::target::Target;
use crate::units::{parse_count, parse_time};

/// Load generator for HTTP/1.1: closed loop or constant rate, full latency histograms.
#[derive(Clone, Debug, Parser)]
#[command(name = "hp-bench", version, about, override_usage = USAGE, after_help = AFTER)]
pub struct Cli {
    /// Where the requests go.
    #[arg(help = "HOST:PORT, http://HOST[:PORT][/PATH] or unix:/SOCKET[:/PATH]")]
    pub target: Target,

    /// Connections, as -c
    #[arg(value_name = "CONNECTIONS", value_parser = parse_u32)]
    pub connections_word: Option<u32>,

    /// Seconds, as -d
    #[arg(value_name = "SECONDS", value_parser = parse_time)]
    pub duration_word: Option<Duration>,

    /// Everything else.
    #[command(flatten)]
    pub flags: Flags,
}

/// What a run and a comparison of targets are told in the same words.
#[derive(Args, Clone, Debug)]
pub struct Flags {
    /// Connections kept open, each with one request under way [default: 50]
    #[arg(short = 'c', long, value_name = "N", value_parser = parse_u32)]
    pub connections: Option<u32>,

    /// Threads [default: the CPUs it may use, at most CONNECTIONS]
    #[arg(short = 't', long, value_name = "N", value_parser = parse_threads)]
    pub threads: Option<u32>,

    /// Length of the run: 10, 10s, 500ms, 1m [default: 10s]
    #[arg(short = 'd', long, alias = "seconds", value_name = "TIME", value_parser = parse_time)]
    pub duration: Option<Duration>,

    /// Longest wait for a connection and for an answer, 1ms to 60s
    #[arg(short = 'T', long, value_name = "TIME", value_parser = parse_time, default_value = "10s")]
    pub timeout: Duration,

    /// A header field to send; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,

    /// The request's method [default: GET, with -b POST]
    #[arg(short = 'm', long, value_name = "METHOD")]
    pub method: Option<String>,

    /// The request's body: a text, a file's content, or a size with its unit: 64k
    #[arg(short = 'b', long, value_name = "TEXT|@FILE|SIZE")]
    pub body: Option<OsString>,

    /// Which load is made.
    #[command(flatten)]
    pub load: LoadArgs,

    /// What becomes of the result.
    #[command(flatten)]
    pub output: Output,

    /// How the kernel is asked: auto, uring, epoll, or threads (ppoll, each of the -t threads for its share of the
    /// connections)
    #[arg(long, value_name = "ENGINE", default_value = "auto")]
    pub engine: Engine,
}

/// Why [`parse`] has no [`Cli`] to give.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Stop {
    /// `--help` or `--version`: the text for stdout.
    Asked(String),
    /// One line that says what is wrong and what to do.
    Misuse(String),
}

/// Reads the words; the first is the program's name.
///
/// # Errors
/// [`Stop`] where there is nothing to run.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, Stop> {
    Cli::try_parse_from(words).map_err(|error| Stop::of(&error, "hp-bench"))
}

impl Stop {
    /// What clap refused, of a program of this name.
    pub fn of(error: &clap::Error, program: &str) -> Self {
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Self::Asked(error.to_string()),
            _ => Self::Misuse(one_line(&error.to_string(), program)),
        }
    }
}

/// Reads a count that fits connections and threads.
fn parse_u32(text: &str) -> Result<u32, String> {
    let count = parse_count(text)?;
    u32::try_from(count)
        .ok()
        .filter(|count| *count <= CONNECTIONS_MAX)
        .ok_or_else(|| format!("{text:?} is too many; give at most 1M"))
}

/// Reads a count of threads.
fn parse_threads(text: &str) -> Result<u32, String> {
    let count = parse_count(text)?;
    u32::try_from(count)
        .ok()
        .filter(|count| *count <= THREADS_MAX)
        .ok_or_else(|| format!("{text:?} is too many; give at most {THREADS_MAX}"))
}

/// What a program prints for misuse is one line: the first paragraph of clap's text and its tip.
pub(crate) fn one_line(text: &str, program: &str) -> String {
    let first = text.split("\n\n").next().unwrap_or_default();
    let what: Vec<&str> = first.split_whitespace().collect();
    let what = what.join(" ");
    let what = what.strip_prefix("error: ").unwrap_or(&what);
    let tip = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("tip: "))
        .find(|tip| !tip.starts_with("to pass")); // No value begins with a dash.
    match tip {
        Some(tip) => format!("{what}; {tip}; see {program} --help"),
        None => format!("{what}; see {program} --help"),
    }
}

const CONNECTIONS_MAX: u32 = 1_000_000;
const THREADS_MAX: u32 = 1024;

const USAGE: &str = "hp-bench [OPTIONS] TARGET [CONNECTIONS [SECONDS]]";

const AFTER: &str = "\
hp-bench find [OPTIONS] TARGET --slo GOALS searches the highest rate that reaches the goals, between those of
-R FROM:TO [default: 100:1M], in trials of which the last takes -d.
hp-bench compare [OPTIONS] TARGET_A TARGET_B... compares targets in interleaved rounds, with intervals and a control;
hp-bench calibrate says what this machine can do.
hp-bench merge FILE... adds results exactly, hp-bench report FILE... -o PAGE shows them, and hp-bench diff OLD NEW
compares two, each with a --help of its own.

Without -R a closed loop: every connection sends its next request when the answer to the last one is
complete, so a stall of the server hides the requests that were not sent. With -R requests are due by a
schedule, and their response time counts from there.

Exit status: 0; 1 where it could not start; 2 misuse; 3 where a goal of --slo was not reached, or diff found a loss; 4 where there
were errors, or fewer connections than asked; 5 with --strict where this program was the limit; 130 and 143
interrupted, with a report of what was done.";

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Cli, Stop> {
        parse(line.split(' ').map(OsString::from))
    }

    fn check_misuse(line: &str, part: &str) {
        match words(line) {
            Err(Stop::Misuse(text)) => {
                assert!(text.contains(part), "{text}");
                assert!(!text.contains('\n'), "{text}");
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn seed_form_is_read() {
        let cli = words("hp-bench 127.0.0.1:8080 100 10").unwrap();
        assert_eq!(cli.target.to_string(), "http://127.0.0.1:8080/");
        assert_eq!(cli.connections_word, Some(100));
        assert_eq!(cli.duration_word, Some(Duration::from_secs(10)));
        assert_eq!(cli.flags.timeout, Duration::from_secs(10));
    }

    #[test]
    fn flags_of_wrk_are_read() {
        let cli = words("wrk -t8 -c100 -d10s --latency --timeout 2s http://a/b").unwrap();
        assert_eq!(
            (cli.flags.threads, cli.flags.connections),
            (Some(8), Some(100))
        );
        assert_eq!(cli.flags.duration, Some(Duration::from_secs(10)));
        assert!(cli.flags.output.latency);
    }

    #[test]
    fn flags_of_wrk2_are_read() {
        let cli = words("wrk2 -t3 -c9 -d15s -R100 -L -H a:b -T 2s http://a/b").unwrap();
        assert_eq!(cli.flags.load.rate.as_deref(), Some("100"));
        assert_eq!(cli.flags.timeout, Duration::from_secs(2));
        let cli = words("wrk2 -t2 -c1k --rate 2k --latency http://a").unwrap();
        assert_eq!(cli.flags.connections, Some(1000));
    }

    #[test]
    fn misuse_is_one_line() {
        check_misuse("hp-bench", "required arguments were not provided: <TARGET>");
        check_misuse("hp-bench a:1 --timeot 3", "a similar argument exists");
        check_misuse("hp-bench a:1 0", "\"0\" is no count");
        check_misuse("hp-bench a:1 -d 10x", "\"10x\"");
        check_misuse("hp-bench a", "no port");
        check_misuse("hp-bench a:1 --engine kqueue", "kqueue");
    }

    #[test]
    fn help_is_not_misuse() {
        assert!(matches!(words("hp-bench --help"), Err(Stop::Asked(_))));
        assert!(matches!(words("hp-bench --version"), Err(Stop::Asked(_))));
    }
}
