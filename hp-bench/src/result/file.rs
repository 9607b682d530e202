//! Results from and to files.
//!
//! Must not know: the command line.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::encoded::DecodeError;
use super::{Document, SCHEMA};

/// Why a file is no result.
#[derive(Debug)]
pub struct ReadError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub cause: Cause,
}

/// What is wrong with a text or a file.
#[derive(Debug)]
pub enum Cause {
    /// It cannot be read.
    Io(io::Error),
    /// More than [`FILE_BYTES_MAX`].
    TooLong,
    /// Not JSON of the schema.
    Json(serde_json::Error),
    /// A page without whole results in it.
    Page,
    /// JSON of another schema.
    Schema(String),
    /// A histogram that is none.
    Histogram {
        /// Its key.
        name: &'static str,
        /// Why.
        cause: DecodeError,
    },
    /// A number that no run can have.
    Number {
        /// Its key.
        name: &'static str,
    },
}

/// Reads the results in a file, of which a page may have several; `-` is standard input.
///
/// # Errors
/// [`ReadError`] names the file and what is wrong with it.
pub fn read(file: &Path) -> Result<Vec<Document>, ReadError> {
    let failed = |cause| ReadError {
        file: file.to_owned(),
        cause,
    };
    let text = if file == Path::new("-") {
        bounded(io::stdin().lock(), FILE_BYTES_MAX)
    } else {
        File::open(file)
            .map_err(Cause::Io)
            .and_then(|opened| bounded(opened, FILE_BYTES_MAX))
    };
    let text = text.map_err(failed)?;
    parse_all(&text).map_err(failed)
}

/// Reads the one result of a JSON text, or all of a page.
///
/// # Errors
/// [`Cause`].
pub fn parse_all(text: &str) -> Result<Vec<Document>, Cause> {
    if !text.starts_with(PAGE_START) {
        return parse(text).map(|document| vec![document]);
    }
    let mut documents = Vec::new();
    for part in text.split(DATA_START).skip(1) {
        let (json, _rest) = part.split_once(DATA_END).ok_or(Cause::Page)?;
        documents.push(parse(json)?);
    }
    if documents.is_empty() {
        return Err(Cause::Page);
    }
    Ok(documents)
}

/// Reads the text of a result, and checks what it claims.
///
/// # Errors
/// [`Cause`].
pub fn parse(text: &str) -> Result<Document, Cause> {
    #[derive(Deserialize)]
    struct Tag {
        schema: String,
    }
    // First alone: a document of another schema would fail over its first different key.
    let tag: Tag = serde_json::from_str(text).map_err(Cause::Json)?;
    if tag.schema != SCHEMA {
        return Err(Cause::Schema(tag.schema));
    }
    let document: Document = serde_json::from_str(text).map_err(Cause::Json)?;
    check(&document)?;
    Ok(document)
}

/// The document as JSON with a line feed at its end.
pub fn to_json(document: &Document) -> String {
    let mut text = serde_json::to_string_pretty(document)
        .expect("maps have string keys, and serialising to memory does not fail");
    text.push('\n');
    text
}

/// Reads all, up to `max` bytes.
fn bounded(from: impl Read, max: u64) -> Result<String, Cause> {
    let mut text = String::new();
    from.take(max + 1)
        .read_to_string(&mut text)
        .map_err(Cause::Io)?;
    if text.len() as u64 > max {
        return Err(Cause::TooLong);
    }
    Ok(text)
}

/// Counts stay below 2^53 so that sums of files fit a `u64`; times are finite and not negative.
fn check(document: &Document) -> Result<(), Cause> {
    let Document {
        plan,
        run,
        latency_ns,
        ..
    } = document;
    for (name, number) in [
        ("plan.duration_s", plan.duration_s),
        ("run.elapsed_s", run.elapsed_s),
        ("run.in_turn_s", run.in_turn_s.unwrap_or(0.0)),
        ("plan.turn_s", plan.turn_s.unwrap_or(0.0)),
        ("run.rps", run.rps),
        ("plan.rate", plan.rate.unwrap_or(0.0)),
    ] {
        if !(0.0..FLOAT_MAX).contains(&number) {
            return Err(Cause::Number { name });
        }
    }
    let counted = [
        ("run.requests", run.requests),
        ("run.responses", run.responses),
        ("run.bytes_in", run.bytes_in),
        ("run.bytes_out", run.bytes_out),
        ("run.connections_opened", run.connections_opened),
        ("latency_ns.mean", latency_ns.mean),
        ("latency_ns.stdev", latency_ns.stdev),
        ("latency_ns.max", latency_ns.max),
        ("latency_ns.censored", latency_ns.censored),
    ];
    let status = document.status.values().map(|count| ("status", *count));
    let errors = document.errors.values().map(|count| ("errors", *count));
    let seconds = document.series.iter().flat_map(|second| {
        [
            ("series.t", second.t),
            ("series.n", second.n),
            ("series.err", second.err),
            ("series.bytes", second.bytes),
        ]
    });
    for (name, count) in counted
        .into_iter()
        .chain(status)
        .chain(errors)
        .chain(seconds)
    {
        if count > COUNT_MAX {
            return Err(Cause::Number { name });
        }
    }
    for (name, encoded) in document.histograms.iter() {
        encoded
            .decode()
            .map_err(|cause| Cause::Histogram { name, cause })?;
    }
    for encoded in document
        .series
        .iter()
        .filter_map(|second| second.hist.as_ref())
    {
        encoded.decode().map_err(|cause| Cause::Histogram {
            name: "series",
            cause,
        })?;
    }
    Ok(())
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.cause)
    }
}

impl std::error::Error for ReadError {}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}; name a readable file"),
            Self::TooLong => write!(
                f,
                "longer than {} MiB; name a result of hp-bench --json",
                FILE_BYTES_MAX >> 20
            ),
            Self::Json(error) => write!(
                f,
                "no result of hp-bench ({error}); name a file that hp-bench --json wrote"
            ),
            Self::Page => write!(
                f,
                "a page without results in it; name one that hp-bench wrote"
            ),
            Self::Schema(name) => write!(
                f,
                "schema {:?}, not {SCHEMA}; name a file that hp-bench --json wrote",
                name.chars().take(NAME_CHARS_MAX).collect::<String>()
            ),
            Self::Histogram { name, cause } => write!(
                f,
                "histogram {name}: {cause}; the file is damaged, write it again"
            ),
            Self::Number { name } => write!(
                f,
                "{name} is out of range; the file is damaged, write it again"
            ),
        }
    }
}

impl std::error::Error for Cause {}

/// How a page begins that hp-bench wrote.
const PAGE_START: &str = "<!doctype html>";
/// Stands before each result in a page.
pub const DATA_START: &str = "<script type=\"application/json\" class=\"hp-bench-result\">";
/// Stands behind each result in a page.
pub const DATA_END: &str = "</script>";
const NAME_CHARS_MAX: usize = 40;
/// Longest file that is read: a day of seconds with their histograms fits.
pub const FILE_BYTES_MAX: u64 = 256 << 20;
const COUNT_MAX: u64 = 1 << 53;
const FLOAT_MAX: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests;
