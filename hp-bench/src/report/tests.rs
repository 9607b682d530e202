use std::ffi::OsString;

use super::*;
use crate::record::ErrorClass;
use crate::result::to_json;

fn plan() -> Plan {
    let words = ["hp-bench", "127.0.0.1:8080", "100", "3"].map(OsString::from);
    Plan::resolve(&crate::cli::parse(words).unwrap(), 1).unwrap()
}

fn record() -> Record {
    let mut record = Record::new();
    for i in 1..=2_000_u64 {
        record.answer(Duration::from_micros(1_000 + i), 200, 149);
    }
    record.requests = 2_000;
    record.bytes_out = 2_000 * 38;
    record.per_second = vec![600, 700, 650];
    record.elapsed = Duration::from_millis(3_000);
    record.cpu = Some(Duration::from_millis(12));
    for _ in 0..100 {
        record.connected(Duration::from_micros(61));
    }
    record
}

fn report<'a>(plan: &'a Plan, record: &'a Record) -> Report<'a> {
    Report {
        plan,
        record,
        addr: ([127, 0, 0, 1], 8080).into(),
        engine: "uring",
        engine_story: "engine uring (one-shot receive)",
        started_wall_ns: 1_795_216_200_000_000_000,
        interrupted: false,
    }
}

#[test]
fn summary_has_the_documented_form() {
    let (plan, record) = (plan(), record());
    assert_eq!(
        summary(&report(&plan, &record)),
        format!(
            "\
hp-bench {VERSION}  http://127.0.0.1:8080/  100 connections, 1 thread, 3.0 s, closed loop, uring
  requests   2,000 in 3.000 s            667/s   (per-second min 600  median 650  max 700)
  transfer   291.0 KiB   97.0 KiB/s   149 B per answer
  latency    mean 2.00 ms sd 0.58 ms p50 2.00 p75 2.50 p90 2.80 p99 2.98 p99.9 3.00 p99.99 3.00 max 3.00 ms
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
    record.answer(Duration::from_micros(50), 503, 10);
    record.give_up(Duration::from_secs(10));
    record.errors.count(ErrorClass::Reset);
    let text = summary(&Report {
        interrupted: true,
        ..report(&plan, &record)
    });
    for part in [
        "5xx 1   errors reset 1  timeout 1  status 1\n",
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
    let text = summary(&Report {
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
    let text = summary(&report(&plan, &record));
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

#[test]
fn spectrum_has_the_columns_of_wrk2() {
    let mut record = Record::new();
    for micros in [1_000, 1_000, 2_000, 4_000] {
        record.answer(Duration::from_micros(micros), 200, 1);
    }
    let text = spectrum(record.latency());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "  Detailed Percentile spectrum:");
    assert_eq!(
        lines[1],
        "       Value   Percentile   TotalCount 1/(1-Percentile)"
    );
    assert_eq!(lines[2], "");
    assert_eq!(
        lines[3],
        "       1.000     0.000000            2         1.00"
    );
    let last_step = lines
        .iter()
        .rposition(|line| !line.starts_with('#'))
        .unwrap();
    assert_eq!(
        lines[last_step],
        "       4.002     1.000000            4          inf"
    );
    assert_eq!(
        lines[last_step + 1..],
        [
            "#[Mean    =        2.000, StdDeviation   =        1.225]",
            "#[Max     =        4.002, Total count    =            4]",
            "#[Buckets =           17, SubBuckets     =         2048]",
        ]
    );
}

#[test]
fn thousands_are_grouped() {
    for (number, want) in [
        (0, "0"),
        (999, "999"),
        (1_000, "1,000"),
        (1_234_567, "1,234,567"),
    ] {
        assert_eq!(thousands(number), want);
    }
}

#[test]
fn sizes_have_binary_units() {
    for (number, want) in [(1_023, "1023 B"), (1_536, "1.5 KiB"), (5 << 30, "5.0 GiB")] {
        assert_eq!(bytes(number), want);
    }
}
