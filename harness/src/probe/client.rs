//! A client for single requests: slow, strict and blocking, with a bound on everything that it waits for or keeps.
//!
//! It is not the load generator. It looks at what one answer is, where hp-bench looks at how fast many are, and it is
//! written apart from the codec of the programs that it judges.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::wire;

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    addr: SocketAddr,
    /// What has come and belongs to no answer yet.
    kept: Vec<u8>,
}

/// One whole answer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Answer {
    /// The status, 200 to 999.
    pub status: u16,
    /// The body, its framing removed.
    pub body: Vec<u8>,
    /// Whether the connection may be used again.
    pub is_kept: bool,
}

/// How a request ended. Which of these may happen is the caller's knowledge.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// With a whole answer.
    Whole(Answer),
    /// The connection ended, by FIN or RST, before the answer was whole.
    Broken,
    /// What came is no answer, or is more than [`BODY_BYTES_MAX`].
    Garbled(&'static str),
    /// Nothing whole came in time.
    Silent,
}

/// Where the body of an answer ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Framing {
    None,
    Length(usize),
    Chunks,
    ToTheEnd,
}

/// What a head says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Head {
    status: u16,
    framing: Framing,
    is_kept: bool,
}

impl Client {
    /// Connects; `patience` bounds this and each later wait for bytes.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn connect(addr: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = wire::connect(addr, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self {
            stream,
            addr,
            kept: Vec::new(),
        })
    }

    /// Sends a request without a body and reads its answer.
    pub fn ask(&mut self, method: &str, path: &str) -> End {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.addr);
        self.send(request.as_bytes(), method == "HEAD")
    }

    /// Sends a request with a body and reads its answer.
    pub fn post(&mut self, path: &str, body: &[u8]) -> End {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
            self.addr,
            body.len()
        );
        self.send(&[head.as_bytes(), body].concat(), false)
    }

    fn send(&mut self, request: &[u8], is_head: bool) -> End {
        match self.stream.write_all(request) {
            Ok(()) => self.answer(is_head),
            Err(error) => end_of(&error),
        }
    }

    fn answer(&mut self, is_head: bool) -> End {
        let head = loop {
            match self.head(is_head) {
                Ok(head) if (100..200).contains(&head.status) => (), // The final one follows (RFC 9110 §15.2).
                Ok(head) => break head,
                Err(end) => return end,
            }
        };
        match self.body(head.framing) {
            Ok(body) => End::Whole(Answer {
                status: head.status,
                body,
                is_kept: head.is_kept && head.framing != Framing::ToTheEnd,
            }),
            Err(end) => end,
        }
    }

    fn head(&mut self, is_head: bool) -> Result<Head, End> {
        let text = self.until(b"\r\n\r\n", HEAD_BYTES_MAX)?;
        parse_head(&text, is_head).map_err(End::Garbled)
    }

    fn body(&mut self, framing: Framing) -> Result<Vec<u8>, End> {
        match framing {
            Framing::None => Ok(Vec::new()),
            Framing::Length(length) => self.exactly(length),
            Framing::Chunks => self.chunks(),
            Framing::ToTheEnd => loop {
                match self.more() {
                    Ok(()) if self.kept.len() > BODY_BYTES_MAX => return Err(TOO_LONG),
                    Ok(()) => (),
                    Err(End::Broken) => return Ok(std::mem::take(&mut self.kept)),
                    Err(end) => return Err(end),
                }
            },
        }
    }

    /// RFC 9112 §7.1.
    fn chunks(&mut self) -> Result<Vec<u8>, End> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n", HEAD_BYTES_MAX)?;
            let size = line.split(|&byte| matches!(byte, b';' | b'\r')).next();
            let size = size.and_then(|digits| str::from_utf8(digits).ok());
            let size = size.and_then(|digits| usize::from_str_radix(digits.trim_end(), 16).ok());
            let Some(size) = size else {
                return Err(End::Garbled("a chunk without a size"));
            };
            if size == 0 {
                for _trailer in 0..TRAILERS_MAX {
                    if self.until(b"\r\n", HEAD_BYTES_MAX)? == b"\r\n" {
                        return Ok(body);
                    }
                }
                return Err(End::Garbled("trailers without end"));
            }
            if size > BODY_BYTES_MAX - body.len() {
                return Err(TOO_LONG);
            }
            body.extend(self.exactly(size)?);
            if self.exactly(2)? != b"\r\n" {
                return Err(End::Garbled("a chunk longer than its size"));
            }
        }
    }

    /// The bytes up to and with `mark`.
    fn until(&mut self, mark: &[u8], bytes_max: usize) -> Result<Vec<u8>, End> {
        let mut from = 0;
        loop {
            let rest = self.kept.get(from..).unwrap_or_default();
            if let Some(at) = rest.windows(mark.len()).position(|window| window == mark) {
                return Ok(self.kept.drain(..from + at + mark.len()).collect());
            }
            if self.kept.len() > bytes_max {
                return Err(End::Garbled("a head or line without end"));
            }
            from = (self.kept.len() + 1).saturating_sub(mark.len());
            self.more()?;
        }
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>, End> {
        while self.kept.len() < length {
            self.more()?;
        }
        Ok(self.kept.drain(..length).collect())
    }

    /// Waits for bytes; [`End::Broken`] where none follow.
    fn more(&mut self) -> Result<(), End> {
        let mut piece = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(End::Broken),
                Ok(count) => {
                    self.kept.extend(piece.iter().take(count));
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) => return Err(end_of(&error)),
            }
        }
    }
}

fn end_of(error: &io::Error) -> End {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => End::Silent,
        _ => End::Broken,
    }
}

/// Reads a status line and fields that end with an empty line. RFC 9112 §4 and §6.3.
fn parse_head(text: &[u8], is_head: bool) -> Result<Head, &'static str> {
    let text = str::from_utf8(text).map_err(|_no_text| "a head that is no text")?;
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().splitn(3, ' ');
    let (version, status) = (words.next(), words.next());
    if !version.is_some_and(|version| version.starts_with("HTTP/1.")) {
        return Err("no status line");
    }
    let status = status
        .and_then(|status| status.parse().ok())
        .filter(|status| (100..1000).contains(status))
        .ok_or("no status")?;
    let mut framing = Framing::ToTheEnd;
    let mut is_kept = version == Some("HTTP/1.1");
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            let length = value
                .parse()
                .map_err(|_no_number| "a wrong Content-Length")?;
            match framing {
                Framing::ToTheEnd if length <= BODY_BYTES_MAX => framing = Framing::Length(length),
                Framing::ToTheEnd => return Err("more than is asked for"),
                _ => return Err("two lengths"),
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") || framing != Framing::ToTheEnd {
                return Err("two lengths, or a coding that nobody asked for");
            }
            framing = Framing::Chunks;
        } else if name.eq_ignore_ascii_case("connection") {
            if value.eq_ignore_ascii_case("close") {
                is_kept = false;
            } else if value.eq_ignore_ascii_case("keep-alive") {
                is_kept = true;
            }
        }
    }
    if is_head || status < 200 || status == 204 || status == 304 {
        framing = Framing::None;
    }
    Ok(Head {
        status,
        framing,
        is_kept,
    })
}

/// The longest body that is kept.
pub const BODY_BYTES_MAX: usize = 16 << 20;

const HEAD_BYTES_MAX: usize = 64 * 1024;
const TRAILERS_MAX: u32 = 128;
const TOO_LONG: End = End::Garbled("more than is asked for");

#[cfg(test)]
mod tests {
    use super::*;

    fn check_head(text: &str, expected: Result<(u16, Framing, bool), &str>) {
        let read = parse_head(text.as_bytes(), false);
        assert_eq!(
            read.map(|head| (head.status, head.framing, head.is_kept)),
            expected,
            "{text}"
        );
    }

    #[test]
    fn heads_say_where_the_body_ends() {
        check_head(
            "HTTP/1.1 200 OK\r\ncontent-LENGTH: 13\r\n\r\n",
            Ok((200, Framing::Length(13), true)),
        );
        check_head(
            "HTTP/1.1 502 Bad Gateway\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
            Ok((502, Framing::Chunks, false)),
        );
        check_head(
            "HTTP/1.0 200 OK\r\n\r\n",
            Ok((200, Framing::ToTheEnd, false)),
        );
        check_head(
            "HTTP/1.1 204 \r\nContent-Length: 3\r\n\r\n",
            Ok((204, Framing::None, true)),
        );
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_garbled() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "hello\r\n\r\n",
        ] {
            assert!(parse_head(text.as_bytes(), false).is_err(), "{text}");
        }
    }
}
