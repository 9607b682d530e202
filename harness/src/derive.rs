//! From a session's folder to everything that is derived: `README.md`, `summary.json`, `hist/` and `plots/`.
//!
//! Only `plan.toml`, `env.json` and the raw file are read. Equal inputs give equal files, byte for byte, so that a table
//! can be checked where nothing was measured.

mod json;
mod spectra;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::page::{self, Page};
use crate::plan::Plan;
use crate::plot;
use crate::raw::{self, Record};
use crate::setting::Setting;
use crate::summary::Summary;
use crate::summary::grid::Grid;

/// A session, derived.
#[derive(Clone, Debug)]
pub struct Derived {
    /// What was asked.
    pub plan: Plan,
    /// Where it ran.
    pub setting: Setting,
    /// What it says.
    pub summary: Summary,
    /// What is written: paths in the folder, and contents.
    pub files: BTreeMap<PathBuf, String>,
}

/// Derives a session; writes nothing.
///
/// # Errors
/// [`Error::Read`] or [`Error::Plan`] when an input is missing, damaged, or of another schema.
pub fn session(folder: &Path) -> Result<Derived, Error> {
    let plan = Plan::read(&folder.join(PLAN_FILE).to_string_lossy(), folder)?;
    let setting = Setting::read(folder)?;
    let path = folder.join(raw::RAW_FILE);
    let records = raw::read(&path)?;
    check(&path, &records)?;
    let grid = Grid::of(&plan, &records);
    let summary = Summary::from_grid(&plan, &grid);
    let drawn = plot::plots(&grid, &summary).map_err(|cause| Error::Read {
        path,
        cause: format!("no plot can be drawn of it: {cause}"),
    })?;
    let spectra = spectra::files(&grid, &summary);
    let names: Vec<String> = drawn.plots.iter().map(|plot| plot.name.clone()).collect();
    let mut notes = spectra.notes;
    if drawn.left_out > 0 {
        notes.push(format!(
            "{} more plots had no room: a session has a bound.",
            drawn.left_out
        ));
    }
    let text = page::markdown(&Page {
        title: &plan.title,
        setting: &setting,
        summary: &summary,
        plots: &names,
        file_notes: &notes,
    });
    let mut files = BTreeMap::from([
        (PathBuf::from(PAGE_FILE), text),
        (PathBuf::from(SUMMARY_FILE), json::text(&summary)),
    ]);
    for plot in drawn.plots {
        files.insert(
            Path::new(PLOTS).join(format!("{}.svg", plot.name)),
            plot.svg,
        );
    }
    for (name, text) in spectra.files {
        files.insert(Path::new(SPECTRA).join(format!("{name}.hgrm")), text);
    }
    Ok(Derived {
        plan,
        setting,
        summary,
        files,
    })
}

impl Derived {
    /// Writes all files into the folder, and removes plots and spectra that are none of them.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        for (name, text) in &self.files {
            let path = folder.join(name);
            let parent = path.parent().unwrap_or(folder);
            let written = fs::create_dir_all(parent).and_then(|()| fs::write(&path, text));
            written.map_err(|cause| Error::Write { path, cause })?;
        }
        for name in self.strangers(folder) {
            let path = folder.join(name);
            fs::remove_file(&path).map_err(|cause| Error::Write { path, cause })?;
        }
        Ok(())
    }

    /// The files of the folder that are not as derived: missing, different, or left over.
    pub fn differences(&self, folder: &Path) -> Vec<PathBuf> {
        let differs = |(name, text): &(&PathBuf, &String)| {
            fs::read(folder.join(name)).ok().as_deref() != Some(text.as_bytes())
        };
        let mut names: Vec<PathBuf> = self
            .files
            .iter()
            .filter(differs)
            .map(|(name, _text)| name.clone())
            .collect();
        names.extend(self.strangers(folder));
        names
    }

    /// Plots and spectra in the folder that are not derived.
    fn strangers(&self, folder: &Path) -> Vec<PathBuf> {
        let mut strangers = Vec::new();
        for (inner, ending) in [(PLOTS, "svg"), (SPECTRA, "hgrm")] {
            let entries = fs::read_dir(folder.join(inner)).into_iter().flatten();
            for entry in entries.flatten() {
                let name = Path::new(inner).join(entry.file_name());
                let is_ours = name.extension().is_some_and(|found| found == ending);
                if is_ours && !self.files.contains_key(&name) {
                    strangers.push(name);
                }
            }
        }
        strangers.sort();
        strangers
    }
}

/// Holds the records to what they claim: documents of the schema, with histograms that can be read.
fn check(path: &Path, records: &[Record]) -> Result<(), Error> {
    let failed = |cause: String| Error::Read {
        path: path.to_owned(),
        cause,
    };
    if records.is_empty() {
        return Err(failed("it has no record: nothing was measured".into()));
    }
    let mut cells: BTreeMap<(&str, &str, &str), u32> = BTreeMap::new();
    for (number, record) in (1..).zip(records) {
        let key = (
            record.workload.as_str(),
            record.row.as_str(),
            record.subject.as_str(),
        );
        *cells.entry(key).or_insert(0) += 1;
        if cells.len() > CELLS_MAX {
            return Err(failed(format!(
                "line {number}: more than {CELLS_MAX} cells"
            )));
        }
        let Some(document) = &record.load else {
            continue;
        };
        if document.schema != hp_bench::result::SCHEMA {
            return Err(failed(format!(
                "line {number}: its load is of schema {:?}; this program reads {}",
                document.schema,
                hp_bench::result::SCHEMA
            )));
        }
        let headline = document.headline().map(|encoded| encoded.decode());
        if let Some(Err(cause)) = headline {
            return Err(failed(format!("line {number}: its histogram is {cause}")));
        }
    }
    Ok(())
}

/// The resolved plan.
pub const PLAN_FILE: &str = "plan.toml";
/// The page for people.
pub const PAGE_FILE: &str = "README.md";
/// The derived numbers.
pub const SUMMARY_FILE: &str = "summary.json";

const PLOTS: &str = "plots";
const SPECTRA: &str = "hist";
/// Bounds what a foreign file makes the analysis keep: a histogram for each.
const CELLS_MAX: usize = 4_096;
