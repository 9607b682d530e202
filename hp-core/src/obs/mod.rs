//! Counting, without anybody waiting for anybody.

pub mod metrics;
