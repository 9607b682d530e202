//! What this kernel can do, found by trying it on a socket pair and never by its version.
#![expect(unsafe_code, reason = "lends memory to the kernel")]

use crate::sys::memory::Pages;
use crate::sys::ring::{BufferRing, Completion, RecvEntry, Ring};
use crate::sys::socket;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// What was found to work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// A receive that stays armed until a number of bytes has come (Linux 6.17). Without it each receive is armed anew.
    pub capped_multishot: bool,
}

/// Tries the operations that the engine is built on.
///
/// # Errors
/// What the ring's calls answer; `Unsupported` when a receive into provided buffers does not do what it must.
pub(super) fn run() -> io::Result<Features> {
    let mut trial = Trial::new()?;
    // Both that wait before they look, and that look first and find nothing.
    if !(trial.one_shot_takes_a_buffer(true)? && trial.one_shot_takes_a_buffer(false)?) {
        let message = "a receive into provided buffers does not work on this kernel";
        return Err(io::Error::new(io::ErrorKind::Unsupported, message));
    }
    Ok(Features {
        capped_multishot: trial.multishot_ends_at_its_cap()?,
    })
}

/// Fields are dropped in this order: the ring before the memory that it writes to.
struct Trial {
    ring: Ring,
    queue: BufferRing,
    memory: Pages,
    ours: OwnedFd,
    theirs: OwnedFd,
}

impl Trial {
    fn new() -> io::Result<Self> {
        let ring = Ring::new(8, 16)?;
        let queue = BufferRing::register(&ring, 0, BUFFERS)?;
        let memory = Pages::map(usize::from(BUFFERS) * BUFFER_BYTES)?;
        let (ours, theirs) = socket::pair()?;
        socket::set_nonblocking(ours.as_raw_fd(), true)?; // As all connections are; a receive has to wait all the same.
        let mut trial = Self {
            ring,
            queue,
            memory,
            ours,
            theirs,
        };
        for id in 0..BUFFERS {
            trial.provide(id);
        }
        trial.queue.publish();
        Ok(trial)
    }

    fn provide(&mut self, id: u16) {
        // SAFETY: the pages hold BUFFERS times BUFFER_BYTES, and `id` is below BUFFERS.
        let start = unsafe { self.memory.start().add(usize::from(id) * BUFFER_BYTES) };
        // SAFETY: nobody reads these pages, each buffer is provided once, and the pages outlive the ring.
        unsafe { self.queue.provide(start, BUFFER_LEN, id) };
    }

    fn one_shot_takes_a_buffer(&mut self, poll_first: bool) -> io::Result<bool> {
        let entry = RecvEntry {
            fd: self.ours.as_raw_fd(),
            group: 0,
            multishot_bytes_max: None,
            poll_first,
        };
        self.ring.recv(entry, 1);
        self.ring.enter(Some(Duration::ZERO))?; // It finds nothing.
        self.send(b"abcd")?;
        let got = self.completions(1)?;
        let is_right = |c: &Completion| c.result == 4 && c.buffer.is_some() && !c.more;
        Ok(matches!(got.as_slice(), [only] if is_right(only)))
    }

    /// Two buffers' worth of bytes under a cap of one and a half: the second completion must be the last.
    fn multishot_ends_at_its_cap(&mut self) -> io::Result<bool> {
        let cap = BUFFER_LEN * 3 / 2;
        let entry = RecvEntry {
            fd: self.ours.as_raw_fd(),
            group: 0,
            multishot_bytes_max: Some(cap),
            poll_first: true,
        };
        self.ring.recv(entry, 2);
        self.send(&[b'x'; BUFFER_BYTES * 2])?;
        let got = self.completions(2)?;
        // The last receive may pass the cap by less than a buffer; what counts is that none follows it.
        let capped = got.len() == 2 && got.last().is_some_and(|c| !c.more);
        Ok(capped)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        socket::send(self.theirs.as_raw_fd(), &[IoSlice::new(bytes)]).map(drop)
    }

    fn completions(&mut self, wanted: usize) -> io::Result<Vec<Completion>> {
        let mut got = Vec::new();
        for _ in 0..ATTEMPTS {
            self.ring.enter(Some(Duration::from_millis(20)))?;
            self.ring.reap(&mut got);
            if got.len() >= wanted || got.last().is_some_and(|c| !c.more) {
                break;
            }
        }
        Ok(got)
    }
}

const BUFFERS: u16 = 8;
const BUFFER_LEN: u32 = 64;
const BUFFER_BYTES: usize = BUFFER_LEN as usize;
const ATTEMPTS: usize = 10;
