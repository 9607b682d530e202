//! Closing in three steps: stop, wait until the kernel owes nothing, free. A slot is never reused before. And releasing:
//! the slot goes, the connection stays.

use super::recv::remember;
use crate::base::slab::Key;
use crate::rt::driver::slot::Phase;
use crate::rt::driver::{Driver, Io};
use crate::rt::lifecycle::{Table, enter};
use std::io;
use std::os::fd::RawFd;
use std::task::{Context, Poll};

/// What the peer shall learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// FIN after what was sent.
    Graceful,
    /// RST: what the peer got is not whole.
    Reset,
}

impl How {
    /// Its column in `docs/lifecycle/connection.md`.
    const fn event(self) -> &'static str {
        match self {
            Self::Graceful => "the handle is dropped, or `close`",
            Self::Reset => "`reset`",
        }
    }
}

impl Io {
    /// Gives a connection up, as whoever has it wants. What the socket did not take is dropped: flush first.
    pub(crate) fn close(&mut self, key: Key, how: How) {
        if let Some(slot) = self.conns.get(key) {
            enter(Table::Connection, slot.phase.row(), how.event());
        }
        self.give_up(key, how);
    }

    /// The same where its runtime ends: nobody has those that are parked.
    pub(in crate::rt::driver) fn give_up(&mut self, key: Key, how: How) {
        self.send_letter(key);
        let Some(slot) = self.conns.get_mut(key) else {
            return;
        };
        enter(Table::Operation, slot.op_row(), GIVEN_UP);
        if slot.phase == Phase::Closing {
            return;
        }
        let was_connecting = slot.phase == Phase::Connecting;
        slot.phase = Phase::Closing;
        slot.tx.clear();
        while slot.rx.pop().is_some() {}
        (slot.rx_waker, slot.tx_waker) = (None, None);
        if let Some((timer, _)) = slot.timer.take() {
            self.timers.remove(timer);
        }
        if how == How::Reset {
            ignore_gone(self.kernel.reset_on_close(slot.fd));
        }
        if slot.kernel.is_busy() {
            let is_graceful = how == How::Graceful && !was_connecting;
            if is_graceful {
                // Sends FIN now and completes whatever the kernel holds, but for what tells each time.
                ignore_gone(self.kernel.shutdown_both(slot.fd));
            }
            match &mut self.driver {
                Driver::Uring(uring) if is_graceful => uring.cancel_failure(key, slot),
                Driver::Uring(uring) => {
                    slot.kernel.is_called_back = true;
                    uring.cancel(key, slot); // FIN before RST would make a truncated body look whole.
                }
                Driver::Poll(_) => (),
            }
        }
        self.free_if_quiet(key);
    }

    /// Ends a receive that has taken what was there when its socket was shut down, which was the same event to it, and goes on.
    pub(in crate::rt::driver) fn end_receive(&mut self, key: Key) {
        let (Some(slot), Driver::Uring(uring)) = (self.conns.get(key), &mut self.driver) else {
            return;
        };
        match self.kernel.shutdown_both(slot.fd) {
            Ok(()) => (), // That is another event, and it takes what is left: an unread rest would be a reset.
            Err(_not_connected) => uring.call_receive_back(key),
        }
    }

    /// Calls back what the kernel holds for a connection that shall be released; ready when it holds nothing, or when the connection
    /// has to stay in any case, which [`Io::release`] then says. A call may come too late: whatever the receive brings until its final
    /// answer is news, and news stays here.
    pub(crate) fn poll_called_back(&mut self, key: Key, cx: &Context<'_>) -> Poll<()> {
        self.send_letter(key);
        let Some(slot) = self.conns.get_mut(key) else {
            return Poll::Ready(());
        };
        let has_to_stay = slot.phase != Phase::Open
            || slot.has_news()
            || slot.kernel.starved
            || slot.kernel.poll_armed;
        match &mut self.driver {
            Driver::Uring(uring) if slot.kernel.is_busy() && !has_to_stay => {
                if !std::mem::replace(&mut slot.kernel.is_called_back, true) {
                    uring.cancel(key, slot);
                }
                remember(&mut slot.rx_waker, cx.waker());
                Poll::Pending
            }
            Driver::Uring(_) | Driver::Poll(_) => {
                slot.kernel.is_called_back = false; // Whoever goes on with it arms again.
                Poll::Ready(())
            }
        }
    }

    /// Takes a connection out of the table, open and unharmed; its descriptor is the caller's then. `None` when something is
    /// queued or unread, it has failed, or the kernel owes a completion: then it stays.
    pub(crate) fn release(&mut self, key: Key) -> Option<RawFd> {
        self.send_letter(key);
        let slot = self.conns.get(key)?;
        let is_clean = slot.phase == Phase::Open
            && slot.tx.is_empty()
            && slot.tx_error().is_none()
            && !slot.has_news()
            && !slot.kernel.is_busy()
            && !slot.kernel.starved;
        if !is_clean {
            return None;
        }
        let fd = slot.fd;
        if let Driver::Poll(poll) = &self.driver {
            poll.unregister(fd).ok()?;
        }
        let slot = self.conns.remove(key).expect("the slot was just seen");
        if let Some((timer, _)) = slot.timer {
            self.timers.remove(timer);
        }
        Some(fd)
    }

    /// Gives up every connection that is in use, with a reset.
    pub(crate) fn reset_all(&mut self) {
        for key in self.conns.keys() {
            if self
                .conns
                .get(key)
                .is_some_and(|slot| slot.phase == Phase::Open)
            {
                self.close(key, How::Reset);
            }
        }
    }

    /// Frees a slot that was given up, once the kernel owes it nothing.
    pub(in crate::rt::driver) fn free_if_quiet(&mut self, key: Key) {
        let Some(slot) = self.conns.get(key) else {
            return;
        };
        if slot.phase == Phase::Closing && !slot.kernel.is_busy() {
            let slot = self.conns.remove(key).expect("the slot was just seen");
            self.kernel.close(slot.fd);
        }
    }
}

const GIVEN_UP: &str = "the slot is given up";

fn ignore_gone(result: io::Result<()>) {
    match result {
        Ok(()) => (),
        Err(_not_connected) => (), // The peer left first; nothing is owed to it.
    }
}
