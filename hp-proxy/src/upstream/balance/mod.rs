//! Which endpoint comes next. Pure: no clock, no socket.

pub mod round_robin;
