//! Which endpoint of an upstream takes a request, in a program that is run from a file.

use crate::Engine;
use crate::support::{Backend, Message, OK, Peer, Proxy};
use std::time::Instant;

/// A proxy whose one upstream is told of by these lines; `@0`, `@1` and so on stand for the addresses of backends.
pub(crate) fn with_upstream(engine: Engine, backends: &[Backend], lines: &str) -> Proxy {
    let mut text = format!("[[route]]\nupstream = \"web\"\n[upstream.web]\n{lines}\n");
    for (index, backend) in backends.iter().enumerate() {
        text = text.replace(&format!("@{index}"), &backend.addr.to_string());
    }
    Proxy::start_from_file(engine, &text)
}

pub(crate) fn backends(count: usize) -> Vec<Backend> {
    (0..count).map(|_| Backend::new()).collect()
}

/// The backend that the next connection comes to, and the request.
pub(crate) fn whoever_is_asked(backends: &[Backend]) -> (usize, Peer, Message) {
    let begin = Instant::now();
    while begin.elapsed() < crate::support::BOUND {
        for (index, backend) in backends.iter().enumerate() {
            if let Some(mut peer) = backend.try_accept() {
                let request = peer.request();
                return (index, peer, request);
            }
        }
        std::thread::yield_now();
    }
    panic!("no backend was asked");
}

/// One request with these fields: which backend it goes to, and the answer. The backend's connection ends.
pub(crate) fn answered(client: &mut Peer, backends: &[Backend], fields: &str) -> (usize, Message) {
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    let (index, mut peer, _) = whoever_is_asked(backends);
    peer.send(OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    let answer = client.response();
    assert_eq!(answer.status(), 200);
    (index, answer)
}

fn asked(client: &mut Peer, backends: &[Backend], fields: &str) -> usize {
    answered(client, backends, fields).0
}

pub(crate) fn requests_are_shared_out_by_weight(engine: Engine) {
    let backends = backends(2);
    let proxy = with_upstream(
        engine,
        &backends,
        "endpoints = [{ address = \"@0\", weight = 3 }, \"@1\"]",
    );
    let mut client = proxy.client();
    let mut counts = [0, 0];
    for _ in 0..16 {
        counts[asked(&mut client, &backends, "")] += 1;
    }
    assert_eq!(counts, [12, 4]);
}

pub(crate) fn a_backup_is_asked_only_when_nobody_else_can_be(engine: Engine) {
    let mut backends = backends(2);
    let proxy = with_upstream(
        engine,
        &backends,
        "endpoints = [{ address = \"@1\", backup = true }, \"@0\"]",
    );
    let mut client = proxy.client();
    for _ in 0..4 {
        assert_eq!(asked(&mut client, &backends, ""), 0);
    }
    let _refusing = backends.remove(0).refuse();
    let backup = backends;
    for _ in 0..4 {
        assert_eq!(asked(&mut client, &backup, ""), 0);
    }
}

pub(crate) fn requests_with_one_key_go_to_one_endpoint(engine: Engine) {
    let backends = backends(3);
    for method in ["maglev", "rendezvous"] {
        let lines = format!(
            "endpoints = [\"@0\", \"@1\", \"@2\"]\nbalance = {{ hash = \"header:X-User\", method = \"{method}\" }}"
        );
        let proxy = with_upstream(engine, &backends, &lines);
        let mut client = proxy.client();
        let mut seen = [false; 3];
        // Ports are drawn anew in each run, and the hash with them: of so many users none is left over in one run of 10^10.
        for user in 0..60 {
            let fields = format!("X-User: user-{user}\r\n");
            let first = asked(&mut client, &backends, &fields);
            assert_eq!(asked(&mut client, &backends, &fields), first, "{method}");
            seen[first] = true;
        }
        assert_eq!(seen, [true; 3], "{method}: all of them have users");
    }
}

pub(crate) fn one_client_s_requests_go_to_one_endpoint_by_its_address(engine: Engine) {
    let backends = backends(3);
    let proxy = with_upstream(
        engine,
        &backends,
        "endpoints = [\"@0\", \"@1\", \"@2\"]\nbalance = { hash = \"client_ip\" }",
    );
    let first = asked(&mut proxy.client(), &backends, "");
    for _ in 0..5 {
        assert_eq!(asked(&mut proxy.client(), &backends, ""), first);
    }
}

pub(crate) fn the_endpoint_with_the_fewest_requests_is_asked(engine: Engine) {
    let backends = backends(2);
    for balance in ["least_conn", "p2c"] {
        let lines = format!("endpoints = [\"@0\", \"@1\"]\nbalance = \"{balance}\"");
        let proxy = with_upstream(engine, &backends, &lines);
        let (mut one, mut other) = (proxy.client(), proxy.client());
        one.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let (busy, mut peer, _) = whoever_is_asked(&backends);
        for _ in 0..6 {
            assert_eq!(asked(&mut other, &backends, ""), 1 - busy, "{balance}");
        }
        peer.send(OK);
        assert_eq!(one.response().status(), 200);
    }
}

pub(crate) fn the_first_endpoint_with_room_is_asked(engine: Engine) {
    let backends = backends(2);
    let proxy = with_upstream(
        engine,
        &backends,
        "endpoints = [\"@0\", \"@1\"]\nbalance = \"first\"\nmax_conns = 1",
    );
    let (mut one, mut other) = (proxy.client(), proxy.client());
    assert_eq!(asked(&mut other, &backends, ""), 0);
    one.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let (busy, mut peer, _) = whoever_is_asked(&backends);
    assert_eq!(busy, 0);
    assert_eq!(asked(&mut other, &backends, ""), 1);
    peer.send(OK);
    assert_eq!(one.response().status(), 200);
}
