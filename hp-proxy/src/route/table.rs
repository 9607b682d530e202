//! All routes: which takes a request, and for people, why the others did not. Built once.
//!
//! Requests are led by an index (`index`); explanations look at every rule, and tests hold the two to each other.

mod build;
mod filter;
mod index;
mod names;

use super::radix::Root;
use super::rule::{PathRule, Refused, Rule};
use super::{Facts, RouteId};
#[expect(
    clippy::disallowed_types,
    reason = "plans that have the same routes share them; no request counts references"
)]
use hp_core::base::sync::Arc;
use index::Index;
use names::Name;
use std::cmp::Reverse;

/// The routes. Built once; a clone is the same table.
#[derive(Clone, Debug)]
#[expect(
    clippy::disallowed_types,
    reason = "plans that have the same routes share them; no request counts references"
)]
pub struct Table(Arc<Routes>);

#[derive(Clone, Debug)]
struct Routes {
    rules: Vec<(RouteId, Rule)>,
    index: Index,
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

/// Where the routes of a host are. What lies there has been asked for, and is on its way while other things are done.
#[derive(Clone, Copy, Debug)]
pub struct HostRoutes<'t>(Option<(&'t Name, Root)>);

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
        Self::of(Routes {
            index: Index::new(&rules),
            sole,
            traits: Traits::of(&rules),
            rules,
        })
    }

    #[expect(clippy::disallowed_types, reason = "made once for each plan")]
    fn of(routes: Routes) -> Self {
        Self(Arc::new(routes))
    }

    /// A copy that has nothing in common with this table but what is only read, for a thread of its own: see [`Self::has_patterns`].
    #[must_use]
    pub fn copy(&self) -> Self {
        Self::of(Routes::clone(&self.0))
    }

    /// The route that takes every request, where there is no other and nothing to look at.
    #[must_use]
    #[inline]
    pub fn sole(&self) -> Option<RouteId> {
        self.0.sole
    }

    /// Whether a rule looks at paths, so that they have to be normal.
    #[must_use]
    pub fn looks_at_paths(&self) -> bool {
        self.0.traits.paths
    }

    /// Whether a rule looks at addresses of clients.
    #[must_use]
    pub fn looks_at_clients(&self) -> bool {
        self.0.traits.clients
    }

    /// Whether a rule has a regular expression, whose search keeps memory that threads should not share.
    #[must_use]
    pub fn has_patterns(&self) -> bool {
        self.0.traits.patterns
    }

    /// All rules, as they were given.
    #[must_use]
    pub fn rules(&self) -> &[(RouteId, Rule)] {
        &self.0.rules
    }

    /// How many bytes the parts take that a look-up reads, by what they are.
    #[must_use]
    pub fn sizes(&self) -> [(&'static str, usize); 9] {
        self.0.index.sizes()
    }

    /// The routes of a host. To be asked for before the rest of a request is looked at: nearly all of the time of a look-up among many routes is a
    /// wait for memory.
    #[must_use]
    #[inline]
    pub fn of_host(&self, host: &[u8]) -> HostRoutes<'_> {
        HostRoutes(self.0.index.of_host(host))
    }

    /// The most specific route that takes a request.
    #[must_use]
    #[inline]
    pub fn find(&self, facts: &Facts<'_>) -> Option<Winner<'_>> {
        self.find_among(self.of_host(facts.host), facts)
    }

    /// The same, where [`Self::of_host`] was asked for the routes of its host before.
    #[must_use]
    #[inline]
    pub fn find_among<'t>(
        &'t self,
        among: HostRoutes<'t>,
        facts: &Facts<'_>,
    ) -> Option<Winner<'t>> {
        let Routes { rules, index, .. } = &*self.0;
        let (rule, route) = index.find(among.0, rules, facts)?;
        let (_, rule) = rules.get(rule as usize)?;
        Some(Winner { route, rule })
    }

    /// Every rule in the order in which they win, and what became of each. For people: it looks at all of them.
    #[must_use]
    pub fn explain(&self, facts: &Facts<'_>) -> Vec<(RouteId, &Rule, Verdict<'_>)> {
        let mut order: Vec<&(RouteId, Rule)> = self.0.rules.iter().collect();
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

#[cfg(test)]
mod tests;
