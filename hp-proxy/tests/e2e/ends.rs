//! Messages that break off, sides that leave, and sides that are slow.

use crate::Engine;
use crate::support::{Backend, GET, OK, Peer, Proxy};
use std::io::Write;
use std::time::Duration;

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello";
const CHUNKED_POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const BY_LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const BY_CHUNKS: &str =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n";
/// What the proxy may hold of a body that nobody reads.
const HELD_MAX: usize = 256 << 10;
/// A sender that gets rid of less in 300 ms is stuck.
const TRICKLE_MAX: usize = 512 << 10;
/// A worker's receive buffers, which are touched in turn, and some.
const GROWN_MAX_KB: u64 = 3 << 10;

pub(crate) fn an_answer_cut_at_any_byte_never_looks_whole(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    for (request, must_reset) in [(GET, false), ("GET / HTTP/1.0\r\n\r\n", true)] {
        for answer in [BY_LENGTH, BY_CHUNKS] {
            let head_len = answer.find("\r\n\r\n").unwrap() + 4;
            for at in 0..answer.len() {
                let mut client = proxy.asked(request);
                drop(backend.answers(&answer[..at]));
                if at < head_len {
                    assert_eq!(client.response().status(), 502, "{answer} cut at {at}");
                    continue;
                }
                let (bytes, is_reset) = client.rest();
                let text = String::from_utf8(bytes).unwrap();
                let looks_whole = match text.split_once("\r\n\r\n") {
                    None => false,
                    Some(_) if must_reset => true,
                    Some((_, body)) => body == "hello" || body.ends_with("0\r\n\r\n"),
                };
                assert!(is_reset || !looks_whole, "{answer} cut at {at}: {text}");
                assert!(is_reset || !must_reset, "{answer} cut at {at}: {text}");
            }
        }
    }
    let cuts = BY_LENGTH.len() + BY_CHUNKS.len();
    let truncated =
        cuts - BY_LENGTH.find("\r\n\r\n").unwrap() - BY_CHUNKS.find("\r\n\r\n").unwrap();
    proxy.counts_to("responses truncated", 2 * (truncated - 8) as u64);
    proxy.counts_to("responses", 0);
}

pub(crate) fn a_reset_is_no_end_of_an_answer_that_lasts_until_the_end(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    for request in [GET, "GET / HTTP/1.0\r\n\r\n"] {
        let mut client = proxy.asked(request);
        let upstream = backend.answers("HTTP/1.1 200 OK\r\n\r\nhello");
        client.until("hello");
        upstream.reset();
        let (bytes, is_reset) = client.rest();
        assert!(is_reset && !bytes.ends_with(b"0\r\n\r\n"));
    }
}

pub(crate) fn a_backend_that_stalls_in_a_body_cuts_the_answer(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "--body-timeout 100ms");
    let mut client = proxy.asked(GET);
    let mut upstream = backend.answers(&BY_LENGTH[..BY_LENGTH.len() - 1]);
    assert!(client.rest().1);
    upstream.sees_end();
}

pub(crate) fn a_client_that_leaves_while_it_waits_ends_the_backends_work(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let whole_post = format!("{POST}world");
    for request in [GET, &whole_post] {
        let client = proxy.asked(request);
        let (mut upstream, _heard) = backend.request();
        client.reset();
        upstream.sees_end();
    }
    proxy.counts_to("client aborts", 2);
}

/// After a long upload the connection is received from into large buffers, and a request that lay there unread hid the reset from a ring: the
/// backend worked on, and the client's place was held, until the answer or its deadline.
pub(crate) fn a_client_that_leaves_behind_an_unread_request_ends_the_backends_work(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let chunk = format!("4000\r\n{}\r\n", "a".repeat(0x4000));
    let mut client = proxy.asked(format!("{CHUNKED_POST}{}0\r\n\r\n", chunk.repeat(15)));
    let (mut upstream, heard) = backend.request();
    assert_eq!(heard.body.len(), 15 * 0x4000);
    upstream.send(OK);
    assert_eq!(client.response().body, b"hi");
    client.send(GET);
    upstream.request();
    client.send(GET);
    proxy.fence(); // It has the second one.
    client.reset();
    upstream.sees_end();
    proxy.counts_to("client aborts", 1);
}

pub(crate) fn a_client_that_leaves_in_its_body_ends_the_backends_work(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    for is_reset in [true, false] {
        let client = proxy.asked(POST);
        let mut upstream = backend.accept();
        upstream.until("hello");
        if is_reset {
            client.reset();
        } else {
            drop(client);
        }
        upstream.sees_end();
    }
}

pub(crate) fn a_client_that_leaves_in_a_download_ends_the_backends_work(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let begun = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbegun";
    let whole_post = format!("{POST}world");
    for request in [GET, &whole_post] {
        // The backend is silent at the moment: only the client's leaving can be the reason.
        let mut client = proxy.asked(request);
        let mut upstream = backend.answers(begun);
        client.until("begun");
        client.reset();
        upstream.sees_end();
    }
}

pub(crate) fn a_client_that_has_said_all_still_gets_its_answer(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let mut client = proxy.asked(GET);
    client.finish();
    let (mut upstream, _heard) = backend.request();
    proxy.fence();
    upstream.send(OK);
    assert_eq!(client.response().body, b"hi");
    client.sees_end();
}

pub(crate) fn a_request_that_ends_at_any_byte_never_looks_whole(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let chunked =
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for request in [&format!("{POST}world"), chunked] {
        let head_len = request.find("\r\n\r\n").unwrap() + 4;
        for at in 1..request.len() {
            let mut client = proxy.asked(&request[..at]);
            client.finish();
            client.sees_end();
            if at < head_len {
                backend.has_nobody();
                continue;
            }
            let mut upstream = backend.accept();
            upstream.until("\r\n\r\n");
            let (heard, _) = upstream.rest();
            let is_whole = heard.ends_with(b"world") || heard.ends_with(b"0\r\n\r\n");
            assert!(!is_whole, "{request} cut at {at}");
        }
    }
}

pub(crate) fn what_follows_the_last_request_does_not_take_its_answer_away(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let last = GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let mut client = proxy.asked(last + &"x".repeat(32 * 1024));
    let _upstream = backend.answers(OK);
    // Closing with unread bytes would reset the connection, and the answer might go with it.
    let (bytes, is_reset) = client.rest();
    assert!(bytes.ends_with(b"hi") && !is_reset);
}

/// Sends a body as long as somebody takes it; gives how much of it that was.
fn send_until_stuck(from: &Peer, body: &[u8]) -> usize {
    let mut stream = from.stream();
    stream
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let mut sent = 0;
    while sent < body.len() {
        // A call returns early only when it had to wait too long; a kernel may let bytes trickle on for minutes.
        match stream.write(&body[sent..]) {
            Ok(count) if count > TRICKLE_MAX => sent += count,
            Ok(count) => {
                sent += count;
                break;
            }
            Err(_stuck) => break,
        }
    }
    stream
        .set_write_timeout(Some(crate::support::BOUND))
        .unwrap();
    sent
}

/// Bytes that the kernel holds for the connections with these ports, on whichever side: sent and not taken, or taken
/// and not read.
fn held_by_kernel(ports: [u16; 2]) -> usize {
    let hex = |text: &str| usize::from_str_radix(text, 16).unwrap();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let lines = table.lines().skip(1).map(|line| {
        let words: Vec<&str> = line
            .split([' ', ':'])
            .filter(|word| !word.is_empty())
            .collect();
        let is_ours = [words[2], words[4]].iter().any(|port| {
            let port = hex(port);
            ports.iter().any(|ours| usize::from(*ours) == port)
        });
        if is_ours {
            hex(words[6]) + hex(words[7])
        } else {
            0
        }
    });
    lines.sum()
}

/// More than the kernel takes on behalf of two connections, as it is told (tcp(7)): some machines let it have more than others.
fn large_body_bytes() -> usize {
    let most = |kind: &str| {
        let limits = std::fs::read_to_string(format!("/proc/sys/net/ipv4/tcp_{kind}")).unwrap();
        let max = limits.split_whitespace().last().unwrap();
        max.parse::<usize>().unwrap()
    };
    2 * (most("rmem") + most("wmem")) + (8 << 20)
}

/// `from` sends a large body, of which `to` at first reads nothing. The kernel may hold megabytes, the proxy may not.
fn check_held_back(proxy: &Proxy, from: &mut Peer, to: &mut Peer, ports: [u16; 2]) {
    let period: Vec<u8> = (0..=250).collect();
    let body_bytes = large_body_bytes();
    let body = period.repeat(body_bytes / period.len() + 1);
    let body = &body[..body_bytes];
    let before_kb = proxy.memory_kb();
    let sent = send_until_stuck(from, body);
    assert!(sent < body_bytes, "all of it was taken");
    let held = sent.saturating_sub(held_by_kernel(ports));
    assert!(held < HELD_MAX, "{held} of {sent} bytes are in the proxy");
    let grown_kb = proxy.memory_kb().saturating_sub(before_kb);
    assert!(grown_kb < GROWN_MAX_KB, "{grown_kb} KB for one body");
    let received = std::thread::scope(|scope| {
        scope.spawn(|| from.send(&body[sent..]));
        to.exactly(body_bytes)
    });
    assert!(received == body);
    let grown_kb = proxy.memory_kb().saturating_sub(before_kb);
    assert!(grown_kb < GROWN_MAX_KB, "{grown_kb} KB in the end");
}

pub(crate) fn a_slow_client_holds_its_backend_back(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "--body-timeout 5m");
    let mut client = proxy.client();
    client.send(GET);
    let (mut upstream, _heard) = backend.request();
    upstream.send(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
        large_body_bytes()
    ));
    client.head();
    let ports = [client.port(), upstream.peer_port()];
    check_held_back(&proxy, &mut upstream, &mut client, ports);
}

pub(crate) fn a_slow_backend_holds_its_client_back(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "--body-timeout 5m");
    let mut client = proxy.client();
    client.send(format!(
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        large_body_bytes()
    ));
    let mut upstream = backend.accept();
    upstream.until("\r\n\r\n");
    let ports = [client.port(), upstream.peer_port()];
    check_held_back(&proxy, &mut client, &mut upstream, ports);
    upstream.send(OK);
    assert_eq!(client.response().body, b"hi");
}

pub(crate) fn a_client_that_takes_nothing_is_cut_in_time(engine: Engine) {
    let body_bytes = large_body_bytes();
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "--body-timeout 200ms");
    let mut client = Peer::with_small_buffer(proxy.addr);
    client.send(GET);
    let (mut upstream, _heard) = backend.request();
    upstream.send(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {body_bytes}\r\n\r\n"
    ));
    let body = vec![0; body_bytes];
    let sent = send_until_stuck(&upstream, &body);
    assert!(sent < body_bytes);
    upstream.sees_end();
    assert!(client.rest().0.len() < body_bytes);
    proxy.counts_to("client aborts", 1);
}
