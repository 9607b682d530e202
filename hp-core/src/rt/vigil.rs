//! Looking for work again and again, for a while, before the loop sleeps.
//!
//! A thread that sleeps has to be woken, which costs whoever waits for it 5 to 50 µs. Where few requests are under way nothing else
//! costs as much; a thread that has a CPU of its own may stay awake instead.

use super::{Instant, Rt};
use std::cell::Cell;
use std::time::Duration;

/// ```text
/// working ──a turn without a task──► awake, since that turn ──the length is over──► asleep
///    ▲                                      │                                         │
///    └────────────── a task ────────────────┴─────────────────────────────────────────┘
/// ```
#[derive(Debug, Default)]
pub(super) struct Vigil {
    /// Zero: none is held.
    length: Cell<Duration>,
    /// No task has run in this turn.
    is_idle: Cell<bool>,
    /// When the last turn ended in which one did.
    since: Cell<Option<Instant>>,
}

impl Vigil {
    #[inline]
    pub(super) fn note_turn(&self, is_idle: bool) {
        self.is_idle.set(is_idle);
    }

    /// Whether the loop goes on although there is nothing to do.
    #[inline]
    pub(super) fn holds(&self, now: impl FnOnce() -> Instant) -> bool {
        !self.length.get().is_zero() && self.goes_on(now())
    }

    #[cold]
    fn goes_on(&self, now: Instant) -> bool {
        if !self.is_idle.get() {
            self.since.set(Some(now));
        }
        let is_short = |since: Instant| now - since < self.length.get();
        self.since.get().is_some_and(is_short)
    }
}

impl Rt {
    /// Looks for what the kernel has, again and again, for so long after the last task before it sleeps: who comes in this time need not
    /// wake this thread, and the CPU is busy meanwhile. For a thread that has a CPU of its own. Zero, as at the start: it sleeps at once.
    pub fn spin_before_sleep(&self, length: Duration) {
        self.0.vigil.length.set(length);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Engine, RtOptions};
    use super::*;

    fn at(micros: u64) -> Instant {
        Instant::from_nanos(micros * 1000)
    }

    fn vigil(micros: u64) -> Vigil {
        let vigil = Vigil::default();
        vigil.length.set(Duration::from_micros(micros));
        vigil
    }

    /// After a turn that ends at this time.
    fn holds(vigil: &Vigil, is_idle: bool, micros: u64) -> bool {
        vigil.note_turn(is_idle);
        vigil.holds(|| at(micros))
    }

    #[test]
    fn it_lasts_its_length_from_the_last_turn_with_a_task() {
        let vigil = vigil(50);
        assert!(!holds(&vigil, true, 5), "nothing was ever done");
        assert!(holds(&vigil, false, 100));
        assert!(holds(&vigil, true, 120));
        assert!(holds(&vigil, true, 149));
        assert!(!holds(&vigil, true, 150));
        assert!(!holds(&vigil, true, 151));
    }

    #[test]
    fn every_task_begins_it_anew() {
        let vigil = vigil(50);
        for micros in (0..1000).step_by(40) {
            assert!(holds(&vigil, false, micros));
            assert!(holds(&vigil, true, micros + 39));
        }
    }

    #[test]
    fn without_a_length_no_clock_is_read() {
        let vigil = Vigil::default();
        vigil.note_turn(false);
        assert!(!vigil.holds(|| unreachable!("the clock")));
    }

    /// How many short sleeps pass until the loop has gone round so many times; `sleeps` at most.
    fn sleeps_until(engine: Engine, length: Duration, turns: u64, sleeps: u32) -> u32 {
        let rt = Rt::new(&RtOptions {
            engine,
            ..RtOptions::default()
        });
        let rt = rt.unwrap();
        rt.spin_before_sleep(length);
        rt.block_on(async {
            for slept in 0..sleeps {
                if rt.stats().turns >= turns {
                    return slept;
                }
                rt.spawn(async {});
                rt.sleep_until(rt.now() + Duration::from_millis(1)).await;
            }
            sleeps
        })
    }

    #[test]
    fn a_loop_that_stays_awake_goes_round_until_its_time() {
        for engine in [Engine::Epoll, Engine::Auto] {
            let hour = Duration::from_secs(3600);
            assert!(sleeps_until(engine, hour, 5000, 500) < 500, "{engine}");
            let asleep = sleeps_until(engine, Duration::ZERO, 5000, 100);
            assert_eq!(asleep, 100, "{engine}: it sleeps in between");
        }
    }
}
