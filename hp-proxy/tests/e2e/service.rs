//! The program as a manager of services runs it: sockets that it did not bind, what it says of itself, and how it leaves.

use crate::Engine;
use crate::support::{BOUND, Backend, GET, Message, OK, Peer, Proxy, signal, spawn};
use crate::upgrade::Successor;
use socket2::{Domain, Socket, Type};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Child, Command, Stdio};

/// Starts the program with a socket as descriptor 3, as systemd does.
fn spawn_with_socket(socket: OwnedFd, flags: &str) -> Child {
    let script = "exec env LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web.socket \"$0\" \"$@\" 3<&0 </dev/null";
    Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_hp-proxy")])
        .args(flags.split_whitespace())
        .stdin(socket)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// As systemd binds it: nothing is set that the kernel does not set.
fn bound() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.listen(16).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, addr)
}

pub(crate) fn sockets_of_a_manager_of_services_are_served(engine: Engine) {
    let backend = Backend::new();
    let (socket, addr) = bound();
    let waiting = TcpStream::connect(addr).unwrap(); // Before the program runs.
    let flags = format!(
        "--listen {addr} --workers 2 --via hp-proxy --backend {} {}",
        backend.addr,
        engine.flag()
    );
    let child = spawn_with_socket(socket.try_clone().unwrap().into(), &flags);
    let mut proxy = Proxy::of(engine, child);
    assert_eq!(proxy.addr, addr);
    for mut client in [Peer::of(waiting), proxy.client()] {
        client.send(GET);
        backend.answers(OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
        assert_eq!(client.response().body, b"hi");
    }
    // A successor gets them as well, and neither closes what the manager has.
    proxy.signal("USR2");
    let line = proxy.says("upgrading to process ");
    let successor = Successor::told_by(&line);
    proxy.says("has taken over");
    proxy.says("hp-proxy: done");
    assert_eq!(proxy.status().code(), Some(0));
    let mut client = proxy.asked(GET);
    backend.answers(OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    assert_eq!(client.response().body, b"hi");
    signal(successor.process, "TERM");
    proxy.says("hp-proxy: done");
    let _waits_for_the_next = TcpStream::connect(addr).unwrap();
}

pub(crate) fn a_socket_that_no_listener_names_is_told(engine: Engine) {
    let (socket, addr) = bound();
    let ends = |socket: OwnedFd, parts: &[&str]| {
        let flags = format!("--listen 127.0.0.1:0 {}", engine.flag());
        let output = spawn_with_socket(socket, &flags)
            .wait_with_output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    };
    ends(
        socket.into(),
        &[&addr.to_string(), "web.socket", "no listener"],
    );
    let datagrams = UnixDatagram::unbound().unwrap();
    ends(datagrams.into(), &["web.socket", "no stream socket"]);
    let directory = tempfile::tempdir().unwrap();
    let named = UnixListener::bind(directory.path().join("a")).unwrap();
    ends(named.into(), &["unix:", "/a", "no listener"]);
}

pub(crate) fn the_manager_of_services_is_told_of_every_change(engine: Engine) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(BOUND)).unwrap();
    let hears = || {
        let mut space = [0; 200];
        let len = manager.recv(&mut space).unwrap();
        String::from_utf8(space[..len].to_vec()).unwrap()
    };
    let child = Command::new(env!("CARGO_BIN_EXE_hp-proxy"))
        .args(format!("--listen 127.0.0.1:0 {}", engine.flag()).split_whitespace())
        .env("NOTIFY_SOCKET", &path)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let proxy = Proxy::of(engine, child);
    assert_eq!(hears(), "READY=1\n");
    proxy.signal("USR2");
    let line = proxy.says("upgrading to process ");
    let successor = Successor::told_by(&line);
    let reloading = hears();
    assert!(
        reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="),
        "{reloading}"
    );
    assert_eq!(hears(), format!("MAINPID={}\nREADY=1\n", successor.process));
    proxy.says("hp-proxy: done"); // The service does not stop with its first process, which therefore does not say so.
    signal(successor.process, "TERM");
    assert_eq!(hears(), "STOPPING=1\n");
    proxy.says("hp-proxy: done");
}

/// A reload that ends while clients are still being told would say that the service is ready again.
pub(crate) fn the_manager_of_services_hears_nothing_after_the_end_was_told(engine: Engine) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_nonblocking(true).unwrap();
    let flags = format!("--listen 127.0.0.1:0 --ready-lead 1h {}", engine.flag());
    let child = Command::new(env!("CARGO_BIN_EXE_hp-proxy"))
        .args(flags.split_whitespace())
        .env("NOTIFY_SOCKET", &path)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut proxy = Proxy::of(engine, child);
    proxy.signal("TERM");
    proxy.says("no longer ready");
    proxy.signal("HUP");
    proxy.says("no configuration file");
    proxy.signal("TERM");
    proxy.ends();
    let hears = || {
        let mut space = [0; 200];
        let len = manager.recv(&mut space).ok()?;
        Some(String::from_utf8(space[..len].to_vec()).unwrap())
    };
    let heard: Vec<String> = std::iter::from_fn(hears).collect();
    assert_eq!(heard, ["READY=1\n", "STOPPING=1\n"]);
}

/// What operators are answered with on a new connection.
fn told_in_full(proxy: &Proxy, path: &str) -> Message {
    let mut client = proxy.client_of_admin();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client.response()
}

fn told(proxy: &Proxy, path: &str) -> u16 {
    told_in_full(proxy, path).status()
}

pub(crate) fn readiness_fails_before_the_drain_begins(engine: Engine) {
    let backend = Backend::new();
    let flags = "--admin 127.0.0.1:0 --ready-lead 1h --drain-timeout 20s";
    let mut proxy = Proxy::before(engine, &backend, flags);
    let mut kept = proxy.asked(GET);
    let mut upstream = backend.answers(OK);
    assert_eq!(kept.response().field("Connection"), None);
    assert_eq!([told(&proxy, "/ready"), told(&proxy, "/live")], [200, 200]);
    proxy.signal("TERM");
    proxy.says("no longer ready; draining in 3600s");
    assert_eq!([told(&proxy, "/ready"), told(&proxy, "/live")], [503, 200]);
    // It serves on, old connections and new ones.
    kept.send(GET);
    upstream.request();
    upstream.send(OK);
    assert_eq!(kept.response().field("Connection"), None);
    let mut new = proxy.asked(GET);
    upstream.request();
    upstream.send(OK);
    assert_eq!(new.response().body, b"hi");
    proxy.signal("TERM");
    let (status, lines) = proxy.ends();
    assert_eq!(status.code(), Some(1), "{lines:?}");
}

pub(crate) fn operators_can_ask_until_a_drain_has_ended(engine: Engine) {
    let backend = Backend::new();
    let flags = "--admin 127.0.0.1:0 --ready-lead 50ms --drain-timeout 20s --close-spread 0";
    let mut proxy = Proxy::before(engine, &backend, flags);
    let mut client = proxy.asked(GET);
    let (mut upstream, _heard) = backend.request();
    proxy.signal("TERM");
    proxy.says("no longer ready");
    proxy.says("hp-proxy: draining");
    // The line comes a moment before the workers are told.
    let is_draining = || told_in_full(&proxy, "/ready").body == b"draining\n";
    assert!((0..10_000).any(|_| is_draining()), "it never drains");
    for _ in 0..3 {
        assert_eq!([told(&proxy, "/ready"), told(&proxy, "/live")], [503, 200]);
    }
    upstream.send(OK);
    assert_eq!(client.response().field("Connection"), Some("close"));
    proxy.says("hp-proxy: done");
    assert_eq!(proxy.status().code(), Some(0));
}

pub(crate) fn operators_upgrade_by_a_request(engine: Engine) {
    let backend = Backend::new();
    let flags = format!(
        "--listen 127.0.0.1:0 --admin 127.0.0.1:0 --workers 1 --backend {} {}",
        backend.addr,
        engine.flag()
    );
    let proxy = Proxy::of(engine, spawn(&flags));
    let via = |proxy: &Proxy| {
        let mut client = proxy.asked(GET);
        let (mut upstream, heard) = backend.request();
        upstream.send(OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
        assert_eq!(client.response().body, b"hi");
        heard.field("Via").unwrap().to_owned()
    };
    let before = via(&proxy);
    let mut operator = proxy.client_of_admin();
    operator.send("POST /upgrade HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    let answer = operator.response();
    let text = String::from_utf8(answer.body.clone()).unwrap();
    assert_eq!(answer.status(), 200, "{text}");
    let line = text.trim_end().strip_suffix(" has taken over").unwrap();
    let successor = Successor::told_by(line);
    assert_eq!(via(&proxy), before, "a made-up name is passed on");
    assert_eq!(told(&proxy, "/ready"), 200);
    proxy.says("hp-proxy: done");
    signal(successor.process, "TERM");
    proxy.says("hp-proxy: done");
    drop(TcpListener::bind(proxy.addr).unwrap());
}
