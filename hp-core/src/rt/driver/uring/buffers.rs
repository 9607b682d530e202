//! One group's buffers as the kernel takes them.
#![expect(unsafe_code, reason = "lends memory to the kernel")]

use crate::rt::buf::{Group, Lent, Pool};
use crate::sys::ring::{BufferRing, Ring};
use std::io;
use std::rc::Rc;

/// A queue of buffers in the kernel, and those kept back.
///
/// The kernel takes from the queue's head and returned buffers go to its tail, so it walks through all of them: their
/// number is the cache footprint. Beyond the base number, buffers join only while receives find none.
pub(super) struct Buffers {
    queue: BufferRing,
    group: Group,
    reserve: Vec<u16>,
    /// Keeps the memory mapped as long as the queue may name it.
    _pool: Rc<Pool>,
}

impl Buffers {
    /// Registers the group's queue and fills it with the base number of buffers.
    pub(super) fn register(ring: &Ring, pool: &Rc<Pool>, group: Group) -> io::Result<Self> {
        let capacity = pool.max(group).next_power_of_two().min(32_768);
        let queue = BufferRing::register(ring, group_id(group), capacity)?;
        let reserve = Vec::new();
        let mut buffers = Self {
            queue,
            group,
            reserve,
            _pool: Rc::clone(pool),
        };
        buffers.refill(pool, false);
        Ok(buffers)
    }

    /// Moves free buffers into the queue; with `is_short`, also those kept back, and new ones up to the bound. Returns how
    /// many.
    pub(super) fn refill(&mut self, pool: &Rc<Pool>, is_short: bool) -> usize {
        let mut provided = 0;
        if is_short && self.reserve.is_empty() && pool.free_len(self.group) == 0 {
            match pool.grow(self.group) {
                Ok(_grown) => (),
                Err(_no_memory) => (), // As at the bound: receives wait for a buffer to return.
            }
        }
        while let Some(id) = pool.pop_free(self.group) {
            if id >= pool.base(self.group) && !is_short {
                self.reserve.push(id);
                continue;
            }
            self.provide(pool, id);
            provided += 1;
        }
        if is_short {
            let kept_back = std::mem::take(&mut self.reserve);
            for id in kept_back {
                self.provide(pool, id);
                provided += 1;
            }
        }
        if provided > 0 {
            self.queue.publish();
        }
        provided
    }

    /// The handle of a buffer that a completion names.
    pub(super) fn taken(&self, pool: &Rc<Pool>, id: u16, len: u32) -> Lent {
        let Some(lent) = pool.claim(self.group, id, len) else {
            // Two owners of one buffer: memory is or will be corrupt, so no request may be answered from it.
            eprintln!("io_uring named buffer {id}, which it cannot have; aborting");
            std::process::abort();
        };
        lent
    }

    fn provide(&mut self, pool: &Pool, id: u16) {
        let start = pool.address(self.group, id);
        let len = pool.buffer_bytes(self.group);
        // SAFETY: the id came off the free list, so no handle names the buffer until `taken` makes one from a completion;
        // the pool stays mapped until after the ring (see the order of fields in `Uring`), and holds at most `max` ids.
        unsafe { self.queue.provide(start, len, id) };
    }
}

/// The number by which receives name a group.
pub(super) fn group_id(group: Group) -> u16 {
    match group {
        Group::Head => 0,
        Group::Bulk => 1,
    }
}
