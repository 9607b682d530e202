//! The counts in what tools print, and in what the kernel says of a process.

use std::fs;

/// Costs of a process so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// Context switches of all its threads, voluntary or not.
    pub(super) switches: u64,
    /// Page faults without input or output.
    pub(super) minor_faults: u64,
}

/// The calls in the last line of `strace -c`, without those that come with time and not with requests.
///
/// ```text
/// % time     seconds  usecs/call     calls    errors syscall
///  59.52    0.827015       91890         9         8 rt_sigtimedwait
///  23.87    0.331656          16     20000           sendto
/// 100.00    1.389401          23     60167        11 total
/// ```
pub(super) fn strace_total(text: &str) -> Option<u64> {
    let mut rows = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (&name, &calls) = (words.last()?, words.get(3)?);
        let is_row = words.len() >= 5 && words.first()?.parse::<f64>().is_ok();
        is_row.then(|| Some((name, calls.parse::<u64>().ok()?)))?
    });
    let mut by_time = 0;
    let total = rows.find_map(|(name, calls)| {
        if BY_TIME.contains(&name) {
            by_time += calls;
        }
        (name == "total").then_some(calls)
    })?;
    total.checked_sub(by_time)
}

/// The count in Callgrind's line `==1== Collected : 6169277`.
pub(super) fn callgrind_total(text: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (_, count) = line.split_once("Collected : ")?;
        count.trim().parse().ok()
    })
}

/// The count in Memcheck's line `==1==   total heap usage: 1,483 allocs, 476 frees, 94,077 bytes allocated`.
pub(super) fn memcheck_allocations(text: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (_, rest) = line.split_once("total heap usage: ")?;
        let (count, _) = rest.split_once(" allocs")?;
        count.replace(',', "").parse().ok()
    })
}

/// What a process has cost so far.
pub(super) fn cost_of(pid: u32) -> Result<Cost, String> {
    let unreadable = |what: &str| format!("/proc/{pid}/{what} cannot be read");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    let minor_faults = stat.ok().and_then(|stat| minor_faults(&stat));
    let minor_faults = minor_faults.ok_or_else(|| unreadable("stat"))?;
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).map_err(|_gone| unreadable("task"))?;
    let mut switches = 0;
    for task in tasks.flatten() {
        // A thread that ended meanwhile is missing from the sum; those that serve do not.
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        for name in ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"] {
            switches += field(&status, name).unwrap_or(0);
        }
    }
    Ok(Cost {
        switches,
        minor_faults,
    })
}

/// Memory that a process has written to, in KiB. Pages of its program are not in it: whether those are its own depends on who else runs it.
pub(super) fn private_kib(pid: u32) -> Result<u64, String> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    field(&text, "Private_Dirty:").ok_or_else(|| format!("{path}: no Private_Dirty"))
}

/// How many descriptors a process has open.
pub(super) fn open_files(pid: u32) -> Result<usize, String> {
    let path = format!("/proc/{pid}/fd");
    let files = fs::read_dir(&path).map_err(|error| format!("{path}: {error}"))?;
    Ok(files.count())
}

/// The first child that any thread of a process started.
pub(super) fn only_child(pid: u32) -> Result<u32, String> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let first = text.split_whitespace().next();
    first
        .and_then(|pid| pid.parse().ok())
        .ok_or_else(|| format!("{path}: no child"))
}

/// The tenth field; the second one, a name in brackets, may have spaces and brackets. proc_pid_stat(5).
fn minor_faults(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(7)?.parse().ok()
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The main thread of our programs waits for signals, and looks around after each wait.
const BY_TIME: [&str; 1] = ["rt_sigtimedwait"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strace_tables_are_read_without_what_comes_with_time() {
        let text = "\
listening on 127.0.0.1:1
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ------------------
 59.52    0.827015       91890         9         8 rt_sigtimedwait
 23.87    0.331656          16     20000           sendto
  0.01    0.000092          10         9           munmap
------ ----------- ----------- --------- --------- ------------------
100.00    1.389401          23     20018         8 total
";
        assert_eq!(strace_total(text), Some(20_009));
        assert_eq!(strace_total("100.00 1.5 20018 total"), None);
        assert_eq!(
            strace_total("strace: ptrace: Operation not permitted\n"),
            None
        );
    }

    #[test]
    fn reports_of_valgrind_are_read() {
        let callgrind = "==32386== Events    : Ir\n==32386== Collected : 6169277\n";
        assert_eq!(callgrind_total(callgrind), Some(6_169_277));
        assert_eq!(callgrind_total("==1== Command: x"), None);
        let memcheck = "==1==   total heap usage: 1,483 allocs, 476 frees, 94,077 bytes allocated";
        assert_eq!(memcheck_allocations(memcheck), Some(1_483));
        assert_eq!(memcheck_allocations("==1== in use at exit"), None);
    }

    #[test]
    fn the_tenth_field_of_a_stat_counts_faults_whatever_the_name_is() {
        let stat = "12 (a ) b) S 1 12 12 0 -1 4194304 777 0 0 0 3 4";
        assert_eq!(minor_faults(stat), Some(777));
        assert_eq!(minor_faults("12 (cut) S 1"), None);
    }

    #[test]
    fn the_kernel_tells_of_this_process() {
        let pid = std::process::id();
        assert!(cost_of(pid).unwrap().minor_faults > 0);
        assert!(private_kib(pid).unwrap() > 0 && open_files(pid).unwrap() > 2);
        assert!(cost_of(u32::MAX).is_err());
    }
}
