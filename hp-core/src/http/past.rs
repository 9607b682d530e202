//! A part of a body that went past our memory.

use crate::rt::net::Piped;
use crate::wire::http1::lookahead::{LineRest, Passed};

/// Content in a pipe, with the lines between its chunks or without any.
#[derive(Debug)]
pub struct Past {
    /// Where it is.
    pub piped: Piped,
    /// How much of it is content.
    pub content: u64,
    /// In chunks: the line that follows it, or the rest of it, where one was begun or follows. It is not in the pipe.
    pub(super) line: Option<LineRest>,
}

impl Past {
    /// Nothing but content, of a known length or of one chunk.
    pub(super) fn plain(piped: Piped) -> Self {
        Self {
            content: piped.len() as u64,
            piped,
            line: None,
        }
    }

    /// Chunks as they came.
    pub(super) fn coded(piped: Piped, passed: Passed) -> Self {
        Self {
            piped,
            content: passed.content,
            line: Some(passed.line),
        }
    }
}
