//! A pipe between two simulated sockets.

use super::SimKernel;
use std::io::{self, IoSlice};
use std::os::fd::RawFd;

/// What is in it, and how much may be.
#[derive(Debug)]
pub(crate) struct SimPipe {
    held: Vec<u8>,
    bytes_max: usize,
}

impl SimPipe {
    /// An empty one.
    pub(crate) fn holding(bytes_max: usize) -> Self {
        Self {
            held: Vec::new(),
            bytes_max,
        }
    }

    /// Moves what has come behind what is in it.
    pub(crate) fn fill_from(
        &mut self,
        kernel: &SimKernel,
        fd: RawFd,
        bytes_max: usize,
    ) -> io::Result<usize> {
        let before = self.held.len();
        let count = bytes_max.min(self.bytes_max.saturating_sub(before));
        if count == 0 {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        self.held.resize(before + count, 0);
        let filled = kernel.recv(fd, &mut self.held[before..]);
        self.held.truncate(before + *filled.as_ref().unwrap_or(&0));
        filled
    }

    /// Copies bytes into it, all or none.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.held.len() + bytes.len() > self.bytes_max {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        self.held.extend_from_slice(bytes);
        Ok(())
    }

    /// Sends what the socket takes.
    pub(crate) fn empty_into(&mut self, kernel: &SimKernel, fd: RawFd) -> io::Result<usize> {
        let sent = kernel.send(fd, &[IoSlice::new(&self.held)])?;
        self.held.drain(..sent);
        Ok(sent)
    }
}
