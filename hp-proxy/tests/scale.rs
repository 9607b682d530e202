//! What a request costs as workers and connections grow: which lines of memory workers write that others look at, and how much work there is.
//! In simulation, where all of it is counted and none is measured.
#![expect(
    clippy::unwrap_used,
    reason = "the models are functions of a test, not tests themselves"
)]

#[macro_use]
#[path = "faces/mod.rs"]
mod faces;
#[path = "scale/crowd.rs"]
mod crowd;
#[path = "from_file/mod.rs"]
mod from_file;
#[path = "scale/load.rs"]
mod load;

use crowd::Crowd;
use hp_core::rt::sim::Face;
use hp_core::rt::sim::lines::{self, Touches};
use load::{Cost, Lab};
use std::time::Duration;

facts! {
    a_plain_request_writes_no_line_that_another_worker_touches,
    nor_does_one_on_a_connection_that_was_parked,
    counters_are_lines_that_others_only_read,
    a_worker_that_sums_counters_up_reads_lines_of_others,
    a_method_that_looks_at_load_writes_lines_that_others_read,
    a_limit_that_workers_lend_each_other_is_seen,
    a_connection_that_begins_writes_a_line_that_others_read,
    a_request_is_as_much_work_with_many_workers_as_with_one,
    a_request_is_as_much_work_beside_many_connections_as_beside_few,
    an_idle_connection_is_a_place_in_two_tables,
}

fn a_plain_request_writes_no_line_that_another_worker_touches(face: Face) {
    for workers in [2, 5] {
        let lab = warm(face, workers, "");
        let before = requests_by_worker(&lab);
        let cost = lab.ask(CONNS, 100);
        let after = requests_by_worker(&lab);
        assert!(
            before.iter().zip(&after).all(|(was, is)| was < is),
            "every worker has served: {before:?}, {after:?}"
        );
        assert_eq!(
            cost.lines.shared(&lab.workers()),
            NOTHING,
            "{workers} workers"
        );
        assert!(
            cost.lines.own(&lab.workers()).writes > 0,
            "the tally sees what is written"
        );
        lab.end();
    }
}

fn nor_does_one_on_a_connection_that_was_parked(face: Face) {
    let lab = warm(face, 2, "");
    lab.pause(Duration::from_secs(10));
    let cost = lab.ask(CONNS, 1);
    assert_eq!(cost.lines.shared(&lab.workers()), NOTHING);
    lab.end();
}

/// A request that is understood, that reuses a connection, and is answered: three counters of its worker's row.
const COUNTED_EACH: u64 = 3;

fn counters_are_lines_that_others_only_read(face: Face) {
    let lab = warm(face, 2, "");
    let cost = lab.ask_while(CONNS, 100, &|| {
        lab.proxy.sum(|row| &row.requests);
    });
    assert_eq!(cost.lines.shared(&lab.workers()), NOTHING);
    let counted = COUNTED_EACH * cost.requests;
    assert_eq!(counter_writes(&lab, &cost), counted);
    assert_eq!(cost.lines.told(&lab.workers()).writes, counted);
    lab.end();
}

/// Else the facts above could never fail: a line that another worker reads is seen.
fn a_worker_that_sums_counters_up_reads_lines_of_others(face: Face) {
    let lab = warm(face, 2, "");
    let workers = lab.workers();
    let before = requests_by_worker(&lab)[1];
    let cost = lab.ask_while(CONNS, 100, &|| {
        let acted = lines::act_as(workers[0]);
        lab.proxy.sum(|row| &row.requests);
        lines::act_as(acted);
    });
    let of_other = requests_by_worker(&lab)[1] - before;
    assert!(of_other > 0);
    let shared = cost.lines.shared(&workers);
    assert_eq!(shared.writes, COUNTED_EACH * of_other);
    assert!(shared.reads > 0);
    lab.end();
}

/// Nor if workers that do share memory seemed not to: two writes for each request, one when it is sent and one when it is answered.
fn a_method_that_looks_at_load_writes_lines_that_others_read(face: Face) {
    let lab = warm(face, 2, "balance = \"least_conn\"");
    let cost = lab.ask(CONNS, 100);
    let shared = cost.lines.shared(&lab.workers());
    assert_eq!(shared.writes, 2 * cost.requests);
    assert!(shared.reads >= cost.requests, "{shared:?}");
    lab.end();
}

fn a_limit_that_workers_lend_each_other_is_seen(face: Face) {
    let lab = warm(face, 2, "max_conns = 2");
    let cost = lab.ask(CONNS, 100);
    assert!(cost.lines.shared(&lab.workers()).writes > 0);
    lab.end();
}

fn a_connection_that_begins_writes_a_line_that_others_read(face: Face) {
    let mut lab = warm(face, 2, "");
    lines::watch();
    lab.open(CONNS);
    let shared = lines::seen().shared(&lab.workers());
    // Each count is looked at, and one is changed.
    assert!(shared.writes >= CONNS as u64, "{shared:?}");
    assert!(shared.reads >= 2 * CONNS as u64, "{shared:?}");
    lab.end();
}

fn a_request_is_as_much_work_with_many_workers_as_with_one(face: Face) {
    let costs = [1, 32].map(|workers: u32| {
        let mut lab = Lab::new(face, workers, "");
        let conns = CONNS * workers as usize;
        lab.open(conns);
        lab.ask(conns, 4);
        let cost = lab.ask(conns, 16);
        lab.end();
        cost
    });
    check_flat(&costs);
}

fn a_request_is_as_much_work_beside_many_connections_as_beside_few(face: Face) {
    let costs = [100, 3000].map(|conns| {
        let mut lab = Lab::new(face, 1, "");
        lab.open(conns);
        lab.pause(Duration::from_secs(10));
        let cost = lab.ask(100, 16);
        lab.end();
        cost
    });
    check_flat(&costs);
}

/// The second costs no more than the first, but for the chance by which a world gives turns.
fn check_flat([few, many]: &[Cost; 2]) {
    let counts = |cost: &Cost| {
        let kernel = cost.calls.calls + cost.calls.entries;
        let counts = [kernel, cost.work.polls, cost.work.timer_steps];
        counts.map(|count| cost.each(count))
    };
    let (few, many) = (counts(few), counts(many));
    let is_flat = few
        .iter()
        .zip(&many)
        .all(|(few, many)| *many <= few * 1.1 + 0.5);
    assert!(is_flat, "calls, polls and timer steps: {few:?}, {many:?}");
}

fn an_idle_connection_is_a_place_in_two_tables(face: Face) {
    for conns in [100, 3000] {
        let crowd = Crowd::new(face, conns);
        let idle = crowd.footprint();
        assert_eq!(idle.conns.occupied, conns);
        assert_eq!(idle.timers.occupied, conns);
        assert_eq!(
            idle.tasks.occupied, 2,
            "one accepts, the other takes what comes back"
        );
        // Who talks is parked again, and nothing is left over.
        let (_calls, work) = crowd.talk(100, 4);
        assert!(work.polls > 0);
        assert_eq!(crowd.footprint(), idle);
    }
}

/// Connections that have made requests before.
fn warm(face: Face, workers: u32, upstream: &str) -> Lab {
    let mut lab = Lab::new(face, workers, upstream);
    lab.open(CONNS);
    lab.ask(CONNS, 20);
    lab
}

fn requests_by_worker(lab: &Lab) -> Vec<u64> {
    let workers = 0..u32::try_from(lab.workers().len()).unwrap();
    workers
        .map(|worker| lab.proxy.rows.of(worker).requests.value())
        .collect()
}

/// What workers wrote to their rows of counters.
fn counter_writes(lab: &Lab, cost: &Cost) -> u64 {
    let rows = (0..).zip(lab.workers());
    rows.map(|(place, worker)| {
        let row = lab.proxy.rows.of(place);
        let start = std::ptr::from_ref(row).addr();
        let row = start..start + size_of_val(row);
        cost.lines.within(&row, worker).writes
    })
    .sum()
}

const CONNS: usize = 20;
const NOTHING: Touches = Touches {
    reads: 0,
    writes: 0,
};
