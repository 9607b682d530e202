//! Splicing: bytes go from one socket to another through a pipe and never come to us.
//!
//! On every engine by a call, when the socket is known to be ready: readiness engines know it by themselves, a ring is asked
//! for it. From its first splice on, a connection receives in no other way. A simulated kernel has no pipes.

use super::recv::remember;
use crate::base::slab::Key;
use crate::rt::driver::slot::{ConnSlot, RxEnd};
use crate::rt::driver::{Driver, Io};
use crate::sys::pipe::Pipe;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Pipes that one runtime's connections share: a pipe is somebody's only while there are bytes in it.
#[derive(Clone, Debug, Default)]
pub struct PipeStore(Rc<RefCell<Vec<Pipe>>>);

impl PipeStore {
    fn take(&self) -> io::Result<Pipe> {
        match self.0.borrow_mut().pop() {
            Some(pipe) => Ok(pipe),
            None => Pipe::new(),
        }
    }

    fn put(&self, pipe: Pipe) {
        let mut spare = self.0.borrow_mut();
        if spare.len() < SPARE_MAX {
            spare.push(pipe);
        }
    }
}

/// Bytes that left one connection and are not in another one yet. Dropping it drops them.
#[derive(Debug)]
pub struct Piped {
    /// Absent once it is empty.
    pipe: Option<Pipe>,
    bytes: usize,
    store: PipeStore,
}

impl Piped {
    /// How many bytes it has; at least one, unless they were sent.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether all of it was sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// So many bytes were sent.
    fn advance(&mut self, count: usize) {
        self.bytes -= count.min(self.bytes);
        if self.bytes == 0
            && let Some(pipe) = self.pipe.take()
        {
            self.store.put(pipe);
        }
    }
}

impl Io {
    /// Moves what a connection has received into a pipe; `None` after the end of the peer's data.
    pub(crate) fn poll_splice_in(
        &mut self,
        key: Key,
        store: &PipeStore,
        cx: &Context<'_>,
    ) -> Poll<io::Result<Option<Piped>>> {
        if let Err(error) = self.begin_splicing(key) {
            return Poll::Ready(Err(error));
        }
        loop {
            let slot = self
                .conns
                .get_mut(key)
                .expect("a Conn's slot lives as long as the Conn");
            match slot.rx_end {
                Some(RxEnd::Eof) => return Poll::Ready(Ok(None)),
                Some(RxEnd::Failed(errno)) => return Poll::Ready(Err(ConnSlot::error(errno))),
                None if slot.timed_out => {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)));
                }
                None if !slot.readiness.readable => {
                    remember(&mut slot.rx_waker, cx.waker());
                    if let Driver::Uring(uring) = &mut self.driver {
                        uring.arm_readable(key, slot);
                    }
                    return Poll::Pending;
                }
                None if self.budget == 0 => {
                    cx.waker().wake_by_ref(); // A peer that always has more must not keep the others waiting.
                    return Poll::Pending;
                }
                None => self.budget -= 1,
            }
            match self.fill_pipe(key, store) {
                Ok(None) => (),
                Ok(Some(piped)) => return Poll::Ready(Ok(Some(piped))),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Sends what is in a pipe, all of it.
    pub(crate) fn poll_splice_out(
        &mut self,
        key: Key,
        piped: &mut Piped,
        cx: &Context<'_>,
    ) -> Poll<io::Result<()>> {
        if let Err(error) = self.begin_splicing(key) {
            return Poll::Ready(Err(error));
        }
        match self.poll_taken(key, cx) {
            Poll::Ready(Ok(())) => (), // What was written before goes first.
            unsent => return unsent,
        }
        while let Some(pipe) = &piped.pipe {
            let slot = match self.sending(key) {
                Ok(slot) => slot,
                Err(error) => return Poll::Ready(Err(error)),
            };
            if slot.timed_out {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)));
            }
            let fd = slot.fd;
            if !self.has_room(key) {
                return self.wait_for_room(key, cx);
            }
            self.stats.sends += 1;
            let sent = pipe.empty_into(fd, piped.bytes);
            let errno = match sent {
                Ok(0) => libc::EIO, // The pipe has less than was put into it: that cannot be mended.
                Ok(count) => {
                    piped.advance(count);
                    continue;
                }
                Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
            };
            match errno {
                libc::EINTR => (),
                libc::EAGAIN => {
                    self.stats.short_sends += 1;
                    self.arm_writable(key);
                    return self.wait_for_room(key, cx);
                }
                errno => {
                    self.fail_sending(key, errno);
                    return Poll::Ready(Err(ConnSlot::error(errno)));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// One attempt to fill a pipe; nothing came of it when the slot knows why.
    fn fill_pipe(&mut self, key: Key, store: &PipeStore) -> io::Result<Option<Piped>> {
        let pipe = store.take()?;
        let slot = self
            .conns
            .get_mut(key)
            .expect("a Conn's slot lives as long as the Conn");
        match pipe.fill_from(slot.fd) {
            Ok(0) => slot.end_rx(slot.end_of_data()),
            Ok(bytes) => {
                let (pipe, store) = (Some(pipe), store.clone());
                return Ok(Some(Piped { pipe, bytes, store }));
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN) => slot.readiness.readable = false,
                Some(libc::EINTR) => (),
                errno => slot.end_rx(RxEnd::Failed(errno.unwrap_or(libc::EIO))),
            },
        }
        store.put(pipe);
        Ok(None)
    }

    /// From here on nothing is received into buffers.
    ///
    /// # Errors
    /// `Unsupported` on a simulated kernel, and where something was received already or is being received.
    fn begin_splicing(&mut self, key: Key) -> io::Result<()> {
        let slot = self
            .conns
            .get_mut(key)
            .expect("a Conn's slot lives as long as the Conn");
        if slot.is_spliced {
            return Ok(());
        }
        let has_bytes = !slot.rx.is_empty() || slot.kernel.is_receiving();
        if has_bytes || !self.kernel.is_real() {
            return Err(io::Error::from(io::ErrorKind::Unsupported));
        }
        if matches!(self.driver, Driver::Uring(_)) {
            self.kernel.set_nonblocking(slot.fd, true)?; // The ring itself only polls it from now on.
        }
        slot.is_spliced = true;
        Ok(())
    }

    /// Whether the socket took everything when it was last tried, or has told since that it has room.
    fn has_room(&self, key: Key) -> bool {
        self.conns.get(key).is_some_and(|slot| match self.driver {
            Driver::Uring(_) => !slot.kernel.poll_armed,
            Driver::Poll(_) => slot.readiness.writable,
        })
    }

    fn wait_for_room(&mut self, key: Key, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if let Some(slot) = self.conns.get_mut(key) {
            remember(&mut slot.tx_waker, cx.waker());
        }
        Poll::Pending
    }
}

/// Pipes that are kept for whoever comes next.
const SPARE_MAX: usize = 64;
