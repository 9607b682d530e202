//! Upstreams and their endpoints.

use super::Resolver;
use crate::config::address::{self, AddressError, Where};
use crate::config::file::{Entry, Section};
use crate::config::names::{self, Resolve, Source};
use crate::config::plan::{Balance, CONN_AGE_MAX, Limits, MULTIPLEX, Timeouts, Upstream};
use crate::config::problem::{Place, did_you_mean};
use crate::config::shape::BALANCES;
use crate::route::key::Key;
use crate::upstream::Borrow;
use crate::upstream::balance::Method;
use crate::upstream::balance::member::Standing;
use crate::upstream::mux;
use std::cell::Cell;
use std::collections::BTreeMap;

/// What holds for an upstream that says nothing else.
pub(super) struct Defaults<'d> {
    pub(super) timeouts: &'d Timeouts,
    pub(super) limits: &'d Limits,
    /// Workers that share connections out; `None` where all have them together.
    pub(super) workers: Option<u32>,
}

/// The upstreams, which routes can name.
#[derive(Default)]
pub(super) struct Upstreams {
    all: Vec<(Upstream, Named)>,
    by_name: BTreeMap<String, u32>,
}

/// Where an upstream stands, and whether a route names it.
struct Named {
    place: Place,
    is_used: Cell<bool>,
}

impl Upstreams {
    /// The place in the plan of an upstream that a route names.
    pub(super) fn use_named(&self, name: &str) -> Option<u32> {
        let place = *self.by_name.get(name)?;
        if let Some((_, named)) = self.all.get(place as usize) {
            named.is_used.set(true);
        }
        Some(place)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|(upstream, _)| upstream.name.as_str())
    }

    /// In the plan's order.
    pub(super) fn into_plan(self) -> Vec<Upstream> {
        let all = self.all.into_iter();
        all.map(|(upstream, _)| upstream).collect()
    }

    /// Where one of this name stands.
    fn place_of(&self, name: &str) -> Option<&Place> {
        let place = self.by_name.get(name)?;
        let (_, named) = self.all.get(*place as usize)?;
        Some(&named.place)
    }
}

impl Resolver<'_> {
    pub(super) fn upstreams(&mut self, defaults: &Defaults<'_>) -> Upstreams {
        let file = self.file;
        let mut upstreams = Upstreams::default();
        for (name, entry) in file.roots.iter().flat_map(|root| root.map("upstream")) {
            let Some(section) = entry.section() else {
                continue;
            };
            if let Some(first) = upstreams.place_of(name) {
                let at = self.report.line_of(first);
                self.report.error(
                    &entry.place,
                    format!("this upstream is at {at} already; give it another name"),
                );
                continue;
            }
            self.check_name(name, &entry.place);
            let upstream = self.upstream(name, section, defaults);
            let Ok(next) = u32::try_from(upstreams.all.len()) else {
                continue; // Never: the text has a bound.
            };
            let named = Named {
                place: entry.place.clone(),
                is_used: Cell::new(false),
            };
            upstreams.by_name.insert(name.clone(), next);
            upstreams.all.push((upstream, named));
        }
        upstreams
    }

    fn upstream(&mut self, name: &str, section: &Section, defaults: &Defaults<'_>) -> Upstream {
        let Defaults {
            timeouts,
            limits,
            workers,
        } = defaults;
        let sources = self.sources(section);
        if section.list("endpoints").is_empty() {
            self.report.error(
                section.place_of("endpoints"),
                "an upstream needs endpoints; write endpoints = [\"HOST:PORT\"]",
            );
        }
        let conns_max = section
            .count("max_conns")
            .unwrap_or(limits.upstream_conns_max);
        if let Some(workers) = workers
            && (1..*workers).contains(&conns_max)
        {
            let place = if section.entry("max_conns").is_some() {
                section.place_of("max_conns").clone()
            } else {
                self.place("upstream_conns_max")
            };
            let reason = format!(
                "{conns_max} is less than one connection for each of {workers} workers; raise it or lower workers"
            );
            self.report.error(&place, reason);
        }
        if !sources.is_empty() && sources.iter().all(|source| source.like.weight == 0) {
            self.report.error(
                section.place_of("endpoints"),
                "every endpoint has weight 0, so none takes requests; give one a weight",
            );
        }
        let idle_conns_max = section
            .count("idle_conns_max")
            .unwrap_or(limits.idle_conns_max);
        let mut upstream = Upstream {
            name: name.to_owned(),
            endpoints: Vec::new(),
            sources: Vec::new(),
            balance: self.balance(section),
            sticky: self.sticky(section),
            idle_conns_max,
            conns_max,
            connect_timeout: section.time("connect_timeout").unwrap_or(timeouts.connect),
            idle_timeout: section
                .time("idle_timeout")
                .unwrap_or(timeouts.upstream_idle),
            conn_age_max: section
                .time("conn_age_max")
                .map_or(Some(CONN_AGE_MAX), |age| (!age.is_zero()).then_some(age)),
            conn_uses_max: section.count("conn_uses_max").unwrap_or(0),
            prewarm: self.prewarm(section, (idle_conns_max, conns_max), workers.unwrap_or(1)),
            borrow: borrow_of(section, conns_max),
            multiplex: self.multiplex(section, conns_max, defaults),
        };
        upstream.come_from(sources);
        upstream
    }

    /// Connections that are to be open before anybody asks: no more than may idle, and than may be open.
    fn prewarm(
        &mut self,
        section: &Section,
        (idle_conns_max, conns_max): (u32, u32),
        workers: u32,
    ) -> u32 {
        let prewarm = section.count("prewarm").unwrap_or(0);
        let place = section.place_of("prewarm");
        if prewarm > idle_conns_max {
            let reason = format!(
                "{prewarm} is more than the {idle_conns_max} connections that may idle; raise idle_conns_max"
            );
            self.report.error(place, reason);
        }
        if conns_max > 0 && prewarm.saturating_mul(workers) > conns_max {
            let reason = format!(
                "{prewarm} for each of {workers} workers is more than the {conns_max} connections that there may be; raise max_conns"
            );
            self.report.error(place, reason);
        }
        prewarm
    }

    /// How far requests share connections. That takes workers, and two connections each where there is a limit: one is never shared.
    fn multiplex(
        &mut self,
        section: &Section,
        conns_max: u32,
        defaults: &Defaults<'_>,
    ) -> Option<mux::Bounds> {
        let entry = section.entry("multiplex")?;
        let bounds = match entry.section() {
            Some(bounds) => mux::Bounds {
                depth_max: bounds.count("depth").unwrap_or(MULTIPLEX.depth_max),
                lanes_max: bounds.count("conns_max").unwrap_or(MULTIPLEX.lanes_max),
                stall: bounds.time("stall").unwrap_or(MULTIPLEX.stall),
            },
            None if section.flag("multiplex") => MULTIPLEX,
            None => return None,
        };
        let Some(workers) = defaults.workers else {
            let reason = "threads that serve one connection each have nobody to share with, so it does nothing; use another engine or leave it out";
            self.report.warning(&entry.place, reason);
            return None;
        };
        if conns_max > 0 && conns_max / workers < 2 {
            let reason = format!(
                "{conns_max} connections for {workers} workers leave none to share: each needs two; raise max_conns or lower workers"
            );
            self.report.error(&entry.place, reason);
        }
        if bounds.stall >= defaults.timeouts.response {
            let reason = "an answer times out before those behind it are sent elsewhere, so they may time out with it; make stall shorter than response_timeout";
            self.report.warning(&entry.place, reason);
        }
        let uses_max = section.count("conn_uses_max").unwrap_or(0);
        if (1..bounds.depth_max).contains(&uses_max) {
            let reason = format!(
                "a connection ends after {uses_max} requests, before it is as deep as it may be; raise conn_uses_max or lower depth"
            );
            self.report.warning(&entry.place, reason);
        }
        Some(bounds)
    }

    fn sources(&mut self, section: &Section) -> Vec<Source> {
        let mut sources: Vec<Source> = Vec::new();
        for entry in section.list("endpoints") {
            let Some(source) = self.source(entry) else {
                continue;
            };
            let is_same = |other: &Source| match source.place {
                names::Place::Address => other.like.addr == source.like.addr,
                _ => other.place == source.place,
            };
            if sources
                .iter()
                .any(|other| other.is_given() == source.is_given() && is_same(other))
            {
                let reason = format!(
                    "{} is an endpoint of this upstream already; write it once",
                    source.like.name
                );
                self.report.error(&entry.place, reason);
                continue;
            }
            if let Some(target) = source.target() {
                self.report.note_name(&entry.place, target);
            }
            sources.push(source);
        }
        sources
    }

    fn source(&mut self, entry: &Entry) -> Option<Source> {
        let Some(section) = entry.section() else {
            let (text, place) = entry.text()?;
            let at = self.written(text, place, address::endpoint(text))?;
            return Some(Source::written(text, at));
        };
        let (text, at) = match (section.text("address"), section.text("srv")) {
            (Some((text, place)), None) => (
                text.to_owned(),
                self.written(text, place, address::endpoint(text))?,
            ),
            (None, Some((text, place))) => {
                let named = address::service_named(text).map(Where::Named);
                let at = self.written(text, place, named)?;
                (format!("{}{text}", address::SERVICE_PREFIX), at)
            }
            (Some(_), Some((_, place))) => {
                let reason = "an endpoint has an address or is a service, not both; leave one out";
                self.report.error(place, reason);
                return None;
            }
            (None, None) => {
                self.missing(section, "address", "the HOST:PORT of the server");
                return None;
            }
        };
        let mut source = Source::written(&text, at);
        self.resolve_of(section, &mut source);
        let is_service = matches!(source.place, names::Place::Service(_));
        if let Some(weight) = section.count("weight") {
            source.like.weight = weight;
            if is_service {
                self.report.error(
                    section.place_of("weight"),
                    "a service says its weights itself; leave weight out",
                );
            }
        }
        let like = &mut source.like;
        like.is_backup = section.flag("backup");
        like.priority = section.count("priority").unwrap_or(like.priority);
        like.slow_start = section.time("slow_start");
        like.standing = match section.text("standing") {
            Some(("drain", _)) => Standing::Draining,
            Some(("out", _)) => Standing::Out,
            _ => Standing::Serving, // The default; its shape has told of all other words.
        };
        Some(source)
    }

    /// Where an endpoint is, with what is wrong told.
    fn written(
        &mut self,
        text: &str,
        place: &Place,
        read: Result<Where, AddressError>,
    ) -> Option<Where> {
        match read {
            Ok(at) => Some(at),
            Err(error) => {
                self.report.error(place, format!("{text:?}: {error}"));
                None
            }
        }
    }

    fn resolve_of(&mut self, section: &Section, source: &mut Source) {
        let Some((word, place)) = section.text("resolve") else {
            return;
        };
        match &mut source.place {
            names::Place::Host { resolve, .. } => {
                *resolve = match word {
                    "each" => Resolve::Each,
                    _ => Resolve::Happy, // The default; the shape has told of all other words.
                };
            }
            names::Place::Address => self
                .report
                .error(place, "there is no name to resolve; leave resolve out"),
            names::Place::Service(_) => self.report.error(
                place,
                "each host of a service is an endpoint; leave resolve out",
            ),
        }
    }

    fn balance(&mut self, section: &Section) -> Balance {
        let Some(entry) = section.entry("balance") else {
            return Balance::default();
        };
        if let Some((word, _)) = entry.text() {
            let found = BALANCES.iter().find(|(name, _)| *name == word);
            if let Some((_, method)) = found {
                return Balance {
                    method: *method,
                    key: None,
                };
            }
            let names = || BALANCES.iter().map(|(name, _)| *name);
            let near = did_you_mean(word, names());
            let all = names().collect::<Vec<_>>().join(", ");
            let reason = format!("{word:?} is none of {all}, nor {{ hash = KEY }}{near}");
            self.report.error(&entry.place, reason);
        } else if let Some(by_key) = entry.section() {
            return self.balance_by_key(by_key).unwrap_or_default();
        }
        Balance::default()
    }

    fn balance_by_key(&mut self, section: &Section) -> Option<Balance> {
        let Some((text, place)) = section.text("hash") else {
            self.missing(section, "hash", "what decides, e.g. \"client_ip\"");
            return None;
        };
        let key = match Key::parse(text) {
            Ok(key) => key,
            Err(bad) => {
                self.report.error(place, bad.to_string());
                return None;
            }
        };
        let method = match section.text("method") {
            Some(("rendezvous", _)) => Method::Rendezvous,
            _ => Method::Maglev, // The default; the shape has told of all other words.
        };
        Some(Balance {
            method,
            key: Some(key),
        })
    }

    pub(super) fn warn_of_unused(&mut self, upstreams: &Upstreams) {
        for (upstream, named) in &upstreams.all {
            if !named.is_used.get() {
                let reason = format!("no route leads to {}", upstream.name);
                self.report.warning(&named.place, reason);
            }
        }
    }
}

/// When workers ask each other for connections to an upstream.
fn borrow_of(section: &Section, conns_max: u32) -> Borrow {
    match section.text("borrow") {
        Some(("never", _)) => Borrow::Never,
        Some(("waiting", _)) => Borrow::Waiting,
        Some(("before_dial", _)) => Borrow::BeforeDial,
        _ => Upstream::borrow_by_default(conns_max), // Its shape has told of all other words.
    }
}
