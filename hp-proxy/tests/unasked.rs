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
#[path = "messages/mod.rs"]
mod messages;

use from_file::{Proxy, serve};
use hp_core::rt::net::Conn;
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
    what_comes_before_the_head_of_a_request_has_left_is_no_answer_to_it,
    a_request_of_which_nothing_has_left_when_the_backend_speaks_is_sent_again,
    a_request_that_is_lost_with_its_connection_has_no_answer_there,
    a_request_that_is_lost_with_a_shared_connection_has_no_answer_there,
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

/// The backend takes a part of a long head, and says something without having read it.
fn what_comes_before_the_head_of_a_request_has_left_is_no_answer_to_it(face: Face) {
    let lab = Lab::new(1, face, &[Manners::ReadsLater], "");
    let field = "x".repeat(4 * NARROW_BYTES);
    let request = format!("GET /long HTTP/1.1\r\nHost: a\r\nX: {field}\r\n\r\n");
    lab.talk(&[(&request, Some("/long"))]);
    lab.run_to_end();
    let answers = lab.answers.borrow();
    let (_, said) = &answers[0];
    assert!(said.starts_with("HTTP/1.1 502 "), "{said}");
    assert!(said.contains("before it had the request's head"), "{said}");
}

/// The kernels have all of the first request, of which the backend reads the head only, so that there is no room for the second one on
/// that connection. What came there then was the answer to it.
fn a_request_of_which_nothing_has_left_when_the_backend_speaks_is_sent_again(face: Face) {
    // Its method does not allow that it is executed twice.
    check_second(face, Manners::StopsReading, SECOND_POST, "");
}

/// The same with a backend that leaves when it has spoken: what was lost with the connection counted as sent.
fn a_request_that_is_lost_with_its_connection_has_no_answer_there(face: Face) {
    check_second(face, Manners::StopsReadingAndLeaves, SECOND_GET, "");
}

/// The same where requests share connections.
fn a_request_that_is_lost_with_a_shared_connection_has_no_answer_there(face: Face) {
    let manners = Manners::StopsReadingAndLeaves;
    check_second(face, manners, SECOND_GET, "multiplex = true");
}

fn check_second(face: Face, manners: Manners, second: &str, lines: &str) {
    let lab = Lab::new(1, face, &[manners], lines);
    let content = "x".repeat(2 * NARROW_BYTES);
    let length = content.len();
    let first = format!("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    lab.talk(&[(&first, None), (&content, Some("/a")), (second, Some("/b"))]);
    lab.run_to_end();
    for (target, said) in &*lab.answers.borrow() {
        let is_answer = said.starts_with("HTTP/1.1 200 ") && said.ends_with(target);
        assert!(is_answer, "{target}: {said}");
    }
    assert_eq!(lab.proxy.sum(|row| &row.upstream_reuses), 1);
    assert_eq!(lab.proxy.sum(|row| &row.retries), 1);
}

/// How a backend behaves. Each answers with what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manners {
    Answers,
    /// On each connection on which it has not been asked anything yet it says something by itself.
    SpeaksFirst,
    /// Takes little, says something by itself after a while, and reads then.
    ReadsLater,
    /// Takes little. On its first connection it reads one head, answers, and says something by itself after a while.
    StopsReading,
    /// The same, and resets that connection at once.
    StopsReadingAndLeaves,
}

impl Manners {
    fn is_narrow(self) -> bool {
        !matches!(self, Self::Answers | Self::SpeaksFirst)
    }
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
            if manners.is_narrow() {
                host.set_buffer_bytes(NARROW_BYTES);
                proxy_host.set_buffer_bytes(NARROW_BYTES);
            }
            let addr = SocketAddr::from((host.addr(), 8000));
            endpoints.push(format!("\"{addr}\""));
            let rt = start(&host, Face::Readiness);
            let (unasked, accepted) = (Rc::clone(&unasked), Cell::new(0));
            serve(&rt, &host, addr, move |conn| {
                let is_first = accepted.replace(accepted.get() + 1) == 0;
                answer((conn, is_first), manners, Rc::clone(&unasked))
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

    /// A client that says one thing after the other: after each it waits for an answer, or for a moment.
    fn talk(&self, lines: &[(&str, Option<&str>)]) {
        let (rt, left) = (self.clients.clone(), Rc::clone(&self.clients_left));
        let answers = Rc::clone(&self.answers);
        let owned =
            |(said, target): &(&str, Option<&str>)| (String::from(*said), target.map(String::from));
        let lines: Vec<(String, Option<String>)> = lines.iter().map(owned).collect();
        left.set(left.get() + 1);
        self.clients.spawn(async move {
            let conn = rt.connect(PROXY, Instant::NEVER).await.unwrap();
            let mut heard = Vec::new();
            for (said, target) in lines {
                conn.write(said.as_bytes()).unwrap();
                if let Some(target) = target {
                    let said = message(&conn, &mut heard).await.unwrap();
                    answers.borrow_mut().push((target, said));
                } else {
                    rt.sleep(Duration::from_millis(10)).await;
                }
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
async fn answer((conn, is_first): (Conn, bool), manners: Manners, unasked: Rc<Cell<u64>>) {
    let rt = conn.rt().clone();
    let unasked = || {
        unasked.set(unasked.get() + 1);
        conn.write(&said("unasked")).unwrap();
    };
    match manners {
        Manners::SpeaksFirst if conn.arrived() == 0 => unasked(),
        Manners::ReadsLater => {
            rt.sleep(SECOND).await;
            unasked();
        }
        Manners::StopsReading | Manners::StopsReadingAndLeaves if is_first => {
            drop(conn.recv().await.unwrap());
            rt.sleep(SECOND).await; // What follows fills both sockets meanwhile.
            conn.write(&said("/a")).unwrap();
            rt.sleep(SECOND).await;
            unasked();
            if manners == Manners::StopsReading {
                rt.sleep(SECOND).await;
            }
            return; // With unread bytes, which is a reset.
        }
        Manners::Answers
        | Manners::SpeaksFirst
        | Manners::StopsReading
        | Manners::StopsReadingAndLeaves => (),
    }
    let mut heard = Vec::new();
    while let Some(request) = message(&conn, &mut heard).await {
        let target = request.split(' ').nth(1).unwrap();
        if conn.write(&said(target)).is_err() {
            return;
        }
    }
}

fn said(content: &str) -> Vec<u8> {
    messages::answer("200 OK", content.as_bytes())
}

/// The next message, with its content; `None` at the end.
async fn message(conn: &Conn, heard: &mut Vec<u8>) -> Option<String> {
    let (head, body) = messages::read(conn, heard).await?;
    Some(head + std::str::from_utf8(&body).ok()?)
}

const AT_ONCE: Link = Link {
    latency: Duration::ZERO,
    jitter: Duration::ZERO,
    bytes_per_second: 0,
};
/// What sockets take in either direction where they take little.
const NARROW_BYTES: usize = 1024;
const SECOND_GET: &str = "GET /b HTTP/1.1\r\nHost: a\r\n\r\n";
const SECOND_POST: &str = "POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
const SECOND: Duration = Duration::from_secs(1);
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
