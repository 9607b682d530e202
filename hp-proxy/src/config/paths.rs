//! Paths of files, as users write them.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Reads the path of a file; looks at no disk.
///
/// # Errors
/// A line that says what to write, for a path that no file has.
pub fn file(path: PathBuf) -> Result<PathBuf, String> {
    let bytes = path.as_os_str().as_bytes();
    let last = bytes.rsplit(|byte| *byte == b'/').next();
    let fault = match last {
        _ if bytes.is_empty() => "is no path",
        _ if bytes.contains(&0) => "has a zero byte, which no path has",
        None | Some(b"" | b"." | b"..") => "is the path of a directory",
        Some(_name) => return Ok(path),
    };
    Err(format!("{path:?} {fault}; write that of a file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_file_ends_in_a_name() {
        for text in ["a", "./a", "/run/a.pid", "..a", "a/...", " "] {
            assert_eq!(file(text.into()), Ok(text.into()));
        }
        for (text, part) in [
            ("", "\"\" is no path; write that of a file"),
            ("/", "directory"),
            ("a/", "directory"),
            (".", "directory"),
            ("a/..", "directory"),
            ("a/.", "directory"),
            ("a\0b", "zero byte"),
        ] {
            let told = file(text.into()).unwrap_err();
            assert!(told.contains(part), "{told}");
        }
    }
}
