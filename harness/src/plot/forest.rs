//! Ratios with their intervals, a line at 1, and a band for the noise.

use super::canvas::{Axis, Figure, Ink, Mark, Panel};
use super::{Inks, layer, scale};
use crate::summary::ratio::{Quantity, Ratio};
use crate::summary::{Row, Summary};

/// One figure for each reference, a line for each subject and load.
pub(super) fn figures(summary: &Summary, inks: &Inks) -> Vec<(String, Figure)> {
    let mut references: Vec<&str> = Vec::new();
    for reference in summary
        .workloads
        .iter()
        .flat_map(|workload| &workload.references)
    {
        if !references.contains(&reference.as_str()) {
            references.push(reference);
        }
    }
    references
        .into_iter()
        .filter_map(|reference| figure(summary, reference, inks))
        .collect()
}

/// A line of the forest.
struct Entry<'a> {
    label: String,
    subject: &'a str,
    ratio: &'a Ratio,
    row: &'a Row,
}

fn figure(summary: &Summary, reference: &str, inks: &Inks) -> Option<(String, Figure)> {
    let mut entries = Vec::new();
    for workload in &summary.workloads {
        for row in &workload.rows {
            for cell in row.cells.iter().filter(|cell| !cell.control) {
                let ratio = cell.ratio(Quantity::Cost, reference);
                entries.extend(ratio.map(|ratio| Entry {
                    label: format!("{} {} {}", workload.name, row.name, cell.subject),
                    subject: &cell.subject,
                    ratio,
                    row,
                }));
            }
        }
    }
    let left_out = entries.len().saturating_sub(LINES_MAX);
    entries.truncate(LINES_MAX);
    if entries.is_empty() {
        return None;
    }
    let mut notes = vec![
        "Points: medians of paired rounds; lines: 95 % intervals; grey: the A/A interval.".into(),
    ];
    if left_out > 0 {
        notes.push(format!("{left_out} more are in the tables."));
    }
    let height = 110 + 18 * u32::try_from(entries.len()).unwrap_or(0);
    Some((
        format!("forest-{reference}"),
        Figure {
            title: format!("CPU per request by that of {reference}"),
            columns: 1,
            panel_size: (860, height),
            panels: vec![panel(&entries, reference, inks)],
            legend: Vec::new(),
            notes,
        },
    ))
}

fn panel(entries: &[Entry<'_>], reference: &str, inks: &Inks) -> Panel {
    let bounds = entries
        .iter()
        .flat_map(|entry| [entry.ratio.low, entry.ratio.high])
        .chain([1.0]);
    let x = scale::around("ratio", bounds.map(|bound| bound.min(RATIO_SHOWN_MAX)), "");
    let count = f64::from(u32::try_from(entries.len()).unwrap_or(u32::MAX));
    let mut layers = Vec::new();
    let mut ticks = Vec::new();
    for (number, entry) in (0..).map(f64::from).zip(entries) {
        let at = count - number - 0.5;
        ticks.push((at, entry.label.clone()));
        let noise = entry
            .row
            .noise
            .iter()
            .find(|noise| noise.of == Quantity::Cost);
        layers.extend(noise.map(|noise| {
            let corner = |x: f64, y: f64| (x, y);
            let (from, to) = (corner(noise.low, at - 0.5), corner(noise.high, at + 0.5));
            layer(Ink::Grey(1), Mark::Cell(from, to, NOISE_DARKNESS))
        }));
        let ink = inks.ink(entry.subject);
        let ends = vec![(entry.ratio.low, at), (entry.ratio.high, at)];
        layers.push(layer(ink, Mark::Line(ends)));
        layers.push(layer(ink, Mark::Dots(vec![(entry.ratio.ratio, at)])));
    }
    let chars = entries
        .iter()
        .map(|entry| entry.label.chars().count())
        .max();
    let left = 24 + 7 * u32::try_from(chars.unwrap_or(0)).unwrap_or(0).min(60);
    let one = vec![(1.0, 0.0), (1.0, count)];
    layers.push(layer(Ink::Text, Mark::Line(one)));
    Panel {
        title: format!("left of 1: cheaper than {reference}"),
        left,
        x,
        y: Axis {
            name: String::new(),
            low: 0.0,
            high: count,
            ticks,
        },
        layers,
    }
}

const LINES_MAX: usize = 90;
const NOISE_DARKNESS: f64 = 0.35;
/// A ratio beyond this stands at the edge: one slow subject must not squeeze all others.
const RATIO_SHOWN_MAX: f64 = 8.0;
