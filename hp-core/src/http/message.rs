//! A view over what a connection has received: contiguous where a head needs it, uncopied where it may be.

use crate::rt::net::{Conn, Lent, Rx};
use crate::wire::http1::chunked::verbatim::Standing;
use std::future::{Future, poll_fn};
use std::io;
use std::mem::{forget, replace};
use std::task::{Context, Poll};

/// Received bytes that the protocol has not consumed.
///
/// A message that fits one receive buffer is read where the kernel put it. Only when a head spans two buffers are its
/// parts copied together.
#[derive(Debug, Default)]
pub struct Reader {
    held: Held,
}

#[derive(Debug, Default)]
enum Held {
    #[default]
    Nothing,
    Lent(Lent),
    Copied {
        bytes: Vec<u8>,
        consumed: usize,
    },
}

impl From<Vec<u8>> for Reader {
    /// A reader of bytes that somebody else received.
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            held: if bytes.is_empty() {
                Held::Nothing
            } else {
                Held::Copied { bytes, consumed: 0 }
            },
        }
    }
}

/// What [`Reader::fill`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// At least one more byte.
    More,
    /// The peer sends nothing more.
    Eof,
}

impl Reader {
    /// A reader that holds nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            held: Held::Nothing,
        }
    }

    /// Everything received and not consumed.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match &self.held {
            Held::Nothing => &[],
            Held::Lent(lent) => lent,
            Held::Copied { bytes, consumed } => &bytes[*consumed..],
        }
    }

    /// Whether nothing is there.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        matches!(self.held, Held::Nothing)
    }

    /// Drops the first `count` bytes (all when there are fewer); what becomes empty is given back at once.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        let is_empty = match &mut self.held {
            Held::Nothing => true,
            Held::Lent(lent) => {
                lent.advance(count);
                lent.is_empty()
            }
            Held::Copied { bytes, consumed } => {
                *consumed = consumed.saturating_add(count).min(bytes.len());
                *consumed == bytes.len()
            }
        };
        if is_empty {
            self.held = Held::Nothing;
        }
    }

    /// Waits for more bytes and puts them behind those that are there.
    ///
    /// # Errors
    /// As [`Conn::recv`].
    #[inline]
    pub fn fill(&mut self, conn: &Conn) -> impl Future<Output = io::Result<Filled>> + Unpin {
        poll_fn(|cx| self.poll_fill(conn, cx))
    }

    /// The same for futures that are made by hand.
    ///
    /// # Errors
    /// As [`Conn::recv`].
    #[inline]
    pub fn poll_fill(&mut self, conn: &Conn, cx: &Context<'_>) -> Poll<io::Result<Filled>> {
        conn.poll_recv(cx).map_ok(|received| match received {
            Rx::Eof => Filled::Eof,
            Rx::Data(lent) => {
                self.push(lent);
                Filled::More
            }
        })
    }

    /// Takes up to `count` bytes from the front as a piece, uncopied where possible.
    #[must_use]
    pub fn take(&mut self, count: usize) -> Piece {
        match std::mem::take(&mut self.held) {
            Held::Nothing => Piece::Copied(Vec::new()),
            Held::Lent(mut lent) if lent.len() > count => {
                let front = lent.split_to(count);
                self.held = Held::Lent(lent);
                Piece::Lent(front)
            }
            Held::Lent(lent) => Piece::Lent(lent),
            Held::Copied { bytes, consumed } => {
                let end = bytes.len().min(consumed.saturating_add(count));
                let piece = bytes[consumed..end].to_vec();
                if end < bytes.len() {
                    self.held = Held::Copied {
                        bytes,
                        consumed: end,
                    };
                }
                Piece::Copied(piece)
            }
        }
    }

    /// Gives the kernel's buffer back before a wait of unknown length: what is left is copied out.
    pub fn detach(&mut self) {
        if let Held::Lent(lent) = &self.held {
            self.held = Held::Copied {
                bytes: lent.to_vec(),
                consumed: 0,
            };
        }
    }

    /// The same, if other connections may soon want for buffers.
    #[inline]
    pub fn detach_if_scarce(&mut self) {
        if let Held::Lent(lent) = &self.held
            && lent.is_scarce()
        {
            self.detach();
        }
    }

    /// Puts bytes that the caller received behind those that are there.
    #[inline]
    pub fn push(&mut self, lent: Lent) {
        match &mut self.held {
            // To drop nothing would be a call.
            Held::Nothing => forget(replace(&mut self.held, Held::Lent(lent))),
            Held::Lent(_) | Held::Copied { .. } => self.push_copy(&lent),
        }
    }

    /// Puts a copy of bytes, at least one, behind those that are there.
    #[cold]
    pub(super) fn push_copy(&mut self, more: &[u8]) {
        debug_assert!(!more.is_empty(), "a reader that holds something has bytes");
        match &mut self.held {
            Held::Nothing => {
                let (bytes, consumed) = (more.to_vec(), 0);
                self.held = Held::Copied { bytes, consumed };
            }
            Held::Lent(first) => {
                let mut bytes = Vec::with_capacity((first.len() + more.len()).next_power_of_two());
                bytes.extend_from_slice(first);
                bytes.extend_from_slice(more);
                self.held = Held::Copied { bytes, consumed: 0 };
            }
            Held::Copied { bytes, consumed } => {
                bytes.drain(..*consumed);
                *consumed = 0;
                bytes.extend_from_slice(more);
            }
        }
    }
}

/// Bytes taken from a reader, to be sent on.
#[derive(Debug)]
pub enum Piece {
    /// Still in the receive buffer.
    Lent(Lent),
    /// Copied.
    Copied(Vec<u8>),
}

impl std::ops::Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Lent(lent) => lent,
            Self::Copied(bytes) => bytes,
        }
    }
}

/// A part of a body that was received, to be sent on.
#[derive(Debug)]
pub enum Part {
    /// Content, taken out of its framing.
    Content(Piece),
    /// A stretch of a chunked body with its lines, for a next hop that stands where it begins.
    Verbatim {
        /// As it was received.
        piece: Piece,
        /// How much of it is content, in bytes.
        content: u64,
        /// Where the next hop stands behind it.
        after: Standing,
    },
}

impl Part {
    /// How much content that is, in bytes.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        match self {
            Self::Content(piece) => piece.len() as u64,
            Self::Verbatim { content, .. } => *content,
        }
    }
}

impl Piece {
    /// Sends the piece on a connection.
    ///
    /// # Errors
    /// As [`Conn::write`].
    pub fn send(self, to: &Conn) -> io::Result<()> {
        match self {
            Self::Lent(lent) => to.queue(lent),
            Self::Copied(bytes) => to.write(&bytes),
        }
    }
}
