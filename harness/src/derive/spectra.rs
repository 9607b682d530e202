//! `hist/*.hgrm`: the percentile spectrum of each cell, all rounds together, as HdrHistogram's plotters read it.

use hp_bench::report::{spectrum, thin_line};

use crate::plot::file_name;
use crate::summary::grid::{CellGrid, Grid};
use crate::summary::{Row, Summary, cell};

/// Names without their ending, contents, and what a page says of them.
pub(super) struct Spectra {
    pub(super) files: Vec<(String, String)>,
    pub(super) notes: Vec<String>,
}

/// Loads at a rate first, then closed loops, as many as the session's share of bytes has room for.
pub(super) fn files(grid: &Grid<'_>, summary: &Summary) -> Spectra {
    let mut cells: Vec<(String, bool, &CellGrid<'_>)> = Vec::new();
    for (workload, of_grid) in summary.workloads.iter().zip(&grid.workloads) {
        for (row, of_grid) in workload.rows.iter().zip(&of_grid.rows) {
            let published = of_grid.cells.iter().filter(|cell| is_published(row, cell));
            cells.extend(published.map(|cell| {
                let name = format!("{}-{}-{}", workload.name, row.name, cell.subject);
                (name, row.is_paced(), cell)
            }));
        }
    }
    cells.sort_by_key(|(_name, is_paced, _cell)| !is_paced);
    let (mut files, mut bytes, mut left_out) = (Vec::<(String, String)>::new(), 0, 0_u32);
    for (name, _is_paced, cell) in cells {
        let Some(times) = cell::merged(cell.counted()) else {
            continue; // Closed loops keep percentiles only.
        };
        let text = spectrum(&times) + &thin_line(&times);
        if bytes + text.len() > BYTES_MAX {
            left_out += 1;
            continue;
        }
        bytes += text.len();
        let name = file_name(&name, |name| {
            files.iter().any(|(taken, _text)| taken == name)
        });
        files.push((name, text));
    }
    let mut notes = Vec::new();
    if !files.is_empty() {
        notes.push(
            "`hist/` has whole latency distributions, all rounds together, for HdrHistogram's plotters."
                .into(),
        );
    }
    if left_out > 0 {
        notes.push(format!(
            "{left_out} more distributions are in the raw file only: the folder has a bound."
        ));
    }
    Spectra { files, notes }
}

fn is_published(row: &Row, cell: &CellGrid<'_>) -> bool {
    let derived = row.cell(cell.subject);
    !cell.control
        && derived.is_some_and(|derived| derived.published_latency(row.is_paced()).is_some())
}

/// An eighth of what a session may have.
const BYTES_MAX: usize = 256 * 1024;
