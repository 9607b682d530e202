//! What process trees and the machine use, from `/proc`. Knows no program.
//!
//! A thread's time on its CPU comes from `/proc/PID/task/TID/schedstat`, in ns as the scheduler counts it. Only where a
//! thread ended between two looks, and took its count along, does `/proc/PID/stat` stand in, which is exact to a tick.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::raw::{MachineUsage, Usage};

/// One process at one moment, as `/proc/PID/stat` has it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Stat {
    /// The process.
    pub pid: u32,
    /// Its parent.
    pub parent: u32,
    /// Page faults without input or output.
    pub minor_faults: u64,
    /// User time in clock ticks.
    pub user_ticks: u64,
    /// System time in clock ticks.
    pub sys_ticks: u64,
    /// Both of children that it has waited for.
    pub children_ticks: u64,
}

/// One moment: all processes, the CPUs, and the trees that were asked for.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// When, in ns of the monotonic clock.
    pub at_ns: u64,
    stats: BTreeMap<u32, Stat>,
    cpus: Vec<Vec<u64>>,
    trees: BTreeMap<u32, Tree>,
}

/// The sums of one process tree.
#[derive(Clone, Debug, Default)]
struct Tree {
    /// By thread, so that one that ends in between is noticed.
    thread_cpu_ns: BTreeMap<u32, u64>,
    user_ticks: u64,
    sys_ticks: u64,
    minor_faults: u64,
    switches_voluntary: u64,
    switches_involuntary: u64,
    processes: u32,
}

impl Look {
    /// Looks at everything, and at the trees of these processes in detail. What ends meanwhile is left out.
    pub fn take(roots: &[u32], at_ns: u64) -> Self {
        let stats = stats();
        let trees = roots
            .iter()
            .map(|&root| (root, Tree::read(&members(&stats, root))));
        Self {
            at_ns,
            trees: trees.collect(),
            cpus: parse_cpu_times(&fs::read_to_string("/proc/stat").unwrap_or_default()),
            stats,
        }
    }

    /// What the tree of a process used since an earlier look; without figures where either look misses it.
    pub fn usage_since(&self, before: &Self, root: u32) -> Usage {
        let (Some(first), Some(last)) = (before.trees.get(&root), self.trees.get(&root)) else {
            return Usage::default();
        };
        if first.processes == 0 || last.processes == 0 {
            return Usage::default();
        }
        let user = last.user_ticks.saturating_sub(first.user_ticks);
        let sys = last.sys_ticks.saturating_sub(first.sys_ticks);
        let cpu_ns = cpu_between(first, last, user + sys);
        let user_ns = share(cpu_ns, user, user + sys);
        Usage {
            cpu_ns: Some(cpu_ns),
            user_ns,
            sys_ns: user_ns.map(|user_ns| cpu_ns - user_ns),
            switches_voluntary: Some(
                last.switches_voluntary
                    .saturating_sub(first.switches_voluntary),
            ),
            switches_involuntary: Some(
                last.switches_involuntary
                    .saturating_sub(first.switches_involuntary),
            ),
            minor_faults: Some(last.minor_faults.saturating_sub(first.minor_faults)),
            pss_kib: None,
            private_dirty_kib: None,
            processes: Some(last.processes),
        }
    }

    /// What the machine did since an earlier look. Processes outside of the tree of `ours` are foreign, those of the
    /// kernel apart.
    pub fn machine_since(&self, before: &Self, ours: u32) -> MachineUsage {
        let times = cpu_shares(&before.cpus, &self.cpus);
        let foreign = |look: &Self| foreign_ticks(&look.stats, ours);
        let ticks = foreign(self).saturating_sub(foreign(before));
        MachineUsage {
            elapsed_ns: self.at_ns.saturating_sub(before.at_ns),
            steal_pct: times.steal_pct,
            softirq_pct: times.softirq_pct,
            busy_pct: times.busy_pct,
            foreign_cpu_ns: Some(ticks * TICK_NS),
        }
    }
}

/// A process and all its living descendants, as one look found them.
pub fn tree(root: u32) -> Vec<u32> {
    members(&stats(), root)
}

/// Adds what a tree has in memory, in KiB: shared pages by their users' number, and its own written ones.
pub fn add_memory(usage: &mut Usage, root: u32) {
    let (mut pss, mut dirty) = (None, None);
    for pid in tree(root) {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        pss = sum(pss, line_number(&text, "Pss:"));
        dirty = sum(dirty, line_number(&text, "Private_Dirty:"));
    }
    usage.pss_kib = pss;
    usage.private_dirty_kib = dirty;
}

/// The number after a name at a line's start.
pub fn line_number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Reads the text of one `/proc/PID/stat`. The name, which may hold spaces and brackets, ends at the last `)`.
///
/// proc_pid_stat(5), fields 1, 4, 10 and 14 to 17.
pub fn parse_stat(text: &str) -> Option<Stat> {
    let (pid, rest) = text.split_once(" (")?;
    let (_name, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().take(15).collect();
    let number = |field: usize| -> Option<u64> { fields.get(field - 3)?.parse().ok() };
    Some(Stat {
        pid: pid.parse().ok()?,
        parent: u32::try_from(number(4)?).ok()?,
        minor_faults: number(10)?,
        user_ticks: number(14)?,
        sys_ticks: number(15)?,
        children_ticks: number(16)?.checked_add(number(17)?)?,
    })
}

impl Tree {
    fn read(pids: &[u32]) -> Self {
        let mut tree = Self::default();
        for pid in pids {
            let folder = PathBuf::from(format!("/proc/{pid}"));
            let stat = fs::read(folder.join("stat")).unwrap_or_default();
            let Some(stat) = parse_stat(&String::from_utf8_lossy(&stat)) else {
                continue; // It ended since the list was made.
            };
            tree.processes += 1;
            tree.user_ticks += stat.user_ticks;
            tree.sys_ticks += stat.sys_ticks;
            tree.minor_faults += stat.minor_faults;
            tree.add_threads(&folder.join("task"));
        }
        tree
    }

    fn add_threads(&mut self, tasks: &Path) {
        for entry in fs::read_dir(tasks).into_iter().flatten().flatten() {
            let thread = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            let schedstat = fs::read_to_string(entry.path().join("schedstat")).unwrap_or_default();
            let ns = schedstat
                .split_ascii_whitespace()
                .next()
                .and_then(|ns| ns.parse().ok());
            let (Some(thread), Some(ns)) = (thread, ns) else {
                continue; // It ended meanwhile.
            };
            self.thread_cpu_ns.insert(thread, ns);
            let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            self.switches_voluntary +=
                line_number(&status, "voluntary_ctxt_switches:").unwrap_or(0);
            self.switches_involuntary +=
                line_number(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
        }
    }
}

/// The threads' sum; where one of them ended, or the kernel counts no ns, the ticks where they say more.
fn cpu_between(first: &Tree, last: &Tree, ticks: u64) -> u64 {
    let threads = last.thread_cpu_ns.iter();
    let sum: u64 = threads
        .map(|(thread, ns)| {
            ns.saturating_sub(first.thread_cpu_ns.get(thread).copied().unwrap_or(0))
        })
        .sum();
    let lost = first
        .thread_cpu_ns
        .keys()
        .any(|thread| !last.thread_cpu_ns.contains_key(thread));
    if lost || last.thread_cpu_ns.is_empty() {
        sum.max(ticks * TICK_NS)
    } else {
        sum
    }
}

/// `part` of `whole`, applied to an amount; none of nothing.
fn share(amount: u64, part: u64, whole: u64) -> Option<u64> {
    let scaled = u128::from(amount) * u128::from(part) / u128::from(whole).max(1);
    u64::try_from(scaled).ok().filter(|_| whole > 0)
}

/// All processes; those that end meanwhile are left out.
fn stats() -> BTreeMap<u32, Stat> {
    let mut stats = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let is_process = entry
            .file_name()
            .to_string_lossy()
            .starts_with(|c: char| c.is_ascii_digit());
        if is_process
            && let Ok(text) = fs::read(entry.path().join("stat"))
            && let Some(stat) = parse_stat(&String::from_utf8_lossy(&text))
        {
            stats.insert(stat.pid, stat);
        }
    }
    stats
}

/// A process and its descendants; nothing where it is gone. Processes are read one after the other, so a number that
/// came back may look like its own ancestor: each is taken once.
fn members(stats: &BTreeMap<u32, Stat>, root: u32) -> Vec<u32> {
    if !stats.contains_key(&root) {
        return Vec::new();
    }
    let mut tree = vec![root];
    let mut seen = BTreeSet::from([root]);
    let mut next = 0;
    while let Some(&parent) = tree.get(next) {
        next += 1;
        for stat in stats.values().filter(|stat| stat.parent == parent) {
            if seen.insert(stat.pid) {
                tree.push(stat.pid);
            }
        }
    }
    tree
}

/// Ticks of all processes outside of a tree, with those of the children that they have waited for: what a process that
/// ends has used moves to its parent, and is not lost. The kernel's own threads work for whoever keeps it busy.
fn foreign_ticks(stats: &BTreeMap<u32, Stat>, ours: u32) -> u64 {
    let own: BTreeSet<u32> = members(stats, ours).into_iter().collect();
    let foreign = stats
        .values()
        .filter(|stat| !own.contains(&stat.pid) && stat.pid != KTHREADD && stat.parent != KTHREADD);
    foreign
        .map(|stat| stat.user_ticks + stat.sys_ticks + stat.children_ticks)
        .sum()
}

struct Shares {
    steal_pct: Option<f64>,
    softirq_pct: Vec<f64>,
    busy_pct: Vec<f64>,
}

/// The lines `cpu0`, `cpu1` and so on of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal.
fn parse_cpu_times(text: &str) -> Vec<Vec<u64>> {
    let lines = text
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with("cpu"));
    lines
        .map(|line| {
            line.split_ascii_whitespace()
                .skip(1)
                .take(8)
                .filter_map(|word| word.parse().ok())
                .collect()
        })
        .collect()
}

fn cpu_shares(before: &[Vec<u64>], after: &[Vec<u64>]) -> Shares {
    let mut shares = Shares {
        steal_pct: None,
        softirq_pct: Vec::new(),
        busy_pct: Vec::new(),
    };
    let (mut steal, mut all) = (0, 0);
    for (before, after) in before.iter().zip(after) {
        let spent: Vec<u64> = after
            .iter()
            .zip(before)
            .map(|(after, before)| after.saturating_sub(*before))
            .collect();
        let [user, nice, system, _idle, _iowait, irq, softirq, stolen] = spent[..] else {
            continue; // A kernel that counts less has no shares to tell.
        };
        let total: u64 = spent.iter().sum();
        let percent = |part: u64| {
            if total == 0 {
                0.0
            } else {
                tenth(part as f64 * 100.0 / total as f64)
            }
        };
        shares.softirq_pct.push(percent(softirq));
        shares
            .busy_pct
            .push(percent(user + nice + system + irq + softirq));
        steal += stolen;
        all += total;
    }
    if all > 0 {
        shares.steal_pct = Some(tenth(steal as f64 * 100.0 / all as f64));
    }
    shares
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}

/// The kernel shows its ticks to programs as 100 a second on every architecture that we run on.
const TICK_NS: u64 = 10_000_000;
const KTHREADD: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn check_stat(name: &str) {
        let text = format!(
            "4711 ({name}) S 4242 4711 4242 34816 4711 4194304 100 200 3 4 1000 200 30 4 20 0 1 0 99 1 2\n"
        );
        let expected = Stat {
            pid: 4711,
            parent: 4242,
            minor_faults: 100,
            user_ticks: 1000,
            sys_ticks: 200,
            children_ticks: 34,
        };
        assert_eq!(parse_stat(&text), Some(expected), "{name}");
    }

    #[test]
    fn odd_process_names_do_not_shift_fields() {
        for name in [
            "hp-proxy",
            "tmux: server",
            "a) S 1 2 (b",
            "(sd-pam)",
            ") ",
            "",
            "x y (z) 1 2",
        ] {
            check_stat(name);
        }
    }

    #[test]
    fn cut_text_is_no_process() {
        for text in [
            "",
            "4711",
            "4711 (x",
            "4711 (x) ",
            "4711 (x) S 1 2 3",
            "a (x) S 1",
            "1 (x) S -1 2 3 4 5 6 7 8 9 1 1 1 1 1 1",
        ] {
            assert_eq!(parse_stat(text), None, "{text}");
        }
    }

    fn process(pid: u32, parent: u32, user_ticks: u64, children_ticks: u64) -> (u32, Stat) {
        let stat = Stat {
            pid,
            parent,
            user_ticks,
            children_ticks,
            ..Stat::default()
        };
        (pid, stat)
    }

    #[test]
    fn a_tree_has_every_descendant_once() {
        let stats = BTreeMap::from([
            process(1, 0, 0, 0),
            process(30, 20, 0, 0),
            process(20, 10, 0, 0),
            process(10, 1, 0, 0),
            process(21, 10, 0, 0),
        ]);
        assert_eq!(members(&stats, 10), [10, 20, 21, 30]);
        assert!(members(&stats, 11).is_empty());
        let loop_of_numbers = BTreeMap::from([process(5, 6, 0, 0), process(6, 5, 0, 0)]);
        assert_eq!(members(&loop_of_numbers, 5), [5, 6]);
    }

    #[test]
    fn foreign_time_survives_the_end_of_its_process() {
        let before = BTreeMap::from([
            process(1, 0, 10, 0),
            process(7, 1, 40, 0),
            process(9, 1, 500, 0),
        ]);
        let after = BTreeMap::from([process(1, 0, 10, 55), process(9, 1, 900, 0)]);
        assert_eq!(foreign_ticks(&after, 9) - foreign_ticks(&before, 9), 15);
    }

    #[test]
    fn threads_of_the_kernel_are_not_foreign() {
        let stats = BTreeMap::from([
            process(1, 0, 1, 0),
            process(2, 0, 100, 0),
            process(12, 2, 100, 0),
            process(9, 1, 100, 0),
        ]);
        assert_eq!(foreign_ticks(&stats, 9), 1);
    }

    #[test]
    fn a_thread_that_ended_lets_the_ticks_speak() {
        let tree = |threads: &[(u32, u64)]| Tree {
            thread_cpu_ns: threads.iter().copied().collect(),
            ..Tree::default()
        };
        let first = tree(&[(1, 1_000), (2, 5_000)]);
        assert_eq!(
            cpu_between(&first, &tree(&[(1, 3_000), (2, 5_500), (3, 100)]), 0),
            2_600
        );
        assert_eq!(cpu_between(&first, &tree(&[(1, 3_000)]), 2), 20_000_000);
        assert_eq!(cpu_between(&first, &tree(&[]), 1), 10_000_000);
    }

    #[test]
    fn shares_are_of_each_cpu() {
        let before = parse_cpu_times(
            "cpu 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\ncpu1 10 0 0 0 0 0 0 0 0 0\nintr 5\n",
        );
        let after = parse_cpu_times(
            "cpu 0 0 0 0 0 0 0 0\ncpu0 40 0 40 10 0 0 10 0 0 0\ncpu1 10 0 0 90 0 0 0 10 0 0\nintr 5\n",
        );
        let shares = cpu_shares(&before, &after);
        assert_eq!(shares.busy_pct, [90.0, 0.0]);
        assert_eq!(shares.softirq_pct, [10.0, 0.0]);
        assert_eq!(shares.steal_pct, Some(5.0));
    }

    #[test]
    fn this_process_is_seen() {
        let me = std::process::id();
        let first = Look::take(&[me], 1);
        let last = Look::take(&[me], 2);
        let mut usage = last.usage_since(&first, me);
        assert!(usage.cpu_ns.is_some() && usage.processes >= Some(1));
        add_memory(&mut usage, me);
        assert!(usage.pss_kib > Some(0));
        assert_eq!(last.usage_since(&first, u32::MAX), Usage::default());
        assert_eq!(last.machine_since(&first, me).elapsed_ns, 1);
    }
}
