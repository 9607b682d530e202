//! Single requests with their times, as many as there is room for.
//!
//! Room is taken once, before the first request, so that keeping a request allocates nothing.
//!
//! Must not know: where they are written to.

use std::io::{self, Write};
use std::time::Duration;

use hp_core::rt::Instant;

/// The points in time of one exchange, in their order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Times {
    /// When the request was meant to be sent.
    pub intended: Instant,
    /// When it could have been sent: it was due and a connection was free.
    pub able: Instant,
    /// Just before it was sent.
    pub sent: Instant,
    /// When the first byte of the answer had come.
    pub first_byte: Instant,
    /// When the last one had.
    pub done: Instant,
}

impl Times {
    /// Of an exchange that was sent when it was meant to be, and whose answer came whole.
    pub fn taking(latency: Duration) -> Self {
        let done = Instant::START + latency;
        Self {
            intended: Instant::START,
            able: Instant::START,
            sent: Instant::START,
            first_byte: done,
            done,
        }
    }
}

/// One request.
#[derive(Clone, Copy, Debug)]
struct Sample {
    times: Times,
    /// 0 for a request that was given up.
    status: u16,
    bytes: u64,
}

/// The first requests of a thread, or of all.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    list: Vec<Sample>,
    room: usize,
    left_out: u64,
}

impl Samples {
    /// With room for this many.
    pub fn with_room(room: usize) -> Self {
        Self {
            list: Vec::with_capacity(room),
            room,
            left_out: 0,
        }
    }

    /// Keeps a request, or counts that there was no room. `status` is 0 where it was given up.
    pub fn keep(&mut self, times: &Times, status: u16, bytes: u64) {
        if self.list.len() == self.room {
            self.left_out += 1;
            return;
        }
        self.list.push(Sample {
            times: *times,
            status,
            bytes,
        });
    }

    /// Adds another thread's.
    pub fn merge(&mut self, other: &Self) {
        self.list.extend_from_slice(&other.list);
        self.room = self.list.len();
        self.left_out += other.left_out;
    }

    /// Requests for which there was no room.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The points in time of each that was kept.
    pub fn times(&self) -> impl Iterator<Item = &Times> {
        self.list.iter().map(|sample| &sample.times)
    }

    /// Writes a line for each, in the order in which they were due; times in ns, the first column since the first of them.
    ///
    /// # Errors
    /// The writer's.
    pub fn write_csv(&self, to: &mut impl Write) -> io::Result<()> {
        let mut sorted: Vec<&Sample> = self.list.iter().collect();
        sorted.sort_by_key(|sample| (sample.times.intended, sample.times.done));
        let first = sorted
            .first()
            .map_or(Instant::START, |sample| sample.times.intended);
        writeln!(
            to,
            "due_ns,response_ns,service_ns,lag_ns,first_byte_ns,status,bytes"
        )?;
        for Sample {
            times,
            status,
            bytes,
        } in sorted
        {
            // A request that was given up may not have been sent, nor answered in part.
            let between = |from: Instant, to: Instant| (to.max(from) - from).as_nanos();
            writeln!(
                to,
                "{},{},{},{},{},{status},{bytes}",
                between(first, times.intended),
                between(times.intended, times.done),
                between(times.sent, times.done),
                between(times.intended, times.sent),
                between(times.sent, times.first_byte),
            )?;
        }
        Ok(())
    }
}

/// Requests that all threads keep together; some 64 MiB.
pub const SAMPLES_MAX: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn times(intended: u64, sent: u64, first_byte: u64, done: u64) -> Times {
        let [intended, sent, first_byte, done] =
            [intended, sent, first_byte, done].map(Instant::from_nanos);
        Times {
            intended,
            able: sent,
            sent,
            first_byte,
            done,
        }
    }

    fn csv(samples: &Samples) -> Vec<String> {
        let mut text = Vec::new();
        samples.write_csv(&mut text).unwrap();
        String::from_utf8(text)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn requests_are_lines_in_the_order_in_which_they_were_due() {
        let (mut one, mut two) = (Samples::with_room(2), Samples::with_room(2));
        one.keep(&times(2_000, 2_500, 2_600, 2_700), 503, 9);
        two.keep(&times(1_000, 1_010, 1_200, 1_500), 200, 78);
        two.keep(&times(3_000, 3_000, 3_000, 9_000), 0, 0);
        one.merge(&two);
        assert_eq!(
            csv(&one),
            [
                "due_ns,response_ns,service_ns,lag_ns,first_byte_ns,status,bytes",
                "0,500,490,10,190,200,78",
                "1000,700,200,500,100,503,9",
                "2000,6000,6000,0,0,0,0",
            ]
        );
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let mut samples = Samples::with_room(2);
        for i in 0..5 {
            samples.keep(&times(i, i, i, i + 1), 200, 1);
        }
        assert_eq!((csv(&samples).len(), samples.left_out()), (3, 3));
        assert_eq!(csv(&Samples::default()).len(), 1);
    }
}
