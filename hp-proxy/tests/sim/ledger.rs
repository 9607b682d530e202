//! What was asked, what became of it, and what must never happen. Clients and backends write here; the run is judged by it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

/// Every request of a run by its number.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: RefCell<BTreeMap<u64, Entry>>,
    violations: RefCell<Vec<Violation>>,
    /// Clients' connections that came about.
    pub(crate) conns: Cell<u64>,
    /// Backends that did not do as HTTP asks.
    pub(crate) misdeeds: Cell<u64>,
    /// Requests that a backend answered twice, in one piece.
    answered_twice: RefCell<BTreeSet<u64>>,
    next: Cell<u64>,
    tells: Cell<bool>,
}

#[derive(Debug)]
struct Entry {
    may_be_repeated: bool,
    body_bytes: usize,
    executed: u32,
    outcome: Option<Outcome>,
}

/// What a client learns of its request; exactly one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The backend's answer, whole.
    Whole,
    /// The proxy's own answer.
    Refused(u16),
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
        let id = self.next.get() + 1;
        self.next.set(id);
        let entry = Entry {
            may_be_repeated,
            body_bytes,
            executed: 0,
            outcome: None,
        };
        self.entries.borrow_mut().insert(id, entry);
        id
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

    /// Whatever must not be and was, in view of the faults that struck.
    pub(crate) fn judge(&self, struck: &dyn Fn(&str) -> bool) -> Vec<String> {
        let violations = self.violations.borrow();
        let mut found: Vec<String> = violations
            .iter()
            .filter(|violation| !violation.excuses.iter().any(|fault| struck(fault)))
            .map(|violation| violation.what.clone())
            .collect();
        for (id, entry) in self.entries.borrow().iter() {
            if entry.outcome.is_none() {
                found.push(format!("{id} has no outcome"));
            }
            if entry.executed > 1 && !entry.may_be_repeated {
                found.push(format!("{id} was executed {} times", entry.executed));
            }
            let is_shifted = self.answered_twice.borrow().contains(id);
            let is_excused = is_shifted && APART.iter().any(|fault| struck(fault));
            if entry.executed == 0 && entry.outcome == Some(Outcome::Whole) && !is_excused {
                found.push(format!("{id} was answered by nobody"));
            }
        }
        found
    }
}

/// What sends two answers of one piece apart.
const APART: &[&str] = &["short_segment", "short_send", "late_segment"];
