//! The names of hosts that rules ask for, found by a hash of them.
//!
//! A host is looked for whole, then by its ends that begin with a dot, for names below; links lead from a name to the next shorter one
//! that is at its end. A look touches one slot, and the cache line of the name where there is one.

use super::filter::Filter;
use super::index::{NearText, Text};
use crate::route::radix::{NONE, Root};
use crate::route::rule::HOST_BYTES_MAX;
use hp_core::sys::arena::{Arena, Kept};
use std::collections::BTreeMap;

/// All names. Built once.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    all: Kept<Name>,
    /// At least twice as many as there are names, and a power of two; none where there is no name.
    slots: Kept<Slot>,
    seed: u64,
    /// The most dots that a name with hosts below it has.
    dots_max: usize,
    /// A bit for each length of such names, from one byte on: ends of other lengths need not be looked for.
    lens: [u64; HOST_BYTES_MAX / 64],
    /// Texts of names that are long.
    texts: String,
}

/// The routes for a host, and for all below it.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Name {
    /// In lower case, with a dot before it where names below are meant.
    text: NearText,
    is: Root,
    below: Root,
    /// Of the only tree; where there are both, it lets every path through.
    filter: Filter,
    /// The longest name with a dot that it ends with, or [`NONE`].
    outer: u32,
}

const _: () = assert!(size_of::<Name>() == 64, "a name is one cache line");

#[derive(Clone, Copy, Debug)]
#[repr(align(16))]
struct Slot {
    /// Of the name's hash, so that other names need not be looked at.
    tag: u32,
    /// [`NONE`] where there is none.
    name: u32,
    /// The tree of the name, and its first leaf with the side that the tree is of: so they are on their way while the name is.
    root: Root,
    leaves: u32,
}

/// Which tree of a name, as a bit beside the place of its first leaf. A name that has both says so itself.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Side {
    Is = 1 << 30,
    Below = 1 << 31,
}

const _: () = assert!(size_of::<Slot>() == 16, "a cache line has four slots");

/// What a name leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trees {
    /// Of the paths of the name itself.
    pub(super) is: Root,
    /// Of the paths of names below it.
    pub(super) below: Root,
    /// Of the only one of them; where there are both, it lets every path through.
    pub(super) filter: Filter,
    /// The first leaf of both.
    pub(super) leaves: u32,
}

impl Name {
    /// What tells of paths whether they have anything to look for in its trees.
    #[inline]
    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }
}

impl Names {
    /// Names, each with the trees of the paths of itself and of names below it.
    pub(super) fn new(names: &BTreeMap<String, Trees>) -> Self {
        let mut made = Self {
            // Whoever may choose one name, and wants it to meet others, does not know all of them.
            seed: names
                .keys()
                .fold(1, |seed, name| hash(seed, name.as_bytes())),
            ..Self::default()
        };
        let mut all = Vec::with_capacity(names.len());
        let numbers: BTreeMap<&str, u32> = names.keys().map(String::as_str).zip(0..).collect();
        for (name, trees) in names {
            let ends = name.match_indices('.').map(|(dot, _)| name.get(dot..));
            let mut ends = ends.flatten().filter(|end| end.len() < name.len());
            let outer = ends.find_map(|end| numbers.get(end));
            if name.starts_with('.') {
                made.dots_max = made.dots_max.max(name.matches('.').count());
                let (word, bit) = place_of_len(name.len());
                if let Some(word) = made.lens.get_mut(word) {
                    *word |= 1 << bit; // A longer one no host ends with.
                }
            }
            let text = made.near_text(name);
            all.push(Name {
                text,
                is: trees.is,
                below: trees.below,
                filter: trees.filter,
                outer: outer.copied().unwrap_or(NONE),
            });
        }
        made.all = all.into();
        if !names.is_empty() {
            made.slots = slots_of(made.seed, names).into();
        }
        made
    }

    /// Goes to an arena.
    pub(super) fn move_to(&mut self, arena: &mut Arena) {
        self.slots = arena.keep(&self.slots);
        self.all = arena.keep(&self.all);
    }

    /// How many bytes of an arena they take.
    pub(super) fn room(&self) -> usize {
        Arena::bytes_of(&self.slots) + Arena::bytes_of(&self.all)
    }

    fn near_text(&mut self, text: &str) -> NearText {
        let start = self.texts.len();
        NearText::new(text, |text| {
            self.texts.push_str(text);
            Text::new(start, text.len())
        })
    }

    /// How many bytes the slots take, and how many the names.
    pub(super) fn sizes(&self) -> [usize; 2] {
        let names = size_of_val(&*self.all) + self.texts.len();
        [size_of_val(&*self.slots), names]
    }

    /// The longest name that a host is, or is below of, and the tree of the paths of the host there. What may be a tree of it and its first
    /// leaf is told to `foresee` before that is sure.
    #[inline]
    pub(super) fn longest(
        &self,
        host: &[u8],
        foresee: impl Fn(Root, u32),
    ) -> Option<(&Name, Root)> {
        if self.slots.is_empty() || host.len() > HOST_BYTES_MAX {
            return None;
        }
        self.named(host, Side::Is, &foresee)
            .or_else(|| self.longest_below(host, &foresee))
    }

    /// The longest name with a dot before it that a host ends with.
    fn longest_below(&self, host: &[u8], foresee: &impl Fn(Root, u32)) -> Option<(&Name, Root)> {
        let [near_lens, far_lens @ ..] = &self.lens;
        if far_lens.iter().any(|lens| *lens != 0) {
            return self.longest_of_far(host);
        }
        let dots = dots_from_the_end(host);
        let mut farther = dots;
        for _ in 0..self.dots_max {
            farther &= farther.wrapping_sub(1);
        }
        let mut lens = dots & !farther & near_lens;
        while lens != 0 {
            let highest = lens.ilog2();
            let start = host.len().checked_sub(highest as usize + 1)?;
            if let Some(found) = self.named(host.get(start..)?, Side::Below, foresee) {
                return Some(found);
            }
            lens ^= 1 << highest;
        }
        None
    }

    /// The same where names are longer than 64 bytes, which is rare.
    #[cold]
    fn longest_of_far(&self, host: &[u8]) -> Option<(&Name, Root)> {
        let dots = memchr::memrchr_iter(b'.', host).take(self.dots_max);
        let ends = dots.filter_map(|dot| host.get(dot..));
        let ends = ends.filter(|end| self.has_len(end.len()));
        ends.filter_map(|end| self.named(end, Side::Below, &|_, _| ()))
            .last()
    }

    /// The longest name around a name, and the tree of the paths below it.
    #[inline]
    pub(super) fn outer(&self, name: &Name) -> Option<(&Name, Root)> {
        let outer = self.all.get(name.outer as usize)?;
        Some((outer, outer.below))
    }

    fn has_len(&self, len: usize) -> bool {
        let (word, bit) = place_of_len(len);
        self.lens.get(word).is_some_and(|word| word >> bit & 1 != 0)
    }

    fn named(
        &self,
        host: &[u8],
        side: Side,
        foresee: &impl Fn(Root, u32),
    ) -> Option<(&Name, Root)> {
        let hash = hash(self.seed, host);
        let last = self.slots.len() - 1;
        let mut place = place_of(hash) & last;
        loop {
            let slot = self.slots.get(place)?;
            if slot.name == NONE {
                return None;
            }
            if slot.tag == tag_of(hash) {
                foresee(slot.root, slot.leaves & !SIDES);
                let name = self.all.get(slot.name as usize)?;
                let text = name.text.bytes(&self.texts);
                // Nearly all hosts come in lower case.
                if are_equal(host, text) || host.eq_ignore_ascii_case(text) {
                    let root = match side {
                        _ if slot.leaves & side as u32 != 0 => slot.root,
                        Side::Is => name.is,
                        Side::Below => name.below,
                    };
                    return Some((name, root));
                }
            }
            place = (place + 1) & last;
        }
    }
}

/// Slots that names are found in, of which there is one at least.
fn slots_of(seed: u64, names: &BTreeMap<String, Trees>) -> Vec<Slot> {
    let free = Slot {
        tag: 0,
        name: NONE,
        root: Root::EMPTY,
        leaves: 0,
    };
    let mut slots = vec![free; (2 * names.len()).next_power_of_two()];
    let last = slots.len() - 1;
    for (number, (name, trees)) in (0..).zip(names) {
        let hash = hash(seed, name.as_bytes());
        let mut place = place_of(hash) & last;
        // Ends: half of the slots stay free.
        while slots.get(place).is_some_and(|slot| slot.name != NONE) {
            place = (place + 1) & last;
        }
        if let Some(slot) = slots.get_mut(place) {
            *slot = Slot {
                tag: tag_of(hash),
                name: number,
                root: if trees.is == Root::EMPTY {
                    trees.below
                } else {
                    trees.is
                },
                leaves: trees.leaves | side_of(trees),
            };
        }
    }
    slots
}

/// Whether they are; nearly all names have 16 to 32 bytes, and are compared in two steps, of which the second sees some bytes again.
#[inline]
fn are_equal(one: &[u8], other: &[u8]) -> bool {
    if one.len() == other.len()
        && one.len() <= 32
        && let (Some(one_first), Some(one_last)) = (one.first_chunk::<16>(), one.last_chunk())
        && let (Some(first), Some(last)) = (other.first_chunk::<16>(), other.last_chunk::<16>())
    {
        return (one_first == first) & (one_last == last);
    }
    one == other
}

/// Which ends of a host, of up to 64 bytes, begin with a dot: the lowest bit is for that of one byte.
#[inline]
fn dots_from_the_end(host: &[u8]) -> u64 {
    let (rest, words) = host.as_rchunks::<8>();
    let words = words.iter().rev().map(|word| u64::from_be_bytes(*word));
    let rest = rest
        .iter()
        .fold(0, |word, byte| word << 8 | u64::from(*byte));
    let words = words.chain([rest]).take(8).zip((0..).step_by(8));
    words.fold(0, |dots, (word, place)| dots | dots_of(word) << place)
}

/// Which bytes of a word are dots, a bit for each from the lowest on.
#[inline]
fn dots_of(word: u64) -> u64 {
    let others = word ^ (ONES * u64::from(b'.'));
    // The highest bit of a byte is set where another one of it is; a sum of seven bits carries nothing over.
    let highest = (others & !HIGHEST) + !HIGHEST;
    let dots = !(highest | others) & HIGHEST;
    // Each product of a bit with one of the factor's has a place of its own, and eight of them are the highest byte.
    (dots >> 7).wrapping_mul(GATHER) >> 56
}

/// The side of the only tree, as a bit; none where there are both.
fn side_of(trees: &Trees) -> u32 {
    match (trees.is == Root::EMPTY, trees.below == Root::EMPTY) {
        (false, true) => Side::Is as u32,
        (true, false) => Side::Below as u32,
        _ => 0,
    }
}

/// The word of a set of lengths, and its bit; of a length above 0.
fn place_of_len(len: usize) -> (usize, usize) {
    let place = len.saturating_sub(1);
    (place / 64, place % 64)
}

/// The same for all cases of a name; names that differ may meet, and are compared.
#[inline]
fn hash(seed: u64, name: &[u8]) -> u64 {
    let mixed = |hash: u64, [low, high]: [u64; 2]| {
        // No word with `LOWER` is `FACTOR`, which would make a product of 0.
        let product = u128::from((low | LOWER) ^ FACTOR) * u128::from((high | LOWER) ^ hash);
        let [high, low] = [product >> 64, product].map(|half| half & u128::from(u64::MAX));
        u64::try_from(high ^ low).unwrap_or_default() // It has 64 bits.
    };
    let halves = |bytes: &[u8; 16]| {
        let (words, _) = bytes.as_chunks::<8>();
        [0, 1].map(|half| words.get(half).copied().map_or(0, u64::from_le_bytes))
    };
    let seed = seed.wrapping_add(name.len() as u64);
    if let Some(last) = name.last_chunk::<16>() {
        let (blocks, _) = name.as_chunks::<16>();
        let hash = blocks
            .iter()
            .fold(seed, |hash, block| mixed(hash, halves(block)));
        // Some bytes a second time, which costs less than one by one.
        return mixed(hash, halves(last));
    }
    if let (Some(first), Some(last)) = (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        return mixed(seed, [first, last].map(|bytes| u64::from_le_bytes(*bytes)));
    }
    let short = name
        .iter()
        .fold(0, |word, byte| word << 8 | u64::from(*byte));
    mixed(seed, [short, 0])
}

/// The lower half decides where it is looked for.
fn place_of(hash: u64) -> usize {
    usize::try_from(hash & u64::from(u32::MAX)).unwrap_or_default() // It has 32 bits.
}

/// And the upper half, who may be meant.
fn tag_of(hash: u64) -> u32 {
    u32::try_from(hash >> 32).unwrap_or_default() // It has 32 bits.
}

/// All bits of [`Side`].
const SIDES: u32 = Side::Is as u32 | Side::Below as u32;
/// What tells lower case from upper case, in each byte of a word.
const LOWER: u64 = 0x2020_2020_2020_2020;
/// One in each byte.
const ONES: u64 = 0x0101_0101_0101_0101;
/// The highest bit of each byte.
const HIGHEST: u64 = ONES << 7;
/// Brings the lowest bits of eight bytes together.
const GATHER: u64 = 0x0102_0408_1020_4080;
/// 2^64 divided by the golden ratio, odd.
pub(super) const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::radix::Nursery;

    /// Trees that can be told apart, for names in this order; no path is looked for in them.
    fn names(list: &[&str]) -> (Names, Vec<[Root; 2]>) {
        let mut nursery = Nursery::default();
        let mut number = 0..;
        let mut root = || {
            let entry = number.next().unwrap();
            nursery.grow(&[(b"/", entry)]).0
        };
        let roots: Vec<[Root; 2]> = list.iter().map(|_| [root(), root()]).collect();
        let named = list.iter().zip(&roots);
        let all = named.map(|(name, [is, below])| {
            let trees = Trees {
                is: *is,
                below: *below,
                filter: Filter::EVERY,
                leaves: 0,
            };
            ((*name).to_owned(), trees)
        });
        (Names::new(&all.collect()), roots)
    }

    /// The names that a host belongs to, from the longest on, by place in the list.
    fn check(list: &[&str], host: &str, expected: &[usize]) {
        let (names, roots) = names(list);
        let first = names.longest(host.as_bytes(), |_, _| ());
        let all = std::iter::successors(first, |(name, _)| names.outer(name));
        let found: Vec<usize> = all
            .map(|(_, root)| {
                let is_of = |of: &[Root; 2]| of.contains(&root);
                roots.iter().position(is_of).unwrap()
            })
            .collect();
        assert_eq!(found, expected, "{host} of {list:?}");
    }

    #[test]
    fn a_host_belongs_to_itself_and_to_names_it_is_below_of() {
        let list = ["a.test", ".a.test", ".test", "b.a.test", ".x.b.a.test"];
        check(&list, "a.test", &[0, 2]);
        check(&list, "A.TEST", &[0, 2]);
        check(&list, "b.a.test", &[3, 1, 2]);
        check(&list, "c.b.a.test", &[1, 2]);
        check(&list, "y.x.B.a.test", &[4, 1, 2]);
        check(&list, "aa.test", &[2]);
        check(&list, "test", &[]);
        check(&list, "", &[]);
        check(&[], "a.test", &[]);
        check(&["a.test"], "b.test", &[]);
    }

    #[test]
    fn names_below_a_name_of_any_length_are_found() {
        for len in [1, 2, 62, 63, 64, 65, 127, 128, 200, 250] {
            let name = format!(".{}", "n".repeat(len));
            check(&[&name], &format!("x{name}"), &[0]);
            check(&[&name, ".t"], &format!("x{name}.t"), &[1]);
            check(&[&name], &format!("x.n{name}"), &[0]);
            check(&[&name], &format!("x.n{}", &name[1..]), &[]);
        }
        let longest = format!(".{}", "n".repeat(HOST_BYTES_MAX));
        check(&[&longest, ".t"], &longest, &[]);
    }

    #[test]
    fn dots_are_seen_wherever_they_stand() {
        for len in (0..26).chain([31, 32, 33, 63, 64, 65, 72, 73, 100_usize]) {
            assert_eq!(dots_from_the_end(&vec![b'-'; len]), 0);
            for (one, other) in (0..len).flat_map(|one| (0..len).map(move |other| (one, other))) {
                // Neighbours of a dot in the table of bytes are no dots, next to one neither.
                let mut host: Vec<u8> = (0..len).map(|at| b"-/\xAE\0"[at % 4]).collect();
                (host[one], host[other]) = (b'.', b'.');
                let bit_of = |at: usize| 1_u64.checked_shl(u32::try_from(len - at - 1).unwrap());
                let expected = bit_of(one).unwrap_or(0) | bit_of(other).unwrap_or(0);
                assert_eq!(dots_from_the_end(&host), expected, "{len} {one} {other}");
            }
        }
    }

    #[test]
    fn of_several_names_around_a_host_the_longest_comes_first() {
        let list = [".t", ".c.t", ".b.c.t", ".a.b.c.t", ".x.t"];
        check(&list, "z.a.b.c.t", &[3, 2, 1, 0]);
        check(&list, "z.z.b.c.t", &[2, 1, 0]);
        check(&list, "a.b.c.t", &[2, 1, 0]);
        check(&list, "b.a.x.t", &[4, 0]);
        check(&list, "z.x.c.t", &[1, 0]);
        let dots = ".".repeat(200);
        check(&list, &format!("{dots}.c.t"), &[1, 0]);
        check(&list, &dots, &[]);
    }

    #[test]
    fn texts_are_equal_when_all_their_bytes_are() {
        for len in 0..70_usize {
            let text = vec![b'a'; len];
            assert!(are_equal(&text, &text));
            assert!(!are_equal(&text, &vec![b'a'; len + 1]));
            for at in 0..len {
                let mut other = text.clone();
                other[at] = b'b';
                assert!(!are_equal(&text, &other), "{len} {at}");
            }
        }
    }

    #[test]
    fn of_many_names_each_is_found_and_no_other() {
        let all: Vec<String> = (0..3000)
            .map(|number| format!("{}{number}.test", ["a", ".shop-", "customer-"][number % 3]))
            .collect();
        let (names, _) = names(&all.iter().map(String::as_str).collect::<Vec<_>>());
        for name in &all {
            let (found, _) = names
                .longest(name.to_ascii_uppercase().as_bytes(), |_, _| ())
                .unwrap();
            assert_eq!(found.text.bytes(&names.texts), name.as_bytes());
            assert!(
                names
                    .longest(format!("x{name}").as_bytes(), |_, _| ())
                    .is_none_or(
                        |(found, _)| found.text.bytes(&names.texts) == name.as_bytes()
                            && name.starts_with('.')
                    )
            );
        }
    }

    #[test]
    fn names_of_any_length_differ_by_any_byte() {
        for len in 1..80_usize {
            let name = "n".repeat(len);
            for at in 0..len {
                let mut other = name.clone().into_bytes();
                other[at] = b'm';
                let (names, _) = names(&[&name]);
                assert!(names.longest(&other, |_, _| ()).is_none(), "{len} {at}");
                assert_ne!(hash(7, name.as_bytes()), hash(7, &other), "{len} {at}");
            }
        }
    }
}
