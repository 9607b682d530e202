//! Hands due requests to free connections, at one rate for all of a thread's connections.
//!
//! ```text
//! schedule ─due→ (no connection free: waits, and its response time grows) ─→ a free connection's seat ─→ its task
//! ```
//!
//! What is due and waits is not stored: the schedule itself lags behind. So a backlog costs no memory, however long.
//!
//! Must not know: sockets, histograms.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use hp_core::rt::Instant;

/// A request that is to be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Due {
    /// When it was meant to be sent.
    pub(crate) at: Instant,
    /// When the schedule and a connection were both ready: what is sent later than this is late by our own doing.
    pub(crate) able: Instant,
    /// Which of the plan's requests.
    pub(crate) request: u32,
}

/// Where due requests and free connections meet. One per thread.
#[derive(Debug, Default)]
pub(crate) struct Meeting {
    seats: Vec<Seat>,
    /// Connections that wait in their seats, the longest first.
    free: RefCell<VecDeque<u32>>,
    pacer: RefCell<Option<Waker>>,
    is_over: Cell<bool>,
}

#[derive(Debug, Default)]
struct Seat {
    due: Cell<Option<Due>>,
    waker: RefCell<Option<Waker>>,
    is_listed: Cell<bool>,
}

impl Meeting {
    /// With a seat for each connection.
    pub(crate) fn new(conns: u32) -> Self {
        Self {
            seats: (0..conns).map(|_| Seat::default()).collect(),
            ..Self::default()
        }
    }

    /// Waits for a request, in the connection's own seat; `None` when no more come. A request that was put there while
    /// nobody waited is found by the next call.
    pub(crate) async fn next(&self, idx: usize) -> Option<Due> {
        let seat = &self.seats[idx];
        poll_fn(|cx| {
            if let Some(due) = seat.due.take() {
                return Poll::Ready(Some(due));
            }
            if self.is_over.get() {
                return Poll::Ready(None);
            }
            *seat.waker.borrow_mut() = Some(cx.waker().clone());
            if !seat.is_listed.replace(true) {
                let place = u32::try_from(idx).expect("there are at most u32::MAX connections");
                self.free.borrow_mut().push_back(place);
                wake(&self.pacer);
            }
            Poll::Pending
        })
        .await
    }

    /// A request that was put into the connection's seat, without waiting for one.
    pub(crate) fn given(&self, idx: usize) -> Option<Due> {
        self.seats.get(idx)?.due.take()
    }

    /// Whether a request waits in the connection's seat.
    pub(crate) fn has_given(&self, idx: usize) -> bool {
        self.seats
            .get(idx)
            .is_some_and(|seat| seat.due.get().is_some())
    }

    /// Waits until a connection is free.
    pub(crate) async fn somebody_free(&self) {
        poll_fn(|cx| {
            if self.free.borrow().is_empty() && !self.is_over.get() {
                *self.pacer.borrow_mut() = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Whether nobody is free.
    pub(crate) fn all_busy(&self) -> bool {
        self.free.borrow().is_empty()
    }

    /// Gives a request to the connection that has been free longest; `false` when none is.
    pub(crate) fn give(&self, due: Due) -> bool {
        let Some(place) = self.free.borrow_mut().pop_front() else {
            return false;
        };
        let seat = &self.seats[place as usize];
        seat.is_listed.set(false);
        seat.due.set(Some(due));
        wake(&seat.waker);
        true
    }

    /// Whether [`Meeting::end`] was called.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// No more requests come: sends everybody home who waits.
    pub(crate) fn end(&self) {
        self.is_over.set(true);
        wake(&self.pacer);
        self.seats.iter().for_each(|seat| wake(&seat.waker));
    }
}

fn wake(place: &RefCell<Option<Waker>>) {
    if let Some(waker) = place.take() {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    fn due(request: u32) -> Due {
        Due {
            at: Instant::START,
            able: Instant::START,
            request,
        }
    }

    #[test]
    fn the_longest_free_connection_gets_the_next_request() {
        let meeting = Meeting::new(2);
        let mut cx = Context::from_waker(Waker::noop());
        let (mut one, mut other) = (pin!(meeting.next(1)), pin!(meeting.next(0)));
        assert!(one.as_mut().poll(&mut cx).is_pending());
        assert!(other.as_mut().poll(&mut cx).is_pending());
        assert!(meeting.give(due(7)));
        assert!(meeting.give(due(8)));
        assert!(!meeting.give(due(9)));
        assert_eq!(other.as_mut().poll(&mut cx), Poll::Ready(Some(due(8))));
        assert_eq!(one.as_mut().poll(&mut cx), Poll::Ready(Some(due(7))));
    }

    #[test]
    fn a_request_given_to_a_dropped_wait_is_not_lost() {
        let meeting = Meeting::new(1);
        let mut cx = Context::from_waker(Waker::noop());
        {
            let mut dropped = pin!(meeting.next(0));
            assert!(dropped.as_mut().poll(&mut cx).is_pending());
        }
        assert!(meeting.give(due(3)));
        let mut again = pin!(meeting.next(0));
        assert_eq!(again.as_mut().poll(&mut cx), Poll::Ready(Some(due(3))));
    }

    #[test]
    fn the_end_sends_everybody_home() {
        let meeting = Meeting::new(1);
        let mut cx = Context::from_waker(Waker::noop());
        let mut waiting = pin!(meeting.next(0));
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        meeting.end();
        assert_eq!(waiting.as_mut().poll(&mut cx), Poll::Ready(None));
    }
}
