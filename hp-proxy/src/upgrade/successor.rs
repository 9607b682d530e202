//! The process that has been started to replace this one: what it is passed on, what it says, and its end.

use super::handover::{Failure, Far, Handover, Progress, Word, is_pending, nonsense};
use super::listen_fds;
use super::manifest;
use super::predecessor::ENVIRONMENT;
use super::program::Program;
use super::state::State;
use super::talk::{Kind, SOCKETS_MAX, TEXT_BYTES_MAX, Talk};
use crate::config::plan::ListenerId;
use crate::listening::Listening;
use crate::shared::Message;
use hp_core::rt::mesh::Mesh;
use hp_core::rt::net::Socket;
use hp_core::sys::{child, rights};
use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

/// A process that has been started to replace this one.
#[derive(Debug)]
pub(super) struct Successor {
    child: Child,
    talk: Talk,
    /// What it has not been given as yet.
    parcels: VecDeque<Parcel>,
    handover: Handover,
}

/// A packet that is to be sent.
#[derive(Debug)]
struct Parcel {
    kind: Kind,
    bytes: Vec<u8>,
    sockets: Vec<Socket>,
}

/// The way to a successor.
struct Way<'a> {
    talk: &'a Talk,
    parcels: &'a mut VecDeque<Parcel>,
    listening: &'a Listening,
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
            parcels,
            handover: Handover::new(deadline),
        })
    }

    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Does what can be done now, `now` being of the monotonic clock, in nanoseconds.
    ///
    /// # Errors
    /// A line that says why it cannot replace this process.
    pub(super) fn poll(
        &mut self,
        now: u64,
        mesh: &Mesh<Message>,
        listening: &Listening,
    ) -> Result<Progress, String> {
        let mut way = Way {
            talk: &self.talk,
            parcels: &mut self.parcels,
            listening,
        };
        match self.handover.poll(now, &mut way, mesh) {
            Ok(progress) => Ok(progress),
            Err(Failure::Ended) => Err(match self.end() {
                Some(status) => told(status),
                None => Failure::Ended.to_string(),
            }),
            Err(failure) => Err(failure.to_string()),
        }
    }

    /// Ends it, and has the workers accept again; gives it back where it has not ended.
    pub(super) fn give_up(mut self, mesh: &Mesh<Message>) -> Option<Child> {
        let status = self.end();
        self.handover.roll_back(mesh);
        status.is_none().then_some(self.child)
    }

    /// How it ended: by itself, or now. `None`: the kernel has not let it, and nobody waits for that, for it runs no code of its own
    /// any more, and connections wait for us.
    fn end(&mut self) -> Option<ExitStatus> {
        match self.child.kill() {
            Ok(()) => (),
            Err(_gone) => (), // It was waited for already.
        }
        child::wait_within(&mut self.child, ENDS_WITHIN)
            .ok()
            .flatten()
    }
}

impl Far for Way<'_> {
    fn give(&mut self) -> io::Result<()> {
        while let Some(parcel) = self.parcels.front() {
            parcel.send(self.talk)?;
            self.parcels.pop_front();
        }
        Ok(())
    }

    fn hear(&mut self) -> io::Result<Option<Word>> {
        let said = match self.talk.hear() {
            Ok(Some(said)) => said,
            Ok(None) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Err(error) if is_pending(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        match said.kind {
            Kind::Prepared => Ok(Some(Word::Prepared(places(&said.bytes, self.listening)?))),
            Kind::Ready => Ok(Some(Word::Ready)),
            Kind::Text | Kind::Sockets | Kind::End | Kind::Go => Err(nonsense()),
        }
    }

    fn go(&mut self) -> io::Result<()> {
        self.talk.say(Kind::Go, &[], &[])
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

/// How long a process that was killed is waited for, by a thread that answers signals meanwhile no sooner.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::super::{Outcome, Upgrades};
    use super::*;
    use crate::cli;
    use crate::listening::inheritance::Inheritance;
    use crate::shared::SharedPlan;
    use hp_core::rt::mesh::{Mailbox, WorkerId};
    use std::sync::mpsc::Sender;

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
                parcels: parcels(&listening, &state).unwrap(),
                handover: Handover::new(deadline),
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

        fn passes_the_deadline(&mut self) {
            let successor = self.upgrades.under_way.as_mut().unwrap();
            successor.handover.is_late_from(0);
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
        // A process that another thread is just starting has this end, too, until it becomes another program.
        let talk = &lab.upgrades.under_way.as_ref().unwrap().talk;
        assert!(talk.wait(Duration::from_secs(20)).unwrap());
        lab.check_failed("this process goes on");
        assert!(lab.resumes());
    }

    #[test]
    fn listeners_resume_when_a_successor_is_late_to_be_ready() {
        let mut lab = Lab::new(u64::MAX);
        lab.go();
        lab.passes_the_deadline();
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
    fn nobody_is_started_while_one_that_was_given_up_has_not_ended() {
        let mut lab = Lab::new(u64::MAX);
        lab.upgrades.give_up(&lab.mesh, "why not").unwrap();
        assert!(lab.upgrades.unended.is_none());
        let child = Command::new("sleep").arg("3600").spawn().unwrap();
        let child = lab.upgrades.unended.insert(child);
        let refused = format!("process {}, which was given up, has not ended", child.id());
        let told = lab.upgrades.begin(&lab.listening, Duration::ZERO);
        assert!(told.unwrap_err().contains(&refused));
        let child = lab.upgrades.unended.as_mut().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let told = lab.upgrades.begin(&lab.listening, Duration::ZERO);
        assert!(told.unwrap_err().contains("it is not known where"));
        assert!(lab.upgrades.unended.is_none());
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
        lab.passes_the_deadline();
        lab.check_failed("--upgrade-timeout");
        assert!(lab.resumes());
    }
}
