//! A network of the session's own: a fresh network namespace with nothing but loopback, in which every socket has the
//! same congestion control. The host's network is neither changed nor used. Where the kernel allows none, the session
//! runs on the host's loopback, unchanged, and says so.
//!
//! `unshare` and `ip` do what Rust has no safe call for. The harness replaces itself by `unshare … harness …`, so there
//! is no second process, and all children are inside.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use crate::process;

/// Where the traffic of a session flows.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Network {
    /// Whether it is a namespace of its own.
    pub own: bool,
    /// Why not, or what could not be set in it.
    pub reason: Option<String>,
    /// Congestion control of a connection over loopback, read back from both of its sockets.
    pub congestion: Option<String>,
}

/// Replaces this process by one in a network of its own, with `words` as its command line and `--inside` as its last
/// flag. Comes back, with the reason, only where that is not possible.
pub fn enter(words: &[OsString]) -> String {
    let Some(outer) = namespace() else {
        return "the kernel has no network namespaces".into();
    };
    let mapped = ["--user", "--map-root-user", "--net"].as_slice();
    let Some(flags) = [["--net"].as_slice(), mapped]
        .into_iter()
        .find(|flags| process::works("unshare", flags))
    else {
        return "unshare is missing or not allowed".into();
    };
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(cause) => return format!("the harness does not find itself ({cause})"),
    };
    let mut command = Command::new("unshare");
    command.args(flags).arg("--").arg(program);
    command
        .args(words.iter().skip(1))
        .arg("--inside")
        .arg(outer);
    format!("unshare does not start ({})", command.exec())
}

/// Sets up the network that this process was started in by [`enter`]; `outer` names the one around it.
///
/// # Errors
/// That it is the same one: nothing may be changed there.
pub fn set_up(outer: &str) -> Result<Network, String> {
    let devices = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    if namespace().is_none_or(|inner| inner == outer) || !is_fresh(&devices) {
        return Err("--inside is for the harness itself: this is no network that it made".into());
    }
    let mut reasons = Vec::new();
    reasons.extend(ip(&["link", "set", "lo", "up"], "").err());
    reasons.extend(ip(&["-batch", "-"], &routes().join("\n")).err());
    let congestion = read_back();
    if congestion.as_deref() != Some(CONGESTION) {
        reasons.push(format!("congestion control is not {CONGESTION}"));
    }
    Ok(Network {
        own: true,
        reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
        congestion,
    })
}

/// The host's loopback, as it is.
pub fn host(reason: String) -> Network {
    Network {
        own: false,
        reason: Some(reason),
        congestion: read_back(),
    }
}

impl Network {
    /// In words for people.
    pub fn line(&self) -> String {
        let place = if self.own {
            "network namespace of its own"
        } else {
            "loopback of the host"
        };
        let reason = self
            .reason
            .as_ref()
            .map(|reason| format!(" ({reason})"))
            .unwrap_or_default();
        let congestion = self.congestion.as_deref().unwrap_or("unknown");
        format!("{place}{reason}, congestion control {congestion}")
    }
}

/// The network namespace of this process, such as `net:[4026531840]`.
fn namespace() -> Option<String> {
    let link = fs::read_link("/proc/self/ns/net").ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// Whether `/proc/net/dev` tells of a network that was just made: loopback, which has carried nothing, is all there is.
fn is_fresh(devices: &str) -> bool {
    let mut devices = devices.lines().skip(2);
    let Some((name, counts)) = devices.next().and_then(|line| line.split_once(':')) else {
        return false;
    };
    let is_unused = counts.split_ascii_whitespace().all(|count| count == "0");
    name.trim() == "lo" && is_unused && devices.next().is_none()
}

/// Both routes that every loopback device has, with a setting that connections take over.
fn routes() -> [String; 2] {
    ["127.0.0.1", "127.0.0.0/8"].map(|to| {
        format!("route replace local {to} dev lo proto kernel scope host src 127.0.0.1 table local congctl {CONGESTION}")
    })
}

/// Runs `ip`.
///
/// # Errors
/// What it said, on one line.
fn ip(args: &[&str], input: &str) -> Result<(), String> {
    let run = || -> io::Result<std::process::Output> {
        let mut command = Command::new("ip");
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        child.wait_with_output()
    };
    let output = run().map_err(|cause| format!("ip: {cause}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "ip {}: {}",
        args.join(" "),
        said.lines().next().unwrap_or("failed")
    ))
}

/// Connects over loopback, to the address that most servers have and to another one, and asks both ends of each.
fn read_back() -> Option<String> {
    let mut seen: Vec<String> = Vec::new();
    for addr in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 1, 2)] {
        let names = congestion_of(addr).ok()?;
        for name in names {
            let name = String::from_utf8_lossy(&name)
                .trim_end_matches('\0')
                .to_owned();
            if !seen.contains(&name) {
                seen.push(name);
            }
        }
    }
    Some(seen.join(" and "))
}

fn congestion_of(addr: Ipv4Addr) -> io::Result<[Vec<u8>; 2]> {
    let new = || Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP));
    let listener = new()?;
    listener.bind(&SocketAddr::from((addr, 0)).into())?;
    listener.listen(1)?;
    let client = new()?;
    client.connect_timeout(&listener.local_addr()?, Duration::from_secs(1))?;
    let (server, _addr) = listener.accept()?;
    Ok([client.tcp_congestion()?, server.tcp_congestion()?])
}

/// The congestion control of every session: it does not pace, which over loopback distorts large bodies.
const CONGESTION: &str = "cubic";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_around_is_not_touched() {
        let here = namespace().unwrap();
        assert!(
            set_up(&here)
                .unwrap_err()
                .contains("no network that it made")
        );
    }

    #[test]
    fn only_an_unused_loopback_alone_is_a_fresh_network() {
        let head = "Inter-| Receive | Transmit\n face |bytes packets|bytes packets\n";
        for (lines, fresh) in [
            ("    lo:       0       0    0\n", true),
            ("    lo:    1500       2    0\n", false),
            ("    lo:       0       0    0\n  eth0:   0 0 0\n", false),
            ("  eth0:       0       0    0\n", false),
            ("", false),
        ] {
            assert_eq!(is_fresh(&format!("{head}{lines}")), fresh, "{lines}");
        }
    }

    #[test]
    fn both_ends_of_a_connection_are_asked() {
        let network = host("asked".into());
        assert!(
            network
                .congestion
                .as_ref()
                .is_some_and(|name| !name.is_empty()),
            "{network:?}"
        );
        assert!(
            network
                .line()
                .starts_with("loopback of the host (asked), congestion control ")
        );
    }
}
