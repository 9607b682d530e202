//! The names of hosts that rules ask for, found by a hash of them.
//!
//! A host is looked for whole, then by its ends that begin with a dot, for names below; links lead from a name to the next shorter one
//! that is at its end. A look touches one slot, and the cache line of the name where there is one.

use super::index::{NearText, Text};
use crate::route::radix::{NONE, Root};
use crate::route::rule::HOST_BYTES_MAX;
use std::collections::BTreeMap;

/// All names. Built once.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    all: Vec<Name>,
    /// At least twice as many as there are names, and a power of two; none where there is no name.
    slots: Vec<Slot>,
    seed: u64,
    /// The most dots that a name with hosts below it has.
    dots_max: usize,
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
    /// The longest name with a dot that it ends with, or [`NONE`].
    outer: u32,
}

const _: () = assert!(size_of::<Name>() == 64, "a name is one cache line");

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Of the name's hash, so that other names need not be looked at.
    tag: u32,
    /// [`NONE`] where there is none.
    name: u32,
}

impl Names {
    /// Names, each with the trees of the paths of itself and of names below it.
    pub(super) fn new(names: &BTreeMap<String, (Root, Root)>) -> Self {
        let mut made = Self {
            // Whoever may choose one name, and wants it to meet others, does not know all of them.
            seed: names
                .keys()
                .fold(1, |seed, name| hash(seed, name.as_bytes())),
            ..Self::default()
        };
        let numbers: BTreeMap<&str, u32> = names.keys().map(String::as_str).zip(0..).collect();
        for (name, (is, below)) in names {
            let ends = name.match_indices('.').map(|(dot, _)| name.get(dot..));
            let mut ends = ends.flatten().filter(|end| end.len() < name.len());
            let outer = ends.find_map(|end| numbers.get(end));
            if name.starts_with('.') {
                made.dots_max = made.dots_max.max(name.matches('.').count());
            }
            let text = made.near_text(name);
            made.all.push(Name {
                text,
                is: *is,
                below: *below,
                outer: outer.copied().unwrap_or(NONE),
            });
        }
        if !names.is_empty() {
            made.fill_slots(names);
        }
        made
    }

    fn fill_slots(&mut self, names: &BTreeMap<String, (Root, Root)>) {
        let free = Slot { tag: 0, name: NONE };
        self.slots = vec![free; (2 * names.len()).next_power_of_two()];
        let last = self.slots.len() - 1;
        for (number, name) in (0..).zip(names.keys()) {
            let hash = hash(self.seed, name.as_bytes());
            let mut place = place_of(hash) & last;
            // Ends: half of the slots stay free.
            while self.slots.get(place).is_some_and(|slot| slot.name != NONE) {
                place = (place + 1) & last;
            }
            if let Some(slot) = self.slots.get_mut(place) {
                *slot = Slot {
                    tag: tag_of(hash),
                    name: number,
                };
            }
        }
    }

    fn near_text(&mut self, text: &str) -> NearText {
        let start = self.texts.len();
        NearText::new(text, |text| {
            self.texts.push_str(text);
            Text::new(start, text.len())
        })
    }

    /// The longest name that a host is, or is below of.
    #[inline]
    pub(super) fn longest(&self, host: &[u8]) -> Option<&Name> {
        if self.slots.is_empty() || host.len() > HOST_BYTES_MAX {
            return None;
        }
        if let Some(name) = self.named(host) {
            return Some(name);
        }
        let dots = memchr::memrchr_iter(b'.', host).take(self.dots_max);
        let names = dots.filter_map(|dot| self.named(host.get(dot..)?));
        names.last()
    }

    /// The trees of the paths of a host whose longest name this is, and after it, of the names around it.
    #[inline]
    pub(super) fn paths<'n>(
        &'n self,
        longest: &'n Name,
        host: &[u8],
    ) -> impl Iterator<Item = Root> + use<'n> {
        let is_whole = longest.text.whole.len as usize == host.len();
        let first = if is_whole { longest.is } else { longest.below };
        let outer = |name: &&Name| self.all.get(name.outer as usize);
        let around = std::iter::successors(outer(&longest), outer);
        std::iter::once(first).chain(around.map(|name| name.below))
    }

    #[inline]
    fn named(&self, host: &[u8]) -> Option<&Name> {
        let hash = hash(self.seed, host);
        let last = self.slots.len() - 1;
        let mut place = place_of(hash) & last;
        loop {
            let slot = self.slots.get(place)?;
            if slot.name == NONE {
                return None;
            }
            if slot.tag == tag_of(hash) {
                let name = self.all.get(slot.name as usize)?;
                let text = name.text.bytes(&self.texts);
                // Nearly all hosts come in lower case.
                if host == text || host.eq_ignore_ascii_case(text) {
                    return Some(name);
                }
            }
            place = (place + 1) & last;
        }
    }
}

/// The same for all cases of a name; names that differ may meet, and are compared.
#[inline]
fn hash(seed: u64, name: &[u8]) -> u64 {
    let mixed = |hash: u64, bytes: [u8; 8]| {
        let word = u64::from_le_bytes(bytes) | LOWER;
        let product = u128::from(hash ^ word) * u128::from(FACTOR);
        let [high, low] = [product >> 64, product].map(|half| half & u128::from(u64::MAX));
        u64::try_from(high ^ low).unwrap_or_default() // It has 64 bits.
    };
    let (words, rest) = name.as_chunks::<8>();
    let hash = words.iter().fold(seed, |hash, word| mixed(hash, *word));
    match (name.last_chunk::<8>(), rest) {
        (_, []) => mixed(hash, [0; 8]),
        // Some bytes a second time, which costs less than one by one.
        (Some(last), _) => mixed(hash, *last),
        (None, short) => {
            let mut bytes = [0; 8];
            for (to, from) in bytes.iter_mut().zip(short) {
                *to = *from;
            }
            mixed(hash, bytes)
        }
    }
}

/// The lower half decides where it is looked for.
fn place_of(hash: u64) -> usize {
    usize::try_from(hash & u64::from(u32::MAX)).unwrap_or_default() // It has 32 bits.
}

/// And the upper half, who may be meant.
fn tag_of(hash: u64) -> u32 {
    u32::try_from(hash >> 32).unwrap_or_default() // It has 32 bits.
}

/// What tells lower case from upper case, in each byte of a word.
const LOWER: u64 = 0x2020_2020_2020_2020;
/// 2^64 divided by the golden ratio, odd.
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::radix::Forest;

    /// Trees that can be told apart, for names in this order; no path is looked for in them.
    fn names(list: &[&str]) -> (Names, Vec<[Root; 2]>) {
        let mut forest = Forest::default();
        let mut number = 0..;
        let mut root = || {
            let entry = number.next().unwrap();
            forest.grow(&[(b"/", entry)]).0
        };
        let roots: Vec<[Root; 2]> = list.iter().map(|_| [root(), root()]).collect();
        let named = list.iter().zip(&roots);
        let all = named.map(|(name, [is, below])| ((*name).to_owned(), (*is, *below)));
        (Names::new(&all.collect()), roots)
    }

    /// The names that a host belongs to, from the longest on, by place in the list.
    fn check(list: &[&str], host: &str, expected: &[usize]) {
        let (names, roots) = names(list);
        let found = names.longest(host.as_bytes());
        let paths = found.map(|name| names.paths(name, host.as_bytes()));
        let found: Vec<usize> = paths
            .into_iter()
            .flatten()
            .map(|root| {
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
    fn of_many_names_each_is_found_and_no_other() {
        let all: Vec<String> = (0..3000)
            .map(|number| format!("{}{number}.test", ["a", ".shop-", "customer-"][number % 3]))
            .collect();
        let (names, _) = names(&all.iter().map(String::as_str).collect::<Vec<_>>());
        for name in &all {
            let found = names.longest(name.to_ascii_uppercase().as_bytes()).unwrap();
            assert_eq!(found.text.bytes(&names.texts), name.as_bytes());
            assert!(
                names
                    .longest(format!("x{name}").as_bytes())
                    .is_none_or(|found| found.text.bytes(&names.texts) == name.as_bytes()
                        && name.starts_with('.'))
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
                assert!(names.longest(&other).is_none(), "{len} {at}");
                assert_ne!(hash(7, name.as_bytes()), hash(7, &other), "{len} {at}");
            }
        }
    }
}
