//! CPU time of process trees, from `/proc/PID/stat`. Knows no program.
//!
//! The kernel scales user plus system time to what the scheduler counted, so their sum is exact to a tick; how it is
//! split between the two is sampled, which is why only the sum is kept.

use std::fs;
use std::process::Command;

/// One process at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// The process.
    pub pid: u32,
    /// Its parent.
    pub parent: u32,
    /// User and system time in clock ticks, its own and that of children that it has waited for.
    pub ticks: u64,
}

/// All processes at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot(Vec<Stat>);

impl Snapshot {
    /// Reads `/proc`; processes that end meanwhile are left out.
    pub fn take() -> Self {
        let mut stats = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let is_process = entry
                .file_name()
                .to_string_lossy()
                .starts_with(|c: char| c.is_ascii_digit());
            if is_process && let Ok(text) = fs::read(entry.path().join("stat")) {
                stats.extend(parse_stat(&String::from_utf8_lossy(&text)));
            }
        }
        Self(stats)
    }

    /// Ticks of a process and all its living descendants; none when the process is gone.
    pub fn tree_ticks(&self, root: u32) -> Option<u64> {
        let mut ticks = self.0.iter().find(|stat| stat.pid == root)?.ticks;
        let mut tree = vec![root];
        let mut next = 0;
        while let Some(&parent) = tree.get(next) {
            next += 1;
            for stat in self.0.iter().filter(|stat| stat.parent == parent) {
                // Processes are read one after the other: a number that came back may look like its own ancestor.
                if !tree.contains(&stat.pid) {
                    ticks += stat.ticks;
                    tree.push(stat.pid);
                }
            }
        }
        Some(ticks)
    }
}

/// The tree's CPU time between two moments, in ns; none when the process is missing in either.
pub fn spent_ns(
    before: &Snapshot,
    after: &Snapshot,
    root: u32,
    ticks_per_second: u64,
) -> Option<u64> {
    let ticks = after
        .tree_ticks(root)?
        .saturating_sub(before.tree_ticks(root)?);
    Some(ticks * 1_000_000_000 / ticks_per_second)
}

/// Clock ticks per second, as the kernel counts them towards programs.
pub fn ticks_per_second() -> u64 {
    let output = Command::new("getconf").arg("CLK_TCK").output();
    let printed = output
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok());
    let ticks = printed.and_then(|text| text.trim().parse().ok());
    ticks.filter(|&ticks| ticks > 0).unwrap_or(USER_HZ)
}

/// Reads the text of one `/proc/PID/stat`. The name, which may hold spaces and brackets, ends at the last `)`.
///
/// proc_pid_stat(5), fields 1, 4 and 14 to 17.
pub fn parse_stat(text: &str) -> Option<Stat> {
    let (pid, rest) = text.split_once(" (")?;
    let (_name, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split_ascii_whitespace().skip(1); // the state
    let parent = fields.next()?.parse().ok()?;
    let mut ticks = 0u64;
    for field in fields.skip(9).take(4).collect::<Vec<_>>() {
        ticks = ticks.checked_add(field.parse().ok()?)?;
    }
    Some(Stat {
        pid: pid.parse().ok()?,
        parent,
        ticks,
    })
}

const USER_HZ: u64 = 100; // every architecture that we run on

#[cfg(test)]
mod tests {
    use super::*;

    fn check_stat(name: &str) {
        let text = format!(
            "4711 ({name}) S 4242 4711 4242 34816 4711 4194304 100 200 3 4 1000 200 30 4 20 0 1 0 99 1 2\n"
        );
        assert_eq!(
            parse_stat(&text),
            Some(Stat {
                pid: 4711,
                parent: 4242,
                ticks: 1234
            }),
            "{name}"
        );
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
        ] {
            let parsed = parse_stat(text);
            assert!(parsed.is_none_or(|stat| stat.ticks == 0), "{text}");
        }
    }

    #[test]
    fn a_tree_counts_every_descendant_once() {
        let stat = |pid, parent, ticks| Stat { pid, parent, ticks };
        let snapshot = Snapshot(vec![
            stat(1, 0, 1_000),
            stat(30, 20, 4),
            stat(20, 10, 2),
            stat(10, 1, 1),
            stat(21, 10, 8),
            stat(99, 1, 500),
        ]);
        assert_eq!(snapshot.tree_ticks(10), Some(15));
        assert_eq!(snapshot.tree_ticks(11), None);
    }

    #[test]
    fn this_process_is_in_the_snapshot() {
        let snapshot = Snapshot::take();
        assert!(snapshot.tree_ticks(std::process::id()).is_some());
        assert_eq!(
            spent_ns(&snapshot, &snapshot, std::process::id(), ticks_per_second()),
            Some(0)
        );
    }
}
