//! One thread's run: connect, wait for the common start, load, wait for stragglers, hand over.
//!
//! ```text
//! connecting ─Connected→ (worker 0 counts them all) ─Start→ warm-up → window → cool-down ─end, Stop→ last answers → record
//!                                                    └Abort→ record
//! ```
//!
//! Must not know: processes, signals, reports.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hp_core::rt::Instant;
use hp_core::rt::net::{Address, Conn};
use hp_core::rt::race::{First, race};
use hp_core::rt::worker::{Context, WorkerId};
use hp_core::sys::clock;

use crate::fleet::Fleet;
use crate::idle;
use crate::interval::{Outlet, Snapshot};
use crate::latch::Latch;
use crate::plan::SharedPlan;
use crate::record::Record;

/// What the threads tell each other, and the main thread them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Message {
    /// To worker 0: the sender has tried all its connections, and this many are open.
    Connected(u32),
    /// The clock starts.
    Start(Instant),
    /// No thread has a connection.
    Abort,
    /// A signal came, or another thread found a reason to stop.
    Stop,
}

/// What a thread brings back.
#[derive(Debug)]
pub struct Outcome {
    /// What it counted.
    pub record: Record,
    /// When the counted window began, in ns since 1970; `None` where it never did.
    pub started_wall_ns: Option<u64>,
}

/// Who is told what while a thread runs.
#[derive(Clone, Debug, Default)]
pub struct Listeners {
    /// Gets what each second brought.
    pub outlet: Option<Outlet>,
    /// Gets the start of the counted window in ns of the monotonic clock, as soon as it is known.
    pub window_start_ns: WindowStart,
}

/// Nanoseconds of the monotonic clock; 0 before it is known. All threads write the same.
#[expect(clippy::disallowed_types, reason = "written once a run")]
pub type WindowStart = std::sync::Arc<AtomicU64>;

/// Runs this thread's share of the plan.
pub async fn work(
    context: Context<Message>,
    plan: SharedPlan,
    address: impl Into<Address>,
    listeners: Listeners,
) -> Outcome {
    let conns = plan.share(context.id.0);
    let fleet = Rc::new(Fleet::new(
        context.rt.clone(),
        SharedPlan::clone(&plan),
        address.into(),
        context.id.0,
    ));
    context.rt.spin_before_alarms(plan.spin);
    let gate = Gate {
        context: &context,
        start_at: plan.start_at,
        reports: Cell::new(0),
        opened: Cell::new(0),
    };
    let connecting = async {
        let opened = connect_all(&fleet, conns).await;
        idle::open(&fleet, plan.idle_share(context.id.0)).await;
        opened
    };
    let start = match race(connecting, gate.stopped()).await {
        First::One(opened) => gate.start(opened, !plan.ramp_conns.is_zero()).await,
        First::Other(()) => None,
    };
    let Some((start, opened)) = start else {
        return Outcome {
            record: fleet.record.take(),
            started_wall_ns: None,
        };
    };
    let until_window = (start + plan.warmup) - context.rt.precise_now();
    let window_wall = context.rt.wall_clock() + until_window;
    fleet.begin_at(start);
    listeners
        .window_start_ns
        .store(fleet.window.from.get().as_nanos(), Ordering::Relaxed);
    let begin = fleet.until(fleet.window.begin.get());
    if let First::Other(()) = race(begin, gate.stopped()).await {
        return Outcome {
            record: fleet.record.take(),
            started_wall_ns: None,
        };
    }
    let seconds = Seconds {
        worker: context.id.0,
        outlet: listeners.outlet,
        told: Cell::default(),
        cpu: Cell::default(),
    };
    load(&gate, &fleet, &seconds, opened).await;
    seconds.tell_rest(&fleet);
    Outcome {
        record: seconds.finish(&fleet),
        started_wall_ns: window_wall.as_nanos().try_into().ok(),
    }
}

/// The common start. Worker 0 counts the others' reports, whatever it is waiting for meanwhile.
struct Gate<'a> {
    context: &'a Context<Message>,
    /// When the load begins, since 1970.
    start_at: Option<Duration>,
    reports: Cell<u32>,
    /// Connections that the reports name, together.
    opened: Cell<u64>,
}

impl Gate<'_> {
    /// Reports this thread's connections and waits for the start; `None` where there is none.
    async fn start(&self, opened: Opened, opens_later: bool) -> Option<(Instant, Opened)> {
        let open = u32::try_from(opened.iter().flatten().count()).unwrap_or(u32::MAX);
        let count = if opens_later { 1 } else { open };
        self.tell(FIRST, Message::Connected(count));
        loop {
            match self.message().await {
                Message::Connected(_counted) => (),
                Message::Start(start) => return Some((start, opened)),
                Message::Abort | Message::Stop => return None,
            }
        }
    }

    /// Waits for the signal's message.
    async fn stopped(&self) {
        while self.message().await != Message::Stop {}
    }

    /// The next message; the last of the reports starts the clock of all.
    async fn message(&self) -> Message {
        let context = self.context;
        let message = context.mailbox.recv().await;
        if let Message::Connected(count) = message {
            self.reports.set(self.reports.get() + 1);
            self.opened.set(self.opened.get() + u64::from(count));
            if self.reports.get() == context.mesh.workers() {
                let start = Message::Start(self.start_time());
                let verdict = if self.opened.get() > 0 {
                    start
                } else {
                    Message::Abort
                };
                (0..context.mesh.workers()).for_each(|id| self.tell(WorkerId(id), verdict));
            }
        }
        message
    }

    /// Now, or when the plan says; a start that has passed already is now.
    fn start_time(&self) -> Instant {
        let rt = &self.context.rt;
        let wait = self.start_at.map(|at| at.saturating_sub(rt.wall_clock()));
        rt.precise_now() + wait.unwrap_or(Duration::ZERO)
    }

    /// Tells all threads to stop.
    fn stop_all(&self) {
        (0..self.context.mesh.workers()).for_each(|id| self.tell(WorkerId(id), Message::Stop));
    }

    /// Sends to a thread that lives; one that stopped already needs no message.
    fn tell(&self, id: WorkerId, message: Message) {
        match self.context.mesh.send(id, message) {
            Ok(()) => (),
            Err(_message) => (),
        }
    }
}

/// The thread's connections in their order; `None` where one could not be opened yet.
type Opened = Vec<Option<Conn>>;

/// Tries each connection once, a bounded number at the same time.
async fn connect_all(fleet: &Rc<Fleet>, conns: u32) -> Opened {
    if !fleet.plan.ramp_conns.is_zero() {
        return (0..conns).map(|_| None).collect(); // Each at its time.
    }
    let opened: Rc<RefCell<Opened>> = Rc::new(RefCell::new((0..conns).map(|_| None).collect()));
    let next = Rc::new(Cell::new(0));
    let latch = Rc::new(Latch::default());
    for _ in 0..conns.min(CONNECTING_MAX) {
        let (fleet, opened, next) = (Rc::clone(fleet), Rc::clone(&opened), Rc::clone(&next));
        let ticket = latch.ticket();
        fleet.rt.clone().spawn(async move {
            let _ticket = ticket;
            while next.get() < conns as usize {
                let idx = next.replace(next.get() + 1);
                let conn = fleet.connect(idx).await.ok(); // A failure is counted, and tried again later.
                opened.borrow_mut()[idx] = conn;
            }
        });
    }
    latch.opened().await;
    opened.take()
}

/// Keeps every connection at work until the plan's end or a signal, and waits for the last answers.
async fn load(gate: &Gate<'_>, fleet: &Rc<Fleet>, seconds: &Seconds, opened: Opened) {
    let latch = Rc::new(Latch::default());
    for (idx, conn) in opened.into_iter().enumerate() {
        let (fleet, ticket) = (Rc::clone(fleet), latch.ticket());
        fleet.rt.clone().spawn(async move {
            fleet.drive(idx, conn).await;
            drop(ticket);
        });
        // Those that stand in line hold a receive buffer each as soon as their answer comes: the line stays short.
        if idx % STARTED_AT_ONCE == STARTED_AT_ONCE - 1 {
            gate.context.rt.yield_now().await;
        }
    }
    // The pacer counts what nobody sent: the last connection may leave before it does.
    let (pacer, ticket) = (Rc::clone(fleet), latch.ticket());
    fleet.rt.spawn(async move {
        pacer.pace().await;
        drop(ticket);
    });
    let to_the_end = async {
        seconds.tell(fleet).await;
        fleet.until(fleet.window.stop.get()).await;
    };
    let ended = race(to_the_end, latch.opened()); // Of a number of requests the last may be over before.
    let patience = match race(ended, race(gate.stopped(), fleet.failure())).await {
        First::One(_) => fleet.plan.timeout + STRAGGLE_MAX,
        First::Other(First::One(())) => STRAGGLE_MAX,
        First::Other(First::Other(())) => {
            gate.stop_all();
            STRAGGLE_MAX
        }
    };
    fleet.halt();
    let stragglers = race(latch.opened(), fleet.rt.sleep(patience));
    match race(stragglers, gate.stopped()).await {
        First::One(First::One(())) => (),
        First::One(First::Other(())) | First::Other(()) => fleet.give_up(fleet.rt.precise_now()),
    }
}

/// Tells what each second brought, and what the window cost.
struct Seconds {
    worker: u32,
    outlet: Option<Outlet>,
    /// Answers and failures of the last offer.
    told: Cell<(u64, u64)>,
    /// CPU time in ns when the window began: the process's, and this thread's.
    cpu: Cell<Option<(u64, u64)>>,
}

impl Seconds {
    /// Tells each whole second of the window, until its end.
    async fn tell(&self, fleet: &Fleet) {
        let (from, end) = (fleet.window.from.get(), fleet.window.end.get());
        fleet.until(from).await;
        self.cpu
            .set(Some((clock::process_cpu_ns(), clock::thread_cpu_ns())));
        for second in 1.. {
            let edge = from + Duration::from_secs(second);
            fleet.until(edge.min(end)).await;
            if edge > end {
                return;
            }
            self.offer(fleet, second);
        }
    }

    /// Tells what came after the last whole second, if anything did.
    fn tell_rest(&self, fleet: &Fleet) {
        let counted = {
            let record = fleet.record.borrow();
            (record.responses, record.errors.blamed())
        };
        if counted != self.told.get() {
            let whole = (fleet.ended_at() - fleet.window.from.get()).as_secs();
            self.offer(fleet, whole + 1);
        }
    }

    /// Offers the sums so far as those at the end of `second`.
    fn offer(&self, fleet: &Fleet, second: u64) {
        let Some(outlet) = &self.outlet else {
            return;
        };
        let record = fleet.record.borrow();
        let (responses, failures) = (record.responses, record.errors.blamed());
        self.told.set((responses, failures));
        outlet.offer(Snapshot {
            worker: self.worker,
            second,
            responses,
            failures,
            bytes: record.bytes_in,
            latency: record.latency().clone(),
            lag: record.lag().cloned(),
        });
    }

    /// The whole record, when nothing comes any more.
    fn finish(&self, fleet: &Fleet) -> Record {
        let mut record = fleet.record.take();
        let from = fleet.window.from.get();
        record.elapsed = fleet.ended_at() - from;
        record.in_turn = fleet.in_turn(fleet.ended_at());
        record.connections_short = fleet.health.short(fleet.rt.precise_now(), &fleet.window);
        record.connections_min = fleet.health.least();
        if let Some((process, thread)) = self.cpu.get() {
            let now = fleet.rt.precise_now();
            let ran = fleet.in_turn(now).unwrap_or(now - from).as_secs_f64();
            let used = Duration::from_nanos(clock::thread_cpu_ns().saturating_sub(thread));
            if ran > 0.0 {
                record.busiest_thread = used.as_secs_f64() / ran;
            }
            if self.worker == FIRST.0 {
                let used = clock::process_cpu_ns().saturating_sub(process);
                record.cpu = Some(Duration::from_nanos(used)); // All threads': asked for once.
            }
        }
        record
    }
}

const FIRST: WorkerId = WorkerId(0);
/// Connections that a thread opens at the same time, so that no backlog overflows.
const CONNECTING_MAX: u32 = 128;
/// Connections that begin in one turn.
const STARTED_AT_ONCE: usize = 64;
/// Longest wait for what is under way after a signal, and beyond the timeout otherwise.
const STRAGGLE_MAX: Duration = Duration::from_secs(1);
