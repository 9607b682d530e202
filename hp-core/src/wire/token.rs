//! The smallest words of the protocol: character classes, numbers, whitespace, lists.
//!
//! Knows nothing about what a field or a message means.

/// Tells whether `byte` may stand in a token. RFC 9110 §5.6.2.
#[must_use]
#[inline]
pub fn is_tchar(byte: u8) -> bool {
    is_class(byte, TCHAR)
}

/// Tells whether `bytes` are a token: one `tchar` or more. RFC 9110 §5.6.2.
#[must_use]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_tchar(byte))
}

/// Tells whether `byte` may stand in a field value: HTAB, SP, VCHAR or obs-text. RFC 9110 §5.5.
#[must_use]
#[inline]
pub fn is_value_byte(byte: u8) -> bool {
    is_class(byte, VALUE)
}

/// Tells whether all of `bytes` may stand in a field value; an empty value is legal. RFC 9110 §5.5.
#[must_use]
pub fn is_field_value(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| is_value_byte(byte))
}

/// Removes spaces and tabs from both ends. RFC 9110 §5.6.3.
#[must_use]
#[inline]
pub fn trim_ows(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Reads `1*DIGIT` of at most 19 digits and at most [`LENGTH_MAX`]; `None` for anything else.
///
/// No sign, no space, no separator. Leading zeros count as digits, so that a long run of them is
/// refused: whoever writes the number again writes it without them. RFC 9110 §8.6.
#[must_use]
#[inline]
pub fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || bytes.len() > DECIMAL_DIGITS_MAX {
        return None;
    }
    let mut value: u64 = 0;
    for &byte in bytes {
        if !byte.is_ascii_digit() {
            return None;
        }
        // 19 digits stay below 10^19, which a u64 holds.
        value = value * 10 + u64::from(byte - b'0');
    }
    (value <= LENGTH_MAX).then_some(value)
}

/// Reads one hexadecimal digit of either case. RFC 5234 §B.1, RFC 9112 §7.1.
#[must_use]
#[inline]
pub fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Yields the members between commas with their whitespace trimmed, empty ones included.
///
/// Does not look into quoted strings: the lists that the proxy reads have none, and a comma in one
/// leaves two members that are no tokens. RFC 9110 §5.6.1.
pub fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim_ows)
}

/// Yields the non-empty members of a list, as a recipient must read `#element`. RFC 9110 §5.6.1.2.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    members(value).filter(|member| !member.is_empty())
}

/// Tells whether `byte` belongs to any class of `mask`.
#[inline]
pub(super) fn is_class(byte: u8, mask: u8) -> bool {
    CLASS[usize::from(byte)] & mask != 0
}

/// The largest body length we accept, in bytes: half the range of `u64`, so that sums cannot wrap.
pub const LENGTH_MAX: u64 = u64::MAX / 2;

/// Decimal digits of [`LENGTH_MAX`].
const DECIMAL_DIGITS_MAX: usize = 19;

/// May stand in a token.
const TCHAR: u8 = 1;
/// May stand in a field value.
const VALUE: u8 = 2;
/// May stand in the path of a request target, the percent sign apart.
pub(super) const PATH: u8 = 4;
/// May stand in the query of a request target.
pub(super) const QUERY: u8 = 8;
/// May stand in a registered name, the percent sign apart.
pub(super) const REG_NAME: u8 = 16;

/// Class bits of every byte.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut index: usize = 0;
    let mut byte: u8 = 0;
    while index < table.len() {
        let visible = matches!(byte, 0x21..=0x7e);
        if byte.is_ascii_alphanumeric() || contains(b"!#$%&'*+-.^_`|~", byte) {
            table[index] |= TCHAR;
        }
        if visible || matches!(byte, b'\t' | b' ' | 0x80..) {
            table[index] |= VALUE;
        }
        // unreserved / sub-delims, RFC 3986 §2.
        let name = byte.is_ascii_alphanumeric() || contains(b"-._~!$&'()*+,;=", byte);
        if name {
            table[index] |= REG_NAME;
        }
        // Beyond RFC 3986 the path takes what browsers leave unescaped in one (WHATWG URL, "path
        // percent-encode set"). It reaches the backend as it came and has one reading only.
        if name || contains(b":@/[]|", byte) {
            table[index] |= PATH;
        }
        // The same for the query, which nobody but the backend reads. Not `"`, `<`, `>` and `#`.
        if visible && !contains(b"\"<>#", byte) {
            table[index] |= QUERY;
        }
        index += 1;
        byte = byte.wrapping_add(1);
    }
    table
}

const fn contains(set: &[u8], byte: u8) -> bool {
    let mut index = 0;
    while index < set.len() {
        if set[index] == byte {
            return true;
        }
        index += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tchar_is_what_the_rfc_lists() {
        let legal = (0..=u8::MAX).filter(|&byte| is_tchar(byte)).count();
        assert_eq!(legal, 26 + 26 + 10 + 15);
        assert!(!is_token(b""));
        assert!(is_token(b"X-a_b"));
        assert!(!is_token(b"a b"));
        assert!(!is_token(b"a\x80"));
    }

    #[test]
    fn value_bytes_exclude_controls_and_delete() {
        let legal = (0..=u8::MAX).filter(|&byte| is_value_byte(byte)).count();
        assert_eq!(legal, 0x7f - 0x20 + 1 + 128);
        assert!(!is_field_value(b"a\x7f"));
        assert!(!is_field_value(b"a\0"));
        assert!(!is_field_value(b"a\rb"));
        assert!(is_field_value(b""));
        assert!(is_field_value("é\t ".as_bytes()));
    }

    #[test]
    fn decimal_takes_digits_only() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"007"), Some(7));
        assert_eq!(decimal(b"9223372036854775807"), Some(LENGTH_MAX));
        for bad in [
            "",
            "+1",
            "-1",
            " 1",
            "1 ",
            "0x1",
            "1,1",
            "1.0",
            "1e3",
            "９",
            "9223372036854775808",
        ] {
            assert_eq!(decimal(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(decimal(b"00000000000000000001"), None, "twenty digits");
    }

    #[test]
    fn whitespace_is_space_and_tab_only() {
        assert_eq!(trim_ows(b" \t a b\t "), b"a b");
        assert_eq!(trim_ows(b"\x0ba"), b"\x0ba");
        assert_eq!(trim_ows(b" \t"), b"");
    }

    #[test]
    fn lists_skip_empty_members() {
        let read: Vec<&[u8]> = list(b", a ,,\tb,").collect();
        assert_eq!(read, [b"a", b"b"]);
        assert_eq!(members(b", a").count(), 2);
    }

    #[test]
    fn hex_digits_have_sixteen_values() {
        assert_eq!(hex_digit(b'f'), hex_digit(b'F'));
        assert_eq!((0..=u8::MAX).filter_map(hex_digit).count(), 22);
    }
}
