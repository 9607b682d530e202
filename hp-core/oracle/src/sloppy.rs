//! Readers with the bad habits of real servers and clients. Each takes what it should refuse, and takes it in its own way.
//!
//! A message is safe to send when all of them read it as [`crate::strict`] does: then no hop behind us can be talked into
//! another reading.

use crate::reading::{End, Extent, Message, Reading, Step, is_bodiless, take};
use crate::text::{digits, first_lf, is_same, is_tchar, list, trimmed, whole, without};
use std::borrow::Cow;

/// One reader. All begin as [`PLAIN`], which believes what it is told; each of [`READERS`] has habits of its own.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    /// What it does that others do not.
    pub name: &'static str,
    lines: Lines,
    folds: Folds,
    names: Names,
    values: Values,
    lengths: Lengths,
    numbers: Numbers,
    codings: Codings,
    stronger: Stronger,
    chunks: Chunks,
    connection: Connection,
}

/// What ends a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lines {
    Crlf,
    Lf,
    /// CR, LF or both.
    Any,
}

/// What a line is that begins with white space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Folds {
    ALine,
    /// It goes on with the value before it.
    Joined,
}

/// When a name is the one that is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    WithoutCase,
    WithCase,
    /// White space before the colon and before the name does not count.
    Trimmed,
    /// As CGI sees them: `_` is `-`.
    Underscored,
    /// Bytes that are no part of a token do not count.
    Cleaned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Values {
    AsTheyAre,
    /// NUL ends them.
    ToNul,
    /// Quotes around them do not count.
    Unquoted,
}

/// Which of several lengths counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lengths {
    First,
    Last,
    FirstOfList,
    LastOfList,
    Sum,
    Largest,
}

/// How a number is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numbers {
    Decimal,
    /// Up to the first byte that is no digit, after white space.
    Prefix,
    /// With a sign.
    Signed,
    /// `0x` and a leading 0 choose the base.
    AnyBase,
    Wrap32,
    Wrap64,
}

/// When a message is chunked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codings {
    /// The last member of the last field is it.
    Last,
    First,
    Anywhere,
    /// A field begins so.
    Begins,
    /// A field contains it.
    Contains,
    /// There is such a field.
    AnyField,
    /// Only where it is written so.
    WithCase,
}

/// What wins when both are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stronger {
    Coding,
    Length,
}

/// How chunks are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunks {
    /// Hexadecimal digits up to the first other byte.
    Prefix,
    Wrap32,
    /// `0x`, signs and white space before the digits.
    Dressed,
    /// Two bytes are skipped behind the data, whatever they are.
    SkipTwo,
}

/// What naming a field in Connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    Nothing,
    /// It is as if the field were not there.
    Drops,
}

/// Takes everything, without a habit of its own.
pub const PLAIN: Reader = Reader {
    name: "plain",
    lines: Lines::Crlf,
    folds: Folds::ALine,
    names: Names::WithoutCase,
    values: Values::AsTheyAre,
    lengths: Lengths::First,
    numbers: Numbers::Decimal,
    codings: Codings::Last,
    stronger: Stronger::Coding,
    chunks: Chunks::Prefix,
    connection: Connection::Nothing,
};

/// The habits: what request smuggling was built on, one reader each, and three that have many.
#[rustfmt::skip]
pub const READERS: [Reader; 32] = [
    PLAIN,
    Reader { name: "the last length wins", lengths: Lengths::Last, ..PLAIN },
    Reader { name: "the first length of a list wins", lengths: Lengths::FirstOfList, numbers: Numbers::Prefix, ..PLAIN },
    Reader { name: "the last length of a list wins", lengths: Lengths::LastOfList, ..PLAIN },
    Reader { name: "lengths are added", lengths: Lengths::Sum, ..PLAIN },
    Reader { name: "the largest length wins", lengths: Lengths::Largest, numbers: Numbers::Prefix, ..PLAIN },
    Reader { name: "a length beats chunks", stronger: Stronger::Length, ..PLAIN },
    Reader { name: "chunked anywhere in the list", codings: Codings::Anywhere, ..PLAIN },
    Reader { name: "chunked first in the list", codings: Codings::First, ..PLAIN },
    Reader { name: "whatever begins with chunked", codings: Codings::Begins, ..PLAIN },
    Reader { name: "whatever contains chunked", codings: Codings::Contains, ..PLAIN },
    Reader { name: "any coding is chunked", codings: Codings::AnyField, ..PLAIN },
    Reader { name: "chunked has a case", codings: Codings::WithCase, ..PLAIN },
    Reader { name: "LF ends lines", lines: Lines::Lf, ..PLAIN },
    Reader { name: "CR ends lines", lines: Lines::Any, ..PLAIN },
    Reader { name: "folded lines are joined", folds: Folds::Joined, ..PLAIN },
    Reader { name: "folded lines are joined, LF ends them", folds: Folds::Joined, lines: Lines::Lf, numbers: Numbers::Prefix, ..PLAIN },
    Reader { name: "white space around names does not count", names: Names::Trimmed, ..PLAIN },
    Reader { name: "underscores are hyphens", names: Names::Underscored, ..PLAIN },
    Reader { name: "names have a case", names: Names::WithCase, ..PLAIN },
    Reader { name: "odd bytes in names do not count", names: Names::Cleaned, ..PLAIN },
    Reader { name: "NUL ends values", values: Values::ToNul, ..PLAIN },
    Reader { name: "quotes do not count", values: Values::Unquoted, ..PLAIN },
    Reader { name: "numbers end at the first odd byte", numbers: Numbers::Prefix, ..PLAIN },
    Reader { name: "numbers have signs", numbers: Numbers::Signed, ..PLAIN },
    Reader { name: "numbers have a base", numbers: Numbers::AnyBase, ..PLAIN },
    Reader { name: "numbers wrap at 32 bits", numbers: Numbers::Wrap32, chunks: Chunks::Wrap32, ..PLAIN },
    Reader { name: "numbers wrap at 64 bits", numbers: Numbers::Wrap64, ..PLAIN },
    Reader { name: "chunk sizes may be dressed", chunks: Chunks::Dressed, ..PLAIN },
    Reader { name: "two bytes are skipped behind a chunk", chunks: Chunks::SkipTwo, ..PLAIN },
    Reader { name: "fields named in Connection are dropped", connection: Connection::Drops, ..PLAIN },
    Reader { name: "everything at once", lines: Lines::Any, folds: Folds::Joined, names: Names::Underscored, values: Values::ToNul,
        lengths: Lengths::Last, numbers: Numbers::AnyBase, codings: Codings::Contains, chunks: Chunks::Dressed,
        connection: Connection::Drops, ..PLAIN },
];

impl Reader {
    /// Reads a stream of requests.
    #[must_use]
    pub fn requests<'b>(&self, bytes: &'b [u8]) -> Reading<'b> {
        self.stream(bytes, None)
    }

    /// Reads a stream of responses to requests with these methods, GET where they end.
    #[must_use]
    pub fn responses<'b>(&self, bytes: &'b [u8], asked: &[&[u8]]) -> Reading<'b> {
        self.stream(bytes, Some(asked))
    }

    /// Reads one chunked body from the beginning of a stream: its content, and where it ends; `None` when the stream ends first,
    /// or it is none.
    #[must_use]
    pub fn chunked(&self, bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
        let mut body = Vec::new();
        match self.chunks(bytes, 0, &mut body) {
            Chunked::Whole(end) => Some((body, end)),
            Chunked::Short | Chunked::Refused => None,
        }
    }

    /// Tells whether this reader is right about lengths up to this one; beyond, it cannot take even a correct message.
    #[must_use]
    pub fn can_count(&self, length: u64) -> bool {
        self.numbers != Numbers::Wrap32 || u32::try_from(length).is_ok()
    }

    /// Tells whether it hands fields to CGI, as a server may and a client never does.
    #[must_use]
    pub fn is_gateway(&self) -> bool {
        self.names == Names::Underscored
    }

    fn stream<'b>(&self, bytes: &'b [u8], asked: Option<&[&[u8]]>) -> Reading<'b> {
        let is_response = asked.is_some();
        let mut asked = asked.unwrap_or_default().iter().copied();
        let mut next = asked.next().unwrap_or(b"GET");
        let mut messages = Vec::new();
        let mut at = 0;
        let end = loop {
            if at == bytes.len() {
                break End::Between;
            }
            let Some(head) = self.head(bytes, at) else {
                break End::InHead;
            };
            let Some((verb, target)) = start_line(head.start, is_response) else {
                break End::Refused("a start line that is none");
            };
            let extent = match self.extent(&head) {
                Ok(_any) if is_response && is_bodiless(verb, next) => Extent::None,
                Ok(Extent::None) if is_response => Extent::UntilClose,
                Ok(extent) => extent,
                Err(why) => break End::Refused(why),
            };
            let (body, stop) = self.content(bytes, head.end, extent);
            at = stop.unwrap_or(bytes.len());
            messages.push(Message {
                verb,
                target,
                body,
                end: at,
            });
            match (stop, extent) {
                (None, Extent::Chunked) | (None, Extent::Length(_)) => break End::InBody,
                (_, Extent::UntilClose) => break End::UntilClose,
                _ if verb == b"101" && is_response => break End::Switch,
                _ => (),
            }
            if !(is_response && verb.starts_with(b"1")) {
                next = asked.next().unwrap_or(b"GET");
            }
        };
        Reading { messages, end }
    }

    fn head<'b>(&self, bytes: &'b [u8], begin: usize) -> Option<Head<'b>> {
        let mut head = Head {
            start: b"",
            lengths: Vec::new(),
            codings: Vec::new(),
            dropped: Vec::new(),
            end: 0,
        };
        let mut at = begin;
        // Empty lines before a message are skipped by all.
        while head.start.is_empty() {
            (head.start, at) = self.line(bytes, at)?;
        }
        let mut last = Field::Other;
        loop {
            let (line, next) = self.line(bytes, at)?;
            at = next;
            if line.is_empty() {
                head.end = at;
                return Some(head);
            }
            if matches!(line[0], b' ' | b'\t') && self.folds == Folds::Joined {
                head.fold(last, self.value(line));
                continue;
            }
            let Some(colon) = line.iter().position(|&byte| byte == b':') else {
                continue;
            };
            let value = self.value(&line[colon + 1..]);
            last = self.field(&line[..colon]);
            match last {
                Field::Length => head.lengths.push(Cow::Borrowed(value)),
                Field::Coding => head.codings.push(Cow::Borrowed(value)),
                Field::Connection => head.dropped.push(value),
                Field::Other => (),
            }
        }
    }

    fn line<'b>(&self, bytes: &'b [u8], at: usize) -> Option<(&'b [u8], usize)> {
        let rest = bytes.get(at..)?;
        let mut from = 0;
        loop {
            let rest_of_it = rest.get(from..)?;
            let found = match self.lines {
                Lines::Any => rest_of_it
                    .iter()
                    .position(|&byte| byte == b'\n' || byte == b'\r'),
                Lines::Crlf | Lines::Lf => first_lf(rest_of_it),
            };
            let found = from + found?;
            let line = &rest[..found];
            let is_crlf = rest[found] == b'\r' && rest.get(found + 1) == Some(&b'\n');
            let next = at + found + 1 + usize::from(is_crlf);
            match (self.lines, line.strip_suffix(b"\r")) {
                (Lines::Any, _) => return Some((line, next)),
                (_, Some(line)) => return Some((line, next)),
                (Lines::Lf, None) => return Some((line, next)),
                (Lines::Crlf, None) => from = found + 1,
            }
        }
    }

    fn field(&self, name: &[u8]) -> Field {
        // Only names that could be one of ours in some reading are looked at closely.
        let is_ours = |known: &str| match self.names {
            Names::WithoutCase => name.eq_ignore_ascii_case(known.as_bytes()),
            Names::WithCase => name == known.as_bytes(),
            Names::Trimmed => name.trim_ascii().eq_ignore_ascii_case(known.as_bytes()),
            Names::Underscored => is_same(
                name.iter()
                    .map(|&byte| if byte == b'_' { b'-' } else { byte }),
                known,
            ),
            Names::Cleaned => is_same(name.iter().copied().filter(|&byte| is_tchar(byte)), known),
        };
        if name.len() < "Connection".len() {
            Field::Other
        } else if is_ours("Content-Length") {
            Field::Length
        } else if is_ours("Transfer-Encoding") {
            Field::Coding
        } else if is_ours("Connection") {
            Field::Connection
        } else {
            Field::Other
        }
    }

    fn value<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        let value = trimmed(bytes);
        match self.values {
            Values::AsTheyAre => value,
            Values::ToNul => value.split(|&byte| byte == 0).next().map_or(value, trimmed),
            Values::Unquoted => {
                let inner = value
                    .strip_prefix(b"\"")
                    .and_then(|rest| rest.strip_suffix(b"\""));
                inner.unwrap_or(value)
            }
        }
    }

    fn extent(&self, head: &Head<'_>) -> Result<Extent, &'static str> {
        let is_dropped = |name: &str| {
            self.connection == Connection::Drops
                && head
                    .dropped
                    .iter()
                    .flat_map(|value| list(value))
                    .any(|option| option.eq_ignore_ascii_case(name.as_bytes()))
        };
        let is_chunked = !head.codings.is_empty()
            && !is_dropped("transfer-encoding")
            && self.is_chunked(&head.codings);
        let has_length = !head.lengths.is_empty() && !is_dropped("content-length");
        if is_chunked && (!has_length || self.stronger == Stronger::Coding) {
            return Ok(Extent::Chunked);
        }
        if !has_length {
            return Ok(Extent::None);
        }
        self.length(&head.lengths)
            .map(Extent::Length)
            .ok_or("a length that is none")
    }

    fn length(&self, values: &[Cow<'_, [u8]>]) -> Option<u64> {
        let mut all = values
            .iter()
            .flat_map(|value| list(value))
            .map(|member| self.number(member));
        match self.lengths {
            Lengths::First => self.number(values.first()?),
            Lengths::Last => self.number(values.last()?),
            Lengths::FirstOfList => all.next()?,
            Lengths::LastOfList => all.last()?,
            Lengths::Sum => Some(all.flatten().fold(0, u64::wrapping_add)),
            Lengths::Largest => all.flatten().max(),
        }
    }

    fn number(&self, text: &[u8]) -> Option<u64> {
        let text = text.trim_ascii();
        match self.numbers {
            Numbers::Decimal => whole(text, 10),
            Numbers::Prefix => Some(digits(text, 10)),
            Numbers::Signed => whole(without(text, b"+-"), 10),
            Numbers::AnyBase => match text {
                [b'0', b'x' | b'X', rest @ ..] => whole(rest, 16),
                [b'0', rest @ ..] if !rest.is_empty() => whole(rest, 8),
                _ if text.iter().any(u8::is_ascii_alphabetic) => whole(text, 16),
                _ => whole(text, 10),
            },
            Numbers::Wrap32 => Some(digits(text, 10) & u64::from(u32::MAX)),
            Numbers::Wrap64 => Some(digits(text, 10)),
        }
    }

    fn is_chunked(&self, values: &[Cow<'_, [u8]>]) -> bool {
        let is_it = |member: &[u8]| member.eq_ignore_ascii_case(b"chunked");
        let mut members = values.iter().flat_map(|value| list(value));
        match self.codings {
            Codings::Last => members.last().is_some_and(is_it),
            Codings::First => members.next().is_some_and(is_it),
            Codings::Anywhere => members.any(is_it),
            Codings::Begins => values.iter().any(|value| value.get(..7).is_some_and(is_it)),
            Codings::Contains => values.iter().any(|value| value.windows(7).any(is_it)),
            Codings::AnyField => true,
            Codings::WithCase => members.last() == Some(b"chunked"),
        }
    }

    /// The content, and where it ends if it does.
    fn content<'b>(
        &self,
        bytes: &'b [u8],
        at: usize,
        extent: Extent,
    ) -> (Cow<'b, [u8]>, Option<usize>) {
        match extent {
            Extent::None => (Cow::Borrowed(&[]), Some(at)),
            Extent::UntilClose => (Cow::Borrowed(&bytes[at..]), Some(bytes.len())),
            Extent::Length(length) => match take(bytes, at, length) {
                Step::Whole(body) => (Cow::Borrowed(body), Some(at + body.len())),
                Step::Short(body) => (Cow::Borrowed(body), None),
            },
            Extent::Chunked => {
                let mut body = Vec::new();
                match self.chunks(bytes, at, &mut body) {
                    Chunked::Whole(end) => (Cow::Owned(body), Some(end)),
                    Chunked::Short | Chunked::Refused => (Cow::Owned(body), None),
                }
            }
        }
    }

    fn chunks(&self, bytes: &[u8], mut at: usize, body: &mut Vec<u8>) -> Chunked {
        loop {
            let Some((line, next)) = self.line(bytes, at) else {
                return Chunked::Short;
            };
            at = next;
            let Some(size) = self.chunk_size(line) else {
                return Chunked::Refused;
            };
            if size == 0 {
                break;
            }
            match take(bytes, at, size) {
                Step::Whole(data) => {
                    body.extend_from_slice(data);
                    at += data.len();
                }
                Step::Short(data) => {
                    body.extend_from_slice(data);
                    return Chunked::Short;
                }
            }
            if self.chunks == Chunks::SkipTwo {
                at += 2;
                continue;
            }
            match self.line(bytes, at) {
                Some((b"", next)) => at = next,
                Some(_) => return Chunked::Refused,
                None => return Chunked::Short,
            }
        }
        loop {
            match self.line(bytes, at) {
                Some((b"", end)) => return Chunked::Whole(end),
                Some((_trailer, next)) => at = next,
                None => return Chunked::Short,
            }
        }
    }

    fn chunk_size(&self, line: &[u8]) -> Option<u64> {
        let line = match self.chunks {
            Chunks::Dressed => {
                let bare = without(line.trim_ascii_start(), b"+-");
                match bare {
                    [b'0', b'x' | b'X', digits @ ..] => digits,
                    _ => bare,
                }
            }
            Chunks::Prefix | Chunks::Wrap32 | Chunks::SkipTwo => line,
        };
        if !line.first().is_some_and(u8::is_ascii_hexdigit) {
            return None;
        }
        let size = digits(line, 16);
        Some(if self.chunks == Chunks::Wrap32 {
            size & u64::from(u32::MAX)
        } else {
            size
        })
    }
}

/// What matters of a head.
struct Head<'b> {
    start: &'b [u8],
    lengths: Vec<Cow<'b, [u8]>>,
    codings: Vec<Cow<'b, [u8]>>,
    /// The values of Connection.
    dropped: Vec<&'b [u8]>,
    end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Length,
    Coding,
    Connection,
    Other,
}

enum Chunked {
    Whole(usize),
    Short,
    Refused,
}

impl Head<'_> {
    fn fold(&mut self, last: Field, more: &[u8]) {
        let value = match last {
            Field::Length => self.lengths.last_mut(),
            Field::Coding => self.codings.last_mut(),
            Field::Connection | Field::Other => None,
        };
        if let Some(value) = value {
            let text = value.to_mut();
            text.push(b' ');
            text.extend_from_slice(more);
            *text = trimmed(text).to_vec();
        }
    }
}

/// Verb and target; a response has no target. Words are separated by any white space.
fn start_line(line: &[u8], is_response: bool) -> Option<(&[u8], &[u8])> {
    let mut words = line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    let (first, second) = (words.next()?, words.next()?);
    if is_response {
        first.starts_with(b"HTTP/").then_some((second, b""))
    } else {
        Some((first, second))
    }
}
