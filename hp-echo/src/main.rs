//! The program: words in, exit status out.

use std::io;
use std::process::ExitCode;

use hp_core::obs::notice::{say, write_unless_left};
use hp_echo::cli::{self, Stop};

fn main() -> ExitCode {
    let options = match cli::parse(std::env::args_os()) {
        Ok(options) => options,
        Err(Stop::Asked(text)) => {
            return match write_unless_left(io::stdout(), &text) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(1, &format!("cannot write to stdout: {error}")),
            };
        }
        Err(Stop::Misuse(line)) => return fail(2, &line),
    };
    match hp_echo::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error.to_string()),
    }
}

fn fail(status: u8, line: &str) -> ExitCode {
    say(format_args!("hp-echo: {line}"));
    ExitCode::from(status)
}
