//! When bytes left and when they came, for whoever measures; nobody else pays for it.
//!
//! Small writes leave at the end of the turn and receives run ahead of their tasks, so a task's own look at the clock would
//! add the wait for the others of its turn to what it measures.

use super::Io;
use crate::base::slab::Key;
use crate::rt::time::Instant;

/// The stamps of every connection, by the place of its slot.
#[derive(Debug, Default)]
pub(super) struct Stamps(Vec<Stamp>);

/// `NEVER` where there is nothing to tell.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    sent: Instant,
    received: Instant,
}

impl Stamps {
    /// Just before the first bytes are handed to the kernel since the last [`Stamps::take_sent`].
    pub(super) fn note_sent(&mut self, key: Key, now: impl FnOnce() -> Instant) {
        let stamp = self.of(key);
        if stamp.sent == Instant::NEVER {
            stamp.sent = now();
        }
    }

    /// Bytes have come.
    pub(super) fn note_received(&mut self, key: Key, now: Instant) {
        self.of(key).received = now;
    }

    /// A new connection has the place.
    pub(super) fn forget(&mut self, key: Key) {
        *self.of(key) = NOTHING;
    }

    fn take_sent(&mut self, key: Key) -> Instant {
        std::mem::replace(&mut self.of(key).sent, Instant::NEVER)
    }

    fn of(&mut self, key: Key) -> &mut Stamp {
        let place = key.index as usize;
        if place >= self.0.len() {
            self.0.resize(place + 1, NOTHING);
        }
        &mut self.0[place]
    }
}

impl Io {
    /// Takes stamps from now on.
    pub(crate) fn keep_stamps(&mut self) {
        self.stamps.get_or_insert_default();
    }

    /// When the first bytes since the last call left; `None` while none has.
    pub(crate) fn take_sent(&mut self, key: Key) -> Option<Instant> {
        let sent = self.stamps.as_mut()?.take_sent(key);
        (sent != Instant::NEVER).then_some(sent)
    }

    /// When the last bytes came; `None` while none has.
    pub(crate) fn received(&mut self, key: Key) -> Option<Instant> {
        let received = self.stamps.as_mut()?.of(key).received;
        (received != Instant::NEVER).then_some(received)
    }
}

const NOTHING: Stamp = Stamp {
    sent: Instant::NEVER,
    received: Instant::NEVER,
};
