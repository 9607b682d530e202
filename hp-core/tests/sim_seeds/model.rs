//! One run: clients send bytes that only they send, through relays, to an echo, and compare what comes back.
//!
//! ```text
//! clients ──► relay (2 workers on one port, which hand connections over) ──► echo (parks what idles)
//! ```

use hp_core::http::message::Reader;
use hp_core::http::tunnel;
use hp_core::rt::net::{Accepted, Conn, Listener, Rx};
use hp_core::rt::race::{First, join, race};
use hp_core::rt::sim::{Chance, Face, Host, Limits, Profile, World};
use hp_core::rt::worker::{Mailbox, Mesh, WorkerId};
use hp_core::rt::{Rt, RtOptions, Stats};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// What a run came to; equal for two runs of one seed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// Messages that came back whole.
    pub(crate) whole: u32,
    /// Messages that did not, of which their client was told.
    pub(crate) failed: u32,
    /// Messages that their client gave up.
    pub(crate) given_up: u32,
    pub(crate) strikes: Vec<(&'static str, u64)>,
    /// What the engines met by themselves.
    pub(crate) shortages: u64,
    pub(crate) overflows: u64,
    pub(crate) short_sends: u64,
    pub(crate) hash: u64,
}

impl Report {
    pub(crate) fn faults(&self) -> u64 {
        self.strikes.iter().map(|(_, count)| count).sum()
    }

    /// Whether anything happened that may cost a connection.
    fn may_have_failures(&self) -> bool {
        let mut struck = self.strikes.iter().filter(|(_, count)| *count > 0);
        struck.any(|(name, _)| COSTLY.contains(name))
    }
}

/// Plays a seed and proves what must hold in every run.
pub(crate) fn play(seed: u64, profile: &Profile, face: Face) -> Report {
    let Scene {
        world,
        stage,
        tally,
        clients,
        ..
    } = Scene::begin(seed, profile, face);
    let told = |what: &dyn std::fmt::Display| {
        let mut struck = world.faults();
        struck.retain(|(_, count)| *count > 0);
        panic!("{what}, {face:?}, {profile:?}, struck: {struck:?}")
    };
    let run = |done: &mut dyn FnMut() -> bool| {
        if let Err(stuck) = world.run_until(done, LIMITS) {
            let held: Vec<_> = stage.rts().map(|rt| (rt.holdings(), rt.tasks())).collect();
            told(&format!("{stuck}; {held:?}"));
        }
    };
    let panics = || stage.rts().map(Rt::panics).sum::<u64>();
    run(&mut || tally.ended.get() == clients || panics() > 0);
    if panics() > 0 {
        told(&format!("seed {seed}: a task panicked"));
    }
    run(&mut || {
        stage
            .rts()
            .all(|rt| rt.holdings().conns == 0 && rt.holdings().lent_buffers == 0)
    });
    if panics() > 0 {
        told(&format!("seed {seed}: a task panicked at last"));
    }
    let hash = world.hash();
    let sum = |count: fn(Stats) -> u64| stage.rts().map(|rt| count(rt.stats())).sum();
    let shortages = sum(|stats| stats.buffer_shortages);
    let overflows = sum(|stats| stats.completion_overflows);
    let short_sends = sum(|stats| stats.short_sends);
    if let Err(leaks) = world.shut_down() {
        told(&leaks);
    }
    let report = Report {
        whole: tally.whole.get(),
        failed: tally.failed.get(),
        given_up: tally.given_up.get(),
        strikes: world.faults(),
        shortages,
        overflows,
        short_sends,
        hash,
    };
    // A receive that does not go on leaves what comes while its socket is closed, which the peer is told.
    if report.failed > 0 && !report.may_have_failures() && !profile.is_local() {
        told(&format!("seed {seed}: failed without a cause: {report:?}"));
    }
    report
}

/// Links clog and hosts lose sight of each other, for a while each, in one direction.
async fn weather(world: World, rt: Rt, mut chance: Chance) {
    for _ in 0..chance.below(20) {
        let [from, to] = [(); 2].map(|()| world.host(HOSTS[chance.index(HOSTS.len())]));
        let length = Duration::from_micros(chance.size(2_000_000) as u64);
        if chance.one_in(2) {
            world.clog(&from, &to, rt.now() + length);
        } else {
            world.partition(&from, &to);
            rt.sleep(length).await;
            world.heal(&from, &to);
        }
        rt.sleep(Duration::from_micros(chance.size(500_000) as u64))
            .await;
    }
}

/// How many clients there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crowd {
    Few,
    Many,
}

/// Plays a seed for a while, ends the world in the middle of it, and proves that nothing is left.
pub(crate) fn cut(seed: u64, profile: &Profile, face: Face) {
    let Scene {
        world, mut chance, ..
    } = Scene::begin(seed, profile, face);
    for _ in 0..chance.size(STEPS_BEFORE_CUT_MAX) {
        world.step();
    }
    if let Err(leaks) = world.shut_down() {
        panic!("{leaks}, {face:?}, {profile:?}");
    }
}

/// A world about to be run.
struct Scene {
    world: World,
    stage: Stage,
    chance: Chance,
    tally: Rc<Tally>,
    clients: u32,
}

impl Scene {
    fn begin(seed: u64, profile: &Profile, face: Face) -> Self {
        let world = World::new(seed, profile);
        let mut chance = world.chance();
        // A crowd holds all the buffers there are.
        let crowd = if chance.one_in(8) {
            Crowd::Many
        } else {
            Crowd::Few
        };
        let stage = Stage::set(&world, &mut chance, face, crowd);
        let (clients_min, clients_more, bytes_max) = match crowd {
            Crowd::Many => (40, 40, CROWD_BYTES_MAX),
            Crowd::Few => (1, CLIENTS_MAX, MESSAGE_BYTES_MAX),
        };
        let clients = clients_min + u32::try_from(chance.below(clients_more)).unwrap();
        let tally = Rc::new(Tally::default());
        for id in 0..clients {
            let client = Client {
                rt: stage.clients.clone(),
                relay: stage.relay_addr,
                id: u64::from(id),
                bytes_max: stage.message_bytes_max.min(bytes_max),
                crowd,
                tally: Rc::clone(&tally),
            };
            let chance = RefCell::new(chance.fork());
            stage.clients.spawn(client.live(chance));
        }
        if chance.one_in(4) {
            let weather = weather(world.clone(), stage.clients.clone(), chance.fork());
            stage.clients.spawn(weather);
        }
        Self {
            world,
            stage,
            chance,
            tally,
            clients,
        }
    }
}

struct Stage {
    clients: Rt,
    relays: [Rt; 2],
    echo: Rt,
    relay_addr: SocketAddr,
    message_bytes_max: usize,
}

impl Stage {
    fn set(world: &World, chance: &mut Chance, face: Face, crowd: Crowd) -> Self {
        let [client_host, relay_host, echo_host] = HOSTS.map(|addr| world.host(addr));
        let mut buffer_bytes_min = usize::MAX;
        for host in [&client_host, &relay_host, &echo_host] {
            let bytes = chance.size(64 * 1024);
            host.set_buffer_bytes(bytes);
            buffer_bytes_min = buffer_bytes_min.min(bytes);
        }
        if chance.one_in(4) {
            client_host.spare();
        }
        let mut rt = |host: &Host| host.rt(face, &draw_options(chance, crowd)).unwrap();
        let clients = rt(&client_host);
        let relays = [rt(&relay_host), rt(&relay_host)];
        let echo = rt(&echo_host);
        let echo_addr = SocketAddr::from((HOSTS[2], 7));
        let relay_addr = SocketAddr::from((HOSTS[1], 80));
        let listener = |host: &Host, rt: &Rt, addr| {
            let socket = host.listen(addr, 16).unwrap();
            rt.listener(socket).unwrap()
        };
        echo.spawn(accept_echoes(
            echo.clone(),
            listener(&echo_host, &echo, echo_addr),
        ));
        echo.spawn(go_on_with_parked(echo.clone()));
        let mesh = Mesh::new(2);
        for (id, rt) in (0..).zip(&relays) {
            let relay = Rc::new(Relay {
                rt: rt.clone(),
                echo_addr,
                id: WorkerId(id),
                mesh: mesh.clone(),
                chance: RefCell::new(chance.fork()),
            });
            let listener = listener(&relay_host, rt, relay_addr);
            rt.spawn(Rc::clone(&relay).take_over(mesh.mailbox(WorkerId(id))));
            rt.spawn(relay.accept(listener));
        }
        Self {
            clients,
            relays,
            echo,
            relay_addr,
            message_bytes_max: buffer_bytes_min.saturating_mul(32).min(MESSAGE_BYTES_MAX),
        }
    }

    fn rts(&self) -> impl Iterator<Item = &Rt> {
        [&self.clients, &self.echo].into_iter().chain(&self.relays)
    }
}

fn draw_options(chance: &mut Chance, crowd: Crowd) -> RtOptions {
    let one_of = |chance: &mut Chance, lens: [u16; 3]| lens[chance.index(3)];
    let [entries, completions] = [[8, 16], [512, 8192]][chance.index(2)];
    RtOptions {
        head_buffers: if crowd == Crowd::Many {
            1
        } else {
            one_of(chance, [1, 8, 128])
        },
        bulk_buffers: one_of(chance, [1, 2, 4]),
        ring_entries: entries,
        ring_completions: completions,
        // Without these, unread bytes hold the buffers that they came in, and others wait.
        aside_buffers: [0, RtOptions::default().aside_buffers][chance.index(2)],
        ..RtOptions::default()
    }
}

/// The next connection; a shortage of descriptors is waited out.
async fn accept_raw(rt: &Rt, listener: &Listener) -> Accepted {
    loop {
        match listener.accept_raw().await {
            Ok(accepted) => return accepted,
            Err(shortage) => {
                assert_eq!(shortage.raw_os_error(), Some(EMFILE));
                rt.sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn accept_echoes(rt: Rt, listener: Listener) {
    loop {
        let accepted = accept_raw(&rt, &listener).await;
        if let Ok(conn) = rt.adopt_accepted(accepted) {
            rt.spawn(echo(rt.clone(), conn));
        }
    }
}

async fn go_on_with_parked(rt: Rt) {
    loop {
        let (conn, _tag, _why) = rt.next_unparked().await;
        rt.spawn(echo(rt.clone(), conn));
    }
}

/// Gives back what comes; parks the connection when nothing does.
async fn echo(rt: Rt, conn: Conn) {
    loop {
        match conn.recv().await {
            Ok(Rx::Data(mut lent)) => {
                let front = lent.split_to(lent.len() % 100);
                let written = conn.write(&front).and_then(|()| conn.queue(lent));
                if written.is_err() {
                    return;
                }
            }
            Ok(Rx::Eof) => {
                match conn.finish().await {
                    Ok(()) | Err(_) => return, // Told by the client, if it did not get all.
                }
            }
            Err(_reset) => return,
        }
        if conn.has_news() && conn.queued() < QUEUED_MAX {
            continue; // What is written together leaves together.
        }
        if conn.flush().await.is_err() {
            return;
        }
        if !conn.has_news() {
            conn.park(1, rt.now() + LONG);
            return;
        }
    }
}

struct Relay {
    rt: Rt,
    echo_addr: SocketAddr,
    id: WorkerId,
    mesh: Mesh<Accepted>,
    chance: RefCell<Chance>,
}

impl Relay {
    async fn accept(self: Rc<Self>, listener: Listener) {
        loop {
            let accepted = accept_raw(&self.rt, &listener).await;
            self.place(accepted);
            if self.chance.borrow_mut().one_in(4) {
                self.pause(&listener).await;
            }
        }
    }

    /// Stops accepting, perhaps for no time at all, perhaps trying meanwhile.
    async fn pause(&self, listener: &Listener) {
        listener.pause();
        let [waits, tries] = [(); 2].map(|()| self.chance.borrow_mut().one_in(2));
        if waits {
            self.rt.sleep(Duration::from_millis(3)).await;
        }
        if tries && let Some(accepted) = listener.try_accept_raw() {
            self.place(accepted);
        }
        listener.resume();
    }

    fn place(&self, accepted: Accepted) {
        let to = if self.chance.borrow_mut().one_in(2) {
            self.id
        } else {
            WorkerId(1 - self.id.0)
        };
        self.mesh.send(to, accepted).unwrap();
    }

    async fn take_over(self: Rc<Self>, mailbox: Mailbox<Accepted>) {
        loop {
            let accepted = mailbox.recv().await;
            if let Ok(conn) = self.rt.adopt_accepted(accepted) {
                self.rt.spawn(Rc::clone(&self).relay(conn));
            }
        }
    }

    async fn relay(self: Rc<Self>, client: Conn) {
        let deadline = self.rt.now() + LONG;
        let Ok(echo) = self.rt.connect(self.echo_addr, deadline).await else {
            return client.reset();
        };
        let (mut from_client, mut from_echo) = (Reader::default(), Reader::default());
        let one = (&client, &mut from_client);
        tunnel::relay(one, (&echo, &mut from_echo), LONG).await;
    }
}

#[derive(Default)]
struct Tally {
    whole: Cell<u32>,
    failed: Cell<u32>,
    given_up: Cell<u32>,
    ended: Cell<u32>,
}

struct Client {
    rt: Rt,
    relay: SocketAddr,
    id: u64,
    bytes_max: usize,
    crowd: Crowd,
    tally: Rc<Tally>,
}

impl Client {
    async fn live(self, chance: RefCell<Chance>) {
        let rounds = chance.borrow_mut().below(ROUNDS_MAX) + 1;
        for round in 0..rounds {
            let name = self.id << 32 | round;
            let gives_up = chance.borrow_mut().one_in(8);
            let patience = if gives_up {
                Duration::from_micros(chance.borrow_mut().size(20_000) as u64)
            } else {
                LONG
            };
            let bound = self.rt.now() + patience;
            let count = match self
                .rt
                .timeout_at(bound, self.exchange(&chance, name))
                .await
            {
                Ok(Ok(())) => &self.tally.whole,
                Ok(Err(_told)) => &self.tally.failed,
                Err(_elapsed) if gives_up => &self.tally.given_up,
                Err(_elapsed) => &self.tally.failed,
            };
            count.set(count.get() + 1);
            self.dawdle(&chance).await;
        }
        self.tally.ended.set(self.tally.ended.get() + 1);
    }

    async fn exchange(&self, chance: &RefCell<Chance>, name: u64) -> io::Result<()> {
        let bytes = chance.borrow_mut().size(self.bytes_max);
        let deadline = self.rt.now() + LONG;
        let conn = self.rt.connect(self.relay, deadline).await?;
        conn.set_deadline(Some(deadline));
        let (sent, received) = join(
            self.send(&conn, chance, name, bytes),
            self.receive(&conn, chance, name),
        )
        .await;
        sent?;
        if received? == bytes {
            Ok(())
        } else {
            Err(io::Error::from(io::ErrorKind::UnexpectedEof))
        }
    }

    async fn send(
        &self,
        conn: &Conn,
        chance: &RefCell<Chance>,
        name: u64,
        bytes: usize,
    ) -> io::Result<()> {
        let mut sent = 0;
        while sent < bytes {
            let len = chance.borrow_mut().size(bytes - sent);
            let piece: Vec<u8> = (sent..sent + len).map(|at| byte(name, at)).collect();
            conn.write(&piece)?;
            sent += len;
            if conn.queued() > QUEUED_MAX || chance.borrow_mut().one_in(4) {
                conn.flush().await?;
            }
            self.dawdle(chance).await;
        }
        conn.finish().await
    }

    /// How many bytes came back, each of them the right one.
    async fn receive(&self, conn: &Conn, chance: &RefCell<Chance>, name: u64) -> io::Result<usize> {
        let mut received = 0;
        loop {
            let rx = if chance.borrow_mut().one_in(4) {
                match race(conn.recv(), self.rt.yield_now()).await {
                    First::One(rx) => rx?,
                    First::Other(()) => continue, // A receive that was dropped has lost nothing.
                }
            } else {
                conn.recv().await?
            };
            let Rx::Data(mut lent) = rx else {
                return Ok(received);
            };
            // It must not change while it is held; a crowd that holds takes all buffers.
            if self.crowd == Crowd::Many {
                self.rt.sleep(Duration::from_millis(20)).await;
            } else {
                self.dawdle(chance).await;
            }
            let len = chance.borrow_mut().size(lent.len());
            let front = lent.split_to(len);
            for got in front.iter() {
                assert_eq!(
                    *got,
                    byte(name, received),
                    "message {name:x}, byte {received}"
                );
                received += 1;
            }
            conn.unread(lent);
        }
    }

    async fn dawdle(&self, chance: &RefCell<Chance>) {
        if chance.borrow_mut().one_in(8) {
            let micros = chance.borrow_mut().size(50_000);
            self.rt.sleep(Duration::from_micros(micros as u64)).await;
        }
    }
}

/// What a message has at a place: another message has something else there.
fn byte(name: u64, at: usize) -> u8 {
    let word = (name << 20 ^ at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word.to_be_bytes()[1]
}

/// Of the clients, the relay and the echo.
const HOSTS: [[u8; 4]; 3] = [[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3]];
const EMFILE: i32 = 24;
/// Faults that may cost a connection or a deadline.
const COSTLY: [&str; 6] = [
    "reset",
    "half_close",
    "refused_connect",
    "lost_connect",
    "no_descriptor",
    "clock_jump",
];
const CLIENTS_MAX: u64 = 8;
const CROWD_BYTES_MAX: usize = 20_000;
const ROUNDS_MAX: u64 = 4;
const STEPS_BEFORE_CUT_MAX: usize = 5000;
const MESSAGE_BYTES_MAX: usize = 200_000;
const QUEUED_MAX: usize = 32 * 1024;
/// Nothing takes that long by itself.
const LONG: Duration = Duration::from_secs(600);
const LIMITS: Limits = Limits {
    turns: 1_000_000,
    time: Duration::from_secs(30 * 24 * 3600),
};
