//! Faked cells: each rule with one that it catches, and one that it lets pass.

use std::time::Duration;

use super::*;
use crate::load::parse_document;
use crate::load::tests::{GOOD, load};
use crate::raw::{CALIBRATOR, MachineUsage, Usage};

const SPLIT: Seating = Seating {
    seats: Seats::Split,
    server_cpus: 1,
    others_cpus: 1,
};

const SHARED: Seating = Seating {
    seats: Seats::Shared,
    server_cpus: 2,
    others_cpus: 2,
};

/// A cell with 100 connections, whose server, client and backend used these shares of a CPU for a second.
fn cell(server: f64, client: f64, backend: f64) -> Record {
    let usage = |share: f64| Usage {
        cpu_ns: u64::try_from(Duration::from_secs_f64(share).as_nanos()).ok(),
        ..Usage::default()
    };
    Record {
        subject: "nginx".into(),
        server: usage(server),
        client: usage(client),
        backend: usage(backend),
        machine: MachineUsage {
            elapsed_ns: 1_000_000_000,
            steal_pct: Some(0.0),
            foreign_cpu_ns: Some(0),
            ..MachineUsage::default()
        },
        load: parse_document(GOOD).ok(),
        ..Record::default()
    }
}

fn closed() -> Load {
    load("connections = 100")
}

/// The verdict on a cell of a proxy in a closed loop.
fn check_limit(record: &Record, seating: Seating, expected: Option<Limit>) {
    assert_eq!(limit(record, &closed(), Role::Proxy, seating), expected);
}

/// Reads the good document after one change of its text.
fn check_void(from: &str, to: &str, exit_code: Option<i32>, expected: &[&str]) {
    assert!(GOOD.contains(from), "{from}");
    let document = parse_document(&GOOD.replace(from, to)).unwrap();
    assert_eq!(
        void_reasons(&closed(), &document, exit_code),
        expected,
        "{to}"
    );
}

#[test]
fn a_run_without_failures_counts() {
    check_void("{", "{", Some(0), &[]);
}

#[test]
fn a_peer_that_drops_requests_is_void() {
    let errors = r#""errors": {"reset": 3, "timeout": 0, "connect_refused": 1}"#;
    check_void(
        r#""errors": {}"#,
        errors,
        Some(4),
        &["errors: connect_refused 1, reset 3"],
    );
    let mut record = cell(0.99, 0.4, 0.1);
    let document = parse_document(&GOOD.replace(r#""errors": {}"#, errors)).unwrap();
    record.void = void_reasons(&closed(), &document, Some(4));
    check_limit(&record, SPLIT, Some(Limit::Void));
    assert_eq!(record.server_cpu_ns_per_request(), None);
}

#[test]
fn errors_that_did_not_happen_are_no_reason() {
    check_void(r#""errors": {}"#, r#""errors": {"reset": 0}"#, Some(0), &[]);
}

#[test]
fn a_kept_connection_closed_while_idle_is_flagged_and_not_void() {
    let errors = r#""errors": {"eof_idle_reuse": 2}"#;
    check_void(r#""errors": {}"#, errors, Some(0), &[]);
    let mut record = cell(0.5, 0.5, 0.1);
    record.load = parse_document(&GOOD.replace(r#""errors": {}"#, errors)).ok();
    assert!(
        flags(&record)[0].starts_with("REUSE 2 "),
        "{:?}",
        flags(&record)
    );
}

#[test]
fn unexpected_statuses_void_a_visit() {
    check_void(
        r#""2xx": 50000}"#,
        r#""2xx": 49000, "5xx": 1000}"#,
        Some(0),
        &["1000 answers were 5xx"],
    );
}

#[test]
fn fewer_answers_than_connections_void_a_visit() {
    let few = r#""responses": 99"#;
    check_void(
        r#""responses": 50000"#,
        few,
        Some(0),
        &["99 answers on 100 connections"],
    );
    check_void(r#""responses": 50000"#, r#""responses": 100"#, Some(0), &[]);
}

#[test]
fn a_slow_schedule_may_have_fewer_answers_than_connections() {
    let document =
        parse_document(&GOOD.replace(r#""responses": 50000"#, r#""responses": 50"#)).unwrap();
    let slow = load("connections = 100\nrate = 50.0\nseconds = 1.0");
    assert!(void_reasons(&slow, &document, Some(0)).is_empty());
}

#[test]
fn missing_connections_void_a_visit() {
    let least = r#""connections_min": 99"#;
    check_void(
        r#""connections_min": 100"#,
        least,
        Some(0),
        &["only 99 of 100 connections stayed open"],
    );
    let fewer = r#""connections": 50,"#;
    check_void(
        r#""connections": 100,"#,
        fewer,
        Some(0),
        &[
            "the load ran 50 connections, not 100",
            "LITTLE mean latency times answers per second is 199 % of the connections: a clock or a count is wrong",
        ],
    );
}

#[test]
fn a_run_cut_short_voids_a_visit() {
    check_void(
        r#""interrupted": false"#,
        r#""interrupted": true"#,
        Some(143),
        &["the load was interrupted"],
    );
    check_void("{", "{", None, &["the load was ended by a signal"]);
    check_void("{", "{", Some(5), &["the load ended with exit code 5"]);
}

#[test]
fn a_warm_up_outside_of_the_count_voids_a_visit() {
    let reason = "the load left its warm-up out of the count, the CPU time has it";
    check_void(r#""rate": null"#, r#""warmup_s": 1.0"#, Some(0), &[reason]);
}

#[test]
fn no_latency_voids_a_visit() {
    check_void(
        r#""99": 3120000"#,
        r#""98": 1"#,
        Some(0),
        &["the load reported no latency"],
    );
}

/// The good document after some changes of its text.
fn changed(changes: &[(&str, &str)]) -> Document {
    let mut text = GOOD.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    parse_document(&text).unwrap()
}

/// 100 connections with 1.99 ms each answer 50,251 times a second at most, and fewer where they rest between an answer and the
/// next request. Seed B of the method's history ran 30 s by one clock and 27 s by another.
#[test]
fn a_clock_that_stepped_breaks_littles_law() {
    for (rps, breaks) in [
        ("50000.0", false),
        ("48600.0", false),
        ("51700.0", false),
        ("55000.0", true),
        ("40000.0", false),
    ] {
        let document = changed(&[("\"rps\": 50000.0", &format!("\"rps\": {rps}"))]);
        assert_eq!(littles_law(&document).is_some(), breaks, "{rps}");
    }
    let too_many = (r#""rps": 50000.0"#, r#""rps": 55000.0"#);
    let at_a_rate = changed(&[too_many, (r#""mode": "closed""#, r#""mode": "rate""#)]);
    assert_eq!(
        littles_law(&at_a_rate),
        None,
        "a schedule is no closed loop"
    );
    let few = changed(&[too_many, (r#""responses": 50000"#, r#""responses": 9999"#)]);
    assert_eq!(
        littles_law(&few),
        None,
        "the last ones are a part of the whole"
    );
}

/// A stall of 60 ms when the window begins brings answers to requests that were sent before it.
#[test]
fn a_stall_at_the_begin_breaks_no_law() {
    let faster = (r#""rps": 50000.0"#, r#""rps": 54000.0"#);
    let warm = (r#""rate": null"#, r#""warmup_s": 0.5"#);
    let stalled = (r#""max": 7030000"#, r#""max": 60000000"#);
    assert!(littles_law(&changed(&[faster, warm])).is_some());
    assert!(
        littles_law(&changed(&[faster, stalled])).is_some(),
        "nothing was under way before"
    );
    assert_eq!(littles_law(&changed(&[faster, warm, stalled])), None);
}

#[test]
fn a_server_that_used_its_cpu_is_the_limit() {
    check_limit(&cell(0.96, 0.5, 0.2), SPLIT, Some(Limit::Proxy));
    assert_eq!(
        limit(&cell(0.96, 0.5, 0.0), &closed(), Role::Backend, SPLIT),
        Some(Limit::Backend)
    );
}

/// Half of the second was another's: what was used is of the other half.
#[test]
fn of_two_that_take_turns_each_is_judged_by_its_own_time() {
    let in_turns = |server, client, backend| {
        let mut record = cell(server, client, backend);
        record.load.as_mut().unwrap().run.in_turn_s = Some(0.5);
        record
    };
    check_limit(&in_turns(0.48, 0.25, 0.1), SPLIT, Some(Limit::Proxy));
    check_limit(&in_turns(0.40, 0.35, 0.11), SPLIT, Some(Limit::Client));
    check_limit(&in_turns(0.40, 0.20, 0.26), SPLIT, Some(Limit::Backend));
    check_limit(&in_turns(0.40, 0.25, 0.1), SPLIT, Some(Limit::Latency));
    check_limit(&in_turns(0.5, 0.35, 0.1), SHARED, None);
}

/// The warm-up's part of what the backend used is not the window's.
#[test]
fn a_backend_is_judged_without_its_warm_up() {
    let mut record = cell(0.80, 0.60, 0.36);
    check_limit(&record, SPLIT, Some(Limit::Client));
    record.load.as_mut().unwrap().plan.warmup_s = 0.5;
    check_limit(&record, SPLIT, Some(Limit::Latency));
}

/// After each turn all connections may wait for one more answer: 7 ms after 50 are 14 % more than one at a time.
#[test]
fn answers_that_come_after_the_turn_break_no_law() {
    let of_turns = |rps: f64| {
        let mut document = parse_document(GOOD).unwrap();
        document.run.rps = rps;
        document.run.in_turn_s = Some(0.5);
        document.plan.turn_s = Some(0.05);
        littles_law(&document)
    };
    assert_eq!(of_turns(57_000.0), None);
    assert!(of_turns(60_000.0).is_some());
}

#[test]
fn where_the_load_is_apart_server_and_backend_fill_one_cpu() {
    let apart = Seating {
        seats: Seats::Apart,
        ..SPLIT
    };
    check_limit(&cell(0.50, 0.45, 0.34), apart, Some(Limit::Latency));
    check_limit(&cell(0.60, 0.45, 0.36), apart, Some(Limit::Proxy));
    check_limit(&cell(0.40, 0.45, 0.56), apart, Some(Limit::Backend));
    check_limit(&cell(0.30, 0.97, 0.34), apart, Some(Limit::Client));
}

#[test]
fn a_client_that_is_the_bottleneck_is_labelled() {
    check_limit(&cell(0.80, 0.70, 0.21), SPLIT, Some(Limit::Client));
    check_limit(&cell(0.80, 0.40, 0.52), SPLIT, Some(Limit::Backend));
    let four_cpus = Seating {
        others_cpus: 3,
        ..SPLIT
    };
    check_limit(&cell(0.80, 0.97, 0.2), four_cpus, Some(Limit::Client));
    check_limit(&cell(0.80, 0.70, 0.21), four_cpus, Some(Limit::Latency));
}

#[test]
fn without_a_full_cpu_connections_are_the_limit() {
    check_limit(&cell(0.80, 0.50, 0.2), SPLIT, Some(Limit::Latency));
    check_limit(&cell(0.80, 0.50, 0.2), SHARED, Some(Limit::Latency));
}

#[test]
fn nobody_is_to_blame_for_cpus_that_all_share() {
    check_limit(&cell(1.0, 0.70, 0.2), SHARED, None);
}

#[test]
fn a_load_that_missed_its_schedule_is_the_limit() {
    let at_a_rate = load("connections = 100\nrate = 10000.0");
    let check = |record: &Record, expected| {
        assert_eq!(limit(record, &at_a_rate, Role::Proxy, SPLIT), expected)
    };
    let mut record = cell(0.3, 0.3, 0.1);
    record.load.as_mut().unwrap().run.rate_ratio = Some(0.999);
    check(&record, None);
    record.load.as_mut().unwrap().run.rate_ratio = Some(0.99);
    check(&record, Some(Limit::Client));
    record.load.as_mut().unwrap().run.rate_ratio = Some(1.0);
    record.load.as_mut().unwrap().verdict.limited_by = Some("client".into());
    check(&record, Some(Limit::Client));
    record.server.cpu_ns = Some(990_000_000);
    check(&record, Some(Limit::Proxy));
}

#[test]
fn what_was_not_measured_has_no_verdict() {
    let record = Record {
        load: None,
        ..cell(0.9, 0.1, 0.1)
    };
    check_limit(&record, SPLIT, None);
    let record = Record {
        server: Usage::default(),
        ..cell(0.9, 0.1, 0.1)
    };
    check_limit(&record, SPLIT, None);
}

#[test]
fn a_stolen_cpu_is_flagged_and_its_round_repeated() {
    let mut record = cell(0.5, 0.5, 0.1);
    record.machine.steal_pct = Some(2.0);
    assert!(flags(&record).is_empty());
    record.machine.steal_pct = Some(3.1);
    assert_eq!(flags(&record), ["STEAL 3.1 % of the machine's time"]);
    assert_eq!(
        rejections(&[record], &[]),
        ["STEAL 3.1 % of the machine's time, at nginx"]
    );
}

/// A round whose CPUs were busy and stolen for so long, in percent of the time.
fn round_with(busy_pct: f64, steal_pct: f64) -> Vec<Record> {
    let mut records = round(10.0, 19.0);
    for record in &mut records {
        record.machine.busy_pct = vec![busy_pct; 2];
        record.machine.steal_pct = Some(steal_pct);
    }
    records
}

/// One connection on a virtual machine: both CPUs wait most of the time, and what they wait for is counted as stolen.
#[test]
fn a_row_whose_cpus_idle_is_not_repeated_for_its_wake_ups() {
    let busy = round_with(90.0, 3.0);
    assert_eq!(idling(&busy), None);
    assert_eq!(
        rejections(&busy, &[]).len(),
        4,
        "three stolen visits, and calibrators that are apart"
    );
    for (busy_pct, steal_pct) in [(36.0, 11.0), (39.0, 22.0), (36.0, 37.0)] {
        let mut idle = round_with(busy_pct, steal_pct);
        assert!(idling(&idle).unwrap().starts_with("IDLING the CPUs idled "));
        assert!(rejections(&idle, &[]).is_empty(), "{busy_pct} {steal_pct}");
        assert!(
            flags(&idle[1])[0].starts_with("STEAL "),
            "it is said all the same"
        );
        idle[1].machine.foreign_cpu_ns = Some(50_000_000);
        assert_eq!(
            rejections(&idle, &[]),
            ["FOREIGN processes used 5.0 % of a CPU, at nginx"]
        );
    }
    assert_eq!(
        idling(&round_with(38.0, 42.0)),
        None,
        "stolen from a load that had work to do"
    );
    assert_eq!(idling(&round(10.0, 10.0)), None, "not known");
    assert_eq!(idling(&[]), None);
}

#[test]
fn foreign_processes_are_flagged_and_their_round_repeated() {
    let mut record = cell(0.5, 0.5, 0.1);
    record.machine.foreign_cpu_ns = Some(30_000_000);
    assert!(rejections(&[record.clone()], &[]).is_empty());
    record.machine.foreign_cpu_ns = Some(50_000_000);
    assert_eq!(
        rejections(&[record], &[]),
        ["FOREIGN processes used 5.0 % of a CPU, at nginx"]
    );
}

/// A round of two calibrators with these costs in µs per request.
fn round(first: f64, last: f64) -> Vec<Record> {
    let calibrator = |us: f64| Record {
        subject: CALIBRATOR.into(),
        ..cell(us * 50_000.0 / 1e6, 0.5, 0.1)
    };
    vec![calibrator(first), cell(0.5, 0.5, 0.1), calibrator(last)]
}

#[test]
fn a_drift_inside_a_round_repeats_it() {
    assert!(rejections(&round(10.0, 10.4), &[]).is_empty());
    assert_eq!(
        rejections(&round(10.0, 10.6), &[]),
        ["CALIBRATOR moved by 6.0 % inside the round"]
    );
    assert_eq!(
        rejections(&round(10.6, 10.0), &[]),
        ["CALIBRATOR moved by 6.0 % inside the round"]
    );
}

#[test]
fn a_round_far_from_the_others_is_repeated() {
    let earlier = [10.0, 10.1, 9.9, 10.2, 9.8].map(|us| us * 1_000.0);
    assert!(rejections(&round(10.4, 10.4), &earlier).is_empty());
    assert_eq!(
        rejections(&round(12.0, 12.0), &earlier),
        ["CALIBRATOR was +20.0 % off its median"]
    );
    assert!(
        rejections(&round(12.0, 12.0), &earlier[..4]).is_empty(),
        "four are no distribution"
    );
    let equal = [10_000.0; 9];
    assert!(rejections(&round(10.3, 10.3), &equal).is_empty());
}

#[test]
fn a_subject_near_the_direct_run_is_flagged() {
    assert_eq!(near_direct(150.0, 100.0), None);
    assert_eq!(
        near_direct(149.0, 100.0).as_deref(),
        Some("NEAR-DIRECT the direct run brought 1.49 times the answers")
    );
    assert_eq!(near_direct(100.0, 0.0), None);
}
