//! What the machine itself does: whether its CPUs are whole ones.

use std::time::Duration;

use crate::clock;
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::process::{Launch, Launcher, Seat};

/// How much more two CPUs do than one: near 2 for two cores, 1.2 to 1.4 for two threads of one core, or a busy host; none
/// where load and server are not kept apart.
///
/// # Errors
/// [`Error::Spawn`], [`Error::Interrupted`].
pub fn cpu_scaling(launcher: &Launcher, interrupt: &Interrupt) -> Result<Option<f64>, Error> {
    let (server, others) = (
        launcher.cpus_of(Seat::Server),
        launcher.cpus_of(Seat::Others),
    );
    if server == others {
        return Ok(None);
    }
    let alone = spin(launcher, interrupt, &[Seat::Server])?;
    let both = spin(launcher, interrupt, &[Seat::Server, Seat::Others])?;
    Ok(alone
        .zip(both)
        .map(|(alone, both)| (both / alone * 100.0).round() / 100.0))
}

/// Counts as fast as it can for a while; what `harness spin` prints.
pub fn count_for(length: Duration) -> u64 {
    let deadline = clock::now() + length;
    let mut count = 0u64;
    while clock::now() < deadline {
        for _ in 0..1_000 {
            count = std::hint::black_box(count) + 1;
        }
    }
    count
}

/// Runs one spinning process on each of these seats; the sum of their counts, or none where one gives no count.
fn spin(launcher: &Launcher, interrupt: &Interrupt, seats: &[Seat]) -> Result<Option<f64>, Error> {
    let Ok(path) = std::env::current_exe() else {
        return Ok(None);
    };
    let launch = Launch {
        program: "harness".into(),
        path,
        args: vec!["spin".into(), SPIN_MS.to_string()],
        ..Launch::default()
    };
    let mut running = Vec::new();
    for seat in seats {
        running.push(launcher.start(&launch, *seat)?);
    }
    let mut sum = 0.0;
    for process in &mut running {
        let deadline = clock::now() + Duration::from_millis(SPIN_MS) + SPIN_LATE;
        let status = process.wait_until(deadline, interrupt);
        if interrupt.came() {
            return Err(Error::Interrupted);
        }
        let count = process.stdout().trim().parse::<f64>();
        match (status, count) {
            (Some(_ended), Ok(count)) if count > 0.0 => sum += count,
            _ => return Ok(None),
        }
    }
    Ok(Some(sum))
}

const SPIN_MS: u64 = 300;
const SPIN_LATE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spinning_counts() {
        assert!(count_for(Duration::from_millis(2)) > 0);
    }
}
