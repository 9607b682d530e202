//! Splicing: bytes go from one socket to another through a pipe and never come to us.
//!
//! On every engine by a call, when the socket is known to be ready: readiness engines know it by themselves, a ring is asked
//! for it. While a connection is spliced it receives in no other way.

use super::recv::remember;
use crate::base::slab::Key;
use crate::rt::driver::kernel::Pipe;
use crate::rt::driver::slot::{ConnSlot, Intake, RxEnd};
use crate::rt::driver::{Driver, Io, Kernel};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Pipes that one runtime's connections share: a pipe is somebody's only while there are bytes in it.
///
/// `spare.len() <= spare_max`, `held <= PIPES_MAX`, `large <= LARGE_MAX`
#[derive(Debug)]
pub(in crate::rt::driver) struct Pipes {
    spare: Vec<Pipe>,
    spare_max: usize,
    /// Those with bytes in them.
    held: usize,
    /// Those that have grown, spare or held.
    large: usize,
}

impl Pipes {
    /// `spare_max` are kept for whoever comes next.
    pub(in crate::rt::driver) fn keeping(spare_max: usize) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            spare: Vec::new(),
            spare_max,
            held: 0,
            large: 0,
        }))
    }

    /// `None` when too many hold bytes, or there are no descriptors for one more.
    fn take(&mut self, kernel: &Kernel) -> Option<Pipe> {
        if self.held == PIPES_MAX {
            return None;
        }
        let mut pipe = self.spare.pop().or_else(|| kernel.pipe().ok())?;
        if self.large < LARGE_MAX && pipe.grow() {
            self.large += 1;
        }
        self.held += 1;
        Some(pipe)
    }

    /// Takes an empty one back.
    fn put(&mut self, pipe: Pipe) {
        if self.spare.len() < self.spare_max {
            self.held -= 1;
            self.spare.push(pipe);
        } else {
            self.drop_held(pipe);
        }
    }

    /// What is in it goes with it.
    fn drop_held(&mut self, pipe: Pipe) {
        self.held -= 1;
        self.large -= usize::from(pipe.is_large());
        drop(pipe);
    }
}

/// Bytes that left one connection and are not in another one yet. Dropping it drops them.
#[derive(Debug)]
pub struct Piped {
    /// Absent once it was emptied, and where there was none.
    pipe: Option<Pipe>,
    bytes: usize,
    pipes: Rc<RefCell<Pipes>>,
}

impl Piped {
    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether nothing was put there, or all of it was sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Puts bytes of ours behind what is in the pipe, all of them or none; says whether there was room. They are copied: what came with
    /// them may be on pages that whoever sent it can still write to, these are not.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        let Some(pipe) = &mut self.pipe else {
            return false;
        };
        let is_pushed = pipe.push(bytes).is_ok();
        if is_pushed {
            self.bytes += bytes.len();
        }
        is_pushed
    }

    /// So many bytes were sent.
    fn advance(&mut self, count: usize) {
        self.bytes -= count.min(self.bytes);
        if self.bytes == 0
            && let Some(pipe) = self.pipe.take()
        {
            self.pipes.borrow_mut().put(pipe);
        }
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            let mut pipes = self.pipes.borrow_mut();
            if self.bytes == 0 {
                pipes.put(pipe); // Nothing was put there.
            } else {
                pipes.drop_held(pipe);
            }
        }
    }
}

impl Io {
    /// Moves at most `bytes_max` of what a connection has received into a pipe; `None` after the end of the peer's data.
    pub(crate) fn poll_splice_in(
        &mut self,
        key: Key,
        bytes_max: usize,
        cx: &Context<'_>,
    ) -> Poll<io::Result<Option<Piped>>> {
        if let Err(error) = self.begin_splicing(key) {
            return Poll::Ready(Err(error));
        }
        let mut look = Look::First;
        loop {
            match ready!(self.poll_spliced(key, &mut look, cx)) {
                Ok(News::Bytes) => (),
                Ok(News::End) => return Poll::Ready(Ok(None)),
                Err(error) => return Poll::Ready(Err(error)),
            }
            match self.fill_pipe(key, bytes_max) {
                Ok(None) => (),
                filled => return Poll::Ready(filled),
            }
        }
    }

    /// Receives a few bytes of a connection that is spliced into memory: what stands between two stretches that go past it. 0 after the
    /// end of the peer's data.
    pub(crate) fn poll_recv_between(
        &mut self,
        key: Key,
        buffer: &mut [u8],
        cx: &Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if !self.conns.get(key).is_some_and(ConnSlot::is_spliced) {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::Unsupported)));
        }
        let mut look = Look::First;
        loop {
            match ready!(self.poll_spliced(key, &mut look, cx)) {
                Ok(News::Bytes) => (),
                Ok(News::End) => return Poll::Ready(Ok(0)),
                Err(error) => return Poll::Ready(Err(error)),
            }
            let slot = self
                .conns
                .get_mut(key)
                .expect("a Conn's slot lives as long as the Conn");
            match self.kernel.recv(slot.fd, buffer) {
                Ok(count @ 1..) => {
                    slot.intake = Intake::Spliced { was_empty: false };
                    return Poll::Ready(Ok(count));
                }
                nothing => match note_nothing(&self.kernel, slot, nothing) {
                    Ok(()) => (),
                    Err(error) => return Poll::Ready(Err(error)),
                },
            }
        }
    }

    /// Whether a connection is spliced, and it is the turn of whoever asks, who takes what has come now, without a wait.
    pub(crate) fn splices_now(&mut self, key: Key) -> bool {
        let now = self.budget > 0 && self.conns.get(key).is_some_and(ConnSlot::is_spliced);
        self.budget -= u32::from(now);
        now
    }

    /// A pipe with nothing in it; one that takes nothing where none is to be had.
    pub(crate) fn empty_pipe(&self) -> Piped {
        Piped {
            pipe: self.pipes.borrow_mut().take(&self.kernel),
            bytes: 0,
            pipes: Rc::clone(&self.pipes),
        }
    }

    /// Moves more of what has come on a connection that is spliced behind what is in a pipe, without a wait; says how many bytes, 0 where
    /// there are none, or no room: whoever splices next finds out why.
    pub(crate) fn splice_more(&mut self, key: Key, piped: &mut Piped, bytes_max: usize) -> usize {
        let (Some(slot), Some(pipe)) = (self.conns.get_mut(key), &mut piped.pipe) else {
            return 0;
        };
        let filled = self.kernel.fill_pipe(slot.fd, pipe, bytes_max);
        let count = taken_now(slot, filled);
        self.stats.splices += u64::from(count > 0);
        piped.bytes += count;
        count
    }

    /// Receives a few bytes of a connection that is spliced, without a wait; says how many, 0 where there are none: whoever waits for them
    /// finds out why.
    pub(crate) fn recv_more(&mut self, key: Key, buffer: &mut [u8]) -> usize {
        match self.conns.get_mut(key) {
            Some(slot) if slot.is_spliced() => {
                let received = self.kernel.recv(slot.fd, buffer);
                taken_now(slot, received)
            }
            _ => 0,
        }
    }

    /// Waits until there is something to be had of a spliced connection.
    fn poll_spliced(
        &mut self,
        key: Key,
        look: &mut Look,
        cx: &Context<'_>,
    ) -> Poll<io::Result<News>> {
        let slot = self
            .conns
            .get_mut(key)
            .expect("a Conn's slot lives as long as the Conn");
        if slot.timed_out && std::mem::replace(look, Look::Again) == Look::First {
            // What came before the deadline counts, though nobody has told of it.
            slot.readiness.readable |= self.kernel.is_readable(slot.fd);
        }
        match slot.rx_end {
            Some(RxEnd::Eof) => return Poll::Ready(Ok(News::End)),
            Some(RxEnd::Failed(errno)) => return Poll::Ready(Err(ConnSlot::error(errno))),
            None if slot.timed_out && !slot.readiness.readable => {
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
        Poll::Ready(Ok(News::Bytes))
    }

    /// Sends what is in a pipe, behind what was written before, until the socket has taken all of it, or the connection's deadline
    /// has passed.
    pub(crate) fn poll_splice_out(
        &mut self,
        key: Key,
        piped: &mut Piped,
        cx: &Context<'_>,
    ) -> Poll<io::Result<()>> {
        let taken = self.poll_pipe_taken(key, piped, cx);
        self.in_time(key, taken)
    }

    /// The same, whatever the connection's deadline.
    pub(crate) fn poll_pipe_taken(
        &mut self,
        key: Key,
        piped: &mut Piped,
        cx: &Context<'_>,
    ) -> Poll<io::Result<()>> {
        match self.poll_taken(key, cx) {
            Poll::Ready(Ok(())) => (), // What was written before goes first.
            unsent => return unsent,
        }
        while piped.bytes > 0
            && let Some(pipe) = &mut piped.pipe
        {
            if self.waits_for_room(key) {
                return self.wait_for_room(key, cx);
            }
            let slot = match self.sending(key) {
                Ok(slot) => slot,
                Err(error) => return Poll::Ready(Err(error)),
            };
            slot.pipe_waits = false;
            let fd = slot.fd;
            self.stats.sends += 1;
            let errno = match self.kernel.empty_pipe(fd, pipe, piped.bytes) {
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
                    if let Ok(slot) = self.sending(key) {
                        slot.pipe_waits = true;
                    }
                    self.arm_writable(key);
                }
                errno => {
                    self.fail_sending(key, errno);
                    return Poll::Ready(Err(ConnSlot::error(errno)));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Receives into buffers again, if it did not. What waits for bytes in a ring goes on, and takes none.
    pub(crate) fn end_splicing(&mut self, key: Key) {
        let Some(slot) = self.conns.get_mut(key) else {
            return;
        };
        if !slot.is_spliced() {
            return;
        }
        slot.intake = Intake::AfterSplice;
        if matches!(self.driver, Driver::Uring(_)) {
            // A receive finds out by itself, but for a failure, which is told once.
            (slot.readiness.readable, slot.kernel.nonempty) = (slot.readiness.failed, false);
        }
    }

    /// One attempt to fill a pipe; nothing came of it when the slot knows why.
    fn fill_pipe(&mut self, key: Key, bytes_max: usize) -> io::Result<Option<Piped>> {
        let Some(mut pipe) = self.pipes.borrow_mut().take(&self.kernel) else {
            return Err(io::Error::from(io::ErrorKind::Unsupported));
        };
        let slot = self
            .conns
            .get_mut(key)
            .expect("a Conn's slot lives as long as the Conn");
        let filled = self.kernel.fill_pipe(slot.fd, &mut pipe, bytes_max);
        if let Ok(bytes @ 1..) = filled {
            self.stats.splices += 1;
            slot.intake = Intake::Spliced { was_empty: false };
            slot.full_reads = 0; // What is received next is the head of a message, not the middle of one.
            return Ok(Some(Piped {
                pipe: Some(pipe),
                bytes,
                pipes: Rc::clone(&self.pipes),
            }));
        }
        self.pipes.borrow_mut().put(pipe);
        note_nothing(&self.kernel, slot, filled).map(|()| None)
    }

    /// From here on nothing is received into buffers.
    ///
    /// # Errors
    /// `Unsupported` where something was received already or is being received, or all pipes are somebody's.
    fn begin_splicing(&mut self, key: Key) -> io::Result<()> {
        let slot = self
            .conns
            .get_mut(key)
            .expect("a Conn's slot lives as long as the Conn");
        if slot.is_spliced() {
            return Ok(());
        }
        let is_received = !slot.rx.is_empty() || slot.kernel.takes_bytes();
        if is_received || self.pipes.borrow().held == PIPES_MAX {
            return Err(io::Error::from(io::ErrorKind::Unsupported));
        }
        slot.intake = Intake::Spliced { was_empty: false };
        Ok(())
    }

    /// Whether the socket took nothing when it was last tried, and has not told since that it has room.
    fn waits_for_room(&self, key: Key) -> bool {
        self.conns.get(key).is_some_and(|slot| {
            slot.pipe_waits
                && match self.driver {
                    Driver::Uring(_) => slot.kernel.poll_armed,
                    Driver::Poll(_) => !slot.readiness.writable,
                }
        })
    }

    fn wait_for_room(&mut self, key: Key, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if let Some(slot) = self.conns.get_mut(key) {
            remember(&mut slot.tx_waker, cx.waker());
        }
        Poll::Pending
    }
}

/// How much an attempt without a wait has brought. What the kernel tells only once is remembered; that nothing is there it says again.
fn taken_now(slot: &mut ConnSlot, tried: io::Result<usize>) -> usize {
    match tried.map_err(|error| error.raw_os_error()) {
        Ok(0) | Err(Some(libc::EAGAIN | libc::EINTR)) => 0,
        Ok(count) => {
            slot.intake = Intake::Spliced { was_empty: false };
            count
        }
        Err(errno) => {
            slot.end_rx(RxEnd::Failed(errno.unwrap_or(libc::EIO)));
            0
        }
    }
}

/// Takes note of an attempt to get something of a spliced connection that brought nothing.
///
/// # Errors
/// `Unsupported` before a byte that was marked as urgent: nothing gets past it but a receive.
fn note_nothing(kernel: &Kernel, slot: &mut ConnSlot, tried: io::Result<usize>) -> io::Result<()> {
    match tried.map_err(|error| error.raw_os_error()) {
        Ok(_end) => slot.end_rx(slot.end_of_data()),
        Err(Some(libc::EINTR)) => (),
        Err(Some(libc::EAGAIN)) => {
            // It was said to be readable and nothing is to be had, again, or an edge has told why.
            let is_odd = slot.intake == EMPTY || slot.readiness.urgent;
            if is_odd && kernel.is_at_mark(slot.fd) {
                return Err(io::Error::from(io::ErrorKind::Unsupported));
            }
            slot.readiness.readable = false;
            slot.intake = EMPTY;
        }
        Err(errno) => slot.end_rx(RxEnd::Failed(errno.unwrap_or(libc::EIO))),
    }
    Ok(())
}

/// What there is to be had of a spliced connection.
enum News {
    Bytes,
    /// Of the peer's data.
    End,
}

/// Whether somebody looks at a connection for the first time in one poll.
#[derive(PartialEq, Eq)]
enum Look {
    First,
    Again,
}

/// A spliced connection that was readable and had nothing.
const EMPTY: Intake = Intake::Spliced { was_empty: true };

/// Pipes with bytes in them, at most: each is two descriptors, and holds what the kernel would count as the peer's.
const PIPES_MAX: usize = 64;

/// Large ones of them, spare or with bytes in them: a process has 64, which are for more than one worker.
const LARGE_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_workers_pipes_a_few_are_large_and_those_that_go_make_room_for_others() {
        let pipes = Pipes::keeping(4);
        let mut pipes = pipes.borrow_mut();
        let take = |pipes: &mut Pipes, count| -> Vec<Pipe> {
            let taken = std::iter::repeat_with(|| pipes.take(&Kernel::Real).unwrap());
            taken.take(count).collect()
        };
        let count_large = |held: &[Pipe]| held.iter().filter(|pipe| pipe.is_large()).count();
        let mut held = take(&mut pipes, LARGE_MAX + 4);
        assert_eq!(count_large(&held), LARGE_MAX);
        let gone = held.drain(..LARGE_MAX).collect::<Vec<_>>();
        gone.into_iter().for_each(|pipe| pipes.put(pipe));
        assert_eq!((pipes.held, pipes.spare.len(), pipes.large), (4, 4, 4));
        held.into_iter().for_each(|pipe| pipes.drop_held(pipe));
        assert_eq!((pipes.held, pipes.spare.len(), pipes.large), (0, 4, 4));
        let held = take(&mut pipes, 8);
        assert_eq!((count_large(&held), pipes.large), (8, 8));
    }
}
