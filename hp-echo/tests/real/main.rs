//! The real program, its real sockets and signals.
#![expect(clippy::disallowed_methods, reason = "the other end of a real socket")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod conversations;
mod counting;
mod files;
mod orders;
mod process;
mod server;
mod unix;
