//! Connecting: started by a call, decided when the socket becomes writable. The deadline is the slot's own.

use super::recv::{remember, wake};
use crate::base::slab::Key;
use crate::rt::driver::slot::{ConnSlot, Phase};
use crate::rt::driver::{Driver, Io};
use crate::rt::lifecycle::{Table, enter};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::task::{Context, Poll};

impl Io {
    /// Starts a connection attempt, from a local address where one is given.
    ///
    /// # Errors
    /// What `socket(2)` and `connect(2)` answer at once.
    pub(crate) fn start_connect(
        &mut self,
        addr: SocketAddr,
        from: Option<IpAddr>,
    ) -> io::Result<Key> {
        let fd = self.kernel.start_connect(addr, from)?;
        let peer = self.kernel.as_peer(addr);
        let key = self.insert(fd, Phase::Connecting, peer, Ok(()))?;
        let slot = self.conns.get_mut(key).expect("just inserted");
        if let Driver::Uring(uring) = &mut self.driver {
            uring.arm_writable(key, slot);
        }
        Ok(key)
    }

    /// Takes a connected datagram socket into the table, for the readiness engines.
    ///
    /// # Errors
    /// What registration answers.
    pub(crate) fn adopt_datagram(&mut self, fd: RawFd) -> io::Result<Key> {
        let key = self.adopt(fd)?;
        if let Some(slot) = self.conns.get_mut(key) {
            slot.readiness.hung_up = true; // Each read takes one datagram; another one may wait, and no edge tells of it.
        }
        Ok(key)
    }

    /// Waits for the outcome of an attempt.
    pub(crate) fn poll_connect(&mut self, key: Key, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let slot = self
            .conns
            .get_mut(key)
            .expect("a Conn's slot lives as long as the Conn");
        if let Some(errno) = slot.tx_error() {
            return Poll::Ready(Err(ConnSlot::error(errno)));
        }
        if slot.phase == Phase::Open {
            return Poll::Ready(Ok(()));
        }
        if slot.timed_out {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)));
        }
        remember(&mut slot.tx_waker, cx.waker());
        Poll::Pending
    }

    /// The kernel has decided: takes note of the outcome and tells the waiter.
    ///
    /// An attempt that has failed is reported as failed, so only then is the kernel asked why: a socket that is reported as ready for
    /// writing, and no more, has no error to tell.
    pub(in crate::rt::driver) fn finish_connect(&mut self, key: Key) {
        let Some(slot) = self.conns.get_mut(key) else {
            return;
        };
        debug_assert_eq!(slot.phase, Phase::Connecting);
        let has_failed = std::mem::take(&mut slot.readiness.failed);
        let outcome = if has_failed {
            self.kernel.take_error(slot.fd)
        } else {
            Ok(())
        };
        match outcome {
            Ok(()) => {
                enter(Table::Connection, "Connecting", "room in the socket");
                slot.phase = Phase::Open;
                wake(&mut slot.tx_waker);
            }
            Err(error) => self.fail_connect(key, error.raw_os_error().unwrap_or(libc::EIO)),
        }
    }

    /// The attempt has come to nothing: tells the waiter.
    pub(in crate::rt::driver) fn fail_connect(&mut self, key: Key, errno: i32) {
        let Some(slot) = self.conns.get_mut(key) else {
            return;
        };
        debug_assert_eq!(slot.phase, Phase::Connecting);
        enter(Table::Connection, "Connecting", "the peer ends its side");
        slot.fail_sending(errno);
        wake(&mut slot.tx_waker);
    }
}
