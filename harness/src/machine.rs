//! What a number depends on besides the code: the machine, its kernel and its settings. No host name, no address, no
//! path of the machine. A fact that cannot be read is left out, and stops nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};

/// The machine as the kernel shows it, for as long as nobody changes its settings. Equal machines are equal texts.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Host {
    /// The class of the machine, such as `2cpu-epyc-linux6.18`.
    pub class: String,
    /// Model of the processor.
    pub cpu_model: String,
    /// Processors, as the kernel shows them.
    pub cpus: u32,
    /// Threads of one core, as the kernel shows them, such as `0-1`.
    pub core_siblings: Option<String>,
    /// What the processor can, sorted.
    pub cpu_flags: String,
    /// Caches of the first processor, such as `L1 Data 32K`.
    pub caches: Vec<String>,
    /// Memory in MiB.
    pub memory_mib: Option<u64>,
    /// Release of the kernel.
    pub kernel: String,
    /// Words of the kernel's command line that change how it schedules, idles or guards itself.
    pub kernel_words: Vec<String>,
    /// Options that change what CPU time means, such as `CONFIG_IRQ_TIME_ACCOUNTING`.
    pub kernel_options: BTreeMap<String, String>,
    /// The hypervisor that the kernel sees.
    pub hypervisor: Option<String>,
    /// Source of the kernel's clock.
    pub clock_source: Option<String>,
    /// Frequency governor of the first processor; absent in most guests.
    pub governor: Option<String>,
    /// Transparent huge pages.
    pub huge_pages: Option<String>,
    /// State of each vulnerability that concerns the processor.
    pub vulnerabilities: BTreeMap<String, String>,
    /// `kernel.io_uring_disabled`.
    pub io_uring_disabled: Option<String>,
    /// Which CPUs take over receive work of the loopback device.
    pub loopback_rps: Option<String>,
    /// Control groups: `1`, `2` or `1 and 2`.
    pub cgroups: Option<String>,
    /// Limits of this process: soft and hard.
    pub limits: BTreeMap<String, String>,
    /// Settings below `net.core` and `net.ipv4.tcp`, and the range of ports, as seen where the session runs.
    pub sysctls: BTreeMap<String, String>,
}

impl Host {
    /// Reads everything.
    pub fn read() -> Self {
        let cpuinfo = text_of("/proc/cpuinfo").unwrap_or_default();
        let (cpu_model, cpus) = parse_cpuinfo(&cpuinfo);
        let kernel = text_of("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into());
        Self {
            class: class(cpus, &cpu_model, &kernel),
            cpu_model,
            cpus,
            core_siblings: text_of("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list"),
            cpu_flags: parse_cpu_flags(&cpuinfo),
            caches: caches(Path::new("/sys/devices/system/cpu/cpu0/cache")),
            memory_mib: parse_memory_mib(&text_of("/proc/meminfo").unwrap_or_default()),
            kernel,
            kernel_words: kernel_words(&text_of("/proc/cmdline").unwrap_or_default()),
            kernel_options: kernel_options(),
            hypervisor: text_of("/sys/hypervisor/type").or_else(|| hypervisor(&cpuinfo)),
            clock_source: text_of(
                "/sys/devices/system/clocksource/clocksource0/current_clocksource",
            ),
            governor: text_of("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            huge_pages: text_of("/sys/kernel/mm/transparent_hugepage/enabled"),
            vulnerabilities: vulnerabilities(Path::new("/sys/devices/system/cpu/vulnerabilities")),
            io_uring_disabled: text_of("/proc/sys/kernel/io_uring_disabled"),
            loopback_rps: text_of("/sys/class/net/lo/queues/rx-0/rps_cpus"),
            cgroups: cgroups(&text_of("/proc/self/mounts").unwrap_or_default()),
            limits: parse_limits(&text_of("/proc/self/limits").unwrap_or_default()),
            sysctls: sysctls(Path::new("/proc/sys/net")),
        }
    }

    /// The folder's name for this machine: its class, and four digits of a hash over all that is known of it.
    pub fn folder(&self) -> String {
        let text = serde_json::to_string(self).expect("a host has only keys that are text");
        format!("{}-{:04x}", self.class, fold(fnv1a(text.as_bytes())))
    }

    /// The machine in one line.
    pub fn line(&self) -> String {
        let memory = self
            .memory_mib
            .map_or_else(|| "unknown memory".into(), |mib| format!("{mib} MiB"));
        let known = |fact: Option<&String>| fact.map_or("unknown", String::as_str).to_owned();
        format!(
            "{} CPU {}, {memory}, Linux {}, clock {}, governor {}, open files {}",
            self.cpus,
            self.cpu_model,
            self.kernel,
            known(self.clock_source.as_ref()),
            known(self.governor.as_ref()),
            known(self.limits.get("open files")),
        )
    }
}

/// The sources that are measured.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Source {
    /// Short hash of the commit, or `uncommitted`.
    pub commit: String,
    /// Whether the work tree, results apart, differs from the commit.
    pub dirty: bool,
    /// Version of the compiler.
    pub rustc: Option<String>,
    /// Folder of the build: `release`, `debug`.
    pub profile: Option<String>,
}

impl Source {
    /// Asks git and rustc; `bin_dir` is the folder of the binaries.
    pub fn read(bin_dir: &Path) -> Self {
        let commit = ["rev-parse", "--short=7", "--verify", "--quiet", "HEAD"];
        let changes = ["status", "--porcelain", "--", ":/", ":(top,exclude)results"];
        let profile = fs::canonicalize(bin_dir)
            .ok()
            .and_then(|dir| Some(dir.file_name()?.to_str()?.to_owned()));
        Self {
            commit: printed("git", &commit).unwrap_or_else(|| "uncommitted".into()),
            dirty: printed("git", &changes).is_some(),
            rustc: printed("rustc", &["--version"]),
            profile: profile.filter(|name| ["release", "debug", "sim"].contains(&name.as_str())),
        }
    }

    /// The commit's part of a folder's name: `abc1234`, or `abc1234-dirty`.
    pub fn folder(&self) -> String {
        let dirty = if self.dirty { "-dirty" } else { "" };
        format!("{}{dirty}", self.commit)
    }
}

/// Versions of the tools that a session may use or name, those that are installed.
pub fn tools() -> BTreeMap<String, String> {
    let asked: [(&str, &[&str]); 11] = [
        ("ab", &["-V"]),
        ("h2load", &["--version"]),
        ("ip", &["-V"]),
        ("openssl", &["version"]),
        ("perf", &["--version"]),
        ("setpriv", &["--version"]),
        ("siege", &["--version"]),
        ("strace", &["-V"]),
        ("unshare", &["--version"]),
        ("valgrind", &["--version"]),
        ("wrk", &["-v"]),
    ];
    let lines = asked.iter().filter_map(|(program, args)| {
        let line = version_of(Path::new(program), args)?;
        Some(((*program).to_owned(), line))
    });
    lines.collect()
}

/// The first line that a program prints about its version, on either stream, whatever its exit code; at most 200
/// characters. Programs that print their flags there have no path of the machine in the first line.
pub fn version_of(program: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let texts =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let line = texts
        .iter()
        .flat_map(|text| text.lines())
        .map(str::trim)
        .find(|line| !line.is_empty())?;
    Some(line.chars().take(200).collect())
}

/// SHA-256 of a text in hexadecimal, from the program `sha256sum`.
pub fn sha256(text: &str) -> Option<String> {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    io::Write::write_all(&mut child.stdin.take()?, text.as_bytes()).ok()?;
    let output = child.wait_with_output().ok()?;
    let line = String::from_utf8(output.stdout).ok()?;
    line.split_whitespace().next().map(str::to_owned)
}

/// The processors that this process may run on, in rising order.
pub fn cpus_allowed() -> Vec<u32> {
    let status = text_of("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    parse_cpu_list(line.unwrap_or_default())
}

/// The class of a machine, such as `2cpu-epyc-linux6.18`: letters, digits, dots and hyphens only.
pub fn class(cpus: u32, cpu_model: &str, kernel: &str) -> String {
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

/// What the first processor can, sorted: kernels list it in different orders.
fn parse_cpu_flags(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        ["flags", "Features"].contains(&key.trim()).then_some(value)
    });
    let mut flags: Vec<&str> = line.unwrap_or_default().split_ascii_whitespace().collect();
    flags.sort_unstable();
    flags.join(" ")
}

fn hypervisor(cpuinfo: &str) -> Option<String> {
    let flags = parse_cpu_flags(cpuinfo);
    flags
        .split(' ')
        .any(|flag| flag == "hypervisor")
        .then(|| "some".to_owned())
}

fn caches(folder: &Path) -> Vec<String> {
    let mut caches = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let fact = |name: &str| text_at(&entry.path().join(name));
        if let (Some(level), Some(kind), Some(size)) = (fact("level"), fact("type"), fact("size")) {
            caches.push(format!("L{level} {kind} {size}"));
        }
    }
    caches.sort();
    caches
}

/// Total memory in MiB from `/proc/meminfo`.
fn parse_memory_mib(text: &str) -> Option<u64> {
    Some(crate::cpu::line_number(text, "MemTotal:")? / 1024)
}

/// A kernel's command line may name disks and addresses: only what is known to matter is kept.
fn kernel_words(cmdline: &str) -> Vec<String> {
    let words = cmdline.split_ascii_whitespace();
    let kept =
        words.filter(|word| KERNEL_WORDS.contains(&word.split('=').next().unwrap_or_default()));
    kept.map(str::to_owned).collect()
}

/// The options in [`KERNEL_OPTIONS`], where the kernel shows how it was built.
fn kernel_options() -> BTreeMap<String, String> {
    let mut text = String::new();
    if let Ok(file) = fs::File::open("/proc/config.gz") {
        match io::Read::read_to_string(
            &mut io::Read::take(GzDecoder::new(file), CONFIG_BYTES_MAX),
            &mut text,
        ) {
            Ok(_) | Err(_) => (), // What cannot be read is left out.
        }
    }
    let is_kept = |line: &&str| {
        KERNEL_OPTIONS
            .iter()
            .any(|option| line.split('=').next() == Some(*option))
    };
    let kept = text
        .lines()
        .filter(is_kept)
        .filter_map(|line| line.split_once('='));
    kept.map(|(option, value)| (option.to_owned(), value.to_owned()))
        .collect()
}

/// The state of every vulnerability that concerns this processor.
fn vulnerabilities(folder: &Path) -> BTreeMap<String, String> {
    let mut states = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let state = text_at(&entry.path()).unwrap_or_default();
        if !state.is_empty() && state != "Not affected" {
            states.insert(entry.file_name().to_string_lossy().into_owned(), state);
        }
    }
    states
}

fn cgroups(mounts: &str) -> Option<String> {
    let kinds: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(2))
        .collect();
    match (kinds.contains(&"cgroup"), kinds.contains(&"cgroup2")) {
        (true, true) => Some("1 and 2".into()),
        (true, false) => Some("1".into()),
        (false, true) => Some("2".into()),
        (false, false) => None,
    }
}

/// Limits that a session can run into, from `/proc/self/limits`: soft and hard.
fn parse_limits(text: &str) -> BTreeMap<String, String> {
    let mut limits = BTreeMap::new();
    for name in ["open files", "processes", "locked memory", "stack size"] {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("Max {name}")));
        let values: Vec<&str> = line
            .unwrap_or_default()
            .split_ascii_whitespace()
            .take(2)
            .collect();
        if let [soft, hard] = values[..] {
            limits.insert(name.to_owned(), format!("{soft} {hard}"));
        }
    }
    limits
}

fn sysctls(net: &Path) -> BTreeMap<String, String> {
    let mut sysctls = BTreeMap::new();
    for (folder, prefix) in [
        ("core", ""),
        ("ipv4", "tcp_"),
        ("ipv4", "ip_local_port_range"),
    ] {
        for entry in fs::read_dir(net.join(folder))
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            // Keys are secrets, and seeds differ from boot to boot.
            if name.starts_with(prefix)
                && !name.contains("key")
                && let Some(value) = text_at(&entry.path())
            {
                let words: Vec<&str> = value.split_ascii_whitespace().collect();
                sysctls.insert(format!("net.{folder}.{name}"), words.join(" "));
            }
        }
    }
    sysctls
}

/// A file's text without blanks around it; none when it is empty or unreadable.
fn text_of(path: &str) -> Option<String> {
    text_at(Path::new(path))
}

fn text_at(path: &Path) -> Option<String> {
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

/// FNV-1a with 64 bits: tells machines apart, guards nothing.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn fold(hash: u64) -> u64 {
    (hash ^ (hash >> 16) ^ (hash >> 32) ^ (hash >> 48)) & 0xffff
}

const CONFIG_BYTES_MAX: u64 = 4 << 20;
const KERNEL_OPTIONS: [&str; 8] = [
    "CONFIG_HZ",
    "CONFIG_IRQ_TIME_ACCOUNTING",
    "CONFIG_NO_HZ_FULL",
    "CONFIG_PARAVIRT_TIME_ACCOUNTING",
    "CONFIG_PREEMPT",
    "CONFIG_PREEMPT_DYNAMIC",
    "CONFIG_SCHEDSTATS",
    "CONFIG_VIRT_CPU_ACCOUNTING_GEN",
];
const KERNEL_WORDS: [&str; 16] = [
    "clocksource",
    "cpuidle.off",
    "idle",
    "intel_pstate",
    "isolcpus",
    "mitigations",
    "nohz",
    "nohz_full",
    "nosmt",
    "preempt",
    "processor.max_cstate",
    "psi",
    "rcu_nocbs",
    "spectre_v2",
    "transparent_hugepage",
    "tsc",
];
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
mod tests {
    use super::*;

    #[test]
    fn a_class_names_the_class_of_a_machine() {
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
            assert_eq!(class(cpus, model, kernel), expected, "{model}");
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
        assert_eq!(
            parse_limits(limits),
            BTreeMap::from([("open files".into(), "1024 20000".into())])
        );
        assert_eq!(
            parse_memory_mib("MemTotal:        8049000 kB\n"),
            Some(7_860)
        );
        assert_eq!(parse_memory_mib(""), None);
    }

    #[test]
    fn words_that_name_the_machine_are_left_out() {
        let words = kernel_words(
            "console=ttyS0 root=/dev/vda ip=10.0.0.2::10.0.0.1 mitigations=off nosmt hostname=a",
        );
        assert_eq!(words, ["mitigations=off", "nosmt"]);
    }

    #[test]
    fn flags_are_sorted() {
        assert_eq!(parse_cpu_flags("flags\t\t: sse2 avx fpu\n"), "avx fpu sse2");
        assert_eq!(parse_cpu_flags("Features : fp asimd\n"), "asimd fp");
        assert_eq!(parse_cpu_flags("bugs : x"), "");
    }

    #[test]
    fn equal_machines_have_one_folder_and_others_another() {
        let host = Host {
            class: "2cpu-epyc-linux6.18".into(),
            ..Host::default()
        };
        let other = Host {
            memory_mib: Some(1),
            ..host.clone()
        };
        assert_eq!(host.folder(), host.clone().folder());
        assert_ne!(host.folder(), other.folder());
        let (class, hash) = host
            .folder()
            .rsplit_once('-')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap();
        assert_eq!((class.as_str(), hash.len()), ("2cpu-epyc-linux6.18", 4));
    }

    #[test]
    fn this_machine_names_neither_itself_nor_its_users() {
        let text = serde_json::to_string(&Host::read()).unwrap();
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        // A name like `vm` or `linux` is in any text.
        assert!(
            name.trim().len() < 6 || !text.contains(name.trim()),
            "{text}"
        );
        assert!(!text.contains("/home") && !text.contains("/root"), "{text}");
        assert_eq!(text, serde_json::to_string(&Host::read()).unwrap());
    }

    #[test]
    fn a_dirty_tree_is_in_the_name() {
        let source = Source {
            commit: "abc1234".into(),
            ..Source::default()
        };
        assert_eq!(source.folder(), "abc1234");
        assert_eq!(
            Source {
                dirty: true,
                ..source
            }
            .folder(),
            "abc1234-dirty"
        );
    }

    #[test]
    fn a_hash_is_that_of_the_standard() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        if let Some(hash) = sha256("abc") {
            assert_eq!(hash, expected);
        }
    }
}
