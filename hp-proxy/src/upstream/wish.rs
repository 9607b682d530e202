//! What a request wants of an upstream, and its place in the queue while it waits for that.

use super::books::Books;
use super::ledger::Ledger;
use std::future::{Future, poll_fn};
use std::task::Poll;

/// Where a request should go, if it matters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Aim {
    /// What it is hashed by, where the upstream's method wants it.
    pub key: Option<u64>,
    /// The endpoint that its client is bound to, by the hash of its identity.
    pub bound_to: Option<u64>,
}

/// One request's wish for a connection.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) aim: Aim,
    /// Its place among all, by the order of coming.
    pub(super) number: u64,
    /// Attempts that stalled: its patience doubles with each, also when it waited meanwhile.
    pub(super) stalls: u32,
}

impl Wish {
    pub(super) fn new(number: u64, aim: Aim) -> Self {
        Self {
            aim,
            number,
            stalls: 0,
        }
    }
}

/// A request's place in the queue. Dropped after it was granted and before it was used, it passes the grant on.
#[derive(Debug)]
pub(super) struct Place<'a> {
    books: &'a Books,
    number: u64,
}

impl<'a> Place<'a> {
    pub(super) fn enter(books: &'a Books, number: u64) -> Self {
        books.with(|ledger| ledger.enter(number));
        Self { books, number }
    }

    /// Waits for the grant.
    pub(super) fn granted(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|cx| {
            let is_granted =
                |ledger: &mut Ledger| ledger.is_granted_or_waits(self.number, cx.waker());
            if self.books.with(is_granted) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
    }

    /// The grant is used: dropping the place passes nothing on.
    pub(super) fn spend(self) {
        self.books.with(|ledger| ledger.spend(self.number));
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.books.with(|ledger| ledger.leave(self.number));
    }
}
