//! What this machine can do: how dear its clock is, how late it wakes, how fast its loopback is, and what its limits allow.
//!
//! For whoever wants to know which results to expect here, and why a result is what it is. Takes two seconds and opens no
//! port to others.
//!
//! Must not know: targets, plans.

mod host;
mod model;
mod ticks;
mod timers;
mod trips;

use std::fmt;
use std::io;
use std::time::Duration;

use hp_core::rt::worker::{
    Context, Pin, WorkersError, WorkersOptions, count_for_this_process, start,
};
use hp_core::rt::{Engine, Rt, RtOptions, StartError};
use hp_core::sys::clock;

use crate::command::Calibrate;
use crate::observe::{machine_shares, machine_times};
use crate::output::JsonTo;
use crate::present::{write, write_file};
use crate::report::VERSION;
use crate::result::Tool;

pub use model::{Calibration, EngineTimes, Limits, SCHEMA, Spin, Ticks, Times};

/// Measures and tells; gives the exit status.
///
/// # Errors
/// A line for the user.
pub fn calibrate(words: &Calibrate) -> Result<u8, String> {
    let calibration = measure().map_err(|error| error.to_string())?;
    let text = calibration.to_string();
    let json = || -> String {
        let text = serde_json::to_string(&calibration);
        text.expect("numbers and texts are always written") + "\n"
    };
    match words.json_to() {
        JsonTo::Stdout => {
            write(io::stderr(), &text)?;
            write(io::stdout(), &json())?;
        }
        JsonTo::Nowhere => write(io::stdout(), &text)?,
        JsonTo::File(file) => {
            write(io::stdout(), &text)?;
            write_file(&file, &json(), "--json")?;
        }
    }
    Ok(0)
}

/// Why the machine cannot be measured.
#[derive(Debug)]
pub enum CalibrateError {
    /// Not even epoll starts.
    Start(StartError),
    /// The loopback carries no connection.
    Loopback(io::Error),
    /// Threads cannot be had.
    Threads(WorkersError),
}

impl fmt::Display for CalibrateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => write!(f, "{error}"),
            Self::Loopback(cause) => write!(
                f,
                "cannot connect over 127.0.0.1: {cause}; bring the loopback interface up"
            ),
            Self::Threads(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for CalibrateError {}

/// Measures everything.
///
/// # Errors
/// [`CalibrateError`] where the machine cannot be measured. An engine that does not start is told in the result instead.
pub fn measure() -> Result<Calibration, CalibrateError> {
    match clock::set_timer_slack(Duration::from_nanos(1)) {
        Ok(()) => (),
        Err(_denied) => (), // The lateness shows it.
    }
    let started = machine_times();
    let first = ticks::Reading::take();
    let clock_read_ns = ticks::cost(clock::monotonic_ns);
    let tick_read_ns = clock::ticks().map(|_| ticks::cost(|| clock::ticks().unwrap_or(0)));
    let engines = [Engine::Epoll, Engine::Uring]
        .into_iter()
        .map(engine)
        .collect::<Result<Vec<_>, _>>()?;
    let middle = ticks::Reading::take();
    let spin = spin()?;
    let last = ticks::Reading::take();
    let (steal_pct, _softirq) = machine_shares(&started, &machine_times());
    Ok(Calibration {
        schema: SCHEMA.to_owned(),
        tool: Tool {
            name: "hp-bench".to_owned(),
            version: VERSION.to_owned(),
            ..Tool::default()
        },
        cpus: count_for_this_process(),
        clock_source: host::clock_source(),
        clock_read_ns,
        ticks: tick_read_ns.and_then(|read_ns| ticks::drift(read_ns, [first, middle, last])),
        engines,
        spin,
        limits: host::limits(),
        congestion_control: host::congestion_control(),
        steal_pct,
    })
}

/// Timers and round trips on one engine; an engine that does not start has its reason instead.
fn engine(engine: Engine) -> Result<EngineTimes, CalibrateError> {
    let mut told = EngineTimes {
        engine: engine.to_string(),
        ..EngineTimes::default()
    };
    let options = RtOptions {
        engine,
        ..RtOptions::default()
    };
    let rt = match Rt::new(&options) {
        Ok(rt) => rt,
        Err(error) if engine == Engine::Epoll => return Err(CalibrateError::Start(error)),
        Err(error) => {
            told.passed_over = Some(error.to_string());
            return Ok(told);
        }
    };
    told.timer_late_ns = rt.block_on(timers::lateness(&rt, Duration::ZERO));
    told.timer_late_spinning_ns = rt.block_on(timers::lateness(&rt, SPIN));
    let trips = rt.block_on(trips::round_trips(&rt));
    rt.shut_down();
    told.round_trip_ns = trips.map_err(CalibrateError::Loopback)?;
    Ok(told)
}

/// How much each CPU does while all are busy, by what one does alone.
fn spin() -> Result<Spin, CalibrateError> {
    let alone = spin_on(1)?;
    let cpus = count_for_this_process();
    let together = if cpus > 1 { spin_on(cpus)? } else { alone };
    Ok(Spin {
        cpus,
        alone_per_us: alone,
        together_per_us: together,
        factor: if alone > 0.0 { together / alone } else { 0.0 },
    })
}

/// Steps per microsecond of CPU time, on average over threads that run at the same time. CPU time and not the clock's, so that a
/// busy neighbour only takes from it what it takes from the CPU itself.
fn spin_on(threads: u32) -> Result<f64, CalibrateError> {
    let options = WorkersOptions {
        count: threads,
        rt: RtOptions {
            engine: Engine::Epoll,
            ..RtOptions::default()
        },
        pin: Pin::Auto,
        name: "hp-bench",
    };
    let workers = start(&options, |_context: Context<()>| async {
        ticks::steps_per_us(SPIN_NS)
    });
    let speeds = workers
        .and_then(hp_core::rt::worker::Workers::join)
        .map_err(CalibrateError::Threads)?;
    Ok(speeds.iter().sum::<f64>() / f64::from(threads.max(1)))
}

/// How long before its time a spinning wait stops sleeping.
const SPIN: Duration = Duration::from_micros(50);
/// CPU time of each spinning thread.
const SPIN_NS: u64 = 100_000_000;
