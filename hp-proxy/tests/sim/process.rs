//! One process of the proxy, as its main thread has it: workers, the sockets that they listen on, and the plan that they run under.

use hp_core::rt::mesh::{Mesh, WorkerId};
use hp_core::rt::net::Socket;
use hp_core::rt::sim::{Face, Host};
use hp_core::rt::worker::Context;
use hp_core::rt::{Instant, Rt, RtOptions};
use hp_proxy::config::plan::{ListenerId, Plan};
use hp_proxy::counters::{Counters, Rows};
use hp_proxy::live::Live;
use hp_proxy::shared::{Message, Next, SharedPlan};
use hp_proxy::worker;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

pub(crate) struct Process {
    host: Host,
    pub(crate) mesh: Mesh<Message>,
    pub(crate) rows: Rows,
    pub(crate) rts: Vec<Rt>,
    plan: RefCell<SharedPlan>,
    /// Kept to be passed on; a worker has a descriptor of its own.
    sockets: RefCell<Vec<Socket>>,
    workers_left: Rc<Cell<u32>>,
    /// Workers that have ended with their runtimes still there.
    dead: Rc<RefCell<Vec<Rt>>>,
    /// When the last worker ended.
    ended_at: Rc<Cell<Option<Instant>>>,
    /// When it was told to drain.
    drains_since: Cell<Option<Instant>>,
}

impl Process {
    /// Starts as many workers as the plan says; they listen on nothing.
    pub(crate) fn start(
        host: &Host,
        plan: SharedPlan,
        face: Face,
        mut options: impl FnMut() -> RtOptions,
    ) -> Self {
        let count = plan.workers;
        let mut process = Self {
            host: host.clone(),
            mesh: Mesh::new(count),
            rows: Rows::new(count, 0),
            rts: Vec::new(),
            plan: RefCell::new(plan.clone()),
            sockets: RefCell::default(),
            workers_left: Rc::new(Cell::new(count)),
            dead: Rc::default(),
            ended_at: Rc::default(),
            drains_since: Cell::default(),
        };
        for id in (0..count).map(WorkerId) {
            let rt = host.rt(face, &options()).expect(RUNTIME);
            let context = Context {
                rt: rt.clone(),
                id,
                mailbox: process.mesh.mailbox(id),
                mesh: process.mesh.clone(),
            };
            let (plan, rows) = (plan.clone(), process.rows.clone());
            let left = Rc::clone(&process.workers_left);
            let (ended_at, dead) = (Rc::clone(&process.ended_at), Rc::clone(&process.dead));
            let own = rt.clone();
            rt.spawn(async move {
                worker::main(context, plan, rows, None).await;
                left.set(left.get() - 1);
                own.end_turn();
                ended_at.set(Some(own.now()));
                dead.borrow_mut().push(own);
            });
            process.rts.push(rt);
        }
        process
    }

    /// Listens on an address, with a socket for each worker.
    pub(crate) fn listen(&self, addr: SocketAddr) {
        let bind = |_worker| self.host.listen(addr, BACKLOG).expect(OWN);
        self.give((0..self.mesh.workers()).map(bind).collect(), 0);
    }

    /// Listens on sockets of another process; tells how many of them each worker accepts from, once it does.
    pub(crate) fn take_over(&self, sockets: Vec<Socket>) -> Receiver<u32> {
        self.give(sockets, 0);
        let (to, reports) = mpsc::channel();
        self.tell_all(|| Message::Report(to.clone()));
        reports
    }

    /// In charge: binds a socket for each worker that has got none.
    pub(crate) fn complete(&self, addr: SocketAddr) {
        let had = u32::try_from(self.sockets.borrow().len()).expect("a handful");
        let bind = |_worker| self.host.listen(addr, BACKLOG).expect(OWN);
        self.give((had..self.mesh.workers()).map(bind).collect(), had);
    }

    /// Shares sockets out in turn, from a worker on.
    fn give(&self, sockets: Vec<Socket>, first: u32) {
        let workers = (0..self.mesh.workers()).cycle().skip(first as usize);
        for (socket, worker) in sockets.iter().zip(workers) {
            self.tell(WorkerId(worker), Message::Listen(copy(socket), LISTENER));
        }
        self.sockets.borrow_mut().extend(sockets);
    }

    /// Its listening sockets, for another process.
    pub(crate) fn copies(&self) -> Vec<Socket> {
        self.sockets.borrow().iter().map(copy).collect()
    }

    /// The plan that it runs under.
    pub(crate) fn plan(&self) -> SharedPlan {
        self.plan.borrow().clone()
    }

    /// Runs under another plan from now on; what it gives ends when all workers do.
    pub(crate) fn follow(&self, plan: Plan) -> Receiver<()> {
        let next = self.plan().followed_by(plan);
        let (followed, all_followed) = mpsc::channel();
        self.tell_all(|| {
            Message::Follow(Box::new(Next {
                plan: next.clone(),
                own_table: None,
                followed: followed.clone(),
            }))
        });
        self.plan.replace(next);
        all_followed
    }

    /// Has a worker tell what is connected where.
    pub(crate) fn ask(&self, worker: WorkerId) -> Receiver<Live> {
        let (who_asks, told) = mpsc::channel();
        self.tell(worker, Message::Tell(who_asks));
        told
    }

    /// Another process has taken these over: it finishes what it has begun, and keeps who idles for a second.
    pub(crate) fn hand_over(&self, listeners: &[ListenerId], now: Instant) {
        self.rows.readiness().leave();
        self.rows.readiness().keep_idle(IDLE_KEPT);
        self.tell_all(|| Message::HandOver(listeners.to_vec()));
        self.sockets.take();
        self.drains_since.set(Some(now));
    }

    /// Finishes what it has begun; nobody is told where else to go.
    pub(crate) fn drain(&self, now: Instant) {
        self.sockets.take();
        self.tell_all(|| Message::Drain);
        self.drains_since.set(Some(now));
    }

    /// It is killed.
    pub(crate) fn cut(&self) {
        self.sockets.take();
        self.tell_all(|| Message::Cut);
    }

    /// What each worker has counted.
    pub(crate) fn counters(&self) -> impl Iterator<Item = &Counters> {
        (0..self.mesh.workers()).map(|worker| self.rows.of(worker))
    }

    /// Ends the runtimes of workers that have ended, as their threads do at once; to be called after every turn.
    pub(crate) fn bury(&self) {
        if !self.dead.borrow().is_empty() {
            self.dead.take().iter().for_each(Rt::shut_down);
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.workers_left.get() == 0
    }

    /// How long its drain took, where it is over.
    pub(crate) fn drained_for(&self) -> Option<Duration> {
        Some(self.ended_at.get()? - self.drains_since.get()?)
    }

    /// Whether it had not finished when its drain was to end.
    pub(crate) fn is_cut_after(&self, drain_timeout: Duration) -> bool {
        self.drained_for().is_some_and(|took| took >= drain_timeout)
    }

    fn tell_all(&self, message: impl Fn() -> Message) {
        (0..self.mesh.workers()).for_each(|id| self.tell(WorkerId(id), message()));
    }

    fn tell(&self, worker: WorkerId, message: Message) {
        match self.mesh.send(worker, message) {
            Ok(()) => (),
            Err(_ended) => {
                unreachable!("it runs until it is told to end, and is told nothing after")
            }
        }
    }
}

fn copy(socket: &Socket) -> Socket {
    socket.try_clone().expect("descriptors are left")
}

/// The one that all clients come by.
pub(crate) const LISTENER: ListenerId = ListenerId(0);
/// How long an idle connection is kept where clients have somewhere else to go, as the main thread has it.
pub(crate) const IDLE_KEPT: Duration = Duration::from_secs(1);
const BACKLOG: u32 = 128;
const OWN: &str = "the address is the host's";
pub(crate) const RUNTIME: &str = "a simulated kernel has everything that a runtime needs";
