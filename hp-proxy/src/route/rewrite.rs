//! What a route makes of a path, and where a redirect leads.

use super::rule::{PathRule, Rule};
use super::template::{Name, Template, Values};

/// What becomes of the path that the upstream sees; the query stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PathChange {
    /// Nothing.
    #[default]
    None,
    /// This prefix of it, which ends where a segment does, is left out.
    Strip(String),
    /// It is written anew.
    Write(Template),
}

/// What follows the prefix of the rule that won, its slash with it; the whole path where the rule has no prefix.
#[must_use]
pub fn rest_of<'p>(rule: &Rule, path: &'p str) -> &'p str {
    match &rule.path {
        PathRule::Prefix(prefix) => {
            let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
            path.strip_prefix(prefix).unwrap_or(path)
        }
        PathRule::Any | PathRule::Is(_) | PathRule::Matches(_) => path,
    }
}

impl PathChange {
    /// Appends the path as the upstream shall see it: it begins with a slash, but for the `*` of OPTIONS.
    pub fn append(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        let path = values.path;
        match self {
            Self::Strip(prefix) => {
                let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
                let rest = path.strip_prefix(prefix).unwrap_or(path);
                if !rest.starts_with('/') && rest != "*" {
                    out.push(b'/');
                }
                out.extend_from_slice(rest.as_bytes());
            }
            Self::Write(template) if path != "*" => template.expand(values, out),
            Self::None | Self::Write(_) => out.extend_from_slice(path.as_bytes()),
        }
    }
}

/// Appends where a redirect leads. One within the same server stays there, whatever the request says: `//` and `/\` at the
/// beginning would name another one (WHATWG URL §4.4, RFC 3986 §4.2).
pub fn append_location(to: &Template, values: &Values<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    to.expand(values, out);
    let is_slash = |byte: &u8| matches!(byte, b'/' | b'\\');
    let location = out.get(start..).unwrap_or_default();
    if location.first() == Some(&b'/') {
        let surplus = location
            .iter()
            .skip(1)
            .take_while(|byte| is_slash(byte))
            .count();
        out.drain(start + 1..start + 1 + surplus);
    }
}

/// Where a redirect may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leads {
    /// To one server, or to where the request came to.
    ToKnownHosts,
    /// To the host that the request names.
    ToTheHostAskedFor,
    /// To wherever the request says.
    Anywhere,
}

/// Where a redirect may lead to, as far as its text tells.
#[must_use]
pub fn leads(to: &Template) -> Leads {
    let (text, name) = to.beginning();
    if text.starts_with('/') || (text.is_empty() && name == Some(Name::Uri)) {
        return Leads::ToKnownHosts; // See `append_location`.
    }
    let Some(after) = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
    else {
        return Leads::Anywhere;
    };
    match name {
        // The authority has ended, or a slash ends it.
        _ if after.contains('/') && !after.starts_with('/') => Leads::ToKnownHosts,
        None | Some(Name::Uri) if !after.is_empty() => Leads::ToKnownHosts,
        Some(Name::Host) if after.is_empty() => match to.after_first_place() {
            ("", None | Some(Name::Uri)) => Leads::ToTheHostAskedFor,
            (text, _) if text.starts_with('/') => Leads::ToTheHostAskedFor,
            (text, next) if is_port_then_slash(text, next) => Leads::ToTheHostAskedFor,
            _ => Leads::Anywhere,
        },
        _ => Leads::Anywhere,
    }
}

/// `:8443`, and then nothing, a path or `{uri}`.
fn is_port_then_slash(text: &str, next: Option<Name>) -> bool {
    let Some(port) = text.strip_prefix(':') else {
        return false;
    };
    let digits = port.split('/').next().unwrap_or_default();
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number && (port.contains('/') || matches!(next, None | Some(Name::Uri)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values<'a>(path: &'a str, rest: &'a str) -> Values<'a> {
        Values {
            path,
            rest,
            ..Values::default()
        }
    }

    #[test]
    fn a_path_without_its_prefix_still_begins_with_a_slash() {
        let check = |prefix: &str, path: &str, expected: &str| {
            let mut out = Vec::new();
            PathChange::Strip(prefix.to_owned()).append(&values(path, path), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{prefix} {path}");
        };
        check("/v1", "/v1/a", "/a");
        check("/v1/", "/v1/a", "/a");
        check("/v1", "/v1", "/");
        check("/v1", "/v1/", "/");
        check("/v1", "/other", "/other");
        check("/v1", "*", "*");
    }

    #[test]
    fn a_redirect_within_the_server_never_leaves_it() {
        let check = |to: &str, rest: &str, expected: &str| {
            let mut out = b"Location: ".to_vec();
            append_location(&Template::parse(to).unwrap(), &values(rest, rest), &mut out);
            assert_eq!(
                String::from_utf8(out).unwrap(),
                format!("Location: {expected}")
            );
        };
        check("/{path}", "/a", "/a");
        check("/{path}", "//evil.test/x", "/evil.test/x");
        check("{uri}", "//evil.test", "/evil.test");
        check("/new/{path}", "//a", "/new//a");
        check("https://a.test/{path}", "//a", "https://a.test//a");
    }

    #[test]
    fn it_is_known_where_a_redirect_may_lead() {
        let check = |to: &str, expected| {
            assert_eq!(leads(&Template::parse(to).unwrap()), expected, "{to}");
        };
        for to in [
            "/a",
            "{uri}",
            "/{path}",
            "https://a.test/{path}",
            "http://a.test{uri}",
            "https://a.test",
            "https://a.test:8443/",
        ] {
            check(to, Leads::ToKnownHosts);
        }
        for to in [
            "https://{host}{uri}",
            "https://{host}/x",
            "https://{host}",
            "https://{host}:8443{uri}",
            "https://{host}:8443/{path}",
        ] {
            check(to, Leads::ToTheHostAskedFor);
        }
        for to in [
            "{path}",
            "https://{path}",
            "https://a.test{path}",
            "https://{1}.a.test/",
            "https://{host}.a.test/",
            "https://{host}{path}",
            "https:///{path}",
            "https://{host}:{1}/",
            "//a/",
            "a",
            "https://a.test{query}",
        ] {
            let expected = if to == "//a/" {
                Leads::ToKnownHosts
            } else {
                Leads::Anywhere
            };
            check(to, expected);
        }
    }
}
