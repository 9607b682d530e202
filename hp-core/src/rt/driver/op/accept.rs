//! Accepting: the listener owns what the kernel accepted, so a future dropped in the middle loses no connection.

use super::recv::{remember, wake};
use crate::base::slab::Key;
use crate::rt::driver::slot::{Accepted, ConnSlot, ListenerSlot, Phase};
use crate::rt::driver::{Driver, Io, Socket};
use crate::rt::lifecycle::{Table, enter};
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::task::{Context, Poll};

impl Io {
    /// Takes a listening socket into the table.
    ///
    /// # Errors
    /// What `fcntl(2)` or registration answers.
    pub(crate) fn add_listener(&mut self, socket: Socket) -> io::Result<Key> {
        let fd = socket.into_raw();
        let key = self.listeners.insert(ListenerSlot::new(fd));
        let nonblocking = matches!(self.driver, Driver::Poll(_));
        let registered = self
            .kernel
            .set_nonblocking(fd, nonblocking)
            .and_then(|()| self.arm_accept(key));
        if let Err(error) = registered {
            self.listeners.remove(key);
            self.kernel.close(fd);
            return Err(error);
        }
        Ok(key)
    }

    /// Takes the next accepted connection into the table.
    pub(crate) fn poll_accept(&mut self, key: Key, cx: &Context<'_>) -> Poll<io::Result<Key>> {
        match self.poll_accept_raw(key, cx) {
            Poll::Ready(Ok((fd, peer))) => Poll::Ready(self.adopt_accepted(fd, peer)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Takes the next accepted connection, which the caller owns from then on.
    pub(crate) fn poll_accept_raw(
        &mut self,
        key: Key,
        cx: &Context<'_>,
    ) -> Poll<io::Result<(RawFd, Option<SocketAddr>)>> {
        if let Some(named) = self.take_accepted(key) {
            return Poll::Ready(Ok(named));
        }
        let slot = self.listener(key);
        if let Some(errno) = slot.error.take() {
            return Poll::Ready(Err(ConnSlot::error(errno)));
        }
        remember(&mut slot.waker, cx.waker());
        match self.arm_accept(key) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Takes a connection into the table that a runtime on the same engine accepted or had: its mode is right already.
    ///
    /// # Errors
    /// What registration answers; the descriptor is closed then.
    pub(crate) fn adopt_accepted(
        &mut self,
        fd: RawFd,
        peer: Option<SocketAddr>,
    ) -> io::Result<Key> {
        self.insert(fd, Phase::Open, peer, Ok(()))
    }

    /// Stops accepting; what the kernel has accepted for us already can still be taken.
    pub(crate) fn pause_listener(&mut self, key: Key) {
        let slot = self.listener(key);
        if slot.paused {
            return;
        }
        slot.paused = true;
        let (fd, armed) = (slot.fd, slot.armed);
        match &mut self.driver {
            Driver::Uring(uring) if armed => uring.cancel_accept(key),
            Driver::Uring(_) => (),
            Driver::Poll(poll) => {
                slot_unregistered(poll.unregister(fd));
                self.listener(key).armed = false;
            }
        }
    }

    /// Whether the kernel owes a paused listener nothing any more.
    pub(crate) fn is_listener_quiet(&mut self, key: Key) -> bool {
        !self.listener(key).armed
    }

    /// Accepts again.
    pub(crate) fn resume_listener(&mut self, key: Key) {
        let nonblocking = matches!(self.driver, Driver::Poll(_));
        let slot = self.listener(key);
        slot.paused = false;
        let fd = slot.fd;
        // Being tried while paused has made it non-blocking, on which a ring answers EAGAIN; and another process that has the
        // socket, too, may have set it either way.
        let mode = self.kernel.set_nonblocking(fd, nonblocking);
        if let Err(error) = mode.and_then(|()| self.arm_accept(key)) {
            let slot = self.listener(key);
            slot.error = Some(error.raw_os_error().unwrap_or(libc::EIO));
            wake(&mut slot.waker);
        }
    }

    /// Takes a connection that waits already into the table. For a paused listener about to close.
    pub(crate) fn try_accept(&mut self, key: Key) -> Option<Key> {
        let (fd, peer) = self.try_accept_raw(key)?;
        self.adopt_accepted(fd, peer).ok()
    }

    /// Takes a connection that the kernel has accepted for us already, and asks it for none; the caller owns it from then on.
    pub(crate) fn take_accepted(&mut self, key: Key) -> Option<(RawFd, Option<SocketAddr>)> {
        loop {
            let accepted = self.listener(key).accepted.pop_front()?;
            if let Some(named) = self.named(accepted) {
                return Some(named);
            }
        }
    }

    /// Takes a connection that waits already; the caller owns it from then on.
    pub(crate) fn try_accept_raw(&mut self, key: Key) -> Option<(RawFd, Option<SocketAddr>)> {
        if let Some(named) = self.take_accepted(key) {
            return Some(named);
        }
        let slot = self.listener(key);
        if slot.armed {
            return None; // The kernel hands over what is there by completions.
        }
        let listening = slot.fd;
        self.kernel.set_nonblocking(listening, true).ok()?;
        self.kernel.accept_nonblocking(listening).ok()
    }

    /// Gives a listening socket up.
    pub(crate) fn close_listener(&mut self, key: Key) {
        let Some(slot) = self.listeners.get_mut(key) else {
            return; // Shut down before its handle was dropped.
        };
        for accepted in slot.accepted.drain(..) {
            self.kernel.close(accepted.fd());
        }
        if slot.closing {
            return;
        }
        let row = if slot.armed { "Armed" } else { "Free" };
        enter(Table::Operation, row, "the slot is given up");
        slot.closing = true;
        self.pause_listener(key);
        self.free_listener_if_quiet(key);
    }

    /// Frees a listener that was given up, once the kernel owes it nothing.
    pub(in crate::rt::driver) fn free_listener_if_quiet(&mut self, key: Key) {
        let Some(slot) = self.listeners.get(key) else {
            return;
        };
        if slot.closing && !slot.armed {
            let slot = self.listeners.remove(key).expect("the slot was just seen");
            slot.accepted
                .into_iter()
                .for_each(|accepted| self.kernel.close(accepted.fd()));
            self.kernel.close(slot.fd);
        }
    }

    /// The listening socket's own address.
    pub(crate) fn listener_addr(&mut self, key: Key) -> io::Result<SocketAddr> {
        let fd = self.listener(key).fd;
        self.kernel.local_addr(fd)
    }

    /// A readiness engine's accept: as many as wait, up to a bound. Whether another one waits is looked first: a call that finds none has
    /// cost a descriptor and a file before it says so, sixteen times as much as the look.
    pub(in crate::rt::driver) fn try_accepts(&mut self, key: Key) {
        let Some(slot) = self.listeners.get_mut(key) else {
            return;
        };
        if !slot.accepted.is_empty() {
            return self.disarm_accept(key); // Nobody claims what there is: the rest waits in the socket's queue.
        }
        for _ in 0..ACCEPTS_MAX {
            match self.kernel.accept_nonblocking(slot.fd) {
                Ok((fd, peer)) => slot.accepted.push_back(Accepted::Named(fd, peer)),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => break, // Somebody else has the socket, too, or nothing was there.
                    Some(errno) if is_passing(errno) => (),
                    errno => {
                        slot.error = Some(errno.unwrap_or(libc::EIO));
                        self.disarm_accept(key);
                        break;
                    }
                },
            }
            if !self.kernel.is_readable(slot.fd) {
                break;
            }
        }
        self.announce_accept(key);
    }

    /// Until the next call of accept nothing is reported: a level-triggered event would spin.
    fn disarm_accept(&mut self, key: Key) {
        let slot = self.listener(key);
        slot.armed = false;
        let fd = slot.fd;
        if let Driver::Poll(poll) = &mut self.driver {
            slot_unregistered(poll.unregister(fd));
        }
    }

    /// Tells whoever waits that a connection or an error is there.
    pub(in crate::rt::driver) fn announce_accept(&mut self, key: Key) {
        let Some(slot) = self.listeners.get_mut(key) else {
            return;
        };
        if slot.error.is_some() || !slot.accepted.is_empty() {
            wake(&mut slot.waker);
        }
    }

    pub(in crate::rt::driver) fn arm_accept(&mut self, key: Key) -> io::Result<()> {
        let slot = self
            .listeners
            .get_mut(key)
            .expect("a Listener's slot lives as long as it");
        if slot.armed {
            enter(Table::Operation, "Armed", "somebody arms it");
            return Ok(());
        }
        if slot.paused || slot.error.is_some() {
            return Ok(());
        }
        enter(Table::Operation, "Free", "somebody arms it");
        match &mut self.driver {
            Driver::Uring(uring) => uring.arm_accept(key, slot.fd),
            Driver::Poll(poll) => poll.register_listener(slot.fd, key)?,
        }
        slot.armed = true;
        Ok(())
    }

    /// Whose a connection is that was accepted; one whose peer a ring's answer leaves to be asked for is closed if that has gone: nothing is owed to it.
    fn named(&self, accepted: Accepted) -> Option<(RawFd, Option<SocketAddr>)> {
        let fd = match accepted {
            Accepted::Named(fd, peer) => return Some((fd, peer)),
            Accepted::Nameless(fd) => fd,
        };
        match self.kernel.peer_addr(fd) {
            Ok(peer) => Some((fd, peer)),
            Err(_peer_gone) => {
                self.kernel.close(fd);
                None
            }
        }
    }

    fn listener(&mut self, key: Key) -> &mut ListenerSlot {
        self.listeners
            .get_mut(key)
            .expect("a Listener's slot lives as long as it")
    }
}

/// Errors of one connection that died in the queue, which say nothing about the next one (accept(2)).
pub(in crate::rt::driver) fn is_passing(errno: i32) -> bool {
    matches!(
        errno,
        libc::ECONNABORTED
            | libc::EINTR
            | libc::EPROTO
            | libc::ENETDOWN
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EHOSTUNREACH
            | libc::EOPNOTSUPP
            | libc::ENETUNREACH
            | libc::EPERM
    )
}

fn slot_unregistered(result: io::Result<()>) {
    match result {
        Ok(()) => (),
        Err(_not_registered) => (), // Nothing will be reported, which is all that was asked for.
    }
}

/// Connections that one report accepts at most; the rest is reported again.
const ACCEPTS_MAX: usize = 32;
