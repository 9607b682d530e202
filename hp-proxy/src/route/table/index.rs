//! The way from a request to its route, without a look at the others.
//!
//! ```text
//! host, backwards ─► tree ─► names ─► paths of that name ─► tree ─► leaves of one literal: = exact, ~ patterns, prefix...
//!                      (a shorter name) ◄─ outer               (a shorter literal) ◄─ outer
//! ```
//! From the most specific host to none, and from the longest literal to the shortest: the first rule that takes the request is the most
//! specific one.
//!
//! With many routes nearly all of the time goes into waiting for memory that was not used lately. What a request is judged by is
//! therefore kept apart from the rules, which have it in the words of the configuration: a leaf of 32 bytes for each rule, those of one
//! literal side by side, and texts once each, so that what many routes have in common is near.

use crate::route::automaton::Automata;
use crate::route::radix::{Forest, Root};
use crate::route::rule::{HOST_BYTES_MAX, PathRule, Rule};
use crate::route::{Facts, RouteId};

/// The index of a list of rules.
#[derive(Clone, Debug)]
pub(super) struct Index {
    pub(super) forest: Forest,
    /// Of all names, backwards.
    pub(super) hosts: Root,
    pub(super) names: Vec<Name>,
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

/// The routes for a host, and for all below it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    /// In lower case, with a dot before it where names below are meant.
    pub(super) text: Text,
    pub(super) is: Root,
    pub(super) below: Root,
    /// The longest other name that it ends with, or [`NONE`](crate::route::radix::NONE).
    pub(super) outer: u32,
}

/// What of one rule is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    pub(super) literal: Text,
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

const _: () = assert!(size_of::<Leaf>() == 32, "two leaves share a cache line");

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

/// What one field must be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Check {
    pub(super) name: Text,
    /// `None`: it is there.
    pub(super) value: Option<Text>,
    /// No other check of the rule follows.
    pub(super) is_last: bool,
}

impl Index {
    /// The place of the most specific rule that takes a request, among those that it was made from, and its route.
    pub(super) fn find(
        &self,
        rules: &[(RouteId, Rule)],
        facts: &Facts<'_>,
    ) -> Option<(u32, RouteId)> {
        let host = facts.host.strip_suffix(b".").unwrap_or(facts.host);
        let mut at = self.longest_name(host);
        while let Some(name) = at {
            let paths = if name.text.len as usize == host.len() {
                name.is
            } else {
                name.below
            };
            if let Some(leaf) = self.find_in(paths, rules, facts) {
                return Some((leaf.rule, leaf.route));
            }
            at = self.names.get(name.outer as usize);
        }
        let leaf = self.find_in(self.any_host, rules, facts)?;
        Some((leaf.rule, leaf.route))
    }

    /// The longest name that a host ends with.
    #[inline]
    fn longest_name(&self, host: &[u8]) -> Option<&Name> {
        if host.len() > HOST_BYTES_MAX {
            return None; // It is nobody's.
        }
        let from_its_end = |place: usize| {
            let place = host.len().checked_sub(place + 1);
            let byte = place.and_then(|place| host.get(place));
            byte.map_or(0, u8::to_ascii_lowercase)
        };
        let end = self.forest.walk(self.hosts, from_its_end)?;
        let mut name = self.names.get(end as usize)?;
        let text = self.bytes(name.text);
        let tail = host
            .len()
            .checked_sub(text.len())
            .and_then(|start| host.get(start..));
        if tail.is_some_and(|tail| tail.eq_ignore_ascii_case(text)) {
            return Some(name);
        }
        let pairs = host.iter().rev().zip(text.iter().rev());
        let common = pairs.take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count();
        while name.text.len as usize > common {
            name = self.names.get(name.outer as usize)?;
        }
        Some(name)
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
        let literal = self.bytes(leaf.literal);
        if !path.starts_with(literal) {
            let pairs = path.iter().zip(literal);
            let common = pairs.take_while(|(a, b)| a == b).count();
            while leaf.literal.len as usize > common {
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
        let len = leaf.literal.len as usize;
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
            let name = self.text(check.name);
            let holds = match (facts.fields.named(name), check.value) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(value), Some(wanted)) => value == self.bytes(wanted),
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

    #[inline]
    fn text(&self, text: Text) -> &str {
        let (start, len) = (text.start as usize, text.len as usize);
        self.texts.get(start..start + len).unwrap_or_default()
    }

    #[inline]
    fn bytes(&self, text: Text) -> &[u8] {
        let (start, len) = (text.start as usize, text.len as usize);
        let bytes = self.texts.as_bytes().get(start..start + len);
        bytes.unwrap_or_default()
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
