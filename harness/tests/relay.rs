//! hp-relay as a process: what one end says, the other one hears, on each engine and through pipes.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "both other ends are plain sockets on plain threads; any failure is a failed test"
)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use hp_core::sys::{limits, socket};

/// A running relay.
struct Relay {
    process: Child,
    addr: SocketAddr,
}

impl Relay {
    fn start(backend: &str, flags: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_hp-relay"))
            .args(["--listen", "127.0.0.1:0", "--backend", backend])
            .args(flags.split(' '))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stderr.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let addr = line.trim().strip_prefix("listening on ").unwrap();
        let addr = addr.parse().unwrap();
        Self { process, addr }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// A running relay with the backend that it leads to.
struct Lab {
    relay: Relay,
    backend: TcpListener,
}

impl Lab {
    fn start(flags: &str) -> Self {
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Relay::start(&backend.local_addr().unwrap().to_string(), flags);
        Self { relay, backend }
    }

    /// A client's connection, and the one that the relay made for it.
    fn pair(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.relay.addr).unwrap();
        let (backend, _) = self.backend.accept().unwrap();
        for end in [&client, &backend] {
            end.set_read_timeout(Some(PATIENCE)).unwrap();
            end.set_write_timeout(Some(PATIENCE)).unwrap();
        }
        (client, backend)
    }

    /// Most memory that the relay ever had, in KiB.
    fn peak_kib(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.relay.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        line.unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap()
    }

    /// How many descriptors the relay has open.
    fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.relay.process.id()))
            .unwrap()
            .count()
    }
}

/// Proves a fact on every way that bytes can go.
fn check(fact: impl Fn(&Lab)) {
    for flags in variants() {
        fact(&Lab::start(flags));
    }
}

/// The flags of every such way that this kernel has.
fn variants() -> impl Iterator<Item = &'static str> {
    let without_uring = std::env::var("HP_WITHOUT_URING").as_deref() == Ok("1");
    VARIANTS.into_iter().filter(move |flags| {
        let is_there = !without_uring || !flags.contains("uring");
        if !is_there {
            eprintln!("NOT PROVEN (HP_WITHOUT_URING=1): {flags}");
        }
        is_there
    })
}

#[test]
fn bytes_arrive_exactly_in_both_directions_at_once() {
    check(|lab| {
        let (client, backend) = lab.pair();
        thread::scope(|scope| {
            scope.spawn(|| say(&client, 1, LEN));
            scope.spawn(|| say(&backend, 2, LEN));
            scope.spawn(|| assert_eq!(hear(&client, 2), LEN));
            assert_eq!(hear(&backend, 1), LEN);
        });
    });
}

#[test]
fn a_backend_behind_a_unix_socket_hears_and_says_the_same() {
    for flags in variants() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let relay = Relay::start(&format!("unix:{}", path.display()), flags);
        let echo = thread::spawn(move || {
            let (mut from, _) = listener.accept().unwrap();
            let mut to = from.try_clone().unwrap();
            io::copy(&mut from, &mut to).unwrap();
            to.shutdown(Shutdown::Write).unwrap();
        });
        let client = TcpStream::connect(relay.addr).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| say(&client, 1, LEN));
            assert_eq!(hear(&client, 1), LEN, "{flags}");
        });
        echo.join().unwrap();
    }
}

#[test]
fn a_half_close_is_passed_on_and_leaves_the_other_direction_open() {
    check(|lab| {
        for (speaker, listener) in [lab.pair(), swapped(lab.pair())] {
            say(&speaker, 1, 5);
            assert_eq!(hear(&listener, 1), 5); // With the end behind it.
            say(&listener, 2, 100_000);
            assert_eq!(hear(&speaker, 2), 100_000);
        }
    });
}

#[test]
fn a_reset_is_passed_on_as_a_reset() {
    check(|lab| {
        for (leaver, stayer) in [lab.pair(), swapped(lab.pair())] {
            (&leaver).write_all(b"x").unwrap();
            (&stayer).read_exact(&mut [0]).unwrap();
            socket::reset_on_close(leaver.as_raw_fd()).unwrap();
            drop(leaver);
            let error = (&stayer).read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
    });
}

#[test]
fn a_backend_that_refuses_ends_the_client_with_a_reset() {
    let lab = Lab::start("--engine epoll");
    // Who was shut down listens no more, and keeps its port from others.
    socket::shutdown_both(lab.backend.as_raw_fd()).unwrap();
    let client = TcpStream::connect(lab.relay.addr).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let error = (&client).read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_slow_reader_bounds_what_the_relay_holds() {
    check(|lab| {
        let before_kib = lab.peak_kib();
        let (client, backend) = lab.pair();
        backend.set_write_timeout(Some(STALL)).unwrap();
        // More than all sockets on the way take: without a bound the relay would hold the rest.
        let mut text = vec![0; 64 * 1024];
        let mut said = 0;
        while said < SLOW_LEN {
            fill(&mut text, 3, said);
            match (&backend).write(&text) {
                Ok(count) => said += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(said < SLOW_LEN, "nobody made the backend wait");
        backend.shutdown(Shutdown::Write).unwrap();
        assert_eq!(hear(&client, 3), said);
        let grown_kib = lab.peak_kib() - before_kib;
        assert!(grown_kib < 8 * 1024, "{grown_kib} KiB more");
    });
}

#[test]
fn a_thousand_connections_at_once_each_get_their_own_bytes_back() {
    limits::raise_open_files().unwrap();
    check(|lab| {
        let idle = lab.open_files();
        let pairs: Vec<_> = (0..1_000).map(|_| lab.pair()).collect();
        for (number, (client, _)) in (0u64..).zip(&pairs) {
            (&*client).write_all(&number.to_ne_bytes()).unwrap();
        }
        // A backend's connection hears what its client said, whichever came first.
        for (_, backend) in &pairs {
            let mut backend = backend;
            let mut word = [0; 8];
            backend.read_exact(&mut word).unwrap();
            backend.write_all(&word).unwrap();
        }
        for (number, (client, _)) in (0u64..).zip(&pairs) {
            let mut word = [0; 8];
            (&*client).read_exact(&mut word).unwrap();
            assert_eq!(u64::from_ne_bytes(word), number);
        }
        for (client, backend) in &pairs {
            client.shutdown(Shutdown::Write).unwrap();
            backend.shutdown(Shutdown::Write).unwrap();
        }
        for (mut client, mut backend) in pairs.iter().map(|(client, backend)| (client, backend)) {
            assert_eq!(
                (
                    client.read(&mut [0]).unwrap(),
                    backend.read(&mut [0]).unwrap()
                ),
                (0, 0)
            );
        }
        // One more conversation, and whatever ended before it has been given back: all but the pipes that are kept.
        drop(lab.pair());
        let left = lab.open_files();
        assert!(left < idle + 200, "{left} descriptors, {idle} at the start");
    });
}

#[test]
fn misuse_is_exit_code_2_and_an_address_in_use_is_1() {
    let lab = Lab::start("--engine epoll");
    let listen = lab.relay.addr.to_string();
    for (words, code, part) in [
        (["--engine", "threads"], 2, "write auto, uring or epoll"),
        (["--listen", listen.as_str()], 1, "choose another --listen"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_hp-relay"))
            .args(words)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(part) && text.lines().count() == 1, "{text}");
    }
}

fn swapped((one, other): (TcpStream, TcpStream)) -> (TcpStream, TcpStream) {
    (other, one)
}

/// The bytes of a text from an offset on.
fn fill(place: &mut [u8], text: u64, start: usize) {
    for (offset, byte) in place.iter_mut().enumerate() {
        let word = ((start + offset) as u64 + 1)
            .wrapping_mul(text.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        *byte = word.to_be_bytes()[0];
    }
}

/// Says so many bytes of a text, and then its end.
fn say(mut to: &TcpStream, text: u64, len: usize) {
    let mut piece = vec![0; 100_000];
    let mut said = 0;
    while said < len {
        let count = piece.len().min(len - said);
        fill(&mut piece[..count], text, said);
        to.write_all(&piece[..count]).unwrap();
        said += count;
    }
    to.shutdown(Shutdown::Write).unwrap();
}

/// Hears a text to its end; how many bytes that were.
fn hear(mut from: &TcpStream, text: u64) -> usize {
    let (mut piece, mut expected) = (vec![0; 30_000], vec![0; 30_000]);
    let mut heard = 0;
    loop {
        let count = from.read(&mut piece).unwrap();
        if count == 0 {
            return heard;
        }
        fill(&mut expected[..count], text, heard);
        assert!(piece[..count] == expected[..count], "after {heard} bytes");
        heard += count;
    }
}

const VARIANTS: [&str; 5] = [
    "--engine epoll",
    "--engine uring",
    "--engine epoll --splice",
    "--engine uring --splice",
    "--engine auto --workers 2",
];
const LEN: usize = 8 * 1024 * 1024;
const SLOW_LEN: usize = 256 * 1024 * 1024;
/// Only to end a test that would hang.
const PATIENCE: Duration = Duration::from_secs(30);
/// A write that takes longer found nobody who makes room.
const STALL: Duration = Duration::from_millis(500);
