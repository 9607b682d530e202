//! Waiting for time, alone or as a bound on something else.

use super::driver::TimerOwner;
use super::timer::TimerKey;
use super::{Instant, Rt};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Ready once its deadline has come.
#[derive(Debug)]
pub struct Sleep {
    rt: Rt,
    deadline: Instant,
    timer: Option<TimerKey>,
}

impl Rt {
    /// Waits for a point in time; at once when it has passed.
    #[must_use]
    pub fn sleep_until(&self, deadline: Instant) -> Sleep {
        Sleep {
            rt: self.clone(),
            deadline,
            timer: None,
        }
    }

    /// Waits for a length of time, counted from the turn's clock.
    #[must_use]
    pub fn sleep(&self, length: Duration) -> Sleep {
        self.sleep_until(self.now() + length)
    }

    /// Bounds a future in time. For glue: connections have deadlines of their own, which cost less.
    pub fn timeout_at<F: Future>(&self, deadline: Instant, future: F) -> Timeout<F> {
        Timeout {
            sleep: self.sleep_until(deadline),
            future: Box::pin(future),
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let rt = self.rt.clone();
        let mut io = rt.0.io.borrow_mut();
        if let Some(timer) = self.timer.take() {
            drop(io.timers().remove(timer));
        }
        if rt.now() >= self.deadline {
            return Poll::Ready(());
        }
        let owner = TimerOwner::Task(cx.waker().clone());
        self.timer = Some(io.timers().insert(self.deadline, owner));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            drop(self.rt.0.io.borrow_mut().timers().remove(timer));
        }
    }
}

/// A future with a bound; see [`Rt::timeout_at`].
pub struct Timeout<F> {
    sleep: Sleep,
    future: Pin<Box<F>>,
}

impl<F> fmt::Debug for Timeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout")
            .field("deadline", &self.sleep.deadline)
            .finish_non_exhaustive()
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        match Pin::new(&mut self.sleep).poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(Elapsed)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// The deadline came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the deadline came first")
    }
}

impl std::error::Error for Elapsed {}
