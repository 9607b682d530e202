//! Replacing the running program by another one without losing a connection: the new process gets the listening sockets, and the
//! old one finishes what it has begun. [0022](../../../docs/decisions/0022-upgrade.md) says why it is done so.
//!
//! Start at `Upgrades`, which the process that is replaced drives by the machine of `handover`, and at `Arrival`, with which the other
//! one begins.

mod arrival;
pub mod handover;
mod listen_fds;
mod manifest;
pub(crate) mod notify;
pub(crate) mod pid_file;
mod predecessor;
mod program;
mod state;
mod successor;
mod talk;

pub(crate) use arrival::Arrival;
pub use program::Program;
pub use state::State;

use crate::config::plan::ListenerId;
use crate::listening::Listening;
use crate::shared::Message;
use handover::Progress;
use hp_core::obs::notice::say;
use hp_core::rt::mesh::Mesh;
use hp_core::sys::clock;
use std::process::Child;
use std::time::Duration;
use successor::Successor;

/// Upgrades of the running process: at most one at a time is under way.
#[derive(Debug)]
pub(crate) struct Upgrades {
    program: Program,
    /// What a successor is told; whoever has something to pass on keeps it up to date here.
    pub(crate) state: State,
    under_way: Option<Successor>,
    /// One that was given up, was killed, and has not ended.
    unended: Option<Child>,
}

/// What came of looking.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is under way, or none is.
    Nothing,
    /// A successor is in charge, and has these listeners.
    Replaced {
        process: u32,
        listeners: Vec<ListenerId>,
    },
    /// This process goes on as if nothing had been; a line that says why.
    Failed(String),
}

impl Upgrades {
    pub(crate) fn new(program: Program, state: State) -> Self {
        Self {
            program,
            state,
            under_way: None,
            unended: None,
        }
    }

    /// Starts a successor, which is given up after the timeout; gives its number.
    ///
    /// # Errors
    /// A line that says why there is no upgrade.
    pub(crate) fn begin(
        &mut self,
        listening: &Listening,
        timeout: Duration,
    ) -> Result<u32, String> {
        if let Some(successor) = &self.under_way {
            let process = successor.process();
            return Err(format!(
                "no upgrade: one is under way already, to process {process}"
            ));
        }
        if let Some(process) = self.unended() {
            return Err(format!(
                "no upgrade: process {process}, which was given up, has not ended"
            ));
        }
        if std::process::id() == FIRST_PROCESS {
            return Err(String::from(
                "no upgrade: this is process 1, whose end is that of its container; replace the container",
            ));
        }
        let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        let deadline = clock::monotonic_ns().saturating_add(timeout);
        let successor = Successor::start(&self.program, listening, &self.state, deadline)
            .map_err(|why| format!("no upgrade: {why}; this process goes on"))?;
        Ok(self.under_way.insert(successor).process())
    }

    /// Whether one is under way, and looked at often.
    pub(crate) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Does what can be done for the one under way.
    pub(crate) fn poll(&mut self, mesh: &Mesh<Message>, listening: &Listening) -> Outcome {
        let Some(successor) = &mut self.under_way else {
            return Outcome::Nothing;
        };
        match successor.poll(clock::monotonic_ns(), mesh, listening) {
            Ok(Progress::Waiting) => Outcome::Nothing,
            Ok(Progress::Replaced(listeners)) => {
                let process = successor.process();
                self.under_way = None; // It lives on.
                Outcome::Replaced { process, listeners }
            }
            Err(why) => Outcome::Failed(
                self.give_up(mesh, &format!("{why}; this process goes on"))
                    .unwrap_or_default(),
            ),
        }
    }

    /// Ends the one under way, and accepts again; gives the line that tells it.
    pub(crate) fn give_up(&mut self, mesh: &Mesh<Message>, why: &str) -> Option<String> {
        let successor = self.under_way.take()?;
        let process = successor.process();
        self.unended = successor.give_up(mesh);
        let unended = match &self.unended {
            Some(_) => "; it was killed, and has not ended",
            None => "",
        };
        let line = format!("the upgrade to process {process} failed: {why}{unended}");
        say(format_args!("hp-proxy: {line}"));
        Some(line)
    }

    /// Who was given up and has not ended; reaps it if it has.
    fn unended(&mut self) -> Option<u32> {
        let child = self.unended.as_mut()?;
        if let Ok(None) = child.try_wait() {
            return Some(child.id());
        }
        self.unended = None;
        None
    }
}

const FIRST_PROCESS: u32 = 1;
