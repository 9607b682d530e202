//! The README's section about performance, made from the committed results between two comments.
//!
//! For each question of [`SHOWN`] the newest whole session that answers it is shown, with links to its page and raw file. One that asks it of
//! other programs beside ours goes before one that does not, and one in enough rounds to be sure before one that looks at everything in short. A
//! session is whole when it came to its end, its sources were those of its commit, and its command line left nothing of the
//! plan out. While no such session answers any, the section says so.

use std::fs;
use std::path::Path;

use crate::derive::PAGE_FILE;
use crate::error::Error;
use crate::index::{self, Entry, INDEX_FILE};
use crate::page;
use crate::raw::RAW_FILE;
use crate::setting::Setting;
use crate::summary::{Row, Summary, Workload};
use crate::text;

/// The README with its section made anew.
///
/// # Errors
/// [`Error::Read`] when README or results cannot be read, or the comments are not there once each, in order.
pub fn renewed(readme: &Path, results: &Path) -> Result<String, Error> {
    let text = text::read(readme)?;
    let failed = |cause: &str| Error::Read {
        path: readme.to_owned(),
        cause: cause.to_owned(),
    };
    let missing = || {
        failed(&format!(
            "it lacks the lines {BEGIN:?} and {END:?}, once each, in this order"
        ))
    };
    let (before, rest) = text.split_once(BEGIN).ok_or_else(missing)?;
    let (_old, after) = rest.split_once(END).ok_or_else(missing)?;
    if after.contains(BEGIN) || after.contains(END) {
        return Err(missing());
    }
    let link = results.file_name().map(|name| name.to_string_lossy());
    let link = link.ok_or_else(|| failed("the results' folder has no name"))?;
    Ok(format!(
        "{before}{BEGIN}\n\n{}\n{END}{after}",
        section(results, &link)?
    ))
}

/// Writes the README where its section is stale, and says whether it was.
///
/// # Errors
/// As [`renewed`], and [`Error::Write`].
pub fn renew(readme: &Path, results: &Path) -> Result<bool, Error> {
    let text = renewed(readme, results)?;
    if text::read(readme)? == text {
        return Ok(false);
    }
    fs::write(readme, text).map_err(|cause| Error::Write {
        path: readme.to_owned(),
        cause,
    })?;
    Ok(true)
}

/// The section; `link` is the results' folder as seen from the README.
fn section(results: &Path, link: &str) -> Result<String, Error> {
    let mut entries = index::entries(results)?;
    entries.sort_by(|a, b| (&b.started, &b.folder).cmp(&(&a.started, &a.folder)));
    let mut sessions: Vec<(Entry, Summary)> = Vec::new();
    for entry in entries {
        let folder = results.join(&entry.folder);
        if is_whole(&Setting::read(&folder)?) {
            sessions.push((entry, index::summary(&folder)?));
        }
    }
    let mut parts = vec![INTRODUCTION.replace("RESULTS", link)];
    for name in SHOWN {
        let answers = sessions.iter().filter_map(|(entry, summary)| {
            let mut workloads = summary.workloads.iter();
            let workload = workloads.find(|workload| workload.name == *name)?;
            Some((entry, workload, tables(workload)?))
        });
        let mut answers: Vec<_> = answers.collect();
        answers.sort_by_key(|(_, workload, _)| {
            let is_unsure = rounds(workload) < ROUNDS_SURE;
            (!is_beside_others(workload), is_unsure)
        });
        if let Some((entry, workload, tables)) = answers.first() {
            let folder = format!("{link}/{}", entry.folder);
            parts.push(format!(
                "**{}** ([tables and plots]({folder}/{PAGE_FILE}), [raw data]({folder}/{RAW_FILE}); {}, commit `{}`, {}):\n\n{tables}",
                workload.title, entry.machine, entry.commit, entry.started
            ));
        }
    }
    if parts.len() == 1 {
        parts.push(format!(
            "No session of a whole plan is there yet; [all runs]({link}/{INDEX_FILE}).\n"
        ));
    }
    Ok(parts.join("\n"))
}

/// How often its loads were visited, of the one that was most often.
fn rounds(workload: &Workload) -> u32 {
    let cells = workload.rows.iter().flat_map(|row| &row.cells);
    cells.map(|cell| cell.rounds).max().unwrap_or(0)
}

/// Whether it has a program that is none of ours: people who choose one want to see it beside those.
fn is_beside_others(workload: &Workload) -> bool {
    let mut cells = workload.rows.iter().flat_map(|row| &row.cells);
    cells.any(|cell| !OURS.iter().any(|prefix| cell.subject.starts_with(prefix)))
}

/// A workload as a reader of the README wants it: ratios of cost by load, latency at a rate, or memory.
fn tables(workload: &Workload) -> Option<String> {
    let closed: Vec<&Row> = workload.rows.iter().filter(|row| !row.is_paced()).collect();
    let found = [
        page::cost_matrix(workload, &closed),
        page::latency_table(workload),
        page::memory_table(workload),
    ];
    let tables: Vec<String> = found.into_iter().flatten().collect();
    (!tables.is_empty()).then(|| tables.join("\n"))
}

/// Whether a session measured a plan of one commit as the plan is.
fn is_whole(setting: &Setting) -> bool {
    let mut words = setting.command.split_ascii_whitespace();
    let leaves_out = words.any(|word| LEAVING_OUT.contains(&word));
    setting.course.finished && !setting.source.dirty && !leaves_out
}

/// Workloads that the README shows, by the plans' names for them, in this order.
pub const SHOWN: &[&str] = &["small", "body-64k", "churn", "latency", "idle"];

/// Rounds from which on a ratio on a shared machine is good to some percent; the plan behind `make bench` makes more.
const ROUNDS_SURE: u32 = 15;

/// How the names of our own programs begin, and of what goes past all of them.
const OURS: [&str; 4] = ["hp-", "relay-", "echo-", "direct"];

/// Begins the section.
pub const BEGIN: &str = "<!-- performance: written by `make bench-readme` -->";
/// Ends it.
pub const END: &str = "<!-- performance: end -->";

/// Flags of a session that measure less than the plan asks for.
const LEAVING_OUT: [&str; 5] = ["--quick", "--only", "--rounds", "--seconds", "--subjects"];
const INTRODUCTION: &str = "\
The machine and all raw data lie beside each table ([how to read them](RESULTS/README.md), [all sessions](RESULTS/INDEX.md)). Compare only
numbers of one table. A ratio is a trimmed mean over paired rounds, with its 95 % interval; in parentheses where that
is wider than 4 % to either side, so that another session may well bring another number.
";
