//! One session, from its plan to a folder that is ready to commit.
//!
//! ```text
//! network ─► setting ─► for each round: start servers ─► (the first: warm up) ─► visits ─► end servers ─► what is derived
//! ```
//!
//! The rounds of all workloads are mixed, each workload's spread over the whole session, and each round has new processes: what one
//! process was lucky with, and what the machine did in some minutes, is then in some rounds and not in all, where their ratios'
//! intervals show it (docs/decisions/0030). Only workloads whose rate comes from others' records wait for these.
//!
//! ```text
//! results/DATE-HOST/HHMM-COMMIT/
//!   env.json        machine, sources, network, subjects with their versions, how the session went
//!   plan.toml       the resolved plan
//!   raw.ndjson.gz   one record per visit
//!   peers/          files that were rendered for subjects, as run
//!   log/            what subjects printed
//! ```

mod spread;

use hp_core::obs::notice::say;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::calibrate;
use crate::clock;
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::length;
use crate::machine::{self, Host, Source};
use crate::namespace::Network;
use crate::peers;
use crate::plan::Plan;
use crate::probe::{self, rate::Share};
use crate::process::{Launcher, Seat};
use crate::progress::{Kept, Progress};
use crate::raw::{RAW_FILE, Record, Writer};
use crate::round::{Allowance, Past, Rounds, Watcher};
use crate::setting::{Course, ENV_FILE, ENV_SCHEMA, Setting, Subject};
use crate::subject::{Catalogue, Name, Ready, Role};
use crate::summary::drift;
use crate::topology::{self, Server, Starter, Topology};
use crate::workload::Workload;
use spread::spread;

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

/// How a session ended.
#[derive(Debug)]
pub struct Ended {
    /// Its folder.
    pub folder: PathBuf,
    /// What was written about it.
    pub setting: Setting,
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
    setting: Setting,
    allowance: Allowance,
}

/// Runs a session to its end, or until it is interrupted; both leave a folder with what was seen.
///
/// # Errors
/// [`Error`], when nothing can be measured or written.
pub fn run(order: &Order, network: Network, interrupt: &Interrupt) -> Result<Ended, Error> {
    for workload in &order.plan.workloads {
        if probe::visit(&workload.kind).is_none() {
            return Err(Error::Plan {
                path: PathBuf::from(format!("workload {}", workload.name)),
                cause: format!(
                    "no kind is called {}; there are {}",
                    workload.kind,
                    probe::kinds()
                ),
            });
        }
    }
    let catalogue = Catalogue::read(&order.data)?;
    let launcher = Launcher::probe(&order.bin_dir, &machine::cpus_allowed())?;
    let mut session = Session::begin(order, (&launcher, &catalogue), network, interrupt)?;
    session.announce();
    let writer = Writer::create(&session.folder.join(RAW_FILE))?;
    session.write_setting()?;
    write(&session.folder.join("plan.toml"), &order.plan.to_text())?;

    let mut progress = Progress::new(order.plan.visits(), writer);
    let measured = session.measure(&mut progress);
    let kept = progress.finish()?;
    session.conclude(&kept, measured.is_ok());
    session.write_setting()?;
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
        setting: session.setting,
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
        let setting = Setting {
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
            course: Course {
                finished: false,
                ..Course::default()
            },
            ..Setting::default()
        };
        let above = order
            .out
            .join(format!("{}-{}", setting.date, setting.host_name));
        let name = format!("{}-{}", started.minute(), setting.source.folder());
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
        let mut session = Self {
            order,
            launcher,
            catalogue,
            interrupt,
            scratch,
            folder,
            began_ns: clock::monotonic_ns(),
            setting,
            allowance: Allowance {
                left_s: 0.0,
                repeats: 0,
            },
        };
        session.setting.course.planned_seconds = (planned_seconds * 10.0).round() / 10.0;
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
                        && !self.setting.subjects.contains_key(&name.key()) =>
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
        say(format_args!("{}: {}", plan.name, plan.title));
        say(format_args!(
            "{} workloads, {} visits, about {minutes:.1} minutes, and at most {} % more where rounds are repeated; seed {}",
            plan.workloads.len(),
            plan.visits(),
            plan.repeats_pct,
            plan.seed
        ));
        say(format_args!("machine: {}", self.setting.host.line()));
        say(format_args!(
            "network: {}; pinning: {}",
            self.setting.network.line(),
            self.setting.pinning
        ));
        for (name, known) in &self.setting.subjects {
            if let Some(reason) = &known.missing {
                say(format_args!("missing: {name} ({reason})"));
            }
        }
        if !self.launcher.ends_with_parent() {
            say(
                "no setpriv: servers outlive a killed harness; install util-linux, or end with Ctrl-C",
            );
        }
    }

    fn measure(&mut self, progress: &mut Progress) -> Result<(), Error> {
        let order = self.order;
        self.keep_wire(progress)?;
        let takes_rate = |workload: &&Workload| {
            let mut rows = workload.rows.iter();
            rows.any(|row| Share::of(&row.load) != Ok(None))
        };
        let (late, early): (Vec<&Workload>, Vec<&Workload>) =
            order.plan.workloads.iter().partition(takes_rate);
        self.measure_mixed(&early, progress)?;
        let late: Vec<Workload> = late
            .into_iter()
            .map(|workload| rated(workload, self.catalogue, progress))
            .collect();
        self.measure_mixed(&late.iter().collect::<Vec<_>>(), progress)
    }

    /// Makes the rounds of these workloads, mixed.
    fn measure_mixed(
        &mut self,
        workloads: &[&Workload],
        progress: &mut Progress,
    ) -> Result<(), Error> {
        let seed = self.order.plan.seed;
        let rounds: Vec<u32> = workloads.iter().map(|workload| workload.rounds).collect();
        let begun = workloads
            .iter()
            .map(|workload| (*workload, Past::new(seed)));
        let mut courses: Vec<(&Workload, Past)> = begun.collect();
        for place in spread(&rounds) {
            let course = courses.get_mut(place);
            let (workload, past) = course.expect("places are those of the workloads");
            self.round(workload, past, progress)?;
        }
        Ok(())
    }

    /// One round of a workload, with servers of its own.
    fn round(
        &mut self,
        workload: &Workload,
        past: &mut Past,
        progress: &mut Progress,
    ) -> Result<(), Error> {
        let (order, scratch) = (self.order, self.scratch.path().to_owned());
        let starter = Starter {
            launcher: self.launcher,
            catalogue: self.catalogue,
            scratch: &scratch,
            interrupt: self.interrupt,
        };
        let rounds = Rounds {
            workload,
            visit: probe::visit(&workload.kind).expect("`run` looked for it"),
            starter,
            attempts: order.plan.attempts,
            began_ns: self.began_ns,
        };
        // What earlier ones did not use stays; what this one may use is not theirs.
        let length_s = length::seconds(workload) / f64::from(workload.rounds.max(1));
        self.allowance.left_s += length_s * f64::from(order.plan.repeats_pct) / 100.0;
        let mut topology = Topology::start(workload, starter, past.given_up())?;
        let is_first = past.rounds() == 0;
        if is_first {
            self.keep_files(&topology)?;
        }
        let mut visited = || {
            if is_first && workload.kind == "load" {
                rounds.warm_up(&mut topology, &mut *progress)?;
            }
            rounds.next(past, &mut topology, &mut self.allowance, &mut *progress)
        };
        let ended = visited();
        past.note_missing(topology.missing());
        self.keep_missing(&past.given_up(), progress);
        self.keep_logs(&topology)?;
        ended
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

    fn keep_missing(&mut self, given_up: &BTreeMap<Name, String>, progress: &mut Progress) {
        for (name, reason) in given_up {
            let reason = self.without_paths(reason);
            let known = self.known(name);
            if known.missing.is_none() {
                progress.say(&format!("missing: {name} ({reason})"));
                known.missing = Some(reason);
            }
        }
    }

    /// Keeps what subjects printed, beside the line that says where they listen. What one prints in every round is
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

    fn known(&mut self, name: &Name) -> &mut Subject {
        self.setting.subjects.entry(name.key()).or_default()
    }

    fn conclude(&mut self, kept: &[Kept], finished: bool) {
        let calibrators = kept.iter().filter_map(|kept| kept.calibrator.as_ref());
        let calibrators: Vec<&Record> = calibrators.collect();
        let drift = drift::calibrator(&calibrators, self.order.plan.seed);
        let seconds = (clock::monotonic_ns() - self.began_ns) as f64 / 1e9;
        let course = &mut self.setting.course;
        course.finished = finished;
        course.seconds = (seconds * 10.0).round() / 10.0;
        course.visits = kept.len() as u64;
        course.void = kept.iter().filter(|kept| !kept.counts).count() as u64;
        course.repeats = self.allowance.repeats;
        course.drift_pct = drift.map(|drift| drift.change_pct);
        course.is_drift = drift.is_some_and(|drift| drift.drift);
    }

    fn write_setting(&self) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(&self.setting);
        let text = text.expect("a setting has only keys that are text") + "\n";
        write(&self.folder.join(ENV_FILE), &text)
    }
}

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

/// A folder that servers which give up their rights can enter.
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

const LOG_BYTES_MAX: usize = 64 << 10;
