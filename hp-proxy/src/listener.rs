//! Accepting: each worker from its own socket, and a connection goes to whoever has room.

use crate::downstream;
use crate::shared::{Message, Worker};
use hp_core::rt::net::{Accepted, Listener, Socket};
use hp_core::rt::race::{First, race};
use std::rc::Rc;
use std::time::Duration;

/// Accepts until a drain begins; then serves what waits in the socket's queue, and closes it.
pub(crate) async fn serve(worker: Rc<Worker>, socket: Socket) {
    let listener = match worker.rt().listener(socket) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("hp-proxy: worker {} cannot listen: {error}", worker.id().0);
            return;
        }
    };
    accept_until_drain(&worker, &listener).await;
    listener.pause();
    // A turn later the kernel has handed over what it had accepted for us.
    worker.rt().sleep(PAUSE_SETTLES).await;
    while let Some(accepted) = listener.try_accept_raw() {
        place(&worker, accepted);
    }
}

async fn accept_until_drain(worker: &Rc<Worker>, listener: &Listener) {
    let mut stalls: u64 = 0;
    loop {
        match race(listener.accept_raw(), worker.drain_begun()).await {
            First::Other(()) => return,
            First::One(Ok(accepted)) => place(worker, accepted),
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

/// Serves a connection here, or gives it to a worker that has clearly fewer.
fn place(worker: &Rc<Worker>, accepted: Accepted) {
    let target = worker.mesh().loads().place(worker.id());
    if target == worker.id() {
        return downstream::adopt(worker, accepted);
    }
    match worker.mesh().send(target, Message::Adopt(accepted)) {
        Ok(()) => worker.row().conns_moved.add(1),
        Err(message) => {
            worker.mesh().loads().release(target);
            if let Message::Adopt(accepted) = message {
                worker.mesh().loads().take(worker.id());
                downstream::adopt(worker, accepted);
            }
        }
    }
}

/// How long accepting stops when descriptors or memory run out.
const STALL: Duration = Duration::from_millis(100);
/// One line in the log for this many stalls: a second's worth.
const STALLS_PER_LINE: u64 = 10;
const PAUSE_SETTLES: Duration = Duration::from_millis(1);
