//! Streams as the codec reads them, and as they are sent on: with the codec's encoders, in the way of the proxy.

use hp_core::wire::header::FieldName;
use hp_core::wire::http1::chunked::{
    CHUNK_END, CHUNK_SIZE_LINE_MAX, ChunkEvent, ChunkedDecoder, chunk_size_line,
    last_chunk_with_trailers,
};
use hp_core::wire::http1::encode;
use hp_core::wire::http1::framing::{BodyFraming, RequestContext, ResponseFraming};
use hp_core::wire::http1::head::{HeadLimits, HeaderScratch, Parse};
use hp_core::wire::http1::request::{RequestHead, parse_request};
use hp_core::wire::http1::response::{ResponseHead, parse_response};
use hp_oracle::reading::{End, Message, Reading};
use hp_oracle::sloppy;
use std::borrow::Cow;

/// A stream understood, and what is sent on of it.
pub(super) struct Sent<'b> {
    /// The target of a request is its path and query.
    pub(super) understood: Reading<'b>,
    /// Messages that are whole; one more may be begun.
    pub(super) whole: usize,
    pub(super) bytes: Vec<u8>,
    longest: u64,
    is_response: bool,
}

/// A decoded body: content, trailers, and where it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunked {
    pub(super) content: Vec<u8>,
    pub(super) trailers: Vec<u8>,
    pub(super) end: usize,
}

impl Sent<'_> {
    fn new(is_response: bool) -> Self {
        let understood = Reading {
            messages: Vec::new(),
            end: End::Between,
        };
        Self {
            understood,
            whole: 0,
            bytes: Vec::new(),
            longest: 0,
            is_response,
        }
    }

    /// Whether a reader stands where this goes to, and is right about its lengths. Underscores are CGI's, which no client is.
    pub(super) fn is_for(&self, reader: &sloppy::Reader) -> bool {
        reader.can_count(self.longest) && !(self.is_response && reader.is_gateway())
    }
}

/// Reads requests until the end, a refusal, or a head after which nobody knows what follows.
pub(super) fn read_requests(bytes: &[u8]) -> Sent<'_> {
    let mut sent = Sent::new(false);
    let mut at = 0;
    let limits = HeadLimits::default();
    sent.understood.end = loop {
        let rest = &bytes[at..];
        if rest.is_empty() {
            break End::Between;
        }
        let mut scratch = HeaderScratch::new();
        let head = match parse_request(rest, &limits, &mut scratch) {
            Ok(Parse::Complete(head)) => head,
            Ok(Parse::Partial) => break End::InHead,
            Err(error) => break End::Refused(error.reason()),
        };
        if head.facts.is_connect {
            break End::Refused("connect"); // The proxy's answer is 501.
        }
        send_request(&head, &mut sent.bytes);
        let body = &rest[head.head_bytes..];
        let extent = match head.facts.framing {
            BodyFraming::Empty => Extent::Length(0),
            BodyFraming::Length(length) => Extent::Length(length),
            BodyFraming::Chunked => Extent::Chunked,
        };
        let message = Message {
            verb: head.method.as_str().as_bytes(),
            target: head.target.path_and_query().as_bytes(),
            body: Cow::Borrowed(&[]),
            end: at + head.head_bytes,
        };
        at = match take_body(&mut sent, message, body, extent) {
            Ok(end) => end,
            Err(end) => break end,
        };
        if head.facts.upgrade {
            break End::Switch;
        }
    };
    sent
}

/// The same for responses, to HEAD or to GET.
pub(super) fn read_responses(bytes: &[u8], is_head: bool) -> Sent<'_> {
    let mut sent = Sent::new(true);
    let mut at = 0;
    let limits = HeadLimits::default();
    sent.understood.end = loop {
        let rest = &bytes[at..];
        if rest.is_empty() {
            break End::Between;
        }
        let mut scratch = HeaderScratch::new();
        let head = match parse_response(rest, &limits, &mut scratch, context(is_head)) {
            Ok(Parse::Complete(head)) => head,
            Ok(Parse::Partial) => break End::InHead,
            Err(error) => break End::Refused(error.reason()),
        };
        send_response(&head, &mut sent.bytes);
        let body = &rest[head.head_bytes..];
        let extent = match head.facts.framing {
            ResponseFraming::Empty => Extent::Length(0),
            ResponseFraming::Length(length) => Extent::Length(length),
            ResponseFraming::Chunked => Extent::Chunked,
            ResponseFraming::UntilClose => Extent::UntilClose,
        };
        let status = "HTTP/1.1 ".len().."HTTP/1.1 200".len();
        let message = Message {
            verb: &rest[status],
            target: b"",
            body: Cow::Borrowed(&[]),
            end: at + head.head_bytes,
        };
        at = match take_body(&mut sent, message, body, extent) {
            Ok(end) => end,
            Err(end) => break end,
        };
        if extent == Extent::UntilClose {
            break End::UntilClose;
        }
    };
    sent
}

/// Nobody asks for a switch.
pub(super) fn context(method_is_head: bool) -> RequestContext {
    RequestContext {
        method_is_head,
        method_is_connect: false,
        upgrade_requested: false,
    }
}

/// Decodes pieces; `None` when they end first.
pub(super) fn decode(
    decoder: &mut ChunkedDecoder,
    pieces: &[&[u8]],
) -> Result<Option<Chunked>, &'static str> {
    let mut content = Vec::new();
    let mut end = 0;
    for piece in pieces {
        let mut rest = *piece;
        loop {
            let (consumed, event) = decoder.next(rest).map_err(|error| error.reason())?;
            end += consumed;
            match event {
                ChunkEvent::Data(range) => content.extend_from_slice(&rest[range]),
                ChunkEvent::NeedMore => break,
                ChunkEvent::End => {
                    let trailers = decoder.trailers().to_vec();
                    return Ok(Some(Chunked {
                        content,
                        trailers,
                        end,
                    }));
                }
            }
            rest = &rest[consumed..];
        }
    }
    Ok(None)
}

/// Writes content in chunks of at most [`PIECE`] bytes.
pub(super) fn send_chunked(out: &mut Vec<u8>, content: &[u8], trailers: &[u8]) {
    for piece in content.chunks(PIECE) {
        send_chunk(out, piece);
    }
    last_chunk_with_trailers(out, trailers);
}

/// Rules of our own: what RFC 9112 lets pass, and we do not.
pub(super) fn is_stricter(why: &str) -> bool {
    STRICTER.contains(&why)
}

const STRICTER: [&str; 21] = [
    "bad_chunk_size", // white space before an extension
    "bad_connection_option",
    "bad_max_forwards",
    "bad_target", // the strict reader takes any visible byte
    "body_forbidden",
    "chunk_extension_too_long",
    "chunk_size_overflow",
    "connect",
    "head_too_large",
    "host_disagrees_with_target",
    "interim_with_body",
    "leading_empty_lines",
    "length_required", // HTTP/1.0 alone
    "method_too_long",
    "status_line_too_long",
    "too_many_connection_options",
    "too_many_fields",
    "trailers_too_large",
    "unknown_expectation",
    "unsolicited_upgrade",
    "uri_too_long",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Length(u64),
    Chunked,
    UntilClose,
}

/// Takes the body that `rest` begins with, and sends it on; gives where the message ends, or how the stream does.
fn take_body<'b>(
    sent: &mut Sent<'b>,
    mut message: Message<'b>,
    rest: &'b [u8],
    extent: Extent,
) -> Result<usize, End> {
    let begin = message.end;
    let whole = match extent {
        Extent::Length(length) => {
            sent.longest = sent.longest.max(length);
            let whole = usize::try_from(length)
                .ok()
                .and_then(|length| rest.get(..length));
            let body = whole.unwrap_or(rest);
            sent.bytes.extend_from_slice(body);
            message.body = Cow::Borrowed(body);
            whole.map(<[u8]>::len).ok_or(End::InBody)
        }
        Extent::UntilClose => {
            if !rest.is_empty() {
                send_chunk(&mut sent.bytes, rest);
            }
            last_chunk_with_trailers(&mut sent.bytes, b"");
            message.body = Cow::Borrowed(rest);
            Ok(rest.len())
        }
        Extent::Chunked => take_chunked(&mut sent.bytes, &mut message, rest),
    };
    message.end = whole.map_or(begin + rest.len(), |length| begin + length);
    let end = message.end;
    sent.understood.messages.push(message);
    whole?;
    sent.whole += 1;
    Ok(end)
}

fn take_chunked(out: &mut Vec<u8>, message: &mut Message<'_>, rest: &[u8]) -> Result<usize, End> {
    let mut decoder = ChunkedDecoder::new();
    let mut at = 0;
    loop {
        let input = &rest[at..];
        let (consumed, event) = decoder
            .next(input)
            .map_err(|error| End::Refused(error.reason()))?;
        at += consumed;
        match event {
            ChunkEvent::Data(range) => {
                let piece = &input[range];
                send_chunk(out, piece);
                message.body.to_mut().extend_from_slice(piece);
            }
            ChunkEvent::NeedMore => return Err(End::InBody),
            ChunkEvent::End => {
                last_chunk_with_trailers(out, decoder.trailers());
                return Ok(at);
            }
        }
    }
}

fn send_chunk(out: &mut Vec<u8>, piece: &[u8]) {
    out.extend_from_slice(chunk_size_line(&mut [0; CHUNK_SIZE_LINE_MAX], piece.len()));
    out.extend_from_slice(piece);
    out.extend_from_slice(CHUNK_END);
}

fn send_request(head: &RequestHead<'_, '_>, out: &mut Vec<u8>) {
    encode::request_line(out, head.method, head.target.path_and_query());
    let host = head
        .authority
        .as_ref()
        .map_or(&b"127.0.0.1"[..], |authority| authority.as_bytes());
    encode::field(out, "Host", host);
    for (kind, name, value) in head.fields.end_to_end() {
        let is_ours = matches!(kind, FieldName::Host | FieldName::Expect);
        if !is_ours && !name.contains('_') {
            encode::field(out, name, value);
        }
    }
    match head.facts.framing {
        BodyFraming::Empty => (),
        BodyFraming::Length(length) => encode::content_length(out, length),
        BodyFraming::Chunked => encode::transfer_encoding_chunked(out),
    }
    if head.facts.upgrade {
        for protocols in head.fields.all(FieldName::Upgrade) {
            encode::field(out, "Upgrade", protocols);
        }
        encode::field(out, "Connection", b"upgrade");
    }
    encode::end_of_head(out);
}

fn send_response(head: &ResponseHead<'_, '_>, out: &mut Vec<u8>) {
    encode::status_line(out, head.status, head.reason);
    for (_, name, value) in head.fields.end_to_end() {
        encode::field(out, name, value);
    }
    match head.facts.framing {
        ResponseFraming::Length(length) => encode::content_length(out, length),
        ResponseFraming::Chunked | ResponseFraming::UntilClose => {
            encode::transfer_encoding_chunked(out)
        }
        ResponseFraming::Empty => {
            let described = head.facts.declared_length.filter(|_| head.status != 204);
            if let Some(length) = described {
                encode::content_length(out, length);
            }
        }
    }
    encode::end_of_head(out);
}

/// Small, so that most content is cut.
const PIECE: usize = 7;
