//! Two workers on a simulated kernel, whose letters to each other pass through the test, which can hold them back.

use hp_core::obs::metrics::Counter;
use hp_core::rt::mesh::{Mesh, WorkerId};
use hp_core::rt::race::{First, race};
use hp_core::rt::sim::{Face, Host};
use hp_core::rt::worker::Context;
use hp_core::rt::{Rt, RtOptions};
use hp_proxy::config::load_text;
use hp_proxy::config::plan::Plan;
use hp_proxy::counters::{Counters, Rows};
use hp_proxy::live::Live;
use hp_proxy::shared::{Message, Next, SharedPlan};
use hp_proxy::worker;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::Poll;

pub(crate) struct Workers {
    /// Of each worker.
    pub(crate) rts: Vec<Rt>,
    /// As each worker sees it: the mailbox of the other one in it is the test's.
    meshes: [Mesh<Message>; 2],
    rows: Rows,
    running: Rc<Cell<u32>>,
    plan: RefCell<SharedPlan>,
    post: Rc<Post>,
}

/// What the test has of their letters.
#[derive(Default)]
struct Post {
    /// To whom nothing is passed on.
    held_to: Cell<Option<u32>>,
    held: RefCell<Vec<(u32, Message)>>,
    /// Whose mailbox the other one finds closed.
    closed: Cell<Option<u32>>,
}

impl Workers {
    /// Each listens alone, and keeps what it accepts. Letters are carried by tasks of `post_rt`.
    pub(crate) fn start(
        (host, face): (&Host, Face),
        post_rt: &Rt,
        (text, listen): (&str, [SocketAddr; 2]),
    ) -> Self {
        let plan = SharedPlan::new(plan_of(text));
        let mut workers = Self {
            rts: Vec::new(),
            meshes: [Mesh::new(2), Mesh::new(2)],
            rows: Rows::new(2, 0),
            running: Rc::new(Cell::new(2)),
            plan: RefCell::new(plan.clone()),
            post: Rc::default(),
        };
        for (id, listen) in (0..).zip(listen) {
            let rt = host.rt(face, &RtOptions::default()).unwrap();
            let mesh = workers.mesh(id);
            (0..1000).for_each(|_| mesh.loads().take(WorkerId(1 - id)));
            let context = Context {
                rt: rt.clone(),
                id: WorkerId(id),
                mailbox: mesh.mailbox(WorkerId(id)),
                mesh: mesh.clone(),
            };
            let (plan, rows) = (plan.clone(), workers.rows.clone());
            let running = Rc::clone(&workers.running);
            rt.spawn(async move {
                worker::main(context, plan, rows, None).await;
                running.set(running.get() - 1);
            });
            let socket = host.listen(listen, 64).unwrap();
            let place = usize::try_from(id).unwrap();
            let listener = workers.plan.borrow().listener_ids()[place];
            workers.tell(id, Message::Listen(socket, listener));
            workers.rts.push(rt);
            workers.carry_from(id, post_rt);
        }
        workers
    }

    /// Carries what one worker writes to the other.
    fn carry_from(&self, from: u32, rt: &Rt) {
        let to = 1 - from;
        let mailbox = self.mesh(from).mailbox(WorkerId(to));
        let (mesh, post) = (self.mesh(to).clone(), Rc::clone(&self.post));
        rt.spawn(async move {
            loop {
                let is_closed = poll_fn(|_cx| match post.closed.get() {
                    Some(worker) if worker == to => Poll::Ready(()),
                    _ => Poll::Pending, // Whoever closes it wakes every task.
                });
                let First::One(letter) = race(mailbox.recv(), is_closed).await else {
                    return;
                };
                if post.held_to.get() == Some(to) {
                    post.held.borrow_mut().push((to, letter));
                } else {
                    match mesh.send(WorkerId(to), letter) {
                        Ok(()) => (),
                        Err(_ended) => return,
                    }
                }
            }
        });
    }

    /// From now on, letters to one of them are held back; those that were held and are not any more are delivered.
    pub(crate) fn hold_letters_to(&self, worker: Option<u32>) {
        self.post.held_to.set(worker);
        for (to, letter) in self.post.held.take() {
            self.tell(to, letter);
        }
    }

    /// From now on a worker seems to have ended, to the other one.
    pub(crate) fn close_mailbox_of(&self, worker: u32, post_rt: &Rt) {
        self.post.closed.set(Some(worker));
        post_rt.wake_all();
    }

    /// Letters that are held back.
    pub(crate) fn held(&self) -> usize {
        self.post.held.borrow().len()
    }

    pub(crate) fn follow(&self, text: &str) {
        let next = self.plan.borrow().followed_by(plan_of(text));
        for id in 0..2 {
            let (followed, _nobody_waits) = mpsc::channel();
            let message = Next {
                plan: next.clone(),
                own_table: None,
                followed,
            };
            self.tell(id, Message::Follow(Box::new(message)));
        }
        self.plan.replace(next);
    }

    /// What a worker has; it tells when it runs.
    pub(crate) fn ask_live(&self, worker: u32) -> mpsc::Receiver<Live> {
        let (to_us, told) = mpsc::channel();
        self.tell(worker, Message::Tell(to_us));
        told
    }

    /// What the plan gives a worker of the only upstream's limit.
    pub(crate) fn share_at_first(&self, worker: u32) -> u64 {
        let plan = self.plan.borrow();
        plan.upstreams[0].conns_of(worker, 2).map_or(0, u64::from)
    }

    /// One number of both workers.
    pub(crate) fn sum(&self, counter: fn(&Counters) -> &Counter) -> u64 {
        self.rows.sum(counter)
    }

    pub(crate) fn drain(&self) {
        (0..2).for_each(|id| self.tell(id, Message::Drain));
    }

    pub(crate) fn have_ended(&self) -> bool {
        self.running.get() == 0
    }

    fn mesh(&self, worker: u32) -> &Mesh<Message> {
        &self.meshes[usize::try_from(worker).unwrap()]
    }

    fn tell(&self, worker: u32, message: Message) {
        self.mesh(worker).send(WorkerId(worker), message).unwrap();
    }
}

fn plan_of(text: &str) -> Plan {
    let (plan, report) = load_text("proxy.toml", text, &|_| None);
    let told: Vec<String> = report.errors().iter().map(ToString::to_string).collect();
    plan.unwrap_or_else(|| panic!("{told:?}"))
}
