//! Where decisions come from: a seed, or bytes that a fuzzer or a shrinking test picks.

/// A stream of decisions.
#[derive(Clone, Debug)]
pub struct Choices<'b> {
    source: Source<'b>,
}

#[derive(Clone, Debug)]
enum Source<'b> {
    Seed(u64),
    /// When they are used up, every choice is the first one: fewer bytes make plainer messages.
    Bytes(&'b [u8]),
}

impl<'b> Choices<'b> {
    /// Decisions that a seed determines.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self {
            source: Source::Seed(mixed(seed)),
        }
    }

    /// Decisions that bytes spell out.
    #[must_use]
    pub fn from_bytes(bytes: &'b [u8]) -> Self {
        Self {
            source: Source::Bytes(bytes),
        }
    }

    /// A number from 0 to `bound - 1`; 0 when `bound` is 0 or 1.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound < 2 {
            return 0;
        }
        let wide = bound as u64;
        let drawn = match &mut self.source {
            Source::Seed(state) => {
                *state = state.wrapping_add(GOLDEN);
                mixed(*state) % wide
            }
            Source::Bytes(bytes) => {
                let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
                *bytes = rest;
                let mut drawn = u64::from(*first);
                if bound > 256 {
                    let (second, rest) = bytes.split_first().unwrap_or((&0, &[]));
                    *bytes = rest;
                    drawn = drawn << 8 | u64::from(*second);
                }
                drawn % wide
            }
        };
        usize::try_from(drawn).unwrap_or(0)
    }

    /// True once in `n` times; never when the bytes are used up.
    pub fn one_in(&mut self, n: usize) -> bool {
        n > 0 && self.below(n) == n - 1
    }

    /// One of some things.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())]
    }
}

/// The finishing step of splitmix64 (Steele, Lea and Flood).
fn mixed(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
