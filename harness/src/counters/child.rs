//! A program under a tool that counts what it does, or under none.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child as Process, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use super::{LOOK_INTERVAL, PATIENCE, tools};
use crate::clock;
use crate::process::parse_listening;

/// What counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    /// System calls.
    Strace,
    /// Instructions in user mode.
    Callgrind,
    /// Calls of the allocator.
    Memcheck,
}

impl Tool {
    /// The program that has to be installed.
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Strace => "strace",
            Self::Callgrind | Self::Memcheck => "valgrind",
        }
    }

    /// The count in what the tool wrote.
    pub(super) fn parse(self, text: &str) -> Option<f64> {
        let count = match self {
            Self::Strace => tools::strace_total(text),
            Self::Callgrind => tools::callgrind_total(text),
            Self::Memcheck => tools::memcheck_allocations(text),
        };
        count.map(|count| count as f64)
    }

    /// The words that a watched command begins with; the count goes to a file, for what the program prints is its own.
    pub(super) fn words(self, log: &Path) -> Vec<String> {
        let log = log.display();
        let words: &[&str] = match self {
            Self::Strace => &["strace", "-f", "-c", "-q", "-o"],
            Self::Callgrind => &[
                "valgrind",
                "--tool=callgrind",
                "--callgrind-out-file=/dev/null",
            ],
            Self::Memcheck => &["valgrind", "--leak-check=no", "--undef-value-errors=no"],
        };
        let last = match self {
            Self::Strace => log.to_string(),
            Self::Callgrind | Self::Memcheck => format!("--log-file={log}"),
        };
        words
            .iter()
            .map(|&word| word.to_owned())
            .chain([last])
            .collect()
    }
}

/// A running program. Dropping it kills it; it is always waited for.
#[derive(Debug)]
pub(super) struct Child {
    name: String,
    process: Process,
    stderr: File,
    /// Whether another program stands between us and the one that we count.
    has_tracer: bool,
}

impl Child {
    /// Starts a program behind the words of another one, such as a tool's; none: by itself.
    pub(super) fn start<'a>(
        before: &[&str],
        program: &Path,
        words: impl Iterator<Item = &'a str>,
        env: &[(String, String)],
    ) -> Result<Self, String> {
        let name = program.display().to_string();
        if !program.is_file() {
            return Err(format!("{name}: no such program"));
        }
        let mut words_before: Vec<&str> = Vec::new();
        if *ENDS_WITH_PARENT {
            words_before.extend(END_WITH_PARENT);
        }
        words_before.extend(before);
        let mut command = match words_before.split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        command.args(words);
        command.envs(env.iter().map(|(key, value)| (key, value)));
        let mut start = || -> io::Result<(Process, File)> {
            let stderr = tempfile::tempfile()?;
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(stderr.try_clone()?);
            Ok((command.spawn()?, stderr))
        };
        let (process, stderr) = start().map_err(|error| format!("{name}: {error}"))?;
        Ok(Self {
            name,
            process,
            stderr,
            has_tracer: before.first() == Some(&Tool::Strace.program()),
        })
    }

    /// Waits for the line `listening on ADDR`; gives the address.
    pub(super) fn wait_listening(&mut self) -> Result<String, String> {
        let deadline = clock::now() + PATIENCE;
        loop {
            let has_ended = self.has_ended(); // Before the look, so that its last words count.
            let printed = self.printed();
            if let Some(addr) = parse_listening(&printed) {
                return Ok(addr.to_string());
            }
            if has_ended || clock::now() > deadline {
                let last = printed.lines().last().unwrap_or("nothing");
                return Err(format!("{} does not listen: {last}", self.name));
            }
            clock::pause(LOOK_INTERVAL);
        }
    }

    /// Waits until it ends, which has to be with success.
    pub(super) fn wait_success(&mut self) -> Result<(), String> {
        let status = self.wait(PATIENCE * 5)?;
        if status.success() {
            return Ok(());
        }
        let printed = self.printed();
        let last = printed.lines().last().unwrap_or_default();
        Err(format!("{}: {status}: {last}", self.name))
    }

    /// Asks it to end, and waits for that.
    pub(super) fn end(&mut self) -> Result<(), String> {
        // Signals for a tracer are not passed on to what it traces.
        let pid = if self.has_tracer {
            tools::only_child(self.pid())?
        } else {
            self.pid()
        };
        // Neither was waited for yet, so the number is nobody else's.
        let asked = Command::new("sh")
            .args(["-c", "kill -TERM \"$0\"", &pid.to_string()])
            .status();
        if !asked.is_ok_and(|status| status.success()) {
            return Err(format!("{}: cannot be asked to end", self.name));
        }
        self.wait(PATIENCE).map(drop)
    }

    pub(super) fn has_ended(&mut self) -> bool {
        self.process.try_wait().is_ok_and(|status| status.is_some())
    }

    /// The process that was started: the tool, where there is one.
    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    fn wait(&mut self, patience: Duration) -> Result<ExitStatus, String> {
        let deadline = clock::now() + patience;
        loop {
            match self.process.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if clock::now() > deadline => {
                    return Err(format!("{} does not end", self.name));
                }
                Ok(None) => clock::pause(LOOK_INTERVAL),
                Err(error) => return Err(format!("{}: {error}", self.name)),
            }
        }
    }

    /// Reads without moving the offset, which the child shares.
    fn printed(&self) -> String {
        let mut bytes = vec![0; PRINTED_BYTES_MAX];
        let mut filled = 0;
        while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
            match self.stderr.read_at(room, filled as u64) {
                Ok(0) | Err(_) => break, // An unreadable rest is missing from a message, no more.
                Ok(count) => filled += count,
            }
        }
        bytes.truncate(filled);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.has_ended() {
            return;
        }
        if self.has_tracer {
            // The traced program goes on when its tracer dies: it is ended first.
            if let Ok(pid) = tools::only_child(self.pid()) {
                let killed = Command::new("sh")
                    .args(["-c", "kill -KILL \"$0\"", &pid.to_string()])
                    .status();
                match killed {
                    Ok(_) | Err(_) => (), // It may have ended meanwhile.
                }
            }
        }
        match self.process.kill().and_then(|()| self.process.wait()) {
            Ok(_) | Err(_) => (), // It ended between the look and the kill, which is what was wanted.
        }
    }
}

/// Whether a program can be started by its name.
pub(crate) fn is_installed(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// Makes the kernel end a program with us, however that happens.
const END_WITH_PARENT: [&str; 3] = ["setpriv", "--pdeathsig", "TERM"];
static ENDS_WITH_PARENT: LazyLock<bool> = LazyLock::new(|| is_installed(END_WITH_PARENT[0]));
const PRINTED_BYTES_MAX: usize = 1 << 18;
