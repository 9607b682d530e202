//! A body in chunks being received, and moved on in pipes with lines of ours between its chunks.

use super::body::BodyError;
use super::message::{Part, Reader};
use super::past::{Past, Shape, Tail};
use crate::rt::net::{Conn, Piped};
use crate::wire::http1::chunked::verbatim::Standing;
use crate::wire::http1::chunked::{
    CHUNK_BYTES_MAX, CHUNK_END, CHUNK_SIZE_LINE_MAX, ChunkEvent, ChunkedDecoder, chunk_size_line,
};

/// What was read of a chunked body.
#[derive(Debug, Default)]
pub struct Chunks {
    pub(super) decoder: ChunkedDecoder,
}

impl Chunks {
    /// Takes what has come as far as it may go on with its lines, to a hop that stands so.
    pub(super) fn take_verbatim(&mut self, reader: &mut Reader, hop: Standing) -> Option<Part> {
        let found = self.decoder.verbatim(reader.bytes(), hop)?;
        reader.consume(found.range.start);
        Some(Part::Verbatim {
            piece: reader.take(found.range.len()),
            content: found.content,
            after: found.after,
        })
    }

    /// Moves more into a pipe within a chunk, and behind it the chunks that have come, up to one of less content than `content_min`; `None`
    /// at the peer's end. Nothing may be left in the reader, which gets what is received with a line and does not go with it.
    ///
    /// ```text
    /// in the pipe   content  │ CRLF 4000 CRLF  abc │ content  │ CRLF 4000 CRLF  abc │ content
    /// moved there   uncopied │ written by us       │ uncopied │ written by us       │ uncopied
    /// ```
    pub(super) async fn splice(
        &mut self,
        (reader, conn): (&mut Reader, &Conn),
        content_min: u64,
    ) -> Result<Option<Past>, BodyError> {
        let left = usize::try_from(self.decoder.data_left()).unwrap_or(usize::MAX);
        let Some(piped) = conn.splice_in(left).await? else {
            return Ok(None);
        };
        self.decoder.pass(piped.len() as u64);
        let past = Past::in_chunks(piped);
        self.splice_behind(past, (reader, conn), content_min)
            .map(Some)
    }

    /// The same behind a chunk that has all of its content, here and at the next hop, without a wait; `None` where no line has come.
    pub(super) fn splice_at_once(
        &mut self,
        (reader, conn): (&mut Reader, &Conn),
        content_min: u64,
    ) -> Result<Option<Past>, BodyError> {
        if !conn.splices_now() {
            return Ok(None);
        }
        let Some(line) = self.take_line(reader, conn)? else {
            return Ok(None);
        };
        let mut past = Past::in_chunks(conn.empty_pipe());
        if self.splice_chunk(&mut past, line, (reader, conn), content_min) {
            past = self.splice_behind(past, (reader, conn), content_min)?;
        }
        Ok(Some(past))
    }

    /// Moves the chunks that have come behind what a pipe has.
    fn splice_behind(
        &mut self,
        mut past: Past,
        (reader, conn): (&mut Reader, &Conn),
        content_min: u64,
    ) -> Result<Past, BodyError> {
        let mut lines = 0;
        while self.decoder.data_left() == 0 && lines < LINES_MAX && past.piped.len() < PIPED_BYTES {
            let Some(line) = self.take_line(reader, conn)? else {
                break;
            };
            lines += 1;
            if !self.splice_chunk(&mut past, line, (reader, conn), content_min) {
                break;
            }
        }
        Ok(past)
    }

    /// Puts a line into a pipe, and behind it what has come of the chunk; says whether more may go behind that.
    fn splice_chunk(
        &mut self,
        past: &mut Past,
        line: Tail,
        (reader, conn): (&Reader, &Conn),
        content_min: u64,
    ) -> bool {
        past.content += line.bytes().len() as u64;
        let left = self.decoder.data_left();
        if !push_line(&mut past.piped, &line, left) {
            past.shape = Shape::Chunks(Some(line));
            return false;
        }
        if left < content_min || !reader.is_empty() {
            return false;
        }
        let room = PIPED_BYTES.saturating_sub(past.piped.len());
        let bytes_max = usize::try_from(left).map_or(room, |left| left.min(room));
        let more = conn.splice_more(&mut past.piped, bytes_max) as u64;
        self.decoder.pass(more);
        past.content += more;
        true
    }

    /// Receives the line behind a chunk, as far as it has come, and with it a few bytes of what follows: in one call, for most lines. Of that, content of
    /// the chunk goes with the line, and all else to the reader. `None` where the line has not come whole.
    fn take_line(&mut self, reader: &mut Reader, conn: &Conn) -> Result<Option<Tail>, BodyError> {
        let mut buffer = [0; LINE_READ_BYTES];
        // An extension or trailers are better received together with what follows.
        while self.decoder.bytes_between() > 0 {
            let count = conn.recv_more(&mut buffer);
            if count == 0 {
                return Ok(None);
            }
            let (read, event) = self
                .decoder
                .next(&buffer[..count])
                .map_err(BodyError::Chunk)?;
            if read < count {
                reader.push_copy(&buffer[read..count]); // Of the next line already, or of what the peer sends behind the body.
            }
            match event {
                ChunkEvent::Data(range) => {
                    return Ok(Some(Tail::of(&buffer[range])));
                }
                ChunkEvent::NeedMore if self.decoder.data_left() > 0 => {
                    return Ok(Some(Tail::of(&[])));
                }
                ChunkEvent::NeedMore if count < buffer.len() => return Ok(None), // There was no more.
                ChunkEvent::NeedMore | ChunkEvent::End => (),
            }
        }
        Ok(None)
    }
}

/// Puts a line behind a chunk in a pipe, and the first content of the next one, of which so much is still to come; says whether it is there.
/// A chunk that is too long to be announced is not begun here.
fn push_line(piped: &mut Piped, begun: &Tail, left: u64) -> bool {
    let begun = begun.bytes();
    let Some(size) = usize::try_from(left)
        .ok()
        .map(|left| left.saturating_add(begun.len()))
        .filter(|size| *size <= CHUNK_BYTES_MAX)
    else {
        return false;
    };
    let mut space = [0; CHUNK_SIZE_LINE_MAX];
    let line = chunk_size_line(&mut space, size);
    let mut bytes = [0; CHUNK_END.len() + CHUNK_SIZE_LINE_MAX + LINE_READ_BYTES];
    let mut end = 0;
    for part in [CHUNK_END, line, begun] {
        bytes[end..end + part.len()].copy_from_slice(part);
        end += part.len();
    }
    piped.push(&bytes[..end])
}

/// What is received at once of a line and the content behind it.
pub(super) const LINE_READ_BYTES: usize = 16;
/// In one pipe.
const LINES_MAX: u32 = 32;
/// What one pipe gets: as much as a large one.
const PIPED_BYTES: usize = 256 * 1024;
