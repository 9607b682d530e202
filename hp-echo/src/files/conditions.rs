//! Conditions and ranges of a request for a file. RFC 9110 §13, §14.
//!
//! Must not know: files, connections, where the time comes from.

use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

use hp_core::wire::header::Fields;
use hp_core::wire::token::trim_ows;

/// What a request is judged by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conditions<'a> {
    /// The file's strong entity tag, with its quotes.
    pub(super) etag: &'a str,
    /// Its last change in whole seconds since 1970-01-01 UTC.
    pub(super) modified: Duration,
    /// The time now, since 1970-01-01 UTC.
    pub(super) now: Duration,
    /// Its length in bytes.
    pub(super) len: u64,
}

/// What is to be answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// 200 with all of it.
    Whole,
    /// 206 with a part of it, which is not empty and within it.
    Part(Range<u64>),
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 416.
    Unsatisfiable,
}

/// How entity tags are compared. RFC 9110 §8.8.3.2.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Comparison {
    /// A weak tag equals none.
    Strong,
    /// A weak tag equals a strong one.
    Weak,
}

/// What a Range field asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Asked {
    /// Nothing that we read: it is ignored, as RFC 9110 §14.2 allows.
    Nothing,
    /// A part that there is.
    Part(Range<u64>),
    /// A part that there is not.
    Beyond,
}

impl Conditions<'_> {
    /// Judges in the order of RFC 9110 §13.2.2.
    pub(super) fn judge(&self, fields: &Fields<'_, '_>, is_get: bool) -> Verdict {
        if has(fields, "If-Match") {
            if !self.lists(fields, "If-Match", Comparison::Strong) {
                return Verdict::PreconditionFailed;
            }
        } else if let Some(since) = one_date(fields, "If-Unmodified-Since")
            && self.modified > since
        {
            return Verdict::PreconditionFailed;
        }
        if has(fields, "If-None-Match") {
            if self.lists(fields, "If-None-Match", Comparison::Weak) {
                return Verdict::NotModified;
            }
        } else if let Some(since) = one_date(fields, "If-Modified-Since")
            && self.modified <= since
        {
            return Verdict::NotModified;
        }
        if !is_get || !self.range_is_for_this(fields) {
            return Verdict::Whole;
        }
        match one(fields, "Range").map_or(Asked::Nothing, |value| range(value, self.len)) {
            Asked::Nothing => Verdict::Whole,
            Asked::Part(range) => Verdict::Part(range),
            Asked::Beyond => Verdict::Unsatisfiable,
        }
    }

    /// Whether a list of entity tags, in one field or several, has this one, or is `*`.
    fn lists(&self, fields: &Fields<'_, '_>, name: &str, comparison: Comparison) -> bool {
        all(fields, name).any(|value| {
            trim_ows(value) == b"*" || tags_have(value, self.etag.as_bytes(), comparison)
        })
    }

    /// Whether If-Range lets the range count. A date counts only when a second change cannot have come within the same second.
    /// RFC 9110 §13.1.5, §8.8.2.2.
    fn range_is_for_this(&self, fields: &Fields<'_, '_>) -> bool {
        if !has(fields, "If-Range") {
            return true;
        }
        let Some(value) = one(fields, "If-Range") else {
            return false;
        };
        match date_of(value) {
            Some(date) => {
                date == self.modified && self.now >= self.modified + Duration::from_secs(1)
            }
            None => trim_ows(value) == self.etag.as_bytes(),
        }
    }
}

/// A date as fields have it. RFC 9110 §5.6.7.
pub(super) fn date(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs().min(SECONDS_MAX);
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
}

fn date_of(value: &[u8]) -> Option<Duration> {
    let text = str::from_utf8(trim_ows(value)).ok()?;
    let date = httpdate::parse_http_date(text).ok()?;
    date.duration_since(UNIX_EPOCH).ok()
}

fn all<'b>(fields: &Fields<'_, 'b>, name: &str) -> impl Iterator<Item = &'b [u8]> {
    fields
        .iter()
        .filter(move |(_, known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, _, value)| value)
}

fn has(fields: &Fields<'_, '_>, name: &str) -> bool {
    fields.named(name).is_some()
}

/// The value of a field that is there once; a repeated one says nothing that could be relied upon.
fn one<'b>(fields: &Fields<'_, 'b>, name: &str) -> Option<&'b [u8]> {
    let mut values = all(fields, name);
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

fn one_date(fields: &Fields<'_, '_>, name: &str) -> Option<Duration> {
    date_of(one(fields, name)?)
}

/// Whether a list of entity tags has this strong one. Reads up to the first thing that is no tag. RFC 9110 §8.8.3.
fn tags_have(mut list: &[u8], etag: &[u8], comparison: Comparison) -> bool {
    loop {
        while let [b' ' | b'\t' | b',', rest @ ..] = list {
            list = rest;
        }
        let (is_weak, tag) = match list {
            [b'W', b'/', tag @ ..] => (true, tag),
            tag => (false, tag),
        };
        let [b'"', inner @ ..] = tag else {
            return false;
        };
        let Some(inner_len) = memchr_quote(inner) else {
            return false;
        };
        let (known, rest) = tag.split_at(inner_len + 2);
        if known == etag && (comparison == Comparison::Weak || !is_weak) {
            return true;
        }
        list = rest;
    }
}

fn memchr_quote(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&byte| byte == b'"')
}

/// Reads one range of bytes; several, another unit or nonsense ask for nothing. RFC 9110 §14.1.2.
fn range(value: &[u8], len: u64) -> Asked {
    let value = trim_ows(value);
    let Some((unit, spec)) = value.split_at_checked(UNIT.len()) else {
        return Asked::Nothing;
    };
    if !unit.eq_ignore_ascii_case(UNIT) {
        return Asked::Nothing;
    }
    let spec = trim_ows(spec);
    let Some(dash) = spec.iter().position(|&byte| byte == b'-') else {
        return Asked::Nothing;
    };
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);
    match (position(first), position(last)) {
        (Some(first), Some(last)) if first > last => Asked::Nothing,
        (Some(first), _) if first >= len && (last.is_empty() || position(last).is_some()) => {
            Asked::Beyond
        }
        (Some(first), Some(last)) => Asked::Part(first..last.saturating_add(1).min(len)),
        (Some(first), None) if last.is_empty() => Asked::Part(first..len),
        (None, Some(0)) if first.is_empty() => Asked::Beyond,
        // The last bytes of nothing are nothing, for which 206 has no words.
        (None, Some(_)) if first.is_empty() && len == 0 => Asked::Nothing,
        (None, Some(last)) if first.is_empty() => Asked::Part(len.saturating_sub(last)..len),
        _ => Asked::Nothing,
    }
}

/// A number of any length: what does not fit is beyond every file.
fn position(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let next = |value: u64, digit: &u8| {
        value
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    };
    Some(digits.iter().fold(0, next))
}

const UNIT: &[u8] = b"bytes=";
/// The end of the year 9999, beyond which the format has no digits.
const SECONDS_MAX: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;
    use hp_core::wire::http1::head::{HeadLimits, HeaderScratch, Parse};
    use hp_core::wire::http1::request::parse_request;

    const ETAG: &str = "\"a\"";
    /// 1994-11-06 08:49:37.
    const MODIFIED: u64 = 784_111_777;

    fn judge(lines: &str, is_get: bool) -> Verdict {
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let mut scratch = HeaderScratch::new();
        let parsed = parse_request(bytes.as_bytes(), &HeadLimits::default(), &mut scratch);
        let Ok(Parse::Complete(head)) = parsed else {
            panic!("{lines}: {parsed:?}");
        };
        let conditions = Conditions {
            etag: ETAG,
            modified: Duration::from_secs(MODIFIED),
            now: Duration::from_secs(MODIFIED + 1),
            len: 100,
        };
        conditions.judge(&head.fields, is_get)
    }

    fn check(lines: &str, want: Verdict) {
        assert_eq!(judge(lines, true), want, "{lines}");
    }

    #[test]
    fn entity_tags_are_compared_as_their_field_says() {
        for same in [
            "\"a\"",
            "W/\"a\"",
            "\"b\", \"a\"",
            "\"b,\",W/\"a\"",
            "*",
            "\"b\"\r\nIf-None-Match: \"a\"",
        ] {
            check(&format!("If-None-Match: {same}\r\n"), Verdict::NotModified);
        }
        for other in ["\"b\"", "a", "\"a", "\"A\"", "", "\"b,\"a\"\""] {
            check(&format!("If-None-Match: {other}\r\n"), Verdict::Whole);
        }
        check("If-Match: \"a\"\r\n", Verdict::Whole);
        check("If-Match: *\r\n", Verdict::Whole);
        check("If-Match: W/\"a\"\r\n", Verdict::PreconditionFailed);
        check("If-Match: \"b\"\r\n", Verdict::PreconditionFailed);
    }

    #[test]
    fn dates_are_compared_in_seconds() {
        let same = "Sun, 06 Nov 1994 08:49:37 GMT";
        let old = "Sun, 06 Nov 1994 08:49:36 GMT";
        assert_eq!(date(Duration::from_secs(MODIFIED)), same);
        check(
            &format!("If-Modified-Since: {same}\r\n"),
            Verdict::NotModified,
        );
        check(
            "If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT\r\n",
            Verdict::NotModified,
        );
        check(
            "If-Modified-Since: Sun Nov  6 08:49:37 1994\r\n",
            Verdict::NotModified,
        );
        check(&format!("If-Modified-Since: {old}\r\n"), Verdict::Whole);
        check("If-Modified-Since: yesterday\r\n", Verdict::Whole);
        check(&format!("If-Unmodified-Since: {same}\r\n"), Verdict::Whole);
        check(
            &format!("If-Unmodified-Since: {old}\r\n"),
            Verdict::PreconditionFailed,
        );
    }

    #[test]
    fn tags_come_before_dates() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        check(
            &format!("If-None-Match: \"b\"\r\nIf-Modified-Since: {date}\r\n"),
            Verdict::Whole,
        );
        let old = "Sun, 06 Nov 1994 08:49:36 GMT";
        check(
            &format!("If-Match: \"a\"\r\nIf-Unmodified-Since: {old}\r\n"),
            Verdict::Whole,
        );
    }

    #[test]
    fn one_range_is_answered_and_others_are_ignored() {
        let check = |spec: &str, want| check(&format!("Range: {spec}\r\n"), want);
        check("bytes=0-0", Verdict::Part(0..1));
        check("bytes=10-19", Verdict::Part(10..20));
        check("Bytes=90-", Verdict::Part(90..100));
        check("bytes=90-1000", Verdict::Part(90..100));
        check("bytes=0-99999999999999999999999", Verdict::Part(0..100));
        check("bytes=-10", Verdict::Part(90..100));
        check("bytes=-1000", Verdict::Part(0..100));
        for beyond in [
            "bytes=100-",
            "bytes=100-200",
            "bytes=-0",
            "bytes=99999999999999999999-",
        ] {
            check(beyond, Verdict::Unsatisfiable);
        }
        for ignored in [
            "bytes=0-1,3-4",
            "bytes=5-4",
            "bytes=200-100",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "lines=0-1",
            "0-1",
            "bytes=+1-2",
            "bytes=1-2x",
            "bytes=--1",
            "bytes=100-x",
            "",
            "bytes=0-1\r\nRange: bytes=0-1",
        ] {
            check(ignored, Verdict::Whole);
        }
    }

    #[test]
    fn empty_file_has_no_parts() {
        assert_eq!(range(b"bytes=0-", 0), Asked::Beyond);
        assert_eq!(range(b"bytes=-5", 0), Asked::Nothing);
    }

    #[test]
    fn range_counts_for_get_and_for_what_the_client_has() {
        assert_eq!(judge("Range: bytes=0-0\r\n", false), Verdict::Whole);
        let check =
            |value: &str, want| check(&format!("Range: bytes=0-0\r\nIf-Range: {value}\r\n"), want);
        check("\"a\"", Verdict::Part(0..1));
        check("W/\"a\"", Verdict::Whole);
        check("\"b\"", Verdict::Whole);
        check("Sun, 06 Nov 1994 08:49:37 GMT", Verdict::Part(0..1));
        check("Sun, 06 Nov 1994 08:49:38 GMT", Verdict::Whole);
        check("\"a\"\r\nIf-Range: \"a\"", Verdict::Whole);
    }

    #[test]
    fn date_that_is_too_young_is_no_strong_validator() {
        let conditions = Conditions {
            etag: ETAG,
            modified: Duration::from_secs(MODIFIED),
            now: Duration::from_millis(MODIFIED * 1000 + 999),
            len: 100,
        };
        let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nRange: bytes=0-0\r\nIf-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";
        let mut scratch = HeaderScratch::new();
        match parse_request(bytes, &HeadLimits::default(), &mut scratch) {
            Ok(Parse::Complete(head)) => {
                assert_eq!(conditions.judge(&head.fields, true), Verdict::Whole);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn dates_end_with_the_year_9999() {
        assert_eq!(date(Duration::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
