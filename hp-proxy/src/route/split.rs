//! Shares of the requests of one route, by weight.

/// What gets which share; at least one, and the shares add up to at least 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// By place in the plan; with the sum of the weights up to and with it.
    sums: Vec<(u32, u32)>,
}

impl Split {
    /// All to one.
    #[must_use]
    pub fn all_to(upstream: u32) -> Self {
        Self {
            sums: vec![(upstream, 1)],
        }
    }

    /// Shares by weight; `None` where the weights add up to nothing, or to more than a `u32`.
    #[must_use]
    pub fn new(shares: &[(u32, u32)]) -> Option<Self> {
        let mut sum: u32 = 0;
        let mut sums = Vec::with_capacity(shares.len());
        for (upstream, weight) in shares {
            sum = sum.checked_add(*weight)?;
            if *weight > 0 {
                sums.push((*upstream, sum));
            }
        }
        (sum > 0).then_some(Self { sums })
    }

    /// Who gets all of it, where it is one.
    #[must_use]
    pub fn only(&self) -> Option<u32> {
        match self.sums.as_slice() {
            [(upstream, _)] => Some(*upstream),
            _ => None,
        }
    }

    /// Who gets a request, for a number that is spread evenly over all of `u32`; it is not drawn where there is no choice.
    #[must_use]
    #[inline]
    pub fn pick(&self, draw: impl FnOnce() -> u32) -> u32 {
        match self.sums.as_slice() {
            [] => 0, // Never: there is at least one.
            [(upstream, _)] => *upstream,
            [.., (last, total)] => {
                let place = (u64::from(draw()) * u64::from(*total)) >> u32::BITS;
                let mut sums = self.sums.iter();
                let taken = sums.find(|(_, sum)| place < u64::from(*sum));
                taken.map_or(*last, |(upstream, _)| *upstream)
            }
        }
    }

    /// All of them, with their weights.
    pub fn shares(&self) -> impl Iterator<Item = (u32, u32)> {
        let before = std::iter::once(0).chain(self.sums.iter().map(|(_, sum)| *sum));
        let sums = self.sums.iter();
        sums.zip(before)
            .map(|((upstream, sum), before)| (*upstream, sum - before))
    }
}

/// Numbers that are spread evenly over all of `u32`, each stretch of them too: multiples of an irrational number, such as the golden
/// ratio. The shares of a split come out exact to one request or two, however few there are.
#[derive(Clone, Copy, Debug)]
pub struct Draws {
    at: u32,
    step: u32,
}

impl Draws {
    /// Starts elsewhere for each worker.
    #[must_use]
    pub fn starting_at(number: u32) -> Self {
        Self {
            at: number.wrapping_mul(0x61C8_8647),
            step: GOLDEN,
        }
    }

    /// For copies of requests, in other steps: which request is copied has nothing to do with which upstream it goes to.
    #[must_use]
    pub fn of_mirrors(number: u32) -> Self {
        Self {
            step: ROOT_OF_TWO,
            ..Self::starting_at(number)
        }
    }

    /// The next number, and what follows it.
    #[must_use]
    #[inline]
    pub fn next(self) -> (u32, Self) {
        let next = Self {
            at: self.at.wrapping_add(self.step),
            ..self
        };
        (self.at, next)
    }
}

/// 2^32 divided by the golden ratio, odd.
const GOLDEN: u32 = 0x9E37_79B9;
/// 2^32 times what follows the point of the root of 2, odd.
const ROOT_OF_TWO: u32 = 0x6A09_E667;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_weights() {
        let split = Split::new(&[(4, 90), (7, 9), (5, 0), (9, 1)]).unwrap();
        assert_eq!(
            split.shares().collect::<Vec<_>>(),
            [(4, 90), (7, 9), (9, 1)]
        );
        let mut draws = Draws::starting_at(3);
        let mut counts = [0_u32; 10];
        for _ in 0..10_000 {
            let (draw, next) = draws.next();
            draws = next;
            counts[split.pick(|| draw) as usize] += 1;
        }
        assert!(counts[4].abs_diff(9_000) <= 3, "{counts:?}");
        assert!(counts[7].abs_diff(900) <= 3 && counts[9].abs_diff(100) <= 3);
        assert_eq!(counts.iter().sum::<u32>(), 10_000);
    }

    #[test]
    fn a_split_of_nothing_is_none() {
        assert_eq!(Split::new(&[]), None);
        assert_eq!(Split::new(&[(1, 0)]), None);
        assert_eq!(Split::new(&[(1, u32::MAX), (2, 1)]), None);
        assert_eq!(Split::all_to(3).pick(|| u32::MAX), 3);
    }
}
