//! The main thread: binds, starts the workers, and answers signals and commands.

use crate::config::plan::{ListenerId, Plan};
use crate::control::{Answer, Asked, Command, Control, Verdict};
use crate::counters::Rows;
use crate::listening::Listening;
use crate::names::Names;
use crate::reload::{Running, Source};
use crate::shared::{Latest, Message, SharedPlan, Threads};
use crate::upgrade::notify::Notify;
use crate::upgrade::pid_file::PidFile;
use crate::upgrade::{Arrival, Outcome, Program, Upgrades};
use crate::{thread, worker};
use hp_core::obs::notice::{say, say_lines};
use hp_core::rt::net::BindError;
use hp_core::rt::worker::{Pin, WorkersError, WorkersOptions, start};
use hp_core::rt::{Engine, RtOptions};
use hp_core::sys::signal::{Signal, Signals};
use hp_core::sys::{clock, heap, limits};
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
            Self::Inherited(line) | Self::Record(line) => f.write_str(line),
            Self::ShareOut(error) => {
                write!(
                    f,
                    "cannot give the listening sockets to the workers: {error}"
                )
            }
            Self::Signals(error) => write!(f, "cannot receive signals: {error}"),
            Self::Workers(error) => error.fmt(f),
            Self::Impatient => f.write_str("stopped by a second signal; connections were cut"),
        }
    }
}

impl std::error::Error for RunError {}

/// Serves until a signal ends it, or until another process has taken over. `source` is what the plan was made from, `program` what
/// would be started to take over.
///
/// # Errors
/// [`RunError`].
pub fn run(mut plan: Plan, source: Source, program: Program) -> Result<(), RunError> {
    use Signal::{Hangup, Interrupt, Terminate, User1, User2};
    // Before any thread, so that all of them inherit it.
    let signals =
        Signals::block(&[Hangup, Interrupt, Terminate, User1, User2]).map_err(RunError::Signals)?;
    heap::keep_tables_apart();
    match limits::raise_open_files() {
        Ok(_limit) => (),
        Err(error) => say(format_args!(
            "hp-proxy: cannot raise the limit of open files: {error}"
        )),
    }
    match limits::make_room_for_files() {
        Ok(()) => (),
        Err(_little_memory) => (), // It grows as it must, and connections wait meanwhile.
    }
    let notify = Notify::from_environment().map_err(RunError::Record)?;
    let mut arrival = Arrival::from_environment().map_err(RunError::Inherited)?;
    arrival.state.keep_via(&mut plan.forwarding);
    arrival.state.keep_key(&mut plan.process_key);
    let pid_file = PidFile::new(plan.pid_file.clone());
    let control = Control::new().map_err(RunError::Signals)?;
    let mut servers = Names::new(control.clone());
    servers.complete(&mut plan).map_err(RunError::Workers)?;
    servers.settle(&plan);
    let plan = SharedPlan::new(plan).controlled_by(control.clone());
    let listening = Listening::open(&plan, &mut arrival.inheritance).map_err(RunError::Listen)?;
    let arrival = arrival.taken().map_err(RunError::Inherited)?;
    let mut main = Main {
        upgrades: Upgrades::new(program, arrival.state().clone()),
        running: start_workers((plan, servers), source, control, listening)?,
        asked: Vec::new(),
        notify,
        is_reloading: false,
        pid_file,
        stage: Stage::Serving,
    };
    arrival.agree().map_err(RunError::Inherited)?;
    main.listen()?;
    say_lines(main.running.listening.lines());
    let is_replacing = arrival.is_replacing();
    arrival.replace();
    main.take_charge(is_replacing)?;
    main.obey(&signals)
}

/// Workers with their runtimes, none of which listens yet.
fn start_workers(
    (plan, servers): (SharedPlan, Names),
    source: Source,
    control: Control,
    listening: Listening,
) -> Result<Running, RunError> {
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
    let threads = has_crew.then(|| hire(&plan, &rows));
    let workers = {
        let (plan, rows, threads) = (plan.clone(), rows.clone(), threads.clone());
        start(&options, move |context| {
            worker::main(context, plan.clone(), rows.clone(), threads.clone())
        })
    }
    .map_err(RunError::Workers)?;
    let crew = threads_max.map(|max| format!(", at most {max} threads for connections"));
    let crew = crew.unwrap_or_default();
    say(format_args!(
        "hp-proxy: {}, {} workers{crew}",
        workers.engine(),
        options.count
    ));
    let (plan, control) = ((plan, servers), (control, rows));
    let workers = (workers, threads);
    Ok(Running::new(plan, source, control, workers, listening))
}

/// Threads that serve a connection each, and what they share.
fn hire(plan: &SharedPlan, rows: &Rows) -> Threads {
    let latest = Latest::new(plan.clone());
    let crew = thread::crew(plan, rows, &latest);
    Threads::new(crew, latest, plan.workers)
}

/// What the main thread has in its hands.
struct Main {
    running: Running,
    upgrades: Upgrades,
    /// Those who wait for the upgrade under way.
    asked: Vec<Asked>,
    notify: Notify,
    /// A reload has been told of, and not its end.
    is_reloading: bool,
    pid_file: PidFile,
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
        let mesh = self.running.workers.mesh();
        let given = self.running.listening.share_out(mesh);
        let given = given.map_err(RunError::ShareOut)?;
        let (to, reports) = mpsc::channel();
        self.running.tell_all(|| Message::Report(to.clone()));
        drop(to); // A worker that dies ends the wait.
        let accepting: u32 = reports.iter().sum();
        if accepting < given {
            let error = "a worker cannot accept; its reason is in the log above";
            return Err(RunError::ShareOut(io::Error::other(error)));
        }
        Ok(())
    }

    /// From now on this process is in charge.
    fn take_charge(&mut self, is_replacing: bool) -> Result<(), RunError> {
        self.running.listening.take_names_over();
        let mesh = self.running.workers.mesh();
        if let Err(line) = self.running.listening.complete(mesh) {
            say(format_args!(
                "hp-proxy: {line}; going on with the sockets of the process before"
            ));
        }
        match self.pid_file.write() {
            Ok(()) => (),
            Err(line) if is_replacing => say(format_args!("hp-proxy: {line}; going on")),
            Err(line) => return Err(RunError::Record(line)),
        }
        if !is_replacing {
            self.notify.ready(); // Else the predecessor, which is the one to be believed, has said it.
        }
        Ok(())
    }

    fn obey(mut self, signals: &Signals) -> Result<(), RunError> {
        let control = self.running.control.clone();
        loop {
            if self.has_ended() {
                control.close();
                let running = self.running;
                running.workers.join().map_err(RunError::Workers)?;
                drop(self.pid_file); // Nobody is in charge when the last word is said.
                return conclude(running.threads.as_ref(), &running.rows);
            }
            let signal = signals.wait_for_or(control.bell(), self.look());
            let signal = signal.map_err(RunError::Signals)?;
            let is_timed_out = signal.is_none();
            match signal {
                None => (),
                Some(Signal::User1) => tell_totals("so far", &self.running.rows),
                Some(Signal::Interrupt | Signal::Terminate) if self.is_impatient() => {
                    control.close();
                    return Err(cut(self.running));
                }
                Some(Signal::Interrupt | Signal::Terminate) => self.end(),
                Some(Signal::User2) => self.upgrade(None),
                Some(Signal::Hangup) => self.reload(),
            }
            self.look_at_upgrade();
            self.look_at_reload();
            self.look_at_clock();
            self.look_at_commands(is_timed_out);
            self.running.look_at_plans();
        }
    }

    /// Whether no worker is left, nor any thread that they have brought connections to.
    fn has_ended(&self) -> bool {
        if !self.running.workers.are_finished() {
            return false;
        }
        self.running.threads.as_ref().is_none_or(|threads| {
            threads.crew.end(); // Nobody brings them anything any more.
            threads.crew.threads() == 0
        })
    }

    /// How long it may wait for a signal.
    fn look(&self) -> Duration {
        match self.stage {
            _ if self.upgrades.is_under_way() => LOOK_AT_SUCCESSOR,
            Stage::Serving => LOOK_AT_WORKERS,
            Stage::Leaving(_) | Stage::Draining(_) => LOOK_WHILE_DRAINING,
        }
    }

    /// Whether another signal to end ends it at once.
    fn is_impatient(&self) -> bool {
        match self.stage {
            Stage::Serving | Stage::Draining(Cause::Successor) => false,
            Stage::Leaving(_) | Stage::Draining(Cause::Signal) => true,
        }
    }

    /// The first signal to end has come.
    fn end(&mut self) {
        if self.stage == Stage::Serving {
            return self.leave();
        }
        self.stage = Stage::Draining(Cause::Signal);
        say("hp-proxy: draining already; another signal ends it at once");
    }

    /// Whoever sends requests here is told first that the process is about to end.
    fn leave(&mut self) {
        let why = "this process is to end, and its successor with it";
        let _told = self.upgrades.give_up(self.running.workers.mesh(), why);
        self.tell_who_asked(Verdict::Unavailable, why);
        self.notify.stopping();
        let readiness = self.running.rows.readiness();
        readiness.leave();
        let lead = self.running.plan().timeouts.ready_lead;
        if lead.is_zero() {
            return self.drain();
        }
        readiness.keep_idle(IDLE_KEPT);
        let lead_ns = u64::try_from(lead.as_nanos()).unwrap_or(u64::MAX);
        self.stage = Stage::Leaving(clock::monotonic_ns().saturating_add(lead_ns));
        say(format_args!(
            "hp-proxy: no longer ready; draining in {lead:?}"
        ));
    }

    fn drain(&mut self) {
        self.stage = Stage::Draining(Cause::Signal);
        say("hp-proxy: draining");
        self.running.forget_reload();
        self.running.control.close();
        self.running.listening.close();
        self.running.tell_all(|| Message::Drain);
    }

    fn reload(&mut self) {
        match self.stage {
            _ if self.upgrades.is_under_way() => {
                say(format_args!("hp-proxy: not reloaded: {UPGRADING}"))
            }
            Stage::Serving | Stage::Leaving(_) => {
                self.notify.reloading(clock::monotonic_ns());
                self.is_reloading = true;
                self.running.reload_for_operators();
            }
            Stage::Draining(_) => (),
        }
    }

    /// Follows a plan that was made; during an upgrade it waits, since a successor is passed on the listeners of the plan with which that began.
    fn look_at_reload(&mut self) {
        if self.upgrades.is_under_way() || matches!(self.stage, Stage::Draining(_)) {
            return;
        }
        if self.running.look_at_reload() && self.is_reloading {
            self.is_reloading = false;
            self.notify.ready();
        }
    }

    fn look_at_clock(&mut self) {
        if let Stage::Leaving(until) = self.stage
            && clock::monotonic_ns() >= until
        {
            self.drain();
        }
    }

    /// Does what other threads ask, and follows names and files that change.
    fn look_at_commands(&mut self, is_timed_out: bool) {
        let mut is_idle = is_timed_out;
        while let Some(asked) = self.running.control.next() {
            is_idle = false;
            match &asked.command {
                Command::Upgrade => self.upgrade(Some(asked)),
                Command::Reload(_) | Command::Change(_) if self.upgrades.is_under_way() => {
                    let text = format!("{UPGRADING}\n");
                    asked.answer(Answer::new(Verdict::Unavailable, text));
                }
                _ => self.running.obey(asked),
            }
        }
        // A successor is passed on the listeners of the plan with which its upgrade began.
        if !self.upgrades.is_under_way() {
            // To the end: a drain may be long, and its requests go to servers that come and go.
            let has_heard = self.running.look_at_servers();
            if is_idle && !has_heard && self.stage == Stage::Serving {
                self.running.look_at_files(); // Once in `LOOK_AT_WORKERS`, so that a file has rested between two looks.
            }
        }
    }

    /// Begins an upgrade, for a signal or for somebody who waits for it.
    fn upgrade(&mut self, asked: Option<Asked>) {
        let begun = match self.stage {
            Stage::Serving => {
                let timeout = self.running.plan().timeouts.upgrade;
                self.upgrades.begin(&self.running.listening, timeout)
            }
            Stage::Leaving(_) | Stage::Draining(_) => {
                Err(String::from("no upgrade: this process is about to end"))
            }
        };
        match begun {
            Ok(process) => {
                self.notify.reloading(clock::monotonic_ns());
                say(format_args!("hp-proxy: upgrading to process {process}"));
                self.asked.extend(asked);
            }
            Err(line) => {
                say(format_args!("hp-proxy: {line}"));
                if let Some(asked) = asked {
                    asked.answer(Answer::new(Verdict::Unavailable, format!("{line}\n")));
                }
            }
        }
    }

    fn look_at_upgrade(&mut self) {
        let Running {
            workers, listening, ..
        } = &self.running;
        match self.upgrades.poll(workers.mesh(), listening) {
            Outcome::Nothing => (),
            Outcome::Failed(line) => {
                self.notify.ready();
                if let Err(line) = self.pid_file.write() {
                    say(format_args!("hp-proxy: {line}; going on"));
                }
                self.tell_who_asked(Verdict::Refused, &line);
            }
            Outcome::Replaced { process, listeners } => self.hand_over(process, &listeners),
        }
    }

    fn hand_over(&mut self, process: u32, listeners: &[ListenerId]) {
        self.stage = Stage::Draining(Cause::Successor);
        say(format_args!(
            "hp-proxy: process {process} has taken over; draining"
        ));
        self.tell_who_asked(Verdict::Done, &format!("process {process} has taken over"));
        self.notify.replaced(process);
        self.pid_file.pass_on();
        self.running.forget_reload();
        self.running.control.close();
        let readiness = self.running.rows.readiness();
        readiness.leave();
        readiness.keep_idle(IDLE_KEPT);
        self.running
            .tell_all(|| Message::HandOver(listeners.to_vec()));
        self.running.listening.pass_on(listeners);
    }

    fn tell_who_asked(&mut self, verdict: Verdict, line: &str) {
        for asked in self.asked.drain(..) {
            asked.answer(Answer::new(verdict, format!("{line}\n")));
        }
    }
}

/// Ends everything now; what is in flight is reset.
fn cut(running: Running) -> RunError {
    running.tell_all(|| Message::Cut);
    if let Some(threads) = &running.threads {
        let _waiting = threads.crew.cut(); // All are told the same: the process ends.
        threads.crew.join();
    }
    match running.workers.join() {
        Ok(_ended) => RunError::Impatient,
        Err(error) => RunError::Workers(error),
    }
}

/// The last words.
fn conclude(threads: Option<&Threads>, rows: &Rows) -> Result<(), RunError> {
    let cut = rows.sum(|row| &row.conns_cut);
    if cut > 0 {
        say(format_args!(
            "hp-proxy: {cut} connections did not finish within --drain-timeout and are cut"
        ));
    }
    if threads.is_some_and(|threads| threads.crew.has_died()) {
        return Err(RunError::Workers(WorkersError::Died));
    }
    tell_totals("done", rows);
    Ok(())
}

fn tell_totals(when: &str, rows: &Rows) {
    say_lines(format_args!("hp-proxy: {when}\n{rows}"));
}

/// Why nothing is read again meanwhile.
const UPGRADING: &str = "an upgrade is under way, and the new process reads the file";
/// How often the main thread looks whether the workers have ended, which none does unasked but by a panic of its own.
const LOOK_AT_WORKERS: Duration = Duration::from_secs(1);
/// The same while a drain makes them end.
const LOOK_WHILE_DRAINING: Duration = Duration::from_millis(20);
/// The same while a successor starts: new connections wait for it at the end.
const LOOK_AT_SUCCESSOR: Duration = Duration::from_millis(1);
/// How long an idle connection is kept where clients have somewhere else to go: a busy one has made its next request by then, and
/// been told with the answer.
const IDLE_KEPT: Duration = Duration::from_secs(1);
