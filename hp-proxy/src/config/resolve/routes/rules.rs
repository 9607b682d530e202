//! Which requests a route takes.

use super::Resolver;
use super::action::shown;
use crate::config::file::{Section, Value};
use crate::config::forwarding;
use crate::config::problem::Place;
use crate::route::fields::{NO_FIELD_NAME, NO_FIELD_VALUE};
use crate::route::path;
use crate::route::rule::{
    Condition, HostRule, NO_PARAMETER_KEY, NO_PARAMETER_VALUE, PathRule, Pattern, Rule,
    is_parameter_key, is_parameter_value,
};
use hp_core::wire::token;
use hp_core::wire::uri::{Authority, is_path_and_query};

impl Resolver<'_> {
    /// One rule for each of the route's hosts.
    pub(super) fn rules(&mut self, section: &Section) -> Vec<Rule> {
        let rule = Rule {
            host: HostRule::Any,
            path: self.path_rule(section),
            methods: self.methods(section),
            headers: self.conditions(section, "headers"),
            query: self.conditions(section, "query"),
            client_ips: self.client_ips(section),
        };
        if section.entry("host").is_none() {
            return vec![rule];
        }
        let mut rules = Vec::new();
        for (text, place) in section.texts("host") {
            match host_rule(text) {
                Ok(host) => rules.push(Rule {
                    host,
                    ..rule.clone()
                }),
                Err(reason) => self.report.error(place, format!("{text:?} {reason}")),
            }
        }
        if section.list("host").is_empty() {
            let place = section.place_of("host");
            self.report
                .error(place, "no host is listed; leave host out for any");
        }
        rules
    }

    fn path_rule(&mut self, section: &Section) -> PathRule {
        let keys = ["path", "path_prefix", "path_regex"];
        self.at_most_one(section, &keys, "say where one is enough");
        if let Some((text, place)) = section.text("path") {
            self.check_path(text, place);
            return PathRule::Is(text.to_owned());
        }
        if let Some((text, place)) = section.text("path_prefix") {
            self.check_path(text, place);
            return PathRule::Prefix(text.to_owned());
        }
        match section.text("path_regex") {
            None => PathRule::Any,
            Some((text, place)) => match Pattern::new(text) {
                Ok(pattern) => PathRule::Matches(pattern),
                Err(reason) => {
                    self.report.error(
                        place,
                        format!("{text:?} is no regular expression: {reason}"),
                    );
                    PathRule::Any
                }
            },
        }
    }

    /// A path that no request has would be without effect. Whether it is one that a request may have.
    pub(super) fn check_path(&mut self, text: &str, place: &Place) -> bool {
        let reason = if !text.starts_with('/') {
            format!("{text:?} begins with no slash; write \"/{text}\"")
        } else if text.contains('?') {
            format!("{text:?} has a query; write what it asks for as query = {{ ... }}")
        } else if !is_path_and_query(text.as_bytes()) {
            format!("{text:?} has a letter that no path has; write it percent-encoded")
        } else if path::normal(text) != text {
            let normal = path::normal(text);
            format!("{text:?} is not in normal form; write {normal:?}")
        } else {
            return true;
        };
        self.report.error(place, reason);
        false
    }

    fn methods(&mut self, section: &Section) -> Vec<String> {
        let mut methods: Vec<String> = Vec::new();
        for (text, place) in section.texts("methods") {
            let upper = text.to_ascii_uppercase();
            if !token::is_token(text.as_bytes()) {
                let reason = format!("{text:?} is no method; write one such as GET");
                self.report.error(place, reason);
            } else if text == "CONNECT" {
                self.report.error(
                    place,
                    "CONNECT opens a tunnel and takes no route; leave it out",
                );
            } else if text != upper && STANDARD_METHODS.contains(&upper.as_str()) {
                self.report.error(
                    place,
                    format!("the case of a method matters; write {upper:?}"),
                );
            } else if methods.iter().any(|other| other == text) {
                self.report.error(place, format!("{text} is listed twice"));
            } else {
                methods.push(text.to_owned());
            }
        }
        if section.entry("methods").is_some() && section.list("methods").is_empty() {
            self.report.error(
                section.place_of("methods"),
                "no method is listed; leave methods out for any",
            );
        }
        methods
    }

    fn client_ips(&mut self, section: &Section) -> Vec<ipnet::IpNet> {
        let mut networks = Vec::new();
        for (text, place) in section.texts("client_ip") {
            match forwarding::network(text) {
                Ok(network) => networks.push(network),
                Err(reason) => self.report.error(place, reason),
            }
        }
        if section.entry("client_ip").is_some() && section.list("client_ip").is_empty() {
            self.report.error(
                section.place_of("client_ip"),
                "no network is listed; leave client_ip out for any",
            );
        }
        networks
    }

    fn conditions(&mut self, section: &Section, key: &str) -> Vec<(String, Condition)> {
        let mut conditions: Vec<(String, Condition)> = Vec::new();
        let is_header = key == "headers";
        let form = if is_header { FIELD } else { PARAMETER };
        for (name, entry) in section.map(key) {
            if !(form.is_name)(name) {
                let reason = format!("{name:?} {}", form.no_name);
                self.report.error(&entry.place, reason);
            }
            if is_header && name.eq_ignore_ascii_case("host") {
                self.report
                    .error(&entry.place, "write host = ... in the route instead");
            }
            let is_same =
                |(other, _): &(String, Condition)| is_header && other.eq_ignore_ascii_case(name);
            if conditions.iter().any(is_same) {
                self.report
                    .error(&entry.place, format!("{name} is listed twice"));
            }
            let condition = match &entry.value {
                Value::Text(text) => {
                    if !(form.is_value)(text) {
                        let reason = format!("{} {}", shown(text, &entry.place), form.no_value);
                        self.report.error(&entry.place, reason);
                    }
                    Some(Condition::Is(text.clone()))
                }
                Value::Section(section) => self.condition(section),
                _ => None,
            };
            conditions.extend(condition.map(|condition| (name.clone(), condition)));
        }
        conditions
    }

    fn condition(&mut self, section: &Section) -> Option<Condition> {
        match (section.flag("present"), section.text("regex")) {
            (true, None) => Some(Condition::Present),
            (false, Some((text, place))) => match Pattern::new(text) {
                Ok(pattern) => Some(Condition::Matches(pattern)),
                Err(reason) => {
                    self.report.error(
                        place,
                        format!("{text:?} is no regular expression: {reason}"),
                    );
                    None
                }
            },
            (true, Some(_)) | (false, None) => {
                let reason = "write { present = true } or { regex = \"...\" }, or the value itself";
                self.report.error(&section.place, reason);
                None
            }
        }
    }
}

/// What a condition may name, and want. One that no request fulfils would take its route away in silence.
struct Form {
    is_name: fn(&str) -> bool,
    /// What is told of another name.
    no_name: &'static str,
    is_value: fn(&str) -> bool,
    /// What is told of another value.
    no_value: &'static str,
}

const FIELD: Form = Form {
    is_name: |text| token::is_token(text.as_bytes()),
    no_name: NO_FIELD_NAME,
    is_value: |text| token::is_field_value(text.as_bytes()) && text.trim() == text,
    no_value: NO_FIELD_VALUE,
};

const PARAMETER: Form = Form {
    is_name: is_parameter_key,
    no_name: NO_PARAMETER_KEY,
    is_value: is_parameter_value,
    no_value: NO_PARAMETER_VALUE,
};

fn host_rule(text: &str) -> Result<HostRule, &'static str> {
    if text == "*" {
        return Err("takes every host; leave host out");
    }
    let (name, is_wildcard) = text
        .strip_prefix("*.")
        .map_or((text, false), |name| (name, true));
    if name.contains('*') {
        return Err("has a * that is not its first label; write \"*.example.test\"");
    }
    let parsed = Authority::parse(name.as_bytes())
        .ok_or("is no host; write a name such as example.test, or an address")?;
    if parsed.host().len() != name.len() {
        return Err("has a port; routes look at the host alone");
    }
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    Ok(if is_wildcard {
        HostRule::Below(name)
    } else {
        HostRule::Is(name)
    })
}

/// RFC 9110 §9.3, RFC 5789.
const STANDARD_METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH",
];
