//! One run: the real proxy on simulated workers, between clients and backends that are models.
//!
//! ```text
//! clients (1 runtime) ──► hp-proxy (1 to 3 workers) ──► backends (1 to 3, a runtime each)
//!                             └─► its successors, in a third of the runs
//! ```

use super::backend::Backend;
use super::client::Client;
use super::endpoints;
use super::ledger::{Ledger, Outcome};
use super::process::{Process, RUNTIME};
use super::reload::{Reloads, lead};
use super::scene::{
    Backends, DRAIN_SETTLES, LIMITS, PATIENCE, Scene, close_spread, content_bytes_max, detour,
    draw_options,
};
use super::shares;
use super::slow_start;
use super::upgrade::{self, Reload, Upgrades};
use super::ways;
use hp_core::obs::metrics::Counter;
use hp_core::rt::mesh::WorkerId;
use hp_core::rt::sim::{Chance, Face, Host, Stuck, World};
use hp_core::rt::{Engine, Instant, Rt, RtOptions};
use hp_proxy::config::forwarding::{Forwarding, Http10, Underscores};
use hp_proxy::config::plan::{
    Endpoint as Server, Limits as ProxyLimits, OneRoute, Plan, Timeouts, Upstream,
};
use hp_proxy::counters::Counters;
use hp_proxy::shared::SharedPlan;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
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

/// Whether a run writes all that happens to stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tell {
    Nothing,
    Everything,
}

/// Plays a seed and proves what must hold in every run: one seed of eight is about endpoints and their clients, and one of 64 about
/// an endpoint that comes back; the others are about exchanges.
///
/// # Errors
/// What did not hold, in a line each.
pub(crate) fn play(seed: u64, tell: Tell) -> Result<Report, String> {
    match seed % 64 {
        61 => return slow_start::play(seed),
        other if other % 8 == 5 => return endpoints::play(seed, tell),
        _ => (),
    }
    let mut chance = Chance::new(seed);
    let mut scene = Scene::draw(&mut chance);
    // Not drawn: the other runs stay as they were.
    scene.bounds.has_routes = seed % 2 == 1 && scene.backends != Backends::Unnamed;
    scene.borrows_before_dial = seed % 8 >= 5;
    scene.multiplexes = seed % 3 == 1;
    let mut upgrades = Upgrades::of(seed);
    if upgrades.are_any() {
        scene.hand_over(upgrades.chance());
        scene.close_spread = close_spread(seed);
        scene.detour = detour(seed);
    }
    let profile = scene.network.profile(upgrades.chance());
    let world = World::new(seed, &profile);
    let stage = Stage::set(&world, &mut chance, (scene, seed), upgrades);
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
    if scene.network.is_whole() && scene.is_well_behaved && !stage.has_drained_early.get() {
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
    let processes = stage.processes.borrow();
    let rows = processes.iter().flat_map(|process| process.counters());
    let mut ways = ways::count(&stage.ledger, rows);
    let changes = stage.changes.borrow();
    ways.extend(
        changes
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count)),
    );
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

struct Stage {
    ledger: Rc<Ledger>,
    clients: Rt,
    backends: Vec<Rt>,
    proxy_host: Host,
    proxy: SocketAddr,
    /// All that there were; whoever is in charge is the last.
    processes: RefCell<Vec<Rc<Process>>>,
    clients_left: Rc<Cell<u64>>,
    /// The drain has begun before the clients had ended.
    has_drained_early: Cell<bool>,
    /// The first plan, before it was given routes.
    first: Plan,
    reloads: RefCell<Reloads>,
    upgrades: RefCell<Upgrades>,
    /// How often plans and processes replaced one another, or did not.
    changes: RefCell<BTreeMap<&'static str, u64>>,
}

impl Stage {
    fn set(
        world: &World,
        chance: &mut Chance,
        (scene, seed): (Scene, u64),
        upgrades: Upgrades,
    ) -> Self {
        let client_host = scene.host(world, [10, 0, 0, 1], chance);
        let proxy_host = scene.host(world, [10, 0, 0, 2], chance);
        let proxy = SocketAddr::from((proxy_host.addr(), 80));
        let clients = client_host.rt(Face::Readiness, &RtOptions::default());
        let ledger = Rc::new(Ledger::new(scene.multiplexes));
        let workers = 1 + u32::try_from(chance.below(3)).expect("below 3");
        let clients_left = 1 + chance.below(CLIENTS_MAX);
        let mut backends = Vec::new();
        let servers = set_backends((world, &ledger), chance, scene, &mut backends);
        let first = scene.sharing(plan(scene, chance, workers, (proxy, servers)));
        let has_servers = scene.backends != Backends::Unnamed;
        let shared = SharedPlan::new(if scene.bounds.has_routes {
            with_routes(first.clone())
        } else {
            first.clone()
        });
        let process = Process::start(&proxy_host, shared, scene.face, || draw_options(chance));
        process.listen(proxy);
        let stage = Self {
            ledger,
            clients: clients.expect(RUNTIME),
            backends,
            proxy_host,
            proxy,
            processes: RefCell::new(vec![Rc::new(process)]),
            clients_left: Rc::new(Cell::new(clients_left)),
            has_drained_early: Cell::new(false),
            first,
            reloads: RefCell::new(Reloads::of(seed, has_servers, scene.bounds.has_routes)),
            upgrades: RefCell::new(upgrades),
            changes: RefCell::new(no_changes()),
        };
        (0..clients_left).for_each(|_| stage.start_client(scene, chance));
        stage
    }

    fn start_client(&self, scene: Scene, chance: &mut Chance) {
        let client = Client {
            rt: self.clients.clone(),
            proxy: self.proxy,
            ledger: Rc::clone(&self.ledger),
            chance: RefCell::new(chance.fork()),
            is_well_behaved: scene.is_well_behaved,
            content_bytes_max: content_bytes_max(scene.buffer_bytes),
            bounds: scene.bounds,
            is_calm: scene.network.is_whole() && scene.drains_after.is_none(),
            hands_over: scene.hands_over,
        };
        let left = Rc::clone(&self.clients_left);
        self.clients.spawn(async move {
            client.live().await;
            left.set(left.get() - 1);
        });
    }

    /// Until every client has ended, or in some scenes for so many requests; then the proxy drains, and everybody gives back
    /// what he has.
    fn run(&self, world: &World, scene: Scene) -> Result<(), String> {
        let is_over = || {
            self.bury();
            let drains_after = scene.drains_after.unwrap_or(u64::MAX);
            self.clients_left.get() == 0 || self.ledger.requests() >= drains_after
        };
        loop {
            let reload_after = self.reloads.borrow().next_after();
            let upgrade_after = self.upgrades.borrow().next_after();
            let next = reload_after.min(upgrade_after);
            self.until(world, &mut || is_over() || self.ledger.requests() >= next)?;
            if is_over() {
                break;
            }
            if reload_after <= upgrade_after {
                self.reloads.borrow_mut().pass();
                self.reload();
            } else {
                self.upgrade(world, &is_over)?;
            }
        }
        self.has_drained_early.set(self.clients_left.get() > 0);
        if !self.has_drained_early.get() {
            self.judge_shares(world)?;
        }
        self.in_charge().drain(world.now());
        let processes = self.processes.borrow();
        let have_ended = || processes.iter().all(|process| process.has_ended());
        self.until(world, &mut || have_ended() && self.clients_left.get() == 0)?;
        self.until(world, &mut || {
            let mut rts = self.rts(&processes);
            rts.all(|rt| rt.holdings().conns == 0 && rt.holdings().lent_buffers == 0)
        })
    }

    fn until(&self, world: &World, done: &mut dyn FnMut() -> bool) -> Result<(), String> {
        let mut done_and_buried = || {
            self.bury();
            done()
        };
        let run = world.run_until(&mut done_and_buried, LIMITS);
        run.map_err(|stuck| self.tell_stuck(&stuck))
    }

    fn bury(&self) {
        let processes = self.processes.borrow();
        processes.iter().for_each(|process| process.bury());
    }

    fn tell_stuck(&self, stuck: &Stuck) -> String {
        let processes = self.processes.borrow();
        let rts = self.rts(&processes);
        let held: Vec<_> = rts.map(|rt| (rt.holdings(), rt.tasks())).collect();
        format!("{stuck}; {held:?}")
    }

    fn in_charge(&self) -> Rc<Process> {
        let processes = self.processes.borrow();
        Rc::clone(processes.last().expect("there is one from the beginning"))
    }

    /// Nobody asks any more; what workers lend each other has arrived after a while. What a client has left, because its kernel ended
    /// the connection too soon, may take longer: a backend that stalls in it, before a worker that stands still.
    fn judge_shares(&self, world: &World) -> Result<(), String> {
        let mut found = Vec::new();
        for _ in 0..shares::LOOKS_MAX {
            found = self.look_at_shares(world)?;
            if found.is_empty() {
                break;
            }
        }
        for what in found {
            self.ledger.violate(what, &[]);
        }
        Ok(())
    }

    fn look_at_shares(&self, world: &World) -> Result<Vec<String>, String> {
        let is_quiet = shares::quiet(&self.clients);
        self.until(world, &mut || is_quiet.get())?;
        let process = self.in_charge();
        let mut lives = Vec::new();
        for id in 0..process.mesh.workers() {
            let told = process.ask(WorkerId(id));
            self.until(world, &mut || {
                lives.extend(told.try_recv());
                lives.len() as u64 > u64::from(id)
            })?;
        }
        Ok(shares::judge(&process.plan(), &lives))
    }

    fn count(&self, change: &'static str) {
        *self.changes.borrow_mut().entry(change).or_default() += 1;
    }

    /// Another plan follows, in the middle of whatever happens.
    fn reload(&self) {
        let process = self.in_charge();
        if !self.reloads.borrow().has_servers() {
            return;
        }
        let plan = Plan {
            workers: process.plan().workers,
            ..self.reloads.borrow_mut().plan(&self.first)
        };
        let _nobody_waits = process.follow(plan);
        self.ledger.follow();
        self.count(FOLLOWED);
    }

    /// Another process is to take over, in the middle of whatever happens.
    fn upgrade(&self, world: &World, is_over: &dyn Fn() -> bool) -> Result<(), String> {
        let reload = self.upgrades.borrow_mut().next();
        if reload == Reload::Before {
            self.reload();
        }
        let before = self.in_charge();
        let hosts = (world, &self.proxy_host);
        let plan = Plan::clone(&before.plan());
        let begun = self
            .upgrades
            .borrow_mut()
            .start(hosts, (&before, plan), draw_options);
        let ended = upgrade::lead((world, &self.clients), &before, begun, is_over);
        let ended = ended.map_err(|stuck| self.tell_stuck(&stuck))?;
        self.count(ended.way);
        if let Some(mistake) = ended.mistake {
            self.ledger.violate(mistake, &[]);
        }
        let mut processes = self.processes.borrow_mut();
        if ended.is_in_charge {
            self.ledger.replace();
            ended.process.complete(self.proxy);
            processes.push(Rc::new(ended.process));
        } else {
            processes.insert(0, Rc::new(ended.process));
        }
        drop(processes);
        if reload == Reload::After {
            self.reload();
        }
        Ok(())
    }

    fn judge(&self, faults: &[(&'static str, u64)], scene: Scene) -> Vec<String> {
        let struck = |name: &str| {
            faults
                .iter()
                .any(|(fault, count)| *fault == name && *count > 0)
        };
        let is_calm = scene.network.is_whole() && !self.has_drained_early.get();
        let mut found = self.ledger.judge(&struck, is_calm);
        let processes = self.processes.borrow();
        let panics: u64 = self.rts(&processes).map(Rt::panics).sum();
        for late in processes.iter().filter_map(|process| process.drained_for()) {
            // Clocks may jump meanwhile, and workers stall.
            if late > scene.drain_timeout + DRAIN_SETTLES {
                found.push(format!("a drain took {late:?}"));
            }
        }
        if panics > 0 {
            found.push(format!("{panics} tasks panicked"));
        }
        // A worker that is late for the end of its drain, by a clock that jumps or a stall, has connections parked that it cuts with itself.
        let may_cut =
            |one: &&Rc<Process>| !scene.network.is_whole() && one.is_cut_after(scene.drain_timeout);
        let whole = processes.iter().filter(|one| !may_cut(one));
        let open: u64 = whole.map(|one| one.rows.sum(|row| &row.conns_open)).sum();
        if open > 0 {
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

    fn sum(&self, counter: Way) -> u64 {
        let processes = self.processes.borrow();
        processes
            .iter()
            .map(|process| process.rows.sum(counter))
            .sum()
    }

    fn rts<'a>(&'a self, processes: &'a [Rc<Process>]) -> impl Iterator<Item = &'a Rt> {
        let ends = std::iter::once(&self.clients).chain(&self.backends);
        ends.chain(processes.iter().flat_map(|process| &process.rts))
    }
}

fn set_backends(
    (world, ledger): (&World, &Rc<Ledger>),
    chance: &mut Chance,
    scene: Scene,
    rts: &mut Vec<Rt>,
) -> Vec<Server> {
    let addr = |number| [10, 0, 1, number];
    match scene.backends {
        Backends::Live(count) => (1..=count)
            .map(|number| {
                let host = scene.host(world, addr(number), chance);
                let (server, rt) = set_backend(&host, ledger, chance, scene);
                rts.push(rt);
                server
            })
            .collect(),
        Backends::Deaf => vec![server(world.host(addr(1)).addr())],
        Backends::Nowhere => vec![server(IpAddr::from(addr(1)))],
        Backends::Unnamed => Vec::new(),
    }
}

fn set_backend(
    host: &Host,
    ledger: &Rc<Ledger>,
    chance: &mut Chance,
    scene: Scene,
) -> (Server, Rt) {
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
        ledger: Rc::clone(ledger),
        chance: RefCell::new(chance.fork()),
        is_well_behaved: scene.is_well_behaved,
        is_old: !scene.is_well_behaved && chance.one_in(8),
        piece_bytes: scene.buffer_bytes,
        content_bytes_max: content_bytes_max(scene.buffer_bytes),
        bounds: scene.bounds,
    });
    rt.spawn(backend.live(listener));
    (server, rt)
}

/// The plan of a run, without routes.
fn plan(
    scene: Scene,
    chance: &mut Chance,
    workers: u32,
    (listen, backends): (SocketAddr, Vec<Server>),
) -> Plan {
    Plan::from(OneRoute {
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
            drain: scene.drain_timeout,
            close_spread: scene.close_spread,
            ..Timeouts::default()
        },
        limits: ProxyLimits {
            head: scene.bounds.head,
            body_bytes_max: scene.bounds.body_bytes_max as u64,
            queue_len_max: scene.queue_len_max,
            upstream_conns_max: [0, 3, 6][chance.index(3)],
            idle_conns_max: [1, 1024][chance.index(2)],
            detour: scene.detour,
            ..ProxyLimits::default()
        },
    })
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

/// What else can happen in a run, never so far.
fn no_changes() -> BTreeMap<&'static str, u64> {
    let names = upgrade::ENDS.into_iter().chain([FOLLOWED]);
    names.map(|name| (name, 0)).collect()
}

/// What counts how often a way was taken.
type Way = fn(&Counters) -> &Counter;

/// What is counted of plans.
const FOLLOWED: &str = "plan followed";
const CLIENTS_MAX: u64 = 12;
