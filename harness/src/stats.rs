//! Statistics over rounds: medians, and bootstrap intervals that a fixed seed makes repeatable. Knows no cell.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A median with its 95 % interval: `low <= mid <= high`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Interval {
    /// The median of the values.
    pub mid: f64,
    /// The 2.5 % quantile of the resampled medians.
    pub low: f64,
    /// The 97.5 % quantile of the resampled medians.
    pub high: f64,
}

impl Interval {
    /// Every bound passed through a rising function.
    pub fn map(self, rising: impl Fn(f64) -> f64) -> Self {
        Self {
            mid: rising(self.mid),
            low: rising(self.low),
            high: rising(self.high),
        }
    }
}

/// The middle value, or the mean of the two in the middle; none of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    median_sorted(&sorted)
}

/// The median with a percentile bootstrap over [`RESAMPLES`] draws of whole rounds; none of nothing.
///
/// Rounds are the unit because requests of one round are not independent of each other.
pub fn bootstrap_median(values: &[f64], seed: u64) -> Option<Interval> {
    let mid = median(values)?;
    let mut rng = StdRng::seed_from_u64(seed);
    let mut draw = vec![0.0; values.len()];
    let mut medians = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        for slot in &mut draw {
            *slot = values[rng.random_range(0..values.len())];
        }
        draw.sort_by(f64::total_cmp);
        medians.extend(median_sorted(&draw));
    }
    medians.sort_by(f64::total_cmp);
    Some(Interval {
        mid,
        low: medians[RESAMPLES / 40],
        high: medians[RESAMPLES - 1 - RESAMPLES / 40],
    })
}

fn median_sorted(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(sorted[sorted.len() / 2 - 1], upper))
}

/// Resamples behind an interval.
pub const RESAMPLES: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn equal_values_leave_no_doubt() {
        let interval = bootstrap_median(&[0.5; 9], 1).unwrap();
        assert_eq!(
            interval,
            Interval {
                mid: 0.5,
                low: 0.5,
                high: 0.5
            }
        );
    }

    /// Of five values, three or more draws of five hit the least with p = 0.058, more than 2.5 %: the interval of
    /// five rounds is their whole range.
    #[test]
    fn five_rounds_give_their_whole_range() {
        let interval = bootstrap_median(&[3.0, 1.0, 5.0, 2.0, 4.0], 1).unwrap();
        assert_eq!(
            interval,
            Interval {
                mid: 3.0,
                low: 1.0,
                high: 5.0
            }
        );
    }

    /// Order statistics 28 and 72, or so, of 99 bound the median: 50 -+ 1.96 * sqrt(99) / 2.
    #[test]
    fn many_rounds_narrow_the_interval() {
        let values: Vec<f64> = (1..=99).map(f64::from).collect();
        let interval = bootstrap_median(&values, 1).unwrap();
        assert_eq!(interval.mid, 50.0);
        assert!((38.0..=43.0).contains(&interval.low), "{interval:?}");
        assert!((57.0..=62.0).contains(&interval.high), "{interval:?}");
    }

    #[test]
    fn a_seed_repeats_an_interval() {
        let values = [1.0, 1.5, 0.7, 2.0, 0.9, 1.1, 1.3];
        assert_eq!(bootstrap_median(&values, 3), bootstrap_median(&values, 3));
    }
}
