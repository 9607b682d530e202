//! Whether content goes past our memory: asked before each wait for more of it.

use super::body::{BodySource, Way};
use super::sink::{BodyCoding, BodySink};
use crate::rt::Engine;
use crate::rt::net::Conn;

/// From which lengths on it pays, in bytes; at least one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DetourLimits {
    /// Of content of a known length, as much as is still to come; and of content in chunks, as much as has gone on: it is long, then.
    pub content_bytes_min: u64,
    /// Of a chunk, as much as is still to come of it.
    pub chunk_bytes_min: u64,
    /// On a ring the same within long content, and of each chunk behind it that goes with it.
    pub ring_chunk_bytes_min: u64,
}

/// The way that one message's content takes.
///
/// ```text
/// Off ─much is still to come─► On ─a chunk has all of it─► Between ─much follows─► On
///                                                             └─little follows─► Off
/// ```
#[derive(Debug)]
pub struct Detour {
    limits: DetourLimits,
    /// Of a chunk within long content.
    next_bytes_min: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Off,
    On,
    /// Behind a chunk that took the detour.
    Between,
}

impl Detour {
    /// Content of which nothing is known but where it comes from, and how it is framed for the next hop.
    #[must_use]
    pub fn new(limits: DetourLimits, from: &Conn, coding: BodyCoding) -> Self {
        let is_ring = from.rt().engine() == Engine::Uring;
        let next_bytes_min = match coding {
            BodyCoding::Chunked if is_ring => limits.ring_chunk_bytes_min,
            BodyCoding::Chunked | BodyCoding::Plain => limits.chunk_bytes_min,
        };
        Self {
            limits,
            next_bytes_min,
            state: State::Off,
        }
    }

    /// Whether what comes next of the content takes the detour.
    pub fn takes(&mut self, source: &BodySource) -> bool {
        let left = source.plain_left();
        self.state = match self.state {
            State::On | State::Between if left == 0 => State::Between,
            State::On => State::On,
            State::Off | State::Between if left >= self.bytes_min(source).max(1) => State::On,
            State::Off | State::Between => State::Off,
        };
        self.state != State::Off
    }

    fn bytes_min(&self, source: &BodySource) -> u64 {
        if !source.is_chunked() {
            return self.limits.content_bytes_min;
        }
        let is_long = source.passed_in_chunks() >= self.limits.content_bytes_min;
        if is_long {
            self.next_bytes_min
        } else {
            self.limits.chunk_bytes_min
        }
    }

    /// The way to the next hop.
    #[must_use]
    pub fn way(&self, sink: &BodySink<'_>) -> Way {
        Way {
            chunk_left: sink.chunk_left(),
            next_bytes_min: self.next_bytes_min,
        }
    }
}
