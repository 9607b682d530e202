//! Latency by percentile, and over the offered rate.

use hdrhistogram::Histogram;

use super::canvas::{Axis, Figure, Ink, LEFT, Mark, Panel};
use super::scale::{self, Times};
use super::{Inks, layer, subjects};
use crate::probe::rate::SHARE_KEY;
use crate::summary::grid::RowGrid;
use crate::summary::{Latency, Row, Workload, cell};

/// One curve for each subject, cut where fewer than ten samples lie behind a value. Only of loads at a rate: a closed
/// loop does not ask while it is stalled.
pub(super) fn by_percentile(
    workload: &str,
    row: &Row,
    grid: &RowGrid<'_>,
    inks: &Inks,
) -> Option<(String, Figure)> {
    if !row.is_paced() {
        return None;
    }
    let mut curves: Vec<(&str, Vec<(f64, f64)>)> = Vec::new();
    for (cell, of_grid) in row.cells.iter().zip(&grid.cells) {
        if cell.control || cell.published_latency(true).is_none() {
            continue;
        }
        let times = cell::merged(of_grid.counted());
        curves.extend(times.map(|times| (cell.subject.as_str(), curve(&times))));
    }
    let points = || curves.iter().flat_map(|(_subject, points)| points);
    let nines_max = points().map(|point| point.0).fold(0.0, f64::max);
    if nines_max < 1.0 {
        return None; // Not even ten samples behind the 90th percentile.
    }
    let times = Times::of("latency", points().map(|point| point.1));
    let subjects = curves.iter().map(|(subject, _points)| *subject);
    let legend = inks.legend(subjects);
    let layers = curves.iter().map(|(subject, points)| {
        let placed = points
            .iter()
            .map(|(nines, nanos)| (*nines, times.place(*nanos)));
        layer(inks.ink(subject), Mark::Line(placed.collect()))
    });
    let panel = Panel {
        title: String::new(),
        left: LEFT,
        x: percentiles(nines_max),
        y: times.axis.clone(),
        layers: layers.collect(),
    };
    Some((
        format!("latency-{workload}-{}", row.name),
        Figure {
            title: format!("{workload} {}: latency by percentile", row.name),
            columns: 1,
            panel_size: (860, 380),
            panels: vec![panel],
            legend,
            notes: vec![
                "From the due moment, all rounds; cut where fewer than ten samples lie behind."
                    .into(),
            ],
        },
    ))
}

/// Three panels, for the median, the 99th and the 99.9th percentile; none where there are fewer than two rates.
pub(super) fn over_rate(workload: &Workload, inks: &Inks) -> Option<(String, Figure)> {
    let mut rates: Vec<f64> = Vec::new();
    for rate in workload.rows.iter().filter_map(|row| row.params.rate) {
        if rate > 0.0 && !rates.contains(&rate) {
            rates.push(rate);
        }
    }
    rates.sort_by(f64::total_cmp);
    if rates.len() < 2 {
        return None;
    }
    let quantiles: [Quantile; 3] = [
        ("p50", |latency| Some(latency.p50_us.mid)),
        ("p99", |latency| Some(latency.p99_us?.mid)),
        ("p99.9", |latency| latency.p999_us),
    ];
    let subjects = subjects(workload);
    let panels = quantiles.map(|quantile| rate_panel(workload, &subjects, &rates, quantile, inks));
    let mut notes =
        vec!["A rate at which the load generator was the limit is left out.".to_owned()];
    let shares: Vec<String> = shares(workload)
        .map(|(part, rate)| format!("{:.0} % at {rate:.0}/s", part * 100.0))
        .collect();
    if !shares.is_empty() {
        notes.push(format!(
            "Grey lines: parts of what the slowest proxy reached in a closed loop, {}.",
            shares.join(", ")
        ));
    }
    Some((
        format!("rate-{}", workload.name),
        Figure {
            title: format!("{}: latency over the offered rate", workload.name),
            columns: 3,
            panel_size: (340, 340),
            panels: panels.into(),
            legend: inks.legend(subjects.into_iter()),
            notes,
        },
    ))
}

/// The parts of the slowest proxy's rate that rows were measured at, with the rates.
fn shares(workload: &Workload) -> impl Iterator<Item = (f64, f64)> {
    let rows = workload.rows.iter();
    rows.filter_map(|row| {
        let part = row.params.other.get(SHARE_KEY)?.as_f64()?;
        Some((part, row.params.rate?))
    })
}

/// A name, and what it is in µs.
type Quantile = (&'static str, fn(&Latency) -> Option<f64>);

fn rate_panel(
    workload: &Workload,
    subjects: &[&str],
    rates: &[f64],
    (title, quantile): Quantile,
    inks: &Inks,
) -> Panel {
    let mut curves = Vec::new();
    for subject in subjects {
        let rows = workload.rows.iter();
        let mut points: Vec<(f64, f64)> = rows
            .filter_map(|row| {
                let latency = row.cell(subject)?.published_latency(true)?;
                Some((row.params.rate?, quantile(latency)? * 1e3))
            })
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        curves.push((*subject, points));
    }
    let nanos = curves.iter().flat_map(|(_, points)| points);
    let times = Times::of("", nanos.map(|point| point.1));
    let mut layers = Vec::new();
    for (_part, rate) in shares(workload) {
        let ends = [times.axis.low, times.axis.high].map(|end| (rate, end));
        layers.push(layer(Ink::Grey(2), Mark::Line(ends.to_vec())));
    }
    for (subject, points) in &curves {
        let placed: Vec<(f64, f64)> = points
            .iter()
            .map(|(rate, nanos)| (*rate, times.place(*nanos)))
            .collect();
        layers.push(layer(inks.ink(subject), Mark::Line(placed.clone())));
        layers.push(layer(inks.ink(subject), Mark::Dots(placed)));
    }
    Panel {
        title: title.into(),
        left: LEFT,
        x: scale::linear("requests/s", rates.iter().copied(), ""),
        y: times.axis,
        layers,
    }
}

/// Nines of the percentile, and the value in ns.
fn curve(times: &Histogram<u64>) -> Vec<(f64, f64)> {
    let total = times.len();
    let steps = hp_bench::report::steps(times).into_iter();
    steps
        .filter(|step| step.percent < 100.0 && total.saturating_sub(step.below) >= SAMPLES_MIN)
        .map(|step| (-(1.0 - step.percent / 100.0).log10(), step.value as f64))
        .collect()
}

/// `0`, `90`, `99`, `99.9` at the whole numbers of nines.
fn percentiles(nines_max: f64) -> Axis {
    let labels = [
        "0", "90", "99", "99.9", "99.99", "99.999", "99.9999", "99.99999",
    ];
    let ticks = (0..).map(f64::from).zip(labels);
    Axis {
        name: "percentile".into(),
        low: 0.0,
        high: nines_max,
        ticks: ticks
            .take_while(|(at, _label)| *at <= nines_max)
            .map(|(at, label)| (at, label.to_owned()))
            .collect(),
    }
}

const SAMPLES_MIN: u64 = 10;
