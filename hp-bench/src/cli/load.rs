//! The flags that say which load is made, beyond target, connections and time.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::plan::parse_time;
use crate::plan::units::{parse_count, parse_size};

/// Which load is made.
#[derive(Args, Clone, Debug, Default)]
pub struct LoadArgs {
    /// Requests after which the run ends, if its time is not over before
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count)]
    pub requests: Option<u64>,

    /// Time before the counted one; its answers are checked and not counted [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub warmup: Option<Duration>,

    /// Time after the counted one in which the load goes on
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "0")]
    pub cooldown: Duration,

    /// Requests per second of all connections together: 10000, 10k; A:B ramps over the run, A:B:TIME over TIME
    #[arg(short = 'R', long, value_name = "RATE")]
    pub rate: Option<String>,

    /// Rates one after the other, each for TIME: 1k,2k,4k@10s
    #[arg(long, value_name = "A,B,..@TIME", conflicts_with = "rate")]
    pub steps: Option<String>,

    /// How requests are spread at a rate: evenly, or as from many independent clients
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    pub arrival: ArrivalKind,

    /// Who keeps the schedule: all of a thread's connections together, or each for itself as wrk2 does it
    #[arg(long, value_enum, value_name = "WHO", default_value_t)]
    pub pacing: PacingKind,

    /// Requests that may be due and not sent; what is due beyond is given up, and counted
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub max_backlog: Option<u64>,

    /// How many times the rate a schedule that is late may run at; at least 1 [default: as fast as it can]
    #[arg(long, value_name = "X")]
    pub catch_up: Option<f64>,

    /// Open the connections evenly over this time instead of all before the load
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "0")]
    pub ramp_conns: Duration,

    /// Requests per connection, after which this side closes it; 1: no keep-alive
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub reuse: Option<u64>,

    /// Ask the server to close after each answer
    #[arg(long)]
    pub close: bool,

    /// Extra connections that make one request each and then stay idle
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub idle: u32,

    /// Requests under way on a connection at the same time, 1 to 1024
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub pipeline: u32,

    /// Local addresses, taken in turn: 127.0.0.2-127.0.0.9, or one, or a list with commas
    #[arg(long, value_name = "ADDRS")]
    pub src: Option<String>,

    /// Longest wait for a connection, 1ms to 60s [default: as --timeout]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub connect_timeout: Option<Duration>,

    /// The Host field's value
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,

    /// Send the body in chunks
    #[arg(long, requires = "body")]
    pub chunked: bool,

    /// Requests with weights, a JSON object a line: {"weight": 3, "method": "GET", "path": "/", "headers": {}, "body": ""}
    #[arg(long, value_name = "FILE", conflicts_with_all = ["replay", "raw", "body"])]
    pub mix: Option<PathBuf>,

    /// Send what was recorded, when it was: an access log, a HAR, or NDJSON as for --mix with "t" in seconds
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rate", "steps", "raw", "body"])]
    pub replay: Option<PathBuf>,

    /// How many times faster than recorded
    #[arg(long, value_name = "X", requires = "replay")]
    pub speed: Option<f64>,

    /// Send the file's bytes as they are
    #[arg(long, value_name = "FILE", conflicts_with_all = ["body", "method", "headers", "host", "close"])]
    pub raw: Option<PathBuf>,

    /// Read answers at this many bytes per second and connection: 10k
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub read_rate: Option<u64>,

    /// Write requests at this many bytes per second and connection
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub write_rate: Option<u64>,

    /// Statuses that are no error: 2xx, 200,304 [default: 2xx,3xx]
    #[arg(long, value_name = "STATUSES")]
    pub expect: Option<String>,

    /// Length that every body must have
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub expect_size: Option<u64>,

    /// Compare every N-th body of a connection with the thread's first one to the same request: 1/1000
    #[arg(long, value_name = "1/N")]
    pub verify: Option<String>,

    /// What the run must reach: p99<5ms,err<0.1%,rate>9900; may be repeated
    #[arg(long, value_name = "GOALS")]
    pub slo: Vec<String>,

    /// Stop at the first error
    #[arg(long)]
    pub fail_fast: bool,

    /// Exit 5 when this program was the limit
    #[arg(long)]
    pub strict: bool,

    /// Process of the target, whose cost is measured; may be repeated
    #[arg(long, value_name = "PID")]
    pub pid: Vec<u32>,

    /// Control group of the target, whose cost is measured
    #[arg(long, value_name = "PATH", conflicts_with = "pid")]
    pub cgroup: Option<PathBuf>,

    /// When the load begins: seconds since 1970, or 2026-11-20T23:10:00Z
    #[arg(long, value_name = "TIME")]
    pub start_at: Option<String>,

    /// What chance is drawn from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Not supported: scripts of wrk
    #[arg(short = 's', long = "script", value_name = "FILE", hide = true)]
    pub script: Option<OsString>,
}

/// Words of `--arrival`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum ArrivalKind {
    /// At even distances.
    #[default]
    Uniform,
    /// With exponential distances.
    Poisson,
}

/// Words of `--pacing`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum PacingKind {
    /// One schedule for all of a thread's connections.
    #[default]
    Global,
    /// One for each connection.
    Conn,
}
