//! What loading a configuration takes.

use super::Wanted;
use hp_proxy::config::load_text;
use hp_proxy::config::plan::Plan;
use hp_proxy::route::table::Table;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// A plan with what making it took.
pub(crate) struct Loaded {
    pub(crate) plan: Plan,
    /// From the text to the plan.
    whole: Duration,
    /// The table of it.
    table: Duration,
    /// Bytes of the plan; `None` where the kernel does not tell, or too few were made.
    bytes: Option<u64>,
}

impl Loaded {
    pub(crate) fn new(text: &str, loads: u64) -> Option<Self> {
        let mut shortest = Duration::MAX;
        let mut plans = Vec::new();
        let mut resident = Vec::new();
        for _ in 0..loads {
            let began = Instant::now();
            let (plan, report) = load_text("generated.toml", text, &|_| None);
            shortest = shortest.min(began.elapsed());
            let Some(plan) = plan else {
                let errors = report.errors();
                errors.iter().for_each(|error| eprintln!("{error}"));
                return None;
            };
            plans.push(plan);
            drop(report);
            resident.push(resident_bytes());
        }
        // The first leaves room behind that its text took while it was read; later ones use that room, and add what is kept.
        let bytes = match (resident.get(1), resident.last()) {
            (Some(Some(first)), Some(Some(last))) => {
                Some(last.saturating_sub(*first) / (loads - 2).max(1))
            }
            _ => None,
        };
        let plan = plans.pop()?;
        let rules = plan.table.rules().to_vec();
        let began = Instant::now();
        black_box(Table::new(black_box(rules)));
        let table = began.elapsed();
        Some(Self {
            plan,
            whole: shortest,
            table,
            bytes,
        })
    }

    pub(crate) fn tell(&self, wanted: &Wanted, text_bytes: usize) {
        println!(
            "{} routes, {} upstreams, {text_bytes} bytes of text",
            wanted.routes, wanted.upstreams
        );
        println!(
            "loaded in {} ms, of which the table takes {} ms",
            self.whole.as_millis(),
            self.table.as_millis()
        );
        if let Some(bytes) = self.bytes {
            println!(
                "{} KiB of memory, upstreams included: {} bytes a route",
                bytes >> 10,
                bytes / u64::from(wanted.routes)
            );
        }
    }
}

/// Memory that the kernel has given this process.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes << 10)
}
