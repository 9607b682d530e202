//! One session, from its plan to a folder that is ready to commit.
//!
//! ```text
//! network ─► environment ─► for each workload: start servers ─► warm up ─► rounds ─► end servers ─► what is derived
//! ```
//!
//! ```text
//! results/DATE-HOST/HHMM-COMMIT/
//!   env.json        machine, sources, network, subjects with their versions, how the session went
//!   plan.toml       the resolved plan
//!   raw.ndjson.gz   one record per visit
//!   peers/          files that were rendered for subjects, as run
//!   log/            what subjects printed
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::calibrate;
use crate::clock;
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::load;
use crate::machine::{self, Host, Source};
use crate::namespace::Network;
use crate::peers;
use crate::plan::Plan;
use crate::probe::rate::Share;
use crate::process::{Launcher, Seat};
use crate::progress::{Kept, Progress};
use crate::raw::{RAW_FILE, Writer};
use crate::round::{Allowance, Rounds, Watcher};
use crate::subject::{Catalogue, Name, Ready, Role};
use crate::topology::{self, Server, Starter, Topology};
use crate::wire::Lengths;
use crate::workload::Workload;

/// What a session is run with.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// What is measured.
    pub plan: Plan,
    /// The command line that repeats the session, without places.
    pub command: String,
    /// Folder of our binaries.
    pub bin_dir: PathBuf,
    /// Folder of plans and peers.
    pub data: PathBuf,
    /// Folder that gets the session's.
    pub out: PathBuf,
    /// Whether sources that differ from their commit may be measured.
    pub takes_dirty: bool,
}

/// All that a session's figures depend on, and how it went. Written when it begins, and again when it ends.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Environment {
    /// Always [`ENV_SCHEMA`].
    pub schema: String,
    /// The machine's class and hash: with the date before it, the name of the folder above the session's.
    pub host_name: String,
    /// The day, in UTC.
    pub date: String,
    /// The second at which it began, in UTC.
    pub started: String,
    /// The command line that repeats it.
    pub command: String,
    /// The plan's name.
    pub plan: String,
    /// The seed of orders and intervals.
    pub seed: u64,
    /// What was measured.
    pub source: Source,
    /// The machine.
    pub host: Host,
    /// Where the traffic flowed.
    pub network: Network,
    /// How servers and load were kept apart.
    pub pinning: String,
    /// CPUs of the measured server, where it was kept apart.
    pub server_cpus: Vec<u32>,
    /// CPUs of load and backend, where they were kept apart.
    pub others_cpus: Vec<u32>,
    /// What two CPUs do by what one does; near 2 for two cores.
    pub cpu_scaling: Option<f64>,
    /// Versions of the tools that are installed.
    pub tools: BTreeMap<String, String>,
    /// What the plan names, by subject without control and workers.
    pub subjects: BTreeMap<String, Known>,
    /// How it went.
    pub course: Course,
}

/// What is known of a subject.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Known {
    /// What it says of its version.
    pub version: Option<String>,
    /// Why it was not measured; none where it was.
    pub missing: Option<String>,
    /// The catalogue's note.
    pub note: String,
    /// SHA-256 of each rendered file.
    pub files: BTreeMap<String, String>,
    /// How long the messages are that it makes of one request; none where that is not known.
    pub wire: Option<Lengths>,
}

/// How a session went.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Course {
    /// Whether it came to its end.
    pub finished: bool,
    /// Seconds that it took, and those that were computed.
    pub seconds: f64,
    /// Seconds that the plan computed.
    pub planned_seconds: f64,
    /// Visits that are in the raw file.
    pub visits: u64,
    /// Those of them that are void.
    pub void: u64,
    /// Parts of rounds that were repeated.
    pub repeats: u32,
    /// Drift of the calibrators in percent from begin to end; none where there were too few.
    pub drift_pct: Option<f64>,
    /// Whether that is significant and above 3 %: ratios stay usable, absolute figures do not.
    pub is_drift: bool,
}

/// How a session ended.
#[derive(Debug)]
pub struct Ended {
    /// Its folder.
    pub folder: PathBuf,
    /// What was written about it.
    pub environment: Environment,
}

/// A session under way.
struct Session<'a> {
    order: &'a Order,
    launcher: &'a Launcher,
    catalogue: &'a Catalogue,
    interrupt: &'a Interrupt,
    scratch: tempfile::TempDir,
    folder: PathBuf,
    began_ns: u64,
    environment: Environment,
    allowance: Allowance,
}

/// Runs a session to its end, or until it is interrupted; both leave a folder with what was seen.
///
/// # Errors
/// [`Error`], when nothing can be measured or written.
pub fn run(order: &Order, network: Network, interrupt: &Interrupt) -> Result<Ended, Error> {
    for workload in &order.plan.workloads {
        if load::kind(&workload.kind).is_none() {
            return Err(Error::Plan {
                path: PathBuf::from(format!("workload {}", workload.name)),
                cause: format!(
                    "no kind is called {}; there are {}",
                    workload.kind,
                    load::KINDS
                ),
            });
        }
    }
    let catalogue = Catalogue::read(&order.data)?;
    let launcher = Launcher::probe(&order.bin_dir, &machine::cpus_allowed())?;
    let mut session = Session::begin(order, (&launcher, &catalogue), network, interrupt)?;
    session.announce();
    let writer = Writer::create(&session.folder.join(RAW_FILE))?;
    session.write_environment()?;
    write(&session.folder.join("plan.toml"), &order.plan.to_text())?;

    let mut progress = Progress::new(order.plan.visits(), writer);
    let measured = session.measure(&mut progress);
    let kept = progress.finish()?;
    session.conclude(&kept, measured.is_ok());
    session.write_environment()?;
    match measured {
        Ok(()) => (),
        Err(Error::Interrupted) if !kept.is_empty() => (),
        Err(error) => {
            if kept.is_empty() {
                // Nothing was seen: a folder without a figure would only look like a session.
                match fs::remove_dir_all(&session.folder) {
                    Ok(()) | Err(_) => (), // It stays behind, and its env.json says that nothing finished.
                }
            }
            return Err(error);
        }
    }
    Ok(Ended {
        folder: session.folder,
        environment: session.environment,
    })
}

impl<'a> Session<'a> {
    fn begin(
        order: &'a Order,
        (launcher, catalogue): (&'a Launcher, &'a Catalogue),
        network: Network,
        interrupt: &'a Interrupt,
    ) -> Result<Self, Error> {
        let source = Source::read(&order.bin_dir);
        if source.dirty && !order.takes_dirty {
            return Err(Error::Dirty);
        }
        let started = clock::wall();
        let host = Host::read();
        let environment = Environment {
            schema: ENV_SCHEMA.into(),
            host_name: host.folder(),
            date: started.date(),
            started: started.stamp(),
            command: order.command.clone(),
            plan: order.plan.name.clone(),
            seed: order.plan.seed,
            source,
            host,
            network,
            pinning: launcher.pinning().to_string(),
            server_cpus: launcher.cpus_of(Seat::Server),
            others_cpus: launcher.cpus_of(Seat::Others),
            cpu_scaling: calibrate::cpu_scaling(launcher, interrupt)?,
            tools: machine::tools(),
            ..Environment::default()
        };
        let above = order
            .out
            .join(format!("{}-{}", environment.date, environment.host_name));
        let name = format!("{}-{}", started.minute(), environment.source.folder());
        let folder = above.join(name);
        if folder.exists() {
            return Err(Error::Write {
                path: folder,
                cause: std::io::Error::new(
                    std::io::ErrorKind::AlreadyExists,
                    "a session of this minute is there; wait for the next",
                ),
            });
        }
        fs::create_dir_all(&folder).map_err(|cause| Error::Write {
            path: folder.clone(),
            cause,
        })?;
        let scratch = scratch().map_err(|cause| Error::Write {
            path: std::env::temp_dir(),
            cause,
        })?;
        let planned_seconds = order.plan.length_seconds();
        let left_s = planned_seconds * f64::from(order.plan.repeats_pct) / 100.0;
        let mut session = Self {
            order,
            launcher,
            catalogue,
            interrupt,
            scratch,
            folder,
            began_ns: clock::monotonic_ns(),
            environment,
            allowance: Allowance { left_s, repeats: 0 },
        };
        session.environment.course.planned_seconds = (planned_seconds * 10.0).round() / 10.0;
        session.look_for_subjects();
        Ok(session)
    }

    /// Fills in what is known of every subject before it is started.
    fn look_for_subjects(&mut self) {
        let (order, catalogue) = (self.order, self.catalogue);
        for name in order.plan.workloads.iter().flat_map(Workload::started) {
            let Some(subject) = catalogue.find(&name) else {
                let known = self.known(&name);
                known.missing = Some("no subject of this name".into());
                continue;
            };
            let (version, missing) = match topology::program_of(subject, self.launcher) {
                Ok(path)
                    if !subject.version.is_empty()
                        && !self.environment.subjects.contains_key(&name.key()) =>
                {
                    (peers::version(&path, &subject.version), None)
                }
                Ok(_) => (None, None),
                Err(reason) => (None, Some(reason)),
            };
            let note = subject.note.clone();
            let known = self.known(&name);
            known.version = known.version.take().or(version);
            known.missing = missing;
            known.note = note;
        }
    }

    fn announce(&self) {
        let plan = &self.order.plan;
        let minutes = (plan.length_seconds() / 60.0).max(0.1);
        eprintln!("{}: {}", plan.name, plan.title);
        eprintln!(
            "{} workloads, {} visits, about {minutes:.1} minutes, and at most {} % more where rounds are repeated; seed {}",
            plan.workloads.len(),
            plan.visits(),
            plan.repeats_pct,
            plan.seed
        );
        eprintln!("machine: {}", self.environment.host.line());
        eprintln!(
            "network: {}; pinning: {}",
            self.environment.network.line(),
            self.environment.pinning
        );
        for (name, known) in &self.environment.subjects {
            if let Some(reason) = &known.missing {
                eprintln!("missing: {name} ({reason})");
            }
        }
        if !self.launcher.ends_with_parent() {
            eprintln!(
                "no setpriv: servers outlive a killed harness; install util-linux, or end with Ctrl-C"
            );
        }
    }

    fn measure(&mut self, progress: &mut Progress) -> Result<(), Error> {
        let (order, scratch) = (self.order, self.scratch.path().to_owned());
        self.keep_wire(progress)?;
        for workload in &order.plan.workloads {
            let workload = &rated(workload, self.catalogue, progress);
            let starter = Starter {
                launcher: self.launcher,
                catalogue: self.catalogue,
                scratch: &scratch,
                interrupt: self.interrupt,
            };
            let mut topology = Topology::start(workload, starter)?;
            self.keep_files(&topology)?;
            let rounds = Rounds {
                workload,
                starter,
                seed: order.plan.seed,
                attempts: order.plan.attempts,
                began_ns: self.began_ns,
            };
            let visit = load::kind(&workload.kind).expect("`run` looked for it");
            let mut rounds_of = || {
                if workload.kind == "load" {
                    rounds.warm_up(&mut topology, &mut *progress)?;
                }
                rounds.run(visit, &mut topology, &mut self.allowance, &mut *progress)
            };
            let ended = rounds_of();
            self.keep_missing(&topology, progress);
            self.keep_logs(&topology)?;
            ended?;
        }
        Ok(())
    }

    /// Sends one request through each subject that stands before a backend, and keeps what it made of it.
    fn keep_wire(&mut self, progress: &mut Progress) -> Result<(), Error> {
        let names: BTreeSet<Name> = self
            .order
            .plan
            .workloads
            .iter()
            .flat_map(Workload::started)
            .filter_map(|name| name.key().parse().ok())
            .collect();
        let scratch = self.scratch.path().to_owned();
        let starter = Starter {
            launcher: self.launcher,
            catalogue: self.catalogue,
            scratch: &scratch,
            interrupt: self.interrupt,
        };
        for name in names {
            let wire = match topology::wire_of(starter, &name) {
                Ok(Some(wire)) => wire,
                Ok(None) => continue, // A backend, or missing, which is told elsewhere.
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => {
                    let text = self.without_paths(&error.to_string());
                    progress.say(&format!("{name}: its messages are not known: {text}"));
                    continue;
                }
            };
            let folder = self.folder.join("wire");
            wire.save(&folder, &file_name(&name))
                .map_err(|cause| Error::Write {
                    path: folder,
                    cause,
                })?;
            self.known(&name).wire = Some(wire.lengths());
        }
        Ok(())
    }

    /// Keeps what was rendered for subjects, with their folder's path taken out.
    fn keep_files(&mut self, topology: &Topology) -> Result<(), Error> {
        for server in topology.all() {
            for (file, text) in &server.files {
                let text = self.without_paths(text);
                let path = self
                    .folder
                    .join("peers")
                    .join(format!("{}.{file}", file_name(&server.name)));
                write(&path, &text)?;
                if let Some(hash) = machine::sha256(&text) {
                    self.known(&server.name).files.insert(file.clone(), hash);
                }
            }
        }
        Ok(())
    }

    fn keep_missing(&mut self, topology: &Topology, progress: &mut Progress) {
        for (name, reason) in topology.missing() {
            let reason = self.without_paths(reason);
            let known = self.known(name);
            if known.missing.is_none() {
                progress.say(&format!("missing: {name} ({reason})"));
                known.missing = Some(reason);
            }
        }
    }

    /// Keeps what subjects printed, beside the line that says where they listen. What one prints in every workload is
    /// kept once.
    fn keep_logs(&self, topology: &Topology) -> Result<(), Error> {
        for server in topology.all() {
            let path = self
                .folder
                .join("log")
                .join(format!("{}.txt", file_name(&server.name)));
            let known = fs::read_to_string(&path).unwrap_or_default();
            let printed = self.printed(server);
            if !known.contains(&printed) && known.len() + printed.len() <= LOG_BYTES_MAX {
                write(&path, &(known + &printed))?;
            }
        }
        Ok(())
    }

    fn printed(&self, server: &Server) -> String {
        let is_ours = self
            .catalogue
            .find(&server.name)
            .is_some_and(|subject| subject.ready == Ready::Line);
        let text = self.without_paths(&server.process.stderr());
        let lines = text
            .lines()
            .filter(|line| !is_ours || !line.contains("listening on "));
        let mut kept = String::new();
        for line in lines {
            if kept.len() + line.len() >= LOG_BYTES_MAX {
                break;
            }
            kept += line;
            kept.push('\n');
        }
        kept
    }

    /// A text in which no folder of this machine is named.
    fn without_paths(&self, text: &str) -> String {
        let mut text = text.replace(&self.scratch.path().display().to_string(), "DIR");
        for (path, name) in [(&self.order.bin_dir, "BIN"), (&self.order.data, "DATA")] {
            if path.is_absolute() {
                text = text.replace(&path.display().to_string(), name);
            }
        }
        text
    }

    fn known(&mut self, name: &Name) -> &mut Known {
        self.environment.subjects.entry(name.key()).or_default()
    }

    fn conclude(&mut self, kept: &[Kept], finished: bool) {
        let calibrators: Vec<_> = kept
            .iter()
            .filter_map(|kept| kept.calibrator.clone())
            .collect();
        let drift = calibrate::drift(&calibrators);
        let seconds = (clock::monotonic_ns() - self.began_ns) as f64 / 1e9;
        let course = &mut self.environment.course;
        course.finished = finished;
        course.seconds = (seconds * 10.0).round() / 10.0;
        course.visits = kept.len() as u64;
        course.void = kept.iter().filter(|kept| !kept.counts).count() as u64;
        course.repeats = self.allowance.repeats;
        course.drift_pct = drift.map(|drift| drift.change_pct);
        course.is_drift = drift.is_some_and(|drift| drift.is_drift);
    }

    fn write_environment(&self) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(&self.environment);
        let text = text.expect("an environment has only keys that are text") + "\n";
        write(&self.folder.join(ENV_FILE), &text)
    }
}

impl Environment {
    /// Reads `env.json` of a session's folder.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(ENV_FILE);
        let failed = |cause: String| Error::Read {
            path: path.clone(),
            cause,
        };
        let text = fs::read_to_string(&path).map_err(|cause| failed(cause.to_string()))?;
        let environment: Self =
            serde_json::from_str(&text).map_err(|cause| failed(cause.to_string()))?;
        if environment.schema != ENV_SCHEMA {
            return Err(failed(format!(
                "schema {:?}, not {ENV_SCHEMA}",
                environment.schema
            )));
        }
        Ok(environment)
    }
}

/// A folder that servers which give up their rights can enter.
/// The workload with the rates that this session's own records give; a row without one is left out, and said.
fn rated(workload: &Workload, catalogue: &Catalogue, progress: &mut Progress) -> Workload {
    let is_proxy = |subject: &str| {
        let name: Option<Name> = subject.parse().ok();
        let found = name.and_then(|name| catalogue.find(&name));
        found.is_some_and(|subject| subject.role == Role::Proxy)
    };
    let mut rated = workload.clone();
    rated.rows.retain_mut(|row| {
        let rate = match Share::of(&row.load) {
            Ok(None) => return true,
            Ok(Some(share)) => share.rate(progress.records(), &is_proxy),
            Err(cause) => Err(cause),
        };
        match rate {
            Ok(rate) => row.load.rate = Some(rate),
            Err(cause) => {
                progress.say(&format!(
                    "{} {} is left out: {cause}",
                    workload.name, row.name
                ));
                return false;
            }
        }
        true
    });
    rated
}

fn scratch() -> std::io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder
        .prefix("harness-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
}

/// A subject's name as a part of a file's.
fn file_name(name: &Name) -> String {
    name.to_string().replace(['/', '@'], "-")
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    let write = || {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, text)
    };
    write().map_err(|cause| Error::Write {
        path: path.to_owned(),
        cause,
    })
}

/// The file's name in a session's folder.
pub const ENV_FILE: &str = "env.json";
/// Names the layout of `env.json`.
pub const ENV_SCHEMA: &str = "hp-harness-env/1";
const LOG_BYTES_MAX: usize = 64 << 10;
