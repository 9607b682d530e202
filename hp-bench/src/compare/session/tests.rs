//! Comparisons of runs that are made up.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::*;
use crate::command::{Command, parse};
use crate::compare::table::table;

fn contest(flags: &str) -> Contest {
    let line = format!("hp-bench compare a:1 b:2 {flags}");
    match parse(line.split_whitespace().map(OsString::from)) {
        Ok(Command::Compare(words)) => Contest::resolve(&words, 2).unwrap(),
        other => panic!("{line}: {other:?}"),
    }
}

fn run(rps: f64) -> Measured {
    Measured {
        addr: "127.0.0.1:1".to_owned(),
        engine: "epoll".to_owned(),
        values: BTreeMap::from([(Metric::Throughput, rps), (Metric::ClientCpu, 5_000.0)]),
        ..Measured::default()
    }
}

fn void() -> Measured {
    Measured {
        void: Some("errors: reset 3".to_owned()),
        ..run(1e9)
    }
}

fn session(contest: &Contest, mut made: impl FnMut(&str, u32) -> Option<Measured>) -> Session {
    let session: Result<Session, ()> =
        Session::run(contest, |arm, round| Ok(made(&arm.name, round)));
    session.unwrap()
}

fn ratio<'a>(comparison: &'a Comparison, target: &str, metric: Metric) -> &'a Ratio {
    let mut found = comparison.ratios.iter();
    found
        .find(|ratio| ratio.target == target && ratio.metric == metric.name())
        .unwrap()
}

#[test]
fn every_round_has_every_arm_once_in_an_order_of_its_own() {
    let contest = contest("--rounds 30");
    let mut orders = std::collections::BTreeSet::new();
    let mut names: Vec<(u32, String)> = Vec::new();
    session(&contest, |name, round| {
        names.push((round, name.to_owned()));
        Some(run(100.0))
    });
    for (round, runs) in (1..).zip(names.chunks(3)) {
        assert!(runs.iter().all(|(of, _)| *of == round));
        let mut arms: Vec<&str> = runs.iter().map(|(_, name)| name.as_str()).collect();
        orders.insert(arms.join(" "));
        arms.sort_unstable();
        assert_eq!(arms, ["A", "A'", "B"]);
    }
    assert_eq!((names.len(), orders.len()), (90, 6));
}

#[test]
fn order_follows_from_the_seed() {
    let order = |flags: &str| {
        let mut names = String::new();
        session(&contest(flags), |name, _round| {
            names.push_str(name);
            Some(run(100.0))
        });
        names
    };
    assert_eq!(order("--seed 7"), order("--seed 7"));
    assert_ne!(order("--seed 7"), order("--seed 8"));
}

/// The machine drifts by a factor of ten over the session, which no ratio of a round sees.
#[test]
fn drift_between_rounds_is_not_seen() {
    let contest = contest("");
    let made = session(&contest, |name, round| {
        let drift = 1.0 + f64::from(round);
        Some(run(drift * if name == "B" { 110.0 } else { 100.0 }))
    });
    let comparison = made.comparison(&contest);
    let of_b = ratio(&comparison, "B", Metric::Throughput);
    assert!((of_b.ratio.unwrap() - 1.1).abs() < 1e-9, "{of_b:?}");
    assert_eq!(of_b.word.as_deref(), Some("faster"));
    let control = ratio(&comparison, "A'", Metric::Throughput);
    assert_eq!(
        (control.word.as_deref(), control.margin),
        (None, Some(1.02))
    );
    let client = ratio(&comparison, "B", Metric::ClientCpu);
    assert_eq!(client.word.as_deref(), Some("tie"));
    assert_eq!(made.exit_status(&contest), 0);
}

#[test]
fn noise_of_the_control_forbids_a_word() {
    let contest = contest("");
    let made = session(&contest, |name, round| {
        let swing = if round % 2 == 0 { 1.2 } else { 0.8 };
        Some(run(match name {
            "B" => 110.0,
            "A'" => 100.0 * swing,
            _ => 100.0,
        }))
    });
    let comparison = made.comparison(&contest);
    let of_b = ratio(&comparison, "B", Metric::Throughput);
    assert_eq!(of_b.word.as_deref(), Some("tie"), "{of_b:?}");
}

#[test]
fn void_runs_are_named_repeated_and_never_averaged() {
    let contest = contest("--rounds 8");
    let mut attempts = 0;
    let made = session(&contest, |name, round| {
        if name == "B" && round == 3 {
            attempts += 1;
            return Some(if attempts < 3 { void() } else { run(100.0) });
        }
        Some(run(100.0))
    });
    assert_eq!(attempts, 3);
    let comparison = made.comparison(&contest);
    let of_b = ratio(&comparison, "B", Metric::Throughput);
    assert_eq!(
        (of_b.ratio, of_b.other, of_b.pairs),
        (Some(1.0), Some(100.0), 8)
    );
    assert_eq!(
        comparison.notes,
        [
            "2 runs of B void, counted for nothing (first: errors: reset 3); 0 rounds without a run that counts"
        ]
    );
    assert_eq!(comparison.rounds[2].runs.len(), 5);
    assert_eq!(made.exit_status(&contest), 0);
}

#[test]
fn a_target_that_stays_void_has_no_word_and_the_status_says_so() {
    let contest = contest("--rounds 8");
    let mut attempts = 0;
    let made = session(&contest, |name, _round| {
        attempts += u32::from(name == "B");
        Some(if name == "B" { void() } else { run(100.0) })
    });
    assert_eq!(attempts, 8 * (1 + REPEATS_MAX));
    let comparison = made.comparison(&contest);
    assert!(comparison.ratios.iter().all(|ratio| ratio.target == "A'"));
    assert_eq!(made.exit_status(&contest), 4);
    assert!(
        table(&comparison).contains("32 runs of B void"),
        "{}",
        table(&comparison)
    );
}

#[test]
fn a_generator_at_its_limit_is_told_and_strict_fails() {
    let made = |contest: &Contest| {
        session(contest, |_name, _round| {
            Some(Measured {
                limited_by: Some("client".to_owned()),
                ..run(100.0)
            })
        })
    };
    let (lax, strict) = (contest(""), contest("--strict"));
    assert_eq!(made(&lax).exit_status(&lax), 0);
    assert_eq!(made(&strict).exit_status(&strict), 5);
    let notes = made(&lax).comparison(&lax).notes;
    assert!(
        notes[0].contains("15 runs of A were limited by hp-bench"),
        "{notes:?}"
    );
}

#[test]
fn what_a_signal_leaves_is_told() {
    let contest = contest("--rounds 20");
    let made = session(&contest, |name, round| {
        (round < 9 || name != "B").then(|| run(100.0))
    });
    let comparison = made.comparison(&contest);
    assert!(comparison.interrupted);
    assert_eq!(ratio(&comparison, "B", Metric::Throughput).pairs, 8);
    let cut_at_once = session(&contest, |_name, _round| None);
    let comparison = cut_at_once.comparison(&contest);
    assert!(comparison.ratios.is_empty() && comparison.started.is_empty());
    assert!(table(&comparison).contains("interrupted"));
}

#[test]
fn table_has_a_line_for_each_target_and_metric() {
    let contest = contest("");
    let made = session(&contest, |name, _round| {
        Some(run(if name == "B" { 90_000.0 } else { 100_000.0 }))
    });
    let text = table(&made.comparison(&contest));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("15 rounds of 2.0 s (+1.0 s warm-up), closed loop, 50 connections"));
    assert_eq!(
        lines[1..4],
        [
            "  A   http://a:1/",
            "  A'  the same once more: the control",
            "  B   http://b:2/"
        ]
    );
    let slower = lines.iter().find(|line| line.ends_with("slower")).unwrap();
    for part in [" B ", "100,000", "90,000", "0.900", "0.900 to 0.900"] {
        assert!(slower.contains(part), "{slower}");
    }
    assert_eq!(lines.len(), 9, "{text}");
}

#[test]
fn percentiles_are_compared_at_a_rate_and_throughput_in_a_closed_loop() {
    let mut document = Document::default();
    document.plan.mode = "closed".to_owned();
    document.run.rps = 5.0;
    document.latency_ns.p.insert("50".to_owned(), 7);
    assert_eq!(Metric::Throughput.of(&document), Some(5.0));
    assert_eq!(Metric::P50.of(&document), None);
    document.plan.mode = "rate".to_owned();
    assert_eq!(Metric::Throughput.of(&document), None);
    assert_eq!(Metric::P50.of(&document), Some(7.0));
    assert_eq!(Metric::TargetCpu.of(&document), None);
}
