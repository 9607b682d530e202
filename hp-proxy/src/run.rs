//! The main thread: binds, starts the workers, and answers signals.

use crate::config::plan::{ListenerId, Plan, Serves};
use crate::counters::Rows;
use crate::listener::BACKLOG;
use crate::shared::{Message, SharedLedgers, SharedPlan, Threads};
use crate::upstream::SharedLedger;
use crate::{thread, worker};
use hp_core::rt::net::{self, BindError, BindOptions, Bound, SocketName};
use hp_core::rt::worker::{Pin, WorkerId, Workers, WorkersError, WorkersOptions, start};
use hp_core::rt::{Engine, RtOptions};
use hp_core::sys::limits;
use hp_core::sys::signal::{Signal, Signals};
use std::fmt;
use std::io;
use std::time::Duration;

/// Why the proxy could not start or go on.
#[derive(Debug)]
pub enum RunError {
    /// An address cannot be listened on.
    Listen(BindError),
    /// Signals cannot be received.
    Signals(io::Error),
    /// Workers did not start, or died.
    Workers(WorkersError),
    /// A second signal came during the drain.
    Impatient,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(error) => error.fmt(f),
            Self::Signals(error) => write!(f, "cannot receive signals: {error}"),
            Self::Workers(error) => error.fmt(f),
            Self::Impatient => f.write_str("stopped by a second signal; connections were cut"),
        }
    }
}

impl std::error::Error for RunError {}

/// Serves until a signal ends it.
///
/// # Errors
/// [`RunError`].
pub fn run(plan: Plan) -> Result<(), RunError> {
    use Signal::{Hangup, Interrupt, Terminate, User1};
    // Before any thread, so that all of them inherit it.
    let signals =
        Signals::block(&[Hangup, Interrupt, Terminate, User1]).map_err(RunError::Signals)?;
    match limits::raise_open_files() {
        Ok(_limit) => (),
        Err(error) => eprintln!("hp-proxy: cannot raise the limit of open files: {error}"),
    }
    let bound = bind(&plan).map_err(RunError::Listen)?;
    let has_crew = plan.engine == Engine::Threads;
    let threads_max = has_crew.then_some(plan.limits.threads_max);
    let rows = Rows::new(plan.workers, threads_max.unwrap_or(0));
    let options = WorkersOptions {
        count: plan.workers,
        rt: RtOptions {
            engine: plan.engine,
            ..RtOptions::default()
        },
        // Threads that a pinned one starts would be pinned as well.
        pin: if has_crew { Pin::Off } else { Pin::Auto },
        name: "hp-proxy",
    };
    let plan = SharedPlan::new(plan);
    let threads = has_crew.then(|| hire(&plan, &rows));
    let workers = {
        let (rows, threads) = (rows.clone(), threads.clone());
        start(&options, move |context| {
            worker::main(context, plan.clone(), rows.clone(), threads.clone())
        })
    }
    .map_err(RunError::Workers)?;
    let mut names = Vec::new();
    let mut listening = Vec::new();
    for (id, (bound, serves)) in (0..).map(ListenerId).zip(bound) {
        for (index, socket) in (0..).zip(bound.sockets) {
            let message = Message::Listen(socket, id);
            if workers.mesh().send(WorkerId(index), message).is_err() {
                return Err(RunError::Workers(WorkersError::Died));
            }
        }
        match serves {
            Serves::Routes => listening.push(format!("listening on {}\n", bound.address)),
            Serves::Admin => eprintln!("hp-proxy: admin on {}", bound.address),
        }
        names.extend(bound.name);
    }
    let crew = threads_max.map(|max| format!(", at most {max} threads for connections"));
    let crew = crew.unwrap_or_default();
    eprintln!(
        "hp-proxy: {}, {} workers{crew}",
        workers.engine(),
        options.count
    );
    eprint!("{}", listening.concat());
    obey(&signals, workers, threads.as_ref(), (&rows, names))
}

/// Threads that serve a connection each, and what they share.
fn hire(plan: &SharedPlan, rows: &Rows) -> Threads {
    let upstreams = plan.upstreams.iter().zip(plan.balancing());
    let of = upstreams
        .map(|(upstream, balancing)| SharedLedger::new(balancing, upstream.conns_of_all()));
    let ledgers: SharedLedgers = of.collect();
    let crew = thread::crew(plan, rows, &ledgers);
    Threads { crew, ledgers }
}

/// Binds every address for all workers, in the order of the plan; what is bound is given back where one cannot be.
fn bind(plan: &Plan) -> Result<Vec<(Bound, Serves)>, BindError> {
    let bound = plan.listeners.iter().map(|listener| {
        let options = BindOptions {
            count: plan.workers,
            backlog: BACKLOG,
            port: listener.port,
            socket_mode: listener.socket_mode,
        };
        Ok((net::bind(&listener.address, &options)?, listener.serves))
    });
    bound.collect()
}

fn obey(
    signals: &Signals,
    workers: Workers<Message, ()>,
    threads: Option<&Threads>,
    (rows, mut names): (&Rows, Vec<SocketName>),
) -> Result<(), RunError> {
    let mut is_draining = false;
    loop {
        if workers.are_finished() {
            if let Some(threads) = threads {
                threads.crew.end(); // Nobody brings them anything any more.
            }
            if threads.is_none_or(|threads| threads.crew.threads() == 0) {
                workers.join().map_err(RunError::Workers)?;
                return conclude(threads, rows);
            }
        }
        let look = if is_draining {
            LOOK_WHILE_DRAINING
        } else {
            LOOK_AT_WORKERS
        };
        match signals.wait_for(look).map_err(RunError::Signals)? {
            None => (),
            Some(Signal::User1) => eprint!("hp-proxy: so far\n{rows}"),
            Some(Signal::Interrupt | Signal::Terminate) if is_draining => {
                return Err(cut(workers, threads));
            }
            Some(Signal::Interrupt | Signal::Terminate) => {
                is_draining = true;
                eprintln!("hp-proxy: draining");
                names.clear(); // From now on a successor may have them.
                tell_all(&workers, || Message::Drain);
            }
            Some(Signal::Hangup | Signal::User2) => {
                eprintln!(
                    "hp-proxy: no configuration file is read again while it runs; going on with its plan"
                );
            }
        }
    }
}

/// Ends everything now; what is in flight is reset.
fn cut(workers: Workers<Message, ()>, threads: Option<&Threads>) -> RunError {
    tell_all(&workers, || Message::Cut);
    if let Some(threads) = threads {
        threads.crew.cut();
        threads.crew.join();
    }
    match workers.join() {
        Ok(_ended) => RunError::Impatient,
        Err(error) => RunError::Workers(error),
    }
}

fn tell_all(workers: &Workers<Message, ()>, message: impl Fn() -> Message) {
    for worker in 0..workers.mesh().workers() {
        match workers.mesh().send(WorkerId(worker), message()) {
            Ok(()) => (),
            Err(_ended) => (), // Its death is told by `join`.
        }
    }
}

/// The last words.
fn conclude(threads: Option<&Threads>, rows: &Rows) -> Result<(), RunError> {
    let cut = rows.sum(|row| &row.conns_cut);
    if cut > 0 {
        eprintln!("hp-proxy: {cut} connections did not finish within --drain-timeout and are cut");
    }
    if threads.is_some_and(|threads| threads.crew.has_died()) {
        return Err(RunError::Workers(WorkersError::Died));
    }
    eprint!("hp-proxy: done\n{rows}");
    Ok(())
}

/// How often the main thread looks whether the workers have ended, which none does unasked but by a panic of its own.
const LOOK_AT_WORKERS: Duration = Duration::from_secs(1);
/// The same while a drain makes them end.
const LOOK_WHILE_DRAINING: Duration = Duration::from_millis(20);
