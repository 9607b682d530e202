//! The complete, immutable description of what runs. Workers are built from it; nothing reads flags after it.

use crate::config::forwarding::{self, Forwarding};
use crate::config::names::{Dns, Source};
use crate::route::RouteId;
use crate::route::fields::FieldChanges;
use crate::route::key::Key;
use crate::route::rewrite::PathChange;
use crate::route::rule::Rule;
use crate::route::split::Split;
use crate::route::table::Table;
use crate::route::template::Template;
use crate::upstream::balance::member::{Member, Standing};
use crate::upstream::balance::{self, Balancing, Method};
use crate::upstream::mux;
use crate::upstream::sticky::{Cookies, Secret, Sticky};
use crate::upstream::{Borrow, Identity};
use hp_core::http::detour::DetourLimits;
use hp_core::rt::net::{Address, PortUse};
use hp_core::rt::{Engine, Instant};
use hp_core::wire::http1::head::HeadLimits;
use ipnet::IpNet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything a run of the proxy needs to know. Parts name each other by their place here; their names, and the addresses of
/// listeners and endpoints, tell which parts of two plans are the same.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where it listens; at least one.
    pub listeners: Vec<Listener>,
    /// Groups of servers that requests go to; at least one where a route forwards.
    pub upstreams: Vec<Upstream>,
    /// What becomes of requests.
    pub routes: Vec<Route>,
    /// Which route takes a request.
    pub table: Table,
    /// Threads, each with a runtime of its own; at least one. With [`Engine::Threads`] they only accept.
    pub workers: u32,
    /// How sockets are driven.
    pub engine: Engine,
    /// How long a worker looks for work again and again before it sleeps, up to a second; zero with [`Engine::Threads`].
    pub spin: Duration,
    /// What is told of clients.
    pub forwarding: Forwarding,
    /// Bounds in time.
    pub timeouts: Timeouts,
    /// Bounds in size and number.
    pub limits: Limits,
    /// Signs the cookies of upstreams that have no key of their own. A plan that takes the place of another one keeps it: clients
    /// have such cookies.
    pub process_key: Secret,
    /// The file that names the process in charge.
    pub pid_file: Option<PathBuf>,
    /// How names of servers are looked up.
    pub dns: Dns,
}

/// A listener's number; it stays the same from plan to plan, and in the first plan it is its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenerId(pub u32);

/// Where connections are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Address to listen on; port 0 takes a free one.
    pub address: Address,
    /// With whom the port is shared.
    pub port: PortUse,
    /// Permission bits of a Unix socket; `None`: those that the umask leaves.
    pub socket_mode: Option<u32>,
    /// What is served there.
    pub serves: Serves,
    /// Peers whose Forwarded and X-Forwarded-* are believed there, and appended to; those of all others are dropped.
    pub trusted_proxies: Vec<IpNet>,
}

/// What a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// The routes.
    Routes,
    /// What operators ask the proxy itself.
    Admin,
}

/// A group of servers that answer alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its name in routes.
    pub name: String,
    /// The servers; none while no name of `sources` resolves, else at least one.
    pub endpoints: Vec<Endpoint>,
    /// What the endpoints come from, where one of them has a name that is looked up; else nothing.
    pub sources: Vec<Source>,
    /// How they are picked.
    pub balance: Balance,
    /// How clients are kept with their endpoints; `None`: not at all.
    pub sticky: Option<Sticky>,
    /// Idle connections kept per worker and endpoint; per endpoint where threads share them.
    pub idle_conns_max: u32,
    /// Connections per endpoint, all workers together; 0: no limit.
    pub conns_max: u32,
    /// For one connection attempt to an endpoint; then the next one, at last 504.
    pub connect_timeout: Duration,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// How long a connection is used: up to a tenth less, by lot; `None`: no limit.
    pub conn_age_max: Option<Duration>,
    /// Exchanges of one connection; 0: no limit.
    pub conn_uses_max: u32,
    /// Connections per worker and endpoint that are open before anybody asks; per endpoint where threads share them.
    pub prewarm: u32,
    /// When a worker asks others for connections; threads share them in any case.
    pub borrow: Borrow,
    /// How far requests share connections; `None`: each has one of its own.
    pub multiplex: Option<mux::Bounds>,
}

/// How an upstream picks an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// The algorithm.
    pub method: Method,
    /// What requests are hashed by; there for the methods that go by a key, and for them alone.
    pub key: Option<Key>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// As the user wrote it, or as a name server says it, for messages.
    pub name: String,
    /// Where it is.
    pub addr: Address,
    /// Other addresses of the same server, dialled where `addr` does not answer; none of them is `addr`.
    pub others: Vec<SocketAddr>,
    /// Its share beside the others', 0 to [`WEIGHT_MAX`](crate::upstream::balance::member::WEIGHT_MAX).
    pub weight: u32,
    /// Used while nobody with a lower number can be, 0 to [`PRIORITY_MAX`].
    pub priority: u32,
    /// Used while nobody can be that is no backup.
    pub is_backup: bool,
    /// How long its weight grows when it comes back; `None`: it has all of it at once.
    pub slow_start: Option<Duration>,
    /// Whether it is given requests.
    pub standing: Standing,
}

/// The last priority.
pub const PRIORITY_MAX: u32 = 1000;

impl Endpoint {
    /// Its group among those that are tried one after the other.
    #[must_use]
    pub fn group(&self) -> u32 {
        let after_all_others = u32::from(self.is_backup) * (PRIORITY_MAX + 1);
        self.priority + after_all_others
    }

    /// One like any other.
    #[must_use]
    pub fn new(name: String, addr: Address) -> Self {
        Self {
            name,
            addr,
            others: Vec::new(),
            weight: 1,
            priority: 0,
            is_backup: false,
            slow_start: None,
            standing: Standing::Serving,
        }
    }
}

/// What becomes of the requests of one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// For messages; unique.
    pub name: String,
    /// Who answers.
    pub action: Action,
    /// What the upstream sees of the path.
    pub path: PathChange,
    /// What the upstream sees of the request's fields.
    pub request: FieldChanges,
    /// What the client sees of the answer's fields.
    pub response: FieldChanges,
    /// From a request sent to the head of its response; then 504.
    pub response_timeout: Duration,
    /// Who gets copies of requests, where somebody does.
    pub mirror: Option<Mirror>,
}

/// An upstream that gets copies of a route's requests, and whose answers nobody reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// By place in the plan.
    pub upstream: u32,
    /// How many of the requests, 0 to 1,000,000 of a million.
    pub share_millionths: u32,
    /// Bytes of content; a request with more is not copied.
    pub body_bytes_max: u32,
}

impl Mirror {
    /// Whether a request is copied, for a number that is spread evenly over all of `u32`.
    #[must_use]
    pub fn takes(&self, draw: u32) -> bool {
        u64::from(draw) * MILLION < u64::from(self.share_millionths) << u32::BITS
    }
}

const MILLION: u64 = 1_000_000;

/// Who answers the requests of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Upstreams, each its share.
    Forward(Split),
    /// The proxy, with another place to ask.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// Where to.
        to: Template,
    },
    /// The proxy, always with the same.
    Answer {
        /// 200 to 599.
        status: u16,
        /// The type of the content; none where there is no content.
        content_type: String,
        /// The content.
        body: Vec<u8>,
    },
    /// Nobody for the time being: 503.
    Maintenance,
}

/// Where clients of a plan with one route come in.
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

/// A plan with one upstream for all requests.
#[derive(Clone, Debug)]
pub struct OneRoute {
    /// Where clients come in.
    pub listen: Listen,
    /// Servers that requests go to, in turn; at least one.
    pub backends: Vec<Endpoint>,
    /// See [`Plan::workers`].
    pub workers: u32,
    /// See [`Plan::engine`].
    pub engine: Engine,
    /// See [`Plan::forwarding`].
    pub forwarding: Forwarding,
    /// See [`Plan::timeouts`].
    pub timeouts: Timeouts,
    /// See [`Plan::limits`].
    pub limits: Limits,
}

impl From<OneRoute> for Plan {
    fn from(one: OneRoute) -> Self {
        let OneRoute {
            listen,
            backends,
            workers,
            engine,
            forwarding,
            timeouts,
            limits,
        } = one;
        Self {
            listeners: listen
                .addresses
                .into_iter()
                .map(|address| Listener {
                    address,
                    port: listen.port,
                    socket_mode: listen.socket_mode,
                    serves: Serves::Routes,
                    trusted_proxies: forwarding.trusted_proxies.clone(),
                })
                .collect(),
            upstreams: vec![Upstream {
                name: String::from(NAME),
                endpoints: backends,
                sources: Vec::new(),
                balance: Balance::default(),
                sticky: None,
                idle_conns_max: limits.idle_conns_max,
                conns_max: limits.upstream_conns_max,
                connect_timeout: timeouts.connect,
                idle_timeout: timeouts.upstream_idle,
                conn_age_max: Some(CONN_AGE_MAX),
                conn_uses_max: 0,
                prewarm: 0,
                borrow: Upstream::borrow_by_default(limits.upstream_conns_max),
                multiplex: None,
            }],
            routes: vec![Route {
                name: String::from(NAME),
                action: Action::Forward(Split::all_to(0)),
                path: PathChange::None,
                request: FieldChanges::default(),
                response: FieldChanges::default(),
                response_timeout: timeouts.response,
                mirror: None,
            }],
            table: Table::new(vec![(RouteId(0), Rule::default())]),
            workers,
            engine,
            spin: Duration::ZERO,
            forwarding,
            timeouts,
            limits,
            process_key: Secret::random(),
            pid_file: None,
            dns: Dns::default(),
        }
    }
}

/// How far requests share connections where it is said that they do, and no more.
pub const MULTIPLEX: mux::Bounds = mux::Bounds {
    depth_max: 512,
    lanes_max: 4,
    stall: Duration::from_millis(50),
};

/// How long a connection of an upstream that says nothing else is used.
pub const CONN_AGE_MAX: Duration = Duration::from_secs(3600);

/// The longest spread of a drain that nobody asked for: long enough that a hundred handshakes are a few at a time, and no longer than
/// idle connections are kept in any case.
const CLOSE_SPREAD: Duration = Duration::from_secs(1);
/// What the only route and its upstream are called.
const NAME: &str = "backend";

impl Listener {
    /// Whether what this peer says of others is believed.
    #[must_use]
    #[inline]
    pub fn trusts(&self, peer: Option<SocketAddr>) -> bool {
        forwarding::trusts(&self.trusted_proxies, peer)
    }
}

impl Upstream {
    /// Whether what a request says decides who of it gets the request.
    #[must_use]
    pub fn looks_at_requests(&self) -> bool {
        self.balance.key.is_some() || self.sticky.is_some()
    }

    /// Connections per endpoint where all share them; `None`: no limit.
    #[must_use]
    pub fn conns_of_all(&self) -> Option<u32> {
        (self.conns_max > 0).then_some(self.conns_max)
    }

    /// When workers borrow where nobody says: where a limit is shared out among them, so that requests may wait for what another worker has.
    #[must_use]
    pub fn borrow_by_default(conns_max: u32) -> Borrow {
        if conns_max > 0 {
            Borrow::Waiting
        } else {
            Borrow::Never
        }
    }

    /// What its balancers are made from, with so many ledgers; see [`Balancing::new`].
    #[must_use]
    pub fn balancing(&self, ledgers: usize) -> Balancing {
        let member = |endpoint: &Endpoint| {
            let name_hash = balance::hash(endpoint.name.as_bytes());
            let (weight, group) = (endpoint.weight, endpoint.group());
            let mut member = Member::new(name_hash, weight, group, endpoint.slow_start);
            member.stand(endpoint.standing, Instant::START);
            member
        };
        let members = self.endpoints.iter().map(member).collect();
        let seed = balance::hash(self.name.as_bytes());
        Balancing::new(self.balance.method, members, ledgers, seed)
    }

    /// The cookies that keep clients with its endpoints; `None` where nothing does.
    #[must_use]
    pub fn cookies(&self, process_key: &Secret, endpoints: &[Identity]) -> Option<Cookies> {
        let sticky = self.sticky.as_ref()?;
        Some(Cookies::new(sticky, process_key, &self.name, endpoints))
    }

    /// How many connections per endpoint one of `workers` workers may have; `None`: no limit. The shares add up to the
    /// limit, so no worker has to ask another.
    #[must_use]
    pub fn conns_of(&self, worker: u32, workers: u32) -> Option<u32> {
        let all = self.conns_of_all()?;
        Some(all / workers + u32::from(worker < all % workers))
    }
}

impl Route {
    /// Whether requests pass as they are.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.path == PathChange::None && self.request.is_empty()
    }
}

impl Plan {
    /// Whether requests of any upstream share connections.
    #[must_use]
    pub fn multiplexes(&self) -> bool {
        self.upstreams
            .iter()
            .any(|upstream| upstream.multiplex.is_some())
    }

    /// Whether all requests and answers pass as they are between clients and the first upstream, by the first route, so that nobody
    /// has to look at routes.
    #[must_use]
    pub fn has_plain_route_only(&self) -> bool {
        let is_plain = |route: &Route| {
            route.is_plain()
                && route.response.is_empty()
                && route.mirror.is_none()
                && route.action == Action::Forward(Split::all_to(0))
        };
        self.table.sole() == Some(RouteId(0))
            && self.routes.first().is_some_and(is_plain)
            && !self
                .upstreams
                .first()
                .is_some_and(Upstream::looks_at_requests)
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
    /// Of a route that says nothing else: from a request sent to the head of its response; then 504.
    pub response: Duration,
    /// Of an upstream that says nothing else: for one connection attempt to an endpoint; then the next one, at last 504.
    pub connect: Duration,
    /// How long an idle client connection is kept.
    pub keepalive: Duration,
    /// How long a request waits for a connection when the backends have all that they may have; then 503.
    pub queue: Duration,
    /// Of an upstream that says nothing else: how long an idle connection is kept. Below the usual 60 s of servers, so that we close first.
    pub upstream_idle: Duration,
    /// How long nothing may move in a tunnel, in either direction; then both ends are reset.
    pub tunnel: Duration,
    /// How long a drain waits for requests in flight.
    pub drain: Duration,
    /// Where clients have somewhere else to go: the time over which a drain spreads telling them to; at most
    /// [`Timeouts::close_spread_max`].
    pub close_spread: Duration,
    /// How long it serves on after it has been told to end and says that it is not ready.
    pub ready_lead: Duration,
    /// How long a new process may take to be ready for taking over; then this one goes on.
    pub upgrade: Duration,
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
    /// Of an upstream that says nothing else: idle connections kept per worker and endpoint; per endpoint where threads share
    /// them.
    pub idle_conns_max: u32,
    /// Idle connections of one worker to all upstreams, of all threads where they share them; the one that has idled for the longest
    /// time goes first. 0: no limit.
    pub idle_conns_total: u32,
    /// Of an upstream that says nothing else: connections per endpoint, all workers together; 0: no limit.
    pub upstream_conns_max: u32,
    /// Requests of one worker, or of all threads together, that may wait for a connection of one upstream; one more is answered 503 at once.
    pub queue_len_max: u32,
    /// Threads that serve a connection each, with [`Engine::Threads`]; at least one.
    pub threads_max: u32,
    /// Copies of requests, of one worker, that are being gathered, sent or answered; one more is not made. At least one.
    pub mirrors_max: u32,
    /// Which content goes through a pipe. No key: where it pays depends on the machine alone.
    pub detour: DetourLimits,
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
            close_spread: Self::close_spread_within(Duration::from_secs(30)),
            ready_lead: Duration::ZERO,
            upgrade: Duration::from_secs(10),
        }
    }
}

impl Timeouts {
    /// The spread of a drain that may take so long, where nobody says another; in whole milliseconds.
    #[must_use]
    pub fn close_spread_within(drain: Duration) -> Duration {
        let third = drain / 3;
        let surplus = u64::from(third.subsec_nanos() % 1_000_000);
        CLOSE_SPREAD.min(third - Duration::from_nanos(surplus))
    }

    /// The longest spread of a drain that may take so long: who is told last has time left, and who idles then is not cut.
    #[must_use]
    pub fn close_spread_max(drain: Duration) -> Duration {
        drain / 2
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            body_rate_min: 1024,
            body_bytes_max: 0,
            idle_conns_max: 1024,
            idle_conns_total: 8192,
            upstream_conns_max: 0,
            queue_len_max: 10_000,
            threads_max: 4096,
            mirrors_max: 64,
            detour: DetourLimits {
                content_bytes_min: 96 * 1024,
                chunk_bytes_min: 16 * 1024,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::split::Draws;

    #[test]
    fn the_shares_of_the_workers_add_up_to_the_limit() {
        let upstream = |conns_max| Upstream {
            name: String::new(),
            endpoints: Vec::new(),
            sources: Vec::new(),
            balance: Balance::default(),
            sticky: None,
            idle_conns_max: 0,
            conns_max,
            connect_timeout: Duration::ZERO,
            idle_timeout: Duration::ZERO,
            conn_age_max: None,
            conn_uses_max: 0,
            prewarm: 0,
            borrow: Borrow::Never,
            multiplex: None,
        };
        for (limit, workers) in [(16, 1), (16, 2), (17, 4), (7, 7)] {
            let shares =
                (0..workers).map(|worker| upstream(limit).conns_of(worker, workers).unwrap());
            assert_eq!(shares.sum::<u32>(), limit);
        }
        assert_eq!(upstream(0).conns_of(0, 2), None);
    }

    #[test]
    fn as_many_requests_are_copied_as_the_share_says() {
        for share_millionths in [0, 1, 1_000, 333_333, 999_999, 1_000_000] {
            let mirror = Mirror {
                upstream: 0,
                share_millionths,
                body_bytes_max: 0,
            };
            let mut draws = Draws::of_mirrors(0);
            let mut taken = 0_u32;
            for _ in 0..1_000_000 {
                let (draw, next) = draws.next();
                draws = next;
                taken += u32::from(mirror.takes(draw));
            }
            assert!(taken.abs_diff(share_millionths) <= 8, "{taken}");
        }
    }
}
