use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::OnceLock;

use super::*;
use crate::record::{Answer, ErrorClass};
use crate::result::to_json;
use crate::samples::Times;
use crate::verdict::CLOSED_LOOP_NOTE;

fn plan() -> Plan {
    let words = ["hp-bench", "127.0.0.1:8080", "100", "3"].map(OsString::from);
    Plan::resolve(&crate::cli::parse(words).unwrap(), 1).unwrap()
}

fn record() -> Record {
    let mut record = Record::new();
    for i in 1..=2_000_u64 {
        let times = Times::taking(Duration::from_micros(1_000 + i));
        record.answer(&times, &answer(200, 149, None));
    }
    record.requests = 2_000;
    record.bytes_out = 2_000 * 38;
    record.elapsed = Duration::from_millis(3_000);
    record.cpu = Some(Duration::from_millis(12));
    for _ in 0..100 {
        record.connected(Duration::from_micros(61));
    }
    record
}

fn answer(status: u16, bytes: u64, fault: Option<ErrorClass>) -> Answer {
    Answer {
        status,
        bytes,
        fault,
    }
}

fn report<'a>(plan: &'a Plan, record: &'a Record) -> Report<'a> {
    Report {
        plan,
        record,
        addr: ADDRESS.get_or_init(|| SocketAddr::from(([127, 0, 0, 1], 8080)).into()),
        engine: "uring",
        engine_story: "engine uring (one-shot receive)",
        started_wall_ns: 1_795_216_200_000_000_000,
        interrupted: false,
        series: SERIES.get_or_init(series),
        costs: COSTS.get_or_init(Costs::default),
    }
}

static ADDRESS: OnceLock<Address> = OnceLock::new();
static COSTS: OnceLock<Costs> = OnceLock::new();
static SERIES: OnceLock<Vec<Second>> = OnceLock::new();

fn series() -> Vec<Second> {
    let second = |t, n| Second {
        t,
        n,
        ..Second::default()
    };
    vec![
        second(1, 600),
        second(2, 700),
        second(3, 650),
        second(4, 50),
    ]
}

fn said(report: &Report<'_>) -> String {
    let document = document(report);
    summary(&Shown::of(&document).unwrap())
}

#[test]
fn summary_has_the_documented_form() {
    let (plan, record) = (plan(), record());
    assert_eq!(
        said(&report(&plan, &record)),
        format!(
            "\
hp-bench {VERSION}  http://127.0.0.1:8080/  100 connections, 1 thread, 3.0 s (+1.0 s warm-up), closed loop, uring
  requests   2,000 in 3.000 s            667/s   (per-second min 600  median 650  max 700)
  transfer   291.0 KiB   97.0 KiB/s   149 B per answer
  latency    mean 2.00 ms sd 0.58 ms p50 2.00 p75 2.50 p90 2.80 p99 2.98 p99.9 3.00 p99.99 3.00 max 3.00 ms
  first byte p50 2.00 ms  p99 2.98 ms
  connect    p50 61.4 us  p99 61.4 us  (100 connections)
  status     2xx 2,000   errors 0
  cost       client 6.0 us CPU/request
  note       closed loop: a stall of the server hides the requests that were not sent
"
        )
    );
}

#[test]
fn summary_shows_what_went_wrong() {
    let (plan, mut record) = (plan(), Record::new());
    let times = Times::taking(Duration::from_micros(50));
    record.answer(&times, &answer(503, 10, Some(ErrorClass::Status)));
    record.give_up(&Times::taking(Duration::from_secs(10)));
    record.errors.count(ErrorClass::Reset);
    let text = said(&Report {
        interrupted: true,
        ..report(&plan, &record)
    });
    for part in [
        "5xx 1   errors reset 1  status 1  timeout 1\n",
        "max >10",
        "1 request given up",
        "interrupted",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn summary_says_why_a_better_engine_was_passed_over() {
    let (plan, record) = (plan(), record());
    let engine_story = "engine epoll; io_uring cannot start: permission denied";
    let text = said(&Report {
        engine: "epoll",
        engine_story,
        ..report(&plan, &record)
    });
    assert!(
        text.contains(&format!("  note       {engine_story}\n")),
        "{text}"
    );
}

#[test]
fn summary_of_nothing_has_no_numbers_to_trip_over() {
    let (plan, record) = (plan(), Record::new());
    let text = said(&report(&plan, &record));
    assert!(text.contains("latency    no answer\n"), "{text}");
    let text = to_json(&document(&report(&plan, &record)));
    assert!(text.contains("\"min\": 0"), "{text}");
}

#[test]
fn json_has_the_keys_of_the_schema() {
    let (plan, mut record) = (plan(), record());
    record.errors.count(ErrorClass::EofEarly);
    let text = to_json(&document(&report(&plan, &record)));
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (pointer, want) in [
        ("/schema", "\"hp-bench/1\""),
        ("/tool/name", "\"hp-bench\""),
        ("/tool/engine", "\"uring\""),
        ("/started", "\"2026-11-20T23:10:00Z\""),
        ("/interrupted", "false"),
        ("/target/url", "\"http://127.0.0.1:8080/\""),
        ("/target/addr", "\"127.0.0.1:8080\""),
        ("/plan/mode", "\"closed\""),
        ("/plan/connections", "100"),
        ("/plan/duration_s", "3.0"),
        ("/run/elapsed_s", "3.0"),
        ("/run/requests", "2000"),
        ("/run/responses", "2000"),
        ("/run/bytes_in", "298000"),
        ("/run/bytes_out", "76000"),
        ("/run/rps", "666.7"),
        ("/run/connections_opened", "100"),
        ("/status/2xx", "2000"),
        ("/errors/eof_early", "1"),
        ("/latency_ns/clock", "\"service\""),
        ("/latency_ns/censored", "0"),
        ("/client/cpu_ns", "12000000"),
        ("/client/cpu_ns_per_req", "6000"),
        ("/verdict/notes/0", &format!("{CLOSED_LOOP_NOTE:?}")),
    ] {
        let got = value
            .pointer(pointer)
            .unwrap_or_else(|| panic!("no {pointer}"));
        assert_eq!(got.to_string(), want, "{pointer}");
    }
    for name in ["min", "mean", "stdev", "max"] {
        assert!(value["latency_ns"][name].as_u64().unwrap() > 0, "{name}");
    }
    for (name, _) in PERCENTILES {
        assert!(
            value["latency_ns"]["p"][name].as_u64().unwrap() > 1_000_000,
            "{name}"
        );
    }
}
