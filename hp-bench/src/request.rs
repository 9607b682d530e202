//! Requests as they go out: built once, shared by all connections.
//!
//! Must not know: files, flags, the network.

use std::fmt;
use std::num::NonZeroU32;

use hp_core::wire::token::is_token;

use crate::target::Target;

/// One request, ready to be sent any number of times.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    /// Head and body, as they go out.
    pub bytes: Vec<u8>,
    /// Its method; `RAW` where the bytes were given whole.
    pub method: String,
    /// Content in it, framing not counted.
    pub body_len: usize,
    /// Whether it leaves its connection open: no `Connection: close` among the headers.
    pub keep_alive: bool,
    /// Whether the answer has no body whatever its head says.
    pub is_head: bool,
}

/// What a request is built from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts<'a> {
    /// GET, or POST where there is a body.
    pub(crate) method: Option<&'a str>,
    /// The target's own path where it is `None`.
    pub(crate) path: Option<&'a str>,
    /// The target's authority where it is `None`.
    pub(crate) host: Option<&'a str>,
    pub(crate) headers: Vec<(&'a str, &'a str)>,
    pub(crate) body: Option<&'a [u8]>,
    pub(crate) framing: BodyFraming,
    pub(crate) persistence: Persistence,
}

/// How the end of a request's body is told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum BodyFraming {
    #[default]
    Length,
    /// With so much content in each chunk but the last.
    Chunked(NonZeroU32),
}

/// Whether a request asks the server to close.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Persistence {
    #[default]
    Keep,
    Close,
}

/// Why there is no such request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RequestError {
    /// Not `NAME: VALUE`, or with characters that no field has.
    BadHeader(String),
    /// A field that follows from other flags or changes the protocol under us.
    OwnedHeader {
        /// The field's name.
        name: String,
        /// What to do instead.
        instead: &'static str,
    },
    /// Not a method's name, or one that does not end in a plain answer.
    BadMethod(String),
    /// Not a path that begins with a slash, or one with blanks or control characters.
    BadPath(String),
    /// Not a value of the Host field.
    BadHost(String),
}

impl Request {
    /// Builds one. Without headers that is the shortest legal one.
    ///
    /// # Errors
    /// [`RequestError`], for the first part that is wrong.
    pub(crate) fn build(target: &Target, parts: &Parts<'_>) -> Result<Self, RequestError> {
        let method = method(parts.method, parts.body.is_some())?;
        let path = parts.path.unwrap_or_else(|| target.path());
        let is_path = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic());
        if !is_path {
            return Err(RequestError::BadPath(path.to_owned()));
        }
        let mut fields = String::new();
        let mut has_host = false;
        let mut keep_alive = parts.persistence == Persistence::Keep;
        for &(name, value) in &parts.headers {
            let value = check_field(name, value)?;
            has_host |= name.eq_ignore_ascii_case("host");
            keep_alive &= !(name.eq_ignore_ascii_case("connection") && says_close(value));
            fields.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(host) = parts.host.filter(|_| !has_host) {
            let is_host = !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic());
            if !is_host {
                return Err(RequestError::BadHost(host.to_owned()));
            }
        }
        if !has_host {
            let host = parts.host.map_or_else(|| target.authority(), str::to_owned);
            fields.insert_str(0, &format!("Host: {host}\r\n"));
        }
        if parts.persistence == Persistence::Close {
            fields.push_str("Connection: close\r\n");
        }
        fields.push_str(&framing_fields(&method, parts));
        let mut bytes = format!("{method} {path} HTTP/1.1\r\n{fields}\r\n").into_bytes();
        let body = parts.body.unwrap_or_default();
        match parts.framing {
            BodyFraming::Length => bytes.extend_from_slice(body),
            BodyFraming::Chunked(size) => in_chunks(body, size, &mut bytes),
        }
        Ok(Self {
            bytes,
            body_len: body.len(),
            keep_alive,
            is_head: method == "HEAD",
            method,
        })
    }

    /// Takes bytes as they are. Whether the connection stays is left to the answers.
    pub(crate) fn raw(bytes: Vec<u8>) -> Self {
        Self {
            is_head: bytes.starts_with(b"HEAD "),
            bytes,
            method: "RAW".to_owned(),
            body_len: 0,
            keep_alive: true,
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadHeader(header) => write!(
                f,
                "header {header:?} is no header field; write -H 'Name: value'"
            ),
            Self::OwnedHeader { name, instead } => {
                write!(f, "header '{name}: ...' cannot be set; {instead}")
            }
            Self::BadMethod(method) => write!(
                f,
                "method {method:?} cannot be sent; give GET, HEAD, POST or another method"
            ),
            Self::BadPath(path) => write!(
                f,
                "path {path:?} cannot be sent; begin it with / and percent-encode blanks"
            ),
            Self::BadHost(host) => {
                write!(f, "host {host:?} cannot be sent; write NAME or NAME:PORT")
            }
        }
    }
}

impl std::error::Error for RequestError {}

/// Cuts `NAME: VALUE` apart.
///
/// # Errors
/// [`RequestError::BadHeader`] where there is no colon.
pub(crate) fn split_header(header: &str) -> Result<(&str, &str), RequestError> {
    header
        .split_once(':')
        .ok_or_else(|| RequestError::BadHeader(header.to_owned()))
}

fn method(asked: Option<&str>, has_body: bool) -> Result<String, RequestError> {
    let method = asked.unwrap_or(if has_body { "POST" } else { "GET" });
    if !is_token(method.as_bytes()) || method == "CONNECT" {
        return Err(RequestError::BadMethod(method.to_owned()));
    }
    Ok(method.to_owned())
}

/// RFC 9110 §8.6: a method that usually has content says so even when it is empty.
fn framing_fields(method: &str, parts: &Parts<'_>) -> String {
    match (parts.body, parts.framing) {
        (Some(_), BodyFraming::Chunked(_)) => "Transfer-Encoding: chunked\r\n".to_owned(),
        (Some(body), BodyFraming::Length) => format!("Content-Length: {}\r\n", body.len()),
        (None, _) if matches!(method, "POST" | "PUT" | "PATCH") => {
            "Content-Length: 0\r\n".to_owned()
        }
        (None, _) => String::new(),
    }
}

/// RFC 9112 §7.1.
fn in_chunks(body: &[u8], size: NonZeroU32, bytes: &mut Vec<u8>) {
    let size = usize::try_from(size.get()).unwrap_or(usize::MAX);
    for chunk in body.chunks(size) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
}

/// Gives the value without the blanks around it.
fn check_field<'a>(name: &str, value: &'a str) -> Result<&'a str, RequestError> {
    let value = value.trim_matches([' ', '\t']);
    if !is_token(name.as_bytes()) || value.bytes().any(|b| b != b'\t' && b.is_ascii_control()) {
        return Err(RequestError::BadHeader(format!("{name}:{value}")));
    }
    let instead = match name.to_ascii_lowercase().as_str() {
        "content-length" => "the body sets it",
        "transfer-encoding" => "--chunked sends it",
        "expect" => "the body is always sent at once",
        "upgrade" => "leave it out",
        _ => return Ok(value),
    };
    Err(RequestError::OwnedHeader {
        name: name.to_owned(),
        instead,
    })
}

/// RFC 9110 §7.6.1.
fn says_close(value: &str) -> bool {
    value
        .split(',')
        .any(|option| option.trim().eq_ignore_ascii_case("close"))
}

/// As a server's own writes often come.
pub(crate) const CHUNK_BYTES: NonZeroU32 = NonZeroU32::new(16 * 1024).unwrap();

#[cfg(test)]
mod tests {
    use super::*;

    fn build(parts: &Parts<'_>) -> Result<Request, RequestError> {
        Request::build(&"a:81".parse().unwrap(), parts)
    }

    fn check(parts: &Parts<'_>, want: &str) {
        let request = build(parts).unwrap();
        assert_eq!(String::from_utf8(request.bytes).unwrap(), want);
    }

    #[test]
    fn request_is_the_shortest_legal_one() {
        check(&Parts::default(), "GET / HTTP/1.1\r\nHost: a:81\r\n\r\n");
    }

    #[test]
    fn headers_method_path_and_host_are_sent_as_given() {
        check(
            &Parts {
                method: Some("HEAD"),
                headers: vec![("X-A", "  b "), ("host", "c")],
                host: Some("ignored: a field wins"),
                ..Parts::default()
            },
            "HEAD / HTTP/1.1\r\nX-A: b\r\nhost: c\r\n\r\n",
        );
        check(
            &Parts {
                path: Some("/x?y"),
                host: Some("d"),
                persistence: Persistence::Close,
                ..Parts::default()
            },
            "GET /x?y HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n",
        );
    }

    #[test]
    fn connection_close_among_the_headers_is_obeyed() {
        let keeps = |value| {
            let headers = vec![("connection", value)];
            build(&Parts {
                headers,
                ..Parts::default()
            })
            .unwrap()
            .keep_alive
        };
        assert!(keeps("keep-alive"));
        assert!(!keeps("x, Close"));
    }

    #[test]
    fn body_brings_its_framing_and_makes_it_a_post() {
        let body = Parts {
            body: Some(b"xyz"),
            ..Parts::default()
        };
        check(
            &body,
            "POST / HTTP/1.1\r\nHost: a:81\r\nContent-Length: 3\r\n\r\nxyz",
        );
        check(
            &Parts {
                framing: BodyFraming::Chunked(CHUNK_BYTES),
                ..body.clone()
            },
            "POST / HTTP/1.1\r\nHost: a:81\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\n\r\n",
        );
        check(
            &Parts {
                framing: BodyFraming::Chunked(NonZeroU32::new(2).unwrap()),
                ..body
            },
            "POST / HTTP/1.1\r\nHost: a:81\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n1\r\nz\r\n0\r\n\r\n",
        );
        check(
            &Parts {
                method: Some("PUT"),
                ..Parts::default()
            },
            "PUT / HTTP/1.1\r\nHost: a:81\r\nContent-Length: 0\r\n\r\n",
        );
    }

    #[test]
    fn parts_that_would_break_the_framing_are_refused() {
        for (name, value) in [
            ("", ""),
            ("", "b"),
            ("a b", "c"),
            ("a", "b\r\nc: d"),
            ("a", "\0"),
        ] {
            let headers = vec![(name, value)];
            let error = build(&Parts {
                headers,
                ..Parts::default()
            })
            .unwrap_err();
            assert!(matches!(error, RequestError::BadHeader(_)), "{name}");
        }
        for name in ["Content-Length", "transfer-encoding", "Expect"] {
            let headers = vec![(name, "x")];
            let error = build(&Parts {
                headers,
                ..Parts::default()
            })
            .unwrap_err();
            assert!(matches!(error, RequestError::OwnedHeader { .. }), "{name}");
        }
        for path in ["", "x", "/a b", "/\r\n"] {
            let path = Some(path);
            let error = build(&Parts {
                path,
                ..Parts::default()
            })
            .unwrap_err();
            assert!(matches!(error, RequestError::BadPath(_)));
        }
        let method = Some("G T");
        assert!(
            build(&Parts {
                method,
                ..Parts::default()
            })
            .is_err()
        );
        let host = Some("a\r\nb");
        assert!(
            build(&Parts {
                host,
                ..Parts::default()
            })
            .is_err()
        );
    }

    #[test]
    fn raw_bytes_are_left_alone() {
        let request = Request::raw(b"HEAD /\r\n".to_vec());
        assert_eq!(request.bytes, b"HEAD /\r\n");
        assert!(request.is_head);
    }
}
