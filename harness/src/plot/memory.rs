//! Memory over idle connections, with the fitted lines.

use super::canvas::{Figure, LEFT, Mark, Panel};
use super::{Inks, layer, scale};
use crate::summary::Workload;
use crate::summary::memory::{Fitted, Memory, Point};

/// The program's memory and the kernel's, side by side; none where nothing was looked at.
pub(super) fn figure(workload: &Workload, inks: &Inks) -> Option<(String, Figure)> {
    if workload.memory.is_empty() {
        return None;
    }
    let user = panel(
        "memory of the processes, MiB",
        workload,
        inks,
        |point| point.user_bytes,
        |memory| memory.user,
    );
    let kernel = panel(
        "memory of the kernel for sockets, MiB",
        workload,
        inks,
        |point| point.kernel_bytes,
        |memory| memory.kernel,
    );
    let slopes = workload.memory.iter().map(|memory| {
        let slope = memory.user.map(|fitted| fitted.conn_bytes);
        let slope = slope.map_or_else(String::new, |bytes| format!(", {bytes:.0} B/conn"));
        (
            format!("{}{slope}", memory.subject),
            inks.ink(&memory.subject),
        )
    });
    Some((
        format!("memory-{}", workload.name),
        Figure {
            title: format!("{}: memory over idle connections", workload.name),
            columns: 2,
            panel_size: (480, 360),
            panels: vec![user, kernel],
            legend: slopes.collect(),
            notes: Vec::new(),
        },
    ))
}

fn panel(
    title: &str,
    workload: &Workload,
    inks: &Inks,
    of: impl Fn(&Point) -> Option<f64>,
    fitted: impl Fn(&Memory) -> Option<Fitted>,
) -> Panel {
    let mut layers = Vec::new();
    let (mut counts, mut values) = (Vec::new(), Vec::new());
    for memory in &workload.memory {
        let ink = inks.ink(&memory.subject);
        let points: Vec<(f64, f64)> = memory
            .points
            .iter()
            .filter_map(|point| Some((f64::from(point.connections), of(point)? / MIB)))
            .collect();
        let most = points.iter().map(|point| point.0).fold(0.0, f64::max);
        if let Some(fitted) = fitted(memory) {
            let at = |count: f64| (count, (fitted.base_bytes + fitted.conn_bytes * count) / MIB);
            layers.push(layer(ink, Mark::Line(vec![at(0.0), at(most)])));
        }
        counts.extend(points.iter().map(|point| point.0));
        values.extend(points.iter().map(|point| point.1));
        layers.push(layer(ink, Mark::Dots(points)));
    }
    Panel {
        title: title.into(),
        left: LEFT,
        x: scale::linear("idle connections", counts.into_iter(), ""),
        y: scale::linear("", values.into_iter(), ""),
        layers,
    }
}

const MIB: f64 = 1_048_576.0;
