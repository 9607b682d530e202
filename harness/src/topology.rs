//! The servers of a workload: every subject with the backends behind it, all started once, all ended when the topology
//! is dropped. A subject that is not there, or does not start, is missing with its reason, and stops nobody else.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hp_core::sys::socket;
use socket2::{Domain, Protocol, Socket, Type};

use crate::clock;
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::process::{Launch, Launcher, Process, Seat};
use crate::subject::{self, Catalogue, Name, Ready, Role, Subject, Values};
use crate::workload::{Load, Workload};

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
    /// The files that were made for it, as rendered: name and text.
    pub files: Vec<(String, String)>,
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
}

/// What stands behind a proxy, or is the measured server of a direct cell.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Behind {
    backend: Name,
    workers: u32,
    count: u32,
    body_bytes: u64,
    flags: Vec<String>,
}

impl Topology {
    /// Starts every server of the workload and waits until each one listens.
    ///
    /// # Errors
    /// [`Error::NotReady`] and its like of a backend, without which there is nothing to measure; [`Error::Interrupted`].
    pub fn start(workload: &Workload, starter: Starter<'_>) -> Result<Self, Error> {
        let mut topology = Self {
            servers: BTreeMap::new(),
            backends: BTreeMap::new(),
            missing: BTreeMap::new(),
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
        let behind = Behind::of(load);
        let (server_seat, others_seat) = (
            Seat::of_server(workload.seats),
            Seat::of_others(workload.seats),
        );
        for name in workload.started() {
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
                        self.backends_of(&behind, starter, others_seat)?
                    };
                    let addrs: Vec<SocketAddr> =
                        backends.iter().map(|backend| backend.addr).collect();
                    let order = Order {
                        subject,
                        name: &name,
                        backends: &addrs,
                        body_bytes: load.body_bytes,
                        flags: if subject.role == Role::Backend {
                            &load.backend_flags
                        } else {
                            &[]
                        },
                        seat: server_seat,
                        number: self.servers.len(),
                    };
                    match start(starter, &order) {
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
            for number in 0..behind.count {
                let order = Order {
                    subject,
                    name: &name,
                    backends: &[],
                    body_bytes: behind.body_bytes,
                    flags: &behind.flags,
                    seat,
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
        self.servers.get(&(name.clone(), Behind::of(load)))
    }

    /// The backends behind a load's proxies; none where no subject has one.
    pub fn backends(&self, load: &Load) -> &[Server] {
        self.backends
            .get(&Behind::of(load))
            .map_or(&[], Vec::as_slice)
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
        let behind = Behind::of(load);
        let key = (name.clone(), behind.clone());
        let server = self.servers.get_mut(&key)?;
        let is_backend = server.role == Role::Backend;
        let backends = self
            .backends
            .get_mut(&behind)
            .into_iter()
            .flatten()
            .filter(|_| !is_backend);
        for server in std::iter::once(server).chain(backends) {
            if let Some(status) = server.process.ended() {
                let stderr = server.process.stderr();
                let last = stderr
                    .lines()
                    .last()
                    .map(|line| format!(": {line}"))
                    .unwrap_or_default();
                let reason = format!("{} ended ({status}){last}", server.name);
                self.give_up(name, reason.clone());
                return Some(reason);
            }
        }
        None
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
        }
        self.servers.clear();
    }
}

impl Behind {
    fn of(load: &Load) -> Self {
        Self {
            backend: load.backend.clone(),
            workers: load.backend_workers,
            count: load.backends,
            body_bytes: load.body_bytes,
            flags: load.backend_flags.clone(),
        }
    }
}

/// One server that is to be started.
struct Order<'a> {
    subject: &'a Subject,
    name: &'a Name,
    backends: &'a [SocketAddr],
    body_bytes: u64,
    flags: &'a [String],
    seat: Seat,
    /// Keeps the folders of two servers of one name apart.
    number: usize,
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
    let folders = std::env::var_os("PATH").unwrap_or_default();
    // Servers are often outside of a user's own path.
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut paths = std::env::split_paths(&folders)
        .chain(usual)
        .map(|folder| folder.join(program));
    paths
        .find(|path| path.is_file())
        .ok_or_else(|| format!("{program} is not installed"))
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
        path: PathBuf::from(format!("{} of {name}", what)),
        cause,
    };
    let mut files = Vec::new();
    for (file, template) in &subject.files {
        let template = subject.templates.join(template);
        let text =
            fs::read_to_string(&template).map_err(|cause| failed("template", cause.to_string()))?;
        let text = subject::fill(&text, &values).map_err(|cause| failed(file, cause))?;
        let path = folder.join(file);
        fs::write(&path, &text).map_err(|cause| Error::Write { path, cause })?;
        files.push((file.clone(), text));
    }
    let mut launch = Launch {
        program: subject.program.clone(),
        path,
        dir: (!subject.own).then(|| folder.clone()),
        ..Launch::default()
    };
    for arg in &subject.args {
        launch
            .args
            .push(subject::fill(arg, &values).map_err(|cause| failed("args", cause))?);
    }
    launch.args.extend_from_slice(order.flags);
    for (key, value) in &subject.env {
        let value = subject::fill(value, &values).map_err(|cause| failed("env", cause))?;
        launch.env.insert(key.clone(), value);
    }
    let mut process = starter.launcher.start(&launch, order.seat)?;
    let deadline = clock::now() + READY_TIMEOUT;
    let addr = match subject.ready {
        Ready::Line => process.wait_listening(deadline, starter.interrupt)?,
        Ready::Port => {
            let addr = values
                .get("listen")
                .and_then(|text| text.parse().ok())
                .expect("`values` made it of an address");
            process.wait_for(
                deadline,
                starter.interrupt,
                "its port accepted no connection",
                |_stderr| accepts(addr).then_some(addr),
            )?
        }
    };
    Ok(Server {
        name: (*name).clone(),
        role: subject.role,
        process,
        addr,
        files,
    })
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
        ("workers", order.name.workers.to_string()),
        ("engine", order.subject.engine.clone()),
        ("body", order.body_bytes.to_string()),
        ("dir", folder.display().to_string()),
    ]))
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

/// Whether a connection is accepted there.
fn accepts(addr: SocketAddr) -> bool {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP));
    socket.is_ok_and(|socket| {
        socket
            .connect_timeout(&addr.into(), CONNECT_TIMEOUT)
            .is_ok()
    })
}

const READY_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);
const BACKEND_NUMBERS: usize = 10_000;
