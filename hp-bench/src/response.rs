//! Reads one answer to its last byte, and keeps none of it.
//!
//! Must not know: clocks, counters, who connects.

use std::cell::{Cell, RefCell};
use std::io;
use std::time::Duration;

use hp_core::http::message::{Filled, Reader};
use hp_core::rt::Instant;
use hp_core::rt::net::Conn;
use hp_core::wire::http1::chunked::{ChunkEvent, ChunkedDecoder};
use hp_core::wire::http1::framing::{
    ConnSide, MessageEnd, RequestContext, ResponseFraming, Reuse, ReuseFacts, reusable,
};
use hp_core::wire::http1::head::{HeadLimits, HeaderScratch, Parse};
use hp_core::wire::http1::response::{ResponseFacts, parse_response};

use crate::cli::load::{Drain, Stamp};

/// A complete answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Response {
    /// 200 to 599.
    pub(crate) status: u16,
    /// All its bytes, interim heads included.
    pub(crate) bytes: u64,
    /// Bytes of its content, framing removed.
    pub(crate) body_bytes: u64,
    /// Hash of its content; `None` where nobody asked.
    pub(crate) body_hash: Option<u64>,
    /// When its first bytes were read.
    pub(crate) first_byte: Instant,
    /// When it was complete.
    pub(crate) done: Instant,
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

/// What an answer depends on, besides its bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Asked {
    /// Whether the request was a HEAD, whose answer has no body.
    pub(crate) is_head: bool,
    /// Whether the request leaves the connection open.
    pub(crate) keep_alive: bool,
    /// Whether the body is to be hashed.
    pub(crate) hashes_body: bool,
}

/// What was received on a connection and belongs to answers that are not read yet.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    reader: Reader,
    /// Bytes per second at which it is read at most; 0: as they come.
    bytes_per_second: u64,
    /// When the next bytes may be read.
    next_read: Cell<Option<Instant>>,
}

impl Incoming {
    /// Reads at most so many bytes per second; 0: as they come.
    pub(crate) fn at_rate(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second,
            ..Self::default()
        }
    }

    /// Whether nothing is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.reader.is_empty()
    }

    async fn fill(&mut self, conn: &Conn) -> io::Result<Filled> {
        match self.bytes_per_second {
            0 => self.reader.fill(conn).await,
            rate => Box::pin(self.fill_slowly(conn, rate)).await,
        }
    }

    async fn fill_slowly(&mut self, conn: &Conn, rate: u64) -> io::Result<Filled> {
        let rt = conn.rt();
        if let Some(at) = self.next_read.take() {
            rt.sleep_until(at).await;
        }
        let before = self.reader.bytes().len();
        let filled = self.reader.fill(conn).await?;
        let came = (self.reader.bytes().len() - before) as u64;
        let nanos = came.saturating_mul(1_000_000_000) / rate;
        self.next_read
            .set(Some(rt.now() + Duration::from_nanos(nanos)));
        Ok(filled)
    }
}

/// What every answer of a thread is read with.
#[derive(Debug)]
pub(crate) struct ResponseRules {
    limits: HeadLimits,
    /// Whether more bytes may follow an answer, because more requests are under way.
    is_pipelined: bool,
    drain: Drain,
    stamp: Stamp,
    /// For answers to HEAD, and to everything else. Borrowed within one poll only.
    memos: [RefCell<Memo>; 2],
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
    /// For connections with one request at a time, or with more.
    pub(crate) fn new(is_pipelined: bool, drain: Drain, stamp: Stamp) -> Self {
        Self {
            limits: HeadLimits::default(),
            is_pipelined,
            drain,
            stamp,
            memos: Default::default(),
        }
    }

    /// Waits for the answer to a request that was sent on `conn`. `conn`'s deadline bounds the whole.
    pub(crate) async fn read(
        &self,
        conn: &Conn,
        input: &mut Incoming,
        asked: Asked,
    ) -> Result<Response, Failure> {
        if input.is_empty() && input.bytes_per_second == 0 {
            match input.reader.fill(conn).await {
                Ok(Filled::More) => (),
                Ok(Filled::Eof) => return Err(Failure::Closed(Came::Nothing)),
                Err(error) => return Err(broken(&error, Came::Nothing)),
            }
        }
        match self.take_whole(conn, input, asked)? {
            Some(response) => Ok(response),
            // Boxed: most connections of a run wait above, and pay for what they wait in.
            None => Box::pin(self.read_in_parts(conn, input, asked)).await,
        }
    }

    /// Takes an answer that has come whole, as small ones do; `None` leaves everything where it is.
    fn take_whole(
        &self,
        conn: &Conn,
        input: &mut Incoming,
        asked: Asked,
    ) -> Result<Option<Response>, Failure> {
        let bytes = input.reader.bytes();
        if bytes.is_empty() || asked.hashes_body {
            return Ok(None);
        }
        let Some((head_bytes, Meaning { status, facts })) = self.parse(bytes, asked.is_head)?
        else {
            return Ok(None);
        };
        let body_bytes = match facts.framing {
            ResponseFraming::Empty => 0,
            ResponseFraming::Length(length) => length,
            ResponseFraming::Chunked | ResponseFraming::UntilClose => return Ok(None),
        };
        let body_here = usize::try_from(body_bytes).ok();
        let Some(end) = body_here.and_then(|len| head_bytes.checked_add(len)) else {
            return Ok(None);
        };
        let is_whole = end == bytes.len() || (end < bytes.len() && self.is_pipelined);
        if facts.is_interim || !is_whole {
            return Ok(None);
        }
        input.reader.consume(end);
        let done = self.came_at(conn);
        Ok(Some(Response {
            status,
            bytes: end as u64,
            body_bytes,
            body_hash: None,
            first_byte: done,
            done,
            reuse: reuse(&facts, asked.keep_alive),
        }))
    }

    /// Waits for the rest of an answer, whatever its form.
    async fn read_in_parts(
        &self,
        conn: &Conn,
        input: &mut Incoming,
        asked: Asked,
    ) -> Result<Response, Failure> {
        let mut taken = Taken {
            hash: asked.hashes_body.then_some(FNV_START),
            ..Taken::default()
        };
        loop {
            let (head_len, Meaning { status, facts }) =
                self.head(conn, input, asked, &mut taken).await?;
            input.reader.consume(head_len);
            taken.bytes += head_len as u64;
            if facts.is_interim {
                continue;
            }
            self.body(conn, input, facts.framing, &mut taken).await?;
            if !self.is_pipelined && !input.is_empty() {
                return Err(Failure::Malformed); // Whose answer these bytes are nobody knows.
            }
            let done = self.stamp.now(conn.rt());
            return Ok(Response {
                status,
                bytes: taken.bytes,
                body_bytes: taken.body_bytes,
                body_hash: taken.hash,
                first_byte: taken.first_byte.unwrap_or(done),
                done,
                reuse: reuse(&facts, asked.keep_alive),
            });
        }
    }

    /// Waits for a whole head, and leaves it in the reader.
    async fn head(
        &self,
        conn: &Conn,
        input: &mut Incoming,
        asked: Asked,
        taken: &mut Taken,
    ) -> Result<(usize, Meaning), Failure> {
        loop {
            if !input.is_empty()
                && let Some(found) = self.parse(input.reader.bytes(), asked.is_head)?
            {
                return Ok(found);
            }
            self.more(conn, input, taken).await?;
        }
    }

    /// Reads a body to its end.
    async fn body(
        &self,
        conn: &Conn,
        input: &mut Incoming,
        framing: ResponseFraming,
        taken: &mut Taken,
    ) -> Result<(), Failure> {
        match framing {
            ResponseFraming::Empty => Ok(()),
            ResponseFraming::Length(length) => self.counted(conn, input, length, taken).await,
            ResponseFraming::Chunked => self.chunked(conn, input, taken).await,
            ResponseFraming::UntilClose => loop {
                let len = input.reader.bytes().len();
                taken.content(input.reader.bytes());
                input.reader.consume(len);
                taken.bytes += len as u64;
                match input.fill(conn).await {
                    Ok(Filled::More) => (),
                    Ok(Filled::Eof) => return Ok(()),
                    Err(error) => return Err(broken(&error, Came::Part)),
                }
            },
        }
    }

    /// A body of known length. Nobody needs the bytes of a long one that is not hashed.
    async fn counted(
        &self,
        conn: &Conn,
        input: &mut Incoming,
        length: u64,
        taken: &mut Taken,
    ) -> Result<(), Failure> {
        let mut left = length;
        while left > 0 {
            let bytes = input.reader.bytes();
            let came = bytes.len();
            let len = usize::try_from(left).map_or(came, |left| left.min(came));
            taken.content(&bytes[..len]);
            input.reader.consume(len);
            taken.bytes += len as u64;
            left -= len as u64;
            if left >= DISCARDED_BYTES_MIN && self.drain == Drain::Trunc && taken.hash.is_none() {
                taken.first_byte.get_or_insert_with(|| self.came_at(conn));
                // The last byte comes the usual way: what a server says beyond its answer comes with it, and is found.
                discard(conn, left - 1, taken).await?;
                left = 1;
            }
            if left > 0 {
                self.more(conn, input, taken).await?;
            }
        }
        Ok(())
    }

    async fn chunked(
        &self,
        conn: &Conn,
        input: &mut Incoming,
        taken: &mut Taken,
    ) -> Result<(), Failure> {
        let mut decoder = ChunkedDecoder::new();
        loop {
            let decoded = decoder.next(input.reader.bytes());
            let (len, event) = decoded.map_err(|_refused| Failure::Malformed)?;
            let is_starved = event == ChunkEvent::NeedMore;
            let is_over = event == ChunkEvent::End;
            if let ChunkEvent::Data(content) = event {
                taken.content(input.reader.bytes().get(content).unwrap_or_default());
            }
            input.reader.consume(len);
            taken.bytes += len as u64;
            if is_over {
                return Ok(());
            }
            if is_starved {
                self.more(conn, input, taken).await?;
            }
        }
    }

    async fn more(
        &self,
        conn: &Conn,
        input: &mut Incoming,
        taken: &mut Taken,
    ) -> Result<(), Failure> {
        let came = if taken.bytes == 0 && input.is_empty() {
            Came::Nothing
        } else {
            taken.first_byte.get_or_insert_with(|| self.came_at(conn));
            Came::Part
        };
        match input.fill(conn).await {
            Ok(Filled::More) => Ok(()),
            Ok(Filled::Eof) => Err(Failure::Closed(came)),
            Err(error) => Err(broken(&error, came)),
        }
    }

    /// When the last bytes came off the socket, which may be some tasks ago.
    fn came_at(&self, conn: &Conn) -> Instant {
        conn.received_at()
            .unwrap_or_else(|| self.stamp.now(conn.rt()))
    }

    #[inline]
    fn parse(&self, bytes: &[u8], is_head: bool) -> Result<Option<(usize, Meaning)>, Failure> {
        let found = self.memos[usize::from(is_head)].borrow().find(bytes);
        match found {
            Some(found) => Ok(Some(found)),
            None => self.parse_anew(bytes, is_head),
        }
    }

    /// Apart, so that the fast path does not carry the space for the fields.
    #[inline(never)]
    fn parse_anew(&self, bytes: &[u8], is_head: bool) -> Result<Option<(usize, Meaning)>, Failure> {
        let context = RequestContext {
            method_is_head: is_head,
            method_is_connect: false,
            upgrade_requested: false,
        };
        let mut scratch = HeaderScratch::new();
        match parse_response(bytes, &self.limits, &mut scratch, context) {
            Ok(Parse::Complete(head)) => {
                let meaning = Meaning {
                    status: head.status,
                    facts: head.facts,
                };
                self.memos[usize::from(is_head)]
                    .borrow_mut()
                    .remember(&bytes[..head.head_bytes], meaning);
                Ok(Some((head.head_bytes, meaning)))
            }
            Ok(Parse::Partial) => Ok(None),
            Err(_refused) => Err(Failure::Malformed),
        }
    }
}

fn reuse(facts: &ResponseFacts, keep_alive: bool) -> Reuse {
    reusable(&ReuseFacts {
        side: ConnSide::Upstream,
        peer_keeps_alive: facts.keep_alive,
        we_keep_alive: keep_alive,
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

/// What an answer has brought so far.
#[derive(Debug, Default)]
struct Taken {
    bytes: u64,
    body_bytes: u64,
    hash: Option<u64>,
    /// Set where more bytes were needed after the first.
    first_byte: Option<Instant>,
}

impl Taken {
    fn content(&mut self, content: &[u8]) {
        self.body_bytes += content.len() as u64;
        if let Some(hash) = &mut self.hash {
            // FNV-1a: byte by byte, so that where the kernel cut the content does not show.
            for byte in content {
                *hash = (*hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
            }
        }
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

/// Has content of a body that goes on dropped, uncopied where that is possible.
async fn discard(conn: &Conn, len: u64, taken: &mut Taken) -> Result<(), Failure> {
    let mut left = len;
    while left > 0 {
        let max = usize::try_from(left).unwrap_or(usize::MAX);
        match conn.discard(max).await {
            Ok(0) => return Err(Failure::Closed(Came::Part)),
            Ok(count) => {
                taken.bytes += count as u64;
                taken.body_bytes += count as u64;
                left -= count as u64;
            }
            Err(error) => return Err(broken(&error, Came::Part)),
        }
    }
    Ok(())
}

/// Names the failure of a connection.
pub(crate) fn broken(error: &io::Error, came: Came) -> Failure {
    match error.kind() {
        io::ErrorKind::TimedOut => Failure::TimedOut,
        io::ErrorKind::BrokenPipe => Failure::Closed(came), // Its end came before our bytes.
        _ => Failure::Reset(came),
    }
}

/// From this length on what is left of a body is discarded: less comes in one receive anyway.
const DISCARDED_BYTES_MIN: u64 = 64 << 10;
const MEMO_BYTES_MAX: usize = 4096;
const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> ResponseRules {
        ResponseRules::new(false, Drain::default(), Stamp::default())
    }

    fn check(rules: &ResponseRules, bytes: &str, want: Option<(usize, u16)>) {
        let found = rules.parse(bytes.as_bytes(), false).unwrap();
        assert_eq!(
            found.map(|(len, meaning)| (len, meaning.status)),
            want,
            "{bytes}"
        );
    }

    #[test]
    fn known_head_means_the_same_as_a_parsed_one() {
        let rules = rules();
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
        let rules = rules();
        assert_eq!(
            rules.parse(b"SSH-2.0-x\r\n", false).err(),
            Some(Failure::Malformed)
        );
    }

    #[test]
    fn connection_is_kept_only_when_both_sides_want_it() {
        let check = |keep_alive, text: &str, want: bool| {
            let rules = rules();
            let (_len, meaning) = rules.parse(text.as_bytes(), false).unwrap().unwrap();
            assert_eq!(
                reuse(&meaning.facts, keep_alive) == Reuse::Yes,
                want,
                "{text}"
            );
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
