//! How many connections there are to all upstreams together: those of one worker, or of all threads.

#[expect(
    clippy::disallowed_types,
    reason = "ledgers that threads share count together; no request counts, only connections that begin and end"
)]
use hp_core::base::sync::Arc;
use hp_core::base::sync::{AtomicU32, Ordering};

/// A count that several ledgers keep. Relaxed: it is a bound to be looked at, and orders nothing.
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::disallowed_types,
    reason = "ledgers that threads share count together; no request counts, only connections that begin and end"
)]
pub struct OpenTotal(Arc<AtomicU32>);

impl OpenTotal {
    pub(super) fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Connections in use, idle, or being made.
    #[must_use]
    #[inline]
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}
