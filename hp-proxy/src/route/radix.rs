//! Trees over byte strings, each of which finds the longest of its strings that a key begins with. Built once; a look-up allocates
//! nothing.
//!
//! ```text
//! "/v1/" "/v1/users" "/v2/"          root "/v" ─┬─ "1/" (entry 0) ── "users" (entry 1)
//!                                               └─ "2/" (entry 2)
//! ```
//! All trees lie side by side in two lists, each tree in one stretch of both: what a look-up touches is memory that was not used lately,
//! and there its time goes.

/// The trees.
#[derive(Clone, Debug, Default)]
pub(super) struct Forest {
    nodes: Vec<Node>,
    /// Labels of nodes, each followed by the first bytes of its node's children.
    bytes: Vec<u8>,
}

/// A tree of a forest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Root(u32);

impl Root {
    /// A tree without a string.
    pub(super) const EMPTY: Self = Self(NONE);
}

/// The children lie side by side from `child` on, one for each of their first bytes, which are sorted.
#[derive(Clone, Copy, Debug)]
struct Node {
    text: u32,
    label_len: u16,
    /// At most 256.
    children: u16,
    child: u32,
    /// [`NONE`] where no key ends here.
    entry: u32,
}

/// A node to be made: its place, the keys below it, how much of them stands above it, and the entry that it lies in.
struct Pending<'k> {
    node: usize,
    keys: &'k [(&'k [u8], u32)],
    depth: usize,
    outer: u32,
}

impl Forest {
    /// Adds a tree of distinct keys, of at most 4 GiB together with all others, whose entries are numbered from `first` on. Gives
    /// with it, for each key, the entry of the longest other key that it begins with.
    pub(super) fn grow(&mut self, keys: &[&[u8]], first: u32) -> (Root, Vec<Option<u32>>) {
        let mut sorted: Vec<(&[u8], u32)> = keys.iter().copied().zip(first..).collect();
        sorted.sort_unstable();
        let mut outer = vec![None; keys.len()];
        if sorted.is_empty() {
            return (Root::EMPTY, outer);
        }
        let root = self.nodes.len();
        self.nodes.push(Node::EMPTY);
        let mut pending = std::collections::VecDeque::from([Pending {
            node: root,
            keys: &sorted,
            depth: 0,
            outer: NONE,
        }]);
        // Breadth first, so that children lie side by side.
        while let Some(next) = pending.pop_front() {
            if let Some((entry, around)) = self.make(next, &mut pending)
                && let Some(slot) = outer.get_mut((entry - first) as usize)
            {
                *slot = (around != NONE).then_some(around);
            }
        }
        (Root(number(root)), outer)
    }

    /// Makes a node; gives the entry that ends there, if one does, and the one that it lies in.
    fn make<'k>(
        &mut self,
        pending: Pending<'k>,
        queue: &mut std::collections::VecDeque<Pending<'k>>,
    ) -> Option<(u32, u32)> {
        let Pending {
            node,
            keys,
            depth,
            outer,
        } = pending;
        let [(first, entry), rest @ ..] = keys else {
            return None;
        };
        let last = keys.last().map_or(*first, |(last, _)| last);
        let common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
        let common = common.min(depth + LABEL_MAX);
        let text = number(self.bytes.len());
        let label = first.get(depth..common).unwrap_or_default();
        self.bytes.extend_from_slice(label);
        // Sorted and distinct: only the first key can end here.
        let (entry, rest) = if first.len() == common {
            (*entry, rest)
        } else {
            (NONE, keys)
        };
        let inner = if entry == NONE { outer } else { entry };
        let child = self.nodes.len();
        for group in rest.chunk_by(|(a, _), (b, _)| a.get(common) == b.get(common)) {
            let Some(byte) = group.first().and_then(|(key, _)| key.get(common)) else {
                continue;
            };
            self.bytes.push(*byte);
            queue.push_back(Pending {
                node: self.nodes.len(),
                keys: group,
                depth: common,
                outer: inner,
            });
            self.nodes.push(Node::EMPTY);
        }
        let children = self.nodes.len() - child;
        if let Some(slot) = self.nodes.get_mut(node) {
            *slot = Node {
                text,
                label_len: u16::try_from(label.len()).expect("it is cut to that"),
                children: u16::try_from(children).expect("bytes are 256"),
                child: number(child),
                entry,
            };
        }
        (entry != NONE).then_some((entry, outer))
    }

    /// The entry of the longest key of a tree that `key` begins with.
    #[inline]
    pub(super) fn longest(&self, root: Root, key: &[u8]) -> Option<u32> {
        let mut found = NONE;
        let mut rest = key;
        let mut at = self.nodes.get(root.0 as usize);
        while let Some(node) = at {
            let (label, firsts) = self.text(node);
            let Some(after) = rest.strip_prefix(label) else {
                break;
            };
            rest = after;
            if node.entry != NONE {
                found = node.entry;
            }
            let Some(byte) = rest.first() else {
                break;
            };
            let position = if firsts.len() <= LINEAR_MAX {
                firsts.iter().position(|first| first == byte)
            } else {
                firsts.binary_search(byte).ok()
            };
            at = position.and_then(|position| self.nodes.get(node.child as usize + position));
        }
        (found != NONE).then_some(found)
    }

    #[inline]
    fn text(&self, node: &Node) -> (&[u8], &[u8]) {
        let (start, label) = (node.text as usize, usize::from(node.label_len));
        let text = self
            .bytes
            .get(start..start + label + usize::from(node.children));
        text.and_then(|text| text.split_at_checked(label))
            .unwrap_or_default()
    }
}

impl Node {
    const EMPTY: Self = Self {
        text: 0,
        label_len: 0,
        children: 0,
        child: 0,
        entry: NONE,
    };
}

const _: () = assert!(size_of::<Node>() == 16, "four nodes share a cache line");

/// A configuration is far smaller than 4 GiB: its reader has a bound.
fn number(value: usize) -> u32 {
    u32::try_from(value).expect("the text of a configuration is bounded")
}

const NONE: u32 = u32::MAX;
/// What of a longer label is left goes to a node below.
const LABEL_MAX: usize = u16::MAX as usize;
/// Up to so many children a walk over their first bytes is cheaper than halving.
const LINEAR_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    fn check(keys: &[&[u8]], key: &[u8]) {
        let mut forest = Forest::default();
        let other = forest.grow(&[b"/other", b""], 0);
        let (root, outer) = forest.grow(keys, 7);
        assert_ne!(other.0, root);
        let mut expected: Vec<usize> = (0..keys.len())
            .filter(|index| key.starts_with(keys[*index]))
            .collect();
        expected.sort_by_key(|index| std::cmp::Reverse(keys[*index].len()));
        let mut found = Vec::new();
        let mut at = forest.longest(root, key);
        while let Some(entry) = at {
            found.push(entry as usize - 7);
            at = outer[entry as usize - 7];
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
        ] {
            check(&keys, key);
        }
    }

    #[test]
    fn many_children_are_found() {
        let keys: Vec<[u8; 2]> = (0..=255).map(|byte| [byte, 7]).collect();
        let keys: Vec<&[u8]> = keys.iter().map(<[u8; 2]>::as_slice).collect();
        (0..=255).for_each(|byte| check(&keys, &[byte, 7, 1]));
    }

    #[test]
    fn labels_may_be_long() {
        let long = vec![b'x'; 200_000];
        check(&[&long, &long[1..], b"y"], &long);
        check(&[&long, b"y"], &long[1..]);
    }

    proptest! {
        #[test]
        fn it_finds_what_a_search_through_all_finds(
            keys in btree_set(vec(0_u8..3, 0..6), 0..20),
            key in vec(0_u8..3, 0..8),
        ) {
            let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            check(&keys, &key);
        }
    }
}
