//! Whether two sessions of one commit say the same.

use std::fmt;
use std::path::Path;

use crate::derive::{self, Derived};
use crate::error::Error;
use crate::summary::ratio::{Quantity, Ratio};
use crate::table::{self, Side};
use hp_bench::statistics::Resampler;

/// What two sessions say of each ratio that both publish.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    /// Ratios of cost, which are judged, and of latency, which are shown.
    pub ratios: Vec<Compared>,
    /// Ratios that one session publishes and the other does not.
    pub lone: u32,
}

/// One ratio in both sessions.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// Workload, row, subject and reference.
    pub name: String,
    /// What is compared.
    pub of: Quantity,
    /// In the first session, and in the second.
    pub ratios: [f64; 2],
    /// The second by the first.
    pub change: f64,
    /// Lower end of the 95 % interval of that.
    pub low: f64,
    /// Upper end of the 95 % interval of that.
    pub high: f64,
}

impl Compared {
    /// Whether the interval says that nothing need have changed.
    pub fn holds(&self) -> bool {
        self.low <= 1.0 && 1.0 <= self.high
    }

    /// Whether one ratio is more than 10 % above the other.
    pub fn is_far(&self) -> bool {
        self.change.max(1.0 / self.change) > FACTOR_MAX
    }
}

impl Agreement {
    /// The judged ratios.
    pub fn judged(&self) -> impl Iterator<Item = &Compared> {
        let mut ratios = self.ratios.iter();
        std::iter::from_fn(move || ratios.find(|ratio| ratio.of == Quantity::Cost))
    }

    /// Whether nine of ten judged ratios hold, and none is far; not where none is judged.
    pub fn is_given(&self) -> bool {
        let all = self.judged().count();
        let hold = self.judged().filter(|ratio| ratio.holds()).count();
        all > 0 && hold * 10 >= all * 9 && !self.judged().any(Compared::is_far)
    }
}

/// Compares the sessions in two folders, from their raw files.
///
/// # Errors
/// What [`derive::session`] has to say, and [`Error::Read`] for sessions of different commits or plans.
pub fn sessions(first: &Path, second: &Path) -> Result<Agreement, Error> {
    let (one, other) = (derive::session(first)?, derive::session(second)?);
    let differ = |what: &str, one: &str, other: &str| {
        (one != other).then(|| Error::Read {
            path: second.to_owned(),
            cause: format!("{what} {other}, the other session {one}: what differs need not agree"),
        })
    };
    let (mine, yours) = (one.setting.commit_name(), other.setting.commit_name());
    let failed = differ("its commit is", &mine, &yours)
        .or_else(|| differ("its plan is", &one.plan.name, &other.plan.name));
    match failed {
        Some(error) => Err(error),
        None => Ok(compare(&one, &other)),
    }
}

fn compare(one: &Derived, other: &Derived) -> Agreement {
    let (mine, yours) = (published(one), published(other));
    let mut ratios = Vec::new();
    for (name, ratio) in &mine {
        let twin = yours
            .iter()
            .find(|(other, of)| other == name && of.of == ratio.of);
        ratios.extend(twin.and_then(|(_, twin)| compared(name, ratio, twin, one.plan.seed)));
    }
    let lone = mine.len() + yours.len() - 2 * ratios.len();
    Agreement {
        ratios,
        lone: u32::try_from(lone).unwrap_or(u32::MAX),
    }
}

fn compared(name: &str, one: &Ratio, other: &Ratio, seed: u64) -> Option<Compared> {
    let resampler = Resampler::new(seed);
    let change = resampler.difference(&other.logs, &one.logs)?;
    let change = change.map(f64::exp);
    Some(Compared {
        name: name.to_owned(),
        of: one.of,
        ratios: [one.ratio, other.ratio],
        change: change.mid,
        low: change.low,
        high: change.high,
    })
}

/// The ratios that a page judges, with their names.
fn published(derived: &Derived) -> Vec<(String, &Ratio)> {
    let mut published = Vec::new();
    for workload in &derived.summary.workloads {
        for row in &workload.rows {
            for cell in &row.cells {
                let judged = cell.ratios.iter().filter(|ratio| ratio.is_published());
                published.extend(judged.map(|ratio| {
                    let name = format!(
                        "{} {} {} vs {}",
                        workload.name, row.name, cell.subject, ratio.against
                    );
                    (name, ratio)
                }));
            }
        }
    }
    published
}

impl fmt::Display for Agreement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = [
            ("ratio", Side::Left),
            ("of", Side::Left),
            ("first", Side::Right),
            ("second", Side::Right),
            ("second by first", Side::Left),
            ("agrees", Side::Left),
        ];
        let lines = self.ratios.iter().map(|ratio| {
            let [first, second] = ratio.ratios.map(|ratio| format!("{ratio:.2}"));
            let word = match (ratio.of, ratio.is_far(), ratio.holds()) {
                (Quantity::Cost, true, _) => "FAR",
                (Quantity::Cost, false, true) => "yes",
                (Quantity::Cost, false, false) => "no",
                (Quantity::P50 | Quantity::P99 | Quantity::P999, ..) => "not judged",
            };
            vec![
                ratio.name.clone(),
                match ratio.of {
                    Quantity::Cost => "cost".into(),
                    of => of.title().into(),
                },
                first,
                second,
                format!("{:.3} [{:.3}, {:.3}]", ratio.change, ratio.low, ratio.high),
                word.into(),
            ]
        });
        let lines: Vec<Vec<String>> = lines.collect();
        out.write_str(&table::render(&head, &lines))?;
        let all = self.judged().count();
        let hold = self.judged().filter(|ratio| ratio.holds()).count();
        let far = self.judged().filter(|ratio| ratio.is_far()).count();
        let word = if self.is_given() { "agree" } else { "DISAGREE" };
        writeln!(
            out,
            "\n{hold} of {all} ratios hold, where nine of ten must; {far} differ by more than 10 %, where none may; {} are \
             in one session only: the sessions {word}.",
            self.lone
        )
    }
}

const FACTOR_MAX: f64 = 1.1;
