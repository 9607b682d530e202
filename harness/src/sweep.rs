//! What will be measured: the complete plan, and the servers and cells that it implies, in the tables' order.
//!
//! The engine and the number of workers of a cell are those of its server, the one program whose CPU time is
//! counted. Load and backend keep one engine throughout, so that a ratio between two engines compares one thing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An I/O engine of the measured server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// io_uring.
    Uring,
    /// epoll.
    Epoll,
    /// A thread per connection.
    Threads,
}

impl FromStr for Engine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "uring" => Ok(Self::Uring),
            "epoll" => Ok(Self::Epoll),
            "threads" => Ok(Self::Threads),
            _ => Err("not an engine; write uring, epoll or threads".into()),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Uring => "uring",
            Self::Epoll => "epoll",
            Self::Threads => "threads",
        })
    }
}

/// The way from the load generator to the answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// hp-bench → hp-echo: the measured server is hp-echo.
    Direct,
    /// hp-bench → hp-proxy → hp-echo: the measured server is hp-proxy.
    Proxied,
}

impl fmt::Display for Layout {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Direct => "direct",
            Self::Proxied => "proxied",
        })
    }
}

/// Which copy of a server a cell measures.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The server that the cell is about.
    Subject,
    /// A second process of the reference server: what it differs by is noise (A/A).
    Control,
}

/// One server process that is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Target {
    /// Which program it is and what stands behind it.
    pub layout: Layout,
    /// Its workers, at least 1.
    pub workers: u32,
    /// Its engine.
    pub engine: Engine,
    /// Subject or A/A control.
    pub part: Part,
}

/// One server under one load; every round visits it once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// The measured server.
    #[serde(flatten)]
    pub target: Target,
    /// Client connections of the closed loop, at least 1.
    pub connections: u32,
}

impl fmt::Display for Cell {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Target {
            layout,
            workers,
            engine,
            part,
        } = self.target;
        write!(out, "{layout}/{engine}/w{workers}/c{}", self.connections)?;
        match part {
            Part::Subject => Ok(()),
            Part::Control => write!(out, "/aa"),
        }
    }
}

/// A session, complete: no default is left open.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Engines, no duplicates, at least one; the last is the reference that the others are compared with.
    pub engines: Vec<Engine>,
    /// Numbers of workers, no duplicates, at least one.
    pub workers: Vec<u32>,
    /// Numbers of client connections, no duplicates, at least one.
    pub connections: Vec<u32>,
    /// Length of one run of the load generator.
    pub seconds: u32,
    /// Visits to every cell, at least 1.
    pub rounds: u32,
    /// Bytes of the answer's body.
    pub body_bytes: u32,
    /// Engine of the load generator, and of the backend behind a proxy.
    pub load_engine: Engine,
    /// Threads of the load generator; never more than connections.
    pub load_threads: u32,
    /// Seeds the order of the rounds and the bootstrap.
    pub seed: u64,
}

impl Plan {
    /// The engine that the others are compared with.
    pub fn reference(&self) -> Engine {
        *self.engines.last().expect("a plan has an engine")
    }

    /// All measured servers; the controls are copies of the reference engine's.
    pub fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        for layout in [Layout::Direct, Layout::Proxied] {
            for &workers in &self.workers {
                for &engine in &self.engines {
                    targets.push(Target {
                        layout,
                        workers,
                        engine,
                        part: Part::Subject,
                    });
                }
                let engine = self.reference();
                targets.push(Target {
                    layout,
                    workers,
                    engine,
                    part: Part::Control,
                });
            }
        }
        targets
    }

    /// All cells, in the order of the tables: layout, workers, connections, engine, control last.
    pub fn cells(&self) -> Vec<Cell> {
        let targets = self.targets();
        let per_group = self.engines.len() + 1;
        let mut cells = Vec::new();
        for group in targets.chunks(per_group) {
            for &connections in &self.connections {
                cells.extend(group.iter().map(|&target| Cell {
                    target,
                    connections,
                }));
            }
        }
        cells
    }

    /// The largest number of connections of any cell.
    pub fn connections_max(&self) -> u32 {
        self.connections
            .iter()
            .copied()
            .max()
            .expect("a plan has a number of connections")
    }

    /// How long the session should take: warm-up, all rounds, and a moment per run to start and stop it.
    pub fn length_seconds(&self) -> u64 {
        let warm_up = self.targets().len() as u64 * 1_000;
        let runs = self.cells().len() as u64 * u64::from(self.rounds);
        let measured = runs * u64::from(self.seconds) * 1_000;
        (warm_up + measured + (runs + self.targets().len() as u64) * RUN_OVERHEAD_MS) / 1_000
    }

    /// The command line that repeats this session; where it finds programs and writes results is left out.
    pub fn command(&self) -> String {
        format!(
            "harness bench --engines {} --workers {} --connections {} --seconds {} --rounds {} --body {} \
             --load-engine {} --load-threads {} --seed {}",
            listed(&self.engines),
            listed(&self.workers),
            listed(&self.connections),
            self.seconds,
            self.rounds,
            self.body_bytes,
            self.load_engine,
            self.load_threads,
            self.seed
        )
    }
}

/// Items with commas between, as the flags take them.
pub fn listed<T: fmt::Display>(items: &[T]) -> String {
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

const RUN_OVERHEAD_MS: u64 = 100; // process start, connects, and the looks at /proc

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two engines, one number of workers, two of connections.
    pub(crate) fn small() -> Plan {
        Plan {
            engines: vec![Engine::Uring, Engine::Epoll],
            workers: vec![1],
            connections: vec![1, 100],
            seconds: 2,
            rounds: 5,
            body_bytes: 13,
            load_engine: Engine::Epoll,
            load_threads: 1,
            seed: 7,
        }
    }

    #[test]
    fn every_group_ends_with_a_copy_of_the_reference() {
        let names: Vec<String> = small().cells().iter().map(ToString::to_string).collect();
        assert_eq!(
            names,
            [
                "direct/uring/w1/c1",
                "direct/epoll/w1/c1",
                "direct/epoll/w1/c1/aa",
                "direct/uring/w1/c100",
                "direct/epoll/w1/c100",
                "direct/epoll/w1/c100/aa",
                "proxied/uring/w1/c1",
                "proxied/epoll/w1/c1",
                "proxied/epoll/w1/c1/aa",
                "proxied/uring/w1/c100",
                "proxied/epoll/w1/c100",
                "proxied/epoll/w1/c100/aa",
            ]
        );
    }

    #[test]
    fn the_length_counts_runs_and_warm_up() {
        // 6 servers for 1 s, 12 cells x 5 rounds x 2 s, and 66 starts of 0.1 s.
        assert_eq!(small().length_seconds(), 6 + 120 + 6);
    }
}
