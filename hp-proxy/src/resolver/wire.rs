//! One question to one server, and what comes back in time.

use crate::upstream::discovery::lookup::{Failure, Heard};
use hp_core::rt::net::{Conn, Rx};
use hp_core::rt::{Instant, Rt};
use hp_core::wire::dns::{self, NotAnAnswer, Question, Reply};
use std::io;
use std::net::SocketAddr;

/// Asks in a datagram, from a socket of its own whose port nobody knows. Messages that answer other questions are passed
/// over; the kernel passes over those of other senders.
pub(super) async fn by_datagram(
    rt: &Rt,
    server: SocketAddr,
    question: &Question,
    deadline: Instant,
) -> Heard {
    let asked = rt.connect_datagram(server).and_then(|conn| {
        conn.set_deadline(Some(deadline));
        conn.write(&question.to_bytes())?;
        Ok(conn)
    });
    let conn = match asked {
        Ok(conn) => conn,
        Err(error) => return failed(&error),
    };
    for _ in 0..STRAYS_MAX {
        let read = match conn.recv().await {
            Ok(Rx::Data(message)) => dns::read(&message, question),
            Ok(Rx::Eof) => Err(NotAnAnswer::Broken),
            Err(error) => return failed(&error),
        };
        match read {
            Err(NotAnAnswer::Foreign) => (),
            read => return heard(read),
        }
    }
    Heard::Failed(Failure::Broken)
}

/// Asks over a connection, where messages follow their length. RFC 1035 §4.2.2.
pub(super) async fn by_stream(
    rt: &Rt,
    server: SocketAddr,
    question: &Question,
    deadline: Instant,
) -> Heard {
    match exchange(rt, server, question, deadline).await {
        Ok(message) => heard(dns::read(&message, question)),
        Err(error) => failed(&error),
    }
}

async fn exchange(
    rt: &Rt,
    server: SocketAddr,
    question: &Question,
    deadline: Instant,
) -> io::Result<Vec<u8>> {
    let conn = rt.connect(server, deadline).await?;
    conn.set_deadline(Some(deadline));
    let message = question.to_bytes();
    let len = u16::try_from(message.len()).unwrap_or(u16::MAX);
    conn.write(&[&len.to_be_bytes()[..], &message].concat())?;
    read_message(&conn).await
}

/// One message with its length before it; what follows it is nobody's.
async fn read_message(conn: &Conn) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        if let Some((len, rest)) = bytes.split_first_chunk::<2>() {
            let len = usize::from(u16::from_be_bytes(*len));
            if let Some(message) = rest.get(..len) {
                return Ok(message.to_vec());
            }
        }
        match conn.recv().await? {
            Rx::Data(more) => bytes.extend_from_slice(&more),
            Rx::Eof => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        }
    }
}

fn heard(read: Result<Reply, NotAnAnswer>) -> Heard {
    match read {
        Ok(reply) => Heard::Reply(reply),
        Err(_no_answer) => Heard::Failed(Failure::Broken),
    }
}

fn failed(error: &io::Error) -> Heard {
    Heard::Failed(match error.kind() {
        io::ErrorKind::TimedOut => Failure::Silent,
        io::ErrorKind::UnexpectedEof => Failure::Broken,
        _ => Failure::Unreachable,
    })
}

/// Messages that may come to a question's port without answering it.
const STRAYS_MAX: u32 = 64;
