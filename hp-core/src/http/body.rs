//! A body being received: its pieces, taken out of the framing that it has.
//!
//! Holds at most one receive buffer. Knows no policy and no deadline of its own: the connection carries its own.

use super::chunks::Chunks;
use super::message::{Filled, Part, Piece, Reader};
use super::past::Past;
use crate::rt::net::Conn;
use crate::wire::http1::chunked::ChunkEvent;
use crate::wire::http1::chunked::verbatim::Standing;
use crate::wire::http1::error::ChunkError;
use crate::wire::http1::framing::{BodyFraming, ResponseFraming};
use std::fmt;
use std::io;

/// A body being received.
#[derive(Debug)]
pub enum BodySource {
    /// This many bytes are still to come.
    Length(u64),
    /// Until the last chunk.
    Chunked(Chunks),
    /// Until the peer closes.
    UntilClose,
    /// All of it was received.
    Ended,
}

/// Why a body is not whole.
#[derive(Debug)]
pub enum BodyError {
    /// The connection failed, or its deadline came.
    Io(io::Error),
    /// The peer closed before the end.
    Truncated,
    /// The chunked coding is broken.
    Chunk(ChunkError),
}

/// Where content goes that takes the detour.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// Where the next hop is in the chunks; `None` where it gets none.
    pub hop: Option<Standing>,
    /// How much content each chunk has at least that goes with one before it, in bytes.
    pub next_bytes_min: u64,
}

/// What [`BodySource::splice`] came to.
#[derive(Debug)]
pub enum Spliced {
    /// Content, in a pipe.
    Content(Past),
    /// So many bytes of the coding, and no content.
    Between(usize),
    /// What comes next has to be received.
    Nothing,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the connection failed in the middle of a body: {error}"),
            Self::Truncated => f.write_str("the peer closed in the middle of a body"),
            Self::Chunk(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BodyError {}

impl From<io::Error> for BodyError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<BodyFraming> for BodySource {
    fn from(framing: BodyFraming) -> Self {
        match framing {
            BodyFraming::Empty | BodyFraming::Length(0) => Self::Ended,
            BodyFraming::Length(length) => Self::Length(length),
            BodyFraming::Chunked => Self::Chunked(Chunks::default()),
        }
    }
}

impl From<ResponseFraming> for BodySource {
    fn from(framing: ResponseFraming) -> Self {
        match framing {
            ResponseFraming::Empty | ResponseFraming::Length(0) => Self::Ended,
            ResponseFraming::Length(length) => Self::Length(length),
            ResponseFraming::Chunked => Self::Chunked(Chunks::default()),
            ResponseFraming::UntilClose => Self::UntilClose,
        }
    }
}

impl BodySource {
    /// Takes the next piece out of what has been received; `None` when more must be received first, or all was.
    ///
    /// # Errors
    /// [`BodyError::Chunk`].
    pub fn take_received(&mut self, reader: &mut Reader) -> Result<Option<Piece>, BodyError> {
        let available = reader.bytes().len();
        match self {
            Self::Ended => Ok(None),
            _ if available == 0 => Ok(None),
            Self::UntilClose => Ok(Some(reader.take(available))),
            Self::Length(left) => {
                let count = usize::try_from(*left).map_or(available, |left| left.min(available));
                self.pass(count as u64);
                Ok(Some(reader.take(count)))
            }
            Self::Chunked(chunks) => {
                let (consumed, event) = chunks
                    .decoder
                    .next(reader.bytes())
                    .map_err(BodyError::Chunk)?;
                match event {
                    ChunkEvent::Data(range) => {
                        reader.consume(range.start);
                        Ok(Some(reader.take(range.len())))
                    }
                    ChunkEvent::NeedMore | ChunkEvent::End => {
                        reader.consume(consumed);
                        Ok(None)
                    }
                }
            }
        }
    }

    /// Takes the next part, for a next hop that is there in the chunks, or gets none: with the lines as they came where those are as ours would be.
    /// `None` as for [`BodySource::take_received`].
    ///
    /// # Errors
    /// [`BodyError::Chunk`].
    pub fn take_part(
        &mut self,
        reader: &mut Reader,
        hop: Option<Standing>,
    ) -> Result<Option<Part>, BodyError> {
        if let (Self::Chunked(chunks), Some(hop)) = (&mut *self, hop)
            && let Some(part) = chunks.take_verbatim(reader, hop)
        {
            return Ok(Some(part));
        }
        Ok(self.take_received(reader)?.map(Part::Content))
    }

    /// Receives more; the end of the peer's data ends a body that lasts until then.
    ///
    /// # Errors
    /// [`BodyError::Truncated`], [`BodyError::Io`].
    pub async fn receive(&mut self, reader: &mut Reader, conn: &Conn) -> Result<(), BodyError> {
        if self.is_chunked() {
            conn.end_splicing(); // The chunk before may have gone past.
        }
        match (reader.fill(conn).await?, &self) {
            (Filled::More, _) => Ok(()),
            (Filled::Eof, Self::UntilClose) => {
                *self = Self::Ended;
                Ok(())
            }
            (Filled::Eof, _) => Err(BodyError::Truncated),
        }
    }

    /// Moves more into a pipe, where what follows is content of a known length, or reads what stands between two chunks. Nothing that was
    /// received may be left; what is received of lines and of what stands behind them, and does not go with the content, is there afterwards.
    ///
    /// # Errors
    /// As [`BodySource::receive`], [`BodyError::Chunk`].
    pub async fn splice(
        &mut self,
        (reader, conn): (&mut Reader, &Conn),
        way: Way,
    ) -> Result<Spliced, BodyError> {
        let left = self.plain_left();
        let spliced = match (&mut *self, way.hop) {
            (Self::Chunked(_), Some(Standing::Within(announced @ 1..))) if left > 0 => {
                debug_assert!(announced <= left, "no more is announced than comes");
                self.fill_pipe(conn, left.min(announced)).await
            }
            (Self::Chunked(chunks), _) => chunks.splice((reader, conn), way).await,
            _ if left == 0 => Ok(Spliced::Nothing),
            _ => self.fill_pipe(conn, left).await,
        };
        match &spliced {
            Err(BodyError::Io(error)) if error.kind() == io::ErrorKind::Unsupported => {
                conn.end_splicing();
                Ok(Spliced::Nothing)
            }
            _ if self.plain_left() > 0 || self.bytes_between() > 0 => spliced,
            _ => {
                conn.end_splicing(); // What follows is the head of a message, or trailers.
                spliced
            }
        }
    }

    /// Moves what has come of a chunked body into a pipe, where what came before went past and nothing was sent behind it, without a wait; `None` where
    /// nothing has come. Nothing that was received may be left, as in [`BodySource::splice`].
    ///
    /// # Errors
    /// [`BodyError::Chunk`].
    pub fn splice_at_once(
        &mut self,
        (reader, conn): (&mut Reader, &Conn),
        way: Way,
    ) -> Result<Option<Past>, BodyError> {
        let (Self::Chunked(chunks), Some(Standing::Within(0))) = (&mut *self, way.hop) else {
            return Ok(None);
        };
        let past = chunks.splice_at_once((reader, conn), way)?;
        if self.plain_left() == 0 && self.bytes_between() == 0 {
            conn.end_splicing(); // As above.
        }
        Ok(past)
    }

    async fn fill_pipe(&mut self, conn: &Conn, left: u64) -> Result<Spliced, BodyError> {
        let bytes_max = usize::try_from(left).unwrap_or(usize::MAX);
        let Some(piped) = conn.splice_in(bytes_max).await? else {
            return Err(BodyError::Truncated);
        };
        self.pass(piped.len() as u64);
        Ok(Spliced::Content(Past::plain(piped)))
    }

    /// How many bytes at least stand before the next content, as far as is known; 0 where none is known to follow.
    fn bytes_between(&self) -> usize {
        match self {
            Self::Chunked(chunks) => chunks.decoder.bytes_between(),
            Self::Length(_) | Self::UntilClose | Self::Ended => 0,
        }
    }

    /// Takes note of content that goes on, at most [`BodySource::plain_left`].
    fn pass(&mut self, count: u64) {
        match self {
            Self::Length(left) => {
                *left = left.saturating_sub(count);
                if *left == 0 {
                    *self = Self::Ended;
                }
            }
            Self::Chunked(chunks) => chunks.decoder.pass(count),
            Self::UntilClose | Self::Ended => (),
        }
    }

    /// How much content follows directly: all of it, or the rest of a chunk; 0 where only reading tells.
    #[must_use]
    pub fn plain_left(&self) -> u64 {
        match self {
            Self::Length(left) => *left,
            Self::Chunked(chunks) => chunks.decoder.data_left(),
            Self::UntilClose | Self::Ended => 0,
        }
    }

    /// Whether the length is that of a chunk, of which there may be more.
    #[must_use]
    pub fn is_chunked(&self) -> bool {
        matches!(self, Self::Chunked(_))
    }

    /// Whether everything was received, the last chunk and the trailers included.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        match self {
            Self::Ended => true,
            Self::Chunked(chunks) => chunks.decoder.is_ended(),
            Self::Length(_) | Self::UntilClose => false,
        }
    }

    /// Trailers that may travel on; empty where there are none.
    #[must_use]
    pub fn trailers(&self) -> &[u8] {
        match self {
            Self::Chunked(chunks) => chunks.decoder.trailers(),
            Self::Length(_) | Self::UntilClose | Self::Ended => &[],
        }
    }
}
