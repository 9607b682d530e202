//! The rules, written before any run, by which a visit is void, a round is repeated, and a row is labelled with the side
//! that limited it. Each is a function of figures alone.
//!
//! | seen | what follows |
//! | --- | --- |
//! | a failure, an unexpected status, fewer connections or answers than asked, Little's law broken | the visit is VOID |
//! | steal above 2 %, foreign processes above 3 % of a CPU, calibrators 5 % apart or 3 MAD off | the round is repeated |
//! | the same after the last attempt | it stays, flagged |
//! | the CPUs idled two fifths of the time that was theirs | only foreign processes repeat the round; flagged |
//! | the measured server used 95 % of its CPUs | PROXY (BACKEND where it is the backend) |
//! | load and backend used 90 % of theirs, or the load's threads 95 % of what they can | CLIENT or BACKEND |
//! | a schedule was not kept, or the load says that it was late itself | CLIENT |
//! | none of these, all on CPUs of their own | LATENCY |
//! | the direct run brought less than 1.5 times the answers | flagged: load or backend are too near |

use hp_bench::result::Document;
use hp_bench::statistics;

use crate::raw::{Limit, Record};
use crate::subject::Role;
use crate::workload::{Load, Seats};

/// What the programs of a visit may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seating {
    /// Who shares CPUs with whom.
    pub seats: Seats,
    /// CPUs of the measured server, at least 1.
    pub server_cpus: u32,
    /// CPUs of load and backend together, at least 1.
    pub others_cpus: u32,
}

/// Why a run must not be averaged; empty when it may. A server that drops work is not fast.
pub fn void_reasons(load: &Load, document: &Document, exit_code: Option<i32>) -> Vec<String> {
    let asked = load.connections;
    let mut reasons = Vec::new();
    if document.interrupted {
        reasons.push("the load was interrupted".to_owned());
    }
    reasons.extend(failures(document));
    for (class, count) in document
        .status
        .iter()
        .filter(|&(class, &count)| class != "2xx" && count > 0)
    {
        reasons.push(format!("{count} answers were {class}"));
    }
    let answers = document.run.responses;
    let due = load
        .rate
        .map_or(f64::MAX, |rate| rate * load.seconds * RATE_KEPT);
    if (answers as f64) < f64::from(asked).min(due.floor()) {
        reasons.push(format!("{answers} answers on {asked} connections"));
    }
    if document.plan.connections != asked {
        reasons.push(format!(
            "the load ran {} connections, not {asked}",
            document.plan.connections
        ));
    }
    let keeps_connections = load.reuse == 0 && !load.close;
    if let Some(least) = document
        .run
        .connections_min
        .filter(|&least| least < u64::from(asked) && keeps_connections)
    {
        reasons.push(format!("only {least} of {asked} connections stayed open"));
    }
    if load.warmup_ms == 0 && document.plan.warmup_s > 0.0 {
        reasons.push("the load left its warm-up out of the count, the CPU time has it".to_owned());
    }
    if !["50", "99"]
        .iter()
        .all(|name| document.latency_ns.p.contains_key(*name))
    {
        reasons.push("the load reported no latency".to_owned());
    }
    reasons.extend(littles_law(document));
    match exit_code {
        Some(0) => (),
        Some(_) if !reasons.is_empty() => (), // The reasons above are what the code stands for.
        Some(code) => reasons.push(format!("the load ended with exit code {code}")),
        None => reasons.push("the load was ended by a signal".to_owned()),
    }
    reasons
}

/// The failures of a run by class; a kept connection that the server closed while it was idle is none, since the request was sent
/// again.
pub fn failures(document: &Document) -> Option<String> {
    let failures = document
        .errors
        .iter()
        .filter(|&(class, &count)| class != REUSE_CLASS && count > 0);
    let failures: Vec<String> = failures
        .map(|(class, count)| format!("{class} {count}"))
        .collect();
    (!failures.is_empty()).then(|| format!("errors: {}", failures.join(", ")))
}

/// Requests under way in a closed loop on kept connections, by Little's law, and the most that can be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UnderWay {
    /// Answers per second times their mean latency, by the places that connections have for requests; above 0.
    pub share: f64,
    /// Beyond this a clock or a count is broken: 3 % above 1, and what was under way when a warm window began and when turns ended,
    /// each at most as long as the longest that was counted.
    pub most: f64,
}

/// None where the load is no closed loop, or brought fewer than 100 answers for each connection: then those under way at the
/// end are a part of the whole.
pub fn under_way(document: &Document) -> Option<UnderWay> {
    let (plan, run) = (&document.plan, &document.run);
    let is_closed = plan.mode == CLOSED && plan.reuse == 0 && !plan.close;
    if !is_closed || run.responses < LITTLE_ANSWERS_MIN * u64::from(plan.connections) {
        return None;
    }
    let places = f64::from(plan.connections) * f64::from(plan.pipeline.max(1));
    let share = run.rps * (document.latency_ns.mean as f64 / 1e9) / places;
    let longest_s = document.latency_ns.max as f64 / 1e9;
    let was_warm = plan.warmup_s > 0.0 && run.active_s() > 0.0;
    let edge = if was_warm {
        longest_s / run.active_s()
    } else {
        0.0 // Nothing was under way before.
    };
    // The answers that a turn leaves under way come in the turn of another, where no time is counted.
    let tails = plan.turn_s.filter(|turn_s| *turn_s > 0.0);
    let tails = tails.map_or(0.0, |turn_s| longest_s / turn_s);
    let most = 1.0 + LITTLE_SHARE + edge + tails;
    (share.is_finite() && share > 0.0).then_some(UnderWay { share, most })
}

/// Why Little's law voids a visit.
///
/// Fewer requests under way than places are no fault: a connection rests from its answer until the load's turn is over, in
/// which all that came together is looked at before anything leaves.
pub fn littles_law(document: &Document) -> Option<String> {
    let share = under_way(document)
        .filter(|under_way| under_way.share > under_way.most)?
        .share;
    Some(format!(
        "LITTLE mean latency times answers per second is {:.0} % of the connections: a clock or a count is wrong",
        share * 100.0
    ))
}

/// Which side was the limit of a visit; none where nothing tells.
pub fn limit(record: &Record, load: &Load, role: Role, seating: Seating) -> Option<Limit> {
    if !record.counts() {
        return Some(Limit::Void);
    }
    let document = record.load.as_ref()?;
    // In the turns of another these programs have nothing to do.
    let window_ns = document.run.active_s() * 1e9;
    if window_ns <= 0.0 {
        return None;
    }
    // What was used before the window, by connecting, is small beside it, and counts towards saturation.
    let share =
        |cpu_ns: Option<u64>, cpus: u32| cpu_ns.map(|ns| ns as f64 / window_ns / f64::from(cpus));
    let server = share(record.server.cpu_ns, seating.server_cpus)?;
    let client = share(record.client.cpu_ns, 1)?;
    // The backend is looked at from before the warm-up on, the others from its end.
    let looked_at = 1.0 + document.plan.warmup_s / document.run.elapsed_s;
    let backend = share(record.backend.cpu_ns, 1).unwrap_or(0.0) / looked_at;
    let server_full = if role == Role::Backend {
        Limit::Backend
    } else {
        Limit::Proxy
    };
    if seating.seats == Seats::Split && server >= SERVER_FULL {
        return Some(server_full);
    }
    let behind = backend / f64::from(seating.server_cpus);
    if seating.seats == Seats::Apart && server + behind >= SERVER_FULL {
        let is_backend = behind > server;
        return Some(if is_backend {
            Limit::Backend
        } else {
            server_full
        });
    }
    let busier = if client >= backend {
        Limit::Client
    } else {
        Limit::Backend
    };
    if seating.seats == Seats::Split
        && (client + backend) / f64::from(seating.others_cpus) >= OTHERS_FULL
    {
        return Some(busier);
    }
    if client / f64::from(load.threads.min(load.connections)) >= SERVER_FULL {
        return Some(Limit::Client);
    }
    if load.rate.is_some() {
        let was_late = document
            .run
            .rate_ratio
            .is_some_and(|ratio| ratio < RATE_KEPT)
            || document.verdict.limited_by.as_deref() == Some("client");
        return was_late.then_some(Limit::Client);
    }
    let everything = server * f64::from(seating.server_cpus) + client + backend;
    let is_full = seating.seats == Seats::Shared
        && everything / f64::from(seating.server_cpus) >= OTHERS_FULL;
    (!is_full).then_some(Limit::Latency)
}

/// What a reader has to know of one visit.
pub fn flags(record: &Record) -> Vec<String> {
    let mut flags = disturbances(record);
    let reused = record
        .load
        .as_ref()
        .and_then(|load| load.errors.get(REUSE_CLASS))
        .copied()
        .unwrap_or(0);
    if reused > 0 {
        flags.push(format!(
            "REUSE {reused} kept connections were closed just when they were used again"
        ));
    }
    flags
}

/// Who else used the machine during a visit, beyond what a round may have.
pub fn disturbances(record: &Record) -> Vec<String> {
    steal(record).into_iter().chain(foreign(record)).collect()
}

fn steal(record: &Record) -> Option<String> {
    let steal = record.machine.steal_pct?;
    (steal > STEAL_PCT_MAX).then(|| format!("STEAL {steal:.1} % of the machine's time"))
}

fn foreign(record: &Record) -> Option<String> {
    let elapsed_ns = record.machine.elapsed_ns.max(1) as f64;
    let pct = record.machine.foreign_cpu_ns.unwrap_or(0) as f64 * 100.0 / elapsed_ns;
    (pct > FOREIGN_PCT_MAX).then(|| format!("FOREIGN processes used {pct:.1} % of a CPU"))
}

/// Says that the CPUs idled for a large part of the time that was theirs, over a row's part of a round; none where they were busy, or where
/// that is not known.
///
/// A virtual CPU that idles is given away. Until it is back after a wake-up the kernel counts steal, whether or not a neighbour
/// had anything to do, and the wake-ups are most of what a request costs: a row that waits for one answer at a time has both
/// in each round, and would be repeated for ever.
pub fn idling(round: &[Record]) -> Option<String> {
    let shares: Vec<f64> = round.iter().filter_map(idle_share).collect();
    let share = shares.iter().sum::<f64>() / shares.len() as f64;
    (share >= IDLE_SHARE_MIN).then(|| {
        format!(
            "IDLING the CPUs idled {:.0} % of their time: what was stolen, and how the calibrator moved, is mostly wake-ups",
            share * 100.0
        )
    })
}

/// Idle time by the time that was not stolen, over all CPUs.
fn idle_share(record: &Record) -> Option<f64> {
    let machine = &record.machine;
    let cpus = machine.busy_pct.len() as f64;
    let busy_pct = machine.busy_pct.iter().sum::<f64>() / cpus;
    let ours_pct = 100.0 - machine.steal_pct?;
    let share = 1.0 - busy_pct / ours_pct;
    (cpus > 0.0 && ours_pct > 0.0).then(|| share.clamp(0.0, 1.0))
}

/// Why a round has to be repeated; empty when it stands. `earlier` are the calibrators' costs per request in rounds of
/// the same row that stand. Where the CPUs were [`idling`], only foreign processes are a reason.
pub fn rejections(round: &[Record], earlier: &[f64]) -> Vec<String> {
    let is_idling = idling(round).is_some();
    let mut reasons: Vec<String> = Vec::new();
    for record in round {
        let stolen = steal(record).filter(|_stolen| !is_idling);
        let found = stolen.into_iter().chain(foreign(record));
        reasons.extend(found.map(|what| format!("{what}, at {}", record.subject)));
    }
    if is_idling {
        return reasons;
    }
    let costs = calibrator_costs(round);
    if let [first, last] = costs[..] {
        let apart = (first / last).max(last / first) - 1.0;
        if apart > CALIBRATORS_APART {
            reasons.push(format!(
                "CALIBRATOR moved by {:.1} % inside the round",
                apart * 100.0
            ));
        }
    }
    let is_distribution = earlier.len() >= CALIBRATORS_MIN;
    let known = statistics::median(earlier).zip(statistics::scaled_mad(earlier));
    if let Some((median, scale)) = known.filter(|_known| is_distribution) {
        // A row whose calibrators agree to the last digit must not reject everything else.
        let bound = (3.0 * scale).max(median * CALIBRATORS_APART);
        if let Some(far) = costs.iter().find(|cost| (**cost - median).abs() > bound) {
            let off = (far / median - 1.0) * 100.0;
            reasons.push(format!("CALIBRATOR was {off:+.1} % off its median"));
        }
    }
    reasons
}

/// The costs per request of a round's calibrators, in their order.
pub fn calibrator_costs(round: &[Record]) -> Vec<f64> {
    let calibrators = round.iter().filter(|record| record.is_calibrator());
    calibrators
        .filter_map(Record::server_cpu_ns_per_request)
        .collect()
}

/// Says that load and backend are too near to what they are to measure: a closed loop's direct answers per second are
/// less than 1.5 times those through the subject.
pub fn near_direct(direct_rps: f64, rps: f64) -> Option<String> {
    let is_near = rps > 0.0 && direct_rps < DIRECT_FACTOR * rps;
    is_near.then(|| {
        format!(
            "NEAR-DIRECT the direct run brought {:.2} times the answers",
            direct_rps / rps
        )
    })
}

/// hp-bench's name for a kept connection that the server closed while it was idle; it is tried again, and no failure.
const REUSE_CLASS: &str = "eof_idle_reuse";
/// The mode of a closed loop, in its document.
const CLOSED: &str = "closed";
const LITTLE_SHARE: f64 = 0.03;
/// For each connection.
const LITTLE_ANSWERS_MIN: u64 = 100;
const SERVER_FULL: f64 = 0.95;
const OTHERS_FULL: f64 = 0.90;
pub(crate) const RATE_KEPT: f64 = 0.995;
const STEAL_PCT_MAX: f64 = 2.0;
const FOREIGN_PCT_MAX: f64 = 3.0;
/// Closed loops on 16 connections and more leave a tenth, one connection a half.
const IDLE_SHARE_MIN: f64 = 0.4;
const CALIBRATORS_APART: f64 = 0.05;
/// Fewer are no distribution that another one could be far from.
const CALIBRATORS_MIN: usize = 5;
const DIRECT_FACTOR: f64 = 1.5;

#[cfg(test)]
#[path = "label/tests.rs"]
mod tests;
