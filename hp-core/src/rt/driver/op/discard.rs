//! Discarding: bytes that nobody will look at are dropped where the kernel has them.
//!
//! A receive that is armed already is not called back: what it brings is dropped as it comes, and it ends by itself after a
//! number of bytes.

use super::recv::remember;
use crate::base::slab::Key;
use crate::rt::driver::slot::{ConnSlot, Peer, Phase, Readiness, RxEnd};
use crate::rt::driver::{Driver, Io};
use crate::rt::lifecycle::{Table, enter};
use std::io;
use std::task::{Context, Poll};

/// What discarding needs to know of each connection, by the place of its slot; no memory while nobody discards.
#[derive(Debug, Default)]
pub(in crate::rt::driver) struct Discards(Vec<Discard>);

#[derive(Clone, Copy, Debug, Default)]
struct Discard {
    /// Of the connection: another one may have the place by now.
    generation: u32,
    /// Dropped by the kernel; nobody was told of them.
    bytes: u32,
    /// Whoever waits wants no bytes, only that they are gone.
    is_awaited: bool,
}

impl Discards {
    /// The kernel has dropped bytes of a connection.
    fn note(&mut self, key: Key, bytes: u32) {
        let discard = self.of(key);
        discard.bytes = discard.bytes.saturating_add(bytes);
    }

    /// Somebody waits for bytes to drop.
    fn begin_wait(&mut self, key: Key) {
        self.of(key).is_awaited = true;
    }

    /// Whether somebody waits for bytes to drop, asked once: another waiter may follow.
    pub(in crate::rt::driver) fn end_wait(&mut self, key: Key) -> bool {
        let known = self.known(key);
        known.is_some_and(|discard| std::mem::take(&mut discard.is_awaited))
    }

    /// What there is to tell of a connection, at most `max`; the rest stays.
    fn take(&mut self, key: Key, max: usize) -> usize {
        let Some(discard) = self.known(key) else {
            return 0;
        };
        let told = discard.bytes.min(u32::try_from(max).unwrap_or(u32::MAX));
        discard.bytes -= told;
        told as usize
    }

    fn known(&mut self, key: Key) -> Option<&mut Discard> {
        let discard = self.0.get_mut(key.index as usize)?;
        (discard.generation == key.generation).then_some(discard)
    }

    fn of(&mut self, key: Key) -> &mut Discard {
        let place = key.index as usize;
        if place >= self.0.len() {
            self.0.resize(place + 1, Discard::default());
        }
        let discard = &mut self.0[place];
        if discard.generation != key.generation {
            *discard = Discard {
                generation: key.generation,
                ..Discard::default()
            };
        }
        discard
    }
}

impl Io {
    /// Drops at most `max` bytes, or arms what drops them and registers the waiter; 0 is the peer's end.
    pub(crate) fn poll_discard(
        &mut self,
        key: Key,
        max: usize,
        cx: &Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let Some(gone) = self.gone(key, max) {
            return Poll::Ready(gone);
        }
        let slot = self
            .conns
            .get_mut(key)
            .expect("a Conn's slot lives as long as the Conn");
        debug_assert_eq!(slot.phase, Phase::Open);
        if slot.timed_out {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)));
        }
        if self.budget == 0 {
            cx.waker().wake_by_ref(); // As for a receive: nobody keeps the others waiting.
            return Poll::Pending;
        }
        self.arm_discard(key, max);
        if let Some(gone) = self.gone(key, max) {
            self.budget -= 1;
            return Poll::Ready(gone);
        }
        let slot = self.conns.get_mut(key).expect("arming keeps the slot");
        remember(&mut slot.rx_waker, cx.waker());
        self.discards.begin_wait(key);
        Poll::Pending
    }

    /// Makes sure that bytes will be dropped, or the end or an error noticed.
    fn arm_discard(&mut self, key: Key, max: usize) {
        let Some(slot) = self.conns.get_mut(key) else {
            return;
        };
        if matches!(slot.peer, Peer::Nameless) {
            return self.arm_recv(key); // A Unix socket knows no other way than to copy.
        }
        slot.full_reads = 0; // What follows is read in small buffers until it shows that it needs large ones.
        let len = max.min(DISCARD_BYTES_MAX);
        match &mut self.driver {
            Driver::Uring(uring) => {
                uring.arm_discard(key, slot, u32::try_from(len).unwrap_or(u32::MAX));
            }
            Driver::Poll(_) if slot.readiness.readable => self.try_discard(key, len),
            Driver::Poll(_) => (),
        }
    }

    /// A readiness engine's attempt.
    fn try_discard(&mut self, key: Key, len: usize) {
        let Some(slot) = self.conns.get_mut(key) else {
            return;
        };
        let dropped = loop {
            match self.kernel.discard(slot.fd, len) {
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => (), // Nobody else would try again.
                dropped => break dropped,
            }
        };
        match dropped {
            Ok(0) => slot.end_rx(slot.end_of_data()),
            Ok(count) => {
                if let Some(stamps) = &mut self.stamps {
                    stamps.note_received(key, self.kernel.now());
                }
                let Readiness {
                    hung_up, urgent, ..
                } = slot.readiness;
                slot.readiness.readable = count == len || hung_up || urgent;
                self.note_discarded(key, u32::try_from(count).unwrap_or(u32::MAX));
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN) => slot.readiness.readable = false,
                errno => slot.end_rx(RxEnd::Failed(errno.unwrap_or(libc::EIO))),
            },
        }
    }
    /// The kernel has dropped bytes of a connection.
    pub(in crate::rt::driver) fn note_discarded(&mut self, key: Key, bytes: u32) {
        if let Some(slot) = self.conns.get(key) {
            enter(Table::Connection, slot.phase.row(), "bytes arrive");
        }
        self.discards.note(key, bytes);
    }

    /// What there is to tell: bytes that the kernel dropped, then received ones, which are dropped now, then the end.
    fn gone(&mut self, key: Key, max: usize) -> Option<io::Result<usize>> {
        let slot = self.conns.get_mut(key)?;
        let count = match self.discards.take(key, max) {
            0 => slot.rx.discard(max),
            count => count,
        };
        match (count, slot.rx_end) {
            (0, Some(RxEnd::Failed(errno))) => Some(Err(ConnSlot::error(errno))),
            (0, Some(RxEnd::Eof)) => Some(Ok(0)),
            (0, None) => None,
            (count, _) => Some(Ok(count)),
        }
    }
}

/// What one call drops at most: as much as keeps the others waiting no longer than a receive does.
const DISCARD_BYTES_MAX: usize = 1 << 20;
