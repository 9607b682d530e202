//! What a request asks of us, free of borrows.
//!
//! Must not know: connections, tasks, time.

use std::time::Duration;

use hp_core::wire::http1::method::Method;
use hp_core::wire::http1::request::{RequestFacts, RequestHead};

use crate::answer::{BAD_REQUEST, METHOD_NOT_ALLOWED};
use crate::query::{self, Made, Query, Wrong};

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
    /// What its query orders.
    Made(Made),
    /// A refusal that names what its query has wrong.
    Wrong(Wrong),
    /// What was counted.
    Counters,
    /// What its path names below the root.
    File,
}

/// What GET answers under any path that has no meaning of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Paths {
    /// The fixed body.
    Any,
    /// The file that the path names.
    Files,
}

impl Request {
    /// Reads method, path and query; `/close` counts as the client's own `Connection: close`, and so does `k=0`.
    pub(crate) fn of(head: &RequestHead<'_, '_>, paths: Paths) -> Self {
        let mut request = Self {
            answer: match head.method {
                Method::Get | Method::Head => Answer::Fixed,
                Method::Post | Method::Put | Method::Patch => Answer::Echo,
                _ => Answer::Status(METHOD_NOT_ALLOWED),
            },
            delay: Duration::ZERO,
            facts: head.facts,
        };
        request.read_path(head.target.path(), paths);
        if let Some(text) = head.target.query() {
            request.read_query(text);
        }
        request
    }

    fn read_path(&mut self, path: &str, paths: Paths) {
        if let Some(status) = path.strip_prefix("/status/") {
            let status = query::final_status(status);
            self.answer = Answer::Status(status.unwrap_or(BAD_REQUEST));
        } else if let Some(millis) = path.strip_prefix("/delay/") {
            match query::delay(millis) {
                Some(delay) => self.delay = delay,
                None => self.answer = Answer::Status(BAD_REQUEST),
            }
        } else if path == "/close" {
            self.facts.keep_alive = false;
        } else if path == "/discard" && self.answer == Answer::Echo {
            self.answer = Answer::Fixed;
        } else if path == "/counters" && self.answer == Answer::Fixed {
            self.answer = Answer::Counters;
        } else if paths == Paths::Files && self.answer == Answer::Fixed {
            self.answer = Answer::File;
        }
    }

    fn read_query(&mut self, text: &str) {
        // Whoever may not have an answer of ours may not order one.
        let is_served = matches!(self.answer, Answer::Fixed | Answer::Echo | Answer::File);
        if !is_served {
            return;
        }
        let Query { delay, close, made } = match Query::parse(text) {
            Ok(query) => query,
            Err(wrong) => {
                self.answer = Answer::Wrong(wrong);
                return;
            }
        };
        self.delay = delay.unwrap_or(self.delay);
        self.facts.keep_alive &= !close;
        if let Some(made) = made {
            self.answer = Answer::Made(made);
        }
    }

    /// Whether it can be answered without waiting for anything: no body to read, no delay.
    pub(crate) fn is_immediate(&self) -> bool {
        self.delay.is_zero() && !self.facts.framing.has_body()
    }
}

#[cfg(test)]
mod tests {
    use hp_core::wire::http1::head::{HeadLimits, HeaderScratch, Parse};
    use hp_core::wire::http1::request::parse_request;

    use super::*;

    fn request(line: &str) -> Request {
        request_of(line, Paths::Any)
    }

    fn request_of(line: &str, paths: Paths) -> Request {
        let bytes = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut scratch = HeaderScratch::new();
        match parse_request(bytes.as_bytes(), &HeadLimits::default(), &mut scratch) {
            Ok(Parse::Complete(head)) => Request::of(&head, paths),
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
    fn query_orders_an_answer_where_there_is_one() {
        let made = |size| {
            Answer::Made(Made {
                size: Some(size),
                ..Made::default()
            })
        };
        check("GET /?s=5", made(5));
        check("HEAD /any?s=1k&x=y", made(1024));
        check("POST /?s=5", made(5));
        check("GET /close?s=5", made(5));
        check("GET /delay/1?s=5", made(5));
        check("POST /?t=1", Answer::Echo);
        check("GET /status/404?s=5", Answer::Status(404));
        check("DELETE /?s=5", Answer::Status(405));
        match request("GET /?r=1").answer {
            Answer::Wrong(wrong) => assert_eq!(wrong.key, "r"),
            other => panic!("{other:?}"),
        }
        assert_eq!(request("GET /?t=7").delay, Duration::from_millis(7));
        assert!(!request("GET /?k=0").facts.keep_alive);
        assert!(request("GET /?k=1").facts.keep_alive);
    }

    #[test]
    fn paths_of_our_own_come_before_files() {
        let check = |line, want| assert_eq!(request_of(line, Paths::Files).answer, want, "{line}");
        check("GET /", Answer::File);
        check("HEAD /a?t=1", Answer::File);
        check("POST /a", Answer::Echo);
        check("GET /counters", Answer::Counters);
        check("GET /status/404", Answer::Status(404));
        check("DELETE /a", Answer::Status(405));
        let discard = |line| request_of(line, Paths::Any).answer;
        assert_eq!(discard("POST /discard"), Answer::Fixed);
        assert_eq!(discard("GET /counters"), Answer::Counters);
        assert_eq!(discard("POST /counters"), Answer::Echo);
    }

    #[test]
    fn close_ends_the_connection() {
        assert!(!request("GET /close").facts.keep_alive);
        assert!(request("GET /closed").facts.keep_alive);
    }
}
