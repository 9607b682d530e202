//! Whoever has the fewest requests in flight for its weight; among equals in turn, as often as their weights say.

use super::Choice;
use super::member::Member;
use super::round_robin::RoundRobin;
use hp_core::rt::Instant;

/// Whose turn it is among equals.
#[derive(Clone, Debug)]
pub struct LeastConn {
    turns: RoundRobin,
}

impl LeastConn {
    /// Among so many members; the first turn is that of `first`, where weights are equal.
    #[must_use]
    pub fn new(members: usize, first: usize) -> Self {
        Self {
            turns: RoundRobin::new(members, first),
        }
    }

    /// See [`RoundRobin::follow`].
    pub(super) fn follow(&mut self, before: &Self, was: &[Option<usize>]) {
        self.turns.follow(&before.turns, was);
    }

    pub(super) fn peek<L: Fn(usize) -> u32, U: Fn(usize) -> bool>(
        &self,
        choice: &Choice<'_, L, U>,
    ) -> Option<usize> {
        let mut takers = choice.takers_from(0);
        let first = takers.next()?;
        let lesser = |best, taker| {
            if bears_less(choice, taker, best) {
                taker
            } else {
                best
            }
        };
        let least = takers.fold(first, lesser);
        self.turns
            .richest(choice, |taker| !bears_less(choice, least, taker))
    }

    pub(super) fn commit(&mut self, members: &[Member], group: u32, picked: usize, now: Instant) {
        self.turns.commit(members, group, picked, now);
    }
}

/// Whether one bears less than another, each for its weight.
pub(super) fn bears_less<L: Fn(usize) -> u32, U: Fn(usize) -> bool>(
    choice: &Choice<'_, L, U>,
    one: usize,
    other: usize,
) -> bool {
    let load = |member| u128::from((choice.load)(member));
    // a / x < b / y, without dividing: weights are above 0 for whoever may be picked.
    load(one) * u128::from(choice.weight(other)) < load(other) * u128::from(choice.weight(one))
}

#[cfg(test)]
mod tests {
    use super::super::Method;
    use super::super::suite::{Bench, balancer, weighted};

    #[test]
    fn the_least_loaded_for_its_weight_is_picked() {
        let mut bench = Bench::new(balancer(Method::LeastConn, weighted(&[1, 3, 1]), 0));
        bench.loads = vec![2, 4, 2];
        assert_eq!(bench.peek(), Some(1)); // 4/3 is less than 2/1.
        bench.loads = vec![1, 4, 2];
        assert_eq!(bench.peek(), Some(0)); // 1/1 is less than 4/3.
    }

    #[test]
    fn equals_take_turns() {
        let mut bench = Bench::new(balancer(Method::LeastConn, weighted(&[1; 3]), 2));
        bench.ends_at_once = true;
        let picked: Vec<_> = (0..5).map(|_| bench.serve().unwrap()).collect();
        assert_eq!(picked, [2, 0, 1, 2, 0]);
    }
}
