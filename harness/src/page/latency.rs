//! Latency of loads at a rate, from the due moment.

use super::{NONE, interval, judged, limit, shown};
use crate::label::RATE_KEPT;
use crate::raw::Limit;
use crate::summary::ratio::Quantity;
use crate::summary::{Cell, DIRECT, Latency, Row, Spread, Workload};
use crate::table::{self, Side};

/// One line for each subject and rate; none where no load has a rate.
pub(super) fn table(workload: &Workload) -> Option<String> {
    let rows = workload.rows.iter().filter(|row| row.is_paced());
    let head = [
        ("load", Side::Left),
        ("subject", Side::Left),
        ("p50 µs", Side::Right),
        ("p90 µs", Side::Right),
        ("p99 µs", Side::Left),
        ("p99.9 µs", Side::Right),
        ("max µs", Side::Right),
        ("p99 − direct's", Side::Right),
        ("limit", Side::Left),
    ];
    let lines: Vec<Vec<String>> = rows
        .flat_map(|row| shown(row).map(|cell| line(row, cell)))
        .collect();
    if lines.is_empty() {
        return None;
    }
    let why = |is_so: &dyn Fn(&String) -> bool, text| {
        let any = lines.iter().filter_map(|line| line.get(2)).any(is_so);
        if any { text } else { "" }
    };
    Some(format!(
        "Latency from the due moment, all rounds together; the interval is over the rounds' own p99.\n\n{}{}{}",
        table::render(&head, &lines),
        why(&|text| text == HIDDEN, WHY_HIDDEN),
        why(&|text| text.starts_with('('), WHY_IN_PARENTHESES),
    ))
}

/// Each subject's latencies by those of the references, paired by round; none where no load has a rate.
pub(super) fn ratios(workload: &Workload) -> Option<String> {
    let titles: Vec<String> = by_reference(workload)
        .map(|(of, reference)| format!("{} vs {reference}", of.title()))
        .collect();
    let mut head = vec![("load", Side::Left), ("subject", Side::Left)];
    head.extend(titles.iter().map(|title| (title.as_str(), Side::Left)));
    let rows = workload.rows.iter().filter(|row| row.is_paced());
    let lines = rows.flat_map(|row| {
        shown(row).map(|cell| {
            let names = [row.name.clone(), cell.subject.clone()].into_iter();
            let ratios = by_reference(workload).map(|(of, against)| versus(row, cell, of, against));
            names.chain(ratios).collect()
        })
    });
    let lines: Vec<Vec<String>> = lines.collect();
    let is_known = |text: &String| text.contains('[');
    let is_there = lines.iter().flatten().any(is_known);
    is_there.then(|| {
        format!(
            "Latency by a reference's, paired by round, a fifth of the rounds trimmed at either end.\n\n{}",
            table::render(&head, &lines)
        )
    })
}

/// What is compared, for each of the references.
fn by_reference(workload: &Workload) -> impl Iterator<Item = (Quantity, &str)> {
    let latencies = || Quantity::ALL.into_iter().filter(|of| *of != Quantity::Cost);
    workload
        .references
        .iter()
        .flat_map(move |name| latencies().map(move |of| (of, name.as_str())))
}

/// A ratio and what it allows to be said. Where the generator's own lateness is in one of both, it stands in parentheses and nothing is said.
fn versus(row: &Row, cell: &Cell, of: Quantity, against: &str) -> String {
    let is_published = |cell: &Cell| cell.published_latency(true).is_some();
    let is_measured = |cell: &Cell| is_published(cell) || measured(row, cell).is_some();
    let both = || std::iter::once(cell).chain(row.cell(against));
    if cell.subject == against || both().all(is_published) {
        return judged(cell, of, against);
    }
    match cell.ratio(of, against) {
        Some(ratio) if both().all(is_measured) => format!("({})", interval(ratio)),
        Some(_) | None => NONE.into(),
    }
}

fn line(row: &Row, cell: &Cell) -> Vec<String> {
    let mut texts = vec![row.name.clone(), cell.subject.clone()];
    match (cell.failed, cell.published_latency(true)) {
        (true, _) => {
            texts.push("FAILED".into());
            texts.extend(std::iter::repeat_n(NONE.to_owned(), 5));
        }
        (false, None) => match measured(row, cell) {
            Some(latency) => {
                texts.extend(quantiles(latency).map(|text| format!("({text})")));
                texts.push(NONE.to_owned());
            }
            None => {
                texts.push(HIDDEN.into());
                texts.extend(std::iter::repeat_n(NONE.to_owned(), 5));
            }
        },
        (false, Some(latency)) => {
            texts.extend(quantiles(latency));
            texts.push(difference(row, cell, latency));
        }
    }
    texts.push(limit(cell.limit).into());
    texts
}

/// What was seen where the generator kept its rate, but sent late by itself: its own lateness is in it.
fn measured<'c>(row: &Row, cell: &'c Cell) -> Option<&'c Latency> {
    let figures = cell.figures.as_ref()?;
    let is_kept = figures.rps?.mid >= row.params.rate? * RATE_KEPT;
    let is_late = cell.limit == Some(Limit::Client) && is_kept;
    figures.latency.as_ref().filter(|_latency| is_late)
}

/// p50, p90, p99, p99.9 and the largest.
fn quantiles(latency: &Latency) -> [String; 5] {
    let whole = |value: Option<f64>| value.map_or_else(|| NONE.into(), table::thousands);
    let censored = if latency.censored > 0 { ">" } else { "" };
    [
        table::thousands(latency.p50_us.mid),
        whole(latency.p90_us),
        latency.p99_us.map_or_else(|| NONE.into(), with_interval),
        whole(latency.p999_us),
        format!("{censored}{}", table::thousands(latency.max_us)),
    ]
}

fn with_interval(spread: Spread) -> String {
    format!(
        "{} [{}, {}]",
        table::thousands(spread.mid),
        table::thousands(spread.low),
        table::thousands(spread.high)
    )
}

/// A difference of quantiles, which is not the quantile of what the proxy adds.
fn difference(row: &Row, cell: &Cell, latency: &Latency) -> String {
    let direct = row
        .cell(DIRECT)
        .filter(|direct| direct.subject != cell.subject);
    let direct = direct.and_then(|direct| direct.published_latency(true)?.p99_us);
    match (latency.p99_us, direct) {
        (Some(p99), Some(direct)) => format!("{:+.0}", p99.mid - direct.mid),
        _ => NONE.into(),
    }
}

/// Stands where the load generator's own times would be taken for the server's.
const HIDDEN: &str = "not published";
const WHY_HIDDEN: &str = "
Not published: in most rounds the load generator missed the schedule; it needs a CPU of its own (`seats = \"apart\"`), or a lower rate.
";
const WHY_IN_PARENTHESES: &str = "
In parentheses: the rate was kept, but in most rounds the load generator sent later than due by itself, at p99 by more than 5 % of the latency's.
That is in these numbers, in all subjects' alike, so nothing is claimed; a CPU of the generator's own takes it out (`seats = \"apart\"`).
";
