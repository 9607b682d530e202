//! Bytes from one connection to another, both ways at once.
//!
//! Must not know: what the bytes mean.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;

use hp_core::rt::net::{Conn, Rx};
use hp_core::rt::race::{First, race};

/// Moves bytes through receive buffers, until both ends have finished. A FIN is passed on and leaves the other way open; at
/// most one buffer waits for each end.
///
/// # Errors
/// What either end failed with: nobody has the whole then, and both are to be reset.
pub(super) async fn copy(client: &Conn, backend: &Conn) -> io::Result<()> {
    both(copy_one_way(client, backend), copy_one_way(backend, client)).await
}

/// The same through a pipe, without memory of ours; a pipe is held while bytes are in it.
///
/// # Errors
/// As [`copy`].
pub(super) async fn splice(client: &Conn, backend: &Conn) -> io::Result<()> {
    let forth = splice_one_way(client, backend);
    let back = splice_one_way(backend, client);
    both(forth, back).await
}

async fn copy_one_way(from: &Conn, to: &Conn) -> io::Result<()> {
    loop {
        match from.recv().await? {
            Rx::Data(lent) => to.queue(lent)?,
            Rx::Eof => return to.finish().await,
        }
        if to.queued() > 0 {
            match race(to.flush(), from.failure()).await {
                First::One(flushed) => flushed?,
                First::Other(error) => return Err(error),
            }
        }
    }
}

async fn splice_one_way(from: &Conn, to: &Conn) -> io::Result<()> {
    loop {
        match from.splice_in(usize::MAX).await {
            Ok(Some(mut piped)) => to.splice_out(&mut piped).await?,
            Ok(None) => return to.finish().await,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                from.end_splicing(); // There is no pipe for it.
                return copy_one_way(from, to).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Runs both until both have ended well, or one has failed.
async fn both(
    one: impl Future<Output = io::Result<()>>,
    other: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut one_is_done, mut other_is_done) = (false, false);
    poll_fn(|cx| {
        if !one_is_done && let Poll::Ready(ended) = one.as_mut().poll(cx) {
            ended?;
            one_is_done = true;
        }
        if !other_is_done && let Poll::Ready(ended) = other.as_mut().poll(cx) {
            ended?;
            other_is_done = true;
        }
        if one_is_done && other_is_done {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await
}
