//! Every answer that the proxy can make itself, for the simulation: what a client is told must be one of these, and some seed
//! must reach each of them.

use super::answer::Answer;
use super::error::Failure;
use crate::upstream::AcquireError;
use hp_core::wire::http1::error::{
    ChunkError, FramingError, HeadError, RequestError, ResponseError,
};

/// What a client is told by an answer of the proxy's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Said {
    /// 4xx or 5xx.
    pub status: u16,
    /// The error type in Proxy-Status, RFC 9209 §2.3.
    pub error: &'static str,
    /// The `details` in Proxy-Status.
    pub details: &'static str,
}

impl From<Answer> for Said {
    fn from(answer: Answer) -> Self {
        Self {
            status: answer.status,
            error: answer.error,
            details: answer.details,
        }
    }
}

/// All of them, each once.
#[must_use]
pub fn every() -> Vec<Said> {
    let mut said: Vec<Said> = refusals().into_iter().map(Said::from).collect();
    said.extend(requests().into_iter().map(Answer::from).map(Said::from));
    said.extend(
        failures()
            .into_iter()
            .filter_map(Failure::answer)
            .map(Said::from),
    );
    said
}

/// Answers that no error stands behind.
fn refusals() -> [Answer; 8] {
    [
        Answer::REQUEST_TIMEOUT,
        Answer::TUNNEL_REFUSED,
        Answer::MISDIRECTED,
        Answer::HTTP10_REFUSED,
        Answer::LOOP,
        Answer::UNDERSCORE,
        Answer::NO_ROUTE,
        Answer::MAINTENANCE,
    ]
}

/// Why a request's head is refused.
fn requests() -> Vec<RequestError> {
    let mut errors = vec![
        RequestError::LeadingEmptyLines,
        RequestError::MethodInvalid,
        RequestError::MethodTooLong,
        RequestError::TargetInvalid,
        RequestError::UriTooLong,
        RequestError::VersionInvalid,
        RequestError::VersionUnsupported,
        RequestError::HostMissing,
        RequestError::HostRepeated,
        RequestError::HostInvalid,
        RequestError::HostDisagrees,
        RequestError::BodyForbidden,
        RequestError::ExpectationUnknown,
        RequestError::LengthRequired,
        RequestError::MaxForwardsInvalid,
    ];
    errors.extend(HEADS.map(RequestError::Head));
    errors.extend(FRAMINGS.map(RequestError::Framing));
    errors
}

/// Why an answer's head is refused.
fn responses() -> Vec<ResponseError> {
    let mut errors = vec![
        ResponseError::VersionInvalid,
        ResponseError::StatusInvalid,
        ResponseError::StatusLineTooLong,
        ResponseError::InterimWithBody,
        ResponseError::UpgradeUnsolicited,
    ];
    errors.extend(HEADS.map(ResponseError::Head));
    errors.extend(FRAMINGS.map(ResponseError::Framing));
    errors
}

/// Why there is no answer of a backend.
fn failures() -> Vec<Failure> {
    let mut failures = vec![
        Failure::ClosedBeforeResponse,
        Failure::ClosedWithinHead,
        Failure::Unasked { is_unsent: false },
        Failure::ResponseTimeout,
        Failure::InterimStorm,
        Failure::LengthRequired,
        Failure::BodyTooLarge,
        Failure::BodyTimeout,
        Failure::ClientGone,
    ];
    failures.extend(ACQUIRES.map(Failure::Acquire));
    failures.extend(responses().into_iter().map(Failure::Response));
    failures.extend(CHUNKS.map(Failure::BodyInvalid));
    failures
}

const HEADS: [HeadError; 8] = [
    HeadError::BareLf,
    HeadError::LineEnd,
    HeadError::FieldName,
    HeadError::FieldValue,
    HeadError::FieldsTooMany,
    HeadError::HeadTooLarge,
    HeadError::ConnectionOption,
    HeadError::ConnectionOptionsTooMany,
];
const FRAMINGS: [FramingError; 6] = [
    FramingError::ContentLengthInvalid,
    FramingError::ContentLengthRepeated,
    FramingError::BothLengths,
    FramingError::TransferEncodingOnHttp10,
    FramingError::TransferEncodingInvalid,
    FramingError::TransferEncodingUnsupported,
];
const CHUNKS: [ChunkError; 7] = [
    ChunkError::SizeInvalid,
    ChunkError::SizeOverflow,
    ChunkError::ExtensionInvalid,
    ChunkError::ExtensionTooLong,
    ChunkError::LineEnd,
    ChunkError::TrailerInvalid,
    ChunkError::TrailersTooLarge,
];
const ACQUIRES: [AcquireError; 7] = [
    AcquireError::QueueTimeout,
    AcquireError::QueueFull,
    AcquireError::NoEndpoint,
    AcquireError::Refused,
    AcquireError::ConnectTimeout,
    AcquireError::SpokeFirst,
    AcquireError::OutOfResources,
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fmt::Debug;

    #[test]
    fn no_variant_of_an_error_is_left_out() {
        check(WIRE, "HeadError", &HEADS);
        check(WIRE, "FramingError", &FRAMINGS);
        check(WIRE, "ChunkError", &CHUNKS);
        check(WIRE, "RequestError", &requests());
        check(WIRE, "ResponseError", &responses());
        check(
            include_str!("../upstream/pool.rs"),
            "AcquireError",
            &ACQUIRES,
        );
        check(include_str!("error.rs"), "Failure", &failures());
    }

    #[test]
    fn no_answer_without_an_error_is_left_out() {
        let source = include_str!("answer.rs");
        let constants = source.matches(": Self = Self {").count();
        assert_eq!(constants, refusals().len());
    }

    #[test]
    fn no_two_answers_say_the_same() {
        let distinct: BTreeSet<Said> = every().into_iter().collect();
        assert_eq!(distinct.len(), every().len());
    }

    #[test]
    fn a_variant_that_is_left_out_is_found() {
        let source = "pub(super) enum E {\n    /// One.\n    One,\n    Two(One),\n}\nenum F {\n    Three,\n}\n";
        assert_eq!(variants_in(source, "E"), BTreeSet::from(["One", "Two"]));
        assert_eq!(variants_in(source, "F"), BTreeSet::from(["Three"]));
    }

    /// The variants of the enum as it stands in the source are those of the list.
    fn check(source: &str, name: &str, listed: &[impl Debug]) {
        let listed: Vec<String> = listed
            .iter()
            .map(|variant| format!("{variant:?}"))
            .collect();
        let listed: BTreeSet<&str> = listed.iter().map(|text| first_word(text)).collect();
        assert_eq!(variants_in(source, name), listed, "{name}");
    }

    fn variants_in<'a>(source: &'a str, name: &str) -> BTreeSet<&'a str> {
        let head = format!("enum {name} {{");
        let (_before, rest) = source.split_once(&head).unwrap();
        let (body, _after) = rest.split_once("\n}").unwrap();
        let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
        let is_variant = |line: &&str| line.starts_with(|first: char| first.is_ascii_uppercase());
        lines.filter(is_variant).map(first_word).collect()
    }

    fn first_word(text: &str) -> &str {
        text.split(|letter: char| !letter.is_alphanumeric())
            .next()
            .unwrap()
    }

    const WIRE: &str = include_str!("../../../hp-core/src/wire/http1/error.rs");
}
