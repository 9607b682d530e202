//! What a route does with the requests that it takes.

use super::{Resolver, Upstreams};
use crate::config::file::{Entry, Section};
use crate::config::plan::Action;
use crate::config::problem::{Place, did_you_mean};
use crate::route::fields::{FieldChanges, NO_FIELD_NAME, NO_FIELD_VALUE, is_ours};
use crate::route::path;
use crate::route::rewrite::{Leads, PathChange, leads};
use crate::route::rule::{HostRule, PathRule, Rule};
use crate::route::split::Split;
use crate::route::template::{Name, Template};
use hp_core::wire::token;

impl Resolver<'_> {
    pub(super) fn action(
        &mut self,
        section: &Section,
        rules: &[Rule],
        groups: Option<usize>,
        upstreams: &Upstreams,
    ) -> Action {
        let keys = ["upstream", "split", "redirect", "answer"];
        let is_given = self.at_most_one(section, &keys, "say what to do with a request");
        let is_closed = section.flag("maintenance");
        if !is_given && !is_closed {
            let reason = "a route needs one of upstream, split, redirect, answer and maintenance";
            self.report.error(&section.place, reason);
        }
        let action = if let Some(redirect) = section.section("redirect") {
            self.redirect(redirect, rules, groups)
        } else if let Some(answer) = section.section("answer") {
            self.answer(answer)
        } else if let Some(entry) = section.entry("split") {
            self.split(section, entry, upstreams)
        } else {
            let named = section.text("upstream");
            let upstream =
                named.and_then(|(name, place)| self.upstream_named(name, place, upstreams));
            upstream.map(|upstream| Action::Forward(Split::all_to(upstream)))
        };
        match action {
            Some(action) if !is_closed => action,
            _ => Action::Maintenance,
        }
    }

    pub(super) fn upstream_named(
        &mut self,
        name: &str,
        place: &Place,
        upstreams: &Upstreams,
    ) -> Option<u32> {
        let found = upstreams.use_named(name);
        if found.is_none() {
            let near = did_you_mean(name, upstreams.names());
            let remedy = if near.is_empty() {
                format!("; write [upstream.{name}]")
            } else {
                near
            };
            let reason = if name.is_empty() {
                String::from("no upstream is named; write the name of one")
            } else {
                format!("there is no upstream {name}{remedy}")
            };
            self.report.error(place, reason);
        }
        found
    }

    fn split(&mut self, section: &Section, entry: &Entry, upstreams: &Upstreams) -> Option<Action> {
        let mut shares: Vec<(u32, u32)> = Vec::new();
        for share in section.list("split").iter().filter_map(Entry::section) {
            let Some((name, place)) = share.text("upstream") else {
                self.missing(share, "upstream", "the name of an upstream");
                continue;
            };
            let Some(upstream) = self.upstream_named(name, place, upstreams) else {
                continue;
            };
            if shares.iter().any(|(other, _)| *other == upstream) {
                self.report
                    .error(place, format!("{name} has a share already; give it one"));
            }
            shares.push((upstream, share.count("weight").unwrap_or(1)));
        }
        let split = Split::new(&shares);
        if split.is_none() {
            self.report.error(
                &entry.place,
                "no upstream has a share; give at least one a weight above 0",
            );
        }
        split.map(Action::Forward)
    }

    fn redirect(
        &mut self,
        redirect: &Section,
        rules: &[Rule],
        groups: Option<usize>,
    ) -> Option<Action> {
        let status = redirect.count("status").unwrap_or(308);
        if !matches!(status, 301..=303 | 307 | 308) {
            let place = redirect.place_of("status");
            self.report.error(
                place,
                format!("{status} is no redirect; write 301, 302, 303, 307 or 308"),
            );
        }
        let Some((text, place)) = redirect.text("to") else {
            self.missing(redirect, "to", "where the redirect leads");
            return None;
        };
        let to = self.template((text, place), &OF_REQUEST, groups)?;
        let has_host = rules.iter().all(|rule| rule.host != HostRule::Any);
        if !redirect.flag("any_host") {
            match leads(&to) {
                Leads::ToKnownHosts => (),
                Leads::ToTheHostAskedFor if has_host => (),
                Leads::ToTheHostAskedFor => {
                    let reason = "a request could name any host and be sent there; give the route a host, or write any_host = true";
                    self.report.error(place, reason);
                }
                Leads::Anywhere => {
                    let reason = "a request could lead the redirect to another server; begin with / or https://HOST/, or write any_host = true";
                    self.report.error(place, reason);
                }
            }
        }
        Some(Action::Redirect {
            status: u16::try_from(status).ok()?,
            to,
        })
    }

    fn answer(&mut self, answer: &Section) -> Option<Action> {
        let status = answer.count("status").unwrap_or(200);
        let body = answer.text("body").map_or("", |(body, _)| body);
        if matches!(status, 204 | 205 | 304) && !body.is_empty() {
            let place = answer.place_of("body");
            self.report.error(
                place,
                format!("an answer with {status} has no content; leave body out"),
            );
        }
        let content_type = answer.text("content_type");
        if let Some((text, place)) = content_type
            && (text.is_empty() || !token::is_field_value(text.as_bytes()))
        {
            self.report.error(
                place,
                format!("{text:?} is no type of content; write one such as text/html"),
            );
        }
        let default = if body.is_empty() {
            ""
        } else {
            "text/plain; charset=utf-8"
        };
        Some(Action::Answer {
            status: u16::try_from(status).ok()?,
            content_type: content_type.map_or(default, |(text, _)| text).to_owned(),
            body: body.as_bytes().to_vec(),
        })
    }

    pub(super) fn path_change(
        &mut self,
        section: &Section,
        rules: &[Rule],
        groups: Option<usize>,
    ) -> PathChange {
        for key in ["strip_prefix", "rewrite"] {
            self.only_forwarded(section, key);
        }
        if let (Some(_), Some((_, place))) =
            (section.entry("strip_prefix"), section.text("rewrite"))
        {
            self.report.error(
                place,
                "strip_prefix and rewrite both write the path; keep one of them",
            );
        }
        if let Some((text, place)) = section.text("strip_prefix") {
            if !self.check_path(text, place) {
                return PathChange::None; // Whether paths begin with it is no question any more.
            }
            let stripped = text.strip_suffix('/').unwrap_or(text);
            let is_there = rules.first().is_none_or(|rule| match &rule.path {
                PathRule::Prefix(prefix) | PathRule::Is(prefix) => prefix
                    .strip_prefix(stripped)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
                PathRule::Any | PathRule::Matches(_) => false,
            });
            if !is_there {
                let reason = format!(
                    "not all paths of the route begin with {stripped}; write path_prefix = {text:?}"
                );
                self.report.error(place, reason);
            }
            return PathChange::Strip(text.to_owned());
        }
        let Some((text, place)) = section.text("rewrite") else {
            return PathChange::None;
        };
        let names = [
            Name::Path,
            Name::Host,
            Name::ClientIp,
            Name::Route,
            Name::Upstream,
        ];
        let Some(template) = self.template((text, place), &names, groups) else {
            return PathChange::None;
        };
        let is_path = |text: &str| !text.contains('?') && is_path_part(text);
        if !text.starts_with('/') || !template.texts().all(is_path) {
            let reason = "a path begins with a slash and has no ?; the query stays as it is";
            self.report.error(place, reason);
        }
        PathChange::Write(template)
    }

    pub(super) fn request_changes(
        &mut self,
        section: &Section,
        groups: Option<usize>,
    ) -> FieldChanges {
        self.only_forwarded(section, "request_headers");
        let Some(changes) = section.section("request_headers") else {
            return FieldChanges::default();
        };
        let names = [&OF_REQUEST[..], &[Name::Upstream]].concat();
        self.field_changes(changes, &names, groups)
    }

    pub(super) fn response_changes(
        &mut self,
        section: &Section,
        groups: Option<usize>,
    ) -> FieldChanges {
        let Some(changes) = section.section("response_headers") else {
            return FieldChanges::default();
        };
        let is_forwarded = section
            .entry("upstream")
            .or_else(|| section.entry("split"))
            .is_some();
        let changes = if is_forwarded {
            let names = [Name::ClientIp, Name::Endpoint, Name::Route, Name::Upstream];
            self.field_changes(changes, &names, None)
        } else {
            self.field_changes(changes, &OF_REQUEST, groups)
        };
        if let Some((name, _)) = changes
            .added
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("location"))
            && section.entry("redirect").is_some()
        {
            let reason = format!("the redirect writes {name} itself");
            self.report
                .error(section.place_of("response_headers"), reason);
        }
        changes
    }

    pub(super) fn only_forwarded(&mut self, section: &Section, key: &str) {
        let is_answered = section
            .entry("redirect")
            .or_else(|| section.entry("answer"))
            .is_some();
        if let Some(entry) = section.entry(key).filter(|_| is_answered) {
            self.report.error(
                &entry.place,
                "no upstream sees requests of this route; leave it out",
            );
        }
    }

    fn field_changes(
        &mut self,
        section: &Section,
        names: &[Name],
        groups: Option<usize>,
    ) -> FieldChanges {
        let mut changes = FieldChanges::default();
        for key in ["set", "add"] {
            for (name, entry) in section.map(key) {
                let Some((text, place)) = entry.text() else {
                    continue;
                };
                let is_host =
                    name.eq_ignore_ascii_case("host") && names.contains(&Name::Uri) && key == "set";
                if !is_host {
                    self.check_field_name(name, place);
                }
                let Some(template) = self.template((text, place), names, groups) else {
                    continue;
                };
                if !token::is_field_value(text.as_bytes()) || text.trim() != text {
                    self.report
                        .error(place, format!("{} {NO_FIELD_VALUE}", shown(text, place)));
                }
                if is_host {
                    changes.host = Some(template);
                    continue;
                }
                if key == "set" {
                    changes.removed.push(name.clone());
                }
                changes.added.push((name.clone(), template));
            }
        }
        for (name, place) in section.texts("remove") {
            self.check_field_name(name, place);
            if changes.removes(name) {
                self.report.error(
                    place,
                    format!("{name} is set or removed already; name it once"),
                );
            }
            changes.removed.push(name.to_owned());
        }
        changes
    }

    fn check_field_name(&mut self, name: &str, place: &Place) {
        if !token::is_token(name.as_bytes()) {
            self.report
                .error(place, format!("{name:?} {NO_FIELD_NAME}"));
        } else if is_ours(name) {
            let reason = format!("{name} is written by the proxy itself; leave it out");
            self.report.error(place, reason);
        }
    }

    /// A text with places, of which only these have a value here; `groups` of the path's regular expression.
    fn template(
        &mut self,
        (text, place): (&str, &Place),
        names: &[Name],
        groups: Option<usize>,
    ) -> Option<Template> {
        if place.is_from_file {
            return Some(Template::secret(text));
        }
        let template = match Template::parse(text) {
            Ok(template) => template,
            Err(reason) => {
                self.report.error(place, format!("{text:?}: {reason}"));
                return None;
            }
        };
        let mut is_known = true;
        for name in template.names() {
            let reason = match (name, groups) {
                (Name::Capture(group), Some(groups)) if group <= groups => continue,
                (Name::Capture(_), Some(groups)) => {
                    format!("{name} is beyond the {groups} groups of path_regex")
                }
                (Name::Capture(_), None) => {
                    format!("{name} needs a path_regex, and is known of requests only")
                }
                (name, _) if names.contains(&name) => continue,
                (name, _) => {
                    let known: Vec<String> = names.iter().map(ToString::to_string).collect();
                    format!("{name} is not known here; there are {}", known.join(", "))
                }
            };
            self.report.error(place, reason);
            is_known = false;
        }
        is_known.then_some(template)
    }
}

/// Whether a text can stand within a path as it is.
fn is_path_part(text: &str) -> bool {
    let whole = format!("/{text}");
    hp_core::wire::uri::is_path_and_query(whole.as_bytes())
        && path::normal(&whole) == whole.as_str()
}

/// A text in a message; that of a file may be a secret.
pub(super) fn shown(text: &str, place: &Place) -> String {
    if place.is_from_file {
        String::from("what the file has")
    } else {
        format!("{text:?}")
    }
}

/// What a request says wherever it goes.
const OF_REQUEST: [Name; 6] = [
    Name::Path,
    Name::Uri,
    Name::Query,
    Name::Host,
    Name::ClientIp,
    Name::Route,
];
