//! When a server listens, and where.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::Order;
use crate::clock;
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::process::{Process, parse_listening};
use crate::subject::{Ready, Values};

/// Waits until a server listens; all addresses on which it does.
pub(super) fn wait_ready(
    process: &mut Process,
    order: &Order<'_>,
    values: &Values,
    interrupt: &Interrupt,
) -> Result<Vec<SocketAddr>, Error> {
    let deadline = clock::now() + READY_TIMEOUT;
    match order.subject.ready {
        Ready::Line => {
            let late = "printed too few lines `listening on ADDR`";
            process.wait_for(deadline, interrupt, late, |stderr| {
                listening(stderr, order.listeners as usize)
            })
        }
        Ready::Port => {
            let addr = values
                .get("listen")
                .and_then(|text| text.parse().ok())
                .expect("`values` made it of an address");
            let late = "its port accepted no connection";
            process.wait_for(deadline, interrupt, late, |_stderr| {
                accepts(addr).then(|| vec![addr])
            })
        }
    }
}

/// The addresses of all whole lines `listening on ADDR`, once there are so many.
fn listening(stderr: &str, count: usize) -> Option<Vec<SocketAddr>> {
    let mut addrs = Vec::new();
    let mut rest = stderr;
    while let Some((line, after)) = rest.split_once('\n') {
        addrs.extend(parse_listening(&format!("{line}\n")));
        rest = after;
    }
    (addrs.len() >= count).then_some(addrs)
}

/// Whether a connection is accepted there.
fn accepts(addr: SocketAddr) -> bool {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP));
    socket.is_ok_and(|socket| {
        socket
            .connect_timeout(&addr.into(), CONNECT_TIMEOUT)
            .is_ok()
    })
}

/// How long a server may take until it listens.
pub(super) const READY_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lines_are_waited_for() {
        let text = "listening on 127.0.1.1:5\nengine epoll\nlistening on 127.0.1.2:6\n";
        assert_eq!(listening(text, 2).map(|addrs| addrs.len()), Some(2));
        assert_eq!(listening(text, 3), None);
        assert_eq!(listening("listening on 127.0.1.1:5", 1), None);
    }
}
