//! What a schedule sends, and what is said about it.

use std::sync::atomic::Ordering;

use serde_json::Value;

use crate::runs::number;
use crate::server::{ENGINES, Script, bench, file_of, load, serve};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

#[test]
fn every_request_of_a_schedule_is_sent_or_counted_as_unsent() {
    for flags in [
        &["-R", "200"][..],
        &["-R", "100:300"],
        &["--steps", "100,300@150ms"],
        &["-R", "200", "--pacing", "conn"],
        &["-R", "200", "--pacing", "conn", "--spin"],
        &["-R", "200", "--spin", "2000"],
        &["-R", "200", "--pipeline", "4"],
        &["-R", "200", "--catch-up", "10", "--reuse", "3"],
    ] {
        load(Script::Answer(OK), flags, |code, json| {
            assert_eq!(code, Some(0), "{json}");
            assert_eq!(json["plan"]["mode"], "rate");
            let responses = number(json, "/run/responses");
            let censored = number(json, "/latency_ns/censored");
            assert_eq!(responses + censored, 60, "{json}");
            assert_eq!(json["latency_ns"]["clock"], "response");
            for histogram in ["response", "service", "lag", "ttfb"] {
                assert!(json["histograms"][histogram].is_string(), "{json}");
            }
        });
    }
}

#[test]
fn poisson_schedule_is_the_same_for_one_seed() {
    let counts = [(); 2].map(|()| {
        let (addr, requests) = serve(Script::Answer(OK));
        let addr = addr.to_string();
        let fixed = [
            "4", "-t", "1", "-d", "300ms", "--warmup", "0", "-q", "--seed", "7",
        ];
        let output = bench(
            &[
                &[addr.as_str()],
                &fixed[..],
                &["-R", "1k", "--arrival", "poisson", "--json", "-"],
            ]
            .concat(),
        );
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        let due = requests.load(Ordering::Relaxed) + number(&json, "/latency_ns/censored");
        assert!((200..400).contains(&due), "{json}");
        due
    });
    assert_eq!(counts[0], counts[1]);
}

#[test]
fn rate_beyond_the_connections_is_told_from_a_slow_client() {
    // One connection and no answer: nothing is ever free.
    for engine in ENGINES {
        let (addr, _requests) = serve(Script::Silence);
        let addr = addr.to_string();
        let fixed = [
            "1",
            "-d",
            "300ms",
            "--warmup",
            "0",
            "--timeout",
            "200ms",
            "-q",
            "--engine",
            engine,
        ];
        let output = bench(&[&[addr.as_str()], &fixed[..], &["-R", "100", "--json", "-"]].concat());
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(4), "{json}");
        let censored = number(&json, "/latency_ns/censored");
        assert_eq!(
            (number(&json, "/run/responses"), censored),
            (0, 30),
            "{json}"
        );
        assert!(json["run"]["rate_ratio"].as_f64().unwrap() < 0.2, "{json}");
    }
}

/// The pacer gave up one by one, without a turn for anybody else: the run ended minutes late.
#[test]
fn every_request_of_a_rate_beyond_reach_is_sent_or_counted_as_unsent() {
    for flags in [
        &["-R", "100M"][..],
        &["-R", "100M", "--max-backlog", "1"],
        &["-R", "100M", "--pacing", "conn"],
        &["-R", "100M", "--catch-up", "10"],
        &["-R", "100M", "--arrival", "poisson", "--max-backlog", "1"],
    ] {
        load(Script::Answer(OK), flags, |code, json| {
            assert_eq!(code, Some(0), "{flags:?}: {json}");
            let done = number(json, "/run/responses") + number(json, "/latency_ns/censored");
            let off_max = if flags.contains(&"poisson") {
                30_000
            } else {
                0
            };
            assert!(done.abs_diff(30_000_000) <= off_max, "{flags:?}: {json}");
        });
    }
}

#[test]
fn backlog_has_a_bound() {
    let (addr, _requests) = serve(Script::Silence);
    let addr = addr.to_string();
    let flags = [
        "1",
        "-d",
        "300ms",
        "--warmup",
        "0",
        "--timeout",
        "100ms",
        "-q",
        "-R",
        "100",
        "--max-backlog",
        "5",
    ];
    let output = bench(&[&[addr.as_str()], &flags[..], &["--json", "-"]].concat());
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(number(&json, "/latency_ns/censored"), 30, "{json}");
}

#[test]
fn warm_up_is_sent_and_not_counted() {
    let (addr, requests) = serve(Script::Answer(OK));
    let addr = addr.to_string();
    let output = bench(&[
        &addr,
        "2",
        "-d",
        "200ms",
        "--warmup",
        "200ms",
        "--cooldown",
        "100ms",
        "-R",
        "100",
        "--json",
        "-",
        "-q",
    ]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let counted = number(&json, "/run/responses") + number(&json, "/latency_ns/censored");
    assert_eq!(counted, 20, "{json}");
    assert!(requests.load(Ordering::Relaxed) > 20);
}

#[test]
fn recorded_traffic_is_sent_once_each() {
    let lines: String = (0..20)
        .map(|i| {
            format!(
                "{{\"t\": {}, \"path\": \"/{}\"}}\n",
                f64::from(i) * 0.05,
                i % 3
            )
        })
        .collect();
    let file = file_of(lines);
    for engine in ENGINES {
        let (addr, requests) = serve(Script::Answer(OK));
        let addr = addr.to_string();
        let words = [
            &addr,
            "2",
            "--replay",
            file.path().to_str().unwrap(),
            "--speed",
            "5",
            "--engine",
            engine,
            "--json",
            "-",
            "-q",
        ];
        let output = bench(&words);
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(number(&json, "/run/responses"), 20, "{json}");
        assert_eq!(requests.load(Ordering::Relaxed), 20);
        let planned = json["plan"]["duration_s"].as_f64().unwrap();
        assert!((planned - 0.191).abs() < 1e-9, "{json}");
    }
}

/// All is due in the first millisecond, which is too short for it: as when the last wake comes late.
#[test]
fn recorded_traffic_is_sent_to_its_last_request_however_late() {
    let file = file_of("{\"t\": 0, \"path\": \"/\"}\n".repeat(300));
    let name = file.path().to_str().unwrap();
    for engine in ENGINES {
        let (addr, requests) = serve(Script::Answer(OK));
        let addr = addr.to_string();
        let words = [
            addr.as_str(),
            "1",
            "--replay",
            name,
            "--engine",
            engine,
            "--json",
            "-",
            "-q",
        ];
        let json: Value = serde_json::from_slice(&bench(&words).stdout).unwrap();
        assert_eq!(number(&json, "/run/responses"), 300, "{json}");
        assert_eq!(number(&json, "/latency_ns/censored"), 0, "{json}");
        assert_eq!(requests.load(Ordering::Relaxed), 300);
    }
    // A time that was asked for is kept: what was due and not sent is told.
    let (addr, _requests) = serve(Script::Silence);
    let addr = addr.to_string();
    let words = [
        addr.as_str(),
        "1",
        "--replay",
        name,
        "-d",
        "50ms",
        "-T",
        "100ms",
        "--json",
        "-",
        "-q",
    ];
    let json: Value = serde_json::from_slice(&bench(&words).stdout).unwrap();
    assert_eq!(number(&json, "/latency_ns/censored"), 300, "{json}");
}

/// A server that is gone is waited for as long as for an answer, and no longer.
#[test]
fn recorded_traffic_ends_without_a_server() {
    let file = file_of("{\"t\": 0, \"path\": \"/\"}\n".repeat(50));
    let (addr, requests) = serve(Script::Silence);
    let addr = addr.to_string();
    let words = [
        addr.as_str(),
        "1",
        "--replay",
        file.path().to_str().unwrap(),
        "-T",
        "50ms",
        "--json",
        "-",
        "-q",
    ];
    let json: Value = serde_json::from_slice(&bench(&words).stdout).unwrap();
    let sent = requests.load(Ordering::Relaxed);
    assert!((1..5).contains(&sent), "{sent}: {json}");
    assert_eq!(number(&json, "/latency_ns/censored"), 50, "{json}");
}

#[test]
fn search_tells_its_bounds() {
    let find = |script, goal: &str| {
        let (addr, _requests) = serve(script);
        let flags = [
            "-R",
            "20:40",
            "-c",
            "4",
            "-d",
            "300ms",
            "--warmup",
            "0",
            "--timeout",
            "100ms",
        ];
        let output = bench(&[&["find", &addr.to_string(), "--slo", goal][..], &flags].concat());
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), said)
    };
    let (code, said) = find(Script::Silence, "p99<10ms");
    assert_eq!((code, said.as_str()), (Some(3), "no rate passes\n"));
    let (code, said) = find(Script::Answer(OK), "p99<1ns");
    assert_eq!((code, said.as_str()), (Some(3), "no rate passes\n"));
    let misuse = bench(&["find", "a:1"]);
    assert_eq!(misuse.status.code(), Some(2));
}
