//! The completion engine: receives, accepts and waits for room or a failure live in an io_uring; sends are calls (see `op::send`).
//!
//! The kernel writes to memory of ours in one case only: a receive fills a buffer that it took from a buffer ring.

mod buffers;
mod polls;
mod probe;
mod received;
mod ring;

use super::slot::{Accepted, Armed, ConnSlot, Peer, Phase};
use super::{Driver, Io, Kernel};
use crate::base::slab::Key;
use crate::rt::RtOptions;
use crate::rt::buf::{Group, Pool};
use crate::rt::driver::op::accept::is_passing;
use crate::rt::driver::slot::SLOT_LINES;
use crate::rt::driver::token::{NO_KEY, Token};
use crate::rt::lifecycle::{Table, enter};
use crate::rt::task::Remote;
use crate::rt::time::Instant;
use crate::sys::cpu::prefetch;
use crate::sys::ring::{Completion, RecvEntry};
use buffers::Buffers;
use ring::Ring;
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

pub use probe::Features;

/// A ring with its buffers. Fields are dropped in this order: the ring first, then what the kernel wrote to.
pub(super) struct Uring {
    ring: Ring,
    head: Buffers,
    /// Who waits for a large buffer, which are filled by calls.
    starved_of_bulk: VecDeque<Key>,
    features: Features,
    /// Reaped and not spread yet.
    completions: VecDeque<Completion>,
    /// When they were, where somebody wants to know.
    reaped_at: Instant,
    bell_armed: bool,
    bell: RawFd,
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uring")
            .field("features", &self.features)
            .finish_non_exhaustive()
    }
}

impl Uring {
    /// Makes the ring, gives it the pool's buffers, and tries out what this kernel can do.
    ///
    /// # Errors
    /// What `io_uring_setup(2)` and `io_uring_register(2)` answer; `Unsupported` when a basic operation misbehaves.
    pub(super) fn new(
        options: &RtOptions,
        pool: &Rc<Pool>,
        remote: &Remote,
        kernel: &Kernel,
    ) -> io::Result<Self> {
        let features = match kernel {
            Kernel::Real => probe::run()?,
            #[cfg(feature = "sim")]
            Kernel::Sim(kernel) => Features {
                capped_multishot: kernel.has_capped_multishot(),
            },
        };
        let ring = Ring::new(kernel, options.ring_entries, options.ring_completions)?;
        let head = Buffers::register(&ring, pool)?;
        let bell = remote.bell().as_raw();
        Ok(Self {
            ring,
            head,
            starved_of_bulk: VecDeque::new(),
            features,
            completions: VecDeque::new(),
            reaped_at: Instant::NEVER,
            bell_armed: false,
            bell,
        })
    }

    /// Whether the kernel has something for the engine, or the engine for the kernel.
    #[cfg(feature = "sim")]
    pub(super) fn has_work(&self) -> bool {
        let ring_has_work = match &self.ring {
            Ring::Real(_) => false,
            Ring::Sim(ring) => ring.has_work(),
        };
        ring_has_work || !self.completions.is_empty()
    }

    pub(super) fn features(&self) -> Features {
        self.features
    }

    /// Arms a receive into small buffers unless one is armed already.
    pub(super) fn arm_recv(&mut self, key: Key, slot: &mut ConnSlot) {
        enter(Table::Operation, slot.recv_row(), "somebody arms it");
        if slot.kernel.is_receiving() {
            return;
        }
        let goes_on = self.features.capped_multishot && self.hears_of_end(key, slot);
        let entry = RecvEntry {
            fd: slot.fd,
            group: buffers::GROUP_ID,
            multishot_bytes_max: goes_on.then_some(MULTISHOT_BYTES_MAX),
            poll_first: !slot.kernel.nonempty,
        };
        self.ring.recv(entry, Token::new(RECV, key).bits());
        slot.kernel.armed = Armed::Receive { is_first: true };
    }

    /// Whether the peer's end will be told behind bytes from which a receive has gone on.
    ///
    /// Bytes and an end that come together are one event. Behind the bytes a TCP socket says that there is more, a Unix socket does not, and the receive
    /// would wait for another event. There a poll tells of the end, and another receive finds it. A connection that brings bytes but once is spared the
    /// poll: its receives do not go on by themselves.
    fn hears_of_end(&mut self, key: Key, slot: &mut ConnSlot) -> bool {
        if !matches!(slot.peer, Peer::Nameless) {
            return true;
        }
        if slot.readiness.hung_up {
            return false;
        }
        if slot.kernel.has_received && !slot.kernel.failure_armed {
            self.poll_failure(key, slot);
        }
        slot.kernel.failure_armed
    }

    /// Arms a receive that drops up to `len` bytes, unless a receive is armed already: that one ends first. One that waits for a buffer
    /// keeps its place in the line.
    pub(super) fn arm_discard(&mut self, key: Key, slot: &mut ConnSlot, len: u32) {
        enter(Table::Operation, slot.recv_row(), "somebody arms it");
        if slot.kernel.armed != Armed::Nothing {
            return;
        }
        let token = Token::new(RECV, key);
        let poll_first = !slot.kernel.nonempty;
        self.ring.discard(slot.fd, len, poll_first, token.bits());
        slot.kernel.armed = Armed::Receive { is_first: false };
    }

    /// Waits until bytes, the end or an error are there, for whoever splices: this takes the place of a receive.
    pub(super) fn arm_readable(&mut self, key: Key, slot: &mut ConnSlot) {
        enter(Table::Operation, slot.recv_row(), "somebody arms it");
        if slot.kernel.armed == Armed::Nothing {
            self.ring
                .poll_readable(slot.fd, Token::new(READABLE, key).bits());
            slot.kernel.armed = Armed::Poll;
        }
    }

    /// Waits for room in the socket, or for the outcome of a connection attempt.
    pub(super) fn arm_writable(&mut self, key: Key, slot: &mut ConnSlot) {
        if slot.kernel.poll_armed {
            enter(Table::Operation, "Armed", "somebody arms it");
        } else {
            enter(Table::Operation, "Free", "somebody arms it");
            self.ring
                .poll_writable(slot.fd, Token::new(WRITABLE, key).bits());
            slot.kernel.poll_armed = true;
        }
    }

    /// Waits for the socket's failure where no receive would tell of it, because what was received before is unread. That stays armed behind the peer's
    /// end, as a failure may follow it.
    pub(super) fn arm_failure(&mut self, key: Key, slot: &mut ConnSlot) {
        if slot.kernel.is_receiving() || slot.kernel.failure_armed || slot.is_spliced() {
            return;
        }
        if slot.rx_end.is_some() {
            return;
        }
        self.poll_failure(key, slot);
    }

    fn poll_failure(&mut self, key: Key, slot: &mut ConnSlot) {
        enter(Table::Operation, "Free", "somebody arms it");
        self.ring
            .poll_failure(slot.fd, Token::new(FAILURE, key).bits());
        slot.kernel.failure_armed = true;
    }

    pub(super) fn arm_accept(&mut self, key: Key, fd: RawFd) {
        self.ring
            .accept_multishot(fd, Token::new(ACCEPT, key).bits());
    }

    pub(super) fn cancel_accept(&mut self, key: Key) {
        self.ring.cancel(
            Token::new(ACCEPT, key).bits(),
            Token::new(CANCEL, key).bits(),
        );
    }

    /// Asks for the end of everything that the kernel holds for a connection.
    pub(super) fn cancel(&mut self, key: Key, slot: &ConnSlot) {
        match slot.kernel.armed {
            Armed::Nothing => (),
            Armed::Receive { .. } => self.call_receive_back(key),
            Armed::Poll => self.ring.cancel(
                Token::new(READABLE, key).bits(),
                Token::new(CANCEL, key).bits(),
            ),
        }
        if slot.kernel.poll_armed {
            self.ring.cancel(
                Token::new(WRITABLE, key).bits(),
                Token::new(CANCEL, key).bits(),
            );
        }
        self.cancel_failure(key, slot);
    }

    /// Asks for the end of a receive.
    pub(super) fn call_receive_back(&mut self, key: Key) {
        self.ring
            .cancel(Token::new(RECV, key).bits(), Token::new(CANCEL, key).bits());
    }

    /// Asks for the end of the wait for a failure, which nothing else ends.
    pub(in crate::rt::driver) fn cancel_failure(&mut self, key: Key, slot: &ConnSlot) {
        if slot.kernel.failure_armed {
            self.ring.cancel(
                Token::new(FAILURE, key).bits(),
                Token::new(CANCEL, key).bits(),
            );
        }
    }

    /// This connection is received from again once a large buffer is free.
    pub(super) fn starve_of_bulk(&mut self, key: Key) {
        self.starved_of_bulk.push_back(key);
    }
}

/// See [`Io::turn`].
pub(super) fn turn(io: &mut Io, wait: Option<Duration>, remote: &Remote) -> io::Result<()> {
    let wait = if return_buffers(io) {
        Some(Duration::ZERO)
    } else {
        wait
    };
    let Driver::Uring(uring) = &mut io.driver else {
        unreachable!("the caller matched the engine")
    };
    if !uring.bell_armed {
        uring
            .ring
            .poll_bell(uring.bell, Token::new(BELL, NO_KEY).bits());
        uring.bell_armed = true;
    }
    if uring.completions.is_empty() {
        enter_and_reap(io, wait)?;
    }
    let Driver::Uring(uring) = &mut io.driver else {
        unreachable!("the caller matched the engine")
    };
    // What one turn spreads, its tasks find warm; the rest waits for the next turn, which does not enter before.
    let count = uring.completions.len().min(SPREAD_MAX);
    for completion in uring.completions.range(..count) {
        // Slots are far apart and cold: asked for together, they come together.
        prefetch(
            io.conns
                .address_of(Token::from_bits(completion.user_data).index()),
            SLOT_LINES,
        );
    }
    for _ in 0..count {
        let Driver::Uring(uring) = &mut io.driver else {
            break;
        };
        let Some(completion) = uring.completions.pop_front() else {
            break;
        };
        spread(io, completion, remote);
    }
    Ok(())
}

/// Hands over what was armed, waits at most `wait`, and takes what has completed.
#[inline]
fn enter_and_reap(io: &mut Io, wait: Option<Duration>) -> io::Result<()> {
    let Driver::Uring(uring) = &mut io.driver else {
        unreachable!("the caller matched the engine")
    };
    uring.ring.enter(wait)?;
    if io.stamps.is_some() {
        uring.reaped_at = io.kernel.now();
    }
    if uring.ring.reap(&mut uring.completions) {
        io.stats.completion_overflows += 1; // The next turn's enter moves what was kept back.
    }
    Ok(())
}

/// Takes what has completed by now behind what waits to be spread; says whether that is anything.
#[cold]
pub(super) fn brings_more(io: &mut Io) -> bool {
    let waiting = |io: &Io| match &io.driver {
        Driver::Uring(uring) => uring.completions.len(),
        Driver::Poll(_) => 0,
    };
    let waited = waiting(io);
    match enter_and_reap(io, Some(Duration::ZERO)) {
        Ok(()) => waiting(io) > waited,
        Err(_broken) => false, // The next turn meets it, too, and says so.
    }
}

/// Spreads what has been received for one connection before what waits for others.
#[cold]
pub(super) fn spread_to(io: &mut Io, key: Key) {
    let mut place = 0;
    while let Driver::Uring(uring) = &mut io.driver
        && let Some(completion) = uring.completions.get(place)
    {
        let token = Token::from_bits(completion.user_data);
        if !matches!(token.kind(), RECV | READABLE) || token.key_in(&io.conns) != Some(key) {
            place += 1;
            continue;
        }
        let Some(completion) = uring.completions.remove(place) else {
            return;
        };
        match token.kind() {
            RECV => received::received(io, Some(key), completion),
            _ => polls::became_readable(io, key),
        }
    }
}

/// Gives returned buffers to the kernel, and arms again what had found none; says whether anybody has news by that.
///
/// The measure is what the kernel has, not what it was just given: a receive that waited may be gone by now, or may have
/// met the peer's end and taken no buffer, and then the next one's turn has come without any buffer returning.
fn return_buffers(io: &mut Io) -> bool {
    let mut has_news = false;
    let Driver::Uring(uring) = &mut io.driver else {
        return has_news;
    };
    uring.head.refill(&io.pool);
    let mut room = uring.head.provided();
    while room > 0
        && let Driver::Uring(uring) = &mut io.driver
        && let Some(key) = uring.head.next_starved()
    {
        room -= usize::from(arm_again(io, key, &mut has_news));
    }
    // Here, too: whoever is gone, or finds nothing to receive, leaves the buffer to the next one.
    while io.pool.free_len(Group::Bulk) > 0
        && let Driver::Uring(uring) = &mut io.driver
        && let Some(key) = uring.starved_of_bulk.pop_front()
    {
        arm_again(io, key, &mut has_news);
    }
    has_news
}

/// Arms what had found no buffer, into one of the size that the connection has earned by now; says whether that is a small one.
fn arm_again(io: &mut Io, key: Key, has_news: &mut bool) -> bool {
    let Some(slot) = io.conns.get_mut(key) else {
        return false;
    };
    slot.kernel.starved = false;
    if slot.phase == Phase::Closing || slot.rx_end.is_some() {
        return false;
    }
    enter(
        Table::Operation,
        "Starved",
        "a buffer comes back to the pool",
    );
    let takes_small = !slot.is_bulk() && slot.kernel.armed == Armed::Nothing; // A discard may be armed.
    io.arm_recv(key);
    if io.conns.get(key).is_some_and(ConnSlot::has_news) {
        io.announce_rx(key);
        *has_news = true;
    }
    takes_small
}

fn spread(io: &mut Io, completion: Completion, remote: &Remote) {
    let token = Token::from_bits(completion.user_data);
    let conn = || token.key_in(&io.conns);
    match token.kind() {
        RECV => received::received(io, conn(), completion),
        WRITABLE => {
            if let Some(key) = conn() {
                polls::became_writable(io, key, completion.result);
            }
        }
        READABLE => {
            if let Some(key) = conn() {
                polls::became_readable(io, key);
            }
        }
        FAILURE => {
            if let Some(key) = conn() {
                polls::ended_or_failed(io, key, completion);
            }
        }
        ACCEPT => accepted(io, token.key_in(&io.listeners), completion),
        BELL => {
            remote.bell().silence();
            if let Driver::Uring(uring) = &mut io.driver {
                uring.bell_armed = false;
            }
        }
        _ => (), // The answer to a cancel: the target's own last completion decides.
    }
}

fn accepted(io: &mut Io, key: Option<Key>, completion: Completion) {
    let Some(slot) = key.and_then(|key| io.listeners.get_mut(key)) else {
        return;
    };
    let row = if slot.closing { "Leaving" } else { "Armed" };
    enter(Table::Operation, row, answer(&completion));
    slot.armed = completion.more;
    match RawFd::try_from(completion.result) {
        Ok(fd) if fd >= 0 && slot.closing => io.kernel.close(fd),
        Ok(fd) if fd >= 0 => slot.accepted.push_back(Accepted::Nameless(fd)),
        _ if is_passing(-completion.result) || -completion.result == libc::ECANCELED => (),
        _ => slot.error = Some(-completion.result),
    }
    let Some(key) = key else { return };
    let still_wanted = slot.error.is_none() && !slot.closing;
    if still_wanted {
        match io.arm_accept(key) {
            Ok(()) => (),
            Err(_never) => unreachable!("arming on a ring cannot fail"),
        }
    }
    io.announce_accept(key);
    io.free_listener_if_quiet(key);
}

/// The column of an answer in `docs/lifecycle/operation.md`.
const fn answer(completion: &Completion) -> &'static str {
    if completion.more {
        "an answer, and more follow"
    } else {
        "the final answer"
    }
}

/// A receive into a small buffer, or into none at all: at most one of them is armed.
const RECV: u8 = 1;
const WRITABLE: u8 = 3;
const ACCEPT: u8 = 4;
const BELL: u8 = 5;
const CANCEL: u8 = 6;
const READABLE: u8 = 7;
const FAILURE: u8 = 8;
/// Completions that one turn spreads at most.
const SPREAD_MAX: usize = 32;
/// A multishot receive ends after this much and is armed again when its data is taken: the bound of what a peer can make
/// us hold.
const MULTISHOT_BYTES_MAX: u32 = 16 * 1024;

#[cfg(all(test, feature = "sim"))]
mod tests {
    use super::*;
    use crate::rt::driver::op::close::How;
    use crate::rt::sim::{Face, Profile, World};
    use std::net::{Ipv4Addr, SocketAddr};
    use std::task::{Context, Poll, Waker};

    /// A ring that cannot poll says so with an errno where the events of poll(2) would stand.
    #[test]
    fn an_attempt_whose_poll_fails_has_failed() {
        let world = World::new(1, &Profile::calm());
        let host = world.host(Ipv4Addr::new(10, 0, 0, 1));
        let nowhere = world.host(Ipv4Addr::new(10, 0, 0, 2));
        world.partition(&host, &nowhere); // So the attempt is undecided until its poll is called back.
        let rt = host.rt(Face::Completion, &RtOptions::default()).unwrap();
        let addr = SocketAddr::from((nowhere.addr(), 80));
        let key = rt.0.io.borrow_mut().start_connect(addr, None).unwrap();
        let outcome = || {
            let nobody = Context::from_waker(Waker::noop());
            rt.0.io.borrow_mut().poll_connect(key, &nobody)
        };
        assert!(world.step());
        assert!(outcome().is_pending());
        {
            let io = &mut *rt.0.io.borrow_mut();
            let Driver::Uring(uring) = &mut io.driver else {
                panic!("completions come from a ring")
            };
            uring.cancel(key, io.conns.get(key).unwrap());
        }
        assert!(world.step());
        let Poll::Ready(outcome) = outcome() else {
            panic!("the poll has an answer")
        };
        let error = outcome.expect_err("nobody is there");
        assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
        rt.0.io.borrow_mut().close(key, How::Reset);
        world.shut_down().unwrap();
    }
}
