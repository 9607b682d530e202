//! When, in a drain, each client is told to go, and closed where it idles: not all at once, so that whoever takes over does not meet all of
//! them in one moment. Pure: of times and numbers.
//!
//! ```text
//!  the drain begins                 its moment                            closed, if it idles still
//!        │ answered, and kept as ever │ told with its next answer to go       │
//!        └──────── its share ─────────┴──────────── idle_kept ────────────────┘
//! ```
//! Connections are numbered in the order in which the drain meets them. The moment of each is the fraction that multiples of the golden
//! ratio give to its number: they lie evenly over the spread, however many there are, and nobody has to count them first.

use crate::config::plan::Timeouts;
use hp_core::rt::Instant;
use std::time::Duration;

/// One worker's part in a drain that is spread. Or a thread's, which has one connection.
#[derive(Debug)]
pub(super) struct Departure {
    begins: Instant,
    spread: Duration,
    /// How long one that idles is kept after its moment: its next request may be on its way.
    idle_kept: Duration,
    /// When nothing is kept any more, so that none is cut that idles: before the drain is over.
    settled: Instant,
    /// This worker's number among so many: its connections are `worker`, `worker + workers`, and so on, so that those of all workers
    /// differ and are about the first that there are.
    worker: u32,
    workers: u32,
    /// How many connections have been met.
    met: u32,
    /// By place: which one it was; 0: it was not met.
    numbers: Vec<u32>,
}

impl Departure {
    /// Of a drain that begins now, for one worker of so many. Where the times do not fit into the drain, they are shorter: what
    /// idles is closed before the rest is cut.
    pub(super) fn of_worker(
        begins: Instant,
        (timeouts, idle_kept): (&Timeouts, Duration),
        (worker, workers): (u32, u32),
    ) -> Self {
        Self {
            begins,
            spread: timeouts
                .close_spread
                .min(Timeouts::close_spread_max(timeouts.drain)),
            idle_kept: idle_kept.min(timeouts.drain / 3),
            settled: begins + timeouts.drain * 5 / 6,
            worker,
            workers,
            met: 0,
            numbers: Vec::new(),
        }
    }

    /// The same for the one connection of a thread, whose number no other thread has.
    pub(super) fn of_thread(begins: Instant, times: (&Timeouts, Duration), thread: u32) -> Self {
        let mut all = Self::of_worker(begins, times, (thread, 0));
        Self {
            begins: all.told_from(0),
            spread: Duration::ZERO,
            ..all
        }
    }

    /// From when on the client of the connection at a place is told to go.
    pub(super) fn told_from(&mut self, place: u32) -> Instant {
        let number = u64::from(self.number(place)) * u64::from(self.workers);
        let number = number + u64::from(self.worker);
        let turned = number.wrapping_mul(GOLDEN).wrapping_add(HALF); // Of 2^64, which is a whole turn.
        let share = (self.spread.as_nanos() * u128::from(turned)) >> 64;
        self.begins + Duration::from_nanos(u64::try_from(share).unwrap_or(u64::MAX))
    }

    /// When it is closed, if it idles.
    pub(super) fn closed_from(&mut self, place: u32) -> Instant {
        self.told_from(place) + self.idle_kept
    }

    /// From when on every client is told.
    pub(super) fn all_told_from(&self) -> Instant {
        self.begins + self.spread
    }

    /// From when on nothing idles.
    pub(super) fn all_closed_from(&self) -> Instant {
        self.all_told_from() + self.idle_kept
    }

    /// The same of one that has idled for so long now: its answer may have begun before its moment, told it that it lives on, and ended long after.
    pub(super) fn closed_after(
        &mut self,
        place: u32,
        (now, idled): (Instant, Duration),
    ) -> Instant {
        let left = self.kept_from(now).saturating_sub(idled);
        self.closed_from(place).max(now + left)
    }

    /// How long one is kept that begins to idle now, whatever its moment was.
    pub(super) fn kept_from(&self, now: Instant) -> Duration {
        self.idle_kept.min(self.settled - now)
    }

    /// How many were met before the one at a place.
    fn number(&mut self, place: u32) -> u32 {
        let place = place as usize;
        if self.numbers.len() <= place {
            self.numbers.resize(place + 1, 0);
        }
        match self.numbers.get_mut(place) {
            Some(number) => {
                if *number == 0 {
                    self.met = self.met.saturating_add(1);
                    *number = self.met;
                }
                *number - 1
            }
            None => 0, // Never: there is room.
        }
    }
}

/// 2^64 divided by the golden ratio: of all numbers, its multiples lie most evenly, however many of them one takes.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
/// Where the turns begin: the first connection leaves in the middle of the spread, so that a single one is neither told at once nor last.
const HALF: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_nanos(5_000_000_000);

    fn timeouts(drain: Duration, close_spread: Duration) -> Timeouts {
        Timeouts {
            drain,
            close_spread,
            ..Timeouts::default()
        }
    }

    /// How many of these connections have their moment in each tenth of the spread.
    fn tenths(moments: impl Iterator<Item = Instant>, spread: Duration) -> [u32; 10] {
        let mut tenths = [0; 10];
        for moment in moments {
            let tenth = (moment - START).as_nanos() * 10 / spread.as_nanos();
            tenths[usize::try_from(tenth).unwrap()] += 1;
        }
        tenths
    }

    #[test]
    fn each_tenth_of_the_spread_has_a_tenth_of_the_connections() {
        let spread = Duration::from_secs(1);
        let timeouts = timeouts(Duration::from_secs(30), spread);
        for count in [10, 37, 100, 1_000, 10_000] {
            for workers in [1, 2, 3, 16] {
                let each = (0..workers).flat_map(|worker| {
                    let times = (&timeouts, Duration::ZERO);
                    let mut departure = Departure::of_worker(START, times, (worker, workers));
                    // Places do not matter: squares lie anyhow.
                    let places = (0..count / workers).map(|n| n * n % 65_537);
                    let moments = places.map(|place| departure.told_from(place));
                    moments.collect::<Vec<_>>()
                });
                for in_tenth in tenths(each, spread) {
                    let all = count / workers * workers;
                    let off = f64::from(in_tenth) - f64::from(all) / 10.0;
                    assert!(off.abs() <= 2.0, "{in_tenth} of {all}");
                }
            }
        }
    }

    #[test]
    fn a_connection_has_one_moment() {
        let timeouts = timeouts(Duration::from_secs(30), Duration::from_secs(1));
        let times = (&timeouts, Duration::from_secs(1));
        let mut departure = Departure::of_worker(START, times, (0, 1));
        let moments = [7, 3, 100, 0].map(|place| departure.told_from(place));
        let again = [7, 3, 100, 0].map(|place| departure.told_from(place));
        assert_eq!(moments, again);
        assert_eq!(
            departure.closed_from(3),
            moments[1] + Duration::from_secs(1)
        );
        assert_eq!(moments[0], START + Duration::from_millis(500), "the middle");
    }

    #[test]
    fn threads_leave_as_evenly_as_the_connections_of_a_worker() {
        let spread = Duration::from_millis(600);
        let timeouts = timeouts(Duration::from_secs(30), spread);
        let kept = Duration::from_millis(100);
        let of = |thread| Departure::of_thread(START, (&timeouts, kept), thread);
        // Seats are numbered behind the workers.
        let moments = (4..104).map(|thread| of(thread).told_from(0));
        let tenths = tenths(moments, spread);
        assert!(
            tenths.iter().all(|count| (8..=12).contains(count)),
            "{tenths:?}"
        );
        for thread in 4..104 {
            let mut one = of(thread);
            assert_eq!(one.told_from(9), one.told_from(0));
            assert_eq!(one.all_told_from(), one.told_from(0));
            assert_eq!(one.all_closed_from(), one.told_from(0) + kept);
        }
    }

    #[test]
    fn without_a_spread_all_are_told_at_once() {
        let timeouts = timeouts(Duration::from_secs(30), Duration::ZERO);
        let kept = Duration::from_secs(1);
        let mut departure = Departure::of_worker(START, (&timeouts, kept), (1, 2));
        for place in 0..100 {
            assert_eq!(departure.told_from(place), START);
            assert_eq!(departure.closed_from(place), START + kept);
        }
    }

    #[test]
    fn who_begins_to_idle_after_its_moment_is_kept_from_then_on() {
        let timeouts = timeouts(Duration::from_secs(30), Duration::from_secs(2));
        let kept = Duration::from_secs(1);
        let mut departure = Departure::of_worker(START, (&timeouts, kept), (0, 1));
        let moment = departure.told_from(0);
        let mut after = |now, idled| departure.closed_after(0, (now, idled));
        let early = START + Duration::from_millis(1);
        assert_eq!(after(early, Duration::ZERO), moment + kept);
        let late = moment + kept * 2;
        assert_eq!(after(late, Duration::ZERO), late + kept);
        assert_eq!(after(late, kept), late, "it has idled already");
    }

    #[test]
    fn what_idles_is_closed_before_the_drain_is_over() {
        for millis in [0, 1, 100, 1_000, 3_000, 30_000] {
            let drain = Duration::from_millis(millis);
            let timeouts = timeouts(drain, Duration::from_secs(3600));
            let kept = Duration::from_secs(1);
            let mut departure = Departure::of_worker(START, (&timeouts, kept), (0, 1));
            assert!(departure.all_closed_from() <= START + drain * 5 / 6);
            for place in 0..100 {
                assert!(departure.told_from(place) <= departure.all_told_from());
                assert!(departure.closed_from(place) <= departure.all_closed_from());
            }
            for at in [drain / 2, drain * 4 / 5, drain, drain * 2] {
                let until = START + at + departure.kept_from(START + at);
                assert!(until <= START + (drain * 5 / 6).max(at));
            }
        }
    }
}
