//! Tables of workloads that ask other questions than cost and latency.

use super::{NONE, decimals};
use crate::summary::memory::Fitted;
use crate::summary::{Figures, Row, Workload};
use crate::table::{self, Side};

/// Memory over idle connections; none where that was not looked at.
pub(super) fn memory(workload: &Workload) -> Option<String> {
    let head = [
        ("subject", Side::Left),
        ("bytes/conn", Side::Left),
        ("base KiB", Side::Right),
        ("kernel bytes/conn", Side::Left),
        ("up to conns", Side::Right),
        ("looks", Side::Right),
    ];
    let lines = workload.memory.iter().map(|memory| {
        let most = memory.points.iter().map(|point| point.connections).max();
        let base = memory.user.map(|fitted| fitted.base_bytes / 1_024.0);
        vec![
            memory.subject.clone(),
            slope(memory.user),
            decimals(base, 0),
            slope(memory.kernel),
            table::thousands(f64::from(most.unwrap_or(0))),
            memory.points.len().to_string(),
        ]
    });
    let lines: Vec<Vec<String>> = lines.collect();
    if lines.is_empty() {
        return None;
    }
    Some(format!(
        "Memory over idle connections, by least squares: what each connection keeps, and what the server keeps without one. \
         The kernel's memory for sockets is about the same for all.\n\n{}",
        table::render(&head, &lines)
    ))
}

/// What only this workload has: a table for each load, a line for each number or text, a column for each subject.
pub(super) fn extra(workload: &Workload) -> Option<String> {
    let tables: Vec<String> = workload
        .rows
        .iter()
        .filter_map(|row| extra_of(row, !workload.memory.is_empty()))
        .collect();
    (!tables.is_empty()).then(|| tables.join("\n"))
}

fn extra_of(row: &Row, has_fits: bool) -> Option<String> {
    let cells = row.cells.iter().filter(|cell| !cell.control);
    let figures = cells.filter_map(|cell| Some((cell.subject.as_str(), cell.figures.as_ref()?)));
    let figures: Vec<(&str, &Figures)> = figures.collect();
    let mut keys: Vec<&str> = Vec::new();
    for (_subject, figures) in &figures {
        for key in figures.extra.keys().chain(figures.words.keys()) {
            let is_fitted = has_fits && key.contains("_bytes_");
            if !is_fitted && !keys.contains(&key.as_str()) && keys.len() < KEYS_MAX {
                keys.push(key);
            }
        }
    }
    if keys.is_empty() {
        return None;
    }
    keys.sort_unstable();
    let mut head = vec![(row.name.as_str(), Side::Left)];
    head.extend(
        figures
            .iter()
            .map(|(subject, _figures)| (*subject, Side::Right)),
    );
    let lines = keys.into_iter().map(|key| {
        let texts = figures.iter().map(|(_subject, figures)| {
            let number = figures.extra.get(key).copied().map(number);
            let text = number.or_else(|| figures.words.get(key).cloned());
            text.unwrap_or_else(|| NONE.into())
        });
        std::iter::once(key.to_owned()).chain(texts).collect()
    });
    Some(table::render(&head, &lines.collect::<Vec<_>>()))
}

fn slope(fitted: Option<Fitted>) -> String {
    fitted.map_or_else(
        || NONE.into(),
        |fitted| {
            format!(
                "{} [{}, {}]",
                table::thousands(fitted.conn_bytes),
                table::thousands(fitted.conn_bytes_low),
                table::thousands(fitted.conn_bytes_high)
            )
        },
    )
}

/// Grouped where it is large, with decimals where it is small.
fn number(value: f64) -> String {
    if value.abs() >= 100.0 || value == value.round() {
        table::thousands(value)
    } else {
        format!("{value:.3}")
    }
}

/// More lines than this are read in the file.
const KEYS_MAX: usize = 40;
