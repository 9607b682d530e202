//! What many routes cost: loads a configuration with 10,000 routes and 1,000 upstreams, then looks up requests for routes at random,
//! and some for none, each as the proxy does it once it has read the head: the path is made normal, then host, path, method,
//! fields and query are looked for in the table.
//!
//! `cargo run --release -p hp-proxy --example routes -- [--p99-max NS] [ROUTES [UPSTREAMS [LOOKUPS]]]`
//!
//! Times of single look-ups are in nanoseconds, without that of reading the clock, which is told; what else the machine did meanwhile
//! is in them. A request is written into one buffer, the same for all, and read there just before the clock is, as in the proxy; times are counted where equal ones were counted before, so that
//! measuring takes little of the caches. Each is made a second time at once, when memory and branches are known: the difference is what those cost. Of batches it is the mean of a look-up, so that neither clock nor interrupts weigh much. `--p99-max` ends with 1 where
//! the 99th percentile of single look-ups is above.
//!
//! `valgrind --tool=callgrind --toggle-collect='*look_up*' target/release/examples/routes --count 10000 1000 20000`
//!
//! With `--count` requests are looked up and nothing is timed; callgrind tells the instructions of all look-ups together. `--count-of
//! KIND` takes only requests of one kind, by the name that the times have it by. `--cold-of KIND` does, too, and uses other memory before each request is written: with `--cache-sim=yes`, misses of
//! the first cache are then the lines that a look-up reads besides the request.
//!
//! `--sizes` tells what the table takes, by part, and nothing else.
//!
//! `--write FILE` and `--write-one FILE` write configurations to compare whole proxies with, one with all routes and the other with one,
//! all to the same server: `${LISTEN}` and `${BACKEND}` are where from and where to, with one worker.
#![expect(
    clippy::disallowed_methods,
    reason = "a stopwatch around the code under test"
)]

mod mixture;

use hp_core::wire::http1::head::{HeadLimits, HeaderScratch, Parse};
use hp_core::wire::http1::request::{RequestHead, parse_request};
use hp_proxy::config::load_text;
use hp_proxy::config::plan::Plan;
use hp_proxy::route::table::Table;
use hp_proxy::route::{Facts, path};
use mixture::{Kind, put};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let Some(wanted) = Wanted::from_words(std::env::args().skip(1)) else {
        eprintln!(
            "routes [--p99-max NS | --count | --count-of KIND | --cold-of KIND | --sizes | --write FILE | --write-one FILE] [ROUTES [UPSTREAMS [LOOKUPS]]]: numbers above 0"
        );
        return ExitCode::from(2);
    };
    let text = match &wanted.task {
        Task::Write(file, is_one) => {
            let text = to_compare_with(&wanted, *is_one);
            return match std::fs::write(file, text) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("{file}: cannot be written: {error}");
                    ExitCode::FAILURE
                }
            };
        }
        Task::Cold(_) | Task::Count(_) | Task::Measure(_) | Task::Sizes => {
            mixture::configuration(wanted.routes, wanted.upstreams)
        }
    };
    let loads = match wanted.task {
        Task::Measure(_) => LOADS,
        _ => 1,
    };
    let Some(loaded) = Loaded::new(&text, loads) else {
        return ExitCode::FAILURE;
    };
    loaded.tell(&wanted, text.len());
    let table = &loaded.plan.table;
    let p99_max = match wanted.task {
        Task::Measure(p99_max) => p99_max,
        Task::Cold(kind) => return finish(count(table, &wanted, Some(kind), use_other_memory())),
        Task::Count(kind) => return finish(count(table, &wanted, kind, || ())),
        Task::Sizes => {
            tell_sizes(table);
            return ExitCode::SUCCESS;
        }
        Task::Write(..) => return ExitCode::SUCCESS, // Done above.
    };
    let (p99, all_right) = one_by_one(table, &wanted, "one by one", || ());
    let few = Wanted {
        lookups: (wanted.lookups / 50).max(1),
        ..wanted.clone()
    };
    let told = format!("after {} KiB of other memory", OTHER_BYTES >> 10);
    let (_, all_right_then) = one_by_one(table, &few, &told, use_other_memory());
    in_batches(table, &wanted);
    if let Some(max) = p99_max.filter(|max| p99 > u64::from(*max)) {
        eprintln!("the 99th percentile of single look-ups, {p99} ns, is above {max} ns");
        return ExitCode::FAILURE;
    }
    finish(all_right && all_right_then)
}

/// Something that reads and writes [`OTHER_BYTES`] of memory.
fn use_other_memory() -> impl FnMut() {
    let mut other = vec![1_u64; OTHER_BYTES / 8];
    move || {
        other.iter_mut().step_by(8).for_each(|word| *word += 1);
        black_box(&other);
    }
}

fn tell_sizes(table: &Table) {
    let sizes = table.sizes();
    for (part, bytes) in sizes {
        println!("  {part:24} {bytes:9} bytes");
    }
    let bytes: usize = sizes.iter().map(|(_, bytes)| bytes).sum();
    println!("  {:24} {bytes:9} bytes", "all that look-ups read");
}

fn finish(is_right: bool) -> ExitCode {
    if is_right {
        return ExitCode::SUCCESS;
    }
    eprintln!("look-ups found other routes than those that the requests were made for");
    ExitCode::FAILURE
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Task {
    /// Those of one kind, each with other memory used before.
    Cold(Kind),
    /// With the most that the 99th percentile may be, in ns.
    Measure(Option<u32>),
    /// Those of one kind, or all.
    Count(Option<Kind>),
    /// What the parts of the table take.
    Sizes,
    /// To a file; whether it is the configuration with one route.
    Write(String, bool),
}

#[derive(Clone, Debug)]
struct Wanted {
    task: Task,
    routes: u32,
    upstreams: u32,
    lookups: u32,
}

impl Wanted {
    fn from_words(words: impl Iterator<Item = String>) -> Option<Self> {
        let mut words = words.peekable();
        let flag = words.next_if(|word| word.starts_with("--"));
        let task = match flag.as_deref() {
            None => Task::Measure(None),
            Some("--p99-max") => Task::Measure(Some(words.next()?.parse().ok()?)),
            Some("--count") => Task::Count(None),
            Some("--count-of") => Task::Count(Some(Kind::named(&words.next()?)?)),
            Some("--cold-of") => Task::Cold(Kind::named(&words.next()?)?),
            Some("--sizes") => Task::Sizes,
            Some("--write") => Task::Write(words.next()?, false),
            Some("--write-one") => Task::Write(words.next()?, true),
            Some(_) => return None,
        };
        let mut number = |default| match words.next().map(|word| word.parse()) {
            None => Some(default),
            Some(number) => number.ok().filter(|number| *number > 0),
        };
        Some(Self {
            task,
            routes: number(10_000)?,
            upstreams: number(1_000)?,
            lookups: number(1_000_000)?,
        })
    }
}

/// A configuration under which requests for `/` of any host take the last route, or the only one.
fn to_compare_with(wanted: &Wanted, is_one: bool) -> String {
    let mut text = String::from("workers = 1\n[[listener]]\naddress = \"${LISTEN}\"\n");
    let upstreams = if is_one { 1 } else { wanted.upstreams };
    if !is_one {
        mixture::append_routes(&mut text, wanted.routes, upstreams);
    }
    put(
        &mut text,
        format_args!("[[route]]\nupstream = \"u{}\"\n", upstreams - 1),
    );
    for index in 0..upstreams {
        put(
            &mut text,
            format_args!("[upstream.u{index}]\nendpoints = [\"${{BACKEND}}\"]\n"),
        );
    }
    text
}

/// A plan with what making it took.
struct Loaded {
    plan: Plan,
    /// From the text to the plan.
    whole: Duration,
    /// The table of it.
    table: Duration,
    /// Bytes of the plan; `None` where the kernel does not tell, or too few were made.
    bytes: Option<u64>,
}

impl Loaded {
    fn new(text: &str, loads: u64) -> Option<Self> {
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

    fn tell(&self, wanted: &Wanted, text_bytes: usize) {
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

/// Routes at random, the same in each run: one request in twenty is for none of them.
struct Draws(u64);

impl Draws {
    fn next(&mut self, routes: u32) -> (u32, bool) {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let is_miss = ((self.0 >> 24) & 0xFFFF).is_multiple_of(20);
        let route = ((self.0 >> 32) * u64::from(routes)) >> 32;
        (u32::try_from(route).unwrap_or_default(), is_miss)
    }
}

/// What is under test. Not inlined, so that a profile finds it.
#[inline(never)]
fn look_up(table: &Table, head: &RequestHead<'_, '_>) -> Option<u32> {
    let host = head.authority.map(|authority| authority.host());
    let host = host.unwrap_or_default();
    let among = table.of_host(host);
    let (path, query) = head.target.path_then_query();
    let path = path::normal(path);
    let facts = Facts {
        host,
        path: &path,
        query,
        method: head.method.as_str(),
        fields: &head.fields,
        client: None,
    };
    let winner = table.find_among(among, &facts);
    winner.map(|winner| winner.route.0)
}

/// Reads a request that was written here, and looks at it.
fn with_head<T>(text: &str, look: impl FnOnce(&RequestHead<'_, '_>) -> T) -> Option<T> {
    let mut scratch = HeaderScratch::new();
    match parse_request(text.as_bytes(), &HeadLimits::default(), &mut scratch) {
        Ok(Parse::Complete(head)) => Some(look(&head)),
        _ => None, // Never: it is whole.
    }
}

/// Looks up without a clock, with something before each request that takes no part; whether all found what they should.
fn count(table: &Table, wanted: &Wanted, kind: Option<Kind>, mut before: impl FnMut()) -> bool {
    let mut draws = Draws(1);
    let mut text = String::new();
    let (mut right, mut made): (u32, u32) = (0, 0);
    for _ in 0..wanted.lookups {
        let (route, is_miss) = draws.next(wanted.routes);
        if kind.is_some_and(|kind| kind != Kind::of(route, is_miss)) {
            continue;
        }
        before();
        mixture::write_request(&mut text, route, is_miss);
        let found = with_head(&text, |head| look_up(table, head)).flatten();
        let expected = if is_miss { wanted.routes } else { route };
        right += u32::from(found == Some(expected));
        made += 1;
    }
    println!("{made} look-ups, {right} of them right");
    right == made
}

/// Times single look-ups, with something before each that takes no part. Gives the 99th percentile, and whether all were right.
fn one_by_one(table: &Table, wanted: &Wanted, told: &str, mut before: impl FnMut()) -> (u64, bool) {
    let mut clock = Times::default();
    (0..100_000).for_each(|_| clock.count(nanos(|| None).0));
    let overhead = clock.percentile(500);
    let mut draws = Draws(1);
    let mut text = String::new();
    let mut right: u32 = 0;
    let mut times: BTreeMap<Kind, Times> = BTreeMap::new();
    let mut times_again = Times::default();
    for _ in 0..wanted.lookups {
        let (route, is_miss) = draws.next(wanted.routes);
        mixture::write_request(&mut text, route, is_miss);
        before();
        // As in the proxy, the head was read just before.
        let timed = with_head(&text, |head| {
            let first = nanos(|| look_up(table, black_box(head)));
            let (again, _) = nanos(|| look_up(table, black_box(head)));
            (first, again)
        });
        let ((took, found), again) = timed.unwrap_or_default();
        let expected = if is_miss { wanted.routes } else { route };
        right += u32::from(found == Some(expected));
        let of_kind = times.entry(Kind::of(route, is_miss)).or_default();
        of_kind.count(took.saturating_sub(overhead));
        times_again.count(again.saturating_sub(overhead));
    }
    println!(
        "{told}: {} look-ups, {right} of them right; the clock takes {overhead} ns, p99 {} ns",
        wanted.lookups,
        clock.percentile(990)
    );
    let mut all = Times::default();
    for (kind, times) in &times {
        times.tell(kind.name());
        all.add(times);
    }
    all.tell("all");
    times_again.tell("all, at once again");
    (all.percentile(990), right == wanted.lookups)
}

/// Times look-ups of requests whose heads were all read before.
fn in_batches(table: &Table, wanted: &Wanted) {
    let mut draws = Draws(2);
    let mut texts = vec![String::new(); BATCH];
    let mut means = Times::default();
    for _ in 0..wanted.lookups as usize / BATCH {
        for text in &mut texts {
            let (route, is_miss) = draws.next(wanted.routes);
            mixture::write_request(text, route, is_miss);
        }
        let mut scratches: Vec<HeaderScratch<'_>> =
            (0..BATCH).map(|_| HeaderScratch::new()).collect();
        let mut heads = Vec::with_capacity(BATCH);
        for (text, scratch) in texts.iter().zip(&mut scratches) {
            if let Ok(Parse::Complete(head)) =
                parse_request(text.as_bytes(), &HeadLimits::default(), scratch)
            {
                heads.push(head);
            }
        }
        let (took, found) = nanos(|| {
            let found = heads.iter().map(|head| look_up(table, black_box(head)));
            found.fold(None, Ord::max)
        });
        black_box(found);
        means.count(took / BATCH as u64);
    }
    means.tell(&format!("in batches of {BATCH}, the mean"));
}

/// Times in nanoseconds, as how often each was taken: a list of all would be written through the caches.
struct Times {
    /// By time; those of [`TIMES_MAX`] and more are one.
    counts: Vec<u32>,
    longest: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            counts: vec![0; TIMES_MAX + 1],
            longest: 0,
        }
    }
}

impl Times {
    fn count(&mut self, time: u64) {
        let place = usize::try_from(time).map_or(TIMES_MAX, |time| time.min(TIMES_MAX));
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
        self.longest = self.longest.max(time);
    }

    fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.longest = self.longest.max(other.longest);
    }

    /// The time that so many tenths of a percent are below of; the longest, where that is [`TIMES_MAX`] or more.
    fn percentile(&self, tenths: u64) -> u64 {
        let all: u64 = self.counts.iter().copied().map(u64::from).sum();
        let mut left = all * tenths / 1000;
        for (time, count) in (0..).zip(&self.counts) {
            match left.checked_sub(u64::from(*count)) {
                Some(less) => left = less,
                None if time < TIMES_MAX as u64 => return time,
                None => break,
            }
        }
        self.longest
    }

    fn tell(&self, what: &str) {
        println!(
            "  {what:28} p50 {:4} ns, p90 {:4} ns, p99 {:4} ns, p99.9 {:5} ns, max {} ns",
            self.percentile(500),
            self.percentile(900),
            self.percentile(990),
            self.percentile(999),
            self.longest
        );
    }
}

fn nanos(work: impl FnOnce() -> Option<u32>) -> (u64, Option<u32>) {
    let began = Instant::now();
    let found = work();
    let took = u64::try_from(began.elapsed().as_nanos());
    (took.unwrap_or(u64::MAX), found)
}

/// Plans that are made, one after the other; at least 3.
const LOADS: u64 = 5;
/// Look-ups that are timed together.
const BATCH: usize = 16;
/// More than the caches have that a processor has for itself; in the proxy the kernel's work for a request comes between two look-ups.
const OTHER_BYTES: usize = 1 << 20;
/// Longer times are not told apart, in nanoseconds.
const TIMES_MAX: usize = 100_000;
