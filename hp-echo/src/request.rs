//! What a request asks of us, free of borrows.
//!
//! Must not know: connections, tasks, time.

use std::time::Duration;

use hp_core::wire::http1::method::Method;
use hp_core::wire::http1::request::{RequestFacts, RequestHead};

use crate::answer::METHOD_NOT_ALLOWED;

/// One request, read and understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Request {
    /// What to answer.
    pub(crate) answer: Answer,
    /// How long to wait before.
    pub(crate) delay: Duration,
    /// Framing, version, and what the client wants of the connection.
    pub(crate) facts: RequestFacts,
}

/// The kinds of answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    /// The fixed body.
    Fixed,
    /// The request's own body.
    Echo,
    /// This status, and its name for a body.
    Status(u16),
}

impl Request {
    /// Reads method and path; `/close` counts as the client's own `Connection: close`.
    pub(crate) fn of(head: &RequestHead<'_, '_>) -> Self {
        let mut request = Self {
            answer: match head.method {
                Method::Get | Method::Head => Answer::Fixed,
                Method::Post | Method::Put | Method::Patch => Answer::Echo,
                _ => Answer::Status(METHOD_NOT_ALLOWED),
            },
            delay: Duration::ZERO,
            facts: head.facts,
        };
        let path = head.target.path();
        if let Some(status) = path.strip_prefix("/status/") {
            let status = number(status).and_then(|status| u16::try_from(status).ok());
            let status = status.filter(|status| (200..=599).contains(status));
            request.answer = Answer::Status(status.unwrap_or(BAD_REQUEST));
        } else if let Some(millis) = path.strip_prefix("/delay/") {
            match number(millis).filter(|&millis| millis <= DELAY_MILLIS_MAX) {
                Some(millis) => request.delay = Duration::from_millis(millis),
                None => request.answer = Answer::Status(BAD_REQUEST),
            }
        } else if path == "/close" {
            request.facts.keep_alive = false;
        }
        request
    }

    /// Whether it can be answered without waiting for anything: no body to read, no delay.
    pub(crate) fn is_immediate(&self) -> bool {
        self.delay.is_zero() && !self.facts.framing.has_body()
    }
}

/// Digits only: `u64::from_str` takes a plus sign as well.
fn number(text: &str) -> Option<u64> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

const BAD_REQUEST: u16 = 400;
const DELAY_MILLIS_MAX: u64 = 60_000;

#[cfg(test)]
mod tests {
    use hp_core::wire::http1::head::{HeadLimits, HeaderScratch, Parse};
    use hp_core::wire::http1::request::parse_request;

    use super::*;

    fn request(line: &str) -> Request {
        let bytes = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut scratch = HeaderScratch::new();
        match parse_request(bytes.as_bytes(), &HeadLimits::default(), &mut scratch) {
            Ok(Parse::Complete(head)) => Request::of(&head),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn check(line: &str, want: Answer) {
        assert_eq!(request(line).answer, want, "{line}");
    }

    #[test]
    fn method_decides_between_fixed_and_echo() {
        check("GET /any/path?q", Answer::Fixed);
        check("HEAD /", Answer::Fixed);
        check("POST /", Answer::Echo);
        check("PUT /", Answer::Echo);
        check("PATCH /", Answer::Echo);
        check("DELETE /", Answer::Status(405));
        check("OPTIONS *", Answer::Status(405));
        check("CONNECT a:1", Answer::Status(405));
        check("BREW /", Answer::Status(405));
    }

    #[test]
    fn status_is_two_hundred_to_five_hundred_ninety_nine() {
        check("GET /status/200", Answer::Status(200));
        check("POST /status/599?x=1", Answer::Status(599));
        check("GET http://a/status/404", Answer::Status(404));
        for path in [
            "199",
            "600",
            "100",
            "",
            "x",
            "+200",
            "99999999999999999999",
            "200/",
        ] {
            check(&format!("GET /status/{path}"), Answer::Status(400));
        }
        check("GET /status", Answer::Fixed);
    }

    #[test]
    fn delay_is_a_minute_at_most() {
        assert_eq!(request("GET /delay/60000").delay, Duration::from_secs(60));
        check("POST /delay/5", Answer::Echo);
        check("GET /delay/60001", Answer::Status(400));
        check("GET /delay/", Answer::Status(400));
        assert!(!request("GET /delay/1").is_immediate());
        assert!(request("GET /delay/0").is_immediate());
    }

    #[test]
    fn close_ends_the_connection() {
        assert!(!request("GET /close").facts.keep_alive);
        assert!(request("GET /closed").facts.keep_alive);
    }
}
