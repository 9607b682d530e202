//! Where a result goes, and which exit status tells the same in one number.
//!
//! Must not know: how the numbers are worded.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use hp_core::obs::notice::write_unless_left;
use hp_core::sys::signal::Signal;

use crate::Run;
use crate::diff::{Thresholds, compare};
use crate::interval_log::interval_log;
use crate::live::to_line;
use crate::merge;
use crate::output::{JsonTo, Output};
use crate::page::page;
use crate::plan::Plan;
use crate::plot::plots;
use crate::report::{Report, Shown, distribution, document, spectrum, summary, thin_line};
use crate::result::{Document, RESPONSE, read, to_json};
use crate::samples::{SAMPLES_MAX, Samples};
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
    if let (Some(file), Some(samples)) = (&plan.output.csv, &run.record.samples) {
        write_samples(file, samples)?;
    }
    Ok(match run.interrupted {
        Some(Signal::Interrupt) => INTERRUPTED,
        Some(_terminated) => TERMINATED,
        None => exit_status(plan, &run.record, &document.verdict),
    })
}

/// Finds out before a run whether its result can be written where the flags say; no file stays that was not there.
///
/// # Errors
/// A line with the file, the cause and the flag.
pub fn check_writable(output: &Output) -> Result<(), String> {
    let json = match output.json_to() {
        JsonTo::File(file) => Some(file),
        JsonTo::Nowhere | JsonTo::Stdout => None,
    };
    let files = [
        ("--json", &json),
        ("--hgrm", &output.hgrm),
        ("--hlog", &output.hlog),
        ("--csv", &output.csv),
        ("--html", &output.html),
    ];
    for (flag, file) in files {
        let Some(file) = file else { continue };
        let is_new = match fs::metadata(file) {
            Ok(facts) if facts.is_file() || facts.is_dir() => false,
            Ok(_pipe_or_device) => continue, // Its reader would take opening for all that comes.
            Err(_not_there) => true,
        };
        let opened = fs::OpenOptions::new().append(true).create(true).open(file);
        opened.map_err(|error| {
            format!(
                "cannot write {}: {error}; name another {flag}",
                file.display()
            )
        })?;
        if is_new {
            match fs::remove_file(file) {
                Ok(()) | Err(_) => (), // It is empty, and about to be written.
            }
        }
    }
    Ok(())
}

fn write_samples(file: &Path, samples: &Samples) -> Result<(), String> {
    let written = fs::File::create(file).and_then(|opened| {
        let mut buffered = io::BufWriter::new(opened);
        samples.write_csv(&mut buffered)?;
        buffered.flush()
    });
    written.map_err(|error| {
        format!(
            "cannot write {}: {error}; name another --csv",
            file.display()
        )
    })?;
    match samples.left_out() {
        0 => Ok(()),
        count => write(
            io::stderr(),
            &format!(
                "hp-bench: --csv has the first {SAMPLES_MAX} requests or fewer; {count} are left out\n"
            ),
        ),
    }
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
    let documents = std::slice::from_ref(document);
    if let Some(file) = &output.html {
        write_file(
            file,
            &page(documents).map_err(|error| error.to_string())?,
            "--html",
        )?;
    }
    match &output.svg {
        Some(folder) => write_plots(folder, documents),
        None => Ok(()),
    }
}

/// Writes each plot of these results into a file of its name.
///
/// # Errors
/// A line for the user.
pub fn write_plots(folder: &Path, documents: &[Document]) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| {
        format!(
            "cannot make {}: {error}; name another --svg",
            folder.display()
        )
    })?;
    for plot in plots(documents).map_err(|error| error.to_string())? {
        let file = folder.join(plot.name).with_extension("svg");
        write_file(&file, &plot.svg, "--svg")?;
    }
    Ok(())
}

/// Adds the results in these files and tells the sum; gives the exit status.
///
/// # Errors
/// A line for the user.
pub fn merge_files(files: &[PathBuf], output: &Output) -> Result<u8, String> {
    let mut documents: Vec<Document> = Vec::new();
    for file in files {
        for document in read(file).map_err(|error| error.to_string())? {
            // Here, so that the file that does not fit is the one that is named.
            if let Some(first) = documents.first() {
                merge::compare(first, &document)
                    .map_err(|error| format!("{}: {error}", file.display()))?;
            }
            documents.push(document);
        }
    }
    let sum = merge::merge(&documents).map_err(|error| error.to_string())?;
    if let Some(file) = &output.series {
        let lines: Vec<String> = sum.series.iter().map(to_line).collect();
        write_file(file, &lines.concat(), "--series")?;
    }
    tell(&sum, output)?;
    Ok(0)
}

/// Writes the page of the results in these files, and their plots; gives the exit status.
///
/// # Errors
/// A line for the user.
pub fn report_files(
    files: &[PathBuf],
    to_page: Option<&Path>,
    to_folder: Option<&Path>,
) -> Result<u8, String> {
    let mut documents = Vec::new();
    for file in files {
        documents.extend(read(file).map_err(|error| error.to_string())?);
    }
    if let Some(file) = to_page {
        let page = page(&documents).map_err(|error| error.to_string())?;
        write_file(file, &page, "-o")?;
    }
    if let Some(folder) = to_folder {
        write_plots(folder, &documents)?;
    }
    Ok(0)
}

/// Prints what changed between two results; gives the exit status.
///
/// # Errors
/// A line for the user.
pub fn diff_files(old: &Path, new: &Path, thresholds: &Thresholds) -> Result<u8, String> {
    let one = |file: &Path| match read(file).map_err(|error| error.to_string())?.as_slice() {
        [document] => Ok(document.clone()),
        several => Err(format!(
            "{}: has {} results; name a file with one",
            file.display(),
            several.len()
        )),
    };
    let comparison =
        compare(&one(old)?, &one(new)?, thresholds).map_err(|error| error.to_string())?;
    write(io::stdout(), &comparison.to_string())?;
    Ok(if comparison.is_regression() { GATE } else { 0 })
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
pub fn write(to: impl Write, text: &str) -> Result<(), String> {
    write_unless_left(to, text).map_err(|error| {
        format!("cannot write the report: {error}; make room or name another place")
    })
}

/// Could not start, or not tell.
pub const FAILED: u8 = 1;
/// The words are wrong.
pub const MISUSE: u8 = 2;
/// A comparison found a regression, or a gate failed.
pub const GATE: u8 = 3;
/// Ended by SIGINT.
pub const INTERRUPTED: u8 = 128 + 2;
/// Ended by SIGTERM.
pub const TERMINATED: u8 = 128 + 15;
