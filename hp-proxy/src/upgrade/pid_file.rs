//! The file that says which process is in charge: written whole by whoever comes to be, removed at the end by whom it names.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// The file, where there shall be one.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: Option<PathBuf>,
    is_written: bool,
}

impl PidFile {
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            is_written: false,
        }
    }

    /// Says that this process is in charge. Readers see the old file or the new one, never a part.
    ///
    /// # Errors
    /// A line that says what to do.
    pub(crate) fn write(&mut self) -> Result<(), String> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let told = |error: io::Error| {
            format!(
                "cannot write the file of --pid-file, {}: {error}; its directory must be one that this user may write",
                path.display()
            )
        };
        if is_somebody_elses(path).map_err(told)? {
            return Err(format!(
                "cannot write the file of --pid-file, {}: something else than the number of a process is there; \
                 remove it or choose another path",
                path.display()
            ));
        }
        replace(path, &format!("{}\n", std::process::id())).map_err(told)?;
        self.is_written = true;
        Ok(())
    }

    /// Another process is in charge: the file is left to it.
    pub(crate) fn pass_on(&mut self) {
        self.is_written = false;
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let Some(path) = self.path.as_ref().filter(|_| self.is_written) else {
            return;
        };
        let own = format!("{}\n", std::process::id());
        if fs::read_to_string(path).is_ok_and(|text| text == own) {
            match fs::remove_file(path) {
                Ok(()) => (),
                Err(_stays) => (), // The next process writes it anew.
            }
        }
    }
}

/// Whether something is there that no process has left to say who is in charge: a path may be mistyped, and what it leads to would be
/// lost. An empty file is what a crash of the machine leaves.
fn is_somebody_elses(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => (),
        Ok(_pipe_or_directory) => return Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    let mut bytes = Vec::new();
    let mut file = fs::File::open(path)?.take(NUMBER_BYTES_MAX + 1);
    file.read_to_end(&mut bytes)?;
    let number = bytes.trim_ascii_end();
    Ok(bytes.len() as u64 > NUMBER_BYTES_MAX || !number.iter().all(u8::is_ascii_digit))
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let fresh = path.with_file_name(name);
    fs::write(&fresh, text)?;
    fs::rename(&fresh, path).inspect_err(|_| match fs::remove_file(&fresh) {
        Ok(()) | Err(_) => (), // The first error is the one to tell.
    })
}

/// Of a number, with its line end.
const NUMBER_BYTES_MAX: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_names_the_process_until_it_ends() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hp.pid");
        let mut file = PidFile::new(Some(path.clone()));
        file.write().unwrap();
        let own = format!("{}\n", std::process::id());
        assert_eq!(fs::read_to_string(&path).unwrap(), own);
        drop(file);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_names_another_process_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hp.pid");
        for passes_on in [false, true] {
            let mut file = PidFile::new(Some(path.clone()));
            file.write().unwrap();
            if passes_on {
                file.pass_on();
            } else {
                fs::write(&path, "1\n").unwrap();
            }
            drop(file);
            assert!(path.exists());
        }
    }

    /// A path that was mistyped cost its file: it was replaced at the start, and removed at the end.
    #[test]
    fn what_names_no_process_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hp.toml");
        let directory_path = directory.path().to_owned();
        for (path, text) in [
            (&path, Some("workers = 2\n")),
            (&path, Some("17\n18\n")),
            (&directory_path, None),
        ] {
            if let Some(text) = text {
                fs::write(path, text).unwrap();
            }
            let line = PidFile::new(Some(path.clone())).write().unwrap_err();
            assert!(line.contains("remove it or choose another path"), "{line}");
            let is_left = text.is_none_or(|text| fs::read_to_string(path).unwrap() == text);
            assert!(is_left, "{line}");
        }
        for text in ["", "17", "17\n"] {
            fs::write(&path, text).unwrap();
            PidFile::new(Some(path.clone())).write().unwrap();
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_told() {
        let mut file = PidFile::new(Some("/nowhere/hp.pid".into()));
        let line = file.write().unwrap_err();
        assert!(line.contains("/nowhere/hp.pid"), "{line}");
        PidFile::new(None).write().unwrap();
    }
}
