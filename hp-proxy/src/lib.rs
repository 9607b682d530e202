//! An HTTP/1.1 reverse proxy on hp-core's runtime.
//!
//! Start reading at [`run`]; a request's life is in [`exchange`]. Everything after the command line works from a complete,
//! immutable [`config::plan::Plan`].

pub mod cli;
pub mod config;
pub mod counters;
mod downstream;
pub mod exchange;
mod listener;
pub mod route;
pub mod run;
pub mod shared;
mod thread;
pub mod upstream;
pub mod worker;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program that a command line asks for. Exit codes: 0 done, 1 failed, 2 misuse.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let plan = match cli::parse(args) {
        Ok(plan) => plan,
        Err(refusal) => return refusal.report(),
    };
    match run::run(plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hp-proxy: {error}");
            ExitCode::FAILURE
        }
    }
}
