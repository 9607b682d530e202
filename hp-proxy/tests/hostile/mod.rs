//! Whole exchanges of hostile bytes: the real proxy in a simulated kernel, between clients and a backend that say what a script
//! says. For every test and program that plays them.

mod judge;
mod play;
mod script;

pub(crate) use play::play;
pub(crate) use script::Script;

/// Plays a script as a fuzzer gives it.
///
/// # Panics
/// When something does not hold.
pub(crate) fn must_hold(script: &Script) {
    if let Err(what) = play(script) {
        panic!("{what}");
    }
}
