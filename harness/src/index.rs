//! The lists of what lies below the results' folder: `index.ndjson`, one line per session, appended to and never
//! changed; and `INDEX.md`, made anew from it and from the runs of the first layout.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::derive::{PAGE_FILE, PLAN_FILE, SUMMARY_FILE};
use crate::error::Error;
use crate::page;
use crate::plan::Plan;
use crate::raw::RAW_FILE;
use crate::setting::Setting;
use crate::summary::ratio::Quantity;
use crate::summary::{Cell, Row, Summary, Workload, grid};
use crate::table::{self, Side};
use crate::text;

/// A session's line in `index.ndjson`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Entry {
    /// Its folder below the results' folder, with `/` between.
    pub folder: String,
    /// The second at which it began, in UTC.
    pub started: String,
    /// The class of the machine.
    pub machine: String,
    /// The commit, with `-dirty` where the work tree differed.
    pub commit: String,
    /// The plan's name.
    pub plan: String,
    /// What it asked.
    pub title: String,
    /// One sentence for each workload.
    pub verdicts: Vec<String>,
}

/// A run of the first layout: `DATE-MACHINE/COMMIT` with `machine.json` and tables.
#[derive(Clone, Debug, Default, PartialEq)]
struct Run {
    folder: String,
    started: String,
    machine: String,
    commit: String,
    /// Files for people, sorted.
    pages: Vec<String>,
}

/// Appends a line for each session that has none, writes `INDEX.md` anew, and gives the folders that look like results
/// and cannot be read.
///
/// # Errors
/// [`Error::Read`] when `index.ndjson` is damaged, [`Error::Write`] when a file cannot be written.
pub fn regenerate(out: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut entries = entries(out)?;
    let known: BTreeSet<String> = entries.iter().map(|entry| entry.folder.clone()).collect();
    let (mut runs, mut skipped, mut fresh) = (Vec::new(), Vec::new(), Vec::new());
    for folder in folders(out).iter().flat_map(|day| folders(day)) {
        let name = name_of(out, &folder);
        if folder.join(RAW_FILE).is_file() {
            if !known.contains(&name) {
                match entry(&folder, &name) {
                    Ok(entry) => fresh.push(entry),
                    Err(_unreadable) => skipped.push(folder),
                }
            }
        } else if folder.join(MACHINE_FILE).is_file() {
            match run(&folder, &name) {
                Some(run) => runs.push(run),
                None => skipped.push(folder),
            }
        }
    }
    append(out, &fresh)?;
    entries.extend(fresh);
    let path = out.join(INDEX_FILE);
    fs::write(&path, render(entries, runs)).map_err(|cause| Error::Write { path, cause })?;
    Ok(skipped)
}

/// The lines of `index.ndjson`; none where there is no such file.
///
/// # Errors
/// [`Error::Read`], with the line.
pub fn entries(out: &Path) -> Result<Vec<Entry>, Error> {
    let path = out.join(LINES_FILE);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = text::read(&path)?;
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.is_empty());
    let parsed = lines.map(|(number, line)| {
        serde_json::from_str(line).map_err(|cause| Error::Read {
            path: path.clone(),
            cause: format!("line {number}: {cause}"),
        })
    });
    parsed.collect()
}

/// The content of `INDEX.md` for what lies below a folder, which the lines have to name already.
///
/// # Errors
/// As [`entries`].
pub fn content(out: &Path) -> Result<String, Error> {
    Ok(render(entries(out)?, runs(out)))
}

/// The folders of sessions below the results' folder, sorted.
pub fn sessions(out: &Path) -> Vec<PathBuf> {
    let folders = folders(out).into_iter().flat_map(|day| folders(&day));
    folders
        .filter(|folder| folder.join(RAW_FILE).is_file())
        .collect()
}

/// A folder's name below the results' folder, with `/` between.
pub fn name_of(out: &Path, folder: &Path) -> String {
    let inner = folder.strip_prefix(out).unwrap_or(folder);
    let parts = inner.iter().map(|part| part.to_string_lossy());
    parts.collect::<Vec<_>>().join("/")
}

/// A session's line, from its derived files.
///
/// # Errors
/// [`Error::Read`] or [`Error::Plan`].
pub fn entry(folder: &Path, name: &str) -> Result<Entry, Error> {
    let plan = Plan::read(&folder.join(PLAN_FILE).to_string_lossy(), folder)?;
    let setting = Setting::read(folder)?;
    let summary = summary(folder)?;
    Ok(Entry {
        folder: name.to_owned(),
        verdicts: summary.workloads.iter().map(verdict).collect(),
        ..facts(&plan, &setting)
    })
}

/// A session's derived numbers.
///
/// # Errors
/// [`Error::Read`].
pub fn summary(folder: &Path) -> Result<Summary, Error> {
    let path = folder.join(SUMMARY_FILE);
    let text = text::read(&path)?;
    let failed = |cause: String| Error::Read {
        path: path.clone(),
        cause,
    };
    let summary: Summary =
        serde_json::from_str(&text).map_err(|cause| failed(cause.to_string()))?;
    if summary.schema != crate::summary::SCHEMA {
        return Err(failed(format!(
            "its schema is {:?}; run `harness analyse` on the folder",
            summary.schema
        )));
    }
    Ok(summary)
}

fn facts(plan: &Plan, setting: &Setting) -> Entry {
    Entry {
        started: setting.started.clone(),
        machine: setting.host.class.clone(),
        commit: setting.commit_name(),
        plan: plan.name.clone(),
        title: plan.title.clone(),
        ..Entry::default()
    }
}

/// What a workload says of our first subject, at the load that is nearest to [`CONNECTIONS_SHOWN`] connections.
fn verdict(workload: &Workload) -> String {
    let distance = |row: &&Row| row.params.connections.abs_diff(CONNECTIONS_SHOWN);
    let row = workload.rows.iter().min_by_key(distance);
    let said = row.and_then(|row| {
        let reference = workload.references.first()?;
        let needs_reference = !row.is_paced() && workload.memory.is_empty();
        let is_shown = |cell: &&Cell| {
            let is_reference = cell.subject == *reference;
            !cell.control && grid::is_ours(&cell.subject) && !(needs_reference && is_reference)
        };
        let cell = row.cells.iter().find(is_shown)?;
        let said = said(workload, row, cell, reference)?;
        Some(format!(
            "{} {}: {} {said}",
            workload.name, row.name, cell.subject
        ))
    });
    said.unwrap_or_else(|| format!("{}{NO_FIGURE}", workload.name))
}

fn said(workload: &Workload, row: &Row, cell: &Cell, reference: &str) -> Option<String> {
    if cell.failed {
        return Some("FAILED".into());
    }
    let mut memory = workload.memory.iter();
    if let Some(fitted) = memory
        .find(|memory| memory.subject == cell.subject)
        .and_then(|memory| memory.user)
    {
        return Some(format!("{} B/conn", table::thousands(fitted.conn_bytes)));
    }
    if let Some(p99) = cell
        .published_latency(true)
        .filter(|_latency| row.is_paced())
        .and_then(|latency| latency.p99_us)
    {
        return Some(format!("p99 {} µs", table::thousands(p99.mid)));
    }
    let ratio = cell.ratio(Quantity::Cost, reference)?;
    let word = ratio.verdict.map_or("", |verdict| verdict.words(ratio.of));
    Some(format!("{} of {reference}, {word}", page::interval(ratio)))
}

fn append(out: &Path, fresh: &[Entry]) -> Result<(), Error> {
    if fresh.is_empty() {
        return Ok(());
    }
    let path = out.join(LINES_FILE);
    let mut text = String::new();
    for entry in fresh {
        text.push_str(&serde_json::to_string(entry).expect("keys are text"));
        text.push('\n');
    }
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|cause| Error::Write { path, cause })
}

fn render(mut entries: Vec<Entry>, mut runs: Vec<Run>) -> String {
    entries.sort_by(|a, b| (&b.started, &b.folder).cmp(&(&a.started, &a.folder)));
    entries.dedup_by(|a, b| a.folder == b.folder);
    runs.sort_by(|a, b| (&b.started, &b.folder).cmp(&(&a.started, &a.folder)));
    let mut out = String::from(
        "# Results\n\nWritten by the harness; newest first. How to read them: [README.md](README.md).\n",
    );
    if !entries.is_empty() {
        out.push_str("\n## Sessions\n\nCPU time per request of ours, or what was asked.\n");
        entries
            .iter()
            .for_each(|entry| out.push_str(&section(entry)));
    }
    if !runs.is_empty() {
        let head = [
            ("started", Side::Left),
            ("machine", Side::Left),
            ("commit", Side::Left),
            ("tables", Side::Left),
        ];
        let lines = runs.into_iter().map(|run| {
            let pages = run.pages.iter();
            let links = pages.map(|page| format!("[{page}]({}/{page})", run.folder));
            let links = links.collect::<Vec<_>>().join(", ");
            vec![run.started, run.machine, run.commit, links]
        });
        out.push_str("\n## Earlier runs, of the first layout\n\n");
        out.push_str(&table::render(&head, &lines.collect::<Vec<_>>()));
    }
    out
}

/// A session under a heading of its own: a plan may ask dozens of questions.
fn section(entry: &Entry) -> String {
    let Entry {
        started,
        machine,
        commit,
        folder,
        plan,
        ..
    } = entry;
    let mut section =
        format!("\n### {started}, {plan}: [{commit}]({folder}/{PAGE_FILE}) on {machine}\n\n");
    let mut without = Vec::new();
    for verdict in &entry.verdicts {
        match verdict.strip_suffix(NO_FIGURE) {
            Some(name) => without.push(name),
            None => section.push_str(&format!("- {verdict}\n")),
        }
    }
    if !without.is_empty() {
        section.push_str(&format!("- no figure of ours: {}\n", without.join(", ")));
    }
    section
}

fn runs(out: &Path) -> Vec<Run> {
    let folders = folders(out).into_iter().flat_map(|day| folders(&day));
    folders
        .filter(|folder| !folder.join(RAW_FILE).is_file())
        .filter_map(|folder| run(&folder, &name_of(out, &folder)))
        .collect()
}

/// Reads a run of the first layout; none when its facts are not what they should be.
fn run(folder: &Path, name: &str) -> Option<Run> {
    let text = text::read(&folder.join(MACHINE_FILE)).ok()?;
    let facts: Value = serde_json::from_str(&text).ok()?;
    let fact = |key: &str| facts.get(key).and_then(Value::as_str);
    let entries = fs::read_dir(folder).ok()?.flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut pages: Vec<String> = names.filter(|name| name.ends_with(".md")).collect();
    pages.sort();
    let dirty = match facts.get("dirty").and_then(Value::as_bool) {
        Some(true) => "-dirty",
        Some(false) | None => "",
    };
    Some(Run {
        folder: name.to_owned(),
        started: fact("started")?.to_owned(),
        machine: fact("slug")?.to_owned(),
        commit: format!("{}{dirty}", fact("commit")?),
        pages,
    })
}

/// The folders in a folder, sorted.
fn folders(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}

/// The list for people.
pub const INDEX_FILE: &str = "INDEX.md";
/// The list for programs.
pub const LINES_FILE: &str = "index.ndjson";

/// The facts of a run of the first layout.
const MACHINE_FILE: &str = "machine.json";
const CONNECTIONS_SHOWN: u32 = 100;
const NO_FIGURE: &str = ": no figure of ours";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_without_a_figure_of_ours_are_one_line() {
        let verdicts = [
            "correct: no figure of ours",
            "small c100: 1.1",
            "stock: no figure of ours",
        ];
        let entry = Entry {
            folder: "day/1000-abc".into(),
            commit: "abc".into(),
            verdicts: verdicts.map(String::from).into(),
            ..Entry::default()
        };
        let section = section(&entry);
        assert!(
            section.contains("[abc](day/1000-abc/README.md)"),
            "{section}"
        );
        let lines: Vec<&str> = section
            .lines()
            .filter(|line| line.starts_with("- "))
            .collect();
        assert_eq!(
            lines,
            ["- small c100: 1.1", "- no figure of ours: correct, stock"]
        );
    }
}
