//! Ctrl-C and SIGTERM as a state that every wait of the harness looks at, so that a session ends in order.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use hp_core::sys::signal::{Signal, Signals};

use crate::clock;

/// Whether the session is to end early. Waits end as soon as it is.
#[derive(Debug)]
pub struct Interrupt {
    /// None where signals could not be blocked: then they end the process, and its children with it.
    signals: Option<Signals>,
    seen: Cell<Option<Signal>>,
}

impl Interrupt {
    /// Takes both signals from now on; children start with none blocked.
    pub fn watch() -> Self {
        let signals: io::Result<Signals> = Signals::block(&[Signal::Interrupt, Signal::Terminate]);
        Self {
            signals: signals.ok(),
            seen: Cell::new(None),
        }
    }

    /// One that no signal sets.
    pub fn never() -> Self {
        Self {
            signals: None,
            seen: Cell::new(None),
        }
    }

    /// Waits for a moment, or until a signal comes.
    pub fn pause(&self, length: Duration) {
        let Some(signals) = &self.signals else {
            clock::pause(length);
            return;
        };
        if self.seen.get().is_some() {
            clock::pause(length); // What is ended after the first signal is still waited for.
            return;
        }
        if let Ok(Some(signal)) = signals.wait_for(length) {
            self.seen.set(Some(signal));
        }
    }

    /// Whether a signal came; takes one that waits.
    pub fn came(&self) -> bool {
        if self.seen.get().is_none() {
            self.pause(Duration::ZERO);
        }
        self.seen.get().is_some()
    }

    /// The exit code that says so: 130 or 143; none where no signal came.
    pub fn exit_code(&self) -> Option<u8> {
        Some(match self.seen.get()? {
            Signal::Terminate => 143,
            Signal::Hangup | Signal::Interrupt | Signal::User1 | Signal::User2 => 130,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_signal_nothing_came() {
        let interrupt = Interrupt::never();
        interrupt.pause(Duration::ZERO);
        assert!(!interrupt.came());
        assert_eq!(interrupt.exit_code(), None);
    }
}
