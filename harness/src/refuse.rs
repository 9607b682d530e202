//! A backend that is not there: a port that is taken and listened on by nobody, so that the kernel refuses every connection to it.
//!
//! A port that is merely free could be somebody else's by the time it is tried.

use hp_core::obs::notice::say;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::clock;

/// Takes a port, says which as a server would, and keeps it until the process is ended.
///
/// # Errors
/// What the kernel answers to taking the port.
pub fn run() -> io::Result<()> {
    let (_taken, addr) = take()?;
    say(format_args!("listening on {addr}"));
    loop {
        clock::pause(Duration::from_secs(3600));
    }
}

/// A socket that is bound and does not listen, with its address.
fn take() -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let addr = socket.local_addr()?.as_socket();
    let addr =
        addr.ok_or_else(|| io::Error::other("the kernel gave a socket of IPv4 another address"))?;
    Ok((socket, addr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_and_not_listened_on_refuses() {
        let (_taken, addr) = take().unwrap();
        let client = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        let error = client
            .connect_timeout(&addr.into(), Duration::from_secs(5))
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
