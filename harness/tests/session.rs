//! Whole sessions, driven against small fakes of our programs.

#![expect(
    clippy::unwrap_used,
    reason = "a test's own files and processes; any failure is a failed test"
)]

mod fakes;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use fakes::{Fakes, send, wait_for};
use harness::plan::Plan;
use harness::raw::{self, RAW_FILE, Record};
use harness::setting::Setting;

/// A server that listens in words only, burns a little CPU, and notes its number.
const SERVER: &str = r#"#!/bin/sh
case "$1" in --version) echo "$(basename "$0") 9.9"; exit 0;; esac
echo $$ >> "$(dirname "$0")/pids"
echo "$(basename "$0") $*" >> "$(dirname "$0")/calls"
echo "listening on 127.0.0.1:9001" >&2
while :; do sleep 0.05; done
"#;

/// A load generator that reports 50 answers on each of its connections at once.
const LOAD: &str = r#"#!/bin/sh
echo "$(basename "$0") $*" >> "$(dirname "$0")/calls"
cat <<END
{"schema": "hp-bench/1", "tool": {"name": "hp-bench"}, "started": "2026-11-20T23:10:00Z", "interrupted": false,
 "target": {"url": "$1"}, "plan": {"mode": "closed", "connections": $3},
 "run": {"elapsed_s": 0.1, "requests": $((50 * $3)), "responses": $((50 * $3)), "rps": $((500 * $3)), "connections_min": $3},
 "status": {"2xx": $((50 * $3))}, "errors": {ERRORS},
 "latency_ns": {"clock": "service", "mean": 90000, "max": 9000000, "p": {"50": 100000, "99": 900000}},
 "client": {"cpu_ns": 1000000}}
END
"#;

const PLAN: &str = r#"
name = "small-plan"
title = "A plan of a test"
seed = 5
rounds = 2
attempts = 1
reference = "hp-uring"
control = "hp-uring"
calibrator = "relay-uring"
subjects = ["direct", "relay-uring", "hp-uring"]
[load]
seconds = 0.1
[[workload]]
name = "small"
title = "Small requests"
connections = [2, 16]
"#;

/// A folder with our programs, one for results, and one that is a git repository.
struct Lab {
    fakes: Fakes,
}

impl Lab {
    fn new(echo: &str, proxy: &str, load: &str) -> Self {
        let lab = Self {
            fakes: Fakes::new([("hp-echo", echo), ("hp-proxy", proxy), ("hp-bench", load)]),
        };
        fs::write(lab.fakes.path().join("plan.toml"), PLAN).unwrap();
        fs::create_dir(lab.tree()).unwrap();
        fs::write(lab.tree().join("source"), "one").unwrap();
        for words in [
            "init -q",
            "add source",
            "-c user.name=a -c user.email=a@b commit -q --no-gpg-sign -m one",
        ] {
            let status = Command::new("git")
                .args(words.split(' '))
                .current_dir(lab.tree())
                .status();
            assert!(status.unwrap().success(), "{words}");
        }
        lab
    }

    fn tree(&self) -> PathBuf {
        self.fakes.path().join("tree")
    }

    fn command(&self, flags: &[&str]) -> Command {
        let at = |name: &str| self.fakes.path().join(name).into_os_string();
        let mut command = self.fakes.harness("bench");
        command.arg("--bin-dir").arg(self.fakes.path());
        command.arg("--out").arg(at("results"));
        command.arg("--plan").arg(at("plan.toml"));
        command.args(["--data", env!("CARGO_MANIFEST_DIR")]);
        command.args(flags).current_dir(self.tree());
        command
    }

    fn bench(&self, flags: &[&str]) -> Output {
        self.command(flags).output().unwrap()
    }

    /// The only session below the results' folder.
    fn session(&self) -> PathBuf {
        let hosts = folders(&self.fakes.path().join("results"));
        assert_eq!(hosts.len(), 1, "{hosts:?}");
        let sessions = folders(&hosts[0]);
        assert_eq!(sessions.len(), 1, "{sessions:?}");
        sessions[0].clone()
    }

    fn records(&self) -> Vec<Record> {
        raw::read(&self.session().join(RAW_FILE)).unwrap()
    }
}

#[test]
fn a_session_leaves_its_folder_and_no_process() {
    let lab = Lab::new(SERVER, SERVER, &LOAD.replace("ERRORS", ""));
    let output = lab.bench(&["--network", "host"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(
        stderr.contains("1 workloads, 24 visits, about "),
        "{stderr}"
    );
    assert!(
        stderr.contains("missing: relay-uring (hp-relay is not built)"),
        "{stderr}"
    );
    lab.fakes.check_no_orphan();

    let records = lab.records();
    assert_eq!(
        records.len(),
        2 * 2 * 3,
        "two rounds of two rows of all that is there"
    );
    for round in [1, 2] {
        for row in ["c2", "c16"] {
            let mut subjects: Vec<&str> = records
                .iter()
                .filter(|record| record.round == round && record.row == row)
                .map(|record| record.subject.as_str())
                .collect();
            subjects.sort_unstable();
            assert_eq!(subjects, ["direct", "hp-uring", "hp-uring/aa"]);
        }
    }
    for record in &records {
        assert!(record.counts(), "{record:?}");
        assert_eq!(record.control, record.subject == "hp-uring/aa");
        assert_eq!(record.backend.cpu_ns.is_some(), record.subject != "direct");
        assert!(record.server.cpu_ns.is_some() && record.server.pss_kib.is_some());
        assert!(record.machine.elapsed_ns > 0);
    }

    let plan = fs::read_to_string(lab.session().join("plan.toml")).unwrap();
    assert_eq!(Plan::parse(&plan), Plan::parse(PLAN));
    let setting = Setting::read(&lab.session()).unwrap();
    assert!(setting.course.finished);
    assert_eq!(setting.course.visits, 12);
    assert_eq!(
        setting.subjects["hp-uring"].version.as_deref(),
        Some("hp-proxy 9.9")
    );
    assert_eq!(
        setting.subjects["relay-uring"].missing.as_deref(),
        Some("hp-relay is not built")
    );
    assert!(!setting.network.own && !setting.source.dirty);
    let name = lab
        .session()
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    assert!(
        name.ends_with(&format!("-{}", setting.source.commit)),
        "{name}"
    );
}

#[test]
fn in_turns_a_visit_has_two_loads_at_once_and_two_records() {
    let lab = Lab::new(SERVER, SERVER, &LOAD.replace("ERRORS", ""));
    let text = PLAN
        .replace("\"relay-uring\", ", "")
        .replace("[load]", "[load]\nvisit = \"turns\"");
    fs::write(lab.fakes.path().join("plan.toml"), text).unwrap();
    let output = lab.bench(&["--network", "host"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(
        stderr.contains("1 workloads, 16 visits, about "),
        "{stderr}"
    );
    lab.fakes.check_no_orphan();

    let records = lab.records();
    assert_eq!(records.len(), 2 * 2 * 2 * 2, "rounds, rows, pairs, both");
    for both in records.chunks(2) {
        let [own, reference] = both else {
            panic!("an even number");
        };
        assert!(own.is_paired_with(reference), "{both:?}");
        assert_eq!(reference.subject, "hp-uring");
        assert!(["direct", "hp-uring/aa"].contains(&own.subject.as_str()));
        let pairs = [own, reference].map(|record| record.pair.clone().unwrap());
        assert_eq!(
            pairs.each_ref().map(|pair| pair.of_reference),
            [false, true]
        );
        assert_eq!(pairs[0].turn + pairs[1].turn, 3);
        for record in both {
            assert!(
                record.counts() && record.server.cpu_ns.is_some(),
                "{record:?}"
            );
            assert_eq!(record.params.other["turn_ms"], 20);
            assert_eq!(record.backend.cpu_ns.is_some(), record.subject != "direct");
        }
    }
    let calls = lab.fakes.noted("calls");
    for turn in ["1/2", "2/2"] {
        let words = format!("--turns 20ms --turn {turn}");
        let loads = calls.iter().filter(|call| call.contains(&words));
        let lengths = loads
            .map(|call| call.contains(" -d 200ms "))
            .collect::<Vec<_>>();
        assert_eq!(lengths, [true; 8], "{turn}: both parts of the window");
    }
    // In each round the subjects' backend, the reference's own, and the one that is a subject.
    let backends = calls
        .iter()
        .filter(|call| call.starts_with("hp-echo --listen"));
    assert_eq!(backends.count(), 2 * 3, "{calls:?}");
}

/// A second workload of the plan.
const MORE: &str = r#"
[[workload]]
name = "more"
title = "As many requests"
rounds = 4
connections = [1]
"#;

#[test]
fn rounds_are_spread_over_the_session_and_have_new_processes() {
    let lab = Lab::new(SERVER, SERVER, &LOAD.replace("ERRORS", ""));
    fs::write(lab.fakes.path().join("plan.toml"), PLAN.to_owned() + MORE).unwrap();
    let output = lab.bench(&["--network", "host"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let mut rounds: Vec<(String, u32)> = Vec::new();
    for record in lab.records() {
        let round = (record.workload, record.round);
        if rounds.last() != Some(&round) {
            rounds.push(round);
        }
    }
    let order: Vec<(&str, u32)> = rounds
        .iter()
        .map(|(workload, round)| (workload.as_str(), *round))
        .collect();
    assert_eq!(
        order,
        [
            ("more", 1),
            ("small", 1),
            ("more", 2),
            ("more", 3),
            ("small", 2),
            ("more", 4)
        ]
    );
    // In each of the six: the backend, the one that is a subject, the proxy and its control; and once the proxy alone, for its messages.
    let calls = lab.fakes.noted("calls");
    let servers = calls.iter().filter(|call| call.contains("--listen"));
    assert_eq!(servers.count(), 6 * 4 + 1, "{calls:?}");
    // One load warms each of three servers up for each of three rows; then each is visited in each round.
    let loads = calls.iter().filter(|call| call.starts_with("hp-bench"));
    assert_eq!(loads.count(), 3 * 3 + (2 * 2 + 4) * 3, "{calls:?}");
    lab.fakes.check_no_orphan();
}

#[test]
fn a_workload_whose_rate_is_a_part_of_others_comes_after_all_of_them() {
    let rated = r#"
[[workload]]
name = "rated"
title = "Half of what the slowest reached"
connections = [2]
load = { extra = { rate_of_slowest = 0.5, of_workload = "small", of_row = "c16" } }
"#;
    let lab = Lab::new(SERVER, SERVER, &LOAD.replace("ERRORS", ""));
    let (head, first) = PLAN.split_once("[[workload]]").unwrap();
    let text = format!("{head}{rated}\n[[workload]]{first}");
    fs::write(lab.fakes.path().join("plan.toml"), text).unwrap();
    let output = lab.bench(&["--network", "host"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let records = lab.records();
    let (small, rated) = records.split_at(2 * 2 * 3);
    assert!(small.iter().all(|record| record.workload == "small"));
    assert_eq!(rated.len(), 2 * 3);
    for record in rated {
        assert_eq!(record.params.rate, Some(4_000.0), "half of 500 x 16");
    }
}

#[test]
fn who_is_missing_in_one_later_round_is_visited_in_the_next() {
    // The fourth proxy of the session does not start: one was asked for its messages, two were there in the first round.
    let proxy = SERVER.replace(
        "echo \"listening",
        "[ $(grep -c hp-proxy $(dirname $0)/calls) != 4 ] || { echo 'no ring' >&2; exit 3; }\necho \"listening",
    );
    let lab = Lab::new(SERVER, &proxy, &LOAD.replace("ERRORS", ""));
    let output = lab.bench(&["--network", "host", "--rounds", "3"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let mut visits: Vec<(u32, String)> = lab
        .records()
        .into_iter()
        .filter(|record| record.row == "c16" && record.subject.starts_with("hp-uring"))
        .map(|record| (record.round, record.subject))
        .collect();
    visits.sort();
    let subjects = ["hp-uring", "hp-uring/aa"];
    let mut expected: Vec<(u32, String)> = (1..=3)
        .flat_map(|round| subjects.map(|subject| (round, subject.to_owned())))
        .collect();
    expected.remove(2);
    assert_eq!(visits, expected);
    let setting = Setting::read(&lab.session()).unwrap();
    assert_eq!(setting.subjects["hp-uring"].missing, None);
}

#[test]
fn nothing_that_is_committed_names_this_machine() {
    let lab = Lab::new(SERVER, SERVER, &LOAD.replace("ERRORS", ""));
    assert_eq!(lab.bench(&["--network", "host"]).status.code(), Some(0));
    let folder = lab.fakes.path().display().to_string();
    for file in ["env.json", "plan.toml"] {
        let text = fs::read_to_string(lab.session().join(file)).unwrap();
        assert!(!text.contains(&folder), "{file}: {text}");
        assert!(!text.contains(env!("CARGO_MANIFEST_DIR")), "{file}: {text}");
    }
}

#[test]
fn a_session_has_a_network_of_its_own_or_says_why_not() {
    let lab = Lab::new(SERVER, SERVER, &LOAD.replace("ERRORS", ""));
    let output = lab.bench(&["--rounds", "1"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let network = Setting::read(&lab.session()).unwrap().network;
    assert!(network.own || network.reason.is_some(), "{network:?}");
    if network.own && network.reason.is_none() {
        assert_eq!(network.congestion.as_deref(), Some("cubic"));
    }
    lab.fakes.check_no_orphan();
}

#[test]
fn what_fails_twice_is_not_visited_again() {
    let lab = Lab::new(SERVER, SERVER, &LOAD.replace("ERRORS", r#""reset": 3"#));
    let output = lab.bench(&["--network", "host", "--rounds", "4"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "nothing counts: {stderr}");
    assert!(stderr.contains("VOID: errors: reset 3"), "{stderr}");
    assert!(stderr.contains("hp-uring failed twice on c16"), "{stderr}");
    let records = lab.records();
    assert_eq!(records.len(), 2 * 2 * 3);
    assert!(
        records
            .iter()
            .all(|record| record.void == ["errors: reset 3"])
    );
}

#[test]
fn a_subject_that_does_not_start_stops_nobody_else() {
    let proxy = "#!/bin/sh\necho 'no ring' >&2\nexit 3\n";
    let lab = Lab::new(SERVER, proxy, &LOAD.replace("ERRORS", ""));
    let output = lab.bench(&["--network", "host"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(lab.records().len(), 2 * 2);
    let setting = Setting::read(&lab.session()).unwrap();
    let reason = setting.subjects["hp-uring"].missing.clone().unwrap();
    assert!(
        reason.contains("ended before it listened (exit status: 3)") && reason.contains("no ring"),
        "{reason}"
    );
    lab.fakes.check_no_orphan();
}

#[test]
fn a_server_that_ends_is_void_and_then_missing() {
    let proxy = SERVER.replace("while :; do sleep 0.05; done", "echo 'out of rings' >&2");
    let lab = Lab::new(SERVER, &proxy, &LOAD.replace("ERRORS", ""));
    let output = lab.bench(&["--network", "host"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let setting = Setting::read(&lab.session()).unwrap();
    let reason = setting.subjects["hp-uring"].missing.clone().unwrap();
    assert!(
        reason.contains("ended (exit status: 0): out of rings"),
        "{reason}"
    );
    let others = lab.records();
    assert!(
        others
            .iter()
            .all(|record| record.subject == "direct" || !record.counts()),
        "{others:?}"
    );
}

#[test]
fn sources_that_differ_from_their_commit_are_refused() {
    let lab = Lab::new(SERVER, SERVER, &LOAD.replace("ERRORS", ""));
    fs::write(lab.tree().join("source"), "two").unwrap();
    let output = lab.bench(&["--network", "host"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("differs from its commit"), "{stderr}");
    assert!(lab.fakes.noted("pids").is_empty(), "nothing was started");

    assert_eq!(
        lab.bench(&["--network", "host", "--force", "--rounds", "1"])
            .status
            .code(),
        Some(0)
    );
    assert!(lab.session().to_string_lossy().ends_with("-dirty"));
}

#[test]
fn a_missing_program_is_named() {
    let lab = Lab::new(SERVER, SERVER, "");
    fs::remove_file(lab.fakes.path().join("hp-bench")).unwrap();
    let output = lab.bench(&["--network", "host"]);
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
    assert_eq!(lab.bench(&["--rounds", "none"]).status.code(), Some(2));
    assert_eq!(lab.bench(&["--only", "nobody"]).status.code(), Some(2));
    assert_eq!(
        lab.bench(&["--inside", "net:[1]"]).status.code(),
        Some(2),
        "this network was not made by the harness"
    );
}

/// The signal goes to the harness alone, as from a service manager; a terminal would send it to its whole group.
#[test]
fn an_interrupted_session_keeps_what_it_saw_and_leaves_no_process() {
    let slow = LOAD.replace("ERRORS", "").replace(
        "cat <<END",
        "[ $(wc -l < $(dirname $0)/calls) -lt 20 ] || exec sleep 600\ncat <<END",
    );
    for (signal, code) in [("INT", Some(130)), ("TERM", Some(143)), ("KILL", None)] {
        let lab = Lab::new(SERVER, SERVER, &slow);
        let mut harness = lab
            .command(&["--network", "host", "--rounds", "50"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("the load", || lab.fakes.noted("calls").len() >= 20);
        send(signal, &harness);
        assert_eq!(harness.wait().unwrap().code(), code, "{signal}");
        lab.fakes.check_no_orphan();
        if code.is_some() {
            assert!(!lab.records().is_empty(), "{signal}");
            assert!(!Setting::read(&lab.session()).unwrap().course.finished);
        }
    }
}

#[test]
fn plans_are_listed_with_their_lengths() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    let output = command
        .args(["plans", "--data", env!("CARGO_MANIFEST_DIR")])
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(
        stdout.lines().any(|line| line.starts_with("bench ")),
        "{stdout}"
    );
}

fn folders(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).collect()
}
