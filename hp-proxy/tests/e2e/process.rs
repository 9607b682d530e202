//! The program as its operator meets it: flags, signals, exit codes.

use crate::Engine;
use crate::support::{Backend, GET, OK, Peer, Proxy, spawn};
use std::net::{TcpListener, TcpStream};

/// A command line that cannot work: one line that says why, and the exit code.
fn check_refused(flags: &str, code: i32, parts: &[&str]) {
    let output = spawn(flags).wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    if code == 1 {
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    }
}

pub(crate) fn a_port_in_use_is_one_line_and_exit_one(engine: Engine) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let flags = format!("--listen {addr} {}", engine.flag());
    check_refused(&flags, 1, &[&addr, "in use", "choose another"]);
    // Not even another hp-proxy shares it by accident.
    let proxy = Proxy::start(engine, "");
    let addr = proxy.addr.to_string();
    let flags = format!("--listen {addr} {}", engine.flag());
    check_refused(&flags, 1, &[&addr, "in use"]);
}

pub(crate) fn misuse_is_exit_two_and_an_unknown_name_exit_one(engine: Engine) {
    let engine = engine.flag();
    check_refused(&format!("{engine} --nonsense"), 2, &["--nonsense"]);
    check_refused(&format!("{engine} --listen here"), 2, &["--listen here", "HOST:PORT"]);
    check_refused(&format!("{engine} --head-timeout 5"), 2, &["--head-timeout"]);
    let unknown = format!("{engine} --listen 127.0.0.1:0 --backend no-such-host.invalid:80");
    check_refused(&unknown, 1, &["no-such-host.invalid:80", "does not resolve"]);
}

pub(crate) fn sigterm_finishes_what_is_in_flight_and_closes_what_idles(engine: Engine) {
    let backend = Backend::new();
    let mut proxy = Proxy::start(engine, &format!("--workers 2 --backend {}", backend.addr));
    let mut silent: Vec<Peer> = (0..2).map(|_| proxy.client()).collect();
    let mut idle: Vec<Peer> = (0..4).map(|_| proxy.asked(GET)).collect();
    let mut idle_upstreams: Vec<Peer> = (0..4).map(|_| backend.request().0).collect();
    for upstream in &mut idle_upstreams {
        upstream.send(OK);
    }
    for client in &mut idle {
        assert_eq!(client.response().body, b"hi");
    }
    let mut waiting = proxy.asked(GET);
    // Of the idle connections one is busy again now; on the other worker it may be a new one.
    let mut busy = match idle_upstreams.iter_mut().find_map(Peer::asks) {
        Some(_) => unreachable!("the request has not been looked for yet"),
        None => backend.try_accept(),
    };
    let _ = (&mut waiting, &mut busy);
    proxy.signal("TERM");
    proxy.says("draining");
    for client in silent.iter_mut().chain(&mut idle) {
        client.sees_end();
    }
    let (status, _lines) = proxy.ends();
    assert_eq!(status.code(), Some(0));
}
