//! The simulated io_uring: entries are taken when it is entered, and what they wait for is tried whenever it changes.
//!
//! ```text
//! arm, cancel ─► entries ──enter──► ops (woken by their sockets) ──tried──► completions ──reap──►
//!                                                                 └─► backlog, while they do not fit
//! ```
//!
//! As in Linux: a receive takes a buffer before it looks for data unless it waits first; an end and an error take none; a
//! multishot operation whose completion finds no room ends with it. A receive waits whatever the socket's mode, an accept does not.

use super::SimKernel;
use super::fabric::{Event, Fabric, HostId};
use super::fault::Fault;
use super::log::Note;
use super::socket::{RingOp, State};
use crate::base::slab::{Key, Slab};
use crate::rt::buf::Spare;
use crate::sys::ring::{Completion, RecvEntry};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

/// The buffers of one group that receives may take, in the order in which they were provided.
pub(in crate::rt::driver) type Provided = Rc<RefCell<VecDeque<Spare>>>;

/// One runtime's ring.
#[derive(Debug)]
pub(in crate::rt::driver) struct SimRing {
    kernel: SimKernel,
    id: usize,
    groups: [Provided; 2],
    entries: Vec<Entry>,
    /// `completions.len() <= completions_max`.
    completions: VecDeque<Posted>,
    completions_max: usize,
    backlog: VecDeque<Posted>,
    /// The last reap found something: the loop goes round once more, as it does before every wait.
    has_told: bool,
}

/// What the world knows of a ring.
#[derive(Debug, Default)]
pub(super) struct RingState {
    ops: Slab<Op>,
    woken: VecDeque<Key>,
    /// Cancels that came late.
    cancels: VecDeque<u64>,
}

#[derive(Debug)]
struct Op {
    user_data: u64,
    /// Absent for a bell, which nobody rings.
    socket: Option<Key>,
    wish: Wish,
    is_woken: bool,
}

#[derive(Clone, Copy, Debug)]
enum Wish {
    Accept,
    Bell,
    Discard {
        len: u32,
    },
    /// What was told.
    Failure {
        told: i32,
    },
    Readable,
    Recv {
        entry: RecvEntry,
        received: usize,
    },
    Writable,
}

#[derive(Debug)]
enum Entry {
    Arm {
        fd: RawFd,
        user_data: u64,
        wish: Wish,
    },
    Cancel {
        target: u64,
        user_data: u64,
    },
}

/// A completion and the socket that it is of: completions of one socket keep their order.
#[derive(Debug)]
struct Posted {
    socket: Option<Key>,
    completion: Completion,
}

impl RingState {
    /// Has an operation tried at the next enter.
    pub(super) fn wake(&mut self, op: Key) {
        if let Some(known) = self.ops.get_mut(op)
            && !std::mem::replace(&mut known.is_woken, true)
        {
            self.woken.push_back(op);
        }
    }

    pub(super) fn cancel(&mut self, user_data: u64) {
        self.cancels.push_back(user_data);
    }

    /// The sockets for which it holds a receive.
    pub(super) fn received_from(&self) -> impl Iterator<Item = Key> {
        self.held(|wish| matches!(wish, Wish::Recv { .. }))
    }

    /// The sockets for which it holds polls, each as often as it has one.
    pub(super) fn polled(&self) -> impl Iterator<Item = Key> {
        self.held(|wish| matches!(wish, Wish::Failure { .. } | Wish::Readable | Wish::Writable))
    }

    fn held(&self, is_meant: fn(&Wish) -> bool) -> impl Iterator<Item = Key> {
        let ops = self.ops.keys().into_iter();
        ops.filter_map(move |key| self.ops.get(key).filter(|op| is_meant(&op.wish))?.socket)
    }
}

impl SimRing {
    pub(super) fn new(kernel: SimKernel, completions_max: u32) -> Self {
        let id = {
            let mut fabric = kernel.lock();
            fabric.rings.push(RingState::default());
            fabric.rings.len() - 1
        };
        Self {
            kernel,
            id,
            groups: Default::default(),
            entries: Vec::new(),
            completions: VecDeque::new(),
            completions_max: usize::try_from(completions_max).unwrap_or(usize::MAX),
            backlog: VecDeque::new(),
            has_told: false,
        }
    }

    /// The queue of a group's buffers, which begins empty.
    pub(in crate::rt::driver) fn provided(&self, group: u16) -> Provided {
        Rc::clone(&self.groups[usize::from(group)])
    }

    pub(in crate::rt::driver) fn recv(&mut self, entry: RecvEntry, user_data: u64) {
        let wish = Wish::Recv { entry, received: 0 };
        self.arm(entry.fd, user_data, wish);
    }

    pub(in crate::rt::driver) fn discard(&mut self, fd: RawFd, len: u32, user_data: u64) {
        self.arm(fd, user_data, Wish::Discard { len });
    }

    pub(in crate::rt::driver) fn accept_multishot(&mut self, fd: RawFd, user_data: u64) {
        self.arm(fd, user_data, Wish::Accept);
    }

    pub(in crate::rt::driver) fn poll_readable(&mut self, fd: RawFd, user_data: u64) {
        self.arm(fd, user_data, Wish::Readable);
    }

    pub(in crate::rt::driver) fn poll_failure(&mut self, fd: RawFd, user_data: u64) {
        self.arm(fd, user_data, Wish::Failure { told: 0 });
    }

    pub(in crate::rt::driver) fn poll_writable(&mut self, fd: RawFd, user_data: u64) {
        self.arm(fd, user_data, Wish::Writable);
    }

    /// Nobody sleeps in a simulated kernel, so the bell that this would wait for is never rung.
    pub(in crate::rt::driver) fn poll_bell(&mut self, fd: RawFd, user_data: u64) {
        self.arm(fd, user_data, Wish::Bell);
    }

    pub(in crate::rt::driver) fn cancel(&mut self, target: u64, user_data: u64) {
        self.entries.push(Entry::Cancel { target, user_data });
    }

    /// Takes the entries, and tries what was woken until something has completed or the time is over.
    pub(in crate::rt::driver) fn enter(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let kernel = self.kernel.clone();
        kernel.wait(timeout, |fabric, host| {
            self.move_backlog();
            for entry in std::mem::take(&mut self.entries) {
                self.submit(fabric, host, entry);
            }
            while let Some(target) = fabric.rings[self.id].cancels.pop_front() {
                self.cancel_now(fabric, host, target);
            }
            let woken = fabric.rings[self.id].woken.len();
            for _ in 0..woken {
                if let Some(op) = fabric.rings[self.id].woken.pop_front() {
                    self.attempt(fabric, host, op);
                }
            }
            !self.completions.is_empty()
        })
    }

    /// As [`crate::sys::ring::Ring::reap`].
    pub(in crate::rt::driver) fn reap(&mut self, sink: &mut impl Extend<Completion>) -> bool {
        let mut fabric = self.kernel.lock();
        let host = self.kernel.host;
        for place in 1..self.completions.len() {
            let is_one_socket =
                self.completions[place - 1].socket == self.completions[place].socket;
            if !is_one_socket && fabric.strikes(host, Fault::ReorderedCompletions) {
                self.completions.swap(place - 1, place);
            }
        }
        for posted in &self.completions {
            let Completion {
                user_data, result, ..
            } = posted.completion;
            let result = i64::from(result).cast_unsigned();
            fabric.note(Note::Completed, user_data.cast_signed(), result);
        }
        self.has_told = !self.completions.is_empty();
        sink.extend(self.completions.drain(..).map(|posted| posted.completion));
        !self.backlog.is_empty()
    }

    /// Whether an enter would do anything, or the last one did.
    pub(in crate::rt::driver) fn has_work(&self) -> bool {
        let fabric = self.kernel.lock();
        let state = &fabric.rings[self.id];
        self.has_told
            || !self.entries.is_empty()
            || !self.completions.is_empty()
            || !self.backlog.is_empty()
            || !state.woken.is_empty()
            || !state.cancels.is_empty()
    }

    fn arm(&mut self, fd: RawFd, user_data: u64, wish: Wish) {
        self.entries.push(Entry::Arm {
            fd,
            user_data,
            wish,
        });
    }

    fn submit(&mut self, fabric: &mut Fabric, host: HostId, entry: Entry) {
        fabric.hosts[host].calls.entries += 1;
        match entry {
            Entry::Arm {
                fd,
                user_data,
                wish,
            } => self.submit_arm(fabric, host, fd, user_data, wish),
            Entry::Cancel { target, user_data } => {
                if fabric.strikes(host, Fault::LateCancel) {
                    let delay = fabric.faults.chance().below(LATE_CANCEL_NANOS);
                    let (ring, at) = (self.id, fabric.now + delay);
                    fabric.schedule(at, Event::Cancel { ring, target });
                } else {
                    self.cancel_now(fabric, host, target);
                }
                self.post(fabric, host, None, user_data, 0);
            }
        }
    }

    fn submit_arm(
        &mut self,
        fabric: &mut Fabric,
        host: HostId,
        fd: RawFd,
        user_data: u64,
        wish: Wish,
    ) {
        let socket = match wish {
            Wish::Bell => None,
            Wish::Accept
            | Wish::Discard { .. }
            | Wish::Failure { .. }
            | Wish::Readable
            | Wish::Recv { .. }
            | Wish::Writable => match fabric.at(host, fd) {
                Ok(socket) => Some(socket),
                Err(errno) => return self.post(fabric, host, None, user_data, -errno),
            },
        };
        let ring = self.id;
        let op = fabric.rings[ring].ops.insert(Op {
            user_data,
            socket,
            wish,
            is_woken: false,
        });
        if let Some(socket) = socket.and_then(|socket| fabric.sockets.get_mut(socket)) {
            socket.ops.push(RingOp { ring, op });
        }
        self.attempt(fabric, host, op);
    }

    fn cancel_now(&mut self, fabric: &mut Fabric, host: HostId, target: u64) {
        let ops = &fabric.rings[self.id].ops;
        let is_target = |key: &Key| ops.get(*key).is_some_and(|op| op.user_data == target);
        let found = ops.keys().into_iter().find(is_target);
        if let Some(op) = found {
            self.finish(fabric, host, op, -libc::ECANCELED);
        }
    }

    fn attempt(&mut self, fabric: &mut Fabric, host: HostId, op: Key) {
        let Some(known) = fabric.rings[self.id].ops.get_mut(op) else {
            return; // Ended since it was woken.
        };
        known.is_woken = false;
        match (known.wish, known.socket) {
            (Wish::Accept, Some(socket)) => self.attempt_accept(fabric, host, op, socket),
            (Wish::Discard { len }, Some(socket)) => {
                self.attempt_discard(fabric, host, (op, socket), len);
            }
            (Wish::Recv { entry, .. }, Some(socket)) => {
                while self.attempt_recv(fabric, host, (op, socket), entry) {}
            }
            (Wish::Failure { .. }, Some(socket)) => self.attempt_failure(fabric, host, op, socket),
            (Wish::Readable, Some(socket)) => self.attempt_readable(fabric, host, op, socket),
            (Wish::Writable, Some(socket)) => self.attempt_writable(fabric, host, op, socket),
            (Wish::Bell, _) | (_, None) => (),
        }
    }

    fn attempt_accept(&mut self, fabric: &mut Fabric, host: HostId, op: Key, socket: Key) {
        let Some(listening) = fabric.sockets.get(socket) else {
            return;
        };
        let is_nonblocking = listening.nonblocking;
        loop {
            match fabric.accept_from(host, socket) {
                Ok(fd) => {
                    if !self.post_one_of_many(fabric, host, op, fd, None) {
                        return;
                    }
                }
                Err(libc::EAGAIN) if !is_nonblocking => return,
                Err(errno) => return self.finish(fabric, host, op, -errno),
            }
        }
    }

    fn attempt_readable(&mut self, fabric: &mut Fabric, host: HostId, op: Key, socket: Key) {
        let Some(known) = fabric.sockets.get(socket) else {
            return;
        };
        let is_open = known
            .conn()
            .is_some_and(|conn| conn.state == State::Established);
        let is_ready = known.mask().can_read();
        if is_ready || (is_open && fabric.strikes(host, Fault::SpuriousReadiness)) {
            self.finish(fabric, host, op, i32::from(libc::POLLIN));
        }
    }

    /// As in Linux, every poll is told of the peer's end, too; one that stays armed, of what it was not told yet.
    fn attempt_failure(&mut self, fabric: &mut Fabric, host: HostId, op: Key, socket: Key) {
        let Some(known) = fabric.sockets.get(socket) else {
            return;
        };
        let mask = known.mask();
        let bits = event_bits([
            (mask.ended, libc::POLLRDHUP),
            (mask.hung_up, libc::POLLHUP),
            (mask.error, libc::POLLERR),
        ]);
        let known = fabric.rings[self.id].ops.get(op);
        let is_news = known.is_some_and(|known| match known.wish {
            Wish::Failure { told } => bits & !told != 0,
            _ => false,
        });
        if is_news {
            self.post_one_of_many(fabric, host, op, bits, None);
        }
    }

    fn attempt_writable(&mut self, fabric: &mut Fabric, host: HostId, op: Key, socket: Key) {
        let Some(known) = fabric.sockets.get(socket) else {
            return;
        };
        let is_open = known
            .conn()
            .is_some_and(|conn| conn.state == State::Established);
        let mask = known.mask();
        let (is_ready, hung_up, error) = (mask.can_write(), mask.hung_up, mask.error);
        if is_ready || (is_open && fabric.strikes(host, Fault::SpuriousReadiness)) {
            let bits = event_bits([
                (true, libc::POLLOUT),
                (hung_up, libc::POLLHUP),
                (error, libc::POLLERR),
            ]);
            return self.finish(fabric, host, op, bits);
        }
        if let Some(conn) = fabric.conn_mut(socket) {
            conn.no_space = true; // Asking is enough to be told.
        }
    }

    fn attempt_discard(
        &mut self,
        fabric: &mut Fabric,
        host: HostId,
        (op, socket): (Key, Key),
        len: u32,
    ) {
        let Some(known) = fabric.sockets.get(socket) else {
            return;
        };
        let taken = if known.mask().can_read() {
            fabric.discard_noted(socket, usize::try_from(len).unwrap_or(usize::MAX))
        } else {
            Err(libc::EAGAIN)
        };
        match taken {
            Ok(len) => self.finish(fabric, host, op, i32::try_from(len).unwrap_or(i32::MAX)),
            Err(libc::EAGAIN) => (),
            Err(errno) => self.finish(fabric, host, op, -errno),
        }
    }

    /// One receive; says whether the operation goes on and may find more.
    fn attempt_recv(
        &mut self,
        fabric: &mut Fabric,
        host: HostId,
        (op, socket): (Key, Key),
        entry: RecvEntry,
    ) -> bool {
        let Some(known) = fabric.sockets.get(socket) else {
            return false;
        };
        let can_read = known.mask().can_read();
        let group = usize::from(entry.group);
        let is_without_buffers = self.groups[group].borrow().is_empty();
        if !can_read && (entry.poll_first || !is_without_buffers) {
            return false;
        }
        let spare = match is_without_buffers || fabric.strikes(host, Fault::NoBuffer) {
            true => None,
            false => self.groups[group].borrow_mut().pop_front(),
        };
        let Some(mut spare) = spare else {
            self.finish(fabric, host, op, -libc::ENOBUFS);
            return false;
        };
        match fabric.take_noted(socket, spare.as_mut_slice()) {
            Ok(len) if len > 0 => {
                let result = i32::try_from(len).unwrap_or(i32::MAX);
                let buffer = spare.into_taken();
                let goes_on = self.post_one_of_many(fabric, host, op, result, Some(buffer));
                goes_on && (!fabric.is_local || fabric.says_that_more_is_there(socket))
            }
            ended => {
                self.groups[group].borrow_mut().push_front(spare); // An end needs no buffer.
                match ended {
                    Ok(_end) => self.finish(fabric, host, op, 0),
                    Err(libc::EAGAIN) => (),
                    Err(errno) => self.finish(fabric, host, op, -errno),
                }
                false
            }
        }
    }

    /// Posts a success of an operation that may go on; says whether it does.
    fn post_one_of_many(
        &mut self,
        fabric: &mut Fabric,
        host: HostId,
        op: Key,
        result: i32,
        buffer: Option<u16>,
    ) -> bool {
        let Some(known) = fabric.rings[self.id].ops.get_mut(op) else {
            return false;
        };
        let (socket, user_data) = (known.socket, known.user_data);
        let may_go_on = match &mut known.wish {
            Wish::Recv { entry, received } => {
                *received += usize::try_from(result).unwrap_or(0);
                let bytes_max = entry.multishot_bytes_max;
                bytes_max.is_some_and(|bytes_max| *received < bytes_max as usize)
            }
            Wish::Accept => true,
            Wish::Failure { told } => {
                *told = result;
                true
            }
            Wish::Bell | Wish::Discard { .. } | Wish::Readable | Wish::Writable => false,
        };
        let has_room = self.has_room() && !fabric.strikes(host, Fault::FullCompletions);
        let more = may_go_on && has_room && !fabric.strikes(host, Fault::EndedMultishot);
        let nonempty = socket.is_some_and(|socket| fabric.says_that_more_is_there(socket));
        if !more {
            self.forget(fabric, op);
        }
        let completion = Completion {
            user_data,
            result,
            more,
            buffer,
            nonempty: nonempty && buffer.is_some(),
        };
        let posted = Posted { socket, completion };
        if has_room {
            self.completions.push_back(posted);
        } else {
            self.backlog.push_back(posted);
        }
        more
    }

    /// Posts the last completion of an operation.
    fn finish(&mut self, fabric: &mut Fabric, host: HostId, op: Key, result: i32) {
        if let Some(Op {
            user_data, socket, ..
        }) = self.forget(fabric, op)
        {
            self.post(fabric, host, socket, user_data, result);
        }
    }

    fn post(
        &mut self,
        fabric: &mut Fabric,
        host: HostId,
        socket: Option<Key>,
        user_data: u64,
        result: i32,
    ) {
        let completion = Completion {
            user_data,
            result,
            more: false,
            buffer: None,
            nonempty: false,
        };
        let posted = Posted { socket, completion };
        if self.has_room() && !fabric.strikes(host, Fault::FullCompletions) {
            self.completions.push_back(posted);
        } else {
            self.backlog.push_back(posted);
        }
    }

    /// What did not fit keeps its place before all that follows.
    fn has_room(&self) -> bool {
        self.backlog.is_empty() && self.completions.len() < self.completions_max
    }

    fn move_backlog(&mut self) {
        while self.completions.len() < self.completions_max {
            let Some(posted) = self.backlog.pop_front() else {
                return;
            };
            self.completions.push_back(posted);
        }
    }

    fn forget(&self, fabric: &mut Fabric, op: Key) -> Option<Op> {
        let ring = self.id;
        let forgotten = fabric.rings[ring].ops.remove(op)?;
        let socket = forgotten.socket;
        if let Some(socket) = socket.and_then(|socket| fabric.sockets.get_mut(socket)) {
            socket.ops.retain(|armed| *armed != RingOp { ring, op });
        }
        Some(forgotten)
    }
}

impl Drop for SimRing {
    /// A ring that is closed ends what it holds.
    fn drop(&mut self) {
        let kernel = self.kernel.clone();
        let mut fabric = kernel.lock();
        for op in fabric.rings[self.id].ops.keys() {
            self.forget(&mut fabric, op);
        }
    }
}

/// What poll(2) says for what is true.
fn event_bits(facts: [(bool, libc::c_short); 3]) -> i32 {
    let told = facts.iter().filter(|(is_true, _)| *is_true);
    told.fold(0, |bits, (_, bit)| bits | i32::from(*bit))
}

/// Long enough for what is on its way to arrive first.
const LATE_CANCEL_NANOS: u64 = 2_000_000;
