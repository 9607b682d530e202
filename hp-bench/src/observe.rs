//! What a run cost: this program, the target where it was named, and the machine around them, in the counted window.
//!
//! Reads `/proc` and control groups (proc(5), cgroups(7)). Must not know: requests, reports.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::plan::{Observed, Plan};

/// What was used between the beginning and the end of the window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Costs {
    /// Context switches of this program.
    pub client_ctx_switches: Option<u64>,
    /// This program's resident memory at its peak.
    pub client_rss_kib: Option<u64>,
    /// The target's, where it was named and could be read to the end.
    pub target: Option<Target>,
    /// CPU time that the hypervisor gave to others, percent of all CPUs.
    pub steal_pct: Option<f64>,
    /// Time in soft interrupts, percent, by CPU.
    pub softirq_pct: Vec<f64>,
}

/// What the target used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// `pid` or `cgroup`.
    pub source: &'static str,
    /// User and system time in ns.
    pub cpu_ns: u64,
    /// The same by the time of the CPUs that it can use, 0 to 1.
    pub busy: Option<f64>,
    /// Context switches.
    pub ctx_switches: Option<u64>,
    /// Resident memory at the end.
    pub rss_kib: Option<u64>,
}

/// Why the target's cost cannot be measured.
#[derive(Debug)]
pub struct ObserveError {
    what: String,
    cause: io::Error,
}

/// Takes two looks: at the window's beginning, and at its end.
#[derive(Debug)]
pub struct Observer {
    observed: Observed,
    window_ns: u64,
    first: Option<Look>,
    last: Option<Look>,
}

#[derive(Clone, Debug, Default)]
struct Look {
    at_ns: u64,
    target: Option<Sample>,
    client_ctx_switches: Option<u64>,
    machine: Vec<Vec<u64>>,
}

#[derive(Clone, Debug, Default)]
struct Sample {
    /// By thread, so that one that ends in between is noticed.
    thread_cpu_ns: BTreeMap<u64, u64>,
    /// Of the whole, coarser or exact.
    cpu_ns: u64,
    cpus: Option<u64>,
    ctx_switches: Option<u64>,
    rss_kib: Option<u64>,
}

impl Observer {
    /// Checks that the target can be read.
    ///
    /// # Errors
    /// [`ObserveError`] names what cannot.
    pub fn new(plan: &Plan) -> Result<Self, ObserveError> {
        let window_ns = u64::try_from(plan.duration.as_nanos()).unwrap_or(u64::MAX);
        let observed = plan.observed.clone();
        sample(&observed)?;
        Ok(Self {
            observed,
            window_ns,
            first: None,
            last: None,
        })
    }

    /// Looks when it is time to. Both are in ns of the monotonic clock; `start_ns` is 0 before it is known.
    pub fn poll(&mut self, start_ns: u64, now_ns: u64) {
        if start_ns == 0 || now_ns < start_ns {
            return;
        }
        if self.first.is_none() {
            self.first = Some(self.look(now_ns));
        } else if self.last.is_none() && now_ns - start_ns >= self.window_ns {
            self.last = Some(self.look(now_ns));
        }
    }

    /// The difference; takes the last look where the run ended early.
    pub fn finish(mut self, now_ns: u64) -> Costs {
        let last = match self.last.take() {
            Some(last) => last,
            None => self.look(now_ns),
        };
        let client_rss_kib = status_number(Path::new("/proc/self/status"), "VmHWM:");
        let Some(first) = self.first else {
            return Costs {
                client_rss_kib,
                ..Costs::default()
            };
        };
        let (steal_pct, softirq_pct) = machine_shares(&first.machine, &last.machine);
        Costs {
            client_ctx_switches: difference(first.client_ctx_switches, last.client_ctx_switches),
            client_rss_kib,
            target: target(&self.observed, &first, &last),
            steal_pct,
            softirq_pct,
        }
    }

    fn look(&self, at_ns: u64) -> Look {
        Look {
            at_ns,
            target: sample(&self.observed).ok().flatten(), // A target that is gone has no cost to tell.
            client_ctx_switches: ctx_switches(Path::new("/proc/self/task")),
            machine: machine_times(),
        }
    }
}

impl fmt::Display for ObserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, cause } = self;
        write!(f, "cannot measure {what}: {cause}; check --pid or --cgroup")
    }
}

impl std::error::Error for ObserveError {}

fn target(observed: &Observed, first: &Look, last: &Look) -> Option<Target> {
    let (before, after) = (first.target.as_ref()?, last.target.as_ref()?);
    let lost = before
        .thread_cpu_ns
        .keys()
        .any(|thread| !after.thread_cpu_ns.contains_key(thread));
    let cpu_ns = if lost || after.thread_cpu_ns.is_empty() {
        after.cpu_ns.saturating_sub(before.cpu_ns)
    } else {
        let used = after.thread_cpu_ns.iter().map(|(thread, ns)| {
            ns.saturating_sub(before.thread_cpu_ns.get(thread).copied().unwrap_or(0))
        });
        used.sum()
    };
    let wall_ns = last.at_ns.saturating_sub(first.at_ns);
    let usable = after
        .cpus
        .map(|cpus| cpus.saturating_mul(wall_ns))
        .filter(|ns| *ns > 0);
    Some(Target {
        source: match observed {
            Observed::Group(_) => "cgroup",
            Observed::Nobody | Observed::Processes(_) => "pid",
        },
        cpu_ns,
        busy: usable.map(|usable| ratio(cpu_ns, usable)),
        ctx_switches: difference(before.ctx_switches, after.ctx_switches),
        rss_kib: after.rss_kib,
    })
}

fn sample(observed: &Observed) -> Result<Option<Sample>, ObserveError> {
    match observed {
        Observed::Nobody => Ok(None),
        Observed::Processes(pids) => {
            let mut all = Sample::default();
            let mut threads = 0;
            for pid in pids {
                let one = process(*pid).map_err(|cause| ObserveError {
                    what: format!("process {pid}"),
                    cause,
                })?;
                threads += one.thread_cpu_ns.len() as u64;
                all.thread_cpu_ns.extend(one.thread_cpu_ns);
                all.cpu_ns += one.cpu_ns;
                all.cpus = all.cpus.max(one.cpus);
                all.ctx_switches = sum(all.ctx_switches, one.ctx_switches);
                all.rss_kib = sum(all.rss_kib, one.rss_kib);
            }
            all.cpus = all.cpus.map(|cpus| cpus.min(threads));
            Ok(Some(all))
        }
        Observed::Group(path) => group(path).map(Some).map_err(|cause| ObserveError {
            what: format!("control group {}", path.display()),
            cause,
        }),
    }
}

fn process(pid: u32) -> io::Result<Sample> {
    let dir = PathBuf::from(format!("/proc/{pid}"));
    let stat = fs::read_to_string(dir.join("stat"))?;
    let cpu_ns = stat_cpu_ns(&stat).ok_or(io::ErrorKind::InvalidData)?;
    let mut thread_cpu_ns = BTreeMap::new();
    for entry in fs::read_dir(dir.join("task"))?.flatten() {
        let thread = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let schedstat = fs::read_to_string(entry.path().join("schedstat")).ok();
        let ns = schedstat.and_then(|text| text.split(' ').next()?.parse().ok());
        if let (Some(thread), Some(ns)) = (thread, ns) {
            thread_cpu_ns.insert(thread, ns);
        }
    }
    let status = dir.join("status");
    Ok(Sample {
        thread_cpu_ns,
        cpu_ns,
        cpus: status_text(&status, "Cpus_allowed_list:").and_then(|list| count_list(&list)),
        ctx_switches: ctx_switches(&dir.join("task")),
        rss_kib: status_number(&status, "VmRSS:"),
    })
}

/// Version 2 has `cpu.stat`, version 1 `cpuacct.usage`. A relative path is taken under `/sys/fs/cgroup`.
fn group(path: &Path) -> io::Result<Sample> {
    let path = if path.is_absolute() {
        path.to_owned()
    } else {
        Path::new("/sys/fs/cgroup").join(path)
    };
    let number = |name: &str| -> Option<u64> {
        fs::read_to_string(path.join(name))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    let cpu_ns = match fs::read_to_string(path.join("cpu.stat")) {
        Ok(text) if text.contains("usage_usec") => {
            line_number(&text, "usage_usec").map(|us| us.saturating_mul(1000))
        }
        Ok(_) | Err(_) => number("cpuacct.usage"),
    };
    let cpu_ns = cpu_ns.ok_or_else(|| {
        let text = "neither cpu.stat nor cpuacct.usage can be read there";
        io::Error::new(io::ErrorKind::NotFound, text)
    })?;
    let memory = number("memory.current").or_else(|| number("memory.usage_in_bytes"));
    let cpus = fs::read_to_string(path.join("cpuset.cpus.effective")).ok();
    let own = || status_text(Path::new("/proc/self/status"), "Cpus_allowed_list:");
    Ok(Sample {
        thread_cpu_ns: BTreeMap::new(),
        cpu_ns,
        cpus: cpus.or_else(own).and_then(|list| count_list(list.trim())),
        ctx_switches: None,
        rss_kib: memory.map(|bytes| bytes / 1024),
    })
}

/// User and system time of a whole process. The name may have blanks and brackets, so fields count from its end.
fn stat_cpu_ns(stat: &str) -> Option<u64> {
    let (_name, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks.saturating_mul(NANOS_PER_TICK))
}

fn ctx_switches(tasks: &Path) -> Option<u64> {
    let mut all = None;
    for entry in fs::read_dir(tasks).ok()?.flatten() {
        let status = fs::read_to_string(entry.path().join("status")).ok();
        let Some(status) = status else { continue }; // The thread ended meanwhile.
        for name in ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"] {
            all = sum(all, line_number(&status, name));
        }
    }
    all
}

fn status_text(status: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.map(|value| value.trim().to_owned())
}

fn status_number(status: &Path, name: &str) -> Option<u64> {
    status_text(status, name)?.split(' ').next()?.parse().ok()
}

/// The number after a name at a line's start.
fn line_number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// How many CPUs `0-3,7` are.
fn count_list(list: &str) -> Option<u64> {
    let mut count = 0_u64;
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(count)
}

/// The lines `cpu`, `cpu0`, `cpu1` and so on of `/proc/stat`.
pub(crate) fn machine_times() -> Vec<Vec<u64>> {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let lines = text.lines().take_while(|line| line.starts_with("cpu"));
    lines
        .map(|line| {
            line.split_whitespace()
                .skip(1)
                .filter_map(|word| word.parse().ok())
                .collect()
        })
        .collect()
}

/// Steal, and soft interrupts by CPU, in percent of the time between two looks.
pub(crate) fn machine_shares(before: &[Vec<u64>], after: &[Vec<u64>]) -> (Option<f64>, Vec<f64>) {
    let percent = |(before, after): (&Vec<u64>, &Vec<u64>), field: usize| {
        let used: Vec<u64> = before
            .iter()
            .zip(after)
            .map(|(b, a)| a.saturating_sub(*b))
            .collect();
        let all: u64 = used.iter().take(GUEST_FIELD).sum(); // Guests' time is in the user's already.
        let part = used.get(field).copied()?;
        (all > 0).then(|| (ratio(part, all) * 1000.0).round() / 10.0)
    };
    let mut pairs = before.iter().zip(after);
    let steal = pairs.next().and_then(|all| percent(all, STEAL_FIELD));
    (
        steal,
        pairs
            .filter_map(|one| percent(one, SOFTIRQ_FIELD))
            .collect(),
    )
}

fn difference(before: Option<u64>, after: Option<u64>) -> Option<u64> {
    Some(after?.saturating_sub(before?))
}

fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a share, shown with a few digits"
)]
fn ratio(part: u64, all: u64) -> f64 {
    part as f64 / all as f64
}

/// `/proc/PID/stat` counts in hundredths of a second on every Linux that this runs on.
const NANOS_PER_TICK: u64 = 10_000_000;
const SOFTIRQ_FIELD: usize = 6;
const STEAL_FIELD: usize = 7;
const GUEST_FIELD: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_past_any_name() {
        let stat = "7 (a) b) R 1 1 1 0 -1 4194304 1 2 3 4 150 50 0 0 20 0 1 0";
        assert_eq!(stat_cpu_ns(stat), Some(2_000_000_000));
        assert_eq!(stat_cpu_ns("7 (a"), None);
        assert_eq!(stat_cpu_ns("7 (a) R 1"), None);
    }

    #[test]
    fn lists_of_cpus_are_counted() {
        for (list, want) in [
            ("0", Some(1)),
            ("0-3,7", Some(5)),
            ("", None),
            ("3-1", None),
            ("0-18446744073709551615", None),
        ] {
            assert_eq!(count_list(list), want, "{list}");
        }
    }

    #[test]
    fn this_process_can_be_observed() {
        let observed = Observed::Processes(vec![std::process::id()]);
        let sample = sample(&observed).unwrap().unwrap();
        assert!(!sample.thread_cpu_ns.is_empty());
        assert!(sample.rss_kib.unwrap() > 0);
        assert!(sample.ctx_switches.is_some() && sample.cpus.is_some());
    }

    #[test]
    fn what_cannot_be_observed_is_named() {
        let error = sample(&Observed::Processes(vec![u32::MAX])).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot measure process 4294967295: "),
            "{error}"
        );
        let error = sample(&Observed::Group(PathBuf::from("/nonexistent"))).unwrap_err();
        assert!(error.to_string().contains("/nonexistent"), "{error}");
    }

    #[test]
    fn a_thread_that_ends_in_between_falls_back_to_the_process() {
        let look = |threads: &[(u64, u64)], cpu_ns, at_ns| Look {
            at_ns,
            target: Some(Sample {
                thread_cpu_ns: threads.iter().copied().collect(),
                cpu_ns,
                cpus: Some(1),
                ..Sample::default()
            }),
            ..Look::default()
        };
        let used =
            |first: &Look, last: &Look| target(&Observed::Processes(vec![1]), first, last).unwrap();
        let first = look(&[(1, 100), (2, 50)], 0, 0);
        let same = used(&first, &look(&[(1, 300), (2, 50), (3, 7)], 1000, 414));
        assert_eq!(same.cpu_ns, 207);
        assert_eq!(same.busy, Some(0.5));
        assert_eq!(used(&first, &look(&[(1, 300)], 1000, 414)).cpu_ns, 1000);
    }

    #[test]
    fn shares_of_the_machine_are_percent() {
        let before = vec![vec![0; 10], vec![0; 10]];
        let after = vec![
            vec![50, 0, 0, 40, 0, 0, 5, 5, 50, 0],
            vec![50, 0, 0, 25, 0, 0, 25, 0, 0, 0],
        ];
        assert_eq!(machine_shares(&before, &after), (Some(5.0), vec![25.0]));
    }
}
