//! HTTP/1.1 as the models read it: written a second time, on purpose, so that no mistake is on both sides.

use hp_core::rt::net::{Conn, Rx};
use std::io;

/// Why a message is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The peer ended in the middle, or before.
    Ended,
    /// A reset, or silence for too long.
    Failed,
    /// What came is no message.
    Garbage,
}

/// A head, as lines.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) first: String,
    fields: Vec<(String, String)>,
}

/// Where the content ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// Received bytes that nobody has read, and their connection.
pub(crate) struct Inbox<'a> {
    conn: &'a Conn,
    bytes: Vec<u8>,
}

impl Head {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let same = |field: &&(String, String)| field.0.eq_ignore_ascii_case(name);
        Some(self.fields.iter().find(same)?.1.as_str())
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.field(name)?.parse().ok()
    }

    pub(crate) fn status(&self) -> u16 {
        let status = self.first.split(' ').nth(1).unwrap_or_default();
        status.parse().unwrap_or(0)
    }

    /// The framing that the fields declare; `otherwise` where they declare none.
    pub(crate) fn framing(&self, otherwise: Framing) -> Framing {
        if self.field("Transfer-Encoding") == Some("chunked") {
            return Framing::Chunked;
        }
        match self.number("Content-Length") {
            Some(length) => Framing::Length(usize::try_from(length).unwrap_or(usize::MAX)),
            None => otherwise,
        }
    }

    fn parse(text: &str) -> Result<Self, Broken> {
        let mut lines = text.split("\r\n");
        let first = lines.next().ok_or(Broken::Garbage)?.to_owned();
        let fields = lines
            .map(|line| {
                let (name, value) = line.split_once(':').ok_or(Broken::Garbage)?;
                Ok((name.to_owned(), value.trim().to_owned()))
            })
            .collect::<Result<_, Broken>>()?;
        Ok(Self { first, fields })
    }
}

impl<'a> Inbox<'a> {
    pub(crate) fn new(conn: &'a Conn) -> Self {
        Self {
            conn,
            bytes: Vec::new(),
        }
    }

    /// Whose bytes these are.
    pub(crate) fn conn(&self) -> &'a Conn {
        self.conn
    }

    /// The next head.
    pub(crate) async fn head(&mut self) -> Result<Head, Broken> {
        loop {
            if let Some(end) = find(&self.bytes, b"\r\n\r\n") {
                let head: Vec<u8> = self.bytes.drain(..end + 4).collect();
                let text = std::str::from_utf8(&head[..end]).map_err(|_| Broken::Garbage)?;
                return Head::parse(text);
            }
            self.fill().await?;
        }
    }

    /// The content, whole.
    pub(crate) async fn content(&mut self, framing: Framing) -> Result<Vec<u8>, Broken> {
        match framing {
            Framing::Length(length) => self.exactly(length).await,
            Framing::Chunked => self.chunks().await,
            Framing::UntilClose => loop {
                match self.fill().await {
                    Ok(()) => (),
                    Err(Broken::Ended) => return Ok(std::mem::take(&mut self.bytes)),
                    Err(broken) => return Err(broken),
                }
            },
        }
    }

    /// What comes when nothing should: `None` when nothing does.
    pub(crate) async fn surplus(&mut self) -> Option<Vec<u8>> {
        while self.fill().await.is_ok() {}
        (!self.bytes.is_empty()).then(|| std::mem::take(&mut self.bytes))
    }

    async fn chunks(&mut self) -> Result<Vec<u8>, Broken> {
        let mut content = Vec::new();
        loop {
            let line = self.line().await?;
            let size = usize::from_str_radix(&line, 16).map_err(|_| Broken::Garbage)?;
            if size == 0 {
                while !self.line().await?.is_empty() {} // Trailers.
                return Ok(content);
            }
            content.extend(self.exactly(size).await?);
            if !self.line().await?.is_empty() {
                return Err(Broken::Garbage);
            }
        }
    }

    async fn line(&mut self) -> Result<String, Broken> {
        loop {
            if let Some(end) = find(&self.bytes, b"\r\n") {
                let line: Vec<u8> = self.bytes.drain(..end + 2).collect();
                return String::from_utf8(line[..end].to_vec()).map_err(|_| Broken::Garbage);
            }
            self.fill().await?;
        }
    }

    async fn exactly(&mut self, length: usize) -> Result<Vec<u8>, Broken> {
        while self.bytes.len() < length {
            self.fill().await?;
        }
        Ok(self.bytes.drain(..length).collect())
    }

    async fn fill(&mut self) -> Result<(), Broken> {
        match self.conn.recv().await {
            Ok(Rx::Data(lent)) => {
                self.bytes.extend_from_slice(&lent);
                Ok(())
            }
            Ok(Rx::Eof) => Err(Broken::Ended),
            Err(_reset) => Err(Broken::Failed),
        }
    }
}

/// Sends bytes, in pieces where `chunked` asks for chunks, and waits while the peer takes none.
pub(crate) async fn send(conn: &Conn, bytes: &[u8]) -> io::Result<()> {
    for piece in bytes.chunks(16 * 1024) {
        conn.write(piece)?;
        conn.flush().await?;
    }
    Ok(())
}

/// The content as chunks of a length each, and the last one.
pub(crate) fn chunked(content: &[u8], chunk_bytes: usize) -> Vec<u8> {
    let mut coded = chunks(content, chunk_bytes);
    coded.extend_from_slice(b"0\r\n\r\n");
    coded
}

/// The same without the last one.
pub(crate) fn chunks(content: &[u8], chunk_bytes: usize) -> Vec<u8> {
    let mut coded = Vec::new();
    for chunk in content.chunks(chunk_bytes.max(1)) {
        coded.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        coded.extend_from_slice(chunk);
        coded.extend_from_slice(b"\r\n");
    }
    coded
}

/// The content that belongs to a number: another number has another one.
pub(crate) fn content_of(number: u64, length: usize) -> Vec<u8> {
    let byte = |at: usize| {
        let word = (number << 20 ^ at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word.to_be_bytes()[1]
    };
    (0..length).map(byte).collect()
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}
