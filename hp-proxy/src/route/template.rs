//! Texts with places for what a request says: `https://www.example.test/new/{path}`.

use hp_core::wire::forwarding::append_ip;
use std::fmt;
use std::net::IpAddr;

/// A text with places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    /// It is not shown to people.
    is_secret: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Name),
}

/// What can stand in a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// Group of the route's `path_regex`, from 1.
    Capture(usize),
    /// The address of the client.
    ClientIp,
    /// The endpoint that answered, as the file names it.
    Endpoint,
    /// The host asked for, without its port.
    Host,
    /// What follows the route's prefix, or the whole path, without a slash before it.
    Path,
    /// The query with its question mark, or nothing.
    Query,
    /// The name of the route.
    Route,
    /// The name of the upstream.
    Upstream,
    /// Path and query.
    Uri,
}

/// What stands in the places; what is not known is empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Values<'a> {
    /// Of [`Name::ClientIp`].
    pub client: Option<IpAddr>,
    /// Of [`Name::Endpoint`].
    pub endpoint: &'a str,
    /// Of [`Name::Host`].
    pub host: &'a [u8],
    /// The path in its normal form.
    pub path: &'a str,
    /// Of [`Name::Path`], with its slash.
    pub rest: &'a str,
    /// Without its question mark.
    pub query: Option<&'a str>,
    /// Of [`Name::Route`].
    pub route: &'a str,
    /// Of [`Name::Upstream`].
    pub upstream: &'a str,
    /// The groups of the route's `path_regex`.
    pub captures: Option<&'a regex::Captures<'a>>,
}

impl Name {
    fn of(text: &str) -> Option<Self> {
        if let Ok(group) = text.parse::<usize>() {
            return (group > 0).then_some(Self::Capture(group));
        }
        NAMES
            .iter()
            .find(|(_, name)| *name == text)
            .map(|(name, _)| *name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = NAMES.iter().find(|(name, _)| name == self);
        match (self, known) {
            (Self::Capture(group), _) => write!(f, "{{{group}}}"),
            (_, Some((_, name))) => write!(f, "{{{name}}}"),
            (_, None) => f.write_str("{}"),
        }
    }
}

impl Template {
    /// Reads a text with places. Two braces stand for one that is meant.
    ///
    /// # Errors
    /// What is wrong with it, and what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(position) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(position);
            literal.push_str(before);
            if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
                literal.push_str(from.get(..1).unwrap_or_default());
                rest = after;
                continue;
            }
            let Some((name, after)) = from.strip_prefix('{').and_then(|from| from.split_once('}'))
            else {
                return Err(String::from(
                    "a brace without its other one; write {{ or }} for a brace itself",
                ));
            };
            let Some(name) = Name::of(name) else {
                return Err(format!("{{{name}}} stands for nothing"));
            };
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(Part::Value(name));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self {
            parts,
            is_secret: false,
        })
    }

    /// A text without places that is not shown to people.
    #[must_use]
    pub fn secret(text: &str) -> Self {
        Self {
            parts: vec![Part::Text(text.to_owned())],
            is_secret: true,
        }
    }

    /// What stands in its places.
    pub fn names(&self) -> impl Iterator<Item = Name> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Value(name) => Some(*name),
        })
    }

    /// Its parts that are text.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Value(_) => None,
        })
    }

    /// The text that it begins with, and what stands in the place after it.
    #[must_use]
    pub fn beginning(&self) -> (&str, Option<Name>) {
        match self.parts.as_slice() {
            [] => ("", None),
            [Part::Text(text)] | [Part::Text(text), Part::Text(_), ..] => (text, None),
            [Part::Text(text), Part::Value(name), ..] => (text, Some(*name)),
            [Part::Value(name), ..] => ("", Some(*name)),
        }
    }

    /// What stands in its second place, after [`Template::beginning`], with the text before it.
    #[must_use]
    pub fn after_first_place(&self) -> (&str, Option<Name>) {
        let first = self
            .parts
            .iter()
            .position(|part| matches!(part, Part::Value(_)));
        let rest = first.and_then(|first| self.parts.get(first + 1..));
        match rest.unwrap_or_default() {
            [Part::Text(text), Part::Value(name), ..] => (text, Some(*name)),
            [Part::Text(text), ..] => (text, None),
            [Part::Value(name), ..] => ("", Some(*name)),
            [] => ("", None),
        }
    }

    /// Appends the text with the values in its places.
    pub fn expand(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Value(name) => values.append(*name, out),
            }
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_secret {
            return f.write_str("(not shown)");
        }
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}")),
            Part::Value(name) => name.fmt(f),
        })
    }
}

impl Values<'_> {
    fn append(&self, name: Name, out: &mut Vec<u8>) {
        match name {
            Name::Capture(group) => {
                let captured = self.captures.and_then(|captures| captures.get(group));
                out.extend_from_slice(captured.map_or("", |found| found.as_str()).as_bytes());
            }
            Name::ClientIp => {
                if let Some(client) = self.client {
                    append_ip(out, client);
                }
            }
            Name::Endpoint => out.extend_from_slice(self.endpoint.as_bytes()),
            Name::Host => out.extend_from_slice(self.host),
            Name::Path => {
                let rest = self.rest.strip_prefix('/').unwrap_or(self.rest);
                out.extend_from_slice(rest.as_bytes());
            }
            Name::Query => self.append_query(out),
            Name::Route => out.extend_from_slice(self.route.as_bytes()),
            Name::Upstream => out.extend_from_slice(self.upstream.as_bytes()),
            Name::Uri => {
                out.extend_from_slice(self.path.as_bytes());
                self.append_query(out);
            }
        }
    }

    fn append_query(&self, out: &mut Vec<u8>) {
        if let Some(query) = self.query {
            out.push(b'?');
            out.extend_from_slice(query.as_bytes());
        }
    }
}

const NAMES: [(Name, &str); 8] = [
    (Name::ClientIp, "client_ip"),
    (Name::Endpoint, "endpoint"),
    (Name::Host, "host"),
    (Name::Path, "path"),
    (Name::Query, "query"),
    (Name::Route, "route"),
    (Name::Upstream, "upstream"),
    (Name::Uri, "uri"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let pattern = super::super::rule::Pattern::new("^/u/([0-9]+)/(x)?").unwrap();
        let captures = pattern.captures("/u/17/").unwrap();
        let values = Values {
            client: Some("192.0.2.1".parse().unwrap()),
            endpoint: "a:1",
            host: b"h",
            path: "/v1/a",
            rest: "/a",
            query: Some("q=1"),
            route: "r",
            upstream: "u",
            captures: Some(&captures),
        };
        let template = Template::parse(text).unwrap();
        let mut out = Vec::new();
        template.expand(&values, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert_eq!(template.to_string(), text, "it is shown as it was written");
    }

    #[test]
    fn places_are_filled() {
        check("", "");
        check("plain", "plain");
        check("/{path}{query}", "/a?q=1");
        check("{uri}", "/v1/a?q=1");
        check("{1}-{2}-{3}", "17--");
        check(
            "{client_ip} {endpoint} {host} {route} {upstream}",
            "192.0.2.1 a:1 h r u",
        );
        check("{{path}}", "{path}");
    }

    #[test]
    fn what_stands_for_nothing_is_refused() {
        for bad in [
            "{", "}", "{path", "path}", "{}", "{0}", "{nope}", "{Path}", "{-1}",
        ] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }
}
