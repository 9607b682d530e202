//! What the numbers of a run are worth: what limited it, whether its goals were reached, and the exit status that says so.
//!
//! Must not know: how it is shown.

use std::time::Duration;

use crate::cli::load::Stamp;
use crate::observe::Costs;
use crate::plan::{Pace, Plan};
use crate::record::{Clock, ErrorClass, Record};
use crate::result::{Gate, Verdict};

/// Judges a finished run.
pub fn judge(plan: &Plan, record: &Record, costs: &Costs) -> Verdict {
    let limit = limit(plan, record, costs);
    let gates = plan.goals.iter().map(|goal| {
        let reached = goal.check(record);
        Gate {
            expr: goal.text.clone(),
            ok: reached.ok,
            value: reached.value,
        }
    });
    Verdict {
        limited_by: limit.map(|limit| limit.name().to_owned()),
        slo: gates.collect(),
        valid: !matches!(limit, Some(Limit::Void | Limit::Client)),
        notes: notes(plan, record, limit),
    }
}

/// The exit status of a run that was not interrupted: 0, 3, 4 or 5.
pub fn exit_status(plan: &Plan, record: &Record, verdict: &Verdict) -> u8 {
    let has_budget = plan.goals.iter().any(crate::slo::Goal::is_error_budget);
    let is_void = verdict.limited_by.as_deref() == Some(Limit::Void.name());
    let by_client = verdict.limited_by.as_deref() == Some(Limit::Client.name());
    if is_void || (record.errors.blamed() > 0 && !has_budget) {
        ERRORS
    } else if verdict.slo.iter().any(|gate| !gate.ok) {
        GOALS
    } else if by_client && plan.strict {
        CLIENT
    } else {
        0
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Limit {
    /// Fewer connections ran than were asked for: there is nothing to limit.
    Void,
    /// This program.
    Client,
    /// The observed target.
    Proxy,
    /// The time that answers take: more connections would bring more.
    Latency,
}

impl Limit {
    fn name(self) -> &'static str {
        match self {
            Self::Void => "void",
            Self::Client => "client",
            Self::Proxy => "proxy",
            Self::Latency => "latency",
        }
    }
}

/// What limited the run; `None` where nothing did, or nothing tells.
///
/// A late send counts as ours only where a connection was free: with every connection waiting for its answer it is the
/// server's time that delays the next request.
fn limit(plan: &Plan, record: &Record, costs: &Costs) -> Option<Limit> {
    let short = record.connections_short.as_secs_f64();
    if short > record.elapsed.as_secs_f64() * SHORT_SHARE_MAX {
        return Some(Limit::Void);
    }
    let target = costs.target.as_ref();
    // The target's share is one of the whole window; in the turns of others nothing asked it for anything.
    let in_turn = record
        .in_turn
        .map(|time| time.as_secs_f64() / record.elapsed.as_secs_f64());
    let of_turns = |busy: f64| busy / in_turn.filter(|share| *share > 0.0).unwrap_or(1.0);
    let target_busy = target.and_then(|target| target.busy).map(of_turns);
    let target_is_full = target_busy.is_some_and(|busy| busy >= TARGET_FULL);
    // A thread that waits busily is always full; where it is the limit, its lag shows it.
    let client_is_full = record.busiest_thread >= CLIENT_FULL && plan.spin.is_zero();
    if plan.pace == Pace::Closed {
        return match target_busy {
            _ if target_is_full => Some(Limit::Proxy),
            _ if client_is_full => Some(Limit::Client),
            Some(_) => Some(Limit::Latency),
            None => None,
        };
    }
    let p99 = |histogram: &hdrhistogram::Histogram<u64>| histogram.value_at_quantile(0.99);
    let own_lag = p99(record.own_lag());
    let response = record.response().map_or(0, p99);
    // Below a microsecond the histograms do not tell anything apart.
    if own_lag > 1_000 && own_lag.saturating_mul(LAG_PARTS) > response {
        return Some(Limit::Client);
    }
    let ratio = rate_ratio(plan, record)?;
    match () {
        () if ratio >= RATE_RATIO_MIN => None,
        () if target_is_full => Some(Limit::Proxy),
        () if client_is_full => Some(Limit::Client),
        () => Some(Limit::Latency), // Every connection was waiting: that alone leaves requests unsent.
    }
}

/// Requests sent by requests that were due in the counted window; `None` without a schedule.
pub fn rate_ratio(plan: &Plan, record: &Record) -> Option<f64> {
    if plan.pace == Pace::Closed {
        return None;
    }
    let reused = record.errors.of(ErrorClass::EofIdleReuse); // Sent twice, asked once.
    let sent = record.requests.saturating_sub(reused);
    let due = sent + record.unsent;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share, shown with a few digits"
    )]
    let ratio = sent as f64 / due as f64;
    (due > 0).then_some(ratio)
}

fn notes(plan: &Plan, record: &Record, limit: Option<Limit>) -> Vec<String> {
    let mut notes = Vec::new();
    if plan.pace == Pace::Closed {
        notes.push(CLOSED_LOOP_NOTE.to_owned());
    }
    if plan.pace == Pace::Closed && record.clock() == Clock::Response {
        notes.push("the latency includes the connect where a request needed one".to_owned());
    }
    if let Some(stall) = &plan.words.stall {
        notes.push(format!(
            "connections stopped on purpose ({stall}): the latency includes it"
        ));
    }
    if let Some(turns) = plan.turns {
        notes.push(format!(
            "turns of {:?}, {} of {}: the answers per second are of the time in turn",
            turns.length, turns.turn, turns.of
        ));
    }
    if plan.stamp == Stamp::Batch {
        notes.push(BATCH_NOTE.to_owned());
    }
    match limit {
        Some(Limit::Void) => notes.push(format!(
            "void: fewer than {} connections were in order for {:.1} s, at least {} at any time",
            plan.connections,
            record.connections_short.min(record.elapsed * plan.threads).as_secs_f64(),
            record.connections_min,
        )),
        Some(Limit::Client) if plan.pace == Pace::Closed => notes.push(format!(
            "the busiest thread used {:.0} % of a CPU: give more threads or CPUs, or read this as a lower bound",
            record.busiest_thread * 100.0
        )),
        Some(Limit::Client) => notes.push(format!(
            "the generator sent late by itself (p99 {:?}): give it a CPU of its own, or a lower rate",
            Duration::from_nanos(record.own_lag().value_at_quantile(0.99))
        )),
        Some(Limit::Latency) if plan.pace != Pace::Closed => {
            notes.push("all connections waited for answers: give more of them, or a lower rate".to_owned());
        }
        _ => (),
    }
    if record.unsent > 0 {
        notes.push(format!(
            "{} requests were due and never sent; what they waited is in the response times",
            record.unsent
        ));
    }
    if record.idle_lost > 0 {
        notes.push(format!(
            "{} idle connections were closed or never answered",
            record.idle_lost
        ));
    }
    notes
}

const GOALS: u8 = 3;
/// There were errors, or fewer connections than asked for.
pub const ERRORS: u8 = 4;
/// This program was the limit.
pub const CLIENT: u8 = 5;
/// Said wherever a closed loop's latency is shown.
pub(crate) const CLOSED_LOOP_NOTE: &str =
    "closed loop: a stall of the server hides the requests that were not sent";
const BATCH_NOTE: &str = "clock read once a batch: service times are longer, and lags shorter, than they were, by up to the work for one batch";
/// Share of the window in which fewer connections than asked for may be in order.
const SHORT_SHARE_MAX: f64 = 0.01;
const TARGET_FULL: f64 = 0.95;
const CLIENT_FULL: f64 = 0.90;
const RATE_RATIO_MIN: f64 = 0.995;
/// The lag's p99 is at most one part in so many of the response's.
const LAG_PARTS: u64 = 20;

#[cfg(test)]
mod tests;
