//! The words of the command line that read results and measure nothing.

use hp_core::obs::notice::say;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use crate::error::Error;
use crate::output::show;
use crate::{agree, derive, index, page, readme, scatter, text};

/// One of them, with what it is given.
#[derive(Clone, Debug, Eq, PartialEq, Subcommand)]
pub enum Word {
    /// Derive a session's tables, numbers, spectra and plots again, from its raw file
    Analyse {
        /// The session's folder
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// Write nothing; exit code 3 when a file is not as derived
        #[arg(long)]
        check: bool,
    },
    /// Say whether two sessions of one commit agree; exit code 3 when they do not
    Agree {
        /// A session's folder
        #[arg(value_name = "DIR")]
        first: PathBuf,
        /// Another session's folder
        #[arg(value_name = "DIR")]
        second: PathBuf,
    },
    /// List all results in INDEX.md, and new sessions in index.ndjson
    Index {
        /// The results' folder
        #[arg(value_name = "DIR", default_value = "results")]
        results: PathBuf,
    },
    /// Print how far the pairs behind each ratio of cost lie apart
    Scatter {
        /// The session's folder
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Renew the README's section about performance from the results that index.ndjson lists
    Readme {
        /// The README
        #[arg(value_name = "FILE", default_value = "README.md")]
        readme: PathBuf,
        /// The results' folder
        #[arg(long, value_name = "DIR", default_value = "results")]
        results: PathBuf,
        /// Write nothing; exit code 3 when the section is stale
        #[arg(long)]
        check: bool,
    },
}

impl Word {
    /// Does it. Exit code 3 means that what was asked does not hold.
    ///
    /// # Errors
    /// [`Error`] when something cannot be read or written.
    pub fn run(&self) -> Result<ExitCode, Error> {
        match self {
            Self::Analyse { folder, check } => analyse(folder, *check),
            Self::Agree { first, second } => {
                let agreement = agree::sessions(first, second)?;
                show(&agreement)?;
                Ok(held(agreement.is_given()))
            }
            Self::Scatter { folder } => {
                show(scatter::of_session(folder)?)?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Index { results } => {
                for skipped in index::regenerate(results)? {
                    say(format_args!(
                        "harness: {}: not readable as a result; the index leaves it out",
                        skipped.display()
                    ));
                }
                Ok(ExitCode::SUCCESS)
            }
            Self::Readme {
                readme,
                results,
                check,
            } => renew(readme, results, *check),
        }
    }
}

fn analyse(folder: &Path, check: bool) -> Result<ExitCode, Error> {
    let derived = derive::session(folder)?;
    if !check {
        derived.write(folder)?;
        show(page::tables(&derived.summary))?;
        return Ok(ExitCode::SUCCESS);
    }
    let differences = derived.differences(folder);
    for name in &differences {
        say(format_args!(
            "harness: {}: not as derived from the raw file; run `harness analyse` on the folder",
            folder.join(name).display()
        ));
    }
    Ok(held(differences.is_empty()))
}

fn renew(readme: &Path, results: &Path, check: bool) -> Result<ExitCode, Error> {
    if !check {
        let is_new = readme::renew(readme, results)?;
        let word = if is_new { "renewed" } else { "as it was" };
        say(format_args!(
            "{}: the section about performance is {word}",
            readme.display()
        ));
        return Ok(ExitCode::SUCCESS);
    }
    let is_fresh = text::read(readme)? == readme::renewed(readme, results)?;
    if !is_fresh {
        say(format_args!(
            "harness: {}: the section about performance is stale; run `make bench-readme`",
            readme.display()
        ));
    }
    Ok(held(is_fresh))
}

fn held(holds: bool) -> ExitCode {
    ExitCode::from(if holds { 0 } else { HOLDS_NOT })
}

/// The exit code of a gate that does not hold, as hp-bench has it.
const HOLDS_NOT: u8 = 3;
