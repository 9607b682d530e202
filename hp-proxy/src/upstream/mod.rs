//! Connections to backends: which backend, a kept connection or a new one, or a place in the queue.

pub mod balance;
mod books;
mod dial;
pub mod discovery;
mod endpoint;
mod lease;
mod ledger;
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
pub use lease::{Lease, Tunnel};
pub use life::Bounds;
pub(crate) use pool::of_tag;
pub use pool::{AcquireError, Settings, Upstream};
pub use total::OpenTotal;
pub use wish::Aim;
