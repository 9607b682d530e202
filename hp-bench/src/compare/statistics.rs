//! Paired ratios with intervals, and which word they allow.
//!
//! The unit of analysis is one round: its ratio compares two runs that had the same machine, the same hour and the same
//! neighbours. Ratios are taken as logarithms, so that twice and half are equally far from one.
//!
//! Must not know: runs, targets, clocks.

use std::fmt;

use crate::dice::Dice;
use crate::statistics::Resampler;

/// The median of paired ratios, with a 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Above 0.
    pub ratio: f64,
    /// `low <= ratio <= high`.
    pub low: f64,
    /// See `low`.
    pub high: f64,
    /// Rounds behind it.
    pub pairs: u32,
}

/// Which of two values is the better one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Better {
    /// Times and costs.
    Less,
    /// Throughput.
    More,
}

/// What a ratio allows to be said of a target beside the first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Word {
    /// Better, by more than the noise.
    Faster,
    /// Worse, by more than the noise.
    Slower,
    /// Neither can be said.
    Tie,
}

impl Interval {
    /// Of the ratios `other / first` of rounds; `None` with fewer than [`PAIRS_MIN`] rounds in which both are above 0.
    ///
    /// The bootstrap draws rounds, never requests, which are not independent. The same rounds and seed give the same interval.
    pub fn of(pairs: &[(f64, f64)], seed: u64) -> Option<Self> {
        let usable = |value: f64| value.is_finite() && value > 0.0;
        let logs: Vec<f64> = pairs
            .iter()
            .filter(|(first, other)| usable(*first) && usable(*other))
            .map(|(first, other)| (other / first).ln())
            .collect();
        if logs.len() < PAIRS_MIN {
            return None;
        }
        let of_logs = Resampler::new(seed).median(&logs)?.map(f64::exp);
        Some(Self {
            ratio: of_logs.mid,
            low: of_logs.low.min(of_logs.mid),
            high: of_logs.high.max(of_logs.mid),
            pairs: u32::try_from(logs.len()).ok()?,
        })
    }

    /// What an effect must exceed, as a ratio above 1, where this is the interval of the control: 2 %, twice half its width,
    /// and how far it reaches from 1, whichever is the largest. The last one speaks when even the control differs from itself.
    pub fn margin(&self) -> f64 {
        let (low, high) = (self.low.ln(), self.high.ln());
        let half_width = (high - low) / 2.0;
        let reach = low.abs().max(high.abs());
        (half_width * 2.0).max(reach).exp().max(MARGIN_MIN)
    }

    /// What may be said: faster or slower only when the interval excludes 1 and the effect exceeds the control's margin.
    /// Without a control nothing can be said.
    pub fn word(&self, control: Option<&Self>, better: Better) -> Word {
        let Some(margin) = control.map(Self::margin) else {
            return Word::Tie;
        };
        let is_more = self.low > 1.0 && self.ratio > margin;
        let is_less = self.high < 1.0 && self.ratio < 1.0 / margin;
        match better {
            Better::More if is_more => Word::Faster,
            Better::Less if is_less => Word::Faster,
            Better::More if is_less => Word::Slower,
            Better::Less if is_more => Word::Slower,
            Better::More | Better::Less => Word::Tie,
        }
    }
}

impl Word {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Faster => "faster",
            Self::Slower => "slower",
            Self::Tie => "tie",
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The numbers from 0 to `len - 1` in an order that the dice choose; each order is equally likely.
pub(crate) fn shuffled(len: usize, dice: &mut Dice) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    for place in (1..len).rev() {
        let bound = u64::try_from(place + 1).unwrap_or(1);
        let other = usize::try_from(dice.below(bound)).unwrap_or(0);
        order.swap(place, other);
    }
    order
}

/// Rounds below which there is no interval: of fewer even their extremes enclose the median in less than 95 % of cases
/// (of 5 in 94 %, of 6 in 97 %), and the bootstrap cannot say more.
pub const PAIRS_MIN: usize = 6;
/// Smaller effects are no news whatever the interval says: layout of code and memory alone moves them.
const MARGIN_MIN: f64 = 1.02;

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 1;

    fn interval(ratios: &[f64]) -> Option<Interval> {
        let pairs: Vec<(f64, f64)> = ratios.iter().map(|ratio| (2.0, 2.0 * ratio)).collect();
        Interval::of(&pairs, SEED)
    }

    fn check(ratios: &[f64], want: (f64, f64, f64)) {
        let got = interval(ratios).unwrap();
        for (got, want) in [(got.low, want.0), (got.ratio, want.1), (got.high, want.2)] {
            assert!((got - want).abs() < 1e-9, "{got} {want}: {ratios:?}");
        }
    }

    /// By hand: the median of 7 draws is the outlier when at least 4 draws are, which has a chance of
    /// C(7,4) (1/7)^4 (6/7)^3 + ... = 1.0 %, below the 2.5 % at an end. With two of them it is 2/7: 10.9 %.
    #[test]
    fn intervals_are_those_of_the_binomial_distribution() {
        check(&[1.1; 8], (1.1, 1.1, 1.1));
        check(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 3.0], (1.0, 1.0, 1.0));
        check(&[1.0, 1.0, 1.0, 1.0, 1.0, 3.0, 3.0], (1.0, 1.0, 3.0));
        check(&[0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0], (0.5, 1.0, 1.0));
    }

    /// The median of 17 draws is one of the first k values when at least 9 draws are: by the binomial distribution 0.8 % for
    /// k = 4 and 3.6 % for k = 5, so the interval begins with the fifth, and ends with the fifth from the end.
    #[test]
    fn interval_of_seventeen_rounds_is_from_the_fifth_to_the_thirteenth() {
        let ratios: Vec<f64> = (1..=17)
            .map(|place| 1.0 + f64::from(place) / 100.0)
            .collect();
        check(&ratios, (1.05, 1.09, 1.13));
    }

    #[test]
    fn twice_and_half_are_equally_far_from_one() {
        let up = interval(&[1.8, 1.9, 2.0, 2.0, 2.1, 2.2, 2.3]).unwrap();
        let down = interval(&[1.8, 1.9, 2.0, 2.0, 2.1, 2.2, 2.3].map(|ratio: f64| 1.0 / ratio));
        let down = down.unwrap();
        assert!((up.ratio * down.ratio - 1.0).abs() < 1e-9);
    }

    #[test]
    fn few_or_unusable_rounds_have_no_interval() {
        assert_eq!(interval(&[1.0; PAIRS_MIN - 1]), None);
        assert!(interval(&[1.0; PAIRS_MIN]).is_some());
        let holes = [
            (1.0, 1.0),
            (0.0, 1.0),
            (f64::NAN, 1.0),
            (1.0, f64::INFINITY),
        ];
        let mut pairs = vec![(1.0, 2.0); PAIRS_MIN];
        pairs.extend(holes);
        let of_all = Interval::of(&pairs, SEED).unwrap();
        assert_eq!(of_all.pairs as usize, PAIRS_MIN + 1);
        assert_eq!(Interval::of(&holes, SEED), None);
    }

    fn known(low: f64, ratio: f64, high: f64) -> Interval {
        Interval {
            ratio,
            low,
            high,
            pairs: 15,
        }
    }

    #[test]
    fn words_need_the_interval_and_the_margin() {
        let quiet = known(0.999, 1.0, 1.001);
        let check = |of: Interval, control: Option<Interval>, want| {
            assert_eq!(of.word(control.as_ref(), Better::More), want, "{of:?}");
        };
        check(known(1.03, 1.05, 1.07), Some(quiet), Word::Faster);
        check(known(0.93, 0.95, 0.97), Some(quiet), Word::Slower);
        check(known(0.99, 1.05, 1.10), Some(quiet), Word::Tie); // Encloses 1.
        check(known(1.01, 1.015, 1.02), Some(quiet), Word::Tie); // Below 2 %.
        check(known(1.03, 1.05, 1.07), None, Word::Tie);
        // Twice half the width of a control of 0.97 to 1.03 is 6 %.
        check(
            known(1.03, 1.05, 1.07),
            Some(known(0.97, 1.0, 1.03)),
            Word::Tie,
        );
        check(
            known(1.05, 1.08, 1.10),
            Some(known(0.97, 1.0, 1.03)),
            Word::Faster,
        );
        // A control that is 10 % away from itself allows no word about 8 %.
        check(
            known(1.07, 1.08, 1.09),
            Some(known(1.09, 1.1, 1.1)),
            Word::Tie,
        );
    }

    #[test]
    fn less_time_is_faster() {
        let quiet = known(1.0, 1.0, 1.0);
        let less = known(0.8, 0.9, 0.95);
        assert_eq!(less.word(Some(&quiet), Better::Less), Word::Faster);
        assert_eq!(less.word(Some(&quiet), Better::More), Word::Slower);
    }

    /// Pairs whose values share the round's drift and have noise of their own, which is uniform within `noise`.
    fn noisy(effect: f64, noise: f64, dice: &mut Dice) -> Vec<(f64, f64)> {
        let mut between = |low: f64, high: f64| {
            let unit = f64::from(u32::try_from(dice.below(1 << 30)).unwrap()) / f64::from(1 << 30);
            low + (high - low) * unit
        };
        (0..15)
            .map(|_| {
                let drift = between(0.5, 2.0);
                let mut value = || drift * between(1.0 - noise, 1.0 + noise);
                (value(), value() * effect)
            })
            .collect()
    }

    /// Sessions in which the same target under two names is told apart, and those in which an effect is seen.
    #[test]
    fn a_target_is_seldom_faster_than_itself_and_an_effect_is_seen() {
        let (mut false_words, mut missed) = (0, 0);
        for session in 0..20 {
            let mut dice = Dice::new(session);
            let control = Interval::of(&noisy(1.0, 0.03, &mut dice), SEED).unwrap();
            let same = Interval::of(&noisy(1.0, 0.03, &mut dice), SEED).unwrap();
            let better = Interval::of(&noisy(1.2, 0.03, &mut dice), SEED).unwrap();
            false_words += u32::from(same.word(Some(&control), Better::More) != Word::Tie);
            missed += u32::from(better.word(Some(&control), Better::More) != Word::Faster);
        }
        assert_eq!((false_words, missed), (0, 0));
    }

    #[test]
    fn orders_are_permutations_and_differ() {
        let mut dice = Dice::new(SEED);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let order = shuffled(3, &mut dice);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2]);
            seen.insert(order);
        }
        assert_eq!(seen.len(), 6);
    }
}
