//! WebSockets in a run about endpoints: clients talk over them while plans and processes follow one another, and nobody may notice.
//! Messages are frames of RFC 6455 §5.2 with at most 125 bytes; a backend says what it hears.
//!
//! A reload, an order and an upgrade end none of them, whatever becomes of their endpoint. What ends one is the deadline of the drain
//! of the process that has it.

use super::bound::{Books, Client, Says};
use super::message::{Broken, Framing, Head, Inbox, content_of, send};
use hp_core::rt::net::Conn;
use hp_core::rt::{Instant, Rt};
use std::rc::Rc;
use std::time::Duration;

/// A WebSocket that came about.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) id: u64,
    /// The backend at its other end.
    pub(crate) by: usize,
    connected: Instant,
    pub(crate) opened: Instant,
    pub(crate) ended: Instant,
    /// Messages that came back.
    pub(crate) messages: u64,
    pub(crate) end: End,
}

/// How a WebSocket ended, as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both said that they close, and both ended.
    InOrder,
    /// Its connection broke, or ended before anybody closed.
    Cut,
}

/// What is said over a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Frame {
    Binary(Vec<u8>),
    Close,
}

impl Socket {
    /// Whether it was open at that time.
    pub(crate) fn was_open(&self, at: Instant) -> bool {
        self.opened <= at && at < self.ended
    }

    /// A mistake, unless it ended in order, or at the deadline of a drain of a process that had it. `replaced`: when processes were told
    /// to drain, which each takes so long at most.
    pub(crate) fn judge(&self, replaced: &[Instant], drain_timeout: Duration) -> Option<String> {
        let is_excused = match self.end {
            End::InOrder => true,
            End::Cut => self.was_due(replaced, drain_timeout),
        };
        let Self {
            id,
            by,
            connected,
            messages,
            ..
        } = self;
        let after = self.ended - *connected;
        (!is_excused).then(|| {
            format!("WebSocket {id} to {by} was cut {after:?} after its client connected, and {messages} messages")
        })
    }

    /// Whether it ended at the deadline of a drain.
    pub(crate) fn was_due(&self, replaced: &[Instant], drain_timeout: Duration) -> bool {
        let mut drains = replaced.iter().filter(|at| **at > self.connected);
        drains.any(|at| {
            let deadline = *at + drain_timeout;
            self.ended >= deadline && self.ended < deadline + NOTICED
        })
    }
}

impl Client {
    /// Opens WebSockets, one after the other, and talks over each.
    pub(crate) async fn talk(mut self) {
        for _ in 0..1 + self.chance.below(3) {
            let begun = self.rt.now();
            match self.rt.connect(self.proxy, begun + PATIENCE).await {
                Ok(conn) => {
                    self.books.conns.set(self.books.conns.get() + 1);
                    self.open(&conn, begun).await;
                }
                Err(_refused) => self.see(0, (Says::Nothing, begun, begun), None),
            }
            self.pause().await;
        }
    }

    async fn open(&mut self, conn: &Conn, connected: Instant) {
        conn.set_deadline(Some(connected + PATIENCE));
        let (says, field) = self.cookie();
        let id = self.books.number();
        let begun = self.rt.now();
        let request = format!(
            "GET /{id} HTTP/1.1\r\nHost: sim\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{field}\r\n"
        );
        let mut inbox = Inbox::new(conn);
        let head = match send(conn, request.as_bytes()).await {
            Ok(()) => inbox.head().await.ok(),
            Err(_broken) => None,
        };
        let of = (says, connected, begun);
        let Some(by) = self.take((id, 101), of, head.as_ref()) else {
            return;
        };
        let accepted = head.as_ref().and_then(|head| head.field(ACCEPT_FIELD));
        if accepted != Some(ACCEPT) {
            let what = format!("{id}: {accepted:?} is no WebSocket's answer");
            self.books.mistake(what);
        }
        let opened = self.rt.now();
        let mut messages = 0;
        let talked = self.converse(&mut inbox, id, &mut messages).await;
        self.books.close(Socket {
            id,
            by,
            connected,
            opened,
            ended: self.rt.now(),
            messages,
            end: match talked {
                Ok(()) => End::InOrder,
                Err(_broken) => End::Cut,
            },
        });
    }

    /// Says something now and then, and hears it again; closes at last.
    async fn converse(
        &mut self,
        inbox: &mut Inbox<'_>,
        id: u64,
        messages: &mut u64,
    ) -> Result<(), Broken> {
        for number in 0..self.chance.below(MESSAGES_MAX) {
            self.pause().await;
            let size = self.chance.index(MESSAGE_BYTES_MAX + 1);
            let message = Frame::Binary(content_of(id * MESSAGES_MAX + number, size));
            let mask = self.chance.draw().to_be_bytes();
            let bytes = message.encode(Some([mask[0], mask[1], mask[2], mask[3]]));
            send(inbox.conn(), &bytes)
                .await
                .map_err(|_| Broken::Failed)?;
            let heard = receive(inbox).await?;
            if heard != message {
                let what = format!("{id}: {message:?} came back as {heard:?}");
                self.books.mistake(what);
            }
            *messages += 1;
        }
        self.pause().await;
        let bytes = Frame::Close.encode(Some([0; 4]));
        send(inbox.conn(), &bytes)
            .await
            .map_err(|_| Broken::Failed)?;
        if receive(inbox).await? != Frame::Close {
            let what = format!("{id}: a close was not answered by one");
            self.books.mistake(what);
        }
        // The server ends first (RFC 6455 §7.1.1).
        let rest = inbox.content(Framing::UntilClose).await?;
        if !rest.is_empty() {
            let what = format!("{id}: {} bytes came behind a close", rest.len());
            self.books.mistake(what);
        }
        inbox.conn().finish().await.map_err(|_| Broken::Failed)
    }

    async fn pause(&mut self) {
        let millis = PAUSES_MILLIS[self.chance.index(PAUSES_MILLIS.len())];
        let pause = Duration::from_micros(self.chance.below(1 + millis * 1000));
        self.rt.sleep(pause).await;
    }
}

/// Whether a request asks for a WebSocket.
pub(crate) fn is_asked_for(head: &Head) -> bool {
    head.field("Upgrade") == Some("websocket")
}

/// A backend's side: it says what it hears, and ends when it is told to. `said`: the fields of its answer that say who it is.
pub(crate) async fn echo(
    (rt, inbox): (&Rt, &mut Inbox<'_>),
    said: &str,
    books: &Rc<Books>,
) -> Result<(), Broken> {
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         {ACCEPT_FIELD}: {ACCEPT}\r\n{said}\r\n"
    );
    let conn = inbox.conn();
    conn.set_deadline(Some(rt.now() + PATIENCE));
    let failed = |_error| Broken::Failed;
    send(conn, answer.as_bytes()).await.map_err(failed)?;
    loop {
        let heard = receive(inbox).await?;
        send(conn, &heard.encode(None)).await.map_err(failed)?;
        if heard == Frame::Close {
            break;
        }
    }
    conn.finish().await.map_err(failed)?;
    let rest = inbox.content(Framing::UntilClose).await?;
    if !rest.is_empty() {
        books.mistake(format!("{} bytes came behind a client's close", rest.len()));
    }
    Ok(())
}

async fn receive(inbox: &mut Inbox<'_>) -> Result<Frame, Broken> {
    let start = inbox.content(Framing::Length(2)).await?;
    let &[opcode, length] = &start[..] else {
        return Err(Broken::Garbage);
    };
    let mask = if length & MASKED == 0 {
        vec![0; 4]
    } else {
        inbox.content(Framing::Length(4)).await?
    };
    let length = usize::from(length & !MASKED);
    let mut bytes = inbox.content(Framing::Length(length)).await?;
    let mask = mask.iter().cycle();
    bytes
        .iter_mut()
        .zip(mask)
        .for_each(|(byte, key)| *byte ^= key);
    match opcode {
        BINARY => Ok(Frame::Binary(bytes)),
        CLOSE => Ok(Frame::Close),
        _ => Err(Broken::Garbage),
    }
}

impl Frame {
    /// As it is sent; what a client sends has a mask.
    fn encode(&self, mask: Option<[u8; 4]>) -> Vec<u8> {
        let (opcode, content) = match self {
            Self::Binary(bytes) => (BINARY, &bytes[..]),
            Self::Close => (CLOSE, &[][..]),
        };
        let length = u8::try_from(content.len()).expect("125 at most");
        let marked = if mask.is_some() { MASKED } else { 0 };
        let mut bytes = vec![opcode, length | marked];
        bytes.extend(mask.iter().flatten());
        let mask = mask.unwrap_or_default();
        let masked = content.iter().zip(mask.iter().cycle());
        bytes.extend(masked.map(|(byte, key)| byte ^ key));
        bytes
    }
}

/// The last frame of a message, with bytes.
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const MASKED: u8 = 0x80;
/// The example of RFC 6455 §1.3: a key, and what a server makes of it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const ACCEPT_FIELD: &str = "Sec-WebSocket-Accept";
const MESSAGE_BYTES_MAX: usize = 125;
const MESSAGES_MAX: u64 = 24;
/// How long somebody says nothing, at most.
const PAUSES_MILLIS: [u64; 4] = [0, 50, 400, 1500];
/// A client that says nothing meanwhile learns so late that its connection is gone.
const NOTICED: Duration = Duration::from_secs(3);
/// Longer than anything that the proxy waits for.
const PATIENCE: Duration = Duration::from_secs(3600);
