//! What each second brought, while the run goes on.
//!
//! At the edge of a second each thread copies its counters and histograms, all of them sums since the
//! start, and hands the copy over without waiting. The differences are taken by whoever listens, so that a
//! request costs a thread nothing here, and a copy that found no room only makes the next difference
//! span two seconds.
//!
//! Must not know: the clock, the runtime, or who shows the numbers.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use hdrhistogram::Histogram;

use crate::record::histogram;
use crate::result::{Encoded, Second};

/// A thread's sums since the start of the clock, at the end of one second.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The thread, from 0.
    pub worker: u32,
    /// The second that ends here; 1 is the first.
    pub second: u64,
    /// Complete answers.
    pub responses: u64,
    /// Failures that are blamed on somebody.
    pub failures: u64,
    /// Bytes of complete answers.
    pub bytes: u64,
    /// Headline latency in ns.
    pub latency: Histogram<u64>,
    /// Send lag in ns; `None` in a closed loop.
    pub lag: Option<Histogram<u64>>,
}

/// A thread's end, where it hands over its snapshots.
#[derive(Clone, Debug)]
pub struct Outlet(SyncSender<Snapshot>);

/// The listener's end.
#[derive(Debug)]
pub struct Inlet {
    receiver: Receiver<Snapshot>,
    sums: Sums,
}

/// A second of all threads together.
#[derive(Clone, Debug)]
pub struct Interval {
    /// Without its histogram's text, which costs to make.
    pub second: Second,
    /// Headline latency in ns.
    pub latency: Histogram<u64>,
}

/// Room for some seconds of each thread.
pub fn channel(threads: u32) -> (Outlet, Inlet) {
    let room = usize::try_from(threads)
        .unwrap_or(1)
        .saturating_mul(SECONDS_WAITING_MAX);
    let (sender, receiver) = sync_channel(room);
    let inlet = Inlet {
        receiver,
        sums: Sums::new(threads),
    };
    (Outlet(sender), inlet)
}

impl Outlet {
    /// Hands over without waiting; lets go where there is no room, or nobody listens.
    pub fn offer(&self, snapshot: Snapshot) {
        match self.0.try_send(snapshot) {
            Ok(()) => (),
            Err(TrySendError::Full(_later)) => (), // The next snapshot holds the sums of this one.
            Err(TrySendError::Disconnected(_unwanted)) => (),
        }
    }
}

impl Inlet {
    /// The seconds that all threads have reported by now, in their order.
    pub fn complete(&mut self) -> Vec<Interval> {
        while let Ok(snapshot) = self.receiver.try_recv() {
            self.sums.take(snapshot);
        }
        self.sums.complete()
    }

    /// Everything else, when no thread runs any more.
    pub fn rest(mut self) -> Vec<Interval> {
        let mut intervals = self.complete();
        intervals.extend(self.sums.pending.into_iter().map(interval));
        intervals
    }
}

impl Interval {
    /// With the histogram's text.
    pub fn into_second(self) -> Second {
        Second {
            hist: Some(Encoded::encode(&self.latency)),
            ..self.second
        }
    }
}

/// Turns each thread's sums into differences, and adds those of a second.
#[derive(Debug)]
struct Sums {
    /// Each thread's last snapshot.
    last: Vec<Option<Snapshot>>,
    /// Differences by second.
    pending: BTreeMap<u64, Snapshot>,
}

impl Sums {
    fn new(threads: u32) -> Self {
        Self {
            last: (0..threads).map(|_| None).collect(),
            pending: BTreeMap::new(),
        }
    }

    fn take(&mut self, snapshot: Snapshot) {
        let slot = usize::try_from(snapshot.worker).ok();
        let Some(last) = slot.and_then(|idx| self.last.get_mut(idx)) else {
            return; // No thread of this run.
        };
        let mut difference = snapshot.clone();
        if let Some(last) = last.replace(snapshot) {
            difference.subtract(&last);
        }
        match self.pending.get_mut(&difference.second) {
            Some(sum) => sum.add(&difference),
            None => {
                self.pending.insert(difference.second, difference);
            }
        }
    }

    fn complete(&mut self) -> Vec<Interval> {
        let reported = |last: &Option<Snapshot>| last.as_ref().map_or(0, |last| last.second);
        let all_reported = self.last.iter().map(reported).min().unwrap_or(0);
        let later = self.pending.split_off(&(all_reported + 1));
        std::mem::replace(&mut self.pending, later)
            .into_iter()
            .map(interval)
            .collect()
    }
}

impl Snapshot {
    fn subtract(&mut self, before: &Self) {
        self.responses = self.responses.saturating_sub(before.responses);
        self.failures = self.failures.saturating_sub(before.failures);
        self.bytes = self.bytes.saturating_sub(before.bytes);
        self.latency.subtract(&before.latency).expect(SUMS_GROW);
        if let (Some(lag), Some(before)) = (&mut self.lag, &before.lag) {
            lag.subtract(before).expect(SUMS_GROW);
        }
    }

    fn add(&mut self, other: &Self) {
        self.responses += other.responses;
        self.failures += other.failures;
        self.bytes += other.bytes;
        self.latency.add(&other.latency).expect(SAME_BOUNDS);
        if let Some(theirs) = &other.lag {
            let lag = self.lag.get_or_insert_with(histogram);
            lag.add(theirs).expect(SAME_BOUNDS);
        }
    }
}

fn interval((t, sum): (u64, Snapshot)) -> Interval {
    let latency = sum.latency;
    Interval {
        second: Second {
            t,
            n: sum.responses,
            err: sum.failures,
            bytes: sum.bytes,
            p50: latency.value_at_quantile(0.5),
            p99: latency.value_at_quantile(0.99),
            max: latency.max(),
            lag_p99: sum.lag.map_or(0, |lag| lag.value_at_quantile(0.99)),
            hist: None,
        },
        latency,
    }
}

/// Seconds of one thread that may wait to be heard.
const SECONDS_WAITING_MAX: usize = 8;
const SUMS_GROW: &str = "a thread's sums only grow";
const SAME_BOUNDS: &str = "all histograms have the same bounds";

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that answers `n` requests more each second, each of `n` ms.
    fn snapshot(worker: u32, second: u64) -> Snapshot {
        let mut latency = histogram();
        for passed in 1..=second {
            latency.record_n(passed * 1_000_000, passed).unwrap();
        }
        Snapshot {
            worker,
            second,
            responses: latency.len(),
            failures: second,
            bytes: 10 * latency.len(),
            lag: None,
            latency,
        }
    }

    fn numbers(intervals: &[Interval]) -> Vec<(u64, u64, u64, u64)> {
        let row = |i: &Interval| (i.second.t, i.second.n, i.second.err, i.second.bytes);
        intervals.iter().map(row).collect()
    }

    #[test]
    fn second_is_told_when_all_threads_have_reported_it() {
        let (outlet, mut inlet) = channel(2);
        outlet.offer(snapshot(0, 1));
        outlet.offer(snapshot(0, 2));
        assert_eq!(numbers(&inlet.complete()), []);
        outlet.offer(snapshot(1, 1));
        assert_eq!(numbers(&inlet.complete()), [(1, 2, 2, 20)]);
        assert_eq!(numbers(&inlet.complete()), []);
        assert_eq!(numbers(&inlet.rest()), [(2, 2, 1, 20)]);
    }

    #[test]
    fn seconds_add_up_to_the_whole() {
        let (outlet, mut inlet) = channel(1);
        let mut sum = histogram();
        for second in 1..=5 {
            outlet.offer(snapshot(0, second));
            for interval in inlet.complete() {
                assert_eq!(interval.second.n, second);
                assert!(
                    interval
                        .latency
                        .equivalent(interval.second.max, second * 1_000_000)
                );
                let decoded = interval.into_second().hist.unwrap().decode().unwrap();
                sum.add(decoded).unwrap();
            }
        }
        assert_eq!(sum, snapshot(0, 5).latency);
    }

    #[test]
    fn snapshot_without_room_is_in_the_next_difference() {
        let (outlet, mut inlet) = channel(1);
        let room = SECONDS_WAITING_MAX as u64;
        for second in 1..=room + 2 {
            outlet.offer(snapshot(0, second));
        }
        let told = inlet.complete();
        assert_eq!(told.len(), SECONDS_WAITING_MAX);
        outlet.offer(snapshot(0, room + 3));
        let spanned = (room + 1) + (room + 2) + (room + 3);
        assert_eq!(
            numbers(&inlet.complete()),
            [(room + 3, spanned, 3, 10 * spanned)]
        );
    }

    #[test]
    fn nobody_needs_to_listen() {
        let (outlet, inlet) = channel(1);
        drop(inlet);
        outlet.offer(snapshot(0, 1));
    }

    #[test]
    fn thread_without_an_answer_does_not_hold_the_others_back_at_the_end() {
        let (outlet, inlet) = channel(3);
        outlet.offer(snapshot(2, 1));
        outlet.offer(snapshot(9, 1)); // No thread of this run.
        assert_eq!(numbers(&inlet.rest()), [(1, 1, 1, 10)]);
    }
}
