//! What the machine itself does: whether its CPUs are whole ones, and whether it drifts while a session runs.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock;
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::label::middle;
use crate::process::{Launch, Launcher, Seat};
use crate::raw::Record;

/// What the calibrators say of a session.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Drift {
    /// Change of the calibrator's cost over the time that the longest row took, in percent.
    pub change_pct: f64,
    /// Whether it is significant and above 3 %: ratios stay usable, absolute figures do not.
    pub is_drift: bool,
}

/// The trend of the calibrators over a session, each row for itself, since rows cost differently; none below eight of
/// them. The slope is the median of the slopes of all pairs; it is significant where the signs of the pairs are, by the
/// normal approximation of Kendall's test at 5 %.
pub fn drift(records: &[Record]) -> Option<Drift> {
    let mut rows: BTreeMap<(&str, &str), Vec<(f64, f64)>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.is_calibrator()) {
        let Some(cost) = record.server_cpu_ns_per_request() else {
            continue;
        };
        let point = (record.started_ms as f64, cost.ln());
        let row = (record.workload.as_str(), record.row.as_str());
        rows.entry(row).or_default().push(point);
    }
    let (mut slopes, mut signs, mut variance) = (Vec::new(), 0.0, 0.0);
    let (mut span, mut count) = (0.0f64, 0u32);
    for points in rows.values() {
        let size = points.len() as f64;
        variance += size * (size - 1.0) * (2.0 * size + 5.0) / 18.0;
        for (index, one) in points.iter().enumerate() {
            count += 1;
            for other in points
                .iter()
                .skip(index + 1)
                .filter(|other| other.0 > one.0)
            {
                span = span.max(other.0 - one.0);
                slopes.push((other.1 - one.1) / (other.0 - one.0));
                signs += (other.1 - one.1)
                    .partial_cmp(&0.0)
                    .map_or(0.0, |order| f64::from(order as i8));
            }
        }
    }
    if count < DRIFT_POINTS_MIN {
        return None;
    }
    let change_pct = ((middle(slopes)? * span).exp() - 1.0) * 100.0;
    let is_significant = signs.abs() > NORMAL_95 * variance.sqrt();
    Some(Drift {
        change_pct: (change_pct * 10.0).round() / 10.0,
        is_drift: is_significant && change_pct.abs() > DRIFT_PCT_MAX,
    })
}

/// How much more two CPUs do than one: near 2 for two cores, 1.2 to 1.4 for two threads of one core, or a busy host; none
/// where load and server are not kept apart.
///
/// # Errors
/// [`Error::Spawn`], [`Error::Interrupted`].
pub fn cpu_scaling(launcher: &Launcher, interrupt: &Interrupt) -> Result<Option<f64>, Error> {
    let (server, others) = (
        launcher.cpus_of(Seat::Server),
        launcher.cpus_of(Seat::Others),
    );
    if server == others {
        return Ok(None);
    }
    let alone = spin(launcher, interrupt, &[Seat::Server])?;
    let both = spin(launcher, interrupt, &[Seat::Server, Seat::Others])?;
    Ok(alone
        .zip(both)
        .map(|(alone, both)| (both / alone * 100.0).round() / 100.0))
}

/// Counts as fast as it can for a while; what `harness spin` prints.
pub fn count_for(length: Duration) -> u64 {
    let deadline = clock::now() + length;
    let mut count = 0u64;
    while clock::now() < deadline {
        for _ in 0..1_000 {
            count = std::hint::black_box(count) + 1;
        }
    }
    count
}

/// Runs one spinning process on each of these seats; the sum of their counts, or none where one gives no count.
fn spin(launcher: &Launcher, interrupt: &Interrupt, seats: &[Seat]) -> Result<Option<f64>, Error> {
    let Ok(path) = std::env::current_exe() else {
        return Ok(None);
    };
    let launch = Launch {
        program: "harness".into(),
        path,
        args: vec!["spin".into(), SPIN_MS.to_string()],
        ..Launch::default()
    };
    let mut running = Vec::new();
    for seat in seats {
        running.push(launcher.start(&launch, *seat)?);
    }
    let mut sum = 0.0;
    for process in &mut running {
        let deadline = clock::now() + Duration::from_millis(SPIN_MS) + SPIN_LATE;
        let status = process.wait_until(deadline, interrupt);
        if interrupt.came() {
            return Err(Error::Interrupted);
        }
        let count = process.stdout().trim().parse::<f64>();
        match (status, count) {
            (Some(_ended), Ok(count)) if count > 0.0 => sum += count,
            _ => return Ok(None),
        }
    }
    Ok(Some(sum))
}

const DRIFT_POINTS_MIN: u32 = 8;
const DRIFT_PCT_MAX: f64 = 3.0;
const NORMAL_95: f64 = 1.96;
const SPIN_MS: u64 = 300;
const SPIN_LATE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::parse_document;
    use crate::load::tests::GOOD;
    use crate::raw::{CALIBRATOR, Usage};

    fn calibrators(row: &str, costs_us: impl IntoIterator<Item = f64>) -> Vec<Record> {
        let record = |(index, us): (u64, f64)| Record {
            row: row.into(),
            subject: CALIBRATOR.into(),
            started_ms: index * 1_000,
            server: Usage {
                cpu_ns: u64::try_from(Duration::from_secs_f64(us * 50_000.0 / 1e6).as_nanos()).ok(),
                ..Usage::default()
            },
            load: parse_document(GOOD).ok(),
            ..Record::default()
        };
        (0..).zip(costs_us).map(record).collect()
    }

    #[test]
    fn a_machine_that_slows_down_is_seen() {
        let records = calibrators(
            "c16",
            (0..20).map(|step| 20.0 * (1.0 + f64::from(step) * 0.005)),
        );
        let drift = drift(&records).unwrap();
        assert!(
            drift.is_drift && (9.0..10.5).contains(&drift.change_pct),
            "{drift:?}"
        );
    }

    #[test]
    fn noise_and_small_trends_are_no_drift() {
        let noise = calibrators(
            "c16",
            (0..20).map(|step| if step % 2 == 0 { 20.0 } else { 21.0 }),
        );
        assert!(!drift(&noise).unwrap().is_drift);
        let small = calibrators(
            "c16",
            (0..20).map(|step| 20.0 * (1.0 + f64::from(step) * 0.001)),
        );
        assert!(!drift(&small).unwrap().is_drift);
    }

    #[test]
    fn rows_that_cost_differently_are_no_drift() {
        let mut records = calibrators("c16", [20.0; 6]);
        records.extend(calibrators("c512", [25.0; 6]));
        assert!(!drift(&records).unwrap().is_drift);
    }

    #[test]
    fn few_calibrators_say_nothing() {
        assert_eq!(drift(&calibrators("c16", [1.0; 7])), None);
    }

    #[test]
    fn spinning_counts() {
        assert!(count_for(Duration::from_millis(2)) > 0);
    }
}
