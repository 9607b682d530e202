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
//! therefore kept apart from the rules, which have it in the words of the configuration: one cache line for each name and for each
//! rule, with its text where that is short, and what many routes ask for once for all of them.

use super::names::Names;
use crate::route::automaton::Automata;
use crate::route::radix::{Forest, Root};
use crate::route::rule::{PathRule, Rule, parameter};
use crate::route::{Facts, RouteId};

/// The index of a list of rules.
#[derive(Clone, Debug)]
pub(super) struct Index {
    pub(super) names: Names,
    /// Of paths.
    pub(super) forest: Forest,
    /// The paths of rules for any host.
    pub(super) any_host: Root,
    pub(super) leaves: Vec<Leaf>,
    pub(super) checks: Vec<Check>,
    pub(super) automata: Automata,
    pub(super) texts: String,
}

/// A part of the texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    fn of(self, texts: &str) -> &str {
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

/// What of one rule is looked at.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Leaf {
    pub(super) literal: NearText,
    /// The first leaf of the longest other literal that this one begins with, or [`NONE`](crate::route::radix::NONE).
    pub(super) outer: u32,
    pub(super) rule: u32,
    pub(super) route: RouteId,
    pub(super) asks: Asks,
    /// Of what follows the literal.
    pub(super) automaton: u32,
    /// A bit for each standard method that it takes; none: any, or see `asks`.
    pub(super) methods: u8,
    pub(super) kind: Kind,
    /// How many bytes of the literal the automaton begins before its end.
    pub(super) back: u8,
    /// No other leaf of the literal follows.
    pub(super) is_last: bool,
}

const _: () = assert!(size_of::<Leaf>() == 64, "a leaf is one cache line");

/// Bytes of a text that lie where it is used.
pub(super) const NEAR_MAX: usize = 32;

/// Which paths that begin with the literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Itself.
    Is,
    /// Those whose rest the automaton takes.
    Matches,
    /// Those that the rule's expression matches.
    Searched,
    /// Those where a segment ends there.
    Prefix,
    /// All of them: it ends a segment itself.
    All,
}

/// What a rule asks for besides host, path and standard methods: the place of its first check, or one of the constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    pub(super) fn find(
        &self,
        rules: &[(RouteId, Rule)],
        facts: &Facts<'_>,
    ) -> Option<(u32, RouteId)> {
        let host = facts.host.strip_suffix(b".").unwrap_or(facts.host);
        if let Some(name) = self.names.longest(host) {
            for paths in self.names.paths(name, host) {
                if let Some(leaf) = self.find_in(paths, rules, facts) {
                    return Some((leaf.rule, leaf.route));
                }
            }
        }
        let leaf = self.find_in(self.any_host, rules, facts)?;
        Some((leaf.rule, leaf.route))
    }

    #[inline]
    fn find_in(&self, paths: Root, rules: &[(RouteId, Rule)], facts: &Facts<'_>) -> Option<&Leaf> {
        let path = facts.path.as_bytes();
        let mut at = self.longest_literal(paths, path);
        while let Some((place, leaf)) = at {
            if self.takes_path(leaf, rules, facts) && self.accepts(leaf, rules, facts) {
                return Some(leaf);
            }
            let next = if leaf.is_last { leaf.outer } else { place + 1 };
            at = self.leaves.get(next as usize).map(|leaf| (next, leaf));
        }
        None
    }

    /// The first leaf of the longest literal that a path begins with.
    #[inline]
    fn longest_literal(&self, paths: Root, path: &[u8]) -> Option<(u32, &Leaf)> {
        let byte = |place: usize| path.get(place).copied().unwrap_or_default();
        let mut place = self.forest.walk(paths, byte)?;
        let mut leaf = self.leaves.get(place as usize)?;
        let literal = leaf.literal.bytes(&self.texts);
        if !path.starts_with(literal) {
            let pairs = path.iter().zip(literal);
            let common = pairs.take_while(|(a, b)| a == b).count();
            while leaf.literal.whole.len as usize > common {
                place = leaf.outer;
                leaf = self.leaves.get(place as usize)?;
            }
        }
        Some((place, leaf))
    }

    /// Whether a rule takes a path that begins with its literal.
    #[inline]
    fn takes_path(&self, leaf: &Leaf, rules: &[(RouteId, Rule)], facts: &Facts<'_>) -> bool {
        let path = facts.path.as_bytes();
        let len = leaf.literal.whole.len as usize;
        match leaf.kind {
            Kind::All => true,
            Kind::Prefix => matches!(path.get(len), None | Some(b'/')),
            Kind::Is => path.len() == len,
            Kind::Matches => {
                let rest = path.get(len - usize::from(leaf.back)..);
                self.automata
                    .matches(leaf.automaton, rest.unwrap_or_default())
            }
            Kind::Searched => match rules.get(leaf.rule as usize).map(|(_, rule)| &rule.path) {
                Some(PathRule::Matches(pattern)) => pattern.matches(facts.path),
                _ => false, // Never: it was made of one.
            },
        }
    }

    /// Whether what a rule asks for besides host and path holds.
    #[inline]
    fn accepts(&self, leaf: &Leaf, rules: &[(RouteId, Rule)], facts: &Facts<'_>) -> bool {
        if leaf.methods != 0 && leaf.methods & bit_of(facts.method) == 0 {
            return false;
        }
        match leaf.asks {
            Asks::NOTHING => true,
            Asks::RULE => {
                let rule = rules.get(leaf.rule as usize);
                rule.is_some_and(|(_, rule)| rule.accepts(facts).is_ok())
            }
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
