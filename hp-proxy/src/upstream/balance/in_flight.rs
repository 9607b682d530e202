//! Requests in flight by endpoint, of all workers together: each worker writes a row of its own, everybody reads all rows.
//! A count may be a moment old; for comparing endpoints that is good enough, and no worker waits for another.
#![expect(
    clippy::disallowed_types,
    reason = "the rows are cloned where a worker starts; no request counts references"
)]

use hp_core::base::sync::{Arc, AtomicU32, Ordering};

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

    /// So many of a worker's requests are in flight at an endpoint now. For the worker itself alone: no other thread writes
    /// to its row, so nothing needs to be locked.
    pub fn publish(&self, worker: usize, endpoint: usize, count: u32) {
        if let Some(cell) = self.rows.get(worker).and_then(|row| row.count(endpoint)) {
            cell.store(count, Ordering::Relaxed);
        }
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
                        let count = u32::try_from(turn * (worker + 1)).unwrap();
                        in_flight.publish(worker, turn % endpoints, count);
                    }
                });
            }
        });
        for endpoint in 0..endpoints {
            let rows: u32 = (0..workers)
                .map(|worker| in_flight.of(worker, endpoint))
                .sum();
            assert_eq!(in_flight.total(endpoint), rows);
            let last = u32::try_from(10_000 - endpoints + endpoint).unwrap();
            assert_eq!(rows, last * (1 + 2 + 3 + 4));
        }
    }

    #[test]
    fn no_two_workers_write_to_one_line() {
        assert_eq!(size_of::<Line>() % 128, 0);
        assert_eq!(align_of::<Line>(), 128);
    }
}
