//! A stopwatch and what it showed.

use std::time::Instant;

/// Times in nanoseconds, as how often each was taken: a list of all would be written through the caches. Those of one step are the same, and told as its beginning.
pub(crate) struct Times {
    /// By step; those of [`STEPS_MAX`] and more are one.
    counts: Vec<u32>,
    longest: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            counts: vec![0; STEPS_MAX + 1],
            longest: 0,
        }
    }
}

impl Times {
    pub(crate) fn count(&mut self, time: u64) {
        if let Some(count) = self.counts.get_mut(step_of(time)) {
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

    /// How many there are, and how many of them are above the last of a step.
    pub(crate) fn above(&self, time: u64) -> [u64; 2] {
        let sum = |counts: &[u32]| counts.iter().copied().map(u64::from).sum();
        let above = self.counts.get(step_of(time) + 1..);
        [sum(&self.counts), above.map_or(0, sum)]
    }

    /// The time that so many tenths of a percent are below of; the longest, where that has no step of its own.
    pub(crate) fn percentile(&self, tenths: u64) -> u64 {
        let all: u64 = self.counts.iter().copied().map(u64::from).sum();
        let mut left = all * tenths / 1000;
        for (step, count) in (0..).zip(&self.counts) {
            match left.checked_sub(u64::from(*count)) {
                Some(less) => left = less,
                None if step < STEPS_MAX as u64 => return step * STEP,
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

fn step_of(time: u64) -> usize {
    usize::try_from(time / STEP).map_or(STEPS_MAX, |step| step.min(STEPS_MAX))
}

/// Times that are told apart, in nanoseconds; clocks have steps of 10 and more.
pub(crate) const STEP: u64 = 5;
/// Longer times are not told apart.
const STEPS_MAX: usize = 20_000;
