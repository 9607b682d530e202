//! `INDEX.md`: one line per run found below the results' folder, newest first.

use std::fs;
use std::path::{Path, PathBuf};

use crate::analyse::Summary;
use crate::error::Error;
use crate::machine::{self, Machine};
use crate::report::{self, CellEntry, CellFile};
use crate::sweep::{Engine, Layout, Part};
use crate::table::{self, Side};

/// A run that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its folder below the results' folder, with `/` between.
    pub folder: String,
    /// Where and when it ran.
    pub machine: Machine,
    /// What it measured.
    pub cells: CellFile,
}

/// Writes `INDEX.md` anew and gives the folders that look like runs but cannot be read.
///
/// # Errors
/// [`Error::Write`] when the index cannot be written.
pub fn regenerate(out: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    let mut skipped = Vec::new();
    for session in folders(out) {
        for run in folders(&session) {
            let file = run.join("cells.json");
            if !file.is_file() {
                continue; // Other experiments keep their own files.
            }
            match read(out, &run) {
                Some(run) => found.push(run),
                None => skipped.push(run),
            }
        }
    }
    let path = out.join("INDEX.md");
    fs::write(&path, render(found)).map_err(|cause| Error::Write { path, cause })?;
    Ok(skipped)
}

/// The content of `INDEX.md`.
pub fn render(mut runs: Vec<Found>) -> String {
    runs.sort_by(|a, b| (&b.machine.started, &b.folder).cmp(&(&a.machine.started, &a.folder)));
    let head = [
        ("started", Side::Left),
        ("machine", Side::Left),
        ("run", Side::Left),
        ("workers", Side::Right),
        ("connections", Side::Right),
        ("uring µs", Side::Right),
        ("epoll µs", Side::Right),
        ("uring req/s", Side::Right),
        ("epoll req/s", Side::Right),
        ("VOID cells", Side::Right),
    ];
    let lines: Vec<Vec<String>> = runs.iter().map(line).collect();
    format!(
        "# Results\n\nWritten by `make bench`; newest first. The figures are of hp-proxy at one load: CPU time \
         per request in µs, and requests per second; the run's page has all others.\n\n{}",
        table::render(&head, &lines)
    )
}

fn line(run: &Found) -> Vec<String> {
    let Found {
        folder,
        machine,
        cells: CellFile { plan, cells, .. },
    } = run;
    let workers = plan.workers.iter().copied().min().unwrap_or(0);
    let connections = match plan.connections.contains(&CONNECTIONS_SHOWN) {
        true => CONNECTIONS_SHOWN,
        false => plan.connections.iter().copied().max().unwrap_or(0),
    };
    let figure = |engine: Engine, show: &dyn Fn(&Summary) -> Option<String>| {
        let shown = |entry: &&CellEntry| {
            let target = entry.cell.target;
            (target.layout, target.part) == (Layout::Proxied, Part::Subject)
                && (target.workers, target.engine) == (workers, engine)
                && entry.cell.connections == connections
        };
        match cells.iter().find(shown) {
            Some(CellEntry { void: true, .. }) => "VOID".into(),
            Some(CellEntry {
                summary: Some(summary),
                ..
            }) => show(summary).unwrap_or_else(|| NONE.into()),
            Some(_) | None => NONE.into(),
        }
    };
    let cost = |summary: &Summary| summary.server_cpu_us.map(|us| format!("{us:.2}"));
    let rate = |summary: &Summary| Some(table::thousands(summary.rps));
    let void = cells.iter().filter(|entry| entry.void).count();
    vec![
        machine.started.clone(),
        machine.slug.clone(),
        format!("[{}]({folder}/bench.md)", machine.commit_name()),
        workers.to_string(),
        connections.to_string(),
        figure(Engine::Uring, &cost),
        figure(Engine::Epoll, &cost),
        figure(Engine::Uring, &rate),
        figure(Engine::Epoll, &rate),
        format!("{void} of {}", cells.len()),
    ]
}

/// Reads one run; none when a file is missing, of another schema, or not what the schema says.
fn read(out: &Path, folder: &Path) -> Option<Found> {
    let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let machine: Machine = serde_json::from_str(&text("machine.json")?).ok()?;
    let cells: CellFile = serde_json::from_str(&text("cells.json")?).ok()?;
    let parts: Vec<String> = folder
        .strip_prefix(out)
        .ok()?
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    let known = machine.schema == machine::SCHEMA && cells.schema == report::SCHEMA;
    known.then(|| Found {
        folder: parts.join("/"),
        machine,
        cells,
    })
}

/// The folders in a folder, sorted.
fn folders(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}

const CONNECTIONS_SHOWN: u32 = 100;
const NONE: &str = "—";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::tests::example;
    use crate::report::tests::rows;
    use crate::report::{Session, cell_file, write};
    use crate::sweep::tests::small;

    fn found(started: &str, folder: &str) -> Found {
        let (plan, machine, rows) = (small(), example(), rows());
        let cells = cell_file(&Session {
            plan: &plan,
            machine: &machine,
            rows: &rows,
        });
        Found {
            folder: folder.into(),
            machine: Machine {
                started: started.into(),
                ..machine
            },
            cells,
        }
    }

    #[test]
    fn the_newest_run_is_first() {
        let text = render(vec![
            found("2026-11-19T08:00:00Z", "2026-11-19-x/aaa"),
            found("2026-11-20T08:00:00Z", "2026-11-20-x/bbb"),
        ]);
        assert_eq!(text, include_str!("../tests/golden/INDEX.md"));
    }

    #[test]
    fn runs_are_found_and_other_folders_are_left_alone() {
        let out = tempfile::tempdir().unwrap();
        let (plan, machine, rows) = (small(), example(), rows());
        write(
            &Session {
                plan: &plan,
                machine: &machine,
                rows: &rows,
            },
            out.path(),
        )
        .unwrap();
        let other = out.path().join("2026-11-20-relays/run");
        let broken = out.path().join("2026-11-20-broken/run");
        fs::create_dir_all(&other).unwrap();
        fs::create_dir_all(&broken).unwrap();
        fs::write(other.join("table.md"), "").unwrap();
        fs::write(broken.join("cells.json"), "{}").unwrap();

        assert_eq!(regenerate(out.path()).unwrap(), [broken]);
        let text = fs::read_to_string(out.path().join("INDEX.md")).unwrap();
        assert!(
            text.contains("(2026-11-20-2cpu-epyc-linux6.18/abc1234/bench.md)"),
            "{text}"
        );
        assert_eq!(text.matches("bench.md").count(), 1);
    }
}
