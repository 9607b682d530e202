//! A body in chunks being received, and moved on in pipes: the chunks that have come go as one.

use super::body::{BodyError, Spliced, Way};
use super::message::{Part, Reader};
use super::past::{Past, Tail};
use crate::rt::net::Conn;
use crate::wire::http1::chunked::verbatim::Standing;
use crate::wire::http1::chunked::{BYTES_BETWEEN_MAX, CHUNK_END, ChunkEvent, ChunkedDecoder};

/// What was read of a chunked body.
#[derive(Debug, Default)]
pub struct Chunks {
    pub(super) decoder: ChunkedDecoder,
    /// What was received of the line in work, in bytes.
    line_bytes: usize,
    /// May not be that of the chunk in work, which may have been received otherwise.
    last: Option<Line>,
}

/// The last line that was received for a pipe. The next one is mostly as long, and says mostly the same.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// In bytes, with the end of the chunk before it.
    len: usize,
    /// Content of the chunk behind it, in bytes.
    size: u64,
}

/// Whether more goes into a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum More {
    /// All that was asked for had come.
    Likely,
    /// There was less: no more has come, or the pipe takes no more.
    NotYet,
    /// It is full, or what follows goes another way.
    Not,
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

    /// Waits for content, or for the line before it, and moves content into a pipe: of one chunk, and of those that have come behind it, up to one that is
    /// short. Nothing may be left in the reader, which gets what is received with a line and does not go with it.
    ///
    /// One chunk alone goes on as it is, however much of it has come. Of several the next hop gets one, which has just what has come:
    ///
    /// ```text
    /// received   4000 CRLF │ content │ CRLF 4000 CRLF │ content │ CRLF 4000 CRLF │ content, not all of it yet
    /// in a pipe              content │                  content │                  content │ CRLF
    /// before it  9c40 CRLF
    /// ```
    pub(super) async fn splice(
        &mut self,
        (reader, conn): (&mut Reader, &Conn),
        way: Way,
    ) -> Result<Spliced, BodyError> {
        let left = self.decoder.data_left();
        if left > 0 {
            let wanted = room_for(left, 0);
            let Some(piped) = conn.splice_in(wanted).await? else {
                return Err(BodyError::Truncated);
            };
            self.decoder.pass(piped.len() as u64);
            let more = More::after(piped.len(), wanted);
            let past = self.splice_behind((Past::plain(piped), more), (reader, conn), way)?;
            return Ok(Spliced::Content(past));
        }
        let count = self.await_line(conn).await?;
        if count == 0 {
            return Ok(Spliced::Nothing);
        }
        let past = self.splice_what_came((reader, conn), way)?;
        Ok(past.map_or(Spliced::Between(count), Spliced::Content))
    }

    /// The same without a wait; `None` where no content has come, or its chunk is short.
    pub(super) fn splice_at_once(
        &mut self,
        (reader, conn): (&mut Reader, &Conn),
        way: Way,
    ) -> Result<Option<Past>, BodyError> {
        let may_go = match self.decoder.data_left() {
            0 => self.decoder.bytes_between() > 0,
            _ => self.goes_on(reader, way),
        };
        if !may_go || !conn.splices_now() {
            return Ok(None);
        }
        self.splice_what_came((reader, conn), way)
    }

    /// Moves what has come into a pipe, which is taken once there is something for it.
    fn splice_what_came(
        &mut self,
        (reader, conn): (&mut Reader, &Conn),
        way: Way,
    ) -> Result<Option<Past>, BodyError> {
        let begun = if self.decoder.data_left() > 0 {
            Tail::of(&[])
        } else {
            match self.take_line(reader, conn)? {
                Some(begun) => begun,
                None => return Ok(None),
            }
        };
        if begun.bytes().is_empty() && !self.goes_on(reader, way) {
            return Ok(None);
        }
        let mut past = Past::plain(conn.empty_pipe());
        let more = self.begin(&mut past, begun, (reader, way));
        let past = self.splice_behind((past, more), (reader, conn), way)?;
        Ok((past.content > 0).then_some(past))
    }

    /// Moves what has come behind what a pipe has.
    fn splice_behind(
        &mut self,
        (mut past, mut more): (Past, More),
        (reader, conn): (&mut Reader, &Conn),
        way: Way,
    ) -> Result<Past, BodyError> {
        let mut chunks = u32::from(past.content > 0 || self.decoder.data_left() > 0);
        while more == More::Likely {
            more = if self.decoder.data_left() > 0 {
                self.splice_more(&mut past, conn)
            } else if chunks < CHUNKS_MAX && self.may_follow(past.piped.len()) {
                match self.take_line(reader, conn)? {
                    Some(begun) => {
                        chunks += 1;
                        self.begin(&mut past, begun, (reader, way))
                    }
                    None if self.decoder.bytes_between() > 0 => More::NotYet,
                    None => More::Not, // What comes is received.
                }
            } else {
                More::Not
            };
        }
        if chunks == 1 {
            past.follows = self.decoder.data_left(); // Whoever wants all of it waits for the peer.
        }
        let is_complete = past.follows == 0 && past.begun.is_none() && !past.piped.is_empty();
        if more == More::NotYet && is_complete && way.hop.is_some() {
            past.is_closed = past.piped.push(CHUNK_END); // The chunks that are here do not wait for one that is not.
        }
        Ok(past)
    }

    /// Whether another chunk goes into a pipe that has so many bytes: where it will have room for one like the last, or is not nearly full. A chunk that is
    /// cut takes a call more.
    fn may_follow(&self, piped: usize) -> bool {
        let size = self.last.map_or(1, |line| line.size);
        let room = PIPED_BYTES.saturating_sub(piped) as u64;
        room >= size || room > 0 && piped < NEARLY_FULL_BYTES
    }

    /// Puts what came of a chunk with its line into a pipe.
    fn begin(&self, past: &mut Past, begun: Tail, (reader, way): (&Reader, Way)) -> More {
        let content = begun.bytes();
        past.content += content.len() as u64;
        if !content.is_empty() && !past.piped.push(content) {
            past.begun = Some(begun);
            return More::Not;
        }
        if self.goes_on(reader, way) {
            More::Likely
        } else {
            More::Not
        }
    }

    /// Whether what is to come of the chunk in work goes past.
    fn goes_on(&self, reader: &Reader, way: Way) -> bool {
        let is_long = |line: Line| line.size >= way.next_bytes_min;
        self.last.is_some_and(is_long) && reader.is_empty()
    }

    /// Moves more of a chunk's content behind what is in a pipe.
    fn splice_more(&mut self, past: &mut Past, conn: &Conn) -> More {
        let wanted = room_for(self.decoder.data_left(), past.piped.len());
        if wanted == 0 {
            return More::Not;
        }
        let count = conn.splice_more(&mut past.piped, wanted);
        self.decoder.pass(count as u64);
        past.content += count as u64;
        More::after(count, wanted)
    }

    /// Waits for what stands before content; says how many bytes of it have come, 0 where what comes next has to be received.
    async fn await_line(&mut self, conn: &Conn) -> Result<usize, BodyError> {
        let mut line = [0; BYTES_BETWEEN_MAX];
        let wanted = self.decoder.bytes_between();
        if wanted == 0 {
            return Ok(0);
        }
        let count = conn.recv_between(&mut line[..wanted]).await?;
        if count == 0 {
            return Err(BodyError::Truncated);
        }
        let (_all, _no_content) = self
            .decoder
            .next(&line[..count])
            .map_err(BodyError::Chunk)?;
        let _is_whole = self.note(count, 0);
        Ok(count)
    }

    /// Receives the line behind a chunk, as far as it has come: in one call, for most lines. A line that is shorter than the last one comes with a few bytes
    /// of what follows. Of that, content of the chunk is returned, and all else goes to the reader. `None` where the line has not come whole.
    fn take_line(&mut self, reader: &mut Reader, conn: &Conn) -> Result<Option<Tail>, BodyError> {
        let mut buffer = [0; LINE_READ_BYTES];
        let mut expected = self.last.map_or(LINE_READ_BYTES, |line| {
            line.len.saturating_sub(self.line_bytes)
        });
        // An extension or trailers are better received together with what follows.
        while self.decoder.bytes_between() > 0 {
            let wanted = expected.clamp(self.decoder.bytes_between(), LINE_READ_BYTES);
            let received = &mut buffer[..wanted];
            let count = conn.recv_more(received);
            if count == 0 {
                return Ok(None);
            }
            let (read, event) = self
                .decoder
                .next(&received[..count])
                .map_err(BodyError::Chunk)?;
            if read < count {
                reader.push_copy(&received[read..count]); // Of the next line already, or of what the peer sends behind the body.
            }
            let content = match event {
                ChunkEvent::Data(content) => content,
                ChunkEvent::NeedMore | ChunkEvent::End => count..count,
            };
            if self.note(content.start, content.len()) {
                return Ok(Some(Tail::of(&received[content])));
            }
            if count < wanted {
                return Ok(None); // There was no more.
            }
            expected = 0;
        }
        Ok(None)
    }

    /// Takes note of bytes of a line, and of content that came with its end; says whether the line has come whole.
    fn note(&mut self, line: usize, content: usize) -> bool {
        self.line_bytes += line;
        let size = self.decoder.data_left() + content as u64;
        if size > 0 {
            let len = std::mem::take(&mut self.line_bytes);
            self.last = Some(Line { len, size });
        }
        size > 0
    }
}

impl More {
    fn after(count: usize, wanted: usize) -> Self {
        if count < wanted {
            Self::NotYet
        } else {
            Self::Likely
        }
    }
}

/// How much of so much content a pipe gets that has so many bytes already.
fn room_for(left: u64, piped: usize) -> usize {
    let room = PIPED_BYTES.saturating_sub(piped);
    usize::try_from(left).map_or(room, |left| left.min(room))
}

/// What is received at most of a line and the content behind it.
pub(super) const LINE_READ_BYTES: usize = 16;
/// In one pipe.
const CHUNKS_MAX: u32 = 32;
/// What one pipe gets: as much as a large one.
const PIPED_BYTES: usize = 256 * 1024;
/// A pipe with so much is sent before it gets a chunk that it has no room for.
const NEARLY_FULL_BYTES: usize = PIPED_BYTES / 4 * 3;
const _: () = assert!(BYTES_BETWEEN_MAX <= LINE_READ_BYTES);
