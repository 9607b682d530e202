//! Copies of requests for a second upstream, whose answers are read and dropped.
//!
//! The exchange of the request itself hands over bytes and goes on: it waits for nothing here, learns nothing of it, and a copy is never
//! sent again. A copy is sent only when the request has come whole, so no part of one looks like a request.
//!
//! ```text
//! none             gathering ─send→ (a task of its own: connect, send, read the answer, all of it within a time)
//!                      └─too large, no place, cut off→ none
//! ```

use super::request::Request;
use super::routing::Mirroring;
use crate::config::plan::Mirror;
use crate::mirrors::Place;
use crate::shared::Generation;
use crate::upstream::{Aim, Lease};
use hp_core::http::body::BodySource;
use hp_core::http::message::{Filled, Part, Piece, Reader};
use hp_core::http::sink::{BodyCoding, BodySink};
use hp_core::rt::net::Conn;
use hp_core::wire::http1::framing::{
    BodyFraming, ConnSide, MessageEnd, RequestContext, ResponseFraming, Reuse, ReuseFacts, reusable,
};
use hp_core::wire::http1::head::{HeadLimits, HeadScan, HeaderScratch, Parse};
use hp_core::wire::http1::response::{ResponseFacts, parse_response};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// The copy of one request, as far as the request has come.
#[derive(Debug)]
pub(super) struct RequestCopy(Option<RefCell<Option<Box<Gathering>>>>);

#[derive(Debug)]
struct Gathering {
    worker: Rc<Generation>,
    place: Place,
    upstream: u32,
    aim: Aim,
    /// From the first byte sent to the last one of the answer.
    timeout: Duration,
    context: RequestContext,
    coding: BodyCoding,
    head: Vec<u8>,
    /// `body.len() <= body_bytes_max`
    body: Vec<u8>,
    body_bytes_max: usize,
    trailers: Vec<u8>,
}

impl RequestCopy {
    /// Of a request of which `head` is what its own upstream gets. Nothing where the request is not to be copied or of a kind that
    /// is not, has too much content, or finds as many copies under way as may be.
    #[inline]
    pub(super) fn of(worker: &Rc<Generation>, request: &Request, head: &[u8]) -> Self {
        match request.chosen.mirror {
            Mirroring::No => Self(None),
            Mirroring::Yes | Mirroring::ByKey(_) => Self::begin(worker, request, head),
        }
    }

    #[cold]
    fn begin(worker: &Rc<Generation>, request: &Request, head: &[u8]) -> Self {
        let gathering = Gathering::begin(worker, request, head);
        Self(gathering.map(|gathering| RefCell::new(Some(Box::new(gathering)))))
    }

    /// Whether what comes is to be kept.
    pub(super) fn is_wanted(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|gathering| gathering.borrow().is_some())
    }

    /// A piece of content has come.
    #[inline]
    pub(super) fn add(&self, piece: &[u8]) {
        if let Self(Some(gathering)) = self {
            add(gathering, piece);
        }
    }

    /// The request has come whole, with these trailers: whole lines, or nothing.
    #[inline]
    pub(super) fn send(&self, trailers: &[u8]) {
        if let Self(Some(gathering)) = self {
            send(gathering, trailers);
        }
    }
}

#[cold]
fn send(gathering: &RefCell<Option<Box<Gathering>>>, trailers: &[u8]) {
    if let Some(mut copy) = gathering.take() {
        trailers.clone_into(&mut copy.trailers);
        copy.worker.row().mirrors.add(1);
        let rt = copy.worker.rt().clone();
        rt.spawn(exchange(*copy));
    }
}

#[cold]
fn add(gathering: &RefCell<Option<Box<Gathering>>>, piece: &[u8]) {
    let mut held = gathering.borrow_mut();
    let Some(copy) = held.as_mut() else {
        return;
    };
    if copy.body.len() + piece.len() <= copy.body_bytes_max {
        copy.body.extend_from_slice(piece);
    } else {
        copy.worker.row().mirrors_too_large.add(1);
        *held = None;
    }
}

impl Gathering {
    fn begin(worker: &Rc<Generation>, request: &Request, head: &[u8]) -> Option<Self> {
        let facts = &request.facts;
        let route = worker.plan().routes.get(request.chosen.route.0 as usize);
        let mirror: &Mirror = route.and_then(|route| route.mirror.as_ref())?;
        // Both ends of a copy would have to agree to more than an answer; and nobody here says 100 for a mirror.
        if facts.upgrade || facts.is_connect || facts.expect_continue || worker.tells_all() {
            return None;
        }
        let is_too_large = match facts.framing {
            BodyFraming::Length(length) => length > u64::from(mirror.body_bytes_max),
            BodyFraming::Empty | BodyFraming::Chunked => false,
        };
        if is_too_large {
            worker.row().mirrors_too_large.add(1);
            return None;
        }
        let Some(place) = worker.mirrors().enter(worker.plan().limits.mirrors_max) else {
            worker.row().mirrors_left_out.add(1);
            return None;
        };
        let key = match request.chosen.mirror {
            Mirroring::No | Mirroring::Yes => None,
            Mirroring::ByKey(key) => Some(key),
        };
        Some(Self {
            worker: Rc::clone(worker),
            place,
            upstream: mirror.upstream,
            aim: Aim {
                key,
                ..Aim::default()
            },
            timeout: request.chosen.response_timeout,
            context: RequestContext {
                method_is_head: facts.is_head,
                method_is_connect: false,
                upgrade_requested: false,
            },
            coding: BodyCoding::of(facts.framing),
            head: marked(head),
            body: Vec::new(),
            body_bytes_max: mirror.body_bytes_max as usize,
            trailers: Vec::new(),
        })
    }
}

/// A head with the field that tells a copy from its original.
fn marked(head: &[u8]) -> Vec<u8> {
    let fields = head.strip_suffix(b"\r\n").unwrap_or(head);
    [fields, MARK, b"\r\n"].concat()
}

/// Leads a copy to its end.
async fn exchange(copy: Gathering) {
    let worker = Rc::clone(&copy.worker);
    if try_exchange(copy).await.is_none() {
        worker.row().mirror_failures.add(1);
    }
}

/// `None` when there is no whole answer.
async fn try_exchange(copy: Gathering) -> Option<()> {
    let Gathering {
        worker,
        place: _kept_to_the_end,
        upstream,
        aim,
        timeout,
        context,
        coding,
        mut head,
        body,
        trailers,
        ..
    } = copy;
    let upstream = Rc::clone(worker.upstream(upstream)?);
    let mut lease = upstream.acquire(aim).await.ok()?;
    if coding == BodyCoding::Chunked && lease.speaks_http10() {
        return None;
    }
    let conn = lease.conn();
    // Bounds all waits: for an answer that does not begin, and for one that does not end.
    conn.set_deadline(Some(worker.rt().now() + timeout));
    let head_bytes = head.len() as u64;
    let mut sink = BodySink::new(conn, &mut head, coding);
    let sent = sink
        .put(Part::Content(Piece::Copied(body)), 0)
        .and_then(|()| sink.end(&trailers));
    let behind_head = sink.written().saturating_sub(head_bytes);
    let mut reader = Reader::new();
    let limits = &worker.plan().limits.head;
    let answered = match sent {
        Ok(()) => answer((&mut lease, behind_head), &mut reader, limits, context).await,
        Err(_closed) => None,
    };
    let Some(facts) = answered else {
        lease.reset(); // What the mirror got may not be whole.
        return None;
    };
    let is_sent = lease.conn().unsent() == 0;
    let reuse = reusable(&ReuseFacts {
        side: ConnSide::Upstream,
        peer_keeps_alive: facts.keep_alive,
        we_keep_alive: true,
        request_end: if is_sent {
            MessageEnd::Clean
        } else {
            MessageEnd::Unfinished
        },
        response_end: match facts.framing {
            ResponseFraming::UntilClose => MessageEnd::UntilClose,
            _ => MessageEnd::Clean,
        },
        is_tunnel: false,
        has_surplus: !reader.is_empty() || lease.conn().has_news(),
        is_draining: worker.tells_all(),
    });
    match reuse {
        Reuse::Yes => worker.keep(lease),
        Reuse::No(_why) => drop(lease),
    }
    Some(())
}

/// Reads a whole answer and drops it; `None` when there is none, or it is longer than anybody reads. So much was written behind the head.
async fn answer(
    (lease, behind_head): (&mut Lease, u64),
    reader: &mut Reader,
    limits: &HeadLimits,
    context: RequestContext,
) -> Option<ResponseFacts> {
    begin(lease.conn(), reader, behind_head).await?;
    let facts = final_head(lease.conn(), reader, limits, context).await?;
    lease.note_head();
    lease.note_version(facts.version);
    let conn = lease.conn();
    let mut left = ANSWER_BYTES_MAX;
    let mut source = BodySource::from(facts.framing);
    loop {
        while let Some(piece) = source.take_received(reader).ok()? {
            left = left.checked_sub(piece.len())?;
        }
        if source.is_ended() {
            return Some(facts);
        }
        source.receive(reader, conn).await.ok()?;
    }
}

/// Waits for the beginning of an answer; `None` when it cannot be one, for the head of the request has not left. RFC 9112 §9.2.
async fn begin(conn: &Conn, reader: &mut Reader, behind_head: u64) -> Option<()> {
    let filled = reader.fill(conn).await;
    let is_asked = conn.unsent() as u64 <= behind_head;
    (is_asked && matches!(filled, Ok(Filled::More))).then_some(())
}

/// Reads heads up to that of the final answer.
async fn final_head(
    conn: &Conn,
    reader: &mut Reader,
    limits: &HeadLimits,
    context: RequestContext,
) -> Option<ResponseFacts> {
    let mut interims = 0;
    let mut scan: Option<HeadScan> = None;
    loop {
        let may_be_whole = match &mut scan {
            None => !reader.is_empty(),
            Some(scan) => scan.complete(reader.bytes()),
        };
        if may_be_whole {
            match take_head(reader, limits, context)? {
                Some(facts) if facts.is_interim && interims < INTERIM_MAX => {
                    interims += 1;
                    scan = None;
                    continue;
                }
                Some(facts) => return (!facts.is_interim && !facts.is_tunnel).then_some(facts),
                None => {
                    let mut searched = HeadScan::new(limits);
                    searched.complete(reader.bytes());
                    scan = Some(searched);
                }
            }
        }
        match reader.fill(conn).await {
            Ok(Filled::More) => (),
            Ok(Filled::Eof) | Err(_) => return None,
        }
    }
}

/// Takes a head that is there whole; `None` when what is there can be none.
#[expect(
    clippy::option_option,
    reason = "no head yet, and none to be, are two things"
)]
fn take_head(
    reader: &mut Reader,
    limits: &HeadLimits,
    context: RequestContext,
) -> Option<Option<ResponseFacts>> {
    let mut scratch = HeaderScratch::new();
    let parsed = parse_response(reader.bytes(), limits, &mut scratch, context).ok()?;
    let Parse::Complete(head) = parsed else {
        return Some(None);
    };
    let (facts, consumed) = (head.facts, head.head_bytes);
    reader.consume(consumed);
    Some(Some(facts))
}

/// Tells a mirror that somebody else answers.
const MARK: &[u8] = b"X-Mirror: true\r\n";
/// Of an answer that nobody wants; a longer one ends with its connection.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Interim answers to one copy.
const INTERIM_MAX: u32 = 64;
