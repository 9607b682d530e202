//! Answers that the proxy makes itself: short, and with a reason that a machine can read (RFC 9209).

use crate::shared::Generation;
use hp_core::wire::date::DateLine;
use hp_core::wire::forwarding;
use hp_core::wire::http1::encode;
use hp_core::wire::http1::error::RequestError;
use hp_core::wire::http1::head::Version;
use hp_core::wire::http1::request::RequestHead;

/// A refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// 4xx or 5xx.
    pub(super) status: u16,
    /// The error type of Proxy-Status, RFC 9209 §2.3.
    pub(super) error: &'static str,
    /// In a few plain words; no quote nor backslash.
    pub(super) details: &'static str,
    /// Whole field lines that the status calls for.
    pub(super) fields: &'static str,
}

/// What the proxy answers a request with, instead of asking a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    /// It will not have it.
    Refusal(Answer),
    /// OPTIONS ends here: what may be asked. RFC 9110 §9.3.7.
    Options,
    /// TRACE ends here: the request as it came. RFC 9110 §9.3.8.
    Trace,
    /// Its route answers it: a redirect, or always the same.
    OfRoute,
    /// It came to a listener for operators.
    Admin(Page),
}

/// What operators ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// Whether requests may be sent here.
    Ready,
    /// Whether it runs.
    Live,
    /// What it has counted.
    Counters,
    /// Something that the main thread has to be asked.
    Asked,
    /// What the main thread has said, with this status.
    Told(u16),
    /// Nothing, for a page takes these methods only. RFC 9110 §15.5.6.
    Takes(&'static str),
}

/// What becomes of the connection after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    /// It is closed.
    Close,
    /// It is kept; HTTP/1.1 need not say so.
    Keep,
    /// It is kept, and HTTP/1.0 must be told.
    KeepAndSay,
}

/// Whether the answer's content follows its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// It does.
    Sent,
    /// The request was HEAD: only its length is told.
    Withheld,
}

impl Answer {
    pub(super) const REQUEST_TIMEOUT: Self = Self {
        status: 408,
        error: "http_request_error",
        details: "the request did not come in time",
        fields: "",
    };
    /// An authority allows no method at all here, and Allow says so. RFC 9110 §15.5.6, §10.2.1.
    pub(super) const TUNNEL_REFUSED: Self = Self {
        status: 405,
        error: "http_request_denied",
        details: "this proxy opens no tunnels",
        fields: "Allow: \r\n",
    };
    /// RFC 9110 §7.4: what is asked of a secured origin must come over a secured connection.
    pub(super) const MISDIRECTED: Self = Self {
        status: 421,
        error: "http_request_denied",
        details: "an https target on a connection without TLS",
        fields: "",
    };
    /// RFC 9110 §15.5.22, §7.8.
    pub(super) const HTTP10_REFUSED: Self = Self {
        status: 426,
        error: "http_request_denied",
        details: "HTTP/1.0 is not served here",
        fields: "Upgrade: HTTP/1.1\r\nConnection: upgrade\r\n",
    };
    /// RFC 9209 §2.3.28.
    pub(super) const LOOP: Self = Self {
        status: 502,
        error: "proxy_loop_detected",
        details: "the request has been here before",
        fields: "",
    };
    /// No route takes the request; or it is for operators, who have no such page. RFC 9209 §2.3.3.
    pub(super) const NO_ROUTE: Self = Self {
        status: 404,
        error: "destination_not_found",
        details: "no route takes this request",
        fields: "",
    };
    /// RFC 9209 §2.3.4, RFC 9110 §10.2.3.
    pub(super) const MAINTENANCE: Self = Self {
        status: 503,
        error: "destination_unavailable",
        details: "the route is closed for maintenance",
        fields: "Retry-After: 60\r\n",
    };
    pub(super) const UNDERSCORE: Self = Self {
        status: 400,
        error: "http_request_error",
        details: "underscore_in_field_name",
        fields: "",
    };

    /// Appends the whole answer.
    pub(super) fn encode(
        &self,
        out: &mut Vec<u8>,
        connection: Connection,
        content: Content,
        date: &DateLine,
    ) {
        let Self {
            status,
            error,
            details,
            fields,
        } = self;
        let reason = encode::reason_phrase(*status);
        let mut space = [0; encode::DECIMAL_BYTES_MAX];
        let number = encode::decimal(u64::from(*status), &mut space);
        let text: [&[u8]; 6] = [
            number,
            b" ",
            reason.as_bytes(),
            b": ",
            details.as_bytes(),
            b"\n",
        ];
        let length: usize = text.iter().map(|part| part.len()).sum();

        encode::status_line(out, *status, reason.as_bytes());
        out.extend_from_slice(date);
        encode::field(out, "Content-Type", b"text/plain; charset=utf-8");
        encode::content_length(out, length as u64);
        out.extend_from_slice(b"Proxy-Status: hp-proxy; error=");
        out.extend_from_slice(error.as_bytes());
        out.extend_from_slice(b"; details=\"");
        out.extend_from_slice(details.as_bytes());
        out.extend_from_slice(b"\"\r\n");
        out.extend_from_slice(fields.as_bytes());
        connection.encode(out);
        encode::end_of_head(out);
        if content == Content::Sent {
            text.iter().for_each(|part| out.extend_from_slice(part));
        }
    }

    /// Counts the answer by whose fault it is.
    pub(super) fn count(&self, worker: &Generation) {
        let row = worker.row();
        match self.status {
            ..500 => row.refused_by_client_fault.add(1),
            _ => row.failed_by_backend_fault.add(1),
        }
    }
}

impl Connection {
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        match self {
            Self::Close => encode::field(out, "Connection", b"close"),
            Self::Keep => (),
            Self::KeepAndSay => encode::field(out, "Connection", b"keep-alive"),
        }
    }
}

/// Appends the answer to an OPTIONS that ends here. Any method is passed on, so those are named that RFC 9110 and RFC 5789 define.
pub(super) fn encode_options(out: &mut Vec<u8>, connection: Connection, date: &DateLine) {
    encode::status_line(out, 200, b"OK");
    out.extend_from_slice(date);
    encode::field(
        out,
        "Allow",
        b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE",
    );
    encode::content_length(out, 0);
    connection.encode(out);
    encode::end_of_head(out);
}

/// Appends the answer to a TRACE that ends here; `reflected` is from [`encode_reflection`].
pub(super) fn encode_trace(
    out: &mut Vec<u8>,
    connection: Connection,
    date: &DateLine,
    reflected: &[u8],
) {
    encode::status_line(out, 200, b"OK");
    out.extend_from_slice(date);
    encode::field(out, "Content-Type", b"message/http");
    encode::content_length(out, reflected.len() as u64);
    connection.encode(out);
    encode::end_of_head(out);
    out.extend_from_slice(reflected);
}

/// Appends the head as it came, its target in origin form, but for what is a secret: a script that may not read a cookie must not read it here.
pub(super) fn encode_reflection(head: &RequestHead<'_, '_>, out: &mut Vec<u8>) {
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    let target = head.target.path_and_query();
    if target.starts_with('?') {
        out.push(b'/'); // Of an absolute target without a path.
    }
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(match head.version {
        Version::Http10 => b" HTTP/1.0\r\n".as_slice(),
        Version::Http11 => b" HTTP/1.1\r\n",
    });
    for (_kind, name, value) in head.fields.iter() {
        if !forwarding::is_credential(name) {
            encode::field(out, name, value);
        }
    }
    encode::end_of_head(out);
}

impl From<RequestError> for Answer {
    fn from(error: RequestError) -> Self {
        Self {
            status: error.status(),
            error: "http_request_error",
            details: error.reason(),
            fields: "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hp_core::wire::date;
    use std::time::Duration;

    #[test]
    fn an_answer_declares_the_length_that_it_has() {
        let mut out = Vec::new();
        let date = date::line(Duration::ZERO);
        Answer::REQUEST_TIMEOUT.encode(&mut out, Connection::Close, Content::Sent, &date);
        let text = String::from_utf8(out).unwrap();
        let (head, content) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(
            content,
            "408 Request Timeout: the request did not come in time\n"
        );
        assert!(head.starts_with("HTTP/1.1 408 Request Timeout\r\n"));
        assert!(head.contains(&format!("Content-Length: {}", content.len())));
        assert!(head.contains("\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"));
        assert!(head.contains("\r\nConnection: close"));
        assert!(head.contains("Proxy-Status: hp-proxy; error=http_request_error; details=\""));
    }
}
