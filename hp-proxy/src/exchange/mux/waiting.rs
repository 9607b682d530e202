//! Who waits for an answer on which lane. A place in this table is taken with the request and given back when its exchange is over,
//! whoever of the two sides ends first.

use super::lane::Lane;
use crate::exchange::Client;
use crate::exchange::error::Failure;
use crate::exchange::request::Request;
use crate::shared::{Generation, Local};
use crate::upstream::mux::LaneEnd;
use crate::upstream::{Lease, Upstream};
use hp_core::base::slab::{Key, Slab};
use hp_core::http::message::Reader;
use hp_core::rt::Instant;
use hp_core::rt::net::ConnName;
use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// The shared connections of one worker, and the exchanges that wait on them.
#[derive(Debug)]
pub(crate) struct Lanes {
    local: Rc<Local>,
    waiting: RefCell<Slab<Waiting>>,
    lanes: RefCell<Slab<Rc<Lane>>>,
    /// For answers, one at a time.
    out: RefCell<Vec<u8>>,
}

/// An exchange whose request is on a lane.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) generation: Rc<Generation>,
    pub(super) request: Request,
    pub(super) client: ConnName,
    /// When its request was written.
    pub(super) since: Instant,
    /// How much had been written to the lane behind it.
    pub(super) end: u64,
    /// The client has sent more already, so its task goes on without news.
    is_eager: bool,
    state: State,
    waker: Option<Waker>,
}

#[derive(Debug)]
enum State {
    Waits,
    /// The client has left: the answer is nobody's.
    Abandoned,
    Over(Outcome),
}

/// What became of a request on a lane.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Its answer was written to the client; whether that one was told that its connection lives on.
    Answered { keep: bool },
    /// Its answer has begun, or stays away; the connection is its own until it is over.
    Lent(Box<Loan>),
    /// Nothing of an answer came, and it may be sent again.
    Again,
    /// There is no answer.
    Failed(Failure),
}

/// A lane's connection in the hands of one exchange.
#[derive(Debug)]
pub(super) struct Loan {
    pub(super) lease: Lease,
    /// What has come, from the first byte of the exchange's answer on.
    pub(super) reader: Reader,
    /// When the request was written.
    pub(super) since: Instant,
    /// Requests were sent behind it. A backend that closes without having read them resets the connection, and what it has sent of
    /// this answer may be lost with it (RFC 9112 §9.6).
    pub(super) is_followed: bool,
    pub(super) giving: Giving,
}

/// The duty to give a connection back; dropped, it tells the lane that there is none any more.
#[derive(Debug)]
pub(super) struct Giving(Option<Rc<Lane>>);

/// A place among those who wait.
#[derive(Debug)]
pub(super) struct Ticket<'l> {
    lanes: &'l Lanes,
    key: Key,
}

impl Lanes {
    /// None as yet, of a worker.
    pub(crate) fn of(local: &Rc<Local>) -> Rc<Self> {
        Rc::new(Self {
            local: Rc::clone(local),
            waiting: RefCell::default(),
            lanes: RefCell::default(),
            out: RefCell::default(),
        })
    }

    /// Writes a request to a lane of an upstream, and waits there; `None` when no lane takes it.
    pub(super) fn enter(
        &self,
        worker: &Rc<Generation>,
        (upstream, request): (&Rc<Upstream>, &Request),
        client: &Client,
        head: &[u8],
    ) -> Option<Ticket<'_>> {
        let place = upstream.enter_lane(request.chosen.aim)?;
        let lanes = self.lanes.borrow();
        let posted = lanes
            .get(place.key)
            .and_then(|lane| Some((lane, lane.post(head)?)));
        let Some((lane, end)) = posted else {
            upstream.leave_lane(place);
            return None;
        };
        let now = worker.rt().now();
        let key = self.waiting.borrow_mut().insert(Waiting {
            generation: Rc::clone(worker),
            request: *request,
            client: client.conn.name(),
            since: now,
            end,
            is_eager: !client.reader.is_empty(),
            state: State::Waits,
            waker: None,
        });
        lane.push(key, (now, request.chosen.response_timeout));
        let row = worker.row();
        row.multiplexed.add(1);
        row.multiplexed_waiting.add(1);
        Some(Ticket { lanes: self, key })
    }

    /// What their worker's tasks share.
    pub(super) fn local(&self) -> &Local {
        &self.local
    }

    /// The table of those who wait.
    pub(super) fn waiting(&self) -> &RefCell<Slab<Waiting>> {
        &self.waiting
    }

    /// The table of lanes.
    pub(super) fn lanes(&self) -> &RefCell<Slab<Rc<Lane>>> {
        &self.lanes
    }

    /// Room to write an answer in.
    pub(super) fn out(&self) -> &RefCell<Vec<u8>> {
        &self.out
    }

    /// What becomes of a request is known. Its task goes on with it; where it has left, the place is free.
    pub(super) fn settle(&self, key: Key, outcome: Outcome) {
        let mut waiting = self.waiting.borrow_mut();
        let Some(one) = waiting.get_mut(key) else {
            return; // Never: it is on a lane.
        };
        if matches!(one.state, State::Abandoned) {
            let gone = waiting.remove(key);
            drop(waiting);
            return drop(gone); // An outcome may hold a connection: only once the table is nobody's.
        }
        one.state = State::Over(outcome);
        if let Some(waker) = one.waker.take() {
            waker.wake();
        }
    }
}

impl Waiting {
    /// Whether the client has left.
    pub(super) fn is_abandoned(&self) -> bool {
        matches!(self.state, State::Abandoned)
    }

    /// The answer was written, and the client told that its connection lives on. Its task has nothing to do before the client says
    /// more, or idles: it is not even woken.
    pub(super) fn rest(&mut self) {
        self.state = State::Over(Outcome::Answered { keep: true });
        let rt = self.generation.rt();
        if self.is_eager || rt.has_news_of(self.client) {
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        } else {
            let idle_until = rt.now() + self.generation.idle_grace();
            rt.set_deadline_of(self.client, Some(idle_until));
        }
    }
}

impl Ticket<'_> {
    /// Waits for what becomes of the request.
    pub(super) fn outcome(&self) -> impl Future<Output = Outcome> + '_ {
        poll_fn(|cx| {
            let mut waiting = self.lanes.waiting.borrow_mut();
            let Some(one) = waiting.get_mut(self.key) else {
                return Poll::Ready(Outcome::Again); // Never: the place is its own.
            };
            if let State::Over(_) = one.state {
                let State::Over(outcome) = std::mem::replace(&mut one.state, State::Abandoned)
                else {
                    unreachable!("it was just seen");
                };
                let gone = waiting.remove(self.key);
                drop(waiting);
                drop(gone);
                return Poll::Ready(outcome);
            }
            if one.waker.is_none() {
                one.waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut waiting = self.lanes.waiting.borrow_mut();
        let Some(one) = waiting.get_mut(self.key) else {
            return; // Its outcome was taken.
        };
        let gone = match one.state {
            State::Waits => {
                one.state = State::Abandoned;
                None
            }
            State::Abandoned | State::Over(_) => waiting.remove(self.key),
        };
        drop(waiting);
        drop(gone); // It may hold a connection.
    }
}

impl Giving {
    /// The duty towards a lane.
    pub(super) fn to(lane: &Rc<Lane>) -> Self {
        Self(Some(Rc::clone(lane)))
    }

    /// The head of the answer to what was sent at `since` is whole: the lane is judged by that, and not by a part of it.
    pub(super) fn begin_answer(&self, since: Instant) {
        if let Some(lane) = &self.0 {
            lane.begin_answer(since);
        }
    }

    /// Gives the connection back, with what has come behind the answer.
    pub(super) fn give_back(mut self, lease: Lease, reader: Reader) {
        if let Some(lane) = self.0.take() {
            lane.take_back(Ok((lease, reader.bytes().to_vec())));
        }
    }

    /// Gives none back: the endpoint takes no more on it.
    pub(super) fn close(mut self) {
        if let Some(lane) = self.0.take() {
            lane.take_back(Err(LaneEnd::Closed));
        }
    }

    /// Gives none back: the client left within the answer, and what is still to come of that is nobody's.
    pub(super) fn leave(mut self) {
        if let Some(lane) = self.0.take() {
            lane.take_back(Err(LaneEnd::Left));
        }
    }
}

impl Drop for Giving {
    fn drop(&mut self) {
        if let Some(lane) = self.0.take() {
            lane.take_back(Err(LaneEnd::Broken));
        }
    }
}
