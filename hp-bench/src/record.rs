//! What a thread counted: one histogram, plain integers, added up at the end.
//!
//! Must not know: how the numbers came about, or how they are shown.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

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
    /// A kept connection was closed just when it was used again; the request is repeated.
    EofIdleReuse,
    /// The connection ended before its answer was complete.
    EofEarly,
    /// The connection was reset before its answer was complete.
    Reset,
    /// No complete answer within the timeout.
    Timeout,
    /// The answer is not HTTP, or more than was asked for.
    Parse,
    /// The answer's status is neither 2xx nor 3xx.
    Status,
}

/// Failures by class.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ErrorCounts {
    counts: [u64; ErrorClass::ALL.len()],
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
    /// Answers by the first digit of their status, from 1 to 5.
    pub status: [u64; 5],
    /// Failures by class.
    pub errors: ErrorCounts,
    /// Samples in the latency that ended by giving up: the true value is higher.
    pub censored: u64,
    /// CPU time of the thread during the run; `None` where the system does not say.
    pub cpu: Option<Duration>,
    /// From the start of the clock to the last answer, or to the planned end if that is later.
    pub elapsed: Duration,
    latency: Histogram<u64>,
    connect: Histogram<u64>,
}

impl ErrorClass {
    /// All, in the order of declaration.
    pub const ALL: [Self; 11] = [
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

    /// Failures that make a run fail: all but [`ErrorClass::EofIdleReuse`], which is a server's
    /// right and is repeated.
    pub fn blamed(&self) -> u64 {
        self.counts.iter().sum::<u64>() - self.of(ErrorClass::EofIdleReuse)
    }
}

impl Record {
    /// Empty.
    pub fn new() -> Self {
        Self {
            requests: 0,
            responses: 0,
            bytes_in: 0,
            bytes_out: 0,
            connections_opened: 0,
            status: [0; 5],
            errors: ErrorCounts::default(),
            censored: 0,
            cpu: None,
            elapsed: Duration::ZERO,
            latency: histogram(),
            connect: histogram(),
        }
    }

    /// Counts a complete answer. `status` is 100 to 599.
    pub fn answer(&mut self, latency: Duration, status: u16, bytes: u64) {
        self.responses += 1;
        self.bytes_in += bytes;
        self.latency.saturating_record(nanos(latency));
        let class = usize::from(status / 100).clamp(1, self.status.len()) - 1;
        self.status[class] += 1;
        if !(200..400).contains(&status) {
            self.errors.count(ErrorClass::Status);
        }
    }

    /// Counts a request that was given up: its time so far is a lower bound of its latency.
    pub fn give_up(&mut self, waited: Duration) {
        self.errors.count(ErrorClass::Timeout);
        self.censored += 1;
        self.latency.saturating_record(nanos(waited));
    }

    /// Counts a connection that was opened.
    pub fn connected(&mut self, took: Duration) {
        self.connections_opened += 1;
        self.connect.saturating_record(nanos(took));
    }

    /// Adds what another thread counted in the same window.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.responses += other.responses;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.connections_opened += other.connections_opened;
        for (mine, theirs) in self.status.iter_mut().zip(other.status) {
            *mine += theirs;
        }
        self.errors.merge(&other.errors);
        self.censored += other.censored;
        self.cpu = match (self.cpu, other.cpu) {
            (Some(mine), Some(theirs)) => Some(mine + theirs),
            (mine, theirs) => mine.or(theirs),
        };
        self.elapsed = self.elapsed.max(other.elapsed);
        self.latency.add(&other.latency).expect(SAME_BOUNDS);
        self.connect.add(&other.connect).expect(SAME_BOUNDS);
    }

    /// Latencies in ns, censored ones included.
    pub fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// Times to connect in ns.
    pub fn connect(&self) -> &Histogram<u64> {
        &self.connect
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
    use super::*;

    #[test]
    fn merged_record_is_the_record_of_all_requests() {
        let (mut one, mut two, mut all) = (Record::new(), Record::new(), Record::new());
        for i in 1..=1000_u64 {
            let latency = Duration::from_nanos(i * i * 977);
            let status = if i % 100 == 0 { 503 } else { 200 };
            let half = if i % 3 == 0 { &mut one } else { &mut two };
            half.answer(latency, status, i);
            all.answer(latency, status, i);
        }
        two.give_up(Duration::from_secs(1));
        all.give_up(Duration::from_secs(1));
        one.merge(&two);
        assert_eq!(one.latency(), all.latency());
        assert_eq!(one.errors, all.errors);
        assert_eq!((one.responses, one.bytes_in), (1000, 500_500));
        assert_eq!(one.status, [0, 990, 0, 0, 10]);
        assert_eq!(one.errors.of(ErrorClass::Status), 10);
        assert_eq!(one.censored, 1);
    }

    #[test]
    fn latency_beyond_the_range_saturates() {
        let mut record = Record::new();
        record.answer(Duration::from_secs(3600), 200, 0);
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
