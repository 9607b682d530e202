//! A world to try programs in: hosts, links and a clock of its own, on one thread, repeated exactly by its seed.
//!
//! The drivers and everything above them run as they are; only the kernel is another one. A world picks by chance which
//! of its runtimes has the next turn, and when none has anything to do it moves the clock to the next event.

mod work;

pub use super::driver::sim::{Calls, Chance, Counts, Fault, Frequency, Link, Profile};

pub use crate::base::slab::Places;
pub use crate::base::sync::lines;
pub use work::{Footprint, Work};

use super::driver::Kernel;
use super::driver::sim::SimKernel;
use super::net::Socket;
use super::{Engine, Holdings, Instant, Rt, RtOptions, StartError};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// What a program sees of the simulated kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// Readiness, as epoll tells it.
    Readiness,
    /// Completions, as io_uring tells them.
    Completion,
}

/// Hosts and their runtimes under one clock.
#[derive(Clone)]
pub struct World(Rc<Inner>);

struct Inner {
    seed: u64,
    kernel: SimKernel,
    workers: RefCell<Vec<Worker>>,
    hosts: RefCell<Vec<SimKernel>>,
    chance: RefCell<Chance>,
    turns: Cell<u64>,
}

/// A runtime and its place in the world.
struct Worker {
    rt: Rt,
    kernel: SimKernel,
    stalled_until: Instant,
}

/// A machine of a world, with one address and descriptors of its own.
#[derive(Clone, Debug)]
pub struct Host {
    world: World,
    kernel: SimKernel,
}

/// How long a world may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Turns of runtimes.
    pub turns: u64,
    /// Time of the world's clock.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            turns: 1_000_000,
            time: Duration::from_secs(3600),
        }
    }
}

/// Why a world stopped before what was waited for had come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    seed: u64,
    why: Why,
    turns: u64,
    time: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// Nobody has anything to do, and nothing is on its way.
    Idle,
    Turns,
    Time,
}

/// What a world that was shut down had not given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaks {
    seed: u64,
    /// What each runtime holds, in the order in which they were made.
    pub holdings: Vec<Holdings>,
    /// How many descriptors each host has open, in the order in which they were made.
    pub descriptors: Vec<usize>,
}

impl World {
    /// A world without hosts.
    #[must_use]
    pub fn new(seed: u64, profile: &Profile) -> Self {
        let kernel = SimKernel::new(seed, profile, NOBODY);
        let chance = RefCell::new(kernel.fork_chance());
        Self(Rc::new(Inner {
            seed,
            kernel,
            workers: RefCell::default(),
            hosts: RefCell::default(),
            chance,
            turns: Cell::new(0),
        }))
    }

    /// A new host, or the one that has this address. Addresses that no host has answer nothing. The loopback addresses
    /// belong to whoever uses them, unless a host was made of them.
    #[must_use]
    pub fn host(&self, addr: impl Into<IpAddr>) -> Host {
        let kernel = self.0.kernel.at(addr.into());
        let mut hosts = self.0.hosts.borrow_mut();
        if hosts.iter().all(|known| known.host() != kernel.host()) {
            hosts.push(kernel.clone());
        }
        Host {
            world: self.clone(),
            kernel,
        }
    }

    /// Runs until `done` says so; it is asked after every turn.
    ///
    /// # Errors
    /// [`Stuck`] when a limit is passed, or nothing will ever happen again.
    pub fn run_until(&self, done: &mut dyn FnMut() -> bool, limits: Limits) -> Result<(), Stuck> {
        let (turns_before, began) = (self.0.turns.get(), self.now());
        while !done() {
            let turns = self.0.turns.get() - turns_before;
            let stuck = |why| Stuck {
                seed: self.0.seed,
                why,
                turns,
                time: self.now() - began,
            };
            if turns >= limits.turns {
                return Err(stuck(Why::Turns));
            }
            if self.now() - began >= limits.time {
                return Err(stuck(Why::Time));
            }
            if !self.step() {
                return Err(stuck(Why::Idle));
            }
        }
        Ok(())
    }

    /// Gives one runtime a turn, or moves the clock to the next event; `false` when nothing will ever happen again.
    pub fn step(&self) -> bool {
        self.0.kernel.advance_to(self.now());
        let Some(index) = self.draw_runnable() else {
            return self.skip_to_next_event();
        };
        let rt = {
            let mut workers = self.0.workers.borrow_mut();
            let worker = &mut workers[index];
            if worker.kernel.strikes(Fault::StalledWorker) {
                let stall = self.draw_length(STALL_MAX);
                worker.stalled_until = self.now() + stall;
                return true;
            }
            worker.rt.clone() // A task may start a runtime.
        };
        self.0.kernel.begin_turn(index);
        rt.turn();
        self.0.turns.set(self.0.turns.get() + 1);
        let mut length = self.draw_length(TURN_MAX);
        if self.0.kernel.strikes(Fault::ClockJump) {
            length += self.draw_length(JUMP_MAX);
        }
        self.0.kernel.advance_to(self.now() + length);
        true
    }

    /// The world's clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.0.kernel.now()
    }

    /// A hash over everything observable that has happened, equal for every run of the same seed.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.0.kernel.hash()
    }

    /// How often each fault has struck, by name.
    #[must_use]
    pub fn faults(&self) -> Vec<(&'static str, u64)> {
        self.0.kernel.fault_counts()
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.0.kernel.counts()
    }

    /// Chance for whoever plays a part in this world; each call gives another stream.
    #[must_use]
    pub fn chance(&self) -> Chance {
        self.0.kernel.fork_chance()
    }

    /// Writes every fact that goes into the hash to stderr, too. To find where two runs part.
    pub fn tell_log(&self) {
        self.0.kernel.tell_log();
    }

    /// Sets what one direction between two hosts is like.
    pub fn set_link(&self, from: &Host, to: &Host, link: Link) {
        from.kernel.set_link(to.kernel.host(), link);
    }

    /// Holds back what is sent from now on in one direction, until a time.
    pub fn clog(&self, from: &Host, to: &Host, until: Instant) {
        from.kernel.clog(to.kernel.host(), until);
    }

    /// Holds back what is sent from now on in one direction, until [`World::heal`].
    pub fn partition(&self, from: &Host, to: &Host) {
        from.kernel.partition(to.kernel.host());
    }

    /// Lets go what a partition held back.
    pub fn heal(&self, from: &Host, to: &Host) {
        from.kernel.heal(to.kernel.host());
    }

    /// Shuts every runtime down.
    ///
    /// # Errors
    /// [`Leaks`] when buffers, slots or descriptors were not given back.
    pub fn shut_down(&self) -> Result<(), Leaks> {
        let rts: Vec<Rt> = self.rts();
        rts.iter().for_each(Rt::shut_down);
        let hosts = self.0.hosts.borrow();
        let leaks = Leaks {
            seed: self.0.seed,
            holdings: rts.iter().map(Rt::holdings).collect(),
            descriptors: hosts.iter().map(SimKernel::open_len).collect(),
        };
        let is_clean = leaks.holdings.iter().all(|held| *held == NOTHING)
            && leaks.descriptors.iter().all(|open| *open == 0);
        if is_clean { Ok(()) } else { Err(leaks) }
    }

    fn rts(&self) -> Vec<Rt> {
        let workers = self.0.workers.borrow();
        workers.iter().map(|worker| worker.rt.clone()).collect()
    }

    fn draw_runnable(&self) -> Option<usize> {
        let now = self.now();
        let workers = self.0.workers.borrow();
        let is_runnable = |index: &usize| {
            let worker = &workers[*index];
            worker.stalled_until <= now && worker.rt.has_work()
        };
        let runnable: Vec<usize> = (0..workers.len()).filter(is_runnable).collect();
        let drawn = self.0.chance.borrow_mut().index(runnable.len());
        runnable.get(drawn).copied()
    }

    fn skip_to_next_event(&self) -> bool {
        let workers = self.0.workers.borrow();
        let now = self.now();
        let timers = workers.iter().filter_map(|worker| {
            let timer = worker.rt.next_timer()?;
            Some(timer.max(worker.stalled_until))
        });
        let stalls = workers.iter().map(|worker| worker.stalled_until);
        let next = timers
            .chain(stalls.filter(|until| *until > now))
            .chain(self.0.kernel.next_event())
            .min();
        match next {
            Some(next) => {
                self.0.kernel.advance_to(next);
                true
            }
            None => false,
        }
    }

    /// A length of which each order of magnitude is as likely as any other.
    fn draw_length(&self, max: Duration) -> Duration {
        let nanos = usize::try_from(max.as_nanos()).unwrap_or(usize::MAX);
        let drawn = self.0.chance.borrow_mut().size(nanos);
        Duration::from_nanos(drawn as u64)
    }
}

impl Host {
    /// A runtime of this host, which the world runs from now on.
    ///
    /// # Errors
    /// As [`Rt::new`].
    pub fn rt(&self, face: Face, options: &RtOptions) -> Result<Rt, StartError> {
        let engine = match face {
            Face::Readiness => Engine::Epoll,
            Face::Completion => Engine::Uring,
        };
        let options = RtOptions {
            engine,
            ..options.clone()
        };
        let rt = Rt::on(Kernel::Sim(self.kernel.clone()), &options)?;
        self.world.0.workers.borrow_mut().push(Worker {
            rt: rt.clone(),
            kernel: self.kernel.clone(),
            stalled_until: Instant::START,
        });
        Ok(rt)
    }

    /// A listening socket for a runtime of this host. Sockets that listen on one address share its connections by chance;
    /// `backlog` may wait in it. The port may be 0.
    ///
    /// # Errors
    /// `AddrNotAvailable` when the address is another host's; `EMFILE`.
    pub fn listen(&self, addr: SocketAddr, backlog: u32) -> io::Result<Socket> {
        self.kernel.listen(addr, backlog).map(Socket::from)
    }

    /// Its address.
    #[must_use]
    pub fn addr(&self) -> IpAddr {
        self.kernel.addr()
    }

    /// No fault strikes what belongs to this host; those of its peers still reach it.
    pub fn spare(&self) {
        self.kernel.spare();
    }

    /// How many descriptors its programs may have open together.
    pub fn set_descriptors_max(&self, descriptors_max: usize) {
        self.kernel.set_descriptors_max(descriptors_max);
    }

    /// How many bytes each socket that it makes from now on takes in either direction.
    pub fn set_buffer_bytes(&self, bytes: usize) {
        self.kernel.set_buffer_bytes(bytes);
    }

    /// What its programs have asked of its kernel so far.
    #[must_use]
    pub fn calls(&self) -> Calls {
        self.kernel.calls()
    }

    /// Receives that rings hold for its sockets now.
    #[must_use]
    pub fn armed_receives(&self) -> usize {
        self.kernel.armed_receives()
    }

    /// Polls that rings hold for its sockets now.
    #[must_use]
    pub fn armed_polls(&self) -> usize {
        self.kernel.armed_polls()
    }

    /// How many descriptors its programs have open.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        self.kernel.open_len()
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("seed", &self.0.seed)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            why,
            turns,
            time,
        } = self;
        let why = match why {
            Why::Idle => "nobody has anything to do and nothing is on its way",
            Why::Turns => "too many turns",
            Why::Time => "too much time",
        };
        write!(f, "seed {seed}: {why}, after {turns} turns and {time:?}")
    }
}

impl std::error::Error for Stuck {}

impl fmt::Display for Leaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            holdings,
            descriptors,
        } = self;
        write!(
            f,
            "seed {seed}: not given back: {holdings:?}, open descriptors {descriptors:?}"
        )
    }
}

impl std::error::Error for Leaks {}

/// The world's own host, which no program runs on.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const NOTHING: Holdings = Holdings {
    conns: 0,
    listeners: 0,
    lent_buffers: 0,
    lent_bytes: 0,
};
const TURN_MAX: Duration = Duration::from_micros(50);
const STALL_MAX: Duration = Duration::from_millis(500);
const JUMP_MAX: Duration = Duration::from_secs(10);
