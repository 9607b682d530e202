//! Pipes between sockets: pages move from one to the other without being copied to a program and back.

use super::{check, check_len};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// A pipe that never blocks; a process has [`PIPES_MAX`] of them at most.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    _place: Place,
}

impl Pipe {
    /// Makes one that holds what the kernel gives it room for, usually 16 pieces.
    ///
    /// # Errors
    /// `EMFILE` when there are as many as may be; what `pipe2(2)` answers: `EMFILE`, `ENFILE` when descriptors run out.
    pub fn new() -> io::Result<Self> {
        let place = Place::take()?;
        let mut ends = [-1; 2];
        // SAFETY: `ends` is a place for two descriptors.
        let made = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) };
        check(made)?;
        let [read, write] = ends;
        // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
        let read = unsafe { OwnedFd::from_raw_fd(read) };
        // SAFETY: the same.
        let write = unsafe { OwnedFd::from_raw_fd(write) };
        Ok(Self {
            read,
            write,
            _place: place,
        })
    }

    /// Moves at most `bytes_max` of what a non-blocking socket has received into the pipe; 0 is the end of the peer's data.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there, or the pipe is full; `ConnectionReset` and its like.
    pub fn fill_from(&self, socket: RawFd, bytes_max: usize) -> io::Result<usize> {
        splice(socket, self.write.as_raw_fd(), bytes_max)
    }

    /// Moves at most `bytes` out of the pipe to a non-blocking socket.
    ///
    /// # Errors
    /// `WouldBlock` when the socket takes none now, or the pipe is empty; `BrokenPipe`, `ConnectionReset` and their like.
    pub fn empty_into(&self, socket: RawFd, bytes: usize) -> io::Result<usize> {
        splice(self.read.as_raw_fd(), socket, bytes)
    }
}

fn splice(from: RawFd, to: RawFd, bytes_max: usize) -> io::Result<usize> {
    let bytes = bytes_max.min(BYTES_MAX);
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    let (here, there) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: neither descriptor has an offset, so both places may be null; the call touches no other memory of ours.
    check_len(unsafe { libc::splice(from, here, to, there, bytes, flags) })
}

/// The right to one pipe.
#[derive(Debug)]
struct Place;

impl Place {
    fn take() -> io::Result<Self> {
        let taken = PIPES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |pipes| {
            (pipes < PIPES_MAX).then_some(pipes + 1)
        });
        match taken {
            Ok(_before) => Ok(Self),
            Err(_all) => Err(io::Error::from_raw_os_error(libc::EMFILE)),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        PIPES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many there are. Touched where one is made, which workers do rarely, since they keep theirs.
static PIPES: AtomicU32 = AtomicU32::new(0);

/// What one call moves at most: more than any pipe holds, for the kernel refuses a length that is none.
const BYTES_MAX: usize = 1 << 30;

/// Pipes of a process: two descriptors each, and half of what the kernel gives one user before it makes them shorter.
pub const PIPES_MAX: u32 = 512;
