//! Child processes that never outlive the harness: how they are started and pinned, what they print, how they end.
//!
//! Two outside programs do what Rust has no safe call for. `setpriv` makes the kernel end a child when the harness
//! ends, however that happens; `taskset` pins. Each is tried once, and used only where it works.

use std::fmt;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::clock;
use crate::error::Error;

/// Which CPUs a program gets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Seat {
    /// The one CPU of the measured server.
    Server,
    /// The CPUs of load and backend.
    Others,
    /// Any CPU.
    Free,
}

/// Whether server and load can be kept apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pinning {
    /// Yes: the server has one CPU, load and backend have the rest.
    Split {
        /// The server's CPU.
        server: u32,
        /// The rest, as `taskset -c` takes it.
        others: String,
    },
    /// No, for this reason.
    Impossible(&'static str),
}

/// Starts programs from one folder.
#[derive(Debug)]
pub struct Launcher {
    bin_dir: PathBuf,
    pinning: Pinning,
    ends_with_parent: bool,
}

impl Launcher {
    /// Finds out what this machine lets us do. `cpus` are those that we may run on, in rising order.
    ///
    /// # Errors
    /// [`Error::NoProgram`] when a program of the topology is missing.
    pub fn probe(bin_dir: &Path, cpus: &[u32]) -> Result<Self, Error> {
        for program in ["hp-echo", "hp-proxy", "hp-bench"] {
            let path = bin_dir.join(program);
            if !path.is_file() {
                return Err(Error::NoProgram { path });
            }
        }
        let pinning = match cpus {
            [] | [_] => Pinning::Impossible("one CPU"),
            [server, ..] if !works("taskset", &["-c", &server.to_string()]) => {
                Pinning::Impossible("no taskset")
            }
            [server, others @ ..] => Pinning::Split {
                server: *server,
                others: crate::sweep::listed(others),
            },
        };
        let ends_with_parent = works(END_WITH_PARENT[0], &END_WITH_PARENT[1..]);
        Ok(Self {
            bin_dir: bin_dir.to_owned(),
            pinning,
            ends_with_parent,
        })
    }

    /// Whether server and load can be kept apart.
    pub fn pinning(&self) -> &Pinning {
        &self.pinning
    }

    /// Whether the kernel ends every child when the harness is killed.
    pub fn ends_with_parent(&self) -> bool {
        self.ends_with_parent
    }

    /// Starts one program of the folder.
    ///
    /// # Errors
    /// [`Error::Spawn`] when the kernel refuses.
    pub fn start(&self, program: &str, args: &[String], seat: Seat) -> Result<Process, Error> {
        let name = std::iter::once(program).chain(args.iter().map(String::as_str));
        let name = name.collect::<Vec<_>>().join(" ");

        let mut words: Vec<String> = Vec::new();
        if self.ends_with_parent {
            words.extend(END_WITH_PARENT.map(str::to_owned));
            words.extend(["sh", "-c", UNLESS_ORPHANED].map(str::to_owned));
            words.push(std::process::id().to_string());
        }
        let cpus = match (&self.pinning, seat) {
            (Pinning::Split { server, .. }, Seat::Server) => Some(server.to_string()),
            (Pinning::Split { others, .. }, Seat::Others) => Some(others.clone()),
            (Pinning::Split { .. }, Seat::Free) | (Pinning::Impossible(_), _) => None,
        };
        if let Some(cpus) = cpus {
            words.extend(["taskset".to_owned(), "-c".to_owned(), cpus]);
        }

        let path = self.bin_dir.join(program);
        let mut command = match words.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(path);
                command
            }
            None => Command::new(path),
        };
        command.args(args);
        Process::start(name, command)
    }
}

/// A running child. Dropping it asks it to stop, waits [`STOP_TIMEOUT`], then kills it; it is always waited for.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: File,
    stderr: File,
    asked_to_stop: bool,
}

impl Process {
    fn start(name: String, mut command: Command) -> Result<Self, Error> {
        let mut open = || -> io::Result<(File, File, Child)> {
            let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
            command
                .stdin(Stdio::null())
                .stdout(stdout.try_clone()?)
                .stderr(stderr.try_clone()?);
            let child = command.spawn()?;
            Ok((stdout, stderr, child))
        };
        match open() {
            Ok((stdout, stderr, child)) => Ok(Self {
                name,
                child,
                stdout,
                stderr,
                asked_to_stop: false,
            }),
            Err(cause) => Err(Error::Spawn {
                command: name,
                cause,
            }),
        }
    }

    /// Sends SIGTERM, once, and does not wait.
    pub fn ask_to_stop(&mut self) {
        if self.asked_to_stop || self.ended().is_some() {
            return;
        }
        self.asked_to_stop = true;
        // The child is not waited for yet, so its number cannot belong to another process.
        let pid = self.child.id().to_string();
        match Command::new("sh")
            .args(["-c", "kill -TERM \"$0\"", &pid])
            .status()
        {
            Ok(_) | Err(_) => (), // It may have ended by itself; if not, the kill after the wait ends it.
        }
    }

    /// Waits until the child ends or the deadline passes.
    pub fn wait_until(&mut self, deadline: Instant) -> Option<ExitStatus> {
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if clock::now() >= deadline {
                return None;
            }
            clock::pause(LOOK_INTERVAL);
        }
    }

    /// Waits for the line `listening on ADDR`.
    ///
    /// # Errors
    /// [`Error::NotReady`] when the child ends first, or the deadline passes.
    pub fn wait_listening(&mut self, deadline: Instant) -> Result<SocketAddr, Error> {
        loop {
            let status = self.ended(); // before the look at stderr, so that its last words count
            let stderr = self.stderr();
            if let Some(addr) = parse_listening(&stderr) {
                return Ok(addr);
            }
            let seen = match status {
                Some(status) => format!("ended before it listened ({status})"),
                None if clock::now() >= deadline => "printed no `listening on ADDR` in time".into(),
                None => {
                    clock::pause(LOOK_INTERVAL);
                    continue;
                }
            };
            return Err(Error::NotReady {
                command: self.name.clone(),
                seen,
                stderr,
            });
        }
    }

    /// How the child ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child
            .try_wait()
            .expect("a child that is ours can be waited for")
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The program with its arguments, without what pins it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the child has printed to stdout, up to [`PRINTED_BYTES_MAX`].
    pub fn stdout(&self) -> String {
        printed(&self.stdout)
    }

    /// What the child has printed to stderr, up to [`PRINTED_BYTES_MAX`].
    pub fn stderr(&self) -> String {
        printed(&self.stderr)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.ask_to_stop();
        if self.wait_until(clock::now() + STOP_TIMEOUT).is_some() {
            return;
        }
        match self.child.kill().and_then(|()| self.child.wait()) {
            Ok(_) | Err(_) => (), // It ended between the wait and the kill, which is what was wanted.
        }
    }
}

impl fmt::Display for Pinning {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Split { server, others } => {
                write!(
                    out,
                    "server on CPU {server}, load and backend on CPU {others}"
                )
            }
            Self::Impossible(reason) => write!(out, "none ({reason})"),
        }
    }
}

/// Finds the address in the first whole line that says `listening on ADDR`.
pub fn parse_listening(text: &str) -> Option<SocketAddr> {
    let whole = &text[..=text.rfind('\n')?];
    whole.lines().find_map(|line| {
        let (_before, after) = line.split_once("listening on ")?;
        after.split_ascii_whitespace().next()?.parse().ok()
    })
}

/// Reads without moving the offset, which the child shares.
fn printed(file: &File) -> String {
    let mut bytes = vec![0; PRINTED_BYTES_MAX];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64) {
            Ok(0) | Err(_) => break, // An unreadable rest is missing from a message, no more.
            Ok(count) => filled += count,
        }
    }
    String::from_utf8_lossy(&bytes[..filled]).into_owned()
}

/// Whether `program ARGS true` succeeds.
fn works(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(args)
        .arg("true")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// How long a child may take to end after SIGTERM.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of a child's output is read.
pub const PRINTED_BYTES_MAX: usize = 1 << 20;

const END_WITH_PARENT: [&str; 3] = ["setpriv", "--pdeathsig", "TERM"];
/// A parent that ended before `setpriv` asked the kernel to watch it is found here: the child has another one by now.
const UNLESS_ORPHANED: &str = r#"[ "$PPID" = "$0" ] || exit 1; exec "$@""#;
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start("sh".into(), command).unwrap()
    }

    #[test]
    fn the_first_whole_listening_line_counts() {
        let addr = |text: &str| Some(text.parse().unwrap());
        for (text, expected) in [
            ("listening on 127.0.0.1:8080\n", addr("127.0.0.1:8080")),
            (
                "engine epoll\nlistening on [::1]:9001\nready\n",
                addr("[::1]:9001"),
            ),
            (
                "info hp-echo: listening on 127.0.0.1:1 (2 workers)\n",
                addr("127.0.0.1:1"),
            ),
            (
                "listening on a\nlistening on 127.0.0.1:2\n",
                addr("127.0.0.1:2"),
            ),
            ("listening on 127.0.0.1:80", None), // more digits may follow
            ("not listening\n", None),
            ("", None),
        ] {
            assert_eq!(parse_listening(text), expected, "{text}");
        }
    }

    #[test]
    fn a_child_that_ends_early_is_quoted() {
        let mut child = shell("echo no ring >&2; exit 3");
        let error = child
            .wait_listening(clock::now() + STOP_TIMEOUT)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("ended before it listened (exit status: 3)"),
            "{error}"
        );
        assert!(error.ends_with("\n  | no ring"), "{error}");
    }

    #[test]
    fn a_silent_child_is_not_waited_for_without_end() {
        let mut child = shell("exec sleep 600");
        let error = child.wait_listening(clock::now()).unwrap_err().to_string();
        assert!(
            error.contains("printed no `listening on ADDR` in time"),
            "{error}"
        );
    }

    #[test]
    fn a_dropped_child_is_asked_first() {
        let child = shell(
            "trap 'echo asked >&2; exit 0' TERM; echo ready >&2; while :; do sleep 0.01; done",
        );
        let stderr = child.stderr.try_clone().unwrap();
        while !printed(&stderr).contains("ready") {
            clock::pause(LOOK_INTERVAL);
        }
        let pid = child.pid();
        drop(child);
        assert_eq!(printed(&stderr), "ready\nasked\n");
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
