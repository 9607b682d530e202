//! What a upstream may say.

use super::{ANY_COUNT, Kind, Shape, key};
use crate::config::plan::PRIORITY_MAX;
use crate::upstream::balance::member::WEIGHT_MAX;

pub(super) const UPSTREAM: Shape = Shape {
    name: "upstream",
    keys: &[
        key(
            "endpoints",
            Kind::List(&Kind::OneOf(&[Kind::Text, Kind::Section(&ENDPOINT)])),
            "",
            "The servers; at least one.",
        ),
        key(
            "balance",
            Kind::OneOf(&[Kind::Text, Kind::Section(&HASH)]),
            "\"round_robin\"",
            "Which server is next: round_robin, least_conn, least_time, random, p2c or first, or by a key.",
        ),
        key(
            "idle_conns_max",
            ANY_COUNT,
            "",
            "Idle connections kept per worker and endpoint.",
        ),
        key(
            "max_conns",
            ANY_COUNT,
            "",
            "Connections per endpoint, all workers together; more wait in the queue. 0: no limit.",
        ),
        key(
            "connect_timeout",
            Kind::Time,
            "",
            "Time for a connection to an endpoint; counted from the dial, TLS included.",
        ),
        key(
            "idle_timeout",
            Kind::Time,
            "",
            "How long an idle connection is kept.",
        ),
        key(
            "conn_age_max",
            Kind::TimeOrZero,
            "\"1h\"",
            "How long a connection is used, up to a tenth less by lot. 0: no limit.",
        ),
        key(
            "conn_uses_max",
            ANY_COUNT,
            "0",
            "Requests that a connection is used for. 0: no limit.",
        ),
        key(
            "prewarm",
            Kind::Count(0, 1024),
            "0",
            "Connections per worker and endpoint that are opened before they are needed, and again when they are lost.",
        ),
        key(
            "borrow",
            Kind::Choice(&["never", "waiting", "before_dial"]),
            "",
            "When a worker asks others for idle connections, and for what they do not need of max_conns: never, while requests wait (where there is a max_conns, this is the default), or also before it makes a connection.",
        ),
        key(
            "multiplex",
            Kind::OneOf(&[Kind::Flag, Kind::Section(&MULTIPLEX)]),
            "false",
            "Whether requests that may be repeated share a few connections, one behind the other. Not with engine threads.",
        ),
        key(
            "sticky",
            Kind::Section(&STICKY),
            "",
            "Keeps a client with its server by a cookie.",
        ),
    ],
};

const ENDPOINT: Shape = Shape {
    name: "endpoint",
    keys: &[
        key(
            "address",
            Kind::Text,
            "",
            "HOST:PORT or unix:PATH of the server; srv:NAME for the servers of a service.",
        ),
        key(
            "srv",
            Kind::Text,
            "",
            "In place of address: the name of a service, such as _http._tcp.example.test, whose SRV records give hosts, ports and weights.",
        ),
        key(
            "resolve",
            Kind::Choice(&["happy", "each"]),
            "\"happy\"",
            "What several addresses of one name are: ways to one server, of which the first that answers is used, or a server each.",
        ),
        key(
            "weight",
            Kind::Count(0, WEIGHT_MAX as u64),
            "1",
            "Its share of requests beside the others'; 0: none.",
        ),
        key(
            "slow_start",
            Kind::Time,
            "",
            "How long its share grows when it comes back, or is added to those that run; not at the start of the proxy.",
        ),
        key(
            "priority",
            Kind::Count(0, PRIORITY_MAX as u64),
            "0",
            "Used while no server with a lower number can be.",
        ),
        key(
            "standing",
            Kind::Choice(&["active", "drain", "out"]),
            "\"active\"",
            "Whether it is given requests; drain: only those that a sticky cookie binds to it; out: none.",
        ),
        key(
            "backup",
            Kind::Flag,
            "false",
            "Used when no server can be that is none, whatever their priority.",
        ),
    ],
};

const HASH: Shape = Shape {
    name: "hash",
    keys: &[
        key(
            "hash",
            Kind::Text,
            "",
            "What decides: client_ip, uri, header:NAME, cookie:NAME or query:KEY.",
        ),
        key(
            "method",
            Kind::Choice(&["maglev", "rendezvous"]),
            "\"maglev\"",
            "How it decides.",
        ),
    ],
};

const MULTIPLEX: Shape = Shape {
    name: "multiplex",
    keys: &[
        key(
            "depth",
            Kind::Count(1, 1024),
            "512",
            "Requests that wait on one shared connection; fewer while answers are late.",
        ),
        key(
            "conns_max",
            Kind::Count(1, 64),
            "4",
            "Shared connections per worker and endpoint; further requests have one each.",
        ),
        key(
            "stall",
            Kind::Time,
            "\"50ms\"",
            "How long an answer may keep others waiting; then those are sent again on connections of their own.",
        ),
    ],
};

const STICKY: Shape = Shape {
    name: "sticky",
    keys: &[
        key("cookie", Kind::Text, "\"hp_route\"", "Name of the cookie."),
        key(
            "max_age",
            Kind::Time,
            "",
            "How long a client keeps it, in whole seconds; as long as its session lasts where it is missing.",
        ),
        key(
            "path",
            Kind::Text,
            "\"/\"",
            "Under which path clients send it.",
        ),
        key(
            "secure",
            Kind::Flag,
            "false",
            "Clients send it over secured connections only.",
        ),
        key(
            "http_only",
            Kind::Flag,
            "true",
            "Scripts in a browser cannot read it.",
        ),
        key(
            "same_site",
            Kind::Choice(&["lax", "strict", "none"]),
            "\"lax\"",
            "Which requests that other sites cause carry it; none needs secure.",
        ),
        key(
            "key",
            Kind::Text,
            "",
            "Secret that signs it, the same for all proxies that shall know it; a random one of the process where it is missing.",
        ),
    ],
};
