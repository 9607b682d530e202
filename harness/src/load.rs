//! One run of hp-bench, and what a visit is. The closed loop, the schedule and their clocks are hp-bench's own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hp_bench::result::{Document, Histograms, SCHEMA, Second};
use serde::Deserialize;

use crate::clock;
use crate::cpu::{self, Look};
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::label;
use crate::process::{Launcher, Process, Seat};
use crate::raw::{self, Latencies, Record};
use crate::topology::Server;
use crate::workload::{Load, Workload};

/// What a visit finds: one server under one load.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// Starts processes.
    pub launcher: &'a Launcher,
    /// Ends waits early.
    pub interrupt: &'a Interrupt,
    /// The workload.
    pub workload: &'a Workload,
    /// The row's load.
    pub load: &'a Load,
    /// The measured server.
    pub server: &'a Server,
    /// What stands behind it; nothing where it is the backend itself.
    pub backends: &'a [Server],
}

/// How a visit of one kind of workload is made: it fills figures, and reasons that void them, into a record whose place
/// in the session is set already.
///
/// # Errors
/// [`Error::Spawn`] when a program does not start, [`Error::Interrupted`]. What else goes wrong voids the record.
pub type Visit = fn(&Scene<'_>, &mut Record) -> Result<(), Error>;

/// How a run of the load generator ended.
#[derive(Debug)]
pub enum Outcome {
    /// With a document, and with this exit code; none when a signal ended it.
    Reported(Box<Document>, Option<i32>),
    /// Without one, for this reason.
    Silent(String),
}

impl Scene<'_> {
    /// The roots of all process trees that serve: the measured one first.
    pub fn roots(&self) -> Vec<u32> {
        let backends = self.backends.iter().map(|backend| backend.process.pid());
        std::iter::once(self.server.process.pid())
            .chain(backends)
            .collect()
    }

    /// Fills in what the servers and the machine used between two looks, and the server's memory now.
    pub fn fill_usage(&self, before: &Look, after: &Look, record: &mut Record) {
        record.server = after.usage_since(before, self.server.process.pid());
        cpu::add_memory(&mut record.server, self.server.process.pid());
        if let [backend] = self.backends {
            record.backend = after.usage_since(before, backend.process.pid());
        } else {
            for backend in self.backends {
                let usage = after.usage_since(before, backend.process.pid());
                record.backend.cpu_ns = record
                    .backend
                    .cpu_ns
                    .or(Some(0))
                    .zip(usage.cpu_ns)
                    .map(|(one, other)| one + other);
                record.backend.processes = record
                    .backend
                    .processes
                    .or(Some(0))
                    .zip(usage.processes)
                    .map(|(one, other)| one + other);
            }
        }
        record.machine = after.machine_since(before, std::process::id());
    }
}

/// A visit that is one run of hp-bench.
///
/// # Errors
/// As [`Visit`].
pub fn visit(scene: &Scene<'_>, record: &mut Record) -> Result<(), Error> {
    let roots = scene.roots();
    let before = Look::take(&roots, clock::monotonic_ns());
    let outcome = run(scene)?;
    let after = Look::take(&roots, clock::monotonic_ns());
    scene.fill_usage(&before, &after, record);
    judge(scene, outcome, record);
    Ok(())
}

/// One visit to two, each with a run of hp-bench: the first has the first turn.
///
/// # Errors
/// As [`Visit`].
pub fn visit_in_turns(scenes: [&Scene<'_>; 2], records: [&mut Record; 2]) -> Result<(), Error> {
    let roots: Vec<u32> = scenes.iter().flat_map(|scene| scene.roots()).collect();
    let before = Look::take(&roots, clock::monotonic_ns());
    let [first, second] = scenes;
    let one = Running::start_in_turn(first, 1)?;
    let other = Running::start_in_turn(second, 2)?;
    let outcomes = [one.end(first.interrupt)?, other.end(second.interrupt)?];
    let after = Look::take(&roots, clock::monotonic_ns());
    for ((scene, record), outcome) in scenes.iter().zip(records).zip(outcomes) {
        scene.fill_usage(&before, &after, record);
        judge(scene, outcome, record);
    }
    Ok(())
}

fn judge(scene: &Scene<'_>, outcome: Outcome, record: &mut Record) {
    match outcome {
        Outcome::Reported(document, code) => {
            judge_and_keep(scene.load, *document, code, record);
        }
        Outcome::Silent(reason) => record.void.push(reason),
    }
}

/// Judges what a load reported, and keeps it.
pub fn judge_and_keep(load: &Load, document: Document, code: Option<i32>, record: &mut Record) {
    record
        .void
        .extend(label::void_reasons(load, &document, code));
    record.client.cpu_ns = document.client.cpu_ns;
    if load.warmup_ms > 0 {
        // The counts are of the window without the warm-up, so the cost has to be.
        record.server.cpu_ns = document.target_cost.as_ref().and_then(|cost| cost.cpu_ns);
        (record.server.user_ns, record.server.sys_ns) = (None, None);
    }
    keep(document, record);
}

/// Keeps a document without its series, of which a schedule's latencies stay, in bins.
pub fn keep(mut document: Document, record: &mut Record) {
    record.seconds = if document.plan.mode == PACED {
        document.series.iter().filter_map(binned).collect()
    } else {
        Vec::new()
    };
    document.series.clear();
    record.load = Some(document);
}

/// A second's latencies; none where nothing was answered in it.
fn binned(second: &Second) -> Option<Latencies> {
    let times = second.hist.as_ref()?.decode().ok()?;
    let mut bins: BTreeMap<u16, u64> = BTreeMap::new();
    for slot in times.iter_recorded() {
        *bins
            .entry(raw::bin_of(slot.value_iterated_to()))
            .or_default() += slot.count_at_value();
    }
    (!bins.is_empty()).then(|| Latencies {
        second: second.t,
        bins: bins.into_iter().collect(),
    })
}

/// A run of hp-bench that goes on.
#[derive(Debug)]
pub struct Running {
    process: Process,
    deadline: Instant,
}

impl Running {
    /// Starts it.
    ///
    /// # Errors
    /// [`Error::Spawn`].
    pub fn start(scene: &Scene<'_>) -> Result<Self, Error> {
        Self::start_with(scene, &[])
    }

    /// Starts it as one of two that take turns: the first or the second.
    ///
    /// # Errors
    /// [`Error::Spawn`].
    pub fn start_in_turn(scene: &Scene<'_>, turn: u32) -> Result<Self, Error> {
        let length = format!("{}ms", scene.load.turn_ms);
        let turn = format!("{turn}/2");
        Self::start_with(scene, &["--turns", &length, "--turn", &turn])
    }

    fn start_with(scene: &Scene<'_>, more: &[&str]) -> Result<Self, Error> {
        let watched = if scene.load.warmup_ms > 0 {
            cpu::tree(scene.server.process.pid())
        } else {
            Vec::new()
        };
        let mut args = words(scene.load, scene.server.addr, &watched);
        args.extend(more.iter().map(|&word| word.to_owned()));
        let seat = Seat::of_load(scene.workload.seats);
        let process = scene.launcher.start_own("hp-bench", &args, seat)?;
        let length = Duration::from_secs_f64(scene.load.window_seconds())
            + Duration::from_millis(scene.load.warmup_ms.into());
        Ok(Self {
            process,
            deadline: clock::now() + length + LATE_TIMEOUT,
        })
    }

    /// Waits until then; whether the load goes on, and should.
    pub fn goes_on_until(&mut self, then: Instant, interrupt: &Interrupt) -> bool {
        let until = then.min(self.deadline);
        let ended = self.process.wait_until(until, interrupt);
        ended.is_none() && !interrupt.came() && clock::now() < self.deadline
    }

    /// Waits for its end, or until it has run much longer than it should.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn end(mut self, interrupt: &Interrupt) -> Result<Outcome, Error> {
        let status = self.process.wait_until(self.deadline, interrupt);
        if interrupt.came() {
            return Err(Error::Interrupted);
        }
        let seen = match (status, parse_document(&self.process.stdout())) {
            (None, _) => format!("ran {} s longer than asked", LATE_TIMEOUT.as_secs()),
            (Some(status), Ok(document)) => {
                return Ok(Outcome::Reported(Box::new(document), status.code()));
            }
            (Some(status), Err(cause)) => format!("gave no usable document ({status}; {cause})"),
        };
        let last = self.process.last_words();
        Ok(Outcome::Silent(format!("the load {seen}{last}")))
    }
}

/// Runs hp-bench to its end, or to a little longer than it should take.
///
/// # Errors
/// [`Error::Spawn`] when it does not start, [`Error::Interrupted`]; what it does else is an [`Outcome`].
pub fn run(scene: &Scene<'_>) -> Result<Outcome, Error> {
    Running::start(scene)?.end(scene.interrupt)
}

/// The command line of a load; hp-bench measures the cost of the processes that are named.
pub fn words(load: &Load, addr: SocketAddr, watched: &[u32]) -> Vec<String> {
    let milliseconds = Duration::from_secs_f64(load.window_seconds()).as_millis();
    let mut words = vec![format!("http://{addr}{}", load.path)];
    let mut flag = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
    flag("-c", load.connections.to_string());
    flag("-d", format!("{milliseconds}ms"));
    flag("--warmup", format!("{}ms", load.warmup_ms));
    flag("-t", load.threads.min(load.connections).to_string());
    flag("--engine", load.engine.clone());
    if let Some(rate) = load.rate {
        flag("-R", rate.to_string());
    }
    if load.reuse > 0 {
        flag("--reuse", load.reuse.to_string());
    }
    if load.pipeline > 1 {
        flag("--pipeline", load.pipeline.to_string());
    }
    if load.request_bytes > 0 {
        flag("-b", format!("{}B", load.request_bytes));
    } else if load.path == "/" && !load.flags.iter().any(|word| word == "--expect-size") {
        flag("--expect-size", format!("{}B", load.body_bytes));
    }
    for pid in watched {
        flag("--pid", pid.to_string());
    }
    if load.close {
        words.push("--close".to_owned());
    }
    words.extend(["--progress", "none", "--json", "-"].map(str::to_owned));
    words.extend_from_slice(&load.flags);
    words
}

/// Reads a document of schema `hp-bench/1`, and leaves out what a session has no room for: the histograms of whole runs
/// but for those of a schedule's response time and lag. Closed loops keep their percentiles: an answer that was
/// not asked for during a stall is in no histogram either.
///
/// # Errors
/// What is wrong with the text, on one line.
pub fn parse_document(text: &str) -> Result<Document, String> {
    #[derive(Deserialize)]
    struct Tag {
        schema: String,
    }
    let tag: Tag = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if tag.schema != SCHEMA {
        return Err(format!("schema {}, not {SCHEMA}", tag.schema));
    }
    let mut document: Document = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let is_paced = document.plan.mode == PACED;
    document.histograms = Histograms {
        response: document.histograms.response.take().filter(|_| is_paced),
        lag: document.histograms.lag.take().filter(|_| is_paced),
        ..Histograms::default()
    };
    Ok(document)
}

/// The mode of a load at a rate, in its document.
const PACED: &str = "rate";
const LATE_TIMEOUT: Duration = Duration::from_secs(15); // a drain, or answers that never come

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::*;
    use crate::plan::{self, Plan};

    /// A document of a run without failures: 100 connections, 50,000 answers in a second.
    pub(crate) const GOOD: &str = r#"{
        "schema": "hp-bench/1", "tool": {"name": "hp-bench", "version": "0.1.0", "engine": "epoll"},
        "started": "2026-11-20T23:10:00Z", "interrupted": false,
        "target": {"url": "http://127.0.0.1:8080/", "addr": "127.0.0.1:8080"},
        "plan": {"mode": "closed", "connections": 100, "threads": 1, "duration_s": 1.0, "rate": null},
        "run": {"elapsed_s": 1.0, "requests": 50100, "responses": 50000, "bytes_in": 1, "bytes_out": 1,
                "rps": 50000.0, "connections_min": 100, "connections_opened": 100},
        "status": {"2xx": 50000}, "errors": {},
        "latency_ns": {"clock": "service", "min": 61000, "mean": 1990000, "stdev": 312000, "max": 7030000,
                       "p": {"50": 2040000, "75": 2100000, "90": 2310000, "99": 3120000, "99.9": 4870000}},
        "client": {"cpu_ns": 500000000, "cpu_ns_per_req": 10000},
        "series": [{"t": 1, "n": 50000}]
    }"#;

    pub(crate) fn load(text: &str) -> Load {
        toml::from_str(text).unwrap()
    }

    fn check_words(text: &str, watched: &[u32], expected: &str) {
        let addr = "127.0.0.1:80".parse().unwrap();
        assert_eq!(words(&load(text), addr, watched).join(" "), expected);
    }

    #[test]
    fn a_load_becomes_a_command_line() {
        check_words(
            "connections = 100",
            &[],
            "http://127.0.0.1:80/ -c 100 -d 2000ms --warmup 0ms -t 1 --engine epoll --expect-size 13B --progress none --json -",
        );
        check_words(
            "connections = 2\nrate = 10000.0\nthreads = 4\nwarmup_ms = 300\nclose = true\npath = \"/x?y\"\nseconds = 0.5\nflags = [\"--src\", \"127.0.0.2\"]",
            &[7, 8],
            "http://127.0.0.1:80/x?y -c 2 -d 500ms --warmup 300ms -t 2 --engine epoll -R 10000 --pid 7 --pid 8 --close \
             --progress none --json - --src 127.0.0.2",
        );
        check_words(
            "connections = 1\nreuse = 1\npipeline = 4\nrequest_bytes = 64",
            &[],
            "http://127.0.0.1:80/ -c 1 -d 2000ms --warmup 0ms -t 1 --engine epoll --reuse 1 --pipeline 4 -b 64B \
             --progress none --json -",
        );
    }

    #[test]
    fn the_words_are_those_of_hp_bench() {
        let load = load(
            "connections = 2\nrate = 10000.0\nreuse = 1\npipeline = 4\nrequest_bytes = 64\nclose = true",
        );
        let mut line = vec!["hp-bench".to_owned()];
        line.extend(words(&load, "127.0.0.1:80".parse().unwrap(), &[1]));
        hp_bench::cli::parse(line.into_iter().map(Into::into)).unwrap();
    }

    #[test]
    fn hp_bench_knows_the_words_of_every_row_of_the_plans() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR"));
        let plans = plan::names(data).into_iter();
        for plan in plans.map(|name| Plan::read(&name, data).unwrap()) {
            for workload in &plan.workloads {
                for row in &workload.rows {
                    let addr = "127.0.0.1:80".parse().unwrap();
                    let mut line = vec!["hp-bench".to_owned()];
                    line.extend(words(&row.load, addr, &[1]));
                    if let Err(stop) = hp_bench::cli::parse(line.into_iter().map(Into::into)) {
                        panic!("{}: {}: {}: {stop:?}", plan.name, workload.name, row.name);
                    }
                }
            }
        }
    }

    #[test]
    fn a_document_is_kept_without_its_series() {
        let mut record = Record::default();
        keep(parse_document(GOOD).unwrap(), &mut record);
        let document = record.load.unwrap();
        assert_eq!(document.run.responses, 50_000);
        assert!(document.series.is_empty() && record.seconds.is_empty());
    }

    #[test]
    fn of_a_schedule_each_second_has_its_latencies_in_bins() {
        let mut times =
            hdrhistogram::Histogram::<u64>::new_with_bounds(1_000, 60_000_000_000, 3).unwrap();
        for nanos in [100_000, 101_000, 1_000_000] {
            times.record(nanos).unwrap();
        }
        let second = |t, hist| Second {
            t,
            hist,
            ..Second::default()
        };
        let encoded = hp_bench::result::Encoded::encode(&times);
        let mut document = parse_document(&GOOD.replace("\"closed\"", "\"rate\"")).unwrap();
        document.series = vec![second(1, Some(encoded)), second(2, None)];
        let mut record = Record::default();
        keep(document, &mut record);
        let expected = Latencies {
            second: 1,
            bins: vec![(40, 2), (48, 1)],
        };
        assert_eq!(record.seconds, [expected]);
    }

    #[test]
    fn of_the_histograms_those_of_a_schedule_are_kept() {
        let text = GOOD.replacen(
            "\"series\"",
            r#""histograms": {"service": "a", "response": "b", "lag": "c", "ttfb": "d"}, "series""#,
            1,
        );
        let kept = |mode: &str| {
            let text = text.replace("\"closed\"", mode);
            let document = parse_document(&text).unwrap();
            let names = document.histograms.iter().map(|(name, _text)| name);
            names.collect::<Vec<_>>()
        };
        assert_eq!(kept("\"rate\""), ["response", "lag"]);
        assert!(kept("\"closed\"").is_empty());
    }

    #[test]
    fn another_schema_is_no_document() {
        assert_eq!(
            parse_document(r#"{"schema": "hp-bench/2"}"#),
            Err("schema hp-bench/2, not hp-bench/1".into())
        );
        for text in [
            "",
            "{",
            "[]",
            "{\"schema\": \"hp-bench/1\"}",
            "Running 1s test",
        ] {
            assert!(parse_document(text).is_err(), "{text}");
        }
    }
}
