//! Upstreams and their endpoints.

use super::Resolver;
use crate::config::file::{Entry, Section, Value};
use crate::config::plan::{Endpoint, Limits, Timeouts, Upstream};
use crate::config::problem::{Place, did_you_mean};
use crate::config::shape::BALANCES;
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
            self.check_balance(section);
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
        Upstream {
            name: name.to_owned(),
            endpoints,
            idle_conns_max: section
                .count("idle_conns_max")
                .unwrap_or(limits.idle_conns_max),
            conns_max,
            connect_timeout: section.time("connect_timeout").unwrap_or(timeouts.connect),
            idle_timeout: section
                .time("idle_timeout")
                .unwrap_or(timeouts.upstream_idle),
        }
    }

    fn endpoint(&mut self, entry: &Entry) -> Option<Endpoint> {
        let (text, place) = match &entry.value {
            Value::Section(section) => match section.text("address") {
                Some(found) => found,
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
        })
    }

    fn check_balance(&mut self, section: &Section) {
        let Some(entry) = section.entry("balance") else {
            return;
        };
        let reason = match entry.text() {
            Some((word, _)) if BALANCES.first() == Some(&word) => return,
            Some((word, _)) if !BALANCES.contains(&word) => {
                let near = did_you_mean(word, BALANCES.iter().copied());
                format!("{word:?} is none of {}{near}", BALANCES.join(", "))
            }
            Some((word, _)) => format!("{word} is not built yet; leave it out for round_robin"),
            None => String::from("hash is not built yet; leave it out for round_robin"),
        };
        self.report.error(&entry.place, reason);
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
