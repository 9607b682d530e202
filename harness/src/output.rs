//! Results go to stdout; what is said beside them to stderr ([`hp_core::obs::notice`]).

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::error::Error;

/// Writes a text in one go, unless its reader has left, who needs no more of it.
///
/// # Errors
/// [`Error::Write`], as where a disk is full.
pub(crate) fn show(text: impl Display) -> Result<(), Error> {
    let text = text.to_string();
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(cause) if cause.kind() != io::ErrorKind::BrokenPipe => Err(Error::Write {
            path: PathBuf::from("stdout"),
            cause,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}
