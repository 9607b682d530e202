//! When each request is due: arrivals at a rate, or at recorded times.
//!
//! Arrival number `n` is due when the count of a rate reaches `n`. Even arrivals are whole numbers, Poisson arrivals a
//! unit-rate Poisson process on the same axis. Several threads share one schedule without talking: each takes every
//! n-th even number, or its own thinner process.
//!
//! Must not know: clocks, connections, what a request is.

use std::rc::Rc;
use std::time::Duration;

use crate::dice::Dice;
use crate::plan::{Pace, Plan, SharedPlan};
use crate::rate::{Arrival, Rate};
use crate::traffic::{Choice, Entry};

/// One thread's, or one connection's, share of the arrivals.
#[derive(Clone, Debug)]
pub(crate) struct Arrivals {
    rate: Rc<Rate>,
    arrival: Arrival,
    /// How many share the schedule.
    stride: f64,
    /// The next one's place on the axis of counts.
    count: f64,
    dice: Dice,
}

impl Arrivals {
    /// Share `index` of `shares`; what the Poisson process draws depends on `seed` and `index`.
    pub(crate) fn new(
        rate: Rc<Rate>,
        arrival: Arrival,
        index: u32,
        shares: u32,
        seed: u64,
    ) -> Self {
        let mut dice = Dice::new(seed ^ (u64::from(index) << 32));
        let stride = f64::from(shares.max(1));
        let count = match arrival {
            Arrival::Uniform => f64::from(index),
            Arrival::Poisson => stride * dice.exponential(),
        };
        Self {
            rate,
            arrival,
            stride,
            count,
            dice,
        }
    }

    /// When the next one is due, since the beginning; `None` when none ever is.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.rate.time_of(self.count)
    }

    /// Goes on to the one after.
    pub(crate) fn advance(&mut self) {
        self.count += match self.arrival {
            Arrival::Uniform => self.stride,
            Arrival::Poisson => self.stride * self.dice.exponential(),
        };
    }

    /// Passes over the next `count`, as if all were at even distances.
    pub(crate) fn skip(&mut self, count: u64) {
        self.count += self.stride * float(count);
    }

    /// How many are due before a time and not taken, as if all were at even distances.
    pub(crate) fn due_before(&self, at: Duration) -> u64 {
        let places = whole(((self.rate.count_at(at) - self.count) / self.stride).ceil());
        // The count of a time may be wrong in its last digit; the times of the next to it say which is the first not before.
        let is_before = |place: u64| {
            let due = self.rate.time_of(self.count + self.stride * float(place));
            due.is_some_and(|due| due < at)
        };
        let first = places.saturating_sub(1);
        let count = (first..=places)
            .take_while(|place| is_before(*place))
            .count();
        first + count as u64
    }

    /// Whether their distances are drawn by chance.
    pub(crate) fn is_drawn(&self) -> bool {
        self.arrival == Arrival::Poisson
    }

    /// About how many of this share are due at a time and not taken.
    pub(crate) fn backlog_at(&self, at: Duration) -> f64 {
        (self.rate.count_at(at) - self.count) / self.stride
    }

    /// This share's requests per second at a time.
    pub(crate) fn rate_at(&self, at: Duration) -> f64 {
        self.rate.rate_at(at) / self.stride
    }
}

/// What a thread's common schedule is made of.
#[derive(Debug)]
pub(crate) enum Timetable {
    /// A rate.
    Rate(Arrivals),
    /// What was recorded; every `stride`-th entry is this thread's.
    Recorded {
        plan: SharedPlan,
        next: usize,
        stride: usize,
    },
}

/// How a schedule behaves when it is late.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lateness {
    backlog_max: Option<f64>,
    /// How many times the rate it may run at.
    pub(crate) catch_up: Option<f64>,
}

impl Timetable {
    /// This thread's share; `None` without a common schedule.
    pub(crate) fn new(plan: &SharedPlan, worker: u32) -> Option<Self> {
        match &plan.pace {
            Pace::Closed => None,
            Pace::Recorded => Some(Self::Recorded {
                plan: SharedPlan::clone(plan),
                next: worker as usize,
                stride: plan.threads as usize,
            }),
            Pace::Rate(pace) => {
                let rate = Rc::new(pace.rate.clone());
                let arrivals = Arrivals::new(rate, pace.arrival, worker, plan.threads, plan.seed);
                Some(Self::Rate(arrivals))
            }
        }
    }

    /// How it behaves when it is late: each thread has its share of the backlog, at least one.
    pub(crate) fn limits(&self, plan: &Plan) -> Lateness {
        match &plan.pace {
            Pace::Rate(pace) => Lateness {
                backlog_max: pace.max_backlog.map(|max| {
                    let share = max / u64::from(plan.threads);
                    f64::from(u32::try_from(share.max(1)).unwrap_or(u32::MAX))
                }),
                catch_up: pace.catch_up,
            },
            Pace::Closed | Pace::Recorded => Lateness {
                backlog_max: None,
                catch_up: None,
            },
        }
    }

    fn entry(&self) -> Option<Entry> {
        match self {
            Self::Rate(_) => None,
            Self::Recorded { plan, next, .. } => match &plan.choice {
                Choice::Recorded(entries) => entries.get(*next).copied(),
                Choice::Only | Choice::Weighted(_) => None,
            },
        }
    }

    /// When the next request is due, since the beginning.
    pub(crate) fn due(&self) -> Option<Duration> {
        match self {
            Self::Rate(arrivals) => arrivals.due(),
            Self::Recorded { .. } => self.entry().map(|entry| entry.at),
        }
    }

    /// Which request that is, where it is not left to chance.
    pub(crate) fn request(&self) -> Option<u32> {
        self.entry().map(|entry| entry.request)
    }

    /// Goes on to the one after.
    pub(crate) fn advance(&mut self) {
        match self {
            Self::Rate(arrivals) => arrivals.advance(),
            Self::Recorded { next, stride, .. } => *next += *stride,
        }
    }

    /// Requests per second of this thread at a time.
    pub(crate) fn rate_at(&self, at: Duration) -> f64 {
        match self {
            Self::Rate(arrivals) => arrivals.rate_at(at),
            Self::Recorded { .. } => f64::INFINITY,
        }
    }
}

impl Lateness {
    /// How many of the oldest requests of such a backlog are given up.
    pub(crate) fn excess(&self, backlog: f64) -> u64 {
        self.backlog_max
            .map_or(0, |max| whole((backlog - (max + 1.0)).ceil()))
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of requests fit a float whole"
)]
fn float(count: u64) -> f64 {
    count as f64
}

/// Of a whole number; what is below 0 is 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion keeps to the range, and the number is whole"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn shares_of_even_arrivals_are_the_whole_schedule() {
        let rate = Rc::new(Rate::constant(1000.0));
        let mut due: Vec<Duration> = Vec::new();
        for index in 0..3 {
            let mut share = Arrivals::new(Rc::clone(&rate), Arrival::Uniform, index, 3, 7);
            for _ in 0..100 {
                due.push(share.due().unwrap());
                share.advance();
            }
        }
        due.sort_unstable();
        for (count, due) in due.iter().enumerate() {
            let want = Duration::from_micros(1000 * count as u64);
            assert!(
                due.abs_diff(want) < Duration::from_nanos(10),
                "{count}: {due:?}"
            );
        }
    }

    #[test]
    fn poisson_arrivals_have_the_mean_and_the_variance_of_their_law() {
        let rate = Rc::new(Rate::constant(1.0));
        let mut arrivals = Arrivals::new(rate, Arrival::Poisson, 0, 1, 42);
        let (mut last, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for _ in 0..100_000 {
            let due = arrivals.due().unwrap().as_secs_f64();
            arrivals.advance();
            sum += due - last;
            squares += (due - last).powi(2);
            last = due;
        }
        let mean = sum / 1e5;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        let variance = squares / 1e5 - mean * mean;
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
    }

    #[test]
    fn as_many_are_due_before_a_time_as_one_by_one() {
        let rates = [
            Rate::constant(200.0),
            Rate::constant(0.3),
            Rate::constant(1e8),
            Rate::new(&[(seconds(0.001), 0.0, 1e6)]),
            Rate::new(&[(seconds(0.001), 3e5, 3e5), (seconds(0.001), 7e5, 7e5)]),
        ];
        for rate in rates.map(Rc::new) {
            for (index, shares) in [(0, 1), (2, 3)] {
                let all = Arrivals::new(Rc::clone(&rate), Arrival::Uniform, index, shares, 0);
                for micros in [0, 1, 10, 333, 1000, 1500, 3000] {
                    let at = Duration::from_micros(micros);
                    let mut one_by_one = all.clone();
                    let mut count = 0;
                    while one_by_one.due().is_some_and(|due| due < at) {
                        one_by_one.advance();
                        count += 1;
                    }
                    assert_eq!(all.due_before(at), count, "{rate:?} {index} {micros}");
                    let mut skipped = all.clone();
                    skipped.skip(count);
                    assert_eq!(skipped.due(), one_by_one.due());
                }
            }
        }
    }

    #[test]
    fn backlog_beyond_its_bound_is_excess() {
        let limits = Lateness {
            backlog_max: Some(5.0),
            catch_up: None,
        };
        for (backlog, want) in [(-1.0, 0), (6.0, 0), (6.1, 1), (7.0, 1), (1e8, 99_999_994)] {
            assert_eq!(limits.excess(backlog), want, "{backlog}");
        }
    }

    #[test]
    fn backlog_is_what_is_due_and_not_taken() {
        let rate = Rc::new(Rate::constant(100.0));
        let mut share = Arrivals::new(rate, Arrival::Uniform, 0, 2, 0);
        for _ in 0..10 {
            share.advance();
        }
        assert!((share.backlog_at(seconds(1.0)) - 40.0).abs() < 1e-9);
        assert!((share.rate_at(seconds(1.0)) - 50.0).abs() < 1e-9);
    }
}
