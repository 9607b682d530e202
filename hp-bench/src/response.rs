//! Reads one answer to its last byte, and keeps none of it.
//!
//! Must not know: clocks, counters, who connects.

use std::cell::RefCell;
use std::io;

use hp_core::http::message::{Filled, Reader};
use hp_core::rt::net::Conn;
use hp_core::wire::http1::chunked::{ChunkEvent, ChunkedDecoder};
use hp_core::wire::http1::framing::{
    ConnSide, MessageEnd, RequestContext, ResponseFraming, Reuse, ReuseFacts, reusable,
};
use hp_core::wire::http1::head::{HeadLimits, HeaderScratch, Parse};
use hp_core::wire::http1::response::{ResponseFacts, parse_response};

/// A complete answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Response {
    /// 200 to 599.
    pub(crate) status: u16,
    /// All its bytes, interim heads included.
    pub(crate) bytes: u64,
    /// Whether the connection may carry another request.
    pub(crate) reuse: Reuse,
}

/// Why there is no complete answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Failure {
    /// The server closed the connection.
    Closed(Came),
    /// The connection was reset.
    Reset(Came),
    /// The deadline came first.
    TimedOut,
    /// Not HTTP, or more than was asked for.
    Malformed,
}

/// How much of the answer was received.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Came {
    /// Not one byte.
    Nothing,
    /// Some bytes, but not the last.
    Part,
}

/// What every answer of a run is read with.
#[derive(Debug)]
pub(crate) struct ResponseRules {
    limits: HeadLimits,
    context: RequestContext,
    /// Whether our requests leave the connection open.
    keep_alive: bool,
    /// Borrowed within one poll only.
    memo: RefCell<Memo>,
}

/// The last whole head. The same bytes mean the same, so they are not parsed again.
#[derive(Debug, Default)]
struct Memo {
    head: Vec<u8>,
    meaning: Option<Meaning>,
}

#[derive(Clone, Copy, Debug)]
struct Meaning {
    status: u16,
    facts: ResponseFacts,
}

impl ResponseRules {
    /// For answers to requests of one method that ask to keep the connection, or to close it.
    pub(crate) fn new(method: &str, keep_alive: bool) -> Self {
        let context = RequestContext {
            method_is_head: method == "HEAD",
            method_is_connect: false,
            upgrade_requested: false,
        };
        let (limits, memo) = (HeadLimits::default(), RefCell::default());
        Self {
            limits,
            context,
            keep_alive,
            memo,
        }
    }

    /// Waits for the answer to a request that was sent on `conn`; `reader` is empty.
    ///
    /// `conn`'s deadline bounds the whole.
    pub(crate) async fn read(&self, conn: &Conn, reader: &mut Reader) -> Result<Response, Failure> {
        let mut bytes = 0;
        loop {
            let (head_len, Meaning { status, facts }) = self.head(conn, reader, bytes).await?;
            reader.consume(head_len);
            bytes += head_len as u64;
            if facts.is_interim {
                continue;
            }
            bytes += body(conn, reader, facts.framing).await?;
            if !reader.is_empty() {
                return Err(Failure::Malformed); // Whose answer these bytes are nobody knows.
            }
            return Ok(Response {
                status,
                bytes,
                reuse: self.reuse(&facts),
            });
        }
    }

    /// Waits for a whole head, and leaves it in the reader.
    async fn head(
        &self,
        conn: &Conn,
        reader: &mut Reader,
        bytes_before: u64,
    ) -> Result<(usize, Meaning), Failure> {
        loop {
            if !reader.is_empty()
                && let Some(found) = self.parse(reader.bytes())?
            {
                return Ok(found);
            }
            let nothing_came = bytes_before == 0 && reader.is_empty();
            more(
                conn,
                reader,
                if nothing_came {
                    Came::Nothing
                } else {
                    Came::Part
                },
            )
            .await?;
        }
    }

    #[inline]
    fn parse(&self, bytes: &[u8]) -> Result<Option<(usize, Meaning)>, Failure> {
        let found = self.memo.borrow().find(bytes);
        match found {
            Some(found) => Ok(Some(found)),
            None => self.parse_anew(bytes),
        }
    }

    /// Apart, so that the fast path does not carry the space for the fields.
    #[inline(never)]
    fn parse_anew(&self, bytes: &[u8]) -> Result<Option<(usize, Meaning)>, Failure> {
        let mut scratch = HeaderScratch::new();
        match parse_response(bytes, &self.limits, &mut scratch, self.context) {
            Ok(Parse::Complete(head)) => {
                let meaning = Meaning {
                    status: head.status,
                    facts: head.facts,
                };
                self.memo
                    .borrow_mut()
                    .remember(&bytes[..head.head_bytes], meaning);
                Ok(Some((head.head_bytes, meaning)))
            }
            Ok(Parse::Partial) => Ok(None),
            Err(_refused) => Err(Failure::Malformed),
        }
    }

    fn reuse(&self, facts: &ResponseFacts) -> Reuse {
        reusable(&ReuseFacts {
            side: ConnSide::Upstream,
            peer_keeps_alive: facts.keep_alive,
            we_keep_alive: self.keep_alive,
            request_end: MessageEnd::Clean,
            response_end: match facts.framing {
                ResponseFraming::UntilClose => MessageEnd::UntilClose,
                _ => MessageEnd::Clean,
            },
            is_tunnel: facts.is_tunnel,
            has_surplus: false,
            is_draining: false,
        })
    }
}

impl Memo {
    #[inline]
    fn find(&self, bytes: &[u8]) -> Option<(usize, Meaning)> {
        let meaning = self.meaning?;
        bytes
            .starts_with(&self.head)
            .then_some((self.head.len(), meaning))
    }

    fn remember(&mut self, head: &[u8], meaning: Meaning) {
        if head.len() > MEMO_BYTES_MAX || meaning.facts.is_interim {
            return;
        }
        self.head.clear();
        self.head.extend_from_slice(head);
        self.meaning = Some(meaning);
    }
}

/// Reads a body to its end and says how long it was on the wire.
async fn body(conn: &Conn, reader: &mut Reader, framing: ResponseFraming) -> Result<u64, Failure> {
    match framing {
        ResponseFraming::Empty => Ok(0),
        ResponseFraming::Length(length) => {
            let mut left = length;
            while left > 0 {
                let came = reader.bytes().len();
                let len = usize::try_from(left).map_or(came, |left| left.min(came));
                reader.consume(len);
                left -= len as u64;
                if left > 0 {
                    more(conn, reader, Came::Part).await?;
                }
            }
            Ok(length)
        }
        ResponseFraming::Chunked => chunked(conn, reader).await,
        ResponseFraming::UntilClose => {
            let mut total = 0;
            loop {
                let len = reader.bytes().len();
                reader.consume(len);
                total += len as u64;
                match reader.fill(conn).await {
                    Ok(Filled::More) => (),
                    Ok(Filled::Eof) => return Ok(total),
                    Err(error) => return Err(broken(&error, Came::Part)),
                }
            }
        }
    }
}

async fn chunked(conn: &Conn, reader: &mut Reader) -> Result<u64, Failure> {
    let mut decoder = ChunkedDecoder::new();
    let mut total = 0;
    loop {
        let decoded = decoder.next(reader.bytes());
        let (len, event) = decoded.map_err(|_refused| Failure::Malformed)?;
        reader.consume(len);
        total += len as u64;
        match event {
            ChunkEvent::Data(_content) => (),
            ChunkEvent::End => return Ok(total),
            ChunkEvent::NeedMore => more(conn, reader, Came::Part).await?,
        }
    }
}

async fn more(conn: &Conn, reader: &mut Reader, came: Came) -> Result<(), Failure> {
    match reader.fill(conn).await {
        Ok(Filled::More) => Ok(()),
        Ok(Filled::Eof) => Err(Failure::Closed(came)),
        Err(error) => Err(broken(&error, came)),
    }
}

/// Names the failure of a connection.
pub(crate) fn broken(error: &io::Error, came: Came) -> Failure {
    match error.kind() {
        io::ErrorKind::TimedOut => Failure::TimedOut,
        io::ErrorKind::BrokenPipe => Failure::Closed(came), // Its end came before our bytes.
        _ => Failure::Reset(came),
    }
}

const MEMO_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rules: &ResponseRules, bytes: &str, want: Option<(usize, u16)>) {
        let found = rules.parse(bytes.as_bytes()).unwrap();
        assert_eq!(
            found.map(|(len, meaning)| (len, meaning.status)),
            want,
            "{bytes}"
        );
    }

    #[test]
    fn known_head_means_the_same_as_a_parsed_one() {
        let rules = ResponseRules::new("GET", true);
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
        for _ in 0..2 {
            check(&rules, ok, Some((ok.len(), 200)));
            check(&rules, &format!("{ok}hi"), Some((ok.len(), 200)));
            check(&rules, &ok[..ok.len() - 1], None);
        }
        let other = ok.replace("200", "503");
        check(&rules, &other, Some((ok.len(), 503)));
        check(&rules, ok, Some((ok.len(), 200)));
    }

    #[test]
    fn head_of_another_protocol_is_malformed() {
        let rules = ResponseRules::new("GET", true);
        assert_eq!(
            rules.parse(b"SSH-2.0-x\r\n").err(),
            Some(Failure::Malformed)
        );
    }

    #[test]
    fn connection_is_kept_only_when_both_sides_want_it() {
        let check = |keep_alive, text: &str, want: bool| {
            let rules = ResponseRules::new("GET", keep_alive);
            let (_len, meaning) = rules.parse(text.as_bytes()).unwrap().unwrap();
            assert_eq!(rules.reuse(&meaning.facts) == Reuse::Yes, want, "{text}");
        };
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        check(true, ok, true);
        check(false, ok, false);
        check(
            true,
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            false,
        );
        check(true, "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false);
        check(true, "HTTP/1.1 200 OK\r\n\r\n", false);
    }
}
