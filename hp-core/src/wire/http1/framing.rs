//! Where a body ends and whether the connection lives on: the anti-smuggling file.
//!
//! Pure functions over the facts of a head. Where the RFC allows repairing or refusing, they refuse.
//! Reads no body byte and knows no socket.

use super::error::FramingError;
use super::head::Version;
use crate::wire::header::{FieldName, Fields};
use crate::wire::token;

/// Where the body of a request ends. RFC 9112 §6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// No body and no length was declared.
    Empty,
    /// This many bytes, 0 to [`token::LENGTH_MAX`].
    Length(u64),
    /// Until the last chunk and the trailers.
    Chunked,
}

impl BodyFraming {
    /// Tells whether at least one byte of framing or content follows the head.
    #[must_use]
    pub fn has_body(self) -> bool {
        !matches!(self, Self::Empty | Self::Length(0))
    }
}

/// Where the body of a response ends. RFC 9112 §6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    /// No body, whatever the fields say.
    Empty,
    /// This many bytes, 0 to [`token::LENGTH_MAX`].
    Length(u64),
    /// Until the last chunk and the trailers.
    Chunked,
    /// Until the server closes. A reset on the way is truncation.
    UntilClose,
}

/// What a response's fields and its request say about its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseBody {
    /// Where it ends.
    pub framing: ResponseFraming,
    /// Content-Length as declared, also where no body follows (HEAD, 304): it may be forwarded.
    pub declared_length: Option<u64>,
}

/// What a response must know of its request. RFC 9112 §6.3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestContext {
    /// The request was HEAD: its response has no body.
    pub method_is_head: bool,
    /// The request was CONNECT: a 2xx answer opens a tunnel.
    pub method_is_connect: bool,
    /// We forwarded an Upgrade: 101 is a legal answer.
    pub upgrade_requested: bool,
}

/// Decides where the body of a request ends.
///
/// # Errors
/// [`FramingError`], each variant with its section. Content-Length and Transfer-Encoding together,
/// and repeated lengths, are refused although RFC 9112 §6.3 would let us choose.
///
/// RFC 9112 §6.1, §6.2, §6.3.
#[inline]
pub fn request_framing(
    version: Version,
    fields: &Fields<'_, '_>,
) -> Result<BodyFraming, FramingError> {
    Ok(match declared(version, fields)? {
        Declared::Nothing => BodyFraming::Empty,
        Declared::Length(length) => BodyFraming::Length(length),
        Declared::Chunked => BodyFraming::Chunked,
    })
}

/// Decides where the body of a response with this `status` ends.
///
/// The fields are checked even where no body follows, but for a 2xx answer to CONNECT, whose lengths
/// must be ignored (RFC 9110 §9.3.6).
///
/// # Errors
/// [`FramingError`], as for requests. Codings before `chunked` are refused: the message is written
/// anew for the next hop, and we could not write them back.
///
/// RFC 9112 §6.3.
#[inline]
pub fn response_framing(
    version: Version,
    status: u16,
    context: RequestContext,
    fields: &Fields<'_, '_>,
) -> Result<ResponseBody, FramingError> {
    if context.method_is_connect && matches!(status, 200..=299) {
        return Ok(ResponseBody {
            framing: ResponseFraming::Empty,
            declared_length: None,
        });
    }
    let declared = declared(version, fields)?;
    let declared_length = match declared {
        Declared::Length(length) => Some(length),
        Declared::Nothing | Declared::Chunked => None,
    };
    let framing = if context.method_is_head || matches!(status, 100..=199 | 204 | 304) {
        ResponseFraming::Empty
    } else {
        match declared {
            Declared::Nothing => ResponseFraming::UntilClose,
            Declared::Length(length) => ResponseFraming::Length(length),
            Declared::Chunked => ResponseFraming::Chunked,
        }
    };
    Ok(ResponseBody {
        framing,
        declared_length,
    })
}

/// Tells whether the sender of a head wants the connection to live on. RFC 9112 §9.3.
#[must_use]
#[inline]
pub fn wants_keep_alive(version: Version, fields: &Fields<'_, '_>) -> bool {
    let options = fields.connection();
    match version {
        Version::Http11 => !options.close,
        Version::Http10 => options.keep_alive && !options.close,
    }
}

/// Which end of the proxy a connection belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnSide {
    /// A client's connection: surplus bytes are its next request.
    Downstream,
    /// A server's connection: surplus bytes were asked for by nobody.
    Upstream,
}

/// How far a message went on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageEnd {
    /// Not read or written to its end, or broken.
    Unfinished,
    /// It ends when the connection does.
    UntilClose,
    /// Every byte of head, body and trailers went through, by length or by last chunk.
    Clean,
}

/// What [`reusable`] must know of one connection after one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReuseFacts {
    /// Whose connection it is.
    pub side: ConnSide,
    /// The peer's wish: `keep_alive` of the facts of the head it sent.
    pub peer_keeps_alive: bool,
    /// Our wish: no `Connection: close` was sent on it.
    pub we_keep_alive: bool,
    /// The request on this connection.
    pub request_end: MessageEnd,
    /// The response on this connection.
    pub response_end: MessageEnd,
    /// The connection became a tunnel.
    pub is_tunnel: bool,
    /// Bytes were received beyond the end of the message.
    pub has_surplus: bool,
    /// The server is draining or the plan is outdated.
    pub is_draining: bool,
}

impl ReuseFacts {
    /// Facts of which every one still forbids reuse; the exchange proves them one by one.
    #[must_use]
    pub fn unproven(side: ConnSide) -> Self {
        Self {
            side,
            peer_keeps_alive: false,
            we_keep_alive: false,
            request_end: MessageEnd::Unfinished,
            response_end: MessageEnd::Unfinished,
            is_tunnel: true,
            has_surplus: true,
            is_draining: true,
        }
    }
}

/// Whether a connection may carry another exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// It may.
    Yes,
    /// It must be closed.
    No(NoReuse),
}

/// Why a connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoReuse {
    /// It is a tunnel now.
    Tunnel,
    /// The request was not read or sent to its end: the next byte's meaning is unknown.
    RequestUnfinished,
    /// The response was not read or sent to its end.
    ResponseUnfinished,
    /// The response ends where the connection does.
    ResponseUntilClose,
    /// The peer said `close`, or is HTTP/1.0 without `keep-alive`.
    PeerCloses,
    /// We said `close`.
    WeClose,
    /// A server sent bytes that nobody asked for: they could answer somebody else's request.
    Surplus,
    /// The server is draining.
    Draining,
}

/// Decides whether a connection may be reused. The only place that does; its default is no.
///
/// RFC 9112 §9.3, §9.6.
#[must_use]
pub fn reusable(facts: &ReuseFacts) -> Reuse {
    let reason = match facts {
        ReuseFacts {
            is_tunnel: true, ..
        } => NoReuse::Tunnel,
        ReuseFacts {
            request_end: MessageEnd::Unfinished | MessageEnd::UntilClose,
            ..
        } => NoReuse::RequestUnfinished,
        ReuseFacts {
            response_end: MessageEnd::Unfinished,
            ..
        } => NoReuse::ResponseUnfinished,
        ReuseFacts {
            response_end: MessageEnd::UntilClose,
            ..
        } => NoReuse::ResponseUntilClose,
        ReuseFacts {
            peer_keeps_alive: false,
            ..
        } => NoReuse::PeerCloses,
        ReuseFacts {
            we_keep_alive: false,
            ..
        } => NoReuse::WeClose,
        ReuseFacts {
            side: ConnSide::Upstream,
            has_surplus: true,
            ..
        } => NoReuse::Surplus,
        ReuseFacts {
            is_draining: true, ..
        } => NoReuse::Draining,
        ReuseFacts {
            request_end: MessageEnd::Clean,
            response_end: MessageEnd::Clean,
            peer_keeps_alive: true,
            we_keep_alive: true,
            is_tunnel: false,
            is_draining: false,
            side: ConnSide::Downstream | ConnSide::Upstream,
            has_surplus: true | false,
        } => return Reuse::Yes,
    };
    Reuse::No(reason)
}

/// What the fields declare, before the status and the method are asked.
enum Declared {
    Nothing,
    Length(u64),
    Chunked,
}

/// Reads Content-Length and Transfer-Encoding; costs two bit tests when neither is there.
#[inline]
fn declared(version: Version, fields: &Fields<'_, '_>) -> Result<Declared, FramingError> {
    if fields.has(FieldName::TransferEncoding) {
        if version == Version::Http10 {
            return Err(FramingError::TransferEncodingOnHttp10);
        }
        if fields.has(FieldName::ContentLength) {
            return Err(FramingError::BothLengths);
        }
        return check_transfer_encoding(fields).map(|()| Declared::Chunked);
    }
    let Some(value) = fields.first(FieldName::ContentLength) else {
        return Ok(Declared::Nothing);
    };
    if fields.is_repeated(FieldName::ContentLength) {
        return Err(FramingError::ContentLengthRepeated);
    }
    token::decimal(value)
        .map(Declared::Length)
        .ok_or(FramingError::ContentLengthInvalid)
}

/// Takes `chunked` alone. Says "unsupported" only of a well-formed list that ends in it.
fn check_transfer_encoding(fields: &Fields<'_, '_>) -> Result<(), FramingError> {
    let codings = fields
        .all(FieldName::TransferEncoding)
        .flat_map(token::members);
    let mut last_is_chunked = false;
    let mut others: u32 = 0;
    for coding in codings {
        if last_is_chunked {
            return Err(FramingError::TransferEncodingInvalid);
        }
        if coding.eq_ignore_ascii_case(b"chunked") {
            last_is_chunked = true;
            continue;
        }
        let name = coding
            .split(|&byte| byte == b';')
            .next()
            .map(token::trim_ows);
        let is_legal = name
            .is_some_and(|name| token::is_token(name) && !name.eq_ignore_ascii_case(b"chunked"));
        if !is_legal {
            return Err(FramingError::TransferEncodingInvalid);
        }
        others = others.saturating_add(1);
    }
    match (last_is_chunked, others) {
        (true, 0) => Ok(()),
        (true, _) => Err(FramingError::TransferEncodingUnsupported),
        (false, _) => Err(FramingError::TransferEncodingInvalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_fields<T>(lines: &[&str], check: impl FnOnce(&Fields<'_, '_>) -> T) -> T {
        let headers: Vec<httparse::Header<'_>> = lines
            .iter()
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap();
                httparse::Header {
                    name,
                    value: token::trim_ows(value.as_bytes()),
                }
            })
            .collect();
        let mut kinds = [FieldName::Other; 16];
        check(&Fields::new(&headers, &mut kinds).unwrap())
    }

    fn check_request(lines: &[&str], expected: Result<BodyFraming, FramingError>) {
        let found = with_fields(lines, |fields| request_framing(Version::Http11, fields));
        assert_eq!(found, expected, "{lines:?}");
    }

    fn check_response(
        status: u16,
        context: RequestContext,
        lines: &[&str],
        expected: Result<(ResponseFraming, Option<u64>), FramingError>,
    ) {
        let found = with_fields(lines, |fields| {
            response_framing(Version::Http11, status, context, fields)
        })
        .map(|body| (body.framing, body.declared_length));
        assert_eq!(found, expected, "{status} {lines:?}");
    }

    #[test]
    fn a_request_without_lengths_has_no_body() {
        check_request(&[], Ok(BodyFraming::Empty));
        assert!(!BodyFraming::Empty.has_body() && !BodyFraming::Length(0).has_body());
        assert!(BodyFraming::Length(1).has_body() && BodyFraming::Chunked.has_body());
    }

    #[test]
    fn a_length_is_digits_once() {
        check_request(&["Content-Length: 3"], Ok(BodyFraming::Length(3)));
        check_request(&["content-length:0"], Ok(BodyFraming::Length(0)));
        for bad in [
            "",
            "+3",
            "-3",
            "3, 3",
            "3 3",
            "0x3",
            "3.0",
            "9223372036854775808",
            "\"3\"",
        ] {
            let line = format!("Content-Length: {bad}");
            check_request(&[&line], Err(FramingError::ContentLengthInvalid));
        }
    }

    #[test]
    fn repeated_lengths_are_refused_even_if_equal() {
        check_request(
            &["Content-Length: 3", "Content-Length: 3"],
            Err(FramingError::ContentLengthRepeated),
        );
    }

    #[test]
    fn both_lengths_are_refused() {
        check_request(
            &["Content-Length: 3", "Transfer-Encoding: chunked"],
            Err(FramingError::BothLengths),
        );
        check_request(
            &["Transfer-Encoding: identity", "Content-Length: 3"],
            Err(FramingError::BothLengths),
        );
    }

    #[test]
    fn chunked_stands_alone() {
        check_request(&["Transfer-Encoding: chunked"], Ok(BodyFraming::Chunked));
        check_request(&["transfer-encoding:\tCHUNKED"], Ok(BodyFraming::Chunked));
        for bad in [
            "",
            ",chunked",
            "chunked,",
            "chunked, chunked",
            "chunked, gzip",
            "gzip",
            "identity",
            "xchunked",
            "chunked;a=b",
            "chunked;",
            "\"chunked\"",
            "chunked\u{b}",
            "chu nked",
            "x y, chunked",
            "chunked;q=1, chunked",
        ] {
            let line = format!("Transfer-Encoding: {bad}");
            check_request(&[&line], Err(FramingError::TransferEncodingInvalid));
        }
        check_request(
            &["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
            Err(FramingError::TransferEncodingInvalid),
        );
    }

    #[test]
    fn other_codings_before_chunked_are_unsupported() {
        for other in [
            "gzip, chunked",
            "gzip;a=b,chunked",
            "identity, chunked",
            "a, b, chunked",
        ] {
            let line = format!("Transfer-Encoding: {other}");
            check_request(&[&line], Err(FramingError::TransferEncodingUnsupported));
        }
        check_request(
            &["Transfer-Encoding: gzip", "Transfer-Encoding: chunked"],
            Err(FramingError::TransferEncodingUnsupported),
        );
    }

    #[test]
    fn transfer_encoding_on_http10_is_refused() {
        let found = with_fields(&["Transfer-Encoding: chunked"], |fields| {
            request_framing(Version::Http10, fields)
        });
        assert_eq!(found, Err(FramingError::TransferEncodingOnHttp10));
    }

    #[test]
    fn a_response_without_lengths_ends_with_its_connection() {
        let plain = RequestContext::default();
        check_response(200, plain, &[], Ok((ResponseFraming::UntilClose, None)));
        check_response(
            200,
            plain,
            &["Content-Length: 3"],
            Ok((ResponseFraming::Length(3), Some(3))),
        );
        let chunked = ["Transfer-Encoding: chunked"];
        check_response(200, plain, &chunked, Ok((ResponseFraming::Chunked, None)));
        let gzip = ["Transfer-Encoding: gzip"];
        check_response(
            200,
            plain,
            &gzip,
            Err(FramingError::TransferEncodingInvalid),
        );
    }

    #[test]
    fn answers_without_body_keep_their_declared_length() {
        let plain = RequestContext::default();
        let head = RequestContext {
            method_is_head: true,
            ..plain
        };
        let length = ["Content-Length: 3"];
        for (status, context) in [(200, head), (304, plain), (204, plain), (103, plain)] {
            check_response(
                status,
                context,
                &length,
                Ok((ResponseFraming::Empty, Some(3))),
            );
            check_response(status, context, &[], Ok((ResponseFraming::Empty, None)));
        }
        let twice = ["Content-Length: 3", "Content-Length: 4"];
        check_response(304, plain, &twice, Err(FramingError::ContentLengthRepeated));
    }

    #[test]
    fn a_tunnel_ignores_lengths() {
        let connect = RequestContext {
            method_is_connect: true,
            ..RequestContext::default()
        };
        let both = ["Content-Length: 3", "Transfer-Encoding: chunked"];
        check_response(200, connect, &both, Ok((ResponseFraming::Empty, None)));
        check_response(403, connect, &both, Err(FramingError::BothLengths));
    }

    #[test]
    fn keep_alive_is_the_default_of_http11_only() {
        let of = |version, lines: &[&str]| {
            with_fields(lines, |fields| wants_keep_alive(version, fields))
        };
        assert!(of(Version::Http11, &[]));
        assert!(!of(Version::Http11, &["Connection: close"]));
        assert!(!of(Version::Http11, &["Connection: x, CLOSE"]));
        assert!(!of(Version::Http10, &[]));
        assert!(of(Version::Http10, &["Connection: Keep-Alive"]));
        assert!(!of(
            Version::Http10,
            &["Connection: keep-alive", "Connection: close"]
        ));
        assert!(!of(Version::Http10, &["Proxy-Connection: keep-alive"]));
    }

    /// Every fact in favour of an upstream connection.
    const PROVEN: ReuseFacts = ReuseFacts {
        side: ConnSide::Upstream,
        peer_keeps_alive: true,
        we_keep_alive: true,
        request_end: MessageEnd::Clean,
        response_end: MessageEnd::Clean,
        is_tunnel: false,
        has_surplus: false,
        is_draining: false,
    };

    fn check_no_reuse(change: impl FnOnce(&mut ReuseFacts), reason: NoReuse) {
        let mut facts = PROVEN;
        change(&mut facts);
        assert_eq!(reusable(&facts), Reuse::No(reason));
    }

    #[test]
    fn reuse_must_be_proven_fact_by_fact() {
        assert_eq!(reusable(&PROVEN), Reuse::Yes);
        assert_eq!(
            reusable(&ReuseFacts::unproven(ConnSide::Upstream)),
            Reuse::No(NoReuse::Tunnel)
        );
        check_no_reuse(|facts| facts.is_tunnel = true, NoReuse::Tunnel);
        let (unfinished, until_close) = (MessageEnd::Unfinished, MessageEnd::UntilClose);
        check_no_reuse(
            |facts| facts.request_end = unfinished,
            NoReuse::RequestUnfinished,
        );
        check_no_reuse(
            |facts| facts.response_end = unfinished,
            NoReuse::ResponseUnfinished,
        );
        check_no_reuse(
            |facts| facts.response_end = until_close,
            NoReuse::ResponseUntilClose,
        );
        check_no_reuse(|facts| facts.peer_keeps_alive = false, NoReuse::PeerCloses);
        check_no_reuse(|facts| facts.we_keep_alive = false, NoReuse::WeClose);
        check_no_reuse(|facts| facts.has_surplus = true, NoReuse::Surplus);
        check_no_reuse(|facts| facts.is_draining = true, NoReuse::Draining);
    }

    #[test]
    fn surplus_of_a_client_is_its_next_request() {
        let pipelined = ReuseFacts {
            side: ConnSide::Downstream,
            has_surplus: true,
            ..PROVEN
        };
        assert_eq!(reusable(&pipelined), Reuse::Yes);
    }
}
