//! The complete `harness bench`, driven against small fakes of the three programs.

#![expect(
    clippy::unwrap_used,
    reason = "a test's own files and processes; any failure is a failed test"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use harness::clock;
use harness::report::CellFile;

/// A server that listens in words only, burns a little CPU, and notes its number.
const SERVER: &str = r#"#!/bin/sh
echo $$ >> "$(dirname "$0")/pids"
echo "$(basename "$0") $*" >> "$(dirname "$0")/calls"
echo "listening on 127.0.0.1:9001" >&2
while :; do sleep 0.05; done
"#;

/// A load generator that reports 5,000 answers at once.
const LOAD: &str = r#"#!/bin/sh
echo "$(basename "$0") $*" >> "$(dirname "$0")/calls"
cat <<END
{"schema": "hp-bench/1", "tool": {"name": "hp-bench", "version": "0.1.0", "engine": "epoll"},
 "plan": {"mode": "closed", "connections": $2, "threads": 1, "duration_s": $3.0},
 "run": {"elapsed_s": $3.0, "requests": 5000, "responses": 5000, "rps": 5000.0, "connections_min": $2},
 "status": {"2xx": 5000}, "errors": {ERRORS},
 "latency_ns": {"max": 9000000, "p": {"50": 100000, "99": 900000}}, "interrupted": false}
END
"#;

/// A folder with the three programs, and one for results.
struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn new(echo: &str, proxy: &str, load: &str) -> Self {
        let lab = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        for (name, script) in [("hp-echo", echo), ("hp-proxy", proxy), ("hp-bench", load)] {
            let path = lab.folder.path().join(name);
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        lab
    }

    fn command(&self, flags: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command
            .arg("bench")
            .arg("--bin-dir")
            .arg(self.folder.path())
            .arg("--out")
            .arg(self.out());
        command.args(flags.split(' ')).stdin(Stdio::null());
        command
    }

    fn bench(&self, flags: &str) -> Output {
        self.command(flags).output().unwrap()
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("results")
    }

    /// The only run below the results' folder.
    fn run(&self) -> PathBuf {
        let sessions = folders(&self.out());
        assert_eq!(sessions.len(), 1, "{sessions:?}");
        let runs = folders(&sessions[0]);
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs[0].clone()
    }

    fn noted(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits for every server that ever started to be gone.
    fn check_no_orphan(&self) {
        let pids = self.noted("pids");
        assert!(!pids.is_empty());
        for pid in pids {
            wait_for(&format!("the end of {pid}"), || !is_alive(&pid));
        }
    }
}

#[test]
fn a_quick_session_leaves_files_and_no_process() {
    let lab = Lab::new(SERVER, SERVER, &LOAD.replace("ERRORS", ""));
    let output = lab.bench("--quick --workers 1 --connections 2,16 --rounds 2 --seed 5");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("seed 5"), "{stderr}");
    assert_eq!(
        stderr
            .lines()
            .filter(|line| line.contains(" round "))
            .count(),
        24,
        "{stderr}"
    );

    let run = lab.run();
    let file: CellFile =
        serde_json::from_str(&fs::read_to_string(run.join("cells.json")).unwrap()).unwrap();
    assert_eq!(file.cells.len(), 12);
    for cell in &file.cells {
        assert!(!cell.void, "{cell:?}");
        assert_eq!(
            cell.visits
                .iter()
                .map(|visit| visit.round)
                .collect::<Vec<_>>(),
            [1, 2]
        );
        assert_eq!(cell.summary.unwrap().rps, 5_000.0);
    }
    let markdown = fs::read_to_string(run.join("bench.md")).unwrap();
    for part in [
        "## Direct",
        "## Proxied",
        "A/A, workers 1",
        "--seed 5",
        "Closed loop: a stall",
    ] {
        assert!(markdown.contains(part), "{part}: {markdown}");
    }
    let machine = fs::read_to_string(run.join("machine.json")).unwrap();
    assert!(machine.contains("\"seed\": 5"), "{machine}");
    let index = fs::read_to_string(lab.out().join("INDEX.md")).unwrap();
    assert_eq!(index.matches("/bench.md)").count(), 1, "{index}");
    let place = lab.folder.path().to_string_lossy().into_owned();
    assert!(
        !format!("{markdown}{machine}{index}").contains(&place),
        "a result names a folder"
    );

    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("## Proxied")
    );
    lab.check_no_orphan();
}

#[test]
fn programs_are_called_as_their_command_lines_are_written() {
    let lab = Lab::new(SERVER, SERVER, &LOAD.replace("ERRORS", ""));
    let output = lab.bench("--engines uring --workers 2 --connections 3 --seconds 1 --rounds 1");
    assert_eq!(output.status.code(), Some(0));
    let calls = lab.noted("calls");
    let called = |start: &str, end: &str| {
        assert!(
            calls
                .iter()
                .any(|call| call.starts_with(start) && call.ends_with(end)),
            "{calls:?}"
        );
    };
    called(
        "hp-echo --listen 127.0.0.1:0 --workers 2 --engine uring --body 13",
        "",
    );
    called(
        "hp-echo --listen 127.0.0.1:0 --workers 1 --engine epoll --body 13",
        "",
    );
    called(
        "hp-proxy --listen 127.0.0.1:0 --workers 2 --engine uring --backend 127.0.0.1:",
        "",
    );
    called(
        "hp-bench 127.0.0.1:",
        " 3 1 --engine epoll -t 1 --warmup 0 --progress none --json -",
    );
}

#[test]
fn errors_void_a_cell_and_are_not_averaged() {
    let lab = Lab::new(SERVER, SERVER, &LOAD.replace("ERRORS", "\"reset\": 2"));
    let output = lab.bench("--engines epoll --workers 1 --connections 2 --seconds 1 --rounds 1");
    assert_eq!(output.status.code(), Some(0));
    let markdown = fs::read_to_string(lab.run().join("bench.md")).unwrap();
    assert!(
        markdown.contains("VOID proxied/epoll/w1/c2: round 1: errors: reset 2."),
        "{markdown}"
    );
    let file = fs::read_to_string(lab.run().join("cells.json")).unwrap();
    let file: CellFile = serde_json::from_str(&file).unwrap();
    assert!(
        file.cells
            .iter()
            .all(|cell| cell.void && cell.summary.is_none())
    );
}

#[test]
fn a_server_that_does_not_start_is_quoted_and_the_others_end() {
    let refusal = "#!/bin/sh\necho 'io_uring: not permitted' >&2\nexit 1\n";
    let lab = Lab::new(SERVER, refusal, &LOAD.replace("ERRORS", ""));
    let output = lab.bench("--quick");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("hp-proxy --listen 127.0.0.1:0 --workers 1 --engine uring"),
        "{stderr}"
    );
    assert!(
        stderr.contains("ended before it listened (exit status: 1)"),
        "{stderr}"
    );
    assert!(
        stderr.ends_with("  | io_uring: not permitted\n"),
        "{stderr}"
    );
    assert!(!lab.out().exists());
    lab.check_no_orphan();
}

#[test]
fn a_load_without_a_report_ends_the_session() {
    let lab = Lab::new(SERVER, SERVER, "#!/bin/sh\necho 'no route' >&2\nexit 1\n");
    let output = lab.bench("--quick");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("gave no usable report (exit status: 1;"),
        "{stderr}"
    );
    assert!(stderr.ends_with("  | no route\n"), "{stderr}");
    lab.check_no_orphan();
}

#[test]
fn a_missing_program_is_named() {
    let lab = Lab::new(SERVER, SERVER, "");
    fs::remove_file(lab.folder.path().join("hp-bench")).unwrap();
    let output = lab.bench("--quick");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("hp-bench: no such program; run `cargo build --release`"),
        "{stderr}"
    );
}

#[test]
fn misuse_is_exit_code_2() {
    let lab = Lab::new(SERVER, SERVER, "");
    assert_eq!(lab.bench("--rounds none").status.code(), Some(2));
}

/// The signal goes to the harness alone, as from a service manager; a terminal would send it to all.
#[test]
fn an_interrupted_session_leaves_no_process() {
    let lab = Lab::new(SERVER, SERVER, "#!/bin/sh\nexec sleep 600\n");
    for signal in ["INT", "KILL"] {
        let mut harness = lab
            .command("--quick")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("the proxies", || {
            lab.noted("calls")
                .iter()
                .any(|call| call.starts_with("hp-proxy"))
        });
        send(signal, &harness);
        harness.wait().unwrap();
        lab.check_no_orphan();
        fs::remove_file(lab.folder.path().join("calls")).unwrap();
    }
}

fn send(signal: &str, child: &Child) {
    let pid = child.id().to_string();
    let status = Command::new("sh")
        .args(["-c", "kill -$0 $1", signal, &pid])
        .status()
        .unwrap();
    assert!(status.success());
}

/// A zombie that its new parent has not waited for has ended.
fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_name, rest)| !rest.starts_with('Z'))
}

fn wait_for(what: &str, done: impl Fn() -> bool) {
    let deadline = clock::now() + Duration::from_secs(20);
    while !done() {
        assert!(clock::now() < deadline, "{what} did not come");
        clock::pause(Duration::from_millis(10));
    }
}

fn folders(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).collect()
}
