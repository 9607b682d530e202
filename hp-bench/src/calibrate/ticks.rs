//! The clock, the processor's own count, and how far they walk apart.

use hp_core::sys::clock;

use super::model::Ticks;
use crate::format::float;

/// Both counts at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reading {
    pub(super) ticks: u64,
    pub(super) nanos: u64,
}

impl Reading {
    /// The narrowest of several attempts, for a thread may be interrupted between two reads; `None` without a counter.
    pub(super) fn take() -> Option<Self> {
        let attempt = || -> Option<(u64, Self)> {
            let before = clock::monotonic_ns();
            let ticks = clock::ticks()?;
            let after = clock::monotonic_ns();
            let width = after.saturating_sub(before);
            let nanos = before + width / 2;
            Some((width, Self { ticks, nanos }))
        };
        let attempts = (0..ATTEMPTS).filter_map(|_| attempt());
        let narrowest = attempts.min_by_key(|(width, _)| *width);
        narrowest.map(|(_, reading)| reading)
    }
}

/// The counter's speed, and how much it changed between the first half and the second; `None` without a counter.
pub(super) fn drift(read_ns: f64, readings: [Option<Reading>; 3]) -> Option<Ticks> {
    let [first, middle, last] = readings;
    let (first, middle, last) = (first?, middle?, last?);
    let speed = |from: Reading, to: Reading| -> Option<f64> {
        let nanos = to
            .nanos
            .checked_sub(from.nanos)
            .filter(|nanos| *nanos > 0)?;
        Some(float(to.ticks.checked_sub(from.ticks)?) / float(nanos))
    };
    let (early, late) = (speed(first, middle)?, speed(middle, last)?);
    let per_us = speed(first, last)? * 1e3;
    let drift_ppm = (late / early - 1.0) * 1e6;
    drift_ppm.is_finite().then_some(Ticks {
        read_ns,
        per_us,
        drift_ppm,
    })
}

/// Nanoseconds that one call takes: the quickest of several batches, which nobody interrupted.
pub(super) fn cost(mut read: impl FnMut() -> u64) -> f64 {
    let mut best = u64::MAX;
    for _ in 0..BATCHES {
        let before = clock::monotonic_ns();
        for _ in 0..BATCH_READS {
            std::hint::black_box(read());
        }
        best = best.min(clock::monotonic_ns().saturating_sub(before));
    }
    float(best) / f64::from(BATCH_READS)
}

/// Steps of a computation without memory per microsecond of this thread's CPU time, over `cpu_ns` of it.
pub(super) fn steps_per_us(cpu_ns: u64) -> f64 {
    let begin = clock::thread_cpu_ns();
    let (mut steps, mut word) = (0_u64, 1_u64);
    loop {
        for _ in 0..STEPS {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
        }
        word = std::hint::black_box(word);
        steps += u64::from(STEPS);
        let used = clock::thread_cpu_ns().saturating_sub(begin);
        if used >= cpu_ns {
            return float(steps) * 1e3 / float(used.max(1));
        }
    }
}

const ATTEMPTS: u32 = 64;
const BATCHES: u32 = 20;
const BATCH_READS: u32 = 5_000;
const STEPS: u32 = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(ticks: u64, nanos: u64) -> Option<Reading> {
        Some(Reading { ticks, nanos })
    }

    #[test]
    fn drift_is_the_change_of_speed() {
        let even = drift(
            9.0,
            [reading(0, 0), reading(2_000, 1_000), reading(4_000, 2_000)],
        );
        let even = even.unwrap();
        assert!((even.per_us - 2_000.0).abs() < 1e-9 && even.drift_ppm.abs() < 1e-9);
        // 2,000,000 ticks in the first half, 2,000,200 in the second: 100 millionths more.
        let late = [
            reading(5, 7),
            reading(2_000_005, 1_000_007),
            reading(4_000_205, 2_000_007),
        ];
        assert!((drift(9.0, late).unwrap().drift_ppm - 100.0).abs() < 1e-6);
    }

    #[test]
    fn no_drift_is_told_of_a_counter_that_is_none() {
        assert_eq!(drift(9.0, [None, reading(1, 1), reading(2, 2)]), None);
        assert_eq!(
            drift(9.0, [reading(1, 1), reading(1, 1), reading(2, 2)]),
            None
        );
        assert_eq!(
            drift(9.0, [reading(5, 1), reading(4, 2), reading(6, 3)]),
            None
        ); // Goes back.
        assert_eq!(
            drift(9.0, [reading(1, 1), reading(1, 2), reading(2, 3)]),
            None
        ); // Stands.
    }

    #[test]
    fn counts_go_forward() {
        let (first, second) = (Reading::take(), Reading::take());
        if let (Some(first), Some(second)) = (first, second) {
            assert!(second.ticks > first.ticks && second.nanos > first.nanos);
        }
        assert!(cost(clock::monotonic_ns) > 0.0);
        assert!(steps_per_us(1_000_000) > 0.0);
    }
}
