//! What a calibration found: JSON of schema `hp-bench-calibrate/1`, and the same for people.

use std::fmt;

use serde::Serialize;

use crate::format::{one_time, thousands, whole};
use crate::result::Tool;

/// Everything. Null is what this machine does not tell.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Calibration {
    /// [`SCHEMA`].
    pub schema: String,
    /// What measured.
    pub tool: Tool,
    /// CPUs that this process may use.
    pub cpus: u32,
    /// What stands behind the system's clock.
    pub clock_source: Option<String>,
    /// One look at the monotonic clock.
    pub clock_read_ns: f64,
    /// The processor's own counter.
    pub ticks: Option<Ticks>,
    /// By engine.
    pub engines: Vec<EngineTimes>,
    /// CPUs beside each other.
    pub spin: Spin,
    /// What may be opened.
    pub limits: Limits,
    /// How TCP paces itself.
    pub congestion_control: Option<String>,
    /// CPU time that the hypervisor gave to others meanwhile, percent.
    pub steal_pct: Option<f64>,
}

/// The processor's own counter beside the monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Ticks {
    /// One look at it.
    pub read_ns: f64,
    /// Its speed.
    pub per_us: f64,
    /// How much its speed by the clock changed from the first half of the calibration to the second, in millionths.
    pub drift_ppm: f64,
}

/// What one engine does.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EngineTimes {
    /// Its name.
    pub engine: String,
    /// Why it does not start; null where it does.
    pub passed_over: Option<String>,
    /// How late waits of 100 us end.
    pub timer_late_ns: Times,
    /// The same where the last 50 us are spent looking at the clock.
    pub timer_late_spinning_ns: Times,
    /// One byte to a task of the same runtime and back, over TCP.
    pub round_trip_ns: Times,
}

/// Some percentiles. All 0 where nothing was measured.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Times {
    /// How many were measured.
    pub count: u64,
    /// The median.
    pub p50: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

/// CPUs that do the same beside each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spin {
    /// How many.
    pub cpus: u32,
    /// Steps of a computation per microsecond of CPU time while one is busy.
    pub alone_per_us: f64,
    /// The same of each while all are.
    pub together_per_us: f64,
    /// The second by the first: near 1 for cores of their own, 0.5 to 0.7 for two threads of one core.
    pub factor: f64,
}

/// What may be opened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Limits {
    /// Files of one process.
    pub open_files: Option<u64>,
    /// Local ports for one source address and target.
    pub local_ports: Option<u64>,
    /// Connections that may wait in a listener, at most.
    pub backlog: Option<u64>,
    /// Connections of one process to one target from one address, which both allow.
    pub connections: Option<u64>,
}

impl Times {
    /// Of values in any order; sorts them. A percentile is the smallest value that so many are not above.
    pub fn of(values: &mut [u64]) -> Self {
        values.sort_unstable();
        let at = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100);
            let value = rank.checked_sub(1).and_then(|place| values.get(place));
            value.copied().unwrap_or(0)
        };
        Self {
            count: u64::try_from(values.len()).unwrap_or(u64::MAX),
            p50: at(50),
            p99: at(99),
            max: at(100),
        }
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |nanos| one_time(crate::format::float(nanos));
        let Self { p50, p99, max, .. } = *self;
        write!(f, "p50 {}  p99 {}  max {}", show(p50), show(p99), show(max))
    }
}

impl fmt::Display for EngineTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.engine;
        if let Some(cause) = &self.passed_over {
            return writeln!(f, "  {name:<12} {cause}");
        }
        writeln!(
            f,
            "  {name:<12} waits of 100 us late by {}",
            self.timer_late_ns
        )?;
        writeln!(
            f,
            "  {:<12} with the last 50 us awake {}",
            "", self.timer_late_spinning_ns
        )?;
        writeln!(f, "  {:<12} round trip {}", "", self.round_trip_ns)
    }
}

impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown = || "unknown".to_owned();
        let text = |value: &Option<String>| value.clone().unwrap_or_else(unknown);
        let count = |value: Option<u64>| value.map_or_else(unknown, thousands);
        writeln!(
            f,
            "hp-bench {} calibrate  {} CPUs",
            self.tool.version, self.cpus
        )?;
        writeln!(
            f,
            "  clock        {:.1} ns a look, from {}",
            self.clock_read_ns,
            text(&self.clock_source)
        )?;
        match &self.ticks {
            None => writeln!(f, "  counter      none that can be read and trusted")?,
            Some(ticks) => writeln!(
                f,
                "  counter      {:.1} ns a look, {:.1} ticks/us, {:+.1} ppm from the clock",
                ticks.read_ns, ticks.per_us, ticks.drift_ppm
            )?,
        }
        self.engines.iter().try_for_each(|engine| engine.fmt(f))?;
        writeln!(
            f,
            "  spin         each of {} CPUs does {:.2} of what one does alone",
            self.spin.cpus, self.spin.factor
        )?;
        writeln!(
            f,
            "  limits       {} files, {} local ports, backlog {}: {} connections to one target from one address",
            count(self.limits.open_files),
            count(self.limits.local_ports),
            count(self.limits.backlog),
            count(self.limits.connections)
        )?;
        writeln!(f, "  congestion   {}", text(&self.congestion_control))?;
        let steal = self.steal_pct.map(|steal| whole(steal * 10.0));
        match steal {
            None => writeln!(f, "  steal        unknown"),
            Some(tenths) => writeln!(f, "  steal        {}.{} %", tenths / 10, tenths % 10),
        }
    }
}

/// The name of the schema.
pub const SCHEMA: &str = "hp-bench-calibrate/1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let mut values: Vec<u64> = (1..=200).rev().collect();
        let times = Times::of(&mut values);
        assert_eq!(
            (times.count, times.p50, times.p99, times.max),
            (200, 100, 198, 200)
        );
        assert_eq!(
            Times::of(&mut [7]),
            Times {
                count: 1,
                p50: 7,
                p99: 7,
                max: 7
            }
        );
        assert_eq!(Times::of(&mut []), Times::default());
    }

    #[test]
    fn what_a_machine_does_not_tell_is_unknown() {
        let text = Calibration {
            engines: vec![EngineTimes {
                engine: "uring".to_owned(),
                passed_over: Some("engine uring cannot start: no".to_owned()),
                ..EngineTimes::default()
            }],
            ..Calibration::default()
        }
        .to_string();
        for part in [
            "counter      none",
            "  uring        engine uring cannot start: no\n",
            "unknown files, unknown local ports",
            "steal        unknown",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
