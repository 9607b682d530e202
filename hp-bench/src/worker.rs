//! One thread's run: connect, wait for the common start, load, wait for stragglers, hand over.
//!
//! ```text
//! connecting ─Connected→ (worker 0 counts them all) ─Start→ loading ─end, Stop→ last answers → record
//!                                                    └Abort→ record
//! ```
//!
//! Must not know: processes, signals, reports.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hp_core::rt::Instant;
use hp_core::rt::net::Conn;
use hp_core::rt::race::{First, race};
use hp_core::rt::worker::{Context, WorkerId};
use hp_core::sys::clock;

use crate::conn::Fleet;
use crate::interval::{Outlet, Snapshot};
use crate::latch::Latch;
use crate::plan::Plan;
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
    /// A signal came.
    Stop,
}

/// What a thread brings back.
#[derive(Debug)]
pub struct Outcome {
    /// What it counted.
    pub record: Record,
    /// When the clock started, in ns since 1970; `None` where it never did.
    pub started_wall_ns: Option<u64>,
}

/// Runs this thread's share of the plan; what each second brought is offered to `outlet`.
pub async fn work(
    context: Context<Message>,
    plan: Rc<Plan>,
    addr: SocketAddr,
    outlet: Option<Outlet>,
) -> Outcome {
    let conns = plan.share(context.id.0);
    let fleet = Rc::new(Fleet::new(
        context.rt.clone(),
        Rc::clone(&plan),
        addr,
        conns,
    ));
    let gate = Gate {
        context: &context,
        reports: Cell::new(0),
        opened: Cell::new(0),
    };
    let start = match race(connect_all(&fleet, conns), gate.stopped()).await {
        First::One(opened) => gate.start(opened).await,
        First::Other(()) => None,
    };
    let Some((start, opened)) = start else {
        return Outcome {
            record: fleet.record.take(),
            started_wall_ns: None,
        };
    };
    let started_wall_ns = context.rt.wall_clock().as_nanos().try_into().ok();
    let cpu_before = clock::process_cpu_ns();
    let seconds = Seconds {
        worker: context.id.0,
        start,
        outlet,
        told: Cell::default(),
    };
    load(&gate, &fleet, &seconds, opened).await;
    seconds.tell_rest(&fleet);
    let mut record = fleet.record.take();
    record.elapsed = fleet.ended_at() - start;
    if context.id == FIRST {
        let cpu = clock::process_cpu_ns().saturating_sub(cpu_before);
        record.cpu = Some(Duration::from_nanos(cpu)); // All threads': asked for once.
    }
    Outcome {
        record,
        started_wall_ns,
    }
}

/// The common start. Worker 0 counts the others' reports, whatever it is waiting for meanwhile.
struct Gate<'a> {
    context: &'a Context<Message>,
    reports: Cell<u32>,
    /// Connections that the reports name, together.
    opened: Cell<u64>,
}

impl Gate<'_> {
    /// Reports this thread's connections and waits for the start; `None` where there is none.
    async fn start(&self, opened: Opened) -> Option<(Instant, Opened)> {
        let count = u32::try_from(opened.iter().flatten().count()).unwrap_or(u32::MAX);
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
                let start = Message::Start(context.rt.precise_now());
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
                let conn = fleet.connect().await.ok(); // A failure is counted, and tried again later.
                opened.borrow_mut()[idx] = conn;
            }
        });
    }
    latch.opened().await;
    opened.take()
}

/// Keeps every connection busy until the plan's end or a signal, and waits for the last answers.
async fn load(gate: &Gate<'_>, fleet: &Rc<Fleet>, seconds: &Seconds, opened: Opened) {
    let end = seconds.start + fleet.plan.duration;
    fleet.end_at(end);
    let latch = Rc::new(Latch::default());
    for (idx, conn) in opened.into_iter().enumerate() {
        let (fleet, ticket) = (Rc::clone(fleet), latch.ticket());
        fleet.rt.clone().spawn(async move {
            fleet.drive(idx, conn).await;
            drop(ticket);
        });
    }
    match race(seconds.tell(fleet, end), gate.stopped()).await {
        First::One(()) => (),
        First::Other(()) => fleet.end_at(fleet.rt.precise_now()),
    }
    let grace = fleet.plan.timeout.min(STRAGGLE_MAX);
    match race(latch.opened(), fleet.rt.sleep(grace)).await {
        First::One(()) => (),
        First::Other(()) => fleet.give_up(fleet.rt.precise_now()),
    }
}

/// Tells what each second brought.
struct Seconds {
    worker: u32,
    start: Instant,
    outlet: Option<Outlet>,
    /// Answers and failures of the last offer.
    told: Cell<(u64, u64)>,
}

impl Seconds {
    /// Tells each whole second, until the end.
    async fn tell(&self, fleet: &Fleet, end: Instant) {
        for second in 1.. {
            let edge = self.start + Duration::from_secs(second);
            fleet.rt.sleep_until(edge.min(end)).await;
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
            let whole = (fleet.ended_at() - self.start).as_secs();
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
            lag: None,
        });
    }
}

const FIRST: WorkerId = WorkerId(0);
/// Connections that a thread opens at the same time, so that no backlog overflows.
const CONNECTING_MAX: u32 = 128;
/// Longest wait for what is under way at the end.
const STRAGGLE_MAX: Duration = Duration::from_secs(1);
