//! The simulated kernel: it answers the calls that the drivers make, so that the drivers themselves run in it unchanged.
//!
//! `fabric` is the world with its clock, `wire` what crosses it, `socket` and `calls` what a program sees of it, `poller`
//! and `ring` the two ways to wait, `fault` what goes wrong. All of it is one value behind one lock: it is never
//! contended, for a world lives on one thread; but descriptors cross threads as far as the compiler can know.

mod calls;
mod chance;
mod descriptors;
mod fabric;
mod fault;
mod log;
mod pipe;
mod poller;
mod ring;
mod socket;
mod wire;

pub use chance::Chance;
pub(crate) use fabric::HostId;
pub use fabric::{Calls, Counts, Link};
pub use fault::{Fault, Frequency, Profile};
pub(crate) use pipe::SimPipe;
pub(super) use poller::SimPoller;
pub(super) use ring::{Provided, SimRing};

use crate::rt::time::Instant;
use calls::Answer;
use fabric::{Fabric, nanos_of};
use log::Note;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::time::Duration;
use world::{Guard, Handle};

/// The only place that names the lock.
mod world {
    #![expect(
        clippy::disallowed_types,
        reason = "a descriptor may cross threads, and its world with it"
    )]

    use super::fabric::Fabric;
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    pub(super) type Guard<'a> = MutexGuard<'a, Fabric>;

    #[derive(Clone, Debug)]
    pub(super) struct Handle(Arc<Mutex<Fabric>>);

    impl Handle {
        pub(super) fn new(fabric: Fabric) -> Self {
            Self(Arc::new(Mutex::new(fabric)))
        }

        pub(super) fn lock(&self) -> Guard<'_> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner) // A broken world is told by the panic that broke it.
        }
    }
}

/// The kernel of one host; all hosts of a world share the world.
#[derive(Clone)]
pub(crate) struct SimKernel {
    world: Handle,
    host: HostId,
}

impl std::fmt::Debug for SimKernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimKernel")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl SimKernel {
    /// A world with nothing in it but one host.
    pub(crate) fn new(seed: u64, profile: &Profile, addr: IpAddr) -> Self {
        let mut fabric = Fabric::new(seed, profile);
        let host = fabric.host(addr);
        let world = Handle::new(fabric);
        Self { world, host }
    }

    /// The kernel of the host that has this address, which is made if need be.
    pub(crate) fn at(&self, addr: IpAddr) -> Self {
        let host = self.lock().host(addr);
        let world = self.world.clone();
        Self { world, host }
    }

    /// Its host.
    pub(crate) fn host(&self) -> HostId {
        self.host
    }

    /// Its host's address.
    pub(crate) fn addr(&self) -> IpAddr {
        self.lock().hosts[self.host].addr
    }

    /// A listening socket that no runtime has.
    pub(crate) fn listen(&self, addr: SocketAddr, backlog: u32) -> io::Result<SimSocket> {
        let fd = self.answer(|fabric, host| fabric.listen(host, addr, backlog))?;
        Ok(self.own(fd))
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_nanos(self.lock().now)
    }

    pub(crate) fn wall_clock(&self) -> Duration {
        EPOCH + Duration::from_nanos(self.lock().now)
    }

    pub(crate) fn start_connect(&self, addr: SocketAddr) -> io::Result<RawFd> {
        self.answer(|fabric, host| fabric.start_connect(host, addr))
    }

    pub(crate) fn take_error(&self, fd: RawFd) -> io::Result<()> {
        self.answer(|fabric, host| fabric.take_error(host, fd))
    }

    pub(crate) fn set_nonblocking(&self, fd: RawFd, nonblocking: bool) -> io::Result<()> {
        self.answer(|fabric, host| fabric.set_nonblocking(host, fd, nonblocking))
    }

    /// Accepts, non-blocking.
    pub(crate) fn accept_nonblocking(&self, fd: RawFd) -> io::Result<(RawFd, Option<SocketAddr>)> {
        self.answer(|fabric, host| {
            let accepted = fabric.accept(host, fd)?;
            fabric.set_nonblocking(host, accepted, true)?;
            Ok((accepted, fabric.accepted_addr(host, accepted)?))
        })
    }

    pub(crate) fn recv(&self, fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
        self.answer(|fabric, host| fabric.recv(host, fd, buffer))
    }

    /// What a pipe holds.
    pub(crate) fn pipe_bytes(&self) -> usize {
        self.lock().hosts[self.host].pipe_bytes
    }

    pub(crate) fn discard(&self, fd: RawFd, len: usize) -> io::Result<usize> {
        self.answer(|fabric, host| fabric.discard(host, fd, len))
    }

    pub(crate) fn is_readable(&self, fd: RawFd) -> bool {
        self.lock_for_call().is_readable(self.host, fd)
    }

    pub(crate) fn is_writable(&self, fd: RawFd) -> bool {
        self.lock_for_call().is_writable(self.host, fd)
    }

    pub(crate) fn arrived(&self, fd: RawFd) -> usize {
        self.lock_for_call().arrived_len(self.host, fd)
    }

    pub(crate) fn unacknowledged(&self, fd: RawFd) -> usize {
        self.lock_for_call().unacknowledged(self.host, fd)
    }

    pub(crate) fn send(&self, fd: RawFd, segments: &[IoSlice<'_>]) -> io::Result<usize> {
        self.answer(|fabric, host| fabric.send(host, fd, segments))
    }

    pub(crate) fn shutdown_write(&self, fd: RawFd) -> io::Result<()> {
        self.answer(|fabric, host| fabric.shutdown_write(host, fd))
    }

    pub(crate) fn shutdown_both(&self, fd: RawFd) -> io::Result<()> {
        self.answer(|fabric, host| fabric.shutdown_both(host, fd))
    }

    pub(crate) fn reset_on_close(&self, fd: RawFd) -> io::Result<()> {
        self.answer(|fabric, host| fabric.reset_on_close(host, fd))
    }

    pub(crate) fn peer_addr(&self, fd: RawFd) -> io::Result<Option<SocketAddr>> {
        self.answer(|fabric, host| fabric.peer_addr(host, fd))
    }

    pub(crate) fn as_peer(&self, addr: SocketAddr) -> Option<SocketAddr> {
        (!self.lock().is_local).then_some(addr)
    }

    pub(crate) fn local_addr(&self, fd: RawFd) -> io::Result<SocketAddr> {
        self.answer(|fabric, host| fabric.local_addr(host, fd))
    }

    pub(crate) fn close(&self, fd: RawFd) {
        self.lock_for_call().close(self.host, fd);
    }

    /// A descriptor that closes when dropped.
    pub(crate) fn own(&self, fd: RawFd) -> SimSocket {
        let kernel = Some(self.clone());
        SimSocket { kernel, fd }
    }

    pub(super) fn poller(&self, reports_max: usize) -> SimPoller {
        SimPoller::new(self.clone(), reports_max)
    }

    pub(super) fn ring(&self, completions_max: u32) -> SimRing {
        SimRing::new(self.clone(), completions_max)
    }

    /// Whether its rings have multishot receives with a cap: most kernels of a world do.
    pub(super) fn has_capped_multishot(&self) -> bool {
        !self.lock().chance.one_in(KERNELS_PER_OLD_ONE)
    }

    /// When the next thing happens without anybody's doing.
    pub(crate) fn next_event(&self) -> Option<Instant> {
        self.lock().next_event().map(Instant::from_nanos)
    }

    /// Moves the clock, never back, and lets happen what is due.
    pub(crate) fn advance_to(&self, now: Instant) {
        self.lock().advance_to(now.as_nanos());
    }

    /// Notes that a runtime is given its turn.
    pub(crate) fn begin_turn(&self, runtime: usize) {
        let mut fabric = self.lock();
        fabric.counts.turns += 1;
        fabric.note(Note::Turn, runtime as i64, 0);
    }

    /// Whether a fault strikes this host now; and chance for its details.
    pub(crate) fn strikes(&self, fault: Fault) -> bool {
        let mut fabric = self.lock();
        fabric.strikes(self.host, fault)
    }

    pub(crate) fn fork_chance(&self) -> Chance {
        self.lock().chance.fork()
    }

    pub(crate) fn set_link(&self, to: HostId, link: Link) {
        self.lock().set_link((self.host, to), link);
    }

    pub(crate) fn clog(&self, to: HostId, until: Instant) {
        self.lock().clog((self.host, to), until.as_nanos());
    }

    pub(crate) fn partition(&self, to: HostId) {
        self.lock().partition((self.host, to));
    }

    pub(crate) fn heal(&self, to: HostId) {
        self.lock().heal((self.host, to));
    }

    pub(crate) fn spare(&self) {
        self.lock().hosts[self.host].is_spared = true;
    }

    pub(crate) fn set_descriptors_max(&self, descriptors_max: usize) {
        self.lock().hosts[self.host]
            .descriptors
            .set_max(descriptors_max);
    }

    pub(crate) fn set_buffer_bytes(&self, bytes: usize) {
        self.lock().hosts[self.host].buffer_bytes = bytes.max(1);
    }

    pub(crate) fn calls(&self) -> Calls {
        self.lock().hosts[self.host].calls
    }

    pub(crate) fn armed_receives(&self) -> usize {
        self.lock().armed_receives(self.host)
    }

    pub(crate) fn armed_polls(&self) -> usize {
        self.lock().armed_polls(self.host)
    }

    pub(crate) fn open_len(&self) -> usize {
        self.lock().open_len(self.host)
    }

    pub(crate) fn hash(&self) -> u64 {
        self.lock().log.hash()
    }

    pub(crate) fn tell_log(&self) {
        self.lock().log.tell();
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts
    }

    pub(crate) fn fault_counts(&self) -> Vec<(&'static str, u64)> {
        self.lock().faults.counts().collect()
    }

    /// Looks with `look` until it has found something or the time is over, and moves the clock meanwhile.
    fn wait(
        &self,
        timeout: Option<Duration>,
        mut look: impl FnMut(&mut Fabric, HostId) -> bool,
    ) -> io::Result<()> {
        let mut fabric = self.lock_for_call();
        fabric.charge();
        fabric.settle();
        let until = timeout.map(|timeout| fabric.now.saturating_add(nanos_of(timeout)));
        loop {
            if look(&mut fabric, self.host) || timeout == Some(Duration::ZERO) {
                return Ok(());
            }
            let next = match (fabric.next_event(), until) {
                (Some(next), Some(until)) => next.min(until),
                (Some(at), None) | (None, Some(at)) => at,
                (None, None) => {
                    let message = "nothing will ever end this wait: no event is on its way";
                    return Err(io::Error::new(io::ErrorKind::Deadlock, message));
                }
            };
            fabric.advance_to(next);
            if until.is_some_and(|until| fabric.now >= until) {
                look(&mut fabric, self.host);
                return Ok(());
            }
        }
    }

    fn answer<T>(&self, call: impl FnOnce(&mut Fabric, HostId) -> Answer<T>) -> io::Result<T> {
        call(&mut self.lock_for_call(), self.host).map_err(io::Error::from_raw_os_error)
    }

    /// For a call that a program makes.
    fn lock_for_call(&self) -> Guard<'_> {
        let mut fabric = self.lock();
        fabric.hosts[self.host].calls.calls += 1;
        fabric
    }

    fn lock(&self) -> Guard<'_> {
        self.world.lock()
    }
}

/// A descriptor of a simulated kernel that no runtime has. Closes when dropped.
#[derive(Debug)]
pub(crate) struct SimSocket {
    /// Absent once a slot owns the descriptor.
    kernel: Option<SimKernel>,
    fd: RawFd,
}

impl SimSocket {
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.kernel {
            Some(kernel) => kernel.local_addr(self.fd),
            None => Err(io::Error::from_raw_os_error(libc::EBADF)),
        }
    }

    /// A second descriptor of the same socket.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        let Some(kernel) = &self.kernel else {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        };
        let fd = kernel.answer(|fabric, host| fabric.duplicate(host, self.fd))?;
        Ok(kernel.own(fd))
    }

    pub(crate) fn is_readable(&self) -> bool {
        let kernel = self.kernel.as_ref();
        kernel.is_some_and(|kernel| kernel.is_readable(self.fd))
    }

    /// Gives ownership to a slot of a runtime in the same world.
    pub(crate) fn into_raw(mut self) -> RawFd {
        self.kernel = None;
        self.fd
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        if let Some(kernel) = &self.kernel {
            kernel.close(self.fd);
        }
    }
}

const KERNELS_PER_OLD_ONE: u64 = 4;
/// Worlds begin on 2020-01-01.
const EPOCH: Duration = Duration::from_secs(1_577_836_800);
