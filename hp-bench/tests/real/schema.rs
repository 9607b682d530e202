//! The published schema is what hp-bench writes: in both directions, since no other key is allowed and every one is required that all
//! documents of its name have.

pub(crate) mod validator;

use hp_bench::result::{
    Document, Encoded, Gate, Machine, SCHEMA, Second, TargetCost, Verdict, to_json,
};
use serde_json::{Value, json};

use crate::server::{Script, bench, serve};
use validator::{check_keys, violations};

fn schema() -> Value {
    serde_json::from_str(include_str!("../../../docs/schema/hp-bench-1.json")).unwrap()
}

fn found(document: &Value) -> Vec<String> {
    violations(&schema(), document)
}

/// With everything that a run may leave out.
fn full() -> Document {
    let times = Encoded::encode(
        &hdrhistogram::Histogram::new_with_bounds(1_000, 60_000_000_000, 3).unwrap(),
    );
    let mut document = Document {
        schema: SCHEMA.to_owned(),
        target_cost: Some(TargetCost::default()),
        machine: Some(Machine {
            softirq_pct: vec![0.5, 1.0],
            ..Machine::default()
        }),
        verdict: Verdict {
            limited_by: Some("proxy".to_owned()),
            slo: vec![Gate::default()],
            notes: vec![String::new()],
            ..Verdict::default()
        },
        series: vec![Second {
            hist: Some(times.clone()),
            ..Second::default()
        }],
        ..Document::default()
    };
    document.plan.mode = "rate".to_owned();
    document.plan.rate = Some(1e4);
    document.plan.src = vec!["127.0.0.2".to_owned()];
    document.plan.pin = vec![1];
    document.latency_ns.clock = "response".to_owned();
    document.histograms.lag = Some(times);
    document.status.insert("2xx".to_owned(), 1);
    document.errors.insert("reset".to_owned(), 1);
    document
}

#[test]
fn what_a_run_writes_is_valid() {
    let (addr, _requests) = serve(Script::Answer(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    ));
    let output = bench(&[&addr.to_string(), "2", "-d", "1200ms", "--json", "-"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found(&document), [""; 0]);
    assert!(!document["series"].as_array().unwrap().is_empty());
}

#[test]
fn every_part_of_a_document_is_valid() {
    let document: Value = serde_json::from_str(&to_json(&full())).unwrap();
    assert_eq!(found(&document), [""; 0]);
}

/// Whoever wrote a document before a key was thought of did not write another schema.
#[test]
fn documents_from_before_a_key_are_valid() {
    let mut before: Value = serde_json::from_str(&to_json(&full())).unwrap();
    remove_later_keys(&mut before);
    assert_eq!(found(&before), [""; 0]);
    serde_json::from_value::<Document>(before).expect("readers take an absent key for null");
}

/// The keys that came after the first documents of this schema. A new key belongs here.
fn remove_later_keys(document: &mut Value) {
    for (object, key) in [
        ("plan", "turn_s"),
        ("plan", "turn"),
        ("plan", "chunk_bytes"),
        ("run", "in_turn_s"),
    ] {
        let removed = document[object].as_object_mut().unwrap().remove(key);
        removed.expect("each key is written");
    }
}

#[test]
fn what_is_not_in_the_schema_is_found() {
    let good: Value = serde_json::from_str(&to_json(&full())).unwrap();
    let objects = [
        "",
        "/tool",
        "/target",
        "/plan",
        "/run",
        "/latency_ns",
        "/histograms",
        "/series/0",
        "/client",
        "/target_cost",
        "/machine",
        "/verdict",
        "/verdict/slo/0",
    ];
    let mut always = good.clone();
    remove_later_keys(&mut always);
    check_keys(&schema(), &always, &objects);
    for (pointer, value) in [
        ("/schema", json!("hp-bench/2")),
        ("/started", json!(7)),
        ("/run/requests", json!(-1)),
        ("/run/requests", json!(1.5)),
        ("/run/requests", json!(u64::MAX)),
        ("/run/rps", json!("many")),
        ("/plan/mode", json!("open")),
        ("/plan/connections", json!(1_u64 << 32)),
        ("/latency_ns/clock", json!("wall")),
        ("/status", json!({"200": 1})),
        ("/errors/reset", Value::Null),
        ("/histograms/lag", json!(3)),
        ("/series", json!({})),
        ("/verdict/limited_by", json!("the weather")),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        assert_eq!(found(&bad).len(), 1, "{pointer}");
    }
}

#[test]
fn validator_knows_every_word_of_the_schema() {
    assert_eq!(validator::unknown_words(&schema()), [""; 0]);
    assert_eq!(
        validator::unknown_words(&json!({"type": "object", "colour": 1})),
        ["colour"]
    );
}
