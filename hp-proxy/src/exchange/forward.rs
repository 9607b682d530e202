//! From a request in hand to its answer delivered: which connection, which attempt, and what becomes of both ends.

use super::answer::{self, Own, Page};
use super::answering::{Answering, Begun, Delivered};
use super::error::Failure;
use super::mirror::RequestCopy;
use super::mux;
use super::operators;
use super::progress::Progress;
use super::request::Request;
use super::routing::Made;
use super::upload::{Background, Ends, upload};
use super::{After, Client};
use crate::shared::{Generation, Worker};
use crate::upstream::{AcquireError, Lease, Upstream};
use hp_core::http::message::Reader;
use hp_core::http::tunnel::{self, TunnelEnd};
use hp_core::rt::Instant;
use hp_core::rt::lifecycle::{Table, enter, watch};
use hp_core::rt::plant::{Plant, is_planted};
use hp_core::wire::http1::framing::{
    BodyFraming, ConnSide, MessageEnd, NoReuse, ResponseFraming, Reuse, ReuseFacts, reusable,
};
use hp_core::wire::http1::head::Version;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// Answers one request. `head` is what the backend will be sent.
pub(super) async fn exchange(
    worker: &Rc<Generation>,
    client: &mut Client,
    request: &Request,
    head: &mut Vec<u8>,
) -> After {
    if let Some(own) = request.own {
        if own == Own::Admin(Page::Asked) {
            // Boxed, so that other exchanges do not carry the room for it.
            return Box::pin(operators::ask(worker, client, request, head)).await;
        }
        return answer_here(worker, client, request, (&own, head));
    }
    client.reader.detach_if_scarce(); // Its next requests wait.
    let mut out = Vec::new();
    let copy = RequestCopy::of(worker, request, head);
    let answered = if request.facts.framing.has_body() {
        if worker.multiplexes() {
            mux::spare(worker, client, request);
        }
        with_content(worker, client, request, (head, &mut out), &copy).await
    } else {
        copy.send(&[]);
        let shared = if worker.multiplexes() {
            mux::exchange(worker, client, request, (head, &mut out)).await
        } else {
            None
        };
        match shared {
            Some(answered) => answered,
            None => without_content(worker, client, request, (head, &mut out)).await,
        }
    };
    worker.give_scratch(out);
    match answered {
        Ok(after) => after,
        Err(failure) => match failure.answer() {
            Some(answer) => answer_here(worker, client, request, (&Own::Refusal(answer), &[])),
            None => {
                worker.row().client_aborts.add(1);
                After::Reset
            }
        },
    }
}

/// A request that ends with its head: may be sent again when a kept connection turns out to be dead.
async fn without_content(
    worker: &Generation,
    client: &mut Client,
    request: &Request,
    (head, out): (&[u8], &mut Vec<u8>),
) -> Result<After, Failure> {
    client.conn.set_deadline(None);
    enter(Table::Exchange, "Choosing", "what is awaited");
    let (upstream, aim) = (upstream_of(worker, request)?, request.chosen.aim);
    let mut lease = match upstream.take_kept(aim) {
        Some(lease) => lease,
        // Boxed, so that other exchanges do not carry the room for it.
        None => connect(worker, Box::pin(upstream.acquire(aim))).await?,
    };
    let progress = Progress::of(request);
    progress.head_bytes.set(head.len() as u64);
    progress.written.set(head.len() as u64); // By each attempt.
    loop {
        let mut reader = Reader::new();
        let backend = lease.conn();
        backend.set_deadline(response_deadline(worker, request));
        let answering = Answering::on(&lease, worker, (&client.conn, request), head, &progress);
        let received = match backend.write(head) {
            Ok(()) => answering.head_watching(&mut reader, out).await,
            Err(_closed) => Err(Failure::ClosedBeforeResponse),
        };
        let begun = match received {
            Ok(begun) => begun,
            Err(Failure::ClientGone) if is_planted(Plant::UnreadKept) => {
                lease.put_back();
                return Err(Failure::ClientGone);
            }
            Err(failure) => {
                let may_repeat = lease.is_reused()
                    && (request.facts.is_idempotent
                        || failure.has_sent_nothing()
                        || is_planted(Plant::PostRetried));
                if !(may_repeat && failure.allows_retry()) {
                    return Err(given_up(lease, request, failure));
                }
                worker.row().retries.add(1);
                lease = connect(worker, Box::pin(upstream.acquire_fresh(lease))).await?;
                continue;
            }
        };
        lease.note_head();
        if worker.multiplexes() {
            mux::note_alone(request, &lease);
        }
        if begun.facts.upgrade {
            return Ok(join_ends(worker, client, (lease, reader), out));
        }
        let delivered = answering
            .deliver_watching(&begun.facts, &mut reader, out)
            .await;
        return Ok(finish(
            worker,
            (client, request),
            End {
                lease,
                reader,
                begun,
                delivered,
                is_whole: true,
                is_understood: true,
            },
        ));
    }
}

/// Lets go of a connection to a backend whose answer is not waited for any more. One that was asked to upgrade may have done
/// so: an end in order would tell it that the client has nothing to say.
fn given_up(lease: Lease, request: &Request, failure: Failure) -> Failure {
    if request.facts.upgrade {
        lease.reset();
    }
    failure
}

/// The connections that a request's route leads to.
#[inline]
pub(super) fn upstream_of<'w>(
    worker: &'w Generation,
    request: &Request,
) -> Result<&'w Rc<Upstream>, Failure> {
    let upstream = worker.upstream(request.chosen.upstream);
    upstream.ok_or(Failure::Acquire(AcquireError::Refused)) // Never: routes lead to upstreams of their plan.
}

/// Waits for a connection to a backend.
async fn connect(
    worker: &Generation,
    acquiring: impl Future<Output = Result<Lease, AcquireError>>,
) -> Result<Lease, Failure> {
    enter(Table::Exchange, "Connecting", "what is awaited");
    let begins = (Table::Exchange, "Connecting", "drain begins");
    let acquired = watch(begins, || worker.is_draining(), acquiring).await;
    if let Err(AcquireError::QueueTimeout | AcquireError::ConnectTimeout) = acquired {
        enter(Table::Exchange, "Connecting", "deadline");
    }
    acquired.map_err(Failure::Acquire)
}

fn response_deadline(worker: &Generation, request: &Request) -> Option<Instant> {
    let deadline = worker.rt().now() + request.chosen.response_timeout;
    (!is_planted(Plant::NoDeadline)).then_some(deadline)
}

/// A request with content, which streams to the backend while the answer may already come.
async fn with_content(
    worker: &Generation,
    client: &mut Client,
    request: &Request,
    (head, out): (&mut Vec<u8>, &mut Vec<u8>),
    copy: &RequestCopy,
) -> Result<After, Failure> {
    client.conn.set_deadline(None);
    enter(Table::Exchange, "Choosing", "what is awaited");
    let (upstream, aim) = (upstream_of(worker, request)?, request.chosen.aim);
    let lease = match upstream.take_kept(aim) {
        Some(lease) => lease,
        None => connect(worker, Box::pin(upstream.acquire(aim))).await?,
    };
    let framing = request.facts.framing;
    if framing == BodyFraming::Chunked && lease.speaks_http10() {
        return Err(Failure::LengthRequired);
    }
    let mut reader = Reader::new();
    let progress = Progress::of(request);
    progress.head_bytes.set(head.len() as u64);
    let (begun, delivered) = {
        let ends = Ends {
            worker,
            client: &client.conn,
            backend: lease.conn(),
            response_timeout: request.chosen.response_timeout,
            progress: &progress,
            copy,
        };
        let begins = (Table::Exchange, "Sending", "drain begins");
        // Pinned where they are made: a future that is passed on by value is in this one twice.
        let uploading = pin!(watch(
            begins,
            || worker.is_draining(),
            upload(ends, &mut client.reader, head, framing)
        ));
        let client = &client.conn;
        let mut uploading = Background::new(uploading, client, &progress);
        // With content nothing else is asked for.
        let answering = Answering::on(&lease, worker, (client, request), &[], &progress);
        let begun = match worker.plan().timeouts.until_continue {
            Some(patience) if progress.is_awaited() => {
                // Boxed, so that other exchanges do not carry the room for it.
                let head = Box::pin(answering.head_of_expectant(&mut reader, out, patience));
                uploading.beside(head).await??
            }
            _ => {
                let head = pin!(answering.head(&mut reader, out));
                uploading.beside(head).await??
            }
        };
        lease.note_head();
        let deliver = pin!(answering.deliver(&begun.facts, &mut reader, out));
        let delivered = match uploading.beside(deliver).await {
            Ok(delivered) => delivered,
            Err(broken_request) => cut_off(broken_request),
        };
        (begun, delivered)
    };
    let is_whole = progress.is_uploaded.get();
    // A server that answers instead of saying 100 need not read the content, and some then read it as a request: one that came
    // unasked, or after our own 100. RFC 9110 §10.1.1.
    let is_understood = !request.facts.expect_continue || progress.is_continued.get();
    let after = finish(
        worker,
        (client, request),
        End {
            lease,
            reader,
            begun,
            delivered,
            is_whole,
            is_understood,
        },
    );
    Ok(match after {
        After::Close if !is_whole => After::Linger,
        after => after,
    })
}

/// A request that breaks when its answer has begun: there is no other to give.
fn cut_off(broken_request: Failure) -> Delivered {
    if broken_request == Failure::ClientGone {
        enter(Table::Exchange, "Relaying", "client leaves");
    }
    Delivered::ClientGone
}

/// What an exchange has in hand when the answer was delivered or broke off.
pub(super) struct End {
    lease: Lease,
    reader: Reader,
    begun: Begun,
    delivered: Delivered,
    /// Whether the backend was sent all of the request.
    is_whole: bool,
    /// Whether it is known to take the content for content.
    is_understood: bool,
}

/// Decides what becomes of both connections, and counts.
fn finish(worker: &Generation, (client, request): (&Client, &Request), mut end: End) -> After {
    // The lease stays where it is until it is kept: it is large.
    let (begun, delivered) = (end.begun, end.delivered);
    enter(Table::Exchange, "Done", "what is awaited");
    count(worker, delivered);
    let request_end = if end.is_whole {
        MessageEnd::Clean
    } else {
        MessageEnd::Unfinished
    };
    end.lease.note_version(begun.facts.version);
    // Who answers what it has not read answers something else: the next answer would be this one's.
    let is_sent = end.lease.conn().unsent() == 0;
    let upstream = ReuseFacts {
        side: ConnSide::Upstream,
        peer_keeps_alive: begun.facts.keep_alive,
        we_keep_alive: true,
        request_end: if is_sent && end.is_understood {
            request_end
        } else {
            MessageEnd::Unfinished
        },
        response_end: End::of_answer(delivered, &begun),
        is_tunnel: false,
        has_surplus: !end.reader.is_empty() || end.lease.conn().has_news(),
        is_draining: worker.tells_all(),
    };
    match reusable(&upstream) {
        Reuse::Yes if worker.multiplexes() => {
            let kept = (end.lease, begun.facts.version);
            mux::keep(worker, client, request, kept);
        }
        Reuse::Yes => worker.keep(end.lease),
        Reuse::No(_why) => drop(end.lease),
    }
    after((client, request), begun.keep, request_end, delivered)
}

/// Counts what became of an answer.
#[inline]
pub(super) fn count(worker: &Generation, delivered: Delivered) {
    let row = worker.row();
    match delivered {
        Delivered::Whole => row.responses.add(1),
        Delivered::Truncated => row.responses_truncated.add(1),
        Delivered::ClientGone => row.client_aborts.add(1),
    }
}

impl End {
    /// How far an answer was read on its connection.
    #[inline]
    pub(super) fn of_answer(delivered: Delivered, begun: &Begun) -> MessageEnd {
        let until_close = begun.facts.framing == ResponseFraming::UntilClose;
        match delivered {
            Delivered::Whole if until_close => MessageEnd::UntilClose,
            Delivered::Whole => MessageEnd::Clean,
            Delivered::Truncated | Delivered::ClientGone => MessageEnd::Unfinished,
        }
    }
}

/// Decides what becomes of the client's connection; `keep`: what it was told.
#[inline]
pub(super) fn after(
    (client, request): (&Client, &Request),
    keep: bool,
    request_end: MessageEnd,
    delivered: Delivered,
) -> After {
    let sent_end = match delivered {
        Delivered::Whole => MessageEnd::Clean,
        Delivered::Truncated | Delivered::ClientGone => MessageEnd::Unfinished,
    };
    let downstream = ReuseFacts {
        side: ConnSide::Downstream,
        peer_keeps_alive: request.facts.keep_alive,
        we_keep_alive: keep,
        request_end,
        response_end: sent_end,
        is_tunnel: false,
        has_surplus: !client.reader.is_empty() || client.conn.has_news(),
        is_draining: false, // What the client was told counts; it is told the next time.
    };
    match (reusable(&downstream), delivered) {
        (Reuse::Yes, _) => After::Keep,
        // The client has said more: closing with unread bytes would reset the connection, and the answer with it.
        (Reuse::No(_why), Delivered::Whole) if downstream.has_surplus => After::Linger,
        // It was told with the answer that this is the last one, and may have asked more by then. RFC 9112 §9.6.
        (Reuse::No(NoReuse::WeClose), Delivered::Whole) => After::Linger,
        (Reuse::No(_why), Delivered::Whole) => After::Close,
        (Reuse::No(_why), Delivered::Truncated) if is_planted(Plant::TruncatedAsWhole) => {
            After::Close
        }
        (Reuse::No(_why), Delivered::Truncated | Delivered::ClientGone) => After::Reset,
    }
}

/// Answers in the backend's stead; with what `reflected` holds where TRACE asks for it, the route has fields for it, or the main
/// thread has said it.
pub(super) fn answer_here(
    worker: &Generation,
    client: &Client,
    request: &Request,
    (own, reflected): (&Own, &[u8]),
) -> After {
    enter(Table::Exchange, "Answering", "what is awaited");
    // Content that was not read is not the next request.
    let keep = request.facts.keep_alive
        && !request.facts.framing.has_body()
        && !request.facts.is_connect
        && worker.keeps_client(client.conn.name());
    let connection = match (keep, request.facts.version) {
        (false, _) => answer::Connection::Close,
        (true, Version::Http10) => answer::Connection::KeepAndSay,
        (true, Version::Http11) => answer::Connection::Keep,
    };
    let content = if request.facts.is_head {
        answer::Content::Withheld
    } else {
        answer::Content::Sent
    };
    let mut out = worker.take_scratch();
    let date = worker.date_line();
    match own {
        Own::Refusal(answer) => {
            answer.count(worker);
            answer.encode(&mut out, connection, content, &date);
        }
        Own::Options => {
            worker.row().answered_here.add(1);
            answer::encode_options(&mut out, connection, &date);
        }
        Own::Trace => {
            worker.row().answered_here.add(1);
            answer::encode_trace(&mut out, connection, &date, reflected);
        }
        Own::OfRoute => {
            let made = Made {
                connection,
                content,
                fields: reflected,
            };
            made.encode_of_route(worker, request.chosen.route, &mut out);
        }
        Own::Admin(page) => {
            let made = Made {
                connection,
                content,
                fields: &[],
            };
            made.encode_page(worker, (*page, reflected), &mut out);
        }
    }
    let sent = client.conn.write(&out);
    worker.give_scratch(out);
    match (sent, keep) {
        (Ok(()), true) => After::Keep,
        (Ok(()), false) => After::Linger,
        (Err(_gone), _) => {
            enter(Table::Exchange, "Answering", "client leaves");
            After::Close
        }
    }
}

/// Both ends of a connection on which both sides agreed to speak something else.
#[derive(Debug)]
pub(super) struct Joined {
    lease: Lease,
    /// What the backend has sent behind its agreement.
    reader: Reader,
    timeout: Duration,
}

/// Both sides agreed to speak something else: tells the client, and keeps what the tunnel needs, which is nothing of the plan.
fn join_ends(
    worker: &Generation,
    client: &mut Client,
    (lease, reader): (Lease, Reader),
    out: &[u8],
) -> After {
    worker.row().tunnels.add(1);
    if client.conn.write(out).is_err() {
        lease.reset();
        return After::Close;
    }
    client.joined = Some(Box::new(Joined {
        lease,
        reader,
        timeout: worker.plan().timeouts.tunnel,
    }));
    After::Tunnel
}

/// Relays bytes until both ends are done.
pub(super) async fn relay(worker: &Worker, client: &mut Client, joined: Joined) -> After {
    let Joined {
        lease,
        mut reader,
        timeout,
    } = joined;
    let client_end = (&client.conn, &mut client.reader);
    let backend_end = (lease.conn(), &mut reader);
    enter(Table::Exchange, "Tunnel", "what is awaited");
    let begins = (Table::Exchange, "Tunnel", "drain begins");
    let relaying = tunnel::relay(client_end, backend_end, timeout);
    let counted = lease.tunnel();
    let is_draining = || {
        if worker.is_draining() && is_planted(Plant::TunnelCut) {
            lease.conn().set_deadline(Some(worker.rt().now()));
        }
        worker.is_draining()
    };
    let carried = watch(begins, is_draining, relaying).await;
    drop(counted);
    let row = worker.row();
    match carried.end {
        TunnelEnd::Finished => {
            enter(Table::Exchange, "Tunnel", "client leaves");
            enter(Table::Exchange, "Tunnel", "backend leaves or fails");
            row.responses.add(1);
            return After::Close;
        }
        TunnelEnd::OneBroke => row.client_aborts.add(1),
        TunnelEnd::OtherBroke => row.responses_truncated.add(1),
        TunnelEnd::Silent => {
            enter(Table::Exchange, "Tunnel", "deadline");
            row.tunnels_timed_out.add(1);
        }
    }
    lease.reset();
    After::Reset
}
