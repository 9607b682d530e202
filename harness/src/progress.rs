//! What a person sees while a session runs: a bar on a terminal, a line per visit on a pipe; and what is kept of it.

use hp_core::obs::notice::say;
use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::Error;
use crate::raw::{Record, Writer};
use crate::round::{REPEATED, Watcher};
use crate::workload::{Row, Workload};

/// Shows a session on stderr, and writes its records.
pub struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
    done: u64,
    visits: u64,
    writer: Option<Writer>,
    kept: Vec<Kept>,
    records: Vec<Record>,
}

/// What the end of a session has to know of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Whether it counts.
    pub counts: bool,
    /// The record without its load's histograms, where it tells of the machine.
    pub calibrator: Option<Record>,
}

impl Progress {
    /// For a session of this many visits, whose records go to a writer.
    pub fn new(visits: u64, writer: Writer) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = if is_terminal {
            ProgressBar::with_draw_target(Some(visits), ProgressDrawTarget::stderr_with_hz(2)) // each drawing takes time from what is measured
        } else {
            ProgressBar::hidden()
        };
        let style = ProgressStyle::with_template(
            "[{pos}/{len}] {bar:24} {elapsed} of {duration}  {wide_msg}",
        );
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self {
            bar,
            is_terminal,
            done: 0,
            visits,
            writer: Some(writer),
            kept: Vec::new(),
            records: Vec::new(),
        }
    }

    /// What was visited so far, without histograms.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Ends the display and the file; what was kept, in order.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn finish(mut self) -> Result<Vec<Kept>, Error> {
        self.bar.finish_and_clear();
        if let Some(writer) = self.writer.take() {
            writer.finish()?;
        }
        Ok(self.kept)
    }
}

impl Watcher for Progress {
    fn begin(&mut self, workload: &Workload, row: &Row, subject: &str, round: u32) {
        self.bar.set_message(format!(
            "{} {} round {round}/{}: {subject}",
            workload.name, row.name, workload.rounds
        ));
    }

    fn end(&mut self, record: &Record) {
        self.done += 1;
        self.bar.set_length(self.visits.max(self.done));
        self.bar.set_position(self.done);
        if !self.is_terminal {
            say(format_args!(
                "[{:4}/{}] {}",
                self.done,
                self.visits,
                line_of(record)
            ));
        } else if !record.counts() {
            self.bar.suspend(|| say(line_of(record)));
        }
    }

    fn say(&mut self, line: &str) {
        if self.is_terminal {
            self.bar.suspend(|| say(line));
        } else {
            say(line);
        }
    }

    fn keep(&mut self, records: &[Record]) -> Result<(), Error> {
        let is_repeated = |flag: &String| flag.starts_with(REPEATED);
        if records
            .iter()
            .any(|record| record.flags.iter().any(is_repeated))
        {
            self.visits += records.len() as u64; // They are made once more than planned.
        }
        for record in records {
            if let Some(writer) = &mut self.writer {
                writer.write(record)?;
            }
            let mut slim = record.clone();
            slim.seconds.clear();
            if let Some(load) = slim.load.as_mut() {
                load.histograms = hp_bench::result::Histograms::default();
            }
            let calibrator = record.calibrates().then(|| slim.clone());
            self.records.push(slim);
            self.kept.push(Kept {
                counts: record.counts(),
                calibrator,
            });
        }
        Ok(())
    }
}

/// One visit in a line.
pub fn line_of(record: &Record) -> String {
    let start = format!(
        "{:<10} {:<8} round {:<2} {:<18}",
        record.workload, record.row, record.round, record.subject
    );
    if !record.counts() {
        return format!("{start} VOID: {}", record.void.join("; "));
    }
    let cost = record
        .server_cpu_ns_per_request()
        .map_or_else(|| "      -".into(), |ns| format!("{:7.2}", ns / 1_000.0));
    let Some(load) = &record.load else {
        return format!("{start} {cost} us CPU/request");
    };
    let p99_us = load.latency_ns.p.get("99").copied().unwrap_or(0) / 1_000;
    let flags = if record.flags.is_empty() {
        String::new()
    } else {
        format!("  [{}]", record.flags.join("; "))
    };
    format!(
        "{start} {cost} us CPU/request {:8.0} requests/s  p99 {p99_us:6} us{flags}",
        load.run.rps
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_void_visit_shows_its_reason() {
        let record = Record {
            workload: "small".into(),
            row: "c16".into(),
            subject: "nginx".into(),
            void: vec!["errors: reset 1".into()],
            ..Record::default()
        };
        assert!(line_of(&record).ends_with("VOID: errors: reset 1"));
        assert!(line_of(&record).contains("nginx"));
    }
}
