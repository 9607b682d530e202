//! What the tasks of one worker share, or of a thread that serves one connection after another. Lives on its thread; knows
//! no task.

use crate::config::plan::{self, Listener, ListenerId, Plan};
use crate::counters::{Counters, Rows};
use crate::mirrors::{self, Mirrors};
use crate::route::split::Draws;
use crate::route::table;
use crate::upstream::balance::Balancing;
use crate::upstream::{Settings, SharedLedger, Upstream};
use hp_core::rt::Engine;
use hp_core::rt::crew::{Crew, Seat};
use hp_core::rt::lifecycle::{Table, enter};
use hp_core::rt::mesh::{Mesh, WorkerId};
use hp_core::rt::net::{Accepted, Conn, Socket, Unparked};
use hp_core::rt::race::race;
use hp_core::rt::{Instant, Rt};
use hp_core::wire::date::{self, DateLine};
use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::ops::Deref;
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
    /// A listening socket for this worker, of the listener of that number.
    Listen(Socket, ListenerId),
    /// A connection that another worker accepted; its place is reserved.
    Adopt(Arrived),
    /// Finish what is in flight and end.
    Drain,
    /// End now; what is in flight is reset.
    Cut,
}

/// A connection, and where it arrived.
#[derive(Debug)]
pub struct Arrived {
    /// Not yet adopted by any runtime.
    pub accepted: Accepted,
    /// The listener that took it.
    pub listener: ListenerId,
}

/// Threads that serve one connection each, as the listeners see them.
#[derive(Clone, Debug)]
pub struct Threads {
    /// Takes accepted connections.
    pub crew: Crew<Arrived>,
    /// The crew's connections, by upstream.
    pub ledgers: SharedLedgers,
}

/// Where client connections are served.
#[derive(Debug)]
pub(crate) enum Home {
    /// Here, or by another worker with fewer.
    Worker(Mesh<Message>),
    /// By a crew; this worker only accepts.
    Listener(Threads),
    /// Here, one after another: a thread of the crew.
    Thread(Rc<Seat<Arrived>>, SharedLedgers),
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
    /// By place in the plan; made when the first request goes there.
    upstreams: Box<[OnceCell<Rc<Upstream>>]>,
    /// The plan's table, where threads should not share it.
    own_table: Option<table::Table>,
    draws: Cell<Draws>,
    mirrors: Rc<Mirrors>,
    /// See [`Plan::has_plain_route_only`].
    has_plain_route: bool,
    /// That of the first route.
    first_response_timeout: Duration,
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

/// The plan as threads share it, with what they share under it.
#[derive(Clone, Debug)]
#[expect(
    clippy::disallowed_types,
    reason = "the plan is shared once, when the workers start"
)]
pub struct SharedPlan(Arc<(Plan, Box<[Balancing]>)>);

impl SharedPlan {
    /// Makes what the workers of a plan share.
    #[must_use]
    #[expect(
        clippy::disallowed_types,
        reason = "the plan is shared once, when the workers start"
    )]
    pub fn new(plan: Plan) -> Self {
        let ledgers = match plan.engine {
            Engine::Threads => 1,
            _ => plan.workers as usize,
        };
        let upstreams = plan.upstreams.iter();
        let balancing = upstreams
            .map(|upstream| upstream.balancing(ledgers))
            .collect();
        Self(Arc::new((plan, balancing)))
    }

    /// How requests are spread, by upstream.
    #[must_use]
    pub fn balancing(&self) -> &[Balancing] {
        &self.0.1
    }
}

impl Deref for SharedPlan {
    type Target = Plan;

    fn deref(&self) -> &Plan {
        &self.0.0
    }
}

/// What threads share of their connections, by upstream.
#[expect(
    clippy::disallowed_types,
    reason = "the list is shared once, when the threads are hired"
)]
pub type SharedLedgers = Arc<[SharedLedger]>;

impl Worker {
    /// The state of a worker that has no connection yet.
    pub(crate) fn new(rt: &Rt, id: WorkerId, home: Home, plan: SharedPlan, rows: Rows) -> Rc<Self> {
        // Many threads come and go; a few workers stay.
        let has_own_table = matches!(home, Home::Worker(_)) && plan.table.has_patterns();
        Rc::new(Self {
            rt: rt.clone(),
            id,
            rows,
            upstreams: plan.upstreams.iter().map(|_| OnceCell::new()).collect(),
            own_table: has_own_table.then(|| plan.table.clone()),
            draws: Cell::new(Draws::starting_at(id.0)),
            mirrors: Mirrors::new(
                id.0,
                match home {
                    Home::Thread(..) => plan.limits.mirrors_max.min(mirrors::OF_A_THREAD_MAX),
                    Home::Worker(_) | Home::Listener(_) => plan.limits.mirrors_max,
                },
            ),
            has_plain_route: plan.has_plain_route_only(),
            first_response_timeout: plan
                .routes
                .first()
                .map_or(plan.timeouts.response, |route| route.response_timeout),
            plan,
            home,
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

    /// The connections to an upstream of the plan; `None` where there is no such upstream.
    #[inline]
    pub(crate) fn upstream(&self, index: u32) -> Option<&Rc<Upstream>> {
        let place = self.upstreams.get(index as usize)?;
        match place.get() {
            Some(upstream) => Some(upstream),
            None => self.begin_upstream(index, place),
        }
    }

    #[cold]
    fn begin_upstream<'a>(
        &'a self,
        index: u32,
        place: &'a OnceCell<Rc<Upstream>>,
    ) -> Option<&'a Rc<Upstream>> {
        let plan = self.plan.upstreams.get(index as usize)?;
        let addrs = plan
            .endpoints
            .iter()
            .map(|endpoint| endpoint.addr.clone())
            .collect();
        let settings = upstream_settings(plan, &self.plan, index);
        let (rt, row) = (&self.rt, (self.rows.clone(), self.id.0));
        let upstream = match &self.home {
            Home::Worker(_) => {
                let conns_max = plan.conns_of(self.id.0, self.plan.workers);
                let balancing = self.plan.balancing().get(index as usize)?;
                Upstream::own(rt, addrs, (balancing, conns_max), settings, row)
            }
            Home::Listener(Threads { ledgers, .. }) | Home::Thread(_, ledgers) => {
                let ledger = ledgers.get(index as usize)?.clone();
                Upstream::sharing(rt, addrs, ledger, settings, row)
            }
        };
        Some(place.get_or_init(|| upstream))
    }

    /// Takes note of a connection to an upstream that came back by itself.
    pub(crate) fn retire(&self, conn: Conn, (upstream, endpoint): (u32, usize), why: Unparked) {
        match self.upstream(upstream) {
            Some(upstream) => upstream.retire(conn, endpoint, why),
            None => drop(conn), // Of no upstream.
        }
    }

    /// The routes.
    #[inline]
    pub(crate) fn table(&self) -> &table::Table {
        self.own_table.as_ref().unwrap_or(&self.plan.table)
    }

    /// A listener of the plan.
    #[inline]
    pub(crate) fn listener(&self, listener: ListenerId) -> Option<&Listener> {
        self.plan.listeners.get(listener.0 as usize)
    }

    /// What all workers have counted, for people.
    pub(crate) fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Whether nobody has to look at routes.
    #[inline]
    pub(crate) fn has_plain_route(&self) -> bool {
        self.has_plain_route
    }

    /// How long the head of an answer may take by the first route.
    #[inline]
    pub(crate) fn first_response_timeout(&self) -> Duration {
        self.first_response_timeout
    }

    /// A number that decides which share of a split gets a request.
    #[inline]
    pub(crate) fn draw(&self) -> u32 {
        let (draw, next) = self.draws.get().next();
        self.draws.set(next);
        draw
    }

    /// Copies of requests.
    pub(crate) fn mirrors(&self) -> &Rc<Mirrors> {
        &self.mirrors
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
    pub(crate) fn park(&self, conn: Conn, listener: ListenerId) {
        let kept_for = self
            .plan
            .timeouts
            .keepalive
            .saturating_sub(self.idle_grace());
        #[cfg(feature = "slow-down")]
        crate::slow_down::per_idle_conn();
        conn.park(u64::from(listener.0), self.rt.now() + kept_for);
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
        if let Home::Listener(Threads { ledgers, .. }) = &self.home {
            ledgers.iter().for_each(SharedLedger::close_idle);
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

fn upstream_settings(upstream: &plan::Upstream, plan: &Plan, index: u32) -> Settings {
    Settings {
        index,
        idle_conns_max: upstream.idle_conns_max,
        queue_len_max: plan.limits.queue_len_max,
        connect_timeout: upstream.connect_timeout,
        idle_timeout: upstream.idle_timeout,
        queue_timeout: plan.timeouts.queue,
    }
}

/// Long enough that a busy client never pays for a new task, short enough that memory follows the load.
const IDLE_GRACE: Duration = Duration::from_secs(1);
const TASKS_WITH_GRACE_MAX: u32 = 1024;
/// Most heads fit.
const SCRATCH_BYTES: usize = 1024;
const SCRATCH_KEPT_MAX: usize = 1024;
const SCRATCH_KEPT_BYTES_MAX: usize = 16 * 1024;
