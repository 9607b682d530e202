//! Locks, atomics and counted references of the places where threads meet. With `--cfg loom` they are those of a model checker,
//! which tries every order in which threads may run; see the `loom` tests beside them. With the feature `sim` they take note of
//! who writes and who reads which line of memory ([`lines`]). In what is installed they are the standard library's.
#![allow(
    clippy::disallowed_types,
    reason = "whoever uses them gives the reason"
)]

#[cfg(all(feature = "sim", not(loom)))]
mod counted;
#[cfg(feature = "sim")]
pub mod lines;

/// For statics, which outlive a model's run.
#[cfg(any(loom, not(feature = "sim")))]
pub(crate) use std::sync::{Mutex as GlobalMutex, MutexGuard as GlobalMutexGuard};
#[cfg(all(feature = "sim", not(loom)))]
pub(crate) use {counted::Mutex as GlobalMutex, std::sync::MutexGuard as GlobalMutexGuard};

#[cfg(loom)]
pub use {
    loom::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU32, Ordering, fence},
    },
    std::sync::{Arc, atomic::AtomicU64}, // No model has these.
};

#[cfg(all(feature = "sim", not(loom)))]
pub use {
    counted::{Arc, AtomicBool, AtomicU32, AtomicU64, Mutex},
    std::sync::{
        MutexGuard,
        atomic::{Ordering, fence},
    },
};

#[cfg(not(any(loom, feature = "sim")))]
pub use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence},
};
