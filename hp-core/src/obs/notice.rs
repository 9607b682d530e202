//! Lines for whoever runs a program, on stderr; and results, on stdout, whose reader may leave before it has all.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

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

/// Writes all of a text, unless the reader left first: then nobody wants it.
///
/// # Errors
/// What writing answers, as where a disk is full.
pub fn write_unless_left(mut to: impl Write, text: &str) -> io::Result<()> {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
