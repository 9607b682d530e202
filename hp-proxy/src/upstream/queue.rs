//! Requests that wait for a backend connection, first come, first served.
//!
//! A place is granted, not grabbed: who comes later queues behind, and a place granted to somebody who has left meanwhile
//! goes to the next.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};

/// The line.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: RefCell<VecDeque<Rc<Ticket>>>,
}

#[derive(Debug, Default)]
struct Ticket {
    granted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Queue {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Takes a place at the end.
    pub(super) fn enter(&self) -> Place<'_> {
        let ticket = Rc::new(Ticket::default());
        self.waiting.borrow_mut().push_back(Rc::clone(&ticket));
        Place {
            queue: self,
            ticket,
        }
    }

    /// Grants the next one: a connection or the room for one has become free.
    pub(super) fn grant_next(&self) {
        let Some(ticket) = self.waiting.borrow_mut().pop_front() else {
            return;
        };
        ticket.granted.set(true);
        if let Some(waker) = ticket.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// One request's place. Dropped after it was granted and before it was used, it passes the grant on.
#[derive(Debug)]
pub(super) struct Place<'a> {
    queue: &'a Queue,
    ticket: Rc<Ticket>,
}

impl Place<'_> {
    /// Waits for the grant.
    pub(super) fn granted(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|cx| {
            if self.ticket.granted.get() {
                return Poll::Ready(());
            }
            *self.ticket.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    /// The grant is used: dropping the place passes nothing on.
    pub(super) fn spend(self) {
        self.ticket.granted.set(false);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.ticket.granted.get() {
            self.queue.grant_next();
            return;
        }
        let mut waiting = self.queue.waiting.borrow_mut();
        if let Some(position) = waiting
            .iter()
            .position(|other| Rc::ptr_eq(other, &self.ticket))
        {
            waiting.remove(position);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_that_nobody_uses_goes_to_the_next() {
        let queue = Queue::default();
        let (first, second, third) = (queue.enter(), queue.enter(), queue.enter());
        drop(second);
        queue.grant_next();
        assert!(first.ticket.granted.get() && !third.ticket.granted.get());
        drop(first);
        assert!(third.ticket.granted.get());
        third.spend();
        assert_eq!(queue.len(), 0);
    }
}
