//! The program as its operator meets it: flags, signals, exit codes.

use crate::Engine;
use crate::support::{BOUND, Backend, GET, OK, Peer, Proxy, signal, spawn};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

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
    check_refused(
        &format!("{engine} --listen here"),
        2,
        &["--listen here", "HOST:PORT"],
    );
    check_refused(
        &format!("{engine} --head-timeout 5"),
        2,
        &["--head-timeout"],
    );
    let unknown = format!("{engine} --listen no-such-host.invalid:80");
    check_refused(
        &unknown,
        1,
        &["no-such-host.invalid:80", "does not resolve"],
    );
}

/// Connections are refused, now or in a moment.
fn check_closed(proxy: &Proxy) {
    let is_refused = || TcpStream::connect(proxy.addr).is_err();
    assert!((0..10_000).any(|_| is_refused()), "it still listens");
}

pub(crate) fn sigterm_finishes_what_is_in_flight_and_closes_what_idles(engine: Engine) {
    let backend = Backend::new();
    let mut proxy = Proxy::before(engine, &backend, "--response-timeout 1500ms");
    let mut parked = proxy.asked(GET);
    let mut upstream = backend.answers(OK);
    assert_eq!(parked.response().body, b"hi");
    // Time passes: a backend says nothing for longer than an idle client keeps its task.
    let mut late = proxy.asked(GET);
    upstream.request();
    assert_eq!(late.response().status(), 504);

    let mut downloading = proxy.asked(GET);
    let mut to_downloading = backend.answers("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
    downloading.until("half");
    let mut waiting = proxy.asked(GET);
    let (mut to_waiting, _heard) = backend.request();
    let mut partial = proxy.asked(&GET[..GET.len() - 2]);
    let silent = proxy.client();
    let mut idle = proxy.asked(GET);
    let upstream = backend.answers(OK);
    assert_eq!(idle.response().body, b"hi");

    proxy.signal("TERM");
    proxy.says("draining");
    for mut peer in [idle, parked, silent, upstream] {
        peer.sees_end();
    }
    check_closed(&proxy);
    partial.send("\r\n");
    let mut to_partial = backend.answers(OK);
    to_waiting.send(OK);
    for client in [&mut partial, &mut waiting] {
        let answer = client.response();
        assert_eq!(answer.field("Connection"), Some("close"));
        assert_eq!(answer.body, b"hi");
        client.sees_end();
    }
    to_downloading.send("half");
    assert_eq!(downloading.rest(), (b"half".to_vec(), false));
    for upstream in [&mut to_downloading, &mut to_waiting, &mut to_partial] {
        upstream.sees_end();
    }
    proxy.says("done");
    assert_eq!(proxy.summary()["connections open"], "0");
    let (status, _lines) = proxy.ends();
    assert_eq!(status.code(), Some(0));
}

pub(crate) fn a_drain_that_takes_too_long_cuts_what_is_left(engine: Engine) {
    let backend = Backend::new();
    let mut proxy = Proxy::before(engine, &backend, "--drain-timeout 100ms");
    let mut client = proxy.asked("GET / HTTP/1.0\r\n\r\n");
    let _upstream = backend.answers("HTTP/1.0 200 OK\r\n\r\nhalf");
    client.until("half");
    proxy.signal("TERM");
    proxy.says("did not finish within --drain-timeout");
    assert!(client.rest().1, "half an answer looks whole");
    let (status, _lines) = proxy.ends();
    assert_eq!(status.code(), Some(0));
}

pub(crate) fn a_second_sigterm_ends_at_once(engine: Engine) {
    let backend = Backend::new();
    let mut proxy = Proxy::before(engine, &backend, "");
    let mut client = proxy.asked(GET);
    let _upstream = backend.request();
    proxy.signal("TERM");
    proxy.says("draining");
    proxy.counts_to("requests", 1);
    proxy.signal("TERM");
    let (status, lines) = proxy.ends();
    assert_eq!(status.code(), Some(1));
    assert!(
        lines.iter().any(|line| line.contains("second signal")),
        "{lines:?}"
    );
    assert!(
        client.rest().1,
        "an answer that never came ended in good order"
    );
}

pub(crate) fn sigint_drains_and_sigusr1_and_sighup_do_not(engine: Engine) {
    let backend = Backend::new();
    let mut proxy = Proxy::before(engine, &backend, "");
    let mut client = proxy.client();
    for requests in 0..3 {
        proxy.counts_to("requests", requests);
        proxy.signal("HUP");
        proxy.says("no configuration file");
        client.send(GET);
        let mut upstream = backend.answers(OK);
        assert_eq!(client.response().body, b"hi");
        upstream.finish();
        upstream.sees_end();
    }
    proxy.signal("INT");
    client.sees_end();
    let (status, lines) = proxy.ends();
    assert_eq!(status.code(), Some(0));
    assert!(
        lines.iter().any(|line| line.contains("hp-proxy: done")),
        "{lines:?}"
    );
}

pub(crate) fn eight_connections_are_shared_by_two_workers(engine: Engine) {
    let backend = Backend::new();
    let proxy = Proxy::start(engine, &format!("--workers 2 --backend {}", backend.addr));
    let mut clients: Vec<Peer> = (0..8).map(|_| proxy.asked(GET)).collect();
    // All wait at once, so that each has a connection of its own.
    let mut upstreams: Vec<Peer> = clients.iter().map(|_| backend.request().0).collect();
    for upstream in &mut upstreams {
        upstream.send(OK);
    }
    for client in &mut clients {
        assert_eq!(client.response().body, b"hi");
    }
    let counts = proxy.counts();
    let shares = counts["accepted by each worker"].split_whitespace();
    let shares: Vec<u32> = shares.map(|share| share.parse().unwrap()).collect();
    assert_eq!(shares.iter().sum::<u32>(), 8);
    assert!(
        shares.iter().all(|share| (3..=5).contains(share)),
        "{shares:?}"
    );
}

/// A datagram for each write: what came in pieces would mix with the words of a successor, which has the same stderr.
pub(crate) fn the_totals_are_one_write(engine: Engine) {
    let (log, stderr) = UnixDatagram::pair().unwrap();
    log.set_read_timeout(Some(BOUND)).unwrap();
    let flags = format!("--listen 127.0.0.1:0 {}", engine.flag());
    let mut program = Command::new(env!("CARGO_BIN_EXE_hp-proxy"))
        .args(flags.split_whitespace())
        .stderr(OwnedFd::from(stderr))
        .spawn()
        .unwrap();
    let next = |begin: &str| {
        let mut piece = vec![0; 64 << 10];
        loop {
            let len = log.recv(&mut piece).unwrap();
            let said = String::from_utf8_lossy(&piece[..len]).into_owned();
            if said.starts_with(begin) {
                return said;
            }
        }
    };
    next("listening on ");
    for (name, begin) in [("USR1", "hp-proxy: so far\n"), ("TERM", "hp-proxy: done\n")] {
        signal(program.id(), name);
        let said = next(begin);
        assert!(said.contains("\n  accepted by each worker "), "{said}");
        assert!(said.ends_with('\n'), "{said}");
    }
    assert!(program.wait().unwrap().success());
}
