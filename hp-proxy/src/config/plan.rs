//! The complete, immutable description of what runs. Workers are built from it; nothing reads flags after it.

use crate::config::forwarding::Forwarding;
use hp_core::rt::Engine;
use hp_core::rt::net::{Address, PortUse};
use hp_core::wire::http1::head::HeadLimits;
use std::net::SocketAddr;
use std::time::Duration;

/// Everything a run of the proxy needs to know.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where clients come in.
    pub listen: Listen,
    /// Servers that requests go to, in turn; at least one.
    pub backends: Vec<Backend>,
    /// Threads, each with a runtime of its own; at least one. With [`Engine::Threads`] they only accept.
    pub workers: u32,
    /// How sockets are driven.
    pub engine: Engine,
    /// What is told of clients.
    pub forwarding: Forwarding,
    /// Bounds in time.
    pub timeouts: Timeouts,
    /// Bounds in size and number.
    pub limits: Limits,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// As the user wrote it, for messages.
    pub name: String,
    /// Where it is.
    pub addr: Address,
}

/// Where clients come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Addresses to listen on, at least one; port 0 takes a free one.
    pub addresses: Vec<Address>,
    /// With whom ports are shared.
    pub port: PortUse,
    /// Permission bits of Unix sockets; `None`: those that the umask leaves.
    pub socket_mode: Option<u32>,
}

impl From<SocketAddr> for Listen {
    fn from(addr: SocketAddr) -> Self {
        Self {
            addresses: vec![Address::Tcp(addr)],
            port: PortUse::Exclusive,
            socket_mode: None,
        }
    }
}

/// Bounds in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first byte of a request (or the connection's begin) to the end of its head; then 408.
    pub head: Duration,
    /// Between two pieces of a body, in either direction, receiving or sending; the grace of [`Limits::body_rate_min`].
    pub body: Duration,
    /// From a request that expects 100 to the proxy's own, where the backend has said nothing; `None`: the backend's is waited
    /// for.
    pub until_continue: Option<Duration>,
    /// From a request sent to the head of its response; then 504.
    pub response: Duration,
    /// For one connection attempt to a backend; then the next backend, at last 504.
    pub connect: Duration,
    /// How long an idle client connection is kept.
    pub keepalive: Duration,
    /// How long a request waits for a connection when the backends have all that they may have; then 503.
    pub queue: Duration,
    /// How long an idle backend connection is kept. Below the usual 60 s of servers, so that we close first.
    pub upstream_idle: Duration,
    /// How long nothing may move in a tunnel, in either direction; then both ends are reset.
    pub tunnel: Duration,
    /// How long a drain waits for requests in flight.
    pub drain: Duration,
}

/// Bounds in size and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of a head, both ways.
    pub head: HeadLimits,
    /// Bytes a second that a client sends or takes of a body while it is waited for; 0: any.
    pub body_rate_min: u64,
    /// Bytes of a request's content; 0: no limit.
    pub body_bytes_max: u64,
    /// Idle connections kept per worker and backend; per backend where threads share them.
    pub idle_conns_max: u32,
    /// Connections per backend, all workers together; 0: no limit.
    pub upstream_conns_max: u32,
    /// Requests of one worker, or of all threads together, that may wait for a backend connection; one more is answered 503 at once.
    pub queue_len_max: u32,
    /// Threads that serve a connection each, with [`Engine::Threads`]; at least one.
    pub threads_max: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
            until_continue: Some(Duration::from_secs(1)),
            response: Duration::from_secs(30),
            connect: Duration::from_secs(3),
            keepalive: Duration::from_secs(75),
            queue: Duration::from_secs(1),
            upstream_idle: Duration::from_secs(50),
            tunnel: Duration::from_secs(3600),
            drain: Duration::from_secs(30),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            body_rate_min: 1024,
            body_bytes_max: 0,
            idle_conns_max: 1024,
            upstream_conns_max: 0,
            queue_len_max: 10_000,
            threads_max: 4096,
        }
    }
}

impl Limits {
    /// Connections per backend where all share them; `None`: no limit.
    #[must_use]
    pub fn upstream_conns_of_all(&self) -> Option<u32> {
        (self.upstream_conns_max > 0).then_some(self.upstream_conns_max)
    }

    /// How many connections per backend one of `workers` workers may have; `None`: no limit. The shares add up to the
    /// limit, so no worker has to ask another.
    #[must_use]
    pub fn upstream_conns_of(&self, worker: u32, workers: u32) -> Option<u32> {
        if self.upstream_conns_max == 0 {
            return None;
        }
        let rest = self.upstream_conns_max % workers;
        Some(self.upstream_conns_max / workers + u32::from(worker < rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_the_workers_add_up_to_the_limit() {
        for (limit, workers) in [(16, 1), (16, 2), (17, 4), (7, 7)] {
            let limits = Limits {
                upstream_conns_max: limit,
                ..Limits::default()
            };
            let shares =
                (0..workers).map(|worker| limits.upstream_conns_of(worker, workers).unwrap());
            assert_eq!(shares.sum::<u32>(), limit);
        }
        assert_eq!(Limits::default().upstream_conns_of(0, 2), None);
    }
}
