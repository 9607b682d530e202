//! A row's part of a round in which every subject takes turns with the reference, so that what the machine does to one it does to
//! the other, too.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::{Part, Rounds, Watcher};
use crate::error::Error;
use crate::label;
use crate::load;
use crate::raw::{Pair, Record};
use crate::subject::Name;
use crate::topology::Topology;

/// A subject, and whether it has the turn before the reference's or the one after.
pub(super) struct Beside {
    name: Name,
    turn: u32,
}

impl Rounds<'_> {
    /// Those of the order that take turns with the reference, each with its turn.
    pub(super) fn drawn(&self, order: &[Name], rng: &mut StdRng) -> Vec<Beside> {
        let others = order
            .iter()
            .filter(|name| **name != self.workload.reference);
        others
            .map(|name| {
                let mut turns = [1, 2];
                turns.shuffle(rng);
                Beside {
                    name: name.clone(),
                    turn: turns[0],
                }
            })
            .collect()
    }

    /// One row's part of a round, in turns.
    pub(super) fn part_in_turns(
        &self,
        part: Part<'_>,
        order: &[Beside],
        topology: &mut Topology,
        watcher: &mut dyn Watcher,
        records: &mut Vec<Record>,
    ) -> Result<(), Error> {
        let (reference, load) = (&self.workload.reference, &part.row.load);
        for (number, Beside { name, turn }) in (1..).zip(order) {
            let scenes = self.scene(topology, name, load);
            let Some((mine, other)) = scenes.zip(self.scene(topology, reference, load)) else {
                continue; // One of them is missing, which is said once, and not in every round.
            };
            let shown = format!("{name} beside {reference}");
            watcher.begin(self.workload, part.row, &shown, part.round);
            let begun = |name: &Name, beside: &Name, of_reference, turn| Record {
                pair: Some(Pair {
                    beside: beside.to_string(),
                    of_reference,
                    turn,
                }),
                ..self.record(part, name, number)
            };
            let mut own = begun(name, reference, false, *turn);
            let mut its = begun(reference, name, true, 3 - turn);
            let roles = [mine.server.role, other.server.role];
            if *turn == 1 {
                load::visit_in_turns([&mine, &other], [&mut own, &mut its])?;
            } else {
                load::visit_in_turns([&other, &mine], [&mut its, &mut own])?;
            }
            let pair = [(name, own), (reference, its)];
            for ((name, mut record), role) in pair.into_iter().zip(roles) {
                if let Some(reason) = topology.ended(name, load) {
                    record.void.push(reason);
                }
                record.verdict = label::limit(&record, load, role, self.seating());
                record.flags.extend(label::flags(&record));
                watcher.end(&record);
                records.push(record);
            }
        }
        self.compare_with_direct(part.row, records);
        Ok(())
    }
}
