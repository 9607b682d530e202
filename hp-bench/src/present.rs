//! Where the report goes, and which exit status tells the same in one number.
//!
//! Must not know: how the report is worded.

use std::fs;
use std::io::{self, Write};

use hp_core::sys::signal::Signal;

use crate::Run;
use crate::plan::{JsonTo, Plan};
use crate::report::{Report, document, spectrum, summary};
use crate::result::to_json;

/// Writes the report to where the plan says; gives the exit status.
///
/// # Errors
/// A line for the user where something could not be written.
pub fn present(plan: &Plan, run: &Run) -> Result<u8, String> {
    let report = Report {
        plan,
        record: &run.record,
        addr: run.addr,
        engine: &run.engine,
        engine_story: &run.engine_story,
        started_wall_ns: run.started_wall_ns,
        interrupted: run.interrupted.is_some(),
    };
    let mut text = String::new();
    if !plan.quiet {
        text = summary(&report);
        if plan.spectrum {
            text.push_str(&spectrum(run.record.latency()));
        }
    }
    match &plan.json {
        JsonTo::Nowhere => write(io::stdout(), &text)?,
        JsonTo::Stdout => {
            write(io::stderr(), &text)?;
            write(io::stdout(), &to_json(&document(&report)))?;
        }
        JsonTo::File(file) => {
            write(io::stdout(), &text)?;
            let named = |error| {
                format!(
                    "cannot write {}: {error}; name another --json",
                    file.display()
                )
            };
            fs::write(file, to_json(&document(&report))).map_err(named)?;
        }
    }
    Ok(match run.interrupted {
        Some(Signal::Interrupt) => INTERRUPTED,
        Some(_terminated) => TERMINATED,
        None if run.record.errors.blamed() > 0 => ERRORS,
        None => 0,
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
const ERRORS: u8 = 4;
const INTERRUPTED: u8 = 128 + 2;
const TERMINATED: u8 = 128 + 15;
