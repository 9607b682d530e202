//! What crosses a link, and what it does where it arrives.
//!
//! ```text
//! client ── Syn ──► listener        (dropped when its backlog is full: tried again after 1, 3, 7, ... seconds)
//! client ◄─ SynAck ── child
//! client ── Established ──► child   (into the listener's queue)
//!        ◄─ Data, Ack, Fin, FinAck, Rst ─►
//! ```
//!
//! Nothing is lost or doubled: this is what a program sees of TCP, not TCP. A partition holds segments back.

use super::calls::take_front;
use super::fabric::{Event, Fabric, HostId, NANOS_PER_SECOND};
use super::fault::Fault;
use super::log::Note;
use super::socket::{ConnEnd, Fin, Holder, Kind, Listening, Socket, State};
use crate::base::slab::Key;
use std::net::SocketAddr;

/// One thing told by one end of a connection to the other.
#[derive(Debug)]
pub(super) enum Segment {
    SynAck,
    /// The third step of the handshake.
    Established,
    Data(Vec<u8>),
    /// So many bytes have arrived, and so many were taken by the program.
    Ack {
        arrived: usize,
        taken: usize,
    },
    Fin,
    FinAck,
    Rst,
}

impl Fabric {
    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Syn { client, to } => self.syn_arrived(client, to),
            Event::SynAgain { client, attempt } => self.try_again(client, attempt),
            Event::Cancel { ring, target } => self.rings[ring].cancel(target),
            Event::Segment {
                from,
                to,
                hosts,
                segment,
            } => self.arrived(from, to, hosts, segment),
        }
    }

    /// Sends one connection attempt, and plans the next.
    pub(super) fn send_syn(&mut self, client: Key, attempt: u32) {
        let again = self.now + (NANOS_PER_SECOND << attempt);
        self.schedule(
            again,
            Event::SynAgain {
                client,
                attempt: attempt + 1,
            },
        );
        let Some(socket) = self.sockets.get(client) else {
            return;
        };
        let (host, Some(conn)) = (socket.host, socket.conn()) else {
            return;
        };
        let (to, remote_host) = (conn.remote, conn.remote_host);
        let is_lost = self.strikes(host, Fault::LostConnect);
        if let (Some(remote_host), false) = (remote_host, is_lost) {
            self.send_over((host, remote_host), 0, 0, Event::Syn { client, to });
        }
    }

    /// Sends what the peer's window takes, then the end if it is wanted.
    pub(super) fn pump(&mut self, key: Key) {
        loop {
            let Some((host, conn)) = self.conn(key) else {
                return;
            };
            if conn.state != State::Established {
                return;
            }
            let len = conn.outbox.len().min(conn.window).min(SEGMENT_BYTES_MAX);
            if len == 0 {
                break;
            }
            if self.strikes(host, Fault::HalfClose) {
                self.end_early(key);
                break;
            }
            let len = match self.strikes(host, Fault::ShortSegment) {
                true => self.faults.chance().size(len),
                false => len,
            };
            let Some(conn) = self.conn_mut(key) else {
                return;
            };
            let mut bytes = vec![0; len];
            take_front(&mut conn.outbox, &mut bytes);
            conn.window -= len;
            conn.unacked += len;
            if self.strikes(host, Fault::LateSegment) {
                let delay = LATE_NANOS_MIN << self.faults.chance().below(LATE_SCALES);
                self.hold_back(key, delay);
            }
            self.tell(key, Segment::Data(bytes));
            if self.strikes(host, Fault::Reset) {
                self.tell(key, Segment::Rst);
                self.fail(key, libc::ECONNRESET);
                return;
            }
        }
        if let Some(conn) = self.conn_mut(key)
            && conn.outbox.is_empty()
            && conn.fin == Fin::Wanted
        {
            conn.fin = Fin::Sent;
            self.tell(key, Segment::Fin);
        }
    }

    /// Sends a segment to the other end, behind all that was sent to it before.
    pub(super) fn tell(&mut self, from: Key, segment: Segment) {
        let Some((host, conn)) = self.conn(from) else {
            return;
        };
        let (Some(to), Some(remote_host)) = (conn.peer, conn.remote_host) else {
            return;
        };
        let after = conn.last_arrival;
        let at = self.put_on_link(from, to, (host, remote_host), after, segment);
        if let Some(conn) = self.conn_mut(from) {
            conn.last_arrival = at;
        }
    }

    /// Ends a connection here with an error, which whoever looks next is told.
    pub(super) fn fail(&mut self, key: Key, errno: i32) {
        if let Some(conn) = self.conn_mut(key) {
            conn.die(Some(errno));
        }
        self.wake(key);
        self.free_if_over(key);
    }

    /// Frees a socket that no program has, once nothing of it is owed to its peer.
    pub(super) fn free_if_over(&mut self, key: Key) {
        let Some(socket) = self.sockets.get(key) else {
            return;
        };
        let Some(conn) = socket.conn() else {
            return;
        };
        let is_over = match conn.state {
            State::Dead => true,
            State::Established => conn.fin == Fin::Acknowledged,
            State::Connecting | State::HalfOpen => false,
        };
        if socket.is_orphan() && is_over {
            self.sockets.remove(key);
        }
    }

    pub(super) fn conn(&self, key: Key) -> Option<(HostId, &ConnEnd)> {
        let socket = self.sockets.get(key)?;
        Some((socket.host, socket.conn()?))
    }

    /// What a receive says of the socket behind the bytes that it brings.
    pub(super) fn says_that_more_is_there(&self, key: Key) -> bool {
        self.conn(key)
            .is_some_and(|(_, conn)| !conn.inbox.is_empty() || (conn.rx_fin && !self.is_local))
    }

    pub(super) fn conn_mut(&mut self, key: Key) -> Option<&mut ConnEnd> {
        self.sockets.get_mut(key)?.conn_mut()
    }

    fn put_on_link(
        &mut self,
        from: Key,
        to: Key,
        hosts: (HostId, HostId),
        after: u64,
        segment: Segment,
    ) -> u64 {
        let bytes = match &segment {
            Segment::Data(bytes) => bytes.len(),
            _ => 0,
        };
        let event = Event::Segment {
            from,
            to,
            hosts,
            segment,
        };
        self.send_over(hosts, bytes, after, event)
    }

    /// What was not sent yet never is, and the end follows what was.
    fn end_early(&mut self, key: Key) {
        if let Some(conn) = self.conn_mut(key) {
            conn.outbox.clear();
            conn.fin = conn.fin.max(Fin::Wanted);
        }
        self.wake(key);
    }

    fn hold_back(&mut self, key: Key, delay: u64) {
        let now = self.now;
        if let Some(conn) = self.conn_mut(key) {
            conn.last_arrival = conn.last_arrival.max(now + delay);
        }
    }

    fn try_again(&mut self, client: Key, attempt: u32) {
        let is_open = self
            .conn(client)
            .is_some_and(|(_, conn)| conn.state == State::Connecting);
        if !is_open {
            return;
        }
        if attempt > SYN_RETRIES {
            return self.fail(client, libc::ETIMEDOUT);
        }
        self.send_syn(client, attempt);
    }

    fn syn_arrived(&mut self, client: Key, to: SocketAddr) {
        let Some((client_host, conn)) = self.conn(client) else {
            return; // Given up meanwhile.
        };
        if conn.state != State::Connecting || conn.peer.is_some() {
            return;
        }
        let (Some(host), Some(from)) =
            (conn.remote_host, self.sockets.get(client).map(|s| s.local))
        else {
            return;
        };
        let listener = match self.strikes(host, Fault::RefusedConnect) {
            true => None,
            false => self.draw_listener(host, to),
        };
        let Some(listener) = listener else {
            let refusal = Event::Segment {
                from: client,
                to: client,
                hosts: (host, client_host),
                segment: Segment::Rst,
            };
            self.send_over((host, client_host), 0, 0, refusal);
            return;
        };
        let Some(listening) = self
            .sockets
            .get_mut(listener)
            .and_then(Socket::listening_mut)
        else {
            return;
        };
        if listening.queue.len() + listening.half_open > listening.backlog {
            return; // Dropped; the client tries again.
        }
        listening.half_open += 1;
        let mut conn = ConnEnd::new(State::HalfOpen, from, self.hosts[host].buffer_bytes);
        conn.remote_host = Some(client_host);
        conn.peer = Some(client);
        conn.window = self.hosts[client_host].buffer_bytes;
        let child = self.sockets.insert(Socket {
            host,
            holder: Holder::Listener(listener),
            nonblocking: false,
            local: to,
            watch: None,
            ops: Vec::new(),
            kind: Kind::Conn(Box::new(conn)),
        });
        let window = self.hosts[host].buffer_bytes;
        if let Some(conn) = self.conn_mut(client) {
            conn.peer = Some(child);
            conn.window = window;
        }
        self.tell(child, Segment::SynAck);
    }

    /// One of the sockets that listen on an address; several share its connections.
    fn draw_listener(&mut self, host: HostId, to: SocketAddr) -> Option<Key> {
        let mut listeners = Vec::new();
        for key in self.hosts[host].descriptors.listening() {
            if let Some(socket) = self.sockets.get(key)
                && socket.local.port() == to.port()
                && (socket.local.ip() == to.ip() || socket.local.ip().is_unspecified())
                && !listeners.contains(&key)
            {
                listeners.push(key);
            }
        }
        let drawn = self.chance.index(listeners.len());
        listeners.get(drawn).copied()
    }

    fn arrived(&mut self, from: Key, to: Key, hosts: (HostId, HostId), segment: Segment) {
        self.note(Note::Arrived, i64::from(to.index), segment.log_word());
        if self.conn(to).is_none() {
            return self.arrived_nowhere(from, to, hosts, &segment);
        }
        match segment {
            Segment::SynAck => self.syn_ack_arrived(to),
            Segment::Established => self.established(to),
            Segment::Data(bytes) => self.data_arrived(to, &bytes),
            Segment::Ack { arrived, taken } => self.ack_arrived(to, arrived, taken),
            Segment::Fin => self.fin_arrived(to),
            Segment::FinAck => self.fin_ack_arrived(to),
            Segment::Rst if from == to => self.refusal_arrived(to),
            Segment::Rst => self.rst_arrived(to),
        }
    }

    /// The socket is gone: data for it is answered with a reset, an end is in order.
    fn arrived_nowhere(
        &mut self,
        from: Key,
        to: Key,
        (from_host, to_host): (HostId, HostId),
        segment: &Segment,
    ) {
        let answer = match segment {
            Segment::SynAck | Segment::Data(_) | Segment::Established => Segment::Rst,
            Segment::Fin => Segment::FinAck,
            Segment::Ack { .. } | Segment::FinAck | Segment::Rst => return,
        };
        self.put_on_link(to, from, (to_host, from_host), 0, answer);
    }

    fn syn_ack_arrived(&mut self, client: Key) {
        let Some(conn) = self.conn_mut(client) else {
            return;
        };
        if conn.state != State::Connecting {
            return self.tell(client, Segment::Rst); // It gave up; the child must not wait.
        }
        conn.state = State::Established;
        self.counts.connections += 1;
        self.tell(client, Segment::Established);
        self.wake(client);
    }

    fn established(&mut self, child: Key) {
        let Some(conn) = self.conn_mut(child) else {
            return;
        };
        if conn.state != State::HalfOpen {
            return;
        }
        conn.state = State::Established;
        let Some(Holder::Listener(listener)) = self.sockets.get(child).map(|socket| socket.holder)
        else {
            return;
        };
        if let Some(listening) = self.one_half_open_less(listener) {
            listening.queue.push_back(child);
        }
        self.wake(listener);
    }

    fn forget_half_open(&mut self, child: Key) {
        let Some(Socket {
            holder: Holder::Listener(listener),
            ..
        }) = self.sockets.remove(child)
        else {
            return;
        };
        let _closed_meanwhile = self.one_half_open_less(listener);
    }

    /// A listener that is still there, with one attempt less on its way.
    fn one_half_open_less(&mut self, listener: Key) -> Option<&mut Listening> {
        let listening = self.sockets.get_mut(listener)?.listening_mut()?;
        listening.half_open -= 1;
        Some(listening)
    }

    fn data_arrived(&mut self, to: Key, bytes: &[u8]) {
        let is_orphan = self.sockets.get(to).is_none_or(Socket::is_orphan);
        let host = self.sockets.get(to).map(|socket| socket.host);
        let is_struck = host.is_some_and(|host| self.strikes(host, Fault::Reset));
        let Some(conn) = self.conn_mut(to) else {
            return;
        };
        if conn.state == State::Dead {
            return self.tell(to, Segment::Rst);
        }
        let is_unwanted = is_orphan || (conn.rx_shut && conn.fin != Fin::No);
        if is_unwanted || is_struck {
            self.tell(to, Segment::Rst); // Nobody will ever read this.
            return self.fail(to, libc::ECONNRESET);
        }
        conn.inbox.extend(bytes);
        self.counts.bytes += bytes.len() as u64;
        let arrived = bytes.len();
        self.tell(to, Segment::Ack { arrived, taken: 0 });
        self.wake(to);
    }

    fn ack_arrived(&mut self, to: Key, arrived: usize, taken: usize) {
        let Some(conn) = self.conn_mut(to) else {
            return;
        };
        conn.unacked = conn.unacked.saturating_sub(arrived);
        conn.window += taken;
        let tells_room = conn.no_space && conn.has_told_room();
        self.pump(to);
        if tells_room {
            if let Some(conn) = self.conn_mut(to) {
                conn.no_space = false;
            }
            self.wake(to);
        }
    }

    fn fin_arrived(&mut self, to: Key) {
        let Some(conn) = self.conn_mut(to) else {
            return;
        };
        if conn.state == State::Dead {
            return; // What was reset has no end in good order any more.
        }
        conn.rx_fin = true;
        self.tell(to, Segment::FinAck);
        self.end_if_both_ended(to);
        self.wake(to);
    }

    fn fin_ack_arrived(&mut self, to: Key) {
        let Some(conn) = self.conn_mut(to) else {
            return;
        };
        conn.fin = Fin::Acknowledged;
        self.end_if_both_ended(to);
        self.free_if_over(to);
    }

    fn end_if_both_ended(&mut self, key: Key) {
        if let Some(conn) = self.conn_mut(key)
            && conn.rx_fin
            && conn.fin == Fin::Acknowledged
        {
            conn.state = State::Dead;
            self.wake(key);
            self.free_if_over(key);
        }
    }

    /// An attempt was refused. Where another one has succeeded meanwhile this answers nothing that is still asked, and TCP drops it.
    fn refusal_arrived(&mut self, client: Key) {
        let conn = self.conn(client);
        if conn.is_some_and(|(_, conn)| conn.state == State::Connecting) {
            self.fail(client, libc::ECONNREFUSED);
        }
    }

    fn rst_arrived(&mut self, to: Key) {
        let Some(conn) = self.conn_mut(to) else {
            return;
        };
        let errno = match conn.state {
            State::Dead => return,
            State::Connecting => libc::ECONNREFUSED,
            State::HalfOpen => return self.forget_half_open(to),
            State::Established if conn.rx_fin => libc::EPIPE, // It had said that it was done.
            State::Established => libc::ECONNRESET,
        };
        self.fail(to, errno);
    }
}

impl Segment {
    fn log_word(&self) -> u64 {
        match self {
            Self::SynAck => 1,
            Self::Established => 2,
            Self::Data(bytes) => 1 << 32 | bytes.len() as u64,
            Self::Ack { arrived, taken } => 2 << 32 | (*arrived + *taken) as u64,
            Self::Fin => 3,
            Self::FinAck => 4,
            Self::Rst => 5,
        }
    }
}

/// As much as a kernel hands to a card at once.
const SEGMENT_BYTES_MAX: usize = 16 * 1024;
/// As Linux by default: the last attempt is given up 127 seconds after the first was made.
const SYN_RETRIES: u32 = 6;
const LATE_NANOS_MIN: u64 = 10_000;
/// Late by up to 10 µs * 2^14: 160 ms.
const LATE_SCALES: u64 = 15;
