//! What the tasks of one worker share, or of a thread that serves one connection after another. Lives on its thread; knows
//! no task.
//!
//! ```text
//! Worker ─► Generation (one plan's: routes, upstreams) ─┐
//!   │          ▲ kept by each request to its end        ├─► Local (as long as the thread: runtime, counts, drain)
//!   └──────────┼────────────────────────────────────────┘
//! ```

mod crowd;
mod departure;
mod drain;
mod generation;
mod idle;
mod plan;
mod siblings;
mod texts;

use crowd::Crowd;
use departure::Departure;
pub(crate) use generation::Generation;
pub(crate) use plan::Latest;
pub use plan::SharedPlan;
use texts::Texts;

use crate::accepting::Accepting;
use crate::config::plan::ListenerId;
use crate::counters::{Counters, Rows};
use crate::live::Live;
use crate::mirrors::Mirrors;
use crate::route::split::Draws;
use crate::route::table;
use crate::upstream::{Letter, OpenTotal, Siblings, Upstream};
use hp_core::base::sync::{AtomicU32, Ordering};
use hp_core::rt::Rt;
use hp_core::rt::crew::{Crew, Seat};
use hp_core::rt::mesh::{Mesh, WorkerId};
use hp_core::rt::net::{Accepted, Conn, Socket, Unparked};
use hp_core::wire::date::DateLine;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::future::poll_fn;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::task::{Poll, Waker};
use std::time::Duration;

/// What workers and the main thread tell each other.
#[derive(Debug)]
pub enum Message {
    /// A listening socket for this worker, of the listener of that number, which its plan has.
    Listen(Socket, ListenerId),
    /// A connection that another worker accepted; its place is reserved.
    Adopt(Arrived),
    /// The plan from now on.
    Follow(Box<Next>),
    /// Tell how many listeners of this worker accept, once all that were given to it before have begun.
    Report(Sender<u32>),
    /// What the same upstream of another worker asks or gives.
    Lend(Box<Letter>),
    /// Take nothing more from the queues of the listeners, until told otherwise, and tell when that is so.
    Pause(Sender<()>),
    /// Accept again.
    Resume,
    /// Finish what is in flight and end; a successor has these listeners.
    HandOver(Vec<ListenerId>),
    /// Tell what is connected where.
    Tell(Sender<Live>),
    /// Finish what is in flight and end.
    Drain,
    /// End now; what is in flight is reset.
    Cut,
}

/// The next plan, for one worker.
#[derive(Debug)]
pub struct Next {
    /// The plan.
    pub plan: SharedPlan,
    /// The plan's table, where threads should not share it.
    pub own_table: Option<table::Table>,
    /// Dropped when the worker follows, and the listeners that it is to close are closed.
    pub followed: Sender<()>,
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
    /// The plan that they take up.
    pub(crate) latest: Latest,
    /// Workers whose listeners bring the crew connections of clients.
    bringing: Bringing,
}

#[expect(
    clippy::disallowed_types,
    reason = "the count is shared once, when the threads are hired"
)]
type Bringing = hp_core::base::sync::Arc<AtomicU32>;

impl Threads {
    /// A crew to which so many workers bring connections.
    pub(crate) fn new(crew: Crew<Arrived>, latest: Latest, workers: u32) -> Self {
        Self {
            crew,
            latest,
            bringing: Bringing::new(workers.into()),
        }
    }

    /// One worker brings connections of clients no more; the last one tells the crew to end.
    pub(crate) fn brings_no_more(&self) {
        if self.bringing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.crew.end();
        }
    }
}

/// Where client connections are served.
#[derive(Debug)]
pub(crate) enum Home {
    /// Here, or by another worker with fewer.
    Worker(Mesh<Message>),
    /// By a crew; this worker only accepts.
    Listener(Threads),
    /// Here, one after another: a thread of the crew.
    Thread(Rc<Seat<Arrived>>, Latest),
}

/// A worker, or a thread of the crew, with its newest generation.
#[derive(Debug)]
pub(crate) struct Worker {
    local: Rc<Local>,
    generation: RefCell<Rc<Generation>>,
}

/// What lives as long as the worker's thread, whatever the plan.
#[derive(Debug)]
pub(crate) struct Local {
    rt: Rt,
    /// Its number, which is that of its row, too.
    id: WorkerId,
    rows: Rows,
    home: Home,
    /// The number of the newest plan that came by message.
    newest: Cell<u32>,
    /// By the numbers that parked connections carry.
    upstreams: RefCell<Vec<Option<Rc<Upstream>>>>,
    /// The way to those of other workers.
    siblings: Option<Rc<Siblings>>,
    /// Connections of all of them.
    open_total: OpenTotal,
    /// The newest plan's bound on what idles; 0: none. See [`idle`].
    idle_conns_total: Cell<u32>,
    idle_credit: Cell<u32>,
    draws: Cell<Draws>,
    mirrors: Rc<Mirrors>,
    is_draining: Cell<bool>,
    /// When clients leave in a drain that is spread; `None` in one that tells all at once.
    departure: RefCell<Option<Departure>>,
    /// Every client is told with its next answer to go.
    tells_all: Cell<bool>,
    /// Connections that idle are closed: at once when a drain begins, or after a while.
    closes_idle: Cell<bool>,
    accepting: Accepting,
    /// Listeners that may still bring connections.
    listening: RefCell<Vec<ListenerId>>,
    /// Who is told when a listener has been closed.
    closing: RefCell<Vec<(ListenerId, Sender<()>)>>,
    /// Client connections of this worker, parked ones included.
    open: Cell<u32>,
    /// The same by listener.
    open_by_listener: RefCell<BTreeMap<ListenerId, u32>>,
    all_closed: RefCell<Option<Waker>>,
    pub(crate) crowd: Crowd,
    texts: Texts,
}

impl Worker {
    /// The state of a worker that has no connection yet.
    pub(crate) fn new(rt: &Rt, id: WorkerId, home: Home, plan: SharedPlan, rows: Rows) -> Rc<Self> {
        let mirrors = match &home {
            Home::Thread(..) => Mirrors::of_thread(id.0),
            Home::Worker(_) | Home::Listener(_) => Mirrors::of_worker(id.0),
        };
        let local = Rc::new(Local {
            rt: rt.clone(),
            id,
            rows,
            siblings: siblings::of(&home, id),
            home,
            newest: Cell::new(plan.number()),
            upstreams: RefCell::default(),
            open_total: OpenTotal::default(),
            idle_conns_total: Cell::new(plan.limits.idle_conns_total),
            idle_credit: Cell::new(0),
            draws: Cell::new(Draws::starting_at(id.0)),
            mirrors,
            is_draining: Cell::new(false),
            departure: RefCell::default(),
            tells_all: Cell::new(false),
            closes_idle: Cell::new(false),
            accepting: Accepting::default(),
            listening: RefCell::default(),
            closing: RefCell::default(),
            open: Cell::new(0),
            open_by_listener: RefCell::default(),
            all_closed: RefCell::default(),
            crowd: Crowd::default(),
            texts: Texts::new(rt),
        });
        Rc::new(Self {
            generation: RefCell::new(Generation::first(&local, plan)),
            local,
        })
    }

    /// What outlives the plans.
    pub(crate) fn local(&self) -> &Rc<Local> {
        &self.local
    }

    /// The newest generation; that of a thread of the crew is made here, when somebody looks.
    pub(crate) fn current(&self) -> Rc<Generation> {
        if let Home::Thread(_, latest) = &self.home
            && self.generation.borrow().is_outdated()
        {
            self.take_up(latest.plan(), None);
        }
        Rc::clone(&self.generation.borrow())
    }

    /// Whether a parked client connection that came back is to be served: it has news, and came by a listener that is known.
    pub(crate) fn serves_parked(&self, listener: ListenerId, why: Unparked) -> bool {
        why == Unparked::News && self.generation.borrow().listener(listener).is_some()
    }

    /// What is connected here, by the newest plan's names.
    pub(crate) fn live(&self) -> Live {
        let generation = self.generation.borrow();
        let mut live = Live::default();
        for (id, open) in self.open_by_listener.borrow().iter() {
            if let Some(known) = generation.listener(*id) {
                let address = known.listener.address.to_string();
                *live.listeners.entry(address).or_default() += u64::from(*open);
            }
        }
        generation.count_upstreams(&mut live);
        live
    }

    /// The next plan has come. Requests that have begun keep theirs; listeners that it does not have are closed.
    pub(crate) fn follow(&self, next: Next) {
        self.take_up(next.plan, next.own_table);
        self.forget_upstreams();
        let generation = self.generation.borrow();
        let is_closed = |id: &&ListenerId| !is_open(&generation, **id);
        let mut closing = self.closing.borrow_mut();
        let closed = self.listening.borrow();
        let before = closing.len();
        closing.extend(
            closed
                .iter()
                .filter(is_closed)
                .map(|id| (*id, next.followed.clone())),
        );
        if closing.len() > before {
            self.rt.wake_all(); // Nobody has to remember who listens.
        }
    }

    fn take_up(&self, plan: SharedPlan, own_table: Option<table::Table>) {
        self.newest.set(plan.number());
        self.idle_conns_total.set(plan.limits.idle_conns_total);
        let next = Generation::after(&self.generation.borrow(), plan, own_table);
        drop(self.generation.replace(next)); // Requests may still have it.
    }

    /// Whether the plan has a listener.
    pub(crate) fn has_listener(&self, id: ListenerId) -> bool {
        is_open(&self.generation.borrow(), id)
    }
}

impl Deref for Worker {
    type Target = Local;

    fn deref(&self) -> &Local {
        &self.local
    }
}

impl Local {
    pub(crate) fn rt(&self) -> &Rt {
        &self.rt
    }

    pub(crate) fn id(&self) -> WorkerId {
        self.id
    }

    pub(crate) fn row(&self) -> &Counters {
        self.rows.of(self.id.0)
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// The row and its number, for what counts there.
    fn row_of_upstreams(&self) -> (Rows, u32) {
        (self.rows.clone(), self.id.0)
    }

    /// The number of the newest plan that a request can take up.
    #[inline]
    fn newest(&self) -> u32 {
        match &self.home {
            Home::Thread(_, latest) => latest.number(),
            Home::Worker(_) | Home::Listener(_) => self.newest.get(),
        }
    }

    /// Makes an upstream under a number that no other has, and keeps it for connections that come back by themselves.
    fn keep_upstream(&self, make: impl FnOnce(u32) -> Rc<Upstream>) -> Rc<Upstream> {
        let mut upstreams = self.upstreams.borrow_mut();
        let free = upstreams.iter().position(Option::is_none);
        let place = free.unwrap_or(upstreams.len());
        let id = u32::try_from(place).expect("a plan has fewer than 2^31 upstreams");
        let upstream = make(id);
        if place == upstreams.len() {
            upstreams.push(None);
        }
        if let Some(kept) = upstreams.get_mut(place) {
            *kept = Some(Rc::clone(&upstream));
        }
        upstream
    }

    /// Lets go of upstreams that no generation has and that no connection belongs to.
    fn forget_upstreams(&self) {
        for kept in self.upstreams.borrow_mut().iter_mut() {
            let is_done = |upstream: &Rc<Upstream>| {
                Rc::strong_count(upstream) == 1 && upstream.open_conns() == 0
            };
            if kept.as_ref().is_some_and(is_done) {
                *kept = None;
            }
        }
    }

    /// Takes note of a connection to an upstream that came back by itself.
    pub(crate) fn retire(&self, conn: Conn, (upstream, endpoint): (u32, usize), why: Unparked) {
        let upstreams = self.upstreams.borrow();
        match upstreams.get(upstream as usize).and_then(Option::as_ref) {
            Some(upstream) => upstream.retire(conn, endpoint, why),
            None => drop(conn), // Of no upstream.
        }
    }

    /// What all workers have counted, for people.
    pub(crate) fn rows(&self) -> &Rows {
        &self.rows
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

    /// Whether the listeners accept.
    pub(crate) fn accepting(&self) -> &Accepting {
        &self.accepting
    }

    /// The Date field of what is answered now.
    #[inline]
    pub(crate) fn date_line(&self) -> DateLine {
        self.texts.date_line(&self.rt)
    }

    /// An empty buffer for a head, with room from its last use.
    #[inline]
    pub(crate) fn take_scratch(&self) -> Vec<u8> {
        self.texts.take_scratch()
    }

    /// Gives a buffer back for the next head.
    #[inline]
    pub(crate) fn give_scratch(&self, buffer: Vec<u8>) {
        self.texts.give_scratch(buffer);
    }

    /// Client connections that have not ended.
    pub(crate) fn open_conns(&self) -> u32 {
        self.open.get()
    }

    /// Counts a client connection whose place was reserved.
    pub(crate) fn conn_began(&self, listener: ListenerId) {
        match self.home {
            Home::Worker(_) | Home::Listener(_) => self.row().conns_accepted.add(1),
            Home::Thread(..) => (), // Its listener has counted it.
        }
        self.row().conns_open.add(1);
        self.open.set(self.open.get() + 1);
        *self
            .open_by_listener
            .borrow_mut()
            .entry(listener)
            .or_default() += 1;
    }

    /// A place that was reserved for a client connection is free again.
    pub(crate) fn release_place(&self) {
        match &self.home {
            Home::Worker(mesh) => mesh.loads().release(self.id),
            Home::Listener(_) | Home::Thread(..) => (), // Nobody chooses by their loads.
        }
    }

    /// A listener begins to bring connections.
    pub(crate) fn listener_began(&self, id: ListenerId) {
        self.listening.borrow_mut().push(id);
    }

    /// A listener brings no more connections.
    pub(crate) fn listener_ended(&self, id: ListenerId) {
        let mut listening = self.listening.borrow_mut();
        // A worker may have several sockets of one listener.
        if let Some(place) = listening.iter().position(|other| *other == id) {
            listening.swap_remove(place);
        }
        if !listening.contains(&id) {
            self.closing.borrow_mut().retain(|(other, _)| *other != id);
        }
        drop(listening);
        self.wake_if_all_closed();
    }

    /// Counts a client connection as ended, and frees its place.
    pub(crate) fn conn_ended(&self, listener: ListenerId) {
        self.row().conns_open.subtract(1);
        self.release_place();
        self.open.set(self.open.get() - 1);
        if let Entry::Occupied(mut open) = self.open_by_listener.borrow_mut().entry(listener) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
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

    /// Ends the listeners that went on during the drain, too; ready once they have served what waited in their queues.
    pub(crate) async fn end_listeners(&self) {
        self.accepting.end();
        self.rt.wake_all();
        while self.accepting.listeners() > 0 {
            self.rt.sleep(LOOK_AT_LISTENERS).await;
        }
    }

    fn is_all_closed(&self) -> bool {
        self.open.get() == 0 && self.accepting.bringing() == 0
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

fn is_open(generation: &Generation, id: ListenerId) -> bool {
    generation.listener(id).is_some_and(|known| known.is_open)
}

/// How often it is looked whether the last listeners have ended, which takes some turns.
const LOOK_AT_LISTENERS: Duration = Duration::from_millis(1);
