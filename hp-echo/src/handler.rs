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
mod file;
mod made;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::Poll;
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

use crate::Service;
use crate::answer::{self, BodyOf, Fixed, Persistence};
use crate::batch::{self, Batch, Form, Memo};
use crate::counters::Row;
use crate::drain::{Drain, Guest};
use crate::files::FileAnswer;
use crate::filler::Filler;
use crate::request::{Answer, Paths, Request};

/// What all connections of a worker share.
#[derive(Debug)]
pub(crate) struct Site {
    rt: Rt,
    fixed: Fixed,
    limits: HeadLimits,
    /// Borrowed within one poll only, like `batch`.
    memo: RefCell<Memo>,
    batch: RefCell<Batch>,
    filler: RefCell<Filler>,
    service: Service,
    row: Row,
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
    _presence: Presence,
}

/// A connection that is counted among the open ones until this is dropped.
#[derive(Debug)]
struct Presence(Rc<Site>);

impl Presence {
    fn begin(site: &Rc<Site>) -> Self {
        site.row.conns_accepted.add(1);
        Self(Rc::clone(site))
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.row.conns_closed.add(1);
    }
}

impl Site {
    /// Builds the answers. `place` says whose counters these are.
    pub(crate) fn new(rt: Rt, service: &Service, place: u32, drain: Rc<Drain>) -> Self {
        Self {
            rt,
            fixed: Fixed::new(service.body_len),
            limits: HeadLimits::default(),
            memo: RefCell::default(),
            batch: RefCell::default(),
            filler: RefCell::default(),
            service: service.clone(),
            row: service.rows.of(place),
            drain,
            seat: None,
        }
    }

    /// The same for a thread that serves one connection after another.
    pub(crate) fn of_thread(
        seat: Rc<Seat<Accepted>>,
        service: &Service,
        place: u32,
        drain: Rc<Drain>,
    ) -> Self {
        let site = Self::new(seat.rt().clone(), service, place, drain);
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

    /// Answers a request that is here whole and alone, if it is the known one and the client takes what it is sent. Says
    /// whether it was answered.
    #[inline]
    fn answer_known(&self, bytes: &[u8], conn: &Conn) -> io::Result<bool> {
        let memo = self.memo.borrow();
        let answer = match memo.find(bytes) {
            Some((len, form)) if len == bytes.len() => batch::whole(&self.fixed, form),
            _ => None,
        };
        let Some(answer) = answer else {
            return Ok(false);
        };
        if self.says_close() || conn.queued() > 0 {
            return Ok(false);
        }
        self.row.bytes_in.add(bytes.len() as u64);
        self.row.requests.add(1);
        self.row.add_answers(200, 1);
        self.row.bytes_out.add(answer.len() as u64);
        conn.write(answer)?;
        Ok(true)
    }

    fn persistence(&self, request: &Request) -> Persistence {
        if self.says_close() {
            Persistence::Close
        } else {
            Persistence::of(&request.facts)
        }
    }
}

impl Site {
    /// Adds an answer that needs nothing but its request; says whether there is one.
    fn place(&self, request: &Request, form: Form, batch: &mut Batch) -> bool {
        let out = batch.bytes(&self.fixed);
        match request.answer {
            Answer::Fixed | Answer::File => return false,
            Answer::Made(made) if !made::is_short(request, made, self.fixed.body_len()) => {
                return false;
            }
            Answer::Made(made) => self.encode_made(request, made, form, out),
            Answer::Echo => {
                self.row.add_answers(200, 1);
                answer::echo_head(out, request.facts.framing, form.persistence);
            }
            Answer::Status(_) | Answer::Wrong(_) | Answer::Counters => {
                self.encode(request, form, out);
            }
        }
        true
    }

    /// Appends an answer that is short and the same for everybody.
    fn encode(&self, request: &Request, form: Form, out: &mut Vec<u8>) {
        let Form { persistence, body } = form;
        let status = match request.answer {
            Answer::Wrong(wrong) => {
                answer::wrong(out, wrong, persistence, body);
                answer::BAD_REQUEST
            }
            Answer::Counters => {
                return answer::json(out, &self.service.rows.json(), persistence, body);
            }
            Answer::Status(status) => {
                answer::status(out, status, persistence, body);
                status
            }
            Answer::Fixed | Answer::Echo | Answer::File | Answer::Made(_) => {
                unreachable!("those have ways of their own")
            }
        };
        self.row.add_answers(status, 1);
    }
}

impl Session {
    /// Begins with a connection that has sent nothing yet.
    pub(crate) async fn new(site: Rc<Site>, conn: Conn) -> Self {
        let guest = Guest::enter(&site.drain).await;
        Self {
            _presence: Presence::begin(&site),
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
            Leave::Reset => self.send_part_and_reset().await,
            Leave::Refuse(status) => {
                let mut bytes = Vec::new();
                answer::status(&mut bytes, status, Persistence::Close, BodyOf::Get);
                self.site.row.add_answers(status, 1);
                match self.put(&bytes) {
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
                Next::Request(read) => self.handle(read).await?,
                Next::Leave(leave) => return Err(leave),
            }
        }
    }

    /// Answers every request that is here in full and needs no waiting, all in one write.
    fn answer_received(&mut self) -> io::Result<Next> {
        let site = Rc::clone(&self.site);
        let mut batch = site.batch.borrow_mut();
        let next = self.fill_batch(&mut batch);
        batch.send(&site.fixed, &self.conn, |sent| {
            site.row.requests.add(sent.fixed);
            site.row.add_answers(200, sent.fixed);
            site.row.bytes_out.add(sent.bytes);
        })?;
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
            let (read, head_bytes) = match read_request(bytes, site) {
                Ok(Parse::Complete(read)) => read,
                Ok(Parse::Partial) => return Next::Rest,
                Err(error) => return Next::Leave(Leave::Refuse(error.status())),
            };
            let request = &read.request;
            let persistence = site.persistence(request);
            let form = Form {
                persistence,
                body: body_of(request),
            };
            let is_fixed = request.answer == Answer::Fixed && Batch::takes(&site.fixed, form);
            if request.is_immediate() && is_fixed {
                site.memo.borrow_mut().remember(&bytes[..head_bytes], form);
                batch.push_fixed(&site.fixed, form);
            } else {
                // Whoever asks what was counted does not change it by asking.
                let counts = request.answer != Answer::Counters;
                let placed = request.is_immediate() && site.place(request, form, batch);
                site.row.requests.add(u64::from(counts));
                if !placed {
                    self.reader.consume(head_bytes);
                    return Next::Request(Box::new(read));
                }
            }
            self.reader.consume(head_bytes);
            if persistence == Persistence::Close {
                return Next::Leave(Leave::Linger);
            }
        }
    }

    /// Answers a request that takes more than one poll.
    async fn handle(&mut self, mut read: Box<Read>) -> Result<(), Leave> {
        let file = read.file.take();
        let request = &read.request;
        if !request.delay.is_zero() {
            self.reader.detach();
            self.site.rt.sleep(request.delay).await;
        }
        let persistence = self.site.persistence(request);
        if request.answer == Answer::Echo {
            self.echo(request, persistence).await?;
        } else {
            self.discard(request).await?;
            match (request.answer, file) {
                // Rare ones lie on the heap, so that connections that never meet them carry no room for them.
                (Answer::Made(made), _) => {
                    Box::pin(self.make(request, made, persistence)).await?;
                }
                (_, Some(file)) => Box::pin(self.send_file(request, *file, persistence)).await?,
                (Answer::Fixed, None) => {
                    self.send_fixed(body_of(request), persistence).await?;
                }
                (_, None) => self.send_encoded(request, persistence)?,
            }
        }
        match persistence {
            Persistence::Close => Err(Leave::Linger),
            Persistence::Implied | Persistence::KeepAlive => Ok(()),
        }
    }

    /// Sends an answer that is short and needs nothing but its request.
    fn send_encoded(&self, request: &Request, persistence: Persistence) -> io::Result<()> {
        let mut bytes = Vec::new();
        let form = Form {
            persistence,
            body: body_of(request),
        };
        self.site.encode(request, form, &mut bytes);
        self.put(&bytes)
    }

    async fn send_fixed(&mut self, body: BodyOf, persistence: Persistence) -> Result<(), Leave> {
        let site = Rc::clone(&self.site);
        let fixed = &site.fixed;
        site.row.add_answers(200, 1);
        match fixed.whole(persistence) {
            _ if body == BodyOf::Head => self.put(fixed.head(persistence))?,
            Some(whole) => self.put(whole)?,
            None => {
                let mut left = fixed.body_len();
                let piece = fixed.piece(left);
                self.put_all([fixed.head(persistence), piece])?;
                left -= piece.len() as u64;
                while left > 0 {
                    self.flush().await?;
                    // A fast reader must not keep the worker from the others.
                    site.rt.yield_now().await;
                    let piece = fixed.piece(left);
                    self.put(piece)?;
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
        let filled = match &self.site.seat {
            None => {
                let filling = fill_or_answer(&self.site, &self.conn, &mut self.reader);
                self.guest.unless_drained(filling).await
            }
            Some(_seat) if is_new => {
                let filling = self.reader.fill(&self.conn);
                self.guest.unless_drained(filling).await
            }
            Some(seat) => {
                let filling = race(self.reader.fill(&self.conn), seat.asked());
                match self.guest.unless_drained(filling).await {
                    Some(First::One(filled)) => Some(filled),
                    Some(First::Other(())) | None => None,
                }
            }
        };
        match filled {
            Some(Ok(Filled::More)) => {
                self.count_received(0);
                Ok(())
            }
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
            let known = self.reader.bytes().len();
            match self.reader.fill(&self.conn).await {
                Ok(Filled::More) => self.count_received(known),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Err(Leave::Refuse(REQUEST_TIMEOUT));
                }
                Ok(Filled::Eof) | Err(_) => return Err(Leave::Gone),
            }
        }
        Ok(())
    }

    /// Counts what the reader holds beyond the bytes that were there before.
    fn count_received(&self, known: usize) {
        let received = self.reader.bytes().len().saturating_sub(known);
        self.site.row.bytes_in.add(received as u64);
    }

    /// Writes, and counts what was written.
    fn put(&self, bytes: &[u8]) -> io::Result<()> {
        self.put_all([bytes])
    }

    /// The same for several pieces.
    fn put_all<const COUNT: usize>(&self, pieces: [&[u8]; COUNT]) -> io::Result<()> {
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        self.site.row.bytes_out.add(len as u64);
        self.conn.write_vectored(&pieces.map(IoSlice::new))
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

    /// Lets the kernel take what the client may see, and then resets.
    async fn send_part_and_reset(self) {
        self.conn
            .set_deadline(Some(self.site.rt.now() + BODY_TIMEOUT));
        match self.conn.flush().await {
            Ok(()) | Err(_) => self.conn.reset(),
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
    /// This request needs a body, a file or time; its head is consumed.
    Request(Box<Read>),
    /// That was the last one.
    Leave(Leave),
}

/// Why a connection ends.
enum Leave {
    /// The peer is gone, or nothing is owed to it.
    Gone,
    /// The last answer is written.
    Linger,
    /// What is written is not whole, and the client shall know.
    Reset,
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

/// Waits for the first bytes that are anything but the known request, whole and alone. That one is answered where it is
/// received, as often as it comes: it neither leaves this wait nor its buffer.
fn fill_or_answer(
    site: &Site,
    conn: &Conn,
    reader: &mut Reader,
) -> impl Future<Output = io::Result<Filled>> {
    let mut renewed = site.rt.now();
    poll_fn(move |cx| {
        loop {
            let lent = match conn.poll_recv(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Rx::Data(lent))) => lent,
                Poll::Ready(Ok(Rx::Eof)) => return Poll::Ready(Ok(Filled::Eof)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            };
            if !site.answer_known(&lent, conn)? {
                reader.push(lent);
                return Poll::Ready(Ok(Filled::More));
            }
            let now = site.rt.now();
            if now - renewed >= RENEWAL {
                renewed = now;
                conn.set_deadline(Some(now + IDLE_TIMEOUT));
            }
        }
    })
}

/// A request, and what was found for it below the root.
#[derive(Debug)]
struct Read {
    request: Request,
    file: Option<Box<FileAnswer>>,
}

/// Reads one head, and finds its length. Apart, so that the fast path does not carry the space for the fields.
#[inline(never)]
fn read_request(bytes: &[u8], site: &Site) -> Result<Parse<(Read, usize)>, RequestError> {
    let mut scratch = HeaderScratch::new();
    let Parse::Complete(head) = parse_request(bytes, &site.limits, &mut scratch)? else {
        return Ok(Parse::Partial);
    };
    let root = site.service.root.as_deref();
    let paths = root.map_or(Paths::Any, |_root| Paths::Files);
    let request = Request::of(&head, paths);
    let root = root.filter(|_root| request.answer == Answer::File);
    let file = root.map(|root| Box::new(FileAnswer::of(&head, root, site.rt.wall_clock())));
    Ok(Parse::Complete((Read { request, file }, head.head_bytes)))
}

/// RFC 9110 §15.5.9.
const REQUEST_TIMEOUT: u16 = 408;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// How old the deadline of a busy connection may be: an idle one may be closed so much too early.
const RENEWAL: Duration = Duration::from_secs(1);
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
