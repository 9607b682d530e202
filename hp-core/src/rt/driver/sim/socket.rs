//! A socket of the simulated kernel: what it holds, and what can be said of it.

use super::descriptors::Names;
use super::fabric::HostId;
use crate::base::slab::Key;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// An open socket, or one whose last bytes are still on their way.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) host: HostId,
    pub(super) holder: Holder,
    pub(super) nonblocking: bool,
    pub(super) local: SocketAddr,
    /// Who is told of changes: a poller and the number that it was given.
    pub(super) watch: Option<Watch>,
    /// Operations that rings have armed here, in the order in which they were armed.
    pub(super) ops: Vec<RingOp>,
    pub(super) kind: Kind,
}

/// Who has a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// A listener that nobody has accepted it from yet.
    Listener(Key),
    /// A program, by this descriptor.
    Program(i32),
    /// It was closed, and its last bytes are on their way.
    Nobody,
}

#[derive(Debug)]
pub(super) enum Kind {
    Listener(Listening),
    Conn(Box<ConnEnd>),
}

impl Kind {
    /// What descriptors of it are for.
    pub(super) fn names(&self) -> Names {
        match self {
            Self::Listener(_) => Names::Listener,
            Self::Conn(_) => Names::Conn,
        }
    }
}

/// A registration with a poller.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    pub(super) poller: usize,
    pub(super) token: u64,
}

/// Names an operation of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RingOp {
    pub(super) ring: usize,
    pub(super) op: Key,
}

/// `queue.len() + half_open <= backlog + 1`, as Linux counts.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) backlog: usize,
    pub(super) half_open: usize,
    pub(super) queue: VecDeque<Key>,
}

/// ```text
/// Connecting ──────────► Established ──► Dead      (active)
/// HalfOpen ─────────────────┘                     (passive)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Connecting,
    HalfOpen,
    Established,
    /// Reset, refused, timed out, or ended in both directions.
    Dead,
}

/// How far the end of what is sent has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fin {
    No,
    /// Follows what waits to be sent.
    Wanted,
    Sent,
    Acknowledged,
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct ConnEnd {
    pub(super) state: State,
    pub(super) remote: SocketAddr,
    pub(super) remote_host: Option<HostId>,
    pub(super) peer: Option<Key>,
    /// Arrived, and not taken by the program yet.
    pub(super) inbox: VecDeque<u8>,
    pub(super) rx_fin: bool,
    pub(super) rx_shut: bool,
    /// Taken from the program, and not sent yet: `outbox.len() + unacked <= send_bytes_max`.
    pub(super) outbox: VecDeque<u8>,
    pub(super) unacked: usize,
    /// How much the peer still takes.
    pub(super) window: usize,
    pub(super) fin: Fin,
    pub(super) error: Option<i32>,
    /// A send found no room: room is told by an edge.
    pub(super) no_space: bool,
    pub(super) resets_on_close: bool,
    /// When the last segment sent arrives: none overtakes it.
    pub(super) last_arrival: u64,
    pub(super) send_bytes_max: usize,
}

/// What poll(2) would say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mask {
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The peer sends nothing more.
    pub(super) ended: bool,
    /// Both directions have ended.
    pub(super) hung_up: bool,
    pub(super) error: bool,
}

impl Mask {
    pub(super) fn says_nothing(self) -> bool {
        self == Self::default()
    }

    /// What wakes whoever waits to read.
    pub(super) fn can_read(self) -> bool {
        self.readable || self.ended || self.hung_up || self.error
    }

    /// What wakes whoever waits to write.
    pub(super) fn can_write(self) -> bool {
        self.writable || self.hung_up || self.error
    }
}

impl ConnEnd {
    pub(super) fn new(state: State, remote: SocketAddr, bytes_max: usize) -> Self {
        Self {
            state,
            remote,
            remote_host: None,
            peer: None,
            inbox: VecDeque::new(),
            rx_fin: false,
            rx_shut: false,
            outbox: VecDeque::new(),
            unacked: 0,
            window: bytes_max,
            fin: Fin::No,
            error: None,
            no_space: false,
            resets_on_close: false,
            last_arrival: 0,
            send_bytes_max: bytes_max,
        }
    }

    /// How many bytes a send would take now.
    pub(super) fn room(&self) -> usize {
        self.send_bytes_max
            .saturating_sub(self.outbox.len() + self.unacked)
    }

    /// Whether there is so much room that a writer is told (Linux: half of what is in use).
    pub(super) fn has_told_room(&self) -> bool {
        self.room() >= (self.outbox.len() + self.unacked) / 2 && self.room() > 0
    }

    /// The error that is there, which is told once.
    pub(super) fn take_error(&mut self) -> Option<i32> {
        self.error.take()
    }

    /// Ends everything with an error; what arrived before stays readable.
    pub(super) fn die(&mut self, errno: Option<i32>) {
        self.state = State::Dead;
        self.error = errno;
        self.rx_shut = true;
        self.fin = Fin::Acknowledged;
        self.outbox.clear();
        self.unacked = 0;
    }

    pub(super) fn mask(&self) -> Mask {
        let is_dead = self.state == State::Dead;
        let is_set_up = !matches!(self.state, State::Connecting | State::HalfOpen);
        let tx_shut = self.fin != Fin::No;
        let rx_shut = self.rx_fin || self.rx_shut;
        Mask {
            readable: is_set_up && (!self.inbox.is_empty() || rx_shut),
            writable: is_set_up && (tx_shut || self.has_told_room()),
            ended: rx_shut,
            hung_up: is_dead || (rx_shut && tx_shut),
            error: self.error.is_some(),
        }
    }
}

impl Socket {
    pub(super) fn conn(&self) -> Option<&ConnEnd> {
        match &self.kind {
            Kind::Conn(conn) => Some(conn),
            Kind::Listener(_) => None,
        }
    }

    pub(super) fn conn_mut(&mut self) -> Option<&mut ConnEnd> {
        match &mut self.kind {
            Kind::Conn(conn) => Some(conn),
            Kind::Listener(_) => None,
        }
    }

    pub(super) fn listening_mut(&mut self) -> Option<&mut Listening> {
        match &mut self.kind {
            Kind::Listener(listening) => Some(listening),
            Kind::Conn(_) => None,
        }
    }

    /// Closed by its program.
    pub(super) fn is_orphan(&self) -> bool {
        self.holder == Holder::Nobody
    }

    pub(super) fn mask(&self) -> Mask {
        match &self.kind {
            Kind::Listener(listening) => Mask {
                readable: !listening.queue.is_empty(),
                ..Mask::default()
            },
            Kind::Conn(conn) => conn.mask(),
        }
    }
}
