//! Small fakes of our programs in a folder of their own, where they note what they were called with (`calls`) and their numbers (`pids`).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use harness::clock;

/// The folder; what was written there goes with it.
pub(crate) struct Fakes {
    folder: tempfile::TempDir,
}

impl Fakes {
    /// Programs by their names, as scripts.
    pub(crate) fn new(programs: [(&str, &str); 3]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, script) in programs {
            let path = folder.path().join(name);
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The harness, asked for one of its commands.
    pub(crate) fn harness(&self, word: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.arg(word).stdin(Stdio::null());
        // A harness that is killed leaves its scratch folder behind: here it goes with the fakes.
        command.env("TMPDIR", self.path());
        command
    }

    pub(crate) fn noted(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path().join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits for every server that ever started to be gone.
    pub(crate) fn check_no_orphan(&self) {
        let pids = self.noted("pids");
        assert!(!pids.is_empty());
        for pid in pids {
            wait_for(&format!("the end of {pid}"), || !is_alive(&pid));
        }
    }
}

pub(crate) fn send(signal: &str, child: &Child) {
    let pid = child.id().to_string();
    let status = Command::new("sh")
        .args(["-c", "kill -$0 $1", signal, &pid])
        .status();
    assert!(status.unwrap().success());
}

pub(crate) fn wait_for(what: &str, done: impl Fn() -> bool) {
    let deadline = clock::now() + Duration::from_secs(30);
    while !done() {
        assert!(clock::now() < deadline, "{what} did not come");
        clock::pause(Duration::from_millis(10));
    }
}

/// A zombie that its new parent has not waited for has ended.
fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_name, rest)| !rest.starts_with('Z'))
}
