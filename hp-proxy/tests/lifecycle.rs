//! The tables of `docs/lifecycle` against the code: simulations of the whole proxy enter every cell, and none that the tables
//! say cannot occur.
#![expect(
    clippy::expect_used,
    reason = "the models are functions of a test, not tests themselves"
)]

#[path = "sim/mod.rs"]
mod model;

use hp_core::rt::lifecycle::{Cell, Table, record};
use model::{Tell, play};
use std::collections::BTreeSet;
use std::ops::Range;
use std::panic::resume_unwind;

#[test]
fn every_cell_of_the_tables_is_entered() {
    let told = Told::by(&PAGES);
    let elsewhere = BY_A_WHOLE_PROCESS.iter().map(|(cell, _)| *cell).collect();
    let mut entered = BTreeSet::new();
    let mut findings = Vec::new();
    for first in (0..SEEDS_MAX).step_by(SEEDS) {
        entered.extend(entered_by(first..first + SEEDS as u64));
        findings = told.compare(&entered, &elsewhere);
        if findings.is_empty() {
            return;
        }
    }
    panic!("{}", findings.join("\n"));
}

/// What plays of these seeds enter, on as many threads as there are processors: each play has a world of its own.
fn entered_by(seeds: Range<u64>) -> BTreeSet<Cell> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let players: Vec<_> = (0..threads)
            .map(|place| {
                let seeds = seeds.clone().skip(place).step_by(threads);
                scope.spawn(move || record(|| seeds.for_each(play_well)))
            })
            .collect();
        let entered = players.into_iter().map(|player| match player.join() {
            Ok(entered) => entered,
            Err(panic) => resume_unwind(panic),
        });
        entered.flatten().collect()
    })
}

fn play_well(seed: u64) {
    if let Err(what) = play(seed, Tell::Nothing) {
        panic!("seed {seed}: {what}\nagain: make sim SEEDS=1 FIRST={seed}");
    }
}

#[test]
fn what_only_a_process_enters_is_entered_by_a_fact_that_exists() {
    for (cell, fact) in BY_A_WHOLE_PROCESS {
        let head = format!("fn {fact}(");
        assert!(FACTS.contains(&head), "{cell:?}: there is no {fact}");
    }
}

#[test]
fn a_difference_between_a_table_and_the_code_is_found() {
    let page = "| State | one | other |\n| --- | --- | --- |\n| **Here** (always) | goes | – |\n";
    let told = Told::by(&[(Table::Drain, page)]);
    let (one, other) = (
        (Table::Drain, "Here", "one"),
        (Table::Drain, "Here", "other"),
    );
    let check = |entered: &[Cell], elsewhere: &[Cell]| {
        let [entered, elsewhere] =
            [entered, elsewhere].map(|cells| cells.iter().copied().collect());
        told.compare(&entered, &elsewhere).len()
    };
    assert_eq!(check(&[one], &[]), 0);
    assert_eq!(check(&[], &[]), 1, "not entered");
    assert_eq!(check(&[], &[one]), 0, "entered elsewhere");
    assert_eq!(check(&[one, other], &[]), 1, "a dash was entered");
    assert_eq!(check(&[one], &[one]), 1, "entered here, too");
    assert_eq!(check(&[one, (Table::Drain, "There", "one")], &[]), 1);
    assert_eq!(check(&[one], &[(Table::Drain, "There", "one")]), 1);
}

/// What the tables say.
struct Told {
    /// Cells that can occur.
    can: BTreeSet<Cell>,
    /// Cells with a dash.
    cannot: BTreeSet<Cell>,
}

impl Told {
    fn by(pages: &[(Table, &'static str)]) -> Self {
        let mut told = Self {
            can: BTreeSet::new(),
            cannot: BTreeSet::new(),
        };
        pages
            .iter()
            .for_each(|(table, text)| told.read(*table, text));
        told
    }

    /// The page's first table: states in the first column, events in the first row.
    fn read(&mut self, table: Table, text: &'static str) {
        let mut rows = text
            .lines()
            .skip_while(|line| !line.starts_with('|'))
            .take_while(|line| line.starts_with('|'))
            .map(columns);
        let events = rows.next().expect("a page has a table");
        let rule = rows.next().expect("a rule follows the titles");
        assert!(rule.iter().all(|column| *column == "---"), "{table:?}");
        for row in rows {
            assert_eq!(row.len(), events.len(), "{table:?}: {row:?}");
            let state = row[0]
                .strip_prefix("**")
                .and_then(|rest| rest.split_once("**"));
            let (state, _remark) = state.expect("a state is bold");
            for (event, text) in events.iter().zip(&row).skip(1) {
                assert!(!text.is_empty(), "{table:?}: {state}: {event} is empty");
                let cells = match *text {
                    "–" => &mut self.cannot,
                    _ => &mut self.can,
                };
                let is_new = cells.insert((table, state, *event));
                assert!(is_new, "{table:?}: {state}: {event} is there twice");
            }
        }
    }

    /// What differs, in a line each.
    fn compare(&self, entered: &BTreeSet<Cell>, elsewhere: &BTreeSet<Cell>) -> Vec<String> {
        let mut findings = Vec::new();
        let mut find = |what, cell: &Cell| findings.push(format!("{what}: {cell:?}"));
        for cell in self.can.difference(entered) {
            if !elsewhere.contains(cell) {
                find("no simulation enters", cell);
            }
        }
        for cell in self.cannot.intersection(entered) {
            find("entered, and the table has a dash", cell);
        }
        for cell in entered.union(elsewhere) {
            if !self.can.contains(cell) && !self.cannot.contains(cell) {
                find("no table has", cell);
            }
        }
        for cell in entered.intersection(elsewhere) {
            find("entered, and listed as entered by a whole process", cell);
        }
        findings
    }
}

fn columns(line: &'static str) -> Vec<&'static str> {
    let inner = line
        .strip_prefix('|')
        .and_then(|rest| rest.strip_suffix('|'));
    let inner = inner.expect("a row begins and ends with a bar");
    inner.split('|').map(str::trim).collect()
}

const PAGES: [(Table, &str); 4] = [
    (
        Table::Operation,
        include_str!("../../docs/lifecycle/operation.md"),
    ),
    (
        Table::Connection,
        include_str!("../../docs/lifecycle/connection.md"),
    ),
    (
        Table::Exchange,
        include_str!("../../docs/lifecycle/exchange.md"),
    ),
    (Table::Drain, include_str!("../../docs/lifecycle/drain.md")),
];
/// Cells for which there must be a process with signals, or no process any more; and the fact that enters them.
const BY_A_WHOLE_PROCESS: [(Cell, &str); 4] = [
    (
        (Table::Drain, "Running", "SIGUSR1"),
        "sigint_drains_and_sigusr1_and_sighup_do_not",
    ),
    (
        (Table::Drain, "Draining", "SIGTERM or SIGINT"),
        "a_second_sigterm_ends_at_once",
    ),
    (
        (Table::Drain, "Draining", "SIGUSR1"),
        "a_second_sigterm_ends_at_once",
    ),
    (
        (Table::Drain, "Gone", "a client connects"),
        "sigterm_finishes_what_is_in_flight_and_closes_what_idles",
    ),
];
const FACTS: &str = include_str!("e2e/process.rs");
/// As many as an unoptimised build plays in a quarter of a minute; most cells are entered by the first 60.
const SEEDS: usize = 400;
/// What has not been entered by then is not entered.
const SEEDS_MAX: u64 = 4000;
