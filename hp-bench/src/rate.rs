//! Requests per second over time, and how they are spread at it.
//!
//! A rate over time is turned into a count over time, its integral.
//!
//! Must not know: clocks, who sends.

use std::time::Duration;

/// Requests per second over time; after the last piece its final rate goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Rate {
    pieces: Vec<Piece>,
}

/// A stretch in which the rate changes evenly.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Piece {
    /// When it begins, in seconds.
    begins: f64,
    /// Seconds; the last piece never ends.
    length: f64,
    /// Requests per second where it begins.
    from: f64,
    /// Requests per second where it ends.
    to: f64,
    /// Requests due before it begins.
    before: f64,
}

/// How requests are spread at a rate.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Arrival {
    /// At even distances.
    #[default]
    Uniform,
    /// As from many clients that do not know of each other: exponential distances.
    Poisson,
}

/// Which pieces a [`Rate`] is made of: each a length, and the rates at its ends in requests per second.
pub type Shape<'a> = &'a [(Duration, f64, f64)];

impl Rate {
    /// From pieces in their order; the last one's final rate goes on. `shape` is not empty, and its last rate is above 0.
    pub fn new(shape: Shape<'_>) -> Self {
        let mut pieces = Vec::with_capacity(shape.len() + 1);
        let (mut begins, mut before) = (0.0, 0.0);
        for &(length, from, to) in shape {
            let length = length.as_secs_f64();
            pieces.push(Piece {
                begins,
                length,
                from,
                to,
                before,
            });
            begins += length;
            before += length * f64::midpoint(from, to);
        }
        let last = shape.last().map_or(0.0, |&(_, _, to)| to);
        pieces.push(Piece {
            begins,
            length: f64::INFINITY,
            from: last,
            to: last,
            before,
        });
        Self { pieces }
    }

    /// One rate for ever.
    pub fn constant(rate: f64) -> Self {
        Self::new(&[(Duration::ZERO, rate, rate)])
    }

    /// Requests due up to a time since the beginning.
    pub fn count_at(&self, at: Duration) -> f64 {
        let at = at.as_secs_f64();
        let piece = self.piece(|piece| piece.begins <= at);
        let into = at - piece.begins;
        piece.before + into * (piece.from + piece.slope() * into / 2.0)
    }

    /// Requests per second at a time since the beginning.
    pub fn rate_at(&self, at: Duration) -> f64 {
        let at = at.as_secs_f64();
        let piece = self.piece(|piece| piece.begins <= at);
        piece.from + piece.slope() * (at - piece.begins)
    }

    /// When the count is reached; `None` for one that never is.
    pub fn time_of(&self, count: f64) -> Option<Duration> {
        let piece = self.piece(|piece| piece.before <= count);
        let left = count - piece.before;
        // left = from * t + slope * t² / 2, solved in the form that does not cancel and needs no slope.
        let discriminant = piece.from * piece.from + 2.0 * piece.slope() * left;
        let into = 2.0 * left / (piece.from + discriminant.max(0.0).sqrt());
        let into = if left <= 0.0 {
            0.0
        } else {
            into.min(piece.length)
        };
        Duration::try_from_secs_f64(piece.begins + into).ok()
    }

    fn piece(&self, begins_before: impl Fn(&Piece) -> bool) -> Piece {
        let end = self.pieces.partition_point(begins_before);
        self.pieces[end.max(1) - 1]
    }
}

impl Piece {
    fn slope(&self) -> f64 {
        if self.length.is_finite() && self.length > 0.0 {
            (self.to - self.from) / self.length
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn check_times(rate: &Rate, counts: &[(f64, f64)]) {
        for &(count, want) in counts {
            let at = rate.time_of(count).unwrap().as_secs_f64();
            assert!((at - want).abs() < 1e-6, "{count}: {at}, not {want}");
            let back = rate.count_at(seconds(want));
            assert!((back - count).abs() < 1e-6, "{want}: {back}, not {count}");
        }
    }

    #[test]
    fn constant_rate_is_due_at_even_distances() {
        check_times(
            &Rate::constant(100.0),
            &[(0.0, 0.0), (1.0, 0.01), (250.0, 2.5)],
        );
    }

    #[test]
    fn ramp_is_its_integral_and_its_last_rate_goes_on() {
        let ramp = Rate::new(&[(seconds(10.0), 0.0, 100.0)]);
        check_times(
            &ramp,
            &[(0.0, 0.0), (5.0, 1.0), (500.0, 10.0), (600.0, 11.0)],
        );
        let down = Rate::new(&[(seconds(10.0), 100.0, 20.0)]);
        check_times(&down, &[(96.0, 1.0), (600.0, 10.0), (620.0, 11.0)]);
    }

    #[test]
    fn steps_follow_each_other() {
        let steps = Rate::new(&[(seconds(2.0), 10.0, 10.0), (seconds(2.0), 30.0, 30.0)]);
        check_times(
            &steps,
            &[(20.0, 2.0), (50.0, 3.0), (80.0, 4.0), (110.0, 5.0)],
        );
        assert!((steps.rate_at(seconds(1.0)) - 10.0).abs() < 1e-9);
        assert!((steps.rate_at(seconds(9.0)) - 30.0).abs() < 1e-9);
    }
}
