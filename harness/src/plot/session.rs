//! The calibrator over the session: drift at a glance.

use super::canvas::{Figure, Ink, LEFT, Mark, Panel};
use super::{layer, scale};
use crate::summary::Summary;
use crate::summary::drift;
use crate::summary::grid::Grid;

/// None where the calibrators say nothing.
pub(super) fn calibrator(grid: &Grid<'_>, summary: &Summary) -> Option<(String, Figure)> {
    let calibrator = summary.calibrator?;
    let placed = drift::joined(&grid.calibrators, &calibrator);
    let (first, last) = (placed.first()?.0, placed.last()?.0);
    let mean_at = placed.iter().map(|point| point.0).sum::<f64>() / placed.len() as f64;
    let rise = (1.0 + calibrator.change_pct / 100.0).max(0.01).ln();
    let span = (last - first).max(1e-9);
    let line = [first, last].map(|at| (at, (rise * (at - mean_at) / span).exp()));
    let ratios = placed.iter().map(|point| point.1).chain([0.97, 1.03]);
    let panel = Panel {
        title: String::new(),
        left: LEFT,
        x: scale::linear("minutes", placed.iter().map(|point| point.0), ""),
        y: scale::around("cost by its middle", ratios, ""),
        layers: vec![
            layer(Ink::Color(0), Mark::Line(line.to_vec())),
            layer(Ink::Color(0), Mark::Dots(placed)),
        ],
    };
    Some((
        "calibrator".into(),
        Figure {
            title: "The relay's CPU per request over the session".into(),
            columns: 1,
            panel_size: (860, 300),
            panels: vec![panel],
            legend: Vec::new(),
            notes: vec![format!(
                "Loads are joined by the slope that they have in common. Change {:+.1} % [{:+.1}, {:+.1}]{}.",
                calibrator.change_pct,
                calibrator.change_low_pct,
                calibrator.change_high_pct,
                if calibrator.drift { ": DRIFT" } else { "" }
            )],
        },
    ))
}
