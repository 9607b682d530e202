//! What was served, counted by whoever served it, and summed by whoever asks.
//!
//! Must not know: connections, tasks, time.
#![expect(
    clippy::disallowed_types,
    reason = "rows are shared with those that read them; no lock, and no count is written by two threads"
)]

use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use crossbeam_utils::CachePadded;
use hp_core::obs::metrics::Counter;

/// Everybody's rows: those of the workers first, then those of the threads that serve one connection each.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    /// Made when first asked for: most threads that may be started never are.
    places: Arc<[OnceLock<Row>]>,
}

/// The counters of one worker or thread, which alone writes them.
pub(crate) type Row = Arc<CachePadded<Counters>>;

/// Numbers since the start. A reader sees recent values, each by itself.
#[derive(Debug)]
pub(crate) struct Counters {
    /// Heads that were understood, but for those that ask for the counters.
    pub(crate) requests: Counter,
    /// Bytes received, heads and bodies.
    pub(crate) bytes_in: Counter,
    /// Bytes handed to the connections; what a client did not stay for is among them.
    pub(crate) bytes_out: Counter,
    /// Connections that came here.
    pub(crate) conns_accepted: Counter,
    /// Those of them that have ended.
    pub(crate) conns_closed: Counter,
    /// Final answers that were begun, by status.
    statuses: [Counter; STATUSES],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            requests: Counter::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            conns_accepted: Counter::default(),
            conns_closed: Counter::default(),
            statuses: std::array::from_fn(|_| Counter::default()),
        }
    }
}

impl Counters {
    /// Counts final answers that begin with this status; one outside of 100 to 599 is nobody's.
    #[inline]
    pub(crate) fn add_answers(&self, status: u16, count: u64) {
        let index = usize::from(status).wrapping_sub(STATUS_MIN);
        if let Some(counter) = self.statuses.get(index) {
            counter.add(count);
        }
    }
}

impl Rows {
    /// Room for so many workers, and so many threads that serve one connection each.
    pub(crate) fn new(workers: u32, threads: u32) -> Self {
        let places = (0..u64::from(workers) + u64::from(threads)).map(|_| OnceLock::new());
        Self {
            places: places.collect(),
        }
    }

    /// The row of one of them; one that nobody sums for a place that there is not.
    pub(crate) fn of(&self, place: u32) -> Row {
        match self.places.get(place as usize) {
            Some(place) => Arc::clone(place.get_or_init(Row::default)),
            None => Row::default(),
        }
    }

    /// The sums as one JSON object on one line. Statuses that were never sent are left out.
    pub(crate) fn json(&self) -> String {
        let closed = self.sum(|row| &row.conns_closed); // Before those that came: never more than them.
        let accepted = self.sum(|row| &row.conns_accepted);
        let mut text = format!(
            r#"{{"requests":{},"bytes_in":{},"bytes_out":{},"connections_accepted":{accepted},"connections_open":{},"statuses":{{"#,
            self.sum(|row| &row.requests),
            self.sum(|row| &row.bytes_in),
            self.sum(|row| &row.bytes_out),
            accepted.saturating_sub(closed),
        );
        let mut comma = "";
        for index in 0..STATUSES {
            let count = self.sum(|row| &row.statuses[index]);
            if count > 0 {
                let status = index + STATUS_MIN;
                match write!(text, r#"{comma}"{status}":{count}"#) {
                    Ok(()) => comma = ",",
                    Err(_never) => (), // A string takes everything.
                }
            }
        }
        text.push_str("}}\n");
        text
    }

    fn sum(&self, counter: impl Fn(&Counters) -> &Counter) -> u64 {
        let rows = self.places.iter().filter_map(OnceLock::get);
        rows.map(|row| counter(row).value())
            .fold(0, u64::wrapping_add)
    }
}

const STATUS_MIN: usize = 100;
const STATUSES: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_summed_into_one_object() {
        let rows = Rows::new(2, 3);
        assert_eq!(
            rows.json(),
            "{\"requests\":0,\"bytes_in\":0,\"bytes_out\":0,\"connections_accepted\":0,\
             \"connections_open\":0,\"statuses\":{}}\n"
        );
        for place in [0, 1, 4] {
            let row = rows.of(place);
            row.requests.add(2);
            row.conns_accepted.add(3);
            row.conns_closed.add(1);
            row.add_answers(200, 1);
            row.add_answers(599, 1);
            row.add_answers(600, 1);
            row.add_answers(99, 1);
        }
        let json = rows.json();
        for part in [
            r#""requests":6,"#,
            r#""connections_accepted":9,"connections_open":6,"#,
            r#""statuses":{"200":3,"599":3}}"#,
        ] {
            assert!(json.contains(part), "{part}: {json}");
        }
    }

    #[test]
    fn a_place_that_there_is_not_counts_for_itself() {
        let rows = Rows::new(1, 0);
        rows.of(1).requests.add(1);
        assert!(rows.json().contains(r#""requests":0,"#));
    }
}
