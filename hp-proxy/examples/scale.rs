//! What a request costs by the number of workers and of connections, counted in simulation: `make scale`. Says the same every time.
#![expect(
    clippy::unwrap_used,
    reason = "the models are functions of a test, not tests themselves"
)]

#[path = "../tests/scale/crowd.rs"]
mod crowd;
#[allow(unused_macros, reason = "this counts, and proves no facts")]
#[path = "../tests/faces/mod.rs"]
mod faces;
#[path = "../tests/from_file/mod.rs"]
mod from_file;
#[path = "../tests/scale/load.rs"]
mod load;

use clap::Parser;
use crowd::Crowd;
use hp_core::rt::sim::{Face, Places};
use load::{Cost, Lab};
use std::time::Duration;

/// Counts what a request costs by the number of workers and of connections.
#[derive(Debug, Parser)]
struct Cli {
    /// Most workers of one proxy; they are doubled from 1
    #[arg(long, default_value_t = 64)]
    workers_max: u32,

    /// Most connections of one proxy; they are 1,000 first, then ten times as many
    #[arg(long, default_value_t = 100_000)]
    conns_max: usize,

    /// Most connections of the tables alone
    #[arg(long, default_value_t = 100_000)]
    parked_max: usize,
}

fn main() {
    let cli = Cli::parse();
    println!("# Work by workers and connections, counted in simulation\n");
    by_workers(cli.workers_max);
    by_method(cli.workers_max);
    by_connections(cli.conns_max);
    parked_alone(cli.parked_max);
}

fn by_workers(workers_max: u32) {
    println!(
        "## By workers: {CONNS_EACH} connections for each, {REQUESTS_EACH} requests on each\n"
    );
    println!(
        "{WORK_HEAD} shared writes | own writes | reads of shared lines when a connection begins |"
    );
    println!("{WORK_RULE} ---: | ---: | ---: |");
    for face in FACES {
        let doubled = |workers: &u32| workers.checked_mul(2);
        let steps = std::iter::successors(Some(1), doubled);
        for workers in steps.take_while(|workers| *workers <= workers_max) {
            let mut lab = Lab::new(face, workers, "");
            let conns = CONNS_EACH * workers as usize;
            hp_core::rt::sim::lines::watch();
            lab.open(conns);
            let begun = hp_core::rt::sim::lines::seen().shared(&lab.workers());
            lab.ask(conns, WARM_UP_EACH);
            let cost = lab.ask(conns, REQUESTS_EACH);
            let actors = lab.workers();
            let [shared, own] = [cost.lines.shared(&actors), cost.lines.own(&actors)];
            println!(
                "{} {:.2} | {:.2} | {:.2} |",
                work((face, workers as usize), &cost),
                cost.each(shared.writes),
                cost.each(own.writes),
                ratio(begun.reads, conns),
            );
            lab.end();
        }
    }
}

fn by_method(workers_max: u32) {
    println!(
        "\n## Methods that look at load: touches of lines that workers share, for each request\n"
    );
    println!("| method | workers | writes | reads |\n| --- | ---: | ---: | ---: |");
    for method in ["round_robin", "least_conn", "p2c"] {
        for workers in [2, 8, 64] {
            if workers > workers_max {
                continue;
            }
            let upstream = format!("balance = \"{method}\"");
            let mut lab = Lab::new(Face::Readiness, workers, &upstream);
            let conns = CONNS_EACH * workers as usize;
            lab.open(conns);
            lab.ask(conns, WARM_UP_EACH);
            let cost = lab.ask(conns, REQUESTS_EACH);
            let shared = cost.lines.shared(&lab.workers());
            let [writes, reads] = [shared.writes, shared.reads].map(|count| cost.each(count));
            println!("| {method} | {workers} | {writes:.2} | {reads:.2} |");
            lab.end();
        }
    }
}

fn by_connections(conns_max: usize) {
    println!(
        "\n## By connections: one worker, {ACTIVE} of them make {REQUESTS_EACH} requests each\n"
    );
    println!("{WORK_HEAD} bytes for each in tables |");
    println!("{WORK_RULE} ---: |");
    for face in FACES {
        for conns in tenfold(conns_max, face) {
            let mut lab = Lab::new(face, 1, "");
            lab.open(conns);
            lab.pause(PARKED_BY_THEN);
            let idle = lab.proxy.rts[0].footprint();
            let cost = lab.ask(ACTIVE, REQUESTS_EACH);
            let bytes = occupied(idle.conns) + occupied(idle.timers) + occupied(idle.tasks);
            println!(
                "{} {:.1} |",
                work((face, conns), &cost),
                ratio(bytes as u64, conns)
            );
            lab.end();
        }
    }
}

fn parked_alone(parked_max: usize) {
    println!(
        "\n## The tables alone: a runtime without a proxy, all connections parked, {ACTIVE} of them send {REQUESTS_EACH} bytes each, one by one\n"
    );
    println!(
        "| kernel | connections | calls | ring entries | turns | polls | timer steps | bytes of a connection | of a timer | reserved for each |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for face in FACES {
        for conns in tenfold(parked_max, face) {
            let crowd = Crowd::new(face, conns);
            let idle = crowd.footprint();
            let each = u32::try_from(REQUESTS_EACH).unwrap();
            let (calls, spent) = crowd.talk(ACTIVE, each);
            let per = |count| ratio(count, ACTIVE * each as usize);
            let reserved = |places: Places| places.reserved * places.bytes_each;
            println!(
                "| {} | {conns} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {} | {} | {:.1} |",
                name(face),
                per(calls.calls),
                per(calls.entries),
                per(spent.turns),
                per(spent.polls),
                per(spent.timer_steps),
                idle.conns.bytes_each,
                idle.timers.bytes_each,
                ratio((reserved(idle.conns) + reserved(idle.timers)) as u64, conns),
            );
        }
    }
}

/// 1,000, 10,000 and so on. A simulated ring looks for what it cancels among all operations, which takes too long with many.
fn tenfold(max: usize, face: Face) -> impl Iterator<Item = usize> {
    let max = match face {
        Face::Readiness => max,
        Face::Completion => max.min(RING_CONNS_MAX),
    };
    std::iter::successors(Some(1000), |conns: &usize| conns.checked_mul(10))
        .take_while(move |conns| *conns <= max)
}

fn work((face, size): (Face, usize), cost: &Cost) -> String {
    format!(
        "| {} | {size} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
        name(face),
        cost.each(cost.calls.calls),
        cost.each(cost.calls.entries),
        cost.each(cost.work.turns),
        cost.each(cost.work.polls),
        cost.each(cost.work.timer_steps),
    )
}

fn occupied(places: Places) -> usize {
    places.occupied * places.bytes_each
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn ratio(count: u64, by: usize) -> f64 {
    count as f64 / by as f64
}

fn name(face: Face) -> &'static str {
    match face {
        Face::Readiness => "epoll",
        Face::Completion => "io_uring",
    }
}

const FACES: [Face; 2] = [Face::Readiness, Face::Completion];
const WORK_HEAD: &str =
    "| kernel | how many | calls | ring entries | turns | polls | timer steps |";
const WORK_RULE: &str = "| --- | ---: | ---: | ---: | ---: | ---: | ---: |";
const CONNS_EACH: usize = 16;
const WARM_UP_EACH: u64 = 4;
const REQUESTS_EACH: u64 = 8;
/// Fewer than the tasks up to which an idle connection keeps its own for a while.
const ACTIVE: usize = 500;
const RING_CONNS_MAX: usize = 10_000;
/// Long after the last request, and long before the first connection is too old.
const PARKED_BY_THEN: Duration = Duration::from_secs(10);
