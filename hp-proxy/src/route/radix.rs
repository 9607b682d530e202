//! A tree over byte strings that finds the longest of them that a key begins with. Built once; a look-up allocates nothing.
//!
//! ```text
//! "/v1/" "/v1/users" "/v2/"          root "/v" ─┬─ "1/" (entry 0) ── "users" (entry 1)
//!                                               └─ "2/" (entry 2)
//! ```

/// The tree. Entries are numbered as the keys were given.
#[derive(Clone, Debug, Default)]
pub(super) struct Radix {
    nodes: Vec<Node>,
    /// Labels of nodes, and the first bytes of their children.
    bytes: Vec<u8>,
    /// By entry: the longest other key that its key begins with.
    outer: Vec<u32>,
}

/// `label` and `firsts` lie within `bytes`; the children lie side by side from `child` on, one for each of `firsts`, sorted.
#[derive(Clone, Copy, Debug)]
struct Node {
    label: Span,
    firsts: Span,
    child: u32,
    /// [`NONE`] where no key ends here.
    entry: u32,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    len: u32,
}

/// A node to be made: its place, the keys below it, how much of them stands above it, and the entry that it lies in.
struct Pending<'k> {
    node: usize,
    keys: &'k [(&'k [u8], u32)],
    depth: usize,
    outer: u32,
}

impl Radix {
    /// A tree of distinct keys, of at most 4 GiB together.
    pub(super) fn new(keys: &[&[u8]]) -> Self {
        let mut sorted: Vec<(&[u8], u32)> = keys.iter().copied().zip(0..).collect();
        sorted.sort_unstable();
        let mut radix = Self {
            outer: vec![NONE; keys.len()],
            ..Self::default()
        };
        if sorted.is_empty() {
            return radix;
        }
        radix.nodes.push(Node::EMPTY);
        let mut pending = std::collections::VecDeque::from([Pending {
            node: 0,
            keys: &sorted,
            depth: 0,
            outer: NONE,
        }]);
        // Breadth first, so that children lie side by side.
        while let Some(next) = pending.pop_front() {
            radix.make(next, &mut pending);
        }
        radix
    }

    fn make<'k>(
        &mut self,
        pending: Pending<'k>,
        queue: &mut std::collections::VecDeque<Pending<'k>>,
    ) {
        let Pending {
            node,
            keys,
            depth,
            outer,
        } = pending;
        let [(first, entry), rest @ ..] = keys else {
            return;
        };
        let last = keys.last().map_or(*first, |(last, _)| last);
        let common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
        let label = self.store(first.get(depth..common).unwrap_or_default());
        // Sorted and distinct: only the first key can end here.
        let (entry, rest) = if first.len() == common {
            (*entry, rest)
        } else {
            (NONE, keys)
        };
        if let Some(slot) = self.outer.get_mut(entry as usize) {
            *slot = outer;
        }
        let inner = if entry == NONE { outer } else { entry };
        let child = self.nodes.len();
        let mut firsts = Vec::new();
        for group in rest.chunk_by(|(a, _), (b, _)| a.get(common) == b.get(common)) {
            let Some(byte) = group.first().and_then(|(key, _)| key.get(common)) else {
                continue;
            };
            firsts.push(*byte);
            queue.push_back(Pending {
                node: self.nodes.len(),
                keys: group,
                depth: common,
                outer: inner,
            });
            self.nodes.push(Node::EMPTY);
        }
        let firsts = self.store(&firsts);
        if let Some(slot) = self.nodes.get_mut(node) {
            *slot = Node {
                label,
                firsts,
                child: number(child),
                entry,
            };
        }
    }

    fn store(&mut self, bytes: &[u8]) -> Span {
        let start = number(self.bytes.len());
        self.bytes.extend_from_slice(bytes);
        Span {
            start,
            len: number(bytes.len()),
        }
    }

    /// The entry of the longest key that `key` begins with.
    #[inline]
    pub(super) fn longest(&self, key: &[u8]) -> Option<usize> {
        let mut found = NONE;
        let mut rest = key;
        let mut at = self.nodes.first();
        while let Some(node) = at {
            let Some(after) = rest.strip_prefix(self.text(node.label)) else {
                break;
            };
            rest = after;
            if node.entry != NONE {
                found = node.entry;
            }
            let Some(byte) = rest.first() else {
                break;
            };
            let firsts = self.text(node.firsts);
            let position = if firsts.len() <= LINEAR_MAX {
                firsts.iter().position(|first| first == byte)
            } else {
                firsts.binary_search(byte).ok()
            };
            at = position.and_then(|position| self.nodes.get(node.child as usize + position));
        }
        (found != NONE).then_some(found as usize)
    }

    /// The entry of the next shorter key that this entry's key begins with.
    #[inline]
    pub(super) fn outer(&self, entry: usize) -> Option<usize> {
        let outer = *self.outer.get(entry)?;
        (outer != NONE).then_some(outer as usize)
    }

    #[inline]
    fn text(&self, span: Span) -> &[u8] {
        let start = span.start as usize;
        self.bytes
            .get(start..start + span.len as usize)
            .unwrap_or_default()
    }
}

impl Node {
    const EMPTY: Self = Self {
        label: Span { start: 0, len: 0 },
        firsts: Span { start: 0, len: 0 },
        child: 0,
        entry: NONE,
    };
}

/// A configuration is far smaller than 4 GiB: its reader has a bound.
fn number(value: usize) -> u32 {
    u32::try_from(value).expect("the text of a configuration is bounded")
}

const NONE: u32 = u32::MAX;
/// Up to so many children a walk over their first bytes is cheaper than halving.
const LINEAR_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    fn check(keys: &[&[u8]], key: &[u8]) {
        let radix = Radix::new(keys);
        let mut expected: Vec<usize> = (0..keys.len())
            .filter(|index| key.starts_with(keys[*index]))
            .collect();
        expected.sort_by_key(|index| std::cmp::Reverse(keys[*index].len()));
        let mut found = Vec::new();
        let mut at = radix.longest(key);
        while let Some(entry) = at {
            found.push(entry);
            at = radix.outer(entry);
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
