//! How long a route is looked for among many: loads a configuration with 10,000 routes and 1,000 upstreams, then looks up
//! requests one by one. Times are in nanoseconds, without that of reading the clock.
//!
//! `cargo run --release -p hp-proxy --example routes -- [ROUTES [UPSTREAMS [LOOKUPS]]]`
#![expect(
    clippy::disallowed_methods,
    reason = "a stopwatch around the code under test"
)]

use hp_core::wire::http1::head::{HeadLimits, HeaderScratch, Parse};
use hp_core::wire::http1::request::{RequestHead, parse_request};
use hp_proxy::config::load_text;
use hp_proxy::config::plan::Plan;
use hp_proxy::route::{Facts, path};
use std::fmt::Write;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|word| word.parse::<u32>());
    let mut number = |default| match numbers.next() {
        None => Some(default),
        Some(number) => number.ok().filter(|number| *number > 0),
    };
    let (Some(routes), Some(upstreams), Some(lookups)) =
        (number(10_000), number(1_000), number(1_000_000))
    else {
        eprintln!("routes [ROUTES [UPSTREAMS [LOOKUPS]]]: numbers above 0");
        return ExitCode::from(2);
    };
    let text = configuration(routes, upstreams);
    let began = Instant::now();
    let (plan, report) = load_text("generated.toml", &text, &|_| None);
    let took = began.elapsed();
    let Some(plan) = plan else {
        report
            .errors()
            .iter()
            .for_each(|error| eprintln!("{error}"));
        return ExitCode::FAILURE;
    };
    println!(
        "{routes} routes, {upstreams} upstreams, {} bytes: loaded in {} ms",
        text.len(),
        took.as_millis()
    );
    measure(&plan, routes, lookups);
    ExitCode::SUCCESS
}

/// Routes of six kinds over 500 hosts.
fn configuration(routes: u32, upstreams: u32) -> String {
    let mut text = String::from("[[listener]]\naddress = \"127.0.0.1:0\"\n");
    for index in 0..routes {
        let upstream = index % upstreams;
        let host = match index % 6 {
            5 => String::new(),
            4 => format!("host = \"*.zone{}.example.test\"\n", index % 500),
            _ => format!("host = \"host{}.example.test\"\n", index % 500),
        };
        let rule = match index % 6 {
            0 => format!("path = \"/exact/{index}\""),
            1 => format!("path_prefix = \"/service-{index}/v1/\"\nmethods = [\"GET\", \"POST\"]"),
            2 => format!(
                "path_prefix = \"/api/{index}/\"\nheaders = {{ X-Kind = \"{}\" }}",
                index % 7
            ),
            _ => format!("path_prefix = \"/team{}/{index}/\"", index % 40),
        };
        put(
            &mut text,
            &format!("[[route]]\n{host}{rule}\nupstream = \"u{upstream}\"\n"),
        );
    }
    put(&mut text, "[[route]]\nupstream = \"u0\"\n");
    for index in 0..upstreams {
        let port = 1024 + index;
        put(
            &mut text,
            &format!("[upstream.u{index}]\nendpoints = [\"127.0.0.1:{port}\"]\n"),
        );
    }
    text
}

fn put(text: &mut String, more: &str) {
    match text.write_str(more) {
        Ok(()) => (),
        Err(_never) => unreachable!("a String takes everything"),
    }
}

/// Requests for routes all over the table, with the fields that a browser sends.
fn request(index: u32) -> String {
    let host = match index % 6 {
        4 => format!("a.b.zone{}.example.test", index % 500),
        _ => format!("host{}.example.test:8080", index % 500),
    };
    let target = match index % 6 {
        0 => format!("/exact/{index}"),
        1 => format!("/service-{index}/v1/users/17?page=2"),
        2 => format!("/api/{index}/list"),
        _ => format!("/team{}/{index}/index.html", index % 40),
    };
    let kind = index % 7;
    format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Mozilla/5.0\r\nAccept: */*\r\nAccept-Encoding: gzip, br\r\n\
         Accept-Language: en\r\nCookie: a=b\r\nX-Kind: {kind}\r\n\r\n"
    )
}

fn measure(plan: &Plan, routes: u32, lookups: u32) {
    let heads: Vec<RequestHead<'static, 'static>> = (0..SAMPLES)
        .map(|sample| sample.wrapping_mul(2_654_435_761) % routes)
        .filter_map(|index| {
            let text: &'static str = request(index).leak();
            let scratch = Box::leak(Box::new(HeaderScratch::new()));
            match parse_request(text.as_bytes(), &HeadLimits::default(), scratch) {
                Ok(Parse::Complete(head)) => Some(head),
                _ => None,
            }
        })
        .collect();
    let mut clock: Vec<u64> = (0..100_000).map(|_| nanos(|| ())).collect();
    clock.sort_unstable();
    let overhead = percentile(&clock, 500);
    let mut found: u64 = 0;
    let mut times: Vec<u64> = Vec::with_capacity(lookups as usize);
    for head in heads.iter().cycle().take(lookups as usize) {
        let mut is_found = false;
        let took = nanos(|| {
            let path = path::normal(head.target.path());
            let facts = Facts {
                host: head.authority.map_or(b"", |authority| authority.host()),
                path: &path,
                query: head.target.query(),
                method: head.method.as_str(),
                fields: &head.fields,
                client: None,
            };
            is_found = black_box(plan.table.find(black_box(&facts))).is_some();
        });
        found += u64::from(is_found);
        times.push(took.saturating_sub(overhead));
    }
    times.sort_unstable();
    let of = |tenths| percentile(&times, tenths);
    println!(
        "{lookups} look-ups, {found} found: p50 {} ns, p90 {} ns, p99 {} ns, p99.9 {} ns; the clock {overhead} ns",
        of(500),
        of(900),
        of(990),
        of(999)
    );
}

fn nanos(work: impl FnOnce()) -> u64 {
    let began = Instant::now();
    work();
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// `tenths` of a percent.
fn percentile(sorted: &[u64], tenths: usize) -> u64 {
    let index = sorted.len() * tenths / 1000;
    sorted.get(index).copied().unwrap_or_default()
}

/// Different requests.
const SAMPLES: u32 = 2048;
