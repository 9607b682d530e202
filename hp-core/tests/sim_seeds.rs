//! Clients, relays and echoes under every fault, by the seed: bytes arrive whole or whoever waits is told, and nothing is
//! left behind.
//!
//! `HP_SEED=N` plays one seed, under every profile; `HP_SEEDS_TIMES=N` plays N times as many, `HP_SEEDS_FIRST=N` others. A
//! failure names the seed, the profile and the face.
#![expect(
    clippy::unwrap_used,
    reason = "the model is a function of a test, not a test itself"
)]

#[path = "sim_seeds/model.rs"]
mod model;

use hp_core::rt::sim::{Face, Fault, Frequency, Profile};
use model::{Report, cut, play};
use std::collections::BTreeMap;

#[test]
fn nothing_goes_wrong_where_nothing_is_made_to() {
    for face in FACES {
        let (mut shortages, mut overflows, mut short_sends) = (0, 0, 0);
        for seed in seeds(40) {
            let report = play(seed, &Profile::calm(), face);
            shortages += report.shortages;
            overflows += report.overflows;
            short_sends += report.short_sends;
            assert_eq!(
                (report.failed, report.faults()),
                (0, 0),
                "seed {seed}, {face:?}"
            );
            let ended = report.whole + report.given_up; // Some worlds have one message, which its client gives up.
            assert!(ended > 0, "seed {seed}, {face:?}");
        }
        if plays_all_seeds() {
            assert!(
                shortages > 0 && short_sends > 0,
                "{shortages} and {short_sends}"
            );
            assert_eq!(overflows > 0, face == Face::Completion);
        }
    }
}

#[test]
fn bytes_are_whole_or_somebody_is_told_under_every_mixture_of_faults() {
    let mut reached = BTreeMap::new();
    for face in FACES {
        for seed in seeds(150) {
            note(&mut reached, &play(seed, &Profile::swarm(), face));
        }
        for seed in seeds(15) {
            note(
                &mut reached,
                &play(seed, &Profile::all(Frequency::Sometimes), face),
            );
            note(
                &mut reached,
                &play(seed, &Profile::all(Frequency::Storm), face),
            );
        }
    }
    if plays_all_seeds() {
        let missed: Vec<&str> = Fault::ALL
            .iter()
            .map(|fault| fault.name())
            .filter(|name| reached.get(name).copied().unwrap_or(0) == 0)
            .collect();
        assert!(missed.is_empty(), "no seed reaches {missed:?}");
    }
}

#[test]
fn bytes_of_local_sockets_are_whole_or_somebody_is_told() {
    for face in FACES {
        for seed in seeds(60) {
            play(seed, &Profile::calm().of_local_sockets(), face);
            play(seed, &Profile::swarm().of_local_sockets(), face);
            cut(seed, &Profile::swarm().of_local_sockets(), face);
        }
    }
}

#[test]
fn each_fault_alone_is_survived() {
    for fault in Fault::ALL {
        let profile = Profile::calm().with(fault, Frequency::Storm);
        let mut strikes = 0;
        for face in FACES {
            for seed in seeds(5) {
                strikes += play(seed, &profile, face).faults();
            }
        }
        assert!(
            strikes > 0 || !plays_all_seeds(),
            "{} never struck",
            fault.name()
        );
    }
}

#[test]
fn a_world_that_is_ended_at_any_point_leaves_nothing() {
    for face in FACES {
        for seed in seeds(100) {
            cut(seed, &Profile::calm(), face);
            cut(seed, &Profile::swarm(), face);
        }
    }
}

#[test]
fn a_seed_repeats_its_run_under_faults() {
    for face in FACES {
        for seed in seeds(10) {
            let (one, other) = (
                play(seed, &Profile::swarm(), face),
                play(seed, &Profile::swarm(), face),
            );
            assert_eq!(one, other, "seed {seed}, {face:?}");
        }
    }
}

fn note(reached: &mut BTreeMap<&'static str, u64>, report: &Report) {
    for (name, count) in &report.strikes {
        *reached.entry(name).or_default() += count;
    }
}

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("HP_SEED") {
        Ok(seed) => vec![seed.parse().expect("HP_SEED is a number")],
        Err(_unset) => {
            let first = number("HP_SEEDS_FIRST", 0);
            (first..first + count * number("HP_SEEDS_TIMES", 1)).collect()
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(number) => number.parse().expect("it is a number"),
        Err(_unset) => default,
    }
}

/// What must happen in some run need not happen in the one that is looked at.
fn plays_all_seeds() -> bool {
    std::env::var("HP_SEED").is_err()
}

const FACES: [Face; 2] = [Face::Readiness, Face::Completion];
