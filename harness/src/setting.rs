//! Where a session ran, what it measured and how it went: `env.json`, as it is written and as it is read for a page.
//!
//! Every key may be absent: a page of an old session is as good as its file.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::machine::{Host, Source};
use crate::namespace::Network;
use crate::text;
use crate::wire::Lengths;

/// All that a session's figures depend on, and how it went. Written when it begins, and again when it ends.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Setting {
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
    pub subjects: BTreeMap<String, Subject>,
    /// How it went.
    pub course: Course,
}

/// What is known of a subject.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Subject {
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
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
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

impl Default for Course {
    /// An end that nobody doubts.
    fn default() -> Self {
        Self {
            finished: true,
            seconds: 0.0,
            planned_seconds: 0.0,
            visits: 0,
            void: 0,
            repeats: 0,
            drift_pct: None,
            is_drift: false,
        }
    }
}

impl Setting {
    /// Reads `env.json` of a session's folder.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(ENV_FILE);
        let text = text::read(&path)?;
        let failed = |cause: String| Error::Read {
            path: path.clone(),
            cause,
        };
        let setting: Self =
            serde_json::from_str(&text).map_err(|cause| failed(cause.to_string()))?;
        if ![ENV_SCHEMA, ""].contains(&setting.schema.as_str()) {
            return Err(failed(format!(
                "schema {:?}, not {ENV_SCHEMA}",
                setting.schema
            )));
        }
        Ok(setting)
    }

    /// The commit's name: `abc1234`, or `abc1234-dirty`.
    pub fn commit_name(&self) -> String {
        self.source.folder()
    }

    /// Machine, network and pinning, in one line.
    pub fn line(&self) -> String {
        let host = &self.host;
        let mut facts = vec![format!("{} CPU {}", host.cpus, host.cpu_model)];
        let scaling = self.cpu_scaling;
        facts.extend(
            scaling.map(|factor| format!("two of them do {factor:.2} times what one does")),
        );
        facts.extend(host.memory_mib.map(|mib| format!("{mib} MiB")));
        facts.push(format!("Linux {}", host.kernel));
        let files = host.limits.get("open files");
        facts.extend(files.map(|count| format!("open files {count}")));
        facts.extend(self.source.rustc.clone());
        let place = if self.network.own {
            "a network namespace of its own"
        } else {
            "the host's loopback"
        };
        facts.push(match &self.network.congestion {
            Some(name) => format!("{place} with {name}"),
            None => place.to_owned(),
        });
        if !self.pinning.is_empty() {
            facts.push(format!("pinning: {}", self.pinning));
        }
        facts.join("; ")
    }

    /// What a reader has to know of the session as a whole, one sentence each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.source.dirty {
            notes.push(
                "The sources differed from the commit: nobody else can build what was measured."
                    .into(),
            );
        }
        if !self.course.finished {
            notes.push("The session was ended before its end: rounds are missing.".into());
        }
        if self.course.repeats > 0 {
            notes.push(format!(
                "{} parts of rounds were repeated, by rules written before; the last attempt counts.",
                self.course.repeats
            ));
        }
        notes.extend(self.network.reason.clone());
        notes
    }
}

/// The file's name in a session's folder.
pub const ENV_FILE: &str = "env.json";
/// Names the layout of `env.json`.
pub const ENV_SCHEMA: &str = "hp-harness-env/1";
