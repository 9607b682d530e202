//! What an intermediary says of itself and of whom it speaks for: Via, Forwarded, X-Forwarded-*, Max-Forwards.
//!
//! Writes and reads these fields; whom to believe is the caller's to say.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use super::header::{FieldName, Fields};
use super::http1::encode;
use super::http1::head::Version;
use super::token;
use super::uri::{Authority, Scheme};

/// The name under which we stand in Via, with our lines of it. RFC 9110 §7.6.3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    name: String,
    line_http10: Vec<u8>,
    line_http11: Vec<u8>,
}

impl Via {
    /// `name` is a pseudonym or `host[:port]` of at most [`VIA_NAME_BYTES_MAX`] bytes; `None` for anything else.
    ///
    /// Two proxies in one chain need two names, or the second takes what comes from the first for a loop.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let is_legal =
            token::is_token(name.as_bytes()) || Authority::parse(name.as_bytes()).is_some();
        if !is_legal || name.contains([',', '(', ')']) || name.len() > VIA_NAME_BYTES_MAX {
            return None;
        }
        Some(Self {
            name: name.to_owned(),
            line_http10: format!("Via: 1.0 {name}\r\n").into_bytes(),
            line_http11: format!("Via: 1.1 {name}\r\n").into_bytes(),
        })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Our line, for a message that came in this version.
    #[must_use]
    #[inline]
    pub fn line(&self, received: Version) -> &[u8] {
        match received {
            Version::Http10 => &self.line_http10,
            Version::Http11 => &self.line_http11,
        }
    }

    /// Tells whether a message has been here before: one of its Via members names us, in any case.
    ///
    /// Each member is `received-protocol RWS received-by [ RWS comment ]`. A member that is not so made names nobody.
    #[must_use]
    #[inline]
    pub fn has_passed(&self, fields: &Fields<'_, '_>) -> bool {
        fields.has(FieldName::Via) && self.is_named_in(fields)
    }

    #[cold]
    fn is_named_in(&self, fields: &Fields<'_, '_>) -> bool {
        let names_us = |member: &[u8]| {
            received_by(member).is_some_and(|by| by.eq_ignore_ascii_case(self.name.as_bytes()))
        };
        fields.all(FieldName::Via).any(|value| {
            let mut depth = CommentDepth::default();
            value
                .split(|&byte| depth.is_comma_outside(byte))
                .any(&names_us)
                // Who joins lines puts our name behind a stranger's comment without an end: it must not hide there.
                || (depth.is_open() && value.split(|&byte| byte == b',').any(names_us))
        })
    }
}

/// One hop as X-Forwarded-* and Forwarded tell it.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'b> {
    /// Who spoke to us; `None` where it has no internet address.
    pub peer: Option<SocketAddr>,
    /// How it spoke.
    pub scheme: Scheme,
    /// Whom it asked for.
    pub authority: Option<Authority<'b>>,
}

/// What backends are told of a connection's peer where nobody before it is believed: `X-Forwarded-For`, and `X-Forwarded-Proto`
/// with `http`. Made once for a connection, for it is the same with every request.
#[derive(Clone, Copy, Debug)]
pub struct OriginLines {
    bytes: [u8; ORIGIN_BYTES_MAX],
    /// `len <= ORIGIN_BYTES_MAX`
    len: usize,
}

impl OriginLines {
    /// Those of a peer; `None`: it has no internet address. Leaves them in `scratch`, too, which it empties before.
    #[must_use]
    pub fn of(peer: Option<SocketAddr>, scratch: &mut Vec<u8>) -> Self {
        scratch.clear();
        let hop = Hop {
            peer,
            scheme: Scheme::Http,
            authority: None,
        };
        hop.encode_as_first(scratch);
        let mut bytes = [0; ORIGIN_BYTES_MAX];
        let len = scratch.len();
        bytes[..len].copy_from_slice(scratch);
        Self { bytes, len }
    }

    /// Whole field lines.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Hop<'_> {
    /// The same as [`Hop::encode_as_first`] for a peer of which the lines are made.
    #[inline]
    pub fn encode_as_first_by(&self, origin: &OriginLines, out: &mut Vec<u8>) {
        if self.scheme != Scheme::Http {
            return self.encode_as_first(out);
        }
        out.extend_from_slice(origin.as_bytes());
        if let Some(authority) = self.authority {
            encode::field(out, "X-Forwarded-Host", authority.as_bytes());
        }
    }

    /// Appends `X-Forwarded-For`, `-Proto` and `-Host` of a request whose sender is not to be believed: this hop alone.
    #[inline]
    pub fn encode_as_first(&self, out: &mut Vec<u8>) {
        if let Some(peer) = self.peer {
            out.extend_from_slice(b"X-Forwarded-For: ");
            append_ip(out, peer.ip());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(match self.scheme {
            Scheme::Http => b"X-Forwarded-Proto: http\r\n".as_slice(),
            Scheme::Https => b"X-Forwarded-Proto: https\r\n",
        });
        if let Some(authority) = self.authority {
            encode::field(out, "X-Forwarded-Host", authority.as_bytes());
        }
    }

    /// The same behind a peer that is believed: its addresses stand before ours, its scheme and host instead of ours where
    /// they came once and are what they should be.
    #[cold]
    pub fn encode_after(&self, fields: &Fields<'_, '_>, out: &mut Vec<u8>) {
        let mut addresses = fields
            .all(FieldName::XForwardedFor)
            .filter(|value| !value.is_empty())
            .peekable();
        if addresses.peek().is_some() || self.peer.is_some() {
            out.extend_from_slice(b"X-Forwarded-For: ");
            let mut separator: &[u8] = b"";
            for value in addresses {
                out.extend_from_slice(separator);
                out.extend_from_slice(value);
                separator = b", ";
            }
            if let Some(peer) = self.peer {
                out.extend_from_slice(separator);
                append_ip(out, peer.ip());
            }
            out.extend_from_slice(b"\r\n");
        }
        let scheme = match self.scheme {
            Scheme::Http => b"http".as_slice(),
            Scheme::Https => b"https",
        };
        let told = once(fields, FieldName::XForwardedProto).filter(|value| is_scheme(value));
        encode::field(out, "X-Forwarded-Proto", told.unwrap_or(scheme));
        let told = once(fields, FieldName::XForwardedHost)
            .filter(|value| Authority::parse(value).is_some());
        let asked = self.authority.as_ref().map(Authority::as_bytes);
        if let Some(host) = told.or(asked) {
            encode::field(out, "X-Forwarded-Host", host);
        }
    }

    /// Appends this hop's element of Forwarded, after those in `before` that leave room for it. RFC 7239 §4.
    #[cold]
    pub fn encode_forwarded<'v>(&self, before: impl Iterator<Item = &'v [u8]>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Forwarded: ");
        for value in before.filter(|value| !value.is_empty() && is_closed(value)) {
            out.extend_from_slice(value);
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(b"for=");
        match self.peer.map(|peer| peer.ip().to_canonical()) {
            Some(IpAddr::V4(ip)) => append_ip(out, IpAddr::V4(ip)),
            Some(IpAddr::V6(ip)) => append(out, format_args!("\"[{ip}]\"")), // RFC 7239 §6: quoted, for its colons.
            None => out.extend_from_slice(b"unknown"),
        }
        if let Some(authority) = self.authority {
            out.extend_from_slice(b";host=\"");
            out.extend_from_slice(authority.as_bytes()); // Its grammar has neither quote nor backslash.
            out.extend_from_slice(b"\"");
        }
        out.extend_from_slice(match self.scheme {
            Scheme::Http => b";proto=http\r\n".as_slice(),
            Scheme::Https => b";proto=https\r\n",
        });
    }
}

/// Tells whether a field of no kind that we act upon claims to know who asks or how: `X-Forwarded-*`, `X-Real-IP`.
#[must_use]
#[inline]
pub fn is_claim_of_origin(name: &str) -> bool {
    let begins_so = |prefix: &str| {
        name.as_bytes()
            .get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    matches!(name.as_bytes(), [b'x' | b'X', b'-', ..])
        && (begins_so("x-forwarded-") || name.eq_ignore_ascii_case("x-real-ip"))
}

/// Tells whether a field's value is a secret between the client and a server, which TRACE must not reflect.
/// RFC 9110 §9.3.8.
#[must_use]
pub fn is_credential(name: &str) -> bool {
    CREDENTIALS
        .iter()
        .any(|credential| name.eq_ignore_ascii_case(credential))
}

/// Appends an address in text, an IPv4 one in an IPv6 dress without it.
pub fn append_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let mut space = [0; encode::DECIMAL_BYTES_MAX];
            for (position, octet) in v4.octets().into_iter().enumerate() {
                if position > 0 {
                    out.push(b'.');
                }
                out.extend_from_slice(encode::decimal(u64::from(octet), &mut space));
            }
        }
        IpAddr::V6(v6) => append(out, format_args!("{v6}")),
    }
}

/// Longest name in Via.
pub const VIA_NAME_BYTES_MAX: usize = 255;

/// Of the lines of [`OriginLines`]: an address has at most 39 bytes (RFC 5952).
const ORIGIN_BYTES_MAX: usize = 96;

const CREDENTIALS: [&str; 8] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "sec-websocket-key",
    "x-api-key",
    "x-auth-token",
    "x-csrf-token",
    "x-xsrf-token",
];

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    match out.write_fmt(text) {
        Ok(()) => (),
        Err(_never) => unreachable!("a Vec takes everything"),
    }
}

/// The value of a field that came exactly once.
fn once<'b>(fields: &Fields<'_, 'b>, kind: FieldName) -> Option<&'b [u8]> {
    fields
        .first(kind)
        .filter(|_value| !fields.is_repeated(kind))
}

fn is_scheme(value: &[u8]) -> bool {
    [b"http".as_slice(), b"https", b"ws", b"wss"]
        .iter()
        .any(|scheme| value.eq_ignore_ascii_case(scheme))
}

/// Where in a value with comments a reader is: they nest, and may hold commas. RFC 9110 §5.6.5.
#[derive(Default)]
struct CommentDepth {
    open: usize,
    is_escaped: bool,
}

impl CommentDepth {
    /// Takes the next byte; whether it is a comma that separates members.
    fn is_comma_outside(&mut self, byte: u8) -> bool {
        let is_escaped = std::mem::take(&mut self.is_escaped);
        match byte {
            _ if is_escaped => (),
            b'\\' if self.open > 0 => self.is_escaped = true,
            b'(' => self.open += 1,
            b')' => self.open = self.open.saturating_sub(1),
            b',' => return self.open == 0,
            _ => (),
        }
        false
    }

    fn is_open(&self) -> bool {
        self.open > 0
    }
}

/// Whether every quoted string in the value has its end: behind one that has none, a member of ours would be a part of it.
/// RFC 9110 §5.6.4.
fn is_closed(value: &[u8]) -> bool {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for &byte in value {
        match byte {
            _ if std::mem::take(&mut is_escaped) => (),
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            _ => (),
        }
    }
    !is_quoted
}

/// The second word of a member of Via.
fn received_by(member: &[u8]) -> Option<&[u8]> {
    member
        .split(|byte| matches!(byte, b' ' | b'\t'))
        .filter(|word| !word.is_empty())
        .nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_fields<T>(lines: &[(&str, &str)], check: impl FnOnce(&Fields<'_, '_>) -> T) -> T {
        let headers: Vec<httparse::Header<'_>> = lines
            .iter()
            .map(|(name, value)| httparse::Header {
                name,
                value: value.as_bytes(),
            })
            .collect();
        let mut kinds = [FieldName::Other; 16];
        check(&Fields::new(&headers, &mut kinds).unwrap())
    }

    fn check_loop(values: &[&str], expected: bool) {
        let lines: Vec<_> = values.iter().map(|value| ("Via", *value)).collect();
        let via = Via::new("us").unwrap();
        let found = with_fields(&lines, |fields| via.has_passed(fields));
        assert_eq!(found, expected, "{values:?}");
    }

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn hop(peer: &str) -> Hop<'static> {
        Hop {
            peer: Some(peer.parse().unwrap()),
            scheme: Scheme::Http,
            authority: Authority::parse(b"a:81"),
        }
    }

    #[test]
    fn lines_made_once_are_those_made_each_time() {
        let longest = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
        for peer in ["1.2.3.4:5", "[::ffff:1.2.3.4]:5", "[::1]:5", longest] {
            for scheme in [Scheme::Http, Scheme::Https] {
                let hop = Hop {
                    scheme,
                    ..hop(peer)
                };
                let mut scratch = b"x".to_vec();
                let origin = OriginLines::of(hop.peer, &mut scratch);
                let once = text(|out| hop.encode_as_first_by(&origin, out));
                assert_eq!(once, text(|out| hop.encode_as_first(out)));
            }
        }
        let nobody = OriginLines::of(None, &mut Vec::new());
        assert_eq!(nobody.as_bytes(), b"X-Forwarded-Proto: http\r\n");
    }

    #[test]
    fn our_own_name_in_via_is_a_loop() {
        check_loop(&["1.1 us"], true);
        check_loop(&["1.0 other, HTTP/1.1\tUS (by (way) of, here)"], true);
        check_loop(&["1.1 a", "1.1 b (x), 1.1 us"], true);
    }

    #[test]
    fn a_comment_without_end_hides_no_loop() {
        check_loop(&["1.1 a (, 1.1 us"], true);
        check_loop(&["1.1 a (\\), 1.1 us, 1.1 b"], true);
        check_loop(&["1.1 a (, 1.1 other"], false);
    }

    #[test]
    fn other_names_and_comments_in_via_are_no_loop() {
        for value in [
            "1.1 other",
            "1.1 use",
            "us",
            "us 1.1",
            "1.1 a (1.1 us)",
            "1.1 a (x, 1.1 us)",
            "1.1 a (\\), 1.1 us)",
            "",
            ",,",
        ] {
            check_loop(&[value], false);
        }
        check_loop(&[], false);
    }

    #[test]
    fn a_name_in_via_is_a_word() {
        for good in ["us", "proxy.example:8080", "[::1]:80"] {
            let via = Via::new(good).unwrap();
            assert_eq!(via.name(), good);
            assert_eq!(
                via.line(Version::Http10),
                format!("Via: 1.0 {good}\r\n").as_bytes()
            );
        }
        let long = "a".repeat(VIA_NAME_BYTES_MAX + 1);
        for bad in ["", "a b", "a,b", "a\r\nb", "(a)", "é", &long] {
            assert_eq!(Via::new(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_stranger_is_named_by_its_address_alone() {
        assert_eq!(
            text(|out| hop("[::ffff:1.2.3.4]:5").encode_as_first(out)),
            "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a:81\r\n"
        );
    }

    #[test]
    fn what_a_trusted_peer_says_stands_before_its_address() {
        let lines = [
            ("X-Forwarded-For", "9.9.9.9, 8.8.8.8"),
            ("X-Forwarded-For", ""),
            ("X-Forwarded-For", "7.7.7.7"),
            ("X-Forwarded-Proto", "HTTPS"),
            ("X-Forwarded-Host", "front.example"),
        ];
        let written = with_fields(&lines, |fields| {
            text(|out| hop("1.2.3.4:5").encode_after(fields, out))
        });
        assert_eq!(
            written,
            "X-Forwarded-For: 9.9.9.9, 8.8.8.8, 7.7.7.7, 1.2.3.4\r\nX-Forwarded-Proto: HTTPS\r\n\
             X-Forwarded-Host: front.example\r\n"
        );
    }

    #[test]
    fn what_makes_no_sense_is_not_believed_of_anybody() {
        let lines = [
            ("X-Forwarded-Proto", "gopher"),
            ("X-Forwarded-Host", "a"),
            ("X-Forwarded-Host", "b"),
        ];
        let written = with_fields(&lines, |fields| {
            text(|out| hop("[2001:db8::1]:5").encode_after(fields, out))
        });
        assert_eq!(
            written,
            "X-Forwarded-For: 2001:db8::1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a:81\r\n"
        );
    }

    #[test]
    fn forwarded_quotes_what_is_no_token() {
        let none = std::iter::empty;
        assert_eq!(
            text(|out| hop("[2001:db8::1]:5").encode_forwarded(none(), out)),
            "Forwarded: for=\"[2001:db8::1]\";host=\"a:81\";proto=http\r\n"
        );
        let nobody = Hop {
            peer: None,
            scheme: Scheme::Https,
            authority: None,
        };
        let before = [b"for=9.9.9.9".as_slice(), b""];
        assert_eq!(
            text(|out| nobody.encode_forwarded(before.into_iter(), out)),
            "Forwarded: for=9.9.9.9, for=unknown;proto=https\r\n"
        );
    }

    #[test]
    fn a_quote_without_end_does_not_take_our_element_of_forwarded_in() {
        let before = [
            b"for=\"x;y\"".as_slice(),
            b"for=\"evil",
            b"for=\"\\\"",
            b"for=\"\\\"\"",
        ];
        assert_eq!(
            text(|out| hop("1.2.3.4:5").encode_forwarded(before.into_iter(), out)),
            "Forwarded: for=\"x;y\", for=\"\\\"\", for=1.2.3.4;host=\"a:81\";proto=http\r\n"
        );
    }

    #[test]
    fn claims_of_origin_are_known_by_their_names() {
        for claim in ["X-Forwarded-Port", "x-forwarded-", "X-REAL-IP"] {
            assert!(is_claim_of_origin(claim), "{claim}");
        }
        for other in ["X-Forwarded", "X-Real-IPs", "Forwarded-X-", "x", "X-", ""] {
            assert!(!is_claim_of_origin(other), "{other}");
        }
    }
}
