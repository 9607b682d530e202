//! What operators change while the program runs: by its admin listener, and by its command line.

use crate::Engine;
use crate::balance::{answered, backends, whoever_is_asked};
use crate::support::{Backend, OK, Peer, Proxy};
use serde_json::{Value, json};
use std::process::{Command, Stdio};

/// A proxy with one route, an upstream `web` with the first of these backends, and more lines for it.
fn started(engine: Engine, backends: &[Backend], first: usize, lines: &str) -> Proxy {
    let each = backends.iter().take(first);
    let endpoints: Vec<String> = each
        .map(|one| format!("{:?}", one.addr.to_string()))
        .collect();
    let text = format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\n[[route]]\nname = \"all\"\nupstream = \"web\"\n\
         [upstream.web]\nendpoints = [{}]\n{lines}\n",
        endpoints.join(", ")
    );
    Proxy::start_from_file(engine, &text)
}

/// A request to the admin listener, and its answer.
fn order(proxy: &Proxy, line: &str, body: &Value) -> (u16, Value) {
    let content = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    let mut admin = proxy.client_of_admin();
    admin.send(format!(
        "{line} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{content}",
        content.len()
    ));
    let answer = admin.response();
    let told = serde_json::from_slice(&answer.body);
    (answer.status(), told.unwrap_or(Value::Null))
}

/// The same, which must do.
fn done(proxy: &Proxy, line: &str, body: &Value) {
    let (status, told) = order(proxy, line, body);
    assert_eq!(status, 200, "{line}: {told}");
}

fn endpoint(method: &str, backend: &Backend) -> String {
    format!("{method} /upstreams/web/endpoints/{}", backend.addr)
}

/// How many of eight requests go to each of three backends.
fn shares(client: &mut Peer, backends: &[Backend]) -> [u32; 3] {
    let mut counts = [0; 3];
    for _ in 0..8 {
        counts[answered(client, backends, "").0] += 1;
    }
    counts
}

/// What the admin listener shows of each endpoint: address, standing and weight.
fn shown(proxy: &Proxy) -> Vec<(String, String, u64)> {
    let (status, told) = order(proxy, "GET /upstreams", &Value::Null);
    assert_eq!(status, 200);
    let endpoints = told["upstreams"][0]["endpoints"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    endpoints
        .iter()
        .map(|one| {
            (
                text(&one["address"]),
                text(&one["standing"]),
                one["weight"].as_u64().unwrap(),
            )
        })
        .collect()
}

pub(crate) fn endpoints_come_and_go_while_requests_are_in_flight(engine: Engine) {
    let backends = backends(3);
    let proxy = started(engine, &backends, 2, "");
    let mut client = proxy.client();
    assert_eq!(shares(&mut client, &backends), [4, 4, 0]);
    let mut waiting = proxy.asked("GET /waits HTTP/1.1\r\nHost: a\r\n\r\n");
    let (busy, mut peer, _) = whoever_is_asked(&backends);
    let added = json!({ "address": backends[2].addr.to_string(), "weight": 2 });
    done(&proxy, "POST /upstreams/web/endpoints", &added);
    done(&proxy, &endpoint("DELETE", &backends[busy]), &Value::Null);
    let counts = shares(&mut client, &backends);
    assert_eq!(counts[busy], 0, "{counts:?}");
    assert!((5..=6).contains(&counts[2]), "{counts:?}");
    peer.send(OK);
    assert_eq!(
        waiting.response().status(),
        200,
        "what was in flight is finished"
    );
    assert!(
        peer.has_ended() || peer.rest().0.is_empty(),
        "and its connection is not kept"
    );
    let left = shown(&proxy);
    assert_eq!(left.len(), 2);
    assert_eq!(
        left[1],
        (backends[2].addr.to_string(), String::from("active"), 2)
    );
}

/// While the file is read, which takes a while with so many routes, operators go on: what they change is of after the reload, which takes
/// nothing of it away. The next reload does.
pub(crate) fn a_change_outlives_a_reload_that_was_asked_for_before_it(engine: Engine) {
    let backends = backends(2);
    let route = |number| {
        format!("[[route]]\nname = \"r{number}\"\npath = \"/r{number}/\"\nupstream = \"web\"\n")
    };
    let routes: String = (0..2000).map(route).collect();
    let proxy = started(engine, &backends, 2, &routes);
    let drain = json!({ "standing": "drain" });
    proxy.signal("HUP");
    done(&proxy, &endpoint("PATCH", &backends[0]), &drain);
    proxy.says("hp-proxy: reloaded");
    assert_eq!(shown(&proxy)[0].1, "drain");
    proxy.signal("HUP");
    proxy.says("hp-proxy: reloaded");
    assert_eq!(shown(&proxy)[0].1, "active");
}

pub(crate) fn a_drained_endpoint_keeps_the_clients_that_are_bound_to_it(engine: Engine) {
    let backends = backends(3);
    let proxy = started(engine, &backends, 3, "sticky = {}");
    let mut client = proxy.client();
    let (first, answer) = answered(&mut client, &backends, "");
    let given = answer
        .field("Set-Cookie")
        .unwrap()
        .split_once(';')
        .unwrap()
        .0;
    let cookie = format!("Cookie: {given}\r\n");
    done(
        &proxy,
        &endpoint("PATCH", &backends[first]),
        &json!({ "standing": "drain" }),
    );
    assert_eq!(shown(&proxy)[first].1, "drain");
    assert_eq!(shares(&mut client, &backends)[first], 0);
    let (again, answer) = answered(&mut client, &backends, &cookie);
    assert_eq!((again, answer.field("Set-Cookie")), (first, None));
    done(
        &proxy,
        &endpoint("PATCH", &backends[first]),
        &json!({ "weight": 0, "standing": "active" }),
    );
    assert_eq!(shares(&mut client, &backends)[first], 0);
    assert_eq!(
        answered(&mut client, &backends, &cookie).0,
        first,
        "weight 0 keeps them, too"
    );
    done(
        &proxy,
        &endpoint("PATCH", &backends[first]),
        &json!({ "standing": "out", "weight": 1 }),
    );
    let (second, answer) = answered(&mut client, &backends, &cookie);
    assert_ne!(second, first);
    assert!(answer.field("Set-Cookie").is_some(), "bound to another one");
    done(
        &proxy,
        &endpoint("PATCH", &backends[first]),
        &json!({ "standing": "active" }),
    );
    assert!(shares(&mut client, &backends)[first] > 0);
    assert_eq!(answered(&mut client, &backends, &cookie).0, first);
}

pub(crate) fn an_endpoint_that_is_out_finishes_what_it_has(engine: Engine) {
    let backends = backends(3);
    let proxy = started(engine, &backends, 3, "");
    let mut waiting = proxy.asked("GET /waits HTTP/1.1\r\nHost: a\r\n\r\n");
    let (busy, mut peer, _) = whoever_is_asked(&backends);
    done(
        &proxy,
        &endpoint("PATCH", &backends[busy]),
        &json!({ "standing": "out" }),
    );
    let mut client = proxy.client();
    assert_eq!(shares(&mut client, &backends)[busy], 0);
    peer.send(OK);
    assert_eq!(waiting.response().status(), 200);
}

pub(crate) fn nobody_in_service_is_503_at_once(engine: Engine) {
    let backends = backends(2);
    let proxy = Proxy::start_from_file(
        engine,
        &format!(
            "queue_timeout = \"1h\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[[route]]\nupstream = \"web\"\n[upstream.web]\n\
         endpoints = [\"{}\", {{ address = \"{}\", standing = \"out\" }}]\n",
            backends[0].addr, backends[1].addr
        ),
    );
    let mut client = proxy.client();
    assert_eq!(answered(&mut client, &backends, "").0, 0);
    done(
        &proxy,
        &endpoint("PATCH", &backends[0]),
        &json!({ "standing": "drain" }),
    );
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status(), 503);
    done(
        &proxy,
        &endpoint("PATCH", &backends[1]),
        &json!({ "standing": "active" }),
    );
    assert_eq!(answered(&mut client, &backends, "").0, 1);
}

pub(crate) fn weights_change_the_shares(engine: Engine) {
    let backends = backends(3);
    let proxy = started(engine, &backends, 3, "");
    let mut client = proxy.client();
    done(
        &proxy,
        &endpoint("PATCH", &backends[0]),
        &json!({ "weight": 6 }),
    );
    assert_eq!(shares(&mut client, &backends), [6, 1, 1]);
    done(
        &proxy,
        &endpoint("PATCH", &backends[0]),
        &json!({ "weight": 0 }),
    );
    assert_eq!(shares(&mut client, &backends), [0, 4, 4]);
}

pub(crate) fn a_route_is_closed_and_opened_again(engine: Engine) {
    let backends = backends(1);
    let proxy = started(engine, &backends, 1, "");
    let mut client = proxy.client();
    assert_eq!(answered(&mut client, &backends, "").1.status(), 200);
    done(
        &proxy,
        "POST /routes/all/maintenance",
        &json!({ "on": true }),
    );
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.response();
    assert_eq!(
        (answer.status(), answer.field("Retry-After")),
        (503, Some("60"))
    );
    done(
        &proxy,
        "POST /routes/all/maintenance",
        &json!({ "on": false }),
    );
    assert_eq!(answered(&mut client, &backends, "").1.status(), 200);
}

pub(crate) fn what_cannot_be_changed_is_told(engine: Engine) {
    let backends = backends(2);
    let proxy = started(engine, &backends, 1, "");
    let only = backends[0].addr.to_string();
    let rows = [
        ("GET /nothing", Value::Null, 404, "no such page"),
        (
            "DELETE /upstreams/web/endpoints/127.0.0.1:1",
            Value::Null,
            404,
            "no endpoint 127.0.0.1:1",
        ),
        (
            "DELETE /upstreams/api/endpoints/127.0.0.1:1",
            Value::Null,
            404,
            "no upstream api",
        ),
        (
            "POST /routes/none/maintenance",
            json!({ "on": true }),
            404,
            "no route none",
        ),
        (
            &endpoint("DELETE", &backends[0]),
            Value::Null,
            409,
            "only endpoint",
        ),
        (
            "POST /upstreams/web/endpoints",
            json!({ "address": only }),
            409,
            "already",
        ),
        (
            &endpoint("PATCH", &backends[0]),
            json!({ "weight": 0 }),
            409,
            "weight 0",
        ),
        (
            &endpoint("PATCH", &backends[0]),
            json!({ "weigth": 1 }),
            422,
            "unknown field",
        ),
        (
            "POST /upstreams/web/endpoints",
            json!({ "address": "x" }),
            422,
            "HOST:PORT",
        ),
        ("PUT /upstreams/web/endpoints", json!({}), 405, "POST"),
    ];
    for (line, body, status, part) in rows {
        let (answered, told) = order(&proxy, line, &body);
        let reason = told["error"].as_str().unwrap_or_default();
        assert!(
            answered == status && reason.contains(part),
            "{line}: {answered} {told}"
        );
    }
    assert_eq!(shown(&proxy), [(only, String::from("active"), 1)]);
    assert_eq!(answered(&mut proxy.client(), &backends, "").0, 0);
}

pub(crate) fn an_order_is_bounded(engine: Engine) {
    let backends = backends(1);
    let proxy = started(engine, &backends, 1, "");
    let line = "POST /upstreams/web/endpoints";
    let large = json!({ "address": "x".repeat(70_000) });
    let (status, told) = order(&proxy, line, &large);
    assert_eq!(status, 413);
    assert!(told["error"].as_str().unwrap().contains("64 KiB"), "{told}");
    let mut admin = proxy.client_of_admin();
    admin.send(format!(
        "{line} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    ));
    for _ in 0..9 {
        admin.send(format!("2000\r\n{}\r\n", "x".repeat(0x2000)));
    }
    assert_eq!(admin.response().status(), 413);
    assert_eq!(shown(&proxy).len(), 1);
}

/// RFC 9110 §15.5.6: 405 has to say in Allow what may be asked, and said it to people only.
pub(crate) fn a_page_that_does_not_take_a_method_says_which_it_takes(engine: Engine) {
    let backends = backends(1);
    let proxy = started(engine, &backends, 1, "");
    for (line, allowed) in [
        ("GET /reload", "POST"),
        ("GET /upgrade", "POST"),
        ("POST /plan", "GET, HEAD"),
        ("POST /connections", "GET, HEAD"),
        ("POST /upstreams", "GET, HEAD"),
        ("PUT /upstreams/web/endpoints", "POST"),
        ("GET /upstreams/web/endpoints/a:1", "DELETE, PATCH"),
        ("GET /routes/all/maintenance", "POST"),
    ] {
        let mut admin = proxy.client_of_admin();
        admin.send(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let answer = admin.response();
        let said = (answer.status(), answer.field("Allow"));
        assert_eq!(said, (405, Some(allowed)), "{line}");
    }
}

pub(crate) fn what_is_kept_outlives_a_reload(engine: Engine) {
    let backends = backends(3);
    let proxy = started(engine, &backends, 2, "");
    let address = backends[2].addr.to_string();
    done(
        &proxy,
        "POST /upstreams/web/endpoints",
        &json!({ "address": address, "keep": true }),
    );
    done(
        &proxy,
        &endpoint("PATCH", &backends[0]),
        &json!({ "weight": 9 }),
    );
    done(
        &proxy,
        &endpoint("PATCH", &backends[1]),
        &json!({ "weight": 3, "keep": true }),
    );
    let weights = || -> Vec<u64> {
        shown(&proxy)
            .into_iter()
            .map(|(.., weight)| weight)
            .collect()
    };
    assert_eq!(weights(), [9, 3, 1]);
    done(&proxy, "POST /reload", &Value::Null);
    assert_eq!(weights(), [1, 3, 1]);
    done(
        &proxy,
        &endpoint("PATCH", &backends[0]),
        &json!({ "weight": 7 }),
    );
    done(&proxy, "POST /reload?keep=true", &Value::Null);
    assert_eq!(weights(), [7, 3, 1]);
}

pub(crate) fn the_command_line_has_the_same_verbs(engine: Engine) {
    let backends = backends(2);
    let proxy = started(engine, &backends, 1, "");
    let admin = proxy.admin_addr().to_string();
    let ctl = |words: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_hp-proxy"))
            .args(["ctl", "--admin", &admin])
            .args(words.split_whitespace())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let other = backends[1].addr;
    let (code, out, said) = ctl(&format!("add web {other} --weight 3"));
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert_eq!(
        out,
        format!("upstream web: {other} is added with weight 3\n")
    );
    assert_eq!(ctl(&format!("weight web {other} 5")).0, Some(0));
    assert_eq!(ctl(&format!("drain web {other}")).0, Some(0));
    let (code, out, _) = ctl("upstreams");
    assert_eq!(code, Some(0));
    let line = out
        .lines()
        .find(|line| line.contains(&other.to_string()))
        .unwrap();
    assert!(
        line.contains("drain") && line.contains("weight    5"),
        "{line}"
    );
    let (code, out, _) = ctl("upstreams --json");
    assert_eq!(code, Some(0));
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["upstreams"][0]["endpoints"][1]["standing"], "drain");
    for words in [
        format!("resume web {other}"),
        format!("out web {other}"),
        format!("remove web {other}"),
        String::from("maintenance on all"),
        String::from("maintenance off all"),
        String::from("reload"),
    ] {
        let (code, _, said) = ctl(&words);
        assert_eq!((code, said.as_str()), (Some(0), ""), "{words}");
    }
    let (code, out, said) = ctl("remove web 127.0.0.1:1");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(
        said,
        "hp-proxy: 404: the upstream web has no endpoint 127.0.0.1:1\n"
    );
    assert_eq!(ctl("weight web a:1 1001").0, Some(2));
    assert_eq!(ctl("frobnicate").0, Some(2));
    drop(proxy);
    let (code, _, said) = ctl("upstreams");
    assert_eq!(code, Some(1));
    assert!(
        said.contains("is hp-proxy running") && said.lines().count() == 1,
        "{said}"
    );
}

/// Somebody takes the question and never answers.
pub(crate) fn the_command_line_says_what_it_waits_for_and_for_how_long(_engine: Engine) {
    let silent = Backend::new();
    let admin = silent.addr.to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_hp-proxy"))
        .args(["ctl", "--admin", &admin, "reload", "--timeout", "1500ms"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    let [waits, late] = lines.as_slice() else {
        panic!("{said}")
    };
    for part in [&*admin, "reads its file", "names", "1.5s"] {
        assert!(waits.contains(part), "{part}: {waits}");
    }
    for part in [&*admin, "within 1.5s", "log", "--timeout"] {
        assert!(late.contains(part), "{part}: {late}");
    }
    assert_eq!((output.status.code(), output.stdout), (Some(1), Vec::new()));
}

/// Whose answer is not an admin listener's has done nothing: a drain that a web server on the wrong port answered with its page was told as
/// done, with exit code 0, and what stops the machine behind it goes by that.
pub(crate) fn the_command_line_believes_no_stranger(_engine: Engine) {
    let stranger = Backend::new();
    let page = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nIt works!";
    let object = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    let moved = "HTTP/1.1 302 Found\r\nLocation: https://a.example/\r\nContent-Length: 0\r\n\r\n";
    let drain = "drain web 127.0.0.1:1";
    for (words, answer) in [
        (drain, page),
        (drain, object),
        (drain, moved),
        (drain, "HTTP/1.1 204 No Content\r\n\r\n"),
        ("drain web 127.0.0.1:1 --json", page),
        ("reload", page),
        ("reload", object),
        ("upstreams", page),
        ("upstreams --json", object),
    ] {
        let ctl = Command::new(env!("CARGO_BIN_EXE_hp-proxy"))
            .args(["ctl", "--admin", &stranger.addr.to_string()])
            .args(words.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _conn = stranger.answers(answer);
        let output = ctl.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words}: {answer}{said}");
        assert_eq!(output.stdout, b"", "{words}: {answer}");
        assert!(said.contains("no admin listener"), "{words}: {said}");
    }
}
