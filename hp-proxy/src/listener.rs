//! Accepting: each worker from its own socket, and a connection goes to whoever has room, or to a thread of its own.

use crate::config::plan::ListenerId;
use crate::downstream;
use crate::shared::{Arrived, Home, Message, Worker};
use hp_core::rt::mesh::Mesh;
use hp_core::rt::net::{Listener, Socket};
use hp_core::rt::race::{First, race};
use std::rc::Rc;
use std::time::Duration;

/// Accepts until a drain begins, or the plan has the listener no more; then serves what waits in the socket's queue, and closes it.
pub(crate) fn serve(
    worker: Rc<Worker>,
    socket: Socket,
    id: ListenerId,
) -> impl Future<Output = ()> {
    let listening = Listening::begin(worker, id); // A drain that comes before the first turn waits for it, too.
    async move { accept_all(&listening.0, socket, id).await }
}

async fn accept_all(worker: &Rc<Worker>, socket: Socket, id: ListenerId) {
    let listener = match worker.rt().listener(socket) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("hp-proxy: worker {} cannot listen: {error}", worker.id().0);
            return;
        }
    };
    accept_while_open(worker, &listener, id).await;
    listener.pause();
    // A turn later the kernel has handed over what it had accepted for us.
    worker.rt().sleep(PAUSE_SETTLES).await;
    // As many as can have waited: clients that come meanwhile must not keep it open.
    let waiting = std::iter::from_fn(|| listener.try_accept_raw());
    for accepted in waiting.take(BACKLOG as usize) {
        let listener = id;
        place(worker, Arrived { accepted, listener });
    }
}

async fn accept_while_open(worker: &Rc<Worker>, listener: &Listener, id: ListenerId) {
    let mut stalls: u64 = 0;
    loop {
        let next = async {
            if let Home::Listener(threads) = worker.home() {
                threads.crew.has_room().await;
            }
            listener.accept_raw().await
        };
        match race(next, worker.listener_shall_close(id)).await {
            First::Other(()) => return,
            First::One(Ok(accepted)) => {
                let listener = id;
                place(worker, Arrived { accepted, listener });
            }
            First::One(Err(error)) => {
                worker.row().accept_stalls.add(1);
                if stalls.is_multiple_of(STALLS_PER_LINE) {
                    eprintln!(
                        "hp-proxy: worker {}: cannot accept: {error}; connections wait, trying again every {} ms; \
                         raise the limit of open files (ulimit -n) if this stays",
                        worker.id().0,
                        STALL.as_millis()
                    );
                }
                stalls += 1;
                worker.rt().sleep(STALL).await;
            }
        }
    }
}

/// Gives a connection to whom it belongs.
fn place(worker: &Rc<Worker>, arrived: Arrived) {
    match worker.home() {
        Home::Worker(mesh) => balance(worker, mesh, arrived),
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
                    eprintln!(
                        "hp-proxy: worker {}: cannot start a thread: {error}; connections wait for those that there are; \
                         raise the limit of processes (ulimit -u) or lower --threads-max",
                        worker.id().0
                    );
                }
            }
        }
        Home::Thread(..) => unreachable!("a thread of the crew has no listener"),
    }
}

/// Serves a connection here, or gives it to a worker that has clearly fewer.
fn balance(worker: &Rc<Worker>, mesh: &Mesh<Message>, arrived: Arrived) {
    let target = mesh.loads().place(worker.id());
    if target == worker.id() {
        return downstream::adopt(worker, arrived);
    }
    match mesh.send(target, Message::Adopt(arrived)) {
        Ok(()) => worker.row().conns_moved.add(1),
        Err(message) => {
            mesh.loads().release(target);
            if let Message::Adopt(arrived) = message {
                mesh.loads().take(worker.id());
                downstream::adopt(worker, arrived);
            }
        }
    }
}

/// A listener at work; told when it ends, panics included.
struct Listening(Rc<Worker>, ListenerId);

impl Listening {
    fn begin(worker: Rc<Worker>, id: ListenerId) -> Self {
        worker.listener_began(id);
        Self(worker, id)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.listener_ended(self.1);
    }
}

/// Connections that may wait to be accepted; the kernel caps it.
pub(crate) const BACKLOG: u32 = 4096;
/// How long accepting stops when descriptors or memory run out.
const STALL: Duration = Duration::from_millis(100);
/// One line in the log for this many stalls: a second's worth.
const STALLS_PER_LINE: u64 = 10;
const PAUSE_SETTLES: Duration = Duration::from_millis(1);
