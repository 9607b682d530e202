//! An HTTP/1.1 reverse proxy on hp-core's runtime.
//!
//! Start reading at [`run`]; a request's life is in [`exchange`]. Everything after the command line works from a complete,
//! immutable [`config::plan::Plan`].

// Both panic where their reader has left.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod accepting;
pub mod admin;
mod background;
pub mod cli;
pub mod config;
pub mod control;
pub mod counters;
mod downstream;
pub mod exchange;
mod listener;
mod listening;
pub mod live;
mod mirrors;
mod names;
pub mod reload;
pub mod resolver;
pub mod route;
pub mod run;
pub mod shared;
#[cfg(feature = "slow-down")]
mod slow_down;
mod thread;
pub mod upgrade;
pub mod upstream;
pub mod worker;

use cli::Command;
use hp_core::obs::notice::{say, write_unless_left};
use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

/// Runs the program that a command line asks for. Exit codes: 0 done, 1 failed, 2 misuse.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let program = upgrade::Program::running(&args);
    let (plan, source) = match cli::command(args) {
        Ok(Command::Run(plan, source)) => (plan, source),
        Ok(Command::Print(text)) => return print(&text),
        Ok(Command::PrintAndFail(text)) => {
            print(&text);
            return ExitCode::FAILURE;
        }
        Err(refusal) => return refusal.report(),
    };
    match run::run(*plan, source, program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("hp-proxy: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Results go to stdout; a reader that has left needs no more of them.
fn print(text: &str) -> ExitCode {
    match write_unless_left(io::stdout(), text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("hp-proxy: cannot write to stdout: {error}"));
            ExitCode::FAILURE
        }
    }
}
