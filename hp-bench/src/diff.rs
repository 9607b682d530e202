//! Two results side by side, and whether the newer one is worse.
//!
//! Must not know: files and flags.

use std::fmt::{self, Write as _};

use crate::format::{float, one_time};
use crate::result::Document;

/// How much worse the newer result may be before that counts as a regression.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Loss of answers per second, percent.
    pub rate: f64,
    /// Gain of the median and of the 99th percentile, percent.
    pub latency: f64,
    /// Gain of CPU time per request of the target, percent.
    pub cost: f64,
    /// Gain of the share of failed requests, in percentage points.
    pub errors: f64,
}

/// The comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    rows: Vec<Row>,
    notes: Vec<String>,
}

/// Why two results cannot be compared.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Incomparable {
    old: String,
    new: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    name: String,
    old: Option<f64>,
    new: Option<f64>,
    unit: Unit,
    limit: Limit,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Unit {
    PerSecond,
    Nanos,
    Percent,
}

/// The change that is still accepted.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    /// Shown, not judged.
    None,
    /// Percent of the old value that may be lost.
    Loss(f64),
    /// Percent of the old value that may be gained.
    Gain(f64),
    /// What may be gained, in the row's own unit.
    Points(f64),
}

/// Compares.
///
/// # Errors
/// [`Incomparable`] where the two measured different times: a closed loop's latency is not that of a rate.
pub fn compare(
    old: &Document,
    new: &Document,
    thresholds: &Thresholds,
) -> Result<Comparison, Incomparable> {
    let clock = |document: &Document| document.latency_ns.clock.clone();
    if clock(old) != clock(new) {
        return Err(Incomparable {
            old: clock(old),
            new: clock(new),
        });
    }
    let mut rows = vec![
        row(
            "requests/s",
            [old, new].map(|d| Some(d.run.rps)),
            Unit::PerSecond,
            Limit::Loss(thresholds.rate),
        ),
        row(
            "errors",
            [old, new].map(failed_percent),
            Unit::Percent,
            Limit::Points(thresholds.errors),
        ),
    ];
    for name in PERCENTILES {
        let limit = match name {
            "50" | "99" => Limit::Gain(thresholds.latency),
            _ => Limit::None,
        };
        let values = [old, new].map(|d| {
            d.latency_ns
                .p
                .get(name)
                .filter(|_value| d.run.responses > 0)
        });
        rows.push(row(
            &format!("p{name}"),
            values.map(|value| Some(float(*value?))),
            Unit::Nanos,
            limit,
        ));
    }
    let max = [old, new].map(|d| Some(float(d.latency_ns.max)).filter(|max| *max > 0.0));
    rows.push(row("max", max, Unit::Nanos, Limit::None));
    let target = [old, new].map(|d| Some(float(d.target_cost.as_ref()?.cpu_ns_per_req?)));
    rows.push(row(
        "target CPU",
        target,
        Unit::Nanos,
        Limit::Gain(thresholds.cost),
    ));
    let client = [old, new].map(|d| Some(float(d.client.cpu_ns_per_req?)));
    rows.push(row("client CPU", client, Unit::Nanos, Limit::None));
    rows.retain(|row| row.old.is_some() || row.new.is_some());
    Ok(Comparison {
        rows,
        notes: notes(old, new),
    })
}

impl Comparison {
    /// Whether the newer result is worse by more than a threshold, anywhere.
    pub fn is_regression(&self) -> bool {
        self.rows.iter().any(Row::is_worse)
    }
}

impl Row {
    /// Of the old value, in percent; in the row's own unit where that is what is judged. `None` where one is missing.
    fn change(&self) -> Option<f64> {
        let (old, new) = (self.old?, self.new?);
        match self.limit {
            Limit::Points(_) => Some(new - old),
            _ if old > 0.0 => Some((new - old) / old * 100.0),
            _ => None,
        }
    }

    fn is_worse(&self) -> bool {
        // What was measured before and is not any more is no improvement.
        let is_lost = self.old.is_some_and(|old| old > 0.0) && self.new.is_none();
        match (self.limit, self.change()) {
            (Limit::None, _) => false,
            (_, None) => is_lost,
            (Limit::Loss(most), Some(change)) => -change > most,
            (Limit::Gain(most) | Limit::Points(most), Some(change)) => change > most,
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<12} {:>14} {:>14} {:>11}", "", "old", "new", "change")?;
        for row in &self.rows {
            let show = |value: Option<f64>| match (value, row.unit) {
                (None, _) => "-".to_owned(),
                (Some(value), Unit::PerSecond) => format!("{value:.1}"),
                (Some(value), Unit::Nanos) => one_time(value),
                (Some(value), Unit::Percent) => format!("{value:.4} %"),
            };
            let mut change = String::from("-");
            if let Some(by) = row.change() {
                let unit = if matches!(row.limit, Limit::Points(_)) {
                    "pp"
                } else {
                    "%"
                };
                change = format!("{by:+.1} {unit}");
            }
            let mut line = format!(
                "{:<12} {:>14} {:>14} {change:>11}",
                row.name,
                show(row.old),
                show(row.new)
            );
            if row.is_worse() {
                let _infallible = match row.limit {
                    Limit::Loss(most) => write!(line, "  REGRESSION (more than -{most} %)"),
                    Limit::Gain(most) => write!(line, "  REGRESSION (more than +{most} %)"),
                    Limit::Points(most) => write!(line, "  REGRESSION (more than +{most} pp)"),
                    Limit::None => Ok(()),
                };
            }
            writeln!(f, "{line}")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Incomparable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { old, new } = self;
        write!(
            f,
            "the old latency is {old:?} time and the new one {new:?} time; compare results of one mode"
        )
    }
}

impl std::error::Error for Incomparable {}

fn row(name: &str, [old, new]: [Option<f64>; 2], unit: Unit, limit: Limit) -> Row {
    Row {
        name: name.to_owned(),
        old,
        new,
        unit,
        limit,
    }
}

/// Failures of 100 requests; a repeated one on a connection that the server had closed is none.
fn failed_percent(document: &Document) -> Option<f64> {
    let failed = document
        .errors
        .iter()
        .filter(|(class, _count)| *class != "eof_idle_reuse");
    let failed = failed.fold(0_u64, |sum, (_class, count)| sum.saturating_add(*count));
    (document.run.requests > 0).then(|| float(failed) / float(document.run.requests) * 100.0)
}

/// What makes the two less comparable than they look.
fn notes(old: &Document, new: &Document) -> Vec<String> {
    let mut notes = Vec::new();
    let [old_plan, new_plan] = [old, new].map(|document| serde_json::to_value(&document.plan));
    if let (Ok(old), Ok(new)) = (old_plan, new_plan) {
        for (key, value) in old.as_object().into_iter().flatten() {
            if *value != new[key] {
                notes.push(format!("plan.{key} was {value} and is {}", new[key]));
            }
        }
    }
    if old.target.url != new.target.url {
        notes.push(format!(
            "the target was {} and is {}",
            old.target.url, new.target.url
        ));
    }
    for (name, document) in [("old", old), ("new", new)] {
        if !document.verdict.valid {
            notes.push(format!("the {name} result is not valid"));
        }
        if document.interrupted {
            notes.push(format!("the {name} run was interrupted"));
        }
    }
    notes
}

const PERCENTILES: [&str; 4] = ["50", "90", "99", "99.9"];

#[cfg(test)]
mod tests;
