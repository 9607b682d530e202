//! What the proxy says of itself and of clients, and what it answers because of that.

use crate::Engine;
use crate::support::{Backend, GET, Message, OK, Proxy};

/// What a backend hears of one request through a proxy with these flags, and the answer.
fn passed(engine: Engine, flags: &str, request: &str) -> (Message, Message) {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, flags);
    let mut client = proxy.asked(request);
    let (mut upstream, heard) = backend.request();
    upstream.send(OK);
    (heard, client.response())
}

/// The answer to a request that no backend hears of.
fn answered(engine: Engine, flags: &str, request: &str) -> Message {
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, flags);
    let answer = proxy.asked(request).response();
    backend.has_nobody();
    answer
}

fn check_refused(engine: Engine, flags: &str, request: &str, status: u16, why: &str) {
    let answer = answered(engine, flags, request);
    assert_eq!(answer.status(), status, "{request}: {}", answer.head);
    let reason = answer.field("Proxy-Status").unwrap();
    assert!(reason.contains(why), "{reason}");
    assert!(answer.field("Date").is_some(), "{}", answer.head);
}

pub(crate) fn a_request_that_was_here_before_is_refused(engine: Engine) {
    let request = |via| format!("GET / HTTP/1.1\r\nHost: a\r\nVia: {via}\r\n\r\n");
    let before = request("1.1 first, 1.0 Here (a, b)");
    check_refused(engine, "--via here", &before, 502, "proxy_loop_detected");
    let (heard, answer) = passed(
        engine,
        "--via here",
        &request("1.1 first (1.1 here), 1.1 there"),
    );
    assert_eq!(
        heard.all("Via"),
        ["1.1 first (1.1 here), 1.1 there", "1.1 here"]
    );
    assert_eq!(answer.field("Via"), Some("1.1 here"));
}

pub(crate) fn each_proxy_has_a_name_of_its_own_in_via(engine: Engine) {
    let backend = Backend::new();
    let name = || {
        let proxy = Proxy::start_as_it_is(engine, &format!("--backend {}", backend.addr));
        let mut client = proxy.asked(GET);
        let (mut upstream, heard) = backend.request();
        upstream.send(OK);
        assert_eq!(client.response().field("Via"), heard.field("Via"));
        heard.field("Via").unwrap().to_owned()
    };
    let (one, other) = (name(), name());
    assert!(one.starts_with("1.1 hp-proxy-"), "{one}");
    assert_ne!(one, other);
}

const CLAIMS: &str = "GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 9.9.9.9\r\n\
X-Forwarded-For: 8.8.8.8\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: front.example\r\n\
X-Forwarded-Port: 443\r\nX-Real-IP: 9.9.9.9\r\nForwarded: for=9.9.9.9;proto=https\r\n\r\n";

pub(crate) fn what_a_stranger_says_of_its_origin_is_dropped(engine: Engine) {
    let (heard, _answer) = passed(engine, "--trusted-proxy 10.0.0.0/8 --forwarded", CLAIMS);
    assert_eq!(heard.all("X-Forwarded-For"), ["127.0.0.1"]);
    assert_eq!(heard.all("X-Forwarded-Proto"), ["http"]);
    assert_eq!(heard.all("X-Forwarded-Host"), ["a.example"]);
    assert_eq!(heard.all("X-Forwarded-Port"), [""; 0]);
    assert_eq!(heard.all("X-Real-IP"), [""; 0]);
    assert_eq!(
        heard.all("Forwarded"),
        ["for=127.0.0.1;host=\"a.example\";proto=http"]
    );
}

pub(crate) fn what_a_trusted_proxy_says_is_passed_on_and_added_to(engine: Engine) {
    let flags = "--trusted-proxy 10.0.0.0/8 --trusted-proxy 127.0.0.1";
    let (heard, _answer) = passed(engine, flags, CLAIMS);
    assert_eq!(
        heard.all("X-Forwarded-For"),
        ["9.9.9.9, 8.8.8.8, 127.0.0.1"]
    );
    assert_eq!(heard.all("X-Forwarded-Proto"), ["https"]);
    assert_eq!(heard.all("X-Forwarded-Host"), ["front.example"]);
    assert_eq!(heard.all("X-Forwarded-Port"), ["443"]);
    assert_eq!(heard.all("X-Real-IP"), ["9.9.9.9"]);
    assert_eq!(
        heard.all("Forwarded"),
        ["for=9.9.9.9;proto=https, for=127.0.0.1;host=\"a.example\";proto=http"]
    );
}

pub(crate) fn names_with_underscores_are_dropped_kept_or_refused(engine: Engine) {
    let request =
        "GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 9.9.9.9\r\nContent_Length: 5\r\n\r\n";
    let names = ["X_Forwarded_For", "Content_Length"];
    let (heard, _answer) = passed(engine, "", request);
    assert!(names.iter().all(|name| heard.field(name).is_none()));
    let (heard, _answer) = passed(engine, "--underscores keep", request);
    assert!(names.iter().all(|name| heard.field(name).is_some()));
    let refuse = "--underscores refuse";
    check_refused(engine, refuse, request, 400, "underscore_in_field_name");
}

pub(crate) fn options_and_trace_end_where_max_forwards_says(engine: Engine) {
    let ask = |method: &str, hops: &str| {
        format!(
            "{method} /x HTTP/1.1\r\nHost: a\r\nMax-Forwards: {hops}\r\nCookie: secret\r\n\
             Authorization: secret\r\nX: y\r\n\r\n"
        )
    };
    let options = answered(engine, "", &ask("OPTIONS", "0"));
    assert_eq!(options.status(), 200);
    assert_eq!(options.field("Content-Length"), Some("0"));
    assert!(options.field("Allow").unwrap().contains("OPTIONS"));
    let trace = answered(engine, "", &ask("TRACE", "0"));
    assert_eq!(trace.status(), 200);
    assert_eq!(trace.field("Content-Type"), Some("message/http"));
    assert_eq!(
        String::from_utf8_lossy(&trace.body),
        "TRACE /x HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nX: y\r\n\r\n"
    );
    for (method, hops, left) in [
        ("OPTIONS", "1", "0"),
        ("TRACE", "007", "6"),
        ("GET", "0", "0"),
    ] {
        let (heard, _answer) = passed(engine, "", &ask(method, hops));
        assert_eq!(heard.all("Max-Forwards"), [left], "{method} {hops}");
        let is_trace = method == "TRACE";
        assert_eq!(heard.field("Cookie").is_none(), is_trace, "{method}");
        assert_eq!(heard.field("Authorization").is_none(), is_trace, "{method}");
    }
}

pub(crate) fn an_answer_without_date_gets_one(engine: Engine) {
    let (_heard, answer) = passed(engine, "", GET);
    let date = answer.field("Date").unwrap();
    assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
    let backend = Backend::new();
    let proxy = Proxy::before(engine, &backend, "");
    let mut client = proxy.asked(GET);
    let (mut upstream, _heard) = backend.request();
    let then = "Sun, 06 Nov 1994 08:49:37 GMT";
    upstream.send(format!(
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nDate: {then}\r\nContent-Length: 0\r\n\r\n"
    ));
    assert_eq!(client.response().all("Date"), [""; 0]);
    assert_eq!(client.response().all("Date"), [then]);
}

pub(crate) fn an_https_target_is_misdirected_unless_a_gateway_sends_it(engine: Engine) {
    let request = "GET https://a/x HTTP/1.1\r\nHost: a\r\n\r\n";
    check_refused(engine, "", request, 421, "http_request_denied");
    let (heard, _answer) = passed(engine, "--trusted-proxy 127.0.0.1", request);
    assert!(heard.head.starts_with("GET /x HTTP/1.1\r\nHost: a\r\n"));
    assert_eq!(heard.all("X-Forwarded-Proto"), ["https"]);
}

pub(crate) fn what_the_proxy_does_not_do_has_its_own_status(engine: Engine) {
    let old = "GET / HTTP/1.0\r\n\r\n";
    let answer = answered(engine, "--http10 refuse", old);
    assert_eq!(answer.status(), 426);
    assert_eq!(answer.field("Upgrade"), Some("HTTP/1.1"));
    assert_eq!(answer.all("Connection"), ["upgrade", "close"]);
    let tunnel = "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n";
    let answer = answered(engine, "", tunnel);
    assert_eq!((answer.status(), answer.field("Allow")), (405, Some("")));
    let endless = "POST / HTTP/1.0\r\n\r\nx";
    check_refused(engine, "", endless, 411, "length_required");
}

pub(crate) fn an_upgrade_to_h2c_stays_here(engine: Engine) {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n";
    for request in [request, &request.replace(", HTTP2-Settings", "")] {
        let (heard, answer) = passed(engine, "", request);
        for name in ["Upgrade", "Connection", "HTTP2-Settings"] {
            assert_eq!(heard.field(name), None, "{name}");
        }
        assert_eq!(answer.status(), 200);
    }
}
