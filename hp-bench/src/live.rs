//! What is told about a run while it goes on: the progress, and the file of the seconds.
//!
//! Must not know: what a thread does.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::interval::{Inlet, Interval};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::result::Second;

/// Listens to the threads; polled a few dozen times a second by the thread that waits for them.
#[derive(Debug)]
pub(crate) struct Live {
    inlet: Inlet,
    progress: Progress,
    file: Option<SeriesFile>,
    series: Vec<Second>,
}

/// Why the file of the seconds cannot be written.
#[derive(Debug)]
pub struct SeriesError {
    file: PathBuf,
    cause: io::Error,
}

impl Live {
    /// Opens the file, before anything runs that it could lose.
    pub(crate) fn new(plan: &Plan, inlet: Inlet) -> Result<Self, SeriesError> {
        let file = plan.output.series.clone().map(SeriesFile::create);
        Ok(Self {
            inlet,
            progress: Progress::new(&plan.output, plan.duration),
            file: file.transpose()?,
            series: Vec::new(),
        })
    }

    /// Shows and keeps the seconds that are complete.
    pub(crate) fn poll(&mut self) {
        for interval in self.inlet.complete() {
            self.progress.show(&interval.second);
            keep(&mut self.series, self.file.as_mut(), interval);
        }
    }

    /// The seconds of the whole run, when no thread runs any more.
    ///
    /// # Errors
    /// The first failure to write the file, whenever it was.
    pub(crate) fn finish(mut self) -> Result<Vec<Second>, SeriesError> {
        for interval in self.inlet.rest() {
            self.progress.show(&interval.second);
            keep(&mut self.series, self.file.as_mut(), interval);
        }
        self.progress.end();
        if let Some(file) = self.file {
            file.finish()?;
        }
        Ok(self.series)
    }
}

/// A second as a line of JSON with its line feed.
pub(crate) fn to_line(second: &Second) -> String {
    let mut line = serde_json::to_string(second).expect("numbers and text serialise to memory");
    line.push('\n');
    line
}

/// Memory is bounded: histograms are kept for an hour, and numbers for a week, the longest run.
fn keep(series: &mut Vec<Second>, file: Option<&mut SeriesFile>, interval: Interval) {
    if let Some(file) = file {
        let second = interval.into_second();
        file.write(&second);
        series.push(shortened(series.len(), second));
    } else if series.len() < HISTOGRAMS_MAX {
        series.push(interval.into_second());
    } else {
        series.push(interval.second);
    }
}

fn shortened(kept: usize, second: Second) -> Second {
    let hist = second.hist.filter(|_text| kept < HISTOGRAMS_MAX);
    Second { hist, ..second }
}

/// Lines of JSON; after the first failure nothing more is tried.
#[derive(Debug)]
struct SeriesFile {
    name: PathBuf,
    file: File,
    failed: Option<io::Error>,
}

impl SeriesFile {
    fn create(name: PathBuf) -> Result<Self, SeriesError> {
        match File::create(&name) {
            Ok(file) => Ok(Self {
                name,
                file,
                failed: None,
            }),
            Err(cause) => Err(SeriesError { file: name, cause }),
        }
    }

    /// One line, at once: whoever follows the file sees whole lines.
    fn write(&mut self, second: &Second) {
        if self.failed.is_some() {
            return;
        }
        self.failed = self.file.write_all(to_line(second).as_bytes()).err();
    }

    fn finish(self) -> Result<(), SeriesError> {
        match self.failed {
            Some(cause) => Err(SeriesError {
                file: self.name,
                cause,
            }),
            None => Ok(()),
        }
    }
}

impl fmt::Display for SeriesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, cause } = self;
        write!(
            f,
            "cannot write {}: {cause}; name another --series",
            file.display()
        )
    }
}

impl std::error::Error for SeriesError {}

/// Seconds whose histograms stay in memory, some KiB each.
const HISTOGRAMS_MAX: usize = 3_600;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::histogram;

    fn interval(t: u64) -> Interval {
        Interval {
            second: Second {
                t,
                n: 7,
                ..Second::default()
            },
            latency: histogram(),
        }
    }

    #[test]
    fn file_has_every_second_and_memory_the_histograms_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("s.ndjson");
        let mut file = SeriesFile::create(name.clone()).unwrap();
        let mut series: Vec<Second> = (0..HISTOGRAMS_MAX as u64 - 1)
            .map(|t| interval(t).into_second())
            .collect();
        for t in 0..3 {
            keep(&mut series, Some(&mut file), interval(t));
        }
        keep(&mut series, None, interval(3));
        file.finish().unwrap();
        let with_histogram = series.iter().filter(|second| second.hist.is_some());
        assert_eq!(
            (with_histogram.count(), series.len()),
            (HISTOGRAMS_MAX, HISTOGRAMS_MAX + 3)
        );
        let text = std::fs::read_to_string(name).unwrap();
        assert_eq!(text.matches("\"hist\":\"HISTFAAA").count(), 3);
        assert!(text.ends_with("}\n"), "{text}");
    }

    #[test]
    fn failure_to_write_is_told_at_the_end() {
        let full = PathBuf::from("/dev/full"); // Writing to it fails as a full disk does.
        let mut file = SeriesFile::create(full).unwrap();
        file.write(&Second::default());
        file.write(&Second::default());
        let said = file.finish().unwrap_err().to_string();
        assert!(said.starts_with("cannot write /dev/full: "), "{said}");
    }
}
