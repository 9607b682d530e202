//! The codec beside second opinions: generated hostile messages, and the corpus of the fuzz targets, are read alike by all.

#[path = "differential/judge.rs"]
mod judge;

use hp_oracle::choices::Choices;
use hp_oracle::hostile;
use judge::{JUDGES, Judge, Judged};
use proptest::prelude::*;
use std::fmt;

/// Bytes that are told as text.
#[derive(Clone)]
struct Text(Vec<u8>);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

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
    #![proptest_config(ProptestConfig::with_cases(500))]

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
