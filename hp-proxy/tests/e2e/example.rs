//! A whole configuration file in front of five hp-echo: each route, header, redirect and share as it says.

use crate::Engine;
use crate::balance::{backends, whoever_is_asked};
use crate::support::{Message, OK, Peer, Proxy};
use hp_core::rt::net::{Address, BindOptions, PortUse, bind};
use hp_core::rt::worker::{Pin, WorkerId, Workers, WorkersOptions, start};
use hp_core::rt::{Engine as EchoEngine, RtOptions};
use std::net::SocketAddr;
use std::sync;

/// An hp-echo in this process, which answers with as many bytes as it was told.
struct Echo {
    workers: Option<Workers<hp_echo::Order, ()>>,
    addr: SocketAddr,
}

impl Echo {
    #[expect(
        clippy::disallowed_types,
        reason = "the socket goes to the worker's thread once"
    )]
    fn new(body_len: u64) -> Self {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let options = BindOptions {
            count: 1,
            backlog: 128,
            port: PortUse::Exclusive,
            socket_mode: None,
        };
        let mut bound = bind(&Address::Tcp(any), &options).unwrap();
        let addr = bound.address.tcp().unwrap();
        let socket = sync::Arc::new(sync::Mutex::new(bound.sockets.pop()));
        let options = WorkersOptions {
            count: 1,
            rt: RtOptions {
                engine: EchoEngine::Epoll,
                ..RtOptions::default()
            },
            pin: Pin::Off,
            name: "hp-echo",
        };
        let workers = start(&options, move |context| {
            let socket = socket.lock().unwrap().take().unwrap();
            let listener = context.rt.listener(socket).unwrap();
            hp_echo::serve(context, listener, body_len)
        });
        Self {
            workers: Some(workers.unwrap()),
            addr,
        }
    }

    /// Answers what it has, and refuses from now on.
    fn stop(&mut self) {
        let Some(workers) = self.workers.take() else {
            return;
        };
        let told = workers.mesh().send(WorkerId(0), hp_echo::Order::Drain);
        assert!(told.is_ok());
        workers.join().unwrap();
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The file with other ports, which the tests were given.
fn text(engine: Engine, endpoints: &[SocketAddr]) -> String {
    let engine = format!("\"{}\"", engine.flag().trim_start_matches("--engine "));
    let mut text = EXAMPLE
        .replace("\"auto\"", &engine)
        .replace("127.0.0.1:8080", "127.0.0.1:0")
        .replace("127.0.0.1:9900", "127.0.0.1:0");
    for (port, addr) in (9001..).zip(endpoints) {
        text = text.replace(&format!("127.0.0.1:{port}"), &addr.to_string());
    }
    text
}

fn ask(client: &mut Peer, head: &str) -> Message {
    client.send(format!("{head}\r\n"));
    client.response()
}

/// A request to the routes of the first upstream.
const API: &str = "GET /v1/x HTTP/1.1\r\nHost: api.example.test\r\n";

pub(crate) fn the_whole_example_does_what_it_says(engine: Engine) {
    let mut echoes: Vec<Echo> = (1..=5).map(Echo::new).collect();
    let addrs: Vec<SocketAddr> = echoes.iter().map(|echo| echo.addr).collect();
    let proxy = Proxy::start_from_file_as_it_is(engine, &text(engine, &addrs));
    let mut client = proxy.client();

    let mut counts = [0_u32; 6];
    for _ in 0..10_000 {
        let answer = ask(&mut client, API);
        let by = answer.body.len();
        assert_eq!(
            answer.field("X-Served-By"),
            Some(addrs[by - 1].to_string().as_str())
        );
        counts[by] += 1;
    }
    assert_eq!(counts[1] + counts[2], 10_000, "{counts:?}");
    assert!(counts[1].abs_diff(7_500) < 250, "{counts:?}");

    let stripped = "GET /v1/status/418 HTTP/1.1\r\nHost: api.example.test\r\n";
    assert_eq!(ask(&mut client, stripped).status(), 418);
    let moved = ask(&mut client, "GET /old/a/b?c=d HTTP/1.1\r\nHost: x\r\n");
    let to = "https://www.example.test/new/a/b";
    assert_eq!((moved.status(), moved.field("Location")), (308, Some(to)));

    sticks(&proxy, &addrs);

    echoes[0].stop();
    echoes[1].stop();
    for _ in 0..20 {
        assert_eq!(ask(&mut client, API).body.len(), 3, "the backup answers");
    }
}

/// Clients of the last route are told apart by their address, and then by their cookie.
fn sticks(proxy: &Proxy, addrs: &[SocketAddr]) {
    let mut client = proxy.client();
    let mut seen = [false; 2];
    for host in 1..20 {
        let from = |host: u32| format!("X-Forwarded-For: 192.0.2.{host}\r\n");
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\n{}", from(host));
        let first = ask(&mut client, &head);
        let by = first.body.len();
        assert!((4..=5).contains(&by), "one of {addrs:?}");
        assert_eq!(first.field("X-Served-By"), None);
        let again = ask(&mut client, &head);
        assert_eq!(again.body.len(), by);
        let given = first.field("Set-Cookie").unwrap();
        assert!(given.contains("; Max-Age=3600"), "{given}");
        let (pair, _) = given.split_once(';').unwrap();
        // The cookie counts more than the address.
        for other in 20..30 {
            let head = format!(
                "GET / HTTP/1.1\r\nHost: x\r\n{}Cookie: {pair}\r\n",
                from(other)
            );
            let bound = ask(&mut client, &head);
            assert_eq!((bound.body.len(), bound.field("Set-Cookie")), (by, None));
        }
        seen[by - 4] = true;
    }
    assert_eq!(seen, [true; 2]);
}

pub(crate) fn the_example_changes_requests_as_it_says(engine: Engine) {
    let backends = backends(5);
    let addrs: Vec<SocketAddr> = backends.iter().map(|backend| backend.addr).collect();
    let proxy = Proxy::start_from_file_as_it_is(engine, &text(engine, &addrs));
    let mut client = proxy.client();
    client.send(format!("{API}X-Debug: 1\r\nX-Env: test\r\n\r\n"));
    let (mut peer, seen) = asked(&backends);
    assert!(
        seen.head.starts_with("GET /x HTTP/1.1\r\n"),
        "{}",
        seen.head
    );
    assert_eq!(
        (seen.field("X-Env"), seen.field("X-Debug")),
        (Some("prod"), None)
    );
    peer.send(OK);
    assert_eq!(client.response().status(), 200);
    // Not a method of that route: the last one takes it, and changes nothing.
    client.send("DELETE /v1/x HTTP/1.1\r\nHost: api.example.test\r\nX-Debug: 1\r\n\r\n");
    let (mut peer, seen) = asked(&backends[3..]);
    assert!(
        seen.head.starts_with("DELETE /v1/x HTTP/1.1\r\n"),
        "{}",
        seen.head
    );
    assert_eq!(seen.field("X-Debug"), Some("1"));
    peer.send(OK);
    assert_eq!(client.response().status(), 200);
}

fn asked(backends: &[crate::support::Backend]) -> (Peer, Message) {
    let (_, peer, seen) = whoever_is_asked(backends);
    (peer, seen)
}

const EXAMPLE: &str = r#"
workers = 2                          # default: one per CPU it may use
engine  = "auto"

[admin]
listen = "127.0.0.1:9900"

[[listener]]
address = "127.0.0.1:8080"           # also "[::1]:8080" and "unix:/run/hp.sock"
trusted_proxies = ["127.0.0.0/8"]

[[route]]                            # most specific wins; the order of lines does not matter
host = "api.example.test"            # exact, "*.example.test"
path_prefix = "/v1/"                 # or path = "/x", path_regex = "^/u/([0-9]+)$"
methods = ["GET", "POST"]            # also headers, query, client_ip
upstream = "api"
strip_prefix = "/v1"
request_headers  = { set = { X-Env = "prod" }, remove = ["X-Debug"] }
response_headers = { add = { X-Served-By = "{endpoint}" } }
timeout = "5s"

[[route]]
path_prefix = "/old/"
redirect = { to = "https://www.example.test/new/{path}", status = 308 }

[[route]]
upstream = "web"

[upstream.api]
endpoints = [
  { address = "127.0.0.1:9001", weight = 3 },
  { address = "127.0.0.1:9002", weight = 1, slow_start = "30s" },
  { address = "127.0.0.1:9003", backup = true },
]
balance = "p2c"
idle_conns_max = 32                  # per worker and endpoint
max_conns = 500                      # per endpoint, all workers together; more wait in the queue
connect_timeout = "3s"

[upstream.web]
endpoints = ["127.0.0.1:9004", "127.0.0.1:9005"]
balance = { hash = "client_ip" }     # ip hash; also { hash = "header:X-User" }, "cookie:sid", "uri", "query:k"
sticky = { cookie = "hp_route", max_age = "1h" }
"#;
