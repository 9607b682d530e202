//! Clients as they come: patient and hasty, old and new, some that leave in the middle.

use super::ask::Ask;
use super::hostile::{self, Bounds, Verdict};
use super::ledger::{Ledger, Outcome, Part, TunnelEnd};
use super::message::{Broken, Framing, Head, Inbox, content_of, send};
use hp_core::rt::net::Conn;
use hp_core::rt::race::join;
use hp_core::rt::sim::Chance;
use hp_core::rt::{Instant, Rt};
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
    /// The proxy's, which some requests outgrow.
    pub(crate) bounds: Bounds,
    /// Nothing breaks by itself, and no drain begins before the clients end.
    pub(crate) is_calm: bool,
    /// Processes of the proxy replace one another: connections end with an answer that says so.
    pub(crate) hands_over: bool,
}

/// Requests that were sent at once.
struct Batch<'a> {
    asks: &'a [Ask],
    /// How many have an outcome.
    settled: &'a Cell<usize>,
    /// No later than anything of them reached the proxy.
    begun: Instant,
    /// Nothing was sent before on this connection, which the proxy therefore has no reason to end.
    is_first: bool,
    told: &'a Cell<Told>,
}

/// What a client that expects 100 was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    GoOn,
    /// The answer itself: nobody needs the content any more.
    Answer,
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
        let more = if self.hands_over { 3 } else { 0 };
        let last = more + self.below(3);
        let mut left = Vec::new();
        let mut number = 0;
        while number <= last || (!left.is_empty() && number <= last + ASKED_AGAIN_MAX) {
            number += 1;
            let begun = self.rt.now();
            match self.rt.connect(self.proxy, begun + PATIENCE).await {
                Ok(conn) => {
                    self.ledger.conns.set(self.ledger.conns.get() + 1);
                    left = self.converse(conn, begun, left).await;
                }
                Err(error) if self.is_calm => {
                    let what = format!("the proxy cannot be connected to: {error}");
                    self.ledger.violate(what, &[]);
                }
                Err(_fault) => (),
            }
        }
        for ask in left {
            self.ledger.settle(ask.id, Outcome::Broken);
        }
    }

    /// Asks what is left from another connection, and more; gives what nobody will answer on this one: what was sent at once
    /// with a request whose answer is the last one. Nobody has executed it (RFC 9112 §9.6).
    async fn converse(&self, conn: Conn, connect_begun: Instant, mut left: Vec<Ask>) -> Vec<Ask> {
        let mut inbox = Inbox::new(&conn);
        for round in 0..=self.below(4) {
            let is_first = round == 0;
            let begun = if is_first {
                connect_begun
            } else {
                self.rt.now()
            };
            conn.set_deadline(Some(self.rt.now() + PATIENCE));
            let mut asks = if left.is_empty() {
                self.asks()
            } else {
                std::mem::take(&mut left)
            };
            for ask in &asks {
                self.ledger
                    .tell(|| format!("a client asks {} /{}", ask.method, ask.id));
            }
            if !self.is_well_behaved && self.one_in(12) {
                drop(inbox);
                self.leave(conn, &asks).await;
                return Vec::new();
            }
            let bytes: Vec<u8> = asks.iter().flat_map(|ask| ask.bytes.clone()).collect();
            let settled = Cell::new(0);
            let told = Cell::new(Told::Nothing);
            let expects_after = asks.iter().find_map(|ask| ask.expects_after);
            let batch = Batch {
                asks: &asks,
                settled: &settled,
                begun,
                is_first,
                told: &told,
            };
            let (_sent, next) = join(
                self.send_as_told(&conn, &bytes, (expects_after, &told)),
                self.receive_all(&mut inbox, &batch),
            )
            .await;
            let unsettled = asks.split_off(settled.get());
            if next == Next::CannotCome && self.hands_over {
                left = unsettled;
                break;
            }
            for ask in unsettled {
                self.ledger.settle(ask.id, Outcome::Broken);
            }
            match next {
                Next::MayCome => (),
                Next::CannotCome => break,
                Next::Broke => return Vec::new(),
                Next::Leaves => {
                    drop(inbox);
                    conn.reset();
                    return Vec::new();
                }
            }
            self.dawdle().await;
        }
        self.finish(&conn, inbox).await;
        left
    }

    /// Has nothing more to ask, and has been sent nothing more.
    async fn finish(&self, conn: &Conn, mut inbox: Inbox<'_>) {
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

    /// Sends all, unless it is told that nobody needs it; one that was told nothing goes on at last.
    async fn send_as_told(
        &self,
        conn: &Conn,
        bytes: &[u8],
        (expects_after, told): (Option<usize>, &Cell<Told>),
    ) {
        let Some(head_bytes) = expects_after else {
            return self.send_dawdling(conn, bytes).await;
        };
        let (head, content) = bytes.split_at(head_bytes);
        self.send_dawdling(conn, head).await;
        let patience = self.rt.now() + CONTINUE_PATIENCE;
        while told.get() == Told::Nothing && self.rt.now() < patience {
            self.rt.sleep(Duration::from_millis(10)).await;
        }
        if told.get() == Told::Answer && self.one_in(2) {
            return;
        }
        self.send_dawdling(conn, content).await;
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

    async fn receive_all(&self, inbox: &mut Inbox<'_>, batch: &Batch<'_>) -> Next {
        for ask in batch.asks {
            let (outcome, next) = match self.receive(inbox, ask, batch).await {
                Ok(received) => received,
                Err(broken) => {
                    self.judge_broken(ask, batch, broken);
                    (Outcome::Broken, Next::Broke)
                }
            };
            self.ledger.settle(ask.id, outcome);
            batch.settled.set(batch.settled.get() + 1);
            if next != Next::MayCome {
                return next;
            }
        }
        Next::MayCome
    }

    async fn receive(
        &self,
        inbox: &mut Inbox<'_>,
        ask: &Ask,
        batch: &Batch<'_>,
    ) -> Result<(Outcome, Next), Broken> {
        let head = loop {
            let head = inbox.head().await?;
            if let (101, Some(up)) = (head.status(), &ask.up) {
                return self.tunnel(inbox, ask, &head, up).await;
            }
            if head.status() >= 200 {
                break head;
            }
            if head.status() == 100 {
                batch.told.set(Told::GoOn);
            }
        };
        if batch.told.get() == Told::Nothing {
            batch.told.set(Told::Answer);
        }
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
        if let Some(reason) = head.field("Proxy-Status") {
            let Some(said) = self.ledger.said(head.status(), reason) else {
                let what = format!("{}: no answer of the proxy is {head:?}", ask.id);
                self.ledger.violate(what, &[]);
                return Ok((Outcome::Broken, next));
            };
            self.judge_refusal(ask, batch, said.into());
            let phrase = head
                .first
                .split_once(' ')
                .map_or("", |(_version, rest)| rest);
            let text = format!("{phrase}: {}\n", said.details);
            if !is_bodiless && content != text.as_bytes() {
                let what = format!("{}: the content is not {text:?}", ask.id);
                self.ledger.violate(what, &[]);
            }
            return Ok((Outcome::Refused(said), next));
        }
        if let Some(expected) = &ask.here {
            if content != expected.as_bytes() {
                let what = format!("{}: the answer is not {expected:?}", ask.id);
                self.ledger.violate(what, &[]);
            }
            return Ok((Outcome::Here, next));
        }
        if let Some((Part::Head, _verdict)) = ask.bad {
            let what = format!("{}: a bad request was answered by a backend", ask.id);
            self.ledger.violate(what, &[]);
        }
        self.check(ask, &head, is_bodiless, &content);
        Ok((Outcome::Whole, next))
    }

    /// An answer of the proxy's own must be the one that the request deserves, or say what else went wrong.
    fn judge_refusal(&self, ask: &Ask, batch: &Batch<'_>, verdict: Verdict) {
        let Ask { id, bad, .. } = ask;
        let took = self.rt.now() - batch.begun;
        let deserved = bad.map(|(_part, deserved)| deserved);
        let is_explained = if deserved == Some(verdict) {
            true
        } else if hostile::blames_request(verdict) {
            false
        } else if hostile::blames_time(verdict) {
            took >= PROXY_PATIENCE
        } else {
            // A backend, or the way to it: the head was taken for good.
            ask.here.is_none() && !matches!(bad, Some((Part::Head, _deserved)))
        };
        if !is_explained {
            let what = format!("{id}: {verdict:?} after {took:?}, not {deserved:?}");
            self.ledger.violate(what, &[]);
        }
    }

    /// A connection that ends without an answer; where nothing else goes wrong, a bad head is answered.
    fn judge_broken(&self, ask: &Ask, batch: &Batch<'_>, broken: Broken) {
        let took = self.rt.now() - batch.begun;
        self.ledger.tell(|| {
            format!(
                "{} is not answered whole: {broken:?} after {took:?}",
                ask.id
            )
        });
        let is_owed = self.is_calm && batch.is_first && took < PROXY_PATIENCE;
        if broken == Broken::Garbage {
            let what = format!("{}: the proxy sent no message", ask.id);
            self.ledger.violate(what, &[]);
        }
        if let (Some((Part::Head, verdict)), true) = (ask.bad, is_owed) {
            let what = format!("{}: no answer, not {verdict:?}", ask.id);
            self.ledger.violate(what, &[]);
        }
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
        let since = self.ledger.changes();
        if !self.is_well_behaved && self.one_in(4) {
            match send(conn, &up[..up.len() / 2]).await {
                Ok(()) | Err(_) => (), // Nobody waits for an answer.
            }
            if self.one_in(2) {
                self.dawdle().await;
                self.ledger.end_tunnel(TunnelEnd::ClientResets);
                return Ok((Outcome::GivenUp, Next::Leaves));
            }
            return match inbox.content(Framing::Length(usize::MAX)).await {
                Ok(_) | Err(Broken::Ended) => {
                    // The backend has ended in order, and the proxy waits for this end, but not without limit.
                    self.rt.sleep(PATIENCE * 2).await;
                    match send(conn, b"?").await {
                        Err(_reset) => self.ledger.end_tunnel(TunnelEnd::Silence),
                        Ok(()) => {
                            let what = format!("{}: a silent tunnel does not end", ask.id);
                            self.ledger.violate(what, &[]);
                        }
                    }
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
        self.ledger.tunnel_was_whole(since);
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

    /// Thinks before the next request: not at all, long enough to be parked, or too long.
    async fn dawdle(&self) {
        match self.below(8) {
            // Not until a process that was replaced closes what idles.
            0 if self.hands_over && self.is_well_behaved => self.nap(100_000).await,
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

    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.chance.borrow_mut().below(bound)
    }

    pub(crate) fn one_in(&self, n: u64) -> bool {
        self.chance.borrow_mut().one_in(n)
    }
}

/// How often what was sent in vain is asked again: as often as processes replace one another, at least.
const ASKED_AGAIN_MAX: u64 = 16;
/// Longer than the proxy waits for a backend's 100.
const CONTINUE_PATIENCE: Duration = Duration::from_secs(3);
/// How the content of a 408 begins.
const LATE: &str = "408 Request Timeout";
/// What the proxy waits for a head, or for more of some content, at least; less what its clock may be behind.
const PROXY_PATIENCE: Duration = Duration::from_secs(9);
/// Longer than anything that the proxy waits for.
const PATIENCE: Duration = Duration::from_secs(3600);
