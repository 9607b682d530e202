//! One client connection's life: requests in their order, each answered once.
//!
//! ```text
//!            ┌───────────── keep ─────────────┐
//!            ▼                                │
//! Idle ─► Head ─► Connecting ─► Sending ─► Answering ─► Closing
//!  │ ▲                                        │
//!  ▼ │                                        └─► Tunnel ─► Closing
//! Parked
//! ```

mod answer;
mod answering;
#[cfg(feature = "sim")]
pub mod answers;
mod error;
mod forward;
mod mirror;
mod mux;
mod operators;
mod progress;
mod request;
mod response;
mod routing;
mod upload;

pub(crate) use mux::Lanes;

use crate::config::plan::ListenerId;
use crate::shared::{Generation, Worker};
use answer::Answer;
use hp_core::http::message::{Filled, Reader};
use hp_core::http::pace::Pace;
use hp_core::rt::lifecycle::{Table, enter, watch};
use hp_core::rt::net::{Conn, Rx};
use hp_core::wire::forwarding::OriginLines;
use hp_core::wire::http1::error::RequestError;
use hp_core::wire::http1::head::HeadScan;
use hp_core::wire::uri::KnownAuthority;
use request::{Prepared, Request};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;

/// A client's connection and what it has sent.
#[derive(Debug)]
struct Client {
    conn: Conn,
    /// Its worker's connections that exchanges share.
    lanes: Rc<Lanes>,
    /// Where it arrived.
    listener: ListenerId,
    reader: Reader,
    /// Who it is; none has a Unix socket.
    peer: Option<SocketAddr>,
    /// What backends are told of it.
    origin: OriginLines,
    /// Whom it asked for last.
    host: KnownAuthority,
    /// Where the last exchange became a tunnel, until that begins.
    joined: Option<Box<forward::Joined>>,
}

/// What becomes of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// The next request may come.
    Keep,
    /// Idle: no task is needed until it has news.
    Park,
    /// What it says is passed on without being understood.
    Tunnel,
    /// Nothing more is said; FIN.
    Close,
    /// An answer was sent that the client may not have read, while it may still be sending: FIN, then what it sends is
    /// read and dropped for a while, for a RST would take the answer away.
    Linger,
    /// The answer is not whole, and the client must know: RST.
    Reset,
}

/// What became of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// It ended.
    Ended,
    /// It idles, and is kept without a task.
    Parked,
}

/// Serves a client's connection until it idles or ends.
pub(crate) async fn serve(
    (worker, lanes): (&Rc<Worker>, &Rc<Lanes>),
    conn: Conn,
    listener: ListenerId,
    is_new: bool,
) -> Served {
    let peer = conn.peer_addr();
    let mut lines = worker.take_scratch();
    let mut client = Client {
        conn,
        lanes: Rc::clone(lanes),
        listener,
        reader: Reader::new(),
        peer,
        origin: OriginLines::of(peer, &mut lines),
        host: KnownAuthority::new(),
        joined: None,
    };
    worker.give_scratch(lines);
    let mut generation = worker.current();
    let mut is_first = is_new;
    loop {
        let mut after = serve_next((worker, &mut generation), &mut client, is_first).await;
        if let Some(joined) = client.joined.take() {
            drop(generation); // A tunnel may last for days, and needs no plan.
            // Boxed, so that other connections do not carry the room for it.
            after = Box::pin(forward::relay(worker, &mut client, *joined)).await;
            generation = worker.current();
        }
        let must_flush = match after {
            // Nothing piles up behind a client that only asks.
            After::Keep | After::Park => client.conn.queued() > 0,
            // The end of what was just written may not be with the socket yet, and closing drops what it does not take.
            After::Close | After::Linger => true,
            After::Reset | After::Tunnel => false,
        };
        if must_flush && let Err(error) = flush(&generation, &client.conn).await {
            enter(Table::Exchange, "Flushing", of_client(&error));
            worker.row().client_aborts.add(1);
            client.conn.reset();
            break;
        }
        match after {
            After::Keep => is_first = false,
            After::Park if !worker.parks() => break,
            After::Park => {
                enter(Table::Drain, worker.row_of_drain(), "an idle connection");
                generation.park(client.conn, listener);
                return Served::Parked;
            }
            After::Close | After::Tunnel => break, // A tunnel has ended by now.
            After::Linger => {
                linger(&generation, &client).await;
                break;
            }
            After::Reset => {
                enter(Table::Exchange, "Cutting", "what is awaited");
                client.conn.reset();
                break;
            }
        }
    }
    Served::Ended
}

/// Waits for one request and answers it.
async fn serve_next(
    (whose, generation): (&Worker, &mut Rc<Generation>),
    client: &mut Client,
    is_first: bool,
) -> After {
    let mut place = None;
    let received = receive_request((whose, generation), (client, is_first), &mut place).await;
    let worker: &Rc<Generation> = generation;
    match received {
        Ok(mut head) => {
            let Some(request) = &place else {
                return After::Close; // Never: it comes with its head.
            };
            worker.row().requests.add(1);
            #[cfg(feature = "slow-down")]
            crate::slow_down::per_request(worker.rt());
            let event = "a request arrives on an open connection";
            enter(Table::Drain, worker.row_of_drain(), event);
            let after = forward::exchange(worker, client, request, &mut head).await;
            worker.give_scratch(head);
            after
        }
        Err(NoRequest::Idle) => After::Park,
        Err(NoRequest::Gone) => After::Close,
        Err(NoRequest::Late) => refuse_head(worker, client, &Answer::REQUEST_TIMEOUT),
        Err(NoRequest::Refused(error)) => refuse_head(worker, client, &Answer::from(error)),
    }
}

/// Why there is no request to answer.
#[derive(Clone, Copy, Debug)]
enum NoRequest {
    /// Nothing came for a while after the last answer.
    Idle,
    /// The client closed, or its connection failed, between two requests or in the middle of a head.
    Gone,
    /// A head was begun and did not end in time.
    Late,
    /// The head cannot be accepted.
    Refused(RequestError),
}

/// Receives a head; gives what the backend will be sent, in a buffer that an idle connection does not own, and with it the request, in
/// `place`. A request begins under the newest plan.
fn receive_request(
    (whose, generation): (&Worker, &mut Rc<Generation>),
    (client, is_first): (&mut Client, bool),
    place: &mut Option<Request>,
) -> impl Future<Output = Result<Vec<u8>, NoRequest>> {
    let is_timed = is_first || !client.reader.is_empty();
    let timeout = if is_timed {
        generation.plan().timeouts.head
    } else {
        generation.idle_grace()
    };
    client.conn.set_deadline(Some(whose.rt().now() + timeout));
    // A drain ends the wait for a request that has not begun. What it finds accepted but not read is still served. So
    // does the want of threads, after the first request.
    let may_end = client.reader.is_empty() && !whose.closes_idle();
    let mut leaving = may_end.then(|| whose.shall_leave(is_first));
    let mut coming = Coming {
        scan: None,
        is_timed,
    };
    let begins = (Table::Exchange, "ReadingHead", "drain begins");
    // Not a future of futures: most heads come whole with the first bytes.
    let receiving = poll_fn(move |cx| {
        loop {
            if let Some(taken) = coming.take((whose, generation), client, place) {
                return Poll::Ready(taken);
            }
            enter(Table::Exchange, "ReadingHead", "what is awaited");
            match client.reader.poll_fill(&client.conn, cx) {
                Poll::Ready(filled) => {
                    leaving = None;
                    if let Some(why) = without_bytes(&filled, client, is_first) {
                        return Poll::Ready(Err(why));
                    }
                }
                Poll::Pending => {
                    let Some(leaving) = &mut leaving else {
                        return Poll::Pending;
                    };
                    ready!(Pin::new(leaving).poll(cx));
                    enter(Table::Drain, whose.row_of_drain(), "an idle connection");
                    return Poll::Ready(Err(NoRequest::Gone));
                }
            }
        }
    });
    watch(begins, || whose.is_draining(), receiving)
}

/// How far the head of a request has come.
struct Coming {
    /// How far it was searched for its end, once it turned out not to be whole.
    scan: Option<HeadScan>,
    /// It has its deadline.
    is_timed: bool,
}

impl Coming {
    /// Takes the request if it is there whole.
    #[inline]
    fn take(
        &mut self,
        (whose, generation): (&Worker, &mut Rc<Generation>),
        client: &mut Client,
        place: &mut Option<Request>,
    ) -> Option<Result<Vec<u8>, NoRequest>> {
        let may_be_whole = match &mut self.scan {
            None => !client.reader.is_empty(),
            Some(scan) => scan.complete(client.reader.bytes()),
        };
        if !may_be_whole {
            return None;
        }
        if self.scan.is_none() && generation.is_outdated() {
            whose.refresh(generation, client.listener);
        }
        let worker: &Generation = generation;
        let mut head = worker.take_scratch();
        let prepared = request::prepare(worker, client, place, &mut head);
        if let Ok(Prepared::Whole) = prepared {
            return Some(Ok(head));
        }
        worker.give_scratch(head);
        match prepared {
            Err(error) => Some(Err(NoRequest::Refused(error))),
            Ok(Prepared::Whole | Prepared::Partial) => {
                self.note_part(worker, client);
                None
            }
        }
    }

    /// The rest is yet to come.
    #[cold]
    fn note_part(&mut self, worker: &Generation, client: &Client) {
        let mut searched = HeadScan::new(&worker.plan().limits.head);
        searched.complete(client.reader.bytes());
        self.scan = Some(searched);
        // Only now: most heads come whole, and need no deadline of their own.
        if !self.is_timed {
            self.is_timed = true;
            let deadline = worker.rt().now() + worker.plan().timeouts.head;
            client.conn.set_deadline(Some(deadline));
        }
    }
}

/// Why no request comes, when waiting for its bytes ended without any.
fn without_bytes(
    filled: &io::Result<Filled>,
    client: &Client,
    is_first: bool,
) -> Option<NoRequest> {
    match filled {
        Ok(Filled::More) => None,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            enter(Table::Exchange, "ReadingHead", "deadline");
            Some(match (client.reader.is_empty(), is_first) {
                (true, true) => NoRequest::Gone,
                (true, false) => NoRequest::Idle,
                (false, _) => NoRequest::Late,
            })
        }
        Ok(Filled::Eof) | Err(_) => {
            enter(Table::Exchange, "ReadingHead", "client leaves");
            Some(NoRequest::Gone)
        }
    }
}

/// Answers a head that was not understood; what follows it has no known meaning.
fn refuse_head(worker: &Generation, client: &Client, answer: &Answer) -> After {
    enter(Table::Exchange, "Answering", "what is awaited");
    answer.count(worker);
    // Its method is known by its spelling alone; HEAD gets no content, whatever is wrong with the rest. RFC 9110 §9.3.2.
    let message = client.reader.bytes();
    let message = message.strip_prefix(b"\r\n").unwrap_or(message);
    let content = if message.starts_with(b"HEAD ") {
        answer::Content::Withheld
    } else {
        answer::Content::Sent
    };
    let mut out = worker.take_scratch();
    let date = worker.date_line();
    answer.encode(&mut out, answer::Connection::Close, content, &date);
    let sent = client.conn.write(&out);
    worker.give_scratch(out);
    match sent {
        Ok(()) => After::Linger,
        Err(_gone) => {
            enter(Table::Exchange, "Answering", "client leaves");
            After::Close
        }
    }
}

/// Waits until the client's socket has taken everything.
async fn flush(worker: &Generation, conn: &Conn) -> io::Result<()> {
    enter(Table::Exchange, "Flushing", "what is awaited");
    let begins = (Table::Exchange, "Flushing", "drain begins");
    let plan = worker.plan();
    let mut pace = Pace::new(plan.timeouts.body, plan.limits.body_rate_min);
    watch(begins, || worker.is_draining(), pace.drain(conn)).await
}

/// Sends FIN, then reads and drops for a while, so that the client can read its answer before anything resets it.
async fn linger(worker: &Generation, client: &Client) {
    let deadline = worker.rt().now() + LINGER_TIME;
    client.conn.set_deadline(Some(deadline));
    if client.conn.finish().await.is_err() {
        return;
    }
    enter(Table::Exchange, "Lingering", "what is awaited");
    let begins = (Table::Exchange, "Lingering", "drain begins");
    let mut left = LINGER_BYTES;
    loop {
        match watch(begins, || worker.is_draining(), client.conn.recv()).await {
            Ok(Rx::Data(lent)) if lent.len() < left => left -= lent.len(),
            Ok(Rx::Data(_)) => return,
            Ok(Rx::Eof) => return enter(Table::Exchange, "Lingering", "client leaves"),
            Err(error) => return enter(Table::Exchange, "Lingering", of_client(&error)),
        }
    }
}

/// The column in `docs/lifecycle/exchange.md` of what went wrong at the client's side.
fn of_client(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::TimedOut => "deadline",
        _ => "client leaves",
    }
}

/// How long a refused client may go on sending.
const LINGER_TIME: Duration = Duration::from_secs(2);
/// How much a refused client may go on sending.
const LINGER_BYTES: usize = 16 * 1024 * 1024;
