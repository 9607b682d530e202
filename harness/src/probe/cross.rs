//! The same load once by hp-bench and once by another program's load generator, and the ratio of what both say of answers per
//! second: where they are far apart, one of them is wrong.
//!
//! `extra`: as of `tool`.

use std::time::Duration;

use serde_json::{Value, json};

use super::{note, tool};
use crate::error::Error;
use crate::load::{self, Scene};
use crate::raw::Record;
use crate::workload::{Load, Row, Seats, Workload};

/// How long a visit should take.
pub(super) fn length(load: &Load) -> Result<Duration, String> {
    Ok(tool::length(load)? + Duration::from_secs_f64(load.seconds))
}

/// Runs the other tool, then hp-bench.
pub(super) fn visit(scene: &Scene<'_>, record: &mut Record) -> Result<(), Error> {
    let mut other = Record::default();
    tool::visit(scene, &mut other)?;
    record.void.extend(other.void);
    load::visit(scene, record)?;
    record.extra.append(&mut other.extra);
    let rps = |value: Option<f64>| value.filter(|rps| *rps > 0.0);
    let ours = rps(record.load.as_ref().map(|document| document.run.rps));
    let theirs = rps(record.extra.get("rps").and_then(Value::as_f64));
    let Some(ratio) = theirs.zip(ours).map(|(theirs, ours)| theirs / ours) else {
        return Ok(());
    };
    note(record, "rps_by_that_of_hp_bench", json!(ratio));
    record.flags.extend(apart(ratio));
    Ok(())
}

/// Says that the two are further apart than noise makes them.
fn apart(ratio: f64) -> Option<String> {
    let is_apart = ratio.max(1.0 / ratio) > FACTOR_MAX;
    is_apart.then(|| {
        format!("CROSS-CHECK the other tool counted {ratio:.2} times the answers per second")
    })
}

/// Adds the check to a plan's workloads, on the plain closed loop that is nearest to 100 connections.
///
/// # Errors
/// That there is no such load, in a line.
pub fn add(workloads: &mut Vec<Workload>, tool: &str) -> Result<(), String> {
    let is_plain = |row: &&Row| {
        let load = &row.load;
        let usual = load.rate.is_none() && load.reuse == 0 && !load.close && load.pipeline == 1;
        usual && load.flags.is_empty() && load.request_bytes == 0
    };
    let rows = workloads.iter().flat_map(|workload| {
        let is_split = workload.kind == "load" && workload.seats == Seats::Split;
        let rows = workload
            .rows
            .iter()
            .filter(is_plain)
            .filter(move |_row| is_split);
        rows.map(move |row| (workload, row))
    });
    let nearest = rows.min_by_key(|(_workload, row)| row.load.connections.abs_diff(CONNECTIONS));
    let (workload, row) =
        nearest.ok_or("plan has no plain closed loop that --cross-check could repeat")?;
    let subject = workload
        .control
        .as_ref()
        .unwrap_or(&workload.reference)
        .clone();
    let seconds = row.load.seconds.ceil();
    let words = [
        "-t1",
        &format!("-c{}", row.load.connections),
        &format!("-d{seconds:.0}s"),
        "--latency",
        "{url}",
    ];
    let mut load = Load {
        warmup_ms: 0,
        ..row.load.clone()
    };
    load.extra.insert("tool".into(), json!(tool));
    load.extra.insert("args".into(), json!(words));
    let check = Workload {
        name: NAME.into(),
        title: format!(
            "The load of {} {} by hp-bench, and by {tool}",
            workload.name, row.name
        ),
        kind: NAME.into(),
        seats: Seats::Split,
        rounds: ROUNDS,
        reference: subject.clone(),
        control: None,
        calibrator: None,
        subjects: vec![subject],
        gate: false,
        notes: vec![format!(
            "Answers per second by {tool}, by those of hp-bench: more than 10 % apart, and one of them is wrong."
        )],
        rows: vec![Row {
            name: row.name.clone(),
            load,
        }],
    };
    workloads.push(check);
    Ok(())
}

/// The word of the kind, and the name of the workload.
pub const NAME: &str = "cross-check";
/// What can check.
pub const TOOLS: [&str; 1] = ["wrk"];

const CONNECTIONS: u32 = 100;
const ROUNDS: u32 = 3;
const FACTOR_MAX: f64 = 1.1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    const PLAN: &str = r#"
        name = "a"
        title = "A"
        reference = "hp-uring"
        control = "hp-uring"
        subjects = ["hp-uring"]
        [[workload]]
        name = "churn"
        title = "Churn"
        load = { reuse = 1 }
        connections = [100]
        [[workload]]
        name = "small"
        title = "Small"
        load = { seconds = 1.5 }
        connections = [16, 90, 512]
    "#;

    #[test]
    fn the_plain_load_nearest_to_a_hundred_is_checked() {
        let mut plan = Plan::parse(PLAN).unwrap();
        add(&mut plan.workloads, "wrk").unwrap();
        let check = plan.workloads.last().unwrap();
        assert_eq!(
            (check.kind.as_str(), check.rows[0].name.as_str()),
            (NAME, "c90")
        );
        assert_eq!(
            check.rows[0].load.extra["args"],
            json!(["-t1", "-c90", "-d2s", "--latency", "{url}"])
        );
        assert_eq!(
            Plan::parse(&plan.to_text()).unwrap(),
            plan,
            "the resolved plan is a plan"
        );
        assert_eq!(length(&check.rows[0].load), Ok(Duration::from_secs(4)));
    }

    #[test]
    fn a_plan_without_a_plain_load_has_nothing_to_check() {
        let mut plan = Plan::parse(&PLAN.replace("seconds = 1.5", "rate = 100.0")).unwrap();
        assert!(
            add(&mut plan.workloads, "wrk")
                .unwrap_err()
                .contains("no plain closed loop")
        );
    }

    #[test]
    fn tools_that_are_a_tenth_apart_are_flagged() {
        for (ratio, is_flagged) in [
            (1.0, false),
            (1.09, false),
            (0.92, false),
            (1.11, true),
            (0.9, true),
        ] {
            assert_eq!(apart(ratio).is_some(), is_flagged, "{ratio}");
        }
    }
}
