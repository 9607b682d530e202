//! The flags that say what becomes of a result; the same for a run and for results read from files.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What becomes of a result.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Output")]
pub struct Output {
    /// Print the whole percentile spectrum, in the columns of wrk2
    #[arg(short = 'L', long)]
    pub latency: bool,

    /// Print the spectrum of the service time as well, measured from the actual send
    #[arg(short = 'U', long = "service", alias = "u_latency")]
    pub service: bool,

    /// Write the result as JSON; with - to stdout, and the summary to stderr
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<OsString>,

    /// Write a line of JSON for each second, while the run goes on
    #[arg(long, value_name = "FILE")]
    pub series: Option<PathBuf>,

    /// Write the percentile spectrum for HdrHistogram's plotters
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,

    /// Write the seconds as an HdrHistogram V2 log
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,

    /// Write a line for each request, of the first 1,000,000; a run only
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,

    /// Write a page with plots that needs nothing else; `report` reads it back
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Write the plots as SVG files into a folder, which is made
    #[arg(long, value_name = "DIR")]
    pub svg: Option<PathBuf>,

    /// Print no summary
    #[arg(short = 'q', long)]
    pub quiet: bool,

    /// Show the run while it goes on, on stderr [default: auto, which is tty on a terminal, else line; with -q none]
    #[arg(long, value_name = "FORM", value_enum)]
    pub progress: Option<ProgressForm>,
}

/// How a run is shown while it goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ProgressForm {
    /// A panel on a terminal, else lines.
    Auto,
    /// A panel that is drawn over; lines where stderr is no terminal.
    Tty,
    /// A line each second.
    Line,
    /// Nothing.
    None,
}

/// Where the JSON goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum JsonTo {
    /// Nobody asked.
    Nowhere,
    /// Standard output; the summary goes to stderr then.
    Stdout,
    /// A file, replaced.
    File(PathBuf),
}

impl JsonTo {
    /// What the word of `--json` means.
    pub fn of(word: Option<&OsStr>) -> Self {
        match word {
            None => Self::Nowhere,
            Some(word) if word == "-" => Self::Stdout,
            Some(word) => Self::File(PathBuf::from(word)),
        }
    }
}

impl Output {
    /// Where the JSON goes.
    pub fn json_to(&self) -> JsonTo {
        JsonTo::of(self.json.as_deref())
    }
}
