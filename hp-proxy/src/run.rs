//! The main thread: binds, starts the workers, and answers signals and commands.

use crate::config::plan::{Listener, Plan, Serves};
use crate::control::Control;
use crate::counters::Rows;
use crate::listener::BACKLOG;
use crate::names::Names;
use crate::reload::{Running, Source};
use crate::shared::{Latest, Message, SharedPlan, Threads};
use crate::{thread, worker};
use hp_core::rt::net::{self, BindError, BindOptions, Bound};
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
    /// Signals, or commands of other threads, cannot be received.
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

/// Serves until a signal ends it. `source` is what the plan was made from.
///
/// # Errors
/// [`RunError`].
pub fn run(mut plan: Plan, source: Source) -> Result<(), RunError> {
    use Signal::{Hangup, Interrupt, Terminate, User1};
    // Before any thread, so that all of them inherit it.
    let signals =
        Signals::block(&[Hangup, Interrupt, Terminate, User1]).map_err(RunError::Signals)?;
    match limits::raise_open_files() {
        Ok(_limit) => (),
        Err(error) => eprintln!("hp-proxy: cannot raise the limit of open files: {error}"),
    }
    let bound = bind_all(&plan).map_err(RunError::Listen)?;
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
    let control = Control::new().map_err(RunError::Signals)?;
    let mut servers = Names::new(control.clone());
    servers.complete(&mut plan).map_err(RunError::Workers)?;
    servers.settle(&plan);
    let plan = SharedPlan::new(plan).controlled_by(control.clone());
    let threads = has_crew.then(|| hire(&plan, &rows));
    let workers = {
        let (plan, rows, threads) = (plan.clone(), rows.clone(), threads.clone());
        start(&options, move |context| {
            worker::main(context, plan.clone(), rows.clone(), threads.clone())
        })
    }
    .map_err(RunError::Workers)?;
    let mut running = Running::new((plan, servers), source, (control, rows), (workers, threads));
    let listening = running.listen(bound).map_err(RunError::Workers)?;
    let crew = threads_max.map(|max| format!(", at most {max} threads for connections"));
    let crew = crew.unwrap_or_default();
    eprintln!(
        "hp-proxy: {}, {} workers{crew}",
        running.workers.engine(),
        options.count
    );
    eprint!("{listening}");
    obey(&signals, running)
}

/// Threads that serve a connection each, and what they share.
fn hire(plan: &SharedPlan, rows: &Rows) -> Threads {
    let latest = Latest::new(plan.clone());
    let crew = thread::crew(plan, rows, &latest);
    Threads { crew, latest }
}

/// Binds every address for all workers, in the order of the plan; what is bound is given back where one cannot be.
fn bind_all(plan: &Plan) -> Result<Vec<(Bound, Serves)>, BindError> {
    let bound = plan
        .listeners
        .iter()
        .map(|listener| Ok((bind(listener, plan.workers)?, listener.serves)));
    bound.collect()
}

/// Binds an address for all workers.
pub(crate) fn bind(listener: &Listener, workers: u32) -> Result<Bound, BindError> {
    let options = BindOptions {
        count: workers,
        backlog: BACKLOG,
        port: listener.port,
        socket_mode: listener.socket_mode,
    };
    net::bind(&listener.address, &options)
}

fn obey(signals: &Signals, mut running: Running) -> Result<(), RunError> {
    let control = running.control.clone();
    let mut is_draining = false;
    loop {
        if running.workers.are_finished() {
            let threads = running.threads.as_ref();
            if let Some(threads) = threads {
                threads.crew.end(); // Nobody brings them anything any more.
            }
            if threads.is_none_or(|threads| threads.crew.threads() == 0) {
                control.close();
                running.workers.join().map_err(RunError::Workers)?;
                return conclude(running.threads.as_ref(), &running.rows);
            }
        }
        let look = if is_draining {
            LOOK_WHILE_DRAINING
        } else {
            LOOK_AT_WORKERS
        };
        let signal = signals.wait_for_or(control.bell(), look);
        let signal = signal.map_err(RunError::Signals)?;
        match signal {
            None => (),
            Some(Signal::User1) => eprint!("hp-proxy: so far\n{}", running.rows),
            Some(Signal::Interrupt | Signal::Terminate) if is_draining => {
                control.close();
                return Err(cut(running.workers, running.threads.as_ref()));
            }
            Some(Signal::Interrupt | Signal::Terminate) => {
                is_draining = true;
                eprintln!("hp-proxy: draining");
                control.close();
                running.names.clear(); // From now on a successor may have them.
                tell_all(&running.workers, || Message::Drain);
            }
            Some(Signal::Hangup) if is_draining => (), // There is nothing to follow it with.
            Some(Signal::Hangup) => running.reload_for_operators(),
            Some(Signal::User2) => (), // Not blocked: it does not come here.
        }
        let mut was_idle = signal.is_none();
        while let Some(asked) = control.next() {
            was_idle = false;
            let answer = running.answer(&asked.command);
            asked.answer(answer);
        }
        was_idle &= is_draining || !running.look_at_servers();
        if was_idle && !is_draining {
            running.look_at_files(); // Once in `LOOK_AT_WORKERS`, so that a file has rested between two looks.
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

pub(crate) fn tell_all(workers: &Workers<Message, ()>, message: impl Fn() -> Message) {
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
