//! Accepting: each worker from its own socket, and a connection goes to whoever has room, or to a thread of its own.

use crate::accepting::Whose;
use crate::config::plan::{ListenerId, Serves};
use crate::downstream::Downstream;
use crate::shared::{Arrived, Home, Message, Worker};
use hp_core::obs::notice::say;
use hp_core::rt::mesh::Mesh;
use hp_core::rt::net::{Listener, Socket};
use hp_core::rt::race::{First, race};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// Accepts until a drain begins, or the plan has the listener no more; then serves what waits in the socket's queue, and closes it.
/// What a successor has got is only closed: its queue is the successor's.
pub(crate) fn serve(
    downstream: Rc<Downstream>,
    socket: Socket,
    id: ListenerId,
) -> impl Future<Output = ()> {
    let mut listening = Listening::begin(downstream, id); // A drain that comes before the first turn waits for it, too.
    async move { accept_all(&mut listening, socket, id).await }
}

async fn accept_all(listening: &mut Listening, socket: Socket, id: ListenerId) {
    let downstream = &Rc::clone(&listening.downstream);
    let worker = downstream.worker();
    let listener = match worker.rt().listener(socket) {
        Ok(listener) => listener,
        Err(error) => {
            say(format_args!(
                "hp-proxy: worker {} cannot listen: {error}",
                worker.id().0
            ));
            return;
        }
    };
    listening.register();
    loop {
        accept_while_told_to(listening, &listener, id).await;
        listener.pause();
        if listening.shall_end() {
            break;
        }
        listener.quiet().await;
        place_accepted(downstream, &listener, id);
        worker.accepting().rest(|| listening.shall_end()).await;
        if listening.shall_end() {
            break;
        }
        listener.resume();
    }
    if worker.accepting().is_passed_on(id) {
        listener.quiet().await;
        return place_accepted(downstream, &listener, id);
    }
    // A turn later the kernel has handed over what it had accepted for us.
    worker.rt().sleep(PAUSE_SETTLES).await;
    // As many as can have waited: clients that come meanwhile must not keep it open.
    let waiting = std::iter::from_fn(|| listener.try_accept_raw());
    for accepted in waiting.take(BACKLOG as usize) {
        let listener = id;
        place(downstream, Arrived { accepted, listener });
    }
}

/// Takes what the kernel has accepted for this listener, and asks it for nothing.
fn place_accepted(downstream: &Rc<Downstream>, listener: &Listener, id: ListenerId) {
    let taken = std::iter::from_fn(|| listener.take_accepted());
    taken.for_each(|accepted| {
        let listener = id;
        place(downstream, Arrived { accepted, listener });
    });
}

async fn accept_while_told_to(listening: &Listening, listener: &Listener, id: ListenerId) {
    let downstream = &listening.downstream;
    let worker = downstream.worker();
    let mut stalls: u64 = 0;
    loop {
        let next = async {
            if let Home::Listener(threads) = worker.home() {
                threads.crew.has_room().await;
            }
            listener.accept_raw().await
        };
        match race(next, listening.shall_pause()).await {
            First::Other(()) => return,
            First::One(Ok(accepted)) => {
                let listener = id;
                place(downstream, Arrived { accepted, listener });
            }
            First::One(Err(error)) => {
                worker.row().accept_stalls.add(1);
                if stalls.is_multiple_of(STALLS_PER_LINE) {
                    say(format_args!(
                        "hp-proxy: worker {}: cannot accept: {error}; connections wait, trying again every {} ms; \
                         raise the limit of open files (ulimit -n) if this stays",
                        worker.id().0,
                        STALL.as_millis()
                    ));
                }
                stalls += 1;
                worker.rt().sleep(STALL).await;
            }
        }
    }
}

/// Gives a connection to whom it belongs.
fn place(downstream: &Rc<Downstream>, arrived: Arrived) {
    let worker = downstream.worker();
    match worker.home() {
        Home::Worker(mesh) => balance(downstream, mesh, arrived),
        Home::Listener(threads) => {
            worker.row().conns_accepted.add(1);
            match threads.crew.hand_over(arrived) {
                Ok(()) => (),
                Err(error) => {
                    let stalls = worker.row().accept_stalls.value();
                    worker.row().accept_stalls.add(1);
                    if !stalls.is_multiple_of(STALLS_PER_LINE) {
                        return;
                    }
                    say(format_args!(
                        "hp-proxy: worker {}: cannot start a thread: {error}; connections wait for those that there are; \
                         raise the limit of processes (ulimit -u) or lower --threads-max",
                        worker.id().0
                    ));
                }
            }
        }
        Home::Thread(..) => unreachable!("a thread of the crew has no listener"),
    }
}

/// Serves a connection here, or gives it to a worker that has clearly fewer.
fn balance(downstream: &Rc<Downstream>, mesh: &Mesh<Message>, arrived: Arrived) {
    let worker = downstream.worker();
    let target = mesh.loads().place(worker.id());
    if target == worker.id() {
        return downstream.adopt(arrived);
    }
    match mesh.send(target, Message::Adopt(arrived)) {
        Ok(()) => worker.row().conns_moved.add(1),
        Err(message) => {
            mesh.loads().release(target);
            if let Message::Adopt(arrived) = message {
                mesh.loads().take(worker.id());
                downstream.adopt(arrived);
            }
        }
    }
}

/// A listener at work; told when it ends, panics included.
struct Listening {
    downstream: Rc<Downstream>,
    id: ListenerId,
    whose: Whose,
    is_registered: bool,
}

impl Listening {
    fn begin(downstream: Rc<Downstream>, id: ListenerId) -> Self {
        let worker = downstream.worker();
        let generation = worker.current();
        let known = generation.listener(id);
        let whose = match known.map(|known| known.listener.serves) {
            Some(Serves::Admin) => Whose::Operators,
            Some(Serves::Routes) | None => Whose::Clients,
        };
        worker.accepting().begin(whose);
        worker.listener_began(id);
        Self {
            downstream,
            id,
            whose,
            is_registered: false,
        }
    }

    fn worker(&self) -> &Worker {
        self.downstream.worker()
    }

    fn register(&mut self) {
        self.is_registered = true;
        self.worker().accepting().register();
    }

    /// Whether it is to serve what waits, and to end.
    fn shall_end(&self) -> bool {
        let accepting = self.worker().accepting();
        let is_drained = match self.whose {
            Whose::Clients => self.worker().is_draining(),
            Whose::Operators => accepting.is_ending() || accepting.is_passed_on(self.id),
        };
        is_drained || !self.worker().has_listener(self.id)
    }

    /// Ready once it is to stop accepting, of which every task is told.
    async fn shall_pause(&self) {
        poll_fn(|_cx| {
            if self.worker().accepting().is_paused() || self.shall_end() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if self.is_registered {
            self.worker().accepting().deregister();
        }
        self.worker().accepting().finish(self.whose);
        self.worker().listener_ended(self.id);
    }
}

/// Connections that may wait to be accepted; the kernel caps it.
pub(crate) const BACKLOG: u32 = 4096;
/// How long accepting stops when descriptors or memory run out.
const STALL: Duration = Duration::from_millis(100);
/// One line in the log for this many stalls: a second's worth.
const STALLS_PER_LINE: u64 = 10;
const PAUSE_SETTLES: Duration = Duration::from_millis(1);
