//! Every rule about heads as one line of `vectors/*.txt` or one file below `vectors`, each accepted head cut at every byte, and
//! round trips through the encoder and the chunked decoder.

use format::{Vector, unescape};
use hp_core::wire::header::FieldName;
use hp_core::wire::http1::chunked::{self, ChunkEvent, ChunkedDecoder};
use hp_core::wire::http1::encode;
use hp_core::wire::http1::error::ChunkError;
use hp_core::wire::http1::framing::{BodyFraming, RequestContext, ResponseFraming};
use hp_core::wire::http1::head::{HeadLimits, HeadScan, HeaderScratch, Parse};
use hp_core::wire::http1::request::{RequestHead, parse_request};
use hp_core::wire::http1::response::{ResponseHead, parse_response};
use hp_core::wire::token;
use proptest::prelude::*;
use std::path::Path;

#[path = "vectors/format.rs"]
mod format;

/// What a parser said: `Ok(None)` is partial; `Ok(Some)` is a summary and the head's length.
type Verdict = Result<Option<(String, usize)>, String>;

#[test]
fn requests_get_their_verdicts() {
    let mut count = 0;
    for line in lines(include_str!("vectors/requests.txt")) {
        let [verdict, section, fact, head] = columns(line);
        check_vector(
            &request_verdict,
            verdict,
            &format!("{fact} ({section})"),
            &unescape(head),
        );
        count += 1;
    }
    assert!(count >= 120, "{count} vectors");
}

#[test]
fn responses_get_their_verdicts() {
    for line in lines(include_str!("vectors/responses.txt")) {
        let [verdict, section, fact, context, head] = columns(line);
        let context = request_context(context);
        let parse = |bytes: &[u8]| response_verdict(bytes, context);
        check_vector(
            &parse,
            verdict,
            &format!("{fact} ({section})"),
            &unescape(head),
        );
    }
}

#[test]
fn request_files_get_their_verdicts() {
    for vector in Vector::all(&vectors("request")) {
        let fact = format!("{}.http, {}", vector.name, vector.note("fact"));
        check_vector(
            &request_verdict,
            vector.note("verdict"),
            &fact,
            head_of(&vector),
        );
    }
}

#[test]
fn response_files_get_their_verdicts() {
    for vector in Vector::all(&vectors("response")) {
        let fact = format!("{}.http, {}", vector.name, vector.note("fact"));
        let context = request_context(vector.note("context"));
        let parse = |bytes: &[u8]| response_verdict(bytes, context);
        check_vector(&parse, vector.note("verdict"), &fact, head_of(&vector));
    }
}

/// Names of every length around the sizes at which an index could wrap, in all that they are part of.
#[test]
fn names_of_every_length_are_read_whole() {
    let limits = HeadLimits {
        head_bytes_max: 1 << 20,
        ..HeadLimits::default()
    };
    for len in lengths_around_indices() {
        let name = "n".repeat(len);
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{name}: v\r\nY: z\r\n\r\n");
        let mut scratch = HeaderScratch::new();
        let parsed = parse_request(head.as_bytes(), &limits, &mut scratch);
        let Ok(Parse::Complete(parsed)) = parsed else {
            panic!("a name of {len} bytes: {parsed:?}");
        };
        assert_eq!(parsed.head_bytes, head.len(), "{len}");
        let fields: Vec<_> = parsed.fields.iter().skip(1).collect();
        let expected = [
            (FieldName::Other, name.as_str(), &b"v"[..]),
            (FieldName::Other, "Y", b"z"),
        ];
        assert!(fields == expected, "a name of {len} bytes is another");
        // Within the limits that a proxy starts with, the verdict depends on the length alone.
        let verdict = request_verdict(head.as_bytes());
        let is_small = head.len() <= HeadLimits::default().head_bytes_max as usize;
        assert_eq!(verdict.is_ok(), is_small, "{len}");
    }
}

/// A trailer's name has the bound of the trailers; no length wraps into an accepted one.
#[test]
fn trailer_names_of_every_length_are_accepted_or_too_large() {
    for len in lengths_around_indices() {
        let name = "n".repeat(len);
        let body = format!("0\r\n{name}: v\r\n\r\n");
        let expected = if len + ": v".len() <= chunked::TRAILERS_BYTES_MAX as usize {
            Ok((Vec::new(), format!("{name}: v\r\n").into_bytes()))
        } else {
            Err(ChunkError::TrailersTooLarge)
        };
        let decoded = decode(std::iter::once(body.as_bytes()));
        assert!(decoded == Some(expected), "a trailer name of {len} bytes");
    }
}

/// 1 to 70,000, close together where a count of 7, 8, 15 or 16 bits ends and where a limit of ours lies.
fn lengths_around_indices() -> Vec<usize> {
    let edges = [
        0, 64, 127, 128, 255, 256, 511, 512, 1024, 2048, 4096, 8192, 16_384, 32_767, 32_768,
        65_535, 65_536, 70_000,
    ];
    let mut lengths: Vec<usize> = edges
        .iter()
        .flat_map(|&edge| edge.max(3) - 2..=edge + 2)
        .collect();
    lengths.retain(|&len| (1..=70_000).contains(&len));
    lengths.sort_unstable();
    lengths.dedup();
    lengths
}

fn vectors(kind: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(kind)
}

fn head_of(vector: &Vector) -> &[u8] {
    match vector.parts.as_slice() {
        [(title, head)] if title == "head" => head,
        _ => panic!("{}.http: one part, `--- head`", vector.name),
    }
}

fn request_context(word: &str) -> RequestContext {
    assert!(
        ["plain", "head", "connect", "upgrade"].contains(&word),
        "{word}"
    );
    RequestContext {
        method_is_head: word == "head",
        method_is_connect: word == "connect",
        upgrade_requested: word == "upgrade",
    }
}

/// Checks the verdict of the whole vector, and what its prefixes may say.
fn check_vector(parse: &dyn Fn(&[u8]) -> Verdict, verdict: &str, fact: &str, head: &[u8]) {
    let whole = parse(head);
    let found = match &whole {
        Ok(Some((summary, len))) => {
            assert_eq!(*len, head.len(), "{fact}: length of the head");
            summary.clone()
        }
        Ok(None) => "partial".to_owned(),
        Err(error) => error.clone(),
    };
    assert_eq!(found, verdict, "{fact}");
    let followed = [head, b"\0GET / HTTP/1.1\r\nHost: b\r\n\r\n"].concat();
    assert_eq!(
        parse(&followed).is_ok(),
        whole.is_ok(),
        "{fact}: followed by more"
    );
    if whole.is_ok() {
        assert_eq!(parse(&followed), whole, "{fact}: followed by more");
    }
    check_prefixes(parse, fact, head, whole.is_ok());
}

/// No prefix is a head; of an accepted head none is an error; the scan never ends before the parser.
fn check_prefixes(parse: &dyn Fn(&[u8]) -> Verdict, fact: &str, head: &[u8], is_accepted: bool) {
    let mut scan = HeadScan::new(&HeadLimits::default());
    // A quadratic test of the largest heads would take minutes: step over their insides.
    let step = head.len() / 1_000 + 1;
    let tail = head.len().saturating_sub(40);
    for len in (0..tail).step_by(step).chain(tail..head.len()) {
        let found = parse(&head[..len]);
        assert!(
            !matches!(found, Ok(Some(_))),
            "{fact}: {len} bytes are a head"
        );
        if is_accepted {
            assert_eq!(found, Ok(None), "{fact}: cut at {len}");
        }
        if scan.complete(&head[..len]) {
            assert!(
                found.is_err(),
                "{fact}: the scan ended at {len}, the parser did not"
            );
        }
    }
    if is_accepted {
        assert!(scan.complete(head), "{fact}: the scan missed the end");
    }
}

fn request_verdict(bytes: &[u8]) -> Verdict {
    let mut scratch = HeaderScratch::new();
    match parse_request(bytes, &HeadLimits::default(), &mut scratch) {
        Ok(Parse::Complete(head)) => Ok(Some((request_summary(&head), head.head_bytes))),
        Ok(Parse::Partial) => Ok(None),
        Err(error) => Err(format!("{} {}", error.status(), error.reason())),
    }
}

fn request_summary(head: &RequestHead<'_, '_>) -> String {
    let facts = head.facts;
    let mut summary = match facts.framing {
        BodyFraming::Empty => "ok empty".to_owned(),
        BodyFraming::Length(length) => format!("ok length={length}"),
        BodyFraming::Chunked => "ok chunked".to_owned(),
    };
    summary += if facts.keep_alive { " keep" } else { " close" };
    for (is_set, word) in [
        (facts.expect_continue, " expect"),
        (facts.upgrade, " upgrade"),
        (facts.accepts_trailers, " trailers"),
    ] {
        summary += if is_set { word } else { "" };
    }
    if let Some(hops) = facts.hops_left {
        summary += &format!(" hops={hops}");
    }
    summary
}

fn response_verdict(bytes: &[u8], context: RequestContext) -> Verdict {
    let mut scratch = HeaderScratch::new();
    match parse_response(bytes, &HeadLimits::default(), &mut scratch, context) {
        Ok(Parse::Complete(head)) => Ok(Some((response_summary(&head), head.head_bytes))),
        Ok(Parse::Partial) => Ok(None),
        Err(error) => Err(format!("{} {}", error.status(), error.reason())),
    }
}

fn response_summary(head: &ResponseHead<'_, '_>) -> String {
    let facts = head.facts;
    let framing = match facts.framing {
        ResponseFraming::Empty => "empty".to_owned(),
        ResponseFraming::Length(length) => format!("length={length}"),
        ResponseFraming::Chunked => "chunked".to_owned(),
        ResponseFraming::UntilClose => "until-close".to_owned(),
    };
    let keep = if facts.keep_alive { "keep" } else { "close" };
    let mut summary = format!("ok {} {framing} {keep}", head.status);
    if let Some(length) = facts.declared_length {
        summary += &format!(" declared={length}");
    }
    for (is_set, word) in [
        (facts.is_interim, " interim"),
        (facts.upgrade, " upgrade"),
        (facts.is_tunnel, " tunnel"),
    ] {
        summary += if is_set { word } else { "" };
    }
    summary
}

#[test]
fn the_request_head_says_what_was_sent() {
    let bytes = b"GET http://A:80/b?c HTTP/1.1\r\nHost: a\r\nX-Y:  z \r\n\r\nbody";
    let mut scratch = HeaderScratch::new();
    let Ok(Parse::Complete(head)) = parse_request(bytes, &HeadLimits::default(), &mut scratch)
    else {
        panic!("a legal head");
    };
    assert_eq!(head.method.as_str(), "GET");
    assert_eq!(head.target.path_and_query(), "/b?c");
    assert_eq!(
        head.authority.map(|authority| authority.as_bytes()),
        Some(&b"A:80"[..])
    );
    assert_eq!(&bytes[head.head_bytes..], b"body");
    let fields: Vec<_> = head.fields.iter().collect();
    assert_eq!(
        fields,
        [
            (FieldName::Host, "Host", &b"a"[..]),
            (FieldName::Other, "X-Y", &b"z"[..])
        ]
    );
}

#[test]
fn the_reason_is_forwarded_byte_for_byte() {
    for (line, reason) in [
        (&b"HTTP/1.1 200 \xe9 x\r\n\r\n"[..], &b"\xe9 x"[..]),
        (b"HTTP/1.1 200\r\n\r\n", b""),
        (b"HTTP/1.0 404 Not  Found\r\nA: b\r\n\r\n", b"Not  Found"),
    ] {
        let mut scratch = HeaderScratch::new();
        let context = RequestContext::default();
        let parsed = parse_response(line, &HeadLimits::default(), &mut scratch, context);
        assert!(matches!(parsed, Ok(Parse::Complete(head)) if head.reason == reason));
    }
}

#[test]
fn fields_have_a_ceiling_whatever_the_limits_say() {
    let limits = HeadLimits {
        head_bytes_max: 1 << 20,
        fields_max: u16::MAX,
        ..HeadLimits::default()
    };
    for (count, is_accepted) in [(255, true), (256, false)] {
        let head = format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: y\r\n".repeat(count)
        );
        let mut scratch = HeaderScratch::new();
        assert_eq!(
            parse_request(head.as_bytes(), &limits, &mut scratch).is_ok(),
            is_accepted
        );
    }
}

/// Content and trailers of a whole body, or why it is none.
type Decoded = Result<(Vec<u8>, Vec<u8>), ChunkError>;

/// Decodes a body that comes in pieces; `None` if it does not end.
fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Option<Decoded> {
    let mut decoder = ChunkedDecoder::new();
    let mut content = Vec::new();
    for piece in pieces {
        let mut rest = piece;
        loop {
            match decoder.next(rest) {
                Err(error) => return Some(Err(error)),
                Ok((consumed, ChunkEvent::Data(range))) => {
                    content.extend_from_slice(&rest[range]);
                    rest = &rest[consumed..];
                }
                Ok((consumed, ChunkEvent::NeedMore)) => {
                    assert_eq!(consumed, rest.len());
                    break;
                }
                Ok((_, ChunkEvent::End)) => {
                    return Some(Ok((content, decoder.trailers().to_vec())));
                }
            }
        }
    }
    None
}

fn token_text() -> impl Strategy<Value = String> {
    "[A-Za-z][A-Za-z0-9!#$%&'*+.^_`|~-]{0,20}"
}

/// Any byte, but mostly those that mean something to the chunked coding.
fn chunk_byte() -> impl Strategy<Value = u8> {
    let meaningful = b"0123afF\r\n\r\n\r\n;=\" \tXx:,\\"
        .iter()
        .copied()
        .cycle()
        .take(1024);
    proptest::sample::select(meaningful.chain(0..=u8::MAX).collect::<Vec<u8>>())
}

/// Names that no rule of the proxy speaks of.
fn plain_name() -> impl Strategy<Value = String> {
    token_text().prop_map(|name| format!("P-{name}"))
}

/// A value as the parser gives it: no whitespace at the ends.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let legal = (0..=u8::MAX)
        .filter(|&byte| token::is_value_byte(byte))
        .collect::<Vec<u8>>();
    proptest::collection::vec(proptest::sample::select(legal), 0..40)
        .prop_map(|bytes| bytes.trim_ascii().to_vec())
}

proptest! {
    #[test]
    fn encoded_requests_parse_to_the_same(
        method in "[A-Z]{1,10}",
        target in "/[a-z0-9/._~-]{0,30}(\\?[a-z0-9=&%]{0,30})?",
        fields in proptest::collection::vec((plain_name(), value()), 0..20),
        length in 0..=u64::MAX / 2,
    ) {
        prop_assume!(!matches!(method.as_str(), "CONNECT" | "TRACE"));
        let mut out = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
        encode::field(&mut out, "Host", b"a");
        for (name, value) in &fields {
            encode::field(&mut out, name, value);
        }
        encode::content_length(&mut out, length);
        encode::end_of_head(&mut out);
        let mut scratch = HeaderScratch::new();
        let parsed = parse_request(&out, &HeadLimits::default(), &mut scratch);
        let Ok(Parse::Complete(head)) = parsed else {
            panic!("{parsed:?}");
        };
        prop_assert_eq!(head.head_bytes, out.len());
        prop_assert_eq!(head.facts.framing, BodyFraming::Length(length));
        let travelled: Vec<(String, Vec<u8>)> = head
            .fields
            .end_to_end()
            .skip(1)
            .map(|(_kind, name, value)| (name.to_owned(), value.to_vec()))
            .collect();
        prop_assert_eq!(travelled, fields);
        // Written again from its parts, the head is the same.
        let mut again = Vec::new();
        encode::request_line(&mut again, head.method, head.target.path_and_query());
        for (_kind, name, value) in head.fields.iter() {
            encode::field(&mut again, name, value);
        }
        encode::end_of_head(&mut again);
        prop_assert_eq!(again, out);
    }

    #[test]
    fn encoded_responses_parse_to_the_same(
        status in 200..=599_u16,
        reason in value(),
        fields in proptest::collection::vec((plain_name(), value()), 0..20),
    ) {
        let mut out = Vec::new();
        encode::status_line(&mut out, status, &reason);
        for (name, value) in &fields {
            encode::field(&mut out, name, value);
        }
        encode::transfer_encoding_chunked(&mut out);
        encode::end_of_head(&mut out);
        let mut scratch = HeaderScratch::new();
        let context = RequestContext::default();
        let parsed = parse_response(&out, &HeadLimits::default(), &mut scratch, context);
        let Ok(Parse::Complete(head)) = parsed else {
            panic!("{parsed:?}");
        };
        prop_assert_eq!((head.status, head.reason), (status, reason.as_slice()));
        prop_assert_eq!(head.fields.end_to_end().count(), fields.len());
        prop_assert_eq!(head.head_bytes, out.len());
    }

    #[test]
    fn chunked_content_survives_the_wire(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..12),
        fields in proptest::collection::vec((plain_name(), value()), 0..6),
        piece in 1..64_usize,
    ) {
        let mut wire = Vec::new();
        for chunk in &chunks {
            let mut space = [0; chunked::CHUNK_SIZE_LINE_MAX];
            wire.extend_from_slice(chunked::chunk_size_line(&mut space, chunk.len()));
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(chunked::CHUNK_END);
        }
        let mut trailers = Vec::new();
        // An underscore would make a name that is dropped.
        for (name, value) in fields.iter().filter(|field| !field.0.contains('_')) {
            encode::field(&mut trailers, name, value);
        }
        chunked::last_chunk_with_trailers(&mut wire, &trailers);
        let decoded = decode(wire.chunks(piece));
        prop_assert_eq!(decoded, Some(Ok((chunks.concat(), trailers))));
    }

    #[test]
    fn the_decoder_never_panics_and_cuts_change_nothing(
        bytes in proptest::collection::vec(
            chunk_byte(),
            0..120,
        ),
        piece in 1..9_usize,
    ) {
        prop_assert_eq!(decode(std::iter::once(&bytes[..])), decode(bytes.chunks(piece)));
    }

    #[test]
    fn the_parsers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _verdict = request_verdict(&bytes);
        let _verdict = request_verdict(&[b"GET / HTTP/1.1\r\nHost: a\r\n", &bytes[..]].concat());
        let context = RequestContext::default();
        let _verdict = response_verdict(&[b"HTTP/1.1 200 OK\r\n", &bytes[..]].concat(), context);
    }

    #[test]
    fn an_accepted_head_is_written_in_crlf_lines(
        parts in proptest::collection::vec(
            proptest::sample::select(vec![
                "GET / HTTP/1.1", "Host: a", "X: y", "\r\n", "\r\n", "\r\n", "\n", "\r", " ", "\t",
                "Content-Length: 1", "Transfer-Encoding: chunked", ":", "\0",
            ]),
            0..24,
        ),
    ) {
        let bytes = [b"GET / HTTP/1.1\r\nHost: a\r\n", parts.concat().as_bytes()].concat();
        if let Ok(Some((_summary, len))) = request_verdict(&bytes) {
            let text = String::from_utf8(bytes[..len].to_vec()).expect("built from text");
            let bare = text.replace("\r\n", "");
            prop_assert!(!bare.contains(['\r', '\n', '\0']));
            prop_assert!(text.ends_with("\r\n\r\n"));
            prop_assert!(text.lines().all(|line| !line.starts_with([' ', '\t'])));
        }
    }

    #[test]
    fn the_scan_and_the_parser_agree(
        parts in proptest::collection::vec(
            proptest::sample::select(vec![
                "GET / HTTP/1.1\r\n", "Host: a\r\n", "X: y\r\n", "\r\n", "\n", "\r",
            ]),
            0..8,
        ),
    ) {
        let bytes = parts.concat().into_bytes();
        let mut scan = HeadScan::new(&HeadLimits::default());
        for len in 0..=bytes.len() {
            let is_complete = scan.complete(&bytes[..len]);
            let verdict = request_verdict(&bytes[..len]);
            if is_complete {
                prop_assert_ne!(&verdict, &Ok(None), "{} bytes", len);
                break;
            }
            prop_assert!(!matches!(verdict, Ok(Some(_))), "{} bytes", len);
        }
    }
}

fn lines(file: &'static str) -> impl Iterator<Item = &'static str> {
    file.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Splits a line at ` | `; the last column may hold the separator.
fn columns<const N: usize>(line: &str) -> [&str; N] {
    let found: Vec<&str> = line.splitn(N, " | ").collect();
    found
        .try_into()
        .unwrap_or_else(|_| panic!("{line}: not {N} columns"))
}
