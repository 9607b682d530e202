//! Losses on purpose, to try the gate that shall catch them (`make bench-gate-proof`). Only with the feature `slow-down`,
//! which nothing that is installed has; one of them at a time, as the variable `HP_SLOW_DOWN` names it.

use hp_core::obs::notice::say;
use hp_core::rt::Rt;
use std::hint::black_box;
use std::sync::LazyLock;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    None,
    Getpid,
    Spin,
    Alloc,
    Idle,
}

/// What each request costs more.
pub(crate) fn per_request(rt: &Rt) {
    match *LOSS {
        Loss::None | Loss::Idle => (),
        Loss::Getpid => {
            black_box(std::process::id());
        }
        Loss::Spin => {
            let end = rt.precise_now() + SPIN;
            while rt.precise_now() < end {}
        }
        Loss::Alloc => drop(black_box(Box::new([0_u8; 64]))),
    }
}

/// What each connection costs more that becomes idle.
pub(crate) fn per_idle_conn() {
    if *LOSS == Loss::Idle {
        black_box(Box::leak(Box::new([1_u8; IDLE_BYTES]))); // Else nobody would ask the allocator.
    }
}

static LOSS: LazyLock<Loss> = LazyLock::new(|| {
    let name = std::env::var("HP_SLOW_DOWN").unwrap_or_default();
    let loss = match name.as_str() {
        "getpid" => Loss::Getpid,
        "spin" => Loss::Spin,
        "alloc" => Loss::Alloc,
        "idle" => Loss::Idle,
        _ => Loss::None,
    };
    say(format_args!(
        "hp-proxy: slower on purpose: {loss:?} (HP_SLOW_DOWN=getpid, spin, alloc or idle)"
    ));
    loss
});

const SPIN: Duration = Duration::from_micros(2);
const IDLE_BYTES: usize = 200;
