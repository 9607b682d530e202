//! The plan's requests, from flags and the files that they name.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use hp_core::base::units::MIB;

use super::{PlanError, flag};
use crate::cli::Cli;
use crate::request::{BodyFraming, CHUNK_BYTES, Parts, Persistence, Request, split_header};
use crate::traffic::{self, Choice, Defaults, Traffic, TrafficError};
use crate::units::size;

/// Builds the requests from flags and files.
pub(super) fn read_traffic(cli: &Cli) -> Result<Traffic, PlanError> {
    let load = &cli.flags.load;
    let only = |request| Traffic {
        requests: vec![request],
        choice: Choice::Only,
    };
    if let Some(file) = &load.raw {
        let bytes = read_file("--raw", file)?;
        if bytes.is_empty() {
            return Err(flag("--raw", "the file is empty; put a request into it"));
        }
        return Ok(only(Request::raw(bytes)));
    }
    let body = cli.flags.body.as_deref().map(read_body).transpose()?;
    let headers: Result<Vec<_>, _> = cli
        .flags
        .headers
        .iter()
        .map(|header| split_header(header))
        .collect();
    let parts = Parts {
        method: cli.flags.method.as_deref(),
        path: None,
        host: load.host.as_deref(),
        headers: headers.map_err(PlanError::Request)?,
        body: body.as_deref(),
        framing: if load.chunked {
            BodyFraming::Chunked(load.chunk_size.unwrap_or(CHUNK_BYTES))
        } else {
            BodyFraming::Length
        },
        persistence: if load.close {
            Persistence::Close
        } else {
            Persistence::Keep
        },
    };
    let defaults = Defaults {
        target: &cli.target,
        parts: &parts,
    };
    let (file, read) = match (&load.mix, &load.replay) {
        (Some(file), _) => {
            let text = read_text("--mix", file)?;
            (file, traffic::mix(&text, defaults))
        }
        (None, Some(file)) => {
            let speed = load.speed.unwrap_or(1.0);
            if !(0.001..=1e6).contains(&speed) {
                return Err(flag("--speed", "out of range; give 0.001 to 1000000"));
            }
            let text = read_text("--replay", file)?;
            (file, traffic::recorded(&text, speed, defaults))
        }
        (None, None) => {
            let request = Request::build(&cli.target, &parts).map_err(PlanError::Request)?;
            return Ok(only(request));
        }
    };
    read.map_err(|(line, cause)| {
        PlanError::Traffic(TrafficError {
            file: file.clone(),
            line,
            cause,
        })
    })
}

fn read_text(flag_name: &'static str, file: &Path) -> Result<String, PlanError> {
    String::from_utf8(read_file(flag_name, file)?).map_err(|error| {
        let bytes = error.as_bytes();
        let valid = error.utf8_error().valid_up_to();
        PlanError::Traffic(TrafficError {
            file: file.to_owned(),
            line: 1 + bytes
                .iter()
                .take(valid)
                .filter(|byte| **byte == b'\n')
                .count(),
            cause: "not UTF-8; convert the file".to_owned(),
        })
    })
}

fn read_file(flag: &'static str, file: &Path) -> Result<Vec<u8>, PlanError> {
    let failed = |cause: String| PlanError::File {
        flag,
        file: file.to_owned(),
        cause,
    };
    let opened = File::open(file).map_err(|error| failed(error.to_string()))?;
    let mut bytes = Vec::new();
    let limit = FILE_BYTES_MAX + 1;
    let read = opened.take(limit).read_to_end(&mut bytes);
    match read {
        Ok(len) if len as u64 >= limit => Err(failed("longer than 1 GiB".to_owned())),
        Ok(_len) => Ok(bytes),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// A text, a file's content, or a number of bytes.
fn read_body(word: &OsStr) -> Result<Vec<u8>, PlanError> {
    let bytes = word.as_encoded_bytes();
    if let Some(name) = bytes.strip_prefix(b"@") {
        return read_file("-b", &PathBuf::from(os_string(name)));
    }
    let ends_in_unit = bytes.last().is_some_and(u8::is_ascii_alphabetic);
    let made = word.to_str().and_then(size).filter(|_| ends_in_unit);
    match made.map(usize::try_from) {
        Some(Ok(len)) if len <= MADE_BODY_BYTES_MAX => Ok(vec![b'x'; len]),
        Some(_) => Err(flag("-b", "a body is at most 1G long; give fewer bytes")),
        None => Ok(bytes.to_vec()),
    }
}

fn os_string(bytes: &[u8]) -> OsString {
    use std::os::unix::ffi::OsStringExt;
    OsString::from_vec(bytes.to_vec())
}

const FILE_BYTES_MAX: u64 = 1 << 30;
const MADE_BODY_BYTES_MAX: usize = 1024 * MIB;
