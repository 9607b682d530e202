//! Clients that stop in the middle of an exchange.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;

use crate::runs::number;
use crate::server::{ENGINES, Script, bench, load};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// Serves one connection; tells of each request how many bytes of it came before the first pause, and how many in all.
fn listen_for_halves() -> (String, mpsc::Receiver<(usize, usize)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _peer) = listener.accept().unwrap();
        loop {
            let mut request = vec![0; 4096];
            let first = stream.read(&mut request).unwrap_or(0);
            let mut len = first;
            while len > 0 && !request[..len].ends_with(b"\r\n\r\n") {
                len += stream.read(&mut request[len..]).unwrap();
            }
            if len == 0 || tell.send((first, len)).is_err() {
                return;
            }
            stream.write_all(OK).unwrap();
        }
    });
    (addr, told)
}

#[test]
fn a_stalled_request_comes_in_halves_or_waits_with_its_answer() {
    for engine in ENGINES {
        let (addr, told) = listen_for_halves();
        let output = bench(&[
            &addr, "1", "-n", "12", "--warmup", "0", "--stall", "1:20ms", "--engine", engine,
            "--json", "-", "-q",
        ]);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{json}");
        assert_eq!(number(&json, "/run/responses"), 12, "{json}");
        assert!(number(&json, "/latency_ns/min") >= 19_900_000, "{json}"); // Three digits.
        let requests: Vec<(usize, usize)> = told.try_iter().collect();
        assert_eq!(requests.len(), 12);
        let halves = requests.iter().filter(|(first, len)| *first == len / 2);
        let whole = requests.iter().filter(|(first, len)| first == len);
        let (halves, whole) = (halves.count(), whole.count());
        assert!(
            halves > 0 && whole > 0 && halves + whole == 12,
            "{requests:?}"
        );
    }
}

#[test]
fn stalls_are_as_rare_as_asked_and_told() {
    let script = Script::Answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    let flags = ["--stall", "20%:100ms", "--seed", "3"];
    load(script, &flags, |code, json| {
        assert_eq!(code, Some(0), "{json}");
        assert_eq!(json["plan"]["stall"], "20%:100ms");
        let notes = json["verdict"]["notes"].to_string();
        assert!(notes.contains("stopped on purpose (20%:100ms)"), "{notes}");
        assert!(number(json, "/latency_ns/max") >= 99_900_000, "{json}");
    });
}

#[test]
fn a_stall_ends_with_the_run() {
    let script = Script::Answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    load(script, &["--stall", "1:9s"], |code, json| {
        assert_eq!(code, Some(0), "{json}");
        assert!(number(json, "/run/responses") > 0, "{json}");
        assert!(number(json, "/latency_ns/max") < 9_000_000_000, "{json}");
    });
}
