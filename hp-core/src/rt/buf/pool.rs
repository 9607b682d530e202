//! One worker's receive buffers, in two groups: small ones for heads, large ones for bulk bodies.
//!
//! Knows no driver. The epoll driver takes from the free list, last returned first (that buffer is warm in the cache);
//! the uring driver moves everything returned into the kernel's queue.
#![expect(
    unsafe_code,
    reason = "buffers are shared with the kernel, and with their pieces"
)]

use super::Lent;
use crate::rt::plant::{Plant, is_planted};
use crate::sys::memory::Pages;
use std::cell::{Cell, RefCell};
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;

/// Which buffers a connection reads into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// 4 KiB: heads and small messages. Few, because a ring touches them all in turn.
    Head,
    /// 68 KiB: bodies that keep filling small ones.
    Bulk,
}

/// All buffers of one worker.
#[derive(Debug)]
pub(crate) struct Pool {
    groups: [Buffers; 2],
    /// Where bytes are copied to that wait while a group runs short, so that those who make no one wait find buffers; `None`
    /// there itself.
    aside: Option<Rc<Self>>,
}

/// Invariants, with `total = chunks x per_chunk`: `free + lent + in the kernel's queue = total <= max`.
#[derive(Debug)]
struct Buffers {
    buffer_bytes: u32,
    /// A power of two: finding a buffer is a shift and a mask.
    per_chunk: u16,
    max: u16,
    chunks: RefCell<Vec<Pages>>,
    /// How many handles share each buffer; 0: free, or with the kernel.
    holds: RefCell<Vec<u32>>,
    free: RefCell<Vec<u16>>,
    lent: Cell<u32>,
}

impl Pool {
    /// `head_len` and `bulk_len` buffers to begin with, each rounded up to a power of two; a group may grow to 32 times that
    /// (at most 32,768). Aside are at most `aside_max` of 4 KiB, a multiple of 128, none to begin with.
    ///
    /// # Errors
    /// `OutOfMemory` when the pages cannot be mapped.
    pub(crate) fn new(head_len: u16, bulk_len: u16, aside_max: u16) -> io::Result<Rc<Self>> {
        let aside = Self {
            groups: [
                Buffers::up_to(aside_max, HEAD_BYTES, ASIDE_PER_CHUNK),
                Buffers::up_to(0, BULK_BYTES, 1),
            ],
            aside: None,
        };
        let pool = Self {
            groups: [
                Buffers::new(HEAD_BYTES, rounded(head_len)),
                Buffers::new(BULK_BYTES, rounded(bulk_len)),
            ],
            aside: Some(Rc::new(aside)),
        };
        assert!(pool.grow(Group::Head)?);
        assert!(pool.grow(Group::Bulk)?);
        Ok(Rc::new(pool))
    }

    /// Adds a chunk of buffers to the free list; `false` when the group is at its ceiling.
    ///
    /// # Errors
    /// `OutOfMemory` when the pages cannot be mapped.
    pub(crate) fn grow(&self, group: Group) -> io::Result<bool> {
        self.of(group).grow()
    }

    /// A writable buffer for a driver that receives by itself; grows the group if needed.
    pub(crate) fn take(self: &Rc<Self>, group: Group) -> Option<Spare> {
        let id = match self.pop_free(group) {
            Some(id) => id,
            None => self.grown(group)?,
        };
        Some(self.spare_of(group, id))
    }

    /// A buffer whose id was popped, as one that a simulated kernel may fill.
    ///
    /// # Panics
    /// When the id is not the one that was popped last, or was put back already.
    #[cfg(feature = "sim")]
    pub(crate) fn spare(self: &Rc<Self>, group: Group, id: u16) -> Spare {
        self.push_free(group, id);
        let spare = self.take(group).expect("an id was just put back");
        assert_eq!(spare.id, id, "ids are taken in the order of their return");
        spare
    }

    /// Has a free buffer filled, the one that was returned last; grows the group if needed. `fill` says how many bytes it put there:
    /// without any, or with an error, the buffer stays free. Gives with the bytes whether they fill it; `None`: there is no buffer.
    #[inline]
    pub(crate) fn fill(
        self: &Rc<Self>,
        group: Group,
        fill: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> Option<io::Result<Option<(Lent, bool)>>> {
        let buffers = self.of(group);
        let free = buffers.free.borrow_mut().pop();
        let id = match free {
            Some(id) => id,
            None => self.grown(group)?,
        };
        let start = buffers.address(id);
        let len = buffers.buffer_bytes as usize;
        // SAFETY: the id was taken off the free list, so no handle and no kernel queue names the buffer; it is
        // initialised (pages begin zeroed) and valid for its whole length.
        let buffer = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) };
        let filled = match fill(buffer) {
            Ok(0) => Ok(None),
            Ok(filled) => {
                assert!(filled <= len);
                let bytes = u32::try_from(filled).expect("buffers are under 4 GiB");
                buffers.hold(id);
                let lent = Lent::new(Rc::clone(self), group, id, start, bytes);
                return Some(Ok(Some((lent, filled == len))));
            }
            Err(error) => Err(error),
        };
        self.push_free(group, id);
        Some(filled)
    }

    /// The id of a buffer that was made because none was free.
    #[cold]
    fn grown(&self, group: Group) -> Option<u16> {
        match self.grow(group) {
            Ok(true) => self.pop_free(group),
            Ok(false) | Err(_) => None, // Memory is at its bound: the connection waits.
        }
    }

    fn spare_of(self: &Rc<Self>, group: Group, id: u16) -> Spare {
        Spare {
            pool: Some(Rc::clone(self)),
            start: self.address(group, id),
            bytes: self.buffer_bytes(group),
            group,
            id,
        }
    }

    /// Takes one id off the free list, for the kernel's queue.
    pub(crate) fn pop_free(&self, group: Group) -> Option<u16> {
        self.of(group).free.borrow_mut().pop()
    }

    /// Puts an id back that was popped and not used.
    pub(crate) fn push_free(&self, group: Group, id: u16) {
        self.of(group).free.borrow_mut().push(id);
    }

    /// How many buffers are free and not with the kernel.
    pub(crate) fn free_len(&self, group: Group) -> usize {
        self.of(group).free.borrow().len()
    }

    /// How many buffers somebody holds.
    pub(crate) fn lent_len(&self) -> u32 {
        let aside = self.aside.as_ref().map_or(0, |aside| aside.lent_len());
        aside + self.groups.iter().map(Buffers::lent_len).sum::<u32>()
    }

    /// How many bytes the buffers have that somebody holds.
    pub(crate) fn lent_bytes(&self) -> u64 {
        let aside = self.aside.as_ref().map_or(0, |aside| aside.lent_bytes());
        let bytes =
            |buffers: &Buffers| u64::from(buffers.lent_len()) * u64::from(buffers.buffer_bytes);
        aside + self.groups.iter().map(bytes).sum::<u64>()
    }

    /// Where bytes of a group that are going to wait are copied to: nowhere before half of all buffers that there can be are
    /// held.
    #[inline]
    pub(super) fn aside_of(&self, group: Group) -> Option<&Rc<Self>> {
        let buffers = self.of(group);
        let is_short = buffers.lent_len() > u32::from(buffers.max) / 2;
        self.aside.as_ref().filter(|_| is_short)
    }

    /// How many buffers the group begins with.
    pub(crate) fn base(&self, group: Group) -> u16 {
        self.of(group).per_chunk
    }

    /// How many buffers the group may have.
    pub(crate) fn max(&self, group: Group) -> u16 {
        self.of(group).max
    }

    /// Bytes of one buffer.
    pub(crate) fn buffer_bytes(&self, group: Group) -> u32 {
        self.of(group).buffer_bytes
    }

    /// First byte of a buffer.
    pub(crate) fn address(&self, group: Group, id: u16) -> NonNull<u8> {
        self.of(group).address(id)
    }

    /// The handle of a buffer that the kernel has filled with `len` bytes. `None` when the kernel names a buffer that it
    /// cannot have: the caller then aborts, for memory may be corrupt.
    pub(crate) fn claim(self: &Rc<Self>, group: Group, id: u16, len: u32) -> Option<Lent> {
        let buffers = self.of(group);
        let known = buffers.holds.borrow().get(usize::from(id)).copied();
        if known != Some(0) || len > buffers.buffer_bytes {
            return None;
        }
        buffers.hold(id);
        let start = buffers.address(id);
        Some(Lent::new(Rc::clone(self), group, id, start, len))
    }

    /// One more handle of a buffer that is held.
    pub(super) fn hold(&self, group: Group, id: u16) {
        self.of(group).hold(id);
    }

    /// One handle of a buffer less; the last one frees it.
    pub(super) fn release(&self, group: Group, id: u16) {
        self.of(group).release(id);
    }

    /// Whether only one handle names this buffer.
    pub(super) fn is_exclusive(&self, group: Group, id: u16) -> bool {
        self.of(group).holds.borrow()[usize::from(id)] == 1
    }

    #[inline]
    fn of(&self, group: Group) -> &Buffers {
        match group {
            Group::Head => &self.groups[0],
            Group::Bulk => &self.groups[1],
        }
    }
}

impl Buffers {
    fn new(buffer_bytes: u32, per_chunk: u16) -> Self {
        let max = per_chunk.saturating_mul(GROWTH_MAX).min(RING_ENTRIES_MAX);
        Self::up_to(max, buffer_bytes, per_chunk)
    }

    /// `per_chunk` is a power of two.
    fn up_to(max: u16, buffer_bytes: u32, per_chunk: u16) -> Self {
        let (chunks, holds, free) = (RefCell::default(), RefCell::default(), RefCell::default());
        Self {
            buffer_bytes,
            per_chunk,
            max,
            chunks,
            holds,
            free,
            lent: Cell::new(0),
        }
    }

    fn grow(&self) -> io::Result<bool> {
        let mut holds = self.holds.borrow_mut();
        let total = holds.len();
        let grown = total + usize::from(self.per_chunk);
        if grown > usize::from(self.max) {
            return Ok(false);
        }
        let bytes = usize::from(self.per_chunk) * self.buffer_bytes as usize;
        self.chunks.borrow_mut().push(Pages::map(bytes)?);
        holds.resize(grown, 0);
        let mut free = self.free.borrow_mut();
        free.reserve(grown);
        let ids = (total..grown)
            .rev()
            .map(|id| u16::try_from(id).expect("ids are held under max"));
        free.extend(ids);
        Ok(true)
    }

    fn lent_len(&self) -> u32 {
        self.lent.get()
    }

    #[inline]
    fn address(&self, id: u16) -> NonNull<u8> {
        let chunks = self.chunks.borrow();
        let chunk = &chunks[usize::from(id >> self.per_chunk.trailing_zeros())];
        let offset = usize::from(id & (self.per_chunk - 1)) * self.buffer_bytes as usize;
        assert!(offset + self.buffer_bytes as usize <= chunk.len());
        // SAFETY: the buffer lies within its chunk, as just asserted, and chunks stay mapped as long as the pool lives.
        unsafe { chunk.start().add(offset) }
    }

    #[inline]
    fn hold(&self, id: u16) {
        let holds = &mut self.holds.borrow_mut()[usize::from(id)];
        if *holds == 0 {
            self.lent.set(self.lent.get() + 1);
        }
        *holds += 1;
    }

    #[inline]
    fn release(&self, id: u16) {
        let holds = &mut self.holds.borrow_mut()[usize::from(id)];
        *holds = holds
            .checked_sub(1)
            .expect("only a held buffer is released");
        if *holds == 0 {
            self.lent.set(self.lent.get() - 1);
            self.poison(id);
            self.free.borrow_mut().push(id);
            if is_planted(Plant::BufferTwice) {
                self.free.borrow_mut().push(id);
            }
        }
    }

    /// In debug builds a returned buffer is overwritten, so that reading it afterwards shows.
    fn poison(&self, id: u16) {
        if cfg!(debug_assertions) {
            let len = self.buffer_bytes.min(256) as usize;
            // SAFETY: the buffer has just lost its last handle and is not with the kernel, so it is ours to write.
            unsafe { self.address(id).write_bytes(POISON, len) };
        }
    }
}

/// A buffer that nobody reads yet and the holder may fill.
#[derive(Debug)]
pub(crate) struct Spare {
    /// `None` once the buffer is used.
    pool: Option<Rc<Pool>>,
    start: NonNull<u8>,
    bytes: u32,
    group: Group,
    id: u16,
}

impl Spare {
    /// The whole buffer.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        let len = self.bytes as usize;
        // SAFETY: the id was taken off the free list, so no handle and no kernel queue names the buffer; it is
        // initialised (pages begin zeroed) and valid for its whole length.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), len) }
    }

    /// The first `len` bytes as a lent buffer.
    pub(crate) fn into_lent(mut self, len: u32) -> Lent {
        assert!(len <= self.bytes);
        let pool = self.pool.take().expect("a spare buffer is used once");
        pool.hold(self.group, self.id);
        Lent::new(pool, self.group, self.id, self.start, len)
    }

    /// Its id, for whoever then claims the buffer: it is on no list until that is done.
    #[cfg(feature = "sim")]
    pub(crate) fn into_taken(mut self) -> u16 {
        self.pool = None;
        self.id
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.push_free(self.group, self.id);
        }
    }
}

fn rounded(len: u16) -> u16 {
    len.clamp(1, RING_ENTRIES_MAX).next_power_of_two()
}

const HEAD_BYTES: u32 = 4 << 10;
/// Content of 64 KiB and its head come in one receive, and leave in one send.
const BULK_BYTES: u32 = 68 << 10;
const GROWTH_MAX: u16 = 32;
const ASIDE_PER_CHUNK: u16 = 128;
const RING_ENTRIES_MAX: u16 = 32_768;
const POISON: u8 = 0xdd;
