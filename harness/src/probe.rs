//! Workloads that are more than one run of hp-bench. Each kind is a module with one entry: it leads one visit from start to end and
//! gives what a record keeps, the special numbers under `extra`. What it waits for is bounded.
//!
//! ```text
//! correct   is every answer what it should be? No speed counts where it is not
//! errors    what a client sees when the backend fails, or refuses
//! idle      memory by the number of connections that do nothing
//! crowd     the same with more connections than one process may have, before several processes
//! beside    a load beside slow clients, or beside slow answers of the backend
//! reload    a load at a rate, while the configuration is read anew
//! rate      a rate that is a part of what this session measured
//! tool      another program's load generator
//! cross     the same load by hp-bench and by another program
//! ```
//!
//! Must not know: rounds, cells, files.

pub mod beside;
pub mod client;
pub mod correct;
pub mod cross;
pub mod crowd;
pub mod errors;
pub mod idle;
pub mod memory;
pub mod rate;
pub mod reload;
pub mod tool;

use std::time::Duration;

use serde_json::Value;

use crate::load::{self, Visit};
use crate::raw::Record;
use crate::workload::Load;

/// A kind of workload that this room knows.
#[derive(Clone, Copy)]
pub struct Kind {
    /// The word of a plan.
    pub word: &'static str,
    /// Makes one visit.
    pub visit: Visit,
    /// Finds what is wrong with a row's `extra`, and says how long a visit should take; its own bound is not far above.
    pub length: fn(&Load) -> Result<Duration, String>,
}

/// The kind of a plan's word; none where it is another room's.
pub fn kind(word: &str) -> Option<Kind> {
    KINDS.iter().find(|kind| kind.word == word).copied()
}

/// The visit of a kind, as plans name it: one run of hp-bench, or one of [`KINDS`].
pub fn visit(word: &str) -> Option<Visit> {
    match word {
        "load" => Some(load::visit),
        other => kind(other).map(|kind| kind.visit),
    }
}

/// The words that [`visit`] knows, for messages.
pub fn kinds() -> String {
    format!("load, {}", KINDS.map(|kind| kind.word).join(", "))
}

/// The kinds.
pub const KINDS: [Kind; 8] = [
    Kind {
        word: "beside",
        visit: beside::visit,
        length: beside::length,
    },
    Kind {
        word: "correct",
        visit: correct::visit,
        length: |_load| Ok(Duration::from_secs(1)),
    },
    Kind {
        word: cross::NAME,
        visit: cross::visit,
        length: cross::length,
    },
    Kind {
        word: "crowd",
        visit: crowd::visit,
        length: crowd::length,
    },
    Kind {
        word: "errors",
        visit: errors::visit,
        length: errors::length,
    },
    Kind {
        word: "idle",
        visit: idle::visit,
        length: idle::length,
    },
    Kind {
        word: "reload",
        visit: reload::visit,
        length: reload::length,
    },
    Kind {
        word: "tool",
        visit: tool::visit,
        length: tool::length,
    },
];

/// Adds a special number to a record.
fn note(record: &mut Record, name: &str, value: impl Into<Value>) {
    record.extra.insert(name.to_owned(), value.into());
}

/// What a row's `extra` says; where it is wrong, that voids the record.
fn planned<Plan>(read: Result<Plan, String>, record: &mut Record) -> Option<Plan> {
    read.map_err(|cause| record.void.push(cause)).ok()
}

/// A number of a row's `extra`; `usual` where it is absent.
///
/// # Errors
/// What to write instead.
fn number(load: &Load, key: &str, usual: f64, (least, most): (f64, f64)) -> Result<f64, String> {
    let Some(value) = load.extra.get(key) else {
        return Ok(usual);
    };
    value
        .as_f64()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("extra.{key} = {value}: write a number from {least} to {most}"))
}

/// A list of words of a row's `extra`; empty where it is absent.
///
/// # Errors
/// What to write instead.
fn words(load: &Load, key: &str) -> Result<Vec<String>, String> {
    let Some(value) = load.extra.get(key) else {
        return Ok(Vec::new());
    };
    let words = value.as_array().into_iter().flatten();
    let words: Option<Vec<String>> = words.map(|word| Some(word.as_str()?.to_owned())).collect();
    words
        .filter(|_words| value.is_array())
        .ok_or_else(|| format!("extra.{key} = {value}: write a list of words"))
}

/// How long any single answer or connection is waited for.
pub const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A row with this `extra`, all else usual.
    pub(crate) fn load(text: &str) -> Load {
        toml::from_str(&format!("connections = 1\nextra = {{ {text} }}")).unwrap()
    }

    #[test]
    fn every_kind_is_found_by_its_word() {
        for known in KINDS {
            assert_eq!(kind(known.word).unwrap().word, known.word);
        }
        assert!(kind("load").is_none());
    }

    #[test]
    fn numbers_and_words_outside_of_their_range_are_refused() {
        let load = load("quiet_s = 5, late = -1, list = [\"a\", \"b\"], mixed = [\"a\", 1]");
        assert_eq!(number(&load, "quiet_s", 1.0, (0.0, 9.0)), Ok(5.0));
        assert_eq!(number(&load, "absent", 1.0, (0.0, 9.0)), Ok(1.0));
        assert!(
            number(&load, "late", 1.0, (0.0, 9.0))
                .unwrap_err()
                .contains("from 0 to 9")
        );
        assert!(number(&load, "list", 1.0, (0.0, 9.0)).is_err());
        assert_eq!(words(&load, "list").unwrap(), ["a", "b"]);
        assert!(words(&load, "absent").unwrap().is_empty());
        assert!(words(&load, "mixed").is_err() && words(&load, "late").is_err());
    }
}
