//! A rate that no plan can know: a part of what the slowest proxy of this session reached.

use std::collections::BTreeMap;

use serde_json::Value;

use super::number;
use crate::raw::Record;
use crate::workload::Load;

/// Where the rate of a row comes from: `extra` with `rate_of_slowest`, `of_workload` and `of_row`.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    part: f64,
    workload: String,
    row: String,
}

impl Share {
    /// What a row asks for; none where its rate is its own.
    ///
    /// # Errors
    /// What to write instead.
    pub fn of(load: &Load) -> Result<Option<Self>, String> {
        if !load.extra.contains_key(SHARE_KEY) {
            return Ok(None);
        }
        if load.rate.is_some() {
            return Err(
                "extra.rate_of_slowest: the row has a rate of its own; leave one out".into(),
            );
        }
        let text = |key: &str| {
            let text = load.extra.get(key).and_then(Value::as_str);
            text.map(str::to_owned)
                .ok_or_else(|| format!("extra.{key}: write the name that the rate is taken from"))
        };
        Ok(Some(Self {
            part: number(load, SHARE_KEY, 0.0, (0.01, 1.0))?,
            workload: text("of_workload")?,
            row: text("of_row")?,
        }))
    }

    /// The rate in requests per second: the part of the least of the subjects' medians. `is_proxy` says whose visits count: a
    /// relay or a backend is not compared by latency, and must not set the pace.
    ///
    /// # Errors
    /// That nothing was measured that it could be taken from.
    pub fn rate(&self, records: &[Record], is_proxy: &dyn Fn(&str) -> bool) -> Result<f64, String> {
        let mut rates: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for record in records {
            let is_asked = record.workload == self.workload && record.row == self.row;
            if !is_asked || record.control || !record.void.is_empty() || !is_proxy(&record.subject)
            {
                continue;
            }
            let rps = record.load.as_ref().map(|document| document.run.rps);
            rates.entry(&record.subject).or_default().extend(rps);
        }
        let medians = rates.into_values().filter_map(median);
        let least = medians.min_by(f64::total_cmp).filter(|rate| *rate > 0.0);
        least
            .map(|least| (least * self.part).max(1.0).round())
            .ok_or_else(|| {
                let Self { workload, row, .. } = self;
                format!("no proxy was measured in {workload}/{row}, of which the rate is a part; run both together")
            })
    }
}

/// The key of a row's `extra` that asks for a part of the slowest proxy's rate.
pub const SHARE_KEY: &str = "rate_of_slowest";

/// The lower one of two middles.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use hp_bench::result::Document;

    use super::super::tests::load;
    use super::*;

    fn record(subject: &str, rps: f64) -> Record {
        let mut document = Document::default();
        document.run.rps = rps;
        Record {
            workload: "small".into(),
            row: "c100".into(),
            subject: subject.into(),
            load: Some(document),
            ..Record::default()
        }
    }

    fn share() -> Share {
        let text = "rate_of_slowest = 0.5, of_workload = \"small\", of_row = \"c100\"";
        Share::of(&load(text)).unwrap().unwrap()
    }

    fn is_proxy(subject: &str) -> bool {
        !subject.starts_with("relay")
    }

    #[test]
    fn the_slowest_proxy_sets_the_rate() {
        let mut records = vec![
            record("a", 10_000.0),
            record("a", 90_000.0),
            record("a", 12_000.0),
            record("b", 20_000.0),
            record("relay-epoll", 10.0),
        ];
        assert_eq!(share().rate(&records, &is_proxy), Ok(6_000.0));
        records.push(Record {
            void: vec!["errors".into()],
            ..record("c", 100.0)
        });
        records.push(Record {
            control: true,
            ..record("b/aa", 200.0)
        });
        records.push(Record {
            row: "c1".into(),
            ..record("b", 300.0)
        });
        assert_eq!(share().rate(&records, &is_proxy), Ok(6_000.0));
    }

    #[test]
    fn without_a_measurement_there_is_no_rate() {
        let cause = share()
            .rate(&[record("relay-epoll", 10.0)], &is_proxy)
            .unwrap_err();
        assert!(cause.contains("small/c100"), "{cause}");
    }

    #[test]
    fn a_wrong_row_says_what_to_write() {
        assert_eq!(Share::of(&load("")), Ok(None));
        for (text, part) in [
            (
                "rate_of_slowest = 2, of_workload = \"a\", of_row = \"b\"",
                "from 0.01 to 1",
            ),
            ("rate_of_slowest = 0.5, of_row = \"b\"", "of_workload"),
            ("rate_of_slowest = 0.5, of_workload = \"a\"", "of_row"),
        ] {
            let cause = Share::of(&load(text)).unwrap_err();
            assert!(cause.contains(part), "{text}: {cause}");
        }
        let mut row = load("rate_of_slowest = 0.5, of_workload = \"a\", of_row = \"b\"");
        row.rate = Some(5.0);
        assert!(Share::of(&row).unwrap_err().contains("leave one out"));
    }
}
