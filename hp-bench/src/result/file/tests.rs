use serde_json::{Value, json};

use super::*;
use crate::record::histogram;
use crate::result::Encoded;

fn document() -> Document {
    let mut service = histogram();
    service.saturating_record(5_000_000);
    let mut document = Document {
        schema: SCHEMA.to_owned(),
        ..Document::default()
    };
    document.histograms.service = Some(Encoded::encode(&service));
    document.status.insert("2xx".to_owned(), 1);
    document
}

/// Puts `value` at `pointer` of a good document and tells what is said about it.
fn said(pointer: &str, value: Value) -> String {
    let mut json = serde_json::to_value(document()).unwrap();
    *json.pointer_mut(pointer).unwrap() = value;
    match parse(&json.to_string()) {
        Ok(_document) => String::new(),
        Err(cause) => cause.to_string(),
    }
}

#[test]
fn what_was_written_is_read() {
    let document = document();
    assert_eq!(parse(&to_json(&document)).unwrap(), document);
}

#[test]
fn absent_keys_are_null_and_unknown_ones_are_left_alone() {
    let text = json!({
        "schema": "hp-bench/1", "tool": {"name": "other"}, "started": "", "interrupted": false,
        "target": {"url": "http://a/"}, "plan": {"connections": 3, "colour": "blue"},
        "run": {"elapsed_s": 1, "requests": 2, "responses": 2, "rps": 2.0}, "status": {}, "errors": {},
        "latency_ns": {"max": 7}, "new": [1]
    });
    let document = parse(&text.to_string()).unwrap();
    assert_eq!(document.plan.connections, 3);
    assert_eq!(document.latency_ns.max, 7);
    assert_eq!(document.histograms.service, None);
    assert!(document.verdict.valid);
}

#[test]
fn damage_is_told_by_its_key() {
    let huge = json!(u64::MAX);
    for (pointer, value, want) in [
        ("/schema", json!("hp-bench/2"), "schema \"hp-bench/2\", not"),
        ("/schema", json!(7), "no result of hp-bench"),
        ("/run/requests", json!(-1), "no result of hp-bench"),
        (
            "/run/requests",
            huge.clone(),
            "run.requests is out of range",
        ),
        (
            "/run/elapsed_s",
            json!(-0.5),
            "run.elapsed_s is out of range",
        ),
        ("/run/rps", json!(1e300), "run.rps is out of range"),
        ("/plan/rate", json!(1e300), "plan.rate is out of range"),
        ("/status/2xx", huge, "status is out of range"),
        (
            "/histograms/service",
            json!("HISTFAAA"),
            "histogram service: not",
        ),
        ("/histograms/lag", json!("%"), "histogram lag: not base64"),
        (
            "/series",
            json!([{"t": 1, "hist": "x"}]),
            "histogram series: ",
        ),
        (
            "/series",
            json!([{"t": u64::MAX}]),
            "series.t is out of range",
        ),
    ] {
        let text = said(pointer, value);
        assert!(text.contains(want), "{pointer}: {text}");
        assert!(!text.contains('\n'), "{text}");
    }
}

#[test]
fn text_that_is_no_document_is_refused() {
    let deep = "[".repeat(1_000_000);
    for text in [
        "",
        "{",
        "[]",
        "null",
        "Running 1s test",
        "{\"schema\": \"hp-bench/1\"}",
        &deep,
    ] {
        assert!(matches!(parse(text), Err(Cause::Json(_))), "{:.20}", text);
    }
}

#[test]
fn file_that_cannot_be_read_is_named() {
    let error = read(Path::new("no/such/result.json"))
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("no/such/result.json: "), "{error}");
}

#[test]
fn endless_file_is_cut_off() {
    assert!(matches!(
        bounded(io::repeat(b' '), 1000),
        Err(Cause::TooLong)
    ));
    assert!(matches!(bounded(&b"\xff"[..], 1000), Err(Cause::Io(_))));
}
