//! Receive buffers: lent to whoever reads, given back by dropping. An idle connection owns none.

mod lent;
mod pool;

pub use lent::Lent;
pub(crate) use pool::{Group, Pool, Spare};
