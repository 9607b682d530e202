//! What the tasks of one worker share, or of a thread that serves one connection after another. Lives on its thread; knows
//! no task.

use crate::config::plan::Plan;
use crate::counters::{Counters, Rows};
use crate::upstream::balance::Balancing;
use crate::upstream::{Settings, SharedLedger, Upstream};
use hp_core::rt::crew::{Crew, Seat};
use hp_core::rt::lifecycle::{Table, enter};
use hp_core::rt::mesh::{Mesh, WorkerId};
use hp_core::rt::net::{Accepted, Conn, Socket};
use hp_core::rt::race::race;
use hp_core::rt::{Instant, Rt};
use hp_core::wire::date::{self, DateLine};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
#[expect(
    clippy::disallowed_types,
    reason = "the plan is shared once, when the workers start"
)]
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// What workers and the main thread tell each other.
#[derive(Debug)]
pub enum Message {
    /// A listening socket for this worker.
    Listen(Socket),
    /// A connection that another worker accepted; its place is reserved.
    Adopt(Accepted),
    /// Finish what is in flight and end.
    Drain,
    /// End now; what is in flight is reset.
    Cut,
}

/// Threads that serve one connection each, as the listeners see them.
#[derive(Clone, Debug)]
pub struct Threads {
    /// Takes accepted connections.
    pub crew: Crew<Accepted>,
    /// The crew's connections to backends.
    pub ledger: SharedLedger,
}

/// Where client connections are served.
#[derive(Debug)]
pub(crate) enum Home {
    /// Here, or by another worker with fewer.
    Worker(Mesh<Message>),
    /// By a crew; this worker only accepts.
    Listener(Threads),
    /// Here, one after another: a thread of the crew.
    Thread(Rc<Seat<Accepted>>, SharedLedger),
}

/// What a worker's tasks share. Lives on its thread.
#[derive(Debug)]
pub(crate) struct Worker {
    rt: Rt,
    /// Its number, which is that of its row, too.
    id: WorkerId,
    plan: SharedPlan,
    rows: Rows,
    home: Home,
    upstream: Rc<Upstream>,
    is_draining: Cell<bool>,
    /// Listeners that may still bring connections.
    listening: Cell<u32>,
    /// Client connections of this worker, parked ones included.
    open: Cell<u32>,
    all_closed: RefCell<Option<Waker>>,
    scratch: RefCell<Vec<Vec<u8>>>,
    date: Cell<Date>,
}

/// The Date field for now, and until when that is true.
#[derive(Clone, Copy, Debug)]
struct Date {
    line: DateLine,
    until: Instant,
}

/// The plan as threads share it.
#[expect(
    clippy::disallowed_types,
    reason = "the plan is shared once, when the workers start"
)]
pub type SharedPlan = Arc<Plan>;

impl Worker {
    /// The state of a worker that has no connection yet.
    pub(crate) fn new(rt: &Rt, id: WorkerId, home: Home, plan: SharedPlan, rows: Rows) -> Rc<Self> {
        let addrs: Vec<_> = plan.backends.iter().map(|backend| backend.addr).collect();
        let (settings, row) = (upstream_settings(&plan), (rows.clone(), id.0));
        let upstream = match &home {
            Home::Worker(_) => {
                let conns_max = plan.limits.upstream_conns_of(id.0, plan.workers);
                let balancing = Balancing::even(addrs.len());
                Upstream::own(rt, addrs, (&balancing, conns_max), settings, row)
            }
            Home::Listener(Threads { ledger, .. }) | Home::Thread(_, ledger) => {
                Upstream::sharing(rt, addrs, ledger.clone(), settings, row)
            }
        };
        Rc::new(Self {
            rt: rt.clone(),
            id,
            plan,
            rows,
            home,
            upstream,
            is_draining: Cell::new(false),
            listening: Cell::new(0),
            open: Cell::new(0),
            all_closed: RefCell::default(),
            scratch: RefCell::default(),
            date: Cell::new(Date {
                line: date::line(rt.wall_clock()),
                until: rt.now(),
            }),
        })
    }

    pub(crate) fn rt(&self) -> &Rt {
        &self.rt
    }

    pub(crate) fn id(&self) -> WorkerId {
        self.id
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(crate) fn row(&self) -> &Counters {
        self.rows.of(self.id.0)
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    pub(crate) fn upstream(&self) -> &Rc<Upstream> {
        &self.upstream
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.get()
    }

    /// Its row in `docs/lifecycle/drain.md`.
    pub(crate) fn row_of_drain(&self) -> &'static str {
        if self.is_draining() {
            "Draining"
        } else {
            "Running"
        }
    }

    /// Whether a client that wants to may keep its connection after the next answer.
    pub(crate) fn keeps_clients(&self) -> bool {
        let is_crowded = match &self.home {
            Home::Worker(_) | Home::Listener(_) => false,
            Home::Thread(seat, _) => seat.crew().is_crowded(), // Somebody waits for this thread.
        };
        !is_crowded && !self.is_draining()
    }

    /// Whether an idle connection can be kept without a task; a thread's own connection has nobody else to serve.
    pub(crate) fn parks(&self) -> bool {
        matches!(self.home, Home::Worker(_)) && !self.is_draining()
    }

    /// Keeps an idle connection without a task.
    pub(crate) fn park(&self, conn: Conn) {
        let kept_for = self
            .plan
            .timeouts
            .keepalive
            .saturating_sub(self.idle_grace());
        conn.park(DOWNSTREAM_TAG, self.rt.now() + kept_for);
    }

    /// How long an idle connection keeps its task. Not at all when there are many: each costs more than a kilobyte. To its
    /// end where it has a thread of its own.
    pub(crate) fn idle_grace(&self) -> Duration {
        let has_thread = matches!(self.home, Home::Thread(..));
        let keepalive = self.plan.timeouts.keepalive;
        match (self.is_draining(), has_thread) {
            (true, _) => Duration::ZERO,
            (false, true) => keepalive,
            (false, false) if self.rt.tasks() > TASKS_WITH_GRACE_MAX => Duration::ZERO,
            (false, false) => keepalive.min(IDLE_GRACE),
        }
    }

    /// The Date field of what is answered now; a second's text is made once.
    #[inline]
    pub(crate) fn date_line(&self) -> DateLine {
        let Date { line, until } = self.date.get();
        if self.rt.now() < until {
            line
        } else {
            self.next_date_line()
        }
    }

    #[cold]
    fn next_date_line(&self) -> DateLine {
        let clock = self.rt.wall_clock();
        let into_second = Duration::from_nanos(u64::from(clock.subsec_nanos()));
        let line = date::line(clock);
        let until = self.rt.now() + Duration::from_secs(1).saturating_sub(into_second);
        self.date.set(Date { line, until });
        line
    }

    /// An empty buffer for a head, with room from its last use.
    pub(crate) fn take_scratch(&self) -> Vec<u8> {
        self.scratch
            .borrow_mut()
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(SCRATCH_BYTES))
    }

    /// Gives a buffer back for the next head.
    pub(crate) fn give_scratch(&self, mut buffer: Vec<u8>) {
        let mut kept = self.scratch.borrow_mut();
        if kept.len() < SCRATCH_KEPT_MAX && buffer.capacity() <= SCRATCH_KEPT_BYTES_MAX {
            buffer.clear();
            kept.push(buffer);
        }
    }

    /// Ready once a drain has begun, of which every task is told: nobody has to remember who waits.
    pub(crate) async fn drain_begun(&self) {
        poll_fn(|_cx| {
            if self.is_draining() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Ready once an idle connection is to be closed before its time: when a drain has begun; where it has a thread of its
    /// own and had its first request, also when a connection waits for a thread and this one has idled for a while.
    pub(crate) async fn shall_leave(&self, is_first: bool) {
        match &self.home {
            // Boxed, so that the tasks of workers do not carry the room for it.
            Home::Thread(seat, _) if !is_first => {
                Box::pin(race(self.drain_begun(), seat.asked())).await;
            }
            _ => self.drain_begun().await,
        }
    }

    /// Client connections that have not ended.
    pub(crate) fn open_conns(&self) -> u32 {
        self.open.get()
    }

    /// Counts a client connection whose place was reserved.
    pub(crate) fn conn_began(&self) {
        match self.home {
            Home::Worker(_) | Home::Listener(_) => self.row().conns_accepted.add(1),
            Home::Thread(..) => (), // Its listener has counted it.
        }
        self.row().conns_open.add(1);
        self.open.set(self.open.get() + 1);
    }

    /// Tells every task that nothing new begins.
    pub(crate) fn start_drain(&self) {
        enter(Table::Drain, self.row_of_drain(), "SIGTERM or SIGINT");
        self.is_draining.set(true);
        self.rt.wake_all();
        self.rt.unpark_all();
        if let Home::Listener(Threads { ledger, .. }) = &self.home {
            ledger.close_idle();
        }
    }

    /// A place that was reserved for a client connection is free again.
    pub(crate) fn release_place(&self) {
        match &self.home {
            Home::Worker(mesh) => mesh.loads().release(self.id),
            Home::Listener(_) | Home::Thread(..) => (), // Nobody chooses by their loads.
        }
    }

    /// A listener begins to bring connections.
    pub(crate) fn listener_began(&self) {
        self.listening.set(self.listening.get() + 1);
    }

    /// A listener brings no more connections.
    pub(crate) fn listener_ended(&self) {
        self.listening.set(self.listening.get() - 1);
        self.wake_if_all_closed();
    }

    /// Counts a client connection as ended, and frees its place.
    pub(crate) fn conn_ended(&self) {
        self.row().conns_open.subtract(1);
        self.release_place();
        self.open.set(self.open.get() - 1);
        self.wake_if_all_closed();
    }

    /// Ready when no client connection is left, and the listeners have nothing more to hand over.
    pub(crate) async fn all_closed(&self) {
        poll_fn(|cx| {
            if self.is_all_closed() {
                return Poll::Ready(());
            }
            *self.all_closed.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn is_all_closed(&self) -> bool {
        self.open.get() == 0 && self.listening.get() == 0
    }

    fn wake_if_all_closed(&self) {
        let waker = self
            .all_closed
            .borrow_mut()
            .take_if(|_| self.is_all_closed());
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

fn upstream_settings(plan: &Plan) -> Settings {
    Settings {
        idle_conns_max: plan.limits.idle_conns_max,
        queue_len_max: plan.limits.queue_len_max,
        connect_timeout: plan.timeouts.connect,
        idle_timeout: plan.timeouts.upstream_idle,
        queue_timeout: plan.timeouts.queue,
    }
}

/// The tag of a parked client connection; those of backends are greater.
pub(crate) const DOWNSTREAM_TAG: u64 = 0;
/// Long enough that a busy client never pays for a new task, short enough that memory follows the load.
const IDLE_GRACE: Duration = Duration::from_secs(1);
const TASKS_WITH_GRACE_MAX: u32 = 1024;
/// Most heads fit.
const SCRATCH_BYTES: usize = 1024;
const SCRATCH_KEPT_MAX: usize = 1024;
const SCRATCH_KEPT_BYTES_MAX: usize = 16 * 1024;
