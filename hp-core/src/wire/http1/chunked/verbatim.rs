//! What of a chunked body may go to the next hop as it was received, lines included.
//!
//! Lines that say the same to everybody: the size in its shortest form, nothing behind it. Whatever else the decoder reads byte by byte, or
//! refuses, is none of it, and stays for that.

use super::{CHUNK_BYTES_MAX, CHUNK_END, ChunkedDecoder, LAST_CHUNK, State};
use crate::wire::token;
use std::ops::Range;

/// A stretch of a chunked body, with its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verbatim {
    /// Where it is in the input. It ends in content or behind a whole line, and has content. What is before it the next hop has.
    pub range: Range<usize>,
    /// How much of it is content, in bytes; at least one.
    pub content: u64,
    /// How the next hop stands behind it.
    pub after: Standing,
}

/// Where a hop that is sent a chunked body is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Before a line with a size.
    Between,
    /// In a chunk that still gets so much content; where that is 0, its end.
    Within(u64),
    /// Behind the last chunk, and the blank line.
    Ended,
}

impl ChunkedDecoder {
    /// Reads as much of `input` as may go on as it is, to a hop that stands so in the body; `None` where nothing may that has content, and nothing was read
    /// then.
    ///
    /// A chunk of more than [`CHUNK_BYTES_MAX`] does not go on, since it is not to be announced, nor a line that has not come whole. RFC 9112 §7.1.
    pub fn verbatim(&mut self, input: &[u8], hop: Standing) -> Option<Verbatim> {
        let start = self.start_for(input, hop)?;
        let before = self.state;
        if start > 0 {
            self.state = State::Size { size: 0, digits: 0 };
        }
        let (mut at, mut content) = (start, 0);
        while let Some((state, len)) = self.stride(&input[at..]) {
            if let State::Data { .. } = self.state {
                content += len as u64;
            }
            self.state = state;
            at += len;
        }
        if content == 0 {
            self.state = before;
            return None;
        }
        let after = match self.state {
            State::Data { left } => Standing::Within(left),
            State::DataCr => Standing::Within(0),
            State::End => Standing::Ended,
            _ => Standing::Between,
        };
        Some(Verbatim {
            range: start..at,
            content,
            after,
        })
    }

    /// Where in the input both stand at the same place, which is no further than behind the end of a chunk that the hop was sent already.
    fn start_for(&self, input: &[u8], hop: Standing) -> Option<usize> {
        match (&self.state, hop) {
            (State::Data { left }, Standing::Within(hop)) if *left == hop => Some(0),
            (State::DataCr, Standing::Within(0)) => Some(0),
            (State::Size { digits: 0, .. }, Standing::Between) => Some(0),
            (State::DataCr, Standing::Between) if input.starts_with(CHUNK_END) => {
                Some(CHUNK_END.len())
            }
            _ => None,
        }
    }

    /// The state behind the next content or the next whole line, and how long that is.
    fn stride(&self, input: &[u8]) -> Option<(State, usize)> {
        match self.state {
            State::Data { left } if !input.is_empty() => {
                let len = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
                let left = left.saturating_sub(len as u64);
                Some((State::with_content(left), len))
            }
            State::DataCr if input.starts_with(CHUNK_END) => {
                Some((State::Size { size: 0, digits: 0 }, CHUNK_END.len()))
            }
            State::Size { digits: 0, .. } if input.starts_with(LAST_CHUNK) => {
                Some((State::End, LAST_CHUNK.len()))
            }
            State::Size { digits: 0, .. } => {
                let (left, len) = shortest_size_line(input)?;
                Some((State::Data { left }, len))
            }
            _ => None,
        }
    }
}

/// The size that the line at the beginning says, and how long the line is; `None` where it is not there whole, not the shortest that says that, or
/// says nothing or too much.
fn shortest_size_line(input: &[u8]) -> Option<(u64, usize)> {
    let (mut size, mut digits) = (0, 0);
    while let Some(digit) = input.get(digits).copied().and_then(token::hex_digit) {
        size = size << 4 | u64::from(digit);
        digits += 1;
        if size == 0 || size > CHUNK_BYTES_MAX as u64 {
            return None; // A leading zero, or the last chunk.
        }
    }
    let is_line = digits > 0 && input[digits..].starts_with(CHUNK_END);
    is_line.then_some((size, digits + CHUNK_END.len()))
}

#[cfg(test)]
mod tests {
    use super::super::{CHUNK_SIZE_LINE_MAX, ChunkEvent, chunk_size_line};
    use super::*;
    use crate::wire::http1::error::ChunkError;
    use proptest::prelude::*;

    /// What the next hop gets of a body that comes in such pieces, each as far as possible as it came, the rest in chunks of ours; and how it ends.
    fn relay(pieces: &[&[u8]]) -> (Vec<u8>, Result<usize, ChunkError>) {
        let mut decoder = ChunkedDecoder::new();
        let (mut sent, mut hop, mut total) = (Vec::new(), Standing::Between, 0);
        for piece in pieces {
            let mut rest = *piece;
            while !decoder.is_ended() {
                if let Some(part) = decoder.verbatim(rest, hop) {
                    assert!(part.content > 0 && part.content <= part.range.len() as u64);
                    sent.extend_from_slice(&rest[part.range.clone()]);
                    total += part.range.end;
                    rest = &rest[part.range.end..];
                    hop = part.after;
                    continue;
                }
                let (used, event) = match decoder.next(rest) {
                    Ok(step) => step,
                    Err(error) => return (sent, Err(error)),
                };
                total += used;
                if let ChunkEvent::Data(range) = event {
                    let content = &rest[range];
                    let follows = decoder.data_left();
                    let left = match hop {
                        Standing::Within(left) if left > 0 => left,
                        _ => {
                            let mut space = [0; CHUNK_SIZE_LINE_MAX];
                            let size = content.len() as u64 + follows;
                            let size = if size > CHUNK_BYTES_MAX as u64 {
                                content.len() as u64
                            } else {
                                size
                            };
                            if hop == Standing::Within(0) {
                                sent.extend_from_slice(CHUNK_END);
                            }
                            let len = usize::try_from(size).unwrap();
                            sent.extend_from_slice(chunk_size_line(&mut space, len));
                            size
                        }
                    };
                    sent.extend_from_slice(content);
                    let left = left - content.len() as u64;
                    hop = Standing::Within(left);
                    if left == 0 {
                        sent.extend_from_slice(CHUNK_END);
                        hop = Standing::Between;
                    }
                }
                rest = &rest[used..];
                if rest.is_empty() {
                    break;
                }
            }
        }
        match hop {
            _ if !decoder.is_ended() => (),
            Standing::Within(left) => {
                assert_eq!(left, 0, "a body ends behind a chunk");
                sent.extend_from_slice(b"\r\n0\r\n\r\n");
            }
            Standing::Between => sent.extend_from_slice(LAST_CHUNK),
            Standing::Ended => (),
        }
        (sent, Ok(total))
    }

    /// Content of a whole body.
    fn content(body: &[u8]) -> Option<Vec<u8>> {
        let (mut decoder, mut content, mut rest) = (ChunkedDecoder::new(), Vec::new(), body);
        while !decoder.is_ended() && !rest.is_empty() {
            let (used, event) = decoder.next(rest).ok()?;
            if let ChunkEvent::Data(range) = event {
                content.extend_from_slice(&rest[range]);
            }
            rest = &rest[used..];
        }
        (decoder.is_ended() && rest.is_empty()).then_some(content)
    }

    /// The next hop gets the same content, and the body ends where it does; however the body is cut in two.
    fn check(body: &[u8]) {
        let expected = content(body).unwrap();
        for cut in 0..=body.len() {
            let (head, tail) = body.split_at(cut);
            let (sent, outcome) = relay(&[head, tail]);
            assert_eq!(outcome, Ok(body.len()), "cut at {cut}");
            assert_eq!(
                content(&sent).as_ref(),
                Some(&expected),
                "cut at {cut}: {}",
                sent.escape_ascii()
            );
        }
    }

    fn first(input: &[u8]) -> Option<Verbatim> {
        ChunkedDecoder::new().verbatim(input, Standing::Between)
    }

    #[test]
    fn lines_of_the_shortest_form_go_on_with_the_content() {
        let all = b"5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\nGET ";
        let found = first(all).unwrap();
        assert_eq!(found.range, 0..all.len() - 4, "and nothing behind the body");
        assert_eq!((found.content, found.after), (15, Standing::Ended));
        let found = first(b"5\r\nhello\r\n10\r\nabc").unwrap();
        assert_eq!((found.range, found.content), (0..17, 8));
        assert_eq!(found.after, Standing::Within(13));
        let found = first(b"5\r\nhello\r\n10\r").unwrap();
        assert_eq!((found.range, found.after), (0..10, Standing::Between));
        let found = first(b"5\r\nhello\r").unwrap();
        assert_eq!((found.range, found.after), (0..8, Standing::Within(0)));
    }

    #[test]
    fn lines_of_another_form_do_not() {
        for other in [
            "05\r\nhello",
            "5;a\r\nhello",
            "5 \r\nhello",
            "5\nhello",
            "0x5\r\nhello",
            "1000001\r\nx",
            "\r\n5\r\nhello",
            "5\r\n",
            "0\r\n\r\n",
            "00\r\n\r\n",
            "0\r\nA: b\r\n\r\n",
        ] {
            assert_eq!(first(other.as_bytes()), None, "{other:?}");
        }
        let found = first(b"1\r\nx\r\n0\r\nA: b\r\n\r\n").unwrap();
        assert_eq!((found.range, found.after), (0..6, Standing::Between));
        let found = first(b"1\r\nx\r\n1;a\r\nx\r\n").unwrap();
        assert_eq!((found.range, found.after), (0..6, Standing::Between));
    }

    #[test]
    fn a_hop_that_stands_elsewhere_gets_lines_of_ours() {
        let mut decoder = ChunkedDecoder::new();
        assert!(decoder.next(b"a\r\n").is_ok());
        for elsewhere in [
            Standing::Between,
            Standing::Within(9),
            Standing::Within(0),
            Standing::Ended,
        ] {
            assert_eq!(decoder.verbatim(b"0123456789", elsewhere), None);
        }
        let found = decoder.verbatim(b"0123456789", Standing::Within(10));
        assert_eq!(found.unwrap().after, Standing::Within(0));
        // The end of the chunk went with its content.
        let found = decoder.verbatim(b"\r\n1\r\nx", Standing::Between).unwrap();
        assert_eq!((found.range, found.content), (2..6, 1));
    }

    #[test]
    fn content_is_the_same_behind_every_cut() {
        check(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n");
        check(b"5;a=b\r\nhello\r\n6\r\n world\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n");
        check(b"05\r\nhello\r\nB\r\n world\r\n1\r\n\r\n00\r\n\r\n");
        check(b"2\r\n\r\n\r\n2\r\n0\r\r\n5\r\n0\r\n\r\n\r\n0\r\n\r\n");
        check(b"0\r\n\r\n");
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_judged_as_without_it(
            parts in proptest::collection::vec(0_usize..PARTS.len(), 0..24),
            cuts in proptest::collection::vec(0_usize..80, 0..4),
        ) {
            let body: Vec<u8> = parts.iter().flat_map(|part| PARTS[*part]).copied().collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
            cuts.sort_unstable();
            let (mut pieces, mut at) = (Vec::new(), 0);
            for cut in cuts.into_iter().chain([body.len()]) {
                pieces.push(&body[at..cut]);
                at = cut;
            }
            let (sent, outcome) = relay(&pieces);
            let mut alone = ChunkedDecoder::new();
            let (mut used, mut expected, mut plain) = (0, Ok(()), Vec::new());
            while used < body.len() && !alone.is_ended() {
                match alone.next(&body[used..]) {
                    Ok((count, ChunkEvent::Data(range))) => {
                        plain.extend_from_slice(&body[used..][range]);
                        used += count;
                    }
                    Ok((count, _)) => used += count,
                    Err(error) => {
                        expected = Err(error);
                        break;
                    }
                }
            }
            prop_assert_eq!(outcome.map(|_| ()), expected);
            if alone.is_ended() {
                prop_assert_eq!(outcome, Ok(used));
                prop_assert_eq!(content(&sent), Some(plain));
            }
        }
    }

    /// Of which bodies are made, good ones and others.
    const PARTS: [&[u8]; 14] = [
        b"5\r\nhello\r\n",
        b"1\r\nx\r\n",
        b"A\r\n0123456789\r\n",
        b"0\r\n\r\n",
        b"\r\n",
        b"3",
        b"0",
        b";a",
        b"abc",
        b"1;b=c\r\ny\r\n",
        b"01\r\nz\r\n",
        b"0\r\nA: b\r\n\r\n",
        b"\n",
        b"\r",
    ];
}
