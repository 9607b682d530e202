//! What the proxy shall do, resolved: no text, no defaults left open.

pub mod forwarding;
pub mod plan;
pub mod units;
