//! How far an exchange has come: what its upload and its answer, which go on side by side, must know of each other.

use super::request::Request;
use std::cell::Cell;

/// One exchange's progress.
#[derive(Debug)]
pub(super) struct Progress {
    /// The backend was sent all of the request.
    pub(super) is_uploaded: Cell<bool>,
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
            given: Cell::new(0),
            is_answered: Cell::new(false),
            is_begun: Cell::new(false),
            expectation: Cell::new(expectation),
            is_continued: Cell::new(false),
        }
    }

    /// Whether the client waits for 100.
    pub(super) fn is_awaited(&self) -> bool {
        self.expectation.get() == Expectation::Awaited
    }
}
