//! The models of the simulation, and one run of it; for every test and program that plays seeds.

mod backend;
mod client;
mod ledger;
mod message;
pub(crate) mod play;

pub(crate) use play::{Tell, play};
