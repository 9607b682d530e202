//! Descriptors that pass from one process to another: over a pair of sockets (`SCM_RIGHTS`, unix(7)), or left open for whoever
//! is started.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};
use rustix::{cmsg_space, net};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// What comes over a pair at once.
#[derive(Debug)]
pub struct Packet {
    /// At most [`PACKET_BYTES_MAX`].
    pub bytes: Vec<u8>,
    /// At most [`PACKET_FDS_MAX`]; closed in processes that are started.
    pub fds: Vec<OwnedFd>,
}

/// Two sockets that keep packets apart; both are closed in processes that are started.
///
/// # Errors
/// What `socketpair(2)` answers.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    Ok(socketpair(family, kind, SocketFlags::CLOEXEC, None)?)
}

/// Sends a packet, whole or not at all. The descriptors stay open here, too.
///
/// # Errors
/// `WouldBlock` when the other end has not read enough yet; `BrokenPipe` when it is closed, and `ConnectionReset` once before where it
/// had not read everything; `InvalidInput` for a packet that is empty or too large.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if bytes.is_empty() || bytes.len() > PACKET_BYTES_MAX || fds.len() > PACKET_FDS_MAX {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(PACKET_FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)?;
    Ok(())
}

/// Receives a packet that is there; `None` when the other end is closed.
///
/// # Errors
/// `WouldBlock` when none is there; `InvalidData` for one that is larger than the other end may send.
pub fn recv(socket: BorrowedFd<'_>) -> io::Result<Option<Packet>> {
    let mut bytes = vec![0; PACKET_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(PACKET_FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        flags,
    );
    let received = match received {
        Err(Errno::CONNRESET) => return Ok(None), // It was closed with packets unread.
        other => other?,
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            fds.extend(more);
        }
    }
    let is_cut = received.flags & (ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    if !is_cut.is_empty() {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    bytes.truncate(received.bytes);
    Ok((!bytes.is_empty()).then_some(Packet { bytes, fds }))
}

/// Waits until a packet or the end is there; says whether it came within `timeout`.
///
/// # Errors
/// What `poll(2)` answers.
pub fn wait(socket: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    let mut wanted = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    let timeout = Timespec::try_from(timeout).ok();
    match poll(&mut wanted, timeout.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false), // The caller looks at the time.
        Err(error) => Err(error.into()),
    }
}

/// Lets a descriptor stay open in processes that are started from now on; the number is to be told to whom it is for.
///
/// # Errors
/// What `fcntl(2)` answers.
pub fn leave_open(fd: &OwnedFd) -> io::Result<RawFd> {
    fcntl_setfd(fd, FdFlags::empty())?;
    Ok(fd.as_raw_fd())
}

/// Takes a descriptor over that whoever started this process left open for it. From now on it is this process's own, and closed in
/// processes that it starts.
///
/// # Errors
/// `InvalidInput` for one of the standard streams, and for one that this process opened or took over itself; `EBADF` where
/// nothing is open.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number <= STANDARD_STREAMS_LAST {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: it is borrowed for two calls that answer EBADF where nothing is open; no other thread runs yet that could close it.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    if fcntl_getfd(borrowed)?.contains(FdFlags::CLOEXEC) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    // SAFETY: all that this program opens is closed on exec, which this was not: it came from outside, and nobody here has it. It is
    // closed on exec from now on, so a second call refuses it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Whether a descriptor is an end of a [`pair`], as far as the kernel can tell: a Unix socket that keeps packets apart. A wait for
/// packets on anything else could last for ever.
///
/// # Errors
/// `ENOTSOCK` for what is no socket.
pub fn is_end_of_pair(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let is_unix = net::sockopt::socket_domain(fd)? == AddressFamily::UNIX;
    let keeps_apart = net::sockopt::socket_type(fd)? == SocketType::SEQPACKET;
    Ok(is_unix && keeps_apart && !net::sockopt::socket_acceptconn(fd)?)
}

/// What a listening socket is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BoundTo {
    /// An address and a port.
    Inet(std::net::SocketAddr),
    /// A name in the file system.
    Path(std::path::PathBuf),
}

/// What a stream socket that listens is bound to, and whether others may bind the same (`SO_REUSEPORT`).
///
/// # Errors
/// `InvalidInput` for anything else, abstract names included.
pub fn listening_on(fd: BorrowedFd<'_>) -> io::Result<(BoundTo, bool)> {
    let socket = socket2::SockRef::from(&fd);
    let is_stream = net::sockopt::socket_type(fd)? == SocketType::STREAM;
    if !is_stream || !net::sockopt::socket_acceptconn(fd)? {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let addr = socket.local_addr()?;
    if let Some(path) = addr.as_pathname() {
        return Ok((BoundTo::Path(path.to_owned()), false));
    }
    let inet = addr.as_socket();
    let inet = inet.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    // What is accepted inherits it.
    socket.set_tcp_nodelay(true)?;
    Ok((BoundTo::Inet(inet), socket.reuse_port()?))
}

/// Bytes of a packet.
pub const PACKET_BYTES_MAX: usize = 32 * 1024;
/// Descriptors of a packet; the kernel takes 253 (unix(7)).
pub const PACKET_FDS_MAX: usize = 64;
const STANDARD_STREAMS_LAST: RawFd = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn packets_and_descriptors_come_as_they_were_sent() {
        let (one, other) = pair().unwrap();
        let streams: Vec<(UnixStream, UnixStream)> = (0..PACKET_FDS_MAX)
            .map(|_| UnixStream::pair().unwrap())
            .collect();
        let fds: Vec<BorrowedFd<'_>> = streams.iter().map(|(end, _)| end.as_fd()).collect();
        send(one.as_fd(), b"first", &[]).unwrap();
        send(one.as_fd(), &[7; PACKET_BYTES_MAX], &fds).unwrap();
        let first = recv(other.as_fd()).unwrap().unwrap();
        assert_eq!(
            (first.bytes.as_slice(), first.fds.len()),
            (&b"first"[..], 0)
        );
        let second = recv(other.as_fd()).unwrap().unwrap();
        assert_eq!(second.bytes, vec![7; PACKET_BYTES_MAX]);
        assert_eq!(second.fds.len(), PACKET_FDS_MAX);
        for (number, (fd, (_, far))) in (0..).zip(second.fds.into_iter().zip(&streams)) {
            assert!(fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC));
            UnixStream::from(fd).write_all(&[number]).unwrap();
            let mut byte = [0];
            (&mut &*far).read_exact(&mut byte).unwrap();
            assert_eq!(byte, [number]);
        }
        let none = recv(other.as_fd()).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::WouldBlock);
        drop(one);
        assert!(recv(other.as_fd()).unwrap().is_none());
    }

    #[test]
    fn what_is_too_large_is_refused_and_a_closed_end_is_told() {
        let (one, other) = pair().unwrap();
        for bytes in [0, PACKET_BYTES_MAX + 1] {
            let refused = send(one.as_fd(), &vec![0; bytes], &[]).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        }
        assert!(!wait(other.as_fd(), Duration::ZERO).unwrap());
        send(one.as_fd(), b"x", &[]).unwrap();
        assert!(wait(other.as_fd(), Duration::ZERO).unwrap());
        drop(other);
        // The first one is told that what it sent was not read.
        for told in [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe] {
            let broken = send(one.as_fd(), b"x", &[]).unwrap_err();
            assert_eq!(broken.kind(), told);
        }
    }

    #[test]
    fn only_what_was_left_open_is_taken_over_and_only_once() {
        let (one, other) = pair().unwrap();
        for number in [-1, 0, 2, 1_000_000, one.as_raw_fd()] {
            inherited(number).unwrap_err();
        }
        let number = leave_open(&one).unwrap();
        assert_eq!(number, std::os::fd::IntoRawFd::into_raw_fd(one));
        let taken = inherited(number).unwrap();
        inherited(number).unwrap_err();
        send(taken.as_fd(), b"x", &[]).unwrap();
        assert_eq!(recv(other.as_fd()).unwrap().unwrap().bytes, b"x");
    }

    #[test]
    fn an_end_of_a_pair_is_told_from_what_else_may_be_open() {
        let (one, other) = pair().unwrap();
        assert!(is_end_of_pair(one.as_fd()).unwrap() && is_end_of_pair(other.as_fd()).unwrap());
        let (stream, _far) = UnixStream::pair().unwrap();
        let listener = crate::sys::socket::listen("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        for fd in [stream.as_fd(), listener.as_fd()] {
            assert!(!is_end_of_pair(fd).unwrap());
        }
        is_end_of_pair(tempfile::tempfile().unwrap().as_fd()).unwrap_err();
    }

    #[test]
    fn a_listening_socket_says_where() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let named = UnixListener::bind(&path).unwrap();
        assert_eq!(
            listening_on(named.as_fd()).unwrap(),
            (BoundTo::Path(path.clone()), false)
        );
        let addr = "127.0.0.1:0".parse().unwrap();
        let socket = crate::sys::socket::listen(addr, 1).unwrap();
        let (bound, is_shared) = listening_on(socket.as_fd()).unwrap();
        assert!(matches!(bound, BoundTo::Inet(addr) if addr.port() != 0));
        assert!(is_shared);
        let connected = UnixStream::connect(&path).unwrap();
        listening_on(connected.as_fd()).unwrap_err();
    }
}
