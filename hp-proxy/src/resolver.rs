//! The thread that asks name servers. It has a runtime of its own, so that no worker ever waits for a name, and tells whoever
//! started it what it has heard; it knows no plan, and changes none.
//!
//! What to ask, whom and when is decided in [`crate::upstream::discovery`]; here it is asked.

mod wire;

use crate::config::names::Dns;
use crate::upstream::discovery::book::{Book, News, Notice};
use crate::upstream::discovery::lookup::{Failure, Lookup, Outcome, Search, Step, Transport};
use crate::upstream::discovery::system::{Hosts, Resolution};
use crate::upstream::discovery::{Answers, Host, Target};
use hp_core::rt::mesh::Mesh;
use hp_core::rt::race::join;
use hp_core::rt::worker::{Context, Pin, WorkerId, Workers, WorkersError, WorkersOptions, start};
use hp_core::rt::{Engine, Instant, Rt, RtOptions};
use hp_core::wire::dns::{Kind, Name};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::mem;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// A running thread. Dropping it ends it.
#[derive(Debug)]
pub struct Resolver {
    workers: Option<Workers<Ask, ()>>,
    /// How often something was wanted.
    wants: u64,
}

/// What the thread is told.
#[derive(Debug)]
enum Ask {
    /// From now on these names are wanted, looked up so.
    Want(Dns, BTreeSet<Target>, u64),
    /// A lookup has ended.
    Heard(Target, News),
    /// Nothing is wanted any more.
    End,
}

/// What is known.
#[derive(Clone, Debug)]
pub struct Update {
    /// Of all names.
    pub answers: Answers,
    /// What operators should know.
    pub notices: Vec<Notice>,
    /// Names about which nobody has said anything yet.
    pub unsettled: Vec<Target>,
    /// Which [`Resolver::want`] it answers: the last one that the thread has seen.
    pub want: u64,
}

impl Resolver {
    /// Starts the thread. `tell` is called on it: after each [`Resolver::want`], as soon as all names were asked about or
    /// [`SETTLE_MAX`] has passed, and then whenever something has changed.
    ///
    /// # Errors
    /// [`WorkersError`] when there is no thread or no runtime for it.
    pub fn start(tell: impl Fn(Update) + Clone + Send + 'static) -> Result<Self, WorkersError> {
        let options = WorkersOptions {
            count: 1,
            rt: RtOptions {
                engine: Engine::Epoll,
                head_buffers: LOOKUPS_MAX,
                bulk_buffers: 1,
                aside_buffers: 0,
                ..RtOptions::default()
            },
            pin: Pin::Off,
            name: "hp-names",
        };
        let workers = start(&options, move |context| serve(context, tell.clone()))?;
        Ok(Self {
            workers: Some(workers),
            wants: 0,
        })
    }

    /// Says what is to be known from now on; the number of this wish, which [`Update::want`] will name.
    pub fn want(&mut self, dns: &Dns, targets: BTreeSet<Target>) -> u64 {
        self.wants += 1;
        self.send(Ask::Want(dns.clone(), targets, self.wants));
        self.wants
    }

    fn send(&self, ask: Ask) {
        let Some(workers) = &self.workers else {
            return;
        };
        match workers.mesh().send(ME, ask) {
            Ok(()) => (),
            Err(_ended) => (), // Its panic is in the log; what was known stays known.
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.send(Ask::End);
        match self.workers.take().map(Workers::join) {
            None | Some(Ok(_)) => (),
            Some(Err(_died)) => (), // Its panic is in the log.
        }
    }
}

/// Looks names up once; `None` for what could not even be begun.
///
/// # Errors
/// As [`Resolver::start`].
pub fn look_up(dns: &Dns, targets: BTreeSet<Target>) -> Result<Option<Update>, WorkersError> {
    let (sender, receiver) = mpsc::channel();
    let tell = move |update| match sender.send(update) {
        Ok(()) => (),
        Err(_gone) => (), // Whoever asked has heard enough.
    };
    let mut resolver = Resolver::start(tell)?;
    resolver.want(dns, targets);
    Ok(receiver.recv_timeout(SETTLE_MAX + SETTLE_MAX).ok())
}

/// What the thread has.
struct State {
    rt: Rt,
    mesh: Mesh<Ask>,
    book: Book,
    dns: Dns,
    resolution: Resolution,
    hosts: Hosts,
    /// When the files of this machine were read last.
    read_at: Option<Instant>,
    rng: StdRng,
    lookups: u16,
    notices: Vec<Notice>,
    /// What was told last.
    told: Answers,
    told_want: u64,
    want: u64,
    /// Since when names wait for their first answer.
    unsettled_since: Option<Instant>,
}

async fn serve(context: Context<Ask>, tell: impl Fn(Update)) {
    let Context {
        rt, mailbox, mesh, ..
    } = context;
    let dns = Dns::default();
    let mut state = State {
        book: Book::new(dns.bounds),
        resolution: Resolution::default(),
        hosts: Hosts::default(),
        read_at: None,
        rng: StdRng::seed_from_u64(rand::random()),
        lookups: 0,
        notices: Vec::new(),
        told: Answers::default(),
        told_want: 0,
        want: 0,
        unsettled_since: None,
        rt: rt.clone(),
        mesh,
        dns,
    };
    loop {
        state.begin_lookups();
        if let Some(update) = state.update() {
            tell(update);
        }
        let ask = match state.wakes_at() {
            None => mailbox.recv().await,
            Some(when) => match rt.timeout_at(when, mailbox.recv()).await {
                Ok(ask) => ask,
                Err(_due) => continue,
            },
        };
        match ask {
            Ask::Want(dns, targets, want) => state.want(dns, targets, want),
            Ask::Heard(target, news) => state.hear(&target, news),
            Ask::End => return,
        }
    }
}

impl State {
    fn want(&mut self, dns: Dns, targets: BTreeSet<Target>, want: u64) {
        let now = self.rt.now();
        if dns != self.dns {
            self.book.bound(dns.bounds);
            self.book.hurry(now);
            self.dns = dns;
            self.read_at = None;
        }
        self.want = want;
        self.unsettled_since = None; // Whoever wants it waits from now on.
        self.book.want(now, targets);
    }

    fn hear(&mut self, target: &Target, news: News) {
        self.lookups -= 1;
        let now = self.rt.now();
        let notice = self.book.hear(now, target, news, &mut self.rng);
        self.notices.extend(notice);
    }

    fn wakes_at(&self) -> Option<Instant> {
        let due = self.book.next_due().filter(|_| self.lookups < LOOKUPS_MAX);
        let patience = self.unsettled_since.map(|since| since + SETTLE_MAX);
        let patience = patience.filter(|until| self.rt.now() < *until);
        [due, patience].into_iter().flatten().min()
    }

    /// What is to be told now: all together when every name has been asked about, so that a service comes with its hosts.
    fn update(&mut self) -> Option<Update> {
        let now = self.rt.now();
        if self.book.is_settled() {
            self.unsettled_since = None;
        } else {
            let since = *self.unsettled_since.get_or_insert(now);
            if now - since < SETTLE_MAX {
                return None;
            }
        }
        let answers = self.book.answers();
        if answers == self.told && self.want == self.told_want && self.notices.is_empty() {
            return None;
        }
        self.told_want = self.want;
        self.told = answers.clone();
        Some(Update {
            answers,
            notices: mem::take(&mut self.notices),
            unsettled: self.book.unsettled().cloned().collect(),
            want: self.want,
        })
    }

    fn begin_lookups(&mut self) {
        let now = self.rt.now();
        let room = usize::from(LOOKUPS_MAX - self.lookups);
        let due = self.book.due(now, room);
        if due.is_empty() {
            return;
        }
        let is_stale = |read_at: Instant| now - read_at >= FILES_HOLD;
        if self.read_at.is_none_or(is_stale) {
            self.resolution = self.dns.resolution(&text_of(Path::new(RESOLV_CONF)));
            self.hosts = Hosts::parse(&text_of(&self.dns.hosts_file));
            self.read_at = Some(now);
        }
        for target in due {
            self.lookups += 1;
            self.begin_lookup(target);
        }
    }

    fn begin_lookup(&mut self, target: Target) {
        let local = match &target {
            Target::Host(host) => self.hosts.look_up(&host.name),
            Target::Service(_) => None,
        };
        let seed = self.rng.next_u64();
        let (rt, mesh, resolution) = (self.rt.clone(), self.mesh.clone(), self.resolution.clone());
        self.rt.spawn(async move {
            let rng = StdRng::seed_from_u64(seed);
            let news = match (local, &target) {
                (Some(addrs), _) => News::Local(addrs),
                (None, Target::Host(host)) => host_news(&rt, host, &resolution, rng).await,
                (None, Target::Service(name)) => {
                    News::Service(ask(&rt, name.clone(), Kind::Srv, &resolution, rng).await)
                }
            };
            match mesh.send(ME, Ask::Heard(target, news)) {
                Ok(()) => (),
                Err(_ended) => (), // Nobody wants to know any more.
            }
        });
    }
}

/// Both families at once, of one name after the other.
async fn host_news(rt: &Rt, host: &Host, resolution: &Resolution, mut rng: StdRng) -> News {
    let mut search = Search::new(resolution.candidates(&host.name, host.is_absolute));
    while let Some(name) = search.next_name() {
        let [one, other] = [(); 2].map(|()| StdRng::seed_from_u64(rng.next_u64()));
        let (v4, v6) = join(
            ask(rt, name.clone(), Kind::A, resolution, one),
            ask(rt, name, Kind::Aaaa, resolution, other),
        )
        .await;
        if search.ends_with(&v4, &v6) {
            return News::Host(v4, v6);
        }
    }
    News::Host(search.in_vain(), search.in_vain())
}

/// One question, to its outcome.
async fn ask(rt: &Rt, name: Name, kind: Kind, resolution: &Resolution, mut rng: StdRng) -> Outcome {
    let mut lookup = Lookup::new(name, kind, resolution);
    loop {
        let (server, transport, question) = match lookup.step(&mut rng) {
            Step::Done(outcome) => return outcome,
            Step::Ask(server, transport, question) => (server, transport, question),
        };
        let Some(server) = resolution.servers.get(server).copied() else {
            return Outcome::Failed(Failure::Unreachable);
        };
        let deadline = rt.now() + resolution.timeout;
        let heard = match transport {
            Transport::Datagram => wire::by_datagram(rt, server, &question, deadline).await,
            Transport::Stream => wire::by_stream(rt, server, &question, deadline).await,
        };
        if let Some(outcome) = lookup.hear(heard) {
            return outcome;
        }
    }
}

/// The text of a file of this machine; none where it cannot be read, as every resolver does.
fn text_of(path: &Path) -> String {
    let mut bytes = Vec::new();
    let is_file = path.metadata().is_ok_and(|found| found.is_file()); // Anything else might keep us waiting.
    let read = File::open(path).map(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    if !is_file || !matches!(read, Ok(Ok(_))) {
        return String::new();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The only worker of the thread.
const ME: WorkerId = WorkerId(0);
/// How long names may take to be asked about for the first time, before everybody goes on without them.
pub const SETTLE_MAX: Duration = Duration::from_secs(5);
/// Lookups under way at once.
const LOOKUPS_MAX: u16 = 64;
/// How long the files of this machine are believed.
const FILES_HOLD: Duration = Duration::from_secs(5);
/// Of a file of this machine.
const FILE_BYTES_MAX: u64 = 4 << 20;
const RESOLV_CONF: &str = "/etc/resolv.conf";
