//! What request and response heads share: limits, scratch space, line ends, the dribbled head.
//!
//! Knows lines, not their meaning.

use std::mem::MaybeUninit;

use super::error::HeadError;
use crate::wire::header::FieldName;

/// The protocol version of a message. RFC 9112 §2.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

impl Version {
    /// That of an HTTP/1 message, by what stands behind the dot; 0 or 1, for the tokeniser takes nothing else.
    #[inline]
    pub(super) fn of_minor(minor: u8) -> Self {
        match minor {
            0 => Self::Http10,
            _ => Self::Http11,
        }
    }
}

/// What a parser made of the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parse<T> {
    /// The head is whole.
    Complete(T),
    /// The head may become whole; nothing seen so far is wrong and no limit is reached.
    Partial,
}

/// Bounds of one head. Any value is legal; `fields_max` beyond [`FIELDS_CEILING`] means that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head, the blank line and one leading empty line included.
    pub head_bytes_max: u32,
    /// Bytes of the request line or status line, without its CRLF. Field lines are bounded by
    /// `head_bytes_max` alone.
    pub line_bytes_max: u32,
    /// Number of field lines.
    pub fields_max: u16,
}

impl Default for HeadLimits {
    /// 32 KiB, 8 KiB and 128 fields.
    fn default() -> Self {
        Self {
            head_bytes_max: 32 * 1024,
            line_bytes_max: 8 * 1024,
            fields_max: 128,
        }
    }
}

impl HeadLimits {
    pub(super) fn head_len_max(&self) -> usize {
        usize::try_from(self.head_bytes_max).unwrap_or(usize::MAX)
    }

    pub(super) fn line_len_max(&self) -> usize {
        usize::try_from(self.line_bytes_max).unwrap_or(usize::MAX)
    }
}

/// Space on the caller's stack for the fields of one head (about 8.3 KiB, mostly never touched).
///
/// Belongs to one buffer: make a new one for every parse, outside of any future that is kept.
#[derive(Debug)]
pub struct HeaderScratch<'b> {
    headers: [MaybeUninit<httparse::Header<'b>>; FIELDS_CEILING],
    kinds: [FieldName; FIELDS_CEILING],
}

impl<'b> HeaderScratch<'b> {
    /// Makes the space; writes only the 256 bytes of the kinds.
    #[must_use]
    #[inline]
    pub fn new() -> Self {
        Self {
            headers: [const { MaybeUninit::uninit() }; FIELDS_CEILING],
            kinds: [FieldName::Other; FIELDS_CEILING],
        }
    }

    /// Lends `fields_max` slots and their kinds.
    #[inline]
    pub(super) fn slots(
        &mut self,
        limits: &HeadLimits,
    ) -> (&mut [MaybeUninit<httparse::Header<'b>>], &mut [FieldName]) {
        let count = usize::from(limits.fields_max).min(FIELDS_CEILING);
        (
            self.headers.get_mut(..count).unwrap_or_default(),
            &mut self.kinds,
        )
    }
}

impl Default for HeaderScratch<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// Remembers how far a dribbled head was searched for its end, so that a head of n bytes that comes
/// byte by byte costs n steps and not n².
///
/// Parse the first buffer directly. If that is [`Parse::Partial`], ask [`HeadScan::complete`] after
/// each receive and parse again only when it says so.
#[derive(Clone, Copy, Debug)]
pub struct HeadScan {
    /// `line_start <= scanned <= bytes.len()` of the last call.
    scanned: usize,
    line_start: usize,
    head_len_max: usize,
    line_len_max: usize,
}

impl HeadScan {
    /// Begins at the first byte of a head.
    #[must_use]
    pub fn new(limits: &HeadLimits) -> Self {
        Self {
            scanned: 0,
            line_start: 0,
            head_len_max: limits.head_len_max(),
            line_len_max: limits.line_len_max(),
        }
    }

    /// Tells whether a parse of `bytes` would no longer be [`Parse::Partial`]: the blank line is
    /// there, a line ends wrongly, or a limit is reached.
    ///
    /// `bytes` is the same head as in the last call, grown. Looks only at what is new.
    pub fn complete(&mut self, bytes: &[u8]) -> bool {
        while let Some(found) = memchr::memchr(b'\n', bytes.get(self.scanned..).unwrap_or_default())
        {
            let lf = self.scanned + found;
            let line = bytes.get(self.line_start..lf).unwrap_or_default();
            let is_blank = line == b"\r";
            if line.last() != Some(&b'\r') || (is_blank && self.line_start > 0) {
                return true;
            }
            if self.is_start_line() && line.len() - 1 > self.line_len_max {
                return true;
            }
            self.scanned = lf + 1;
            self.line_start = lf + 1;
        }
        self.scanned = bytes.len().max(self.scanned);
        let line_len = bytes.len().saturating_sub(self.line_start);
        bytes.len() >= self.head_len_max
            || (self.is_start_line() && line_len.saturating_sub(1) > self.line_len_max)
    }

    /// Tells whether the line in work may be the start line: the first, or the second after an empty
    /// one. A longer first line is never mistaken for an empty one, which is two bytes.
    fn is_start_line(&self) -> bool {
        self.line_start == 0 || self.line_start == 2
    }
}

/// Checks that the start line, which ends at `line_end`, every field line and the blank line of a
/// whole head end in CRLF. httparse would take a bare LF as well.
///
/// Looks at two bytes a line. `head` ends with the blank line.
///
/// # Errors
/// [`HeadError::BareLf`].
#[inline]
pub(super) fn check_line_ends(
    head: &[u8],
    line_end: usize,
    headers: &[httparse::Header<'_>],
) -> Result<(), HeadError> {
    if !is_crlf_at(head, line_end) || !head.ends_with(b"\r\n") {
        return Err(HeadError::BareLf);
    }
    for header in headers {
        let mut end = offset_in(head, header.value) + header.value.len();
        while let Some(b' ' | b'\t') = head.get(end) {
            end += 1;
        }
        if !is_crlf_at(head, end) {
            return Err(HeadError::BareLf);
        }
    }
    Ok(())
}

/// Checks a head that is not whole: no bare LF, and no limit reached.
///
/// Returns whether the start line is too long, which the caller names.
///
/// # Errors
/// [`HeadError::BareLf`].
pub(super) fn check_partial(head: &[u8], limits: &HeadLimits) -> Result<PartialLine, HeadError> {
    let mut start_line_len = None;
    for lf in memchr::memchr_iter(b'\n', head) {
        let Some(cr) = lf.checked_sub(1).filter(|&cr| head.get(cr) == Some(&b'\r')) else {
            return Err(HeadError::BareLf);
        };
        start_line_len.get_or_insert(cr);
    }
    // A CR at the very end may be the first half of the line's end.
    let len = start_line_len.unwrap_or_else(|| head.strip_suffix(b"\r").unwrap_or(head).len());
    Ok(if len > limits.line_len_max() {
        PartialLine::TooLong
    } else {
        PartialLine::Fits
    })
}

/// What [`check_partial`] says about the start line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartialLine {
    /// Within the limit so far.
    Fits,
    /// Beyond the limit already.
    TooLong,
}

/// Most field lines that any [`HeadLimits`] allow.
pub const FIELDS_CEILING: usize = 256;

/// Distance of `part` from the start of `whole`, of which it is a slice.
pub(super) fn offset_in(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr())
}

fn is_crlf_at(bytes: &[u8], at: usize) -> bool {
    bytes
        .get(at..)
        .is_some_and(|rest| rest.starts_with(b"\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` one by one; returns the length at which the scan first said complete.
    fn dribble(bytes: &[u8], limits: &HeadLimits) -> Option<usize> {
        let mut scan = HeadScan::new(limits);
        (1..=bytes.len()).find(|&len| scan.complete(&bytes[..len]))
    }

    #[test]
    fn scan_finds_the_blank_line_and_no_sooner() {
        let limits = HeadLimits::default();
        for head in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
        ] {
            assert_eq!(dribble(head, &limits), Some(head.len()));
            assert!(HeadScan::new(&limits).complete(head));
        }
    }

    #[test]
    fn scan_stops_at_a_bare_lf_and_at_a_second_empty_line() {
        let limits = HeadLimits::default();
        assert_eq!(dribble(b"GET / HTTP/1.1\nHost", &limits), Some(15));
        assert_eq!(dribble(b"\n", &limits), Some(1));
        assert_eq!(dribble(b"\r\n\r\n", &limits), Some(4));
    }

    #[test]
    fn scan_stops_at_the_limits() {
        let limits = HeadLimits {
            head_bytes_max: 100,
            line_bytes_max: 20,
            fields_max: 1,
        };
        assert_eq!(dribble(&[b'a'; 200], &limits), Some(22));
        assert_eq!(
            dribble(&[&b"GET /\r\n"[..], &[b'a'; 200]].concat(), &limits),
            Some(100)
        );
        assert_eq!(dribble(&[&[b'a'; 20][..], b"\r\n"].concat(), &limits), None);
    }

    #[test]
    fn scan_stays_complete() {
        let mut scan = HeadScan::new(&HeadLimits::default());
        assert!(scan.complete(b"a\r\n\r\n"));
        assert!(scan.complete(b"a\r\n\r\nmore"));
    }
}
