//! What routes do to requests and answers, in a program that is run from a file.

use crate::Engine;
use crate::support::{Backend, Message, OK, Peer, Proxy};

/// A proxy with one worker and these lines in its file; `@0`, `@1` and so on stand for the addresses of backends.
pub(crate) fn with_file(engine: Engine, backends: &[&Backend], text: &str) -> Proxy {
    let mut text = text.to_owned();
    for (index, backend) in backends.iter().enumerate() {
        text = text.replace(&format!("@{index}"), &backend.addr.to_string());
    }
    Proxy::start_from_file(engine, &text)
}

/// The answer to a request that no backend sees.
fn asked(proxy: &Proxy, request: &str) -> Message {
    proxy.asked(request).response()
}

fn get(host: &str, target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")
}

/// The request line of a request that a backend answers with a plain 200, and the answer that the client gets.
fn passed(client: &mut Peer, backend: &Backend, request: &str) -> (Message, Message) {
    client.send(request);
    let (mut peer, seen) = backend.request();
    peer.send(OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    (seen, client.response())
}

pub(crate) fn each_request_goes_where_its_most_specific_route_leads(engine: Engine) {
    let (api, web) = (Backend::new(), Backend::new());
    let proxy = with_file(
        engine,
        &[&api, &web],
        r#"
        [[route]]
        upstream = "web"
        [[route]]
        host = "*.example.test"
        path_prefix = "/v1/"
        methods = ["GET"]
        upstream = "api"
        [[route]]
        path = "/exact"
        upstream = "api"
        [upstream.api]
        endpoints = ["@0"]
        [upstream.web]
        endpoints = ["@1"]
        "#,
    );
    let mut client = proxy.client();
    let mut check = |backend, request: String| {
        let (seen, answer) = passed(&mut client, backend, &request);
        assert_eq!(seen.head.lines().next(), request.lines().next());
        assert_eq!(answer.body, b"hi");
    };
    check(&api, get("a.example.test:80", "/v1/x?y=1", ""));
    check(&web, get("example.test", "/v1/x", ""));
    check(&web, get("a.example.test", "/v1", ""));
    check(&api, get("b", "/exact", ""));
    check(&web, get("b", "/exact/", ""));
    check(
        &web,
        String::from("PUT /v1/x HTTP/1.1\r\nHost: a.example.test\r\nContent-Length: 0\r\n\r\n"),
    );
}

pub(crate) fn a_request_that_no_route_takes_is_told_so(engine: Engine) {
    let backend = Backend::new();
    let proxy = with_file(
        engine,
        &[&backend],
        "[[route]]\nhost = \"a.test\"\nupstream = \"web\"\n[upstream.web]\nendpoints = [\"@0\"]\n",
    );
    let mut client = proxy.client();
    client.send(get("b.test", "/", ""));
    let answer = client.response();
    assert_eq!(answer.status(), 404);
    let reason = answer.field("Proxy-Status").unwrap();
    assert_eq!(
        reason,
        "hp-proxy; error=destination_not_found; details=\"no route takes this request\""
    );
    let (_, answer) = passed(&mut client, &backend, &get("a.test", "/", ""));
    assert_eq!(answer.status(), 200, "the connection goes on");
}

pub(crate) fn another_spelling_of_a_path_goes_around_no_route(engine: Engine) {
    let backend = Backend::new();
    let proxy = with_file(
        engine,
        &[&backend],
        r#"
        [[route]]
        upstream = "web"
        [[route]]
        path_prefix = "/admin"
        answer = { status = 403 }
        [upstream.web]
        endpoints = ["@0"]
        "#,
    );
    for target in [
        "/admin",
        "/%61dmin/x",
        "/x/../admin",
        "/x/%2e%2e/admin/",
        "/./admin",
    ] {
        assert_eq!(
            asked(&proxy, &get("a", target, "")).status(),
            403,
            "{target}"
        );
    }
    // What was judged is what the backend gets.
    let (seen, _) = passed(
        &mut proxy.client(),
        &backend,
        &get("a", "/%7eb/./c?%7e", ""),
    );
    assert!(
        seen.head.starts_with("GET /~b/c?%7e HTTP/1.1\r\n"),
        "{}",
        seen.head
    );
}

pub(crate) fn paths_and_fields_are_changed_as_the_route_says(engine: Engine) {
    let backend = Backend::new();
    let proxy = with_file(
        engine,
        &[&backend],
        r#"
        [[route]]
        name = "stripped"
        path_prefix = "/v1/"
        upstream = "web"
        strip_prefix = "/v1"
        request_headers = { set = { X-Env = "prod {client_ip}", Host = "inner.test" }, add = { X-Path = "{path}" }, remove = ["X-Debug"] }
        response_headers = { set = { Server = "{route} {upstream}" }, add = { X-Served-By = "{endpoint}" }, remove = ["X-Inner"] }
        [[route]]
        path_regex = "^/u/([0-9]+)/(.*)$"
        rewrite = "/users/{1}/{2}"
        upstream = "web"
        [upstream.web]
        endpoints = ["@0"]
        "#,
    );
    let mut client = proxy.client();
    client.send(get(
        "a.test",
        "/v1/a/b?c=d",
        "X-Env: dev\r\nx-debug: 1\r\nX-Env: other\r\nAccept: x\r\n",
    ));
    let (mut peer, seen) = backend.request();
    assert!(
        seen.head.starts_with("GET /a/b?c=d HTTP/1.1\r\n"),
        "{}",
        seen.head
    );
    assert_eq!(seen.all("X-Env"), ["prod 127.0.0.1"]);
    assert_eq!(
        (seen.field("X-Debug"), seen.field("X-Path")),
        (None, Some("a/b"))
    );
    assert_eq!(
        (seen.field("Host"), seen.field("Accept")),
        (Some("inner.test"), Some("x"))
    );
    assert_eq!(seen.field("X-Forwarded-Host"), Some("a.test"));
    peer.send("HTTP/1.1 200 OK\r\nServer: inner\r\nX-Inner: 1\r\nX-Other: 2\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let answer = client.response();
    assert_eq!(answer.all("Server"), ["stripped web"]);
    assert_eq!(
        answer.field("X-Served-By"),
        Some(backend.addr.to_string().as_str())
    );
    assert_eq!(
        (answer.field("X-Inner"), answer.field("X-Other")),
        (None, Some("2"))
    );
    let (seen, _) = passed(&mut client, &backend, &get("a", "/u/17/x/y?q", ""));
    assert!(
        seen.head.starts_with("GET /users/17/x/y?q HTTP/1.1\r\n"),
        "{}",
        seen.head
    );
}

pub(crate) fn redirects_and_fixed_answers_come_from_the_proxy(engine: Engine) {
    let proxy = with_file(
        engine,
        &[],
        r#"
        [[route]]
        path_prefix = "/old/"
        redirect = { to = "https://www.example.test/new/{path}{query}", status = 301 }
        response_headers = { add = { X-Route = "{route}" } }
        [[route]]
        path_prefix = "/here/"
        redirect = { to = "/{path}" }
        [[route]]
        path = "/robots.txt"
        answer = { body = "none\n", content_type = "text/x" }
        [[route]]
        path = "/empty"
        answer = { status = 204 }
        [[route]]
        path = "/closed"
        maintenance = true
        "#,
    );
    let mut client = proxy.client();
    let mut check = |target: &str, status: u16| {
        client.send(get("a", target, ""));
        let answer = client.response();
        assert_eq!(answer.status(), status, "{target}");
        answer
    };
    let answer = check("/old/a/b?c", 301);
    assert_eq!(
        answer.field("Location"),
        Some("https://www.example.test/new/a/b?c")
    );
    assert_eq!(answer.field("X-Route"), Some("/old/..."));
    let answer = check("/here//evil.test/", 308);
    assert_eq!(answer.field("Location"), Some("/evil.test/"));
    let answer = check("/robots.txt", 200);
    assert_eq!(
        (answer.body.as_slice(), answer.field("Content-Type")),
        (&b"none\n"[..], Some("text/x"))
    );
    assert_eq!(check("/empty", 204).field("Content-Length"), None);
    let answer = check("/closed", 503);
    assert_eq!(answer.field("Retry-After"), Some("60"));
    assert!(
        answer
            .field("Proxy-Status")
            .unwrap()
            .contains("destination_unavailable")
    );
    client.send("HEAD /robots.txt HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().field("Content-Length"), Some("5"));
    assert_eq!(asked(&proxy, &get("a", "/empty", "")).status(), 204);
}

pub(crate) fn a_split_gives_each_upstream_its_share(engine: Engine) {
    let (one, other) = (Backend::new(), Backend::new());
    let proxy = with_file(
        engine,
        &[&one, &other],
        r#"
        [[route]]
        split = [{ upstream = "one", weight = 3 }, { upstream = "other", weight = 1 }]
        [[route]]
        headers = { X-Canary = { present = true } }
        upstream = "other"
        [upstream.one]
        endpoints = ["@0"]
        [upstream.other]
        endpoints = ["@1"]
        "#,
    );
    let mut client = proxy.client();
    let mut counts = [0, 0];
    for _ in 0..40 {
        client.send(get("a", "/", ""));
        let (index, mut peer) = (0..)
            .find_map(|_: u64| match (one.try_accept(), other.try_accept()) {
                (Some(peer), _) => Some((0, peer)),
                (_, Some(peer)) => Some((1, peer)),
                (None, None) => None,
            })
            .unwrap();
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        assert_eq!(client.response().status(), 200);
        counts[index] += 1;
    }
    assert!((29..=31).contains(&counts[0]), "{counts:?}");
    passed(&mut client, &other, &get("a", "/", "x-canary: 1\r\n"));
}

pub(crate) fn a_route_has_a_timeout_of_its_own(engine: Engine) {
    let backend = Backend::new();
    let proxy = with_file(
        engine,
        &[&backend],
        r#"
        response_timeout = "1h"
        [[route]]
        path = "/quick"
        upstream = "web"
        timeout = "50ms"
        [upstream.web]
        endpoints = ["@0"]
        "#,
    );
    assert_eq!(asked(&proxy, &get("a", "/quick", "")).status(), 504);
    let post = "POST /quick HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(asked(&proxy, post).status(), 504);
}

pub(crate) fn operators_have_a_listener_of_their_own(engine: Engine) {
    let backend = Backend::new();
    let proxy = with_file(
        engine,
        &[&backend],
        r#"
        [admin]
        listen = "127.0.0.1:0"
        [[route]]
        upstream = "web"
        [upstream.web]
        endpoints = ["@0"]
        "#,
    );
    let mut client = proxy.client_of_admin();
    client.send(get("a", "/health", ""));
    let answer = client.response();
    assert_eq!(
        (answer.status(), answer.body.as_slice()),
        (200, &b"ok\n"[..])
    );
    client.send(get("a", "/counters", ""));
    assert!(
        String::from_utf8(client.response().body)
            .unwrap()
            .contains("connections accepted")
    );
    client.send(get("a", "/nothing", ""));
    assert_eq!(client.response().status(), 404);
    backend.has_nobody();
}

pub(crate) fn several_listeners_serve_the_same_routes(engine: Engine) {
    let backend = Backend::new();
    let proxy = with_file(
        engine,
        &[&backend],
        r#"
        [[listener]]
        address = "127.0.0.1:0"
        trusted_proxies = ["127.0.0.1"]
        [[route]]
        client_ip = "192.0.2.0/24"
        answer = { status = 403 }
        [[route]]
        upstream = "web"
        [upstream.web]
        endpoints = ["@0"]
        "#,
    );
    let request = get("a", "/", "X-Forwarded-For: 192.0.2.7\r\n");
    // Whoever is not trusted says nothing of others.
    let (seen, _) = passed(&mut proxy.client(), &backend, &request);
    assert_eq!(seen.field("X-Forwarded-For"), Some("127.0.0.1"));
    let mut trusted = proxy.client_of_second_listener();
    trusted.send(&request);
    assert_eq!(trusted.response().status(), 403);
    let (seen, _) = passed(
        &mut trusted,
        &backend,
        &get("a", "/", "X-Forwarded-For: 192.0.2.7, 198.51.100.1\r\n"),
    );
    assert_eq!(
        seen.field("X-Forwarded-For"),
        Some("192.0.2.7, 198.51.100.1, 127.0.0.1")
    );
}
