//! All routes, found by host and path without a look at the others.
//!
//! ```text
//! host, backwards ─► radix ─► paths of that host ─► radix ─► = exact, ~ patterns, prefix... each with its rules
//! ```
//! From the longest literal to the shortest, and from the most specific host to none: the first rule that takes the request is
//! the most specific one.

use super::radix::Radix;
use super::rule::{HOST_BYTES_MAX, HostRule, PathRule, Refused, Rule, ends_at_slash};
use super::{Facts, RouteId};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The routes. Built once.
#[derive(Clone, Debug)]
pub struct Table {
    rules: Vec<(RouteId, Rule)>,
    hosts: Radix,
    by_host: Vec<Host>,
    any_host: Paths,
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
#[derive(Clone, Debug, Default)]
struct Host {
    /// Of its name, with the dot that ends it where names below are meant.
    len: usize,
    is: Option<Paths>,
    below: Option<Paths>,
}

#[derive(Clone, Debug, Default)]
struct Paths {
    radix: Radix,
    literals: Vec<Literal>,
}

/// The rules whose path has this literal, in three lists, each from the most specific to the least.
#[derive(Clone, Debug, Default)]
struct Literal {
    text: String,
    is: Vec<Leaf>,
    matches: Vec<Leaf>,
    prefix: Vec<Leaf>,
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
        let keys: Vec<&[u8]> = hosts.keys().map(Vec::as_slice).collect();
        let of = |list: &[u32]| (!list.is_empty()).then(|| Paths::new(list, &rules));
        let by_host = hosts.iter().map(|(name, [is, below])| Host {
            len: name.len(),
            is: of(is),
            below: of(below),
        });
        Self {
            hosts: Radix::new(&keys),
            by_host: by_host.collect(),
            any_host: Paths::new(&any_host, &rules),
            sole,
            traits: Traits::of(&rules),
            rules,
        }
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
            .or_else(|| self.find_in(&self.any_host, facts))?;
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
        let mut at = self.hosts.longest(name);
        while let Some(entry) = at {
            let host = self.by_host.get(entry)?;
            let is = host.is.as_ref().filter(|_| host.len == name.len());
            let below = host.below.as_ref().filter(|_| host.len < name.len());
            for paths in [is, below].into_iter().flatten() {
                if let Some(leaf) = self.find_in(paths, facts) {
                    return Some(leaf);
                }
            }
            at = self.hosts.outer(entry);
        }
        None
    }

    #[inline]
    fn find_in(&self, paths: &Paths, facts: &Facts<'_>) -> Option<Leaf> {
        let path = facts.path;
        let mut at = paths.radix.longest(path.as_bytes());
        while let Some(entry) = at {
            let literal = paths.literals.get(entry)?;
            if literal.text.len() == path.len()
                && let Some(leaf) = self.first_of(&literal.is, facts)
            {
                return Some(leaf);
            }
            let mut matching = literal.matches.iter().copied();
            let found =
                matching.find(|leaf| self.matches_path(*leaf, path) && self.takes(*leaf, facts));
            if found.is_some() {
                return found;
            }
            if ends_at_slash(&literal.text, path)
                && let Some(leaf) = self.first_of(&literal.prefix, facts)
            {
                return Some(leaf);
            }
            at = paths.radix.outer(entry);
        }
        None
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

impl Paths {
    fn new(list: &[u32], rules: &[(RouteId, Rule)]) -> Self {
        let mut literals: BTreeMap<&str, Literal> = BTreeMap::new();
        let numbered = list
            .iter()
            .filter_map(|index| Some((*index, rules.get(*index as usize)?)));
        let mut sorted: Vec<_> = numbered.collect();
        sorted.sort_by_key(|(_, (_, rule))| Reverse(rule.rank()));
        for (index, (route, rule)) in sorted {
            let literal = literals.entry(rule.path.literal()).or_default();
            let leaves = match &rule.path {
                PathRule::Any | PathRule::Prefix(_) => &mut literal.prefix,
                PathRule::Matches(_) => &mut literal.matches,
                PathRule::Is(_) => &mut literal.is,
            };
            leaves.push(Leaf {
                rule: index,
                route: *route,
                is_plain: rule.is_plain(),
            });
        }
        let keys: Vec<&[u8]> = literals.keys().map(|text| text.as_bytes()).collect();
        let radix = Radix::new(&keys);
        let named = literals.into_iter().map(|(text, literal)| Literal {
            text: text.to_owned(),
            ..literal
        });
        Self {
            radix,
            literals: named.collect(),
        }
    }
}

/// A host's name from its end to its beginning, in lower case.
fn backwards(name: &str, dot: &str) -> Vec<u8> {
    let bytes = name.bytes().rev().chain(dot.bytes());
    bytes.map(|byte| byte.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests;
