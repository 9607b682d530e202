//! Whole comparisons of two revisions, driven against small fakes of our programs: what they cost is what the fakes say.

#![expect(
    clippy::unwrap_used,
    reason = "a test's own files and processes; any failure is a failed test"
)]

mod fakes;

use std::process::{Command, Output, Stdio};

use fakes::{Fakes, send, wait_for};

/// A server that listens in words only, on a port that its environment may name, and notes its number.
const SERVER: &str = r#"#!/bin/sh
echo $$ >> "$(dirname "$0")/pids"
echo "$(basename "$0") $*" >> "$(dirname "$0")/calls"
echo "listening on 127.0.0.1:${PORT:-9001}" >&2
while :; do sleep 0.05; done
"#;

/// A load generator whose answers cost 20 us, and 22 us on port 9003, where the slowest hundredth waits twice as long.
const LOAD: &str = r#"#!/bin/sh
echo "$(basename "$0") $*" >> "$(dirname "$0")/calls"
cost=20000 p99=900000 n=$((50 * $3))
case $1 in *:9003/) cost=22000 p99=1800000;; esac
cat <<END
{"schema": "hp-bench/1", "tool": {"name": "hp-bench"}, "started": "2026-11-20T23:10:00Z", "interrupted": false,
 "target": {"url": "$1"}, "plan": {"mode": "closed", "connections": $3},
 "run": {"elapsed_s": 0.1, "requests": $n, "responses": $n, "rps": $((10 * n)), "connections_min": $3},
 "status": {"2xx": $n}, "errors": {ERRORS}, "target_cost": {"source": "pid", "cpu_ns": $((cost * n))},
 "latency_ns": {"clock": "service", "mean": 90000, "max": 9000000, "p": {"50": 100000, "99": $p99}},
 "client": {"cpu_ns": 1000000}}
END
"#;

/// A folder with our programs.
struct Lab {
    fakes: Fakes,
}

impl Lab {
    fn new(load: &str) -> Self {
        let programs = [
            ("hp-echo", SERVER),
            ("hp-proxy", SERVER),
            ("hp-bench", load),
        ];
        Self {
            fakes: Fakes::new(programs),
        }
    }

    /// One that finds nothing wrong.
    fn without_errors() -> Self {
        Self::new(&LOAD.replace("ERRORS", ""))
    }

    fn command(&self, flags: &str) -> Command {
        let mut command = self.fakes.harness("compare");
        command.arg("--skip-counters");
        for flag in ["--bin-dir", "--base-bin", "--head-bin"] {
            command.arg(flag).arg(self.fakes.path());
        }
        command.args(flags.split(' '));
        command
    }

    fn compare(&self, flags: &str) -> Output {
        self.command(flags).output().unwrap()
    }

    fn calls(&self, part: &str) -> usize {
        let calls = self.fakes.noted("calls").into_iter();
        calls.filter(|call| call.contains(part)).count()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A line of the table, by the first words of its columns.
fn has_line(output: &Output, words: [&str; 3]) -> bool {
    let stdout = text(&output.stdout);
    let mut lines = stdout.lines();
    lines.any(|line| {
        let found: Vec<&str> = line.split_whitespace().take(3).collect();
        found == words
    })
}

#[test]
fn equals_pass_in_visits_of_new_processes() {
    let lab = Lab::without_errors();
    let output = lab.compare("--workloads small --rounds 3 --engine epoll");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(has_line(&output, ["pass", "small", "CPU"]), "{output:?}");
    assert!(text(&output.stdout).contains("A/A 1.000 [1.000, 1.000]"));
    assert!(text(&output.stderr).contains("small    round  3: head 20.00 us by 20.00 = 1.000"));
    // Two visits a round, each with two servers and a backend for each of them.
    for (program, count) in [("hp-proxy ", 12), ("hp-echo ", 12)] {
        assert_eq!(lab.calls(program), count, "{program}");
    }
    for turn in ["1/2", "2/2"] {
        let words = format!("--turns 20ms --turn {turn}");
        assert!(lab.calls(&words) >= 6, "{turn}"); // More where the machine was disturbed.
    }
    assert_eq!(
        lab.calls(" -d 1000ms "),
        lab.calls("hp-bench "),
        "both share a second"
    );
    lab.fakes.check_no_orphan();
}

#[test]
fn a_head_that_costs_more_is_a_loss_and_exit_code_3() {
    let lab = Lab::without_errors();
    let output = lab.compare("--workloads small,latency --rounds 3 --head-env PORT=9003");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    for words in [
        ["FAIL", "small", "CPU"],
        ["FAIL", "latency", "CPU"],
        ["FAIL", "latency", "p99"],
    ] {
        assert!(has_line(&output, words), "{words:?}: {output:?}");
    }
    assert!(text(&output.stdout).contains("1.100 [1.100, 1.100]"));
    // A rate takes no turns: base, head and base again, each alone.
    let paced = lab.fakes.noted("calls").into_iter();
    let paced: Vec<String> = paced.filter(|call| call.contains(" -R 10000 ")).collect();
    assert!(paced.len() >= 9 && !paced.iter().any(|call| call.contains("--turn")));
    lab.fakes.check_no_orphan();
}

#[test]
fn what_may_not_be_used_is_tried_thrice_and_judged_never() {
    let lab = Lab::new(&LOAD.replace("ERRORS", r#""reset": 3"#));
    let output = lab.compare("--workloads churn --rounds 3");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let again = stderr.lines().filter(|line| line.contains("again: "));
    assert_eq!(again.count(), 2, "{stderr}");
    let last = stderr.lines().last().unwrap();
    assert!(
        last.starts_with("harness: churn: base: errors: reset 3"),
        "{last}"
    );
    lab.fakes.check_no_orphan();
}

#[test]
fn an_interrupted_comparison_leaves_no_process() {
    let lab = Lab::without_errors();
    let mut harness = lab
        .command("--workloads small --rounds 101")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the load", || lab.calls("hp-bench ") >= 4);
    send("TERM", &harness);
    assert_eq!(harness.wait().unwrap().code(), Some(143));
    lab.fakes.check_no_orphan();
}

#[test]
fn the_length_is_told_before_anything_starts() {
    let lab = Lab::without_errors();
    let output = lab.compare("--workloads small --rounds 20 --how-long");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // Two visits of a second each and half as much around it.
    let seconds: f64 = text(&output.stdout).trim().parse().unwrap();
    assert!((50.0..80.0).contains(&seconds), "{seconds}");
    assert!(lab.fakes.noted("calls").is_empty());
}
