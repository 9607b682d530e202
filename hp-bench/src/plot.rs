//! The plots of results, as SVG text that follows the reader's light or dark scheme.
//!
//! Must not know: files, pages.

mod canvas;
pub mod theme;

use std::fmt;

use hdrhistogram::Histogram;

use crate::format::{float, one_time};
use crate::report::{Shown, steps};
use crate::result::{DecodeError, Document, Second};

use canvas::{Axis, Cell, Content, Line, draw};

/// A plot with its name, which is a file's without its ending.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plot {
    /// Lower case, words joined by hyphens.
    pub name: String,
    /// SVG.
    pub svg: String,
}

/// Why there is no plot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PlotError {
    /// A histogram is none.
    Histogram(DecodeError),
    /// The drawing failed, in its own words.
    Drawing(String),
}

/// All plots of these results: those that compare them, then those of each.
///
/// # Errors
/// [`PlotError`].
pub fn plots(documents: &[Document]) -> Result<Vec<Plot>, PlotError> {
    let mut plots = Vec::new();
    let mut add = |name: &str, svg: Option<String>| {
        plots.extend(svg.map(|svg| Plot {
            name: name.to_owned(),
            svg,
        }));
    };
    add("latency-by-percentile", latency_by_percentile(documents)?);
    add("rate-over-time", rate_over_time(documents)?);
    for (number, document) in (1..).zip(documents) {
        let of_several = if documents.len() > 1 {
            format!("-{number}")
        } else {
            String::new()
        };
        add(
            &format!("latency-over-time{of_several}"),
            latency_over_time(document)?,
        );
        add(&format!("heat-map{of_several}"), heat_map(document)?);
    }
    Ok(plots)
}

/// A name, and what a second says about it in ns.
type Quantile = (&'static str, fn(&Second) -> u64);

/// The name of a result in legends.
pub fn label(document: &Document) -> String {
    let target = &document.target;
    let name = target.label.as_ref().unwrap_or(&target.url);
    name.chars().take(LABEL_CHARS_MAX).collect()
}

/// x: 1/(1-p) on a logarithmic scale; cut where fewer than ten samples lie behind a value.
fn latency_by_percentile(documents: &[Document]) -> Result<Option<String>, PlotError> {
    let mut curves = Vec::new();
    for document in documents {
        let shown = Shown::of(document).map_err(PlotError::Histogram)?;
        let several = documents.len() > 1;
        let name = |clock: &str| {
            if several {
                format!("{} {clock}", label(document))
            } else {
                clock.to_owned()
            }
        };
        let clock = if document.latency_ns.clock.is_empty() {
            "service"
        } else {
            &document.latency_ns.clock
        };
        curves.extend(shown.headline().map(|times| (name(clock), curve(times))));
        let is_paced = shown.response.is_some();
        let service = shown
            .service
            .as_ref()
            .filter(|times| is_paced && !times.is_empty());
        curves.extend(service.map(|times| (name("service"), curve(times))));
    }
    let scale = Scale::of(
        curves
            .iter()
            .flat_map(|(_, points)| points.iter().map(|(_, nanos)| *nanos)),
    );
    let Some(scale) = scale else {
        return Ok(None);
    };
    let last = curves
        .iter()
        .flat_map(|(_, points)| points)
        .map(|(x, _)| *x)
        .fold(1.0, f64::max);
    let curves: Vec<Line> = curves
        .into_iter()
        .map(|(name, points)| Line {
            name,
            points: points
                .into_iter()
                .map(|(x, nanos)| (x, scale.place(nanos)))
                .collect(),
        })
        .collect();
    let x = Axis {
        name: "percentile",
        range: 0.0..last,
        label: &percentile_label,
    };
    drawn(draw(
        "Latency by percentile",
        &x,
        &scale.axis("latency"),
        &Content::Lines(&curves),
    ))
}

fn rate_over_time(documents: &[Document]) -> Result<Option<String>, PlotError> {
    let lines_of = documents
        .iter()
        .filter(|document| !document.series.is_empty());
    let curves: Vec<Line> = lines_of
        .map(|document| Line {
            name: label(document),
            points: whole_seconds(document)
                .map(|second| (float(second.t), float(second.n)))
                .collect(),
        })
        .collect();
    let points = || curves.iter().flat_map(|line| &line.points);
    let (last, most) = points().fold((0.0, 0.0), |(t, n), point| {
        (f64::max(t, point.0), f64::max(n, point.1))
    });
    if points().count() < 2 {
        return Ok(None); // One second is a point, not a line.
    }
    let y = Axis {
        name: "requests/s",
        range: 0.0..f64::max(most * 1.05, 1.0),
        label: &|number| format!("{number:.0}"),
    };
    drawn(draw(
        "Requests per second",
        &seconds_axis(last),
        &y,
        &Content::Lines(&curves),
    ))
}

fn latency_over_time(document: &Document) -> Result<Option<String>, PlotError> {
    let answered: Vec<&Second> = whole_seconds(document)
        .filter(|second| second.n > 0 && second.max > 0)
        .collect();
    let scale = Scale::of(
        answered
            .iter()
            .flat_map(|second| [float(second.p50), float(second.max)]),
    );
    let Some(scale) = scale.filter(|_scale| answered.len() > 1) else {
        return Ok(None);
    };
    let last = answered
        .iter()
        .map(|second| float(second.t))
        .fold(0.0, f64::max);
    let quantiles: [Quantile; 3] = [
        ("p50", |second| second.p50),
        ("p99", |second| second.p99),
        ("max", |second| second.max),
    ];
    let curves: Vec<Line> = quantiles
        .into_iter()
        .map(|(name, quantile)| Line {
            name: name.to_owned(),
            points: answered
                .iter()
                .map(|second| (float(second.t), scale.place(float(quantile(second)))))
                .collect(),
        })
        .collect();
    let title = format!("Latency per second, {}", label(document));
    drawn(draw(
        &title,
        &seconds_axis(last),
        &scale.axis("latency"),
        &Content::Lines(&curves),
    ))
}

/// Shows stalls that percentiles blur: one cell for a time and a latency, the darker the more answers.
fn heat_map(document: &Document) -> Result<Option<String>, PlotError> {
    let with_times = || {
        document
            .series
            .iter()
            .filter(|second| second.hist.is_some())
    };
    let last = with_times().map(|second| second.t).max().unwrap_or(0);
    let least = std::iter::once(float(document.latency_ns.min));
    let most = with_times().flat_map(|second| [float(second.p50), float(second.max)]);
    let Some(scale) = Scale::of_log(least.chain(most)) else {
        return Ok(None);
    };
    if with_times().count() < 2 {
        return Ok(None);
    }
    let mut counts = vec![[0_u64; ROWS]; COLUMNS];
    let width = last.div_ceil(COLUMNS as u64).max(1);
    for second in with_times() {
        let Some(encoded) = &second.hist else {
            continue;
        };
        let times = encoded.decode().map_err(PlotError::Histogram)?;
        let column = usize::try_from(second.t.saturating_sub(1) / width).unwrap_or(usize::MAX);
        for step in times.iter_recorded() {
            let row = scale.row(float(step.value_iterated_to()));
            if let Some(count) = counts.get_mut(column).and_then(|rows| rows.get_mut(row)) {
                *count = count.saturating_add(step.count_at_value());
            }
        }
    }
    let most = counts.iter().flatten().copied().max().unwrap_or(1);
    let darkness = |count: u64| 0.15 + 0.85 * (float(count) + 1.0).ln() / (float(most) + 1.0).ln();
    let height = (scale.high - scale.low) / float(ROWS as u64);
    let mut heat = Vec::new();
    for (column, rows) in (0_u64..).zip(&counts) {
        for (row, &count) in (0_u64..).zip(rows).filter(|(_, count)| **count > 0) {
            let (left, bottom) = (float(column * width), scale.low + float(row) * height);
            heat.push(Cell {
                from: (left, bottom),
                to: (left + float(width), bottom + height),
                darkness: darkness(count),
            });
        }
    }
    let title = format!("Answers by time and latency, {}", label(document));
    let columns_used = last.div_ceil(width);
    drawn(draw(
        &title,
        &seconds_axis(float(columns_used * width)),
        &scale.axis("latency"),
        &Content::Cells(&heat),
    ))
}

/// Only whole seconds compare; the last entry may be a part of one.
fn whole_seconds(document: &Document) -> impl Iterator<Item = &Second> {
    let elapsed_s = document.run.elapsed_s;
    document
        .series
        .iter()
        .filter(move |second| float(second.t) <= elapsed_s)
}

fn curve(times: &Histogram<u64>) -> Vec<(f64, f64)> {
    let total = times.len();
    let behind = |below: u64| total.saturating_sub(below) >= SAMPLES_MIN.min(total / 2);
    steps(times)
        .into_iter()
        .filter(|step| step.percent < 100.0 && behind(step.below))
        .map(|step| (-(1.0 - step.percent / 100.0).log10(), float(step.value)))
        .collect()
}

fn seconds_axis(last: f64) -> Axis<'static> {
    Axis {
        name: "seconds",
        range: 0.0..f64::max(last, 1.0),
        label: &whole_label,
    }
}

/// Nothing where there is no whole second.
fn whole_label(number: f64) -> String {
    if (number - number.round()).abs() > 1e-6 {
        return String::new();
    }
    format!("{number:.0}")
}

/// `0`, `90`, `99`, `99.9` at the whole numbers.
fn percentile_label(nines: f64) -> String {
    let whole = nines.round();
    if (nines - whole).abs() > 1e-6 {
        return String::new();
    }
    match crate::format::whole(whole) {
        0 => "0".to_owned(),
        1 => "90".to_owned(),
        2 => "99".to_owned(),
        nines => {
            let after = usize::try_from(nines - 2).unwrap_or(0).min(NINES_MAX);
            format!("99.{}", "9".repeat(after))
        }
    }
}

/// Where a latency lies on an axis: logarithmic where the largest is many times the smallest.
#[derive(Clone, Copy, Debug)]
struct Scale {
    low: f64,
    high: f64,
    is_log: bool,
}

impl Scale {
    fn of(nanos: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        let (low, high) = ends(nanos.clone())?;
        if high / low > LOG_FROM {
            return Self::of_log(nanos);
        }
        Some(Self {
            low: 0.0,
            high: high * 1.05,
            is_log: false,
        })
    }

    fn of_log(nanos: impl Iterator<Item = f64>) -> Option<Self> {
        let (low, high) = ends(nanos)?;
        Some(Self {
            low: (low / 2.0).log10(),
            high: (high * 1.2).log10(),
            is_log: true,
        })
    }

    fn place(&self, nanos: f64) -> f64 {
        if self.is_log {
            f64::max(nanos, 1.0).log10().clamp(self.low, self.high)
        } else {
            nanos
        }
    }

    /// Of [`ROWS`], from below.
    fn row(&self, nanos: f64) -> usize {
        let share = (self.place(nanos) - self.low) / (self.high - self.low);
        let row = crate::format::whole((share * float(ROWS as u64)).floor());
        usize::try_from(row).unwrap_or(0).min(ROWS - 1)
    }

    fn axis(&self, name: &'static str) -> Axis<'static> {
        Axis {
            name,
            range: self.low..self.high,
            label: if self.is_log {
                &|log| one_time(10_f64.powf(log))
            } else {
                &|nanos| one_time(nanos)
            },
        }
    }
}

/// The smallest and the largest of what is above 0.
fn ends(nanos: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    nanos
        .filter(|nanos| *nanos > 0.0)
        .fold(None, |ends, nanos| {
            let (low, high) = ends.unwrap_or((nanos, nanos));
            Some((f64::min(low, nanos), f64::max(high, nanos)))
        })
}

fn drawn(svg: Result<String, String>) -> Result<Option<String>, PlotError> {
    svg.map(Some).map_err(PlotError::Drawing)
}

impl fmt::Display for PlotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Histogram(cause) => write!(f, "a histogram is damaged: {cause}"),
            Self::Drawing(cause) => write!(f, "cannot draw: {cause}"),
        }
    }
}

impl std::error::Error for PlotError {}

const COLUMNS: usize = 120;
const ROWS: usize = 32;
const SAMPLES_MIN: u64 = 10;
const LOG_FROM: f64 = 30.0;
const LABEL_CHARS_MAX: usize = 60;
const NINES_MAX: usize = 12;

#[cfg(test)]
mod tests;
