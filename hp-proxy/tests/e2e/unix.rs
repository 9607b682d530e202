//! Unix sockets on both sides: clients come by one, and requests go to a backend by another.

use crate::Engine;
use crate::support::{BOUND, GET, OK, Proxy};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// Reads until the text ends so.
fn until(stream: &mut UnixStream, end: &str) -> String {
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

/// A client that has asked, and its request's way to the backend.
fn asked(front: &Path, backend: &UnixListener) -> (UnixStream, UnixStream) {
    let mut client = UnixStream::connect(front).unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let (mut upstream, _addr) = backend.accept().unwrap();
    until(&mut upstream, "\r\n\r\n");
    (client, upstream)
}

/// A directory, with the names in it of the proxy's socket and of its backend's.
fn place() -> (TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let front = directory.path().join("front");
    let back = directory.path().join("back");
    (directory, front, back)
}

fn start(engine: Engine, directory: &Path, flags: &str) -> Proxy {
    let directory = directory.display();
    let flags = format!(
        "--workers 1 --listen unix:{directory}/front --backend unix:{directory}/back {flags}"
    );
    Proxy::start(engine, &flags)
}

pub(crate) fn requests_go_from_one_unix_socket_to_another(engine: Engine) {
    let (directory, front, back) = place();
    let backend = UnixListener::bind(&back).unwrap();
    let mut proxy = start(
        engine,
        directory.path(),
        "--forwarded --trusted-proxy 0.0.0.0/0",
    );
    let mut client = UnixStream::connect(&front).unwrap();
    let mut upstream = None;
    for round in 0..3 {
        client
            .write_all(b"GET /a HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
            .unwrap();
        // The first connection is kept, as one to a port would be.
        let upstream = upstream.get_or_insert_with(|| backend.accept().unwrap().0);
        let request = until(upstream, "\r\n\r\n");
        assert!(
            request.starts_with("GET /a HTTP/1.1\r\nHost: a.example\r\n"),
            "{request}"
        );
        // A peer without an address has nothing to add, and nothing that it says of others is believed.
        assert!(!request.contains("X-Forwarded-For"), "{request}");
        assert!(
            request.contains("Forwarded: for=unknown;host="),
            "{request}"
        );
        upstream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nround")
            .unwrap();
        let answer = until(&mut client, "round");
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n"),
            "{round}: {answer}"
        );
    }
    // A client of HTTP/1.0 that names no host spoke to nothing that has one.
    let mut old = UnixStream::connect(&front).unwrap();
    old.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut kept = upstream.unwrap();
    let request = until(&mut kept, "\r\n\r\n");
    assert!(request.contains("\r\nHost: \r\n"), "{request}");
    kept.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    assert!(until(&mut old, "\r\n\r\n").starts_with("HTTP/1.1 204 "));
    proxy.signal("TERM");
    proxy.says("done");
    assert!(!front.exists(), "its name goes with it");
    assert!(back.exists(), "the backend's name is the backend's");
    let (status, _lines) = proxy.ends();
    assert_eq!(status.code(), Some(0));
}

/// On `--engine threads` the thread of such a client looked at its socket again and again until the answer came, at full speed; and on no engine was the
/// backend's work ended, as it is where a client resets.
pub(crate) fn a_client_of_a_unix_socket_that_closes_behind_much_unread_ends_the_backends_work(
    engine: Engine,
) {
    let (directory, front, back) = place();
    let backend = UnixListener::bind(&back).unwrap();
    let proxy = start(engine, directory.path(), "");
    let (mut client, mut upstream) = asked(&front, &backend);
    client.write_all(&[b'a'; 40_000]).unwrap();
    drop(client);
    let mut rest = Vec::new();
    upstream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
    proxy.counts_to("client aborts", 1);
}

/// It was taken for one that has said all and waits, and the backend went on until `--response-timeout`.
pub(crate) fn a_client_of_a_unix_socket_that_closes_while_it_waits_ends_the_backends_work(
    engine: Engine,
) {
    let (directory, front, back) = place();
    let backend = UnixListener::bind(&back).unwrap();
    let proxy = start(engine, directory.path(), "");
    let ways = [(0, 0), (0, 9), (1, 0), (1, 9), (3, 0)];
    for (aborts, (answered, unread)) in (1..).zip(ways) {
        let (mut client, mut upstream) = asked(&front, &backend);
        for _ in 0..answered {
            upstream.write_all(OK.as_bytes()).unwrap();
            until(&mut client, "hi");
            client.write_all(GET.as_bytes()).unwrap();
            until(&mut upstream, "\r\n\r\n");
        }
        client.write_all(&[b'a'; 9][..unread]).unwrap();
        drop(client);
        let mut rest = Vec::new();
        upstream.set_read_timeout(Some(BOUND)).unwrap();
        upstream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
        proxy.counts_to("client aborts", aborts);
    }
}

pub(crate) fn a_client_of_a_unix_socket_that_has_said_all_is_answered(engine: Engine) {
    let (directory, front, back) = place();
    let backend = UnixListener::bind(&back).unwrap();
    let _proxy = start(engine, directory.path(), "");
    let (mut client, mut upstream) = asked(&front, &backend);
    client.shutdown(Shutdown::Write).unwrap();
    upstream.set_read_timeout(Some(SETTLES)).unwrap();
    assert!(upstream.read(&mut [0]).is_err(), "nothing ends its work");
    upstream.write_all(OK.as_bytes()).unwrap();
    until(&mut client, "hi");
}

/// Long enough for what is to be told to have been told; the fact is that nothing is.
const SETTLES: Duration = Duration::from_millis(100);

pub(crate) fn a_backend_whose_name_is_gone_or_dead_is_502(engine: Engine) {
    let (directory, front, back) = place();
    let _proxy = start(engine, directory.path(), "");
    for is_there in [false, true] {
        if is_there {
            drop(UnixListener::bind(&back).unwrap());
        }
        let mut client = UnixStream::connect(&front).unwrap();
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        let answer = until(&mut client, "\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    }
    // And one that comes back is used.
    std::fs::remove_file(&back).unwrap();
    let backend = UnixListener::bind(&back).unwrap();
    let (mut client, mut upstream) = asked(&front, &backend);
    upstream
        .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        .unwrap();
    assert!(until(&mut client, "\r\n\r\n").starts_with("HTTP/1.1 204 "));
}

/// On a ring the end was lost where it came together with the bytes before it: who had left was waited for.
pub(crate) fn who_closes_a_unix_socket_right_behind_its_bytes_is_not_waited_for(engine: Engine) {
    let (directory, front, back) = place();
    let backend = UnixListener::bind(&back).unwrap();
    let proxy = start(
        engine,
        directory.path(),
        "--head-timeout 1h --body-timeout 1h",
    );
    for (answer, end) in [
        ("HTTP/1.1 200 OK\r\n\r\nhi", "2\r\nhi\r\n0\r\n\r\n"),
        ("HTTP/1.1 200 O", "the answer's head\n"),
    ] {
        let (mut client, mut upstream) = asked(&front, &backend);
        upstream.write_all(answer.as_bytes()).unwrap();
        drop(upstream);
        until(&mut client, end);
    }
    for head in [
        "GET / HT",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhi",
    ] {
        let mut client = UnixStream::connect(&front).unwrap();
        client.write_all(head.as_bytes()).unwrap();
    }
    proxy.counts_to("connections open", 0);
}
