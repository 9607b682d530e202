//! One proxy takes over the listening sockets of another in a simulated world, at any moment: no request is lost.
//!
//! What the main threads of two processes do is done here by hand: the sockets are duplicated, the old workers pause, the new ones
//! accept, the old ones hand over. A seed decides when, how often, on which engine and with how many workers.
#![expect(
    clippy::expect_used,
    reason = "the models are functions of a test, not tests themselves"
)]

#[path = "handover/spread.rs"]
mod spread;

use hp_core::rt::mesh::{Mesh, WorkerId};
use hp_core::rt::net::{Conn, Rx, Socket};
use hp_core::rt::sim::{Chance, Face, Host, Limits, Profile, World};
use hp_core::rt::worker::Context;
use hp_core::rt::{Engine, Rt, RtOptions};
use hp_proxy::config::forwarding::Forwarding;
use hp_proxy::config::plan::{
    Endpoint, Limits as ProxyLimits, ListenerId, OneRoute, Plan, Timeouts,
};
use hp_proxy::counters::Rows;
use hp_proxy::shared::{Message, SharedPlan};
use hp_proxy::worker;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

#[test]
fn no_request_is_lost_whenever_one_proxy_takes_over_from_another() {
    let more = std::env::var("HP_HANDOVER_SEEDS");
    let seeds = more.map_or(SEEDS, |text| text.parse().expect("a number of seeds"));
    for seed in 0..seeds {
        let lost = Play::new(seed).run(Passing::Sockets);
        assert!(lost.is_empty(), "seed {seed}: {lost:?}");
    }
}

/// An alarm that never rang is none: where the new process listens on sockets of its own, what waits in the old ones is lost.
#[test]
fn a_successor_with_sockets_of_its_own_loses_requests() {
    let loses = |seed: &u64| !Play::new(*seed).run(Passing::Nothing).is_empty();
    assert!((0..SEEDS).any(|seed| loses(&seed)), "no seed finds it");
}

/// It has asked more before it could know that the answer is the last one, and its kernel was sent a reset for that, which took the
/// rest of the answer away (found by `make sim`, with a pipeline in small sockets).
#[test]
fn the_last_answer_reaches_a_client_that_has_asked_more() {
    for seed in 0..SEEDS {
        let lost = Play::new(seed).ask_on_while_replaced();
        assert!(lost.is_empty(), "seed {seed}: {lost:?}");
    }
}

/// What the old process gives the new one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passing {
    Sockets,
    Nothing,
}

/// One of the processes.
struct Process {
    mesh: Mesh<Message>,
    rows: Rows,
    /// As its main thread keeps them, to pass them on.
    sockets: Vec<Socket>,
    workers_left: Rc<Cell<u32>>,
}

/// How a process runs.
#[derive(Clone, Copy)]
struct Setting {
    workers: u32,
    face: Face,
    close_spread: Duration,
}

struct Play {
    world: World,
    chance: RefCell<Chance>,
    proxy: Host,
    client: Host,
    backend: SocketAddr,
    /// Backends' and clients' runtimes live as long as the run.
    rts: RefCell<Vec<Rt>>,
    answered: Rc<Cell<u64>>,
    lost: Rc<RefCell<Vec<String>>>,
    clients_left: Rc<Cell<u64>>,
}

impl Play {
    fn new(seed: u64) -> Self {
        let world = World::new(seed, &Profile::calm());
        let [client, proxy, backend_host] =
            [[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3]].map(|addr| world.host(addr));
        let backend = SocketAddr::from((backend_host.addr(), 8000));
        let rt = runtime(&backend_host, Face::Readiness);
        let socket = backend_host.listen(backend, 1024).expect(OWN);
        let listener = rt.listener(socket).expect("a simulated kernel registers");
        let accepting = rt.clone();
        rt.spawn(async move {
            while let Ok(conn) = listener.accept().await {
                accepting.spawn(answer_all(conn));
            }
        });
        Self {
            chance: RefCell::new(Chance::new(seed)),
            world,
            proxy,
            client,
            backend,
            rts: RefCell::new(vec![rt]),
            answered: Rc::default(),
            lost: Rc::default(),
            clients_left: Rc::default(),
        }
    }

    fn below(&self, bound: u64) -> u64 {
        self.chance.borrow_mut().below(bound)
    }

    /// Gives what was lost, a line each.
    fn run(self, passing: Passing) -> Vec<String> {
        let mut process = self.start(None);
        let clients = 1 + self.below(8);
        self.clients_left.set(clients);
        (0..clients).for_each(|_| self.start_client());
        let mut all = Vec::new();
        for _ in 0..=self.below(3) {
            let until = self.world.now() + Duration::from_micros(self.below(400_000));
            self.wait(&mut || self.world.now() >= until || self.clients_left.get() == 0);
            if self.below(3) == 0 {
                self.pause(&process);
                self.let_time_pass();
                process.tell_all(|| Message::Resume); // The successor came to nothing.
                continue;
            }
            let next = match passing {
                Passing::Sockets => {
                    self.pause(&process);
                    self.let_time_pass();
                    self.start(Some(&process))
                }
                Passing::Nothing => self.start(None),
            };
            process.rows.readiness().leave();
            process.rows.readiness().keep_idle(Duration::from_secs(1));
            process.tell_all(|| Message::HandOver(vec![LISTENER]));
            process.sockets.clear();
            all.push(std::mem::replace(&mut process, next));
        }
        self.wait(&mut || self.clients_left.get() == 0);
        process.tell_all(|| Message::Drain);
        process.sockets.clear();
        all.push(process);
        self.wait(&mut || all.iter().all(|process| process.workers_left.get() == 0));
        self.judge(&all)
    }

    /// A client that was there before asks, and asks again when it has a piece of the answer, which is the last one.
    fn ask_on_while_replaced(self) -> Vec<String> {
        self.client.set_buffer_bytes(32);
        let setting = Setting {
            close_spread: Duration::ZERO,
            ..self.draw()
        };
        let mut process = self.start_as(None, setting);
        let rt = runtime(&self.client, Face::Readiness);
        let is_replaced = Rc::new(Cell::new(false));
        self.clients_left.set(1);
        let client = AskingOn {
            rt: rt.clone(),
            proxy: SocketAddr::from((self.proxy.addr(), 80)),
            is_replaced: Rc::clone(&is_replaced),
        };
        let (lost, left) = (Rc::clone(&self.lost), Rc::clone(&self.clients_left));
        let answered = Rc::clone(&self.answered);
        rt.spawn(async move {
            match client.live().await {
                Ok(()) => answered.set(1),
                Err(why) => lost.borrow_mut().push(why),
            }
            left.set(0);
        });
        self.rts.borrow_mut().push(rt);
        self.wait(&mut || process.rows.sum(|row| &row.conns_accepted) == 1);
        process.rows.readiness().keep_idle(Duration::from_secs(1));
        process.tell_all(|| Message::HandOver(vec![LISTENER]));
        process.sockets.clear();
        is_replaced.set(true);
        self.wait(&mut || self.clients_left.get() == 0 && process.workers_left.get() == 0);
        self.judge(&[process])
    }

    fn judge(self, all: &[Process]) -> Vec<String> {
        let mut lost = self.lost.take();
        let requests: u64 = all
            .iter()
            .map(|process| process.rows.sum(|row| &row.requests))
            .sum();
        if requests != self.answered.get() && lost.is_empty() {
            lost.push(format!(
                "{requests} requests are counted, and {} are answered",
                self.answered.get()
            ));
        }
        for process in all {
            if process.rows.sum(|row| &row.conns_open) > 0 {
                lost.push(String::from("connections are counted as open that are not"));
            }
        }
        let panics: u64 = self.rts.borrow().iter().map(Rt::panics).sum();
        assert_eq!(panics, 0, "tasks panicked");
        drop(self.rts.take());
        self.world.shut_down().expect("nothing is left");
        lost
    }

    /// Starts a process: with the sockets of another one, which are shared out in turn, or with its own.
    fn start(&self, before: Option<&Process>) -> Process {
        self.start_as(before, self.draw())
    }

    fn draw(&self) -> Setting {
        Setting {
            workers: 1 + u32::try_from(self.below(3)).expect("below 3"),
            face: [Face::Readiness, Face::Completion][usize::from(self.below(2) == 0)],
            close_spread: [Duration::ZERO, Duration::from_secs(1)][usize::from(self.below(2) == 0)],
        }
    }

    fn start_as(&self, before: Option<&Process>, setting: Setting) -> Process {
        let addr = SocketAddr::from((self.proxy.addr(), 80));
        let Setting {
            workers: count,
            face,
            close_spread,
        } = setting;
        let listen = || self.proxy.listen(addr, 128).expect(OWN);
        let clone = |socket: &Socket| socket.try_clone().expect("descriptors are left");
        let mut sockets: Vec<Socket> = before.map_or_else(Vec::new, |before| {
            before.sockets.iter().map(clone).collect()
        });
        while sockets.len() < count as usize {
            sockets.push(listen());
        }
        let plan = plan(addr, self.backend, (count, close_spread));
        let process = Process {
            mesh: Mesh::new(count),
            rows: Rows::new(count, 0),
            sockets,
            workers_left: Rc::new(Cell::new(count)),
        };
        for id in (0..count).map(WorkerId) {
            let rt = runtime(&self.proxy, face);
            let context = Context {
                rt: rt.clone(),
                id,
                mailbox: process.mesh.mailbox(id),
                mesh: process.mesh.clone(),
            };
            let (plan, rows) = (plan.clone(), process.rows.clone());
            let left = Rc::clone(&process.workers_left);
            rt.spawn(async move {
                worker::main(context, plan, rows, None).await;
                left.set(left.get() - 1);
            });
            self.rts.borrow_mut().push(rt);
        }
        let given = process.sockets.iter().map(clone);
        for (socket, id) in given.zip((0..count).cycle()) {
            process.tell(WorkerId(id), Message::Listen(socket, LISTENER));
        }
        let (to, reports) = mpsc::channel();
        process.tell_all(|| Message::Report(to.clone()));
        let mut accepting = 0;
        self.wait(&mut || {
            accepting += reports.try_iter().sum::<u32>();
            accepting as usize == process.sockets.len()
        });
        process
    }

    /// Returns when no worker takes anything from a queue any more.
    fn pause(&self, process: &Process) {
        let (settled, rests) = mpsc::channel();
        process.tell_all(|| Message::Pause(settled.clone()));
        let mut left = process.mesh.workers() as usize;
        self.wait(&mut || {
            left -= rests.try_iter().count();
            left == 0
        });
    }

    /// Connections come meanwhile, and wait.
    fn let_time_pass(&self) {
        let until = self.world.now() + Duration::from_micros(self.below(50_000));
        self.wait(&mut || self.world.now() >= until || self.clients_left.get() == 0);
    }

    fn start_client(&self) {
        let rt = runtime(&self.client, Face::Readiness);
        let client = Client {
            rt: rt.clone(),
            proxy: SocketAddr::from((self.proxy.addr(), 80)),
            chance: self.chance.borrow_mut().fork(),
            answered: Rc::clone(&self.answered),
        };
        let (lost, left) = (Rc::clone(&self.lost), Rc::clone(&self.clients_left));
        rt.spawn(async move {
            if let Err(why) = client.live().await {
                lost.borrow_mut().push(why);
            }
            left.set(left.get() - 1);
        });
        self.rts.borrow_mut().push(rt);
    }

    fn wait(&self, done: &mut dyn FnMut() -> bool) {
        let limits = Limits {
            turns: 3_000_000,
            time: Duration::from_secs(24 * 3600),
        };
        self.world.run_until(done, limits).expect("the run ends");
    }
}

impl Process {
    fn tell(&self, worker: WorkerId, message: Message) {
        match self.mesh.send(worker, message) {
            Ok(()) => (),
            Err(_ended) => unreachable!("it runs until it is told to drain"),
        }
    }

    fn tell_all(&self, message: impl Fn() -> Message) {
        (0..self.mesh.workers()).for_each(|id| self.tell(WorkerId(id), message()));
    }
}

/// Asks one request after the other, the next one within a fraction of the second for which idle connections are kept.
struct Client {
    rt: Rt,
    proxy: SocketAddr,
    chance: Chance,
    answered: Rc<Cell<u64>>,
}

impl Client {
    async fn live(mut self) -> Result<(), String> {
        let mut kept: Option<Conn> = None;
        for number in 0..5 + self.chance.below(40) {
            let conn = match kept.take() {
                Some(conn) => conn,
                None => {
                    let deadline = self.rt.now() + PATIENCE;
                    let connected = self.rt.connect(self.proxy, deadline).await;
                    connected.map_err(|error| format!("request {number}: connect: {error}"))?
                }
            };
            let keeps = self.chance.below(4) > 0;
            let answer = ask(&conn, keeps).await;
            let answer = answer.map_err(|error| format!("request {number}: {error}"))?;
            if !answer.starts_with("HTTP/1.1 200 ") {
                return Err(format!("request {number}: {answer}"));
            }
            self.answered.set(self.answered.get() + 1);
            if !answer.contains("Connection: close") {
                kept = Some(conn);
            }
            let pause = [0, 0, 1_000, 100_000][self.chance.index(4)];
            self.rt
                .sleep(Duration::from_micros(self.chance.below(1 + pause)))
                .await;
        }
        Ok(())
    }
}

/// Asks its second request with the first answer half read.
struct AskingOn {
    rt: Rt,
    proxy: SocketAddr,
    is_replaced: Rc<Cell<bool>>,
}

impl AskingOn {
    async fn live(self) -> Result<(), String> {
        let deadline = self.rt.now() + PATIENCE;
        let conn = self.rt.connect(self.proxy, deadline).await;
        let conn = conn.map_err(|error| format!("connect: {error}"))?;
        while !self.is_replaced.get() {
            self.rt.sleep(Duration::from_millis(1)).await;
        }
        conn.set_deadline(Some(deadline));
        let request = b"GET / HTTP/1.1\r\nHost: sim\r\n\r\n";
        conn.write(request).map_err(|error| error.to_string())?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nhi") {
            match conn.recv().await {
                Ok(Rx::Data(bytes)) if answer.is_empty() => {
                    answer.extend_from_slice(&bytes);
                    conn.write(request).map_err(|error| error.to_string())?;
                }
                Ok(Rx::Data(bytes)) => answer.extend_from_slice(&bytes),
                Ok(Rx::Eof) => return Err(format!("it ends after {} bytes", answer.len())),
                Err(error) => return Err(format!("{error} after {} bytes", answer.len())),
            }
        }
        Ok(())
    }
}

async fn ask(conn: &Conn, keeps: bool) -> Result<String, String> {
    let connection = if keeps { "" } else { "Connection: close\r\n" };
    ask_for(conn, "/", connection).await
}

async fn ask_for(conn: &Conn, path: &str, fields: &str) -> Result<String, String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: sim\r\n{fields}\r\n");
    conn.set_deadline(Some(conn.rt().now() + PATIENCE));
    conn.write(request.as_bytes())
        .map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nhi") {
        match conn.recv().await {
            Ok(Rx::Data(bytes)) => answer.extend_from_slice(&bytes),
            Ok(Rx::Eof) => return Err(format!("it ends after {} bytes", answer.len())),
            Err(error) => return Err(error.to_string()),
        }
    }
    String::from_utf8(answer).map_err(|error| error.to_string())
}

/// A backend's side of a connection.
async fn answer_all(conn: Conn) {
    let mut held = Vec::new();
    while let Ok(Rx::Data(bytes)) = conn.recv().await {
        held.extend_from_slice(&bytes);
        if held.ends_with(b"\r\n\r\n") {
            let takes = length(&held);
            held.clear();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
            let (now, later) = answer.split_at(answer.len() - usize::from(takes.is_some()));
            if conn.write(now).is_err() || conn.flush().await.is_err() {
                return;
            }
            if let Some(takes) = takes {
                conn.rt().sleep(takes).await;
                if conn.write(later).is_err() || conn.flush().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// How long the first bytes of an answer and its end lie apart: `/long/1500` asks for so many milliseconds.
fn length(request: &[u8]) -> Option<Duration> {
    let request = std::str::from_utf8(request).ok()?;
    let (millis, _) = request.strip_prefix("GET /long/")?.split_once(' ')?;
    Some(Duration::from_millis(millis.parse().ok()?))
}

fn plan(
    listen: SocketAddr,
    backend: SocketAddr,
    (workers, close_spread): (u32, Duration),
) -> SharedPlan {
    SharedPlan::new(Plan::from(OneRoute {
        listen: listen.into(),
        backends: vec![Endpoint::new(backend.to_string(), backend.into())],
        workers,
        engine: Engine::Auto,
        forwarding: Forwarding::default(),
        timeouts: Timeouts {
            close_spread,
            ..Timeouts::default()
        },
        limits: ProxyLimits::default(),
    }))
}

fn runtime(host: &Host, face: Face) -> Rt {
    host.rt(face, &RtOptions::default())
        .expect("a simulated kernel has everything that a runtime needs")
}

const LISTENER: ListenerId = ListenerId(0);
const OWN: &str = "the address is the host's";
const PATIENCE: Duration = Duration::from_secs(3600);
/// As many as an unoptimised build plays in seconds; `HP_HANDOVER_SEEDS=1000` plays more.
const SEEDS: u64 = 60;
