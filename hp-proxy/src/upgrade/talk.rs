//! What predecessor and successor say to each other: packets whose first byte is their kind.
//!
//! ```text
//! predecessor ── Text*, Sockets*, End ──► successor      what is passed on
//!             ◄──────── Prepared ────────                its workers run; which listeners it takes
//!             ──────────── Go ──────────►                nobody accepts from them any more
//!             ◄────────── Ready ─────────                its listeners accept
//! ```

use hp_core::sys::rights::{self, PACKET_BYTES_MAX, PACKET_FDS_MAX, Packet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// A packet's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A piece of the manifest.
    Text,
    /// Sockets, in the order of the manifest.
    Sockets,
    /// Everything was passed on.
    End,
    /// The places of the listeners that are taken, four bytes each, the least significant first.
    Prepared,
    Go,
    Ready,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Text,
        Self::Sockets,
        Self::End,
        Self::Prepared,
        Self::Go,
        Self::Ready,
    ];

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.byte() == byte)
    }

    fn byte(self) -> u8 {
        match self {
            Self::Text => b'T',
            Self::Sockets => b'S',
            Self::End => b'E',
            Self::Prepared => b'P',
            Self::Go => b'G',
            Self::Ready => b'R',
        }
    }
}

/// What was said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) kind: Kind,
    pub(super) bytes: Vec<u8>,
    pub(super) fds: Vec<OwnedFd>,
}

/// One end of the conversation.
#[derive(Debug)]
pub(super) struct Talk {
    socket: OwnedFd,
}

impl Talk {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Says something.
    ///
    /// # Errors
    /// `WouldBlock` when the other end has not listened for a while; `BrokenPipe` when it has gone.
    pub(super) fn say(&self, kind: Kind, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let packet = [&[kind.byte()], bytes].concat();
        rights::send(self.socket.as_fd(), &packet, fds)
    }

    /// What the other end has said; `None` when it has gone.
    ///
    /// # Errors
    /// `WouldBlock` when it has said nothing; `InvalidData` when it means nothing.
    pub(super) fn hear(&self) -> io::Result<Option<Said>> {
        let Some(Packet { mut bytes, fds }) = rights::recv(self.socket.as_fd())? else {
            return Ok(None);
        };
        let kind = Kind::of(bytes.remove(0));
        let kind = kind.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(Some(Said { kind, bytes, fds }))
    }

    /// Waits for what the other end says next.
    ///
    /// # Errors
    /// `TimedOut`; `UnexpectedEof` when it has gone; otherwise as [`Talk::hear`].
    pub(super) fn next(&self, timeout: Duration) -> io::Result<Said> {
        if !self.wait(timeout)? {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        self.hear()?
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }

    /// Waits until something was said or the other side has gone; `false`: neither in this time.
    ///
    /// # Errors
    /// What `poll(2)` answers.
    pub(super) fn wait(&self, timeout: Duration) -> io::Result<bool> {
        rights::wait(self.socket.as_fd(), timeout)
    }
}

/// Bytes of a packet besides its kind.
pub(super) const TEXT_BYTES_MAX: usize = PACKET_BYTES_MAX - 1;
pub(super) const SOCKETS_MAX: usize = PACKET_FDS_MAX;
/// More than any plan's listeners and state come to.
pub(super) const TEXT_BYTES_TOTAL_MAX: usize = 64 * 1024 * 1024;
/// More than a process may have open.
pub(super) const SOCKETS_TOTAL_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_arrives_as_it_was_said_and_nonsense_is_told() {
        let (one, other) = rights::pair().unwrap();
        let (one, other) = (Talk::new(one), Talk::new(other));
        for kind in Kind::ALL {
            one.say(kind, b"bytes", &[]).unwrap();
            let said = other.next(Duration::from_secs(10)).unwrap();
            assert_eq!((said.kind, said.bytes.as_slice()), (kind, &b"bytes"[..]));
        }
        rights::send(one.socket.as_fd(), b"?", &[]).unwrap();
        let nonsense = other.hear().unwrap_err();
        assert_eq!(nonsense.kind(), io::ErrorKind::InvalidData);
        let silence = other.next(Duration::ZERO).unwrap_err();
        assert_eq!(silence.kind(), io::ErrorKind::TimedOut);
        drop(one);
        let end = other.next(Duration::from_secs(10)).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }
}
