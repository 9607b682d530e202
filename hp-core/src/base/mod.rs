//! Things a standard library could have had. Knows nothing of sockets, tasks or protocols.

pub mod slab;
pub mod sync;
pub mod units;
