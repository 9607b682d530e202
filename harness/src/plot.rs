//! The plots of a session, as SVG text that follows the reader's light or dark scheme.
//!
//! Must not know: files.

mod canvas;
mod cost;
mod forest;
mod heat;
mod latency;
mod memory;
mod scale;
mod session;

use crate::summary::grid::{self, Grid};
use crate::summary::{Summary, Workload};

use canvas::{Figure, Ink, Layer, Mark, draw};

/// A plot with its name, which is a file's without its ending.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plot {
    /// Small letters, digits and hyphens.
    pub name: String,
    /// SVG.
    pub svg: String,
}

/// The plots of a session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drawn {
    /// In the order of a page.
    pub(crate) plots: Vec<Plot>,
    /// How many had no room.
    pub(crate) left_out: u32,
}

/// All plots that the session has data for and room: ratios, cost, latency over rates, memory, the calibrator, then
/// latency by percentile, then heat maps.
///
/// # Errors
/// The drawing crate's own words.
pub(crate) fn plots(grid: &Grid<'_>, summary: &Summary) -> Result<Drawn, String> {
    let inks = Inks::of(summary);
    let mut figures: Vec<(String, Figure)> = Vec::new();
    figures.extend(forest::figures(summary, &inks));
    for (workload, of_grid) in summary.workloads.iter().zip(&grid.workloads) {
        figures.extend(cost::figure(workload, of_grid, &inks));
        figures.extend(latency::over_rate(workload, &inks));
        figures.extend(memory::figure(workload, &inks));
    }
    figures.extend(session::calibrator(grid, summary));
    let rows = || {
        let workloads = summary.workloads.iter().zip(&grid.workloads);
        workloads.flat_map(|(workload, of_grid)| {
            let rows = workload.rows.iter().zip(&of_grid.rows);
            rows.map(move |(row, of_grid)| (&workload.name, row, of_grid))
        })
    };
    for (workload, row, of_grid) in rows() {
        figures.extend(latency::by_percentile(workload, row, of_grid, &inks));
    }
    for (workload, row, of_grid) in rows() {
        figures.extend(heat::figure(workload, row, of_grid));
    }
    let mut drawn = Drawn::default();
    let mut bytes = 0;
    for (name, figure) in figures {
        let svg = draw(&figure)?;
        if bytes + svg.len() > BYTES_MAX {
            drawn.left_out += 1;
            continue;
        }
        bytes += svg.len();
        let taken = |name: &str| drawn.plots.iter().any(|plot| plot.name == name);
        let name = file_name(&name, taken);
        drawn.plots.push(Plot { name, svg });
    }
    Ok(drawn)
}

/// A name that is a plain file name on every system, and none of those that are taken.
pub(crate) fn file_name(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let plain = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_lowercase() || c.is_ascii_digit() => c,
        _ => '-',
    };
    let plain: String = name.chars().map(plain).take(NAME_CHARS_MAX).collect();
    let numbered = (2..1_000).map(|number| format!("{plain}-{number}"));
    let free = std::iter::once(plain.clone())
        .chain(numbered)
        .find(|name| !is_taken(name));
    free.unwrap_or(plain)
}

/// Which ink a subject has, the same in each plot of a session.
struct Inks {
    floors: Vec<String>,
    others: Vec<String>,
}

impl Inks {
    fn of(summary: &Summary) -> Self {
        let (mut floors, mut others) = (Vec::new(), Vec::new());
        let rows = summary.workloads.iter().flat_map(|workload| &workload.rows);
        for cell in rows.flat_map(|row| &row.cells).filter(|cell| !cell.control) {
            let is_floor = grid::is_floor(&cell.subject);
            let names = if is_floor { &mut floors } else { &mut others };
            if !names.contains(&cell.subject) {
                names.push(cell.subject.clone());
            }
        }
        Self { floors, others }
    }

    /// Grey for what is no proxy.
    fn ink(&self, subject: &str) -> Ink {
        let place = |names: &[String]| {
            let place = names.iter().position(|name| name == subject);
            place.map(|place| u8::try_from(place).unwrap_or(u8::MAX))
        };
        match (place(&self.floors), place(&self.others)) {
            (Some(place), _) => Ink::Grey(place),
            (None, Some(place)) => Ink::Color(place),
            (None, None) => Ink::Text,
        }
    }

    fn legend<'a>(&self, subjects: impl Iterator<Item = &'a str>) -> Vec<(String, Ink)> {
        subjects
            .take(LEGEND_MAX)
            .map(|subject| (subject.to_owned(), self.ink(subject)))
            .collect()
    }
}

/// The subjects of a workload in their order, controls left out.
fn subjects(workload: &Workload) -> Vec<&str> {
    let mut subjects: Vec<&str> = Vec::new();
    for cell in workload.rows.iter().flat_map(|row| &row.cells) {
        if !cell.control && !subjects.contains(&cell.subject.as_str()) {
            subjects.push(&cell.subject);
        }
    }
    subjects
}

fn layer(ink: Ink, mark: Mark) -> Layer {
    Layer { ink, mark }
}

/// A third of what a session may have.
const BYTES_MAX: usize = 640 * 1024;
const NAME_CHARS_MAX: usize = 60;
const LEGEND_MAX: usize = 24;

#[cfg(test)]
mod tests;
