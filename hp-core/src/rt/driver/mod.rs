//! Connections, their operations, and the engine that carries them out.
//!
//! `op` has one file per operation with its answer on every engine; `uring` and `poll` only move facts between the
//! kernel and the slots. Nothing here knows HTTP.

mod kernel;
mod op;
mod poll;
mod queues;
#[cfg(feature = "sim")]
pub(crate) mod sim;
mod slot;
mod stamps;
mod token;
mod uring;

#[cfg(feature = "sim")]
use crate::base::slab::Places;
use crate::base::slab::{Key, Slab};
use crate::rt::Engine;
use crate::rt::RtOptions;
use crate::rt::buf::Pool;
use crate::rt::task::Remote;
use crate::rt::time::Instant;
use crate::rt::timer::Wheel;
pub(crate) use kernel::Kernel;
pub use kernel::{File, FilePart, Socket};
use op::discard::Discards;
use op::outbox::Outbox;
use op::splice::Pipes;
use poll::Poll;
use slot::{ConnSlot, Intake, ListenerSlot, Phase};
use stamps::Stamps;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;
use uring::Uring;

pub(crate) use op::close::How;
pub(crate) use op::park::ParkEvent;
pub use op::park::Unparked;
pub use op::recv::Rx;
pub use op::splice::Piped;
pub use uring::Features;

/// One worker's sockets and timers.
#[derive(Debug)]
pub(crate) struct Io {
    conns: Slab<ConnSlot>,
    listeners: Slab<ListenerSlot>,
    pool: Rc<Pool>,
    timers: Wheel<TimerOwner>,
    park_events: VecDeque<ParkEvent>,
    park_waker: Option<Waker>,
    driver: Driver,
    kernel: Kernel,
    now: Instant,
    /// Operations that the task being polled may still complete at once before it must yield.
    budget: u32,
    outbox: Outbox,
    discards: Discards,
    pipes: Rc<RefCell<Pipes>>,
    /// Kept for who asked.
    stamps: Option<Stamps>,
    stats: Stats,
}

/// Who is told when a timer fires.
#[derive(Debug)]
pub(crate) enum TimerOwner {
    /// A connection, whose deadline may have moved since.
    Conn(Key),
    /// A future.
    Task(Waker),
}

/// The engines. An enum and not a type parameter, so that the proxy is compiled once for all of them.
#[derive(Debug)]
enum Driver {
    Uring(Box<Uring>),
    Poll(Poll),
}

/// What a worker's engine has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Waits for the kernel.
    pub turns: u64,
    /// Receives that found no buffer and were armed again later.
    pub buffer_shortages: u64,
    /// Turns in which completions did not fit in the ring's queue.
    pub completion_overflows: u64,
    /// Calls that sent something, or tried to.
    pub sends: u64,
    /// Sends that the socket did not take whole.
    pub short_sends: u64,
    /// Pipes that were filled.
    pub splices: u64,
}

/// What is still in the worker's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// Connection slots, those included that wait for their last completion.
    pub conns: u32,
    /// Listening sockets.
    pub listeners: u32,
    /// Receive buffers that somebody holds.
    pub lent_buffers: u32,
    /// What these buffers have room for.
    pub lent_bytes: u64,
}

impl Io {
    /// Starts the engine that the options name; `Auto` tries io_uring first.
    ///
    /// # Errors
    /// What the engine's start answers; the second value says why io_uring was passed over.
    pub(crate) fn new(
        options: &RtOptions,
        remote: &Remote,
        kernel: Kernel,
    ) -> io::Result<(Self, Option<io::Error>)> {
        let now = kernel.now();
        let new_pool = || {
            let RtOptions {
                head_buffers,
                bulk_buffers,
                aside_buffers,
                ..
            } = *options;
            Pool::new(head_buffers, bulk_buffers, aside_buffers)
        };
        let pool = new_pool()?;
        let (driver, passed_over) = match options.engine {
            Engine::Epoll => (Driver::Poll(Poll::epoll(remote, &kernel)?), None),
            Engine::Threads => (Driver::Poll(Poll::ppoll()), None),
            Engine::Uring => (
                Driver::Uring(Box::new(Uring::new(options, &pool, remote, &kernel)?)),
                None,
            ),
            Engine::Auto => match Uring::new(options, &pool, remote, &kernel) {
                Ok(uring) => (Driver::Uring(Box::new(uring)), None),
                Err(error) => {
                    let pool_is_whole = pool.lent_len() == 0;
                    assert!(pool_is_whole);
                    (Driver::Poll(Poll::epoll(remote, &kernel)?), Some(error))
                }
            },
        };
        // A failed start of io_uring may have moved free buffers into its queue: begin with a whole pool.
        let pool = match &driver {
            Driver::Uring(_) => pool,
            Driver::Poll(_) => new_pool()?,
        };
        // A thread that serves one connection keeps no descriptors for the next one's sake.
        let pipes = Pipes::keeping(match &driver {
            Driver::Poll(poll) if poll.engine() == Engine::Threads => 0,
            Driver::Poll(_) | Driver::Uring(_) => SPARE_PIPES,
        });
        let io = Self {
            conns: Slab::new(),
            listeners: Slab::new(),
            pool,
            timers: Wheel::new(now),
            park_events: VecDeque::new(),
            park_waker: None,
            driver,
            kernel,
            now,
            budget: BUDGET,
            outbox: Outbox::default(),
            discards: Discards::default(),
            pipes,
            stamps: None,
            stats: Stats::default(),
        };
        Ok((io, passed_over))
    }

    pub(crate) fn engine(&self) -> Engine {
        match &self.driver {
            Driver::Uring(_) => Engine::Uring,
            Driver::Poll(poll) => poll.engine(),
        }
    }

    pub(crate) fn features(&self) -> Option<Features> {
        match &self.driver {
            Driver::Uring(uring) => Some(uring.features()),
            Driver::Poll(_) => None,
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.stats
    }

    pub(crate) fn holdings(&self) -> Holdings {
        Holdings {
            conns: self.conns.len(),
            listeners: self.listeners.len(),
            lent_buffers: self.pool.lent_len(),
            lent_bytes: self.pool.lent_bytes(),
        }
    }

    /// One exchange with the kernel: hands over what was armed, waits at most `wait`, spreads what came.
    ///
    /// # Errors
    /// Only when the engine itself is broken; the worker cannot go on.
    pub(crate) fn turn(&mut self, wait: Option<Duration>, remote: &Remote) -> io::Result<()> {
        self.stats.turns += 1;
        match self.driver {
            Driver::Uring(_) => uring::turn(self, wait, remote),
            Driver::Poll(_) => poll::turn(self, wait, remote),
        }
    }

    /// Sets the turn's clock and fires at most `limit` timers whose time has come.
    pub(crate) fn set_now(&mut self, now: Instant, limit: usize) {
        self.now = now;
        for _ in 0..limit {
            match self.timers.expire(now) {
                Some(TimerOwner::Task(waker)) => waker.wake(),
                Some(TimerOwner::Conn(key)) => self.fire_deadline(key),
                None => return,
            }
        }
    }

    /// How long nothing is due; `None` when no timer is armed.
    pub(crate) fn until_next_timer(&self, now: Instant) -> Option<Duration> {
        self.timers.next_expiry().map(|expiry| expiry - now)
    }

    /// When the next timer may fire; `None` when none is armed.
    #[cfg(feature = "sim")]
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.timers.next_expiry()
    }

    /// Whether the kernel has something to tell, or told something in the last turn: what follows from that, such as
    /// giving buffers back, is done before the next wait.
    #[cfg(feature = "sim")]
    pub(crate) fn has_news_of_kernel(&self) -> bool {
        match &self.driver {
            Driver::Poll(poll) => poll.has_work(),
            Driver::Uring(uring) => uring.has_work(),
        }
    }

    /// Whether something written waits for the end of the turn.
    #[cfg(feature = "sim")]
    pub(crate) fn has_letters(&self) -> bool {
        self.outbox.has_letters()
    }

    /// See [`Wheel::steps`].
    #[cfg(feature = "sim")]
    pub(crate) fn timer_steps(&self) -> u64 {
        self.timers.steps()
    }

    /// How much room its timers take.
    #[cfg(feature = "sim")]
    pub(crate) fn timer_places(&self) -> Places {
        self.timers.places()
    }

    /// How much room its connections take.
    #[cfg(feature = "sim")]
    pub(crate) fn conn_places(&self) -> Places {
        self.conns.places()
    }

    pub(crate) fn timers(&mut self) -> &mut Wheel<TimerOwner> {
        &mut self.timers
    }

    /// A fresh allowance for the task about to be polled.
    pub(crate) fn refill_budget(&mut self) {
        self.budget = BUDGET;
    }

    /// Gives every socket up; call [`Io::turn`] until [`Io::is_quiet`] says that the kernel owes nothing.
    pub(crate) fn close_all(&mut self) {
        for key in self.listeners.keys() {
            self.close_listener(key);
        }
        for key in self.conns.keys() {
            let is_closing = self
                .conns
                .get(key)
                .is_none_or(|conn| conn.phase == Phase::Closing);
            if !is_closing {
                self.give_up(key, How::Graceful);
            }
        }
        self.park_events.clear();
    }

    /// Whether the kernel owes no completion to any socket.
    pub(crate) fn is_quiet(&self) -> bool {
        self.conns.is_empty() && self.listeners.is_empty()
    }

    /// Takes a connected socket into the table.
    ///
    /// # Errors
    /// What registration answers; the descriptor is closed then.
    pub(crate) fn adopt(&mut self, fd: RawFd) -> io::Result<Key> {
        let peer = self.kernel.peer_addr(fd).ok().flatten();
        let ready = self.kernel.set_nonblocking(fd, true);
        self.insert(fd, Phase::Open, peer, ready)
    }

    /// The peer's address.
    pub(crate) fn peer(&self, key: Key) -> Option<SocketAddr> {
        self.conns.get(key)?.peer.addr()
    }

    /// The socket's own address.
    pub(crate) fn local(&self, key: Key) -> io::Result<SocketAddr> {
        let slot = self
            .conns
            .get(key)
            .expect("a Conn's slot lives as long as the Conn");
        self.kernel.local_addr(slot.fd)
    }

    /// Whether bytes, the end or an error wait to be received.
    pub(crate) fn has_news(&self, key: Key) -> bool {
        self.conns.get(key).is_some_and(|slot| {
            let is_untold = slot.intake == Intake::AfterSplice;
            slot.has_news() || (is_untold && self.kernel.arrived(slot.fd) > 0)
        })
    }

    /// Whether the key is that of a connection with an owner.
    #[inline]
    pub(crate) fn is_open(&self, key: Key) -> bool {
        let slot = self.conns.get(key);
        slot.is_some_and(|slot| slot.phase == Phase::Open)
    }

    /// Takes a socket whose mode is right already into the table.
    fn insert(
        &mut self,
        fd: RawFd,
        phase: Phase,
        peer: Option<SocketAddr>,
        ready: io::Result<()>,
    ) -> io::Result<Key> {
        let mut slot = ConnSlot::new(fd, phase, peer);
        slot.readiness.writable = phase == Phase::Open;
        let key = self.conns.insert(slot);
        if let Some(stamps) = &mut self.stamps {
            stamps.forget(key);
        }
        let registered = ready.and_then(|()| match &self.driver {
            Driver::Uring(_) => Ok(()),
            Driver::Poll(poll) => poll.register(fd, key),
        });
        if let Err(error) = registered {
            self.conns.remove(key);
            self.kernel.close(fd);
            return Err(error);
        }
        Ok(key)
    }
}

/// Operations that one poll of a task may complete at once.
const BUDGET: u32 = 64;
/// Empty pipes that a worker keeps.
const SPARE_PIPES: usize = 16;
