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
    if is_special(path.as_bytes()) {
        Cow::Owned(normalise(path))
    } else {
        Cow::Borrowed(path)
    }
}

/// Whether there is a percent sign, or a dot behind a slash. Nearly all paths are 9 to 16 or 17 to 33 bytes long: one look at their beginning and their end, which sees
/// some bytes twice.
#[inline]
fn is_special(path: &[u8]) -> bool {
    let (Some((_, before)), Some((first, after))) = (path.split_last(), path.split_first()) else {
        return false;
    };
    if *first == b'%' {
        return true;
    }
    if let (Some(befores), Some(bytes)) = (ends::<16>(before), ends(after)) {
        let (before, _) = before.as_chunks();
        let (after, _) = after.as_chunks();
        let mut inner = before.iter().zip(after).skip(1);
        return has_special(befores, bytes)
            || inner.any(|(before, bytes)| has_special::<16>([before; 2], [bytes; 2]));
    }
    match (ends::<8>(before), ends(after)) {
        (Some(befores), Some(bytes)) => has_special(befores, bytes),
        _ => path.contains(&b'%') || path.windows(2).any(|pair| pair == b"/."),
    }
}

/// The first bytes and the last.
#[inline]
fn ends<const N: usize>(bytes: &[u8]) -> Option<[&[u8; N]; 2]> {
    Some([bytes.first_chunk()?, bytes.last_chunk()?])
}

/// Whether one of some bytes is special, each behind the byte that is before it; of two stretches at once. Not inlined: the compiler makes a few wide
/// operations of it where it stands alone.
#[inline(never)]
fn has_special<const N: usize>(before: [&[u8; N]; 2], bytes: [&[u8; N]; 2]) -> bool {
    let special = |before: u8, byte: u8| {
        u8::from(byte == b'%') | (u8::from(before == b'/') & u8::from(byte == b'.'))
    };
    let [one_before, other_before] = before;
    let [one, other] = bytes;
    let ones = one_before.iter().zip(one);
    let others = other_before.iter().zip(other);
    let mut found = 0;
    for ((one_before, one), (other_before, other)) in ones.zip(others) {
        found |= special(*one_before, *one) | special(*other_before, *other);
    }
    found != 0
}

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
        for len in 1..70 {
            for at in 0..len {
                for (letter, is_seen) in [('%', true), ('.', false), ('/', false)] {
                    let mut path = "a".repeat(len);
                    path.replace_range(at..=at, &letter.to_string());
                    assert_eq!(is_special(path.as_bytes()), is_seen, "{path}");
                    path.replace_range(at..=at, "/");
                    path.insert(at + 1, '.');
                    assert!(is_special(path.as_bytes()), "{path}");
                    path.replace_range(at..at + 2, "./");
                    assert!(!is_special(path.as_bytes()), "{path}");
                }
            }
        }
        assert!(!is_special(b""));
        assert!(!is_special("/-&$\u{80}/\u{2e2e}\u{a5}".as_bytes()));
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
