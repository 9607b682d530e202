//! The four forms of a request target. RFC 9112 §3.2.
//!
//! Says which form stands there and that its bytes are legal; routes and rewrites nothing.

use super::method::Method;
use crate::wire::uri::{self, Authority, Scheme};

/// A checked request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'b> {
    /// `/path?query`, RFC 9112 §3.2.1.
    Origin(&'b str),
    /// `http://authority/path?query`, RFC 9112 §3.2.2.
    Absolute {
        /// `http` or `https`.
        scheme: Scheme,
        /// Host and port, without userinfo.
        authority: Authority<'b>,
        /// As received; `/` if it was empty (`*` for OPTIONS), and it may begin with `?`, in which
        /// case `encode::request_line` puts the `/` before it.
        path_and_query: &'b str,
    },
    /// `host:port` of CONNECT, RFC 9112 §3.2.3. The port is always there and never 0.
    Authority(Authority<'b>),
    /// `*` of OPTIONS, RFC 9112 §3.2.4.
    Asterisk,
}

impl<'b> Target<'b> {
    /// Reads the form that `method` allows; `None` for any other.
    #[inline]
    pub(super) fn parse(method: Method<'_>, text: &'b str) -> Option<Self> {
        if method == Method::Connect {
            let authority = Authority::parse(text.as_bytes())?;
            return authority
                .port()
                .filter(|&port| port > 0)
                .map(|_port| Self::Authority(authority));
        }
        if text.starts_with('/') {
            return uri::is_path_and_query(text.as_bytes()).then_some(Self::Origin(text));
        }
        if text == "*" {
            return (method == Method::Options).then_some(Self::Asterisk);
        }
        let (scheme, authority, rest) = uri::split_absolute(text)?;
        let path_and_query = match rest {
            "" if method == Method::Options => "*",
            "" => "/",
            given => given,
        };
        Some(Self::Absolute {
            scheme,
            authority,
            path_and_query,
        })
    }

    /// What the origin-form request line has to carry: path and query byte for byte, `*`, or nothing
    /// for the authority form.
    #[must_use]
    pub fn path_and_query(&self) -> &'b str {
        match self {
            Self::Origin(text) => text,
            Self::Absolute { path_and_query, .. } => path_and_query,
            Self::Authority(_authority) => "",
            Self::Asterisk => "*",
        }
    }

    /// The path without the query; `/` where an absolute target had none.
    #[must_use]
    pub fn path(&self) -> &'b str {
        self.path_then_query().0
    }

    /// The query without its question mark, if there is one.
    #[must_use]
    pub fn query(&self) -> Option<&'b str> {
        self.path_then_query().1
    }

    /// Both, by one search: [`Self::path`] and [`Self::query`].
    #[must_use]
    #[inline]
    pub fn path_then_query(&self) -> (&'b str, Option<&'b str>) {
        let whole = self.path_and_query();
        let mark = memchr::memchr(b'?', whole.as_bytes());
        let Some((path, marked)) = mark.and_then(|mark| whole.split_at_checked(mark)) else {
            return (whole, None);
        };
        let path = if path.is_empty() { "/" } else { path };
        (path, marked.get(1..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_belongs_to_its_method() {
        assert_eq!(
            Target::parse(Method::Get, "/a?b"),
            Some(Target::Origin("/a?b"))
        );
        assert_eq!(Target::parse(Method::Options, "*"), Some(Target::Asterisk));
        assert_eq!(Target::parse(Method::Get, "*"), None);
        assert!(Target::parse(Method::Connect, "a:443").is_some());
        for bad in ["a", "a:", "a:0", "/", "*", "http://a:1/", "u@a:1"] {
            assert_eq!(Target::parse(Method::Connect, bad), None, "{bad}");
        }
        for bad in ["a:443", "a", "", "?a", "**", "//a b"] {
            assert_eq!(Target::parse(Method::Get, bad), None, "{bad}");
        }
    }

    #[test]
    fn absolute_targets_become_origin_form() {
        let of = |method, text| Target::parse(method, text).unwrap().path_and_query();
        assert_eq!(of(Method::Get, "http://a/b?c"), "/b?c");
        assert_eq!(of(Method::Get, "http://a"), "/");
        assert_eq!(of(Method::Get, "http://a?c"), "?c");
        assert_eq!(of(Method::Options, "http://a"), "*");
        assert_eq!(of(Method::Options, "http://a/"), "/");
    }

    #[test]
    fn path_and_query_split_at_the_first_question_mark() {
        let target = Target::parse(Method::Get, "/a?b?c").unwrap();
        assert_eq!((target.path(), target.query()), ("/a", Some("b?c")));
        let bare = Target::parse(Method::Get, "http://a?q").unwrap();
        assert_eq!((bare.path(), bare.query()), ("/", Some("q")));
        assert_eq!(Target::parse(Method::Get, "/").unwrap().query(), None);
    }
}
