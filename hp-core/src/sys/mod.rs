//! Safe faces over the kernel. No policy, no task: a call goes in, a result comes out.
//!
//! Descriptors that a connection's slot owns are plain `RawFd` here: an operation in the kernel may outlive the handle
//! that started it, so ownership is the slot table's business (`rt::driver::slot`).
#![expect(unsafe_code, reason = "the island where system calls are made")]

pub mod arena;
pub mod child;
pub mod clock;
pub mod cpu;
pub mod epoll;
pub mod event;
pub mod file;
pub mod heap;
pub mod limits;
pub mod memory;
pub mod pipe;
pub mod ppoll;
pub mod rights;
pub mod ring;
pub mod signal;
pub mod socket;
pub mod unix;

use std::io;

/// Turns the C convention (-1 and errno) into a `Result`.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// The same for calls that return a length.
fn check_len(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_negative| io::Error::last_os_error())
}

/// The same for calls made by number.
fn check_long(result: libc::c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_negative| io::Error::last_os_error())
}
