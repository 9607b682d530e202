//! How far an exchange has come: what its upload and its answer, which go on side by side, must know of each other.

use super::request::Request;
use std::cell::Cell;

/// One exchange's progress.
#[derive(Debug)]
pub(super) struct Progress {
    /// The backend was sent all of the request.
    pub(super) is_uploaded: Cell<bool>,
    /// Bytes of the head that the backend is to get; none where others have seen to that.
    pub(super) head_bytes: Cell<u64>,
    /// Bytes of the request that were written to the backend's connection, the head's included; they may not have left it.
    pub(super) written: Cell<u64>,
    /// Bytes of content that the backend was given.
    pub(super) given: Cell<u64>,
    /// The client is being answered: there is no other answer to give.
    pub(super) is_answered: Cell<bool>,
    /// The backend has begun to say something that is not whole yet.
    pub(super) is_begun: Cell<bool>,
    /// What the client waits for before it sends content.
    pub(super) expectation: Cell<Expectation>,
    /// The backend has said 100.
    pub(super) is_continued: Cell<bool>,
}

/// An expectation of 100. RFC 9110 §10.1.1.
///
/// ```text
/// Awaited ─► Met        the backend said 100
///    ├─────► MetByUs    the proxy did, when the backend took its time
///    └─────► Nothing    the content came unasked
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expectation {
    /// There is none, or none any more.
    Nothing,
    /// Neither has anybody said 100, nor has any content come.
    Awaited,
    /// The client was told to go on.
    Met,
    /// The same, by the proxy: what the backend says of it comes too late.
    MetByUs,
}

impl Progress {
    /// Of an exchange that begins.
    pub(super) fn of(request: &Request) -> Self {
        let expectation = if request.facts.expect_continue {
            Expectation::Awaited
        } else {
            Expectation::Nothing
        };
        Self {
            is_uploaded: Cell::new(!request.facts.framing.has_body()),
            head_bytes: Cell::new(0),
            written: Cell::new(0),
            given: Cell::new(0),
            is_answered: Cell::new(false),
            is_begun: Cell::new(false),
            expectation: Cell::new(expectation),
            is_continued: Cell::new(false),
        }
    }

    /// Whether the kernel has the whole head, where so much of what was written has not left: before, nobody was asked anything.
    #[inline]
    pub(super) fn has_head_left(&self, unsent: usize) -> bool {
        self.left(unsent) >= self.head_bytes.get()
    }

    /// Bytes of the request that the kernel has, where so much has not left.
    pub(super) fn left(&self, unsent: usize) -> u64 {
        self.written.get().saturating_sub(unsent as u64)
    }

    /// Whether the client waits for 100.
    pub(super) fn is_awaited(&self) -> bool {
        self.expectation.get() == Expectation::Awaited
    }
}
