//! An eventfd: the bell that another thread rings to end a wait.

use super::{check, check_len};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A non-blocking eventfd.
#[derive(Debug)]
pub struct EventFd {
    fd: OwnedFd,
    /// What a model checker sees of it: the kernel orders whoever rings before whoever hears it.
    #[cfg(loom)]
    model: loom::sync::Notify,
}

impl EventFd {
    /// Makes one with a count of zero.
    ///
    /// # Errors
    /// What `eventfd(2)` answers (`EMFILE` when descriptors run out).
    pub fn new() -> io::Result<Self> {
        // SAFETY: the call takes no pointer.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        let fd = check(fd)?;
        // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self {
            fd,
            #[cfg(loom)]
            model: loom::sync::Notify::new(),
        })
    }

    /// Adds one to the count, which makes the descriptor readable.
    pub fn ring(&self) {
        #[cfg(loom)]
        self.model.notify();
        let one = 1u64.to_ne_bytes();
        // SAFETY: `one` is eight readable bytes.
        let result = unsafe { libc::write(self.fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        match check_len(result) {
            Ok(_written) => (),
            Err(_full) => (), // The count is at its ceiling: the bell rings already.
        }
    }

    /// Takes the count back to zero; says whether anybody rang.
    pub fn silence(&self) -> bool {
        let mut count = [0u8; 8];
        // SAFETY: `count` is eight writable bytes.
        let result =
            unsafe { libc::read(self.fd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
        check_len(result).is_ok()
    }

    /// Waits until somebody has rung, as a driver does, and silences the bell; may end without cause.
    #[cfg(loom)]
    pub fn wait(&self) {
        self.model.wait();
    }

    /// For registration with a driver; stays owned here.
    #[must_use]
    pub fn as_raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
