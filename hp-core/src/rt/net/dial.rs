//! Connections that this side makes.

use super::{Address, Conn};
use crate::rt::{Engine, Instant, Rt};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

impl Rt {
    /// Connects; the deadline bounds the attempt and is cleared afterwards.
    ///
    /// # Errors
    /// What `connect(2)` answers; `TimedOut` after the deadline.
    pub async fn connect(&self, addr: SocketAddr, deadline: Instant) -> io::Result<Conn> {
        self.connect_from(None, addr, deadline).await
    }

    /// The same from a local address, whose port the kernel picks.
    ///
    /// # Errors
    /// As [`Rt::connect`]; `AddrNotAvailable` when the address is not this machine's, or has no free port.
    pub async fn connect_from(
        &self,
        from: Option<IpAddr>,
        addr: SocketAddr,
        deadline: Instant,
    ) -> io::Result<Conn> {
        let key = self.0.io.borrow_mut().start_connect(addr, from)?;
        let conn = Conn::new(self, key);
        conn.set_deadline(Some(deadline));
        poll_fn(|cx| self.0.io.borrow_mut().poll_connect(key, cx)).await?;
        conn.set_deadline(None);
        Ok(conn)
    }

    /// Connects to wherever the server is.
    ///
    /// # Errors
    /// As [`Rt::connect`] and [`Rt::connect_unix`].
    pub async fn connect_to(&self, address: &Address, deadline: Instant) -> io::Result<Conn> {
        match address {
            Address::Tcp(addr) => self.connect(*addr, deadline).await,
            Address::Unix(path) => self.connect_unix(path, deadline).await,
        }
    }

    /// Connects to a Unix stream socket; while the listener's queue is full it is tried again every millisecond.
    ///
    /// # Errors
    /// What `connect(2)` answers; `TimedOut` after the deadline.
    pub async fn connect_unix(&self, path: &Path, deadline: Instant) -> io::Result<Conn> {
        loop {
            match self.0.kernel.connect_unix(path) {
                Ok(socket) => return self.adopt(socket),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Err(_queue_is_full) if self.now() >= deadline => {
                    return Err(io::Error::from(io::ErrorKind::TimedOut));
                }
                Err(_queue_is_full) => self.sleep(UNIX_RETRY_PAUSE).await,
            }
        }
    }

    /// Sends datagrams to one peer and receives its own. Each write of a turn is one datagram, as long as it is the only one;
    /// each receive is one, up to 4 KiB of it, and an empty one counts as the end. For the readiness engines.
    ///
    /// # Errors
    /// What `socket(2)` and `connect(2)` answer; `Unsupported` on a ring.
    pub fn connect_datagram(&self, addr: SocketAddr) -> io::Result<Conn> {
        if self.engine() == Engine::Uring {
            return Err(io::Error::from(io::ErrorKind::Unsupported));
        }
        let socket = self.0.kernel.connect_datagram(addr)?;
        let key = self.0.io.borrow_mut().adopt_datagram(socket.into_raw())?;
        Ok(Conn::new(self, key))
    }
}

const UNIX_RETRY_PAUSE: Duration = Duration::from_millis(1);
