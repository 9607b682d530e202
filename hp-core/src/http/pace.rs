//! How slow a peer may be: its pauses are paid for by the bytes that it moves.

use super::body::{BodyError, BodySource, Spliced, Way};
use super::message::Reader;
use super::past::Past;
use crate::rt::net::{Conn, Piped};
use std::io;
use std::time::Duration;

/// What is left of a peer's time.
///
/// It begins with a grace. Waiting for the peer uses it up; each byte that the peer moves earns some of it back, never
/// beyond the grace. So no pause is longer than the grace, and over any length of time that the peer is waited for, it moves
/// `rate_min` bytes a second, but for what a grace is worth. Only waits count: a peer is not charged for the slowness of
/// somebody else.
///
/// `left <= grace`
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    grace: Duration,
    /// In bytes a second; 0: any byte earns the whole grace.
    rate_min: u64,
    left: Duration,
}

impl Pace {
    /// A peer that was not waited for yet. `rate_min` is in bytes a second.
    #[must_use]
    pub const fn new(grace: Duration, rate_min: u64) -> Self {
        Self {
            grace,
            rate_min,
            left: grace,
        }
    }

    /// One whose pauses are bounded, and nothing else.
    #[must_use]
    pub const fn of_pauses(grace: Duration) -> Self {
        Self::new(grace, 0)
    }

    /// Receives more of a body.
    ///
    /// # Errors
    /// As [`BodySource::receive`]; `TimedOut` when the peer has no time left.
    pub async fn receive(
        &mut self,
        source: &mut BodySource,
        reader: &mut Reader,
        conn: &Conn,
    ) -> Result<(), BodyError> {
        loop {
            let (begun, held) = (conn.rt().now(), reader.bytes().len());
            conn.set_deadline(Some(begun + self.left));
            let received = source.receive(reader, conn).await;
            let moved = reader.bytes().len().saturating_sub(held);
            self.spend(conn.rt().now() - begun, moved);
            match received {
                // Who sends on the connection at the same time has a deadline of its own.
                Err(BodyError::Io(error)) if self.may_go_on(&error) => (),
                received => return received,
            }
        }
    }

    /// Moves more of a body into a pipe; `None` where what comes next is not known before it was received, or it was received instead.
    ///
    /// # Errors
    /// As [`Pace::receive`].
    pub async fn splice(
        &mut self,
        source: &mut BodySource,
        (reader, conn): (&mut Reader, &Conn),
        way: Way,
    ) -> Result<Option<Past>, BodyError> {
        loop {
            let begun = conn.rt().now();
            conn.set_deadline(Some(begun + self.left));
            let spliced = source.splice((&mut *reader, conn), way).await;
            let moved = match &spliced {
                Ok(Spliced::Content(past)) => past.content_bytes(), // Which may be in no pipe, or have an end of ours behind it.
                Ok(Spliced::Between(count)) => *count,
                Ok(Spliced::Nothing) | Err(_) => 0,
            };
            self.spend(conn.rt().now() - begun, moved); // It may have waited before there was no pipe.
            match spliced {
                Ok(Spliced::Content(past)) => return Ok(Some(past)),
                Ok(Spliced::Between(_)) => return Ok(None),
                Ok(Spliced::Nothing) => {
                    self.receive(source, reader, conn).await?;
                    return Ok(None);
                }
                Err(BodyError::Io(error)) if self.may_go_on(&error) => (),
                Err(error) => return Err(error),
            }
        }
    }

    /// The same without a wait: what has come behind content that went past.
    ///
    /// # Errors
    /// As [`BodySource::splice_at_once`].
    pub fn splice_at_once(
        &mut self,
        source: &mut BodySource,
        (reader, conn): (&mut Reader, &Conn),
        way: Way,
    ) -> Result<Option<Past>, BodyError> {
        let past = source.splice_at_once((reader, conn), way)?;
        if let Some(past) = &past {
            self.spend(Duration::ZERO, past.content_bytes());
        }
        Ok(past)
    }

    /// Waits until the peer has made room for everything that was sent.
    ///
    /// # Errors
    /// As [`Conn::flush`]; `TimedOut` when the peer has no time left.
    pub async fn drain(&mut self, conn: &Conn) -> io::Result<()> {
        conn.send_now()?;
        if conn.queued() == 0 {
            return Ok(());
        }
        self.await_room(conn, None).await
    }

    /// The same for what is in a pipe, and what was written before it.
    ///
    /// # Errors
    /// As [`Pace::drain`].
    pub async fn drain_pipe(&mut self, conn: &Conn, mut piped: Piped) -> io::Result<()> {
        if conn.splice_out_now(&mut piped)? {
            return Ok(());
        }
        self.await_room(conn, Some(piped)).await
    }

    /// Waits for the peer until the socket has taken everything, what is in the pipe last.
    async fn await_room(&mut self, conn: &Conn, mut piped: Option<Piped>) -> io::Result<()> {
        // A socket tells of room when much of it is free again, which a slow peer takes minutes for, and then takes much
        // without a wait: what the peer acknowledges tells how fast it reads.
        let unmoved =
            |piped: &Option<Piped>| conn.unacknowledged() + piped.as_ref().map_or(0, Piped::len);
        let mut unmoved_before = unmoved(&piped);
        loop {
            let begun = conn.rt().now();
            let until = begun + self.left;
            let sent = match &mut piped {
                None => conn.flush_until(until).await,
                Some(piped) => conn.splice_out_until(piped, until).await,
            };
            let unmoved_now = unmoved(&piped);
            let moved = unmoved_before.saturating_sub(unmoved_now);
            self.spend(conn.rt().now() - begun, moved);
            unmoved_before = unmoved_now;
            match sent {
                Err(error) if self.may_go_on(&error) => (),
                sent => return sent,
            }
        }
    }

    /// Takes note of a wait, and of what came of it.
    fn spend(&mut self, waited: Duration, bytes: usize) {
        let earned = match bytes as u64 {
            0 => Duration::ZERO,
            bytes => bytes
                .saturating_mul(NANOS)
                .checked_div(self.rate_min)
                .map_or(self.grace, Duration::from_nanos),
        };
        let left = self.left.saturating_sub(waited).saturating_add(earned);
        self.left = left.min(self.grace);
    }

    fn may_go_on(&self, error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::TimedOut && !self.left.is_zero()
    }
}

/// In a second.
const NANOS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(30);

    /// Whether a peer that again and again moves so many bytes after so many seconds lasts for an hour.
    fn lasts(rate_min: u64, pause_secs: u64, bytes: usize) -> bool {
        let mut pace = Pace::new(GRACE, rate_min);
        (0..3600 / pause_secs).all(|_| {
            let pause = Duration::from_secs(pause_secs);
            let is_in_time = pause < pace.left;
            pace.spend(pause, bytes);
            is_in_time
        })
    }

    #[test]
    fn who_moves_as_much_as_is_asked_for_lasts() {
        assert!(lasts(1024, 1, 1024));
        assert!(lasts(1024, 29, 29 * 1024));
        assert!(lasts(1024, 10, 1_000_000));
    }

    #[test]
    fn who_moves_less_does_not_last_though_no_pause_is_long() {
        assert!(!lasts(1024, 1, 1000));
        assert!(!lasts(1024, 1, 1));
        assert!(!lasts(1024, 29, 28 * 1024));
    }

    #[test]
    fn without_a_rate_only_pauses_count() {
        assert!(lasts(0, 29, 1));
        assert!(!lasts(0, 30, 1_000_000));
    }

    #[test]
    fn much_at_once_pays_for_no_more_than_a_grace() {
        let mut pace = Pace::new(GRACE, 1);
        pace.spend(Duration::ZERO, usize::MAX);
        assert_eq!(pace.left, GRACE);
        pace.spend(GRACE * 2, 10);
        assert_eq!(pace.left, Duration::from_secs(10));
    }
}
