//! Answers that the proxy makes itself: short, and with a reason that a machine can read (RFC 9209).

use crate::shared::Worker;
use hp_core::wire::http1::encode;
use hp_core::wire::http1::error::RequestError;

/// A refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// 4xx or 5xx.
    pub(super) status: u16,
    /// The error type of Proxy-Status, RFC 9209 §2.3.
    pub(super) error: &'static str,
    /// In a few plain words; no quote nor backslash.
    pub(super) details: &'static str,
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
    };
    pub(super) const TUNNEL_REFUSED: Self = Self {
        status: 501,
        error: "http_request_denied",
        details: "this proxy opens no tunnels",
    };

    /// Appends the whole answer.
    pub(super) fn encode(&self, out: &mut Vec<u8>, connection: Connection, content: Content) {
        let Self {
            status,
            error,
            details,
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
        encode::field(out, "Content-Type", b"text/plain; charset=utf-8");
        encode::content_length(out, length as u64);
        out.extend_from_slice(b"Proxy-Status: hp-proxy; error=");
        out.extend_from_slice(error.as_bytes());
        out.extend_from_slice(b"; details=\"");
        out.extend_from_slice(details.as_bytes());
        out.extend_from_slice(b"\"\r\n");
        match connection {
            Connection::Close => encode::field(out, "Connection", b"close"),
            Connection::Keep => (),
            Connection::KeepAndSay => encode::field(out, "Connection", b"keep-alive"),
        }
        encode::end_of_head(out);
        if content == Content::Sent {
            text.iter().for_each(|part| out.extend_from_slice(part));
        }
    }

    /// Counts the answer by whose fault it is.
    pub(super) fn count(&self, worker: &Worker) {
        let row = worker.row();
        match self.status {
            ..500 => row.refused_by_client_fault.add(1),
            _ => row.failed_by_backend_fault.add(1),
        }
    }
}

impl From<RequestError> for Answer {
    fn from(error: RequestError) -> Self {
        Self {
            status: error.status(),
            error: "http_request_error",
            details: error.reason(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_declares_the_length_that_it_has() {
        let mut out = Vec::new();
        Answer::REQUEST_TIMEOUT.encode(&mut out, Connection::Close, Content::Sent);
        let text = String::from_utf8(out).unwrap();
        let (head, content) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(
            content,
            "408 Request Timeout: the request did not come in time\n"
        );
        assert!(head.starts_with("HTTP/1.1 408 Request Timeout\r\n"));
        assert!(head.contains(&format!("Content-Length: {}", content.len())));
        assert!(head.contains("\r\nConnection: close"));
        assert!(head.contains("Proxy-Status: hp-proxy; error=http_request_error; details=\""));
    }
}
