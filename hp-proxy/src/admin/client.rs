//! Asking a running proxy: one request to its admin listener, over a runtime of the calling thread's own, which ends with the answer.

use hp_core::http::body::{BodyError, BodySource};
use hp_core::http::message::{Filled, Reader};
use hp_core::rt::net::{Address, Conn};
use hp_core::rt::race::{First, race};
use hp_core::rt::{Engine, Rt, RtOptions, StartError};
use hp_core::wire::http1::encode;
use hp_core::wire::http1::error::ResponseError;
use hp_core::wire::http1::framing::RequestContext;
use hp_core::wire::http1::head::{HeadLimits, HeaderScratch, Parse};
use hp_core::wire::http1::response::{ResponseFacts, parse_response};
use std::fmt;
use std::io;
use std::pin::pin;
use std::time::Duration;

/// What is asked of a running proxy.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Such as `GET`.
    pub method: &'a str,
    /// Path and query; begins with a slash, and has neither spaces nor controls.
    pub target: &'a str,
    /// JSON; none where it is empty.
    pub body: &'a str,
    /// For the whole of it, connecting included.
    pub timeout: Duration,
}

/// What it answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 599.
    pub status: u16,
    /// As it came.
    pub body: String,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum AskError {
    /// No runtime could be had.
    Runtime(StartError),
    /// Nobody is there, or the connection failed.
    Io(io::Error),
    /// It said nothing, or not all of it, in time.
    Timeout,
    /// It closed before the end of its answer.
    Closed,
    /// What answers is no proxy of ours.
    Head(ResponseError),
    /// The answer is no text, is broken, or is larger than any of ours.
    Body,
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::Timeout => f.write_str("no answer came in time"),
            Self::Closed => f.write_str("the connection was closed without an answer"),
            Self::Head(_) => f.write_str("what answers there does not speak HTTP/1.1"),
            Self::Body => f.write_str("what answers there is no admin listener of hp-proxy"),
        }
    }
}

impl std::error::Error for AskError {}

/// Asks, and waits for the answer. `waits` is called once where that takes more than a moment.
///
/// # Errors
/// [`AskError`]. An answer with an error status is an answer.
pub fn ask(
    address: &Address,
    question: Question<'_>,
    waits: impl FnOnce(),
) -> Result<Reply, AskError> {
    let options = RtOptions {
        engine: Engine::Epoll, // One exchange: no other engine would be worth setting up.
        ..RtOptions::default()
    };
    let rt = Rt::new(&options).map_err(AskError::Runtime)?;
    let answered = rt.block_on(async {
        let mut exchange = pin!(exchange(&rt, address, question));
        match race(exchange.as_mut(), rt.sleep(MOMENT)).await {
            First::One(answered) => answered,
            First::Other(()) => {
                waits();
                exchange.await
            }
        }
    });
    rt.shut_down();
    answered
}

async fn exchange(rt: &Rt, address: &Address, question: Question<'_>) -> Result<Reply, AskError> {
    let deadline = rt.now() + question.timeout;
    let conn = rt.connect_to(address, deadline).await;
    let conn = conn.map_err(told)?;
    conn.set_deadline(Some(deadline));
    conn.write(&request(address, question)).map_err(told)?;
    let mut reader = Reader::new();
    let (status, facts) = head(&conn, &mut reader).await?;
    let body = body(&conn, &mut reader, BodySource::from(facts.framing)).await?;
    Ok(Reply { status, body })
}

fn request(address: &Address, question: Question<'_>) -> Vec<u8> {
    let Question {
        method,
        target,
        body,
        ..
    } = question;
    let host = match address {
        Address::Tcp(addr) => addr.to_string(),
        Address::Unix(_) => String::from("localhost"),
    };
    let mut out = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    encode::field(&mut out, "Host", host.as_bytes());
    encode::field(&mut out, "Connection", b"close");
    if !body.is_empty() {
        encode::field(&mut out, "Content-Type", b"application/json");
    }
    if !(body.is_empty() && method == "GET") {
        encode::content_length(&mut out, body.len() as u64);
    }
    encode::end_of_head(&mut out);
    out.extend_from_slice(body.as_bytes());
    out
}

async fn head(conn: &Conn, reader: &mut Reader) -> Result<(u16, ResponseFacts), AskError> {
    let limits = HeadLimits::default();
    loop {
        if !reader.is_empty() {
            let mut scratch = HeaderScratch::new();
            let context = RequestContext {
                method_is_head: false,
                method_is_connect: false,
                upgrade_requested: false,
            };
            let parsed = parse_response(reader.bytes(), &limits, &mut scratch, context);
            if let Parse::Complete(head) = parsed.map_err(AskError::Head)? {
                let (status, facts, length) = (head.status, head.facts, head.head_bytes);
                reader.consume(length);
                if !facts.is_interim {
                    return Ok((status, facts));
                }
                continue; // Its limit is the deadline.
            }
        }
        if reader.fill(conn).await.map_err(told)? == Filled::Eof {
            return Err(AskError::Closed);
        }
    }
}

async fn body(
    conn: &Conn,
    reader: &mut Reader,
    mut source: BodySource,
) -> Result<String, AskError> {
    let failed = |error| match error {
        BodyError::Io(error) => told(error),
        BodyError::Truncated => AskError::Closed,
        BodyError::Chunk(_) => AskError::Body,
    };
    let mut body = Vec::new();
    loop {
        while let Some(piece) = source.take_received(reader).map_err(failed)? {
            body.extend_from_slice(&piece);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(AskError::Body);
            }
        }
        if source.is_ended() {
            return String::from_utf8(body).map_err(|_not_text| AskError::Body);
        }
        source.receive(reader, conn).await.map_err(failed)?;
    }
}

fn told(error: io::Error) -> AskError {
    match error.kind() {
        io::ErrorKind::TimedOut => AskError::Timeout,
        _ => AskError::Io(error),
    }
}

/// How long nobody wonders why there is no answer.
const MOMENT: Duration = Duration::from_secs(1);
/// All that a proxy with many endpoints says of them.
const ANSWER_BYTES_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    #[test]
    fn a_question_is_one_whole_request() {
        let addr: SocketAddr = "127.0.0.1:9900".parse().unwrap();
        let question = |method, body| Question {
            method,
            target: "/upstreams",
            body,
            timeout: Duration::from_secs(1),
        };
        let written = |question| {
            let bytes = request(&Address::Tcp(addr), question);
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(
            written(question("GET", "")),
            "GET /upstreams HTTP/1.1\r\nHost: 127.0.0.1:9900\r\nConnection: close\r\n\r\n"
        );
        let patch = written(question("PATCH", "{}"));
        assert!(patch.ends_with("Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"));
        assert!(written(question("DELETE", "")).contains("\r\nContent-Length: 0\r\n"));
    }
}
