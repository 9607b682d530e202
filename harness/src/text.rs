//! Texts of files, no longer than anybody reads.
//!
//! Must not know: what they say.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::Error;

/// Reads a text of at most 16 MiB.
///
/// # Errors
/// [`Error::Read`].
pub(crate) fn read(path: &Path) -> Result<String, Error> {
    let failed = |cause: String| Error::Read {
        path: path.to_owned(),
        cause,
    };
    let file = File::open(path).map_err(|cause| failed(cause.to_string()))?;
    let mut text = String::new();
    let read = file.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|cause| failed(cause.to_string()))?;
    if text.len() as u64 > TEXT_BYTES_MAX {
        return Err(failed(format!("more than {TEXT_BYTES_MAX} bytes")));
    }
    Ok(text)
}

const TEXT_BYTES_MAX: u64 = 16 << 20;
