//! What the tasks of one worker share. Lives on the worker's thread; knows no task.

use crate::config::plan::Plan;
use crate::counters::{Counters, Rows};
use crate::upstream::{Settings, Upstream};
use hp_core::rt::Rt;
use hp_core::rt::mesh::{Mesh, WorkerId};
use hp_core::rt::net::{Accepted, Conn, Socket};
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

/// What a worker's tasks share. Lives on its thread.
#[derive(Debug)]
pub(crate) struct Worker {
    rt: Rt,
    id: WorkerId,
    plan: SharedPlan,
    rows: Rows,
    mesh: Mesh<Message>,
    upstream: Rc<Upstream>,
    is_draining: Cell<bool>,
    /// Client connections of this worker, parked ones included.
    open: Cell<u32>,
    all_closed: RefCell<Option<Waker>>,
    scratch: RefCell<Vec<Vec<u8>>>,
}

/// The plan as threads share it.
#[expect(
    clippy::disallowed_types,
    reason = "the plan is shared once, when the workers start"
)]
pub type SharedPlan = Arc<Plan>;

impl Worker {
    /// The state of a worker that has no connection yet.
    pub(crate) fn new(
        rt: &Rt,
        id: WorkerId,
        mesh: Mesh<Message>,
        plan: SharedPlan,
        rows: Rows,
    ) -> Rc<Self> {
        let backends = plan.backends.iter().map(|backend| backend.addr);
        let settings = upstream_settings(&plan, id);
        let upstream = Upstream::new(rt, backends, settings, rows.clone(), id.0);
        Rc::new(Self {
            rt: rt.clone(),
            id,
            plan,
            rows,
            mesh,
            upstream,
            is_draining: Cell::new(false),
            open: Cell::new(0),
            all_closed: RefCell::default(),
            scratch: RefCell::default(),
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

    pub(crate) fn mesh(&self) -> &Mesh<Message> {
        &self.mesh
    }

    pub(crate) fn upstream(&self) -> &Rc<Upstream> {
        &self.upstream
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.get()
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

    /// How long an idle connection keeps its task. Not at all when there are many: each costs more than a kilobyte.
    pub(crate) fn idle_grace(&self) -> Duration {
        if self.is_draining() || self.rt.tasks() > TASKS_WITH_GRACE_MAX {
            Duration::ZERO
        } else {
            self.plan.timeouts.keepalive.min(IDLE_GRACE)
        }
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

    /// Client connections that have not ended.
    pub(crate) fn open_conns(&self) -> u32 {
        self.open.get()
    }

    /// Counts a client connection whose place was reserved.
    pub(crate) fn conn_began(&self) {
        self.row().conns_accepted.add(1);
        self.row().conns_open.add(1);
        self.open.set(self.open.get() + 1);
    }

    /// Tells every task that nothing new begins.
    pub(crate) fn start_drain(&self) {
        self.is_draining.set(true);
        self.rt.wake_all();
        self.rt.unpark_all();
    }

    /// Counts a client connection as ended, and frees its place.
    pub(crate) fn conn_ended(&self) {
        self.row().conns_open.subtract(1);
        self.mesh.loads().release(self.id);
        self.open.set(self.open.get() - 1);
        let waker = self
            .all_closed
            .borrow_mut()
            .take_if(|_| self.open.get() == 0);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ready when no client connection is left, and the listeners have nothing more to hand over.
    pub(crate) async fn all_closed(&self) {
        poll_fn(|cx| {
            if self.open.get() == 0 {
                return Poll::Ready(());
            }
            *self.all_closed.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

fn upstream_settings(plan: &Plan, id: WorkerId) -> Settings {
    Settings {
        conns_max: plan.limits.upstream_conns_of(id.0, plan.workers),
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
