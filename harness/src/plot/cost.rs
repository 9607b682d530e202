//! CPU time per request and throughput over connections.

use super::canvas::{Axis, Figure, LEFT, Mark, Panel};
use super::{Inks, layer, scale, subjects};
use crate::raw::{Limit, Record};
use crate::summary::grid::WorkloadGrid;
use crate::summary::{Figures, Spread, Workload, cell};

/// Points of all rounds, a line through the medians, and a band for their intervals; throughput is hollow where the
/// proxy was not the limit. None where there are fewer than two numbers of connections.
pub(super) fn figure(
    workload: &Workload,
    grid: &WorkloadGrid<'_>,
    inks: &Inks,
) -> Option<(String, Figure)> {
    let mut counts: Vec<f64> = Vec::new();
    for row in workload.rows.iter().filter(|row| !row.is_paced()) {
        let count = f64::from(row.params.connections);
        if count > 0.0 && !counts.contains(&count) {
            counts.push(count);
        }
    }
    counts.sort_by(f64::total_cmp);
    let has_cost = workload.rows.iter().flat_map(|row| &row.cells);
    let has_cost = has_cost
        .filter_map(|cell| cell.figures.as_ref())
        .any(|figures| figures.cost_us.is_some());
    if counts.len() < 2 || !has_cost {
        return None;
    }
    let x = scale::doublings("connections", &counts);
    let subjects = subjects(workload);
    let cost = Quantity {
        title: "CPU µs per request",
        point: cell::cost_us,
        spread: |figures| figures.cost_us,
        is_own: |_limit| true,
    };
    let rate = Quantity {
        title: "requests per second",
        point: cell::rps,
        spread: |figures| figures.rps,
        is_own: |limit| limit == Some(Limit::Proxy),
    };
    let panels = [cost, rate].map(|quantity| panel(workload, grid, &subjects, &quantity, &x, inks));
    Some((
        format!("cost-{}", workload.name),
        Figure {
            title: format!("{}: cost and throughput over connections", workload.name),
            columns: 2,
            panel_size: (480, 360),
            panels: panels.into(),
            legend: inks.legend(subjects.into_iter()),
            notes: vec![
                "Lines: medians; bands: 95 % intervals; points: rounds, hollow where the proxy was not the limit.".into(),
            ],
        },
    ))
}

/// One panel's figure.
struct Quantity {
    title: &'static str,
    point: fn(&Record) -> Option<f64>,
    spread: fn(&Figures) -> Option<Spread>,
    is_own: fn(Option<Limit>) -> bool,
}

fn panel(
    workload: &Workload,
    grid: &WorkloadGrid<'_>,
    subjects: &[&str],
    quantity: &Quantity,
    x: &Axis,
    inks: &Inks,
) -> Panel {
    let mut layers = Vec::new();
    let mut values: Vec<f64> = Vec::new();
    for subject in subjects {
        let ink = inks.ink(subject);
        let (mut medians, mut band) = (Vec::new(), Vec::new());
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for (row, of_grid) in workload.rows.iter().zip(&grid.rows) {
            if row.is_paced() || row.params.connections == 0 {
                continue;
            }
            let at = f64::from(row.params.connections).log2();
            let figures = row.cell(subject).and_then(|cell| cell.figures.as_ref());
            let Some(spread) = figures.and_then(quantity.spread) else {
                continue;
            };
            medians.push((at, spread.mid));
            band.push((at, spread.low, spread.high));
            let visits = of_grid.cell(subject).into_iter();
            for record in visits.flat_map(|cell| cell.counted()) {
                if let Some(value) = (quantity.point)(record) {
                    let is_own = (quantity.is_own)(record.verdict);
                    let points = if is_own { &mut own } else { &mut others };
                    points.push((at, value));
                    values.push(value);
                }
            }
        }
        layers.push(layer(ink, Mark::Band(band)));
        layers.push(layer(ink, Mark::Line(medians)));
        layers.push(layer(ink, Mark::Dots(own)));
        layers.push(layer(ink, Mark::Rings(others)));
    }
    Panel {
        title: quantity.title.into(),
        left: LEFT,
        x: x.clone(),
        y: scale::linear("", values.into_iter(), ""),
        layers,
    }
}
