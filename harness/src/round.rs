//! Rounds: every round visits every cell once, in a random order that the seed fixes, so that what drifts on the
//! machine drifts under all cells alike. Also the rules, written before any run, by which a visit is VOID.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::cpu::{self, Snapshot};
use crate::error::Error;
use crate::load::{self, Load, Outcome, Report};
use crate::process::Launcher;
use crate::sweep::{Cell, Plan};
use crate::topology::{self, Topology};

/// Raw figures of one visit to one cell.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Visit {
    /// The round, from 1.
    pub round: u32,
    /// The place within the round, from 1.
    pub place: u32,
    /// Why the visit does not count; empty when it does.
    pub void: Vec<String>,
    /// CPU time of the measured server's process tree, in ns.
    pub server_cpu_ns: Option<u64>,
    /// CPU time of the backend behind a proxy, in ns.
    pub backend_cpu_ns: Option<u64>,
    /// What the load generator reported; none when it gave no report.
    pub load: Option<Figures>,
}

/// Raw figures of the load generator.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Figures {
    /// Measured length in seconds.
    pub elapsed_s: f64,
    /// Requests sent.
    pub requests: u64,
    /// Responses received whole.
    pub responses: u64,
    /// Responses per second.
    pub rps: f64,
    /// Median latency in ns.
    pub p50_ns: Option<u64>,
    /// 99th percentile in ns.
    pub p99_ns: Option<u64>,
    /// Largest latency in ns.
    pub max_ns: Option<u64>,
    /// Failures by class.
    pub errors: BTreeMap<String, u64>,
    /// Answers by class of status.
    pub status: BTreeMap<String, u64>,
    /// Connections opened over the run.
    pub connections_opened: Option<u64>,
    /// User and system time of the load generator in ns.
    pub client_cpu_ns: Option<u64>,
}

/// A cell with all its visits, in the order of the rounds.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// The cell.
    pub cell: Cell,
    /// How server and load were kept apart.
    pub pinning: String,
    /// One visit per round.
    pub visits: Vec<Visit>,
}

impl Visit {
    /// Whether the figures may be used.
    pub fn counts(&self) -> bool {
        self.void.is_empty() && self.load.is_some()
    }

    /// CPU time of the server per completed request, in µs; none when void, or shorter than a clock tick.
    pub fn server_cpu_us(&self) -> Option<f64> {
        let load = self.load.as_ref().filter(|_| self.void.is_empty())?;
        let cpu_ns = self.server_cpu_ns.filter(|&cpu_ns| cpu_ns > 0)?;
        Some(cpu_ns as f64 / 1_000.0 / load.responses as f64)
    }
}

/// Runs every server once at full load for a second: caches, pools and page tables fill, and a server that gives no
/// answer at all ends the session before it has cost minutes.
///
/// # Errors
/// [`Error::NoReport`] when hp-bench cannot measure a server, [`Error::Died`] when one ends, [`Error::Spawn`].
pub fn warm_up(
    plan: &Plan,
    topology: &mut Topology,
    launcher: &Launcher,
    progress: &mut dyn FnMut(&str),
) -> Result<(), Error> {
    let targets = plan.targets();
    for (index, &target) in targets.iter().enumerate() {
        let cell = Cell {
            target,
            connections: plan.connections_max(),
        };
        let load = Load {
            seconds: WARM_UP_SECONDS,
            ..load_of(plan, cell, topology)
        };
        let outcome = load::run(launcher, &load)?;
        topology.check_alive(target)?;
        let label = format!(
            "warm-up {:2}/{}  {:<28}",
            index + 1,
            targets.len(),
            cell.to_string()
        );
        match outcome {
            Outcome::Reported(report, code) => match void_reasons(cell, &report, code).as_slice() {
                [] => progress(&format!("{label} {:9.0} req/s", report.run.rps)),
                reasons => progress(&format!("{label} {}", reasons.join("; "))),
            },
            Outcome::Silent {
                command,
                seen,
                stderr,
            } => {
                return Err(Error::NoReport {
                    command,
                    seen,
                    stderr,
                });
            }
        }
    }
    Ok(())
}

/// Visits every cell of the plan in every round; the records are in the order of the plan's cells.
///
/// # Errors
/// [`Error::Died`] when a server ends, [`Error::Spawn`]. What else goes wrong makes a visit VOID.
pub fn run(
    plan: &Plan,
    topology: &mut Topology,
    launcher: &Launcher,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Record>, Error> {
    let ticks_per_second = cpu::ticks_per_second();
    let mut records = Vec::new();
    for cell in plan.cells() {
        let pinning = topology::pinning_words(cell.target, launcher.pinning());
        records.push(Record {
            cell,
            pinning,
            visits: Vec::new(),
        });
    }
    let runs = records.len() * plan.rounds as usize;
    let mut done = 0;
    for (round, order) in (1..).zip(orders(records.len(), plan.rounds, plan.seed)) {
        for (place, index) in (1..).zip(order) {
            let cell = records[index].cell;
            let before = Snapshot::take();
            let outcome = load::run(launcher, &load_of(plan, cell, topology))?;
            let after = Snapshot::take();
            topology.check_alive(cell.target)?;

            let spent = |pid| cpu::spent_ns(&before, &after, pid, ticks_per_second);
            let visit = Visit {
                round,
                place,
                server_cpu_ns: spent(topology.server(cell.target).process.pid()),
                backend_cpu_ns: topology
                    .backend(cell.target)
                    .and_then(|backend| spent(backend.process.pid())),
                ..visit_of(cell, outcome)
            };
            done += 1;
            progress(&line_of(
                cell,
                &visit,
                &format!("[{done:3}/{runs}] round {round}/{}", plan.rounds),
            ));
            records[index].visits.push(visit);
        }
    }
    Ok(records)
}

/// The order of the cells, by index, for each round.
pub fn orders(cells: usize, rounds: u32, seed: u64) -> Vec<Vec<usize>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut orders = Vec::new();
    for _ in 0..rounds {
        let mut order: Vec<usize> = (0..cells).collect();
        order.shuffle(&mut rng);
        orders.push(order);
    }
    orders
}

/// Why a run must not be averaged; empty when it may. A server that drops work is not fast.
pub fn void_reasons(cell: Cell, report: &Report, exit_code: Option<i32>) -> Vec<String> {
    let asked = u64::from(cell.connections);
    let mut reasons = Vec::new();
    if report.interrupted {
        reasons.push("the load was interrupted".to_owned());
    }
    let errors: u64 = report.errors.values().sum();
    if errors > 0 {
        let classes = report.errors.iter().filter(|&(_class, &count)| count > 0);
        let classes: Vec<String> = classes
            .map(|(class, count)| format!("{class} {count}"))
            .collect();
        reasons.push(format!("errors: {}", classes.join(", ")));
    }
    for (class, &count) in report
        .status
        .iter()
        .filter(|(class, _count)| *class != "2xx")
    {
        if count > 0 {
            reasons.push(format!("{count} answers were {class}"));
        }
    }
    if report.run.responses < asked {
        reasons.push(format!(
            "{} answers on {asked} connections",
            report.run.responses
        ));
    }
    if report.plan.connections != asked {
        reasons.push(format!(
            "the load ran {} connections, not {asked}",
            report.plan.connections
        ));
    }
    if let Some(least) = report.run.connections_min.filter(|&least| least < asked) {
        reasons.push(format!("only {least} of {asked} connections stayed open"));
    }
    if report.plan.warmup_s.is_some_and(|seconds| seconds > 0.0) {
        reasons.push("the load left its warm-up out of the count, the CPU time has it".to_owned());
    }
    if report.percentile_ns("50").is_none() || report.percentile_ns("99").is_none() {
        reasons.push("the load reported no latency".to_owned());
    }
    match exit_code {
        Some(0) => (),
        Some(_) if !reasons.is_empty() => (), // The reasons above are what the code stands for.
        Some(code) => reasons.push(format!("the load ended with exit code {code}")),
        None => reasons.push("the load was ended by a signal".to_owned()),
    }
    reasons
}

fn load_of(plan: &Plan, cell: Cell, topology: &Topology) -> Load {
    Load {
        addr: topology.server(cell.target).addr,
        connections: cell.connections,
        seconds: plan.seconds,
        engine: plan.load_engine,
        threads: plan.load_threads,
        seat: topology::others_seat(cell.target),
    }
}

/// The load's part of a visit.
fn visit_of(cell: Cell, outcome: Outcome) -> Visit {
    let (void, load) = match outcome {
        Outcome::Reported(report, code) => {
            (void_reasons(cell, &report, code), Some(figures(report)))
        }
        Outcome::Silent { seen, stderr, .. } => {
            let last = stderr
                .lines()
                .last()
                .map(|line| format!(": {line}"))
                .unwrap_or_default();
            (vec![format!("the load {seen}{last}")], None)
        }
    };
    Visit {
        round: 0,
        place: 0,
        void,
        server_cpu_ns: None,
        backend_cpu_ns: None,
        load,
    }
}

fn figures(report: Report) -> Figures {
    Figures {
        elapsed_s: report.run.elapsed_s,
        requests: report.run.requests,
        responses: report.run.responses,
        rps: report.run.rps,
        p50_ns: report.percentile_ns("50"),
        p99_ns: report.percentile_ns("99"),
        max_ns: report.latency_ns.max,
        connections_opened: report.run.connections_opened,
        client_cpu_ns: report.client.cpu_ns,
        errors: report.errors,
        status: report.status,
    }
}

/// One line of progress.
fn line_of(cell: Cell, visit: &Visit, count: &str) -> String {
    let start = format!("{count}  {:<28}", cell.to_string());
    let Some(load) = visit.load.as_ref().filter(|_| visit.counts()) else {
        return format!("{start} VOID: {}", visit.void.join("; "));
    };
    let cpu = visit
        .server_cpu_us()
        .map_or_else(|| "      —".into(), |us| format!("{us:7.2}"));
    let p99_us = load.p99_ns.unwrap_or(0) / 1_000;
    format!(
        "{start} {cpu} µs CPU/req {:9.0} req/s  p99 {p99_us:7} µs",
        load.rps
    )
}

const WARM_UP_SECONDS: u32 = 1;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::load::parse_report;
    use crate::load::tests::GOOD;
    use crate::sweep::{Engine, Layout, Part, Target};

    pub(crate) fn proxied(engine: Engine, connections: u32) -> Cell {
        let target = Target {
            layout: Layout::Proxied,
            workers: 1,
            engine,
            part: Part::Subject,
        };
        Cell {
            target,
            connections,
        }
    }

    /// A visit that counts: 1,000 answers that cost the server `server_cpu_us` each.
    pub(crate) fn visit(round: u32, server_cpu_us: u64) -> Visit {
        let Ok(report) = parse_report(GOOD) else {
            panic!("the example is a report")
        };
        let load = Figures {
            responses: 1_000,
            ..figures(report)
        };
        Visit {
            round,
            place: 1,
            void: Vec::new(),
            server_cpu_ns: Some(server_cpu_us * 1_000_000),
            backend_cpu_ns: None,
            load: Some(load),
        }
    }

    /// Reads the good report after one change of its text.
    fn check_void(from: &str, to: &str, exit_code: Option<i32>, expected: &[&str]) {
        assert!(GOOD.contains(from), "{from}");
        let report = parse_report(&GOOD.replace(from, to)).unwrap();
        assert_eq!(
            void_reasons(proxied(Engine::Epoll, 100), &report, exit_code),
            expected,
            "{to}"
        );
    }

    #[test]
    fn a_run_without_failures_counts() {
        check_void("{", "{", Some(0), &[]);
    }

    #[test]
    fn errors_void_a_visit() {
        let errors = r#""errors": {"reset": 3, "timeout": 0, "connect": 1}"#;
        check_void(
            r#""errors": {}"#,
            errors,
            Some(4),
            &["errors: connect 1, reset 3"],
        );
        check_void(r#""errors": {}"#, r#""errors": {"reset": 0}"#, Some(0), &[]);
    }

    #[test]
    fn unexpected_statuses_void_a_visit() {
        let status = r#""2xx": 49000, "5xx": 1000}"#;
        check_void(
            r#""2xx": 50000}"#,
            status,
            Some(0),
            &["1000 answers were 5xx"],
        );
    }

    #[test]
    fn fewer_answers_than_connections_void_a_visit() {
        let reason = "99 answers on 100 connections";
        check_void(
            r#""responses": 50000"#,
            r#""responses": 99"#,
            Some(0),
            &[reason],
        );
        check_void(r#""responses": 50000"#, r#""responses": 100"#, Some(0), &[]);
    }

    #[test]
    fn missing_connections_void_a_visit() {
        let least = r#""connections_min": 99"#;
        let reason = "only 99 of 100 connections stayed open";
        check_void(r#""connections_min": 100"#, least, Some(0), &[reason]);
        let reason = "the load ran 50 connections, not 100";
        check_void(
            r#""connections": 100,"#,
            r#""connections": 50,"#,
            Some(0),
            &[reason],
        );
    }

    #[test]
    fn a_run_cut_short_voids_a_visit() {
        let reason = "the load was interrupted";
        check_void(
            r#""interrupted": false"#,
            r#""interrupted": true"#,
            Some(143),
            &[reason],
        );
        check_void("{", "{", None, &["the load was ended by a signal"]);
        check_void("{", "{", Some(5), &["the load ended with exit code 5"]);
    }

    #[test]
    fn a_warm_up_outside_of_the_count_voids_a_visit() {
        let reason = "the load left its warm-up out of the count, the CPU time has it";
        check_void(r#""rate": null"#, r#""warmup_s": 1"#, Some(0), &[reason]);
        check_void(r#""rate": null"#, r#""warmup_s": 0.0"#, Some(0), &[]);
    }

    #[test]
    fn a_void_visit_has_no_cost() {
        assert_eq!(visit(1, 20).server_cpu_us(), Some(20.0));
        assert_eq!(visit(1, 0).server_cpu_us(), None);
        let void = Visit {
            void: vec!["errors: reset 1".into()],
            ..visit(1, 20)
        };
        assert_eq!(void.server_cpu_us(), None);
        assert!(!void.counts());
    }

    #[test]
    fn each_round_visits_every_cell_once_in_its_own_order() {
        let orders = orders(20, 3, 1);
        for order in &orders {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..20).collect::<Vec<_>>());
        }
        assert_ne!(orders[0], orders[1]);
        assert_eq!(orders, super::orders(20, 3, 1));
        assert_ne!(orders, super::orders(20, 3, 2));
    }
}
