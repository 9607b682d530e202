//! What moves between the ledgers of workers (decision 0027): shares of a limit, and idle connections, each with its share.
//!
//! Each ledger may have `conns_max` connections to an endpoint by its plan, and `extra` more than that, or fewer. What one gives another
//! gets: in each term of an endpoint, the sum of all shares, and of those on their way, is the limit.

use super::Ledger;
use crate::upstream::balance::Ask;
use crate::upstream::endpoint::{Endpoint, Idle, Term};
use hp_core::rt::Instant;
use hp_core::rt::plant::{Plant, is_planted};
use std::time::Duration;

/// What a ledger has for a sibling.
#[derive(Debug)]
pub(in crate::upstream) enum Loanable {
    /// An idle connection of an endpoint's slot in its term; it is still counted.
    Conn(usize, Term, Idle),
    /// Shares of a limit, which are not counted here any more.
    Shares(Part),
    /// Neither.
    Nothing,
}

/// A part of the limit of an endpoint, on its way from one ledger to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) struct Part {
    pub(in crate::upstream) term: Term,
    /// Connections that it is for; 0 where there is no limit.
    pub(in crate::upstream) shares: u32,
}

impl Ledger {
    /// How many requests wait although nothing is free for any of them; 0 where something is, for it is granted already.
    pub(in crate::upstream) fn waiting_in_vain(&self) -> u32 {
        let is_free = |(member, slot): (usize, &usize)| {
            self.endpoints[*slot].is_free(self.conns_max) && self.balancer.is_eligible(member)
        };
        if self.slots.iter().enumerate().any(is_free) {
            return 0;
        }
        u32::try_from(self.queue.len()).unwrap_or(u32::MAX)
    }

    /// Shares that it has beside its plan's, of all endpoints together: borrowed, or, below 0, lent.
    pub(in crate::upstream) fn extra(&self) -> i64 {
        self.endpoints.iter().map(|one| i64::from(one.extra)).sum()
    }

    /// The term of an endpoint, where nothing of it idles here and siblings may have something.
    pub(in crate::upstream) fn lacks_idle(&self, slot: usize) -> Option<Term> {
        let endpoint = self.endpoints.get(slot)?;
        let is_lacking = endpoint.idle.is_empty() && !self.is_closing;
        is_lacking.then(|| endpoint.identity.term())
    }

    /// The plan has the upstream no more, so no sibling knows it or gives anything back: what was lent and borrowed is void, as in a new term. Whoever
    /// still waits here may have what the plan gave.
    pub(super) fn void_loans(&mut self) {
        for endpoint in &mut self.endpoints {
            endpoint.extra = 0;
        }
    }

    /// Whether a slot is that of an endpoint in this term.
    pub(in crate::upstream) fn is_in(&self, slot: usize, term: Term) -> bool {
        self.slot_in(term) == Some(slot)
    }

    /// What a sibling may have whose requests wait, at most so many shares; nothing while requests wait here. A connection that is in steady use here is
    /// not lent, and of shares that are left over, half stays.
    pub(in crate::upstream) fn lend(&mut self, shares_max: u32, now: Instant) -> Loanable {
        if !self.may_lend() {
            return Loanable::Nothing;
        }
        let (conns_max, prewarm) = (self.conns_max, self.prewarm);
        let has_idle = |one: &Endpoint| one.has_idle_to_lend(conns_max, prewarm, now);
        if let Some(slot) = self.pick(now, has_idle) {
            return self.lend_idle(slot);
        }
        let spare = |one: &Endpoint| one.spare(conns_max, prewarm);
        match self.pick(now, |one| spare(one) > 0) {
            Some(slot) => {
                let shares = spare(&self.endpoints[slot]).div_ceil(2).min(shares_max);
                self.lend_shares(slot, shares)
            }
            None => Loanable::Nothing,
        }
    }

    /// An idle connection of one endpoint, for a sibling that would make one.
    pub(in crate::upstream) fn lend_of(&mut self, term: Term, now: Instant) -> Loanable {
        let (conns_max, prewarm) = (self.conns_max, self.prewarm);
        let found = self.slot_in(term).filter(|slot| {
            self.endpoints[*slot].has_idle_to_lend(conns_max, prewarm, now) && self.may_lend()
        });
        found.map_or(Loanable::Nothing, |slot| self.lend_idle(slot))
    }

    /// What a sibling gets back whose claim was granted as a request is: whatever is free, however long.
    pub(in crate::upstream) fn pay(&mut self, now: Instant) -> Loanable {
        let conns_max = self.conns_max;
        let is_payable = |one: &Endpoint| {
            let has_share = conns_max.is_some_and(|max| one.share(max) > 0);
            has_share && (!one.idle.is_empty() || one.spare(conns_max, 0) > 0)
        };
        match self.pick(now, is_payable) {
            Some(slot) if self.endpoints[slot].idle.is_empty() => self.lend_shares(slot, 1),
            Some(slot) => self.lend_idle(slot),
            None => Loanable::Nothing,
        }
    }

    /// Shares of an endpoint's limit that this ledger, which ends, leaves to others. Its connections end with it, so they count as none. `None`: it
    /// has no share left of any.
    pub(in crate::upstream) fn bequeath(&mut self) -> Option<Part> {
        let max = self.conns_max?;
        let mut endpoints = self.endpoints.iter();
        let slot = endpoints.position(|one| one.member.is_some() && one.share(max) > 0)?;
        let shares = self.endpoints[slot].share(max);
        Some(self.part_with(slot, shares))
    }

    /// A connection that was to be lent leaves, and its share with it. `None`: it cannot, for the endpoint or its limit is another by now.
    pub(in crate::upstream) fn part(&mut self, slot: usize, term: Term) -> Option<Part> {
        if self.is_closing || !self.is_in(slot, term) {
            return None;
        }
        let endpoint = self.endpoints.get_mut(slot)?;
        let shares = match self.conns_max {
            None => 0,
            Some(max) if endpoint.share(max) > 0 => 1,
            Some(_over_the_limit) => return None,
        };
        endpoint.extra -= shares;
        endpoint.open -= 1;
        self.total.end();
        self.publish(slot);
        self.wake_warmer();
        Some(Part {
            term,
            shares: shares.unsigned_abs(),
        })
    }

    /// A part has come, of another ledger or back from its way; gives the slot of its endpoint. `None`: it is of no term that there is.
    /// What it makes room for is granted by whoever knows whether a connection came with it.
    pub(in crate::upstream) fn join(&mut self, part: Part) -> Option<usize> {
        let slot = self.slot_in(part.term)?;
        let endpoint = self.endpoints.get_mut(slot)?;
        if !is_planted(Plant::LostShare) {
            endpoint.extra = endpoint.extra.saturating_add_unsigned(part.shares);
        }
        self.wake_warmer();
        Some(slot)
    }

    /// Takes place for a connection that came with its part. Whether there is room for it.
    pub(in crate::upstream) fn begin_borrowed(&mut self, slot: usize) -> bool {
        let endpoint = &mut self.endpoints[slot];
        let has_share = self
            .conns_max
            .is_none_or(|max| endpoint.open < endpoint.share(max));
        if self.is_closing || !has_share {
            return false;
        }
        endpoint.open += 1;
        self.total.begin();
        self.publish(slot);
        true
    }

    /// A connection has come from a sibling.
    pub(in crate::upstream) fn note_borrowed(&mut self, slot: usize) {
        self.endpoints[slot].borrowed += 1;
    }

    /// A connection could not be lent, or was of no use when it came.
    pub(in crate::upstream) fn note_refused(&mut self, slot: usize) {
        self.endpoints[slot].borrow_refused += 1;
    }

    fn may_lend(&self) -> bool {
        !self.is_closing && self.queue.is_over()
    }

    fn lend_idle(&mut self, slot: usize) -> Loanable {
        let endpoint = &mut self.endpoints[slot];
        let term = endpoint.identity.term();
        let Some(idle) = endpoint.idle.pop_front() else {
            return Loanable::Nothing;
        };
        self.publish(slot);
        Loanable::Conn(slot, term, idle)
    }

    fn lend_shares(&mut self, slot: usize, shares: u32) -> Loanable {
        Loanable::Shares(self.part_with(slot, shares))
    }

    fn part_with(&mut self, slot: usize, shares: u32) -> Part {
        let endpoint = &mut self.endpoints[slot];
        endpoint.extra = endpoint.extra.saturating_sub_unsigned(shares);
        Part {
            term: endpoint.identity.term(),
            shares,
        }
    }

    /// The endpoint of a term; `None` where it is gone or in another one.
    fn slot_in(&self, term: Term) -> Option<usize> {
        let mut endpoints = self.endpoints.iter();
        endpoints.position(|one| one.member.is_some() && one.identity.term() == term)
    }

    /// The endpoint that the upstream's method picks among those that can.
    fn pick(&mut self, now: Instant, can: impl Fn(&Endpoint) -> bool) -> Option<usize> {
        let ask = Ask {
            now,
            key: None,
            stuck_to: None,
        };
        let (endpoints, slots) = (&self.endpoints, &self.slots);
        let load = |member: usize| endpoints[slots[member]].in_flight();
        let can = |member: usize| can(&endpoints[slots[member]]);
        let member = self.balancer.peek(ask, load, can, &mut self.rng)?;
        self.slots.get(member).copied()
    }
}

impl Endpoint {
    /// Whether a connection has idled for so long that it is not missed, beside those that are always to be open.
    fn has_idle_to_lend(&self, conns_max: Option<u32>, prewarm: u32, now: Instant) -> bool {
        let oldest = self.idle.front();
        let is_left_over = oldest.is_some_and(|idle| idle.life().idle_since + LEND_AFTER <= now);
        is_left_over
            && self.open > prewarm
            && conns_max.is_none_or(|max| self.open <= self.share(max))
    }

    /// Shares of the limit that nothing is open or kept for.
    fn spare(&self, conns_max: Option<u32>, prewarm: u32) -> u32 {
        conns_max.map_or(0, |max| {
            self.share(max).saturating_sub(self.open.max(prewarm))
        })
    }
}

/// How long a connection idles before a sibling may have it: longer than between two requests of a busy client, and no time to somebody
/// who waits.
pub(in crate::upstream) const LEND_AFTER: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::super::Taken;
    use super::*;
    use crate::upstream::Identity;
    use crate::upstream::balance::Balancing;
    use crate::upstream::wish::Aim;
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    const LIMIT: u32 = 7;
    const LEDGERS: usize = 3;

    fn identities(plan: u32) -> Vec<Identity> {
        let identity = |place: u16| {
            let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 1 + place));
            let term = Term::beginning_with(plan, place.into());
            Identity::new(&addr.to_string(), addr.into()).in_term(term)
        };
        (0..2).map(identity).collect()
    }

    fn conns_max(limit: u32, ledger: usize) -> Option<u32> {
        let (ledgers, ledger) = (
            u32::try_from(LEDGERS).unwrap(),
            u32::try_from(ledger).unwrap(),
        );
        Some(limit / ledgers + u32::from(ledger < limit % ledgers))
    }

    fn ledgers() -> Vec<Ledger> {
        let new = |ledger| {
            let identities = identities(0);
            Ledger::new(
                &Balancing::even(2),
                &identities,
                conns_max(LIMIT, ledger),
                ledger,
            )
        };
        (0..LEDGERS).map(new).collect()
    }

    /// What all may open of each endpoint, and what is on its way.
    fn sums(ledgers: &[Ledger], on_their_way: &[Part], plan: u32) -> [u32; 2] {
        [0, 1].map(|slot| {
            let share = |ledger: &Ledger| {
                let endpoint = &ledger.endpoints[slot];
                assert!(endpoint.open <= endpoint.share(ledger.conns_max.unwrap()));
                endpoint.share(ledger.conns_max.unwrap())
            };
            let place = u32::try_from(slot).unwrap();
            let term = Term::beginning_with(plan, place);
            let parts = on_their_way.iter().filter(|part| part.term == term);
            let parts: u32 = parts.map(|part| part.shares).sum();
            ledgers.iter().map(share).sum::<u32>() + parts
        })
    }

    #[test]
    fn shares_add_up_whatever_is_lent_and_when_it_comes() {
        for seed in 0..50 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut ledgers = ledgers();
            let mut on_their_way: Vec<Part> = Vec::new();
            for _ in 0..500 {
                let one = rng.random_range(0..LEDGERS);
                let ledger = &mut ledgers[one];
                match rng.random_range(0..4) {
                    0 => {
                        let chosen = ledger.choose(Aim::default(), Instant::START);
                        if let Some(slot) = chosen {
                            assert!(matches!(ledger.take(slot), Taken::Room));
                        }
                    }
                    1 => {
                        let slot = rng.random_range(0..2);
                        if ledger.endpoints[slot].open > 0 {
                            ledger.give_up(slot);
                        }
                    }
                    2 => {
                        let lent = ledger.lend(rng.random_range(1..5), Instant::START);
                        if let Loanable::Shares(part) = lent {
                            assert!(part.shares > 0);
                            on_their_way.push(part);
                        }
                    }
                    _ => {
                        if let Some(part) = on_their_way.pop() {
                            assert!(ledger.join(part).is_some());
                        }
                    }
                }
                assert_eq!(sums(&ledgers, &on_their_way, 0), [LIMIT; 2], "seed {seed}");
            }
        }
    }

    #[test]
    fn what_was_lent_before_a_limit_shrank_is_void() {
        let mut ledgers = ledgers();
        let Loanable::Shares(part) = ledgers[0].lend(9, Instant::START) else {
            panic!("nothing is open, so something is left over");
        };
        for (number, ledger) in ledgers.iter_mut().enumerate() {
            let next = identities(1);
            let next = (&Balancing::even(2), &*next, conns_max(4, number));
            assert!(ledger.renew(next, number, Instant::START).is_empty());
        }
        assert_eq!(ledgers[1].join(part), None);
        assert_eq!(sums(&ledgers, &[part], 1), [4; 2]);
    }

    #[test]
    fn who_has_requests_that_wait_lends_nothing_but_what_it_owes() {
        let mut ledgers = ledgers();
        let [lender, borrower, _] = &mut ledgers[..] else {
            panic!("there are three");
        };
        while let Loanable::Shares(part) = lender.lend(1, Instant::START) {
            borrower.join(part);
        }
        assert!(lender.extra() < 0 && borrower.extra() > 0);
        let number = borrower.number();
        while let Some(slot) = borrower.choose(Aim::default(), Instant::START) {
            borrower.take(slot);
        }
        borrower.enter(number);
        assert_eq!(borrower.waiting_in_vain(), 1);
        assert!(matches!(
            borrower.lend(1, Instant::START),
            Loanable::Nothing
        ));
        assert!(matches!(borrower.pay(Instant::START), Loanable::Nothing));
        borrower.give_up(0);
        let Loanable::Shares(part) = borrower.pay(Instant::START) else {
            panic!("a place is free");
        };
        assert_eq!((lender.join(part), part.shares), (Some(0), 1));
        assert_eq!(sums(&ledgers, &[], 0), [LIMIT; 2]);
    }
}
