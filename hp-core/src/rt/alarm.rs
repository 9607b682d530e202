//! Waiting for a point in time to the nanosecond, for the few who pace something.
//!
//! Timeouts live in the timer wheel, where arming is cheap and a tick is a millisecond. An alarm is kept in order of its
//! deadline instead, and the wait for the kernel ends with it.

use super::{Instant, Rt};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Alarms that are set, the earliest first.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    set: BTreeMap<AlarmKey, Waker>,
    next_number: u64,
}

/// Names one alarm: when it goes off, and which of those that go off together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AlarmKey {
    deadline: Instant,
    number: u64,
}

impl Alarms {
    pub(super) fn insert(&mut self, deadline: Instant, waker: Waker) -> AlarmKey {
        let number = self.next_number;
        self.next_number += 1;
        let key = AlarmKey { deadline, number };
        self.set.insert(key, waker);
        key
    }

    /// Takes an alarm out; nothing happens when it has gone off.
    pub(super) fn remove(&mut self, key: AlarmKey) {
        drop(self.set.remove(&key));
    }

    /// Takes out the first alarm whose time has come; `None` when there is none up to `now`.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Waker> {
        let first = self.set.first_entry()?;
        (first.key().deadline <= now).then(|| first.remove())
    }

    /// When the first goes off; `None` when none is set.
    pub(super) fn next(&self) -> Option<Instant> {
        self.set.first_key_value().map(|(key, _)| key.deadline)
    }
}

/// Ready at its deadline, as precisely as the kernel wakes.
#[derive(Debug)]
pub struct Alarm {
    rt: Rt,
    deadline: Instant,
    key: Option<AlarmKey>,
}

impl Rt {
    /// Waits for a point in time to the nanosecond; at once when it has passed.
    ///
    /// Costs more than [`Rt::sleep_until`]: setting it takes a step in a tree, and each wait reads the clock once more as
    /// long as one is set. The kernel adds its timer slack to the wait
    /// ([`set_timer_slack`](crate::sys::clock::set_timer_slack)).
    #[must_use]
    pub fn alarm_at(&self, deadline: Instant) -> Alarm {
        Alarm {
            rt: self.clone(),
            deadline,
            key: None,
        }
    }
}

impl Rt {
    /// Stops sleeping so long before an alarm, and looks for it, and for what the kernel has, again and again: no wake-up is
    /// late then, and the CPU is busy meanwhile. For a thread that has a CPU of its own; zero, as at the start, always sleeps.
    pub fn spin_before_alarms(&self, length: Duration) {
        self.0.spin.set(length);
    }
}

impl Alarm {
    fn take_out(&mut self) {
        if let Some(key) = self.key.take() {
            self.rt.0.alarms.borrow_mut().remove(key);
        }
    }
}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.take_out();
        // The turn's clock may be old: a deadline that has passed meanwhile needs no other turn.
        if self.rt.now() >= self.deadline || self.rt.precise_now() >= self.deadline {
            return Poll::Ready(());
        }
        let key = self
            .rt
            .0
            .alarms
            .borrow_mut()
            .insert(self.deadline, cx.waker().clone());
        self.key = Some(key);
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.take_out();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Engine, RtOptions};
    use super::*;
    use std::time::Duration;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn alarms_go_off_in_the_order_of_their_deadlines() {
        let mut alarms = Alarms::default();
        let removed = alarms.insert(at(1), Waker::noop().clone());
        alarms.insert(at(20), Waker::noop().clone());
        alarms.insert(at(10), Waker::noop().clone());
        alarms.insert(at(10), Waker::noop().clone());
        alarms.remove(removed);
        assert_eq!(alarms.next(), Some(at(10)));
        assert!(alarms.expire(at(9)).is_none());
        assert!(alarms.expire(at(10)).is_some());
        assert!(alarms.expire(at(10)).is_some());
        assert!(alarms.expire(at(10)).is_none());
        assert_eq!(alarms.next(), Some(at(20)));
    }

    #[test]
    fn an_alarm_never_goes_off_early_and_leaves_nothing_behind() {
        for engine in [Engine::Epoll, Engine::Auto, Engine::Threads] {
            let rt = Rt::new(&RtOptions {
                engine,
                ..RtOptions::default()
            })
            .unwrap();
            rt.block_on(async {
                for micros in [0, 1, 50, 300] {
                    let deadline = rt.precise_now() + Duration::from_micros(micros);
                    rt.alarm_at(deadline).await;
                    assert!(rt.precise_now() >= deadline);
                }
                let mut dropped = Box::pin(rt.alarm_at(Instant::NEVER));
                let mut cx = Context::from_waker(Waker::noop());
                assert!(dropped.as_mut().poll(&mut cx).is_pending());
                drop(dropped);
            });
            assert_eq!(rt.0.alarms.borrow().next(), None);
        }
    }
}
