//! Second opinions on HTTP/1.1, for tests: a strict reader written from RFC 9112 alone, readers with the bad habits of real
//! servers and clients, and a generator of hostile messages.
//!
//! Must not know hp-core: its manifest has no dependency. Plain and slow on purpose, so that it can be read and believed.

pub mod choices;
pub mod hostile;
pub mod reading;
pub mod sloppy;
pub mod strict;
mod text;
