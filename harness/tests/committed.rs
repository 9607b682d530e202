//! What is committed below `results/`, and what is made of it, is as the raw files say.

#![expect(
    clippy::unwrap_used,
    reason = "files of the work tree; any failure is a failed test"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use harness::{derive, index, readme};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn results() -> PathBuf {
    root().join("results")
}

/// Bytes of all files below a folder.
fn bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let sizes = entries.map(|entry| match entry.file_type().unwrap().is_dir() {
        true => bytes(&entry.path()),
        false => entry.metadata().unwrap().len(),
    });
    sizes.sum()
}

#[test]
fn sessions_are_as_derived_from_their_raw_files() {
    for folder in index::sessions(&results()) {
        let derived = derive::session(&folder).unwrap();
        let differences = derived.differences(&folder);
        assert!(
            differences.is_empty(),
            "{}: {differences:?}: run `make bench-analyse` on it",
            folder.display()
        );
    }
}

#[test]
fn a_run_or_session_has_at_most_two_megabytes() {
    for day in fs::read_dir(results()).unwrap().map(Result::unwrap) {
        if !day.file_type().unwrap().is_dir() {
            continue;
        }
        for run in fs::read_dir(day.path()).unwrap().map(Result::unwrap) {
            let size = bytes(&run.path());
            assert!(
                size <= SESSION_BYTES_MAX,
                "{}: {size} bytes, at most {SESSION_BYTES_MAX}",
                run.path().display()
            );
        }
    }
}

#[test]
fn the_index_lists_what_is_there() {
    let results = results();
    let entries = index::entries(&results).unwrap();
    let listed: BTreeSet<String> = entries.iter().map(|entry| entry.folder.clone()).collect();
    assert_eq!(listed.len(), entries.len(), "a session is listed twice");
    let folders = index::sessions(&results).into_iter();
    let there: BTreeSet<String> = folders
        .map(|folder| index::name_of(&results, &folder))
        .collect();
    assert_eq!(listed, there, "run `make bench-readme`");
    for entry in &entries {
        let again = index::entry(&results.join(&entry.folder), &entry.folder).unwrap();
        // A line stays as it was written, so its words may be those of an older harness.
        assert_eq!(again.started, entry.started, "{}", entry.folder);
        assert_eq!(again.commit, entry.commit, "{}", entry.folder);
    }
    let committed = fs::read_to_string(results.join("INDEX.md")).unwrap();
    let content = index::content(&results).unwrap();
    assert!(
        committed == content,
        "INDEX.md is stale: run `make bench-readme`"
    );
}

#[test]
fn the_readme_says_what_the_results_say() {
    let path = root().join("README.md");
    let committed = fs::read_to_string(&path).unwrap();
    let renewed = readme::renewed(&path, &results()).unwrap();
    assert!(
        committed == renewed,
        "README.md is stale: run `make bench-readme`"
    );
}

const SESSION_BYTES_MAX: u64 = 2 << 20;
