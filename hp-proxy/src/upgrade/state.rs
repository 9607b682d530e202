//! What a process tells its successor besides sockets: a map of values by name, each made and read by the room that it belongs to.
//!
//! A name is never used again for something else. A room that finds none, or one that it cannot read, begins anew, since
//! the other process may be older or newer.

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

    pub(crate) fn from_map(values: Map<String, Value>) -> Self {
        Self(values)
    }

    pub(crate) fn to_value(&self) -> Value {
        Value::Object(self.0.clone())
    }
}

/// How many upgrades led from the first process to this one.
pub(crate) const UPGRADES: &str = "upgrades";
