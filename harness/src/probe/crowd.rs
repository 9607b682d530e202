//! Memory of more idle connections than one process may have: the row's `instances` of a server, each with its part of the crowd, which
//! hp-bench holds. Every connection has made one request; one more on each holder makes one request a second, so that its run goes on.
//!
//! `extra`: `points` (connections of all instances together, rising, the first may be 0), `quiet_s` (stillness before a reading).
//!
//! Memory is summed over the instances. What one program costs without a connection is in the line's base as often as there are
//! instances.

use std::fs;
use std::time::Duration;

use super::idle::{self, Point};
use super::memory::KernelMemory;
use super::{note, number};
use crate::clock;
use crate::cpu;
use crate::error::Error;
use crate::label;
use crate::load::{self, Scene};
use crate::process::{Process, Seat};
use crate::raw::{Record, Usage};
use crate::topology::Server;
use crate::workload::Load;

/// A row's `extra`, read.
#[derive(Clone, Debug, PartialEq)]
struct Plan {
    points: Vec<usize>,
    quiet: Duration,
}

impl Plan {
    fn of(load: &Load) -> Result<Self, String> {
        let per_instance = CONNECTIONS_MAX * load.instances as usize;
        let points = idle::points(load, &POINTS_USUAL, per_instance)?;
        let quiet = number(load, "quiet_s", 5.0, (0.0, 60.0))?;
        Ok(Self {
            points,
            quiet: Duration::from_secs_f64(quiet),
        })
    }
}

/// How long a visit should take, at 5,000 new connections per second.
pub(super) fn length(load: &Load) -> Result<Duration, String> {
    let plan = Plan::of(load)?;
    let last = plan.points.last().copied().unwrap_or(0);
    let opening = Duration::from_micros(200) * u32::try_from(last).unwrap_or(u32::MAX);
    let quiets = u32::try_from(plan.points.len()).unwrap_or(u32::MAX);
    Ok(plan.quiet * quiets + opening)
}

/// Grows the crowd point by point, reads memory at each, and ends it.
pub(super) fn visit(scene: &Scene<'_>, record: &mut Record) -> Result<(), Error> {
    let plan = match Plan::of(scene.load) {
        Ok(plan) => plan,
        Err(cause) => {
            record.void.push(cause);
            return Ok(());
        }
    };
    let servers: Vec<&Server> = std::iter::once(scene.server)
        .chain(&scene.server.more)
        .collect();
    let empty: Vec<usize> = servers.iter().map(|server| open_files(server)).collect();
    let mut holders: Vec<Process> = Vec::new();
    let (mut held, mut points) = (0, Vec::new());
    for &asked in &plan.points {
        for (number, server) in servers.iter().enumerate() {
            let more = part(asked, servers.len(), number) - part(held, servers.len(), number);
            if more > 0 {
                holders.push(hold(scene, server, more)?);
            }
        }
        held = asked;
        if let Some(reason) = wait_held(scene, &servers, &empty, asked, &mut holders)? {
            record.void.push(reason);
            break;
        }
        idle::still(scene, plan.quiet)?;
        points.push(read(&servers, asked));
        if asked > 0 && held_now(&servers, &empty) < asked {
            record.void.push(format!(
                "some of {asked} idle connections were closed before the look at them"
            ));
            break;
        }
    }
    note(record, "instances", servers.len());
    note(record, "holders", holders.len());
    end(scene, &mut holders, record)?;
    if let Some(last) = points.last() {
        record.server = last.programs.clone();
    }
    note(
        record,
        "points",
        points.iter().map(Point::json).collect::<Vec<_>>(),
    );
    idle::lines(&points, record);
    Ok(())
}

/// How many of the connections are one instance's: they differ by one at most.
fn part(connections: usize, instances: usize, number: usize) -> usize {
    connections / instances + usize::from(number < connections % instances)
}

/// Starts an hp-bench that holds so many connections until it is asked to end.
fn hold(scene: &Scene<'_>, server: &Server, connections: usize) -> Result<Process, Error> {
    let url = format!("http://{}{}", server.addr, scene.load.path);
    let words = [
        &url,
        "-c",
        "1",
        "-t",
        "1",
        "-R",
        "1",
        "--warmup",
        "0",
        "--idle",
        &connections.to_string(),
    ];
    let rest = [
        "-d",
        "1h",
        "--timeout",
        "30s",
        "--engine",
        &scene.load.engine,
        "--progress",
        "none",
        "--json",
        "-",
    ];
    let words: Vec<String> = words.into_iter().chain(rest).map(str::to_owned).collect();
    scene
        .launcher
        .start_own("hp-bench", &words, Seat::of_load(scene.workload.seats))
}

/// Waits until the servers have so many connections; why they never will, where a holder ended or the patience did.
fn wait_held(
    scene: &Scene<'_>,
    servers: &[&Server],
    empty: &[usize],
    asked: usize,
    holders: &mut [Process],
) -> Result<Option<String>, Error> {
    let deadline = clock::now() + OPENING_TIMEOUT;
    loop {
        let held = held_now(servers, empty);
        if held >= asked {
            return Ok(None);
        }
        if scene.interrupt.came() {
            return Err(Error::Interrupted);
        }
        for holder in holders.iter_mut() {
            if let Some(status) = holder.ended() {
                let stderr = holder.stderr();
                let last = stderr.lines().last().unwrap_or_default();
                return Ok(Some(format!(
                    "a holder ended with {held} of {asked} connections open ({status}): {last}"
                )));
            }
        }
        if clock::now() >= deadline {
            return Ok(Some(format!(
                "{held} of {asked} connections came in {} s",
                OPENING_TIMEOUT.as_secs()
            )));
        }
        clock::pause(LOOK_INTERVAL);
    }
}

/// Descriptors that the servers have more than without the crowd.
fn held_now(servers: &[&Server], empty: &[usize]) -> usize {
    let now = servers.iter().map(|server| open_files(server));
    now.zip(empty)
        .map(|(now, empty)| now.saturating_sub(*empty))
        .sum()
}

/// Open descriptors of a server's process tree.
fn open_files(server: &Server) -> usize {
    let tree = cpu::tree(server.process.pid()).into_iter();
    tree.map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count))
        .sum()
}

fn read(servers: &[&Server], connections: usize) -> Point {
    let (mut pss, mut dirty) = (Some(0), Some(0));
    for server in servers {
        let mut usage = Usage::default();
        cpu::add_memory(&mut usage, server.process.pid());
        pss = pss.zip(usage.pss_kib).map(|(sum, kib)| sum + kib);
        dirty = dirty
            .zip(usage.private_dirty_kib)
            .map(|(sum, kib)| sum + kib);
    }
    Point {
        connections,
        programs: Usage {
            pss_kib: pss,
            private_dirty_kib: dirty,
            ..Usage::default()
        },
        kernel: KernelMemory::read(),
    }
}

/// Ends the holders; what went wrong on their connections voids the visit.
fn end(scene: &Scene<'_>, holders: &mut [Process], record: &mut Record) -> Result<(), Error> {
    for holder in holders.iter_mut() {
        holder.ask_to_stop();
    }
    let deadline = clock::now() + END_TIMEOUT;
    for holder in holders {
        let ended = holder.wait_until(deadline, scene.interrupt);
        if scene.interrupt.came() {
            return Err(Error::Interrupted);
        }
        match (ended, load::parse_document(&holder.stdout())) {
            (None, _) => record.void.push("a holder did not end".into()),
            (Some(status), Err(cause)) => {
                let stderr = holder.stderr();
                let last = stderr.lines().last().unwrap_or_default();
                record.void.push(format!(
                    "a holder gave no document ({status}; {cause}): {last}"
                ));
            }
            (Some(_status), Ok(document)) => {
                let failures = label::failures(&document);
                record
                    .void
                    .extend(failures.map(|what| format!("a holder met {what}")));
            }
        }
    }
    Ok(())
}

const POINTS_USUAL: [usize; 4] = [0, 15_000, 30_000, 50_000];
/// The most connections of one instance: ports of one address pair, by the kernel's usual range.
const CONNECTIONS_MAX: usize = 28_000;
const OPENING_TIMEOUT: Duration = Duration::from_secs(60);
const END_TIMEOUT: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::super::tests::load;
    use super::*;

    #[test]
    fn instances_share_the_crowd() {
        let parts = |connections| [0, 1, 2].map(|number| part(connections, 3, number));
        assert_eq!(parts(50_000), [16_667, 16_667, 16_666]);
        assert_eq!(parts(0), [0, 0, 0]);
    }

    #[test]
    fn points_beyond_the_ports_of_all_instances_are_refused() {
        let mut row = load("points = [0, 50000], quiet_s = 2");
        assert!(Plan::of(&row).unwrap_err().contains("from 0 to 28000"));
        row.instances = 3;
        assert_eq!(Plan::of(&row).unwrap().points, [0, 50_000]);
        assert_eq!(length(&row), Ok(Duration::from_secs(14)));
    }
}
