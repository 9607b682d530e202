//! An eventfd: the bell that another thread rings to end a wait.

use super::{check, check_len};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A non-blocking eventfd.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

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
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Adds one to the count, which makes the descriptor readable.
    pub fn ring(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: `one` is eight readable bytes.
        let result = unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        match check_len(result) {
            Ok(_written) => (),
            Err(_full) => (), // The count is at its ceiling: the bell rings already.
        }
    }

    /// Takes the count back to zero.
    pub fn silence(&self) {
        let mut count = [0u8; 8];
        // SAFETY: `count` is eight writable bytes.
        let result =
            unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
        match check_len(result) {
            Ok(_read) => (),
            Err(_zero) => (), // Nobody rang: nothing to take back.
        }
    }

    /// For registration with a driver; stays owned here.
    #[must_use]
    pub fn as_raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
