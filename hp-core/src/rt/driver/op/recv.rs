//! Receiving: the kernel fills a pool buffer, the slot keeps it until somebody asks.

use crate::base::slab::Key;
use crate::rt::buf::{Group, Lent};
use crate::rt::driver::slot::{ConnSlot, Phase, Readiness, RxEnd};
use crate::rt::driver::{Driver, Io};
use crate::rt::lifecycle::{Table, enter};
use crate::rt::plant::{Plant, is_planted};
use std::io;
use std::task::{Context, Poll, Waker};

/// What a receive gives.
#[derive(Debug)]
pub enum Rx {
    /// Bytes, in the order in which they were sent; at least one.
    Data(Lent),
    /// The peer sends nothing more. Given again if asked again.
    Eof,
}

impl Io {
    /// Takes the next bytes, or arms a receive and registers the waiter.
    #[inline]
    pub(crate) fn poll_recv(&mut self, key: Key, cx: &Context<'_>) -> Poll<io::Result<Rx>> {
        // What was received ahead is the common case: one look at the slot.
        let slot = self
            .conns
            .get_mut(key)
            .expect("a Conn's slot lives as long as the Conn");
        debug_assert_eq!(slot.phase, Phase::Open);
        if let Some(lent) = slot.rx.pop() {
            return Poll::Ready(Ok(Rx::Data(lent)));
        }
        // And so is that nothing has come since.
        let is_quiet = slot.waits_for_an_edge() && !slot.timed_out;
        if is_quiet && matches!(self.driver, Driver::Poll(_)) {
            remember(&mut slot.rx_waker, cx.waker());
            return Poll::Pending;
        }
        self.poll_recv_anew(key, cx)
    }

    /// The same where more is to be looked at than what is there.
    #[inline(never)]
    fn poll_recv_anew(&mut self, key: Key, cx: &Context<'_>) -> Poll<io::Result<Rx>> {
        match self.poll_news(key, cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => (),
        }
        let slot = self
            .conns
            .get_mut(key)
            .expect("a Conn's slot lives as long as the Conn");
        if let Some(lent) = slot.rx.pop() {
            return Poll::Ready(Ok(Rx::Data(lent)));
        }
        match slot.rx_end {
            Some(RxEnd::Failed(errno)) => Poll::Ready(Err(ConnSlot::error(errno))),
            Some(RxEnd::Eof) => Poll::Ready(Ok(Rx::Eof)),
            None => unreachable!("poll_news is ready only when there is news"),
        }
    }

    /// Waits until bytes, the end or an error are there, and takes none of them.
    pub(crate) fn poll_news(&mut self, key: Key, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let slot = self
            .conns
            .get_mut(key)
            .expect("a Conn's slot lives as long as the Conn");
        debug_assert_eq!(slot.phase, Phase::Open);
        if slot.has_news() {
            return Poll::Ready(Ok(()));
        }
        if slot.timed_out {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)));
        }
        if self.budget == 0 {
            cx.waker().wake_by_ref(); // A peer that always has more must not keep the others waiting.
            return Poll::Pending;
        }
        self.arm_recv(key);
        let slot = self.conns.get_mut(key).expect("arming keeps the slot");
        if slot.has_news() {
            self.budget -= 1;
            return Poll::Ready(Ok(()));
        }
        remember(&mut slot.rx_waker, cx.waker());
        Poll::Pending
    }

    /// Waits until receiving fails; bytes and the peer's FIN stay where they are.
    pub(crate) fn poll_failure(&mut self, key: Key, cx: &Context<'_>) -> Poll<io::Error> {
        let slot = self
            .conns
            .get_mut(key)
            .expect("a Conn's slot lives as long as the Conn");
        if slot.waits_for_an_edge() && matches!(self.driver, Driver::Poll(_)) {
            remember(&mut slot.rx_waker, cx.waker());
            return Poll::Pending;
        }
        if !slot.has_news() {
            self.arm_recv(key);
        }
        // A failure that was told is found behind bytes that nobody has taken; a ring's receive that is armed finds it by itself.
        while let Some(slot) = self.conns.get(key)
            && slot.hides_failure()
        {
            if self.budget == 0 {
                cx.waker().wake_by_ref(); // It was told once, and nothing else would bring anybody back to it.
                break;
            }
            self.budget -= 1;
            if slot.rx.len() >= UNREAD_MAX {
                self.skip_to_failure(key);
                break;
            }
            self.arm_recv(key);
        }
        let slot = self.conns.get_mut(key).expect("arming keeps the slot");
        if let Some(errno) = slot.failure() {
            return Poll::Ready(ConnSlot::error(errno));
        }
        if let Driver::Uring(uring) = &mut self.driver {
            uring.arm_failure(key, slot);
        }
        remember(&mut slot.rx_waker, cx.waker());
        Poll::Pending
    }

    /// Asks the socket itself why it failed, for whoever has taken enough of what it received before: the rest of that, which
    /// nobody will answer any more, stays in the kernel.
    fn skip_to_failure(&mut self, key: Key) {
        let Some(slot) = self.conns.get_mut(key) else {
            return;
        };
        match self.kernel.take_error(slot.fd) {
            Ok(()) => match slot.end_of_both() {
                None => slot.readiness.failed = false, // In order.
                Some(end) => slot.end_rx(end),
            },
            Err(error) => slot.end_rx(RxEnd::Failed(error.raw_os_error().unwrap_or(libc::EIO))),
        }
    }

    /// Bytes that have arrived, here and in the kernel. What a ring has received since the turn began is not known yet.
    pub(crate) fn arrived(&self, key: Key) -> usize {
        let Some(slot) = self.conns.get(key) else {
            return 0;
        };
        slot.rx.len() + self.kernel.arrived(slot.fd)
    }

    /// Puts bytes back before what has arrived since.
    pub(crate) fn unread(&mut self, key: Key, lent: Lent) {
        if let (Some(slot), false) = (self.conns.get_mut(key), lent.is_empty()) {
            slot.rx.unread(lent);
        }
    }

    /// Makes sure that bytes, the end or an error will be noticed: by a receive in the kernel, or by an edge.
    pub(crate) fn arm_recv(&mut self, key: Key) {
        let Some(slot) = self.conns.get_mut(key) else {
            return;
        };
        if slot.rx_end.is_some() || slot.is_spliced() {
            return;
        }
        match &mut self.driver {
            Driver::Uring(_) if slot.is_bulk() => self.recv_by_call(key),
            Driver::Uring(uring) if slot.idles_long() => uring.arm_readable(key, slot),
            Driver::Uring(uring) => uring.arm_recv(key, slot),
            Driver::Poll(_) => {
                slot.note_receive(); // An edge tells of what comes from here on.
                if slot.readiness.readable {
                    self.try_recv(key);
                }
            }
        }
    }

    /// A ring's receive into a large buffer: by a call once there is something to be had, of which a poll in the ring tells. A ring would fill a buffer for
    /// each connection before the first is sent on, and walk through all of them.
    fn recv_by_call(&mut self, key: Key) {
        let Some(slot) = self.conns.get_mut(key) else {
            return;
        };
        enter(Table::Operation, slot.recv_row(), "somebody arms it");
        if slot.kernel.is_receiving() {
            return;
        }
        if slot.readiness.readable {
            slot.note_receive();
            self.try_recv(key);
        }
        if let (Some(slot), Driver::Uring(uring)) = (self.conns.get_mut(key), &mut self.driver)
            && !slot.has_news()
            && !slot.kernel.starved
        {
            uring.arm_readable(key, slot);
        }
    }

    /// A receive by a call: one attempt, into the buffer that was returned last.
    pub(in crate::rt::driver) fn try_recv(&mut self, key: Key) {
        let Some(slot) = self.conns.get_mut(key) else {
            return;
        };
        let group = if slot.is_bulk() {
            Group::Bulk
        } else {
            Group::Head
        };
        let (kernel, fd) = (&self.kernel, slot.fd);
        let received = self.pool.fill(group, |buffer| {
            loop {
                match kernel.recv(fd, buffer) {
                    Err(error) if error.raw_os_error() == Some(libc::EINTR) => (), // Nobody else would try again.
                    received => return received,
                }
            }
        });
        match received {
            None => {
                self.stats.buffer_shortages += 1;
                let waits_already = std::mem::replace(&mut slot.kernel.starved, true);
                match &mut self.driver {
                    _ if waits_already => (),
                    Driver::Poll(poll) => poll.starve(key, group),
                    Driver::Uring(uring) => uring.starve_of_bulk(key),
                }
            }
            Some(Ok(None)) => slot.end_rx(slot.end_of_data()),
            Some(Ok(Some((lent, is_full)))) => {
                enter(Table::Connection, slot.phase.row(), "bytes arrive");
                if let Some(stamps) = &mut self.stamps {
                    stamps.note_received(key, self.kernel.now());
                }
                slot.note_read(lent.len(), self.pool.buffer_bytes(group) as usize);
                let Readiness {
                    hung_up, urgent, ..
                } = slot.readiness;
                slot.readiness.readable = is_full || hung_up || urgent;
                slot.rx.push(lent);
            }
            Some(Err(error)) => match error.raw_os_error() {
                Some(libc::EAGAIN) => slot.readiness.readable = false,
                errno => slot.end_rx(RxEnd::Failed(errno.unwrap_or(libc::EIO))),
            },
        }
    }

    /// A readiness engine's receive on behalf of whoever waits, before that task runs: many receives in a row find the
    /// kernel's code in the cache. Large buffers in a row would only drive each other out of it before they are sent.
    #[inline]
    pub(in crate::rt::driver) fn receive_ahead(&mut self, key: Key) {
        let Some(slot) = self.conns.get(key) else {
            return;
        };
        let is_parked = matches!(slot.phase, Phase::Parked { .. });
        let is_awaited = is_parked || (slot.rx_waker.is_some() && !slot.is_bulk());
        if is_awaited && !slot.is_spliced() && !slot.has_news() && !slot.kernel.starved {
            if self.discards.end_wait(key) && !is_parked {
                return; // Whoever waits wants no bytes: they are left for it to drop.
            }
            self.try_recv(key);
        }
    }

    /// Tells whoever waits that there is news of this connection.
    #[inline]
    pub(in crate::rt::driver) fn announce_rx(&mut self, key: Key) {
        if is_planted(Plant::LostWake) && self.stats.turns.is_multiple_of(32) {
            return;
        }
        let Some(slot) = self.conns.get_mut(key) else {
            return;
        };
        match slot.phase {
            Phase::Parked { .. } if slot.has_news() => self.unpark_with_news(key),
            Phase::Open | Phase::Connecting => wake(&mut slot.rx_waker),
            // Readiness was reported and nothing was found, or there was no buffer to find it with: it stays where it is.
            Phase::Parked { .. } | Phase::Closing => (),
        }
    }
}

/// What is taken off a socket to find its failure behind it, in bytes.
const UNREAD_MAX: usize = 16 * 1024;

/// Registers the waiter of a slot.
#[inline]
pub(in crate::rt::driver) fn remember(place: &mut Option<Waker>, waker: &Waker) {
    match place {
        Some(known) if known.will_wake(waker) => (),
        _ => *place = Some(waker.clone()),
    }
}

/// Wakes the waiter of a slot, if there is one.
#[inline]
pub(in crate::rt::driver) fn wake(place: &mut Option<Waker>) {
    if let Some(waker) = place.take() {
        waker.wake();
    }
}
