//! Workloads: which subjects meet which loads, and what their ratios are taken against. A plan's text is resolved into
//! complete [`Workload`]s; written out again, they are the text of the same plan.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::raw::Params;
use crate::subject::Name;

/// One question: subjects under the loads of some rows, in rounds.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Workload {
    /// Its name: small letters, digits and hyphens.
    pub name: String,
    /// Its heading in the tables.
    pub title: String,
    /// How a visit is made: `load` is one run of hp-bench.
    pub kind: String,
    /// Where the servers run.
    pub seats: Seats,
    /// Visits to every cell, at least 1.
    pub rounds: u32,
    /// What ratios are taken against; one of the subjects.
    pub reference: Name,
    /// The subject that is visited a second time, as its own A/A control; one of the subjects.
    #[serde(default)]
    pub control: Option<Name>,
    /// The relay at both ends of every round; none: no calibration.
    #[serde(default)]
    pub calibrator: Option<Name>,
    /// What is measured, without the control, no duplicates.
    pub subjects: Vec<Name>,
    /// Whether a subject must answer correctly before it is measured; its backend must be hp-echo then.
    #[serde(default)]
    pub gate: bool,
    /// What a reader must know beside the table: footnotes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The loads, no duplicates of names, at least one.
    #[serde(rename = "row")]
    pub rows: Vec<Row>,
}

/// One load with its name.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Row {
    /// Its name in the workload, such as `c100`.
    pub name: String,
    /// The load.
    #[serde(flatten)]
    pub load: Load,
}

/// Where the servers of a workload run.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Seats {
    /// The measured server alone on its CPU; load and backend on the others.
    #[default]
    Split,
    /// The load alone on its CPUs; the measured server and the backend share the other: for latency, where a load that shares its CPU
    /// sends late.
    Apart,
    /// Everything on all CPUs: only CPU time per request means something.
    Shared,
}

/// Who is loaded in a visit.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Visiting {
    /// One subject.
    #[default]
    Alone,
    /// A subject and the workload's reference, which take turns: both meet the same machine.
    Turns,
}

/// A load, complete. As text every key but `connections` may be absent.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Client connections, at least 1.
    pub connections: u32,
    /// Bytes of the answer's body.
    #[serde(default = "defaults::body_bytes")]
    pub body_bytes: u64,
    /// Requests per second of all connections together; none for a closed loop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Length of the counted window in seconds; where two take turns, the part of it that each of them has.
    #[serde(default = "defaults::seconds")]
    pub seconds: f64,
    /// Load before the window, in ms. With 0 the server's CPU time is that of the whole visit, connecting included;
    /// else hp-bench reads it at the window's ends.
    #[serde(default)]
    pub warmup_ms: u32,
    /// Whether a subject is visited alone, or takes turns with the reference: closed loops of the kind `load` may.
    #[serde(default, skip_serializing_if = "Visiting::is_alone")]
    pub visit: Visiting,
    /// Length of a turn in ms, 1 to 10,000.
    #[serde(default = "defaults::turn_ms")]
    pub turn_ms: u32,
    /// Requests after which the client closes a connection; 0: no limit.
    #[serde(default)]
    pub reuse: u64,
    /// Whether each request asks the server to close.
    #[serde(default)]
    pub close: bool,
    /// Requests under way on a connection at the same time.
    #[serde(default = "defaults::one")]
    pub pipeline: u32,
    /// Bytes of the request's body; 0: GET.
    #[serde(default)]
    pub request_bytes: u64,
    /// The request's path and query.
    #[serde(default = "defaults::path")]
    pub path: String,
    /// Engine of the load generator.
    #[serde(default = "defaults::engine")]
    pub engine: String,
    /// Threads of the load generator; never more than connections.
    #[serde(default = "defaults::one")]
    pub threads: u32,
    /// Further words for hp-bench.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// What stands behind the proxies: a subject with the role `backend`.
    #[serde(default = "defaults::backend")]
    pub backend: Name,
    /// Workers of the backend.
    #[serde(default = "defaults::one")]
    pub backend_workers: u32,
    /// Further words for the backend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_flags: Vec<String>,
    /// Backends that a proxy is given, each on an address of its own; 1 to 512, and at most 64 where each is
    /// a process.
    #[serde(default = "defaults::one")]
    pub backends: u32,
    /// Processes of each subject, each on an address of its own; 1 to 8. Only the first is measured but by the kind `crowd`.
    #[serde(default = "defaults::one", skip_serializing_if = "defaults::is_one")]
    pub instances: u32,
    /// Numbers and words that only special kinds of workload read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Value>,
}

/// What stands behind a proxy, or is the measured server of a direct cell.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Behind {
    pub(crate) backend: Name,
    pub(crate) workers: u32,
    pub(crate) count: u32,
    pub(crate) body_bytes: u64,
    pub(crate) flags: Vec<String>,
    /// Of each subject before it.
    pub(crate) instances: u32,
    /// Of whom they are where they are one subject's alone.
    pub(crate) of: Option<Name>,
}

impl Workload {
    /// What is visited in each row: the subjects, then the control.
    pub fn measured(&self) -> Vec<Name> {
        let control = self.control.iter().map(Name::control);
        self.subjects.iter().cloned().chain(control).collect()
    }

    /// Who takes turns with the reference, in rows where that is so.
    pub fn beside_reference(&self) -> Vec<Name> {
        let mut names = self.measured();
        names.retain(|name| *name != self.reference);
        names
    }

    /// Whether some row's visits are in turns.
    pub fn takes_turns(&self) -> bool {
        let mut rows = self.rows.iter();
        rows.any(|row| row.load.visit == Visiting::Turns)
    }

    /// Everything that is started for it: what is measured, and the calibrator where it is not among that and is visited.
    pub fn started(&self) -> Vec<Name> {
        let mut names = self.measured();
        let mut rows = self.rows.iter();
        let is_calibrated = rows.any(|row| row.load.visit == Visiting::Alone);
        if let Some(calibrator) = &self.calibrator
            && is_calibrated
            && !names.contains(calibrator)
        {
            names.push(calibrator.clone());
        }
        names
    }

    /// Visits that one round of one row makes, calibrators included; two that take turns make one each. Rows in turns need no
    /// calibrator: the reference is in each visit.
    pub fn visits_per_row(&self, load: &Load) -> u64 {
        match load.visit {
            Visiting::Alone => {
                self.measured().len() as u64 + 2 * u64::from(self.calibrator.is_some())
            }
            Visiting::Turns => 2 * self.beside_reference().len() as u64,
        }
    }
}

impl Behind {
    /// Of a load, shared by its subjects.
    pub(crate) fn of(load: &Load) -> Self {
        Self {
            backend: load.backend.clone(),
            workers: load.backend_workers,
            count: load.backends,
            body_bytes: load.body_bytes,
            flags: load.backend_flags.clone(),
            instances: load.instances,
            of: None,
        }
    }
}

impl Visiting {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the form that serde calls"
    )]
    fn is_alone(&self) -> bool {
        *self == Self::Alone
    }
}

impl Load {
    /// Length of the counted window in seconds; two that take turns share it.
    pub fn window_seconds(&self) -> f64 {
        match self.visit {
            Visiting::Alone => self.seconds,
            Visiting::Turns => 2.0 * self.seconds,
        }
    }

    /// The numbers that a record keeps.
    pub fn params(&self, subject: &Name) -> Params {
        let mut other = self.extra.clone();
        for (key, value, is_usual) in [
            (
                "request_bytes",
                Value::from(self.request_bytes),
                self.request_bytes == 0,
            ),
            ("close", Value::from(self.close), !self.close),
            (
                "path",
                Value::from(self.path.clone()),
                self.path == defaults::path(),
            ),
            (
                "turn_ms",
                Value::from(self.turn_ms),
                self.visit == Visiting::Alone,
            ),
            ("backends", Value::from(self.backends), self.backends == 1),
            (
                "instances",
                Value::from(self.instances),
                self.instances == 1,
            ),
        ] {
            if !is_usual {
                other.insert(key.to_owned(), value);
            }
        }
        Params {
            connections: self.connections,
            body_bytes: self.body_bytes,
            rate: self.rate,
            seconds: self.seconds,
            reuse: self.reuse,
            pipeline: self.pipeline,
            workers: subject.workers,
            other,
        }
    }
}

/// What an absent key means.
mod defaults {
    use crate::subject::Name;

    pub(super) fn body_bytes() -> u64 {
        13
    }

    pub(super) fn seconds() -> f64 {
        2.0
    }

    /// Long beside the ms in which caches become one's own again, short beside the seconds in which a machine changes.
    pub(super) fn turn_ms() -> u32 {
        20
    }

    pub(super) fn one() -> u32 {
        1
    }

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the form that serde calls"
    )]
    pub(super) fn is_one(count: &u32) -> bool {
        *count == 1
    }

    pub(super) fn path() -> String {
        "/".into()
    }

    pub(super) fn engine() -> String {
        "epoll".into()
    }

    pub(super) fn backend() -> Name {
        Name {
            base: "direct".into(),
            stock: false,
            workers: 1,
            control: false,
        }
    }
}

/// Length of the load by which every server is warmed once.
pub(crate) const WARM_UP_SECONDS: f64 = 0.5;
