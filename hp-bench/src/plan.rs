//! What will run: complete, checked and immutable before the first connection.
//!
//! Must not know: sockets and the runtime. Names are resolved by the caller.

mod cpus;
mod error;
mod pace;
mod source;
mod stall;
pub mod statuses;
mod turns;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use hp_core::base::units::KIB;
use hp_core::rt::Engine;

use crate::cli::Cli;
use crate::cli::load::{Drain, LoadArgs, Stamp};
use crate::date;
use crate::output::Output;
use crate::rate::{Arrival, Rate};
use crate::request::Request;
use crate::samples::SAMPLES_MAX;
use crate::slo::Goal;
use crate::target::Target;
use crate::traffic::Choice;
use crate::units::{RateWords, parse_addrs};
use cpus::{cpus_of, parse_cpus};
use pace::pace;
use source::read_traffic;
use stall::stall;
use statuses::Statuses;
use turns::turns;

pub use error::PlanError;
pub use stall::Stall;
pub use turns::{TURNS_MAX, Turns};

/// Everything the workers and the report need to know.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the requests go.
    pub target: Target,
    /// Open connections in all threads together; 1 or more.
    pub connections: u32,
    /// 1 to `connections`.
    pub threads: u32,
    /// The counted time.
    pub duration: Duration,
    /// Load before it that is not counted.
    pub warmup: Duration,
    /// Load after it that is not counted.
    pub cooldown: Duration,
    /// Whether what is due and waits at the end is still sent, for the timeout at most: recorded traffic whose own length
    /// is that of the run. Without a time that was asked for no request of it may be cut off.
    pub sends_all: bool,
    /// Requests after which the run ends; `None`: only by its time.
    pub requests_max: Option<u64>,
    /// When requests are sent.
    pub pace: Pace,
    /// When a closed loop may begin requests; `None`: always.
    pub turns: Option<Turns>,
    /// Over how long the connections are opened; zero: all before the load.
    pub ramp_conns: Duration,
    /// Requests per connection; 0: no limit.
    pub reuse: u64,
    /// Whether the server is asked to close.
    pub close: bool,
    /// Extra connections that stay idle.
    pub idle: u32,
    /// Requests under way on a connection at the same time; 1 or more.
    pub pipeline: u32,
    /// Local addresses, taken in turn; none: the kernel chooses.
    pub src: Vec<IpAddr>,
    /// Longest wait for a complete answer from its request on.
    pub timeout: Duration,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// How the kernel is asked.
    pub engine: Engine,
    /// CPUs that the threads keep to, one after the other; none: the scheduler decides.
    pub pin: Vec<usize>,
    /// How long before a request is due its thread stops sleeping.
    pub spin: Duration,
    /// What becomes of long bodies.
    pub drain: Drain,
    /// When the clock is read for sends and answers.
    pub stamp: Stamp,
    /// The requests, at least one; recorded traffic and a mix have more.
    pub requests: Vec<Request>,
    /// Which of them comes next.
    pub choice: Choice,
    /// Bytes per second and connection at which answers are read; 0: as they come.
    pub read_rate: u64,
    /// Bytes per second and connection at which requests are written; 0: at once.
    pub write_rate: u64,
    /// Connections that stop in the middle of an exchange, on purpose.
    pub stall: Option<Stall>,
    /// Statuses that are no error.
    pub expect: Statuses,
    /// Length that every body must have.
    pub expect_size: Option<u64>,
    /// Every how manieth body is compared; 0: none.
    pub verify_every: u64,
    /// What the run must reach.
    pub goals: Vec<Goal>,
    /// Whether the first error ends the run.
    pub fail_fast: bool,
    /// Whether being the limit is a failure.
    pub strict: bool,
    /// Whose cost is measured besides our own.
    pub observed: Observed,
    /// When the load begins, since 1970-01-01 UTC; `None`: when the connections are there.
    pub start_at: Option<Duration>,
    /// What chance is drawn from.
    pub seed: u64,
    /// The words behind the plan, for the report.
    pub words: LoadArgs,
    /// What becomes of the result.
    pub output: Output,
}

/// One plan for all threads.
#[expect(
    clippy::disallowed_types,
    reason = "shared by the threads and never written"
)]
pub type SharedPlan = std::sync::Arc<Plan>;

/// When requests are sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Pace {
    /// Each connection sends the next when the last is answered.
    Closed,
    /// By a schedule.
    Rate(RatePlan),
    /// When they were recorded.
    Recorded,
}

/// A schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct RatePlan {
    /// As given.
    pub words: RateWords,
    /// Requests per second from the start of the load on, the warm-up included.
    pub rate: Rate,
    /// How they are spread.
    pub arrival: Arrival,
    /// Whether each connection keeps a schedule of its own.
    pub per_conn: bool,
    /// Requests that may be due and not sent, all threads together.
    pub max_backlog: Option<u64>,
    /// How many times the rate a late schedule may run at.
    pub catch_up: Option<f64>,
}

/// Whose cost is measured besides our own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Observed {
    /// Nobody's.
    Nobody,
    /// These processes'.
    Processes(Vec<u32>),
    /// A control group's.
    Group(PathBuf),
}

impl Plan {
    /// Makes the plan; reads the files that the words name.
    ///
    /// `cpus` is the number of CPUs this process may use.
    ///
    /// # Errors
    /// The first [`PlanError`].
    pub fn resolve(cli: &Cli, cpus: u32) -> Result<Self, PlanError> {
        let load = &cli.flags.load;
        refuse_script(load)?;
        let connections = one_of(
            cli.connections_word,
            cli.flags.connections,
            "CONNECTIONS and -c",
        )?
        .unwrap_or(CONNECTIONS_DEFAULT);
        let pin = load.pin.as_deref().map_or(Ok(Vec::new()), parse_cpus)?;
        let cpus = cpus_of(&pin, cpus);
        let threads = cli
            .flags
            .threads
            .unwrap_or_else(|| cpus.clamp(1, connections));
        if threads > connections {
            return Err(PlanError::IdleThreads {
                threads,
                connections,
            });
        }
        let traffic = read_traffic(cli)?;
        let is_recorded = matches!(traffic.choice, Choice::Recorded(_));
        let (duration, warmup) = times(cli, &traffic.choice)?;
        check_times(cli, duration, warmup)?;
        let plan = Self {
            target: cli.target.clone(),
            connections,
            threads,
            duration,
            warmup,
            cooldown: load.cooldown,
            sends_all: is_recorded && cli.duration_word.or(cli.flags.duration).is_none(),
            requests_max: load.requests,
            pace: pace(load, is_recorded, warmup, duration)?,
            turns: turns(load)?,
            ramp_conns: load.ramp_conns,
            reuse: load.reuse.unwrap_or(0),
            close: load.close,
            idle: load.idle,
            pipeline: load.pipeline,
            src: sources(load.src.as_deref())?,
            timeout: cli.flags.timeout,
            connect_timeout: load.connect_timeout.unwrap_or(cli.flags.timeout),
            engine: cli.flags.engine,
            pin,
            spin: Duration::from_micros(load.spin.unwrap_or(0).into()),
            drain: drain(cli),
            stamp: load.stamp,
            requests: traffic.requests,
            choice: traffic.choice,
            read_rate: load.read_rate.unwrap_or(0),
            write_rate: load.write_rate.unwrap_or(0),
            stall: stall(load.stall.as_deref(), cli.flags.timeout)?,
            expect: Statuses::parse(load.expect.as_deref().unwrap_or("2xx,3xx"))
                .map_err(|cause| flag("--expect", cause))?,
            expect_size: load.expect_size,
            verify_every: load.verify.as_deref().map_or(Ok(0), verify_every)?,
            goals: goals(&load.slo)?,
            fail_fast: load.fail_fast,
            strict: load.strict,
            observed: observed(load)?,
            start_at: load.start_at.as_deref().map(start_at).transpose()?,
            seed: load.seed,
            words: load.clone(),
            output: cli.flags.output.clone(),
        };
        plan.check_pipeline()?;
        plan.check_turns()?;
        Ok(plan)
    }

    /// Single requests that a thread keeps; `None` where nobody asked for them.
    pub fn samples_room(&self) -> Option<usize> {
        let threads = usize::try_from(self.threads).unwrap_or(1).max(1);
        self.output.csv.as_ref().map(|_file| SAMPLES_MAX / threads)
    }

    /// The same at one rate, for a time in which all its connections are opened.
    pub fn at_rate(&self, rate: f64, duration: Duration) -> Self {
        let duration = duration.max(Duration::from_millis(1));
        let pace = match &self.pace {
            Pace::Rate(pace) => pace.clone(),
            Pace::Closed | Pace::Recorded => RatePlan::default(),
        };
        Self {
            pace: Pace::Rate(RatePlan {
                words: RateWords::Constant(rate),
                rate: Rate::constant(rate),
                ..pace
            }),
            duration,
            ramp_conns: self.ramp_conns.min(self.warmup + duration),
            ..self.clone()
        }
    }

    /// How many of the connections belong to thread `worker`: their numbers differ by one at most.
    pub fn share(&self, worker: u32) -> u32 {
        share(self.connections, self.threads, worker)
    }

    /// How many of the idle connections belong to thread `worker`.
    pub fn idle_share(&self, worker: u32) -> u32 {
        share(self.idle, self.threads, worker)
    }

    /// How many counted requests thread `worker` may send.
    pub fn requests_share(&self, worker: u32) -> u64 {
        self.requests_max.map_or(u64::MAX, |max| {
            let threads = u64::from(self.threads);
            max / threads + u64::from(u64::from(worker) < max % threads)
        })
    }

    /// Whether a connection is opened for the request that needs it, rather than kept ready.
    pub fn connects_on_demand(&self) -> bool {
        self.reuse > 0 || self.requests.iter().any(|request| !request.keep_alive)
    }

    /// Whether the headline counts from the intended send.
    pub fn counts_from_intended(&self) -> bool {
        self.pace != Pace::Closed || self.connects_on_demand()
    }

    /// Requests per second over the counted time, on average; `None` without a schedule.
    pub fn rate_asked(&self) -> Option<f64> {
        match &self.pace {
            Pace::Closed => None,
            Pace::Rate(pace) => {
                let until = pace.rate.count_at(self.warmup + self.duration);
                let due = until - pace.rate.count_at(self.warmup);
                Some(due / self.duration.as_secs_f64())
            }
            Pace::Recorded => match &self.choice {
                Choice::Recorded(entries) => {
                    let due = entries.partition_point(|entry| entry.at < self.duration);
                    let due = f64::from(u32::try_from(due).unwrap_or(u32::MAX));
                    Some(due / self.duration.as_secs_f64())
                }
                _ => None,
            },
        }
    }

    fn check_pipeline(&self) -> Result<(), PlanError> {
        if self.pipeline == 1 {
            return Ok(());
        }
        let is_long = self
            .requests
            .iter()
            .any(|request| request.bytes.len() > PIPELINED_BYTES_MAX);
        if is_long || self.write_rate > 0 {
            let cause = "long or slow requests cannot be pipelined; leave out --write-rate, and send at most 64k";
            return Err(flag("--pipeline", cause));
        }
        if self.stall.is_some() {
            let cause = "an exchange has a middle only where it is alone; leave --pipeline out";
            return Err(flag("--stall", cause));
        }
        if self.requests.iter().any(|request| !request.keep_alive) {
            return Err(flag(
                "--pipeline",
                "no request follows one that closes; leave --close out",
            ));
        }
        Ok(())
    }
}

impl Default for RatePlan {
    fn default() -> Self {
        Self {
            words: RateWords::Constant(1.0),
            rate: Rate::constant(1.0),
            arrival: Arrival::default(),
            per_conn: false,
            max_backlog: None,
            catch_up: None,
        }
    }
}

fn one_of<T: PartialEq>(
    word: Option<T>,
    flag: Option<T>,
    what: &'static str,
) -> Result<Option<T>, PlanError> {
    match (word, flag) {
        (Some(word), Some(flag)) if word != flag => Err(PlanError::SaidTwice { what }),
        (word, flag) => Ok(word.or(flag)),
    }
}

fn flag(flag: &'static str, cause: impl Into<String>) -> PlanError {
    PlanError::Flag {
        flag,
        cause: cause.into(),
    }
}

fn refuse_script(load: &LoadArgs) -> Result<(), PlanError> {
    let cause = "scripts are not run; describe requests with --mix, or give their bytes with --raw";
    match load.script {
        Some(_) => Err(flag("-s", cause)),
        None => Ok(()),
    }
}

fn share(of: u32, threads: u32, worker: u32) -> u32 {
    of / threads + u32::from(worker < of % threads)
}

/// The counted time and the warm-up before it.
fn times(cli: &Cli, choice: &Choice) -> Result<(Duration, Duration), PlanError> {
    let asked = one_of(cli.duration_word, cli.flags.duration, "SECONDS and -d")?;
    let Choice::Recorded(entries) = choice else {
        let warmup = cli.flags.load.warmup.unwrap_or(WARMUP_DEFAULT);
        return Ok((asked.unwrap_or(DURATION_DEFAULT), warmup));
    };
    if cli
        .flags
        .load
        .warmup
        .is_some_and(|warmup| !warmup.is_zero())
    {
        let cause = "recorded traffic begins with the load; leave it out";
        return Err(flag("--warmup", cause));
    }
    let last = entries.last().map_or(Duration::ZERO, |last| last.at);
    let whole = last.saturating_add(Duration::from_millis(1));
    Ok((asked.unwrap_or(whole), Duration::ZERO))
}

fn sources(text: Option<&str>) -> Result<Vec<IpAddr>, PlanError> {
    let addrs = text.map(parse_addrs).transpose();
    Ok(addrs
        .map_err(|cause| flag("--src", cause))?
        .unwrap_or_default())
}

/// What can be done with the bodies: where the kernel has no other way, or bytes are to be read slowly, they are copied.
fn drain(cli: &Cli) -> Drain {
    let load = &cli.flags.load;
    if cli.target.unix().is_some() || load.read_rate.is_some() {
        return Drain::Copy;
    }
    load.drain
}

fn observed(load: &LoadArgs) -> Result<Observed, PlanError> {
    let named = "a name before = is for compare; a run has one target, so leave it out";
    if load.pid.iter().any(|pid| pid.of.is_some()) {
        return Err(flag("--pid", named));
    }
    match load.cgroup.as_slice() {
        [] if load.pid.is_empty() => Ok(Observed::Nobody),
        [] => {
            let pids = load.pid.iter().map(|pid| pid.value);
            Ok(Observed::Processes(pids.collect()))
        }
        [group] if group.of.is_some() => Err(flag("--cgroup", named)),
        [group] => Ok(Observed::Group(group.value.clone())),
        [..] => Err(flag("--cgroup", "given twice; name one")),
    }
}

fn check_times(cli: &Cli, duration: Duration, warmup: Duration) -> Result<(), PlanError> {
    let load = &cli.flags.load;
    let connect_timeout = load.connect_timeout.unwrap_or(cli.flags.timeout);
    for (name, time, min, max, range) in [
        (
            "-d",
            duration,
            Duration::from_millis(1),
            DURATION_MAX,
            "1ms to 7d",
        ),
        (
            "--timeout",
            cli.flags.timeout,
            Duration::from_millis(1),
            TIMEOUT_MAX,
            "1ms to 60s",
        ),
        (
            "--connect-timeout",
            connect_timeout,
            Duration::from_millis(1),
            TIMEOUT_MAX,
            "1ms to 60s",
        ),
        ("--warmup", warmup, Duration::ZERO, DURATION_MAX, "0 to 7d"),
        (
            "--cooldown",
            load.cooldown,
            Duration::ZERO,
            DURATION_MAX,
            "0 to 7d",
        ),
        (
            "--ramp-conns",
            load.ramp_conns,
            Duration::ZERO,
            DURATION_MAX,
            "0 to 7d",
        ),
    ] {
        if time < min || time > max {
            return Err(flag(name, format!("out of range; give {range}")));
        }
    }
    // The rest would never be opened, and the result would name connections that there were not.
    if load.ramp_conns > warmup + duration {
        let cause = "longer than the load; give at most the warm-up and the duration together";
        return Err(flag("--ramp-conns", cause));
    }
    Ok(())
}

fn goals(lists: &[String]) -> Result<Vec<Goal>, PlanError> {
    let mut goals = Vec::new();
    for list in lists {
        goals.extend(Goal::parse_list(list).map_err(|cause| flag("--slo", cause))?);
    }
    Ok(goals)
}

fn verify_every(text: &str) -> Result<u64, PlanError> {
    let every = text.strip_prefix("1/").and_then(|every| every.parse().ok());
    every
        .filter(|every| *every > 0)
        .ok_or_else(|| flag("--verify", format!("{text:?} is no share; write 1/1000")))
}

fn start_at(text: &str) -> Result<Duration, PlanError> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let seconds = text.parse().ok().filter(|_| is_plain);
    let seconds = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.or_else(|| date::rfc3339(text)).ok_or_else(|| {
        let cause =
            format!("{text:?} is no time; write seconds since 1970 or 2026-11-20T23:10:00Z");
        flag("--start-at", cause)
    })
}

const CONNECTIONS_DEFAULT: u32 = 50;
const DURATION_DEFAULT: Duration = Duration::from_secs(10);
const WARMUP_DEFAULT: Duration = Duration::from_secs(1);
const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Where the histogram ends: a longer wait could not be told from this one.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// What is queued for a connection at once must stay small when many are.
const PIPELINED_BYTES_MAX: usize = 64 * KIB;

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::output::JsonTo;

    fn plan(words: &[&str]) -> Result<Plan, PlanError> {
        let words = ["hp-bench", "a:81"].iter().chain(words).map(OsString::from);
        Plan::resolve(&crate::cli::parse(words).unwrap(), 2)
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let plan = plan(&[]).unwrap();
        assert_eq!((plan.connections, plan.threads), (50, 2));
        assert_eq!(plan.duration, Duration::from_secs(10));
        assert_eq!(plan.output.json_to(), JsonTo::Nowhere);
    }

    #[test]
    fn threads_never_outnumber_connections() {
        assert_eq!(plan(&["1"]).unwrap().threads, 1);
        let error = plan(&["-c", "2", "-t", "3"]).unwrap_err();
        assert_eq!(
            error,
            PlanError::IdleThreads {
                threads: 3,
                connections: 2
            }
        );
    }

    #[test]
    fn shares_add_up() {
        let plan = plan(&["-c", "7", "-t", "3"]).unwrap();
        assert_eq!([0, 1, 2].map(|worker| plan.share(worker)), [3, 2, 2]);
    }

    #[test]
    fn both_forms_must_agree() {
        assert_eq!(plan(&["9", "-c", "9"]).unwrap().connections, 9);
        assert!(matches!(
            plan(&["9", "-c", "8"]),
            Err(PlanError::SaidTwice { .. })
        ));
        assert!(matches!(
            plan(&["9", "9", "-d", "8s"]),
            Err(PlanError::SaidTwice { .. })
        ));
        assert!(plan(&["9", "9", "-d", "9s"]).is_ok());
    }

    #[test]
    fn times_have_ranges() {
        check_flag(&["-d", "0"], "-d");
        check_flag(&["--timeout", "61s"], "--timeout");
        check_flag(&["--connect-timeout", "0"], "--connect-timeout");
    }

    fn check_flag(words: &[&str], name: &str) {
        match plan(words) {
            Err(PlanError::Flag { flag, .. }) => assert_eq!(flag, name, "{words:?}"),
            other => panic!("{words:?}: {other:?}"),
        }
    }

    #[test]
    fn flags_make_the_request() {
        let plan = plan(&[
            "-m", "PUT", "-H", "a: b", "--host", "c", "-b", "2k", "--close",
        ])
        .unwrap();
        let request = &plan.requests[0];
        let head = "PUT / HTTP/1.1\r\nHost: c\r\na: b\r\nConnection: close\r\nContent-Length: 2048\r\n\r\n";
        assert!(request.bytes.starts_with(head.as_bytes()));
        assert_eq!((request.body_len, request.keep_alive), (2048, false));
        assert!(plan.connects_on_demand());
    }

    #[test]
    fn body_is_a_size_only_with_a_unit() {
        let body = |word| plan(&["-b", word]).unwrap().requests[0].body_len;
        assert_eq!(
            (body("64k"), body("64"), body("64kg"), body("k")),
            (65_536, 2, 4, 1)
        );
    }

    #[test]
    fn chunks_are_of_the_size_that_was_given() {
        let sent = |words: &[&str]| {
            let all = [&["-b", "64k", "--chunked"], words].concat();
            plan(&all).unwrap().requests[0].bytes.clone()
        };
        let begins = |bytes: &[u8], line: &str| {
            let end = bytes.windows(4).position(|end| end == b"\r\n\r\n");
            bytes[end.unwrap() + 4..].starts_with(line.as_bytes())
        };
        assert!(begins(&sent(&[]), "4000\r\nx"));
        assert!(begins(&sent(&["--chunk-size", "60KiB"]), "f000\r\nx"));
        assert!(begins(&sent(&["--chunk-size", "1G"]), "10000\r\nx"));
        assert!(begins(&sent(&["--chunk-size", "1"]), "1\r\nx\r\n1\r\n"));
    }

    #[test]
    fn rate_covers_the_warm_up_and_the_window() {
        let constant = plan(&["-R", "1k"]).unwrap();
        assert_eq!(constant.warmup, WARMUP_DEFAULT);
        assert_eq!(constant.rate_asked(), Some(1000.0));
        let ramp = plan(&["-R", "100:300", "-d", "10s"]).unwrap();
        let asked = ramp.rate_asked().unwrap();
        assert!((asked - 200.0).abs() < 1e-6, "{asked}");
        let steps = plan(&["--steps", "100,200@5s", "-d", "10s", "--warmup", "0"]).unwrap();
        let asked = steps.rate_asked().unwrap();
        assert!((asked - 150.0).abs() < 1e-6, "{asked}");
    }

    #[test]
    fn flags_that_mean_nothing_are_refused() {
        check_flag(&["--pacing", "conn"], "--pacing");
        check_flag(&["--arrival", "poisson"], "--arrival");
        check_flag(&["--catch-up", "2"], "--catch-up");
        check_flag(&["-R", "1", "--catch-up", "0.5"], "--catch-up");
        check_flag(
            &["-R", "1", "--pacing", "conn", "--max-backlog", "1"],
            "--pacing",
        );
        check_flag(&["--spin", "50"], "--spin");
        check_flag(&["--pin", "x"], "--pin");
        check_flag(&["-R", "x"], "-R");
        check_flag(&["--steps", "1,2"], "--steps");
        check_flag(&["--pipeline", "2", "--close"], "--pipeline");
        check_flag(&["--pipeline", "2", "-b", "1M"], "--pipeline");
        check_flag(&["--stall", "2:5ms"], "--stall");
        check_flag(&["--stall", "1:10s"], "--stall");
        check_flag(&["--stall", "1:5ms", "--pipeline", "2"], "--stall");
        check_flag(&["--expect", "2x"], "--expect");
        check_flag(&["--verify", "2/3"], "--verify");
        check_flag(&["--verify", "1/0"], "--verify");
        check_flag(&["--slo", "p99"], "--slo");
        check_flag(&["--src", "x"], "--src");
        check_flag(&["--start-at", "soon"], "--start-at");
        check_flag(&["-s", "script.lua"], "-s");
    }

    #[test]
    fn turns_are_of_closed_loops_that_can_stop() {
        let with = |more: &[&'static str]| {
            let turns = ["--turns", "50ms", "--turn", "2/2"];
            turns.iter().chain(more).copied().collect::<Vec<_>>()
        };
        let turns = plan(&with(&[])).unwrap().turns;
        let want = Turns {
            length: Duration::from_millis(50),
            turn: 2,
            of: 2,
        };
        assert_eq!(turns, Some(want));
        assert_eq!(plan(&[]).unwrap().turns, None);
        for wrong in ["", "1", "0/2", "3/2", "1/1", "1/65", "+1/2", "1/2/2", "a/b"] {
            check_flag(&["--turns", "50ms", "--turn", wrong], "--turn");
        }
        check_flag(&["--turns", "50ms"], "--turns");
        check_flag(&["--turn", "1/2"], "--turn");
        check_flag(&["--turns", "0", "--turn", "1/2"], "--turns");
        check_flag(&["--turns", "11s", "--turn", "1/2"], "--turns");
        check_flag(&with(&["-R", "1k"]), "--turns");
        check_flag(&with(&["--steps", "1k@5s"]), "--turns");
        check_flag(&with(&["--ramp-conns", "1s"]), "--turns");
        check_flag(&with(&["--stall", "1%:5ms"]), "--turns");
        check_flag(&with(&["--read-rate", "1k"]), "--turns");
        check_flag(&with(&["-d", "99ms"]), "--turns");
        assert!(plan(&with(&["-d", "100ms", "--reuse", "1", "--pipeline", "1"])).is_ok());
    }

    #[test]
    fn start_is_a_time_of_either_form() {
        let at = |text| plan(&["--start-at", text]).unwrap().start_at;
        assert_eq!(
            at("1795216200.5"),
            Some(Duration::from_millis(1_795_216_200_500))
        );
        assert_eq!(
            at("2026-11-20T23:10:00Z"),
            Some(Duration::from_secs(1_795_216_200))
        );
    }

    #[test]
    fn there_is_a_thread_for_each_cpu_that_is_named() {
        assert_eq!(plan(&["--pin", "0-2"]).unwrap().threads, 3);
        assert_eq!(plan(&["--pin", "0-2", "-t", "1"]).unwrap().threads, 1);
        assert_eq!(plan(&["--pin", "0-2", "-c", "2"]).unwrap().threads, 2);
    }

    #[test]
    fn a_spin_has_a_length_of_its_own_or_the_usual_one() {
        let spin = |words: &[&str]| plan(words).unwrap().spin;
        assert_eq!(spin(&["-R", "1k"]), Duration::ZERO);
        assert_eq!(spin(&["-R", "1k", "--spin"]), Duration::from_micros(100));
        assert_eq!(
            spin(&["-R", "1k", "--spin", "20"]),
            Duration::from_micros(20)
        );
    }

    #[test]
    fn bodies_are_copied_where_they_cannot_be_discarded() {
        let drain = |words: &[&str]| plan(words).unwrap().drain;
        assert_eq!(drain(&[]), Drain::Trunc);
        assert_eq!(drain(&["--drain", "copy"]), Drain::Copy);
        assert_eq!(drain(&["--drain", "trunc"]), Drain::Trunc);
        assert_eq!(
            drain(&["--drain", "trunc", "--read-rate", "1k"]),
            Drain::Copy
        );
        let words = ["hp-bench", "unix:/run/x", "--drain", "trunc"].map(OsString::from);
        let unix = Plan::resolve(&crate::cli::parse(words).unwrap(), 1).unwrap();
        assert_eq!(unix.drain, Drain::Copy);
    }

    #[test]
    fn requests_of_the_threads_add_up() {
        let plan = plan(&["-n", "10", "-t", "3", "-c", "3"]).unwrap();
        assert_eq!(
            [0, 1, 2].map(|worker| plan.requests_share(worker)),
            [4, 3, 3]
        );
    }

    #[test]
    fn missing_body_file_is_not_misuse() {
        let error = plan(&["-b", "@/nonexistent/x"]).unwrap_err();
        assert!(!error.is_misuse());
        assert!(
            error.to_string().starts_with("-b /nonexistent/x: "),
            "{error}"
        );
    }
}
