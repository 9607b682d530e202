//! Reads a response head. RFC 9112 §4, §5, §6.3.
//!
//! A backend is no more trusted than a client: what is refused in a request is refused here. Knows
//! nothing about retries, caches or what the client gets instead.

use super::error::{HeadError, ResponseError};
use super::framing::{self, RequestContext, ResponseFraming};
use super::head::{self, HeadLimits, HeaderScratch, Parse, PartialLine, Version};
use crate::wire::header::{FieldName, Fields};
use crate::wire::token;

/// A whole response head, as slices of the buffer it was read from.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'h, 'b> {
    /// The version of the message.
    pub version: Version,
    /// 100 to 599.
    pub status: u16,
    /// The reason phrase as it came, without controls; may be empty. RFC 9112 §4.
    pub reason: &'b [u8],
    /// The field lines.
    pub fields: Fields<'h, 'b>,
    /// The head itself.
    pub received: &'b [u8],
    /// Length in bytes, the blank line included: the body, or the next head, begins there.
    pub head_bytes: usize,
    /// What the exchange has to obey, free of borrows.
    pub facts: ResponseFacts,
}

/// What a response asks of the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseFacts {
    /// Where the body ends.
    pub framing: ResponseFraming,
    /// The version of the message.
    pub version: Version,
    /// Content-Length as declared, also for HEAD and 304, where it describes a body not sent.
    pub declared_length: Option<u64>,
    /// The connection may live on as far as this head says. RFC 9112 §9.3.
    pub keep_alive: bool,
    /// 100 to 199 but 101: another head follows on this connection. RFC 9110 §15.2.
    pub is_interim: bool,
    /// 101 to a request that asked for it, with Upgrade and `Connection: upgrade`. RFC 9110 §7.8.
    pub upgrade: bool,
    /// The connection is a tunnel after this head: 101, or 2xx to CONNECT.
    pub is_tunnel: bool,
}

/// Reads one response head from the beginning of `bytes`, which may hold more than it.
///
/// No empty line may come before it: nobody asked for one.
///
/// # Errors
/// [`ResponseError`], all of which mean 502 and the end of the connection. A head that is not whole
/// is an error as soon as a limit is reached, and [`Parse::Partial`] before.
#[inline]
pub fn parse_response<'h, 'b>(
    bytes: &'b [u8],
    limits: &HeadLimits,
    scratch: &'h mut HeaderScratch<'b>,
    context: RequestContext,
) -> Result<Parse<ResponseHead<'h, 'b>>, ResponseError> {
    if !matches!(bytes.first(), None | Some(b'H')) {
        return Err(ResponseError::VersionInvalid);
    }
    let (slots, kinds) = scratch.slots(limits);
    let config = httparse::ParserConfig::default();
    let mut lines = httparse::Response::new(&mut []);
    let parsed = config.parse_response_with_uninit_headers(&mut lines, bytes, slots);
    let head_bytes = match parsed {
        Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
        Ok(httparse::Status::Partial) => return partial(bytes, limits),
        Err(error) => return Err(refusal(error)),
    };
    let (Some(minor), Some(status)) = (lines.version, lines.code) else {
        return Err(ResponseError::VersionInvalid);
    };
    let message = bytes.get(..head_bytes).unwrap_or(bytes);
    let (line_end, reason) = status_line_end(message, lines.reason)?;
    if line_end > limits.line_len_max() {
        return Err(ResponseError::StatusLineTooLong);
    }
    if head_bytes > limits.head_len_max() {
        return Err(ResponseError::Head(HeadError::HeadTooLarge));
    }
    if !(100..=599).contains(&status) {
        return Err(ResponseError::StatusInvalid);
    }
    let headers: &'h [httparse::Header<'b>] = lines.headers;
    head::check_line_ends(message, line_end, headers).map_err(ResponseError::Head)?;
    let version = Version::of_minor(minor);
    let fields = Fields::new(headers, kinds).map_err(|error| ResponseError::Head(error.into()))?;
    let facts = facts(version, status, context, &fields)?;
    Ok(Parse::Complete(ResponseHead {
        version,
        status,
        reason,
        fields,
        received: message,
        head_bytes,
        facts,
    }))
}

impl ResponseHead<'_, '_> {
    /// How many bytes of the head, from its beginning, are the status line as we write it; `None` where it came in any other way.
    #[must_use]
    #[inline]
    pub fn written_line(&self) -> Option<usize> {
        // A reason that is not empty stands behind one space, and ends with its line.
        let is_written = self.version == Version::Http11
            && !self.reason.is_empty()
            && head::offset_in(self.received, self.reason) == REASON_AT;
        is_written.then_some(REASON_AT + self.reason.len() + "\r\n".len())
    }
}

/// Tells whether every protocol that a 101 switches to is one that the request named, in the lines of its head as it was sent.
///
/// Names compare without case. RFC 9110 §7.8.
#[must_use]
pub fn is_switch_to_requested(fields: &Fields<'_, '_>, sent_head: &[u8]) -> bool {
    let named_in = |line: &[u8], protocol: &[u8]| {
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        FieldName::classify(name) == FieldName::Upgrade
            && token::list(value.get(1..).unwrap_or_default())
                .any(|named| named.eq_ignore_ascii_case(protocol))
    };
    let mut protocols = fields
        .all(FieldName::Upgrade)
        .flat_map(token::list)
        .peekable();
    protocols.peek().is_some()
        && protocols.all(|protocol| {
            let mut lines = sent_head.split(|&byte| byte == b'\n');
            lines.any(|line| named_in(line.strip_suffix(b"\r").unwrap_or(line), protocol))
        })
}

#[inline]
fn facts(
    version: Version,
    status: u16,
    context: RequestContext,
    fields: &Fields<'_, '_>,
) -> Result<ResponseFacts, ResponseError> {
    let body = framing::response_framing(version, status, context, fields)
        .map_err(ResponseError::Framing)?;
    let announces_body = fields.has(FieldName::TransferEncoding)
        || body.declared_length.is_some_and(|length| length > 0);
    let is_1xx = status < 200;
    if is_1xx && announces_body {
        return Err(ResponseError::InterimWithBody);
    }
    let upgrade = status == 101;
    let is_agreed = context.upgrade_requested
        && version == Version::Http11
        && fields.connection().upgrade
        && fields.has(FieldName::Upgrade);
    if upgrade && !is_agreed {
        return Err(ResponseError::UpgradeUnsolicited);
    }
    // A server that announces a body with 204 is likely to send one: what follows belongs to nobody.
    let is_contradictory = status == 204 && announces_body;
    let is_tunnel = upgrade || (context.method_is_connect && matches!(status, 200..=299));
    Ok(ResponseFacts {
        framing: body.framing,
        version,
        declared_length: body.declared_length,
        keep_alive: framing::wants_keep_alive(version, fields)
            && body.framing != ResponseFraming::UntilClose
            && !is_contradictory
            && !is_tunnel,
        is_interim: is_1xx && !upgrade,
        upgrade,
        is_tunnel,
    })
}

/// Finds the end of the status line, before its CRLF, and the reason phrase. httparse drops a reason
/// that is not ASCII; we forward it.
#[inline]
fn status_line_end<'b>(
    message: &'b [u8],
    read: Option<&'b str>,
) -> Result<(usize, &'b [u8]), ResponseError> {
    // Whether CR and LF stand behind it is looked at with the other lines.
    if let Some(reason) = read.map(str::as_bytes)
        && !reason.is_empty()
        && head::offset_in(message, reason) == REASON_AT
    {
        return Ok((REASON_AT + reason.len(), reason));
    }
    let lf = memchr::memchr(b'\n', message).ok_or(ResponseError::StatusInvalid)?;
    let line = message.get(..lf).unwrap_or_default();
    let Some(line) = line.strip_suffix(b"\r") else {
        return Err(ResponseError::Head(HeadError::BareLf));
    };
    let reason = line.get(REASON_AT..).unwrap_or_default();
    Ok((line.len(), reason))
}

/// Where a reason phrase stands in its line.
const REASON_AT: usize = "HTTP/1.1 200 ".len();

/// Judges a head that is not whole.
#[cold]
fn partial<T>(bytes: &[u8], limits: &HeadLimits) -> Result<Parse<T>, ResponseError> {
    match head::check_partial(bytes, limits).map_err(ResponseError::Head)? {
        PartialLine::TooLong => Err(ResponseError::StatusLineTooLong),
        PartialLine::Fits if bytes.len() >= limits.head_len_max() => {
            Err(ResponseError::Head(HeadError::HeadTooLarge))
        }
        PartialLine::Fits => Ok(Parse::Partial),
    }
}

/// Gives httparse's verdict our names.
#[cold]
fn refusal(error: httparse::Error) -> ResponseError {
    match error {
        httparse::Error::HeaderName => ResponseError::Head(HeadError::FieldName),
        httparse::Error::HeaderValue => ResponseError::Head(HeadError::FieldValue),
        httparse::Error::TooManyHeaders => ResponseError::Head(HeadError::FieldsTooMany),
        httparse::Error::NewLine => ResponseError::Head(HeadError::LineEnd),
        httparse::Error::Version | httparse::Error::Token => ResponseError::VersionInvalid,
        httparse::Error::Status => ResponseError::StatusInvalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(switch: &str, asked: &str, expected: bool) {
        let answer = format!("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: {switch}\r\n\r\n");
        let sent = format!("GET / HTTP/1.1\r\nHost: h2c\r\nX: h2c\r\nUpgrade: {asked}\r\n\r\n");
        let context = RequestContext {
            upgrade_requested: true,
            ..RequestContext::default()
        };
        let mut scratch = HeaderScratch::new();
        let parsed = parse_response(
            answer.as_bytes(),
            &HeadLimits::default(),
            &mut scratch,
            context,
        );
        let Ok(Parse::Complete(head)) = parsed else {
            panic!("{parsed:?}");
        };
        let found = is_switch_to_requested(&head.fields, sent.as_bytes());
        assert_eq!(found, expected, "{switch} for {asked}");
    }

    #[test]
    fn a_switch_goes_to_a_protocol_that_was_asked_for() {
        check("websocket", "websocket", true);
        check("WebSocket", "a/1, websocket", true);
        check("a/1, b", "b\r\nUpgrade: a/1", true);
        check("h2c", "websocket", false);
        check("websocket, h2c", "websocket", false);
        check("web", "websocket", false);
        check("websocket/13", "websocket", false);
        check("", "websocket", false);
        check(",", "websocket", false);
    }
}
