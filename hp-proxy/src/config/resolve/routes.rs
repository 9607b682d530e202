//! Routes: what each takes, what it does, and whether they can be told apart.

mod action;
mod mirror;
mod rules;

use super::upstreams::Upstreams;
use super::{Names, Resolver};
use crate::config::file::{Entry, Section};
use crate::config::plan::{Action, Route};
use crate::config::problem::Place;
use crate::route::RouteId;
use crate::route::rule::{HostRule, PathRule, Rule};
use std::collections::BTreeMap;
use std::time::Duration;

/// The routes, and by which rules they take requests.
#[derive(Default)]
pub(super) struct Resolved {
    pub(super) routes: Vec<Route>,
    pub(super) rules: Vec<(RouteId, Rule)>,
}

/// Names that routes have.
#[derive(Default)]
struct Given {
    names: Names,
    /// By what routes without a name are called: the next number of one that is called so, too.
    numbers: BTreeMap<String, u32>,
}

impl Resolver<'_> {
    /// `default_timeout` is that of a route that says nothing else; `is_closed` puts all of them into maintenance.
    pub(super) fn routes(
        &mut self,
        upstreams: &Upstreams,
        (default_timeout, is_closed): (Duration, bool),
    ) -> Resolved {
        let file = self.file;
        let lists = file.roots.iter().flat_map(|root| root.list("route"));
        let sections: Vec<&Section> = lists.filter_map(Entry::section).collect();
        let mut resolved = Resolved::default();
        let mut names = Given::default();
        let mut places = Vec::new();
        if sections.is_empty() && self.report.is_clean() {
            let root = self.file.roots.first();
            let place = root.map_or_else(Place::default, |root| root.place.clone());
            self.report.error(
                &place,
                "there is no route; write [[route]] with an upstream",
            );
        }
        for (id, section) in (0..).map(RouteId).zip(sections) {
            let rules = self.rules(section);
            let groups = rules.first().and_then(|rule| match &rule.path {
                PathRule::Matches(pattern) => Some(pattern.groups()),
                PathRule::Any | PathRule::Prefix(_) | PathRule::Is(_) => None,
            });
            let action = self.action(section, &rules, groups, upstreams);
            resolved.routes.push(Route {
                name: self.name(section, &rules, &mut names),
                path: self.path_change(section, &rules, groups),
                request: self.request_changes(section, groups),
                response: self.response_changes(section, groups),
                response_timeout: section.time("timeout").unwrap_or(default_timeout),
                mirror: self.mirror(section, &action, upstreams),
                action: if is_closed {
                    Action::Maintenance
                } else {
                    action
                },
            });
            for rule in rules {
                resolved.rules.push((id, rule));
                places.push(section.place.clone());
            }
        }
        if self.bound_groups(&resolved.rules, &places) {
            self.refuse_overlaps(&resolved.rules, &places);
        }
        resolved
    }

    /// Reports where more than one of these keys is given, all of which say the same kind of thing. Whether any is.
    fn at_most_one(&mut self, section: &Section, keys: &[&str], say: &str) -> bool {
        let keys = keys.iter().copied();
        let given: Vec<&str> = keys.filter(|key| section.entry(key).is_some()).collect();
        if let [_, second, ..] = given.as_slice() {
            let reason = format!("{} {say}; keep one of them", given.join(" and "));
            self.report.error(section.place_of(second), reason);
        }
        !given.is_empty()
    }

    fn name(&mut self, section: &Section, rules: &[Rule], given: &mut Given) -> String {
        let Given { names, numbers } = given;
        if let Some((name, place)) = section.text("name") {
            if let Some(first) = names.get(name) {
                let at = self.report.line_of(first);
                self.report.error(
                    place,
                    format!(
                        "{name:?} is the name of the route at {at} already; give it another one"
                    ),
                );
            }
            self.check_name(name, place);
            names.insert(name.to_owned(), place.clone());
            return name.to_owned();
        }
        let rule = rules.first();
        let shown = rule.map_or_else(String::new, |rule| match (&rule.host, &rule.path) {
            (HostRule::Any, path) => path.to_string(),
            (host, PathRule::Any) => host.to_string(),
            (host, path) => format!("{host} {path}"),
        });
        // From the number on that was given last, since many routes may be alike but for their conditions.
        let next = numbers.entry(shown.clone()).or_insert(1_u32);
        let name = loop {
            let name = match *next {
                1 => shown.clone(),
                number => format!("{shown} #{number}"),
            };
            *next = next.saturating_add(1);
            if !names.contains_key(&name) {
                break name;
            }
        };
        names.insert(name.clone(), section.place.clone());
        name
    }

    /// Whether groups are small: a request is compared with the rules of one host and literal one after the other, and these are
    /// compared with each other.
    fn bound_groups(&mut self, rules: &[(RouteId, Rule)], places: &[Place]) -> bool {
        let mut is_bounded = true;
        let mut counts: BTreeMap<(String, &str), u32> = BTreeMap::new();
        for ((_, rule), place) in rules.iter().zip(places) {
            let key = (rule.host.to_string(), rule.path.literal());
            let count = counts.entry(key).or_default();
            *count += 1;
            if *count == GROUP_MAX + 1 {
                let reason = format!(
                    "more than {GROUP_MAX} routes have this host and path, or expressions that begin alike; \
                     tell them apart by their paths"
                );
                self.report.error(place, reason);
                is_bounded = false;
            }
        }
        is_bounded
    }

    fn refuse_overlaps(&mut self, rules: &[(RouteId, Rule)], places: &[Place]) {
        let mut groups: BTreeMap<(String, String), Vec<(&Rule, &Place)>> = BTreeMap::new();
        for ((_, rule), place) in rules.iter().zip(places) {
            let key = (rule.host.to_string(), rule.path.to_string());
            groups.entry(key).or_default().push((rule, place));
        }
        for group in groups.values() {
            for (index, (rule, place)) in group.iter().enumerate() {
                let earlier = group.get(..index).unwrap_or_default();
                let Some((_, first)) = earlier.iter().find(|(other, _)| other.overlaps(rule))
                else {
                    continue;
                };
                let at = self.report.line_of(first);
                let reason = format!(
                    "overlaps with the route at {at}: a request may match both, and neither is more specific; \
                     add a condition to one of them"
                );
                self.report.error(place, reason);
            }
        }
    }
}

/// Rules of one host and literal.
const GROUP_MAX: u32 = 1024;
