//! One process replaces another: no request is lost, and what comes to nothing changes nothing.

use crate::Engine;
use crate::support::{BOUND, Backend, GET, OK, Peer, Proxy, signal};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The program at a path of the test's own, where another one can be put; and its successors, which are killed at the end, too.
struct Line {
    proxy: Proxy,
    directory: TempDir,
    /// The process in charge.
    process: u32,
    started: Vec<Successor>,
}

impl Line {
    /// Listens on a free port, on this engine.
    fn start(engine: Engine, flags: &str) -> Self {
        let patience = match flags.contains("--upgrade-timeout") {
            true => String::new(),
            false => format!("--upgrade-timeout {}s", STARTS_WITHIN.as_secs()),
        };
        let flags = format!("--listen 127.0.0.1:0 {} {patience} {flags}", engine.flag());
        Self::start_in(engine, tempfile::tempdir().unwrap(), &flags)
    }

    /// `@` in the flags stands for the directory.
    fn start_in(engine: Engine, directory: TempDir, flags: &str) -> Self {
        let path = directory.path().join("hp-proxy");
        symlink(env!("CARGO_BIN_EXE_hp-proxy"), &path).unwrap();
        let flags = flags.replace('@', &directory.path().display().to_string());
        let child = Command::new(path)
            .args(flags.split_whitespace())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let proxy = Proxy::of(engine, child);
        Self {
            process: proxy.process(),
            proxy,
            directory,
            started: Vec::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The program at the path is another one from now on.
    fn replace_program(&self, script: &str) {
        let fresh = self.path("fresh");
        fs::write(&fresh, format!("#!/bin/sh\n{script}\n")).unwrap();
        let chmod = Command::new("chmod").arg("755").arg(&fresh).status();
        assert!(chmod.unwrap().success());
        fs::rename(fresh, self.path("hp-proxy")).unwrap();
    }

    /// And is the real one again.
    fn restore_program(&self) {
        fs::remove_file(self.path("hp-proxy")).unwrap();
        symlink(env!("CARGO_BIN_EXE_hp-proxy"), self.path("hp-proxy")).unwrap();
    }

    fn signal(&self, name: &str) {
        signal(self.process, name);
    }

    /// Starts an upgrade; the process that is to take over.
    fn begin(&mut self) -> u32 {
        self.signal("USR2");
        let line = self.proxy.says("upgrading to process ");
        let successor = Successor::told_by(&line);
        let process = successor.process;
        self.started.push(successor);
        process
    }

    fn upgrade(&mut self) {
        let process = self.begin();
        let line = self.proxy.says_within("has taken over", STARTS_WITHIN);
        assert!(line.contains(&process.to_string()), "{line}");
        self.process = process;
    }

    /// An upgrade comes to nothing; this is what both processes say of it, in whatever order.
    fn fails(&self, parts: &[&str]) {
        self.signal("USR2");
        let mut said = Vec::new();
        while !said
            .last()
            .is_some_and(|line: &String| line.contains(" failed: "))
        {
            said.push(self.proxy.says(""));
        }
        for part in parts {
            let is_said = said.iter().any(|line| line.contains(part));
            assert!(is_said, "{part}: {said:?}");
        }
    }

    /// Ends the process in charge.
    fn end(&self) {
        self.signal("TERM");
        self.proxy.says("hp-proxy: draining");
        self.proxy.says("hp-proxy: done");
    }
}

/// A process that another one has started to replace itself; killed when dropped.
pub(crate) struct Successor {
    pub(crate) process: u32,
    /// When it began: at the end its number may be that of another test's.
    begun: Option<String>,
}

impl Successor {
    /// The one that a line ends with.
    pub(crate) fn told_by(line: &str) -> Self {
        let (_, number) = line.rsplit_once(' ').unwrap();
        let process = number.parse().unwrap();
        let begun = begun(process);
        Self { process, begun }
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if self.begun.is_some() && self.begun == begun(self.process) {
            let kill = format!("kill -KILL {}", self.process);
            match Command::new("sh").args(["-c", &kill]).status() {
                Ok(_) | Err(_) => (), // It has ended meanwhile.
            }
        }
    }
}

/// When a process, or a thread, of a number began, in ticks of the machine's life (proc_pid_stat(5)).
fn begun(number: u32) -> Option<String> {
    let line = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    let (_, after_name) = line.rsplit_once(") ")?;
    after_name.split(' ').nth(19).map(str::to_owned)
}

/// Numbers are given out again within minutes where tests start many threads, and successors of other tests have the same environment.
#[test]
fn who_has_got_the_number_of_a_successor_is_not_killed_in_its_place() {
    let start = || {
        let mut cat = Command::new("cat");
        cat.env("HP_PROXY_UPGRADE_FD", "3").stdin(Stdio::piped());
        cat.spawn().unwrap()
    };
    let mut other = start();
    drop(Successor {
        process: other.id(),
        begun: Some(String::from("0")),
    });
    assert!(other.wait().unwrap().success(), "it ends with its input");
    let mut successor = start();
    drop(Successor::told_by(&format!("process {}", successor.id())));
    assert_eq!(successor.wait().unwrap().signal(), Some(9));
}

/// How long a successor may take to speak. Where every CPU is busy, execve has waited for 20 seconds for a lock of the program's file, which whoever
/// reclaims memory held and had no CPU; clients are served by the old process meanwhile, and have their own bound.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// How a file begins: with an engine, and with how long a successor may take.
fn patient(engine: Engine, upgrade_timeout: Duration) -> String {
    format!(
        "engine = \"{}\"\nupgrade_timeout = \"{}ms\"\n",
        engine.flag().trim_start_matches("--engine "),
        upgrade_timeout.as_millis()
    )
}

/// A backend that answers whatever it is asked until the tests end.
fn answering() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer_all(stream));
        }
    });
    addr
}

fn answer_all(mut stream: TcpStream) {
    let mut held = Vec::new();
    let mut space = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut space) {
        held.extend_from_slice(&space[..count]);
        while let Some(end) = held.windows(4).position(|part| part == b"\r\n\r\n") {
            held.drain(..end + 4);
            if stream.write_all(OK.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// Whether a client keeps its connection as long as the proxy does.
/// Who was told nothing is closed on after a second without a request, and among fifty clients one may be kept from its CPU for as long. It begins anew, as one does
/// who knows that it has idled.
const RESTS_AT_MOST: Duration = Duration::from_millis(500);

#[derive(Clone, Copy)]
enum Keeps {
    Yes,
    No,
}

/// One request after the other until told to stop; every one of them is answered.
fn ask(addr: SocketAddr, keeps: Keeps, stop: &AtomicBool, progress: &Sender<()>) {
    let mut kept: Option<Peer> = None;
    let mut last_answer = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if last_answer.elapsed() > RESTS_AT_MOST {
            kept = None;
        }
        let client = kept.get_or_insert_with(|| Peer::of(TcpStream::connect(addr).unwrap()));
        client.send(GET);
        let answer = client.response();
        last_answer = Instant::now();
        assert_eq!((answer.status(), answer.body.as_slice()), (200, &b"hi"[..]));
        if progress.send(()).is_err() {
            return;
        }
        match (keeps, answer.field("Connection")) {
            (Keeps::Yes, None) => (),
            (Keeps::No, None) => kept = None,
            (_, Some("close")) => {
                client.sees_end();
                kept = None;
            }
            (_, Some(other)) => panic!("Connection: {other}"),
        }
    }
}

/// Stops the clients when the test ends, one way or the other.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lets so many clients ask while something is done to the proxy; no request may fail.
fn under_load(addr: SocketAddr, clients: usize, keeps: Keeps, act: impl FnOnce(&Receiver<()>)) {
    let is_over = AtomicBool::new(false);
    let (progress, served) = mpsc::channel();
    std::thread::scope(|scope| {
        let stop = Stop(&is_over);
        let clients: Vec<_> = (0..clients)
            .map(|_| {
                let (is_over, progress) = (&is_over, progress.clone());
                scope.spawn(move || ask(addr, keeps, is_over, &progress))
            })
            .collect();
        act(&served);
        drop(stop);
        for client in clients {
            client.join().unwrap();
        }
    });
}

/// So many more requests are answered.
fn more(served: &Receiver<()>, count: usize) {
    served.try_iter().for_each(drop);
    (0..count).for_each(|_| served.recv_timeout(BOUND).unwrap());
}

pub(crate) fn fifty_clients_lose_nothing_in_five_upgrades(engine: Engine) {
    let flags = format!("--workers 2 --backend {}", answering());
    let mut line = Line::start(engine, &flags);
    let addr = line.proxy.addr;
    under_load(addr, 50, Keeps::Yes, |served| {
        for upgrade in 1..=5 {
            more(served, 200);
            let process = line.begin();
            let told = line
                .proxy
                .says_within("taking over from process", STARTS_WITHIN);
            assert!(told.ends_with(&format!("upgrade {upgrade}")), "{told}");
            line.proxy.says("has taken over");
            line.process = process;
            line.proxy.says("hp-proxy: done"); // With all of its connections.
            assert_eq!(line.proxy.summary()["connections open"], "0");
        }
        more(served, 200);
    });
    assert_eq!(line.proxy.status().code(), Some(0));
    line.end();
}

pub(crate) fn more_workers_or_fewer_lose_no_connection(engine: Engine) {
    let file = |workers: u32| {
        format!(
            "workers = {workers}\n{}[[listener]]\naddress = \"127.0.0.1:0\"\n\
             [[route]]\nanswer = {{ status = 200, body = \"hi\" }}\n",
            patient(engine, STARTS_WITHIN)
        )
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hp.toml");
    fs::write(&path, file(3)).unwrap();
    let mut line = Line::start_in(engine, directory, "--config @/hp.toml");
    under_load(line.proxy.addr, 8, Keeps::No, |served| {
        for workers in [1, 4, 2, 3, 1] {
            more(served, 100);
            fs::write(&path, file(workers)).unwrap();
            line.upgrade();
        }
        more(served, 100);
    });
    line.end();
}

pub(crate) fn a_tunnel_stays_with_the_old_process_until_it_ends(engine: Engine) {
    let backend = Backend::new();
    let flags = format!("--workers 1 --backend {}", backend.addr);
    let mut line = Line::start(engine, &flags);
    let ask = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut client = line.proxy.asked(ask);
    let (mut upstream, _heard) = backend.request();
    upstream.send("HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.response().status(), 101);
    line.upgrade();
    for round in ["one", "two", "three"] {
        client.send(round);
        assert_eq!(upstream.exactly(round.len()), round.as_bytes());
        upstream.send(round);
        assert_eq!(client.exactly(round.len()), round.as_bytes());
        let mut other = line.proxy.asked(GET);
        let mut to_other = backend.answers(OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
        assert_eq!(other.response().body, b"hi");
        to_other.sees_end();
    }
    client.finish();
    upstream.sees_end();
    upstream.finish();
    client.sees_end();
    line.proxy.says("hp-proxy: done");
    let summary = line.proxy.summary();
    assert_eq!(
        (summary["tunnels"].as_str(), summary["requests"].as_str()),
        ("1", "1")
    );
    assert_eq!(line.proxy.status().code(), Some(0));
    line.end();
}

/// Each client is told at its own moment, and all of these have theirs in hours.
pub(crate) fn clients_keep_their_connections_until_their_part_of_the_spread(engine: Engine) {
    let backend = Backend::new();
    let flags = format!(
        "--workers 1 --drain-timeout 24h --close-spread 12h --backend {}",
        backend.addr
    );
    let mut line = Line::start(engine, &flags);
    let mut first = line.proxy.asked(GET);
    let mut upstream = backend.answers(OK);
    assert_eq!(first.response().field("Connection"), None);
    let mut ask = |client: &mut Peer| {
        client.send(GET);
        upstream.request();
        upstream.send(OK);
        let answer = client.response();
        assert_eq!(answer.body, b"hi");
        answer.field("Connection").is_none()
    };
    let mut clients = vec![first];
    for _ in 1..4 {
        let mut client = line.proxy.client();
        assert!(ask(&mut client));
        clients.push(client);
    }
    line.upgrade();
    for _ in 0..3 {
        // The connection to the backend is as before, too.
        assert!(clients.iter_mut().all(&mut ask));
    }
    drop(clients);
    line.proxy.says("hp-proxy: done");
    assert_eq!(line.proxy.status().code(), Some(0));
    line.end();
}

/// A client that was there before is served on the same connection.
fn is_as_before(client: &mut Peer, backend: &Backend, line: &Line) {
    client.send(GET);
    let mut upstream = backend.answers(OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    let answer = client.response();
    assert_eq!(
        (answer.field("Connection"), answer.body.as_slice()),
        (None, &b"hi"[..])
    );
    upstream.sees_end();
    let mut other = line.proxy.asked(GET);
    let _upstream = backend.answers(OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    assert_eq!(other.response().body, b"hi");
}

pub(crate) fn a_successor_that_does_not_start_changes_nothing(engine: Engine) {
    let backend = Backend::new();
    let file = format!(
        "workers = 2\n{}[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\nupstream = \"web\"\n\
         [upstream.web]\nendpoints = [\"{}\"]\n",
        patient(engine, STARTS_WITHIN),
        backend.addr
    );
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hp.toml");
    fs::write(&path, &file).unwrap();
    let mut line = Line::start_in(engine, directory, "--config @/hp.toml");
    let mut client = line.proxy.client();
    is_as_before(&mut client, &backend, &line);

    // A file with a mistake in it.
    fs::write(&path, file.replace("listener", "listner")).unwrap();
    line.fails(&[
        "did you mean",
        "it ended with exit code 1 before it was ready; this process goes on",
    ]);
    is_as_before(&mut client, &backend, &line);

    // An address that somebody else has.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let more = format!(
        "[[listener]]\naddress = \"{}\"\n",
        taken.local_addr().unwrap()
    );
    fs::write(&path, format!("{file}{more}")).unwrap();
    line.fails(&["already in use", "exit code 1"]);
    is_as_before(&mut client, &backend, &line);

    // A program that is not one of ours, one that dies, and none at all.
    fs::write(&path, &file).unwrap();
    for (script, said) in [("exit 0", "exit code 0"), ("kill -SEGV $$", "signal 11")] {
        line.replace_program(script);
        line.fails(&[said]);
        is_as_before(&mut client, &backend, &line);
    }
    fs::remove_file(line.path("hp-proxy")).unwrap();
    line.signal("USR2");
    line.proxy.says("no upgrade: cannot start");
    is_as_before(&mut client, &backend, &line);

    // And then one that is right.
    fs::write(line.path("hp-proxy"), "").unwrap();
    line.restore_program();
    line.upgrade();
    line.end();
}

/// Who hangs is waited for as short a time as may be, and who starts for as long as he takes: one limit for both let the last successor of this test run
/// into the limit where every CPU was busy.
pub(crate) fn a_successor_that_hangs_is_ended_in_time(engine: Engine) {
    let backend = Backend::new();
    let file = |upgrade_timeout: Duration| {
        format!(
            "workers = 2\n{}[[listener]]\naddress = \"127.0.0.1:0\"\n\
             [[route]]\nupstream = \"web\"\n[upstream.web]\nendpoints = [\"{}\"]\n",
            patient(engine, upgrade_timeout),
            backend.addr
        )
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hp.toml");
    fs::write(&path, file(Duration::from_millis(100))).unwrap();
    let mut line = Line::start_in(engine, directory, "--config @/hp.toml");
    let mut client = line.proxy.client();
    is_as_before(&mut client, &backend, &line);
    line.replace_program("exec sleep 3600");
    let process = line.begin();
    let told = line
        .proxy
        .says("it was not ready within --upgrade-timeout; this process goes on");
    // One that the kernel has not ended in two seconds is left to it.
    let is_left = told.ends_with("it was killed, and has not ended");
    assert_eq!(state(process).is_some(), is_left, "{told}");
    is_as_before(&mut client, &backend, &line);
    line.restore_program();
    fs::write(&path, file(STARTS_WITHIN)).unwrap();
    line.signal("HUP");
    line.proxy.says("hp-proxy: reloaded");
    assert!((0..1_000_000).any(|_| matches!(state(process), None | Some('Z'))));
    line.upgrade();
    line.end();
}

/// In which state a process is (proc_pid_stat(5)).
fn state(process: u32) -> Option<char> {
    let line = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, after_name) = line.rsplit_once(") ")?;
    after_name.chars().next()
}

pub(crate) fn a_second_upgrade_is_refused_while_one_is_under_way(engine: Engine) {
    let mut line = Line::start(engine, "--upgrade-timeout 1h");
    line.replace_program("exec sleep 3600");
    let process = line.begin();
    line.signal("USR2");
    let told = line.proxy.says("no upgrade: one is under way already");
    assert!(told.ends_with(&format!("to process {process}")), "{told}");
    signal(process, "KILL");
    line.proxy.says("signal 9 ended it before it was ready");
    line.end();
}

/// The new process reads the file itself, and was passed on the listeners of the plan with which the upgrade began.
pub(crate) fn a_reload_is_refused_while_an_upgrade_is_under_way(engine: Engine) {
    let file = |body: &str| {
        format!(
            "{}[admin]\nlisten = \"127.0.0.1:0\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n\
             [[route]]\nanswer = {{ status = 200, body = \"{body}\" }}\n",
            patient(engine, STARTS_WITHIN)
        )
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hp.toml");
    fs::write(&path, file("one")).unwrap();
    let mut line = Line::start_in(engine, directory, "--config @/hp.toml");
    line.replace_program("exec sleep 3600");
    let process = line.begin();
    fs::write(&path, file("two")).unwrap();
    line.signal("HUP");
    line.proxy.says("not reloaded: an upgrade is under way");
    let mut operator = line.proxy.client_of_admin();
    operator.send("POST /reload HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(operator.response().status(), 503);
    assert_eq!(line.proxy.asked(GET).response().body, b"one");
    signal(process, "KILL");
    line.proxy
        .says("signal 9 ended it before it was ready; this process goes on");
    line.signal("HUP");
    line.proxy.says("hp-proxy: reloaded");
    assert_eq!(line.proxy.asked(GET).response().body, b"two");
    line.restore_program();
    line.upgrade();
    assert_eq!(line.proxy.asked(GET).response().body, b"two");
    line.end();
}

/// Left over in somebody's environment, the variable may name anything, or nothing.
pub(crate) fn a_descriptor_that_is_no_conversation_is_refused_at_once(engine: Engine) {
    for (number, opens) in [("3", "exec 3</dev/null;"), ("7", ""), ("1", ""), ("x", "")] {
        let run = format!("{opens} exec \"$0\" --listen 127.0.0.1:0 {}", engine.flag());
        let output = Command::new("sh")
            .args(["-c", &run, env!("CARGO_BIN_EXE_hp-proxy")])
            .env("HP_PROXY_UPGRADE_FD", number)
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        let line = format!("HP_PROXY_UPGRADE_FD={number} names no socket that a running hp-proxy");
        assert!(told.contains(&line), "{told}");
        assert_eq!(output.status.code(), Some(1));
    }
}

pub(crate) fn a_signal_to_end_ends_the_successor_as_well(engine: Engine) {
    let flags = "--upgrade-timeout 1h";
    let mut line = Line::start(engine, flags);
    line.replace_program("exec sleep 3600");
    let process = line.begin();
    line.signal("TERM");
    line.proxy
        .says("failed: this process is to end, and its successor with it");
    assert!(!Path::new(&format!("/proc/{process}")).exists());
    line.proxy.says("hp-proxy: done");
    assert_eq!(line.proxy.status().code(), Some(0));
}

/// The old process was asked for nothing: the first signal that it gets while it drains is not the second.
pub(crate) fn a_process_that_was_replaced_ends_at_once_only_at_a_second_signal(engine: Engine) {
    let backend = Backend::new();
    let flags = format!("--workers 1 --backend {}", backend.addr);
    let mut line = Line::start(engine, &flags);
    let mut client = line.proxy.asked(GET);
    let (mut upstream, _heard) = backend.request();
    line.upgrade();
    line.proxy.signal("USR2");
    line.proxy.says("no upgrade: this process is about to end");
    line.proxy.signal("TERM");
    line.proxy.says("draining already");
    upstream.send(OK);
    assert_eq!(client.response().body, b"hi");
    line.proxy.says("hp-proxy: done");
    assert_eq!(line.proxy.status().code(), Some(0));
    line.end();
}

fn asked_by_name(path: &Path) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream
        .write_all(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

pub(crate) fn a_unix_socket_keeps_its_name_until_the_last_process_ends(engine: Engine) {
    let flags = format!(
        "--listen unix:@/front --socket-mode 600 --workers 2 --backend {}",
        answering()
    );
    let mut line = Line::start(engine, &flags);
    let path = line.path("front");
    for _ in 0..3 {
        assert!(asked_by_name(&path).starts_with("HTTP/1.1 200 OK"));
        line.upgrade();
        line.proxy.says("hp-proxy: done");
        assert!(asked_by_name(&path).starts_with("HTTP/1.1 200 OK"));
    }
    line.end();
    assert!(!path.exists());
}

pub(crate) fn a_listener_that_the_new_file_does_not_have_is_closed(engine: Engine) {
    let file = |more: &str| {
        format!(
            "workers = 2\n{}[[listener]]\naddress = \"127.0.0.1:0\"\n{more}\
             [[route]]\nanswer = {{ status = 200, body = \"hi\" }}\n",
            patient(engine, STARTS_WITHIN)
        )
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hp.toml");
    let name = directory.path().join("second");
    let second = format!("[[listener]]\naddress = \"unix:{}\"\n", name.display());
    fs::write(&path, file(&second)).unwrap();
    let mut line = Line::start_in(engine, directory, "--config @/hp.toml");
    assert!(asked_by_name(&name).starts_with("HTTP/1.1 200 OK"));
    fs::write(&path, file("")).unwrap();
    line.upgrade();
    line.proxy.says("hp-proxy: done");
    assert!(!name.exists());
    assert_eq!(line.proxy.asked(GET).response().body, b"hi");
    // And one that is new is bound.
    fs::write(&path, file(&second)).unwrap();
    line.upgrade();
    assert!(asked_by_name(&name).starts_with("HTTP/1.1 200 OK"));
    line.end();
}

pub(crate) fn the_file_of_the_process_names_who_is_in_charge(engine: Engine) {
    let flags = "--pid-file @/hp.pid";
    let mut line = Line::start(engine, flags);
    let path = line.path("hp.pid");
    // It is written once the listeners accept, which the line that the program was waited for with is about to tell.
    let names = |process: u32| {
        let told = format!("{process}\n");
        (0..1_000_000).any(|_| fs::read_to_string(&path).is_ok_and(|text| text == told))
    };
    assert!(names(line.process));
    line.upgrade();
    assert!(names(line.process));
    line.proxy.says("hp-proxy: done");
    assert!(names(line.process), "the old process has left it alone");
    line.end();
    assert!(!path.exists());
}
