//! The request's content on its way to the backend, while the answer may already come.

use super::error::Failure;
use super::mirror::RequestCopy;
use super::progress::{Expectation, Progress};
use crate::shared::Generation;
use hp_core::http::body::{BodyError, BodySource};
use hp_core::http::detour::Detour;
use hp_core::http::message::{Part, Reader};
use hp_core::http::pace::Pace;
use hp_core::http::past::Past;
use hp_core::http::sink::{BodyCoding, BodySink};
use hp_core::rt::Instant;
use hp_core::rt::lifecycle::{Table, enter};
use hp_core::rt::net::Conn;
use hp_core::wire::http1::chunked::verbatim::Standing;
use hp_core::wire::http1::framing::BodyFraming;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// How an upload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Uploaded {
    /// The backend was sent all of it.
    Whole,
    /// The backend took no more; its answer may be there all the same.
    Refused,
    /// The client sent no more, or nothing that can be passed on, when it was being answered: it need not (RFC 9112 §9.5).
    Abandoned,
}

/// One exchange's two ends while the request's content is on its way.
#[derive(Clone, Copy)]
pub(super) struct Ends<'a> {
    pub(super) worker: &'a Generation,
    pub(super) client: &'a Conn,
    pub(super) backend: &'a Conn,
    /// From the request sent to the head of its answer.
    pub(super) response_timeout: Duration,
    pub(super) progress: &'a Progress,
    pub(super) copy: &'a RequestCopy,
}

impl Ends<'_> {
    /// Takes the next part of the content that has come; takes note of it, and of how much is known to follow. Lines between chunks are not for
    /// who wants a copy.
    fn take(
        &self,
        source: &mut BodySource,
        reader: &mut Reader,
        hop: Option<Standing>,
    ) -> Result<Option<Part>, Failure> {
        let hop = hop.filter(|_| !self.copy.is_wanted());
        let Some(part) = source.take_part(reader, hop).map_err(of_client)? else {
            return Ok(None);
        };
        self.count(part.content_bytes(), source.plain_left())?;
        if let Part::Content(piece) = &part {
            self.copy.add(piece);
        }
        Ok(Some(part))
    }

    /// Takes note of content that has come, and of how much is known to follow.
    #[inline]
    fn count(&self, bytes: u64, follows: u64) -> Result<(), Failure> {
        let taken = self.progress.given.get() + bytes;
        self.progress.given.set(taken);
        let body_bytes_max = self.worker.plan().limits.body_bytes_max;
        if body_bytes_max > 0 && taken.saturating_add(follows) > body_bytes_max {
            return Err(Failure::BodyTooLarge);
        }
        Ok(())
    }

    /// How slow the client may be, and how slow the backend.
    fn paces(&self) -> (Pace, Pace) {
        let body_timeout = self.worker.plan().timeouts.body;
        let rate_min = self.worker.plan().limits.body_rate_min;
        (
            Pace::new(body_timeout, rate_min),
            Pace::of_pauses(body_timeout),
        )
    }

    /// Until when the backend has to answer that was sent all it can get now.
    fn response_deadline(&self) -> Option<Instant> {
        Some(self.worker.rt().now() + self.response_timeout)
    }
}

/// Sends the request's head, which `gathered` holds, and its content.
///
/// # Errors
/// What went wrong on the client's side: there is no point in waiting for an answer.
pub(super) async fn upload(
    ends: Ends<'_>,
    reader: &mut Reader,
    gathered: &mut Vec<u8>,
    framing: BodyFraming,
) -> Result<Uploaded, Failure> {
    ends.backend.set_deadline(None); // Of its last exchange.
    let _until_here = EndOfDetour(ends.client);
    match send(ends, reader, gathered, framing).await {
        Err(failure) if failure != Failure::ClientGone && ends.progress.is_answered.get() => {
            Ok(Uploaded::Abandoned)
        }
        uploaded => uploaded,
    }
}

/// A client whose content may go past our memory; what it sends after that is received, however this ends.
struct EndOfDetour<'a>(&'a Conn);

impl Drop for EndOfDetour<'_> {
    fn drop(&mut self) {
        self.0.end_splicing();
    }
}

async fn send(
    ends: Ends<'_>,
    reader: &mut Reader,
    gathered: &mut Vec<u8>,
    framing: BodyFraming,
) -> Result<Uploaded, Failure> {
    let (client, backend, progress) = (ends.client, ends.backend, ends.progress);
    let coding = BodyCoding::of(framing);
    let mut source = BodySource::from(framing);
    let mut sink = BodySink::new(backend, gathered, coding);
    let (mut client_pace, mut backend_pace) = ends.paces();
    let mut detour = Detour::new(ends.worker.plan().limits.detour);
    if progress.is_awaited() && !reader.is_empty() {
        progress.expectation.set(Expectation::Nothing); // The content comes unasked.
    }
    enter(Table::Exchange, "Sending", "what is awaited");
    loop {
        if !put_received(ends, &mut source, reader, &mut sink, &mut backend_pace).await? {
            return Ok(Uploaded::Refused);
        }
        // Before the end of the last chunk is sent by itself.
        let way = detour.way(&sink);
        let at_once = client_pace.splice_at_once(&mut source, (&mut *reader, client), way);
        if let Some(past) = at_once.map_err(of_client)? {
            let follows = source.plain_left();
            if !pipe(ends, &mut sink, (past, follows), &mut backend_pace).await? {
                return Ok(Uploaded::Refused);
            }
            continue;
        }
        if source.is_ended() {
            break;
        }
        if sink.push().is_err() {
            return Ok(Uploaded::Refused);
        }
        progress.written.set(sink.written());
        if progress.is_awaited() {
            receive_unasked(ends, &mut source, reader).await?;
            continue;
        }
        // The client's turn: meanwhile the backend owes nothing, unless it answers already.
        if !progress.is_answered.get() {
            backend.set_deadline(None);
        }
        if !detour.takes(&source) || ends.copy.is_wanted() {
            let received = client_pace.receive(&mut source, reader, client).await;
            received.map_err(of_client)?;
            continue;
        }
        let way = detour.way(&sink);
        let splicing = client_pace.splice(&mut source, (&mut *reader, client), way);
        let Some(past) = splicing.await.map_err(of_client)? else {
            continue;
        };
        let follows = source.plain_left();
        if !pipe(ends, &mut sink, (past, follows), &mut backend_pace).await? {
            return Ok(Uploaded::Refused);
        }
    }
    // The client's deadline stays: it may be that of its taking an answer.
    if sink.end(source.trailers()).is_err() {
        return Ok(Uploaded::Refused);
    }
    progress.written.set(sink.written());
    if backend.queued() > 0 && drain(ends, &mut backend_pace).await.is_err() {
        return Ok(Uploaded::Refused);
    }
    if !progress.is_answered.get() {
        backend.set_deadline(ends.response_deadline());
    }
    ends.copy.send(source.trailers());
    Ok(Uploaded::Whole)
}

/// Sends what was received of the content; says whether the backend takes it.
async fn put_received(
    ends: Ends<'_>,
    source: &mut BodySource,
    reader: &mut Reader,
    sink: &mut BodySink<'_>,
    pace: &mut Pace,
) -> Result<bool, Failure> {
    while let Some(part) = ends.take(source, reader, sink.hop())? {
        if sink.put(part, source.plain_left()).is_err() {
            return Ok(false);
        }
        ends.progress.written.set(sink.written());
        if ends.backend.queued() > 0 {
            reader.detach_if_scarce();
            if drain(ends, pace).await.is_err() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Receives from a client that was not told yet to send its content. It is the backend's turn: that owes a word, and until then the
/// client nothing.
async fn receive_unasked(
    ends: Ends<'_>,
    source: &mut BodySource,
    reader: &mut Reader,
) -> Result<(), Failure> {
    ends.client.set_deadline(None);
    ends.backend.set_deadline(ends.response_deadline());
    let received = source.receive(reader, ends.client).await;
    received.map_err(of_client)?;
    if ends.progress.is_awaited() {
        ends.progress.expectation.set(Expectation::Nothing);
    }
    ends.backend.set_deadline(None); // Its turn is over.
    Ok(())
}

/// Waits until the backend has taken what is in a pipe, directly behind which so much more follows; says whether it has.
async fn pipe(
    ends: Ends<'_>,
    sink: &mut BodySink<'_>,
    (past, follows): (Past, u64),
    pace: &mut Pace,
) -> Result<bool, Failure> {
    ends.count(past.content, follows)?;
    if sink.announce(&past).is_err() {
        return Ok(false);
    }
    ends.progress.written.set(sink.written());
    let drained = pace.drain_pipe(ends.backend, past.piped).await;
    Ok(tell(ends, drained).is_ok())
}

/// Waits until the backend has taken what it was sent.
async fn drain(ends: Ends<'_>, pace: &mut Pace) -> io::Result<()> {
    tell(ends, pace.drain(ends.backend).await)
}

/// A backend that took nothing for too long is not waited for any more, unless it answers.
fn tell(ends: Ends<'_>, drained: io::Result<()>) -> io::Result<()> {
    let is_late = matches!(&drained, Err(error) if error.kind() == io::ErrorKind::TimedOut);
    if is_late && !ends.progress.is_answered.get() {
        ends.backend.set_deadline(Some(ends.worker.rt().now()));
    }
    drained
}

/// Why the rest of a request does not come.
pub(super) fn of_client(error: BodyError) -> Failure {
    let failure = match error {
        BodyError::Io(error) if error.kind() == io::ErrorKind::TimedOut => Failure::BodyTimeout,
        BodyError::Io(_) | BodyError::Truncated => Failure::ClientGone,
        BodyError::Chunk(error) => Failure::BodyInvalid(error),
    };
    let event = match failure {
        Failure::BodyTimeout => "deadline",
        _ => "client leaves",
    };
    enter(Table::Exchange, "Sending", event);
    failure
}

/// An upload in the background of whatever else the exchange does.
pub(super) struct Background<'a, F> {
    upload: Pin<&'a mut F>,
    is_over: bool,
    client: &'a Conn,
    progress: &'a Progress,
}

impl<'a, F: Future<Output = Result<Uploaded, Failure>>> Background<'a, F> {
    /// The progress tells when the backend was sent all of the request.
    pub(super) fn new(upload: Pin<&'a mut F>, client: &'a Conn, progress: &'a Progress) -> Self {
        Self {
            upload,
            is_over: false,
            client,
            progress,
        }
    }

    /// Runs something with the upload beside it; when that is over, it watches whether the client is still there.
    ///
    /// # Errors
    /// The upload's, at once.
    pub(super) async fn beside<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        let mut work = std::pin::pin!(work);
        let mut failure = std::pin::pin!(self.client.failure());
        poll_fn(|cx| {
            if !self.is_over {
                match self.upload.as_mut().poll(cx) {
                    Poll::Ready(Ok(uploaded)) => {
                        self.is_over = true;
                        if uploaded == Uploaded::Refused {
                            enter(Table::Exchange, "Sending", "backend leaves or fails");
                        }
                        self.progress.is_uploaded.set(uploaded == Uploaded::Whole);
                    }
                    Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                    Poll::Pending => (),
                }
            }
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            // Before, the upload receives from the client itself.
            if self.is_over && failure.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Failure::ClientGone));
            }
            Poll::Pending
        })
        .await
    }
}
