//! Chance that repeats itself: xoshiro256** (Blackman and Vigna), seeded by splitmix64.
//!
//! It is written here because a seed must mean the same run for as long as the project lives, which no crate promises
//! across its versions (docs/decisions/0014).

/// A stream of numbers that a seed determines.
#[derive(Clone, Debug)]
pub struct Chance {
    state: [u64; 4],
}

impl Chance {
    /// The stream of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut word = seed;
        let state = std::array::from_fn(|_| {
            word = word.wrapping_add(GOLDEN);
            mix(word)
        });
        Self { state }
    }

    /// A stream of its own, so that what one part draws does not move what the others draw.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self::new(self.draw())
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let drawn = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        drawn
    }

    /// A number from 0 to `bound - 1`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.draw()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// A place in something of this length; 0 when it is empty.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// True once in `n` times; never when `n` is 0.
    pub fn one_in(&mut self, n: u64) -> bool {
        n != 0 && self.below(n) == 0
    }

    /// From 1 to `max`, each order of magnitude as likely as any other.
    pub fn size(&mut self, max: usize) -> usize {
        let max = max.max(1);
        let scale = 1u64 << self.below(u64::from(max.ilog2()) + 1);
        let size = scale + self.below(scale);
        usize::try_from(size).unwrap_or(max).min(max)
    }
}

/// One round of splitmix64: every bit of the result depends on every bit of the word.
pub(super) fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_the_published_one() {
        let mut chance = Chance {
            state: [1, 2, 3, 4],
        };
        let drawn: Vec<u64> = (0..5).map(|_| chance.draw()).collect();
        assert_eq!(
            drawn,
            [
                11520,
                0,
                1_509_978_240,
                1_215_971_899_390_074_240,
                1_216_172_134_540_287_360
            ]
        );
    }

    #[test]
    fn bounds_are_kept() {
        let mut chance = Chance::new(7);
        for max in 1..200 {
            assert!(chance.below(max) < max);
            assert!((1..=max).contains(&(chance.size(usize::try_from(max).unwrap()) as u64)));
        }
        assert_eq!(chance.below(0), 0);
    }
}
