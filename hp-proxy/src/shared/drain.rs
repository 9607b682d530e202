//! What a drain is to clients: whether they keep their connections, and when those that idle are closed.

use super::departure::Departure;
use super::{Generation, Home, Local, Worker};
use crate::upstream::of_tag;
use hp_core::rt::Instant;
use hp_core::rt::lifecycle::{Table, enter};
use hp_core::rt::net::ConnName;
use hp_core::rt::plant::{Plant, is_planted};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

impl Worker {
    /// Tells every task that nothing new begins. Where clients have nowhere else to go, all are told at once, and what idles is closed;
    /// else each has its moment: see [`Departure`]. Does nothing when it has begun.
    pub(crate) fn start_drain(&self) {
        if self.is_draining() {
            return; // Of a thread, which serves a connection that waited for it.
        }
        enter(Table::Drain, self.row_of_drain(), "SIGTERM or SIGINT");
        self.is_draining.set(true);
        let generation = self.current(); // A thread may not have looked since the last reload.
        let Some(mut departure) = self.departure_from(self.rt.now(), &generation) else {
            generation.tell_all();
            self.close_idle();
            return self.rt.unpark_all();
        };
        self.rt.wake_all();
        self.rt.hasten_parked(|place, tag| {
            let is_client = of_tag(tag).is_none();
            is_client.then(|| departure.closed_from(place))
        });
        let (all_told, all_closed) = (departure.all_told_from(), departure.all_closed_from());
        *self.departure.borrow_mut() = Some(departure);
        let local = Rc::clone(&self.local);
        self.rt.spawn(async move {
            local.rt.sleep_until(all_told).await;
            generation.tell_all();
            drop(generation);
            local.rt.sleep_until(all_closed).await;
            local.close_idle();
            // Clients that are parked have moments of their own, which may be later.
            let now = local.rt.now();
            local
                .rt
                .hasten_parked(|_place, tag| of_tag(tag).is_some().then_some(now));
        });
    }

    /// When clients are to leave; `None`: now.
    fn departure_from(&self, now: Instant, generation: &Generation) -> Option<Departure> {
        let idle_kept = self.rows.readiness().idle_kept();
        if idle_kept.is_zero() || is_planted(Plant::IdleCut) {
            return None;
        }
        let plan = generation.plan();
        let times = (&plan.timeouts, idle_kept);
        Some(match &self.home {
            Home::Thread(..) => Departure::of_thread(now, times, self.id.0),
            Home::Worker(_) | Home::Listener(_) => {
                Departure::of_worker(now, times, (self.id.0, plan.workers))
            }
        })
    }
}

impl Generation {
    /// Every client is told with its next answer to go: connections to backends have no later request to wait for.
    fn tell_all(&self) {
        self.tells_all.set(true);
        self.close_shared_idle();
    }
}

impl Local {
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.get()
    }

    /// Whether every client is told with its next answer to go, so that nothing is kept for a later request.
    pub(crate) fn tells_all(&self) -> bool {
        self.tells_all.get()
    }

    /// Whether a connection may no longer wait for a request, unless its last answer has ended in the drain.
    pub(crate) fn closes_idle(&self) -> bool {
        self.closes_idle.get()
    }

    fn close_idle(&self) {
        self.closes_idle.set(true);
        self.rt.wake_all();
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
    pub(crate) fn keeps_client(&self, client: ConnName) -> bool {
        let is_crowded = match &self.home {
            Home::Worker(_) | Home::Listener(_) => false,
            Home::Thread(seat, _) => seat.crew().is_crowded(), // Somebody waits for this thread.
        };
        !is_crowded && (!self.is_draining() || self.stays(client))
    }

    /// Whether the drain has not come to a client.
    #[cold]
    fn stays(&self, client: ConnName) -> bool {
        let mut departure = self.departure.borrow_mut();
        let departure = departure.as_mut();
        departure.is_some_and(|departure| self.rt.now() < departure.told_from(client.place()))
    }

    /// Until when a connection is parked that has idled for so long, and would be until then.
    pub(super) fn parked_until(
        &self,
        (client, idled): (ConnName, Duration),
        until: Instant,
    ) -> Instant {
        match self.departure.borrow_mut().as_mut() {
            Some(departure) => {
                let idles = (self.rt.now(), idled);
                until.min(departure.closed_after(client.place(), idles))
            }
            None => until,
        }
    }

    /// How long a task keeps a connection that begins to idle in a drain; not at all where all were told at once. Its answer may have outlasted
    /// those of others, and have told it that it lives on.
    #[cold]
    pub(super) fn kept_in_drain(&self) -> Duration {
        let now = self.rt.now();
        match (self.departure.borrow_mut().as_mut(), &self.home) {
            (None, _) => Duration::ZERO,
            // It has one connection, at whatever place.
            (Some(departure), Home::Thread(..)) => {
                departure.closed_after(0, (now, Duration::ZERO)) - now
            }
            (Some(departure), Home::Worker(_) | Home::Listener(_)) => departure.kept_from(now),
        }
    }

    /// Whether an idle connection can be kept without a task; a thread's own connection has nobody else to serve.
    pub(crate) fn parks(&self) -> bool {
        let is_spread = || self.departure.borrow().is_some();
        matches!(self.home, Home::Worker(_)) && (!self.closes_idle() || is_spread())
    }

    /// Ready once an idle connection is to be closed before its time: when idle ones are closed, of which every task is told, so
    /// that nobody has to remember who waits; where it has a thread of its own and had its first request, also when a connection
    /// waits for a thread and this one has idled for a while. Who has begun to idle in the drain is waited for until a time that
    /// [follows from that](Local::kept_in_drain).
    #[inline]
    pub(crate) fn shall_leave(&self, is_first: bool) -> impl Future<Output = ()> + Unpin {
        let mut asked = match &self.home {
            // Boxed, so that the tasks of workers do not carry the room for it.
            Home::Thread(seat, _) if !is_first => Some(Box::pin(seat.asked())),
            _ => None,
        };
        let has_its_time = !is_first && self.is_draining();
        poll_fn(move |cx| {
            if self.closes_idle() && !has_its_time {
                return Poll::Ready(());
            }
            match &mut asked {
                Some(asked) => asked.as_mut().poll(cx),
                None => Poll::Pending,
            }
        })
    }
}
