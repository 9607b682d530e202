//! Turns: stretches of the monotonic clock in which alone requests begin, so that several generators load one machine by turns.

use std::time::Duration;

use hp_core::rt::Instant;

use super::{Pace, Plan, PlanError, flag};
use crate::cli::load::LoadArgs;

/// Which stretches of the clock are ours.
///
/// ```text
/// clock  0        1        2        3        4        5      times the length
/// 1/2    ├────────┤        ├────────┤        ├────────┤
/// 2/2             ├────────┤        ├────────┤        ├──
/// ```
///
/// The clock's own zero is where they are counted from, so processes of one machine agree without talking.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Turns {
    /// Length of a turn: 1 ms to 10 s.
    pub length: Duration,
    /// Which of the turns is ours: 1 to `of`.
    pub turn: u32,
    /// How many take turns: 2 to [`TURNS_MAX`].
    pub of: u32,
}

impl Turns {
    /// Whether this moment is in a turn of ours; its first is, the one after its last is not.
    pub fn has(self, at: Instant) -> bool {
        let since = self.since_cycle(at);
        (self.own()..self.own() + self.length_ns()).contains(&since)
    }

    /// The moment itself where it is in a turn of ours, else the beginning of the next.
    pub fn next(self, at: Instant) -> Instant {
        let since = self.since_cycle(at);
        let wait = if self.has(at) {
            0
        } else if since < self.own() {
            self.own() - since
        } else {
            self.cycle() - since + self.own()
        };
        at + Duration::from_nanos(wait)
    }

    /// How much of the time between two moments is ours; zero where the second is not the later one.
    pub fn between(self, from: Instant, until: Instant) -> Duration {
        let before = |at: Instant| {
            let cycles = at.as_nanos() / self.cycle();
            let rest = self.since_cycle(at).saturating_sub(self.own());
            cycles * self.length_ns() + rest.min(self.length_ns())
        };
        Duration::from_nanos(before(until).saturating_sub(before(from)))
    }

    /// From a turn's beginning to that of the next of the same generator.
    pub fn cycle_length(self) -> Duration {
        Duration::from_nanos(self.cycle())
    }

    fn length_ns(self) -> u64 {
        u64::try_from(self.length.as_nanos())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    fn cycle(self) -> u64 {
        self.length_ns().saturating_mul(self.of.into())
    }

    fn since_cycle(self, at: Instant) -> u64 {
        at.as_nanos() % self.cycle()
    }

    /// Where our turn begins in a cycle.
    fn own(self) -> u64 {
        self.length_ns() * u64::from(self.turn.saturating_sub(1))
    }
}

/// Reads `--turns 50ms --turn 1/2`.
pub(super) fn turns(load: &LoadArgs) -> Result<Option<Turns>, PlanError> {
    let (length, text) = match (load.turns, &load.turn) {
        (None, None) => return Ok(None),
        (Some(length), Some(text)) => (length, text),
        (Some(_), None) => return Err(flag("--turns", "says no turn; add --turn 1/2")),
        (None, Some(_)) => return Err(flag("--turn", "has no length; add --turns 50ms")),
    };
    if !(LENGTH_MIN..=LENGTH_MAX).contains(&length) {
        return Err(flag("--turns", "out of range; give 1ms to 10s"));
    }
    let bad = || {
        let cause =
            format!("{text:?} is no turn; write K/N with N from 2 to {TURNS_MAX}, K from 1 to N");
        flag("--turn", cause)
    };
    let plain = |word: &str| {
        let is_plain = word.bytes().all(|b| b.is_ascii_digit());
        word.parse::<u32>().ok().filter(|_| is_plain)
    };
    let (turn, of) = text.split_once('/').ok_or_else(bad)?;
    let (turn, of) = plain(turn).zip(plain(of)).ok_or_else(bad)?;
    if !(2..=TURNS_MAX).contains(&of) || !(1..=of).contains(&turn) {
        return Err(bad());
    }
    Ok(Some(Turns { length, turn, of }))
}

impl Plan {
    /// Refuses what does not stop at a turn's end, and a window in which each does not have a whole one.
    pub(super) fn check_turns(&self) -> Result<(), PlanError> {
        let Some(turns) = self.turns else {
            return Ok(());
        };
        let against = [
            (
                self.pace != Pace::Closed,
                "a schedule does not wait for turns; leave -R, --steps and --replay out",
            ),
            (
                !self.ramp_conns.is_zero(),
                "connections that open one after the other take no turns; leave --ramp-conns out",
            ),
            (
                self.stall.is_some() || self.read_rate > 0 || self.write_rate > 0,
                "slow exchanges go on in the turns of others; leave --stall, --read-rate and --write-rate out",
            ),
            (
                self.duration < turns.cycle_length(),
                "longer, all together, than the run; give a longer -d, or shorter turns",
            ),
        ];
        match against.into_iter().find(|(is_there, _)| *is_there) {
            Some((_, cause)) => Err(flag("--turns", cause)),
            None => Ok(()),
        }
    }
}

/// The most that take turns.
pub const TURNS_MAX: u32 = 64;
const LENGTH_MIN: Duration = Duration::from_millis(1);
const LENGTH_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn of_three(turn: u32) -> Turns {
        Turns {
            length: Duration::from_millis(10),
            turn,
            of: 3,
        }
    }

    #[test]
    fn every_moment_is_in_exactly_one_turn() {
        for nanos in (0..90_000_000)
            .step_by(333_333)
            .chain([9_999_999, 10_000_000])
        {
            let at = Instant::from_nanos(nanos);
            let owners = (1..=3).filter(|turn| of_three(*turn).has(at));
            assert_eq!(owners.count(), 1, "{nanos}");
        }
        assert!(of_three(1).has(at(0)) && !of_three(1).has(at(10)) && of_three(2).has(at(10)));
    }

    #[test]
    fn the_next_turn_is_now_or_begins_a_turn() {
        for (turn, from, want) in [
            (1, 0, 0),
            (1, 9, 9),
            (1, 10, 30),
            (2, 0, 10),
            (2, 19, 19),
            (2, 20, 40),
            (3, 29, 29),
            (3, 30, 50),
        ] {
            assert_eq!(of_three(turn).next(at(from)), at(want), "{turn} {from}");
        }
    }

    #[test]
    fn the_time_in_turn_is_what_the_moments_say() {
        for turn in 1..=3 {
            for from in 0..70 {
                for until in 0..70 {
                    let in_turn = (from..until).filter(|millis| of_three(turn).has(at(*millis)));
                    let want = Duration::from_millis(in_turn.count() as u64);
                    let seen = of_three(turn).between(at(from), at(until));
                    assert_eq!(seen, want, "{turn}: {from} to {until}");
                }
            }
        }
    }

    #[test]
    fn the_turns_of_all_make_up_the_time() {
        let (from, until) = (
            Instant::from_nanos(1_234_567),
            Instant::from_nanos(98_765_432),
        );
        let all: Duration = (1..=3)
            .map(|turn| of_three(turn).between(from, until))
            .sum();
        assert_eq!(all, until - from);
    }
}
