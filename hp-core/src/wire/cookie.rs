//! Cookies as a client sends them, and what may stand in those that it is given.

use super::token::{is_token, trim_ows};

/// The values of the cookies of this name in one Cookie field, in their order; case matters. What has no `=` is no cookie.
/// RFC 6265 §4.2.1.
pub fn values<'a>(field: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    field.split(|byte| *byte == b';').filter_map(move |pair| {
        let value = trim_ows(pair).strip_prefix(name.as_bytes())?;
        value.strip_prefix(b"=")
    })
}

/// Whether a text can be the name of a cookie: a token. RFC 6265 §4.1.1.
#[must_use]
pub fn is_name(text: &str) -> bool {
    is_token(text.as_bytes())
}

/// Whether a text can be the path of a cookie: it begins with a slash and has neither semicolons nor controls. RFC 6265
/// §4.1.1, §5.2.4.
#[must_use]
pub fn is_path(text: &str) -> bool {
    let is_octet = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b';';
    text.starts_with('/') && text.bytes().all(is_octet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(field: &str, name: &str, expected: &[&str]) {
        let found: Vec<&[u8]> = values(field.as_bytes(), name).collect();
        let expected: Vec<&[u8]> = expected.iter().map(|value| value.as_bytes()).collect();
        assert_eq!(found, expected, "{field}");
    }

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        check("asid=1; sid=abc ; sid=2;x", "sid", &["abc", "2"]);
        check("asid=1; sid=abc", "x", &[]);
        check("sid; =sid; sid=; SID=1", "sid", &[""]);
        check("sid=a=b;sid=\"c\"", "sid", &["a=b", "\"c\""]);
        check("", "sid", &[]);
        check(";;; ;", "sid", &[]);
    }

    #[test]
    fn names_and_paths_cannot_end_the_cookie_that_they_are_in() {
        for (text, name, path) in [
            ("hp_route", true, false),
            ("__Host-x", true, false),
            ("a b", false, false),
            ("a;b", false, false),
            ("a=b", false, false),
            ("", false, false),
            ("/", false, true),
            ("/a b/c", false, true),
            ("/a;b", false, false),
            ("/a\r\nb", false, false),
            ("/\u{e4}", false, false),
        ] {
            assert_eq!((is_name(text), is_path(text)), (name, path), "{text:?}");
        }
    }
}
