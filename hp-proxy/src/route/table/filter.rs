//! Whether a tree has a literal that a path may begin with, told by the path's first bytes alone.
//!
//! Most trees that a path has nothing to look for in are passed by: a host's before that of any host, and that of any host where only the
//! route for all that is left takes the request. A walk would say the same, after reading memory that was not used lately.

use super::index::{END_MAX, up_to_8};
use super::names::FACTOR;
use crate::route::radix::NONE;

/// What the long literals of a tree begin with, and where the short ones are.
///
/// Long is whatever has as many bytes as are looked at, which differs from tree to tree; of the short ones each begins with the next shorter
/// one, so that a path that no long one fits begins with those around one of them, or with none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filter {
    /// A bit for each place that [`place_of`] gives for a long literal, the lower 32 first.
    bits: [u32; 2],
    /// The first leaf of the longest short literal, or [`NONE`], and above [`LEAF_BITS`] how far the bytes that are not looked at are shifted out.
    short: u32,
}

/// Where a path is looked for in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// From its root on.
    Root,
    /// From this leaf on, as if a walk had ended there; [`NONE`] where there is nothing for it.
    Leaf(u32),
}

impl Filter {
    /// Lets every path through.
    pub(super) const EVERY: Self = Self {
        bits: [u32::MAX; 2],
        short: NONE,
    };

    /// That of a tree with these literals, each with its first leaf, a number that a link of a tree has room for; they are sorted and distinct.
    pub(super) fn new(literals: &[(&[u8], u32)]) -> Self {
        let short = |len: usize| literals.iter().filter(move |(text, _)| text.len() < len);
        let is_chain = |len: &usize| {
            let mut pairs = short(*len).zip(short(*len).skip(1));
            pairs.all(|((shorter, _), (longer, _))| longer.starts_with(shorter))
        };
        // One byte is enough in any case: only one literal has none.
        let len = (1..=END_MAX).rev().find(is_chain).unwrap_or(1);
        let shift = number(64 - 8 * len);
        let leaf = short(len).next_back().map_or(NONE, |(_, leaf)| *leaf);
        let long = literals.iter().filter(|(text, _)| text.len() >= len);
        let bits = long.fold(0, |bits, (text, _)| {
            bits | 1_u64 << place_of(up_to_8(text), shift)
        });
        let [a, b, c, d, halves @ ..] = bits.to_le_bytes();
        Self {
            bits: [[a, b, c, d], halves].map(u32::from_le_bytes),
            short: leaf | shift << LEAF_BITS,
        }
    }

    /// Where a path is looked for whose first bytes these are, as [`up_to_8`] gives them: zeros behind a path that is shorter, which no long literal fits, whatever
    /// bit there may be for it.
    #[inline]
    pub(super) fn start(&self, first: u64) -> Start {
        let [lower, upper] = self.bits.map(u64::from);
        let bits = lower | upper << 32;
        if bits >> place_of(first, self.short >> LEAF_BITS) & 1 != 0 {
            Start::Root
        } else {
            Start::Leaf(self.short & NONE)
        }
    }
}

/// Which of 64 places the first bytes of a text have, of which the last are shifted out.
#[inline]
fn place_of(first: u64, shift: u32) -> u64 {
    (first << shift).wrapping_mul(FACTOR) >> 58
}

/// At most 64.
fn number(shift: usize) -> u32 {
    u32::try_from(shift).unwrap_or_default()
}

/// A leaf's place has so many, as in the links of trees.
const LEAF_BITS: u32 = NONE.trailing_ones();

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    /// Whether a path passes by a tree of these literals, which have the leaves 7, 8, and so on. If it does, all that it begins with are what the
    /// literal of its leaf begins with, that one included.
    fn check(literals: &[&[u8]], path: &[u8]) -> bool {
        let numbered: Vec<(&[u8], u32)> = literals.iter().copied().zip(7..).collect();
        let Start::Leaf(leaf) = Filter::new(&numbered).start(up_to_8(path)) else {
            return false;
        };
        let longest = (leaf != NONE).then(|| literals[leaf as usize - 7]);
        for text in literals.iter().filter(|text| path.starts_with(text)) {
            let longest = longest.unwrap_or_else(|| panic!("{text:?} {path:?}"));
            assert!(longest.starts_with(text), "{literals:?} {path:?}");
        }
        true
    }

    #[test]
    fn a_path_that_begins_otherwise_passes_by() {
        let literals: [&[u8]; 4] = [b"", b"/service-1/", b"/service-1/v1", b"/static/page"];
        assert!(!check(&literals, b"/service-1/v2"));
        assert!(!check(&literals, b"/static/"));
        assert!(check(&[], b"/"));
        // Two of 64 bits are set, and some paths meet them by chance.
        let paths = (0..1000).map(|number| format!("/team{number}/"));
        let passing = paths.filter(|path| check(&literals, path.as_bytes()));
        assert!(passing.count() > 900);
    }

    #[test]
    fn fewer_bytes_are_looked_at_where_short_literals_begin_differently() {
        let literals: [&[u8]; 4] = [b"/", b"/api/", b"/app/", b"/team/users/"];
        assert!(!check(&literals, b"/api/v1/"));
        assert!(!check(&literals, b"/team/"));
        assert!(check(&literals, b"/blog/1"));
        assert!(!check(&[b"a", b"b"], b"a"));
        assert!(check(&[b"a", b"b"], b"c"));
    }

    #[test]
    fn a_filter_may_let_every_path_through() {
        assert_eq!(Filter::EVERY.start(0), Start::Root);
        assert_eq!(Filter::EVERY.start(u64::MAX), Start::Root);
    }

    proptest! {
        #[test]
        fn nothing_that_a_path_begins_with_is_passed_by(
            literals in btree_set(vec(prop::sample::select(vec![0_u8, 1, b'/', 0xFF]), 0..12), 0..8),
            path in vec(prop::sample::select(vec![0_u8, 1, b'/', 0xFF]), 0..14),
        ) {
            let literals: Vec<&[u8]> = literals.iter().map(Vec::as_slice).collect();
            check(&literals, &path);
            for literal in &literals {
                check(&literals, literal);
                check(&literals, &[literal, path.as_slice()].concat());
            }
        }
    }
}
