//! Memory over idle connections: what a connection keeps, and what a server keeps without one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::grid::WorkloadGrid;
use super::rounded;
use crate::raw::Record;
use hp_bench::statistics;

/// One subject's memory over idle connections.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Memory {
    /// Its name.
    pub subject: String,
    /// The program's own memory.
    pub user: Option<Fitted>,
    /// What the kernel keeps for its sockets.
    pub kernel: Option<Fitted>,
    /// What was seen, of all rounds.
    pub points: Vec<Point>,
}

/// A least squares line.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Fitted {
    /// Bytes without a connection.
    pub base_bytes: f64,
    /// Bytes for each connection.
    pub conn_bytes: f64,
    /// Lower end of the 95 % interval.
    pub conn_bytes_low: f64,
    /// Upper end of the 95 % interval.
    pub conn_bytes_high: f64,
}

/// One look at a server.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Point {
    /// Idle connections at that time.
    pub connections: u32,
    /// Memory of its processes in bytes, shared pages divided by their users.
    #[serde(default)]
    pub user_bytes: Option<f64>,
    /// Memory of the kernel for its sockets in bytes.
    #[serde(default)]
    pub kernel_bytes: Option<f64>,
}

/// A fit for each subject of which there are looks.
pub(super) fn fits(workload: &WorkloadGrid<'_>, seed: u64) -> Vec<Memory> {
    let mut looks: BTreeMap<usize, (String, Vec<Point>)> = BTreeMap::new();
    for cell in workload.rows.iter().flat_map(|row| &row.cells) {
        if cell.has_failed() {
            continue;
        }
        let seen = looks.values().position(|(name, _)| name == cell.subject);
        let place = seen.unwrap_or(looks.len());
        let (_name, points) = looks
            .entry(place)
            .or_insert_with(|| (cell.subject.to_owned(), Vec::new()));
        points.extend(cell.counted().flat_map(points_of));
    }
    let with_points = looks
        .into_values()
        .filter(|(_subject, points)| !points.is_empty());
    with_points
        .map(|(subject, points)| Memory {
            subject,
            user: fit(&points, |point| point.user_bytes, seed),
            kernel: fit(&points, |point| point.kernel_bytes, seed),
            points,
        })
        .collect()
}

/// The looks that a record brings: a list under [`POINTS_KEY`] of connections, KiB of the processes, and bytes of the
/// kernel, in buffers and by slab.
fn points_of(record: &Record) -> Vec<Point> {
    let listed = record.extra.get(POINTS_KEY).and_then(Value::as_array);
    let points = listed.into_iter().flatten().take(POINTS_MAX);
    points.filter_map(point).collect()
}

fn point(look: &Value) -> Option<Point> {
    let connections = u32::try_from(look.get("connections")?.as_u64()?).ok()?;
    let kernel = look.get("kernel");
    let buffers = kernel
        .and_then(|kernel| kernel.get("buffer_bytes"))
        .and_then(Value::as_f64);
    let slabs = kernel
        .and_then(|kernel| kernel.get("slab_bytes"))
        .and_then(Value::as_object)
        .filter(|slabs| !slabs.is_empty());
    let slabs = slabs.map(|slabs| slabs.values().filter_map(Value::as_f64).sum::<f64>());
    let user_kib = look.get("pss_kib").and_then(Value::as_f64);
    let known = |bytes: &f64| bytes.is_finite() && *bytes >= 0.0;
    Some(Point {
        connections,
        user_bytes: user_kib.map(|kib| kib * 1_024.0).filter(known),
        kernel_bytes: slabs
            .map(|slabs| slabs + buffers.unwrap_or(0.0))
            .filter(known),
    })
}

fn fit(points: &[Point], of: impl Fn(&Point) -> Option<f64>, seed: u64) -> Option<Fitted> {
    let points: Vec<(f64, f64)> = points
        .iter()
        .filter_map(|point| Some((f64::from(point.connections), of(point)?)))
        .collect();
    let line = statistics::fit(&points)?;
    let interval = statistics::bootstrap_slope(&points, seed)?;
    Some(Fitted {
        base_bytes: rounded(line.base),
        conn_bytes: rounded(line.slope),
        conn_bytes_low: rounded(interval.low),
        conn_bytes_high: rounded(interval.high),
    })
}

/// The key of a record's looks.
pub const POINTS_KEY: &str = "points";

const POINTS_MAX: usize = 1_000;
