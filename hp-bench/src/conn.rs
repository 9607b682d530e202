//! One connection's life: request, answer, request, answer; and a new connection when it breaks.
//!
//! ```text
//!            ┌───────────── answer ─────────────┐
//!            ▼                                  │
//! connect ─→ wait until one is due, send ─→ wait for it all
//!    ▲                                          ├─ time is over → (end)
//!    ├── closed as agreed ──────────────────────┤
//!    └── pause ───────── failure ───────────────┘
//! ```
//!
//! Must not know: threads, the clock's start, reports.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::pin::pin;
use std::time::Duration;

use hp_core::base::units::KIB;
use hp_core::rt::Instant;
use hp_core::rt::net::Conn;
use hp_core::rt::race::{First, race};
use hp_core::wire::http1::framing::{NoReuse, Reuse};

use crate::fleet::{Fleet, Stop};
use crate::flights::Flight;
use crate::pacer::Due;
use crate::record::{Answer, ErrorClass};
use crate::request::Request;
use crate::response::{Asked, Came, Failure, Incoming, Response, broken};
use crate::samples::Times;

impl Fleet {
    /// Keeps one connection at work until the end; `first` is the one it begins with, if it has one.
    pub(crate) async fn drive(&self, idx: usize, first: Option<Conn>) {
        let mut conn = first;
        // Requests whose connection went away before anything of their answer came.
        let mut held = VecDeque::new();
        let mut pause = PAUSE_MIN;
        if conn.is_none() {
            Box::pin(self.begin_in_turn(idx)).await;
        }
        while !self.is_over() {
            let Some(open) = conn.take() else {
                if held.is_empty() && self.has_had_all(idx) {
                    break;
                }
                if held.is_empty() && self.connects_on_demand {
                    let Some(due) = self.next_due(idx, None).await else {
                        break;
                    };
                    held.push_back(due);
                }
                // Connecting is work for the server as well: also that of a connection that broke waits for its turn.
                if let Some(turns) = self.plan.turns {
                    Box::pin(self.reach_turn(turns)).await;
                    if self.is_over() {
                        break;
                    }
                }
                match Box::pin(self.connect(idx)).await {
                    Ok(open) => conn = Some(open),
                    Err(_counted) => {
                        Box::pin(self.pause(pause)).await;
                        pause = (pause * 2).min(PAUSE_MAX);
                    }
                }
                continue;
            };
            pause = PAUSE_MIN;
            match self.exchanges(idx, &open, &mut held).await {
                Ended::TimeIsOver => break,
                Ended::AsAgreed => (),
                Ended::Broken(failure) => {
                    if self.count(idx, failure, &mut held) != ErrorClass::EofIdleReuse {
                        self.went_down(idx);
                        Box::pin(self.pause(pause)).await;
                    }
                }
            }
        }
        self.leave(idx, held);
    }

    /// Exchanges requests and answers until the connection or the time ends.
    async fn exchanges(&self, idx: usize, conn: &Conn, held: &mut VecDeque<Due>) -> Ended {
        let mut input = Incoming::at_rate(self.plan.read_rate);
        let mut talk = Talk::default();
        loop {
            while self.has_room(idx, &talk) {
                let due = held.pop_front();
                let due = match due.or_else(|| self.due_now(idx, talk.last_done)) {
                    Some(due) => due,
                    None if self.flights(idx) > 0 => break,
                    None => match self.next_due(idx, talk.last_done).await {
                        Some(due) => due,
                        None => return Ended::TimeIsOver,
                    },
                };
                if let Err(failure) = self.send(idx, conn, due, &mut talk) {
                    return Ended::Broken(Breakdown::new(failure, &talk));
                }
            }
            let Some(flight) = self.oldest(idx) else {
                return Ended::AsAgreed; // This connection has made all its requests.
            };
            conn.set_deadline(Some(flight.sent + self.plan.timeout));
            let asked = self.asked(self.request(flight.due.request), &talk);
            // What is rare is boxed, so that the many connections of a run stay small.
            let response = if self.take_stop(idx) {
                let rest = talk.rest;
                Box::pin(self.stop_and_read(idx, conn, &mut input, asked, rest)).await
            } else if self.sends_meanwhile && self.has_room(idx, &talk) {
                Box::pin(self.read_and_send(idx, conn, &mut input, &mut talk)).await
            } else if talk.rest > 0 || conn.queued() > 0 {
                let (request, rest) = (self.request(flight.due.request), talk.rest);
                let sending = self.receive_while_sending(conn, &mut input, request, asked, rest);
                Box::pin(sending).await
            } else {
                self.rules.read(conn, &mut input, asked).await
            };
            match response {
                Ok(response) => {
                    self.answered(idx, conn, &response, &mut talk);
                    if response.reuse != Reuse::Yes {
                        return self.ended_with(idx);
                    }
                }
                Err(failure) => return Ended::Broken(Breakdown::new(failure, &talk)),
            }
        }
    }

    /// After an answer that is the connection's last: what else was sent on it gets none.
    fn ended_with(&self, idx: usize) -> Ended {
        if self.flights(idx) == 0 {
            return Ended::AsAgreed;
        }
        Ended::Broken(Breakdown {
            failure: Failure::Closed(Came::Nothing),
            answers: 1,
        })
    }

    /// Whether one more request may be sent on the connection.
    fn has_room(&self, idx: usize, talk: &Talk) -> bool {
        let is_used_up = self.plan.reuse > 0 && talk.sent >= self.plan.reuse;
        !is_used_up && self.flights(idx) < self.plan.pipeline as usize
    }

    /// Sends a request, or begins to, at the end of the turn, together with those of other connections; what is left stands in
    /// `talk`.
    fn send(&self, idx: usize, conn: &Conn, due: Due, talk: &mut Talk) -> Result<(), Failure> {
        let sent = if self.plan.pipeline == 1 {
            due.able.max(self.rt.now()) // At least; the runtime's stamp takes its place, where it keeps one.
        } else {
            due.able.max(self.plan.stamp.now(&self.rt))
        };
        self.depart(idx, Flight { due, sent });
        talk.sent += 1;
        let request = self.request(due.request);
        let at_once = match (self.plan.write_rate, self.draw_stop(idx)) {
            (0, Some(Stop::Sending)) => (request.bytes.len() / 2).min(SEND_BYTES_MAX),
            (0, _) => request.bytes.len().min(SEND_BYTES_MAX),
            _ => 0,
        };
        let (first, rest) = request.bytes.split_at(at_once);
        talk.rest = rest.len();
        if first.is_empty() {
            return Ok(());
        }
        conn.write(first)
            .map_err(|error| broken(&error, Came::Nothing))
    }

    /// Does nothing for a while, then goes on with what is left to send and reads the answer.
    async fn stop_and_read(
        &self,
        idx: usize,
        conn: &Conn,
        input: &mut Incoming,
        asked: Asked,
        rest: usize,
    ) -> Result<Response, Failure> {
        // What it has said leaves before it falls silent, so that the silence is as long as was asked.
        conn.send_now()
            .map_err(|error| broken(&error, Came::Nothing))?;
        let time = self.plan.stall.map_or(Duration::ZERO, |stall| stall.time);
        self.until(self.rt.precise_now() + time).await;
        let resumed = self.rt.precise_now();
        let response = match self.oldest(idx) {
            Some(flight) if rest > 0 || conn.queued() > 0 => {
                let request = self.request(flight.due.request);
                self.receive_while_sending(conn, input, request, asked, rest)
                    .await?
            }
            Some(_) | None => self.rules.read(conn, input, asked).await?,
        };
        // On io_uring the kernel may have handed the answer over meanwhile; to this client it comes when it looks.
        Ok(Response {
            first_byte: response.first_byte.max(resumed),
            done: response.done.max(resumed),
            ..response
        })
    }

    /// A server may answer, even echo, before it has read all.
    async fn receive_while_sending(
        &self,
        conn: &Conn,
        input: &mut Incoming,
        request: &Request,
        asked: Asked,
        rest: usize,
    ) -> Result<Response, Failure> {
        let rest = &request.bytes[request.bytes.len() - rest..];
        let is_sent = Cell::new(false);
        let send = async {
            let sent = match self.plan.write_rate {
                0 => send_rest(conn, rest).await,
                rate => send_slowly(conn, rest, rate).await,
            };
            match sent {
                Ok(()) => is_sent.set(true),
                Err(_closed) => (), // An answer may be there although the request was not taken whole.
            }
            pending().await
        };
        match race(self.rules.read(conn, input, asked), send).await {
            First::One(Ok(response)) if !is_sent.get() => Ok(Response {
                reuse: Reuse::No(NoReuse::RequestUnfinished),
                ..response
            }),
            First::One(response) => response,
            First::Other(never) => never,
        }
    }

    /// Waits for the oldest answer, and sends what becomes due meanwhile.
    async fn read_and_send(
        &self,
        idx: usize,
        conn: &Conn,
        input: &mut Incoming,
        talk: &mut Talk,
    ) -> Result<Response, Failure> {
        let Some(flight) = self.oldest(idx) else {
            return Err(Failure::Malformed);
        };
        let asked = self.asked(self.request(flight.due.request), talk);
        let mut read = pin!(self.rules.read(conn, input, asked));
        while self.has_room(idx, talk) {
            match race(read.as_mut(), self.next_due(idx, None)).await {
                First::One(response) => return response,
                First::Other(Some(due)) => self.send(idx, conn, due, talk)?,
                First::Other(None) => break,
            }
        }
        read.await
    }

    fn asked(&self, request: &Request, talk: &Talk) -> Asked {
        let every = self.plan.verify_every;
        Asked {
            is_head: request.is_head,
            keep_alive: request.keep_alive,
            hashes_body: every > 0 && talk.answers.is_multiple_of(every),
        }
    }

    /// Counts the answer to the oldest request under way.
    fn answered(&self, idx: usize, conn: &Conn, response: &Response, talk: &mut Talk) {
        talk.answers += 1;
        talk.last_done = Some(response.done);
        let Some(Flight { due, sent }) = self.arrive(idx) else {
            return;
        };
        let stamp = if self.plan.pipeline == 1 {
            conn.take_sent_at()
        } else {
            None // One stamp cannot tell of several requests.
        };
        let sent = stamp.unwrap_or(sent);
        let fault = self.judge(due.request, response);
        let times = Times {
            intended: due.at,
            able: due.able,
            sent,
            first_byte: response.first_byte,
            done: response.done,
        };
        let answer = Answer {
            status: response.status,
            bytes: response.bytes,
            fault,
        };
        self.note_answer(&times, &answer);
    }

    /// What is wrong with an answer that is complete.
    fn judge(&self, request: u32, response: &Response) -> Option<ErrorClass> {
        if !self.plan.expect.has(response.status) {
            return Some(ErrorClass::Status);
        }
        let is_size_wrong = self
            .plan
            .expect_size
            .is_some_and(|size| size != response.body_bytes);
        if is_size_wrong {
            return Some(ErrorClass::Size);
        }
        let hash = response.body_hash?;
        (!self.is_known_body(request, hash)).then_some(ErrorClass::Body)
    }

    /// Counts what a broken connection leaves without an answer. What may be sent again is held.
    fn count(&self, idx: usize, breakdown: Breakdown, held: &mut VecDeque<Due>) -> ErrorClass {
        let class = breakdown.class(self.unused(idx));
        let now = self.rt.precise_now();
        let mut is_first = true;
        while let Some(flight) = self.arrive(idx) {
            match class {
                ErrorClass::EofIdleReuse => {
                    if is_first {
                        self.note_failure(class, flight.due.at);
                    }
                    held.push_back(flight.due);
                }
                ErrorClass::Timeout => self.note_timeout(&flight, now),
                _ => self.note_failure(class, flight.due.at),
            }
            is_first = false;
        }
        class
    }
}

/// What is particular to one connection while it is open.
#[derive(Debug, Default)]
struct Talk {
    sent: u64,
    answers: u64,
    last_done: Option<Instant>,
    /// Bytes of the last request that are not queued yet.
    rest: usize,
}

/// How the exchanges on one connection ended.
enum Ended {
    /// Nothing more is to be sent.
    TimeIsOver,
    /// One side closes, as it said.
    AsAgreed,
    /// With a failure that is not counted yet.
    Broken(Breakdown),
}

/// The failure that ended a connection.
#[derive(Clone, Copy, Debug)]
struct Breakdown {
    failure: Failure,
    /// Complete answers on this connection before.
    answers: u64,
}

impl Breakdown {
    fn new(failure: Failure, talk: &Talk) -> Self {
        Self {
            failure,
            answers: talk.answers,
        }
    }

    /// Which failure that is of a connection that was open for `unused` before its oldest request without an answer.
    ///
    /// A server may close a connection that has idled, whether that has had an answer or not. The request that it met is sent once
    /// more, on a new connection that has not idled: there the same end is an error.
    fn class(self, unused: Duration) -> ErrorClass {
        let has_idled = self.answers > 0 || unused >= IDLED_MIN;
        match self.failure {
            Failure::Closed(Came::Nothing) | Failure::Reset(Came::Nothing) if has_idled => {
                ErrorClass::EofIdleReuse
            }
            Failure::Closed(_) => ErrorClass::EofEarly,
            Failure::Reset(_) => ErrorClass::Reset,
            Failure::TimedOut => ErrorClass::Timeout,
            Failure::Malformed => ErrorClass::Parse,
        }
    }
}

async fn send_rest(conn: &Conn, rest: &[u8]) -> io::Result<()> {
    conn.flush().await?;
    for piece in rest.chunks(SEND_BYTES_MAX) {
        conn.write(piece)?;
        conn.flush().await?;
    }
    Ok(())
}

/// Sends in pieces, some each second, so that it takes as long as a slow client would.
async fn send_slowly(conn: &Conn, bytes: &[u8], per_second: u64) -> io::Result<()> {
    let piece_len = usize::try_from(per_second / SLOW_PIECES_PER_SECOND).unwrap_or(SEND_BYTES_MAX);
    for piece in bytes.chunks(piece_len.clamp(1, SEND_BYTES_MAX)) {
        conn.write(piece)?;
        conn.flush().await?;
        let nanos = (piece.len() as u64).saturating_mul(1_000_000_000) / per_second.max(1);
        conn.rt().sleep(Duration::from_nanos(nanos)).await;
    }
    Ok(())
}

/// Most that one slow connection holds of a long request.
const SEND_BYTES_MAX: usize = 256 * KIB;
const SLOW_PIECES_PER_SECOND: u64 = 20;
/// From here on a connection without a request has idled. A server that closes it sooner has not waited for one.
const IDLED_MIN: Duration = Duration::from_millis(100);
/// After a failure; doubled while connecting fails again, so that a dead target costs nothing.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(640);

#[cfg(test)]
mod tests {
    use super::*;

    /// 50,000 connections are to fit in 64 MiB, and each has its slot in the runtime besides.
    #[test]
    fn a_connection_costs_little_memory() {
        let words = ["hp-bench", "127.0.0.1:1"].map(std::ffi::OsString::from);
        let plan = crate::plan::Plan::resolve(&crate::cli::parse(words).unwrap(), 1).unwrap();
        let rt = hp_core::rt::Rt::new(&hp_core::rt::RtOptions {
            engine: hp_core::rt::Engine::Epoll,
            ..hp_core::rt::RtOptions::default()
        });
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let fleet = Fleet::new(
            rt.unwrap(),
            crate::plan::SharedPlan::new(plan),
            addr.into(),
            0,
        );
        let task = size_of_val(&fleet.drive(0, None));
        assert!(task <= 640, "{task} bytes");
    }

    #[test]
    fn closing_a_kept_connection_is_no_fault_of_the_answer() {
        let check = |failure, answers, want| {
            let unused = IDLED_MIN.saturating_sub(Duration::from_nanos(1));
            assert_eq!(Breakdown { failure, answers }.class(unused), want);
        };
        check(Failure::Closed(Came::Nothing), 1, ErrorClass::EofIdleReuse);
        check(Failure::Reset(Came::Nothing), 1, ErrorClass::EofIdleReuse);
        check(Failure::Closed(Came::Nothing), 0, ErrorClass::EofEarly);
        check(Failure::Closed(Came::Part), 1, ErrorClass::EofEarly);
        check(Failure::Reset(Came::Part), 1, ErrorClass::Reset);
        check(Failure::Reset(Came::Nothing), 0, ErrorClass::Reset);
    }

    #[test]
    fn closing_a_connection_that_waited_for_its_first_request_is_no_fault() {
        let check = |failure, want| {
            let first = Breakdown {
                failure,
                answers: 0,
            };
            assert_eq!(first.class(IDLED_MIN), want);
        };
        check(Failure::Closed(Came::Nothing), ErrorClass::EofIdleReuse);
        check(Failure::Reset(Came::Nothing), ErrorClass::EofIdleReuse);
        check(Failure::Closed(Came::Part), ErrorClass::EofEarly);
        check(Failure::Reset(Came::Part), ErrorClass::Reset);
        check(Failure::TimedOut, ErrorClass::Timeout);
    }
}
