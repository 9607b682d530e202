//! How the program begins and how it ends.

use std::ffi::OsString;
use std::net::TcpStream;
use std::os::unix::ffi::OsStringExt;
use std::process::{Command, Output};

use crate::server::{ENGINES, Server, field, on_each_engine};

#[test]
fn drain_finishes_what_is_under_way_and_exits_zero() {
    for engine in ENGINES {
        for workers in ["1", "2"] {
            let server = Server::start(&["--engine", engine, "--workers", workers]);
            let mut idle = server.connect();
            assert_eq!(idle.get("/").status, 200);
            let mut busy = server.connect();
            busy.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na");
            let (_status, _head) = busy.head(); // Now the exchange is under way for certain.
            server.signal("TERM");
            assert_eq!(idle.rest(), b"", "an idle connection is closed at once");
            busy.send("b");
            assert_eq!(busy.rest(), b"ab");
            let (status, rest) = server.wait();
            assert_eq!(status.code(), Some(0), "{engine}: {rest}");
            assert!(
                rest.starts_with("engine ") && rest.lines().count() == 1,
                "{rest}"
            );
        }
    }
}

#[test]
fn drain_says_close_in_its_last_answers() {
    on_each_engine(&["--workers", "1"], |server| {
        let mut idle = server.connect();
        assert_eq!(idle.get("/").status, 200);
        let mut busy = server.connect();
        busy.send("GET /delay/200 HTTP/1.1\r\nHost: a\r\n\r\n");
        // The delay begins before the idle connection's end is seen, since its bytes came before.
        assert_eq!(server.connect().get("/").status, 200);
        server.signal("INT");
        assert_eq!(idle.rest(), b"");
        let answer = busy.answer();
        assert_eq!(field(&answer.head, "Connection"), Some("close"));
        assert_eq!(busy.rest(), b"");
    });
}

#[test]
fn no_connection_is_taken_after_the_drain_began() {
    let server = Server::start(&[]);
    let mut idle = server.connect();
    assert_eq!(idle.get("/").status, 200);
    let addr = server.addr;
    server.signal("TERM");
    let (status, _rest) = server.wait();
    assert_eq!(status.code(), Some(0));
    assert!(TcpStream::connect(addr).is_err());
}

#[test]
fn every_worker_serves_the_one_address() {
    on_each_engine(&["--workers", "3"], |server| {
        let clients: Vec<_> = (0..30).map(|_| server.connect()).collect();
        for mut client in clients {
            assert_eq!(client.get("/").status, 200);
        }
    });
}

#[test]
fn port_in_use_is_one_line_and_exit_one() {
    let server = Server::start(&[]);
    let addr = server.addr.to_string();
    check_failure(
        &["--listen", &addr],
        1,
        &format!(
            "hp-echo: cannot listen on {addr}: address already in use; stop the other server or \
             choose another address\n"
        ),
    );
}

#[test]
fn foreign_address_is_one_line_and_exit_one() {
    check_failure(
        &["--listen", "192.0.2.1:80"],
        1,
        "hp-echo: cannot listen on 192.0.2.1:80: no such address on this machine; choose another \
         address\n",
    );
}

#[test]
fn unknown_flag_is_one_line_and_exit_two() {
    check_failure(
        &["--boddy", "3"],
        2,
        "hp-echo: unexpected argument '--boddy' found; a similar argument exists: '--body'; see \
         hp-echo --help\n",
    );
}

#[test]
fn bad_input_is_one_line_that_says_what_to_do() {
    let server = Server::start(&[]);
    let taken = server.addr.to_string();
    let rows: &[(&[&str], i32, &[&str])] = &[
        (&["--listen", ""], 2, &["HOST:PORT", "127.0.0.1:9001"]),
        (&["--listen", ":80"], 2, &["HOST:PORT"]),
        (&["--listen", "127.0.0.1:99999"], 2, &["HOST:PORT"]),
        (&["--listen", "unix:"], 2, &["unix:/run/hp.sock"]),
        (
            &["--listen", "no-such-host.invalid:80"],
            1,
            &["no-such-host.invalid", "check the name"],
        ),
        (&["--listen", &taken], 1, &["in use", "choose another"]),
        (
            &["--listen", "unix:/nonexistent/a"],
            1,
            &["no such directory", "choose another"],
        ),
        (
            &["--listen", "unix:/"],
            2,
            &["does not end as that of a directory", "unix:/run/hp.sock"],
        ),
        (&["--workers", "0"], 2, &["1..=1024"]),
        (&["--workers", "99999999999999999999"], 2, &["--workers"]),
        (&["--workers", ""], 2, &["--workers"]),
        (&["--workers", "-1"], 2, &["'-1'", "--help"]),
        (&["--body", "99999999999999999999"], 2, &["--body"]),
        (&["--body", "1", "--body", "2"], 2, &["multiple times"]),
        (
            &["--engine", "maybe"],
            2,
            &["auto, uring, epoll or threads"],
        ),
        (&["--threads-max", "15001"], 2, &["1..=15000"]),
        (&["--socket-mode", "999"], 2, &["octal", "660"]),
        (&["--root", ""], 2, &["--root"]),
        (
            &["--root", "/nonexistent"],
            1,
            &["no such directory", "give a directory"],
        ),
        (
            &["--root", "/proc/self/stat"],
            1,
            &["not a directory", "give a directory"],
        ),
    ];
    for &(args, code, parts) in rows {
        let output = run(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.starts_with("hp-echo: "), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
        assert!(
            parts.iter().all(|part| said.contains(part)),
            "{args:?}: {said}"
        );
    }
    let output = Command::new(env!("CARGO_BIN_EXE_hp-echo"))
        .arg(OsString::from_vec(b"--listen=\xff:80".to_vec()))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("UTF-8") && said.lines().count() == 1,
        "{said}"
    );
}

#[test]
fn help_goes_to_stdout_and_exits_zero() {
    let Output {
        status,
        stdout,
        stderr,
    } = run(&["--help"]);
    assert_eq!((status.code(), stderr.as_slice()), (Some(0), &b""[..]));
    let help = String::from_utf8(stdout).unwrap();
    let keys = [
        "s=SIZE",
        "truncate=SIZE",
        "reset=SIZE",
        "drip=SIZE",
        "every=MS",
        "interims=N",
    ];
    let flags = ["--listen", "--workers", "--engine", "--body", "--root"];
    let paths = [
        "/delay/MS",
        "/discard",
        "/counters",
        "garbage=1",
        "hangup=1",
        "silent=1",
    ];
    for part in keys.iter().chain(&flags).chain(&paths) {
        assert!(help.contains(part), "{part}: {help}");
    }
}

fn check_failure(args: &[&str], code: i32, line: &str) {
    let Output {
        status,
        stdout,
        stderr,
    } = run(args);
    assert_eq!(String::from_utf8(stderr).unwrap(), line);
    assert_eq!((status.code(), stdout.as_slice()), (Some(code), &b""[..]));
}

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hp-echo"))
        .args(args)
        .output()
        .unwrap()
}

/// One thread for connections, and two clients: the one that idles makes room.
#[test]
fn idle_connection_makes_room_where_threads_are_too_few() {
    let server = Server::start(&["--engine", "threads", "--threads-max", "1"]);
    for _ in 0..2 {
        let mut idle = server.connect();
        assert_eq!(idle.get("/").status, 200);
        let mut waiting = server.connect();
        assert_eq!(waiting.get("/").status, 200);
        assert_eq!(idle.rest(), b"");
    }
}
