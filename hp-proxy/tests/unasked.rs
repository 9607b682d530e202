//! Backends that speak before they are asked, in simulated time: what nobody has asked for answers nothing (RFC 9112 §9.2).
#![expect(
    clippy::unwrap_used,
    reason = "the models are functions of a test, not tests themselves"
)]

#[macro_use]
#[path = "faces/mod.rs"]
mod faces;
#[path = "from_file/mod.rs"]
mod from_file;

use from_file::{Proxy, serve};
use hp_core::rt::net::{Conn, Rx};
use hp_core::rt::sim::{Face, Host, Limits, Link, Profile, World};
use hp_core::rt::{Instant, Rt, RtOptions};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

facts! {
    what_a_backend_says_before_it_is_asked_answers_nobody,
    what_a_backend_says_before_it_is_asked_answers_nobody_where_requests_share_connections,
    a_request_whose_backend_speaks_first_is_sent_to_another_one,
}

/// The first words on a fresh connection were taken for the answer to its first request, and the true answer to that one for the answer to
/// the next.
fn what_a_backend_says_before_it_is_asked_answers_nobody(face: Face) {
    check_alone(face, "");
}

fn what_a_backend_says_before_it_is_asked_answers_nobody_where_requests_share_connections(
    face: Face,
) {
    check_alone(face, "multiplex = true");
}

fn check_alone(face: Face, lines: &str) {
    let mut unasked = 0;
    for seed in 0..SEEDS {
        let lab = Lab::new(seed, face, &[Manners::SpeaksFirst], lines);
        (0..CLIENTS).for_each(|client| lab.ask(client));
        lab.run_to_end();
        for (target, said) in &*lab.answers.borrow() {
            let is_refusal = said.contains(" 502 ") && said.contains("before it was asked");
            assert!(is_refusal || said.ends_with(target), "{target}: {said}");
        }
        unasked += lab.unasked();
    }
    assert!(unasked >= SEEDS / 2, "{unasked}");
}

fn a_request_whose_backend_speaks_first_is_sent_to_another_one(face: Face) {
    let mut unasked = 0;
    for seed in 0..SEEDS {
        let manners = [Manners::SpeaksFirst, Manners::Answers];
        let lab = Lab::new(seed, face, &manners, "");
        (0..CLIENTS).for_each(|client| lab.ask(client));
        lab.run_to_end();
        for (target, said) in &*lab.answers.borrow() {
            let is_answer = said.starts_with("HTTP/1.1 200 ") && said.ends_with(target);
            assert!(is_answer, "{target}: {said}");
        }
        unasked += lab.unasked();
    }
    assert!(unasked >= SEEDS / 2, "{unasked}");
}

/// How a backend behaves. Each answers with what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manners {
    Answers,
    /// On each connection on which it has not been asked anything yet it says something by itself.
    SpeaksFirst,
}

struct Lab {
    world: World,
    clients: Rt,
    backends: Vec<Rt>,
    proxy: Proxy,
    clients_left: Rc<Cell<u64>>,
    /// What clients asked for, and what they got.
    answers: Rc<RefCell<Vec<(String, String)>>>,
    /// Connections on which a backend spoke first.
    unasked: Rc<Cell<u64>>,
}

impl Lab {
    fn new(seed: u64, face: Face, manners: &[Manners], lines: &str) -> Self {
        let world = World::new(seed, &Profile::calm());
        let start = |host: &Host, face| host.rt(face, &RtOptions::default()).unwrap();
        let client_host = world.host([10, 0, 0, 1]);
        let proxy_host = world.host([10, 0, 0, 2]);
        let unasked: Rc<Cell<u64>> = Rc::default();
        let (mut backends, mut endpoints) = (Vec::new(), Vec::new());
        for (number, manners) in (0..).zip(manners.iter().copied()) {
            let host = world.host([10, 0, 1, number]);
            // Nothing is on its way for any time: who runs first speaks first.
            world.set_link(&host, &proxy_host, AT_ONCE);
            world.set_link(&proxy_host, &host, AT_ONCE);
            let addr = SocketAddr::from((host.addr(), 8000));
            endpoints.push(format!("\"{addr}\""));
            let rt = start(&host, Face::Readiness);
            let unasked = Rc::clone(&unasked);
            serve(&rt, &host, addr, move |conn| {
                answer(conn, manners, Rc::clone(&unasked))
            });
            backends.push(rt);
        }
        let endpoints = endpoints.join(", ");
        let text = format!(
            "workers = 1\n[[listener]]\naddress = \"{PROXY}\"\n[[route]]\nupstream = \"u\"\n[upstream.u]\nendpoints = [{endpoints}]\n{lines}\n"
        );
        Self {
            clients: start(&client_host, Face::Readiness),
            proxy: Proxy::start(&proxy_host, face, &text),
            backends,
            world,
            clients_left: Rc::default(),
            answers: Rc::default(),
            unasked,
        }
    }

    /// A client that asks for several things at once.
    fn ask(&self, client: u64) {
        let (rt, left) = (self.clients.clone(), Rc::clone(&self.clients_left));
        let answers = Rc::clone(&self.answers);
        left.set(left.get() + 1);
        self.clients.spawn(async move {
            let conn = rt.connect(PROXY, Instant::NEVER).await.unwrap();
            let targets: Vec<String> = ["a", "b", "c"]
                .map(|name| format!("/{client}/{name}"))
                .into();
            let requests = targets
                .iter()
                .map(|target| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            conn.write(requests.collect::<String>().as_bytes()).unwrap();
            let mut heard = Vec::new();
            for target in targets {
                let said = message(&conn, &mut heard).await.unwrap();
                answers.borrow_mut().push((target, said));
            }
            left.set(left.get() - 1);
        });
    }

    /// Connections on which a backend spoke first, each of which was one that failed.
    fn unasked(&self) -> u64 {
        let unasked = self.unasked.get();
        let failed = self.proxy.sum(|row| &row.upstream_connect_errors);
        assert_eq!(failed, unasked);
        unasked
    }

    /// Until all clients have ended, and a drain after them.
    fn run_to_end(&self) {
        self.run(&|| self.clients_left.get() == 0);
        self.proxy.drain();
        self.run(&|| self.proxy.has_ended());
    }

    fn run(&self, done: &dyn Fn() -> bool) {
        let ends = std::iter::once(&self.clients).chain(&self.backends);
        faces::run(&self.world, ends.chain(&self.proxy.rts), LIMITS, done);
    }
}

/// Answers each request with its target.
async fn answer(conn: Conn, manners: Manners, unasked: Rc<Cell<u64>>) {
    if manners == Manners::SpeaksFirst && conn.arrived() == 0 {
        unasked.set(unasked.get() + 1);
        if conn.write(said("unasked").as_bytes()).is_err() {
            return;
        }
    }
    let mut heard = Vec::new();
    while let Some(request) = message(&conn, &mut heard).await {
        let target = request.split(' ').nth(1).unwrap();
        if conn.write(said(target).as_bytes()).is_err() {
            return;
        }
    }
}

fn said(content: &str) -> String {
    let length = content.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{content}")
}

/// The next message, with its content; `None` at the end.
async fn message(conn: &Conn, heard: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(length) = whole(heard) {
            return String::from_utf8(heard.drain(..length).collect()).ok();
        }
        match conn.recv().await {
            Ok(Rx::Data(lent)) => heard.extend_from_slice(&lent),
            Ok(Rx::Eof) | Err(_) => return None,
        }
    }
}

/// How long the first message is, if all of it is there.
fn whole(heard: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(heard).unwrap();
    let head = text.find("\r\n\r\n")? + 4;
    let mut lines = text[..head].lines();
    let length = lines.find_map(|line| line.strip_prefix("Content-Length: "));
    let whole = head + length.map_or(0, |length| length.parse().unwrap());
    (heard.len() >= whole).then_some(whole)
}

const AT_ONCE: Link = Link {
    latency: Duration::ZERO,
    jitter: Duration::ZERO,
    bytes_per_second: 0,
};
const SEEDS: u64 = 32;
const CLIENTS: u64 = 4;
const PROXY: SocketAddr = {
    let ip = std::net::Ipv4Addr::new(10, 0, 0, 2);
    SocketAddr::V4(std::net::SocketAddrV4::new(ip, 80))
};
const LIMITS: Limits = Limits {
    turns: 1_000_000,
    time: Duration::from_secs(3600),
};
