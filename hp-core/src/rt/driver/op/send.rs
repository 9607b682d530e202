//! Sending: by a call, on every engine, small writes at the end of the turn; what the socket does not take waits in the
//! slot's queue.
//!
//! The kernel therefore never reads memory of ours after a call has returned (docs/decisions/0004).

use super::outbox::{Full, PIECE_BYTES_MAX};
use super::recv::{remember, wake};
use super::send_file::Offered;
use crate::base::slab::Key;
use crate::rt::buf::Lent;
use crate::rt::driver::queues::{FRONT_MAX, Front};
use crate::rt::driver::slot::ConnSlot;
use crate::rt::driver::{Driver, FilePart, Io};
use crate::rt::lifecycle::{Table, enter};
use crate::sys::socket::SEGMENTS_MAX;
use std::io::{self, IoSlice};
use std::task::{Context, Poll};

impl Io {
    /// Sends bytes: few at the end of the turn, else at once. Copies what the socket does not take.
    #[inline]
    pub(crate) fn write(&mut self, key: Key, bytes: &[u8]) -> io::Result<()> {
        let slot = self.sending(key)?;
        let is_small = (1..=PIECE_BYTES_MAX).contains(&bytes.len());
        if !is_small || !slot.tx.is_empty() || slot.gathers {
            return self.write_vectored(key, &[IoSlice::new(bytes)]);
        }
        slot.has_letter = true;
        if self.outbox.post(key, bytes) == Full::Yes {
            self.empty_outbox();
        }
        Ok(())
    }

    /// The same for several segments, in their order.
    pub(crate) fn write_vectored(&mut self, key: Key, segments: &[IoSlice<'_>]) -> io::Result<()> {
        let slot = self.sending(key)?;
        let bytes: usize = segments.iter().map(|segment| segment.len()).sum();
        if bytes > PIECE_BYTES_MAX || !slot.tx.is_empty() || slot.gathers {
            self.send_letter(key);
            return self.send_or_queue(key, segments, Behind::Nothing);
        }
        if bytes > 0 {
            slot.has_letter = true;
            let mut full = Full::No;
            for segment in segments {
                full = self.outbox.post(key, segment);
            }
            if full == Full::Yes {
                self.empty_outbox();
            }
        }
        Ok(())
    }

    /// The slot of a connection, unless sending on it has failed.
    #[inline]
    pub(super) fn sending(&mut self, key: Key) -> io::Result<&mut ConnSlot> {
        let slot = self
            .conns
            .get_mut(key)
            .expect("a Conn's slot lives as long as the Conn");
        match slot.tx_error() {
            Some(errno) => Err(ConnSlot::error(errno)),
            None => Ok(slot),
        }
    }

    /// Sends at once what was written to a connection in this turn.
    pub(crate) fn send_now(&mut self, key: Key) -> io::Result<()> {
        self.send_letter(key);
        self.sending(key).map(drop)
    }

    /// Sends segments in order; copies what the socket does not take.
    pub(super) fn send_or_queue(
        &mut self,
        key: Key,
        segments: &[IoSlice<'_>],
        behind: Behind,
    ) -> io::Result<()> {
        let slot = self.sending(key)?;
        let mut sent = 0;
        if slot.tx.is_empty() {
            sent = self.offer(key, segments, behind)?;
        }
        let slot = self.conns.get_mut(key).expect("sending keeps the slot");
        let mut queued = false;
        for segment in segments {
            let skipped = sent.min(segment.len());
            sent -= skipped;
            if skipped < segment.len() {
                slot.tx.push_copy(&segment[skipped..]);
                queued = true;
            }
        }
        if queued {
            self.stats.short_sends += 1;
            self.arm_writable(key);
        }
        Ok(())
    }

    /// Sends a received piece; keeps the piece itself, uncopied, where the socket does not take it.
    pub(crate) fn queue_lent(&mut self, key: Key, mut lent: Lent) -> io::Result<()> {
        self.send_letter(key);
        let slot = self.sending(key)?;
        if slot.tx.is_empty() {
            let sent = self.offer(key, &[IoSlice::new(&lent)], Behind::Nothing)?;
            lent.advance(sent);
        }
        if !lent.is_empty() {
            self.stats.short_sends += 1;
            let slot = self.conns.get_mut(key).expect("sending keeps the slot");
            slot.tx.push_lent(lent);
            self.arm_writable(key);
        }
        Ok(())
    }

    /// Bytes that the socket was offered and has not taken yet.
    pub(crate) fn queued(&self, key: Key) -> usize {
        self.conns.get(key).map_or(0, |slot| slot.tx.len())
    }

    /// Bytes written that the peer's kernel has not acknowledged.
    pub(crate) fn unacknowledged(&self, key: Key) -> usize {
        let Some(slot) = self.conns.get(key) else {
            return 0;
        };
        slot.tx.len() + self.kernel.unacknowledged(slot.fd)
    }

    /// Waits until the socket has taken everything, or the connection's deadline has passed.
    pub(crate) fn poll_flush(&mut self, key: Key, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let taken = self.poll_taken(key, cx);
        self.in_time(key, taken)
    }

    /// What waiting for the peer to take something came to, bounded by the connection's deadline.
    pub(super) fn in_time(&self, key: Key, taken: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        let is_late = || self.conns.get(key).is_some_and(|slot| slot.timed_out);
        match taken {
            Poll::Pending if is_late() => {
                Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)))
            }
            taken => taken,
        }
    }

    /// Waits until the socket has taken everything.
    pub(crate) fn poll_taken(&mut self, key: Key, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.send_letter(key);
        let slot = self
            .conns
            .get_mut(key)
            .expect("a Conn's slot lives as long as the Conn");
        if let Some(errno) = slot.tx_error() {
            return Poll::Ready(Err(ConnSlot::error(errno)));
        }
        if slot.tx.is_empty() {
            return Poll::Ready(Ok(()));
        }
        remember(&mut slot.tx_waker, cx.waker());
        Poll::Pending
    }

    /// Sends FIN; everything queued must have been flushed.
    pub(crate) fn shutdown_write(&mut self, key: Key) -> io::Result<()> {
        let slot = self
            .conns
            .get_mut(key)
            .expect("a Conn's slot lives as long as the Conn");
        debug_assert!(slot.tx.is_empty());
        self.kernel.shutdown_write(slot.fd)?;
        slot.is_finished = true;
        Ok(())
    }

    /// The socket takes bytes again: sends what waits, and tells the waiter when nothing does any more.
    pub(in crate::rt::driver) fn resume_sending(&mut self, key: Key) {
        loop {
            let Some(slot) = self.conns.get_mut(key) else {
                return;
            };
            if slot.tx.is_empty() || slot.tx_error().is_some() {
                break;
            }
            enter(Table::Connection, slot.phase.row(), "room in the socket");
            let mut place = [IoSlice::new(&[]); FRONT_MAX];
            let used = match slot.tx.front(&mut place) {
                Front::Nothing => break,
                Front::Bytes(used) => used,
                Front::File(part) => {
                    let part = part.clone();
                    match self.resume_file(key, &part) {
                        Resumed::On => continue,
                        Resumed::Full => return,
                    }
                }
            };
            self.stats.sends += 1;
            match self.kernel.send(slot.fd, &place[..used]) {
                Ok(sent) => slot.tx.advance(sent),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => {
                        self.arm_writable(key);
                        return;
                    }
                    Some(libc::EINTR) => (),
                    errno => self.fail_sending(key, errno.unwrap_or(libc::EIO)),
                },
            }
        }
        if let Some(slot) = self.conns.get_mut(key) {
            wake(&mut slot.tx_waker);
        }
    }

    /// Sends on with a part of a file at the front of the queue.
    fn resume_file(&mut self, key: Key, part: &FilePart) -> Resumed {
        match self.offer_file(key, part) {
            Offered::Taken(count) => {
                if let Some(slot) = self.conns.get_mut(key) {
                    slot.tx.advance(count);
                }
                Resumed::On
            }
            Offered::Full => {
                self.arm_writable(key);
                Resumed::Full
            }
            Offered::Failed => Resumed::On, // The queue is empty now, and its waiter is to be told.
        }
    }

    /// One attempt; how many bytes the socket took, 0 when it takes none now.
    pub(super) fn offer(
        &mut self,
        key: Key,
        segments: &[IoSlice<'_>],
        behind: Behind,
    ) -> io::Result<usize> {
        let slot = self
            .conns
            .get(key)
            .expect("a Conn's slot lives as long as the Conn");
        let fd = slot.fd;
        if let Some(stamps) = &mut self.stamps {
            stamps.note_sent(key, || self.kernel.now());
        }
        let mut sent = 0;
        // A call takes only so many segments. It is called again until the socket itself refuses: only then does an edge
        // follow.
        for batch in segments.chunks(SEGMENTS_MAX) {
            let batch_bytes: usize = batch.iter().map(|segment| segment.len()).sum();
            self.stats.sends += 1;
            let offered = match behind {
                Behind::Nothing => self.kernel.send(fd, batch),
                Behind::More => self.kernel.send_before_more(fd, batch),
            };
            match offered {
                Ok(taken) => {
                    sent += taken;
                    if taken < batch_bytes {
                        break;
                    }
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN | libc::EINTR) => break,
                    errno => {
                        self.fail_sending(key, errno.unwrap_or(libc::EIO));
                        return Err(error);
                    }
                },
            }
        }
        Ok(sent)
    }

    pub(super) fn fail_sending(&mut self, key: Key, errno: i32) {
        if let Some(slot) = self.conns.get_mut(key) {
            slot.fail_sending(errno);
        }
    }

    /// Makes sure that room in the socket will be noticed.
    pub(super) fn arm_writable(&mut self, key: Key) {
        let Some(slot) = self.conns.get_mut(key) else {
            return;
        };
        match &mut self.driver {
            Driver::Uring(uring) => uring.arm_writable(key, slot),
            Driver::Poll(_) => slot.readiness.writable = false, // The next edge tells.
        }
    }
}

/// What is sent directly behind something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// Nothing that is known of: it leaves at once.
    Nothing,
    /// More, for which the kernel may wait.
    More,
}

/// Whether the queue goes on after a part of a file was offered.
enum Resumed {
    On,
    Full,
}
