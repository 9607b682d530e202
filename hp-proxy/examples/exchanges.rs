//! Plays whole exchanges of hostile bytes by seed: `make fuzz-volume`. Each seed is a run of the real proxy in a simulated kernel;
//! what does not hold, panics or hangs is printed with its seed and its bytes.

#[path = "../tests/hostile/mod.rs"]
mod model;

use clap::Parser;
use model::{Script, play};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Plays whole exchanges of hostile bytes by seed, on one core.
#[derive(Clone, Debug, Parser)]
struct Cli {
    /// How many seeds; each is one to eight clients with one to three requests
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,

    /// The first of them
    #[arg(long, default_value_t = 0)]
    first: u64,

    /// Plays this file of the corpus instead
    #[arg(long)]
    file: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (alive, ended) = channel::<()>();
    let watched = std::thread::Builder::new().spawn(move || watch(&ended));
    let outcome = match &cli.file {
        Some(path) => play_file(path),
        None => run(&cli),
    };
    drop(alive);
    let outcome = match watched {
        Ok(_watcher) => outcome,
        Err(error) => Err(format!("no thread that would notice a hang: {error}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            println!("{what}");
            ExitCode::FAILURE
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a stopwatch around the code under test"
)]
fn run(cli: &Cli) -> Result<(), String> {
    let begun = Instant::now();
    let (mut exchanges, mut forwarded) = (0, 0);
    for seed in cli.first..cli.first.saturating_add(cli.seeds) {
        SEED.store(seed, Ordering::Relaxed);
        let script = Script::from_seed(seed);
        let what = match catch_unwind(AssertUnwindSafe(|| play(&script))) {
            Ok(Ok(played)) => {
                exchanges += played.exchanges;
                forwarded += played.forwarded;
                continue;
            }
            Ok(Err(what)) => what,
            Err(_told_by_the_hook) => String::from("a panic outside any task"),
        };
        return Err(format!("seed {seed}: {what}\n{}", again(seed)));
    }
    let wall = begun.elapsed().as_secs_f64();
    let seconds = cpu_seconds().unwrap_or(wall);
    println!(
        "seeds {} exchanges {exchanges} forwarded {forwarded} in {wall:.1} s, {seconds:.1} s of one core: {:.0} exchanges/s",
        cli.seeds,
        exchanges as f64 / seconds.max(1e-9)
    );
    Ok(())
}

fn play_file(path: &Path) -> Result<(), String> {
    let told = |what: String| format!("{}: {what}", path.display());
    let bytes = std::fs::read(path).map_err(|error| told(error.to_string()))?;
    let played = play(&Script::from_bytes(&bytes)).map_err(told)?;
    let (exchanges, forwarded) = (played.exchanges, played.forwarded);
    println!(
        "{}: exchanges {exchanges} forwarded {forwarded}",
        path.display()
    );
    Ok(())
}

/// How to see a seed again, and its bytes as a file of the corpus.
fn again(seed: u64) -> String {
    let bytes = Script::from_seed(seed).to_bytes();
    let text = bytes.escape_ascii();
    format!("bytes: {text}\nagain: make fuzz-volume WHAT=exchanges FIRST={seed} VOLUME=1")
}

/// Time that this thread ran, which is what a core gives while others want it, too. The kernel tells it in nanoseconds.
fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanos: u64 = text.split(' ').next()?.parse().ok()?;
    Some(nanos as f64 / 1e9)
}

/// Ends the program when one seed takes longer than [`PATIENCE`].
fn watch(ended: &Receiver<()>) {
    let mut last = None;
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(PATIENCE) {
        let seed = SEED.load(Ordering::Relaxed);
        if last == Some(seed) {
            println!("seed {seed}: a hang\n{}", again(seed));
            std::process::exit(1);
        }
        last = Some(seed);
    }
}

/// The seed in work.
static SEED: AtomicU64 = AtomicU64::new(u64::MAX);

/// A seed is some milliseconds of work.
const PATIENCE: Duration = Duration::from_secs(30);
