//! The small buffers as the kernel takes them. Large ones are filled by calls.
#![expect(unsafe_code, reason = "lends memory to the kernel")]

use super::ring::Ring;
use crate::base::slab::Key;
use crate::rt::buf::{Group, Lent, Pool};
#[cfg(feature = "sim")]
use crate::rt::driver::sim::Provided;
use crate::sys::ring::BufferRing;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::rc::Rc;

/// A queue of buffers in the kernel, and those kept back.
///
/// The kernel takes from the queue's head and returned buffers go to its tail, so it walks through all of them: their
/// number is the cache footprint. Beyond the base number, buffers join only while receives find none.
pub(super) struct Buffers {
    queue: Queue,
    reserve: Vec<u16>,
    /// How many buffers the kernel may still take.
    provided: usize,
    /// Receives that found no buffer, in the order in which they failed.
    starved: VecDeque<Key>,
    /// Keeps the memory mapped as long as the queue may name it.
    _pool: Rc<Pool>,
}

/// Where the kernel takes buffers from.
enum Queue {
    Real(BufferRing),
    #[cfg(feature = "sim")]
    Sim(Provided),
}

impl Buffers {
    /// Registers the queue and fills it with the base number of buffers.
    pub(super) fn register(ring: &Ring, pool: &Rc<Pool>) -> io::Result<Self> {
        let capacity = pool.max(GROUP).next_power_of_two().min(32_768);
        let queue = match ring {
            Ring::Real(ring) => Queue::Real(BufferRing::register(ring, GROUP_ID, capacity)?),
            #[cfg(feature = "sim")]
            Ring::Sim(ring) => Queue::Sim(ring.provided(GROUP_ID)),
        };
        let reserve = Vec::new();
        let mut buffers = Self {
            queue,
            reserve,
            provided: 0,
            starved: VecDeque::new(),
            _pool: Rc::clone(pool),
        };
        buffers.refill(pool);
        Ok(buffers)
    }

    /// Moves free buffers into the queue; while receives wait, also those kept back, and new ones up to the bound.
    pub(super) fn refill(&mut self, pool: &Rc<Pool>) {
        let is_short = !self.starved.is_empty();
        let provided_before = self.provided;
        if is_short && self.reserve.is_empty() && pool.free_len(GROUP) == 0 {
            match pool.grow(GROUP) {
                Ok(_grown) => (),
                Err(_no_memory) => (), // As at the bound: receives wait for a buffer to return.
            }
        }
        while let Some(id) = pool.pop_free(GROUP) {
            if id >= pool.base(GROUP) && !is_short {
                self.reserve.push(id);
                continue;
            }
            self.provide(pool, id);
        }
        if is_short {
            let kept_back = std::mem::take(&mut self.reserve);
            for id in kept_back {
                self.provide(pool, id);
            }
        }
        if self.provided > provided_before {
            match &mut self.queue {
                Queue::Real(queue) => queue.publish(),
                #[cfg(feature = "sim")]
                Queue::Sim(_) => (), // What is in it is visible at the next enter.
            }
        }
    }

    /// This connection is received from again once there is a buffer.
    pub(super) fn starve(&mut self, key: Key) {
        self.starved.push_back(key);
    }

    /// Whoever waited longest for a buffer.
    pub(super) fn next_starved(&mut self) -> Option<Key> {
        self.starved.pop_front()
    }

    /// How many buffers the kernel may still take. Counted at completions, so it may lag behind, and is never too low for
    /// long: what is not taken stays.
    pub(super) fn provided(&self) -> usize {
        self.provided
    }

    /// The handle of a buffer that a completion names.
    pub(super) fn taken(&mut self, pool: &Rc<Pool>, id: u16, len: u32) -> Lent {
        let Some(lent) = pool.claim(GROUP, id, len) else {
            // Two owners of one buffer: memory is or will be corrupt, so no request may be answered from it.
            give_up(id)
        };
        self.provided -= 1;
        lent
    }

    fn provide(&mut self, pool: &Rc<Pool>, id: u16) {
        let start = pool.address(GROUP, id);
        let len = pool.buffer_bytes(GROUP);
        match &mut self.queue {
            // SAFETY: the id came off the free list, so no handle names the buffer until `taken` makes one from a
            // completion; the pool stays mapped until after the ring (see the order of fields in `Uring`), and holds at
            // most `max` ids.
            Queue::Real(queue) => unsafe { queue.provide(start, len, id) },
            #[cfg(feature = "sim")]
            Queue::Sim(queue) => {
                let spare = pool.spare(GROUP, id);
                queue.borrow_mut().push_back(spare);
            }
        }
        self.provided += 1;
    }
}

/// Ends the process; where the kernel is simulated and writes to no memory of ours, only the run.
fn give_up(id: u16) -> ! {
    if cfg!(feature = "sim") {
        panic!("the ring named buffer {id}, which it cannot have");
    }
    let line = format!("io_uring named buffer {id}, which it cannot have; aborting\n");
    match io::stderr().write_all(line.as_bytes()) {
        Ok(()) => (),
        Err(_unheard) => (), // A panic instead would be caught, and the run would go on.
    }
    std::process::abort()
}

/// The group whose buffers these are, and the number by which receives name it.
const GROUP: Group = Group::Head;
pub(super) const GROUP_ID: u16 = 0;
