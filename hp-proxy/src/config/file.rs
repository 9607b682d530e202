//! The files as they were written: read by their shape, with the place of every value. Nothing here knows what a value is for.

use super::disk;
use super::paths;
use super::problem::{Place, Report, did_you_mean};
use super::shape::{self, Kind, Shape};
use super::units;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// All files of a configuration: the one that was named, and those that it includes.
#[derive(Debug, Default)]
pub struct File {
    /// The tables, one for each file.
    pub(super) roots: Vec<Section>,
}

/// A table of a known shape.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) shape: &'static Shape,
    pub(super) place: Place,
    entries: Vec<(&'static str, Entry)>,
}

/// A value with its place.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// A value of the kind that its key asks for.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Flag(bool),
    Number(u64),
    Time(Duration),
    List(Vec<Entry>),
    Section(Section),
    Map(Vec<(String, Entry)>),
}

/// Where texts get `${NAME}` from.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Reads a file, and those that it includes.
pub fn read(path: &Path, environment: Environment<'_>, report: &mut Report) -> File {
    let mut file = File::default();
    Reader::new(environment, report).read_file(path, 0, &mut file);
    file
}

/// Reads a text as one file of this name.
pub fn read_text(
    name: &str,
    text: &str,
    environment: Environment<'_>,
    report: &mut Report,
) -> File {
    let mut file = File::default();
    Reader::new(environment, report).read_text(name, text, 0, &mut file);
    file
}

impl Section {
    /// The value of a key of its shape, if it is there and can be used.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        debug_assert!(
            self.shape.keys.iter().any(|known| known.name == key),
            "{} has no {key}",
            self.shape.name
        );
        let mut entries = self.entries.iter();
        entries
            .find(|(name, _)| *name == key)
            .map(|(_, entry)| entry)
    }

    /// The place of a key, or of the section where the key is missing.
    pub(super) fn place_of(&self, key: &str) -> &Place {
        self.entry(key).map_or(&self.place, |entry| &entry.place)
    }

    pub(super) fn text(&self, key: &str) -> Option<(&str, &Place)> {
        self.entry(key)?.text()
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        match self.entry(key)?.value {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    pub(super) fn count(&self, key: &str) -> Option<u32> {
        u32::try_from(self.number(key)?).ok() // Its shape has a bound.
    }

    /// A share, of a million.
    pub(super) fn millionths(&self, key: &str) -> Option<u32> {
        self.count(key)
    }

    pub(super) fn time(&self, key: &str) -> Option<Duration> {
        match self.entry(key)?.value {
            Value::Time(time) => Some(time),
            _ => None,
        }
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        matches!(
            self.entry(key),
            Some(Entry {
                value: Value::Flag(true),
                ..
            })
        )
    }

    pub(super) fn section(&self, key: &str) -> Option<&Self> {
        self.entry(key)?.section()
    }

    /// The members of a list; a value that may stand for a list of one is one.
    pub(super) fn list(&self, key: &str) -> &[Entry] {
        match self.entry(key) {
            Some(Entry {
                value: Value::List(list),
                ..
            }) => list,
            Some(entry) => std::slice::from_ref(entry),
            None => &[],
        }
    }

    /// The texts of a list.
    pub(super) fn texts(&self, key: &str) -> impl Iterator<Item = (&str, &Place)> {
        self.list(key).iter().filter_map(Entry::text)
    }

    pub(super) fn map(&self, key: &str) -> &[(String, Entry)] {
        match self.entry(key) {
            Some(Entry {
                value: Value::Map(map),
                ..
            }) => map,
            _ => &[],
        }
    }
}

impl Entry {
    pub(super) fn text(&self) -> Option<(&str, &Place)> {
        match &self.value {
            Value::Text(text) => Some((text, &self.place)),
            _ => None,
        }
    }

    pub(super) fn section(&self) -> Option<&Section> {
        match &self.value {
            Value::Section(section) => Some(section),
            _ => None,
        }
    }
}

struct Reader<'r> {
    environment: Environment<'r>,
    report: &'r mut Report,
    /// Files that were read, by their true name.
    seen: BTreeSet<PathBuf>,
    bytes: u64,
}

impl<'r> Reader<'r> {
    /// One that has read nothing yet.
    fn new(environment: Environment<'r>, report: &'r mut Report) -> Self {
        Self {
            environment,
            report,
            seen: BTreeSet::new(),
            bytes: 0,
        }
    }

    fn read_file(&mut self, path: &Path, depth: u32, file: &mut File) {
        let name = path.display().to_string();
        let true_name = fs::canonicalize(path).unwrap_or_else(|_missing| path.to_owned());
        if !self.seen.insert(true_name) {
            let reason = "the file is read twice; include it once";
            return self.report.unreadable(&name, reason);
        }
        match self.load(path) {
            Ok(text) => self.read_text(&name, &text, depth, file),
            Err(reason) => self.report.unreadable(&name, reason),
        }
    }

    /// The text of a file, within the bound of all together.
    fn load(&mut self, path: &Path) -> Result<String, String> {
        self.report.add_file(path);
        self.bytes = self.bytes.saturating_add(disk::bytes_of(path)?);
        if self.bytes > BYTES_MAX {
            return Err(format!(
                "all files together are larger than {} MiB; was another file meant?",
                BYTES_MAX >> 20
            ));
        }
        disk::text_of(path)
    }

    fn read_text(&mut self, name: &str, text: &str, depth: u32, file: &mut File) {
        let source = self.report.add_source(name, text);
        let (table, errors) = DeTable::parse_recoverable(text);
        let is_toml = errors.is_empty();
        for error in errors {
            let place = Place {
                source,
                offset: error.span().map_or(0, |span| span.start),
                ..Place::default()
            };
            self.report
                .error(&place, error.message().replace('\n', ", "));
        }
        if !is_toml {
            return; // What was recovered is not what was meant.
        }
        let place = Place {
            source,
            ..Place::default()
        };
        let root = self.section(&shape::ROOT, table.get_ref(), place);
        let includes: Vec<(String, Place)> = root
            .texts("include")
            .map(|(text, place)| (text.to_owned(), place.clone()))
            .collect();
        file.roots.push(root);
        for (pattern, place) in includes {
            self.include(&pattern, &place, depth, file);
        }
    }

    fn include(&mut self, pattern: &str, place: &Place, depth: u32, file: &mut File) {
        if depth >= DEPTH_MAX {
            let reason = format!("files include each other more than {DEPTH_MAX} deep");
            return self.report.error(place, reason);
        }
        let whole = self.report.folder_of(place.source).join(pattern);
        let last = whole
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if !last.contains('*') {
            if let Err(reason) = paths::file(pattern.into()) {
                return self.report.error(place, reason);
            }
            if !whole.exists() {
                let reason = format!("there is no file {}; check its path", whole.display());
                return self.report.error(place, reason);
            }
            if whole.is_dir() {
                let reason = format!(
                    "{} is a directory; write the path of a file, or {pattern}/*.toml",
                    whole.display()
                );
                return self.report.error(place, reason);
            }
            return self.read_file(&whole, depth + 1, file);
        }
        let folder = whole.parent().unwrap_or_else(|| Path::new("."));
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        let listed = match fs::read_dir(folder) {
            Ok(listed) => listed,
            Err(error) => {
                let reason = format!("the folder {} cannot be read: {error}", folder.display());
                return self.report.error(place, reason);
            }
        };
        let names = listed.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let fits = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            fits_pattern(&name, &last) && path.is_file()
        };
        let found: BTreeSet<PathBuf> = names.filter(fits).collect();
        for path in found {
            self.read_file(&path, depth + 1, file);
        }
    }

    fn section(&mut self, shape: &'static Shape, table: &DeTable<'_>, place: Place) -> Section {
        let mut entries = Vec::new();
        for (name, value) in table {
            let word = name.get_ref().as_ref();
            let path = joined(&place.path, word);
            let Some(key) = shape.keys.iter().find(|key| key.name == word) else {
                let place = Place {
                    source: place.source,
                    offset: name.span().start,
                    path,
                    is_from_file: false,
                };
                let near = did_you_mean(word, shape.keys.iter().map(|key| key.name));
                self.report.error(&place, format!("unknown key{near}"));
                continue;
            };
            if let Some(entry) = self.entry(&key.kind, value, place.source, path) {
                entries.push((key.name, entry));
            }
        }
        Section {
            shape,
            place,
            entries,
        }
    }

    fn entry(
        &mut self,
        kind: &'static Kind,
        value: &Spanned<DeValue<'_>>,
        source: usize,
        path: String,
    ) -> Option<Entry> {
        let place = Place {
            source,
            offset: value.span().start,
            path,
            is_from_file: value
                .get_ref()
                .as_str()
                .is_some_and(|text| text.starts_with(FROM_FILE)),
        };
        let read = self.value(kind, value.get_ref(), &place);
        match read {
            Ok(value) => value.map(|value| Entry { place, value }),
            Err(reason) => {
                self.report.error(&place, reason);
                None
            }
        }
    }

    /// `None` where what is wrong inside has been told.
    fn value(
        &mut self,
        kind: &'static Kind,
        value: &DeValue<'_>,
        place: &Place,
    ) -> Result<Option<Value>, String> {
        let found = match (kind, value) {
            (Kind::OneOf(kinds), value) => {
                let fitting = kinds.iter().find(|kind| takes_type(kind, value));
                let kind = fitting.ok_or_else(|| expected(kind, value))?;
                return self.value(kind, value, place);
            }
            (Kind::Text, DeValue::String(text)) => Value::Text(self.substitute(text, place)?),
            (Kind::Choice(words), DeValue::String(text)) => {
                let text = self.substitute(text, place)?;
                if !words.contains(&text.as_str()) {
                    let near = did_you_mean(&text, words.iter().copied());
                    return Err(format!("{text:?} is none of {}{near}", words.join(", ")));
                }
                Value::Text(text)
            }
            (Kind::Flag, DeValue::Boolean(flag)) => Value::Flag(*flag),
            (Kind::Count(min, max), DeValue::Integer(number)) => {
                let number = whole_number(number).filter(|number| (min..=max).contains(&number));
                Value::Number(number.ok_or_else(|| {
                    format!(
                        "{} is out of range; write {min} to {max}",
                        value_text(value)
                    )
                })?)
            }
            (Kind::Time | Kind::TimeOrZero | Kind::ShortTimeOrZero | Kind::Size, value) => {
                return self.measure(kind, value, place).map(Some);
            }
            (Kind::Percent, DeValue::Integer(number)) => percent(&number.to_string())?,
            (Kind::Percent, DeValue::Float(number)) => percent(number.as_str())?,
            (Kind::List(kind), DeValue::Array(list)) => {
                let members = list.iter().enumerate().filter_map(|(index, member)| {
                    let path = format!("{}[{index}]", place.path);
                    self.entry(kind, member, place.source, path)
                });
                Value::List(members.collect())
            }
            (Kind::Section(shape), DeValue::Table(table)) => {
                Value::Section(self.section(shape, table, place.clone()))
            }
            (Kind::Map(kind), DeValue::Table(table)) => {
                let members = table.iter().filter_map(|(name, member)| {
                    let path = joined(&place.path, name.get_ref());
                    let entry = self.entry(kind, member, place.source, path)?;
                    Some((name.get_ref().to_string(), entry))
                });
                Value::Map(members.collect())
            }
            (kind, value) => return Err(expected(kind, value)),
        };
        Ok(Some(found))
    }

    /// A time or a size.
    fn measure(
        &mut self,
        kind: &Kind,
        value: &DeValue<'_>,
        place: &Place,
    ) -> Result<Value, String> {
        let text = match (kind, value) {
            (_, DeValue::String(text)) => self.substitute(text, place)?,
            (Kind::TimeOrZero | Kind::ShortTimeOrZero, DeValue::Integer(number))
                if whole_number(number) == Some(0) =>
            {
                return Ok(Value::Time(Duration::ZERO));
            }
            (Kind::ShortTimeOrZero, DeValue::Integer(number)) if is_positive(number) => {
                return Err(format!("{number} has no unit; write \"{number}us\""));
            }
            (Kind::Time | Kind::TimeOrZero, DeValue::Integer(number)) if is_positive(number) => {
                let remedy = format!("write \"{number}s\" or \"{number}ms\"");
                return Err(format!("{number} has no unit; {remedy}"));
            }
            (
                Kind::ShortTimeOrZero | Kind::Size | Kind::Time | Kind::TimeOrZero,
                DeValue::Integer(number),
            ) => number.to_string(),
            (kind, value) => return Err(expected(kind, value)),
        };
        let read = match kind {
            Kind::Size => units::bytes(&text).map(Value::Number),
            Kind::TimeOrZero => units::duration_or_zero(&text).map(Value::Time),
            Kind::ShortTimeOrZero => units::short_or_zero(&text).map(Value::Time),
            _ => units::duration(&text).map(Value::Time),
        };
        read.map_err(|error| error.to_string())
    }

    /// A text with `${NAME}` replaced, or what is in the file that `file:NAME` names.
    fn substitute(&mut self, text: &str, place: &Place) -> Result<String, String> {
        let mut whole = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(before) = before.strip_suffix('$') {
                whole.push_str(before);
                whole.push_str("${"); // $${ is meant as it stands.
                rest = after;
                continue;
            }
            let (name, after) = after
                .split_once('}')
                .ok_or("${ without }; write $${ where it is meant as it stands")?;
            let value =
                (self.environment)(name).ok_or_else(|| format!("the environment has no {name:?}; set it, or write $${{ where it is meant as it stands"))?;
            whole.push_str(before);
            whole.push_str(&value);
            rest = after;
        }
        whole.push_str(rest);
        let Some(name) = text
            .strip_prefix(FROM_FILE)
            .and_then(|_raw| whole.strip_prefix(FROM_FILE))
        else {
            return Ok(whole);
        };
        let path = self
            .report
            .folder_of(place.source)
            .join(paths::file(name.into())?);
        let loaded = self
            .load(&path)
            .map_err(|reason| format!("{}: {reason}", path.display()))?;
        let text = loaded.strip_suffix('\n').unwrap_or(&loaded);
        Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
    }
}

fn joined(path: &str, word: &str) -> String {
    let is_bare = !word.is_empty()
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    let word = if is_bare {
        word.to_owned()
    } else {
        format!("{word:?}")
    };
    if path.is_empty() {
        word
    } else {
        format!("{path}.{word}")
    }
}

fn whole_number(number: &toml::de::DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(number.as_str().trim_start_matches('+'), number.radix()).ok()
}

fn is_positive(number: &toml::de::DeInteger<'_>) -> bool {
    whole_number(number).is_some_and(|number| number > 0)
}

fn percent(text: &str) -> Result<Value, String> {
    let millionths = units::percent(text).map_err(|error| error.to_string())?;
    Ok(Value::Number(u64::from(millionths)))
}

fn takes_type(kind: &Kind, value: &DeValue<'_>) -> bool {
    match kind {
        Kind::Text | Kind::Choice(_) => matches!(value, DeValue::String(_)),
        Kind::Flag => matches!(value, DeValue::Boolean(_)),
        Kind::Count(..) => matches!(value, DeValue::Integer(_)),
        Kind::Percent => matches!(value, DeValue::Integer(_) | DeValue::Float(_)),
        Kind::Time | Kind::TimeOrZero | Kind::ShortTimeOrZero | Kind::Size => {
            matches!(value, DeValue::String(_) | DeValue::Integer(_))
        }
        Kind::List(_) => matches!(value, DeValue::Array(_)),
        Kind::Section(_) | Kind::Map(_) => matches!(value, DeValue::Table(_)),
        Kind::OneOf(kinds) => kinds.iter().any(|kind| takes_type(kind, value)),
    }
}

/// What a kind is called in a message.
fn called(kind: &Kind) -> String {
    match kind {
        Kind::Text => String::from("a text in quotes"),
        Kind::Choice(words) => format!("one of {}", words.join(", ")),
        Kind::Flag => String::from("true or false"),
        Kind::Count(min, max) => format!("a whole number from {min} to {max}"),
        Kind::Time | Kind::TimeOrZero => String::from("a time such as \"5s\""),
        Kind::ShortTimeOrZero => String::from("a short time such as \"50us\""),
        Kind::Size => String::from("a size such as \"32KiB\""),
        Kind::Percent => String::from("a number of percent such as 0.1"),
        Kind::List(Kind::Section(shape)) => format!("a list of tables; write [[{}]]", shape.name),
        Kind::List(kind) => format!("a list, each {}", called(kind)),
        Kind::Section(_) | Kind::Map(_) => String::from("a table"),
        Kind::OneOf(kinds) => {
            let each: Vec<String> = kinds.iter().map(called).collect();
            each.join(" or ")
        }
    }
}

fn expected(kind: &Kind, value: &DeValue<'_>) -> String {
    let found = match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    format!("found {found}, expected {}", called(kind))
}

fn value_text(value: &DeValue<'_>) -> String {
    value
        .as_integer()
        .map_or_else(String::new, ToString::to_string)
}

/// Whether a name is what a pattern says, where one `*` stands for any letters. Hidden files are never meant.
fn fits_pattern(name: &str, pattern: &str) -> bool {
    let (before, after) = pattern.split_once('*').unwrap_or((pattern, ""));
    let rest = name.strip_prefix(before);
    !name.starts_with('.') && rest.is_some_and(|rest| rest.ends_with(after))
}

/// A text that begins so is that of the file it names.
const FROM_FILE: &str = "file:";
/// Of all files together.
const BYTES_MAX: u64 = 16 << 20;
const DEPTH_MAX: u32 = 8;
