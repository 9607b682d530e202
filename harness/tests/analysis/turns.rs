//! Visits in turns: what the machine does to both of a visit is in neither ratio.

use harness::raw::Pair;

use super::*;

/// A made session as one in turns: each subject beside the reference, on a machine whose speed differs from visit to visit by up to
/// three times.
fn in_turns(made: &Made) -> Vec<Record> {
    let made = made.records();
    let mut records = Vec::new();
    let others = made.iter().filter(|record| {
        record.params.rate.is_none()
            && record.workload == "small"
            && record.subject != REFERENCE
            && !record.is_calibrator()
    });
    for (step, own) in (0_u64..).zip(others) {
        let is_its = |record: &&Record| {
            record.subject == REFERENCE && (&record.row, record.round) == (&own.row, own.round)
        };
        let its = made.iter().find(is_its).unwrap();
        let slower = 1.0 + (step * step * 37 % 101) as f64 / 50.0;
        for (record, beside, turn) in [(own, &its.subject, 1), (its, &own.subject, 2)] {
            let mut record = record.clone();
            record.place = own.place;
            record.started_ms = step * 2_500;
            record.pair = Some(Pair {
                beside: beside.clone(),
                of_reference: turn == 2,
                turn,
            });
            let cpu_ns = record.server.cpu_ns.unwrap() as f64 * slower;
            record.server.cpu_ns = Some(cpu_ns as u64);
            record.params.other.insert("turn_ms".into(), 50.into());
            records.push(record);
        }
    }
    records
}

#[test]
fn a_machine_that_changes_from_visit_to_visit_changes_no_ratio() {
    let records = in_turns(&Made::default());
    let summary = summary(&records);
    check_cost(&summary, "direct", REFERENCE, 0.5, Verdict::Less);
    check_cost(&summary, "hp-uring", REFERENCE, 1.16, Verdict::More);
    check_cost(&summary, "nginx", REFERENCE, 1.54, Verdict::More);
    check_cost(&summary, REFERENCE, "hp-uring", 1.0 / 1.16, Verdict::Less);
    // Of two that never met: by the ratio of each to the reference beside it.
    check_cost(&summary, "nginx", "hp-uring", 1.54 / 1.16, Verdict::More);
    check_cost(&summary, "hp-epoll", "hp-uring", 1.17 / 1.16, Verdict::Tie);
    for name in ["c16", "c100"] {
        let reference = cell(&summary, name, REFERENCE);
        assert_eq!(reference.rounds, 9, "not one for each subject");
        assert!(!reference.failed && reference.figures.is_some());
        assert!(row(&summary, name).is_in_turns());
    }
    // By another visit of the same round the same figures say nothing sure.
    let mut alone = records;
    alone.iter_mut().for_each(|record| record.pair = None);
    let summary = super::summary(&alone);
    let ratio = cell(&summary, "c100", "direct").ratio(Quantity::Cost, REFERENCE);
    assert!(!ratio.unwrap().is_sure(), "{ratio:?}");
}

/// It was "of 18 rounds" in 111 of them.
#[test]
fn a_round_has_a_flag_once_however_often_the_reference_was_visited() {
    let mut records = in_turns(&Made::default());
    for record in of(&mut records, "c100", REFERENCE) {
        record.flags.push("STEAL 3.1 %".into());
    }
    let summary = summary(&records);
    assert_eq!(cell(&summary, "c100", REFERENCE).flags["STEAL"], 9);
}

#[test]
fn the_reference_may_be_its_own_control() {
    let made = Made {
        costs: vec![(REFERENCE, 1.0), ("relay-uring/aa", 1.0), ("nginx", 1.54)],
        ..Made::default()
    };
    let summary = summary(&in_turns(&made));
    let [noise] = row(&summary, "c100").noise.as_slice() else {
        panic!("one control");
    };
    assert_eq!((noise.against.as_str(), noise.pairs), (REFERENCE, 9));
    assert!(noise.low > 0.985 && noise.high < 1.015, "{noise:?}");
    check_cost(&summary, "nginx", REFERENCE, 1.54, Verdict::More);
}

#[test]
fn a_visit_of_which_one_is_void_is_no_pair() {
    let mut records = in_turns(&Made::default());
    let void = |record: &mut Record, beside: &str| {
        let is_asked = record.subject == REFERENCE
            && record.round <= 2
            && record.row == "c100"
            && record.pair.as_ref().unwrap().beside == beside;
        if is_asked {
            record.void.push("errors: reset 1".into());
        }
    };
    for record in &mut records {
        void(record, "nginx");
    }
    let summary = summary(&records);
    let pairs = |subject: &str| {
        let ratio = cell(&summary, "c100", subject).ratio(Quantity::Cost, REFERENCE);
        ratio.unwrap().pairs
    };
    assert_eq!((pairs("nginx"), pairs("hp-uring")), (7, 9));
    let reference = cell(&summary, "c100", REFERENCE);
    assert!(!reference.failed, "it counts beside the others");
    assert_eq!((reference.rounds, reference.void.len()), (9, 2));
}

#[test]
fn the_attempt_that_broke_off_is_paired_with_nothing_of_the_next() {
    let mut records = in_turns(&Made::default());
    let again: Vec<Record> = records
        .iter()
        .filter(|record| record.round == 3 && record.row == "c100" && record.subject == "nginx")
        .map(|record| Record {
            attempt: 2,
            ..record.clone()
        })
        .collect();
    assert_eq!(again.len(), 1);
    records.extend(again);
    let summary = summary(&records);
    let nginx = cell(&summary, "c100", "nginx");
    assert_eq!(nginx.ratio(Quantity::Cost, REFERENCE).unwrap().pairs, 8);
}

#[test]
fn references_in_turns_tell_of_the_machine() {
    let summary = summary(&in_turns(&Made {
        rounds: 4,
        ..Made::default()
    }));
    let visits = summary.calibrator.unwrap().visits;
    assert_eq!(visits, 2 * 4 * 5, "rows, rounds and subjects beside it");
    assert!(page::tables(&summary).contains("and the reference wherever it took turns"));
}

const REFERENCE: &str = "relay-uring";
