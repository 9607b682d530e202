//! What a request costs, in closed loops and at a rate.

use super::{NONE, decimals, grey, is_own_maximum, judged, limit, published, shown, spread};
use crate::summary::ratio::Quantity;
use crate::summary::{Cell, Figures, Row, Workload};
use crate::table::{self, Side};

/// Subjects by loads, each with its ratio to the first reference; none where there is one load only.
pub(super) fn matrix(workload: &Workload) -> Option<String> {
    let rows: Vec<&Row> = workload.rows.iter().collect();
    if rows.len() < 2 {
        return None;
    }
    matrix_of(workload, &rows)
}

/// The same for these rows of it.
pub(super) fn matrix_of(workload: &Workload, rows: &[&Row]) -> Option<String> {
    let reference = workload.references.first()?;
    let mut subjects: Vec<&str> = Vec::new();
    for cell in rows.iter().flat_map(|row| &row.cells) {
        let has_ratio = cell.ratio(Quantity::Cost, reference).is_some();
        let is_known = subjects.contains(&cell.subject.as_str());
        if !is_known && (has_ratio || cell.subject == *reference) {
            subjects.push(&cell.subject);
        }
    }
    if subjects.len() < 2 {
        return None;
    }
    let title = format!("CPU per request, vs {reference}");
    let mut head = vec![(title.as_str(), Side::Left)];
    head.extend(rows.iter().map(|row| (row.name.as_str(), Side::Left)));
    let lines: Vec<Vec<String>> = subjects
        .iter()
        .map(|subject| {
            let texts = rows.iter().map(|row| entry(row, subject, reference));
            std::iter::once((*subject).to_owned())
                .chain(texts)
                .collect()
        })
        .collect();
    Some(table::render(&head, &lines))
}

fn entry(row: &Row, subject: &str, reference: &str) -> String {
    let Some(cell) = row.cell(subject) else {
        return NONE.into();
    };
    if cell.failed {
        return "FAILED".into();
    }
    if subject == reference {
        let cost = cell.figures.as_ref().and_then(|figures| figures.cost_us);
        return cost.map_or_else(|| NONE.into(), |cost| format!("1.00 ({:.2} µs)", cost.mid));
    }
    let ratio = cell.ratio(Quantity::Cost, reference);
    ratio.map_or_else(|| NONE.into(), published)
}

/// One line for each subject and load; none where no server's CPU time is known.
pub(super) fn table(workload: &Workload, drifts: bool) -> Option<String> {
    let figures = || {
        let rows = workload.rows.iter();
        rows.flat_map(|row| row.cells.iter().map(move |cell| (row, cell)))
            .filter_map(|(row, cell)| Some((row, cell.figures.as_ref()?)))
    };
    if !figures().any(|(_row, figures)| figures.cost_us.is_some() || figures.rps.is_some()) {
        return None;
    }
    let is_known =
        |column: &Column| figures().any(|(row, figures)| column.text(row, figures) != NONE);
    let columns: Vec<Column> = COLUMNS.iter().copied().filter(is_known).collect();
    let versus: Vec<String> = workload
        .references
        .iter()
        .map(|name| format!("vs {name}"))
        .collect();
    let mut head = vec![
        ("load", Side::Left),
        ("subject", Side::Left),
        ("CPU µs/req", Side::Right),
    ];
    head.extend(versus.iter().map(|text| (text.as_str(), Side::Left)));
    head.extend(columns.iter().map(|column| (column.title(), Side::Right)));
    head.push(("limit", Side::Left));
    head.push(("rounds", Side::Right));
    let lines = workload.rows.iter().flat_map(|row| {
        shown(row).map(|cell| line(row, cell, &workload.references, &columns, drifts))
    });
    Some(table::render(&head, &lines.collect::<Vec<_>>()))
}

fn line(
    row: &Row,
    cell: &Cell,
    references: &[String],
    columns: &[Column],
    drifts: bool,
) -> Vec<String> {
    let mut texts = vec![row.name.clone(), cell.subject.clone()];
    match &cell.figures {
        None => {
            texts.push("FAILED".into());
            let others = references.len() + columns.len();
            texts.extend(std::iter::repeat_n(NONE.to_owned(), others));
        }
        Some(figures) => {
            let cost = spread(figures.cost_us, 2);
            texts.push(grey(cost, drifts && figures.cost_us.is_some()));
            let versus = references.iter();
            texts.extend(versus.map(|against| judged(cell, Quantity::Cost, against)));
            let is_grey = |column: &Column| {
                let of_maximum = *column == Column::Rps && !row.is_paced();
                (of_maximum && !is_own_maximum(row, cell)) || (drifts && column.is_absolute())
            };
            texts.extend(columns.iter().map(|column| {
                let text = column.text(row, figures);
                let is_known = text != NONE;
                grey(text, is_known && is_grey(column))
            }));
        }
    }
    texts.push(limit(cell.limit).into());
    texts.push(cell.rounds.to_string());
    texts
}

/// A column that is there where any subject has a figure for it.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Column {
    Machine,
    Kib,
    Rps,
    P50,
    P99,
    Max,
    Switches,
    Bytes,
    Little,
}

impl Column {
    fn title(self) -> &'static str {
        match self {
            Self::Machine => "all CPU µs/req",
            Self::Kib => "CPU ns/KiB",
            Self::Rps => "req/s",
            Self::P50 => "p50 µs",
            Self::P99 => "p99 µs",
            Self::Max => "max µs",
            Self::Switches => "switches/req",
            Self::Bytes => "bytes/answer",
            Self::Little => "in flight",
        }
    }

    /// Whether the figure moves with the machine's speed.
    fn is_absolute(self) -> bool {
        !matches!(self, Self::Switches | Self::Bytes | Self::Little)
    }

    fn text(self, row: &Row, figures: &Figures) -> String {
        // Latencies of a schedule have a table of their own.
        let closed = figures.latency.as_ref().filter(|_latency| !row.is_paced());
        let whole = |value: Option<f64>| value.map_or_else(|| NONE.into(), table::thousands);
        match self {
            Self::Machine => decimals(figures.machine_us, 2),
            Self::Kib => decimals(figures.ns_per_kib, 0),
            Self::Rps => whole(figures.rps.map(|rps| rps.mid)),
            Self::P50 => whole(closed.map(|latency| latency.p50_us.mid)),
            Self::P99 => whole(closed.and_then(|latency| Some(latency.p99_us?.mid))),
            Self::Max => whole(closed.map(|latency| latency.max_us)),
            Self::Switches => decimals(figures.switches, 3),
            Self::Bytes => whole(figures.answer_bytes),
            Self::Little => decimals(figures.little, 2),
        }
    }
}

const COLUMNS: [Column; 9] = [
    Column::Machine,
    Column::Kib,
    Column::Rps,
    Column::P50,
    Column::P99,
    Column::Max,
    Column::Switches,
    Column::Bytes,
    Column::Little,
];
