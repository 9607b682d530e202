//! How a slot is named to the kernel, which gives the number back with every answer.
//!
//! ```text
//! 63      56 55                    32 31                     0
//! │  kind   │ low bits of generation │         index         │
//! ```

use crate::base::slab::{GENERATION_LOW_MASK, Key, Slab};

/// What was asked for, and whose slot the answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token(u64);

impl Token {
    /// The name of a slot, for one kind of question.
    pub(super) fn new(kind: u8, key: Key) -> Self {
        let generation = u64::from(key.generation & GENERATION_LOW_MASK);
        Self(u64::from(kind) << 56 | generation << 32 | u64::from(key.index))
    }

    /// As the kernel gives it back.
    pub(super) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// As the kernel keeps it.
    pub(super) fn bits(self) -> u64 {
        self.0
    }

    /// What was asked for.
    pub(super) fn kind(self) -> u8 {
        self.0.to_be_bytes()[0]
    }

    /// Where the slot lies.
    pub(super) fn index(self) -> u32 {
        u32::try_from(self.0 & u64::from(u32::MAX)).unwrap_or(u32::MAX)
    }

    /// The key of the slot, unless it has a new occupant.
    pub(super) fn key_in<T>(self, slots: &Slab<T>) -> Option<Key> {
        let generation = u32::try_from(self.0 >> 32).unwrap_or(0) & GENERATION_LOW_MASK;
        slots.key_from_low_bits(self.index(), generation)
    }
}

/// For what belongs to no slot.
pub(super) const NO_KEY: Key = Key {
    index: u32::MAX,
    generation: 0,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_the_trip_through_the_kernel() {
        let mut slots = Slab::new();
        let first = slots.insert('a');
        slots.remove(first);
        let key = slots.insert('b');
        let token = Token::from_bits(Token::new(255, key).bits());
        assert_eq!((token.kind(), token.index()), (255, key.index));
        assert_eq!(token.key_in(&slots), Some(key));
        assert_eq!(Token::new(1, first).key_in(&slots), None);
    }
}
