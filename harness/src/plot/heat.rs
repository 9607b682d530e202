//! Answers by time and latency: the darker the more. Shows stalls, which percentiles blur. A column is a second of the load, round after
//! round; of records that are older than their seconds it is a round.

use std::collections::BTreeMap;

use super::canvas::{Axis, Figure, Ink, LEFT, Layer, Mark, Panel};
use super::layer;
use super::scale::Times;
use crate::raw::BINS_PER_DECADE;
use crate::summary::Row;
use crate::summary::cell;
use crate::summary::grid::{CellGrid, RowGrid};

/// One panel for each subject of a load at a rate; none where no subject has two columns.
pub(super) fn figure(workload: &str, row: &Row, grid: &RowGrid<'_>) -> Option<(String, Figure)> {
    if !row.is_paced() {
        return None;
    }
    by_second(workload, row, grid).or_else(|| by_round(workload, row, grid))
}

/// None where no subject has seconds.
fn by_second(workload: &str, row: &Row, grid: &RowGrid<'_>) -> Option<(String, Figure)> {
    let cells: Vec<(&str, Vec<Second<'_>>)> = grid
        .cells
        .iter()
        .filter(|cell| !cell.control && !cell.has_failed())
        .map(|cell| (cell.subject, seconds(cell)))
        .filter(|(_subject, seconds)| seconds.len() >= 2)
        .take(PANELS_MAX)
        .collect();
    let all = || cells.iter().flat_map(|(_subject, seconds)| seconds);
    let bins = all().flat_map(|second| second.bins.iter().map(|(bin, _count)| edge(*bin)));
    let times = Times::of_log("latency", bins.map(|power| 10_f64.powf(power)));
    let longest = cells
        .iter()
        .map(|(_subject, seconds)| seconds.len())
        .max()?;
    let width = longest.div_ceil(COLUMNS_MAX);
    let panels = cells.iter().map(|(subject, seconds)| Panel {
        title: (*subject).to_owned(),
        left: LEFT,
        x: rounds_axis(seconds, width),
        y: times.axis.clone(),
        layers: cells_of(seconds, width),
    });
    let column = match width {
        1 => "one second".to_owned(),
        width => format!("{width} seconds"),
    };
    Some((
        format!("heat-{workload}-{}", row.name),
        Figure {
            title: format!("{workload} {}: answers by second and latency", row.name),
            columns: 2,
            panel_size: (480, 280),
            panels: panels.collect(),
            legend: Vec::new(),
            notes: vec![format!(
                "Darkness: logarithm of the count. A column is {column}; rounds in order of time, and numbers stand where one begins."
            )],
        },
    ))
}

/// One second of a round.
struct Second<'a> {
    round: u32,
    bins: &'a [(u16, u64)],
}

fn seconds<'a>(cell: &CellGrid<'a>) -> Vec<Second<'a>> {
    let seconds = cell.counted().flat_map(|record| {
        let seconds = record.seconds.iter();
        seconds.map(|second| Second {
            round: record.round,
            bins: &second.bins,
        })
    });
    seconds.take(SECONDS_MAX).collect()
}

/// Where a bin begins, as the power of ten of ns.
fn edge(bin: u16) -> f64 {
    f64::from(bin) / f64::from(BINS_PER_DECADE)
}

/// A filled cell for each bin of each column, which is so many seconds wide.
fn cells_of(seconds: &[Second<'_>], width: usize) -> Vec<Layer> {
    let columns = seconds.chunks(width.max(1)).map(|chunk| {
        let mut sums: BTreeMap<u16, u64> = BTreeMap::new();
        for (bin, count) in chunk.iter().flat_map(|second| second.bins) {
            let sum = sums.entry(*bin).or_default();
            *sum = sum.saturating_add(*count);
        }
        sums
    });
    let columns: Vec<BTreeMap<u16, u64>> = columns.collect();
    let most = columns.iter().flat_map(BTreeMap::values).copied().max();
    let most = most.unwrap_or(1).max(1);
    let mut layers = Vec::new();
    for (column, sums) in (0..).map(f64::from).zip(&columns) {
        for (bin, count) in sums {
            let (from, to) = (edge(*bin), edge(bin.saturating_add(1)));
            let mark = Mark::Cell((column, from), (column + 1.0, to), darkness(*count, most));
            layers.push(layer(Ink::Color(0), mark));
        }
    }
    layers
}

/// Columns, with each round's number where it begins, as far as there is room.
fn rounds_axis(seconds: &[Second<'_>], width: usize) -> Axis {
    let columns: Vec<u32> = seconds
        .chunks(width.max(1))
        .filter_map(|chunk| Some(chunk.first()?.round))
        .collect();
    let mut ticks: Vec<(f64, String)> = Vec::new();
    let mut last = None;
    for (at, round) in (0..).map(f64::from).zip(&columns) {
        if last != Some(round) {
            ticks.push((at, round.to_string()));
            last = Some(round);
        }
    }
    let every = ticks.len().div_ceil(10).max(1);
    Axis {
        name: "round".into(),
        low: 0.0,
        high: f64::from(u32::try_from(columns.len()).unwrap_or(u32::MAX)),
        ticks: ticks.into_iter().step_by(every).collect(),
    }
}

/// Never so light that nothing is seen.
fn darkness(count: u64, most: u64) -> f64 {
    0.12 + 0.88 * (count as f64 + 1.0).ln() / (most as f64 + 1.0).ln()
}

/// None where no subject has two rounds of histograms.
fn by_round(workload: &str, row: &Row, grid: &RowGrid<'_>) -> Option<(String, Figure)> {
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
            let to = (column + 1.0, bottom + height);
            let mark = Mark::Cell((column, bottom), to, darkness(count, most));
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
/// More columns would be narrower than a mark, and the file longer than a session has room for.
const COLUMNS_MAX: usize = 24;
const SECONDS_MAX: usize = 3_600;
