//! The laboratory behind `make bench`: it launches backends, proxies and load generators on loopback, visits every cell
//! of a plan in randomised interleaved rounds, and writes what it saw, raw and derived, below `results/`.
//!
//! ```text
//! cli ──► plan, workload, subject          what is asked: text in, complete values out
//!  │
//!  └────► session ──► namespace, machine   where it runs
//!            ├──────► topology ──► process servers of a workload
//!            └──────► round ──► load       one visit after the other: cpu before, hp-bench, cpu after
//!                       │                  label: may it count, who was the limit, must it be repeated
//!                       ▼
//!                      raw ──► summary ──► page, plot, spectra ──► index, readme
//!                                 what is derived, by functions of the raw file and the plan alone: derive
//! ```
//!
//! It never averages over a failure, ranks by CPU time per request, and compares within one session only.

// Both panic where their reader has left.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod agree;
pub mod calibrate;
pub mod cli;
pub mod clock;
pub mod counters;
pub mod cpu;
pub mod derive;
pub mod error;
pub mod gate;
pub mod index;
pub mod interrupt;
pub mod label;
pub mod length;
pub mod load;
pub mod machine;
pub mod namespace;
mod output;
pub mod page;
pub mod peers;
pub mod plan;
pub mod plot;
pub mod probe;
pub mod process;
pub mod progress;
pub mod raw;
pub mod readme;
pub mod refuse;
pub mod relay;
pub mod round;
pub mod scatter;
pub mod session;
pub mod setting;
pub mod subject;
pub mod summary;
pub mod table;
mod text;
pub mod topology;
pub mod wire;
pub mod workload;

use hp_core::obs::notice::say;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::{Where, Word};
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::namespace::Network;
use crate::output::show;
use crate::plan::Plan;
use crate::session::{Ended, Order};

/// Runs the command line and gives the process's exit code: 0 done, 1 could not start or measure, 2 misuse, 130 and 143
/// interrupted, with what was seen until then.
pub fn run(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.into_iter().collect();
    if gate::is_asked_for(&words) {
        return gate::main(words);
    }
    let done = match cli::parse(words.iter().cloned()) {
        Ok(Word::Bench(order, place)) => return bench(&order, place, &words),
        Ok(Word::Derive(word)) => match word.run() {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Ok(Word::Plans(data)) => plans(&data),
        Ok(Word::Spin(ms)) => show(format_args!(
            "{}\n",
            calibrate::count_for(Duration::from_millis(ms))
        )),
        Ok(Word::Refuse) => refuse::run().map_err(|cause| Error::Spawn {
            command: "harness refuse".into(),
            cause,
        }),
        Err(refusal) => return refusal.print(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// One session, and what is derived from it.
fn bench(order: &Order, place: Where, words: &[OsString]) -> ExitCode {
    let network = match network(place, words) {
        Ok(network) => network,
        Err(cause) => {
            say(format_args!("harness: {cause}"));
            return ExitCode::from(2);
        }
    };
    let interrupt = Interrupt::watch();
    let ended = match session::run(order, network, &interrupt) {
        Ok(ended) => ended,
        Err(error) => {
            let code = failed(&error);
            return interrupt.exit_code().map_or(code, ExitCode::from);
        }
    };
    tell(&ended);
    if let Err(error) = publish(order, &ended) {
        return failed(&error);
    }
    match interrupt.exit_code() {
        Some(code) => ExitCode::from(code),
        None if ended.setting.course.visits == ended.setting.course.void => ExitCode::FAILURE,
        None => ExitCode::SUCCESS,
    }
}

/// Where the session's traffic flows. For a network of its own this process is replaced, and nothing comes back.
fn network(place: Where, words: &[OsString]) -> Result<Network, String> {
    match place {
        Where::Inside(outer) => namespace::set_up(&outer),
        Where::Host => Ok(namespace::host("asked for".into())),
        Where::Own => Ok(namespace::host(namespace::enter(words))),
    }
}

/// Derives what people read, and shows its tables. Only a whole session of a commit is listed.
fn publish(order: &Order, ended: &Ended) -> Result<(), Error> {
    let derived = derive::session(&ended.folder)?;
    derived.write(&ended.folder)?;
    let is_final = ended.setting.course.finished && !ended.setting.source.dirty;
    let skipped = if is_final {
        index::regenerate(&order.out)?
    } else {
        Vec::new()
    };
    for folder in skipped {
        say(format_args!(
            "harness: {}: not readable as a result; the index leaves it out",
            folder.display()
        ));
    }
    if let Some(page) = derived.files.get(Path::new(derive::PAGE_FILE)) {
        show(page)?;
    }
    Ok(())
}

fn tell(ended: &Ended) {
    let course = &ended.setting.course;
    if !course.finished {
        say("interrupted: what was seen until then is kept");
    }
    if course.is_drift {
        let pct = course.drift_pct.unwrap_or(0.0);
        say(format_args!(
            "DRIFT: the machine changed by {pct:+.1} % over the session; compare ratios, not absolute figures"
        ));
    }
    say(format_args!(
        "{} visits, {} of them void, {} parts of rounds repeated; {:.1} minutes; written to {}",
        course.visits,
        course.void,
        course.repeats,
        course.seconds / 60.0,
        ended.folder.display()
    ));
}

/// Lists the plans.
fn plans(data: &Path) -> Result<(), Error> {
    for name in plan::names(data) {
        let plan = Plan::read(&name, data)?;
        show(format_args!(
            "{name:<12} {:7.1} min  {:6} visits  {}\n",
            plan.length_seconds() / 60.0,
            plan.visits(),
            plan.title
        ))?;
    }
    Ok(())
}

fn failed(error: &Error) -> ExitCode {
    say(format_args!("harness: {error}"));
    ExitCode::FAILURE
}
