//! Child processes that never outlive the harness: how they are started and pinned, what they print, how they end.
//!
//! Two outside programs do what Rust has no safe call for. `setpriv` makes the kernel end a child when the harness
//! ends, however that happens; `taskset` pins, and what a child starts inherits it, unless it asks for other CPUs. Where
//! control groups may be made, one with a set of CPUs pins instead, which no child leaves. Each is tried once, and used only
//! where it works. Every child leads a process group, so that a terminal's Ctrl-C reaches the harness alone, and a child
//! that does not stop is ended with all that it started.

mod cpuset;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::clock;
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::workload::Seats;
use cpuset::Cpusets;

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

impl Seat {
    /// The seat of a measured server.
    pub fn of_server(seats: Seats) -> Self {
        match seats {
            Seats::Split | Seats::Apart => Self::Server,
            Seats::Shared => Self::Free,
        }
    }

    /// The seat of the load.
    pub fn of_load(seats: Seats) -> Self {
        match seats {
            Seats::Split | Seats::Apart => Self::Others,
            Seats::Shared => Self::Free,
        }
    }

    /// The seat of backends.
    pub fn of_backend(seats: Seats) -> Self {
        match seats {
            Seats::Split => Self::Others,
            Seats::Apart => Self::Server,
            Seats::Shared => Self::Free,
        }
    }
}

/// Whether server and load can be kept apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pinning {
    /// Yes: the server has one CPU, load and backend have the rest.
    Split {
        /// The server's CPU.
        server: u32,
        /// The rest, at least one.
        others: Vec<u32>,
        /// By what.
        means: Means,
    },
    /// No, for this reason.
    Impossible(&'static str),
}

/// What keeps a program to its CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Means {
    /// A control group with a set of CPUs.
    Cpuset,
    /// An affinity that its children inherit.
    Taskset,
}

/// What is started: a program with all that it needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Launch {
    /// The program as messages name it.
    pub program: String,
    /// Where it is; a plain name is looked for in PATH.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables of its environment, beside those of the harness.
    pub env: BTreeMap<String, String>,
    /// Its working directory; none: that of the harness.
    pub dir: Option<PathBuf>,
}

/// Starts programs.
#[derive(Debug)]
pub struct Launcher {
    bin_dir: PathBuf,
    pinning: Pinning,
    cpusets: Option<Cpusets>,
    ends_with_parent: bool,
    cpus: Vec<u32>,
}

impl Launcher {
    /// Finds out what this machine lets us do. `cpus` are those that we may run on, in rising order.
    ///
    /// # Errors
    /// [`Error::NoProgram`] when hp-bench or hp-echo, without which nothing is measured, are missing.
    pub fn probe(bin_dir: &Path, cpus: &[u32]) -> Result<Self, Error> {
        for program in ["hp-echo", "hp-bench"] {
            let path = bin_dir.join(program);
            if !path.is_file() {
                return Err(Error::NoProgram { path });
            }
        }
        let cpusets = match cpus {
            [] | [_] => None,
            [server, others @ ..] => Cpusets::make(*server, others),
        };
        let pinning = match cpus {
            [] | [_] => Pinning::Impossible("one CPU"),
            [server, ..]
                if cpusets.is_none() && !works("taskset", &["-c", &server.to_string()]) =>
            {
                Pinning::Impossible("neither cpusets nor taskset")
            }
            [server, others @ ..] => Pinning::Split {
                server: *server,
                others: others.to_vec(),
                means: if cpusets.is_some() {
                    Means::Cpuset
                } else {
                    Means::Taskset
                },
            },
        };
        let ends_with_parent = works(END_WITH_PARENT[0], &END_WITH_PARENT[1..]);
        Ok(Self {
            bin_dir: bin_dir.to_owned(),
            pinning,
            cpusets,
            ends_with_parent,
            cpus: cpus.to_vec(),
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

    /// Where one of our programs is.
    pub fn own(&self, program: &str) -> PathBuf {
        self.bin_dir.join(program)
    }

    /// The CPUs of a seat; all where nothing is pinned.
    pub fn cpus_of(&self, seat: Seat) -> Vec<u32> {
        match (&self.pinning, seat) {
            (Pinning::Split { server, .. }, Seat::Server) => vec![*server],
            (Pinning::Split { others, .. }, Seat::Others) => others.clone(),
            (Pinning::Split { .. }, Seat::Free) | (Pinning::Impossible(_), _) => self.cpus.clone(),
        }
    }

    /// Words before a program's own that keep it to its seat.
    fn pin(&self, seat: Seat) -> Vec<String> {
        let is_kept = matches!(self.pinning, Pinning::Split { .. }) && seat != Seat::Free;
        match &self.cpusets {
            _ if !is_kept => Vec::new(),
            Some(cpusets) => cpusets.words(seat),
            None => vec!["taskset".into(), "-c".into(), listed(&self.cpus_of(seat))],
        }
    }

    /// Starts one program of the folder.
    ///
    /// # Errors
    /// [`Error::Spawn`] when the kernel refuses.
    pub fn start_own(&self, program: &str, args: &[String], seat: Seat) -> Result<Process, Error> {
        let launch = Launch {
            program: program.to_owned(),
            path: self.own(program),
            args: args.to_vec(),
            ..Launch::default()
        };
        self.start(&launch, seat)
    }

    /// Starts a program.
    ///
    /// # Errors
    /// [`Error::Spawn`] when the kernel refuses.
    pub fn start(&self, launch: &Launch, seat: Seat) -> Result<Process, Error> {
        let words = std::iter::once(&launch.program).chain(&launch.args);
        let name = words.map(String::as_str).collect::<Vec<_>>().join(" ");

        let mut words: Vec<String> = Vec::new();
        if self.ends_with_parent {
            words.extend(END_WITH_PARENT.map(str::to_owned));
            words.extend(["sh", "-c", UNLESS_ORPHANED].map(str::to_owned));
            words.push(std::process::id().to_string());
        }
        words.extend(self.pin(seat));
        let mut command = match words.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&launch.path);
                command
            }
            None => Command::new(&launch.path),
        };
        command.args(&launch.args).envs(&launch.env);
        if let Some(dir) = &launch.dir {
            command.current_dir(dir);
        }
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
                .stderr(stderr.try_clone()?)
                .process_group(0);
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
        signal("TERM", &self.child.id().to_string());
    }

    /// Sends a signal by its name without SIG, where the child still runs.
    pub fn signal(&self, name: &str) {
        // Not waited for yet, so its number cannot belong to another process.
        signal(name, &self.child.id().to_string());
    }

    /// Waits until the child ends, the deadline passes, or the session is interrupted.
    pub fn wait_until(&mut self, deadline: Instant, interrupt: &Interrupt) -> Option<ExitStatus> {
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if clock::now() >= deadline || (interrupt.came() && !self.asked_to_stop) {
                return None;
            }
            interrupt.pause(LOOK_INTERVAL);
        }
    }

    /// Waits for the line `listening on ADDR`.
    ///
    /// # Errors
    /// [`Error::NotReady`] when the child ends first, or the deadline passes.
    pub fn wait_listening(
        &mut self,
        deadline: Instant,
        interrupt: &Interrupt,
    ) -> Result<SocketAddr, Error> {
        let addr = self.wait_for(
            deadline,
            interrupt,
            "printed no `listening on ADDR`",
            parse_listening,
        )?;
        Ok(addr)
    }

    /// Waits until a look gives something; the look gets what the child has printed to stderr.
    ///
    /// # Errors
    /// [`Error::NotReady`] when the child ends first, or the deadline passes, [`Error::Interrupted`].
    pub fn wait_for<T>(
        &mut self,
        deadline: Instant,
        interrupt: &Interrupt,
        late: &str,
        look: impl Fn(&str) -> Option<T>,
    ) -> Result<T, Error> {
        loop {
            let status = self.ended(); // before the look at stderr, so that its last words count
            let stderr = self.stderr();
            if let Some(found) = look(&stderr) {
                return Ok(found);
            }
            if interrupt.came() {
                return Err(Error::Interrupted);
            }
            let seen = match status {
                Some(status) => format!("ended before it listened ({status})"),
                None if clock::now() >= deadline => format!("{late} in time"),
                None => {
                    interrupt.pause(LOOK_INTERVAL);
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

    /// The last line of that, behind a colon; empty where it has printed nothing.
    pub fn last_words(&self) -> String {
        let stderr = self.stderr();
        let last = stderr.lines().last();
        last.map(|line| format!(": {line}")).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.ask_to_stop();
        if self
            .wait_until(clock::now() + STOP_TIMEOUT, &Interrupt::never())
            .is_some()
        {
            return;
        }
        // Not waited for yet: the number is still that of its group.
        signal("KILL", &format!("-{}", self.child.id()));
        match self.child.kill().and_then(|()| self.child.wait()) {
            Ok(_) | Err(_) => (), // It ended between the wait and the kill, which is what was wanted.
        }
    }
}

impl fmt::Display for Pinning {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Split {
                server,
                others,
                means,
            } => {
                let means = match means {
                    Means::Cpuset => "cpuset",
                    Means::Taskset => "taskset",
                };
                write!(
                    out,
                    "server on CPU {server}, load and backend on CPU {}, by {means}",
                    listed(others)
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

/// Sends a signal to a process, or to a group where the number has a minus sign. All shells take this form.
fn signal(signal: &str, whom: &str) {
    let mut command = Command::new("sh");
    command.args(["-c", "kill -s \"$0\" -- \"$1\"", signal, whom]);
    match command.stderr(Stdio::null()).status() {
        Ok(_) | Err(_) => (), // It may have ended by itself; if not, the kill after the wait ends it.
    }
}

/// Items with commas between, as `taskset` takes them.
fn listed<T: fmt::Display>(items: &[T]) -> String {
    let words: Vec<String> = items.iter().map(ToString::to_string).collect();
    words.join(",")
}

/// Whether `program ARGS true` succeeds.
pub fn works(program: &str, args: &[&str]) -> bool {
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
            .wait_listening(clock::now() + STOP_TIMEOUT, &Interrupt::never())
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
        let error = child
            .wait_listening(clock::now(), &Interrupt::never())
            .unwrap_err()
            .to_string();
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

    #[test]
    fn a_child_that_does_not_stop_is_ended_with_all_that_it_started() {
        let child = shell("trap '' TERM; sleep 600 & echo $! >&2; wait");
        let stderr = child.stderr.try_clone().unwrap();
        while printed(&stderr).is_empty() {
            clock::pause(LOOK_INTERVAL);
        }
        let grandchild = printed(&stderr).trim().to_owned();
        drop(child);
        let has_ended = || {
            // Whoever waits for orphans may not have waited for this one yet.
            let stat = std::fs::read_to_string(format!("/proc/{grandchild}/stat"));
            stat.map_or(true, |stat| stat.contains(") Z "))
        };
        let deadline = clock::now() + STOP_TIMEOUT;
        while !has_ended() {
            assert!(clock::now() < deadline, "{grandchild} lives");
            clock::pause(LOOK_INTERVAL);
        }
    }
}
