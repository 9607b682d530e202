//! What a session leaves behind: `machine.json`, `cells.json` with every raw figure, and `bench.md` for people.
//! Equal sessions give equal bytes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::analyse::{Row, Summary, Verdict, Versus};
use crate::error::Error;
use crate::machine::Machine;
use crate::round::Visit;
use crate::sweep::{Cell, Layout, Part, Plan};
use crate::table::{self, Side};

/// A session, measured and analysed.
#[derive(Clone, Copy, Debug)]
pub struct Session<'a> {
    /// What was asked for.
    pub plan: &'a Plan,
    /// Where it ran.
    pub machine: &'a Machine,
    /// One row per cell, in the plan's order.
    pub rows: &'a [Row],
}

/// The content of `cells.json`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CellFile {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// What was asked for.
    pub plan: Plan,
    /// One entry per cell, in the plan's order.
    pub cells: Vec<CellEntry>,
}

/// One cell of `cells.json`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CellEntry {
    /// The cell's name, such as `proxied/uring/w1/c100`.
    pub name: String,
    /// What the name stands for.
    #[serde(flatten)]
    pub cell: Cell,
    /// How server and load were kept apart.
    pub pinning: String,
    /// Whether any visit failed; there is no summary then.
    pub void: bool,
    /// Figures over all rounds.
    pub summary: Option<Summary>,
    /// The cost against the reference.
    pub versus: Option<Versus>,
    /// Raw figures of every round.
    pub visits: Vec<Visit>,
}

/// What the harness says before it starts: machine, order, length.
pub fn opening(plan: &Plan, machine: &Machine) -> String {
    format!(
        "{}\n{} cells, {} rounds of {} s in random order, seed {}: about {} min {:02} s\n",
        machine.line(),
        plan.cells().len(),
        plan.rounds,
        plan.seconds,
        plan.seed,
        plan.length_seconds() / 60,
        plan.length_seconds() % 60,
    )
}

/// Writes the session below `out` and gives its folder: `DATE-MACHINE/COMMIT`, with a number behind where that
/// exists, because a committed result is never overwritten.
///
/// # Errors
/// [`Error::Write`] when the folder or a file cannot be written.
pub fn write(session: &Session<'_>, out: &Path) -> Result<PathBuf, Error> {
    let machine = session.machine;
    let parent = out.join(format!("{}-{}", machine.date, machine.slug));
    let folder = fresh_folder(&parent, &machine.commit_name()).map_err(|cause| Error::Write {
        path: parent.clone(),
        cause,
    })?;
    for (name, text) in [
        ("machine.json", json(machine)),
        ("cells.json", json(&cell_file(session))),
        ("bench.md", markdown(session)),
    ] {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|cause| Error::Write { path, cause })?;
    }
    Ok(folder)
}

/// The content of `cells.json`.
pub fn cell_file(session: &Session<'_>) -> CellFile {
    let cells = session.rows.iter().map(|row| CellEntry {
        name: row.cell.to_string(),
        cell: row.cell,
        pinning: row.pinning.clone(),
        void: row.is_void(),
        summary: row.summary,
        versus: row.versus,
        visits: row.visits.clone(),
    });
    CellFile {
        schema: SCHEMA.into(),
        plan: session.plan.clone(),
        cells: cells.collect(),
    }
}

/// The content of `bench.md`.
pub fn markdown(session: &Session<'_>) -> String {
    let Session { plan, machine, .. } = session;
    format!(
        "# Topology sweep\n\n{}\n\nCommit `{}`, {}: {} rounds of {} s per cell in random order, body of {} bytes; engine \
         of load and backend {}, load threads {}. Again with\n\n```sh\ncargo build --release\ntarget/release/{}\n```\n\n\
         CPU is the user and system time of the measured server per completed request. Figures are medians over the \
         rounds; max is the largest of all rounds. `vs {}` is the ratio of CPU per request, paired by round, with its \
         95 % interval; cheaper and dearer are said only beyond that interval and beyond the A/A noise.\n\n{}",
        machine.line(),
        machine.commit_name(),
        machine.started,
        plan.rounds,
        plan.seconds,
        plan.body_bytes,
        plan.load_engine,
        plan.load_threads,
        machine.command,
        plan.reference(),
        tables(session)
    )
}

/// One section per layout: the table, its A/A interval, what was VOID, and the footnote.
pub fn tables(session: &Session<'_>) -> String {
    let sections = [
        (Layout::Direct, "Direct: hp-bench → hp-echo"),
        (Layout::Proxied, "Proxied: hp-bench → hp-proxy → hp-echo"),
    ];
    let mut out = Vec::new();
    for (layout, title) in sections {
        let rows: Vec<&Row> = session
            .rows
            .iter()
            .filter(|row| row.cell.target.layout == layout)
            .collect();
        if !rows.is_empty() {
            out.push(format!(
                "## {title}\n\n{}",
                section(session.plan, layout, &rows)
            ));
        }
    }
    out.join("\n")
}

fn section(plan: &Plan, layout: Layout, rows: &[&Row]) -> String {
    let cpu = match layout {
        Layout::Direct => "hp-echo CPU µs/req",
        Layout::Proxied => "hp-proxy CPU µs/req",
    };
    let versus = format!("vs {}", plan.reference());
    let head = [
        ("workers", Side::Right),
        ("connections", Side::Right),
        ("engine", Side::Left),
        (cpu, Side::Right),
        (versus.as_str(), Side::Left),
        ("req/s", Side::Right),
        ("p50 µs", Side::Right),
        ("p99 µs", Side::Right),
        ("max µs", Side::Right),
        ("errors", Side::Right),
        ("pinned", Side::Left),
    ];
    let subjects = rows
        .iter()
        .filter(|row| row.cell.target.part == Part::Subject);
    let lines: Vec<Vec<String>> = subjects.map(|row| line(plan, row)).collect();

    let mut out = table::render(&head, &lines);
    out.push_str(&noise_lines(plan, rows));
    for row in rows.iter().filter(|row| row.is_void()) {
        writeln!(out, "\nVOID {}: {}.", row.cell, void_words(row)).expect(INTO_STRING);
    }
    out.push_str("\nClosed loop: a stall hides requests that were not sent.\n");
    out
}

/// One row of the table.
fn line(plan: &Plan, row: &Row) -> Vec<String> {
    let Cell {
        target,
        connections,
    } = row.cell;
    let mut texts = vec![
        target.workers.to_string(),
        connections.to_string(),
        target.engine.to_string(),
    ];
    match &row.summary {
        Some(summary) => {
            texts.push(
                summary
                    .server_cpu_us
                    .map_or_else(|| NONE.into(), |us| format!("{us:.2}")),
            );
            texts.push(match row.versus {
                None if target.engine == plan.reference() => "reference".into(),
                None => NONE.into(),
                Some(versus) => format!("{}{}", interval(versus), verdict_words(versus.verdict)),
            });
            texts.push(table::thousands(summary.rps));
            texts.extend([summary.p50_us, summary.p99_us, summary.max_us].map(table::thousands));
        }
        None => {
            texts.push("VOID".into());
            texts.extend([NONE; 5].map(str::to_owned));
        }
    }
    texts.push(row.errors().to_string());
    texts.push(row.pinning.clone());
    texts
}

/// The A/A interval under a table, one line per number of workers.
fn noise_lines(plan: &Plan, rows: &[&Row]) -> String {
    let mut out = String::new();
    for &workers in &plan.workers {
        let of_workers = rows.iter().filter(|row| {
            row.cell.target.part == Part::Control && row.cell.target.workers == workers
        });
        let texts: Vec<String> = of_workers
            .map(|row| {
                let ratio = row.versus.map_or_else(|| "not measured".into(), interval);
                format!("{}: {ratio}", row.cell.connections)
            })
            .collect();
        if !texts.is_empty() {
            writeln!(
                out,
                "\nA/A, workers {workers} (a second {} server against the first, CPU per request, by connections): {}.",
                plan.reference(),
                texts.join("; ")
            )
            .expect(INTO_STRING);
        }
    }
    out
}

/// Why a cell is VOID, with the rounds in which it was.
fn void_words(row: &Row) -> String {
    let mut texts = Vec::new();
    for visit in row.visits.iter().filter(|visit| !visit.counts()) {
        texts.push(format!("round {}: {}", visit.round, visit.void.join("; ")));
    }
    if texts.is_empty() {
        "not measured".into()
    } else {
        texts.join(". ")
    }
}

fn interval(versus: Versus) -> String {
    format!(
        "{:.2} [{:.2}, {:.2}]",
        versus.ratio, versus.low, versus.high
    )
}

fn verdict_words(verdict: Option<Verdict>) -> &'static str {
    match verdict {
        Some(Verdict::Cheaper) => " cheaper",
        Some(Verdict::Dearer) => " dearer",
        Some(Verdict::Tie) => " tie",
        Some(Verdict::Unknown) => " no verdict",
        None => "",
    }
}

/// Creates `parent/name`, or `parent/name-2` and so on where that exists.
fn fresh_folder(parent: &Path, name: &str) -> io::Result<PathBuf> {
    fs::create_dir_all(parent)?;
    let mut number = 1;
    loop {
        let folder = match number {
            1 => parent.join(name),
            _ => parent.join(format!("{name}-{number}")),
        };
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < FOLDERS_MAX => {
                number += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

fn json<T: Serialize>(value: &T) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("plain structs with text keys");
    text.push('\n');
    text
}

/// Names the layout of `cells.json`.
pub const SCHEMA: &str = "hp-harness-cells/1";

const FOLDERS_MAX: u32 = 1_000; // runs of one commit on one machine and day
const INTO_STRING: &str = "a string takes all text";
const NONE: &str = "—";

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::analyse::{self, tests::record};
    use crate::machine::tests::example;
    use crate::round::{Record, tests::proxied};
    use crate::sweep::{Engine, Target, tests::small};

    /// Rows of proxied cells: a ratio with its control at 1 connection, a VOID cell at 100.
    pub(crate) fn rows() -> Vec<Row> {
        let control = |connections| {
            let cell = proxied(Engine::Epoll, connections);
            Cell {
                target: Target {
                    part: Part::Control,
                    ..cell.target
                },
                ..cell
            }
        };
        let mut records: Vec<Record> = vec![
            record(proxied(Engine::Uring, 1), [18, 18, 19, 18, 18]),
            record(proxied(Engine::Epoll, 1), [20; 5]),
            record(control(1), [20, 20, 20, 21, 20]),
            record(proxied(Engine::Uring, 100), [18; 5]),
            record(proxied(Engine::Epoll, 100), [20; 5]),
            record(control(100), [0; 5]),
        ];
        let broken = &mut records[3].visits[1];
        broken.void.push("errors: reset 3".into());
        broken
            .load
            .as_mut()
            .unwrap()
            .errors
            .insert("reset".into(), 3);
        analyse::rows(&small(), &records)
    }

    #[test]
    fn the_tables_are_as_people_see_them() {
        let (plan, machine, rows) = (small(), example(), rows());
        let text = markdown(&Session {
            plan: &plan,
            machine: &machine,
            rows: &rows,
        });
        assert_eq!(text, include_str!("../tests/golden/bench.md"));
    }

    #[test]
    fn the_cell_file_reads_back_as_it_was_written() {
        let (plan, machine, rows) = (small(), example(), rows());
        let file = cell_file(&Session {
            plan: &plan,
            machine: &machine,
            rows: &rows,
        });
        assert_eq!(
            serde_json::from_str::<CellFile>(&json(&file)).unwrap(),
            file
        );
    }

    #[test]
    fn a_second_run_gets_a_folder_of_its_own() {
        let out = tempfile::tempdir().unwrap();
        let (plan, machine, rows) = (small(), example(), rows());
        let session = Session {
            plan: &plan,
            machine: &machine,
            rows: &rows,
        };
        let first = write(&session, out.path()).unwrap();
        let second = write(&session, out.path()).unwrap();
        let parent = out.path().join("2026-11-20-2cpu-epyc-linux6.18");
        assert_eq!(
            (first.clone(), second),
            (parent.join("abc1234"), parent.join("abc1234-2"))
        );
        assert!(first.join("machine.json").is_file());
    }
}
