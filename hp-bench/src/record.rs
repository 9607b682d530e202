//! What a thread counted: histograms and plain integers, added up at the end.
//!
//! Must not know: how the numbers came about, or how they are shown.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::samples::{Samples, Times};

/// The classes of failure, in the order of a connection's life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorClass {
    /// Nobody listens.
    ConnectRefused,
    /// No answer to the connect within the timeout.
    ConnectTimeout,
    /// Another failure to connect.
    ConnectOther,
    /// No free local port for the connection.
    LocalPorts,
    /// No free file descriptor for the connection.
    LocalFds,
    /// A kept connection, or one that had waited for its first request, was closed just when it was used; the request is repeated.
    EofIdleReuse,
    /// The connection ended before its answer was complete.
    EofEarly,
    /// The connection was reset before its answer was complete.
    Reset,
    /// No complete answer within the timeout.
    Timeout,
    /// The answer is not HTTP, or more than was asked for.
    Parse,
    /// The answer's status is none of the expected ones: 2xx and 3xx unless the plan says otherwise.
    Status,
    /// The answer's body has another length than expected.
    Size,
    /// The answer's body differs from the first one to the same request.
    Body,
}

/// Failures by class.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ErrorCounts {
    counts: [u64; ErrorClass::ALL.len()],
}

/// Which histogram is the headline of a run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Clock {
    /// From the actual send: a closed loop.
    #[default]
    Service,
    /// From the intended send, so that no wait before the send is hidden: a rate, or a connection per request.
    Response,
}

/// A complete answer, as it is counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Answer {
    /// 100 to 599.
    pub status: u16,
    /// On the wire, heads included.
    pub bytes: u64,
    /// What is wrong with it, if something is.
    pub fault: Option<ErrorClass>,
}

/// What one thread, or all of them, counted.
#[derive(Clone, Debug)]
pub struct Record {
    /// Requests sent, whole or in part.
    pub requests: u64,
    /// Complete answers of any status.
    pub responses: u64,
    /// Bytes of complete answers, heads included.
    pub bytes_in: u64,
    /// Bytes of requests handed to the kernel or its queue.
    pub bytes_out: u64,
    /// Connections that were opened, reconnects included.
    pub connections_opened: u64,
    /// The least number of connections that were in order at one time.
    pub connections_min: u64,
    /// How long fewer connections than asked for were in order, summed over the threads.
    pub connections_short: Duration,
    /// Idle connections that the server closed.
    pub idle_lost: u64,
    /// Answers by the first digit of their status, from 1 to 5.
    pub status: [u64; 5],
    /// Failures by class.
    pub errors: ErrorCounts,
    /// Samples in the headline that ended by giving up: the true value is higher.
    pub censored: u64,
    /// Of these, requests that were due and never sent, for want of a free connection.
    pub unsent: u64,
    /// CPU time of the process during the run; `None` where nobody measured it.
    pub cpu: Option<Duration>,
    /// CPU time of the busiest thread by the time that it ran, 0 to 1.
    pub busiest_thread: f64,
    /// From the start of the clock to its end: the planned one or, in a closed loop, the last answer if that is later.
    pub elapsed: Duration,
    /// How much of it was in turn; `None` where the load took no turns.
    pub in_turn: Option<Duration>,
    /// Single requests, where they were asked for.
    pub samples: Option<Samples>,
    clock: Clock,
    times: Histograms,
}

#[derive(Clone, Debug)]
struct Histograms {
    /// Service or response.
    headline: Histogram<u64>,
    /// Of service and response, the one that is not the headline.
    other: Histogram<u64>,
    lag: Histogram<u64>,
    own_lag: Histogram<u64>,
    first_byte: Histogram<u64>,
    connect: Histogram<u64>,
}

impl ErrorClass {
    /// All, in the order of declaration.
    pub const ALL: [Self; 13] = [
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::ConnectOther,
        Self::LocalPorts,
        Self::LocalFds,
        Self::EofIdleReuse,
        Self::EofEarly,
        Self::Reset,
        Self::Timeout,
        Self::Parse,
        Self::Status,
        Self::Size,
        Self::Body,
    ];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::ConnectOther => "connect_other",
            Self::LocalPorts => "local_ports",
            Self::LocalFds => "local_fds",
            Self::EofIdleReuse => "eof_idle_reuse",
            Self::EofEarly => "eof_early",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Parse => "parse",
            Self::Status => "status",
            Self::Size => "size",
            Self::Body => "body",
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ErrorCounts {
    /// Counts one failure.
    pub fn count(&mut self, class: ErrorClass) {
        self.counts[class as usize] += 1;
    }

    /// Adds another thread's failures.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
    }

    /// How many of `class`.
    pub fn of(&self, class: ErrorClass) -> u64 {
        self.counts[class as usize]
    }

    /// The classes that happened, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (ErrorClass, u64)> {
        ErrorClass::ALL
            .into_iter()
            .zip(self.counts)
            .filter(|&(_, count)| count > 0)
    }

    /// Those of answers that were complete: of their status, size or content.
    pub fn of_answers(&self) -> u64 {
        [ErrorClass::Status, ErrorClass::Size, ErrorClass::Body]
            .map(|class| self.of(class))
            .iter()
            .sum()
    }

    /// Failures that make a run fail: all but [`ErrorClass::EofIdleReuse`], which is a server's
    /// right and is repeated.
    pub fn blamed(&self) -> u64 {
        self.counts.iter().sum::<u64>() - self.of(ErrorClass::EofIdleReuse)
    }
}

impl Record {
    /// Empty, for a closed loop.
    pub fn new() -> Self {
        Self::with_clock(Clock::Service)
    }

    /// Empty, with this headline.
    pub fn with_clock(clock: Clock) -> Self {
        Self {
            requests: 0,
            responses: 0,
            bytes_in: 0,
            bytes_out: 0,
            connections_opened: 0,
            connections_min: 0,
            connections_short: Duration::ZERO,
            idle_lost: 0,
            status: [0; 5],
            errors: ErrorCounts::default(),
            censored: 0,
            unsent: 0,
            cpu: None,
            busiest_thread: 0.0,
            elapsed: Duration::ZERO,
            in_turn: None,
            samples: None,
            clock,
            times: Histograms::default(),
        }
    }

    /// Counts a complete answer.
    pub fn answer(&mut self, times: &Times, answer: &Answer) {
        self.responses += 1;
        self.bytes_in += answer.bytes;
        let class = usize::from(answer.status / 100).clamp(1, self.status.len()) - 1;
        self.status[class] += 1;
        if let Some(fault) = answer.fault {
            self.errors.count(fault);
        }
        let first_byte = times.first_byte - times.sent;
        self.times.first_byte.saturating_record(nanos(first_byte));
        self.sample(times);
        if let Some(samples) = &mut self.samples {
            samples.keep(times, answer.status, answer.bytes);
        }
    }

    /// Counts a request that was given up: its time so far is a lower bound of its latency. `times.done` is now.
    pub fn give_up(&mut self, times: &Times) {
        self.errors.count(ErrorClass::Timeout);
        self.censored += 1;
        self.sample(times);
        if let Some(samples) = &mut self.samples {
            samples.keep(times, 0, 0);
        }
    }

    /// Counts requests that were due and never sent. What they waited is a lower bound of their response time, and the
    /// service knows nothing of it.
    pub fn never_sent(&mut self, waited: Duration, count: u64) {
        self.unsent += count;
        if self.clock == Clock::Response {
            self.censored += count;
            let headline = &mut self.times.headline;
            headline.saturating_record_n(nanos(waited), count);
        }
    }

    /// The shortest time that is the same value as this one to the histograms.
    pub fn shortest_like(&self, waited: Duration) -> Duration {
        Duration::from_nanos(self.times.headline.lowest_equivalent(nanos(waited)))
    }

    fn sample(&mut self, times: &Times) {
        let service = nanos(times.done - times.sent);
        let response = nanos(times.done - times.intended);
        match self.clock {
            Clock::Service => self.times.headline.saturating_record(service),
            Clock::Response => {
                self.times.headline.saturating_record(response);
                self.times.other.saturating_record(service);
                let lag = nanos(times.sent - times.intended);
                self.times.lag.saturating_record(lag);
                let own_lag = nanos(times.sent - times.able.max(times.intended));
                self.times.own_lag.saturating_record(own_lag);
            }
        }
    }

    /// Counts a connection that was opened.
    pub fn connected(&mut self, took: Duration) {
        self.connections_opened += 1;
        self.times.connect.saturating_record(nanos(took));
    }

    /// Adds what another thread counted in the same window, with the same headline.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.responses += other.responses;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.connections_opened += other.connections_opened;
        self.connections_min += other.connections_min;
        self.connections_short += other.connections_short;
        self.idle_lost += other.idle_lost;
        for (mine, theirs) in self.status.iter_mut().zip(other.status) {
            *mine += theirs;
        }
        self.errors.merge(&other.errors);
        if let Some(theirs) = &other.samples {
            self.samples.get_or_insert_default().merge(theirs);
        }
        self.censored += other.censored;
        self.unsent += other.unsent;
        self.cpu = match (self.cpu, other.cpu) {
            (Some(mine), Some(theirs)) => Some(mine + theirs),
            (mine, theirs) => mine.or(theirs),
        };
        self.busiest_thread = self.busiest_thread.max(other.busiest_thread);
        self.elapsed = self.elapsed.max(other.elapsed);
        self.in_turn = self.in_turn.max(other.in_turn);
        self.times.merge(&other.times);
    }

    /// The time in which requests could begin: what was in turn, else all of it.
    pub fn active(&self) -> Duration {
        self.in_turn.unwrap_or(self.elapsed)
    }

    /// Which of the histograms is the headline.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The headline in ns, censored samples included.
    pub fn latency(&self) -> &Histogram<u64> {
        &self.times.headline
    }

    /// From the actual send to the last byte, in ns.
    pub fn service(&self) -> &Histogram<u64> {
        match self.clock {
            Clock::Service => &self.times.headline,
            Clock::Response => &self.times.other,
        }
    }

    /// From the intended send to the last byte, in ns; `None` in a closed loop, which intends nothing.
    pub fn response(&self) -> Option<&Histogram<u64>> {
        (self.clock == Clock::Response).then_some(&self.times.headline)
    }

    /// From the intended to the actual send, in ns; `None` as for [`Record::response`].
    pub fn lag(&self) -> Option<&Histogram<u64>> {
        (self.clock == Clock::Response).then_some(&self.times.lag)
    }

    /// The part of the lag that is this program's own: not that every connection was busy.
    pub fn own_lag(&self) -> &Histogram<u64> {
        &self.times.own_lag
    }

    /// From the actual send to the first byte of the answer, in ns.
    pub fn first_byte(&self) -> &Histogram<u64> {
        &self.times.first_byte
    }

    /// Times to connect in ns.
    pub fn connect(&self) -> &Histogram<u64> {
        &self.times.connect
    }
}

impl Histograms {
    fn merge(&mut self, other: &Self) {
        let pairs = [
            (&mut self.headline, &other.headline),
            (&mut self.other, &other.other),
            (&mut self.lag, &other.lag),
            (&mut self.own_lag, &other.own_lag),
            (&mut self.first_byte, &other.first_byte),
            (&mut self.connect, &other.connect),
        ];
        for (mine, theirs) in pairs {
            mine.add(theirs).expect(SAME_BOUNDS);
        }
    }
}

impl Default for Histograms {
    fn default() -> Self {
        Self {
            headline: histogram(),
            other: histogram(),
            lag: histogram(),
            own_lag: histogram(),
            first_byte: histogram(),
            connect: histogram(),
        }
    }
}

impl Default for Record {
    fn default() -> Self {
        Self::new()
    }
}

/// Empty, with the bounds that all times of a result have.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, LATENCY_DIGITS)
        .expect("the bounds are constants that the crate accepts")
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

const LATENCY_NS_MIN: u64 = 1_000;
const LATENCY_NS_MAX: u64 = 60_000_000_000;
const LATENCY_DIGITS: u8 = 3;
const SAME_BOUNDS: &str = "all histograms have the same bounds";

#[cfg(test)]
mod tests {
    use hp_core::rt::Instant;

    use super::*;

    fn times(intended: u64, sent: u64, done: u64) -> Times {
        let [intended, sent, done] =
            [intended, sent, done].map(|ms| Instant::from_nanos(ms * 1_000_000));
        Times {
            intended,
            able: intended,
            sent,
            first_byte: done,
            done,
        }
    }

    fn good(bytes: u64) -> Answer {
        Answer {
            status: 200,
            bytes,
            fault: None,
        }
    }

    #[test]
    fn merged_record_is_the_record_of_all_requests() {
        let [mut one, mut two, mut all] = [(); 3].map(|()| Record::with_clock(Clock::Response));
        for i in 1..=1000_u64 {
            let times = times(i, i + i % 7, i + i % 7 + i * i % 977);
            let answer = if i % 100 == 0 {
                Answer {
                    status: 503,
                    bytes: i,
                    fault: Some(ErrorClass::Status),
                }
            } else {
                good(i)
            };
            let half = if i % 3 == 0 { &mut one } else { &mut two };
            half.answer(&times, &answer);
            all.answer(&times, &answer);
        }
        two.give_up(&times(0, 0, 1000));
        all.give_up(&times(0, 0, 1000));
        one.merge(&two);
        assert_eq!(one.latency(), all.latency());
        assert_eq!(one.service(), all.service());
        assert_eq!(one.lag(), all.lag());
        assert_eq!(one.first_byte(), all.first_byte());
        assert_eq!(one.errors, all.errors);
        assert_eq!((one.responses, one.bytes_in), (1000, 500_500));
        assert_eq!(one.status, [0, 990, 0, 0, 10]);
        assert_eq!(one.errors.of(ErrorClass::Status), 10);
        assert_eq!(one.censored, 1);
    }

    #[test]
    fn lag_is_between_service_and_response() {
        let mut record = Record::with_clock(Clock::Response);
        record.answer(
            &Times {
                able: Instant::from_nanos(28_000_000),
                ..times(10, 30, 35)
            },
            &good(1),
        );
        let max = |histogram: &Histogram<u64>| histogram.max() / 1_000_000;
        assert_eq!(max(record.service()), 5);
        assert_eq!(record.response().map(max), Some(25));
        assert_eq!(record.lag().map(max), Some(20));
        assert_eq!(max(record.own_lag()), 2);
    }

    #[test]
    fn request_that_was_never_sent_shows_in_the_response_time_alone() {
        let mut record = Record::with_clock(Clock::Response);
        record.never_sent(Duration::from_secs(1), 1);
        assert_eq!(record.latency().len(), 1);
        assert_eq!(record.service().len(), 0);
        assert_eq!((record.censored, record.unsent), (1, 1));
    }

    #[test]
    fn latency_beyond_the_range_saturates() {
        let mut record = Record::new();
        record.answer(&times(0, 0, 3_600_000), &good(0));
        assert!(record.latency().max() >= LATENCY_NS_MAX);
        assert!(record.latency().max() < 2 * LATENCY_NS_MAX);
    }

    #[test]
    fn closing_an_idle_connection_is_counted_and_not_blamed() {
        let mut errors = ErrorCounts::default();
        errors.count(ErrorClass::EofIdleReuse);
        errors.count(ErrorClass::Reset);
        assert_eq!(errors.blamed(), 1);
        let seen: Vec<_> = errors.iter().collect();
        assert_eq!(
            seen,
            [(ErrorClass::EofIdleReuse, 1), (ErrorClass::Reset, 1)]
        );
    }

    #[test]
    fn classes_are_in_the_order_of_their_discriminants() {
        for (idx, class) in ErrorClass::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, idx, "{class}");
        }
    }
}
