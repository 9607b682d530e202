//! A part of a body that went past our memory.

use super::chunks::LINE_READ_BYTES;
use crate::rt::net::Piped;

/// Content in a pipe. To a hop that gets chunks it is one, or goes on in one that was announced.
#[derive(Debug)]
pub struct Past {
    /// Where it is.
    pub piped: Piped,
    /// How much content that is, and what is behind it, in bytes.
    pub content: u64,
    /// What comes next and is announced already, in bytes: with what was begun, else with what is in the pipe.
    pub(super) follows: u64,
    /// Whether the end of the chunk stands behind it, in the pipe.
    pub(super) is_closed: bool,
    /// The first content of the chunk behind it, which has no room in the pipe.
    pub(super) begun: Option<Tail>,
}

/// A few bytes of content that were received with the line before them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tail {
    bytes: [u8; LINE_READ_BYTES],
    len: usize,
}

impl Tail {
    pub(super) fn of(content: &[u8]) -> Self {
        let mut bytes = [0; LINE_READ_BYTES];
        bytes[..content.len()].copy_from_slice(content);
        let len = content.len();
        Self { bytes, len }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Past {
    pub(super) fn plain(piped: Piped) -> Self {
        Self {
            content: piped.len() as u64,
            piped,
            follows: 0,
            is_closed: false,
            begun: None,
        }
    }

    /// How much content came, as a length in memory.
    pub(super) fn content_bytes(&self) -> usize {
        usize::try_from(self.content).unwrap_or(usize::MAX)
    }
}
