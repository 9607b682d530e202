//! What a drain is to clients: whether they keep their connections, and when those that idle are closed.

use super::{Home, Local, Worker};
use hp_core::rt::lifecycle::{Table, enter};
use hp_core::rt::plant::{Plant, is_planted};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;

impl Worker {
    /// Tells every task that nothing new begins, and closes what idles, at once or after a while: see
    /// [`crate::counters::Readiness::keep_idle`].
    pub(crate) fn start_drain(&self) {
        enter(Table::Drain, self.row_of_drain(), "SIGTERM or SIGINT");
        self.is_draining.set(true);
        self.generation.borrow().close_shared_idle();
        let idle_kept = self.rows.readiness().idle_kept();
        if idle_kept.is_zero() || is_planted(Plant::IdleCut) {
            return self.close_idle();
        }
        self.rt.wake_all();
        let local = Rc::clone(&self.local);
        self.rt.spawn(async move {
            local.rt.sleep(idle_kept).await;
            local.close_idle();
        });
    }
}

impl Local {
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.get()
    }

    /// Whether a connection may no longer wait for a request.
    pub(crate) fn closes_idle(&self) -> bool {
        self.closes_idle.get()
    }

    fn close_idle(&self) {
        self.closes_idle.set(true);
        self.rt.wake_all();
        self.rt.unpark_all();
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
        matches!(self.home, Home::Worker(_)) && !self.closes_idle()
    }

    /// Ready once an idle connection is to be closed before its time: when idle ones are closed, of which every task is told, so
    /// that nobody has to remember who waits; where it has a thread of its own and had its first request, also when a connection
    /// waits for a thread and this one has idled for a while.
    #[inline]
    pub(crate) fn shall_leave(&self, is_first: bool) -> impl Future<Output = ()> + Unpin {
        let mut asked = match &self.home {
            // Boxed, so that the tasks of workers do not carry the room for it.
            Home::Thread(seat, _) if !is_first => Some(Box::pin(seat.asked())),
            _ => None,
        };
        poll_fn(move |cx| {
            if self.closes_idle() {
                return Poll::Ready(());
            }
            match &mut asked {
                Some(asked) => asked.as_mut().poll(cx),
                None => Poll::Pending,
            }
        })
    }
}
