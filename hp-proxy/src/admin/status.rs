//! How endpoints are doing, for operators. Pure: the plan, what was changed of it, and what ledgers have counted give JSON.

use crate::config::overlay::{Hold, Overlay};
use crate::config::plan::{Endpoint, Plan, Upstream};
use crate::upstream::balance::member::Standing;
use crate::upstream::{Identity, Surveyed};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What the ledgers of all workers count, by upstream and endpoint.
#[derive(Clone, Debug, Default)]
pub struct Counts(BTreeMap<(String, u64), (u64, u64)>);

impl Counts {
    /// Adds what one ledger of an upstream counts.
    pub fn add(&mut self, upstream: &str, surveyed: &[Surveyed]) {
        for one in surveyed {
            let key = (upstream.to_owned(), one.endpoint);
            let (in_flight, idle) = self.0.entry(key).or_default();
            *in_flight += u64::from(one.in_flight);
            *idle += u64::from(one.idle);
        }
    }

    fn of(&self, upstream: &str, endpoint: &Endpoint) -> (u64, u64) {
        let identity = Identity::new(&endpoint.name, endpoint.addr.clone());
        let key = (upstream.to_owned(), identity.hash());
        self.0.get(&key).copied().unwrap_or_default()
    }
}

/// All upstreams with their endpoints.
#[must_use]
pub fn upstreams(plan: &Plan, overlay: &Overlay, counts: &Counts) -> Value {
    let upstreams = plan.upstreams.iter();
    let each: Vec<Value> = upstreams
        .map(|upstream| of_upstream(upstream, overlay, counts))
        .collect();
    json!({ "upstreams": each })
}

fn of_upstream(upstream: &Upstream, overlay: &Overlay, counts: &Counts) -> Value {
    let name = &upstream.name;
    let endpoints = upstream.endpoints.iter().map(|endpoint| {
        let (in_flight, idle) = counts.of(name, endpoint);
        let standing = match endpoint.standing {
            Standing::Serving => "active",
            Standing::Draining => "drain",
            Standing::Out => "out",
        };
        let changed = overlay
            .hold_of(name, &endpoint.name)
            .map(|hold| match hold {
                Hold::UntilReload => "until_reload",
                Hold::Kept => "kept",
            });
        json!({
            "address": endpoint.name,
            "standing": standing,
            "weight": endpoint.weight,
            "priority": endpoint.priority,
            "backup": endpoint.is_backup,
            "in_flight": in_flight,
            "idle_conns": idle,
            "changed": changed,
        })
    });
    json!({ "name": name, "endpoints": endpoints.collect::<Vec<Value>>() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_text;
    use crate::config::overlay::Change;

    #[test]
    fn what_all_ledgers_count_is_added_up() {
        let text = "[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\nupstream = \"web\"\n[upstream.web]\n\
                    endpoints = [\"127.0.0.1:1\", { address = \"127.0.0.1:2\", weight = 3, backup = true }]\n";
        let (plan, _) = load_text("a.toml", text, &|_| None);
        let plan = plan.unwrap();
        let mut overlay = Overlay::default();
        let change = Change::Set {
            upstream: String::from("web"),
            endpoint: String::from("127.0.0.1:1"),
            weight: None,
            standing: Some(Standing::Draining),
        };
        overlay.change(&plan, change, Hold::Kept).unwrap();
        let first = &plan.upstreams[0].endpoints[0];
        let hash = Identity::new(&first.name, first.addr.clone()).hash();
        let surveyed = |in_flight, idle| Surveyed {
            endpoint: hash,
            in_flight,
            idle,
        };
        let mut counts = Counts::default();
        counts.add("web", &[surveyed(1, 2)]);
        counts.add("web", &[surveyed(3, 4)]);
        counts.add("api", &[surveyed(9, 9)]);
        let told = upstreams(&overlay.over(&plan), &overlay, &counts);
        assert_eq!(
            told,
            json!({ "upstreams": [{ "name": "web", "endpoints": [
                {
                    "address": "127.0.0.1:1", "standing": "drain", "weight": 1, "priority": 0, "backup": false,
                    "in_flight": 4, "idle_conns": 6, "changed": "kept",
                },
                {
                    "address": "127.0.0.1:2", "standing": "active", "weight": 3, "priority": 0, "backup": true,
                    "in_flight": 0, "idle_conns": 0, "changed": null,
                },
            ] }] })
        );
    }
}
