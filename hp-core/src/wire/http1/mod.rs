//! HTTP/1.1 and 1.0 on the wire: heads, framing, chunked coding, and their encoders. RFC 9112.
//!
//! Must not know who reads or writes the bytes, nor where a request goes.

pub mod chunked;
pub mod encode;
pub mod error;
pub mod framing;
pub mod head;
pub mod method;
pub mod request;
pub mod response;
pub mod target;
