//! How far the pairs of a session's ratios lie apart: what more rounds make smaller, and a better way to measure needs less of.

use std::path::Path;

use hp_bench::statistics;

use crate::derive::{self, Derived};
use crate::error::Error;
use crate::summary::ratio::{Quantity, Ratio};
use crate::table::{self, Side};

/// A table of all ratios of cost in a session, from its raw file: their pairs, how far the pairs' logarithms scatter, and the interval.
///
/// # Errors
/// What [`derive::session`] has to say.
pub fn of_session(folder: &Path) -> Result<String, Error> {
    Ok(of(&derive::session(folder)?))
}

fn of(derived: &Derived) -> String {
    let head = [
        ("workload", Side::Left),
        ("row", Side::Left),
        ("subject", Side::Left),
        ("against", Side::Left),
        ("pairs", Side::Right),
        ("sd of logs", Side::Right),
        ("by MAD", Side::Right),
        ("ratio", Side::Right),
        ("95 %", Side::Left),
        ("sure", Side::Left),
    ];
    let mut lines = Vec::new();
    for workload in &derived.summary.workloads {
        for row in &workload.rows {
            for cell in &row.cells {
                let costs = cell
                    .ratios
                    .iter()
                    .filter(|ratio| ratio.of == Quantity::Cost);
                lines.extend(costs.map(|ratio| {
                    let names = [&workload.name, &row.name, &cell.subject, &ratio.against];
                    names.into_iter().cloned().chain(figures(ratio)).collect()
                }));
            }
        }
    }
    table::render(&head, &lines)
}

fn figures(ratio: &Ratio) -> [String; 6] {
    let shown =
        |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.3}"));
    [
        ratio.pairs.to_string(),
        shown(deviation(&ratio.logs)),
        shown(statistics::scaled_mad(&ratio.logs)),
        format!("{:.3}", ratio.ratio),
        format!("[{:.3}, {:.3}]", ratio.low, ratio.high),
        if ratio.is_sure() { "yes" } else { "no" }.into(),
    ]
}

/// The standard deviation that a sample estimates; none of fewer than two.
fn deviation(values: &[f64]) -> Option<f64> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deviation_needs_two_values() {
        assert_eq!(deviation(&[]), None);
        assert_eq!(deviation(&[1.0]), None);
        assert_eq!(deviation(&[1.0, 3.0]), Some(2.0_f64.sqrt()));
    }
}
