//! What a run was, as one number: two runs are the same exactly when their numbers are (but for a chance of 2^-64).

use super::chance::mix;

/// What kind of fact is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    Accept,
    Arrived,
    Close,
    Completed,
    Connect,
    Fault,
    Received,
    Sent,
    Shutdown,
    Turn,
    Waited,
}

/// A hash over everything that was observable, in its order.
#[derive(Debug)]
pub(super) struct Log {
    hash: u64,
    is_told: bool,
}

impl Log {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            hash: mix(seed),
            is_told: false,
        }
    }

    /// Writes every further fact to stderr, too.
    pub(super) fn tell(&mut self) {
        self.is_told = true;
    }

    pub(super) fn note(&mut self, now: u64, what: Note, about: i64, result: u64) {
        self.fold(now);
        self.fold(what as u64);
        self.fold(about.cast_unsigned());
        self.fold(result);
        if self.is_told {
            eprintln!("{now} {what:?} {about} {}", result.cast_signed());
        }
    }

    pub(super) fn note_bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.fold(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.fold(u64::from_le_bytes(last));
        self.fold(bytes.len() as u64);
    }

    pub(super) fn hash(&self) -> u64 {
        mix(self.hash)
    }

    fn fold(&mut self, word: u64) {
        self.hash = (self.hash.rotate_left(23) ^ word).wrapping_mul(ODD);
    }
}

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_boundaries_count() {
        let hash_of = |pieces: &[&[u8]]| {
            let mut log = Log::new(1);
            pieces.iter().for_each(|piece| log.note_bytes(piece));
            log.hash()
        };
        assert_eq!(hash_of(&[b"ab", b"c"]), hash_of(&[b"ab", b"c"]));
        assert_ne!(hash_of(&[b"ab", b"c"]), hash_of(&[b"a", b"bc"]));
        assert_ne!(hash_of(&[b"ab", b"c"]), hash_of(&[b"c", b"ab"]));
        assert_ne!(hash_of(&[b"a\0"]), hash_of(&[b"a"]));
    }
}
