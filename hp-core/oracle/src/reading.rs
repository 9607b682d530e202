//! What a reader makes of a stream of bytes; two readers agree when these are equal.

use std::borrow::Cow;
use std::fmt;

/// One request or response, as one reader understands it.
#[derive(Clone, PartialEq, Eq)]
pub struct Message<'b> {
    /// The method, or the status code.
    pub verb: &'b [u8],
    /// The target; empty for a response.
    pub target: &'b [u8],
    /// The content, as far as it came.
    pub body: Cow<'b, [u8]>,
    /// Where the message ends: an index into the stream, behind the last byte read.
    pub end: usize,
}

/// All messages of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading<'b> {
    /// In their order; the last one is not whole when `end` says so.
    pub messages: Vec<Message<'b>>,
    /// How the stream ends.
    pub end: End,
}

/// How a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Between two messages.
    Between,
    /// Within a head.
    InHead,
    /// Within the content of the last message.
    InBody,
    /// The last message ends where the stream does.
    UntilClose,
    /// The last message may change the protocol; what follows it is not read.
    Switch,
    /// The reader refuses what comes after the last message, or the last one's content.
    Refused(&'static str),
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, target) = (self.verb.escape_ascii(), self.target.escape_ascii());
        write!(
            f,
            "[{verb} {target} \"{}\" to {}]",
            self.body.escape_ascii(),
            self.end
        )
    }
}

/// Where the content of a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// How a piece of a stream was read.
pub(crate) enum Step<T> {
    Whole(T),
    /// The stream ends before it does.
    Short(T),
}

/// Takes `length` bytes from `at`, or what is there of them.
pub(crate) fn take(bytes: &[u8], at: usize, length: u64) -> Step<&[u8]> {
    let rest = bytes.get(at..).unwrap_or_default();
    match usize::try_from(length)
        .ok()
        .and_then(|length| rest.get(..length))
    {
        Some(whole) => Step::Whole(whole),
        None => Step::Short(rest),
    }
}

/// Tells whether a status never has content, whatever its fields say. RFC 9112 §6.3.
pub(crate) fn is_bodiless(status: &[u8], asked: &[u8]) -> bool {
    asked == b"HEAD" || status.starts_with(b"1") || status == b"204" || status == b"304"
}
