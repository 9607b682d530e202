//! The readiness engine: epoll says which sockets are ready, the operations do the work by plain calls.
//!
//! A connection is registered once, for both directions, edge-triggered; its flags live in the slot.

use super::Io;
use super::slot::{Phase, SLOT_LINES};
use crate::base::slab::{GENERATION_LOW_MASK, Key};
use crate::rt::buf::Group;
use crate::rt::task::Remote;
use crate::sys::cpu::prefetch;
use crate::sys::epoll::{Epoll, Readiness};
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// The epoll instance, and the connections that found no buffer.
#[derive(Debug)]
pub(super) struct Poll {
    epoll: Epoll,
    /// For head buffers, and for bulk buffers.
    starved: [VecDeque<Key>; 2],
}

impl Poll {
    pub(super) fn new(remote: &Remote) -> io::Result<Self> {
        let epoll = Epoll::new(EVENTS_MAX)?;
        epoll.add_bell(remote.bell(), BELL)?;
        Ok(Self {
            epoll,
            starved: Default::default(),
        })
    }

    pub(super) fn register(&self, fd: RawFd, key: Key) -> io::Result<()> {
        self.epoll.add_stream(fd, token(CONN, key))
    }

    pub(super) fn register_listener(&self, fd: RawFd, key: Key) -> io::Result<()> {
        self.epoll.add_listener(fd, token(LISTENER, key))
    }

    pub(super) fn unregister(&self, fd: RawFd) -> io::Result<()> {
        self.epoll.remove(fd)
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
    poll.epoll.wait(wait)?;
    // Their slots are far apart and cold: asked for together, they come together.
    for position in 0..poll.epoll.ready_len() {
        if let Some(ready) = poll.epoll.ready_at(position) {
            prefetch(io.conns.address_of(index_of(ready.token)), SLOT_LINES);
        }
    }
    for position in 0..poll.epoll.ready_len() {
        let super::Driver::Poll(poll) = &io.driver else {
            break;
        };
        let Some(ready) = poll.epoll.ready_at(position) else {
            break;
        };
        spread(io, ready, remote);
    }
    Ok(())
}

fn spread(io: &mut Io, ready: Readiness, remote: &Remote) {
    let index = index_of(ready.token);
    let generation = u32::try_from(ready.token >> 32).unwrap_or(0) & GENERATION_LOW_MASK;
    match ready.token & KIND_MASK {
        CONN => {
            if let Some(key) = io.conns.key_from_low_bits(index, generation) {
                spread_to_conn(io, key, ready);
            }
        }
        LISTENER => {
            if let Some(key) = io.listeners.key_from_low_bits(index, generation) {
                io.try_accepts(key);
            }
        }
        _ => remote.bell().silence(),
    }
}

fn spread_to_conn(io: &mut Io, key: Key, ready: Readiness) {
    let Some(slot) = io.conns.get_mut(key) else {
        return;
    };
    slot.readiness.hung_up |= ready.hung_up;
    slot.readiness.failed |= ready.failed;
    slot.readiness.readable |= ready.readable;
    slot.readiness.writable |= ready.writable;
    if slot.phase == Phase::Connecting {
        if ready.writable {
            io.finish_connect(key);
        }
        return;
    }
    if ready.writable && !slot.tx.is_empty() {
        io.resume_sending(key);
    }
    if ready.readable {
        io.receive_ahead(key);
        io.announce_rx(key);
    }
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
        io.announce_rx(key);
        woken = true;
    }
    woken
}

fn index_of(token: u64) -> u32 {
    u32::try_from(token & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

fn token(kind: u64, key: Key) -> u64 {
    let generation = u64::from(key.generation & GENERATION_LOW_MASK);
    kind | generation << 32 | u64::from(key.index)
}

const KIND_MASK: u64 = 0xff << 56;
const CONN: u64 = 1 << 56;
const LISTENER: u64 = 2 << 56;
const BELL: u64 = 3 << 56;
/// Descriptors that one wait reports at most. Few: a report touches the slot, and its task shall run while that is warm.
const EVENTS_MAX: usize = 32;
