//! Client connections: taken in, served by a task, parked while they idle, and counted when they end.

use crate::config::plan::ListenerId;
use crate::exchange::{self, Lanes};
use crate::shared::{Arrived, Worker};
use hp_core::rt::lifecycle::{Table, enter};
use hp_core::rt::net::Conn;
use hp_core::sys::heap;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// The side of a worker that its clients are on, with what only their exchanges share.
#[derive(Debug)]
pub(crate) struct Downstream {
    worker: Rc<Worker>,
    lanes: Rc<Lanes>,
}

impl Downstream {
    /// The clients of a worker that has none as yet.
    pub(crate) fn of(worker: &Rc<Worker>) -> Rc<Self> {
        Rc::new(Self {
            worker: Rc::clone(worker),
            lanes: Lanes::of(worker.local()),
        })
    }

    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// Serves a connection whose place is reserved with this worker.
    pub(crate) fn adopt(self: &Rc<Self>, arrived: Arrived) {
        let worker = &self.worker;
        enter(Table::Drain, worker.row_of_drain(), "a client connects");
        match worker.rt().adopt_accepted(arrived.accepted) {
            Ok(conn) => {
                worker.conn_began(arrived.listener);
                self.begin(conn, (arrived.listener, true));
            }
            Err(_no_memory) => worker.release_place(), // Closed; nothing was promised to it.
        }
    }

    /// Gives parked connections that came back to whom they belong.
    pub(crate) async fn receive_parked(self: Rc<Self>) {
        let worker = &self.worker;
        loop {
            let (conn, tag, why) = worker.rt().next_unparked().await;
            match Parked::of(tag) {
                Parked::Upstream(place) => worker.retire(conn, place, why),
                Parked::Downstream(listener) if worker.serves_parked(listener, why) => {
                    self.begin(conn, (listener, false));
                }
                Parked::Downstream(listener) => {
                    enter(Table::Drain, worker.row_of_drain(), "an idle connection");
                    drop(conn);
                    worker.conn_ended(listener);
                }
            }
        }
    }

    fn begin(self: &Rc<Self>, conn: Conn, come: (ListenerId, bool)) {
        let rt = self.worker.rt();
        rt.spawn(serve(Rc::clone(self), conn, come));
        self.worker.crowd.grew(rt.tasks());
    }
}

async fn serve(downstream: Rc<Downstream>, conn: Conn, (listener, is_new): (ListenerId, bool)) {
    let open = Open {
        downstream,
        listener,
        is_parked: Cell::new(false),
    };
    let Downstream { worker, lanes } = &*open.downstream;
    let served = exchange::serve((worker, lanes), conn, listener, is_new).await;
    if served == exchange::Served::Parked {
        open.is_parked.set(true);
    }
    if worker.crowd.is_leaving(worker.rt().tasks()) {
        worker.rt().spawn(give_room_back(Rc::clone(worker)));
    }
}

/// Until no crowd has left for a while.
async fn give_room_back(worker: Rc<Worker>) {
    loop {
        worker.rt().sleep(CROWD_SETTLES).await;
        if !worker.crowd.settles(worker.rt().tasks()) {
            break;
        }
        heap::give_back();
    }
}

/// A client connection in the hands of a task; counted as ended when the task ends, panics included.
struct Open {
    downstream: Rc<Downstream>,
    listener: ListenerId,
    is_parked: Cell<bool>,
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.is_parked.get() {
            self.downstream.worker.conn_ended(self.listener);
        }
    }
}

/// Whose a parked connection is.
enum Parked {
    Downstream(ListenerId),
    /// The upstream's number, and the endpoint's slot in it.
    Upstream((u32, usize)),
}

impl Parked {
    fn of(tag: u64) -> Self {
        match crate::upstream::of_tag(tag) {
            Some(place) => Self::Upstream(place),
            None => Self::Downstream(ListenerId(u32::try_from(tag).unwrap_or(u32::MAX))),
        }
    }
}

/// Longer than tasks are kept for connections that idle, so that pages are not given back which the next second takes again.
const CROWD_SETTLES: Duration = Duration::from_secs(2);
