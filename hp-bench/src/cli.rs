//! The words of the command line, and what they mean before the network is asked.
//!
//! Must not know: names' addresses, sockets, the runtime.

use std::ffi::OsString;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;
use hp_core::rt::Engine;

use crate::output::Output;
use crate::plan::parse_time;
use crate::target::Target;

/// Load generator for HTTP/1.1: closed loop, keep-alive, full latency histograms.
#[derive(Clone, Debug, Parser)]
#[command(name = "hp-bench", version, about, override_usage = USAGE, after_help = AFTER)]
pub struct Cli {
    /// Where the requests go.
    #[arg(help = "HOST:PORT or http://HOST[:PORT][/PATH]")]
    pub target: Target,

    /// Connections, as -c
    #[arg(value_name = "CONNECTIONS", value_parser = clap::value_parser!(u32).range(1..))]
    pub connections_word: Option<u32>,

    /// Seconds, as -d
    #[arg(value_name = "SECONDS", value_parser = parse_time)]
    pub duration_word: Option<Duration>,

    /// Connections kept open, each with one request under way [default: 50]
    #[arg(short = 'c', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: Option<u32>,

    /// Threads [default: the CPUs it may use, at most CONNECTIONS]
    #[arg(short = 't', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub threads: Option<u32>,

    /// Length of the run: 10, 10s, 500ms, 1m [default: 10s]
    #[arg(short = 'd', long, value_name = "TIME", value_parser = parse_time)]
    pub duration: Option<Duration>,

    /// Longest wait for a connection and for an answer, 1ms to 60s
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "10s")]
    pub timeout: Duration,

    /// A header field to send; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,

    /// The request's method [default: GET, with -b POST]
    #[arg(short = 'm', long, value_name = "METHOD")]
    pub method: Option<String>,

    /// The request's body: a text, or a file's content
    #[arg(short = 'b', long, value_name = "TEXT|@FILE")]
    pub body: Option<OsString>,

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
    Cli::try_parse_from(words).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Stop::Asked(error.to_string()),
        _ => Stop::Misuse(one_line(&error.to_string())),
    })
}

/// What the program prints for misuse is one line: the first paragraph of clap's text and its tip.
pub(crate) fn one_line(text: &str) -> String {
    let first = text.split("\n\n").next().unwrap_or_default();
    let what: Vec<&str> = first.split_whitespace().collect();
    let what = what.join(" ");
    let what = what.strip_prefix("error: ").unwrap_or(&what);
    let tip = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("tip: "));
    match tip {
        Some(tip) => format!("{what}; {tip}; see hp-bench --help"),
        None => format!("{what}; see hp-bench --help"),
    }
}

const USAGE: &str = "hp-bench [OPTIONS] TARGET [CONNECTIONS [SECONDS]]";

const AFTER: &str = "\
Closed loop: every connection sends its next request when the answer to the last one is complete.
A stall of the server therefore hides the requests that were not sent.

Exit status: 0; 1 where it could not start; 2 misuse; 4 where there were errors;
130 and 143 interrupted, with a report of what was done.";

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
        assert_eq!(cli.timeout, Duration::from_secs(10));
    }

    #[test]
    fn flags_of_wrk_are_read() {
        let cli = words("wrk -t8 -c100 -d10s --latency --timeout 2s http://a/b").unwrap();
        assert_eq!((cli.threads, cli.connections), (Some(8), Some(100)));
        assert_eq!(cli.duration, Some(Duration::from_secs(10)));
        assert!(cli.output.latency);
    }

    #[test]
    fn misuse_is_one_line() {
        check_misuse("hp-bench", "required arguments were not provided: <TARGET>");
        check_misuse("hp-bench a:1 --timeot 3", "a similar argument exists");
        check_misuse("hp-bench a:1 0", "0 is not in 1..");
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
