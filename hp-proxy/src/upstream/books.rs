//! Whose a ledger is: a worker's own, or that of threads which share it behind a lock and sweep it.
#![expect(
    clippy::disallowed_types,
    reason = "threads that serve one connection each share their backends; workers do not"
)]

use super::balance::Balancing;
use super::endpoint::{Identity, Idle};
use super::ledger::Ledger;
use crate::live::Conns;
use hp_core::base::sync::{Arc, Mutex, MutexGuard};
use hp_core::rt::{Instant, Rt};
use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::PoisonError;
use std::task::{Poll, Waker};
use std::time::Duration;

/// Whose a ledger is.
#[derive(Debug)]
pub(super) enum Books {
    Own(Box<RefCell<Ledger>>),
    Shared(SharedLedger),
}

impl Books {
    /// Does something with the ledger; then, when it is nobody's any more, wakes whoever was granted a place.
    #[inline]
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Ledger) -> T) -> T {
        match self {
            Self::Own(ledger) => {
                let mut ledger = ledger.borrow_mut();
                let output = act(&mut ledger);
                if ledger.woken.is_some() {
                    wake(ledger.woken.take()); // Its task runs later: it finds the ledger free.
                }
                output
            }
            Self::Shared(shared) => shared.with(act),
        }
    }
}

/// A ledger that threads share.
#[derive(Clone, Debug)]
pub struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    /// A ledger in which nothing is connected yet. `conns_max` connections to each endpoint, all threads together; `None`:
    /// no limit.
    #[must_use]
    pub fn new(balancing: &Balancing, endpoints: &[Identity], conns_max: Option<u32>) -> Self {
        let ledger = Ledger::new(balancing, endpoints, conns_max, 0);
        Self(Arc::new(Mutex::new(ledger)))
    }

    /// Follows another plan: see [`Upstream::renew`](super::Upstream::renew).
    pub fn renew(&self, next: (&Balancing, &[Identity], Option<u32>), now: Instant) {
        let closed = self.with(|ledger| ledger.renew(next, 0, now));
        self.close_all(closed);
    }

    /// Closes what idles, and lets nothing idle any more. For a drain, or for an upstream that is gone.
    pub fn close_idle(&self) {
        let closed = self.with(Ledger::close_idle);
        self.close_all(closed);
    }

    /// Connections by endpoint.
    #[must_use]
    pub fn conns(&self) -> Vec<(String, Conns)> {
        self.with(|ledger| ledger.conns())
    }

    fn close_all(&self, closed: Vec<(usize, Idle)>) {
        let slots: Vec<usize> = closed.iter().map(|(slot, _)| *slot).collect();
        drop(closed); // Closing takes its time: without the lock.
        self.with(|ledger| slots.iter().for_each(|slot| ledger.close(*slot)));
    }

    /// Closes idle connections that the backend has ended, or that are too old, within a tenth of a second. For one task
    /// of the process; it ends when nothing idles any more.
    pub async fn keep(&self, rt: &Rt) {
        loop {
            let is_closing = poll_fn(|cx| {
                self.with(|ledger| {
                    let mut endpoints = ledger.endpoints.iter();
                    if ledger.is_closing || endpoints.any(|one| !one.idle.is_empty()) {
                        return Poll::Ready(ledger.is_closing);
                    }
                    ledger.keeper = Some(cx.waker().clone());
                    Poll::Pending
                })
            });
            if is_closing.await {
                return;
            }
            rt.sleep(SWEEP_PAUSE).await;
            let now = rt.now();
            drop(self.with(|ledger| {
                ledger.sweep(|released, until| until <= now || released.has_news())
            }));
        }
    }

    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Ledger) -> T) -> T {
        let (output, woken) = {
            let mut ledger = self.lock();
            (act(&mut ledger), ledger.woken.take())
        };
        wake(woken);
        output
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // Counts are whole between any two statements.
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// How long an idle connection of nobody's runtime may be dead unnoticed. Whoever takes one looks for himself.
const SWEEP_PAUSE: Duration = Duration::from_millis(100);
