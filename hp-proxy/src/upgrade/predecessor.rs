//! The side of the process that takes over: it gets the sockets, says when it could begin, begins when told to, and says so.

use super::manifest;
use super::state::State;
use super::talk::{Kind, SOCKETS_TOTAL_MAX, TEXT_BYTES_TOTAL_MAX, Talk};
use crate::listening::inheritance::Inheritance;
use hp_core::sys::rights;
use std::env;
use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// The process that started this one, to be replaced by it.
#[derive(Debug)]
pub(crate) struct Predecessor {
    /// Closed by the kernel when this process fails: the predecessor ends it then, and its last words have to come first.
    talk: ManuallyDrop<Talk>,
    pub(crate) process: u32,
}

/// Why a process cannot take over; says what to do where something can be done.
#[derive(Debug)]
pub(crate) struct TakeOverError(String);

impl fmt::Display for TakeOverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Predecessor {
    /// What the process that started this one passes on; `None` where it was not started to replace anybody.
    ///
    /// # Errors
    /// [`TakeOverError`].
    pub(crate) fn from_environment() -> Result<Option<(Self, Inheritance, State)>, TakeOverError> {
        let Some(text) = env::var_os(ENVIRONMENT) else {
            return Ok(None);
        };
        let number = text.to_str().and_then(|text| text.parse().ok());
        let socket = number.and_then(|number| rights::inherited(number).ok());
        // Anything else would be waited for: it may have nothing to say.
        let is_end = |socket: &OwnedFd| rights::is_end_of_pair(socket.as_fd()).unwrap_or(false);
        let Some(socket) = socket.filter(is_end) else {
            return Err(TakeOverError(format!(
                "{ENVIRONMENT}={} names no socket that a running hp-proxy left open; that sets it, unset it",
                text.display()
            )));
        };
        let talk = ManuallyDrop::new(Talk::new(socket));
        let (text, fds) = receive(&talk).map_err(|error| broken(&error))?;
        let manifest =
            manifest::read(&text, fds).map_err(|error| TakeOverError(error.to_string()))?;
        let predecessor = Self {
            talk,
            process: manifest.process,
        };
        let inheritance = Inheritance::new(manifest.given);
        Ok(Some((predecessor, inheritance, manifest.state)))
    }

    /// Says which listeners are taken, and waits until the predecessor accepts from them no more.
    ///
    /// # Errors
    /// [`TakeOverError`] when it has given up.
    pub(crate) fn agree(&self, taken: &[u32]) -> Result<(), TakeOverError> {
        let bytes: Vec<u8> = taken.iter().flat_map(|place| place.to_le_bytes()).collect();
        let said = self.talk.say(Kind::Prepared, &bytes, &[]);
        let answer = said.and_then(|()| self.talk.next(PATIENCE));
        match answer {
            Ok(said) if said.kind == Kind::Go => Ok(()),
            Ok(_other) => Err(broken(&io::Error::from(io::ErrorKind::InvalidData))),
            Err(error) => Err(broken(&error)),
        }
    }

    /// Says that the listeners accept: from now on this process is in charge, even where nobody hears it.
    pub(crate) fn replace(self) {
        match self.talk.say(Kind::Ready, &[], &[]) {
            Ok(()) => (),
            Err(_gone) => (), // It died after it had told us to go: nobody else is left.
        }
        drop(ManuallyDrop::into_inner(self.talk));
    }
}

fn broken(error: &io::Error) -> TakeOverError {
    TakeOverError(match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset => {
            String::from("the process that was to be replaced has ended, or goes on itself")
        }
        io::ErrorKind::TimedOut => {
            String::from("the process that was to be replaced says nothing; start anew")
        }
        _ => format!("the process that was to be replaced cannot be understood: {error}"),
    })
}

fn receive(talk: &Talk) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let (mut text, mut fds) = (Vec::new(), Vec::new());
    loop {
        let said = talk.next(PATIENCE)?;
        match said.kind {
            Kind::Text => text.extend_from_slice(&said.bytes),
            Kind::Sockets => fds.extend(said.fds),
            Kind::End => return Ok((text, fds)),
            Kind::Prepared | Kind::Go | Kind::Ready => {
                return Err(io::Error::from(io::ErrorKind::InvalidData));
            }
        }
        if text.len() > TEXT_BYTES_TOTAL_MAX || fds.len() > SOCKETS_TOTAL_MAX {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
    }
}

/// Names the descriptor of the conversation.
pub(super) const ENVIRONMENT: &str = "HP_PROXY_UPGRADE_FD";
/// For each thing that the predecessor says: more than any `--upgrade-timeout` that makes sense, for that ends this process.
const PATIENCE: Duration = Duration::from_secs(3600);
