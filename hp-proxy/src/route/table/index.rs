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
//! therefore kept apart from the rules, which have it in the words of the configuration: one cache line for each name, a quarter of one for
//! each rule, and what many rules have in common once for all of them. Nor are steps foreseen that depend on the request: what is
//! cheap is computed without a branch.

use super::filter::{Filter, Start};
use super::names::{Name, Names};
use crate::route::automaton::{Automata, Automaton};
use crate::route::radix::{Forest, Root};
use crate::route::rule::{PathRule, Rule, parameter};
use crate::route::{Facts, RouteId};
use hp_core::sys::arena::Kept;
use hp_core::sys::cpu::prefetch;
use hp_core::wire::header::Fields;

/// The index of a list of rules.
#[derive(Clone, Debug)]
pub(super) struct Index {
    pub(super) names: Names,
    /// Of paths.
    pub(super) forest: Forest,
    /// The paths of rules for any host.
    pub(super) any_host: (Root, Filter),
    pub(super) leaves: Kept<Leaf>,
    pub(super) more: Kept<More>,
    pub(super) checks: Kept<Check>,
    pub(super) automata: Automata,
    pub(super) texts: String,
    /// The route of each rule; empty where rule and route have the same number everywhere.
    pub(super) routes: Vec<RouteId>,
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
    beginning: [u8; NAME_MAX],
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

    /// The same without a look at where its letters begin.
    #[inline]
    fn bytes(self, texts: &str) -> &[u8] {
        let (start, len) = (self.start as usize, self.len as usize);
        let bytes = texts.as_bytes().get(start..start + len);
        bytes.unwrap_or_default()
    }
}

impl NearText {
    /// A text, which `keep` is given if it is long.
    pub(super) fn new(text: &str, keep: impl FnOnce(&str) -> Text) -> Self {
        let mut beginning = [0; NAME_MAX];
        for (to, from) in beginning.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        let whole = if text.len() > NAME_MAX {
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
            None => self.whole.bytes(texts),
        }
    }
}

/// Bytes of a text that lie where it is used.
const NAME_MAX: usize = 32;

/// What of one rule is looked at and is nearly always its own.
#[derive(Clone, Copy, Debug)]
#[repr(align(16))]
pub(super) struct Leaf {
    /// How the literal ends, with zeros behind it where it is shorter.
    pub(super) end: [u8; END_MAX],
    pub(super) rule: u32,
    /// The place of what is left to say, with [`LAST`] set where no other leaf of the literal follows.
    pub(super) more: u32,
}

const _: () = assert!(size_of::<Leaf>() == 16, "a cache line has four leaves");

/// Most bytes of a literal that lie in its leaf.
pub(super) const END_MAX: usize = 8;
/// Most bytes of a literal that lie before those.
pub(super) const NEAR_MAX: usize = 16;
/// In [`Leaf::more`].
pub(super) const LAST: u32 = 1 << 31;

/// What leaves take, as bits.
pub(super) struct Traits;

impl Traits {
    /// Paths that end with the literal.
    pub(super) const END: u8 = 1;
    /// Paths with a slash behind it.
    pub(super) const SLASH: u8 = 1 << 1;
    /// Paths that go on otherwise.
    pub(super) const OTHER: u8 = 1 << 2;
    /// Any method, as far as is said here.
    pub(super) const ANY_METHOD: u8 = 1 << 3;
    /// Host, path and method decide; nothing else is asked for.
    pub(super) const PLAIN: u8 = 1 << 4;
    /// The rule's expression is to be searched for.
    pub(super) const SEARCHED: u8 = 1 << 5;
}

/// What there is to say of a rule besides its leaf, once for all leaves of which it is the same: so it was nearly always used lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(align(64))]
pub(super) struct More {
    /// How many bytes the literal has.
    pub(super) len: u32,
    /// How many of them are in the leaf.
    pub(super) end_len: u8,
    /// A bit for each standard method that is taken.
    pub(super) methods: u8,
    /// Of [`Traits`].
    pub(super) traits: u8,
    /// How many bytes of the literal the automaton begins before its end.
    pub(super) back: u8,
    /// What stands before the others, in long literals.
    pub(super) far: Text,
    /// What stands before the end, with zeros behind it.
    pub(super) near: [u8; NEAR_MAX],
    /// The first leaf of the longest other literal that this one begins with, or [`NONE`](crate::route::radix::NONE).
    pub(super) outer: u32,
    pub(super) asks: Asks,
    /// Of what follows the literal.
    pub(super) automaton: Option<Automaton>,
}

const _: () = assert!(size_of::<More>() == 64, "it is one cache line");

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Check {
    pub(super) of: Part,
    pub(super) name: Text,
    /// `None`: it is there.
    pub(super) value: Option<Text>,
    /// No other check of the rule follows.
    pub(super) is_last: bool,
}

/// Where in a request it is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Fields,
    Query,
}

impl Index {
    /// The longest name that a host is, or is below of, with the tree of its paths there.
    #[inline]
    pub(super) fn of_host(&self, host: &[u8]) -> Option<(&Name, Root)> {
        let host = host.strip_suffix(b".").unwrap_or(host);
        self.names
            .longest(host, |root, leaves| self.foresee(root, leaves))
    }

    /// The place of the most specific rule that takes a request, among those that it was made from, and its route; `at` is
    /// [`Self::of_host`] of its host.
    #[inline]
    pub(super) fn find<'i>(
        &'i self,
        mut at: Option<(&'i Name, Root)>,
        rules: &[(RouteId, Rule)],
        facts: &Facts<'_>,
    ) -> Option<(u32, RouteId)> {
        let first = up_to_8(facts.path.as_bytes());
        // From name to name, and then to any host.
        loop {
            let (name, paths, filter) = match at {
                Some((name, paths)) => (Some(name), paths, name.filter()),
                None => (None, self.any_host.0, &self.any_host.1),
            };
            let start = filter.start(first);
            if let Some(leaf) = self.find_in((paths, start), rules, facts) {
                let route = self.routes.get(leaf.rule as usize).copied();
                return Some((leaf.rule, route.unwrap_or(RouteId(leaf.rule))));
            }
            at = self.names.outer(name?);
        }
    }

    /// Asks for memory that will be looked at if a name is the right one: its tree and its leaves, all at once and not one after the other.
    #[inline]
    fn foresee(&self, root: Root, leaves: u32) {
        self.forest.bring_near(root);
        let leaves = self.leaves.as_ptr().wrapping_add(leaves as usize);
        prefetch(leaves.cast(), LEAF_LINES);
    }

    /// How many bytes its parts take, by what they are.
    pub(super) fn sizes(&self) -> [(&'static str, usize); 9] {
        let Self {
            names,
            forest,
            any_host: _,
            leaves,
            more,
            checks,
            automata,
            texts,
            routes,
        } = self;
        let [slots, names] = names.sizes();
        [
            ("slots of names", slots),
            ("names", names),
            ("nodes of trees", forest.size()),
            ("leaves", size_of_val(&**leaves)),
            ("what leaves share", size_of_val(&**more)),
            ("fields and parameters", size_of_val(&**checks)),
            ("automata", automata.size()),
            ("texts", texts.len()),
            ("routes of rules", size_of_val(routes.as_slice())),
        ]
    }

    #[inline]
    fn find_in(
        &self,
        (paths, start): (Root, Start),
        rules: &[(RouteId, Rule)],
        facts: &Facts<'_>,
    ) -> Option<&Leaf> {
        let path = facts.path.as_bytes();
        let method = bit_of(facts.method);
        let byte = |place: usize| path.get(place).copied().unwrap_or_default();
        let mut place = match start {
            Start::Root => self.forest.walk(paths, byte)?,
            Start::Leaf(_) if paths == Root::EMPTY => return None, // The filter is that of the name's other tree.
            Start::Leaf(place) => place,
        };
        let (mut leaf, mut more) = self.leaf(place)?;
        let common = self.in_common(leaf, more, path);
        loop {
            let len = more.len as usize;
            let mut next = more.outer;
            if len <= common {
                let is_there = more.traits & behind(path, len) != 0;
                let has_method = (more.methods & method) | (more.traits & Traits::ANY_METHOD) != 0;
                if is_there & has_method
                    && (more.traits & Traits::PLAIN != 0
                        || self.accepts((leaf, more), rules, facts))
                {
                    return Some(leaf);
                }
                if leaf.more & LAST == 0 {
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
        Some((leaf, self.more.get((leaf.more & !LAST) as usize)?))
    }

    /// How many bytes a path and the literal of a leaf have in common, as far as the literal goes.
    #[inline]
    fn in_common(&self, leaf: &Leaf, more: &More, path: &[u8]) -> usize {
        let mut start = 0;
        let end_len = usize::from(more.end_len);
        let before = (more.len as usize).saturating_sub(end_len);
        if before > 0 {
            if more.far.len > 0 {
                let far = more.far.bytes(&self.texts);
                start = equal_bytes(far, path);
                if start < far.len() {
                    return start;
                }
            }
            let near = path.get(start..).unwrap_or_default();
            let difference = u128::from_le_bytes(more.near) ^ up_to_16(near);
            start += equal_of(difference.trailing_zeros(), before - start, near);
            if start < before {
                return start;
            }
        }
        let end = path.get(start..).unwrap_or_default();
        let difference = u64::from_le_bytes(leaf.end) ^ up_to_8(end);
        start + equal_of(difference.trailing_zeros(), end_len, end)
    }

    /// Whether what a rule asks for besides host, literal and method holds.
    fn accepts(
        &self,
        (leaf, more): (&Leaf, &More),
        rules: &[(RouteId, Rule)],
        facts: &Facts<'_>,
    ) -> bool {
        let rule = || rules.get(leaf.rule as usize).map(|(_, rule)| rule);
        if let Some(automaton) = more.automaton {
            let start = more.len as usize - usize::from(more.back);
            let rest = facts.path.as_bytes().get(start..).unwrap_or_default();
            if !self.automata.matches(automaton, rest) {
                return false;
            }
        } else if more.traits & Traits::SEARCHED != 0 {
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
            let found = match check.of {
                Part::Fields => named(facts.fields, check.name.bytes(&self.texts)),
                Part::Query => {
                    let query = facts.query.unwrap_or_default();
                    parameter(query, check.name.of(&self.texts)).map(str::as_bytes)
                }
            };
            let holds = match (found, check.value) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(value), Some(wanted)) => value == wanted.bytes(&self.texts),
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

/// The value of the first field with a name. Others are known by their length or their first letter, and nearly all names come in the case that they were written
/// in.
#[inline]
fn named<'b>(fields: &Fields<'_, 'b>, name: &[u8]) -> Option<&'b [u8]> {
    let initial = |name: &[u8]| name.first().map(u8::to_ascii_lowercase);
    let wanted = (name.len(), initial(name));
    let is_it = |other: &[u8]| {
        (other.len(), initial(other)) == wanted
            && (other == name || other.eq_ignore_ascii_case(name))
    };
    let mut fields = fields.iter();
    let (_, _, value) = fields.find(|(_, other, _)| is_it(other.as_bytes()))?;
    Some(value)
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

/// With how many equal bytes a text of so many bytes and another one begin, where so many of the lowest bits of their first bytes are equal.
#[inline]
fn equal_of(bits: u32, len: usize, other: &[u8]) -> usize {
    (bits as usize / 8).min(len).min(other.len())
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
    u128::from(up_to_8(text))
}

/// The same of the first eight bytes.
#[inline]
pub(super) fn up_to_8(text: &[u8]) -> u64 {
    if let Some(first) = text.first_chunk::<8>() {
        return u64::from_le_bytes(*first);
    }
    if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        let [first, last] = [first, last].map(|word| u64::from(u32::from_le_bytes(*word)));
        return first | last << (8 * (text.len() - 4));
    }
    let bytes = text.iter().rev();
    bytes.fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// So many lines of leaves are asked for: nine leaves have room there, wherever the first begins.
const LEAF_LINES: usize = 3;

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
            let mut expected = [0; NEAR_MAX];
            for (to, from) in expected.iter_mut().zip(&text) {
                *to = *from;
            }
            assert_eq!(up_to_16(&text).to_le_bytes(), expected, "{len}");
            assert_eq!(up_to_8(&text).to_le_bytes(), expected[..END_MAX], "{len}");
            for short in 0..=NEAR_MAX {
                let mut ends = expected;
                ends.iter_mut().skip(short).for_each(|byte| *byte = 0);
                let difference = u128::from_le_bytes(ends) ^ up_to_16(&text);
                let equal = equal_of(difference.trailing_zeros(), short, &text);
                assert_eq!(equal, short.min(len), "{len} {short}");
            }
        }
    }
}
