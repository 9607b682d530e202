//! One run about an endpoint that comes back: its share of the requests follows its weight, which grows evenly from a tenth.

use super::bound::exchange;
use super::message::{Inbox, send};
use super::play::Report;
use super::process::{Process, RUNTIME};
use super::scene::{LIMITS, draw_options};
use hp_core::rt::sim::{Chance, Face, Host, Profile, World};
use hp_core::rt::{Engine, Instant, Rt, RtOptions};
use hp_proxy::config::forwarding::Forwarding;
use hp_proxy::config::plan::{Endpoint, Limits as ProxyLimits, OneRoute, Plan, Timeouts};
use hp_proxy::shared::SharedPlan;
use hp_proxy::upstream::balance::Method;
use hp_proxy::upstream::balance::member::Standing;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

/// Plays a seed, which decides weights and workers; its eighth decides the method.
///
/// # Errors
/// What did not hold, in a line each.
pub(crate) fn play(seed: u64) -> Result<Report, String> {
    let mut chance = Chance::new(seed ^ SALT);
    let world = World::new(seed, &Profile::calm());
    let method = METHODS[usize::try_from(seed / 64).unwrap_or(0) % METHODS.len()];
    let stage = Stage::set(&world, &mut chance, method);
    let ended = stage.run(&world);
    let mut found = match ended {
        Ok(times) => stage.judge(times),
        Err(stuck) => vec![stuck],
    };
    let (hash, time, faults) = (world.hash(), world.now() - Instant::START, world.faults());
    if let Err(leaks) = world.shut_down() {
        found.push(leaks.to_string());
    }
    if !found.is_empty() {
        let found = found.join("\n  ");
        let weights = stage.weights();
        return Err(format!(
            "{found}\n  with {method:?} and weights {weights:?}"
        ));
    }
    Ok(Report {
        conns: CLIENTS,
        requests: stage.arrivals.borrow().len() as u64,
        time,
        faults,
        ways: BTreeMap::from([(format!("slow start by {method:?}"), 1)]),
        hash,
    })
}

struct Stage {
    /// The first of its endpoints leaves and comes back.
    plan: Plan,
    process: Process,
    /// What the backends run on, and then what the clients do.
    rts: Vec<Rt>,
    /// When a request came to which backend.
    arrivals: Rc<RefCell<Vec<(Instant, usize)>>>,
    failures: Rc<Cell<u64>>,
    clients_left: Rc<Cell<u64>>,
    shall_stop: Rc<Cell<bool>>,
}

/// When the endpoint was out, and in service again, for all workers.
#[derive(Clone, Copy, Debug)]
struct Times {
    out: (Instant, Instant),
    back: Instant,
    end: Instant,
}

impl Stage {
    fn set(world: &World, chance: &mut Chance, method: Method) -> Self {
        let [client, proxy_host] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(|addr| world.host(addr));
        let proxy = SocketAddr::from((proxy_host.addr(), 80));
        let arrivals = Rc::new(RefCell::new(Vec::new()));
        let mut rts = Vec::new();
        let endpoints = (0..3).map(|number| {
            let host = world.host([10, 0, 1, 1 + number]);
            let (addr, rt) = set_backend(&host, usize::from(number), &arrivals);
            rts.push(rt);
            Endpoint {
                weight: [1, 2, 4][chance.index(3)],
                slow_start: Some(SLOW_START),
                ..Endpoint::new(addr.to_string(), addr.into())
            }
        });
        let mut plan = Plan::from(OneRoute {
            listen: proxy.into(),
            backends: endpoints.collect(),
            workers: 1 + u32::from(chance.one_in(2)),
            engine: Engine::Auto,
            forwarding: Forwarding::default(),
            timeouts: Timeouts::default(),
            limits: ProxyLimits::default(),
        });
        plan.upstreams[0].balance.method = method;
        let face = [Face::Readiness, Face::Completion][chance.index(2)];
        let shared = SharedPlan::new(plan.clone());
        let process = Process::start(&proxy_host, shared, face, || draw_options(chance));
        process.listen(proxy);
        let rt = client
            .rt(Face::Readiness, &RtOptions::default())
            .expect(RUNTIME);
        rts.push(rt.clone());
        let stage = Self {
            plan,
            process,
            rts,
            arrivals,
            failures: Rc::default(),
            clients_left: Rc::new(Cell::new(CLIENTS)),
            shall_stop: Rc::default(),
        };
        (0..CLIENTS).for_each(|_| stage.start_client(&rt, proxy));
        stage
    }

    /// Asks one request after the other.
    fn start_client(&self, rt: &Rt, proxy: SocketAddr) {
        let (failures, left) = (Rc::clone(&self.failures), Rc::clone(&self.clients_left));
        let (shall_stop, own) = (Rc::clone(&self.shall_stop), rt.clone());
        rt.spawn(async move {
            let connected = own.connect(proxy, own.now() + PATIENCE).await;
            if let Ok(conn) = &connected {
                conn.set_deadline(Some(own.now() + PATIENCE));
                let request = b"GET / HTTP/1.1\r\nHost: sim\r\n\r\n";
                let mut is_well = true;
                while is_well && !shall_stop.get() {
                    let head = exchange(conn, request).await;
                    is_well = head.is_some_and(|head| head.status() == 200);
                }
                failures.set(failures.get() + u64::from(!is_well));
            } else {
                failures.set(failures.get() + 1);
            }
            left.set(left.get() - 1);
        });
    }

    fn run(&self, world: &World) -> Result<Times, String> {
        let wait = |time: Duration| {
            let until = world.now() + time;
            self.until(world, &mut || world.now() >= until)
        };
        wait(SETTLES)?;
        self.stand(world, Standing::Out)?;
        let out = world.now();
        wait(SETTLES)?;
        let until = world.now();
        self.stand(world, Standing::Serving)?;
        let back = world.now();
        wait(SLOW_START + SETTLES * 2)?;
        let times = Times {
            out: (out, until),
            back,
            end: world.now(),
        };
        self.shall_stop.set(true);
        self.until(world, &mut || self.clients_left.get() == 0)?;
        self.process.drain(world.now());
        self.until(world, &mut || self.process.has_ended())?;
        let rts = || self.rts.iter().chain(&self.process.rts);
        self.until(world, &mut || rts().all(|rt| rt.holdings().conns == 0))?;
        Ok(times)
    }

    fn until(&self, world: &World, done: &mut dyn FnMut() -> bool) -> Result<(), String> {
        let mut done_and_buried = || {
            self.process.bury();
            done()
        };
        let run = world.run_until(&mut done_and_buried, LIMITS);
        run.map_err(|stuck| stuck.to_string())
    }

    fn stand(&self, world: &World, standing: Standing) -> Result<(), String> {
        let mut plan = self.plan.clone();
        plan.upstreams[0].endpoints[0].standing = standing;
        let followed = self.process.follow(plan);
        self.until(world, &mut || {
            matches!(followed.try_recv(), Err(TryRecvError::Disconnected))
        })
    }

    fn weights(&self) -> Vec<f64> {
        let endpoints = self.plan.upstreams[0].endpoints.iter();
        endpoints
            .map(|endpoint| f64::from(endpoint.weight))
            .collect()
    }

    /// The share that the first endpoint is to have, so long after it came back.
    fn share_after(&self, elapsed: Duration) -> f64 {
        let weights = self.weights();
        let grown = elapsed.as_secs_f64() / SLOW_START.as_secs_f64();
        let weight = weights[0] * grown.clamp(0.1, 1.0);
        weight / (weight + weights[1..].iter().sum::<f64>())
    }

    fn judge(&self, times: Times) -> Vec<String> {
        let mut found = Vec::new();
        if self.failures.get() > 0 {
            found.push(format!("{} clients were not served", self.failures.get()));
        }
        let arrivals = self.arrivals.borrow();
        // What was sent before is on its way for a moment.
        let while_out = |at: Instant| at > times.out.0 + ON_ITS_WAY && at < times.out.1;
        let strays = arrivals
            .iter()
            .filter(|(at, to)| *to == 0 && while_out(*at));
        match strays.count() {
            0 => (),
            count => found.push(format!("{count} requests came to who was out")),
        }
        let mut begun = times.back;
        while begun + WINDOW <= times.end {
            let in_window = |at: Instant| at >= begun && at < begun + WINDOW;
            let all: Vec<_> = arrivals.iter().filter(|(at, _)| in_window(*at)).collect();
            let due: f64 = all
                .iter()
                .map(|(at, _)| self.share_after(*at - times.back))
                .sum();
            let came = all.iter().filter(|(_, to)| *to == 0).count() as f64;
            let count = all.len() as f64;
            if all.len() < ENOUGH || (came - due).abs() > TOLERANCE * count {
                let after = begun - times.back;
                found.push(format!(
                    "from {after:?} on {came} of {count} requests came to it, and {due:.1} were due"
                ));
            }
            begun = begun + WINDOW;
        }
        found
    }
}

/// A backend that needs the same time for each request.
fn set_backend(
    host: &Host,
    number: usize,
    arrivals: &Rc<RefCell<Vec<(Instant, usize)>>>,
) -> (SocketAddr, Rt) {
    let rt = host
        .rt(Face::Readiness, &RtOptions::default())
        .expect(RUNTIME);
    let addr = SocketAddr::from((host.addr(), 8000));
    let socket = host.listen(addr, 1024).expect("the address is the host's");
    let listener = rt.listener(socket).expect("a simulated kernel registers");
    let (accepting, arrivals) = (rt.clone(), Rc::clone(arrivals));
    rt.spawn(async move {
        while let Ok(conn) = listener.accept().await {
            let (own, arrivals) = (accepting.clone(), Rc::clone(&arrivals));
            accepting.spawn(async move {
                let mut inbox = Inbox::new(&conn);
                while inbox.head().await.is_ok() {
                    arrivals.borrow_mut().push((own.now(), number));
                    own.sleep(SERVICE_TIME).await;
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
                    if send(&conn, answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (addr, rt)
}

/// Those that look at weights while requests come; Maglev's table has the weights of the plan.
pub(crate) const METHODS: [Method; 6] = [
    Method::RoundRobin,
    Method::LeastConn,
    Method::LeastTime,
    Method::Random,
    Method::P2c,
    Method::Rendezvous,
];
const CLIENTS: u64 = 48;
const SERVICE_TIME: Duration = Duration::from_millis(100);
const SLOW_START: Duration = Duration::from_secs(5);
const SETTLES: Duration = Duration::from_millis(800);
const WINDOW: Duration = Duration::from_millis(1250);
const ON_ITS_WAY: Duration = Duration::from_millis(20);
/// Requests of a window: fewer tell nothing of shares.
const ENOUGH: usize = 300;
/// How far a window's share may be from what is due, of all requests of that window: four times the scatter of lots, or two requests in
/// flight where loads decide.
const TOLERANCE: f64 = 0.07;
/// Longer than anything that the proxy waits for.
const PATIENCE: Duration = Duration::from_secs(3600);
const SALT: u64 = 0x0510_57A7_5EED_0009;
