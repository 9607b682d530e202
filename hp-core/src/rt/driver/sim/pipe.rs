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

    /// Fills it when it is empty.
    pub(crate) fn fill_from(
        &mut self,
        kernel: &SimKernel,
        fd: RawFd,
        bytes_max: usize,
    ) -> io::Result<usize> {
        self.held.resize(bytes_max.min(self.bytes_max), 0);
        let filled = kernel.recv(fd, &mut self.held);
        self.held.truncate(*filled.as_ref().unwrap_or(&0));
        filled
    }

    /// Sends what the socket takes.
    pub(crate) fn empty_into(&mut self, kernel: &SimKernel, fd: RawFd) -> io::Result<usize> {
        let sent = kernel.send(fd, &[IoSlice::new(&self.held)])?;
        self.held.drain(..sent);
        Ok(sent)
    }
}
