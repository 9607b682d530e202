//! Sending at the end of the turn: small writes are gathered and leave together, so that the kernel's sending code runs
//! many times in a row while it is in the cache, and what one connection writes in a turn leaves in one call
//! (docs/decisions/0012).
//!
//! ```text
//! bytes    │ answer to A │ answer to B │ another to B │ request to C │
//! letters  (A ──────────►)(B ────────────────────────►)(C ───────────►)   `end` of each, ascending
//! ```
//!
//! Letters of one connection between which others wrote are sent apart. Where many tasks write to one connection, and each of them to
//! others as well, its bytes are gathered in a parcel of its own, which leaves in one call whatever came in between.

use super::recv::wake;
use super::send::Behind;
use crate::base::slab::Key;
use crate::rt::driver::Io;
use crate::rt::driver::token::NO_KEY;
use std::io::{self, IoSlice};

/// What was written in this turn and has not been handed to the kernel.
///
/// `bytes.len() < OUTBOX_BYTES_MAX + PIECE_BYTES_MAX`; a slot says `has_letter` as long as a letter or a parcel of its own is here, of
/// which it never has both, and `gathers` as long as it is a parcel.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    letters: Vec<Letter>,
    /// The first `parcels_used` are under way; the others keep their room for the next turns.
    parcels: Vec<Parcel>,
    parcels_used: usize,
}

#[derive(Debug)]
struct Letter {
    to: Key,
    end: usize,
}

#[derive(Debug)]
struct Parcel {
    to: Key,
    bytes: Vec<u8>,
}

impl Outbox {
    /// Appends bytes for a connection; says whether the outbox is to be emptied now.
    #[inline]
    pub(super) fn post(&mut self, to: Key, bytes: &[u8]) -> Full {
        self.bytes.extend_from_slice(bytes);
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

    /// Puts bytes into the parcel of a connection; says how many it has then, `None` when there is no parcel to be had.
    fn gather(&mut self, to: Key, bytes: &[u8]) -> Option<usize> {
        let mut used = self.parcels.iter().take(self.parcels_used);
        let place = used.position(|parcel| parcel.to == to);
        let place = place.unwrap_or(self.parcels_used);
        if place == PARCELS_MAX {
            return None;
        }
        if place == self.parcels.len() {
            self.parcels.push(Parcel {
                to,
                bytes: Vec::new(),
            });
        }
        let parcel = self.parcels.get_mut(place)?;
        parcel.to = to;
        parcel.bytes.extend_from_slice(bytes);
        self.parcels_used = self.parcels_used.max(place + 1);
        Some(parcel.bytes.len())
    }

    /// Bytes that were gathered for a connection.
    fn gathered(&self, to: Key) -> usize {
        let mut used = self.parcels.iter().take(self.parcels_used);
        used.find(|parcel| parcel.to == to)
            .map_or(0, |parcel| parcel.bytes.len())
    }

    /// Bytes of a connection's letters.
    fn in_letters(&self, to: Key) -> usize {
        let (mut start, mut bytes) = (0, 0);
        for letter in &self.letters {
            if letter.to == to {
                bytes += letter.end - start;
            }
            start = letter.end;
        }
        bytes
    }

    /// Where the bytes of a connection's letter begin, if it has but one and that is the last of all.
    fn last_of(&self, to: Key) -> Option<usize> {
        let (last, before) = self.letters.split_last()?;
        let is_only_one = last.to == to && before.iter().all(|letter| letter.to != to);
        is_only_one.then(|| before.last().map_or(0, |letter| letter.end))
    }

    /// Makes a connection's letters and parcel nobody's: what is addressed so is dropped with the others' leaving.
    #[cold]
    fn forget(&mut self, from: Key) {
        let letters = self.letters.iter_mut().map(|letter| &mut letter.to);
        let parcels = self.parcels.iter_mut().map(|parcel| &mut parcel.to);
        let addressed = letters.chain(parcels).filter(|to| **to == from);
        addressed.for_each(|to| *to = NO_KEY);
    }

    /// Whether nothing was written in this turn that has not left.
    #[inline]
    fn is_empty(&self) -> bool {
        self.letters.is_empty() && self.parcels_used == 0
    }
}

#[cfg(feature = "sim")]
impl Outbox {
    pub(in crate::rt::driver) fn has_letters(&self) -> bool {
        !self.is_empty()
    }
}

/// Whether an outbox takes no more before it was emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Yes,
    No,
}

impl Io {
    /// Writes bytes that leave at the end of the turn together with all that is gathered for the same connection, whoever else
    /// writes in between.
    pub(crate) fn gather(&mut self, key: Key, bytes: &[u8]) -> io::Result<()> {
        let slot = self.sending(key)?;
        let is_behind_others = !slot.tx.is_empty() || (slot.has_letter && !slot.gathers);
        if is_behind_others || bytes.is_empty() {
            return self.write(key, bytes);
        }
        let Some(gathered) = self.outbox.gather(key, bytes) else {
            return self.write(key, bytes);
        };
        if let Some(slot) = self.conns.get_mut(key) {
            (slot.has_letter, slot.gathers) = (true, true);
        }
        if gathered >= OUTBOX_BYTES_MAX {
            self.empty_outbox();
        }
        Ok(())
    }

    /// Bytes that were gathered, written or queued for a connection, and that the kernel has not taken, or has refused.
    pub(crate) fn unsent(&self, key: Key) -> usize {
        let Some(slot) = self.conns.get(key) else {
            return 0;
        };
        let in_outbox = match (slot.has_letter, slot.gathers) {
            (false, _) => 0,
            (true, true) => self.outbox.gathered(key),
            (true, false) => self.outbox.in_letters(key),
        };
        slot.tx.len() + in_outbox + slot.tx_lost as usize
    }

    /// Those of them that the kernel has refused for good.
    pub(crate) fn lost(&self, key: Key) -> usize {
        self.conns.get(key).map_or(0, |slot| slot.tx_lost as usize)
    }

    /// Sends bytes at once, with what was written to the same connection in this turn in one call, and lets the kernel wait with them for
    /// what is sent next.
    pub(crate) fn write_before_more(&mut self, key: Key, bytes: &[u8]) -> io::Result<()> {
        if self.sending(key)?.has_letter && self.outbox.last_of(key).is_none() {
            self.empty_outbox();
        }
        let mut outbox = std::mem::take(&mut self.outbox);
        let start = outbox.last_of(key).unwrap_or(outbox.bytes.len());
        let letter = &outbox.bytes[start..];
        let segments = [IoSlice::new(letter), IoSlice::new(bytes)];
        let sent = self.send_or_queue(key, &segments, Behind::More);
        if sent.is_err() {
            self.lose_letter(key, letter);
        }
        if !letter.is_empty() {
            outbox.bytes.truncate(start);
            outbox.letters.pop();
        }
        self.outbox = outbox;
        if let Some(slot) = self.conns.get_mut(key) {
            slot.has_letter = false;
        }
        sent
    }

    /// Drops what was gathered or written for a connection and has not been handed to the kernel.
    pub(crate) fn withdraw(&mut self, key: Key) {
        if let Some(slot) = self.conns.get_mut(key)
            && slot.has_letter
        {
            (slot.has_letter, slot.gathers) = (false, false);
            self.outbox.forget(key);
        }
    }

    /// Hands everything to the kernel: what was gathered, for its receivers have most to do; then the rest, in the order in which it
    /// was written. Comes before every turn, for a failure wakes tasks.
    pub(crate) fn empty_outbox(&mut self) {
        if self.outbox.is_empty() {
            return;
        }
        let mut outbox = std::mem::take(&mut self.outbox);
        for parcel in outbox.parcels.iter_mut().take(outbox.parcels_used) {
            self.deliver(parcel.to, &parcel.bytes);
            parcel.bytes.clear();
        }
        outbox.parcels_used = 0;
        let mut start = 0;
        for Letter { to, end } in outbox.letters.drain(..) {
            self.deliver(to, &outbox.bytes[start..end]);
            start = end;
        }
        outbox.bytes.clear();
        self.outbox = outbox;
    }

    /// Hands over what was written to one connection, and with it what was written before.
    #[inline]
    pub(super) fn send_letter(&mut self, key: Key) {
        if self.conns.get(key).is_some_and(|slot| slot.has_letter) {
            self.empty_outbox();
        }
    }

    #[inline]
    fn deliver(&mut self, to: Key, bytes: &[u8]) {
        let Some(slot) = self.conns.get_mut(to) else {
            return; // It was withdrawn; closing sends the letter first.
        };
        (slot.has_letter, slot.gathers) = (false, false);
        if slot.tx.is_empty() && slot.tx_error().is_none() && self.stamps.is_none() {
            // Nearly always it goes whole: one look at the slot, one call.
            self.stats.sends += 1;
            match self.kernel.send(slot.fd, &[IoSlice::new(bytes)]) {
                Ok(sent) if sent == bytes.len() => return,
                outcome => return self.deliver_rest(to, bytes, outcome),
            }
        }
        match self.send_or_queue(to, &[IoSlice::new(bytes)], Behind::Nothing) {
            Ok(()) => (),
            Err(_remembered) => self.lose_letter(to, bytes),
        }
    }

    /// The socket took a part of a letter, or none of it.
    #[cold]
    fn deliver_rest(&mut self, to: Key, bytes: &[u8], outcome: io::Result<usize>) {
        let sent = match outcome {
            Ok(sent) => sent,
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => 0,
                errno => {
                    self.fail_sending(to, errno.unwrap_or(libc::EIO));
                    return self.lose_letter(to, bytes);
                }
            },
        };
        if let Some(slot) = self.conns.get_mut(to) {
            slot.tx.push_copy(bytes.get(sent..).unwrap_or_default());
        }
        self.stats.short_sends += 1;
        self.arm_writable(to);
    }

    /// The writer has gone on; whoever waits for the connection now learns it, and later writes do.
    fn lose_letter(&mut self, to: Key, bytes: &[u8]) {
        if let Some(slot) = self.conns.get_mut(to) {
            slot.lose(bytes.len());
            wake(&mut slot.rx_waker);
            wake(&mut slot.tx_waker);
        }
    }
}

/// What is longer is sent at once: copying it would cost more than it saves.
pub(super) const PIECE_BYTES_MAX: usize = 2048;
const OUTBOX_BYTES_MAX: usize = 64 * 1024;
/// So few that the first one waits for tens of microseconds.
const LETTERS_MAX: usize = 64;
/// Connections that bytes are gathered for in one turn; those of others leave as letters.
const PARCELS_MAX: usize = 16;
