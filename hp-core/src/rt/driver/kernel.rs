//! Who answers the calls of a worker: the kernel of this machine, or a simulated one in its place. Every call on a
//! descriptor goes through here, and the clock is read here.

#[cfg(feature = "sim")]
use super::sim;
use crate::rt::time::Instant;
use crate::sys::{clock, file, pipe, socket};
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

/// The kernel that a runtime's descriptors belong to.
#[derive(Clone, Debug)]
pub(crate) enum Kernel {
    /// That of this machine.
    Real,
    /// That of a host in a simulated world.
    #[cfg(feature = "sim")]
    Sim(sim::SimKernel),
}

impl Kernel {
    /// The monotonic clock.
    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::Real => Instant::from_nanos(clock::monotonic_ns()),
            #[cfg(feature = "sim")]
            Self::Sim(kernel) => kernel.now(),
        }
    }

    /// Time since 1970-01-01 UTC; may jump.
    pub(crate) fn wall_clock(&self) -> Duration {
        match self {
            Self::Real => Duration::from_nanos(clock::wall_ns()),
            #[cfg(feature = "sim")]
            Self::Sim(kernel) => kernel.wall_clock(),
        }
    }

    /// See [`socket::start_connect`].
    pub(crate) fn start_connect(
        &self,
        addr: SocketAddr,
        from: Option<IpAddr>,
    ) -> io::Result<RawFd> {
        match self {
            Self::Real => socket::start_connect(addr, from),
            #[cfg(feature = "sim")]
            Self::Sim(kernel) if from.is_none_or(|from| from == kernel.addr()) => {
                kernel.start_connect(addr)
            }
            #[cfg(feature = "sim")]
            Self::Sim(_) => Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL)),
        }
    }

    /// See [`socket::connect_unix`]. A simulated kernel has no such sockets.
    pub(crate) fn connect_unix(&self, path: &Path) -> io::Result<Socket> {
        match self {
            Self::Real => socket::connect_unix(path).map(Socket::from),
            #[cfg(feature = "sim")]
            Self::Sim(_) => Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
        }
    }

    /// See [`socket::connect_datagram`]. A simulated kernel has no such sockets.
    pub(crate) fn connect_datagram(&self, addr: SocketAddr) -> io::Result<Socket> {
        match self {
            Self::Real => socket::connect_datagram(addr).map(Socket::from),
            #[cfg(feature = "sim")]
            Self::Sim(_) => Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
        }
    }

    /// See [`socket::take_error`].
    pub(crate) fn take_error(&self, fd: RawFd) -> io::Result<()> {
        match self {
            Self::Real => socket::take_error(fd),
            #[cfg(feature = "sim")]
            Self::Sim(kernel) => kernel.take_error(fd),
        }
    }

    /// See [`socket::set_nonblocking`].
    pub(crate) fn set_nonblocking(&self, fd: RawFd, nonblocking: bool) -> io::Result<()> {
        match self {
            Self::Real => socket::set_nonblocking(fd, nonblocking),
            #[cfg(feature = "sim")]
            Self::Sim(kernel) => kernel.set_nonblocking(fd, nonblocking),
        }
    }

    /// See [`socket::accept_nonblocking`].
    pub(crate) fn accept_nonblocking(&self, fd: RawFd) -> io::Result<(RawFd, Option<SocketAddr>)> {
        match self {
            Self::Real => socket::accept_nonblocking(fd),
            #[cfg(feature = "sim")]
            Self::Sim(kernel) => kernel.accept_nonblocking(fd),
        }
    }

    /// See [`socket::recv`].
    #[inline]
    pub(crate) fn recv(&self, fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Real => socket::recv(fd, buffer),
            #[cfg(feature = "sim")]
            Self::Sim(kernel) => kernel.recv(fd, buffer),
        }
    }

    /// See [`socket::discard`].
    pub(crate) fn discard(&self, fd: RawFd, len: usize) -> io::Result<usize> {
        match self {
            Self::Real => socket::discard(fd, len),
            #[cfg(feature = "sim")]
            Self::Sim(kernel) => kernel.discard(fd, len),
        }
    }

    /// See [`socket::is_readable`].
    pub(crate) fn is_readable(&self, fd: RawFd) -> bool {
        match self {
            Self::Real => socket::is_readable(fd),
            #[cfg(feature = "sim")]
            Self::Sim(kernel) => kernel.is_readable(fd),
        }
    }

    /// See [`socket::is_writable`].
    pub(crate) fn is_writable(&self, fd: RawFd) -> bool {
        match self {
            Self::Real => socket::is_writable(fd),
            #[cfg(feature = "sim")]
            Self::Sim(kernel) => kernel.is_writable(fd),
        }
    }

    /// See [`socket::arrived`].
    pub(crate) fn arrived(&self, fd: RawFd) -> usize {
        match self {
            Self::Real => socket::arrived(fd),
            #[cfg(feature = "sim")]
            Self::Sim(kernel) => kernel.arrived(fd),
        }
    }

    /// See [`socket::is_at_mark`]. A simulated kernel has no urgent data.
    pub(crate) fn is_at_mark(&self, fd: RawFd) -> bool {
        match self {
            Self::Real => socket::is_at_mark(fd),
            #[cfg(feature = "sim")]
            Self::Sim(_) => false,
        }
    }

    /// See [`socket::unacknowledged`].
    pub(crate) fn unacknowledged(&self, fd: RawFd) -> usize {
        match self {
            Self::Real => socket::unacknowledged(fd),
            #[cfg(feature = "sim")]
            Self::Sim(kernel) => kernel.unacknowledged(fd),
        }
    }

    /// See [`socket::send`].
    #[inline]
    pub(crate) fn send(&self, fd: RawFd, segments: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Real => socket::send(fd, segments),
            #[cfg(feature = "sim")]
            Self::Sim(kernel) => kernel.send(fd, segments),
        }
    }

    /// See [`socket::send_before_more`].
    pub(crate) fn send_before_more(
        &self,
        fd: RawFd,
        segments: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        match self {
            Self::Real => socket::send_before_more(fd, segments),
            #[cfg(feature = "sim")]
            Self::Sim(kernel) => kernel.send(fd, segments),
        }
    }

    /// Sends a part of a file at once; see [`file::send`].
    pub(crate) fn send_file(
        &self,
        fd: RawFd,
        part: &FilePart,
        bytes_max: usize,
    ) -> io::Result<usize> {
        let len = usize::try_from(part.left).map_or(bytes_max, |left| left.min(bytes_max));
        match (self, &part.file.0) {
            (Self::Real, Content::Real(file)) => file::send(fd, file, part.offset, len),
            #[cfg(feature = "sim")]
            (Self::Sim(kernel), Content::Sim(bytes)) => {
                let start =
                    usize::try_from(part.offset).map_or(bytes.len(), |at| at.min(bytes.len()));
                let end = bytes.len().min(start.saturating_add(len));
                match &bytes[start..end] {
                    [] => Ok(0),
                    some => kernel.send(fd, &[IoSlice::new(some)]),
                }
            }
            // A file of one kernel means nothing to the other.
            #[cfg(feature = "sim")]
            _ => Err(io::Error::from_raw_os_error(libc::EBADF)),
        }
    }

    /// A pipe for sockets of this kernel.
    ///
    /// # Errors
    /// As [`pipe::Pipe::new`].
    pub(crate) fn pipe(&self) -> io::Result<Pipe> {
        match self {
            Self::Real => pipe::Pipe::new().map(Pipe::Real),
            #[cfg(feature = "sim")]
            Self::Sim(kernel) => Ok(Pipe::Sim(sim::SimPipe::holding(kernel.pipe_bytes()))),
        }
    }

    /// Moves received bytes into a pipe at once; see [`pipe::Pipe::fill_from`].
    pub(crate) fn fill_pipe(
        &self,
        fd: RawFd,
        pipe: &mut Pipe,
        bytes_max: usize,
    ) -> io::Result<usize> {
        match (self, pipe) {
            (Self::Real, Pipe::Real(pipe)) => pipe.fill_from(fd, bytes_max),
            #[cfg(feature = "sim")]
            (Self::Sim(kernel), Pipe::Sim(pipe)) => pipe.fill_from(kernel, fd, bytes_max),
            #[cfg(feature = "sim")]
            _ => Err(io::Error::from_raw_os_error(libc::EBADF)),
        }
    }

    /// Sends what is in a pipe at once, as far as the socket takes it; see [`pipe::Pipe::empty_into`].
    pub(crate) fn empty_pipe(&self, fd: RawFd, pipe: &mut Pipe, bytes: usize) -> io::Result<usize> {
        match (self, pipe) {
            (Self::Real, Pipe::Real(pipe)) => pipe.empty_into(fd, bytes),
            #[cfg(feature = "sim")]
            (Self::Sim(kernel), Pipe::Sim(pipe)) => pipe.empty_into(kernel, fd),
            #[cfg(feature = "sim")]
            _ => Err(io::Error::from_raw_os_error(libc::EBADF)),
        }
    }

    /// See [`socket::shutdown_write`].
    pub(crate) fn shutdown_write(&self, fd: RawFd) -> io::Result<()> {
        match self {
            Self::Real => socket::shutdown_write(fd),
            #[cfg(feature = "sim")]
            Self::Sim(kernel) => kernel.shutdown_write(fd),
        }
    }

    /// See [`socket::shutdown_both`].
    pub(crate) fn shutdown_both(&self, fd: RawFd) -> io::Result<()> {
        match self {
            Self::Real => socket::shutdown_both(fd),
            #[cfg(feature = "sim")]
            Self::Sim(kernel) => kernel.shutdown_both(fd),
        }
    }

    /// See [`socket::reset_on_close`].
    pub(crate) fn reset_on_close(&self, fd: RawFd) -> io::Result<()> {
        match self {
            Self::Real => socket::reset_on_close(fd),
            #[cfg(feature = "sim")]
            Self::Sim(kernel) => kernel.reset_on_close(fd),
        }
    }

    /// The address of whoever is connected to, unless sockets have none.
    pub(crate) fn as_peer(&self, addr: SocketAddr) -> Option<SocketAddr> {
        match self {
            Self::Real => Some(addr),
            #[cfg(feature = "sim")]
            Self::Sim(kernel) => kernel.as_peer(addr),
        }
    }

    /// See [`socket::peer_addr`].
    pub(crate) fn peer_addr(&self, fd: RawFd) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Real => socket::peer_addr(fd),
            #[cfg(feature = "sim")]
            Self::Sim(kernel) => kernel.peer_addr(fd),
        }
    }

    /// See [`socket::local_addr`].
    pub(crate) fn local_addr(&self, fd: RawFd) -> io::Result<SocketAddr> {
        match self {
            Self::Real => socket::local_addr(fd),
            #[cfg(feature = "sim")]
            Self::Sim(kernel) => kernel.local_addr(fd),
        }
    }

    /// Closes a descriptor that a slot owned.
    pub(crate) fn close(&self, fd: RawFd) {
        match self {
            Self::Real => socket::close(fd),
            #[cfg(feature = "sim")]
            Self::Sim(kernel) => kernel.close(fd),
        }
    }

    /// Takes ownership of a descriptor back from a slot.
    pub(crate) fn own(&self, fd: RawFd) -> Socket {
        match self {
            Self::Real => Socket(Owned::Real(socket::from_raw(fd))),
            #[cfg(feature = "sim")]
            Self::Sim(kernel) => Socket(Owned::Sim(kernel.own(fd))),
        }
    }
}

/// A pipe of the kernel whose sockets it joins.
#[derive(Debug)]
pub(crate) enum Pipe {
    Real(pipe::Pipe),
    #[cfg(feature = "sim")]
    Sim(sim::SimPipe),
}

impl Pipe {
    /// See [`pipe::Pipe::push`].
    pub(crate) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Real(pipe) => pipe.push(bytes),
            #[cfg(feature = "sim")]
            Self::Sim(pipe) => pipe.push(bytes),
        }
    }

    /// See [`pipe::Pipe::grow`]. Simulated ones stay small, so that content takes more turns.
    pub(crate) fn grow(&mut self) -> bool {
        match self {
            Self::Real(pipe) => pipe.grow(),
            #[cfg(feature = "sim")]
            Self::Sim(_) => false,
        }
    }

    /// Whether it has grown.
    pub(crate) fn is_large(&self) -> bool {
        match self {
            Self::Real(pipe) => pipe.is_large(),
            #[cfg(feature = "sim")]
            Self::Sim(_) => false,
        }
    }
}

/// A file whose content can be sent from where the kernel has it.
#[derive(Debug)]
pub struct File(Content);

#[derive(Debug)]
enum Content {
    Real(OwnedFd),
    #[cfg(feature = "sim")]
    Sim(Vec<u8>),
}

impl File {
    /// A file of the simulated kernel.
    #[cfg(feature = "sim")]
    #[must_use]
    pub fn simulated(content: Vec<u8>) -> Self {
        Self(Content::Sim(content))
    }
}

impl From<OwnedFd> for File {
    fn from(fd: OwnedFd) -> Self {
        Self(Content::Real(fd))
    }
}

/// What is still to be sent of a file.
#[derive(Clone, Debug)]
pub struct FilePart {
    /// The file; shared with whoever sends another part of it.
    pub file: Rc<File>,
    /// Where the part begins.
    pub offset: u64,
    /// Length in bytes. A file that ends sooner fails the connection, for what it sent is not whole.
    pub left: u64,
}

/// A listening or connected socket that no runtime has. Closes when dropped; may cross threads.
#[derive(Debug)]
pub struct Socket(Owned);

#[derive(Debug)]
enum Owned {
    Real(OwnedFd),
    #[cfg(feature = "sim")]
    Sim(sim::SimSocket),
}

impl Socket {
    /// The address that it is bound to.
    ///
    /// # Errors
    /// What `getsockname(2)` answers.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Owned::Real(fd) => socket::local_addr(fd.as_raw_fd()),
            #[cfg(feature = "sim")]
            Owned::Sim(socket) => socket.local_addr(),
        }
    }

    /// A second descriptor of the same socket: what is set on one holds for both, and it is closed when both are.
    ///
    /// # Errors
    /// What `fcntl(2)` answers: `EMFILE` when descriptors run out.
    pub fn try_clone(&self) -> io::Result<Self> {
        match &self.0 {
            Owned::Real(fd) => fd.try_clone().map(Self::from),
            #[cfg(feature = "sim")]
            Owned::Sim(socket) => socket.try_clone().map(Self::from),
        }
    }

    /// Its descriptor; a simulated one means nothing to this machine's kernel.
    #[must_use]
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            Owned::Real(fd) => Some(fd.as_fd()),
            #[cfg(feature = "sim")]
            Owned::Sim(_) => None,
        }
    }

    /// Whether bytes, the peer's end or an error can be received.
    pub(crate) fn has_news(&self) -> bool {
        match &self.0 {
            Owned::Real(fd) => socket::is_readable(fd.as_raw_fd()),
            #[cfg(feature = "sim")]
            Owned::Sim(socket) => socket.is_readable(),
        }
    }

    /// Gives ownership to a slot of a runtime on the same kernel.
    pub(crate) fn into_raw(self) -> RawFd {
        match self.0 {
            Owned::Real(fd) => socket::into_raw(fd),
            #[cfg(feature = "sim")]
            Owned::Sim(socket) => socket.into_raw(),
        }
    }
}

impl From<OwnedFd> for Socket {
    fn from(fd: OwnedFd) -> Self {
        Self(Owned::Real(fd))
    }
}

#[cfg(feature = "sim")]
impl From<sim::SimSocket> for Socket {
    fn from(socket: sim::SimSocket) -> Self {
        Self(Owned::Sim(socket))
    }
}
