//! How long workloads should take, before any of them has run.
//!
//! Must not know: plans, clocks.

use crate::probe;
use crate::workload::{Behind, Load, Visiting, WARM_UP_SECONDS, Workload};

/// Seconds that the workload should take, without repeated rounds: starts and ends of each round, the first one's warm-up, every
/// visit and its overhead.
pub fn seconds(workload: &Workload) -> f64 {
    let started = workload.started().len() as f64;
    let mut behind: Vec<Behind> = workload
        .rows
        .iter()
        .map(|row| Behind::of(&row.load))
        .collect();
    behind.sort_unstable();
    behind.dedup();
    let backends = if workload.takes_turns() { 2.0 } else { 1.0 };
    let groups = behind.iter();
    let processes = groups.map(|behind| started * f64::from(behind.instances) + backends);
    let a_start = processes.sum::<f64>() * PROCESS_SECONDS;
    let warm_up = if workload.kind == "load" {
        workload.rows.len() as f64 * started * (WARM_UP_SECONDS + VISIT_OVERHEAD_SECONDS)
    } else {
        0.0
    };
    let rows = workload.rows.iter().map(|row| {
        let visit = of_visit(workload, &row.load) + VISIT_OVERHEAD_SECONDS;
        let at_once = match row.load.visit {
            Visiting::Alone => 1.0,
            Visiting::Turns => 2.0,
        };
        visit * workload.visits_per_row(&row.load) as f64 / at_once
    });
    warm_up + (a_start + rows.sum::<f64>()) * f64::from(workload.rounds)
}

/// Seconds of one visit, by its kind.
fn of_visit(workload: &Workload, load: &Load) -> f64 {
    let special = probe::kind(&workload.kind).and_then(|kind| (kind.length)(load).ok());
    let usual = || load.window_seconds() + f64::from(load.warmup_ms) / 1_000.0;
    special.map_or_else(usual, |length| length.as_secs_f64())
}

/// Until a server listens, and its end.
const PROCESS_SECONDS: f64 = 0.1;
const VISIT_OVERHEAD_SECONDS: f64 = 0.15; // hp-bench's start and end, and the looks at /proc
