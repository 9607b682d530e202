//! Clients as they come: patient and hasty, old and new, some that leave in the middle.

use super::ledger::{Ledger, Outcome};
use super::message::{Broken, Framing, Head, Inbox, chunked, content_of, send};
use hp_core::rt::Rt;
use hp_core::rt::net::Conn;
use hp_core::rt::race::join;
use hp_core::rt::sim::Chance;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// One client.
pub(crate) struct Client {
    pub(crate) rt: Rt,
    pub(crate) proxy: SocketAddr,
    pub(crate) ledger: Rc<Ledger>,
    pub(crate) chance: RefCell<Chance>,
    /// Leaves nothing unfinished, and is never gone for long.
    pub(crate) is_well_behaved: bool,
    /// Longest content of a request.
    pub(crate) content_bytes_max: usize,
}

/// A request as it goes out.
struct Ask {
    id: u64,
    method: &'static str,
    is_old: bool,
    /// What it says up the tunnel that it asks for.
    up: Option<Vec<u8>>,
    bytes: Vec<u8>,
    /// No proxy may pass it on.
    is_bad: bool,
}

/// Whether a connection carries another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    MayCome,
    CannotCome,
    Broke,
    /// It leaves with a reset: what it said is not whole.
    Leaves,
}

impl Client {
    /// Talks over a few connections.
    pub(crate) async fn live(self) {
        for _ in 0..=self.below(3) {
            let deadline = self.rt.now() + PATIENCE;
            if let Ok(conn) = self.rt.connect(self.proxy, deadline).await {
                self.ledger.conns.set(self.ledger.conns.get() + 1);
                self.converse(conn).await;
            }
        }
    }

    async fn converse(&self, conn: Conn) {
        let mut inbox = Inbox::new(&conn);
        for _ in 0..=self.below(4) {
            conn.set_deadline(Some(self.rt.now() + PATIENCE));
            let asks = self.asks();
            for ask in &asks {
                self.ledger
                    .tell(|| format!("a client asks {} /{}", ask.method, ask.id));
            }
            if !self.is_well_behaved && self.one_in(12) {
                drop(inbox);
                return self.leave(conn, &asks).await;
            }
            let bytes: Vec<u8> = asks.iter().flat_map(|ask| ask.bytes.clone()).collect();
            let settled = Cell::new(0);
            let (_sent, next) = join(
                self.send_dawdling(&conn, &bytes),
                self.receive_all(&mut inbox, &asks, &settled),
            )
            .await;
            let unsettled = &asks[settled.get()..];
            for ask in unsettled {
                self.ledger.settle(ask.id, Outcome::Broken);
            }
            match next {
                Next::MayCome => (),
                Next::CannotCome => break,
                Next::Broke => return,
                Next::Leaves => {
                    drop(inbox);
                    return conn.reset();
                }
            }
            self.dawdle().await;
        }
        // FIN first: what comes after the last answer belongs to nobody.
        if conn.finish().await.is_ok()
            && let Some(surplus) = inbox.surplus().await
        {
            let text = String::from_utf8_lossy(&surplus).into_owned();
            // A late 408 is the proxy's to send, and as it never saw the method, with content; anything else is not.
            if !(text.contains(LATE) || LATE.starts_with(&text)) {
                self.ledger
                    .violate(format!("came unasked: {text:.60}"), &[]);
            }
        }
    }

    /// Begins and goes away: with an end or a reset, before or after it has asked everything.
    async fn leave(&self, conn: Conn, asks: &[Ask]) {
        let bytes: Vec<u8> = asks.iter().flat_map(|ask| ask.bytes.clone()).collect();
        let length = self.chance.borrow_mut().size(bytes.len());
        match send(&conn, &bytes[..length]).await {
            Ok(()) | Err(_) => (), // Nobody waits for an answer.
        }
        self.dawdle().await;
        for ask in asks {
            self.ledger.settle(ask.id, Outcome::GivenUp);
        }
        // What a tunnel owes has no other end than the connection's: an end in order would be a lie.
        let owes = asks.iter().any(|ask| ask.up.is_some());
        if self.one_in(2) || owes {
            conn.reset();
        }
    }

    async fn send_dawdling(&self, conn: &Conn, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = if self.one_in(3) {
                self.chance.borrow_mut().size(rest.len())
            } else {
                rest.len()
            };
            let (piece, later) = rest.split_at(length);
            if send(conn, piece).await.is_err() {
                return; // An answer may be there although the request was not taken whole.
            }
            rest = later;
            match self.below(8) {
                _ if rest.is_empty() => (),
                0 if !self.is_well_behaved => self.nap(100_000_000).await, // Longer than the proxy waits, at times.
                1 | 2 => self.nap(200_000).await,
                _ => (),
            }
        }
    }

    async fn receive_all(
        &self,
        inbox: &mut Inbox<'_>,
        asks: &[Ask],
        settled: &Cell<usize>,
    ) -> Next {
        for ask in asks {
            let (outcome, next) = match self.receive(inbox, ask).await {
                Ok(received) => received,
                Err(broken) => {
                    if broken == Broken::Garbage {
                        let what = format!("{}: the proxy sent no message", ask.id);
                        self.ledger.violate(what, &[]);
                    }
                    (Outcome::Broken, Next::Broke)
                }
            };
            self.ledger.settle(ask.id, outcome);
            settled.set(settled.get() + 1);
            if next != Next::MayCome {
                return next;
            }
        }
        Next::MayCome
    }

    async fn receive(&self, inbox: &mut Inbox<'_>, ask: &Ask) -> Result<(Outcome, Next), Broken> {
        let head = loop {
            let head = inbox.head().await?;
            if let (101, Some(up)) = (head.status(), &ask.up) {
                return self.tunnel(inbox, ask, &head, up).await;
            }
            if head.status() >= 200 {
                break head;
            }
        };
        self.ledger
            .tell(|| format!("{} is answered: {head:?}", ask.id));
        let is_bodiless = ask.method == "HEAD" || matches!(head.status(), 204 | 304);
        let framing = if is_bodiless {
            Framing::Length(0)
        } else {
            head.framing(Framing::UntilClose)
        };
        let content = inbox.content(framing).await?;
        let keeps = match head.field("Connection") {
            Some(option) => option.eq_ignore_ascii_case("keep-alive"),
            None => !ask.is_old,
        };
        let next = if keeps && framing != Framing::UntilClose {
            Next::MayCome
        } else {
            Next::CannotCome
        };
        if head.field("Proxy-Status").is_some() {
            return Ok((Outcome::Refused(head.status()), next));
        }
        if ask.is_bad {
            let what = format!("{}: a bad request was answered by a backend", ask.id);
            self.ledger.violate(what, &[]);
        }
        self.check(ask, &head, is_bodiless, &content);
        Ok((Outcome::Whole, next))
    }

    /// Says what it has while it hears what the backend has; some leave in the middle, some say nothing for too long.
    async fn tunnel(
        &self,
        inbox: &mut Inbox<'_>,
        ask: &Ask,
        head: &Head,
        up: &[u8],
    ) -> Result<(Outcome, Next), Broken> {
        let conn = inbox.conn();
        conn.set_deadline(Some(self.rt.now() + PATIENCE * 3)); // The proxy's ends first.
        if !self.is_well_behaved && self.one_in(4) {
            match send(conn, &up[..up.len() / 2]).await {
                Ok(()) | Err(_) => (), // Nobody waits for an answer.
            }
            if self.one_in(2) {
                self.dawdle().await;
                return Ok((Outcome::GivenUp, Next::Leaves));
            }
            return match inbox.content(Framing::Length(usize::MAX)).await {
                Ok(_) | Err(Broken::Ended) => {
                    // The backend has ended in order, and the proxy waits for this end.
                    self.rt.sleep(PATIENCE * 2).await;
                    Ok((Outcome::GivenUp, Next::Leaves))
                }
                Err(broken) => Err(broken),
            };
        }
        let say = async {
            self.send_dawdling(conn, up).await;
            conn.finish().await
        };
        let (_said, heard) = join(say, inbox.content(Framing::UntilClose)).await;
        self.check(ask, head, false, &heard?);
        Ok((Outcome::Whole, Next::CannotCome))
    }

    /// What reached this client must be the answer to its request, and all of it.
    fn check(&self, ask: &Ask, head: &Head, is_bodiless: bool, content: &[u8]) {
        let id = ask.id;
        if head.number("X-Id") != Some(id) {
            return self.ledger.mix_up(id, head.number("X-Id").unwrap_or(0));
        }
        let size = usize::try_from(head.number("X-Size").unwrap_or(0)).unwrap_or(0);
        if is_bodiless || content == content_of(id, size) {
            return;
        }
        // An answer that ends with its connection has no other end: one that the kernel ends too soon cannot be told.
        let until_close = head.field("X-Coding") == Some("close");
        let is_prefix = content_of(id, size).starts_with(content);
        let excuses: &[&str] = if is_prefix && (until_close || ask.is_old) {
            &["half_close"]
        } else {
            &[]
        };
        let what = format!("{id}: {} of {size} bytes looked whole", content.len());
        self.ledger.violate(what, excuses);
    }

    /// One request, or several at once.
    fn asks(&self) -> Vec<Ask> {
        let depth = if self.one_in(5) { 2 + self.below(3) } else { 1 };
        (0..depth).map(|_| self.ask(depth == 1)).collect()
    }

    fn ask(&self, may_have_content: bool) -> Ask {
        if may_have_content && !self.is_well_behaved && self.one_in(20) {
            return self.bad_ask();
        }
        let is_old = may_have_content && self.one_in(4);
        let (method, content) = match self.below(10) {
            0 => ("HEAD", None),
            1 => ("POST", Some(0)),
            2 | 3 if may_have_content => (
                "POST",
                Some(self.chance.borrow_mut().size(self.content_bytes_max)),
            ),
            4 if may_have_content => (
                "PUT",
                Some(
                    self.chance
                        .borrow_mut()
                        .size(self.content_bytes_max.min(2000)),
                ),
            ),
            _ => ("GET", None),
        };
        let length = content.unwrap_or(0);
        let id = self.ledger.enter(method != "POST", length);
        let version = if is_old { "1.0" } else { "1.1" };
        let mut text = format!("{method} /{id} HTTP/{version}\r\nHost: sim\r\n");
        if is_old && self.one_in(2) {
            text.push_str("Connection: keep-alive\r\n");
        }
        let may_upgrade = may_have_content && !is_old && method == "GET";
        let up = (may_upgrade && self.one_in(8)).then(|| {
            let size = self.chance.borrow_mut().size(self.content_bytes_max);
            content_of(!id, size)
        });
        let content = content.map(|length| content_of(!id, length));
        let bytes = match content {
            Some(content) if !is_old && length > 0 && self.one_in(2) => {
                text.push_str("Transfer-Encoding: chunked\r\n\r\n");
                let chunk_bytes = self.chance.borrow_mut().size(length);
                [text.into_bytes(), chunked(&content, chunk_bytes)].concat()
            }
            Some(content) => {
                text.push_str(&format!("Content-Length: {length}\r\n\r\n"));
                [text.into_bytes(), content].concat()
            }
            None => {
                if let Some(up) = &up {
                    let size = up.len();
                    let fields = "Connection: upgrade\r\nUpgrade: echo\r\n";
                    text.push_str(&format!("{fields}X-Up-Size: {size}\r\n"));
                }
                text.push_str("\r\n");
                text.into_bytes()
            }
        };
        Ask {
            id,
            method,
            is_old,
            up,
            bytes,
            is_bad: false,
        }
    }

    /// A request that must be refused: after it nothing on its connection has a known meaning.
    fn bad_ask(&self) -> Ask {
        let id = self.ledger.enter(false, 0);
        let text = match self.below(7) {
            0 => format!("GET /{id} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
            1 => format!("GET /{id} HTTP/1.1\r\nHost: sim\r\nExpect: miracles\r\n\r\n"),
            2 => format!("GET /{id} HTTP/2.0\r\nHost: sim\r\n\r\n"),
            3 => String::from("CONNECT sim:1 HTTP/1.1\r\nHost: sim:1\r\n\r\n"),
            4 => format!(
                "GET /{id}?{} HTTP/1.1\r\nHost: sim\r\n\r\n",
                "x".repeat(9000)
            ),
            5 => format!(
                "GET /{id} HTTP/1.1\r\nHost: sim\r\n{}\r\n",
                "A: b\r\n".repeat(200)
            ),
            _ => {
                let lengths = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n";
                format!("POST /{id} HTTP/1.1\r\nHost: sim\r\n{lengths}\r\n0\r\n\r\n")
            }
        };
        Ask {
            id,
            method: "GET",
            is_old: false,
            bytes: text.into_bytes(),
            up: None,
            is_bad: true,
        }
    }

    /// Thinks before the next request: not at all, long enough to be parked, or too long.
    async fn dawdle(&self) {
        match self.below(8) {
            0 => self.nap(3_000_000).await,
            1 if !self.is_well_behaved => self.nap(100_000_000).await,
            2 | 3 => self.nap(1_000).await,
            _ => (),
        }
    }

    async fn nap(&self, micros_max: usize) {
        let micros = self.chance.borrow_mut().size(micros_max);
        self.rt.sleep(Duration::from_micros(micros as u64)).await;
    }

    fn below(&self, bound: u64) -> u64 {
        self.chance.borrow_mut().below(bound)
    }

    fn one_in(&self, n: u64) -> bool {
        self.chance.borrow_mut().one_in(n)
    }
}

/// How the content of a 408 begins.
const LATE: &str = "408 Request Timeout";
/// Longer than anything that the proxy waits for.
const PATIENCE: Duration = Duration::from_secs(3600);
