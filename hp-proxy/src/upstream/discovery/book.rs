//! What is known of names, and when each is asked about again. What was known stays known until somebody says otherwise: no
//! failure of a name server takes an address away, and neither does a name that has vanished.
//!
//! ```text
//! Due(when) ─due→ UnderWay ─hear→ Due(when the answer ends, or after a pause that grows with failures)
//! ```

use super::lookup::{Failure, Outcome};
use super::{Answers, Host, Target};
use hp_core::rt::Instant;
use hp_core::wire::dns::{Name, Records, Service};
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// How long answers hold: what they say, within these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// At least so long.
    pub ttl_min: Duration,
    /// At most so long; not below `ttl_min`.
    pub ttl_max: Duration,
}

/// All names, with what is known of them.
#[derive(Debug)]
pub struct Book {
    bounds: Bounds,
    /// What somebody wants to know; services lead to more.
    wanted: BTreeSet<Target>,
    entries: BTreeMap<Target, Entry>,
}

#[derive(Debug)]
struct Entry {
    known: Known,
    when: When,
    /// Lookups in sequence that brought no answer.
    failures: u32,
    /// Whether any lookup has ended.
    is_heard: bool,
    /// Whether it is told that the name is lost.
    is_lost: bool,
}

/// Sorted, none twice.
#[derive(Debug)]
enum Known {
    Host(Vec<IpAddr>),
    Service(Vec<Service>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Due(Instant),
    UnderWay,
}

/// What was heard of a name.
#[derive(Clone, Debug)]
pub enum News {
    /// Of a host: its IPv4 and its IPv6 addresses.
    Host(Outcome, Outcome),
    /// Of a host, from this machine's own files, asked no server.
    Local(Vec<IpAddr>),
    /// Of a service.
    Service(Outcome),
}

/// What operators should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A name does not resolve.
    Lost {
        /// Which.
        target: Target,
        /// Why.
        why: Why,
        /// How many records of before are kept.
        kept: usize,
    },
    /// It does again.
    Found(Target),
}

/// Why a name does not resolve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No server knows it.
    NoName,
    /// It has no address, or no service.
    Nothing,
    /// Nobody could tell.
    Failed(Failure),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoName => f.write_str("the name does not exist"),
            Self::Nothing => f.write_str("the name has no such records"),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost {
                target,
                why,
                kept: 0,
            } => write!(f, "{target}: {why}; nothing goes there until it resolves"),
            Self::Lost { target, why, kept } => {
                let plural = if *kept == 1 { "" } else { "s" };
                write!(f, "{target}: {why}; its last {kept} record{plural} kept")
            }
            Self::Found(target) => write!(f, "{target}: the name resolves again"),
        }
    }
}

impl Book {
    /// A book without names.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            wanted: BTreeSet::new(),
            entries: BTreeMap::new(),
        }
    }

    /// Says what is wanted from now on. New names are due at once; what nobody wants any more is forgotten.
    pub fn want(&mut self, now: Instant, targets: impl IntoIterator<Item = Target>) {
        self.wanted = targets.into_iter().collect();
        self.follow_services(now);
    }

    /// Other bounds from now on.
    pub fn bound(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Names that are to be asked about now, at most `room` of them; under way from here on.
    pub fn due(&mut self, now: Instant, room: usize) -> Vec<Target> {
        let due = self.entries.iter_mut().filter_map(|(target, entry)| {
            let is_due = matches!(entry.when, When::Due(when) if when <= now);
            is_due.then(|| {
                entry.when = When::UnderWay;
                target.clone()
            })
        });
        due.take(room).collect()
    }

    /// When the next name is due; `None` while all are under way, or there is none.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let due = self.entries.values().filter_map(|entry| match entry.when {
            When::Due(when) => Some(when),
            When::UnderWay => None,
        });
        due.min()
    }

    /// Asks about everything now; for whoever cannot wait.
    pub fn hurry(&mut self, now: Instant) {
        for entry in self.entries.values_mut() {
            if let When::Due(when) = &mut entry.when {
                *when = now.min(*when);
            }
        }
    }

    /// Whether every name was asked about at least once, also those that services led to.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.unsettled().next().is_none()
    }

    /// Names that were not asked about to an end yet.
    pub fn unsettled(&self) -> impl Iterator<Item = &Target> {
        let unsettled = self.entries.iter().filter(|(_, entry)| !entry.is_heard);
        unsettled.map(|(target, _)| target)
    }

    /// Takes note of what was heard of a name. `None`: nothing that people should be told.
    pub fn hear(
        &mut self,
        now: Instant,
        target: &Target,
        news: News,
        rng: &mut impl Rng,
    ) -> Option<Notice> {
        let bounds = self.bounds;
        let entry = self.entries.get_mut(target)?; // Nobody wants to know any more.
        let heard = match (news, &mut entry.known) {
            (News::Host(v4, v6), Known::Host(known)) => hear_host(known, v4, v6),
            (News::Local(addrs), Known::Host(known)) => hear_local(known, addrs),
            (News::Service(outcome), Known::Service(known)) => hear_service(known, outcome),
            _ => return None, // Of another kind: of no use.
        };
        entry.is_heard = true;
        entry.failures = if heard.is_whole {
            0
        } else {
            entry.failures.saturating_add(1)
        };
        let pause = pause_after(entry.failures, bounds, rng);
        let holds = heard
            .ttl
            .map(|ttl| ttl.clamp(bounds.ttl_min, bounds.ttl_max));
        let next = match (holds, heard.is_whole) {
            (Some(holds), true) => holds,
            (Some(holds), false) => holds.min(pause),
            (None, _) => pause,
        };
        entry.when = When::Due(now + next);
        let was_lost = std::mem::replace(&mut entry.is_lost, heard.lost.is_some());
        let notice = match heard.lost {
            Some(why) => (!was_lost).then(|| Notice::Lost {
                target: target.clone(),
                why,
                kept: entry.known.len(),
            }),
            None => was_lost.then(|| Notice::Found(target.clone())),
        };
        self.follow_services(now);
        notice
    }

    /// What is known now.
    #[must_use]
    pub fn answers(&self) -> Answers {
        let mut answers = Answers::default();
        for (target, entry) in &self.entries {
            match (target, &entry.known) {
                (Target::Host(host), Known::Host(addrs)) => {
                    answers.hosts.insert(host.clone(), addrs.clone());
                }
                (Target::Service(name), Known::Service(services)) => {
                    answers.services.insert(name.clone(), services.clone());
                }
                _ => (),
            }
        }
        answers
    }

    /// Has an entry for everything that is wanted, and for the hosts that wanted services name.
    fn follow_services(&mut self, now: Instant) {
        let services = self.entries.iter().filter_map(|(target, entry)| {
            let known = match &entry.known {
                Known::Service(known) if self.wanted.contains(target) => known,
                _ => return None,
            };
            Some(known.iter().map(|service| Target::Host(host_of(service))))
        });
        let mut all: BTreeSet<Target> = services.flatten().collect();
        all.extend(self.wanted.iter().cloned());
        self.entries.retain(|target, _| all.contains(target));
        for target in all {
            self.entries
                .entry(target)
                .or_insert_with_key(|target| Entry {
                    known: Known::none(target),
                    when: When::Due(now),
                    failures: 0,
                    is_heard: false,
                    is_lost: false,
                });
        }
    }
}

impl Known {
    fn none(target: &Target) -> Self {
        match target {
            Target::Host(_) => Self::Host(Vec::new()),
            Target::Service(_) => Self::Service(Vec::new()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Host(addrs) => addrs.len(),
            Self::Service(services) => services.len(),
        }
    }
}

/// The host that a service names.
#[must_use]
pub fn host_of(service: &Service) -> Host {
    Host {
        name: Name::clone(&service.target),
        is_absolute: true,
    }
}

/// What hearing of a name comes to.
struct Hearing {
    /// How long what is known holds; `None`: nothing new was said.
    ttl: Option<Duration>,
    /// Whether nobody failed.
    is_whole: bool,
    /// Why nothing was found.
    lost: Option<Why>,
}

fn hear_host(known: &mut Vec<IpAddr>, v4: Outcome, v6: Outcome) -> Hearing {
    let failure = [&v4, &v6].into_iter().find_map(|outcome| match outcome {
        Outcome::Failed(failure) => Some(*failure),
        _ => None,
    });
    let no_name = [&v4, &v6].contains(&&Outcome::NoName);
    let mut ttl: Option<Duration> = None;
    let mut addrs = Vec::new();
    for (outcome, is_v4) in [(v4, true), (v6, false)] {
        match outcome {
            Outcome::Found(found) => {
                ttl = Some(ttl.map_or(found.ttl, |ttl| ttl.min(found.ttl)));
                match found.records {
                    Records::V4(found) => addrs.extend(found.into_iter().map(IpAddr::V4)),
                    Records::V6(found) => addrs.extend(found.into_iter().map(IpAddr::V6)),
                    Records::Services(_) => (), // Nobody asked for those.
                }
            }
            Outcome::Nothing | Outcome::NoName => (),
            Outcome::Failed(_) => addrs.extend(known.iter().filter(|ip| ip.is_ipv4() == is_v4)),
        }
    }
    if ttl.is_some() {
        addrs.sort_unstable();
        addrs.dedup();
        *known = addrs;
    }
    let why = match (failure, no_name) {
        (Some(failure), _) => Why::Failed(failure),
        (None, true) => Why::NoName,
        (None, false) => Why::Nothing,
    };
    Hearing {
        lost: ttl.is_none().then_some(why),
        is_whole: failure.is_none() && ttl.is_some(),
        ttl,
    }
}

fn hear_local(known: &mut Vec<IpAddr>, addrs: Vec<IpAddr>) -> Hearing {
    let is_empty = addrs.is_empty();
    if !is_empty {
        *known = addrs;
    }
    Hearing {
        ttl: Some(LOCAL_TTL),
        is_whole: true,
        lost: is_empty.then_some(Why::NoName),
    }
}

fn hear_service(known: &mut Vec<Service>, outcome: Outcome) -> Hearing {
    let lost = |why| Hearing {
        ttl: None,
        is_whole: false,
        lost: Some(why),
    };
    match outcome {
        Outcome::Found(found) => match found.records {
            Records::Services(services) => {
                *known = services;
                Hearing {
                    ttl: Some(found.ttl),
                    is_whole: true,
                    lost: None,
                }
            }
            Records::V4(_) | Records::V6(_) => lost(Why::Nothing),
        },
        Outcome::Nothing => lost(Why::Nothing),
        Outcome::NoName => lost(Why::NoName),
        Outcome::Failed(failure) => lost(Why::Failed(failure)),
    }
}

/// How long to wait after so many failures: doubling, and never the same for all.
fn pause_after(failures: u32, bounds: Bounds, rng: &mut impl Rng) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let first = PAUSE_MIN.max(bounds.ttl_min);
    let pause = first
        .saturating_mul(1 << doublings)
        .min(PAUSE_MAX.max(first));
    pause + pause.mul_f64(f64::from(rng.next_u32()) / f64::from(u32::MAX) / 4.0)
}

/// The pause after the first failure.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause, but for a quarter by chance.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long the files of this machine are believed before they are read again.
const LOCAL_TTL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
