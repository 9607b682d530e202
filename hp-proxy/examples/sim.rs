//! Plays seeds of the simulated proxy: `make sim SEEDS=N FIRST=K`. A seed decides what its run is about: exchanges, in some with
//! reloads, in some with processes that replace one another, in some with both; endpoints that operators change while clients
//! keep cookies; or an endpoint that starts slowly. The last line is the same for the same seeds, every time.
#![expect(
    clippy::expect_used,
    reason = "the models are functions of a test, not tests themselves"
)]

#[path = "../tests/sim/mod.rs"]
mod model;

use clap::Parser;
use hp_core::rt::plant::{Plant, plant};
use model::endpoints::play as play_endpoints;
use model::play::Report;
use model::{Tell, play};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Duration;

/// Plays seeds of the simulated proxy: requests under faults, reloads and upgrades; endpoints that operators change; slow starts.
#[derive(Debug, Parser)]
struct Cli {
    /// How many seeds
    #[arg(long, default_value_t = 1000)]
    seeds: u64,

    /// The first of them
    #[arg(long, default_value_t = 0)]
    first: u64,

    /// A bug to plant: unread-kept, post-retried, lost-wake, buffer-twice, no-deadline, truncated-as-whole, slot-too-soon,
    /// lost-share, idle-cut, pause-kept, key-forgotten, out-asked, tunnel-cut
    #[arg(long, value_parser = bug)]
    plant: Option<Plant>,

    /// Have every seed be about endpoints: orders, reloads, upgrades, sticky cookies and WebSockets in each run
    #[arg(long)]
    endpoints: bool,

    /// List how often each fault struck and each way was taken
    #[arg(short, long)]
    verbose: bool,

    /// Write everything that happens to stderr
    #[arg(long)]
    tell: bool,

    /// Fail when no seed reaches one of the faults or ways, answers of the proxy included
    #[arg(long)]
    reach_all: bool,

    /// The revision to name in a failure
    #[arg(long, default_value = "unknown")]
    revision: String,
}

/// All runs together.
#[derive(Default)]
struct Total {
    conns: u64,
    requests: u64,
    time: Duration,
    strikes: BTreeMap<&'static str, u64>,
    ways: BTreeMap<String, u64>,
    hash: u64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let _planted = plant(cli.plant);
    let mut total = Total::default();
    for seed in cli.first..cli.first.saturating_add(cli.seeds) {
        match run(seed, &cli) {
            Ok(report) => total.add(&report),
            Err(what) => {
                let bug = cli.plant.map(|bug| format!(" PLANT={}", bug.name()));
                println!("seed {seed} at revision {}: {what}", cli.revision);
                let flags = cli.endpoints.then_some(" SIM_FLAGS=--endpoints");
                println!(
                    "again: make sim SEEDS=1 FIRST={seed}{}{}",
                    bug.unwrap_or_default(),
                    flags.unwrap_or_default()
                );
                return ExitCode::FAILURE;
            }
        }
    }
    total.report(&cli)
}

fn run(seed: u64, cli: &Cli) -> Result<Report, String> {
    let tell = if cli.tell {
        Tell::Everything
    } else {
        Tell::Nothing
    };
    let play = if cli.endpoints { play_endpoints } else { play };
    match catch_unwind(AssertUnwindSafe(|| play(seed, tell))) {
        Ok(played) => played,
        Err(_told_by_the_hook) => Err(String::from("a panic outside any task")),
    }
}

fn bug(name: &str) -> Result<Plant, String> {
    let mut bugs = Plant::ALL.into_iter();
    bugs.find(|bug| bug.name() == name)
        .ok_or_else(|| String::from("there is no such bug to plant"))
}

impl Total {
    fn add(&mut self, report: &Report) {
        self.conns += report.conns;
        self.requests += report.requests;
        self.time += report.time;
        for (name, count) in &report.faults {
            *self.strikes.entry(name).or_default() += count;
        }
        for (name, count) in &report.ways {
            *self.ways.entry(name.clone()).or_default() += count;
        }
        self.hash = self.hash.rotate_left(5).wrapping_add(report.hash);
    }

    fn report(&self, cli: &Cli) -> ExitCode {
        if cli.verbose {
            self.counts()
                .for_each(|(name, count)| println!("  {count:<9} {name}"));
        }
        let missed = self.counts().filter(|(_, count)| *count == 0);
        let missed: Vec<&str> = missed.map(|(name, _)| name).collect();
        if cli.reach_all && !missed.is_empty() {
            println!("no seed reaches: {}", missed.join(", "));
            return ExitCode::FAILURE;
        }
        println!(
            "seeds {} connections {} requests {} virtual {}s faults {} hash {:016x}",
            cli.seeds,
            self.conns,
            self.requests,
            self.time.as_secs(),
            self.strikes.values().sum::<u64>(),
            self.hash
        );
        ExitCode::SUCCESS
    }

    fn counts(&self) -> impl Iterator<Item = (&str, u64)> {
        let strikes = self.strikes.iter().map(|(name, count)| (*name, *count));
        let ways = self
            .ways
            .iter()
            .map(|(name, count)| (name.as_str(), *count));
        strikes.chain(ways)
    }
}
