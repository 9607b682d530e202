//! Counting without anybody waiting for anybody, and lines for whoever runs a program.

pub mod metrics;
pub mod notice;
