//! The main thread: binds, starts the workers, and answers signals.

use crate::config::plan::Plan;
use crate::counters::Rows;
use crate::listener::BACKLOG;
use crate::shared::{Message, SharedPlan, Threads};
use crate::upstream::SharedLedger;
use crate::upstream::balance::Balancing;
use crate::{thread, worker};
use hp_core::rt::net::{Socket, listen, probe_exclusive};
use hp_core::rt::worker::{Pin, WorkerId, Workers, WorkersError, WorkersOptions, start};
use hp_core::rt::{Engine, RtOptions};
use hp_core::sys::limits;
use hp_core::sys::signal::{Signal, Signals};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Why the proxy could not start or go on.
#[derive(Debug)]
pub enum RunError {
    /// The address cannot be listened on.
    Listen(SocketAddr, io::Error),
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
            Self::Listen(addr, error) => {
                write!(f, "--listen {addr}: {error}{}", listen_remedy(error))
            }
            Self::Signals(error) => write!(f, "cannot receive signals: {error}"),
            Self::Workers(error) => error.fmt(f),
            Self::Impatient => f.write_str("stopped by a second signal; connections were cut"),
        }
    }
}

impl std::error::Error for RunError {}

fn listen_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; stop the program that uses the port, or choose another one",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address, use one of its own",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges, use a higher one",
        _ => "",
    }
}

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
    let (sockets, addr) = bind(&plan)?;
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
    for (index, socket) in (0..).zip(sockets) {
        if workers
            .mesh()
            .send(WorkerId(index), Message::Listen(socket))
            .is_err()
        {
            return Err(RunError::Workers(WorkersError::Died));
        }
    }
    let crew = threads_max.map(|max| format!(", at most {max} threads for connections"));
    let crew = crew.unwrap_or_default();
    eprintln!(
        "hp-proxy: {}, {} workers{crew}",
        workers.engine(),
        options.count
    );
    eprintln!("listening on {addr}");
    obey(&signals, workers, threads.as_ref(), &rows)
}

/// Threads that serve a connection each, and what they share.
fn hire(plan: &SharedPlan, rows: &Rows) -> Threads {
    let balancing = Balancing::even(plan.backends.len());
    let ledger = SharedLedger::new(&balancing, plan.limits.upstream_conns_of_all());
    let crew = thread::crew(plan, rows, &ledger);
    Threads { crew, ledger }
}

/// One listening socket a worker, all on one port.
fn bind(plan: &Plan) -> Result<(Vec<Socket>, SocketAddr), RunError> {
    let failed = |error| RunError::Listen(plan.listen, error);
    if plan.listen.port() != 0 {
        probe_exclusive(plan.listen).map_err(failed)?;
    }
    let first = listen(plan.listen, BACKLOG).map_err(failed)?;
    let addr = first.local_addr().map_err(failed)?;
    let mut sockets = vec![first];
    for _ in 1..plan.workers {
        sockets.push(listen(addr, BACKLOG).map_err(failed)?);
    }
    Ok((sockets, addr))
}

fn obey(
    signals: &Signals,
    workers: Workers<Message, ()>,
    threads: Option<&Threads>,
    rows: &Rows,
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
                tell_all(&workers, || Message::Drain);
            }
            Some(Signal::Hangup | Signal::User2) => {
                eprintln!("hp-proxy: there is no configuration file to reload; going on");
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
