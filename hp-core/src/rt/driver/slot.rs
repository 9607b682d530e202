//! What the worker knows of one connection or listening socket.
//!
//! Operations belong to the slot, not to the future that waits: a future that is dropped leaves nothing behind but a
//! stale waker, and what had arrived for it is found by the next one.
//!
//! ```text
//! Connecting ──► Open ◄──► Parked
//!      │           │          │
//!      └───────────┴──────────┴──► Closing ──(last completion)──► free
//! ```

use crate::rt::driver::queues::{RxQueue, TxQueue};
use crate::rt::lifecycle::{Table, enter};
use crate::rt::time::Instant;
use crate::rt::timer::TimerKey;
use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::NonZeroI32;
use std::os::fd::RawFd;
use std::task::Waker;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The kernel decides whether it comes to be.
    Connecting,
    /// A [`crate::rt::net::Conn`] names it.
    Open,
    /// Idle, named by nobody but a park key; `tag` says whose it is.
    Parked {
        /// The owner's own number.
        tag: u64,
        /// How long it has been so.
        idleness: Idleness,
    },
    /// Given up; the slot waits for the completions that the kernel still owes.
    Closing,
}

impl Phase {
    /// Its row in `docs/lifecycle/connection.md`.
    pub(crate) const fn row(self) -> &'static str {
        match self {
            Self::Connecting => "Connecting",
            Self::Open => "Open",
            Self::Parked { .. } => "Parked",
            Self::Closing => "Closing",
        }
    }
}

/// How long a parked connection has waited, as far as its timer has seen. A ring's receive goes with the last step.
///
/// ```text
/// Fresh ──(timer)──► Seen ──(timer)──► Long
///   ▲                 │                 │
///   └────(there may be news of it)──────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idleness {
    /// No look has found it parked.
    Fresh,
    /// The last look found it parked.
    Seen,
    /// So did the one after it: a poll is enough to hear of it.
    Long,
}

/// How receiving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RxEnd {
    /// FIN came, after all data.
    Eof,
    /// An errno, after all data.
    Failed(i32),
}

/// How the peer's bytes leave the socket.
///
/// ```text
/// Received ──► Spliced ──► AfterSplice ──(a receive)──► Received
///                 ▲             │
///                 └─────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intake {
    /// Into buffers.
    Received,
    /// Through pipes, and in no other way.
    Spliced {
        /// It was said to be readable and had nothing, and no byte has left it since.
        was_empty: bool,
    },
    /// Into buffers again, and nothing was received yet: what has come meanwhile is in the kernel, and nobody was told.
    AfterSplice,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct ConnSlot {
    pub(crate) fd: RawFd,
    pub(crate) phase: Phase,
    pub(crate) rx: RxQueue,
    pub(crate) rx_end: Option<RxEnd>,
    pub(crate) rx_waker: Option<Waker>,
    pub(crate) tx: TxQueue,
    tx_error: Option<NonZeroI32>,
    /// Bytes that were taken from their writers and that the kernel has refused for good.
    pub(crate) tx_lost: u32,
    pub(crate) tx_waker: Option<Waker>,
    pub(crate) deadline: Instant,
    /// The armed timer and when it fires: never after `deadline`, but for the last look at the socket.
    pub(crate) timer: Option<(TimerKey, Instant)>,
    pub(crate) timed_out: bool,
    pub(crate) peer: Peer,
    pub(crate) readiness: Readiness,
    pub(crate) kernel: Kernel,
    /// Full buffers received in a row; enough of them earn the large ones, and then it is how many receives more may be small.
    pub(crate) full_reads: u8,
    /// Something written in this turn waits in the outbox.
    pub(crate) has_letter: bool,
    /// It waits there in a parcel.
    pub(crate) gathers: bool,
    pub(crate) intake: Intake,
    /// A pipe is to be emptied into it as soon as there is room.
    pub(crate) pipe_waits: bool,
    /// The peer was told that nothing more is sent.
    pub(crate) is_finished: bool,
}

/// The address of the other end, in half the room of a `SocketAddr` where it is one of IPv4.
#[derive(Debug)]
pub(crate) enum Peer {
    /// It is a Unix socket, or not known.
    Nameless,
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
}

impl Peer {
    fn new(addr: Option<SocketAddr>) -> Self {
        match addr {
            None => Self::Nameless,
            Some(SocketAddr::V4(addr)) => Self::V4(addr),
            Some(SocketAddr::V6(addr)) => Self::V6(Box::new(addr)),
        }
    }

    pub(crate) fn addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Nameless => None,
            Self::V4(addr) => Some(SocketAddr::V4(*addr)),
            Self::V6(addr) => Some(SocketAddr::V6(**addr)),
        }
    }
}

/// What a readiness driver remembers between edges.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// A short read does not mean that nothing follows: the peer's FIN or RST is there, or the socket's pieces are datagrams.
    pub(crate) hung_up: bool,
    /// A failure is there, behind what can still be read.
    pub(crate) failed: bool,
    /// A byte was marked as urgent. There is no edge for what lies behind it.
    pub(crate) urgent: bool,
}

/// What a driver has in the kernel for this slot, or would have if there were a buffer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kernel {
    /// What tells of bytes, the end or an error.
    pub(crate) armed: Armed,
    /// A wait for room, or for the outcome of a connection attempt.
    pub(crate) poll_armed: bool,
    /// A wait for the socket's failure, which stays armed whatever is received meanwhile.
    pub(crate) failure_armed: bool,
    /// The last receive left data in the socket, or a poll told of some.
    pub(crate) nonempty: bool,
    /// A receive has had an answer: another one may follow.
    pub(crate) has_received: bool,
    /// In the queue of receives that found no buffer.
    pub(crate) starved: bool,
    /// Somebody waits for the end of the receive and wants nothing that it could bring.
    pub(crate) is_called_back: bool,
}

/// What a ring has for the bytes of a peer: one thing at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Armed {
    #[default]
    Nothing,
    /// It takes bytes, or drops them.
    Receive {
        /// It goes on by itself, and has not come to the end of what was there when it was armed.
        is_first: bool,
    },
    /// It takes none, and tells that there are some.
    Poll,
}

impl Kernel {
    /// Whether a receive is in the kernel, or will be as soon as there is a buffer for it.
    pub(crate) fn is_receiving(self) -> bool {
        self.armed != Armed::Nothing || self.starved
    }

    /// The same where it takes bytes, and does not only tell of them.
    pub(crate) fn takes_bytes(self) -> bool {
        self.starved || matches!(self.armed, Armed::Receive { .. })
    }

    /// Whether a completion is still owed, so that the slot cannot be freed.
    pub(crate) fn is_busy(self) -> bool {
        self.armed != Armed::Nothing || self.poll_armed || self.failure_armed
    }
}

impl ConnSlot {
    pub(crate) fn new(fd: RawFd, phase: Phase, peer: Option<SocketAddr>) -> Self {
        Self {
            fd,
            phase,
            rx: RxQueue::default(),
            rx_end: None,
            rx_waker: None,
            tx: TxQueue::default(),
            tx_error: None,
            tx_lost: 0,
            tx_waker: None,
            deadline: Instant::NEVER,
            timer: None,
            timed_out: false,
            peer: Peer::new(peer),
            readiness: Readiness::default(),
            kernel: Kernel::default(),
            full_reads: 0,
            has_letter: false,
            gathers: false,
            intake: Intake::Received,
            pipe_waits: false,
            is_finished: false,
        }
    }

    /// Lets waiting last; an armed timer will find nothing to do.
    pub(crate) fn clear_deadline(&mut self) {
        self.deadline = Instant::NEVER;
        self.timed_out = false;
    }

    /// Whether bytes, the end or an error wait to be received.
    pub(crate) fn has_news(&self) -> bool {
        !self.rx.is_empty() || self.rx_end.is_some()
    }

    /// Whether a poll is enough to hear of it.
    pub(crate) fn idles_long(&self) -> bool {
        matches!(
            self.phase,
            Phase::Parked {
                idleness: Idleness::Long,
                ..
            }
        )
    }

    /// Whether a ring was told that there is something, and not yet what it is: the peer's end perhaps.
    pub(crate) fn is_looked_into(&self) -> bool {
        let is_told = self.kernel.nonempty || self.readiness.hung_up;
        is_told && matches!(self.kernel.armed, Armed::Receive { .. })
    }

    /// Whether a ring's receive may go on from the last bytes and wait for ever, as behind those it tells of no end.
    pub(crate) fn misses_end(&self) -> bool {
        let is_armed = matches!(self.kernel.armed, Armed::Receive { .. });
        is_armed && matches!(self.peer, Peer::Nameless)
    }

    /// Whether its bytes leave through pipes.
    pub(crate) fn is_spliced(&self) -> bool {
        matches!(self.intake, Intake::Spliced { .. })
    }

    /// A receive looks at the socket: it tells of what came behind spliced bytes.
    pub(crate) fn note_receive(&mut self) {
        if self.intake == Intake::AfterSplice {
            self.intake = Intake::Received;
        }
    }

    /// Nothing leaves any more, what is queued neither.
    pub(crate) fn fail_sending(&mut self, errno: i32) {
        self.tx_error = NonZeroI32::new(errno).or(NonZeroI32::new(libc::EIO));
        self.lose(self.tx.len());
        self.tx.clear();
    }

    /// The errno with which sending has failed.
    pub(crate) fn tx_error(&self) -> Option<i32> {
        self.tx_error.map(NonZeroI32::get)
    }

    /// So many bytes, which their writers take for written, will never leave.
    pub(crate) fn lose(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.tx_lost = self.tx_lost.saturating_add(bytes);
    }

    /// What the end of the data means: FIN, unless a send has met the failure first, which the kernel tells only once.
    pub(crate) fn end_of_data(&self) -> RxEnd {
        match self.tx_error() {
            None | Some(libc::EPIPE) => RxEnd::Eof, // EPIPE follows a FIN that was in order.
            Some(errno) => RxEnd::Failed(errno),
        }
    }

    /// What the end of both directions means where no errno tells: that nobody is there any more, as the peer of a Unix socket leaves it when it closes;
    /// and nothing where one of them was ended here.
    pub(crate) fn end_of_both(&self) -> Option<RxEnd> {
        match self.end_of_data() {
            RxEnd::Eof if self.is_finished => None,
            RxEnd::Eof => Some(RxEnd::Failed(libc::EPIPE)), // What a send would say.
            failed @ RxEnd::Failed(_) => Some(failed),
        }
    }

    /// The errno with which the peer has left; `None` while it may still be there, also where it sends nothing more.
    pub(crate) fn failure(&self) -> Option<i32> {
        match self.rx_end {
            Some(RxEnd::Failed(errno)) => Some(errno),
            // What was told behind an end in order is that of the other direction.
            Some(RxEnd::Eof) if self.readiness.failed => match self.end_of_both() {
                Some(RxEnd::Failed(errno)) => Some(errno),
                Some(RxEnd::Eof) | None => None,
            },
            Some(RxEnd::Eof) | None => None,
        }
    }

    /// Takes note that nothing more will be received.
    pub(crate) fn end_rx(&mut self, end: RxEnd) {
        enter(
            Table::Connection,
            self.phase.row(),
            "the peer ends its side",
        );
        self.rx_end = Some(end);
    }

    /// Whether reading on would find that the socket failed, and nothing in the kernel does so already.
    pub(crate) fn hides_failure(&self) -> bool {
        let is_told = self.readiness.failed && self.readiness.readable;
        is_told && self.rx_end.is_none() && !self.kernel.is_receiving()
    }

    /// Whether a readiness engine has nothing to try before something more is reported. What was received may still be here.
    pub(crate) fn waits_for_an_edge(&self) -> bool {
        !self.readiness.readable && self.rx_end.is_none()
    }

    /// Whether the peer kept filling small buffers, and has not sent little for some receives since.
    pub(crate) fn is_bulk(&self) -> bool {
        self.full_reads >= FULL_READS_FOR_BULK
    }

    /// Takes note of how full a receive was.
    pub(crate) fn note_read(&mut self, bytes: usize, capacity: usize) {
        self.full_reads = full_reads_after(self.full_reads, bytes, capacity);
    }

    /// The receive's row in `docs/lifecycle/operation.md`.
    pub(crate) const fn recv_row(&self) -> &'static str {
        match (self.phase, self.kernel) {
            (Phase::Closing, _) => "Leaving",
            (
                _,
                Kernel {
                    armed: Armed::Receive { .. } | Armed::Poll,
                    ..
                },
            ) => "Armed", // Also a discard, while a receive waits for a buffer.
            (_, Kernel { starved: true, .. }) => "Starved",
            _ => "Free",
        }
    }

    /// The row in `docs/lifecycle/operation.md` of what is furthest from being free.
    pub(crate) const fn op_row(&self) -> &'static str {
        let is_leaving = matches!(self.phase, Phase::Closing);
        let is_polled = self.kernel.poll_armed || self.kernel.failure_armed;
        if is_polled && !self.kernel.starved && !is_leaving {
            return "Armed";
        }
        self.recv_row()
    }

    /// The error that a future gets for an errno.
    pub(crate) fn error(errno: i32) -> io::Error {
        io::Error::from_raw_os_error(errno)
    }
}

/// A listening socket.
#[derive(Debug)]
pub(crate) struct ListenerSlot {
    pub(crate) fd: RawFd,
    /// Accepted by the kernel for us, claimed by nobody yet.
    pub(crate) accepted: VecDeque<Accepted>,
    pub(crate) error: Option<i32>,
    pub(crate) waker: Option<Waker>,
    pub(crate) armed: bool,
    pub(crate) paused: bool,
    pub(crate) closing: bool,
}

impl ListenerSlot {
    pub(crate) fn new(fd: RawFd) -> Self {
        let accepted = VecDeque::new();
        Self {
            fd,
            accepted,
            error: None,
            waker: None,
            armed: false,
            paused: false,
            closing: false,
        }
    }
}

/// A connection that the kernel has accepted for a listener.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Accepted {
    /// By a call, which has told whose it is; a Unix socket's peer has no address.
    Named(RawFd, Option<SocketAddr>),
    /// By a ring, which has not.
    Nameless(RawFd),
}

impl Accepted {
    pub(crate) const fn fd(self) -> RawFd {
        match self {
            Self::Named(fd, _) | Self::Nameless(fd) => fd,
        }
    }
}

/// An idle connection is this, an armed timer, and what the kernel has.
const _: () = assert!(size_of::<ConnSlot>() <= 176);
/// Cache lines of a connection's slot.
pub(crate) const SLOT_LINES: usize = size_of::<ConnSlot>().div_ceil(64);
const FULL_READS_FOR_BULK: u8 = 4;
/// A long answer ends with a receive that is nearly empty, and the next one may begin with another: neither says that what follows is short.
const SMALL_READS_IN_BULK_MAX: u8 = 2;

/// The next value of [`ConnSlot::full_reads`]. Less than a quarter of a large buffer is what the small ones that earn it hold together.
fn full_reads_after(full_reads: u8, bytes: usize, capacity: usize) -> u8 {
    const KEPT: u8 = FULL_READS_FOR_BULK + SMALL_READS_IN_BULK_MAX;
    let is_bulk = full_reads >= FULL_READS_FOR_BULK;
    match full_reads {
        _ if is_bulk && bytes * 4 >= capacity => KEPT,
        FULL_READS_FOR_BULK => 0,
        _ if is_bulk => full_reads - 1,
        _ if bytes < capacity => 0,
        earned if earned + 1 == FULL_READS_FOR_BULK => KEPT,
        earned => earned + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: usize = 4 * 1024;
    const LARGE: usize = 68 * 1024;

    /// What a connection counts after answers of a length, each read in the buffers that it has earned.
    fn after_answers(mut full_reads: u8, bytes: usize, answers: u32) -> u8 {
        for _ in 0..answers {
            let mut left = bytes;
            while left > 0 {
                let is_bulk = full_reads >= FULL_READS_FOR_BULK;
                let capacity = if is_bulk { LARGE } else { SMALL };
                let read = left.min(capacity);
                full_reads = full_reads_after(full_reads, read, capacity);
                left -= read;
            }
        }
        full_reads
    }

    #[test]
    fn a_connection_of_long_answers_is_read_in_large_buffers_from_the_second_on() {
        for bytes in [LARGE + 80, LARGE, 2 * LARGE + 1, 40_000, 20_000] {
            for answers in 1..5 {
                let full_reads = after_answers(0, bytes, answers);
                assert!(
                    full_reads >= FULL_READS_FOR_BULK,
                    "{bytes} bytes, {answers} answers"
                );
            }
        }
    }

    #[test]
    fn a_connection_of_short_answers_is_read_in_small_buffers() {
        for bytes in [1, 80, SMALL - 1, SMALL + 1, 3 * SMALL + 1] {
            assert!(
                after_answers(0, bytes, 9) < FULL_READS_FOR_BULK,
                "{bytes} bytes"
            );
            // Soon so again after a long one.
            let was_bulk = after_answers(0, 3 * LARGE, 1);
            assert!(
                after_answers(was_bulk, bytes, 4) < FULL_READS_FOR_BULK,
                "{bytes} bytes"
            );
        }
    }
}
