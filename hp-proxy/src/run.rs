//! The main thread: binds, starts the workers, and answers signals.

use crate::config::plan::{ListenerId, Plan, Serves};
use crate::counters::Rows;
use crate::listening::Listening;
use crate::shared::{Message, SharedLedgers, SharedPlan, Threads};
use crate::upgrade::notify::Notify;
use crate::upgrade::pid_file::PidFile;
use crate::upgrade::{Arrival, Outcome, Program, Upgrades};
use crate::upstream::SharedLedger;
use crate::{thread, worker};
use hp_core::rt::mesh::Mesh;
use hp_core::rt::net::BindError;
use hp_core::rt::worker::{Pin, WorkerId, Workers, WorkersError, WorkersOptions, start};
use hp_core::rt::{Engine, RtOptions};
use hp_core::sys::signal::{Signal, Signals};
use hp_core::sys::{clock, limits};
use std::fmt;
use std::io;
use std::sync::mpsc;
use std::time::Duration;

/// Why the proxy could not start or go on.
#[derive(Debug)]
pub enum RunError {
    /// An address cannot be listened on.
    Listen(BindError),
    /// What another process passed on cannot be used; a line that says why.
    Inherited(String),
    /// The listening sockets cannot be given to the workers.
    ShareOut(io::Error),
    /// The process cannot be put on record; a line that says why.
    Record(String),
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
            Self::Inherited(line) | Self::Record(line) => f.write_str(line),
            Self::ShareOut(error) => write!(
                f,
                "cannot give the listening sockets to the workers: {error}"
            ),
            Self::Signals(error) => write!(f, "cannot receive signals: {error}"),
            Self::Workers(error) => error.fmt(f),
            Self::Impatient => f.write_str("stopped by a second signal; connections were cut"),
        }
    }
}

impl std::error::Error for RunError {}

/// Serves until a signal ends it, or until another process has taken over; `program` is what would be started for that.
///
/// # Errors
/// [`RunError`].
pub fn run(plan: Plan, program: Program) -> Result<(), RunError> {
    use Signal::{Hangup, Interrupt, Terminate, User1, User2};
    // Before any thread, so that all of them inherit it.
    let signals =
        Signals::block(&[Hangup, Interrupt, Terminate, User1, User2]).map_err(RunError::Signals)?;
    match limits::raise_open_files() {
        Ok(_limit) => (),
        Err(error) => eprintln!("hp-proxy: cannot raise the limit of open files: {error}"),
    }
    let notify = Notify::from_environment().map_err(RunError::Record)?;
    let mut arrival = Arrival::from_environment().map_err(RunError::Inherited)?;
    let listening = Listening::open(&plan, &mut arrival.inheritance).map_err(RunError::Listen)?;
    let arrival = arrival.taken().map_err(RunError::Inherited)?;
    let ready_lead = plan.timeouts.ready_lead;
    let pid_file = PidFile::new(plan.pid_file.clone());
    let upgrades = Upgrades::new(program, plan.timeouts.upgrade, arrival.state().clone());
    let (workers, threads, rows) = start_workers(plan)?;
    let mut main = Main {
        workers,
        threads,
        rows,
        listening,
        upgrades,
        notify,
        pid_file,
        ready_lead,
        stage: Stage::Serving,
    };
    arrival.agree().map_err(RunError::Inherited)?;
    main.listen()?;
    main.announce();
    let is_replacing = arrival.is_replacing();
    arrival.replace();
    main.take_charge(is_replacing)?;
    main.obey(&signals)
}

type Running = Workers<Message, ()>;

/// Workers with their runtimes, none of which listens yet.
fn start_workers(plan: Plan) -> Result<(Running, Option<Threads>, Rows), RunError> {
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
    let crew = threads_max.map(|max| format!(", at most {max} threads for connections"));
    let crew = crew.unwrap_or_default();
    eprintln!(
        "hp-proxy: {}, {} workers{crew}",
        workers.engine(),
        options.count
    );
    Ok((workers, threads, rows))
}

/// Threads that serve a connection each, and what they share.
fn hire(plan: &SharedPlan, rows: &Rows) -> Threads {
    let upstreams = plan.upstreams.iter().zip(plan.balancing());
    let of = upstreams
        .map(|(upstream, balancing)| SharedLedger::new(balancing, upstream.conns_of_all()));
    let ledgers: SharedLedgers = of.collect();
    let crew = thread::crew(plan, rows, &ledgers);
    Threads::new(crew, ledgers, plan.workers)
}

/// What the main thread has in its hands.
struct Main {
    workers: Running,
    threads: Option<Threads>,
    rows: Rows,
    listening: Listening,
    upgrades: Upgrades,
    notify: Notify,
    pid_file: PidFile,
    ready_lead: Duration,
    stage: Stage,
}

/// ```text
/// Serving ──SIGTERM──► Leaving ──the lead is over──► Draining
///    └────────── a successor has taken over ─────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    /// It serves, and says that nobody shall come any more; until then, by the monotonic clock in nanoseconds.
    Leaving(u64),
    Draining(Cause),
}

/// Why it drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Signal,
    /// Nobody has asked this process to end.
    Successor,
}

impl Main {
    /// Has the workers accept; returns when all of them do.
    fn listen(&self) -> Result<(), RunError> {
        let mesh = self.workers.mesh();
        let given = self.listening.share_out(mesh).map_err(RunError::ShareOut)?;
        let (to, reports) = mpsc::channel();
        tell_all(mesh, || Message::Report(to.clone()));
        drop(to); // A worker that dies ends the wait.
        let accepting: u32 = reports.iter().sum();
        if accepting < given {
            let error = "a worker cannot accept; its reason is in the log above";
            return Err(RunError::ShareOut(io::Error::other(error)));
        }
        Ok(())
    }

    /// One line for each listener.
    fn announce(&self) {
        let held = self.listening.held().iter();
        let lines = held.map(|held| match held.serves {
            Serves::Routes => format!("listening on {}\n", held.bound),
            Serves::Admin => format!("hp-proxy: admin on {}\n", held.bound),
        });
        // Who reads the first line of the routes may go on at once: what operators need stands before it.
        let (routes, admin): (Vec<String>, Vec<String>) =
            lines.partition(|line| line.starts_with("listening"));
        eprint!("{}{}", admin.concat(), routes.concat());
    }

    /// From now on this process is in charge.
    fn take_charge(&mut self, is_replacing: bool) -> Result<(), RunError> {
        self.listening.take_names_over();
        match self.pid_file.write() {
            Ok(()) => (),
            Err(line) if is_replacing => eprintln!("hp-proxy: {line}; going on"),
            Err(line) => return Err(RunError::Record(line)),
        }
        if !is_replacing {
            self.notify.ready(); // Else the predecessor, which is the one to be believed, has said it.
        }
        Ok(())
    }

    fn obey(mut self, signals: &Signals) -> Result<(), RunError> {
        loop {
            if self.workers.are_finished() {
                if let Some(threads) = &self.threads {
                    threads.crew.end(); // Nobody brings them anything any more.
                }
                let threads = self.threads.as_ref();
                if threads.is_none_or(|threads| threads.crew.threads() == 0) {
                    self.workers.join().map_err(RunError::Workers)?;
                    drop(self.pid_file); // Nobody is in charge when the last word is said.
                    return conclude(threads, &self.rows);
                }
            }
            self.look_at_upgrade();
            self.look_at_clock();
            let look = self.look();
            match signals.wait_for(look).map_err(RunError::Signals)? {
                None => (),
                Some(Signal::User1) => eprint!("hp-proxy: so far\n{}", self.rows),
                Some(Signal::Interrupt | Signal::Terminate) => match self.stage {
                    Stage::Serving => self.leave(),
                    Stage::Draining(Cause::Successor) => {
                        self.stage = Stage::Draining(Cause::Signal);
                        eprintln!("hp-proxy: draining already; another signal ends it at once");
                    }
                    Stage::Leaving(_) | Stage::Draining(Cause::Signal) => {
                        return Err(cut(self.workers, self.threads.as_ref()));
                    }
                },
                Some(Signal::User2) => self.upgrade(),
                Some(Signal::Hangup) => {
                    eprintln!(
                        "hp-proxy: no configuration file is read again while it runs; going on with its plan"
                    );
                }
            }
        }
    }

    /// How long it may wait for a signal.
    fn look(&self) -> Duration {
        match self.stage {
            _ if self.upgrades.is_under_way() => LOOK_AT_SUCCESSOR,
            Stage::Serving => LOOK_AT_WORKERS,
            Stage::Leaving(_) | Stage::Draining(_) => LOOK_WHILE_DRAINING,
        }
    }

    fn look_at_clock(&mut self) {
        if let Stage::Leaving(until) = self.stage
            && clock::monotonic_ns() >= until
        {
            self.drain();
        }
    }

    /// The process is to end: whoever sends requests here is told so first.
    fn leave(&mut self) {
        let mesh = self.workers.mesh();
        self.upgrades
            .give_up(mesh, "this process is to end, and its successor with it");
        self.notify.stopping();
        self.rows.readiness().leave();
        if self.ready_lead.is_zero() {
            return self.drain();
        }
        let lead = u64::try_from(self.ready_lead.as_nanos()).unwrap_or(u64::MAX);
        self.stage = Stage::Leaving(clock::monotonic_ns().saturating_add(lead));
        self.rows.readiness().keep_idle(IDLE_KEPT);
        eprintln!(
            "hp-proxy: no longer ready; draining in {:?}",
            self.ready_lead
        );
    }

    fn drain(&mut self) {
        self.stage = Stage::Draining(Cause::Signal);
        eprintln!("hp-proxy: draining");
        self.listening.close();
        tell_all(self.workers.mesh(), || Message::Drain);
    }

    fn upgrade(&mut self) {
        if self.stage != Stage::Serving {
            eprintln!("hp-proxy: no upgrade: this process is about to end");
        } else if self.upgrades.begin(&self.listening) {
            self.notify.reloading(clock::monotonic_ns());
        }
    }

    fn look_at_upgrade(&mut self) {
        match self.upgrades.poll(self.workers.mesh(), &self.listening) {
            Outcome::Nothing => (),
            Outcome::Failed => {
                self.notify.ready();
                if let Err(line) = self.pid_file.write() {
                    eprintln!("hp-proxy: {line}; going on");
                }
            }
            Outcome::Replaced { process, listeners } => self.hand_over(process, &listeners),
        }
    }

    fn hand_over(&mut self, process: u32, listeners: &[ListenerId]) {
        self.stage = Stage::Draining(Cause::Successor);
        eprintln!("hp-proxy: process {process} has taken over; draining");
        self.notify.replaced(process);
        self.pid_file.pass_on();
        self.rows.readiness().leave();
        self.rows.readiness().keep_idle(IDLE_KEPT);
        let mesh = self.workers.mesh();
        tell_all(mesh, || Message::HandOver(listeners.to_vec()));
        self.listening.pass_on(listeners);
    }
}

/// Ends everything now; what is in flight is reset.
fn cut(workers: Workers<Message, ()>, threads: Option<&Threads>) -> RunError {
    tell_all(workers.mesh(), || Message::Cut);
    if let Some(threads) = threads {
        threads.crew.cut();
        threads.crew.join();
    }
    match workers.join() {
        Ok(_ended) => RunError::Impatient,
        Err(error) => RunError::Workers(error),
    }
}

fn tell_all(mesh: &Mesh<Message>, message: impl Fn() -> Message) {
    for worker in 0..mesh.workers() {
        match mesh.send(WorkerId(worker), message()) {
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
/// The same while a successor starts: new connections wait for it at the end.
const LOOK_AT_SUCCESSOR: Duration = Duration::from_millis(1);
/// How long an idle connection is kept where clients have somewhere else to go: a busy one has made its next request by then, and
/// been told with the answer.
const IDLE_KEPT: Duration = Duration::from_secs(1);
