//! The ring of the kernel that a runtime belongs to: this machine's, or a simulated one.

use crate::rt::driver::Kernel;
#[cfg(feature = "sim")]
use crate::rt::driver::sim::SimRing;
use crate::sys::ring::{self, Completion, RecvEntry};
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// Entries in, completions out.
pub(super) enum Ring {
    Real(ring::Ring),
    #[cfg(feature = "sim")]
    Sim(SimRing),
}

impl Ring {
    /// See [`ring::Ring::new`].
    pub(super) fn new(kernel: &Kernel, entries: u32, completions: u32) -> io::Result<Self> {
        match kernel {
            Kernel::Real => ring::Ring::new(entries, completions).map(Self::Real),
            #[cfg(feature = "sim")]
            Kernel::Sim(kernel) => Ok(Self::Sim(kernel.ring(completions))),
        }
    }

    /// See [`ring::Ring::recv`].
    pub(super) fn recv(&mut self, recv: RecvEntry, user_data: u64) {
        match self {
            Self::Real(ring) => ring.recv(recv, user_data),
            #[cfg(feature = "sim")]
            Self::Sim(ring) => ring.recv(recv, user_data),
        }
    }

    /// See [`ring::Ring::discard`].
    pub(super) fn discard(&mut self, fd: RawFd, len: u32, poll_first: bool, user_data: u64) {
        match self {
            Self::Real(ring) => ring.discard(fd, len, poll_first, user_data),
            #[cfg(feature = "sim")]
            Self::Sim(ring) => ring.discard(fd, len, user_data),
        }
    }

    /// See [`ring::Ring::accept_multishot`].
    pub(super) fn accept_multishot(&mut self, fd: RawFd, user_data: u64) {
        match self {
            Self::Real(ring) => ring.accept_multishot(fd, user_data),
            #[cfg(feature = "sim")]
            Self::Sim(ring) => ring.accept_multishot(fd, user_data),
        }
    }

    /// See [`ring::Ring::poll_writable`].
    pub(super) fn poll_writable(&mut self, fd: RawFd, user_data: u64) {
        match self {
            Self::Real(ring) => ring.poll_writable(fd, user_data),
            #[cfg(feature = "sim")]
            Self::Sim(ring) => ring.poll_writable(fd, user_data),
        }
    }

    /// See [`ring::Ring::poll_readable`].
    pub(super) fn poll_readable(&mut self, fd: RawFd, user_data: u64) {
        match self {
            Self::Real(ring) => ring.poll_readable(fd, user_data),
            #[cfg(feature = "sim")]
            Self::Sim(ring) => ring.poll_readable(fd, user_data),
        }
    }

    /// See [`ring::Ring::poll_failure`].
    pub(super) fn poll_failure(&mut self, fd: RawFd, user_data: u64) {
        match self {
            Self::Real(ring) => ring.poll_failure(fd, user_data),
            #[cfg(feature = "sim")]
            Self::Sim(ring) => ring.poll_failure(fd, user_data),
        }
    }

    /// Waits once until the bell rings.
    pub(super) fn poll_bell(&mut self, bell: RawFd, user_data: u64) {
        match self {
            Self::Real(ring) => ring.poll_readable(bell, user_data),
            #[cfg(feature = "sim")]
            Self::Sim(ring) => ring.poll_bell(bell, user_data),
        }
    }

    /// See [`ring::Ring::cancel`].
    pub(super) fn cancel(&mut self, target: u64, user_data: u64) {
        match self {
            Self::Real(ring) => ring.cancel(target, user_data),
            #[cfg(feature = "sim")]
            Self::Sim(ring) => ring.cancel(target, user_data),
        }
    }

    /// See [`ring::Ring::enter`].
    pub(super) fn enter(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Real(ring) => ring.enter(timeout),
            #[cfg(feature = "sim")]
            Self::Sim(ring) => ring.enter(timeout),
        }
    }

    /// See [`ring::Ring::reap`].
    pub(super) fn reap(&mut self, sink: &mut impl Extend<Completion>) -> bool {
        match self {
            Self::Real(ring) => ring.reap(sink),
            #[cfg(feature = "sim")]
            Self::Sim(ring) => ring.reap(sink),
        }
    }
}
