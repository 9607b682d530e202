//! Exchanges that share connections to a backend: requests leave one behind the other, and their answers come in the same order
//! (RFC 9112 §9.3.2). Only for requests that may be sent twice, for one that others wait behind may have to be.
//!
//! ```text
//! clients' tasks ─ requests ─► lane (its connection) ─ answers ─► lane's task ─► the clients' connections
//!                                                                     └─ what is not whole and small ─► the client's task
//! ```
//!
//! Whoever has written its request waits for one of these:
//!
//! ```text
//! Waits ─► Answered   the lane's task has written the answer to the client
//!   ├────► Lent       the answer is long, or comes in parts: the connection is the exchange's until it is over
//!   ├────► Again      nothing of an answer came: it is sent on a connection of its own
//!   └────► Failed     it will not be answered
//! ```

mod lane;
mod split;
mod waiting;

pub(crate) use waiting::Lanes;

use super::answering::{Answering, Delivered};
use super::error::Failure;
use super::forward::{End, after, count, upstream_of};
use super::progress::Progress;
use super::request::Request;
use super::{After, Client};
use crate::shared::Generation;
use crate::upstream::Lease;
use hp_core::http::message::Reader;
use hp_core::rt::lifecycle::{Table, enter};
use hp_core::rt::race::{First, race};
use hp_core::wire::http1::framing::{
    ConnSide, MessageEnd, ResponseFraming, Reuse, ReuseFacts, reusable,
};
use hp_core::wire::http1::head::Version;
use hp_core::wire::http1::response::ResponseFacts;
use lane::Lane;
use std::rc::Rc;
use waiting::{Loan, Outcome};

/// Answers a request over a connection that others share; `None` when it must have one of its own: there is no lane for it, or the
/// one that it was on ended before it was answered.
pub(super) async fn exchange(
    worker: &Rc<Generation>,
    client: &Client,
    request: &Request,
    (head, out): (&[u8], &mut Vec<u8>),
) -> Option<Result<After, Failure>> {
    if !may_share(request) {
        spare(worker, client, request);
        return None;
    }
    let upstream = upstream_of(worker, request).ok()?;
    let ticket = client
        .lanes
        .enter(worker, (upstream, request), client, head)?;
    client.conn.set_deadline(None);
    enter(Table::Exchange, "Choosing", "what is awaited");
    enter(Table::Exchange, "Awaiting", "what is awaited");
    let outcome = match race(ticket.outcome(), client.conn.failure()).await {
        First::One(outcome) => outcome,
        First::Other(_reset) => {
            enter(Table::Exchange, "Awaiting", "client leaves");
            return Some(Err(Failure::ClientGone));
        }
    };
    drop(ticket);
    match outcome {
        Outcome::Answered { keep } => {
            enter(Table::Exchange, "Done", "what is awaited");
            Some(Ok(after(
                (client, request),
                keep,
                MessageEnd::Clean,
                Delivered::Whole,
            )))
        }
        // Boxed, so that other exchanges do not carry the room for it.
        Outcome::Lent(loan) => Box::pin(deliver(worker, client, request, (*loan, out))).await,
        Outcome::Again => {
            enter(Table::Exchange, "Awaiting", "backend leaves or fails");
            None
        }
        Outcome::Failed(failure) => {
            let event = match failure {
                Failure::ResponseTimeout => "deadline",
                _ => "backend leaves or fails",
            };
            enter(Table::Exchange, "Awaiting", event);
            Some(Err(failure))
        }
    }
}

/// Lets a request that shares no connection have that of a lane on which nobody waits, if there is no other one.
pub(super) fn spare(worker: &Generation, client: &Client, request: &Request) {
    let Ok(upstream) = upstream_of(worker, request) else {
        return; // Never: it is told when the request gets there.
    };
    let lane = upstream.spare_lane().and_then(|place| {
        let lanes = client.lanes.lanes().borrow();
        lanes.get(place.key).map(Rc::clone)
    });
    if let Some(lane) = lane {
        lane.let_go(&client.lanes);
    }
}

/// Keeps a connection whose exchange is over, and that may be reused: as a lane where its upstream wants one, and the next request may
/// be one like this.
pub(super) fn keep(
    worker: &Generation,
    client: &Client,
    request: &Request,
    (lease, version): (Lease, Version),
) {
    let is_lane = version == Version::Http11
        && may_share(request)
        && !worker.tells_all()
        && lease.wants_lane();
    if is_lane {
        Lane::begin(&client.lanes, lease);
    } else {
        worker.keep(lease);
    }
}

/// The answer to a request on a connection of its own has begun. Where that might have been a shared one, it tells what sharing costs.
pub(super) fn note_alone(request: &Request, lease: &Lease) {
    if may_share(request) {
        lease.note_head_alone();
    }
}

/// Whether a request may stand behind others: sending it twice does no harm, and its answer is all that is wanted. RFC 9112 §9.3.2. Nor may others stand
/// behind HEAD: content that a server wrongly sends with the answer would be read as the next client's answer.
fn may_share(request: &Request) -> bool {
    let facts = &request.facts;
    facts.is_safe
        && !facts.is_head
        && !facts.upgrade
        && !facts.is_connect
        && !facts.expect_continue
        && !facts.framing.has_body()
}

/// Whether all of an answer's content has come.
fn is_whole(facts: &ResponseFacts, reader: &Reader) -> bool {
    match facts.framing {
        ResponseFraming::Empty => true,
        ResponseFraming::Length(length) => reader.bytes().len() as u64 >= length,
        ResponseFraming::Chunked | ResponseFraming::UntilClose => false,
    }
}

/// Whether a request whose answer failed on a shared connection, before its head was whole, is sent on one of its own.
#[cold]
fn may_be_asked_again(failure: Failure, is_followed: bool) -> bool {
    match failure {
        // What is no answer may be the rest of the one before it, which was another client's.
        Failure::Response(_) => true,
        // What was sent behind it, and not read, may have reset the connection. RFC 9112 §9.6.
        Failure::ClosedWithinHead => is_followed,
        _ => failure.allows_retry(),
    }
}

/// Passes on an answer that is long or comes in parts, with the lane's connection, which is given back where others wait for it.
async fn deliver(
    worker: &Rc<Generation>,
    client: &Client,
    request: &Request,
    (loan, out): (Loan, &mut Vec<u8>),
) -> Option<Result<After, Failure>> {
    let Loan {
        mut lease,
        mut reader,
        since,
        is_followed,
        giving,
    } = loan;
    lease
        .conn()
        .set_deadline(Some(since + request.chosen.response_timeout));
    let progress = Progress::of(request);
    // No other protocol was asked for.
    let answering = Answering::on(&lease, worker, (&client.conn, request), &[], &progress);
    let begun = match answering.head_watching(&mut reader, out).await {
        Ok(begun) => begun,
        Err(failure) if may_be_asked_again(failure, is_followed) => {
            out.clear(); // Nothing of it has gone to the client.
            worker.row().retries.add(1);
            return None;
        }
        Err(failure) => {
            if failure == Failure::ClientGone {
                giving.leave();
            }
            return Some(Err(failure));
        }
    };
    if is_followed && !begun.facts.keep_alive && !is_whole(&begun.facts, &reader) {
        out.clear(); // Nothing of it has gone to the client.
        worker.row().retries.add(1);
        giving.close();
        return None;
    }
    lease.note_head();
    giving.begin_answer(since);
    let delivered = answering
        .deliver_watching(&begun.facts, &mut reader, out)
        .await;
    enter(Table::Exchange, "Done", "what is awaited");
    count(worker, delivered);
    lease.note_version(begun.facts.version);
    let facts = ReuseFacts {
        side: ConnSide::Upstream,
        // Whoever answers in another version than before is not asked several things at once.
        peer_keeps_alive: begun.facts.keep_alive && begun.facts.version == Version::Http11,
        we_keep_alive: true,
        request_end: MessageEnd::Clean,
        response_end: End::of_answer(delivered, &begun),
        is_tunnel: false,
        has_surplus: false, // What follows is for those who wait; where nobody does, the lane looks.
        is_draining: worker.tells_all(),
    };
    match reusable(&facts) {
        Reuse::Yes => giving.give_back(lease, reader),
        Reuse::No(_why) => {
            drop(lease);
            if delivered == Delivered::ClientGone {
                giving.leave();
            } else if !begun.facts.keep_alive {
                giving.close();
            }
        }
    }
    Some(Ok(after(
        (client, request),
        begun.keep,
        MessageEnd::Clean,
        delivered,
    )))
}
