//! The real program against small servers that behave well or badly on purpose.
#![expect(clippy::disallowed_methods, reason = "the other end of a real socket")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod calibration;
mod comparison;
mod files;
mod large;
mod manifest;
mod misuse;
mod process;
mod rates;
mod runs;
mod schema;
mod server;
mod shapes;
mod stalls;
