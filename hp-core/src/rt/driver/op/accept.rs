//! Accepting: the listener owns what the kernel accepted, so a future dropped in the middle loses no connection.

use super::recv::{remember, wake};
use crate::base::slab::Key;
use crate::rt::driver::slot::{ConnSlot, ListenerSlot};
use crate::rt::driver::{Driver, Io};
use crate::sys::socket;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::task::{Context, Poll};

impl Io {
    /// Takes a listening socket into the table.
    ///
    /// # Errors
    /// What `fcntl(2)` or registration answers.
    pub(crate) fn add_listener(&mut self, socket: OwnedFd) -> io::Result<Key> {
        let fd = socket::into_raw(socket);
        let key = self.listeners.insert(ListenerSlot::new(fd));
        let nonblocking = matches!(self.driver, Driver::Poll(_));
        let registered =
            socket::set_nonblocking(fd, nonblocking).and_then(|()| self.arm_accept(key));
        if let Err(error) = registered {
            self.listeners.remove(key);
            socket::close(fd);
            return Err(error);
        }
        Ok(key)
    }

    /// Takes the next accepted connection into the table.
    pub(crate) fn poll_accept(&mut self, key: Key, cx: &mut Context<'_>) -> Poll<io::Result<Key>> {
        loop {
            let slot = self.listener(key);
            if let Some(fd) = slot.accepted.pop_front() {
                match self.adopt_accepted(fd) {
                    Ok(conn) => return Poll::Ready(Ok(conn)),
                    Err(_peer_gone) => continue, // It left while it waited; nothing is owed to it.
                }
            }
            if let Some(errno) = slot.error.take() {
                return Poll::Ready(Err(ConnSlot::error(errno)));
            }
            remember(&mut slot.waker, cx.waker());
            return match self.arm_accept(key) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            };
        }
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

    /// Accepts again.
    pub(crate) fn resume_listener(&mut self, key: Key) {
        let slot = self.listener(key);
        slot.paused = false;
        if let Err(error) = self.arm_accept(key) {
            let slot = self.listener(key);
            slot.error = Some(error.raw_os_error().unwrap_or(libc::EIO));
            wake(&mut slot.waker);
        }
    }

    /// Takes a connection that waits in the socket's own queue, without waiting. For a paused listener about to close.
    pub(crate) fn try_accept(&mut self, key: Key) -> Option<Key> {
        loop {
            let slot = self.listener(key);
            let fd = match slot.accepted.pop_front() {
                Some(fd) => fd,
                None if slot.armed => return None, // The kernel hands over what is there by completions.
                None => {
                    socket::set_nonblocking(slot.fd, true).ok()?;
                    socket::accept_nonblocking(slot.fd).ok()?
                }
            };
            if let Ok(conn) = self.adopt(fd, socket::peer_addr(fd).ok()) {
                return Some(conn);
            }
        }
    }

    /// Gives a listening socket up.
    pub(crate) fn close_listener(&mut self, key: Key) {
        let slot = self.listener(key);
        for fd in slot.accepted.drain(..) {
            socket::close(fd);
        }
        if slot.closing {
            return;
        }
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
            slot.accepted.into_iter().for_each(socket::close);
            socket::close(slot.fd);
        }
    }

    /// The listening socket's own address.
    pub(crate) fn listener_addr(&mut self, key: Key) -> io::Result<SocketAddr> {
        socket::local_addr(self.listener(key).fd)
    }

    /// A readiness engine's accept: as many as wait, up to a bound.
    pub(in crate::rt::driver) fn try_accepts(&mut self, key: Key) {
        let Some(slot) = self.listeners.get_mut(key) else {
            return;
        };
        for _ in 0..ACCEPTS_MAX {
            match socket::accept_nonblocking(slot.fd) {
                Ok(fd) => slot.accepted.push_back(fd),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => break,
                    Some(errno) if is_passing(errno) => (),
                    errno => {
                        slot.error = Some(errno.unwrap_or(libc::EIO));
                        let fd = slot.fd;
                        slot.armed = false; // Until the next call of accept: a level-triggered event would spin.
                        if let Driver::Poll(poll) = &mut self.driver {
                            slot_unregistered(poll.unregister(fd));
                        }
                        break;
                    }
                },
            }
        }
        self.announce_accept(key);
    }

    /// Tells whoever waits that a connection or an error is there.
    pub(in crate::rt::driver) fn announce_accept(&mut self, key: Key) {
        if let Some(slot) = self.listeners.get_mut(key) {
            if slot.error.is_some() || !slot.accepted.is_empty() {
                wake(&mut slot.waker);
            }
        }
    }

    pub(in crate::rt::driver) fn arm_accept(&mut self, key: Key) -> io::Result<()> {
        let slot = self
            .listeners
            .get_mut(key)
            .expect("a Listener's slot lives as long as it");
        if slot.armed || slot.paused || slot.error.is_some() {
            return Ok(());
        }
        match &mut self.driver {
            Driver::Uring(uring) => uring.arm_accept(key, slot.fd),
            Driver::Poll(poll) => poll.register_listener(slot.fd, key)?,
        }
        slot.armed = true;
        Ok(())
    }

    fn adopt_accepted(&mut self, fd: RawFd) -> io::Result<Key> {
        match socket::peer_addr(fd) {
            // The kernel gave the socket in the mode that the engine wants.
            Ok(peer) => self.insert(fd, super::super::slot::Phase::Open, Some(peer), Ok(())),
            Err(error) => {
                socket::close(fd);
                Err(error)
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
