//! Locks and atomics of the places where threads meet. With `--cfg loom` they are those of a model checker, which tries
//! every order in which threads may run; see the `loom` tests beside them.
#![expect(
    clippy::disallowed_types,
    reason = "whoever uses them gives the reason"
)]

/// For statics, which outlive a model's run.
pub(crate) use std::sync::{Mutex as GlobalMutex, MutexGuard as GlobalMutexGuard};

#[cfg(loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU32, Ordering, fence},
};
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU32, Ordering, fence},
};
