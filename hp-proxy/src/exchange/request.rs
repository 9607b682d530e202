//! The request as the backend will see it: written anew, never copied through.

use super::Client;
use super::answer::{self, Answer, Own};
use super::error::Failure;
use super::response::announce_trailers;
use super::routing::{self, Chosen};
use crate::config::forwarding::{Forwarding, Http10, Underscores};
use crate::route::fields::FieldChanges;
use crate::route::template::Values;
use crate::shared::Generation;
use hp_core::rt::net::Conn;
use hp_core::wire::forwarding::{self, Hop, OriginLines};
use hp_core::wire::header::FieldName;
use hp_core::wire::http1::encode::{self, Lines};
use hp_core::wire::http1::error::RequestError;
use hp_core::wire::http1::framing::BodyFraming;
use hp_core::wire::http1::head::{HeaderScratch, Parse, Version};
use hp_core::wire::http1::method::Method;
use hp_core::wire::http1::request::{RequestFacts, RequestHead, parse_next_request};
use hp_core::wire::http1::target::Target;
use hp_core::wire::uri::Scheme;
use std::io::Write;
use std::net::SocketAddr;

/// What an exchange must remember of its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) facts: RequestFacts,
    /// Where it goes; the first of each where nobody looked.
    pub(super) chosen: Chosen,
    /// What it is answered with here, although it was understood.
    pub(super) own: Option<Own>,
}

/// What was made of the bytes so far.
#[derive(Clone, Copy, Debug)]
pub(super) enum Prepared {
    /// A request, where the caller wanted it.
    Whole,
    Partial,
}

/// Reads a head from what the client has sent and writes the backend's into `out`, or what TRACE is answered with; consumes
/// it when it is whole. The request goes into `place`, from where it need not be moved.
///
/// # Errors
/// [`RequestError`]: the answer, after which nothing that the client sends has a known meaning.
pub(super) fn prepare(
    worker: &Generation,
    client: &mut Client,
    place: &mut Option<Request>,
    out: &mut Vec<u8>,
) -> Result<Prepared, RequestError> {
    let mut scratch = HeaderScratch::new();
    let plan = worker.plan();
    let parsed = parse_next_request(
        client.reader.bytes(),
        &plan.limits.head,
        &mut scratch,
        &mut client.host,
    )?;
    let Parse::Complete(head) = parsed else {
        return Ok(Prepared::Partial);
    };
    let mut facts = head.facts;
    let peer = client.peer;
    let known = worker.listener(client.listener);
    facts.keep_alive &= known.is_none_or(|known| known.is_open);
    let listener = known.map(|known| &known.listener);
    let sender = Sender {
        forwarding: &plan.forwarding,
        peer,
        origin: &client.origin,
        is_trusted: listener.is_some_and(|listener| listener.trusts(peer)),
    };
    let request = place.insert(Request {
        facts,
        chosen: Chosen::of_first(worker),
        own: None,
    });
    request.own = match sender.own_answer(&head, plan.limits.body_bytes_max) {
        None => routing::choose(
            worker,
            (client, listener),
            (&head, &sender),
            &mut request.chosen,
            out,
        ),
        Some(Own::Trace) => {
            answer::encode_reflection(&head, out);
            Some(Own::Trace)
        }
        own => own,
    };
    let consumed = head.head_bytes;
    client.reader.consume(consumed);
    Ok(Prepared::Whole)
}

/// Who sent a request, and what is made of it.
pub(super) struct Sender<'a> {
    forwarding: &'a Forwarding,
    pub(super) peer: Option<SocketAddr>,
    /// What is said of it where nobody before it is believed.
    origin: &'a OriginLines,
    /// Whether what it says of others is believed.
    pub(super) is_trusted: bool,
}

impl Sender<'_> {
    /// What the request is answered with here; `None` for nearly all.
    #[inline]
    fn own_answer(&self, head: &RequestHead<'_, '_>, body_bytes_max: u64) -> Option<Own> {
        let Self { forwarding, .. } = self;
        let facts = &head.facts;
        let is_too_large = match facts.framing {
            BodyFraming::Length(length) => body_bytes_max > 0 && length > body_bytes_max,
            BodyFraming::Empty | BodyFraming::Chunked => false,
        };
        let refusal = if facts.version == Version::Http10 && forwarding.http10 == Http10::Refuse {
            Answer::HTTP10_REFUSED
        } else if facts.is_connect {
            Answer::TUNNEL_REFUSED
        } else if self.scheme(head) == Scheme::Https && !self.is_trusted {
            Answer::MISDIRECTED
        } else if forwarding.via.has_passed(&head.fields) {
            Answer::LOOP
        } else if forwarding.underscores == Underscores::Refuse && has_underscore(head) {
            Answer::UNDERSCORE
        } else if is_too_large {
            return Failure::BodyTooLarge.answer().map(Own::Refusal);
        } else if facts.hops_left == Some(0) {
            return Some(match head.method {
                Method::Trace => Own::Trace,
                _ => Own::Options,
            });
        } else {
            return None;
        };
        Some(Own::Refusal(refusal))
    }

    /// Writes the head as it came.
    pub(super) fn encode_head(&self, head: &RequestHead<'_, '_>, client: &Conn, out: &mut Vec<u8>) {
        let lines = match head.written_line_and_host() {
            Some(len) => Lines::beginning(head.received, len),
            None => {
                encode::request_line(out, head.method, head.target.path_and_query());
                encode_host(head, client, out);
                Lines::beginning(head.received, 0)
            }
        };
        self.encode_fields(head, |_name| false, lines, out);
        self.encode_rest(head, out);
        encode::end_of_head(out);
    }

    /// Writes the head with what its route changes: `path_and_query` is what it goes for, and begins with a slash.
    pub(super) fn encode_changed_head(
        &self,
        (head, client): (&RequestHead<'_, '_>, &Conn),
        path_and_query: &[u8],
        (changes, values): (&FieldChanges, &Values<'_>),
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(head.method.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(path_and_query);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        match &changes.host {
            None => encode_host(head, client, out),
            Some(host) => {
                out.extend_from_slice(b"Host: ");
                host.expand(values, out);
                out.extend_from_slice(b"\r\n");
            }
        }
        let lines = Lines::beginning(head.received, 0);
        self.encode_fields(head, |name| changes.removes(name), lines, out);
        encode_added(changes, values, out);
        self.encode_rest(head, out);
        encode::end_of_head(out);
    }

    /// Writes the fields that travel on behind the lines that do, but for those that the route removes.
    #[inline]
    fn encode_fields(
        &self,
        head: &RequestHead<'_, '_>,
        is_removed: impl Fn(&str) -> bool,
        mut lines: Lines<'_>,
        out: &mut Vec<u8>,
    ) {
        let is_trace = head.method == Method::Trace;
        for (kind, name, value) in head.fields.end_to_end() {
            let is_passed = match kind {
                FieldName::Other => {
                    self.passes(name) && !(is_trace && forwarding::is_credential(name))
                }
                FieldName::MaxForwards => head.facts.hops_left.is_none(),
                kind => !is_replaced(kind),
            };
            if is_passed && !is_removed(name) {
                lines.pass(name, value, out);
            }
        }
        lines.write(out);
    }

    /// Writes what the proxy says itself: framing, what is asked of the next hop, and who asks.
    #[inline]
    fn encode_rest(&self, head: &RequestHead<'_, '_>, out: &mut Vec<u8>) {
        match head.facts.framing {
            BodyFraming::Empty => (),
            BodyFraming::Length(length) => encode::content_length(out, length),
            BodyFraming::Chunked => {
                encode::transfer_encoding_chunked(out);
                announce_trailers(&head.fields, out);
            }
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
        if let Some(hops) = head.facts.hops_left {
            let left = u64::from(hops.saturating_sub(1)); // At 0 it was answered here.
            let mut space = [0; encode::DECIMAL_BYTES_MAX];
            encode::field(out, "Max-Forwards", encode::decimal(left, &mut space));
        }
        self.encode_origin(head, out);
    }

    /// Says who asks and by what way. What a client that is not trusted said of that was dropped.
    #[inline]
    fn encode_origin(&self, head: &RequestHead<'_, '_>, out: &mut Vec<u8>) {
        let Self {
            forwarding,
            peer,
            origin,
            is_trusted,
        } = *self;
        for value in head.fields.all(FieldName::Via) {
            encode::field(out, "Via", value);
        }
        out.extend_from_slice(forwarding.via.line(head.version));
        let hop = Hop {
            peer,
            scheme: self.scheme(head),
            authority: head.authority,
        };
        if is_trusted {
            hop.encode_after(&head.fields, out);
        } else {
            hop.encode_as_first_by(origin, out);
        }
        let is_continued = is_trusted && head.fields.has(FieldName::Forwarded);
        if is_continued || forwarding.writes_forwarded {
            let before = head
                .fields
                .all(FieldName::Forwarded)
                .filter(|_value| is_continued);
            hop.encode_forwarded(before, out);
        }
    }

    /// How the client spoke to us, or, if it is a trusted gateway, what it spoke for.
    #[inline]
    fn scheme(&self, head: &RequestHead<'_, '_>) -> Scheme {
        match head.target {
            Target::Absolute { scheme, .. } => scheme,
            Target::Origin(_) | Target::Authority(_) | Target::Asterisk => Scheme::Http,
        }
    }

    /// Whether a field that we do not act upon goes to the backend.
    #[inline]
    fn passes(&self, name: &str) -> bool {
        let is_dropped = self.forwarding.underscores == Underscores::Drop && name.contains('_');
        !is_dropped && (self.is_trusted || !forwarding::is_claim_of_origin(name))
    }
}

/// The target's authority decides (RFC 9112 §3.2.2); a client of HTTP/1.0 that names none means whom it spoke to.
#[inline]
fn encode_host(head: &RequestHead<'_, '_>, client: &Conn, out: &mut Vec<u8>) {
    match head.authority {
        Some(authority) => encode::field(out, "Host", authority.as_bytes()),
        None => encode_own_address(client, out),
    }
}

/// Appends the fields that a route adds.
pub(super) fn encode_added(changes: &FieldChanges, values: &Values<'_>, out: &mut Vec<u8>) {
    for (name, value) in &changes.added {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        value.expand(values, out);
        out.extend_from_slice(b"\r\n");
    }
}

#[cold]
fn has_underscore(head: &RequestHead<'_, '_>) -> bool {
    head.fields.iter().any(|(_, name, _)| name.contains('_'))
}

/// Fields that the proxy writes itself, whatever the client sent.
#[inline]
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

fn encode_own_address(client: &Conn, out: &mut Vec<u8>) {
    let Ok(addr) = client.local_addr() else {
        return encode::field(out, "Host", b""); // RFC 9112 §3.2: empty where there is no authority.
    };
    out.extend_from_slice(b"Host: ");
    match write!(out, "{addr}") {
        Ok(()) => (),
        Err(_never) => unreachable!("a Vec takes everything"),
    }
    out.extend_from_slice(b"\r\n");
}
