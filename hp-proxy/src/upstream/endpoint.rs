//! One endpoint as the ledger knows it: who it is, its connections, and its place among those that are picked from.

use super::balance;
use super::life::Life;
use super::window::Window;
use hp_core::rt::Instant;
use hp_core::rt::net::{Address, ParkKey, Released};
use std::collections::VecDeque;

/// Who an endpoint is: the same in two plans when both its name and its address are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: String,
    addr: Address,
    /// Of both, to find it by.
    hash: u64,
}

impl Identity {
    /// An endpoint that the user calls `name`, at an address.
    #[must_use]
    pub fn new(name: &str, addr: Address) -> Self {
        let hash = balance::hash(format!("{name}\0{addr}").as_bytes());
        let name = name.to_owned();
        Self { name, addr, hash }
    }

    /// What finds it; two endpoints may have the same.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }
}

/// What is known of an endpoint. It has its slot in the ledger from the plan that brings it to its last connection.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) identity: Identity,
    /// Its place in the plan, and among the balancer's members; `None`: it is gone, and its connections end.
    pub(super) member: Option<usize>,
    pub(super) open: u32,
    pub(super) window: Window,
    /// Front: idle for the longest time.
    pub(super) idle: VecDeque<Idle>,
    /// What was last heard of it was HTTP/1.0.
    pub(super) speaks_http10: bool,
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
            identity,
            member: Some(member),
            open: 0,
            window: Window::default(),
            idle: VecDeque::new(),
            speaks_http10: false,
        }
    }

    pub(super) fn name(&self) -> String {
        self.identity.name.clone()
    }

    pub(super) fn addr(&self) -> Address {
        self.identity.addr.clone()
    }

    /// Whether its slot can be another endpoint's.
    pub(super) fn is_free_slot(&self) -> bool {
        self.member.is_none() && self.open == 0
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
