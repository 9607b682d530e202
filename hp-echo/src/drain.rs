//! The end of a worker's service: who is still here, and how they learn that they should go.
//!
//! Must not know: what its guests do.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use hp_core::base::slab::{Key, Slab};

/// The tasks of one worker that have to end before the worker may.
///
/// Serving ─begin→ Draining ─last guest leaves→ (done)
#[derive(Debug, Default)]
pub(crate) struct Drain {
    is_on: Cell<bool>,
    guests: RefCell<Slab<Waker>>,
    waits_for_last: RefCell<Option<Waker>>,
}

/// A task that is counted; it leaves when this is dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    drain: Rc<Drain>,
    key: Key,
}

impl Drain {
    /// Tells every guest, by waking it, that it should leave when it can.
    pub(crate) fn begin(&self) {
        self.is_on.set(true);
        let guests = self.guests.borrow();
        for waker in guests.keys().into_iter().filter_map(|key| guests.get(key)) {
            waker.wake_by_ref();
        }
    }

    /// Whether [`Drain::begin`] was called.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on.get()
    }

    /// Waits until no guest is left. One task at a time may wait.
    pub(crate) async fn emptied(&self) {
        poll_fn(|cx| {
            if self.guests.borrow().is_empty() {
                return Poll::Ready(());
            }
            *self.waits_for_last.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Guest {
    /// Counts the calling task until the guest is dropped.
    pub(crate) async fn enter(drain: &Rc<Drain>) -> Self {
        poll_fn(|cx: &mut Context<'_>| {
            let key = drain.guests.borrow_mut().insert(cx.waker().clone());
            Poll::Ready(Self {
                drain: Rc::clone(drain),
                key,
            })
        })
        .await
    }

    /// Waits for `future`, or for the drain: then `None`. What is ready comes first.
    pub(crate) async fn unless_drained<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = std::pin::pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if self.drain.is_on() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut guests = self.drain.guests.borrow_mut();
        guests.remove(self.key);
        if guests.is_empty()
            && let Some(waker) = self.drain.waits_for_last.take()
        {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::pin::pin;

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn waiting_guest_leaves_when_the_drain_begins() {
        let drain = Rc::new(Drain::default());
        let Poll::Ready(guest) = poll(pin!(Guest::enter(&drain))) else {
            panic!("enters at once")
        };
        let mut wait = pin!(guest.unless_drained(pending::<()>()));
        assert_eq!(poll(wait.as_mut()), Poll::Pending);
        drain.begin();
        assert_eq!(poll(wait), Poll::Ready(None));
    }

    #[test]
    fn what_is_ready_comes_before_the_drain() {
        let drain = Rc::new(Drain::default());
        drain.begin();
        let Poll::Ready(guest) = poll(pin!(Guest::enter(&drain))) else {
            panic!("enters at once")
        };
        assert_eq!(
            poll(pin!(guest.unless_drained(async { 1 }))),
            Poll::Ready(Some(1))
        );
    }

    #[test]
    fn drain_ends_with_its_last_guest() {
        let drain = Rc::new(Drain::default());
        let Poll::Ready(guest) = poll(pin!(Guest::enter(&drain))) else {
            panic!("enters at once")
        };
        let mut emptied = pin!(drain.emptied());
        assert_eq!(poll(emptied.as_mut()), Poll::Pending);
        drop(guest);
        assert_eq!(poll(emptied), Poll::Ready(()));
    }
}
