//! The request's content on its way to the backend, while the answer may already come.

use super::error::Failure;
use crate::shared::Worker;
use hp_core::http::body::{BodyCoding, BodyError, BodySink, BodySource};
use hp_core::http::message::Reader;
use hp_core::rt::lifecycle::{Table, enter};
use hp_core::rt::net::Conn;
use hp_core::wire::http1::framing::BodyFraming;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::Poll;

/// How an upload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Uploaded {
    /// The backend was sent all of it.
    Whole,
    /// The backend took no more; its answer may be there all the same.
    Refused,
}

/// Sends the request's head, which `gathered` holds, and its content.
///
/// # Errors
/// What went wrong on the client's side: there is no point in waiting for an answer.
pub(super) async fn upload(
    worker: &Worker,
    client: (&Conn, &mut Reader),
    backend: &Conn,
    gathered: &mut Vec<u8>,
    framing: BodyFraming,
) -> Result<Uploaded, Failure> {
    let (client, reader) = client;
    let coding = match framing {
        BodyFraming::Chunked => BodyCoding::Chunked,
        BodyFraming::Empty | BodyFraming::Length(_) => BodyCoding::Plain,
    };
    let body_bytes_max = worker.plan().limits.body_bytes_max;
    let mut taken: u64 = 0;
    let mut source = BodySource::from(framing);
    let mut sink = BodySink::new(backend, gathered, coding);
    let body_timeout = worker.plan().timeouts.body;
    enter(Table::Exchange, "Sending", "what is awaited");
    loop {
        while let Some(piece) = source.take_received(reader).map_err(of_client)? {
            taken += piece.len() as u64;
            if body_bytes_max > 0 && taken > body_bytes_max {
                return Err(Failure::BodyTooLarge);
            }
            if sink.put(piece).is_err() {
                return Ok(Uploaded::Refused);
            }
            if backend.queued() > 0 {
                backend.set_deadline(Some(worker.rt().now() + body_timeout));
                if sink.drained().await.is_err() {
                    return Ok(Uploaded::Refused);
                }
            }
        }
        if source.is_ended() {
            break;
        }
        if sink.push().is_err() {
            return Ok(Uploaded::Refused);
        }
        // The client's turn: meanwhile the backend owes nothing.
        backend.set_deadline(None);
        client.set_deadline(Some(worker.rt().now() + body_timeout));
        source.receive(reader, client).await.map_err(of_client)?;
    }
    client.set_deadline(None);
    backend.set_deadline(Some(worker.rt().now() + worker.plan().timeouts.response));
    if sink.end(source.trailers()).is_err() || sink.drained().await.is_err() {
        return Ok(Uploaded::Refused);
    }
    Ok(Uploaded::Whole)
}

fn of_client(error: BodyError) -> Failure {
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
    is_whole: &'a Cell<bool>,
}

impl<'a, F: Future<Output = Result<Uploaded, Failure>>> Background<'a, F> {
    /// `is_whole` becomes true when the backend was sent all of the request.
    pub(super) fn new(upload: Pin<&'a mut F>, client: &'a Conn, is_whole: &'a Cell<bool>) -> Self {
        Self {
            upload,
            is_over: false,
            client,
            is_whole,
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
                        self.is_whole.set(uploaded == Uploaded::Whole);
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
