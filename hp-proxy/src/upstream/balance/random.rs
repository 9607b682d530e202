//! By lot, as often as weights say.

use super::Choice;
use rand::{Rng, RngExt as _};

/// The lot that was drawn and not used.
#[derive(Clone, Debug, Default)]
pub struct Random {
    drawn: Option<usize>,
}

impl Random {
    pub(super) fn peek<L: Fn(usize) -> u32, U: Fn(usize) -> bool>(
        &mut self,
        choice: &Choice<'_, L, U>,
        rng: &mut impl Rng,
    ) -> Option<usize> {
        // Drawn again, it would fall on whoever has something to give more often than its weight says.
        let kept = self.drawn.filter(|drawn| choice.may_take(*drawn));
        self.drawn = kept.or_else(|| draw(choice, rng, None));
        self.drawn
    }

    pub(super) fn commit(&mut self) {
        self.drawn = None;
    }
}

/// One of those who may be picked, by weight; not that one.
pub(super) fn draw<L: Fn(usize) -> u32, U: Fn(usize) -> bool>(
    choice: &Choice<'_, L, U>,
    rng: &mut impl Rng,
    not: Option<usize>,
) -> Option<usize> {
    let takers = || choice.takers_from(0).filter(|taker| Some(*taker) != not);
    let total: u64 = takers().map(|taker| choice.weight(taker)).sum();
    if total == 0 {
        return None;
    }
    let mut lot = rng.random_range(0..total);
    takers().find(|taker| {
        let weight = choice.weight(*taker);
        let hit = lot < weight;
        lot = lot.saturating_sub(weight);
        hit
    })
}

#[cfg(test)]
mod tests {
    use super::super::Method;
    use super::super::suite::{Bench, balancer, weighted};

    #[test]
    fn a_lot_that_was_not_used_is_the_next_one() {
        let mut bench = Bench::new(balancer(Method::Random, weighted(&[1; 8]), 0));
        let drawn = bench.peek();
        for _ in 0..20 {
            assert_eq!(bench.peek(), drawn);
        }
        bench.full = vec![drawn.unwrap()];
        assert_ne!(bench.peek(), drawn);
    }
}
