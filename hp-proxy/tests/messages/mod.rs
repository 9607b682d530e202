//! Messages as the models of clients and backends write and read them, with content of a known length.

use hp_core::rt::net::{Conn, Rx};

/// An answer.
pub(crate) fn answer(status: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// The next message: its head, and its content; `None` where it is not whole. What came behind it stays in `held`.
pub(crate) async fn read(conn: &Conn, held: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    loop {
        if let Some((head, length)) = head_of(held)
            && held.len() >= head + length
        {
            let mut message: Vec<u8> = held.drain(..head + length).collect();
            let body = message.split_off(head);
            return Some((String::from_utf8(message).ok()?, body));
        }
        match conn.recv().await {
            Ok(Rx::Data(lent)) => held.extend_from_slice(&lent),
            Ok(Rx::Eof) | Err(_) => return None,
        }
    }
}

/// Lengths of the first message: of its head, and of its content.
pub(crate) fn head_of(held: &[u8]) -> Option<(usize, usize)> {
    let end = held.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&held[..end]).ok()?;
    let mut lines = head.lines();
    let length = lines.find_map(|line| line.strip_prefix("Content-Length: "));
    Some((end, length.map_or(0, |length| length.parse().unwrap())))
}
