//! Commands that read results from files, and the files that a run writes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use crate::server::{Script, bench, serve};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// A folder of one test's own, with the result of a short run in `a.json`.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let (addr, _requests) = serve(Script::Answer(OK));
        let file = folder.path("a.json");
        let output = bench(&[&addr.to_string(), "2", "-d", "200ms", "-q", "--json", &file]);
        assert_eq!(output.status.code(), Some(0));
        folder
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap()
    }

    /// Writes a changed copy of `a.json`.
    fn change(&self, name: &str, pointer: &str, value: Value) -> String {
        let mut document = self.json("a.json");
        *document.pointer_mut(pointer).unwrap() = value;
        fs::write(self.path(name), document.to_string()).unwrap();
        self.path(name)
    }
}

/// One line on stderr with `part`, nothing on stdout, and this status.
fn check_failure(output: &Output, code: i32, part: &str) {
    let line = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(
        (output.status.code(), output.stdout.len()),
        (Some(code), 0),
        "{line}"
    );
    assert!(line.contains(part), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
}

#[test]
fn merged_result_has_the_requests_of_both() {
    let folder = Folder::new();
    let (file, series) = (folder.path("a.json"), folder.path("s.ndjson"));
    let output = bench(&["merge", &file, &file, "--json", "-", "--series", &series]);
    assert_eq!(output.status.code(), Some(0));
    let (one, sum) = (
        folder.json("a.json"),
        serde_json::from_slice::<Value>(&output.stdout).unwrap(),
    );
    let responses = |document: &Value| document["run"]["responses"].as_u64().unwrap();
    assert_eq!(responses(&sum), 2 * responses(&one));
    assert_eq!(sum["latency_ns"]["p"], one["latency_ns"]["p"]);
    let first: Value =
        serde_json::from_str(fs::read_to_string(&series).unwrap().lines().next().unwrap()).unwrap();
    assert_eq!(first, sum["series"][0]);
    let summary = String::from_utf8(output.stderr).unwrap();
    assert!(summary.contains("4 connections"), "{summary}");
}

#[test]
fn files_that_are_no_results_are_one_line_and_exit_one() {
    let folder = Folder::new();
    let good = folder.path("a.json");
    let whole = fs::read(&good).unwrap();
    let cut = folder.path("cut.json");
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let text = folder.path("text.json");
    fs::write(&text, "Running 10s test\n\n").unwrap();
    let binary = folder.path("binary.json");
    fs::write(&binary, [0xff; 100]).unwrap();
    let page = folder.path("page.html");
    fs::write(&page, "<!doctype html>\n<p>hello\n").unwrap();
    let bad = [
        (folder.path("none.json"), "No such file"),
        (folder.path(""), "directory"),
        (cut, "no result of hp-bench"),
        (text, "no result of hp-bench"),
        (binary, "UTF-8"),
        (page, "a page without results"),
        (
            folder.change("other.json", "/schema", json!("other/1")),
            "schema \"other/1\"",
        ),
        (
            folder.change("huge.json", "/run/responses", json!(u64::MAX)),
            "run.responses is out of range",
        ),
        (
            folder.change("large.json", "/run/responses", json!(1e300)),
            "no result of hp-bench",
        ),
        (
            folder.change(
                "hist.json",
                "/histograms/service",
                json!("HISTFAAAAHh42g=="),
            ),
            "histogram service",
        ),
    ];
    for (file, part) in &bad {
        check_failure(&bench(&["merge", &good, file]), 1, part);
        check_failure(&bench(&["diff", &good, file]), 1, part);
        check_failure(
            &bench(&["report", file, "-o", &folder.path("out.html")]),
            1,
            part,
        );
    }
    assert!(!Path::new(&folder.path("out.html")).exists());
}

#[test]
fn results_of_different_plans_are_not_added() {
    let folder = Folder::new();
    let other = folder.change("b.json", "/plan/duration_s", json!(7.5));
    let said = "b.json: plan.duration_s is 7.5 here and 0.2 in the first file";
    check_failure(&bench(&["merge", &folder.path("a.json"), &other]), 1, said);
}

#[test]
fn regression_is_exit_three() {
    let folder = Folder::new();
    let good = folder.path("a.json");
    let worse = folder.change("b.json", "/run/rps", json!(0.5));
    let output = bench(&["diff", &good, &good]);
    assert_eq!(output.status.code(), Some(0));
    let output = bench(&["diff", &good, &worse]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("REGRESSION")
    );
    let output = bench(&["diff", &good, &worse, "--rate-loss", "100"]);
    assert_eq!(output.status.code(), Some(0));
    check_failure(&bench(&["diff", &good]), 2, "<NEW>");
    let paced = folder.change("c.json", "/latency_ns/clock", json!("response"));
    check_failure(
        &bench(&["diff", &good, &paced]),
        1,
        "compare results of one mode",
    );
}

#[test]
fn page_can_be_reported_from_and_merged_again() {
    let folder = Folder::new();
    let (good, page, svg) = (
        folder.path("a.json"),
        folder.path("a.html"),
        folder.path("plots/svg"),
    );
    let output = bench(&["report", &good, &good, "-o", &page, "--svg", &svg]);
    assert_eq!(
        (
            output.status.code(),
            output.stdout.len(),
            output.stderr.len()
        ),
        (Some(0), 0, 0)
    );
    assert!(Path::new(&svg).join("latency-by-percentile.svg").exists());
    let output = bench(&["merge", &page, "-q", "--json", "-"]);
    let sum: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(sum["plan"]["connections"], 4);
    check_failure(&bench(&["diff", &page, &good]), 1, "has 2 results");
}

#[test]
fn run_writes_every_file_that_is_asked_for() {
    let folder = Folder::new();
    let (addr, _requests) = serve(Script::Answer(OK));
    let names = ["r.json", "s.ndjson", "r.hgrm", "r.hlog", "r.html", "plots"];
    let [json, series, hgrm, hlog, html, svg] = names.map(|name| folder.path(name));
    let addr = addr.to_string();
    let output = bench(&[
        &addr,
        "2",
        "-d",
        "1200ms",
        "--json",
        &json,
        "--series",
        &series,
        "--hgrm",
        &hgrm,
        "--hlog",
        &hlog,
        "--html",
        &html,
        "--svg",
        &svg,
        "--progress",
        "line",
    ]);
    assert_eq!(output.status.code(), Some(0));
    let progress = String::from_utf8(output.stderr).unwrap();
    assert!(progress.starts_with("    1.0s "), "{progress}");
    let document = folder.json("r.json");
    let lines = fs::read_to_string(&series).unwrap();
    let seconds: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(Value::from(seconds.clone()), document["series"]);
    let counted: u64 = seconds
        .iter()
        .map(|second| second["n"].as_u64().unwrap())
        .sum();
    assert_eq!(
        document["run"]["responses"], counted,
        "no answer is in no second"
    );
    let spectrum = fs::read_to_string(&hgrm).unwrap();
    assert!(
        spectrum.starts_with("       Value   Percentile   TotalCount 1/(1-Percentile)\n\n"),
        "{spectrum}"
    );
    let log = fs::read_to_string(&hlog).unwrap();
    assert_eq!(log.matches(",HISTFAAA").count(), seconds.len());
    assert!(
        fs::read_to_string(&html)
            .unwrap()
            .starts_with("<!doctype html>")
    );
    assert!(
        PathBuf::from(svg)
            .join("latency-by-percentile.svg")
            .exists()
    );
}

#[test]
fn csv_has_a_line_for_each_request() {
    let folder = Folder::new();
    for pace in [&["-R", "200"][..], &[]] {
        let (addr, _requests) = serve(Script::Answer(OK));
        let (addr, csv) = (addr.to_string(), folder.path("r.csv"));
        let fixed = [
            addr.as_str(),
            "2",
            "-d",
            "300ms",
            "-q",
            "--csv",
            &csv,
            "--json",
            "-",
        ];
        let output = bench(&[&fixed, pace].concat());
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let lines = fs::read_to_string(&csv).unwrap();
        let rows: Vec<Vec<u64>> = lines
            .lines()
            .skip(1)
            .map(|line| line.split(',').map(|cell| cell.parse().unwrap()).collect())
            .collect();
        assert_eq!(document["run"]["responses"], rows.len(), "{pace:?}");
        assert!(
            rows.iter()
                .all(|row| row[5] == 200 && row[6] == OK.len() as u64)
        );
        assert!(
            rows.windows(2).all(|pair| pair[0][0] <= pair[1][0]),
            "in order"
        );
        assert_eq!(rows[0][0], 0);
    }
}

#[test]
fn file_that_cannot_be_written_is_told_before_the_run() {
    let (addr, requests) = serve(Script::Answer(OK));
    let output = bench(&[&addr.to_string(), "--series", "no/such/folder/s.ndjson"]);
    check_failure(&output, 1, "name another --series");
    assert_eq!(requests.load(std::sync::atomic::Ordering::Relaxed), 0);
}
