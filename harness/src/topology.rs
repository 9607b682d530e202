//! The servers of a session: every measured server and the backends behind the proxies, all started once, all ended
//! when the topology is dropped.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::time::Duration;

use crate::clock;
use crate::error::Error;
use crate::process::{Launcher, Pinning, Process, Seat};
use crate::sweep::{Engine, Layout, Plan, Target};

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    /// The process, ended with this value.
    pub process: Process,
    /// Where it listens.
    pub addr: SocketAddr,
}

/// All servers of a session.
#[derive(Debug)]
pub struct Topology {
    servers: BTreeMap<Target, Server>,
    /// Keyed by the seat of the backend: a pinned proxy has a pinned backend.
    backends: BTreeMap<Seat, Server>,
}

impl Topology {
    /// Starts every server of the plan and waits until each one listens.
    ///
    /// # Errors
    /// [`Error::Spawn`] or [`Error::NotReady`] of the first that fails; those before it are ended.
    pub fn start(plan: &Plan, launcher: &Launcher) -> Result<Self, Error> {
        let mut topology = Self {
            servers: BTreeMap::new(),
            backends: BTreeMap::new(),
        };
        for target in plan.targets() {
            let server = match target.layout {
                Layout::Direct => {
                    let seat = server_seat(target);
                    echo(launcher, plan, (target.workers, target.engine), seat)?
                }
                Layout::Proxied => {
                    let seat = others_seat(target);
                    let backend = match topology.backends.entry(seat) {
                        Entry::Occupied(known) => known.into_mut(),
                        Entry::Vacant(free) => {
                            free.insert(echo(launcher, plan, (1, plan.load_engine), seat)?)
                        }
                    };
                    proxy(launcher, target, backend.addr)?
                }
            };
            topology.servers.insert(target, server);
        }
        Ok(topology)
    }

    /// Fails when a server that a cell of this target needs has ended.
    ///
    /// # Errors
    /// [`Error::Died`], with what it printed.
    pub fn check_alive(&mut self, target: Target) -> Result<(), Error> {
        let backend = self.backends.get_mut(&others_seat(target));
        let backend = backend.filter(|_| target.layout == Layout::Proxied);
        for server in self.servers.get_mut(&target).into_iter().chain(backend) {
            if let Some(status) = server.process.ended() {
                return Err(Error::Died {
                    command: server.process.name().to_owned(),
                    status: status.to_string(),
                    stderr: server.process.stderr(),
                });
            }
        }
        Ok(())
    }

    /// The measured server of a target.
    pub fn server(&self, target: Target) -> &Server {
        &self.servers[&target]
    }

    /// The server behind a target's proxy.
    pub fn backend(&self, target: Target) -> Option<&Server> {
        match target.layout {
            Layout::Direct => None,
            Layout::Proxied => Some(&self.backends[&others_seat(target)]),
        }
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        // All are asked before the first is waited for: they drain side by side. Proxies come first, so that no
        // backend leaves them in the middle of an exchange.
        for server in self.servers.values_mut().chain(self.backends.values_mut()) {
            server.process.ask_to_stop();
        }
    }
}

/// Where the measured server runs: alone on its CPU when it has one worker.
pub fn server_seat(target: Target) -> Seat {
    if target.workers == 1 {
        Seat::Server
    } else {
        Seat::Free
    }
}

/// Where the load and the backend of a target run.
pub fn others_seat(target: Target) -> Seat {
    if target.workers == 1 {
        Seat::Others
    } else {
        Seat::Free
    }
}

/// How a target is pinned, in words for its row.
pub fn pinning_words(target: Target, pinning: &Pinning) -> String {
    match (pinning, server_seat(target)) {
        (Pinning::Split { server, others }, Seat::Server) => format!("CPU {server} / {others}"),
        (Pinning::Split { .. }, _) => "none".into(),
        (Pinning::Impossible(reason), _) => format!("none ({reason})"),
    }
}

fn echo(
    launcher: &Launcher,
    plan: &Plan,
    (workers, engine): (u32, Engine),
    seat: Seat,
) -> Result<Server, Error> {
    let mut args = server_args(workers, engine);
    args.extend(["--body".to_owned(), plan.body_bytes.to_string()]);
    listen(launcher.start("hp-echo", &args, seat)?)
}

fn proxy(launcher: &Launcher, target: Target, backend: SocketAddr) -> Result<Server, Error> {
    let mut args = server_args(target.workers, target.engine);
    args.extend(["--backend".to_owned(), backend.to_string()]);
    listen(launcher.start("hp-proxy", &args, server_seat(target))?)
}

fn server_args(workers: u32, engine: Engine) -> Vec<String> {
    format!("--listen 127.0.0.1:0 --workers {workers} --engine {engine}")
        .split(' ')
        .map(str::to_owned)
        .collect()
}

fn listen(mut process: Process) -> Result<Server, Error> {
    let addr = process.wait_listening(clock::now() + READY_TIMEOUT)?;
    Ok(Server { process, addr })
}

const READY_TIMEOUT: Duration = Duration::from_secs(10);
