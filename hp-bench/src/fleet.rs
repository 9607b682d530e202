//! What all connections of a thread share: the plan, the schedule, the counts.
//!
//! Must not know: what is said on a connection.

mod connect_class;
mod health;
mod pace;
mod stall;
mod turns;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use hp_core::rt::net::{Address, Conn};
use hp_core::rt::{Instant, Rt};

use crate::cli::load::Stamp;
use crate::dice::Dice;
use crate::flights::{Flight, Flights};
use crate::pacer::{Due, Meeting};
use crate::plan::{Pace, SharedPlan};
use crate::record::{Answer, Clock, ErrorClass, Record};
use crate::request::Request;
use crate::response::ResponseRules;
use crate::samples::{Samples, Times};
use crate::schedule::Arrivals;

use connect_class::connect_class;
use health::Health;
pub(crate) use stall::Stop;

/// What all connections of a thread share.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// The thread's runtime.
    pub(crate) rt: Rt,
    /// What was asked for.
    pub(crate) plan: SharedPlan,
    /// What counts. Borrowed within one poll only, as all the others here.
    pub(crate) record: RefCell<Record>,
    /// What was asked for outside of the counted window.
    uncounted: RefCell<Record>,
    pub(crate) rules: ResponseRules,
    /// Connections are opened for the request that needs them.
    pub(crate) connects_on_demand: bool,
    /// A connection takes more requests while it waits for an answer.
    pub(crate) sends_meanwhile: bool,
    pub(crate) window: Window,
    pub(crate) health: Health,
    /// Where connections get their requests, with one schedule for all.
    pub(crate) meeting: Option<Meeting>,
    /// Each connection's own schedule.
    own_schedules: Vec<RefCell<Arrivals>>,
    address: Address,
    /// Connections that were begun, to take the local addresses in turn.
    sources_used: Cell<usize>,
    worker: u32,
    /// When each connection was opened last.
    opened_at: Vec<Cell<Instant>>,
    flights: Vec<RefCell<Flights>>,
    /// Connections whose exchange is to stop; none where that was not asked for.
    stops: Vec<Cell<bool>>,
    dice: RefCell<Dice>,
    /// Counted requests that may still be sent.
    left: Cell<u64>,
    /// Arrivals drawn by chance that were given up one by one.
    given_up_singly: Cell<u32>,
    /// Hash of the first body of each request.
    bodies: RefCell<Vec<Option<u64>>>,
    /// The last counted answer.
    last_answer: Cell<Instant>,
    has_failed: Cell<bool>,
    failure_waiter: RefCell<Option<Waker>>,
}

/// The points in time of a run, in their order; `NEVER` before they are known.
#[derive(Debug)]
pub(crate) struct Window {
    /// The first request is due.
    pub(crate) begin: Cell<Instant>,
    /// From here on it counts.
    pub(crate) from: Cell<Instant>,
    /// From here on it does not count any more.
    pub(crate) end: Cell<Instant>,
    /// Nothing is sent from here on.
    pub(crate) stop: Cell<Instant>,
}

impl Window {
    fn has(&self, at: Instant) -> bool {
        self.from.get() <= at && at < self.end.get()
    }

    /// Ends everything now that was to end later.
    pub(crate) fn cut(&self, now: Instant) {
        for point in [&self.from, &self.end, &self.stop] {
            point.set(point.get().min(now));
        }
    }
}

impl Fleet {
    /// For one thread's connections.
    pub(crate) fn new(rt: Rt, plan: SharedPlan, address: Address, worker: u32) -> Self {
        let conns = plan.share(worker);
        let clock = if plan.counts_from_intended() {
            Clock::Response
        } else {
            Clock::Service
        };
        let (mut meeting, mut own_schedules) = (None, Vec::new());
        match &plan.pace {
            Pace::Closed => (),
            Pace::Rate(pace) if pace.per_conn => {
                let rate = Rc::new(pace.rate.clone());
                own_schedules.extend((0..conns).map(|idx| {
                    let index = idx * plan.threads + worker;
                    let rate = Rc::clone(&rate);
                    let arrivals =
                        Arrivals::new(rate, pace.arrival, index, plan.connections, plan.seed);
                    RefCell::new(arrivals)
                }));
            }
            Pace::Rate(_) | Pace::Recorded => meeting = Some(Meeting::new(conns)),
        }
        if plan.stamp == Stamp::Event {
            rt.keep_stamps();
        }
        let mut record = Record::with_clock(clock);
        record.samples = plan.samples_room().map(Samples::with_room);
        Self {
            rt,
            record: RefCell::new(record),
            uncounted: RefCell::new(Record::with_clock(clock)),
            rules: ResponseRules::new(plan.pipeline > 1, plan.drain, plan.stamp),
            connects_on_demand: plan.connects_on_demand(),
            sends_meanwhile: plan.pipeline > 1 && plan.pace != Pace::Closed,
            window: Window {
                begin: Cell::new(Instant::NEVER),
                from: Cell::new(Instant::NEVER),
                end: Cell::new(Instant::NEVER),
                stop: Cell::new(Instant::NEVER),
            },
            health: Health::new(conns),
            meeting,
            own_schedules,
            address,
            sources_used: Cell::new(worker as usize),
            worker,
            opened_at: (0..conns).map(|_| Cell::new(Instant::START)).collect(),
            flights: (0..conns).map(|_| RefCell::default()).collect(),
            stops: match plan.stall {
                Some(_) => (0..conns).map(|_| Cell::new(false)).collect(),
                None => Vec::new(),
            },
            dice: RefCell::new(Dice::new(plan.seed ^ u64::from(worker) << 40)),
            left: Cell::new(plan.requests_share(worker)),
            given_up_singly: Cell::new(0),
            bodies: RefCell::new(vec![None; plan.requests.len()]),
            last_answer: Cell::new(Instant::START),
            has_failed: Cell::new(false),
            failure_waiter: RefCell::default(),
            plan,
        }
    }

    /// Sets the points in time, from that of the first request on.
    pub(crate) fn begin_at(&self, begin: Instant) {
        let (plan, window) = (&self.plan, &self.window);
        window.begin.set(begin);
        window.from.set(begin + plan.warmup);
        window.end.set(begin + plan.warmup + plan.duration);
        let rest = if plan.sends_all {
            plan.timeout
        } else {
            Duration::ZERO
        };
        window.stop.set(window.end.get() + plan.cooldown.max(rest));
        let ramp = plan.ramp_conns;
        self.health
            .begin(begin, if ramp.is_zero() { None } else { Some(ramp) });
    }

    /// Stops sending at once.
    pub(crate) fn halt(&self) {
        self.window.cut(self.rt.precise_now());
        if let Some(meeting) = &self.meeting {
            meeting.end();
        }
        self.rt.wake_all();
    }

    /// Whether nothing more is to be sent.
    pub(crate) fn is_over(&self) -> bool {
        self.rt.now() >= self.window.stop.get()
    }

    /// When what is due and not sent is given up.
    fn given_up_at(&self) -> Instant {
        if self.plan.sends_all {
            self.window.stop.get()
        } else {
            self.window.end.get()
        }
    }

    /// Whether this connection gets no more requests.
    pub(crate) fn has_had_all(&self, idx: usize) -> bool {
        self.meeting
            .as_ref()
            .is_some_and(|meeting| meeting.is_over() && !meeting.has_given(idx))
    }

    /// The end of the counted window; without a schedule the last answer, if that came later, or if no more were asked.
    pub(crate) fn ended_at(&self) -> Instant {
        let (end, last) = (self.window.end.get(), self.last_answer.get());
        if self.plan.requests_max.is_some() && self.left.get() == 0 {
            return last.max(self.window.from.get());
        }
        match self.plan.pace {
            Pace::Closed => end.max(last),
            Pace::Recorded if self.plan.sends_all => end.max(last),
            Pace::Rate(_) | Pace::Recorded => end,
        }
    }

    /// Counts what is still under way as given up, and expects no answer to it any more.
    pub(crate) fn give_up(&self, now: Instant) {
        for idx in 0..self.flights.len() {
            while let Some(flight) = self.arrive(idx) {
                self.note_timeout(&flight, now);
            }
        }
    }

    /// Which of the plan's requests a due one is.
    pub(crate) fn request(&self, request: u32) -> &Request {
        let requests = &self.plan.requests;
        requests
            .get(request as usize)
            .unwrap_or_else(|| requests.first().expect("a plan has a request"))
    }

    /// Waits for the connection's turn, where they are opened one after the other.
    pub(crate) async fn begin_in_turn(&self, idx: usize) {
        let ramp = self.plan.ramp_conns;
        if !ramp.is_zero() {
            let place = u32::try_from(idx)
                .unwrap_or(u32::MAX)
                .saturating_mul(self.plan.threads);
            let wait =
                ramp.mul_f64(f64::from(place + self.worker) / f64::from(self.plan.connections));
            self.until(self.window.begin.get() + wait).await;
        }
    }

    /// Waits, or until the end.
    pub(crate) async fn pause(&self, length: Duration) {
        self.until(self.rt.now() + length).await;
    }

    /// Waits for a point in time, or the end, to the millisecond.
    pub(crate) async fn until(&self, at: Instant) {
        self.unless_over(self.rt.sleep_until(at.min(self.window.stop.get())))
            .await;
    }

    /// The same to the nanosecond.
    pub(crate) async fn precisely_until(&self, at: Instant) {
        self.unless_over(self.rt.alarm_at(at)).await;
    }

    /// Looks again at whether it is over when all tasks are woken.
    async fn unless_over(&self, wait: impl Future<Output = ()>) {
        let mut wait = pin!(wait);
        poll_fn(|cx| {
            if self.is_over() {
                return Poll::Ready(());
            }
            wait.as_mut().poll(cx)
        })
        .await;
    }

    /// Opens a connection and counts it, or its failure.
    pub(crate) async fn connect(&self, idx: usize) -> Result<Conn, ErrorClass> {
        let begun = self.rt.precise_now();
        let connected = self.open(begun).await;
        let now = self.rt.precise_now();
        let class = match connected {
            Ok(conn) => {
                self.record_of_connect(begun)
                    .borrow_mut()
                    .connected(now - begun);
                self.health.up(idx, now, &self.window);
                self.opened_at[idx].set(now);
                return Ok(conn);
            }
            Err(error) => connect_class(&error),
        };
        self.health.down(idx, now, &self.window);
        if now < self.window.stop.get() {
            self.record_of_connect(begun)
                .borrow_mut()
                .errors
                .count(class);
            self.failed();
        }
        Err(class)
    }

    /// Opens one that belongs to none of the places, and counts nothing.
    pub(crate) async fn open_plainly(&self) -> Option<Conn> {
        self.open(self.rt.precise_now()).await.ok()
    }

    async fn open(&self, begun: Instant) -> io::Result<Conn> {
        let deadline = (begun + self.plan.connect_timeout).min(self.window.stop.get());
        match &self.address {
            Address::Tcp(addr) => {
                self.rt
                    .connect_from(self.next_source(), *addr, deadline)
                    .await
            }
            Address::Unix(path) => self.rt.connect_unix(path, deadline).await,
        }
    }

    /// The local addresses are taken in turn.
    fn next_source(&self) -> Option<IpAddr> {
        let sources = &self.plan.src;
        let place = self
            .sources_used
            .replace(self.sources_used.get().wrapping_add(1));
        sources.get(place.checked_rem(sources.len())?).copied()
    }

    /// A connection broke, and is not open again yet.
    pub(crate) fn went_down(&self, idx: usize) {
        self.health.down(idx, self.rt.now(), &self.window);
    }

    /// Waits for the next request that this connection is to send; `None` at the end.
    pub(crate) async fn next_due(&self, idx: usize, last_done: Option<Instant>) -> Option<Due> {
        if let Some(meeting) = &self.meeting {
            return meeting.next(idx).await;
        }
        let Some(own) = self.own_schedules.get(idx) else {
            return match self.plan.turns {
                Some(turns) => Box::pin(self.due_in_turn(turns)).await,
                None => self.due_now(idx, last_done),
            };
        };
        let since = own.borrow().due()?;
        let at = self.window.begin.get() + since;
        if at >= self.window.stop.get() {
            return None;
        }
        let free_since = self.plan.stamp.now(&self.rt);
        Box::pin(self.precisely_until(at)).await;
        if self.is_over() {
            return None;
        }
        own.borrow_mut().advance();
        Some(self.new_due(at, at.max(free_since)))
    }

    /// The next request, if one is due now.
    pub(crate) fn due_now(&self, idx: usize, last_done: Option<Instant>) -> Option<Due> {
        if let Some(meeting) = &self.meeting {
            return meeting.given(idx);
        }
        if let Some(turns) = self.plan.turns {
            return self.due_if_in_turn(turns);
        }
        let now = last_done.unwrap_or_else(|| self.plan.stamp.now(&self.rt));
        if now >= self.window.stop.get() {
            return None;
        }
        let Some(own) = self.own_schedules.get(idx) else {
            return self.spend(now).then(|| self.new_due(now, now));
        };
        let at = self.window.begin.get() + own.borrow().due()?;
        if at > now {
            return None;
        }
        own.borrow_mut().advance();
        Some(self.new_due(at, now))
    }

    fn new_due(&self, at: Instant, able: Instant) -> Due {
        let request = self.plan.choice.draw(&mut self.dice.borrow_mut());
        Due { at, able, request }
    }

    /// Takes one from the number of requests that may be sent.
    fn spend(&self, at: Instant) -> bool {
        let left = self.left.get();
        if left > 0 && self.window.has(at) {
            self.left.set(left - 1);
        }
        left > 0
    }

    /// How many requests of a connection are under way.
    pub(crate) fn flights(&self, idx: usize) -> usize {
        self.flights[idx].borrow().len()
    }

    /// The one whose answer comes next.
    pub(crate) fn oldest(&self, idx: usize) -> Option<Flight> {
        self.flights[idx].borrow().oldest()
    }

    /// How long the connection had been open when the oldest request under way on it was sent.
    pub(crate) fn unused(&self, idx: usize) -> Duration {
        self.oldest(idx).map_or(Duration::ZERO, |oldest| {
            oldest.sent - self.opened_at[idx].get()
        })
    }

    /// A request is sent.
    pub(crate) fn depart(&self, idx: usize, flight: Flight) {
        let len = self.request(flight.due.request).bytes.len() as u64;
        let mut record = self.record_of(flight.due.at).borrow_mut();
        record.requests += 1;
        record.bytes_out += len;
        self.flights[idx].borrow_mut().depart(flight);
    }

    /// The oldest request is not under way any more.
    pub(crate) fn arrive(&self, idx: usize) -> Option<Flight> {
        self.flights[idx].borrow_mut().arrive()
    }

    /// Counts a complete answer.
    pub(crate) fn note_answer(&self, times: &Times, answer: &Answer) {
        self.record_of(times.intended)
            .borrow_mut()
            .answer(times, answer);
        if self.window.has(times.intended) {
            self.last_answer.set(self.last_answer.get().max(times.done));
        }
        if answer.fault.is_some() {
            self.failed();
        }
    }

    /// Counts a request that was given up.
    pub(crate) fn note_timeout(&self, flight: &Flight, now: Instant) {
        let times = Times {
            intended: flight.due.at,
            able: flight.due.able,
            sent: flight.sent,
            first_byte: now,
            done: now,
        };
        self.record_of(flight.due.at).borrow_mut().give_up(&times);
        self.failed();
    }

    /// Counts a failure of what was meant to be sent at `at`.
    pub(crate) fn note_failure(&self, class: ErrorClass, at: Instant) {
        self.record_of(at).borrow_mut().errors.count(class);
        if class != ErrorClass::EofIdleReuse {
            self.failed();
        }
    }

    /// Waits for the first failure, where that ends the run; else for ever.
    pub(crate) async fn failure(&self) {
        poll_fn(|cx| {
            if self.has_failed.get() {
                return Poll::Ready(());
            }
            *self.failure_waiter.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn failed(&self) {
        if self.plan.fail_fast
            && !self.has_failed.replace(true)
            && let Some(waiter) = self.failure_waiter.take()
        {
            waiter.wake();
        }
    }

    /// Whether a body is like the first one to the same request, or is the first one.
    pub(crate) fn is_known_body(&self, request: u32, hash: u64) -> bool {
        let mut bodies = self.bodies.borrow_mut();
        match bodies.get_mut(request as usize) {
            Some(known) => *known.get_or_insert(hash) == hash,
            None => true,
        }
    }

    /// Where what was meant to be sent at `at` is counted.
    fn record_of(&self, at: Instant) -> &RefCell<Record> {
        if self.window.has(at) {
            &self.record
        } else {
            &self.uncounted
        }
    }

    /// The connections that a run begins with count, whenever that was.
    fn record_of_connect(&self, at: Instant) -> &RefCell<Record> {
        if at < self.window.begin.get() {
            &self.record
        } else {
            self.record_of(at)
        }
    }
}
