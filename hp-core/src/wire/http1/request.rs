//! Reads a request head. RFC 9112 §3, §5; RFC 9110 §7.2.
//!
//! httparse splits the lines; everything it is lenient about is refused here. Knows nothing about
//! routes, nor about what the proxy adds.

use super::encode;
use super::error::{HeadError, RequestError};
use super::framing::{self, BodyFraming};
use super::head::{self, HeadLimits, HeaderScratch, Parse, PartialLine, Version};
use super::method::{METHOD_BYTES_MAX, Method};
use super::target::Target;
use crate::wire::header::{FieldName, Fields};
use crate::wire::token;
use crate::wire::uri::{Authority, KnownAuthority};

/// A whole request head, as slices of the buffer it was read from.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'h, 'b> {
    /// The method.
    pub method: Method<'b>,
    /// The target, in the form it came in.
    pub target: Target<'b>,
    /// The server asked for: the target's authority, else Host; `None` only for HTTP/1.0.
    pub authority: Option<Authority<'b>>,
    /// The version of the message.
    pub version: Version,
    /// The field lines.
    pub fields: Fields<'h, 'b>,
    /// The head itself, without a leading empty line.
    pub received: &'b [u8],
    /// Length in bytes, a leading empty line and the blank line included: the body begins there.
    pub head_bytes: usize,
    /// What the exchange has to obey, free of borrows.
    pub facts: RequestFacts,
}

/// What a request asks of the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestFacts {
    /// Where the body ends.
    pub framing: BodyFraming,
    /// The version of the message.
    pub version: Version,
    /// The client wants the connection to live on. RFC 9112 §9.3.
    pub keep_alive: bool,
    /// The client waits for 100 before it sends its body; never on HTTP/1.0. RFC 9110 §10.1.1.
    pub expect_continue: bool,
    /// HTTP/1.1 with Upgrade, `Connection: upgrade`, and no `h2c` among the protocols, which is
    /// ignored as RFC 9110 §7.8 allows.
    pub upgrade: bool,
    /// The client takes trailers: `TE: trailers`. RFC 9110 §10.1.4.
    pub accepts_trailers: bool,
    /// The method is HEAD.
    pub is_head: bool,
    /// The method is CONNECT.
    pub is_connect: bool,
    /// The method is safe. RFC 9110 §9.2.1.
    pub is_safe: bool,
    /// The method is idempotent. RFC 9110 §9.2.2.
    pub is_idempotent: bool,
    /// What Max-Forwards of OPTIONS or TRACE allows, at most [`HOPS_MAX`]; other methods have no such bound. At 0 the
    /// request is ours to answer. RFC 9110 §7.6.2.
    pub hops_left: Option<u32>,
}

/// Reads one request head from the beginning of `bytes`, which may hold more than it.
///
/// One empty line before the request line is skipped (RFC 9112 §2.2). Never looks at body bytes.
///
/// # Errors
/// [`RequestError`]; its `status()` is the answer. A head that is not whole is an error as soon as a
/// limit is reached, and [`Parse::Partial`] before.
pub fn parse_request<'h, 'b>(
    bytes: &'b [u8],
    limits: &HeadLimits,
    scratch: &'h mut HeaderScratch<'b>,
) -> Result<Parse<RequestHead<'h, 'b>>, RequestError> {
    parse(bytes, limits, scratch, None)
}

/// The same for the next request of a client, of which `known` is what it named in Host before.
///
/// # Errors
/// As [`parse_request`].
#[inline]
pub fn parse_next_request<'h, 'b>(
    bytes: &'b [u8],
    limits: &HeadLimits,
    scratch: &'h mut HeaderScratch<'b>,
    known: &mut KnownAuthority,
) -> Result<Parse<RequestHead<'h, 'b>>, RequestError> {
    parse(bytes, limits, scratch, Some(known))
}

#[inline]
fn parse<'h, 'b>(
    bytes: &'b [u8],
    limits: &HeadLimits,
    scratch: &'h mut HeaderScratch<'b>,
    known: Option<&mut KnownAuthority>,
) -> Result<Parse<RequestHead<'h, 'b>>, RequestError> {
    let message = match bytes {
        [b'\r', b'\n', rest @ ..] => rest,
        _ => bytes,
    };
    if let Some(b'\r' | b'\n') = message.first() {
        return leading_empty_line(bytes);
    }
    let (slots, kinds) = scratch.slots(limits);
    let mut lines = httparse::Request::new(&mut []);
    let message_len = match lines.parse_with_uninit_headers(message, slots) {
        Ok(httparse::Status::Complete(message_len)) => message_len,
        Ok(httparse::Status::Partial) => return partial(bytes, message, limits),
        Err(httparse::Error::Version) => return bad_version(bytes, message, limits),
        Err(error) => return Err(refusal(error, message)),
    };
    let (Some(method), Some(text), Some(minor)) = (lines.method, lines.path, lines.version) else {
        return Err(RequestError::MethodInvalid);
    };
    let line_len = method.len() + text.len() + "  HTTP/1.1".len();
    let head_bytes = bytes.len() - message.len() + message_len;
    check_limits(method, line_len, head_bytes, limits)?;
    let message = message.get(..message_len).unwrap_or(message);
    let headers: &'h [httparse::Header<'b>] = lines.headers;
    head::check_line_ends(message, line_len, headers).map_err(RequestError::Head)?;

    let version = Version::of_minor(minor);
    let method = Method::classify(method);
    let target = Target::parse(method, text).ok_or(RequestError::TargetInvalid)?;
    let fields = Fields::new(headers, kinds).map_err(|error| RequestError::Head(error.into()))?;
    let authority = authority(version, &target, &fields, known)?;
    let facts = facts(version, method, &fields)?;
    Ok(Parse::Complete(RequestHead {
        method,
        target,
        authority,
        version,
        fields,
        received: message,
        head_bytes,
        facts,
    }))
}

impl RequestHead<'_, '_> {
    /// How many bytes of the head, from its beginning, are the request line and Host as we write them; `None` where they came in any
    /// other way.
    #[must_use]
    #[inline]
    pub fn written_line_and_host(&self) -> Option<usize> {
        // Any other form of a target is written in another one. Between its parts a line has one space each.
        let (Version::Http11, Target::Origin(target)) = (self.version, self.target) else {
            return None;
        };
        let line_bytes = self.method.as_str().len() + target.len() + "  HTTP/1.1\r\n".len();
        let (kind, name, value) = self.fields.iter().next()?;
        let is_written = kind == FieldName::Host
            && name == "Host"
            && head::offset_in(self.received, name.as_bytes()) == line_bytes;
        let end = encode::written_end(self.received, name, value)?;
        is_written.then_some(end)
    }
}

#[inline]
fn check_limits(
    method: &str,
    line_len: usize,
    head_bytes: usize,
    limits: &HeadLimits,
) -> Result<(), RequestError> {
    if method.len() > METHOD_BYTES_MAX {
        return Err(RequestError::MethodTooLong);
    }
    if line_len > limits.line_len_max() {
        return Err(RequestError::UriTooLong);
    }
    if head_bytes > limits.head_len_max() {
        return Err(RequestError::Head(HeadError::HeadTooLarge));
    }
    Ok(())
}

/// Finds the server asked for, and refuses a Host that is missing, repeated, bad or in disagreement.
///
/// RFC 9112 §3.2, §3.3; RFC 9110 §7.2.
#[inline]
fn authority<'b>(
    version: Version,
    target: &Target<'b>,
    fields: &Fields<'_, 'b>,
    known: Option<&mut KnownAuthority>,
) -> Result<Option<Authority<'b>>, RequestError> {
    if fields.is_repeated(FieldName::Host) {
        return Err(RequestError::HostRepeated);
    }
    let host = match fields.first(FieldName::Host) {
        Some(value) => {
            let host = match known {
                Some(known) => known.parse(value),
                None => Authority::parse(value),
            };
            Some(host.ok_or(RequestError::HostInvalid)?)
        }
        None if version == Version::Http11 => return Err(RequestError::HostMissing),
        None => None,
    };
    let (named, default_port) = match target {
        Target::Origin(_) | Target::Asterisk => return Ok(host),
        Target::Absolute {
            scheme, authority, ..
        } => (*authority, scheme.default_port()),
        // Clients leave the port out of Host here; one that is given must be the target's.
        Target::Authority(authority) => (*authority, authority.port().unwrap_or_default()),
    };
    match host {
        Some(host) if !named.is_same_server(&host, default_port) => {
            Err(RequestError::HostDisagrees)
        }
        _ => Ok(Some(named)),
    }
}

#[inline]
fn facts(
    version: Version,
    method: Method<'_>,
    fields: &Fields<'_, '_>,
) -> Result<RequestFacts, RequestError> {
    let framing = framing::request_framing(version, fields).map_err(RequestError::Framing)?;
    let upgrade = version == Version::Http11
        && fields.connection().upgrade
        && fields.has(FieldName::Upgrade)
        && is_upgrade_forwarded(fields);
    let is_connect = method == Method::Connect;
    let has_no_end = version == Version::Http10 && framing == BodyFraming::Empty;
    if has_no_end && matches!(method, Method::Post | Method::Put | Method::Patch) {
        return Err(RequestError::LengthRequired);
    }
    if framing.has_body() && (is_connect || upgrade || method == Method::Trace) {
        return Err(RequestError::BodyForbidden);
    }
    let expects = fields.has(FieldName::Expect) && is_continue_expected(fields)?;
    Ok(RequestFacts {
        framing,
        version,
        keep_alive: framing::wants_keep_alive(version, fields),
        expect_continue: expects && version == Version::Http11 && framing.has_body(),
        upgrade,
        accepts_trailers: version == Version::Http11
            && fields.has(FieldName::Te)
            && accepts_trailers(fields),
        is_head: method == Method::Head,
        is_connect,
        is_safe: method.is_safe(),
        is_idempotent: method.is_idempotent(),
        hops_left: hops_left(method, fields)?,
    })
}

/// Reads Max-Forwards where it has a meaning. More hops than we count are as many as we count. RFC 9110 §7.6.2.
#[inline]
fn hops_left(method: Method<'_>, fields: &Fields<'_, '_>) -> Result<Option<u32>, RequestError> {
    if !matches!(method, Method::Options | Method::Trace) {
        return Ok(None);
    }
    let Some(value) = fields.first(FieldName::MaxForwards) else {
        return Ok(None);
    };
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    if !is_number || fields.is_repeated(FieldName::MaxForwards) {
        return Err(RequestError::MaxForwardsInvalid);
    }
    let zeros = value.iter().take_while(|&&byte| byte == b'0').count();
    let hops = match value.get(zeros..) {
        None | Some([]) => 0,
        Some(digits) => token::decimal(digits).unwrap_or(u64::MAX),
    };
    Ok(Some(u32::try_from(hops).unwrap_or(HOPS_MAX).min(HOPS_MAX)))
}

/// Tells whether every protocol is well formed and none is `h2c`. RFC 9110 §7.8.
#[cold]
fn is_upgrade_forwarded(fields: &Fields<'_, '_>) -> bool {
    let mut protocols = fields
        .all(FieldName::Upgrade)
        .flat_map(token::list)
        .peekable();
    protocols.peek().is_some()
        && protocols.all(|protocol| {
            let mut parts = protocol.splitn(2, |&byte| byte == b'/');
            let name = parts.next().unwrap_or_default();
            token::is_token(name)
                && parts.next().is_none_or(token::is_token)
                && !name.eq_ignore_ascii_case(b"h2c")
        })
}

/// Tells whether 100-continue is expected. A list without a member expects nothing: empty ones are ignored, also where there is no
/// other. RFC 9110 §10.1.1, §5.6.1.2.
///
/// # Errors
/// [`RequestError::ExpectationUnknown`] for each other member.
#[cold]
fn is_continue_expected(fields: &Fields<'_, '_>) -> Result<bool, RequestError> {
    let expectations = fields.all(FieldName::Expect).flat_map(token::list);
    let mut is_expected = false;
    for expectation in expectations {
        if !expectation.eq_ignore_ascii_case(b"100-continue") {
            return Err(RequestError::ExpectationUnknown);
        }
        is_expected = true;
    }
    Ok(is_expected)
}

#[cold]
fn accepts_trailers(fields: &Fields<'_, '_>) -> bool {
    let mut codings = fields.all(FieldName::Te).flat_map(token::list);
    codings.any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

/// Judges bytes that begin with an empty line too many, or with half of one.
#[cold]
fn leading_empty_line<T>(bytes: &[u8]) -> Result<Parse<T>, RequestError> {
    match bytes {
        [b'\r'] | [b'\r', b'\n', b'\r'] => Ok(Parse::Partial),
        [b'\n', ..] | [b'\r', b'\n', b'\n', ..] => Err(RequestError::Head(HeadError::BareLf)),
        [b'\r', b'\n', b'\r', b'\n', ..] => Err(RequestError::LeadingEmptyLines),
        _ => Err(RequestError::Head(HeadError::LineEnd)),
    }
}

/// Judges a head that is not whole.
#[cold]
fn partial<T>(bytes: &[u8], message: &[u8], limits: &HeadLimits) -> Result<Parse<T>, RequestError> {
    match head::check_partial(message, limits).map_err(RequestError::Head)? {
        PartialLine::TooLong => Err(line_too_long(message)),
        PartialLine::Fits if bytes.len() >= limits.head_len_max() => {
            Err(RequestError::Head(HeadError::HeadTooLarge))
        }
        PartialLine::Fits => Ok(Parse::Partial),
    }
}

/// Names the part of the request line that is too long. RFC 9112 §3.
fn line_too_long(message: &[u8]) -> RequestError {
    match memchr::memchr(b' ', message) {
        Some(method_len) if method_len <= METHOD_BYTES_MAX => RequestError::UriTooLong,
        _ => RequestError::MethodTooLong,
    }
}

/// Tells a version we do not speak from one that is none, and both from half of one.
#[cold]
fn bad_version<T>(
    bytes: &[u8],
    message: &[u8],
    limits: &HeadLimits,
) -> Result<Parse<T>, RequestError> {
    let version = message
        .splitn(3, |&byte| byte == b' ')
        .nth(2)
        .unwrap_or_default();
    let end = memchr::memchr2(b'\r', b'\n', version);
    let text = version
        .get(..end.unwrap_or(version.len()))
        .unwrap_or_default();
    let fits = text.len() <= VERSION_FORM.len()
        && text.iter().zip(VERSION_FORM).all(|(&byte, &form)| {
            if form == b'#' {
                byte.is_ascii_digit()
            } else {
                byte == form
            }
        });
    match end {
        _ if !fits => Err(RequestError::VersionInvalid),
        None => partial(bytes, message, limits),
        Some(_) if text.len() < VERSION_FORM.len() => Err(RequestError::VersionInvalid),
        Some(_) => Err(RequestError::VersionUnsupported),
    }
}

/// Gives httparse's verdict our names.
#[cold]
fn refusal(error: httparse::Error, message: &[u8]) -> RequestError {
    match error {
        httparse::Error::HeaderName => RequestError::Head(HeadError::FieldName),
        httparse::Error::HeaderValue => RequestError::Head(HeadError::FieldValue),
        httparse::Error::TooManyHeaders => RequestError::Head(HeadError::FieldsTooMany),
        httparse::Error::Version => RequestError::VersionInvalid,
        httparse::Error::NewLine => RequestError::Head(HeadError::LineEnd),
        httparse::Error::Status | httparse::Error::Token => {
            let method = message
                .split(|&byte| byte == b' ')
                .next()
                .unwrap_or_default();
            if token::is_token(method) && method.len() < message.len() {
                RequestError::TargetInvalid
            } else {
                RequestError::MethodInvalid
            }
        }
    }
}

/// The largest Max-Forwards that we pass on.
pub const HOPS_MAX: u32 = 1_000_000;

/// `HTTP-version` with `#` for a digit. RFC 9112 §2.3.
const VERSION_FORM: &[u8] = b"HTTP/#.#";
