//! The proxy with one worker on a simulated kernel.

use hp_core::rt::Rt;
use hp_core::rt::mesh::{Mesh, WorkerId};
use hp_core::rt::sim::{Host, Limits, World};
use hp_core::rt::worker::Context;
use hp_proxy::config::plan::{ListenerId, Plan};
use hp_proxy::counters::Rows;
use hp_proxy::shared::{Message, SharedPlan};
use hp_proxy::worker;
use std::cell::Cell;
use std::io;
use std::rc::Rc;

pub(crate) struct OneWorker {
    rt: Rt,
    has_ended: Rc<Cell<bool>>,
    mesh: Mesh<Message>,
}

impl OneWorker {
    /// Listens where its plan says.
    pub(crate) fn start(host: &Host, rt: Rt, plan: Plan) -> io::Result<Self> {
        let addr = plan.listeners.first().and_then(|first| first.address.tcp());
        let addr = addr.ok_or(io::ErrorKind::Unsupported)?; // The simulated kernel has no other.
        let socket = host.listen(addr, 128)?;
        let proxy = Self {
            rt,
            has_ended: Rc::default(),
            mesh: Mesh::new(1),
        };
        let context = Context {
            rt: proxy.rt.clone(),
            id: WORKER,
            mailbox: proxy.mesh.mailbox(WORKER),
            mesh: proxy.mesh.clone(),
        };
        let has_ended = Rc::clone(&proxy.has_ended);
        let plan = SharedPlan::new(plan);
        proxy.rt.spawn(async move {
            worker::main(context, plan, Rows::new(1, 0), None).await;
            has_ended.set(true);
        });
        proxy.tell(Message::Listen(socket, ListenerId(0)));
        Ok(proxy)
    }

    /// Turns a world until its play is over, and a drain after that has ended. `other`: the runtime of whoever plays with the proxy.
    ///
    /// # Errors
    /// What did not come to its end, was left open, or panicked.
    pub(crate) fn play_to_end(
        &self,
        (world, other): (&World, &Rt),
        limits: Limits,
        mut is_over: impl FnMut() -> bool,
    ) -> Result<(), String> {
        let run = |done: &mut dyn FnMut() -> bool| {
            let stuck = world.run_until(done, limits);
            stuck.map_err(|stuck| stuck.to_string())
        };
        run(&mut is_over)?;
        self.tell(Message::Drain);
        run(&mut || self.has_ended.get())?;
        let panics = self.rt.panics() + other.panics();
        world.shut_down().map_err(|leaks| leaks.to_string())?;
        if panics > 0 {
            return Err(format!("{panics} tasks panicked"));
        }
        Ok(())
    }

    fn tell(&self, message: Message) {
        match self.mesh.send(WORKER, message) {
            Ok(()) => (),
            Err(_full) => unreachable!("a mailbox takes more than two messages"),
        }
    }
}

const WORKER: WorkerId = WorkerId(0);
