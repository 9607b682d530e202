//! The side of the process that is replaced: it starts its successor, passes the sockets on, and goes on as before when that
//! comes to nothing.
//!
//! ```text
//! Giving ──all given──► Preparing ──Prepared──► Pausing ──all listeners rest──► Starting ──Ready──► (the successor is in charge)
//!    └──────────────────────┴─────── it ends, it is late, it says nonsense ──────┴──► (killed; listeners resume)
//! ```
//! New connections wait in the sockets' queues from `Pausing` on, for some milliseconds.

use super::listen_fds;
use super::manifest;
use super::predecessor::ENVIRONMENT;
use super::program::Program;
use super::state::State;
use super::talk::{Kind, SOCKETS_MAX, Said, TEXT_BYTES_MAX, Talk};
use crate::config::plan::ListenerId;
use crate::listening::Listening;
use crate::shared::Message;
use hp_core::rt::mesh::{Mesh, WorkerId};
use hp_core::rt::net::Socket;
use hp_core::sys::rights;
use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, Receiver};

/// A process that has been started to replace this one.
#[derive(Debug)]
pub(super) struct Successor {
    child: Child,
    talk: Talk,
    phase: Phase,
    /// By the monotonic clock, in nanoseconds.
    deadline: u64,
}

#[derive(Debug)]
enum Phase {
    Giving(VecDeque<Parcel>),
    Preparing,
    /// So many workers have not told that their listeners rest.
    Pausing(Receiver<()>, u32, Vec<ListenerId>),
    Starting(Vec<ListenerId>),
}

/// A packet that is to be sent.
#[derive(Debug)]
struct Parcel {
    kind: Kind,
    bytes: Vec<u8>,
    sockets: Vec<Socket>,
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Progress {
    Waiting,
    /// It accepts, and has these listeners.
    Replaced(Vec<ListenerId>),
    /// It cannot replace this process.
    Failed(String),
}

impl Successor {
    /// Starts the program; what is passed on follows as it is looked at.
    ///
    /// # Errors
    /// A line that says why it cannot be started.
    pub(super) fn start(
        program: &Program,
        listening: &Listening,
        state: &State,
        deadline: u64,
    ) -> Result<Self, String> {
        let path = program.path.as_ref();
        let path = path.ok_or("it is not known where this program's file is")?;
        let parcels = parcels(listening, state)
            .map_err(|error| format!("cannot pass the sockets on: {error}"))?;
        let (ours, theirs) =
            rights::pair().map_err(|error| format!("cannot make a pair of sockets: {error}"))?;
        let number = rights::leave_open(&theirs)
            .map_err(|error| format!("cannot pass a descriptor on: {error}"))?;
        let mut command = Command::new(path);
        if let Some((name, args)) = program.args.split_first() {
            command.arg0(name).args(args);
        }
        for name in listen_fds::ENVIRONMENT {
            command.env_remove(name); // They speak of this process's descriptors.
        }
        command.env(ENVIRONMENT, number.to_string());
        let child = command
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", path.display()))?;
        Ok(Self {
            child,
            talk: Talk::new(ours),
            phase: Phase::Giving(parcels),
            deadline,
        })
    }

    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Whether new connections wait for it.
    pub(super) fn has_paused(&self) -> bool {
        matches!(self.phase, Phase::Pausing(..) | Phase::Starting(_))
    }

    /// Does what can be done now.
    pub(super) fn poll(
        &mut self,
        now: u64,
        mesh: &Mesh<Message>,
        listening: &Listening,
    ) -> Progress {
        match self.advance(mesh, listening) {
            Ok(Progress::Waiting) if now >= self.deadline => {
                Progress::Failed(String::from("it was not ready within --upgrade-timeout"))
            }
            Ok(progress) => progress,
            Err(error) if is_end(&error) => Progress::Failed(match self.end() {
                Some(status) => told(status),
                None => String::from("it gave up"),
            }),
            Err(error) => Progress::Failed(format!("it cannot be understood: {error}")),
        }
    }

    /// Ends it, and nothing else.
    pub(super) fn kill(&mut self) {
        self.end();
    }

    /// How it ended: by itself, or now.
    fn end(&mut self) -> Option<ExitStatus> {
        match self.child.kill() {
            Ok(()) => (),
            Err(_gone) => (), // It was waited for already.
        }
        self.child.wait().ok()
    }

    fn advance(&mut self, mesh: &Mesh<Message>, listening: &Listening) -> io::Result<Progress> {
        loop {
            match &mut self.phase {
                Phase::Giving(parcels) => match parcels.front() {
                    None => self.phase = Phase::Preparing,
                    Some(parcel) => match parcel.send(&self.talk) {
                        Ok(()) => drop(parcels.pop_front()),
                        Err(error) if is_pending(&error) => return Ok(Progress::Waiting),
                        Err(error) => return Err(error),
                    },
                },
                Phase::Preparing => match self.heard()? {
                    None => return Ok(Progress::Waiting),
                    Some(said) if said.kind == Kind::Prepared => {
                        let taken = places(&said.bytes, listening)?;
                        let (settled, rests) = mpsc::channel();
                        let workers = (0..mesh.workers()).map(WorkerId);
                        let pause = |worker| mesh.send(worker, Message::Pause(settled.clone()));
                        let told = workers.filter(|worker| pause(*worker).is_ok()).count();
                        let told = u32::try_from(told).unwrap_or(u32::MAX);
                        self.phase = Phase::Pausing(rests, told, taken);
                    }
                    Some(_other) => return Err(nonsense()),
                },
                Phase::Pausing(rests, left, taken) => {
                    while *left > 0 && rests.try_recv().is_ok() {
                        *left -= 1;
                    }
                    if *left > 0 {
                        // It may have ended meanwhile.
                        return match self.heard()? {
                            None => Ok(Progress::Waiting),
                            Some(_early) => Err(nonsense()),
                        };
                    }
                    let taken = std::mem::take(taken);
                    self.talk.say(Kind::Go, &[], &[])?;
                    self.phase = Phase::Starting(taken);
                }
                Phase::Starting(taken) => {
                    let taken = std::mem::take(taken);
                    return match self.heard()? {
                        Some(said) if said.kind == Kind::Ready => Ok(Progress::Replaced(taken)),
                        Some(_other) => Err(nonsense()),
                        None => {
                            self.phase = Phase::Starting(taken);
                            Ok(Progress::Waiting)
                        }
                    };
                }
            }
        }
    }

    /// What it has said; `None` while it says nothing.
    fn heard(&self) -> io::Result<Option<Said>> {
        match self.talk.hear() {
            Ok(Some(said)) => Ok(Some(said)),
            Ok(None) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Err(error) if is_pending(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Parcel {
    fn send(&self, talk: &Talk) -> io::Result<()> {
        let fds: Vec<BorrowedFd<'_>> = self.sockets.iter().filter_map(Socket::as_fd).collect();
        talk.say(self.kind, &self.bytes, &fds)
    }
}

/// Everything that is passed on.
fn parcels(listening: &Listening, state: &State) -> io::Result<VecDeque<Parcel>> {
    let text = manifest::write(std::process::id(), listening.held().iter(), state);
    let parcel = |kind, bytes: &[u8], sockets| Parcel {
        kind,
        bytes: bytes.to_vec(),
        sockets,
    };
    let pieces = text.as_bytes().chunks(TEXT_BYTES_MAX);
    let mut parcels: VecDeque<Parcel> = pieces
        .map(|piece| parcel(Kind::Text, piece, Vec::new()))
        .collect();
    let mut sockets = listening
        .held()
        .iter()
        .flat_map(|held| held.passed_sockets());
    loop {
        let some = sockets.by_ref().take(SOCKETS_MAX).map(Socket::try_clone);
        let some = some.collect::<io::Result<Vec<Socket>>>()?;
        if some.is_empty() {
            break;
        }
        parcels.push_back(parcel(Kind::Sockets, &[], some));
    }
    parcels.push_back(parcel(Kind::End, &[], Vec::new()));
    Ok(parcels)
}

/// The listeners at the places that were named.
fn places(bytes: &[u8], listening: &Listening) -> io::Result<Vec<ListenerId>> {
    let (places, rest) = bytes.as_chunks::<4>();
    let listener = |place: &[u8; 4]| {
        let place = usize::try_from(u32::from_le_bytes(*place)).ok()?;
        Some(listening.held().get(place)?.id)
    };
    let listeners: Option<Vec<ListenerId>> = places.iter().map(listener).collect();
    listeners.filter(|_| rest.is_empty()).ok_or_else(nonsense)
}

fn told(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with exit code {code} before it was ready"),
        (None, Some(signal)) => format!("signal {signal} ended it before it was ready"),
        (None, None) => String::from("it ended before it was ready"),
    }
}

fn is_pending(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

fn nonsense() -> io::Error {
    io::Error::from(io::ErrorKind::InvalidData)
}

#[cfg(test)]
mod tests {
    use super::super::inheritance::Inheritance;
    use super::super::{Outcome, Upgrades};
    use super::*;
    use crate::cli;
    use crate::shared::SharedPlan;
    use hp_core::rt::mesh::Mailbox;
    use std::sync::mpsc::Sender;
    use std::time::Duration;

    /// The running process, and both sides of its conversation with a process that does nothing by itself.
    struct Lab {
        upgrades: Upgrades,
        theirs: Option<Talk>,
        listening: Listening,
        mesh: Mesh<Message>,
        mailboxes: Vec<Mailbox<Message>>,
    }

    impl Lab {
        fn new(deadline: u64) -> Self {
            let line = "hp-proxy --listen 127.0.0.1:0 --listen 127.0.0.1:0 --workers 2";
            let plan = cli::parse(line.split(' ').map(Into::into)).unwrap();
            let plan = SharedPlan::new(plan);
            let listening = Listening::open(&plan, &mut Inheritance::default()).unwrap();
            let state = State::default();
            let (ours, theirs) = rights::pair().unwrap();
            let successor = Successor {
                child: Command::new("sleep").arg("3600").spawn().unwrap(),
                talk: Talk::new(ours),
                phase: Phase::Giving(parcels(&listening, &state).unwrap()),
                deadline,
            };
            let program = Program {
                path: None,
                args: Vec::new(),
            };
            let mut upgrades = Upgrades::new(program, state);
            upgrades.under_way = Some(successor);
            let mesh = Mesh::new(2);
            Self {
                upgrades,
                theirs: Some(Talk::new(theirs)),
                listening,
                mailboxes: (0..2).map(|id| mesh.mailbox(WorkerId(id))).collect(),
                mesh,
            }
        }

        fn poll(&mut self) -> Outcome {
            self.upgrades.poll(&self.mesh, &self.listening)
        }

        fn theirs(&self) -> &Talk {
            self.theirs.as_ref().unwrap()
        }

        fn say(&self, kind: Kind, bytes: &[u8]) {
            self.theirs().say(kind, bytes, &[]).unwrap();
        }

        /// Takes what is passed on, as the successor does.
        fn take(&mut self) {
            let (mut text, mut fds) = (Vec::new(), Vec::new());
            loop {
                assert!(matches!(self.poll(), Outcome::Nothing));
                let said = self.theirs().next(Duration::from_secs(20)).unwrap();
                match said.kind {
                    Kind::Text => text.extend(said.bytes),
                    Kind::Sockets => fds.extend(said.fds),
                    Kind::End => break,
                    other => panic!("{other:?}"),
                }
            }
            let manifest = manifest::read(&text, fds).unwrap();
            assert_eq!(manifest.process, std::process::id());
            assert_eq!(manifest.given.len(), 2);
        }

        /// The workers are told to pause.
        fn paused(&self) -> Vec<Sender<()>> {
            let mailboxes = self.mailboxes.iter();
            let told = mailboxes.map(|mailbox| match mailbox.try_recv() {
                Some(Message::Pause(settled)) => settled,
                other => panic!("{other:?}"),
            });
            told.collect()
        }

        /// Brings it to where the successor has been told to go.
        fn go(&mut self) {
            self.take();
            self.say(Kind::Prepared, &[1, 0, 0, 0]);
            assert!(matches!(self.poll(), Outcome::Nothing));
            for settled in self.paused() {
                assert!(self.theirs().hear().is_err(), "not all of them rest");
                settled.send(()).unwrap();
                assert!(matches!(self.poll(), Outcome::Nothing));
            }
            let said = self.theirs().next(Duration::from_secs(20)).unwrap();
            assert_eq!(said.kind, Kind::Go);
        }

        fn check_failed(&mut self, part: &str) {
            match self.poll() {
                Outcome::Failed(line) => assert!(line.contains(part), "{line}"),
                other => panic!("{other:?}"),
            }
            assert!(!self.upgrades.is_under_way());
        }

        fn resumes(&self) -> bool {
            let mut mailboxes = self.mailboxes.iter();
            mailboxes.all(|mailbox| matches!(mailbox.try_recv(), Some(Message::Resume)))
        }
    }

    #[test]
    fn the_successor_goes_when_all_listeners_rest_and_is_in_charge_when_it_says_so() {
        let mut lab = Lab::new(u64::MAX);
        lab.go();
        let process = lab.upgrades.under_way.as_ref().unwrap().process();
        let mut child = lab
            .upgrades
            .under_way
            .as_mut()
            .map(|it| std::mem::replace(&mut it.child, Command::new("true").spawn().unwrap()));
        lab.say(Kind::Ready, &[]);
        match lab.poll() {
            Outcome::Replaced { listeners, .. } => assert_eq!(listeners, [ListenerId(1)]),
            other => panic!("{other:?}"),
        }
        let child = child.as_mut().unwrap();
        assert_eq!(child.id(), process);
        assert!(child.try_wait().unwrap().is_none(), "it lives on");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!lab.resumes());
    }

    #[test]
    fn listeners_resume_when_a_successor_ends_between_prepared_and_ready() {
        let mut lab = Lab::new(u64::MAX);
        lab.go();
        lab.theirs = None;
        lab.check_failed("this process goes on");
        assert!(lab.resumes());
    }

    #[test]
    fn listeners_resume_when_a_successor_is_late_to_be_ready() {
        let mut lab = Lab::new(u64::MAX);
        lab.go();
        lab.upgrades.under_way.as_mut().unwrap().deadline = 0;
        lab.check_failed("--upgrade-timeout");
        assert!(lab.resumes());
    }

    #[test]
    fn a_signal_to_end_gives_the_successor_up_and_resumes() {
        let mut lab = Lab::new(u64::MAX);
        lab.go();
        let told = lab.upgrades.give_up(&lab.mesh, "why not");
        assert!(told.unwrap().ends_with("failed: why not"));
        assert!(lab.resumes());
        assert_eq!(lab.upgrades.give_up(&lab.mesh, "again"), None);
    }

    #[test]
    fn nobody_pauses_for_a_successor_that_is_not_prepared() {
        let words: [(Kind, &[u8]); 4] = [
            (Kind::Ready, &[]),
            (Kind::Go, &[]),
            (Kind::Prepared, &[7, 0, 0, 0]),
            (Kind::Prepared, &[1, 0, 0]),
        ];
        for (kind, bytes) in words {
            let mut lab = Lab::new(u64::MAX);
            lab.take();
            lab.say(kind, bytes);
            lab.check_failed("cannot be understood");
            assert!(
                lab.mailboxes
                    .iter()
                    .all(|mailbox| mailbox.try_recv().is_none())
            );
        }
        let mut late = Lab::new(0);
        late.check_failed("--upgrade-timeout");
        assert!(
            late.mailboxes
                .iter()
                .all(|mailbox| mailbox.try_recv().is_none())
        );
    }

    #[test]
    fn a_worker_that_does_not_rest_ends_the_upgrade_in_time() {
        let mut lab = Lab::new(u64::MAX);
        lab.take();
        lab.say(Kind::Prepared, &[0, 0, 0, 0, 1, 0, 0, 0]);
        assert!(matches!(lab.poll(), Outcome::Nothing));
        let _never_told = lab.paused();
        assert!(matches!(lab.poll(), Outcome::Nothing));
        lab.upgrades.under_way.as_mut().unwrap().deadline = 0;
        lab.check_failed("--upgrade-timeout");
        assert!(lab.resumes());
    }
}
