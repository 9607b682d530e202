//! What of a request decides which endpoint takes it, where an upstream is balanced by a key.

use super::Facts;
use super::fields::NO_FIELD_NAME;
use super::rule::{NO_PARAMETER_KEY, is_parameter_key, parameter};
use hp_core::wire::cookie;
use hp_core::wire::token::is_token;
use std::fmt;
use std::net::IpAddr;

/// Which part of a request. A request that has none of it goes by lot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// The client's address, as far as it is believed.
    ClientIp,
    /// Path and query.
    Uri,
    /// The value of the first field of this name.
    Header(String),
    /// The value of the cookie of this name.
    Cookie(String),
    /// The value of the first parameter of the query with this key, as it was sent.
    Query(String),
}

/// Why a text gives no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKey<'t> {
    /// It has none of the forms.
    Form(&'t str),
    /// No field has this name.
    Header(&'t str),
    /// No cookie has this name.
    Cookie(&'t str),
    /// No parameter of a query has this key.
    Query(&'t str),
}

impl fmt::Display for BadKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(text) => write!(
                f,
                "{text:?} is none of client_ip, uri, header:NAME, cookie:NAME, query:KEY"
            ),
            Self::Header(name) => write!(f, "{name:?} {}", NO_FIELD_NAME),
            Self::Cookie(name) => write!(
                f,
                "{name:?} is no name of a cookie; write letters, digits, - and _"
            ),
            Self::Query(key) => write!(f, "{key:?} {}", NO_PARAMETER_KEY),
        }
    }
}

impl Key {
    /// Reads `client_ip`, `uri`, `header:NAME`, `cookie:NAME` or `query:KEY`.
    ///
    /// # Errors
    /// [`BadKey`], also for a name that no request has: all of them would go by lot.
    pub fn parse(text: &str) -> Result<Self, BadKey<'_>> {
        match text.split_once(':') {
            None if text == "client_ip" => Ok(Self::ClientIp),
            None if text == "uri" => Ok(Self::Uri),
            None | Some((_, "")) => Err(BadKey::Form(text)),
            Some(("header", name)) if is_token(name.as_bytes()) => {
                Ok(Self::Header(name.to_owned()))
            }
            Some(("cookie", name)) if cookie::is_name(name) => Ok(Self::Cookie(name.to_owned())),
            Some(("query", key)) if is_parameter_key(key) => Ok(Self::Query(key.to_owned())),
            Some(("header", name)) => Err(BadKey::Header(name)),
            Some(("cookie", name)) => Err(BadKey::Cookie(name)),
            Some(("query", key)) => Err(BadKey::Query(key)),
            Some(_other) => Err(BadKey::Form(text)),
        }
    }

    /// The hash of that part of a request, if it has it.
    #[must_use]
    pub fn hash(&self, facts: &Facts<'_>, hash: impl Fn(&[u8]) -> u64) -> Option<u64> {
        match self {
            Self::ClientIp => Some(match facts.client? {
                IpAddr::V4(client) => hash(&client.octets()),
                IpAddr::V6(client) => hash(&client.octets()),
            }),
            Self::Uri => {
                let query = facts.query.map_or(0, |query| hash(query.as_bytes()));
                Some(hash(facts.path.as_bytes()) ^ query.rotate_left(1))
            }
            Self::Header(name) => facts.fields.named(name).map(hash),
            Self::Cookie(name) => {
                let field = facts.fields.named("cookie")?;
                cookie::values(field, name).next().map(hash)
            }
            Self::Query(key) => {
                let value = parameter(facts.query?, key)?;
                Some(hash(value.as_bytes()))
            }
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientIp => f.write_str("client_ip"),
            Self::Uri => f.write_str("uri"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(key) => write!(f, "query:{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written_alike() {
        for text in ["client_ip", "uri", "header:X-User", "cookie:sid", "query:k"] {
            assert_eq!(Key::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "", "ip", "header", "header:", "cookie:", "query:", "body:x", "URI",
        ] {
            assert_eq!(Key::parse(text), Err(BadKey::Form(text)), "{text}");
        }
    }

    /// Each was taken, and every request went by lot.
    #[test]
    fn names_that_no_request_has_are_refused() {
        for (text, bad) in [
            ("header:a b", BadKey::Header("a b")),
            ("header: a", BadKey::Header(" a")),
            ("cookie:a b", BadKey::Cookie("a b")),
            ("cookie:a=b", BadKey::Cookie("a=b")),
            ("query:a b", BadKey::Query("a b")),
            ("query:a=b", BadKey::Query("a=b")),
            ("query:a&b", BadKey::Query("a&b")),
            ("query:a#b", BadKey::Query("a#b")),
        ] {
            assert_eq!(Key::parse(text), Err(bad), "{text}");
        }
        for text in [
            "query:a%20b",
            "query:a?b",
            "query:a[]",
            "header:x_y",
            "cookie:__Host-a",
        ] {
            assert!(Key::parse(text).is_ok(), "{text}");
        }
    }
}
