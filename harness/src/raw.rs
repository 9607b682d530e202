//! The raw record of a session: one [`Record`] for each visit, as lines of JSON in `raw.ndjson.gz`. All that is
//! derived later is derived from these lines and the plan alone.
//!
//! Must not know: how a visit is made, or what its numbers mean.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use flate2::{Compression, GzBuilder};
use hp_bench::result::Document;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;

/// One visit to one cell: a subject under a row's load, in one round and one attempt at that round.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Record {
    /// The workload's name in the plan, such as `small`; empty for a calibrator.
    pub workload: String,
    /// The row's name in its workload, such as `c100`.
    pub row: String,
    /// The load in numbers.
    pub params: Params,
    /// What was measured: `hp-uring`, `nginx@stock`, `hp-uring/aa`, [`CALIBRATOR`].
    pub subject: String,
    /// Whether this is the A/A control: a second process of the subject whose name it has before `/aa`.
    pub control: bool,
    /// With whom it took turns; none where it was visited alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<Pair>,
    /// The round, from 1; 0 for what precedes the rounds.
    pub round: u32,
    /// The place in the round's order, from 1; the calibrators have 0 and the last place plus 1.
    pub place: u32,
    /// The attempt at this round, from 1. The last attempt of a round is the one that counts.
    pub attempt: u32,
    /// When the visit began, in ms since the session did.
    pub started_ms: u64,
    /// Why the figures may not be used; empty when they may.
    #[serde(default)]
    pub void: Vec<String>,
    /// What a reader has to know beside the figures; each begins with its rule in capitals, such as `STEAL 3.1 %`.
    #[serde(default)]
    pub flags: Vec<String>,
    /// Which side was the limit; none where nothing tells.
    pub verdict: Option<Limit>,
    /// The process tree of the measured server.
    #[serde(default)]
    pub server: Usage,
    /// The backend behind it; without figures where the measured server is the backend itself.
    #[serde(default)]
    pub backend: Usage,
    /// The load generator.
    #[serde(default)]
    pub client: Usage,
    /// The machine around them.
    #[serde(default)]
    pub machine: MachineUsage,
    /// The load generator's own document without its series; none where it gave none, or another tool made the load.
    #[serde(default)]
    pub load: Option<Document>,
    /// What each second of a load at a rate brought; empty in records that are older than this key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seconds: Vec<Latencies>,
    /// Numbers of special workloads, by name.
    #[serde(default)]
    pub extra: BTreeMap<String, Value>,
}

/// The other one of a visit in turns, whose record has the same round, place and attempt.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Pair {
    /// The other's `subject`.
    pub beside: String,
    /// Whether this is the reference's record: a round has one for each subject.
    pub of_reference: bool,
    /// Which turn this one had: 1 or 2.
    pub turn: u32,
}

/// The answers of one second by their headline latency.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Latencies {
    /// When it ended, in whole seconds as the load generator counted them.
    pub second: u64,
    /// The bin's number and how many answers fell into it, in rising order, none of them 0. Bin n begins at 10^(n/8) ns.
    pub bins: Vec<(u16, u64)>,
}

/// The load of a row in numbers. What is null or absent does not apply.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Params {
    /// Client connections.
    pub connections: u32,
    /// Bytes of the answer's body.
    pub body_bytes: u64,
    /// Requests per second, all connections together; null for a closed loop.
    pub rate: Option<f64>,
    /// Seconds of the counted window.
    pub seconds: f64,
    /// Requests after which the client closes a connection; 0: no limit.
    pub reuse: u64,
    /// Requests under way on a connection at the same time.
    pub pipeline: u32,
    /// Workers of the measured server.
    pub workers: u32,
    /// Numbers that only special workloads have.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// The side that was the limit of a visit.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// The measured server used all of its CPUs.
    Proxy,
    /// The load generator, or its CPU together with the backend, which took less.
    Client,
    /// The backend, or its CPU together with the load generator, which took less.
    Backend,
    /// No CPU was full: more connections would bring more.
    Latency,
    /// Nothing may be said.
    Void,
}

/// What a process tree used between the two looks at it. Null where it could not be read.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Usage {
    /// Time on a CPU in ns, as the scheduler counts it.
    pub cpu_ns: Option<u64>,
    /// The part of it in user mode; sampled by ticks, then scaled to the sum.
    pub user_ns: Option<u64>,
    /// The part of it in the kernel, likewise.
    pub sys_ns: Option<u64>,
    /// Context switches because a thread waited.
    pub switches_voluntary: Option<u64>,
    /// Context switches because another thread was to run.
    pub switches_involuntary: Option<u64>,
    /// Page faults without input or output.
    pub minor_faults: Option<u64>,
    /// Memory at the end, shared pages divided by their users, in KiB.
    pub pss_kib: Option<u64>,
    /// Memory at the end that is the tree's own and was written, in KiB.
    pub private_dirty_kib: Option<u64>,
    /// Processes of the tree at the end.
    pub processes: Option<u32>,
}

/// What the whole machine did between the two looks.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct MachineUsage {
    /// Time between the looks in ns; the shares below are of it.
    pub elapsed_ns: u64,
    /// CPU time that the hypervisor gave to others, percent of all CPUs.
    pub steal_pct: Option<f64>,
    /// Time in soft interrupts, percent, by CPU.
    pub softirq_pct: Vec<f64>,
    /// Time that was neither idle nor stolen, percent, by CPU.
    pub busy_pct: Vec<f64>,
    /// CPU time in ns of processes that are not of the session.
    pub foreign_cpu_ns: Option<u64>,
}

impl Record {
    /// Whether the figures may be used: nothing voids them.
    pub fn counts(&self) -> bool {
        self.void.is_empty()
    }

    /// Complete answers in the counted window; none where there was no document.
    pub fn responses(&self) -> Option<u64> {
        Some(self.load.as_ref()?.run.responses)
    }

    /// CPU time of the measured server per complete answer, in ns; none when void, or where either is missing or 0.
    pub fn server_cpu_ns_per_request(&self) -> Option<f64> {
        let responses = self
            .responses()
            .filter(|&count| count > 0 && self.counts())?;
        let cpu_ns = self.server.cpu_ns.filter(|&cpu_ns| cpu_ns > 0)?;
        Some(cpu_ns as f64 / responses as f64)
    }

    /// Whether it tells what the machine did during the session, rather than of a subject alone: a calibrator, or the reference
    /// in turns.
    pub fn calibrates(&self) -> bool {
        self.is_calibrator() || self.pair.as_ref().is_some_and(|pair| pair.of_reference)
    }

    /// Whether both are records of one visit in turns.
    pub fn is_paired_with(&self, other: &Self) -> bool {
        let beside = |one: &Self, other: &Self| {
            let pair = one.pair.as_ref();
            pair.is_some_and(|pair| pair.beside == other.subject)
        };
        let key = |record: &Self| (record.round, record.attempt);
        beside(self, other) && beside(other, self) && key(self) == key(other)
    }

    /// Whether this is one of the two visits to the relay around a round.
    pub fn is_calibrator(&self) -> bool {
        self.subject == CALIBRATOR
    }
}

/// Writes records as they come. What was written before the session ended early can be read, once this is dropped.
pub struct Writer {
    path: PathBuf,
    out: flate2::write::GzEncoder<File>,
}

impl Writer {
    /// Makes the file, or empties it.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn create(path: &Path) -> Result<Self, Error> {
        let file = File::create(path).map_err(|cause| Error::Write {
            path: path.to_owned(),
            cause,
        })?;
        // The header has no name and no time, so that equal records give equal files.
        let out = GzBuilder::new().write(file, Compression::best());
        Ok(Self {
            path: path.to_owned(),
            out,
        })
    }

    /// Appends one line.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write(&mut self, record: &Record) -> Result<(), Error> {
        let mut line = serde_json::to_vec(record).expect("a record has only keys that are text");
        line.push(b'\n');
        let written = self.out.write_all(&line);
        written.map_err(|cause| self.failed(cause))
    }

    /// Writes the end of the file.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn finish(mut self) -> Result<(), Error> {
        let finished = self.out.try_finish();
        finished.map_err(|cause| self.failed(cause))
    }

    fn failed(&self, cause: io::Error) -> Error {
        Error::Write {
            path: self.path.clone(),
            cause,
        }
    }
}

/// Reads all records of a file, in their order.
///
/// # Errors
/// [`Error::Read`] with the line, when the file is missing, cut, longer than [`RAW_BYTES_MAX`] unpacked, or no record.
pub fn read(path: &Path) -> Result<Vec<Record>, Error> {
    let failed = |cause: String| Error::Read {
        path: path.to_owned(),
        cause,
    };
    let file = File::open(path).map_err(|cause| failed(cause.to_string()))?;
    let mut records = Vec::new();
    let unpacked = BufReader::new(GzDecoder::new(file).take(RAW_BYTES_MAX + 1));
    let mut bytes = 0;
    for (number, line) in (1..).zip(unpacked.lines()) {
        let line = line.map_err(|cause| failed(format!("line {number}: {cause}")))?;
        bytes += line.len() as u64 + 1;
        if bytes > RAW_BYTES_MAX {
            return Err(failed(format!("more than {RAW_BYTES_MAX} bytes unpacked")));
        }
        let record = serde_json::from_str(&line);
        records.push(record.map_err(|cause| failed(format!("line {number}: {cause}")))?);
    }
    Ok(records)
}

/// The bin of a latency in ns; 0 ns is in the first.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the logarithm of a u64 is from 0 to 20"
)]
pub fn bin_of(nanos: u64) -> u16 {
    ((nanos.max(1) as f64).log10() * f64::from(BINS_PER_DECADE)).floor() as u16
}

/// Bins of latency from one power of ten to the next.
pub const BINS_PER_DECADE: u16 = 8;
/// The file's name in a session's folder.
pub const RAW_FILE: &str = "raw.ndjson.gz";
/// The subject's name of the relay at both ends of a round.
pub const CALIBRATOR: &str = "calibrator";
/// How much a raw file may hold, unpacked: bounds what a foreign file makes a reader keep.
pub const RAW_BYTES_MAX: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let load = Document {
            schema: "hp-bench/1".into(),
            ..Document::default()
        };
        Record {
            workload: "small".into(),
            row: "c100".into(),
            params: Params {
                connections: 100,
                body_bytes: 13,
                other: BTreeMap::from([("backends".into(), Value::from(8))]),
                ..Params::default()
            },
            subject: "hp-uring".into(),
            round: 1,
            place: 3,
            attempt: 1,
            verdict: Some(Limit::Proxy),
            server: Usage {
                cpu_ns: Some(20_000_000),
                ..Usage::default()
            },
            load: Some(load),
            ..Record::default()
        }
    }

    #[test]
    fn bins_begin_at_the_powers_of_ten() {
        for (nanos, bin) in [
            (0, 0),
            (1, 0),
            (9, 7),
            (10, 8),
            (999, 23),
            (1_000, 24),
            (1_000_000, 48),
            (u64::MAX, 154),
        ] {
            assert_eq!(bin_of(nanos), bin, "{nanos}");
        }
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(RAW_FILE);
        let second = Record {
            void: vec!["errors: reset 1".into()],
            load: None,
            ..record()
        };
        let mut writer = Writer::create(&path).unwrap();
        writer.write(&record()).unwrap();
        writer.write(&second).unwrap();
        writer.finish().unwrap();
        assert_eq!(read(&path).unwrap(), [record(), second]);
    }

    #[test]
    fn what_was_written_before_an_early_end_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(RAW_FILE);
        let mut writer = Writer::create(&path).unwrap();
        writer.write(&record()).unwrap();
        drop(writer);
        assert_eq!(read(&path).unwrap(), [record()]);
    }

    #[test]
    fn equal_records_give_equal_files() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| folder.path().join(name));
        for path in &paths {
            let mut writer = Writer::create(path).unwrap();
            writer.write(&record()).unwrap();
            writer.finish().unwrap();
        }
        assert_eq!(
            std::fs::read(&paths[0]).unwrap(),
            std::fs::read(&paths[1]).unwrap()
        );
    }

    #[test]
    fn a_cut_file_and_a_foreign_one_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(RAW_FILE);
        let mut writer = Writer::create(&path).unwrap();
        writer.write(&record()).unwrap();
        writer.finish().unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(read(&path).is_err());
        std::fs::write(&path, "no gzip").unwrap();
        assert!(read(&path).is_err());
    }

    #[test]
    fn the_cost_of_a_request_needs_answers_and_no_void() {
        let mut record = record();
        record.load.as_mut().unwrap().run.responses = 1_000;
        assert_eq!(record.server_cpu_ns_per_request(), Some(20_000.0));
        record.void.push("errors: reset 1".into());
        assert_eq!(record.server_cpu_ns_per_request(), None);
    }

    #[test]
    fn a_line_has_the_keys_of_the_layout() {
        let line = serde_json::to_value(record()).unwrap();
        for key in [
            "workload",
            "row",
            "params",
            "subject",
            "control",
            "round",
            "place",
            "attempt",
            "started_ms",
        ] {
            assert!(line.get(key).is_some(), "{key}");
        }
        assert_eq!(line["verdict"], "proxy");
        assert_eq!(line["params"]["backends"], 8);
        assert_eq!(line["params"]["rate"], Value::Null);
    }
}
