//! Answers that the proxy makes itself.

use crate::Engine;
use crate::support::{Backend, GET, Message, OK, Peer, Proxy, refusing, silent};

/// The answer is the proxy's own, short, and says why.
fn check(answer: &Message, status: u16, error: &str) {
    assert_eq!(answer.status(), status, "{}", answer.head);
    let reason = answer.field("Proxy-Status").unwrap();
    let expected = format!("hp-proxy; error={error}; details=\"");
    assert!(reason.starts_with(&expected), "{reason}");
    let body = String::from_utf8_lossy(&answer.body);
    assert!(body.starts_with(&status.to_string()) && body.len() < 200);
}

/// Sends what must be refused and closed; the backend hears nothing of it.
fn check_refused(proxy: &Proxy, request: &str, status: u16) {
    let mut client = proxy.asked(request);
    let answer = client.response();
    let error = if status == 413 || request.starts_with("CONNECT") {
        "http_request_denied"
    } else {
        "http_request_error"
    };
    check(&answer, status, error);
    assert_eq!(answer.field("Connection"), Some("close"), "{request:?}");
    client.sees_end();
}

pub(crate) fn malformed_heads_are_400(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let heads = [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/x\r\nHost: a\r\n\r\n",
        "GET /\r\n\r\n",
        "\r\n\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        "PUT / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
    ];
    for head in heads {
        check_refused(&proxy, head, 400);
    }
    backend.has_nobody();
    proxy.counts_to("answered 4xx by proxy", heads.len() as u64);
    proxy.counts_to("requests", 0);
}

pub(crate) fn what_is_too_large_or_unknown_has_its_own_status(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "--head-max 16KiB --fields-max 20");
    let (long, many) = ("x".repeat(9_000), "X: 1\r\n".repeat(20));
    check_refused(
        &proxy,
        &format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"),
        414,
    );
    check_refused(&proxy, &format!("GET /{long}"), 414);
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\nY: {long}\r\n\r\n");
    check_refused(&proxy, &large, 431);
    check_refused(
        &proxy,
        &format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
        431,
    );
    let expects = "PUT / HTTP/1.1\r\nHost: a\r\nExpect: wonders\r\nContent-Length: 1\r\n\r\nx";
    check_refused(&proxy, expects, 417);
    check_refused(&proxy, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405);
    let gzip = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
    check_refused(&proxy, gzip, 501);
    let method = "M".repeat(100);
    check_refused(
        &proxy,
        &format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"),
        501,
    );
    check_refused(&proxy, "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505);
    check_refused(&proxy, "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505);
    backend.has_nobody();
}

pub(crate) fn a_refused_request_is_the_last_of_its_pipeline(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let mut client = proxy.asked(format!("{GET}BAD\r\n\r\n{GET}"));
    let mut upstream = backend.answers(OK);
    assert_eq!(client.response().body, b"hi");
    check(&client.response(), 400, "http_request_error");
    client.sees_end();
    upstream.sees_nothing();
    upstream.finish();
    upstream.sees_end();
}

pub(crate) fn a_body_over_the_limit_is_413(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "--body-max 10B");
    let head = "PUT / HTTP/1.1\r\nHost: a\r\n";
    check_refused(
        &proxy,
        &format!("{head}Content-Length: 11\r\n\r\nhello world"),
        413,
    );
    backend.has_nobody();
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    let mut client = proxy.asked(format!("{chunked}a\r\n0123456789\r\n1\r\nx\r\n"));
    check(&client.response(), 413, "http_request_denied");
    // The backend has heard the beginning, and that it is not the whole.
    let (heard, _) = backend.accept().rest();
    assert!(!heard.ends_with(b"0\r\n\r\n"));
    // What is announced counts: no backend is told of a chunk that would be too much.
    let mut client = proxy.asked(format!("{chunked}5\r\nhello\r\n6\r\n "));
    check(&client.response(), 413, "http_request_denied");
    let (heard, _) = backend.accept().rest();
    assert!(!String::from_utf8_lossy(&heard).contains("\r\n6\r\n"));

    let mut client = proxy.asked(format!("{chunked}a\r\n0123456789\r\n0\r\n\r\n"));
    let (mut upstream, heard) = backend.request();
    assert_eq!(heard.body, b"0123456789");
    upstream.send(OK);
    assert_eq!(client.response().body, b"hi");
}

pub(crate) fn a_broken_chunk_is_400(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let head = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in ["z\r\n", "3\r\nabcd", "ffffffffffffffff0\r\n", "1\nx"] {
        let mut client = proxy.asked(format!("{head}2\r\nok\r\n{body}"));
        check(&client.response(), 400, "http_request_error");
        client.sees_end();
        let (heard, _) = backend.accept().rest();
        assert!(!heard.ends_with(b"0\r\n\r\n"));
    }
}

pub(crate) fn a_client_that_stalls_is_408(engine: Engine) {
    let backend = Backend::new();
    let flags = "--head-timeout 100ms --body-timeout 100ms";
    let proxy = Proxy::before(engine, &backend, flags);
    check_refused(&proxy, "GET / HTTP/1.1\r\nHost:", 408);
    backend.has_nobody();
    for body in [
        "Content-Length: 9\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        check_refused(&proxy, &format!("PUT / HTTP/1.1\r\nHost: a\r\n{body}"), 408);
        let (heard, _) = backend.accept().rest();
        assert!(!heard.ends_with(b"0\r\n\r\n"));
    }
    // Who has said nothing is owed nothing.
    proxy.client().sees_end();
}

pub(crate) fn an_idle_client_is_closed_in_silence(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "--keepalive-timeout 100ms");
    let mut client = proxy.asked(GET);
    let _upstream = backend.answers(OK);
    assert_eq!(client.response().body, b"hi");
    client.sees_end();
}

pub(crate) fn a_backend_that_refuses_is_502_and_the_client_is_kept(engine: Engine) {
    let (_socket, addr) = refusing();
    let proxy = Proxy::start(engine, &format!("--workers 1 --backend {addr}"));
    let mut client = proxy.client();
    for _ in 0..3 {
        client.send(GET);
        check(&client.response(), 502, "connection_refused");
    }
    client.send(GET.replace("GET", "HEAD"));
    let answer = client.head();
    assert_eq!(answer.status(), 502);
    assert!(
        answer
            .field("Content-Length")
            .is_some_and(|length| length != "0")
    );
    client.send(GET);
    check(&client.response(), 502, "connection_refused");
    proxy.counts_to("answered 5xx by proxy", 5);
}

pub(crate) fn another_backend_is_tried_when_one_refuses_or_is_silent(engine: Engine) {
    let (_socket, refusing) = refusing();
    let (_listener, _queue, silent) = silent();
    let backend = Backend::new();
    let flags = format!("--connect-timeout 100ms --backend {refusing} --backend {silent}");
    let proxy = Proxy::before(engine, &backend, &flags);
    // All wait at once, so that each needs a connection of its own.
    let mut clients: Vec<Peer> = (0..3).map(|_| proxy.asked(GET)).collect();
    let mut upstreams: Vec<Peer> = clients.iter().map(|_| backend.request().0).collect();
    for upstream in &mut upstreams {
        upstream.send(OK);
    }
    for client in &mut clients {
        assert_eq!(client.response().body, b"hi");
    }
}

pub(crate) fn a_silent_backend_is_504(engine: Engine) {
    let (_listener, _queue, addr) = silent();
    let flags = format!("--workers 1 --backend {addr} --connect-timeout 100ms");
    let proxy = Proxy::start(engine, &flags);
    let mut client = proxy.asked(GET);
    check(&client.response(), 504, "connection_timeout");
    proxy.counts_to("upstream connect errors", 1);
}

pub(crate) fn a_backend_that_does_not_answer_is_504(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "--response-timeout 100ms");
    let body = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    for (request, begun) in [(GET, ""), (GET, "HTTP/1.1 200 OK\r\n"), (body, "")] {
        let mut client = proxy.asked(request);
        let (mut upstream, _heard) = backend.request();
        upstream.send(begun);
        check(&client.response(), 504, "http_response_timeout");
        upstream.sees_end();
    }
}

pub(crate) fn a_malformed_answer_is_502_and_the_last_of_its_connection(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "--head-max 4KiB");
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(5_000));
    let two_lengths = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi";
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nhi";
    let answers = [
        ("SSH-2.0-OpenSSH\r\n", "http_protocol_error"),
        ("HTTP/2 200 OK\r\n\r\n", "http_protocol_error"),
        ("HTTP/1.1 99 X\r\n\r\n", "http_protocol_error"),
        ("HTTP/1.1 600 X\r\n\r\n", "http_protocol_error"),
        (
            "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
            "http_protocol_error",
        ),
        ("HTTP/1.1 200 OK\r\nA b: c\r\n\r\n", "http_protocol_error"),
        (two_lengths, "http_protocol_error"),
        (both, "http_protocol_error"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "http_response_transfer_coding",
        ),
        (
            "HTTP/1.1 101 Go\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            "http_upgrade_failed",
        ),
        (
            "HTTP/1.1 103 Hints\r\nContent-Length: 2\r\n\r\nhi",
            "http_protocol_error",
        ),
        (&large, "http_response_header_section_size"),
    ];
    let mut client = proxy.client();
    for (answer, error) in answers {
        client.send(GET);
        let mut upstream = backend.answers(answer);
        check(&client.response(), 502, error);
        upstream.sees_end();
    }
}

pub(crate) fn a_storm_of_interim_answers_is_502(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let mut client = proxy.asked(GET);
    let mut upstream = backend.answers("HTTP/1.1 102 Wait\r\n\r\n".repeat(100));
    while client.until("\r\n\r\n").starts_with("HTTP/1.1 102") {}
    upstream.sees_end();
}
