//! The way from a request to its route, without a look at the others.
//!
//! ```text
//! host ─► name ─► paths of that name ─► tree ─► leaves of one literal: = exact, ~ patterns, prefix...
//!           └─► outer: a shorter name                └─► outer: a shorter literal
//! ```
//! From the most specific host to none, and from the longest literal to the shortest: the first rule that takes the request is the most
//! specific one.
//!
//! With many routes nearly all of the time goes into waiting for memory that was not used lately. What a request is judged by is
//! therefore kept apart from the rules, which have it in the words of the configuration: one cache line for each name, half of one for
//! each rule, and what many rules have in common once for all of them. Nor are steps foreseen that depend on the request: what is
//! cheap is computed without a branch.

use super::names::{Names, Trees};
use crate::route::automaton::Automata;
use crate::route::radix::{Forest, NONE, Root};
use crate::route::rule::{PathRule, Rule, parameter};
use crate::route::{Facts, RouteId};
use hp_core::sys::cpu::prefetch;

/// The index of a list of rules.
#[derive(Clone, Debug)]
pub(super) struct Index {
    pub(super) names: Names,
    /// Of paths.
    pub(super) forest: Forest,
    /// The paths of rules for any host.
    pub(super) any_host: Root,
    pub(super) leaves: Vec<Leaf>,
    pub(super) more: Vec<More>,
    pub(super) checks: Vec<Check>,
    pub(super) automata: Automata,
    pub(super) texts: String,
}

/// A part of the texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Text {
    pub(super) start: u32,
    pub(super) len: u32,
}

/// A text whose beginning lies here, so that nearly all are read without another look into memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct NearText {
    pub(super) whole: Text,
    beginning: [u8; NEAR_MAX],
}

impl Text {
    /// Where a text of so many bytes begins. Texts are fewer than 2^32 bytes: those of a configuration have a bound.
    pub(super) fn new(start: usize, len: usize) -> Self {
        let number = |value| u32::try_from(value).expect("the text of a configuration is bounded");
        Self {
            start: number(start),
            len: number(len),
        }
    }

    #[inline]
    pub(super) fn of(self, texts: &str) -> &str {
        let (start, len) = (self.start as usize, self.len as usize);
        texts.get(start..start + len).unwrap_or_default()
    }
}

impl NearText {
    /// A text, which `keep` is given if it is long.
    pub(super) fn new(text: &str, keep: impl FnOnce(&str) -> Text) -> Self {
        let mut beginning = [0; NEAR_MAX];
        for (to, from) in beginning.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        let whole = if text.len() > NEAR_MAX {
            keep(text)
        } else {
            Text::new(0, text.len()) // It is read from here alone.
        };
        Self { whole, beginning }
    }

    /// All of it; long ones are among `texts`.
    #[inline]
    pub(super) fn bytes<'t>(&'t self, texts: &'t str) -> &'t [u8] {
        match self.beginning.get(..self.whole.len as usize) {
            Some(whole) => whole,
            None => self.whole.of(texts).as_bytes(),
        }
    }
}

/// Bytes of a text that lie where it is used.
pub(super) const NEAR_MAX: usize = 32;

/// What of one rule is looked at.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub(super) struct Leaf {
    /// How the literal ends, with zeros behind it where it is shorter.
    pub(super) end: [u8; END_MAX],
    /// How many bytes of the literal that are.
    pub(super) end_len: u8,
    /// A bit for each standard method that it takes.
    pub(super) methods: u8,
    /// Of [`Traits`].
    pub(super) traits: u8,
    pub(super) rule: u32,
    pub(super) route: RouteId,
    /// What is left to say.
    pub(super) more: u32,
}

const _: () = assert!(size_of::<Leaf>() == 32, "a cache line has two leaves");

/// Most bytes of a literal that lie in its leaf.
pub(super) const END_MAX: usize = 16;

/// What a leaf takes, as bits.
pub(super) struct Traits;

impl Traits {
    /// Paths that end with the literal.
    pub(super) const END: u8 = 1;
    /// Paths with a slash behind it.
    pub(super) const SLASH: u8 = 1 << 1;
    /// Paths that go on otherwise.
    pub(super) const OTHER: u8 = 1 << 2;
    /// Any method, as far as the leaf knows.
    pub(super) const ANY_METHOD: u8 = 1 << 3;
    /// No other leaf of the literal follows.
    pub(super) const LAST: u8 = 1 << 4;
    /// Host, path and method decide; [`More`] asks for nothing.
    pub(super) const PLAIN: u8 = 1 << 5;
}

/// What leaves may have besides, once for all that have the same: so it was nearly always used lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct More {
    /// How many bytes of the literal stand before its end: those of `far` and of `near`.
    pub(super) before: u32,
    /// What stands before the others, in long literals.
    pub(super) far: Text,
    /// What stands before the end, with zeros behind it.
    pub(super) near: [u8; END_MAX],
    /// The first leaf of the longest other literal that this one begins with, or [`NONE`].
    pub(super) outer: u32,
    pub(super) asks: Asks,
    /// Of what follows the literal, or [`NONE`].
    pub(super) automaton: u32,
    /// How many bytes of the literal the automaton begins before its end.
    pub(super) back: u8,
    /// The rule's expression is to be searched for.
    pub(super) is_searched: bool,
}

/// What a rule asks for besides host, path and standard methods: the place of its first check, or one of the constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asks(pub(super) u32);

impl Asks {
    /// Nothing.
    pub(super) const NOTHING: Self = Self(u32::MAX);
    /// What only the rule can tell.
    pub(super) const RULE: Self = Self(u32::MAX - 1);
}

/// What one field, or one parameter of the query, must be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Check {
    pub(super) of: Part,
    pub(super) name: Text,
    /// `None`: it is there.
    pub(super) value: Option<Text>,
    /// No other check of the rule follows.
    pub(super) is_last: bool,
}

/// Where in a request it is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Fields,
    Query,
}

impl Index {
    /// The place of the most specific rule that takes a request, among those that it was made from, and its route.
    #[inline]
    pub(super) fn find(
        &self,
        rules: &[(RouteId, Rule)],
        facts: &Facts<'_>,
    ) -> Option<(u32, RouteId)> {
        let host = facts.host.strip_suffix(b".").unwrap_or(facts.host);
        let mut at = self.names.longest(host, |trees| self.foresee(trees));
        // From name to name, and then to any host.
        loop {
            let (name, paths) = match at {
                Some((name, paths)) => (Some(name), paths),
                None => (None, self.any_host),
            };
            if let Some(leaf) = self.find_in(paths, rules, facts) {
                return Some((leaf.rule, leaf.route));
            }
            at = self.names.outer(name?);
        }
    }

    /// Asks for memory that will be looked at if a name is the right one: its trees and leaves, all at once and not one after the other.
    #[inline]
    fn foresee(&self, trees: &Trees) {
        let is_below = trees.is == Root::EMPTY;
        self.forest
            .bring_near(if is_below { trees.below } else { trees.is });
        let leaves = self.leaves.as_ptr().wrapping_add(trees.leaves as usize);
        prefetch(leaves.cast(), LEAF_LINES);
    }

    #[inline]
    fn find_in(&self, paths: Root, rules: &[(RouteId, Rule)], facts: &Facts<'_>) -> Option<&Leaf> {
        let path = facts.path.as_bytes();
        let method = bit_of(facts.method);
        let byte = |place: usize| path.get(place).copied().unwrap_or_default();
        let mut place = self.forest.walk(paths, byte)?;
        let (mut leaf, mut more) = self.leaf(place)?;
        let common = self.in_common(leaf, more, path);
        loop {
            let len = leaf.literal_len(more);
            let mut next = more.outer;
            if len <= common {
                let is_there = leaf.traits & behind(path, len) != 0;
                let has_method = (leaf.methods & method) | (leaf.traits & Traits::ANY_METHOD) != 0;
                if is_there & has_method
                    && (leaf.traits & Traits::PLAIN != 0
                        || self.accepts((leaf, more), rules, facts))
                {
                    return Some(leaf);
                }
                if leaf.traits & Traits::LAST == 0 {
                    next = place + 1;
                }
            }
            place = next;
            (leaf, more) = self.leaf(place)?;
        }
    }

    #[inline]
    fn leaf(&self, place: u32) -> Option<(&Leaf, &More)> {
        let leaf = self.leaves.get(place as usize)?;
        Some((leaf, self.more.get(leaf.more as usize)?))
    }

    /// How many bytes a path and the literal of a leaf have in common, as far as the literal goes.
    #[inline]
    fn in_common(&self, leaf: &Leaf, more: &More, path: &[u8]) -> usize {
        let mut start = 0;
        if more.before > 0 {
            let before = more.before as usize;
            if more.far.len > 0 {
                let far = more.far.of(&self.texts).as_bytes();
                start = equal_bytes(far, path);
                if start < far.len() {
                    return start;
                }
            }
            let near = path.get(start..).unwrap_or_default();
            start += begin_alike(more.near, before - start, near);
            if start < before {
                return start;
            }
        }
        let end = path.get(start..).unwrap_or_default();
        start + begin_alike(leaf.end, usize::from(leaf.end_len), end)
    }

    /// Whether what a rule asks for besides host, literal and method holds.
    fn accepts(
        &self,
        (leaf, more): (&Leaf, &More),
        rules: &[(RouteId, Rule)],
        facts: &Facts<'_>,
    ) -> bool {
        let rule = || rules.get(leaf.rule as usize).map(|(_, rule)| rule);
        if more.automaton != NONE {
            let start = leaf.literal_len(more) - usize::from(more.back);
            let rest = facts.path.as_bytes().get(start..).unwrap_or_default();
            if !self.automata.matches(more.automaton, rest) {
                return false;
            }
        } else if more.is_searched {
            let Some(PathRule::Matches(pattern)) = rule().map(|rule| &rule.path) else {
                return false; // Never: it was made of one.
            };
            if !pattern.matches(facts.path) {
                return false;
            }
        }
        match more.asks {
            Asks::NOTHING => true,
            Asks::RULE => rule().is_some_and(|rule| rule.accepts(facts).is_ok()),
            Asks(first) => self.checks_hold(first, facts),
        }
    }

    fn checks_hold(&self, first: u32, facts: &Facts<'_>) -> bool {
        let checks = self.checks.get(first as usize..).unwrap_or_default();
        for check in checks {
            let name = check.name.of(&self.texts);
            let found = match check.of {
                Part::Fields => facts.fields.named(name),
                Part::Query => {
                    let query = facts.query.unwrap_or_default();
                    parameter(query, name).map(str::as_bytes)
                }
            };
            let holds = match (found, check.value) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(value), Some(wanted)) => value == wanted.of(&self.texts).as_bytes(),
            };
            if !holds {
                return false;
            }
            if check.is_last {
                break;
            }
        }
        true
    }
}

impl Leaf {
    #[inline]
    fn literal_len(&self, more: &More) -> usize {
        more.before as usize + usize::from(self.end_len)
    }
}

/// What follows so many bytes of a path, as one of [`Traits`].
#[inline]
fn behind(path: &[u8], len: usize) -> u8 {
    match path.get(len) {
        None => Traits::END,
        Some(b'/') => Traits::SLASH,
        Some(_) => Traits::OTHER,
    }
}

/// With how many equal bytes two texts begin.
#[inline]
fn equal_bytes(one: &[u8], other: &[u8]) -> usize {
    let pairs = one.iter().zip(other);
    pairs.take_while(|(a, b)| a == b).count()
}

/// With how many equal bytes a short text and another one begin.
#[inline]
fn begin_alike(short: [u8; END_MAX], len: usize, other: &[u8]) -> usize {
    let difference = u128::from_le_bytes(short) ^ up_to_16(other);
    let equal = difference.trailing_zeros() as usize / 8;
    equal.min(len).min(other.len())
}

/// The first bytes of a text, with zeros where it is shorter.
#[inline]
fn up_to_16(text: &[u8]) -> u128 {
    if let Some(first) = text.first_chunk::<16>() {
        return u128::from_le_bytes(*first);
    }
    if let (Some(first), Some(last)) = (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        let [first, last] = [first, last].map(|word| u128::from(u64::from_le_bytes(*word)));
        return first | last << (8 * (text.len() - 8));
    }
    if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        let [first, last] = [first, last].map(|word| u128::from(u32::from_le_bytes(*word)));
        return first | last << (8 * (text.len() - 4));
    }
    let bytes = text.iter().rev();
    bytes.fold(0, |word, byte| word << 8 | u128::from(*byte))
}

/// So many lines of leaves are asked for: ten leaves have room there.
const LEAF_LINES: usize = 5;

/// The bit of a standard method (RFC 9110 §9.3, RFC 5789); none of any other, CONNECT included.
#[inline]
pub(super) fn bit_of(method: &str) -> u8 {
    match method {
        "GET" => 1,
        "HEAD" => 1 << 1,
        "POST" => 1 << 2,
        "PUT" => 1 << 3,
        "DELETE" => 1 << 4,
        "OPTIONS" => 1 << 5,
        "TRACE" => 1 << 6,
        "PATCH" => 1 << 7,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_of_a_text_of_any_length_are_a_word() {
        for len in 0..40_usize {
            let text: Vec<u8> = (1..).take(len).collect();
            let mut expected = [0; END_MAX];
            for (to, from) in expected.iter_mut().zip(&text) {
                *to = *from;
            }
            assert_eq!(up_to_16(&text).to_le_bytes(), expected, "{len}");
            for short in 0..=END_MAX {
                let mut ends = expected;
                ends.iter_mut().skip(short).for_each(|byte| *byte = 0);
                assert_eq!(
                    begin_alike(ends, short, &text),
                    short.min(len),
                    "{len} {short}"
                );
            }
        }
    }
}
