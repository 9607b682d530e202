//! Sockets as tasks see them. A handle names a slot of its runtime's table; dropping the handle gives the slot up.

mod address;
mod bind;
mod dial;
mod inherit;
mod named;
mod transfer;

pub use super::buf::Lent;
pub use super::driver::{File, FilePart, Piped, Rx, Socket, Unparked};
pub use address::{Address, BadPath, UNIX_PATH_BYTES_MAX};
pub use bind::{BindError, BindOptions, Bound, PortUse, SocketName, bind, parse_socket_mode};
pub use inherit::{Inherited, bind_inherited};
pub use named::ConnName;
pub use transfer::{Accepted, Released};

use super::driver::How;
use super::race::{First, race};
use super::{Instant, Rt};
use crate::base::slab::Key;
use crate::sys::socket;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// One byte connection.
///
/// At most one task receives and at most one sends at a time; they may be two. Futures made here may be dropped at any
/// point: nothing received is lost and nothing queued is forgotten.
#[derive(Debug)]
pub struct Conn {
    rt: Rt,
    key: Key,
    /// The slot belongs to somebody else now; dropping the handle leaves it alone.
    released: bool,
}

impl Conn {
    fn new(rt: &Rt, key: Key) -> Self {
        Self {
            rt: rt.clone(),
            key,
            released: false,
        }
    }

    /// The next bytes, or the peer's end; waits without holding a buffer.
    ///
    /// # Errors
    /// What the socket failed with, after all data; `TimedOut` after the deadline.
    pub fn recv(&self) -> impl Future<Output = io::Result<Rx>> + '_ {
        poll_fn(|cx| self.poll_recv(cx))
    }

    /// The same for futures that are made by hand.
    ///
    /// # Errors
    /// As [`Conn::recv`].
    #[inline]
    pub fn poll_recv(&self, cx: &Context<'_>) -> Poll<io::Result<Rx>> {
        self.rt.0.io.borrow_mut().poll_recv(self.key, cx)
    }

    /// Drops the next bytes, at least one and at most `max`, which is 1 or more; says how many, 0 at the peer's end. Off a TCP
    /// socket they are not even copied. What follows them stays. Where the future is dropped, bytes that it had asked for may
    /// go all the same: the next call tells of them.
    ///
    /// # Errors
    /// As [`Conn::recv`].
    pub fn discard(&self, max: usize) -> impl Future<Output = io::Result<usize>> + '_ {
        debug_assert!(max > 0, "nothing cannot be told from the end");
        poll_fn(move |cx| self.rt.0.io.borrow_mut().poll_discard(self.key, max, cx))
    }

    /// Waits until bytes, the end or an error are there, and takes none of them.
    ///
    /// # Errors
    /// `TimedOut` after the deadline.
    pub fn readable(&self) -> impl Future<Output = io::Result<()>> + '_ {
        poll_fn(|cx| self.rt.0.io.borrow_mut().poll_news(self.key, cx))
    }

    /// Puts bytes back; the next [`Conn::recv`] gets them first.
    pub fn unread(&self, lent: Lent) {
        self.rt.0.io.borrow_mut().unread(self.key, lent);
    }

    /// Sends bytes: few of them at the end of the runtime's turn, together with what others write, many at once. What the
    /// socket does not take is copied, and sent as it makes room.
    ///
    /// # Errors
    /// `BrokenPipe`, `ConnectionReset` and their like, from then on for good. A failure at the end of the turn is told by
    /// the next call, receiving included.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.rt.0.io.borrow_mut().write(self.key, bytes)
    }

    /// The same for several pieces, which leave in one segment where they fit.
    ///
    /// # Errors
    /// As [`Conn::write`].
    pub fn write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<()> {
        self.rt.0.io.borrow_mut().write_vectored(self.key, pieces)
    }

    /// Sends received bytes on; what the socket does not take is kept where it is, uncopied.
    ///
    /// # Errors
    /// As [`Conn::write`].
    pub fn queue(&self, lent: Lent) -> io::Result<()> {
        self.rt.0.io.borrow_mut().queue_lent(self.key, lent)
    }

    /// Sends bytes at once, and behind them a part of a file from where the kernel has it. What the socket does not take is
    /// sent as it makes room: [`Conn::flush`] before the next part, so that no fast peer keeps a turn for itself.
    ///
    /// # Errors
    /// As [`Conn::write`]; `EIO` for good, here or from `flush`, when the file has ended before the part does.
    pub fn write_file(&self, head: &[u8], part: FilePart) -> io::Result<()> {
        self.rt.0.io.borrow_mut().write_file(self.key, head, part)
    }

    /// Sends bytes at once, and lets the kernel wait with them for what follows at once, from a pipe for instance.
    ///
    /// # Errors
    /// As [`Conn::write`].
    pub fn write_before_more(&self, bytes: &[u8]) -> io::Result<()> {
        self.rt.0.io.borrow_mut().write_before_more(self.key, bytes)
    }

    /// Moves at most `bytes_max` of what has arrived into a pipe, uncopied, for [`Conn::splice_out`] of another connection; `None`
    /// at the peer's end. From the first call on this connection receives in no other way, until [`Conn::end_splicing`].
    ///
    /// # Errors
    /// As [`Conn::recv`]; `Unsupported` where that cannot be done now: something was received already or is being received, or there
    /// is no pipe to be had. Nothing was moved then.
    pub fn splice_in(
        &self,
        bytes_max: usize,
    ) -> impl Future<Output = io::Result<Option<Piped>>> + '_ {
        poll_fn(move |cx| {
            let mut io = self.rt.0.io.borrow_mut();
            io.poll_splice_in(self.key, bytes_max, cx)
        })
    }

    /// Whether the connection is spliced, and it is not other tasks' turn first: asked before what has come is taken with no wait at all.
    #[must_use]
    pub fn splices_now(&self) -> bool {
        self.rt.0.io.borrow_mut().splices_now(self.key)
    }

    /// A pipe with nothing in it, for [`Piped::push`] and [`Conn::splice_more`]; one that takes nothing where none is to be had.
    #[must_use]
    pub fn empty_pipe(&self) -> Piped {
        self.rt.0.io.borrow().empty_pipe()
    }

    /// Moves at most `bytes_max` more behind what was spliced, as far as it has come and there is room; says how many bytes.
    pub fn splice_more(&self, piped: &mut Piped, bytes_max: usize) -> usize {
        let mut io = self.rt.0.io.borrow_mut();
        io.splice_more(self.key, piped, bytes_max)
    }

    /// Receives at most as many bytes as `buffer` has room for while the connection is spliced, as far as they have come; says how many.
    pub fn recv_more(&self, buffer: &mut [u8]) -> usize {
        self.rt.0.io.borrow_mut().recv_more(self.key, buffer)
    }

    /// Receives at most as many bytes as `buffer` has room for while the connection is spliced: what stands between two stretches that
    /// go through pipes. 0 at the peer's end. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`Conn::recv`]; `Unsupported` where it is not spliced, or only receiving gets any further.
    pub fn recv_between<'a>(
        &'a self,
        buffer: &'a mut [u8],
    ) -> impl Future<Output = io::Result<usize>> + 'a {
        poll_fn(move |cx| {
            let mut io = self.rt.0.io.borrow_mut();
            io.poll_recv_between(self.key, buffer, cx)
        })
    }

    /// Receives into buffers again, if it did not.
    pub fn end_splicing(&self) {
        self.rt.0.io.borrow_mut().end_splicing(self.key);
    }

    /// Sends what is in a pipe, behind what was written before; waits until the socket has taken all of it, or the connection's
    /// deadline has passed. Dropping the future loses nothing: what is left is still in the pipe.
    ///
    /// # Errors
    /// As [`Conn::flush`].
    pub fn splice_out<'a>(
        &'a self,
        piped: &'a mut Piped,
    ) -> impl Future<Output = io::Result<()>> + 'a {
        poll_fn(move |cx| {
            let mut io = self.rt.0.io.borrow_mut();
            io.poll_splice_out(self.key, piped, cx)
        })
    }

    /// The same as far as the socket takes it now; says whether it took all.
    ///
    /// # Errors
    /// As [`Conn::write`].
    pub fn splice_out_now(&self, piped: &mut Piped) -> io::Result<bool> {
        let mut io = self.rt.0.io.borrow_mut();
        let nobody = Context::from_waker(Waker::noop());
        match io.poll_pipe_taken(self.key, piped, &nobody) {
            Poll::Ready(sent) => sent.map(|()| true),
            Poll::Pending => Ok(false),
        }
    }

    /// [`Conn::splice_out`] with a time limit of its own, whatever the connection's deadline.
    ///
    /// # Errors
    /// As [`Conn::splice_out`].
    pub async fn splice_out_until(&self, piped: &mut Piped, until: Instant) -> io::Result<()> {
        let taken = poll_fn(|cx| {
            let mut io = self.rt.0.io.borrow_mut();
            io.poll_pipe_taken(self.key, piped, cx)
        });
        self.by(until, taken).await
    }

    /// Sends at once what was written in this turn. For whoever takes the time of it.
    ///
    /// # Errors
    /// As [`Conn::write`].
    pub fn send_now(&self) -> io::Result<()> {
        self.rt.0.io.borrow_mut().send_now(self.key)
    }

    /// Bytes that the socket was offered and has not taken yet: 0 unless the peer reads slowly. What was written in this turn
    /// may not have been offered yet: whoever closes awaits [`Conn::flush`].
    #[must_use]
    pub fn queued(&self) -> usize {
        self.rt.0.io.borrow().queued(self.key)
    }

    /// Bytes that the peer's kernel has not acknowledged: those queued, and those that the socket took. Asks the kernel; tells
    /// whether a slow peer reads at all, long before the socket has room again.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.rt.0.io.borrow().unacknowledged(self.key)
    }

    /// Waits until the socket has taken everything.
    ///
    /// # Errors
    /// As [`Conn::write`]; `TimedOut` after the deadline.
    pub fn flush(&self) -> impl Future<Output = io::Result<()>> + '_ {
        poll_fn(|cx| self.rt.0.io.borrow_mut().poll_flush(self.key, cx))
    }

    /// The same with a bound of its own, whatever deadline receiving has.
    ///
    /// # Errors
    /// As [`Conn::write`]; `TimedOut` after `until`.
    pub async fn flush_until(&self, until: Instant) -> io::Result<()> {
        let taken = poll_fn(|cx| self.rt.0.io.borrow_mut().poll_taken(self.key, cx));
        self.by(until, taken).await
    }

    /// Flushes, then sends FIN; receiving goes on.
    ///
    /// # Errors
    /// As [`Conn::flush`]; `NotConnected` when the peer has ended both directions.
    pub async fn finish(&self) -> io::Result<()> {
        self.flush().await?;
        self.rt.0.io.borrow_mut().shutdown_write(self.key)
    }

    /// Sets the point after which receiving and flushing end in `TimedOut`; moving it later costs one store.
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        self.rt.0.io.borrow_mut().set_deadline(self.key, deadline);
    }

    /// When the first bytes since the last call of this were handed to the kernel, just before; `None` while none has been, or
    /// where nobody asked with [`Rt::keep_stamps`].
    #[must_use]
    pub fn take_sent_at(&self) -> Option<Instant> {
        self.rt.0.io.borrow_mut().take_sent(self.key)
    }

    /// When the kernel handed over the last bytes that came; `None` as above.
    #[must_use]
    pub fn received_at(&self) -> Option<Instant> {
        self.rt.0.io.borrow_mut().received(self.key)
    }

    /// The peer's address; none has a Unix socket.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.rt.0.io.borrow().peer(self.key)
    }

    /// The address that the peer spoke to.
    ///
    /// # Errors
    /// What `getsockname(2)` answers.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.rt.0.io.borrow().local(self.key)
    }

    /// Whether bytes, the end or an error are there already.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.rt.0.io.borrow().has_news(self.key)
    }

    /// Bytes that have arrived and that nobody has received. Asks the kernel: for connections on which nothing was received yet, of
    /// which a runtime is told with the next turn at best, and on a ring only after it has begun to receive.
    #[must_use]
    pub fn arrived(&self) -> usize {
        self.rt.0.io.borrow().arrived(self.key)
    }

    /// Sends FIN and gives the connection up; what the socket did not take is dropped. The same as dropping it.
    pub fn close(self) {
        drop(self);
    }

    /// Sends RST and gives the connection up: the peer shall know that what it got is not whole.
    pub fn reset(self) {
        self.rt.0.io.borrow_mut().close(self.key, How::Reset); // Dropping the handle finds it given up.
    }

    /// Waits until the connection fails: by a reset, not by bytes nor by the peer's FIN, which may only mean that it has
    /// asked everything. For whoever works on behalf of this peer. The peer of a Unix socket that closes behind so much that not all of it is
    /// taken off the socket has failed, too; where all is, that is an end.
    pub fn failure(&self) -> impl Future<Output = io::Error> + '_ {
        poll_fn(|cx| self.poll_failure(cx))
    }

    /// The same for futures that are made by hand.
    #[inline]
    pub fn poll_failure(&self, cx: &Context<'_>) -> Poll<io::Error> {
        self.rt.0.io.borrow_mut().poll_failure(self.key, cx)
    }

    /// Whether this is the connection that was parked under a key.
    #[must_use]
    pub fn was_parked_as(&self, key: ParkKey) -> bool {
        self.key == key.0
    }

    /// Gives the task's handle up and keeps the connection in the runtime until it has news or its deadline comes, which
    /// [`Rt::next_unparked`] then tells. `tag` is the owner's own number. Everything must have been flushed.
    pub fn park(mut self, tag: u64, deadline: Instant) -> ParkKey {
        self.released = true;
        self.rt.0.io.borrow_mut().park(self.key, tag, deadline);
        ParkKey(self.key)
    }

    /// The runtime that drives this connection.
    #[must_use]
    pub fn rt(&self) -> &Rt {
        &self.rt
    }

    /// Waits for the socket to take something, whatever the connection's deadline.
    async fn by(
        &self,
        until: Instant,
        taken: impl Future<Output = io::Result<()>>,
    ) -> io::Result<()> {
        match race(taken, self.rt.sleep_until(until)).await {
            First::One(taken) => taken,
            First::Other(()) => Err(io::Error::from(io::ErrorKind::TimedOut)),
        }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        if !self.released {
            // A task that panics leaves its message unfinished: the peer must not take it for whole.
            let how = if std::thread::panicking() {
                How::Reset
            } else {
                How::Graceful
            };
            self.rt.0.io.borrow_mut().close(self.key, how);
        }
    }
}

/// Names a parked connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParkKey(Key);

impl Rt {
    /// Keeps from now on when each connection's bytes left and came, at the cost of a look at the clock each time. For load
    /// generators: [`Conn::take_sent_at`] and [`Conn::received_at`] tell.
    pub fn keep_stamps(&self) {
        self.0.io.borrow_mut().keep_stamps();
    }

    /// Brings every parked connection back as expired. For a drain.
    pub fn unpark_all(&self) {
        self.0.io.borrow_mut().unpark_all();
    }

    /// Brings parked connections back earlier. `until` is asked for each, by its place (see [`ConnName::place`]) and its tag; one for
    /// which it says nothing, or no earlier time than the connection has, stays as it is.
    pub fn hasten_parked(&self, until: impl FnMut(u32, u64) -> Option<Instant>) {
        self.0.io.borrow_mut().hasten_parked(until);
    }

    /// Resets every connection that is neither parked nor closing, so that their peers know that what they got is not
    /// whole. Their handles may only be dropped afterwards.
    pub fn reset_all(&self) {
        self.0.io.borrow_mut().reset_all();
    }

    /// Takes a listening socket over.
    ///
    /// # Errors
    /// What `fcntl(2)` or registration answers.
    pub fn listener(&self, socket: impl Into<Socket>) -> io::Result<Listener> {
        let key = self.0.io.borrow_mut().add_listener(socket.into())?;
        Ok(Listener {
            rt: self.clone(),
            key,
        })
    }

    /// Takes a parked connection back; `None` when it came back by itself meanwhile, or is gone.
    #[must_use]
    pub fn unpark(&self, key: ParkKey) -> Option<Conn> {
        let unparked = self.0.io.borrow_mut().unpark(key.0);
        unparked.then(|| Conn::new(self, key.0))
    }

    /// The next parked connection that has news or whose deadline came, with its tag. One task waits here.
    pub async fn next_unparked(&self) -> (Conn, u64, Unparked) {
        let event = poll_fn(|cx| self.0.io.borrow_mut().poll_unparked(cx)).await;
        (Conn::new(self, event.key), event.tag, event.why)
    }
}

/// A listening socket with the connections that the kernel accepted for it.
#[derive(Debug)]
pub struct Listener {
    rt: Rt,
    key: Key,
}

impl Listener {
    /// The next connection. Dropping the future loses none.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`: the process or the machine is at its limit; wait a little and call again, the
    /// connections wait in the socket's queue.
    pub async fn accept(&self) -> io::Result<Conn> {
        let key = poll_fn(|cx| self.rt.0.io.borrow_mut().poll_accept(self.key, cx)).await?;
        Ok(Conn::new(&self.rt, key))
    }

    /// The next connection, not yet taken into this runtime: another worker may have room for it.
    ///
    /// # Errors
    /// As [`Listener::accept`].
    pub async fn accept_raw(&self) -> io::Result<Accepted> {
        let (fd, peer) =
            poll_fn(|cx| self.rt.0.io.borrow_mut().poll_accept_raw(self.key, cx)).await?;
        Ok(Accepted {
            socket: self.rt.0.kernel.own(fd),
            peer,
        })
    }

    /// A connection that waits already; for a paused listener that is about to close.
    #[must_use]
    pub fn try_accept(&self) -> Option<Conn> {
        let key = self.rt.0.io.borrow_mut().try_accept(self.key)?;
        Some(Conn::new(&self.rt, key))
    }

    /// The same, not yet taken into this runtime.
    #[must_use]
    pub fn try_accept_raw(&self) -> Option<Accepted> {
        let (fd, peer) = self.rt.0.io.borrow_mut().try_accept_raw(self.key)?;
        Some(Accepted {
            socket: self.rt.0.kernel.own(fd),
            peer,
        })
    }

    /// A connection that the kernel has accepted for this listener already; those in the socket's queue stay there, for whoever
    /// else has the socket.
    #[must_use]
    pub fn take_accepted(&self) -> Option<Accepted> {
        let (fd, peer) = self.rt.0.io.borrow_mut().take_accepted(self.key)?;
        Some(Accepted {
            socket: self.rt.0.kernel.own(fd),
            peer,
        })
    }

    /// Stops accepting; connections wait in the socket's queue.
    pub fn pause(&self) {
        self.rt.0.io.borrow_mut().pause_listener(self.key);
    }

    /// Waits until a paused listener takes nothing more from the socket's queue. What it had taken can be had by
    /// [`Listener::take_accepted`].
    pub async fn quiet(&self) {
        while !self.rt.0.io.borrow_mut().is_listener_quiet(self.key) {
            self.rt.sleep(QUIET_PAUSE).await; // For the answer to a cancellation, which comes with the next turns.
        }
    }

    /// Accepts again.
    pub fn resume(&self) {
        self.rt.0.io.borrow_mut().resume_listener(self.key);
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// What `getsockname(2)` answers.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.rt.0.io.borrow_mut().listener_addr(self.key)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.rt.0.io.borrow_mut().close_listener(self.key);
    }
}

/// A socket that listens on an address, for a runtime on this machine's kernel. `backlog` connections may wait in it; the
/// kernel caps that. The port may be 0.
///
/// # Errors
/// As `bind(2)` and `listen(2)`.
pub fn listen(addr: SocketAddr, backlog: u32) -> io::Result<Socket> {
    socket::listen(addr, backlog).map(Socket::from)
}

const QUIET_PAUSE: Duration = Duration::from_millis(1);
