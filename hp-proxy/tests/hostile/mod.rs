//! Whole exchanges of hostile bytes: the real proxy in a simulated kernel, between clients and a backend that say what a script
//! says. For every test and program that plays them.

mod judge;
#[path = "../one_worker/mod.rs"]
mod one_worker;
pub(crate) mod play;
mod script;

pub(crate) use play::play;
pub(crate) use script::Script;
