//! The answer as the client will see it: written anew in the version and framing that it understands.

use super::request::encode_added;
use super::routing::Chosen;
use crate::route::template::Values;
use crate::shared::Generation;
use hp_core::http::sink::BodyCoding;
use hp_core::rt::net::ConnName;
use hp_core::wire::header::{FieldName, Fields};
use hp_core::wire::http1::encode::{self, Lines};
use hp_core::wire::http1::framing::ResponseFraming;
use hp_core::wire::http1::head::Version;
use hp_core::wire::http1::request::RequestFacts;
use hp_core::wire::http1::response::ResponseHead;

/// How the answer's content goes to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) coding: BodyCoding,
    /// Only closing the connection ends it: HTTP/1.0 knows no chunks.
    pub(super) ends_by_close: bool,
}

impl Delivery {
    /// Decides how a client of this version gets content that the backend frames like this.
    pub(super) fn of(client: Version, framing: ResponseFraming) -> Self {
        match (framing, client) {
            (ResponseFraming::Empty | ResponseFraming::Length(_), _) => Self {
                coding: BodyCoding::Plain,
                ends_by_close: false,
            },
            (ResponseFraming::Chunked | ResponseFraming::UntilClose, Version::Http11) => Self {
                coding: BodyCoding::Chunked,
                ends_by_close: false,
            },
            (ResponseFraming::Chunked | ResponseFraming::UntilClose, Version::Http10) => Self {
                coding: BodyCoding::Plain,
                ends_by_close: true,
            },
        }
    }
}

/// Where an answer comes from.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) worker: &'a Generation,
    pub(super) client: ConnName,
    pub(super) chosen: Chosen,
    /// The endpoint's slot in its upstream.
    pub(super) endpoint: usize,
}

impl Origin<'_> {
    /// Appends the status line and the fields of the answer, with what its route changes, and the cookie that its upstream gives.
    #[inline]
    fn encode_lines(&self, head: &ResponseHead<'_, '_>, out: &mut Vec<u8>) {
        if self.chosen.changes_answer {
            self.encode_changed(head, out);
        } else {
            encode_lines(self.worker, head, out);
        }
    }

    #[cold]
    fn encode_changed(&self, head: &ResponseHead<'_, '_>, out: &mut Vec<u8>) {
        let plan = self.worker.plan();
        let Some(route) = plan.routes.get(self.chosen.route.0 as usize) else {
            return encode_lines(self.worker, head, out); // Never: it was chosen.
        };
        encode_passed(head, |name| route.response.removes(name), out);
        let upstream = plan.upstreams.get(self.chosen.upstream as usize);
        let client = self.worker.rt().peer_addr_of(self.client);
        let client = client.map(|peer| peer.ip().to_canonical());
        let mut add = |endpoint: &str| {
            let values = Values {
                client,
                endpoint,
                route: &route.name,
                upstream: upstream.map_or("", |upstream| &upstream.name),
                ..Values::default()
            };
            encode_added(&route.response, &values, out);
        };
        let conns = self.worker.upstream(self.chosen.upstream);
        match conns {
            Some(conns) => conns.with_name_of(self.endpoint, add),
            None => add(""), // Never: the answer came from it.
        }
        if let Some(cookies) = self.worker.shared_plan().cookies(self.chosen.upstream)
            && let Some(conns) = conns
            && let Some(endpoint) = conns.endpoint_hash(self.endpoint)
            && self.chosen.aim.bound_to != Some(endpoint)
        {
            // From now on this one is the client's.
            match cookies.line(endpoint) {
                // It came with a plan that followed meanwhile.
                [] => conns.with_identity_of(self.endpoint, |endpoint| {
                    out.extend_from_slice(&cookies.line_for(endpoint));
                }),
                line => out.extend_from_slice(line),
            }
        }
        out.extend_from_slice(plan.forwarding.via.line(head.version));
    }
}

/// Appends the head of a final answer.
pub(super) fn encode_final(
    origin: Origin<'_>,
    head: &ResponseHead<'_, '_>,
    request: &RequestFacts,
    (delivery, keep): (Delivery, bool),
    out: &mut Vec<u8>,
) {
    origin.encode_lines(head, out);
    if !head.fields.has(FieldName::Date) {
        out.extend_from_slice(&origin.worker.date_line()); // RFC 9110 §6.6.1: when it was received.
    }
    if head.status == 426 && head.fields.has(FieldName::Upgrade) {
        encode_upgrade(head, out); // It must say what is required. RFC 9110 §15.5.22.
    }
    match (length_to_declare(head), delivery.coding) {
        (Some(length), BodyCoding::Plain) => encode::content_length(out, length),
        (_, BodyCoding::Chunked) => encode::transfer_encoding_chunked(out),
        (None, BodyCoding::Plain) => (),
    }
    if (head.facts.framing, delivery.coding) == (ResponseFraming::Chunked, BodyCoding::Chunked) {
        announce_trailers(&head.fields, out);
    }
    match (keep, request.version) {
        (false, _) => encode::field(out, "Connection", b"close"),
        (true, Version::Http10) => encode::field(out, "Connection", b"keep-alive"),
        (true, Version::Http11) => (),
    }
    encode::end_of_head(out);
}

/// Appends the head of an interim answer, 100 or 103 for instance.
pub(super) fn encode_interim(worker: &Generation, head: &ResponseHead<'_, '_>, out: &mut Vec<u8>) {
    encode_lines(worker, head, out);
    encode::end_of_head(out);
}

/// Appends the head after which the connection is a tunnel.
pub(super) fn encode_switch(origin: Origin<'_>, head: &ResponseHead<'_, '_>, out: &mut Vec<u8>) {
    origin.encode_lines(head, out);
    encode_upgrade(head, out);
    encode::end_of_head(out);
}

fn encode_upgrade(head: &ResponseHead<'_, '_>, out: &mut Vec<u8>) {
    for protocols in head.fields.all(FieldName::Upgrade) {
        encode::field(out, "Upgrade", protocols);
    }
    encode::field(out, "Connection", b"upgrade");
}

#[inline]
fn encode_lines(worker: &Generation, head: &ResponseHead<'_, '_>, out: &mut Vec<u8>) {
    encode_passed(head, |_name| false, out);
    out.extend_from_slice(worker.plan().forwarding.via.line(head.version));
}

/// Appends the status line, and the fields that travel on.
#[inline]
fn encode_passed(
    head: &ResponseHead<'_, '_>,
    is_removed: impl Fn(&str) -> bool,
    out: &mut Vec<u8>,
) {
    let mut lines = match head.written_line() {
        Some(len) => Lines::beginning(head.received, len),
        None => {
            encode::status_line(out, head.status, head.reason);
            Lines::beginning(head.received, 0)
        }
    };
    for (_, name, value) in head.fields.end_to_end() {
        if !is_removed(name) {
            lines.pass(name, value, out);
        }
    }
    lines.write(out);
}

/// Says which trailers may follow the chunks, as the sender said it. RFC 9110 §6.6.2.
#[inline]
pub(super) fn announce_trailers(fields: &Fields<'_, '_>, out: &mut Vec<u8>) {
    if fields.has(FieldName::Trailer) {
        for names in fields.all(FieldName::Trailer) {
            encode::field(out, "Trailer", names);
        }
    }
}

/// The length to declare: the content's, or that of content which HEAD or 304 leave out. 204 has none (RFC 9110 §8.6).
#[inline]
fn length_to_declare(head: &ResponseHead<'_, '_>) -> Option<u64> {
    match head.facts.framing {
        ResponseFraming::Length(length) => Some(length),
        ResponseFraming::Empty if head.status == 204 => None,
        ResponseFraming::Empty => head.facts.declared_length,
        ResponseFraming::Chunked | ResponseFraming::UntilClose => None,
    }
}
