//! Sessions that nobody measured: raw records from a seed, with costs and noise that are known.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use harness::plan::Plan;
use harness::raw::{self, CALIBRATOR, Limit, MachineUsage, Params, Record, Usage, Writer};
use hdrhistogram::Histogram;
use hp_bench::result::{Document, Encoded};
use serde_json::json;

/// A session to be made. Every number is a choice; noise comes from the seed alone.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) seed: u64,
    pub(crate) rounds: u32,
    /// Share by which a visit's cost may be off to either side.
    pub(crate) noise: f64,
    /// Share by which the machine gets slower until the session's end.
    pub(crate) drift: f64,
    /// Whether there are loads at a rate, too.
    pub(crate) paced: bool,
    /// Subjects and their cost by that of `relay-uring`.
    pub(crate) costs: Vec<(&'static str, f64)>,
}

impl Default for Made {
    fn default() -> Self {
        Self {
            seed: 1,
            rounds: 9,
            noise: 0.01,
            drift: 0.0,
            paced: true,
            costs: vec![
                ("direct", 0.5),
                ("relay-uring", 1.0),
                ("hp-uring", 1.16),
                ("hp-uring/aa", 1.16),
                ("hp-epoll", 1.17),
                ("nginx", 1.54),
            ],
        }
    }
}

/// A generator of its own: equal seeds make equal sessions.
struct Noise(u64);

impl Noise {
    /// From -1 to 1.
    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let high = u32::try_from(self.0 >> 33).unwrap();
        f64::from(high) / f64::from(1_u32 << 30) - 1.0
    }
}

pub(crate) const PLAN: &str = r#"
name = "made"
title = "What nobody measured"
seed = 7
rounds = 9
reference = "relay-uring"
control = "hp-uring"
calibrator = "relay-uring"
subjects = ["direct", "relay-uring", "hp-uring", "hp-epoll", "nginx", "caddy"]

[[workload]]
name = "small"
title = "Small requests on kept connections"
connections = [16, 100]

[[workload]]
name = "latency"
title = "Latency at a rate"
load = { warmup_ms = 300 }
[[workload.row]]
name = "r1000"
connections = 100
rate = 1000.0
[[workload.row]]
name = "r10000"
connections = 100
rate = 10000.0

[[workload]]
name = "idle"
title = "Memory over idle connections"
kind = "idle"
rounds = 2
reference = "hp-uring"
subjects = ["hp-uring", "nginx"]
connections = [1]
"#;

const ENV: &str = r#"{
  "started": "2026-11-22T10:00:00Z", "command": "make bench",
  "source": {"commit": "abc1234", "dirty": false, "rustc": "rustc 1.95.0"},
  "host": {"class": "2cpu-made-linux6.18", "cpu_model": "Made CPU", "cpus": 2, "kernel": "6.18.0", "memory_mib": 4096},
  "network": {"own": true, "congestion": "cubic"}, "pinning": "server on CPU 1, load on CPU 0", "cpu_scaling": 1.97,
  "course": {"finished": true, "repeats": 2},
  "subjects": {
    "caddy": {"missing": "not installed; make bench-deps installs it"},
    "hp-uring": {"version": "hp-proxy 0.1.0"},
    "nginx": {"version": "nginx/1.22.1", "note": "buffers whole answers"}
  }
}
"#;

impl Made {
    /// All records, calibrators included, in order of time.
    pub(crate) fn records(&self) -> Vec<Record> {
        let mut noise = Noise(self.seed);
        let mut records = Vec::new();
        let loads: [(&str, &str, u32, Option<f64>); 4] = [
            ("small", "c16", 16, None),
            ("small", "c100", 100, None),
            ("latency", "r1000", 100, Some(1_000.0)),
            ("latency", "r10000", 100, Some(10_000.0)),
        ];
        let count = if self.paced { 4 } else { 2 };
        for (workload, row, connections, rate) in loads.into_iter().take(count) {
            for round in 1..=self.rounds {
                let place = Place {
                    workload,
                    row,
                    connections,
                    rate,
                    round,
                };
                records.push(self.visit(&place, (CALIBRATOR, 1.0), 0, &mut noise));
                for (order, cost) in (1..).zip(&self.costs) {
                    records.push(self.visit(&place, *cost, order, &mut noise));
                }
                let last = u32::try_from(self.costs.len()).unwrap() + 1;
                records.push(self.visit(&place, (CALIBRATOR, 1.0), last, &mut noise));
            }
        }
        // The machine slows down in even steps.
        let count = f64::from(u32::try_from(records.len()).unwrap());
        for (step, record) in (0_u32..).zip(&mut records) {
            record.started_ms = u64::from(step) * 2_500;
            let slower = 1.0 + self.drift * f64::from(step) / count;
            let cpu_ns = record.server.cpu_ns.unwrap() as f64 * slower;
            record.server.cpu_ns = Some(cpu_ns as u64);
        }
        records.extend(self.idle(&mut noise));
        records
    }

    /// A folder as a session leaves it before anything is derived.
    pub(crate) fn write(&self, folder: &Path) {
        write(folder, &self.records());
    }

    fn visit(
        &self,
        place: &Place,
        (subject, cost): (&str, f64),
        order: u32,
        noise: &mut Noise,
    ) -> Record {
        let rps = place.rate.unwrap_or(40_000.0 / cost);
        let responses = (rps * 2.0) as u64;
        let us = 18.0 * cost * (1.0 + self.noise * noise.next());
        let typical_us = match place.rate {
            Some(_rate) => 90.0 * cost,
            None => f64::from(place.connections) / rps * 1e6,
        };
        Record {
            workload: place.workload.into(),
            row: place.row.into(),
            params: Params {
                connections: place.connections,
                body_bytes: 13,
                rate: place.rate,
                seconds: 2.0,
                pipeline: 1,
                workers: 1,
                ..Params::default()
            },
            subject: subject.into(),
            control: subject.ends_with("/aa"),
            round: place.round,
            place: order,
            attempt: 1,
            verdict: Some(if place.rate.is_some() {
                Limit::Latency
            } else {
                Limit::Proxy
            }),
            server: Usage {
                cpu_ns: Some((us * 1e3 * responses as f64) as u64),
                switches_voluntary: Some(responses / 20),
                switches_involuntary: Some(3),
                pss_kib: Some(5_000),
                ..Usage::default()
            },
            machine: MachineUsage {
                elapsed_ns: 2_000_000_000,
                busy_pct: vec![90.0, 70.0],
                ..MachineUsage::default()
            },
            load: Some(document(place, rps, responses, typical_us, noise)),
            ..Record::default()
        }
    }

    /// Memory of two subjects over idle connections, 528 and 1,146 bytes each.
    fn idle(&self, noise: &mut Noise) -> Vec<Record> {
        let mut records = Vec::new();
        for round in 1..=2 {
            for (order, (subject, bytes)) in (1..).zip([("hp-uring", 528.0), ("nginx", 1_146.0)]) {
                let points = [0_u32, 1_000, 5_000, 10_000].map(|connections| {
                    let kib = 4_000.0 + bytes * f64::from(connections) / 1_024.0;
                    let kib = kib + 4.0 * noise.next();
                    json!({
                        "connections": connections, "pss_kib": kib as u64,
                        "kernel": {"buffer_bytes": 0, "slab_bytes": {"TCP": 2_048 * u64::from(connections)}},
                    })
                });
                records.push(Record {
                    workload: "idle".into(),
                    row: "c1".into(),
                    params: Params {
                        connections: 1,
                        ..Params::default()
                    },
                    subject: subject.into(),
                    round,
                    place: order,
                    attempt: 1,
                    extra: BTreeMap::from([
                        ("points".into(), json!(points)),
                        ("open_files".into(), json!(20_000)),
                        ("after_close".into(), json!({"pss_kib": 4_100})),
                        ("fate".into(), json!("closed")),
                    ]),
                    ..Record::default()
                });
            }
        }
        records
    }
}

struct Place {
    workload: &'static str,
    row: &'static str,
    connections: u32,
    rate: Option<f64>,
    round: u32,
}

/// A document whose latencies lie around a typical one, with a tail of one in a hundred, and add up by Little's law.
fn document(
    place: &Place,
    rps: f64,
    responses: u64,
    typical_us: f64,
    noise: &mut Noise,
) -> Document {
    let mut times: Histogram<u64> = Histogram::new_with_bounds(1_000, 60_000_000_000, 3).unwrap();
    times.auto(false);
    let samples = 500;
    for sample in 0..samples {
        let tail = if sample % 100 == 0 { 1.5 } else { 0.0 };
        let nanos = typical_us * 1e3 * (1.0 + 0.05 * noise.next() + tail) * 0.98;
        times
            .record_n(nanos.max(1_000.0) as u64, (responses / samples).max(1))
            .unwrap();
    }
    let mut document = Document {
        schema: "hp-bench/1".into(),
        ..Document::default()
    };
    document.plan.mode = if place.rate.is_some() {
        "rate"
    } else {
        "closed"
    }
    .into();
    document.plan.connections = place.connections;
    document.plan.pipeline = 1;
    document.plan.rate = place.rate;
    document.run.elapsed_s = 2.0;
    document.run.requests = responses;
    document.run.responses = responses;
    document.run.rps = rps;
    document.run.bytes_in = responses * 149;
    let clock = if place.rate.is_some() {
        "response"
    } else {
        "service"
    };
    document.latency_ns.clock = clock.into();
    document.latency_ns.mean = times.mean() as u64;
    document.latency_ns.max = times.max();
    for (name, percent) in [("50", 50.0), ("99", 99.0), ("99.9", 99.9)] {
        let value = times.value_at_percentile(percent);
        document.latency_ns.p.insert(name.into(), value);
    }
    // Closed loops keep percentiles only, as the harness has it.
    document.histograms.response = place.rate.map(|_rate| Encoded::encode(&times));
    document
}

/// The made plan.
pub(crate) fn plan() -> Plan {
    Plan::parse(PLAN).unwrap()
}

/// A session's folder with these records.
pub(crate) fn write(folder: &Path, records: &[Record]) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("plan.toml"), plan().to_text()).unwrap();
    fs::write(folder.join("env.json"), ENV).unwrap();
    let mut writer = Writer::create(&folder.join(raw::RAW_FILE)).unwrap();
    for record in records {
        writer.write(record).unwrap();
    }
    writer.finish().unwrap();
}
