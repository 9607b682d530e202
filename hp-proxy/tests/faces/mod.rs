//! Facts on both faces of the simulated kernel, and what their worlds run to.

use hp_core::rt::Rt;
use hp_core::rt::sim::{Limits, World};

/// Makes a test of each fact, on each face of the kernel. A fact is a function of the module that names it, and is given the face.
macro_rules! facts {
    ($($fact:ident),+ $(,)?) => {
        mod readiness {
            $(#[test] fn $fact() { super::$fact(hp_core::rt::sim::Face::Readiness); })+
        }
        mod completion {
            $(#[test] fn $fact() { super::$fact(hp_core::rt::sim::Face::Completion); })+
        }
    };
}

/// Turns a world until something holds, within limits. No task of these runtimes panics meanwhile.
pub(crate) fn run<'a>(
    world: &World,
    rts: impl IntoIterator<Item = &'a Rt>,
    limits: Limits,
    mut done: impl FnMut() -> bool,
) {
    let rts: Vec<&Rt> = rts.into_iter().collect();
    let panics = || rts.iter().map(|rt| rt.panics()).sum::<u64>();
    let stuck = world.run_until(&mut || panics() > 0 || done(), limits);
    assert_eq!(panics(), 0, "the message is above");
    stuck.unwrap();
}
