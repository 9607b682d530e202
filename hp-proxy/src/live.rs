//! What is connected where at a moment: counted by each worker for itself, and added up by the main thread.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Connections by listener and by endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Client connections by the address that they came to, as the plan has it; not counted where each has a thread of its own.
    pub listeners: BTreeMap<String, u64>,
    /// By upstream, then by endpoint.
    pub upstreams: BTreeMap<String, BTreeMap<String, Conns>>,
}

/// Connections to one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conns {
    /// With a request, or being made for one.
    pub in_use: u64,
    /// Those of them that are tunnels.
    pub tunnels: u64,
    /// Kept for later requests.
    pub idle: u64,
    /// What may be open of the limit that there is; 0 without one.
    pub share: u64,
    /// Connections that workers have borrowed from one another.
    pub borrowed: u64,
    /// Connections that could not be lent, or were of no use when they came.
    pub borrow_refused: u64,
}

impl Conns {
    /// Adds others.
    pub fn add(&mut self, more: Self) {
        self.in_use += more.in_use;
        self.tunnels += more.tunnels;
        self.idle += more.idle;
        self.share += more.share;
        self.borrowed += more.borrowed;
        self.borrow_refused += more.borrow_refused;
    }
}

impl Live {
    /// Adds what another worker has.
    pub fn add(&mut self, more: Self) {
        for (address, conns) in more.listeners {
            *self.listeners.entry(address).or_default() += conns;
        }
        for (upstream, endpoints) in more.upstreams {
            let known = self.upstreams.entry(upstream).or_default();
            for (endpoint, conns) in endpoints {
                known.entry(endpoint).or_default().add(conns);
            }
        }
    }

    /// Takes up the connections of an upstream, by endpoint.
    pub(crate) fn add_upstream(&mut self, name: &str, conns: Vec<(String, Conns)>) {
        let known = self.upstreams.entry(name.to_owned()).or_default();
        for (endpoint, conns) in conns {
            known.entry(endpoint).or_default().add(conns);
        }
    }

    /// Connections to all endpoints of an upstream.
    #[must_use]
    pub fn of_upstream(&self, name: &str) -> Conns {
        let mut sum = Conns::default();
        let endpoints = self.upstreams.get(name).into_iter().flatten();
        endpoints.for_each(|(_, conns)| sum.add(*conns));
        sum
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let conns = |conns: &Conns| {
            json!({
                "in_use": conns.in_use,
                "tunnels": conns.tunnels,
                "idle": conns.idle,
                "share": conns.share,
                "borrowed": conns.borrowed,
                "borrow_refused": conns.borrow_refused,
            })
        };
        let endpoints = |endpoints: &BTreeMap<String, Conns>| -> Value {
            let each = endpoints.iter().map(|(name, of)| (name.clone(), conns(of)));
            each.collect::<Map<_, _>>().into()
        };
        let upstreams = self.upstreams.iter();
        let upstreams = upstreams.map(|(name, of)| (name.clone(), endpoints(of)));
        json!({
            "listeners": self.listeners,
            "upstreams": upstreams.collect::<Map<_, _>>(),
        })
    }

    /// Reads what [`Live::json`] wrote; what is not there counts as nothing.
    #[must_use]
    pub fn of_json(value: &Value) -> Self {
        let number = |value: &Value, key: &str| value.get(key).and_then(Value::as_u64).unwrap_or(0);
        let members = |value: &Value, key: &str| value.get(key).and_then(Value::as_object).cloned();
        let listeners = members(value, "listeners").unwrap_or_default();
        let mut live = Self {
            listeners: listeners
                .into_iter()
                .map(|(address, conns)| (address, conns.as_u64().unwrap_or(0)))
                .collect(),
            upstreams: BTreeMap::new(),
        };
        for (name, endpoints) in members(value, "upstreams").unwrap_or_default() {
            let each = endpoints.as_object().into_iter().flatten();
            let conns = each.map(|(endpoint, of)| {
                let conns = Conns {
                    in_use: number(of, "in_use"),
                    tunnels: number(of, "tunnels"),
                    idle: number(of, "idle"),
                    share: number(of, "share"),
                    borrowed: number(of, "borrowed"),
                    borrow_refused: number(of, "borrow_refused"),
                };
                (endpoint.clone(), conns)
            });
            live.add_upstream(&name, conns.collect());
        }
        live
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(in_use: u64) -> Live {
        let mut live = Live::default();
        live.listeners.insert(String::from("127.0.0.1:80"), in_use);
        let conns = Conns {
            in_use,
            tunnels: 1,
            idle: 2,
            share: 5,
            borrowed: 6,
            borrow_refused: 1,
        };
        live.add_upstream("web", vec![(String::from("127.0.0.1:81"), conns)]);
        live
    }

    #[test]
    fn workers_add_up() {
        let mut all = live(3);
        all.add(live(4));
        let conns = Conns {
            in_use: 7,
            tunnels: 2,
            idle: 4,
            share: 10,
            borrowed: 12,
            borrow_refused: 2,
        };
        assert_eq!(all.of_upstream("web"), conns);
        assert_eq!(all.of_upstream("other"), Conns::default());
        assert_eq!(all.listeners["127.0.0.1:80"], 7);
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Live::of_json(&live(3).json()), live(3));
        assert_eq!(Live::of_json(&json!([1])), Live::default());
    }
}
