//! The seconds of a result as an HdrHistogram log, which its ports and their plotters read.
//!
//! Must not know: where it is written to.

use std::time::Duration;

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::report::unix_seconds;
use crate::result::Document;

/// The log: a line for each second that has a histogram, times in seconds since the start, maxima in ms.
///
/// # Errors
/// A line for the user where a histogram is damaged, or there is none.
pub fn interval_log(document: &Document) -> Result<String, String> {
    let started = unix_seconds(&document.started).unwrap_or(0);
    let mut log = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut writer = IntervalLogWriterBuilder::new()
        // Headers are comments of a fixed form.
        .add_comment(&format!("[StartTime: {started}.000 (seconds since epoch)]"))
        .add_comment(&format!("[BaseTime: {started}.000 (seconds since epoch)]"))
        .with_max_value_divisor(1e6)
        .begin_log_with(&mut log, &mut serializer)
        .map_err(|error| error.to_string())?;
    let mut begun = 0;
    for second in &document.series {
        let ended = second.t.max(begun);
        if let Some(encoded) = &second.hist {
            let times = encoded
                .decode()
                .map_err(|error| format!("histogram of second {}: {error}", second.t))?;
            let length = Duration::from_secs(ended - begun);
            writer
                .write_histogram(&times, Duration::from_secs(begun), length, None::<Tag<'_>>)
                .map_err(|error| format!("--hlog: {error:?}"))?;
        }
        begun = ended;
    }
    String::from_utf8(log).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::record::histogram;
    use crate::result::{Encoded, Second};

    #[test]
    fn log_is_read_back_as_the_seconds() {
        let second = |t, millis: u64| {
            let mut times = histogram();
            times.record(millis * 1_000_000).unwrap();
            Second {
                t,
                hist: Some(Encoded::encode(&times)),
                ..Second::default()
            }
        };
        let document = Document {
            started: "2026-11-20T23:10:00Z".to_owned(),
            series: vec![second(1, 3), second(2, 5), Second::default(), second(4, 7)],
            ..Document::default()
        };
        let log = interval_log(&document).unwrap();
        let entries: Vec<_> = IntervalLogIterator::new(log.as_bytes())
            .map(|entry| entry.unwrap())
            .collect();
        let start = Duration::from_secs(1_795_216_200);
        assert_eq!(
            entries[..2],
            [LogEntry::StartTime(start), LogEntry::BaseTime(start)]
        );
        let seconds: Vec<_> = entries[2..]
            .iter()
            .map(|entry| match entry {
                LogEntry::Interval(interval) => (
                    interval.start_timestamp().as_secs(),
                    interval.duration().as_secs(),
                    interval.encoded_histogram(),
                ),
                other => panic!("{other:?}"),
            })
            .collect();
        let hist = |idx: usize| document.series[idx].hist.as_ref().unwrap().as_str();
        assert_eq!(seconds, [(0, 1, hist(0)), (1, 1, hist(1)), (2, 2, hist(3))]);
        assert!(log.contains(",5.0"), "{log}");
    }

    #[test]
    fn result_without_seconds_is_a_log_without_intervals() {
        let log = interval_log(&Document::default()).unwrap();
        assert!(log.contains("StartTime: 0.000"), "{log}");
    }
}
