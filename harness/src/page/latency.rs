//! Latency of loads at a rate, from the due moment.

use super::{NONE, judged, limit, shown};
use crate::summary::ratio::Quantity;
use crate::summary::{Cell, DIRECT, Latency, Row, Spread, Workload};
use crate::table::{self, Side};

/// One line for each subject and rate; none where no load has a rate.
pub(super) fn table(workload: &Workload) -> Option<String> {
    let rows = workload.rows.iter().filter(|row| row.is_paced());
    let reference = workload.references.first()?;
    let versus = format!("p99 vs {reference}");
    let head = [
        ("load", Side::Left),
        ("subject", Side::Left),
        ("p50 µs", Side::Right),
        ("p90 µs", Side::Right),
        ("p99 µs", Side::Left),
        ("p99.9 µs", Side::Right),
        ("max µs", Side::Right),
        ("p99 − direct's", Side::Right),
        (versus.as_str(), Side::Left),
        ("limit", Side::Left),
    ];
    let lines: Vec<Vec<String>> = rows
        .flat_map(|row| shown(row).map(|cell| line(row, cell, reference)))
        .collect();
    if lines.is_empty() {
        return None;
    }
    let is_hidden = lines.iter().flatten().any(|text| text == HIDDEN);
    let why = if is_hidden { WHY_HIDDEN } else { "" };
    Some(format!(
        "Latency from the due moment, all rounds together; the interval is over the rounds' own p99.\n\n{}{why}",
        table::render(&head, &lines)
    ))
}

fn line(row: &Row, cell: &Cell, reference: &str) -> Vec<String> {
    let mut texts = vec![row.name.clone(), cell.subject.clone()];
    match (cell.failed, cell.published_latency(true)) {
        (true, _) => {
            texts.push("FAILED".into());
            texts.extend(std::iter::repeat_n(NONE.to_owned(), 6));
        }
        (false, None) => {
            texts.push(HIDDEN.into());
            texts.extend(std::iter::repeat_n(NONE.to_owned(), 6));
        }
        (false, Some(latency)) => {
            let whole = |value: Option<f64>| value.map_or_else(|| NONE.into(), table::thousands);
            texts.push(whole(Some(latency.p50_us.mid)));
            texts.push(whole(latency.p90_us));
            texts.push(latency.p99_us.map_or_else(|| NONE.into(), with_interval));
            texts.push(whole(latency.p999_us));
            let censored = if latency.censored > 0 { ">" } else { "" };
            texts.push(format!("{censored}{}", table::thousands(latency.max_us)));
            texts.push(difference(row, cell, latency));
            texts.push(judged(cell, Quantity::P99, reference));
        }
    }
    texts.push(limit(cell.limit).into());
    texts
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
Not published: in most rounds the load generator was the limit. It missed the schedule, or sent later than due by itself, at p99 by more than 5 % of
the latency's; it needs a CPU of its own (`seats = \"apart\"`), or a lower rate.
";
