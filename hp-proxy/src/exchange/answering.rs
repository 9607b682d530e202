//! The answer on its way: its head received and written anew, its content passed on as it comes.

use super::error::Failure;
use super::progress::{Expectation, Progress};
use super::request::Request;
use super::response::{self, Delivery, Origin};
use crate::shared::Generation;
use crate::upstream::Lease;
use hp_core::http::body::{BodyError, BodySource};
use hp_core::http::detour::Detour;
use hp_core::http::message::{Filled, Reader};
use hp_core::http::pace::Pace;
use hp_core::http::sink::BodySink;
use hp_core::rt::lifecycle::{Table, enter, watch};
use hp_core::rt::net::Conn;
use hp_core::rt::race::{First, race};
use hp_core::wire::http1::error::ResponseError;
use hp_core::wire::http1::framing::{RequestContext, ResponseFraming};
use hp_core::wire::http1::head::{HeadScan, HeaderScratch, Parse, Version};
use hp_core::wire::http1::response::{ResponseFacts, is_switch_to_requested, parse_response};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// One exchange's two ends while the answer comes.
pub(super) struct Answering<'a> {
    worker: &'a Generation,
    client: &'a Conn,
    request: &'a Request,
    backend: &'a Conn,
    /// The endpoint's slot in its upstream.
    endpoint: usize,
    /// The head that the backend was sent, where it may ask for another protocol.
    sent: &'a [u8],
    progress: &'a Progress,
}

/// An answer of which the head has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    pub(super) facts: ResponseFacts,
    /// Whether the client was told that its connection lives on.
    pub(super) keep: bool,
}

/// How far an answer went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivered {
    /// To its end.
    Whole,
    /// The backend's answer broke off in the middle.
    Truncated,
    /// The client took no more of it.
    ClientGone,
}

impl<'a> Answering<'a> {
    /// The answer to a request on a connection; `sent`: its head, where it may ask for another protocol, else nothing.
    #[inline]
    pub(super) fn on(
        lease: &'a Lease,
        worker: &'a Generation,
        (client, request): (&'a Conn, &'a Request),
        sent: &'a [u8],
        progress: &'a Progress,
    ) -> Self {
        Self {
            worker,
            client,
            request,
            backend: lease.conn(),
            endpoint: lease.endpoint(),
            sent,
            progress,
        }
    }
}

impl Answering<'_> {
    /// Receives the head of the final answer and writes the client's into `out`, unsent; interim ones are passed on.
    ///
    /// # Errors
    /// [`Failure`]; nothing of a final answer was sent then.
    pub(super) fn head(
        &self,
        reader: &mut Reader,
        out: &mut Vec<u8>,
    ) -> impl Future<Output = Result<Begun, Failure>> {
        self.head_or(reader, out, |_cx| Poll::Pending)
    }

    /// The same as [`Answering::head`], and notices a client that leaves meanwhile.
    ///
    /// # Errors
    /// As [`Answering::head`]; [`Failure::ClientGone`].
    #[inline]
    pub(super) fn head_watching(
        &self,
        reader: &mut Reader,
        out: &mut Vec<u8>,
    ) -> impl Future<Output = Result<Begun, Failure>> {
        self.head_or(reader, out, |cx| {
            self.client.poll_failure(cx).map(|_reset| {
                enter(Table::Exchange, "Awaiting", "client leaves");
                Failure::ClientGone
            })
        })
    }

    /// The head, or what is looked at as long as it has not come.
    #[inline]
    fn head_or(
        &self,
        reader: &mut Reader,
        out: &mut Vec<u8>,
        mut failure: impl FnMut(&mut Context<'_>) -> Poll<Failure>,
    ) -> impl Future<Output = Result<Begun, Failure>> {
        let mut awaited = Awaited::default();
        let begins = (Table::Exchange, "Awaiting", "drain begins");
        let waiting = poll_fn(
            move |cx| match self.poll_head(&mut awaited, (reader, out), cx) {
                Poll::Ready(received) => Poll::Ready(received),
                Poll::Pending => failure(cx).map(Err),
            },
        );
        watch(begins, move || self.worker.is_draining(), waiting)
    }

    /// Not a future of futures: most heads come whole with the first bytes, for which one look before and one after is all.
    fn poll_head(
        &self,
        Awaited { scan, interim }: &mut Awaited,
        (reader, out): (&mut Reader, &mut Vec<u8>),
        cx: &Context<'_>,
    ) -> Poll<Result<Begun, Failure>> {
        loop {
            let may_be_whole = match scan {
                None => !reader.is_empty(),
                Some(scan) => scan.complete(reader.bytes()),
            };
            if may_be_whole {
                match self.parse(reader, out)? {
                    Parsed::Final(begun) => {
                        self.progress.is_answered.set(true);
                        return Poll::Ready(Ok(begun));
                    }
                    Parsed::Interim => {
                        *scan = None;
                        interim.admit(out.len())?;
                        self.pass_interim(out)?;
                        continue;
                    }
                    Parsed::Partial => {
                        let mut searched = HeadScan::new(&self.worker.plan().limits.head);
                        searched.complete(reader.bytes());
                        *scan = Some(searched);
                    }
                }
            }
            self.progress.is_begun.set(!reader.is_empty());
            let is_begun = !reader.is_empty() || interim.count > 0;
            enter(Table::Exchange, "Awaiting", "what is awaited");
            let failure = match ready!(reader.poll_fill(self.backend, cx)) {
                Ok(Filled::More) if is_begun => continue,
                Ok(Filled::More) => match self.check_asked() {
                    Ok(()) => continue,
                    Err(failure) => failure,
                },
                Ok(Filled::Eof) if is_begun => Failure::ClosedWithinHead,
                Ok(Filled::Eof) => Failure::ClosedBeforeResponse,
                Err(error) => Failure::of_head(&error, is_begun),
            };
            let event = match failure {
                Failure::ResponseTimeout => "deadline",
                _ => "backend leaves or fails",
            };
            enter(Table::Exchange, "Awaiting", event);
            return Poll::Ready(Err(failure));
        }
    }

    /// Whether what begins now can be an answer. RFC 9112 §9.2.
    #[inline]
    fn check_asked(&self) -> Result<(), Failure> {
        if self.progress.has_head_left(self.backend.unsent()) {
            Ok(())
        } else if self.backend.lost() > 0 {
            Err(Failure::ClosedBeforeResponse) // It may have come while there was nothing to answer.
        } else {
            Err(self.turn_away())
        }
    }

    /// Something came before there was anything to answer: what has not left of the request does not leave any more.
    #[cold]
    fn turn_away(&self) -> Failure {
        let is_unsent = self.progress.left(self.backend.unsent()) == 0;
        self.backend.withdraw();
        Failure::Unasked { is_unsent }
    }

    /// The same as [`Answering::head`], and says 100 in the backend's stead when it has not done so for a while.
    ///
    /// # Errors
    /// As [`Answering::head`].
    pub(super) async fn head_of_expectant(
        &self,
        reader: &mut Reader,
        out: &mut Vec<u8>,
        until_continue: Duration,
    ) -> Result<Begun, Failure> {
        let rt = self.worker.rt();
        let mut head = pin!(self.head(reader, out));
        // Ends: whoever has begun an answer has a deadline for it.
        while self.progress.is_awaited() {
            let patience = rt.sleep(until_continue);
            if let First::One(received) = race(head.as_mut(), patience).await {
                return received;
            }
            if self.progress.is_awaited() && !self.progress.is_begun.get() {
                let said = self.client.write(CONTINUE);
                said.map_err(|_gone| Failure::ClientGone)?;
                self.let_client_go_on(Expectation::MetByUs);
            }
        }
        head.await
    }

    /// The client was told to send its content: from now on it is the one who is waited for.
    fn let_client_go_on(&self, why: Expectation) {
        self.progress.expectation.set(why);
        let deadline = self.worker.rt().now() + self.worker.plan().timeouts.body;
        self.client.set_deadline(Some(deadline));
        self.backend.set_deadline(None);
    }

    /// The same as [`Answering::deliver`], and notices a client that leaves while the backend is silent.
    pub(super) async fn deliver_watching(
        &self,
        facts: &ResponseFacts,
        reader: &mut Reader,
        out: &mut Vec<u8>,
    ) -> Delivered {
        if let Some(delivered) = self.deliver_at_once(facts, reader, out) {
            return delivered;
        }
        // A future that `race` is given by value is in there twice.
        let delivering = pin!(self.deliver(facts, reader, out));
        match race(delivering, self.client.failure()).await {
            First::One(delivered) => delivered,
            First::Other(_reset) => {
                enter(Table::Exchange, "Relaying", "client leaves");
                Delivered::ClientGone
            }
        }
    }

    /// The same as [`Answering::deliver`] for an answer that is here whole and small, as most are; `None` where it is not, and
    /// nothing was done then. What the client's socket does not take at once stays queued.
    fn deliver_at_once(
        &self,
        facts: &ResponseFacts,
        reader: &mut Reader,
        out: &mut Vec<u8>,
    ) -> Option<Delivered> {
        let length = match facts.framing {
            ResponseFraming::Empty => 0,
            ResponseFraming::Length(length) => usize::try_from(length).ok()?,
            ResponseFraming::Chunked | ResponseFraming::UntilClose => return None,
        };
        let content = reader
            .bytes()
            .get(..length)
            .filter(|_| length <= AT_ONCE_MAX)?;
        out.extend_from_slice(content);
        reader.consume(length);
        if self.client.write(out).is_err() {
            return Some(Delivered::ClientGone);
        }
        out.clear();
        Some(Delivered::Whole)
    }

    /// Sends the client the head that `out` holds, and the content as it comes.
    pub(super) async fn deliver(
        &self,
        facts: &ResponseFacts,
        reader: &mut Reader,
        out: &mut Vec<u8>,
    ) -> Delivered {
        enter(Table::Exchange, "Relaying", "what is awaited");
        let begins = (Table::Exchange, "Relaying", "drain begins");
        let delivering = self.deliver_content(facts, reader, out);
        match watch(begins, || self.worker.is_draining(), delivering).await {
            Ok(()) => Delivered::Whole,
            Err(DeliveryError::Client) => Delivered::ClientGone,
            Err(DeliveryError::Backend) => Delivered::Truncated,
        }
    }

    async fn deliver_content(
        &self,
        facts: &ResponseFacts,
        reader: &mut Reader,
        out: &mut Vec<u8>,
    ) -> Result<(), DeliveryError> {
        let body_timeout = self.worker.plan().timeouts.body;
        let rate_min = self.worker.plan().limits.body_rate_min;
        let mut client_pace = Pace::new(body_timeout, rate_min);
        // A backend may have little to say for hours: events, for instance.
        let mut backend_pace = Pace::of_pauses(body_timeout);
        let delivery = Delivery::of(self.request.facts.version, facts.framing);
        let mut detour = Detour::new(self.worker.plan().limits.detour);
        let mut source = BodySource::from(facts.framing);
        let mut sink = BodySink::new(self.client, out, delivery.coding);
        if source.is_ended() {
            sink.push()?; // No content: the head is all.
        } else {
            loop {
                while let Some(part) = source.take_part(reader, sink.hop())? {
                    sink.put(part, source.plain_left())?;
                    if self.client.queued() > 0 {
                        reader.detach_if_scarce();
                        client_pace.drain(self.client).await?;
                    }
                }
                // Before the end of the last chunk is sent by itself.
                let (way, backend) = (detour.way(&sink), (&mut *reader, self.backend));
                if let Some(past) = backend_pace.splice_at_once(&mut source, backend, way)? {
                    sink.announce(&past)?;
                    client_pace.drain_pipe(self.client, past.piped).await?;
                    continue;
                }
                if source.is_ended() {
                    // Where the end was among what came with a line, chunks went past until here.
                    self.backend.end_splicing();
                    break;
                }
                sink.push()?;
                let untaken = self.untaken();
                let received = if detour.takes(&source) {
                    let way = detour.way(&sink);
                    let backend = (&mut *reader, self.backend);
                    backend_pace.splice(&mut source, backend, way).await
                } else {
                    let receiving = backend_pace.receive(&mut source, reader, self.backend);
                    receiving.await.map(|()| None)
                };
                match received {
                    Ok(Some(past)) => {
                        sink.announce(&past)?;
                        client_pace.drain_pipe(self.client, past.piped).await?;
                    }
                    Ok(None) => (),
                    // It pauses because it is busy with the rest of the request.
                    Err(BodyError::Io(error))
                        if error.kind() == io::ErrorKind::TimedOut && self.untaken() != untaken =>
                    {
                        backend_pace = Pace::of_pauses(body_timeout);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            sink.end(source.trailers())?;
        }
        if self.client.queued() > 0 {
            client_pace.drain(self.client).await?;
        }
        Ok(())
    }

    /// What the backend was given of the request and has not taken, and how much that was given; the same twice when nothing moved
    /// in between. `None` when it has all.
    fn untaken(&self) -> Option<(u64, usize)> {
        let Progress {
            is_uploaded, given, ..
        } = self.progress;
        (!is_uploaded.get()).then(|| (given.get(), self.backend.unacknowledged()))
    }

    /// Reads what has come; writes a whole head as the client shall see it into `out`, and consumes it. Apart, for whoever has its large
    /// frame pays for that with every look.
    #[inline(never)]
    fn parse(&self, reader: &mut Reader, out: &mut Vec<u8>) -> Result<Parsed, Failure> {
        let mut scratch = HeaderScratch::new();
        let limits = &self.worker.plan().limits.head;
        let request = &self.request.facts;
        let context = RequestContext {
            method_is_head: request.is_head,
            method_is_connect: request.is_connect,
            upgrade_requested: request.upgrade,
        };
        let parsed = parse_response(reader.bytes(), limits, &mut scratch, context);
        let Parse::Complete(head) = parsed.map_err(Failure::Response)? else {
            return Ok(Parsed::Partial);
        };
        let facts = head.facts;
        if out.capacity() == 0 {
            *out = self.worker.take_scratch(); // Not before: those who wait would hold as many, and each would be cold.
        }
        let parsed = if facts.is_interim {
            let is_late =
                head.status == 100 && self.progress.expectation.get() == Expectation::MetByUs;
            if request.version == Version::Http11 && !is_late {
                response::encode_interim(self.worker, &head, out);
            }
            if head.status == 100 {
                self.progress.is_continued.set(true);
                if self.progress.is_awaited() {
                    self.let_client_go_on(Expectation::Met);
                }
            }
            Parsed::Interim
        } else if facts.upgrade {
            if !is_switch_to_requested(&head.fields, self.sent) {
                return Err(Failure::Response(ResponseError::UpgradeUnsolicited));
            }
            response::encode_switch(self.origin(), &head, out);
            Parsed::Final(Begun { facts, keep: false })
        } else {
            let delivery = Delivery::of(request.version, facts.framing);
            let keep = request.keep_alive
                && self.progress.is_uploaded.get()
                && !delivery.ends_by_close
                && self.worker.keeps_client(self.client.name());
            response::encode_final(self.origin(), &head, request, (delivery, keep), out);
            Parsed::Final(Begun { facts, keep })
        };
        let consumed = head.head_bytes;
        reader.consume(consumed);
        Ok(parsed)
    }

    fn origin(&self) -> Origin<'_> {
        Origin {
            worker: self.worker,
            client: self.client.name(),
            chosen: self.request.chosen,
            endpoint: self.endpoint,
        }
    }

    fn pass_interim(&self, out: &mut Vec<u8>) -> Result<(), Failure> {
        let sent = if out.is_empty() {
            Ok(())
        } else {
            self.client.write(out)
        };
        out.clear();
        sent.map_err(|_gone| Failure::ClientGone)
    }
}

/// A head that has not come whole.
#[derive(Debug, Default)]
struct Awaited {
    /// How far it was searched for its end, once a part of it was there.
    scan: Option<HeadScan>,
    interim: Interims,
}

/// The interim answers to one request.
#[derive(Debug, Default)]
struct Interims {
    count: u32,
    /// Of their heads, as the client gets them: it may not be reading.
    bytes: usize,
}

impl Interims {
    /// Counts one more.
    ///
    /// # Errors
    /// [`Failure::InterimStorm`].
    fn admit(&mut self, bytes: usize) -> Result<(), Failure> {
        self.count += 1;
        self.bytes += bytes;
        if self.count > INTERIM_MAX || self.bytes > INTERIM_BYTES_MAX {
            return Err(Failure::InterimStorm);
        }
        Ok(())
    }
}

/// What was made of the bytes so far.
enum Parsed {
    Final(Begun),
    Interim,
    Partial,
}

/// On whose side a delivery broke off.
enum DeliveryError {
    Client,
    Backend,
}

impl From<io::Error> for DeliveryError {
    /// Sending fails on the client's side.
    fn from(error: io::Error) -> Self {
        enter(Table::Exchange, "Relaying", super::of_client(&error));
        Self::Client
    }
}

impl From<BodyError> for DeliveryError {
    /// Receiving fails on the backend's side.
    fn from(error: BodyError) -> Self {
        let event = match error {
            BodyError::Io(error) if error.kind() == io::ErrorKind::TimedOut => "deadline",
            _ => "backend leaves or fails",
        };
        enter(Table::Exchange, "Relaying", event);
        Self::Backend
    }
}

/// Content up to this size leaves in one segment with its head.
const AT_ONCE_MAX: usize = 2048;
/// Interim answers passed on for one request at most.
const INTERIM_MAX: u32 = 64;
/// Bytes of their heads together.
const INTERIM_BYTES_MAX: usize = 64 * 1024;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
