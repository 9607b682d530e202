//! Goals of a run: `p99<5ms`, `err<0.1%`, `rate>9900`.
//!
//! Must not know: flags, reports.

use std::str::FromStr;
use std::time::Duration;

use crate::record::Record;
use crate::units::parse_rate;

/// One goal.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// As given.
    pub text: String,
    metric: Metric,
    is_upper: bool,
    bound: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Metric {
    /// A quantile of the headline latency, in ns.
    Quantile(f64),
    Mean,
    Max,
    /// Failures that are blamed, by all outcomes: 0 to 1.
    Errors,
    /// Complete answers per second.
    Rate,
}

/// How a goal came out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reached {
    /// Whether it holds. It does not where nothing was measured.
    pub ok: bool,
    /// In ns, as a share, or per second; `None` where nothing was measured.
    pub value: Option<f64>,
}

impl Goal {
    /// Reads goals with commas between them.
    ///
    /// # Errors
    /// A line for the user.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        text.split(',').map(|goal| goal.trim().parse()).collect()
    }

    /// Whether it is about errors, and so is the budget for them.
    pub fn is_error_budget(&self) -> bool {
        self.metric == Metric::Errors
    }

    /// Compares with a finished record.
    pub fn check(&self, record: &Record) -> Reached {
        let value = self.measure(record);
        let ok = value.is_some_and(|value| {
            if self.is_upper {
                value < self.bound
            } else {
                value > self.bound
            }
        });
        Reached { ok, value }
    }

    fn measure(&self, record: &Record) -> Option<f64> {
        let latency = record.latency();
        let has_samples = !latency.is_empty();
        match self.metric {
            Metric::Quantile(quantile) => {
                has_samples.then(|| float(latency.value_at_quantile(quantile)))
            }
            Metric::Mean => has_samples.then(|| latency.mean()),
            Metric::Max => has_samples.then(|| float(latency.max())),
            Metric::Errors => {
                let failed = record.errors.blamed() + record.unsent;
                let without_answer = failed.saturating_sub(record.errors.of_answers());
                let all = record.responses + without_answer;
                (all > 0).then(|| float(failed) / float(all))
            }
            Metric::Rate => {
                let seconds = record.active().as_secs_f64();
                (seconds > 0.0).then(|| float(record.responses) / seconds)
            }
        }
    }
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!("{text:?} is no goal; write p99<5ms, mean<1ms, max<1s, err<0.1% or rate>9900")
        };
        let at = text.find(['<', '>']).ok_or_else(bad)?;
        let (name, rest) = text.split_at(at);
        let (is_upper, bound) = (rest.starts_with('<'), rest[1..].trim());
        let metric = match name.trim() {
            "mean" => Metric::Mean,
            "max" => Metric::Max,
            "err" => Metric::Errors,
            "rate" | "rps" => Metric::Rate,
            name => {
                let percent = name
                    .strip_prefix('p')
                    .and_then(plain_number)
                    .ok_or_else(bad)?;
                if percent >= 100.0 {
                    return Err(bad());
                }
                Metric::Quantile(percent / 100.0)
            }
        };
        let bound = match metric {
            Metric::Quantile(_) | Metric::Mean | Metric::Max => nanos(bound).ok_or_else(bad)?,
            Metric::Errors => match bound.strip_suffix('%') {
                Some(percent) => plain_number(percent).ok_or_else(bad)? / 100.0,
                None => plain_number(bound).ok_or_else(bad)?,
            },
            Metric::Rate => parse_rate(bound).map_err(|_no| bad())?,
        };
        Ok(Self {
            text: text.to_owned(),
            metric,
            is_upper,
            bound,
        })
    }
}

/// `5ms`, `0.5us`, `1s`.
fn nanos(text: &str) -> Option<f64> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_at);
    let factor = match unit {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    };
    let nanos = plain_number(number)? * factor;
    Duration::try_from_secs_f64(nanos / 1e9)
        .ok()
        .map(|_in_range| nanos)
}

fn plain_number(text: &str) -> Option<f64> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.parse().ok().filter(|_| is_plain)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "compared with a few digits; exact up to 2^53"
)]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use hp_core::rt::Instant;

    use super::*;
    use crate::record::{Answer, ErrorClass};
    use crate::samples::Times;

    fn check(record: &Record, text: &str, want: bool) {
        let goals = Goal::parse_list(text).unwrap();
        let ok = goals.iter().all(|goal| goal.check(record).ok);
        assert_eq!(ok, want, "{text}");
    }

    #[test]
    fn goals_are_compared_with_what_was_measured() {
        let mut record = Record::new();
        for ms in 1..=100 {
            let done = Instant::from_nanos(ms * 1_000_000);
            let times = Times {
                intended: Instant::START,
                able: Instant::START,
                sent: Instant::START,
                first_byte: done,
                done,
            };
            let fault = (ms > 98).then_some(ErrorClass::Status);
            let answer = Answer {
                status: 200,
                bytes: 1,
                fault,
            };
            record.answer(&times, &answer);
        }
        record.elapsed = Duration::from_secs(2);
        check(
            &record,
            "p50<51ms,p99<100ms,max<101ms,mean<51ms,rate>49",
            true,
        );
        check(&record, "p50<49ms", false);
        check(&record, "p99.9<100ms", false);
        check(&record, "err<2.1%,err<0.021", true);
        check(&record, "err<2%", false);
        check(&record, "rate>50", false);
    }

    #[test]
    fn nothing_measured_reaches_no_goal() {
        check(&Record::new(), "p99<1s", false);
        check(&Record::new(), "err<1%", false);
    }

    #[test]
    fn what_is_no_goal_is_refused() {
        for text in [
            "", "p99", "p99<", "p99<5", "p100<1s", "p-1<1s", "x<1s", "err<x", "rate>0", "p99<5h",
            "p99=5ms",
        ] {
            assert!(text.parse::<Goal>().is_err(), "{text}");
        }
    }
}
