//! Receive buffers: lent to whoever reads, given back by dropping. An idle connection owns none.

mod lent;
mod pool;

pub use lent::Lent;
#[cfg(feature = "sim")]
pub(crate) use pool::Spare;
pub(crate) use pool::{Group, Pool};
