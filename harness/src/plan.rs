//! Plans: TOML texts that say what a session measures. A text is resolved into a complete [`Plan`], which is written
//! beside the results as text again.
//!
//! ```toml
//! name = "example"
//! title = "What a small request costs"
//! seed = 1
//! rounds = 9                   # the defaults of all workloads
//! calibrator = "relay-uring"
//! reference = "relay-uring"
//! control = "hp-uring"
//! subjects = ["direct", "relay-uring", "hp-uring", "nginx"]
//!
//! [load]                       # the defaults of all rows
//! seconds = 2.0
//!
//! [[workload]]
//! name = "small"
//! title = "Small requests on kept connections"
//! load = { body_bytes = 13 }   # the defaults of its rows
//! connections = [16, 100]      # one row c16 and one row c100; or, with all keys of a load:
//! [[workload.row]]
//! name = "c512"
//! connections = 512
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::length;
use crate::probe;
use crate::probe::rate::{SHARE_KEY, Share};
use crate::subject::{self, Name, WORKERS_MAX};
use crate::workload::{Load, Row, Seats, Visiting, Workload};

/// A session, complete: no default is left open.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Plan {
    /// Its name: small letters, digits and hyphens.
    pub name: String,
    /// What it asks, in a line.
    pub title: String,
    /// Seeds the order of visits and the bootstrap.
    pub seed: u64,
    /// Attempts at a round that a rule rejects, 1 to 9; the last one stays, with its flags.
    pub attempts: u32,
    /// How much longer than computed the session may get by repeated rounds, in percent.
    pub repeats_pct: u32,
    /// The questions, in the order of the session, no duplicates of names, at least one.
    #[serde(rename = "workload")]
    pub workloads: Vec<Workload>,
}

/// A number that a command line sets in place of the plan's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// Rounds of every workload.
    pub rounds: Option<u32>,
    /// Seconds of every row.
    pub seconds: Option<f64>,
    /// The seed.
    pub seed: Option<u64>,
    /// Workloads that stay; empty: all.
    pub only: Vec<String>,
    /// Subjects that stay, beside reference and control; empty: all.
    pub subjects: Vec<Name>,
}

/// A plan's text, before defaults are filled in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    title: String,
    #[serde(default = "seed_usual")]
    seed: u64,
    #[serde(default = "attempts_usual")]
    attempts: u32,
    #[serde(default = "repeats_usual")]
    repeats_pct: u32,
    rounds: Option<u32>,
    reference: Option<Name>,
    control: Option<Name>,
    calibrator: Option<Name>,
    #[serde(default)]
    subjects: Vec<Name>,
    #[serde(default)]
    gate: bool,
    #[serde(default)]
    load: toml::Table,
    workload: Vec<FileWorkload>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileWorkload {
    name: String,
    title: String,
    #[serde(default = "kind_usual")]
    kind: String,
    #[serde(default)]
    seats: Seats,
    rounds: Option<u32>,
    reference: Option<Name>,
    control: Option<Named>,
    calibrator: Option<Named>,
    subjects: Option<Vec<Name>>,
    gate: Option<bool>,
    #[serde(default)]
    notes: Vec<String>,
    #[serde(default)]
    load: toml::Table,
    #[serde(default)]
    connections: Vec<u32>,
    #[serde(default)]
    row: Vec<toml::Table>,
}

/// A subject's name, or `false` for none where the plan has a default.
#[derive(Deserialize)]
#[serde(untagged)]
enum Named {
    Is(Name),
    Without(bool),
}

impl Plan {
    /// Reads a plan: a path, or a name of those in `plans/` of the data folder.
    ///
    /// # Errors
    /// [`Error::Plan`], with the place and what to write instead.
    pub fn read(asked: &str, data: &Path) -> Result<Self, Error> {
        let is_name = !asked.contains(['/', '.']);
        let path = if is_name {
            data.join("plans").join(format!("{asked}.toml"))
        } else {
            PathBuf::from(asked)
        };
        let failed = |cause: String| Error::Plan {
            path: path.clone(),
            cause,
        };
        let length = fs::metadata(&path).map_or(0, |facts| facts.len());
        if length > PLAN_BYTES_MAX {
            return Err(failed(format!("longer than {PLAN_BYTES_MAX} bytes")));
        }
        let text = fs::read_to_string(&path).map_err(|cause| {
            failed(format!(
                "{cause}; name a file, or one of {}",
                names(data).join(", ")
            ))
        })?;
        Self::parse(&text).map_err(failed)
    }

    /// Resolves a plan's text.
    ///
    /// # Errors
    /// What is wrong with it, on one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| subject::one_line(&error))?;
        let mut workloads = Vec::new();
        for workload in &file.workload {
            let resolved = resolve(&file, workload);
            workloads
                .push(resolved.map_err(|cause| format!("workload {}: {cause}", workload.name))?);
        }
        let plan = Self {
            name: file.name,
            title: file.title,
            seed: file.seed,
            attempts: file.attempts,
            repeats_pct: file.repeats_pct,
            workloads,
        };
        plan.check()?;
        Ok(plan)
    }

    /// The text of the resolved plan, which [`Plan::parse`] reads back as the same.
    pub fn to_text(&self) -> String {
        toml::to_string(self).expect("a plan has only keys that are text, and tables after values")
    }

    /// The plan with what the command line sets.
    ///
    /// # Errors
    /// What cannot be followed, on one line.
    pub fn with(mut self, overrides: &Overrides) -> Result<Self, String> {
        for name in &overrides.only {
            if !self.workloads.iter().any(|workload| workload.name == *name) {
                let known: Vec<&str> = self
                    .workloads
                    .iter()
                    .map(|workload| workload.name.as_str())
                    .collect();
                return Err(format!(
                    "plan {} has no workload {name}; it has {}",
                    self.name,
                    known.join(", ")
                ));
            }
        }
        if !overrides.only.is_empty() {
            self.workloads
                .retain(|workload| overrides.only.contains(&workload.name));
        }
        for name in &overrides.subjects {
            if !self
                .workloads
                .iter()
                .any(|workload| workload.subjects.contains(name))
            {
                return Err(format!("plan {} does not measure {name}", self.name));
            }
        }
        for workload in &mut self.workloads {
            workload.rounds = overrides.rounds.unwrap_or(workload.rounds);
            for row in &mut workload.rows {
                row.load.seconds = overrides.seconds.unwrap_or(row.load.seconds);
            }
            if !overrides.subjects.is_empty() {
                let (reference, control) = (&workload.reference, &workload.control);
                workload.subjects.retain(|name| {
                    overrides.subjects.contains(name)
                        || name == reference
                        || Some(name) == control.as_ref()
                });
            }
        }
        self.seed = overrides.seed.unwrap_or(self.seed);
        self.check()?;
        Ok(self)
    }

    /// Seconds that the session should take, without repeated rounds.
    pub fn length_seconds(&self) -> f64 {
        let workloads = self.workloads.iter().map(length::seconds);
        SESSION_OVERHEAD_SECONDS + workloads.sum::<f64>()
    }

    /// Visits that the session makes, without repeated rounds.
    pub fn visits(&self) -> u64 {
        let workloads = self.workloads.iter();
        workloads
            .map(|workload| {
                let rows = workload.rows.iter();
                let a_round = rows.map(|row| workload.visits_per_row(&row.load));
                a_round.sum::<u64>() * u64::from(workload.rounds)
            })
            .sum()
    }

    fn check(&self) -> Result<(), String> {
        check_name(&self.name)?;
        if !(1..=9).contains(&self.attempts) {
            return Err(format!("attempts is {}; write 1 to 9", self.attempts));
        }
        if self.repeats_pct > 300 {
            return Err(format!(
                "repeats_pct is {}; write 0 to 300",
                self.repeats_pct
            ));
        }
        if self.workloads.is_empty() {
            return Err("no workload; write at least one [[workload]]".into());
        }
        let mut names = BTreeSet::new();
        for workload in &self.workloads {
            if !names.insert(&workload.name) {
                return Err(format!(
                    "workload {} is there twice; rename one",
                    workload.name
                ));
            }
            check_workload(workload)
                .map_err(|cause| format!("workload {}: {cause}", workload.name))?;
        }
        Ok(())
    }
}

/// The names of the plans in a data folder, sorted.
pub fn names(data: &Path) -> Vec<String> {
    let entries = fs::read_dir(data.join("plans"))
        .into_iter()
        .flatten()
        .flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            Some(
                entry
                    .file_name()
                    .to_str()?
                    .strip_suffix(".toml")?
                    .to_owned(),
            )
        })
        .filter(|name| name != "subjects")
        .collect();
    names.sort();
    names
}

/// Fills a workload's defaults in.
fn resolve(file: &File, workload: &FileWorkload) -> Result<Workload, String> {
    let subjects = workload.subjects.as_ref().unwrap_or(&file.subjects).clone();
    let reference = workload.reference.as_ref().or(file.reference.as_ref());
    let reference = reference.ok_or("no reference; write reference = \"SUBJECT\"")?;
    let mut rows = Vec::new();
    let by_connections = workload.connections.iter().map(|&count| {
        let mut table = toml::Table::new();
        table.insert("name".into(), format!("c{count}").into());
        table.insert("connections".into(), i64::from(count).into());
        table
    });
    for own in by_connections.chain(workload.row.iter().cloned()) {
        let mut table = file.load.clone();
        table.extend(workload.load.clone());
        table.extend(own);
        let name = table.remove("name");
        let name = name
            .as_ref()
            .and_then(toml::Value::as_str)
            .ok_or("a row has no name")?
            .to_owned();
        let load: Load = table
            .try_into()
            .map_err(|error| format!("row {name}: {}", subject::one_line(&error)))?;
        rows.push(Row { name, load });
    }
    Ok(Workload {
        name: workload.name.clone(),
        title: workload.title.clone(),
        kind: workload.kind.clone(),
        seats: workload.seats,
        rounds: workload.rounds.or(file.rounds).unwrap_or(ROUNDS_USUAL),
        reference: reference.clone(),
        control: named(workload.control.as_ref(), file.control.as_ref())?,
        calibrator: named(workload.calibrator.as_ref(), file.calibrator.as_ref())?,
        subjects,
        gate: workload.gate.unwrap_or(file.gate),
        notes: workload.notes.clone(),
        rows,
    })
}

/// What a workload says, else what the plan does.
fn named(own: Option<&Named>, usual: Option<&Name>) -> Result<Option<Name>, String> {
    match own {
        Some(Named::Is(name)) => Ok(Some(name.clone())),
        Some(Named::Without(false)) => Ok(None),
        Some(Named::Without(true)) => {
            Err("control and calibrator are a subject's name, or false".into())
        }
        None => Ok(usual.cloned()),
    }
}

fn check_workload(workload: &Workload) -> Result<(), String> {
    check_name(&workload.name)?;
    if !(1..=ROUNDS_MAX).contains(&workload.rounds) {
        return Err(format!(
            "rounds is {}; write 1 to {ROUNDS_MAX}",
            workload.rounds
        ));
    }
    if workload.subjects.is_empty() {
        return Err("no subject; write subjects = [...]".into());
    }
    let mut seen = BTreeSet::new();
    for name in &workload.subjects {
        if name.control || !seen.insert(name) {
            return Err(format!(
                "subject {name} is a control or there twice; leave it out"
            ));
        }
    }
    for name in [Some(&workload.reference), workload.control.as_ref()]
        .into_iter()
        .flatten()
    {
        if !seen.contains(name) {
            return Err(format!(
                "{name}, which is reference or control, is none of the subjects; add it"
            ));
        }
    }
    if workload.rows.is_empty() {
        return Err("no row; write connections = [...] or [[workload.row]]".into());
    }
    let mut seen = BTreeSet::new();
    for row in &workload.rows {
        if !seen.insert(&row.name) {
            return Err(format!("row {} is there twice; rename one", row.name));
        }
        check_name(&row.name)?;
        let extra =
            probe::kind(&workload.kind).map_or(Ok(()), |kind| (kind.length)(&row.load).map(drop));
        let rate = Share::of(&row.load).map(drop);
        check_load(&row.load)
            .and(extra)
            .and(rate)
            .and_then(|()| check_turns(workload, &row.load))
            .map_err(|cause| format!("row {}: {cause}", row.name))?;
    }
    Ok(())
}

/// Only a closed loop can wait for its turn, and only one other is there to wait for.
fn check_turns(workload: &Workload, load: &Load) -> Result<(), String> {
    if load.visit == Visiting::Alone {
        return Ok(());
    }
    let is_paced = load.rate.is_some() || load.extra.contains_key(SHARE_KEY);
    for (is_wrong, cause) in [
        (
            workload.kind != "load",
            "turns are for the kind load; leave one of the two out",
        ),
        (
            is_paced,
            "a schedule does not wait for turns; leave visit or the rate out",
        ),
        (
            load.instances > 1,
            "one process of each takes turns; leave instances out",
        ),
        (
            !(1..=10_000).contains(&load.turn_ms),
            "turn_ms is out of its range; write 1 to 10000",
        ),
        (
            f64::from(load.turn_ms) > load.seconds * 1_000.0,
            "turn_ms is longer than seconds; write a shorter one",
        ),
        (
            workload.beside_reference().is_empty(),
            "nobody takes turns with the reference; add a subject, or the reference as control",
        ),
    ] {
        if is_wrong {
            return Err(cause.into());
        }
    }
    Ok(())
}

fn check_load(load: &Load) -> Result<(), String> {
    let count = |what: &str, count: u32, most: u32| {
        let is_in_range = (1..=most).contains(&count);
        is_in_range
            .then_some(())
            .ok_or_else(|| format!("{what} is {count}; write 1 to {most}"))
    };
    count("connections", load.connections, 1_000_000)?;
    count("pipeline", load.pipeline, 1_024)?;
    count("threads", load.threads, WORKERS_MAX)?;
    count("backend_workers", load.backend_workers, WORKERS_MAX)?;
    count("backends", load.backends, BACKENDS_MAX)?;
    count("instances", load.instances, INSTANCES_MAX)?;
    if !(0.1..=3_600.0).contains(&load.seconds) {
        return Err(format!("seconds is {}; write 0.1 to 3600", load.seconds));
    }
    if load.rate.is_some_and(|rate| !(0.1..=1e7).contains(&rate)) {
        return Err("rate is out of its range; write 0.1 to 10000000".into());
    }
    if load.warmup_ms > 600_000 {
        return Err(format!(
            "warmup_ms is {}; write at most 600000",
            load.warmup_ms
        ));
    }
    if !["epoll", "uring", "threads"].contains(&load.engine.as_str()) {
        return Err(format!(
            "engine is {:?}; write epoll, uring or threads",
            load.engine
        ));
    }
    if !load.path.starts_with('/')
        || load
            .path
            .contains(|c: char| c.is_whitespace() || c.is_control())
    {
        return Err(format!("path is {:?}; write /PATH?QUERY", load.path));
    }
    Ok(())
}

/// Names become parts of file names and of keys.
fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 40 || !name.chars().all(is_plain) {
        return Err(format!(
            "{name:?} is no name; write up to 40 small letters, digits and hyphens"
        ));
    }
    Ok(())
}

fn seed_usual() -> u64 {
    1
}

fn attempts_usual() -> u32 {
    3
}

fn repeats_usual() -> u32 {
    10
}

fn kind_usual() -> String {
    "load".into()
}

const ROUNDS_USUAL: u32 = 9;
const ROUNDS_MAX: u32 = 1_000;
/// The most backends of a row.
pub const BACKENDS_MAX: u32 = 512;
/// The most processes of a subject.
pub const INSTANCES_MAX: u32 = 8;

const PLAN_BYTES_MAX: u64 = 1 << 20;
const SESSION_OVERHEAD_SECONDS: f64 = 10.0; // environment, calibration, one request to each, writing

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) const EXAMPLE: &str = r#"
        name = "example"
        title = "An example"
        rounds = 5
        reference = "relay-uring"
        control = "hp-uring"
        calibrator = "relay-uring"
        subjects = ["direct", "relay-uring", "hp-uring"]
        [load]
        seconds = 1.5
        [[workload]]
        name = "small"
        title = "Small requests"
        connections = [16, 100]
        [[workload]]
        name = "latency"
        title = "Latency at a rate"
        control = false
        load = { rate = 10000.0, warmup_ms = 300 }
        [[workload.row]]
        name = "r10k"
        connections = 100
        seconds = 3.0
    "#;

    #[test]
    fn defaults_are_filled_in_from_plan_to_row() {
        let plan = Plan::parse(EXAMPLE).unwrap();
        let [small, latency] = plan.workloads.as_slice() else {
            panic!("two workloads");
        };
        let names: Vec<&str> = small.rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["c16", "c100"]);
        assert_eq!(
            (
                small.rounds,
                small.rows[1].load.connections,
                small.rows[1].load.seconds
            ),
            (5, 100, 1.5)
        );
        assert_eq!(small.measured().len(), 4);
        assert_eq!(small.visits_per_row(&small.rows[0].load), 6);
        assert_eq!(latency.control, None);
        assert_eq!(
            (latency.rows[0].load.rate, latency.rows[0].load.seconds),
            (Some(10_000.0), 3.0)
        );
    }

    #[test]
    fn a_resolved_plan_is_its_own_text() {
        let plan = Plan::parse(EXAMPLE).unwrap();
        assert_eq!(
            Plan::parse(&plan.to_text()).unwrap(),
            plan,
            "{}",
            plan.to_text()
        );
    }

    #[test]
    fn the_length_counts_every_visit() {
        let plan = Plan::parse(EXAMPLE).unwrap();
        assert_eq!(plan.visits(), 2 * 5 * 6 + 5 * 5);
        // Subjects and a backend in each round, their warm-ups once, and visits with what they cost beside.
        let small = 5.0 * 5.0 * 0.1 + 2.0 * 4.0 * 0.65 + 60.0 * 1.65;
        let latency = 5.0 * 4.0 * 0.1 + 3.0 * 0.65 + 25.0 * 3.45;
        assert!((plan.length_seconds() - (10.0 + small + latency)).abs() < 1e-6);
    }

    #[test]
    fn in_turns_each_other_subject_is_visited_beside_the_reference() {
        let text = EXAMPLE
            .replace("control = \"hp-uring\"", "control = \"relay-uring\"")
            .replace("[load]", "[load]\nvisit = \"turns\"\nwarmup_ms = 200")
            .replace("{ rate", "{ visit = \"alone\", rate");
        let plan = Plan::parse(&text).unwrap();
        assert_eq!(Plan::parse(&plan.to_text()).unwrap(), plan);
        let [small, latency] = plan.workloads.as_slice() else {
            panic!("two workloads");
        };
        let beside: Vec<String> = small
            .beside_reference()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(beside, ["direct", "hp-uring", "relay-uring/aa"]);
        assert_eq!(plan.visits(), 2 * 5 * 6 + 5 * 5);
        assert!(small.takes_turns() && !latency.takes_turns());
        // A pair shares a window that is twice as long as the part of each.
        let pairs = 2.0 * 5.0 * 3.0 * (2.0 * 1.5 + 0.2 + 0.15);
        // The reference has a backend of its own.
        let starts = 5.0 * 6.0 * 0.1 + 2.0 * 4.0 * 0.65;
        assert!((length::seconds(small) - (starts + pairs)).abs() < 1e-6);
        for (from, to, part) in [
            ("visit = \"alone\", ", "", "row r10k: a schedule"),
            ("warmup_ms = 200", "turn_ms = 0", "turn_ms is out of"),
            ("warmup_ms = 200", "turn_ms = 1501", "longer than seconds"),
            ("warmup_ms = 200", "instances = 2", "leave instances out"),
            ("visit = \"turns\"", "visit = \"turn\"", "turn"),
            (
                "title = \"Small requests\"",
                "title = \"Small requests\"\nkind = \"errors\"",
                "kind load",
            ),
            (
                "title = \"Small requests\"",
                "title = \"Small requests\"\ncontrol = false\nsubjects = [\"relay-uring\"]",
                "nobody takes turns",
            ),
        ] {
            assert!(text.contains(from), "{from}");
            let error = Plan::parse(&text.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(part), "{to}: {error}");
        }
    }

    #[test]
    fn overrides_replace_and_leave_out() {
        let overrides = Overrides {
            rounds: Some(2),
            seconds: Some(1.0),
            seed: Some(9),
            only: vec!["small".into()],
            subjects: vec!["direct".parse().unwrap()],
        };
        let plan = Plan::parse(EXAMPLE).unwrap().with(&overrides).unwrap();
        assert_eq!(
            (plan.workloads.len(), plan.workloads[0].rounds, plan.seed),
            (1, 2, 9)
        );
        assert_eq!(
            plan.workloads[0].subjects.len(),
            3,
            "reference and control stay"
        );
        let nobody = Overrides {
            only: vec!["nobody".into()],
            ..Overrides::default()
        };
        assert!(
            Plan::parse(EXAMPLE)
                .unwrap()
                .with(&nobody)
                .unwrap_err()
                .contains("it has small, latency")
        );
    }

    #[test]
    fn a_wrong_plan_says_where() {
        for (from, to, part) in [
            ("rounds = 5", "rounds = 0", "workload small: rounds is 0"),
            ("rounds = 5", "round = 5", "round"),
            ("[16, 100]", "[16, 16]", "row c16 is there twice"),
            ("[16, 100]", "[0]", "row c0: connections is 0"),
            ("[16, 100]", "[]", "no row"),
            (
                "name = \"latency\"",
                "name = \"small\"",
                "small is there twice",
            ),
            ("name = \"latency\"", "name = \"../x\"", "is no name"),
            ("control = false", "control = true", "or false"),
            (
                "control = false",
                "control = \"nginx\"",
                "none of the subjects",
            ),
            (
                "rate = 10000.0",
                "rate = 0.0",
                "row r10k: rate is out of its range",
            ),
            ("rate = 10000.0", "ratte = 1.0", "row r10k: "),
            ("\"direct\", ", "\"direct\", \"direct\", ", "there twice"),
            ("seconds = 3.0", "seconds = 0.0", "row r10k: seconds is 0"),
        ] {
            assert!(EXAMPLE.contains(from), "{from}");
            let error = Plan::parse(&EXAMPLE.replace(from, to)).unwrap_err();
            assert!(error.contains(part), "{to}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn the_plans_of_this_tree_are_whole() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(names(data).contains(&"bench".to_owned()));
        let catalogue = subject::Catalogue::read(data).unwrap();
        for name in names(data) {
            let plan = Plan::read(&name, data).unwrap();
            assert_eq!(plan.name, name);
            assert!(!plan.workloads.is_empty());
            for workload in &plan.workloads {
                let known = workload
                    .started()
                    .iter()
                    .any(|name| catalogue.find(name).is_some());
                assert!(known, "{name}: {}", workload.name);
            }
        }
    }

    #[test]
    fn a_missing_plan_names_the_others() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR"));
        let error = Plan::read("nobody", data).unwrap_err().to_string();
        assert!(error.contains("bench"), "{error}");
    }
}
