//! Messages as the models of clients and backends write and read them.

use hp_core::rt::net::{Conn, Rx};
use hp_core::wire::http1::chunked::{ChunkEvent, ChunkedDecoder};

/// An answer, with its length.
pub(crate) fn answer(status: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// How a message ends.
#[derive(Clone, Copy)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
}

/// The next message: its head, and its content; `None` where it is not whole. What came behind it stays in `held`.
pub(crate) async fn read(conn: &Conn, held: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    let (head, framing) = loop {
        match head_of(held) {
            Some(head) => break head,
            None => more(conn, held).await?,
        }
    };
    let head = String::from_utf8(held.drain(..head).collect()).ok()?;
    let body = match framing {
        Framing::Length(length) => {
            while held.len() < length {
                more(conn, held).await?;
            }
            held.drain(..length).collect()
        }
        Framing::Chunked => read_chunks(conn, held).await?,
    };
    Some((head, body))
}

async fn read_chunks(conn: &Conn, held: &mut Vec<u8>) -> Option<Vec<u8>> {
    let (mut decoder, mut body) = (ChunkedDecoder::new(), Vec::new());
    let mut read = 0;
    loop {
        let (used, event) = decoder.next(&held[read..]).ok()?;
        match event {
            ChunkEvent::Data(range) => body.extend_from_slice(&held[read..][range]),
            ChunkEvent::NeedMore => {
                held.clear();
                more(conn, held).await?;
                read = 0;
                continue;
            }
            ChunkEvent::End => {
                held.drain(..read + used);
                return Some(body);
            }
        }
        read += used;
    }
}

async fn more(conn: &Conn, held: &mut Vec<u8>) -> Option<()> {
    match conn.recv().await {
        Ok(Rx::Data(lent)) => held.extend_from_slice(&lent),
        Ok(Rx::Eof) | Err(_) => return None,
    }
    Some(())
}

/// The first message: the length of its head, and how it ends.
pub(crate) fn head_of(held: &[u8]) -> Option<(usize, Framing)> {
    let end = held.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&held[..end]).ok()?;
    if head.contains("\r\nTransfer-Encoding: chunked\r\n") {
        return Some((end, Framing::Chunked));
    }
    let mut lines = head.lines();
    let length = lines.find_map(|line| line.strip_prefix("Content-Length: "));
    let length = length.map_or(0, |length| length.parse().unwrap());
    Some((end, Framing::Length(length)))
}
