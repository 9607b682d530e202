//! How far a hand-over is, as the process that is replaced sees it. Knows no process, no descriptor and no clock: who is at the other
//! end is an argument, so that the simulation plays it as well.
//!
//! ```text
//! Giving ──all given──► Preparing ──Prepared──► Pausing ──all listeners rest──► Starting ──Ready──► (the successor is in charge)
//!    └──────────────────────┴─────── it ends, it is late, it says nonsense ──────┴──► (given up; listeners resume)
//! ```
//! New connections wait in the sockets' queues from `Pausing` on, for some milliseconds.

use crate::config::plan::ListenerId;
use crate::shared::Message;
use hp_core::rt::mesh::{Mesh, WorkerId};
use hp_core::rt::plant::{Plant, is_planted};
use std::fmt;
use std::io;
use std::sync::mpsc::{self, Receiver};

/// The successor, as its predecessor reaches it.
pub trait Far {
    /// Gives it what is left to be given.
    ///
    /// # Errors
    /// `WouldBlock` where it has to take more first; an end where it has gone.
    fn give(&mut self) -> io::Result<()>;

    /// What it has said; `None` while it says nothing.
    ///
    /// # Errors
    /// `InvalidData` for what means nothing; an end where it has gone.
    fn hear(&mut self) -> io::Result<Option<Word>>;

    /// Tells it that nobody else accepts from the listeners that it takes.
    ///
    /// # Errors
    /// An end where it has gone.
    fn go(&mut self) -> io::Result<()>;
}

/// What a successor says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Its workers run; it takes these listeners.
    Prepared(Vec<ListenerId>),
    /// Its listeners accept.
    Ready,
}

/// One hand-over.
#[derive(Debug)]
pub struct Handover {
    phase: Phase,
    /// By the monotonic clock, in nanoseconds.
    deadline: u64,
}

#[derive(Debug)]
enum Phase {
    Giving,
    Preparing,
    /// So many workers have not told that their listeners rest.
    Pausing(Receiver<()>, u32, Vec<ListenerId>),
    Starting(Vec<ListenerId>),
}

/// How far it is.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not yet over.
    Waiting,
    /// The successor accepts, and has these listeners.
    Replaced(Vec<ListenerId>),
}

/// Why a successor cannot replace this process.
#[derive(Debug)]
pub enum Failure {
    /// It has gone.
    Ended,
    /// The deadline has passed.
    Late,
    /// It said what means nothing, or nothing now; or it cannot be reached.
    Nonsense(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("it gave up"),
            Self::Late => f.write_str("it was not ready within --upgrade-timeout"),
            Self::Nonsense(error) => write!(f, "it cannot be understood: {error}"),
        }
    }
}

impl Handover {
    /// One that begins, and is given up at the deadline: a point of the monotonic clock, in nanoseconds.
    #[must_use]
    pub fn new(deadline: u64) -> Self {
        Self {
            phase: Phase::Giving,
            deadline,
        }
    }

    /// Does what can be done now. After a failure it is to be [rolled back](Self::roll_back).
    ///
    /// # Errors
    /// [`Failure`].
    pub fn poll(
        &mut self,
        now: u64,
        far: &mut impl Far,
        mesh: &Mesh<Message>,
    ) -> Result<Progress, Failure> {
        match self.advance(far, mesh) {
            Ok(Progress::Waiting) if now >= self.deadline => Err(Failure::Late),
            Ok(progress) => Ok(progress),
            Err(error) if is_end(&error) => Err(Failure::Ended),
            Err(error) => Err(Failure::Nonsense(error)),
        }
    }

    /// The successor came to nothing: whoever was told to pause accepts again.
    pub fn roll_back(&self, mesh: &Mesh<Message>) {
        let has_paused = matches!(self.phase, Phase::Pausing(..) | Phase::Starting(_));
        if !has_paused || is_planted(Plant::PauseKept) {
            return;
        }
        for worker in (0..mesh.workers()).map(WorkerId) {
            match mesh.send(worker, Message::Resume) {
                Ok(()) => (),
                Err(_ended) => (), // Its death is told by `join`.
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_late_from(&mut self, deadline: u64) {
        self.deadline = deadline;
    }

    fn advance(&mut self, far: &mut impl Far, mesh: &Mesh<Message>) -> io::Result<Progress> {
        loop {
            match &mut self.phase {
                Phase::Giving => match far.give() {
                    Ok(()) => self.phase = Phase::Preparing,
                    Err(error) if is_pending(&error) => return Ok(Progress::Waiting),
                    Err(error) => return Err(error),
                },
                Phase::Preparing => match far.hear()? {
                    None => return Ok(Progress::Waiting),
                    Some(Word::Prepared(taken)) => self.phase = pause(mesh, taken),
                    Some(Word::Ready) => return Err(nonsense()),
                },
                Phase::Pausing(rests, left, taken) => {
                    while *left > 0 && rests.try_recv().is_ok() {
                        *left -= 1;
                    }
                    if *left > 0 {
                        // It may have ended meanwhile.
                        return match far.hear()? {
                            None => Ok(Progress::Waiting),
                            Some(_early) => Err(nonsense()),
                        };
                    }
                    let taken = std::mem::take(taken);
                    self.phase = Phase::Starting(taken);
                    far.go()?;
                }
                Phase::Starting(taken) => {
                    return match far.hear()? {
                        None => Ok(Progress::Waiting),
                        Some(Word::Ready) => Ok(Progress::Replaced(std::mem::take(taken))),
                        Some(Word::Prepared(_)) => Err(nonsense()),
                    };
                }
            }
        }
    }
}

fn pause(mesh: &Mesh<Message>, taken: Vec<ListenerId>) -> Phase {
    let (settled, rests) = mpsc::channel();
    let workers = (0..mesh.workers()).map(WorkerId);
    let pause = |worker| mesh.send(worker, Message::Pause(settled.clone()));
    let told = workers.filter(|worker| pause(*worker).is_ok()).count();
    Phase::Pausing(rests, u32::try_from(told).unwrap_or(u32::MAX), taken)
}

pub(super) fn is_pending(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

pub(super) fn nonsense() -> io::Error {
    io::Error::from(io::ErrorKind::InvalidData)
}
