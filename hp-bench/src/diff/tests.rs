use super::*;
use crate::result::TargetCost;

const THRESHOLDS: Thresholds = Thresholds {
    rate: 5.0,
    latency: 10.0,
    cost: 5.0,
    errors: 0.0,
};

fn document() -> Document {
    let mut document = Document::default();
    document.latency_ns.clock = "service".to_owned();
    document.run.rps = 1_000.0;
    document.run.requests = 1_000;
    document.run.responses = 1_000;
    document.latency_ns.max = 9_000_000;
    for (name, nanos) in [
        ("50", 1_000_000),
        ("90", 2_000_000),
        ("99", 3_000_000),
        ("99.9", 4_000_000),
    ] {
        document.latency_ns.p.insert(name.to_owned(), nanos);
    }
    document.target_cost = Some(TargetCost {
        cpu_ns_per_req: Some(20_000),
        ..TargetCost::default()
    });
    document
}

/// Compares with a changed newer result: is it a regression, and which lines say so?
fn check(change: impl Fn(&mut Document), want: &[&str]) {
    let mut new = document();
    change(&mut new);
    let comparison = compare(&document(), &new, &THRESHOLDS).unwrap();
    let text = comparison.to_string();
    let worse: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("REGRESSION"))
        .map(|line| line.split("  ").next().unwrap())
        .collect();
    assert_eq!(worse, want, "{text}");
    assert_eq!(comparison.is_regression(), !want.is_empty());
}

fn set(name: &'static str, nanos: u64) -> impl Fn(&mut Document) {
    move |document| {
        document.latency_ns.p.insert(name.to_owned(), nanos);
    }
}

#[test]
fn what_is_within_the_thresholds_is_no_regression() {
    check(|_same| (), &[]);
    check(|new| new.run.rps = 950.0, &[]);
    check(|new| new.run.rps = 2_000.0, &[]);
    check(set("99", 3_300_000), &[]);
    check(set("99.9", 400_000_000), &[]);
    check(|new| new.latency_ns.max = 90_000_000, &[]);
}

#[test]
fn what_is_beyond_a_threshold_is_a_regression() {
    check(|new| new.run.rps = 949.0, &["requests/s"]);
    check(set("50", 1_100_001), &["p50"]);
    check(set("99", 3_300_001), &["p99"]);
    check(
        |new| new.errors.extend([("reset".to_owned(), 1)]),
        &["errors"],
    );
    check(
        |new| new.target_cost.as_mut().unwrap().cpu_ns_per_req = Some(21_001),
        &["target CPU"],
    );
    check(|new| new.target_cost = None, &["target CPU"]);
    check(
        |new| (new.run.rps, new.run.responses) = (0.0, 0),
        &["requests/s", "p50", "p99"],
    );
}

#[test]
fn closing_an_idle_connection_is_no_error() {
    check(
        |new| new.errors.extend([("eof_idle_reuse".to_owned(), 500)]),
        &[],
    );
}

#[test]
fn different_clocks_are_not_compared() {
    let mut new = document();
    new.latency_ns.clock = "response".to_owned();
    let said = compare(&document(), &new, &THRESHOLDS)
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("\"service\" time and the new one \"response\""),
        "{said}"
    );
}

#[test]
fn different_plans_are_noted() {
    let mut new = document();
    new.plan.connections = 7;
    new.verdict.valid = false;
    let text = compare(&document(), &new, &THRESHOLDS).unwrap().to_string();
    assert!(
        text.contains("note: plan.connections was 0 and is 7\n"),
        "{text}"
    );
    assert!(
        text.contains("note: the new result is not valid\n"),
        "{text}"
    );
}

#[test]
fn table_is_the_documented_one() {
    let mut new = document();
    new.run.rps = 900.0;
    let text = compare(&document(), &new, &THRESHOLDS).unwrap().to_string();
    let lines: Vec<&str> = text.lines().take(3).collect();
    assert_eq!(
        lines,
        [
            "                        old            new      change",
            "requests/s           1000.0          900.0     -10.0 %  REGRESSION (more than -5 %)",
            "errors             0.0000 %       0.0000 %     +0.0 pp",
        ]
    );
}
