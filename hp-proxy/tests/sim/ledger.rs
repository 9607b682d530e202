//! What was asked, what became of it, and what must never happen. Clients and backends write here; the run is judged by it.

use super::hostile::{Verdict, blames_answer_head};
use hp_proxy::exchange::answers::{self, Said};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

/// Every request of a run by its number.
#[derive(Debug)]
pub(crate) struct Ledger {
    entries: RefCell<BTreeMap<u64, Entry>>,
    violations: RefCell<Vec<Violation>>,
    /// Clients' connections that came about.
    pub(crate) conns: Cell<u64>,
    /// Backends that did not do as HTTP asks.
    pub(crate) misdeeds: Cell<u64>,
    /// Requests that a backend answered twice, in one piece.
    answered_twice: RefCell<BTreeSet<u64>>,
    /// Requests share connections, so that a second answer is taken for that to the next request.
    multiplexes: bool,
    next: Cell<u64>,
    tells: Cell<bool>,
    /// Every answer that the proxy can make itself.
    answers: Vec<Said>,
    /// How often tunnels ended in each way that only their ends tell apart.
    tunnel_ends: RefCell<BTreeMap<TunnelEnd, u64>>,
    changes: Cell<Changes>,
    /// Tunnels that both ends had whole, by what had changed meanwhile.
    tunnels_whole: Cell<TunnelsWhole>,
}

/// How often something changed under everybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    plans: u64,
    processes: u64,
}

/// Tunnels that ended in order, with all that was said.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TunnelsWhole {
    pub(crate) all: u64,
    /// Another plan followed meanwhile.
    pub(crate) over_plans: u64,
    /// Another process took over meanwhile.
    pub(crate) over_processes: u64,
}

#[derive(Debug)]
struct Entry {
    may_be_repeated: bool,
    /// What nobody may take.
    bad: Option<Part>,
    /// Others were sent at once with it.
    is_pipelined: bool,
    /// A backend closed a connection that it had come over with others, and did not read on.
    may_be_swept_away: bool,
    body_bytes: usize,
    executed: u32,
    conducts: Vec<Conduct>,
    outcome: Option<Outcome>,
}

/// A part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Head,
    Content,
}

/// What a backend does with a request that it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// It answers as HTTP asks, after it has read all of the request.
    Fair,
    /// It answers as HTTP asks, before it has read the content.
    Early,
    /// The same, and the answer does not end before the content is read, which its client may be slow to send, or need not send any
    /// more (RFC 9110 §10.1.1).
    EarlyInVain,
    /// It never answers.
    Silent,
    /// Its connection ends within the answer's head, or before.
    Ends,
    /// The answer's head deserves a verdict.
    Bad(Verdict),
    /// The content is not whole; why.
    Cut(&'static str),
}

/// How a tunnel ended that did not end in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TunnelEnd {
    ClientResets,
    BackendResets,
    Silence,
}

/// What a client learns of its request; exactly one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The backend's answer, whole.
    Whole,
    /// The proxy's own answer.
    Refused(Said),
    /// The proxy's own answer, 200.
    Here,
    /// The connection broke, or ended before the answer was whole, and the client can tell.
    Broken,
    /// The client gave up, or never sent all of it.
    GivenUp,
}

#[derive(Debug)]
struct Violation {
    what: String,
    /// Any of these faults, where it struck, explains it without a mistake of the proxy.
    excuses: &'static [&'static str],
}

impl Ledger {
    /// Of a run in which nothing has happened.
    pub(crate) fn new(multiplexes: bool) -> Self {
        Self {
            entries: RefCell::default(),
            violations: RefCell::default(),
            conns: Cell::default(),
            misdeeds: Cell::default(),
            answered_twice: RefCell::default(),
            multiplexes,
            next: Cell::default(),
            tells: Cell::default(),
            answers: answers::every(),
            tunnel_ends: RefCell::default(),
            changes: Cell::default(),
            tunnels_whole: Cell::default(),
        }
    }

    /// Has [`Ledger::tell`] write to stderr.
    pub(crate) fn tell_all(&self) {
        self.tells.set(true);
    }

    /// A line for whoever wants to see everything.
    pub(crate) fn tell(&self, line: impl FnOnce() -> String) {
        if self.tells.get() {
            eprintln!("{}", line());
        }
    }

    /// A new request.
    pub(crate) fn enter(&self, may_be_repeated: bool, body_bytes: usize) -> u64 {
        self.enter_any(may_be_repeated, None, body_bytes)
    }

    /// A new request of which a part is bad, or that ends with the proxy.
    pub(crate) fn enter_bad(&self, part: Part) -> u64 {
        self.enter_any(false, Some(part), 0)
    }

    fn enter_any(&self, may_be_repeated: bool, bad: Option<Part>, body_bytes: usize) -> u64 {
        let id = self.next.get() + 1;
        self.next.set(id);
        let entry = Entry {
            may_be_repeated,
            bad,
            is_pipelined: false,
            may_be_swept_away: false,
            body_bytes,
            executed: 0,
            conducts: Vec::new(),
            outcome: None,
        };
        self.entries.borrow_mut().insert(id, entry);
        id
    }

    /// What the proxy says with an answer of its own; `None` when it never says that.
    pub(crate) fn said(&self, status: u16, reason: &str) -> Option<Said> {
        let is_it = |said: &&Said| {
            let Said { error, details, .. } = said;
            let whole = format!("hp-proxy; error={error}; details=\"{details}\"");
            said.status == status && whole == reason
        };
        self.answers.iter().find(is_it).copied()
    }

    /// A request is sent at once with others.
    pub(crate) fn pipeline(&self, id: u64) {
        if let Some(entry) = self.entries.borrow_mut().get_mut(&id) {
            entry.is_pipelined = true;
        }
    }

    /// A backend closes the connection over which these came, whatever else has come over it. Where requests share one, that resets
    /// it, and the reset takes away what is still on its way of the answers before (RFC 9112 §9.6).
    pub(crate) fn sweep_away(&self, ids: &[u64]) {
        let mut entries = self.entries.borrow_mut();
        for id in ids.iter().filter(|_| self.multiplexes) {
            if let Some(entry) = entries.get_mut(id) {
                entry.may_be_swept_away = true;
            }
        }
    }

    /// What a backend does with a request.
    pub(crate) fn conduct(&self, id: u64, conduct: Conduct) {
        if let Some(entry) = self.entries.borrow_mut().get_mut(&id) {
            entry.conducts.push(conduct);
        }
    }

    /// A backend has read all of a request's content, and took it for whole.
    pub(crate) fn read(&self, id: u64) {
        let entries = self.entries.borrow();
        if entries.get(&id).is_some_and(|entry| entry.bad.is_some()) {
            let what = format!("{id}: bad content came to a backend as whole");
            self.violate(what, &[]);
        }
    }

    /// How a tunnel ended that did not end in order.
    pub(crate) fn end_tunnel(&self, end: TunnelEnd) {
        *self.tunnel_ends.borrow_mut().entry(end).or_default() += 1;
    }

    /// Another plan follows.
    pub(crate) fn follow(&self) {
        let Changes { plans, processes } = self.changes.get();
        let plans = plans + 1;
        self.changes.set(Changes { plans, processes });
    }

    /// Another process has taken over.
    pub(crate) fn replace(&self) {
        let Changes { plans, processes } = self.changes.get();
        let processes = processes + 1;
        self.changes.set(Changes { plans, processes });
    }

    /// What has changed so far.
    pub(crate) fn changes(&self) -> Changes {
        self.changes.get()
    }

    /// A tunnel that began after these changes was whole.
    pub(crate) fn tunnel_was_whole(&self, since: Changes) {
        let (mut whole, now) = (self.tunnels_whole.get(), self.changes.get());
        whole.all += 1;
        whole.over_plans += u64::from(now.plans > since.plans);
        whole.over_processes += u64::from(now.processes > since.processes);
        self.tunnels_whole.set(whole);
    }

    /// Tunnels that were whole.
    pub(crate) fn tunnels_whole(&self) -> TunnelsWhole {
        self.tunnels_whole.get()
    }

    /// How many tunnels ended so.
    pub(crate) fn tunnels_ended(&self, end: TunnelEnd) -> u64 {
        self.tunnel_ends.borrow().get(&end).copied().unwrap_or(0)
    }

    /// How often each answer of the proxy's own was received, but for those that no backend of these runs brings about.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = (Said, u64)> + '_ {
        let count = |said| self.count(|outcome| outcome == Outcome::Refused(said));
        let can_be = |said: &&Said| !SPOKE_FIRST.contains(&said.details);
        self.answers
            .iter()
            .filter(can_be)
            .map(move |said| (*said, count(*said)))
    }

    /// How many clients saw that their answer was not whole, which a backend had cut for this reason.
    pub(crate) fn cuts(&self, why: &'static str) -> u64 {
        let entries = self.entries.borrow();
        let is_cut = |entry: &&Entry| {
            entry.outcome == Some(Outcome::Broken) && entry.conducts.contains(&Conduct::Cut(why))
        };
        entries.values().filter(is_cut).count() as u64
    }

    /// A backend has the whole head of a request.
    pub(crate) fn execute(&self, id: u64) {
        match self.entries.borrow_mut().get_mut(&id) {
            Some(entry) => entry.executed += 1,
            None => self.violate(format!("nobody asked for {id}, which a backend got"), &[]),
        }
    }

    /// How many bytes of content the client sends with a request.
    pub(crate) fn body_bytes(&self, id: u64) -> usize {
        self.entries
            .borrow()
            .get(&id)
            .map_or(0, |entry| entry.body_bytes)
    }

    /// A backend answers a request twice.
    pub(crate) fn answer_twice(&self, id: u64) {
        self.answered_twice.borrow_mut().insert(id);
    }

    /// A client got the answer to another request. A second answer that comes apart from the first one, on a connection that
    /// is in use again, cannot be told from the right one, and every later answer on that connection is one too late.
    pub(crate) fn mix_up(&self, id: u64, other: u64) {
        let is_shifted = self.answered_twice.borrow().contains(&other);
        let excuses: &[&str] = if is_shifted { APART } else { &[] };
        if is_shifted {
            self.answered_twice.borrow_mut().insert(id);
            if self.multiplexes {
                return; // Nothing in HTTP/1.1 says to which request an answer belongs, but their order.
            }
        }
        self.violate(format!("{id} got the answer to {other}"), excuses);
    }

    /// What became of a request.
    pub(crate) fn settle(&self, id: u64, outcome: Outcome) {
        let mut entries = self.entries.borrow_mut();
        let entry = entries.get_mut(&id).expect("the client entered it");
        if let Some(before) = entry.outcome.replace(outcome) {
            self.violate(
                format!("{id} has two outcomes: {before:?}, {outcome:?}"),
                &[],
            );
        }
    }

    /// Takes note of what must not be.
    pub(crate) fn violate(&self, what: String, excuses: &'static [&'static str]) {
        self.violations
            .borrow_mut()
            .push(Violation { what, excuses });
    }

    /// How many requests ended in a way.
    pub(crate) fn count(&self, is: impl Fn(Outcome) -> bool) -> u64 {
        let entries = self.entries.borrow();
        entries
            .values()
            .filter(|entry| entry.outcome.is_some_and(&is))
            .count() as u64
    }

    /// How many requests there were.
    pub(crate) fn requests(&self) -> u64 {
        self.next.get()
    }

    /// Whatever must not be and was, in view of the faults that struck. `is_calm`: none did, and no drain began before the
    /// clients had ended.
    pub(crate) fn judge(&self, struck: &dyn Fn(&str) -> bool, is_calm: bool) -> Vec<String> {
        let violations = self.violations.borrow();
        let mut found: Vec<String> = violations
            .iter()
            .filter(|violation| !violation.excuses.iter().any(|fault| struck(fault)))
            .map(|violation| violation.what.clone())
            .collect();
        let is_apart = self.multiplexes || APART.iter().any(|fault| struck(fault));
        // Which answers came to whom nobody knows then.
        let may_be_shifted = is_apart && !self.answered_twice.borrow().is_empty();
        for (id, entry) in self.entries.borrow().iter() {
            if entry.outcome.is_none() {
                found.push(format!("{id} has no outcome"));
            }
            if entry.executed > 1 && !entry.may_be_repeated {
                found.push(format!("{id} was executed {} times", entry.executed));
            }
            if entry.executed > 0 && entry.bad == Some(Part::Head) {
                found.push(format!("{id} is none to pass on, and came to a backend"));
            }
            let is_shifted = is_apart && self.answered_twice.borrow().contains(id);
            if entry.executed == 0 && entry.outcome == Some(Outcome::Whole) && !is_shifted {
                found.push(format!("{id} was answered by nobody"));
            }
            if !may_be_shifted {
                found.extend(entry.contradiction(*id, struck));
            }
            if is_calm && !is_shifted && !self.has_no_place_again(entry) {
                found.extend(entry.difference(*id));
            }
        }
        found
    }

    /// On a connection that requests share, what is no answer may be the end of the one before: the request is sent again, and for that
    /// it waits for a place like any other.
    fn has_no_place_again(&self, entry: &Entry) -> bool {
        let waited = |outcome| matches!(outcome, Outcome::Refused(said) if said.error == "connection_limit_reached");
        self.multiplexes && entry.outcome.is_some_and(waited)
    }
}

impl Entry {
    /// An outcome that nothing that any backend did explains.
    fn contradiction(&self, id: u64, struck: &dyn Fn(&str) -> bool) -> Option<String> {
        let conducts = &self.conducts;
        let is_whole = |conduct: &Conduct| match conduct {
            Conduct::Fair => self.bad.is_none(),
            Conduct::Early | Conduct::EarlyInVain => true,
            // Where content ends with its connection, and the kernel ends that too soon, nobody can tell.
            Conduct::Cut(_) => struck("half_close"),
            Conduct::Silent | Conduct::Ends | Conduct::Bad(_) => false,
        };
        match self.outcome? {
            Outcome::Whole if self.executed > 0 && !conducts.iter().any(is_whole) => {
                Some(format!("{id} is whole, although {conducts:?}"))
            }
            Outcome::Refused(said) => {
                let verdict = Verdict::from(said);
                let is_explained = conducts.contains(&Conduct::Bad(verdict));
                (blames_answer_head(verdict) && !is_explained)
                    .then(|| format!("{id}: {said:?}, although {conducts:?}"))
            }
            Outcome::Whole | Outcome::Here | Outcome::Broken | Outcome::GivenUp => None,
        }
    }
}

impl Entry {
    /// An outcome other than the one that follows from what a backend did, where nothing else goes wrong.
    fn difference(&self, id: u64) -> Option<String> {
        let [conduct] = self.conducts[..] else {
            return None; // Not executed, or repeated.
        };
        let is_right = match (conduct, self.outcome?) {
            // The client did not wait; or its own part was bad, which others judge.
            (_, Outcome::GivenUp) => true,
            _ if self.bad.is_some() => true,
            // The reset that shows that a later answer was cut takes away what is still on its way.
            (_, Outcome::Broken) if self.is_pipelined || self.may_be_swept_away => true,
            (Conduct::Fair | Conduct::Early, outcome) => outcome == Outcome::Whole,
            (Conduct::EarlyInVain, outcome) => {
                matches!(outcome, Outcome::Whole | Outcome::Broken)
            }
            (Conduct::Bad(verdict), Outcome::Refused(said)) => Verdict::from(said) == verdict,
            (Conduct::Silent, Outcome::Refused(said)) => said.error == "http_response_timeout",
            (Conduct::Cut(_), Outcome::Broken) => true,
            // A reset takes away what was not read.
            (Conduct::Ends | Conduct::Cut(_), Outcome::Refused(said)) => {
                let errors = ["http_response_incomplete", "connection_terminated"];
                errors.contains(&said.error)
            }
            (Conduct::Bad(_) | Conduct::Silent | Conduct::Ends | Conduct::Cut(_), _) => false,
        };
        let outcome = self.outcome;
        (!is_right).then(|| format!("{id}: {outcome:?}, although {conduct:?} and nothing else"))
    }
}

impl TunnelEnd {
    /// Each, with the name of its way.
    pub(crate) const ALL: [(Self, &'static str); 3] = [
        (Self::ClientResets, "tunnel reset by its client"),
        (Self::BackendResets, "tunnel reset by its backend"),
        (Self::Silence, "tunnel silent for too long"),
    ];
}

/// Backends of these runs are asked before they speak: tests/unasked.rs has the others.
const SPOKE_FIRST: &[&str] = &[
    "the backend spoke before it had the request's head",
    "the backend spoke before it was asked",
];
/// What sends two answers of one piece apart.
const APART: &[&str] = &["short_segment", "short_send", "late_segment"];
