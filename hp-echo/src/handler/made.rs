//! Answers made to order, and the faults that a query asks for.

use std::io;

use hp_core::rt::net::Rx;
use hp_core::wire::http1::chunked;
use hp_core::wire::http1::head::Version;

use super::{Leave, Session, Site, body_of};
use crate::answer::{self, BodyOf, MadeFraming, Persistence};
use crate::batch::Form;
use crate::filler::{Matter, PIECE_BYTES};
use crate::query::{Drip, End, Made, Start};
use crate::request::Request;

/// Whether an answer can be collected with others: no fault, no chance, not long, and not ended by closing. The fixed body has
/// `fixed_len` bytes.
pub(super) fn is_short(request: &Request, made: Made, fixed_len: u64) -> bool {
    let ends_by_closing = made.chunked && request.facts.version == Version::Http10;
    let is_long = made.size.unwrap_or(fixed_len) > SHORT_BYTES_MAX;
    made.is_plain() && !ends_by_closing && !is_long
}

/// What is sent for one order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Shape {
    framing: MadeFraming,
    /// What the head says of the connection.
    persistence: Persistence,
    /// Bytes of the body.
    len: u64,
}

impl Shape {
    fn of(request: &Request, made: Made, fixed_len: u64, persistence: Persistence) -> Self {
        let len = made.size.unwrap_or(fixed_len);
        let knows_chunks = request.facts.version == Version::Http11;
        let framing = match made.status {
            204 | 304 => MadeFraming::NoBody,
            205 => MadeFraming::Length(0), // RFC 9110 §15.3.6.
            _ if made.chunked && knows_chunks => MadeFraming::Chunked,
            _ if made.chunked => MadeFraming::UntilClose,
            _ => MadeFraming::Length(len),
        };
        let (len, persistence) = match framing {
            MadeFraming::NoBody => (0, persistence),
            MadeFraming::Length(len) => (len, persistence),
            MadeFraming::Chunked => (len, persistence),
            MadeFraming::UntilClose => (len, Persistence::Close),
        };
        Self {
            framing,
            persistence,
            len,
        }
    }
}

impl Site {
    /// Appends a short answer whole.
    pub(super) fn encode_made(&self, request: &Request, made: Made, form: Form, out: &mut Vec<u8>) {
        self.row.add_answers(made.status, 1);
        let shape = Shape::of(request, made, self.fixed.body_len(), form.persistence);
        answer::made_head(out, made.status, shape.framing, shape.persistence);
        if form.body == BodyOf::Head {
            return;
        }
        let mut filler = self.filler.borrow_mut();
        let body = filler.piece(Matter::Plain, shape.len);
        if shape.framing == MadeFraming::Chunked {
            if !body.is_empty() {
                let mut space = [0; chunked::CHUNK_SIZE_LINE_MAX];
                out.extend_from_slice(chunked::chunk_size_line(&mut space, body.len()));
                out.extend_from_slice(body);
                out.extend_from_slice(chunked::CHUNK_END);
            }
            out.extend_from_slice(chunked::LAST_CHUNK);
        } else {
            out.extend_from_slice(body);
        }
    }
}

impl Session {
    /// Answers as ordered. The request's body has been read.
    pub(super) async fn make(
        &mut self,
        request: &Request,
        made: Made,
        persistence: Persistence,
    ) -> Result<(), Leave> {
        match made.start {
            Start::Head => (),
            Start::Garbage => {
                self.put(answer::GARBAGE)?;
                return Err(Leave::Linger);
            }
            Start::Hangup => return Err(Leave::Linger),
            Start::Silence => return Err(self.stay_silent().await),
        }
        if request.facts.version == Version::Http11 {
            self.send_interims(made.interims).await?;
        }
        self.site.row.add_answers(made.status, 1);
        let shape = Shape::of(request, made, self.site.fixed.body_len(), persistence);
        let mut head = Vec::new();
        answer::made_head(&mut head, made.status, shape.framing, shape.persistence);
        match body_of(request) {
            BodyOf::Head => self.put(&head)?,
            BodyOf::Get => self.send_made(made, shape, head).await?,
        }
        match (made.end, shape.persistence) {
            (End::Reset(_), _) => Err(Leave::Reset),
            (End::Truncated(_), _) | (End::Whole, Persistence::Close) => Err(Leave::Linger),
            (End::Whole, Persistence::Implied | Persistence::KeepAlive) => Ok(()),
        }
    }

    /// Sends the head, and as much of the body as is to be seen.
    async fn send_made(
        &mut self,
        made: Made,
        shape: Shape,
        mut head: Vec<u8>,
    ) -> Result<(), Leave> {
        let mut left = match made.end {
            End::Whole => shape.len,
            End::Truncated(len) | End::Reset(len) => shape.len.min(len),
        };
        let is_chunked = shape.framing == MadeFraming::Chunked;
        let last_chunk = if is_chunked && made.end == End::Whole {
            chunked::LAST_CHUNK
        } else {
            &[]
        };
        let piece_max = made
            .drip
            .map_or(PIECE_BYTES as u64, |drip| u64::from(drip.bytes));
        loop {
            let len = left.min(piece_max);
            left -= len;
            let tail = if left == 0 { last_chunk } else { &[] };
            self.put_piece(made, is_chunked, [&head, tail], len)?;
            head.clear();
            if left == 0 {
                return Ok(());
            }
            self.flush().await?;
            match made.drip {
                Some(Drip { every, .. }) => {
                    self.reader.detach();
                    self.site.rt.sleep(every).await;
                }
                None => self.site.rt.yield_now().await, // A fast reader must not keep the worker from the others.
            }
        }
    }

    /// Writes a piece of the body between what comes before and behind it. `len` is at most [`PIECE_BYTES`].
    fn put_piece(
        &self,
        made: Made,
        is_chunked: bool,
        [before, behind]: [&[u8]; 2],
        len: u64,
    ) -> io::Result<()> {
        let matter = if made.random {
            Matter::Random
        } else {
            Matter::Plain
        };
        let mut filler = self.site.filler.borrow_mut();
        let piece = filler.piece(matter, len);
        if !is_chunked || piece.is_empty() {
            return self.put_all([before, piece, behind]);
        }
        let mut space = [0; chunked::CHUNK_SIZE_LINE_MAX];
        let size_line = chunked::chunk_size_line(&mut space, piece.len());
        self.put_all([before, size_line, piece, chunked::CHUNK_END, behind])
    }

    async fn send_interims(&mut self, count: u32) -> Result<(), Leave> {
        let mut left = count as usize;
        while left > 0 {
            let some = left.min(INTERIMS_AT_ONCE);
            self.put(&answer::EARLY_HINTS.repeat(some))?;
            left -= some;
            self.flush().await?;
            if left > 0 {
                self.site.rt.yield_now().await;
            }
        }
        Ok(())
    }

    /// Waits for the client to give up, for a drain, or for longer than anybody waits. Drops what is sent meanwhile.
    async fn stay_silent(&mut self) -> Leave {
        self.reader = hp_core::http::message::Reader::new();
        self.conn
            .set_deadline(Some(self.site.rt.now() + SILENCE_MAX));
        while let Some(Ok(Rx::Data(_dropped))) = self.guest.unless_drained(self.conn.recv()).await {
        }
        Leave::Gone
    }
}

/// Longest body that goes out together with other answers.
const SHORT_BYTES_MAX: u64 = 16 * 1024;
/// Interim answers of one write.
const INTERIMS_AT_ONCE: usize = 256;
const SILENCE_MAX: std::time::Duration = std::time::Duration::from_secs(3600);
