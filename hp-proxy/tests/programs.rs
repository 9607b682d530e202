//! The three programs in one simulated world: hp-bench asks hp-proxy, which asks hp-echo, with their real code.

use hp_bench::cli;
use hp_bench::plan::{Plan as Load, SharedPlan as SharedLoad};
use hp_bench::record::Record;
use hp_bench::worker::Listeners;
use hp_core::rt::mesh::{Mesh, WorkerId};
use hp_core::rt::sim::{Face, Host, Limits, Profile, World};
use hp_core::rt::worker::Context;
use hp_core::rt::{Engine, Rt, RtOptions};
use hp_proxy::config::forwarding::Forwarding;
use hp_proxy::config::plan::{
    Endpoint, Limits as ProxyLimits, ListenerId, OneRoute, Plan, Timeouts,
};
use hp_proxy::counters::Rows;
use hp_proxy::shared::{Message, SharedPlan};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

#[test]
fn what_the_load_counts_is_what_the_proxy_counts() {
    for face in [Face::Readiness, Face::Completion] {
        let run = play(7, face);
        assert!(run.load.requests > 1000, "{} requests", run.load.requests);
        assert_eq!(run.load.requests, run.load.responses);
        assert_eq!(run.load.errors.blamed(), 0);
        assert_eq!(run.load.connections_opened, u64::from(CONNECTIONS));
        assert_eq!(run.rows.sum(|row| &row.requests), run.load.requests);
        assert_eq!(run.rows.sum(|row| &row.responses), run.load.responses);
        assert_eq!(run.rows.sum(|row| &row.conns_open), 0);
        // A connection of the load has one request at a time, so it never needs two at the backend.
        assert!(run.rows.sum(|row| &row.upstream_connects) <= u64::from(CONNECTIONS));
        assert_eq!(run.load.elapsed.as_secs(), SECONDS);
    }
}

#[test]
fn a_seed_repeats_a_measurement_to_the_nanosecond() {
    let [one, other] = [play(11, Face::Completion), play(11, Face::Completion)];
    assert_eq!(one.hash, other.hash);
    let spectrum =
        |run: &Run| [50.0, 99.0, 100.0].map(|q| run.load.latency().value_at_percentile(q));
    assert_eq!(spectrum(&one), spectrum(&other));
    assert!(spectrum(&one)[0] > 0);
}

/// Requests are due all the time, so those of the stalled second wait for what is left of it: a tenth of all, evenly
/// between no time and a second. Of 10,000 the hundredth from the top waits 0.9 s.
#[test]
fn a_stall_shows_in_the_percentiles_of_a_rate_as_theory_says() {
    for flags in ["-c 20 -R 1000", "-c 20 -R 1000 --pacing conn"] {
        let load = play_stall(flags);
        assert_eq!((load.responses, load.unsent), (10_000, 0), "{flags}");
        let response = load.response().expect("a rate intends its sends");
        for (quantile, want) in [(0.95, 0.5), (0.99, 0.9), (0.999, 0.99)] {
            let nanos = response.value_at_quantile(quantile);
            let seconds = Duration::from_nanos(nanos).as_secs_f64();
            assert!(
                (seconds - want).abs() < 0.02,
                "{flags}: {quantile}: {seconds}"
            );
        }
        let median = Duration::from_nanos(response.value_at_quantile(0.5));
        assert!(median < Duration::from_millis(10), "{median:?}");
        // The clock from the actual send has seen as many slow answers as there are connections.
        let service = Duration::from_nanos(load.service().value_at_quantile(0.99));
        assert!(service < Duration::from_millis(10), "{service:?}");
    }
}

/// Each connection waits once, and sends nothing meanwhile: the stall is as many samples as there are connections.
#[test]
fn a_stall_shows_in_a_closed_loop_as_the_maximum_alone() {
    let load = play_stall("-c 2");
    assert!(load.responses > 1000, "{}", load.responses);
    let at = |quantile| Duration::from_nanos(load.latency().value_at_quantile(quantile));
    assert!(at(0.99) < Duration::from_millis(10), "{:?}", at(0.99));
    assert!(at(1.0) > Duration::from_millis(950), "{:?}", at(1.0));
}

/// What the common schedule had not handed out when the last connection left was forgotten.
#[test]
fn every_request_that_is_due_is_counted_before_a_server_that_says_nothing() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "{\"t\": 0, \"path\": \"/\"}\n".repeat(50)).expect("room");
    let recorded = format!("--replay {}", file.path().display());
    for face in [Face::Readiness, Face::Completion] {
        for timeout in [1, 2, 3, 5, 8, 13, 21, 34] {
            for (flags, due) in [("-R 1000 -d 50ms --warmup 0", 50), (recorded.as_str(), 50)] {
                let load = play_silence(face, &format!("-c 1 -t 1 -T {timeout}ms {flags}"));
                let seen = (load.requests + load.unsent, load.censored);
                assert_eq!(seen, (due, due), "{face:?} {flags} -T {timeout}ms");
            }
        }
    }
}

/// Nothing goes on outside of a turn but what began in it; every turn is used, and nobody sends in another's.
#[test]
fn loads_that_take_turns_begin_nothing_in_the_turns_of_others() {
    for face in [Face::Readiness, Face::Completion] {
        for flags in ["", "--reuse 1", "--close", "--reuse 3", "--pipeline 4"] {
            let case = format!("{face:?} {flags}");
            let [one, other] = play_turns(face, flags);
            let mut used = [BTreeSet::new(), BTreeSet::new()];
            for ((load, turn), used) in [(&one, 0), (&other, 1)].into_iter().zip(&mut used) {
                assert!(load.requests > 500, "{case}: {} requests", load.requests);
                assert_eq!(load.requests, load.responses, "{case}");
                assert_eq!(load.errors.blamed(), 0, "{case}");
                let samples = load.samples.as_ref().expect("--csv asks for them");
                assert_eq!(
                    (samples.left_out(), samples.times().count() as u64),
                    (0, load.responses)
                );
                for times in samples.times() {
                    let number = times.intended.as_nanos() / TURN_NS;
                    assert_eq!(number % 2, turn, "{case}: {times:?}");
                    used.insert(number);
                    // On a connection that is there a request leaves when it begins.
                    let sent = times.sent.as_nanos() / TURN_NS;
                    assert!(sent == number || !flags.is_empty(), "{case}: {times:?}");
                }
                let in_turn = load.in_turn.expect("it took turns");
                let half = load.elapsed / 2;
                assert!(
                    in_turn.abs_diff(half) <= Duration::from_nanos(TURN_NS),
                    "{case}"
                );
                // The wait for the turn is in no latency: it would be as long as a turn.
                let slowest = Duration::from_nanos(load.latency().max());
                assert!(
                    slowest < Duration::from_nanos(TURN_NS),
                    "{case}: {slowest:?}"
                );
                assert_eq!(load.connections_short, Duration::ZERO, "{case}");
            }
            let [used, others] = used;
            assert!(used.is_disjoint(&others), "{case}");
            assert!((9..=11).contains(&used.len()), "{case}: {}", used.len());
            assert!((9..=11).contains(&others.len()), "{case}: {}", others.len());
        }
    }
}

#[test]
fn a_number_of_requests_in_turns_is_whole() {
    let [one, other] = play_turns(Face::Completion, "-n 600");
    assert_eq!([one.responses, other.responses], [600, 600]);
    assert!(one.active() < one.elapsed && one.active() > Duration::ZERO);
}

struct Run {
    load: Record,
    rows: Rows,
    hash: u64,
}

/// One run on a calm network: hp-bench's threads, two workers of hp-proxy, one of hp-echo; then both servers drain.
fn play(seed: u64, face: Face) -> Run {
    let world = World::new(seed, &Profile::calm());
    let [bench_host, proxy_host, echo_host] =
        [[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3]].map(|addr| world.host(addr));
    let proxy_addr = SocketAddr::from((proxy_host.addr(), 80));
    let echo_mesh = start_echo(&echo_host, face);
    let rows = Rows::new(WORKERS, 0);
    let proxy_mesh = start_proxy(&proxy_host, face, proxy_addr, &rows);
    let records = start_load(
        &bench_host,
        face,
        proxy_addr,
        &format!("-c {CONNECTIONS} -t {THREADS} -d {SECONDS}s --warmup 0"),
    );
    let wait = |done: &mut dyn FnMut() -> bool| {
        world
            .run_until(done, Limits::default())
            .expect("a calm run ends")
    };
    wait(&mut || records.borrow().len() == THREADS as usize);
    for worker in (0..WORKERS).map(WorkerId) {
        assert!(proxy_mesh.send(worker, Message::Drain).is_ok());
    }
    assert!(echo_mesh.send(WorkerId(0), hp_echo::Order::Drain).is_ok());
    wait(&mut || {
        [&bench_host, &proxy_host, &echo_host]
            .iter()
            .all(|host| host.descriptors() == 0)
    });
    let hash = world.hash();
    world.shut_down().expect("nothing is left");
    let load = merged(&records.borrow());
    Run { load, rows, hash }
}

/// Two loads on one hp-echo, 200 ms long: one sends in the even turns of the clock, the other one in the odd ones.
fn play_turns(face: Face, flags: &str) -> [Record; 2] {
    let world = World::new(9, &Profile::calm());
    let [one, other, echo_host] =
        [[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3]].map(|addr| world.host(addr));
    let echo_mesh = start_echo(&echo_host, face);
    let target = SocketAddr::from((echo_host.addr(), 9001));
    let loads = [(&one, 1), (&other, 2)].map(|(host, turn)| {
        let turns = format!("--turns {}ms --turn {turn}/2", TURN_NS / 1_000_000);
        let flags = format!("-c 4 -t {THREADS} -d 200ms --warmup 30ms --csv kept {turns} {flags}");
        start_load(host, face, target, flags.trim_end())
    });
    let limits = Limits {
        turns: 20_000_000,
        ..Limits::default()
    };
    let mut are_done = || {
        let mut counts = loads.iter().map(|records| records.borrow().len());
        counts.all(|count| count == THREADS as usize)
    };
    world.run_until(&mut are_done, limits).expect("turns come");
    assert!(echo_mesh.send(WorkerId(0), hp_echo::Order::Drain).is_ok());
    world
        .run_until(&mut || echo_host.descriptors() == 0, limits)
        .expect("a drain ends");
    world.shut_down().expect("nothing is left");
    loads.map(|records| merged(&records.borrow()))
}

fn merged(records: &[Record]) -> Record {
    let mut all = records.first().expect("a thread's record").clone();
    records[1..].iter().for_each(|record| all.merge(record));
    all
}

/// Load on hp-echo alone, whose answers are held back for one second in the middle of ten.
fn play_stall(flags: &str) -> Record {
    let world = World::new(3, &Profile::calm());
    let [bench_host, echo_host] = [[10, 0, 0, 1], [10, 0, 0, 3]].map(|addr| world.host(addr));
    let echo_mesh = start_echo(&echo_host, Face::Completion);
    let target = SocketAddr::from((echo_host.addr(), 9001));
    let flags = format!("{flags} -t 1 -d 10s --warmup 0");
    let records = start_load(&bench_host, Face::Completion, target, &flags);
    let limits = Limits {
        turns: 20_000_000,
        ..Limits::default()
    };
    let began = world.now();
    let stall = began + Duration::from_secs(5);
    world
        .run_until(&mut || world.now() >= stall, limits)
        .expect("time passes");
    world.clog(
        &echo_host,
        &bench_host,
        world.now() + Duration::from_secs(1),
    );
    world
        .run_until(&mut || records.borrow().len() == 1, limits)
        .expect("a stall ends");
    assert!(echo_mesh.send(WorkerId(0), hp_echo::Order::Drain).is_ok());
    world
        .run_until(&mut || echo_host.descriptors() == 0, limits)
        .expect("a drain ends");
    world.shut_down().expect("nothing is left");
    merged(&records.borrow())
}

/// Load on a server whose kernel takes connections, and nobody else does.
fn play_silence(face: Face, flags: &str) -> Record {
    let world = World::new(5, &Profile::calm());
    let [bench_host, silent_host] = [[10, 0, 0, 1], [10, 0, 0, 3]].map(|addr| world.host(addr));
    let target = SocketAddr::from((silent_host.addr(), 9001));
    let socket = silent_host.listen(target, 1024).expect("its own address");
    let records = start_load(&bench_host, face, target, flags);
    world
        .run_until(&mut || records.borrow().len() == 1, Limits::default())
        .expect("silence ends");
    drop(socket);
    world.shut_down().expect("nothing is left");
    merged(&records.borrow())
}

fn start_echo(host: &Host, face: Face) -> Mesh<hp_echo::Order> {
    let mesh = Mesh::new(1);
    let rt = host.rt(face, &RtOptions::default()).expect("a runtime");
    let socket = host
        .listen(SocketAddr::from((host.addr(), 9001)), 128)
        .expect("the address is the host's");
    let listener = rt.listener(socket).expect("a simulated kernel registers");
    rt.spawn(hp_echo::serve(context(&rt, 0, &mesh), listener, 13));
    mesh
}

fn start_proxy(host: &Host, face: Face, listen: SocketAddr, rows: &Rows) -> Mesh<Message> {
    let mesh = Mesh::new(WORKERS);
    let plan = SharedPlan::new(Plan::from(OneRoute {
        listen: listen.into(),
        backends: vec![Endpoint::new(
            String::from("echo"),
            SocketAddr::from(([10, 0, 0, 3], 9001)).into(),
        )],
        workers: WORKERS,
        engine: Engine::Auto,
        forwarding: Forwarding::default(),
        timeouts: Timeouts::default(),
        limits: ProxyLimits::default(),
    }));
    for id in 0..WORKERS {
        let rt = host.rt(face, &RtOptions::default()).expect("a runtime");
        let context = context(&rt, id, &mesh);
        rt.spawn(hp_proxy::worker::main(
            context,
            plan.clone(),
            rows.clone(),
            None,
        ));
        let socket = host.listen(listen, 128).expect("the address is the host's");
        assert!(
            mesh.send(WorkerId(id), Message::Listen(socket, ListenerId(0)))
                .is_ok()
        );
    }
    mesh
}

/// Starts the load that the flags name; its threads' records come as they end.
fn start_load(
    host: &Host,
    face: Face,
    target: SocketAddr,
    flags: &str,
) -> Rc<RefCell<Vec<Record>>> {
    let words = format!("hp-bench {target} {flags}");
    let cli = cli::parse(words.split(' ').map(Into::into)).expect("a command line");
    let plan = SharedLoad::new(Load::resolve(&cli, THREADS).expect("a plan"));
    let mesh = Mesh::new(plan.threads);
    let records = Rc::new(RefCell::new(Vec::new()));
    for id in 0..plan.threads {
        let rt = host.rt(face, &RtOptions::default()).expect("a runtime");
        let work = hp_bench::worker::work(
            context(&rt, id, &mesh),
            SharedLoad::clone(&plan),
            target,
            Listeners::default(),
        );
        let records = Rc::clone(&records);
        rt.spawn(async move {
            let outcome = work.await;
            records.borrow_mut().push(outcome.record);
        });
    }
    records
}

fn context<M>(rt: &Rt, id: u32, mesh: &Mesh<M>) -> Context<M> {
    Context {
        rt: rt.clone(),
        id: WorkerId(id),
        mailbox: mesh.mailbox(WorkerId(id)),
        mesh: mesh.clone(),
    }
}

const WORKERS: u32 = 2;
const THREADS: u32 = 2;
const CONNECTIONS: u32 = 10;
const SECONDS: u64 = 2;
const TURN_NS: u64 = 10_000_000;
