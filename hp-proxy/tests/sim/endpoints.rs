//! One run about endpoints: clients with cookies ask while operators weigh, drain, take out, remove and add endpoints, the file is read
//! again, and processes replace one another.

use super::bound::{Books, Client, NAME, answer_all, serves_anybody};
use super::play::{Report, Tell};
use super::process::{Process, RUNTIME};
use super::reload::METHODS;
use super::scene::{DRAIN_SETTLES, LIMITS, Network, close_spread, detour, draw_options};
use super::upgrade::{self, Upgrades};
use hp_core::obs::metrics::Counter;
use hp_core::rt::sim::{Chance, Face, Host, World};
use hp_core::rt::{Engine, Instant, Rt, RtOptions};
use hp_proxy::config::forwarding::Forwarding;
use hp_proxy::config::overlay::{Change, Hold, Overlay};
use hp_proxy::config::plan::{Endpoint, Limits as ProxyLimits, OneRoute, Plan, Timeouts, Upstream};
use hp_proxy::counters::Counters;
use hp_proxy::shared::SharedPlan;
use hp_proxy::upgrade::State;
use hp_proxy::upstream::balance::member::Standing;
use hp_proxy::upstream::sticky::{SameSite, Secret, Sticky};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

/// Plays a seed and proves what must hold in every run.
///
/// # Errors
/// What did not hold, in a line each.
pub(crate) fn play(seed: u64, tell: Tell) -> Result<Report, String> {
    let mut chance = Chance::new(seed ^ SALT);
    let network = match chance.below(4) {
        0 => Network::Calm,
        1 => Network::Rough,
        _ => Network::Gentle,
    };
    let world = World::new(seed, &network.profile(&mut chance));
    let mut stage = Stage::set(&world, chance, seed);
    if tell == Tell::Everything {
        world.tell_log();
    }
    let ended = stage.run(&world);
    let (hash, time, faults) = (world.hash(), world.now() - Instant::START, world.faults());
    let mut found = match ended {
        Ok(()) => stage.judge(network),
        Err(stuck) => vec![stuck],
    };
    if let Err(leaks) = world.shut_down() {
        found.push(leaks.to_string());
    }
    if !found.is_empty() {
        let found = found.join("\n  ");
        return Err(format!(
            "{found}\n  among endpoints, in a {network:?} network"
        ));
    }
    Ok(Report {
        conns: stage.books.conns.get(),
        requests: stage.books.requests(),
        time,
        faults,
        ways: stage.ways(),
        hash,
    })
}

struct Stage {
    chance: Chance,
    books: Rc<Books>,
    /// What the backends run on, and then what the clients do.
    rts: Vec<Rt>,
    backends: Vec<SocketAddr>,
    proxy_host: Host,
    proxy: SocketAddr,
    /// What the file says.
    file: Plan,
    overlay: Overlay,
    /// What a process passes on.
    state: State,
    /// All that there were; whoever is in charge is the last.
    processes: Vec<Process>,
    upgrades: Upgrades,
    clients_left: Rc<Cell<u64>>,
    ways: BTreeMap<&'static str, u64>,
}

impl Stage {
    fn set(world: &World, mut chance: Chance, seed: u64) -> Self {
        let [client, proxy_host] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(|addr| world.host(addr));
        let proxy = SocketAddr::from((proxy_host.addr(), 80));
        let books = Rc::new(Books::default());
        let mut rts = Vec::new();
        let numbers = 0..2 + chance.index(3);
        let backends: Vec<SocketAddr> = numbers
            .map(|number| {
                let host = world.host([10, 0, 1, 1 + u8::try_from(number).expect("a handful")]);
                let (addr, rt) = set_backend(&host, number, chance.fork(), &books);
                rts.push(rt);
                addr
            })
            .collect();
        let mut file = file(&mut chance, proxy, &backends);
        file.timeouts.close_spread = close_spread(seed);
        file.limits.detour = detour(seed);
        let mut state = State::default();
        state.keep_key(&mut file.process_key);
        let face = [Face::Readiness, Face::Completion][chance.index(2)];
        let first = SharedPlan::new(file.clone());
        let process = Process::start(&proxy_host, first, face, || draw_options(&mut chance));
        process.listen(proxy);
        books.follow(&file, &backends, (Instant::START, Instant::START));
        let rt = client
            .rt(Face::Readiness, &RtOptions::default())
            .expect(RUNTIME);
        let (askers, talkers) = (2 + chance.below(8), 1 + chance.below(4));
        let clients_left = Rc::new(Cell::new(askers + talkers));
        for number in 0..clients_left.get() {
            let client = Client {
                rt: rt.clone(),
                proxy,
                books: Rc::clone(&books),
                chance: chance.fork(),
                jar: None,
            };
            let left = Rc::clone(&clients_left);
            rt.spawn(async move {
                if number < askers {
                    client.live().await;
                } else {
                    client.talk().await;
                }
                left.set(left.get() - 1);
            });
        }
        rts.push(rt);
        Self {
            chance,
            books,
            rts,
            backends,
            proxy_host,
            proxy,
            file,
            overlay: Overlay::default(),
            state,
            processes: vec![process],
            upgrades: Upgrades::unplanned(seed),
            clients_left,
            ways: WAYS
                .into_iter()
                .chain(upgrade::ENDS)
                .map(|way| (way, 0))
                .collect(),
        }
    }

    fn run(&mut self, world: &World) -> Result<(), String> {
        let clients_left = Rc::clone(&self.clients_left);
        let is_over = move || clients_left.get() == 0;
        loop {
            let until = world.now() + Duration::from_micros(self.chance.below(200_000));
            self.until(world, &mut || world.now() >= until || is_over())?;
            if is_over() {
                break;
            }
            match self.chance.below(8) {
                0 => self.upgrade(world, &is_over)?,
                1 | 2 => self.reload(world)?,
                _ => self.order(world)?,
            }
        }
        self.in_charge().drain(world.now());
        self.until(world, &mut || self.processes.iter().all(Process::has_ended))?;
        let rts = || {
            self.rts
                .iter()
                .chain(self.processes.iter().flat_map(|one| &one.rts))
        };
        self.until(world, &mut || {
            rts().all(|rt| rt.holdings().conns == 0 && rt.holdings().lent_buffers == 0)
        })
    }

    fn until(&self, world: &World, done: &mut dyn FnMut() -> bool) -> Result<(), String> {
        let mut done_and_buried = || {
            self.bury();
            done()
        };
        let run = world.run_until(&mut done_and_buried, LIMITS);
        run.map_err(|stuck| stuck.to_string())
    }

    fn bury(&self) {
        self.processes.iter().for_each(Process::bury);
    }

    fn in_charge(&self) -> &Process {
        self.processes
            .last()
            .expect("there is one from the beginning")
    }

    fn count(&mut self, way: &'static str) {
        *self.ways.entry(way).or_default() += 1;
    }

    /// An operator changes something, by the verbs of the admin interface.
    fn order(&mut self, world: &World) -> Result<(), String> {
        let upstream = self.file.upstreams[0].name.clone();
        let addr = self.backends[self.chance.index(self.backends.len())];
        let endpoint = addr.to_string();
        let change = match self.chance.below(8) {
            0 => Change::Remove { upstream, endpoint },
            1 => Change::Add {
                upstream,
                endpoint: self.endpoint(addr),
            },
            other => Change::Set {
                upstream,
                endpoint,
                weight: (other == 2).then(|| [0, 1, 5][self.chance.index(3)]),
                standing: Some(STANDINGS[self.chance.index(STANDINGS.len())]),
            },
        };
        let hold = [Hold::UntilReload, Hold::Kept][self.chance.index(2)];
        let mut overlay = self.overlay.clone();
        if overlay.change(&self.file, change, hold).is_err() {
            self.count(REFUSED);
            return Ok(());
        }
        let plan = overlay.over(&self.file);
        if serves_anybody(&plan, &self.backends) {
            self.overlay = overlay;
            self.follow(world, plan)?;
            self.count(ORDERED);
        }
        Ok(())
    }

    /// The file is another one, and is read again.
    fn reload(&mut self, world: &World) -> Result<(), String> {
        let mut file = self.file.clone();
        let keeps = 1 + self.chance.index(self.backends.len());
        let mut backends = self.backends.clone();
        let turned = self.chance.index(backends.len());
        backends.rotate_left(turned);
        backends.truncate(keeps);
        file.upstreams[0].endpoints = backends.iter().map(|addr| self.endpoint(*addr)).collect();
        file.upstreams[0].balance.method = METHODS[self.chance.index(METHODS.len())];
        let mut overlay = self.overlay.clone();
        if self.chance.one_in(4) {
            overlay.keep_all();
        }
        overlay.expect_reload();
        let _dropped = overlay.reload(&file);
        let plan = overlay.over(&file);
        if serves_anybody(&plan, &self.backends) {
            (self.file, self.overlay) = (file, overlay);
            self.follow(world, plan)?;
            self.count(RELOADED);
        }
        Ok(())
    }

    fn follow(&self, world: &World, mut plan: Plan) -> Result<(), String> {
        let before = self.in_charge().plan();
        plan.workers = before.workers;
        plan.process_key.clone_from(&before.process_key);
        let begun = world.now();
        let followed = self.in_charge().follow(plan.clone());
        self.until(world, &mut || have_all(&followed))?;
        self.books
            .follow(&plan, &self.backends, (begun, world.now()));
        Ok(())
    }

    /// Another process is to take over; it knows what the file says, and what it is passed on.
    fn upgrade(&mut self, world: &World, is_over: &dyn Fn() -> bool) -> Result<(), String> {
        let mut plan = self.file.clone();
        plan.process_key = Secret::new(self.chance.draw().to_be_bytes().repeat(4));
        let passed = self.state.to_value();
        let mut state = State::from_map(passed.as_object().cloned().unwrap_or_default());
        state.keep_key(&mut plan.process_key);
        let begun = world.now();
        let before = self
            .processes
            .last()
            .expect("there is one from the beginning");
        let hosts = (world, &self.proxy_host);
        let started = self
            .upgrades
            .start(hosts, (before, plan.clone()), draw_options);
        let clock = self.rts.last().expect("that of the clients");
        let is_over = || {
            self.bury();
            is_over()
        };
        let ended = upgrade::lead((world, clock), before, started, &is_over);
        let ended = ended.map_err(|stuck| stuck.to_string())?;
        if let Some(mistake) = ended.mistake {
            self.books.mistake(mistake);
        }
        if ended.is_in_charge {
            ended.process.complete(self.proxy);
            self.books.replace(world.now());
            self.books
                .follow(&plan, &self.backends, (begun, world.now()));
            (self.overlay, self.state) = (Overlay::default(), state);
            self.processes.push(ended.process);
        } else {
            self.processes.insert(0, ended.process);
        }
        self.count(ended.way);
        Ok(())
    }

    /// As the file may have it: in service, so that there is somebody.
    fn endpoint(&mut self, addr: SocketAddr) -> Endpoint {
        let slow_start = self.chance.one_in(2);
        Endpoint {
            weight: 1 + u32::from(self.chance.one_in(2)) * 4,
            slow_start: slow_start.then_some(Duration::from_millis(500)),
            ..Endpoint::new(addr.to_string(), addr.into())
        }
    }

    fn judge(&self, network: Network) -> Vec<String> {
        let drain_timeout = self.file.timeouts.drain;
        let mut found = self.books.judge(network.is_whole(), drain_timeout);
        let drains = self.processes.iter().filter_map(Process::drained_for);
        // Clocks may jump meanwhile, and workers stall.
        let late = drains.filter(|took| *took > drain_timeout + DRAIN_SETTLES);
        found.extend(late.map(|took| format!("a drain took {took:?}")));
        let rts = self
            .rts
            .iter()
            .chain(self.processes.iter().flat_map(|one| &one.rts));
        let panics: u64 = rts.map(Rt::panics).sum();
        if panics > 0 {
            found.push(format!("{panics} tasks panicked"));
        }
        let sum = |counter: fn(&Counters) -> &Counter| -> u64 {
            self.processes.iter().map(|one| one.rows.sum(counter)).sum()
        };
        // A worker that is late for the end of its drain, by a clock that jumps or a stall, has connections parked that it cuts with itself.
        let may_cut = |one: &&Process| !network.is_whole() && one.is_cut_after(drain_timeout);
        let whole = self.processes.iter().filter(|one| !may_cut(one));
        let open: u64 = whole.map(|one| one.rows.sum(|row| &row.conns_open)).sum();
        if open > 0 {
            found.push(String::from("connections are counted as open that are not"));
        }
        let (requests, asked) = (sum(|row| &row.requests), self.books.requests());
        if network.is_whole() && requests != asked {
            found.push(format!(
                "{requests} requests are counted, and {asked} were asked"
            ));
        }
        found
    }

    fn ways(&self) -> BTreeMap<String, u64> {
        let tally = self.books.tally(self.file.timeouts.drain);
        let of_clients = [
            ("bound request kept", tally.kept),
            ("bound request kept in a drain", tally.kept_in_a_drain),
            ("bound request bound anew", tally.bound_anew),
            ("forged cookie bound nobody", tally.forged),
            ("WebSocket whole", tally.sockets),
            (
                "WebSocket whole over another plan",
                tally.sockets_over_plans,
            ),
            (
                "WebSocket whole over another process",
                tally.sockets_over_processes,
            ),
            (
                "WebSocket whole although its endpoint was taken out",
                tally.sockets_over_their_endpoint,
            ),
            (
                "WebSocket cut at the deadline of a drain",
                tally.sockets_due,
            ),
        ];
        let ways = self.ways.iter().map(|(way, count)| (*way, *count));
        let all = ways.chain(of_clients);
        all.map(|(way, count)| (way.to_owned(), count)).collect()
    }
}

/// Whether every worker follows.
fn have_all(followed: &Receiver<()>) -> bool {
    matches!(followed.try_recv(), Err(TryRecvError::Disconnected))
}

fn set_backend(
    host: &Host,
    number: usize,
    mut chance: Chance,
    books: &Rc<Books>,
) -> (SocketAddr, Rt) {
    let rt = host
        .rt(Face::Readiness, &RtOptions::default())
        .expect(RUNTIME);
    let addr = SocketAddr::from((host.addr(), 8000));
    let socket = host.listen(addr, 128).expect("the address is the host's");
    let listener = rt.listener(socket).expect("a simulated kernel registers");
    let (accepting, books) = (rt.clone(), Rc::clone(books));
    rt.spawn(async move {
        loop {
            match listener.accept().await {
                Ok(conn) => {
                    let of = (accepting.clone(), conn);
                    accepting.spawn(answer_all(of, number, chance.fork(), Rc::clone(&books)));
                }
                Err(_shortage) => accepting.sleep(Duration::from_millis(20)).await,
            }
        }
    });
    (addr, rt)
}

fn file(chance: &mut Chance, listen: SocketAddr, backends: &[SocketAddr]) -> Plan {
    let endpoint = |addr: &SocketAddr| Endpoint::new(addr.to_string(), (*addr).into());
    let mut plan = Plan::from(OneRoute {
        listen: listen.into(),
        backends: backends.iter().map(endpoint).collect(),
        workers: 1 + u32::try_from(chance.below(3)).expect("below 3"),
        engine: Engine::Auto,
        forwarding: Forwarding::default(),
        timeouts: Timeouts {
            // Longer than any WebSocket, or shorter than some.
            drain: Duration::from_secs(if chance.one_in(4) { 2 } else { 60 }),
            ..Timeouts::default()
        },
        limits: ProxyLimits::default(),
    });
    plan.process_key = Secret::new(chance.draw().to_be_bytes().repeat(4));
    let all = plan.upstreams.remove(0);
    plan.upstreams.push(Upstream {
        sticky: Some(Sticky {
            cookie: NAME.trim_end_matches('=').to_owned(),
            max_age: None,
            path: String::from("/"),
            is_secure: false,
            is_http_only: true,
            same_site: SameSite::Lax,
            key: None,
        }),
        ..all
    });
    plan
}

/// What operators do to endpoints.
const STANDINGS: [Standing; 4] = [
    Standing::Serving,
    Standing::Serving,
    Standing::Draining,
    Standing::Out,
];
const WAYS: [&str; 3] = [ORDERED, REFUSED, RELOADED];
const ORDERED: &str = "order followed";
const REFUSED: &str = "order refused";
const RELOADED: &str = "file read again";
const SALT: u64 = 0x0E4D_9014_75AB_0007;
