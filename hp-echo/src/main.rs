//! The program: words in, exit status out.

use std::io::{self, Write};
use std::process::ExitCode;

use hp_core::obs::notice::say;
use hp_echo::cli::{self, Stop};

fn main() -> ExitCode {
    let options = match cli::parse(std::env::args_os()) {
        Ok(options) => options,
        Err(Stop::Asked(text)) => {
            match io::stdout().write_all(text.as_bytes()) {
                Ok(()) => (),
                Err(_unheard) => (), // Who asked has left.
            }
            return ExitCode::SUCCESS;
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
