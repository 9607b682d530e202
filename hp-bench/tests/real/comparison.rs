//! Targets side by side, with real runs.

use std::collections::BTreeSet;
use std::process::Output;

use serde_json::{Value, json};

use crate::schema::validator::{unknown_words, violations};
use crate::server::{ENGINES, Script, bench, serve};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const FAULT: &str = "HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno";

fn schema() -> Value {
    let text = include_str!("../../../docs/schema/hp-bench-compare-1.json");
    serde_json::from_str(text).unwrap()
}

fn compare(first: Script, second: Script, flags: &[&str]) -> (Output, Value) {
    let (a, _requests) = serve(first);
    let (b, _requests) = serve(second);
    let (a, b) = (a.to_string(), b.to_string());
    let fixed = [
        "compare", &a, &b, "-c", "2", "-t", "1", "-d", "20ms", "--warmup", "0", "--rounds", "6",
        "--json", "-",
    ];
    let output = bench(&[&fixed[..], flags].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    let document = serde_json::from_slice(&output.stdout);
    let document = document.unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(violations(&schema(), &document), [""; 0], "{document}");
    (output, document)
}

fn metrics(document: &Value, target: &str) -> Vec<String> {
    let ratios = document["ratios"].as_array().unwrap().iter();
    ratios
        .filter(|ratio| ratio["target"] == target)
        .map(|ratio| ratio["metric"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn closed_loops_compare_throughput_and_cost() {
    for engine in ENGINES {
        let own = std::process::id().to_string();
        let flags = ["--engine", engine, "--pid", &own, "--pid", &own];
        let (output, document) = compare(Script::Answer(OK), Script::Answer(OK), &flags);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{said}");
        for target in ["A'", "B"] {
            let told = metrics(&document, target);
            assert!(told.contains(&"rps".to_owned()), "{document}");
            assert!(!told.contains(&"p99_ns".to_owned()), "{document}");
        }
        // A run that a stolen CPU spoils is made again, and told as well.
        for round in document["rounds"].as_array().unwrap() {
            let runs = round["runs"].as_array().unwrap().iter();
            let targets: BTreeSet<&str> = runs.filter_map(|run| run["target"].as_str()).collect();
            assert_eq!(targets.len(), 3, "{document}");
        }
        assert!(
            said.contains("requests/s") && said.contains("round 6/6"),
            "{said}"
        );
    }
}

#[test]
fn rates_compare_latencies() {
    let flags = ["-R", "500", "-q"];
    let (output, document) = compare(Script::Answer(OK), Script::Numbered, &flags);
    assert_eq!(output.status.code(), Some(0), "{document}");
    let told = metrics(&document, "B");
    for metric in ["p50_ns", "p90_ns", "p99_ns", "p99.9_ns"] {
        assert!(told.contains(&metric.to_owned()), "{document}");
    }
    assert!(!told.contains(&"rps".to_owned()), "{document}");
}

#[test]
fn a_target_with_errors_is_void_in_every_round() {
    let (output, document) = compare(Script::Answer(OK), Script::Answer(FAULT), &[]);
    assert_eq!(output.status.code(), Some(4), "{document}");
    assert_eq!(metrics(&document, "B"), [""; 0]);
    for round in document["rounds"].as_array().unwrap() {
        let runs = round["runs"].as_array().unwrap();
        let of_b = runs.iter().filter(|run| run["target"] == "B");
        let void = of_b.filter(|run| run["void"].as_str().unwrap().starts_with("errors: status"));
        assert_eq!(void.count(), 4, "{round}");
    }
}

#[test]
fn a_target_that_is_not_there_is_named() {
    let (a, _requests) = serve(Script::Answer(OK));
    let a = a.to_string();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let b = gone.local_addr().unwrap().to_string();
    drop(gone);
    let output = bench(&[
        "compare", &a, &b, "-c", "1", "-d", "10ms", "--warmup", "0", "-q",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    let want = format!("hp-bench: target B: cannot connect to {b}: connection refused");
    assert!(said.starts_with(&want), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn what_is_not_in_the_schema_of_comparisons_is_found() {
    assert_eq!(unknown_words(&schema()), [""; 0]);
    let (_output, good) = compare(Script::Answer(OK), Script::Answer(OK), &["-q"]);
    for pointer in [
        "",
        "/tool",
        "/plan",
        "/targets/0",
        "/ratios/0",
        "/rounds/0",
        "/rounds/0/runs/0",
    ] {
        let keys = good.pointer(pointer).unwrap().as_object().unwrap().keys();
        for key in keys {
            let mut less = good.clone();
            let object = less.pointer_mut(pointer).unwrap().as_object_mut().unwrap();
            object.remove(key);
            assert_eq!(
                violations(&schema(), &less).len(),
                1,
                "{pointer} without {key}"
            );
        }
        let mut more = good.clone();
        more.pointer_mut(pointer).unwrap()["unheard_of"] = json!(1);
        assert_eq!(
            violations(&schema(), &more).len(),
            1,
            "{pointer} with another key"
        );
    }
    for (pointer, value) in [
        ("/schema", json!("hp-bench/1")),
        ("/ratios/0/word", json!("better")),
        ("/ratios/0/metric", json!("p42")),
        ("/ratios/0/margin", json!(0.5)),
        ("/rounds/0/runs/0/attempt", json!(5)),
        ("/rounds/0/runs/0/values", json!({"rps": -1})),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        assert_eq!(violations(&schema(), &bad).len(), 1, "{pointer}");
    }
}
