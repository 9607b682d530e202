//! Writes heads: append-only pieces into a buffer that the caller owns.
//!
//! Every text given here is already legal: parsed, or our own. Nothing is escaped and nothing is
//! allocated but the growth of the buffer.

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

/// Appends `Content-Length`. RFC 9110 §8.6.
#[inline]
pub fn content_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    out.extend_from_slice(decimal(length, &mut [0; DECIMAL_BYTES_MAX]));
    out.extend_from_slice(b"\r\n");
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
pub fn decimal(mut value: u64, space: &mut [u8; DECIMAL_BYTES_MAX]) -> &[u8] {
    let mut start = space.len();
    for slot in space.iter_mut().rev() {
        start -= 1;
        *slot = DIGITS[usize::from(u8::try_from(value % 10).unwrap_or_default())];
        value /= 10;
        if value == 0 {
            break;
        }
    }
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

const DIGITS: &[u8; 10] = b"0123456789";

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
        check(|out| content_length(out, 1024), "Content-Length: 1024\r\n");
        check(transfer_encoding_chunked, "Transfer-Encoding: chunked\r\n");
        check(end_of_head, "\r\n");
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
