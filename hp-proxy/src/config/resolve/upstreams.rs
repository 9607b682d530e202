//! Upstreams and their endpoints.

use super::Resolver;
use crate::config::file::{Entry, Section, Value};
use crate::config::plan::{Balance, CONN_AGE_MAX, Endpoint, Limits, Timeouts, Upstream};
use crate::config::problem::{Place, did_you_mean};
use crate::config::shape::BALANCES;
use crate::route::key::Key;
use crate::upstream::balance::Method;
use std::cell::Cell;

/// What holds for an upstream that says nothing else.
pub(super) struct Defaults<'d> {
    pub(super) timeouts: &'d Timeouts,
    pub(super) limits: &'d Limits,
    /// Workers that share connections out; `None` where all have them together.
    pub(super) workers: Option<u32>,
}

/// Where an upstream stands, and whether a route names it.
pub(super) struct Named {
    pub(super) place: Place,
    pub(super) is_used: Cell<bool>,
}

impl Resolver<'_> {
    pub(super) fn upstreams(&mut self, defaults: &Defaults<'_>) -> Vec<(Upstream, Named)> {
        let file = self.file;
        let mut upstreams: Vec<(Upstream, Named)> = Vec::new();
        for (name, entry) in file.roots.iter().flat_map(|root| root.map("upstream")) {
            let Some(section) = entry.section() else {
                continue;
            };
            if let Some((_, first)) = upstreams.iter().find(|(other, _)| other.name == *name) {
                let at = self.report.line_of(&first.place);
                self.report.error(
                    &entry.place,
                    format!("this upstream is at {at} already; give it another name"),
                );
                continue;
            }
            let upstream = self.upstream(name, section, defaults);
            let named = Named {
                place: entry.place.clone(),
                is_used: Cell::new(false),
            };
            upstreams.push((upstream, named));
        }
        upstreams
    }

    fn upstream(&mut self, name: &str, section: &Section, defaults: &Defaults<'_>) -> Upstream {
        let Defaults {
            timeouts,
            limits,
            workers,
        } = defaults;
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for entry in section.list("endpoints") {
            let Some(endpoint) = self.endpoint(entry) else {
                continue;
            };
            if endpoints.iter().any(|other| other.addr == endpoint.addr) {
                let reason = format!(
                    "{} is an endpoint of this upstream already; write it once",
                    endpoint.name
                );
                self.report.error(&entry.place, reason);
                continue;
            }
            endpoints.push(endpoint);
        }
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
        if !endpoints.is_empty() && endpoints.iter().all(|endpoint| endpoint.weight == 0) {
            self.report.error(
                section.place_of("endpoints"),
                "every endpoint has weight 0, so none takes requests; give one a weight",
            );
        }
        let idle_conns_max = section
            .count("idle_conns_max")
            .unwrap_or(limits.idle_conns_max);
        Upstream {
            name: name.to_owned(),
            endpoints,
            balance: self.balance(section),
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
        }
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

    fn endpoint(&mut self, entry: &Entry) -> Option<Endpoint> {
        let (mut weight, mut is_backup) = (1, false);
        let (text, place) = match &entry.value {
            Value::Section(section) => match section.text("address") {
                Some(found) => {
                    weight = section.count("weight").unwrap_or(weight);
                    is_backup = section.flag("backup");
                    found
                }
                None => {
                    self.missing(section, "address", "the HOST:PORT of the server");
                    return None;
                }
            },
            _ => entry.text()?,
        };
        let addr = self.address(text, place)?;
        if addr.tcp().is_some_and(|addr| addr.port() == 0) {
            self.report
                .error(place, format!("{text:?}: no server has port 0"));
            return None;
        }
        Some(Endpoint {
            name: text.to_owned(),
            addr,
            weight,
            is_backup,
        })
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
        let Some(key) = Key::parse(text) else {
            let reason =
                format!("{text:?} is none of client_ip, uri, header:NAME, cookie:NAME, query:KEY");
            self.report.error(place, reason);
            return None;
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

    pub(super) fn warn_of_unused(&mut self, upstreams: &[(Upstream, Named)]) {
        for (upstream, named) in upstreams {
            if !named.is_used.get() {
                let reason = format!("no route leads to {}", upstream.name);
                self.report.warning(&named.place, reason);
            }
        }
    }
}
