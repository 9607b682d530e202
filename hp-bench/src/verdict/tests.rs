use std::ffi::OsString;

use hp_core::rt::Instant;

use super::*;
use crate::observe::Target;
use crate::record::{Answer, ErrorClass};
use crate::samples::Times;

fn plan(words: &str) -> Plan {
    let words = ["hp-bench", "a:1"]
        .into_iter()
        .chain(words.split(' ').filter(|word| !word.is_empty()));
    let cli = crate::cli::parse(words.map(OsString::from)).unwrap();
    Plan::resolve(&cli, 1).unwrap()
}

fn at(micros: u64) -> Instant {
    Instant::from_nanos(micros * 1000)
}

/// Ten seconds in which each request takes `response` µs, of which it was sent `lag` late, `own` of that by us.
fn record(plan: &Plan, requests: u64, response: u64, lag: u64, own: u64) -> Record {
    let clock = if plan.counts_from_intended() {
        Clock::Response
    } else {
        Clock::Service
    };
    let mut record = Record::with_clock(clock);
    for _ in 0..requests {
        record.requests += 1;
        let times = Times {
            intended: at(0),
            able: at(lag - own),
            sent: at(lag),
            first_byte: at(response),
            done: at(response),
        };
        let answer = Answer {
            status: 200,
            bytes: 1,
            fault: None,
        };
        record.answer(&times, &answer);
    }
    record.elapsed = Duration::from_secs(10);
    record
}

fn busy(share: f64) -> Costs {
    let target = Target {
        source: "pid",
        busy: Some(share),
        ..Target::default()
    };
    Costs {
        target: Some(target),
        ..Costs::default()
    }
}

fn limited(plan: &Plan, record: &Record, costs: &Costs) -> Option<String> {
    judge(plan, record, costs).limited_by
}

#[test]
fn rate_that_is_reached_in_time_has_no_limit() {
    let plan = plan("-R 100");
    let record = record(&plan, 1000, 200, 5, 5);
    assert_eq!(limited(&plan, &record, &Costs::default()), None);
    let verdict = judge(&plan, &record, &Costs::default());
    assert_eq!(
        (verdict.valid, exit_status(&plan, &record, &verdict)),
        (true, 0)
    );
}

#[test]
fn late_sends_of_our_own_are_the_clients_limit() {
    let strict = plan("-R 100 --strict");
    let own = record(&strict, 1000, 200, 50, 50);
    let verdict = judge(&strict, &own, &Costs::default());
    assert_eq!(verdict.limited_by.as_deref(), Some("client"));
    assert_eq!(
        (verdict.valid, exit_status(&strict, &own, &verdict)),
        (false, 5)
    );
    let lenient = plan("-R 100");
    assert_eq!(exit_status(&lenient, &own, &verdict), 0);
    // The same lag with every connection busy is the server's.
    let theirs = record(&strict, 1000, 200, 50, 0);
    assert_eq!(limited(&strict, &theirs, &Costs::default()), None);
}

#[test]
fn missed_rate_is_the_limit_of_whoever_was_full() {
    let plan = plan("-R 100");
    let mut record = record(&plan, 900, 200, 5, 1);
    record.unsent = 4;
    assert_eq!(limited(&plan, &record, &Costs::default()), None);
    record.unsent = 100;
    assert_eq!(
        limited(&plan, &record, &Costs::default()).as_deref(),
        Some("latency")
    );
    assert_eq!(
        limited(&plan, &record, &busy(0.99)).as_deref(),
        Some("proxy")
    );
    record.busiest_thread = 0.95;
    assert_eq!(
        limited(&plan, &record, &busy(0.5)).as_deref(),
        Some("client")
    );
}

#[test]
fn closed_loop_is_limited_by_whoever_is_full_and_else_by_the_latency() {
    let plan = plan("");
    let mut record = record(&plan, 10, 200, 0, 0);
    assert_eq!(limited(&plan, &record, &Costs::default()), None);
    assert_eq!(
        limited(&plan, &record, &busy(0.5)).as_deref(),
        Some("latency")
    );
    record.busiest_thread = 0.95;
    assert_eq!(
        limited(&plan, &record, &busy(0.5)).as_deref(),
        Some("client")
    );
    assert_eq!(
        limited(&plan, &record, &busy(0.96)).as_deref(),
        Some("proxy")
    );
}

/// A target that is full in every turn idles in those of others.
#[test]
fn in_turns_a_target_is_full_where_its_own_time_is() {
    let plan = plan("--turns 50ms --turn 2/4");
    let mut record = record(&plan, 10, 200, 0, 0);
    record.in_turn = Some(record.elapsed / 4);
    for (share, limit) in [(0.24, "proxy"), (0.20, "latency")] {
        let seen = limited(&plan, &record, &busy(share));
        assert_eq!(seen.as_deref(), Some(limit), "{share}");
    }
    let notes = judge(&plan, &record, &Costs::default()).notes;
    assert!(
        notes.iter().any(|note| note.contains("50ms, 2 of 4")),
        "{notes:?}"
    );
}

#[test]
fn too_few_connections_make_a_run_void() {
    let plan = plan("");
    let mut record = record(&plan, 10, 200, 0, 0);
    record.connections_short = Duration::from_millis(100);
    assert_eq!(limited(&plan, &record, &Costs::default()), None);
    record.connections_short = Duration::from_millis(101);
    let verdict = judge(&plan, &record, &busy(0.99));
    assert_eq!(verdict.limited_by.as_deref(), Some("void"));
    assert_eq!(
        (verdict.valid, exit_status(&plan, &record, &verdict)),
        (false, 4)
    );
}

#[test]
fn goals_and_errors_have_their_exit_status() {
    let status = |words: &str, error: bool| {
        let plan = plan(words);
        let mut record = record(&plan, 100, 200, 0, 0);
        if error {
            record.errors.count(ErrorClass::Reset);
        }
        exit_status(&plan, &record, &judge(&plan, &record, &Costs::default()))
    };
    assert_eq!(status("", false), 0);
    assert_eq!(status("", true), 4);
    assert_eq!(status("--slo p99<1ms", false), 0);
    assert_eq!(status("--slo p99<100us", false), 3);
    assert_eq!(status("--slo p99<100us", true), 4);
    assert_eq!(status("--slo err<2%", true), 0);
    assert_eq!(status("--slo err<0.5%", true), 3);
}

#[test]
fn a_thread_that_waits_busily_is_not_full_for_that() {
    let check = |words: &str, want: Option<Limit>| {
        let plan = plan(words);
        let mut record = record(&plan, 100, 1000, 0, 0);
        (record.busiest_thread, record.unsent) = (1.0, 10);
        assert_eq!(limit(&plan, &record, &Costs::default()), want, "{words}");
    };
    check("-R 10", Some(Limit::Client));
    check("-R 10 --spin", Some(Limit::Latency));
}
