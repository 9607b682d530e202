//! A hostile mirror in simulated time: what a client gets is equal, byte for byte, to what it gets without one; and what the mirror can
//! make the proxy hold has a bound.
#![expect(
    clippy::unwrap_used,
    reason = "the models are functions of a test, not tests themselves"
)]

#[path = "from_file/mod.rs"]
mod from_file;

use from_file::{Proxy, serve};
use hp_core::rt::RtOptions;
use hp_core::rt::net::{Conn, Rx};
use hp_core::rt::sim::{Face, Host, Limits, Profile, World};
use hp_core::wire::http1::chunked::{ChunkEvent, ChunkedDecoder};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

#[test]
fn whatever_a_mirror_does_its_clients_get_the_same() {
    for face in [Face::Readiness, Face::Completion] {
        for seed in 0..SEEDS {
            let alone = play(face, seed, None).got;
            assert!(
                alone.ends_with(b"last"),
                "{}",
                String::from_utf8_lossy(&alone)
            );
            for conduct in CONDUCTS {
                let mirrored = play(face, seed, Some(conduct));
                let told = String::from_utf8_lossy(&mirrored.got);
                assert!(alone == mirrored.got, "{face:?} {seed} {conduct:?}: {told}");
                // One that finds no place is left out before anybody knows how long its content is.
                let counted = mirrored.copies + mirrored.left_out + mirrored.too_large;
                assert_eq!(counted, REQUESTS, "{conduct:?}");
                assert!((1..=2).contains(&mirrored.too_large), "{conduct:?}");
                if conduct == Conduct::Fair {
                    assert_eq!(mirrored.failures, 0);
                } else {
                    assert_eq!(mirrored.failures, mirrored.copies, "{conduct:?}");
                }
            }
        }
    }
}

#[test]
fn a_mirror_that_never_answers_holds_a_bounded_number_of_tasks() {
    for face in [Face::Readiness, Face::Completion] {
        let alone = play(face, 0, None);
        let mirrored = play(face, 0, Some(Conduct::Silent));
        assert!(mirrored.left_out > 0, "the bound was reached");
        assert!(mirrored.tasks_max <= alone.tasks_max + MIRRORS_MAX);
    }
}

/// What a mirror does with each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conduct {
    Fair,
    /// Nobody listens.
    Gone,
    /// It accepts, and reads nothing.
    Deaf,
    /// It reads, and answers nothing.
    Silent,
    Resets,
    Garbage,
    /// A head that does not end.
    HalfHead,
    /// Content that does not end.
    Endless,
    /// Less content than it said.
    Short,
    /// 100 after 100.
    Storm,
    /// It switches to what nobody asked for.
    Switches,
}

const CONDUCTS: [Conduct; 11] = [
    Conduct::Fair,
    Conduct::Gone,
    Conduct::Deaf,
    Conduct::Silent,
    Conduct::Resets,
    Conduct::Garbage,
    Conduct::HalfHead,
    Conduct::Endless,
    Conduct::Short,
    Conduct::Storm,
    Conduct::Switches,
];

/// What a run came to.
struct Outcome {
    /// All that the client got, up to the end in order.
    got: Vec<u8>,
    copies: u64,
    failures: u64,
    left_out: u64,
    too_large: u64,
    tasks_max: u32,
}

fn play(face: Face, seed: u64, mirror: Option<Conduct>) -> Outcome {
    let world = World::new(seed, &Profile::calm());
    let hosts = [1, 2, 3, 4].map(|last| world.host([10, 0, 0, last]));
    let [client_host, proxy_host, backend_host, mirror_host] = &hosts;
    let start = |host: &Host, face| host.rt(face, &RtOptions::default()).unwrap();
    let backend = start(backend_host, Face::Readiness);
    serve(&backend, backend_host, BACKEND, answer);
    let shadow = start(mirror_host, Face::Readiness);
    if let Some(conduct) = mirror
        && conduct != Conduct::Gone
    {
        serve(&shadow, mirror_host, MIRROR, move |conn| {
            misbehave(conn, conduct)
        });
    }
    let proxy = Proxy::start(proxy_host, face, &text(mirror.is_some()));
    let client = start(client_host, Face::Readiness);
    let got = Rc::new(RefCell::new(None));
    let (into, rt) = (Rc::clone(&got), client.clone());
    client.spawn(async move {
        let conn = rt.connect(PROXY, rt.now() + LIMITS.time).await.unwrap();
        let outcome = ask(&conn).await;
        into.replace(Some(outcome));
    });
    let rts = [&backend, &shadow, &proxy.rts[0], &client];
    let panics = || rts.iter().map(|rt| rt.panics()).sum::<u64>();
    let mut tasks_max = 0;
    let mut run = |done: &dyn Fn() -> bool| {
        let stuck = world.run_until(
            &mut || {
                tasks_max = tasks_max.max(proxy.rts[0].tasks());
                panics() > 0 || done()
            },
            LIMITS,
        );
        assert_eq!(panics(), 0, "the message is above");
        stuck.unwrap();
    };
    run(&|| got.borrow().is_some());
    // Copies end by themselves, whatever the mirror does.
    run(&|| proxy.rts[0].tasks() <= BASE_TASKS);
    proxy.drain();
    run(&|| proxy.has_ended());
    run(&|| rts.iter().all(|rt| rt.holdings().conns == 0));
    world.shut_down().unwrap();
    Outcome {
        got: got.take().unwrap(),
        copies: proxy.sum(|row| &row.mirrors),
        failures: proxy.sum(|row| &row.mirror_failures),
        left_out: proxy.sum(|row| &row.mirrors_left_out),
        too_large: proxy.sum(|row| &row.mirrors_too_large),
        tasks_max,
    }
}

/// One worker whose only route is mirrored, or not.
fn text(is_mirrored: bool) -> String {
    let mirror = if is_mirrored {
        "mirror = { upstream = \"shadow\", body_max = 1000 }"
    } else {
        ""
    };
    format!(
        "workers = 1\nvia = \"proxy\"\nmirrors_max = {MIRRORS_MAX}\n[[listener]]\naddress = \"{PROXY}\"\n\
         [[route]]\nupstream = \"web\"\n{mirror}\n[upstream.web]\nendpoints = [\"{BACKEND}\"]\n\
         [upstream.shadow]\nendpoints = [\"{MIRROR}\"]\n"
    )
}

/// The client: requests of all kinds, one after the other, each answered before the next; then it closes.
async fn ask(conn: &Conn) -> Vec<u8> {
    let mut got = Vec::new();
    let long = "x".repeat(1001);
    let chunked = "Transfer-Encoding: chunked";
    let requests = [
        get("/1"),
        post("/2", "Content-Length: 5", "12345"),
        post("/3", chunked, "3\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\n"),
        post("/4", "Content-Length: 1001", &long),
        post("/5", chunked, &format!("3e9\r\n{long}\r\n0\r\n\r\n")),
        get("/6") + &get("/7") + &get("/8"),
        post("/9", "Content-Length: 1000", &long[1..]),
    ];
    let mut answers = 0;
    for request in requests {
        answers += request.matches(" HTTP/1.1").count();
        conn.write(request.as_bytes()).unwrap();
        while String::from_utf8_lossy(&got).matches("\r\n\r\nto ").count() < answers {
            match conn.recv().await {
                Ok(Rx::Data(lent)) => got.extend_from_slice(&lent),
                end => panic!("{end:?} after {}", String::from_utf8_lossy(&got)),
            }
        }
    }
    conn.write(b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    loop {
        match conn.recv().await {
            Ok(Rx::Data(lent)) => got.extend_from_slice(&lent),
            Ok(Rx::Eof) => return got,
            Err(error) => panic!("{error} after {}", String::from_utf8_lossy(&got)),
        }
    }
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn post(target: &str, framing: &str, content: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{content}")
}

/// A server that says of each request where it went and how long its content was.
async fn answer(conn: Conn) {
    let mut held: Vec<u8> = Vec::new();
    loop {
        while let Some((target, content, end)) = whole_request(&held) {
            let text = format!("to {target}, {content}: {}", target.trim_start_matches('/'));
            let said = format!(
                "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            );
            held.drain(..end);
            if conn.write(said.as_bytes()).is_err() {
                return;
            }
        }
        match conn.recv().await {
            Ok(Rx::Data(lent)) => held.extend_from_slice(&lent),
            Ok(Rx::Eof) | Err(_) => return,
        }
    }
}

/// The target of the first request, the length of its content, and where it ends; `None` while it is not whole.
fn whole_request(bytes: &[u8]) -> Option<(String, usize, usize)> {
    let at = bytes.windows(4).position(|part| part == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
    let target = head.split(' ').nth(1)?.to_owned();
    if head.contains("\r\nTransfer-Encoding: chunked\r\n") {
        let (mut decoder, mut content, mut end) = (ChunkedDecoder::new(), 0, at);
        loop {
            let (consumed, event) = decoder.next(&bytes[end..]).unwrap();
            match event {
                ChunkEvent::Data(range) => {
                    content += range.len();
                    end += range.end;
                }
                ChunkEvent::End => return Some((target, content, end + consumed)),
                ChunkEvent::NeedMore => return None,
            }
        }
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let content = length.map_or(0, |length| length.parse().unwrap());
    (bytes.len() >= at + content).then_some((target, content, at + content))
}

async fn misbehave(conn: Conn, conduct: Conduct) {
    let rt = conn.rt().clone();
    if conduct == Conduct::Fair {
        return answer(conn).await;
    }
    if conduct == Conduct::Deaf {
        return rt.sleep(HOUR).await;
    }
    if !matches!(conn.recv().await, Ok(Rx::Data(_))) {
        return;
    }
    let said: &[u8] = match conduct {
        Conduct::Resets => return conn.reset(),
        Conduct::Garbage => b"\0\xff\r\n\r\n nonsense HTTP/9.9",
        Conduct::HalfHead => b"HTTP/1.1 200 OK\r\nX: ",
        Conduct::Endless => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        Conduct::Short => b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        Conduct::Storm => b"",
        Conduct::Switches => {
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
        }
        Conduct::Fair | Conduct::Gone | Conduct::Deaf | Conduct::Silent => b"",
    };
    let more: &[u8] = match conduct {
        Conduct::Endless => b"400\r\nx",
        Conduct::Storm => b"HTTP/1.1 100 Continue\r\n\r\n",
        _ => b"",
    };
    let mut sent = conn.write(said);
    if conduct == Conduct::Short {
        return;
    }
    // As fast as the proxy takes it, until it takes no more.
    while sent.is_ok() && !more.is_empty() {
        let piece = if conduct == Conduct::Endless {
            [b"400\r\n".as_slice(), &[b'x'; 0x400], b"\r\n"]
                .concat()
                .repeat(32)
        } else {
            more.repeat(16)
        };
        sent = conn.write(&piece);
        if sent.is_ok() {
            sent = conn.flush().await;
        }
    }
    rt.sleep(HOUR).await;
}

const fn host(last: u8, port: u16) -> SocketAddr {
    let ip = std::net::Ipv4Addr::new(10, 0, 0, last);
    SocketAddr::V4(std::net::SocketAddrV4::new(ip, port))
}

const PROXY: SocketAddr = host(2, 80);
const BACKEND: SocketAddr = host(3, 8000);
const MIRROR: SocketAddr = host(4, 8000);
/// Of the client.
const REQUESTS: u64 = 10;
const MIRRORS_MAX: u32 = 3;
/// The worker, its listener, and whoever takes parked connections back.
const BASE_TASKS: u32 = 3;
const SEEDS: u64 = 2;
const HOUR: Duration = Duration::from_secs(3600);
const LIMITS: Limits = Limits {
    turns: 3_000_000,
    time: Duration::from_secs(7 * 24 * 3600),
};
