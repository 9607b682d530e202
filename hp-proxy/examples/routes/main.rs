//! What many routes cost: loads a configuration with 10,000 routes and 1,000 upstreams, then looks up requests for routes at random,
//! and some for none, each as the proxy does it once it has read the head: the path is made normal, then host, path, method,
//! fields and query are looked for in the table.
//!
//! `cargo run --release -p hp-proxy --example routes -- [--p99-max NS] [ROUTES [UPSTREAMS [LOOKUPS]]]`
//!
//! Times of single look-ups are in nanoseconds, without that of reading the clock, which is told; what else the machine did meanwhile
//! is in them. What it does to a measurement is shown by three more, timed beside each look-up: nothing, a computation about as long that reads no memory, and the same request each time. A request is copied into one buffer, the same for all, and read there just before the clock is, as in the proxy; requests are written some at a time, and times are counted where
//! others of the same 5 ns were counted before, so that measuring takes little of the caches. Each is made a second time at once, when memory and branches are known: the difference is what those cost. Of batches it is the mean of a look-up, so that neither clock nor interrupts weigh much. `--p99-max` ends with 1 where
//! the 99th percentile of single look-ups is above.
//!
//! `valgrind --tool=callgrind --toggle-collect='*look_up*' target/release/examples/routes --count 10000 1000 20000`
//!
//! With `--count` requests are looked up and nothing is timed; callgrind tells the instructions of all look-ups together. `--count-of
//! KIND` takes only requests of one kind, by the name that the times have it by. `--cold-of KIND` does, too, and uses other memory before each request is written: with `--cache-sim=yes`, misses of
//! the first cache are then the lines that a look-up reads besides the request.
//!
//! `--sizes` tells what the table takes, by part, and nothing else. `--slowest` times single look-ups, too, and tells which kinds the slowest hundredth is of, and whether the same
//! ones are slow in another run. Then, in turns with that, each request is looked up just before in another table with the same routes: where that makes the slowest no
//! faster, they wait for memory, not for branches.
//!
//! `--write FILE` and `--write-one FILE` write configurations to compare whole proxies with, one with all routes and the other with one,
//! all to the same server: `${LISTEN}` and `${BACKEND}` are where from and where to, with one worker.
#![expect(
    clippy::disallowed_methods,
    reason = "a stopwatch around the code under test"
)]

mod load;
mod mixture;
mod requests;
mod timed;
mod times;

use hp_core::sys::cpu::{allowed, pin};
use hp_proxy::route::table::Table;
use load::Loaded;
use mixture::{Kind, put};
use requests::{Draws, look_up, with_head};
use std::hint::black_box;
use std::process::ExitCode;
use timed::{in_batches, one_by_one, slowest};

fn main() -> ExitCode {
    let Some(wanted) = Wanted::from_words(std::env::args().skip(1)) else {
        eprintln!(
            "routes [--p99-max NS | --count | --count-of KIND | --cold-of KIND | --sizes | --slowest | --write FILE | --write-one FILE] [ROUTES [UPSTREAMS [LOOKUPS]]]: numbers above 0"
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
        _ => mixture::configuration(wanted.routes, wanted.upstreams),
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
        Task::Slowest => {
            stay_on_one_processor();
            return finish(slowest(table, &wanted));
        }
        Task::Write(..) => return ExitCode::SUCCESS, // Done above.
    };
    stay_on_one_processor();
    measure(table, &wanted, p99_max)
}

/// As workers do: whoever goes to another processor finds its caches empty.
fn stay_on_one_processor() {
    if let Some(error) = allowed()
        .and_then(|cpus| pin(*cpus.last().unwrap_or(&0)))
        .err()
    {
        eprintln!("not pinned to a processor: {error}");
    }
}

/// Tells what look-ups take, and fails where the 99th percentile of single ones is too high.
fn measure(table: &Table, wanted: &Wanted, p99_max: Option<u32>) -> ExitCode {
    let timed = one_by_one(table, wanted, "one by one", || ());
    let p99 = timed.p99();
    let few = Wanted {
        lookups: (wanted.lookups / 50).max(1),
        ..wanted.clone()
    };
    let told = format!("after {} KiB of other memory", OTHER_BYTES >> 10);
    let cold = one_by_one(table, &few, &told, use_other_memory());
    in_batches(table, wanted);
    if let Some(max) = p99_max.filter(|max| p99 > u64::from(*max)) {
        eprintln!("the 99th percentile of single look-ups, {p99} ns, is above {max} ns");
        return ExitCode::FAILURE;
    }
    finish(timed.is_right() && cold.is_right())
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
    /// Which look-ups take longest.
    Slowest,
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
            Some("--slowest") => Task::Slowest,
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

/// Plans that are made, one after the other; at least 3.
const LOADS: u64 = 5;
/// More than the caches have that a processor has for itself; in the proxy the kernel's work for a request comes between two look-ups.
const OTHER_BYTES: usize = 1 << 20;
