//! Where a result goes, and which exit status tells the same in one number.
//!
//! Must not know: how the numbers are worded.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use hp_core::sys::signal::Signal;

use crate::Run;
use crate::interval_log::interval_log;
use crate::output::{JsonTo, Output};
use crate::plan::Plan;
use crate::report::{Report, Shown, distribution, document, spectrum, summary, thin_line};
use crate::result::{Document, RESPONSE, to_json};
use crate::verdict::exit_status;

/// Writes the result of a run to where the plan says; gives the exit status.
///
/// # Errors
/// A line for the user where something could not be written.
pub fn present(plan: &Plan, run: &Run) -> Result<u8, String> {
    let document = document(&Report {
        plan,
        record: &run.record,
        addr: &run.addr,
        engine: &run.engine,
        engine_story: &run.engine_story,
        started_wall_ns: run.started_wall_ns,
        interrupted: run.interrupted.is_some(),
        series: &run.series,
        costs: &run.costs,
    });
    tell(&document, &plan.output)?;
    Ok(match run.interrupted {
        Some(Signal::Interrupt) => INTERRUPTED,
        Some(_terminated) => TERMINATED,
        None => exit_status(plan, &run.record, &document.verdict),
    })
}

/// Writes a result, of a run or read from files, to where the flags say.
///
/// # Errors
/// A line for the user where something could not be written.
pub fn tell(document: &Document, output: &Output) -> Result<(), String> {
    let shown = Shown::of(document).map_err(|error| format!("a histogram is damaged: {error}"))?;
    let text = text(&shown, output);
    match output.json_to() {
        JsonTo::Nowhere => write(io::stdout(), &text)?,
        JsonTo::Stdout => {
            write(io::stderr(), &text)?;
            write(io::stdout(), &to_json(document))?;
        }
        JsonTo::File(file) => {
            write(io::stdout(), &text)?;
            write_file(&file, &to_json(document), "--json")?;
        }
    }
    if let Some(file) = &output.hgrm {
        let plotted = shown.headline().map_or_else(String::new, |times| {
            [spectrum(times), thin_line(times)].concat()
        });
        write_file(file, &plotted, "--hgrm")?;
    }
    if let Some(file) = &output.hlog {
        write_file(file, &interval_log(document)?, "--hlog")?;
    }
    Ok(())
}

/// The summary, and the spectra that were asked for.
fn text(shown: &Shown<'_>, output: &Output) -> String {
    let mut text = String::new();
    if !output.quiet {
        text.push_str(&summary(shown));
    }
    let is_paced = shown.document.latency_ns.clock == RESPONSE;
    let wanted = [
        (output.latency, shown.headline(), "Recorded Latency"),
        (
            output.service && is_paced,
            shown.service.as_ref(),
            "Uncorrected Latency (measured without taking delayed starts into account)",
        ),
    ];
    for (is_wanted, times, name) in wanted {
        if let Some(times) = times.filter(|times| is_wanted && !times.is_empty()) {
            text.push_str(&distribution(times, name));
            text.push_str("  Detailed Percentile spectrum:\n");
            text.push_str(&spectrum(times));
            text.push_str(&thin_line(times));
        }
    }
    text
}

/// Replaces a file.
///
/// # Errors
/// A line for the user, with the flag that named the file.
pub fn write_file(file: &Path, text: &str, flag: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|error| {
        format!(
            "cannot write {}: {error}; name another {flag}",
            file.display()
        )
    })
}

/// Writes all, unless the reader left first: then nobody wants it.
///
/// # Errors
/// A line for the user.
pub fn write(mut to: impl Write, text: &str) -> Result<(), String> {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!(
            "cannot write the report: {error}; make room or name another place"
        )),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Could not start, or not tell.
pub const FAILED: u8 = 1;
/// The words are wrong.
pub const MISUSE: u8 = 2;
/// A comparison found a regression, or a gate failed.
pub const GATE: u8 = 3;
const INTERRUPTED: u8 = 128 + 2;
const TERMINATED: u8 = 128 + 15;
