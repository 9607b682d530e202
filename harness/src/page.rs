//! A session's page, and the same tables for the terminal. Equal summaries give equal bytes.
//!
//! Must not know: raw records.

mod cost;
mod latency;
mod special;

use std::fmt::Write as _;

use crate::raw::Limit;
use crate::setting::Setting;
use crate::summary::drift::DRIFT_PCT;
use crate::summary::ratio::{Quantity, Ratio};
use crate::summary::{Cell, Row, Spread, Summary, Workload, grid};
use crate::table::{self, Side};
use crate::wire::Lengths;

/// What a page is made from.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// The plan's title.
    pub title: &'a str,
    /// Where it ran.
    pub setting: &'a Setting,
    /// What it says.
    pub summary: &'a Summary,
    /// Names of the plots, which are files `plots/NAME.svg`.
    pub plots: &'a [String],
    /// What is said about files beside the page.
    pub file_notes: &'a [String],
}

/// The content of a session's `README.md`.
pub fn markdown(page: &Page<'_>) -> String {
    let Page {
        title,
        setting,
        summary,
        ..
    } = page;
    let mut out = format!(
        "# {title}\n\n{}\n\nCommit `{}`, {}; plan `{}`, seed {}. Again with\n\n```sh\n{}\n```\n\n",
        setting.line(),
        setting.commit_name(),
        setting.started,
        summary.plan,
        summary.seed,
        setting.command,
    );
    out.push_str(READING);
    for note in setting.notes().iter().chain(page.file_notes) {
        put(&mut out, format_args!("\n- {note}"));
    }
    put(&mut out, format_args!("\n\n{}", tables(summary)));
    if !page.plots.is_empty() {
        out.push_str("\n## Plots\n");
        for name in page.plots {
            put(
                &mut out,
                format_args!("\n![{}](plots/{name}.svg)\n", name.replace('-', " ")),
            );
        }
    }
    put(&mut out, format_args!("\n{}", subjects(setting)));
    out
}

/// All tables, each under a title.
pub fn tables(summary: &Summary) -> String {
    let mut out = calibrator(summary);
    for workload in &summary.workloads {
        put(
            &mut out,
            format_args!("\n## {}: {}\n", workload.name, workload.title),
        );
        for section in [
            cost::matrix(workload),
            cost::table(workload, summary.drifts()),
            latency::table(workload),
            latency::ratios(workload),
            special::memory(workload),
            special::extra(workload),
        ]
        .into_iter()
        .flatten()
        {
            put(&mut out, format_args!("\n{section}"));
        }
        out.push_str(&footnotes(workload));
    }
    out
}

/// Ratios of cost to the first reference, for these loads of a workload.
pub(crate) fn cost_matrix(workload: &Workload, rows: &[&Row]) -> Option<String> {
    cost::matrix_of(workload, rows)
}

/// Latency at a rate.
pub(crate) fn latency_table(workload: &Workload) -> Option<String> {
    latency::table(workload)
}

/// Memory over idle connections.
pub(crate) fn memory_table(workload: &Workload) -> Option<String> {
    special::memory(workload)
}

/// What was measured, in which version, and what was not there.
fn subjects(setting: &Setting) -> String {
    let has_wire = setting
        .subjects
        .values()
        .any(|subject| subject.wire.is_some());
    let mut head = vec![("subject", Side::Left), ("version", Side::Left)];
    if has_wire {
        head.extend([
            ("bytes to backend", Side::Right),
            ("bytes to client", Side::Right),
        ]);
    }
    head.push(("note", Side::Left));
    let lines = setting.subjects.iter().map(|(name, subject)| {
        let version = match &subject.missing {
            Some(why) => format!("not measured: {why}"),
            None => subject.version.clone().unwrap_or_else(|| NONE.into()),
        };
        let mut line = vec![name.clone(), version];
        if has_wire {
            let bytes = |count: fn(&Lengths) -> usize| {
                let count = subject.wire.as_ref().map(count);
                count.map_or_else(|| NONE.into(), |count| count.to_string())
            };
            line.push(bytes(|wire| wire.to_backend_bytes));
            line.push(bytes(|wire| wire.to_client_bytes));
        }
        line.push(subject.note.clone());
        line
    });
    let lines: Vec<Vec<String>> = lines.collect();
    if lines.is_empty() {
        return String::new();
    }
    let wire = if has_wire {
        "\nBytes are those of one request and its answer with a body of 13 bytes, as each wrote them; `wire/` has them.\n"
    } else {
        ""
    };
    format!("## Subjects\n\n{}{wire}", table::render(&head, &lines))
}

/// What the calibrators say, and what follows from it.
fn calibrator(summary: &Summary) -> String {
    let Some(calibrator) = summary.calibrator else {
        return String::new();
    };
    let is_within =
        calibrator.change_low_pct >= -DRIFT_PCT && calibrator.change_high_pct <= DRIFT_PCT;
    let consequence = if calibrator.drift {
        "**DRIFT**: ratios, which are of one round each, stay usable; absolute numbers are in parentheses"
    } else if is_within {
        "no drift beyond 3 %"
    } else {
        "no drift is sure, and one beyond 3 % is not ruled out: take absolute numbers with care"
    };
    let mut rows = summary.workloads.iter().flat_map(|workload| &workload.rows);
    let where_it_was = if rows.any(Row::is_in_turns) {
        "the relay at both ends of each round, and the reference wherever it took turns"
    } else {
        "the relay at both ends of each round"
    };
    format!(
        "Calibrator, {where_it_was}, {} visits: CPU per request changed by {:+.1} % [{:+.1}, {:+.1}] \
         over the session; {consequence}.\n",
        calibrator.visits,
        calibrator.change_pct,
        calibrator.change_low_pct,
        calibrator.change_high_pct,
    )
}

/// Noise, what failed, and what was flagged, below a workload's tables.
fn footnotes(workload: &Workload) -> String {
    let mut out = String::new();
    for note in &workload.notes {
        put(&mut out, format_args!("\n- {note}\n"));
    }
    for of in Quantity::ALL {
        let rows = workload.rows.iter().flat_map(|row| {
            let of_row = row.noise.iter().filter(move |ratio| ratio.of == of);
            of_row.map(|ratio| format!("{}: {} {}", row.name, ratio.against, interval(ratio)))
        });
        let rows: Vec<String> = rows.collect();
        if !rows.is_empty() {
            put(
                &mut out,
                format_args!(
                    "\nA/A, {} of a second process of a subject by that of the first: {}.\n",
                    of.title(),
                    rows.join("; ")
                ),
            );
        }
    }
    let cells = || {
        workload
            .rows
            .iter()
            .flat_map(|row| row.cells.iter().map(move |cell| (row, cell)))
    };
    for (row, cell) in cells().filter(|(_row, cell)| !cell.void.is_empty()) {
        put(
            &mut out,
            format_args!(
                "\n{} {} {}: {}.\n",
                if cell.failed { "FAILED" } else { "VOID" },
                row.name,
                cell.subject,
                listed(&cell.void),
            ),
        );
    }
    if !workload.missing.is_empty() {
        put(
            &mut out,
            format_args!(
                "\nAsked for and not measured: {}.\n",
                workload.missing.join(", ")
            ),
        );
    }
    out.push_str(&flag_lines(workload));
    let near: Vec<&str> = workload
        .rows
        .iter()
        .filter(|row| row.near_direct)
        .map(|row| row.name.as_str())
        .collect();
    if !near.is_empty() {
        put(
            &mut out,
            format_args!(
                "\nDirect is less than 1.5 times as fast as the fastest proxy: {}. There, requests per second say little of \
                 the proxies.\n",
                near.join(", ")
            ),
        );
    }
    out
}

/// One line for each rule: where it flagged rounds that count.
fn flag_lines(workload: &Workload) -> String {
    let mut rules: Vec<(&str, Vec<String>)> = Vec::new();
    for row in &workload.rows {
        for cell in &row.cells {
            for (rule, count) in &cell.flags {
                let place = format!("{} {} {count} of {}", row.name, cell.subject, cell.rounds);
                match rules.iter_mut().find(|(known, _)| known == rule) {
                    Some((_rule, places)) => places.push(place),
                    None => rules.push((rule, vec![place])),
                }
            }
        }
    }
    rules.sort_by_key(|(rule, _places)| *rule);
    let mut out = String::new();
    for (rule, places) in rules {
        put(
            &mut out,
            format_args!("\nFlag {rule}, in rounds: {}.\n", listed(&places)),
        );
    }
    out
}

/// Joined; of a long list the first, and how many more there are.
fn listed(texts: &[String]) -> String {
    let shown = texts.iter().take(LISTED_MAX);
    let shown: Vec<String> = shown.map(|text| table::one_line(text)).collect();
    let more = texts.len() - shown.len();
    if more > 0 {
        format!("{}; {more} more", shown.join("; "))
    } else {
        shown.join("; ")
    }
}

/// The subjects of a row that have a line, the control left out.
fn shown(row: &Row) -> impl Iterator<Item = &Cell> {
    row.cells.iter().filter(|cell| !cell.control)
}

/// `1.16 [1.14, 1.17]`.
pub(crate) fn interval(ratio: &Ratio) -> String {
    format!("{:.2} [{:.2}, {:.2}]", ratio.ratio, ratio.low, ratio.high)
}

/// The interval, in parentheses where the number is not one to rely on.
fn published(ratio: &Ratio) -> String {
    grey(interval(ratio), !ratio.is_sure())
}

/// The interval and what it allows to be said; `reference` for the reference itself.
fn judged(cell: &Cell, of: Quantity, against: &str) -> String {
    if cell.subject == against {
        return "reference".into();
    }
    let Some(ratio) = cell.ratio(of, against) else {
        return NONE.into();
    };
    match ratio.verdict {
        Some(verdict) => format!("{} {}", published(ratio), verdict.words(of)),
        None => published(ratio),
    }
}

/// In parentheses: shown, and not to be taken for what it looks like.
fn grey(text: String, is_grey: bool) -> String {
    if is_grey { format!("({text})") } else { text }
}

fn decimals(value: Option<f64>, places: usize) -> String {
    value.map_or_else(|| NONE.into(), |value| format!("{value:.places$}"))
}

fn spread(spread: Option<Spread>, places: usize) -> String {
    decimals(spread.map(|spread| spread.mid), places)
}

fn limit(limit: Option<Limit>) -> &'static str {
    match limit {
        Some(Limit::Proxy) => "proxy",
        Some(Limit::Client) => "CLIENT",
        Some(Limit::Backend) => "BACKEND",
        Some(Limit::Latency) => "latency",
        Some(Limit::Void) => "VOID",
        None => NONE,
    }
}

/// Whether requests per second are the measured server's own.
fn is_own_maximum(row: &Row, cell: &Cell) -> bool {
    cell.limit == Some(Limit::Proxy) && !row.near_direct && !grid::is_direct(&cell.subject)
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes all text");
}

/// What stands for a figure that is not there.
pub(crate) const NONE: &str = "—";

const LISTED_MAX: usize = 12;

const READING: &str = "\
How to read it:

- CPU µs/req is the user and system time of the measured server's processes per complete answer, the median over the
  rounds. `vs X` is its ratio to X, paired by round, a fifth trimmed at either end, with a 95 % bootstrap interval; cheaper and dearer are said only where the
  interval excludes 1 and the effect is larger than 2 %, than twice the half width of the A/A interval, and than that interval's far end.
- In parentheses stands what was measured and is no claim: ratios of cost whose interval is wider than 4 % to either side, of which
  only the word behind them counts; requests per second where the proxy was not the limit, absolute numbers of a session that drifted.
- Limit is the side that was full in most rounds. A subject with two void rounds has failed and has no figures.
- Closed loops hide the requests that a stall kept from being sent: their latencies say little about clients that do not wait.";
