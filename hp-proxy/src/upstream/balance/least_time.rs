//! Whoever should answer first: peak EWMA. An endpoint's time jumps up with a slow answer at once and comes down over
//! ten seconds; it is multiplied by what is in flight there. One that nobody has asked for long is forgotten to be slow, so it is tried again.

use super::Choice;
use hp_core::rt::Instant;
use std::time::Duration;

/// Times of all members.
#[derive(Clone, Debug)]
pub struct LeastTime {
    times: Vec<Time>,
    next: usize,
}

/// A member's answer time.
#[derive(Clone, Copy, Debug)]
struct Time {
    /// In nanoseconds, as of `at`; 0: nothing is known.
    nanos: f64,
    at: Instant,
}

impl LeastTime {
    /// Nothing is known of so many members; the first among equals is the member of that number.
    #[must_use]
    pub fn new(members: usize, first: usize) -> Self {
        let unknown = Time {
            nanos: 0.0,
            at: Instant::START,
        };
        Self {
            times: vec![unknown; members],
            next: first,
        }
    }

    /// Takes over what is known of members that were there under the plan before.
    pub(super) fn follow(&mut self, before: &Self, was: &[Option<usize>]) {
        for (time, was) in self.times.iter_mut().zip(was) {
            if let Some(known) = was.and_then(|was| before.times.get(was)) {
                *time = *known;
            }
        }
    }

    pub(super) fn peek<L: Fn(usize) -> u32, U: Fn(usize) -> bool>(
        &self,
        choice: &Choice<'_, L, U>,
    ) -> Option<usize> {
        let first = self.next.checked_rem(choice.len())?;
        let mut best: Option<(f64, usize)> = None;
        for member in choice.takers_from(first) {
            let cost = self.cost(choice, member);
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, member));
            }
        }
        best.map(|(_, member)| member)
    }

    pub(super) fn commit(&mut self, picked: usize) {
        self.next = picked + 1;
    }

    pub(super) fn observe(&mut self, member: usize, now: Instant, took: Duration) {
        let Some(time) = self.times.get_mut(member) else {
            return;
        };
        let sample = took.as_nanos() as f64;
        let kept = time.kept(now);
        time.nanos = if sample > time.nanos * kept {
            sample
        } else {
            time.nanos * kept + sample * (1.0 - kept)
        };
        time.at = now;
    }

    /// What this request would wait there, for the member's weight.
    fn cost<L: Fn(usize) -> u32, U: Fn(usize) -> bool>(
        &self,
        choice: &Choice<'_, L, U>,
        member: usize,
    ) -> f64 {
        let load = f64::from((choice.load)(member));
        let nanos = self
            .times
            .get(member)
            .map_or(0.0, |time| time.nanos * time.kept(choice.now));
        // Nobody knows it: one request may find out, more go where times are known.
        let nanos = match (nanos > 0.0, load > 0.0) {
            (true, _) => nanos,
            (false, true) => UNKNOWN_NANOS,
            (false, false) => 0.0,
        };
        nanos * (load + 1.0) / choice.weight(member).max(1) as f64
    }
}

impl Time {
    /// How much of it is still believed, 0 to 1.
    fn kept(&self, now: Instant) -> f64 {
        let elapsed = (now - self.at).as_secs_f64();
        (-elapsed / MEMORY.as_secs_f64()).exp()
    }
}

/// After so long a third of an answer time is left of it.
const MEMORY: Duration = Duration::from_secs(10);

/// What a second request is taken to wait at an endpoint that has not answered yet.
const UNKNOWN_NANOS: f64 = 1e9;

#[cfg(test)]
mod tests {
    use super::super::Method;
    use super::super::suite::{Bench, balancer, weighted};
    use std::time::Duration;

    fn known(millis: &[u64]) -> Bench {
        let members = weighted(&vec![1; millis.len()]);
        let mut bench = Bench::new(balancer(Method::LeastTime, members, 0));
        for (member, millis) in millis.iter().enumerate() {
            let took = Duration::from_millis(*millis);
            bench.balancer.observe(member, bench.now, took);
        }
        bench
    }

    #[test]
    fn the_fastest_takes_requests_until_its_queue_outweighs_its_speed() {
        let mut bench = known(&[10, 30]);
        let picked: Vec<_> = (0..4).map(|_| bench.serve().unwrap()).collect();
        assert_eq!(picked.iter().filter(|picked| **picked == 0).count(), 3);
    }

    #[test]
    fn one_slow_answer_counts_at_once_and_is_forgotten_slowly() {
        let mut bench = known(&[10, 20]);
        bench.ends_at_once = true;
        assert_eq!(bench.serve(), Some(0));
        bench
            .balancer
            .observe(0, bench.now, Duration::from_millis(500));
        assert_eq!(bench.serve(), Some(1));
        // The other goes on to answer in 20 ms; the slow one is tried again once little is left of its 500 ms.
        let mut tried_after = None;
        for second in 1..=120 {
            bench.now = bench.now + Duration::from_secs(1);
            if bench.serve() == Some(0) {
                tried_after = Some(second);
                break;
            }
            bench
                .balancer
                .observe(1, bench.now, Duration::from_millis(20));
        }
        assert!(
            tried_after.is_some_and(|second| (10..60).contains(&second)),
            "{tried_after:?}"
        );
    }

    #[test]
    fn an_endpoint_that_never_answered_gets_one_request_at_a_time() {
        let mut bench = Bench::new(balancer(Method::LeastTime, weighted(&[1, 1]), 0));
        bench
            .balancer
            .observe(1, bench.now, Duration::from_millis(5));
        assert_eq!(bench.serve(), Some(0));
        assert_eq!(bench.serve(), Some(1));
        assert_eq!(bench.serve(), Some(1));
    }
}
