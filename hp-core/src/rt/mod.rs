//! The runtime: one executor a thread, tasks that never leave it, and sockets whose operations belong to them.
//!
//! Start at [`Rt`], the handle that everything takes; [`worker`] starts one for each thread, [`net`] has the sockets.
//! There is no "current runtime": whoever needs one is given it.

mod alarm;
pub(crate) mod buf;
pub mod crew;
mod driver;
mod executor;
pub mod lifecycle;
pub mod mesh;
pub mod net;
pub mod plant;
pub mod race;
#[cfg(feature = "sim")]
pub mod sim;
mod sleep;
mod task;
mod time;
mod timer;
mod vigil;
pub mod worker;

pub use alarm::Alarm;
pub use driver::{Features, Holdings, Stats};
pub use executor::Yield;
pub use sleep::{Elapsed, Sleep, Timeout};
pub use time::Instant;

use alarm::Alarms;
use driver::{Io, Kernel};
use executor::Executor;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;
use task::RuntimeSlot;
use vigil::Vigil;

/// How sockets are driven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// io_uring where it is allowed, else epoll.
    #[default]
    Auto,
    /// io_uring: Linux 6.1 or later.
    Uring,
    /// epoll: Linux 4.5 or later.
    Epoll,
    /// ppoll, for runtimes with few connections: the programs give each connection a thread with a runtime of its own.
    Threads,
}

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, UnknownEngine> {
        match name {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "epoll" => Ok(Self::Epoll),
            "threads" => Ok(Self::Threads),
            _ => Err(UnknownEngine),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Epoll => "epoll",
            Self::Threads => "threads",
        })
    }
}

/// A name that is no engine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownEngine;

impl fmt::Display for UnknownEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no such engine; write auto, uring, epoll or threads")
    }
}

impl std::error::Error for UnknownEngine {}

/// What a runtime is made of.
#[derive(Clone, Debug)]
pub struct RtOptions {
    /// How sockets are driven.
    pub engine: Engine,
    /// Receive buffers of 4 KiB to begin with, rounded up to a power of two; grows to 32 times that under load.
    pub head_buffers: u16,
    /// Receive buffers of 68 KiB to begin with, rounded up to a power of two; grows to 32 times that under load.
    pub bulk_buffers: u16,
    /// Buffers of 4 KiB, at most, that received bytes are copied to which nobody takes, while more than half of the buffers
    /// above are held: 128 at a time, none to begin with. 0: they stay where they are.
    pub aside_buffers: u16,
    /// Length of the ring's submission queue, a power of two.
    pub ring_entries: u32,
    /// Length of the ring's completion queue, a power of two not below `ring_entries`.
    pub ring_completions: u32,
}

impl Default for RtOptions {
    fn default() -> Self {
        Self {
            engine: Engine::Auto,
            head_buffers: 128,
            bulk_buffers: 32,
            aside_buffers: 32_768,
            ring_entries: 512,
            ring_completions: 8192,
        }
    }
}

/// Why a runtime could not start.
#[derive(Debug)]
pub struct StartError {
    engine: Engine,
    cause: io::Error,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { engine, cause } = self;
        let remedy = if *engine == Engine::Uring {
            uring_remedy(cause)
        } else {
            ""
        };
        write!(f, "engine {engine} cannot start: {cause}{remedy}")
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// What an operator can do about an io_uring that does not start.
fn uring_remedy(cause: &io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "; a sandbox or the sysctl kernel.io_uring_disabled forbids io_uring: allow it, or use --engine epoll"
        }
        Some(libc::ENOSYS) => "; this kernel has no io_uring: use --engine epoll",
        Some(libc::EINVAL) => "; io_uring needs Linux 6.1 or later here: use --engine epoll",
        Some(libc::ENOMEM) => {
            "; raise the limit of locked memory (ulimit -l), or use --engine epoll"
        }
        _ => "; use --engine epoll",
    }
}

/// A handle to the runtime of one thread. Clones are cheap and name the same runtime; none leaves the thread.
#[derive(Clone)]
pub struct Rt(Rc<Shared>);

pub(crate) struct Shared {
    executor: Executor,
    alarms: RefCell<Alarms>,
    /// How long before an alarm the loop stops sleeping.
    spin: Cell<Duration>,
    vigil: Vigil,
    io: RefCell<Io>,
    now: Cell<Instant>,
    kernel: Kernel,
    slot: RuntimeSlot,
    passed_over: Option<io::Error>,
}

impl fmt::Debug for Rt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rt")
            .field("engine", &self.engine())
            .finish_non_exhaustive()
    }
}

impl Rt {
    /// Makes a runtime for the calling thread.
    ///
    /// # Errors
    /// When the engine that the options name cannot start; `Auto` fails only where epoll does, too.
    pub fn new(options: &RtOptions) -> Result<Self, StartError> {
        Self::on(Kernel::Real, options)
    }

    fn on(kernel: Kernel, options: &RtOptions) -> Result<Self, StartError> {
        let failed = |cause| StartError {
            engine: options.engine,
            cause,
        };
        let slot = RuntimeSlot::take().map_err(failed)?;
        let now = kernel.now();
        let (io, passed_over) = Io::new(options, slot.remote(), kernel.clone()).map_err(failed)?;
        let shared = Shared {
            executor: Executor::new(),
            alarms: RefCell::default(),
            spin: Cell::default(),
            vigil: Vigil::default(),
            io: RefCell::new(io),
            now: Cell::new(now),
            kernel,
            slot,
            passed_over,
        };
        Ok(Self(Rc::new(shared)))
    }

    /// The engine in use; never `Auto`.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.0.io.borrow().engine()
    }

    /// One line for the log: the engine, what it found, and why a better one was passed over.
    #[must_use]
    pub fn describe_engine(&self) -> String {
        let io = self.0.io.borrow();
        match (io.features(), &self.0.passed_over) {
            (Some(features), _) if features.capped_multishot => {
                String::from("engine uring (capped multishot receive)")
            }
            (Some(_), _) => String::from("engine uring (one-shot receive)"),
            (None, Some(cause)) => {
                format!(
                    "engine epoll; io_uring cannot start: {cause}{}",
                    uring_remedy(cause)
                )
            }
            (None, None) => format!("engine {}", io.engine()),
        }
    }

    /// The turn's clock: read once a turn, the same for everything that happens in it.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.0.now.get()
    }

    /// The clock itself, for measurements.
    #[must_use]
    pub fn precise_now(&self) -> Instant {
        self.0.kernel.now()
    }

    /// Time since 1970-01-01 UTC.
    #[must_use]
    pub fn wall_clock(&self) -> Duration {
        self.0.kernel.wall_clock()
    }

    /// What the engine has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.io.borrow().stats()
    }

    /// What is still in the runtime's hands.
    #[must_use]
    pub fn holdings(&self) -> Holdings {
        self.0.io.borrow().holdings()
    }

    /// How many tasks panicked and were dropped.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.0.executor.panics()
    }

    /// How many spawned tasks have not ended.
    #[must_use]
    pub fn tasks(&self) -> u32 {
        self.0.executor.len()
    }
}
