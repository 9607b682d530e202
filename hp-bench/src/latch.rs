//! Waiting until a known number of tasks has ended.
//!
//! Must not know: what the tasks do.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Counts the tickets that are out. One task at a time may wait.
#[derive(Debug, Default)]
pub(crate) struct Latch {
    tickets: Cell<u32>,
    waiter: RefCell<Option<Waker>>,
}

/// Belongs to a task; however that ends, the ticket comes back.
#[derive(Debug)]
pub(crate) struct Ticket(Rc<Latch>);

impl Latch {
    /// Hands out one more ticket.
    pub(crate) fn ticket(self: &Rc<Self>) -> Ticket {
        self.tickets.set(self.tickets.get() + 1);
        Ticket(Rc::clone(self))
    }

    /// Waits until every ticket is back; at once where none is out.
    pub(crate) async fn opened(&self) {
        poll_fn(|cx| {
            if self.tickets.get() == 0 {
                return Poll::Ready(());
            }
            *self.waiter.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let latch = &self.0;
        latch.tickets.set(latch.tickets.get() - 1);
        if latch.tickets.get() == 0
            && let Some(waiter) = latch.waiter.take()
        {
            waiter.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    #[test]
    fn latch_opens_with_the_last_ticket() {
        let latch = Rc::new(Latch::default());
        let (one, two) = (latch.ticket(), latch.ticket());
        let mut opened = pin!(latch.opened());
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(opened.as_mut().poll(&mut cx), Poll::Pending);
        drop(one);
        assert_eq!(opened.as_mut().poll(&mut cx), Poll::Pending);
        drop(two);
        assert_eq!(opened.as_mut().poll(&mut cx), Poll::Ready(()));
    }
}
