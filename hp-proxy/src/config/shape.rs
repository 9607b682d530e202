//! What a configuration file may say: every key with its kind, its default and what it is for. The reader, the JSON Schema and
//! "did you mean" are made from this one list.

mod route;
mod upstream;

use crate::upstream::balance::Method;
use route::ROUTE;
use upstream::UPSTREAM;

/// A table of the file.
#[derive(Debug)]
pub struct Shape {
    /// Its name among the shapes.
    pub name: &'static str,
    /// The keys that it may have.
    pub keys: &'static [Key],
}

/// A key of a table.
#[derive(Debug)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What holds where it is missing, as it would be written; empty: nothing.
    pub default: &'static str,
    /// What it is for.
    pub about: &'static str,
}

/// What a key takes.
#[derive(Debug)]
pub enum Kind {
    /// A text; `${NAME}` and `file:` are replaced in it.
    Text,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// `true` or `false`.
    Flag,
    /// A whole number from the first to the second.
    Count(u64, u64),
    /// A length of time with its unit, 1ms to 24h.
    Time,
    /// The same, or "0" for never.
    TimeOrZero,
    /// A length of time with its unit, 1us to 1000ms, or "0".
    ShortTimeOrZero,
    /// A size in bytes with its unit, or a whole number of bytes.
    Size,
    /// A share in percent, 0 to 100, with up to four digits after its point.
    Percent,
    /// A list of what follows.
    List(&'static Self),
    /// A table of this shape.
    Section(&'static Shape),
    /// A table with names of the user's choice, each with what follows.
    Map(&'static Self),
    /// The first of these whose type in TOML is that of the value.
    OneOf(&'static [Self]),
}

const fn key(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key {
        name,
        kind,
        default,
        about,
    }
}

const TEXTS: Kind = Kind::List(&Kind::Text);
const TEXT_OR_TEXTS: Kind = Kind::OneOf(&[Kind::Text, TEXTS]);
const ANY_COUNT: Kind = Kind::Count(0, u32::MAX as u64);

/// The file itself.
pub const ROOT: Shape = Shape {
    name: "file",
    keys: &[
        key(
            "include",
            TEXTS,
            "[]",
            "Other files that belong to this one, relative to it; the last part may have a *.",
        ),
        key(
            "workers",
            Kind::Count(1, 1024),
            "",
            "Threads; one for each CPU that the process may use where it is missing.",
        ),
        key(
            "engine",
            Kind::Choice(&["auto", "uring", "epoll", "threads"]),
            "\"auto\"",
            "How sockets are driven.",
        ),
        key(
            "spin",
            Kind::ShortTimeOrZero,
            "\"0\"",
            "How long a worker looks for work again and again before it sleeps; not with engine threads.",
        ),
        key(
            "threads_max",
            Kind::Count(1, 15_000),
            "4096",
            "Threads for connections, with engine threads.",
        ),
        key(
            "mirrors_max",
            Kind::Count(1, 65_536),
            "64",
            "Copies of requests that one worker makes at a time for mirrors; further ones are left out.",
        ),
        key(
            "maintenance",
            Kind::Flag,
            "false",
            "Answers all routes with 503.",
        ),
        key(
            "head_timeout",
            Kind::Time,
            "\"10s\"",
            "Time for a request's head; then 408.",
        ),
        key(
            "body_timeout",
            Kind::Time,
            "\"30s\"",
            "Time between two pieces of a body.",
        ),
        key(
            "body_rate_min",
            Kind::Size,
            "\"1KiB\"",
            "Bytes a second that a client sends or takes of a body, averaged over body_timeout, while it is waited for; 0: any.",
        ),
        key(
            "continue_timeout",
            Kind::TimeOrZero,
            "\"1s\"",
            "Time for the upstream to say 100 where it is expected; then the proxy says it. 0: never.",
        ),
        key(
            "response_timeout",
            Kind::Time,
            "\"30s\"",
            "Time from a request to the head of its response; then 504.",
        ),
        key(
            "connect_timeout",
            Kind::Time,
            "\"3s\"",
            "Time for a connection to an endpoint, TLS included; then the next one, at last 504.",
        ),
        key(
            "keepalive_timeout",
            Kind::Time,
            "\"75s\"",
            "How long an idle client connection is kept.",
        ),
        key(
            "queue_timeout",
            Kind::Time,
            "\"1s\"",
            "How long a request waits for a free connection; then 503.",
        ),
        key(
            "queue_len_max",
            ANY_COUNT,
            "10000",
            "Requests of one worker that may wait for a connection of one upstream; one more is answered 503.",
        ),
        key(
            "upstream_idle_timeout",
            Kind::Time,
            "\"50s\"",
            "How long an idle connection to an endpoint is kept.",
        ),
        key(
            "tunnel_timeout",
            Kind::Time,
            "\"1h\"",
            "How long nothing may move in a tunnel after an upgrade.",
        ),
        key(
            "drain_timeout",
            Kind::Time,
            "\"30s\"",
            "How long a drain waits for requests in flight.",
        ),
        key(
            "close_spread",
            Kind::TimeOrZero,
            "",
            "Time over which clients are told to go, after an upgrade or with a ready_lead; at most half of drain_timeout. 0: all at once. \
             By default 1s, or a third of drain_timeout where that is less.",
        ),
        key(
            "ready_lead",
            Kind::TimeOrZero,
            "\"0\"",
            "How long it serves on after SIGTERM, while /ready says 503 already.",
        ),
        key(
            "upgrade_timeout",
            Kind::Time,
            "\"10s\"",
            "How long a new process may take to take over after SIGUSR2; then this one goes on.",
        ),
        key(
            "pid_file",
            Kind::Text,
            "",
            "File that names the process in charge; none where it is missing.",
        ),
        key(
            "idle_conns_max",
            ANY_COUNT,
            "1024",
            "Idle connections kept per worker and endpoint; with engine threads per endpoint.",
        ),
        key(
            "idle_conns_total",
            ANY_COUNT,
            "8192",
            "Idle connections kept per worker to all endpoints together, with engine threads in all; the longest idle one goes. 0: no limit.",
        ),
        key(
            "upstream_conns_max",
            ANY_COUNT,
            "0",
            "Connections per endpoint, all workers together; further requests wait. 0: no limit.",
        ),
        key(
            "head_max",
            Kind::Size,
            "\"32KiB\"",
            "Size of a head, 1KiB to 1MiB; then 431.",
        ),
        key(
            "fields_max",
            Kind::Count(1, 256),
            "128",
            "Fields of a head; then 431.",
        ),
        key(
            "body_max",
            Kind::Size,
            "0",
            "Size of a request's content; then 413. 0: no limit, bodies stream.",
        ),
        key(
            "trusted_proxies",
            TEXTS,
            "[]",
            "Networks of proxies whose Forwarded and X-Forwarded-* are believed, on listeners that say nothing else.",
        ),
        key(
            "forwarded",
            Kind::Flag,
            "false",
            "Writes Forwarded (RFC 7239) besides X-Forwarded-*.",
        ),
        key(
            "via",
            Kind::Text,
            "",
            "Our name in Via; hp-proxy- and a random number where it is missing.",
        ),
        key(
            "underscores",
            Kind::Choice(&["drop", "keep", "refuse"]),
            "\"drop\"",
            "What becomes of fields with an underscore in their name.",
        ),
        key(
            "http10",
            Kind::Choice(&["serve", "refuse"]),
            "\"serve\"",
            "What becomes of requests in HTTP/1.0.",
        ),
        key(
            "dns",
            Kind::Section(&DNS),
            "",
            "How names of servers are looked up; by /etc/resolv.conf where it is missing.",
        ),
        key(
            "admin",
            Kind::Section(&ADMIN),
            "",
            "What operators ask the proxy itself.",
        ),
        key(
            "listener",
            Kind::List(&Kind::Section(&LISTENER)),
            "",
            "Where connections are taken; at least one.",
        ),
        key(
            "route",
            Kind::List(&Kind::Section(&ROUTE)),
            "",
            "What becomes of requests; the most specific route wins, whatever the order.",
        ),
        key(
            "upstream",
            Kind::Map(&Kind::Section(&UPSTREAM)),
            "",
            "Groups of servers, by name.",
        ),
    ],
};

const DNS: Shape = Shape {
    name: "dns",
    keys: &[
        key(
            "servers",
            TEXTS,
            "",
            "Name servers in the order of asking, 1 to 8, each IP or IP:PORT; those of /etc/resolv.conf where it is missing.",
        ),
        key(
            "timeout",
            Kind::Time,
            "",
            "Time of a server for one answer; what /etc/resolv.conf says where it is missing, or 5s.",
        ),
        key(
            "attempts",
            Kind::Count(1, 10),
            "",
            "How often each server is asked; what /etc/resolv.conf says where it is missing, or 2.",
        ),
        key(
            "ttl_min",
            Kind::Time,
            "\"1s\"",
            "The least time for which an answer holds, whatever it says.",
        ),
        key(
            "ttl_max",
            Kind::Time,
            "\"1h\"",
            "The longest time for which an answer holds, whatever it says.",
        ),
        key(
            "hosts_file",
            Kind::Text,
            "\"/etc/hosts\"",
            "Names and addresses that are believed before any server.",
        ),
    ],
};

const ADMIN: Shape = Shape {
    name: "admin",
    keys: &[key(
        "listen",
        Kind::Text,
        "",
        "Address of the admin listener, which serves /ready, /live and /counters.",
    )],
};

const LISTENER: Shape = Shape {
    name: "listener",
    keys: &[
        key(
            "address",
            Kind::Text,
            "",
            "HOST:PORT or unix:PATH to listen on; port 0 takes a free one.",
        ),
        key(
            "socket_mode",
            Kind::Text,
            "",
            "Permission bits of the socket of unix:PATH, in octal; those that the umask leaves where it is missing.",
        ),
        key(
            "reuse_port",
            Kind::Flag,
            "false",
            "Shares the port with other servers of the same user that say so, too.",
        ),
        key(
            "trusted_proxies",
            TEXTS,
            "",
            "Networks of proxies whose Forwarded and X-Forwarded-* are believed here.",
        ),
    ],
};

/// All ways to balance that have one word; a table `{ hash = ... }` is another one.
pub const BALANCES: &[(&str, Method)] = &[
    ("round_robin", Method::RoundRobin),
    ("least_conn", Method::LeastConn),
    ("least_time", Method::LeastTime),
    ("random", Method::Random),
    ("p2c", Method::P2c),
    ("first", Method::First),
];
