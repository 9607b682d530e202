//! What operators ask of a running proxy and change of it: orders that its admin listener gets, what it tells, and a client.

pub mod client;
pub mod order;
pub mod status;
