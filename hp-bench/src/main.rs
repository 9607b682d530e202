//! The program: words in, report and exit status out.

use std::fs;
use std::process::ExitCode;

use hp_bench::cli::{self, Stop};
use hp_bench::plan::{JsonTo, Plan};
use hp_bench::report::{Report, json, spectrum, summary};
use hp_core::rt::worker::count_for_this_process;
use hp_core::sys::signal::Signal;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(Stop::Asked(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(Stop::Misuse(line)) => return fail(MISUSE, &line),
    };
    let plan = match Plan::resolve(&cli, count_for_this_process()) {
        Ok(plan) => plan,
        Err(error) if error.is_misuse() => return fail(MISUSE, &error.to_string()),
        Err(error) => return fail(FAILED, &error.to_string()),
    };
    match hp_bench::run(&plan) {
        Ok(run) => present(&plan, &run),
        Err(error) => fail(FAILED, &error.to_string()),
    }
}

/// Writes the report and chooses the exit status.
fn present(plan: &Plan, run: &hp_bench::Run) -> ExitCode {
    let report = Report {
        plan,
        record: &run.record,
        addr: run.addr,
        engine: &run.engine,
        engine_story: &run.engine_story,
        started_wall_ns: run.started_wall_ns,
        interrupted: run.interrupted.is_some(),
    };
    let mut text = if plan.quiet {
        String::new()
    } else {
        summary(&report)
    };
    if plan.spectrum && !plan.quiet {
        text.push_str(&spectrum(run.record.latency()));
    }
    match &plan.json {
        JsonTo::Nowhere => print!("{text}"),
        JsonTo::Stdout => {
            eprint!("{text}");
            print!("{}", json(&report));
        }
        JsonTo::File(file) => {
            print!("{text}");
            if let Err(error) = fs::write(file, json(&report)) {
                let line = format!(
                    "cannot write {}: {error}; name another --json",
                    file.display()
                );
                return fail(FAILED, &line);
            }
        }
    }
    match run.interrupted {
        Some(Signal::Interrupt) => ExitCode::from(INTERRUPTED),
        Some(_terminated) => ExitCode::from(TERMINATED),
        None if run.record.errors.blamed() > 0 => ExitCode::from(ERRORS),
        None => ExitCode::SUCCESS,
    }
}

fn fail(status: u8, line: &str) -> ExitCode {
    eprintln!("hp-bench: {line}");
    ExitCode::from(status)
}

const FAILED: u8 = 1;
const MISUSE: u8 = 2;
const ERRORS: u8 = 4;
const INTERRUPTED: u8 = 128 + 2;
const TERMINATED: u8 = 128 + 15;
