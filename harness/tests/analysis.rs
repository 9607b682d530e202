//! What is derived from raw records: numbers whose truth is known, because the records are made.

#![expect(
    clippy::unwrap_used,
    reason = "a test's own files; any failure is a failed test"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "made numbers are positive and small"
)]

#[path = "analysis/made.rs"]
mod made;
#[path = "analysis/turns.rs"]
mod turns;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use harness::raw::{Latencies, Limit, Record};
use harness::summary::ratio::{Quantity, Verdict};
use harness::summary::{Cell, Row, Summary, Workload};
use harness::{derive, index, page, readme};

use made::Made;

fn summary(records: &[Record]) -> Summary {
    Summary::of(&made::plan(), records)
}

fn workload<'a>(summary: &'a Summary, name: &str) -> &'a Workload {
    summary
        .workloads
        .iter()
        .find(|workload| workload.name == name)
        .unwrap()
}

fn row<'a>(summary: &'a Summary, name: &str) -> &'a Row {
    let mut rows = summary.workloads.iter().flat_map(|workload| &workload.rows);
    rows.find(|row| row.name == name).unwrap()
}

fn cell<'a>(summary: &'a Summary, name: &str, subject: &str) -> &'a Cell {
    row(summary, name).cell(subject).unwrap()
}

/// What is said of a subject's cost at 100 connections.
fn check_cost(summary: &Summary, subject: &str, against: &str, truth: f64, verdict: Verdict) {
    let ratio = cell(summary, "c100", subject)
        .ratio(Quantity::Cost, against)
        .unwrap();
    assert!(
        (ratio.ratio / truth - 1.0).abs() < 0.015,
        "{subject}: {ratio:?}"
    );
    assert!(
        ratio.low <= truth && truth <= ratio.high || (ratio.ratio - truth).abs() < 0.01,
        "{subject}: {ratio:?}"
    );
    assert_eq!(ratio.verdict, Some(verdict), "{subject}: {ratio:?}");
    assert_eq!(ratio.pairs, 9);
}

/// The records of a subject in a row.
fn of<'a>(records: &'a mut [Record], row: &str, subject: &str) -> Vec<&'a mut Record> {
    let is_asked = |record: &&mut Record| record.row == row && record.subject == subject;
    records.iter_mut().filter(is_asked).collect()
}

#[test]
fn ratios_are_those_that_were_made() {
    let summary = summary(&Made::default().records());
    check_cost(&summary, "direct", "relay-uring", 0.5, Verdict::Less);
    check_cost(&summary, "hp-uring", "relay-uring", 1.16, Verdict::More);
    check_cost(&summary, "nginx", "relay-uring", 1.54, Verdict::More);
    check_cost(&summary, "nginx", "hp-uring", 1.54 / 1.16, Verdict::More);
    check_cost(&summary, "hp-epoll", "hp-uring", 1.17 / 1.16, Verdict::Tie);
    let control = cell(&summary, "c100", "hp-uring/aa");
    assert!(control.control);
    assert_eq!(
        control.ratio(Quantity::Cost, "hp-uring").unwrap().verdict,
        None
    );
}

#[test]
fn an_equal_second_process_is_nine_times_in_ten_a_tie() {
    let ties = (1..=20).filter(|seed| {
        let made = Made {
            seed: *seed,
            paced: false,
            costs: vec![
                ("relay-uring", 1.0),
                ("hp-uring", 1.0),
                ("hp-uring/aa", 1.0),
            ],
            ..Made::default()
        };
        let summary = summary(&made.records());
        let cell = cell(&summary, "c100", "hp-uring");
        cell.ratio(Quantity::Cost, "relay-uring").unwrap().verdict == Some(Verdict::Tie)
    });
    assert_eq!(ties.count(), 20);
}

#[test]
fn noise_of_the_control_swallows_small_effects() {
    let made = |noise| Made {
        noise,
        paced: false,
        costs: vec![
            ("relay-uring", 1.0),
            ("hp-uring", 1.05),
            ("hp-uring/aa", 1.05),
        ],
        ..Made::default()
    };
    let verdict = |noise| {
        let summary = summary(&made(noise).records());
        let cell = cell(&summary, "c100", "hp-uring");
        cell.ratio(Quantity::Cost, "relay-uring").unwrap().verdict
    };
    assert_eq!(verdict(0.002), Some(Verdict::More));
    assert_eq!(verdict(0.2), Some(Verdict::Tie));
}

#[test]
fn without_control_or_rounds_there_is_no_verdict() {
    let without = Made {
        costs: vec![("relay-uring", 1.0), ("hp-uring", 2.0)],
        ..Made::default()
    };
    let few = Made {
        rounds: 4,
        ..Made::default()
    };
    for made in [without, few] {
        let summary = summary(&made.records());
        let ratio = cell(&summary, "c100", "hp-uring").ratio(Quantity::Cost, "relay-uring");
        assert_eq!(ratio.unwrap().verdict, Some(Verdict::Unknown));
    }
}

#[test]
fn one_void_round_is_left_out_and_two_are_a_failure() {
    let mut records = Made::default().records();
    let mut visits = of(&mut records, "c100", "nginx");
    visits[2].void.push("errors: reset 3".into());
    visits[2].server.cpu_ns = Some(1);
    let one = summary(&records);
    let nginx = cell(&one, "c100", "nginx");
    assert_eq!((nginx.rounds, nginx.failed), (8, false));
    assert_eq!(nginx.void, ["round 3: errors: reset 3"]);
    assert_eq!(nginx.ratio(Quantity::Cost, "relay-uring").unwrap().pairs, 8);

    of(&mut records, "c100", "nginx")[5]
        .void
        .push("errors: eof_early 1".into());
    let two = summary(&records);
    let nginx = cell(&two, "c100", "nginx");
    assert!(nginx.failed && nginx.figures.is_none() && nginx.ratios.is_empty());
    let text = page::tables(&two);
    assert!(
        text.contains("FAILED c100 nginx: round 3: errors: reset 3; round 6: errors: eof_early 1."),
        "{text}"
    );
}

#[test]
fn the_last_attempt_of_a_round_counts() {
    let mut records = Made::default().records();
    let mut repeated = of(&mut records, "c100", "nginx")[0].clone();
    repeated.server.cpu_ns = Some(1);
    records.insert(0, repeated.clone());
    let before = summary(&records);
    repeated.attempt = 2;
    records.push(repeated);
    let after = summary(&records);
    let pairs = |summary: &Summary| {
        let nginx = cell(summary, "c100", "nginx");
        (
            nginx.rounds,
            nginx.ratio(Quantity::Cost, "relay-uring").unwrap().pairs,
        )
    };
    assert_eq!(pairs(&before), (9, 9));
    assert_eq!(pairs(&after), (9, 8), "the reference has no second attempt");
}

#[test]
fn more_requests_under_way_than_places_void_a_visit() {
    let mut records = Made::default().records();
    for record in of(&mut records, "c16", "nginx") {
        let document = record.load.as_mut().unwrap();
        document.latency_ns.mean = document.latency_ns.mean * 11 / 10;
    }
    let summary = summary(&records);
    let nginx = cell(&summary, "c16", "nginx");
    assert!(nginx.failed);
    assert!(nginx.void[0].contains("LITTLE"), "{:?}", nginx.void);
    assert!(
        cell(&summary, "r1000", "nginx").figures.is_some(),
        "a rate has no such law"
    );
}

#[test]
fn a_machine_that_slows_down_is_a_drift_and_ratios_stay() {
    let steady = summary(&Made::default().records());
    assert!(!steady.drifts(), "{:?}", steady.calibrator);
    let made = Made {
        drift: 0.2,
        ..Made::default()
    };
    let slower = summary(&made.records());
    let calibrator = slower.calibrator.unwrap();
    assert!(
        calibrator.drift && calibrator.visits == 72,
        "{calibrator:?}"
    );
    check_cost(&slower, "nginx", "relay-uring", 1.54, Verdict::More);
    let text = page::tables(&slower);
    assert!(text.contains("**DRIFT**"), "{text}");
    let line = text
        .lines()
        .find(|line| line.starts_with("| c16") && line.contains("nginx"))
        .unwrap();
    assert!(
        line.contains("| (2"),
        "absolute numbers stand in parentheses: {line}"
    );
}

#[test]
fn requests_per_second_are_a_claim_only_where_the_proxy_was_full() {
    let mut records = Made::default().records();
    for record in of(&mut records, "c100", "hp-epoll") {
        record.verdict = Some(Limit::Client);
    }
    let text = page::tables(&summary(&records));
    let line = |subject: &str| {
        let mut lines = text.lines().filter(|line| line.starts_with("| c100"));
        lines
            .find(|line| line.contains(&format!("| {subject} ")))
            .unwrap()
            .to_owned()
    };
    assert!(
        line("hp-epoll").contains("(34,188)") && line("hp-epoll").contains("CLIENT"),
        "{text}"
    );
    assert!(line("hp-uring").contains(" 34,483 "), "{text}");
}

#[test]
fn near_direct_is_said() {
    let made = Made {
        costs: vec![
            ("direct", 0.9),
            ("relay-uring", 1.0),
            ("hp-uring", 1.1),
            ("hp-uring/aa", 1.1),
        ],
        ..Made::default()
    };
    let summary = summary(&made.records());
    assert!(row(&summary, "c100").near_direct);
    assert!(
        page::tables(&summary)
            .contains("less than 1.5 times as fast as the fastest proxy: c16, c100")
    );
}

#[test]
fn a_late_client_claims_no_latency() {
    let mut records = Made::default().records();
    for record in of(&mut records, "r10000", "nginx") {
        record.verdict = Some(Limit::Client);
    }
    let summary = summary(&records);
    let late = cell(&summary, "r10000", "nginx");
    assert!(late.published_latency(true).is_none());
    let punctual = cell(&summary, "r1000", "nginx");
    assert!(punctual.published_latency(true).is_some());
    let page = page::tables(&summary);
    assert!(page.contains("In parentheses: the rate was kept"), "{page}");
    assert!(!page.contains("not published"), "{page}");
}

/// The line of the last table of `page` that has these two words first.
fn last_line<'p>(page: &'p str, row: &str, subject: &str) -> &'p str {
    let words = |line: &str| -> Vec<String> { line.split('|').map(|w| w.trim().into()).collect() };
    let mut lines = page.lines().rev();
    lines
        .find(|line| words(line).get(1..3) == Some(&[row.to_owned(), subject.to_owned()]))
        .unwrap()
}

#[test]
fn a_ratio_of_latencies_claims_nothing_where_the_client_was_late_for_either_side() {
    for late in ["nginx", "relay-uring"] {
        let mut records = Made::default().records();
        for record in of(&mut records, "r10000", late) {
            record.verdict = Some(Limit::Client);
        }
        let page = page::tables(&summary(&records));
        let nginx = last_line(&page, "r10000", "nginx");
        assert!(nginx.contains("| (1.54 ["), "{late} was late: {nginx}");
        let claims = nginx.matches("higher").count();
        assert_eq!(claims, if late == "nginx" { 0 } else { 3 }, "{nginx}");
        let punctual = last_line(&page, "r10000", "hp-epoll");
        let claims = punctual.matches("higher").count() + punctual.matches("tie").count();
        assert_eq!(claims, if late == "nginx" { 6 } else { 3 }, "{punctual}");
    }
}

#[test]
fn a_client_that_missed_its_rate_publishes_no_latency() {
    let mut records = Made::default().records();
    for record in of(&mut records, "r10000", "nginx") {
        record.verdict = Some(Limit::Client);
        record.load.as_mut().unwrap().run.rps = 9_900.0;
    }
    let page = page::tables(&summary(&records));
    assert!(page.contains("not published"), "{page}");
    assert!(
        !page.contains("In parentheses: the rate was kept"),
        "{page}"
    );
}

#[test]
fn percentiles_without_ten_samples_behind_are_not_told() {
    let summary = summary(&Made::default().records());
    let slow = cell(&summary, "r1000", "nginx").figures.as_ref().unwrap();
    let latency = slow.latency.as_ref().unwrap();
    assert_eq!(latency.samples, 18_000);
    assert!(latency.p99_us.is_some() && latency.p999_us.is_some());
    let p50 = latency.p50_us;
    assert!(
        (p50.mid / (90.0 * 1.54 * 0.98) - 1.0).abs() < 0.01,
        "{p50:?}"
    );

    let one_round = Made {
        rounds: 1,
        ..Made::default()
    };
    let summary = self::summary(&one_round.records());
    let latency = cell(&summary, "r1000", "nginx")
        .figures
        .as_ref()
        .unwrap()
        .latency
        .clone()
        .unwrap();
    assert_eq!(latency.samples, 2_000);
    assert!(latency.p99_us.is_some());
    assert_eq!(latency.p999_us, None);
}

#[test]
fn memory_by_connection_is_the_slope() {
    let summary = summary(&Made::default().records());
    let memory = &workload(&summary, "idle").memory;
    let names: Vec<&str> = memory
        .iter()
        .map(|memory| memory.subject.as_str())
        .collect();
    assert_eq!(names, ["hp-uring", "nginx"]);
    for (memory, bytes) in memory.iter().zip([528.0, 1_146.0]) {
        let user = memory.user.unwrap();
        assert!((user.conn_bytes - bytes).abs() < 3.0, "{user:?}");
        assert!(
            (user.base_bytes / 1_024.0 - 4_000.0).abs() < 8.0,
            "{user:?}"
        );
        assert!(user.conn_bytes_low <= user.conn_bytes && user.conn_bytes <= user.conn_bytes_high);
        assert_eq!(memory.kernel.unwrap().conn_bytes, 2_048.0);
        assert_eq!(memory.points.len(), 8);
    }
    let text = page::tables(&summary);
    assert!(
        text.contains("after_close.pss_kib") && text.contains("closed"),
        "{text}"
    );
}

#[test]
fn flags_are_counted_by_rule() {
    let mut records = Made::default().records();
    for record in of(&mut records, "c16", "hp-uring").into_iter().take(2) {
        record
            .flags
            .extend(["STEAL 3.1 %".into(), "STEAL 2.9 %".into()]);
    }
    let summary = summary(&records);
    assert_eq!(cell(&summary, "c16", "hp-uring").flags["STEAL"], 2);
    assert!(page::tables(&summary).contains("Flag STEAL, in rounds: c16 hp-uring 2 of 9."));
}

#[test]
fn a_session_derives_to_the_same_bytes_wherever_it_lies() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    Made::default().write(&one);
    Made::default().write(&other);
    let derived = derive::session(&one).unwrap();
    derived.write(&one).unwrap();
    assert!(derived.differences(&one).is_empty());
    assert_eq!(derive::session(&other).unwrap().files, derived.files);

    fs::write(one.join("plots/left-over.svg"), "").unwrap();
    fs::write(one.join("README.md"), "edited").unwrap();
    let names: Vec<String> = derived
        .differences(&one)
        .iter()
        .map(|name| name.display().to_string())
        .collect();
    assert_eq!(names, ["README.md", "plots/left-over.svg"]);
    derived.write(&one).unwrap();
    assert!(derived.differences(&one).is_empty());
}

#[test]
fn the_order_of_records_changes_nothing() {
    let mut records = Made::default().records();
    let forwards = summary(&records);
    records.reverse();
    assert_eq!(summary(&records), forwards);
}

#[test]
fn the_page_is_as_people_see_it() {
    let folder = tempfile::tempdir().unwrap();
    Made::default().write(folder.path());
    let derived = derive::session(folder.path()).unwrap();
    let text = &derived.files[Path::new("README.md")];
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/session.md");
    assert_eq!(*text, fs::read_to_string(golden).unwrap());
}

#[test]
fn every_plot_is_drawn_once_there_is_data() {
    let folder = tempfile::tempdir().unwrap();
    Made::default().write(folder.path());
    let derived = derive::session(folder.path()).unwrap();
    let plots: Vec<&str> = derived
        .files
        .keys()
        .filter_map(|name| name.to_str()?.strip_prefix("plots/")?.strip_suffix(".svg"))
        .collect();
    assert_eq!(
        plots,
        [
            "calibrator",
            "cost-small",
            "forest-hp-uring",
            "forest-relay-uring",
            "heat-latency-r1000",
            "heat-latency-r10000",
            "latency-latency-r1000",
            "latency-latency-r10000",
            "memory-idle",
            "rate-latency",
        ]
    );
    for (name, text) in &derived.files {
        assert!(
            text.len() < 200_000,
            "{}: {} bytes",
            name.display(),
            text.len()
        );
    }
    assert!(
        derived
            .files
            .contains_key(Path::new("hist/latency-r10000-hp-uring.hgrm"))
    );
}

fn harness(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_harness"))
        .args(words)
        .output()
        .unwrap()
}

/// One line on stderr, and exit code 1.
fn check_refused(folder: &Path, part: &str) {
    let output = harness(&["analyse", folder.to_str().unwrap()]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains(part), "{part}: {stderr}");
    assert!(!folder.join("README.md").exists());
}

#[test]
fn damaged_sessions_are_refused_in_one_line() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("session");
    check_refused(&folder, "plan.toml");
    Made::default().write(&folder);
    let raw = folder.join(harness::raw::RAW_FILE);
    let whole = fs::read(&raw).unwrap();
    fs::write(&raw, &whole[..whole.len() / 2]).unwrap();
    check_refused(&folder, harness::raw::RAW_FILE);
    fs::write(&raw, "not packed").unwrap();
    check_refused(&folder, harness::raw::RAW_FILE);

    made::write(&folder, &[]);
    check_refused(&folder, "no record");
    let mut records = Made::default().records();
    records[1].load.as_mut().unwrap().schema = "hp-bench/9".into();
    made::write(&folder, &records);
    check_refused(&folder, "line 2: its load is of schema \"hp-bench/9\"");
    let mut records = Made::default().records();
    let text = serde_json::from_str("\"bm8gaGlzdG9ncmFt\"").unwrap();
    records[2].load.as_mut().unwrap().histograms.service = Some(text);
    made::write(&folder, &records);
    check_refused(&folder, "line 3: its histogram");

    Made::default().write(&folder);
    fs::write(folder.join("env.json"), "[1]").unwrap();
    check_refused(&folder, "env.json");
    Made::default().write(&folder);
    fs::write(folder.join("plan.toml"), "name = ").unwrap();
    check_refused(&folder, "plan.toml");
}

/// The plot of this name.
fn plot(records: &[Record], name: &str) -> String {
    let place = tempfile::tempdir().unwrap();
    made::write(place.path(), records);
    let derived = derive::session(place.path()).unwrap();
    derived.files[&Path::new("plots").join(name)].clone()
}

#[test]
fn a_heat_map_has_a_column_for_each_second_where_records_have_them() {
    let mut records = Made::default().records();
    let old = plot(&records, "heat-latency-r1000.svg");
    assert!(old.contains("answers by round and latency"), "{old}");
    for record in of_workload(&mut records, "latency") {
        let second = |second| Latencies {
            second,
            bins: vec![(40, 500), (48, 1)],
        };
        record.seconds = vec![second(1), second(2)];
    }
    let new = plot(&records, "heat-latency-r1000.svg");
    assert!(new.contains("answers by second and latency"), "{new}");
    assert!(new.contains("A column is one second"), "{new}");
}

#[test]
fn parts_of_the_slowest_rate_are_marked_over_the_rates() {
    let mut records = Made::default().records();
    assert!(!plot(&records, "rate-latency.svg").contains("Grey lines"));
    for record in of_workload(&mut records, "latency") {
        let part = if record.row == "r1000" { 0.5 } else { 0.8 };
        record
            .params
            .other
            .insert("rate_of_slowest".into(), part.into());
    }
    let svg = plot(&records, "rate-latency.svg");
    assert!(svg.contains("50 % at 1000/s, 80 % at 10000/s"), "{svg}");
}

fn of_workload<'a>(
    records: &'a mut [Record],
    workload: &'a str,
) -> impl Iterator<Item = &'a mut Record> {
    records
        .iter_mut()
        .filter(move |record| record.workload == workload)
}

/// Names of a foreign file must not leave its folder.
#[test]
fn hostile_names_stay_in_the_folder() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("session");
    let mut records = Made::default().records();
    for record in &mut records {
        if record.workload == "latency" {
            record.workload = "../../escape".into();
            record.row = format!("/{}|<b>", record.row);
        }
    }
    made::write(&folder, &records);
    let output = harness(&["analyse", folder.to_str().unwrap()]);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let outside: Vec<_> = fs::read_dir(place.path()).unwrap().collect();
    assert_eq!(outside.len(), 1, "{outside:?}");
    assert!(
        folder
            .join("plots/latency-------escape--r1000--b-.svg")
            .exists()
    );
}

#[test]
fn numbers_that_no_run_has_end_in_no_panic() {
    let mut records = Made::default().records();
    for (number, record) in (0_usize..).zip(&mut records) {
        let Some(document) = record.load.as_mut() else {
            continue;
        };
        match number % 5 {
            0 => document.run.responses = u64::MAX,
            1 => document.run.rps = 1e308,
            2 => record.server.cpu_ns = Some(u64::MAX),
            3 => document.latency_ns.p.clear(),
            _ => record.server.switches_voluntary = Some(u64::MAX),
        }
        record.started_ms = u64::MAX - record.started_ms;
        record.machine.busy_pct = vec![-1e300, 1e300];
        record.params.connections = if number % 2 == 0 { 0 } else { u32::MAX };
    }
    let place = tempfile::tempdir().unwrap();
    made::write(place.path(), &records);
    derive::session(place.path()).unwrap();
}

#[test]
fn a_check_of_an_edited_session_is_exit_code_3() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().to_str().unwrap();
    Made::default().write(place.path());
    assert_eq!(
        harness(&["analyse", "--check", folder]).status.code(),
        Some(3)
    );
    let output = harness(&["analyse", folder]);
    assert_eq!(output.status.code(), Some(0));
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.contains("## small: Small requests"), "{stdout}");
    assert_eq!(
        harness(&["analyse", "--check", folder]).status.code(),
        Some(0)
    );
    let page = place.path().join("README.md");
    let better = fs::read_to_string(&page).unwrap().replace("1.16", "1.06");
    fs::write(&page, better).unwrap();
    let output = harness(&["analyse", "--check", folder]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("README.md: not as derived")
    );
}

#[test]
fn sessions_agree_when_only_noise_is_between_them() {
    let place = tempfile::tempdir().unwrap();
    let folders = ["one", "two", "slower"].map(|name| place.path().join(name));
    let [one, two, slower] = folders.each_ref().map(|folder| folder.to_str().unwrap());
    Made::default().write(&folders[0]);
    Made {
        seed: 2,
        ..Made::default()
    }
    .write(&folders[1]);
    Made {
        costs: vec![
            ("direct", 0.5),
            ("relay-uring", 1.0),
            ("hp-uring", 1.33),
            ("hp-uring/aa", 1.33),
            ("nginx", 1.54),
        ],
        ..Made::default()
    }
    .write(&folders[2]);
    let output = harness(&["agree", one, two]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    assert!(stdout.contains("the sessions agree"), "{stdout}");
    let output = harness(&["agree", one, slower]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{stdout}");
    assert!(
        stdout.contains("FAR") && stdout.contains("DISAGREE"),
        "{stdout}"
    );

    let env = fs::read_to_string(folders[1].join("env.json")).unwrap();
    fs::write(
        folders[1].join("env.json"),
        env.replace("abc1234", "fff0000"),
    )
    .unwrap();
    let output = harness(&["agree", one, two]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("its commit is fff0000")
    );
}

/// A results' folder with a run of the first layout, a session, and folders that are neither.
fn results(place: &Path) {
    let old = place.join("2026-11-21-2cpu-x-linux6/aaa0000");
    fs::create_dir_all(&old).unwrap();
    let facts = r#"{"slug": "2cpu-x-linux6", "started": "2026-11-21T01:00:00Z", "commit": "aaa0000", "dirty": true}"#;
    fs::write(old.join("machine.json"), facts).unwrap();
    fs::write(old.join("floor.json"), "{}").unwrap();
    fs::write(
        old.join("floor.md"),
        "# Floor\n\nHow.\n\n| a | b |\n| - | - |\n| 1 | 2 |\n\nMore.\n",
    )
    .unwrap();
    fs::create_dir_all(place.join("2026-11-21-2cpu-x-linux6/notes")).unwrap();
}

fn session(place: &Path, name: &str, made: &Made) {
    session_with(place, name, made, &[]);
}

/// The same after changes of its `env.json`.
fn session_with(place: &Path, name: &str, made: &Made, changes: &[(&str, &str)]) {
    let folder = place.join("2026-11-22-2cpu-made-linux6.18").join(name);
    made.write(&folder);
    let mut env = fs::read_to_string(folder.join("env.json")).unwrap();
    for (from, to) in changes {
        assert!(env.contains(from), "{from}");
        env = env.replace(from, to);
    }
    fs::write(folder.join("env.json"), env).unwrap();
    derive::session(&folder).unwrap().write(&folder).unwrap();
}

#[test]
fn the_index_lists_each_session_once_and_old_runs_as_well() {
    let place = tempfile::tempdir().unwrap();
    results(place.path());
    session(place.path(), "1000-abc1234", &Made::default());
    let broken = place
        .path()
        .join("2026-11-22-2cpu-made-linux6.18/1100-broken0");
    fs::create_dir_all(&broken).unwrap();
    fs::write(broken.join("raw.ndjson.gz"), "").unwrap();

    let skipped = index::regenerate(place.path()).unwrap();
    assert_eq!(skipped, std::slice::from_ref(&broken));
    let lines = fs::read_to_string(place.path().join("index.ndjson")).unwrap();
    assert_eq!(lines.lines().count(), 1, "{lines}");
    let text = fs::read_to_string(place.path().join("INDEX.md")).unwrap();
    for part in [
        "[abc1234](2026-11-22-2cpu-made-linux6.18/1000-abc1234/README.md)",
        "small c100: hp-uring 1.1",
        "of relay-uring, dearer",
        "latency r1000: hp-uring p99",
        "idle c1: hp-uring 528 B/conn",
        "aaa0000-dirty | [floor.md](2026-11-21-2cpu-x-linux6/aaa0000/floor.md)",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.find("abc1234").unwrap() < text.find("aaa0000").unwrap());

    fs::remove_dir_all(&broken).unwrap();
    assert!(index::regenerate(place.path()).unwrap().is_empty());
    assert_eq!(
        fs::read_to_string(place.path().join("index.ndjson")).unwrap(),
        lines
    );
    assert_eq!(index::content(place.path()).unwrap(), text);

    fs::write(place.path().join("index.ndjson"), "{\n").unwrap();
    let output = harness(&["index", place.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("index.ndjson: cannot be read (line 1")
    );
}

#[test]
fn the_readme_shows_the_newest_answers() {
    let place = tempfile::tempdir().unwrap();
    let results_dir = place.path().join("results");
    fs::create_dir_all(&results_dir).unwrap();
    results(&results_dir);
    let path = place.path().join("README.md");
    fs::write(&path, "# Made\n").unwrap();
    let error = readme::renewed(&path, &results_dir)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("README.md") && error.lines().count() == 1,
        "{error}"
    );

    fs::write(
        &path,
        format!(
            "# Made\n\n{}\nstale\n{}\n\nAfter.\n",
            readme::BEGIN,
            readme::END
        ),
    )
    .unwrap();
    let words = [
        "readme",
        "--results",
        results_dir.to_str().unwrap(),
        path.to_str().unwrap(),
    ];
    let checked = || harness(&[&words[..], &["--check"]].concat()).status.code();
    assert_eq!(checked(), Some(3));
    assert_eq!(harness(&words).status.code(), Some(0));
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.contains("No session of a whole plan is there yet"),
        "{text}"
    );
    assert!(
        text.starts_with("# Made\n") && text.ends_with("After.\n") && !text.contains("stale"),
        "{text}"
    );
    assert_eq!(checked(), Some(0));

    session(&results_dir, "1000-abc1234", &Made::default());
    index::regenerate(&results_dir).unwrap();
    assert_eq!(checked(), Some(3), "a new session makes it stale");
    assert_eq!(harness(&words).status.code(), Some(0));
    let text = fs::read_to_string(&path).unwrap();
    for part in [
        "**Small requests on kept connections** ([tables and plots](results/2026-11-22-2cpu-made-linux6.18/1000-abc1234/README.md)",
        "[raw data](results/2026-11-22-2cpu-made-linux6.18/1000-abc1234/raw.ndjson.gz)",
        "CPU per request, vs relay-uring",
        "**Latency at a rate**",
        "**Memory over idle connections**",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("No session"), "{text}");
}

/// A look at everything in five rounds took the place of the tables that others are to repeat.
#[test]
fn a_newer_session_of_few_rounds_does_not_take_the_place_of_one_of_many() {
    let place = tempfile::tempdir().unwrap();
    let results = place.path().join("results");
    fs::create_dir_all(&results).unwrap();
    let of = |rounds| Made {
        rounds,
        ..Made::default()
    };
    let path = place.path().join("README.md");
    let shown = || {
        index::regenerate(&results).unwrap();
        fs::write(&path, format!("{}\n{}\n", readme::BEGIN, readme::END)).unwrap();
        readme::renewed(&path, &results).unwrap()
    };
    let small = |name| {
        format!(
            "**Small requests on kept connections** ([tables and plots](results/2026-11-22-2cpu-made-linux6.18/{name}/README.md)"
        )
    };
    session(&results, "0900-0000009", &of(9));
    let few = shown();
    assert!(
        few.contains(&small("0900-0000009")),
        "few rounds are better than none: {few}"
    );
    session(&results, "1000-abc1234", &of(15));
    let later = ("T10:00:00Z", "T11:00:00Z");
    session_with(&results, "1100-def5678", &of(5), &[later]);
    let text = shown();
    assert!(text.contains(&small("1000-abc1234")), "{text}");
}

/// A newer session of our own programs took the place of the one that has nginx and HAProxy beside them.
#[test]
fn a_newer_session_of_our_own_programs_does_not_take_the_place_of_one_beside_others() {
    let place = tempfile::tempdir().unwrap();
    let results = place.path().join("results");
    fs::create_dir_all(&results).unwrap();
    session(&results, "1000-abc1234", &Made::default());
    let ours = Made {
        rounds: 15,
        costs: vec![("direct", 0.5), ("relay-uring", 1.0), ("hp-uring", 1.16)],
        ..Made::default()
    };
    let later = ("T10:00:00Z", "T11:00:00Z");
    session_with(&results, "1100-def5678", &ours, &[later]);
    index::regenerate(&results).unwrap();
    let path = place.path().join("README.md");
    fs::write(&path, format!("{}\n{}\n", readme::BEGIN, readme::END)).unwrap();
    let text = readme::renewed(&path, &results).unwrap();
    let small = "**Small requests on kept connections** ([tables and plots](results/2026-11-22-2cpu-made-linux6.18/1000-abc1234/README.md)";
    assert!(text.contains(small), "{text}");
}

#[test]
fn the_readme_shows_the_newest_whole_session_of_a_commit() {
    let place = tempfile::tempdir().unwrap();
    let results = place.path().join("results");
    fs::create_dir_all(&results).unwrap();
    let made = Made::default();
    let at = |hour: &'static str| ("T10:00:00Z", hour);
    session(&results, "1000-abc1234", &made);
    for (name, changes) in [
        (
            "1100-def5678",
            vec![at("T11:00:00Z"), ("abc1234", "def5678")],
        ),
        (
            "1200-0000001",
            vec![
                at("T12:00:00Z"),
                ("make bench", "harness bench --plan bench --quick"),
            ],
        ),
        (
            "1300-0000002",
            vec![
                at("T13:00:00Z"),
                ("make bench", "harness bench --plan bench --only small"),
            ],
        ),
        (
            "1400-0000003-dirty",
            vec![at("T14:00:00Z"), ("\"dirty\": false", "\"dirty\": true")],
        ),
        (
            "1500-0000004",
            vec![
                at("T15:00:00Z"),
                ("\"finished\": true", "\"finished\": false"),
            ],
        ),
    ] {
        session_with(&results, name, &made, &changes);
    }
    index::regenerate(&results).unwrap();
    let path = place.path().join("README.md");
    fs::write(&path, format!("{}\n{}\n", readme::BEGIN, readme::END)).unwrap();
    let text = readme::renewed(&path, &results).unwrap();
    assert!(
        text.contains("/1100-def5678/raw.ndjson.gz") && text.contains("commit `def5678`"),
        "{text}"
    );
    for other in ["1000-", "1200-", "1300-", "1400-", "1500-"] {
        assert!(!text.contains(other), "{other}: {text}");
    }
}
