//! Unix sockets beside ports, and names that outlive their server.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::server::{ENGINES, Server};

fn get(path: &Path) -> String {
    let mut client = UnixStream::connect(path).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /close HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut answers = String::new();
    client.read_to_string(&mut answers).unwrap();
    answers
}

#[test]
fn unix_socket_is_served_beside_a_port_and_removed_with_the_drain() {
    for engine in ENGINES {
        for workers in ["1", "2"] {
            let directory = tempfile::tempdir().unwrap();
            let paths = ["a.sock", "b.sock"].map(|name| directory.path().join(name));
            let names = paths
                .each_ref()
                .map(|path| format!("unix:{}", path.display()));
            let flags = [
                "--listen",
                &names[0],
                "--listen",
                &names[1],
                "--socket-mode",
                "600",
            ];
            let server =
                Server::start(&[&flags[..], &["--engine", engine, "--workers", workers]].concat());
            assert_eq!(server.connect().get("/").status, 200);
            for path in &paths {
                let mode = std::fs::metadata(path).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o600);
                for _ in 0..5 {
                    let answers = get(path);
                    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
                }
            }
            server.signal("TERM");
            let (status, rest) = server.wait();
            assert_eq!(status.code(), Some(0), "{engine}: {rest}");
            assert!(
                rest.contains(&format!("listening on {}", names[1])),
                "{rest}"
            );
            assert!(paths.iter().all(|path| !path.exists()));
        }
    }
}

#[test]
fn what_a_killed_server_left_behind_is_replaced_and_a_living_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let name = format!("unix:{}", path.display());
    let killed = Server::start(&["--listen", &name]);
    killed.signal("KILL");
    let (_status, _rest) = killed.wait();
    assert!(path.exists());
    let _living = Server::start(&["--listen", &name]);
    assert!(get(&path).starts_with("HTTP/1.1 200 OK"));
    let second = Command::new(env!("CARGO_BIN_EXE_hp-echo"))
        .args(["--listen", &name])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(second.stderr).unwrap(),
        format!(
            "hp-echo: cannot listen on {name}: address already in use; stop the other server or \
             choose another address\n"
        )
    );
    assert!(get(&path).starts_with("HTTP/1.1 200 OK"));
}

#[test]
fn servers_that_share_a_port_both_serve_it() {
    let first = Server::start(&["--reuse-port"]);
    let addr = first.addr.to_string();
    let mut second = Command::new(env!("CARGO_BIN_EXE_hp-echo"))
        .args(["--listen", &addr, "--reuse-port"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stderr = std::io::BufReader::new(second.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut stderr, &mut line).unwrap();
    assert_eq!(line, format!("listening on {addr}\n"));
    for _ in 0..20 {
        assert_eq!(first.connect().get("/").status, 200);
    }
    second.kill().unwrap();
    second.wait().unwrap();
}
