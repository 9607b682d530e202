//! What the machine can do, as the program tells it.

use serde_json::{Value, json};

use crate::schema::validator::{check_keys, unknown_words, violations};
use crate::server::bench;

fn schema() -> Value {
    let text = include_str!("../../../docs/schema/hp-bench-calibrate-1.json");
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_calibration_is_valid_and_measures_what_starts() {
    let output = bench(&["calibrate", "--json", "-"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let good: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(violations(&schema(), &good), [""; 0], "{good}");
    assert!(good["clock_read_ns"].as_f64().unwrap() > 0.0, "{good}");
    let engines = good["engines"].as_array().unwrap();
    assert_eq!(
        (&engines[0]["engine"], &engines[0]["passed_over"]),
        (&json!("epoll"), &Value::Null)
    );
    for engine in engines
        .iter()
        .filter(|engine| engine["passed_over"].is_null())
    {
        for times in ["timer_late_ns", "timer_late_spinning_ns", "round_trip_ns"] {
            let times = &engine[times];
            assert!(times["count"].as_u64().unwrap() >= 500, "{engine}");
            assert!(times["p50"].as_u64() <= times["max"].as_u64(), "{engine}");
        }
        assert!(
            engine["round_trip_ns"]["p50"].as_u64().unwrap() > 0,
            "{engine}"
        );
    }
    assert!(good["spin"]["factor"].as_f64().unwrap() > 0.0, "{good}");
    for part in [
        "clock  ",
        "epoll  ",
        "round trip p50",
        "limits  ",
        "steal  ",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    check_schema(&good);
}

fn check_schema(good: &Value) {
    assert_eq!(unknown_words(&schema()), [""; 0]);
    check_keys(
        &schema(),
        good,
        &[
            "",
            "/tool",
            "/engines/0",
            "/engines/0/round_trip_ns",
            "/spin",
            "/limits",
        ],
    );
}
