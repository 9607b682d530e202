//! What one route asks of a request, how specific that is, and whether two of them can be told apart.

use super::Facts;
use hp_core::wire::uri::is_path_and_query;
use ipnet::IpNet;
use regex::Regex;
use std::cmp::Reverse;
use std::fmt;

/// What a request must be like; an empty rule takes every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The host asked for.
    pub host: HostRule,
    /// The path in its normal form.
    pub path: PathRule,
    /// One of these methods; empty: any.
    pub methods: Vec<String>,
    /// All of these fields, by name.
    pub headers: Vec<(String, Condition)>,
    /// All of these parameters of the query, by key.
    pub query: Vec<(String, Condition)>,
    /// Asked from one of these networks; empty: any.
    pub client_ips: Vec<IpNet>,
}

/// Which hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostRule {
    /// All of them.
    #[default]
    Any,
    /// All names below one: of `*.example.test` this is `example.test`, in lower case.
    Below(String),
    /// One, in lower case.
    Is(String),
}

/// Which paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PathRule {
    /// All of them, `*` included.
    #[default]
    Any,
    /// Those that begin so, where it ends at a slash: `/v1` takes `/v1` and `/v1/x`, not `/v10`.
    Prefix(String),
    /// Those that match.
    Matches(Pattern),
    /// One.
    Is(String),
}

/// What a field or a parameter must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// There, whatever its value.
    Present,
    /// There with this value.
    Is(String),
    /// There with a value that matches.
    Matches(Pattern),
}

/// A regular expression, with the text that every match begins with. Its time is linear in the text that it is given.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
    parts: Parts,
}

/// An expression in two: what stands there letter by letter, and what is left to search for behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Parts {
    /// What every match begins with.
    literal: String,
    /// Bytes of the literal before the rest; none where the rest is the whole expression.
    before: usize,
    /// Where in the text the rest begins.
    rest: usize,
}

/// Why a rule does not take a request; the first reason in the order of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused<'r> {
    /// Another host.
    Host,
    /// Another path.
    Path,
    /// None of its methods.
    Method,
    /// The field of this name is not as it must be.
    Header(&'r str),
    /// The parameter of this key is not as it must be.
    Query(&'r str),
    /// None of its networks.
    ClientIp,
}

/// How specific the conditions besides host and path are: greater is more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight {
    has_methods: bool,
    methods: Reverse<usize>,
    headers: usize,
    query: usize,
    has_networks: bool,
    /// Of the widest network.
    prefix_len: u8,
}

/// How specific a rule is: greater is more, and equal only for rules of which no request may match both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank<'r> {
    host: (u8, usize),
    literal: usize,
    path: (u8, usize, Reverse<&'r str>),
    weight: Weight,
}

impl Rule {
    /// Whether the conditions besides host and path hold.
    ///
    /// # Errors
    /// The first that does not.
    pub fn accepts(&self, facts: &Facts<'_>) -> Result<(), Refused<'_>> {
        let has_method = |method: &String| method == facts.method;
        if !self.methods.is_empty() && !self.methods.iter().any(has_method) {
            return Err(Refused::Method);
        }
        for (name, condition) in &self.headers {
            if !facts
                .fields
                .named(name)
                .is_some_and(|value| condition.holds(value))
            {
                return Err(Refused::Header(name));
            }
        }
        for (key, condition) in &self.query {
            let value = parameter(facts.query.unwrap_or_default(), key);
            if !value.is_some_and(|value| condition.holds(value.as_bytes())) {
                return Err(Refused::Query(key));
            }
        }
        let is_inside = |net: &IpNet| facts.client.is_some_and(|client| net.contains(&client));
        if !self.client_ips.is_empty() && !self.client_ips.iter().any(is_inside) {
            return Err(Refused::ClientIp);
        }
        Ok(())
    }

    /// Whether all of it holds; the way without an index, for explanations and for tests of the index.
    ///
    /// # Errors
    /// The first that does not.
    pub fn judge(&self, facts: &Facts<'_>) -> Result<(), Refused<'_>> {
        if !self.host.takes(facts.host) {
            return Err(Refused::Host);
        }
        if !self.path.takes(facts.path) {
            return Err(Refused::Path);
        }
        self.accepts(facts)
    }

    /// How specific its conditions besides host and path are.
    #[must_use]
    pub fn weight(&self) -> Weight {
        let networks = self.client_ips.iter();
        Weight {
            has_methods: !self.methods.is_empty(),
            methods: Reverse(self.methods.len()),
            headers: self.headers.len(),
            query: self.query.len(),
            has_networks: !self.client_ips.is_empty(),
            prefix_len: networks.map(IpNet::prefix_len).min().unwrap_or(0),
        }
    }

    /// How specific it is.
    #[must_use]
    pub fn rank(&self) -> Rank<'_> {
        let host = match &self.host {
            HostRule::Any => (0, 0),
            HostRule::Below(name) => (1, name.len()),
            HostRule::Is(_) => (2, 0),
        };
        let path = match &self.path {
            PathRule::Any | PathRule::Prefix(_) => (0, 0, Reverse("")),
            PathRule::Matches(pattern) => {
                let text = pattern.as_str();
                (1, text.len(), Reverse(text))
            }
            PathRule::Is(_) => (2, 0, Reverse("")),
        };
        Rank {
            host,
            literal: self.path.literal().len(),
            path,
            weight: self.weight(),
        }
    }

    /// Whether a request may match both, and neither is the more specific one.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.host == other.host
            && self.path == other.path
            && self.weight() == other.weight()
            && (self.methods.is_empty()
                || self
                    .methods
                    .iter()
                    .any(|method| other.methods.contains(method)))
            && may_both_hold(&self.headers, &other.headers, str::eq_ignore_ascii_case)
            && may_both_hold(&self.query, &other.query, |a, b| a == b)
            && (self.client_ips.is_empty() || {
                let meets = |a: &IpNet| {
                    let mut others = other.client_ips.iter();
                    others.any(|b| a.contains(b) || b.contains(a))
                };
                self.client_ips.iter().any(meets)
            })
    }
}

/// Whether one request may fulfil two lists of conditions: it may unless both want one value of the same name, and not the same.
fn may_both_hold(
    one: &[(String, Condition)],
    other: &[(String, Condition)],
    is_same: impl Fn(&str, &str) -> bool,
) -> bool {
    one.iter().all(|(name, condition)| {
        let mut same_name = other.iter().filter(|(other, _)| is_same(name, other));
        same_name.all(|(_, other)| match (condition, other) {
            (Condition::Is(one), Condition::Is(other)) => one == other,
            (Condition::Is(value), Condition::Matches(pattern))
            | (Condition::Matches(pattern), Condition::Is(value)) => pattern.matches(value),
            _ => true,
        })
    })
}

/// The value of the first parameter with this key; empty where there is no equals sign. Compared as it was sent.
pub(super) fn parameter<'q>(query: &'q str, key: &str) -> Option<&'q str> {
    let mut rest = query;
    loop {
        // It is there if the pair begins with it and what follows ends it; one that has such a byte itself is nowhere.
        if let Some(after) = rest.strip_prefix(key)
            && matches!(after.as_bytes().first(), None | Some(b'=' | b'&'))
            && !key.bytes().any(|byte| matches!(byte, b'=' | b'&'))
        {
            let value = after.strip_prefix('=').unwrap_or_default();
            let end = memchr::memchr(b'&', value.as_bytes());
            return value.get(..end.unwrap_or(value.len()));
        }
        let end = memchr::memchr(b'&', rest.as_bytes())?;
        rest = rest.get(end + 1..)?;
    }
}

/// Whether a query may have a parameter with this key: there is one, and nothing in it ends it or the query.
#[must_use]
pub fn is_parameter_key(text: &str) -> bool {
    !text.is_empty() && !text.contains('=') && is_parameter_value(text)
}

/// Whether a parameter of a query may have this value.
#[must_use]
pub fn is_parameter_value(text: &str) -> bool {
    !text.contains('&') && is_path_and_query(format!("/?{text}").as_bytes())
}

/// What is told of a text that no parameter of a query has as its key.
pub const NO_PARAMETER_KEY: &str =
    "is no key of a query; write it as clients send it, percent-encoded";
/// What is told of a text that no parameter of a query has as its value.
pub const NO_PARAMETER_VALUE: &str =
    "is no value in a query; write it as clients send it, percent-encoded";

impl HostRule {
    fn takes(&self, host: &[u8]) -> bool {
        let host = host.strip_suffix(b".").unwrap_or(host);
        match self {
            Self::Any => true,
            Self::Below(_) | Self::Is(_) if host.len() > HOST_BYTES_MAX => false,
            Self::Below(name) => {
                let below = host.len().checked_sub(name.len() + 1);
                below.is_some_and(|len| {
                    len > 0
                        && host.get(len) == Some(&b'.')
                        && host
                            .get(len + 1..)
                            .is_some_and(|end| end.eq_ignore_ascii_case(name.as_bytes()))
                })
            }
            Self::Is(name) => host.eq_ignore_ascii_case(name.as_bytes()),
        }
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Is(name) => f.write_str(name),
        }
    }
}

impl PathRule {
    /// What every path that it takes begins with.
    #[must_use]
    pub fn literal(&self) -> &str {
        match self {
            Self::Any => "",
            Self::Prefix(text) | Self::Is(text) => text,
            Self::Matches(pattern) => &pattern.parts.literal,
        }
    }

    fn takes(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Prefix(prefix) => path.starts_with(prefix) && ends_at_slash(prefix, path),
            Self::Matches(pattern) => pattern.matches(path),
            Self::Is(whole) => path == whole,
        }
    }
}

/// Whether a prefix of a path ends where a segment does.
pub(super) fn ends_at_slash(prefix: &str, path: &str) -> bool {
    prefix.is_empty()
        || prefix.ends_with('/')
        || matches!(path.as_bytes().get(prefix.len()), None | Some(b'/'))
}

impl fmt::Display for PathRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any path"),
            Self::Prefix(text) => write!(f, "{text}..."),
            Self::Matches(pattern) => write!(f, "~ {}", pattern.as_str()),
            Self::Is(text) => write!(f, "= {text}"),
        }
    }
}

impl Condition {
    fn holds(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Is(wanted) => value == wanted.as_bytes(),
            Self::Matches(pattern) => {
                std::str::from_utf8(value).is_ok_and(|text| pattern.matches(text))
            }
        }
    }
}

impl Pattern {
    /// Reads a regular expression.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn new(text: &str) -> Result<Self, String> {
        let built = regex::RegexBuilder::new(text)
            .size_limit(PATTERN_BYTES_MAX)
            .build();
        let regex = built.map_err(|error| {
            let told = error.to_string();
            let last = told.lines().last().unwrap_or_default().trim();
            last.strip_prefix("error: ").unwrap_or(last).to_owned()
        })?;
        Ok(Self {
            parts: Parts::of(text),
            regex,
        })
    }

    /// The expression as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.regex.as_str()
    }

    /// What of it is left to search for in a path that begins with its literal, and how many bytes of the literal stand before that.
    /// Without any the rest is the whole expression.
    #[must_use]
    pub(super) fn rest(&self) -> (&str, usize) {
        let rest = self.as_str().get(self.parts.rest..);
        (rest.unwrap_or_default(), self.parts.before)
    }

    /// Whether it matches somewhere in the text.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// What its groups match.
    #[must_use]
    pub fn captures<'t>(&self, text: &'t str) -> Option<regex::Captures<'t>> {
        self.regex.captures(text)
    }

    /// How many groups it has.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.regex.captures_len() - 1
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl Parts {
    /// The literal: letters after `^`, up to the first that has a meaning of its own.
    fn of(text: &str) -> Self {
        let Some(after) = text.strip_prefix('^') else {
            return Self::default();
        };
        if after.contains('|') {
            return Self::default(); // It may be another beginning.
        }
        let is_special = |letter: char| r"\.+*?()[]{}|^$".contains(letter);
        let end = after.find(is_special).unwrap_or(after.len());
        let (letters, special) = after.split_at(end);
        let mut without_last = letters.chars();
        without_last.next_back();
        let (literal, before) = if special.starts_with(['*', '?', '{']) {
            (without_last.as_str(), without_last.as_str()) // The last may be missing.
        } else if special.starts_with('+') {
            (letters, without_last.as_str()) // The last may come again.
        } else {
            (letters, letters)
        };
        Self {
            literal: literal.to_owned(),
            before: before.len(),
            rest: if before.is_empty() {
                0
            } else {
                "^".len() + before.len()
            },
        }
    }
}

/// Of a name in the DNS, with room (RFC 1035 §2.3.4); a longer one is nobody's.
pub(super) const HOST_BYTES_MAX: usize = 256;
/// Of one compiled expression.
const PATTERN_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_knows_what_its_matches_begin_with() {
        for (text, literal, rest, before) in [
            ("^/u/([0-9]+)$", "/u/", "([0-9]+)$", 3),
            ("/u/", "", "/u/", 0),
            ("^/ab*", "/a", "b*", 2),
            ("^/ab?c", "/a", "b?c", 2),
            ("^/ab+", "/ab", "b+", 2),
            ("^/ab{0}", "/a", "b{0}", 2),
            ("^/a|/b", "", "^/a|/b", 0),
            ("^(?i)/a", "", "^(?i)/a", 0),
            (r"^/a\.b", "/a", r"\.b", 2),
            ("^/whole", "/whole", "", 6),
            ("^/+", "/", "^/+", 0),
            ("^/*", "", "^/*", 0),
            ("^", "", "^", 0),
        ] {
            let pattern = Pattern::new(text).unwrap();
            assert_eq!(pattern.rest(), (rest, before), "{text}");
            assert_eq!(PathRule::Matches(pattern).literal(), literal, "{text}");
        }
    }

    #[test]
    fn a_prefix_ends_at_a_slash() {
        let takes = |prefix: &str, path| PathRule::Prefix(prefix.to_owned()).takes(path);
        assert!(takes("/v1", "/v1") && takes("/v1", "/v1/") && takes("/v1", "/v1/x"));
        assert!(!takes("/v1", "/v10") && !takes("/v1/", "/v1") && takes("/", "/x"));
        assert!(!takes("/", "*"));
    }

    #[test]
    fn a_parameter_is_the_first_of_its_key() {
        for (query, key, value) in [
            ("k=v", "k", Some("v")),
            ("k", "k", Some("")),
            ("k=", "k", Some("")),
            ("k&k=v", "k", Some("")),
            ("a=1&k=v&k=w", "k", Some("v")),
            ("k=a=b&c", "k", Some("a=b")),
            ("kk=1&k", "k", Some("")),
            ("a=k=1&b", "k", None),
            ("ak=1", "k", None),
            ("k=v", "", None),
            ("=v", "", Some("v")),
            ("a&&k", "", Some("")),
            ("", "", Some("")),
            ("a=1&", "", Some("")),
            ("", "k", None),
            ("a=b=c", "a=b", None),
            ("a&b", "a&b", None),
            ("a=", "a=", None),
        ] {
            assert_eq!(parameter(query, key), value, "{query:?} {key:?}");
        }
    }

    #[test]
    fn names_below_a_host_have_at_least_one_label_more() {
        let below = HostRule::Below(String::from("example.test"));
        assert!(below.takes(b"A.Example.Test") && below.takes(b"a.b.example.test."));
        for other in ["example.test", ".example.test", "aexample.test", "test", ""] {
            assert!(!below.takes(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn rules_overlap_unless_something_tells_them_apart() {
        let with = |headers: &[(&str, &str)], methods: &[&str]| Rule {
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Condition::Is((*value).to_owned())))
                .collect(),
            methods: methods.iter().map(|method| (*method).to_owned()).collect(),
            ..Rule::default()
        };
        let check = |one: &Rule, other: &Rule, expected| {
            assert_eq!(one.overlaps(other), expected, "{one:?} {other:?}");
            assert_eq!(other.overlaps(one), expected, "{other:?} {one:?}");
        };
        check(&with(&[], &[]), &with(&[], &[]), true);
        check(&with(&[("a", "1")], &[]), &with(&[("A", "2")], &[]), false);
        check(&with(&[("a", "1")], &[]), &with(&[("b", "2")], &[]), true);
        check(&with(&[("a", "1")], &[]), &with(&[], &[]), false);
        check(&with(&[], &["GET"]), &with(&[], &["PUT"]), false);
        check(&with(&[], &["GET", "PUT"]), &with(&[], &["PUT", "A"]), true);
        check(&with(&[], &["GET"]), &with(&[], &["PUT", "GET"]), false);
    }

    #[test]
    fn bad_expressions_are_refused_in_one_line() {
        for bad in ["(", "[a", "a{5000}{5000}", r"\8"] {
            let told = Pattern::new(bad).unwrap_err();
            assert!(!told.is_empty() && !told.contains('\n'), "{bad}: {told}");
        }
    }
}
