//! Peers: where their programs are found, which versions they are, and how the configuration files beside the catalogue are
//! filled in. Knows no peer by name.
//!
//! A configuration is kept in the peer's own language, whose braces stay as they are: only the words that the harness
//! fills in are replaced. A line that names a backend is repeated for each of them, so one file serves one backend and five
//! hundred.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{self, Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, error, fmt};

use crate::subject::{self, Values};

/// Why a template cannot be filled in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RenderError {
    /// It names a backend, and there is none.
    NoBackend,
    /// The result would be longer than [`RENDERED_BYTES_MAX`].
    TooLong,
}

/// Fills a configuration in. A word in braces that is neither in `values` nor one of [`BACKEND_WORDS`] belongs to the peer's
/// language and is left alone. Those of a backend are taken from `backends`, whatever `values` has for them.
///
/// # Errors
/// [`RenderError`].
pub fn render(
    template: &str,
    values: &Values,
    backends: &[SocketAddr],
) -> Result<String, RenderError> {
    let mut common = values.clone();
    common.retain(|word, _value| !BACKEND_WORDS.contains(word));
    let mut rendered = String::new();
    for line in template.split_inclusive('\n') {
        let line = fill(line, &common);
        if rendered.len() + line.len() > RENDERED_BYTES_MAX {
            return Err(RenderError::TooLong);
        }
        if !names_backend(&line) {
            rendered += &line;
            continue;
        }
        if backends.is_empty() {
            return Err(RenderError::NoBackend);
        }
        for (index, backend) in (0..).zip(backends) {
            rendered += &fill(&line, &of_backend(index, *backend));
            if rendered.len() > RENDERED_BYTES_MAX {
                return Err(RenderError::TooLong);
            }
        }
    }
    Ok(rendered)
}

/// Fills an argument in, once for each backend where it names one. Here every brace is ours, as [`subject::fill`] has it.
///
/// # Errors
/// What is wrong with the template, on one line.
pub fn words(
    template: &str,
    values: &Values,
    backends: &[SocketAddr],
) -> Result<Vec<String>, String> {
    if !names_backend(template) || backends.is_empty() {
        return Ok(vec![subject::fill(template, values)?]);
    }
    let filled = (0..).zip(backends).map(|(index, backend)| {
        let mut all = values.clone();
        all.extend(of_backend(index, *backend));
        subject::fill(template, &all)
    });
    filled.collect()
}

fn names_backend(text: &str) -> bool {
    BACKEND_WORDS
        .iter()
        .any(|word| text.contains(&format!("{{{word}}}")))
}

/// The words of one backend.
fn of_backend(index: usize, backend: SocketAddr) -> Values {
    Values::from([
        ("backend", backend.to_string()),
        ("backend_host", backend.ip().to_string()),
        ("backend_port", backend.port().to_string()),
        ("index", index.to_string()),
    ])
}

/// Replaces the words in braces that are known; what is filled in is not looked at again.
fn fill(text: &str, values: &Values) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled += before;
        let known = after
            .split_once('}')
            .and_then(|(word, after)| Some((values.get(word)?, after)));
        rest = if let Some((value, after)) = known {
            filled += value;
            after
        } else {
            filled.push('{');
            after
        };
    }
    filled + rest
}

/// The folders in which programs of peers are looked for, in this order: `PATH`, the folders of system programs, which a
/// user's `PATH` often lacks, and `bench-deps/bin` beside the folder of our own binaries.
pub fn folders(path: Option<&OsStr>, bin_dir: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = path
        .map(|path| env::split_paths(path).collect())
        .unwrap_or_default();
    folders.extend(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.extend(bin_dir.parent().map(|above| above.join("bench-deps/bin")));
    folders
}

/// The first program of this name, from the root; none when no folder has it.
pub fn find(program: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let mut paths = folders.iter().map(|folder| folder.join(program));
    let found = paths.find(|path| path.is_file())?;
    // A peer runs in a folder of its own, where a path from ours leads nowhere.
    path::absolute(found).ok()
}

/// What a program says about its version: the first line that has a digit, of stdout, then of stderr, at most
/// [`VERSION_CHARS_MAX`] characters of it. None when it says nothing of the kind.
pub fn version(program: &Path, words: &[String]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null());
    let output = command.output().ok()?;
    let said = [output.stdout, output.stderr];
    said.iter()
        .find_map(|text| version_line(&String::from_utf8_lossy(text)))
}

/// The first line with a digit, without blanks around it and without a folder in front of the program's name.
fn version_line(text: &str) -> Option<String> {
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| line.contains(|c: char| c.is_ascii_digit()))?;
    let without_folder = match line.split_once(char::is_whitespace) {
        Some((first, rest)) if first.starts_with('/') => {
            let name = first.rsplit('/').next().unwrap_or(first);
            format!("{name} {}", rest.trim_start())
        }
        Some(_) | None => line.to_owned(),
    };
    Some(without_folder.chars().take(VERSION_CHARS_MAX).collect())
}

impl fmt::Display for RenderError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBackend => out.write_str("it names a backend, and the row has none"),
            Self::TooLong => write!(out, "it would be longer than {RENDERED_BYTES_MAX} bytes"),
        }
    }
}

impl error::Error for RenderError {}

/// The longest configuration: far above 512 backends with a long line each.
pub const RENDERED_BYTES_MAX: usize = 1 << 20;
/// How much of a version line is kept.
pub const VERSION_CHARS_MAX: usize = 120;

/// The words that make a line one line for each backend.
pub const BACKEND_WORDS: [&str; 4] = ["backend", "backend_host", "backend_port", "index"];

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn values() -> Values {
        Values::from([
            ("backend", "not this one".to_owned()),
            ("listen", "127.0.0.1:8080".to_owned()),
            ("host", "127.0.0.1".to_owned()),
            ("port", "8080".to_owned()),
            ("workers", "2".to_owned()),
            ("dir", "/run/{workers}".to_owned()),
        ])
    }

    fn backends(count: u16) -> Vec<SocketAddr> {
        (0..count)
            .map(|at| SocketAddr::from(([127, 0, 1, 1], 9000 + at)))
            .collect()
    }

    fn check_render(template: &str, count: u16, expected: &str) {
        assert_eq!(
            render(template, &values(), &backends(count)).as_deref(),
            Ok(expected),
            "{template}"
        );
    }

    #[test]
    fn braces_of_the_peers_language_stay() {
        check_render(
            "http { listen {listen}; }\n",
            1,
            "http { listen 127.0.0.1:8080; }\n",
        );
        check_render("{ {nobody} {} {workers", 1, "{ {nobody} {} {workers");
        check_render("{{workers}}", 0, "{2}");
        check_render("", 0, "");
    }

    #[test]
    fn a_line_with_a_backend_is_repeated_for_each() {
        check_render(
            "server s{index} {backend} w{workers};\nend",
            2,
            "server s0 127.0.1.1:9000 w2;\nserver s1 127.0.1.1:9001 w2;\nend",
        );
        check_render("{backend_host} {backend_port}\n", 1, "127.0.1.1 9000\n");
        assert_eq!(
            render("{backend}", &values(), &[]),
            Err(RenderError::NoBackend)
        );
    }

    #[test]
    fn an_argument_with_a_backend_is_repeated_for_each() {
        let words = |template: &str, count| words(template, &values(), &backends(count));
        assert_eq!(
            words("--backend={backend}", 2).unwrap(),
            ["--backend=127.0.1.1:9000", "--backend=127.0.1.1:9001"]
        );
        assert_eq!(words("{workers}", 2).unwrap(), ["2"]);
        assert_eq!(words("{backend}", 0).unwrap(), ["not this one"]);
        assert!(words("{wrokers}", 1).unwrap_err().contains("wrokers"));
    }

    #[test]
    fn what_is_filled_in_is_not_filled_in_again() {
        check_render("{dir}", 0, "/run/{workers}");
    }

    #[test]
    fn a_configuration_without_end_is_refused() {
        let template = format!("{{backend}}{}\n", "x".repeat(RENDERED_BYTES_MAX / 2));
        assert_eq!(
            render(&template, &values(), &backends(3)),
            Err(RenderError::TooLong)
        );
    }

    #[test]
    fn every_template_is_filled_in_completely() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let mut seen = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_catalogue = path.ends_with("peers.toml");
            if is_catalogue || !path.is_file() {
                continue;
            }
            let template = fs::read_to_string(&path).unwrap();
            let rendered = render(&template, &values(), &backends(3)).unwrap();
            let rendered = rendered.replace("/run/{workers}", "");
            for word in values().keys().chain(&BACKEND_WORDS) {
                let word = format!("{{{word}}}");
                assert!(!rendered.contains(&word), "{}: {word}", path.display());
            }
            seen += 1;
        }
        assert!(seen >= 15, "{seen} templates");
    }

    #[test]
    fn versions_are_the_first_line_with_a_number() {
        for (text, expected) in [
            (
                "nginx version: nginx/1.22.1\n",
                Some("nginx version: nginx/1.22.1"),
            ),
            (
                "\n/opt/x/envoy  version: 9e55/1.40.0\n",
                Some("envoy version: 9e55/1.40.0"),
            ),
            (
                "Copyright\nh2o version 2.2.5\nmore 3\n",
                Some("h2o version 2.2.5"),
            ),
            ("no number\n", None),
            ("", None),
        ] {
            assert_eq!(version_line(text).as_deref(), expected, "{text}");
        }
        let long = format!("v{}", "1".repeat(1000));
        assert_eq!(version_line(&long).unwrap().len(), VERSION_CHARS_MAX);
    }

    #[test]
    fn a_program_that_does_not_start_has_no_version() {
        assert_eq!(version(Path::new("/nonexistent/nginx"), &[]), None);
        let words = ["-c", "echo out; echo sh 5.2 >&2"].map(str::to_owned);
        assert_eq!(
            version(Path::new("/bin/sh"), &words).as_deref(),
            Some("sh 5.2")
        );
    }

    #[test]
    fn the_first_folder_that_has_a_program_wins() {
        let place = tempfile::tempdir().unwrap();
        let bin_dir = place.path().join("release");
        let late = place.path().join("bench-deps/bin");
        fs::create_dir_all(&late).unwrap();
        fs::write(late.join("hp-peer-pingora"), "").unwrap();
        let early = place.path().join("path");
        let folders = folders(Some(early.as_os_str()), &bin_dir);
        assert_eq!(
            find("hp-peer-pingora", &folders),
            Some(late.join("hp-peer-pingora"))
        );
        fs::create_dir(&early).unwrap();
        fs::write(early.join("hp-peer-pingora"), "").unwrap();
        assert_eq!(
            find("hp-peer-pingora", &folders),
            Some(early.join("hp-peer-pingora"))
        );
        assert_eq!(find("hp-peer-nobody", &folders), None);
    }

    #[test]
    fn a_program_in_a_folder_named_from_here_is_found_from_the_root() {
        let found = find("Cargo.toml", &["src/..".into()]).unwrap();
        assert!(found.is_absolute(), "{}", found.display());
    }
}
