//! How long a reload takes with many routes and upstreams: a configuration with 10,000 routes and 1,000 upstreams is loaded,
//! compared with one in which some of each are others, and made into what workers share.
//!
//! `cargo run --release -p hp-proxy --example reload -- [--max MS] [ROUTES [UPSTREAMS]]`
//!
//! Loading is done on a thread that gives way to workers, all else by the main thread; with `--max` it ends with 1 where all of it takes longer.
#![expect(
    clippy::disallowed_methods,
    reason = "a stopwatch around the code under test"
)]

#[path = "routes/mixture.rs"]
#[expect(dead_code, reason = "requests are the other example's")]
mod mixture;

use hp_proxy::config::difference::Difference;
use hp_proxy::config::load_text;
use hp_proxy::config::plan::Plan;
use hp_proxy::shared::SharedPlan;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    let has_max = words.next_if(|word| word == "--max").is_some();
    let mut numbers = words.map(|word| word.parse::<u32>());
    let mut number = |default| match numbers.next() {
        None => Some(default),
        Some(number) => number.ok().filter(|number| *number > 0),
    };
    let max = if has_max { number(0) } else { Some(u32::MAX) };
    let (Some(max), Some(routes), Some(upstreams)) = (max, number(10_000), number(1_000)) else {
        eprintln!("reload [--max MS] [ROUTES [UPSTREAMS]]: numbers above 0");
        return ExitCode::from(2);
    };
    let text = mixture::configuration(routes, upstreams);
    let texts = ["5s", "6s"].map(|timeout| with_timeouts(&text, timeout));
    let Some(before) = load(&texts[0]) else {
        return ExitCode::FAILURE;
    };
    let shared = SharedPlan::new(before.clone());
    let all = Instant::now();
    let step =
        |name: &str, began: Instant| println!("{name:<36} {:>6} ms", began.elapsed().as_millis());
    let began = Instant::now();
    let Some(after) = load(&texts[1]) else {
        return ExitCode::FAILURE;
    };
    step("read and resolved", began);
    let began = Instant::now();
    let file = after.clone();
    step("copied for what operators change", began);
    let began = Instant::now();
    let difference = Difference::between(&before, &after);
    step("compared", began);
    let began = Instant::now();
    let next = shared.followed_by(after);
    step("made for the workers", began);
    let began = Instant::now();
    let own = next.table.copy();
    step("routes copied for one worker", began);
    let began = Instant::now();
    drop((shared, before));
    step("the old plan freed", began);
    let took = all.elapsed();
    step("altogether", all);
    println!(
        "{} changes among {routes} routes and {upstreams} upstreams",
        difference.changes.len()
    );
    drop((next, own, file));
    if took.as_millis() > u128::from(max) {
        eprintln!("a reload takes longer than {max} ms");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn load(text: &str) -> Option<Plan> {
    let (plan, report) = load_text("generated.toml", text, &|_| None);
    let errors = report.errors();
    errors.iter().for_each(|error| eprintln!("{error}"));
    plan
}

/// Every tenth route and upstream has this timeout.
fn with_timeouts(text: &str, timeout: &str) -> String {
    let mut changed = String::with_capacity(text.len());
    let (mut routes, mut upstreams) = (0_u32, 0_u32);
    for line in text.split_inclusive('\n') {
        changed += line;
        let (count, key) = match line {
            "[[route]]\n" => (&mut routes, "timeout"),
            line if line.starts_with("[upstream.") => (&mut upstreams, "connect_timeout"),
            _ => continue,
        };
        *count += 1;
        if count.is_multiple_of(10) {
            changed += &format!("{key} = \"{timeout}\"\n");
        }
    }
    changed
}
