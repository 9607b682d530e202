//! One endpoint as the ledger knows it: who it is, its connections, and its place among those that are picked from.

use super::balance;
use super::life::Life;
use super::ways::Ways;
use super::window::Window;
use crate::live::Conns;
use hp_core::rt::Instant;
use hp_core::rt::net::{Address, ParkKey, Released};
use hp_core::rt::plant::{Plant, is_planted};
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;

/// Who an endpoint is: the same in two plans when both its name and its address are, whatever other addresses it has.
#[derive(Clone, Debug)]
pub struct Identity {
    name: String,
    addr: Address,
    others: Box<[SocketAddr]>,
    /// Of name and address, to find it by.
    hash: u64,
    term: Term,
}

/// The time in which an endpoint is in an upstream, its limit does not shrink and borrowing does not end: the plan that it begins with, and the endpoint's place in
/// that plan. The same in all ledgers, given once; shares of a limit, and connections, move between ledgers within one term only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Term {
    plan: u32,
    place: u32,
}

impl Term {
    /// That of an endpoint which is new in a plan, or whose limit is.
    pub(crate) fn beginning_with(plan: u32, place: u32) -> Self {
        Self { plan, place }
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.addr) == (&other.name, &other.addr)
    }
}

impl Eq for Identity {}

impl Identity {
    /// An endpoint that the user calls `name`, at an address.
    #[must_use]
    pub fn new(name: &str, addr: Address) -> Self {
        let mut identity = Self {
            name: name.to_owned(),
            addr,
            others: Box::default(),
            hash: 0,
            term: Term::default(),
        };
        identity.hash = balance::hash(identity.to_string().as_bytes());
        identity
    }

    /// The same with other addresses, that are dialled where its own does not answer.
    #[must_use]
    pub fn with_others(self, others: &[SocketAddr]) -> Self {
        Self {
            others: others.into(),
            ..self
        }
    }

    /// The same in a term.
    #[must_use]
    pub(crate) fn in_term(self, term: Term) -> Self {
        Self { term, ..self }
    }

    /// The term that it is in.
    pub(crate) fn term(&self) -> Term {
        self.term
    }

    fn ways(&self) -> Ways {
        Ways::new(self.addr.tcp(), &self.others)
    }

    /// What finds it; two endpoints may have the same.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

impl fmt::Display for Identity {
    /// Both, so that no two identities read alike.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\0{}", self.name, self.addr)
    }
}

/// What is known of an endpoint. It has its slot in the ledger from the plan that brings it to its last connection.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) identity: Identity,
    /// Its place in the plan, and among the balancer's members; `None`: it is gone, and its connections end.
    pub(super) member: Option<usize>,
    pub(super) open: u32,
    /// Those of them that are tunnels.
    pub(super) tunnels: u32,
    /// What its ledger has of the limit beside what the plan gives it: borrowed from sibling ledgers, or, below 0, lent to them. The sum
    /// over all ledgers, and of what is on its way between them, is 0 in each term.
    pub(super) extra: i32,
    /// Connections that came from sibling ledgers, and those that came and were of no use, or were to go and could not.
    pub(super) borrowed: u64,
    pub(super) borrow_refused: u64,
    pub(super) window: Window,
    /// Front: idle for the longest time.
    pub(super) idle: VecDeque<Idle>,
    /// What was last heard of it was HTTP/1.0.
    pub(super) speaks_http10: bool,
    pub(super) ways: Ways,
}

/// An idle connection.
#[derive(Debug)]
pub(super) enum Idle {
    /// In the worker's runtime, which watches it.
    Parked(ParkKey, Life),
    /// In no runtime, up to a point in time.
    Loose(Released, Instant, Life),
}

impl Idle {
    /// What it has left.
    pub(super) fn life(&self) -> &Life {
        match self {
            Self::Parked(_, life) | Self::Loose(_, _, life) => life,
        }
    }
}

impl Endpoint {
    /// Nothing is connected yet.
    pub(super) fn new(identity: Identity, member: usize) -> Self {
        Self {
            ways: identity.ways(),
            identity,
            member: Some(member),
            open: 0,
            tunnels: 0,
            extra: 0,
            borrowed: 0,
            borrow_refused: 0,
            window: Window::default(),
            idle: VecDeque::new(),
            speaks_http10: false,
        }
    }

    /// Another plan has it, too, perhaps with other ways. Whether a way is gone. In another term nothing is borrowed or lent.
    pub(super) fn follow(&mut self, identity: &Identity, member: usize) -> bool {
        self.member = Some(member);
        if self.identity.term != identity.term {
            self.identity.term = identity.term;
            self.extra = 0;
        }
        let first = identity.addr.tcp();
        self.ways.follow(identity.ways(), first)
    }

    pub(super) fn name(&self) -> &str {
        &self.identity.name
    }

    pub(super) fn addr(&self) -> Address {
        self.identity.addr.clone()
    }

    pub(super) fn conns(&self, conns_max: Option<u32>) -> Conns {
        Conns {
            in_use: u64::from(self.in_flight()),
            tunnels: u64::from(self.tunnels),
            idle: self.idle.len() as u64,
            share: u64::from(conns_max.map_or(0, |max| self.share(max))),
            borrowed: self.borrowed,
            borrow_refused: self.borrow_refused,
        }
    }

    /// Whether its slot can be another endpoint's.
    pub(super) fn is_free_slot(&self) -> bool {
        self.member.is_none() && (self.open == 0 || is_planted(Plant::SlotTooSoon))
    }

    /// Connections that carry a request, or are made for one.
    pub(super) fn in_flight(&self) -> u32 {
        let idle = u32::try_from(self.idle.len()).unwrap_or(u32::MAX);
        self.open.saturating_sub(idle)
    }

    /// Whether a request can be served: by an idle connection or by one that may be opened.
    pub(super) fn is_free(&self, conns_max: Option<u32>) -> bool {
        !self.idle.is_empty() || self.has_room(conns_max)
    }

    /// Whether one more connection may be opened.
    pub(super) fn has_room(&self, conns_max: Option<u32>) -> bool {
        conns_max.is_none_or(|max| self.open < self.share(max)) && self.window.has_room()
    }

    /// What its ledger may open of `max`, which the plan gives it.
    pub(super) fn share(&self, max: u32) -> u32 {
        max.saturating_add_signed(self.extra)
    }
}

/// Puts an endpoint into a slot that is nobody's, else into a new one.
pub(super) fn place(endpoints: &mut Vec<Endpoint>, endpoint: Endpoint) -> usize {
    match endpoints
        .iter_mut()
        .enumerate()
        .find(|(_, slot)| slot.is_free_slot())
    {
        Some((slot, free)) => {
            *free = endpoint;
            slot
        }
        None => {
            endpoints.push(endpoint);
            endpoints.len() - 1
        }
    }
}
