//! Two connections joined: bytes both ways until both ends have finished.

use super::message::Reader;
use crate::rt::net::{Conn, Rx};
use crate::rt::race::join;
use std::io;
use std::time::Duration;

/// What a tunnel carried, and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Bytes from the one named first to the other.
    pub forth: u64,
    /// Bytes back.
    pub back: u64,
    /// How it ended.
    pub end: TunnelEnd,
}

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelEnd {
    /// Both ends have finished, and each has what the other said.
    Finished,
    /// A reset or an error: what the ends have is not whole, and a FIN would make it look so. Reset both.
    Broken,
    /// Nothing moved for too long; reset both, as when it broke.
    Silent,
}

/// Relays until both directions have ended, one has failed, or nothing moved for `idle_timeout`.
///
/// What the readers hold goes first. A FIN is passed on and leaves the other direction open.
pub async fn relay(
    one: (&Conn, &mut Reader),
    other: (&Conn, &mut Reader),
    idle_timeout: Duration,
) -> Carried {
    let ((one, one_held), (other, other_held)) = (one, other);
    let deadline = Some(one.rt().now() + idle_timeout);
    one.set_deadline(deadline);
    other.set_deadline(deadline);
    let forth = Direction {
        from: one,
        to: other,
        idle_timeout,
    };
    let back = Direction {
        from: other,
        to: one,
        idle_timeout,
    };
    let ((forth, forth_end), (back, back_end)) =
        join(forth.pump(one_held), back.pump(other_held)).await;
    let end = match (forth_end, back_end) {
        (Ok(()), Ok(())) => TunnelEnd::Finished,
        (Err(one), Err(other)) if is_late(&one) && is_late(&other) => TunnelEnd::Silent,
        (Ok(()), Err(error)) | (Err(error), Ok(())) if is_late(&error) => TunnelEnd::Silent,
        (Err(_), _) | (_, Err(_)) => TunnelEnd::Broken,
    };
    Carried { forth, back, end }
}

fn is_late(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
}

struct Direction<'a> {
    from: &'a Conn,
    to: &'a Conn,
    idle_timeout: Duration,
}

impl Direction<'_> {
    async fn pump(&self, held: &mut Reader) -> (u64, io::Result<()>) {
        let mut carried = 0;
        let end = self.pump_until_end(held, &mut carried).await;
        if end.is_err() {
            // The other direction has nobody to talk to any more: a deadline in the past ends it.
            let now = self.from.rt().now();
            self.from.set_deadline(Some(now));
            self.to.set_deadline(Some(now));
        }
        (carried, end)
    }

    async fn pump_until_end(&self, held: &mut Reader, carried: &mut u64) -> io::Result<()> {
        let Self {
            from,
            to,
            idle_timeout,
        } = self;
        if !held.is_empty() {
            let count = held.bytes().len();
            *carried += count as u64;
            held.take(count).send(to)?;
        }
        loop {
            if to.queued() > 0 {
                to.flush().await?;
            }
            match from.recv().await? {
                Rx::Eof => return to.finish().await,
                Rx::Data(lent) => {
                    *carried += lent.len() as u64;
                    // Either direction moving keeps both alive.
                    let deadline = Some(from.rt().now() + *idle_timeout);
                    from.set_deadline(deadline);
                    to.set_deadline(deadline);
                    to.queue(lent)?;
                }
            }
        }
    }
}
