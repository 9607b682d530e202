//! Chunks that are seen before it is their turn: their content may go on with the lines between, all of it as it came. RFC 9112 §7.1.
//!
//! ```text
//!    left          line         content          line         content
//! │ ...of a chunk │ CRLF 4000 CRLF │ 16,384 │ CRLF 4000 CRLF │ 16,384 │ not seen
//! ▲ here                                                            ▲ ahead
//! ```
//!
//! A line that is seen means what the decoder says that it means: it is the decoder that reads it, once ahead and once in its turn. Knows
//! nothing of where the bytes are.

use super::chunked::{CHUNK_END, ChunkEvent, ChunkedDecoder};
use super::error::ChunkError;
use std::collections::VecDeque;

/// The chunks behind the one in work that were seen.
///
/// `lines.len() <= LINES_MAX`
#[derive(Debug, Default)]
pub struct Lookahead {
    lines: VecDeque<SeenLine>,
    /// Of all of them, lines and content.
    bytes: u64,
}

/// What bytes that went on were.
#[derive(Debug, Default)]
pub struct Passed {
    /// How many of them were content.
    pub content: u64,
    /// The rest of a line that they end within, or the whole line before which they end: whoever lets them go on takes it out of what has
    /// come, shows it to the decoder and sends it behind them.
    pub line: LineRest,
}

/// A part of the line between two chunks, or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineRest {
    bytes: [u8; LINE_BYTES_MAX],
    len: u8,
}

impl LineRest {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Room for them, to be filled with what has come.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..usize::from(self.len)]
    }
}

/// What ends a chunk, and the size of the next one.
#[derive(Clone, Copy, Debug)]
struct SeenLine {
    bytes: [u8; LINE_BYTES_MAX],
    len: u8,
    content: u64,
}

impl Lookahead {
    /// How many bytes may go on as they are: of the chunk in work, and of those seen.
    #[must_use]
    pub fn reach(&self, decoder: &ChunkedDecoder) -> u64 {
        self.bytes.saturating_add(decoder.data_left())
    }

    /// Looks for chunks of at least so much content behind those that were seen. `peek` copies what stands so many bytes behind the next
    /// one, as far as it has come, and says how many bytes that were.
    pub fn look(
        &mut self,
        decoder: &ChunkedDecoder,
        content_min: u64,
        mut peek: impl FnMut(u64, &mut [u8]) -> usize,
    ) {
        while self.lines.len() < LINES_MAX && self.reach(decoder) < REACH_BYTES {
            let mut bytes = [0; LINE_BYTES_MAX];
            let count = peek(self.reach(decoder), &mut bytes);
            let Some(line) = SeenLine::at_front_of(bytes, count) else {
                return;
            };
            if line.content < content_min {
                return;
            }
            self.bytes += u64::from(line.len) + line.content;
            self.lines.push_back(line);
        }
    }

    /// Takes note of so many bytes that went on, at most [`Lookahead::reach`].
    ///
    /// # Errors
    /// As [`ChunkedDecoder::next`]; never for a line that was seen.
    pub fn pass(
        &mut self,
        decoder: &mut ChunkedDecoder,
        mut count: u64,
    ) -> Result<Passed, ChunkError> {
        let mut content = 0;
        loop {
            let of_chunk = count.min(decoder.data_left());
            decoder.pass(of_chunk);
            (content, count) = (content + of_chunk, count - of_chunk);
            if decoder.data_left() > 0 {
                break;
            }
            let Some(line) = self.lines.pop_front() else {
                debug_assert_eq!(count, 0, "nothing goes on that was not seen");
                break;
            };
            self.bytes -= u64::from(line.len) + line.content;
            let len = usize::from(line.len);
            let gone = usize::try_from(count).map_or(len, |count| count.min(len));
            decoder.next(&line.bytes[..gone])?;
            count -= gone as u64;
            if gone < len {
                let mut rest = LineRest {
                    len: u8::try_from(len - gone).unwrap_or(0),
                    ..LineRest::default()
                };
                rest.bytes_mut().copy_from_slice(&line.bytes[gone..len]);
                return Ok(Passed {
                    content,
                    line: rest,
                });
            }
        }
        Ok(Passed {
            content,
            line: LineRest::default(),
        })
    }

    /// Forgets what was seen: it is received.
    pub fn clear(&mut self) {
        (self.bytes, self.lines) = (0, VecDeque::new());
    }
}

impl SeenLine {
    /// What ends a chunk and a size in the shape that we send sizes in, if they are there whole; the last chunk is none of them.
    fn at_front_of(bytes: [u8; LINE_BYTES_MAX], count: usize) -> Option<Self> {
        let seen = bytes.get(..count)?;
        let size = seen.strip_prefix(CHUNK_END)?;
        let digits = size.iter().position(|byte| !byte.is_ascii_hexdigit())?;
        let is_plain = (1..=DIGITS_MAX).contains(&digits)
            && !size.starts_with(b"0")
            && size[digits..].starts_with(CHUNK_END);
        let len = CHUNK_END.len() + digits + CHUNK_END.len();
        let mut decoder = ChunkedDecoder::behind_content();
        let (read, ChunkEvent::NeedMore) = decoder.next(seen.get(..len)?).ok()? else {
            return None;
        };
        let content = decoder.data_left();
        let is_one = is_plain && read == len && (1..=CONTENT_MAX).contains(&content);
        is_one.then_some(Self {
            bytes,
            len: u8::try_from(len).ok()?,
            content,
        })
    }
}

/// The longest chunk that goes on with its line. A size that only the peer vouches for must mean the same to those who count in 32 bits, or
/// fewer: to them the content of a longer one would be the next message.
pub const CONTENT_MAX: u64 = 16 * 1024 * 1024;
/// No longer size is short enough.
const DIGITS_MAX: usize = 7;
const LINE_BYTES_MAX: usize = CHUNK_END.len() + DIGITS_MAX + CHUNK_END.len();
/// From here on nothing more is looked for: more than a pipe holds at once.
const REACH_BYTES: u64 = 512 * 1024;
/// Of chunks of 4 KiB.
const LINES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    /// A decoder within the first chunk of a message, whose line it has read, and what is still to come.
    fn begun(message: &[u8]) -> (ChunkedDecoder, &[u8]) {
        let mut decoder = ChunkedDecoder::new();
        let line = message.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        assert_eq!(
            decoder.next(&message[..line]),
            Ok((line, ChunkEvent::NeedMore))
        );
        (decoder, &message[line..])
    }

    fn look(ahead: &mut Lookahead, decoder: &ChunkedDecoder, come: &[u8]) {
        ahead.look(decoder, 3, |offset, buffer| {
            let come = come.get(usize::try_from(offset).unwrap()..);
            let come = come.unwrap_or_default();
            let count = come.len().min(buffer.len());
            buffer[..count].copy_from_slice(&come[..count]);
            count
        });
    }

    /// How far may go on what comes behind a chunk of five bytes.
    fn check_reach(behind: &[u8], reach: u64) {
        let message = [b"5\r\nabcde", behind].concat();
        let (decoder, come) = begun(&message);
        let mut ahead = Lookahead::default();
        look(&mut ahead, &decoder, come);
        assert_eq!(
            ahead.reach(&decoder),
            reach,
            "{:?}",
            String::from_utf8_lossy(behind)
        );
    }

    #[test]
    fn chunks_that_are_seen_go_on_with_their_lines() {
        check_reach(b"", 5);
        check_reach(b"\r\n3\r\nabc", 13);
        check_reach(b"\r\n3\r\nabc\r\n4\r\nabcd\r\n0\r\n\r\n", 22);
        check_reach(b"\r\nFfF\r\n", 5 + 7 + 0xfff); // Its content is still to come.
    }

    #[test]
    fn a_line_that_has_not_come_whole_is_not_seen() {
        let line = b"\r\n1f4\r\n";
        for end in 0..line.len() {
            check_reach(&line[..end], 5);
        }
        check_reach(line, 5 + 7 + 0x1f4);
    }

    #[test]
    fn a_line_that_we_would_write_otherwise_is_received() {
        for line in [
            &b"\r\n0\r\n\r\n"[..],
            b"\r\n04\r\nabcd",
            b"\r\n4;a=b\r\nabcd",
            b"\r\n4 \r\nabcd",
            b"\r\n4\nabcd",
            b"\n4\r\nabcd",
            b"X\r\n4\r\nabcd",
            b"\r\n-4\r\nabcd",
            b"\r\n\r\nabcd",
            b"\r\ng\r\nabcd",
            b"\r\n1000001\r\nabcd",
            b"\r\n10000000\r\nabcd",
            b"\r\n2\r\nab\r\n4\r\nabcd",
        ] {
            check_reach(line, 5);
        }
        check_reach(b"\r\n1000000\r\n", 5 + 11 + CONTENT_MAX);
    }

    /// However the bytes are cut that go on, the decoder reads what it would have read, and what is to be sent behind them is what follows.
    #[test]
    fn bytes_that_go_on_are_told_to_the_decoder_wherever_they_end() {
        let message =
            b"5\r\nabcde\r\n3\r\nfgh\r\n1a\r\nabcdefghijklmnopqrstuvwxyz\r\n4\r\nijkl\r\n0\r\n\r\n";
        let (whole, come) = begun(message);
        let mut ahead = Lookahead::default();
        look(&mut ahead, &whole, come);
        let reach = usize::try_from(ahead.reach(&whole)).unwrap();
        assert_eq!(&come[reach..], b"\r\n0\r\n\r\n");
        for first in 1..=reach {
            for step in [1, 2, 7, reach] {
                let (mut decoder, come) = begun(message);
                let (mut ahead, mut at, mut content, mut count) =
                    (Lookahead::default(), 0, 0, first);
                while at < reach {
                    look(&mut ahead, &decoder, &come[at..]);
                    count = count.min(usize::try_from(ahead.reach(&decoder)).unwrap());
                    let passed = ahead.pass(&mut decoder, count as u64).unwrap();
                    at += count;
                    content += passed.content;
                    let line = passed.line.bytes();
                    assert!(come[at..].starts_with(line));
                    decoder.next(line).unwrap();
                    at += line.len();
                    assert!(
                        decoder.data_left() > 0 || at == reach,
                        "no line is left half read"
                    );
                    count = step;
                }
                assert_eq!((at, content), (reach, 5 + 3 + 26 + 4));
                let end = decoder.next(&come[reach..]);
                assert_eq!(end, Ok((come.len() - reach, ChunkEvent::End)));
            }
        }
    }

    #[test]
    fn what_was_seen_is_bounded() {
        let message = b"5\r\nabcde\r\n3\r\nfgh".repeat(1);
        let (decoder, _) = begun(&message);
        let mut ahead = Lookahead::default();
        let mut peeks = 0;
        ahead.look(&decoder, 1, |_, buffer| {
            peeks += 1;
            buffer[..5].copy_from_slice(b"\r\n1\r\n");
            5
        });
        assert_eq!((peeks, ahead.lines.len()), (LINES_MAX, LINES_MAX));
        ahead.clear();
        assert_eq!(ahead.reach(&decoder), 5);
        ahead.look(&decoder, 1, |_, buffer| {
            buffer.copy_from_slice(b"\r\n1000000\r\n");
            buffer.len()
        });
        assert_eq!(ahead.lines.len(), 1);
    }
}
