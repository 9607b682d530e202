//! The result of a run as other programs see it: JSON of schema `hp-bench/1`.
//!
//! One model is written by a run and read back by `merge`, `report` and `diff`. Each key is always
//! written; it is null where it was not asked for or could not be measured. A reader takes an absent
//! key for null, and leaves keys that it does not know alone.
//!
//! Must not know: how the numbers came about, or how they are shown.

mod encoded;
mod file;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use encoded::{DecodeError, Encoded, SAMPLES_MAX};
pub use file::{
    Cause, DATA_END, DATA_START, FILE_BYTES_MAX, ReadError, parse, parse_all, read, to_json,
};

/// A run's whole result.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Document {
    /// [`SCHEMA`].
    pub schema: String,
    /// What measured.
    pub tool: Tool,
    /// When the clock started: `2026-11-20T23:10:00Z`, UTC.
    pub started: String,
    /// Whether a signal ended the run.
    pub interrupted: bool,
    /// Where the requests went.
    pub target: Target,
    /// What was asked for.
    pub plan: Planned,
    /// What was counted.
    pub run: Counted,
    /// Answers by class, `2xx`.
    pub status: BTreeMap<String, u64>,
    /// Failures by class, `eof_early`.
    pub errors: BTreeMap<String, u64>,
    /// The headline latency in ns.
    pub latency_ns: Latency,
    /// All recorded times, whole.
    #[serde(default)]
    pub histograms: Histograms,
    /// One entry a second.
    #[serde(default)]
    pub series: Vec<Second>,
    /// What the load generator itself took.
    #[serde(default)]
    pub client: Cost,
    /// What the target took in the same window, where it was asked for.
    #[serde(default)]
    pub target_cost: Option<TargetCost>,
    /// What the machine did beside the run.
    #[serde(default)]
    pub machine: Option<Machine>,
    /// What the numbers are worth.
    #[serde(default)]
    pub verdict: Verdict,
}

/// What measured.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Tool {
    /// `hp-bench`.
    pub name: String,
    /// As `--version` says.
    #[serde(default)]
    pub version: String,
    /// The commit it was built from; null where the build did not know.
    #[serde(default)]
    pub commit: Option<String>,
    /// The engine in use, never `auto`.
    #[serde(default)]
    pub engine: String,
}

/// Where the requests went.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Target {
    /// As given.
    pub url: String,
    /// The address in use.
    #[serde(default)]
    pub addr: String,
    /// The user's name for it.
    #[serde(default)]
    pub label: Option<String>,
}

/// What was asked for. Counts of 0 and null mean without.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Planned {
    /// `closed` or `rate`.
    pub mode: String,
    /// Open connections, all threads together.
    pub connections: u32,
    /// Threads.
    pub threads: u32,
    /// Counted seconds, without the warm-up.
    pub duration_s: f64,
    /// Seconds before that which are not counted.
    pub warmup_s: f64,
    /// Seconds at the end that are not counted.
    pub cooldown_s: f64,
    /// Requests after which the run ends.
    pub requests: Option<u64>,
    /// Requests per second; a ramp's or the steps' first.
    pub rate: Option<f64>,
    /// The ramp's last rate.
    pub rate_to: Option<f64>,
    /// Rates of the steps.
    pub rate_steps: Vec<f64>,
    /// Length of the ramp, or of one step.
    pub rate_time_s: Option<f64>,
    /// `uniform` or `poisson`.
    pub arrival: Option<String>,
    /// `global` or `conn`.
    pub pacing: Option<String>,
    /// Requests that may be due and not sent.
    pub max_backlog: Option<u64>,
    /// How many times the rate a late schedule may run at.
    pub catch_up: Option<f64>,
    /// Length of a turn; null where the load takes none.
    pub turn_s: Option<f64>,
    /// Which turn this one has, as given: `1/2`.
    pub turn: Option<String>,
    /// Over how long the connections are opened.
    pub ramp_conns_s: f64,
    /// Requests per connection; 0: no limit.
    pub reuse: u64,
    /// Whether each request asks the server to close.
    pub close: bool,
    /// Connections that are opened and send nothing.
    pub idle: u32,
    /// Requests under way on a connection at the same time.
    pub pipeline: u32,
    /// Source addresses.
    pub src: Vec<String>,
    /// Longest wait for a connection.
    pub connect_timeout_s: f64,
    /// Longest wait for an answer.
    pub timeout_s: f64,
    /// The request's method.
    pub method: String,
    /// Bytes of the request's body.
    pub body: u64,
    /// Whether the body is sent in chunks.
    pub chunked: bool,
    /// Content of each chunk but the last; null where there are none.
    #[serde(default)]
    pub chunk_bytes: Option<u32>,
    /// The file of the request mix.
    pub mix: Option<String>,
    /// The file that is replayed.
    pub replay: Option<String>,
    /// How much faster than recorded.
    pub speed: Option<f64>,
    /// The file of raw bytes.
    pub raw: Option<String>,
    /// CPUs that the threads keep to, one after the other; none: the scheduler decides.
    pub pin: Vec<u32>,
    /// How long before a request is due its thread stops sleeping.
    pub spin_s: f64,
    /// What becomes of long bodies: `copy` or `trunc`.
    pub drain: Option<String>,
    /// When the clock is read: `event` or `batch`.
    pub stamp: Option<String>,
    /// Bytes per second and connection at which answers are read.
    pub read_rate: Option<u64>,
    /// Bytes per second and connection at which requests are written.
    pub write_rate: Option<u64>,
    /// How often a connection stalls, and for how long, as given.
    pub stall: Option<String>,
    /// Accepted statuses, as given.
    pub expect: Option<String>,
    /// Accepted length of an answer's body.
    pub expect_size: Option<u64>,
    /// Share of answers whose body is compared, as given.
    pub verify: Option<String>,
    /// The instant at which the clock was asked to start, as given.
    pub start_at: Option<String>,
}

/// What was counted in the window that the plan names.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Counted {
    /// Length of the window.
    pub elapsed_s: f64,
    /// How much of it was in turn, so that requests could begin; null where the load takes no turns.
    #[serde(default)]
    pub in_turn_s: Option<f64>,
    /// Requests sent, whole or in part.
    pub requests: u64,
    /// Complete answers of any status.
    pub responses: u64,
    /// Bytes of complete answers.
    #[serde(default)]
    pub bytes_in: u64,
    /// Bytes of requests.
    #[serde(default)]
    pub bytes_out: u64,
    /// Complete answers per second, of `in_turn_s` where that is there.
    pub rps: f64,
    /// Achieved rate by the asked one.
    #[serde(default)]
    pub rate_ratio: Option<f64>,
    /// Fewest connections that were open at one time.
    #[serde(default)]
    pub connections_min: Option<u64>,
    /// Connections that were opened, reconnects included.
    #[serde(default)]
    pub connections_opened: u64,
}

/// The headline latency in ns; zeros where there was no answer.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Latency {
    /// Which histogram: `service` in a closed loop, `response` at a rate.
    #[serde(default)]
    pub clock: String,
    /// Smallest.
    #[serde(default)]
    pub min: u64,
    /// Mean.
    #[serde(default)]
    pub mean: u64,
    /// Standard deviation.
    #[serde(default)]
    pub stdev: u64,
    /// Largest.
    #[serde(default)]
    pub max: u64,
    /// Samples that ended by giving up: the true value is higher.
    #[serde(default)]
    pub censored: u64,
    /// Percentiles by name, `99.9`.
    #[serde(default)]
    pub p: BTreeMap<String, u64>,
}

/// Recorded times, as HdrHistogram V2, deflated, in base64: ns, 3 digits, from 1 µs to 60 s.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Histograms {
    /// From the actual send to the last byte.
    pub service: Option<Encoded>,
    /// From the intended send to the last byte.
    pub response: Option<Encoded>,
    /// From the intended send to the actual one.
    pub lag: Option<Encoded>,
    /// To connect.
    pub connect: Option<Encoded>,
    /// Handshakes.
    pub tls: Option<Encoded>,
    /// From the actual send to the first byte.
    pub ttfb: Option<Encoded>,
}

/// What was counted in one second.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Second {
    /// When it ended, in whole seconds since the clock's start; 1 for the first.
    pub t: u64,
    /// Complete answers.
    pub n: u64,
    /// Failures.
    pub err: u64,
    /// Bytes of complete answers.
    pub bytes: u64,
    /// Median of the headline latency in ns; 0 where there was no answer.
    pub p50: u64,
    /// Its 99th percentile.
    pub p99: u64,
    /// Its maximum.
    pub max: u64,
    /// 99th percentile of the send lag in ns; 0 in a closed loop.
    pub lag_p99: u64,
    /// The headline latency, whole.
    pub hist: Option<Encoded>,
}

/// What the load generator itself took.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Cost {
    /// User and system time in ns.
    pub cpu_ns: Option<u64>,
    /// The same by complete answers.
    pub cpu_ns_per_req: Option<u64>,
    /// Context switches.
    pub ctx_switches: Option<u64>,
    /// Resident memory at its peak.
    pub rss_kib: Option<u64>,
}

/// What the target took.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct TargetCost {
    /// `pid` or `cgroup`.
    pub source: String,
    /// User and system time in ns.
    pub cpu_ns: Option<u64>,
    /// The same by complete answers.
    pub cpu_ns_per_req: Option<u64>,
    /// Context switches.
    pub ctx_switches: Option<u64>,
    /// Resident memory at the end.
    pub rss_kib: Option<u64>,
}

/// What the machine did beside the run.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Machine {
    /// CPU time that the hypervisor gave to others, percent of all CPUs.
    pub steal_pct: Option<f64>,
    /// Time in soft interrupts, percent, by CPU.
    pub softirq_pct: Vec<f64>,
    /// Where the machine is described.
    pub env: Option<String>,
}

/// What the numbers are worth.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Verdict {
    /// `proxy`, `client`, `backend`, `latency` or `void`; null where nothing tells.
    pub limited_by: Option<String>,
    /// The gates, in the order given.
    pub slo: Vec<Gate>,
    /// Whether the numbers may be used.
    pub valid: bool,
    /// Sentences for people.
    pub notes: Vec<String>,
}

/// A gate's outcome.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Gate {
    /// As given: `p99<5ms`.
    pub expr: String,
    /// Whether it held.
    pub ok: bool,
    /// What was measured, in ns, a share or a rate; null where nothing was.
    #[serde(default)]
    pub value: Option<f64>,
}

impl Default for Verdict {
    fn default() -> Self {
        Self {
            limited_by: None,
            slo: Vec::new(),
            valid: true,
            notes: Vec::new(),
        }
    }
}

impl Counted {
    /// Seconds in which requests could begin: those in turn, else all of them.
    pub fn active_s(&self) -> f64 {
        self.in_turn_s.unwrap_or(self.elapsed_s)
    }
}

impl Document {
    /// The histogram that the headline latency was taken from.
    pub fn headline(&self) -> Option<&Encoded> {
        match self.latency_ns.clock.as_str() {
            RESPONSE => self.histograms.response.as_ref(),
            _ => self.histograms.service.as_ref(),
        }
    }
}

impl Histograms {
    /// Those that were recorded, with their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Encoded)> {
        [
            ("service", &self.service),
            ("response", &self.response),
            ("lag", &self.lag),
            ("connect", &self.connect),
            ("tls", &self.tls),
            ("ttfb", &self.ttfb),
        ]
        .into_iter()
        .filter_map(|(name, encoded)| Some((name, encoded.as_ref()?)))
    }
}

/// The schema's name; a document of another one is not read.
pub const SCHEMA: &str = "hp-bench/1";
/// Clock of a closed loop: from the actual send.
pub const SERVICE: &str = "service";
/// Clock of a constant rate: from the intended send.
pub const RESPONSE: &str = "response";
