//! What is wrong with a configuration, and where.

use super::watch::Seen;
use crate::upstream::discovery::Target;
use std::fmt;
use std::path::{Path, PathBuf};

/// A place in one of the files that were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file, by the order of reading.
    pub source: usize,
    /// Byte in its text.
    pub offset: usize,
    /// The way to the key: `upstream.api.connect_timeout`, `route[2].path`.
    pub path: String,
    /// The text came from a file of its own: it may be a secret, and is neither shown nor looked into.
    pub is_from_file: bool,
}

/// A line for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file as the user named it.
    pub file: String,
    /// From 1; 0 where the file itself cannot be read.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The way to the key; empty for the file as a whole.
    pub path: String,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            path,
            reason,
        } = self;
        match (line, path.as_str()) {
            (0, _) => write!(f, "{file}: {reason}"),
            (_, "") => write!(f, "{file}:{line}:{column}: {reason}"),
            (_, _) => write!(f, "{file}:{line}:{column}: {path}: {reason}"),
        }
    }
}

/// The files that were read, and what was found in them.
#[derive(Debug, Default)]
pub struct Report {
    sources: Vec<Source>,
    files: Vec<Seen>,
    errors: Vec<(usize, usize, Problem)>,
    warnings: Vec<(usize, usize, Problem)>,
    names: Vec<(Place, Target)>,
}

#[derive(Debug)]
struct Source {
    name: String,
    text: String,
    /// Where lines begin, but for the first.
    lines: Vec<usize>,
}

impl Report {
    /// Takes note of a file that was read; its number.
    pub(super) fn add_source(&mut self, name: &str, text: &str) -> usize {
        self.sources.push(Source {
            name: name.to_owned(),
            text: text.to_owned(),
            lines: text.match_indices('\n').map(|(end, _)| end + 1).collect(),
        });
        self.sources.len() - 1
    }

    /// Takes note of a file that the plan depends on, before it is read.
    pub(super) fn add_file(&mut self, path: &Path) {
        self.files.push(Seen::at(path));
    }

    /// The files that the plan depends on.
    #[must_use]
    pub fn files(&self) -> &[Seen] {
        &self.files
    }

    /// The file cannot be used; `reason` says what to do.
    pub(super) fn error(&mut self, place: &Place, reason: impl Into<String>) {
        let problem = self.problem(place, reason.into());
        self.errors.push((place.source, place.offset, problem));
    }

    /// A whole file cannot be read.
    pub(super) fn unreadable(&mut self, name: &str, reason: impl Into<String>) {
        let problem = Problem {
            file: name.to_owned(),
            line: 0,
            column: 0,
            path: String::new(),
            reason: reason.into(),
        };
        self.errors.push((self.sources.len(), 0, problem));
    }

    /// The file can be used, but what it says is risky or has no effect.
    pub(super) fn warning(&mut self, place: &Place, reason: impl Into<String>) {
        let problem = self.problem(place, reason.into());
        self.warnings.push((place.source, place.offset, problem));
    }

    /// Where a place is, for a message about another one: `hp.toml:12`.
    pub(super) fn line_of(&self, place: &Place) -> String {
        let Problem { file, line, .. } = self.problem(place, String::new());
        format!("{file}:{line}")
    }

    /// The folder that names in a file are relative to.
    pub(super) fn folder_of(&self, source: usize) -> PathBuf {
        let name = self.sources.get(source).map_or("", |source| &source.name);
        Path::new(name)
            .parent()
            .map_or_else(Default::default, Path::to_owned)
    }

    /// Takes note of a name that is to be looked up.
    pub(super) fn note_name(&mut self, place: &Place, target: Target) {
        self.names.push((place.clone(), target));
    }

    /// Tells something of a name at every place that has it.
    pub fn warn_of_name(&mut self, target: &Target, reason: &str) {
        for place in self.places_of_name(target) {
            self.warning(&place, format!("{target}: {reason}"));
        }
    }

    /// The same as something that is wrong.
    pub fn refuse_name(&mut self, target: &Target, reason: &str) {
        for place in self.places_of_name(target) {
            self.error(&place, format!("{target}: {reason}"));
        }
    }

    fn places_of_name(&self, target: &Target) -> Vec<Place> {
        let of_target = self.names.iter().filter(|(_, other)| other == target);
        of_target.map(|(place, _)| place.clone()).collect()
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }

    /// What is wrong, in the order of the text; nothing: the file can be used.
    #[must_use]
    pub fn errors(&self) -> Vec<&Problem> {
        in_order(&self.errors)
    }

    /// What is risky or without effect, in the order of the text.
    #[must_use]
    pub fn warnings(&self) -> Vec<&Problem> {
        in_order(&self.warnings)
    }

    fn problem(&self, place: &Place, reason: String) -> Problem {
        let source = self.sources.get(place.source);
        let (line, column) = source.map_or((1, 1), |source| source.position(place.offset));
        Problem {
            file: source.map_or_else(String::new, |source| source.name.clone()),
            line,
            column,
            path: place.path.clone(),
            reason,
        }
    }
}

impl Source {
    /// The line of a byte, and the place in it in characters, both from 1. A file may have as many problems as lines.
    fn position(&self, offset: usize) -> (usize, usize) {
        let offset = offset.min(self.text.len());
        let ended = self.lines.partition_point(|start| *start <= offset);
        let line = ended.checked_sub(1).and_then(|last| self.lines.get(last));
        let before = self.text.get(line.copied().unwrap_or(0)..offset);
        (ended + 1, before.unwrap_or_default().chars().count() + 1)
    }
}

fn in_order(found: &[(usize, usize, Problem)]) -> Vec<&Problem> {
    let mut sorted: Vec<_> = found.iter().collect();
    sorted.sort_by_key(|(source, offset, _)| (*source, *offset)); // Stable: then as found.
    let mut problems: Vec<&Problem> = sorted.into_iter().map(|(_, _, problem)| problem).collect();
    problems.dedup();
    problems
}

/// The known word that was probably meant.
pub(super) fn did_you_mean<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> String {
    let near = known.map(|known| (strsim::damerau_levenshtein(word, known), known));
    let (distance, nearest) = near.min().unwrap_or((usize::MAX, ""));
    if distance <= nearest.len().div_ceil(3) {
        format!("; did you mean {nearest}?")
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_in_lines_and_characters() {
        let mut report = Report::default();
        let source = report.add_source("a.toml", "x = 1\nü = 2\n");
        let place = Place {
            source,
            offset: "x = 1\nü = ".len(),
            path: String::from("ü"),
            is_from_file: false,
        };
        report.error(&place, "is wrong");
        report.unreadable("b.toml", "is not there");
        let told: Vec<String> = report.errors().iter().map(ToString::to_string).collect();
        assert_eq!(told, ["a.toml:2:5: ü: is wrong", "b.toml: is not there"]);
    }

    #[test]
    fn near_words_are_proposed_and_far_ones_are_not() {
        let known = || ["upstream", "path", "path_prefix"].into_iter();
        assert_eq!(did_you_mean("upsteam", known()), "; did you mean upstream?");
        assert_eq!(did_you_mean("pth", known()), "; did you mean path?");
        assert_eq!(
            did_you_mean("pathprefix", known()),
            "; did you mean path_prefix?"
        );
        assert_eq!(did_you_mean("colour", known()), "");
        assert_eq!(did_you_mean("x", std::iter::empty()), "");
    }
}
