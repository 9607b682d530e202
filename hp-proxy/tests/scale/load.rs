//! The whole proxy with any number of workers on a simulated kernel, clients that keep their connections, and what a request costs there in
//! things that can be counted exactly.

use crate::faces;
use crate::from_file::{Proxy, serve};
use hp_core::rt::net::{Conn, Rx};
use hp_core::rt::sim::lines::{self, Actor, Tally};
use hp_core::rt::sim::{Calls, Face, Host, Limits, Profile, Work, World};
use hp_core::rt::{Instant, Rt, RtOptions};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// A proxy in front of two backends, with clients whose connections stay.
pub(crate) struct Lab {
    world: World,
    pub(crate) proxy: Proxy,
    host: Host,
    /// Each on a host of its own: a host has ports for so many connections.
    clients: Vec<Rt>,
    _backend: Rt,
    /// Open connections on which nobody waits.
    crowd: Rc<RefCell<VecDeque<Conn>>>,
    answers: Rc<Cell<u64>>,
}

/// What the proxy did between two points.
#[derive(Clone, Debug)]
pub(crate) struct Cost {
    /// Requests that were answered.
    pub(crate) requests: u64,
    /// Asked of the kernel.
    pub(crate) calls: Calls,
    /// Of all workers together.
    pub(crate) work: Work,
    /// Lines of memory by who wrote and read them.
    pub(crate) lines: Tally,
}

impl Lab {
    /// So many workers; `upstream` are lines about the only one.
    pub(crate) fn new(face: Face, workers: u32, upstream: &str) -> Self {
        let world = World::new(1, &Profile::calm());
        let backends = world.host([10, 0, 1, 1]);
        let backend = started(&backends, Face::Readiness);
        for addr in BACKENDS {
            serve(&backend, &backends, addr, answer_all);
        }
        let host = world.host([10, 0, 0, 2]);
        for host in [&backends, &host] {
            host.set_descriptors_max(DESCRIPTORS_MAX);
        }
        let [one, other] = BACKENDS;
        let text = format!(
            "workers = {workers}\n[[listener]]\naddress = \"{LISTEN}\"\n[[route]]\nupstream = \"web\"\n\
             [upstream.web]\nendpoints = [\"{one}\", \"{other}\"]\n{upstream}\n"
        );
        Self {
            proxy: Proxy::start(&host, face, &text),
            world,
            host,
            clients: Vec::new(),
            _backend: backend,
            crowd: Rc::default(),
            answers: Rc::default(),
        }
    }

    /// Opens more connections, each of which makes a request and stays.
    pub(crate) fn open(&mut self, conns: usize) {
        let wanted = self.crowd.borrow().len() + conns;
        let mut left = conns;
        while left > 0 {
            let here = left.min(CONNS_PER_CLIENT_HOST);
            left -= here;
            let clients = self.clients.len().to_be_bytes();
            let host = self.world.host([10, 1, clients[6], clients[7]]);
            host.set_descriptors_max(DESCRIPTORS_MAX);
            let rt = started(&host, Face::Readiness);
            let share = Rc::new(Cell::new(here));
            for _ in 0..LANES {
                let (rt2, share) = (rt.clone(), Rc::clone(&share));
                let (crowd, answers) = (Rc::clone(&self.crowd), Rc::clone(&self.answers));
                rt.spawn(async move {
                    while let Some(less) = share.get().checked_sub(1) {
                        share.set(less);
                        let conn = rt2.connect(LISTEN, Instant::NEVER).await.unwrap();
                        ask(&conn).await;
                        answers.set(answers.get() + 1);
                        crowd.borrow_mut().push_back(conn);
                    }
                });
            }
            self.clients.push(rt);
        }
        let crowd = Rc::clone(&self.crowd);
        self.run(&|| crowd.borrow().len() == wanted);
    }

    /// So many of the connections make so many requests each, all connections at once; what that cost.
    pub(crate) fn ask(&self, conns: usize, each: u64) -> Cost {
        self.ask_while(conns, each, &|| ())
    }

    /// The same; something else is done after every turn of a runtime.
    pub(crate) fn ask_while(&self, conns: usize, each: u64, meanwhile: &dyn Fn()) -> Cost {
        let before = (self.calls(), self.work());
        lines::watch();
        let wanted = self.answers.get() + conns as u64 * each;
        for _ in 0..conns {
            let conn = self.crowd.borrow_mut().pop_front().unwrap();
            let (crowd, answers) = (Rc::clone(&self.crowd), Rc::clone(&self.answers));
            conn.rt().clone().spawn(async move {
                for _ in 0..each {
                    ask(&conn).await;
                    answers.set(answers.get() + 1);
                }
                crowd.borrow_mut().push_back(conn);
            });
        }
        let answers = Rc::clone(&self.answers);
        self.run(&|| {
            meanwhile();
            answers.get() == wanted
        });
        let calls = self.calls();
        Cost {
            requests: conns as u64 * each,
            calls: Calls {
                calls: calls.calls - before.0.calls,
                entries: calls.entries - before.0.entries,
            },
            work: self.work().since(before.1),
            lines: lines::seen(),
        }
    }

    /// Lets time pass in which nobody asks anything.
    pub(crate) fn pause(&self, length: Duration) {
        let until = self.world.now() + length;
        let rt = self.clients[0].clone();
        let is_over = Rc::new(Cell::new(false));
        let over = Rc::clone(&is_over);
        rt.clone().spawn(async move {
            rt.sleep_until(until).await;
            over.set(true);
        });
        self.run(&|| is_over.get());
    }

    /// Who the workers are in tallies.
    pub(crate) fn workers(&self) -> Vec<Actor> {
        self.proxy.rts.iter().map(Rt::actor).collect()
    }

    /// Drains; nothing is left, and nobody has panicked.
    pub(crate) fn end(self) {
        self.crowd.borrow_mut().clear();
        self.proxy.drain();
        self.run(&|| self.proxy.has_ended());
        assert_eq!(self.proxy.sum(|row| &row.responses), self.answers.get());
        self.world.shut_down().unwrap();
    }

    fn calls(&self) -> Calls {
        self.host.calls()
    }

    fn work(&self) -> Work {
        let works = self.proxy.rts.iter().map(Rt::work);
        works.fold(Work::default(), |sum, more| Work {
            turns: sum.turns + more.turns,
            polls: sum.polls + more.polls,
            timer_steps: sum.timer_steps + more.timer_steps,
        })
    }

    fn run(&self, done: &dyn Fn() -> bool) {
        faces::run(&self.world, &self.proxy.rts, LIMITS, done);
    }
}

impl Cost {
    /// A count for each request.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(crate) fn each(&self, count: u64) -> f64 {
        count as f64 / self.requests as f64
    }
}

pub(crate) fn started(host: &Host, face: Face) -> Rt {
    host.rt(face, &RtOptions::default()).unwrap()
}

/// One request and its answer.
async fn ask(conn: &Conn) {
    conn.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(hear(conn, b"\r\n\r\nok").await, "an answer is missing");
}

async fn answer_all(conn: Conn) {
    while hear(&conn, b"\r\n\r\n").await {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        if conn.write(answer).is_err() {
            return;
        }
    }
}

/// Whether bytes came that end like this.
async fn hear(conn: &Conn, end: &[u8]) -> bool {
    let mut heard: Vec<u8> = Vec::new();
    while !heard.ends_with(end) {
        match conn.recv().await {
            Ok(Rx::Data(lent)) => heard.extend_from_slice(&lent),
            Ok(Rx::Eof) | Err(_) => return false,
        }
    }
    true
}

const fn at(host: [u8; 4], port: u16) -> SocketAddr {
    let [a, b, c, d] = host;
    let ip = std::net::Ipv4Addr::new(a, b, c, d);
    SocketAddr::V4(std::net::SocketAddrV4::new(ip, port))
}

const LISTEN: SocketAddr = at([10, 0, 0, 2], 80);
const BACKENDS: [SocketAddr; 2] = [at([10, 0, 1, 1], 9001), at([10, 0, 1, 1], 9002)];
/// Connections that a client host opens at a time: as many as a listener's queue has room for.
const LANES: usize = 32;
pub(crate) const CONNS_PER_CLIENT_HOST: usize = 25_000;
pub(crate) const DESCRIPTORS_MAX: usize = 4_000_000;
pub(crate) const LIMITS: Limits = Limits {
    turns: u64::MAX,
    time: Duration::from_secs(3600),
};
