//! Subjects: what can be measured, as data. A catalogue of TOML files says how each is started; code knows none of
//! them by name.
//!
//! ```toml
//! [subject.nginx]
//! role = "proxy"
//! program = "nginx"                       # from PATH; `own = true` takes it from --bin-dir
//! args = ["-p", "{dir}", "-c", "{dir}/nginx.conf"]
//! files = { "nginx.conf" = "nginx.conf" } # name in {dir} = template, beside the file that lists it
//! ready = "port"
//! version = ["-v"]
//! ```
//!
//! In arguments, environment and templates `{listen}` `{host}` `{port}` say where it listens, `{backend}`
//! `{backend_host}` `{backend_port}` where its first backend does, `{backends}` all of them with commas; `{workers}`,
//! `{engine}`, `{body}`, `{connections_max}` (what the limit of descriptors leaves at two for each), `{turn}` (0, and 1 after each
//! second reload) and `{dir}`, a folder of its own, are the rest. `{socket}` is the name of a Unix socket in that folder, and
//! `{backend_socket}` the first backend's. A doubled brace is a brace.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A subject's name in a plan: `BASE[@stock][@wN][/aa]`.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name {
    /// The name in the catalogue: small letters, digits and hyphens.
    pub base: String,
    /// Whether it runs with its stock settings.
    pub stock: bool,
    /// Its workers, at least 1.
    pub workers: u32,
    /// Whether it is the A/A control.
    pub control: bool,
}

/// What a subject is in the topology.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The backend itself: the load goes to it directly.
    Backend,
    /// Moves bytes and understands none.
    Relay,
    /// A proxy.
    Proxy,
}

/// How it is known that a program listens.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ready {
    /// It prints `listening on ADDR` to stderr; it chose the port.
    #[default]
    Line,
    /// Its port accepts a connection; the harness chose the port.
    Port,
}

/// How one subject is started.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// What it is in the topology.
    pub role: Role,
    /// The program: a file name.
    pub program: String,
    /// Whether it is one of ours, from the folder of the binaries; else it is looked for in PATH.
    #[serde(default)]
    pub own: bool,
    /// Words of its command line, as templates.
    #[serde(default)]
    pub args: Vec<String>,
    /// The value of `{engine}`.
    #[serde(default)]
    pub engine: String,
    /// Variables of its environment, as templates.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Files that are made in its folder: name there, and template.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// How it is known that it listens.
    #[serde(default)]
    pub ready: Ready,
    /// Words that make it print its version.
    #[serde(default)]
    pub version: Vec<String>,
    /// Whether one process is all backends of a row, on an address each: a word with `{listener}` is repeated for them.
    #[serde(default)]
    pub listeners: bool,
    /// The most backends that it can forward to; none: as many as there are.
    #[serde(default)]
    pub backends_max: Option<u32>,
    /// The signal on which it reads its configuration anew: one of [`RELOAD_SIGNALS`].
    #[serde(default)]
    pub reload: Option<String>,
    /// Where it comes from, for the line that says that it is missing.
    #[serde(default)]
    pub install: String,
    /// What stays unequal, or a reader should know; for the tables' notes.
    #[serde(default)]
    pub note: String,
    /// The folder of its templates: that of the file which lists it.
    #[serde(skip)]
    pub templates: PathBuf,
}

/// All subjects by their catalogue names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalogue(BTreeMap<String, Subject>);

/// What templates are filled with.
pub type Values = BTreeMap<&'static str, String>;

impl Name {
    /// The catalogue's key: the name without workers and control.
    pub fn key(&self) -> String {
        let stock = if self.stock { "@stock" } else { "" };
        format!("{}{stock}", self.base)
    }

    /// The same subject as its own A/A control.
    pub fn control(&self) -> Self {
        Self {
            control: true,
            ..self.clone()
        }
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no subject; write NAME, NAME@stock, NAME@w2 or NAME/aa");
        let (rest, control) = match text.strip_suffix("/aa") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let mut parts = rest.split('@');
        let base = parts.next().unwrap_or_default();
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if base.is_empty() || !base.chars().all(is_plain) {
            return Err(wrong());
        }
        let mut name = Self {
            base: base.to_owned(),
            stock: false,
            workers: 1,
            control,
        };
        for part in parts {
            match part.strip_prefix('w') {
                _ if part == "stock" && !name.stock && name.workers == 1 => name.stock = true,
                Some(count) if name.workers == 1 => {
                    let count = count
                        .parse()
                        .ok()
                        .filter(|count| (2..=WORKERS_MAX).contains(count));
                    name.workers = count.ok_or_else(wrong)?;
                }
                Some(_) | None => return Err(wrong()),
            }
        }
        Ok(name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.key();
        if self.workers != 1 {
            text += &format!("@w{}", self.workers);
        }
        if self.control {
            text += "/aa";
        }
        out.pad(&text)
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.to_string()
    }
}

impl Catalogue {
    /// Reads `plans/subjects.toml` and every `peers/*.toml` of the harness's data folder; the latter may be missing.
    ///
    /// # Errors
    /// [`Error::Plan`] where a file is unreadable or wrong, or names a subject that another one has.
    pub fn read(data: &Path) -> Result<Self, Error> {
        let mut paths = vec![data.join("plans/subjects.toml")];
        let peers = fs::read_dir(data.join("peers"))
            .into_iter()
            .flatten()
            .flatten();
        let mut peers: Vec<PathBuf> = peers.map(|entry| entry.path()).collect();
        peers.retain(|path| path.extension().is_some_and(|end| end == "toml"));
        peers.sort();
        paths.extend(peers);

        let mut catalogue = Self::default();
        for path in paths {
            let failed = |cause: String| Error::Plan {
                path: path.clone(),
                cause,
            };
            let text = fs::read_to_string(&path).map_err(|cause| failed(cause.to_string()))?;
            let Some(listed) = subjects_of(&text).map_err(failed)? else {
                continue;
            };
            for (name, mut subject) in listed {
                subject.templates = path.parent().unwrap_or(data).to_owned();
                if catalogue.0.contains_key(&name) {
                    return Err(failed(format!(
                        "subject {name} is listed twice; leave one out"
                    )));
                }
                catalogue.0.insert(name, subject);
            }
        }
        Ok(catalogue)
    }

    /// The subjects of a text, which have no templates.
    ///
    /// # Errors
    /// What is wrong with it, on one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let listed = subjects_of(text)?.unwrap_or_default();
        Ok(Self(listed))
    }

    /// Adds a subject, or puts it in the place of the one that has the name.
    pub fn insert(&mut self, name: &Name, subject: Subject) {
        self.0.insert(name.key(), subject);
    }

    /// The entry of a name.
    pub fn find(&self, name: &Name) -> Option<&Subject> {
        self.0.get(&name.key())
    }

    /// All names, with commas, for messages.
    pub fn names(&self) -> String {
        self.0
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// Fills a template in: `{key}` becomes its value, `{{` and `}}` become braces.
///
/// # Errors
/// What is wrong with it: a brace without its other, or a key that nobody knows.
pub fn fill(template: &str, values: &Values) -> Result<String, String> {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, after) = rest.split_at(at);
        filled += before;
        if let Some(next) = after.strip_prefix("{{") {
            filled.push('{');
            rest = next;
        } else if let Some(next) = after.strip_prefix("}}") {
            filled.push('}');
            rest = next;
        } else {
            let key = after
                .strip_prefix('{')
                .and_then(|after| after.split_once('}'));
            let Some((key, next)) = key else {
                return Err("a brace stands alone; double it where it is meant".into());
            };
            filled += values.get(key).ok_or_else(|| {
                let known: Vec<&str> = values.keys().copied().collect();
                format!(
                    "{{{key}}} is none of {}; double the braces where they are meant",
                    known.join(", ")
                )
            })?;
            rest = next;
        }
    }
    Ok(filled + rest)
}

/// The subjects that a file lists; none when it is about something else.
fn subjects_of(text: &str) -> Result<Option<BTreeMap<String, Subject>>, String> {
    #[derive(Deserialize)]
    struct Listing {
        subject: Option<BTreeMap<String, Subject>>,
    }
    let listing: Listing = toml::from_str(text).map_err(|error| one_line(&error))?;
    for (name, subject) in listing.subject.iter().flatten() {
        let parsed: Name = name.parse()?;
        if parsed.key() != *name {
            return Err(format!(
                "subject {name}: workers and controls are for plans; leave them out"
            ));
        }
        if subject.program.is_empty() || subject.program.contains('/') {
            return Err(format!(
                "subject {name}: program {:?} is no file name",
                subject.program
            ));
        }
        let is_known = |signal: &String| RELOAD_SIGNALS.contains(&signal.as_str());
        if let Some(signal) = subject.reload.as_ref().filter(|signal| !is_known(signal)) {
            return Err(format!(
                "subject {name}: reload {signal:?}; write one of {}",
                RELOAD_SIGNALS.join(", ")
            ));
        }
    }
    Ok(listing.subject)
}

/// What is wrong with a TOML text, on one line.
pub fn one_line(error: &toml::de::Error) -> String {
    let text = error.to_string();
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

/// Signals by which programs are told to read their configuration anew.
pub const RELOAD_SIGNALS: [&str; 3] = ["HUP", "USR1", "USR2"];
/// The most workers of one subject.
pub const WORKERS_MAX: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_shown() {
        for text in [
            "direct",
            "hp-uring",
            "nginx@stock",
            "hp-uring@w2",
            "nginx@stock@w2",
            "hp-uring/aa",
            "hp-uring@w2/aa",
        ] {
            assert_eq!(text.parse::<Name>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_texts_are_no_names() {
        for text in [
            "",
            "/aa",
            "@w2",
            "A",
            "a b",
            "a@w1",
            "a@w0",
            "a@w2@w3",
            "a@w2@stock",
            "a@stock@stock",
            "a@x",
            "a/b",
            "a@w9999",
            "../a",
        ] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
    }

    #[test]
    fn templates_are_filled_in() {
        let values = Values::from([
            ("listen", "127.0.0.1:80".to_owned()),
            ("workers", "2".to_owned()),
        ]);
        assert_eq!(
            fill("--listen {listen}", &values).unwrap(),
            "--listen 127.0.0.1:80"
        );
        assert_eq!(
            fill("http {{ n {workers}; }}", &values).unwrap(),
            "http { n 2; }"
        );
        assert_eq!(fill("", &values).unwrap(), "");
        for wrong in ["{nobody}", "{listen", "}", "a } b", "{}"] {
            assert!(fill(wrong, &values).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_catalogue_of_this_tree_is_read() {
        let catalogue = Catalogue::read(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        for name in [
            "direct",
            "relay-epoll",
            "relay-uring",
            "relay-splice",
            "hp-uring",
            "hp-epoll",
            "hp-threads",
        ] {
            assert!(catalogue.find(&name.parse().unwrap()).is_some(), "{name}");
        }
    }

    #[test]
    fn a_wrong_catalogue_says_where() {
        for (text, part) in [
            ("[subject.a]\nrole = \"proxy\"\n", "program"),
            (
                "[subject.a]\nrole = \"proxy\"\nprogram = \"../x\"\n",
                "no file name",
            ),
            ("[subject.a]\nrole = \"proxi\"\nprogram = \"x\"\n", "proxi"),
            (
                "[subject.a]\nrole = \"proxy\"\nprogram = \"x\"\nargz = []\n",
                "argz",
            ),
            (
                "[subject.a]\nrole = \"proxy\"\nprogram = \"x\"\nreload = \"KILL\"\n",
                "HUP, USR1, USR2",
            ),
            (
                "[subject.\"a@w2\"]\nrole = \"proxy\"\nprogram = \"x\"\n",
                "workers and controls",
            ),
        ] {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("plans")).unwrap();
            fs::write(folder.path().join("plans/subjects.toml"), text).unwrap();
            let error = Catalogue::read(folder.path()).unwrap_err().to_string();
            assert!(
                error.contains("subjects.toml: ") && error.contains(part),
                "{error}"
            );
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
