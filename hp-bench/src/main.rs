//! The program: words in, report and exit status out.

use std::io;
use std::process::ExitCode;

use hp_bench::calibrate::calibrate;
use hp_bench::cli::{Cli, Stop};
use hp_bench::command::{self, Command};
use hp_bench::compare::{Contest, compare};
use hp_bench::find::find;
use hp_bench::plan::{Plan, PlanError};
use hp_bench::present::{
    FAILED, MISUSE, check_writable, diff_files, merge_files, present, report_files, write,
};
use hp_core::obs::notice::say;
use hp_core::rt::worker::count_for_this_process;

fn main() -> ExitCode {
    let status = match command::parse(std::env::args_os()) {
        Ok(Command::Run(cli)) => run(&cli),
        Ok(Command::Calibrate(words)) => failing(calibrate(&words)),
        Ok(Command::Compare(words)) => Contest::resolve(&words, count_for_this_process())
            .map_err(|error| refused(&error))
            .and_then(|contest| compare(&contest)),
        Ok(Command::Find(cli)) => resolve(&cli).and_then(|plan| find(&plan)),
        Ok(Command::Merge(asked)) => failing(merge_files(&asked.files, &asked.output)),
        Ok(Command::Report(asked)) => {
            let (page, folder) = (asked.page.as_deref(), asked.svg.as_deref());
            failing(report_files(&asked.files, page, folder))
        }
        Ok(Command::Diff(asked)) => {
            failing(diff_files(&asked.old, &asked.new, &asked.limits.into()))
        }
        Err(Stop::Asked(text)) => match write(io::stdout(), &text) {
            Ok(()) => Ok(0),
            Err(line) => Err((FAILED, line)),
        },
        Err(Stop::Misuse(line)) => Err((MISUSE, line)),
    };
    let status = status.unwrap_or_else(|(status, line)| {
        say(format_args!("hp-bench: {line}"));
        status
    });
    ExitCode::from(status)
}

/// What goes wrong with words that are right is a failure.
fn failing(status: Result<u8, String>) -> Result<u8, (u8, String)> {
    status.map_err(|line| (FAILED, line))
}

fn resolve(cli: &Cli) -> Result<Plan, (u8, String)> {
    Plan::resolve(cli, count_for_this_process()).map_err(|error| refused(&error))
}

/// Wrong words are misuse, what the world lacks is a failure.
fn refused(error: &PlanError) -> (u8, String) {
    let status = if error.is_misuse() { MISUSE } else { FAILED };
    (status, error.to_string())
}

fn run(cli: &Cli) -> Result<u8, (u8, String)> {
    let plan = resolve(cli)?;
    check_writable(&plan.output).map_err(|line| (FAILED, line))?;
    let run = hp_bench::run(&plan).map_err(|error| (FAILED, error.to_string()))?;
    present(&plan, &run).map_err(|line| (FAILED, line))
}
