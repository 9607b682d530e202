//! How endpoints are doing, for operators. Pure: the plan, what was changed of it, and what is connected give JSON.

use crate::config::overlay::{Hold, Overlay};
use crate::config::plan::{Plan, Upstream};
use crate::live::{Conns, Live};
use crate::upstream::balance::member::Standing;
use serde_json::{Value, json};

/// All upstreams with their endpoints.
#[must_use]
pub fn upstreams(plan: &Plan, overlay: &Overlay, live: &Live) -> Value {
    let upstreams = plan.upstreams.iter();
    let each: Vec<Value> = upstreams
        .map(|upstream| of_upstream(upstream, overlay, live))
        .collect();
    json!({ "upstreams": each })
}

fn of_upstream(upstream: &Upstream, overlay: &Overlay, live: &Live) -> Value {
    let name = &upstream.name;
    let of_upstream = live.upstreams.get(name);
    let endpoints = upstream.endpoints.iter().map(|endpoint| {
        let conns = of_upstream.and_then(|conns| conns.get(&endpoint.name));
        let Conns {
            in_use,
            tunnels,
            idle,
            share: _, // Of workers that have begun with the upstream: less than the limit until all have.
            borrowed,
            borrow_refused,
        } = conns.copied().unwrap_or_default();
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
            "in_flight": in_use,
            "tunnels": tunnels,
            "idle_conns": idle,
            "borrowed": borrowed,
            "borrow_refused": borrow_refused,
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
    use std::collections::BTreeMap;

    #[test]
    fn each_endpoint_is_told_with_what_was_changed_of_it() {
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
        let conns = Conns {
            in_use: 4,
            tunnels: 1,
            idle: 6,
            borrowed: 3,
            borrow_refused: 1,
            ..Conns::default()
        };
        let of_web = BTreeMap::from([(String::from("127.0.0.1:1"), conns)]);
        let live = Live {
            upstreams: BTreeMap::from([(String::from("web"), of_web)]),
            ..Live::default()
        };
        let told = upstreams(&overlay.over(&plan), &overlay, &live);
        assert_eq!(
            told,
            json!({ "upstreams": [{ "name": "web", "endpoints": [
                {
                    "address": "127.0.0.1:1", "standing": "drain", "weight": 1, "priority": 0, "backup": false,
                    "in_flight": 4, "tunnels": 1, "idle_conns": 6, "borrowed": 3, "borrow_refused": 1,
                    "changed": "kept",
                },
                {
                    "address": "127.0.0.1:2", "standing": "active", "weight": 3, "priority": 0, "backup": true,
                    "in_flight": 0, "tunnels": 0, "idle_conns": 0, "borrowed": 0, "borrow_refused": 0,
                    "changed": null,
                },
            ] }] })
        );
    }
}
