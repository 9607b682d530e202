//! The whole proxy under a seed: its real code on a simulated kernel, network and clock, between clients and backends that
//! keep a ledger of what must be true.
//!
//! `make sim` plays more seeds and repeats one; see there for its words.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the models are functions of a test, not tests themselves"
)]

#[path = "sim/backend.rs"]
mod backend;
#[path = "sim/client.rs"]
mod client;
#[path = "sim/ledger.rs"]
mod ledger;
#[path = "sim/message.rs"]
mod message;
#[path = "sim/play.rs"]
mod play;

use play::play;

#[test]
fn a_hundred_seeds() {
    let mut bad = 0;
    for seed in std::env::var("S").map_or(0..1000, |s| {
        let s: u64 = s.parse().unwrap();
        s..s + 1
    }) {
        if let Err(what) = play(seed) {
            eprintln!("FOUND seed {seed}: {what}");
            bad += 1;
        }
    }
    assert_eq!(bad, 0);
}
