//! Judges hostile messages by seed, without a nightly compiler: `make fuzz-volume`. Each seed is a stream of
//! requests, a stream of responses or a chunked body; what does not hold, panics or hangs is printed with its seed.

#[path = "../tests/differential/judge.rs"]
mod judge;

use clap::Parser;
use hp_oracle::choices::Choices;
use hp_oracle::hostile;
use judge::{JUDGES, Judge, Judged};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Judges hostile messages by seed, on one core.
#[derive(Clone, Copy, Debug, Parser)]
struct Cli {
    /// How many seeds; each is one to three messages
    #[arg(long, default_value_t = 1_000_000)]
    seeds: u64,

    /// The first of them
    #[arg(long, default_value_t = 0)]
    first: u64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (alive, ended) = channel::<()>();
    let watched = std::thread::Builder::new().spawn(move || watch(&ended));
    let total = run(cli);
    drop(alive);
    match (total, watched) {
        (Err(what), _) => {
            println!("{what}");
            ExitCode::FAILURE
        }
        (Ok(_), Err(error)) => {
            println!("no thread that would notice a hang: {error}");
            ExitCode::FAILURE
        }
        (Ok(()), Ok(_watcher)) => ExitCode::SUCCESS,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a stopwatch around the code under test"
)]
fn run(cli: Cli) -> Result<(), String> {
    let begun = Instant::now();
    let mut total = Judged::default();
    let mut bytes = Vec::new();
    for seed in cli.first..cli.first.saturating_add(cli.seeds) {
        SEED.store(seed, Ordering::Relaxed);
        bytes.clear();
        let judge = generate(seed, &mut bytes);
        let what = match catch_unwind(AssertUnwindSafe(|| judge(&bytes))) {
            Ok(Ok(judged)) => {
                total.messages += judged.messages;
                total.taken += judged.taken;
                continue;
            }
            Ok(Err(what)) => what,
            Err(_told_by_the_hook) => String::from("a panic"),
        };
        let text = bytes.escape_ascii();
        return Err(format!(
            "seed {seed}: {what}\nbytes: {text}\nagain: make fuzz-volume WHAT=messages FIRST={seed} VOLUME=1"
        ));
    }
    let wall = begun.elapsed().as_secs_f64();
    let seconds = cpu_seconds().unwrap_or(wall);
    let rate = total.messages as f64 / seconds.max(1e-9);
    println!(
        "seeds {} messages {} taken {} in {wall:.1} s, {seconds:.1} s of one core: {rate:.0} messages/s",
        cli.seeds, total.messages, total.taken
    );
    Ok(())
}

/// Time that this thread ran, which is what a core gives while others want it, too. The kernel tells it in nanoseconds.
fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanos: u64 = text.split(' ').next()?.parse().ok()?;
    Some(nanos as f64 / 1e9)
}

/// Makes the bytes of a seed, and says by whom they are judged. Cuts are tried rarely: they cost as much as a hundred others.
fn generate(seed: u64, bytes: &mut Vec<u8>) -> Judge {
    let mut choices = Choices::from_seed(seed);
    let kind = match choices.below(256) {
        0 => 3,
        1 => 4,
        drawn => drawn % 3,
    };
    match kind {
        0 => hostile::requests(&mut choices, bytes),
        1 => hostile::responses(&mut choices, bytes),
        2 => hostile::chunks(&mut choices, bytes),
        3 => match choices.below(3) {
            0 => hostile::requests(&mut choices, bytes),
            1 => hostile::responses(&mut choices, bytes),
            _ => hostile::chunks(&mut choices, bytes),
        },
        _ => hostile::target(&mut choices, bytes),
    }
    JUDGES[kind].1
}

/// Ends the program when one seed takes longer than [`PATIENCE`].
fn watch(ended: &Receiver<()>) {
    let mut last = None;
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(PATIENCE) {
        let seed = SEED.load(Ordering::Relaxed);
        if last == Some(seed) {
            let mut bytes = Vec::new();
            let _judge = generate(seed, &mut bytes);
            println!("seed {seed}: a hang\nbytes: {}", bytes.escape_ascii());
            println!("again: make fuzz-volume WHAT=messages FIRST={seed} VOLUME=1");
            std::process::exit(1);
        }
        last = Some(seed);
    }
}

/// The seed in work.
static SEED: AtomicU64 = AtomicU64::new(u64::MAX);

/// A seed is some microseconds of work.
const PATIENCE: Duration = Duration::from_secs(10);
