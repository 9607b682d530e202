//! Every test that `docs/conformance.md` and `docs/threat-model.md` name exists.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn tests_that_conformance_names_exist() {
    check("docs/conformance.md", 80);
}

#[test]
fn tests_that_the_threat_model_names_exist() {
    check("docs/threat-model.md", 30);
}

#[test]
fn tests_that_the_page_about_scale_names_exist() {
    check("docs/scale.md", 9);
}

/// Else those above could never fail.
#[test]
fn a_row_without_a_test_and_a_test_that_does_not_exist_are_told() {
    let tree = Tree::read();
    for row in [
        "| 1 | x | y | – |",
        "| 1 | x | y | a word |",
        "| 1 | x | y | `no_such_test_anywhere` |",
        "| 1 | x | y | `exchange/no-such-vector` |",
        "| 1 | x | y | `requests.txt: no such fact` |",
        "| 1 | x | y | `scene: no such scene` |",
        "| 1 | x | y | `exchange/plain-get`, `exchange/no-such-vector` |",
    ] {
        let text =
            format!("| Section | What | Held in | Test |\n| --- | --- | --- | --- |\n{row}\n");
        assert_eq!(tree.complaints(&text).len(), 1, "{row}");
    }
    let fine = "| 1 | x | **not held** | – |\n| 1 | x | y | `requests.txt: plain get`, `exchange/plain-get` |";
    let text = format!("| Section | What | Held in | Test |\n| --- | --- | --- | --- |\n{fine}\n");
    assert_eq!(tree.complaints(&text), Vec::<String>::new());
}

fn check(document: &str, rows_min: usize) {
    let text = fs::read_to_string(root().join(document)).expect("the document is in the tree");
    let count = rows(&text).count();
    assert!(count >= rows_min, "{document}: {count} rows");
    let found = Tree::read().complaints(&text);
    assert!(found.is_empty(), "{document}:\n{}", found.join("\n"));
}

/// What a document can name.
struct Tree {
    /// The text of every Rust file.
    sources: Vec<String>,
    /// The text of the scenes.
    scenes: String,
}

impl Tree {
    fn read() -> Self {
        let mut paths = Vec::new();
        for name in ["hp-core", "hp-proxy", "hp-echo", "hp-bench", "harness"] {
            for part in ["src", "tests"] {
                collect(&root().join(name).join(part), &mut paths);
            }
        }
        assert!(paths.len() > 100, "{} files of source", paths.len());
        let own = Path::new("tests/documents.rs");
        let text = |path: &PathBuf| fs::read_to_string(path).expect("a source is text");
        let is_scene = |path: &&PathBuf| path.to_string_lossy().contains("tests/equality/");
        Self {
            scenes: paths.iter().filter(is_scene).map(text).collect(),
            sources: paths
                .iter()
                .filter(|path| !path.ends_with(own))
                .map(text)
                .collect(),
        }
    }

    /// Rows that name no test, and tests that do not exist.
    fn complaints(&self, document: &str) -> Vec<String> {
        let mut found = Vec::new();
        for row in rows(document) {
            if row.contains("**not held**") {
                continue;
            }
            let tests = row
                .trim_end_matches('|')
                .rsplit('|')
                .next()
                .unwrap_or_default();
            // Between backticks: every second part.
            let mut names = tests.split('`').skip(1).step_by(2).peekable();
            if names.peek().is_none() {
                found.push(format!("names no test: {row}"));
            }
            found.extend(
                names
                    .filter(|name| !self.has(name))
                    .map(|name| format!("there is no {name}")),
            );
        }
        found
    }

    fn has(&self, name: &str) -> bool {
        let vectors = root().join("hp-core/tests/vectors");
        if let Some((table @ ("requests.txt" | "responses.txt"), fact)) = name.split_once(": ") {
            let table = fs::read_to_string(vectors.join(table)).unwrap_or_default();
            return table.contains(&format!(" | {fact} | "));
        }
        if let Some(scene) = name.strip_prefix("scene: ") {
            return self.scenes.contains(&format!("\"{scene}\""));
        }
        if name.contains('/') {
            return vectors.join(format!("{name}.http")).is_file();
        }
        let definition = format!("fn {name}(");
        self.sources
            .iter()
            .any(|source| source.contains(&definition))
    }
}

/// The rows of the tables whose last column is called Test.
fn rows(document: &str) -> impl Iterator<Item = &str> {
    let mut is_about_tests = false;
    document.lines().filter(move |line| {
        let is_row = line.starts_with('|');
        let is_head = line.ends_with("| Test |");
        let is_rule = line.starts_with("| ---");
        is_about_tests = is_row && (is_about_tests || is_head);
        is_about_tests && !is_head && !is_rule
    })
}

fn collect(dir: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return; // Not every crate has tests of its own.
    };
    for entry in entries {
        let path = entry.expect("a directory is listed to its end").path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push(path);
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
