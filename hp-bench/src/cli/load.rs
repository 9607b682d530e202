//! The flags that say which load is made, beyond target, connections and time.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use hp_core::rt::{Instant, Rt};

use crate::units::{parse_count, parse_size, parse_time};

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

    /// Length of the turns that closed loops of several hp-bench on one machine take: outside of its own a connection begins
    /// no request, and answers under way come to their end; per second then means per second in turn
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub turns: Option<Duration>,

    /// Which turn is this one's, and of how many: 1/2
    #[arg(long, value_name = "K/N")]
    pub turn: Option<String>,

    /// Open the connections evenly over this time instead of all before the load; at most the warm-up and the duration together
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

    /// Content of each of them but the last, 1 to 1G [default: 16k]
    #[arg(long, value_name = "BYTES", value_parser = parse_chunk_size, requires = "chunked")]
    pub chunk_size: Option<NonZeroU32>,

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

    /// CPUs that the threads keep to, one after the other: 1, 0,2 or 1-3 [default: the scheduler decides]
    #[arg(long, value_name = "CPUS")]
    pub pin: Option<String>,

    /// At a rate: so many microseconds, 1 to 1000000, before a request is due stop sleeping and wait busily, so that no
    /// wake-up is late; for threads with a CPU of their own [100 where no number follows]
    #[arg(long, value_name = "MICROSECONDS", num_args = 0..=1, default_missing_value = "100")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub spin: Option<u32>,

    /// What becomes of long bodies with a Content-Length that --verify does not read: copied to this program, or discarded in
    /// the kernel (MSG_TRUNC). Those of Unix sockets and with --read-rate are copied always
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    pub drain: Drain,

    /// When the clock is read: at each event, just before bytes leave and as they come; or once for a batch of events, which
    /// makes service times longer, and lags shorter, than they are: by up to the work for one batch
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    pub stamp: Stamp,

    /// Read answers at this many bytes per second and connection: 10k
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub read_rate: Option<u64>,

    /// Write requests at this many bytes per second and connection
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub write_rate: Option<u64>,

    /// How often a connection stops sending or reading in the middle of an exchange, and for how long: 0.01:500ms or 1%:500ms
    #[arg(long, value_name = "SHARE:TIME", conflicts_with_all = ["read_rate", "write_rate"])]
    pub stall: Option<String>,

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

    /// Process of the target, whose cost is measured; may be repeated. For compare one for each target in their order, or
    /// A=PID, B=PID and so on
    #[arg(long, value_name = "PID", value_parser = parse_pid)]
    pub pid: Vec<Named<u32>>,

    /// Control group of the target, whose cost is measured; for compare as --pid
    #[arg(long, value_name = "PATH", value_parser = parse_group, conflicts_with = "pid")]
    pub cgroup: Vec<Named<PathBuf>>,

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

/// What belongs to a target, and to which of those that are compared where that is said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Named<T> {
    /// `A` for the first target, and so on.
    pub of: Option<char>,
    /// What belongs to it.
    pub value: T,
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

/// Words of `--drain`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Drain {
    /// All bytes are read.
    Copy,
    /// The kernel discards what nobody looks at.
    #[default]
    Trunc,
}

/// Words of `--stamp`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Stamp {
    /// Each event has a reading of its own.
    #[default]
    Event,
    /// One reading for all events of a turn.
    Batch,
}

impl Drain {
    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Trunc => "trunc",
        }
    }
}

impl Stamp {
    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Batch => "batch",
        }
    }

    /// The time for whatever has no stamp of its own.
    pub(crate) fn now(self, rt: &Rt) -> Instant {
        match self {
            Self::Event => rt.precise_now(),
            Self::Batch => rt.now(),
        }
    }
}

/// Splits `B=` off, if it is there.
fn split_name(text: &str) -> (Option<char>, &str) {
    match text.split_once('=') {
        Some((name, rest)) if name.len() == 1 => match name.chars().next() {
            Some(letter @ 'A'..='Z') => (Some(letter), rest),
            _ => (None, text),
        },
        _ => (None, text),
    }
}

/// A body is no longer than the longest chunk.
fn parse_chunk_size(text: &str) -> Result<NonZeroU32, String> {
    let bytes = u32::try_from(parse_size(text)?).ok();
    bytes
        .filter(|bytes| *bytes <= CHUNK_BYTES_MAX)
        .and_then(NonZeroU32::new)
        .ok_or_else(|| format!("{text:?} is no size of a chunk; give 1 to 1G"))
}

fn parse_pid(text: &str) -> Result<Named<u32>, String> {
    let (of, number) = split_name(text);
    let value = number.parse().ok();
    value
        .map(|value| Named { of, value })
        .ok_or_else(|| format!("{text:?} is no process; write 123, or B=123 for compare"))
}

fn parse_group(text: &str) -> Result<Named<PathBuf>, String> {
    let (of, path) = split_name(text);
    if path.is_empty() {
        return Err(format!("{text:?} names no control group; write its path"));
    }
    Ok(Named {
        of,
        value: PathBuf::from(path),
    })
}

const CHUNK_BYTES_MAX: u32 = 1 << 30;
