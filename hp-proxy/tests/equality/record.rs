//! What the proxy said in a scene, and where two records part.

use crate::scene::Chunks;

/// All that the proxy said, per connection, in the order in which they were opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) to_clients: Vec<Said>,
    pub(crate) to_backends: Vec<Said>,
}

/// What the proxy said on one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) bytes: Vec<u8>,
    pub(crate) end: End,
}

/// How a connection ended, as the proxy's neighbour sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By the proxy's FIN.
    Finished,
    /// By the proxy's RST.
    Reset,
    /// By the neighbour's own RST.
    Left,
}

impl Record {
    /// What no two engines can agree on is replaced: the proxy's address, whose port is the kernel's choice, the time of day, and
    /// where asked for the ends of chunks.
    pub(crate) fn settle(&mut self, proxy: &str, chunks: Chunks) {
        for said in self.to_clients.iter_mut().chain(&mut self.to_backends) {
            said.bytes = replace(&said.bytes, proxy.as_bytes(), b"PROXY");
            said.bytes = without_time_of_day(&said.bytes);
            if chunks == Chunks::Joined {
                said.bytes = join_chunks(&said.bytes);
            }
        }
    }

    /// Whether anything in it is in chunks.
    pub(crate) fn has_chunks(&self) -> bool {
        let mut said = self.to_clients.iter().chain(&self.to_backends);
        said.any(|said| find(&said.bytes, CHUNKED).is_some())
    }

    /// Where the other record is not this one, in a line each.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let sides = [
            ("client", &self.to_clients, &other.to_clients),
            ("backend", &self.to_backends, &other.to_backends),
        ];
        let mut found = Vec::new();
        for (side, expected, got) in sides {
            if expected.len() != got.len() {
                let (expected, got) = (expected.len(), got.len());
                found.push(format!("{got} connections of the {side}, not {expected}"));
            }
            for (number, (expected, got)) in expected.iter().zip(got).enumerate() {
                let told = expected.difference(got);
                found.extend(told.map(|told| format!("to {side} {number}: {told}")));
            }
        }
        found
    }
}

impl Said {
    fn difference(&self, other: &Self) -> Option<String> {
        if self.bytes != other.bytes {
            let pairs = self.bytes.iter().zip(&other.bytes);
            let at = pairs.take_while(|(one, other)| one == other).count();
            let (expected, got) = (excerpt(&self.bytes, at), excerpt(&other.bytes, at));
            return Some(format!("from byte {at} {got}, not {expected}"));
        }
        let (expected, got) = (self.end, other.end);
        (expected != got).then(|| format!("the end is {got:?}, not {expected:?}"))
    }
}

/// What surrounds a place, and the length of the whole.
fn excerpt(bytes: &[u8], at: usize) -> String {
    let part = &bytes[at.saturating_sub(20)..bytes.len().min(at + 60)];
    format!("{:?} (of {})", String::from_utf8_lossy(part), bytes.len())
}

/// A message whose chunks are one; what is no whole chunked message stays as it is.
fn join_chunks(message: &[u8]) -> Vec<u8> {
    let joined = || {
        let head_end = find(message, b"\r\n\r\n")? + 4;
        let (head, mut rest) = message.split_at(head_end);
        find(head, CHUNKED)?;
        let mut content = Vec::new();
        loop {
            let line_end = find(rest, b"\r\n")?;
            let line = std::str::from_utf8(&rest[..line_end]).ok()?;
            let size = usize::from_str_radix(line, 16).ok()?;
            if size == 0 {
                break;
            }
            let chunk_end = line_end + 2 + size;
            content.extend_from_slice(rest.get(line_end + 2..chunk_end)?);
            rest = rest.get(chunk_end..)?.strip_prefix(b"\r\n")?;
        }
        let size = format!("{:x}\r\n", content.len());
        Some([head, size.as_bytes(), &content, b"\r\n", rest].concat())
    };
    joined().unwrap_or_else(|| message.to_vec())
}

/// Dates that lie in this century: those that a scene's backend wrote do not.
fn without_time_of_day(bytes: &[u8]) -> Vec<u8> {
    let mut settled = Vec::new();
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let is_today = line.len() == "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n".len()
            && line.starts_with(b"Date: ")
            && find(line, b" 20").is_some();
        settled.extend_from_slice(if is_today { b"Date: NOW\r\n" } else { line });
    }
    settled
}

fn replace(bytes: &[u8], wanted: &[u8], by: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::new();
    let mut rest = bytes;
    while let Some(at) = find(rest, wanted) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(by);
        rest = &rest[at + wanted.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}

/// Where a text begins.
pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

const CHUNKED: &[u8] = b"\r\nTransfer-Encoding: chunked\r\n";
