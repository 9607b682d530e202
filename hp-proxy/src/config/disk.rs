//! A file that a user named, as the disk has it; knows not what is in it.

use std::fs;
use std::io;
use std::path::Path;

/// How many bytes a file has.
///
/// # Errors
/// A line that says what to do, also for what is no file: a pipe would have to be waited for.
pub fn bytes_of(path: &Path) -> Result<u64, String> {
    let found = fs::metadata(path).map_err(|error| told(&error))?;
    let what = match found.is_dir() {
        _ if found.is_file() => return Ok(found.len()),
        true => "a directory",
        false => "no file",
    };
    Err(format!("this is {what}; write the path of a file"))
}

/// The text of a file, whole.
///
/// # Errors
/// A line that says what to do.
pub fn text_of(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|error| told(&error))?;
    String::from_utf8(bytes).map_err(|error| {
        let is_text = error.utf8_error().valid_up_to();
        let text = error.as_bytes().get(..is_text).unwrap_or_default();
        let line = 1 + memchr::memchr_iter(b'\n', text).count();
        format!("line {line} has a byte that is no UTF-8; save the file as UTF-8")
    })
}

fn told(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => String::from("there is no such file; check its path"),
        _ => format!("cannot be read: {error}; check its path and its permissions"),
    }
}
