//! What `make fuzz` runs: nothing that is there is left out, and its workspace knows what ours needs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// `dns` had its target and its corpus, and `make fuzz` never ran it.
#[test]
fn make_fuzz_runs_every_target() {
    let makefile = read("Makefile");
    let line = makefile
        .lines()
        .find_map(|line| line.strip_prefix("TARGETS ?= "));
    let run: BTreeSet<String> = line
        .expect("the Makefile has a list of targets")
        .split_whitespace()
        .map(String::from)
        .collect();
    let manifest = read("hp-core/fuzz/Cargo.toml");
    let built = quoted_behind("name = ", manifest.split("[[bin]]").skip(1));
    assert_eq!(run, built, "what is built");
    assert_eq!(run, names_in("hp-core/fuzz/fuzz_targets"), "the sources");
    assert_eq!(run, names_in("hp-core/fuzz/corpus"), "the corpora");
}

/// The targets are a workspace of their own, which no other build looks at: what ours came to depend on was missing in its lock, and
/// each `make fuzz` resolved it anew.
#[test]
fn the_lock_of_the_fuzz_targets_has_what_our_crates_depend_on() {
    let lock = read("hp-core/fuzz/Cargo.lock");
    for name in ["hp-core", "hp-proxy"] {
        let known = lock
            .split("[[package]]")
            .find(|package| package.contains(&format!("\nname = \"{name}\"\n")))
            .expect("the targets call it");
        let manifest = read(&format!("{name}/Cargo.toml"));
        let (_, dependencies) = manifest
            .split_once("\n[dependencies]\n")
            .expect("it has some");
        let named = dependencies
            .lines()
            .take_while(|line| !line.starts_with('['));
        for dependency in named.filter_map(|line| line.split_once('.')) {
            let entry = format!("\n \"{}", dependency.0);
            assert!(known.contains(&entry), "{name} depends on {}", dependency.0);
        }
    }
}

fn quoted_behind<'a>(key: &str, parts: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    parts
        .filter_map(|part| part.split_once(key)?.1.split('"').nth(1))
        .map(String::from)
        .collect()
}

/// Of the files and folders in a folder, without extensions.
fn names_in(folder: &str) -> BTreeSet<String> {
    fs::read_dir(root().join(folder))
        .expect("the folder is in the tree")
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(String::from))
        .collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect("the file is in the tree")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
