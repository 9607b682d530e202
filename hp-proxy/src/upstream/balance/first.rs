//! The first in the plan's order that has room: few endpoints do all the work, and the last ones can sleep.

use super::Choice;

/// Nothing is remembered.
#[derive(Clone, Copy, Debug)]
pub struct First;

impl First {
    #[expect(clippy::unused_self, reason = "one shape for all algorithms")]
    pub(super) fn peek<L: Fn(usize) -> u32, U: Fn(usize) -> bool>(
        self,
        choice: &Choice<'_, L, U>,
    ) -> Option<usize> {
        choice.takers_from(0).next()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Method;
    use super::super::suite::{Bench, balancer, weighted};

    #[test]
    fn the_second_is_used_only_while_the_first_has_no_room() {
        let mut bench = Bench::new(balancer(Method::First, weighted(&[1, 1, 1]), 2));
        assert_eq!(bench.serve(), Some(0));
        bench.full = vec![0];
        assert_eq!(bench.serve(), Some(1));
        bench.full.clear();
        assert_eq!(bench.serve(), Some(0));
    }
}
