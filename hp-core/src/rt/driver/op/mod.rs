//! The operations, one a file, each with its answer on every engine.

pub(super) mod accept;
pub(super) mod close;
mod connect;
mod deadline;
pub(super) mod outbox;
pub(super) mod park;
pub(super) mod recv;
pub(super) mod send;
mod send_file;
pub(super) mod splice;
