//! Load generator: closed loop over keep-alive connections, with latency histograms.
//!
//! [`worker::work`] is one thread's whole run and needs no process: a simulator can run it.
//! [`run`] is the process around it: addresses, threads, signals.

// Both panic where their reader has left.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod calibrate;
pub mod cli;
pub mod command;
pub mod compare;
mod conn;
mod date;
mod dice;
pub mod diff;
pub mod find;
mod fleet;
mod flights;
mod format;
mod idle;
pub mod interval;
pub mod interval_log;
mod latch;
mod live;
pub mod merge;
pub mod observe;
pub mod output;
mod pacer;
pub mod page;
pub mod plan;
pub mod plot;
pub mod present;
pub mod progress;
pub mod rate;
pub mod record;
pub mod report;
pub mod request;
mod response;
pub mod result;
pub mod samples;
pub mod schedule;
pub mod slo;
pub mod statistics;
pub mod target;
pub mod traffic;
pub mod units;
pub mod verdict;
pub mod worker;

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::Ordering;
use std::time::Duration;

use hp_core::rt::net::Address;
use hp_core::rt::worker::{Context, Pin, WorkerId, Workers, WorkersError, WorkersOptions};
use hp_core::rt::{Engine, Rt, RtOptions, StartError};
use hp_core::sys::signal::{Signal, Signals};
use hp_core::sys::{clock, cpu, heap, limits};

use crate::live::Live;
use crate::observe::{Costs, ObserveError, Observer};
use crate::plan::{Plan, SharedPlan};
use crate::record::{ErrorClass, Record};
use crate::result::Second;
use crate::worker::{Listeners, Message, Outcome, WindowStart};

pub use live::SeriesError;

/// A run that did run.
#[derive(Debug)]
pub struct Run {
    /// All threads' records together.
    pub record: Record,
    /// Where the requests went.
    pub addr: Address,
    /// The engine in use; never `auto`.
    pub engine: String,
    /// One line about the engine, and about one that was passed over.
    pub engine_story: String,
    /// When the clock started, in ns since 1970-01-01 UTC; when the program did, where a signal came
    /// before.
    pub started_wall_ns: u64,
    /// The signal that ended the run, if one did.
    pub interrupted: Option<Signal>,
    /// What each second brought.
    pub series: Vec<Second>,
    /// What this program and the target took in the counted window.
    pub costs: Costs,
}

/// Runs the plan from resolving the name to the last answer.
///
/// # Errors
/// [`RunError`] where nothing could be measured.
pub fn run(plan: &Plan) -> Result<Run, RunError> {
    // Blocked here, so that every thread started below has them blocked too.
    let signals =
        Signals::block(&[Signal::Terminate, Signal::Interrupt]).map_err(RunError::Signals)?;
    heap::keep_tables_apart();
    let _as_it_was = limits::raise_open_files(); // With the old limit fewer connections fit.
    let _as_it_grows = limits::make_room_for_files(); // Else some connections wait while it does.
    let called_wall_ns = clock::wall_ns();
    let addr = choose(plan)?;
    let options = WorkersOptions {
        count: plan.threads,
        rt: RtOptions {
            engine: plan.engine,
            ..RtOptions::default()
        },
        pin: pin(plan)?,
        name: "hp-bench",
    };
    let threads_plan = SharedPlan::new(plan.clone());
    let (outlet, inlet) = interval::channel(plan.threads);
    let mut live = Live::new(plan, inlet).map_err(RunError::Series)?;
    let mut observer = Observer::new(plan).map_err(RunError::Observe)?;
    // For the threads that start below: they wait for points in time, not about them.
    match clock::set_timer_slack(Duration::from_nanos(1)) {
        Ok(()) => (),
        Err(_denied) => (), // The lag shows it.
    }
    let listeners = Listeners {
        outlet: Some(outlet),
        ..Listeners::default()
    };
    let window_start_ns = WindowStart::clone(&listeners.window_start_ns);
    let threads_addr = addr.clone();
    let workers = hp_core::rt::worker::start(&options, move |context| {
        let address = threads_addr.clone();
        work(
            context,
            SharedPlan::clone(&threads_plan),
            address,
            listeners.clone(),
        )
    })
    .map_err(RunError::Workers)?;
    let engine_story = workers.engine().to_owned();
    let interrupted = watch(&signals, &workers, || {
        live.poll();
        observer.poll(
            window_start_ns.load(Ordering::Relaxed),
            clock::monotonic_ns(),
        );
    })?;
    let costs = observer.finish(clock::monotonic_ns());
    let ended = workers.join().map_err(RunError::Workers)?;
    let series = live.finish().map_err(RunError::Series)?;
    let (record, started_wall_ns, engine) = together(&ended);
    if started_wall_ns.is_none() && interrupted.is_none() {
        return Err(RunError::Connect {
            addr,
            class: worst(&record),
        });
    }
    let started_wall_ns = started_wall_ns.unwrap_or(called_wall_ns);
    Ok(Run {
        record,
        addr,
        engine,
        engine_story,
        started_wall_ns,
        interrupted,
        series,
        costs,
    })
}

/// Where the threads are to stay: where they were told, else wherever the scheduler keeps them apart from the target, which
/// usually runs on the same machine.
fn pin(plan: &Plan) -> Result<Pin, RunError> {
    if plan.pin.is_empty() {
        return Ok(Pin::Off);
    }
    let allowed = cpu::allowed().map_err(RunError::Cpus)?;
    match plan.pin.iter().find(|cpu| !allowed.contains(cpu)) {
        Some(&cpu) => Err(RunError::Pin { cpu, allowed }),
        None => Ok(Pin::To(plan.pin.clone())),
    }
}

/// All threads' records as one, when the window began, and the engine that all of them use.
fn together(ended: &[(Outcome, Engine)]) -> (Record, Option<u64>, String) {
    let mut record: Option<Record> = None;
    let (mut started_wall_ns, mut engine) = (None, Engine::Auto);
    for (outcome, thread_engine) in ended {
        match &mut record {
            None => record = Some(outcome.record.clone()),
            Some(record) => record.merge(&outcome.record),
        }
        started_wall_ns = started_wall_ns.or(outcome.started_wall_ns);
        engine = *thread_engine;
    }
    (
        record.unwrap_or_default(),
        started_wall_ns,
        engine.to_string(),
    )
}

/// Why nothing could be measured.
#[derive(Debug)]
pub enum RunError {
    /// The signals cannot be read.
    Signals(io::Error),
    /// The target's name has no address.
    Resolve {
        /// The name.
        host: String,
        /// The resolver's word; `None` for an empty answer.
        cause: Option<io::Error>,
    },
    /// The target's cost cannot be measured.
    Observe(ObserveError),
    /// The system does not say which CPUs there are.
    Cpus(io::Error),
    /// A thread is to stay on a CPU that it may not use.
    Pin {
        /// As asked.
        cpu: usize,
        /// Those that it may use.
        allowed: Vec<usize>,
    },
    /// The runtime for trying the target's addresses cannot start.
    Start(StartError),
    /// The threads cannot start, or one did not end well.
    Workers(WorkersError),
    /// The file of the seconds cannot be written.
    Series(SeriesError),
    /// Not one connection could be opened.
    Connect {
        /// Where to.
        addr: Address,
        /// The most frequent failure.
        class: ErrorClass,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signals(cause) => write!(f, "cannot wait for signals: {cause}"),
            Self::Resolve {
                host,
                cause: Some(cause),
            } => {
                write!(
                    f,
                    "cannot resolve {host}: {cause}; check the name or give an address"
                )
            }
            Self::Resolve { host, cause: None } => {
                write!(f, "cannot resolve {host}: it has no address; give one")
            }
            Self::Observe(error) => write!(f, "{error}"),
            Self::Cpus(cause) => write!(f, "cannot pin threads: {cause}; leave --pin out"),
            Self::Pin { cpu, allowed } => {
                let allowed: Vec<String> = allowed.iter().map(usize::to_string).collect();
                let allowed = allowed.join(",");
                write!(
                    f,
                    "--pin: this process may not use CPU {cpu}; name some of {allowed}"
                )
            }
            Self::Start(error) => write!(f, "{error}"),
            Self::Workers(error) => write!(f, "{error}"),
            Self::Series(error) => write!(f, "{error}"),
            Self::Connect { addr, class } => {
                let (cause, remedy) = match class {
                    ErrorClass::ConnectRefused => {
                        ("connection refused", "start the server or check the port")
                    }
                    ErrorClass::ConnectTimeout => (
                        "no answer in time",
                        "check the address or give a longer --timeout",
                    ),
                    ErrorClass::LocalPorts => (
                        "no local port is free, or --src is no address of this machine",
                        "give fewer connections or other addresses",
                    ),
                    ErrorClass::LocalFds => (
                        "too many open files",
                        "raise ulimit -n or give fewer connections",
                    ),
                    _ if matches!(addr, Address::Unix(_)) => (
                        "no socket there takes connections",
                        "start the server or check the path",
                    ),
                    _ => ("no connection", "check the address"),
                };
                write!(f, "cannot connect to {addr}: {cause}; {remedy}")
            }
        }
    }
}

impl std::error::Error for RunError {}

/// The target's first address that takes a connection. A lone address is not tried beforehand.
fn choose(plan: &Plan) -> Result<Address, RunError> {
    if let Some(path) = plan.target.unix() {
        return Ok(Address::Unix(path.to_owned()));
    }
    let host = plan.target.host();
    let resolve_error = |cause| RunError::Resolve {
        host: host.to_owned(),
        cause,
    };
    let addrs: Vec<SocketAddr> = (host, plan.target.port())
        .to_socket_addrs()
        .map_err(|cause| resolve_error(Some(cause)))?
        .collect();
    let Some(&first) = addrs.first() else {
        return Err(resolve_error(None));
    };
    if addrs.len() == 1 {
        return Ok(first.into());
    }
    let options = RtOptions {
        engine: Engine::Epoll,
        ..RtOptions::default()
    };
    let rt = Rt::new(&options).map_err(RunError::Start)?;
    let chosen = rt.block_on(async {
        for &addr in &addrs {
            if rt
                .connect(addr, rt.precise_now() + plan.connect_timeout)
                .await
                .is_ok()
            {
                return Some(addr);
            }
        }
        None
    });
    rt.shut_down();
    Ok(chosen.unwrap_or(first).into()) // Its failure is then found, and told, by the run.
}

async fn work(
    context: Context<Message>,
    plan: SharedPlan,
    address: Address,
    listeners: Listeners,
) -> (Outcome, Engine) {
    let engine = context.rt.engine();
    let outcome = worker::work(context, plan, address, listeners).await;
    (outcome, engine)
}

/// Waits for the threads' end, looks around meanwhile, and tells them of a signal.
fn watch<T>(
    signals: &Signals,
    workers: &Workers<Message, T>,
    mut look: impl FnMut(),
) -> Result<Option<Signal>, RunError> {
    let mut interrupted = None;
    while !workers.are_finished() {
        look();
        let signal = signals.wait_for(SIGNAL_PAUSE).map_err(RunError::Signals)?;
        if signal.is_none() || interrupted.is_some() {
            continue;
        }
        interrupted = signal;
        for id in (0..workers.mesh().workers()).map(WorkerId) {
            match workers.mesh().send(id, Message::Stop) {
                Ok(()) => (),
                Err(_message) => (), // This one has ended already.
            }
        }
    }
    Ok(interrupted)
}

/// The most frequent failure.
fn worst(record: &Record) -> ErrorClass {
    let most = record.errors.iter().max_by_key(|&(_class, count)| count);
    most.map_or(ErrorClass::ConnectOther, |(class, _count)| class)
}

/// How often the main thread looks whether the threads have ended.
const SIGNAL_PAUSE: Duration = Duration::from_millis(20);
