//! Requests that wait for a backend connection, first come, first served. Pure: it wakes nobody, it says who is to be woken.
//!
//! A place is granted, not grabbed: who comes later queues behind, and a place granted to somebody who has left meanwhile
//! goes to the next. Who was granted in vain, or comes back from a dial that stalled, has his old number and stands before
//! all who came after him.
//!
//! ```text
//! (number) ─enter→ waiting ─grant_next→ granted ─spend→ (number) ─enter→ …
//!                     └───────leave────────┴─→ (gone; a grant goes to the next)
//! ```

use std::collections::VecDeque;
use std::task::Waker;

/// The line.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// In the order of their numbers.
    waiting: VecDeque<Ticket>,
    /// Numbers of those who were granted and have not used it yet.
    granted: Vec<u64>,
    numbers: u64,
}

#[derive(Debug)]
struct Ticket {
    number: u64,
    waker: Option<Waker>,
}

impl Queue {
    /// A request's number, which it keeps for as long as it wants a connection.
    pub(super) fn number(&mut self) -> u64 {
        let number = self.numbers;
        self.numbers += 1;
        number
    }

    /// Takes the place that belongs to a number: the end for a new one, the front for one that was there before.
    pub(super) fn enter(&mut self, number: u64) {
        let position = self.position(number);
        let waker = None;
        self.waiting.insert(position, Ticket { number, waker });
    }

    /// Grants the next one: a connection or the room for one has become free. Gives whom to wake.
    #[must_use]
    pub(super) fn grant_next(&mut self) -> Option<Waker> {
        let Ticket { number, waker } = self.waiting.pop_front()?;
        self.granted.push(number);
        waker
    }

    /// Whether a number was granted; if not, its waker is kept for when it is.
    pub(super) fn is_granted_or_waits(&mut self, number: u64, waker: &Waker) -> bool {
        let position = self.position(number);
        match self.waiting.get_mut(position) {
            Some(ticket) if ticket.number == number => {
                ticket.waker = Some(waker.clone());
                false
            }
            _ => true,
        }
    }

    /// The grant is used.
    pub(super) fn spend(&mut self, number: u64) {
        self.granted.retain(|granted| *granted != number);
    }

    /// Gives a place up, if it is still held; a grant that was not used goes to the next. Gives whom to wake.
    #[must_use]
    pub(super) fn leave(&mut self, number: u64) -> Option<Waker> {
        if self.granted.contains(&number) {
            self.spend(number);
            return self.grant_next();
        }
        let position = self.position(number);
        if self
            .waiting
            .get(position)
            .is_some_and(|ticket| ticket.number == number)
        {
            self.waiting.remove(position);
        }
        None
    }

    /// Whether nobody waits, and nobody who was granted has yet to use it.
    pub(super) fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.granted.is_empty()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn position(&self, number: u64) -> usize {
        self.waiting.partition_point(|other| other.number < number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_granted(queue: &mut Queue, number: u64) -> bool {
        queue.is_granted_or_waits(number, Waker::noop())
    }

    #[test]
    fn a_grant_that_nobody_uses_goes_to_the_next() {
        let mut queue = Queue::default();
        (0..3).for_each(|number| queue.enter(number));
        assert!(!is_granted(&mut queue, 2));
        assert!(queue.leave(1).is_none());
        assert!(queue.grant_next().is_none(), "0 has no waker yet");
        assert!(is_granted(&mut queue, 0) && !is_granted(&mut queue, 2));
        assert!(queue.leave(0).is_some(), "2 is woken");
        assert!(is_granted(&mut queue, 2));
        queue.spend(2);
        assert!(queue.leave(2).is_none());
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn who_comes_back_stands_before_all_who_came_later() {
        let mut queue = Queue::default();
        let numbers: Vec<u64> = (0..4).map(|_| queue.number()).collect();
        // Two were granted and found nothing; they return in whatever order their tasks run.
        for index in [2, 3, 1, 0] {
            queue.enter(numbers[index]);
        }
        for number in numbers {
            assert!(!is_granted(&mut queue, number));
            assert!(queue.grant_next().is_some());
            assert!(is_granted(&mut queue, number));
            queue.spend(number);
        }
        assert_eq!(queue.len(), 0);
    }
}
