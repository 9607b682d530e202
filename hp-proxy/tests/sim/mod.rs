//! The models of the simulation, and one run of it; for every test and program that plays seeds.

mod ask;
mod backend;
mod bound;
mod client;
pub(crate) mod endpoints;
mod hostile;
mod ledger;
mod message;
pub(crate) mod play;
mod process;
mod reload;
mod scene;
mod shares;
pub(crate) mod slow_start;
pub(crate) mod upgrade;
mod ways;
mod websocket;

pub(crate) use play::{Tell, play};
