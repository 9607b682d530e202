//! One connection, from its first byte to its close.
//!
//! ```text
//!        ┌────────── all answered ──────────┐
//!        ▼                                  │
//! ─→ idle ─bytes→ answer what is there ─────┼─ head cut ──→ wait for its rest ─┐
//!        │             ▲                    ├─ body, delay → handle ───────────┤
//!        │             └────────────────────┼──────────────────────────────────┘
//!        └─ drain, EOF, deadline → close    └─ last answer, bad request → linger → close
//! ```
//!
//! Must not know: how connections come to this worker.

mod body;

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::Duration;

use hp_core::base::units::KIB;
use hp_core::http::message::{Filled, Reader};
use hp_core::rt::Rt;
use hp_core::rt::crew::Seat;
use hp_core::rt::net::{Accepted, Conn, Rx};
use hp_core::rt::race::{First, race};
use hp_core::wire::http1::error::RequestError;
use hp_core::wire::http1::head::{HeadLimits, HeadScan, HeaderScratch, Parse};
use hp_core::wire::http1::request::parse_request;

use crate::answer::{self, BodyOf, Fixed, Persistence};
use crate::batch::{Batch, Form, Memo};
use crate::drain::{Drain, Guest};
use crate::request::{Answer, Request};

/// What all connections of a worker share.
#[derive(Debug)]
pub(crate) struct Site {
    rt: Rt,
    fixed: Fixed,
    limits: HeadLimits,
    /// Borrowed within one poll only, like `batch`.
    memo: RefCell<Memo>,
    batch: RefCell<Batch>,
    drain: Rc<Drain>,
    /// Where each connection has a thread of its own: this one's place among them.
    seat: Option<Rc<Seat<Accepted>>>,
}

/// One connection at work.
#[derive(Debug)]
pub(crate) struct Session {
    site: Rc<Site>,
    conn: Conn,
    reader: Reader,
    guest: Guest,
    /// Whether no request has come yet.
    is_new: bool,
}

impl Site {
    /// Builds the answers; `body_len` is the fixed body's.
    pub(crate) fn new(rt: Rt, body_len: u64, drain: Rc<Drain>) -> Self {
        Self {
            rt,
            fixed: Fixed::new(body_len),
            limits: HeadLimits::default(),
            memo: RefCell::default(),
            batch: RefCell::default(),
            drain,
            seat: None,
        }
    }

    /// The same for a thread that serves one connection after another.
    pub(crate) fn of_thread(seat: Rc<Seat<Accepted>>, body_len: u64, drain: Rc<Drain>) -> Self {
        let site = Self::new(seat.rt().clone(), body_len, drain);
        Self {
            seat: Some(seat),
            ..site
        }
    }

    /// Whether every answer is the last one of its connection: the server ends, or somebody waits for this thread.
    fn says_close(&self) -> bool {
        let is_crowded = |seat: &Rc<Seat<Accepted>>| seat.crew().is_crowded();
        self.drain.is_on() || self.seat.as_ref().is_some_and(is_crowded)
    }

    fn persistence(&self, request: &Request) -> Persistence {
        if self.says_close() {
            Persistence::Close
        } else {
            Persistence::of(&request.facts)
        }
    }
}

impl Session {
    /// Begins with a connection that has sent nothing yet.
    pub(crate) async fn new(site: Rc<Site>, conn: Conn) -> Self {
        let guest = Guest::enter(&site.drain).await;
        Self {
            site,
            conn,
            reader: Reader::new(),
            guest,
            is_new: true,
        }
    }

    /// Serves until either side has enough.
    pub(crate) async fn serve(mut self) {
        let Err(leave) = self.exchanges().await;
        match leave {
            Leave::Gone => self.send_last().await,
            Leave::Linger => self.linger().await,
            Leave::Refuse(status) => {
                let mut bytes = Vec::new();
                answer::status(&mut bytes, status, Persistence::Close, BodyOf::Get);
                match self.conn.write(&bytes) {
                    Ok(()) => self.linger().await,
                    Err(_closed) => (), // The peer left first; nothing is owed to it.
                }
            }
        }
    }

    async fn exchanges(&mut self) -> Result<std::convert::Infallible, Leave> {
        loop {
            let next = self.answer_received()?;
            self.flush().await?;
            match next {
                Next::Idle => self.idle().await?,
                Next::Rest => self.head_rest().await?,
                Next::Flush => self.site.rt.yield_now().await,
                Next::Request(request) => self.handle(&request).await?,
                Next::Leave(leave) => return Err(leave),
            }
        }
    }

    /// Answers every request that is here in full and needs no waiting, all in one write.
    fn answer_received(&mut self) -> io::Result<Next> {
        let site = Rc::clone(&self.site);
        let mut batch = site.batch.borrow_mut();
        let next = self.fill_batch(&mut batch);
        batch.send(&site.fixed, &self.conn)?;
        Ok(next)
    }

    fn fill_batch(&mut self, batch: &mut Batch) -> Next {
        let site = &*self.site;
        loop {
            let bytes = self.reader.bytes();
            if bytes.is_empty() {
                return Next::Idle;
            }
            if batch.is_full() {
                return Next::Flush;
            }
            if !site.says_close()
                && let Some((len, form)) = site.memo.borrow().find(bytes)
            {
                self.reader.consume(len);
                batch.push_fixed(&site.fixed, form);
                continue;
            }
            let (request, head_bytes) = match read_request(bytes, &site.limits) {
                Ok(Parse::Complete(read)) => read,
                Ok(Parse::Partial) => return Next::Rest,
                Err(error) => return Next::Leave(Leave::Refuse(error.status())),
            };
            let persistence = site.persistence(&request);
            let form = Form {
                persistence,
                body: body_of(&request),
            };
            match request.answer {
                _ if !request.is_immediate() => {
                    self.reader.consume(head_bytes);
                    return Next::Request(request);
                }
                Answer::Fixed if Batch::takes(&site.fixed, form) => {
                    site.memo.borrow_mut().remember(&bytes[..head_bytes], form);
                    batch.push_fixed(&site.fixed, form);
                }
                Answer::Fixed => {
                    self.reader.consume(head_bytes);
                    return Next::Request(request);
                }
                Answer::Echo => {
                    let framing = request.facts.framing;
                    answer::echo_head(batch.bytes(&site.fixed), framing, persistence);
                }
                Answer::Status(status) => {
                    answer::status(batch.bytes(&site.fixed), status, persistence, form.body);
                }
            }
            self.reader.consume(head_bytes);
            if persistence == Persistence::Close {
                return Next::Leave(Leave::Linger);
            }
        }
    }

    /// Answers a request that takes more than one poll.
    async fn handle(&mut self, request: &Request) -> Result<(), Leave> {
        if !request.delay.is_zero() {
            self.reader.detach();
            self.site.rt.sleep(request.delay).await;
        }
        let persistence = self.site.persistence(request);
        match request.answer {
            Answer::Echo => self.echo(request, persistence).await?,
            Answer::Fixed => {
                self.discard(request).await?;
                self.send_fixed(body_of(request), persistence).await?;
            }
            Answer::Status(status) => {
                self.discard(request).await?;
                let mut bytes = Vec::new();
                answer::status(&mut bytes, status, persistence, body_of(request));
                self.conn.write(&bytes)?;
            }
        }
        match persistence {
            Persistence::Close => Err(Leave::Linger),
            Persistence::Implied | Persistence::KeepAlive => Ok(()),
        }
    }

    async fn send_fixed(&mut self, body: BodyOf, persistence: Persistence) -> Result<(), Leave> {
        let site = Rc::clone(&self.site);
        let fixed = &site.fixed;
        match fixed.whole(persistence) {
            _ if body == BodyOf::Head => self.conn.write(fixed.head(persistence))?,
            Some(whole) => self.conn.write(whole)?,
            None => {
                let mut left = fixed.body_len();
                let piece = fixed.piece(left);
                let head = IoSlice::new(fixed.head(persistence));
                self.conn.write_vectored(&[head, IoSlice::new(piece)])?;
                left -= piece.len() as u64;
                while left > 0 {
                    self.flush().await?;
                    // A fast reader must not keep the worker from the others.
                    site.rt.yield_now().await;
                    let piece = fixed.piece(left);
                    self.conn.write(piece)?;
                    left -= piece.len() as u64;
                }
            }
        }
        Ok(())
    }

    /// Waits for the first bytes of the next request.
    async fn idle(&mut self) -> Result<(), Leave> {
        self.conn
            .set_deadline(Some(self.site.rt.now() + IDLE_TIMEOUT));
        let is_new = std::mem::replace(&mut self.is_new, false);
        let filling = self.reader.fill(&self.conn);
        let filled = match &self.site.seat {
            Some(seat) if !is_new => {
                let either = self.guest.unless_drained(race(filling, seat.asked()));
                match either.await {
                    Some(First::One(filled)) => Some(filled),
                    Some(First::Other(())) | None => None,
                }
            }
            _ => self.guest.unless_drained(filling).await,
        };
        match filled {
            Some(Ok(Filled::More)) => Ok(()),
            Some(Ok(Filled::Eof) | Err(_)) | None => Err(Leave::Gone),
        }
    }

    /// Waits for the rest of a head of which some bytes are here.
    async fn head_rest(&mut self) -> Result<(), Leave> {
        self.conn
            .set_deadline(Some(self.site.rt.now() + HEAD_TIMEOUT));
        self.reader.detach();
        let mut scan = HeadScan::new(&self.site.limits);
        while !scan.complete(self.reader.bytes()) {
            match self.reader.fill(&self.conn).await {
                Ok(Filled::More) => (),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Err(Leave::Refuse(REQUEST_TIMEOUT));
                }
                Ok(Filled::Eof) | Err(_) => return Err(Leave::Gone),
            }
        }
        Ok(())
    }

    /// Waits until the kernel has taken what was written; mostly it has.
    async fn flush(&mut self) -> io::Result<()> {
        if self.conn.queued() == 0 {
            return Ok(());
        }
        self.reader.detach();
        self.conn
            .set_deadline(Some(self.site.rt.now() + BODY_TIMEOUT));
        self.conn.flush().await
    }

    /// Waits until the socket has all of the last answer: closing would drop what it has not taken.
    async fn send_last(self) {
        self.conn
            .set_deadline(Some(self.site.rt.now() + BODY_TIMEOUT));
        match self.conn.flush().await {
            Ok(()) | Err(_) => (), // A peer that is gone needs no answer.
        }
    }

    /// Ends our side and drops what the peer still sends, so that a reset does not overtake the
    /// answer. RFC 9112 §9.6.
    async fn linger(mut self) {
        self.reader = Reader::new();
        self.conn
            .set_deadline(Some(self.site.rt.now() + LINGER_TIMEOUT));
        if self.conn.finish().await.is_err() {
            return;
        }
        let mut dropped = 0;
        while let Ok(Rx::Data(bytes)) = self.conn.recv().await {
            dropped += bytes.len();
            if dropped > LINGER_BYTES_MAX {
                return;
            }
        }
    }
}

/// What to do after the answers that needed no waiting.
enum Next {
    /// Nothing is left over: wait for the next request.
    Idle,
    /// A part of a head is here.
    Rest,
    /// More requests are here than one batch takes.
    Flush,
    /// This request needs a body or time; its head is consumed.
    Request(Request),
    /// That was the last one.
    Leave(Leave),
}

/// Why a connection ends.
enum Leave {
    /// The peer is gone, or nothing is owed to it.
    Gone,
    /// The last answer is written.
    Linger,
    /// The last answer is to be this status.
    Refuse(u16),
}

impl From<io::Error> for Leave {
    fn from(_closed: io::Error) -> Self {
        Self::Gone
    }
}

fn body_of(request: &Request) -> BodyOf {
    if request.facts.is_head {
        BodyOf::Head
    } else {
        BodyOf::Get
    }
}

/// Reads one head. Apart, so that the fast path does not carry the space for the fields.
#[inline(never)]
fn read_request(
    bytes: &[u8],
    limits: &HeadLimits,
) -> Result<Parse<(Request, usize)>, RequestError> {
    let mut scratch = HeaderScratch::new();
    Ok(match parse_request(bytes, limits, &mut scratch)? {
        Parse::Complete(head) => Parse::Complete((Request::of(&head), head.head_bytes)),
        Parse::Partial => Parse::Partial,
    })
}

/// RFC 9110 §15.5.9.
const REQUEST_TIMEOUT: u16 = 408;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// For each piece of a body, either way.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 64 * KIB;

#[cfg(test)]
mod tests {
    use super::*;

    fn future_len<F: Future>(_serve: impl FnOnce(Session) -> F) -> usize {
        size_of::<F>()
    }

    /// Every connection holds one, an idle one too.
    #[test]
    fn task_of_a_connection_is_small() {
        let len = future_len(Session::serve);
        assert!(len <= 1024, "{len}");
    }
}
