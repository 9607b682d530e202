//! What a process tells its successor besides sockets: a map of values by name, each made and read by the room that it belongs to.
//!
//! A name is never used again for something else. A room that finds none, or one that it cannot read, begins anew, since
//! the other process may be older or newer.

use crate::config::forwarding::Forwarding;
use hp_core::wire::forwarding::Via;
use serde_json::{Map, Value};

/// Values by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State(Map<String, Value>);

impl State {
    /// Passes a value on; an earlier one of that name is forgotten.
    pub(crate) fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// What was passed on under a name.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Has a process go by the made-up name in Via by which its predecessor went, and passes it on.
    pub(crate) fn keep_via(&mut self, forwarding: &mut Forwarding) {
        let name = self.get(VIA).and_then(Value::as_str).and_then(Via::new);
        if let Some(via) = name {
            forwarding.keep_name(&Forwarding {
                via,
                via_is_made_up: true,
                ..Forwarding::default()
            });
        }
        if forwarding.via_is_made_up {
            self.put(VIA, forwarding.via.name());
        }
    }

    pub(crate) fn from_map(values: Map<String, Value>) -> Self {
        Self(values)
    }

    pub(crate) fn to_value(&self) -> Value {
        Value::Object(self.0.clone())
    }
}

/// How many upgrades led from the first process to this one.
pub(crate) const UPGRADES: &str = "upgrades";
const VIA: &str = "via";

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarding(name: &str, via_is_made_up: bool) -> Forwarding {
        Forwarding {
            via: Via::new(name).unwrap(),
            via_is_made_up,
            ..Forwarding::default()
        }
    }

    #[test]
    fn a_made_up_name_is_passed_on_and_a_chosen_one_wins() {
        let mut state = State::default();
        state.keep_via(&mut forwarding("first", true));
        let passed = State::from_map(state.to_value().as_object().unwrap().clone());
        assert_eq!(passed, state);
        for (made_up, name) in [(true, "first"), (false, "second")] {
            let mut next = forwarding("second", made_up);
            passed.clone().keep_via(&mut next);
            assert_eq!(next.via.name(), name);
        }
    }

    #[test]
    fn what_cannot_be_read_is_made_anew() {
        let mut state = State::default();
        for bad in [Value::Null, 7.into(), "no token".into()] {
            state.put("via", bad);
            let mut next = forwarding("own", true);
            state.keep_via(&mut next);
            assert_eq!(
                (next.via.name(), state.get("via")),
                ("own", Some(&"own".into()))
            );
        }
    }
}
