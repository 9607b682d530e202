//! What of a message reaches the other side, and in which form.

use crate::Engine;
use crate::support::{Backend, GET, Message, OK, Peer, Proxy};
use socket2::SockRef;
use std::io::Write;
use std::os::unix::fs::FileExt;

const CHUNKED: &str =
    "5;name=value\r\nhello\r\n6;q=\"a;b\"\r\n world\r\n0\r\nX-Sum: 7\r\nContent-Length: 9\r\n\r\n";
const CHUNKED_POST: &str = "POST /up HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\
TE: trailers\r\nConnection: TE\r\n\r\n";
const CHUNKED_OK: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A proxy, one backend, and what one request and its answer became.
fn check(engine: Engine, request: &str, answer: &str) -> (Message, Message) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let mut client = proxy.asked(request);
    let (mut upstream, heard) = backend.request();
    upstream.send(answer);
    drop(upstream);
    (heard, client.response())
}

pub(crate) fn get_is_passed_on_and_answered(engine: Engine) {
    let (heard, answer) = check(engine, GET, OK);
    assert!(
        heard
            .head
            .starts_with("GET /path?q=1 HTTP/1.1\r\nHost: a.example\r\n")
    );
    assert!(heard.body.is_empty());
    assert!(answer.head.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(answer.field("Via"), Some("1.1 hp-proxy"));
    assert_eq!(answer.body, b"hi");
}

pub(crate) fn head_gets_the_length_and_no_content(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let mut client = proxy.asked(GET.replace("GET", "HEAD"));
    let (mut upstream, heard) = backend.request();
    assert!(heard.head.starts_with("HEAD "));
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
    assert_eq!(client.head().field("Content-Length"), Some("100"));
    // The next answer follows at once, on both connections.
    client.send(GET);
    upstream.request();
    upstream.send(OK);
    assert_eq!(client.response().body, b"hi");
}

pub(crate) fn answers_without_content_have_none_whatever_their_length_says(engine: Engine) {
    for (status, length, told) in [(204, 5, None), (304, 5, Some("5"))] {
        let backend = Backend::new();
        let proxy = Proxy::before(engine, &backend, "");
        let mut client = proxy.asked(GET);
        let mut upstream = backend.answers(format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n"
        ));
        let answer = client.head();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.field("Content-Length"), told, "{status}");
        client.send(GET);
        // RFC 9110 forbids a length with 204: a backend that sends one may send content, too.
        if status == 204 {
            upstream.sees_end();
            upstream = backend.accept();
        }
        upstream.request();
        upstream.send(OK);
        assert_eq!(client.response().body, b"hi");
    }
}

pub(crate) fn post_by_length_streams_both_ways(engine: Engine) {
    let body = "0123456789".repeat(30_000);
    let length = body.len();
    let post = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    let answer = format!("HTTP/1.1 201 Made\r\nContent-Length: {length}\r\n\r\n{body}");
    let (heard, answered) = check(engine, &(post + &body), &answer);
    assert!(heard.body == body.as_bytes());
    assert_eq!(heard.field("Content-Length"), Some("300000"));
    assert_eq!(answered.status(), 201);
    assert!(answered.body == body.as_bytes());
}

pub(crate) fn chunks_stream_both_ways_without_extensions_and_with_trailers(engine: Engine) {
    let post = format!("{CHUNKED_POST}{CHUNKED}");
    let (heard, answered) = check(engine, &post, &format!("{CHUNKED_OK}{CHUNKED}"));
    for message in [heard, answered] {
        assert_eq!(message.field("Transfer-Encoding"), Some("chunked"));
        assert_eq!(message.field("Content-Length"), None);
        assert_eq!(message.body, b"hello world");
        assert_eq!(message.trailers, "X-Sum: 7\r\n");
    }
}

/// What a splice moves is on pages that a client of the same host can still write to, if it has sent them from a file. Those of a line must not be.
pub(crate) fn a_client_that_writes_over_what_it_has_sent_moves_no_line(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let mut file = tempfile::tempfile().unwrap();
    let in_file = [
        "a".repeat(1_000),
        "\r\n8000\r\n".to_owned(),
        "b".repeat(0x8000),
    ]
    .concat();
    file.write_all(in_file.as_bytes()).unwrap();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n30d40\r\n";
    let mut client = proxy.asked([head, &"a".repeat(199_000)].concat());
    let sent = SockRef::from(client.stream()).sendfile(&file, 0, None);
    assert_eq!(sent.unwrap(), in_file.len());
    let mut upstream = backend.accept();
    let head = upstream.until("\r\n\r\n");
    let begun = upstream.exactly("30d40\r\n".len() + 199_000);
    upstream.waits_for(in_file.len());
    file.write_all_at(b"\r\n0\r\n\r\nGET /", 1_000).unwrap();
    client.send("\r\n0\r\n\r\n");
    let rest = upstream.until("0\r\n\r\n");
    assert!(head.contains("chunked"));
    assert!(begun.starts_with(b"30d40\r\naaa"));
    assert_eq!(rest.len(), in_file.len() + "\r\n0\r\n\r\n".len());
    assert_eq!(&rest[1_000..1_008], "\r\n8000\r\n");
    upstream.send(OK);
    assert_eq!(client.response().body, b"hi");
}

pub(crate) fn a_request_cut_at_every_byte_arrives_whole(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let by_length = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world";
    let chunked = format!("{CHUNKED_POST}{CHUNKED}");
    let cut = |request: &str, at: usize| {
        let mut client = proxy.asked(&request[..at]);
        proxy.fence();
        client.send(&request[at..]);
        (client, request.contains("POST"))
    };
    let mut upstream: Option<Peer> = None;
    for request in [GET, by_length, &chunked] {
        for at in 1..request.len() {
            let (mut client, has_body) = cut(request, at);
            let upstream = upstream.get_or_insert_with(|| backend.accept());
            let heard = upstream.request();
            upstream.send(OK);
            let body = if has_body { &b"hello world"[..] } else { b"" };
            assert_eq!(heard.body, body, "{request} cut at {at}");
            assert_eq!(client.response().body, b"hi");
        }
    }
    backend.has_nobody();
}

pub(crate) fn a_response_cut_at_every_byte_arrives_whole(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let by_length = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world";
    let chunked = format!("{CHUNKED_OK}{CHUNKED}");
    let until_close = "HTTP/1.1 200 OK\r\nServer: x\r\n\r\nhello world";
    let after_hints = format!("HTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\n{by_length}");
    for answer in [by_length, &chunked, until_close, &after_hints] {
        for at in 1..answer.len() {
            let mut client = proxy.asked(GET);
            let mut upstream = backend.answers(&answer[..at]);
            proxy.fence();
            upstream.send(&answer[at..]);
            drop(upstream);
            if answer == after_hints {
                assert_eq!(client.response().status(), 103);
            }
            let answered = client.response();
            assert_eq!(answered.body, b"hello world", "{answer} cut at {at}");
        }
    }
}

pub(crate) fn a_hundred_pipelined_requests_are_answered_in_order(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let request = |number: u32| match number % 3 {
        0 => format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n"),
        1 => format!("PUT /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
        _ => format!(
            "PUT /{number} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        ),
    };
    let mut client = proxy.asked((0..100).map(request).collect::<String>());
    let mut upstream = backend.accept();
    for number in 0..100 {
        let heard = upstream.request();
        assert!(heard.head.contains(&format!(" /{number} ")));
        assert_eq!(heard.body, if number % 3 == 0 { &b""[..] } else { b"abc" });
        upstream.sees_nothing(); // One at a time.
        let body = format!("answer {number}");
        upstream.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        assert_eq!(client.response().body, body.as_bytes());
    }
    client.sees_nothing();
    backend.has_nobody();
}

pub(crate) fn a_client_of_http10_is_kept_only_when_it_asks(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let mut client = proxy.asked("GET / HTTP/1.0\r\n\r\n");
    let (mut upstream, heard) = backend.request();
    assert!(heard.head.starts_with("GET / HTTP/1.1\r\n"));
    assert_eq!(heard.field("Host"), Some(proxy.addr.to_string().as_str()));
    assert_eq!(heard.field("Via"), Some("1.0 hp-proxy"));
    upstream.send(OK);
    let answer = client.response();
    assert_eq!(answer.field("Connection"), Some("close"));
    assert_eq!(answer.body, b"hi");
    client.sees_end();

    let mut client = proxy.client();
    for _ in 0..3 {
        client.send("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
        upstream.request();
        upstream.send(OK);
        let answer = client.response();
        assert_eq!(answer.field("Connection"), Some("keep-alive"));
        assert_eq!(answer.body, b"hi");
    }
}

pub(crate) fn chunks_reach_a_client_of_http10_as_plain_bytes_until_the_end(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let mut client = proxy.asked("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let _upstream = backend.answers(format!("{CHUNKED_OK}{CHUNKED}"));
    let answer = client.response();
    assert_eq!(answer.field("Transfer-Encoding"), None);
    assert_eq!(answer.field("Connection"), Some("close"));
    assert_eq!(answer.body, b"hello world");
}

pub(crate) fn what_a_backend_ends_by_closing_is_chunked_for_http11(engine: Engine) {
    let (_heard, answer) = check(engine, GET, "HTTP/1.0 200 OK\r\n\r\nhello world");
    assert_eq!(answer.field("Transfer-Encoding"), Some("chunked"));
    assert_eq!(answer.field("Via"), Some("1.0 hp-proxy"));
    assert_eq!(answer.field("Connection"), None);
    assert_eq!(answer.body, b"hello world");
}

pub(crate) fn interim_answers_go_to_http11_and_not_to_http10(engine: Engine) {
    let answer = format!("HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n{OK}");
    for (request, expected) in [
        (GET, &[103, 200][..]),
        ("GET / HTTP/1.0\r\n\r\n", &[200][..]),
    ] {
        let backend = Backend::new();
        let proxy = Proxy::before(engine, &backend, "");
        let mut client = proxy.asked(request);
        let _upstream = backend.answers(&answer);
        for status in expected {
            let message = client.response();
            assert_eq!(message.status(), *status);
            let link = (*status == 103).then_some("</s.css>");
            assert_eq!(message.field("Link"), link);
        }
    }
}

pub(crate) fn the_body_waits_for_the_backends_continue(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let mut client = proxy
        .asked("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n");
    let mut upstream = backend.accept();
    let head = upstream.until("\r\n\r\n");
    assert!(head.contains("\r\nExpect: 100-continue\r\n"));
    client.sees_nothing();
    upstream.send("HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.response().status(), 100);
    client.send("hello");
    assert_eq!(upstream.exactly(5), b"hello");
    upstream.send(OK);
    assert_eq!(client.response().body, b"hi");

    // Both connections live on; a refusal instead of 100 ends the client's, whose body may or may not come.
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    upstream.until("\r\n\r\n");
    upstream.send("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n");
    let refusal = client.response();
    assert_eq!(refusal.status(), 401);
    assert_eq!(refusal.field("Connection"), Some("close"));
    client.sees_end();
    upstream.sees_end();
}

pub(crate) fn an_answer_may_come_before_the_end_of_the_request(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let mut client =
        proxy.asked("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nbegun");
    let mut upstream = backend.accept();
    upstream.until("\r\n\r\nbegun");
    // The backend reads no further and tears the connection: its answer counts all the same.
    upstream.send("HTTP/1.1 403 No\r\nContent-Length: 3\r\n\r\nno!");
    upstream.reset();
    let answer = client.response();
    assert_eq!(answer.status(), 403);
    assert_eq!(answer.field("Connection"), Some("close"));
    assert_eq!(answer.body, b"no!");
    // The client has not stopped: its connection is not torn from under it before it has read the answer.
    client.send("more");
    client.sees_end();
}

pub(crate) fn fields_of_one_hop_stay_there(engine: Engine) {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Private, Host\r\n\
        X-Private: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\n\
        Proxy-Authorization: Basic eDp5\r\nTrailer: X-Sum\r\nUpgrade: h2c\r\nX-Public: yes\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Inner, close\r\n\
        X-Inner: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\n\
        X-Public: yes\r\n\r\nhi";
    let (heard, answered) = check(engine, request, answer);
    let hop = [
        "Keep-Alive",
        "Upgrade",
        "X-Private",
        "X-Inner",
        "Trailer",
        "TE",
    ];
    let proxy = [
        "Proxy-Connection",
        "Proxy-Authorization",
        "Proxy-Authenticate",
    ];
    for message in [&heard, &answered] {
        for name in hop.iter().chain(&proxy) {
            assert_eq!(message.field(name), None, "{name} in {}", message.head);
        }
        assert_eq!(message.field("X-Public"), Some("yes"));
    }
    assert_eq!(heard.field("Host"), Some("a"));
    assert_eq!(heard.field("Connection"), None);
    assert_eq!(answered.field("Connection"), Some("close"));
    assert_eq!(answered.body, b"hi");
}

pub(crate) fn origin_fields_say_what_the_proxy_saw(engine: Engine) {
    let request = "GET / HTTP/1.1\r\nHost: a.example:81\r\nVia: 1.0 before\r\n\
        X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\nX-Forwarded-Proto: https\r\n\
        X-Forwarded-Host: evil.example\r\nForwarded: for=1.2.3.4\r\n\r\n";
    let (heard, _answer) = check(engine, request, OK);
    assert_eq!(heard.all("Via"), ["1.0 before", "1.1 hp-proxy"]);
    assert_eq!(heard.all("X-Forwarded-For"), ["127.0.0.1"]);
    assert_eq!(heard.all("X-Forwarded-Proto"), ["http"]);
    assert_eq!(heard.all("X-Forwarded-Host"), ["a.example:81"]);
    assert_eq!(heard.all("Forwarded"), [""; 0]);
}

pub(crate) fn an_absolute_target_decides_the_host(engine: Engine) {
    let request = "GET http://b.example:82/x?y HTTP/1.1\r\nHost: b.example:82\r\n\r\n";
    let (heard, _answer) = check(engine, request, OK);
    assert!(heard.head.starts_with("GET /x?y HTTP/1.1\r\n"));
    assert_eq!(heard.field("Host"), Some("b.example:82"));
    let (heard, _answer) = check(engine, "GET http://b.example HTTP/1.0\r\n\r\n", OK);
    assert!(heard.head.starts_with("GET / HTTP/1.1\r\n"));
    assert_eq!(heard.field("Host"), Some("b.example"));
}

pub(crate) fn an_upgrade_becomes_a_tunnel_until_both_ends_have_finished(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let upgrade = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\n";
    let mut client = proxy.asked(format!("{upgrade}hasty"));
    let (mut upstream, heard) = backend.request();
    assert_eq!(heard.field("Upgrade"), Some("echo/1"));
    upstream.sees_nothing(); // Nobody has agreed yet.
    assert_eq!(heard.field("Connection"), Some("upgrade"));
    let switch = "HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: echo/1\r\n\r\nright behind";
    upstream.send(switch);
    let answer = client.response();
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.field("Upgrade"), Some("echo/1"));
    assert_eq!(client.exactly(12), b"right behind");
    assert_eq!(upstream.exactly(5), b"hasty");

    client.send("GET / HTTP/1.1 is no request here\r\n\r\n");
    upstream.until("here\r\n\r\n");
    let large = vec![7; 300_000];
    upstream.send(&large);
    assert!(client.exactly(large.len()) == large);
    client.send("last");
    client.finish();
    let (bytes, is_reset) = upstream.rest();
    assert_eq!((bytes.as_slice(), is_reset), (&b"last"[..], false));
    upstream.send("still there");
    assert_eq!(client.exactly(11), b"still there");
    drop(upstream);
    let (bytes, is_reset) = client.rest();
    assert_eq!((bytes.len(), is_reset), (0, false));
    proxy.counts_to("tunnels", 1);
}

/// Came out of the tunnel as an end in good order, and half a message looked whole.
pub(crate) fn a_reset_goes_through_a_tunnel_in_both_directions(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let upgrade = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\n";
    let switch = "HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: echo/1\r\n\r\n";
    let joined = || {
        let mut client = proxy.asked(upgrade);
        let mut upstream = backend.answers(switch);
        client.response();
        client.send("half a");
        upstream.send("half an");
        assert_eq!(client.exactly(7), b"half an");
        assert_eq!(upstream.exactly(6), b"half a");
        (client, upstream)
    };
    let (mut client, upstream) = joined();
    upstream.reset();
    assert!(client.rest().1, "the backend's reset became an end");
    let (client, mut upstream) = joined();
    client.reset();
    assert!(upstream.rest().1, "the client's reset became an end");
    let (client, upstream) = joined();
    drop(client); // It ends in order, and answers with a reset what is still said to it.
    let said = (0..1_000_000).find(|_| upstream.stream().write_all(b"more").is_err());
    assert!(said.is_some(), "the client's end was no news");
    proxy.counts_to("responses truncated", 1);
    proxy.counts_to("client aborts", 2);
}

/// Nobody broke off: it counted as an answer that a backend had cut short.
pub(crate) fn a_tunnel_that_times_out_counts_as_such(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "--tunnel-timeout 100ms");
    let upgrade = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\n";
    let mut client = proxy.asked(upgrade);
    let mut upstream =
        backend.answers("HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: echo/1\r\n\r\n");
    assert_eq!(client.response().status(), 101);
    assert!(client.rest().1 && upstream.rest().1, "an end in order");
    proxy.counts_to("tunnels timed out", 1);
    proxy.counts_to("responses truncated", 0);
    proxy.counts_to("client aborts", 0);
}

/// The backend may have switched already, and an end in order would be all that the client had to say.
pub(crate) fn an_upgrade_that_is_given_up_is_a_reset(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "--response-timeout 200ms");
    let upgrade = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\n";
    let client = proxy.asked(upgrade);
    let (mut upstream, _heard) = backend.request();
    client.reset();
    assert!(upstream.rest().1, "the client has left");
    let mut client = proxy.asked(upgrade);
    let (mut upstream, _heard) = backend.request();
    assert_eq!(client.response().status(), 504);
    assert!(upstream.rest().1, "the backend was too slow");
}

pub(crate) fn continue_is_said_when_the_backend_does_not(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "--continue-timeout 100ms");
    let mut client = proxy
        .asked("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let mut upstream = backend.accept();
    upstream.until("\r\n\r\n");
    assert_eq!(client.until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello");
    assert_eq!(upstream.exactly(5), b"hello");
    upstream.send(format!("HTTP/1.1 100 Continue\r\n\r\n{OK}"));
    let answer = client.response();
    assert_eq!((answer.status(), answer.body.as_slice()), (200, &b"hi"[..]));
    client.send(GET); // Both connections live on.
    upstream.until("\r\n\r\n");
    upstream.send(OK);
    assert_eq!(client.response().body, b"hi");
}

pub(crate) fn an_upgrade_that_is_declined_is_an_ordinary_exchange(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let upgrade = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\n";
    let mut client = proxy.asked(upgrade);
    let mut upstream = backend.answers(OK);
    assert_eq!(client.response().body, b"hi");
    client.send(GET);
    upstream.request();
    upstream.send(OK);
    assert_eq!(client.response().body, b"hi");
}
