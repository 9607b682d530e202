//! Clients that keep their cookie, backends that say who they are, and what must be true of which endpoint answered whom.
//!
//! What a request may meet is every plan that was in force at some time while it was under way: from when the first worker may
//! have heard of it until all workers have heard of the next one. Connections to a process that was replaced keep its last plan.

use super::message::{Framing, Head, Inbox, send};
use super::websocket::{self, End, Socket};
use hp_core::rt::net::Conn;
use hp_core::rt::sim::Chance;
use hp_core::rt::{Instant, Rt};
use hp_proxy::config::plan::Plan;
use hp_proxy::upstream::balance::member::Standing;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// What everybody saw.
#[derive(Debug, Default)]
pub(crate) struct Books {
    plans: RefCell<Vec<Era>>,
    /// When another process had taken over, and the plan of the one before.
    replaced: RefCell<Vec<(Instant, usize)>>,
    seen: RefCell<Vec<Seen>>,
    /// WebSockets that have ended.
    sockets: RefCell<Vec<Socket>>,
    /// How often a backend got each request.
    executed: RefCell<BTreeMap<u64, u32>>,
    /// The backend that each cookie was given for.
    cookies: RefCell<BTreeMap<String, usize>>,
    mistakes: RefCell<Vec<String>>,
    next: Cell<u64>,
    pub(crate) conns: Cell<u64>,
}

/// The time of a plan.
#[derive(Debug)]
struct Era {
    /// Some worker may have it from then on.
    begun: Instant,
    /// All workers have it from then on.
    told: Instant,
    takes: Vec<Takes>,
}

/// What an endpoint takes under a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Everybody,
    /// Whoever is bound to it.
    Bound,
    Nobody,
}

/// What a request says of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    Nothing,
    /// The cookie that this one's answer gave.
    Bound(usize),
    /// A cookie that nobody gave.
    Forgery,
}

/// A request with its answer.
#[derive(Debug)]
struct Seen {
    id: u64,
    connected: Instant,
    begun: Instant,
    ended: Instant,
    says: Says,
    /// Who answered, and with which cookie.
    answer: Option<(usize, Option<String>)>,
}

/// How often what was asked was done.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) kept: u64,
    pub(crate) bound_anew: u64,
    pub(crate) kept_in_a_drain: u64,
    pub(crate) forged: u64,
    /// WebSockets that ended in order.
    pub(crate) sockets: u64,
    /// Those of them that were open when another plan followed.
    pub(crate) sockets_over_plans: u64,
    /// Those that were open when another process took over.
    pub(crate) sockets_over_processes: u64,
    /// Those whose endpoint was out meanwhile, or gone.
    pub(crate) sockets_over_their_endpoint: u64,
    /// WebSockets that were cut at the deadline of a drain.
    pub(crate) sockets_due: u64,
}

impl Books {
    /// A plan that some workers may have since `begun`, and all of them have now.
    pub(crate) fn follow(
        &self,
        plan: &Plan,
        backends: &[SocketAddr],
        (begun, told): (Instant, Instant),
    ) {
        let takes = backends.iter().map(|addr| takes(plan, *addr)).collect();
        self.plans.borrow_mut().push(Era { begun, told, takes });
    }

    /// Another process has taken over, whose plan comes next.
    pub(crate) fn replace(&self, at: Instant) {
        let last = self.plans.borrow().len() - 1;
        self.replaced.borrow_mut().push((at, last));
    }

    pub(crate) fn requests(&self) -> u64 {
        self.next.get()
    }

    pub(crate) fn mistake(&self, what: String) {
        self.mistakes.borrow_mut().push(what);
    }

    /// The number of a new request.
    pub(crate) fn number(&self) -> u64 {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }

    /// A WebSocket has ended.
    pub(crate) fn close(&self, socket: Socket) {
        self.sockets.borrow_mut().push(socket);
    }

    /// When processes were replaced, each of which takes no new connections since.
    fn drains(&self) -> Vec<Instant> {
        let replaced = self.replaced.borrow();
        replaced.iter().map(|(at, _)| *at).collect()
    }

    /// Whatever must not be and was. `is_whole`: nothing broke by itself. `drain_timeout`: the time that a process that was replaced
    /// has for what it has begun.
    pub(crate) fn judge(&self, is_whole: bool, drain_timeout: Duration) -> Vec<String> {
        let mut found = self.mistakes.borrow().clone();
        for seen in &*self.seen.borrow() {
            found.extend(self.judge_one(seen, is_whole));
        }
        if is_whole {
            let executed = self.executed.borrow();
            let twice = executed.iter().filter(|(_, times)| **times != 1);
            found.extend(twice.map(|(id, times)| format!("{id} was executed {times} times")));
            let (sockets, drains) = (self.sockets.borrow(), self.drains());
            let cut = sockets.iter();
            found.extend(cut.filter_map(|socket| socket.judge(&drains, drain_timeout)));
        }
        found
    }

    fn judge_one(&self, seen: &Seen, is_whole: bool) -> Option<String> {
        let Some((by, given)) = &seen.answer else {
            return is_whole.then(|| format!("request {}: {seen:?} has no answer", seen.id));
        };
        let eras = self.plans.borrow();
        let met: Vec<&Era> = self.met(&eras, seen).collect();
        let may = met.iter().any(|era| match era.takes[*by] {
            Takes::Everybody => true,
            Takes::Bound => seen.says == Says::Bound(*by),
            Takes::Nobody => false,
        });
        if !may {
            return Some(format!("{seen:?} came to who takes no such requests"));
        }
        if let Says::Bound(to) = seen.says
            && is_whole
            && *by != to
            && met.iter().all(|era| era.takes[to] != Takes::Nobody)
        {
            return Some(format!("{seen:?} left its endpoint"));
        }
        // One that came meanwhile is not known to its own cookie, and gives it again.
        let is_known = met.iter().all(|era| era.takes[*by] != Takes::Nobody);
        let is_kept = seen.says == Says::Bound(*by);
        let is_right = match given {
            None => is_kept,
            Some(_) => !is_kept || !is_known,
        };
        (!is_right).then(|| format!("{seen:?} was given a cookie, or none"))
    }

    /// The plans that a request may have met.
    fn met<'a>(&self, eras: &'a [Era], seen: &Seen) -> impl Iterator<Item = &'a Era> {
        let nexts = eras.iter().skip(1).map(Some).chain([None]);
        let is_in_force = |(era, next): &(&Era, Option<&Era>)| {
            era.begun <= seen.ended && next.is_none_or(|next| next.told > seen.begun)
        };
        let in_force: Vec<&Era> = eras
            .iter()
            .zip(nexts)
            .filter(is_in_force)
            .map(|(era, _)| era)
            .collect();
        let replaced = self.replaced.borrow();
        let old = replaced.iter().filter(|(at, _)| *at > seen.connected);
        let old: Vec<&Era> = old.filter_map(|(_, era)| eras.get(*era)).collect();
        in_force.into_iter().chain(old)
    }

    pub(crate) fn tally(&self, drain_timeout: Duration) -> Tally {
        let mut tally = Tally::default();
        self.tally_sockets(&mut tally, drain_timeout);
        let eras = self.plans.borrow();
        for seen in &*self.seen.borrow() {
            match (seen.says, &seen.answer) {
                (Says::Bound(to), Some((by, _))) if to == *by => {
                    tally.kept += 1;
                    let mut met = self.met(&eras, seen);
                    tally.kept_in_a_drain +=
                        u64::from(met.all(|era| era.takes[to] == Takes::Bound));
                }
                (Says::Bound(_), Some(_)) => tally.bound_anew += 1,
                (Says::Forgery, Some(_)) => tally.forged += 1,
                _ => (),
            }
        }
        tally
    }

    fn tally_sockets(&self, tally: &mut Tally, drain_timeout: Duration) {
        let (eras, drains) = (self.plans.borrow(), self.drains());
        for socket in &*self.sockets.borrow() {
            if socket.end == End::Cut {
                tally.sockets_due += u64::from(socket.was_due(&drains, drain_timeout));
                continue;
            }
            let mut plans = eras.iter().filter(|era| socket.was_open(era.told));
            let is_over_its_endpoint = eras
                .iter()
                .any(|era| socket.was_open(era.told) && era.takes[socket.by] == Takes::Nobody);
            tally.sockets += 1;
            tally.sockets_over_plans += u64::from(plans.next().is_some());
            tally.sockets_over_processes += u64::from(drains.iter().any(|at| socket.was_open(*at)));
            tally.sockets_over_their_endpoint += u64::from(is_over_its_endpoint);
        }
    }

    /// An answer gave a cookie: it is always the same for a backend, and no other backend's.
    fn give(&self, cookie: &str, by: usize) {
        let mut cookies = self.cookies.borrow_mut();
        let others = cookies
            .iter()
            .filter(|(text, of)| (*text == cookie) != (**of == by));
        for (text, of) in others {
            self.mistake(format!("{by} gives {cookie}, and {of} gave {text}"));
        }
        cookies.insert(cookie.to_owned(), by);
    }
}

/// Whether anybody takes requests that are bound to nobody.
pub(crate) fn serves_anybody(plan: &Plan, backends: &[SocketAddr]) -> bool {
    let mut each = backends.iter();
    each.any(|addr| takes(plan, *addr) == Takes::Everybody)
}

fn takes(plan: &Plan, addr: SocketAddr) -> Takes {
    let mut endpoints = plan.upstreams[0].endpoints.iter();
    match endpoints.find(|endpoint| endpoint.addr.tcp() == Some(addr)) {
        None => Takes::Nobody,
        Some(endpoint) => match (endpoint.standing, endpoint.weight) {
            (Standing::Out, _) => Takes::Nobody,
            (Standing::Draining, _) | (Standing::Serving, 0) => Takes::Bound,
            (Standing::Serving, _) => Takes::Everybody,
        },
    }
}

/// One client, with its jar.
pub(crate) struct Client {
    pub(crate) rt: Rt,
    pub(crate) proxy: SocketAddr,
    pub(crate) books: Rc<Books>,
    pub(crate) chance: Chance,
    /// Its cookie, and whose it is.
    pub(crate) jar: Option<(String, usize)>,
}

impl Client {
    /// Asks one request after the other.
    pub(crate) async fn live(mut self) {
        let mut kept: Option<(Conn, Instant)> = None;
        for _ in 0..10 + self.chance.below(40) {
            let begun = self.rt.now();
            let (conn, connected) = match kept.take() {
                Some(kept) => kept,
                None => match self.rt.connect(self.proxy, begun + PATIENCE).await {
                    Ok(conn) => {
                        self.books.conns.set(self.books.conns.get() + 1);
                        (conn, begun)
                    }
                    Err(_refused) => {
                        self.see(0, (Says::Nothing, begun, begun), None);
                        continue;
                    }
                },
            };
            if self.ask(&conn, connected).await && self.chance.below(5) > 0 {
                kept = Some((conn, connected));
            }
            let pause = [0, 0, 2_000, 60_000, 200_000][self.chance.index(5)];
            let pause = Duration::from_micros(self.chance.below(1 + pause));
            self.rt.sleep(pause).await;
        }
    }

    /// Asks one request; whether the connection carries another.
    async fn ask(&mut self, conn: &Conn, connected: Instant) -> bool {
        if self.chance.one_in(16) {
            self.jar = None; // Another user, or a browser without a memory.
        }
        let (says, field) = self.cookie();
        let begun = self.rt.now();
        let id = self.books.number();
        let request = format!("GET /{id} HTTP/1.1\r\nHost: sim\r\n{field}\r\n");
        conn.set_deadline(Some(begun + PATIENCE));
        let head = exchange(conn, request.as_bytes()).await;
        self.take((id, 200), (says, connected, begun), head.as_ref());
        head.is_some_and(|head| head.field("Connection").is_none())
    }

    /// Takes note of an answer, which is to have a status, and of its cookie. Who gave it; nobody where it is another one, or none.
    pub(crate) fn take(
        &mut self,
        (id, status): (u64, u16),
        of: (Says, Instant, Instant),
        head: Option<&Head>,
    ) -> Option<usize> {
        let is_it = |head: &&Head| head.status() == status;
        let whose = head.filter(is_it).and_then(|head| {
            let by = usize::try_from(head.number("X-Backend")?).ok()?;
            Some((head, by, head.number("X-Id")?))
        });
        let Some((head, by, same)) = whose else {
            self.see(id, of, None);
            return None;
        };
        if same != id {
            self.books.mistake(format!("{id} got the answer to {same}"));
        }
        let given = head.field("Set-Cookie").map(|line| {
            let pair = line.split(';').next().unwrap_or("");
            pair.to_owned()
        });
        if let Some(cookie) = &given {
            self.books.give(cookie, by);
            self.jar = Some((cookie.clone(), by));
        }
        self.see(id, of, Some((by, given)));
        Some(by)
    }

    /// What a request says, with its field line.
    pub(crate) fn cookie(&mut self) -> (Says, String) {
        if self.chance.one_in(8) {
            let forged = self.forge();
            return (Says::Forgery, format!("Cookie: {forged}\r\n"));
        }
        let Some((cookie, of)) = self.jar.clone() else {
            return (Says::Nothing, String::new());
        };
        let field = match self.chance.below(4) {
            // The first good one counts.
            0 => format!("Cookie: a=b; {}; {cookie}\r\n", self.forge()),
            1 => format!("Cookie: c=d\r\nCookie: {cookie}; e=f\r\n"),
            _ => format!("Cookie: {cookie}\r\n"),
        };
        (Says::Bound(of), field)
    }

    /// A cookie that nobody gave: another key's, or a good one in which a sign is another.
    fn forge(&mut self) -> String {
        let any = |chance: &mut Chance| SIGNS[chance.index(SIGNS.len())];
        let good = self.jar.as_ref().filter(|_| self.chance.one_in(2));
        let mut text: Vec<u8> = match good {
            Some((cookie, _)) => cookie.clone().into_bytes(),
            None => {
                let made_up = (0..TOKEN_CHARS).map(|_| any(&mut self.chance));
                NAME.bytes().chain(made_up).collect()
            }
        };
        let place = NAME.len() + self.chance.index(text.len() - NAME.len());
        let before = text[place];
        while text[place] == before {
            text[place] = any(&mut self.chance);
        }
        String::from_utf8(text).expect("signs are ASCII")
    }

    pub(crate) fn see(
        &self,
        id: u64,
        (says, connected, begun): (Says, Instant, Instant),
        answer: Option<(usize, Option<String>)>,
    ) {
        self.books.seen.borrow_mut().push(Seen {
            id,
            connected,
            begun,
            ended: self.rt.now(),
            says,
            answer,
        });
    }
}

/// Sends a request and receives its answer, whole.
pub(crate) async fn exchange(conn: &Conn, request: &[u8]) -> Option<Head> {
    send(conn, request).await.ok()?;
    let mut inbox = Inbox::new(conn);
    let head = inbox.head().await.ok()?;
    let length = usize::try_from(head.number("Content-Length")?).ok()?;
    let content = inbox.content(Framing::Length(length)).await;
    content.ok().map(|_hi| head)
}

/// A backend's side of a connection: it says who it is.
pub(crate) async fn answer_all(
    (rt, conn): (Rt, Conn),
    number: usize,
    mut chance: Chance,
    books: Rc<Books>,
) {
    let mut inbox = Inbox::new(&conn);
    while let Ok(head) = inbox.head().await {
        let target = head.first.split(' ').nth(1).unwrap_or("");
        let id = target.trim_start_matches('/').parse().unwrap_or(0);
        *books.executed.borrow_mut().entry(id).or_default() += 1;
        if chance.one_in(2) {
            rt.sleep(Duration::from_micros(chance.below(20_000))).await;
        }
        let said = format!("X-Backend: {number}\r\nX-Id: {id}\r\n");
        if websocket::is_asked_for(&head) {
            match websocket::echo((&rt, &mut inbox), &said, &books).await {
                Ok(()) | Err(_) => return, // Its client tells how it ended.
            }
        }
        let answer = format!("HTTP/1.1 200 OK\r\n{said}Content-Length: 2\r\n\r\nhi");
        if send(&conn, answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

pub(crate) const NAME: &str = "hp_route=";
/// Those of base64url.
const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const TOKEN_CHARS: usize = 32;
/// Longer than anything that the proxy waits for.
const PATIENCE: Duration = Duration::from_secs(3600);
