//! Results go to stdout; what is said beside them to stderr ([`hp_core::obs::notice`]).

use std::fmt::Display;
use std::io;
use std::path::PathBuf;

use hp_core::obs::notice::write_unless_left;

use crate::error::Error;

/// Writes a text in one go, unless its reader has left, who needs no more of it.
///
/// # Errors
/// [`Error::Write`], as where a disk is full.
pub(crate) fn show(text: impl Display) -> Result<(), Error> {
    write_unless_left(io::stdout(), &text.to_string()).map_err(|cause| Error::Write {
        path: PathBuf::from("stdout"),
        cause,
    })
}
