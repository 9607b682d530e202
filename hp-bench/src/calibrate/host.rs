//! What the system says of itself (proc(5), tcp(7)).

use std::fs;

use hp_core::sys::limits;

use super::model::Limits;

/// Which clock stands behind the system's.
pub(super) fn clock_source() -> Option<String> {
    word("/sys/devices/system/clocksource/clocksource0/current_clocksource")
}

/// How TCP paces itself: `bbr` paces large bodies even over the loopback.
pub(super) fn congestion_control() -> Option<String> {
    word("/proc/sys/net/ipv4/tcp_congestion_control")
}

/// The limits, the soft one of files raised as a run raises it.
pub(super) fn limits() -> Limits {
    let ports = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let ports = ports.ok().and_then(|text| port_count(&text));
    let open_files = limits::raise_open_files().ok();
    Limits {
        open_files,
        local_ports: ports,
        backlog: word("/proc/sys/net/core/somaxconn").and_then(|text| text.parse().ok()),
        connections: open_files.map(|files| {
            let by_files = files.saturating_sub(FILES_OF_OUR_OWN);
            ports.map_or(by_files, |ports| by_files.min(ports))
        }),
    }
}

/// How many ports `32768 60999` are.
fn port_count(text: &str) -> Option<u64> {
    let mut ends = text.split_whitespace().map(str::parse::<u64>);
    let (first, last) = (ends.next()?.ok()?, ends.next()?.ok()?);
    last.checked_sub(first)?.checked_add(1)
}

fn word(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Standard streams, rings and bells of a few threads, files of the result.
const FILES_OF_OUR_OWN: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_counted_with_both_ends() {
        assert_eq!(port_count("32768\t60999\n"), Some(28_232));
        assert_eq!(port_count("5 5"), Some(1));
        for text in ["", "5", "7 5", "a b"] {
            assert_eq!(port_count(text), None, "{text:?}");
        }
    }

    #[test]
    fn connections_fit_files_and_ports() {
        let limits = limits();
        let (connections, files) = (limits.connections.unwrap(), limits.open_files.unwrap());
        assert!(connections < files);
        assert!(limits.local_ports.is_none_or(|ports| connections <= ports));
    }
}
