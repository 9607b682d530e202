//! The readiness engines: epoll or ppoll says which sockets are ready, the operations do the work by plain calls.
//!
//! With epoll a connection is registered once, for both directions, edge-triggered. ppoll is told before each wait what
//! the slots' flags leave to be asked: what was reported once is not asked again before an operation has found it used
//! up, so that every change is reported once there, too. The flags live in the slot.

use super::Io;
use super::Kernel;
#[cfg(feature = "sim")]
use super::sim::SimPoller;
use super::slot::{ConnSlot, ListenerSlot, Phase, SLOT_LINES};
use super::token::{NO_KEY, Token};
use crate::base::slab::{Key, Slab};
use crate::rt::Engine;
use crate::rt::buf::Group;
use crate::rt::task::Remote;
use crate::sys::cpu::prefetch;
use crate::sys::epoll::{Epoll, Readiness};
use crate::sys::ppoll::{Interest, Ppoll};
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// Who reports readiness, and the connections that found no buffer.
#[derive(Debug)]
pub(super) struct Poll {
    poller: Poller,
    /// For head buffers, and for bulk buffers.
    starved: [VecDeque<Key>; 2],
}

impl Poll {
    /// One that epoll drives, or who takes its place in a simulated kernel.
    pub(super) fn epoll(remote: &Remote, kernel: &Kernel) -> io::Result<Self> {
        Ok(Self::on(Poller::of(kernel, remote)?))
    }

    /// One that ppoll drives.
    pub(super) fn ppoll() -> Self {
        Self::on(Poller::Ppoll(Ppoll::default()))
    }

    fn on(poller: Poller) -> Self {
        Self {
            poller,
            starved: Default::default(),
        }
    }

    /// The engine that this is.
    pub(super) fn engine(&self) -> Engine {
        match self.poller {
            Poller::Epoll(_) => Engine::Epoll,
            #[cfg(feature = "sim")]
            Poller::Sim(_) => Engine::Epoll,
            Poller::Ppoll(_) => Engine::Threads,
        }
    }

    /// Whether something has become ready, or was reported by the last wait: a loop goes round once more after that.
    #[cfg(feature = "sim")]
    pub(super) fn has_work(&self) -> bool {
        match &self.poller {
            Poller::Epoll(_) | Poller::Ppoll(_) => false,
            Poller::Sim(poller) => poller.has_changes() || poller.ready_len() > 0,
        }
    }

    pub(super) fn register(&self, fd: RawFd, key: Key) -> io::Result<()> {
        self.poller.add_stream(fd, Token::new(CONN, key).bits())
    }

    pub(super) fn register_listener(&self, fd: RawFd, key: Key) -> io::Result<()> {
        self.poller
            .add_listener(fd, Token::new(LISTENER, key).bits())
    }

    pub(super) fn unregister(&self, fd: RawFd) -> io::Result<()> {
        self.poller.remove(fd)
    }

    /// This connection is read again once a buffer is free.
    pub(super) fn starve(&mut self, key: Key, group: Group) {
        self.starved(group).push_back(key);
    }

    fn starved(&mut self, group: Group) -> &mut VecDeque<Key> {
        match group {
            Group::Head => &mut self.starved[0],
            Group::Bulk => &mut self.starved[1],
        }
    }
}

/// Who reports what became ready: a connection's changes once each, a listener as long as somebody waits in it.
#[derive(Debug)]
enum Poller {
    Epoll(Epoll),
    Ppoll(Ppoll),
    #[cfg(feature = "sim")]
    Sim(SimPoller),
}

impl Poller {
    fn of(kernel: &Kernel, remote: &Remote) -> io::Result<Self> {
        match kernel {
            Kernel::Real => {
                let epoll = Epoll::new(EVENTS_MAX)?;
                epoll.add_bell(remote.bell(), Token::new(BELL, NO_KEY).bits())?;
                Ok(Self::Epoll(epoll))
            }
            // Nobody sleeps in a simulated kernel, so nobody rings.
            #[cfg(feature = "sim")]
            Kernel::Sim(kernel) => Ok(Self::Sim(kernel.poller(EVENTS_MAX))),
        }
    }

    /// See [`Epoll::add_stream`].
    fn add_stream(&self, fd: RawFd, token: u64) -> io::Result<()> {
        match self {
            Self::Epoll(epoll) => epoll.add_stream(fd, token),
            Self::Ppoll(_) => Ok(()),
            #[cfg(feature = "sim")]
            Self::Sim(poller) => poller.add(fd, token),
        }
    }

    /// See [`Epoll::add_listener`].
    fn add_listener(&self, fd: RawFd, token: u64) -> io::Result<()> {
        match self {
            Self::Epoll(epoll) => epoll.add_listener(fd, token),
            Self::Ppoll(_) => Ok(()),
            #[cfg(feature = "sim")]
            Self::Sim(poller) => poller.add(fd, token),
        }
    }

    /// See [`Epoll::remove`].
    fn remove(&self, fd: RawFd) -> io::Result<()> {
        match self {
            Self::Epoll(epoll) => epoll.remove(fd),
            Self::Ppoll(_) => Ok(()),
            #[cfg(feature = "sim")]
            Self::Sim(poller) => poller.remove(fd),
        }
    }

    /// Tells ppoll what to ask, which epoll knows already.
    fn ask(&mut self, conns: &Slab<ConnSlot>, listeners: &Slab<ListenerSlot>, remote: &Remote) {
        let Self::Ppoll(ppoll) = self else {
            return;
        };
        ppoll.clear();
        ppoll.watch_bell(remote.bell(), Token::new(BELL, NO_KEY).bits());
        for (key, slot) in conns.iter() {
            if let Some(interest) = open_questions(slot) {
                ppoll.watch(slot.fd, Token::new(CONN, key).bits(), interest);
            }
        }
        for (key, slot) in listeners.iter().filter(|(_, slot)| slot.armed) {
            let interest = Interest {
                readable: true,
                ..Interest::default()
            };
            ppoll.watch(slot.fd, Token::new(LISTENER, key).bits(), interest);
        }
    }

    /// See [`Epoll::wait`].
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Epoll(epoll) => epoll.wait(timeout),
            Self::Ppoll(ppoll) => ppoll.wait(timeout),
            #[cfg(feature = "sim")]
            Self::Sim(poller) => poller.wait(timeout),
        }
    }

    /// See [`Epoll::ready_len`].
    fn ready_len(&self) -> usize {
        match self {
            Self::Epoll(epoll) => epoll.ready_len(),
            Self::Ppoll(ppoll) => ppoll.ready_len(),
            #[cfg(feature = "sim")]
            Self::Sim(poller) => poller.ready_len(),
        }
    }

    /// Whose the report is that [`Poller::ready_at`] gives.
    fn token_at(&self, position: usize) -> Option<u64> {
        match self {
            Self::Epoll(epoll) => epoll.token_at(position),
            Self::Ppoll(ppoll) => ppoll.ready_at(position).map(|ready| ready.token),
            #[cfg(feature = "sim")]
            Self::Sim(poller) => poller.ready_at(position).map(|ready| ready.token),
        }
    }

    /// See [`Epoll::ready_at`].
    fn ready_at(&self, position: usize) -> Option<Readiness> {
        match self {
            Self::Epoll(epoll) => epoll.ready_at(position),
            Self::Ppoll(ppoll) => ppoll.ready_at(position),
            #[cfg(feature = "sim")]
            Self::Sim(poller) => poller.ready_at(position),
        }
    }
}

/// What a connection's flags leave to be asked; `None` when nothing that could still be reported is news.
fn open_questions(slot: &ConnSlot) -> Option<Interest> {
    let is_open = matches!(slot.phase, Phase::Open | Phase::Parked { .. });
    let can_send = slot.tx_error().is_none();
    let readable = is_open && !slot.readiness.readable && slot.rx_end.is_none();
    let is_connecting = slot.phase == Phase::Connecting;
    let waits_for_room = !slot.tx.is_empty() || (slot.pipe_waits && !slot.readiness.writable);
    let writable = can_send && (is_connecting || waits_for_room);
    let interest = Interest {
        readable,
        writable,
        hung_up: is_open && !slot.readiness.hung_up,
    };
    // A failure is reported unasked, and stays: it would end every wait at once. And so does the end of both directions, which is none.
    let has_ended = slot.is_finished && slot.readiness.hung_up;
    let may_fail = is_open && !slot.readiness.failed && !has_ended;
    (readable || writable || may_fail).then_some(interest)
}

/// See [`Io::turn`].
pub(super) fn turn(io: &mut Io, wait: Option<Duration>, remote: &Remote) -> io::Result<()> {
    let fed = [Group::Head, Group::Bulk].map(|group| feed_starved(io, group));
    let wait = if fed.contains(&true) {
        Some(Duration::ZERO)
    } else {
        wait
    };
    let super::Driver::Poll(poll) = &mut io.driver else {
        unreachable!("the caller matched the engine")
    };
    poll.poller.ask(&io.conns, &io.listeners, remote);
    poll.poller.wait(wait)?;
    // Their slots are far apart and cold: asked for together, they come together.
    for position in 0..poll.poller.ready_len() {
        if let Some(token) = poll.poller.token_at(position) {
            prefetch(
                io.conns.address_of(Token::from_bits(token).index()),
                SLOT_LINES,
            );
        }
    }
    for position in 0..poll.poller.ready_len() {
        let super::Driver::Poll(poll) = &io.driver else {
            break;
        };
        let Some(ready) = poll.poller.ready_at(position) else {
            break;
        };
        spread(io, ready, remote);
    }
    Ok(())
}

#[inline]
fn spread(io: &mut Io, ready: Readiness, remote: &Remote) {
    let token = Token::from_bits(ready.token);
    match token.kind() {
        CONN => {
            if let Some(key) = token.key_in(&io.conns) {
                spread_to_conn(io, key, ready);
            }
        }
        LISTENER => {
            if let Some(key) = token.key_in(&io.listeners) {
                io.try_accepts(key);
            }
        }
        _ => {
            remote.bell().silence();
        }
    }
}

#[inline]
fn spread_to_conn(io: &mut Io, key: Key, ready: Readiness) {
    let Some(slot) = io.conns.get_mut(key) else {
        return;
    };
    if ready.hung_up || ready.failed || ready.urgent {
        note_trouble(slot, ready);
    }
    slot.readiness.readable |= ready.readable;
    slot.readiness.writable |= ready.writable;
    if slot.phase == Phase::Connecting {
        if ready.writable {
            io.finish_connect(key);
        }
        return;
    }
    if ready.writable && (!slot.tx.is_empty() || slot.pipe_waits) {
        io.resume_sending(key);
    }
    if ready.readable {
        io.receive_ahead(key);
        io.announce_rx(key);
    }
}

/// What is rare is noted apart: together with the rest it came to a hundred instructions for each report.
#[cold]
fn note_trouble(slot: &mut ConnSlot, ready: Readiness) {
    slot.readiness.hung_up |= ready.hung_up;
    slot.readiness.failed |= ready.failed;
    slot.readiness.urgent |= ready.urgent;
}

/// Wakes who waits for a buffer of a group when there is one; says whether it woke anybody.
fn feed_starved(io: &mut Io, group: Group) -> bool {
    let mut woken = false;
    for _ in 0..io.pool.free_len(group) {
        let super::Driver::Poll(poll) = &mut io.driver else {
            break;
        };
        let Some(key) = poll.starved(group).pop_front() else {
            break;
        };
        if let Some(slot) = io.conns.get_mut(key) {
            slot.kernel.starved = false;
        }
        io.receive_ahead(key); // A parked connection has no task that would do it.
        io.announce_rx(key);
        woken = true;
    }
    woken
}

const CONN: u8 = 1;
const LISTENER: u8 = 2;
const BELL: u8 = 3;
/// Descriptors that one wait reports at most. Few: a report touches the slot, and its task shall run while that is warm.
const EVENTS_MAX: usize = 32;
