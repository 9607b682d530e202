//! Which program a process starts to replace itself: the one that it was started as, at the same path, with the same arguments.
//!
//! The path is found when the process starts. Later the file there is the new program, while the file of the running one may have
//! been removed; and where the path is a symbolic link, it leads to the new one.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A program and how it was called.
#[derive(Clone, Debug)]
pub struct Program {
    /// None where even the kernel does not tell.
    pub(crate) path: Option<PathBuf>,
    /// The first is its own name.
    pub(crate) args: Vec<OsString>,
}

impl Program {
    /// The running one. To be called before anything changes the directory or the environment.
    #[must_use]
    pub fn running(args: &[OsString]) -> Self {
        let name = args.first().map(PathBuf::from).unwrap_or_default();
        let found = if name.components().count() > 1 {
            env::current_dir().ok().map(|here| here.join(&name))
        } else {
            let path = env::var_os("PATH").unwrap_or_default();
            find(&name, env::split_paths(&path))
        };
        let found = found.filter(|path| path.is_file());
        Self {
            path: found.or_else(|| env::current_exe().ok()),
            args: args.to_vec(),
        }
    }
}

fn find(name: &Path, directories: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    let mut paths = directories.map(|directory| directory.join(name));
    paths.find(|path| path.is_absolute() && path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_path_stays_as_it_was_called_even_where_it_is_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (
            directory.path().join("1"),
            directory.path().join("hp-proxy"),
        );
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let program = Program::running(&[link.clone().into(), "--workers".into()]);
        assert_eq!(program.path, Some(link));
        assert_eq!(program.args.len(), 2);
    }

    #[test]
    fn a_bare_name_is_looked_for_and_what_is_not_found_is_asked_of_the_kernel() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("hp-proxy");
        fs::write(&file, "").unwrap();
        let places = [
            PathBuf::from("relative"),
            "/nowhere".into(),
            directory.path().into(),
        ];
        assert_eq!(find(Path::new("hp-proxy"), places.into_iter()), Some(file));
        let program = Program::running(&["no-such-program-anywhere".into()]);
        assert_eq!(program.path, env::current_exe().ok());
    }
}
