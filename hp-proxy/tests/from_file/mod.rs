//! The proxy on a simulated kernel, as a configuration file says.

use hp_core::obs::metrics::Counter;
use hp_core::rt::mesh::{Mesh, WorkerId};
use hp_core::rt::net::Conn;
use hp_core::rt::sim::{Face, Host};
use hp_core::rt::worker::Context;
use hp_core::rt::{Rt, RtOptions};
use hp_proxy::config::load_text;
use hp_proxy::config::plan::ListenerId;
use hp_proxy::counters::{Counters, Rows};
use hp_proxy::shared::{Message, SharedPlan};
use hp_proxy::worker;
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

pub(crate) struct Proxy {
    /// Of each worker.
    pub(crate) rts: Vec<Rt>,
    mesh: Mesh<Message>,
    pub(crate) rows: Rows,
    running: Rc<Cell<u32>>,
}

impl Proxy {
    /// As many workers as the text says, all of them listening where its only listener is.
    pub(crate) fn start(host: &Host, face: Face, text: &str) -> Self {
        let (plan, report) = load_text("proxy.toml", text, &|_| None);
        let told: Vec<String> = report.errors().iter().map(ToString::to_string).collect();
        let plan = plan.unwrap_or_else(|| panic!("{told:?}"));
        let listen = plan.listeners[0].address.tcp().unwrap();
        let workers = plan.workers;
        let plan = SharedPlan::new(plan);
        let mut proxy = Self {
            rts: Vec::new(),
            mesh: Mesh::new(workers),
            rows: Rows::new(workers, 0),
            running: Rc::new(Cell::new(workers)),
        };
        for id in (0..workers).map(WorkerId) {
            let rt = host.rt(face, &RtOptions::default()).unwrap();
            let context = Context {
                rt: rt.clone(),
                id,
                mailbox: proxy.mesh.mailbox(id),
                mesh: proxy.mesh.clone(),
            };
            let (plan, rows) = (plan.clone(), proxy.rows.clone());
            let running = Rc::clone(&proxy.running);
            rt.spawn(async move {
                worker::main(context, plan, rows, None).await;
                running.set(running.get() - 1);
            });
            let socket = host.listen(listen, 64).unwrap();
            let message = Message::Listen(socket, ListenerId(0));
            proxy.mesh.send(id, message).unwrap();
            proxy.rts.push(rt);
        }
        proxy
    }

    /// One number of all workers.
    pub(crate) fn sum(&self, counter: fn(&Counters) -> &Counter) -> u64 {
        self.rows.sum(counter)
    }

    pub(crate) fn drain(&self) {
        for id in (0..self.mesh.workers()).map(WorkerId) {
            self.mesh.send(id, Message::Drain).unwrap();
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.running.get() == 0
    }
}

/// Serves each connection with a task.
pub(crate) fn serve<F: Future<Output = ()> + 'static>(
    rt: &Rt,
    host: &Host,
    addr: SocketAddr,
    script: impl Fn(Conn) -> F + 'static,
) {
    let socket = host.listen(addr, 64).unwrap();
    let listener = rt.listener(socket).unwrap();
    let tasks = rt.clone();
    rt.spawn(async move {
        while let Ok(conn) = listener.accept().await {
            tasks.spawn(script(conn));
        }
    });
}
