//! Whether the files of a configuration have changed, by a look now and then: at their times, lengths and numbers. No notice of the
//! kernel is needed, so it works on every file system, and whether an editor writes in place or renames.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file as it looked before it was read.
#[derive(Clone, Debug)]
pub struct Seen {
    path: PathBuf,
    mark: Option<Mark>,
}

/// The files, and how they looked.
#[derive(Clone, Debug)]
pub struct Watch {
    /// When they were read.
    read: Vec<Seen>,
    /// At the last look, where that was another.
    changing: Option<Vec<Option<Mark>>>,
}

/// How a file looks from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    /// Also moved by a rename.
    changed: (i64, i64),
}

impl Seen {
    /// Looks at a file that is about to be read.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            mark: mark(path),
        }
    }
}

impl Watch {
    /// Watches files that were read.
    #[must_use]
    pub fn new(files: &[Seen]) -> Self {
        Self {
            read: files.to_vec(),
            changing: None,
        }
    }

    /// Whether they have changed since they were read, and not since the last look: then they are to be read again. They count as
    /// read as they are now.
    pub fn look(&mut self) -> bool {
        let now: Vec<Option<Mark>> = self.read.iter().map(|seen| mark(&seen.path)).collect();
        if self
            .read
            .iter()
            .map(|seen| seen.mark)
            .eq(now.iter().copied())
        {
            self.changing = None;
            return false;
        }
        if self.changing.as_ref() != Some(&now) {
            self.changing = Some(now); // Somebody may still be writing.
            return false;
        }
        self.changing = None;
        for (seen, mark) in self.read.iter_mut().zip(now) {
            seen.mark = mark;
        }
        true
    }

    /// Other files were read.
    pub fn follow(&mut self, files: &[Seen]) {
        *self = Self::new(files);
    }
}

fn mark(file: &Path) -> Option<Mark> {
    let found = fs::metadata(file).ok()?; // An editor may have moved it away for a moment.
    Some(Mark {
        device: found.dev(),
        inode: found.ino(),
        len: found.len(),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(changes: impl FnOnce(&PathBuf)) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        fs::write(&file, "one").unwrap();
        let mut watch = Watch::new(&[Seen::at(&file)]);
        assert!(!watch.look() && !watch.look());
        changes(&file);
        assert!(!watch.look(), "somebody may still be writing");
        assert!(watch.look());
        assert!(!watch.look() && !watch.look());
    }

    #[test]
    fn a_file_that_is_written_is_read_again_once() {
        check(|file| fs::write(file, "longer").unwrap());
    }

    #[test]
    fn a_file_that_is_renamed_over_it_is_read_again_once() {
        check(|file| {
            let new = file.with_extension("new");
            fs::write(&new, "two").unwrap();
            fs::rename(new, file).unwrap();
        });
    }

    #[test]
    fn a_file_that_goes_is_read_again_once_and_again_when_it_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        fs::write(&file, "one").unwrap();
        let mut watch = Watch::new(&[Seen::at(&file)]);
        fs::remove_file(&file).unwrap();
        assert!(!watch.look() && watch.look() && !watch.look());
        fs::write(&file, "one").unwrap();
        assert!(!watch.look() && watch.look() && !watch.look());
    }

    #[test]
    fn a_file_that_changes_with_every_look_is_left_alone_until_it_rests() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        fs::write(&file, "").unwrap();
        let mut watch = Watch::new(&[Seen::at(&file)]);
        for length in 1..10 {
            fs::write(&file, "x".repeat(length)).unwrap();
            assert!(!watch.look());
        }
        assert!(watch.look());
    }

    #[test]
    fn what_is_included_from_now_on_is_watched_too() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = ["a.toml", "b.toml"].map(|name| folder.path().join(name));
        fs::write(&one, "one").unwrap();
        fs::write(&other, "one").unwrap();
        let mut watch = Watch::new(&[Seen::at(&one)]);
        fs::write(&other, "longer").unwrap();
        assert!(!watch.look() && !watch.look());
        watch.follow(&[Seen::at(&one), Seen::at(&other)]);
        fs::write(&other, "longer still").unwrap();
        assert!(!watch.look() && watch.look());
    }
}
