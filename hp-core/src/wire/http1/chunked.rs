//! The chunked transfer coding, both ways. RFC 9112 §7.1.
//!
//! The decoder takes bytes in any pieces and keeps none of them but the trailers. Extensions are
//! checked, bounded and dropped. Knows nothing about who sent the body or who gets it.

pub mod verbatim;

use std::ops::Range;

use super::error::ChunkError;
use crate::wire::forwarding::is_claim_of_origin;
use crate::wire::header::FieldName;
use crate::wire::token::{self, LENGTH_MAX};

/// What [`ChunkedDecoder::next`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkEvent {
    /// Content: a range of the input, never empty, that ends where the consumed bytes end.
    Data(Range<usize>),
    /// All of the input is consumed; the body goes on.
    NeedMore,
    /// The last chunk and the trailers are consumed. What follows is no part of the body.
    End,
}

/// Reads one chunked body.
///
/// After an error it repeats that error: the meaning of the next byte is unknown.
#[derive(Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// Bytes of extensions in the whole body, at most [`EXTENSIONS_BYTES_MAX`].
    extension_bytes: u32,
    /// Bytes of the trailer section as received, at most [`TRAILERS_BYTES_MAX`].
    trailer_bytes: u32,
    /// Trailer lines received, at most [`TRAILERS_MAX`].
    trailer_lines: u32,
    /// Start of the line in work: `line_start <= trailers.len()`. Before it all lines are kept ones.
    line_start: u32,
    trailers: Vec<u8>,
}

impl ChunkedDecoder {
    /// Begins before the first chunk. Allocates nothing until a trailer comes.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::Size { size: 0, digits: 0 },
            extension_bytes: 0,
            trailer_bytes: 0,
            trailer_lines: 0,
            line_start: 0,
            trailers: Vec::new(),
        }
    }

    /// Reads up to the end of the next piece of content, and says how many bytes of `input` that
    /// took. Call it again with the rest until it says [`ChunkEvent::NeedMore`] or
    /// [`ChunkEvent::End`]. How the body is cut into inputs changes neither content nor verdict.
    ///
    /// # Errors
    /// [`ChunkError`]; content reported before stays valid, the body is truncated.
    pub fn next(&mut self, input: &[u8]) -> Result<(usize, ChunkEvent), ChunkError> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            self.state = match self.state {
                State::Data { left } => {
                    let rest = input.len() - at;
                    let take = usize::try_from(left).map_or(rest, |left| left.min(rest));
                    self.pass(u64::try_from(take).unwrap_or(left));
                    return Ok((at + take, ChunkEvent::Data(at..at + take)));
                }
                State::End => return Ok((at, ChunkEvent::End)),
                State::Failed(error) => return Err(error),
                state => self.step(state, byte).inspect_err(|&error| {
                    self.state = State::Failed(error);
                })?,
            };
            at += 1;
        }
        match self.state {
            State::Failed(error) => Err(error),
            State::End => Ok((at, ChunkEvent::End)),
            _ => Ok((at, ChunkEvent::NeedMore)),
        }
    }

    /// How much content of the chunk in work is still to come; 0 where only reading tells what comes.
    #[must_use]
    pub fn data_left(&self) -> u64 {
        match self.state {
            State::Data { left } => left,
            _ => 0,
        }
    }

    /// Takes note of content that nobody showed to the decoder, at most [`ChunkedDecoder::data_left`].
    pub fn pass(&mut self, count: u64) {
        let State::Data { left } = self.state else {
            debug_assert_eq!(count, 0, "nothing passes where no content is");
            return;
        };
        debug_assert!(count <= left, "a chunk has no more than it says");
        self.state = State::with_content(left.saturating_sub(count));
    }

    /// How many bytes come in any case before there is content again, or before the trailers; 0 in content, in an extension, and from the
    /// trailers on, where many may come that are better received together. Whoever asks for no more than that never has a byte of content among them.
    #[must_use]
    pub fn bytes_between(&self) -> usize {
        match self.state {
            State::DataCr => CHUNK_END.len() + SIZE_LINE_MIN,
            State::DataLf => 1 + SIZE_LINE_MIN,
            State::Size { digits: 0, .. } => SIZE_LINE_MIN,
            State::Size { .. } => CHUNK_END.len(),
            State::SizeLf { .. } => 1,
            State::Data { .. }
            | State::Extension { .. }
            | State::Trailer
            | State::TrailerLf
            | State::End
            | State::Failed(_) => 0,
        }
    }

    /// Tells whether the body has ended; a connection that closes before truncates it.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::End)
    }

    /// The trailers that may travel on, as `name: value` lines that each end in CRLF. Empty until
    /// the end. Fields that RFC 9110 §6.5.1 forbids in trailers are gone.
    #[must_use]
    pub fn trailers(&self) -> &[u8] {
        if self.is_ended() { &self.trailers } else { &[] }
    }

    /// Takes one byte that is not content; `state` is the state before it.
    fn step(&mut self, state: State, byte: u8) -> Result<State, ChunkError> {
        match state {
            State::Size { size, digits } => step_size(size, digits, byte),
            State::Extension {
                size,
                part,
                line_bytes,
            } => {
                if byte == b'\r' && part.may_end() {
                    return Ok(State::SizeLf { size });
                }
                let part = part.step(byte)?;
                let line_bytes = line_bytes + 1;
                self.extension_bytes += 1;
                if line_bytes > EXTENSION_BYTES_MAX || self.extension_bytes > EXTENSIONS_BYTES_MAX {
                    return Err(ChunkError::ExtensionTooLong);
                }
                Ok(State::Extension {
                    size,
                    part,
                    line_bytes,
                })
            }
            State::SizeLf { size } => {
                expect_byte(byte, b'\n')?;
                Ok(if size == 0 {
                    State::Trailer
                } else {
                    State::Data { left: size }
                })
            }
            State::DataCr => expect_byte(byte, b'\r').map(|()| State::DataLf),
            State::DataLf => expect_byte(byte, b'\n').map(|()| State::Size { size: 0, digits: 0 }),
            State::Trailer => self.step_trailer(byte),
            State::TrailerLf => {
                expect_byte(byte, b'\n')?;
                self.end_trailer_line()
            }
            State::Data { .. } | State::End | State::Failed(_) => {
                unreachable!("`next` answers these before it takes a byte")
            }
        }
    }

    fn step_trailer(&mut self, byte: u8) -> Result<State, ChunkError> {
        if byte == b'\r' {
            return Ok(State::TrailerLf);
        }
        if byte == b'\n' {
            return Err(ChunkError::LineEnd);
        }
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILERS_BYTES_MAX {
            return Err(ChunkError::TrailersTooLarge);
        }
        self.trailers.push(byte);
        Ok(State::Trailer)
    }

    /// Judges the line in work: the empty one ends the body, a legal one is kept or dropped.
    fn end_trailer_line(&mut self) -> Result<State, ChunkError> {
        let start = usize::try_from(self.line_start).unwrap_or(usize::MAX);
        let line = self.trailers.get(start..).unwrap_or_default();
        if line.is_empty() {
            return Ok(State::End);
        }
        self.trailer_lines += 1;
        if self.trailer_lines > TRAILERS_MAX {
            return Err(ChunkError::TrailersTooLarge);
        }
        let colon = memchr::memchr(b':', line).ok_or(ChunkError::TrailerInvalid)?;
        let (name, value) = (&line[..colon], token::trim_ows(&line[colon + 1..]));
        if !token::is_token(name) || !token::is_field_value(value) {
            return Err(ChunkError::TrailerInvalid);
        }
        if is_forbidden_trailer(name) {
            self.trailers.truncate(start);
        } else {
            rewrite_line(&mut self.trailers, start, colon);
        }
        self.line_start = u32::try_from(self.trailers.len()).unwrap_or(u32::MAX);
        Ok(State::Trailer)
    }
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes the line that comes before `len` bytes of content and their CRLF ([`CHUNK_END`]).
///
/// # Panics
/// When `len` is 0. That would end the body, which is [`LAST_CHUNK`] or [`last_chunk_with_trailers`]: whoever reads on would take
/// content for the next message.
#[must_use]
pub fn chunk_size_line(space: &mut [u8; CHUNK_SIZE_LINE_MAX], len: usize) -> &[u8] {
    assert!(len > 0, "an empty chunk is the last one");
    let mut rest = len;
    let mut start = CHUNK_SIZE_LINE_MAX - CHUNK_END.len();
    space[start..].copy_from_slice(CHUNK_END);
    while start > 0 {
        start -= 1;
        space[start] = HEX_DIGITS[rest % HEX_DIGITS.len()];
        rest /= HEX_DIGITS.len();
        if rest == 0 {
            break;
        }
    }
    &space[start..]
}

/// Appends the last chunk, `trailers` (lines as [`ChunkedDecoder::trailers`] gives them) and the
/// blank line. RFC 9112 §7.1.2.
pub fn last_chunk_with_trailers(out: &mut Vec<u8>, trailers: &[u8]) {
    debug_assert!(
        trailers.is_empty() || trailers.ends_with(b"\r\n"),
        "trailers are whole lines"
    );
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(b"\r\n");
}

/// Ends a body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Ends the content of every chunk but the last.
pub const CHUNK_END: &[u8] = b"\r\n";

/// Bytes of the shortest size line: a digit and CRLF. An extension is behind a longer one.
const SIZE_LINE_MIN: usize = 3;

/// The longest lines between two stretches of content that are asked for at once: what ends a chunk, and the shortest size line.
pub const BYTES_BETWEEN_MAX: usize = CHUNK_END.len() + SIZE_LINE_MIN;

/// The longest chunk that begins before all of it has come. A size that only the peer vouches for must mean the same to those who count in
/// 32 bits, or fewer: to them the content of a longer one would be the next message.
pub const CHUNK_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Sixteen digits and CRLF.
pub const CHUNK_SIZE_LINE_MAX: usize = 18;

/// Most bytes of extensions in one chunk line, its first semicolon not counted.
pub const EXTENSION_BYTES_MAX: u32 = 256;

/// Most bytes of extensions in one body.
pub const EXTENSIONS_BYTES_MAX: u32 = 16 * 1024;

/// Most bytes of trailer lines, line ends not counted.
pub const TRAILERS_BYTES_MAX: u32 = 8 * 1024;

/// Most trailer lines.
pub const TRAILERS_MAX: u32 = 64;

/// Most digits of a chunk size; leading zeros count.
const SIZE_DIGITS_MAX: u8 = 16;

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

const _: () = assert!(
    size_of::<ChunkedDecoder>() <= 64,
    "one per connection in flight"
);

/// ```text
/// Size ─'\r'→ SizeLf ─'\n', size > 0→ Data ─all→ DataCr ─'\r'→ DataLf ─'\n'→ Size
///  └─';'→ Extension ─'\r'→ SizeLf ─'\n', size 0→ Trailer ─'\r'→ TrailerLf ─'\n', line→ Trailer
///                                                                   └─'\n', blank→ End
/// any ─bad byte→ Failed
/// ```
#[derive(Clone, Copy, Debug)]
enum State {
    Size {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
        part: ExtensionPart,
        line_bytes: u32,
    },
    SizeLf {
        size: u64,
    },
    /// `left > 0`.
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    Trailer,
    TrailerLf,
    End,
    Failed(ChunkError),
}

impl State {
    /// In a chunk of which so much content is still to come.
    fn with_content(left: u64) -> Self {
        match left {
            0 => Self::DataCr,
            left => Self::Data { left },
        }
    }
}

fn step_size(size: u64, digits: u8, byte: u8) -> Result<State, ChunkError> {
    if let Some(digit) = token::hex_digit(byte) {
        if digits == SIZE_DIGITS_MAX || size > LENGTH_MAX >> 4 {
            return Err(ChunkError::SizeOverflow);
        }
        return Ok(State::Size {
            size: size << 4 | u64::from(digit),
            digits: digits + 1,
        });
    }
    match byte {
        _ if digits == 0 => Err(ChunkError::SizeInvalid),
        b'\r' => Ok(State::SizeLf { size }),
        b';' => Ok(State::Extension {
            size,
            part: ExtensionPart::NameStart,
            line_bytes: 0,
        }),
        b'\n' => Err(ChunkError::LineEnd),
        _ => Err(ChunkError::SizeInvalid),
    }
}

/// Where in `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` we are.
///
/// RFC 9112 §7.1.1. The whitespace before the first `;` is refused with the size.
#[derive(Clone, Copy, Debug)]
enum ExtensionPart {
    /// After `;`.
    NameStart,
    /// In a name.
    Name,
    /// In whitespace after a name.
    AfterName,
    /// After `=`.
    ValueStart,
    /// In a token.
    Token,
    /// In a quoted string.
    Quoted,
    /// After a backslash in a quoted string.
    QuotedPair,
    /// After the closing quote.
    AfterQuoted,
    /// In whitespace after a value.
    AfterValue,
}

impl ExtensionPart {
    fn step(self, byte: u8) -> Result<Self, ChunkError> {
        let is_blank = matches!(byte, b' ' | b'\t');
        Ok(match (self, byte) {
            (_, b'\r' | b'\n') => return Err(ChunkError::LineEnd),
            (Self::NameStart | Self::ValueStart, _) if is_blank => self,
            (Self::NameStart | Self::Name, _) if token::is_tchar(byte) => Self::Name,
            (Self::Name | Self::AfterName, _) if is_blank => Self::AfterName,
            (Self::Name | Self::AfterName, b'=') => Self::ValueStart,
            (Self::NameStart | Self::ValueStart, b';') => return Err(ChunkError::ExtensionInvalid),
            (Self::ValueStart, b'"') => Self::Quoted,
            (Self::ValueStart | Self::Token, _) if token::is_tchar(byte) => Self::Token,
            (Self::Quoted, b'"') => Self::AfterQuoted,
            (Self::Quoted, b'\\') => Self::QuotedPair,
            (Self::Quoted | Self::QuotedPair, _) if token::is_value_byte(byte) => Self::Quoted,
            (Self::Token | Self::AfterQuoted | Self::AfterValue, _) if is_blank => Self::AfterValue,
            (_, b';') => Self::NameStart,
            _ => return Err(ChunkError::ExtensionInvalid),
        })
    }

    /// Tells whether the chunk line may end here: after a name or a value, not after whitespace.
    fn may_end(self) -> bool {
        matches!(self, Self::Name | Self::Token | Self::AfterQuoted)
    }
}

fn expect_byte(byte: u8, expected: u8) -> Result<(), ChunkError> {
    if byte == expected {
        Ok(())
    } else {
        Err(ChunkError::LineEnd)
    }
}

/// Turns the line at `start`, whose colon stands `colon` bytes further, into `name: value CRLF`.
fn rewrite_line(lines: &mut Vec<u8>, start: usize, colon: usize) {
    let colon = start + colon;
    let value = token::trim_ows(lines.get(colon + 1..).unwrap_or_default());
    let value_start = super::head::offset_in(lines, value);
    let value_len = value.len();
    // name:\tvalue \t        before: the value stands anywhere after the colon
    // name: value\r\n        after: one space, nothing behind the value but CRLF
    lines.push(b' '); // Room for the space, if there was none.
    lines.copy_within(value_start..value_start + value_len, colon + 2);
    lines[colon + 1] = b' ';
    lines.truncate(colon + 2 + value_len);
    lines.extend_from_slice(b"\r\n");
}

/// Tells whether a field must not be taken from trailers: framing, routing, authentication, request
/// modifiers, response control and content format, and whatever speaks to one hop. RFC 9110 §6.5.1.
fn is_forbidden_trailer(name: &[u8]) -> bool {
    FieldName::classify(name) != FieldName::Other
        || str::from_utf8(name).is_ok_and(is_claim_of_origin)
        || name.contains(&b'_') // To many a backend this is a hyphen, and the name a forbidden one.
        || FORBIDDEN_TRAILERS
            .iter()
            .any(|forbidden| name.eq_ignore_ascii_case(forbidden.as_bytes()))
}

/// Names forbidden in trailers besides those that [`FieldName`] knows.
const FORBIDDEN_TRAILERS: [&str; 26] = [
    "age",
    "authentication-info",
    "authorization",
    "cache-control",
    "close",
    "content-encoding",
    "content-language",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "expires",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "pragma",
    "range",
    "retry-after",
    "set-cookie",
    "vary",
    "warning",
    "www-authenticate",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Content, trailers and bytes consumed, or the error.
    type Outcome = Result<(Vec<u8>, Vec<u8>, usize), ChunkError>;

    /// Decodes pieces; bytes after the end are left over, a missing end is `None`.
    fn decode(pieces: &[&[u8]]) -> Option<Outcome> {
        let mut decoder = ChunkedDecoder::new();
        let (mut content, mut total) = (Vec::new(), 0);
        for piece in pieces {
            let mut at = 0;
            loop {
                let rest = &piece[at..];
                let (consumed, event) = match decoder.next(rest) {
                    Ok(step) => step,
                    Err(error) => {
                        assert_eq!(decoder.next(b"0\r\n\r\n"), Err(error), "errors stay");
                        return Some(Err(error));
                    }
                };
                assert!(consumed <= rest.len());
                at += consumed;
                total += consumed;
                match event {
                    ChunkEvent::Data(range) => {
                        assert!(!range.is_empty() && range.end == consumed);
                        content.extend_from_slice(&rest[range]);
                    }
                    ChunkEvent::NeedMore => {
                        assert_eq!(at, piece.len());
                        assert_eq!(decoder.trailers(), b"");
                        break;
                    }
                    ChunkEvent::End => {
                        assert!(decoder.is_ended());
                        return Some(Ok((content, decoder.trailers().to_vec(), total)));
                    }
                }
            }
        }
        None
    }

    /// Decodes whole, cut at every position, and if short at every pair of positions; all agree.
    fn decode_every_cut(bytes: &[u8]) -> Option<Outcome> {
        let whole = decode(&[bytes]);
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(decode(&[head, tail]), whole, "cut at {cut}");
            if bytes.len() <= 80 {
                for second in 0..=tail.len() {
                    let (middle, end) = tail.split_at(second);
                    assert_eq!(decode(&[head, middle, end]), whole, "cut at {cut}+{second}");
                }
            }
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(&single), whole, "byte by byte");
        whole
    }

    fn check(bytes: &[u8], content: &[u8], trailers: &[u8]) {
        let expected = Some(Ok((content.to_vec(), trailers.to_vec(), bytes.len())));
        assert_eq!(decode_every_cut(bytes), expected);
        let surplus = [bytes, b"GET / HTTP/1.1\r\n"].concat();
        assert_eq!(decode(&[&surplus]), expected, "what follows is not touched");
        for len in 0..bytes.len() {
            assert_eq!(decode(&[&bytes[..len]]), None, "truncated at {len}");
        }
    }

    fn check_error(bytes: &[u8], expected: ChunkError) {
        assert_eq!(
            decode_every_cut(bytes),
            Some(Err(expected)),
            "{}",
            bytes.escape_ascii()
        );
    }

    #[test]
    fn chunks_join_to_the_content() {
        check(b"0\r\n\r\n", b"", b"");
        check(
            b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
            b"hello world",
            b"",
        );
        check(b"A\r\n0123456789\r\n00\r\n\r\n", b"0123456789", b"");
        check(b"0000000000000001\r\nx\r\n0\r\n\r\n", b"x", b"");
        check(b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n", b"");
    }

    #[test]
    fn sizes_are_bare_hexadecimal() {
        for bad in [
            "g", "0x1", "+1", "-1", " 1", "1 ", "1\t", "1 ;a", "", ";a", "1.0", "1_0", "１",
        ] {
            check_error(
                format!("{bad}\r\nx\r\n").as_bytes(),
                ChunkError::SizeInvalid,
            );
        }
    }

    #[test]
    fn overflowing_sizes_are_refused() {
        check_error(b"ffffffffffffffff0\r\n", ChunkError::SizeOverflow);
        check_error(b"8000000000000000\r\n", ChunkError::SizeOverflow);
        check_error(b"00000000000000001\r\n", ChunkError::SizeOverflow);
        check_error(
            b"100000000000000000000000000000000005\r\nhello",
            ChunkError::SizeOverflow,
        );
        assert_eq!(decode_every_cut(b"7fffffffffffffff\r\n"), None);
    }

    #[test]
    fn only_crlf_ends_a_line() {
        for bad in [
            &b"1\nx\r\n0\r\n\r\n"[..],
            b"1\r\nx\n0\r\n\r\n",
            b"1\r\nx\r0\r\n\r\n",
            b"1\rx",
            b"1\r\nxy\r\n",
            b"1;a\nx\r\n",
            b"1;a=\"\n\"\r\nx\r\n",
            b"1;a=\"\r\n\"\r\nx\r\n",
            b"0\r\n\n",
            b"0\r\nA: b\n\r\n",
            b"0\r\nA: b\rc\r\n\r\n",
            b"0\n\n",
        ] {
            check_error(bad, ChunkError::LineEnd);
        }
    }

    #[test]
    fn extensions_are_checked_and_dropped() {
        for line in [
            "1;a",
            "1;a=b",
            "1;a=\"b;\\\"c\"",
            "1; a = b ;c",
            "1;a=\"\"",
            "1;a=\"\\\\\";b",
            "1;\t!",
        ] {
            check(
                format!("{line}\r\nx\r\n0;last\r\n\r\n").as_bytes(),
                b"x",
                b"",
            );
        }
        for bad in [
            ";",
            ";;",
            ";a=",
            ";a b",
            ";a=b c",
            ";=b",
            ";a=\"b\"c",
            ";a ",
            ";a=b ",
            ";a\0",
        ] {
            let line = format!("1{bad}\r\nx\r\n0\r\n\r\n");
            let found = decode_every_cut(line.as_bytes());
            let is_refused = matches!(
                found,
                Some(Err(ChunkError::ExtensionInvalid | ChunkError::LineEnd))
            );
            assert!(is_refused, "{bad}: {found:?}");
        }
    }

    #[test]
    fn extensions_are_bounded_by_chunk_and_by_body() {
        let of = |len: usize| format!("1;{}\r\nx\r\n", "a".repeat(len));
        check(format!("{}0\r\n\r\n", of(256)).as_bytes(), b"x", b"");
        check_error(of(257).as_bytes(), ChunkError::ExtensionTooLong);
        let many = format!("{}0\r\n\r\n", of(256).repeat(64));
        assert!(matches!(decode(&[many.as_bytes()]), Some(Ok(_))));
        let more = of(256).repeat(64) + &of(1);
        assert_eq!(
            decode(&[more.as_bytes()]),
            Some(Err(ChunkError::ExtensionTooLong))
        );
    }

    #[test]
    fn trailers_are_normalised_and_kept() {
        check(b"0\r\nA: b\r\n\r\n", b"", b"A: b\r\n");
        check(
            b"0\r\nA:b\r\nB:\t c d \t\r\nC:\r\nD:  \r\n\r\n",
            b"",
            b"A: b\r\nB: c d\r\nC: \r\nD: \r\n",
        );
    }

    #[test]
    fn forbidden_trailers_are_dropped() {
        check(
            b"0\r\nContent-Length: 3\r\nX: y\r\nhost: a\r\nSet-Cookie: a\r\nAuthorization: b\r\n\r\n",
            b"",
            b"X: y\r\n",
        );
        check(
            b"0\r\nTransfer-Encoding: chunked\r\nTE: x\r\nConnection: X\r\n\r\n",
            b"",
            b"",
        );
        check(
            b"0\r\nX-Forwarded-Port: 1\r\nx-real-ip: 1.2.3.4\r\nContent_Length: 1\r\n\r\n",
            b"",
            b"",
        );
    }

    #[test]
    fn bad_trailers_are_refused() {
        for bad in [
            "A",
            ": b",
            "A : b",
            " A: b",
            "A\t: b",
            "A: b\0",
            "A: \x7f",
            "\u{e9}: a",
        ] {
            let body = format!("0\r\n{bad}\r\n\r\n");
            check_error(body.as_bytes(), ChunkError::TrailerInvalid);
        }
        check_error(b"0\r\nA: b\r\n folded\r\n\r\n", ChunkError::TrailerInvalid);
    }

    #[test]
    fn trailers_are_bounded() {
        let lines = |count: usize| format!("0\r\n{}\r\n", "A: b\r\n".repeat(count));
        assert!(matches!(decode(&[lines(64).as_bytes()]), Some(Ok(_))));
        assert_eq!(
            decode(&[lines(65).as_bytes()]),
            Some(Err(ChunkError::TrailersTooLarge))
        );
        let forbidden = format!("0\r\n{}\r\n", "Host: b\r\n".repeat(65));
        assert_eq!(
            decode(&[forbidden.as_bytes()]),
            Some(Err(ChunkError::TrailersTooLarge))
        );
        let long = |len: usize| format!("0\r\nA:{}\r\n\r\n", "b".repeat(len));
        assert!(matches!(decode(&[long(8190).as_bytes()]), Some(Ok(_))));
        assert_eq!(
            decode(&[long(8191).as_bytes()]),
            Some(Err(ChunkError::TrailersTooLarge))
        );
    }

    #[test]
    fn what_stands_between_chunks_can_be_asked_for_without_a_byte_of_content() {
        let bodies = [
            "3\r\nabc\r\n0\r\n\r\n",
            "0003;a=b\r\nabc\r\n10;c=\"d\"\r\n0123456789abcdef\r\n1\r\nx\r\n00\r\nA: b\r\n\r\n",
        ];
        for (body, content) in bodies.iter().zip([3, 20]) {
            for at_once in 1..=BYTES_BETWEEN_MAX {
                let (mut decoder, mut at, mut passed) = (ChunkedDecoder::new(), 0, 0);
                while !decoder.is_ended() {
                    let left = usize::try_from(decoder.data_left()).unwrap();
                    let count = left.min(at_once);
                    if count > 0 {
                        decoder.pass(count as u64);
                        (at, passed) = (at + count, passed + count);
                        continue;
                    }
                    let wanted = decoder.bytes_between().clamp(1, at_once);
                    let (used, event) = decoder.next(&body.as_bytes()[at..at + wanted]).unwrap();
                    assert!(!matches!(event, ChunkEvent::Data(_)), "{body:?} at {at}");
                    assert_eq!(used, wanted, "{body:?} at {at}");
                    at += used;
                }
                assert_eq!((at, passed), (body.len(), content));
            }
        }
    }

    #[test]
    fn size_lines_are_hexadecimal() {
        for len in [1, 15, 16, 255, 65_536, usize::MAX] {
            let mut space = [0; CHUNK_SIZE_LINE_MAX];
            assert_eq!(
                chunk_size_line(&mut space, len),
                format!("{len:x}\r\n").as_bytes()
            );
        }
    }

    #[test]
    fn written_trailers_are_read_back() {
        let mut out = Vec::new();
        last_chunk_with_trailers(&mut out, b"A: b\r\n");
        check(&out, b"", b"A: b\r\n");
        out.clear();
        last_chunk_with_trailers(&mut out, b"");
        assert_eq!(out, LAST_CHUNK);
    }
}
