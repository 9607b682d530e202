//! Sending at the end of the turn: small writes are gathered and leave together, so that the kernel's sending code runs
//! many times in a row while it is in the cache, and what one connection writes in a turn leaves in one call
//! (docs/decisions/0012).
//!
//! ```text
//! bytes    │ answer to A │ answer to B │ another to B │ request to C │
//! letters  (A ──────────►)(B ────────────────────────►)(C ───────────►)   `end` of each, ascending
//! ```

use super::recv::wake;
use crate::base::slab::Key;
use crate::rt::driver::Io;
use std::io::IoSlice;

/// What was written in this turn and has not been handed to the kernel.
///
/// `bytes.len() < OUTBOX_BYTES_MAX + PIECE_BYTES_MAX`; a slot says `has_letter` as long as a letter of its own is here.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    letters: Vec<Letter>,
}

#[derive(Debug)]
struct Letter {
    to: Key,
    end: usize,
}

impl Outbox {
    /// Appends bytes for a connection; says whether the outbox is to be emptied now.
    pub(super) fn post(&mut self, to: Key, segments: &[IoSlice<'_>]) -> Full {
        for segment in segments {
            self.bytes.extend_from_slice(segment);
        }
        let end = self.bytes.len();
        match self.letters.last_mut() {
            Some(last) if last.to == to => last.end = end,
            _ => self.letters.push(Letter { to, end }),
        }
        if end >= OUTBOX_BYTES_MAX || self.letters.len() >= LETTERS_MAX {
            Full::Yes
        } else {
            Full::No
        }
    }
}

#[cfg(feature = "sim")]
impl Outbox {
    pub(in crate::rt::driver) fn has_letters(&self) -> bool {
        !self.letters.is_empty()
    }
}

/// Whether an outbox takes no more before it was emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Yes,
    No,
}

impl Io {
    /// Hands everything to the kernel, in the order in which it was written. Comes before every turn, for a failure wakes
    /// tasks.
    pub(crate) fn empty_outbox(&mut self) {
        if self.outbox.letters.is_empty() {
            return;
        }
        let mut outbox = std::mem::take(&mut self.outbox);
        let mut start = 0;
        for Letter { to, end } in outbox.letters.drain(..) {
            self.deliver(to, &outbox.bytes[start..end]);
            start = end;
        }
        outbox.bytes.clear();
        self.outbox = outbox;
    }

    /// Hands over what was written to one connection, and with it what was written before.
    pub(super) fn send_letter(&mut self, key: Key) {
        if self.conns.get(key).is_some_and(|slot| slot.has_letter) {
            self.empty_outbox();
        }
    }

    fn deliver(&mut self, to: Key, bytes: &[u8]) {
        let Some(slot) = self.conns.get_mut(to) else {
            return; // Cannot be: closing sends the letter first.
        };
        slot.has_letter = false;
        match self.send_or_queue(to, &[IoSlice::new(bytes)]) {
            Ok(()) => (),
            // The writer has gone on; whoever waits for the connection now learns it, and later writes do.
            Err(_remembered) => {
                if let Some(slot) = self.conns.get_mut(to) {
                    wake(&mut slot.rx_waker);
                    wake(&mut slot.tx_waker);
                }
            }
        }
    }
}

/// What is longer is sent at once: copying it would cost more than it saves.
pub(super) const PIECE_BYTES_MAX: usize = 2048;
const OUTBOX_BYTES_MAX: usize = 64 * 1024;
/// So few that the first one waits for tens of microseconds.
const LETTERS_MAX: usize = 64;
