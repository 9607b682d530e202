//! One run of hp-bench, and what its report says. The closed loop and its clock are hp-bench's own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use crate::clock;
use crate::error::Error;
use crate::process::{Launcher, Seat};
use crate::sweep::Engine;

/// How the load generator is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    /// The server that gets the requests.
    pub addr: SocketAddr,
    /// Connections of the closed loop.
    pub connections: u32,
    /// Length of the run.
    pub seconds: u32,
    /// Engine of hp-bench.
    pub engine: Engine,
    /// Threads of hp-bench.
    pub threads: u32,
    /// CPUs of hp-bench.
    pub seat: Seat,
}

/// The parts of a report that the harness uses; unknown keys are left alone.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct Report {
    /// What was done.
    pub plan: Planned,
    /// What happened.
    pub run: Run,
    /// Answers by class of status, such as `2xx`.
    #[serde(default)]
    pub status: BTreeMap<String, u64>,
    /// Failures by class.
    #[serde(default)]
    pub errors: BTreeMap<String, u64>,
    /// Latency; its values are missing when nothing was answered.
    #[serde(default)]
    pub latency_ns: Latency,
    /// The load generator's own cost.
    #[serde(default)]
    pub client: Client,
    /// Whether the run was cut short.
    #[serde(default)]
    pub interrupted: bool,
}

/// The load generator's plan.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct Planned {
    /// Connections asked for.
    pub connections: u64,
    /// Seconds of load that the counts leave out.
    #[serde(default)]
    pub warmup_s: Option<f64>,
}

/// The load generator's counts.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct Run {
    /// Measured length in seconds.
    pub elapsed_s: f64,
    /// Requests sent.
    pub requests: u64,
    /// Responses received whole.
    pub responses: u64,
    /// Responses per second.
    pub rps: f64,
    /// The least number of connections that were open at one time.
    #[serde(default)]
    pub connections_min: Option<u64>,
    /// Connections opened over the run.
    #[serde(default)]
    pub connections_opened: Option<u64>,
}

/// Latency in ns.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
pub struct Latency {
    /// The largest.
    #[serde(default)]
    pub max: Option<u64>,
    /// Percentiles by name, such as `50` and `99.9`.
    #[serde(default)]
    pub p: BTreeMap<String, Option<u64>>,
}

/// The load generator's own cost.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
pub struct Client {
    /// User and system time in ns.
    #[serde(default)]
    pub cpu_ns: Option<u64>,
}

/// How a run of the load generator ended.
#[derive(Debug)]
pub enum Outcome {
    /// With a report, and with this exit code; none when a signal ended it.
    Reported(Report, Option<i32>),
    /// Without one.
    Silent {
        /// The program with its arguments.
        command: String,
        /// What was seen instead.
        seen: String,
        /// What it printed to stderr.
        stderr: String,
    },
}

impl Report {
    /// A percentile by its name, in ns.
    pub fn percentile_ns(&self, name: &str) -> Option<u64> {
        self.latency_ns.p.get(name).copied().flatten()
    }
}

/// Runs hp-bench to its end, or to a little longer than it should take.
///
/// # Errors
/// [`Error::Spawn`] when it does not start; what it does then is an [`Outcome`].
pub fn run(launcher: &Launcher, load: &Load) -> Result<Outcome, Error> {
    let threads = load.threads.min(load.connections);
    let args: Vec<String> = format!(
        "{} {} {} --engine {} -t {threads} --warmup 0 --progress none --json -",
        load.addr, load.connections, load.seconds, load.engine
    )
    .split(' ')
    .map(str::to_owned)
    .collect();

    let mut process = launcher.start("hp-bench", &args, load.seat)?;
    let length = Duration::from_secs(load.seconds.into());
    let status = process.wait_until(clock::now() + length + LATE_TIMEOUT);
    let seen = match (status, parse_report(&process.stdout())) {
        (None, _) => format!("ran {} s longer than asked", LATE_TIMEOUT.as_secs()),
        (Some(status), Ok(report)) => return Ok(Outcome::Reported(report, status.code())),
        (Some(status), Err(cause)) => format!("gave no usable report ({status}; {cause})"),
    };
    Ok(Outcome::Silent {
        command: process.name().to_owned(),
        seen,
        stderr: process.stderr(),
    })
}

/// Reads a report of schema `hp-bench/1`.
///
/// # Errors
/// What is wrong with the text, on one line.
pub fn parse_report(text: &str) -> Result<Report, String> {
    #[derive(Deserialize)]
    struct Tag {
        schema: String,
    }
    let tag: Tag = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if tag.schema != SCHEMA {
        return Err(format!("schema {}, not {SCHEMA}", tag.schema));
    }
    serde_json::from_str(text).map_err(|error| error.to_string())
}

const SCHEMA: &str = "hp-bench/1";
const LATE_TIMEOUT: Duration = Duration::from_secs(15); // a drain, or answers that never come

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A report of a run without failures: 100 connections, 50,000 answers in a second.
    pub(crate) const GOOD: &str = r#"{
        "schema": "hp-bench/1", "tool": {"name": "hp-bench", "version": "0.1.0", "engine": "epoll"},
        "target": {"url": "http://127.0.0.1:8080/", "addr": "127.0.0.1:8080"},
        "plan": {"mode": "closed", "connections": 100, "threads": 1, "duration_s": 1.0, "rate": null},
        "run": {"elapsed_s": 1.0, "requests": 50100, "responses": 50000, "bytes_in": 1, "bytes_out": 1,
                "rps": 50000.0, "connections_min": 100, "connections_opened": 100},
        "status": {"2xx": 50000}, "errors": {},
        "latency_ns": {"min": 61000, "mean": 2071000.5, "stdev": 312000.25, "max": 7030000,
                       "p": {"50": 2040000, "75": 2100000, "90": 2310000, "99": 3120000, "99.9": 4870000}},
        "client": {"cpu_ns": 2841000000, "cpu_ns_per_req": 5893},
        "histograms": {"service": "HISTFAAA"}, "interrupted": false
    }"#;

    #[test]
    fn a_report_is_read_and_its_other_keys_are_left_alone() {
        let report = parse_report(GOOD).unwrap();
        assert_eq!(report.run.responses, 50_000);
        assert_eq!(report.percentile_ns("99"), Some(3_120_000));
        assert_eq!(report.percentile_ns("99.99"), None);
        assert_eq!(report.latency_ns.max, Some(7_030_000));
        assert_eq!(report.client.cpu_ns, Some(2_841_000_000));
        assert_eq!(report.plan.warmup_s, None);
    }

    #[test]
    fn a_report_of_nothing_has_no_latency() {
        let report = parse_report(
            r#"{"schema": "hp-bench/1", "plan": {"connections": 1},
                "run": {"elapsed_s": 1, "requests": 0, "responses": 0, "rps": 0},
                "errors": {"connect": 1}, "latency_ns": {"max": null, "p": {"50": null}}}"#,
        );
        let report = report.unwrap();
        assert_eq!(report.latency_ns.max, None);
        assert_eq!(report.percentile_ns("50"), None);
        assert_eq!(report.errors["connect"], 1);
    }

    #[test]
    fn another_schema_is_no_report() {
        assert_eq!(
            parse_report(r#"{"schema": "hp-bench/2"}"#),
            Err("schema hp-bench/2, not hp-bench/1".into())
        );
        for text in [
            "",
            "{",
            "[]",
            "{\"schema\": \"hp-bench/1\"}",
            "Running 1s test",
        ] {
            assert!(parse_report(text).is_err(), "{text}");
        }
    }
}
