//! Connections to backends: which backend, a kept connection or a new one, or a place in the queue.

pub mod balance;
mod books;
mod dial;
pub mod discovery;
mod endpoint;
mod lease;
mod ledger;
mod pool;
mod queue;
pub mod sticky;
mod ways;
mod window;

pub use books::SharedLedger;
pub use endpoint::Identity;
pub use lease::{Lease, Tunnel};
pub(crate) use pool::of_tag;
pub use pool::{AcquireError, Aim, Settings, Upstream};
