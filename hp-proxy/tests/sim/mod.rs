//! The models of the simulation, and one run of it; for every test and program that plays seeds.

mod backend;
mod client;
mod hostile;
mod ledger;
mod message;
pub(crate) mod play;
mod reload;
mod shares;
mod ways;

pub(crate) use play::{Tell, play};
