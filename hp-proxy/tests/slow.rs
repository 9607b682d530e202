//! Slow and greedy peers, in simulated time: what is too slow ends, what is only slow does not, and nobody makes the proxy
//! hold more than a bound.
#![expect(
    clippy::unwrap_used,
    reason = "facts are functions of a test, not tests themselves"
)]

#[macro_use]
#[path = "faces/mod.rs"]
mod faces;
#[path = "slow/head.rs"]
mod head;
#[path = "slow/lab.rs"]
mod lab;
#[path = "slow/memory.rs"]
mod memory;
#[path = "slow/time.rs"]
mod time;
