//! Where a session ran and what it measured, as far as its page tells: read from `env.json`, which has much more.
//!
//! Every key may be absent: a page of an old session is as good as its file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::wire::Lengths;

/// What a page says of the machine, the sources and the subjects.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Setting {
    /// The second at which it began, in UTC.
    pub started: String,
    /// The command line that repeats the session.
    pub command: String,
    /// What was built.
    pub source: Source,
    /// The machine.
    pub host: Host,
    /// Where the traffic flowed.
    pub network: Network,
    /// How servers and load were kept apart.
    pub pinning: String,
    /// What two CPUs do by what one does.
    pub cpu_scaling: Option<f64>,
    /// What was measured, and what was asked for and not there, by name.
    pub subjects: BTreeMap<String, Subject>,
    /// How it went.
    pub course: Course,
}

/// What was built.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Source {
    /// Short hash of the commit, or `uncommitted`.
    pub commit: String,
    /// Whether the work tree differed from the commit.
    pub dirty: bool,
    /// Version of the compiler.
    pub rustc: Option<String>,
}

/// The machine.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Host {
    /// Its class, such as `2cpu-epyc-linux6.18`.
    pub class: String,
    /// Model of the processor.
    pub cpu_model: String,
    /// Processors, as the kernel shows them.
    pub cpus: u32,
    /// Release of the kernel.
    pub kernel: String,
    /// Memory in MiB.
    pub memory_mib: Option<u64>,
    /// Limits of the harness's process, soft and hard.
    pub limits: BTreeMap<String, String>,
}

/// Where the traffic flowed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Network {
    /// Whether it was a namespace of its own.
    pub own: bool,
    /// Why not, or what could not be set in it.
    pub reason: Option<String>,
    /// Congestion control, read back from sockets.
    pub congestion: Option<String>,
}

/// One program that was asked for.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Subject {
    /// As the program says.
    pub version: Option<String>,
    /// Why it was not measured; none when it was.
    pub missing: Option<String>,
    /// What a reader should know.
    pub note: String,
    /// How long the messages are that it makes of one request.
    pub wire: Option<Lengths>,
}

/// How a session went.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Course {
    /// Whether it came to its end.
    pub finished: bool,
    /// Parts of rounds that were repeated.
    pub repeats: u32,
}

impl Default for Course {
    /// An end that nobody doubts.
    fn default() -> Self {
        Self {
            finished: true,
            repeats: 0,
        }
    }
}

impl Setting {
    /// The commit's name: `abc1234`, or `abc1234-dirty`.
    pub fn commit_name(&self) -> String {
        let dirty = if self.source.dirty { "-dirty" } else { "" };
        format!("{}{dirty}", self.source.commit)
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
