//! Request bodies: sent back as they come, or read and dropped. One piece is held at a time.

use std::io;

use hp_core::http::message::Filled;
use hp_core::wire::http1::chunked::{self, ChunkEvent, ChunkedDecoder};
use hp_core::wire::http1::error::ChunkError;
use hp_core::wire::http1::framing::BodyFraming;

use super::{BODY_TIMEOUT, Leave, REQUEST_TIMEOUT, Session};
use crate::answer::{self, Persistence};
use crate::request::Request;

impl Session {
    /// Answers with the request's own body, in the framing it came in; chunks that are all here are answered by their length.
    ///
    /// The answer begins with the first piece of the body. A client that does not read while it
    /// sends therefore stalls once the sockets' buffers are full: that is the price of bodies of any
    /// size in bounded memory.
    pub(super) async fn echo(
        &mut self,
        request: &Request,
        persistence: Persistence,
    ) -> Result<(), Leave> {
        self.invite(request)?;
        self.site.row.add_answers(200, 1);
        let framing = request.facts.framing;
        let mut head = Vec::new();
        answer::echo_head(&mut head, framing, persistence);
        match framing {
            BodyFraming::Chunked => self.echo_chunked(head, persistence).await,
            BodyFraming::Length(length) => self.echo_length(head, length).await,
            BodyFraming::Empty => Ok(self.put(&head)?),
        }
    }

    /// Reads the body to its end without looking at it.
    pub(super) async fn discard(&mut self, request: &Request) -> Result<(), Leave> {
        self.invite(request)?;
        match request.facts.framing {
            BodyFraming::Empty => (),
            BodyFraming::Length(mut left) => {
                while left > 0 {
                    self.more(Began::No).await?;
                    let len = at_most(self.reader.bytes().len(), left);
                    self.reader.consume(len);
                    left -= len as u64;
                }
            }
            BodyFraming::Chunked => {
                let mut decoder = ChunkedDecoder::new();
                while !decoder.is_ended() {
                    self.more(Began::No).await?;
                    let decoded = decode(&mut decoder, self.reader.bytes());
                    let (len, _content) = decoded.map_err(|e| Leave::Refuse(e.status()))?;
                    self.reader.consume(len);
                }
            }
        }
        Ok(())
    }

    /// Tells a client that waits for it to send its body. RFC 9110 §10.1.1.
    fn invite(&self, request: &Request) -> io::Result<()> {
        if request.facts.expect_continue && self.reader.is_empty() {
            self.put(answer::CONTINUE)?;
        }
        Ok(())
    }

    async fn echo_length(&mut self, mut head: Vec<u8>, mut left: u64) -> Result<(), Leave> {
        while left > 0 {
            let began = if head.is_empty() {
                Began::Yes
            } else {
                Began::No
            };
            self.more(began).await?;
            let bytes = self.reader.bytes();
            let len = at_most(bytes.len(), left);
            self.put_all([&head, &bytes[..len]])?;
            head.clear();
            self.reader.consume(len);
            left -= len as u64;
            self.flush().await?;
        }
        Ok(())
    }

    async fn echo_chunked(
        &mut self,
        mut head: Vec<u8>,
        persistence: Persistence,
    ) -> Result<(), Leave> {
        let mut decoder = ChunkedDecoder::new();
        while !decoder.is_ended() {
            let began = if head.is_empty() {
                Began::Yes
            } else {
                Began::No
            };
            self.more(began).await?;
            let bytes = self.reader.bytes();
            let decoded = decode(&mut decoder, bytes);
            // A client that has seen the head learns from the missing last chunk.
            let (len, content) = decoded.map_err(|error| match began {
                Began::No => Leave::Refuse(error.status()),
                Began::Yes => Leave::Gone,
            })?;
            // All of it is here: an answer with its length is the shorter one.
            let is_whole = began == Began::No && decoder.is_ended();
            if is_whole {
                head.clear();
                let length = BodyFraming::Length(content.total as u64);
                answer::echo_head(&mut head, length, persistence);
            }
            let mut size_line = [0; chunked::CHUNK_SIZE_LINE_MAX];
            let mut parts: [&[u8]; PIECES_MAX + 4] = [&[]; _];
            parts[0] = &head;
            for (part, (start, end)) in parts[2..].iter_mut().zip(content.pieces) {
                *part = &bytes[start..end];
            }
            if content.total > 0 && !is_whole {
                let size_line = chunked::chunk_size_line(&mut size_line, content.total);
                parts[1] = size_line;
                parts[PIECES_MAX + 2] = chunked::CHUNK_END;
            }
            if decoder.is_ended() && !is_whole {
                parts[PIECES_MAX + 3] = chunked::LAST_CHUNK;
            }
            if content.total > 0 || decoder.is_ended() {
                self.put_all(parts)?;
                head.clear();
            }
            self.reader.consume(len);
            self.flush().await?;
        }
        Ok(())
    }

    /// Waits until at least one byte of the body is here.
    async fn more(&mut self, began: Began) -> Result<(), Leave> {
        if !self.reader.is_empty() {
            return Ok(());
        }
        self.conn
            .set_deadline(Some(self.site.rt.now() + BODY_TIMEOUT));
        match self.reader.fill(&self.conn).await {
            Ok(Filled::More) => {
                self.count_received(0);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut && began == Began::No => {
                Err(Leave::Refuse(REQUEST_TIMEOUT))
            }
            Ok(Filled::Eof) | Err(_) => Err(Leave::Gone),
        }
    }
}

/// Whether the client has seen a part of its answer: then no status can be sent any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Began {
    No,
    Yes,
}

/// The content within one buffer of a chunked body: `total` bytes in `pieces`, as start and end.
#[derive(Clone, Copy, Debug)]
struct Content {
    pieces: [(usize, usize); PIECES_MAX],
    total: usize,
}

/// Finds the content in `bytes`, and how many of them that took.
fn decode(decoder: &mut ChunkedDecoder, bytes: &[u8]) -> Result<(usize, Content), ChunkError> {
    let mut content = Content {
        pieces: [(0, 0); PIECES_MAX],
        total: 0,
    };
    let mut at = 0;
    for piece in &mut content.pieces {
        let (len, event) = decoder.next(&bytes[at..])?;
        match event {
            ChunkEvent::Data(range) => {
                *piece = (at + range.start, at + range.end);
                content.total += range.len();
                at += len;
            }
            ChunkEvent::NeedMore | ChunkEvent::End => return Ok((at + len, content)),
        }
    }
    Ok((at, content))
}

fn at_most(len: usize, left: u64) -> usize {
    usize::try_from(left).map_or(len, |left| left.min(len))
}

/// Pieces of one buffer that go out as one chunk.
const PIECES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(bytes: &[u8]) -> (usize, Vec<&[u8]>) {
        let (len, content) = decode(&mut ChunkedDecoder::new(), bytes).unwrap();
        let pieces = content
            .pieces
            .iter()
            .map(|&(start, end)| &bytes[start..end]);
        (len, pieces.filter(|piece| !piece.is_empty()).collect())
    }

    #[test]
    fn content_of_a_buffer_is_found_in_its_place() {
        let (len, found) = pieces(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nGET");
        assert_eq!((len, found), (20, vec![&b"abc"[..], b"de"]));
    }

    #[test]
    fn more_pieces_than_one_chunk_takes_are_left_for_the_next() {
        let bytes = b"1\r\na\r\n".repeat(PIECES_MAX + 1);
        let (len, found) = pieces(&bytes);
        assert_eq!(found.len(), PIECES_MAX);
        assert!(len < bytes.len());
    }
}
