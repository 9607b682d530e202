//! Turns bytes into protocol facts and facts back into bytes.
//!
//! This room must not know about sockets, clocks, tasks or configuration files: every function is a
//! pure map over slices that the caller owns. Whoever moves whole messages lives in `http`.

#![deny(unsafe_code)]

pub mod cookie;
pub mod date;
pub mod dns;
pub mod forwarding;
pub mod header;
pub mod http1;
pub mod token;
pub mod uri;
