//! Answers by round and latency: the darker the more. Shows rounds that a stall made different, which percentiles blur.

use super::canvas::{Axis, Figure, Ink, LEFT, Mark, Panel};
use super::layer;
use super::scale::Times;
use crate::summary::Row;
use crate::summary::cell;
use crate::summary::grid::{CellGrid, RowGrid};

/// One panel for each subject of a load at a rate; none where no subject has two rounds of histograms.
pub(super) fn figure(workload: &str, row: &Row, grid: &RowGrid<'_>) -> Option<(String, Figure)> {
    if !row.is_paced() {
        return None;
    }
    let cells: Vec<(&CellGrid<'_>, Vec<Round>)> = grid
        .cells
        .iter()
        .filter(|cell| !cell.control && !cell.has_failed())
        .map(|cell| (cell, rounds(cell)))
        .filter(|(_cell, rounds)| rounds.len() >= 2)
        .take(PANELS_MAX)
        .collect();
    let times = Times::of_log(
        "latency",
        cells
            .iter()
            .flat_map(|(_cell, rounds)| rounds)
            .flat_map(|round| round.counts.iter().map(|(nanos, _count)| *nanos)),
    );
    let panels: Vec<Panel> = cells
        .iter()
        .map(|(cell, rounds)| panel(cell.subject, rounds, &times))
        .collect();
    if panels.is_empty() {
        return None;
    }
    Some((
        format!("heat-{workload}-{}", row.name),
        Figure {
            title: format!("{workload} {}: answers by round and latency", row.name),
            columns: 2,
            panel_size: (480, 280),
            panels,
            legend: Vec::new(),
            notes: vec!["Darkness: logarithm of the count; rounds in order of time.".into()],
        },
    ))
}

/// One column: values in ns, and how many answers took so long.
struct Round {
    number: u32,
    counts: Vec<(f64, u64)>,
}

fn rounds(cell: &CellGrid<'_>) -> Vec<Round> {
    let counted = cell.counted().filter_map(|record| {
        let times = cell::times(record)?;
        let slots = times.iter_recorded();
        let counts = slots.map(|slot| (slot.value_iterated_to() as f64, slot.count_at_value()));
        Some(Round {
            number: record.round,
            counts: counts.collect(),
        })
    });
    counted
        .filter(|round| !round.counts.is_empty())
        .take(ROUNDS_MAX)
        .collect()
}

fn panel(subject: &str, rounds: &[Round], times: &Times) -> Panel {
    let (low, high) = (times.axis.low, times.axis.high);
    let height = (high - low) / f64::from(BINS);
    let mut binned = vec![[0_u64; BINS as usize]; rounds.len()];
    for (bins, round) in binned.iter_mut().zip(rounds) {
        for (nanos, count) in &round.counts {
            let share = ((times.place(*nanos) - low) / (high - low)).clamp(0.0, 1.0);
            let bin = (0..BINS)
                .rev()
                .find(|bin| share * f64::from(BINS) >= f64::from(*bin));
            if let Some(sum) = bins.get_mut(bin.unwrap_or(0) as usize) {
                *sum = sum.saturating_add(*count);
            }
        }
    }
    let most = binned.iter().flatten().copied().max().unwrap_or(1).max(1);
    let mut layers = Vec::new();
    for (column, bins) in (0..).map(f64::from).zip(&binned) {
        for (bin, &count) in (0..BINS).zip(bins).filter(|(_bin, count)| **count > 0) {
            let bottom = low + f64::from(bin) * height;
            let darkness = 0.12 + 0.88 * (count as f64 + 1.0).ln() / (most as f64 + 1.0).ln();
            let mark = Mark::Cell((column, bottom), (column + 1.0, bottom + height), darkness);
            layers.push(layer(Ink::Color(0), mark));
        }
    }
    let every = rounds.len().div_ceil(10);
    let ticks = (0..)
        .map(f64::from)
        .zip(rounds)
        .step_by(every.max(1))
        .map(|(column, round)| (column + 0.5, round.number.to_string()));
    Panel {
        title: subject.to_owned(),
        left: LEFT,
        x: Axis {
            name: "round".into(),
            low: 0.0,
            high: f64::from(u32::try_from(rounds.len()).unwrap_or(u32::MAX)),
            ticks: ticks.collect(),
        },
        y: times.axis.clone(),
        layers,
    }
}

const BINS: u32 = 28;
const ROUNDS_MAX: usize = 60;
const PANELS_MAX: usize = 8;
