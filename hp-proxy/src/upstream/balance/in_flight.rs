//! Requests in flight by endpoint, of all workers together: each worker writes a row of its own, everybody reads all rows.
//! A count may be a moment old; for comparing endpoints that is good enough, and no worker waits for another.
#![expect(
    clippy::disallowed_types,
    reason = "the rows are cloned where a worker starts; no request counts references"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The rows of all workers.
#[derive(Clone, Debug)]
pub struct InFlight {
    rows: Arc<[Row]>,
}

/// One worker's counts. Aligned so that no two workers write to one line (two lines: the prefetcher takes pairs).
#[derive(Debug)]
#[repr(align(128))]
struct Row {
    cells: Box<[Line]>,
}

/// Counts of 32 endpoints.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line {
    counts: [AtomicU32; LINE_COUNTS],
}

impl InFlight {
    /// Nothing is in flight at any of so many endpoints.
    #[must_use]
    pub fn new(workers: usize, endpoints: usize) -> Self {
        let lines = endpoints.div_ceil(LINE_COUNTS);
        let row = |_worker| Row {
            cells: (0..lines).map(|_| Line::default()).collect(),
        };
        Self {
            rows: (0..workers).map(row).collect(),
        }
    }

    /// A request begins. Only the worker itself writes to its row.
    pub fn begin(&self, worker: usize, endpoint: usize) {
        self.change(worker, endpoint, |count| count.saturating_add(1));
    }

    /// A request that began in this row has ended.
    pub fn end(&self, worker: usize, endpoint: usize) {
        self.change(worker, endpoint, |count| count.saturating_sub(1));
    }

    /// Of one worker.
    #[must_use]
    pub fn of(&self, worker: usize, endpoint: usize) -> u32 {
        let count = self.rows.get(worker).and_then(|row| row.count(endpoint));
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Of all workers.
    #[must_use]
    pub fn total(&self, endpoint: usize) -> u32 {
        let counts = self.rows.iter().filter_map(|row| row.count(endpoint));
        let counts = counts.map(|count| count.load(Ordering::Relaxed));
        counts.fold(0, u32::saturating_add)
    }

    /// A load and a store: no other thread writes here, so nothing needs to be locked.
    fn change(&self, worker: usize, endpoint: usize, change: impl Fn(u32) -> u32) {
        if let Some(count) = self.rows.get(worker).and_then(|row| row.count(endpoint)) {
            count.store(change(count.load(Ordering::Relaxed)), Ordering::Relaxed);
        }
    }
}

impl Row {
    fn count(&self, endpoint: usize) -> Option<&AtomicU32> {
        let line = self.cells.get(endpoint / LINE_COUNTS)?;
        line.counts.get(endpoint % LINE_COUNTS)
    }
}

const LINE_COUNTS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn the_rows_of_all_workers_add_up() {
        let (workers, endpoints) = (4, 40);
        let in_flight = InFlight::new(workers, endpoints);
        thread::scope(|scope| {
            for worker in 0..workers {
                let in_flight = &in_flight;
                scope.spawn(move || {
                    for turn in 0..10_000 {
                        in_flight.begin(worker, turn % endpoints);
                        if turn % 10 != worker {
                            in_flight.end(worker, turn % endpoints);
                        }
                    }
                });
            }
        });
        let total: u32 = (0..endpoints)
            .map(|endpoint| in_flight.total(endpoint))
            .sum();
        assert_eq!(total, 4 * 1000);
        for endpoint in 0..endpoints {
            let rows: u32 = (0..workers)
                .map(|worker| in_flight.of(worker, endpoint))
                .sum();
            assert_eq!(in_flight.total(endpoint), rows);
        }
    }

    #[test]
    fn no_two_workers_write_to_one_line() {
        assert_eq!(size_of::<Line>() % 128, 0);
        assert_eq!(align_of::<Line>(), 128);
    }
}
