//! What the rounds of a workload that were made leave to the next one: the order's generator, what calibrators cost, and who failed.

use std::collections::{BTreeMap, BTreeSet};

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::Watcher;
use crate::raw::Record;
use crate::subject::Name;
use crate::workload::Row;

/// Of the rounds of one workload.
#[derive(Debug)]
pub struct Past {
    pub(super) rng: StdRng,
    /// Rounds that were begun.
    rounds: u32,
    /// Costs of the calibrators that stand, by row.
    earlier: BTreeMap<String, Vec<f64>>,
    /// Void visits, by row and subject.
    failures: BTreeMap<(String, String), u32>,
    /// Rounds in which a subject was missing, and why it last was.
    missing: BTreeMap<Name, (u32, String)>,
}

impl Past {
    /// Of none; the seed draws the orders of all that come.
    pub fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            rounds: 0,
            earlier: BTreeMap::new(),
            failures: BTreeMap::new(),
            missing: BTreeMap::new(),
        }
    }

    /// Counts a round that begins; its number, from 1.
    pub(super) fn begin(&mut self) -> u32 {
        self.rounds += 1;
        self.rounds
    }

    /// Rounds that were begun.
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Takes in who was missing in the last round, and why.
    pub fn note_missing(&mut self, missing: &BTreeMap<Name, String>) {
        for (name, reason) in missing {
            let (count, last) = self.missing.entry(name.clone()).or_default();
            *count += 1;
            last.clone_from(reason);
        }
    }

    /// Who is not started again, and why: one that was missing in the first round, or in two.
    pub fn given_up(&self) -> BTreeMap<Name, String> {
        let lasting = self
            .missing
            .iter()
            .filter(|(_name, (count, _reason))| self.rounds <= 1 || *count >= FAILURES_MAX);
        lasting
            .map(|(name, (_count, reason))| (name.clone(), reason.clone()))
            .collect()
    }

    /// Costs of the row's calibrators in rounds that stand.
    pub(super) fn earlier(&mut self, row: &Row) -> &mut Vec<f64> {
        self.earlier.entry(row.name.clone()).or_default()
    }

    /// Two void visits are one too many: what is left would be a choice made after the run.
    pub(super) fn has_failed(&self, row: &Row, name: &Name) -> bool {
        let count = self.failures.get(&(row.name.clone(), name.to_string()));
        count.is_some_and(|&count| count >= FAILURES_MAX)
    }

    pub(super) fn count_failures(&mut self, records: &[Record], watcher: &mut dyn Watcher) {
        // Once for each visit, and of two that took turns for the one that is not there in every visit.
        let void: BTreeSet<(&str, &str)> = records
            .iter()
            .filter(|record| !record.counts() && !record.is_calibrator())
            .map(|record| (record.row.as_str(), visited(record)))
            .collect();
        for (row, subject) in void {
            let count = self
                .failures
                .entry((row.to_owned(), subject.to_owned()))
                .or_default();
            *count += 1;
            if *count == FAILURES_MAX {
                watcher.say(&format!(
                    "{subject} failed twice on {row}, and is not visited again there"
                ));
            }
        }
    }
}

/// Whom a visit was for.
fn visited(record: &Record) -> &str {
    match &record.pair {
        Some(pair) if pair.of_reference => &pair.beside,
        Some(_) | None => &record.subject,
    }
}

const FAILURES_MAX: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_missing_in_the_first_round_or_in_two_is_given_up() {
        let [never, once, twice] = ["never", "once", "twice"].map(|name| name.parse().unwrap());
        let absent = |names: &[&Name]| {
            let names = names
                .iter()
                .map(|name| ((*name).clone(), "gone".to_owned()));
            names.collect::<BTreeMap<Name, String>>()
        };
        let mut past = Past::new(1);
        for (number, missing) in [
            (1, absent(&[&never])),
            (2, absent(&[&never, &twice])),
            (3, absent(&[&never, &once])),
            (4, absent(&[&never, &twice])),
        ] {
            assert_eq!(past.begin(), number);
            past.note_missing(&missing);
            let given_up = past.given_up();
            assert!(given_up.contains_key(&never), "{number}");
            assert!(!given_up.contains_key(&once), "{number}");
            assert_eq!(given_up.contains_key(&twice), number == 4);
        }
    }
}
