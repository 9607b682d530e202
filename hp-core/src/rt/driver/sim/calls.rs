//! The calls on descriptors, answered as Linux answers them for TCP sockets.

use super::descriptors::Names;
use super::fabric::{FIRST_PORT, Fabric, HostId};
use super::fault::Fault;
use super::log::Note;
use super::ring::RingState;
use super::socket::{ConnEnd, Fin, Holder, Kind, Listening, Socket, State};
use super::wire::Segment;
use crate::base::slab::Key;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};

/// A result, or an errno.
pub(super) type Answer<T> = Result<T, i32>;

impl Fabric {
    /// The socket of a descriptor.
    pub(super) fn at(&self, host: HostId, fd: i32) -> Answer<Key> {
        self.hosts[host].descriptors.at(fd)
    }

    /// How many receives of a host's sockets are armed in rings.
    pub(super) fn armed_receives(&self, host: HostId) -> usize {
        let received_from = self.rings.iter().flat_map(RingState::received_from);
        received_from.filter(|key| self.is_of(host, *key)).count()
    }

    /// How many polls of a host's sockets are armed in rings.
    pub(super) fn armed_polls(&self, host: HostId) -> usize {
        let polled = self.rings.iter().flat_map(RingState::polled);
        polled.filter(|key| self.is_of(host, *key)).count()
    }

    fn is_of(&self, host: HostId, socket: Key) -> bool {
        let known = self.sockets.get(socket);
        known.is_some_and(|socket| socket.host == host)
    }

    /// How many descriptors the programs of a host have open.
    pub(super) fn open_len(&self, host: HostId) -> usize {
        self.hosts[host].descriptors.len()
    }

    pub(super) fn listen(&mut self, host: HostId, addr: SocketAddr, backlog: u32) -> Answer<i32> {
        let owner = self.owner(host, addr.ip());
        if !addr.ip().is_unspecified() && owner != Some(host) {
            return Err(libc::EADDRNOTAVAIL);
        }
        let mut local = addr;
        if addr.port() == 0 {
            local.set_port(self.draw_port(host));
        }
        let kind = Kind::Listener(Listening {
            backlog: usize::try_from(backlog).unwrap_or(usize::MAX),
            half_open: 0,
            queue: VecDeque::new(),
        });
        self.open(host, local, kind).map(|(fd, _)| fd)
    }

    pub(super) fn start_connect(&mut self, host: HostId, addr: SocketAddr) -> Answer<i32> {
        self.charge();
        if self.strikes(host, Fault::NoDescriptor) {
            return Err(libc::EMFILE);
        }
        let mut conn = ConnEnd::new(State::Connecting, addr, self.hosts[host].buffer_bytes);
        conn.remote_host = self.owner(host, addr.ip());
        let local = SocketAddr::new(self.hosts[host].addr, self.draw_port(host));
        let (fd, key) = self.open(host, local, Kind::Conn(Box::new(conn)))?;
        if let Some(socket) = self.sockets.get_mut(key) {
            socket.nonblocking = true;
        }
        self.note(Note::Connect, i64::from(fd), u64::from(addr.port()));
        self.send_syn(key, 0);
        Ok(fd)
    }

    pub(super) fn accept(&mut self, host: HostId, fd: i32) -> Answer<i32> {
        let key = self.at(host, fd)?;
        self.accept_from(host, key)
    }

    /// The next connection of a listener gets a descriptor.
    pub(super) fn accept_from(&mut self, host: HostId, key: Key) -> Answer<i32> {
        self.charge();
        let Some(child) = self.listening(key)?.queue.pop_front() else {
            return Err(libc::EAGAIN);
        };
        let given = match self.strikes(host, Fault::NoDescriptor) {
            true => Err(libc::EMFILE),
            false => self.hosts[host].descriptors.give(child, Names::Conn),
        };
        let given = match given {
            Ok(given) => given,
            Err(errno) => {
                self.listening(key)?.queue.push_front(child); // It waits on.
                return Err(errno);
            }
        };
        if let Some(socket) = self.sockets.get_mut(child) {
            socket.holder = Holder::Program(given);
        }
        self.note(
            Note::Accept,
            i64::from(key.index),
            u64::from(given.cast_unsigned()),
        );
        Ok(given)
    }

    pub(super) fn recv(&mut self, host: HostId, fd: i32, buffer: &mut [u8]) -> Answer<usize> {
        let key = self.at(host, fd)?;
        self.take_noted(key, buffer)
    }

    /// The same, for whoever knows the socket.
    pub(super) fn take_noted(&mut self, key: Key, buffer: &mut [u8]) -> Answer<usize> {
        self.charge();
        let len_max = buffer.len();
        let result = self.take(key, len_max, |inbox, len| {
            take_front(inbox, &mut buffer[..len]);
        });
        self.note_received(key, result);
        if let Ok(len) = result {
            self.log.note_bytes(&buffer[..len]);
        }
        result
    }

    pub(super) fn discard(&mut self, host: HostId, fd: i32, len_max: usize) -> Answer<usize> {
        let key = self.at(host, fd)?;
        self.discard_noted(key, len_max)
    }

    /// The same, for whoever knows the socket.
    pub(super) fn discard_noted(&mut self, key: Key, len_max: usize) -> Answer<usize> {
        self.charge();
        let result = self.take(key, len_max, |inbox, len| drop(inbox.drain(..len)));
        self.note_received(key, result);
        result
    }

    fn note_received(&mut self, key: Key, result: Answer<usize>) {
        let word = match result {
            Ok(len) => len as u64,
            Err(errno) => i64::from(-errno).cast_unsigned(),
        };
        self.note(Note::Received, i64::from(key.index), word);
    }

    pub(super) fn send(
        &mut self,
        host: HostId,
        fd: i32,
        segments: &[IoSlice<'_>],
    ) -> Answer<usize> {
        self.charge();
        let key = self.at(host, fd)?;
        let result = self.put(host, key, segments);
        let word = match result {
            Ok(len) => len as u64,
            Err(errno) => i64::from(-errno).cast_unsigned(),
        };
        self.note(Note::Sent, i64::from(fd), word);
        self.pump(key);
        result
    }

    pub(super) fn take_error(&mut self, host: HostId, fd: i32) -> Answer<()> {
        self.charge();
        let key = self.at(host, fd)?;
        let conn = self.conn_mut(key).ok_or(libc::ENOTCONN)?;
        conn.take_error().map_or(Ok(()), Err)
    }

    pub(super) fn set_nonblocking(&mut self, host: HostId, fd: i32, on: bool) -> Answer<()> {
        self.charge();
        let key = self.at(host, fd)?;
        let socket = self.sockets.get_mut(key).ok_or(libc::EBADF)?;
        socket.nonblocking = on;
        Ok(())
    }

    pub(super) fn is_readable(&mut self, host: HostId, fd: i32) -> bool {
        self.charge();
        let key = self.at(host, fd);
        let socket = key.ok().and_then(|key| self.sockets.get(key));
        socket.is_some_and(|socket| socket.mask().can_read())
    }

    pub(super) fn is_writable(&mut self, host: HostId, fd: i32) -> bool {
        self.charge();
        let key = self.at(host, fd);
        let socket = key.ok().and_then(|key| self.sockets.get(key));
        socket.is_some_and(|socket| socket.mask().can_write())
    }

    pub(super) fn arrived_len(&mut self, host: HostId, fd: i32) -> usize {
        self.charge();
        let key = self.at(host, fd);
        let conn = key.ok().and_then(|key| self.conn_mut(key));
        conn.map_or(0, |conn| conn.inbox.len())
    }

    pub(super) fn unacknowledged(&mut self, host: HostId, fd: i32) -> usize {
        self.charge();
        let key = self.at(host, fd);
        let conn = key.ok().and_then(|key| self.conn_mut(key));
        conn.map_or(0, |conn| conn.outbox.len() + conn.unacked)
    }

    pub(super) fn shutdown_write(&mut self, host: HostId, fd: i32) -> Answer<()> {
        self.shutdown(host, fd, false)
    }

    pub(super) fn shutdown_both(&mut self, host: HostId, fd: i32) -> Answer<()> {
        self.shutdown(host, fd, true)
    }

    pub(super) fn reset_on_close(&mut self, host: HostId, fd: i32) -> Answer<()> {
        let key = self.at(host, fd)?;
        if let Some(conn) = self.conn_mut(key) {
            conn.resets_on_close = true;
        }
        Ok(())
    }

    pub(super) fn peer_addr(&self, host: HostId, fd: i32) -> Answer<Option<SocketAddr>> {
        let key = self.at(host, fd)?;
        let (_, conn) = self.conn(key).ok_or(libc::ENOTCONN)?;
        match conn.state {
            State::Established => Ok((!self.is_local).then_some(conn.remote)),
            State::Connecting | State::HalfOpen | State::Dead => Err(libc::ENOTCONN),
        }
    }

    /// Whose a connection is that was just accepted; known of one whose peer has gone, too.
    pub(super) fn accepted_addr(&self, host: HostId, fd: i32) -> Answer<Option<SocketAddr>> {
        let key = self.at(host, fd)?;
        let (_, conn) = self.conn(key).ok_or(libc::ENOTCONN)?;
        Ok((!self.is_local).then_some(conn.remote))
    }

    pub(super) fn local_addr(&self, host: HostId, fd: i32) -> Answer<SocketAddr> {
        let key = self.at(host, fd)?;
        let socket = self.sockets.get(key).ok_or(libc::EBADF)?;
        Ok(socket.local)
    }

    pub(super) fn close(&mut self, host: HostId, fd: i32) {
        self.charge();
        let taken = self.hosts[host].descriptors.take(fd);
        self.note(Note::Close, i64::from(fd), 0);
        let Some(key) = taken else {
            return; // Another descriptor keeps the socket, and what is registered or armed there.
        };
        let Some(socket) = self.sockets.get_mut(key) else {
            return;
        };
        assert!(
            socket.ops.is_empty(),
            "descriptor {fd} is closed while a ring holds an operation on it"
        );
        socket.watch = None;
        socket.holder = Holder::Nobody;
        match &socket.kind {
            Kind::Listener(_) => self.close_listener(key),
            Kind::Conn(_) => self.close_stream(key),
        }
    }

    /// A second descriptor of a socket, which is closed when both are. As for Linux, nothing else is made twice: modes, queues and
    /// registrations are the socket's.
    pub(super) fn duplicate(&mut self, host: HostId, fd: i32) -> Answer<i32> {
        self.charge();
        let key = self.at(host, fd)?;
        let socket = self.sockets.get(key).ok_or(libc::EBADF)?;
        let names = socket.kind.names();
        self.hosts[host].descriptors.give_further(key, names)
    }

    /// Takes bytes that have arrived, the end, or the error. `take_front` takes as many off the front as it is told.
    fn take(
        &mut self,
        key: Key,
        len_max: usize,
        take_front: impl FnOnce(&mut VecDeque<u8>, usize),
    ) -> Answer<usize> {
        let conn = self.conn_mut(key).ok_or(libc::ENOTCONN)?;
        if conn.inbox.is_empty() {
            if !conn.rx_fin
                && let Some(errno) = conn.take_error()
            {
                return Err(errno);
            }
            return match conn.state {
                _ if conn.rx_fin || conn.rx_shut => Ok(0),
                State::Connecting | State::HalfOpen | State::Established => Err(libc::EAGAIN),
                State::Dead => Err(libc::ENOTCONN),
            };
        }
        let len = len_max.min(conn.inbox.len());
        take_front(&mut conn.inbox, len);
        self.tell(
            key,
            Segment::Ack {
                arrived: 0,
                taken: len,
            },
        );
        Ok(len)
    }

    fn put(&mut self, host: HostId, key: Key, segments: &[IoSlice<'_>]) -> Answer<usize> {
        let wanted: usize = segments.iter().map(|segment| segment.len()).sum();
        let conn = self.conn_mut(key).ok_or(libc::ENOTCONN)?;
        if let Some(errno) = conn.take_error() {
            return Err(errno);
        }
        if conn.fin != Fin::No {
            return Err(libc::EPIPE);
        }
        let room = match conn.state {
            State::Established => conn.room(),
            State::Connecting | State::HalfOpen | State::Dead => 0,
        };
        if room == 0 && wanted > 0 {
            conn.no_space = true;
            return Err(libc::EAGAIN);
        }
        let mut len = room.min(wanted);
        if len > 1 && self.strikes(host, Fault::ShortSend) {
            len = self.faults.chance().size(len - 1);
        }
        let conn = self.conn_mut(key).ok_or(libc::ENOTCONN)?;
        // A socket that takes less than it was offered tells when it takes more, or a sender would wait for good.
        conn.no_space |= len < wanted;
        let mut taken = Vec::with_capacity(len);
        for segment in segments {
            let left = len - taken.len();
            taken.extend_from_slice(&segment[..left.min(segment.len())]);
        }
        conn.outbox.extend(&taken);
        self.log.note_bytes(&taken);
        Ok(len)
    }

    fn shutdown(&mut self, host: HostId, fd: i32, also_reading: bool) -> Answer<()> {
        self.charge();
        let key = self.at(host, fd)?;
        self.note(Note::Shutdown, i64::from(fd), u64::from(also_reading));
        let conn = self.conn_mut(key).ok_or(libc::ENOTCONN)?;
        if conn.state != State::Established {
            return Err(libc::ENOTCONN);
        }
        conn.fin = conn.fin.max(Fin::Wanted);
        conn.rx_shut |= also_reading;
        self.pump(key);
        self.wake(key);
        Ok(())
    }

    fn close_stream(&mut self, key: Key) {
        let Some(conn) = self.conn_mut(key) else {
            return;
        };
        let is_reset = conn.resets_on_close || !conn.inbox.is_empty();
        match conn.state {
            State::Dead => drop(self.sockets.remove(key)),
            // Whoever answers finds nobody.
            State::Connecting | State::HalfOpen => drop(self.sockets.remove(key)),
            State::Established if is_reset => {
                self.tell(key, Segment::Rst);
                self.sockets.remove(key);
            }
            State::Established => {
                conn.rx_shut = true;
                conn.fin = conn.fin.max(Fin::Wanted);
                self.pump(key);
                self.free_if_over(key);
            }
        }
    }

    /// Connections that nobody accepted are reset.
    fn close_listener(&mut self, listener: Key) {
        self.sockets.remove(listener);
        let waiting = |key: &Key| {
            let socket = self.sockets.get(*key);
            socket.is_some_and(|socket| socket.holder == Holder::Listener(listener))
        };
        let children: Vec<Key> = self.sockets.keys().into_iter().filter(waiting).collect();
        for child in children {
            self.tell(child, Segment::Rst);
            self.sockets.remove(child);
        }
    }

    /// Whose an address is for a program on a host. A loopback address is the host's own, unless a host was made of it.
    fn owner(&self, host: HostId, addr: IpAddr) -> Option<HostId> {
        let loopback = addr.is_loopback().then_some(host);
        self.host_at(addr).or(loopback)
    }

    fn listening(&mut self, key: Key) -> Answer<&mut Listening> {
        let socket = self.sockets.get_mut(key).ok_or(libc::EBADF)?;
        socket.listening_mut().ok_or(libc::EINVAL)
    }

    fn open(&mut self, host: HostId, local: SocketAddr, kind: Kind) -> Answer<(i32, Key)> {
        let names = kind.names();
        let key = self.sockets.insert(Socket {
            host,
            holder: Holder::Nobody,
            nonblocking: false,
            local,
            watch: None,
            ops: Vec::new(),
            kind,
        });
        match self.hosts[host].descriptors.give(key, names) {
            Ok(fd) => {
                if let Some(socket) = self.sockets.get_mut(key) {
                    socket.holder = Holder::Program(fd);
                }
                Ok((fd, key))
            }
            Err(errno) => {
                self.sockets.remove(key);
                Err(errno)
            }
        }
    }

    fn draw_port(&mut self, host: HostId) -> u16 {
        let host = &mut self.hosts[host];
        let port = host.next_port;
        host.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
        port
    }
}

/// Moves as many bytes as fill a place; there must be so many.
pub(super) fn take_front(queue: &mut VecDeque<u8>, place: &mut [u8]) {
    let (front, back) = queue.as_slices();
    let from_front = place.len().min(front.len());
    let (one, other) = place.split_at_mut(from_front);
    one.copy_from_slice(&front[..from_front]);
    other.copy_from_slice(&back[..other.len()]);
    queue.drain(..place.len());
}
