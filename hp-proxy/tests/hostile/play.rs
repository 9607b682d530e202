//! One run in a world of its own: clients come one after the other, each ends before the next, and everything is written down.

use super::judge;
use super::one_worker::OneWorker;
use super::script::Script;
use hp_core::rt::net::{Conn, Listener, Rx};
use hp_core::rt::sim::{Face, Host, Limits, Profile, World};
use hp_core::rt::{Rt, RtOptions};
use hp_oracle::reading::{End, Reading};
use hp_oracle::strict;
use hp_proxy::cli;
use hp_proxy::config::plan::Plan;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Played {
    /// Final answers that clients got, whole or not.
    pub exchanges: u64,
    /// Requests that reached the backend.
    pub forwarded: u64,
}

/// What was said to whom.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// What each client got.
    pub(super) clients: Vec<Vec<u8>>,
    pub(super) backends: Vec<Heard>,
}

/// What the backend heard on one connection.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) bytes: Vec<u8>,
    /// What it said there.
    pub(super) said: Vec<u8>,
    /// Behind here the proxy may relay anything: the backend agreed to another protocol.
    pub(super) tunnel_from: Option<usize>,
}

/// Plays a script and proves what must hold in every run.
///
/// # Errors
/// What did not hold.
pub(crate) fn play(script: &Script) -> Result<Played, String> {
    play_with(script, &[])
}

/// The same with flags for the proxy.
///
/// # Errors
/// What did not hold.
pub(crate) fn play_with(script: &Script, flags: &[&str]) -> Result<Played, String> {
    let world = World::new(u64::from(script.manners), &Profile::calm());
    let host = world.host(PROXY.ip());
    let proxy = OneWorker::start(&host, runtime(&host, script.face())?, plan(flags))
        .map_err(|error| error.to_string())?;
    let rt = runtime(&host, Face::Readiness)?;
    let socket = host
        .listen(BACKEND, 128)
        .map_err(|error| error.to_string())?;
    let listener = rt.listener(socket).map_err(|error| error.to_string())?;
    let stage = Rc::new(Stage {
        rt: rt.clone(),
        script: script.clone(),
        record: RefCell::default(),
        asked: Cell::new(0),
        is_over: Cell::new(false),
        failure: Cell::new(None),
    });
    rt.spawn(Rc::clone(&stage).accept(listener));
    rt.spawn(Rc::clone(&stage).send_clients());
    proxy.play_to_end((&world, &rt), LIMITS, || stage.is_over.get())?;
    if let Some(what) = stage.failure.take() {
        return Err(what);
    }
    judge::judge(script, &stage.record.borrow())
}

struct Stage {
    rt: Rt,
    script: Script,
    record: RefCell<Record>,
    /// Requests that the backend has begun to answer.
    asked: Cell<usize>,
    is_over: Cell<bool>,
    failure: Cell<Option<String>>,
}

impl Stage {
    async fn send_clients(self: Rc<Self>) {
        for index in 0..self.script.clients.len() {
            let got = self.send_client(index).await;
            self.record.borrow_mut().clients.push(got);
        }
        self.is_over.set(true);
    }

    /// Says all, and gives what came until the proxy ended the connection.
    async fn send_client(&self, index: usize) -> Vec<u8> {
        let mut got = Vec::new();
        let Ok(conn) = self.rt.connect(PROXY, self.rt.now() + PATIENCE).await else {
            self.fail("a client cannot connect");
            return got;
        };
        conn.set_deadline(Some(self.rt.now() + PATIENCE));
        if self.say(&conn, &self.script.clients[index]).await && self.script.clients_finish() {
            match conn.finish().await {
                Ok(()) | Err(_) => (), // Whoever reads will see.
            }
        }
        loop {
            match conn.recv().await {
                Ok(Rx::Data(lent)) => got.extend_from_slice(&lent),
                Ok(Rx::Eof) => return got,
                Err(error) => {
                    if error.kind() == std::io::ErrorKind::TimedOut {
                        self.fail("the proxy neither answers nor ends a connection");
                    }
                    return got;
                }
            }
        }
    }

    async fn accept(self: Rc<Self>, listener: Listener) {
        while let Ok(conn) = listener.accept().await {
            let index = self.record.borrow().backends.len();
            self.record.borrow_mut().backends.push(Heard::default());
            self.rt.spawn(Rc::clone(&self).serve(conn, index));
        }
    }

    async fn serve(self: Rc<Self>, conn: Conn, index: usize) {
        let mut answered = 0;
        loop {
            let Ok(Rx::Data(lent)) = conn.recv().await else {
                return;
            };
            self.record.borrow_mut().backends[index]
                .bytes
                .extend_from_slice(&lent);
            drop(lent);
            while let Some(end) = self.unanswered(index, answered) {
                answered += 1;
                let asked = self.asked.replace(self.asked.get() + 1);
                let answer = self.script.answer(asked);
                if answer.windows(4).any(|window| window == b" 101") {
                    let heard = &mut self.record.borrow_mut().backends[index];
                    heard.tunnel_from.get_or_insert(end);
                }
                self.record.borrow_mut().backends[index]
                    .said
                    .extend_from_slice(answer);
                if !self.say(&conn, answer).await {
                    return;
                }
                if self.script.backend_finishes() {
                    match conn.finish().await {
                        Ok(()) | Err(_) => (), // Whoever reads will see.
                    }
                }
            }
        }
    }

    /// Where the next request ends that waits for its answer, as the strict reader reads what has come.
    fn unanswered(&self, index: usize, answered: usize) -> Option<usize> {
        let record = self.record.borrow();
        let heard = &record.backends[index];
        if heard.tunnel_from.is_some() {
            return None;
        }
        let read = requests(&heard.bytes);
        let is_short = matches!(read.end, End::InBody | End::Refused(_));
        let whole = read.messages.len() - usize::from(is_short && !self.script.answers_early());
        let message = read.messages.get(answered).filter(|_| answered < whole)?;
        Some(message.end)
    }

    /// Says something in as many pieces as the script wants; `false` when nobody listens.
    async fn say(&self, conn: &Conn, bytes: &[u8]) -> bool {
        let piece = bytes.len().div_ceil(self.script.pieces()).max(1);
        for part in bytes.chunks(piece) {
            if conn.write(part).is_err() || conn.flush().await.is_err() {
                return false;
            }
            if part.len() < bytes.len() {
                self.rt.sleep(PAUSE).await;
            }
        }
        true
    }

    fn fail(&self, what: &str) {
        self.failure.set(Some(what.to_owned()));
    }
}

/// Requests as the strict reader reads them, also behind one that asked for another protocol and did not get it.
pub(super) fn requests(bytes: &[u8]) -> Reading<'_> {
    let mut all = strict::requests(bytes);
    while all.end == End::Switch {
        let from = all
            .messages
            .last()
            .map_or(bytes.len(), |message| message.end);
        let mut more = strict::requests(&bytes[from..]);
        more.messages
            .iter_mut()
            .for_each(|message| message.end += from);
        all.messages.append(&mut more.messages);
        all.end = more.end;
    }
    all
}

/// The plan that the program has with these flags, for one worker.
fn plan(flags: &[&str]) -> Plan {
    let always = [
        "hp-proxy",
        "--workers",
        "1",
        "--listen",
        "127.0.0.1:8080",
        "--backend",
        "127.0.0.1:9001",
    ];
    let all = always.iter().chain(flags).map(std::ffi::OsString::from);
    match cli::parse(all) {
        Ok(plan) => plan,
        Err(refusal) => unreachable!("these flags are documented: {refusal:?}"),
    }
}

/// A small one: what a run needs is made anew for each.
fn runtime(host: &Host, face: Face) -> Result<Rt, String> {
    let options = RtOptions {
        head_buffers: 4,
        bulk_buffers: 1,
        ring_entries: 16,
        ring_completions: 64,
        ..RtOptions::default()
    };
    host.rt(face, &options).map_err(|error| error.to_string())
}

const PROXY: SocketAddr = loopback(8080);
const BACKEND: SocketAddr = loopback(9001);
/// Between two pieces, longer than it takes the proxy to read one.
const PAUSE: Duration = Duration::from_millis(2);
/// Longer than a tunnel may be silent, which is longer than any other wait of the proxy.
const PATIENCE: Duration = Duration::from_secs(3 * 3600);
/// A run takes some hundred turns, and each of its clients hours at most.
const LIMITS: Limits = Limits {
    turns: 200_000,
    time: Duration::from_secs(48 * 3600),
};

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::V4(std::net::SocketAddrV4::new(
        std::net::Ipv4Addr::LOCALHOST,
        port,
    ))
}
