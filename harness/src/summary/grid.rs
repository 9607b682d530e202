//! Raw records in their places: workloads, rows, subjects, rounds.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crate::plan::Plan;
use crate::raw::{Params, Record};

/// A session's records, sorted.
pub(crate) struct Grid<'a> {
    /// In the plan's order; what the plan does not name comes last.
    pub(crate) workloads: Vec<WorkloadGrid<'a>>,
    /// Visits to the relay around each round, and to references in turns, in order of time; all attempts.
    pub(crate) calibrators: Vec<&'a Record>,
}

pub(crate) struct WorkloadGrid<'a> {
    pub(crate) name: &'a str,
    pub(crate) title: &'a str,
    pub(crate) notes: &'a [String],
    /// What ratios are to; the first is the plan's.
    pub(crate) references: Vec<String>,
    /// Subjects that the plan asks for and no record has.
    pub(crate) missing: Vec<String>,
    /// In order of the load's numbers.
    pub(crate) rows: Vec<RowGrid<'a>>,
}

pub(crate) struct RowGrid<'a> {
    pub(crate) name: &'a str,
    pub(crate) params: Params,
    /// Direct, relays, ours, then the others by name; a control behind its own.
    pub(crate) cells: Vec<CellGrid<'a>>,
}

pub(crate) struct CellGrid<'a> {
    pub(crate) subject: &'a str,
    pub(crate) control: bool,
    /// The last attempt of each round, in order of rounds; the reference of visits in turns has one for each subject.
    pub(crate) visits: Vec<Visit<'a>>,
}

/// A visit with all that voids it.
pub(crate) struct Visit<'a> {
    pub(crate) record: &'a Record,
    /// The record's own reasons, and that of Little's law.
    pub(crate) void: Vec<String>,
}

impl<'a> Grid<'a> {
    pub(crate) fn of(plan: &'a Plan, records: &'a [Record]) -> Self {
        let mut places: Places<'a> = BTreeMap::new();
        let mut calibrators = Vec::new();
        for record in records {
            if record.calibrates() {
                calibrators.push(record);
            }
            if record.is_calibrator() {
                continue;
            }
            let pair = record.pair.as_ref().filter(|pair| pair.of_reference);
            let place = (record.round, pair.map_or("", |pair| pair.beside.as_str()));
            let rows = places.entry(&record.workload).or_default();
            let cells = rows.entry(&record.row).or_default();
            let visits = cells.entry(&record.subject).or_default();
            let is_later = |kept: &&mut &Record| {
                (kept.attempt, kept.started_ms) > (record.attempt, record.started_ms)
            };
            match visits.get_mut(&place).as_ref().map(is_later) {
                Some(true) => (), // A repeated round: what was measured last counts.
                Some(false) | None => {
                    visits.insert(place, record);
                }
            }
        }
        calibrators.sort_by_key(|record| record.started_ms);
        Self {
            workloads: workloads(plan, places),
            calibrators,
        }
    }
}

impl<'a> RowGrid<'a> {
    pub(crate) fn cell(&self, subject: &str) -> Option<&CellGrid<'a>> {
        self.cells.iter().find(|cell| cell.subject == subject)
    }
}

impl<'a> CellGrid<'a> {
    /// Visits whose figures count.
    pub(crate) fn counted(&self) -> impl Iterator<Item = &'a Record> + '_ {
        let visits = self.visits.iter().filter(|visit| visit.void.is_empty());
        visits.map(|visit| visit.record)
    }

    /// Whether so many rounds are void that the others would be a choice made after the run.
    pub(crate) fn has_failed(&self) -> bool {
        let counted = self.rounds_counted();
        let all: BTreeSet<u32> = self.visits.iter().map(|visit| visit.record.round).collect();
        let void = all.len() - counted.len();
        void >= VOID_ROUNDS_FATAL || counted.is_empty()
    }

    /// Rounds with a visit that counts.
    pub(crate) fn rounds_counted(&self) -> BTreeSet<u32> {
        self.counted().map(|record| record.round).collect()
    }
}

/// Workload, row, subject, round.
type Places<'a> = BTreeMap<&'a str, Rows<'a>>;
/// Row, subject, place.
type Rows<'a> = BTreeMap<&'a str, BTreeMap<&'a str, Visits<'a>>>;
/// Round and, of a reference in turns, the subject beside it.
type Visits<'a> = BTreeMap<(u32, &'a str), &'a Record>;

fn workloads<'a>(plan: &'a Plan, mut places: Places<'a>) -> Vec<WorkloadGrid<'a>> {
    let mut sorted = Vec::new();
    for workload in &plan.workloads {
        if let Some(rows) = places.remove(workload.name.as_str()) {
            let references = references(&workload.reference.to_string(), &rows);
            let planned = workload.subjects.iter().map(ToString::to_string);
            let is_there =
                |name: &String| rows.values().any(|cells| cells.contains_key(name.as_str()));
            let missing = planned.filter(|name| !is_there(name)).collect();
            sorted.push(WorkloadGrid {
                name: &workload.name,
                title: &workload.title,
                notes: &workload.notes,
                references,
                missing,
                rows: sorted_rows(rows),
            });
        }
    }
    for (name, rows) in places {
        sorted.push(WorkloadGrid {
            name,
            title: name,
            notes: &[],
            references: references(REFERENCE_USUAL, &rows),
            missing: Vec::new(),
            rows: sorted_rows(rows),
        });
    }
    sorted
}

/// The plan's reference, then ours: what peers are compared with.
fn references(planned: &str, rows: &Rows<'_>) -> Vec<String> {
    let mut references = vec![planned.to_owned()];
    let is_measured = rows.values().any(|cells| cells.contains_key(OURS));
    if planned != OURS && is_measured {
        references.push(OURS.into());
    }
    references
}

fn sorted_rows(rows: Rows<'_>) -> Vec<RowGrid<'_>> {
    let mut sorted: Vec<RowGrid<'_>> = rows
        .into_iter()
        .map(|(name, cells)| {
            let mut cells: Vec<CellGrid<'_>> = cells.into_iter().map(cell).collect();
            cells.sort_by_key(|cell| rank(cell.subject));
            let first = cells.iter().flat_map(|cell| &cell.visits).next();
            let params = first.map(|visit| visit.record.params.clone());
            RowGrid {
                name,
                params: params.unwrap_or_default(),
                cells,
            }
        })
        .collect();
    sorted.sort_by(by_load);
    sorted
}

fn cell<'a>((subject, visits): (&'a str, Visits<'a>)) -> CellGrid<'a> {
    let visits = visits.into_values().map(|record| {
        let mut void = record.void.clone();
        void.extend(super::cell::broken_law(record).filter(|_reason| void.is_empty()));
        Visit { record, void }
    });
    let visits: Vec<Visit<'a>> = visits.collect();
    CellGrid {
        subject,
        control: visits.iter().any(|visit| visit.record.control),
        visits,
    }
}

fn by_load(a: &RowGrid<'_>, b: &RowGrid<'_>) -> Ordering {
    let numbers = |row: &RowGrid<'_>| {
        [
            row.params.body_bytes as f64,
            row.params.rate.unwrap_or(0.0),
            f64::from(row.params.connections),
            f64::from(row.params.pipeline),
        ]
    };
    let pairs = numbers(a).into_iter().zip(numbers(b));
    pairs
        .map(|(a, b)| a.total_cmp(&b))
        .find(|order| order.is_ne())
        .unwrap_or_else(|| a.name.cmp(b.name))
}

/// Whether requests to this subject pass no proxy and no relay.
pub(crate) fn is_direct(subject: &str) -> bool {
    let base = base(subject);
    base == super::DIRECT || base.starts_with("echo-")
}

/// Whether the subject is a floor rather than a proxy.
pub(crate) fn is_floor(subject: &str) -> bool {
    is_direct(subject) || base(subject).starts_with("relay-")
}

/// Whether the subject is this project's proxy.
pub(crate) fn is_ours(subject: &str) -> bool {
    base(subject).starts_with("hp-")
}

/// The name without `/aa`, `@stock` and `@w2`.
pub(crate) fn base(subject: &str) -> &str {
    subject.split(['/', '@']).next().unwrap_or(subject)
}

/// Where a subject stands in tables.
fn rank(subject: &str) -> (u8, u8, String) {
    let group = match subject {
        name if is_direct(name) => 0,
        name if is_floor(name) => 1,
        name if is_ours(name) => 2,
        _ => 3,
    };
    let ours = ["hp-uring", "hp-epoll", "hp-threads"];
    let of_ours = ours.iter().position(|name| *name == base(subject));
    let place = of_ours.and_then(|place| u8::try_from(place).ok());
    (group, place.unwrap_or(9), subject.to_owned())
}

/// The proxy that peers are compared with.
pub(crate) const OURS: &str = "hp-uring";

const REFERENCE_USUAL: &str = "relay-uring";
/// One void round may be the machine's; two are the subject's.
const VOID_ROUNDS_FATAL: usize = 2;
