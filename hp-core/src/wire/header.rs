//! Field names that the proxy treats specially, and a view over the fields of one head.
//!
//! Knows which fields belong to one hop only; knows nothing about framing, routing or policy.

use super::token;

/// Names that an intermediary acts upon; every other name is [`FieldName::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FieldName {
    /// `Connection`, RFC 9110 §7.6.1.
    Connection,
    /// `Content-Length`, RFC 9110 §8.6.
    ContentLength,
    /// `Date`, RFC 9110 §6.6.1.
    Date,
    /// `Expect`, RFC 9110 §10.1.1.
    Expect,
    /// `Forwarded`, RFC 7239 §4.
    Forwarded,
    /// `Host`, RFC 9110 §7.2.
    Host,
    /// `HTTP2-Settings`, RFC 7540 §3.2.1.
    Http2Settings,
    /// `Keep-Alive`, RFC 2068 §19.7.1.
    KeepAlive,
    /// `Max-Forwards`, RFC 9110 §7.6.2.
    MaxForwards,
    /// `Proxy-Authenticate`, RFC 9110 §11.7.1.
    ProxyAuthenticate,
    /// `Proxy-Authentication-Info`, RFC 9110 §11.7.3.
    ProxyAuthenticationInfo,
    /// `Proxy-Authorization`, RFC 9110 §11.7.2.
    ProxyAuthorization,
    /// `Proxy-Connection`, RFC 9112 §C.2.2.
    ProxyConnection,
    /// `Proxy-Status`, RFC 9209 §2.
    ProxyStatus,
    /// `TE`, RFC 9110 §10.1.4.
    Te,
    /// `Trailer`, RFC 9110 §6.6.2.
    Trailer,
    /// `Transfer-Encoding`, RFC 9112 §6.1.
    TransferEncoding,
    /// `Upgrade`, RFC 9110 §7.8.
    Upgrade,
    /// `Via`, RFC 9110 §7.6.3.
    Via,
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `X-Forwarded-Host`.
    XForwardedHost,
    /// `X-Forwarded-Proto`.
    XForwardedProto,
    /// Any other name.
    Other,
}

impl FieldName {
    /// Classifies a name without regard to case: by length first, then by at most two comparisons.
    #[must_use]
    #[inline]
    pub fn classify(name: &[u8]) -> Self {
        match name.len() {
            2 => pick(name, &[(b"te", Self::Te)]),
            3 => pick(name, &[(b"via", Self::Via)]),
            4 => pick(name, &[(b"host", Self::Host), (b"date", Self::Date)]),
            6 => pick(name, &[(b"expect", Self::Expect)]),
            7 => pick(
                name,
                &[(b"upgrade", Self::Upgrade), (b"trailer", Self::Trailer)],
            ),
            9 => pick(name, &[(b"forwarded", Self::Forwarded)]),
            10 => pick(
                name,
                &[
                    (b"connection", Self::Connection),
                    (b"keep-alive", Self::KeepAlive),
                ],
            ),
            12 => pick(
                name,
                &[
                    (b"max-forwards", Self::MaxForwards),
                    (b"proxy-status", Self::ProxyStatus),
                ],
            ),
            14 => pick(
                name,
                &[
                    (b"content-length", Self::ContentLength),
                    (b"http2-settings", Self::Http2Settings),
                ],
            ),
            15 => pick(name, &[(b"x-forwarded-for", Self::XForwardedFor)]),
            16 => pick(
                name,
                &[
                    (b"x-forwarded-host", Self::XForwardedHost),
                    (b"proxy-connection", Self::ProxyConnection),
                ],
            ),
            17 => pick(
                name,
                &[
                    (b"transfer-encoding", Self::TransferEncoding),
                    (b"x-forwarded-proto", Self::XForwardedProto),
                ],
            ),
            18 => pick(name, &[(b"proxy-authenticate", Self::ProxyAuthenticate)]),
            19 => pick(name, &[(b"proxy-authorization", Self::ProxyAuthorization)]),
            25 => pick(
                name,
                &[(b"proxy-authentication-info", Self::ProxyAuthenticationInfo)],
            ),
            _ => Self::Other,
        }
    }

    /// Tells whether the field speaks to the next hop only, so that it is never forwarded as it came.
    ///
    /// Those of RFC 9110 §7.6.1, and four more. `HTTP2-Settings` belongs to an upgrade that we never make. `Content-Length` and `Trailer` describe a framing
    /// that the encoder writes anew. The `Proxy-Auth*` fields are between a client and the proxy it
    /// chose (§11.7): credentials for us must not leak to a backend, nor may a backend ask for them.
    #[must_use]
    #[inline]
    pub fn is_hop_by_hop(self) -> bool {
        self.bit() & HOP_BY_HOP != 0
    }

    /// The field's place in a set of names.
    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// What the Connection field asks for. RFC 9110 §7.6.1, RFC 9112 §9.3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// `close` was named.
    pub close: bool,
    /// `keep-alive` was named.
    pub keep_alive: bool,
    /// `upgrade` was named.
    pub upgrade: bool,
    /// A field that would otherwise be forwarded was named.
    pub nominates: bool,
}

/// Why the fields of a head cannot be used; the peer broke RFC 9110 §7.6.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionError {
    /// A member of Connection is no token.
    OptionInvalid,
    /// Connection has more than [`CONNECTION_OPTIONS_MAX`] members, the empty ones counted.
    OptionsTooMany,
}

/// The fields of one head, in the order they came, with their names classified.
///
/// `headers.len() == kinds.len()`.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'h, 'b> {
    headers: &'h [httparse::Header<'b>],
    kinds: &'h [FieldName],
    present: u32,
    repeated: u32,
    connection: ConnectionOptions,
}

impl<'h, 'b> Fields<'h, 'b> {
    /// Classifies `headers` into `kinds`, of which as many as there are headers are used, and reads
    /// Connection. Fields beyond the length of `kinds` are cut off; the caller bounds their number.
    ///
    /// # Errors
    /// [`ConnectionError`] if Connection is no list of tokens or is longer than we read.
    #[inline]
    pub(super) fn new(
        headers: &'h [httparse::Header<'b>],
        kinds: &'h mut [FieldName],
    ) -> Result<Self, ConnectionError> {
        let mut present = 0;
        let mut repeated = 0;
        let mut count = 0;
        for (header, kind) in headers.iter().zip(kinds.iter_mut()) {
            *kind = FieldName::classify(header.name.as_bytes());
            repeated |= present & kind.bit();
            present |= kind.bit();
            count += 1;
        }
        let kinds: &'h [FieldName] = kinds;
        let connection = ConnectionOptions::default();
        let mut fields = Self {
            headers: headers.get(..count).unwrap_or_default(),
            kinds: kinds.get(..count).unwrap_or_default(),
            present,
            repeated,
            connection,
        };
        if fields.has(FieldName::Connection) {
            fields.connection = connection_options(&fields)?;
        }
        Ok(fields)
    }

    /// Number of field lines.
    #[must_use]
    pub fn len(&self) -> usize {
        self.headers.len()
    }

    /// Tells whether there is no field at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    /// Tells whether a field of this kind came at least once; costs one bit test.
    #[must_use]
    #[inline]
    pub fn has(&self, kind: FieldName) -> bool {
        self.present & kind.bit() != 0
    }

    /// Tells whether a field of this kind came at least twice; costs one bit test.
    #[must_use]
    #[inline]
    pub fn is_repeated(&self, kind: FieldName) -> bool {
        self.repeated & kind.bit() != 0
    }

    /// What Connection asks for; all false if it is absent.
    #[must_use]
    pub fn connection(&self) -> ConnectionOptions {
        self.connection
    }

    /// The value of the first field of this kind, without surrounding whitespace.
    #[must_use]
    #[inline]
    pub fn first(&self, kind: FieldName) -> Option<&'b [u8]> {
        if self.has(kind) {
            self.all(kind).next()
        } else {
            None
        }
    }

    /// The values of every field of this kind, in order; costs one bit test where there is none.
    #[inline]
    pub fn all(&self, kind: FieldName) -> impl Iterator<Item = &'b [u8]> + use<'h, 'b> {
        let count = if self.has(kind) { self.len() } else { 0 };
        self.iter()
            .take(count)
            .filter(move |field| field.0 == kind)
            .map(|field| field.2)
    }

    /// The value of the first field with this name, of any kind, compared without case.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&'b [u8]> {
        let header = self
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))?;
        Some(header.value)
    }

    /// Every field as (kind, name, value), in order; names keep the case they came with.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (FieldName, &'b str, &'b [u8])> + use<'h, 'b> {
        let kinds = self.kinds.iter().copied();
        kinds
            .zip(self.headers)
            .map(|(kind, header)| (kind, header.name, header.value))
    }

    /// The fields that travel on: not hop-by-hop, not framing, not nominated by Connection.
    ///
    /// A name that the proxy acts upon is never removed by nominating it: that would let a client
    /// strip Host or X-Forwarded-For behind our back. Costs nothing more than [`Fields::iter`] while
    /// Connection has only `close`, `keep-alive` and hop-by-hop names. RFC 9110 §7.6.1.
    #[inline]
    pub fn end_to_end(&self) -> impl Iterator<Item = (FieldName, &'b str, &'b [u8])> + use<'h, 'b> {
        let fields = *self;
        self.iter().filter(move |&(kind, name, _value)| {
            let may_be_nominated = fields.connection.nominates && kind == FieldName::Other;
            !(kind.is_hop_by_hop() || (may_be_nominated && fields.is_nominated(name)))
        })
    }

    /// Tells whether Connection names the field. Bounded by [`CONNECTION_OPTIONS_MAX`].
    #[cold]
    fn is_nominated(&self, name: &str) -> bool {
        self.all(FieldName::Connection)
            .flat_map(token::list)
            .any(|option| option.eq_ignore_ascii_case(name.as_bytes()))
    }
}

/// Most members of all Connection fields of a head together, empty ones counted: each field is
/// compared with each of them.
pub const CONNECTION_OPTIONS_MAX: usize = 64;

/// The names that [`FieldName::is_hop_by_hop`] speaks of.
const HOP_BY_HOP: u32 = FieldName::Connection.bit()
    | FieldName::ContentLength.bit()
    | FieldName::Http2Settings.bit()
    | FieldName::KeepAlive.bit()
    | FieldName::ProxyAuthenticate.bit()
    | FieldName::ProxyAuthenticationInfo.bit()
    | FieldName::ProxyAuthorization.bit()
    | FieldName::ProxyConnection.bit()
    | FieldName::Te.bit()
    | FieldName::Trailer.bit()
    | FieldName::TransferEncoding.bit()
    | FieldName::Upgrade.bit();

const _: () = assert!(
    (FieldName::Other as u32) < u32::BITS,
    "a set of names fits 32 bits"
);

/// Returns the kind whose name equals `name`; the candidates have its length and are in lower case.
#[inline]
fn pick<const LEN: usize>(name: &[u8], candidates: &[(&[u8; LEN], FieldName)]) -> FieldName {
    let Ok(name) = <&[u8; LEN]>::try_from(name) else {
        return FieldName::Other;
    };
    for (candidate, kind) in candidates {
        // Most names are none of ours, and differ from them in their first letter.
        if name[0].to_ascii_lowercase() != candidate[0] {
            continue;
        }
        // No branch within: the compiler turns the loop of known length into a few wide operations.
        let mut difference = 0;
        for (byte, lower) in name.iter().zip(*candidate) {
            difference |= byte.to_ascii_lowercase() ^ lower;
        }
        if difference == 0 {
            return *kind;
        }
    }
    FieldName::Other
}

/// Reads all Connection fields as one list.
fn connection_options(fields: &Fields<'_, '_>) -> Result<ConnectionOptions, ConnectionError> {
    let mut options = ConnectionOptions::default();
    let mut count: usize = 0;
    for value in fields.all(FieldName::Connection) {
        for option in token::members(value) {
            count += 1;
            if count > CONNECTION_OPTIONS_MAX {
                return Err(ConnectionError::OptionsTooMany);
            }
            if option.is_empty() {
                continue;
            }
            if option.eq_ignore_ascii_case(b"keep-alive") {
                options.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"close") {
                options.close = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                options.upgrade = true;
            } else if !token::is_token(option) {
                return Err(ConnectionError::OptionInvalid);
            } else if FieldName::classify(option) == FieldName::Other {
                options.nominates = true;
            }
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [(&str, FieldName); 22] = [
        ("Connection", FieldName::Connection),
        ("Content-Length", FieldName::ContentLength),
        ("Date", FieldName::Date),
        ("Expect", FieldName::Expect),
        ("Forwarded", FieldName::Forwarded),
        ("Host", FieldName::Host),
        ("HTTP2-Settings", FieldName::Http2Settings),
        ("Keep-Alive", FieldName::KeepAlive),
        ("Max-Forwards", FieldName::MaxForwards),
        ("Proxy-Authenticate", FieldName::ProxyAuthenticate),
        (
            "Proxy-Authentication-Info",
            FieldName::ProxyAuthenticationInfo,
        ),
        ("Proxy-Authorization", FieldName::ProxyAuthorization),
        ("Proxy-Connection", FieldName::ProxyConnection),
        ("Proxy-Status", FieldName::ProxyStatus),
        ("TE", FieldName::Te),
        ("Trailer", FieldName::Trailer),
        ("Transfer-Encoding", FieldName::TransferEncoding),
        ("Upgrade", FieldName::Upgrade),
        ("Via", FieldName::Via),
        ("X-Forwarded-For", FieldName::XForwardedFor),
        ("X-Forwarded-Host", FieldName::XForwardedHost),
        ("X-Forwarded-Proto", FieldName::XForwardedProto),
    ];

    fn check_end_to_end(lines: &[(&str, &str)], expected: &[&str]) {
        let headers: Vec<httparse::Header<'_>> = lines
            .iter()
            .map(|(name, value)| httparse::Header {
                name,
                value: value.as_bytes(),
            })
            .collect();
        let mut kinds = [FieldName::Other; 16];
        let fields = Fields::new(&headers, &mut kinds).unwrap();
        let names: Vec<&str> = fields.end_to_end().map(|field| field.1).collect();
        assert_eq!(names, expected);
    }

    fn connection(value: &str) -> Result<ConnectionOptions, ConnectionError> {
        let headers = [httparse::Header {
            name: "connection",
            value: value.as_bytes(),
        }];
        Ok(Fields::new(&headers, &mut [FieldName::Other])?.connection())
    }

    #[test]
    fn names_classify_in_any_case() {
        for (name, kind) in NAMES {
            assert_eq!(FieldName::classify(name.as_bytes()), kind, "{name}");
            assert_eq!(
                FieldName::classify(name.to_ascii_lowercase().as_bytes()),
                kind
            );
            assert_eq!(
                FieldName::classify(name.to_ascii_uppercase().as_bytes()),
                kind
            );
            let near = name.replace('-', "_").replace('o', "0").replace('e', "3") + "x";
            assert_eq!(
                FieldName::classify(near.as_bytes()),
                FieldName::Other,
                "{near}"
            );
        }
    }

    #[test]
    fn near_names_of_the_same_length_are_other() {
        for (name, _kind) in NAMES {
            for at in 0..name.len() {
                let mut near = name.as_bytes().to_vec();
                near[at] = if near[at] == b'~' { b'!' } else { b'~' };
                assert_eq!(FieldName::classify(&near), FieldName::Other);
            }
        }
    }

    #[test]
    fn hop_by_hop_fields_stay_on_their_hop() {
        check_end_to_end(
            &[
                ("Host", "a"),
                ("Connection", "close, keep-alive, te, upgrade"),
                ("Keep-Alive", "timeout=5"),
                ("Proxy-Connection", "keep-alive"),
                ("TE", "trailers"),
                ("Trailer", "x"),
                ("Transfer-Encoding", "chunked"),
                ("Upgrade", "websocket"),
                ("Proxy-Authorization", "Basic eDp5"),
                ("Content-Length", "3"),
                ("Accept", "*/*"),
            ],
            &["Host", "Accept"],
        );
    }

    #[test]
    fn nominated_fields_stay_on_their_hop() {
        check_end_to_end(
            &[
                ("X-A", "1"),
                ("Connection", "x-a"),
                ("connection", "close,\tX-B"),
                ("X-B", "2"),
                ("X-C", "3"),
            ],
            &["X-C"],
        );
    }

    #[test]
    fn fields_that_the_proxy_needs_cannot_be_nominated_away() {
        check_end_to_end(
            &[
                (
                    "Connection",
                    "host, via, x-forwarded-for, forwarded, expect, cookie",
                ),
                ("Host", "a"),
                ("Via", "1.1 b"),
                ("X-Forwarded-For", "c"),
                ("Forwarded", "for=d"),
                ("Expect", "100-continue"),
                ("Cookie", "e"),
            ],
            &["Host", "Via", "X-Forwarded-For", "Forwarded", "Expect"],
        );
    }

    #[test]
    fn connection_is_a_bounded_list_of_tokens() {
        let options = connection("Keep-Alive,, CLOSE").unwrap();
        assert!(options.keep_alive && options.close && !options.nominates && !options.upgrade);
        assert!(
            !connection("keep-alive, te, transfer-encoding")
                .unwrap()
                .nominates
        );
        assert!(connection("x-a").unwrap().nominates);
        assert_eq!(connection("a b"), Err(ConnectionError::OptionInvalid));
        assert_eq!(connection("\"close\""), Err(ConnectionError::OptionInvalid));
        assert_eq!(
            connection(&"a,".repeat(64)),
            Err(ConnectionError::OptionsTooMany)
        );
        assert_eq!(
            connection(&",".repeat(64)),
            Err(ConnectionError::OptionsTooMany)
        );
        assert!(connection(&",".repeat(63)).is_ok());
    }

    #[test]
    fn presence_and_repetition_are_known() {
        let headers = [
            httparse::Header {
                name: "HOST",
                value: b"a",
            },
            httparse::Header {
                name: "x",
                value: b"1",
            },
            httparse::Header {
                name: "host",
                value: b"b",
            },
        ];
        let mut kinds = [FieldName::Other; 3];
        let fields = Fields::new(&headers, &mut kinds).unwrap();
        assert!(fields.has(FieldName::Host) && fields.is_repeated(FieldName::Host));
        assert!(!fields.has(FieldName::Via) && !fields.is_repeated(FieldName::Other));
        assert_eq!(fields.first(FieldName::Host), Some(&b"a"[..]));
        assert_eq!(fields.all(FieldName::Host).count(), 2);
        assert_eq!(fields.named("X"), Some(&b"1"[..]));
        assert_eq!((fields.len(), fields.is_empty()), (3, false));
    }
}
