//! The world between the programs: time, hosts, the links between them, and what is on its way.
//!
//! Nothing here runs by itself: whoever owns the world moves the clock, and what is due then happens, in the order of
//! its time. Two things due at once happen in the order in which they were sent.

use super::chance::Chance;
use super::descriptors::Descriptors;
use super::fault::{Fault, Faults, Profile};
use super::log::{Log, Note};
use super::poller::Readied;
use super::ring::RingState;
use super::socket::{RingOp, Socket, Watch};
use super::wire::Segment;
use crate::base::slab::{Key, Slab};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Place of a host in the world.
pub(crate) type HostId = usize;

/// One direction between two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// How long the first byte is on its way.
    pub latency: Duration,
    /// How much longer at most, drawn for each segment.
    pub jitter: Duration,
    /// Bytes a second; 0: as many as are sent.
    pub bytes_per_second: u64,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            latency: Duration::from_micros(50),
            jitter: Duration::from_micros(50),
            bytes_per_second: 0,
        }
    }
}

/// What has happened in a world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that came to be.
    pub connections: u64,
    /// Bytes that arrived in some socket.
    pub bytes: u64,
    /// Segments that crossed a link, those without data included.
    pub segments: u64,
    /// Turns of runtimes.
    pub turns: u64,
}

/// What the programs of a host have asked of its kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Calls on descriptors, waits, and entries into a ring.
    pub calls: u64,
    /// Entries that rings were given.
    pub entries: u64,
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) addr: IpAddr,
    pub(super) calls: Calls,
    pub(super) descriptors: Descriptors,
    pub(super) next_port: u16,
    /// Faults leave its sockets alone.
    pub(super) is_spared: bool,
    /// Bytes that each new socket of it takes in either direction.
    pub(super) buffer_bytes: usize,
    /// What each of its pipes holds at most. Not drawn: other choices stay as they were.
    pub(super) pipe_bytes: usize,
}

/// One direction between two hosts as it is now.
#[derive(Debug, Default)]
struct Route {
    link: Link,
    busy_until: u64,
    clogged_until: u64,
    partitioned: bool,
    /// With the time before which each may not arrive: when what was sent before it does.
    held: Vec<(u64, Event)>,
}

/// What happens at a time.
#[derive(Debug)]
pub(super) enum Event {
    /// A connection attempt reaches a host.
    Syn { client: Key, to: SocketAddr },
    /// A connection attempt is made again, for the `attempt`th time.
    SynAgain { client: Key, attempt: u32 },
    /// A cancel of a ring takes effect.
    Cancel { ring: usize, target: u64 },
    /// A segment reaches the other end.
    Segment {
        from: Key,
        to: Key,
        hosts: (HostId, HostId),
        segment: Segment,
    },
}

#[derive(Debug)]
pub(super) struct Fabric {
    seed: u64,
    pub(super) now: u64,
    pub(super) chance: Chance,
    pub(super) faults: Faults,
    pub(super) log: Log,
    pub(super) hosts: Vec<Host>,
    pub(super) sockets: Slab<Socket>,
    pub(super) pollers: Vec<Readied>,
    pub(super) rings: Vec<RingState>,
    pub(super) counts: Counts,
    /// Its sockets are as Unix sockets are.
    pub(super) is_local: bool,
    routes: BTreeMap<(HostId, HostId), Route>,
    events: BTreeMap<(u64, u64), Event>,
    sent: u64,
}

impl Fabric {
    pub(super) fn new(seed: u64, profile: &Profile) -> Self {
        let mut chance = Chance::new(seed);
        let faults = Faults::new(profile, chance.fork());
        Self {
            seed,
            now: START,
            chance,
            faults,
            log: Log::new(seed),
            hosts: Vec::new(),
            sockets: Slab::new(),
            pollers: Vec::new(),
            rings: Vec::new(),
            counts: Counts::default(),
            is_local: profile.is_local(),
            routes: BTreeMap::new(),
            events: BTreeMap::new(),
            sent: 0,
        }
    }

    /// A new host, or the one that has this address.
    pub(super) fn host(&mut self, addr: IpAddr) -> HostId {
        if let Some(known) = self.host_at(addr) {
            return known;
        }
        let is_odd = !(self.seed / 2 + self.hosts.len() as u64).is_multiple_of(2);
        let pipe_bytes = PIPE_BYTES[usize::from(is_odd)];
        self.hosts.push(Host {
            addr,
            calls: Calls::default(),
            descriptors: Descriptors::new(DESCRIPTORS_MAX),
            next_port: FIRST_PORT,
            is_spared: false,
            buffer_bytes: BUFFER_BYTES,
            pipe_bytes,
        });
        self.hosts.len() - 1
    }

    pub(super) fn host_at(&self, addr: IpAddr) -> Option<HostId> {
        self.hosts.iter().position(|host| host.addr == addr)
    }

    /// Whether a fault strikes something that belongs to this host.
    pub(super) fn strikes(&mut self, host: HostId, fault: Fault) -> bool {
        let spared = self.hosts[host].is_spared;
        let struck = !spared && self.faults.strikes(fault);
        if struck {
            self.note(Note::Fault, fault as i64, host as u64);
        }
        struck
    }

    /// Writes an observable fact into the log.
    pub(super) fn note(&mut self, what: Note, about: i64, result: u64) {
        self.log.note(self.now, what, about, result);
    }

    /// A call costs a little time, so that a busy program sees the clock move.
    pub(super) fn charge(&mut self) {
        self.now += CALL_NANOS_MIN + self.chance.below(CALL_NANOS_SPREAD);
    }

    /// When the next thing happens by itself.
    pub(super) fn next_event(&self) -> Option<u64> {
        let first = self.events.first_key_value();
        first.map(|((at, _), _)| (*at).max(self.now))
    }

    /// Moves the clock, never back, and lets happen what is due.
    pub(super) fn advance_to(&mut self, now: u64) {
        self.now = self.now.max(now);
        self.settle();
    }

    /// Lets happen what is due.
    pub(super) fn settle(&mut self) {
        while let Some(first) = self.events.first_entry() {
            if first.key().0 > self.now {
                return;
            }
            let event = first.remove();
            self.happen(event);
        }
    }

    pub(super) fn schedule(&mut self, at: u64, event: Event) {
        self.sent += 1;
        self.events.insert((at, self.sent), event);
    }

    /// Sends something over a link. `after`: when what was sent before on the same connection arrives. Answers when this
    /// arrives, `after` where the link holds it back.
    pub(super) fn send_over(
        &mut self,
        hosts: (HostId, HostId),
        bytes: usize,
        after: u64,
        event: Event,
    ) -> u64 {
        let now = self.now;
        let drawn = self.chance.draw();
        self.counts.segments += 1;
        let route = self.routes.entry(hosts).or_default();
        if route.partitioned {
            route.held.push((after, event));
            return after;
        }
        let link = route.link;
        let begins = route.busy_until.max(route.clogged_until).max(now);
        let nanos = (bytes as u64 * NANOS_PER_SECOND).checked_div(link.bytes_per_second);
        route.busy_until = if link.bytes_per_second == 0 {
            route.busy_until
        } else {
            begins + nanos.unwrap_or(0)
        };
        let jitter = drawn % (nanos_of(link.jitter) + 1);
        let at = begins + nanos.unwrap_or(0) + nanos_of(link.latency) + jitter;
        let at = at.max(after);
        self.schedule(at, event);
        at
    }

    pub(super) fn set_link(&mut self, hosts: (HostId, HostId), link: Link) {
        self.routes.entry(hosts).or_default().link = link;
    }

    /// Nothing that is sent from now on leaves before this time.
    pub(super) fn clog(&mut self, hosts: (HostId, HostId), until: u64) {
        self.routes.entry(hosts).or_default().clogged_until = until;
    }

    /// Nothing that is sent from now on leaves.
    pub(super) fn partition(&mut self, hosts: (HostId, HostId)) {
        self.routes.entry(hosts).or_default().partitioned = true;
    }

    /// What a partition held leaves, in the order in which it was sent.
    pub(super) fn heal(&mut self, hosts: (HostId, HostId)) {
        let route = self.routes.entry(hosts).or_default();
        route.partitioned = false;
        let held = std::mem::take(&mut route.held);
        let mut at = self.now + nanos_of(route.link.latency);
        for (after, event) in held {
            at = at.max(after);
            self.schedule(at, event);
        }
        self.set_last_arrivals(hosts, at);
    }

    /// Tells whoever waits for a socket that it has changed.
    pub(super) fn wake(&mut self, key: Key) {
        let Some(socket) = self.sockets.get(key) else {
            return;
        };
        if let Some(Watch { poller, token }) = socket.watch {
            self.pollers[poller].ready(key, token);
        }
        for RingOp { ring, op } in &socket.ops {
            self.rings[*ring].wake(*op);
        }
    }

    fn set_last_arrivals(&mut self, (from, to): (HostId, HostId), at: u64) {
        for key in self.sockets.keys() {
            let Some(socket) = self.sockets.get_mut(key) else {
                continue;
            };
            let host = socket.host;
            if let Some(conn) = socket.conn_mut()
                && (host, conn.remote_host) == (from, Some(to))
            {
                conn.last_arrival = conn.last_arrival.max(at);
            }
        }
    }
}

pub(super) fn nanos_of(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

/// The clock does not begin at zero: nothing may rely on that.
const START: u64 = 1_000 * NANOS_PER_SECOND;
pub(super) const NANOS_PER_SECOND: u64 = 1_000_000_000;
const DESCRIPTORS_MAX: usize = 65_536;
pub(super) const FIRST_PORT: u16 = 32_768;
const BUFFER_BYTES: usize = 64 * 1024;
/// As much as is common, and so little that it ends wherever it may.
const PIPE_BYTES: [usize; 2] = [64 * 1024, 211];
const CALL_NANOS_MIN: u64 = 100;
const CALL_NANOS_SPREAD: u64 = 900;
