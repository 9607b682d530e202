//! Two connections joined: bytes both ways until both ends have finished.

use super::message::Reader;
use crate::rt::net::{Conn, Rx};
use crate::rt::race::join;
use std::cell::Cell;
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
    /// A reset or an error at the one named first: what the ends have is not whole, and a FIN would make it look so. Reset both.
    OneBroke,
    /// The same at the other.
    OtherBroke,
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
    let quiet = Quiet {
        ends: [one, other],
        queued: Cell::new([0; 2]),
        timeout: idle_timeout,
    };
    quiet.begin_anew();
    let forth = Direction {
        from: one,
        to: other,
        quiet: &quiet,
    };
    let back = Direction {
        from: other,
        to: one,
        quiet: &quiet,
    };
    let ((forth, forth_end), (back, back_end)) =
        join(forth.pump(one_held), back.pump(other_held)).await;
    let forth_end =
        forth_end.map_err(|fault| fault.seen_by(TunnelEnd::OneBroke, TunnelEnd::OtherBroke));
    let back_end =
        back_end.map_err(|fault| fault.seen_by(TunnelEnd::OtherBroke, TunnelEnd::OneBroke));
    let end = match (forth_end, back_end) {
        (Ok(()), Ok(())) => TunnelEnd::Finished,
        // What broke ends the other direction by a deadline.
        (Err(TunnelEnd::Silent), Err(end)) | (Err(end), _) | (Ok(()), Err(end)) => end,
    };
    Carried { forth, back, end }
}

/// Why a direction did not come to its end.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Where the bytes come from broke.
    From,
    /// Where they go to broke.
    To,
    /// Nothing moved in either direction, or the other one has failed.
    Late,
}

impl Fault {
    fn at_source(error: &io::Error) -> Self {
        if is_late(error) {
            Self::Late
        } else {
            Self::From
        }
    }

    fn at_sink(error: &io::Error) -> Self {
        if is_late(error) { Self::Late } else { Self::To }
    }

    /// How the tunnel ended, for this direction between such ends.
    fn seen_by(self, from: TunnelEnd, to: TunnelEnd) -> TunnelEnd {
        match self {
            Self::From => from,
            Self::To => to,
            Self::Late => TunnelEnd::Silent,
        }
    }
}

fn is_late(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
}

/// How long nothing has moved in either direction.
struct Quiet<'a> {
    ends: [&'a Conn; 2],
    /// What the ends had not taken when something moved last.
    queued: Cell<[usize; 2]>,
    timeout: Duration,
}

impl Quiet<'_> {
    /// Something has moved: that keeps both directions alive.
    fn begin_anew(&self) {
        self.queued.set(self.ends.map(Conn::queued));
        let deadline = Some(self.ends[0].rt().now() + self.timeout);
        self.ends.iter().for_each(|end| end.set_deadline(deadline));
    }

    /// Whether an end that reads slowly has taken something since: then the quiet begins anew.
    fn was_broken(&self) -> bool {
        let [one, other] = self.queued.get();
        let [one_now, other_now] = self.ends.map(Conn::queued);
        let is_broken = one_now < one || other_now < other;
        if is_broken {
            self.begin_anew();
        }
        is_broken
    }
}

struct Direction<'a> {
    from: &'a Conn,
    to: &'a Conn,
    quiet: &'a Quiet<'a>,
}

impl Direction<'_> {
    async fn pump(&self, held: &mut Reader) -> (u64, Result<(), Fault>) {
        let mut carried = 0;
        let end = self.pump_until_end(held, &mut carried).await;
        if end.is_err() {
            // The other direction has nobody to talk to any more: a deadline in the past ends it.
            let now = self.from.rt().now();
            self.quiet.queued.set([0; 2]);
            self.from.set_deadline(Some(now));
            self.to.set_deadline(Some(now));
        }
        (carried, end)
    }

    async fn pump_until_end(&self, held: &mut Reader, carried: &mut u64) -> Result<(), Fault> {
        let Self { from, to, quiet } = self;
        if !held.is_empty() {
            let count = held.bytes().len();
            *carried += count as u64;
            held.take(count)
                .send(to)
                .map_err(|error| Fault::at_sink(&error))?;
            quiet.begin_anew();
        }
        loop {
            self.flush().await?;
            match from.recv().await {
                Err(error) if is_late(&error) && quiet.was_broken() => (),
                Err(error) => return Err(Fault::at_source(&error)),
                Ok(Rx::Eof) => {
                    self.flush().await?;
                    return to.finish().await.map_err(|error| Fault::at_sink(&error));
                }
                Ok(Rx::Data(lent)) => {
                    *carried += lent.len() as u64;
                    to.queue(lent).map_err(|error| Fault::at_sink(&error))?;
                    quiet.begin_anew();
                }
            }
        }
    }

    /// Waits until the other end has taken everything; the quiet begins with the last of it.
    async fn flush(&self) -> Result<(), Fault> {
        while self.to.queued() > 0 {
            match self.to.flush().await {
                Ok(()) => self.quiet.begin_anew(),
                Err(error) if is_late(&error) && self.quiet.was_broken() => (),
                Err(error) => return Err(Fault::at_sink(&error)),
            }
        }
        Ok(())
    }
}
