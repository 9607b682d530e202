//! The proxy's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    hp_proxy::main(std::env::args_os())
}
