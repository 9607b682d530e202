//! The program as its operator meets it: flags, signals, exit codes.

use crate::Engine;
use crate::support::{BOUND, Backend, GET, OK, Peer, Proxy, signal, spawn};
use std::io::{BufRead, BufReader};
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
    let mut proxy = Proxy::before(engine, &backend, "--response-timeout 4s");
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

/// How many connections each of two workers has when so many are open, which came in this way.
fn shares(engine: Engine, conns: usize, way: Way) -> [u32; 2] {
    let name = engine.flag().trim_start_matches("--engine ");
    let text = format!(
        "workers = 2\nengine = \"{name}\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n\
         [[route]]\nanswer = {{ status = 204 }}\n"
    );
    let proxy = Proxy::start_from_file_as_it_is(engine, &text);
    let mut clients: Vec<Peer> = Vec::new();
    match way {
        Way::AtOnce => {
            clients.extend((0..conns).map(|_| proxy.asked(GET)));
            for client in &mut clients {
                assert_eq!(client.response().status(), 204);
            }
        }
        Way::OneByOne => {
            for _ in 0..conns {
                let mut client = proxy.asked(GET);
                assert_eq!(client.response().status(), 204);
                clients.push(client);
            }
        }
    }
    let counts = proxy.counts();
    assert_eq!(counts["connections open"], conns.to_string());
    let shares = counts["accepted by each worker"].split_whitespace();
    let shares: Vec<u32> = shares.map(|share| share.parse().unwrap()).collect();
    shares.try_into().unwrap()
}

#[derive(Clone, Copy, Debug)]
enum Way {
    /// All are connected before the first of them is answered.
    AtOnce,
    /// Each comes when the one before has been answered.
    OneByOne,
}

pub(crate) fn connections_are_shared_evenly_by_two_workers(engine: Engine) {
    for way in [Way::AtOnce, Way::OneByOne] {
        for (conns, most_off) in [(8, 1), (100, 2)] {
            let [one, other] = shares(engine, conns, way);
            let even = u32::try_from(conns).unwrap() / 2;
            assert_eq!(one + other, even * 2);
            assert!(
                one.abs_diff(even) <= most_off,
                "{conns} {way:?}: {one} and {other}"
            );
        }
    }
}

/// While the table of descriptors grows, the kernel holds up whoever needs a descriptor of a process with threads: for milliseconds, and
/// for seconds where every CPU is busy. In one upgrade half of the clients were not answered for 20 seconds.
pub(crate) fn the_table_of_descriptors_does_not_grow_while_clients_come(engine: Engine) {
    let name = engine.flag().trim_start_matches("--engine ");
    let text = format!(
        "workers = 2\nengine = \"{name}\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n\
         [[route]]\nanswer = {{ status = 204 }}\n"
    );
    let proxy = Proxy::start_from_file_as_it_is(engine, &text);
    let places = proxy.descriptor_places();
    let mut clients: Vec<Peer> = (0..300).map(|_| proxy.asked(GET)).collect();
    for client in &mut clients {
        assert_eq!(client.response().status(), 204);
    }
    assert_eq!(proxy.descriptor_places(), places);
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

/// Each of these signals is answered by a line that nobody reads.
pub(crate) fn a_program_goes_on_when_the_reader_of_its_log_has_left(engine: Engine) {
    let backend = Backend::new();
    let flags = format!(
        "--listen 127.0.0.1:0 --backend {} {}",
        backend.addr,
        engine.flag()
    );
    let mut program = spawn(&flags);
    let log = BufReader::new(program.stderr.take().unwrap());
    let addr = log
        .lines()
        .find_map(|line| line.unwrap().strip_prefix("listening on ")?.parse().ok())
        .unwrap();
    let mut client = Peer::connect(addr);
    for name in ["HUP", "USR1"] {
        signal(program.id(), name);
        client.send(GET);
        let _upstream = backend.answers(OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
        assert_eq!(client.response().body, b"hi");
    }
    signal(program.id(), "TERM");
    assert_eq!(program.wait().unwrap().code(), Some(0));
}
