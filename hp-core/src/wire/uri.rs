//! The parts of a request target: authority, host, port, path and query.
//!
//! Checks grammar and splits; decodes and normalises nothing, because what reaches the backend is
//! what the client sent. Knows nothing about methods, fields or routes.

use std::net::Ipv6Addr;

use super::token::{self, hex_digit, is_class};

/// The scheme of an absolute target. RFC 9110 §4.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `http`, default port 80.
    Http,
    /// `https`, default port 443.
    Https,
}

impl Scheme {
    /// The port that an authority without one means.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A checked `host [ ":" port ]`, without userinfo. RFC 3986 §3.2, RFC 9110 §7.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'b> {
    text: &'b [u8],
    /// `host_len <= text.len()`; the colon, if any, stands at `host_len`.
    host_len: usize,
    port: Option<u16>,
}

impl<'b> Authority<'b> {
    /// Reads an authority; `None` unless every byte fits the grammar and the host is not empty.
    ///
    /// Userinfo is refused (RFC 9110 §4.2.4), an IP literal must be an IPv6 address in brackets, a
    /// port is at most 65535 and may be empty (RFC 3986 §3.2.3).
    #[must_use]
    pub fn parse(bytes: &'b [u8]) -> Option<Self> {
        let host_len = if bytes.first() == Some(&b'[') {
            ip_literal_len(bytes)?
        } else {
            reg_name_len(bytes)?
        };
        let port = match bytes.get(host_len..)? {
            [] | [b':'] => None,
            [b':', digits @ ..] => Some(u16::try_from(token::decimal(digits)?).ok()?),
            _ => return None,
        };
        Some(Self {
            text: bytes,
            host_len,
            port,
        })
    }

    /// The authority as it was received; ASCII.
    #[must_use]
    pub fn as_bytes(&self) -> &'b [u8] {
        self.text
    }

    /// The host as it was received, an IPv6 address with its brackets.
    #[must_use]
    pub fn host(&self) -> &'b [u8] {
        self.text.get(..self.host_len).unwrap_or(self.text)
    }

    /// The port, if digits were given.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Tells whether both name the same server when a missing port means `default_port`.
    ///
    /// Hosts compare without case. RFC 9110 §4.2.3.
    #[must_use]
    pub fn is_same_server(&self, other: &Authority<'_>, default_port: u16) -> bool {
        self.host().eq_ignore_ascii_case(other.host())
            && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }
}

/// The authority that was read last: nearly all requests of a client name the same one, byte for byte, and what was judged once is not
/// judged again.
#[derive(Clone, Copy, Debug)]
pub struct KnownAuthority {
    bytes: [u8; KNOWN_BYTES_MAX],
    /// `host_len <= len <= KNOWN_BYTES_MAX`; 0: none is known.
    len: u8,
    host_len: u8,
    port: Option<u16>,
}

impl KnownAuthority {
    /// Nothing is known yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: [0; KNOWN_BYTES_MAX],
            len: 0,
            host_len: 0,
            port: None,
        }
    }

    /// Reads an authority as [`Authority::parse`] does, and remembers it.
    #[inline]
    pub fn parse<'b>(&mut self, bytes: &'b [u8]) -> Option<Authority<'b>> {
        if self.len > 0 && self.bytes.get(..usize::from(self.len)) == Some(bytes) {
            return Some(Authority {
                text: bytes,
                host_len: usize::from(self.host_len),
                port: self.port,
            });
        }
        self.parse_new(bytes)
    }

    fn parse_new<'b>(&mut self, bytes: &'b [u8]) -> Option<Authority<'b>> {
        let read = Authority::parse(bytes)?;
        if let Some(room) = self.bytes.get_mut(..bytes.len())
            && let (Ok(len), Ok(host_len)) =
                (u8::try_from(bytes.len()), u8::try_from(read.host_len))
        {
            room.copy_from_slice(bytes);
            (self.len, self.host_len, self.port) = (len, host_len, read.port);
        }
        Some(read)
    }
}

impl Default for KnownAuthority {
    fn default() -> Self {
        Self::new()
    }
}

/// Tells whether `bytes` are an origin-form target: `/` path, then maybe `?` and a query.
///
/// A percent sign in the path must be followed by two hexadecimal digits; a query may hold anything
/// that a browser sends in one. RFC 9112 §3.2.1, RFC 3986 §3.3 and §3.4.
#[must_use]
pub fn is_path_and_query(bytes: &[u8]) -> bool {
    bytes.first() == Some(&b'/') && is_path_rest(bytes)
}

/// Splits `http://authority/path?query` into scheme, authority and the rest, which may be empty or
/// begin with `?`; `None` for other schemes and for anything outside the grammar.
///
/// RFC 9112 §3.2.2.
#[must_use]
pub fn split_absolute(target: &str) -> Option<(Scheme, Authority<'_>, &str)> {
    let (scheme, rest) = target.split_once("://")?;
    let scheme = if scheme.eq_ignore_ascii_case("http") {
        Scheme::Http
    } else if scheme.eq_ignore_ascii_case("https") {
        Scheme::Https
    } else {
        return None;
    };
    let end = rest
        .bytes()
        .position(|byte| matches!(byte, b'/' | b'?'))
        .unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    let authority = Authority::parse(authority.as_bytes())?;
    is_path_rest(path.as_bytes()).then_some((scheme, authority, path))
}

/// Checks path bytes up to a `?` and query bytes after it.
fn is_path_rest(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let [byte, tail @ ..] = rest {
        rest = if is_class(*byte, token::PATH) {
            tail
        } else if *byte == b'?' {
            return tail.iter().all(|&byte| is_class(byte, token::QUERY));
        } else if let Some(tail) = after_percent(rest) {
            tail
        } else {
            return false;
        };
    }
    true
}

/// Returns what follows a percent-encoded byte, if `bytes` begins with one. RFC 3986 §2.1.
fn after_percent(bytes: &[u8]) -> Option<&[u8]> {
    match bytes {
        [b'%', high, low, rest @ ..] => {
            hex_digit(*high)?;
            hex_digit(*low)?;
            Some(rest)
        }
        _ => None,
    }
}

/// Length of a registered name or IPv4 address up to the colon; `None` if it is empty or bad.
fn reg_name_len(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    while let [byte, tail @ ..] = rest {
        rest = if is_class(*byte, token::REG_NAME) {
            tail
        } else if *byte == b':' {
            break;
        } else {
            after_percent(rest)?
        };
    }
    let len = bytes.len() - rest.len();
    (len > 0).then_some(len)
}

/// Length of `[IPv6address]`, brackets included. A zone and the future forms are refused.
fn ip_literal_len(bytes: &[u8]) -> Option<usize> {
    let close = memchr::memchr(b']', bytes)?;
    let inner = str::from_utf8(bytes.get(1..close)?).ok()?;
    let _address: Ipv6Addr = inner.parse().ok()?;
    Some(close + 1)
}

/// Of an authority that is remembered; longer ones are read each time.
const KNOWN_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_follow_the_grammar() {
        for good in [
            "a",
            "a.b:80",
            "127.0.0.1:9001",
            "[::1]",
            "[2001:db8::1]:443",
            "a_b-c~d",
            "a%20b",
            "a:",
            "A:65535",
        ] {
            assert!(Authority::parse(good.as_bytes()).is_some(), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a:b",
            "a:65536",
            "a:-1",
            "a:1:2",
            "u@a",
            "u:p@a",
            "a b",
            "a/b",
            "a%2",
            "a%zz",
            "[::1",
            "[]",
            "[::1]x",
            "[fe80::1%25eth0]",
            "[v1.a]",
            "::1",
            "a\\b",
            "é",
            "a,b:1,2",
            "a\"",
        ] {
            assert!(Authority::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn what_is_known_is_read_as_if_it_were_new() {
        let longest_known = format!("{}:80", "a".repeat(61));
        let too_long = format!("{}:80", "a".repeat(62));
        let texts = [
            "a:80",
            "",
            "a",
            "a:8",
            "a:80",
            "A:80",
            "[::1]:80",
            "[::1]",
            "a:80x",
            "u@a",
            "",
            &longest_known,
            &too_long,
            &longest_known,
            "a",
        ];
        let mut known = KnownAuthority::new();
        for text in texts {
            for _ in 0..2 {
                let read = known.parse(text.as_bytes());
                assert_eq!(read, Authority::parse(text.as_bytes()), "{text}");
            }
        }
    }

    #[test]
    fn host_keeps_its_brackets_and_port_is_a_number() {
        let authority = Authority::parse(b"[::1]:8080").unwrap();
        assert_eq!(authority.host(), b"[::1]");
        assert_eq!(authority.port(), Some(8080));
        assert_eq!(authority.as_bytes(), b"[::1]:8080");
    }

    #[test]
    fn a_missing_port_is_the_default_port() {
        let same = |a: &str, b: &str| {
            let a = Authority::parse(a.as_bytes()).unwrap();
            let b = Authority::parse(b.as_bytes()).unwrap();
            a.is_same_server(&b, 80)
        };
        assert!(same("A.b", "a.B:80"));
        assert!(same("a:", "a"));
        assert!(!same("a", "a:81"));
        assert!(!same("a", "b"));
    }

    #[test]
    fn paths_are_decodable_and_queries_are_what_browsers_send() {
        for good in [
            "/",
            "/a%20b",
            "/a;b=c@d:e",
            "//",
            "/a?x[]=1&y={2}|3^4`\\",
            "/?50%",
            "/a?b?c/",
        ] {
            assert!(is_path_and_query(good.as_bytes()), "{good}");
        }
        for bad in [
            "", "a", "*", "/%", "/%2", "/%zz", "/a b", "/a\\b", "/a#b", "/?#", "/\"", "/<", "/é",
            "/?é", "/{", "/^", "/`", "/\x7f", "/\t", "?a",
        ] {
            assert!(!is_path_and_query(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn absolute_targets_split_in_three() {
        let (scheme, authority, rest) = split_absolute("HTTP://a:1/b?c").unwrap();
        assert_eq!(
            (scheme, authority.as_bytes(), rest),
            (Scheme::Http, &b"a:1"[..], "/b?c")
        );
        assert_eq!(split_absolute("https://a?b").unwrap().2, "?b");
        assert_eq!(split_absolute("http://a").unwrap().2, "");
        for bad in [
            "ftp://a/",
            "http:/a",
            "http:///a",
            "http://u@a/",
            "http://a\\b/",
            "a/b",
        ] {
            assert!(split_absolute(bad).is_none(), "{bad}");
        }
    }
}
