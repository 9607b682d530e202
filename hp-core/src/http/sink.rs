//! A message on its way to the next hop: pieces of content, framed as that needs it.
//!
//! Holds what is too small to be sent by itself, and what the destination's socket did not take. Knows no policy and no deadline of its own:
//! the connection carries its own.

use super::message::Part;
use super::past::Past;
use crate::rt::net::Conn;
use crate::wire::http1::chunked::verbatim::Standing;
use crate::wire::http1::chunked::{
    CHUNK_BYTES_MAX, CHUNK_END, CHUNK_SIZE_LINE_MAX, chunk_size_line, last_chunk_with_trailers,
};
use crate::wire::http1::framing::BodyFraming;
use std::io::{self, IoSlice};

/// How a body is framed for the next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyCoding {
    /// Bytes as they are: the length was declared, or closing ends it.
    Plain,
    /// In chunks.
    Chunked,
}

impl BodyCoding {
    /// That of a request, which the next hop gets framed as it came.
    #[must_use]
    pub fn of(framing: BodyFraming) -> Self {
        match framing {
            BodyFraming::Chunked => Self::Chunked,
            BodyFraming::Empty | BodyFraming::Length(_) => Self::Plain,
        }
    }
}

/// A message being sent: small pieces gather behind the head, large ones leave uncopied.
#[derive(Debug)]
pub struct BodySink<'a> {
    conn: &'a Conn,
    gathered: &'a mut Vec<u8>,
    coding: BodyCoding,
    /// Where the next hop is in the chunks; without the coding always between two.
    hop: Standing,
    /// Bytes that the connection was given, the head's included.
    written: u64,
}

impl<'a> BodySink<'a> {
    /// `gathered` holds the message's head, not sent yet, or nothing.
    pub fn new(conn: &'a Conn, gathered: &'a mut Vec<u8>, coding: BodyCoding) -> Self {
        Self {
            conn,
            gathered,
            coding,
            hop: Standing::Between,
            written: 0,
        }
    }

    /// Bytes that were written to the connection, the head's included; they may not have left it.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Adds a part of the body, directly behind which follows so much more content; sends unless it is small.
    ///
    /// # Errors
    /// As [`Conn::write`].
    pub fn put(&mut self, part: Part, follows: u64) -> io::Result<()> {
        let (piece, after) = match part {
            Part::Content(piece) if piece.is_empty() => return Ok(()), // An empty chunk would end the body.
            Part::Content(piece) => {
                self.begin_chunk(piece.len(), follows);
                (piece, self.take_chunk_end())
            }
            Part::Verbatim { piece, after, .. } => {
                self.hop = after;
                (piece, &[][..])
            }
        };
        if piece.len() <= COPY_MAX {
            self.gathered.extend_from_slice(&piece);
            self.gathered.extend_from_slice(after);
            return if self.gathered.len() < GATHER_MAX {
                Ok(())
            } else {
                self.push()
            };
        }
        if self.gathered.is_empty() && after.is_empty() {
            self.written += piece.len() as u64;
            return piece.send(self.conn);
        }
        let segments = [
            IoSlice::new(self.gathered),
            IoSlice::new(&piece),
            IoSlice::new(after),
        ];
        self.written += segments
            .iter()
            .map(|segment| segment.len() as u64)
            .sum::<u64>();
        self.conn.write_vectored(&segments)?;
        self.gathered.clear();
        Ok(())
    }

    /// Sends what has been gathered, for what is in a pipe goes to the connection next.
    ///
    /// # Errors
    /// As [`Conn::write`].
    pub fn announce(&mut self, past: &Past) -> io::Result<()> {
        let end = if past.is_closed { CHUNK_END.len() } else { 0 };
        let (follows, follows_begun) = match past.begun {
            None => (past.follows, 0),
            Some(_) => (0, past.follows),
        };
        self.begin_chunk(past.piped.len() - end, follows);
        if !self.gathered.is_empty() && !past.piped.is_empty() {
            self.written += self.gathered.len() as u64;
            self.conn.write_before_more(self.gathered)?;
            self.gathered.clear();
        }
        if past.is_closed {
            let hop = self.hop;
            assert_eq!(hop, Standing::Within(0), "an end elsewhere is content");
            self.hop = Standing::Between;
        }
        if let Some(begun) = &past.begun {
            self.begin_chunk(begun.bytes().len(), follows_begun);
            self.gathered.extend_from_slice(begun.bytes());
        }
        Ok(())
    }

    /// Where the next hop is in the chunks; `None` where it gets none.
    #[must_use]
    pub fn hop(&self) -> Option<Standing> {
        (self.coding == BodyCoding::Chunked).then_some(self.hop)
    }

    /// Counts content as the chunk's that it belongs to, which begins with it unless one has begun. No content begins none where nothing follows, or too much
    /// to be announced: its line would be that of the last one.
    fn begin_chunk(&mut self, len: usize, follows: u64) {
        if self.coding == BodyCoding::Plain {
            return;
        }
        self.end_chunk();
        let left = if let Standing::Within(left) = self.hop {
            left
        } else {
            debug_assert_eq!(self.hop, Standing::Between, "nothing is behind the end");
            let mut space = [0; CHUNK_SIZE_LINE_MAX];
            let whole = (len as u64).saturating_add(follows);
            let size = match usize::try_from(whole) {
                Ok(whole @ 1..=CHUNK_BYTES_MAX) => whole,
                _ if len == 0 => return,
                _ => len,
            };
            self.gathered
                .extend_from_slice(chunk_size_line(&mut space, size));
            size as u64
        };
        debug_assert!(len as u64 <= left, "what follows was told before");
        self.hop = Standing::Within(left.saturating_sub(len as u64));
    }

    /// Gathers the end of a chunk that has all of its content.
    fn end_chunk(&mut self) {
        let end = self.take_chunk_end();
        self.gathered.extend_from_slice(end);
    }

    /// What stands behind a chunk that has all of its content; nothing where none has.
    fn take_chunk_end(&mut self) -> &'static [u8] {
        if self.hop != Standing::Within(0) {
            return &[];
        }
        self.hop = Standing::Between;
        CHUNK_END
    }

    /// Ends the content, unless its end went with a part of it.
    ///
    /// # Errors
    /// As [`Conn::write`].
    pub fn end(&mut self, trailers: &[u8]) -> io::Result<()> {
        self.end_chunk();
        if self.coding == BodyCoding::Chunked && self.hop != Standing::Ended {
            last_chunk_with_trailers(self.gathered, trailers);
        }
        self.push()
    }

    /// Sends what has been gathered.
    ///
    /// # Errors
    /// As [`Conn::write`].
    pub fn push(&mut self) -> io::Result<()> {
        self.end_chunk();
        if !self.gathered.is_empty() {
            self.written += self.gathered.len() as u64;
            self.conn.write(self.gathered)?;
            self.gathered.clear();
        }
        Ok(())
    }

    /// Waits until the socket has taken everything that was sent.
    ///
    /// # Errors
    /// As [`Conn::flush`].
    pub async fn drained(&self) -> io::Result<()> {
        if self.conn.queued() > 0 {
            self.conn.flush().await
        } else {
            Ok(())
        }
    }
}

/// A piece up to this size is copied behind the head: cheaper than a second segment.
const COPY_MAX: usize = 2048;
/// Gathered bytes are sent when they reach this.
const GATHER_MAX: usize = 8192;
