//! Control groups that keep programs to CPUs, of version 1 or 2, whichever has the controller `cpuset` and lets us make groups.
//!
//! Two groups are made beside the harness, which stays where it is: one for measured servers, one for load and backends. They
//! are removed when this is dropped, and those that a killed harness left behind when the next one begins.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Seat, listed, works};

/// The groups of a session.
#[derive(Debug)]
pub(super) struct Cpusets {
    server: PathBuf,
    others: PathBuf,
}

impl Cpusets {
    /// Makes both groups, and tries whether a program can be started in them; none where anything fails.
    pub(super) fn make(server: u32, others: &[u32]) -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        Self::make_in(&home(&own, &mounts)?, &[server], others)
    }

    fn make_in(home: &Path, server: &[u32], others: &[u32]) -> Option<Self> {
        sweep(home);
        let (process, number) = (std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let name = |seat: &str| home.join(format!("{PREFIX}{process}-{number}-{seat}"));
        let cpusets = Self {
            server: name("server"),
            others: name("others"),
        };
        // Dropped where a step fails, and with it what was made.
        for (folder, cpus) in [(&cpusets.server, server), (&cpusets.others, others)] {
            fs::create_dir(folder).ok()?;
            let memory = fs::read_to_string(home.join(MEMORY_FILE)).unwrap_or_default();
            if !memory.trim().is_empty() {
                fs::write(folder.join(MEMORY_FILE), memory.trim()).ok()?;
            }
            fs::write(folder.join(CPUS_FILE), listed(cpus)).ok()?;
        }
        for seat in [Seat::Server, Seat::Others] {
            let words = cpusets.words(seat);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let (shell, rest) = words.split_first()?;
            if !works(shell, rest) {
                return None;
            }
        }
        Some(cpusets)
    }

    /// Words before a program's own that start it in its group.
    pub(super) fn words(&self, seat: Seat) -> Vec<String> {
        let folder = match seat {
            Seat::Server => &self.server,
            Seat::Others | Seat::Free => &self.others,
        };
        let folder = folder.display().to_string();
        ["sh", "-c", JOIN]
            .map(str::to_owned)
            .into_iter()
            .chain([folder])
            .collect()
    }
}

impl Drop for Cpusets {
    fn drop(&mut self) {
        for folder in [&self.server, &self.others] {
            match fs::remove_dir(folder) {
                Ok(()) | Err(_) => (), // Who still ends keeps it; the next session removes it.
            }
        }
    }
}

/// Removes the groups of harnesses that are no more; the kernel keeps those that somebody is in.
fn sweep(home: &Path) {
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            match fs::remove_dir(entry.path()) {
                Ok(()) | Err(_) => (), // Something that the dead one started still runs.
            }
        }
    }
}

/// Tells the groups of one process apart.
static MADE: AtomicU32 = AtomicU32::new(0);

/// The folder of the group that this process is in, of the hierarchy that has the controller: `/proc/self/cgroup` says which
/// group (cgroups(7)), `/proc/self/mounts` where the hierarchy is.
fn home(own: &str, mounts: &str) -> Option<PathBuf> {
    let mount = |kind: &str, option: &str| {
        mounts.lines().find_map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let [_device, place, found, options, ..] = words[..] else {
                return None;
            };
            let has_option = option.is_empty() || options.split(',').any(|one| one == option);
            (found == kind && has_option).then(|| PathBuf::from(place))
        })
    };
    let group = |is_asked: &dyn Fn(&str) -> bool| {
        own.lines().find_map(|line| {
            let (_number, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            is_asked(controllers).then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let version_1 = mount("cgroup", CONTROLLER).zip(group(&|names| {
        names.split(',').any(|name| name == CONTROLLER)
    }));
    let found = version_1.or_else(|| mount("cgroup2", "").zip(group(&str::is_empty)));
    let (place, group) = found?;
    Some(place.join(group))
}

const CONTROLLER: &str = "cpuset";
const CPUS_FILE: &str = "cpuset.cpus";
const MEMORY_FILE: &str = "cpuset.mems";
const PREFIX: &str = "hp-harness-";
/// The shell moves itself, and becomes the program.
const JOIN: &str = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_the_controller_is_found_in_both_versions() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
            cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0\n\
            cgroup /sys/fs/cgroup/cpuset cgroup rw,relatime,cpuset 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        let own = "5:cpu,cpuacct:/a\n3:cpuset:/b/c\n0::/d\n";
        assert_eq!(home(own, mounts), Some("/sys/fs/cgroup/cpuset/b/c".into()));
        let only_2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
        assert_eq!(
            home("0::/user.slice\n", only_2),
            Some("/sys/fs/cgroup/user.slice".into())
        );
        assert_eq!(home("0::/\n", only_2), Some("/sys/fs/cgroup/".into()));
        assert_eq!(home("", only_2), None);
        assert_eq!(home(own, ""), None);
    }

    #[test]
    fn where_no_group_can_be_joined_there_is_none_and_nothing_stays() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("hp-harness-99999999-0-server")).unwrap(); // Left behind, and empty.
        assert!(Cpusets::make_in(&folder.path().join("absent"), &[0], &[1]).is_none());
        sweep(folder.path());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    /// Where groups may be made, a program in one sees its CPUs alone; where not, there is nothing to see.
    #[test]
    fn a_program_in_a_group_has_its_cpus() {
        let cpus = crate::machine::cpus_allowed();
        let [first, others @ ..] = cpus.as_slice() else {
            return;
        };
        let Some(cpusets) = (!others.is_empty())
            .then(|| Cpusets::make(*first, others))
            .flatten()
        else {
            return;
        };
        let words = cpusets.words(Seat::Server);
        let output = std::process::Command::new(&words[0])
            .args(&words[1..])
            .args(["grep", "Cpus_allowed_list", "/proc/self/status"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            text.split_whitespace().last(),
            Some(first.to_string().as_str())
        );
        let folder = cpusets.server.clone();
        drop(cpusets);
        assert!(!folder.exists());
    }
}
