//! One run: the real proxy on simulated workers, between clients and backends that are models.
//!
//! ```text
//! clients (1 runtime) ──► hp-proxy (1 to 3 workers) ──► backends (1 to 3, a runtime each)
//! ```

use super::backend::Backend;
use super::client::Client;
use super::hostile::Bounds;
use super::ledger::{Ledger, Outcome};
use super::reload::{Reloads, lead};
use super::shares;
use super::ways;
use hp_core::obs::metrics::Counter;
use hp_core::rt::mesh::{Mesh, WorkerId};
use hp_core::rt::sim::{Chance, Face, Host, Limits, Profile, World};
use hp_core::rt::worker::Context;
use hp_core::rt::{Engine, Instant, Rt, RtOptions};
use hp_core::wire::http1::head::HeadLimits;
use hp_proxy::config::forwarding::{Forwarding, Http10, Underscores};
use hp_proxy::config::plan::{
    Endpoint as Server, Limits as ProxyLimits, ListenerId, MULTIPLEX, OneRoute, Plan, Timeouts,
    Upstream,
};
use hp_proxy::counters::{Counters, Rows};
use hp_proxy::shared::{Message, Next, SharedPlan};
use hp_proxy::upstream::Borrow;
use hp_proxy::worker;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

/// What a run came to; equal for two runs of one seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// Clients' connections.
    pub conns: u64,
    /// Requests.
    pub requests: u64,
    /// Time of the world's clock.
    pub time: Duration,
    /// How often each fault struck.
    pub faults: Vec<(&'static str, u64)>,
    /// How often each way of the proxy was taken.
    pub ways: BTreeMap<String, u64>,
    /// Over everything observable.
    pub hash: u64,
}

/// What a run is like; drawn from its seed.
#[derive(Clone, Copy, Debug)]
struct Scene {
    face: Face,
    /// No fault strikes.
    is_calm: bool,
    /// Clients and backends do as HTTP asks.
    is_well_behaved: bool,
    /// What the sockets of some hosts take; those of others take 64 KiB.
    buffer_bytes: usize,
    /// The drain begins in the middle, after so many requests.
    drains_after: Option<u64>,
    /// What messages may be no longer than.
    bounds: Bounds,
    /// Requests that may wait for a backend.
    queue_len_max: u32,
    /// Workers ask each other before each dial.
    borrows_before_dial: bool,
    /// Requests share connections to backends.
    multiplexes: bool,
    backends: Backends,
}

/// Who is there to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backends {
    Live(u8),
    /// A host where nobody listens.
    Deaf,
    /// An address without a host: nothing comes back.
    Nowhere,
    /// Nobody: no name of a server has an address.
    Unnamed,
}

/// Whether a run writes all that happens to stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tell {
    Nothing,
    Everything,
}

/// Plays a seed and proves what must hold in every run.
///
/// # Errors
/// What did not hold, in a line each.
pub(crate) fn play(seed: u64, tell: Tell) -> Result<Report, String> {
    let mut chance = Chance::new(seed);
    let mut scene = Scene::draw(&mut chance);
    // Not drawn: the other runs stay as they were.
    scene.bounds.has_routes = seed % 2 == 1 && scene.backends != Backends::Unnamed;
    scene.borrows_before_dial = seed % 8 >= 5;
    scene.multiplexes = seed % 3 == 1;
    let profile = if scene.is_calm {
        Profile::calm()
    } else {
        Profile::swarm()
    };
    let world = World::new(seed, &profile);
    let stage = Stage::set(&world, &mut chance, (scene, seed));
    if tell == Tell::Everything {
        world.tell_log();
        stage.ledger.tell_all();
    }
    let ended = stage.run(&world, scene);
    let (hash, time) = (world.hash(), world.now() - Instant::START);
    let faults = world.faults();
    let mut found = match ended {
        Ok(()) => stage.judge(&faults, scene),
        Err(stuck) => vec![stuck],
    };
    if scene.is_calm && scene.is_well_behaved && !stage.has_drained_early.get() {
        found.extend(stage.judge_strictly());
    }
    if let Err(leaks) = world.shut_down() {
        found.push(leaks.to_string());
    }
    if !found.is_empty() {
        let struck: Vec<_> = faults.iter().filter(|(_, count)| *count > 0).collect();
        let found = found.join("\n  ");
        return Err(format!("{found}\n  in {scene:?}\n  faults {struck:?}"));
    }
    let mut ways = ways::count(&stage.ledger, stage.rows());
    ways.insert(String::from("plan followed"), stage.reloads_done.get());
    Ok(Report {
        conns: stage.ledger.conns.get(),
        requests: stage.ledger.requests(),
        time,
        faults,
        ways,
        hash,
    })
}

/// The same with a route for the host that all requests are for, whose upstreams share the backends out, and one that is closed.
fn with_routes(mut plan: Plan) -> Plan {
    let mut first = plan.upstreams.remove(0);
    let rest = first.endpoints.split_off(1);
    let mut shares = vec![(0, 1)];
    if !rest.is_empty() {
        shares.push((1, 2));
    }
    let second = Upstream {
        name: String::from("second"),
        endpoints: rest,
        ..first.clone()
    };
    plan.upstreams = [first, second]
        .into_iter()
        .filter(|upstream| !upstream.endpoints.is_empty())
        .collect();
    lead(&mut plan, &shares);
    plan
}

impl Scene {
    fn draw(chance: &mut Chance) -> Self {
        let is_well_behaved = chance.one_in(2);
        let buffer_bytes = chance.size(BUFFER_BYTES_MAX);
        let backends = match chance.below(40) {
            0 if !is_well_behaved => Backends::Deaf,
            1 if !is_well_behaved => Backends::Nowhere,
            2 if !is_well_behaved => Backends::Unnamed,
            live => Backends::Live(u8::try_from(1 + live % 3).expect("at most 3")),
        };
        Self {
            face: [Face::Readiness, Face::Completion][chance.index(2)],
            is_calm: chance.one_in(4),
            is_well_behaved,
            buffer_bytes,
            drains_after: chance.one_in(4).then(|| 1 + chance.below(20)),
            bounds: Bounds {
                head: if buffer_bytes < BUFFER_BYTES_MAX / 16 || chance.one_in(2) {
                    SMALL_HEADS
                } else {
                    HeadLimits::default()
                },
                body_bytes_max: if chance.one_in(2) {
                    content_bytes_max(buffer_bytes)
                } else {
                    0
                },
                is_strict: chance.one_in(8),
                has_routes: false,
            },
            queue_len_max: if !is_well_behaved && chance.one_in(4) {
                1
            } else {
                ProxyLimits::default().queue_len_max
            },
            borrows_before_dial: false,
            multiplexes: false,
            backends,
        }
    }

    fn borrowing(&self, mut plan: Plan) -> Plan {
        if self.borrows_before_dial {
            let upstreams = plan.upstreams.iter_mut();
            upstreams.for_each(|upstream| upstream.borrow = Borrow::BeforeDial);
        }
        plan
    }

    fn host(&self, world: &World, addr: [u8; 4], chance: &mut Chance) -> Host {
        let host = world.host(addr);
        host.set_buffer_bytes(if chance.one_in(2) {
            self.buffer_bytes
        } else {
            BUFFER_BYTES_MAX
        });
        host
    }
}

struct Stage {
    ledger: Rc<Ledger>,
    clients: Rt,
    workers: Vec<Rt>,
    backends: Vec<Rt>,
    mesh: Mesh<Message>,
    rows: Rows,
    clients_left: Rc<Cell<u64>>,
    workers_left: Rc<Cell<u32>>,
    /// The drain has begun before the clients had ended.
    has_drained_early: Cell<bool>,
    /// The first plan, before it was given routes, and the latest.
    plans: Option<(Plan, RefCell<SharedPlan>)>,
    reloads: RefCell<Reloads>,
    reloads_done: Cell<u64>,
}

impl Stage {
    fn set(world: &World, chance: &mut Chance, (scene, seed): (Scene, u64)) -> Self {
        let client_host = scene.host(world, [10, 0, 0, 1], chance);
        let proxy_host = scene.host(world, [10, 0, 0, 2], chance);
        let proxy = SocketAddr::from((proxy_host.addr(), 80));
        let mut stage = Self {
            ledger: Rc::new(Ledger::new(scene.multiplexes)),
            clients: client_host
                .rt(Face::Readiness, &RtOptions::default())
                .expect(RUNTIME),
            workers: Vec::new(),
            backends: Vec::new(),
            mesh: Mesh::new(1 + u32::try_from(chance.below(3)).expect("below 3")),
            rows: Rows::new(3, 0),
            clients_left: Rc::new(Cell::new(1 + chance.below(CLIENTS_MAX))),
            workers_left: Rc::default(),
            has_drained_early: Cell::new(false),
            plans: None,
            reloads: RefCell::new(if scene.backends == Backends::Unnamed {
                Reloads::none()
            } else {
                Reloads::of(seed, scene.bounds.has_routes)
            }),
            reloads_done: Cell::new(0),
        };
        let servers = stage.set_backends(world, chance, scene);
        stage.set_proxy(&proxy_host, scene, chance, (proxy, servers));
        for _ in 0..stage.clients_left.get() {
            let client = Client {
                rt: stage.clients.clone(),
                proxy,
                ledger: Rc::clone(&stage.ledger),
                chance: RefCell::new(chance.fork()),
                is_well_behaved: scene.is_well_behaved,
                content_bytes_max: content_bytes_max(scene.buffer_bytes),
                bounds: scene.bounds,
                is_calm: scene.is_calm && scene.drains_after.is_none(),
            };
            let left = Rc::clone(&stage.clients_left);
            stage.clients.spawn(async move {
                client.live().await;
                left.set(left.get() - 1);
            });
        }
        stage
    }

    fn set_backends(&mut self, world: &World, chance: &mut Chance, scene: Scene) -> Vec<Server> {
        let addr = |number| [10, 0, 1, number];
        match scene.backends {
            Backends::Live(count) => (1..=count)
                .map(|number| {
                    let host = scene.host(world, addr(number), chance);
                    self.set_backend(&host, chance, scene)
                })
                .collect(),
            Backends::Deaf => vec![server(world.host(addr(1)).addr())],
            Backends::Nowhere => vec![server(IpAddr::from(addr(1)))],
            Backends::Unnamed => Vec::new(),
        }
    }

    fn set_backend(&mut self, host: &Host, chance: &mut Chance, scene: Scene) -> Server {
        let rt = host
            .rt(Face::Readiness, &RtOptions::default())
            .expect(RUNTIME);
        let server = server(host.addr());
        let addr = server.addr.tcp().expect("it has one");
        let backlog = [5, 128][chance.index(2)];
        let socket = host
            .listen(addr, backlog)
            .expect("the address is the host's");
        let listener = rt.listener(socket).expect("a simulated kernel registers");
        let backend = Rc::new(Backend {
            rt: rt.clone(),
            ledger: Rc::clone(&self.ledger),
            chance: RefCell::new(chance.fork()),
            is_well_behaved: scene.is_well_behaved,
            is_old: !scene.is_well_behaved && chance.one_in(8),
            piece_bytes: scene.buffer_bytes,
            content_bytes_max: content_bytes_max(scene.buffer_bytes),
            bounds: scene.bounds,
        });
        rt.spawn(backend.live(listener));
        self.backends.push(rt);
        server
    }

    fn set_proxy(
        &mut self,
        host: &Host,
        scene: Scene,
        chance: &mut Chance,
        (listen, backends): (SocketAddr, Vec<Server>),
    ) {
        let workers = self.mesh.workers();
        let plan = Plan::from(OneRoute {
            listen: listen.into(),
            backends: if scene.bounds.is_strict {
                backends.into_iter().map(behind_a_dead_way).collect()
            } else {
                backends
            },
            workers,
            engine: Engine::Auto,
            forwarding: if scene.bounds.is_strict {
                Forwarding {
                    http10: Http10::Refuse,
                    underscores: Underscores::Refuse,
                    ..Forwarding::default()
                }
            } else {
                Forwarding::default()
            },
            timeouts: Timeouts {
                response: Duration::from_secs(5),
                body: Duration::from_secs(10),
                queue: if scene.is_well_behaved {
                    PATIENCE
                } else {
                    Duration::from_secs(1)
                },
                drain: PATIENCE * 4, // Longer than a silent tunnel: nothing is cut.
                ..Timeouts::default()
            },
            limits: ProxyLimits {
                head: scene.bounds.head,
                body_bytes_max: scene.bounds.body_bytes_max as u64,
                queue_len_max: scene.queue_len_max,
                upstream_conns_max: [0, 3, 6][chance.index(3)],
                idle_conns_max: [1, 1024][chance.index(2)],
                ..ProxyLimits::default()
            },
        });
        let mut plan = scene.borrowing(plan);
        for upstream in &mut plan.upstreams {
            upstream.multiplex = scene.multiplexes.then_some(MULTIPLEX);
        }
        let first = plan.clone();
        let plan = SharedPlan::new(if scene.bounds.has_routes {
            with_routes(plan)
        } else {
            plan
        });
        self.plans = Some((first, RefCell::new(plan.clone())));
        self.rows = Rows::new(workers, 0);
        self.workers_left.set(workers);
        for id in (0..workers).map(WorkerId) {
            let rt = host.rt(scene.face, &draw_options(chance)).expect(RUNTIME);
            let context = Context {
                rt: rt.clone(),
                id,
                mailbox: self.mesh.mailbox(id),
                mesh: self.mesh.clone(),
            };
            let (plan, rows) = (plan.clone(), self.rows.clone());
            let left = Rc::clone(&self.workers_left);
            rt.spawn(async move {
                worker::main(context, plan, rows, None).await;
                left.set(left.get() - 1);
            });
            let socket = host.listen(listen, 128).expect("the address is the host's");
            self.tell(id, Message::Listen(socket, ListenerId(0)));
            self.workers.push(rt);
        }
    }

    /// Until every client has ended, or in some scenes for so many requests; then the proxy drains, and everybody gives back
    /// what he has.
    fn run(&self, world: &World, scene: Scene) -> Result<(), String> {
        let run = |done: &mut dyn FnMut() -> bool| self.run_until(world, done);
        let is_early = || {
            let drains_after = scene.drains_after.unwrap_or(u64::MAX);
            self.ledger.requests() >= drains_after
        };
        loop {
            let reload_after = self.reloads.borrow().next_after();
            let is_over = || self.clients_left.get() == 0 || is_early();
            run(&mut || is_over() || self.ledger.requests() >= reload_after)?;
            if is_over() {
                break;
            }
            self.reload();
        }
        self.has_drained_early.set(self.clients_left.get() > 0);
        if !self.has_drained_early.get() {
            self.judge_shares(world)?;
        }
        (0..self.mesh.workers()).for_each(|id| self.tell(WorkerId(id), Message::Drain));
        run(&mut || self.workers_left.get() == 0 && self.clients_left.get() == 0)?;
        run(&mut || {
            self.rts()
                .all(|rt| rt.holdings().conns == 0 && rt.holdings().lent_buffers == 0)
        })
    }

    fn run_until(&self, world: &World, done: &mut dyn FnMut() -> bool) -> Result<(), String> {
        world.run_until(done, LIMITS).map_err(|stuck| {
            let held: Vec<_> = self.rts().map(|rt| (rt.holdings(), rt.tasks())).collect();
            format!("{stuck}; {held:?}")
        })
    }

    /// Another plan follows, in the middle of whatever happens.
    fn reload(&self) {
        let Some((first, latest)) = &self.plans else {
            return;
        };
        let plan = self.reloads.borrow_mut().next(first);
        let next = latest.borrow().followed_by(plan);
        for id in 0..self.mesh.workers() {
            let (followed, _nobody_waits) = mpsc::channel();
            let message = Next {
                plan: next.clone(),
                own_table: None,
                followed,
            };
            self.tell(WorkerId(id), Message::Follow(Box::new(message)));
        }
        latest.replace(next);
        self.reloads_done.set(self.reloads_done.get() + 1);
    }

    /// Nobody asks any more; what workers lend each other has arrived after a while.
    fn judge_shares(&self, world: &World) -> Result<(), String> {
        let Some((_, plan)) = &self.plans else {
            return Ok(());
        };
        let is_quiet = shares::quiet(&self.clients);
        self.run_until(world, &mut || is_quiet.get())?;
        let mut lives = Vec::new();
        for id in 0..self.mesh.workers() {
            let (to_us, told) = mpsc::channel();
            self.tell(WorkerId(id), Message::Tell(to_us));
            self.run_until(world, &mut || {
                lives.extend(told.try_recv());
                lives.len() as u64 > u64::from(id)
            })?;
        }
        let found = shares::judge(&plan.borrow(), &lives).into_iter();
        found.for_each(|what| self.ledger.violate(what, &[]));
        Ok(())
    }

    fn tell(&self, worker: WorkerId, message: Message) {
        match self.mesh.send(worker, message) {
            Ok(()) => (),
            Err(_full) => unreachable!("a mailbox takes more than a handful of messages"),
        }
    }

    fn judge(&self, faults: &[(&'static str, u64)], scene: Scene) -> Vec<String> {
        let struck = |name: &str| {
            faults
                .iter()
                .any(|(fault, count)| *fault == name && *count > 0)
        };
        let is_calm = scene.is_calm && !self.has_drained_early.get();
        let mut found = self.ledger.judge(&struck, is_calm);
        let panics: u64 = self.rts().map(Rt::panics).sum();
        if panics > 0 {
            found.push(format!("{panics} tasks panicked"));
        }
        if self.sum(|row| &row.conns_open) > 0 {
            found.push(String::from("connections are counted as open that are not"));
        }
        if self.sum(|row| &row.multiplexed_waiting) > 0 {
            found.push(String::from("requests are counted as waiting that are not"));
        }
        // A kernel that ends a connection too soon hides the reset after an answer that was cut.
        let hidden = if struck("half_close") {
            self.sum(|row| &row.responses_truncated)
        } else {
            0
        };
        // A client may have all of its answer although something broke on the way there.
        let delivered = self.sum(|row| &row.responses)
            + self.sum(|row| &row.client_aborts)
            + self.sum(|row| &row.tunnels)
            + hidden;
        if delivered < self.ledger.count(|outcome| outcome == Outcome::Whole) {
            found.push(String::from("fewer answers are counted than were received"));
        }
        if self.sum(|row| &row.requests) > self.ledger.requests() {
            found.push(String::from("more requests are counted than were sent"));
        }
        found
    }

    /// Where nothing goes wrong and nobody misbehaves, every request is answered, and every count is exact.
    fn judge_strictly(&self) -> Vec<String> {
        let requests = self.ledger.requests();
        let exact = [
            (
                "whole answers",
                self.ledger.count(|outcome| outcome == Outcome::Whole),
                requests,
            ),
            ("requests", self.sum(|row| &row.requests), requests),
            ("responses", self.sum(|row| &row.responses), requests),
            (
                "connections",
                self.sum(|row| &row.conns_accepted),
                self.ledger.conns.get(),
            ),
            ("refusals", self.sum(|row| &row.refused_by_client_fault), 0),
            ("failures", self.sum(|row| &row.failed_by_backend_fault), 0),
            ("aborts", self.sum(|row| &row.client_aborts), 0),
            (
                "truncated answers",
                self.sum(|row| &row.responses_truncated),
                0,
            ),
        ];
        let differs = |(name, is, should): (&str, u64, u64)| {
            (is != should).then(|| format!("{is} {name}, not {should}, though nothing went wrong"))
        };
        exact.into_iter().filter_map(differs).collect()
    }

    fn rows(&self) -> impl Iterator<Item = &Counters> {
        (0..self.mesh.workers()).map(|worker| self.rows.of(worker))
    }

    fn sum(&self, counter: Way) -> u64 {
        self.rows.sum(counter)
    }

    fn rts(&self) -> impl Iterator<Item = &Rt> {
        let ends = std::iter::once(&self.clients).chain(&self.backends);
        ends.chain(&self.workers)
    }
}

fn server(host: IpAddr) -> Server {
    let addr = SocketAddr::from((host, 8000));
    Server::new(addr.to_string(), addr.into())
}

/// A server that has another address, where nobody answers, and which is dialled first.
fn behind_a_dead_way(mut server: Server) -> Server {
    if let Some(addr) = server.addr.tcp() {
        server.others = vec![addr];
        server.addr = SocketAddr::from(([10, 0, 9, 9], 8000)).into();
    }
    server
}

/// What can be sent in a bearable number of pieces.
fn content_bytes_max(buffer_bytes: usize) -> usize {
    (buffer_bytes * 64).min(60_000)
}

fn draw_options(chance: &mut Chance) -> RtOptions {
    let [entries, completions] = [[8, 16], [512, 8192]][chance.index(2)];
    RtOptions {
        head_buffers: [2, 8, 128][chance.index(3)],
        bulk_buffers: [1, 2, 32][chance.index(3)],
        ring_entries: entries,
        ring_completions: completions,
        ..RtOptions::default()
    }
}

/// What counts how often a way was taken.
type Way = fn(&Counters) -> &Counter;

const RUNTIME: &str = "a simulated kernel has everything that a runtime needs";
/// What heads of well-behaved clients and backends fit in.
const SMALL_HEADS: HeadLimits = HeadLimits {
    head_bytes_max: 2048,
    line_bytes_max: 512,
    fields_max: 16,
};
const CLIENTS_MAX: u64 = 12;
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Longer than anything that happens by itself.
const PATIENCE: Duration = Duration::from_secs(3600);
const LIMITS: Limits = Limits {
    turns: 3_000_000,
    time: Duration::from_secs(7 * 24 * 3600),
};
