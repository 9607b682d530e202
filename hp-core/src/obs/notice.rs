//! Lines for whoever runs a program, on stderr.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes a line, in one go: nothing of another process comes between.
///
/// Where stderr cannot be written to, nobody reads it, and the program goes on: a server must not end because whoever read its log did.
pub fn say(line: impl Display) {
    say_lines(format_args!("{line}\n"));
}

/// As [`say`], for lines that have their ends.
pub fn say_lines(lines: impl Display) {
    match io::stderr().write_all(lines.to_string().as_bytes()) {
        Ok(()) => (),
        Err(_unheard) => (), // There is nobody else to tell.
    }
}
