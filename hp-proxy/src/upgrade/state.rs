//! What a process tells its successor besides sockets: a map of values by name, each made and read by the room that it belongs to.
//!
//! A name is never used again for something else. A room that finds none, or one that it cannot read, begins anew, since
//! the other process may be older or newer.

use crate::config::forwarding::Forwarding;
use crate::upstream::sticky::Secret;
use hp_core::rt::plant::{Plant, is_planted};
use hp_core::wire::forwarding::Via;
use serde_json::{Map, Value};

/// Values by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State(Map<String, Value>);

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

    /// Has a process sign cookies with the random key of its predecessor, and passes it on: clients have such cookies. It travels
    /// between two processes of one owner, and nowhere else.
    pub fn keep_key(&mut self, key: &mut Secret) {
        let byte = |value: &Value| value.as_u64().and_then(|number| u8::try_from(number).ok());
        let passed = self.get(COOKIE_KEY).and_then(Value::as_array);
        let passed = passed.and_then(|values| values.iter().map(byte).collect::<Option<Vec<u8>>>());
        let passed = passed.filter(|bytes| bytes.len() == key.bytes().len());
        if let Some(bytes) = passed.filter(|_| !is_planted(Plant::KeyForgotten)) {
            *key = Secret::new(bytes);
        }
        self.put(COOKIE_KEY, key.bytes());
    }

    /// What was passed on.
    #[must_use]
    pub fn from_map(values: Map<String, Value>) -> Self {
        Self(values)
    }

    /// What is to be passed on: an object.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::Object(self.0.clone())
    }
}

/// How many upgrades led from the first process to this one.
pub(crate) const UPGRADES: &str = "upgrades";
const VIA: &str = "via";
const COOKIE_KEY: &str = "cookie_key";

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
    fn cookies_are_signed_with_the_key_of_the_first_process() {
        let first = Secret::random();
        let mut state = State::default();
        state.keep_key(&mut first.clone());
        let mut next = Secret::random();
        assert_ne!(next.bytes(), first.bytes());
        state.keep_key(&mut next);
        assert_eq!(next.bytes(), first.bytes());
    }

    #[test]
    fn a_key_that_cannot_be_read_is_made_anew() {
        let own = Secret::random();
        for bad in [
            Value::Null,
            "text".into(),
            vec![1, 2].into(),
            vec![256; own.bytes().len()].into(),
        ] {
            let (mut state, mut key) = (State::default(), own.clone());
            state.put("cookie_key", bad);
            state.keep_key(&mut key);
            assert_eq!(key.bytes(), own.bytes());
            assert_eq!(state.get("cookie_key"), Some(&own.bytes().into()));
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
