//! Reloading under load: the row's load runs at its rate, and the server is told again and again to read its configuration anew, which is another one
//! each time where its template names `{turn}`. No
//! request may fail, and what the slowest one waited is told.
//!
//! `extra`: `every_s` (between two reloads, from the load's start).
//!
//! By which signal a subject reloads is in its catalogue entry; one without is void here. Whether it did reload is not seen from
//! outside: its log tells, which the session keeps, and where workers are processes how many of them there were.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::{note, number};
use crate::clock;
use crate::cpu::{self, Look};
use crate::error::Error;
use crate::load::{self, Outcome, Running, Scene};
use crate::raw::Record;
use crate::workload::Load;

/// How long a visit should take.
pub(super) fn length(load: &Load) -> Result<Duration, String> {
    every(load)?;
    if load.rate.is_none() && !load.extra.contains_key("rate_of_slowest") {
        return Err(
            "a reload is looked at beside a schedule; write rate, or extra.rate_of_slowest".into(),
        );
    }
    Ok(Duration::from_secs_f64(load.seconds) + Duration::from_millis(load.warmup_ms.into()))
}

/// Runs the load, and reloads the server while it runs.
pub(super) fn visit(scene: &Scene<'_>, record: &mut Record) -> Result<(), Error> {
    let every = match every(scene.load) {
        Ok(every) => every,
        Err(cause) => {
            record.void.push(cause);
            return Ok(());
        }
    };
    if scene.server.reload.is_none() {
        let name = &scene.server.name;
        record.void.push(format!(
            "RELOAD is not known of {name}: its catalogue entry names no signal"
        ));
        return Ok(());
    }
    let pid = scene.server.process.pid();
    let roots = scene.roots();
    let before = Look::take(&roots, clock::monotonic_ns());
    let mut running = Running::start(scene)?;
    let (mut signals, mut processes) = (0_usize, BTreeSet::from_iter(cpu::tree(pid)));
    while running.goes_on_until(clock::now() + every, scene.interrupt) {
        signals += 1;
        if let Err(cause) = scene.server.reload(signals) {
            record
                .void
                .push(format!("the configuration could not be written ({cause})"));
            break;
        }
        processes.extend(cpu::tree(pid));
    }
    let outcome = running.end(scene.interrupt)?;
    let after = Look::take(&roots, clock::monotonic_ns());
    processes.extend(cpu::tree(pid));
    scene.fill_usage(&before, &after, record);
    note(record, "signals_sent", signals);
    note(record, "processes_seen", processes.len());
    if signals == 0 {
        record
            .void
            .push("the load ended before the first reload; write a shorter extra.every_s".into());
    }
    match outcome {
        Outcome::Reported(document, code) => {
            note(record, "max_ns", json!(document.latency_ns.max));
            // A server that reloads may close a connection that idles: as where requests ask for it, none has to stay.
            let load = Load {
                close: true,
                ..scene.load.clone()
            };
            load::judge_and_keep(&load, *document, code, record);
        }
        Outcome::Silent(reason) => record.void.push(reason),
    }
    Ok(())
}

fn every(load: &Load) -> Result<Duration, String> {
    number(load, "every_s", 1.0, (0.1, 600.0)).map(Duration::from_secs_f64)
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;
    use super::*;

    #[test]
    fn a_reload_needs_a_schedule() {
        let mut row = load("every_s = 0.5");
        assert!(length(&row).unwrap_err().contains("write rate"));
        row.rate = Some(1_000.0);
        row.seconds = 5.0;
        row.warmup_ms = 500;
        assert_eq!(length(&row), Ok(Duration::from_millis(5_500)));
        row.extra = load("every_s = 0").extra;
        assert!(length(&row).unwrap_err().contains("from 0.1 to 600"));
    }
}
