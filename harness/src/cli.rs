//! The command line: flags and their defaults in, a complete [`Plan`] out.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand, value_parser};

use crate::sweep::{Engine, Plan, listed};

/// What the command line asks for.
#[derive(Debug)]
pub enum Word {
    /// Measure this plan, with programs and results at these places.
    Bench(Plan, Places),
}

/// Where the harness finds programs and puts results.
#[derive(PartialEq, Eq, Debug)]
pub struct Places {
    /// Folder of hp-echo, hp-proxy and hp-bench.
    pub bin_dir: PathBuf,
    /// Folder that gets the run's folder and the index.
    pub out: PathBuf,
}

/// A command line that is not followed: misuse, or a question about the command line itself.
#[derive(Debug)]
pub struct Refusal(clap::Error);

impl Refusal {
    /// Prints the message; exit code 2, or 0 for `--help` and `--version`.
    pub fn print(&self) -> ExitCode {
        match self.0.print() {
            Ok(()) | Err(_) => (), // Without a terminal or a pipe nobody is left to be told.
        }
        ExitCode::from(u8::try_from(self.0.exit_code()).unwrap_or(2))
    }
}

/// Reads the command line, the program's name first.
///
/// # Errors
/// [`Refusal`] when a flag is unknown, a value is out of its range, or a list names a value twice.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Word, Refusal> {
    let args = Args::try_parse_from(words).map_err(Refusal)?;
    let Command::Bench(flags) = args.command;
    flags
        .resolve()
        .map(|(plan, places)| Word::Bench(plan, places))
}

/// Measures hp-proxy and hp-echo on this machine and writes tables that others can repeat.
#[derive(Parser)]
#[command(name = "harness", version, disable_help_subcommand = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sweep engines, workers and connections, direct and proxied, in randomised interleaved rounds
    Bench(Flags),
}

#[derive(clap::Args)]
struct Flags {
    /// Engines of the measured server; the last is the reference of the ratios [default: uring,epoll]
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    engines: Option<Vec<Engine>>,
    /// Workers of the measured server [default: 1,2]
    #[arg(long, value_delimiter = ',', value_name = "LIST", value_parser = value_parser!(u32).range(1..=1024))]
    workers: Option<Vec<u32>>,
    /// Client connections of the closed loop [default: 1,16,100,512; with --quick 16,100]
    #[arg(long, value_delimiter = ',', value_name = "LIST", value_parser = value_parser!(u32).range(1..=1_000_000))]
    connections: Option<Vec<u32>>,
    /// Length of one run [default: 2; with --quick 1]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=3600))]
    seconds: Option<u32>,
    /// Visits to every cell; a verdict needs 5 [default: 5; with --quick 2]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Bytes of the answer's body
    #[arg(long, value_name = "BYTES", default_value_t = 13)]
    body: u32,
    /// Engine of the load generator, and of the backend behind a proxy
    #[arg(long, value_name = "ENGINE", default_value = "epoll")]
    load_engine: Engine,
    /// Threads of the load generator, at most one per connection
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=1024))]
    load_threads: u32,
    /// Seed of the order of the rounds and of the bootstrap
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Folder for results; the run gets DATE-MACHINE/COMMIT below it
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,
    /// Folder of the programs
    #[arg(long, value_name = "DIR", default_value = "target/release")]
    bin_dir: PathBuf,
    /// Other defaults, for a look in about a minute
    #[arg(long)]
    quick: bool,
}

impl Flags {
    fn resolve(self) -> Result<(Plan, Places), Refusal> {
        let connections: &[u32] = if self.quick {
            &[16, 100]
        } else {
            &[1, 16, 100, 512]
        };
        let (seconds, rounds) = if self.quick { (1, 2) } else { (2, 5) };
        let plan = Plan {
            engines: self
                .engines
                .unwrap_or_else(|| vec![Engine::Uring, Engine::Epoll]),
            workers: self.workers.unwrap_or_else(|| vec![1, 2]),
            connections: self.connections.unwrap_or_else(|| connections.to_vec()),
            seconds: self.seconds.unwrap_or(seconds),
            rounds: self.rounds.unwrap_or(rounds),
            body_bytes: self.body,
            load_engine: self.load_engine,
            load_threads: self.load_threads,
            seed: self.seed,
        };
        distinct("--engines", &plan.engines)?;
        distinct("--workers", &plan.workers)?;
        distinct("--connections", &plan.connections)?;
        Ok((
            plan,
            Places {
                bin_dir: self.bin_dir,
                out: self.out,
            },
        ))
    }
}

/// Refuses a list that would measure one cell twice under one name.
fn distinct<T: PartialEq + std::fmt::Display>(flag: &str, items: &[T]) -> Result<(), Refusal> {
    let Some(twice) = items
        .iter()
        .enumerate()
        .find(|(index, item)| items[..*index].contains(item))
    else {
        return Ok(());
    };
    let text = format!(
        "{flag} {}: {} is listed twice; leave one out",
        listed(items),
        twice.1
    );
    Err(Refusal(
        Args::command().error(ErrorKind::ValueValidation, text),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(line: &str) -> Result<Plan, String> {
        match parse(line.split(' ').map(OsString::from)) {
            Ok(Word::Bench(plan, _places)) => Ok(plan),
            Err(Refusal(error)) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_defaults_are_the_full_sweep() {
        let plan = plan_of("harness bench").unwrap();
        assert_eq!(plan.connections, [1, 16, 100, 512]);
        assert_eq!(
            (plan.seconds, plan.rounds, plan.body_bytes, plan.seed),
            (2, 5, 13, 1)
        );
        assert_eq!(plan.reference(), Engine::Epoll);
    }

    #[test]
    fn a_flag_wins_over_quick() {
        let plan = plan_of("harness bench --quick --rounds 9").unwrap();
        assert_eq!((plan.seconds, plan.rounds), (1, 9));
    }

    #[test]
    fn the_recorded_command_repeats_the_plan() {
        let plan = plan_of("harness bench --quick --engines epoll,uring --seed 9").unwrap();
        assert_eq!(plan_of(&plan.command()).unwrap(), plan);
    }

    #[test]
    fn misuse_says_what_is_wrong() {
        for (line, part) in [
            (
                "harness bench --engines kqueue",
                "write uring, epoll or threads",
            ),
            ("harness bench --connections 16,16", "16 is listed twice"),
            ("harness bench --rounds 0", "--rounds"),
            ("harness bench --fast", "--fast"),
            ("harness", "bench"),
        ] {
            let message = plan_of(line).unwrap_err();
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
            let Err(Refusal(error)) = parse(line.split(' ').map(OsString::from)) else {
                panic!("{line} is followed");
            };
            assert_eq!(error.exit_code(), code, "{line}");
        }
    }
}
