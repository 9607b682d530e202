//! How long a reload takes with many routes and upstreams: a configuration with 10,000 routes and 1,000 upstreams is loaded,
//! compared with one in which some of each are others, and made into what workers share.
//!
//! `cargo run --release -p hp-proxy --example reload -- [ROUTES [UPSTREAMS]]`
#![expect(
    clippy::disallowed_methods,
    reason = "a stopwatch around the code under test"
)]

use hp_proxy::config::difference::Difference;
use hp_proxy::config::load_text;
use hp_proxy::config::plan::Plan;
use hp_proxy::shared::SharedPlan;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|word| word.parse::<u32>());
    let mut number = |default| match numbers.next() {
        None => Some(default),
        Some(number) => number.ok().filter(|number| *number > 0),
    };
    let (Some(routes), Some(upstreams)) = (number(10_000), number(1_000)) else {
        eprintln!("reload [ROUTES [UPSTREAMS]]: numbers above 0");
        return ExitCode::from(2);
    };
    let texts = ["5s", "6s"].map(|timeout| configuration(routes, upstreams, timeout));
    let [Some(before), _] = texts.each_ref().map(|text| load(text)) else {
        return ExitCode::FAILURE;
    };
    let shared = SharedPlan::new(before.clone());
    let all = Instant::now();
    let step =
        |name: &str, began: Instant| println!("{name:<28} {:>6} ms", began.elapsed().as_millis());
    let began = Instant::now();
    let Some(after) = load(&texts[1]) else {
        return ExitCode::FAILURE;
    };
    step("read and resolved", began);
    let began = Instant::now();
    let difference = Difference::between(&before, &after);
    step("compared", began);
    let began = Instant::now();
    let next = shared.followed_by(after);
    step("made for the workers", began);
    let began = Instant::now();
    drop((shared, before));
    step("the old one dropped", began);
    step("altogether", all);
    println!(
        "{} changes among {routes} routes and {upstreams} upstreams",
        difference.changes.len()
    );
    drop(next);
    ExitCode::SUCCESS
}

fn load(text: &str) -> Option<Plan> {
    let (plan, report) = load_text("generated.toml", text, &|_| None);
    let errors = report.errors();
    errors.iter().for_each(|error| eprintln!("{error}"));
    plan
}

/// Every tenth route and upstream has this timeout.
fn configuration(routes: u32, upstreams: u32, timeout: &str) -> String {
    let mut text = String::from("[[listener]]\naddress = \"127.0.0.1:0\"\n");
    for index in 0..routes {
        let upstream = index % upstreams;
        let other = if index.is_multiple_of(10) {
            timeout
        } else {
            "4s"
        };
        text += &format!(
            "[[route]]\nname = \"r{index}\"\nhost = \"host{}.example.test\"\npath_prefix = \"/team/{index}/\"\n\
             upstream = \"u{upstream}\"\ntimeout = \"{other}\"\n",
            index % 500
        );
    }
    for index in 0..upstreams {
        let other = if index.is_multiple_of(10) {
            timeout
        } else {
            "4s"
        };
        let port = 1024 + index % 60_000;
        text += &format!(
            "[upstream.u{index}]\nendpoints = [\"127.0.0.1:{port}\", \"127.0.0.2:{port}\"]\nconnect_timeout = \"{other}\"\n"
        );
    }
    text
}
