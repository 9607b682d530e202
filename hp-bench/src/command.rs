//! Which of the program's commands the words ask for.
//!
//! The first word decides: the name of a command, or else a target, so that the short form of a run
//! needs no name. No target can be mistaken for a name, since a target has a port or a scheme.
//!
//! Must not know: what a command does.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, Parser};

use crate::cli::{self, Cli, Flags, Stop, one_line};
use crate::diff::Thresholds;
use crate::output::{JsonTo, Output};
use crate::target::Target;

/// What to do.
#[derive(Clone, Debug)]
pub enum Command {
    /// Load a target.
    Run(Box<Cli>),
    /// Say what this machine can do.
    Calibrate(Calibrate),
    /// Compare targets in interleaved rounds.
    Compare(Box<Compare>),
    /// Search the highest rate that reaches the goals.
    Find(Box<Cli>),
    /// Add results.
    Merge(Merge),
    /// Show results on a page.
    Report(ReportPage),
    /// Compare two results.
    Diff(Diff),
}

/// Say what this machine can do: clock and counter, lateness of timers, round trips over the loopback by engine, what CPUs do beside
/// each other, and what the limits allow. Takes two seconds.
#[derive(Clone, Debug, Parser)]
#[command(name = "hp-bench calibrate", bin_name = "hp-bench calibrate", version)]
pub struct Calibrate {
    /// Write the result as JSON; with - to stdout, and the table to stderr
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<OsString>,
}

impl Calibrate {
    /// Where the JSON goes.
    pub fn json_to(&self) -> JsonTo {
        JsonTo::of(self.json.as_deref())
    }
}

/// Compare targets in one session: rounds in which each has a run, in random order, with the first one twice as the control.
/// Ratios are taken within a round and have 95 % intervals over the rounds.
#[derive(Clone, Debug, Parser)]
#[command(name = "hp-bench compare", bin_name = "hp-bench compare", version, after_help = AFTER_COMPARE)]
pub struct Compare {
    /// Two or more targets: HOST:PORT, http://HOST:PORT/PATH or unix:/SOCKET:/PATH
    #[arg(required = true, value_name = "TARGET", num_args = 2..=TARGETS_MAX)]
    pub targets: Vec<Target>,

    /// Rounds, 6 to 1000; each has a run of every target, and one more of the first
    #[arg(long, value_name = "N", default_value_t = ROUNDS_DEFAULT, value_parser = parse_rounds)]
    pub rounds: u32,

    /// What each run does.
    #[command(flatten)]
    pub flags: Flags,
}

/// Add results that hp-bench wrote at the same time, exactly: histograms are summed, never percentiles averaged.
#[derive(Clone, Debug, Parser)]
#[command(name = "hp-bench merge", bin_name = "hp-bench merge", version)]
pub struct Merge {
    /// Results, as --json or --html wrote them; - reads standard input
    #[arg(required = true, value_name = "FILE", num_args = 1..=FILES_MAX)]
    pub files: Vec<PathBuf>,

    /// What becomes of the sum.
    #[command(flatten)]
    pub output: Output,
}

/// Show results on one page with plots, which needs nothing else.
#[derive(Clone, Debug, Parser)]
#[command(name = "hp-bench report", bin_name = "hp-bench report", version)]
pub struct ReportPage {
    /// Results, as --json or --html wrote them; - reads standard input
    #[arg(required = true, value_name = "FILE", num_args = 1..=PAGE_FILES_MAX)]
    pub files: Vec<PathBuf>,

    /// The page, replaced
    #[arg(
        short = 'o',
        long = "out",
        value_name = "FILE",
        required_unless_present = "svg"
    )]
    pub page: Option<PathBuf>,

    /// A folder for the plots as SVG files, which is made
    #[arg(long, value_name = "DIR")]
    pub svg: Option<PathBuf>,
}

/// Compare two results; exit status 3 where the newer one is worse by more than a threshold.
#[derive(Clone, Debug, Parser)]
#[command(name = "hp-bench diff", bin_name = "hp-bench diff", version)]
pub struct Diff {
    /// The result to compare with
    #[arg(value_name = "OLD")]
    pub old: PathBuf,

    /// The result to judge
    #[arg(value_name = "NEW")]
    pub new: PathBuf,

    /// The thresholds.
    #[command(flatten)]
    pub limits: Limits,
}

/// How much worse is still accepted.
#[derive(Args, Clone, Copy, Debug)]
pub struct Limits {
    /// Accepted loss of requests per second, percent
    #[arg(long, value_name = "PERCENT", value_parser = percent, default_value = "5")]
    pub rate_loss: f64,

    /// Accepted gain of p50 and p99, percent
    #[arg(long, value_name = "PERCENT", value_parser = percent, default_value = "10")]
    pub latency_gain: f64,

    /// Accepted gain of the target's CPU time per request, percent
    #[arg(long, value_name = "PERCENT", value_parser = percent, default_value = "5")]
    pub cost_gain: f64,

    /// Accepted gain of failed requests, in percent of all requests
    #[arg(long, value_name = "POINTS", value_parser = percent, default_value = "0")]
    pub error_gain: f64,
}

impl From<Limits> for Thresholds {
    fn from(limits: Limits) -> Self {
        Self {
            rate: limits.rate_loss,
            latency: limits.latency_gain,
            cost: limits.cost_gain,
            errors: limits.error_gain,
        }
    }
}

/// Reads the words; the first is the program's name.
///
/// # Errors
/// [`Stop`] where there is nothing to do.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Command, Stop> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    let name = words.get(1).and_then(|word| word.to_str());
    match name.unwrap_or_default() {
        "calibrate" => parse_as::<Calibrate>(&words).map(Command::Calibrate),
        "compare" => parse_as::<Compare>(&words).map(|compare| Command::Compare(Box::new(compare))),
        "merge" => parse_as::<Merge>(&words)
            .and_then(mergeable)
            .map(Command::Merge),
        "report" => parse_as::<ReportPage>(&words).map(Command::Report),
        "diff" => parse_as::<Diff>(&words).map(Command::Diff),
        "run" => {
            words.remove(1);
            run(words)
        }
        "find" => {
            words.remove(1);
            cli::parse(words).map(|cli| Command::Find(Box::new(cli)))
        }
        _ => run(words),
    }
}

fn run(words: Vec<OsString>) -> Result<Command, Stop> {
    cli::parse(words).map(|cli| Command::Run(Box::new(cli)))
}

/// Reads the words behind a command's name.
fn parse_as<T: Parser>(words: &[OsString]) -> Result<T, Stop> {
    // The name stands for the program's, which clap shows as the command's own.
    let words = words.iter().skip(1);
    T::try_parse_from(words).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Stop::Asked(error.to_string()),
        _ => {
            let name = T::command().get_name().to_owned();
            Stop::Misuse(
                one_line(&error.to_string(), "hp-bench")
                    .replace("see hp-bench --help", &format!("see {name} --help")),
            )
        }
    })
}

/// Refuses what only a run can do.
fn mergeable(merge: Merge) -> Result<Merge, Stop> {
    if merge.output.csv.is_some() {
        return Err(Stop::Misuse(String::from(
            "--csv needs single requests, which results do not have; give it to a run",
        )));
    }
    Ok(merge)
}

/// So many that there is an interval, and an end.
fn parse_rounds(text: &str) -> Result<u32, String> {
    let range = ROUNDS_MIN..=ROUNDS_MAX;
    let rounds = text.parse().ok().filter(|rounds| range.contains(rounds));
    rounds.ok_or_else(|| {
        format!("{text:?} is no number of rounds; give {ROUNDS_MIN} to {ROUNDS_MAX}")
    })
}

/// A percentage of 0 or more.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    match number.parse::<f64>() {
        Ok(percent) if (0.0..=PERCENT_MAX).contains(&percent) => Ok(percent),
        _ => Err(format!("{text:?} is no percentage; write 5 or 2.5")),
    }
}

/// Targets in one comparison, each of which has a letter.
const TARGETS_MAX: usize = 8;
/// Rounds where nobody says how many.
pub const ROUNDS_DEFAULT: u32 = 15;
/// Fewer in one comparison have no interval.
pub const ROUNDS_MIN: u32 = 6;
/// Rounds in one comparison.
pub const ROUNDS_MAX: u32 = 1_000;
/// Results that are added in one go; sums can be added again.
const FILES_MAX: usize = 1_000;
/// Results on one page: more lines than that nobody tells apart.
const PAGE_FILES_MAX: usize = 8;
const PERCENT_MAX: f64 = 1e6;

const AFTER_COMPARE: &str = "\
Each run takes -d (also --seconds) [default: 2s] after its --warmup. Without -R the throughput is compared, with -R the latency, and always
the CPU time per request: this program's, and the targets' where --pid or --cgroup names them.

faster and slower are said only when the interval excludes 1 and the effect exceeds 2 %, twice half the width of the control's
interval, and how far that reaches from 1. A run with errors or with fewer connections than asked is void: it is named, made
again at most 3 times, and never averaged. The order of the runs follows from --seed.

Exit status: 0; 1 where a target could not be reached; 2 misuse; 4 where a target stayed void in a round; 5 with --strict where
this program was the limit of a run; 130 and 143 interrupted, with the rounds so far.";

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> Result<Command, Stop> {
        parse(line.split(' ').map(OsString::from))
    }

    fn check_misuse(line: &str, part: &str) {
        match command(line) {
            Err(Stop::Misuse(text)) => {
                assert!(text.contains(part), "{text}");
                assert!(!text.contains('\n'), "{text}");
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn run_is_implied() {
        for line in ["hp-bench a:1 2 3", "hp-bench run a:1 2 3"] {
            let Ok(Command::Run(cli)) = command(line) else {
                panic!("{line}")
            };
            assert_eq!(cli.target.to_string(), "http://a:1/");
            assert_eq!(cli.connections_word, Some(2));
        }
    }

    #[test]
    fn find_takes_the_words_of_a_run() {
        let Ok(Command::Find(cli)) = command("hp-bench find a:1 -c 4 --slo p99<1ms") else {
            panic!("find is a command")
        };
        assert_eq!(cli.flags.connections, Some(4));
    }

    #[test]
    fn compare_takes_targets_and_the_flags_of_a_run() {
        let line = "hp-bench compare a:1 unix:/b --rounds 6 --seconds 3 -R 1k --pid A=1 --pid B=2";
        let Ok(Command::Compare(compare)) = command(line) else {
            panic!("compare is a command")
        };
        assert_eq!((compare.targets.len(), compare.rounds), (2, 6));
        let seconds = compare.flags.duration.map(|time| time.as_secs());
        assert_eq!((seconds, compare.flags.load.pid.len()), (Some(3), 2));
        check_misuse("hp-bench compare a:1", "see hp-bench compare --help");
        check_misuse("hp-bench compare a:1 b:2 --rounds 5", "give 6 to 1000");
        check_misuse("hp-bench compare a:1 b:2 --pid B=x", "no process");
        check_misuse("hp-bench compare a:1 b:2 --cgroup B=", "no control group");
    }

    #[test]
    fn calibrate_takes_a_file_and_nothing_else() {
        let Ok(Command::Calibrate(words)) = command("hp-bench calibrate --json -") else {
            panic!("calibrate is a command")
        };
        assert_eq!(words.json_to(), JsonTo::Stdout);
        check_misuse("hp-bench calibrate a:1", "see hp-bench calibrate --help");
    }

    #[test]
    fn words_that_are_no_command_are_a_target() {
        assert!(matches!(command("hp-bench mergee"), Err(Stop::Misuse(_))));
        assert!(matches!(command("hp-bench"), Err(Stop::Misuse(_))));
    }

    #[test]
    fn commands_take_files() {
        let Ok(Command::Merge(merge)) = command("hp-bench merge a.json b.json --json - -q") else {
            panic!("merge")
        };
        assert_eq!((merge.files.len(), merge.output.quiet), (2, true));
        let Ok(Command::Diff(diff)) = command("hp-bench diff a b --latency-gain 2.5%") else {
            panic!("diff")
        };
        let thresholds = Thresholds::from(diff.limits);
        assert!((thresholds.latency - 2.5).abs() < 1e-9 && (thresholds.rate - 5.0).abs() < 1e-9);
        let Ok(Command::Report(report)) = command("hp-bench report a.json -o b.html") else {
            panic!("report")
        };
        assert_eq!(report.page, Some(PathBuf::from("b.html")));
    }

    #[test]
    fn misuse_of_a_command_is_one_line_that_names_it() {
        check_misuse("hp-bench merge", "<FILE>...; see hp-bench merge --help");
        check_misuse("hp-bench merge a --csv b", "give it to a run");
        check_misuse("hp-bench report a.json", "--out <FILE>");
        check_misuse("hp-bench diff a", "<NEW>");
        check_misuse(
            "hp-bench diff a b --rate-loss much",
            "\"much\" is no percentage",
        );
        check_misuse(
            "hp-bench diff a b --cost-gain NaN",
            "\"NaN\" is no percentage",
        );
    }

    #[test]
    fn help_of_a_command_is_not_misuse() {
        for line in [
            "hp-bench merge --help",
            "hp-bench diff -h",
            "hp-bench report --version",
        ] {
            assert!(matches!(command(line), Err(Stop::Asked(_))), "{line}");
        }
        let Err(Stop::Asked(help)) = command("hp-bench merge --help") else {
            panic!("help is asked for")
        };
        assert!(
            help.contains("Usage: hp-bench merge [OPTIONS] <FILE>..."),
            "{help}"
        );
    }
}
