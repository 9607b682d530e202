//! The command line: words and their defaults in, complete orders out.

pub mod results;

use hp_core::obs::notice::say;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum, value_parser};

use crate::error::Error;
use crate::plan::{Overrides, Plan};
use crate::probe::cross;
use crate::session::Order;
use crate::subject::Name;

/// What the command line asks for.
#[derive(Debug)]
pub enum Word {
    /// Run a session, in this network.
    Bench(Box<Order>, Where),
    /// Read results, measure nothing.
    Derive(results::Word),
    /// List the plans of a data folder.
    Plans(PathBuf),
    /// Count for so many ms, and print how far that went.
    Spin(u64),
    /// Be a backend that refuses every connection, until a signal.
    Refuse,
}

/// The network that a session is asked to run in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Where {
    /// One of its own where the kernel allows it.
    Own,
    /// The host's loopback.
    Host,
    /// The one that the harness made for itself inside of the named one.
    Inside(String),
}

/// A command line that is not followed.
#[derive(Debug)]
pub enum Refusal {
    /// Misuse, or a question about the command line itself.
    Usage(clap::Error),
    /// A plan that cannot be read or followed.
    Plan(Error),
}

impl Refusal {
    /// Prints the message; exit code 2, or 0 for `--help` and `--version`.
    pub fn print(&self) -> ExitCode {
        match self {
            Self::Usage(error) => {
                match error.print() {
                    Ok(()) | Err(_) => (), // Without a terminal or a pipe nobody is left to be told.
                }
                ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
            }
            Self::Plan(error) => {
                say(format_args!("harness: {error}"));
                ExitCode::from(2)
            }
        }
    }
}

/// Reads the command line, the program's name first.
///
/// # Errors
/// [`Refusal`] when a word is unknown, a value is out of its range, or the plan is not one.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Word, Refusal> {
    let args = Args::try_parse_from(words).map_err(Refusal::Usage)?;
    match args.command {
        Command::Bench(flags) => flags.resolve().map_err(Refusal::Plan),
        Command::Derive(word) => Ok(Word::Derive(word)),
        Command::Plans { data } => Ok(Word::Plans(data)),
        Command::Spin { ms } => Ok(Word::Spin(ms)),
        Command::Refuse => Ok(Word::Refuse),
    }
}

/// Measures hp-proxy beside its floor and its peers, and writes results that others can repeat.
#[derive(Parser)]
#[command(name = "harness", version, disable_help_subcommand = true, after_help = AFTER)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a session: every cell of a plan, in randomised interleaved rounds
    Bench(Box<Flags>),
    #[command(flatten)]
    Derive(results::Word),
    /// List the plans, with their lengths
    Plans {
        /// Folder of plans and peers
        #[arg(long, value_name = "DIR", default_value = "harness")]
        data: PathBuf,
    },
    /// Count on a CPU, to compare one with another
    #[command(hide = true)]
    Spin {
        #[arg(value_parser = value_parser!(u64).range(1..=60_000))]
        ms: u64,
    },
    /// Take a port that refuses every connection, and print which
    #[command(hide = true)]
    Refuse,
}

#[derive(clap::Args)]
struct Flags {
    /// A plan of the data folder by its name, or a file
    #[arg(long, value_name = "NAME|FILE", default_value = "bench")]
    plan: String,
    /// One round of half a second each, for a look at everything
    #[arg(long)]
    quick: bool,
    /// Rounds of every workload, in place of the plan's
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1_000))]
    rounds: Option<u32>,
    /// Length of every visit, in place of the plan's
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// Seed of the order of visits and of the bootstrap, in place of the plan's
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Only these workloads
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    only: Vec<String>,
    /// Only these subjects, beside reference and control
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    subjects: Vec<Name>,
    /// Repeat one plain closed loop with another load generator, too, and state the ratio of answers per second
    #[arg(long, value_name = "TOOL", value_parser = cross::TOOLS)]
    cross_check: Option<String>,
    /// Folder for results; the session gets DATE-HOST/HHMM-COMMIT below it
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,
    /// Folder of our programs
    #[arg(long, value_name = "DIR", default_value = "target/release")]
    bin_dir: PathBuf,
    /// Folder of plans and peers
    #[arg(long, value_name = "DIR", default_value = "harness")]
    data: PathBuf,
    /// Network of the session: one of its own where that is allowed, or the host's loopback
    #[arg(long, value_enum, default_value_t)]
    network: Asked,
    /// Measure sources that differ from their commit; the folder's name says so
    #[arg(long)]
    force: bool,
    /// For the harness itself: it runs in a network of its own, inside of this one
    #[arg(long, hide = true, value_name = "NETWORK")]
    inside: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum Asked {
    #[default]
    Own,
    Host,
}

impl Flags {
    fn resolve(self) -> Result<Word, Error> {
        let mut plan = Plan::read(&self.plan, &self.data)?;
        if self.quick {
            plan.attempts = 1;
        }
        let overrides = Overrides {
            rounds: self.rounds.or_else(|| self.quick.then_some(1)),
            seconds: self.seconds.or_else(|| self.quick.then_some(QUICK_SECONDS)),
            seed: self.seed,
            only: self.only.clone(),
            subjects: self.subjects.clone(),
        };
        let failed = |cause| Error::Plan {
            path: PathBuf::from(&self.plan),
            cause,
        };
        let mut plan = plan.with(&overrides).map_err(failed)?;
        if let Some(tool) = &self.cross_check {
            cross::add(&mut plan.workloads, tool).map_err(failed)?;
        }
        let place = match (self.inside.clone(), self.network) {
            (Some(outer), _) => Where::Inside(outer),
            (None, Asked::Own) => Where::Own,
            (None, Asked::Host) => Where::Host,
        };
        let order = Order {
            command: self.command(&plan),
            plan,
            bin_dir: self.bin_dir,
            data: self.data,
            out: self.out,
            takes_dirty: self.force,
        };
        Ok(Word::Bench(Box::new(order), place))
    }

    /// The command line that repeats the session; where it finds things is left out.
    fn command(&self, plan: &Plan) -> String {
        let mut words = vec![format!("harness bench --plan {}", plan.name)];
        if self.quick {
            words.push("--quick".into());
        }
        words.extend(self.rounds.map(|rounds| format!("--rounds {rounds}")));
        words.extend(self.seconds.map(|seconds| format!("--seconds {seconds}")));
        words.extend(self.seed.map(|seed| format!("--seed {seed}")));
        if !self.only.is_empty() {
            words.push(format!("--only {}", self.only.join(",")));
        }
        if !self.subjects.is_empty() {
            let names: Vec<String> = self.subjects.iter().map(ToString::to_string).collect();
            words.push(format!("--subjects {}", names.join(",")));
        }
        words.extend(
            self.cross_check
                .iter()
                .map(|tool| format!("--cross-check {tool}")),
        );
        if self.network == Asked::Host {
            words.push("--network host".into());
        }
        words.join(" ")
    }
}

const QUICK_SECONDS: f64 = 0.5;

const AFTER: &str = "\
Of the gate, each with a --help of its own: `compare` holds a revision against an older one, `counters` counts what a request
costs a server, `smoke` tries every engine and holds its counts against harness/baseline.json.";

#[cfg(test)]
mod tests {
    use super::*;

    fn order_of(line: &str) -> Result<(Order, Where), String> {
        let data = concat!(" --data ", env!("CARGO_MANIFEST_DIR"));
        let line = if line.contains(" bench") {
            format!("{line}{data}")
        } else {
            line.to_owned()
        };
        match parse(line.split(' ').map(OsString::from)) {
            Ok(Word::Bench(order, place)) => Ok((*order, place)),
            Ok(other) => Err(format!("{other:?}")),
            Err(Refusal::Usage(error)) => Err(error.to_string()),
            Err(Refusal::Plan(error)) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_default_is_the_plan_called_bench() {
        let (order, place) = order_of("harness bench").unwrap();
        assert_eq!((order.plan.name.as_str(), place), ("bench", Where::Own));
        assert!(!order.takes_dirty);
    }

    #[test]
    fn flags_win_over_quick_and_quick_over_the_plan() {
        let (order, _place) = order_of("harness bench --quick --rounds 3").unwrap();
        let workload = &order.plan.workloads[0];
        assert_eq!(
            (
                workload.rounds,
                workload.rows[0].load.seconds,
                order.plan.attempts
            ),
            (3, 0.5, 1)
        );
    }

    #[test]
    fn the_recorded_command_repeats_the_session() {
        let line = "harness bench --plan bench --quick --rounds 2 --seconds 0.5 --seed 9 --only small,churn --subjects nginx --cross-check wrk --network host";
        let (order, _place) = order_of(line).unwrap();
        assert_eq!(order.command, line);
        assert_eq!(order_of(&order.command).unwrap().0, order);
    }

    #[test]
    fn misuse_says_what_is_wrong() {
        for (line, part) in [
            ("harness bench --plan nobody", "one of bench"),
            ("harness bench --only nobody", "it has sweep-w1"),
            ("harness bench --subjects nobody", "does not measure nobody"),
            ("harness bench --subjects A", "is no subject"),
            ("harness bench --rounds 0", "--rounds"),
            ("harness bench --seconds 0", "seconds is 0"),
            ("harness bench --fast", "--fast"),
            ("harness", "bench"),
        ] {
            let message = order_of(line).unwrap_err();
            assert!(message.contains(part), "{line}: {message}");
        }
    }

    #[test]
    fn misuse_is_exit_code_2_and_help_is_0() {
        for (line, code) in [
            ("harness bench --fast", 2),
            ("harness", 2),
            ("harness --help", 0),
        ] {
            let Err(Refusal::Usage(error)) = parse(line.split(' ').map(OsString::from)) else {
                panic!("{line} is followed");
            };
            assert_eq!(error.exit_code(), code, "{line}");
        }
    }
}
