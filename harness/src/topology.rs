//! The servers of a round: every subject with the backends behind it, all started before the first visit, all ended when the
//! topology is dropped. A subject that is not there, or does not start, is missing with its reason, and stops nobody else.

mod ready;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use hp_core::sys::{limits, socket};

use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::peers;
use crate::process::{Launch, Launcher, Process, Seat};
use crate::subject::{self, Catalogue, Name, Ready, Role, Subject, Values};
use crate::wire::{Recorder, Wire};
use crate::workload::{Behind, Load, Workload};
use ready::{READY_TIMEOUT, wait_ready};

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    /// What it is.
    pub name: Name,
    /// Its role.
    pub role: Role,
    /// The process, ended with this value.
    pub process: Process,
    /// Where it listens.
    pub addr: SocketAddr,
    /// All addresses on which it does, at least that one.
    pub addrs: Vec<SocketAddr>,
    /// The Unix socket on which it listens as well, where its arguments say so.
    pub socket: PathBuf,
    /// The files that were made for it, as rendered: name and text.
    pub files: Vec<(String, String)>,
    /// Those of them that a reload changes: path, and the texts that take turns.
    pub turning: Vec<(PathBuf, [String; 2])>,
    /// The signal on which it reads its configuration anew; none where that is not known.
    pub reload: Option<String>,
    /// Where a row asks for several instances, all but this one.
    pub more: Vec<Self>,
}

/// What starts servers, the same for all of a session.
#[derive(Clone, Copy, Debug)]
pub struct Starter<'a> {
    /// Starts processes.
    pub launcher: &'a Launcher,
    /// What can be started.
    pub catalogue: &'a Catalogue,
    /// Where each subject gets a folder of its own.
    pub scratch: &'a Path,
    /// Ends waits early.
    pub interrupt: &'a Interrupt,
}

/// All servers of a workload.
#[derive(Debug)]
pub struct Topology {
    servers: BTreeMap<(Name, Behind), Server>,
    backends: BTreeMap<Behind, Vec<Server>>,
    missing: BTreeMap<Name, String>,
    /// The reference that takes turns with the others, before backends of its own: what each side costs stays apart.
    apart: Option<Name>,
}

impl Topology {
    /// Starts every server of the workload but those that are given up, and waits until each one listens.
    ///
    /// # Errors
    /// [`Error::NotReady`] and its like of a backend, without which there is nothing to measure; [`Error::Interrupted`].
    pub fn start(
        workload: &Workload,
        starter: Starter<'_>,
        given_up: BTreeMap<Name, String>,
    ) -> Result<Self, Error> {
        let mut topology = Self {
            servers: BTreeMap::new(),
            backends: BTreeMap::new(),
            missing: given_up,
            apart: workload.takes_turns().then(|| workload.reference.clone()),
        };
        for row in &workload.rows {
            topology.start_row(workload, &row.load, starter)?;
        }
        Ok(topology)
    }

    fn start_row(
        &mut self,
        workload: &Workload,
        load: &Load,
        starter: Starter<'_>,
    ) -> Result<(), Error> {
        let (server_seat, backend_seat) = (
            Seat::of_server(workload.seats),
            Seat::of_backend(workload.seats),
        );
        for name in workload.started() {
            let behind = self.behind(&name, load);
            let key = (name.clone(), behind.clone());
            if self.servers.contains_key(&key) || self.missing.contains_key(&name) {
                continue;
            }
            let started = match find(starter, &name) {
                Err(reason) => Err(reason),
                Ok(subject) => {
                    let backends = if subject.role == Role::Backend {
                        &[]
                    } else {
                        self.backends_of(&behind, starter, backend_seat)?
                    };
                    let addrs: Vec<SocketAddr> = backends
                        .iter()
                        .flat_map(|backend| backend.addrs.clone())
                        .collect();
                    let socket = backends.first().map(|backend| backend.socket.clone());
                    let order = |number| Order {
                        subject,
                        name: &name,
                        backends: &addrs,
                        backend_socket: socket.as_deref(),
                        body_bytes: load.body_bytes,
                        flags: if subject.role == Role::Backend {
                            &load.backend_flags
                        } else {
                            &[]
                        },
                        seat: server_seat,
                        listeners: 1,
                        number,
                    };
                    let first = self.servers.len();
                    let numbers = (1..behind.instances as usize)
                        .map(|instance| INSTANCE_NUMBERS + first * 8 + instance);
                    let started = start(starter, &order(first)).and_then(|mut server| {
                        for number in numbers {
                            server.more.push(start(starter, &order(number))?);
                        }
                        Ok(server)
                    });
                    match started {
                        Err(Error::Interrupted) => return Err(Error::Interrupted),
                        other => other.map_err(|error| error.to_string().replace("\n  | ", "; ")),
                    }
                }
            };
            match started {
                Ok(server) => drop(self.servers.insert(key, server)),
                Err(reason) => drop(self.missing.insert(name, reason)),
            }
        }
        Ok(())
    }

    /// Starts the backends of a row, unless an earlier row has the same.
    fn backends_of(
        &mut self,
        behind: &Behind,
        starter: Starter<'_>,
        seat: Seat,
    ) -> Result<&[Server], Error> {
        if !self.backends.contains_key(behind) {
            let subject = find(starter, &behind.backend).map_err(|reason| Error::Plan {
                path: PathBuf::from("backend"),
                cause: reason,
            })?;
            let name = Name {
                workers: behind.workers,
                ..behind.backend.clone()
            };
            let mut servers = Vec::new();
            let (processes, listeners) = if subject.listeners {
                (1, behind.count)
            } else {
                (behind.count, 1)
            };
            if processes > PROCESSES_MAX {
                return Err(Error::Plan {
                    path: PathBuf::from("backends"),
                    cause: format!(
                        "{processes} processes of {name}; write at most {PROCESSES_MAX}, or a backend that listens on many addresses"
                    ),
                });
            }
            for number in 0..processes {
                let order = Order {
                    subject,
                    name: &name,
                    backends: &[],
                    backend_socket: None,
                    body_bytes: behind.body_bytes,
                    flags: &behind.flags,
                    seat,
                    listeners,
                    number: BACKEND_NUMBERS + self.backends.len() * 64 + number as usize,
                };
                servers.push(start(starter, &order)?);
            }
            self.backends.insert(behind.clone(), servers);
        }
        Ok(self.backends.get(behind).map_or(&[], Vec::as_slice))
    }

    /// The server of a subject under a load; none when it is missing, or was given up.
    pub fn server(&self, name: &Name, load: &Load) -> Option<&Server> {
        self.servers.get(&(name.clone(), self.behind(name, load)))
    }

    /// The backends behind a subject under a load; none where no subject has one.
    pub fn backends(&self, name: &Name, load: &Load) -> &[Server] {
        self.backends
            .get(&self.behind(name, load))
            .map_or(&[], Vec::as_slice)
    }

    /// What stands behind a subject under a load.
    fn behind(&self, name: &Name, load: &Load) -> Behind {
        Behind {
            of: self.apart.clone().filter(|apart| apart == name),
            ..Behind::of(load)
        }
    }

    /// Why a subject is not measured, by name.
    pub fn missing(&self) -> &BTreeMap<Name, String> {
        &self.missing
    }

    /// All servers, the backends last.
    pub fn all(&self) -> impl Iterator<Item = &Server> {
        self.servers
            .values()
            .chain(self.backends.values().flatten())
    }

    /// How a server ended that should run: the subject's, or one of its backends. It is not measured again.
    pub fn ended(&mut self, name: &Name, load: &Load) -> Option<String> {
        let behind = self.behind(name, load);
        let key = (name.clone(), behind.clone());
        let server = self.servers.get_mut(&key)?;
        let is_backend = server.role == Role::Backend;
        let backends = self
            .backends
            .get_mut(&behind)
            .into_iter()
            .flatten()
            .filter(|_| !is_backend);
        let reason = std::iter::once(server)
            .chain(backends)
            .find_map(Server::ended)?;
        self.give_up(name, reason.clone());
        Some(reason)
    }

    /// Ends a subject's servers; from now on it is missing.
    pub fn give_up(&mut self, name: &Name, reason: String) {
        self.servers
            .retain(|(known, _behind), _server| known != name);
        self.missing.insert(name.clone(), reason);
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        // All are asked before the first is waited for: they drain side by side. Proxies come first, so that no
        // backend leaves them in the middle of an exchange.
        for server in self
            .servers
            .values_mut()
            .chain(self.backends.values_mut().flatten())
        {
            server.process.ask_to_stop();
            for instance in &mut server.more {
                instance.process.ask_to_stop();
            }
        }
        self.servers.clear();
    }
}

impl Server {
    /// Writes its files anew, as they are after so many reloads, and tells it to read them; false where it cannot be told.
    ///
    /// # Errors
    /// What the system answers to writing.
    pub fn reload(&self, reloads: usize) -> std::io::Result<bool> {
        let Some(signal) = &self.reload else {
            return Ok(false);
        };
        for (path, [even, odd]) in &self.turning {
            fs::write(path, if reloads.is_multiple_of(2) { even } else { odd })?;
        }
        self.process.signal(signal);
        Ok(true)
    }

    /// How it ended, or another instance of it, which should run.
    fn ended(&mut self) -> Option<String> {
        let Some(status) = self.process.ended() else {
            return self.more.iter_mut().find_map(Self::ended);
        };
        let last = self.process.last_words();
        Some(format!("{} ended ({status}){last}", self.name))
    }
}

/// One server that is to be started.
struct Order<'a> {
    subject: &'a Subject,
    name: &'a Name,
    backends: &'a [SocketAddr],
    /// The Unix socket of the first of them.
    backend_socket: Option<&'a Path>,
    body_bytes: u64,
    flags: &'a [String],
    seat: Seat,
    /// Addresses on which it listens.
    listeners: u32,
    /// Keeps the folders of two servers of one name apart.
    number: usize,
}

impl<'a> Order<'a> {
    /// The backends that the subject gets.
    fn backends(&self) -> &'a [SocketAddr] {
        let most = self.subject.backends_max;
        let most = most.and_then(|most| usize::try_from(most).ok());
        let count = most.unwrap_or(usize::MAX).min(self.backends.len());
        self.backends.get(..count).unwrap_or_default()
    }
}

/// The catalogue's entry, where its program is there.
fn find<'a>(starter: Starter<'a>, name: &Name) -> Result<&'a Subject, String> {
    let subject = starter.catalogue.find(name).ok_or_else(|| {
        format!(
            "no subject of this name; there are {}",
            starter.catalogue.names()
        )
    })?;
    program_of(subject, starter.launcher).map(|_path| subject)
}

/// Where a subject's program is.
///
/// # Errors
/// That it is not there, in words for a table.
pub fn program_of(subject: &Subject, launcher: &Launcher) -> Result<PathBuf, String> {
    let program = &subject.program;
    if subject.own {
        let path = launcher.own(program);
        return path
            .is_file()
            .then_some(path)
            .ok_or_else(|| format!("{program} is not built"));
    }
    let path = std::env::var_os("PATH");
    let folders = peers::folders(path.as_deref(), &launcher.own(""));
    peers::find(program, &folders).ok_or_else(|| match subject.install.as_str() {
        "" => format!("{program} is not installed"),
        install => format!("{program} is not installed; {install}"),
    })
}

fn start(starter: Starter<'_>, order: &Order<'_>) -> Result<Server, Error> {
    let Order { subject, name, .. } = order;
    let path = program_of(subject, starter.launcher).map_err(|cause| Error::Plan {
        path: PathBuf::from(&subject.program),
        cause,
    })?;
    let folder_name = format!(
        "{}-{}",
        order.number,
        name.to_string().replace(['/', '@'], "-")
    );
    let folder = starter.scratch.join(folder_name);
    fs::create_dir_all(&folder).map_err(|cause| Error::Write {
        path: folder.clone(),
        cause,
    })?;
    let values = values(order, &folder)?;
    let failed = |what: &str, cause: String| Error::Plan {
        path: PathBuf::from(format!("{what} of {name}")),
        cause,
    };
    let (files, turning) = made_files(order, &values, &folder)?;
    let mut launch = Launch {
        program: subject.program.clone(),
        path,
        args: arguments(order, &values).map_err(|cause| failed("args", cause))?,
        dir: (!subject.own).then(|| folder.clone()),
        ..Launch::default()
    };
    for (key, value) in &subject.env {
        let value = subject::fill(value, &values).map_err(|cause| failed("env", cause))?;
        launch.env.insert(key.clone(), value);
    }
    let mut process = starter.launcher.start(&launch, order.seat)?;
    let addrs = wait_ready(&mut process, order, &values, starter.interrupt)?;
    Ok(Server {
        name: (*name).clone(),
        role: subject.role,
        process,
        addr: *addrs.first().expect("a server listens somewhere"),
        addrs,
        socket: socket_in(&folder),
        files,
        turning,
        reload: subject.reload.clone(),
        more: Vec::new(),
    })
}

/// Files as rendered, and those that turn.
type Made = (Vec<(String, String)>, Vec<(PathBuf, [String; 2])>);

/// Makes a subject's files in its folder; their names and texts. A text that names `{turn}` is another one after each reload.
fn made_files(order: &Order<'_>, values: &Values, folder: &Path) -> Result<Made, Error> {
    let (mut files, mut turning) = (Vec::new(), Vec::new());
    let turned = Values::from_iter(values.clone().into_iter().chain([("turn", "1".to_owned())]));
    for (file, template) in &order.subject.files {
        let failed = |cause: String| Error::Plan {
            path: PathBuf::from(format!("{file} of {}", order.name)),
            cause,
        };
        let template = order.subject.templates.join(template);
        let text = fs::read_to_string(&template).map_err(|cause| failed(cause.to_string()))?;
        let render = |values: &Values| {
            peers::render(&text, values, order.backends())
                .map_err(|cause| failed(cause.to_string()))
        };
        let (text, other) = (render(values)?, render(&turned)?);
        let path = folder.join(file);
        fs::write(&path, &text).map_err(|cause| Error::Write {
            path: path.clone(),
            cause,
        })?;
        if text != other {
            turning.push((path, [text.clone(), other]));
        }
        files.push((file.clone(), text));
    }
    Ok((files, turning))
}

/// The words of a subject's command line; those that name a backend or a listener are repeated for each.
fn arguments(order: &Order<'_>, values: &Values) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    for arg in &order.subject.args {
        if arg.contains(LISTENER_WORD) {
            let listeners = (0..order.listeners).map(listener);
            words.extend(listeners.map(|addr| arg.replace(LISTENER_WORD, &addr.to_string())));
        } else {
            words.extend(peers::words(arg, values, order.backends())?);
        }
    }
    words.extend_from_slice(order.flags);
    Ok(words)
}

/// What a subject makes of one request: it is started alone, before a backend that keeps what comes. None for a backend, and for a
/// subject that is missing.
///
/// # Errors
/// [`Error::NotReady`] and its like, [`Error::Wire`], [`Error::Interrupted`].
pub fn wire_of(starter: Starter<'_>, name: &Name) -> Result<Option<Wire>, Error> {
    let Ok(subject) = find(starter, name) else {
        return Ok(None);
    };
    if subject.role == Role::Backend {
        return Ok(None);
    }
    let socket = starter.scratch.join(WIRE_SOCKET);
    let recorder = Recorder::bind(&socket).map_err(Error::Wire)?;
    let order = Order {
        subject,
        name,
        backends: &[recorder.addr()],
        backend_socket: Some(&socket),
        body_bytes: 0,
        flags: &[],
        seat: Seat::Free,
        listeners: 1,
        number: WIRE_NUMBER,
    };
    let server = start(starter, &order)?;
    let wire = recorder.exchange(server.addr, READY_TIMEOUT);
    wire.map(Some).map_err(Error::Wire)
}

/// The address of a backend among many, with a port that the kernel chooses: 127.0.1.1 and on, 250 in each third byte.
fn listener(index: u32) -> SocketAddr {
    let byte = |value: u32| u8::try_from(value).unwrap_or(u8::MAX);
    SocketAddr::from(([127, 0, byte(1 + index / 250), byte(1 + index % 250)], 0))
}

/// What this server's templates are filled with.
fn values(order: &Order<'_>, folder: &Path) -> Result<Values, Error> {
    let listen = match order.subject.ready {
        Ready::Line => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        Ready::Port => free_addr()?,
    };
    let first = order.backends.first();
    let backends: Vec<String> = order.backends.iter().map(ToString::to_string).collect();
    Ok(Values::from([
        ("listen", listen.to_string()),
        ("host", listen.ip().to_string()),
        ("port", listen.port().to_string()),
        (
            "backend",
            first.map(ToString::to_string).unwrap_or_default(),
        ),
        (
            "backend_host",
            first.map(|addr| addr.ip().to_string()).unwrap_or_default(),
        ),
        (
            "backend_port",
            first
                .map(|addr| addr.port().to_string())
                .unwrap_or_default(),
        ),
        ("backends", backends.join(",")),
        (
            "backend_socket",
            order.backend_socket.map(as_text).unwrap_or_default(),
        ),
        ("workers", order.name.workers.to_string()),
        ("connections_max", connections_max().to_string()),
        ("engine", order.subject.engine.clone()),
        ("body", order.body_bytes.to_string()),
        ("dir", as_text(folder)),
        ("socket", as_text(&socket_in(folder))),
        ("turn", "0".to_owned()),
    ]))
}

/// The name of a Unix socket in a server's folder.
fn socket_in(folder: &Path) -> PathBuf {
    folder.join("socket")
}

fn as_text(path: &Path) -> String {
    path.display().to_string()
}

/// For how many connections a peer may ask whose every connection is two descriptors, its client's and its backend's: more than any
/// plan has, and no more than the hard limit allows, above which a peer may refuse to start.
fn connections_max() -> u64 {
    let descriptors = limits::open_files_max().unwrap_or(DESCRIPTORS_USUAL);
    (descriptors / 2).min(CONNECTIONS_ENOUGH)
}

/// An address with a port that nobody had a moment ago.
fn free_addr() -> Result<SocketAddr, Error> {
    let spawn = |cause| Error::Spawn {
        command: "a look for a free port".into(),
        cause,
    };
    let listener = socket::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 1).map_err(spawn)?;
    let fd = socket::into_raw(listener);
    let addr = socket::local_addr(fd).map_err(spawn);
    socket::close(fd);
    addr
}

/// More connections than any plan has.
const CONNECTIONS_ENOUGH: u64 = 30_000;
/// The soft limit that a login gets, where the kernel would not say.
const DESCRIPTORS_USUAL: u64 = 1024;
const BACKEND_NUMBERS: usize = 10_000;
const INSTANCE_NUMBERS: usize = 20_000;
const PROCESSES_MAX: u32 = 64;
const LISTENER_WORD: &str = "{listener}";
const WIRE_SOCKET: &str = "wire.socket";
const WIRE_NUMBER: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_listeners_have_addresses_of_their_own() {
        let addrs: std::collections::BTreeSet<_> = (0..512).map(listener).collect();
        assert_eq!(addrs.len(), 512);
        assert_eq!(listener(0).to_string(), "127.0.1.1:0");
        assert_eq!(listener(511).to_string(), "127.0.3.12:0");
    }

    /// With 30,000 written down, Sozu ended at once wherever the hard limit was 20,000.
    #[test]
    fn a_peer_is_not_told_to_hold_more_connections_than_the_limit_of_descriptors_allows() {
        let descriptors = limits::open_files_max().unwrap();
        assert!(connections_max() > 0);
        assert!(connections_max() * 2 <= descriptors);
    }
}
