//! Which connection to a backend a request takes, and how many there are.

use crate::Engine;
use crate::support::{BOUND, Backend, GET, OK, Peer, Proxy, refusing};
use socket2::Socket;
use std::sync::mpsc;
use std::thread::JoinHandle;

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";

/// Clients that have asked, each with the backend's connection that its request came over.
fn pairs(proxy: &Proxy, backend: &Backend, count: usize) -> (Vec<Peer>, Vec<Peer>) {
    let pair = |_| {
        let client = proxy.asked(GET);
        (client, backend.request().0)
    };
    (0..count).map(pair).unzip()
}

/// Asks over a kept connection of the client's and one of the backend's.
fn exchange(client: &mut Peer, upstream: &mut Peer) {
    client.send(GET);
    upstream.request();
    upstream.send(OK);
    assert_eq!(client.response().body, b"hi");
}

pub(crate) fn five_hundred_and_twelve_kept_clients_never_reconnect(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::start(
        engine,
        &format!(
            "--workers 2 --response-timeout 10m --backend {}",
            backend.addr
        ),
    );
    let mut upstreams = Vec::new();
    let mut clients: Vec<Peer> = Vec::new();
    for _ in 0..512 {
        clients.push(proxy.asked(GET));
        upstreams.push(backend.answers(OK));
        // Unanswered as yet for the client, so that the next one needs a connection of its own.
        clients.last_mut().unwrap().send(GET);
        upstreams.last_mut().unwrap().request();
    }
    for upstream in &mut upstreams {
        upstream.send(OK);
    }
    for client in &mut clients {
        assert_eq!(client.response().body, b"hi");
        assert_eq!(client.response().body, b"hi");
    }
    for _round in 0..3 {
        for client in &mut clients {
            client.send(GET);
        }
        // All ask before any is answered, or one could be asked twice and another one not at all.
        for upstream in &mut upstreams {
            upstream.request();
        }
        for upstream in &mut upstreams {
            upstream.send(OK);
        }
        for client in &mut clients {
            assert_eq!(client.response().body, b"hi");
        }
    }
    backend.has_nobody();
    proxy.counts_to("upstream connects", 512);
    proxy.counts_to("responses", 512 * 5);
    proxy.counts_to("connections open", 512);
}

pub(crate) fn the_connection_that_was_put_back_last_is_taken_first(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let (mut clients, mut upstreams) = pairs(&proxy, &backend, 3);
    for index in [2, 0, 1] {
        upstreams[index].send(OK);
        assert_eq!(clients[index].response().body, b"hi");
    }
    for _ in 0..3 {
        exchange(&mut clients[0], &mut upstreams[1]);
    }
    clients[0].send(GET);
    upstreams[1].request();
    exchange(&mut clients[1], &mut upstreams[0]);
    backend.has_nobody();
}

pub(crate) fn backends_take_turns(engine: Engine) {
    let (one, other) = (Backend::new(), Backend::new());
    let proxy = Proxy::before(engine, &one, &format!("--backend {}", other.addr));
    let mut client = proxy.asked(GET);
    let mut to_one = one.answers(OK);
    assert_eq!(client.response().body, b"hi");
    client.send(GET);
    let mut to_other = other.answers(OK);
    assert_eq!(client.response().body, b"hi");
    for _ in 0..3 {
        exchange(&mut client, &mut to_one);
        exchange(&mut client, &mut to_other);
    }
}

/// As many connections as an endpoint may have, all of them idle, are no reason to tell a client that no backend accepts any.
pub(crate) fn who_is_refused_takes_a_connection_that_idles_elsewhere(engine: Engine) {
    let (_socket, nobody) = refusing();
    let backend = Backend::new();
    let text = format!(
        "[[route]]\nupstream = \"u\"\n[upstream.u]\nendpoints = [\"{nobody}\", \"{}\"]\nmax_conns = 1\n",
        backend.addr
    );
    let proxy = Proxy::start_from_file(engine, &text);
    let mut client = proxy.asked(GET);
    let mut upstream = backend.answers(OK);
    assert_eq!(client.response().body, b"hi");
    for _ in 0..4 {
        exchange(&mut client, &mut upstream);
    }
    backend.has_nobody();
}

/// Who refuses has room all the time, and must not take what others will have room for.
pub(crate) fn who_is_refused_waits_for_those_who_are_busy(engine: Engine) {
    let (_socket, nobody) = refusing();
    let backend = Backend::new();
    let flags = "--upstream-conns-max 1 --queue-timeout 60s --backend";
    let proxy = Proxy::before(engine, &backend, &format!("{flags} {nobody}"));
    let mut busy = proxy.asked(GET);
    let mut upstream = backend.request().0;
    let mut waiting: Vec<Peer> = Vec::new();
    for count in 1..=6 {
        waiting.push(proxy.asked(GET));
        proxy.counts_to("queued", count);
    }
    upstream.send(OK);
    assert_eq!(busy.response().body, b"hi");
    for _ in &waiting {
        upstream.request();
        upstream.send(OK);
    }
    for client in &mut waiting {
        assert_eq!(client.response().body, b"hi");
    }
    backend.has_nobody();
}

pub(crate) fn requests_beyond_the_limit_of_connections_wait_and_are_all_answered(engine: Engine) {
    let backend = Backend::new();
    let flags = "--upstream-conns-max 4 --queue-timeout 60s";
    let proxy = Proxy::before(engine, &backend, flags);
    let (mut clients, mut upstreams) = pairs(&proxy, &backend, 4);
    for waiting in 1..=20 {
        clients.push(proxy.asked(GET));
        proxy.counts_to("queued", waiting); // Its place is taken before it is counted.
    }
    for round in 0..6 {
        backend.has_nobody();
        for (index, upstream) in upstreams.iter_mut().enumerate() {
            upstream.send(OK);
            // First come, first served.
            assert_eq!(clients[round * 4 + index].response().body, b"hi");
            if round < 5 {
                upstream.request(); // Of whoever has waited for longest.
            }
        }
    }
    // A connection that closes makes room for another one.
    let mut client = proxy.asked(GET);
    let mut upstream = upstreams.pop().unwrap();
    upstream.request();
    upstream.send(OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    assert_eq!(client.response().body, b"hi");
    upstream.sees_end();
    let mut busy: Vec<Peer> = (0..4).map(|_| proxy.asked(GET)).collect();
    upstreams.push(backend.accept());
    for upstream in &mut upstreams {
        upstream.request();
        upstream.send(OK);
    }
    for client in &mut busy {
        assert_eq!(client.response().body, b"hi");
    }
    backend.has_nobody();
}

pub(crate) fn a_request_that_waits_too_long_for_a_connection_is_503(engine: Engine) {
    let backend = Backend::new();
    let flags = "--upstream-conns-max 1 --queue-timeout 100ms";
    let proxy = Proxy::before(engine, &backend, flags);
    let mut first = proxy.asked(GET);
    let (mut upstream, _heard) = backend.request();
    let mut second = proxy.asked(GET);
    let answer = second.response();
    assert_eq!(answer.status(), 503);
    let reason = answer.field("Proxy-Status").unwrap();
    assert!(reason.contains("error=connection_limit_reached"));
    upstream.send(OK);
    assert_eq!(first.response().body, b"hi");
    exchange(&mut second, &mut upstream);
    backend.has_nobody();
}

/// The kernel resends an unanswered SYN only after a second, and each time later; so an attempt is given up instead, and
/// a new one is made when a connection that fills the backlog has ended.
pub(crate) fn a_full_backlog_is_dialled_again_once_it_has_room(engine: Engine) {
    let backend = Backend::new();
    backend.shorten_backlog();
    let flags = "--connect-timeout 60s --queue-timeout 60s";
    let proxy = Proxy::before(engine, &backend, flags);
    let mut first = proxy.asked(GET);
    let (mut to_first, _heard) = backend.request();
    let mut second = proxy.asked(GET);
    proxy.counts_to("upstream connects", 2);
    let mut third = proxy.asked(GET);
    let redials = || proxy.counts()["upstream redials"].parse::<u64>().unwrap();
    let has_stalled = || (0..1000).any(|_| redials() > 0);
    assert!(has_stalled());
    let (mut to_second, _heard) = backend.request();
    to_first.send(OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    assert_eq!(first.response().body, b"hi");
    let _to_third = backend.answers(OK);
    assert_eq!(third.response().body, b"hi");
    to_second.send(OK);
    assert_eq!(second.response().body, b"hi");
    proxy.counts_to("upstream connects", 3);
    proxy.counts_to("upstream connect errors", 0);
    backend.has_nobody();
}

/// Exchanges that last, such as tunnels, fill no backlog: what waits for their end alone would never be answered.
pub(crate) fn a_stalled_request_does_not_wait_for_exchanges_that_last(engine: Engine) {
    let backend = Backend::new();
    backend.shorten_backlog();
    let flags = "--connect-timeout 60s --queue-timeout 60s";
    let proxy = Proxy::before(engine, &backend, flags);
    let _lasting = proxy.asked(GET);
    let _to_lasting = backend.request();
    let _next = proxy.asked(GET);
    proxy.counts_to("upstream connects", 2);
    let mut third = proxy.asked(GET);
    proxy.counts_to("queued", 1);
    let _to_next = backend.request();
    let _to_third = backend.answers(OK);
    assert_eq!(third.response().body, b"hi");
}

pub(crate) fn a_get_whose_kept_connection_died_is_sent_again_once(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    for is_reset in [true, false] {
        let mut client = proxy.asked(GET);
        let mut kept = backend.answers(OK);
        assert_eq!(client.response().body, b"hi");
        client.send(GET);
        kept.request();
        if is_reset {
            kept.reset();
        } else {
            drop(kept);
        }
        let mut fresh = backend.answers(OK);
        assert_eq!(client.response().body, b"hi");
        // Once: when the second attempt fails as well, that is the answer.
        client.send(GET);
        fresh.request();
        drop(fresh);
        drop(backend.request());
        assert_eq!(client.response().status(), 502);
        backend.has_nobody();
    }
    proxy.counts_to("retries", 4);
}

pub(crate) fn what_may_have_happened_already_is_not_sent_again(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let with_body = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    for (request, begun) in [(POST, ""), (with_body, ""), (GET, "HTTP/1.1 200 OK\r\n")] {
        let mut client = proxy.asked(GET);
        let mut kept = backend.answers(OK);
        assert_eq!(client.response().body, b"hi");
        client.send(request);
        kept.request();
        kept.send(begun);
        drop(kept);
        assert_eq!(client.response().status(), 502, "{request}");
        backend.has_nobody();
    }
    let mut client = proxy.asked(GET);
    drop(backend.request());
    assert_eq!(client.response().status(), 502, "a fresh connection failed");
    backend.has_nobody();
    proxy.counts_to("retries", 0);
}

pub(crate) fn a_connection_with_bytes_that_nobody_asked_for_is_not_used_again(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let mut client = proxy.asked(GET);
    // Right behind an answer, by length, by chunks and without content; then while the connection idles.
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    for answer in [OK, chunked] {
        let mut upstream = backend.answers(format!("{answer}{OK}"));
        assert_eq!(client.response().body, b"hi");
        upstream.sees_end();
        client.send(GET);
    }
    let mut upstream = backend.answers("HTTP/1.1 304 Same\r\n\r\nX");
    assert_eq!(client.response().status(), 304);
    upstream.sees_end();

    client.send(GET);
    let mut upstream = backend.answers(OK);
    assert_eq!(client.response().body, b"hi");
    upstream.send("HTTP/1.1 200 Evil\r\nContent-Length: 0\r\n\r\n");
    upstream.sees_end();
    client.send(GET);
    let _upstream = backend.answers(OK);
    assert_eq!(client.response().body, b"hi");
    client.sees_nothing();
}

pub(crate) fn a_backend_of_http10_is_sent_no_chunks(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let mut client = proxy.asked(GET);
    let _old = backend.answers("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(client.response().body, b"hi");
    let coded =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    client.send(coded);
    let answer = client.response();
    assert_eq!(answer.status(), 411, "{}", answer.head);
    client.sees_end();
    backend.accept().sees_end(); // It was dialled for the chunks.
    let mut client = proxy.asked("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    let (mut upstream, heard) = backend.request();
    assert_eq!(heard.body, b"hi");
    upstream.send(OK);
    assert_eq!(client.response().body, b"hi");
    // It has learned: what it answered last counts.
    client.send(coded);
    let heard = upstream.request();
    assert_eq!(heard.field("Transfer-Encoding"), Some("chunked"));
    assert_eq!(heard.body, b"hi");
}

pub(crate) fn a_connection_that_the_backend_ends_is_not_used_again(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let mut client = proxy.client();
    let close = OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let old = OK.replace("HTTP/1.1", "HTTP/1.0");
    for answer in [close.as_str(), &old] {
        client.send(GET);
        let mut upstream = backend.answers(answer);
        assert_eq!(client.response().body, b"hi");
        upstream.sees_end();
    }
    client.send(GET);
    let keep = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi";
    let mut upstream = backend.answers(keep);
    assert_eq!(client.response().body, b"hi");
    exchange(&mut client, &mut upstream);
    upstream.finish();
    upstream.sees_end(); // Noticed while it idles.
    proxy.counts_to("upstream reuses", 1);
}

pub(crate) fn idle_connections_are_kept_up_to_a_number_and_a_time(engine: Engine) {
    let backend = Backend::new();
    let flags = "--idle-conns-max 2 --upstream-idle-timeout 300ms";
    let proxy = Proxy::before(engine, &backend, flags);
    let (mut clients, mut upstreams) = pairs(&proxy, &backend, 3);
    for (client, upstream) in clients.iter_mut().zip(&mut upstreams) {
        upstream.send(OK);
        assert_eq!(client.response().body, b"hi");
    }
    for upstream in &mut upstreams {
        upstream.sees_end(); // The first by number, the others by time.
    }
    proxy.counts_to("connections open", 3);
}

/// A server in a thread of its own.
struct Running {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Socket>,
}

impl Running {
    /// Answers whatever is asked, until it is told to stop; then resets all its connections.
    fn start(backend: Backend) -> Self {
        let (stop, stopped) = mpsc::channel();
        let serve = move || {
            let mut peers: Vec<Peer> = Vec::new();
            while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                peers.extend(backend.try_accept());
                for peer in peers.iter_mut().filter_map(Peer::asks) {
                    peer.send(OK);
                }
                std::thread::yield_now();
            }
            let refusing = backend.refuse();
            peers.into_iter().for_each(Peer::reset);
            refusing
        };
        let thread = std::thread::spawn(serve);
        Self { stop, thread }
    }

    /// Its address refuses as long as the socket lives.
    fn kill(self) -> Socket {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap()
    }
}

pub(crate) fn a_backend_killed_and_restarted_costs_only_what_was_in_flight(engine: Engine) {
    const CLIENTS: u64 = 8;
    let backend = Backend::new();
    let addr = backend.addr;
    let running = Running::start(backend);
    let proxy = Proxy::start(engine, &format!("--workers 2 --backend {addr}"));
    // Without room for a single answer: clients and test go in step.
    let (answered, answers) = mpsc::sync_channel(0);
    let client = |_| {
        let (mut client, answered) = (proxy.client(), answered.clone());
        std::thread::spawn(move || {
            let (mut good, mut failed) = (0_u64, 0_u64);
            loop {
                client.send(GET);
                let answer = client.response();
                match (answer.status(), answer.body.as_slice()) {
                    (200, b"hi") => good += 1,
                    (502 | 504, _) => failed += 1,
                    other => panic!("{other:?}"),
                }
                if answered.send(answer.status() == 200).is_err() {
                    return (good, failed); // Enough.
                }
            }
        })
    };
    let clients: Vec<_> = (0..CLIENTS).map(client).collect();
    let is_good = || answers.recv_timeout(BOUND).unwrap();
    assert!((0..400).all(|_| is_good()));
    let _refusing = running.kill();
    let good = (0..400).filter(|_| is_good()).count() as u64;
    assert!(good <= CLIENTS, "{good} answers from a dead backend");
    let running = Running::start(Backend::at(addr));
    let failed = (0..400).filter(|_| !is_good()).count() as u64;
    assert!(failed <= CLIENTS, "{failed} failures with a living backend");
    drop(answers);
    let (mut good, mut failed) = (0, 0);
    for client in clients {
        let (more_good, more_failed) = client.join().unwrap();
        (good, failed) = (good + more_good, failed + more_failed);
    }
    proxy.counts_to("responses", good);
    proxy.counts_to("answered 5xx by proxy", failed);
    proxy.counts_to("responses truncated", 0);
    running.kill();
}
