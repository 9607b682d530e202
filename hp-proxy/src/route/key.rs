//! What of a request decides which endpoint takes it, where an upstream is balanced by a key.

use super::Facts;
use super::rule::parameter;
use hp_core::wire::cookie;
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

impl Key {
    /// Reads `client_ip`, `uri`, `header:NAME`, `cookie:NAME` or `query:KEY`; `None` for all else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let name = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        match text.split_once(':') {
            None if text == "client_ip" => Some(Self::ClientIp),
            None if text == "uri" => Some(Self::Uri),
            Some(("header", field)) => name(field).map(Self::Header),
            Some(("cookie", cookie)) => name(cookie).map(Self::Cookie),
            Some(("query", key)) => name(key).map(Self::Query),
            _ => None,
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
            assert_eq!(Key::parse(text), None, "{text}");
        }
    }
}
