//! Memory by the number of connections that do nothing. Each has made one request; then nothing moves for a while, and what the programs
//! and the kernel hold is read. The slope of the line through the points is what one connection costs, and its base what the program
//! costs by itself.
//!
//! `extra`: `points` (connections, rising; else those of 0, 1000, 5000, 10000, 19000), `quiet_s` (stillness before a reading), `active` and `active_rate` (a load of so many
//! connections and requests per second, run with the crowd and again without it; 0: none).

use std::time::Duration;

use hp_bench::statistics;
use hp_core::sys::limits::raise_open_files;
use serde_json::{Value, json};

use super::client::{Client, End};
use super::memory::KernelMemory;
use super::{PATIENCE, note, number};
use crate::cpu;
use crate::error::Error;
use crate::load::{self, Outcome, Scene};
use crate::raw::{Record, Usage};
use crate::workload::Load;

/// A row's `extra`, read.
#[derive(Clone, Debug, PartialEq)]
struct Plan {
    points: Vec<usize>,
    quiet: Duration,
    active: u32,
    active_rate: f64,
}

/// One reading.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) connections: usize,
    pub(super) programs: Usage,
    pub(super) kernel: KernelMemory,
}

impl Plan {
    fn of(load: &Load) -> Result<Self, String> {
        let points = points(load, &POINTS_USUAL, CONNECTIONS_MAX)?;
        let quiet = number(load, "quiet_s", 10.0, (0.0, 600.0))?;
        let active = load.extra.get("active").map_or(Some(0), Value::as_u64);
        let active = active.and_then(|active| u32::try_from(active).ok());
        let active = active.filter(|&active| active <= 10_000);
        Ok(Self {
            points,
            quiet: Duration::from_secs_f64(quiet),
            active: active.ok_or("extra.active: write a number from 0 to 10000")?,
            active_rate: number(load, "active_rate", 1_000.0, (1.0, 1e6))?,
        })
    }

    /// The load of the connections that do something.
    fn active_load(&self, load: &Load) -> Option<Load> {
        (self.active > 0).then(|| Load {
            connections: self.active,
            rate: Some(self.active_rate),
            warmup_ms: 500,
            ..load.clone()
        })
    }
}

/// The rising numbers of connections that a row asks for; `usual` where it asks for none.
///
/// # Errors
/// What to write instead.
pub(super) fn points(load: &Load, usual: &[usize], most: usize) -> Result<Vec<usize>, String> {
    let wrong =
        || format!("extra.points: write a list of rising numbers from 0 to {most}, at least two");
    let points = match load.extra.get("points") {
        None => usual.to_vec(),
        Some(value) => {
            let points = value.as_array().ok_or_else(wrong)?.iter();
            let points = points.map(|point| usize::try_from(point.as_u64()?).ok());
            points.collect::<Option<Vec<usize>>>().ok_or_else(wrong)?
        }
    };
    let is_in_range = points.iter().all(|point| *point <= most);
    let is_usable = points.len() >= 2 && points.is_sorted_by(|one, next| one < next);
    (is_usable && is_in_range)
        .then_some(points)
        .ok_or_else(wrong)
}

/// How long a visit should take, at 5,000 new connections per second.
pub(super) fn length(load: &Load) -> Result<Duration, String> {
    let plan = Plan::of(load)?;
    let quiets = u32::try_from(plan.points.len() + 1).unwrap_or(u32::MAX);
    let opening = Duration::from_micros(200)
        * plan
            .points
            .last()
            .map_or(0, |&last| u32::try_from(last).unwrap_or(u32::MAX));
    let active = plan
        .active_load(load)
        .map_or(0.0, |load| 2.0 * load.seconds + 1.0);
    Ok(plan.quiet * quiets + opening + Duration::from_secs_f64(active))
}

/// Opens the crowd point by point, reads memory at each, and closes it again.
pub(super) fn visit(scene: &Scene<'_>, record: &mut Record) -> Result<(), Error> {
    let plan = match Plan::of(scene.load) {
        Ok(plan) => plan,
        Err(cause) => {
            record.void.push(cause);
            return Ok(());
        }
    };
    let limit = raise_open_files().unwrap_or(0);
    note(record, "open_files", limit);
    let mut crowd = Vec::new();
    let mut points = Vec::new();
    for &asked in &plan.points {
        if limit < (asked + OWN_FILES) as u64 {
            record.flags.push(format!(
                "OPEN FILES {limit} are too few for {asked} connections; the line ends before"
            ));
            break;
        }
        if let Err(cause) = grow(scene, &mut crowd, asked) {
            record.void.push(cause);
            break;
        }
        still(scene, plan.quiet)?;
        points.push(Point::read(scene, asked));
    }
    if record.void.is_empty() {
        record.void.extend(lost(&mut crowd));
    }
    let with_crowd = plan.active_load(scene.load);
    if let Some(load) = &with_crowd {
        active(scene, load, record, "with")?;
    }
    crowd.clear();
    still(scene, plan.quiet)?;
    let after = Point::read(scene, 0);
    if let Some(load) = &with_crowd {
        active(scene, load, record, "without")?;
    }
    record.server = after.programs.clone();
    note(record, "after_close", after.json());
    note(
        record,
        "points",
        points.iter().map(Point::json).collect::<Vec<_>>(),
    );
    lines(&points, record);
    Ok(())
}

/// Opens connections until there are so many; each makes a request.
fn grow(scene: &Scene<'_>, crowd: &mut Vec<Client>, count: usize) -> Result<(), String> {
    while crowd.len() < count {
        let at = crowd.len() + 1;
        if scene.interrupt.came() {
            return Err("interrupted".into());
        }
        let mut client = Client::connect(scene.server.addr, PATIENCE)
            .map_err(|error| format!("connection {at} of {count}: refused ({error})"))?;
        answered(&mut client, "GET", &scene.load.path)
            .map_err(|what| format!("connection {at} of {count}: {what}"))?;
        crowd.push(client);
    }
    Ok(())
}

fn answered(client: &mut Client, method: &str, path: &str) -> Result<(), String> {
    match client.ask(method, path) {
        End::Whole(answer) if answer.status == 200 && answer.is_kept => Ok(()),
        End::Whole(answer) if answer.status == 200 => Err("closed after a request".into()),
        end => Err(super::correct::named(&end)),
    }
}

/// Why the crowd is not what it should be: one in a hundred is asked again, the first and the last among them.
fn lost(crowd: &mut [Client]) -> Option<String> {
    let count = crowd.len();
    let step = (count / 100).max(1);
    let (mut asked, mut lost) = (0, 0);
    for (at, client) in crowd.iter_mut().enumerate() {
        if at % step == 0 || at + 1 == count {
            asked += 1;
            lost += usize::from(answered(client, "GET", "/").is_err());
        }
    }
    (lost > 0).then(|| format!("{lost} of {asked} idle connections were closed"))
}

/// Waits while nothing happens, in pieces, so that Ctrl-C is not waited for.
pub(super) fn still(scene: &Scene<'_>, quiet: Duration) -> Result<(), Error> {
    let deadline = crate::clock::now() + quiet;
    while crate::clock::now() < deadline {
        if scene.interrupt.came() {
            return Err(Error::Interrupted);
        }
        crate::clock::pause(quiet.min(Duration::from_millis(50)));
    }
    Ok(())
}

/// Runs the active connections, and keeps the document where the crowd is there.
fn active(scene: &Scene<'_>, load: &Load, record: &mut Record, name: &str) -> Result<(), Error> {
    let outcome = load::run(&Scene { load, ..*scene })?;
    let Outcome::Reported(document, code) = outcome else {
        record
            .void
            .push(format!("the load {name} the crowd gave no document"));
        return Ok(());
    };
    if code != Some(0) {
        record
            .void
            .push(format!("the load {name} the crowd ended with {code:?}"));
    }
    for percentile in ["50", "99", "99.9"] {
        let value = document.latency_ns.p.get(percentile).copied();
        note(
            record,
            &format!("p{percentile}_ns_{name}_crowd"),
            json!(value),
        );
    }
    if name == "with" {
        load::keep(*document, record);
    }
    Ok(())
}

/// Notes slope and base of the programs' and of the kernel's line.
pub(super) fn lines(points: &[Point], record: &mut Record) {
    let line = |value: &dyn Fn(&Point) -> Option<u64>| {
        let pairs = points
            .iter()
            .map(|point| Some((point.connections as f64, value(point)? as f64)));
        pairs
            .collect::<Option<Vec<_>>>()
            .and_then(|pairs| statistics::fit(&pairs))
    };
    let kib = |value: Option<u64>| value.map(|kib| kib * 1024);
    for (name, line) in [
        ("pss", line(&|point| kib(point.programs.pss_kib))),
        (
            "private_dirty",
            line(&|point| kib(point.programs.private_dirty_kib)),
        ),
        ("kernel", line(&|point| point.kernel.bytes())),
    ] {
        note(
            record,
            &format!("{name}_bytes_per_connection"),
            json!(line.map(|line| line.slope)),
        );
        note(
            record,
            &format!("{name}_bytes_base"),
            json!(line.map(|line| line.base)),
        );
    }
}

impl Point {
    fn read(scene: &Scene<'_>, connections: usize) -> Self {
        let mut programs = Usage::default();
        cpu::add_memory(&mut programs, scene.server.process.pid());
        Self {
            connections,
            programs,
            kernel: KernelMemory::read(),
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "connections": self.connections,
            "pss_kib": self.programs.pss_kib,
            "private_dirty_kib": self.programs.private_dirty_kib,
            "processes": self.programs.processes,
            "kernel": self.kernel.json(),
        })
    }
}

/// The points of a row that names none.
const POINTS_USUAL: [usize; 5] = [0, 1_000, 5_000, 10_000, 19_000];
/// The most connections of a crowd: ports of one address pair, by the kernel's usual range.
const CONNECTIONS_MAX: usize = 28_000;
/// What the harness has open beside the crowd, generously.
const OWN_FILES: usize = 256;

#[cfg(test)]
mod tests {
    use super::super::tests::load;
    use super::*;

    #[test]
    fn points_must_rise() {
        let plan = Plan::of(&load("points = [0, 1000, 5000], quiet_s = 1")).unwrap();
        assert_eq!(plan.points, [0, 1_000, 5_000]);
        assert_eq!(plan.quiet, Duration::from_secs(1));
        assert_eq!(Plan::of(&load("")).unwrap().points, POINTS_USUAL);
        for text in [
            "points = [0]",
            "points = [5, 5]",
            "points = [2, 1]",
            "points = [0, 99999]",
            "points = [-1, 1]",
            "points = 3",
        ] {
            let cause = Plan::of(&load(text)).unwrap_err();
            assert!(cause.contains("rising numbers"), "{text}: {cause}");
        }
    }

    #[test]
    fn the_length_counts_every_stillness() {
        let load = load("points = [0, 1000, 5000], quiet_s = 10");
        assert_eq!(length(&load), Ok(Duration::from_secs(41)));
    }

    #[test]
    fn the_lines_are_in_bytes() {
        let point = |connections, pss_kib| Point {
            connections,
            programs: Usage {
                pss_kib: Some(pss_kib),
                ..Usage::default()
            },
            kernel: KernelMemory::default(),
        };
        let mut record = Record::default();
        lines(&[point(0, 1_000), point(1_024, 1_500)], &mut record);
        assert_eq!(record.extra["pss_bytes_per_connection"], json!(500.0));
        assert_eq!(record.extra["pss_bytes_base"], json!(1_024_000.0));
        assert_eq!(record.extra["kernel_bytes_per_connection"], Value::Null);
    }
}
