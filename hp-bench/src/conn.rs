//! One connection's life: request, answer, request, answer; and a new connection when it breaks.
//!
//! ```text
//!            ┌───────────── answer ─────────────┐
//!            ▼                                  │
//! connect ─→ send at once ─→ wait for it all ───┤
//!    ▲                                          ├─ time is over → (end)
//!    ├───────── server closes, as it said ──────┤
//!    └── pause ───────── failure ───────────────┘
//! ```
//!
//! Must not know: threads, the clock's start, reports.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hp_core::base::units::KIB;
use hp_core::http::message::Reader;
use hp_core::rt::net::Conn;
use hp_core::rt::race::{First, race};
use hp_core::rt::{Instant, Rt};
use hp_core::wire::http1::framing::{NoReuse, Reuse};

use crate::plan::Plan;
use crate::record::{ErrorClass, Record};
use crate::response::{Came, Failure, Response, ResponseRules, broken};

/// What all connections of a thread share.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// The thread's runtime.
    pub(crate) rt: Rt,
    /// What was asked for.
    pub(crate) plan: Rc<Plan>,
    /// Borrowed within one poll only.
    pub(crate) record: RefCell<Record>,
    addr: SocketAddr,
    rules: ResponseRules,
    /// Nothing is sent from here on.
    end: Cell<Instant>,
    /// The last answer that came after `end`.
    last_answer: Cell<Instant>,
    /// When each connection sent what it waits for; `None` where it waits for nothing.
    in_flight: Vec<Cell<Option<Instant>>>,
}

impl Fleet {
    /// For `conns` connections to `addr`.
    pub(crate) fn new(rt: Rt, plan: Rc<Plan>, addr: SocketAddr, conns: u32) -> Self {
        Self {
            rt,
            record: RefCell::default(),
            addr,
            rules: ResponseRules::new(&plan.method, plan.keep_alive),
            plan,
            end: Cell::new(Instant::NEVER),
            last_answer: Cell::new(Instant::START),
            in_flight: (0..conns).map(|_| Cell::default()).collect(),
        }
    }

    /// Sets the time of the last send.
    pub(crate) fn end_at(&self, end: Instant) {
        self.end.set(end);
    }

    /// The time of the last send, or of the last answer if that came later.
    pub(crate) fn ended_at(&self) -> Instant {
        self.end.get().max(self.last_answer.get())
    }

    /// Counts what is still under way as given up, and expects no answer to it any more.
    pub(crate) fn give_up(&self, now: Instant) {
        for sent in self.in_flight.iter().filter_map(Cell::take) {
            self.record.borrow_mut().give_up(now - sent);
        }
    }

    /// Opens a connection and counts it, or its failure.
    pub(crate) async fn connect(&self) -> Result<Conn, ErrorClass> {
        let begun = self.rt.precise_now();
        match self.rt.connect(self.addr, begun + self.plan.timeout).await {
            Ok(conn) => {
                self.record
                    .borrow_mut()
                    .connected(self.rt.precise_now() - begun);
                Ok(conn)
            }
            Err(error) => {
                let class = connect_class(&error);
                self.record.borrow_mut().errors.count(class);
                Err(class)
            }
        }
    }

    /// Keeps one connection busy until the end; `first` is the one it begins with, if it has one.
    pub(crate) async fn drive(&self, idx: usize, first: Option<Conn>) {
        let mut conn = first;
        let mut pause = PAUSE_MIN;
        while self.rt.now() < self.end.get() {
            let Some(open) = conn.take() else {
                match self.connect().await {
                    Ok(open) => conn = Some(open),
                    Err(_counted) => {
                        self.rt.sleep(pause).await;
                        pause = (pause * 2).min(PAUSE_MAX);
                    }
                }
                continue;
            };
            match self.exchanges(idx, &open).await {
                Ended::TimeIsOver => return,
                Ended::AsAgreed => pause = PAUSE_MIN,
                Ended::Broken(breakdown) => {
                    pause = PAUSE_MIN;
                    if self.count(idx, &breakdown) != ErrorClass::EofIdleReuse {
                        self.rt.sleep(pause).await;
                    }
                }
            }
        }
    }

    /// Exchanges requests and answers until the connection or the time ends.
    async fn exchanges(&self, idx: usize, conn: &Conn) -> Ended {
        let mut reader = Reader::new();
        let mut answers = 0;
        let mut sent = self.rt.precise_now();
        while sent < self.end.get() {
            self.in_flight[idx].set(Some(sent));
            conn.set_deadline(Some(sent + self.plan.timeout));
            let response = match self.exchange(conn, &mut reader).await {
                Ok(response) => response,
                Err(failure) => {
                    return Ended::Broken(Breakdown {
                        failure,
                        sent,
                        answers,
                    });
                }
            };
            // One look at the clock ends this exchange and begins the next.
            let done = self.rt.precise_now();
            self.in_flight[idx].set(None);
            let Response {
                status,
                bytes,
                reuse,
            } = response;
            self.record.borrow_mut().answer(done - sent, status, bytes);
            if reuse != Reuse::Yes {
                self.note_late(done);
                return Ended::AsAgreed;
            }
            answers += 1;
            sent = done;
        }
        if answers > 0 {
            self.note_late(sent);
        }
        Ended::TimeIsOver
    }

    fn note_late(&self, done: Instant) {
        self.last_answer.set(self.last_answer.get().max(done));
    }

    /// Sends the request and reads its answer.
    async fn exchange(&self, conn: &Conn, reader: &mut Reader) -> Result<Response, Failure> {
        let request = self.plan.request.as_slice();
        let (first, rest) = request.split_at(request.len().min(SEND_BYTES_MAX));
        {
            let mut record = self.record.borrow_mut();
            record.requests += 1;
            record.bytes_out += request.len() as u64;
        }
        conn.write(first)
            .and_then(|()| conn.send_now()) // The clock runs from here.
            .map_err(|error| broken(&error, Came::Nothing))?;
        if rest.is_empty() && conn.queued() == 0 {
            return self.rules.read(conn, reader).await;
        }
        // A server may answer, even echo, before it has read all.
        let is_sent = Cell::new(false);
        let send = async {
            match send_rest(conn, rest).await {
                Ok(()) => is_sent.set(true),
                Err(_closed) => (), // An answer may be there although the request was not taken whole.
            }
            pending().await
        };
        match race(self.rules.read(conn, reader), send).await {
            First::One(Ok(response)) if !is_sent.get() => Ok(Response {
                reuse: Reuse::No(NoReuse::RequestUnfinished),
                ..response
            }),
            First::One(response) => response,
            First::Other(never) => never,
        }
    }

    /// Counts a broken exchange under its class.
    fn count(&self, idx: usize, breakdown: &Breakdown) -> ErrorClass {
        let class = breakdown.class();
        let is_counted = self.in_flight[idx].take().is_none();
        let mut record = self.record.borrow_mut();
        match class {
            _ if is_counted => (),
            ErrorClass::Timeout => record.give_up(self.rt.precise_now() - breakdown.sent),
            _ => record.errors.count(class),
        }
        class
    }
}

/// How the exchanges on one connection ended.
enum Ended {
    /// Nothing more is to be sent.
    TimeIsOver,
    /// The server closes, as it said.
    AsAgreed,
    /// With a failure that is not counted yet.
    Broken(Breakdown),
}

/// The failure that ended a connection.
struct Breakdown {
    failure: Failure,
    /// When the request was sent that has no answer.
    sent: Instant,
    /// Complete answers on this connection before.
    answers: u64,
}

impl Breakdown {
    fn class(&self) -> ErrorClass {
        match self.failure {
            Failure::Closed(Came::Nothing) | Failure::Reset(Came::Nothing) if self.answers > 0 => {
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

fn connect_class(error: &io::Error) -> ErrorClass {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ErrorClass::ConnectRefused,
        io::ErrorKind::TimedOut => ErrorClass::ConnectTimeout,
        io::ErrorKind::AddrNotAvailable => ErrorClass::LocalPorts,
        _ => match error.raw_os_error() {
            Some(ENFILE | EMFILE) => ErrorClass::LocalFds,
            _ => ErrorClass::ConnectOther,
        },
    }
}

/// Most that one slow connection holds of a long request.
const SEND_BYTES_MAX: usize = 256 * KIB;
/// After a failure; doubled while connecting fails again, so that a dead target costs nothing.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(640);
/// errno(3): the system's, and the process's, table of open files is full. They have no `ErrorKind`.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_a_kept_connection_is_no_fault_of_the_answer() {
        let check = |failure, answers, want| {
            assert_eq!(
                Breakdown {
                    failure,
                    sent: Instant::START,
                    answers
                }
                .class(),
                want
            );
        };
        check(Failure::Closed(Came::Nothing), 1, ErrorClass::EofIdleReuse);
        check(Failure::Reset(Came::Nothing), 1, ErrorClass::EofIdleReuse);
        check(Failure::Closed(Came::Nothing), 0, ErrorClass::EofEarly);
        check(Failure::Closed(Came::Part), 1, ErrorClass::EofEarly);
        check(Failure::Reset(Came::Part), 1, ErrorClass::Reset);
        check(Failure::Reset(Came::Nothing), 0, ErrorClass::Reset);
    }

    #[test]
    fn connect_errors_have_classes_by_whose_fault_they_are() {
        let check = |errno, want| {
            assert_eq!(connect_class(&io::Error::from_raw_os_error(errno)), want);
        };
        check(111, ErrorClass::ConnectRefused);
        check(110, ErrorClass::ConnectTimeout);
        check(99, ErrorClass::LocalPorts);
        check(EMFILE, ErrorClass::LocalFds);
        check(113, ErrorClass::ConnectOther);
    }
}
