//! How vectors are written: one case as one file, and the escapes that tables and files share. See README.md beside this.

use std::fs;
use std::path::Path;

/// One case, as its file has it.
#[derive(Debug)]
pub(crate) struct Vector {
    /// The file's name without its ending.
    pub(crate) name: String,
    /// `# key: value` before the first part.
    notes: Vec<(String, String)>,
    /// What stands after each `--- title`, with its escapes read.
    pub(crate) parts: Vec<(String, Vec<u8>)>,
}

impl Vector {
    /// Reads every `.http` file of a directory, in the order of names.
    pub(crate) fn all(dir: &Path) -> Vec<Self> {
        let entries =
            fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        let mut paths: Vec<_> = entries
            .map(|entry| entry.expect("a directory is listed to its end").path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "http"))
            .collect();
        paths.sort();
        let vectors: Vec<Self> = paths.iter().map(|path| Self::read(path)).collect();
        assert!(!vectors.is_empty(), "{}: no vectors", dir.display());
        vectors
    }

    fn read(path: &Path) -> Self {
        let text =
            fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let stem = path.file_stem().unwrap_or_default();
        let mut vector = Self {
            name: stem.to_string_lossy().into_owned(),
            notes: Vec::new(),
            parts: Vec::new(),
        };
        let mut written: Vec<(String, String)> = Vec::new();
        for line in text.lines() {
            if let Some(title) = line.strip_prefix("--- ") {
                written.push((title.to_owned(), String::new()));
            } else if let Some((_title, body)) = written.last_mut() {
                body.push_str(line);
            } else {
                let note = line
                    .strip_prefix("# ")
                    .and_then(|note| note.split_once(": "));
                let (key, value) =
                    note.unwrap_or_else(|| panic!("{}: {line:?} is no note", path.display()));
                vector.notes.push((key.to_owned(), value.to_owned()));
            }
        }
        let parts = written.into_iter();
        vector.parts = parts
            .map(|(title, body)| (title, unescape(&body)))
            .collect();
        for key in ["fact", "section"] {
            let _must_be_there = vector.note(key);
        }
        vector
    }

    /// The value of a note that must be there.
    pub(crate) fn note(&self, key: &str) -> &str {
        let note = self.notes.iter().find(|(name, _)| name == key);
        match note {
            Some((_, value)) => value,
            None => panic!("{}.http has no line `# {key}: `", self.name),
        }
    }
}

/// Reads `\r \n \t \\ \xHH` and `{text*COUNT}`.
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'\\' => {
                let (escaped, len) = match tail {
                    [b'r', ..] => (b'\r', 1),
                    [b'n', ..] => (b'\n', 1),
                    [b't', ..] => (b'\t', 1),
                    [b'\\', ..] => (b'\\', 1),
                    [b'x', high, low, ..] => {
                        let digits = [*high, *low];
                        let digits = str::from_utf8(&digits).expect("two digits");
                        (u8::from_str_radix(digits, 16).expect("hexadecimal"), 3)
                    }
                    _ => panic!("{text}: unknown escape"),
                };
                out.push(escaped);
                rest = &tail[len..];
            }
            b'{' if repetition(tail).is_some() => {
                let (unit, count, len) = repetition(tail).expect("just seen");
                let unit = unescape(unit);
                out.extend(unit.iter().copied().cycle().take(unit.len() * count));
                rest = &tail[len..];
            }
            byte => out.push(*byte),
        }
    }
    out
}

/// Reads `text*COUNT}` and its length.
fn repetition(bytes: &[u8]) -> Option<(&str, usize, usize)> {
    let close = bytes.iter().position(|&byte| byte == b'}')?;
    let (unit, count) = str::from_utf8(&bytes[..close]).ok()?.rsplit_once('*')?;
    Some((unit, count.parse().ok()?, close + 1))
}
