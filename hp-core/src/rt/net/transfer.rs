//! Connections that move from one runtime to another: accepted by one and served by the other, or released and adopted.

use super::{Conn, Socket};
use crate::rt::Rt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;

impl Conn {
    /// Takes the connection out of its runtime, so that another one can [`Rt::adopt_released`] it: when nothing is queued, nothing
    /// received is unread, nothing has failed, and the kernel owes nothing, which on a ring is so only before the first receive.
    /// What arrives meanwhile is found by the next runtime.
    ///
    /// # Errors
    /// The connection itself, when it must stay.
    pub fn release(mut self) -> Result<Released, Self> {
        let peer = self.peer_addr();
        let released = self.rt.0.io.borrow_mut().release(self.key);
        match released {
            Some(fd) => {
                self.released = true;
                let socket = self.rt.0.kernel.own(fd);
                Ok(Released { socket, peer })
            }
            None => Err(self),
        }
    }

    /// The same for a connection that idles, on every engine: what is armed for it in the kernel is called back first, which takes a
    /// turn or two of a ring. Dropping the future closes the connection.
    ///
    /// # Errors
    /// The connection itself, when it must stay: what came before the kernel gave it back is still to be received here.
    pub async fn release_idle(self) -> Result<Released, Self> {
        poll_fn(|cx| self.rt.0.io.borrow_mut().poll_called_back(self.key, cx)).await;
        self.release()
    }
}

impl Rt {
    /// Takes a connected socket over, from another worker or process.
    ///
    /// # Errors
    /// What `fcntl(2)` or registration answers; `NotConnected` when the peer has gone already.
    pub fn adopt(&self, socket: impl Into<Socket>) -> io::Result<Conn> {
        let key = self.0.io.borrow_mut().adopt(socket.into().into_raw())?;
        Ok(Conn::new(self, key))
    }

    /// Takes over a connection that another worker accepted, on the same engine.
    ///
    /// # Errors
    /// What registration answers.
    pub fn adopt_accepted(&self, accepted: Accepted) -> io::Result<Conn> {
        let fd = accepted.socket.into_raw();
        let key = self.0.io.borrow_mut().adopt_accepted(fd, accepted.peer)?;
        Ok(Conn::new(self, key))
    }

    /// Takes over a connection that another runtime released, on the same engine.
    ///
    /// # Errors
    /// What registration answers.
    pub fn adopt_released(&self, released: Released) -> io::Result<Conn> {
        let fd = released.socket.into_raw();
        let key = self.0.io.borrow_mut().adopt_accepted(fd, released.peer)?;
        Ok(Conn::new(self, key))
    }
}

/// An accepted connection that no runtime has yet. Closes when dropped.
#[derive(Debug)]
pub struct Accepted {
    pub(super) socket: Socket,
    /// None has a Unix socket.
    pub(super) peer: Option<SocketAddr>,
}

/// A connection that one runtime had and another one may take. Closes when dropped; may cross threads.
#[derive(Debug)]
pub struct Released {
    socket: Socket,
    /// None has a Unix socket.
    peer: Option<SocketAddr>,
}

impl Released {
    /// Whether bytes, the peer's end or an error are there.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.socket.has_news()
    }
}
