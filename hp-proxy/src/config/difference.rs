//! What changes from one plan to the next: by names for people, and whether it can be done while the proxy runs. Pure.
//!
//! Parts are the same by what the plan says of them: listeners by address, upstreams and routes by name, endpoints by name and
//! address. What is compared is what [`show`] writes, so no key is left out; what that keeps secret is compared unseen.

use super::plan::{Listener, Plan, Route, Upstream};
use super::show;
use crate::route::rule::Rule;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// All that changes, in the order: settings, listeners, upstreams, routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// What can be changed while the proxy runs.
    pub changes: Vec<Change>,
    /// What cannot; each says what to do.
    pub refusals: Vec<String>,
}

/// One part that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// How.
    pub kind: Kind,
    /// What.
    pub part: Part,
    /// The address of a listener, the name of anything else; of an endpoint with its upstream before it.
    pub name: String,
    /// Of a part that is there before and after: the keys that differ, with their values.
    pub details: Vec<String>,
}

/// What becomes of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It comes.
    Added,
    /// It goes.
    Removed,
    /// It stays, and is another.
    Changed,
}

/// What a plan is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What holds for the process, or where nothing else is said.
    Settings,
    /// Where connections are taken.
    Listener,
    /// A group of endpoints.
    Upstream,
    /// One of them.
    Endpoint,
    /// What becomes of requests.
    Route,
}

impl Part {
    fn word(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Listener => "listener",
            Self::Upstream => "upstream",
            Self::Endpoint => "endpoint",
            Self::Route => "route",
        }
    }
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }

    fn sign(self) -> char {
        match self {
            Self::Added => '+',
            Self::Removed => '-',
            Self::Changed => '~',
        }
    }
}

impl Difference {
    /// What changes from `before` to `after`.
    #[must_use]
    pub fn between(before: &Plan, after: &Plan) -> Self {
        let mut found = Self::default();
        found.compare_settings(before, after);
        found.compare_listeners(before, after);
        found.compare_upstreams(before, after);
        found.compare_routes(before, after);
        found
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.refusals.is_empty()
    }

    /// The same for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let changes = self.changes.iter().map(Change::json);
        json!({
            "changes": changes.collect::<Vec<_>>(),
            "refusals": self.refusals,
        })
    }

    fn compare_settings(&mut self, before: &Plan, after: &Plan) {
        let text = |plan: &Plan| written(|out| show::write_settings(out, plan));
        let (was, is) = (text(before), text(after));
        let differing = differing(&was, &is);
        for (key, line) in &differing {
            if STARTED_WITH.contains(key) {
                let what = format!(
                    "{line}: cannot be changed while the proxy runs; start it anew, or hand over to a new process (SIGUSR2)"
                );
                self.refusals.push(what);
            }
        }
        let changed = differing
            .into_iter()
            .filter(|(key, _)| !STARTED_WITH.contains(key));
        self.change(Part::Settings, "", changed.map(|(_, line)| line).collect());
    }

    fn compare_listeners(&mut self, before: &Plan, after: &Plan) {
        let mut left: Vec<&Listener> = before.listeners.iter().collect();
        let mut added = Vec::new();
        for is in &after.listeners {
            // Port 0 may be listened on more than once: each counts for one.
            let found = left.iter().position(|was| was.address == is.address);
            let Some(was) = found.map(|found| left.remove(found)) else {
                added.push(is);
                continue;
            };
            let name = is.address.to_string();
            if (was.port, was.socket_mode) != (is.port, is.socket_mode) {
                self.refusals.push(format!(
                    "listener {name}: reuse_port and socket_mode are given when it is bound; \
                     remove it, reload, and add it again, or start the proxy anew"
                ));
            }
            let text = |one: &Listener| written(|out| show::write_listener(out, one));
            let mut details = lines_of(differing(&text(was), &text(is)));
            if was.serves != is.serves {
                details = vec![String::from("serves operators, or does so no more")];
            }
            self.change(Part::Listener, &name, details);
        }
        for was in left {
            self.push(Kind::Removed, Part::Listener, was.address.to_string());
        }
        for is in added {
            self.push(Kind::Added, Part::Listener, is.address.to_string());
        }
    }

    fn compare_upstreams(&mut self, before: &Plan, after: &Plan) {
        let mut left: BTreeMap<&str, &Upstream> = by_name(&before.upstreams, |one| &one.name);
        let mut added = Vec::new();
        for is in &after.upstreams {
            let Some(was) = left.remove(is.name.as_str()) else {
                added.push(is);
                continue;
            };
            if was != is {
                self.compare_upstream(was, is);
            }
        }
        for was in left.into_values() {
            self.push(Kind::Removed, Part::Upstream, was.name.clone());
        }
        for is in added {
            self.push(Kind::Added, Part::Upstream, is.name.clone());
        }
    }

    fn compare_upstream(&mut self, was: &Upstream, is: &Upstream) {
        let text = |one: &Upstream| written(|out| show::write_upstream(out, one));
        let (before, after) = (text(was), text(is));
        let mut differing = differing(&before, &after);
        differing.retain(|(key, _)| *key != "endpoints"); // They follow, one by one.
        let mut details = lines_of(differing);
        if details.is_empty() && was.sticky != is.sticky {
            details.push(String::from("sticky: a key that is not shown"));
        }
        let name = |endpoint: &str| format!("{} {endpoint}", is.name);
        let mut endpoints = Vec::new();
        for endpoint in &was.endpoints {
            let id = |other: &&super::plan::Endpoint| {
                (&other.name, &other.addr) == (&endpoint.name, &endpoint.addr)
            };
            match is.endpoints.iter().find(id) {
                None => endpoints.push((Kind::Removed, name(&endpoint.name), Vec::new())),
                Some(other) if other != endpoint => {
                    let [was, is] = [endpoint, other].map(addressed);
                    let details = vec![format!("{was} -> {is}")];
                    endpoints.push((Kind::Changed, name(&endpoint.name), details));
                }
                Some(_same) => (),
            }
        }
        let new = is.endpoints.iter().filter(|endpoint| {
            let mut known = was.endpoints.iter();
            !known.any(|other| (&other.name, &other.addr) == (&endpoint.name, &endpoint.addr))
        });
        endpoints.extend(new.map(|endpoint| (Kind::Added, name(&endpoint.name), Vec::new())));
        if details.is_empty() && endpoints.is_empty() {
            // Such as the order of endpoints.
            return self.change(
                Part::Upstream,
                &is.name,
                vec![String::from("endpoints: another order")],
            );
        }
        self.change(Part::Upstream, &is.name, details);
        self.changes
            .extend(endpoints.into_iter().map(|(kind, name, details)| Change {
                kind,
                part: Part::Endpoint,
                name,
                details,
            }));
    }

    fn compare_routes(&mut self, before: &Plan, after: &Plan) {
        let was: Vec<(&Route, Vec<&Rule>)> =
            before.routes.iter().zip(show::rules_of(before)).collect();
        let mut left = by_name(&was, |(route, _)| &route.name);
        let mut added = Vec::new();
        let names = |plan: &'_ Plan| -> Vec<String> {
            let upstreams = plan.upstreams.iter();
            upstreams.map(|upstream| upstream.name.clone()).collect()
        };
        // Routes name upstreams by their places.
        let has_same_places = names(before) == names(after);
        for (route, rules) in after.routes.iter().zip(show::rules_of(after)) {
            let Some((known, known_rules)) = left.remove(route.name.as_str()) else {
                added.push(route);
                continue;
            };
            if has_same_places && *known == route && *known_rules == rules {
                continue; // As most are; what they say need not be written to see it.
            }
            let was = written(|out| show::write_route(out, before, known_rules, known));
            let is = written(|out| show::write_route(out, after, &rules, route));
            let mut details = lines_of(differing(&was, &is));
            let is_secret = (&known.request, &known.response) != (&route.request, &route.response);
            if details.is_empty() && is_secret {
                details.push(String::from("a value that is not shown"));
            }
            self.change(Part::Route, &route.name, details);
        }
        for (was, _) in left.into_values() {
            self.push(Kind::Removed, Part::Route, was.name.clone());
        }
        for is in added {
            self.push(Kind::Added, Part::Route, is.name.clone());
        }
    }

    fn push(&mut self, kind: Kind, part: Part, name: String) {
        self.changes.push(Change {
            kind,
            part,
            name,
            details: Vec::new(),
        });
    }

    /// A part that stays; nothing where nothing differs.
    fn change(&mut self, part: Part, name: &str, details: Vec<String>) {
        if !details.is_empty() {
            self.changes.push(Change {
                kind: Kind::Changed,
                part,
                name: name.to_owned(),
                details,
            });
        }
    }
}

impl Change {
    fn json(&self) -> Value {
        json!({
            "kind": self.kind.word(),
            "part": self.part.word(),
            "name": self.name,
            "details": self.details,
        })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.sign(), self.part.word())?;
        if !self.name.is_empty() {
            write!(f, " {}", self.name)?;
        }
        for (index, detail) in self.details.iter().enumerate() {
            f.write_str(if index == 0 { ": " } else { "; " })?;
            f.write_str(detail)?;
        }
        Ok(())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for refusal in &self.refusals {
            writeln!(f, "! {refusal}")?;
        }
        for change in &self.changes {
            writeln!(f, "{change}")?;
        }
        if self.is_empty() {
            writeln!(f, "nothing changes")?;
        }
        Ok(())
    }
}

/// An endpoint with its other addresses, which no file says.
fn addressed(endpoint: &super::plan::Endpoint) -> String {
    let others = endpoint.others.iter().map(|addr| format!(" or {addr}"));
    let text = show::endpoint_text(endpoint);
    if endpoint.others.is_empty() {
        return text;
    }
    format!("{text} at {}{}", endpoint.addr, others.collect::<String>())
}

fn by_name<'a, T>(all: &'a [T], name: impl Fn(&'a T) -> &'a String) -> BTreeMap<&'a str, &'a T> {
    all.iter().map(|one| (name(one).as_str(), one)).collect()
}

fn written(write: impl FnOnce(&mut String) -> fmt::Result) -> String {
    let mut out = String::new();
    match write(&mut out) {
        Ok(()) => out,
        Err(fmt::Error) => unreachable!("a String takes everything"),
    }
}

/// The keys whose values differ, each with a line that says how.
fn differing<'t>(was: &'t str, is: &'t str) -> Vec<(&'t str, String)> {
    let pairs = |text: &'t str| text.lines().filter_map(|line| line.split_once(" = "));
    let mut before: BTreeMap<&str, &str> = pairs(was).collect();
    let mut found = Vec::new();
    for (key, value) in pairs(is) {
        match before.remove(key) {
            None => found.push((key, format!("{key}: {value} is new"))),
            Some(old) if old != value => found.push((key, format!("{key}: {old} -> {value}"))),
            Some(_same) => (),
        }
    }
    found.extend(
        before
            .into_iter()
            .map(|(key, value)| (key, format!("{key}: {value} is gone"))),
    );
    found
}

fn lines_of(differing: Vec<(&str, String)>) -> Vec<String> {
    differing.into_iter().map(|(_, line)| line).collect()
}

/// What threads and their runtimes are made with.
const STARTED_WITH: [&str; 3] = ["workers", "engine", "threads_max"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_text;

    const BASE: &str = "
        workers = 2
        via = \"here\"
        [[listener]]
        address = \"127.0.0.1:8080\"
        [[route]]
        name = \"all\"
        upstream = \"web\"
        [upstream.web]
        endpoints = [\"127.0.0.1:9001\", \"127.0.0.1:9002\"]
    ";

    fn plan(text: &str) -> Plan {
        let (plan, report) = load_text("a.toml", text, &|_name| None);
        plan.unwrap_or_else(|| panic!("{:?}", report.errors()))
    }

    /// What changes when a part of the text is another.
    fn check(replaced: &str, by: &str, told: &[&str]) {
        assert!(BASE.contains(replaced), "{replaced}");
        let difference = Difference::between(&plan(BASE), &plan(&BASE.replace(replaced, by)));
        let lines = difference.to_string();
        assert_eq!(lines.lines().collect::<Vec<_>>(), told);
    }

    #[test]
    fn nothing_changes_between_a_plan_and_itself() {
        check("web", "web", &["nothing changes"]);
        let difference = Difference::between(&plan(BASE), &plan(BASE));
        assert_eq!(difference.json(), json!({"changes": [], "refusals": []}));
    }

    #[test]
    fn each_part_is_told_by_its_name() {
        check(
            "9002\"]",
            "9003\"]",
            &[
                "- endpoint web 127.0.0.1:9002",
                "+ endpoint web 127.0.0.1:9003",
            ],
        );
        check(
            "endpoints",
            "connect_timeout = \"1s\"\nendpoints",
            &["~ upstream web: connect_timeout: \"3s\" -> \"1s\""],
        );
        check(
            ":8080",
            ":8081",
            &["- listener 127.0.0.1:8080", "+ listener 127.0.0.1:8081"],
        );
        check(
            "upstream = ",
            "timeout = \"1s\"\nupstream = ",
            &["~ route all: timeout: \"30s\" -> \"1s\""],
        );
        check(
            "workers = 2",
            "workers = 2\nhead_timeout = \"1s\"",
            &["~ settings: head_timeout: \"10s\" -> \"1s\""],
        );
        check(
            "[[route]]",
            "[[route]]\nname = \"old\"\npath = \"/old\"\nmaintenance = true\n[[route]]",
            &["+ route old"],
        );
        check(
            "\"127.0.0.1:9001\", \"127.0.0.1:9002\"",
            "\"127.0.0.1:9002\", \"127.0.0.1:9001\"",
            &["~ upstream web: endpoints: another order"],
        );
        check(
            "\"127.0.0.1:9001\"",
            "{ address = \"127.0.0.1:9001\", weight = 2 }",
            &[
                "~ endpoint web 127.0.0.1:9001: \"127.0.0.1:9001\" -> { address = \"127.0.0.1:9001\", weight = 2 }",
            ],
        );
    }

    #[test]
    fn an_upstream_that_takes_another_place_is_the_same() {
        let more = "[upstream.api]\nendpoints = [\"127.0.0.1:9009\"]\n[upstream.web]";
        check("[upstream.web]", more, &["+ upstream api"]);
    }

    #[test]
    fn what_threads_are_made_with_is_refused() {
        let difference = Difference::between(
            &plan(BASE),
            &plan(&BASE.replace("workers = 2", "workers = 3")),
        );
        assert!(difference.changes.is_empty());
        assert!(
            difference.refusals[0].contains("workers: 2 -> 3")
                && difference.refusals[0].contains("SIGUSR2"),
            "{difference}"
        );
        let listener = "address = \"127.0.0.1:8080\"";
        let shared = format!("{listener}\nreuse_port = true");
        let difference = Difference::between(&plan(BASE), &plan(&BASE.replace(listener, &shared)));
        assert!(
            difference.refusals[0].contains("reuse_port"),
            "{difference}"
        );
    }

    #[test]
    fn a_secret_that_changes_is_told_and_not_shown() {
        let with = |secret: &str| {
            let route = format!(
                "upstream = \"web\"\nrequest_headers = {{ set = {{ Authorization = \"{secret}\" }} }}"
            );
            plan(&BASE.replace("upstream = \"web\"", &route))
        };
        let told = Difference::between(&with("one"), &with("two")).to_string();
        assert_eq!(told, "~ route all: a value that is not shown\n");
    }
}
