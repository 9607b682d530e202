//! Numbers for people and for programs: the summary, the percentile spectrum, the document.
//!
//! All but [`document()`] is made from the document alone, so a result that was read from a file, or merged
//! from several, is shown as a run's own.
//!
//! Must not know: how the numbers were measured. Writes nothing itself.

mod document;
mod spectrum;
mod summary;

use std::time::Duration;

use hdrhistogram::Histogram;

use hp_core::rt::net::Address;

use crate::format::per_second;
use crate::observe::Costs;
use crate::plan::Plan;
use crate::record::Record;
use crate::result::{DecodeError, Document, Encoded, RESPONSE, Second};

pub use document::{document, unix_seconds};
pub use spectrum::{Step, distribution, spectrum, steps, thin_line};
pub use summary::summary;

/// A finished run, with all that its document says.
#[derive(Debug)]
pub struct Report<'a> {
    /// What was asked for.
    pub plan: &'a Plan,
    /// All threads' records together.
    pub record: &'a Record,
    /// Where the requests went.
    pub addr: &'a Address,
    /// What `auto` became: `uring` or `epoll`.
    pub engine: &'a str,
    /// One line about the engine, and about one that was passed over.
    pub engine_story: &'a str,
    /// When the clock started, in ns since 1970-01-01 UTC.
    pub started_wall_ns: u64,
    /// Whether a signal ended the run.
    pub interrupted: bool,
    /// What each second brought.
    pub series: &'a [Second],
    /// What the run cost.
    pub costs: &'a Costs,
}

impl Report<'_> {
    /// Complete answers per second of the run; 0 for a run that has not begun.
    pub fn responses_per_second(&self) -> f64 {
        per_second(self.record.responses, self.record.active())
    }

    /// CPU time of the client per complete answer; `None` where either is unknown.
    pub fn cpu_per_response(&self) -> Option<Duration> {
        let nanos = u64::try_from(self.record.cpu?.as_nanos()).ok()?;
        nanos
            .checked_div(self.record.responses)
            .map(Duration::from_nanos)
    }
}

/// A document with its histograms decoded, ready to be shown.
#[derive(Clone, Debug)]
pub struct Shown<'a> {
    /// The document.
    pub document: &'a Document,
    /// From the actual send to the last byte.
    pub service: Option<Histogram<u64>>,
    /// From the intended send to the last byte.
    pub response: Option<Histogram<u64>>,
    /// From the intended send to the actual one.
    pub lag: Option<Histogram<u64>>,
    /// To connect.
    pub connect: Option<Histogram<u64>>,
    /// To the first byte.
    pub ttfb: Option<Histogram<u64>>,
}

impl<'a> Shown<'a> {
    /// Decodes the histograms.
    ///
    /// # Errors
    /// [`DecodeError`] of the first that is none; not for a document that was checked when it was read.
    pub fn of(document: &'a Document) -> Result<Self, DecodeError> {
        let decoded = |encoded: &Option<Encoded>| encoded.as_ref().map(Encoded::decode).transpose();
        let histograms = &document.histograms;
        Ok(Self {
            document,
            service: decoded(&histograms.service)?,
            response: decoded(&histograms.response)?,
            lag: decoded(&histograms.lag)?,
            connect: decoded(&histograms.connect)?,
            ttfb: decoded(&histograms.ttfb)?,
        })
    }

    /// The histogram of the headline latency; `None` where there is none, or no sample in it.
    pub fn headline(&self) -> Option<&Histogram<u64>> {
        let headline = match self.document.latency_ns.clock.as_str() {
            RESPONSE => self.response.as_ref(),
            _ => self.service.as_ref(),
        };
        headline.filter(|histogram| !histogram.is_empty())
    }
}

/// Percentiles of every report, with the quantile of each.
pub const PERCENTILES: [(&str, f64); 6] = [
    ("50", 0.5),
    ("75", 0.75),
    ("90", 0.9),
    ("99", 0.99),
    ("99.9", 0.999),
    ("99.99", 0.9999),
];

/// As `--version` says.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

#[cfg(test)]
mod tests;
