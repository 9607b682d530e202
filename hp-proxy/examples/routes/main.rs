//! What many routes cost: loads a configuration with 10,000 routes and 1,000 upstreams, then looks up requests one by one. Times of
//! look-ups are in nanoseconds, without that of reading the clock.
//!
//! `cargo run --release -p hp-proxy --example routes -- [--write FILE] [ROUTES [UPSTREAMS [LOOKUPS]]]`
//!
//! With `--write` the configuration goes to a file, for `hp-proxy check FILE`, and nothing is measured.
#![expect(
    clippy::disallowed_methods,
    reason = "a stopwatch around the code under test"
)]

use hp_core::wire::http1::head::{HeadLimits, HeaderScratch, Parse};
use hp_core::wire::http1::request::parse_request;
use hp_proxy::config::load_text;
use hp_proxy::config::plan::Plan;
use hp_proxy::route::table::Table;
use hp_proxy::route::{Facts, path};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let file = match words.first().map(String::as_str) {
        Some("--write") => words.drain(..words.len().min(2)).nth(1),
        _ => None,
    };
    let mut numbers = words.iter().map(|word| word.parse::<u32>());
    let mut number = |default| match numbers.next() {
        None => Some(default),
        Some(number) => number.ok().filter(|number| *number > 0),
    };
    let (Some(routes), Some(upstreams), Some(lookups)) =
        (number(10_000), number(1_000), number(1_000_000))
    else {
        eprintln!("routes [--write FILE] [ROUTES [UPSTREAMS [LOOKUPS]]]: numbers above 0");
        return ExitCode::from(2);
    };
    let text = configuration(routes, upstreams);
    if let Some(file) = file {
        return match std::fs::write(&file, text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{file}: cannot be written: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let Some(loaded) = Loaded::new(&text) else {
        return ExitCode::FAILURE;
    };
    loaded.tell(routes, upstreams, text.len());
    measure(&loaded.plan, routes, lookups);
    ExitCode::SUCCESS
}

/// A plan with what making it took.
struct Loaded {
    plan: Plan,
    /// From the text to the plan.
    whole: Duration,
    /// The table of it.
    table: Duration,
    /// Bytes of the plan; `None` where the kernel does not tell.
    bytes: Option<u64>,
}

impl Loaded {
    fn new(text: &str) -> Option<Self> {
        let mut shortest = Duration::MAX;
        let mut plans = Vec::new();
        let mut resident = Vec::new();
        for _ in 0..LOADS {
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
                Some(last.saturating_sub(*first) / (LOADS - 2))
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

    fn tell(&self, routes: u32, upstreams: u32, text_bytes: usize) {
        let patterns =
            self.plan.table.rules().iter().filter(|(_, rule)| {
                matches!(rule.path, hp_proxy::route::rule::PathRule::Matches(_))
            });
        println!(
            "{routes} routes, {} of them with an expression, {upstreams} upstreams, {text_bytes} bytes of text",
            patterns.count()
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
                bytes / u64::from(routes)
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

/// Routes of twelve kinds over 500 hosts: whole paths, prefixes with and without conditions, names below a host, any host, expressions.
fn configuration(routes: u32, upstreams: u32) -> String {
    let mut text = String::from("[[listener]]\naddress = \"127.0.0.1:0\"\n");
    for index in 0..routes {
        let upstream = index % upstreams;
        let host = match index % KINDS {
            10 => String::new(),
            8 | 9 => format!("host = \"*.zone{}.example.test\"\n", index % 500),
            _ => format!("host = \"host{}.example.test\"\n", index % 500),
        };
        let rule = match index % KINDS {
            0 => format!("path = \"/exact/{index}\""),
            1 | 2 => {
                format!("path_prefix = \"/service-{index}/v1/\"\nmethods = [\"GET\", \"POST\"]")
            }
            3 | 4 => format!(
                "path_prefix = \"/api/{index}/\"\nheaders = {{ X-Kind = \"{}\" }}",
                index % 7
            ),
            11 => format!("path_regex = \"^/item-{index}/([0-9]+)$\""),
            _ => format!("path_prefix = \"/team{}/{index}/\"", index % 40),
        };
        put(
            &mut text,
            &format!("[[route]]\n{host}{rule}\nupstream = \"u{upstream}\"\n"),
        );
    }
    put(&mut text, "[[route]]\nupstream = \"u0\"\n");
    for index in 0..upstreams {
        let port = 1024 + index % 64_000;
        let host = index / 64_000 + 1;
        put(
            &mut text,
            &format!("[upstream.u{index}]\nendpoints = [\"127.0.0.{host}:{port}\"]\n"),
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
    let host = match index % KINDS {
        8 | 9 => format!("a.b.zone{}.example.test", index % 500),
        _ => format!("host{}.example.test:8080", index % 500),
    };
    let target = match index % KINDS {
        0 => format!("/exact/{index}"),
        1 | 2 => format!("/service-{index}/v1/users/17?page=2"),
        3 | 4 => format!("/api/{index}/list"),
        11 => format!("/item-{index}/4711"),
        _ => format!("/team{}/{index}/index.html", index % 40),
    };
    let kind = index % 7;
    format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Mozilla/5.0\r\nAccept: */*\r\nAccept-Encoding: gzip, br\r\n\
         Accept-Language: en\r\nCookie: a=b\r\nX-Kind: {kind}\r\n\r\n"
    )
}

/// What routes of an index ask for besides host and path.
fn kind(index: u32) -> &'static str {
    match index % KINDS {
        1..=4 => "with a condition",
        11 => "with an expression",
        _ => "by host and path",
    }
}

fn measure(plan: &Plan, routes: u32, lookups: u32) {
    let requests: Vec<(u32, String)> = (0..SAMPLES)
        .map(|sample| sample.wrapping_mul(2_654_435_761) % routes)
        .map(|index| (index, request(index)))
        .collect();
    let mut clock: Vec<u64> = (0..100_000).map(|_| nanos(|| ())).collect();
    clock.sort_unstable();
    let overhead = percentile(&clock, 500);
    let mut right: u64 = 0;
    let mut times: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (index, text) in requests.iter().cycle().take(lookups as usize) {
        // As in the proxy, the head was read just before; of the table only what the request before it needed, too, is near.
        let mut scratch = HeaderScratch::new();
        let parsed = parse_request(text.as_bytes(), &HeadLimits::default(), &mut scratch);
        let Ok(Parse::Complete(head)) = parsed else {
            continue; // Never: it was written above.
        };
        let mut found = None;
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
            found = black_box(plan.table.find(black_box(&facts))).map(|winner| winner.route.0);
        });
        right += u64::from(found == Some(*index));
        let of_kind = times.entry(kind(*index)).or_default();
        of_kind.push(took.saturating_sub(overhead));
    }
    println!("{lookups} look-ups, {right} found their route; the clock takes {overhead} ns");
    let all: Vec<u64> = times.values().flatten().copied().collect();
    times.insert("all", all);
    for (kind, times) in &mut times {
        times.sort_unstable();
        let of = |tenths| percentile(times, tenths);
        println!(
            "{kind:18}  p50 {} ns, p90 {} ns, p99 {} ns, p99.9 {} ns, max {} ns",
            of(500),
            of(900),
            of(990),
            of(999),
            times.last().copied().unwrap_or_default()
        );
    }
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
/// Of routes.
const KINDS: u32 = 12;
/// Plans that are made, one after the other; at least 3.
const LOADS: u64 = 5;
