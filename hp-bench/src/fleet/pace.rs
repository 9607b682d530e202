//! Who is given which request when, and what becomes of those that nobody can send.
//!
//! A rate may be far beyond all reach: what is given up then is counted in pieces, and the pacer leaves the others their turns.
//!
//! Must not know: what is said on a connection.

use std::collections::VecDeque;
use std::time::Duration;

use hp_core::rt::Instant;

use super::Fleet;
use crate::pacer::{Due, Meeting};
use crate::plan::Pace;
use crate::schedule::{Arrivals, Lateness, Timetable};

impl Fleet {
    /// Hands out the requests of a common schedule until the end; see [`crate::pacer`].
    pub(crate) async fn pace(&self) {
        let Some(meeting) = &self.meeting else {
            return;
        };
        if let Some(mut timetable) = Timetable::new(&self.plan, self.worker) {
            self.hand_out(meeting, &mut timetable).await;
            // What was due and found no free connection belongs to the response times as well.
            if self.left.get() > 0 {
                self.give_up_rest(&mut timetable);
            }
        }
        meeting.end();
    }

    async fn hand_out(&self, meeting: &Meeting, timetable: &mut Timetable) {
        let limits = timetable.limits(&self.plan);
        let begin = self.window.begin.get();
        let mut not_before = Instant::START;
        while let Some(since) = timetable.due() {
            let at = begin + since;
            if at >= self.window.stop.get() {
                break;
            }
            self.precisely_until(at.max(not_before)).await;
            let mut able = at.max(not_before);
            if self.give_up_late(timetable, &limits) {
                continue; // In the same turn: the clock goes on meanwhile, and a rate beyond all reach is always late.
            }
            if meeting.all_busy() {
                meeting.somebody_free().await;
                able = able.max(self.plan.stamp.now(&self.rt));
            }
            if self.is_over() || meeting.is_over() || !self.spend(at) {
                break;
            }
            let request = timetable
                .request()
                .unwrap_or_else(|| self.plan.choice.draw(&mut self.dice.borrow_mut()));
            let is_given = meeting.give(Due { at, able, request });
            debug_assert!(is_given);
            timetable.advance();
            if let Some(factor) = limits.catch_up {
                let rate = timetable.rate_at(self.rt.now() - begin) * factor;
                let gap = Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::ZERO);
                not_before = self.rt.precise_now() + gap;
            }
        }
    }

    /// Gives up the oldest of a backlog that is too long by the turn's clock; says whether there were any.
    fn give_up_late(&self, timetable: &mut Timetable, limits: &Lateness) -> bool {
        let Timetable::Rate(arrivals) = timetable else {
            return false; // Recorded traffic has no bound for its backlog.
        };
        let (begin, now) = (self.window.begin.get(), self.rt.now());
        for singly in 0.. {
            let excess = limits.excess(arrivals.backlog_at(now - begin));
            if excess == 0 {
                return singly > 0;
            }
            if singly >= SINGLY_IN_A_TURN || !self.is_drawn_on(arrivals) {
                self.give_up_evenly(arrivals, excess, now);
                return true;
            }
            self.give_up_one(arrivals, now);
        }
        true
    }

    /// Gives up all that was due before the end of the counted window.
    fn give_up_rest(&self, timetable: &mut Timetable) {
        let (begin, end) = (self.window.begin.get(), self.window.end.get());
        match timetable {
            Timetable::Rate(arrivals) => self.give_up_arrivals(arrivals),
            Timetable::Recorded { .. } => {
                while let Some(since) = timetable.due().filter(|since| begin + *since < end) {
                    self.never_sent(begin + since, self.given_up_at());
                    timetable.advance();
                }
            }
        }
    }

    fn give_up_arrivals(&self, arrivals: &mut Arrivals) {
        let (begin, end) = (self.window.begin.get(), self.window.end.get());
        let now = self.given_up_at();
        let length = end - begin;
        while self.is_drawn_on(arrivals) && arrivals.due().is_some_and(|since| since < length) {
            self.give_up_one(arrivals, now);
        }
        self.give_up_evenly(arrivals, arrivals.due_before(length), now);
    }

    /// Whether the next arrival that is given up is drawn by chance; with too many of them they are taken at even distances.
    fn is_drawn_on(&self, arrivals: &Arrivals) -> bool {
        arrivals.is_drawn() && self.given_up_singly.get() < SINGLY_MAX
    }

    fn give_up_one(&self, arrivals: &mut Arrivals, now: Instant) {
        if let Some(since) = arrivals.due() {
            self.never_sent(self.window.begin.get() + since, now);
        }
        arrivals.advance();
        self.given_up_singly.set(self.given_up_singly.get() + 1);
    }

    /// Gives up the next `count`, at even distances: together those whose waits are one value to the histograms, or differ by less
    /// than [`Fleet::width_min`].
    fn give_up_evenly(&self, arrivals: &mut Arrivals, count: u64, now: Instant) {
        let (begin, window) = (self.window.begin.get(), &self.window);
        let mut left = count;
        let longest = arrivals
            .due()
            .map_or(Duration::ZERO, |first| now - (begin + first));
        let width_min = self.width_min(count, longest);
        while left > 0
            && let Some(since) = arrivals.due()
        {
            let at = begin + since;
            let record = self.record_of(at);
            let shortest = record.borrow().shortest_like(now - at);
            let width = (now - at).saturating_sub(shortest).max(width_min);
            let mut until = at + width + Duration::from_nanos(1);
            for edge in [window.from.get(), window.end.get()] {
                if at < edge {
                    until = until.min(edge);
                }
            }
            let together = arrivals.due_before(until - begin).clamp(1, left);
            arrivals.skip(together - 1);
            let last = arrivals.due().map_or(at, |since| begin + since);
            record.borrow_mut().never_sent(now - last, together);
            arrivals.skip(1);
            left -= together;
        }
    }

    /// How long waits may differ that many schedules of one thread, each with its `count`, still count as one; zero where there are few.
    fn width_min(&self, count: u64, longest: Duration) -> Duration {
        let schedules = u32::try_from(self.own_schedules.len()).unwrap_or(u32::MAX);
        let pieces = (PIECES_MAX / schedules.max(1)).max(PIECES_MIN);
        if schedules <= WHOLE_SCHEDULES_MAX || count <= u64::from(pieces) {
            return Duration::ZERO;
        }
        longest / pieces
    }

    /// At the end of a connection's task: what it should have sent and did not.
    pub(crate) fn leave(&self, idx: usize, held: VecDeque<Due>) {
        if self.plan.pace == Pace::Closed {
            return;
        }
        let given = self.meeting.as_ref().and_then(|meeting| meeting.given(idx));
        for due in held.into_iter().chain(given) {
            self.never_sent(due.at, self.given_up_at());
        }
        if let Some(own) = self.own_schedules.get(idx) {
            self.give_up_arrivals(&mut own.borrow_mut());
        }
    }

    fn never_sent(&self, at: Instant, now: Instant) {
        self.record_of(at).borrow_mut().never_sent(now - at, 1);
    }
}

/// Arrivals drawn by chance that a thread gives up one by one in a run.
const SINGLY_MAX: u32 = 1_000_000;
/// The same at a time; the others are taken at even distances.
const SINGLY_IN_A_TURN: u32 = 1024;
/// Schedules of a thread that are given up value by value of the histograms, of which there are some 30,000 up to a minute.
const WHOLE_SCHEDULES_MAX: u32 = 25;
/// Pieces in which more of them are given up, all together.
const PIECES_MAX: u32 = 1_000_000;
/// Pieces of each of them at least: its waits are right to 1 % of the longest.
const PIECES_MIN: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Plan, SharedPlan};

    /// Of one connection; its load begins at 1 s, with a warm-up of 10 ms, and unless the flags say more, a window of 10 ms.
    fn fleet(flags: &[&str]) -> Fleet {
        let fixed = ["hp-bench", "127.0.0.1:1", "-c", "1", "--warmup", "10ms"];
        let length = if flags.contains(&"-d") {
            &[][..]
        } else {
            &["-d", "10ms"]
        };
        let words = fixed.iter().chain(length).chain(flags);
        let words = words.map(std::ffi::OsString::from);
        let plan = Plan::resolve(&crate::cli::parse(words).unwrap(), 1).unwrap();
        let rt = hp_core::rt::Rt::new(&hp_core::rt::RtOptions {
            engine: hp_core::rt::Engine::Epoll,
            ..hp_core::rt::RtOptions::default()
        });
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let fleet = Fleet::new(rt.unwrap(), SharedPlan::new(plan), addr.into(), 0);
        fleet.begin_at(Instant::from_nanos(1_000_000_000));
        fleet
    }

    fn arrivals(fleet: &Fleet) -> Arrivals {
        match Timetable::new(&fleet.plan, 0) {
            Some(Timetable::Rate(arrivals)) => arrivals,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_given_up_together_count_as_one_by_one() {
        for rate in ["150", "33333", "777777", "1M:3M"] {
            let (together, singly) = (fleet(&["-R", rate]), fleet(&["-R", rate]));
            let mut rest = arrivals(&together);
            together.give_up_arrivals(&mut rest);
            let mut one_by_one = arrivals(&singly);
            let (begin, end) = (singly.window.begin.get(), singly.window.end.get());
            while let Some(since) = one_by_one.due().filter(|since| begin + *since < end) {
                singly.never_sent(begin + since, singly.given_up_at());
                one_by_one.advance();
            }
            assert_eq!(rest.due(), one_by_one.due(), "{rate}");
            for (one, other) in [
                (&together.record, &singly.record),
                (&together.uncounted, &singly.uncounted),
            ] {
                let (one, other) = (one.borrow(), other.borrow());
                assert!(one.unsent > 0, "{rate}");
                assert_eq!((one.unsent, one.censored), (other.unsent, other.censored));
                assert_eq!(one.latency(), other.latency(), "{rate}");
            }
        }
    }

    /// A billion requests took minutes one by one.
    #[test]
    fn what_no_rate_reaches_is_given_up_in_pieces() {
        for arrival in ["uniform", "poisson"] {
            let far = fleet(&["-R", "100M", "-d", "10s", "--arrival", arrival]);
            far.give_up_arrivals(&mut arrivals(&far));
            let unsent = far.record.borrow().unsent;
            let off = unsent.abs_diff(1_000_000_000);
            let off_max = if arrival == "uniform" { 0 } else { 10_000 };
            assert!(off <= off_max, "{arrival}: {unsent}");
            assert_eq!(far.record.borrow().latency().len(), unsent);
        }
    }

    #[test]
    fn a_backlog_beyond_its_bound_is_given_up_at_once() {
        let far = fleet(&["-R", "100M", "--max-backlog", "5"]);
        let mut timetable = Timetable::new(&far.plan, 0).unwrap();
        let limits = timetable.limits(&far.plan);
        let begin = Instant::from_nanos(far.rt.now().as_nanos().saturating_sub(1_000_000_000));
        far.window.begin.set(begin);
        assert!(far.give_up_late(&mut timetable, &limits));
        let Timetable::Rate(arrivals) = &timetable else {
            panic!("{timetable:?}");
        };
        let backlog = arrivals.backlog_at(far.rt.now() - begin);
        assert!((4.9..=6.1).contains(&backlog), "{backlog}");
        assert!(!far.give_up_late(&mut timetable, &limits));
    }
}
