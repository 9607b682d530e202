//! The request as the backend will see it: written anew, never copied through.

use super::Client;
use super::answer::Answer;
use crate::shared::Worker;
use hp_core::wire::header::FieldName;
use hp_core::wire::http1::encode;
use hp_core::wire::http1::error::RequestError;
use hp_core::wire::http1::framing::BodyFraming;
use hp_core::wire::http1::head::{HeaderScratch, Parse, Version};
use hp_core::wire::http1::request::{RequestFacts, RequestHead, parse_request};
use std::io::Write;
use std::net::IpAddr;

/// What an exchange must remember of its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) facts: RequestFacts,
    /// Why it is refused although it was understood.
    pub(super) refusal: Option<Answer>,
}

/// What was made of the bytes so far.
#[derive(Clone, Copy, Debug)]
pub(super) enum Prepared {
    Whole(Request),
    Partial,
}

/// Reads a head from what the client has sent and writes the backend's into `out`; consumes it when it is whole.
///
/// # Errors
/// [`RequestError`]: the answer, after which nothing that the client sends has a known meaning.
pub(super) fn prepare(
    worker: &Worker,
    client: &mut Client,
    out: &mut Vec<u8>,
) -> Result<Prepared, RequestError> {
    let mut scratch = HeaderScratch::new();
    let limits = &worker.plan().limits;
    let parsed = parse_request(client.reader.bytes(), &limits.head, &mut scratch)?;
    let Parse::Complete(head) = parsed else {
        return Ok(Prepared::Partial);
    };
    let facts = head.facts;
    let is_too_large = match facts.framing {
        BodyFraming::Length(length) => limits.body_bytes_max > 0 && length > limits.body_bytes_max,
        BodyFraming::Empty | BodyFraming::Chunked => false,
    };
    let refusal = if facts.is_connect {
        Some(Answer::TUNNEL_REFUSED)
    } else if is_too_large {
        super::error::Failure::BodyTooLarge.answer()
    } else {
        None
    };
    if refusal.is_none() {
        encode_head(&head, client, out);
    }
    let consumed = head.head_bytes;
    client.reader.consume(consumed);
    Ok(Prepared::Whole(Request { facts, refusal }))
}

fn encode_head(head: &RequestHead<'_, '_>, client: &Client, out: &mut Vec<u8>) {
    encode::request_line(out, head.method, head.target.path_and_query());
    // The target's authority decides (RFC 9112 §3.2.2); a client of HTTP/1.0 that names none means whom it spoke to.
    match head.authority {
        Some(authority) => encode::field(out, "Host", authority.as_bytes()),
        None => encode_own_address(client, out),
    }
    for (kind, name, value) in head.fields.end_to_end() {
        if !is_replaced(kind) {
            encode::field(out, name, value);
        }
    }
    match head.facts.framing {
        BodyFraming::Empty => (),
        BodyFraming::Length(length) => encode::content_length(out, length),
        BodyFraming::Chunked => encode::transfer_encoding_chunked(out),
    }
    if head.facts.expect_continue {
        encode::field(out, "Expect", b"100-continue");
    }
    if head.facts.accepts_trailers {
        out.extend_from_slice(b"TE: trailers\r\nConnection: TE\r\n");
    }
    if head.facts.upgrade {
        for protocols in head.fields.all(FieldName::Upgrade) {
            encode::field(out, "Upgrade", protocols);
        }
        encode::field(out, "Connection", b"upgrade");
    }
    encode_origin(head, client, out);
    encode::end_of_head(out);
}

/// Says who asks and by what way. What the client itself said of that is not trusted and was dropped.
fn encode_origin(head: &RequestHead<'_, '_>, client: &Client, out: &mut Vec<u8>) {
    for value in head.fields.all(FieldName::Via) {
        encode::field(out, "Via", value);
    }
    out.extend_from_slice(via(head.version));
    if let Some(peer) = client.conn.peer_addr() {
        out.extend_from_slice(b"X-Forwarded-For: ");
        append_ip(out, peer.ip());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"X-Forwarded-Proto: http\r\n");
    if let Some(authority) = head.authority {
        encode::field(out, "X-Forwarded-Host", authority.as_bytes());
    }
}

/// Fields that the proxy writes itself, whatever the client sent.
fn is_replaced(kind: FieldName) -> bool {
    matches!(
        kind,
        FieldName::Host
            | FieldName::Expect
            | FieldName::Via
            | FieldName::Forwarded
            | FieldName::XForwardedFor
            | FieldName::XForwardedHost
            | FieldName::XForwardedProto
    )
}

/// Our line of Via, for a message that came in this version. RFC 9110 §7.6.3.
pub(super) fn via(received: Version) -> &'static [u8] {
    match received {
        Version::Http10 => b"Via: 1.0 hp-proxy\r\n",
        Version::Http11 => b"Via: 1.1 hp-proxy\r\n",
    }
}

fn encode_own_address(client: &Client, out: &mut Vec<u8>) {
    let Ok(addr) = client.conn.local_addr() else {
        return encode::field(out, "Host", b""); // RFC 9112 §3.2: empty where there is no authority.
    };
    out.extend_from_slice(b"Host: ");
    match write!(out, "{addr}") {
        Ok(()) => (),
        Err(_never) => unreachable!("a Vec takes everything"),
    }
    out.extend_from_slice(b"\r\n");
}

fn append_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(v4) => {
            let mut space = [0; encode::DECIMAL_BYTES_MAX];
            for (position, octet) in v4.octets().into_iter().enumerate() {
                if position > 0 {
                    out.push(b'.');
                }
                out.extend_from_slice(encode::decimal(u64::from(octet), &mut space));
            }
        }
        IpAddr::V6(v6) => match write!(out, "{v6}") {
            Ok(()) => (),
            Err(_never) => unreachable!("a Vec takes everything"),
        },
    }
}
