//! Connections to backends: which backend, a kept connection or a new one, or a place in the queue.

pub mod balance;
mod books;
mod dial;
pub mod discovery;
mod endpoint;
mod lease;
mod ledger;
mod lending;
mod life;
mod pool;
mod queue;
pub mod sticky;
mod total;
mod warm;
mod ways;
mod window;
mod wish;

pub use books::SharedLedger;
pub use endpoint::Identity;
pub(crate) use endpoint::Term;
pub use lease::{Lease, Tunnel};
pub use lending::{Borrow, Letter, Siblings};
pub use life::Bounds;
pub(crate) use pool::of_tag;
pub use pool::{AcquireError, Settings, Upstream};
pub use total::OpenTotal;
pub use wish::Aim;
