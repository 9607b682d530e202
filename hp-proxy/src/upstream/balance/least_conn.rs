//! Whoever has the fewest requests in flight for its weight; among equals in turn.

use super::Choice;

/// Where the search begins.
#[derive(Clone, Debug)]
pub struct LeastConn {
    next: usize,
}

impl LeastConn {
    /// The first among equals is the member of that number.
    #[must_use]
    pub fn starting_at(first: usize) -> Self {
        Self { next: first }
    }

    pub(super) fn peek<L: Fn(usize) -> u32, U: Fn(usize) -> bool>(
        &self,
        choice: &Choice<'_, L, U>,
    ) -> Option<usize> {
        let first = self.next.checked_rem(choice.len())?;
        let mut best: Option<usize> = None;
        for member in choice.takers_from(first) {
            if best.is_none_or(|best| bears_less(choice, member, best)) {
                best = Some(member);
            }
        }
        best
    }

    pub(super) fn commit(&mut self, picked: usize) {
        self.next = picked + 1;
    }
}

/// Whether one would bear less than another with this request, each for its weight.
pub(super) fn bears_less<L: Fn(usize) -> u32, U: Fn(usize) -> bool>(
    choice: &Choice<'_, L, U>,
    one: usize,
    other: usize,
) -> bool {
    let with_this = |member| u128::from((choice.load)(member)) + 1;
    // a / x < b / y, without dividing: weights are above 0 for whoever may be picked.
    with_this(one) * u128::from(choice.weight(other))
        < with_this(other) * u128::from(choice.weight(one))
}

#[cfg(test)]
mod tests {
    use super::super::Method;
    use super::super::suite::{Bench, balancer, weighted};

    #[test]
    fn the_least_loaded_for_its_weight_is_picked() {
        let mut bench = Bench::new(balancer(Method::LeastConn, weighted(&[1, 3, 1]), 0));
        bench.loads = vec![1, 4, 2];
        assert_eq!(bench.peek(), Some(1)); // 5/3 is less than 2/1 and 3/1.
        bench.loads = vec![1, 6, 2];
        assert_eq!(bench.peek(), Some(0)); // 2/1 is less than 7/3 and 3/1.
    }

    #[test]
    fn equals_take_turns() {
        let mut bench = Bench::new(balancer(Method::LeastConn, weighted(&[1; 3]), 2));
        bench.ends_at_once = true;
        let picked: Vec<_> = (0..5).map(|_| bench.serve().unwrap()).collect();
        assert_eq!(picked, [2, 0, 1, 2, 0]);
    }
}
