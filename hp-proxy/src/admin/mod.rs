//! What operators ask of a running proxy and change of it: the requests of its admin listener, and a client that makes them.

pub mod client;
pub mod order;
