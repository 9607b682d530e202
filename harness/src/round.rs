//! Rounds: every round visits every cell of a workload once, in a random order that the seed fixes, so that what drifts
//! on the machine drifts under all cells alike. A row is visited in one go, between two calibrators; what disturbs it
//! repeats that row's part of the round.

mod past;
mod turns;

use rand::seq::SliceRandom;

use crate::clock;
use crate::error::Error;
use crate::label::{self, Seating};
use crate::load::{self, Scene, Visit};
use crate::probe::{PATIENCE, correct};
use crate::process::Seat;
use crate::raw::{CALIBRATOR, Record};
use crate::subject::{Name, Role};
use crate::topology::{Starter, Topology};
use crate::workload::{Load, Row, Visiting, WARM_UP_SECONDS, Workload};

pub use past::Past;

/// Takes what a session sees, as it sees it.
pub trait Watcher {
    /// A visit begins.
    fn begin(&mut self, workload: &Workload, row: &Row, subject: &str, round: u32);
    /// A visit ended.
    fn end(&mut self, record: &Record);
    /// Something to be told.
    fn say(&mut self, line: &str);
    /// Visits that a part of a round has made stand, or are repeated: they are to be kept.
    ///
    /// # Errors
    /// [`Error::Write`].
    fn keep(&mut self, records: &[Record]) -> Result<(), Error>;
}

/// What the rounds of a workload need.
pub struct Rounds<'a> {
    /// The workload.
    pub workload: &'a Workload,
    /// How a subject is visited alone.
    pub visit: Visit,
    /// Starts the load.
    pub starter: Starter<'a>,
    /// Attempts at a row's part of a round.
    pub attempts: u32,
    /// When the session began, in ns of the monotonic clock.
    pub began_ns: u64,
}

/// Seconds that rounds may still be repeated for: each round brings its part, and what it leaves is the next one's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowance {
    /// Seconds that are left.
    pub left_s: f64,
    /// Parts of rounds that were repeated.
    pub repeats: u32,
}

/// A place in the order of a row's part of a round.
struct Place<'a> {
    number: u32,
    subject: &'a Name,
    is_calibrator: bool,
}

impl Rounds<'_> {
    /// Runs every server once at full load for a moment: caches, pools and page tables fill, and a subject that gives no
    /// answer at all is missing before it has cost minutes.
    ///
    /// # Errors
    /// [`Error::Spawn`], [`Error::Interrupted`].
    pub fn warm_up(&self, topology: &mut Topology, watcher: &mut dyn Watcher) -> Result<(), Error> {
        for row in &self.workload.rows {
            let load = Load {
                seconds: WARM_UP_SECONDS,
                warmup_ms: 0,
                rate: None,
                visit: Visiting::Alone,
                ..row.load.clone()
            };
            for name in self.workload.started() {
                let Some(scene) = self.scene(topology, &name, &load) else {
                    continue;
                };
                if let Some(reason) = self.wrong_answer(&scene) {
                    watcher.say(&format!("{name} is left out: {reason}"));
                    topology.give_up(&name, reason);
                    continue;
                }
                let outcome = load::run(&scene)?;
                if let load::Outcome::Silent(reason) = outcome {
                    watcher.say(&format!("{name} is left out: {reason}"));
                    topology.give_up(&name, reason);
                } else if let Some(reason) = topology.ended(&name, &load) {
                    watcher.say(&format!("{name} is left out: {reason}"));
                }
            }
        }
        Ok(())
    }

    /// What is wrong with a subject's answers, where the plan asks: whoever answers wrongly is fast at something else.
    fn wrong_answer(&self, scene: &Scene<'_>) -> Option<String> {
        let is_asked = self.workload.gate && !scene.interrupt.came();
        is_asked
            .then(|| correct::failures(scene.server.addr, scene.load.body_bytes, PATIENCE))?
            .into_iter()
            .next()
    }

    /// Visits every cell once, and hands the records over as soon as their part of the round is over.
    ///
    /// # Errors
    /// [`Error::Spawn`] when a load does not start, [`Error::Write`], [`Error::Interrupted`]; by then what was visited
    /// has been handed over. What else goes wrong voids a visit.
    pub fn next(
        &self,
        past: &mut Past,
        topology: &mut Topology,
        allowance: &mut Allowance,
        watcher: &mut dyn Watcher,
    ) -> Result<(), Error> {
        let round = past.begin();
        let mut rows: Vec<&Row> = self.workload.rows.iter().collect();
        rows.shuffle(&mut past.rng);
        for row in rows {
            for attempt in 1..=self.attempts.max(1) {
                let part = Part {
                    row,
                    round,
                    attempt,
                };
                if self.attempt(part, past, topology, allowance, watcher)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// One attempt at a row's part of a round; whether it stands.
    fn attempt(
        &self,
        part: Part<'_>,
        past: &mut Past,
        topology: &mut Topology,
        allowance: &mut Allowance,
        watcher: &mut dyn Watcher,
    ) -> Result<bool, Error> {
        let row = part.row;
        let mut order = self.workload.measured();
        order.retain(|name| !past.has_failed(row, name));
        order.shuffle(&mut past.rng);
        let began_ns = clock::monotonic_ns();
        let mut records = Vec::new();
        let ended = match row.load.visit {
            Visiting::Alone => self.part(part, &order, topology, watcher, &mut records),
            Visiting::Turns => {
                let order = self.drawn(&order, &mut past.rng);
                self.part_in_turns(part, &order, topology, watcher, &mut records)
            }
        };
        if let Err(error) = ended {
            watcher.keep(&records)?;
            return Err(error);
        }
        let reasons = label::rejections(&records, past.earlier(row));
        let took_s = (clock::monotonic_ns() - began_ns) as f64 / 1e9;
        let is_repeated =
            !reasons.is_empty() && part.attempt < self.attempts && allowance.left_s >= took_s;
        mark(&mut records, &reasons, is_repeated);
        if let Some(idling) = label::idling(&records) {
            for record in &mut records {
                record.flags.push(idling.clone());
            }
        }
        watcher.keep(&records)?;
        if is_repeated {
            allowance.left_s -= took_s;
            allowance.repeats += 1;
            let (round, reasons) = (part.round, reasons.join("; "));
            watcher.say(&format!(
                "round {round} of {} {} is repeated: {reasons}",
                self.workload.name, row.name
            ));
            return Ok(false);
        }
        past.earlier(row).extend(label::calibrator_costs(&records));
        past.count_failures(&records, watcher);
        Ok(true)
    }

    /// One row's part of a round.
    fn part(
        &self,
        part: Part<'_>,
        order: &[Name],
        topology: &mut Topology,
        watcher: &mut dyn Watcher,
        records: &mut Vec<Record>,
    ) -> Result<(), Error> {
        let last = u32::try_from(order.len()).expect("a plan has few subjects") + 1;
        let calibrator = |number| {
            self.workload.calibrator.as_ref().map(|subject| Place {
                number,
                subject,
                is_calibrator: true,
            })
        };
        let subjects = (1..).zip(order).map(|(number, subject)| Place {
            number,
            subject,
            is_calibrator: false,
        });
        let places = calibrator(0)
            .into_iter()
            .chain(subjects)
            .chain(calibrator(last));
        for place in places {
            let Some(scene) = self.scene(topology, place.subject, &part.row.load) else {
                continue; // It is missing, which is said once, and not in every round.
            };
            let shown = place.shown();
            watcher.begin(self.workload, part.row, &shown, part.round);
            let mut record = Record {
                subject: shown,
                ..self.record(part, place.subject, place.number)
            };
            let (role, seating) = (scene.server.role, self.seating());
            // Whatever the kind of the workload, a calibrator is a plain load.
            let visit = if place.is_calibrator {
                load::visit
            } else {
                self.visit
            };
            visit(&scene, &mut record)?;
            if let Some(reason) = topology.ended(place.subject, &part.row.load) {
                record.void.push(reason);
            }
            record.verdict = label::limit(&record, &part.row.load, role, seating);
            record.flags.extend(label::flags(&record));
            watcher.end(&record);
            records.push(record);
        }
        self.compare_with_direct(part.row, records);
        Ok(())
    }

    /// Of a visit that begins now.
    fn record(&self, part: Part<'_>, name: &Name, place: u32) -> Record {
        Record {
            workload: self.workload.name.clone(),
            row: part.row.name.clone(),
            params: part.row.load.params(name),
            subject: name.to_string(),
            control: name.control,
            round: part.round,
            place,
            attempt: part.attempt,
            started_ms: (clock::monotonic_ns() - self.began_ns) / 1_000_000,
            ..Record::default()
        }
    }

    fn scene<'a>(
        &'a self,
        topology: &'a Topology,
        name: &Name,
        load: &'a Load,
    ) -> Option<Scene<'a>> {
        let server = topology.server(name, load)?;
        Some(Scene {
            launcher: self.starter.launcher,
            interrupt: self.starter.interrupt,
            workload: self.workload,
            load,
            server,
            backends: if server.role == Role::Backend {
                &[]
            } else {
                topology.backends(name, load)
            },
        })
    }

    /// Flags the closed-loop visits that are too near to what load and backend can do without anything between.
    fn compare_with_direct(&self, row: &Row, records: &mut [Record]) {
        let rps = |record: &Record| {
            record
                .load
                .as_ref()
                .map(|load| load.run.rps)
                .filter(|_| record.counts())
        };
        let direct = records
            .iter()
            .find(|record| record.subject == row.load.backend.to_string());
        let Some(direct_rps) = direct.and_then(rps).filter(|_| row.load.rate.is_none()) else {
            return;
        };
        let backend = row.load.backend.to_string();
        for record in records
            .iter_mut()
            .filter(|record| record.subject != backend)
        {
            let flag = rps(record).and_then(|rps| label::near_direct(direct_rps, rps));
            record.flags.extend(flag);
        }
    }

    fn seating(&self) -> Seating {
        let count = |seat| {
            u32::try_from(self.starter.launcher.cpus_of(seat).len())
                .unwrap_or(u32::MAX)
                .max(1)
        };
        let seats = self.workload.seats;
        Seating {
            seats,
            server_cpus: count(Seat::of_server(seats)),
            others_cpus: count(Seat::of_load(seats)),
        }
    }
}

impl Place<'_> {
    fn shown(&self) -> String {
        if self.is_calibrator {
            CALIBRATOR.to_owned()
        } else {
            self.subject.to_string()
        }
    }
}

/// Where in a workload a record belongs.
#[derive(Clone, Copy)]
struct Part<'a> {
    row: &'a Row,
    round: u32,
    attempt: u32,
}

/// Writes into all records of a part why it was rejected, and what became of it.
fn mark(records: &mut [Record], reasons: &[String], is_repeated: bool) {
    let word = if is_repeated { REPEATED } else { UNSTEADY };
    for record in records {
        record
            .flags
            .extend(reasons.iter().map(|reason| format!("{word} {reason}")));
    }
}

/// The first word of the flags of a part that was made again.
pub const REPEATED: &str = "REPEATED";
/// The same of one that stands all the same.
const UNSTEADY: &str = "UNSTEADY";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejected_part_says_so_in_every_record() {
        let mut records = vec![Record::default(), Record::default()];
        mark(&mut records, &["STEAL 3 %".to_owned()], true);
        assert!(
            records
                .iter()
                .all(|record| record.flags == ["REPEATED STEAL 3 %"])
        );
        mark(&mut records, &["STEAL 4 %".to_owned()], false);
        assert!(
            records
                .iter()
                .all(|record| record.flags[1] == "UNSTEADY STEAL 4 %")
        );
    }
}
