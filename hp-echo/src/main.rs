//! The program: words in, exit status out.

use std::process::ExitCode;

use hp_echo::cli::{self, Stop};

fn main() -> ExitCode {
    let options = match cli::parse(std::env::args_os()) {
        Ok(options) => options,
        Err(Stop::Asked(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(Stop::Misuse(line)) => {
            eprintln!("hp-echo: {line}");
            return ExitCode::from(2);
        }
    };
    match hp_echo::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hp-echo: {error}");
            ExitCode::FAILURE
        }
    }
}
