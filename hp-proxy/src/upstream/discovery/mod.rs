//! Where named servers are: what to ask, whom, when again, and what is known meanwhile. Pure: time, files' texts, answers and
//! chance are arguments; no socket, no clock, no await.
//!
//! ```text
//! plan ─targets─→ book ─due─→ lookup ─question─→ (the resolver's thread asks a server)
//!                  ↑             ↑  └─outcome─┐        │
//!                  └─────────────┼────────────┘        │
//!                                └──────heard──────────┘
//! ```

pub mod book;
pub mod lookup;
pub mod system;

use hp_core::wire::dns::{Name, Service};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// What is looked up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The addresses of a host.
    Host(Host),
    /// The hosts and ports of a service.
    Service(Name),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => host.fmt(f),
            Self::Service(name) => name.fmt(f),
        }
    }
}

/// A host as somebody names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host {
    /// Its name.
    pub name: Name,
    /// Written with a final dot, or said by a name server: never completed by the domains that are searched.
    pub is_absolute: bool,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// What is known of all names at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Addresses by host; a host without any was never found.
    pub hosts: BTreeMap<Host, Vec<IpAddr>>,
    /// Places by service; a service without any was never found.
    pub services: BTreeMap<Name, Vec<Service>>,
}

impl Answers {
    /// The addresses of a host, sorted; none while it is not known.
    #[must_use]
    pub fn host(&self, host: &Host) -> &[IpAddr] {
        self.hosts.get(host).map_or(&[], Vec::as_slice)
    }

    /// The places of a service, sorted; none while it is not known.
    #[must_use]
    pub fn service(&self, name: &Name) -> &[Service] {
        self.services.get(name).map_or(&[], Vec::as_slice)
    }
}
