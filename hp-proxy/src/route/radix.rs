//! Trees over byte strings, each of which leads a key to the only one of its strings that may be the longest that the key begins with,
//! or that goes on from it. Built once; a walk allocates nothing and compares nothing.
//!
//! ```text
//! "/v1/" "/v1/users" "/v2/"      bit 6 of byte 2 ─┬─ 0 ─► "/v1/users", and around it "/v1/"
//!                                                 └─ 1 ─► "/v2/"
//! ```
//! A walk looks only at bits in which strings of the tree differ. Whoever walks compares the key with the string at its end, once, and goes
//! on to those around it until one is as short as what is equal. Keys that differ from all strings end anywhere: there too
//! each string that the key begins with is around the one at the end, since the walk has followed the key past all of them.
//!
//! A step is a few instructions without a branch that depends on the key, and a node is one word. All trees lie side by side in one list, each with what is below a node next to it:
//! what a walk touches is memory that was not used lately, and there its time goes.

use hp_core::sys::arena::{Arena, Kept};
use hp_core::sys::cpu::prefetch;
use std::hint::select_unpredictable;

/// The trees.
#[derive(Clone, Debug, Default)]
pub(super) struct Forest {
    nodes: Kept<Node>,
}

/// Trees of a forest to be.
#[derive(Debug, Default)]
pub(super) struct Nursery {
    nodes: Vec<Node>,
}

/// A word of three numbers: in the lowest [`BIT_BITS`] the place of the bit that it looks at among the bits of a key, from the highest of its first byte on, and
/// [`BIT_FAR`] where the word behind it says that. Two links of [`LINK_BITS`] each follow: where keys without that bit go on, and where those that have it.
///
/// A link is the place of a node, or an entry with [`ENTRY`] set.
#[derive(Clone, Copy, Debug)]
struct Node(u64);

/// A tree of a forest: a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Root(u32);

impl Root {
    /// A tree without a string.
    pub(super) const EMPTY: Self = Self(NONE);
}

/// A link to be made: the node and the side that it is of, the keys below it with the place of their first, and the entry around them.
struct Pending<'k> {
    slot: Option<(usize, u32)>,
    keys: &'k [(&'k [u8], u32)],
    first: usize,
    around: u32,
}

impl Nursery {
    /// The forest of these trees.
    pub(super) fn finish(self) -> Forest {
        Forest {
            nodes: self.nodes.into(),
        }
    }

    /// Adds a tree of keys, each with its entry, a number below 2^23 - 1; the keys are sorted and distinct. Gives with it, for each
    /// key, the entry of the longest other key that it begins with, or [`NONE`].
    pub(super) fn grow(&mut self, keys: &[(&[u8], u32)]) -> (Root, Vec<u32>) {
        let mut around = vec![NONE; keys.len()];
        let mut root = NONE;
        let mut pending = vec![Pending {
            slot: None,
            keys,
            first: 0,
            around: NONE,
        }];
        // Depth first, so that what is below a node lies next to it.
        while let Some(next) = pending.pop() {
            let slot = next.slot;
            let link = self.make(next, &mut around, &mut pending);
            let Some((node, side)) = slot else {
                root = link;
                continue;
            };
            if let Some(node) = self.nodes.get_mut(node) {
                *node = node.with_link(side, link);
            }
        }
        (Root(root), around)
    }

    /// Makes what a link leads to, and gives the link.
    fn make<'k>(
        &mut self,
        pending: Pending<'k>,
        around: &mut [u32],
        stack: &mut Vec<Pending<'k>>,
    ) -> u32 {
        let Pending {
            mut keys,
            mut first,
            around: mut inner,
            ..
        } = pending;
        // Sorted: only the first key can be one that all others begin with.
        let bit = loop {
            let [(shortest, entry), rest @ ..] = keys else {
                return NONE; // Of no key at all.
            };
            let bit = rest
                .last()
                .and_then(|(last, _)| first_difference(shortest, last));
            if let Some(bit) = bit {
                break bit;
            }
            if let Some(slot) = around.get_mut(first) {
                *slot = inner;
            }
            if rest.is_empty() {
                return number(*entry as usize) | ENTRY;
            }
            (keys, first, inner) = (rest, first + 1, *entry);
        };
        let node = self.nodes.len();
        let ones = keys.partition_point(|(key, _)| !has_bit(key, bit));
        let (without, with) = keys.split_at_checked(ones).unwrap_or((keys, &[]));
        for (side, keys, first) in [(1, with, first + ones), (0, without, first)] {
            stack.push(Pending {
                slot: Some((node, side)),
                keys,
                first,
                around: inner,
            });
        }
        self.nodes.push(Node::new(bit.min(BIT_FAR)));
        if bit >= BIT_FAR {
            self.nodes.push(Node(bit as u64));
        }
        number(node)
    }
}

impl Forest {
    /// Goes to an arena.
    pub(super) fn move_to(&mut self, arena: &mut Arena) {
        self.nodes = arena.keep(&self.nodes);
    }

    /// How many bytes of an arena it takes.
    pub(super) fn room(&self) -> usize {
        Arena::bytes_of(&self.nodes)
    }

    /// Asks for the memory of a tree that will be walked; of a large one, for that of its beginning.
    #[inline]
    pub(super) fn bring_near(&self, root: Root) {
        if root.0 & ENTRY == 0 {
            prefetch(
                self.nodes.as_ptr().wrapping_add(root.0 as usize).cast(),
                NEAR_LINES,
            );
        }
    }

    /// The entry that a key is led to; `None` where the tree is empty. `byte` gives the key's bytes by place, and 0 past its end.
    #[inline]
    pub(super) fn walk(&self, root: Root, byte: impl Fn(usize) -> u8) -> Option<u32> {
        let mut link = root.0;
        while link & ENTRY == 0 {
            let node = self.nodes.get(link as usize)?;
            let bit = match node.bit() {
                BIT_FAR => self.far_bit(link),
                bit => bit,
            };
            let shifted = u32::from(byte(bit >> 3)) << (bit & 7);
            let [without, with] = node.links();
            link = select_unpredictable(shifted & 0x80 == 0, without, with);
        }
        (link != NONE).then_some(link & !ENTRY)
    }

    /// What the word behind a node says.
    #[cold]
    fn far_bit(&self, node: u32) -> usize {
        let word = self.nodes.get(node as usize + 1);
        word.and_then(|word| usize::try_from(word.0).ok())
            .unwrap_or_default()
    }

    /// How many bytes its nodes take.
    pub(super) fn size(&self) -> usize {
        size_of_val(&*self.nodes)
    }
}

impl Node {
    /// A node without links that looks at a bit, at most [`BIT_FAR`].
    fn new(bit: usize) -> Self {
        Self(bit as u64)
    }

    /// The same with another link on a side, 0 or 1.
    fn with_link(self, side: u32, link: u32) -> Self {
        let place = BIT_BITS + LINK_BITS * side;
        Self(self.0 & !(u64::from(NONE) << place) | u64::from(link) << place)
    }

    #[inline]
    fn bit(self) -> usize {
        let [low, high, ..] = self.0.to_le_bytes();
        usize::from(u16::from_le_bytes([low, high]))
    }

    #[inline]
    fn links(self) -> [u32; 2] {
        let [_, _, bytes @ ..] = self.0.to_le_bytes();
        let [a, b, c, d, e, f] = bytes;
        [[a, b, c, 0], [d, e, f, 0]].map(u32::from_le_bytes)
    }
}

/// The first bit in which two strings differ that go on; `None` where one of them ends before.
fn first_difference(one: &[u8], other: &[u8]) -> Option<usize> {
    let bytes = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let difference = one.get(bytes)? ^ other.get(bytes)?;
    Some(8 * bytes + difference.leading_zeros() as usize)
}

fn has_bit(key: &[u8], bit: usize) -> bool {
    let byte = key.get(bit / 8).copied().unwrap_or_default();
    u32::from(byte) << (bit % 8) & 0x80 != 0
}

/// The text of a configuration has at most 16 MiB, of which a rule takes more than four bytes; a node has two words at most.
fn number(value: usize) -> u32 {
    let number = u32::try_from(value).ok().filter(|number| *number < ENTRY);
    number.expect("the text of a configuration is bounded")
}

/// No entry.
pub(super) const NONE: u32 = (1 << LINK_BITS) - 1;
const ENTRY: u32 = 1 << (LINK_BITS - 1);
const BIT_BITS: u32 = 16;
const LINK_BITS: u32 = 24;
const BIT_FAR: usize = (1 << BIT_BITS) - 1;
/// Of a tree, nine strings have their nodes there, wherever it begins.
const NEAR_LINES: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    /// Keys that `key` begins with, the longest first, are those around the one that a walk leads to and as short as what is equal.
    fn check(keys: &[&[u8]], key: &[u8]) {
        let mut sorted = keys.to_vec();
        sorted.sort_unstable();
        let mut nursery = Nursery::default();
        let (other, _) = nursery.grow(&[(b"", 0), (b"/other", 1)]);
        let numbered: Vec<(&[u8], u32)> = sorted.iter().copied().zip(7..).collect();
        let (root, around) = nursery.grow(&numbered);
        let forest = nursery.finish();
        assert_ne!(other, root);
        let mut expected: Vec<&[u8]> = sorted
            .iter()
            .copied()
            .filter(|text| key.starts_with(text))
            .collect();
        expected.sort_by_key(|text| std::cmp::Reverse(text.len()));
        let mut found = Vec::new();
        let mut at = forest.walk(root, |place| key.get(place).copied().unwrap_or_default());
        while let Some(entry) = at.map(|entry| entry as usize - 7) {
            if key.starts_with(sorted[entry]) {
                found.push(sorted[entry]);
            }
            at = (around[entry] != NONE).then_some(around[entry]);
        }
        assert_eq!(found, expected, "{keys:?} {key:?}");
    }

    #[test]
    fn an_empty_tree_finds_nothing() {
        check(&[], b"");
        check(&[], b"/a");
    }

    #[test]
    fn the_longest_key_comes_first_and_then_those_around_it() {
        let keys: [&[u8]; 6] = [b"/v1/", b"", b"/v1/users", b"/v2/", b"/", b"/v1"];
        for key in [
            &b"/v1/users/7"[..],
            b"/v1/use",
            b"/v1",
            b"/v",
            b"",
            b"x",
            b"/v2/\xff",
            b"/v3/",
            b"/v1/\0",
        ] {
            check(&keys, key);
        }
    }

    #[test]
    fn all_values_of_a_byte_are_told_apart() {
        let keys: Vec<[u8; 2]> = (0..=255).map(|byte| [byte, 7]).collect();
        let keys: Vec<&[u8]> = keys.iter().map(<[u8; 2]>::as_slice).collect();
        (0..=255).for_each(|byte| check(&keys, &[byte, 7, 1]));
    }

    #[test]
    fn strings_may_be_long() {
        let long = vec![b'x'; 200_000];
        check(&[&long, &long[1..], b"y"], &long);
        check(&[&long, b"y"], &long[1..]);
    }

    #[test]
    fn strings_may_differ_for_the_first_time_anywhere() {
        // The place of a bit has 16 bits: 8,192 bytes are where it has no room any more.
        for len in [0, 1, 8190, 8191, 8192, 8193, 70_000] {
            let start = "x".repeat(len);
            let [a, b, b_and_more, c] =
                ["a", "b", "b-and-more", "b-and-much"].map(|end| format!("{start}{end}"));
            let keys = [&a, &b, &b_and_more, &c].map(|key| key.as_bytes());
            for key in keys {
                check(&keys, key);
                check(&keys, &key[..key.len() - 1]);
                check(&keys, &[key, b"-"].concat());
            }
        }
    }

    proptest! {
        #[test]
        fn it_finds_what_a_search_through_all_finds(
            keys in btree_set(vec(prop::sample::select(vec![0_u8, 1, 0x10, 0xFF]), 0..6), 0..20),
            key in vec(prop::sample::select(vec![0_u8, 1, 0x10, 0x11, 0xFF]), 0..8),
        ) {
            let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            check(&keys, &key);
        }
    }
}
