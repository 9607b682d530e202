//! Each endpoint in its turn, as often as its weight says: smooth weighted round robin.
//!
//! Each turn every endpoint gains its weight; the richest is picked and pays what all gained together. So three turns of
//! weights 2 and 1 are A B A and never A A B.

use super::Choice;
use super::member::Member;
use hp_core::rt::Instant;

/// Whose turn it is.
#[derive(Clone, Debug)]
pub struct RoundRobin {
    /// What each has gained and not paid; the sum over those that took part in every turn is 0.
    credits: Vec<i64>,
}

impl RoundRobin {
    /// Among so many members; the first turn is that of `first`, where weights are equal.
    #[must_use]
    pub fn new(members: usize, first: usize) -> Self {
        let mut credits = vec![0; members];
        // As if everybody before it had had a turn already: a fraction of the smallest weight, so that it decides among equals only.
        let behind = first.checked_rem(members).unwrap_or(0);
        credits
            .iter_mut()
            .take(behind)
            .for_each(|credit| *credit = -1);
        Self { credits }
    }

    /// Takes over what members had gained under the plan before; all together have gained nothing.
    pub(super) fn follow(&mut self, before: &Self, was: &[Option<usize>]) {
        for (credit, was) in self.credits.iter_mut().zip(was) {
            *credit = was
                .and_then(|was| before.credits.get(was).copied())
                .unwrap_or(0);
        }
        let all: i64 = self.credits.iter().sum();
        let count = i64::try_from(self.credits.len()).unwrap_or(i64::MAX);
        let mean = all.checked_div(count).unwrap_or(0);
        self.credits.iter_mut().for_each(|credit| *credit -= mean);
    }

    pub(super) fn peek<L: Fn(usize) -> u32, U: Fn(usize) -> bool>(
        &self,
        choice: &Choice<'_, L, U>,
    ) -> Option<usize> {
        self.richest(choice, |_| true)
    }

    /// Whose turn it is among some of those who may be picked.
    pub(super) fn richest<L: Fn(usize) -> u32, U: Fn(usize) -> bool>(
        &self,
        choice: &Choice<'_, L, U>,
        is_among: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut best: Option<(i64, usize)> = None;
        for (member, credit) in self.credits.iter().enumerate() {
            if choice.may_take(member) && is_among(member) {
                let rich = credit + signed(choice.weight(member));
                if best.is_none_or(|(most, _)| rich > most) {
                    best = Some((rich, member));
                }
            }
        }
        best.map(|(_, member)| member)
    }

    /// Whoever is in service gains, also without room just now: it has its turns later.
    pub(super) fn commit(&mut self, members: &[Member], group: u32, picked: usize, now: Instant) {
        let serves = |member: &Member| member.serves() && member.group() == group;
        let weights = || members.iter().map(|member| signed(member.weight_at(now)));
        let taking_part = weights().zip(members).filter(|(_, member)| serves(member));
        let all: i64 = taking_part.map(|(weight, _)| weight).sum();
        let gains = self.credits.iter_mut().zip(members).zip(weights());
        for ((credit, _), weight) in gains.filter(|((_, member), _)| serves(member)) {
            // Nobody who had room comes beyond; who had none for long does not get everything afterwards.
            *credit = (*credit + weight).min(all);
        }
        if let Some(credit) = self.credits.get_mut(picked) {
            *credit = (*credit - all).max(-all);
        }
    }
}

fn signed(weight: u64) -> i64 {
    i64::try_from(weight).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::super::Method;
    use super::super::suite::{Bench, balancer, weighted};
    use hp_core::rt::Instant;

    #[test]
    fn turns_are_spread_as_evenly_as_weights_allow() {
        let mut bench = Bench::new(balancer(Method::RoundRobin, weighted(&[5, 1, 1]), 0));
        let picked: Vec<_> = (0..7).map(|_| bench.serve().unwrap()).collect();
        assert_eq!(picked, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn workers_begin_at_different_endpoints() {
        for first in 0..3 {
            let mut bench = Bench::new(balancer(Method::RoundRobin, weighted(&[1; 3]), first));
            let picked: Vec<_> = (0..4).map(|_| bench.serve().unwrap()).collect();
            assert_eq!(picked, [0, 1, 2, 3].map(|turn| (first + turn) % 3));
        }
    }

    #[test]
    fn turns_go_on_where_they_were_when_a_plan_follows() {
        let mut bench = Bench::new(balancer(Method::RoundRobin, weighted(&[1, 1, 1]), 0));
        assert_eq!((bench.serve(), bench.serve()), (Some(0), Some(1)));
        // The first leaves, the others stand in another order, and one comes.
        let next = super::super::Balancing::new(Method::RoundRobin, weighted(&[1, 1, 1]), 1, 0);
        let was = [Some(2), Some(1), None];
        bench.balancer =
            super::super::Balancer::after((&bench.balancer, &was), &next, 0, Instant::START);
        assert_eq!(bench.serve(), Some(0), "whose turn it was");
        assert_eq!(bench.serve(), Some(2), "who has had none yet");
    }

    #[test]
    fn a_turn_that_was_not_used_stays() {
        let mut bench = Bench::new(balancer(Method::RoundRobin, weighted(&[1, 1]), 1));
        assert_eq!(bench.peek(), Some(1));
        assert_eq!(bench.peek(), Some(1));
        assert_eq!(bench.serve(), Some(1));
        assert_eq!(bench.serve(), Some(0));
    }

    #[test]
    fn who_had_no_room_is_owed_one_round_and_no_more() {
        let mut bench = Bench::new(balancer(Method::RoundRobin, weighted(&[1, 1]), 0));
        bench.full = vec![0];
        for _ in 0..100 {
            assert_eq!(bench.serve(), Some(1));
        }
        bench.full.clear();
        let picked: Vec<_> = (0..8).map(|_| bench.serve().unwrap()).collect();
        assert_eq!(picked.iter().filter(|picked| **picked == 0).count(), 5);
    }
}
