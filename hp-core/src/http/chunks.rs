//! A body in chunks being received, whose lines may be seen before it is their turn.

use super::body::BodyError;
use super::past::Past;
use crate::rt::net::{Arrived, Conn};
use crate::wire::http1::chunked::ChunkedDecoder;
use crate::wire::http1::lookahead::Lookahead;

/// What was read of a chunked body, and what was seen of it.
///
/// While something was seen, all that comes goes on as it is.
#[derive(Debug, Default)]
pub struct Chunks {
    pub(super) decoder: ChunkedDecoder,
    /// Content that went on so far.
    pub(super) passed: u64,
    /// Boxed, since few bodies need one.
    ahead: Option<Box<Lookahead>>,
}

impl Chunks {
    /// Takes note of content that goes on.
    pub(super) fn pass(&mut self, count: u64) {
        self.decoder.pass(count);
        self.passed += count;
    }

    /// Moves more into a pipe within a chunk, and with it the chunks behind it that have come, of at least so much content, lines and all;
    /// `None` at the peer's end.
    pub(super) async fn splice(
        &mut self,
        conn: &Conn,
        content_min: u64,
    ) -> Result<Option<Past>, BodyError> {
        let ahead = match &mut self.ahead {
            Some(ahead) => ahead,
            unset => {
                conn.keep_urgent_inline()?;
                unset.get_or_insert_default()
            }
        };
        let decoder = &mut self.decoder;
        let piped = conn.splice_in_seen(|arrived: Arrived<'_>| {
            let peek = |offset, buffer: &mut [u8]| arrived.peek(offset, buffer).unwrap_or(0);
            ahead.look(decoder, content_min, peek);
            usize::try_from(ahead.reach(decoder)).unwrap_or(usize::MAX)
        });
        let Some(piped) = piped.await? else {
            return Ok(None);
        };
        let passed = ahead.pass(decoder, piped.len() as u64);
        let mut passed = passed.map_err(BodyError::Chunk)?;
        let line = passed.line.bytes_mut();
        if !line.is_empty() {
            conn.recv_seen(line)?;
            decoder.next(line).map_err(BodyError::Chunk)?;
        }
        self.passed += passed.content;
        Ok(Some(Past::coded(piped, passed)))
    }

    /// What comes next is received.
    pub(super) fn look_no_further(&mut self) {
        if let Some(ahead) = &mut self.ahead {
            ahead.clear();
        }
    }
}
