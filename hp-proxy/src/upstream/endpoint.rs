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
            window: Window::default(),
            idle: VecDeque::new(),
            speaks_http10: false,
        }
    }

    /// Another plan has it, too, perhaps with other ways. Whether a way is gone.
    pub(super) fn follow(&mut self, identity: &Identity, member: usize) -> bool {
        self.member = Some(member);
        let first = identity.addr.tcp();
        self.ways.follow(identity.ways(), first)
    }

    pub(super) fn name(&self) -> &str {
        &self.identity.name
    }

    pub(super) fn addr(&self) -> Address {
        self.identity.addr.clone()
    }

    pub(super) fn conns(&self) -> Conns {
        Conns {
            in_use: u64::from(self.in_flight()),
            tunnels: u64::from(self.tunnels),
            idle: self.idle.len() as u64,
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
        conns_max.is_none_or(|max| self.open < max) && self.window.has_room()
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
