//! Statistics over rounds: medians, straight lines, and bootstrap intervals that a fixed seed makes repeatable. Knows
//! no cell and no target.
//!
//! The intervals are percentile intervals. A correction for bias and acceleration (BCa) takes its acceleration from a
//! jackknife, which has no limit for a median: leaving one of an odd number of rounds out moves it by one of two steps.
//! For nine rounds the percentile interval is that between the second and the eighth value, as good as always,
//! which is what the binomial distribution gives without resampling.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use crate::dice::Dice;

/// A value with its 95 % interval: `low <= high`, and for a median `low <= mid <= high`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Interval {
    /// The statistic of the values themselves.
    pub mid: f64,
    /// The 2.5 % quantile of the resampled statistic.
    pub low: f64,
    /// The 97.5 % quantile of the resampled statistic.
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

    /// Whether the value lies between the bounds, or on one.
    pub fn holds(self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// A straight line, `y = base + slope * x`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Line {
    /// y at x = 0.
    pub base: f64,
    /// What y rises by for each step of 1 in x.
    pub slope: f64,
}

/// The middle value, or the mean of the two in the middle; none of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    median_sorted(&sorted)
}

/// 1.4826 times the median distance from the median, which estimates the standard deviation of normal values without
/// minding outliers; none of nothing.
pub fn scaled_mad(values: &[f64]) -> Option<f64> {
    let mid = median(values)?;
    let distances: Vec<f64> = values.iter().map(|value| (value - mid).abs()).collect();
    median(&distances).map(|mad| mad * MAD_TO_DEVIATION)
}

/// The median with a percentile bootstrap over [`RESAMPLES`] draws of whole rounds; none of nothing.
///
/// Rounds are the unit because requests of one round are not independent of each other.
pub fn bootstrap_median(values: &[f64], seed: u64) -> Option<Interval> {
    Resampler::new(seed).median(values)
}

/// The mean of what is left without a fifth of the values at either end; none of nothing.
///
/// For normal values it needs a tenth more of them than the mean to be as sure, where the median needs half as many more; and a
/// fifth of the values may be as wrong as they like.
pub fn trimmed_mean(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    mean(sorted.get(kept(sorted.len()))?)
}

/// The draws behind intervals: of ranks, so those for one number of rounds serve all values.
pub struct Resampler {
    seed: u64,
    /// By the number of values: the two ranks whose midpoint is a draw's median, and how many draws have them.
    medians: RefCell<BTreeMap<usize, MedianRanks>>,
    /// By the number of values: the ranks of each draw that its trimmed mean keeps, one draw behind the other.
    kept: RefCell<BTreeMap<usize, KeptRanks>>,
}

type MedianRanks = Rc<[((usize, usize), usize)]>;
type KeptRanks = Rc<[usize]>;

impl Resampler {
    /// The seed determines every interval.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            medians: RefCell::default(),
            kept: RefCell::default(),
        }
    }

    /// As it was given.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// As [`bootstrap_median`].
    pub fn median(&self, values: &[f64]) -> Option<Interval> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let mid = median_sorted(&sorted)?;
        let at = |rank: usize| sorted.get(rank).copied();
        let mut medians = Vec::new();
        for ((lower, upper), count) in self.ranks(sorted.len()).iter() {
            medians.push((f64::midpoint(at(*lower)?, at(*upper)?), *count));
        }
        medians.sort_by(|a, b| a.0.total_cmp(&b.0));
        let cut = RESAMPLES / 40;
        Some(Interval {
            mid,
            low: weighted_rank(&medians, cut)?,
            high: weighted_rank(&medians, RESAMPLES - 1 - cut)?,
        })
    }

    /// [`trimmed_mean`] with a percentile bootstrap, as [`bootstrap_median`].
    pub fn trimmed_mean(&self, values: &[f64]) -> Option<Interval> {
        let mid = trimmed_mean(values)?;
        percentile_interval(mid, self.trimmed_means(values))
    }

    /// [`trimmed_mean`] of `values` less that of `others`, each resampled by itself; none when either is empty.
    pub fn difference(&self, values: &[f64], others: &[f64]) -> Option<Interval> {
        let mid = trimmed_mean(values)? - trimmed_mean(others)?;
        // Drawn anew: the same ranks on both sides would move together.
        let drawn = Self::new(self.seed.wrapping_add(1)).trimmed_means(others);
        let differences = self.trimmed_means(values).into_iter().zip(drawn);
        percentile_interval(mid, differences.map(|(one, other)| one - other).collect())
    }

    /// Of each draw.
    fn trimmed_means(&self, values: &[f64]) -> Vec<f64> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let ranks = self.kept_ranks(sorted.len());
        let means = ranks.chunks(kept(sorted.len()).len().max(1)).map(|ranks| {
            let mut sum = 0.0;
            for rank in ranks {
                sum += sorted.get(*rank).copied().unwrap_or(f64::NAN); // Never: ranks are below their number.
            }
            sum / ranks.len() as f64
        });
        means.collect()
    }

    fn kept_ranks(&self, len: usize) -> KeptRanks {
        if let Some(known) = self.kept.borrow().get(&len) {
            return Rc::clone(known);
        }
        let mut draws = Draws::new(self.seed);
        let mut ranks = Vec::with_capacity(RESAMPLES * kept(len).len());
        for _ in 0..RESAMPLES {
            draws.draw(len);
            ranks.extend(draws.ranks.get(kept(len)).unwrap_or_default());
        }
        let ranks: KeptRanks = ranks.into();
        self.kept.borrow_mut().insert(len, Rc::clone(&ranks));
        ranks
    }

    fn ranks(&self, len: usize) -> MedianRanks {
        if let Some(known) = self.medians.borrow().get(&len) {
            return Rc::clone(known);
        }
        let mut draws = Draws::new(self.seed);
        let mut counts = BTreeMap::new();
        for _ in 0..RESAMPLES {
            *counts.entry(draws.median_ranks(len)).or_insert(0) += 1;
        }
        let ranks: MedianRanks = counts.into_iter().collect();
        self.medians.borrow_mut().insert(len, Rc::clone(&ranks));
        ranks
    }
}

/// The value at a place of a sorted list in which each stands as often as its count says.
fn weighted_rank(sorted: &[(f64, usize)], place: usize) -> Option<f64> {
    let mut passed = 0;
    sorted.iter().find_map(|(value, count)| {
        passed += count;
        (passed > place).then_some(*value)
    })
}

/// The line with the least sum of squared distances in y; none when all x are equal, or there are fewer than two points.
pub fn fit(points: &[(f64, f64)]) -> Option<Line> {
    if points.len() < 2 {
        return None;
    }
    let count = points.len() as f64;
    let x_mean = points.iter().map(|point| point.0).sum::<f64>() / count;
    let y_mean = points.iter().map(|point| point.1).sum::<f64>() / count;
    let (mut spread, mut common) = (0.0, 0.0);
    for (x, y) in points {
        spread += (x - x_mean).powi(2);
        common += (x - x_mean) * (y - y_mean);
    }
    if spread <= 0.0 {
        return None;
    }
    let slope = common / spread;
    Some(Line {
        base: y_mean - slope * x_mean,
        slope,
    })
}

/// The slope of [`fit`] with its interval over draws of whole points; none where there is no line, or so few different
/// x that most draws have none.
pub fn bootstrap_slope(points: &[(f64, f64)], seed: u64) -> Option<Interval> {
    let mid = fit(points)?.slope;
    let mut draws = Draws::new(seed);
    let mut draw = Vec::with_capacity(points.len());
    let mut slopes = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        draw.clear();
        for _ in points {
            draw.extend(points.get(draws.below(points.len())));
        }
        slopes.extend(fit(&draw).map(|line| line.slope));
    }
    percentile_interval(mid, slopes).filter(|interval| interval.low.is_finite())
}

/// The interval from the resampled values, of which at least half must be there.
fn percentile_interval(mid: f64, mut resampled: Vec<f64>) -> Option<Interval> {
    if resampled.len() * 2 < RESAMPLES {
        return None;
    }
    let cut = resampled.len() / 40;
    let last = resampled.len() - 1;
    let mut ranked = |place: usize| {
        let (_below, value, _above) = resampled.select_nth_unstable_by(place, f64::total_cmp);
        *value
    };
    Some(Interval {
        mid,
        low: ranked(cut),
        high: ranked(last - cut),
    })
}

/// The places of sorted values that a trimmed mean keeps.
fn kept(len: usize) -> Range<usize> {
    let cut = len / 5;
    cut..len - cut
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn median_sorted(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*sorted.get(sorted.len() / 2 - 1)?, upper))
}

/// Draws with replacement.
struct Draws {
    dice: Dice,
    ranks: Vec<usize>,
}

impl Draws {
    fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed),
            ranks: Vec::new(),
        }
    }

    /// A number below `bound`, or 0.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.dice.below(bound as u64)).unwrap_or(0)
    }

    /// Draws `len` ranks below `len`, and sorts them.
    fn draw(&mut self, len: usize) {
        self.ranks.clear();
        for _ in 0..len {
            let rank = self.below(len);
            self.ranks.push(rank);
        }
        self.ranks.sort_unstable();
    }

    /// The ranks whose midpoint is the median of a draw of `len` from `len` sorted values: equal where `len` is odd.
    fn median_ranks(&mut self, len: usize) -> (usize, usize) {
        self.draw(len);
        let at = |idx: usize| self.ranks.get(idx).copied().unwrap_or(0);
        let upper = at(len / 2);
        if len % 2 == 1 {
            return (upper, upper);
        }
        (at((len / 2).saturating_sub(1)), upper)
    }
}

/// Resamples behind an interval; a multiple of 40, so that both ends of the interval are whole places.
pub const RESAMPLES: usize = 10_000;

/// For normal values; the 75 % quantile of the standard normal distribution is 1 / 1.4826.
const MAD_TO_DEVIATION: f64 = 1.4826;

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
    fn the_scaled_deviation_minds_no_outlier() {
        assert_eq!(scaled_mad(&[1.0, 2.0, 3.0, 4.0, 1e9]), Some(1.4826));
        assert_eq!(scaled_mad(&[]), None);
    }

    #[test]
    fn equal_values_leave_no_doubt() {
        let interval = bootstrap_median(&[0.5; 9], 1).unwrap();
        let half = Interval {
            mid: 0.5,
            low: 0.5,
            high: 0.5,
        };
        assert_eq!(interval, half);
        assert!(interval.holds(0.5) && !interval.holds(0.51));
    }

    /// Of five values, three or more draws of five hit the least with p = 0.058, more than 2.5 %: the interval of
    /// five rounds is their whole range.
    #[test]
    fn five_rounds_give_their_whole_range() {
        let interval = bootstrap_median(&[3.0, 1.0, 5.0, 2.0, 4.0], 1).unwrap();
        let range = Interval {
            mid: 3.0,
            low: 1.0,
            high: 5.0,
        };
        assert_eq!(interval, range);
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

    /// Of nine, P(five or more of nine draws are among the k least) passes 2.5 % between k = 1 (0.000) and k = 2 (0.030): the
    /// second value bounds the interval, and by symmetry the eighth.
    #[test]
    fn nine_rounds_lose_their_extremes() {
        let values: Vec<f64> = (1..=9).map(f64::from).collect();
        for seed in 1..20 {
            let interval = bootstrap_median(&values, seed).unwrap();
            assert!((2.0..=3.0).contains(&interval.low), "{interval:?}");
            assert!((7.0..=8.0).contains(&interval.high), "{interval:?}");
        }
    }

    /// What is remembered for a number of rounds is what drawing values would give.
    #[test]
    fn draws_of_ranks_are_draws_of_values() {
        let resampler = Resampler::new(5);
        for len in 1..12 {
            let values: Vec<f64> = (0..len).map(|number| f64::from(number * number)).collect();
            let mut draws = Draws::new(5);
            let (mut medians, mut means) = (Vec::new(), Vec::new());
            for _ in 0..RESAMPLES {
                draws.draw(values.len());
                let drawn: Vec<f64> = draws.ranks.iter().map(|rank| values[*rank]).collect();
                medians.extend(median(&drawn));
                means.extend(trimmed_mean(&drawn));
            }
            let plain = percentile_interval(median(&values).unwrap(), medians);
            assert_eq!(resampler.median(&values), plain, "{len}");
            let plain = percentile_interval(trimmed_mean(&values).unwrap(), means);
            assert_eq!(resampler.trimmed_mean(&values), plain, "{len}");
        }
        assert_eq!(resampler.median(&[]), None);
        assert_eq!(resampler.trimmed_mean(&[]), None);
    }

    #[test]
    fn a_fifth_of_the_values_at_either_end_is_trimmed() {
        assert_eq!(trimmed_mean(&[]), None);
        assert_eq!(trimmed_mean(&[3.0]), Some(3.0));
        assert_eq!(trimmed_mean(&[4.0, 1.0, 2.0, 9.0]), Some(4.0));
        assert_eq!(trimmed_mean(&[-1e9, 1.0, 2.0, 6.0, 1e9]), Some(3.0));
    }

    /// The deviation of a median of normal values is 1.25 of the mean's, that of this trimmed mean 1.06.
    #[test]
    fn a_trimmed_mean_is_surer_than_a_median() {
        let mut dice = Dice::new(9);
        let mut bell = || (0..12).map(|_| dice.below(1 << 20) as f64).sum::<f64>();
        let (mut narrower, resampler) = (0, Resampler::new(1));
        for _ in 0..40 {
            let values: Vec<f64> = (0..20).map(|_| bell()).collect();
            let width = |interval: Interval| interval.high - interval.low;
            let median = width(resampler.median(&values).unwrap());
            let trimmed = width(resampler.trimmed_mean(&values).unwrap());
            narrower += u32::from(trimmed < median);
        }
        assert!(narrower >= 30, "{narrower} of 40");
    }

    #[test]
    fn a_seed_repeats_an_interval() {
        let values = [1.0, 1.5, 0.7, 2.0, 0.9, 1.1, 1.3];
        assert_eq!(bootstrap_median(&values, 3), bootstrap_median(&values, 3));
    }

    #[test]
    fn draws_reach_every_value_evenly() {
        let mut draws = Draws::new(7);
        let mut hits = [0_u32; 9];
        for _ in 0..9_000 {
            hits[draws.below(9)] += 1;
        }
        assert!(hits.iter().all(|hit| (850..1150).contains(hit)), "{hits:?}");
    }

    #[test]
    fn a_difference_holds_zero_between_equal_rounds_only() {
        let values = [0.10, 0.11, 0.09, 0.12, 0.10, 0.08, 0.11, 0.10, 0.09];
        let shifted: Vec<f64> = values.iter().map(|value| value + 0.05).collect();
        let resampler = Resampler::new(1);
        let same = resampler.difference(&values, &values).unwrap();
        assert!(
            same.holds(0.0) && same.low < 0.0 && same.high > 0.0,
            "{same:?}"
        );
        let apart = resampler.difference(&values, &shifted).unwrap();
        assert!((apart.mid + 0.05).abs() < 1e-12, "{apart:?}");
        assert!(apart.high < 0.0, "{apart:?}");
        assert_eq!(resampler.difference(&values, &[]), None);
    }

    #[test]
    fn a_line_is_found_again() {
        let points: Vec<(f64, f64)> = [0.0, 1e3, 5e3, 1e4]
            .map(|x| (x, 4096.0 + 528.0 * x))
            .to_vec();
        let line = fit(&points).unwrap();
        assert!((line.slope - 528.0).abs() < 1e-9, "{line:?}");
        assert!((line.base - 4096.0).abs() < 1e-6, "{line:?}");
        assert_eq!(fit(&[(1.0, 2.0)]), None);
        assert_eq!(fit(&[(1.0, 2.0), (1.0, 3.0)]), None);
    }

    #[test]
    fn a_slope_is_as_sure_as_its_points() {
        let noise = [3.0, -2.0, 1.0, -4.0, 2.0, 0.0, -1.0, 4.0, -3.0, 0.0];
        let rising: Vec<(f64, f64)> = (0..10).map(f64::from).zip(noise).collect();
        let steep: Vec<(f64, f64)> = rising.iter().map(|(x, y)| (*x, 10.0 * x + y)).collect();
        assert!(bootstrap_slope(&rising, 1).unwrap().holds(0.0));
        let slope = bootstrap_slope(&steep, 1).unwrap();
        assert!(slope.low > 8.0 && slope.high < 12.0, "{slope:?}");
        assert_eq!(bootstrap_slope(&[(0.0, 1.0), (0.0, 2.0)], 1), None);
    }
}
