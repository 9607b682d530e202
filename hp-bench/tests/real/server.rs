//! A server of threads: one for each connection, with a script for its answers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};

/// `auto` is io_uring wherever that is allowed.
pub(crate) const ENGINES: [&str; 3] = ["epoll", "auto", "threads"];

/// What a connection does with each of its requests.
#[derive(Clone, Copy)]
pub(crate) enum Script {
    /// Sends these bytes and waits for the next request.
    Answer(&'static str),
    /// Sends these bytes and closes.
    AnswerAndClose(&'static str),
    /// Sends these bytes, and closes when the next request comes.
    AnswerOnce(&'static str),
    /// Closes as many connections as it is told as soon as they come; sends these bytes on the later ones.
    CloseFirst(usize, &'static str),
    /// Sends a body that is another one for each request.
    Numbered,
    /// Sends nothing, ever.
    Silence,
}

/// Listens on a free port until the test's process ends; counts the requests that came.
pub(crate) fn serve(script: Script) -> (SocketAddr, &'static AtomicU64) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let requests: &AtomicU64 = Box::leak(Box::default());
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let stream = stream.unwrap();
            match script {
                Script::CloseFirst(count, _) if number < count => drop(stream),
                _ => drop(std::thread::spawn(move || {
                    converse(stream, script, requests);
                })),
            }
        }
    });
    (addr, requests)
}

/// The same on a Unix socket in a folder of its own, as a target of hp-bench; the folder goes with its guard.
pub(crate) fn serve_unix(script: Script) -> (TempDir, String, &'static AtomicU64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let requests: &AtomicU64 = Box::leak(Box::default());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            std::thread::spawn(move || converse(stream, script, requests));
        }
    });
    (folder, format!("unix:{}", path.display()), requests)
}

/// A file with this content, which goes with its guard.
pub(crate) fn file_of(content: impl AsRef<[u8]>) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content.as_ref()).unwrap();
    file
}

/// Ends when either side does; then the connection is closed.
fn converse(mut stream: impl Read + Write, script: Script, requests: &AtomicU64) {
    let mut answers = 0;
    while read_request(&mut stream).is_some() {
        let number = requests.fetch_add(1, Ordering::Relaxed);
        let numbered = format!("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{number:020}");
        let text = match script {
            Script::Numbered => numbered.as_str(),
            Script::AnswerOnce(_) if answers > 0 => return,
            Script::Answer(text)
            | Script::AnswerAndClose(text)
            | Script::AnswerOnce(text)
            | Script::CloseFirst(_, text) => text,
            Script::Silence => continue,
        };
        if stream.write_all(text.as_bytes()).is_err() {
            return;
        }
        answers += 1;
        if matches!(script, Script::AnswerAndClose(_)) {
            return;
        }
    }
}

/// Reads a head, and a body where Content-Length announces one; `None` at the client's end.
fn read_request(stream: &mut impl Read) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).ok()
}

/// Runs hp-bench to its end.
pub(crate) fn bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hp-bench"))
        .args(args)
        .output()
        .unwrap()
}

/// Runs a short load on each engine against a server with this script; `check` gets the exit code
/// and the JSON.
pub(crate) fn load(script: Script, args: &[&str], check: impl Fn(Option<i32>, &Value)) {
    for engine in ENGINES {
        let (addr, _requests) = serve(script);
        let addr = addr.to_string();
        let fixed = [
            addr.as_str(),
            "4",
            "-d",
            "300ms",
            "--warmup",
            "0",
            "--json",
            "-",
            "--engine",
            engine,
        ];
        let output = bench(&[&fixed, args].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        let json: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{engine}: {error}: {said}"));
        check(output.status.code(), &json);
    }
}
