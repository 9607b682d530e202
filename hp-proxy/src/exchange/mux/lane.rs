//! A connection that several exchanges share, and its task, which reads what comes on it.
//!
//! ```text
//! Here ─an answer that is long or in parts→ Lent ─it is over→ Here
//!  │                                          └─the connection is no more→ (ends)
//!  ├─ nobody waits for a while ─► (ends; the connection is kept for exchanges of its own)
//!  └─ closed, broken, stalled ─► (ends; whoever has had nothing of an answer is sent again)
//! ```

mod ending;

use super::split::{Split, Stop};
use super::waiting::{Giving, Lanes, Loan, Outcome};
use crate::upstream::mux::LaneEnd;
use crate::upstream::{LanePlace, Lease, Upstream};
use hp_core::base::slab::Key;
use hp_core::http::message::Reader;
use hp_core::rt::Instant;
use hp_core::rt::net::{Lent, Rx};
use hp_core::rt::race::{First, race};
use hp_core::wire::http1::head::Version;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// One shared connection.
#[derive(Debug)]
pub(super) struct Lane {
    upstream: Rc<Upstream>,
    place: Cell<LanePlace>,
    hold: RefCell<Hold>,
    /// Who waits, in the order of their requests, but for the one that the connection is lent to.
    queue: RefCell<VecDeque<Key>>,
    /// Since when the first of them has been the first.
    first_since: Cell<Instant>,
    /// Bytes written to the connection.
    written: Cell<u64>,
    inbox: RefCell<Inbox>,
    /// Requests that were answered over it.
    answers: Cell<u32>,
    /// Requests behind the first were sent, and are waited for elsewhere.
    has_followers: Cell<bool>,
    /// How it is going to end, once no more requests are taken.
    ending: Cell<Option<LaneEnd>>,
    /// The lane's task.
    waker: RefCell<Option<Waker>>,
}

/// Who has the connection.
#[derive(Debug)]
enum Hold {
    Here(Lease),
    Lent,
    /// Whoever had it is done.
    Back(Back),
    /// It was given up.
    Gone,
}

/// What comes back from an exchange: the connection, with what has come behind its answer, or how it ended.
type Back = Result<(Lease, Vec<u8>), LaneEnd>;

/// The beginning of an answer of which more has to come.
#[derive(Debug, Default)]
struct Inbox {
    bytes: Vec<u8>,
    /// It is whole at so many bytes, as far as is known.
    needed: usize,
    /// How often it was looked at in vain.
    looks: u32,
}

/// What a lane's task goes on with.
enum Event {
    Data(Lent),
    /// The connection has ended, or failed.
    Ended,
    /// The first has waited for long, or nobody waits.
    Late,
    Back(Back),
}

/// Whether a lane goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    On,
    End,
}

impl Lane {
    /// Makes a connection one that requests share. Its exchange is over, and it may be reused.
    pub(super) fn begin(lanes: &Rc<Lanes>, mut lease: Lease) {
        let limit = lease.become_lane();
        if limit.uses_left == 0 {
            return lease.put_back();
        }
        let now = lanes.local().rt().now();
        lease.conn().set_deadline(Some(now + IDLE_TIME));
        let nowhere = Key {
            index: u32::MAX,
            generation: 0,
        };
        let lane = Rc::new(Self {
            upstream: Rc::clone(lease.upstream()),
            place: Cell::new(LanePlace {
                endpoint: lease.endpoint(),
                key: nowhere,
            }),
            hold: RefCell::new(Hold::Here(lease)),
            queue: RefCell::default(),
            first_since: Cell::new(now),
            written: Cell::default(),
            inbox: RefCell::default(),
            answers: Cell::default(),
            has_followers: Cell::default(),
            ending: Cell::default(),
            waker: RefCell::default(),
        });
        let key = lanes.lanes().borrow_mut().insert(Rc::clone(&lane));
        let place = LanePlace {
            key,
            ..lane.place()
        };
        lane.place.set(place);
        lane.upstream.begin_lane(place, limit);
        let ending = Ending {
            lanes: Rc::clone(lanes),
            lane,
        };
        lanes.local().rt().spawn(ending.run());
    }

    /// Writes a request; gives how much was written with it, or `None` when the lane does not take it.
    pub(super) fn post(&self, head: &[u8]) -> Option<u64> {
        if self.ending.get().is_some() {
            return None;
        }
        let hold = self.hold.borrow();
        let Hold::Here(lease) = &*hold else {
            return None;
        };
        let conn = lease.conn();
        // Where nobody waits, whatever comes was not asked for.
        if conn.queued() > UNTAKEN_MAX || (self.queue.borrow().is_empty() && conn.has_news()) {
            return None;
        }
        conn.gather(head).ok()?;
        let written = self.written.get() + head.len() as u64;
        self.written.set(written);
        Some(written)
    }

    /// Whose request was written waits for its answer, which may take so long.
    pub(super) fn push(&self, key: Key, (now, response_timeout): (Instant, Duration)) {
        let mut queue = self.queue.borrow_mut();
        if queue.is_empty() {
            self.first_since.set(now);
            if let Hold::Here(lease) = &*self.hold.borrow() {
                let patience = self.stall().min(response_timeout);
                lease.conn().set_deadline(Some(now + patience));
            }
        }
        queue.push_back(key);
    }

    /// The connection comes back from the exchange that it was lent to, or it does not.
    pub(super) fn take_back(&self, back: Back) {
        self.upstream.leave_lane(self.place());
        self.hold.replace(Hold::Back(back));
        self.wake();
    }

    /// Gives the connection, on which nobody waits, back to those that exchanges have for themselves.
    pub(super) fn let_go(&self, lanes: &Lanes) {
        if self.queue.borrow().is_empty() && !self.is_lent() {
            self.put_back(lanes);
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn place(&self) -> LanePlace {
        self.place.get()
    }

    /// Who waits for the next answer.
    #[inline]
    pub(super) fn first(&self) -> Option<Key> {
        self.queue.borrow().front().copied()
    }

    pub(super) fn pop_first(&self) {
        self.queue.borrow_mut().pop_front();
    }

    /// The first has its answer, in a version, to what was sent at `since`.
    pub(super) fn note_answer(&self, lanes: &Lanes, (since, version): (Instant, Version)) {
        lanes.local().row().multiplexed_waiting.subtract(1);
        self.upstream.answer_on_lane(self.place(), since);
        if version == Version::Http10
            && let Hold::Here(lease) = &mut *self.hold.borrow_mut()
        {
            lease.note_version(version);
        }
    }

    /// The head of an answer, to what was sent at `since`, is whole in the hands of the exchange that the connection is lent to.
    pub(super) fn begin_answer(&self, since: Instant) {
        self.upstream.begin_answer_on_lane(self.place(), since);
    }

    /// One of those who wait leaves without an answer from the lane.
    pub(super) fn leave(&self, lanes: &Lanes) {
        lanes.local().row().multiplexed_waiting.subtract(1);
        self.upstream.leave_lane(self.place());
    }

    fn stall(&self) -> Duration {
        let bounds = self.upstream.multiplex();
        bounds.map_or(STALL_OF_NO_BOUNDS, |bounds| bounds.stall)
    }

    /// What happens next on the connection.
    async fn next(&self) -> Event {
        poll_fn(|cx| {
            let mut waker = self.waker.borrow_mut();
            if waker.is_none() {
                *waker = Some(cx.waker().clone());
            }
            let mut hold = self.hold.borrow_mut();
            match &mut *hold {
                Hold::Here(lease) => lease.conn().poll_recv(cx).map(|received| match received {
                    Ok(Rx::Data(lent)) => Event::Data(lent),
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => Event::Late,
                    Ok(Rx::Eof) | Err(_) => Event::Ended,
                }),
                Hold::Lent => Poll::Pending,
                Hold::Back(back) => {
                    let back = std::mem::replace(back, Err(LaneEnd::Broken));
                    Poll::Ready(Event::Back(back))
                }
                Hold::Gone => Poll::Ready(Event::Ended),
            }
        })
        .await
    }

    fn is_lent(&self) -> bool {
        matches!(&*self.hold.borrow(), Hold::Lent)
    }

    /// Whether others wait for the end of an answer that its exchange passes on.
    fn keeps_waiting(&self) -> bool {
        self.is_lent() && self.first().is_some() && self.ending.get().is_none()
    }

    /// Takes up what has come.
    fn receive(&self, lanes: &Lanes, lent: &[u8]) -> Flow {
        let sent = self.sent();
        let mut inbox = self.inbox.borrow_mut();
        let split = if inbox.bytes.is_empty() {
            let split = self.split(lanes, lent, sent);
            let rest = lent.get(split.used..).unwrap_or_default();
            if !rest.is_empty() {
                inbox.bytes.reserve(rest.len().max(INBOX_BYTES)); // At once, not by and by.
                inbox.bytes.extend_from_slice(rest);
            }
            split
        } else {
            inbox.bytes.extend_from_slice(lent);
            if inbox.bytes.len() < inbox.needed {
                return Flow::On;
            }
            let split = self.split(lanes, &inbox.bytes, sent);
            inbox.bytes.drain(..split.used);
            split
        };
        drop(inbox);
        self.go_on(lanes, split)
    }

    /// How much of what was written the backend can have read.
    fn sent(&self) -> u64 {
        let unsent = match &*self.hold.borrow() {
            Hold::Here(lease) => lease.conn().unsent() as u64,
            Hold::Lent | Hold::Back(_) | Hold::Gone => 0,
        };
        self.written.get().saturating_sub(unsent)
    }

    /// Goes on behind the answers that were split off.
    fn go_on(&self, lanes: &Lanes, split: Split) -> Flow {
        let now = lanes.local().rt().now();
        if split.answers > 0 {
            let answers = self.answers.get().saturating_add(split.answers);
            self.answers.set(answers);
            self.first_since.set(now);
        }
        let needed = match split.stop {
            Stop::More(needed) => needed,
            Stop::Lend => return self.lend(lanes),
            Stop::End => return Flow::End,
        };
        let mut inbox = self.inbox.borrow_mut();
        inbox.needed = needed;
        inbox.looks = match (inbox.bytes.is_empty(), split.answers) {
            (true, _) => 0,
            (false, 0) => inbox.looks + 1,
            (false, _) => 1,
        };
        // A head that dribbles, or the last answer of all: its own exchange has the means for that.
        let is_lent = !inbox.bytes.is_empty()
            && (self.ending.get().is_some() || (needed == 0 && inbox.looks > LOOKS_MAX));
        drop(inbox);
        if is_lent {
            return self.lend(lanes);
        }
        if self.upstream.wants_lane_back(self.place()) {
            self.upstream.close_lane(self.place()); // It goes back when nobody waits on it.
        }
        if self.first().is_some() {
            self.watch_first(lanes);
            return Flow::On;
        }
        if self.ending.get().is_some() {
            return Flow::End;
        }
        if self.upstream.has_queue() || self.upstream.is_lane_spent(self.place()) {
            return self.put_back(lanes);
        }
        self.set_deadline(now + IDLE_TIME);
        Flow::On
    }

    /// Sets when it is looked at the first again.
    fn watch_first(&self, lanes: &Lanes) {
        let Some(until) = self.deadline_of_first(lanes) else {
            return;
        };
        let is_stalled = self.ending.get().is_some();
        let stall = self.first_since.get() + self.stall();
        self.set_deadline(if is_stalled { until } else { until.min(stall) });
    }

    /// When the answer to the first must have begun; `None` where nobody waits.
    fn deadline_of_first(&self, lanes: &Lanes) -> Option<Instant> {
        let key = self.first()?;
        let waiting = lanes.waiting().borrow();
        let one = waiting.get(key)?;
        Some(one.since + one.request.chosen.response_timeout)
    }

    fn set_deadline(&self, deadline: Instant) {
        if let Hold::Here(lease) = &*self.hold.borrow() {
            lease.conn().set_deadline(Some(deadline));
        }
    }

    /// Lends the connection to the first, with what has come of its answer.
    fn lend(&self, lanes: &Lanes) -> Flow {
        let Some(key) = self.first() else {
            return Flow::End; // Never: there is an answer.
        };
        let since = {
            let waiting = lanes.waiting().borrow();
            let one = waiting.get(key).filter(|one| !one.is_abandoned());
            one.map(|one| one.since)
        };
        let Some(since) = since else {
            return self.abandon(lanes, key);
        };
        let Some(lane) = self.myself(lanes) else {
            return Flow::End; // Never: the table has it until it ends.
        };
        let Hold::Here(mut lease) = self.hold.replace(Hold::Lent) else {
            self.hold.replace(Hold::Gone);
            return Flow::End; // Never: only what is here is received on.
        };
        lease.begin_exchange(since);
        self.pop_first();
        lanes.local().row().multiplexed_waiting.subtract(1); // For balancing it counts until the connection comes back.
        self.upstream.close_lane(self.place());
        let inbox = self.inbox.take();
        let is_followed = self.has_followers.get() || !self.queue.borrow().is_empty();
        let loan = Loan {
            lease,
            reader: Reader::from(inbox.bytes),
            since,
            is_followed,
            giving: Giving::to(&lane),
        };
        lanes.settle(key, Outcome::Lent(Box::new(loan)));
        Flow::On
    }

    /// Nobody takes the answer to the first, and nobody knows where it ends.
    #[cold]
    fn abandon(&self, lanes: &Lanes, key: Key) -> Flow {
        self.pop_first();
        self.leave(lanes);
        lanes.settle(key, Outcome::Again); // It has left: its place is free now.
        self.note_end(self.judged(LaneEnd::Left));
        Flow::End
    }

    fn myself(&self, lanes: &Lanes) -> Option<Rc<Self>> {
        let lanes = lanes.lanes().borrow();
        lanes.get(self.place().key).map(Rc::clone)
    }

    /// The connection is back from an exchange.
    fn resume(&self, lanes: &Lanes, back: Back) -> Flow {
        let (lease, bytes) = match back {
            Ok(back) => back,
            Err(end) => {
                self.hold.replace(Hold::Gone);
                self.stop(lanes, self.judged(end));
                return Flow::End;
            }
        };
        self.hold.replace(Hold::Here(lease));
        self.answers.set(self.answers.get().saturating_add(1));
        if self.ending.get().is_some() {
            return Flow::End;
        }
        self.upstream.reopen_lane(self.place());
        self.first_since.set(lanes.local().rt().now());
        self.receive(lanes, &bytes)
    }
}

/// The task of a lane. However it ends, nobody waits for it any more.
struct Ending {
    lanes: Rc<Lanes>,
    lane: Rc<Lane>,
}

impl Ending {
    async fn run(self) {
        let Self { lanes, lane } = &self;
        loop {
            let event = if lane.keeps_waiting() {
                let pause = lanes.local().rt().sleep(lane.stall());
                match race(lane.next(), pause).await {
                    First::One(event) => event,
                    First::Other(()) => {
                        lane.stop(lanes, LaneEnd::Stalled);
                        continue;
                    }
                }
            } else {
                lane.next().await
            };
            let flow = match event {
                Event::Data(lent) => lane.receive(lanes, &lent),
                Event::Ended => lane.be_ended(lanes),
                Event::Late => lane.be_late(lanes),
                Event::Back(back) => lane.resume(lanes, back),
            };
            if flow == Flow::End {
                return;
            }
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let Self { lanes, lane } = self;
        let end = lane.ending.get().unwrap_or(LaneEnd::Broken);
        lane.ending.set(Some(end));
        let lease = lane.hold.replace(Hold::Gone);
        let place = lane.place();
        let waiting = lane.queue.take();
        lane.send_again(lanes, waiting, LaneEnd::Broken);
        lane.upstream.end_lane(place, end);
        let kept = lanes.lanes().borrow_mut().remove(place.key);
        drop((lease, kept)); // Closing wakes others: nothing is borrowed by now.
    }
}

/// How long a lane waits for requests: then its connection idles as others do, without a task.
const IDLE_TIME: Duration = Duration::from_secs(5);
/// What a backend may leave of requests, in bytes, before it gets more.
const UNTAKEN_MAX: usize = 64 * 1024;
/// Room for the end of one receive and the next one.
const INBOX_BYTES: usize = 8 * 1024;
/// A head in so many pieces is read by its own exchange.
const LOOKS_MAX: u32 = 2;
/// Of a lane whose upstream shares no more.
const STALL_OF_NO_BOUNDS: Duration = Duration::from_millis(50);
