//! Writes heads: append-only pieces into a buffer that the caller owns.
//!
//! Every text given here is already legal: parsed, or our own. Nothing is escaped and nothing is
//! allocated but the growth of the buffer.

use super::head::offset_in;
use super::method::Method;

/// Appends `METHOD SP target SP HTTP/1.1 CRLF`.
///
/// An empty target, or one that begins with `?`, gets the `/` that an absolute target may leave out.
/// RFC 9112 §3, §3.2.1.
#[inline]
pub fn request_line(out: &mut Vec<u8>, method: Method<'_>, path_and_query: &str) {
    debug_assert!(
        !path_and_query.contains([' ', '\r', '\n']),
        "a target has no whitespace"
    );
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    if path_and_query.is_empty() || path_and_query.starts_with('?') {
        out.push(b'/');
    }
    out.extend_from_slice(path_and_query.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Appends `HTTP/1.1 SP status SP reason CRLF`; our version, whatever the peer's is.
///
/// `status` is 100 to 599. RFC 9112 §4, RFC 9110 §2.5.
#[inline]
pub fn status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    debug_assert!(matches!(status, 100..=599), "a status has three digits");
    debug_assert!(
        memchr::memchr2(b'\r', b'\n', reason).is_none(),
        "a reason is one line"
    );
    if status == 200 && reason == b"OK" {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n"); // Most.
    }
    other_status_line(out, status, reason);
}

fn other_status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(decimal(u64::from(status), &mut [0; DECIMAL_BYTES_MAX]));
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

/// Appends `name ": " value CRLF`. RFC 9112 §5.
#[inline]
pub fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    debug_assert!(
        memchr::memchr2(b'\r', b'\n', value).is_none(),
        "a value is one line"
    );
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Lines of a received head on their way into the next one. Those that came as we would write them are copied in one piece, as many as
/// follow each other: nearly all do.
///
/// ```text
/// received  │ GET / HTTP/1.1 │ Host: a │ Accept: b │ Connection: close │ X:c │ Y: d │
///            start ─────────────────────────── end                            a new start
/// ```
#[derive(Debug)]
pub struct Lines<'b> {
    received: &'b [u8],
    /// `start <= end <= received.len()`; what lies between them is passed on and not written yet.
    start: usize,
    end: usize,
}

impl<'b> Lines<'b> {
    /// `received` is a head, of which the first `len` bytes are whole lines that travel on as they came.
    #[must_use]
    #[inline]
    pub fn beginning(received: &'b [u8], len: usize) -> Self {
        Self {
            received,
            start: 0,
            end: len,
        }
    }

    /// Passes a field of the head on, as [`field`] would write it.
    #[inline]
    pub fn pass(&mut self, name: &str, value: &[u8], out: &mut Vec<u8>) {
        let at = offset_in(self.received, name.as_bytes());
        let end = written_end(self.received, name, value);
        if at != self.end || end.is_none() {
            self.write(out);
            self.start = at;
        }
        match end {
            Some(end) => self.end = end,
            None => {
                field(out, name, value);
                (self.start, self.end) = (0, 0);
            }
        }
    }

    /// Appends what was passed on so far. To be called before anything else is appended, and at the end.
    #[inline]
    pub fn write(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.received.get(self.start..self.end).unwrap_or_default());
        self.start = self.end;
    }
}

/// Where the line of a field ends in the head that it came with; `None` unless it stands there as [`field`] writes it.
#[inline]
pub(super) fn written_end(received: &[u8], name: &str, value: &[u8]) -> Option<usize> {
    let name_end = offset_in(received, name.as_bytes()).checked_add(name.len())?;
    let value_at = offset_in(received, value);
    let value_end = value_at.checked_add(value.len())?;
    let is_written = received.get(name_end..value_at) == Some(b": ".as_slice())
        && received.get(value_end..)?.starts_with(b"\r\n");
    is_written.then_some(value_end + 2)
}

/// Appends `Content-Length`. RFC 9110 §8.6.
#[inline]
pub fn content_length(out: &mut Vec<u8>, length: u64) {
    const NAME: &[u8] = b"Content-Length: ";
    const CRLF_AT: usize = NAME.len() + DECIMAL_BYTES_MAX;
    // Made from its end to its beginning, and appended whole.
    let mut line = [b'\n'; CRLF_AT + 2];
    line[CRLF_AT] = b'\r';
    let start = digits_at_end(length, &mut line[NAME.len()..CRLF_AT]); // As far before the digits as there is room for the name.
    line[start..start + NAME.len()].copy_from_slice(NAME);
    out.extend_from_slice(&line[start..]);
}

/// Appends `Transfer-Encoding: chunked`. RFC 9112 §6.1.
pub fn transfer_encoding_chunked(out: &mut Vec<u8>) {
    out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
}

/// Appends the blank line. RFC 9112 §2.1.
pub fn end_of_head(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Writes `value` in decimal to the end of `space` and returns the digits.
#[must_use]
pub fn decimal(value: u64, space: &mut [u8; DECIMAL_BYTES_MAX]) -> &[u8] {
    let start = digits_at_end(value, space);
    &space[start..]
}

/// The registered reason phrase of a status; empty for one we do not know. RFC 9110 §15.
#[must_use]
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400..=499 => client_error_phrase(status),
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        511 => "Network Authentication Required",
        _ => "",
    }
}

/// Room for the digits of any `u64`.
pub const DECIMAL_BYTES_MAX: usize = 20;

/// Writes a number to the end of `space`, and says where it begins there.
#[inline]
fn digits_at_end(mut value: u64, space: &mut [u8]) -> usize {
    let mut start = space.len();
    for slot in space.iter_mut().rev() {
        start -= 1;
        *slot = b'0' + u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
        if value == 0 {
            break;
        }
    }
    start
}

fn client_error_phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(write: impl FnOnce(&mut Vec<u8>), expected: &str) {
        let mut out = Vec::new();
        write(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn request_lines_are_origin_form() {
        check(
            |out| request_line(out, Method::Get, "/a?b"),
            "GET /a?b HTTP/1.1\r\n",
        );
        check(
            |out| request_line(out, Method::Get, "?b"),
            "GET /?b HTTP/1.1\r\n",
        );
        check(
            |out| request_line(out, Method::Get, ""),
            "GET / HTTP/1.1\r\n",
        );
        check(
            |out| request_line(out, Method::Options, "*"),
            "OPTIONS * HTTP/1.1\r\n",
        );
    }

    #[test]
    fn status_lines_keep_the_space_before_an_empty_reason() {
        check(|out| status_line(out, 200, b"OK"), "HTTP/1.1 200 OK\r\n");
        check(|out| status_line(out, 599, b""), "HTTP/1.1 599 \r\n");
    }

    #[test]
    fn fields_are_one_line_each() {
        check(|out| field(out, "A", b"b c"), "A: b c\r\n");
        check(|out| field(out, "A", b""), "A: \r\n");
        for length in [0, 9, 10, 1024, u64::MAX] {
            let line = format!("Content-Length: {length}\r\n");
            check(|out| content_length(out, length), &line);
        }
        check(transfer_encoding_chunked, "Transfer-Encoding: chunked\r\n");
        check(end_of_head, "\r\n");
    }

    #[test]
    fn lines_that_came_as_they_are_written_are_copied_and_others_are_written_anew() {
        let received = b"GET / HTTP/1.1\r\nHost: a\r\nB: c\r\nD:e\r\nF: \r\nG: h \r\nI:  j\r\nK: l\r\nM: n\r\n\r\n";
        let mut space = [httparse::EMPTY_HEADER; 16];
        let mut head = httparse::Request::new(&mut space);
        assert!(head.parse(received).unwrap().is_complete());
        let line = "GET / HTTP/1.1\r\n";
        // Every choice of those that travel on, as one by one they would be written.
        for choice in 0..1_u32 << head.headers.len() {
            let (mut copied, mut written) = (Vec::new(), line.as_bytes().to_vec());
            let mut lines = Lines::beginning(received, line.len());
            for (place, header) in head.headers.iter().enumerate() {
                if choice & 1 << place != 0 {
                    lines.pass(header.name, header.value, &mut copied);
                    field(&mut written, header.name, header.value);
                }
            }
            lines.write(&mut copied);
            assert_eq!(copied, written, "{choice:b}");
        }
    }

    #[test]
    fn a_field_of_another_head_is_written_anew() {
        check(
            |out| {
                let mut lines = Lines::beginning(b"A: b\r\n\r\n", 6);
                lines.pass("A", b"b", out);
                lines.write(out);
            },
            "A: b\r\nA: b\r\n",
        );
    }

    #[test]
    fn decimals_are_what_the_standard_library_writes() {
        for value in [0, 1, 9, 10, 99, 100, 12_345, u64::MAX / 2, u64::MAX] {
            let mut space = [0; DECIMAL_BYTES_MAX];
            assert_eq!(decimal(value, &mut space), value.to_string().as_bytes());
        }
    }

    #[test]
    fn every_status_we_send_has_a_phrase() {
        for status in [
            400, 405, 408, 411, 413, 414, 417, 421, 426, 431, 500, 501, 502, 503, 504, 505,
        ] {
            assert!(!reason_phrase(status).is_empty(), "{status}");
        }
        assert_eq!(reason_phrase(599), "");
    }
}
