//! What the calibrators say: whether the machine became faster or slower while the session ran.

use std::collections::BTreeMap;

use super::cell::cost_us;
use super::{Calibrator, rounded};
use crate::raw::Record;
use hp_bench::statistics;

/// The calibrators' cost by time: the logarithm of each by the middle of those under the same load, and both times.
///
/// Loads cost differently and have their own times, so only what changes within a load tells of the machine.
struct Point {
    /// Since the session's start.
    at_ms: f64,
    /// Since the middle of the visits under the same load.
    since_ms: f64,
    log: f64,
}

fn points(calibrators: &[&Record]) -> Vec<Point> {
    let mut loads: BTreeMap<Load<'_>, Vec<(f64, f64)>> = BTreeMap::new();
    for record in calibrators {
        if let Some(cost) = cost_us(record) {
            let params = &record.params;
            let names = (record.workload.as_str(), record.row.as_str());
            let load = (names, params.connections, params.body_bytes);
            let at = record.started_ms as f64;
            loads.entry(load).or_default().push((at, cost.ln()));
        }
    }
    let mut points = Vec::new();
    for group in loads.values() {
        let count = group.len() as f64;
        let middle_ms = group.iter().map(|point| point.0).sum::<f64>() / count;
        let middle = group.iter().map(|point| point.1).sum::<f64>() / count;
        points.extend(group.iter().map(|(at_ms, log)| Point {
            at_ms: *at_ms,
            since_ms: at_ms - middle_ms,
            log: log - middle,
        }));
    }
    points.sort_by(|a, b| a.at_ms.total_cmp(&b.at_ms));
    points
}

/// The slope that all loads have in common, over the session's length; sure where its interval excludes 0.
pub(crate) fn calibrator(calibrators: &[&Record], seed: u64) -> Option<Calibrator> {
    let points = points(calibrators);
    if points.len() < POINTS_MIN {
        return None;
    }
    let length_ms = points.last()?.at_ms - points.first()?.at_ms;
    let within: Vec<(f64, f64)> = points
        .iter()
        .map(|point| (point.since_ms, point.log))
        .collect();
    let slope = statistics::bootstrap_slope(&within, seed)?;
    let change = slope.map(|slope| ((slope * length_ms).exp() - 1.0) * 100.0);
    let is_sure = !slope.holds(0.0);
    Some(Calibrator {
        visits: u32::try_from(points.len()).unwrap_or(u32::MAX),
        change_pct: rounded(change.mid),
        change_low_pct: rounded(change.low),
        change_high_pct: rounded(change.high),
        drift: is_sure && change.mid.abs() > DRIFT_PCT,
    })
}

/// Minutes since the session's start, and the cost by its middle, loads joined by the slope that they have in common.
pub(crate) fn joined(calibrators: &[&Record], calibrator: &Calibrator) -> Vec<(f64, f64)> {
    let points = points(calibrators);
    let ends = points.first().zip(points.last());
    let Some(((first_ms, last_ms), count)) = ends
        .map(|(first, last)| (first.at_ms, last.at_ms))
        .zip(Some(points.len() as f64))
    else {
        return Vec::new();
    };
    let rise = (1.0 + calibrator.change_pct / 100.0)
        .max(f64::MIN_POSITIVE)
        .ln();
    let slope = rise / (last_ms - first_ms).max(1.0);
    let middle_ms = points.iter().map(|point| point.at_ms).sum::<f64>() / count;
    points
        .iter()
        .map(|point| {
            let of_load = slope * (point.at_ms - point.since_ms - middle_ms);
            (point.at_ms / 60_000.0, (point.log + of_load).exp())
        })
        .collect()
}

/// A sure change of the calibrator's cost by more than this is a drift.
pub(crate) const DRIFT_PCT: f64 = 3.0;
/// Fewer have no slope that a draw of them could doubt.
const POINTS_MIN: usize = 4;

/// What costs about the same in each visit: names of workload and row, connections, bytes of a body.
type Load<'a> = ((&'a str, &'a str), u32, u64);
