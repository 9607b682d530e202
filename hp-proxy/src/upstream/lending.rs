//! What workers lend each other (decision 0027): a worker whose requests wait, or would dial, asks a sibling; the sibling gives an idle
//! connection, or shares of the limit, or neither. Here it is done; who may have what is for the ledgers to decide.
//!
//! ```text
//!   requests wait ─→ Ask ──mailbox──► sibling: something to lend? ──no──► Answer (nothing) ─→ the next sibling, or a pause
//!                     ▲                          │ yes: a connection leaves its runtime, its share leaves the ledger
//!                     └──── they still wait ◄── Answer (a loan), which the ledger here joins
//! ```
//!
//! At most one question of an upstream is open at a time. A loan is good whenever it comes; one that cannot be sent comes back.

use super::endpoint::{Idle, Term};
use super::ledger::{Ledger, Loanable, Part};
use super::life::Life;
use super::pool::Upstream;
use super::wish::Place;
use hp_core::rt::Instant;
use hp_core::rt::net::Released;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// When an upstream of one worker asks the others for connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Borrow {
    /// Not at all.
    Never,
    /// When requests wait that no connection is free or allowed for.
    Waiting,
    /// The same, and before a connection is made.
    BeforeDial,
}

/// The way to the same upstream of other workers.
pub struct Siblings {
    me: u32,
    workers: u32,
    send: SendLetter,
}

/// Leaves a letter for a worker; gives it back where that is not possible.
type SendLetter = Box<dyn Fn(u32, Box<Letter>) -> Result<(), Box<Letter>>>;

impl fmt::Debug for Siblings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (me, workers) = (self.me, self.workers);
        write!(f, "Siblings of {me} of {workers}")
    }
}

impl Siblings {
    /// Those of worker `me`, of so many workers with it.
    pub fn new(
        me: u32,
        workers: u32,
        send: impl Fn(u32, Box<Letter>) -> Result<(), Box<Letter>> + 'static,
    ) -> Self {
        Self {
            me,
            workers,
            send: Box::new(send),
        }
    }
}

/// What the same upstream of two workers tell each other.
#[derive(Debug)]
pub struct Letter {
    /// The upstream's number, the same for all workers.
    upstream: u32,
    from: u32,
    /// The plan that the sender knows the upstream by: see [`Lending::version`].
    version: u32,
    what: What,
}

#[derive(Debug)]
enum What {
    /// Requests wait; `number`: of the question.
    Ask { number: u32, want: Want },
    /// `number`: of the question that this answers; `None`: a claim is paid.
    Answer {
        number: Option<u32>,
        loan: Option<Loan>,
    },
}

#[derive(Clone, Copy, Debug)]
enum Want {
    /// A connection of any endpoint, or so many shares at most. `is_creditor`: the asker has lent more than it has borrowed.
    Anything { shares_max: u32, is_creditor: bool },
    /// A connection of one endpoint.
    Conn(Term),
}

/// What goes from one ledger to another.
#[derive(Debug)]
struct Loan {
    part: Part,
    conn: Option<(Released, Life)>,
}

/// What came of a loan.
enum Came {
    Nothing,
    Shares,
    /// A connection to the endpoint of a slot.
    Conn(usize),
}

impl Letter {
    /// The upstream's number.
    pub(crate) fn upstream(&self) -> u32 {
        self.upstream
    }

    /// A question that cannot be heard is answered with nothing; a loan that cannot be taken is lost with what it was for.
    pub(crate) fn decline(self, siblings: &Siblings) {
        if let What::Ask { number, .. } = self.what {
            let letter = Self {
                upstream: self.upstream,
                from: siblings.me,
                version: self.version,
                what: What::Answer {
                    number: Some(number),
                    loan: None,
                },
            };
            match (siblings.send)(self.from, Box::new(letter)) {
                Ok(()) => (),
                Err(_nobody_waits) => (),
            }
        }
    }
}

/// One upstream's dealings with its siblings.
#[derive(Debug)]
pub(super) struct Lending {
    siblings: Rc<Siblings>,
    /// The upstream's number, the same for all workers.
    upstream: u32,
    /// The plan that last changed the upstream. Whoever has followed later plans lends nothing: the other one would not know what for.
    version: Cell<u32>,
    /// For all requests that wait.
    for_waiting: Question,
    /// For one request that would dial.
    before_dial: Question,
    /// Questions so far.
    numbers: Cell<u32>,
    /// Who is asked next.
    next: Cell<u32>,
    /// Who was told not long ago that there is nothing, and until when that is believed; for connections that are asked for before a dial.
    nothing_until: Cell<Instant>,
    /// Workers whose claim stands in the queue.
    claims: RefCell<Vec<u32>>,
}

/// One question at a time, and the answer to it.
#[derive(Debug, Default)]
struct Question {
    is_open: Cell<bool>,
    /// Of the last one; the answer to an earlier one is not waited for.
    number: Cell<u32>,
    /// Once it has come: whether anything came of it.
    answer: Cell<Option<bool>>,
    waits: RefCell<Option<Waker>>,
}

impl Upstream {
    /// From now on it deals with siblings; `number` is the upstream's, the same for all workers, and `version` the plan that last changed it.
    pub(crate) fn join_siblings(&self, siblings: &Rc<Siblings>, (number, version): (u32, u32)) {
        if siblings.workers < 2 {
            return;
        }
        let lending = Lending {
            next: Cell::new(siblings.me),
            siblings: Rc::clone(siblings),
            upstream: number,
            version: Cell::new(version),
            for_waiting: Question::default(),
            before_dial: Question::default(),
            numbers: Cell::new(0),
            nothing_until: Cell::new(Instant::START),
            claims: RefCell::default(),
        };
        if self.lending.set(lending).is_err() {
            debug_assert!(false, "it has joined already");
        }
    }

    /// A plan has changed the upstream.
    pub(crate) fn note_version(&self, version: u32) {
        if let Some(lending) = self.lending.get() {
            lending.version.set(version);
        }
    }

    /// A request waits: siblings are asked for as long as any does, by one task for all of them.
    #[cold]
    pub(super) fn ask_siblings(self: &Rc<Self>) {
        let Some(lending) = self.lending.get() else {
            return;
        };
        if self.may_borrow() && lending.for_waiting.open() {
            let upstream = Rc::clone(self);
            let asking = async move { upstream.ask_until_nobody_waits().await };
            self.rt.spawn(asking);
        }
    }

    /// Asks one sibling for a connection to an endpoint to which one would be dialled now; for a moment only. Whether the endpoint is still
    /// there.
    pub(super) async fn ask_before_dial(&self, slot: usize) -> bool {
        let lacking = self.books.with(|ledger| ledger.lacks_idle(slot));
        let (Some(lending), Some(term)) = (self.lending.get(), lacking) else {
            return true;
        };
        let now = self.rt.now();
        if now < lending.nothing_until.get() || !lending.before_dial.open() {
            return true;
        }
        let open = Open(&lending.before_dial);
        if self.ask(&open, Want::Conn(term), now + HEAD_START).await {
            lending.repeat();
        } else {
            lending.nothing_until.set(now + BELIEF);
        }
        self.books.with(|ledger| ledger.is_in(slot, term))
    }

    /// Whether siblings are asked. Not for an upstream that the plan has no more: they do not know it, and their answers would come to nobody.
    fn may_borrow(&self) -> bool {
        self.settings().borrow != Borrow::Never && !self.books.with(|ledger| ledger.is_closing)
    }

    async fn ask_until_nobody_waits(&self) {
        let Some(lending) = self.lending.get() else {
            return;
        };
        let open = Open(&lending.for_waiting);
        let mut asked = 0;
        while self.books.with(|ledger| ledger.waiting()) > 0 && self.may_borrow() {
            let waiting = self.books.with(|ledger| ledger.waiting_in_vain());
            if waiting == 0 || asked == lending.siblings.workers - 1 || asked == ASKED_MAX {
                asked = 0;
                self.rt.sleep(PAUSE).await;
                continue;
            }
            let want = Want::Anything {
                shares_max: waiting,
                is_creditor: self.books.with(|ledger| ledger.extra()) < 0,
            };
            if self.ask(&open, want, self.rt.now() + ANSWER_MAX).await {
                lending.repeat();
                asked = 0;
                self.rt.yield_now().await; // Whoever was granted something takes it first.
            } else {
                asked += 1;
            }
        }
    }

    /// Asks the sibling whose turn it is. Whether anything came of it in time.
    async fn ask(&self, open: &Open<'_>, want: Want, until: Instant) -> bool {
        let (Some(lending), Open(question)) = (self.lending.get(), open) else {
            return false;
        };
        let number = lending.numbers.get().wrapping_add(1);
        lending.numbers.set(number);
        question.number.set(number);
        question.answer.set(None);
        let letter = lending.letter(What::Ask { number, want });
        if (lending.siblings.send)(lending.turn(), letter).is_err() {
            return false;
        }
        let answered = poll_fn(|cx| match question.answer.take() {
            Some(came) => Poll::Ready(came),
            None => {
                *question.waits.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        });
        self.rt
            .timeout_at(until, answered)
            .await
            .unwrap_or_default()
    }

    /// A sibling's letter.
    pub(crate) fn hear(self: &Rc<Self>, letter: Letter) {
        let Some(lending) = self.lending.get() else {
            return;
        };
        match letter.what {
            What::Ask { .. }
                if letter.version < lending.version.get()
                    || self.settings().borrow == Borrow::Never =>
            {
                letter.decline(&lending.siblings);
            }
            What::Ask { number, want } => {
                let (from, version) = (letter.from, letter.version);
                self.hear_ask(lending, (from, number), (want, version));
            }
            What::Answer { number, loan } => {
                let came = loan.map_or(Came::Nothing, |loan| self.take_in(loan));
                if let Came::Conn(slot) = came {
                    self.rows.of(self.row).upstream_borrowed.add(1);
                    self.books.with(|ledger| ledger.note_borrowed(slot));
                }
                for question in [&lending.for_waiting, &lending.before_dial] {
                    question.hear(number, !matches!(came, Came::Nothing));
                }
            }
        }
    }

    fn hear_ask(
        self: &Rc<Self>,
        lending: &Lending,
        (from, number): (u32, u32),
        (want, version): (Want, u32),
    ) {
        let now = self.rt.now();
        let found = self.books.with(|ledger| match want {
            Want::Anything { shares_max, .. } => ledger.lend(shares_max, now),
            Want::Conn(term) => ledger.lend_of(term, now),
        });
        match (found, want) {
            (Loanable::Conn(slot, term, idle), _) => {
                let upstream = Rc::clone(self);
                self.rt.spawn(async move {
                    let loan = upstream.let_leave((slot, term), idle).await;
                    upstream.answer((from, Some(number)), loan);
                });
            }
            (Loanable::Shares(part), _) => {
                self.answer((from, Some(number)), Some(Loan { part, conn: None }));
            }
            (Loanable::Nothing, Want::Anything { is_creditor, .. }) => {
                if is_creditor {
                    self.begin_claim(lending, (from, version));
                }
                self.answer((from, Some(number)), None);
            }
            (Loanable::Nothing, Want::Conn(_)) => self.answer((from, Some(number)), None),
        }
    }

    /// A sibling that has lent wants something back: its claim waits in the queue as a request does.
    fn begin_claim(self: &Rc<Self>, lending: &Lending, (to, version): (u32, u32)) {
        let owes = self.books.with(|ledger| ledger.extra()) > 0;
        let mut claims = lending.claims.borrow_mut();
        if owes && !claims.contains(&to) {
            claims.push(to);
            let claim = Claim {
                upstream: Rc::clone(self),
                to,
                version,
            };
            self.rt.spawn(async move { claim.pay().await });
        }
    }

    /// Has an idle connection leave this runtime with its share. `None`: it had news, or the endpoint has gone meanwhile; the connection is closed
    /// then.
    async fn let_leave(self: &Rc<Self>, (slot, term): (usize, Term), idle: Idle) -> Option<Loan> {
        let (conn, life) = self.revive(slot, idle)?;
        let released = conn.release_idle().await.ok();
        // Without a part, it stays counted here until it is closed.
        let part = released
            .as_ref()
            .and_then(|_| self.books.with(|ledger| ledger.part(slot, term)));
        if let (Some(released), Some(part)) = (released, part) {
            let conn = Some((released, life));
            return Some(Loan { part, conn });
        }
        self.count_refused(slot);
        self.books.with(|ledger| ledger.close(slot));
        None
    }

    fn answer(&self, (to, number): (u32, Option<u32>), loan: Option<Loan>) {
        let Some(lending) = self.lending.get() else {
            return;
        };
        let letter = lending.letter(What::Answer { number, loan });
        if let Err(letter) = (lending.siblings.send)(to, letter)
            && let What::Answer {
                loan: Some(loan), ..
            } = letter.what
        {
            self.take_in(loan); // Nobody is there to have it.
        }
    }

    /// This worker ends, and nobody waits here: its shares go to a sibling that has not ended, with whom somebody may.
    #[cold]
    pub(crate) fn leave_shares(&self) {
        let Some(lending) = self.lending.get() else {
            return;
        };
        if self.settings().borrow == Borrow::Never {
            return;
        }
        while let Some(part) = self.books.with(Ledger::bequeath) {
            let loan = Some(Loan { part, conn: None });
            let mut letter = lending.letter(What::Answer { number: None, loan });
            for _ in 1..lending.siblings.workers {
                match (lending.siblings.send)(lending.turn(), letter) {
                    Ok(()) => break,
                    Err(ended) => letter = ended,
                }
            }
        }
    }

    /// Takes a loan, or one of its own that came back.
    fn take_in(&self, loan: Loan) -> Came {
        let Loan { part, conn } = loan;
        let Some(slot) = self.books.with(|ledger| ledger.join(part)) else {
            return Came::Nothing; // Of an endpoint that is gone, or of a limit that is another one.
        };
        let Some((released, life)) = conn else {
            self.books.with(Ledger::pass_on);
            return Came::Shares;
        };
        if !self.books.with(|ledger| ledger.begin_borrowed(slot)) {
            self.count_refused(slot);
            self.books.with(Ledger::pass_on);
            return Came::Nothing;
        }
        let adopted = if released.has_news() {
            None
        } else {
            self.rt.adopt_released(released).ok()
        };
        match adopted {
            Some(conn) => {
                self.put_back((conn, life), slot, None);
                Came::Conn(slot)
            }
            None => {
                self.count_refused(slot);
                self.books.with(|ledger| ledger.close(slot)); // Its share makes room for another one.
                Came::Shares
            }
        }
    }

    fn count_refused(&self, slot: usize) {
        self.rows.of(self.row).upstream_borrow_refused.add(1);
        self.books.with(|ledger| ledger.note_refused(slot));
    }
}

impl Lending {
    fn letter(&self, what: What) -> Box<Letter> {
        Box::new(Letter {
            upstream: self.upstream,
            from: self.siblings.me,
            version: self.version.get(),
            what,
        })
    }

    /// Who is asked next.
    fn turn(&self) -> u32 {
        let Siblings { me, workers, .. } = *self.siblings;
        let next = (self.next.get() + 1) % workers;
        let next = if next == me {
            (next + 1) % workers
        } else {
            next
        };
        self.next.set(next);
        next
    }

    /// Who was asked last is asked again: it had something.
    fn repeat(&self) {
        let workers = self.siblings.workers;
        self.next.set((self.next.get() + workers - 1) % workers);
    }
}

impl Question {
    /// Whether nobody has opened it yet; whoever did not is to leave it alone.
    fn open(&self) -> bool {
        !self.is_open.replace(true)
    }

    fn hear(&self, number: Option<u32>, came: bool) {
        if number == Some(self.number.get()) {
            self.answer.set(Some(came));
            if let Some(waker) = self.waits.take() {
                waker.wake();
            }
        }
    }
}

/// A question that somebody has opened; dropping it lets another one ask.
struct Open<'a>(&'a Question);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.is_open.set(false);
    }
}

/// What a sibling is owed, while it waits for it.
struct Claim {
    upstream: Rc<Upstream>,
    to: u32,
    /// That of the one who claims.
    version: u32,
}

impl Claim {
    /// Waits as a request does, then gives what it was granted.
    async fn pay(self) {
        let upstream = &self.upstream;
        let deadline = upstream.rt.now() + upstream.settings().queue_timeout;
        let number = upstream.books.with(Ledger::number);
        let place = Place::enter(&upstream.books, number);
        if upstream.wait(&place, deadline).await.is_err() {
            return;
        }
        place.spend();
        let now = upstream.rt.now();
        let known = upstream.lending.get().map(|lending| lending.version.get());
        let owed = upstream.books.with(|ledger| {
            if ledger.extra() > 0 && known.is_some_and(|known| known <= self.version) {
                ledger.pay(now)
            } else {
                Loanable::Nothing
            }
        });
        upstream.books.with(Ledger::pass_on);
        let loan = match owed {
            Loanable::Conn(slot, term, idle) => upstream.let_leave((slot, term), idle).await,
            Loanable::Shares(part) => Some(Loan { part, conn: None }),
            Loanable::Nothing => None,
        };
        if loan.is_some() {
            upstream.answer((self.to, None), loan);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(lending) = self.upstream.lending.get() {
            let mut claims = lending.claims.borrow_mut();
            claims.retain(|claim| *claim != self.to);
        }
    }
}

/// Between two rounds of questions. With [`super::ledger::LEND_AFTER`] and a turn of each worker, this is how long a request waits at most while a
/// sibling has a connection that idles, of up to [`ASKED_MAX`] siblings.
const PAUSE: Duration = Duration::from_millis(5);
/// Siblings that are asked without a pause.
const ASKED_MAX: u32 = 8;
/// How long an answer is waited for before the next sibling is asked. A late one is good, too.
const ANSWER_MAX: Duration = Duration::from_millis(50);
/// How long a dial waits for the answer of a sibling that may have a connection.
const HEAD_START: Duration = Duration::from_millis(1);
/// How long it is believed that siblings have no connection to lend.
const BELIEF: Duration = Duration::from_millis(20);
