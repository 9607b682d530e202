//! Requests that wait for a backend connection, first come, first served.
//!
//! A place is granted, not grabbed: who comes later queues behind, and a place granted to somebody who has left meanwhile
//! goes to the next. Who was granted in vain, or comes back from a dial that stalled, has his old number and stands before
//! all who came after him.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};

/// The line.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// In the order of their numbers.
    waiting: RefCell<VecDeque<Rc<Ticket>>>,
    numbers: Cell<u64>,
}

#[derive(Debug, Default)]
struct Ticket {
    number: u64,
    granted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Queue {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// A request's number, which it keeps for as long as it wants a connection.
    pub(super) fn number(&self) -> u64 {
        let number = self.numbers.get();
        self.numbers.set(number + 1);
        number
    }

    /// Takes the place that belongs to a number: the end for a new one, the front for one that was there before.
    pub(super) fn enter(&self, number: u64) -> Place<'_> {
        let ticket = Rc::new(Ticket {
            number,
            ..Ticket::default()
        });
        let mut waiting = self.waiting.borrow_mut();
        let position = waiting.partition_point(|other| other.number < number);
        waiting.insert(position, Rc::clone(&ticket));
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
        let (first, second, third) = (queue.enter(0), queue.enter(1), queue.enter(2));
        drop(second);
        queue.grant_next();
        assert!(first.ticket.granted.get() && !third.ticket.granted.get());
        drop(first);
        assert!(third.ticket.granted.get());
        third.spend();
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn who_comes_back_stands_before_all_who_came_later() {
        let queue = Queue::default();
        let numbers: Vec<u64> = (0..4).map(|_| queue.number()).collect();
        let [third, fourth] = [2, 3].map(|index| queue.enter(numbers[index]));
        // Two were granted and found nothing; they return in whatever order their tasks run.
        let [second, first] = [1, 0].map(|index| queue.enter(numbers[index]));
        for place in [first, second, third, fourth] {
            queue.grant_next();
            assert!(place.ticket.granted.get());
            place.spend();
        }
        assert_eq!(queue.len(), 0);
    }
}
