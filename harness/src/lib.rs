//! The harness behind `make bench`: it launches hp-echo, hp-proxy and hp-bench on loopback, visits every cell of the
//! plan in randomised interleaved rounds, and writes what it saw, raw and summarised, below `results/`.
//!
//! ```text
//! cli ──► plan ──► topology ──► round ──► analyse ──► report ──► index
//!                  process      load      stats       table
//!                               cpu
//! ```
//!
//! It never averages over a failure: a cell in which any round had errors is VOID and has no figures.

pub mod analyse;
pub mod cli;
pub mod clock;
pub mod counters;
pub mod cpu;
pub mod error;
pub mod gate;
pub mod index;
pub mod load;
pub mod machine;
pub mod plan;
pub mod process;
pub mod raw;
pub mod relay;
pub mod report;
pub mod round;
pub mod stats;
pub mod subject;
pub mod sweep;
pub mod table;
pub mod topology;
pub mod workload;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::analyse::Row;
use crate::cli::{Places, Word};
use crate::error::Error;
use crate::machine::Machine;
use crate::process::Launcher;
use crate::report::Session;
use crate::sweep::Plan;
use crate::topology::Topology;

/// Runs the command line and gives the process's exit code: 0 done, 1 could not start or measure, 2 misuse.
pub fn run(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.into_iter().collect();
    if gate::is_asked_for(&words) {
        return gate::main(words);
    }
    match cli::parse(words) {
        Ok(Word::Bench(plan, places)) => match bench(&plan, &places) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("harness: {error}");
                ExitCode::FAILURE
            }
        },
        Err(refusal) => refusal.print(),
    }
}

/// One session: launch, warm up, measure, analyse, write.
fn bench(plan: &Plan, places: &Places) -> Result<(), Error> {
    let launcher = Launcher::probe(&places.bin_dir, &machine::cpus_allowed())?;
    let machine = Machine::read(plan, &launcher, clock::wall());
    eprint!("{}", report::opening(plan, &machine));
    if !launcher.ends_with_parent() {
        eprintln!(
            "no setpriv: servers outlive a killed harness; install util-linux, or end with Ctrl-C"
        );
    }

    let rows = {
        let mut topology = Topology::start(plan, &launcher)?;
        round::warm_up(plan, &mut topology, &launcher, &mut |line| {
            eprintln!("{line}")
        })?;
        let records = round::run(plan, &mut topology, &launcher, &mut |line| {
            eprintln!("{line}")
        })?;
        analyse::rows(plan, &records)
    };

    let session = Session {
        plan,
        machine: &machine,
        rows: &rows,
    };
    let folder = report::write(&session, &places.out)?;
    for skipped in index::regenerate(&places.out)? {
        eprintln!(
            "harness: {}: not a readable run; the index leaves it out",
            skipped.display()
        );
    }
    let void = rows.iter().filter(|row| Row::is_void(row)).count();
    eprintln!(
        "{} cells, {void} of them VOID; written to {}",
        rows.len(),
        folder.display()
    );
    print!("{}", report::tables(&session));
    Ok(())
}
