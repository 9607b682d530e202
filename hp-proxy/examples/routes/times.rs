//! A stopwatch and what it showed.

use std::time::Instant;

/// Times in nanoseconds, as how often each was taken: a list of all would be written through the caches.
pub(crate) struct Times {
    /// By time; those of [`TIMES_MAX`] and more are one.
    counts: Vec<u32>,
    longest: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            counts: vec![0; TIMES_MAX + 1],
            longest: 0,
        }
    }
}

impl Times {
    pub(crate) fn count(&mut self, time: u64) {
        let place = usize::try_from(time).map_or(TIMES_MAX, |time| time.min(TIMES_MAX));
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
        self.longest = self.longest.max(time);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.longest = self.longest.max(other.longest);
    }

    /// How many there are, and how many of them are above a time.
    pub(crate) fn above(&self, time: u64) -> [u64; 2] {
        let sum = |counts: &[u32]| counts.iter().copied().map(u64::from).sum();
        let above = usize::try_from(time)
            .ok()
            .and_then(|time| self.counts.get(time + 1..));
        [sum(&self.counts), above.map_or(0, sum)]
    }

    /// The time that so many tenths of a percent are below of; the longest, where that is [`TIMES_MAX`] or more.
    pub(crate) fn percentile(&self, tenths: u64) -> u64 {
        let all: u64 = self.counts.iter().copied().map(u64::from).sum();
        let mut left = all * tenths / 1000;
        for (time, count) in (0..).zip(&self.counts) {
            match left.checked_sub(u64::from(*count)) {
                Some(less) => left = less,
                None if time < TIMES_MAX as u64 => return time,
                None => break,
            }
        }
        self.longest
    }

    pub(crate) fn tell(&self, what: &str) {
        println!(
            "  {what:28} p50 {:4} ns, p90 {:4} ns, p99 {:4} ns, p99.9 {:5} ns, max {} ns",
            self.percentile(500),
            self.percentile(900),
            self.percentile(990),
            self.percentile(999),
            self.longest
        );
    }
}

pub(crate) fn nanos(work: impl FnOnce() -> Option<u32>) -> (u64, Option<u32>) {
    let began = Instant::now();
    let found = work();
    let took = u64::try_from(began.elapsed().as_nanos());
    (took.unwrap_or(u64::MAX), found)
}

/// Longer times are not told apart, in nanoseconds.
const TIMES_MAX: usize = 100_000;
