//! All routes, found by host and path without a look at the others.
//!
//! ```text
//! host, backwards ─► radix ─► paths of that host ─► radix ─► = exact, ~ patterns, prefix... each with its rules
//! ```
//! From the longest literal to the shortest, and from the most specific host to none: the first rule that takes the request is
//! the most specific one.

use super::radix::{Forest, Root};
use super::rule::{HOST_BYTES_MAX, HostRule, PathRule, Refused, Rule};
use super::{Facts, RouteId};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The routes. Built once.
#[derive(Clone, Debug)]
pub struct Table {
    rules: Vec<(RouteId, Rule)>,
    forest: Forest,
    /// Of all hosts.
    hosts: Root,
    by_host: Vec<Host>,
    any_host: Root,
    literals: Vec<Literal>,
    leaves: Vec<Leaf>,
    /// The route that takes every request, where there is no other.
    sole: Option<RouteId>,
    traits: Traits,
}

/// What its rules look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Traits {
    paths: bool,
    clients: bool,
    patterns: bool,
}

/// The routes for a host, and for all below it.
#[derive(Clone, Copy, Debug)]
struct Host {
    /// Of its name, with the dot that ends it where names below are meant.
    len: u32,
    is: Root,
    below: Root,
    /// The longest other host that its name begins with.
    outer: Option<u32>,
}

/// The rules whose path has this literal, in three lists that follow each other, each from the most specific to the least.
#[derive(Clone, Copy, Debug)]
struct Literal {
    len: u32,
    leaves: u32,
    is: u16,
    matches: u16,
    prefix: u16,
    /// What follows it in a path begins a segment, whatever it is.
    ends_segment: bool,
    /// The longest other literal that it begins with.
    outer: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Leaf {
    rule: u32,
    route: RouteId,
    /// The rule asks for nothing else.
    is_plain: bool,
}

/// The route that takes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Winner<'t> {
    /// Which it is.
    pub route: RouteId,
    /// Its rule; one of several, where the route has several hosts.
    pub rule: &'t Rule,
}

/// What became of one rule, for an explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'t> {
    /// It takes the request.
    Wins,
    /// It would take the request, but one before it is more specific.
    LessSpecific,
    /// It does not take the request.
    Refused(Refused<'t>),
}

impl Table {
    /// A table of these rules, of which no two overlap ([`Rule::overlaps`]); otherwise the one that stands first wins.
    #[must_use]
    pub fn new(rules: Vec<(RouteId, Rule)>) -> Self {
        let sole = match rules.as_slice() {
            [(route, rule)] if *rule == Rule::default() => Some(*route),
            _ => None,
        };
        let mut hosts: BTreeMap<Vec<u8>, [Vec<u32>; 2]> = BTreeMap::new();
        let mut any_host = Vec::new();
        for (index, (_, rule)) in (0..).zip(&rules) {
            match &rule.host {
                HostRule::Any => any_host.push(index),
                HostRule::Is(name) => hosts.entry(backwards(name, "")).or_default()[0].push(index),
                HostRule::Below(name) => {
                    hosts.entry(backwards(name, ".")).or_default()[1].push(index);
                }
            }
        }
        let mut table = Self {
            forest: Forest::default(),
            hosts: Root::EMPTY,
            by_host: Vec::new(),
            any_host: Root::EMPTY,
            literals: Vec::new(),
            leaves: Vec::new(),
            sole,
            traits: Traits::of(&rules),
            rules,
        };
        let keys: Vec<&[u8]> = hosts.keys().map(Vec::as_slice).collect();
        let (root, outer) = table.forest.grow(&keys, 0);
        table.hosts = root;
        for ((name, [is, below]), outer) in hosts.iter().zip(outer) {
            let host = Host {
                len: number(name.len()),
                is: table.paths(is),
                below: table.paths(below),
                outer,
            };
            table.by_host.push(host);
        }
        table.any_host = table.paths(&any_host);
        table
    }

    /// The route that takes every request, where there is no other and nothing to look at.
    #[must_use]
    #[inline]
    pub fn sole(&self) -> Option<RouteId> {
        self.sole
    }

    /// Whether a rule looks at paths, so that they have to be normal.
    #[must_use]
    pub fn looks_at_paths(&self) -> bool {
        self.traits.paths
    }

    /// Whether a rule looks at addresses of clients.
    #[must_use]
    pub fn looks_at_clients(&self) -> bool {
        self.traits.clients
    }

    /// Whether a rule has a regular expression, whose search keeps memory that threads should not share.
    #[must_use]
    pub fn has_patterns(&self) -> bool {
        self.traits.patterns
    }

    /// All rules, as they were given.
    #[must_use]
    pub fn rules(&self) -> &[(RouteId, Rule)] {
        &self.rules
    }

    /// The most specific route that takes a request.
    #[must_use]
    pub fn find(&self, facts: &Facts<'_>) -> Option<Winner<'_>> {
        let leaf = self
            .find_by_host(facts)
            .or_else(|| self.find_in(self.any_host, facts))?;
        let (_, rule) = self.rules.get(leaf.rule as usize)?;
        Some(Winner {
            route: leaf.route,
            rule,
        })
    }

    fn find_by_host(&self, facts: &Facts<'_>) -> Option<Leaf> {
        if self.by_host.is_empty() {
            return None;
        }
        let mut space = [0; HOST_BYTES_MAX];
        let host = facts.host.strip_suffix(b".").unwrap_or(facts.host);
        let name = space.get_mut(..host.len())?;
        for (to, from) in name.iter_mut().zip(host.iter().rev()) {
            *to = from.to_ascii_lowercase();
        }
        let mut at = self.forest.longest(self.hosts, name);
        while let Some(entry) = at {
            let host = self.by_host.get(entry as usize)?;
            let paths = if host.len as usize == name.len() {
                host.is
            } else {
                host.below
            };
            if let Some(leaf) = self.find_in(paths, facts) {
                return Some(leaf);
            }
            at = host.outer;
        }
        None
    }

    #[inline]
    fn find_in(&self, paths: Root, facts: &Facts<'_>) -> Option<Leaf> {
        let path = facts.path;
        let mut at = self.forest.longest(paths, path.as_bytes());
        while let Some(entry) = at {
            let literal = self.literals.get(entry as usize)?;
            let [is, matches, prefix] = self.lists(literal);
            let rest = path.as_bytes().get(literal.len as usize..);
            let next = rest.and_then(|rest| rest.first());
            if next.is_none()
                && let Some(leaf) = self.first_of(is, facts)
            {
                return Some(leaf);
            }
            let mut matching = matches.iter().copied();
            let found =
                matching.find(|leaf| self.matches_path(*leaf, path) && self.takes(*leaf, facts));
            if found.is_some() {
                return found;
            }
            if (literal.ends_segment || matches!(next, None | Some(b'/')))
                && let Some(leaf) = self.first_of(prefix, facts)
            {
                return Some(leaf);
            }
            at = literal.outer;
        }
        None
    }

    /// The three lists of a literal.
    #[inline]
    fn lists(&self, literal: &Literal) -> [&[Leaf]; 3] {
        let mut start = literal.leaves as usize;
        [literal.is, literal.matches, literal.prefix].map(|count| {
            let end = start + usize::from(count);
            let list = self.leaves.get(start..end).unwrap_or_default();
            start = end;
            list
        })
    }

    #[inline]
    fn first_of(&self, leaves: &[Leaf], facts: &Facts<'_>) -> Option<Leaf> {
        leaves.iter().copied().find(|leaf| self.takes(*leaf, facts))
    }

    #[inline]
    fn takes(&self, leaf: Leaf, facts: &Facts<'_>) -> bool {
        leaf.is_plain
            || self
                .rules
                .get(leaf.rule as usize)
                .is_some_and(|(_, rule)| rule.accepts(facts).is_ok())
    }

    fn matches_path(&self, leaf: Leaf, path: &str) -> bool {
        match self.rules.get(leaf.rule as usize) {
            Some((
                _,
                Rule {
                    path: PathRule::Matches(pattern),
                    ..
                },
            )) => pattern.matches(path),
            _ => false,
        }
    }

    /// Every rule in the order in which they win, and what became of each. For people: it looks at all of them.
    #[must_use]
    pub fn explain(&self, facts: &Facts<'_>) -> Vec<(RouteId, &Rule, Verdict<'_>)> {
        let mut order: Vec<&(RouteId, Rule)> = self.rules.iter().collect();
        order.sort_by_key(|(_, rule)| Reverse(rule.rank()));
        let mut has_won = false;
        let judged = order.into_iter().map(|(route, rule)| {
            let verdict = match rule.judge(facts) {
                Err(refused) => Verdict::Refused(refused),
                Ok(()) if has_won => Verdict::LessSpecific,
                Ok(()) => {
                    has_won = true;
                    Verdict::Wins
                }
            };
            (*route, rule, verdict)
        });
        judged.collect()
    }
}

impl Traits {
    fn of(rules: &[(RouteId, Rule)]) -> Self {
        use super::rule::Condition;
        let is_pattern =
            |(_, condition): &(String, Condition)| matches!(condition, Condition::Matches(_));
        let any = |test: &dyn Fn(&Rule) -> bool| rules.iter().any(|(_, rule)| test(rule));
        Self {
            paths: any(&|rule| rule.path != PathRule::Any),
            clients: any(&|rule| !rule.client_ips.is_empty()),
            patterns: any(&|rule| {
                matches!(rule.path, PathRule::Matches(_))
                    || rule.headers.iter().chain(&rule.query).any(is_pattern)
            }),
        }
    }
}

impl Table {
    /// Makes the tree of the paths of one host.
    fn paths(&mut self, list: &[u32]) -> Root {
        let mut literals: BTreeMap<&str, [Vec<Leaf>; 3]> = BTreeMap::new();
        let numbered = list
            .iter()
            .filter_map(|index| Some((*index, self.rules.get(*index as usize)?)));
        let mut sorted: Vec<_> = numbered.collect();
        sorted.sort_by_key(|(_, (_, rule))| Reverse(rule.rank()));
        for (index, (route, rule)) in sorted {
            let [is, matches, prefix] = literals.entry(rule.path.literal()).or_default();
            let leaves = match &rule.path {
                PathRule::Any | PathRule::Prefix(_) => prefix,
                PathRule::Matches(_) => matches,
                PathRule::Is(_) => is,
            };
            leaves.push(Leaf {
                rule: index,
                route: *route,
                is_plain: rule.is_plain(),
            });
        }
        let keys: Vec<&[u8]> = literals.keys().map(|text| text.as_bytes()).collect();
        let (root, outer) = self.forest.grow(&keys, number(self.literals.len()));
        for ((text, lists), outer) in literals.iter().zip(outer) {
            let [is, matches, prefix] = lists.each_ref().map(|list| count(list.len()));
            self.literals.push(Literal {
                len: number(text.len()),
                leaves: number(self.leaves.len()),
                is,
                matches,
                prefix,
                ends_segment: text.is_empty() || text.ends_with('/'),
                outer,
            });
            self.leaves.extend(lists.iter().flatten());
        }
        root
    }
}

/// Rules are fewer than 2^32: their text has a bound.
fn number(value: usize) -> u32 {
    u32::try_from(value).expect("the text of a configuration is bounded")
}

/// Rules of one host and literal; a configuration has no more than 1024 of them.
fn count(rules: usize) -> u16 {
    u16::try_from(rules).expect("rules of one host and literal are bounded")
}

/// A host's name from its end to its beginning, in lower case.
fn backwards(name: &str, dot: &str) -> Vec<u8> {
    let bytes = name.bytes().rev().chain(dot.bytes());
    bytes.map(|byte| byte.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests;
