//! Backends as they come: fast and slow, with every framing, some that break HTTP and some that break off.

use super::hostile::{self, Bounds};
use super::ledger::{Conduct, Ledger, TunnelEnd};
use super::message::{Framing, Head, Inbox, chunked, chunks, content_of, send};
use hp_core::rt::Rt;
use hp_core::rt::net::{Conn, Listener};
use hp_core::rt::race::join;
use hp_core::rt::sim::Chance;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// One backend.
pub(crate) struct Backend {
    pub(crate) rt: Rt,
    pub(crate) ledger: Rc<Ledger>,
    pub(crate) chance: RefCell<Chance>,
    /// Does nothing that HTTP forbids, and answers everything.
    pub(crate) is_well_behaved: bool,
    /// Answers in HTTP/1.0: what it is sent next must have a length.
    pub(crate) is_old: bool,
    /// What arrives in one piece, whatever the buffers are.
    pub(crate) piece_bytes: usize,
    /// Longest content of an answer.
    pub(crate) content_bytes_max: usize,
    /// The proxy's, which some answers outgrow.
    pub(crate) bounds: Bounds,
}

/// What a backend does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Answer,
    /// The answer, and the end of the connection without a word.
    AnswerAndLeave,
    /// Before it has read the content.
    AnswerEarly,
    Silence,
    BreakOffInHead,
    BreakOffInContent,
    StallInContent,
    /// Content that ends in a broken chunk.
    BadChunk,
    /// A head that nobody may take.
    BadHead,
    /// Another answer behind the answer.
    AnswerTwice,
}

/// Whether the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    Finish,
    Reset,
}

/// An answer before it is sent.
struct Answer {
    head: String,
    content: Vec<u8>,
    until_close: bool,
}

impl Backend {
    /// Serves whoever comes.
    pub(crate) async fn live(self: Rc<Self>, listener: Listener) {
        loop {
            match listener.accept().await {
                Ok(conn) => self.rt.spawn(Rc::clone(&self).serve(conn)),
                Err(_shortage) => self.rt.sleep(Duration::from_millis(20)).await,
            }
        }
    }

    async fn serve(self: Rc<Self>, conn: Conn) {
        let mut inbox = Inbox::new(&conn);
        let mut asked = Vec::new();
        let next = loop {
            conn.set_deadline(Some(self.rt.now() + PATIENCE));
            let Ok(head) = inbox.head().await else {
                break Next::Finish;
            };
            let target = head.first.split(' ').nth(1).unwrap_or("");
            let id = target.trim_start_matches('/').parse().unwrap_or(0);
            asked.push(id);
            match self.exchange(&conn, &mut inbox, (&head, id)).await {
                Ok(Next::GoOn) => (),
                Ok(next) => break next,
                Err(_broken) => break Next::Reset,
            }
        };
        match next {
            Next::Finish if self.is_well_behaved => {
                match conn.finish().await {
                    Ok(()) | Err(_) => (), // Whoever waited will see.
                }
                // RFC 9112 §9.6: what was sent behind the last request is read before the connection is closed.
                let _nobody_answers = inbox.surplus().await;
            }
            Next::Finish => {
                self.ledger.sweep_away(&asked);
                drop(inbox);
                match conn.finish().await {
                    Ok(()) | Err(_) => (), // Whoever waited will see.
                }
            }
            Next::GoOn | Next::Reset => {
                self.ledger.sweep_away(&asked);
                drop(inbox);
                conn.reset();
            }
        }
    }

    async fn exchange(
        &self,
        conn: &Conn,
        inbox: &mut Inbox<'_>,
        (head, id): (&Head, u64),
    ) -> io::Result<Next> {
        let method = head.first.split(' ').next().unwrap_or("");
        self.ledger.execute(id);
        let manner = self.manner();
        self.ledger
            .tell(|| format!("a backend gets {id}: {manner:?}"));
        if manner != Manner::AnswerEarly && !self.ask_for_content(inbox, head, id).await? {
            return Ok(Next::Reset);
        }
        self.think().await;
        if head.field("Upgrade").is_some() && manner == Manner::Answer && self.one_in(2) {
            return self.tunnel(conn, inbox, head, id).await;
        }
        let answer = self.answer(id, method);
        let may_wait_in_vain =
            answer.until_close && (head.field("Expect").is_some() || !self.is_well_behaved);
        match conduct(manner, &answer) {
            Some(Conduct::Early) if may_wait_in_vain => {
                self.ledger.conduct(id, Conduct::EarlyInVain);
            }
            Some(conduct) => self.ledger.conduct(id, conduct),
            None => (),
        }
        match manner {
            Manner::Answer | Manner::AnswerAndLeave | Manner::AnswerEarly => {
                let interim = !self.is_old && self.one_in(10);
                if interim {
                    send(conn, b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n").await?;
                }
                send(conn, answer.head.as_bytes()).await?;
                self.send_dawdling(conn, &answer.content).await?;
            }
            Manner::Silence => {
                self.stay_silent(inbox, id).await;
                return Ok(Next::Reset);
            }
            Manner::BreakOffInHead => {
                let length = self.chance.borrow_mut().size(answer.head.len() - 1);
                send(conn, &answer.head.as_bytes()[..length]).await?;
                return Ok(self.any_end());
            }
            Manner::BreakOffInContent | Manner::StallInContent => {
                return self.cut(conn, inbox, id, (manner, &answer)).await;
            }
            Manner::BadChunk => return self.send_bad_chunk(conn, inbox, id, method).await,
            Manner::BadHead => return self.send_bad_head(conn, inbox, id).await,
            Manner::AnswerTwice => {
                self.answer_twice(conn, id)?;
                return Ok(Next::GoOn);
            }
        }
        if manner == Manner::AnswerEarly && !self.read_content(inbox, head, id).await {
            return Ok(Next::Reset);
        }
        Ok(match manner {
            _ if answer.until_close => Next::Finish,
            Manner::AnswerAndLeave => Next::Finish,
            _ => Next::GoOn,
        })
    }

    /// Sends the head and not all of the content; then ends, or says nothing more.
    async fn cut(
        &self,
        conn: &Conn,
        inbox: &mut Inbox<'_>,
        id: u64,
        (manner, answer): (Manner, &Answer),
    ) -> io::Result<Next> {
        send(conn, answer.head.as_bytes()).await?;
        let most = answer.content.len().saturating_sub(1);
        let length = self.chance.borrow_mut().size(most);
        self.send_dawdling(conn, &answer.content[..length.min(most)])
            .await?;
        if answer.content.is_empty() {
            return Ok(Next::Finish); // The answer was whole, and a reset could take it away.
        }
        if manner == Manner::StallInContent {
            self.stay_silent(inbox, id).await;
            return Ok(Next::Reset);
        }
        // Without a length nobody could tell an end from the end.
        Ok(if answer.until_close {
            Next::Reset
        } else {
            self.any_end()
        })
    }

    /// Sends content that ends in a broken chunk.
    async fn send_bad_chunk(
        &self,
        conn: &Conn,
        inbox: &mut Inbox<'_>,
        id: u64,
        method: &str,
    ) -> io::Result<Next> {
        let size = self.chance.borrow_mut().size(self.content_bytes_max);
        let head = format!(
            "HTTP/1.1 200 OK\r\nX-Id: {id}\r\nX-Size: {size}\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        if method == "HEAD" {
            self.ledger.conduct(id, Conduct::Fair);
            send(conn, head.as_bytes()).await?;
            return Ok(Next::GoOn);
        }
        let (verdict, end) = hostile::chunks(self.chance.borrow_mut().index(1024));
        self.ledger.conduct(id, Conduct::Cut(verdict.details));
        let chunk_bytes = self.chance.borrow_mut().size(size);
        let content = content_of(id, size);
        send(conn, head.as_bytes()).await?;
        self.send_dawdling(conn, &chunks(&content, chunk_bytes))
            .await?;
        send(conn, end.as_bytes()).await?;
        Ok(self.end_or_wait(inbox, id).await)
    }

    /// Sends a head that nobody may take.
    async fn send_bad_head(&self, conn: &Conn, inbox: &mut Inbox<'_>, id: u64) -> io::Result<Next> {
        let index = self.chance.borrow_mut().index(1024);
        let (verdict, text) = hostile::answer_head(index, id, self.bounds);
        self.ledger.conduct(id, Conduct::Bad(verdict));
        self.send_dawdling(conn, text.as_bytes()).await?;
        Ok(self.end_or_wait(inbox, id).await)
    }

    /// After something that the proxy must not take: goes away, or sees that the proxy does.
    async fn end_or_wait(&self, inbox: &mut Inbox<'_>, id: u64) -> Next {
        if self.one_in(2) {
            return Next::Finish;
        }
        self.stay_silent(inbox, id).await;
        Next::Reset
    }

    /// Sends another answer behind the answer, in one piece.
    fn answer_twice(&self, conn: &Conn, id: u64) -> io::Result<()> {
        self.ledger.answer_twice(id);
        let text =
            format!("HTTP/1.1 200 OK\r\nX-Id: {id}\r\nX-Size: 0\r\nContent-Length: 0\r\n\r\n");
        let twice = text.repeat(2);
        assert!(twice.len() <= self.piece_bytes);
        conn.write(twice.as_bytes())
    }

    /// Says nothing until the proxy gives up, which it must.
    async fn stay_silent(&self, inbox: &mut Inbox<'_>, id: u64) {
        let begun = self.rt.now();
        let _nothing_more = inbox.surplus().await;
        if self.rt.now() - begun > PATIENCE / 2 {
            let what = format!("{id}: the proxy waits for an answer without limit");
            self.ledger.violate(what, &[]);
        }
    }

    /// Switches protocols: both ends say what they have, each ends when it has, and a part must not look whole.
    async fn tunnel(
        &self,
        conn: &Conn,
        inbox: &mut Inbox<'_>,
        head: &Head,
        id: u64,
    ) -> io::Result<Next> {
        conn.set_deadline(Some(self.rt.now() + PATIENCE * 3)); // The proxy's ends first.
        let size = self.chance.borrow_mut().size(self.content_bytes_max);
        let text = format!(
            "HTTP/1.1 101 Switching Protocols\r\nX-Id: {id}\r\nX-Size: {size}\r\nX-Coding: close\r\n\
             Connection: upgrade\r\nUpgrade: echo\r\n\r\n"
        );
        let content = content_of(id, size);
        if !self.is_well_behaved && self.one_in(8) {
            self.ledger.conduct(id, Conduct::Cut(RESET));
            send(conn, text.as_bytes()).await?;
            send(conn, &content[..size / 2]).await?;
            self.ledger.end_tunnel(TunnelEnd::BackendResets);
            return Ok(Next::Reset);
        }
        self.ledger.conduct(id, Conduct::Fair);
        let say = async {
            send(conn, text.as_bytes()).await?;
            self.send_dawdling(conn, &content).await?;
            conn.finish().await
        };
        let (said, heard) = join(say, inbox.content(Framing::UntilClose)).await;
        let (Ok(()), Ok(heard)) = (said, heard) else {
            return Ok(Next::Reset);
        };
        let told = usize::try_from(head.number("X-Up-Size").unwrap_or(0)).unwrap_or(0);
        let expected = content_of(!id, told);
        if heard != expected {
            let excuses: &[&str] = if expected.starts_with(&heard) {
                &["half_close"]
            } else {
                &[]
            };
            let what = format!(
                "{id}: {} of {told} bytes up a tunnel looked whole",
                heard.len()
            );
            self.ledger.violate(what, excuses);
        }
        Ok(Next::Finish)
    }

    fn manner(&self) -> Manner {
        if self.is_well_behaved || !self.one_in(4) {
            return Manner::Answer;
        }
        self.ledger.misdeeds.set(self.ledger.misdeeds.get() + 1);
        match self.below(12) {
            0 | 1 => Manner::AnswerAndLeave,
            2 => Manner::AnswerEarly,
            3 => Manner::Silence,
            4 => Manner::BreakOffInHead,
            5 => Manner::BreakOffInContent,
            6 => Manner::StallInContent,
            7 => Manner::BadChunk,
            8..=10 => Manner::BadHead,
            _ if self.piece_bytes >= TWO_ANSWERS_BYTES => Manner::AnswerTwice,
            _ => Manner::AnswerAndLeave,
        }
    }

    /// Says 100 where it is expected, or leaves that to the proxy; reads the request's content.
    async fn ask_for_content(
        &self,
        inbox: &mut Inbox<'_>,
        head: &Head,
        id: u64,
    ) -> io::Result<bool> {
        if head.field("Expect").is_some() && self.one_in(2) {
            self.think().await;
            send(inbox.conn(), b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        Ok(self.read_content(inbox, head, id).await)
    }

    /// Reads the request's content; `false` when it broke off.
    async fn read_content(&self, inbox: &mut Inbox<'_>, head: &Head, id: u64) -> bool {
        let Ok(content) = inbox.content(head.framing(Framing::Length(0))).await else {
            return false;
        };
        if head.framing(Framing::Length(0)) != Framing::Length(0) {
            self.ledger.read(id);
        }
        let expected = content_of(!id, self.ledger.body_bytes(id));
        if content != expected {
            let (got, sent) = (content.len(), expected.len());
            self.ledger.violate(
                format!("{id}: a backend got {got} of {sent} bytes as whole"),
                &[],
            );
        }
        true
    }

    fn answer(&self, id: u64, method: &str) -> Answer {
        let size = self.chance.borrow_mut().size(self.content_bytes_max);
        let content = content_of(id, size);
        let status = match self.below(20) {
            0 => "204 No Content",
            1 => "304 Not Modified",
            _ => "200 OK",
        };
        let version = if self.is_old { "1.0" } else { "1.1" };
        let mut head = format!("HTTP/{version} {status}\r\nX-Id: {id}\r\nX-Size: {size}\r\n");
        let has_no_content = method == "HEAD" || !status.starts_with("200");
        let coding = if has_no_content { 0 } else { self.below(4) };
        let (field, content, until_close) = match coding {
            1 if !self.is_old => {
                let chunk_bytes = self.chance.borrow_mut().size(size);
                let coded = chunked(&content, chunk_bytes);
                (String::from("Transfer-Encoding: chunked\r\n"), coded, false)
            }
            2 => (String::from("X-Coding: close\r\n"), content, true),
            _ => (format!("Content-Length: {size}\r\n"), content, false),
        };
        if !status.starts_with("204") {
            head.push_str(&field);
        }
        if self.is_old && !until_close {
            head.push_str("Connection: keep-alive\r\n");
        }
        head.push_str("\r\n");
        Answer {
            head,
            content: if has_no_content { Vec::new() } else { content },
            until_close,
        }
    }

    async fn send_dawdling(&self, conn: &Conn, bytes: &[u8]) -> io::Result<()> {
        if self.one_in(3) && !bytes.is_empty() {
            let length = self.chance.borrow_mut().size(bytes.len());
            send(conn, &bytes[..length]).await?;
            self.think().await;
            return send(conn, &bytes[length..]).await;
        }
        send(conn, bytes).await
    }

    async fn think(&self) {
        if self.one_in(4) {
            let micros = self.chance.borrow_mut().size(1_000_000);
            self.rt.sleep(Duration::from_micros(micros as u64)).await;
        }
    }

    fn any_end(&self) -> Next {
        if self.one_in(2) {
            Next::Finish
        } else {
            Next::Reset
        }
    }

    fn below(&self, bound: u64) -> u64 {
        self.chance.borrow_mut().below(bound)
    }

    fn one_in(&self, n: u64) -> bool {
        self.chance.borrow_mut().one_in(n)
    }
}

/// What the ledger has to know of a manner; `None` where that is drawn later.
fn conduct(manner: Manner, answer: &Answer) -> Option<Conduct> {
    Some(match manner {
        Manner::AnswerEarly => Conduct::Early,
        Manner::Silence => Conduct::Silent,
        Manner::BreakOffInHead => Conduct::Ends,
        Manner::BreakOffInContent if !answer.content.is_empty() => Conduct::Cut(ENDED),
        Manner::StallInContent if !answer.content.is_empty() => Conduct::Cut(STALLED),
        Manner::Answer
        | Manner::AnswerAndLeave
        | Manner::AnswerTwice
        | Manner::BreakOffInContent
        | Manner::StallInContent => Conduct::Fair,
        Manner::BadChunk | Manner::BadHead => return None,
    })
}

/// Why content is not whole, besides broken chunks.
pub(crate) const ENDED: &str = "the backend ended";
const RESET: &str = "the backend reset the tunnel";
pub(crate) const STALLED: &str = "the backend stalled";
const PATIENCE: Duration = Duration::from_secs(3600);
/// Two small answers, with the longest number in them.
pub(crate) const TWO_ANSWERS_BYTES: usize = 200;
