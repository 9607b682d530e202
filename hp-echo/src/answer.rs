//! The bytes of every answer: the fixed ones built once per worker, the others encoded when asked.
//!
//! Must not know: connections, tasks, time.

use hp_core::wire::http1::encode;
use hp_core::wire::http1::framing::BodyFraming;
use hp_core::wire::http1::head::Version;
use hp_core::wire::http1::request::RequestFacts;

use crate::query::Wrong;

/// Whether the connection lives on after an answer, and how its head says so. RFC 9112 §9.3.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Persistence {
    /// It does, as HTTP/1.1 has it: the head says nothing.
    Implied,
    /// It does, and a client of HTTP/1.0 is told so.
    KeepAlive,
    /// It does not.
    Close,
}

/// The answer to most requests, in every form of its head.
#[derive(Debug)]
pub(crate) struct Fixed {
    /// By [`Persistence`].
    variants: [Variant; 3],
    body_len: u64,
    /// A part of a body that is too long to stand behind its head; empty for a short one.
    piece: Vec<u8>,
}

/// `head_len <= bytes.len()`; what follows the head is the whole body, or nothing for a long one.
#[derive(Debug)]
struct Variant {
    bytes: Vec<u8>,
    head_len: usize,
}

impl Persistence {
    /// What the request allows. RFC 9112 §9.3.
    pub(crate) fn of(facts: &RequestFacts) -> Self {
        match (facts.keep_alive, facts.version) {
            (false, _) => Self::Close,
            (true, Version::Http10) => Self::KeepAlive,
            (true, Version::Http11) => Self::Implied,
        }
    }

    /// Appends what the head says of it.
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        match self {
            Self::Implied => (),
            Self::KeepAlive => encode::field(out, "Connection", b"keep-alive"),
            Self::Close => encode::field(out, "Connection", b"close"),
        }
    }
}

impl Fixed {
    /// A body of `body_len` times `x`.
    pub(crate) fn new(body_len: u64) -> Self {
        let inline_len = usize::try_from(body_len)
            .ok()
            .filter(|&len| len <= PIECE_BYTES);
        let variant = |persistence| {
            let mut bytes = Vec::new();
            head(&mut bytes, 200, persistence);
            encode::content_length(&mut bytes, body_len);
            encode::end_of_head(&mut bytes);
            let head_len = bytes.len();
            bytes.resize(head_len + inline_len.unwrap_or(0), b'x');
            Variant { bytes, head_len }
        };
        let all = [
            Persistence::Implied,
            Persistence::KeepAlive,
            Persistence::Close,
        ];
        let piece_len = if inline_len.is_some() { 0 } else { PIECE_BYTES };
        Self {
            variants: all.map(variant),
            body_len,
            piece: vec![b'x'; piece_len],
        }
    }

    /// Head and body in one; `None` when the body has to be streamed in [`Fixed::piece`]s.
    pub(crate) fn whole(&self, persistence: Persistence) -> Option<&[u8]> {
        self.piece
            .is_empty()
            .then(|| self.variants[persistence as usize].bytes.as_slice())
    }

    /// The head alone.
    pub(crate) fn head(&self, persistence: Persistence) -> &[u8] {
        let variant = &self.variants[persistence as usize];
        &variant.bytes[..variant.head_len]
    }

    /// The next part of a streamed body of which `left` bytes are to come.
    pub(crate) fn piece(&self, left: u64) -> &[u8] {
        let len = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(self.piece.len());
        &self.piece[..len]
    }

    /// Length of the body, streamed or not.
    pub(crate) fn body_len(&self) -> u64 {
        self.body_len
    }
}

/// Appends an answer whose body is the name of its status. RFC 9110 §6.4.1, §15.
pub(crate) fn status(out: &mut Vec<u8>, status: u16, persistence: Persistence, body: BodyOf) {
    head(out, status, persistence);
    if status == METHOD_NOT_ALLOWED {
        encode::field(out, "Allow", b"GET, HEAD, POST, PUT, PATCH");
    }
    let reason = encode::reason_phrase(status);
    let text = if status == 205 { "" } else { reason };
    let has_length = !matches!(status, 204 | 304);
    if has_length {
        encode::content_length(out, text.len() as u64);
    }
    encode::end_of_head(out);
    if has_length && body == BodyOf::Get {
        out.extend_from_slice(text.as_bytes());
    }
}

/// Appends the refusal of a value in a query; its body says which.
pub(crate) fn wrong(out: &mut Vec<u8>, wrong: Wrong, persistence: Persistence, body: BodyOf) {
    head(out, BAD_REQUEST, persistence);
    let Wrong { key, takes } = wrong;
    let text = [key, " takes ", takes, "\n"];
    encode::content_length(out, text.map(str::len).iter().sum::<usize>() as u64);
    encode::end_of_head(out);
    if body == BodyOf::Get {
        text.iter()
            .for_each(|part| out.extend_from_slice(part.as_bytes()));
    }
}

/// Appends an answer in JSON, which is not to be kept by anybody.
pub(crate) fn json(out: &mut Vec<u8>, text: &str, persistence: Persistence, body: BodyOf) {
    begin(out, 200);
    encode::field(out, "Content-Type", b"application/json");
    encode::field(out, "Cache-Control", b"no-store");
    persistence.encode(out);
    encode::content_length(out, text.len() as u64);
    encode::end_of_head(out);
    if body == BodyOf::Get {
        out.extend_from_slice(text.as_bytes());
    }
}

/// How the end of a made body is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MadeFraming {
    /// There is none: 204, 304. RFC 9110 §6.4.1.
    NoBody,
    /// By its length.
    Length(u64),
    /// By its last chunk.
    Chunked,
    /// By the end of the connection, to clients that know no chunks.
    UntilClose,
}

/// Appends the head of an answer made to order.
pub(crate) fn made_head(
    out: &mut Vec<u8>,
    status: u16,
    framing: MadeFraming,
    persistence: Persistence,
) {
    head(out, status, persistence);
    match framing {
        MadeFraming::NoBody | MadeFraming::UntilClose => (),
        MadeFraming::Length(length) => encode::content_length(out, length),
        MadeFraming::Chunked => encode::transfer_encoding_chunked(out),
    }
    encode::end_of_head(out);
}

/// Appends the head of an answer whose body is the request's.
pub(crate) fn echo_head(out: &mut Vec<u8>, framing: BodyFraming, persistence: Persistence) {
    head(out, 200, persistence);
    match framing {
        BodyFraming::Empty => encode::content_length(out, 0),
        BodyFraming::Length(length) => encode::content_length(out, length),
        BodyFraming::Chunked => encode::transfer_encoding_chunked(out),
    }
    encode::end_of_head(out);
}

/// Whether the body of an answer is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BodyOf {
    /// It is.
    Get,
    /// It is not, though the head describes it.
    Head,
}

/// Appends the status line.
pub(crate) fn begin(out: &mut Vec<u8>, status: u16) {
    encode::status_line(out, status, encode::reason_phrase(status).as_bytes());
}

/// Status line and the fields that most answers share; the length and the blank line are to follow.
fn head(out: &mut Vec<u8>, status: u16, persistence: Persistence) {
    begin(out, status);
    encode::field(out, "Content-Type", b"text/plain");
    persistence.encode(out);
}

/// An interim answer that says nothing. RFC 8297 §2.
pub(crate) const EARLY_HINTS: &[u8] = b"HTTP/1.1 103 Early Hints\r\n\r\n";
/// What no client can take for a head: the beginning of a TLS record, and a line.
pub(crate) const GARBAGE: &[u8] = b"\x16\x03\x01\x02\x00\x00 this is no head\r\n\r\n";
/// The interim answer to `Expect: 100-continue`. RFC 9110 §15.2.1.
pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
pub(crate) const METHOD_NOT_ALLOWED: u16 = 405;
pub(crate) const BAD_REQUEST: u16 = 400;

/// Longest body that is kept behind its head, and most that one slow reader holds of a longer one.
const PIECE_BYTES: usize = 256 * hp_core::base::units::KIB;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> &str {
        str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn fixed_answer_is_the_floor_s() {
        let fixed = Fixed::new(3);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(text(fixed.head(Persistence::Implied)), head);
        assert_eq!(
            text(fixed.whole(Persistence::Implied).unwrap()),
            format!("{head}xxx")
        );
    }

    #[test]
    fn fixed_answer_says_when_the_connection_does_not_do_the_default() {
        let fixed = Fixed::new(0);
        let head = text(fixed.head(Persistence::Close));
        assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
        let head = text(fixed.head(Persistence::KeepAlive));
        assert!(head.contains("\r\nConnection: keep-alive\r\n"), "{head}");
    }

    #[test]
    fn wrong_values_are_named_in_the_body() {
        let given = Wrong {
            key: "c",
            takes: "0 or 1",
        };
        let mut out = Vec::new();
        wrong(&mut out, given, Persistence::Implied, BodyOf::Get);
        let head =
            "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 15\r\n\r\n";
        assert_eq!(text(&out), format!("{head}c takes 0 or 1\n"));
        out.clear();
        wrong(&mut out, given, Persistence::Implied, BodyOf::Head);
        assert_eq!(text(&out), head);
    }

    #[test]
    fn long_body_comes_in_pieces() {
        let fixed = Fixed::new(PIECE_BYTES as u64 + 1);
        assert!(fixed.whole(Persistence::Implied).is_none());
        assert!(text(fixed.head(Persistence::Implied)).contains("Content-Length: 262145\r\n"));
        assert_eq!(fixed.piece(fixed.body_len()).len(), PIECE_BYTES);
        assert_eq!(fixed.piece(1), b"x");
    }

    #[test]
    fn status_answers_have_the_body_that_their_status_allows() {
        let check = |code, body, want: &str| {
            let mut out = Vec::new();
            status(&mut out, code, Persistence::Implied, body);
            assert_eq!(text(&out), want);
        };
        let head =
            "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\n";
        check(404, BodyOf::Get, &format!("{head}Not Found"));
        check(404, BodyOf::Head, head);
        check(
            204,
            BodyOf::Get,
            "HTTP/1.1 204 No Content\r\nContent-Type: text/plain\r\n\r\n",
        );
        check(
            304,
            BodyOf::Get,
            "HTTP/1.1 304 Not Modified\r\nContent-Type: text/plain\r\n\r\n",
        );
        let head = "HTTP/1.1 205 Reset Content\r\nContent-Type: text/plain\r\n";
        check(
            205,
            BodyOf::Get,
            &format!("{head}Content-Length: 0\r\n\r\n"),
        );
        let head = "HTTP/1.1 599 \r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n";
        check(599, BodyOf::Get, head);
    }
}
