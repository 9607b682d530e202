//! io_uring: entries in, completions out.
//!
//! The face is safe because no entry made here names memory of ours except through a [`BufferRing`], whose buffers their
//! owner promises to leave alone (see [`BufferRing::provide`]).

use super::memory::Pages;
use io_uring::squeue::Entry;
use io_uring::types::{BufRingEntry, Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode};
use std::collections::VecDeque;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// How a receive chooses its buffers and how long it stays armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecvEntry {
    /// Socket, of either mode: a receive waits where there is nothing, unless the entry itself forbids it.
    pub fd: RawFd,
    /// Buffer group to take from.
    pub group: u16,
    /// Bytes after which a multishot receive ends by itself (kernel 6.17); `None`: one shot.
    pub multishot_bytes_max: Option<u32>,
    /// Wait for readiness before the first attempt: saves one that would find nothing.
    pub poll_first: bool,
}

/// One answer of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The number given with the entry.
    pub user_data: u64,
    /// A count, a descriptor, or a negated errno.
    pub result: i32,
    /// Whether further completions of the same entry follow.
    pub more: bool,
    /// The buffer that holds the data, if one was taken.
    pub buffer: Option<u16>,
    /// Whether the socket held more data than was received.
    pub nonempty: bool,
}

/// A ring that belongs to the thread that made it.
pub struct Ring {
    ring: IoUring,
    registered_index: Option<u32>,
    enter_flags: u32,
    spill: VecDeque<Entry>,
}

impl Ring {
    /// Makes a ring of `entries` submissions and `completions` answers (both powers of two) with deferred task work.
    ///
    /// # Errors
    /// `PermissionDenied` where a sandbox forbids io_uring, `ENOSYS` where the kernel has none, `InvalidInput` where it is
    /// older than 6.1, `OutOfMemory` when the limit of locked memory is passed.
    pub fn new(entries: u32, completions: u32) -> io::Result<Self> {
        let base = || {
            let mut builder = IoUring::builder();
            builder
                .setup_single_issuer()
                .setup_defer_taskrun()
                .setup_submit_all();
            builder.setup_cqsize(completions);
            builder
        };
        let ring = match base().setup_no_sqarray().build(entries) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => base().build(entries)?, // Before 6.6.
            other => other?,
        };
        let mut enter_flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        if ring.params().is_feature_no_iowait() {
            enter_flags |= EnterFlags::NO_IOWAIT; // An idle worker must not look like a busy disk.
        }
        let registered_index = register_ring_fd(ring.as_raw_fd()).ok(); // Saves a look-up a call; no need.
        if registered_index.is_some() {
            enter_flags |= EnterFlags::REGISTERED_RING;
        }
        // At most one kernel thread each for bounded and unbounded work: none is ever wanted.
        let mut workers_max = [1, 1];
        ring.submitter()
            .register_iowq_max_workers(&mut workers_max)?;
        Ok(Self {
            ring,
            registered_index,
            enter_flags: enter_flags.bits(),
            spill: VecDeque::new(),
        })
    }

    /// Arms a receive into buffers of a group.
    pub fn recv(&mut self, recv: RecvEntry, user_data: u64) {
        let fd = Fd(recv.fd);
        let mut entry = match recv.multishot_bytes_max {
            Some(_) => opcode::RecvMulti::new(fd, recv.group).build(),
            None => {
                let select = io_uring::squeue::Flags::BUFFER_SELECT;
                let one = opcode::Recv::new(fd, std::ptr::null_mut(), 0);
                one.buf_group(recv.group).build().flags(select)
            }
        };
        tune_recv(
            &mut entry,
            recv.poll_first,
            recv.multishot_bytes_max.unwrap_or(0),
        );
        self.push(entry.user_data(user_data));
    }

    /// Arms a receive that drops what has come, up to `len` bytes, of a TCP socket: nothing is copied, and no buffer taken.
    pub fn discard(&mut self, fd: RawFd, len: u32, poll_first: bool, user_data: u64) {
        // A null pointer: with MSG_TRUNC a TCP socket writes nowhere, and any other fails on it (EFAULT).
        let mut entry = opcode::Recv::new(Fd(fd), std::ptr::null_mut(), len)
            .flags(libc::MSG_TRUNC)
            .build();
        tune_recv(&mut entry, poll_first, 0);
        self.push(entry.user_data(user_data));
    }

    /// Arms an accept that stays armed; accepted sockets are non-blocking, for the calls that are made beside the ring, and close on exec.
    pub fn accept_multishot(&mut self, fd: RawFd, user_data: u64) {
        let entry = opcode::AcceptMulti::new(Fd(fd))
            .flags(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)
            .build();
        self.push(entry.user_data(user_data));
    }

    /// Waits once until the socket takes bytes, or failed.
    pub fn poll_writable(&mut self, fd: RawFd, user_data: u64) {
        self.poll(fd, libc::POLLOUT, user_data);
    }

    /// Waits once until the descriptor has something to read.
    pub fn poll_readable(&mut self, fd: RawFd, user_data: u64) {
        self.poll(fd, libc::POLLIN, user_data);
    }

    /// Tells each time that the socket has failed or the peer has ended its side, whatever there is to be read, and stays armed: the kernel adds
    /// these events to every poll, so that there is none for a failure alone, and the end would use up one that is told once.
    pub fn poll_failure(&mut self, fd: RawFd, user_data: u64) {
        let entry = opcode::PollAdd::new(Fd(fd), 0).multi(true).build();
        self.push(entry.user_data(user_data));
    }

    /// Asks for the end of an operation; its own final completion decides whether that came in time.
    pub fn cancel(&mut self, target: u64, user_data: u64) {
        self.push(
            opcode::AsyncCancel::new(target)
                .build()
                .user_data(user_data),
        );
    }

    /// Submits everything and waits for one completion, at most `timeout` (`None`: without end; zero: only looks).
    ///
    /// # Errors
    /// What `io_uring_enter(2)` answers, but for EINTR, ETIME, EBUSY and EAGAIN (no memory just now), which end the wait.
    pub fn enter(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.flush_spill();
        let spilled = !self.spill.is_empty();
        let limit = timeout.map(|t| Timespec::new().sec(t.as_secs()).nsec(t.subsec_nanos()));
        let args = match &limit {
            Some(limit) => SubmitArgs::new().timespec(limit),
            None => SubmitArgs::new(),
        };
        let looks_only = timeout == Some(Duration::ZERO) || spilled;
        let wanted = u32::from(!looks_only);
        loop {
            let to_submit = u32::try_from(self.ring.submission().len()).unwrap_or(u32::MAX);
            match self.enter_once(to_submit, wanted, &args) {
                Ok(()) => (),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN) => return Ok(()),
                    _ => return Err(error),
                },
            }
            if self.spill.is_empty() {
                return Ok(());
            }
            self.flush_spill();
        }
    }

    /// Moves what has completed into `sink`; returns whether the kernel had to keep some back for lack of room.
    pub fn reap(&mut self, sink: &mut impl Extend<Completion>) -> bool {
        let translate = |entry: cqueue::Entry| Completion {
            user_data: entry.user_data(),
            result: entry.result(),
            more: cqueue::more(entry.flags()),
            buffer: cqueue::buffer_select(entry.flags()),
            nonempty: cqueue::sock_nonempty(entry.flags()),
        };
        sink.extend(self.ring.completion().map(translate));
        self.ring.submission().cq_overflow()
    }

    fn poll(&mut self, fd: RawFd, events: libc::c_short, user_data: u64) {
        let events = u32::from(events.cast_unsigned());
        self.push(
            opcode::PollAdd::new(Fd(fd), events)
                .build()
                .user_data(user_data),
        );
    }

    fn push(&mut self, entry: Entry) {
        if !self.spill.is_empty() {
            return self.spill.push_back(entry); // A cancel must not overtake what it cancels.
        }
        // SAFETY: entries made in this file name no memory but buffer rings, which outlive the ring's operations.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        if pushed.is_err() {
            self.spill.push_back(entry); // The queue is full in the middle of a turn: `enter` submits it in pieces.
        }
    }

    fn flush_spill(&mut self) {
        while let Some(entry) = self.spill.front() {
            // SAFETY: as in `push`.
            let pushed = unsafe { self.ring.submission().push(entry) };
            if pushed.is_err() {
                return;
            }
            self.spill.pop_front();
        }
    }

    fn enter_once(&self, to_submit: u32, wanted: u32, args: &SubmitArgs<'_, '_>) -> io::Result<()> {
        let fd = match self.registered_index {
            Some(index) => libc::c_long::from(index),
            None => libc::c_long::from(self.ring.as_raw_fd()),
        };
        // SAFETY: `args` is the extended argument that EXT_ARG announces, of its true size, and lives through the call;
        // every submitted entry was made by this file.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                fd,
                to_submit,
                wanted,
                self.enter_flags,
                std::ptr::from_ref(args),
                size_of::<SubmitArgs<'_, '_>>(),
            )
        };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if let Some(index) = self.registered_index {
            let update = RingFdUpdate {
                offset: index,
                reserved: 0,
                data: 0,
            };
            match register(
                self.ring.as_raw_fd(),
                UNREGISTER_RING_FDS,
                std::ptr::from_ref(&update),
            ) {
                Ok(_count) => (),
                Err(_error) => (), // The thread's table of ring descriptors ends with the thread at the latest.
            }
        }
    }
}

/// The kernel's queue of buffers that a group's receives take from, in the order in which they were provided.
#[derive(Debug)]
pub struct BufferRing {
    entries: Pages,
    group: u16,
    mask: u16,
    tail: u16,
}

impl BufferRing {
    /// Registers an empty queue of at most `capacity` buffers (a power of two up to 32,768).
    ///
    /// # Errors
    /// What `io_uring_register(2)` answers, `EINVAL` before Linux 5.19.
    pub fn register(ring: &Ring, group: u16, capacity: u16) -> io::Result<Self> {
        assert!(capacity.is_power_of_two());
        let entries = Pages::map(usize::from(capacity) * size_of::<BufRingEntry>())?;
        let address = entries.start().as_ptr().expose_provenance() as u64;
        let submitter = ring.ring.submitter();
        // SAFETY: the pages are mapped for `capacity` entries and are unmapped only by `unregister`, or after the ring.
        unsafe { submitter.register_buf_ring_with_flags(address, capacity, group, 0) }?;
        Ok(Self {
            entries,
            group,
            mask: capacity - 1,
            tail: 0,
        })
    }

    /// Gives a buffer to the kernel; it may be written to until a completion names it.
    ///
    /// # Safety
    /// `start` is valid for writes of `len` bytes, nobody else reads or writes there until a completion returns the
    /// buffer, and it stays mapped until the ring is closed. No more buffers than the queue's capacity are in it.
    pub unsafe fn provide(&mut self, start: NonNull<u8>, len: u32, buffer: u16) {
        let place = usize::from(self.tail & self.mask);
        let first = self.entries.start().cast::<BufRingEntry>();
        // SAFETY: `place` is at most `mask`, and the pages hold `mask + 1` entries.
        let mut entry = unsafe { first.add(place) };
        // SAFETY: the entry lies in our pages, and the kernel reads entries only up to the tail published below. The
        // tail itself shares the first entry's last two bytes, which none of these setters touches.
        let entry = unsafe { entry.as_mut() };
        entry.set_addr(start.as_ptr().expose_provenance() as u64);
        entry.set_len(len);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Makes the provided buffers visible to the kernel.
    pub fn publish(&mut self) {
        let first = self.entries.start().cast::<BufRingEntry>().as_ptr();
        // SAFETY: `first` is the first entry of the registered queue.
        let tail = unsafe { BufRingEntry::tail(first) };
        // SAFETY: the tail is a naturally aligned u16 in our pages that the kernel only reads, atomically.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// Takes the queue back from the kernel. No receive of its group may be armed any more.
    ///
    /// # Errors
    /// What `io_uring_register(2)` answers.
    pub fn unregister(&self, ring: &Ring) -> io::Result<()> {
        ring.ring.submitter().unregister_buf_ring(self.group)
    }
}

/// Sets what the io-uring crate has no setter for: wait-first, and the byte cap of a multishot receive.
fn tune_recv(entry: &mut Entry, poll_first: bool, multishot_bytes_max: u32) {
    const { assert!(size_of::<Entry>() == 64) };
    let bytes = std::ptr::from_mut(entry).cast::<u8>();
    if poll_first {
        // SAFETY: `ioprio` is the u16 at byte 2 of the 64-byte entry, whose address is aligned to 8.
        let ioprio = unsafe { bytes.add(SQE_IOPRIO) }.cast::<u16>();
        // SAFETY: as above; the entry is borrowed mutably.
        unsafe { *ioprio |= RECVSEND_POLL_FIRST };
    }
    if multishot_bytes_max > 0 {
        // SAFETY: `optlen` is the u32 at byte 44 of the 64-byte entry.
        let optlen = unsafe { bytes.add(SQE_OPTLEN) }.cast::<u32>();
        // SAFETY: as above; the entry is borrowed mutably.
        unsafe { *optlen = multishot_bytes_max };
    }
}

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct RingFdUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

fn register_ring_fd(fd: RawFd) -> io::Result<u32> {
    let data = u64::from(fd.cast_unsigned());
    let mut update = RingFdUpdate {
        offset: u32::MAX,
        reserved: 0,
        data,
    };
    register(fd, REGISTER_RING_FDS, std::ptr::from_mut(&mut update))?;
    Ok(update.offset)
}

fn register(fd: RawFd, what: libc::c_uint, update: *const RingFdUpdate) -> io::Result<()> {
    let entries: libc::c_uint = 1;
    // SAFETY: `update` points to one valid RingFdUpdate, writable where the operation writes it.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_register, fd, what, update, entries) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

// From include/uapi/linux/io_uring.h.
const SQE_IOPRIO: usize = 2;
const SQE_OPTLEN: usize = 44;
const RECVSEND_POLL_FIRST: u16 = 1;
const REGISTER_RING_FDS: libc::c_uint = 20;
const UNREGISTER_RING_FDS: libc::c_uint = 21;
