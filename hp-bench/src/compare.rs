//! Targets side by side in one session: interleaved rounds, paired ratios, and a control that says what noise is.
//!
//! ```text
//! round 1:  B  A  A'      each a run of its own, in an order that the seed draws
//! round 2:  A' B  A       A' is A once more: what its ratio differs from 1 is noise
//! ...                     ratios are taken within a round, the interval over the rounds
//! ```
//!
//! Must not know: sockets, how a run is made.

mod contest;
mod document;
mod session;
pub mod statistics;
mod table;

use std::collections::BTreeMap;
use std::io;

use hp_core::sys::signal::Signal;

use crate::Run;
use crate::format::one_time;
use crate::output::JsonTo;
use crate::plan::Plan;
use crate::present::{FAILED, INTERRUPTED, TERMINATED, check_writable, write, write_file};
use crate::report::{Report, document as document_of};

pub use contest::{Arm, Contest};
pub use document::{
    Compared, Comparison, Done, Planned, Ratio, Round, SCHEMA, to_json as comparison_json,
};
pub use session::{Measured, Metric, Session};

/// Runs all rounds and tells the ratios; gives the exit status.
///
/// # Errors
/// Exit status and a line for the user.
pub fn compare(contest: &Contest) -> Result<u8, (u8, String)> {
    let failed = |line| (FAILED, line);
    check_writable(contest.output()).map_err(failed)?;
    let is_quiet = contest.output().quiet;
    let mut signal = None;
    let session = Session::run(contest, |arm, round| {
        let run = crate::run(&arm.plan)
            .map_err(|error| (FAILED, format!("target {}: {error}", arm.name)))?;
        if run.interrupted.is_some() {
            signal = run.interrupted;
            return Ok(None);
        }
        let measured = measured(&arm.plan, &run);
        if !is_quiet {
            let line = progress(contest, arm, round, &measured);
            write(io::stderr(), &line).map_err(failed)?;
        }
        Ok(Some(measured))
    })?;
    let comparison = session.comparison(contest);
    let text = table::table(&comparison);
    match contest.output().json_to() {
        JsonTo::Stdout => {
            if !is_quiet {
                write(io::stderr(), &text).map_err(failed)?;
            }
            write(io::stdout(), &comparison_json(&comparison)).map_err(failed)?;
        }
        to => {
            if !is_quiet {
                write(io::stdout(), &text).map_err(failed)?;
            }
            if let JsonTo::File(file) = to {
                write_file(&file, &comparison_json(&comparison), "--json").map_err(failed)?;
            }
        }
    }
    Ok(match signal {
        Some(Signal::Interrupt) => INTERRUPTED,
        Some(_terminated) => TERMINATED,
        None => session.exit_status(contest),
    })
}

/// What a run says of its target.
fn measured(plan: &Plan, run: &Run) -> Measured {
    let document = document_of(&Report {
        plan,
        record: &run.record,
        addr: &run.addr,
        engine: &run.engine,
        engine_story: &run.engine_story,
        started_wall_ns: run.started_wall_ns,
        interrupted: false,
        series: &run.series,
        costs: &run.costs,
    });
    let mut values = BTreeMap::new();
    for metric in Metric::ALL {
        if let Some(value) = metric.of(&document) {
            values.insert(metric, value);
        }
    }
    let limited_by = document.verdict.limited_by.clone();
    let void = match limited_by.as_deref() {
        Some("void") => Some("fewer connections than asked were in order".to_owned()),
        _ if run.record.errors.blamed() > 0 => {
            let classes = document.errors.iter();
            let classes: Vec<String> = classes
                .map(|(class, count)| format!("{class} {count}"))
                .collect();
            Some(format!("errors: {}", classes.join(", ")))
        }
        _ if document.run.responses == 0 => Some("no answer".to_owned()),
        _ => None,
    };
    Measured {
        started: document.started,
        addr: document.target.addr,
        engine: document.tool.engine,
        steal_pct: document.machine.and_then(|machine| machine.steal_pct),
        limited_by,
        void,
        values,
    }
}

fn progress(contest: &Contest, arm: &Arm, round: u32, measured: &Measured) -> String {
    let what = match (&measured.void, measured.values.get(&Metric::Throughput)) {
        (Some(cause), _) => format!("VOID, {cause}"),
        (None, Some(rate)) => format!("{rate:.0}/s"),
        (None, None) => match measured.values.get(&Metric::P99) {
            Some(p99) => format!("p99 {}", one_time(*p99)),
            None => "done".to_owned(),
        },
    };
    format!(
        "  round {round}/{}  {:<2}  {what}\n",
        contest.rounds, arm.name
    )
}
