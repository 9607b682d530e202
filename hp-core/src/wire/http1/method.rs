//! Request methods and what the RFC promises of them. RFC 9110 §9.
//!
//! Knows nothing about targets or bodies.

/// A request method; case matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method<'b> {
    /// GET, RFC 9110 §9.3.1.
    Get,
    /// HEAD, RFC 9110 §9.3.2.
    Head,
    /// POST, RFC 9110 §9.3.3.
    Post,
    /// PUT, RFC 9110 §9.3.4.
    Put,
    /// DELETE, RFC 9110 §9.3.5.
    Delete,
    /// CONNECT, RFC 9110 §9.3.6.
    Connect,
    /// OPTIONS, RFC 9110 §9.3.7.
    Options,
    /// TRACE, RFC 9110 §9.3.8.
    Trace,
    /// PATCH, RFC 5789.
    Patch,
    /// Any other token of at most [`METHOD_BYTES_MAX`] bytes.
    Extension(&'b str),
}

impl<'b> Method<'b> {
    /// Classifies a token that the caller has checked.
    #[must_use]
    #[inline]
    pub(super) fn classify(token: &'b str) -> Self {
        match token {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "CONNECT" => Self::Connect,
            "OPTIONS" => Self::Options,
            "TRACE" => Self::Trace,
            "PATCH" => Self::Patch,
            other => Self::Extension(other),
        }
    }

    /// The method as it stands on the wire.
    #[must_use]
    pub fn as_str(&self) -> &'b str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
            Self::Extension(token) => token,
        }
    }

    /// Tells whether the method only reads; false for those we do not know. RFC 9110 §9.2.1.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }

    /// Tells whether doing it twice is doing it once; false for those we do not know.
    /// RFC 9110 §9.2.2.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.is_safe() || matches!(self, Self::Put | Self::Delete)
    }
}

/// The longest method we read; a longer one is 501. RFC 9112 §3.
pub const METHOD_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_keep_their_spelling_and_case_matters() {
        for name in [
            "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "get",
        ] {
            assert_eq!(Method::classify(name).as_str(), name);
        }
        assert_eq!(Method::classify("get"), Method::Extension("get"));
    }

    #[test]
    fn unknown_methods_promise_nothing() {
        let unknown = Method::classify("PURGE");
        assert!(!unknown.is_safe() && !unknown.is_idempotent());
        assert!(Method::Delete.is_idempotent() && !Method::Delete.is_safe());
        assert!(!Method::Post.is_idempotent() && !Method::Patch.is_idempotent());
        assert!(Method::Get.is_safe() && Method::Get.is_idempotent());
    }
}
