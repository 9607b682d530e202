//! Whether content goes past our memory: asked before each wait for more of it.

use super::body::{BodySource, Way};
use super::sink::BodySink;

/// From which lengths on it pays, in bytes; at least one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DetourLimits {
    /// Of content of a known length, as much as is still to come.
    pub content_bytes_min: u64,
    /// Of a chunk, as much as is still to come of it; of each chunk behind it that goes with it, all of it.
    pub chunk_bytes_min: u64,
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
    /// Content of which nothing is known yet.
    #[must_use]
    pub fn new(limits: DetourLimits) -> Self {
        Self {
            limits,
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
        if source.is_chunked() {
            self.limits.chunk_bytes_min
        } else {
            self.limits.content_bytes_min
        }
    }

    /// The way to the next hop.
    #[must_use]
    pub fn way(&self, sink: &BodySink<'_>) -> Way {
        Way {
            hop: sink.hop(),
            next_bytes_min: self.limits.chunk_bytes_min,
        }
    }
}
