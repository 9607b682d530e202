//! The codec beside second opinions: generated hostile messages, and the corpus of the fuzz targets, are read alike by all.

#[path = "differential/judge.rs"]
mod judge;

use hp_oracle::choices::Choices;
use hp_oracle::hostile;
use judge::{JUDGES, Judge, Judged};
use proptest::prelude::*;
use std::fmt;
use std::path::{Path, PathBuf};

/// Bytes that are told as text.
#[derive(Clone)]
struct Text(Vec<u8>);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// Hand-written seeds and what was found, minimised: a folder for each judge, with a file for each case.
#[test]
fn the_corpus_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, judge) in JUDGES {
        let files = files(&corpus.join(name));
        assert!(files.len() >= 5, "{name} has {} files", files.len());
        for (path, bytes) in files {
            for judge in [judge, judge::cuts] {
                if let Err(what) = judge(&bytes) {
                    panic!("{}: {what}", path.display());
                }
            }
        }
    }
}

#[test]
fn the_corpus_is_small() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let judges = JUDGES.into_iter().map(|(name, _judge)| name);
    let targets = judges.chain(["exchange"]);
    let bytes: usize = targets
        .flat_map(|name| files(&corpus.join(name)))
        .map(|(_path, bytes)| bytes.len())
        .sum();
    assert!(bytes < CORPUS_BYTES_MAX, "{bytes} bytes");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn hostile_requests_mean_one_thing(bytes in made_by(hostile::requests)) {
        check(judge::requests, &bytes.0)?;
    }

    #[test]
    fn hostile_responses_mean_one_thing(bytes in made_by(hostile::responses)) {
        check(judge::responses, &bytes.0)?;
    }

    #[test]
    fn hostile_chunks_mean_one_thing(bytes in made_by(hostile::chunks)) {
        check(judge::chunked, &bytes.0)?;
    }

    #[test]
    fn hostile_targets_have_one_reading(bytes in made_by(hostile::target)) {
        check(judge::uri, &bytes.0)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_cut_changes_an_answer(
        request in made_by(hostile::requests),
        response in made_by(hostile::responses),
        chunks in made_by(hostile::chunks),
    ) {
        check(judge::cuts, &request.0)?;
        check(judge::cuts, &response.0)?;
        check(judge::cuts, &chunks.0)?;
    }

    #[test]
    fn any_bytes_mean_one_thing(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for (_name, judge) in JUDGES {
            check(judge, &bytes)?;
        }
    }
}

fn made_by(make: fn(&mut Choices<'_>, &mut Vec<u8>)) -> impl Strategy<Value = Text> {
    proptest::collection::vec(any::<u8>(), 0..160).prop_map(move |choices| {
        let mut bytes = Vec::new();
        make(&mut Choices::from_bytes(&choices), &mut bytes);
        Text(bytes)
    })
}

fn check(judge: Judge, bytes: &[u8]) -> Result<Judged, TestCaseError> {
    judge(bytes).map_err(|what| TestCaseError::fail(format!("{}: {what}", bytes.escape_ascii())))
}

fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).expect("the corpus is committed");
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).expect("a file of the corpus is readable");
        (path, bytes)
    };
    entries
        .map(|entry| read(entry.expect("the folder is readable").path()))
        .collect()
}

/// A corpus is for people to read, too.
const CORPUS_BYTES_MAX: usize = 200_000;
