//! A part of a body that went past our memory.

use super::chunks::LINE_READ_BYTES;
use crate::rt::net::Piped;

/// Content in a pipe, with the lines between its chunks or without any.
#[derive(Debug)]
pub struct Past {
    /// Where it is.
    pub piped: Piped,
    /// How much content that is, and what is behind it.
    pub content: u64,
    pub(super) shape: Shape,
}

/// How content stands in a pipe.
#[derive(Debug)]
pub(super) enum Shape {
    /// Nothing else: of a known length, or of one chunk.
    Plain,
    /// As the next hop gets it, from within a chunk to within a chunk or to the end of one. What was received behind that one is the first content of
    /// the next chunk, whose line is not in the pipe.
    Chunks(Option<Tail>),
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
            shape: Shape::Plain,
        }
    }

    /// What comes behind it is still to be added.
    pub(super) fn in_chunks(piped: Piped) -> Self {
        Self {
            content: piped.len() as u64,
            piped,
            shape: Shape::Chunks(None),
        }
    }
}
