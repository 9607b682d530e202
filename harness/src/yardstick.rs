//! How fast the machine is while something is measured: a fixed piece of work that costs more when everything does.
//!
//! On a shared machine a visit of half a second costs 10 to 20 % more or less than the next, all programs of a visit alike: neighbours
//! fill caches and the other half of a core. A thread on the measured server's CPU therefore sends some bytes to and fro over loopback
//! connections of its own, a thirtieth of the time, and tells what a turn cost it. A cost divided by that is one at equal speed.
//!
//! What it costs depends a little on who else has the caches: between two programs of different kinds it would be unfair by some
//! percent, and in a load at a rate it would be seen in the latencies. Two revisions of one program may be compared by it.
//!
//! Must not know: who is measured.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use hp_core::sys::clock::thread_cpu_ns;
use hp_core::sys::cpu;

/// Threads that measure until they are read or dropped.
#[derive(Debug)]
pub struct Yardstick {
    /// A thread ends when its channel does.
    threads: Vec<(Sender<()>, JoinHandle<Vec<f64>>)>,
}

impl Yardstick {
    /// Begins to measure on each of the CPUs.
    ///
    /// # Errors
    /// What the kernel answers to a connection with oneself.
    pub fn lay(cpus: &[u32]) -> io::Result<Self> {
        Self::lay_for(cpus, BURSTS_MAX)
    }

    fn lay_for(cpus: &[u32], bursts_max: usize) -> io::Result<Self> {
        let mut threads = Vec::new();
        for &cpu in cpus {
            let (turn, (end, ended)) = (Turn::new()?, mpsc::channel());
            let thread = std::thread::Builder::new().name("yardstick".to_owned());
            let thread = thread.spawn(move || measure(cpu, turn, (&ended, bursts_max)))?;
            threads.push((end, thread));
        }
        Ok(Self { threads })
    }

    /// Ends, and tells CPU time per turn in ns, the mean over CPUs and bursts; none where a thread could not stay on its CPU, or there
    /// were too few bursts to tell.
    pub fn read(self) -> Option<f64> {
        let mut sum = 0.0;
        let count = self.threads.len();
        for (end, thread) in self.threads {
            drop(end);
            let bursts = thread.join().ok()?;
            if bursts.len() < BURSTS_MIN {
                return None;
            }
            sum += bursts.iter().sum::<f64>() / bursts.len() as f64;
        }
        (count > 0).then(|| sum / count as f64)
    }
}

/// CPU time per turn in ns, by burst; nothing where the kernel refuses.
fn measure(cpu: u32, mut turn: Turn, (ended, bursts_max): (&Receiver<()>, usize)) -> Vec<f64> {
    let mut bursts = Vec::new();
    if cpu::pin(cpu as usize).is_err() {
        return bursts;
    }
    while bursts.len() < bursts_max && ended.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout)
    {
        match turn.burst() {
            Ok(nanos) => bursts.push(nanos),
            Err(_refused) => return Vec::new(),
        }
    }
    bursts
}

/// Connections with oneself, by both of their ends, and whose turn it is.
#[derive(Debug)]
struct Turn {
    pairs: Vec<[TcpStream; 2]>,
    next: usize,
}

impl Turn {
    #[expect(
        clippy::disallowed_methods,
        reason = "the harness has no runtime, and this is to be what the kernel costs"
    )]
    fn new() -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let mut pairs = Vec::with_capacity(PAIRS);
        for _ in 0..PAIRS {
            let one = TcpStream::connect(listener.local_addr()?)?;
            let (other, _peer) = listener.accept()?;
            for end in [&one, &other] {
                end.set_nodelay(true)?;
                end.set_read_timeout(Some(PATIENCE))?; // What was sent is there at once, unless the kernel is out of memory.
            }
            pairs.push([one, other]);
        }
        Ok(Self { pairs, next: 0 })
    }

    /// CPU time of a turn in ns, the mean of some.
    fn burst(&mut self) -> io::Result<f64> {
        let before = thread_cpu_ns();
        for _ in 0..TURNS {
            self.once()?;
        }
        Ok((thread_cpu_ns() - before) as f64 / f64::from(TURNS))
    }

    fn once(&mut self) -> io::Result<()> {
        self.next = (self.next + 1) % PAIRS;
        let Some([one, other]) = self.pairs.get_mut(self.next) else {
            return Ok(()); // Never: there are so many.
        };
        let mut bytes = [0; MESSAGE_BYTES];
        one.write_all(&bytes)?;
        other.read_exact(&mut bytes)?;
        other.write_all(&bytes)?;
        one.read_exact(&mut bytes)
    }
}

/// Connections that take turns: a server's are many, too, and what it finds of one in the caches is what others have left.
const PAIRS: usize = 64;
/// As large as a small request or answer.
const MESSAGE_BYTES: usize = 128;
/// Turns of a burst.
const TURNS: u32 = 6;
/// Between two bursts, each of which takes about an eighth of a millisecond.
const PERIOD: Duration = Duration::from_millis(4);
/// Fewer tell nothing.
const BURSTS_MIN: usize = 10;
/// An hour's.
const BURSTS_MAX: usize = 360_000;
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_costs_time_on_every_cpu() {
        let cpus = crate::machine::cpus_allowed();
        let yardstick = Yardstick::lay_for(&cpus, BURSTS_MIN).unwrap();
        while yardstick
            .threads
            .iter()
            .any(|(_end, thread)| !thread.is_finished())
        {
            std::thread::yield_now(); // Ends: each makes so many and no more.
        }
        let nanos = yardstick.read().unwrap();
        assert!(nanos > 100.0 && nanos < 1e9, "{nanos}");
    }

    #[test]
    fn a_cpu_that_is_not_there_tells_nothing() {
        let yardstick = Yardstick::lay(&[1_000_000]).unwrap();
        assert_eq!(yardstick.read(), None);
        assert_eq!(Yardstick::lay(&[]).unwrap().read(), None);
    }
}
