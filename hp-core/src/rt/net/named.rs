//! Connections that somebody else owns: one task answers on behalf of many, and many write into one.

use super::Conn;
use crate::base::slab::Key;
use crate::rt::{Instant, Rt};
use std::io::{self, IoSlice};
use std::net::SocketAddr;

/// Names a connection without owning it. Once that was given up, or parked, the name leads to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnName(Key);

impl ConnName {
    /// The connection's place among those of its runtime. None has the same at the same time; one that comes after it may.
    #[must_use]
    pub fn place(self) -> u32 {
        self.0.index
    }
}

impl Conn {
    /// A name for the connection.
    #[must_use]
    #[inline]
    pub fn name(&self) -> ConnName {
        ConnName(self.key)
    }

    /// Writes bytes that leave at the end of the runtime's turn, in one call with all others that are gathered for this connection,
    /// whatever is written to others in between. For a connection that many tasks write to; [`Conn::write`] keeps the order.
    ///
    /// # Errors
    /// As [`Conn::write`].
    pub fn gather(&self, bytes: &[u8]) -> io::Result<()> {
        self.rt.0.io.borrow_mut().gather(self.key, bytes)
    }

    /// Bytes that were written, and that the socket has not taken or, once sending has failed, never will: what the peer cannot
    /// have read. What was given to a write that failed was not written.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.rt.0.io.borrow().unsent(self.key)
    }

    /// Those of [`Conn::unsent`] that will never leave.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.rt.0.io.borrow().lost(self.key)
    }

    /// Takes back what was written in this turn and has not been offered to the socket: it never leaves. For whoever learns that
    /// the peer is not to have it; closing alone would send it first.
    pub fn withdraw(&self) {
        self.rt.0.io.borrow_mut().withdraw(self.key);
    }
}

impl Rt {
    /// Sends bytes on a connection of this runtime, as [`Conn::write_vectored`] does.
    ///
    /// # Errors
    /// As there; `NotConnected` when the name leads to nothing.
    pub fn write_to(&self, to: ConnName, pieces: &[IoSlice<'_>]) -> io::Result<()> {
        let mut io = self.0.io.borrow_mut();
        if !io.is_open(to.0) {
            return Err(io::Error::from(io::ErrorKind::NotConnected));
        }
        io.write_vectored(to.0, pieces)
    }

    /// Whether bytes, the end or an error wait to be received by whoever owns the connection.
    #[must_use]
    #[inline]
    pub fn has_news_of(&self, conn: ConnName) -> bool {
        self.0.io.borrow().has_news(conn.0)
    }

    /// Sets the deadline of a connection, as [`Conn::set_deadline`] does; of none where the name leads to nothing.
    #[inline]
    pub fn set_deadline_of(&self, conn: ConnName, deadline: Option<Instant>) {
        let mut io = self.0.io.borrow_mut();
        if io.is_open(conn.0) {
            io.set_deadline(conn.0, deadline);
        }
    }

    /// The peer's address; none where the name leads to nothing.
    #[must_use]
    pub fn peer_addr_of(&self, conn: ConnName) -> Option<SocketAddr> {
        self.0.io.borrow().peer(conn.0)
    }
}
