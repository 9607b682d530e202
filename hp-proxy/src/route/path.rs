//! The one spelling of a path that routes are matched against, so that no other spelling of it goes around a route.

use std::borrow::Cow;

/// Writes a path in its normal form: percent-encoded bytes that need not be encoded are decoded, hexadecimal digits are upper
/// case, and the segments `.` and `..` are removed. What is reserved, an encoded slash among it, stays encoded; empty segments
/// stay. Nearly every path is normal as it came, and is given back as it is.
///
/// RFC 3986 §6.2.2.1, §6.2.2.2, §6.2.2.3.
#[must_use]
#[inline]
pub fn normal(path: &str) -> Cow<'_, str> {
    if may_be_special(path.as_bytes()) && (path.contains('%') || has_dot_segment(path)) {
        Cow::Owned(normalise(path))
    } else {
        Cow::Borrowed(path)
    }
}

/// Whether there is a percent sign or a dot: most paths have neither, and are looked through once, in words.
#[inline]
fn may_be_special(path: &[u8]) -> bool {
    let is_in = |word: u64| has_zero(word ^ PERCENTS) | has_zero(word ^ DOTS);
    let is_in = |bytes: &[u8; 8]| is_in(u64::from_le_bytes(*bytes));
    let (words, rest) = path.as_chunks::<8>();
    match path.last_chunk::<8>() {
        // What is left after whole words, with some bytes a second time.
        Some(last) => words.iter().any(is_in) || is_in(last),
        None => rest.iter().any(|byte| matches!(byte, b'%' | b'.')),
    }
}

/// Whether one of eight bytes is 0.
#[inline]
fn has_zero(word: u64) -> bool {
    word.wrapping_sub(ONES) & !word & (ONES << 7) != 0
}

const ONES: u64 = 0x0101_0101_0101_0101;
const PERCENTS: u64 = ONES * b'%' as u64;
const DOTS: u64 = ONES * b'.' as u64;

/// Whether a segment may be `.` or `..`: a dot follows a slash.
fn has_dot_segment(path: &str) -> bool {
    path.as_bytes().windows(2).any(|pair| pair == b"/.")
}

#[cold]
fn normalise(path: &str) -> String {
    let decoded = decode_unreserved(path);
    if !has_dot_segment(&decoded) {
        return decoded;
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = decoded.split('/').skip(1).peekable(); // A path begins with a slash.
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." => (),
            ".." => {
                kept.pop();
            }
            segment => {
                kept.push(segment);
                continue;
            }
        }
        if is_last {
            kept.push("");
        }
    }
    kept.iter()
        .fold(String::new(), |path, segment| path + "/" + segment)
}

fn decode_unreserved(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let digits = after.get(..2).unwrap_or(after);
        let byte = u8::from_str_radix(digits, 16).ok();
        match byte.map(char::from) {
            Some(letter) if letter.is_ascii_alphanumeric() || "-._~".contains(letter) => {
                decoded.push(letter);
            }
            _ => {
                decoded.push('%');
                decoded.push_str(&digits.to_ascii_uppercase());
            }
        }
        rest = after.get(digits.len()..).unwrap_or_default();
    }
    decoded + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: &str) {
        assert_eq!(normal(path), expected, "{path}");
        assert_eq!(normal(expected), expected, "normal twice: {path}");
    }

    #[test]
    fn a_path_without_anything_special_stays_as_it_is() {
        for path in ["/", "/a/b", "*", "/a.b/c..d", "//a//", "/a;b=c"] {
            check(path, path);
            assert!(matches!(normal(path), Cow::Borrowed(_)), "{path}");
        }
    }

    #[test]
    fn what_is_special_is_seen_wherever_it_stands() {
        for len in 2..40 {
            for at in 1..len {
                let mut path = format!("/{}", "a".repeat(len - 1));
                assert!(!may_be_special(path.as_bytes()));
                for special in ["%", "."] {
                    path.replace_range(at..=at, special);
                    assert!(may_be_special(path.as_bytes()), "{path}");
                }
            }
        }
        assert!(!may_be_special("/-&$\u{80}/\u{2e2e}\u{a5}".as_bytes()));
    }

    #[test]
    fn dot_segments_are_removed() {
        check("/a/./b", "/a/b");
        check("/a/../b", "/b");
        check("/a/b/..", "/a/");
        check("/a/.", "/a/");
        check("/../../etc", "/etc");
        check("/..", "/");
        check("/a//../b", "/a/b");
        check("/.well-known/x", "/.well-known/x");
        check("/...", "/...");
    }

    #[test]
    fn what_need_not_be_encoded_is_decoded_before_dots_are_looked_for() {
        check("/%61dmin", "/admin");
        check("/x/%2e%2E/admin", "/admin");
        check("/%7euser", "/~user");
    }

    #[test]
    fn what_is_reserved_stays_encoded() {
        check("/a%2fb", "/a%2Fb");
        check("/a%2f..%2fb", "/a%2F..%2Fb");
        check("/%25%32", "/%252");
        check("/%c3%a9", "/%C3%A9");
    }
}
