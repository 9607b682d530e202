//! How a process begins: with sockets that its predecessor or a manager of services had, or with none.

use super::listen_fds;
use super::predecessor::Predecessor;
use super::state::{State, UPGRADES};
use crate::listening::inheritance::Inheritance;
use hp_core::obs::notice::say;
use serde_json::Value;

/// What a process finds when it starts.
#[derive(Debug)]
pub(crate) struct Arrival {
    predecessor: Option<Predecessor>,
    /// What its listeners are made of, as far as it fits.
    pub(crate) inheritance: Inheritance,
    pub(crate) state: State,
}

/// The same, once the listeners are there.
#[derive(Debug)]
pub(crate) struct Arrived {
    predecessor: Option<Predecessor>,
    taken: Vec<u32>,
    state: State,
}

impl Arrival {
    /// What the environment tells of.
    ///
    /// # Errors
    /// A line that says what cannot be used.
    pub(crate) fn from_environment() -> Result<Self, String> {
        let passed_on = Predecessor::from_environment().map_err(|error| error.to_string())?;
        let Some((predecessor, inheritance, mut state)) = passed_on else {
            return Ok(Self {
                predecessor: None,
                inheritance: listen_fds::from_environment()?,
                state: State::default(),
            });
        };
        let upgrades = state.get(UPGRADES).and_then(Value::as_u64);
        let upgrades = upgrades.unwrap_or(0).saturating_add(1);
        state.put(UPGRADES, upgrades);
        let process = predecessor.process;
        say(format_args!(
            "hp-proxy: taking over from process {process}, upgrade {upgrades}"
        ));
        Ok(Self {
            predecessor: Some(predecessor),
            inheritance,
            state,
        })
    }

    /// Every listener has taken what is its own. What is left is given back to a predecessor; a manager of services is told that
    /// nobody serves it.
    ///
    /// # Errors
    /// A line that names the socket.
    pub(crate) fn taken(self) -> Result<Arrived, String> {
        if self.predecessor.is_none()
            && let Some(given) = self.inheritance.left().first()
        {
            return Err(format!(
                "{} listens on {}, which no listener of the plan names; add a listener or take it out of the .socket unit",
                given.label,
                given.sockets.address()
            ));
        }
        Ok(Arrived {
            predecessor: self.predecessor,
            taken: self.inheritance.into_taken(),
            state: self.state,
        })
    }
}

impl Arrived {
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn is_replacing(&self) -> bool {
        self.predecessor.is_some()
    }

    /// Waits until a predecessor accepts no more from what was taken.
    ///
    /// # Errors
    /// A line that says why it does not.
    pub(crate) fn agree(&self) -> Result<(), String> {
        match &self.predecessor {
            Some(predecessor) => predecessor
                .agree(&self.taken)
                .map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    /// Tells a predecessor that the listeners accept.
    pub(crate) fn replace(self) {
        if let Some(predecessor) = self.predecessor {
            predecessor.replace();
        }
    }
}
