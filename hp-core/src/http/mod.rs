//! Awaits reads and writes to move whole messages: the one room that knows both the runtime and the protocol.

pub mod body;
pub mod chunks;
pub mod detour;
pub mod message;
pub mod pace;
pub mod past;
pub mod sink;
pub mod tunnel;
