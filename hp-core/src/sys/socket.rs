//! Stream sockets: made, connected, read, written and closed without ever blocking.

use super::{check, check_len, check_long};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use std::io::{self, IoSlice};
use std::mem::{ManuallyDrop, size_of};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

/// Binds and listens with `SO_REUSEADDR`, `SO_REUSEPORT` and `TCP_NODELAY` (which accepted sockets inherit).
///
/// `backlog`: connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
///
/// # Errors
/// What `bind(2)` and `listen(2)` answer: `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`.
pub fn listen(addr: SocketAddr, backlog: u32) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(libc::c_int::try_from(backlog).unwrap_or(libc::c_int::MAX))?;
    Ok(socket.into())
}

/// Whether somebody else listens on this address already, asked with a socket that would not share the port.
///
/// `SO_REUSEPORT` lets two servers of one user bind one port and split its connections; a server that starts wants to
/// be told instead.
///
/// # Errors
/// What `bind(2)` answers, `AddrInUse` above all.
pub fn probe_exclusive(addr: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?; // Connections in TIME_WAIT are no obstacle; a listener is.
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&addr.into())
}

/// Makes a non-blocking socket and starts to connect it; writable or failed once that is decided.
///
/// `from`: the local address, where it matters; its port is chosen with the connection, so that one local port serves many
/// peers (`IP_BIND_ADDRESS_NO_PORT`).
///
/// # Errors
/// What `socket(2)`, `bind(2)` and `connect(2)` answer at once, but for `EINPROGRESS`.
pub fn start_connect(addr: SocketAddr, from: Option<IpAddr>) -> io::Result<RawFd> {
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(addr), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(from) = from {
        choose_port_late(socket.as_raw_fd())?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    match socket.connect(&addr.into()) {
        Ok(()) => (),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => (),
        Err(error) => return Err(error),
    }
    Ok(socket.into_raw_fd())
}

/// Connects to a Unix stream socket, which is decided at once.
///
/// # Errors
/// `WouldBlock` when the listener's queue is full: try again later; `NotFound`, `ConnectionRefused` and their like.
pub fn connect_unix(path: &Path) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket.into())
}

/// A non-blocking datagram socket (UDP) that sends to one peer and receives from nobody else: the kernel drops what comes
/// from other addresses or ports. Its own port is drawn by the kernel, by chance.
///
/// # Errors
/// What `socket(2)` and `connect(2)` answer: `NetworkUnreachable` and its like.
pub fn connect_datagram(addr: SocketAddr) -> io::Result<OwnedFd> {
    let kind = Type::DGRAM.nonblocking();
    let socket = Socket::new(Domain::for_address(addr), kind, Some(Protocol::UDP))?;
    socket.connect(&addr.into())?;
    Ok(socket.into())
}

/// The outcome of a connection attempt, and of any later failure (`SO_ERROR`, which it clears).
///
/// # Errors
/// The socket's own error, or what `getsockopt(2)` answers.
pub fn take_error(fd: RawFd) -> io::Result<()> {
    match with(fd, Socket::take_error)? {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Sets or clears `O_NONBLOCK`. Calls without a flag of their own heed it: `accept(2)`, `splice(2)`, `sendfile(2)`. A ring's receive does
/// not, it waits all the same; of its other operations those on listeners may answer `EAGAIN` instead.
///
/// # Errors
/// What `fcntl(2)` answers.
pub fn set_nonblocking(fd: RawFd, nonblocking: bool) -> io::Result<()> {
    with(fd, |socket| socket.set_nonblocking(nonblocking))
}

/// Sends segments at once; returns how many leading bytes the socket took.
///
/// # Errors
/// `WouldBlock` when it takes none now; `BrokenPipe`, `ConnectionReset` and their like when it never will.
pub fn send(fd: RawFd, segments: &[IoSlice<'_>]) -> io::Result<usize> {
    send_flagged(fd, segments, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
}

/// The same for what more will follow at once: the kernel may hold the last segment back until then.
///
/// # Errors
/// As [`send`].
pub fn send_before_more(fd: RawFd, segments: &[IoSlice<'_>]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_MORE;
    send_flagged(fd, segments, flags)
}

#[inline]
fn send_flagged(fd: RawFd, segments: &[IoSlice<'_>], flags: libc::c_int) -> io::Result<usize> {
    if let [only] = segments {
        let none = std::ptr::null::<libc::sockaddr>();
        // libc's own `send` is a cancellation point and pays for it; nobody cancels threads here.
        // SAFETY: `only` is `only.len()` readable bytes for the duration of the call; no address is given.
        let result = unsafe {
            libc::syscall(
                libc::SYS_sendto,
                fd,
                only.as_ptr(),
                only.len(),
                flags,
                none,
                0,
            )
        };
        return check_long(result);
    }
    // SAFETY: msghdr is made of integers and pointers, for which all zeroes is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = segments.as_ptr().cast_mut().cast();
    message.msg_iovlen = segments.len().min(SEGMENTS_MAX);
    // SAFETY: IoSlice has the layout of iovec; the kernel only reads them and what they name, during the call.
    let result = unsafe { libc::sendmsg(fd, &raw const message, flags) };
    check_len(result)
}

/// Whether bytes, the peer's end or an error can be received at once; takes none of them.
#[must_use]
pub fn is_readable(fd: RawFd) -> bool {
    is_ready(fd, libc::POLLIN | libc::POLLRDHUP)
}

/// Whether a send would not wait, or an attempt to connect is decided.
#[must_use]
pub fn is_writable(fd: RawFd) -> bool {
    is_ready(fd, libc::POLLOUT)
}

/// Whether one of these has come about, or a failure.
fn is_ready(fd: RawFd, events: libc::c_short) -> bool {
    let mut wanted = libc::pollfd {
        fd,
        events,
        revents: 0,
    };
    // SAFETY: `wanted` is one valid pollfd for the duration of the call.
    let ready = unsafe { libc::poll(&raw mut wanted, 1, 0) };
    ready > 0
}

/// Bytes that the kernel was given and the peer's has not acknowledged; 0 where the socket cannot tell.
#[must_use]
pub fn unacknowledged(fd: RawFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ, which tcp(7) calls SIOCOUTQ, writes one int, which `bytes` is.
    let answered = unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut bytes) };
    match check(answered) {
        Ok(_) => usize::try_from(bytes).unwrap_or(0),
        Err(_gone) => 0,
    }
}

/// Bytes that have arrived and were not received; 0 where the socket cannot tell. Takes none of them, nor an error.
#[must_use]
pub fn arrived(fd: RawFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD, which tcp(7) calls SIOCINQ, writes one int, which `bytes` is.
    let answered = unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut bytes) };
    match check(answered) {
        Ok(_) => usize::try_from(bytes).unwrap_or(0),
        Err(_gone) => 0,
    }
}

/// Whether the next byte is one that the peer has marked as urgent: a receive skips it, a splice stops before it for ever.
#[must_use]
pub fn is_at_mark(fd: RawFd) -> bool {
    let mut mark: libc::c_int = 0;
    // SAFETY: SIOCATMARK writes one int, which `mark` is.
    let answered = unsafe { libc::ioctl(fd, SIOCATMARK, &raw mut mark) };
    check(answered).is_ok() && mark != 0
}

/// From `asm/sockios.h`, the same on every Linux but for MIPS, PA-RISC and SPARC.
const SIOCATMARK: libc::Ioctl = 0x8905;

/// Receives into `buffer`; 0 is the end of the peer's data.
///
/// # Errors
/// `WouldBlock` when nothing is there now; `ConnectionReset` and its like.
pub fn recv(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    let (none, flags) = (std::ptr::null::<libc::sockaddr>(), libc::MSG_DONTWAIT);
    // SAFETY: `buffer` is `buffer.len()` writable bytes for the duration of the call; the address is not asked for.
    let result = unsafe {
        libc::syscall(
            libc::SYS_recvfrom,
            fd,
            buffer.as_mut_ptr(),
            buffer.len(),
            flags,
            none,
            none,
        )
    };
    check_long(result)
}

/// Drops up to `len` bytes that have come, of a TCP socket; 0 is the end of the peer's data. The kernel copies nothing
/// (`MSG_TRUNC`, tcp(7)).
///
/// # Errors
/// As [`recv`]; `EFAULT` for a socket of another kind, which would have to copy.
pub fn discard(fd: RawFd, len: usize) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    let (nowhere, none) = (
        std::ptr::null_mut::<u8>(),
        std::ptr::null::<libc::sockaddr>(),
    );
    // SAFETY: with MSG_TRUNC a TCP socket writes nowhere, and any other fails on the null pointer instead of writing.
    let result = unsafe { libc::syscall(libc::SYS_recvfrom, fd, nowhere, len, flags, none, none) };
    check_long(result)
}

/// Accepts one connection, non-blocking, and says whose it is; a Unix socket's peer has no address. One whose peer has gone already
/// still has its address.
///
/// # Errors
/// `WouldBlock` when none waits; `EMFILE`, `ENFILE` when descriptors run out; `ECONNABORTED` and its like for a
/// connection that died in the queue.
pub fn accept_nonblocking(fd: RawFd) -> io::Result<(RawFd, Option<SocketAddr>)> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let mut storage = SockAddrStorage::zeroed();
    let mut len = storage.size_of();
    // SAFETY: an address of any family fits where `view_as` points, and `len` says how much room there is.
    let place = unsafe { storage.view_as::<libc::sockaddr>() };
    // SAFETY: both places outlive the call, and the kernel writes no more than `len` bytes.
    let result = unsafe { libc::accept4(fd, place, &raw mut len, flags) };
    let accepted = check(result)?;
    // SAFETY: zeroes, or what the kernel has written, are an address; it has set the length.
    let peer = unsafe { SockAddr::new(storage, len) };
    Ok((accepted, peer.as_socket()))
}

/// The peer's address; none has a Unix socket.
///
/// # Errors
/// `NotConnected` when the peer has gone already.
pub fn peer_addr(fd: RawFd) -> io::Result<Option<SocketAddr>> {
    Ok(with(fd, Socket::peer_addr)?.as_socket())
}

/// The socket's own address.
///
/// # Errors
/// What `getsockname(2)` answers.
pub fn local_addr(fd: RawFd) -> io::Result<SocketAddr> {
    inet(&with(fd, Socket::local_addr)?)
}

/// Sends FIN after what was sent; receiving goes on.
///
/// # Errors
/// `NotConnected` when the connection has ended already.
pub fn shutdown_write(fd: RawFd) -> io::Result<()> {
    with(fd, |socket| socket.shutdown(Shutdown::Write))
}

/// Ends both directions, which also completes a receive that a ring holds.
///
/// # Errors
/// `NotConnected` when the connection has ended already.
pub fn shutdown_both(fd: RawFd) -> io::Result<()> {
    with(fd, |socket| socket.shutdown(Shutdown::Both))
}

/// Makes the coming close send RST: the peer shall know that what it got is not whole.
///
/// # Errors
/// What `setsockopt(2)` answers.
pub fn reset_on_close(fd: RawFd) -> io::Result<()> {
    with(fd, |socket| socket.set_linger(Some(Duration::ZERO)))
}

/// Asks for a smaller send buffer, in bytes (the kernel doubles it and has a floor). For tests of short sends.
///
/// # Errors
/// What `setsockopt(2)` answers.
pub fn set_send_buffer(fd: RawFd, bytes: usize) -> io::Result<()> {
    with(fd, |socket| socket.set_send_buffer_size(bytes))
}

/// Closes a descriptor that a slot owned.
pub fn close(fd: RawFd) {
    // SAFETY: the slot table hands each descriptor here once, when no operation in the kernel names it any more.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}

/// Gives up ownership, for adoption by a slot.
#[must_use]
pub fn into_raw(fd: OwnedFd) -> RawFd {
    fd.into_raw_fd()
}

/// Takes ownership back from a slot.
#[must_use]
pub fn from_raw(fd: RawFd) -> OwnedFd {
    // SAFETY: the slot that owned the descriptor has just given it up and closes it no more.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A connected pair of Unix stream sockets, for probes and tests.
///
/// # Errors
/// What `socketpair(2)` answers.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (one, other) = Socket::pair(Domain::UNIX, Type::STREAM, None)?;
    Ok((one.into(), other.into()))
}

/// Lets the kernel choose the local port when the peer is known, instead of at `bind(2)`.
fn choose_port_late(fd: RawFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    let len = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(0);
    // SAFETY: the option's value is `len` readable bytes for the duration of the call.
    let result = unsafe {
        libc::setsockopt(
            fd,
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            len,
        )
    };
    check(result).map(drop)
}

fn with<T>(fd: RawFd, call: impl FnOnce(&Socket) -> io::Result<T>) -> io::Result<T> {
    // SAFETY: the descriptor is open, for its slot owns it, and the value is never dropped, so it is not closed here.
    let socket = ManuallyDrop::new(unsafe { Socket::from_raw_fd(fd) });
    debug_assert_eq!(socket.as_raw_fd(), fd);
    call(&socket)
}

fn inet(addr: &SockAddr) -> io::Result<SocketAddr> {
    addr.as_socket()
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))
}

/// Segments that one call of [`send`] takes at most; it leaves the others alone.
pub const SEGMENTS_MAX: usize = 64;
