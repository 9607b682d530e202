//! The power of two choices: two by lot, then the one that bears less for its weight. Nearly as even as looking at all,
//! without everybody running to the same one.

use super::Choice;
use super::least_conn::bears_less;
use super::random::draw;
use rand::Rng;

/// The two lots that were drawn and not used.
#[derive(Clone, Debug, Default)]
pub struct P2c {
    drawn: Option<(usize, usize)>,
}

impl P2c {
    pub(super) fn peek<L: Fn(usize) -> u32, U: Fn(usize) -> bool>(
        &mut self,
        choice: &Choice<'_, L, U>,
        rng: &mut impl Rng,
    ) -> Option<usize> {
        let is_good = |drawn: &(usize, usize)| choice.may_take(drawn.0) && choice.may_take(drawn.1);
        let (one, other) = match self.drawn.filter(is_good) {
            Some(drawn) => drawn,
            None => {
                let one = draw(choice, rng, None)?;
                (one, draw(choice, rng, Some(one)).unwrap_or(one))
            }
        };
        self.drawn = Some((one, other));
        // Equals: the one that was drawn first, which weights decided.
        Some(if bears_less(choice, other, one) {
            other
        } else {
            one
        })
    }

    pub(super) fn commit(&mut self) {
        self.drawn = None;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Method;
    use super::super::suite::{Bench, balancer, weighted};

    #[test]
    fn of_two_the_less_loaded_is_always_picked() {
        let mut bench = Bench::new(balancer(Method::P2c, weighted(&[1, 1]), 0));
        bench.loads = vec![9, 2];
        for _ in 0..7 {
            assert_eq!(bench.serve(), Some(1));
        }
        assert_eq!(bench.loads, [9, 9]);
    }

    #[test]
    fn the_most_loaded_of_many_is_never_picked() {
        let mut bench = Bench::new(balancer(Method::P2c, weighted(&[1; 5]), 0));
        bench.loads = vec![100, 0, 0, 0, 0];
        for _ in 0..200 {
            assert_ne!(bench.serve(), Some(0));
        }
    }
}
