//! What to load: `HOST:PORT` or `http://HOST[:PORT][/PATH]`, and nothing that merely looks like one.
//!
//! Must not know: sockets. Names are resolved elsewhere.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hp_core::rt::net::Address;

/// The parsed target of a run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    host: String,
    port: u16,
    path: String,
    unix: Option<PathBuf>,
}

/// Why a text is not a target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TargetError {
    /// Nothing between the scheme and the port.
    NoHost,
    /// `HOST` alone: the seed's form needs the port.
    NoPort,
    /// The port is not a number from 1 to 65535.
    BadPort,
    /// No path of a socket after `unix:`, or one that is longer than a socket's may be.
    BadSocket,
    /// A character that no host name or address has.
    BadHost,
    /// A blank, a control character or a fragment in the path.
    BadPath,
    /// A scheme other than `http`.
    BadScheme,
    /// `USER:PASSWORD@` before the host.
    UserInfo,
}

impl Target {
    /// The name or address as a resolver wants it: an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// 1 to 65535.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path of the Unix socket, where that is the target; host and port mean nothing then.
    pub fn unix(&self) -> Option<&Path> {
        self.unix.as_deref()
    }

    /// The path with its query, as the request line carries it; starts with `/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The value of the Host field: without the port where it is HTTP's own.
    ///
    /// RFC 9110 §7.2, §4.2.3.
    pub fn authority(&self) -> String {
        match self.port {
            HTTP_PORT => self.host.clone(),
            port => format!("{}:{port}", self.host),
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        if let Some(rest) = text.strip_prefix("unix:") {
            return unix_target(rest);
        }
        let (rest, is_url) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (rest, true),
            Some(_) => return Err(TargetError::BadScheme),
            None => (text, false),
        };
        let cut = if is_url {
            rest.find(['/', '?', '#']).unwrap_or(rest.len())
        } else {
            rest.len()
        };
        let (authority, path) = rest.split_at(cut);
        if authority.contains('@') {
            return Err(TargetError::UserInfo);
        }
        let (host, port_text) = split_port(authority)?;
        check_host(host)?;
        let port = match port_text {
            Some(digits) => parse_port(digits)?,
            None if is_url => HTTP_PORT,
            None => return Err(TargetError::NoPort),
        };
        Ok(Self {
            host: host.to_owned(),
            port,
            path: request_path(path)?,
            unix: None,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.unix {
            Some(socket) => write!(f, "unix:{}:{}", socket.display(), self.path),
            None => write!(f, "http://{}:{}{}", self.host, self.port, self.path),
        }
    }
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoHost => "no host; write HOST:PORT or http://HOST:PORT/PATH",
            Self::NoPort => "no port; write HOST:PORT, for example 127.0.0.1:8080",
            Self::BadPort => "the port is not a number from 1 to 65535",
            Self::BadSocket => {
                "no usable socket path; write unix:/run/app.sock or unix:/run/app.sock:/path"
            }
            Self::BadHost => "the host has a character that no name or address has",
            Self::BadPath => {
                "the path has a blank, a control character or a fragment; \
                              percent-encode it"
            }
            Self::BadScheme => "only http:// is supported",
            Self::UserInfo => "user and password do not belong here; use -H 'Authorization: ...'",
        })
    }
}

impl std::error::Error for TargetError {}

/// `PATH[:URI]`; the colon of the URI is the first one that a slash follows.
fn unix_target(text: &str) -> Result<Target, TargetError> {
    let (socket, path) = match text.find(":/") {
        Some(colon) => (&text[..colon], &text[colon + 1..]),
        None => (text, ""),
    };
    let address = Address::parse_unix(&format!("unix:{socket}"));
    let Some(Ok(Address::Unix(socket))) = address else {
        return Err(TargetError::BadSocket);
    };
    Ok(Target {
        host: "localhost".to_owned(),
        port: HTTP_PORT,
        path: request_path(path)?,
        unix: Some(socket),
    })
}

/// Cuts `host:port` apart; the brackets of an IPv6 address stay with the host.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), TargetError> {
    if authority.starts_with('[') {
        let end = authority.find(']').ok_or(TargetError::BadHost)?;
        let (host, rest) = authority.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(TargetError::BadHost),
        };
    }
    Ok(match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    })
}

fn check_host(host: &str) -> Result<(), TargetError> {
    if host.is_empty() {
        return Err(TargetError::NoHost);
    }
    let bracketed = host
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'));
    let legal = match bracketed {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')),
    };
    if legal {
        Ok(())
    } else {
        Err(TargetError::BadHost)
    }
}

fn parse_port(digits: &str) -> Result<u16, TargetError> {
    // `u16::from_str` takes a plus sign, which no port has.
    let all_digits = digits.bytes().all(|b| b.is_ascii_digit());
    match digits.parse() {
        Ok(port) if all_digits && port > 0 => Ok(port),
        _ => Err(TargetError::BadPort),
    }
}

fn request_path(path: &str) -> Result<String, TargetError> {
    if !path.bytes().all(|b| matches!(b, 0x21..=0x7e) && b != b'#') {
        return Err(TargetError::BadPath);
    }
    Ok(if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    })
}

const HTTP_PORT: u16 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: Result<(&str, u16, &str, &str), TargetError>) {
        let got = text.parse::<Target>();
        let got = got.as_ref().map_err(|e| *e);
        let authority = got.map(Target::authority).unwrap_or_default();
        let got = got.map(|t| (t.host(), t.port(), t.path(), authority.as_str()));
        assert_eq!(got, want, "{text}");
    }

    #[test]
    fn seed_form_is_a_host_and_a_port() {
        check(
            "127.0.0.1:8080",
            Ok(("127.0.0.1", 8080, "/", "127.0.0.1:8080")),
        );
        check("localhost:80", Ok(("localhost", 80, "/", "localhost")));
        check("[::1]:9", Ok(("::1", 9, "/", "[::1]:9")));
    }

    #[test]
    fn url_has_a_default_port_and_path() {
        check("http://a", Ok(("a", 80, "/", "a")));
        check("HTTP://a:81", Ok(("a", 81, "/", "a:81")));
        check("http://a/b/c?d=1", Ok(("a", 80, "/b/c?d=1", "a")));
        check("http://a?x", Ok(("a", 80, "/?x", "a")));
        check("http://[::1]/", Ok(("::1", 80, "/", "[::1]")));
    }

    #[test]
    fn everything_else_is_refused() {
        check("", Err(TargetError::NoHost));
        check("http://", Err(TargetError::NoHost));
        check("a", Err(TargetError::NoPort));
        check(":80", Err(TargetError::NoHost));
        check("a:", Err(TargetError::BadPort));
        check("a:0", Err(TargetError::BadPort));
        check("a:+1", Err(TargetError::BadPort));
        check("a:65536", Err(TargetError::BadPort));
        check("a:80/x", Err(TargetError::BadPort));
        check("::1:80", Err(TargetError::NoHost));
        check("a b:80", Err(TargetError::BadHost));
        check("[::1:80", Err(TargetError::BadHost));
        check("[::1]x:80", Err(TargetError::BadHost));
        check("[a]:80", Err(TargetError::BadHost));
        check("http://a/ b", Err(TargetError::BadPath));
        check("http://a/b#c", Err(TargetError::BadPath));
        check("https://a", Err(TargetError::BadScheme));
        check("http://u:p@a", Err(TargetError::UserInfo));
    }

    #[test]
    fn unix_socket_may_have_a_path() {
        for (text, socket, path) in [
            ("unix:/run/a.sock", "/run/a.sock", "/"),
            ("unix:/run/a.sock:/b?c", "/run/a.sock", "/b?c"),
            ("unix:a:b", "a:b", "/"),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.unix(), Some(Path::new(socket)));
            assert_eq!(
                (target.path(), target.authority()),
                (path, "localhost".to_owned())
            );
        }
        assert_eq!("unix:".parse::<Target>(), Err(TargetError::BadSocket));
        let long = format!("unix:/{}", "x".repeat(107));
        assert_eq!(long.parse::<Target>(), Err(TargetError::BadSocket));
    }

    #[test]
    fn target_is_shown_as_a_url() {
        let target: Target = "[::1]:8080".parse().unwrap();
        assert_eq!(target.to_string(), "http://[::1]:8080/");
    }
}
