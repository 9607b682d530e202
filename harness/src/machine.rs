//! What a number depends on besides the code: the machine, its kernel and its settings. No host name, no address.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::clock::Utc;
use crate::process::Launcher;
use crate::sweep::Plan;

/// The machine and the session's identity, as `machine.json` keeps them. A fact that cannot be read is null.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// The class of the machine, such as `2cpu-epyc-linux6.18`.
    pub slug: String,
    /// The day of the session, in UTC.
    pub date: String,
    /// The second at which it began, in UTC.
    pub started: String,
    /// Short hash of the commit, or `uncommitted`.
    pub commit: String,
    /// Whether the work tree, results apart, differs from the commit.
    pub dirty: bool,
    /// The command line that repeats the session.
    pub command: String,
    /// The seed of orders and intervals.
    pub seed: u64,
    /// How single-worker servers were kept apart from the load.
    pub pinning: String,
    /// Model of the processor.
    pub cpu_model: String,
    /// Processors, as the kernel shows them.
    pub cpus: u32,
    /// Release of the kernel.
    pub kernel: String,
    /// Frequency governor of the first processor.
    pub governor: Option<String>,
    /// Mitigations in force, those that the processor does not need left out.
    pub mitigations: String,
    /// Memory in MiB.
    pub memory_mib: Option<u64>,
    /// Version of the compiler.
    pub rustc: Option<String>,
    /// Default congestion control of TCP.
    pub tcp_congestion_control: Option<String>,
    /// Soft limit of open files.
    pub open_files: Option<String>,
    /// `kernel.io_uring_disabled`.
    pub io_uring_disabled: Option<String>,
}

impl Machine {
    /// Reads everything; a fact that cannot be read is left out, and stops nothing.
    pub fn read(plan: &Plan, launcher: &Launcher, started: Utc) -> Self {
        let (cpu_model, cpus) = parse_cpuinfo(&line_or_text("/proc/cpuinfo").unwrap_or_default());
        let kernel = line_or_text("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into());
        let limits = line_or_text("/proc/self/limits").unwrap_or_default();
        let memory = line_or_text("/proc/meminfo").unwrap_or_default();
        Self {
            schema: SCHEMA.into(),
            slug: slug(cpus, &cpu_model, &kernel),
            date: started.date(),
            started: started.stamp(),
            commit: printed(
                "git",
                &["rev-parse", "--short", "--verify", "--quiet", "HEAD"],
            )
            .unwrap_or_else(|| "uncommitted".into()),
            dirty: printed(
                "git",
                &["status", "--porcelain", "--", ":/", ":(top,exclude)results"],
            )
            .is_some(),
            command: plan.command(),
            seed: plan.seed,
            pinning: launcher.pinning().to_string(),
            cpu_model,
            cpus,
            kernel,
            governor: line_or_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            mitigations: mitigations(Path::new("/sys/devices/system/cpu/vulnerabilities")),
            memory_mib: parse_memory_mib(&memory),
            rustc: printed("rustc", &["--version"]),
            tcp_congestion_control: line_or_text("/proc/sys/net/ipv4/tcp_congestion_control"),
            open_files: parse_open_files(&limits),
            io_uring_disabled: line_or_text("/proc/sys/kernel/io_uring_disabled"),
        }
    }

    /// The commit's folder name: `abc1234`, or `abc1234-dirty`.
    pub fn commit_name(&self) -> String {
        let Self { commit, dirty, .. } = self;
        if *dirty {
            format!("{commit}-dirty")
        } else {
            commit.clone()
        }
    }

    /// The machine in one line.
    pub fn line(&self) -> String {
        let memory = self
            .memory_mib
            .map(|mib| format!("{mib} MiB"))
            .unwrap_or_else(|| "unknown memory".into());
        let known = |fact: &Option<String>| fact.clone().unwrap_or_else(|| "unknown".into());
        format!(
            "{} CPU {}, {memory}, Linux {}, governor {}, tcp {}, open files {}, {}; pinning: {}",
            self.cpus,
            self.cpu_model,
            self.kernel,
            known(&self.governor),
            known(&self.tcp_congestion_control),
            known(&self.open_files),
            known(&self.rustc),
            self.pinning,
        )
    }
}

/// The processors that this process may run on, in rising order.
pub fn cpus_allowed() -> Vec<u32> {
    let status = line_or_text("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    parse_cpu_list(line.unwrap_or_default())
}

/// The class of a machine, such as `2cpu-epyc-linux6.18`: letters, digits, dots and hyphens only.
pub fn slug(cpus: u32, cpu_model: &str, kernel: &str) -> String {
    let model = cpu_model
        .replace("(R)", " ")
        .replace("(TM)", " ")
        .to_ascii_lowercase();
    let words: Vec<&str> = model
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    let family = FAMILIES
        .iter()
        .find(|family| words.contains(family))
        .copied();
    let family = family
        .or_else(|| words.iter().copied().find(|word| !MAKERS.contains(word)))
        .unwrap_or("unknown");
    let mut parts = kernel
        .split(|c: char| !c.is_ascii_digit())
        .filter(|part| !part.is_empty());
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) => format!("{cpus}cpu-{family}-linux{major}.{minor}"),
        _ => format!("{cpus}cpu-{family}-linux"),
    }
}

/// Model and number of processors from `/proc/cpuinfo`.
pub fn parse_cpuinfo(text: &str) -> (String, u32) {
    let value = |line: &str, key: &str| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == key).then(|| value.trim().to_owned())
    };
    let model = ["model name", "Model", "cpu model", "uarch"]
        .iter()
        .find_map(|key| text.lines().find_map(|line| value(line, key)));
    let cpus = text
        .lines()
        .filter_map(|line| value(line, "processor"))
        .count();
    (
        model.unwrap_or_else(|| "unknown".into()),
        u32::try_from(cpus).unwrap_or(u32::MAX),
    )
}

/// Reads a kernel list such as `0-1,4`; what is no number is left out.
pub fn parse_cpu_list(text: &str) -> Vec<u32> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
            cpus.extend(first..=last.min(CPUS_MAX));
        }
    }
    cpus
}

/// Total memory in MiB from `/proc/meminfo`.
fn parse_memory_mib(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

/// The soft limit of open files from `/proc/self/limits`.
fn parse_open_files(text: &str) -> Option<String> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next().map(str::to_owned)
}

/// `name: state` of every vulnerability that concerns this processor, sorted by name.
fn mitigations(folder: &Path) -> String {
    let mut states = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let state = fs::read_to_string(entry.path()).unwrap_or_default();
        if !state.trim().is_empty() && state.trim() != "Not affected" {
            states.push(format!(
                "{}: {}",
                entry.file_name().to_string_lossy(),
                state.trim()
            ));
        }
    }
    states.sort();
    states.join(" | ")
}

/// A file's text without blanks around it; none when it is empty or unreadable.
fn line_or_text(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// What a program prints, without blanks around it; none when it prints nothing or fails.
fn printed(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8(output.stdout)
        .ok()
        .filter(|_| output.status.success())?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Names the layout of `machine.json`.
pub const SCHEMA: &str = "hp-harness-machine/1";

const CPUS_MAX: u32 = 65_535;
const FAMILIES: [&str; 12] = [
    "epyc",
    "threadripper",
    "ryzen",
    "opteron",
    "xeon",
    "core",
    "pentium",
    "celeron",
    "atom",
    "graviton",
    "neoverse",
    "ampere",
];
const MAKERS: [&str; 6] = ["amd", "intel", "arm", "genuine", "authentic", "qemu"];

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A machine that no test reads from the kernel.
    pub(crate) fn example() -> Machine {
        Machine {
            schema: SCHEMA.into(),
            slug: "2cpu-epyc-linux6.18".into(),
            date: "2026-11-20".into(),
            started: "2026-11-20T23:10:00Z".into(),
            commit: "abc1234".into(),
            dirty: false,
            command: crate::sweep::tests::small().command(),
            seed: 7,
            pinning: "server on CPU 0, load and backend on CPU 1".into(),
            cpu_model: "AMD EPYC 7B13".into(),
            cpus: 2,
            kernel: "6.18.44".into(),
            governor: None,
            mitigations: "spectre_v2: Mitigation: Retpolines".into(),
            memory_mib: Some(7_900),
            rustc: Some("rustc 1.95.0".into()),
            tcp_congestion_control: Some("cubic".into()),
            open_files: Some("20000".into()),
            io_uring_disabled: Some("0".into()),
        }
    }

    #[test]
    fn a_slug_names_the_class_of_a_machine() {
        for (cpus, model, kernel, expected) in [
            (2, "AMD EPYC", "6.18.44-fc-v669", "2cpu-epyc-linux6.18"),
            (
                2,
                "Intel(R) Xeon(R) Processor",
                "6.1.0-18-amd64",
                "2cpu-xeon-linux6.1",
            ),
            (
                12,
                "Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz",
                "5.15.0",
                "12cpu-core-linux5.15",
            ),
            (
                16,
                "AMD Ryzen 9 5950X 16-Core Processor",
                "6.9",
                "16cpu-ryzen-linux6.9",
            ),
            (
                4,
                "QEMU Virtual CPU version 2.5+",
                "6.12.1",
                "4cpu-virtual-linux6.12",
            ),
            (4, "unknown", "", "4cpu-unknown-linux"),
            (1, "", "6.8.0", "1cpu-unknown-linux6.8"),
        ] {
            assert_eq!(slug(cpus, model, kernel), expected, "{model}");
        }
    }

    #[test]
    fn cpuinfo_gives_model_and_count() {
        let text =
            "processor\t: 0\nmodel\t\t: 167\nmodel name\t: AMD EPYC 7B13\n\nprocessor\t: 1\n";
        assert_eq!(parse_cpuinfo(text), ("AMD EPYC 7B13".into(), 2));
        assert_eq!(
            parse_cpuinfo("processor : 0\nBogoMIPS : 50\n"),
            ("unknown".into(), 1)
        );
    }

    #[test]
    fn cpu_lists_are_spelled_out() {
        assert_eq!(parse_cpu_list("\t0-1\n"), [0, 1]);
        assert_eq!(parse_cpu_list("0,2-4,9"), [0, 2, 3, 4, 9]);
        assert!(parse_cpu_list("").is_empty());
    }

    #[test]
    fn limits_and_memory_are_found_by_name() {
        let limits =
            "Limit   Soft Limit  Hard Limit  Units\nMax open files    1024    20000    files\n";
        assert_eq!(parse_open_files(limits), Some("1024".into()));
        assert_eq!(
            parse_memory_mib("MemTotal:        8049000 kB\n"),
            Some(7_860)
        );
        assert_eq!(parse_memory_mib(""), None);
    }

    #[test]
    fn a_dirty_tree_is_in_the_name() {
        assert_eq!(example().commit_name(), "abc1234");
        assert_eq!(
            Machine {
                dirty: true,
                ..example()
            }
            .commit_name(),
            "abc1234-dirty"
        );
    }
}
